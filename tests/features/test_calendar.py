"""Calendar features: by hand, and against the calendar of the standard library over forty years."""

import calendar
from datetime import date, timedelta

import numpy as np
import pytest

from features.calendar import CALENDAR_FEATURES, calendar_features

# hour, weekday, weekend, day of month, days to its end, ISO week, to and since Christmas, to and since Black Friday
BY_HAND = [
    # Black Friday of 2024 was 29 November: the fourth Thursday was the 28th. The day is the 334th of a leap year, and
    # Christmas of 2023 was 6 days before the year began.
    ("2024-11-29T23:59:59.999999", (23, 4, 0, 29, 1, 48, 26, 340, 0, 0)),
    ("2024-11-30T00:00:00", (0, 5, 1, 30, 0, 48, 25, 341, 363, 1)),  # of 2025: 28 November
    ("2024-12-25T12:00:00", (12, 2, 0, 25, 6, 52, 0, 0, 338, 26)),
    ("2024-12-30T00:00:00", (0, 0, 0, 30, 1, 1, 360, 5, 333, 31)),  # belongs to the first week of 2025
    ("2021-01-03T07:30:00", (7, 6, 1, 3, 28, 53, 356, 9, 327, 37)),  # belongs to the last week of 2020
    ("2024-02-28T05:00:00", (5, 2, 0, 28, 1, 9, 301, 65, 275, 96)),  # a leap year has a 29 February
    ("1969-12-31T22:00:00", (22, 2, 0, 31, 0, 1, 359, 6, 331, 33)),  # before 1970 numbers are negative
]


@pytest.mark.parametrize(("moment", "expected"), BY_HAND, ids=[moment for moment, _ in BY_HAND])
def test_by_hand(moment: str, expected: tuple[float, ...]) -> None:
    found = calendar_features(np.array([moment], dtype="datetime64[us]"))
    assert tuple(float(found[name][0]) for name in CALENDAR_FEATURES[:10]) == expected
    assert all(np.isnan(found[name][0]) for name in CALENDAR_FEATURES[10:])


def _fourth_thursday(year: int) -> date:
    weeks = calendar.Calendar().monthdatescalendar(year, 11)
    return [week[3] for week in weeks if week[3].month == 11][3]


def test_every_day_of_forty_years() -> None:
    days = [date(2000, 1, 1) + timedelta(days=n) for n in range(40 * 365)]
    found = calendar_features(np.array(days, dtype="datetime64[D]"))
    fridays = [_fourth_thursday(year) + timedelta(days=1) for year in range(1999, 2042)]
    for row, day in enumerate(days):
        assert found["calendar_week"][row] == day.isocalendar().week
        assert found["calendar_weekday"][row] == day.weekday()
        last = calendar.monthrange(day.year, day.month)[1]
        assert found["calendar_days_to_month_end"][row] == last - day.day
        assert found["calendar_days_to_black_friday"][row] == (min(f for f in fridays if f >= day) - day).days
        assert found["calendar_days_since_black_friday"][row] == (day - max(f for f in fridays if f <= day)).days


def test_holidays_that_are_given() -> None:
    moments = np.array(["2024-05-01T09:00", "2024-05-02T09:00", "2024-10-04T00:00"], dtype="datetime64[us]")
    found = calendar_features(moments, [date(2024, 10, 3), date(2024, 5, 1)])
    assert found["calendar_is_holiday"].tolist() == [1.0, 0.0, 0.0]
    # From 2 May to 3 October: 29 + 30 + 31 + 31 + 30 + 3 days; none is known after that.
    np.testing.assert_array_equal(found["calendar_days_to_holiday"], np.array([0, 154, np.nan], np.float32))


def test_one_moment_alone_and_among_others() -> None:
    moments = np.array(["2024-03-01T10:00", "1999-12-31T23:59", "2030-07-04T00:00"], dtype="datetime64[us]")
    together = calendar_features(moments)
    for row in range(3):
        alone = calendar_features(moments[row : row + 1])
        for name in CALENDAR_FEATURES:
            np.testing.assert_array_equal(alone[name][0], together[name][row])
            assert alone[name].dtype == np.float32
