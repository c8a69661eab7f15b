"""Steps for missing values and outliers, built from their declarations and applied to frames."""

import math
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
    """One step, ready to be applied."""

    about: dict[str, Any]  # the declaration and the fitted values, for the report
    column: str  # the column that it reads or replaces
    affected: pl.Expr  # true for the affected rows; null counts as false
    reason: str | None = None  # the reason under which affected rows are quarantined; None keeps them
    value: pl.Expr | None = None  # the new value of the column for all rows; None leaves it unchanged


def _require_column(step: MissingParams | OutlierParams, table: str, schema: dict[str, Any]) -> None:
    if step.column not in schema:
        raise SettingsError(
            f"prepare: column must exist in table {table}; received {step.column!r}. "
            f"Choose one of {', '.join(sorted(schema))}"
        )


def _constant(step: MissingParams, schema: dict[str, Any]) -> pl.Expr:
    kind = schema[step.column]
    try:
        return pl.lit(pl.Series([step.value], dtype=kind, strict=True).first(), dtype=kind)
    except (TypeError, pl.exceptions.PolarsError) as error:
        raise SettingsError(
            f"prepare.missing: value for column {step.column!r} must be of type {kind}; received {step.value!r}. "
            f"Correct the value in params.yaml"
        ) from error


def _flagged(step: MissingParams, missing: pl.Expr) -> tuple[str, pl.Expr]:
    """Return the column that flags a missing value, and its new value."""
    if step.table != "events":
        return f"{step.column}_missing", pl.when(missing).then(pl.lit("yes")).otherwise(pl.lit("no"))
    # The event contract has a fixed set of columns, so the flag becomes an attribute.
    flag = pl.struct(pl.lit(FLAG_KEY).alias("key"), pl.lit(step.column).alias("value"))
    attributes = pl.col("attributes").fill_null(pl.lit([], dtype=ATTRIBUTES))
    return "attributes", pl.when(missing).then(pl.concat_list(attributes, flag)).otherwise(attributes)


def missing_step(step: MissingParams, schema: dict[str, Any], known: Sketch | None) -> Step:
    """Return the step for the missing values of a column; `known`, its distribution, is needed for a median.

    Raises:
        SettingsError: the column does not exist or its type does not suit the action.
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
    if not schema[step.column].is_numeric():
        raise SettingsError(
            f"prepare.missing: action median requires a numeric column; {step.column!r} of {step.table} is "
            f"{schema[step.column]}. Use action constant or flag instead"
        )
    if known is None or not known.count:
        return Step(about | {"value": None}, step.column, missing)
    about["value"] = float(f"{number_at(known.quantile(0.5)):.6g}")
    filled = pl.col(step.column).fill_null(pl.lit(about["value"]).cast(schema[step.column], strict=False))
    return Step(about, step.column, missing, value=filled)


def _limits(step: OutlierParams, known: Sketch) -> tuple[float, float]:
    """Return the limits beyond which a value is an outlier; infinite if they cannot be determined."""
    if not known.count:
        return -math.inf, math.inf
    if step.by == "quantiles":
        ends = known.quantile(step.limit), known.quantile(1 - step.limit)
    else:
        middle, spread = known.quantile(0.5), known.spread()
        if math.isnan(spread):  # all values are equal
            return -math.inf, math.inf
        ends = middle - step.limit * spread, middle + step.limit * spread
    low, high = (float(f"{number_at(end):.6g}") for end in ends)
    return low, high


def outlier_step(step: OutlierParams, schema: dict[str, Any], known: Sketch) -> Step:
    """Return the step for the outliers of a column of the events, whose limits are fitted on `known`.

    Raises:
        SettingsError: the column does not exist.
    """
    _require_column(step, "events", schema)
    low, high = _limits(step, known)
    column = pl.col(step.column)
    outside = (column < low) | (column > high)
    if schema[step.column].is_float():
        outside &= column.is_not_nan()
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
