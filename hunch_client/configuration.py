"""Where the command line keeps address, token and usual project; only their owner can read it."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from hunch_client.errors import HunchError


@dataclass(frozen=True)
class Configuration:
    address: str = ""
    token: str = ""
    project: str = ""


def path() -> Path:
    """`HUNCH_CONFIG`, or `hunch/credentials.json` in the user's configuration folder."""
    if named := os.environ.get("HUNCH_CONFIG"):
        return Path(named)
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "hunch" / "credentials.json"


def load() -> Configuration:
    """The saved values; `HUNCH_ADDRESS`, `HUNCH_TOKEN` and `HUNCH_PROJECT` take precedence.

    Raises:
        HunchError: the file cannot be read.
    """
    saved: dict[str, str] = {}
    if path().exists():
        try:
            saved = json.loads(path().read_text())
            saved = {name: str(saved.get(name, "")) for name in asdict(Configuration())}
        except (ValueError, AttributeError) as error:
            raise HunchError(f"{path()} is damaged; sign in again with `hunch login`.") from error
    named = {
        name: value
        for name in asdict(Configuration())
        if (value := os.environ.get(f"HUNCH_{name.upper()}"))
    }
    return Configuration(**{**saved, **named})


def save(configuration: Configuration) -> Path:
    """Write the file whole, with no moment at which others could read it."""
    target = path()
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    aside = target.with_name(f"{target.name}.{os.getpid()}.part")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        json.dump(asdict(configuration), stream, indent=1)
    aside.replace(target)
    return target
