"""Computing one view after the other, each from as many events at once as memory allows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from features.engine.contract import Engine, EngineName
from features.engine.log import read_log
from features.engine.shards import SplitLog
from features.engine.write import ROW_GROUP, Written, dated, write_parts
from features.views import View, ViewInput
from features.windows import Days

_EVENTS, _CATALOGUE, _SENTIMENT = "events", "catalogue", "sentiment"  # names that the SQL reads
_DIALECTS = {"duckdb": "duckdb", "spark": "pyspark"}
Progress = Callable[[int, int], None]  # parts done, parts in all

# Events at once. One day's snapshot holds one state per key; a history holds the changes of every key and day.
_ONE_DAY_ROWS = 200_000_000
_HISTORY_ROWS = 4_000_000


@dataclass(frozen=True)
class Job:
    """What all views of one run share.

    Attributes:
        engine: Computes.
        log: The events, whole and in pieces.
        out: The folder that gets NAME.parquet; `catalogue.parquet` is there already.
        days: Which days get a snapshot.
        reach: Days after an event that a user stays active.
        sentiment: Parquet of event_id, sentiment of the reviews; None: no review was scored.
    """

    engine: Engine
    log: SplitLog
    out: Path
    days: Days
    reach: int
    sentiment: Path | None = None

    def write(self, view: View, progress: Progress) -> Written:
        """Write NAME.parquet: keys, event_timestamp, features; rows by piece of the keys, then day, then key."""
        return write_parts(self.out / f"{view.name}.parquet", self._parts(view, progress))

    def _parts(self, view: View, progress: Progress) -> Iterator[pa.RecordBatchReader]:
        if view.whole or self.engine.name == "spark":  # Spark cuts for itself
            pieces = [self.log.events]
        else:
            pieces = self.log.by(view.keys[0], _ONE_DAY_ROWS if self.days.single else _HISTORY_ROWS)
        for place, piece in enumerate(pieces):
            files = tuple(sorted(piece.glob("*.parquet"))) if piece.is_dir() else (piece,)
            yield dated(self._rows(view, files), len(view.keys))
            progress(place + 1, len(pieces))

    def _rows(self, view: View, files: tuple[Path, ...]) -> pa.RecordBatchReader:
        """Return the snapshots of some files of events, by day and then keys."""
        sources = {_EVENTS: files, _CATALOGUE: (self.out / "catalogue.parquet",)}
        if view.reviews and self.sentiment is not None:
            sources[_SENTIMENT] = (self.sentiment,)
        tables = tuple((name, self.engine.read(name, found)) for name, found in sources.items())
        sql, schema = _compiled(self.engine.name, view.build, view.keys, self.days, self.reach, tables)
        return self.engine.run(sql, schema, ROW_GROUP)


@lru_cache(maxsize=512)
def _compiled(
    engine: EngineName,
    build: Callable[[ViewInput], ir.Table],
    keys: tuple[str, ...],
    days: Days,
    reach: int,
    tables: tuple[tuple[str, ibis.Schema], ...],
) -> tuple[str, ibis.Schema]:
    """Return the SQL of a view, rows by day and then keys, and its columns: a pure function, and a slow one."""
    # Fusing takes a third of the time of compiling, and helps no engine: both flatten subqueries themselves.
    ibis.options.sql.fuse_selects = False
    inputs = {name: ibis.table(schema, name=name) for name, schema in tables}
    log = read_log(inputs[_EVENTS], engine, inputs.get(_SENTIMENT))
    if keys[0] == "user_id":
        log = log.filter(log.user_id.notnull())
    rows = build(ViewInput(log, inputs[_CATALOGUE], days, reach)).order_by("day", *keys)
    return str(ibis.to_sql(rows, dialect=_DIALECTS[engine], pretty=False)), rows.schema()
