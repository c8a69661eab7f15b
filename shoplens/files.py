"""Files and folders that are either whole or absent: written beside their place, then renamed."""

import contextlib
import fcntl
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def _lock(folder: Path) -> int | None:
    """Return a descriptor that holds the lock of a folder; None when a living process holds it or the folder is gone.

    The kernel lets go of the lock when its holder dies, however it dies. Unlike a process id, the lock tells the living
    from the dead also to a writer in another container, and after a reboot.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), folder.stat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass  # somebody's, or removed by who held it before
    except OSError:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _begin(target: Path) -> tuple[Path, int | None]:
    """Return a new folder beside `target`, and its lock; None on a file system that locks no folders (NFS)."""
    while True:
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
        try:
            descriptor = _lock(work)
        except OSError:
            return work, None
        if descriptor is not None:  # else another writer met it between its making and its locking, and removes it
            return work, descriptor


def _sweep(target: Path) -> None:
    """Remove what writers of `target` that were killed left beside it.

    A `.old` is rubbish from the moment it has that name: its writer, alive or not, only removes it.
    """
    ours = re.compile(rf"\.{re.escape(target.name)}\.[a-z0-9_]+\.(tmp|old)")
    for folder in [path for path in target.parent.iterdir() if ours.fullmatch(path.name)]:
        with contextlib.suppress(OSError):
            if (descriptor := _lock(folder)) is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(descriptor)


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target`; when the block ends well, it takes `target`'s place.

    A crash at any moment leaves the old folder, none, or the new one, never a torn one. What a killed writer left
    beside `target` is removed by the next one.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target)
    work, descriptor = _begin(target)
    work.chmod(0o755)
    try:
        yield work
        old = work.with_suffix(".old")
        if target.exists():
            target.rename(old)
        work.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Yield a path beside `target` to write to; when the block ends well, it takes `target`'s place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    work = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield work
        work.replace(target)
    finally:
        work.unlink(missing_ok=True)


def write_json(target: Path, content: Any) -> None:
    """Write `content` as indented JSON with sorted keys, whole or not at all."""
    with whole_file(target) as work:
        work.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
