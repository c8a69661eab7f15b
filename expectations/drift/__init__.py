"""Drift: whether a day looks like its season.

`profile` counts a log by day; `bands` says, from the weeks before, between which limits every count should lie;
`suite` holds them against one another as Great Expectations expectations; `report` names what fell out, and `page`
draws it. Counts add up, so that a log of any size is profiled in passing.
"""
