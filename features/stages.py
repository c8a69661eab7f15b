"""The stage `features`: validated tables to daily snapshots, recent events, the catalogue, and a page about them."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from features.catalogue import read_catalogue
from features.definitions import (
    COMPUTED,
    RECENT_DESCRIPTIONS,
    SLOW_VIEWS,
    VIEW_MEANING,
    VIEWS,
    check_owners,
    owner_of,
    unit,
    window,
)
from features.engine.contract import EngineName
from features.engine.duck import duckdb
from features.engine.job import Job, Progress
from features.engine.shards import SplitLog, row_count
from features.engine.spark import spark
from features.engine.write import Written, write_parts, write_whole
from features.page.page import build_page
from features.recent import EVENT_COLUMNS, recent_lists
from features.sentiment import score_reviews
from features.user_profile import describe, user_profile
from features.windows import Days
from shoplens.errors import FeatureError
from shoplens.files import read_json, whole_folder, write_json
from shoplens.params import Params
from shoplens.settings import Settings
from shoplens.stage import console

RECENT_ROWS = 2_000_000  # events per piece of the log, while lists of recent events are built
_NO_FEATURES = frozenset({"user_id", "item_id", "event_timestamp"})


def _described(view: str, columns: Mapping[str, float | None], owner: str) -> list[dict[str, Any]]:
    """Return the entries of `features.json` for one view: `columns` holds the share of nulls in each."""
    known = {**SLOW_VIEWS.get(view, {}), **RECENT_DESCRIPTIONS, **COMPUTED.get(view, {})}
    meanings = {name: known.get(name) or describe(name) for name in columns if name not in _NO_FEATURES}
    return [
        {
            "name": name,
            "view": view,
            "meaning": meaning,
            "unit": unit(meaning),
            "window": window(name),
            "owner": owner,
            "null_share": columns[name],
        }
        for name, meaning in meanings.items()
    ]


def _day(moment: datetime) -> int:
    """Return the UTC day of a moment, since 1970."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(days=1)


def _days(start: datetime, last: int, history_days: int | None) -> Days:
    """Return the days that get a snapshot: all since the first event, or the last ones."""
    first = _day(start) + 1
    return Days(min(first if history_days is None else max(first, last - history_days + 1), last), last)


def _progress(name: str) -> Progress:
    """Return a function that reports the progress of a table that takes more than one step."""

    def report(done: int, of: int) -> None:
        if of > 1:
            console.print(f"  {name} {done} of {of}")

    return report


def _recent_parts(pieces: list[Path], n: int, high_water: datetime) -> Iterator[pa.RecordBatchReader]:
    """Yield the last `n` events of every user, sorted by user, one piece of the log after the other."""
    progress = _progress("recent_events")
    for number, piece in enumerate(pieces, 1):
        source = str(piece / "*.parquet") if piece.is_dir() else piece
        events = pl.scan_parquet(source, hive_partitioning=False).select(EVENT_COLUMNS).collect()
        yield recent_lists(events, n, high_water).to_arrow().to_reader()
        progress(number, len(pieces))


def compute(validated: Path, out: Path, params: Params, engine: EngineName = "duckdb") -> dict[str, int]:
    """Write every table of `outs/features` into `out`, and the page about them; return rows per table."""
    check_owners(params.features.owners)
    dataset = read_json(validated / "dataset.json")
    start, high_water = (datetime.fromisoformat(dataset[name]) for name in ("start", "high_water"))
    events = validated / "events.parquet"
    if row_count(events) == 0:
        raise FeatureError(f"{events}: must have at least one event; it has none")
    work = out / ".work"
    work.mkdir()
    with duckdb(work) as duck:
        items = pl.read_parquet(validated / "items.parquet")
        catalogue = read_catalogue(duck.connection.read_parquet(str(events)), items)
        write_whole(out / "catalogue.parquet", catalogue.frame.to_arrow())
        profile = user_profile(pl.read_parquet(validated / "users.parquet"), start.astimezone(UTC)).to_arrow()
        tables: dict[str, Written] = {"user_profile": write_whole(out / "user_profile.parquet", profile)}
        log = SplitLog(duck.connection, events, work)
        lists = _recent_parts(log.by("user_id", RECENT_ROWS), params.features.last_n, high_water)
        tables["recent_events"] = write_parts(out / "recent_events.parquet", lists)
        days = _days(start, _day(high_water), params.features.history_days)
        sentiment = score_reviews(duck.connection, events, work / "sentiment.parquet")
        with nullcontext(duck) if engine == "duckdb" else spark() as chosen:
            job = Job(chosen, log, out, days, params.features.active_days, sentiment)
            tables |= {view.name: job.write(view, _progress(view.name)) for view in VIEWS}
        about = _about(tables, dataset, params)
        write_json(out / "features.json", about)
        page = build_page(duck.connection, out, about)
        (out / "features.html").write_text(page, encoding="utf-8")
    shutil.rmtree(work)
    return {**about["rows"], "catalogue": catalogue.frame.height}


def _about(tables: Mapping[str, Written], dataset: dict[str, Any], params: Params) -> dict[str, Any]:
    """Return `features.json`: what each column of each view means, whom to ask, and how much of it is missing."""
    shares: dict[str, Mapping[str, float | None]] = {name: table.null_shares() for name, table in tables.items()}
    shares |= {name: dict.fromkeys(columns) for name, columns in COMPUTED.items()}
    entries = [
        entry
        for name, columns in shares.items()
        for entry in _described(name, columns, owner_of(name, params.features.owners))
    ]
    rows = {name: table.rows for name, table in tables.items()}
    about = {"views": VIEW_MEANING, "features": entries, "rows": rows, "dataset": dataset}
    return about | params.features.model_dump()


def features(params: Params, settings: Settings) -> None:
    """Compute `outs/features` from `outs/validated`."""
    validated = settings.outs_dir / "validated"
    if not (validated / "events.parquet").is_file():
        raise FeatureError(f"{validated}: must hold the validated tables; run the stage `validate` first")
    with whole_folder(settings.outs_dir / "features") as work:
        rows = compute(validated, work, params, settings.engine)
    console.print("  ".join(f"{name} {count:,}" for name, count in sorted(rows.items())))
