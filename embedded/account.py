"""Under which account and where PostgreSQL runs, since it refuses to run as root.

An ordinary user runs it directly. Root runs it as `nobody` seen from inside only (a user
namespace: the files stay root's own), or where a kernel or container forbids that, as the real
`nobody` in folders that this account can reach.
"""

import functools
import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from embedded.folders import nobody, private_folder
from embedded.urls import open_to_others, short_hash

PERSISTENT_TEMPORARY_FOLDER = Path("/var/tmp")  # noqa: S108  unlike /tmp, survives a restart


class NoPlaceForData(Exception):
    """The data folder cannot be used under any account that PostgreSQL accepts."""


@dataclass(frozen=True)
class Account:
    """`prefix` goes before each command; `user` is the account to change to, or None."""

    prefix: tuple[str, ...] = ()
    user: int | None = None

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, its output captured as text."""
        return subprocess.run(
            [*self.prefix, *command],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            user=self.user,
            group=self.user,
            extra_groups=None if self.user is None else [],
        )

    def can(self, what: str, path: Path) -> bool:
        """Ask `test` whether this account may read (-r), write (-w) or run (-x) the path."""
        try:
            return self.run("test", what, str(path)).returncode == 0
        except OSError:
            return False


@dataclass(frozen=True)
class Place:
    """Where PostgreSQL lives: its account, the folder of its data, and its programs."""

    account: Account
    home: Path
    programs: Path


def choose_place(var: Path, programs: Path) -> Place:
    """Decide for one `var` folder, make `home`, and return the same answer at every start.

    Raises `NoPlaceForData` where data made under one account is out of reach of the only account
    left, rather than begin with an empty database.
    """
    inside = var.resolve() / "postgres"
    outside = PERSISTENT_TEMPORARY_FOLDER / f"hunch-{short_hash(var)}"
    if os.geteuid() != 0:
        # initdb asks for the user's name, which a user id given to a container may not have
        account = Account() if has_name(os.geteuid()) else namespace_account() or Account()
        return Place(account, private_folder(inside), programs)

    moved_out = outside.exists() and not (inside / "data").exists()
    namespace = None if moved_out else namespace_account()
    if (
        namespace
        and namespace.can("-x", programs / "postgres")
        and namespace.can("-w", private_folder(inside))
    ):
        return Place(namespace, inside, programs)

    account = Account(user=nobody())
    if open_to_others(inside.parent.parent):
        inside.parent.mkdir(parents=True, exist_ok=True)
        inside.parent.chmod(inside.parent.stat().st_mode | 0o001)  # to pass through, not to list
    else:
        moved_out = True
    if moved_out:
        if (inside / "data").exists():
            raise NoPlaceForData(
                f"The database in {inside} cannot be opened: PostgreSQL does not run as root, and "
                f"the account nobody cannot reach the folder. Make the folders above it passable "
                f"(chmod o+x), move it and set HUNCH_VAR, or run Hunch as an ordinary user."
            )
        inside = outside
    home = private_folder(inside, owner=account.user)
    for folder, _, files in os.walk(home):
        for path in (folder, *(os.path.join(folder, name) for name in files)):
            os.chown(path, account.user or -1, -1, follow_symlinks=False)
    return Place(account, home, reachable_programs(programs, account, home))


def reachable_programs(programs: Path, account: Account, home: Path) -> Path:
    """`programs`, or a copy of their installation in `home` where the account cannot run them."""
    if account.can("-x", programs / "postgres"):
        return programs
    installation, package = programs.parents[0], programs.parents[1]
    libraries = package.with_name(f"{package.name}.libs")  # beside it in a wheel, found by ../..
    copied = home / f"programs-{short_hash(programs)}"
    if not copied.exists():
        half_copied = copied.with_suffix(".new")
        shutil.rmtree(half_copied, ignore_errors=True)
        for folder in filter(Path.exists, (installation, libraries)):
            target = half_copied / folder.relative_to(package.parent)
            shutil.copytree(folder, target, symlinks=True)
            target.parent.chmod(0o755)
        half_copied.chmod(0o755)
        half_copied.replace(copied)
    return copied / programs.relative_to(package.parent)


def has_name(user: int) -> bool:
    """Whether the system knows this user id by a name."""
    try:
        return bool(pwd.getpwuid(user))
    except KeyError:
        return False


@functools.cache
def namespace_account() -> Account | None:
    """This user under the name of nobody, or None where user namespaces are not to be had."""
    user = nobody()
    account = Account(("unshare", "--user", f"--map-user={user}", f"--map-group={user}", "--"))
    return account if account.can("-d", Path("/")) else None
