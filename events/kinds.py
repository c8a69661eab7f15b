"""The kinds of files that can be read, told by their endings."""

from pathlib import Path

TEXT = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".dat", ".dat.gz")
KINDS = (*TEXT, ".parquet", ".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
_SHOWN = 200


def kind_of(path: Path) -> str | None:
    """Return the ending by which a file is read, or None when it is of no known kind."""
    return next((kind for kind in sorted(KINDS, key=len, reverse=True) if path.name.lower().endswith(kind)), None)


def table_name(path: Path) -> str:
    """Return a file's name without its endings: the name of its table."""
    kind = kind_of(path)
    return path.name[: -len(kind)] if kind else path.stem


def first_line(error: BaseException) -> str:
    """Return what an error says, short: the rest of a reader's message may repeat rows, and rows are personal data."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:_SHOWN]
