"""Files to tables: CSV, Parquet, JSON Lines. Nothing is interpreted beyond what the format itself says."""

import codecs
from pathlib import Path

import polars as pl

from shoplens.errors import SourceError

_TEXT = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".dat", ".dat.gz")
_KINDS = (*_TEXT, ".parquet", ".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
_SHOWN = 200
_START = 65_536
_GZIP = b"\x1f\x8b"


def kind_of(path: Path) -> str | None:
    """Return the ending by which a file is read, or None when it is of no known kind."""
    return next((kind for kind in sorted(_KINDS, key=len, reverse=True) if path.name.lower().endswith(kind)), None)


def table_name(path: Path) -> str:
    """Return a file's name without its endings: the name of its table."""
    kind = kind_of(path)
    return path.name[: -len(kind)] if kind else path.stem


def find_files(inputs: list[Path]) -> list[Path]:
    """Return the readable files among `inputs`, files or folders (searched one level deep), each once.

    Raises:
        SourceError: an input does not exist, is of no known kind, or a folder holds no readable file.
    """
    found: list[Path] = []
    for path in inputs:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.is_file() and kind_of(p))
            if not inside:
                raise SourceError(f"{path}: the folder holds no file of a known kind ({', '.join(_KINDS)})")
            found += inside
        elif not path.is_file():
            raise SourceError(f"{path}: no such file or folder")
        elif kind_of(path) is None:
            raise SourceError(f"{path}: unknown kind of file; must be one of {', '.join(_KINDS)}")
        else:
            found.append(path)
    once: dict[Path, Path] = {}
    for path in found:
        once.setdefault(path.resolve(), path)
    return list(once.values())


def select_files(files: list[Path], table: str) -> list[Path]:
    """Return the files of a table of a mapping; "*" is whatever is given."""
    return files if table == "*" else [path for path in files if table_name(path) == table]


def first_line(error: BaseException) -> str:
    """Return what an error says, short: the rest of a reader's message may repeat rows, and rows are personal data."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:_SHOWN]


def _require_text(path: Path) -> None:
    """Raise a SourceError where a text file begins as no UTF-8 text does: in UTF-16, or with NUL bytes."""
    with path.open("rb") as stream:
        start = stream.read(_START)
    if start.startswith(_GZIP):
        return  # whatever is inside, the reader unpacks and says
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in start.partition(b"\n")[0]:
        raise SourceError(
            f"{path}: must be UTF-8 text; its first line holds NUL bytes, as UTF-16 does. Convert it, for example with "
            f"`iconv -f UTF-16 -t UTF-8`"
        )


def _require_whole(path: Path, separator: str) -> None:
    """Raise a SourceError where a CSV file ends in the middle of a row: without a line end, and with fewer columns."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        first = stream.readline(_START)
        stream.seek(max(0, size - _START))
        end = stream.read()
    if end.endswith((b"\n", b"\r")) or b"\n" not in end:
        return
    last = end.rpartition(b"\n")[2]
    mark = separator.encode()
    # Quotes may hold separators and line ends: only a plain last line is judged.
    if b'"' not in last + first and last.count(mark) < first.count(mark):
        raise SourceError(
            f"{path}: must end with a whole row; its last line has {last.count(mark) + 1} of {first.count(mark) + 1} "
            f"columns and no line end: the file was cut off. Bring the whole file, or take the last line out"
        )


def _named(frame: pl.DataFrame, header: tuple[str, ...], path: Path) -> pl.DataFrame:
    if frame.width != len(header):
        raise SourceError(
            f"{path}: csv.header: must name every column: it names {len(header)}, the file has {frame.width}. "
            f"Correct the mapping"
        )
    return frame.rename(dict(zip(frame.columns, header, strict=True)))


def read_table(path: Path, separator: str = ",", header: tuple[str, ...] = ()) -> pl.DataFrame:
    """Read one file. CSV columns stay text: the mapping says what they mean.

    Args:
        path: The file.
        separator: What stands between the columns of a CSV file.
        header: Names of the columns of a CSV file that has no line of them.

    Raises:
        SourceError: the file cannot be read as what its name says, or has another number of columns than `header`.
    """
    kind = kind_of(path) or ""
    try:
        if kind == ".parquet":
            return pl.read_parquet(path, glob=False, hive_partitioning=False)
        _require_text(path)
        if kind in _TEXT:
            if not kind.endswith(".gz"):
                _require_whole(path, separator)
            frame = pl.read_csv(path, infer_schema=False, glob=False, separator=separator, has_header=not header)
            return _named(frame, header, path) if header else frame
        with path.open("rb") as stream:  # a path would be taken for a pattern: read_ndjson has no glob=False
            return pl.read_ndjson(stream, infer_schema_length=None)
    except (OSError, pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: cannot be read as {kind.lstrip('.')}: {first_line(error)}") from error
