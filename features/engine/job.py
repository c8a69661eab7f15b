"""Computing one view after the other, each from as many events at once as memory allows."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ibis.expr.types as ir

from features.engine.contract import Engine
from features.engine.shards import Pieces, SplitLog
from features.engine.write import ROW_GROUP, TableWriter, dated
from features.views import View, World
from features.windows import Days

# Events at once. One day's snapshot holds one state a key; every day's holds changes of every key and day.
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

    def world(self, view: View, events: tuple[Path, ...]) -> World:
        """Return what `view` is computed from, over some files of events."""
        log = self.engine.log(events, self.sentiment if view.reviews else None)
        if view.keys[0] == "user_id":
            log = log.filter(log.user_id.notnull())
        return World(log, self.engine.table(self.out / "catalogue.parquet"), self.days, self.reach)

    def rows(self, view: View, events: tuple[Path, ...]) -> ir.Table:
        """Return the snapshots of one piece in the order of the file: day, then keys."""
        return view.build(self.world(view, events)).order_by("day", *view.keys)

    def write(self, view: View, progress: Callable[[int, int], None]) -> TableWriter:
        """Write NAME.parquet: keys, event_timestamp, features; rows by piece of the keys, then day, then key."""
        pieces = self._pieces(view).files
        writer: TableWriter | None = None
        for place, piece in enumerate(pieces):
            files = tuple(sorted(piece.glob("*.parquet"))) if piece.is_dir() else (piece,)
            batches = dated(self.engine.batches(self.rows(view, files), ROW_GROUP), len(view.keys))
            writer = writer or TableWriter(self.out / f"{view.name}.parquet", batches.schema)
            writer.write(batches)
            progress(place + 1, len(pieces))
        assert writer is not None  # a log has at least one piece
        with writer:
            return writer
