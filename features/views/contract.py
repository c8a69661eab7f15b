"""What a feature view is: name and keys, what its features mean, and how it is built from a log and a catalogue."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import ibis
import ibis.expr.types as ir

from features.views.windows import Days, Measure, column, span_days, trailing, whole

_CODES = 1 << 24  # above the code of any category or brand, and the number of different terms of a piece of the log


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

    def while_active(self, *measures: Measure) -> ir.Table:
        """Return the trailing sums of `measures` on days on which the user has an event of the last `reach` days."""
        recent, key = self.within(self.reach), "user_id"
        events = recent.group_by(key, "event_day", "known_day").agg(alive=recent.count().cast("float64"))
        alive, spine = Measure(events, {"alive": (self.reach,)}), span_days(key, recent, self.reach, self.days)
        return trailing(key, spine, self.days, alive, *measures, only=column("alive", self.reach))

    def most_met(self, coded: ir.Table, window: int) -> ir.Table:
        """Return (user_id, day, code met most, its count, count of all, count of codes), from events with a `code`.

        Among equal counts it is the smallest code.
        """
        key, met = ("user_id", "code"), column("met", window)
        rows = coded.select(*key, "event_day", "known_day", met=whole(1))
        spine = span_days(key, rows, window, self.days)
        sums = trailing(key, spine, self.days, Measure(rows, {"met": (window,)}), only=met)
        # Largest count first, smallest code among equals, in one whole number below 2^53.
        best = sums.group_by("user_id", "day").agg(
            best=(sums[met] * _CODES - sums.code).max(), total=sums[met].sum(), values=sums.count()
        )
        top = best.mutate(count=(best.best / _CODES).ceil().cast("float64"))
        code = (top["count"] * _CODES - top.best).cast("int32")  # Spark indexes an array by nothing wider
        return top.select("user_id", "day", "count", "total", "values", code=code)


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
