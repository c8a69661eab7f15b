"""Files to tables: CSV, Parquet, JSON Lines. Nothing is interpreted beyond what the format itself says."""

from pathlib import Path

import polars as pl

from events.kinds import KINDS, first_line, kind_of, table_name
from events.pieces import UNREADABLE, pieces
from shoplens.errors import SourceError

__all__ = ["find_files", "first_line", "kind_of", "read_table", "select_files", "table_name"]


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
                raise SourceError(f"{path}: the folder holds no file of a known kind ({', '.join(KINDS)})")
            found += inside
        elif not path.is_file():
            raise SourceError(f"{path}: no such file or folder")
        elif kind_of(path) is None:
            raise SourceError(f"{path}: unknown kind of file; must be one of {', '.join(KINDS)}")
        else:
            found.append(path)
    once: dict[Path, Path] = {}
    for path in found:
        once.setdefault(path.resolve(), path)
    return list(once.values())


def select_files(files: list[Path], table: str) -> list[Path]:
    """Return the files of a table of a mapping; "*" is whatever is given."""
    return files if table == "*" else [path for path in files if table_name(path) == table]


def read_table(path: Path, separator: str = ",", header: tuple[str, ...] = ()) -> pl.DataFrame:
    """Read one file into memory. CSV columns stay text: the mapping says what they mean.

    Args:
        path: The file.
        separator: What stands between the columns of a CSV file.
        header: Names of the columns of a CSV file that has no line of them.

    Raises:
        SourceError: the file cannot be read as what its name says, or has another number of columns than `header`.
    """
    if kind_of(path) != ".parquet":
        return pl.concat([piece.frame for piece in pieces(path, separator, header)])
    try:
        return pl.read_parquet(path, glob=False, hive_partitioning=False)
    except UNREADABLE as error:
        raise SourceError(f"{path}: cannot be read as parquet: {first_line(error)}") from error
