"""Quarantined rows of a lake: written out to be corrected, and replayed.

A row is written as one line of JSON: its `_batch`, `_table`, `_row` and `_reasons`, then the columns of the source.
Whoever corrects it changes columns only; `_batch`, `_table` and `_row` identify the quarantined row it replaces.
"""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from events.account import TableAccount
from events.contract import QUARANTINE_SCHEMA
from events.entries import Entry
from events.lake import Place, Snapshot
from events.lake.commit import append_incoming
from events.lake.ingest import in_order
from events.lake.table import created, existing
from events.mapping import EventTable, Mapping, columns_of
from events.reading import Reading
from events.sources.files import Size, table_name
from events.sources.readers import read_table
from events.transform.ids import salt_of
from events.transform.records import Rows, sources_of
from events.transform.rows import TableState
from shoplens.errors import SourceError
from shoplens.files import file_digest, whole_file

_KEYS = ("_batch", "_table", "_row", "_reasons")


def quarantined(lake: Place, reason: str | None = None) -> pl.DataFrame:
    """Return QUARANTINE_SCHEMA and `batch` of a lake, of all rows or of those with a reason.

    Raises:
        SourceError: there is no lake.
    """
    rows = Snapshot(lake).quarantine()
    return rows if reason is None else rows.filter(pl.col("reasons").list.contains(reason))


def reasons_by_table(rows: pl.DataFrame) -> list[tuple[str, str, int]]:
    """Return (table, reason, count), the most frequent first; a row with several reasons counts under each."""
    counted = rows.explode("reasons").group_by("table", "reasons").len()
    return counted.sort("len", "table", "reasons", descending=[True, False, False]).rows()


def write_rows(rows: pl.DataFrame, target: Path) -> int:
    """Write QUARANTINE_SCHEMA rows to be corrected; return how many.

    Events whose ID the lake holds with other content have no row number and are left out: nothing in them can be
    corrected, either the source is right or the lake.
    """
    chosen = rows.filter(pl.col("row").is_not_null())
    with whole_file(target) as work, work.open("w", encoding="utf-8") as stream:
        for row in chosen.iter_rows(named=True):
            keys = {"_batch": row["batch"], "_table": row["table"], "_row": row["row"], "_reasons": row["reasons"]}
            stream.write(json.dumps(keys | json.loads(row["raw"]), ensure_ascii=False) + "\n")
    return chosen.height


def _entry(table: str, mapping: Mapping) -> tuple[EventTable, str]:
    """Return the entry of the mapping that read the table of that label, and the salt of its IDs."""
    file, _, place = table.removesuffix(")").partition(" (events ")
    fitting = [
        (spec, n) for n, spec in enumerate(mapping.events) if spec.table in ("*", table_name(Path(file))) or place
    ]
    if place:
        fitting = [(spec, n) for spec, n in fitting if n == int(place) - 1]
    if not fitting:
        raise SourceError(
            f"_table: must be a table of events that mapping {mapping.name} reads; received {table!r}. Give the "
            f"mapping it was read with; rows of items, users and campaigns are corrected in their file"
        )
    spec, n = fitting[0]
    before = sum(other.table == spec.table for other in mapping.events[:n])
    return spec.model_copy(update={"each": None}), salt_of(spec.table, before)


def _read(path: Path) -> pl.DataFrame:
    frame = read_table(path)
    missing = [name for name in ("_batch", "_table", "_row") if name not in frame.columns or frame[name].null_count()]
    if missing:
        raise SourceError(
            f"{path}: {', '.join(missing)}: every line must have it, as `shoplens quarantine list --out` wrote it. "
            f"Put it back"
        )
    return frame


def _own_columns(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the columns of the source that any of these rows has: tables of other columns are in the same file."""
    columns = [name for name in frame.columns if name not in _KEYS]
    return frame.select(name for name in columns if frame[name].null_count() < frame.height)


@dataclass(frozen=True)
class _Corrected(Entry):
    """The corrected rows of one table; their row numbers are positions in the frame."""

    frame: pl.DataFrame = field(default_factory=pl.DataFrame)

    def rows(self, size: Size | None = None) -> Iterator[tuple[Rows, None]]:
        """Yield the rows."""
        yield Rows(self.frame, frozenset()), None


def _corrected(frame: pl.DataFrame, table: str, mapping: Mapping, path: Path) -> Entry:
    spec, salt = _entry(table, mapping)
    own = _own_columns(frame)
    read = dict.fromkeys(name for source in sources_of(spec) for name in columns_of(source))
    absent = [name for name in read if name not in own.columns]
    own = own.with_columns(pl.lit(None, dtype=pl.String).alias(name) for name in absent)
    return _Corrected(table, path, spec, mapping, salt, TableState(spec, mapping), frame=own)


def _in_quarantine(rejected: pl.DataFrame, frames: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """Return QUARANTINE_SCHEMA rows under the row numbers that the lake's quarantine knows them by."""
    named = [
        rejected.filter(pl.col("table") == table).with_columns(
            pl.col("row").replace_strict(dict(enumerate(frame["_row"])), return_dtype=pl.Int64)
        )
        for table, frame in frames.items()
    ]
    return pl.concat(named)


def replay(lake: Place, mapping: Mapping, corrected: Path) -> dict[str, TableAccount]:
    """Append corrected rows to their lake, all or nothing; what is still wrong stays in quarantine with its reasons.

    Args:
        lake: The lake, a folder or an fsspec URL.
        mapping: The mapping that the rows were read with, or a corrected one.
        corrected: What `write_rows` wrote, corrected.

    Raises:
        SourceError: no lake, no such file, or a line that does not name the row it replaces.
        MappingError: the mapping reads something that the rows lack.
    """
    place = created(existing(lake).name, mapping.identity, f"mapping {mapping.name}")
    frame = _read(corrected)
    frames = {str(table): rows for (table,), rows in frame.partition_by("_table", as_dict=True).items()}
    entries = [_corrected(rows, table, mapping, corrected) for table, rows in frames.items()]
    with tempfile.TemporaryDirectory(prefix="shoplens-replay-") as name:
        folder = Path(name, "reading")
        folder.mkdir()
        reading = Reading(mapping, [], folder, None, lambda line: None, entries)
        incoming = in_order(mapping, reading, Path(name, "events.parquet"))
        rejected = pl.concat([pl.DataFrame(schema=QUARANTINE_SCHEMA), *reading.quarantined()])
        still_wrong = _in_quarantine(rejected, frames)
        incoming = replace(
            incoming,
            inputs=file_digest(corrected),
            quarantined=lambda: [still_wrong],
            replayed=frame.select(batch="_batch", table="_table", row=pl.col("_row").cast(pl.Int64)).to_dicts(),
        )
        account, fresh = append_incoming(place, incoming, mapping)
    return account.table_accounts(again=not fresh)
