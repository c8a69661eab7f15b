"""What computes the feature views: DuckDB on one machine, or Spark, from the same Ibis expressions.

Nothing here knows a feature. An engine reads events and tables, and hands over the rows of an expression in order.
"""
