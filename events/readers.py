"""Files to tables: CSV (also .gz), Parquet, JSON Lines. Nothing is interpreted beyond what the format itself says."""

from pathlib import Path

import polars as pl

from shoplens.errors import SourceError

_KINDS = (".csv", ".csv.gz", ".parquet", ".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")


def kind_of(path: Path) -> str | None:
    """Return the ending by which a file is read, or None when it is of no known kind."""
    return next((kind for kind in sorted(_KINDS, key=len, reverse=True) if path.name.lower().endswith(kind)), None)


def table_name(path: Path) -> str:
    """Return a file's name without its endings: the name of its table."""
    kind = kind_of(path)
    return path.name[: -len(kind)] if kind else path.stem


def find_files(inputs: list[Path]) -> list[Path]:
    """Return the readable files among `inputs`, files or folders (searched one level deep), sorted.

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
    return found


def read_table(path: Path) -> pl.DataFrame:
    """Read one file. CSV columns stay text: the mapping says what they mean.

    Raises:
        SourceError: the file cannot be read as what its name says.
    """
    kind = kind_of(path) or ""
    try:
        if kind == ".parquet":
            return pl.read_parquet(path)
        if kind.startswith(".csv"):
            return pl.read_csv(path, infer_schema=False)
        return pl.read_ndjson(path, infer_schema_length=None)
    except (OSError, pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: cannot be read as {kind.lstrip('.')}: {error}") from error
