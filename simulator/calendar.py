"""Seasons: how many people come on a day, at what time, and what they want."""

from datetime import date, timedelta

import numpy as np

from simulator.draws import Floats, keys, uniform

DAY_MS = 86_400_000
_EPOCH = date(1970, 1, 1)
_YEAR = 365.25
_PEAK = 340  # early December, the day of the year with most visits
_YEARLY = 0.25  # a quarter more than average then, a quarter less in June
_WEEK = np.array([0.95, 0.92, 0.93, 0.95, 1.0, 1.15, 1.1])  # Monday to Sunday; mean 1
# Share of a day's visits in each hour, UTC: asleep at four, a lunch break, the evening on the sofa.
_HOURS = np.array([2, 1, 1, 1, 1, 1, 2, 3, 4, 5, 6, 6, 7, 6, 5, 5, 5, 6, 7, 8, 8, 8, 6, 4], dtype=np.float64)
_HOUR_ENDS = np.concatenate([[0.0], np.cumsum(_HOURS) / _HOURS.sum()])
_TIDE = 0.6  # of a category: 1.6 times as wanted at its peak as on average


def day_start(start: date, day: int) -> int:
    """Return the first millisecond, since 1970, of a day counted from `start`."""
    return (start - _EPOCH).days * DAY_MS + day * DAY_MS


def _year_angle(when: date, peak: Floats | float) -> Floats:
    return np.asarray(2.0 * np.pi * (when.timetuple().tm_yday - peak) / _YEAR)


def traffic(start: date, day: int) -> float:
    """Return how many times the average visits the shop has on a day: the week times the year."""
    when = start + timedelta(days=day)
    return float(_WEEK[when.weekday()] * (1.0 + _YEARLY * np.cos(_year_angle(when, _PEAK))))


def moment_of_day(draw: Floats) -> Floats:
    """Return milliseconds since midnight for uniform draws: the hours' shares, evenly within an hour.

    Given how many arrivals of a non-homogeneous Poisson process a day has, their times are independent draws from its
    intensity.
    """
    return np.interp(draw, _HOUR_ENDS, np.arange(25) * DAY_MS / 24)


def season(start: date, day: int, seed: int, categories: int) -> Floats:
    """Return how many times as wanted as on average each category is on a day: (categories,)."""
    peak = uniform(keys(seed, "season", np.arange(categories)), 0) * _YEAR
    return 1.0 + _TIDE * np.cos(_year_angle(start + timedelta(days=day), peak))
