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
_SHOWN = 200  # maximum length of an error; parser messages may quote rows, which are personal data
_GZIP = b"\x1f\x8b"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
MALFORMED = "_malformed"  # the column that `malformed` fills for unreadable rows; null in all others
LONGEST = 1 << 24  # bytes of a line; no log has longer rows
_KEPT = 10_000  # characters kept of a malformed line


@dataclass(frozen=True)
class Size:
    """Maximum size of a piece, in rows and approximate bytes."""

    rows: int = 1 << 18
    bytes: int = 1 << 25


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of a file. All pieces of a file have the same schema.

    Attributes:
        frame: The rows; a malformed row has a value only in the column MALFORMED, which exists if any row needs it.
        note: A remark on the whole file for the user, once per file.
    """

    frame: pl.DataFrame
    note: str = ""


def kind_of(path: Path) -> str | None:
    """Return the suffix that decides how a file is read, or None for an unknown kind."""
    return next((kind for kind in KINDS if path.name.lower().endswith(kind)), None)


def table_name(path: Path) -> str:
    """Return a file's table name: the file name without its suffixes."""
    kind = kind_of(path)
    return path.name[: -len(kind)] if kind else path.stem


def first_line(error: BaseException) -> str:
    """Return the first line of an error, truncated."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:_SHOWN]


def is_packed(path: Path) -> bool:
    """Return whether a file is gzip-compressed, regardless of its name."""
    with path.open("rb") as stream:
        return stream.read(len(_GZIP)) == _GZIP


def open_unpacked(path: Path) -> IO[bytes] | gzip.GzipFile:
    """Open a file, decompressing it if necessary."""
    return gzip.open(path) if is_packed(path) else path.open("rb")


def require_text(path: Path, start: bytes) -> None:
    """Raise a SourceError if a file starts with a UTF-16 byte-order mark or NUL bytes."""
    if start.startswith(_UTF_16) or b"\0" in start.partition(b"\n")[0]:
        raise SourceError(
            f"{path}: must be UTF-8 text; its first line holds NUL bytes, as UTF-16 does. Declare `csv: {{encoding: "
            f"utf-16}}` in the mapping, or convert the file, for example with `iconv -f UTF-16 -t UTF-8`"
        )


def malformed(reason: str, number: int, text: str, remedy: str) -> str:
    """Return the record of a malformed line: the reason, a space, and JSON with its number, text and remedy."""
    return f"{reason} {json.dumps({'line': number, 'text': text[:_KEPT], 'remedy': remedy}, ensure_ascii=False)}"


def find_files(inputs: list[Path]) -> list[Path]:
    """Return the distinct readable files among `inputs`, which may be files or folders (searched one level deep).

    Raises:
        SourceError: an input does not exist, its file type is unknown, or a folder has no readable file.
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
    """Return the files of a table; empty for a missing optional table.

    Raises:
        SourceError: a required table has no file.
    """
    found = select_files(files, table)
    if not found and table not in mapping.optional_tables:
        names = ", ".join(sorted({table_name(path) for path in files}))
        raise SourceError(
            f"mapping {mapping.name}: table {table} is not among the given ones ({names}); add it, or list it under "
            f"optional_tables"
        )
    return found


def unread_files(mapping: Mapping, inputs: list[Path], files: list[Path]) -> tuple[str, ...]:
    """Return the names of the files in the given folders that no table of the mapping reads.

    Raises:
        SourceError: the mapping does not read a file that was given by name.
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
    """Unique labels per file and mapping entry: the file name, or more of its path if names repeat."""

    def __init__(self, files: list[Path]) -> None:
        names = [path.name for path in files]
        common = os.path.commonpath([path.absolute().parent for path in files])
        self._of = {
            path: path.name if names.count(path.name) == 1 else path.absolute().relative_to(common).as_posix()
            for path in files
        }
        self._taken: set[Path] = set()

    def take(self, path: Path, place: str) -> str:
        """Return the label of a file for a mapping entry; if an earlier entry read the file, append `place`."""
        label = self._of[path] if path not in self._taken else f"{self._of[path]} ({place})"
        self._taken.add(path)
        return label
