"""Preparation of validated tables: the declared steps for missing values, outliers and bots, and their report."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from events.contract import ATTRIBUTES
from events.parquet import GroupedWriter
from expectations.drift import Floats
from expectations.quarantine import RowSplit, read_batches, rewrite
from expectations.suites import reasons_of
from expectations.validator import bounded_connection
from shoplens.errors import SettingsError
from shoplens.params import BotsParams, MissingParams, OutlierParams, PrepareParams

_BINS = 128  # per unit of sign(x) log(1 + |x|): money and counts are heavy-tailed, so distances are measured as ratios
_MAD_TO_SPREAD = 1.4826  # standard deviation / median absolute deviation of a normal distribution


def number_at(level: float) -> float:
    """Return the number x with the level sign(x) log(1 + |x|)."""
    return math.copysign(math.expm1(abs(level)), level)


def _quantile(values: Floats, counts: Floats, share: float) -> float:
    """Return the value below which a share of the counted values lies, NaN if there are none."""
    order = np.argsort(values)
    reached = np.cumsum(counts[order])
    return float(values[order][np.searchsorted(reached, share * reached[-1])]) if len(values) else math.nan


@dataclass(frozen=True)
class Sketch:
    """A histogram of the levels of numbers; it does not depend on their order."""

    levels: Floats = field(default_factory=lambda: np.zeros(0))  # multiples of 1 / _BINS
    counts: Floats = field(default_factory=lambda: np.zeros(0))  # of each level

    def quantile(self, share: float) -> float:
        """Return the level below which a share of the numbers lies, NaN if there are none."""
        return _quantile(self.levels, self.counts, share)

    def spread(self) -> float:
        """Return a robust spread of the levels: 1.4826 times their median absolute deviation.

        If more than half of the numbers are equal (most quantities are 1), that would be 0; only the others are used.
        """
        distances = np.abs(self.levels - self.quantile(0.5))
        others = distances > 0
        middle = _quantile(distances, self.counts, 0.5) or _quantile(distances[others], self.counts[others], 0.5)
        return _MAD_TO_SPREAD * middle


def sketch_of(rows: pl.LazyFrame, column: str) -> Sketch:
    """Return the histogram of the finite values of a column."""
    number = pl.col(column).cast(pl.Float64)
    level = (number.sign() * number.abs().log1p() * _BINS).round().cast(pl.Int64) / _BINS
    counted = rows.select(number).filter(number.is_finite()).group_by(level).len().collect(engine="streaming")
    return Sketch(counted[column].to_numpy(), counted["len"].cast(pl.Float64).to_numpy())


BOTS_SCHEMA: dict[str, Any] = {
    "user": pl.String,
    "reasons": pl.List(pl.String),
    "events": pl.Int64,
    "most_a_minute": pl.Int64,
    "views": pl.Int64,
    "dwells": pl.Int64,
    "dwells_expected": pl.Float64,
    "most_hours_a_day": pl.Int64,
}
# Lines of one order share a timestamp, so only page views, clicks and searches are counted per minute.
_MEASURES = """
WITH seen AS (
    SELECT coalesce(user_id, anonymous_id) AS who, event_time, platform, dwell_seconds,
        event_name = 'view_item' AS viewed,
        event_name IN ('view_item', 'view_item_list', 'select_item', 'search') AS browsed
    FROM read_parquet($events)
    WHERE coalesce(user_id, anonymous_id) IS NOT NULL AND event_time IS NOT NULL
),
platforms AS (
    SELECT platform, count(*) FILTER (dwell_seconds > 0) / count(*) AS share FROM seen WHERE viewed GROUP BY platform
),
minutes AS (
    SELECT who, date_trunc('minute', event_time) AS minute, count(*) AS n FROM seen WHERE browsed GROUP BY ALL
),
fast AS (SELECT who, max(n) AS most_a_minute FROM minutes GROUP BY who HAVING max(n) >= $events_a_minute),
dwelling AS (
    SELECT who, platform, count(*) AS views, count(*) FILTER (dwell_seconds > 0) AS dwells
    FROM seen WHERE viewed GROUP BY ALL
),
idle AS (
    SELECT who, sum(views) AS views, sum(dwells) AS dwells,
        round(sum(views * share ORDER BY dwelling.platform), 3) AS dwells_expected
    FROM dwelling JOIN platforms ON dwelling.platform IS NOT DISTINCT FROM platforms.platform
    GROUP BY who HAVING sum(dwells) = 0 AND sum(views * share ORDER BY dwelling.platform) >= $dwells_expected
),
hours AS (
    SELECT who, date_trunc('day', event_time) AS day, count(DISTINCT date_trunc('hour', event_time)) AS n
    FROM (SELECT DISTINCT who, date_trunc('hour', event_time) AS event_time FROM seen) GROUP BY ALL
),
sleepless AS (SELECT who, max(n) AS most_hours_a_day FROM hours GROUP BY who HAVING max(n) >= $hours_a_day),
found AS (SELECT who FROM fast UNION SELECT who FROM idle UNION SELECT who FROM sleepless),
counted AS (SELECT who, count(*) AS events FROM seen SEMI JOIN found USING (who) GROUP BY who)
SELECT who AS user,
    list_filter([
        CASE WHEN dwells_expected IS NOT NULL THEN 'never_dwells' END,
        CASE WHEN most_hours_a_day IS NOT NULL THEN 'never_sleeps' END,
        CASE WHEN most_a_minute IS NOT NULL THEN 'too_fast' END
    ], lambda reason: reason IS NOT NULL) AS reasons,
    events, most_a_minute, views, dwells, dwells_expected, most_hours_a_day
