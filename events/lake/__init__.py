"""The lake: every accepted event by day, with side tables, quarantined rows and accounts, as Delta tables.

It lies in a folder or on an object store, and opens in any tool that reads Delta or Parquet (the layout is in
`events.lake.table`). A batch is committed with all its rows, or not at all (`events.lake.commit`); no file is changed
once it is written, so readers see a lake before a batch or after it. Ingesting a file again changes nothing: events are
known by their ID, and the same inputs are committed once.
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
