"""Writes the file: whole or not at all, and never older than what is there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from foreshard.errors import ForeshardError

_MODE = 0o644  # it holds no secret


def write(file: Path, render: Callable[[], str]) -> bool:
    """Replace ``file`` by what ``render`` returns; False if that is what it holds already.

    Raises:
        ForeshardError: it cannot be written.
    """
    with locked([file]):
        text = render()
        if file.exists() and file.read_text(encoding="utf-8") == text:
            return False
        problem = replace(file, text)
    if problem is not None:
        raise problem
    return True


def replace(file: Path, text: str) -> ForeshardError | None:
    """Replace ``file``; returns what stood in the way."""
    try:
        _replace(file.resolve(), text)  # a link is followed, not replaced
    except OSError as error:
        return _unwritable(file, error)
    return None


@contextmanager
def locked(files: Iterable[Path]) -> Iterator[None]:
    """Keep other writers on this machine out: of two, the one that reads the routing map last must write last.

    Raises:
        ForeshardError: a directory is not there.
    """
    with ExitStack() as stack:
        for directory in sorted({file.resolve().parent for file in files}):
            try:
                descriptor = os.open(directory, os.O_RDONLY)
            except OSError as error:
                raise _unwritable(directory, error) from error
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def require_writable(file: Path) -> None:
    """Try it beforehand, without a change.

    Raises:
        ForeshardError: it could not be written.
    """
    try:
        with tempfile.NamedTemporaryFile(dir=file.resolve().parent, prefix=f".{file.name}."):
            pass
    except OSError as error:
        raise _unwritable(file, error) from error


def _replace(target: Path, text: str) -> None:
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as half:
            half.write(text)
            half.flush()
            os.fsync(half.fileno())
        _like(target, Path(name))
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _like(target: Path, half: Path) -> None:
    """Whoever could read the file before, can still."""
    if not target.exists():
        half.chmod(_MODE)
        return
    before = target.stat()
    half.chmod(before.st_mode & 0o777)
    with contextlib.suppress(PermissionError):
        os.chown(half, before.st_uid, before.st_gid)


def _unwritable(file: Path, error: OSError) -> ForeshardError:
    return ForeshardError(
        f"{file} cannot be written: {error.strerror or error}.",
        remedy="It must lie in a directory that this process may write and PgBouncer may read.",
        file=str(file),
    )
