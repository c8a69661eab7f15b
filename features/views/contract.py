"""The definition of a feature view: name, keys, features' meanings, and how to build it from a log and a catalogue."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import ibis
import ibis.expr.types as ir

from features.views.windows import Days, Measure, column, span_days, trailing, whole

_CODES = 1 << 24  # exceeds every category or brand code, and the distinct terms of a piece


@dataclass(frozen=True)
class ViewInput:
    """The inputs of a view.

    Attributes:
        log: Events from `features.engine.log`; for a view keyed by user, only events with a user. It may be limited to
            some keys (a shard), but has all their events.
        catalogue: `catalogue.parquet`.
        days: The days to snapshot.
        reach: Number of days that a user stays active after an event (`features.active_days`).
    """

    log: ir.Table
    catalogue: ir.Table
    days: Days
    reach: int

    def within(self, window: int) -> ir.Table:
        """Return the log without events too old for a window of `window` days on any requested day.

        The filter is on `event_time`, by which the file is sorted, so excluded rows are not even read.
        """
        oldest = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=self.days.first - window)
        return self.log.filter(self.log.event_time >= ibis.literal(oldest, "timestamp('UTC', 6)"))

    def while_active(self, *measures: Measure) -> ir.Table:
        """Return the trailing sums of `measures` for days on which the user had an event in the last `reach` days."""
        recent, key = self.within(self.reach), "user_id"
        events = recent.group_by(key, "event_day", "known_day").agg(alive=recent.count().cast("float64"))
        alive, spine = Measure(events, {"alive": (self.reach,)}), span_days(key, recent, self.reach, self.days)
        return trailing(key, spine, self.days, alive, *measures, only=column("alive", self.reach))

    def most_met(self, coded: ir.Table, window: int) -> ir.Table:
        """Return (user_id, day, count, total, values, code): the most frequent code per user and day, and its count.

        `total` counts all events with a code, and `values` the distinct codes. The smallest code wins a tie.
        """
        key, met = ("user_id", "code"), column("met", window)
        rows = coded.select(*key, "event_day", "known_day", met=whole(1))
        spine = span_days(key, rows, window, self.days)
        sums = trailing(key, spine, self.days, Measure(rows, {"met": (window,)}), only=met)
        # Encode the largest count, then the smallest code, in one integer below 2^53.
        best = sums.group_by("user_id", "day").agg(
            best=(sums[met] * _CODES - sums.code).max(), total=sums[met].sum(), values=sums.count()
        )
        top = best.mutate(count=(best.best / _CODES).ceil().cast("float64"))
        code = (top["count"] * _CODES - top.best).cast("int32")  # Spark requires 32-bit array indexes
        return top.select("user_id", "day", "count", "total", "values", code=code)


@dataclass(frozen=True, eq=False)
class View:
    """One feature view.

    Attributes:
        name: Name of the view in Feast and of its file.
        keys: Columns of the entity; events are sharded by the first one.
        meaning: One-sentence description.
        descriptions: Description of each feature, which ends with the unit in brackets.
        build: Returns (keys, day, features), one row per key and day, with columns in the order of `descriptions`.
            Doubles are stored as 32-bit integers if the unit is count, otherwise as 32-bit floats.
        online: Whether services may read it.
        every: Number of days between snapshots, back from the last day; None for the last day only.
        whole: Whether it needs the whole log at once, without shards (pairs of items, for example).
        reviews: Whether it reads `log.sentiment`, which is null otherwise.
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
