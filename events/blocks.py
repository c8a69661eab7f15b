"""Text files in blocks of whole rows: the memory that reading takes does not grow with the file."""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from shoplens.errors import SourceError

LONGEST = 1 << 26  # bytes of a row; a longer one is no row of a log, but a quote that is never closed, or rubbish
_GZIP = b"\x1f\x8b"


def _open(path: Path) -> IO[bytes] | gzip.GzipFile:
    """Open a file to read what is in it, unpacked where it is packed, whatever its name says."""
    with path.open("rb") as stream:
        packed = stream.read(len(_GZIP)) == _GZIP
    return gzip.open(path) if packed else path.open("rb")


def _end_of_rows(data: bytes, *, quoted: bool) -> int:
    """Return where the last whole row of `data` ends, 0 where none does: a line end inside quotes ends no row."""
    end = data.rfind(b"\n")
    if not quoted or b'"' not in data:
        return end + 1
    before = data.count(b'"')
    last = len(data)
    while end >= 0:
        before -= data.count(b'"', end, last)
        if before % 2 == 0:
            return end + 1
        last, end = end, data.rfind(b"\n", 0, end)
    return 0


def blocks(path: Path, size: int, *, quoted: bool) -> Iterator[bytes]:
    """Yield the content of a text file in blocks of whole rows, of about `size` bytes.

    Args:
        path: The file, packed by gzip or not.
        size: Bytes; a block is longer where a row is, and at most that of the longest row and of `size` together.
        quoted: Whether a row may hold line ends between quotes, as in CSV.

    Raises:
        SourceError: a row is longer than LONGEST.
        OSError, EOFError, zlib.error: the file cannot be read or unpacked.
    """
    lines, rest = 1, b""
    with _open(path) as stream:
        while more := stream.read(max(size, len(rest))):  # doubles, so that a long row is not copied block by block
            data = rest + more
            end = _end_of_rows(data, quoted=quoted)
            if end:
                yield data[:end]
                lines += data.count(b"\n", 0, end)
            rest = data[end:]
            if len(rest) > LONGEST:
                unclosed = ", or a quote in it is never closed" if quoted else ""
                raise SourceError(
                    f"{path}: a row must have at most {LONGEST:,} bytes; the one that begins in line {lines:,} has "
                    f"more{unclosed}. Correct that line, or take it out"
                )
    if rest:
        yield rest
