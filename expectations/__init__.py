"""Data validation: Great Expectations suites for every table, quarantine, drift detection, preparation, Data Docs.

Each rule is defined once, in `suites`. Great Expectations counts the rows that fail it; `row_rules` compiles the same
expectation objects to Polars expressions that identify those rows, and the two counts must agree.
"""
