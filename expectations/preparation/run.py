"""Applying the declared steps to validated tables, and the report of what they did."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from events.lake.table import GroupedWriter
from expectations.preparation.bots import BOTS_SCHEMA, find_bots, is_bot
from expectations.preparation.sketch import Sketch
from expectations.preparation.steps import Step, changes, missing_step, outlier_step
from expectations.rows import reasons_of
from expectations.sift import Sifted, batches, set_aside
from shoplens.params import MissingParams, PrepareParams

_TABLES = ("events", "items", "users")


@dataclass(frozen=True)
class Prepared:
    """What became of the tables.

    Attributes:
        report: Plain values, the same for the same rows.
        rows: Table -> rows that are left.
    """

    report: dict[str, Any]
    rows: dict[str, int]

    def lines(self) -> list[str]:
        """Return the report in words."""
        found = []
        for step in self.report["missing"]:
            done = f"filled with {step['value']}" if "value" in step else step["action"]
            found.append(f"  {step['table']}.{step['column']} missing: {step['rows']:,} rows, {done}")
        for step in self.report["outliers"]:
            ends = f"{_end(step['low'])} to {_end(step['high'])}"
            found.append(f"  {step['column']} outside {ends}: {step['rows']:,} rows, {step['action']}")
        bots = self.report["bots"]
        if bots["action"] != "keep":
            found.append(f"  bot-like: {bots['users']:,} users with {bots['events']:,} events, {bots['action']}")
        return ["preparation:", *found]


def _end(number: float | None) -> str:
    return "any" if number is None else f"{number:,.4g}"


def _fit_until(events: Path, share: float) -> datetime | None:
    """Return the moment before which limits are learned; None for a log without times."""
    times = pl.scan_parquet(events).select(pl.col("event_time").min().alias("a"), pl.col("event_time").max().alias("b"))
    first, last = times.collect().row(0)
    return None if first is None else first + (last - first) * share


def _sketches(path: Path, columns: Sequence[str], until: datetime | None) -> dict[str, Sketch]:
    """Return the distribution of columns, of rows before a moment where one is given."""
    sketches = {column: Sketch() for column in columns}
    if not columns:
        return sketches
    needed = list(dict.fromkeys([*columns, *(["event_time"] if until else [])]))
    for frame in batches(path, needed):
        known = frame if until is None else frame.filter(pl.col("event_time") <= until)
        for column, sketch in sketches.items():
            sketch.add(known[column])
    return sketches


def _median_columns(steps: Sequence[MissingParams], schema: dict[str, Any]) -> list[str]:
    return [s.column for s in steps if s.action == "median" and s.column in schema and schema[s.column].is_numeric()]


def _steps(table: str, path: Path, params: PrepareParams) -> tuple[list[Step], list[Step], datetime | None]:
    """Return the steps for missing values and for outliers of a table, and up to when they were learned."""
    schema = dict(pl.read_parquet_schema(path))
    gaps = [step for step in params.missing if step.table == table]
    far = params.outliers if table == "events" else ()
    until = _fit_until(path, params.fit_share) if table == "events" else None
    wanted = dict.fromkeys([*_median_columns(gaps, schema), *(step.column for step in far if step.column in schema)])
    known = _sketches(path, list(wanted), until)
    missing = [missing_step(step, schema, known.get(step.column)) for step in gaps]
    return missing, [outlier_step(step, schema, known.get(step.column, Sketch())) for step in far], until


def _apply(frame: pl.DataFrame, steps: Sequence[Step], counts: list[int]) -> pl.DataFrame:
    """Return a frame with the steps done one after the other, and `_reasons` for which rows are set aside."""
    reasons = [pl.lit([], dtype=pl.List(pl.String)).alias("_reasons")]
    frame = frame.with_columns(reasons)
    for place, step in enumerate(steps):
        concerned = frame.select(step.concerns.fill_null(value=False).alias("_it"))["_it"]
        counts[place] += int(concerned.sum())
        if step.reason is not None:
            more = reasons_of({step.reason: pl.lit(concerned)})
            frame = frame.with_columns(pl.concat_list("_reasons", more).alias("_reasons"))
        if step.value is not None:
            frame = frame.with_columns(step.value.alias(step.column))
    return frame


def _count(path: Path, steps: Sequence[Step]) -> list[int]:
    """Return how many rows each step is about, of a table that no step changes."""
    counts = [0] * len(steps)
    columns = list(dict.fromkeys(name for step in steps for name in step.concerns.meta.root_names()))
    for frame in batches(path, columns) if steps else ():
        _apply(frame, steps, counts)
    return counts


def _rewrite(
    table: str, path: Path, steps: Sequence[Step], sifted: Sifted, quarantine: GroupedWriter
) -> tuple[list[int], dict[str, int], int]:
    """Write a table anew; return the rows of each step, the rows set aside by reason, and the rows left."""
    counts, aside, start = [0] * len(steps), dict.fromkeys([s.reason for s in steps if s.reason], 0), 0
    work = path.with_name(f".{path.name}")
    added = {step.column: pl.String for step in steps if step.value is not None}
    schema = {**dict.fromkeys(added, pl.String), **dict(pl.read_parquet_schema(path))}
    ordered = {name: schema[name] for name in [*pl.read_parquet_schema(path), *schema]}
    writer = GroupedWriter(work, ordered)
    for raw in batches(path):
        done = _apply(raw, steps, counts)
        goes = done["_reasons"].list.len() > 0
        places = sifted.place_before((goes.arg_true().cast(pl.Int64) + start).to_numpy())
        reasons = done["_reasons"].filter(goes)
        quarantine.add(set_aside(table, raw.filter(goes), pl.Series(places, dtype=pl.Int64), reasons))
        for reason, count in reasons.explode().value_counts().iter_rows():
            aside[reason] += count
        writer.add(done.filter(~goes).drop("_reasons"))
        start += raw.height
    writer.close()
    work.replace(path)
    return counts, aside, writer.rows


def _prepare_table(
    table: str, path: Path, params: PrepareParams, bots: pl.DataFrame, sifted: Sifted, quarantine: GroupedWriter
) -> dict[str, Any]:
    missing, outliers, until = _steps(table, path, params)
    steps = [*missing, *outliers]
    if table == "events" and params.bots.action == "exclude":
        steps.append(Step({}, "user_id", is_bot(bots), reason="bot_like"))
    if changes(steps):
        counts, aside, left = _rewrite(table, path, steps, sifted, quarantine)
    else:
        counts, aside, left = _count(path, steps), {}, sifted.good
    told = [step.about | {"rows": count} for step, count in zip(steps, counts, strict=True)]
    return {
        "missing": told[: len(missing)],
        "outliers": told[len(missing) : len(missing) + len(outliers)],
        "fit_until": None if until is None else until.isoformat(),
        "account": {"rows_in": sifted.good, "rows_out": left, "set_aside": aside},
    }


def prepare(folder: Path, params: PrepareParams, sifted: dict[str, Sifted], quarantine: GroupedWriter) -> Prepared:
    """Do the declared steps to the tables of a folder.

    Args:
        folder: With the good rows of `events`, `items` and `users`; a table that a step changes is written anew, and
            `bots.parquet` (BOTS_SCHEMA) is added.
        params: The steps.
        sifted: What became of each table before, so that rows set aside keep their places in `outs/events`.
        quarantine: Takes QUARANTINE_SCHEMA.

    Raises:
        SettingsError: a step names a column that is not there, or not of the kind that it needs.
    """
    looked_for = params.bots.action != "keep"
    bots = find_bots(folder / "events.parquet", params.bots) if looked_for else pl.DataFrame(schema=BOTS_SCHEMA)
    done = {
        table: _prepare_table(table, folder / f"{table}.parquet", params, bots, sifted[table], quarantine)
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
