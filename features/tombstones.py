"""Who was erased, as hashes, in `var/feast/erased.json`: every store gets them before anything is loaded into it.

A tombstone stays until the features were computed from data that reach at least to the moment of the erasure and name
the person no more. Until then neither older data nor a late push restores the person.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pyarrow.parquet as pq

from features.online_stores.erased import ERASABLE_KEY, tombstone
from features.store import Places
from shoplens.errors import StoreUnavailableError
from shoplens.files import read_json, write_json


def read_tombstones(where: Places) -> dict[str, str]:
    """Return the hash of every erased ID, with the moment of the data's clock at which it was erased (ISO 8601).

    Raises:
        StoreUnavailableError: they cannot be understood; without them erased people would come back.
    """
    try:
        return dict(read_json(where.erased))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        raise StoreUnavailableError(
            f"{where.erased}: cannot be read ({error}); restore it, or erase the same people again"
        ) from error


def add_tombstone(where: Places, user_id: str, moment: datetime | None) -> None:
    """Record that a person was erased, when the data's clock stood at `moment` (None: there were no data)."""
    held = read_tombstones(where)
    erased_at = moment.isoformat() if moment is not None else ""
    name = tombstone(user_id)
    write_json(where.erased, {**held, name: max(erased_at, held.get(name, ""))})


def lift_tombstones(where: Places, features_dir: Path, high_water: datetime) -> None:
    """Remove the tombstones of people who no longer occur in the features, which are known until `high_water`."""
    held = read_tombstones(where)
    due = {name for name, moment in held.items() if not moment or datetime.fromisoformat(moment) <= high_water}
    if not due:
        return
    for value in _people(features_dir):
        due.discard(tombstone(value))
    if due:
        write_json(where.erased, {name: moment for name, moment in held.items() if name not in due})


def _people(features_dir: Path) -> Iterator[str]:
    """Yield the ID of every person in tables of features, a table at a time."""
    for path in sorted(features_dir.glob("*.parquet")):
        with pq.ParquetFile(path) as table:
            if ERASABLE_KEY in table.schema_arrow.names:
                for batch in table.iter_batches(columns=[ERASABLE_KEY]):
                    yield from batch.column(0).unique().to_pylist()
