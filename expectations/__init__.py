"""Data validation: Great Expectations suites for every table, quarantine, drift detection, preparation, Data Docs.

Each rule is declared once, in `suites`: Great Expectations counts the rows that fail it, Polars finds them, and the two
counts must agree.
"""
