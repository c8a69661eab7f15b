"""The declared steps for missing values and outliers, as what each does with the rows of a frame."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from events.contract import ATTRIBUTES
from expectations.preparation.sketch import Sketch, number_at
from shoplens.errors import SettingsError
from shoplens.params import MissingParams, OutlierParams

FLAG_KEY = "missing"  # of an event's attributes; the value is the column


@dataclass(frozen=True)
class Step:
    """One step, ready to be applied.

    Attributes:
        about: What was declared, and what was learned for it, for the report.
        column: Which it is about.
        concerns: True for the rows that it is about; null counts as false.
        reason: Under which these rows go to quarantine; None: they stay.
        value: What becomes of the column, for all rows; None: it stays as it is.
    """

    about: dict[str, Any]
    column: str
    concerns: pl.Expr
    reason: str | None = None
    value: pl.Expr | None = None


def _require_column(step: MissingParams | OutlierParams, table: str, schema: dict[str, Any]) -> None:
    if step.column not in schema:
        raise SettingsError(
            f"prepare: {step.column!r} must be a column of {table}; its columns are {', '.join(sorted(schema))}"
        )


def _require_number(step: MissingParams, schema: dict[str, Any]) -> None:
    if not schema[step.column].is_numeric():
        raise SettingsError(
            f"prepare.missing: action median needs a number; {step.column!r} of {step.table} is "
            f"{schema[step.column]}. Fill it with a constant, or flag it"
        )


def _constant(step: MissingParams, schema: dict[str, Any]) -> pl.Expr:
    kind = schema[step.column]
    try:
        return pl.lit(pl.Series([step.value], dtype=kind, strict=True).first(), dtype=kind)
    except (TypeError, pl.exceptions.PolarsError) as error:
        raise SettingsError(
            f"prepare.missing: value of {step.column!r} must be a {kind}; received {step.value!r}. Correct it"
        ) from error


def _flagged(step: MissingParams, missing: pl.Expr) -> tuple[str, pl.Expr]:
    """Return which column says that one is missing, and its new value."""
    if step.table != "events":
        return f"{step.column}_missing", pl.when(missing).then(pl.lit("yes")).otherwise(pl.lit("no"))
    # The contract of events is closed: what is said beyond it goes among the attributes.
    note = pl.struct(pl.lit(FLAG_KEY).alias("key"), pl.lit(step.column).alias("value"))
    said = pl.col("attributes").fill_null(pl.lit([], dtype=ATTRIBUTES))
    return "attributes", pl.when(missing).then(pl.concat_list(said, note)).otherwise(said)


def missing_step(step: MissingParams, schema: dict[str, Any], known: Sketch | None) -> Step:
    """Return a step for missing values.

    Args:
        step: As declared.
        schema: Of its table.
        known: The values that there are, for a median.

    Raises:
        SettingsError: the column is not there, or is not of the kind that the action needs.
    """
    _require_column(step, step.table, schema)
    missing = pl.col(step.column).is_null()
    about: dict[str, Any] = {"table": step.table, "column": step.column, "action": step.action}
    if step.action == "drop":
        return Step(about, step.column, missing, reason=f"{step.column}_missing")
    if step.action == "flag":
        column, value = _flagged(step, missing)
        return Step(about, column, missing, value=value)
    if step.action == "constant":
        about["value"] = step.value
        return Step(about, step.column, missing, value=pl.col(step.column).fill_null(_constant(step, schema)))
    _require_number(step, schema)
    if known is None or not known.count:
        return Step(about | {"value": None}, step.column, missing)
    about["value"] = float(f"{number_at(known.quantile(0.5)):.6g}")
    filled = pl.col(step.column).fill_null(pl.lit(about["value"]).cast(schema[step.column], strict=False))
    return Step(about, step.column, missing, value=filled)


def _limits(step: OutlierParams, known: Sketch) -> tuple[float, float]:
    """Return between which numbers values are ordinary; infinite where nothing tells."""
    if not known.count:
        return -math.inf, math.inf
    if step.by == "quantiles":
        ends = known.quantile(step.limit), known.quantile(1 - step.limit)
    else:
        middle, spread = known.quantile(0.5), known.spread()
        if math.isnan(spread):  # all are equal
            return -math.inf, math.inf
        ends = middle - step.limit * spread, middle + step.limit * spread
    low, high = (float(f"{number_at(end):.6g}") for end in ends)
    return low, high


def outlier_step(step: OutlierParams, schema: dict[str, Any], known: Sketch) -> Step:
    """Return a step for outliers.

    Args:
        step: As declared.
        schema: Of the events.
        known: The values that limits are learned from.
    """
    _require_column(step, "events", schema)
    low, high = _limits(step, known)
    column = pl.col(step.column)
    outside = (
        ((column < low) | (column > high)) & column.is_not_nan()
        if schema[step.column].is_float()
        else ((column < low) | (column > high))
    )
    about = {
        "column": step.column,
        "by": step.by,
        "limit": step.limit,
        "action": step.action,
        "low": low if math.isfinite(low) else None,
        "high": high if math.isfinite(high) else None,
    }
    if step.action == "quarantine":
        return Step(about, step.column, outside, reason=f"{step.column}_outlier")
    if step.action == "report":
        return Step(about, step.column, outside)
    capped = pl.when(outside).then(column.clip(low, high)).otherwise(column).cast(schema[step.column])
    return Step(about, step.column, outside, value=capped)


def changes(steps: Sequence[Step]) -> bool:
    """Say whether steps change or set aside any row at all."""
    return any(step.reason is not None or step.value is not None for step in steps)
