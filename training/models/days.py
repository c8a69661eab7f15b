"""A person's history as days: what the daily network reads, and the waiting times that it learns from.

Days are counted back from a row's time, in steps of 24 hours, so that no time zone is needed.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from features.histories import Histories
from features.recent import EVENT_CODES
from training.models.contract import FloatArray

DAYS = 364  # that are read at most: a year in whole weeks
_DAY = 86_400_000_000  # microseconds
_HALF_LIVES = (7, 14, 30, 90, 180)  # days
_LAGS = (7, 14, 21, 28)  # days
_LONG = 60  # days since a purchase that count as many
CHANNELS = 6 + len(_HALF_LIVES) + len(_LAGS)
_AFTER = (9 / 7, 11 / 7, 2.0, 3.0, 4.0)  # ends of the intervals after the horizon, in horizons


@dataclass(frozen=True)
class DayGrid:
    """The days before each row's time, the oldest first.

    Attributes:
        lines: Purchase lines of each day, (rows, days).
        money: Money of these lines, (rows, days).
        start: First day on record of each row, (rows,); the number of days if it has no event.
        weekday: Day of the week of the last day, 0 to 6, (rows,).
    """

    lines: FloatArray
    money: FloatArray
    start: NDArray[np.int64]
    weekday: NDArray[np.int64]

    @classmethod
    def read(cls, history: Histories, now: NDArray[np.datetime64], days: int = DAYS) -> "DayGrid":
        """Read the last `days` days of each history, which ends before `now`, (rows,)."""
        moment = now.astype("datetime64[us]").astype(np.int64)
        row, place = history.flat()
        back = (moment[row] - 1 - history.log.event_time[place].astype("datetime64[us]").astype(np.int64)) // _DAY
        start = np.full(len(now), days, dtype=np.int64)
        np.minimum.at(start, row, np.maximum(days - 1 - back, 0))
        kept = (history.log.event_code[place] == EVENT_CODES["purchase"]) & (back < days)
        cell = row[kept] * days + days - 1 - back[kept]
        size = len(now) * days
        lines = np.bincount(cell, minlength=size).reshape(-1, days)
        money = np.bincount(cell, history.log.amount[place[kept]], size).reshape(-1, days)
        weekday = (moment - 1) // _DAY % 7
        return cls(lines.astype(np.float32), money.astype(np.float32), start, weekday)

    def __len__(self) -> int:
        return len(self.lines)

    def take(self, idx: Any) -> "DayGrid":
        """Return some rows."""
        return DayGrid(self.lines[idx], self.money[idx], self.start[idx], self.weekday[idx])

    @property
    def came(self) -> FloatArray:
        """1 for each day with a purchase, (rows, days)."""
        return np.asarray(self.lines > 0, dtype=np.float32)

    @property
    def on_record(self) -> NDArray[np.bool_]:
        """Whether a day is on record, (rows, days)."""
        return np.arange(self.lines.shape[1]) >= self.start[:, None]

    def channels(self) -> FloatArray:
        """Return what each day says, and what it says with the days before it, (rows, days, CHANNELS)."""
        came, days = self.came, self.lines.shape[1]
        place = np.arange(days)
        last = np.maximum.accumulate(np.where(came > 0, place, self.start[:, None] - _LONG), axis=1)
        since = np.clip(place - last, 0, _LONG)
        age = np.maximum(place - self.start[:, None] + 1, 1)  # days on record
        found: list[Any] = [
            came,
            np.log1p(np.maximum(self.money, 0)) / 4,
            np.log1p(self.lines) / 3,
            np.log1p(since) / 3,
        ]
        for half_life in _HALF_LIVES:
            kept = 2.0 ** (-1 / half_life)
            decayed = lfilter([1.0], [1.0, -kept], came, axis=1)
            found.append(np.sqrt(decayed * (1 - kept) / (1 - kept**age)))
        for lag in _LAGS:  # the weekday of the day that comes next, one to four weeks ago
            found.append(np.pad(came, ((0, 0), (lag - 1, 0)))[:, :days])
        angle = 2 * np.pi / 7 * (self.weekday[:, None] - days + 1 + place)
        found += [np.cos(angle), np.sin(angle)]
        return np.asarray(np.stack(found, axis=-1) * self.on_record[..., None], dtype=np.float32)


def interval_edges(horizon: int) -> NDArray[np.int64]:
    """Return the edges of the intervals of waiting days: at most 7 within the horizon, of equal length, and 5 after."""
    within = np.unique(np.round(np.linspace(0, horizon, min(horizon, 7) + 1)))
    after = np.round(np.array(_AFTER) * horizon)
    return np.unique(np.concatenate([within, after])).astype(np.int64)


def days_to_wait(came: FloatArray) -> NDArray[np.int64]:
    """Return for each day how many days pass until the next one with a purchase, (rows, days), 0: it has one itself.

    Where none follows, it is more than any edge.
    """
    days = came.shape[1]
    place = np.where(came > 0, np.arange(days), 10 * days)
    return np.minimum.accumulate(place[:, ::-1], axis=1)[:, ::-1] - np.arange(days)
