"""The slices of a load: cut once from the snapshots, then written one by one and counted.

A copy of the snapshots holds, for every online view, `latest/VIEW.parquet`: the newest row of each entity, sorted by
its key. A row group of it is a slice: what is held in memory and written at once.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from features.online_stores.rows import RowStore
from features.online_stores.views import View
from features.sql import quoted
from shoplens.files import whole_folder

_SLICE_ROWS = 32_768
_SLICE_ROWS_OF_LISTS = 4_096  # a row with the last events of a user takes some 10 KB
_MEMORY = "1GB"  # what sorting may hold; more goes to the disk
_REPORT_SECONDS = 5.0


def freeze(
    features_dir: Path, target: Path, windows: dict[str, tuple[datetime, datetime]], online: Iterable[View]
) -> None:
    """Copy the rows that have not expired into `target`, and cut the slices, unless that is there already.

    Args:
        features_dir: As the stage `features` left it.
        target: The copy; only the erasure of a person changes it.
        windows: First and last event time of each view.
        online: The views that are loaded.
    """
    if target.exists():
        return
    with whole_folder(target) as work, duckdb.connect(":memory:") as engine:
        (work / "latest").mkdir()
        engine.execute(f"SET memory_limit = '{_MEMORY}'; SET threads = 2; SET TimeZone = 'UTC'")
        engine.execute("SET temp_directory = $1", [str(work / "spill")])
        for name, (begin, end) in windows.items():
            alive = f"event_timestamp BETWEEN '{begin.isoformat()}' AND '{end.isoformat()}'"
            rows = engine.read_parquet(str(features_dir / f"{name}.parquet")).filter(alive)
            rows.write_parquet(str(work / f"{name}.parquet"), compression="snappy")
        for view in online:
            _write_slices(engine, view, work / f"{view.name}.parquet", work / f"latest/{view.name}.parquet")
        shutil.rmtree(work / "spill", ignore_errors=True)
        shutil.copy(features_dir / "features.json", work / "features.json")


def _write_slices(engine: duckdb.DuckDBPyConnection, view: View, source: Path, target: Path) -> None:
    engine.read_parquet(str(source)).create_view("rows", replace=True)
    key, names = quoted(view.key), ", ".join(map(quoted, view.schema.names))
    latest = engine.sql(f"""
        SELECT {names} FROM rows
        JOIN (SELECT {key}, max(event_timestamp) AS event_timestamp FROM rows GROUP BY {key})
        USING ({key}, event_timestamp) ORDER BY {key}""")  # noqa: S608 - quoted
    lists = any(kind.startswith("array") for _, kind in view.features)
    size = _SLICE_ROWS_OF_LISTS if lists else _SLICE_ROWS
    latest.write_parquet(str(target), compression="snappy", row_group_size=size)


def load_view(rows: RowStore, view: View, copy: Path, load: str, report: Callable[[str], None]) -> int:
    """Write the slices of a view that the store does not have yet, and return the number of feature values written.

    Args:
        rows: The store.
        view: The view.
        copy: Where `freeze` left the slices.
        load: Names the load, so that an interrupted one is resumed.
        report: Gets a line every few seconds.
    """
    progress, written, started = f"slices of {view.name}", 0, time.monotonic()
    reported = started
    rows.prepare(view)
    with pq.ParquetFile(copy / "latest" / f"{view.name}.parquet") as slices:
        total = slices.metadata.num_rows * len(view.names)
        held = json.loads(rows.meta(progress) or "{}")
        for place in range(held.get(load, 0), slices.num_row_groups):
            table = slices.read_row_group(place)
            for batch in table.combine_chunks().to_batches():  # several only where texts of a slice take over 2 GB
                rows.write(view, batch)
            rows.set_meta(progress, json.dumps({load: place + 1}))
            written += table.num_rows * len(view.names)
            if (now := time.monotonic()) - reported >= _REPORT_SECONDS:
                report(f"{view.name}: {written:,} of {total:,} values, {written / (now - started):,.0f} per second")
                reported = now
    return written
