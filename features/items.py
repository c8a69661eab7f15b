"""Item tables: how each item sold as of a time, the input of models that rank items.

A table as of T counts events known before T only, so a row may use the newest table at or before its own time. Tables
are weekly in a log of months and denser in a shorter one; a service uses the one as of the end of its data.
"""

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from features.catalogue import UNKNOWN_INDEX
from features.histories import EventLog, UserLog
from features.promotions import Promotions
from features.recent import EVENT_CODES, TAKEN_BACK
from shoplens.errors import FeatureError

DECAYS = (7.0, 28.0, 91.0)  # days
_DAY = 86_400_000_000.0  # microseconds
_EPSILON = 1e-3  # days: 1.4 minutes
_STEP = np.timedelta64(7, "D")
_FEWEST = 32  # tables over the log's time, where that is shorter than as many weeks

DESCRIPTIONS: dict[str, str] = {
    **{f"item_events_{days:.0f}d": f"Events with the item, decayed over {days:.0f} days (count)." for days in DECAYS},
    **{f"item_buys_{days:.0f}d": f"Purchases of the item, decayed over {days:.0f} days (count)." for days in DECAYS},
    "item_buyers": "Different users who bought the item (count).",
    "item_repeats": "Purchases of the item by a user who had bought it before (count).",
    "item_log_gap_mean": "log(days) between purchases of the item by the same user, mean (0: no repeat).",
    "item_log_gap_deviation": "The same, standard deviation (0: no repeat).",
    "item_price": "Price paid per piece, mean over all purchases (currency of the shop; NaN: never sold).",
    "item_price_now": "Price paid per piece, mean decayed over 7 days (currency of the shop; NaN: never sold).",
}
NAMES: tuple[str, ...] = tuple(DESCRIPTIONS)
_LONGEST = NAMES.index(f"item_events_{max(DECAYS):.0f}d")


@dataclass(frozen=True)
class ItemTables:
    """Statistics of every item as of several times.

    Attributes:
        times: When each table was taken, datetime64[us] (tables,), ascending.
        values: float32 (tables, catalogue size, len(NAMES) + len(announced)).
        announced: What is counted of promotions, in the columns after NAMES; empty for a shop that announces none.
    """

    times: NDArray[np.datetime64]
    values: NDArray[np.float32]
    announced: tuple[str, ...] = ()

    def at(self, now: NDArray[np.datetime64]) -> NDArray[np.int64]:
        """Return the newest table at or before each time, (rows,).

        Raises:
            FeatureError: there is no table that early.
        """
        place = np.searchsorted(self.times, now, side="right") - 1
        if len(place) and place.min() < 0:
            raise FeatureError(f"item tables: begin at {self.times[0]}; received the earlier time {np.min(now)}")
        return np.asarray(place, dtype=np.int64)

    def used(self, now: NDArray[np.datetime64]) -> "ItemTables":
        """Return only the tables that rows at these times use."""
        kept = np.unique(self.at(now))
        return ItemTables(self.times[kept], self.values[kept], self.announced)

    @property
    def latest(self) -> "ItemTables":
        """The newest table alone, to be used at any time: a service has no other."""
        return ItemTables(np.zeros(1, dtype="datetime64[us]"), self.values[-1:], self.announced)

    def moved(self, place: NDArray[np.int32]) -> "ItemTables":
        """Return the tables in the indexes of another catalogue: its index k is `place[k]` here.

        An item that is unknown here (1) has no events.
        """
        values = self.values[:, place]
        values[:, place <= UNKNOWN_INDEX] = _nothing_sold(1, 1, self.announced)[0]
        return ItemTables(self.times, values, self.announced)

    def write(self, path: Path) -> None:
        """Write the tables without items that have no event and no promotion; the same tables give the same bytes."""
        # Over 91 days: after two years, decay over 7 days rounds to 0.
        table, item = np.nonzero((self.values[:, :, _LONGEST] > 0) | (self.values[:, :, len(NAMES) :] > 0).any(axis=-1))
        np.savez_compressed(
            path,
            times=self.times,
            size=np.array(self.values.shape[1]),
            announced=np.array(self.announced, dtype=np.str_),
            table=table.astype(np.int32),
            item=item.astype(np.int32),
            values=self.values[table, item],
        )

    @classmethod
    def read(cls, path: Path) -> "ItemTables":
        """Read what `write` wrote.

        Raises:
            FeatureError: the file is missing or unreadable.
        """
        try:
            with np.load(path) as kept:
                times = kept["times"].astype("datetime64[us]")
                announced = tuple(str(name) for name in kept["announced"])
                values = _nothing_sold(len(times), int(kept["size"]), announced)
                values[kept["table"], kept["item"]] = kept["values"]
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise FeatureError(f"item tables {path}: cannot be read ({error}). Run the training stage") from error
        return cls(times, values, announced)


def _nothing_sold(tables: int, size: int, announced: tuple[str, ...]) -> NDArray[np.float32]:
    """Return tables of items without an event or a promotion."""
    values = np.zeros((tables, size, len(NAMES) + len(announced)), dtype=np.float32)
    values[:, :, [k for k, name in enumerate(NAMES) if name.startswith("item_price")]] = np.nan
    return values


