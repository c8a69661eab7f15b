"""File helpers: atomic writes, digests, JSON and YAML."""

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout


def _sweep(target: Path) -> None:
    """Remove temporary files of killed writers of `target`; a running writer holds its lock."""
    ours = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{32}}\.(tmp|old)")
    for folder in [path for path in target.parent.iterdir() if ours.fullmatch(path.name)]:
        lock = folder.with_suffix(".lock")
        with suppress(Timeout), FileLock(lock, timeout=0):
            shutil.rmtree(folder, ignore_errors=True)
            lock.unlink(missing_ok=True)


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder next to `target` that replaces `target` if the block succeeds.

    A crash leaves the old folder, none, or the new one, but never a partial one. The next writer removes the temporary
    files of a killed one.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target)
    name = f".{target.name}.{uuid.uuid4().hex}"
    work, old, lock = (target.with_name(name + suffix) for suffix in (".tmp", ".old", ".lock"))
    with FileLock(lock):  # the kernel releases it when its holder dies, even in another container
        work.mkdir()
        try:
            yield work
            if target.exists():
                target.rename(old)
            work.rename(target)
        finally:
            for left in (work, old):
                shutil.rmtree(left, ignore_errors=True)
            lock.unlink(missing_ok=True)


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Yield a path next to `target` to write to, which replaces `target` if the block succeeds."""
    target.parent.mkdir(parents=True, exist_ok=True)
    work = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield work
        work.replace(target)
    finally:
        work.unlink(missing_ok=True)


def write_json(target: Path, content: Any) -> None:
    """Atomically write `content` as indented JSON with sorted keys."""
    with whole_file(target) as work:
        work.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def folder_digest(folder: Path) -> str:
    """Return the SHA-256 over the sorted relative names and contents of all files below `folder`."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        total.update(f"{path.relative_to(folder).as_posix()}\0{file_digest(path)}\n".encode())
    return total.hexdigest()


def write_manifest(folder: Path, about: dict[str, Any]) -> None:
    """Write manifest.json: `about`, and under `files` the digest of every file below `folder`."""
    files = {p.relative_to(folder).as_posix(): file_digest(p) for p in sorted(folder.rglob("*")) if p.is_file()}
    write_json(folder / "manifest.json", {**about, "files": files})


def manifest_version(folder: Path) -> str:
    """Return the first 16 hexadecimal digits of the digest of manifest.json, which identify a folder's content."""
    return file_digest(folder / "manifest.json")[:16]
