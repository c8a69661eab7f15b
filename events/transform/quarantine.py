"""Quarantined rows: the reasons, and the row as it was read."""

import polars as pl

from events.contract import QUARANTINE_SCHEMA


def failed_tests(frame: pl.DataFrame, tests: list[tuple[str, pl.Expr]]) -> tuple[pl.Series, pl.Series]:
    """Return which rows fail a test (reason, true where it fails), and of those alone the lists of their reasons."""
    failed = frame.select(test.fill_null(value=False).alias(str(n)) for n, (_, test) in enumerate(tests))
    bad = failed.select(pl.any_horizontal(pl.all()).alias("bad")).to_series()
    # Nearly all rows are good: lists of reasons for all of them cost more than all else that is done to a row.
    marks = [pl.when(pl.col(str(n))).then(pl.lit(reason)) for n, (reason, _) in enumerate(tests)]
    return bad, failed.filter(bad).select(pl.concat_list(marks).list.drop_nulls().alias("_reasons")).to_series()


def quarantine(raw: pl.DataFrame, rows: pl.DataFrame, table: str) -> pl.DataFrame:
    """Return QUARANTINE_SCHEMA rows: the raw rows as JSON with row number (from 0) and reasons."""
    if raw.is_empty():
        return pl.DataFrame(schema=QUARANTINE_SCHEMA)
    return pl.DataFrame(
        {
            "table": pl.repeat(table, raw.height, eager=True),
            "row": rows["_row"].cast(pl.Int64),
            "reasons": rows["_reasons"],
            "raw": raw.select(pl.struct(pl.all()).struct.json_encode()).to_series(),
        },
        schema=QUARANTINE_SCHEMA,
    )


def with_lines(quarantined: pl.DataFrame, malformed: pl.DataFrame, table: str, start: int) -> pl.DataFrame:
    """Return quarantined rows of a piece with the reason and the text of its malformed lines.

    `malformed` has `nth` (the position in the piece, which starts at row `start`), `reason` and `raw`.
    """
    lines = malformed.select(
        pl.lit(table).alias("table"),
        (pl.col("nth").cast(pl.Int64) + start).alias("row"),
        pl.concat_list("reason").alias("reasons"),
        "raw",
    )
    return pl.concat([quarantined.join(lines, on="row", how="anti"), lines]).sort("row")
