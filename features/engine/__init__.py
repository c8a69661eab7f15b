"""Engines that compute the feature views from the same Ibis expressions: DuckDB on one machine, or Spark.

Engines do not depend on features. An engine reads events and tables, and returns the sorted rows of an expression.
"""
