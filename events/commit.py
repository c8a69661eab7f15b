"""Changes of a folder that happen wholly or not at all, by one process at a time.

    FOLDER/.lock                 held while the folder is changed
    FOLDER/.append.tmp/          the changed files, in the folder's layout, while they are written
    FOLDER/.append.commit/       the same once they are whole: the rename is the moment of the change

Whoever opens the folder next moves what a killed process had committed into place, and drops what it had not.
"""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shoplens.errors import SourceError

_LOCK = ".lock"
_WORK = ".append.tmp"
_COMMITTED = ".append.commit"


def is_ours(name: str) -> bool:
    """Say whether a file or folder of that name is left by this module or by a write that was killed."""
    return name in (_LOCK, _WORK, _COMMITTED) or (name.startswith(".") and name.endswith(".tmp"))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold an existing folder alone, in the state after its last whole change; wait while another process holds it.

    Raises:
        SourceError: the folder cannot be written.
    """
    try:
        stream = (folder / _LOCK).open("a", encoding="utf-8")
    except OSError as error:
        raise SourceError(f"{folder}: must be writable, for its lock; {error.strerror}. Correct its rights") from error
    with stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        _recover(folder)
        yield


@contextmanager
def whole_change(folder: Path) -> Iterator[Path]:
    """Yield a folder for changed files; when the block ends well, all of them take their places in `folder`.

    The caller holds `locked`.
    """
    work = folder / _WORK
    work.mkdir()
    try:
        yield work
        work.rename(folder / _COMMITTED)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    _recover(folder)


def _recover(folder: Path) -> None:
    shutil.rmtree(folder / _WORK, ignore_errors=True)
    committed = folder / _COMMITTED
    if not committed.exists():
        return
    for path in sorted(p for p in committed.rglob("*") if p.is_file()):
        place = folder / path.relative_to(committed)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.replace(place)
    shutil.rmtree(committed)
