"""Tombstones: hashes of erased people's IDs, in `var/feast/erased.json` and in every online store.

A store rejects rows of an erased user, so that neither a late push nor a load of older data brings the person back. A
tombstone is kept until features are computed from data that extends past the erasure and no longer contains the
person.
"""

from datetime import datetime
from hashlib import blake2b
from pathlib import Path

import polars as pl

from shoplens.errors import StoreUnavailableError
from shoplens.files import read_json, write_json

ERASABLE_KEY = "user_id"  # the key that identifies a person; items are not people
_PERSON = b"shoplens-erased"


def tombstone(user_id: str) -> str:
    """Return the hash of an ID. Knowing the ID, one can check that it was erased; the hash does not reveal it."""
    return blake2b(user_id.encode(), digest_size=16, person=_PERSON).hexdigest()


def read_tombstones(path: Path) -> dict[str, str]:
    """Return the hash of every erased ID with the data clock's time of erasure (ISO 8601).

    Raises:
        StoreUnavailableError: the file cannot be read; without it erased people would come back.
    """
    try:
        return dict(read_json(path))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        raise StoreUnavailableError(
            f"{path}: must be readable ({error}); restore it, or erase the same people again"
        ) from error


def add_tombstone(path: Path, user_id: str, moment: datetime | None) -> None:
    """Record that a person was erased at `moment` of the data's clock (None if nothing was loaded)."""
    held, name = read_tombstones(path), tombstone(user_id)
    erased_at = moment.isoformat() if moment is not None else ""
    write_json(path, {**held, name: max(erased_at, held.get(name, ""))})


def lift_tombstones(path: Path, features_dir: Path, high_water: datetime) -> None:
    """Remove the tombstones of people whom the features up to `high_water` no longer contain."""
    held = read_tombstones(path)
    due = {name for name, moment in held.items() if not moment or datetime.fromisoformat(moment) <= high_water}
    for table in map(pl.scan_parquet, sorted(features_dir.glob("*.parquet")) if due else ()):
        if ERASABLE_KEY in table.collect_schema():
            people = table.select(pl.col(ERASABLE_KEY).unique()).collect(engine="streaming")
            due -= {tombstone(user_id) for user_id in people[ERASABLE_KEY]}
    if due:
        write_json(path, {name: moment for name, moment in held.items() if name not in due})
