"""Where a lake's files are: a folder of this machine, or a prefix of an object store, by any fsspec URL.

Neither need know locks or renames of many files at once. What a lake needs of it: a file that is written whole, and one
that is written only if there is none of that name (`create`), which is how a version of the lake is published.
"""

import contextlib
import errno
import os
import tempfile
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import fsspec
from typing_extensions import override

from events.sources.files import first_line
from shoplens.errors import SourceError

Place = str | Path
# File systems whose fsspec package hands "only if there is none" to the store; the others look first, and then write.
CONDITIONAL = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az")
_CONFLICT = "ConditionalRequestConflict"  # S3's answer to a write that met another one of the same name
_TRIES = 5
_PROBES = 4


class Store(ABC):
    """The files of a lake. Paths are relative to it, with "/" between folders."""

    name: str

    @abstractmethod
    def read(self, path: str) -> bytes:
        """Return a file's content; raise FileNotFoundError where there is none."""

    @abstractmethod
    def write(self, path: str, content: bytes) -> None:
        """Write a file, over an old one if there is one. A kill may leave a part of it: name it before it counts."""

    @abstractmethod
    def create(self, path: str, content: bytes) -> bool:
        """Write a file whole if there is none of that name; say whether this call wrote it."""

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """Return the names in a folder, sorted; none where there is no such folder."""

    @abstractmethod
    def files(self) -> dict[str, float]:
        """Return every file and when it was written, in seconds since 1970."""

    @abstractmethod
    def delete(self, path: str) -> None:
        """Delete a file, if there is one."""

    @abstractmethod
    @contextmanager
    def local(self, path: str) -> Iterator[Path]:
        """Yield a file of this machine with the content of `path`; raise FileNotFoundError where there is none."""

    @abstractmethod
    @contextmanager
    def new(self, path: str) -> Iterator[Path]:
        """Yield a file of this machine to write to; when the block ends well, it is at `path`."""

    def exists(self, path: str) -> bool:
        """Say whether there is a file of that name."""
        folder, _, name = path.rpartition("/")
        return name in self.names(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class LocalStore(Store):
    """A folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, str(folder)

    @override
    def read(self, path: str) -> bytes:
        return (self.folder / path).read_bytes()

    @override
    def write(self, path: str, content: bytes) -> None:
        with self.new(path) as place, place.open("wb") as stream:
            stream.write(content)

    @override
    def create(self, path: str, content: bytes) -> bool:
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        work = place.with_name(f".{place.name}.{os.urandom(8).hex()}.tmp")
        try:
            with work.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.link(work, place)  # unlike a rename, a link never takes another's place
        except FileExistsError:
            return False
        finally:
            work.unlink(missing_ok=True)
        _sync(place.parent)
        return True

    @override
    def names(self, folder: str) -> list[str]:
        place = self.folder / folder
        return sorted(path.name for path in place.iterdir()) if place.is_dir() else []

    @override
    def files(self) -> dict[str, float]:
        found = {}
        for path in self.folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # another process tidies too
                if path.is_file():
                    found[path.relative_to(self.folder).as_posix()] = path.stat().st_mtime
        return found

    @override
    def delete(self, path: str) -> None:
        (self.folder / path).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # the folder of a day holds other parts, or is gone already
            (self.folder / path).parent.rmdir()

    @override
    @contextmanager
    def local(self, path: str) -> Iterator[Path]:
        yield self.folder / path

    @override
    @contextmanager
    def new(self, path: str) -> Iterator[Path]:
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        work = place.with_name(f".{place.name}.{os.urandom(8).hex()}.tmp")
        try:
            yield work
            _sync(work)
            work.replace(place)
        finally:
            work.unlink(missing_ok=True)
        _sync(place.parent)


class RemoteStore(Store):
    """A prefix of an object store, or of fsspec's memory. Credentials and endpoint come from the environment."""

    # The memory of one process has no other writers than its threads; its file system looks first, and then writes.
    _memory = Lock()

    def __init__(self, url: str) -> None:
        self.name = url.rstrip("/")
        options: dict[str, Any] = {"use_listings_cache": False}
        # fsspec keeps one connection for the same arguments: the address is one of them.
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        if self.name.startswith(("s3:", "s3a:")) and endpoint:
            options["endpoint_url"] = endpoint
        with self._said():
            try:
                self._fs, self._root = fsspec.core.url_to_fs(self.name, **options)
            except (ImportError, ValueError) as error:
                raise SourceError(
                    f"--lake: {self.name}: no file system for this URL: {first_line(error)}. Name a folder, or "
                    f"install the fsspec package of that store"
                ) from error

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}" if path else str(self._root)

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, FileExistsError, SourceError):
            raise
        except Exception as error:  # every store's package has errors of its own, without a common base
            raise SourceError(
                f"lake: {self.name} cannot be reached: {first_line(error)}. Check the URL, the network and the "
                f"credentials (for S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL)"
            ) from error

    @override
    def read(self, path: str) -> bytes:
        with self._said():
            return bytes(self._fs.cat_file(self._at(path)))

    @override
    def write(self, path: str, content: bytes) -> None:
        with self._said():
            self._fs.pipe_file(self._at(path), content)

    @override
    def create(self, path: str, content: bytes) -> bool:
        with self._said():
            for _ in range(_TRIES):
                try:
                    with self._memory if self.name.startswith("memory:") else contextlib.nullcontext():
                        self._fs.pipe_file(self._at(path), content, mode="create")
                    return True
                except OSError as error:
                    if not isinstance(error, FileExistsError) and not _is_conflict(error):
                        raise
                # A write whose answer was lost is sent again, and meets itself.
                if self.exists(path):
                    return self.read(path) == content
        raise SourceError(f"lake: {self.name}/{path}: other writers keep it busy. Run it again")

    @override
    def names(self, folder: str) -> list[str]:
        with self._said():
            try:
                found = self._fs.ls(self._at(folder), detail=False)
            except FileNotFoundError:
                return []
        return sorted(str(path).rstrip("/").rpartition("/")[2] for path in found)

    @override
    def files(self) -> dict[str, float]:
        with self._said():
            found = self._fs.find(self._root, detail=True)
        start = len(self._at("x")) - 1
        return {path[start:]: _written(info) for path, info in found.items()}

    @override
    def delete(self, path: str) -> None:
        with self._said(), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._at(path))

    @override
    @contextmanager
    def local(self, path: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="shoplens-lake-") as folder:
            place = Path(folder) / Path(path).name
            with self._said():
                self._fs.get_file(self._at(path), str(place))
            yield place

    @override
    @contextmanager
    def new(self, path: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="shoplens-lake-") as folder:
            place = Path(folder) / Path(path).name
            yield place
            with self._said():
                self._fs.put_file(str(place), self._at(path))


