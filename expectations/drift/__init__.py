"""Drift detection: compare each day with the same weekday in the preceding weeks.

`bands` counts a log by day and derives limits for each count from the preceding weeks, `report` lists and renders the
values outside them, and `run` checks them with Great Expectations. Counts are additive, so a log of any size is counted
in one streaming pass.
"""
