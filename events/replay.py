"""Export quarantined rows of a lake for correction, and replay the corrected rows.

Each row is one line of JSON: `_batch`, `_table`, `_row` and `_reasons`, then the source's columns. Corrections must
change only the columns; `_batch`, `_table` and `_row` identify the quarantined row that the line replaces.
"""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from events.account import TableAccount
from events.contract import QUARANTINE_SCHEMA
from events.identity import salt_of
from events.lake import Place, Snapshot
from events.lake.commit import append_incoming
from events.lake.ingest import in_order
from events.lake.table import Lake, created
from events.mapping import NTH, Mapping, columns_of
from events.reading import Entry, Reading
from events.sources.files import Size, table_name
from events.sources.readers import read_table
from events.transform.records import POSITION, Rows, sources_of
from events.transform.rows import Transformer
from shoplens.errors import SourceError
from shoplens.files import file_digest, whole_file

_KEYS = ("_batch", "_table", "_row", "_reasons")


def quarantined(lake: Place, reason: str | None = None) -> pl.DataFrame:
    """Return a lake's quarantined rows, all or those with a reason: QUARANTINE_SCHEMA and `batch`.

    Raises:
        SourceError: there is no lake.
    """
    rows = Snapshot(lake).quarantine()
    return rows if reason is None else rows.filter(pl.col("reasons").list.contains(reason))


def reasons_by_table(rows: pl.DataFrame) -> list[tuple[str, str, int]]:
    """Return (table, reason, count), most frequent first; a row with several reasons counts under each."""
    counted = rows.explode("reasons").group_by("table", "reasons").len()
    return counted.sort("len", "table", "reasons", descending=[True, False, False]).rows()


def write_rows(rows: pl.DataFrame, target: Path) -> int:
    """Write quarantined rows to a file for correction; return the number of rows written.

    Events with conflicting IDs have no row number and are left out, because they cannot be corrected: either the source
    or the lake is right.
    """
    chosen = rows.filter(pl.col("row").is_not_null())
    with whole_file(target) as work, work.open("w", encoding="utf-8") as stream:
        for row in chosen.iter_rows(named=True):
            keys = {"_batch": row["batch"], "_table": row["table"], "_row": row["row"], "_reasons": row["reasons"]}
            stream.write(json.dumps(keys | json.loads(row["raw"]), ensure_ascii=False) + "\n")
    return chosen.height


@dataclass(frozen=True)
class _Corrected(Entry):
    """The corrected rows of one table; their row numbers are positions in the frame."""

    frame: pl.DataFrame = field(default_factory=pl.DataFrame)

    def rows(self, size: Size | None = None) -> Iterator[Rows]:
        """Yield the rows."""
        yield Rows(self.frame, frozenset({POSITION}))


def _corrected(rows: pl.DataFrame, table: str, mapping: Mapping, path: Path) -> Entry:
    """Return corrected rows as input for the mapping's entry that reads the table with that label."""
    file, _, place = table.removesuffix(")").partition(" (events ")
    names = ("*", table_name(Path(file)))
    places = [n for n, spec in enumerate(mapping.events) if (place == str(n + 1) if place else spec.table in names)]
    if not places:
        raise SourceError(
            f"_table: must be a table of events that mapping {mapping.name} reads; received {table!r}. Give the "
            f"mapping it was read with; rows of items, users and campaigns are corrected in their file"
        )
    spec = mapping.events[places[0]].model_copy(update={"each": None})
    if NTH in spec.identified_by:
        raise SourceError(
            f"_table: rows of {table} cannot be replayed: identified_by numbers equal lines of the whole file ({NTH}). "
            f"Correct the file, revert its batch with `shoplens lake revert`, and ingest it again"
        )
    salt = salt_of(spec.table, sum(other.table == spec.table for other in mapping.events[: places[0]]))
    # The file mixes tables: a column belongs to this one if one of its rows has it or the mapping reads it.
    read = [name for source in sources_of(spec) for name in columns_of(source)]
    own = [name for name in rows.columns if name not in _KEYS and rows[name].null_count() < rows.height]
    absent = [pl.lit(None, dtype=pl.String).alias(name) for name in dict.fromkeys(read) if name not in own]
    return _Corrected(table, path, Transformer(spec, mapping, salt), frame=rows.select(*own, *absent))


def replay(lake: Place, mapping: Mapping, corrected: Path) -> dict[str, TableAccount]:
    """Append corrected rows to their lake atomically; rows that are still invalid stay in quarantine.

    Args:
        lake: The lake, a folder or an object-store URL.
        mapping: The mapping that read the rows, or a corrected version of it.
        corrected: The corrected file of `write_rows`.

    Raises:
        SourceError: the lake or the file does not exist, or a line does not identify the row it replaces.
        MappingError: the rows lack a column that the mapping reads.
    """
    Lake(lake).events()  # do not create a missing lake
    place = created(lake, mapping.identity, f"mapping {mapping.name}")
    frame = read_table(corrected)
    missing = [name for name in _KEYS[:3] if name not in frame.columns or frame[name].null_count()]
    if missing:
        raise SourceError(
            f"{corrected}: {', '.join(missing)}: every line must have it, as `shoplens quarantine list --out` wrote "
            f"it. Put it back"
        )
    tables = frame.partition_by("_table", as_dict=True)
    entries = [_corrected(rows, str(table), mapping, corrected) for (table,), rows in tables.items()]
    keys = frame.select(batch="_batch", table="_table", row=pl.col("_row").cast(pl.Int64))
    with tempfile.TemporaryDirectory(prefix="shoplens-replay-") as name:
        folder = Path(name, "reading")
        folder.mkdir()
        reading = Reading(mapping, [], folder, None, lambda line: None, entries)
        incoming = in_order(mapping, reading, Path(name, "events.parquet"))
        # Replace positions with the row numbers of the lake's quarantine.
        numbers = keys.select("table", "row", _at=pl.int_range(pl.len()).over("table"))
        rejected = pl.concat([pl.DataFrame(schema=QUARANTINE_SCHEMA), *reading.quarantined()]).rename({"row": "_at"})
        still_wrong = rejected.join(numbers, on=["table", "_at"], maintain_order="left").select(list(QUARANTINE_SCHEMA))
        incoming = replace(
            incoming,
            inputs=file_digest(corrected),
            quarantined=lambda: [still_wrong],
            replayed=keys.to_dicts(),
        )
        account, fresh = append_incoming(place, incoming, mapping)
    return account.table_accounts(again=not fresh)
