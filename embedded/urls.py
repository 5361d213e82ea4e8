"""Where the embedded parts live and how to reach them, worked out without starting anything."""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

PROJECT_FOLDER = Path(__file__).resolve().parent.parent
SHARED_TEMPORARY_FOLDER = Path("/tmp")  # noqa: S108  not TMPDIR: it differs between a user's terminals

# The kernel holds 104 bytes (macOS) or 108 (Linux) for a socket's path, the final NUL included.
LONGEST_SOCKET_PATH = 103
LONGEST_SOCKET_NAME = len("/.s.PGSQL.5432.lock")
PLAIN_PATH = re.compile(r"[A-Za-z0-9._/+-]+")


class ServiceConfigurationError(Exception):
    """The environment names one of the two services and not the other."""


@dataclass(frozen=True)
class ServiceUrls:
    """The addresses of the database and of the broker, which is the cache too."""

    database_url: str
    redis_url: str
    embedded: bool

    @property
    def celery_url(self) -> str:
        """`redis_url` in the spelling that Celery understands."""
        return celery_url(self.redis_url)

    def environment(self) -> dict[str, str]:
        """The two variables that every child process reads."""
        return {"DATABASE_URL": self.database_url, "REDIS_URL": self.redis_url}


def celery_url(redis_url: str) -> str:
    """Translate `unix:///folder/valkey.sock?db=1` to Celery's spelling; other URLs stay."""
    if not redis_url.startswith("unix://"):
        return redis_url
    path, _, query = redis_url.removeprefix("unix://").partition("?")
    database = re.search(r"(?:^|&)db=(\d+)", query)
    return f"redis+socket://{path}?virtual_host={database.group(1) if database else 0}"


def with_redis_database(redis_url: str, number: int) -> str:
    """`redis_url` with another numbered database; for test workers that must not meet."""
    if redis_url.startswith("unix://"):
        return f"{redis_url.partition('?')[0]}?db={number}"
    base, separator, query = redis_url.partition("?")
    scheme, _, rest = base.partition("://")
    host = rest.partition("/")[0]
    return f"{scheme}://{host}/{number}{separator}{query}"


def var_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder that the running site writes to: `HUNCH_VAR`, or `var/` in the project."""
    return Path(environment.get("HUNCH_VAR") or PROJECT_FOLDER / "var").resolve()


def service_urls(var: Path, environment: Mapping[str, str] = os.environ) -> ServiceUrls:
    """The operator's `DATABASE_URL` and `REDIS_URL`, or the addresses of the embedded parts.

    Raises `ServiceConfigurationError` where one of the two variables is set and the other is not:
    a site half on its own server and half embedded is a mistake more often than a wish.
    """
    database_url = environment.get("DATABASE_URL", "").strip()
    redis_url = environment.get("REDIS_URL", "").strip()
    if database_url and redis_url:
        return ServiceUrls(database_url, redis_url, embedded=False)
    if database_url or redis_url:
        present, missing = (
            ("DATABASE_URL", "REDIS_URL") if database_url else ("REDIS_URL", "DATABASE_URL")
        )
        raise ServiceConfigurationError(
            f"{present} is set and {missing} is not. Set both to use your own servers, "
            "or neither to use the embedded ones."
        )
    sockets = socket_folder(var)
    return ServiceUrls(
        database_url=f"postgresql://hunch@{quote(str(sockets), safe='')}/hunch",
        redis_url=f"unix://{sockets}/valkey.sock?db=0",
        embedded=True,
    )


def short_hash(path: Path) -> str:
    """Twelve characters that stand for a folder, the same in every process."""
    return hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:12]


def open_to_others(folder: Path) -> bool:
    """Whether an account that owns nothing can pass through `folder` and all folders above it."""
    existing = [level for level in (folder, *folder.parents) if level.exists()]
    return all(level.stat().st_mode & 0o001 for level in existing)


def socket_folder(var: Path) -> Path:
    """`var/sockets`, or a private folder in `/tmp` named by a hash.

    The second where the path is too long for a socket or needs quoting in a URL, and where root
    keeps `var` in a place that the account PostgreSQL may have to run as cannot enter.
    """
    wanted = var.resolve() / "sockets"
    length = len(os.fsencode(wanted)) + LONGEST_SOCKET_NAME
    private_to_root = os.geteuid() == 0 and not open_to_others(var.resolve().parent)
    if length <= LONGEST_SOCKET_PATH and PLAIN_PATH.fullmatch(str(wanted)) and not private_to_root:
        return wanted
    return SHARED_TEMPORARY_FOLDER / f"hunch-{os.geteuid()}-{short_hash(var)}"
