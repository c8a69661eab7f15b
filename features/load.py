"""The slices that a load consists of: cut once from the snapshots, then written one by one and counted.

A copy of the snapshots holds, for every online view, `latest/VIEW.parquet`: the newest row of each entity, sorted by
its key. A row group of it is a slice: what is held in memory, written as one transaction, and counted with it.
"""

import shutil
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from features.online_stores.rows import Progress, RowStore
from features.online_stores.shape import ViewShape
from features.sql import quoted
from shoplens.files import whole_folder

if TYPE_CHECKING:
    from feast import FeatureView

_SLICE_ROWS = 32_768
_SLICE_ROWS_OF_LISTS = 4_096  # a row with the last events of a user takes some 10 KB
_MEMORY = "1GB"  # what sorting may hold; more goes to the disk
_TELL_SECONDS = 5.0


def freeze(
    features_dir: Path, target: Path, windows: dict[str, tuple[datetime, datetime]], online: Iterable["FeatureView"]
) -> None:
    """Copy the rows that can be alive into `target`, and cut the slices, unless that is there already.

    Args:
        features_dir: As the stage `features` left it.
        target: The copy; it never changes but by the removal of a person.
        windows: First and last event time of each view.
        online: The views that are loaded.
    """
    if target.exists():
        return
    with whole_folder(target) as work:
        (work / "latest").mkdir()
        with duckdb.connect(":memory:", config={"memory_limit": _MEMORY, "threads": 2}) as engine:
            engine.execute("SET TimeZone = 'UTC'")
            engine.execute("SET temp_directory = $1", [str(work / "spill")])
            for name, window in windows.items():
                _copy_alive(engine, features_dir / f"{name}.parquet", work / f"{name}.parquet", window)
            for view in online:
                _copy_latest(engine, ViewShape.of(view), work / f"{view.name}.parquet", work / "latest")
        shutil.rmtree(work / "spill", ignore_errors=True)
        shutil.copy(features_dir / "features.json", work / "features.json")


def _copy_alive(
    engine: duckdb.DuckDBPyConnection, source: Path, target: Path, window: tuple[datetime, datetime]
) -> None:
    alive = engine.read_parquet(str(source)).filter(
        f"event_timestamp BETWEEN '{window[0].isoformat()}' AND '{window[1].isoformat()}'"
    )
    alive.write_parquet(str(target), compression="snappy")


def _copy_latest(engine: duckdb.DuckDBPyConnection, shape: ViewShape, source: Path, folder: Path) -> None:
    rows = engine.read_parquet(str(source))
    keys = ", ".join(map(quoted, shape.keys))
    rows.create_view("rows")
    rows.aggregate(f"{keys}, max(event_timestamp) AS event_timestamp", keys).create_view("last")
    names = ", ".join(map(quoted, (*shape.keys, "event_timestamp", *shape.names)))
    on = ", ".join(map(quoted, (*shape.keys, "event_timestamp")))
    latest = engine.sql(f"SELECT {names} FROM rows JOIN last USING ({on}) ORDER BY {keys}")  # noqa: S608 - quoted
    lists = any(kind.is_list for kind in shape.kinds)
    latest.write_parquet(
        str(folder / f"{shape.name}.parquet"),
        compression="snappy",
        row_group_size=_SLICE_ROWS_OF_LISTS if lists else _SLICE_ROWS,
    )


def load_view(rows: RowStore, shape: ViewShape, copy: Path, load: str, tell: Callable[[str], None]) -> int:
    """Write the slices of a view that the store does not have yet, and return the count of feature values written.

    Args:
        rows: The store.
        shape: Of the view.
        copy: Where `freeze` left the slices.
        load: Names the load, so that one cut short goes on.
        tell: Gets a line every few seconds.
    """
    written, started = 0, time.monotonic()
    told = started
    with pq.ParquetFile(copy / "latest" / f"{shape.name}.parquet") as slices:
        total = slices.metadata.num_rows * len(shape.names)
        for place in range(rows.progress(shape.name, load), slices.num_row_groups):
            table: Any = slices.read_row_group(place)
            *batches, last = table.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], table.schema)]
            for batch in batches:  # more than one only where texts of a slice take more than 2 GB
                rows.load(shape, batch)
            rows.load(shape, last, Progress(load, place + 1))
            written += table.num_rows * len(shape.names)
            if (now := time.monotonic()) - told >= _TELL_SECONDS:
                tell(f"{shape.name}: {written:,} of {total:,} values, {written / (now - started):,.0f} a second")
                told = now
    return written
