"""Amounts of events: one rule for mapped files and for the collector.

The amount of a purchase or refund is the one in the source, or price * quantity if there is none; a missing quantity
counts as 1. An unknown amount is null, never 0. Refund amounts are positive.
"""

from collections.abc import Sequence

import polars as pl

from events.mapping import EventTable, Rates
from events.transform.columns import number, text
from events.transform.times import read_times
from shoplens.errors import SourceError

_MONEY = pl.col("event_name").is_in(["purchase", "refund"])


def _finite(value: pl.Expr) -> pl.Expr:
    return pl.when(value.is_finite()).then(value)


def with_amounts(events: pl.DataFrame) -> pl.DataFrame:
    """Return events (event_name, quantity, price, amount, …) with `amount` set by this module's rule."""
    product = _finite(pl.col("price") * pl.col("quantity").fill_null(1.0))
    # With 0 pieces nothing was bought, so the price does not determine the amount.
    product = pl.when(pl.col("quantity").is_null() | (pl.col("quantity") != 0)).then(product)
    amount = pl.when(pl.col("amount").is_null() & _MONEY).then(product).otherwise(pl.col("amount"))
    return events.with_columns(amount.alias("amount"))


def mapped_money(events: pl.DataFrame, spec: EventTable) -> pl.DataFrame:
    """Apply the mapping's rules on amounts, then this module's rule."""
    purchase = pl.col("event_name") == "purchase"
    back = pl.lit(value=False)
    if spec.negative_quantity == "refund":
        back |= purchase & (pl.col("quantity") < 0)
    if spec.negative_amount == "refund":
        back |= purchase & ((pl.col("amount") < 0) | (pl.col("price") < 0) & pl.col("amount").is_null())
    events = events.with_columns(
        pl.when(back.fill_null(value=False)).then(pl.lit("refund")).otherwise(pl.col("event_name")).alias("event_name")
    )
    refund = pl.col("event_name") == "refund"
    if spec.price == "amount / quantity":
        events = events.with_columns(_finite(pl.col("amount") / pl.col("quantity")).alias("price"))
    numbers = ["quantity", "price", "amount"]
    events = events.with_columns(pl.when(refund).then(pl.col(name).abs()).otherwise(pl.col(name)) for name in numbers)
    if spec.amount == "price * quantity":
        events = events.with_columns(_finite(pl.col("price") * pl.col("quantity")).alias("amount"))
    return with_amounts(events)


def quantity_of_nothing(events: pl.DataFrame) -> pl.Series:
    """Return whether a purchase or refund of 0 pieces has no definite amount: only a price, or a refund for nothing."""
    unknown = pl.col("amount").is_null() & pl.col("price").is_not_null()
    wrong = (pl.col("amount") < 0) | (pl.col("event_name") == "refund") & (pl.col("amount") > 0)
    return events.select((_MONEY & (pl.col("quantity") == 0) & (unknown | wrong)).fill_null(value=False)).to_series()


def read_rates(tables: Sequence[pl.DataFrame], rates: Rates) -> pl.DataFrame:
    """Return a mapping's exchange rates sorted by day: `currency`, `rate` and `day` (null: valid on all days).

    Raises:
        SourceError: the table lacks a column, or a row a currency, a positive rate, or the day that the mapping names.
    """
    columns, found = rates.columns, []
    for table in tables:
        if absent := [name for name in columns.values() if name not in table.columns]:
            raise SourceError(
                f"rates: table {rates.table} must have column(s) {', '.join(absent)}. Correct the mapping"
            )
        day = pl.lit(None, dtype=pl.Date)
        if "day" in columns:
            day = pl.lit(read_times(table, columns["day"], "UTC", rates.time_formats)["time"].dt.date())
        found.append(
            table.select(
                text(table, columns["currency"]).str.to_uppercase().alias("currency"),
                number(table, columns["rate"], pl.Float64(), rates.csv).alias("rate"),
                day.alias("day"),
            )
        )
    done = pl.concat(found)
    dayless = pl.col("day").is_null() & ("day" in columns)
    right = pl.col("currency").is_not_null() & (pl.col("rate") > 0) & ~dayless
    if (wrong := done.filter(~right.fill_null(value=False))).height:
        raise SourceError(
            f"rates: every row of table {rates.table} must have a currency, a rate above 0, and a day where one is "
            f"mapped; received {wrong.row(0, named=True)}. Correct the table"
        )
    return done.sort("day", "currency")


def in_currency(events: pl.DataFrame, currency: str, rates: pl.DataFrame | None) -> tuple[pl.DataFrame, pl.Series]:
    """Convert amounts to one currency; also return which events have an amount but no rate for its currency.

    Rows without a currency are in the shop's. A day's rate is valid until the next one.
    """
    own = pl.col("currency").str.to_uppercase().fill_null(currency)
    if events.select((own == currency).all()).item():
        return events.with_columns(own.alias("currency")), pl.repeat(value=False, n=events.height, eager=True)
    keyed = events.select(own.alias("currency"), pl.col("event_time").dt.date().alias("day"))
    rate = pl.lit(None, dtype=pl.Float64)
    if rates is not None and rates["day"].null_count():
        rate = pl.lit(keyed.join(rates.drop("day"), on="currency", how="left", maintain_order="left")["rate"])
    elif rates is not None:
        ordered = keyed.with_row_index("_n").sort("day")
        joined = ordered.join_asof(rates, on="day", by="currency", check_sortedness=False)
        rate = pl.lit(joined.sort("_n")["rate"])
    rate = pl.when(own == currency).then(1.0).otherwise(rate)
    money = pl.any_horizontal(pl.col("price", "amount").is_not_null())
    lacking = events.select((rate.is_null() & money).fill_null(value=False).alias("lacking")).to_series()
    converted = events.with_columns(
        pl.coalesce(pl.col("price") * rate, "price").alias("price"),
        pl.coalesce(pl.col("amount") * rate, "amount").alias("amount"),
        pl.when(rate.is_not_null()).then(pl.lit(currency)).otherwise(own).alias("currency"),
    )
    return converted, lacking
