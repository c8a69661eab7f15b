"""Computing one view after the other, each from as many events at once as memory allows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from features.engine.contract import Engine
from features.engine.plan import CATALOGUE, EVENTS, SENTIMENT, Schemas, compiled
from features.engine.shards import Pieces, SplitLog
from features.engine.write import ROW_GROUP, TableWriter, dated, write_parts
from features.views import View
from features.windows import Days

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

    def _pieces(self, view: View) -> Pieces:
        """Return the events in pieces; Spark cuts for itself."""
        if view.whole or self.engine.name == "spark":
            return Pieces((self.log.events,), whole=True)
        return self.log.by(view.keys[0], _ONE_DAY_ROWS if self.days.single else _HISTORY_ROWS)

    def write(self, view: View, progress: Progress) -> TableWriter:
        """Write NAME.parquet: keys, event_timestamp, features; rows by piece of the keys, then day, then key."""
        return write_parts(self.out / f"{view.name}.parquet", self._parts(view, progress))

    def _parts(self, view: View, progress: Progress) -> Iterator[pa.RecordBatchReader]:
        pieces = self._pieces(view).files
        for place, piece in enumerate(pieces):
            files = tuple(sorted(piece.glob("*.parquet"))) if piece.is_dir() else (piece,)
            yield dated(self._rows(view, files), len(view.keys))
            progress(place + 1, len(pieces))

    def _rows(self, view: View, files: tuple[Path, ...]) -> pa.RecordBatchReader:
        """Return the snapshots of some files of events, by day and then keys."""
        sentiment = (self.sentiment,) if view.reviews and self.sentiment is not None else None
        schemas = Schemas(
            self.engine.read(EVENTS, files),
            self.engine.read(CATALOGUE, (self.out / "catalogue.parquet",)),
            None if sentiment is None else self.engine.read(SENTIMENT, sentiment),
        )
        sql, schema = compiled(self.engine.name, view.build, view.keys, self.days, self.reach, schemas)
        return self.engine.run(sql, schema, ROW_GROUP)
