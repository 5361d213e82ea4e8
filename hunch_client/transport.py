"""One request: token, idempotency key, retries that do nothing twice, problems as errors."""

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from hunch_client.errors import HunchError

ATTEMPTS = 5
BUSY = frozenset({429, 502, 503, 504})
LONGEST_PAUSE = 30.0


class Transport:
    """Requests to one site. `sleep` and `http` can be replaced."""

    def __init__(
        self,
        address: str,
        token: str,
        *,
        http: httpx.Client | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.address = address.rstrip("/")
        self._http = http or httpx.Client(timeout=httpx.Timeout(60, connect=10))
        self._headers = {"Authorization": f"Bearer {token}", "User-Agent": "hunch-client/1"}
        self._sleep = sleep

    def close(self) -> None:
        self._http.close()

    def pause(self, seconds: float) -> None:
        """Wait before asking again."""
        self._sleep(seconds)

    def send(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        content: bytes | None = None,
        query: dict[str, Any] | None = None,
        key: str | None = None,
    ) -> Any:
        """The JSON of the answer; None where it has no body.

        A POST carries an idempotency key (yours, or a new one), so that trying again is safe.

        Raises:
            HunchError: the server refused, or could not be reached in several attempts.
        """
        headers = dict(self._headers)
        if method == "POST":
            headers["Idempotency-Key"] = key or str(uuid.uuid4())
        parameters = {name: value for name, value in (query or {}).items() if value is not None}
        for attempt in range(1, ATTEMPTS + 1):
            try:
                answer = self._http.request(
                    method,
                    f"{self.address}/api/v1{path}",
                    headers=headers,
                    params=parameters,
                    json=body if content is None and method != "GET" else None,
                    content=content,
                )
            except httpx.InvalidURL as error:
                raise HunchError(f"{self.address} is not an address: {error}") from error
            except httpx.TransportError as error:
                if attempt == ATTEMPTS:
                    raise HunchError(f"{self.address} cannot be reached: {error}") from error
                self._sleep(min(2.0**attempt / 4, LONGEST_PAUSE))
                continue
            if answer.status_code in BUSY and attempt < ATTEMPTS:
                self._sleep(_pause(answer, attempt))
                continue
            return _content(answer)

    def pages(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """Every item of a list, page after page."""
        cursor: str | None = ""
        while cursor is not None:
            page = self.send("GET", path, query={**query, "cursor": cursor or None})
            yield from page["items"]
            cursor = page["next"]

    def download(self, path: str, write: Callable[[bytes], Any], **query: Any) -> None:
        """Pass the answer's bytes to `write` as they come. Raises HunchError."""
        parameters = {name: value for name, value in query.items() if value is not None}
        url = f"{self.address}/api/v1{path}"
        try:
            with self._http.stream(
                "GET",
                url,
                headers=self._headers,  # which do not go on to another host
                params=parameters,
                follow_redirects=True,
            ) as answer:
                if answer.is_error:
                    answer.read()
                    _content(answer)
                for chunk in answer.iter_bytes():
                    write(chunk)
        except httpx.TransportError as error:
            raise HunchError(f"The download from {self.address} broke off: {error}") from error


def _pause(answer: httpx.Response, attempt: int) -> float:
    try:
        wanted = float(answer.headers.get("Retry-After", ""))
    except ValueError:
        wanted = 2.0**attempt / 4
    return min(max(wanted, 0.0), LONGEST_PAUSE)


def _content(answer: httpx.Response) -> Any:
    is_json = "json" in answer.headers.get("Content-Type", "")
    if answer.is_success:
        if answer.content and not is_json:
            raise HunchError(
                "The address answers, but not as a Hunch API does.", answer.status_code
            )
        return answer.json() if answer.content else None
    if not is_json:
        raise HunchError(f"The server answered {answer.status_code}.", answer.status_code)
    raise HunchError.from_problem(answer.status_code, answer.json())
