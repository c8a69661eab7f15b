"""Files of given folders that a mapping does not read."""

from pathlib import Path

from events.mapping import Mapping
from events.readers import select_files
from shoplens.errors import SourceError


def unread_files(mapping: Mapping, inputs: list[Path], files: list[Path]) -> tuple[str, ...]:
    """Return the names of files of given folders that no table reads.

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
