"""This machine's copies of files in a remote storage: fetched once, named by their hash, within a
bound of bytes. Processes share them without talking to each other.

A copy appears whole or not at all. What was used longest ago goes first, by the access time that
`get` sets; a copy used within `GRACE_SECONDS` stays, since a reader may be about to open its path,
so that the bound may be exceeded by what is in use just now. Removing a copy that is open or
mapped does its reader no harm.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

GRACE_SECONDS = 600.0


@dataclass(frozen=True)
class FileCache:
    """Copies in `folder`, of `max_bytes` together."""

    folder: Path
    max_bytes: int
    grace_seconds: float = GRACE_SECONDS

    def get(self, sha256: str, size: int, fetch: Callable[[Path], None]) -> Path:
        """The path of the copy. Where there is none, `fetch` writes it to the path it is given;
        only one process at a time does, and what `fetch` raises leaves nothing behind."""
        target = self.folder / sha256[:2] / sha256
        if not self._used(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with _locked(self.folder / sha256[:2] / "lock"):
                if not self._used(target):
                    self.make_room(size)
                    aside = target.with_name(f"{sha256}.{os.getpid()}.part")
                    try:
                        fetch(aside)
                        aside.replace(target)
                    finally:
                        aside.unlink(missing_ok=True)
        return target

    def make_room(self, size: int) -> int:
        """Remove what was used longest ago until `size` more bytes fit; returns the bytes freed."""
        freed = 0
        with _locked(self.folder / "lock"):
            copies = list(self._copies())
            excess = sum(size_of for _, size_of, _ in copies) + size - self.max_bytes
            for used, size_of, path in sorted(copies):
                if freed >= excess or time.time() - used < self.grace_seconds:
                    break
                path.unlink(missing_ok=True)
                freed += size_of
        return freed

    def discard(self, sha256: str) -> None:
        """Remove a copy that turned out to be damaged."""
        (self.folder / sha256[:2] / sha256).unlink(missing_ok=True)

    def _used(self, target: Path) -> bool:
        """Whether the copy is there; its access time says so from now on, its content's time not,
        by which others know that they have checked this very file."""
        try:
            os.utime(target, ns=(time.time_ns(), target.stat().st_mtime_ns))
        except FileNotFoundError:
            return False
        return True

    def _copies(self) -> Iterator[tuple[float, int, Path]]:
        """(last use, bytes, path) of each copy, and of parts that a killed process left."""
        for path in self.folder.glob("??/*"):
            with suppress(FileNotFoundError):
                found = path.stat()
                if path.name != "lock":
                    yield max(found.st_atime, found.st_mtime), found.st_size, path


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Only one process at a time; the lock of a killed one is free at once."""
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
