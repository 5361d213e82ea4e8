"""Making the folders that the embedded parts write to."""

import os
import pwd
import stat
from pathlib import Path


class UnsafeFolder(Exception):
    """A folder that another user owns or has put there."""


def private_folder(folder: Path, owner: int | None = None) -> Path:
    """Make `folder` if needed, for its owner alone, and return it.

    `owner` is a user id; None leaves a new folder to this process and an old one as it is. Raises
    `UnsafeFolder` where an ordinary user finds a folder of somebody else, or anyone finds a link:
    in `/tmp` another user may have been there first.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        found = folder.lstat()
        trusted = {os.geteuid(), nobody()} if os.geteuid() == 0 else {os.geteuid()}
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in trusted:
            raise UnsafeFolder(
                f"{folder} is not a folder of this user. Remove it, or set HUNCH_VAR elsewhere."
            ) from None
    folder.chmod(0o700)
    if owner is not None:
        os.chown(folder, owner, -1)
    return folder


def nobody() -> int:
    """The user id of the account `nobody`."""
    return pwd.getpwnam("nobody").pw_uid
