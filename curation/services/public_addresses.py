"""HTTP requests that reach public addresses only: connections go to the address that was checked.

A name is resolved once for each connection and the connection is made to that result, so that a
name that resolves differently a moment later gains nothing. Redirects are not followed.
"""

import ipaddress
import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpcore

NAT64 = ipaddress.ip_network("64:ff9b::/96")


class RefusedAddress(Exception):
    """The address is not one that this site may send to; the message says why."""


def check_url(url: str, *, allow_private: bool) -> None:
    """Raise RefusedAddress for a URL that can never be sent to, before any name is resolved."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (allow_private and parts.scheme == "http"):
        raise RefusedAddress("The address must begin with https://.")
    if not parts.hostname:
        raise RefusedAddress("The address has no host name.")
    if parts.username is not None or parts.password is not None:
        raise RefusedAddress("The address must not hold a user name or a password.")
    try:
        parts.port  # noqa: B018  raises for a port that is not one
    except ValueError as error:
        raise RefusedAddress("The port is not a number between 0 and 65535.") from error
    if not allow_private:
        try:
            literal = ipaddress.ip_address(parts.hostname)
        except ValueError:
            return
        _require_public(literal)


def is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """True for addresses of the public internet, also behind IPv4-in-IPv6 forms."""
    if isinstance(address, ipaddress.IPv6Address):
        embedded = address.ipv4_mapped or address.sixtofour
        if embedded is None and address.teredo is not None:
            embedded = address.teredo[1]
        if embedded is None and address in NAT64:
            embedded = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if embedded is not None and not is_public(embedded):
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _require_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if not is_public(address):
        raise RefusedAddress(
            "The address is private, loopback or reserved; this site's operator does not allow it."
        )


class DeadlineStream(httpcore.NetworkStream):
    """A connection that ends by one deadline, so that a slow peer holds no worker."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("The receiver took too long.")
        return left

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._left())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        secured = self._stream.start_tls(ssl_context, server_hostname, self._left())
        return DeadlineStream(secured, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class CheckedBackend(httpcore.NetworkBackend):
    """Resolves, checks every result, and connects to the first one; TLS still names the host."""

    def __init__(self, allow_private: bool, seconds: float) -> None:
        self._allow_private = allow_private
        self._deadline = time.monotonic() + seconds
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"The name {host} cannot be resolved.") from error
        addresses = [ipaddress.ip_address(str(entry[4][0]).split("%")[0]) for entry in found]
        if not self._allow_private:
            for address in addresses:
                _require_public(address)
        stream = self._sockets.connect_tcp(
            str(addresses[0]), port, timeout, local_address, socket_options
        )
        return DeadlineStream(stream, self._deadline)


def post(
    *,
    url: str,
    content: bytes,
    headers: Mapping[str, str],
    allow_private: bool,
    seconds: float = 10,
) -> int:
    """Send `content` and return the status of the answer, whose body is not read.

    Raises:
        RefusedAddress: the URL or what its name resolves to is not allowed.
        httpcore.NetworkError, TimeoutException, ProtocolError: it could not be sent.
    """
    check_url(url, allow_private=allow_private)
    backend = CheckedBackend(allow_private, seconds)
    with (
        httpcore.ConnectionPool(
            ssl_context=ssl.create_default_context(), network_backend=backend, max_connections=1
        ) as pool,
        pool.stream(
            "POST",
            url,
            headers=list(headers.items()),
            content=content,
            extensions={"timeout": {"connect": seconds, "pool": seconds}},
        ) as answer,
    ):
        return answer.status
