"""Whether to believe it: Great Expectations suites for events, items and users, quarantine, drift, Data Docs.

What an expectation means is said once, in `suites`: Great Expectations counts the rows that fail, and the same
expectation objects, compiled (`rows`), name them; the two must agree. Nothing here computes a feature.
"""
