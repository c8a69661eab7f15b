"""A lake's place: made, opened, brought to the layout of today, refused where it is something else.

    LAKE/lake.json      {"identity": "user", "schema_version": 2}

`schema_version` counts the layouts and contracts of lakes: 1 had no versions (`events.lake.legacy`); 2 is today's. A
column that the event contract gains later needs a new one only if its absence does not mean "not known".
"""

import json
from typing import Any

from events.lake.legacy import is_ours, migrate
from events.lake.manifest import Manifest, newest
from events.lake.store import LocalStore, Place, Store, creates_once, open_store
from events.mapping import Mapping
from events.sources.files import first_line
from shoplens.errors import SourceError

MARKER = "lake.json"
FROZEN_EVENTS = "events.parquet"  # only a frozen copy has all events in one file
SCHEMA_VERSION = 2


def _marker(store: Store) -> dict[str, Any] | None:
    """Return what lake.json says, or None where there is none."""
    where = f"{store.name}/{MARKER}"
    try:
        content = json.loads(store.read(MARKER))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise SourceError(f"{where}: must be JSON; {first_line(error)}. Restore it, or make a new lake") from error
    if not isinstance(content, dict):
        raise SourceError(f"{where}: must hold a JSON dict; received {str(content)[:80]!r}. Restore it")
    return content


def _written(marker: dict[str, Any]) -> bytes:
    return (json.dumps(marker, indent=2, sort_keys=True) + "\n").encode()


def is_lake(place: Place) -> bool:
    """Say whether there is a lake, or a frozen copy of one, at a path or URL."""
    return open_store(place).exists(MARKER)


def _no_lake(store: Store) -> SourceError:
    return SourceError(
        f"--lake: must be a lake; {store.name} is none. Name the place that `shoplens ingest --lake` filled"
    )


def _check(held: object, identity: str, whose: str, name: str) -> None:
    if held != identity:
        raise SourceError(
            f"lake: {name} holds events whose identity is {held!r}; {whose} has {identity!r}: give it a lake of its own"
        )


def check_identity(place: Place, mapping: Mapping) -> None:
    """Hold the kind of identity of a lake, or of a frozen copy of one, against the mapping's.

    Raises:
        SourceError: they differ, or the lake's cannot be read.
    """
    store = open_store(place)
    marker = _marker(store)
    if marker is None:
        raise _no_lake(store)
    _check(marker.get("identity"), mapping.identity, f"mapping {mapping.name}", store.name)


def _check_place(store: Store) -> None:
    if isinstance(store, LocalStore) and store.folder.exists() and not store.folder.is_dir():
        raise SourceError(
            f"--lake: must be a lake, a new or an empty folder; {store.name} is a file. Name another place"
        )
    names = store.names("")
    # Another writer may have made the lake, and filled it, since it was looked for.
    if MARKER not in names and not all(is_ours(name) for name in names):
        raise SourceError(
            f"--lake: must be a lake, a new or an empty folder; {store.name} holds other things. Name another place"
        )


def _make(store: Store, identity: str) -> dict[str, Any]:
    marker = {"identity": identity, "schema_version": SCHEMA_VERSION}
    _check_place(store)
    try:
        once = creates_once(store)
        made = once and store.create(MARKER, _written(marker))
    except OSError as error:
        raise SourceError(f"--lake: {store.name} cannot be made: {error.strerror}. Name another place") from error
    if not once:
        raise SourceError(
            f"--lake: {store.name}: its store writes over a file that it was told to leave (If-None-Match), so that "
            f"two writers would overwrite one another. Use another store, or a newer version of this one"
        )
    return marker if made else _marker(store) or marker


def _current(store: Store, marker: dict[str, Any]) -> None:
    """Bring a lake of an older layout to today's; refuse one of a newer."""
    version = marker.get("schema_version", 1)
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise SourceError(
            f"lake: {store.name} was written by a newer ShopLens (schema_version {version}; this one knows "
            f"{SCHEMA_VERSION}). Upgrade ShopLens"
        )
    if version == SCHEMA_VERSION:
        return
    if isinstance(store, LocalStore):
        if (store.folder / FROZEN_EVENTS).exists():
            raise SourceError(f"--lake: {store.name} is a frozen copy of a lake, which does not grow. Name the lake")
        migrate(store)
    with store.new(MARKER) as path:
        path.write_bytes(_written(marker | {"schema_version": SCHEMA_VERSION}))


def opened(place: Place, identity: str, whose: str) -> Store:
    """Return the store of a lake, which is made if it is new.

    Raises:
        SourceError: it holds another kind of identity, a newer ShopLens wrote it, or the place holds something else.
    """
    store = open_store(place)
    marker = _marker(store)
    if marker is None:
        marker = _make(store, identity)
    _check(marker.get("identity"), identity, whose, store.name)
    _current(store, marker)
    return store


def open_lake(place: Place, mapping: Mapping) -> None:
    """Make the lake if it is new.

    Raises:
        SourceError: see `opened`.
    """
    opened(place, mapping.identity, f"mapping {mapping.name}")


def existing(place: Place) -> tuple[Store, Manifest, str]:
    """Return the store, the newest version and the identity of a lake that is there.

    Raises:
        SourceError: there is none, or a newer ShopLens wrote it.
    """
    store = open_store(place)
    marker = _marker(store)
    if marker is None:
        raise _no_lake(store)
    _current(store, marker)
    return store, newest(store), str(marker.get("identity"))
