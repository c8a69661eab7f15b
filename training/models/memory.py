"""What a user's history says about an item: how often, how recently and how regularly the user took it.

The description covers the item itself and the categories it belongs to, with time since the last event relative to the
user's own gaps and to the gaps of all users with this item. Repeat consumption follows frequency, recency and such gaps
(Anderson et al., WWW 2014; Benson et al., WWW 2016).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.histories import Histories
from features.items import NAMES as ITEM_NAMES
from features.items import ItemTables
from features.recent import EVENT_CODES, TAKEN_BACK
from training.models.ranking import best_first

Numbers = NDArray[np.float64]
Places = NDArray[np.int64]
DECAYS = (1.0, 7.0, 14.0, 30.0, 90.0, 180.0, 365.0)  # days
_SHORT, _MIDDLE, _LONG = 3, 4, 6  # places of 30, 90 and 365 days in DECAYS
_DAY = 86_400_000_000.0  # microseconds
_EPSILON = 1e-3  # of a count, and of a day: 1.4 minutes
_LEVELS = ("category_1_code", "category_2_code", "category_3_code", "brand_code")


def _log(values: Numbers) -> Numbers:
    """Return log(x + 0.001): days from a minute to years, and decayed counts, on one scale each."""
    return np.log(np.maximum(values, 0.0) + _EPSILON)


@dataclass(frozen=True)
class Visits:
    """The events with an item of a batch of rows, flat and in order, without those that take an item back.

    Attributes:
        rows: Number of rows.
        row: Row of each event.
        item: Catalogue index.
        age: Days before the row's time.
        basket: Number of the order or session, counted back from the row's latest, which is 0.
        back: Number of later events of the row.
        bought: Whether the event is a purchase.
        carted: Whether it is an addition to the cart.
        quantity: Pieces.
        amount: Amount of the line.
        baskets_decayed: Orders or sessions decayed over DECAYS, (rows, decays).
        last_age: Days since the latest order or session, (rows,); NaN without one.
        mean_gap: Mean days between orders or sessions, (rows,); NaN with fewer than two.
    """

    rows: int
    row: Places
    item: NDArray[np.int64]
    age: Numbers
    basket: Places
    back: Places
    bought: NDArray[np.bool_]
    carted: NDArray[np.bool_]
    quantity: Numbers
    amount: Numbers
    baskets_decayed: Numbers
    last_age: Numbers
    mean_gap: Numbers

    @classmethod
    def read(cls, history: Histories, now: NDArray[np.datetime64]) -> "Visits":
        """Read the events with a known item from the histories of rows at `now`, (rows,)."""
        rows, log = len(history), history.log
        row, place = history.flat()
        has = (log.item_index[place] > 1) & ~np.isin(log.event_code[place], TAKEN_BACK)
        row, place = row[has], place[has]
        age = (now[row].astype("datetime64[us]") - log.event_time[place]).astype(np.int64) / _DAY
        order = log.order[place]
        opens = np.append(True, (row[1:] != row[:-1]) | (order[1:] != order[:-1]))[: len(row)]
        number = np.cumsum(opens) - 1
        count = np.bincount(row[opens], minlength=rows)
        last = np.cumsum(count) - 1  # the number of each row's latest basket
        events = np.bincount(row, minlength=rows)
        ages = age[opens]
        decayed = np.stack([np.bincount(row[opens], np.exp(-ages / d), rows) for d in DECAYS], axis=1)
        newest, oldest = np.full(rows, np.nan), np.full(rows, np.nan)
        some = count > 0
        newest[some], oldest[some] = ages[last[some]], ages[(last - count + 1)[some]]
        gap: Numbers = np.divide(oldest - newest, count - 1, out=np.full(rows, np.nan), where=count > 1)
        code = log.event_code[place]
        return cls(
            rows,
            row,
            log.item_index[place].astype(np.int64),
            age,
            (last[row] - number).astype(np.int64),
            (np.cumsum(events)[row] - 1 - np.arange(len(row))).astype(np.int64),
            code == EVENT_CODES["purchase"],
            code == EVENT_CODES["add_to_cart"],
            log.quantity[place].astype(np.float64),
            log.amount[place].astype(np.float64),
            np.asarray(decayed, dtype=np.float64),
            newest,
            gap,
        )


@dataclass(frozen=True)
class Rhythm:
    """How each (row, key) recurs; `key` is an item or a category. One entry per pair, sorted by (row, key).

    Several events of a pair at the same moment count once.
    """

    code: Places  # row * stride + key, ascending
    stride: int
    row: Places
    key: Places
    count: Numbers
    decayed: Numbers  # (pairs, decays)
    first_age: Numbers
    last_age: Numbers
    last_basket: Places
    first_basket: Places
    back: Places
    gap_mean: Numbers  # of log days; NaN without a second event
    gap_recent: Numbers  # the same, decayed over 90 days
    gap_deviation: Numbers
    gap_last: Numbers

    @classmethod
    def of(cls, visits: Visits, key: NDArray[np.int64], stride: int) -> "Rhythm":
        """Group the visits by row and key, (events,), each key below `stride`."""
        code = visits.row * stride + key
        order = np.argsort(code, kind="stable")
        code, age = code[order], visits.age[order]
        once = np.append(True, (code[1:] != code[:-1]) | (age[1:] != age[:-1]))[: len(code)]
        order, code, age = order[once], code[once], age[once]
        opens = np.append(True, code[1:] != code[:-1])[: len(code)]
        start = np.flatnonzero(opens)
        end = np.append(start[1:], len(code))[: len(start)] - 1
        pair, pairs = np.cumsum(opens) - 1, len(start)
        gap = np.where(opens, 0.0, _log(np.append(0.0, age[:-1] - age[1:])[: len(age)]))
        weight = np.where(opens, 0.0, np.exp(-age / DECAYS[_MIDDLE]))
        count = (end - start + 1).astype(np.float64)
        again = np.where(count > 1, count - 1, np.nan)
        mean = np.bincount(pair, gap, pairs) / again
        square = np.bincount(pair, gap * gap, pairs) / again
        recent = np.bincount(pair, gap * weight, pairs) / np.where(count > 1, np.bincount(pair, weight, pairs), np.nan)
        return cls(
            code=code[start],
            stride=stride,
            row=visits.row[order][start],
            key=key[order][start],
            count=count,
            decayed=np.stack([np.bincount(pair, np.exp(-age / d), pairs) for d in DECAYS], axis=1),
            first_age=age[start],
            last_age=age[end],
            last_basket=visits.basket[order][end],
            first_basket=visits.basket[order][start],
            back=visits.back[order][end],
            gap_mean=mean,
            gap_recent=recent,
            gap_deviation=np.sqrt(np.maximum(square - mean**2, 0.0)),
            gap_last=np.where(count > 1, gap[end], np.nan),
        )

    def find(self, row: Places, key: NDArray[np.int64]) -> tuple[Places, NDArray[np.bool_]]:
        """Return the entry of each asked pair, and whether it exists; where not, the entry is meaningless."""
        asked = row * self.stride + key
        place = np.minimum(np.searchsorted(self.code, asked), max(len(self.code) - 1, 0))
        return place, (self.code[place] == asked if len(self.code) else np.zeros(len(asked), dtype=bool))


def memory_score(rhythm: Rhythm) -> Numbers:
    """Return how present each (row, item) is: decayed counts, the count that a person would rank by."""
    return np.asarray(rhythm.decayed[:, _MIDDLE] + 0.3 * rhythm.decayed[:, _LONG])


def ranks(row: Places, score: Numbers, rows: int) -> Places:
    """Return the place of each entry within its row by descending score, from 0; `row` is ascending."""
    order = best_first(row, score)
    count = np.bincount(row, minlength=rows)
    result = np.empty(len(row), dtype=np.int64)
    result[order] = np.arange(len(row)) - (np.cumsum(count) - count)[row[order]]
    return result


class Describer:
    """Describes (row, item) pairs by numbers, for a catalogue.

    Missing values are 0 beside a flag, or where 0 is neutral (a ratio's logarithm).
    """

    def __init__(self, codes: dict[str, NDArray[np.int64]], size: int) -> None:
        """Keep the category codes of every catalogue index, each (size,), by level."""
        self._levels = [(name, codes[name]) for name in _LEVELS if codes[name].max(initial=0) > 0]
        self.size = size
        self.names: tuple[str, ...] = ()

    def describe(
        self,
        visits: Visits,
        own: Rhythm,
        row: Places,
        item: NDArray[np.int64],
        table: Numbers,
        announced: tuple[str, ...] = (),
    ) -> Numbers:
        """Return the features, (pairs, features).

        Args:
            visits: The events of the rows.
            own: Their rhythm by item.
            row: Row of each pair, (pairs,).
            item: Catalogue index of each pair.
            table: Item statistics of each pair as of its row, (pairs, len(ITEM_NAMES) + len(announced)).
            announced: What the further columns of `table` count; see `ItemTables.announced`.
        """
        columns: dict[str, Numbers] = {}
        place, known = own.find(row, item)
        for name, values in self._own(visits, own, row, place):
            columns[name] = np.where(known, values, 0.0)
        columns["known"] = known.astype(np.float64)
        recency = np.where(known, _log(own.last_age[place]) if len(own.code) else 0.0, 0.0)
        frequency = np.where(known, own.decayed[place, _MIDDLE] if len(own.code) else 0.0, 0.0)
        for level, code in self._levels:
            columns |= self._level(level, code, visits, row, item, known, frequency)
        paid = self._paid(visits, own, place, known)
        columns |= _item_columns(table, recency, known, *paid)
        for k, name in enumerate(announced, len(ITEM_NAMES)):
            columns[name] = np.log1p(table[:, k])
        for name, values in (("visit_age", visits.last_age), ("visit_gap", visits.mean_gap)):
            columns[name] = np.where(np.isnan(values), 0.0, _log(values))[row]
        columns["visits_30d"] = _log(visits.baskets_decayed[:, _SHORT])[row]
        columns["items_known"] = np.log1p(np.bincount(own.row, minlength=visits.rows))[row]
        columns["events"] = np.log1p(np.bincount(visits.row, minlength=visits.rows))[row]
        self.names = tuple(columns)
        return np.nan_to_num(np.stack(list(columns.values()), axis=1))

    def _own(self, visits: Visits, own: Rhythm, row: Places, place: Places) -> Iterator[tuple[str, Numbers]]:
        """Yield the features of the pairs at `place`, meaningless where a pair is unknown."""
        if not len(own.code):
            yield from ((name, np.zeros(len(row))) for name in _OWN)
            return
        decayed = own.decayed[place]
        for k, days in enumerate(DECAYS):
            yield f"count_{days:.0f}d", _log(decayed[:, k])
        for k in (_SHORT, _MIDDLE, _LONG):
            of_visits = visits.baskets_decayed[row, k]
            yield f"share_{DECAYS[k]:.0f}d", _log(decayed[:, k]) - np.log(of_visits + 10 * _EPSILON)
        score = memory_score(own)
        recency, count = _log(own.last_age[place]), own.count[place]
        yield "count", np.log(count)
        yield "recency", recency
        yield "first", _log(own.first_age[place])
        yield "rank", np.log1p(ranks(own.row, score, visits.rows)[place])
        yield "rank_30d", np.log1p(ranks(own.row, own.decayed[:, _SHORT], visits.rows)[place])
        yield "repeated", (count > 1).astype(np.float64)
        for name in ("gap_mean", "gap_deviation", "gap_last"):
            yield name, getattr(own, name)[place]
        for name in ("gap_mean", "gap_recent", "gap_last"):
            yield f"recency_to_{name}", recency - getattr(own, name)[place]
        since, opened = own.last_basket[place], own.first_basket[place] + 1
        yield "visits_since", np.log1p(since)
        yield "visits_known", np.log1p(opened)
        yield "visit_rate", np.minimum(count / opened, 4.0)
        yield "events_since", np.log1p(own.back[place])
        for name, kind in (("bought", visits.bought), ("carted", visits.carted)):
            pair = own.find(visits.row[kind], visits.item[kind])[0]
            yield name, np.log1p(np.bincount(pair, minlength=len(own.code)))[place]

    def _level(
        self,
        level: str,
        code: NDArray[np.int64],
        visits: Visits,
        row: Places,
        item: NDArray[np.int64],
        known: NDArray[np.bool_],
        frequency: Numbers,
    ) -> dict[str, Numbers]:
        """Return the features of a level of the catalogue; all 0 for an item without a code."""
        rhythm = Rhythm.of(visits, code[visits.item], int(code.max()) + 1)
        if not len(rhythm.code):
            return {f"{level}_{name}": np.zeros(len(row)) for name in _LEVEL}
        place, has = rhythm.find(row, code[item])
        has &= code[item] > 0
        decayed, last = rhythm.decayed[place], rhythm.last_age[place]
        recency = _log(last)
        found = {
            "count_14d": _log(decayed[:, 2]),
            "count_30d": _log(decayed[:, _SHORT]),
            "count_90d": _log(decayed[:, _MIDDLE]),
            "count_365d": _log(decayed[:, _LONG]),
            "recency": recency,
            "gap_mean": rhythm.gap_mean[place],
            "recency_to_gap_mean": recency - rhythm.gap_mean[place],
            "share": np.where(known, _log(frequency) - _log(decayed[:, _MIDDLE]), 0.0),
            "events_since": np.log1p(rhythm.back[place]),
        }
        return {f"{level}_{name}": np.where(has, found[name], 0.0) for name in _LEVEL}

    def _paid(
        self, visits: Visits, own: Rhythm, place: Places, known: NDArray[np.bool_]
    ) -> tuple[Numbers, Numbers, Numbers]:
        """Return the mean and latest price per piece that the user paid, NaN if none, and pieces per event."""
        priced = visits.bought & (visits.quantity > 0) & (visits.amount > 0)
        pair = own.find(visits.row[priced], visits.item[priced])[0]
        quantity, amount = visits.quantity[priced], visits.amount[priced]
        pieces, money = (np.bincount(pair, one, len(own.code)) for one in (quantity, amount))
        lines = np.bincount(pair, minlength=len(own.code))
        latest = np.full(len(own.code), np.nan)
        latest[pair] = amount / quantity  # events are in order, so the latest is kept
        mean = np.divide(money, pieces, out=np.full(len(pieces), np.nan), where=pieces > 0)
        each = np.divide(pieces, lines, out=np.zeros(len(pieces)), where=lines > 0)
        if not len(own.code):
            nothing = np.full(len(place), np.nan)
            return nothing, nothing, np.zeros(len(place))
        return (
            np.where(known, mean[place], np.nan),
            np.where(known, latest[place], np.nan),
            np.where(known, each[place], 0.0),
        )


_OWN = (
    *(f"count_{days:.0f}d" for days in DECAYS),
    *(f"share_{DECAYS[k]:.0f}d" for k in (_SHORT, _MIDDLE, _LONG)),
    *("count", "recency", "first", "rank", "rank_30d", "repeated", "gap_mean", "gap_deviation", "gap_last"),
    *("recency_to_gap_mean", "recency_to_gap_recent", "recency_to_gap_last"),
    *("visits_since", "visits_known", "visit_rate", "events_since", "bought", "carted"),
)
_LEVEL = (
    *("count_14d", "count_30d", "count_90d", "count_365d", "recency", "gap_mean", "recency_to_gap_mean"),
    *("share", "events_since"),
)


def _item_columns(
    table: Numbers, recency: Numbers, known: NDArray[np.bool_], mean: Numbers, latest: Numbers, pieces: Numbers
) -> dict[str, Numbers]:
    """Return the features from the item's own statistics."""
    value = {name: table[:, k].astype(np.float64) for k, name in enumerate(ITEM_NAMES)}
    found = {name: np.log(value[name] + 0.01) for name in ITEM_NAMES if name.endswith("d")}
    found["item_trend"] = np.log((value["item_events_7d"] + 0.1) / (value["item_events_28d"] / 4 + 0.1))
    found["item_buyers"] = np.log1p(value["item_buyers"])
    found["item_repeat_rate"] = np.log((value["item_repeats"] + 1) / (value["item_repeats"] + value["item_buyers"] + 3))
    repeated = value["item_repeats"] > 0
    for name in ("item_log_gap_mean", "item_log_gap_deviation"):
        found[name] = value[name]
    found["recency_to_item_gap"] = np.where(repeated & known, recency - value["item_log_gap_mean"], 0.0)
    price = np.maximum(value["item_price_now"], 0.01)
    found["item_price"] = np.log(price)
    found["price_to_mean"] = np.log(price / np.maximum(value["item_price"], 0.01))
    found["price_to_paid"] = np.log(price / np.maximum(mean, 0.01))
    found["price_to_latest"] = np.log(price / np.maximum(latest, 0.01))
    found["pieces"] = np.log1p(pieces)
    return found


def item_rows(items: ItemTables, now: NDArray[np.datetime64], row: Places, item: NDArray[np.int64]) -> Numbers:
    """Return the statistics of each pair's item as of its row, (pairs, columns of the tables)."""
    return np.asarray(items.values[items.at(now)[row], item], dtype=np.float64)