FROM found JOIN counted USING (who)
LEFT JOIN fast USING (who) LEFT JOIN idle USING (who) LEFT JOIN sleepless USING (who)
ORDER BY user
"""


def find_bots(events: Path, params: BotsParams) -> pl.DataFrame:
    """Return the users who behave like bots, BOTS_SCHEMA, sorted by user; a measure is null below its threshold.

    too_fast: at least `events_a_minute` pages, clicks and searches within one minute. never_dwells: no view has a dwell
    time, although at least `dwells_expected` would have one at the average share of their platforms. never_sleeps:
    events in at least `hours_a_day` different hours of one day. The file `events` may be larger than memory.
    """
    limits = params.model_dump(exclude={"action"})
    with bounded_connection() as connection:
        found = connection.execute(_MEASURES, {"events": str(events), **limits}).fetchall()
    return pl.DataFrame(found, schema=BOTS_SCHEMA, orient="row")


def is_bot(bots: pl.DataFrame) -> pl.Expr:
    """Return an expression that is true for the events of bots."""
    return pl.coalesce("user_id", "anonymous_id").is_in(bots["user"].implode())


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
    if known is None or not len(known.levels):
        return Step(about | {"value": None}, step.column, missing)
    about["value"] = float(f"{number_at(known.quantile(0.5)):.6g}")
    filled = pl.col(step.column).fill_null(pl.lit(about["value"]).cast(schema[step.column], strict=False))
    return Step(about, step.column, missing, value=filled)


def _limits(step: OutlierParams, known: Sketch) -> tuple[float, float]:
    """Return the limits beyond which a value is an outlier; infinite if they cannot be determined."""
    if not len(known.levels):
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


_TABLES = ("events", "items", "users")


@dataclass(frozen=True)
class Prepared:
    """The result of preparation."""

    report: dict[str, Any]  # JSON-serializable values, identical for identical rows

    def lines(self) -> list[str]:
        """Return the report as text."""
        lines = []
        for step in self.report["missing"]:
            done = f"filled with {step['value']}" if "value" in step else step["action"]
            lines.append(f"  {step['table']}.{step['column']} missing: {step['rows']:,} rows, {done}")
        for step in self.report["outliers"]:
            low, high = ("any" if end is None else f"{end:,.4g}" for end in (step["low"], step["high"]))
            lines.append(f"  {step['column']} outside {low} to {high}: {step['rows']:,} rows, {step['action']}")
        bots = self.report["bots"]
        if bots["action"] != "keep":
            lines.append(f"  bots: {bots['users']:,} users with {bots['events']:,} events, {bots['action']}")
        return ["preparation:", *lines]


def _steps(table: str, path: Path, params: PrepareParams) -> tuple[list[Step], list[Step], datetime | None]:
    """Return the steps for missing values and outliers of a table, and the time up to which they were fitted."""
    schema = dict(pl.read_parquet_schema(path))
    missing = [step for step in params.missing if step.table == table]
    outliers = params.outliers if table == "events" else ()
    rows, until = pl.scan_parquet(path), None
    if table == "events":
        first, last = rows.select(first=pl.col("event_time").min(), last=pl.col("event_time").max()).collect().row(0)
        until = None if first is None else first + (last - first) * params.fit_share
    fitted = {step.column for step in outliers} | {step.column for step in missing if step.action == "median"}
    rows = rows if until is None else rows.filter(pl.col("event_time") <= until)
    known = {name: sketch_of(rows, name) for name in fitted if name in schema and schema[name].is_numeric()}
    return (
        [missing_step(step, schema, known.get(step.column)) for step in missing],
        [outlier_step(step, schema, known.get(step.column, Sketch())) for step in outliers],
        until,
    )


def _apply(frame: pl.DataFrame, steps: Sequence[Step], counts: list[int]) -> tuple[pl.DataFrame, pl.Series]:
    """Apply the steps in order and add their rows to `counts`; return the rows, and the reasons to quarantine each."""
    reasons = pl.repeat([], frame.height, dtype=pl.List(pl.String), eager=True)
    for index, step in enumerate(steps):
        affected = frame.select(step.affected.fill_null(value=False).alias("affected")).to_series()
        counts[index] += int(affected.sum())
        if step.reason is not None:
            more = pl.select(reasons_of({step.reason: pl.lit(affected)})).to_series()
            reasons = pl.select(pl.concat_list(reasons, more)).to_series()
        if step.value is not None:
            frame = frame.with_columns(step.value.alias(step.column))
    return frame, reasons


def _prepare_table(
    table: str, path: Path, params: PrepareParams, bots: pl.DataFrame, split: RowSplit, quarantine: GroupedWriter
) -> dict[str, Any]:
    missing, outliers, until = _steps(table, path, params)
    steps = [*missing, *outliers]
    if table == "events" and params.bots.action == "exclude":
        steps.append(Step({}, "user_id", is_bot(bots), reason="bot_like"))
    counts, quarantined, remaining = (
        [0] * len(steps),
        dict.fromkeys((s.reason for s in steps if s.reason), 0),
        split.good,
    )
    if any(step.reason is not None or step.value is not None for step in steps):
        work = path.with_name(f".{path.name}")
        found, _, remaining = rewrite(
            table, path, work, lambda frame: _apply(frame, steps, counts), split.original_positions, quarantine
        )
        work.replace(path)
        quarantined |= found
    elif steps:
        columns = list(dict.fromkeys(name for step in steps for name in step.affected.meta.root_names()))
        for frame in read_batches(path, columns):
            _apply(frame, steps, counts)
    report = [step.about | {"rows": count} for step, count in zip(steps, counts, strict=True)]
    return {
        "missing": report[: len(missing)],
        "outliers": report[len(missing) : len(missing) + len(outliers)],
        "fit_until": None if until is None else until.isoformat(),
        "account": {"rows_in": split.good, "rows_out": remaining, "set_aside": quarantined},
    }


def prepare(folder: Path, params: PrepareParams, splits: dict[str, RowSplit], quarantine: GroupedWriter) -> Prepared:
    """Apply the declared steps to the accepted rows of `events`, `items` and `users` in a folder.

    A table that a step changes is rewritten, and `bots.parquet` (BOTS_SCHEMA) is added. By `splits`, quarantined rows
    keep their row numbers in `outs/events`.

    Raises:
        SettingsError: a step names a column that does not exist or whose type does not suit it.
    """
    keep_all = params.bots.action == "keep"
    bots = pl.DataFrame(schema=BOTS_SCHEMA) if keep_all else find_bots(folder / "events.parquet", params.bots)
    done = {
        table: _prepare_table(table, folder / f"{table}.parquet", params, bots, splits[table], quarantine)
        for table in _TABLES
    }
    bots.write_parquet(folder / "bots.parquet")
    report = {
        "missing": [step for table in _TABLES for step in done[table]["missing"]],
        "outliers": done["events"]["outliers"],
        "fit_until": done["events"]["fit_until"],
        "bots": {
            "action": params.bots.action,
            "users": bots.height,
            "events": int(bots["events"].sum()),
            "reasons": dict(sorted(bots["reasons"].explode().drop_nulls().value_counts().iter_rows())),
        },
        "accounts": {table: done[table]["account"] for table in _TABLES},
    }
    return Prepared(report)
