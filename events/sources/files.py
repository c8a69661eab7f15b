"""Source files: which of them are readable, which table each belongs to, and its label in the account."""

import gzip
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import polars as pl

from events.mapping import Mapping
from shoplens.errors import SourceError

TEXT = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".dat", ".dat.gz")
KINDS = (*TEXT, ".parquet", ".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
_SHOWN = 200  # characters of an error; the rest of a parser's message may repeat rows, and rows are personal data
_GZIP = b"\x1f\x8b"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
MALFORMED = "_malformed"  # the column that `malformed` fills in rows that cannot be read; null in all others
LONGEST = 1 << 24  # bytes of a line; a longer one is no row of a log
_KEPT = 10_000  # characters of a malformed line that are kept


@dataclass(frozen=True)
class Size:
    """Limits of a piece: rows, and approximate bytes."""

    rows: int = 1 << 18
    bytes: int = 1 << 25


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of a file. Every piece of a file has the same columns of the same types.

    Attributes:
        frame: The rows; a malformed one has a value in the column MALFORMED alone, which is there if any row needs it.
        note: A remark on the whole file for the person who reads it, once per file.
    """

    frame: pl.DataFrame
    note: str = ""


def kind_of(path: Path) -> str | None:
    """Return the suffix that decides how a file is read, or None for an unknown kind."""
    return next((kind for kind in KINDS if path.name.lower().endswith(kind)), None)


def table_name(path: Path) -> str:
    """Return the name of the table in a file: the file name without its suffixes."""
    kind = kind_of(path)
    return path.name[: -len(kind)] if kind else path.stem


def first_line(error: BaseException) -> str:
    """Return the first line of an error, shortened."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:_SHOWN]


def is_packed(path: Path) -> bool:
    """Return whether a file starts as gzip does, whatever its name."""
    with path.open("rb") as stream:
        return stream.read(len(_GZIP)) == _GZIP


def open_unpacked(path: Path) -> IO[bytes] | gzip.GzipFile:
    """Open a file for its content, decompressed where it is compressed."""
    return gzip.open(path) if is_packed(path) else path.open("rb")


def require_text(path: Path, start: bytes) -> None:
    """Raise a SourceError for a file that starts as UTF-16 does, or with NUL bytes."""
    if start.startswith(_UTF_16) or b"\0" in start.partition(b"\n")[0]:
        raise SourceError(
            f"{path}: must be UTF-8 text; its first line holds NUL bytes, as UTF-16 does. Declare `csv: {{encoding: "
            f"utf-16}}` in the mapping, or convert the file, for example with `iconv -f UTF-16 -t UTF-8`"
        )


def malformed(reason: str, number: int, text: str, remedy: str) -> str:
    """Return what is kept of a malformed line: the reason, a space, and JSON of its number, its text and the remedy."""
    return f"{reason} {json.dumps({'line': number, 'text': text[:_KEPT], 'remedy': remedy}, ensure_ascii=False)}"


def find_files(inputs: list[Path]) -> list[Path]:
    """Return the readable files among `inputs`, files or folders (searched one level deep), each once.

    Raises:
        SourceError: an input does not exist, is of an unknown kind, or a folder holds no readable file.
    """
    found: dict[Path, Path] = {}
    for path in inputs:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.is_file() and kind_of(p))
            if not inside:
                raise SourceError(f"{path}: the folder holds no file of a known kind ({', '.join(KINDS)})")
        elif not path.is_file():
            raise SourceError(f"{path}: no such file or folder")
        elif kind_of(path) is None:
            raise SourceError(f"{path}: unknown kind of file; must be one of {', '.join(KINDS)}")
        else:
            inside = [path]
        for file in inside:
            found.setdefault(file.resolve(), file)
    return list(found.values())


def select_files(files: list[Path], table: str) -> list[Path]:
    """Return the files that belong to a mapped table; "*" selects all files."""
    return files if table == "*" else [path for path in files if table_name(path) == table]


def files_of(files: list[Path], table: str, mapping: Mapping) -> list[Path]:
    """Return the files of a table; none for an optional table that is not given.

    Raises:
        SourceError: there is none, and the table is not optional.
    """
    found = select_files(files, table)
    if not found and table not in mapping.optional_tables:
        names = ", ".join(sorted({table_name(path) for path in files}))
        raise SourceError(
            f"mapping {mapping.name}: table {table} is none of the given ones ({names}); give it too, or name it under "
            f"optional_tables"
        )
    return found


def unread_files(mapping: Mapping, inputs: list[Path], files: list[Path]) -> tuple[str, ...]:
    """Return the names of files in given folders that no table of the mapping reads.

    Raises:
        SourceError: a file given by name is one of them.
    """
    read = {path for table in mapping.tables() for path in select_files(files, table)}
    unread = [path for path in files if path not in read]
    named = [path.name for path in unread if path in inputs]
    if named:
        raise SourceError(
            f"inputs: a file given by name must be a table that mapping {mapping.name} reads "
            f"({', '.join(mapping.tables())}); received {', '.join(named)}. Leave it out or add it to the mapping"
        )
    return tuple(path.name for path in unread)


class Labels:
    """Labels, one per file and place in the mapping: the file name, or more of its path where names repeat."""

    def __init__(self, files: list[Path]) -> None:
        names = [path.name for path in files]
        common = os.path.commonpath([path.absolute().parent for path in files])
        self._of = {
            path: path.name if names.count(path.name) == 1 else path.absolute().relative_to(common).as_posix()
            for path in files
        }
        self._taken: set[Path] = set()

    def take(self, path: Path, place: str) -> str:
        """Return the label of a file as it is read for a place of the mapping, which later readings are named by."""
        label = self._of[path] if path not in self._taken else f"{self._of[path]} ({place})"
        self._taken.add(path)
        return label
