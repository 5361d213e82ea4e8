"""Networks of their own for workers: a cable from this machine to each, that can be pulled."""

import os
import secrets
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class NoNetworks(Exception):
    """Network namespaces or cables between them are not to be had here."""


class Network:
    """One namespace behind one cable; `host` is this machine's address as seen from inside."""

    def __init__(self, number: int) -> None:
        self._relays: list[Relay] = []
        self.name = f"hunch{secrets.token_hex(3)}"
        self.host, inside = f"10.213.{number}.1", f"10.213.{number}.2"
        ip("netns", "add", self.name)
        ip("link", "add", self.name, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        ip("addr", "add", f"{self.host}/30", "dev", self.name)
        ip("link", "set", self.name, "up")
        for command in (["addr", "add", f"{inside}/30", "dev", "eth0"],
                        ["link", "set", "eth0", "up"], ["link", "set", "lo", "up"]):  # fmt: skip
            ip("-netns", self.name, *command)

    def command(self, *words: str) -> list[str]:
        """The same command, run inside."""
        return ["ip", "netns", "exec", self.name, *words]

    def port_to(self, path: str) -> int:
        """A port of `host` that leads to the server on a unix socket."""
        self._relays.append(Relay(self.host, path))
        return self._relays[-1].port

    def pull_the_cable(self) -> None:
        ip("link", "set", self.name, "down")

    def remove(self) -> None:
        for relay in self._relays:
            relay.close()
        with suppress(NoNetworks):
            ip("link", "delete", self.name)
        with suppress(NoNetworks):
            ip("netns", "delete", self.name)


def ip(*words: str) -> None:
    try:
        found = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise NoNetworks("the program ip is missing") from error
    if found.returncode:
        raise NoNetworks(f"ip {' '.join(words)}: {found.stderr.strip()}")


@contextmanager
def networks(count: int) -> Iterator[list[Network]]:
    """Raises NoNetworks, with the reason, where this machine forbids them."""
    made: list[Network] = []
    try:
        if os.geteuid() != 0:
            raise NoNetworks("only root makes networks")
        for number in range(count):
            made.append(Network(number + 1))
        yield made
    finally:
        for network in made:
            network.remove()


class Relay:
    """Lets TCP clients at `host` reach the server on the unix socket `path`, until it is closed."""

    def __init__(self, host: str, path: str) -> None:
        self._path = path
        self._listener = socket.create_server((host, 0))
        self._ends: list[socket.socket] = [self._listener]
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for end in self._ends:
            close(end)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._path)
                self._ends += [client, server]
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=pass_on, args=pair, daemon=True).start()


def pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    for end in (source, target):
        close(end)


def close(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
