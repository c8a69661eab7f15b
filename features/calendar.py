"""Calendar features: one pure function of a moment, the same in training and in serving.

Days are those of UTC, as everywhere; a shop whose day is elsewhere shifts its moments before it asks. Christmas is
25 December, Black Friday the day after the fourth Thursday of November, by which trade counts.
"""

from collections.abc import Iterable
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

CALENDAR_DESCRIPTIONS: dict[str, str] = {
    "calendar_hour": "Hour of the day, UTC (hour, 0 to 23).",
    "calendar_weekday": "Day of the week, Monday is 0 (day, 0 to 6).",
    "calendar_is_weekend": "Whether it is Saturday or Sunday (0 or 1).",
    "calendar_month_day": "Day of the month (day, 1 to 31).",
    "calendar_days_to_month_end": "Days until the month's last day, which is 0 (days).",
    "calendar_week": "Week of the year by ISO 8601 (week, 1 to 53).",
    "calendar_days_to_christmas": "Days until the next 25 December, which is 0 itself (days).",
    "calendar_days_since_christmas": "Days since the last 25 December, which is 0 itself (days).",
    "calendar_days_to_black_friday": "Days until the next Black Friday, which is 0 itself (days).",
    "calendar_days_since_black_friday": "Days since the last Black Friday, which is 0 itself (days).",
    "calendar_is_holiday": "Whether the day is among the holidays that were given (0 or 1; missing: none were given).",
    "calendar_days_to_holiday": "Days until the next of the holidays that were given (days; missing: none follows).",
}
CALENDAR_FEATURES: tuple[str, ...] = tuple(CALENDAR_DESCRIPTIONS)
_DAY = "datetime64[D]"
_THURSDAY = 3  # 1 January 1970 was one; Monday is 0


def _weekday(days: NDArray[np.datetime64]) -> NDArray[np.int64]:
    weekday: NDArray[np.int64] = (days.astype(np.int64) + _THURSDAY) % 7
    return weekday


def _christmas(years: NDArray[np.datetime64]) -> NDArray[np.datetime64]:
    days: NDArray[np.datetime64] = (years.astype("datetime64[M]") + 11).astype(_DAY) + 24
    return days


def _black_friday(years: NDArray[np.datetime64]) -> NDArray[np.datetime64]:
    november = (years.astype("datetime64[M]") + 10).astype(_DAY)
    first_thursday = november + (_THURSDAY - _weekday(november)) % 7
    days: NDArray[np.datetime64] = (first_thursday + 22).astype(_DAY)
    return days


def _distances(days: NDArray[np.datetime64], feast: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return days until the next and since the last of a yearly feast; 0 and 0 on the day itself.

    Args:
        days: (n,)
        feast: From years to its day in each.
    """
    years = days.astype("datetime64[Y]")
    this = feast(years)
    following = np.where(this >= days, this, feast(years + 1))
    last = np.where(this <= days, this, feast(years - 1))
    return (following - days).astype(np.int64), (days - last).astype(np.int64)


def _iso_week(days: NDArray[np.datetime64]) -> NDArray[np.int64]:
    """Return the week of the year: that of its Thursday, counted in the Thursday's year (ISO 8601)."""
    thursday = days - _weekday(days) + _THURSDAY
    since = (thursday - thursday.astype("datetime64[Y]").astype(_DAY)).astype(np.int64)
    week: NDArray[np.int64] = since // 7 + 1
    return week


def _holidays(days: NDArray[np.datetime64], holidays: Iterable[date]) -> dict[str, NDArray[np.float64]]:
    """Return whether each day is a holiday, and how far the next is; NaN where that is not known."""
    known = np.unique(np.array(sorted(holidays), dtype=_DAY))
    if known.size == 0:
        missing = np.full(days.shape, np.nan)
        return {"calendar_is_holiday": missing, "calendar_days_to_holiday": missing.copy()}
    place = np.searchsorted(known, days)  # of the first that is not before the day
    ahead = (known[np.minimum(place, known.size - 1)] - days).astype(np.float64)
    return {
        "calendar_is_holiday": np.isin(days, known).astype(np.float64),
        "calendar_days_to_holiday": np.where(place < known.size, ahead, np.nan),
    }


def calendar_features(moments: NDArray[np.datetime64], holidays: Iterable[date] = ()) -> dict[str, NDArray[np.float32]]:
    """Return every calendar feature of every moment.

    Args:
        moments: UTC, any unit. (n,)
        holidays: The shop's; a feature is missing where they do not reach.

    Returns:
        Feature -> (n,); NaN where missing.
    """
    days = moments.astype(_DAY)
    months, weekday = days.astype("datetime64[M]"), _weekday(days)
    first, next_first = months.astype(_DAY), (months + 1).astype(_DAY)
    to_christmas, since_christmas = _distances(days, _christmas)
    to_friday, since_friday = _distances(days, _black_friday)
    found: dict[str, NDArray[Any]] = {
        "calendar_hour": (moments.astype("datetime64[h]") - days.astype("datetime64[h]")).astype(np.int64),
        "calendar_weekday": weekday,
        "calendar_is_weekend": weekday >= 5,
        "calendar_month_day": (days - first).astype(np.int64) + 1,
        "calendar_days_to_month_end": (next_first - days).astype(np.int64) - 1,
        "calendar_week": _iso_week(days),
        "calendar_days_to_christmas": to_christmas,
        "calendar_days_since_christmas": since_christmas,
        "calendar_days_to_black_friday": to_friday,
        "calendar_days_since_black_friday": since_friday,
        **_holidays(days, holidays),
    }
    return {name: found[name].astype(np.float32) for name in CALENDAR_FEATURES}
