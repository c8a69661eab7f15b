"""Application of the declared steps to validated tables, with a report of what they did."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from events.parquet import GroupedWriter
from expectations.preparation.bots import BOTS_SCHEMA, find_bots, is_bot
from expectations.preparation.sketch import Sketch, sketch_of
from expectations.preparation.steps import Step, missing_step, outlier_step
from expectations.quarantine import RowSplit, add_reason_counts, quarantine_rows, read_batches
from expectations.row_rules import reasons_of
from shoplens.params import PrepareParams

_TABLES = ("events", "items", "users")


@dataclass(frozen=True)
class Prepared:
    """The result of preparation."""

    report: dict[str, Any]  # JSON-serializable values, identical for identical rows
    rows: dict[str, int]  # table -> remaining rows

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


def _fit_until(events: Path, share: float) -> datetime | None:
    """Return the time up to which limits are fitted; None for a log without times."""
    times = pl.scan_parquet(events).select(pl.col("event_time").min().alias("a"), pl.col("event_time").max().alias("b"))
    first, last = times.collect().row(0)
    return None if first is None else first + (last - first) * share


def _steps(table: str, path: Path, params: PrepareParams) -> tuple[list[Step], list[Step], datetime | None]:
    """Return the steps for missing values and outliers of a table, and the time up to which they were fitted."""
    schema = dict(pl.read_parquet_schema(path))
    missing = [step for step in params.missing if step.table == table]
    outliers = params.outliers if table == "events" else ()
    until = _fit_until(path, params.fit_share) if table == "events" else None
    fitted = {step.column for step in outliers} | {step.column for step in missing if step.action == "median"}
    rows = pl.scan_parquet(path)
    rows = rows if until is None else rows.filter(pl.col("event_time") <= until)
    known = {name: sketch_of(rows, name) for name in fitted if name in schema and schema[name].is_numeric()}
    return (
        [missing_step(step, schema, known.get(step.column)) for step in missing],
        [outlier_step(step, schema, known.get(step.column, Sketch())) for step in outliers],
        until,
    )


def _apply(frame: pl.DataFrame, steps: Sequence[Step], counts: list[int]) -> pl.DataFrame:
    """Apply the steps in order, add their rows to `counts`, and put the reasons for quarantine into `_reasons`."""
    frame = frame.with_columns(pl.lit([], dtype=pl.List(pl.String)).alias("_reasons"))
    for index, step in enumerate(steps):
        affected = frame.select(step.affected.fill_null(value=False).alias("affected")).to_series()
        counts[index] += int(affected.sum())
        if step.reason is not None:
            more = reasons_of({step.reason: pl.lit(affected)})
            frame = frame.with_columns(pl.concat_list("_reasons", more).alias("_reasons"))
        if step.value is not None:
            frame = frame.with_columns(step.value.alias(step.column))
    return frame


def _count(path: Path, steps: Sequence[Step]) -> list[int]:
    """Return the number of rows that each step affects, for a table that no step changes."""
    counts = [0] * len(steps)
    columns = list(dict.fromkeys(name for step in steps for name in step.affected.meta.root_names()))
    for frame in read_batches(path, columns) if steps else ():
        _apply(frame, steps, counts)
    return counts


def _rewrite(
    table: str, path: Path, steps: Sequence[Step], split: RowSplit, quarantine: GroupedWriter
) -> tuple[list[int], dict[str, int], int]:
    """Rewrite a table; return the rows affected per step, the rows quarantined per reason, and the remaining rows."""
    counts, quarantined, start = [0] * len(steps), dict.fromkeys([s.reason for s in steps if s.reason], 0), 0
    work = path.with_name(f".{path.name}")
    prepared = _apply(pl.DataFrame(schema=pl.read_parquet_schema(path)), steps, [0] * len(steps)).drop("_reasons")
    writer = GroupedWriter(work, prepared.schema)
    for raw in read_batches(path):
        done = _apply(raw, steps, counts)
        is_bad = done["_reasons"].list.len() > 0
        rows = split.original_positions((is_bad.arg_true().cast(pl.Int64) + start).to_numpy())
        reasons = done["_reasons"].filter(is_bad)
        quarantine.add(quarantine_rows(table, raw.filter(is_bad), pl.Series(rows, dtype=pl.Int64), reasons))
        add_reason_counts(quarantined, reasons)
        writer.add(done.filter(~is_bad).drop("_reasons"))
        start += raw.height
    writer.close()
    work.replace(path)
    return counts, quarantined, writer.rows


def _prepare_table(
    table: str, path: Path, params: PrepareParams, bots: pl.DataFrame, split: RowSplit, quarantine: GroupedWriter
) -> dict[str, Any]:
    missing, outliers, until = _steps(table, path, params)
    steps = [*missing, *outliers]
    if table == "events" and params.bots.action == "exclude":
        steps.append(Step({}, "user_id", is_bot(bots), reason="bot_like"))
    if any(step.reason is not None or step.value is not None for step in steps):
        counts, quarantined, remaining = _rewrite(table, path, steps, split, quarantine)
    else:
        counts, quarantined, remaining = _count(path, steps), {}, split.good
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
    return Prepared(report, {table: done[table]["account"]["rows_out"] for table in _TABLES})
