"""Versions of a lake: each is one manifest, which names the immutable files that the lake consists of.

    LAKE/manifests/000000000007.json

A version is published by writing its manifest if there is none of that number: of two writers one is the first, and the
other looks at what has changed and tries the next number. Readers take the newest, and so see the lake before an append
or after it.
"""

import uuid
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from events.lake.store import Store
from shoplens.errors import SourceError

MANIFESTS = "manifests"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class File(_Strict):
    """An immutable Parquet file of the lake: its path, its rows and its size in bytes."""

    path: str
    rows: int
    bytes: int


class Day(_Strict):
    """The events of one day.

    Attributes:
        changed: The version that last added events to it.
        late: The last one that added some after the lake had events of a later day; 0 for none.
        files: Its events, in no order among them.
    """

    changed: int
    late: int = 0
    files: tuple[File, ...]


class Column(_Strict):
    """What is known of a column of a source, from the first rows of its files (`events.lake.sources`).

    Attributes:
        kind: Its type, in the words of `events.lake.sources`.
        declared: Whether the file declares it; else it is what most of the values are.
        values: How many there were.
        given: Share of the rows that have one.
        length: Characters of a value, on average.
        distinct: Different values, as a share of all.
    """

    kind: str
    declared: bool
    values: int
    given: float
    length: float
    distinct: float


class Manifest(_Strict):
    """One version of a lake.

    Attributes:
        version: 1 for the first; 0 is the lake that holds nothing yet.
        commit: A name that no other attempt at this version has.
        days: By date, `2024-07-01`.
        index: Which event ids there are, and on which days (`events.lake.index`).
        quarantine: Rows that were set aside.
        accounts: What became of the rows of every append.
        sides: By name: item_table, item_content, users, campaigns.
        sources: By mapping, table and column: what the sources' tables looked like.
    """

    version: int = 0
    commit: str = ""
    days: dict[str, Day] = Field(default_factory=dict)
    index: tuple[File, ...] = ()
    quarantine: tuple[File, ...] = ()
    accounts: tuple[File, ...] = ()
    sides: dict[str, File] = Field(default_factory=dict)
    sources: dict[str, dict[str, dict[str, Column]]] = Field(default_factory=dict)

    def files(self) -> set[str]:
        """Return the paths of all files that this version consists of."""
        runs = [*self.index, *self.quarantine, *self.accounts, *self.sides.values()]
        return {file.path for file in [*runs, *(file for day in self.days.values() for file in day.files)]}

    def next(self, **changes: Any) -> "Manifest | None":
        """Return the next version, or None where these changes change nothing."""
        same = {"version": self.version, "commit": self.commit}
        changed = self.model_copy(update=changes | same)
        if changed == self:
            return None
        return changed.model_copy(update={"version": self.version + 1, "commit": uuid.uuid4().hex})


def path_of(version: int) -> str:
    """Return where the manifest of a version is."""
    return f"{MANIFESTS}/{version:012}.json"


def versions(store: Store) -> list[int]:
    """Return the versions whose manifests are there, oldest first."""
    stems = [name.removesuffix(".json") for name in store.names(MANIFESTS) if name.endswith(".json")]
    return sorted(int(stem) for stem in stems if stem.isdigit())


def read_version(store: Store, version: int) -> Manifest:
    """Read the manifest of a version.

    Raises:
        SourceError: it is not there any more, or is damaged.
    """
    path = path_of(version)
    try:
        return Manifest.model_validate_json(store.read(path))
    except FileNotFoundError as error:
        raise SourceError(f"lake: {store.name} has no version {version} any more. Read its newest one") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SourceError(
            f"{store.name}/{path}: must be the manifest of a lake; {where} {first['msg']}. Restore it"
        ) from error


def newest(store: Store) -> Manifest:
    """Read the newest version of a lake; version 0, which holds nothing, where there is none."""
    there = versions(store)
    return read_version(store, there[-1]) if there else Manifest()


def publish(store: Store, manifest: Manifest) -> bool:
    """Make a version the newest one; False where another writer was first."""
    return store.create(path_of(manifest.version), manifest.model_dump_json().encode())
