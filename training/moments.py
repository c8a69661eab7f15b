"""The times of the rows of a log with user IDs: cut-offs in equal steps, and random moments like those of requests."""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from shoplens.errors import ModelError
from shoplens.params import RowsParams

TIME = pl.Datetime("us", "UTC")
_WEEK = timedelta(weeks=1)
_STEPS = {"week": _WEEK, "day": timedelta(days=1)}
_WHOLE = (timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1))  # a shorter step is a multiple of one of them


@dataclass(frozen=True)
class Timeline:
    """The cut-offs of a log.

    Attributes:
        step: Time from one cut-off to the next; if the log is too short for weeks, it takes the place of a week.
        horizon: Length of the label window.
        cutoffs: time and split (test, validation, train or gap), latest first.
    """

    step: timedelta
    horizon: timedelta
    cutoffs: pl.DataFrame

    @classmethod
    def of(cls, dataset: dict[str, str], rows: RowsParams) -> "Timeline":
        """Place the cut-offs, counted back from the end of the data: test, then validation, then train.

        Raises:
            ModelError: there are too few of them.
        """
        start, high_water = (datetime.fromisoformat(dataset[name]) for name in ("start", "high_water"))
        # The label windows of two splits must not overlap, so a horizon of more than one step needs a gap between them.
        gap = -(-rows.horizon_days // 7) - 1
        held_out = ["test"] * rows.test_weeks + ["gap"] * gap + ["validation"] * rows.validation_weeks + ["gap"] * gap
        step = _step(high_water - start, rows, len(held_out))
        horizon = rows.horizon_days * step / 7
        times = []
        moment = high_water - horizon
        while moment >= start + rows.warmup_weeks * step:
            times.append(moment)
            moment -= step
        splits = held_out + ["train"] * (len(times) - len(held_out))
        if len(times) <= len(held_out):
            raise ModelError(
                f"train.rows: {len(times)} cut-offs, {words(step)} apart from {start:%Y-%m-%d} to "
                f"{high_water:%Y-%m-%d}, are too few for test_weeks {rows.test_weeks}, validation_weeks "
                f"{rows.validation_weeks} and warmup_weeks {rows.warmup_weeks}. Lower them, set "
                "every: auto, or add data"
            )
        return cls(
            step, horizon, pl.DataFrame({"time": times, "split": splits}, schema={"time": TIME, "split": pl.String})
        )

    @property
    def test(self) -> tuple[datetime, datetime]:
        """The first and the last test cut-off."""
        times = self.cutoffs.filter(pl.col("split") == "test")["time"]
        return times[-1], times[0]


def _step(length: timedelta, rows: RowsParams, held_out: int) -> timedelta:
    """Return the time between cut-offs.

    `auto` is a week if the log is long enough for a weekly cut-off for training. Otherwise it is the step, in whole
    hours, minutes or seconds, that gives as many cut-offs for training as are held out.
    """
    if rows.every != "auto":
        return _STEPS[rows.every]
    before = rows.warmup_weeks + rows.horizon_days / 7
    if length >= (before + held_out) * _WEEK:
        return _WEEK
    step = length / (before + 2 * held_out)
    unit = next((unit for unit in _WHOLE if step >= unit), None)
    if unit is None:
        raise ModelError(
            f"train.rows: the log must last for at least {before + 2 * held_out:.0f} seconds, to be split by time; "
            f"it lasts for {length.total_seconds():g}. Add data"
        )
    return step // unit * unit


def words(time: timedelta) -> str:
    """Return a time as text, in its largest unit."""
    for name, unit in (("days", timedelta(days=1)), ("hours", _WHOLE[0]), ("minutes", _WHOLE[1])):
        if time >= unit:
            return f"{time / unit:g} {name}"
    return f"{time.total_seconds():g} seconds"


def served_moments(users: pl.Series, timeline: Timeline, count: int, seed: int) -> pl.DataFrame:
    """Return (user_id, time): moments at which a service may be asked, `count` per user.

    They are drawn uniformly between the first and the last test cut-off, so that no label window extends beyond the
    data or overlaps one of training. A user's moments depend on the user's ID and the seed alone.

    Args:
        users: The users, in any order.
        timeline: The cut-offs.
        count: Moments per user.
        seed: Seed of the draw.
    """
    first, last = timeline.test
    span = (last - first) // timedelta(microseconds=1)
    names = users.sort()
    # Drawn per user, so that adding a user does not change the moments of others.
    drawn = b"".join(hashlib.shake_128(f"{seed} {name}".encode()).digest(8 * count) for name in names)
    share = np.frombuffer(drawn, dtype="<u8") / 2.0**64
    times = np.datetime64(first.replace(tzinfo=None), "us") + (share * span).astype("timedelta64[us]")
    return pl.DataFrame(
        {
            "user_id": names.gather(np.repeat(np.arange(len(names)), count)),
            "time": pl.Series(times).dt.replace_time_zone("UTC"),
        }
    )
