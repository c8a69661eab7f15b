"""Drift detection: compare each day with the same weekday in the preceding weeks.

`profile` counts a log by day, `bands` derives limits for each count from the preceding weeks, `suite` expresses the
limits as Great Expectations expectations, `report` lists the values outside them and `page` renders the result. Counts
are additive, so a log of any size is profiled in one streaming pass.
"""
