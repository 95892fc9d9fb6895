"""Where the data of the embedded servers stand: in the state directory, if their account can go there."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from foreshard.errors import ForeshardError
from foreshard.fleet.binaries import PostgresBinaries
from foreshard.fleet.os_user import OsUser


def place_store(state_dir: Path, user: OsUser) -> Path:
    """A directory for servers that run as ``user``; made if need be.

    It is ``servers`` in ``state_dir`` where ``user`` can reach that. Root's projects often stand below
    ``/root``, which no other account can enter: then it is ``foreshard-<hash of state_dir>`` in ``/var/lib``,
    else in the temporary directory.
    """
    if user.can_enter(state_dir):
        return _own_directory(state_dir / "servers")
    name = f"foreshard-{hashlib.sha256(os.fsencode(state_dir.resolve())).hexdigest()[:12]}"
    for parent in (Path("/var/lib"), Path(tempfile.gettempdir())):
        if os.access(parent, os.W_OK) and user.can_enter(parent):
            return _own_directory(parent / name)
    raise ForeshardError(
        f"The account that runs the servers cannot reach {state_dir}, and no other place was found.",
        remedy="Move the project to a directory that every user may pass through.",
    )


def runnable_binaries(found: PostgresBinaries, user: OsUser, store: Path) -> PostgresBinaries:
    """``found`` if ``user`` can run it, else a copy in ``store``. Raises ``ForeshardError`` if both fail."""
    if found.usable_by(user):
        return found
    copy = found.copied_to(store)
    if not copy.usable_by(user):
        raise ForeshardError(
            f"The account that runs the servers cannot run the programs in {copy.bin_dir}.",
            remedy="Is it mounted noexec? Set FORESHARD_PG_BIN to programs that every user can run.",
        )
    return copy


def _own_directory(path: Path) -> Path:
    # The temporary directory is everybody's: a link or a directory that somebody else put there is not used.
    path.mkdir(mode=0o755, exist_ok=True)
    facts = path.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid():
        raise ForeshardError(f"{path} belongs to somebody else.", remedy="Remove it.")
    path.chmod(0o755)  # whatever the umask was
    return path
