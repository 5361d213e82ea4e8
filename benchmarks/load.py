"""Many clients at once over plain sockets; each sends when its last request is answered.

Run as a program of its own, so that the measured site does not share its interpreter:
`python -m benchmarks.load` reads a JSON task on standard input and writes latencies as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from typing import Any


async def client(task: dict[str, Any], requests: list[bytes], number: int, found: Results) -> None:
    reader, writer = await asyncio.open_connection(task["host"], task["port"])
    sent = number
    while time.monotonic() < found.until:
        start = time.monotonic()
        try:
            writer.write(requests[sent % len(requests)])
            status, is_open = await answer(reader)
            found.statuses[str(status)] += 1
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            found.statuses[type(error).__name__] += 1
            is_open = False
        found.latencies.append(time.monotonic() - start)
        sent += 1
        if not is_open:
            writer.close()
            reader, writer = await asyncio.open_connection(task["host"], task["port"])
    writer.close()


class Results:
    def __init__(self, seconds: float) -> None:
        self.until = time.monotonic() + seconds
        self.latencies: list[float] = []
        self.statuses: Counter[str] = Counter()


async def answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """(status, whether the connection stays open) after reading one whole answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    await reader.readexactly(int(headers.get("content-length", "0")))
    return int(first.split(" ")[1]), headers.get("connection", "").lower() != "close"


def request(task: dict[str, Any], body: Any) -> bytes:
    content = json.dumps(body).encode()
    head = (
        f"POST {task['path']} HTTP/1.1\r\nHost: {task['host']}\r\n"
        f"Authorization: Bearer {task['token']}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


async def main() -> None:
    task = json.load(sys.stdin)
    requests = [request(task, body) for body in task["bodies"]]
    found = Results(task["seconds"])
    await asyncio.gather(*(client(task, requests, n, found) for n in range(task["clients"])))
    json.dump({"latencies": found.latencies, "statuses": found.statuses}, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
