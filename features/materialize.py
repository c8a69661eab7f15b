"""Load the latest snapshots and the recent events of every user into the online store.

Each digest of the data has its own store, so the current store serves reads until the new one is complete. A run may be
killed at any time and repeated: copies are complete or absent, a load resumes after the rows already written, and the
state, which records what was loaded, is written last. Loading the same features again has no effect.
"""

import hashlib
import json
import shutil
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from features.engine.engines import quoted, row_count
from features.online_stores.rows import RowStore
from features.online_stores.sqlite_rows import DAMAGED
from features.online_stores.views import View
from features.store import (
    Places,
    StoreState,
    in_use,
    online_stores,
    open_rows,
    open_store,
    places,
    point,
    read_state,
    store_errors,
    store_name,
)
from features.tombstones import lift_tombstones, read_tombstones
from shoplens.errors import FeatureError, StoreUnavailableError
from shoplens.files import file_digest, folder_digest, read_json, whole_file, whole_folder, write_json
from shoplens.settings import Settings

if TYPE_CHECKING:
    from features.repo import Definitions

Window = tuple[datetime, datetime]
Report = Callable[[str], None]

_SLICE_ROWS = 32_768  # rows held in memory and written at once
_SLICE_ROWS_OF_LISTS = 4_096  # fewer, because a row with a user's last events takes about 10 KB
_MEMORY = "1GB"  # memory limit for sorting; beyond it DuckDB spills to disk
_SPILL = "spill"  # folder of these files in a copy; they hold people's rows
_REPORT_SECONDS = 5.0


@dataclass(frozen=True)
class MaterializeReport:
    """The result of a run: `changed` is False if the store already held this digest; `values` counts values written."""

    digest: str
    changed: bool
    users: int
    rows: int
    values: int
    seconds: float
    high_water: str


def materialize(settings: Settings, report: Report = lambda line: None) -> MaterializeReport:
    """Load `outs/features` into an online store, switch to it, and write its state to `var/feast/state.json`.

    Args:
        settings: Settings of the project.
        report: Called with a progress line every few seconds of a long load.

    Raises:
        FeatureError: there are no features yet.
        StoreUnavailableError: the online store cannot be written.
    """
    started = time.monotonic()
    features_dir, where = settings.outs_dir / "features", places(settings)
    if not (features_dir / "features.json").is_file():
        raise FeatureError(f"{features_dir}: must hold the features; run the stage `features` first")
    digest = _digest(features_dir, settings)
    try:
        state = read_state(where)
    except StoreUnavailableError:
        state = None  # unreadable: load everything again and overwrite the state
    changed, values = False, 0
    try:
        if state is None or not _is_current(state, digest, settings, report):
            state, values = _load(settings, where, features_dir, digest, state, report)
            changed = True
    except store_errors(settings) as error:
        raise StoreUnavailableError(f"online store ({settings.online_store}): cannot be written: {error}") from error
    seconds = round(time.monotonic() - started, 3)
    return MaterializeReport(digest, changed, state.users, state.rows, values, seconds, state.high_water)


def _digest(features_dir: Path, settings: Settings) -> str:
    """Return a digest of the features, the code that defines and stores them, and the kind of store."""
    total = hashlib.sha256(folder_digest(features_dir).encode())
    here = Path(__file__).parent
    for path in sorted(here.rglob("*.py")):
        name = path.relative_to(here).as_posix()
        if not name.startswith("live/"):
            total.update(f"{name}\0{file_digest(path)}\n".encode())
    total.update(settings.online_store.encode())
    return total.hexdigest()