def table_times(start: np.datetime64, end: np.datetime64) -> NDArray[np.datetime64]:
    """Return the times of the tables, ascending: back from `end` week by week, or in equal steps of a shorter log."""
    step = min(_STEP, max((end - start) // _FEWEST, np.timedelta64(1, "us")))
    count = int((end - start) // step)
    return end - step * np.arange(count, -1, -1)


@dataclass(frozen=True)
class _Lines:
    """Events with an item, sorted by user, item and time."""

    user: NDArray[np.int64]
    item: NDArray[np.int32]
    time: NDArray[np.int64]
    known: NDArray[np.int64]
    bought: NDArray[np.bool_]
    quantity: NDArray[np.float64]
    amount: NDArray[np.float64]


def _lines(log: UserLog) -> _Lines:
    events: EventLog = log.events
    place = np.flatnonzero((np.asarray(events.item_index) > 1) & ~np.isin(events.event_code, TAKEN_BACK))
    begins = np.sort(log.users["begin"].to_numpy())
    user = np.searchsorted(begins, place, side="right")
    order = np.lexsort((events.event_time[place], events.item_index[place], user))
    place, user = place[order], user[order]
    return _Lines(
        user,
        np.asarray(events.item_index[place]),
        events.event_time[place].astype(np.int64),
        events.known_time[place].astype(np.int64),
        events.event_code[place] == EVENT_CODES["purchase"],
        events.quantity[place].astype(np.float64),
        events.amount[place].astype(np.float64),
    )


def _repeats(lines: _Lines) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return, for each purchase, whether the user had bought the item before, and the gap in days.

    A second line at the same time is part of the same purchase.
    """
    again = np.zeros(len(lines.item), dtype=bool)
    gap = np.zeros(len(lines.item))
    buys = np.flatnonzero(lines.bought)
    if len(buys) > 1:
        same = (lines.user[buys[1:]] == lines.user[buys[:-1]]) & (lines.item[buys[1:]] == lines.item[buys[:-1]])
        days = (lines.time[buys[1:]] - lines.time[buys[:-1]]) / _DAY
        again[buys[1:]] = same & (days > 0)
        gap[buys[1:]] = np.where(same, days, 0.0)
    return again, gap


def item_tables(
    log: UserLog, size: int, times: NDArray[np.datetime64], promotions: Promotions | None = None
) -> ItemTables:
    """Compute the tables of all items as of each time.

    Args:
        log: All events.
        size: Catalogue size.
        times: datetime64[us] (tables,), ascending.
        promotions: What was announced; None for a shop that announces nothing.
    """
    lines = _lines(log)
    again, gap = _repeats(lines)
    log_gap = np.log(gap + _EPSILON)
    first = np.append(True, (lines.user[1:] != lines.user[:-1]) | (lines.item[1:] != lines.item[:-1]))[: len(gap)]
    buys: NDArray[np.int64] = np.cumsum(lines.bought) - lines.bought
    opening = np.maximum.accumulate(np.where(first, np.arange(len(first)), 0)) if len(first) else buys
    new = lines.bought & (buys == buys[opening]) if len(first) else lines.bought  # the first purchase by this user
    announced = () if promotions is None else promotions.names
    values = np.zeros((len(times), size, len(NAMES) + len(announced)), dtype=np.float32)
    for k, moment in enumerate(times.astype("datetime64[us]").astype(np.int64)):
        known = np.flatnonzero(lines.known < moment)
        values[k, :, : len(NAMES)] = _table(lines, known, moment, size, again, log_gap, new)
        if promotions is not None:
            values[k, :, len(NAMES) :] = promotions.ahead(moment, size)
    return ItemTables(times.astype("datetime64[us]"), values, announced)


def _table(
    lines: _Lines,
    known: NDArray[np.int64],
    moment: int,
    size: int,
    again: NDArray[np.bool_],
    log_gap: NDArray[np.float64],
    new: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Return one table, (size, len(NAMES)), from the places of the known lines."""

    def total(item: NDArray[np.int32], weight: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        return np.bincount(item, weight, size).astype(np.float64)

    def mean(top: NDArray[np.float64], bottom: NDArray[np.float64], empty: float) -> NDArray[np.float64]:
        found: NDArray[np.float64] = np.divide(top, bottom, out=np.full(size, empty), where=bottom > 0)
        return found

    item, age = lines.item[known], (moment - lines.time[known]) / _DAY
    bought = lines.bought[known]
    sold, since = item[bought], age[bought]
    quantity, amount = lines.quantity[known][bought], lines.amount[known][bought]
    priced = (quantity > 0) & (amount > 0)
    fresh = np.exp(-since / DECAYS[0])
    repeat = known[again[known]]
    often, gaps = total(lines.item[repeat]), log_gap[repeat]
    centre = mean(total(lines.item[repeat], gaps), often, 0.0)
    square = mean(total(lines.item[repeat], gaps * gaps), often, 0.0)

    def price(weight: NDArray[np.float64]) -> NDArray[np.float64]:
        paid, pieces = (total(sold[priced], (part * weight)[priced]) for part in (amount, quantity))
        return mean(paid, pieces, np.nan)

    columns = [
        *(total(item, np.exp(-age / days)) for days in DECAYS),
        *(total(sold, np.exp(-since / days)) for days in DECAYS),
        total(lines.item[known[new[known]]]),
        often,
        centre,
        np.sqrt(np.maximum(square - centre**2, 0.0)),
        price(np.ones(len(sold))),
        price(np.maximum(fresh, 1e-30)),
    ]
    return np.stack(columns, axis=1)
