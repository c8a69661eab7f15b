"""Rows that are set aside, with the reasons and the row as it came."""

import polars as pl

from events.contract import QUARANTINE_SCHEMA


def reasons_of(tests: list[tuple[str, pl.Expr]]) -> pl.Expr:
    """Return, for every row, the list of reasons whose test it fails; empty for a good row."""
    marks = [pl.when(test.fill_null(value=False)).then(pl.lit(reason)) for reason, test in tests]
    return pl.concat_list(marks).list.drop_nulls()


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