def _is_conflict(error: OSError) -> bool:
    return error.errno == errno.EBUSY or _CONFLICT in f"{error} {error.__cause__}"


def _written(info: dict[str, Any]) -> float:
    moment = info.get("LastModified") or info.get("last_modified") or info.get("mtime") or info.get("created") or 0.0
    return float(moment.timestamp()) if hasattr(moment, "timestamp") else float(moment)


def creates_once(store: Store) -> bool:
    """Say whether, of several files created under one name at the same time, the store keeps exactly one.

    Stores that speak S3 may not know the condition, or look first and then write
    (https://github.com/seaweedfs/seaweedfs/issues/7153 and 8800).
    """
    path = f".{uuid.uuid4().hex}.tmp"
    try:
        with ThreadPoolExecutor(_PROBES) as pool:
            made = pool.map(lambda n: store.create(path, f"{n}".encode()), range(_PROBES))
            return sum(made) == 1
    finally:
        store.delete(path)


def is_url(place: Place) -> bool:
    """Say whether a place is named by a URL rather than by a path."""
    return isinstance(place, str) and "://" in place


def open_store(place: Place) -> Store:
    """Return the store at a path or an fsspec URL (`file://`, `memory://`, `s3://bucket/prefix`, …).

    Raises:
        SourceError: no package for the URL is installed, or its store cannot write "only if there is none".
    """
    if not is_url(place):
        return LocalStore(Path(place))
    url = str(place)
    protocol, _, rest = url.partition("://")
    if protocol in ("file", "local"):
        return LocalStore(Path(rest))
    if protocol != "memory" and protocol not in CONDITIONAL:
        raise SourceError(
            f"--lake: must be a folder or a URL of {', '.join(('file', 'memory', *CONDITIONAL))}; received {url!r}: "
            f"its store has no write that fails where a file is, without which two writers overwrite one another"
        )
    if not rest.strip("/"):
        raise SourceError(f"--lake: must name a bucket and a prefix, as s3://bucket/prefix; received {url!r}")
    return RemoteStore(url)
