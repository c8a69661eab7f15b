"""Who was erased on request, as hashes of the IDs, in `var/feast/erased.json` and in every online store.

A store rejects rows of an erased user, so that neither a late push nor a load of older data brings the person back. A
tombstone is kept until features were computed from data that reach at least to the moment of the erasure and no longer
contain the person.
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
    """Return the hash of an ID: whoever knows the ID can check that it was erased; it cannot be read from the hash."""
    return blake2b(user_id.encode(), digest_size=16, person=_PERSON).hexdigest()


def read_tombstones(path: Path) -> dict[str, str]:
    """Return the hash of every erased ID, with the time of the data's clock when it was erased (ISO 8601).

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
    """Record that a person was erased when the data's clock showed `moment` (None: nothing was loaded)."""
    held, name = read_tombstones(path), tombstone(user_id)
    erased_at = moment.isoformat() if moment is not None else ""
    write_json(path, {**held, name: max(erased_at, held.get(name, ""))})


def lift_tombstones(path: Path, features_dir: Path, high_water: datetime) -> None:
    """Remove the tombstones of people whom the features, which reach to `high_water`, no longer contain."""
    held = read_tombstones(path)
    due = {name for name, moment in held.items() if not moment or datetime.fromisoformat(moment) <= high_water}
    for table in map(pl.scan_parquet, sorted(features_dir.glob("*.parquet")) if due else ()):
        if ERASABLE_KEY in table.collect_schema():
            people = table.select(pl.col(ERASABLE_KEY).unique()).collect(engine="streaming")
            due -= {tombstone(user_id) for user_id in people[ERASABLE_KEY]}
    if due:
        write_json(path, {name: moment for name, moment in held.items() if name not in due})