@contextmanager
def removing_a_broken(rows: RowStore, report: Report) -> Iterator[None]:
    """Close a store at the end, and remove it if its file is no longer a valid database."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", None) not in DAMAGED:
            raise
        report(f"online store: was broken ({error}) and has been removed; the collector appends its live events again")
        rows.remove()
    finally:
        rows.close()


def _is_current(state: StoreState, digest: str, settings: Settings, report: Report) -> bool:
    """Return whether the current store holds this data."""
    if state.digest != digest or in_use(settings) != store_name(digest) or not places(settings).registry.is_file():
        return False
    rows = open_rows(settings)
    with removing_a_broken(rows, report):
        held = rows.state()
        return held is not None and held["digest"] == digest
    return False


def _windows(repo: "Definitions", about: dict[str, Any]) -> dict[str, Window]:
    """Return the first and last event time, per view, of rows that have not expired at the high-water mark.

    Recent events are loaded for every user who has any, so that a user who returns after a long time has the same
    history as in training. Until then they are expired and not served.
    """
    start, end = (datetime.fromisoformat(about["dataset"][name]).astimezone(UTC) for name in ("start", "high_water"))
    return {  # a TTL of zero: never expires
        name: (end - view.ttl if view.ttl and name != "recent_events" else start - timedelta(days=1), end)
        for name, view in repo.views.items()
    }


def _load(
    settings: Settings, where: Places, features_dir: Path, digest: str, old: StoreState | None, report: Report
) -> tuple[StoreState, int]:
    """Copy, load, switch stores, and finally write the state; return it and the number of values written."""
    from features.repo import definitions

    about, copy, name = read_json(features_dir / "features.json"), where.offline / digest, store_name(digest)
    dataset, source = about["dataset"], definitions(features_dir)
    windows = _windows(source, about)
    remove_leftovers(where.offline)
    freeze(features_dir, copy, windows)
    point(where.current, copy)
    repo = definitions(where.current)
    lift_tombstones(where.erased, features_dir, datetime.fromisoformat(dataset["high_water"]))
    file = where.online_store(settings, name)
    file.parent.mkdir(parents=True, exist_ok=True)
    lineage = hashlib.sha256(json.dumps([dataset[one] for one in ("source", "mapping", "identity")]).encode())
    for _ in range(2):  # a damaged store is removed, and then loaded from the start
        file.touch()  # before the first write, so that the remains of a killed load are found
        rows = open_rows(settings, name)
        with removing_a_broken(rows, report):
            rows.reject(read_tombstones(where.erased), only=True)
            counts = {
                view.name: load_view(rows, View.of(view), copy, digest, report)
                for view in source.views.values()
                if view.online
            }
            state = StoreState(
                digest=digest,
                lineage=lineage.hexdigest()[:16],
                high_water=dataset["high_water"],
                last_n=about["last_n"],
                users=row_count(copy / "recent_events.parquet"),
                rows=sum(row_count(copy / f"{one}.parquet") for one in counts),
                load=uuid.uuid4().hex,
            )
            rows.finish(asdict(state))
            _carry_live_events(settings, old, state, rows, report)
            break
    else:
        raise StoreUnavailableError(f"online store {name}: was damaged again during the load; check the disk")
    _register(settings, name, repo, windows)
    if where.online.resolve() != file.resolve():  # from now on, readers and pushes use this store
        if where.online.is_file():
            point(where.previous, where.online.resolve())
        point(where.online, file)
    write_json(where.state, asdict(state))
    _prune(settings, where)
    return state, sum(counts.values())


@contextmanager
def _sorting(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a DuckDB connection with bounded memory that spills below a folder."""
    spill = folder / _SPILL
    try:
        with duckdb.connect(config={"memory_limit": _MEMORY, "threads": 2, "temp_directory": str(spill)}) as engine:
            engine.execute("SET TimeZone = 'UTC'")
            yield engine
    finally:
        shutil.rmtree(spill, ignore_errors=True)


def remove_leftovers(offline: Path) -> None:
    """Remove temporary and spill files of killed loads and erasures; the stage `materialize` must be locked."""
    for path in [*offline.rglob(".*"), *offline.glob(f"*/{_SPILL}")]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def freeze(features_dir: Path, target: Path, windows: dict[str, Window]) -> None:
    """Copy the rows that have not expired to `target`, unless it already exists.

    Args:
        features_dir: Output of the stage `features`.
        target: The copy, which only the erasure of a person may change.
        windows: First and last event time per view.
    """
    if target.exists():
        return
    with whole_folder(target) as work, _sorting(work) as engine:
        for name, (begin, end) in windows.items():
            alive = f"event_timestamp BETWEEN '{begin.isoformat()}' AND '{end.isoformat()}'"
            rows = engine.read_parquet(str(features_dir / f"{name}.parquet")).filter(alive)
            rows.write_parquet(str(work / f"{name}.parquet"), compression="snappy")
        shutil.copy(features_dir / "features.json", work / "features.json")


