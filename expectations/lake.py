"""Run the suites on a lake: on one day, a range of days, or all days."""

import tempfile
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import polars as pl

from events.lake import Place, Snapshot
from expectations.drift_report import Drift
from expectations.quarantine import read_batches, reasons_expression
from expectations.stages import require_no_drift, run_suites
from expectations.validator import TableResult, require_few_bad
from shoplens.errors import SettingsError
from shoplens.params import ExpectationsParams
from shoplens.settings import Settings
from shoplens.stage import console


@dataclass(frozen=True)
class Days:
    """A range of days, both ends inclusive; None means the lake's first or last day."""

    first: date | None = None
    last: date | None = None

    def of(self, snapshot: Snapshot) -> list[date]:
        """Return the days of a lake in the range that have events, in order.

        Raises:
            SettingsError: there are none.
        """
        held = snapshot.days()
        first, last = self.first or date.min, self.last or date.max
        meant = [day for day in held if first <= day <= last]
        if not meant:
            span = f"{held[0]} to {held[-1]}" if held else "no day at all"
            raise SettingsError(
                f"--day, --from, --to: must name a day with events; received {self.first} to {self.last}, the lake "
                f"holds {span}. Choose one of these"
            )
        return meant


def _write_tables(snapshot: Snapshot, days: list[date], folder: Path) -> dict[str, list[Path]]:
    """Write each day's events to a file, and items, users and campaigns as the stage `fetch` freezes them."""
    paths = {"events": [folder / f"events-{day}.parquet" for day in days]}
    seen = pl.Series("item_id", [], dtype=pl.String)
    for day, path in zip(days, paths["events"], strict=True):
        events = snapshot.day(day)
        events.write_parquet(path, compression="lz4")
        seen = pl.concat([seen, events["item_id"].drop_nulls()]).unique()
    sides = {"items": snapshot.items(seen), "users": snapshot.side("users"), "campaigns": snapshot.side("campaigns")}
    for name, frame in sides.items():
        paths[name] = [folder / f"{name}.parquet"]
        frame.write_parquet(paths[name][0])
    return paths


def _require_few_bad(result: TableResult, paths: list[Path], share: float) -> int:
    """Return the number of bad rows; raise if there are too many, without reading rows if the counts suffice."""
    counts = result.failed.values()
    require_few_bad(result, max(counts, default=0), share)
    if len(counts) < 2:
        return sum(counts)
    reasons = reasons_expression(result, paths)
    frames = (frame for path in paths for frame in read_batches(path))
    bad = sum(int((frame.select(reasons).to_series().list.len() > 0).sum()) for frame in frames)
    require_few_bad(result, bad, share)
    return bad


def validate_lake(place: Place, days: Days, params: ExpectationsParams, settings: Settings) -> Drift:
    """Validate days of a lake against the suites and check them for drift; build Data Docs and print the findings.

    Args:
        place: The lake, a folder or a URL.
        days: The days to validate.
        params: The limits.
        settings: Settings, which name the folder for the pages.

    Raises:
        SettingsError: the lake has no event on these days.
        BrokenTableError: a table is broken, or a day is outside its season and that stops the run.
    """
    snapshot = Snapshot(place)
    meant = days.of(snapshot)
    with tempfile.TemporaryDirectory() as scratch:
        paths = _write_tables(snapshot, meant, Path(scratch))
        since = meant[0] - timedelta(days=params.drift.reference_days)  # reference days
        season = (snapshot.day(day) for day in snapshot.days() if since <= day <= meant[-1])
        results, drift = run_suites(paths, season, snapshot.name, params, settings, meant[0], days.last)
        for result in results:
            bad = _require_few_bad(result, paths[result.table], params.max_bad_share)
            console.print(f"{result.table}: {result.rows:,} rows, {bad:,} bad")
            for found in result.findings:
                console.print(f"  {found.reason}: {found.count:,} rows, such as {list(found.examples)}")
    require_no_drift(drift, params.drift)
    return drift
