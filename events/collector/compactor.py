"""The follower that brings the log into the lake."""

from collections.abc import Sequence
from pathlib import Path

from events.collector.log import Record
from events.collector.records import tables_of
from events.lake import append_events


class Compactor:
    """Adds records to the lake, a batch all or nothing; a batch that was added before changes nothing."""

    name = "compact"

    def __init__(self, lake: Path, identity: str, log_id: str) -> None:
        """Name the lake, the kind of identity of its events, and the log that they come from."""
        self._lake, self._identity, self._log_id = lake, identity, log_id

    def rewind(self) -> bool:
        """Return False: what is in the lake stays."""
        return False

    def follow(self, records: Sequence[Record]) -> None:
        """Append events and what was set aside."""
        events, quarantined = tables_of(records)
        batch = f"collector:{self._log_id}:{records[0].position}-{records[-1].position}"
        append_events(self._lake, self._identity, events, quarantined, batch)