def load_view(rows: RowStore, view: View, copy: Path, load: str, report: Report) -> int:
    """Write the newest row of each key that is not in the store yet; return the number of values written.

    Args:
        rows: The store.
        view: The view.
        copy: The folder that `freeze` wrote.
        load: ID of the load, by which an interrupted one is resumed.
        report: Called with a progress line every few seconds.
    """
    rows.prepare(view)
    done = begun = rows.loaded_rows(view, load)
    started = reported = time.monotonic()
    lists = any(kind.startswith("array") for _, kind in view.features)
    key, names = quoted(view.key), ", ".join(map(quoted, view.schema.names))
    with _sorting(copy) as engine:
        engine.read_parquet(str(copy / f"{view.name}.parquet")).create_view("rows")
        ((total,),) = engine.sql(f"SELECT count(DISTINCT {key}) FROM rows").fetchall()  # noqa: S608 - quoted
        if done == total:
            return 0
        latest = engine.sql(f"""
            SELECT {names} FROM rows
            JOIN (SELECT {key}, max(event_timestamp) AS event_timestamp FROM rows GROUP BY {key})
            USING ({key}, event_timestamp) ORDER BY {key} OFFSET {done}""")  # noqa: S608 - quoted
        for batch in latest.to_arrow_reader(_SLICE_ROWS_OF_LISTS if lists else _SLICE_ROWS):
            rows.write(view, batch)
            done += batch.num_rows
            rows.set_loaded_rows(view, load, done)
            if (now := time.monotonic()) - reported >= _REPORT_SECONDS:
                written, of = (done - begun) * len(view.names), total * len(view.names)
                rate = written / (now - started)
                report(f"{view.name}: {written:,} of {of:,} values, {rate:,.0f} per second")
                reported = now
    return (done - begun) * len(view.names)


def _carry_live_events(
    settings: Settings, old: StoreState | None, new: StoreState, rows: RowStore, report: Report
) -> None:
    """Copy live events that are not in the new data from the current store.

    Nothing is copied if the data has another source or does not reach further, because a correction may have removed
    events. The collector pushes missing events again, also for a broken store.
    """
    name = in_use(settings)
    if old is None or name is None or old.lineage != new.lineage:
        return
    high_water = datetime.fromisoformat(new.high_water)
    if high_water > datetime.fromisoformat(old.high_water):
        micros = (high_water - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        used = open_rows(settings, name)
        with removing_a_broken(used, report):
            rows.append([event for event in used.live() if event.known_micros >= micros])


def _register(settings: Settings, name: str, repo: "Definitions", windows: dict[str, Window]) -> None:
    """Apply the definitions to a new registry, record the loaded windows as Feast does, and switch to it."""
    with whole_file(places(settings).registry) as work:
        feast = open_store(settings, name, work)
        try:
            feast.apply(repo.objects())
            for view in repo.views.values():
                if view.online:
                    feast.registry.apply_materialization(view, feast.project, *windows[view.name], commit=False)
            feast.registry.commit()
        finally:
            feast._get_provider().online_store.disconnect()  # Feast has no public accessor for its store


def _prune(settings: Settings, where: Places) -> None:
    """Remove copies and stores of data other than the current and the previous one."""
    kept = {where.online.resolve().stem, where.previous.resolve().stem}
    for path in where.offline.iterdir():
        if path.is_dir() and not path.is_symlink() and store_name(path.name) not in kept:
            shutil.rmtree(path, ignore_errors=True)
    for name in set(online_stores(settings)) - kept:
        with closing(open_rows(settings, name)) as rows:
            rows.remove()
        where.online_store(settings, name).unlink(missing_ok=True)
