"""When the next purchase comes: more to learn from than whether it comes within the horizon.

A buyer on the first day and one on the last have the same label, and so have those who buy a day after the horizon and
those who never do. The time until the purchase is divided into intervals; each has the rows at risk, who have not
bought before it, and those who buy in it: the life table of survival analysis (Kaplan & Meier, 1958), the form in which
networks learn it (Gensheimer & Narasimhan, PeerJ 2019, eq. 3). A row whose interval ends after training does not count
there.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.histories import UserLog
from features.recent import EVENT_CODES
from training.models.contract import FloatArray

_WITHIN = 7  # intervals within the horizon, with as many buyers each
_AFTER = (1.0, 9 / 7, 11 / 7, 2.0, 3.0, 4.0)  # ends of the intervals after it, in horizons
_ENOUGH = 100  # buyers of an interval; with fewer, it is left out
_DAY = np.timedelta64(1, "D") / np.timedelta64(1, "us")


def days_to_purchase(log: UserLog, user_id: NDArray[Any], now: NDArray[np.datetime64]) -> NDArray[np.float64]:
    """Return the days until each user's first purchase at or after a time, (rows,); infinite if there is none."""
    found = np.full(len(now), np.inf)
    rows = pl.DataFrame({"user_id": pl.Series(user_id.tolist(), dtype=pl.String)}).with_row_index("row")
    asking = rows.group_by("user_id", maintain_order=True).agg("row").join(log.users, on="user_id")
    for _, asked, begin, end in asking.iter_rows():
        bought = np.asarray(log.events.event_code[begin:end]) == EVENT_CODES["purchase"]
        times = np.asarray(log.events.event_time[begin:end])[bought]
        place = np.searchsorted(times, now[asked], side="left")
        there = np.asarray(asked)[place < len(times)]
        wait = times[place[place < len(times)]] - now[there]
        found[there] = wait.astype("timedelta64[us]").astype(np.int64) / _DAY
    return found


@dataclass(frozen=True)
class LifeTable:
    """The rows at risk and the buyers of each interval.

    Attributes:
        within: Number of intervals within the horizon; the others lie after it.
        risk: 1 where a row is at risk in an interval and its outcome is known, (rows, intervals).
        bought: 1 where it buys in that interval, (rows, intervals).
    """

    within: int
    risk: FloatArray
    bought: FloatArray

    @classmethod
    def of_labels(cls, label: NDArray[Any], wait: NDArray[np.float64], left: NDArray[np.float64]) -> "LifeTable":
        """Divide the waiting times of training rows.

        Args:
            label: 1 where the user bought within the horizon, (rows,).
            wait: Days until the next purchase, (rows,).
            left: Days from each row's time to the end of the last label window of training, (rows,).
        """
        buyer = label > 0
        waits = wait[buyer & np.isfinite(wait)]
        if not len(waits):
            return cls(1, np.ones((len(label), 1), np.float32), buyer[:, None].astype(np.float32))
        inner = np.unique(np.quantile(waits, np.arange(1, _WITHIN) / _WITHIN))
        # The label, not the clock, says what is within the horizon: a session's ends with the session.
        part = np.where(buyer, np.searchsorted(inner, np.where(np.isfinite(wait), wait, waits.max()), "left"), np.inf)
        within = len(inner) + 1
        risk = [part >= k for k in range(within)]
        bought = [part == k for k in range(within)]
        horizon = float(waits.max())
        for low, high in pairwise(_AFTER):
            known = ~buyer & (wait >= low * horizon) & (left >= high * horizon)
            ended = known & (wait < high * horizon)
            if ended.sum() >= _ENOUGH:
                risk.append(known)
                bought.append(ended)
        return cls(within, np.stack(risk, axis=1).astype(np.float32), np.stack(bought, axis=1).astype(np.float32))

    @property
    def rates(self) -> NDArray[np.float64]:
        """Cumulative hazard of each interval over all rows, (intervals,)."""
        share = (self.bought.sum(axis=0) + 0.5) / (self.risk.sum(axis=0) + 1.0)
        return np.asarray(-np.log1p(-share), dtype=np.float64)
