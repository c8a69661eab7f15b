"""What a feature view is: name and keys, what its features mean, and how it is built from a log and a catalogue."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import ibis
import ibis.expr.types as ir

from features.views.windows import Days


@dataclass(frozen=True)
class ViewInput:
    """What a view is computed from.

    Attributes:
        log: Events as `features.engine.log` reads them; for a view keyed by user only those that have a user. It may
            hold only the events of some keys (a shard), but all events of each.
        catalogue: `catalogue.parquet`.
        days: Which days get a snapshot.
        reach: Days after an event that a user stays active (`features.active_days`).
    """

    log: ir.Table
    catalogue: ir.Table
    days: Days
    reach: int

    def within(self, window: int) -> ir.Table:
        """Return the log without what is too old to be in a window of `window` days on any day asked for.

        The condition is on `event_time`, which the file is sorted by: what it excludes is not read.
        """
        oldest = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=self.days.first - window)
        return self.log.filter(self.log.event_time >= ibis.literal(oldest, "timestamp('UTC', 6)"))


@dataclass(frozen=True, eq=False)
class View:
    """One feature view.

    Attributes:
        name: As Feast and the file call it.
        keys: Columns of the entity; events are sharded by a hash of the first.
        meaning: One sentence for people.
        descriptions: Feature -> what it means and its unit in the last brackets.
        build: From the inputs to (keys, day, features), one row per key and day. The order of columns is that of
            `descriptions`; a double is kept as a 32-bit integer if its unit is count, else as a 32-bit float.
        online: Whether a service may ask for it.
        every: Days from one snapshot to the next, back from the last; None: only the last day has any.
        whole: It needs all of the log at once (pairs of items, for example): no shards.
        reviews: It reads `log.sentiment`; without this the column is null everywhere.
    """

    name: str
    keys: tuple[str, ...]
    meaning: str
    descriptions: Mapping[str, str]
    build: Callable[[ViewInput], ir.Table]
    online: bool = True
    every: int | None = 1
    whole: bool = False
    reviews: bool = False

    @property
    def counts(self) -> frozenset[str]:
        """Features with the unit count."""
        return frozenset(name for name, text in self.descriptions.items() if "(count" in text)
