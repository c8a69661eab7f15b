"""Drift detection: compare each day with the same weekday in the preceding weeks.

`profile` counts a log by day, `bands` derives limits for each count from the preceding weeks, `report` lists the values
outside them, `page` renders them, and `run` checks them with Great Expectations. Counts are additive, so a log of any
size is profiled in one streaming pass.
"""
