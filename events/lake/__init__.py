"""The lake: every accepted event by day, with items, users, campaigns, the rows set aside and accounts beside it.

    LAKE/lake.json                                       what kind of source it holds
    LAKE/manifests/000000000007.json                     a version: the files that the lake consists of
    LAKE/events/event_date=2017-01-31/NAME.parquet       events of one day
    LAKE/index/NAME.parquet                              which event ids there are, and on which days
    LAKE/sides  quarantine  accounts/NAME.parquet

It lies in a folder or at any fsspec URL. An append publishes a version with all that it brings, or none
(`events.lake.append`); no file is changed once it is written, so that readers see a lake before an append or after it.
Reading a file again changes nothing: events are known by their id, and the account of the same files through the same
mapping is kept once.
"""

from events.lake.append import LIVE, append, append_chunks, append_events
from events.lake.bring import Brought, bring
from events.lake.freeze import freeze_lake, known_since, read_events, read_frozen
from events.lake.place import check_identity, is_lake, open_lake
from events.lake.status import (
    lake_accounts,
    lake_digest,
    lake_quarantine,
    lake_status,
    lake_version,
    late_days,
    touched_days,
)

__all__ = [
    "LIVE",
    "Brought",
    "append",
    "append_chunks",
    "append_events",
    "bring",
    "check_identity",
    "freeze_lake",
    "is_lake",
    "known_since",
    "lake_accounts",
    "lake_digest",
    "lake_quarantine",
    "lake_status",
    "lake_version",
    "late_days",
    "open_lake",
    "read_events",
    "read_frozen",
    "touched_days",
]
