"""One person out of a lake: events, what the sources said of them, and rows set aside that name them.

A version of the lake without them is published as any other; then older versions are deleted with all files that only
they name. Items stay. Bringing in a file that still has the person brings them back: take them out of the files first.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from events.lake.manifest import Day, File, Manifest, newest, path_of, publish, read_version, versions
from events.lake.place import existing
from events.lake.store import Place, Store
from events.lake.tables import read_file, write_file
from shoplens.errors import SourceError

_TRIES = 100
_SIDES = ("users", "campaigns")  # the side tables that are of persons


@dataclass
class LakeErasure:
    """What was removed from a lake.

    Attributes:
        events: Rows of events.
        days: Days that had some.
        sides: Rows of users and campaigns, by table.
        quarantined: Rows set aside that named the person.
        versions: Older versions of the lake that were deleted.
        files: Files that only these named.
    """

    events: int = 0
    days: list[str] = field(default_factory=list)
    sides: dict[str, int] = field(default_factory=dict)
    quarantined: int = 0
    versions: int = 0
    files: int = 0


def _names(content: Any, user_id: str) -> bool:
    """Say whether a value of JSON is the id or holds it."""
    if isinstance(content, dict):
        return any(_names(one, user_id) for one in content.values())
    if isinstance(content, list):
        return any(_names(one, user_id) for one in content)
    return content is not None and not isinstance(content, bool) and str(content) == user_id


def _raw_names(raw: str, user_id: str) -> bool:
    """Say whether a row as it was read names the person; one that is no JSON does where the id is one of its words."""
    if user_id not in raw and json.dumps(user_id)[1:-1] not in raw:
        return False
    try:
        return _names(json.loads(raw), user_id)
    except ValueError:
        return user_id in raw.replace(",", " ").replace(";", " ").replace("\t", " ").replace('"', " ").split()


def _of_user(user_id: str) -> Callable[[pl.DataFrame], pl.Series]:
    return lambda rows: rows["user_id"].cast(pl.String).eq_missing(user_id)


def _naming(user_id: str) -> Callable[[pl.DataFrame], pl.Series]:
    return lambda rows: pl.Series(
        [raw is not None and _raw_names(raw, user_id) for raw in rows["raw"]], dtype=pl.Boolean
    )


def _without(
    store: Store, file: File, folder: str, asked: str, gone: Callable[[pl.DataFrame], pl.Series]
) -> tuple[File, int]:
    """Return a file without some rows, and how many those were; the same file where there are none.

    Args:
        store: Of the lake.
        file: The file.
        folder: Where a new one goes.
        asked: The column that `gone` looks at.
        gone: Says of every row whether it is to go.
    """
    if not gone(read_file(store, file, [asked])).any():
        return file, 0
    rows = read_file(store, file)
    kept = rows.filter(~gone(rows))
    return write_file(store, folder, kept), rows.height - kept.height


def _next(store: Store, held: Manifest, user_id: str, done: LakeErasure) -> Manifest | None:
    days: dict[str, Day] = {}
    for date, day in held.days.items():
        files = []
        for file in day.files:
            kept, count = _without(store, file, f"events/event_date={date}", "user_id", _of_user(user_id))
            files.append(kept)
            done.events += count
        changed = tuple(files) != day.files
        done.days += [date] if changed else []
        days[date] = day.model_copy(update={"files": tuple(files), "changed": held.version + 1}) if changed else day
    sides = dict(held.sides)
    for name in _SIDES:
        if name in sides:
            sides[name], done.sides[name] = _without(store, sides[name], "sides", "user_id", _of_user(user_id))
    quarantine = []
    for file in held.quarantine:
        kept, count = _without(store, file, "quarantine", "raw", _naming(user_id))
        quarantine.append(kept)
        done.quarantined += count
    return held.next(days=days, sides=sides, quarantine=tuple(quarantine))


def _forget(store: Store, current: Manifest, done: LakeErasure) -> None:
    """Delete the versions before this one, and the files that only they name."""
    old = [version for version in versions(store) if version < current.version]
    named = {path for version in old for path in read_version(store, version).files()} - current.files()
    for path in [path_of(version) for version in old]:  # first: a version whose files are gone must not be found
        store.delete(path)
    for path in sorted(named):
        store.delete(path)
    done.versions, done.files = len(old), len(named)


def erase_from_lake(place: Place, user_id: str) -> LakeErasure:
    """Remove a person from a lake, all or nothing; again, it finds nothing and ends what a killed run left undone.

    Whoever reads an older version meanwhile is told to run again. Files that killed writers left go within a day, with
    those of every sweep (`events.lake.vacuum`).

    Args:
        place: A folder or an fsspec URL that holds a lake.
        user_id: Of the contract.

    Raises:
        SourceError: there is no lake, a file of it cannot be read, or other writers were always first.
    """
    store = existing(place)[0]
    for _ in range(_TRIES):
        held, done = newest(store), LakeErasure()
        manifest = _next(store, held, user_id, done)
        if manifest is None or publish(store, manifest):
            _forget(store, manifest or held, done)
            return done
    raise SourceError(f"lake: {store.name}: other writers were first {_TRIES} times. Run it again")
