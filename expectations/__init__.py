"""Whether to believe it: Great Expectations suites for events, items and users, quarantine, Data Docs.

What an expectation means is said once, in `suites`; which rows it fails is Great Expectations' own answer. Nothing here
computes a feature or changes a value.
"""
