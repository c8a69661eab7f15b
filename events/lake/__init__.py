"""The lake: every accepted event by day, with side tables, quarantined rows and accounts, as Delta tables.

It is stored in a folder or on an object store, and any tool that reads Delta or Parquet can open it (see
`events.lake.table` for the layout). A batch is committed atomically (`events.lake.commit`) and files are immutable, so
readers see the lake either before or after a batch. Ingesting a file again has no effect: events are deduplicated by
ID, and the same inputs are committed only once.
"""

from events.lake.commit import append_events
from events.lake.ingest import ingest_files
from events.lake.maintenance import vacuum_lake
from events.lake.snapshot import (
    Snapshot,
    check_identity,
    freeze_lake,
    is_lake,
    known_since,
    lake_status,
)
from events.lake.table import Place, is_url

__all__ = [
    "Place",
    "Snapshot",
    "append_events",
    "check_identity",
    "freeze_lake",
    "ingest_files",
    "is_lake",
    "is_url",
    "known_since",
    "lake_status",
    "vacuum_lake",
]
