"""Files through a mapping into a lake, however large they are.

What is held in memory is what `events.bounded` holds, then a chunk of events at a time. Between the two the events lie
in a file of the temporary folder (`TMPDIR`), so that the append can look at them again where another writer was first.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from events.account import TableAccount
from events.contract import EVENT_SCHEMA, ITEM_SCHEMA, QUARANTINE_SCHEMA
from events.ingest import Ingested
from events.lake.append import append_chunks
from events.lake.manifest import File
from events.lake.sources import changed_since, source_columns
from events.lake.status import late_days
from events.lake.store import LocalStore, Place
from events.lake.tables import GroupedWriter, row_groups
from events.mapping import Mapping
from events.reading import Reading, inputs_digest, require_events
from events.sources.files import Size, find_files

_LABELLED: dict[str, Any] = EVENT_SCHEMA | {"table": pl.String}
_CHUNK = 1 << 19


@dataclass(frozen=True)
class Brought:
    """What became of files that were brought into a lake.

    Attributes:
        accounts: By label of a file.
        unread: Files of given folders that no table of the mapping reads.
        changes: What has changed in the source since it was last read, as lines for a person.
        late_days: Days to which events came after the lake had a later day.
    """

    accounts: dict[str, TableAccount]
    unread: tuple[str, ...]
    changes: list[str]
    late_days: list[str]


def _spooled(reading: Reading, place: Path) -> int:
    """Write the events with their tables to a file; return how many there are."""
    writer = GroupedWriter(place, _LABELLED, _CHUNK)
    for frame in reading.labelled():
        writer.add(frame)
    writer.close()
    return writer.rows


def _without_events(reading: Reading, digest: str) -> Ingested:
    nothing = pl.DataFrame(schema=EVENT_SCHEMA)
    return Ingested(
        events=nothing,
        items=pl.DataFrame(schema=ITEM_SCHEMA),
        users=reading.users,
        campaigns=reading.campaigns,
        quarantined=pl.DataFrame(schema=QUARANTINE_SCHEMA),
        accounts=reading.accounts(),
        origin=nothing.select("event_id", pl.lit(None, dtype=pl.String).alias("table")),
        item_table=reading.item_table,
        item_content=reading.content,
        digest=digest,
    )


def bring(
    place: Place, mapping: Mapping, inputs: list[Path], say: Callable[[str], None], size: Size | None = None
) -> Brought:
    """Read files through a mapping and append them to a lake, all or nothing.

    Args:
        place: A folder or an fsspec URL; made if it is new.
        mapping: The mapping.
        inputs: Files, or folders of them.
        say: Is told how far it is.
        size: Of what is held in memory at a time; what the lake holds does not depend on it.

    Raises:
        SourceError: an input cannot be read, none of its rows becomes an event, a column of it does not fit what the
            lake knows of the source, or the lake cannot be written.
        MappingError: a table lacks columns that the mapping reads.
    """
    columns = source_columns(mapping, inputs)
    version, said = changed_since(place, mapping, columns)
    with tempfile.TemporaryDirectory(prefix="shoplens-ingest-") as name:
        folder = Path(name)
        (folder / "reading").mkdir()
        reading = Reading(mapping, inputs, folder / "reading", size, say)
        rows = _spooled(reading, folder / "events.parquet")
        accounts = reading.accounts()
        if not rows:
            require_events(dict(sum((Counter(one.quarantined) for one in accounts.values()), Counter())), mapping)
        done = _without_events(reading, inputs_digest(mapping, find_files(inputs), list(accounts)))
        file = File(path="events.parquet", rows=rows, bytes=(folder / "events.parquet").stat().st_size)

        def chunks() -> Iterable[pl.DataFrame]:
            return row_groups(LocalStore(folder), file)

        accounts = append_chunks(place, mapping, done, chunks, columns, reading.quarantined)
    return Brought(accounts, reading.unread, said, [str(day) for day in late_days(place, version)])
