"""The append log: what was answered is in here, on disk.

    FOLDER/.lock                          held by the one collector that writes
    FOLDER/id                             of this log: positions of another one mean nothing in it
    FOLDER/00000000000000000000.log       a segment; its name is the position of its first byte
    FOLDER/torn-POSITION.bin              bytes after the last whole record, cut off when the log was opened

A record is one line: the CRC-32 of its content in hexadecimal, a space, the content, a line break. A position counts
bytes since the log began, so a segment's records are at its name plus their places in it.
"""

import fcntl
import io
import os
import threading
import uuid
import zlib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType

from shoplens.errors import StageBusyError
from shoplens.files import whole_file

_SEGMENT_BYTES = 64 << 20
_DIGITS = 20
_HEAD = 9  # eight hexadecimal digits and a space


@dataclass(frozen=True)
class Record:
    """One record: its position in the log, and its content."""

    position: int
    content: bytes


def framed(content: bytes) -> bytes:
    """Return a record as it is written; `content` has no line break."""
    return b"%08x %s\n" % (zlib.crc32(content), content)


def _content(line: bytes) -> bytes | None:
    """Return the content of a whole line without its break; None where it is not what was written."""
    content = line[_HEAD:]
    return content if line[:_HEAD] == b"%08x " % zlib.crc32(content) else None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class EventLog:
    """One writer, any number of readers in the same process. `append` is for one thread; the rest for any."""

    def __init__(self, folder: Path, segment_bytes: int = _SEGMENT_BYTES) -> None:
        """Open a log, alone, at its last whole record.

        Raises:
            StageBusyError: another collector writes it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._segment_bytes = folder, segment_bytes
        self._lock = (folder / ".lock").open("a", encoding="utf-8")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise StageBusyError(f"{folder}: another collector writes this log; stop it, or use its address") from None
        self.id = self._identity()
        self._news = threading.Condition()
        self._end = self._recover()
        self._file = self._open_segment()

    def __enter__(self) -> "EventLog":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the log."""
        self._file.close()
        self._lock.close()

    @property
    def end(self) -> int:
        """Position after the last record that is on disk."""
        return self._end

    @property
    def begin(self) -> int:
        """Position of the first record that is still kept."""
        return self._segments()[0]

    def _identity(self) -> str:
        path = self._folder / "id"
        if not path.exists():
            with whole_file(path) as work:
                work.write_text(uuid.uuid4().hex, encoding="ascii")
        return path.read_text(encoding="ascii")

    def _segments(self) -> list[int]:
        return sorted(int(path.stem) for path in self._folder.glob("*.log"))

    def _path(self, start: int) -> Path:
        return self._folder / f"{start:0{_DIGITS}}.log"

    def _recover(self) -> int:
        starts = self._segments()
        if not starts:
            self._path(0).touch()
            _sync_folder(self._folder)
            return 0
        path = self._path(starts[-1])
        whole, content = 0, path.read_bytes()
        while (stop := content.find(b"\n", whole)) >= 0 and _content(content[whole:stop]) is not None:
            whole = stop + 1
        if whole < len(content):  # never answered, but nothing is thrown away
            (self._folder / f"torn-{starts[-1] + whole}.bin").write_bytes(content[whole:])
            os.truncate(path, whole)
        return starts[-1] + whole

    def _open_segment(self) -> io.FileIO:
        self._start = self._segments()[-1]
        return io.FileIO(self._path(self._start), "ab")

    def append(self, contents: list[bytes]) -> int:
        """Write records and return the new end when they are on disk.

        Raises:
            OSError: the disk refuses; the log is as it was.
        """
        block = b"".join(map(framed, contents))
        try:
            left = memoryview(block)
            while left:
                left = left[self._file.write(left) :]
            os.fdatasync(self._file.fileno())
        except OSError:
            os.ftruncate(self._file.fileno(), self._end - self._start)
            raise
        with self._news:
            self._end += len(block)
            self._news.notify_all()
        if self._end - self._start >= self._segment_bytes:
            self.roll()
        return self._end

    def roll(self) -> None:
        """Begin a new segment, so that the old one can be dropped when all followers have passed it."""
        if self._end == self._start:
            return
        self._path(self._end).touch()
        _sync_folder(self._folder)
        self._file.close()
        self._file = self._open_segment()

    def wait(self, position: int, seconds: float) -> bool:
        """Wait until there are records after `position`; say whether there are."""
        with self._news:
            return self._news.wait_for(lambda: self._end > position, seconds)

    def read(self, position: int, max_bytes: int) -> tuple[list[Record], int]:
        """Return records from `position` on, about `max_bytes` of them, and the position after the last.

        A position before the first segment that is kept stands for that.
        """
        starts = self._segments()
        position = max(position, starts[0])
        start = max(s for s in starts if s <= position)
        following = next((s for s in starts if s > start), None)
        end = self._end if following is None else following
        with self._path(start).open("rb") as stream:
            stream.seek(position - start)
            block = stream.read(min(end - position, max_bytes))
            if block and not block.endswith(b"\n"):
                block += stream.readline()
        records, place = [], position
        for line in block[:-1].split(b"\n") if block else ():
            content = _content(line)
            if content is None:
                raise OSError(f"{self._path(start)}: the record at {place} is not what was written; check the disk")
            records.append(Record(place, content))
            place += len(line) + 1
        return records, place

    def drop(self, before: int, older_than: float) -> int:
        """Remove segments that end at or before a position and were last written before a time; return how many."""
        starts = self._segments()
        gone = 0
        for start, following in pairwise(starts):
            path = self._path(start)
            if following > before or path.stat().st_mtime >= older_than:
                break
            path.unlink()
            gone += 1
        return gone
