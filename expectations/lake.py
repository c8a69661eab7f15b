"""The same suites on one day of a lake, on some of them, or on all."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import polars as pl

from events.lake.index import day_events
from events.lake.manifest import Manifest
from events.lake.place import existing
from events.lake.sides import CONTENT, held_side
from events.lake.store import Place, Store
from events.transform.items import every_item
from expectations.data_docs import build_data_docs
from expectations.drift.report import Drift
from expectations.drift.run import empty_table, hold, judge_log, require_season, show
from expectations.sift import batches, judging
from expectations.validator import TableResult, TableValidator, open_tables, require_few_bad
from shoplens.errors import SettingsError
from shoplens.params import ExpectationsParams
from shoplens.settings import Settings
from shoplens.stage import console


@dataclass(frozen=True)
class Days:
    """From which day to which one, both included; None is the lake's own end."""

    first: date | None = None
    last: date | None = None

    def of(self, manifest: Manifest) -> list[date]:
        """Return the days of a lake that are meant and have events, in order.

        Raises:
            SettingsError: there is none.
        """
        held = [date.fromisoformat(day) for day in sorted(manifest.days)]
        first, last = self.first or date.min, self.last or date.max
        meant = [day for day in held if first <= day <= last]
        if not meant:
            span = f"{held[0]} to {held[-1]}" if held else "no day at all"
            raise SettingsError(
                f"--day, --from, --to: must name a day with events; received {self.first} to {self.last}, the lake "
                f"holds {span}. Choose one of these"
            )
        return meant


def _write_sides(store: Store, manifest: Manifest, folder: Path, seen: pl.Series) -> dict[str, Path]:
    """Write items, users and campaigns as `shoplens fetch` freezes them; return the file of each."""
    frames = {
        "items": every_item(held_side(store, manifest, "item_table"), held_side(store, manifest, CONTENT), seen),
        "users": held_side(store, manifest, "users"),
        "campaigns": held_side(store, manifest, "campaigns"),
    }
    paths = {name: folder / f"{name}.parquet" for name in frames}
    for name, frame in frames.items():
        frame.write_parquet(paths[name])
    return paths


def _seen_items(paths: list[Path]) -> pl.Series:
    seen = pl.Series("item_id", [], dtype=pl.String)
    for path in paths:
        for frame in batches(path, ["item_id"]):
            seen = pl.concat([seen, frame["item_id"].drop_nulls()]).unique()
    return seen


def _season(store: Store, manifest: Manifest, days: list[date], reference_days: int) -> Iterator[pl.DataFrame]:
    """Yield the events of some days and of those that they are compared with."""
    first = days[0] - timedelta(days=reference_days)
    for name, day in sorted(manifest.days.items()):
        if first <= date.fromisoformat(name) <= days[-1]:
            yield day_events(store, day)


def _require_few_bad(result: TableResult, paths: list[Path], share: float) -> int:
    """Return how many rows are bad; stop where they are too many, before they are looked for if that is plain."""
    counts = result.failed.values()
    require_few_bad(result, max(counts, default=0), share)
    if len(counts) < 2:
        return sum(counts)
    judged = judging(result, paths)
    bad = sum(int((frame.select(judged).to_series().list.len() > 0).sum()) for path in paths for frame in batches(path))
    require_few_bad(result, bad, share)
    return bad


def _table(results: list[TableResult], bad: dict[str, int]) -> None:
    for result in results:
        console.print(f"{result.table}: {result.rows:,} rows, {bad[result.table]:,} bad")
        for found in result.findings:
            console.print(f"  {found.reason}: {found.count:,} rows, such as {list(found.examples)}")


def validate_lake(place: Place, days: Days, params: ExpectationsParams, settings: Settings) -> Drift:
    """Hold days of a lake against the suites and their season; build Data Docs and print what was found.

    Args:
        place: The lake, a folder or a URL.
        days: Which.
        params: What is too much.
        settings: Where the pages go.

    Raises:
        SettingsError: the lake has no event on these days.
        BrokenTableError: a table is broken, or a day is outside its season and that stops the run.
    """
    store, manifest, _ = existing(place)
    meant = days.of(manifest)
    files = [file for day in meant for file in manifest.days[str(day)].files]
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        events = [stack.enter_context(store.local(file.path)) for file in files]
        sides = _write_sides(store, manifest, folder, _seen_items(events))
        judged, database = folder / "drift.parquet", folder / "tables.duckdb"
        empty_table(judged)
        with open_tables(database, {"events": events, **sides, "drift": judged}) as context:
            validator = TableValidator(context, database)
            try:
                results = [validator.validate(table) for table in ("events", *sides)]
                season = _season(store, manifest, meant, params.drift.reference_days)
                drift = judge_log(season, pl.read_parquet(sides["items"]), params.drift, meant[0], days.last)
                hold(drift, judged, validator, params.drift)
                show(drift, store.name, settings)
            finally:
                console.print(f"Data Docs: {build_data_docs(context, settings)}")
        paths = {"events": events, **{name: [path] for name, path in sides.items()}}
        _table(results, {r.table: _require_few_bad(r, paths[r.table], params.max_bad_share) for r in results})
    require_season(drift, params.drift)
    return drift
