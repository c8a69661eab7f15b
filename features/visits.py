"""Visit features: the rhythm in which a person comes and buys, from the person's history and the current time.

A visit is a run of events with no pause of more than eight hours; a buying visit is a run of purchases. That needs no
order, session or time zone, and two receipts of one evening count once. Features compare the present with the person's
own past: decayed visit rates, the gaps between visits, the time since the last one relative to those gaps, the share of
gaps of that age that ended within a week, and what was bought per visit.

A pure function, shared by training and serving. Sums add events in their order and money in whole units, so a row gives
the same bits alone and in a batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.histories import Histories
from features.recent import EVENT_CODES

Array = NDArray[np.float64]
Places = NDArray[np.int64]

_DAY = 86_400_000_000  # microseconds
_PAUSE = 8 * 3_600_000_000  # longer than a day of shopping is interrupted, shorter than a night
_MONEY = 10_000  # integer units per unit of money
_WEEK = 7.0  # days; also the horizon of the hazard and of the covered time
_MONTH = 365.25 / 12  # days
_HALF_LIVES = (7, 14, 30, 90, 180, 365)  # days
_WEEKS = 26  # weeks that are looked at one by one
_PRIOR = 2.0  # weight of the expected value in a share of few cases
_SHORT = 0.05  # days added before logarithms and divisions, because two visits may lie eight hours apart
_ROWS = 2048  # rows per pass, to bound memory

_RATE = "{what} per week, decayed with a half-life of {days} days, over the decayed time on record (visits per week)."
_OWN = "a buying visit of the user began in the following 7 days"
_BUY = {
    **{f"buy_rate_{days}d": _RATE.format(what="Buying visits", days=days) for days in _HALF_LIVES},
    "buy_rate_trend_7d": "Rate with a half-life of 7 days over that of 30 (ratio; missing: never bought).",
    "buy_rate_trend_30d": "Rate with a half-life of 30 days over that of 90 (ratio; missing: never bought).",
    "buy_rate_trend_90d": "Rate with a half-life of 90 days over that of 365 (ratio; missing: never bought).",
    "buy_days_since": "Time since the last buying visit began (days; missing: none).",
    "buy_gap_1": "Time between the last two buying visits (days; missing: fewer than two).",
    "buy_gap_2": "Time between the two before (days; missing: fewer than three).",
    "buy_gap_3": "Time between the two before those (days; missing: fewer than four).",
    "buy_gap_mean": "Time between buying visits, mean (days; missing: fewer than two).",
    "buy_gap_mean_30d": "The same mean, decayed with a half-life of 30 days (days; missing: fewer than two).",
    "buy_gap_deviation": "Standard deviation of that time (days; missing: fewer than two).",
    "buy_gap_median": "Median of that time, the lower of two middle values (days; missing: fewer than two).",
    "buy_gap_long": "Time that nine tenths of these times do not exceed (days; missing: fewer than two).",
    "buy_log_gap_mean": "Mean logarithm of that time (log days; missing: fewer than two).",
    "buy_log_gap_deviation": "Standard deviation of that logarithm (log days; missing: fewer than two).",
    "buy_age_to_median": "Time since the last buying visit over the median time between two (ratio; missing: unknown).",
    "buy_age_to_long": "Time since the last buying visit over the long time between two (ratio; missing: unknown).",
    "buy_age_score": "Logarithm of the time since the last buying visit, in deviations from the mean logarithm of the "
    "time between two (deviations; missing: unknown).",
    "buy_hazard": "Share of the times between buying visits that exceeded the present one and ended within 7 days of "
    "it, drawn towards the rate (share, 0 to 1; missing: never bought).",
    "buy_hazard_90d": "The same share, decayed with a half-life of 90 days (share, 0 to 1; missing: never bought).",
    "buy_longer_share": "Share of the times between buying visits that exceeded the present one (share, 0 to 1).",
    "buy_covered_30d": f"Share of past moments at which {_OWN}, decayed with a half-life of 30 days (share, 0 to 1).",
    "buy_covered_90d": f"Share of past moments at which {_OWN}, decayed with a half-life of 90 days (share, 0 to 1).",
    "buy_covered_365d": f"Share of past moments at which {_OWN}, decayed with a half-life of 365 days (share, 0 to 1).",
    "buy_weeks_4": "Share of the last 4 weeks with a buying visit (share, 0 to 1).",
    "buy_weeks_8": "Share of the last 8 weeks with a buying visit (share, 0 to 1).",
    "buy_weeks_26": "Share of the last 26 weeks with a buying visit (share, 0 to 1).",
    "buy_week_1": "Buying visits in the last 7 days (count).",
    "buy_week_2": "Buying visits in the 7 days before (count).",
    "buy_week_3": "Buying visits in the third week back (count).",
    "buy_week_4": "Buying visits in the fourth week back (count).",
    "buy_week_dispersion": "Variance over mean of the buying visits of the last 26 weeks (ratio; missing: none).",
    "buy_weeks_on": "Latest weeks in a row with a buying visit (count, at most 26).",
    "buy_weeks_off": "Latest weeks in a row without a buying visit (count, at most 26).",
    "buy_after_such_week": "Share of the user's weeks with a buying visit, among those that followed a week like the "
    "last, drawn towards the share of all (share, 0 to 1).",
    "buy_after_such_weeks": "The same share, among those that followed two weeks like the last two, drawn towards the "
    "share after one (share, 0 to 1).",
    "buy_weekday_strength": "How far buying visits keep to one part of the week, decayed with a half-life of 90 days "
    "(0: not at all, 1: always the same).",
    "buy_weekday_cosine": "Where in the week before the present moment they lie, cosine (-1 to 1; missing: none).",
    "buy_weekday_sine": "Where in the week before the present moment they lie, sine (-1 to 1; missing: none).",
    "buy_month_part": "Buying visits that lay in the part of the month that the coming 7 days are, over those expected "
    "of an even spread (ratio).",
    "buy_spend_mean": "Money per buying visit (currency of the shop; missing: none).",
    "buy_spend_mean_30d": "The same, decayed with a half-life of 30 days (currency of the shop; missing: none).",
    "buy_spend_trend": "Decayed money per buying visit over that of all (ratio; missing: no money).",
    "buy_spend_last": "Money of the last buying visit over the mean (ratio; missing: no money).",
    "buy_spend_14d": "Money per week, decayed with a half-life of 14 days (currency of the shop per week).",
    "buy_spend_30d": "Money per week, decayed with a half-life of 30 days (currency of the shop per week).",
    "buy_spend_90d": "Money per week, decayed with a half-life of 90 days (currency of the shop per week).",
    "buy_stock": "Money per week with a half-life of 14 days over that of 90: what is still at home (ratio).",
    "buy_lines_last": "Purchase lines of the last buying visit (count; missing: none).",
    "buy_lines_mean": "Purchase lines per buying visit (count; missing: none).",
}
_VISIT = {
    **{f"visit_rate_{days}d": _RATE.format(what="Visits", days=days) for days in (7, 30, 90)},
    "visit_days_since": "Time since the last visit began (days; missing: none).",
    "visit_gap_median": "Median time between visits, the lower of two middle values (days; missing: fewer than two).",
    "visit_age_to_median": "Time since the last visit over the median time between two (ratio; missing: unknown).",
    "visits_since_buying": "Visits since the last buying visit began, or of all time if there was none (count).",
    "visit_buying_share": "Buying visits over visits (ratio; missing: no visit).",
}
VISIT_DESCRIPTIONS: dict[str, str] = {**_BUY, **_VISIT}
VISIT_FEATURES: tuple[str, ...] = tuple(VISIT_DESCRIPTIONS)


def _ratio(top: Any, bottom: Any) -> Array:
    """Divide; NaN where `bottom` is 0 or missing."""
    top64, bottom64 = np.broadcast_arrays(np.asarray(top, np.float64), np.asarray(bottom, np.float64))
    found: Array = np.divide(top64, bottom64, out=np.full(top64.shape, np.nan), where=bottom64 != 0)
    return found


@dataclass(frozen=True)
class _Of:
    """Values that belong to rows: the row of each value, in order; a row may have none.

    Attributes:
        row: (values,) ascending.
        rows: The number of rows.
    """

    row: Places
    rows: int

    @property
    def count(self) -> Places:
        """Values of each row, (rows,)."""
        return np.bincount(self.row, minlength=self.rows)

    def sum(self, values: Any) -> Array:
        """Return the sum over each row, (rows,), adding in order: np.add.reduceat would add in pairs."""
        return np.asarray(np.bincount(self.row, np.asarray(values, np.float64), self.rows), dtype=np.float64)

    def mean(self, values: Any, weight: Any = 1.0) -> Array:
        """Return the weighted mean over each row, (rows,); NaN where there is no value."""
        return _ratio(self.sum(values * weight), self.sum(np.broadcast_to(weight, self.row.shape)))

    def first(self, values: Any) -> Array:
        """Return the first value of each row, (rows,); NaN where there is none."""
        count = self.count
        found, there = np.full(self.rows, np.nan), count > 0
        found[there] = values[(np.cumsum(count) - count)[there]]
        return found

    def back(self, values: Any, k: int) -> Array:
        """Return the k-th last value of each row, (rows,); NaN where there are fewer."""
        count = self.count
        found, there = np.full(self.rows, np.nan), count >= k
        found[there] = values[(np.cumsum(count) - k)[there]]
        return found

    def quantile(self, values: Array, share: float) -> Array:
        """Return the value that `share` of the others do not exceed, (rows,): one of the values, not between two."""
        ordered = values[np.lexsort((values, self.row))]
        count = self.count
        found, there = np.full(self.rows, np.nan), count > 0
        place = np.cumsum(count) - count + np.floor(share * (count - 1)).astype(np.int64)
        found[there] = ordered[place[there]]
        return found


@dataclass(frozen=True)
class _Visits:
    """The visits of every row, oldest first.

    Attributes:
        of: The row of each visit.
        age: When it began, in days before the row's time, (visits,).
        money: Money of its events, (visits,).
        lines: Its events, (visits,).
    """

    of: _Of
    age: Array
    money: Array
    lines: Places


@dataclass(frozen=True)
class _Block:
    """Some rows, with a piece of the log that holds their events.

    Attributes:
        time: Microseconds, (events,); ascending within the slice of a row.
        buying: Whether an event is a purchase, (events,).
        money: Whole units of money, (events,).
        begin: First event of each row, (rows,).
        end: One past its last event, (rows,).
        now: Microseconds, (rows,).
    """

    time: Places
    buying: NDArray[np.bool_]
    money: Places
    begin: Places
    end: Places
    now: Places

    @property
    def known(self) -> Array:
        """Days since the first event of each row, 0 without one, (rows,)."""
        first = np.append(self.time, 0)[np.minimum(self.begin, len(self.time))]
        return np.where(self.begin < self.end, self.now - first, 0) / _DAY

    def purchases(self) -> "_Block":
        """Return the same rows with purchases only."""
        kept = np.flatnonzero(self.buying)
        place = np.concatenate([[0], np.cumsum(self.buying)])
        begin, end = place[self.begin], place[self.end]
        return _Block(self.time[kept], self.buying[kept], self.money[kept], begin, end, self.now)

    def visits(self) -> _Visits:
        """Return the visits of every row."""
        starts = np.flatnonzero(np.diff(self.time, prepend=np.int64(-(1 << 62))) > _PAUSE)
        # A row may begin or end within a run of events; whether it does cannot be seen from the row alone, so a visit
        # is cut there, in training as in serving.
        some = self.begin < self.end
        first = np.searchsorted(starts, self.begin, side="right") - 1
        after = np.where(some, np.searchsorted(starts, self.end - 1, side="right"), first)
        row = np.repeat(np.arange(len(self.begin)), after - first)
        place = np.arange(len(row)) - np.repeat(np.cumsum(after - first) - after, after - first)
        begin = np.maximum(starts[place], self.begin[row])
        end = np.minimum(np.append(starts, len(self.time))[place + 1], self.end[row])
        total = np.concatenate([[0], np.cumsum(self.money)])
        money = (total[end] - total[begin]) / _MONEY
        return _Visits(_Of(row, len(self.begin)), (self.now[row] - self.time[begin]) / _DAY, money, end - begin)


def _blocks(history: Histories, now: Places) -> Iterator[tuple[Places, _Block]]:
    """Yield rows, (some,), with their block; rows with near events go together, so little of the log is read at once.

    A piece of the log starts at any user's event: times then fall where a user ends, which begins no visit, but a row
    there has its own begin.
    """
    log, order = history.log, np.argsort(history.begin, kind="stable")
    for start in range(0, len(order), _ROWS):
        rows = order[start : start + _ROWS]
        begin, end = history.begin[rows], history.end[rows]
        used = begin < end
        low, high = (int(begin[used].min()), int(end[used].max())) if used.any() else (0, 0)
        part = slice(low, high)
        yield (
            rows,
            _Block(
                time=np.asarray(log.event_time[part]).astype("datetime64[us]").astype(np.int64),
                buying=np.asarray(log.event_code[part]) == EVENT_CODES["purchase"],
                money=np.rint(np.float64(log.amount[part]) * _MONEY).astype(np.int64),
                begin=np.where(used, begin - low, 0),
                end=np.where(used, end - low, 0),
                now=now[rows],
            ),
        )


def _decayed_time(near: Any, far: Any, days: int) -> Array:
    """Return the length of the time from `near` to `far` days ago, decayed with a half-life of `days`."""
    decay = np.log(2) / days
    return np.asarray((np.exp(-decay * near) - np.exp(-decay * far)) / decay, dtype=np.float64)


def _per_week(visits: _Visits, values: Any, known: Array, days: int) -> Array:
    """Return the decayed sum of `values` per decayed week on record, (rows,).

    Time on record counts as at least a week, or one visit yesterday would look like seven a week.
    """
    weight = np.exp(-np.log(2) / days * visits.age)
    return visits.of.sum(weight * values) / _decayed_time(0.0, np.maximum(known, _WEEK), days) * _WEEK


@dataclass(frozen=True)
class _Gaps:
    """The times between visits that follow each other.

    Attributes:
        of: The row of each gap.
        length: Days, (gaps,).
        age: Days since it ended, (gaps,).
    """

    of: _Of
    length: Array
    age: Array

    @classmethod
    def between(cls, visits: _Visits) -> "_Gaps":
        """Return the gaps between `visits`."""
        row = visits.of.row
        later = np.flatnonzero(np.append(False, row[1:] == row[:-1])[: len(row)])
        return cls(_Of(row[later], visits.of.rows), visits.age[later - 1] - visits.age[later], visits.age[later])


def _gap_features(gaps: _Gaps, age: Array) -> dict[str, Array]:
    """Return features of the gaps, and of how `age`, the days since the last visit (rows,), compares with them."""
    of, length = gaps.of, gaps.length
    mean, logs = of.mean(length), np.log(length + _SHORT)
    log_mean = of.mean(logs)
    log_deviation = np.sqrt(of.mean((logs - log_mean[of.row]) ** 2))
    median, long = of.quantile(length, 0.5), of.quantile(length, 0.9)
    return {
        **{f"gap_{k}": of.back(length, k) for k in (1, 2, 3)},
        "gap_mean": mean,
        "gap_mean_30d": of.mean(length, np.exp2(-gaps.age / 30)),
        "gap_deviation": np.sqrt(of.mean((length - mean[of.row]) ** 2)),
        "gap_median": median,
        "gap_long": long,
        "log_gap_mean": log_mean,
        "log_gap_deviation": log_deviation,
        "age_to_median": _ratio(age, median + _SHORT),
        "age_to_long": _ratio(age, long + _SHORT),
        "age_score": (np.log(age + _SHORT) - log_mean) / (log_deviation + 0.3),  # 0.3: few gaps deviate too little
    }


def _hazards(gaps: _Gaps, age: Array, rate: Array) -> dict[str, Array]:
    """Return the empirical hazard of the person's own gaps at the present age.

    The Kaplan-Meier view of a gap that is still open: of the gaps that lasted as long, the share that ended within the
    next week; drawn towards 1 - exp(-rate), the value of a Poisson process with the person's rate.
    """
    expected = np.where(np.isnan(age), np.nan, -np.expm1(-rate))
    longer = gaps.length > age[gaps.of.row]
    ended = longer & (gaps.length <= age[gaps.of.row] + _WEEK)
    found = {}
    for name, weight in (("hazard", np.ones(len(longer))), ("hazard_90d", np.exp2(-gaps.age / 90))):
        at_risk = gaps.of.sum(weight * longer)
        found[name] = (gaps.of.sum(weight * ended) + _PRIOR * expected) / (at_risk + _PRIOR)
    return {**found, "longer_share": gaps.of.mean(longer.astype(np.float64))}


def _covered(gaps: _Gaps, first: Array) -> dict[str, Array]:
    """Return the share of moments since the first visit, `first` days ago (rows,), that a visit followed in a week.

    Of the last week's moments the answer is not known yet; they are left out.
    """
    near = np.maximum(gaps.age, _WEEK)
    far = np.maximum(gaps.age + np.minimum(gaps.length, _WEEK), _WEEK)
    oldest = np.maximum(np.nan_to_num(first), _WEEK)
    return {
        f"covered_{days}d": _ratio(gaps.of.sum(_decayed_time(near, far, days)), _decayed_time(_WEEK, oldest, days))
        for days in (30, 90, 365)
    }


def _weeks(visits: _Visits, known: Array) -> dict[str, Array]:
    """Return features of the weeks before the row's time: how many had a visit, and which followed which."""
    rows = visits.of.rows
    week = np.minimum(visits.age // _WEEK, _WEEKS).astype(np.int64)
    count = np.bincount(visits.of.row * (_WEEKS + 1) + week, minlength=rows * (_WEEKS + 1))
    count = count.reshape(rows, _WEEKS + 1)[:, :_WEEKS]  # (rows, weeks), the latest first
    whole = np.maximum(known // _WEEK, 1)[:, None] > np.arange(_WEEKS)  # on record from end to end
    came = count > 0

    def share(of: NDArray[np.bool_], among: NDArray[np.bool_], expected: Any = None) -> Array:
        if expected is None:
            return _ratio((of & among).sum(axis=1), among.sum(axis=1))
        return np.asarray(((of & among).sum(axis=1) + _PRIOR * expected) / (among.sum(axis=1) + _PRIOR))

    every = share(came, whole)
    alike = whole[:, 1:] & (came[:, 1:] == came[:, :1])
    both_alike = whole[:, 2:] & (came[:, 1:-1] == came[:, :1]) & (came[:, 2:] == came[:, 1:2])
    after_one = share(came[:, :-1], alike, every)
    weeks = whole.sum(axis=1)
    mean = (count * whole).sum(axis=1) / weeks
    variance = ((count - mean[:, None]) ** 2 * whole).sum(axis=1) / weeks
    return {
        **{f"weeks_{k}": share(came[:, :k], whole[:, :k]) for k in (4, 8, _WEEKS)},
        **{f"week_{k}": count[:, k - 1].astype(np.float64) for k in (1, 2, 3, 4)},
        "week_dispersion": _ratio(variance, mean),
        "weeks_on": np.where(came.all(axis=1), _WEEKS, np.argmin(came, axis=1)).astype(np.float64),
        "weeks_off": np.where(came.any(axis=1), np.argmax(came, axis=1), _WEEKS).astype(np.float64),
        "after_such_week": after_one,
        "after_such_weeks": share(came[:, :-2], both_alike, after_one),
    }


def _calendar(visits: _Visits) -> dict[str, Array]:
    """Return how visits lie in the week and in the month, seen from the row's time: circular means (Fisher, 1993)."""
    weight, angle = np.exp2(-visits.age / 90), 2 * np.pi * visits.age / _WEEK
    cosine, sine = visits.of.mean(np.cos(angle), weight), visits.of.mean(np.sin(angle), weight)
    coming = visits.age % _MONTH >= _MONTH - _WEEK
    even = _WEEK / _MONTH
    part = (visits.of.sum(coming) + _PRIOR * even) / (visits.of.count + _PRIOR)
    return {
        "weekday_strength": np.hypot(cosine, sine),
        "weekday_cosine": cosine,
        "weekday_sine": sine,
        "month_part": part / even,
    }


def _money(visits: _Visits, known: Array) -> dict[str, Array]:
    """Return features of the money and lines per visit and per week."""
    of, money = visits.of, visits.money
    mean, recent = of.mean(money), of.mean(money, np.exp2(-visits.age / 30))
    spend = {days: _per_week(visits, money, known, days) for days in (14, 30, 90)}
    return {
        "spend_mean": mean,
        "spend_mean_30d": recent,
        "spend_trend": _ratio(recent, mean),
        "spend_last": _ratio(of.back(money, 1), mean),
        **{f"spend_{days}d": values for days, values in spend.items()},
        "stock": _ratio(spend[14], spend[90]),
        "lines_last": of.back(visits.lines, 1),
        "lines_mean": of.mean(visits.lines.astype(np.float64)),
    }


def _buying(visits: _Visits, known: Array) -> dict[str, Array]:
    """Return the features of buying visits, named without their prefix."""
    rate = {days: _per_week(visits, 1.0, known, days) for days in _HALF_LIVES}
    gaps, age = _Gaps.between(visits), visits.of.back(visits.age, 1)
    return {
        **{f"rate_{days}d": values for days, values in rate.items()},
        **{f"rate_trend_{a}d": _ratio(rate[a], rate[b]) for a, b in ((7, 30), (30, 90), (90, 365))},
        "days_since": age,
        **_gap_features(gaps, age),
        **_hazards(gaps, age, rate[90]),
        **_covered(gaps, visits.of.first(visits.age)),
        **_weeks(visits, known),
        **_calendar(visits),
        **_money(visits, known),
    }


def _visiting(visits: _Visits, buying: _Visits, known: Array) -> dict[str, Array]:
    """Return the features of visits of any kind."""
    gaps, age, bought = _Gaps.between(visits), visits.of.back(visits.age, 1), buying.of.back(buying.age, 1)
    median = gaps.of.quantile(gaps.length, 0.5)
    return {
        **{f"visit_rate_{days}d": _per_week(visits, 1.0, known, days) for days in (7, 30, 90)},
        "visit_days_since": age,
        "visit_gap_median": median,
        "visit_age_to_median": _ratio(age, median + _SHORT),
        "visits_since_buying": visits.of.sum(~(visits.age >= bought[visits.of.row])),
        "visit_buying_share": _ratio(buying.of.count, visits.of.count),
    }


def visit_features(history: Histories, now: NDArray[np.datetime64]) -> dict[str, NDArray[np.float32]]:
    """Return every visit feature, each float32 (rows,), NaN where missing.

    Args:
        history: The last N events of each row, all before `now`. What older events would say is not known, in training
            and in serving alike.
        now: (rows,) datetime64, UTC.
    """
    moment = np.asarray(now, dtype="datetime64[us]").astype(np.int64)
    found = {name: np.empty(len(moment), dtype=np.float32) for name in VISIT_FEATURES}
    for rows, block in _blocks(history, moment):
        known, visits, buying = block.known, block.visits(), block.purchases().visits()
        values = {f"buy_{name}": one for name, one in _buying(buying, known).items()}
        values |= _visiting(visits, buying, known)
        for name, target in found.items():
            target[rows] = values[name]
    return found
