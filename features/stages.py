"""The stage `features`: compute daily snapshots, recent events and the catalogue, and the page that describes them."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from features.catalogue import read_catalogue
from features.definitions import COMPUTED, VIEW_MEANING, VIEWS, check_owners, meaning_of, owner_of, unit, window
from features.engine.engines import EngineName, duckdb, row_count, spark
from features.engine.job import Job, Progress, SplitLog, Written, write_parts
from features.histories import write_log
from features.page.page import build_page
from features.promotions import write_promotions
from features.recent import EVENT_COLUMNS, recent_lists
from features.views.user_profile import user_profile
from features.views.user_reviews import score_reviews
from features.views.windows import Days
from shoplens.errors import FeatureError
from shoplens.files import read_json, whole_folder, write_json
from shoplens.params import Params
from shoplens.settings import Settings
from shoplens.stage import console

RECENT_ROWS = 2_000_000  # events per piece of the log when building lists of recent events
_NO_FEATURES = ("user_id", "item_id", "event_timestamp")


def _days(start: datetime, high_water: datetime, history_days: int | None) -> Days:
    """Return the days to snapshot: all since the first event, or the latest ones."""
    first, last = ((moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(days=1) for moment in (start, high_water))
    wanted = first + 1 if history_days is None else max(first + 1, last - history_days + 1)
    return Days(min(wanted, last), last)


def _progress(name: str) -> Progress:
    """Return a function that reports the progress of a table that takes more than one step."""

    def report(done: int, of: int) -> None:
        if of > 1:
            console.print(f"  {name} {done} of {of}")

    return report


def _read(pieces: list[Path], name: str) -> Iterator[pl.DataFrame]:
    """Yield the columns of recent events, one piece of the log at a time."""
    progress = _progress(name)
    for number, piece in enumerate(pieces, 1):
        source = str(piece / "*.parquet") if piece.is_dir() else piece
        yield pl.scan_parquet(source, hive_partitioning=False).select(EVENT_COLUMNS).collect()
        progress(number, len(pieces))


def _recent_parts(pieces: list[Path], n: int, high_water: datetime) -> Iterator[pa.RecordBatchReader]:
    """Yield the last `n` events of every user, sorted by user, one piece of the log at a time."""
    for events in _read(pieces, "recent_events"):
        yield recent_lists(events, n, high_water).to_arrow().to_reader()


def compute(validated: Path, out: Path, params: Params, engine: EngineName = "duckdb") -> dict[str, int]:
    """Write every table of `outs/features` and the page that describes them to `out`; return the rows per table."""
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
        fit_until = start + (high_water - start) * params.prepare.fit_share
        catalogue = read_catalogue(duck.connection.read_parquet(str(events)), items, fit_until)
        write_parts(out / "catalogue.parquet", [catalogue.frame.to_arrow().to_reader()])
        promotions = pl.read_parquet(validated / "promotions.parquet")
        write_promotions(promotions, catalogue, fit_until, out / "promotions.parquet")
        profile = user_profile(pl.read_parquet(validated / "users.parquet"), start.astimezone(UTC)).to_arrow()
        tables = {"user_profile": write_parts(out / "user_profile.parquet", [profile.to_reader()])}
        log = SplitLog(duck.connection, events, work)
        pieces = log.by("user_id", RECENT_ROWS)
        lists = _recent_parts(pieces, params.features.last_n, high_water)
        tables["recent_events"] = write_parts(out / "recent_events.parquet", lists)
        named = duck.connection.read_parquet(str(events)).filter("user_id IS NOT NULL").count("*").fetchall()[0][0]
        write_log(_read(pieces, "event_log"), named, catalogue, out / "event_log")
        days = _days(start, high_water, params.features.history_days)
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
    """Return `features.json`: the meaning, owner and missing share of each column of each view."""
    columns: dict[str, Mapping[str, float | None]] = {name: table.null_shares for name, table in tables.items()}
    columns |= {name: dict.fromkeys(features) for name, features in COMPUTED.items()}
    entries = [
        {
            "name": name,
            "view": view,
            "meaning": (meaning := meaning_of(view, name)),
            "unit": unit(meaning),
            "window": window(name),
            "owner": owner_of(view, params.features.owners),
            "null_share": share,
        }
        for view, shares in columns.items()
        for name, share in shares.items()
        if name not in _NO_FEATURES
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
