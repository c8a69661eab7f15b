"""A source read into a folder instead of into memory: its events come out in order, however many there are.

What is held in memory at a time is a piece of a file, or the events of a stretch of time. Side tables and joined tables
are held whole, and so is what is known of every item.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import polars as pl

from events.account import TableAccount, count_reasons
from events.contract import EVENT_SCHEMA
from events.duplicates import OTHER_CONTENT
from events.entries import Entry, entries_of
from events.labels import Labels
from events.mapping import Mapping
from events.order import Batch, batches, find_strays
from events.pieces import Size
from events.readers import find_files
from events.sessions import write_starts
from events.spill import Runs, compact, scan
from events.transform.items import CONTENT_SCHEMA, carried_columns, carried_content, every_item, merged_content
from events.transform.quarantine import quarantine
from events.transform.side_tables import Side, read_side
from events.unread import unread_files

Say = Callable[[str], None]
_PLACES = {"_part": pl.Int32, "_row": pl.UInt32}


class Reading:
    """A source on its way to the contract.

    Attributes:
        unread: Files of given folders that no table of the mapping reads.
        users, campaigns: Side tables to their schemas.
        quarantine: Parquet files of QUARANTINE_SCHEMA, in order; whole when `events` has ended.
    """

    def __init__(self, mapping: Mapping, inputs: list[Path], folder: Path, size: Size | None, say: Say) -> None:
        """Read the files.

        Args:
            mapping: The mapping.
            inputs: Files, or folders of them.
            folder: An existing folder, for as long as the reading is used.
            size: Of what is held in memory at a time.
            say: Is told how far it is.

        Raises:
            SourceError: an input is missing or unreadable, or no file is a table that the mapping reads.
            MappingError: a table lacks columns that the mapping reads.
        """
        files = find_files(inputs)
        self.unread = unread_files(mapping, inputs, files)
        labels = Labels(files)
        self._folder, self._size, self._say = folder, size or Size(), say
        self._entries = entries_of(mapping, files, labels)
        # First: what it takes to read them is free again before the events are read.
        self._sides = {name: read_side(files, name, mapping, labels) for name in ("items", "users", "campaigns")}
        self.users, self.campaigns = self._sides["users"].rows, self._sides["campaigns"].rows
        riding = carried_columns(mapping)
        schema = _PLACES | EVENT_SCHEMA | dict.fromkeys(riding, pl.String)
        self._runs = Runs(folder, schema, self._size.rows, 4 * self._size.bytes)
        self._aside: list[list[Path]] = []
        self._reasons: list[Counter[str]] = []
        self._rows_in: list[int] = []
        for part, entry in enumerate(self._entries):
            self._read(part, entry)
        self._runs.flush()
        self._content = pl.DataFrame(schema=CONTENT_SCHEMA)
        self._accepted: Counter[int] = Counter()
        self._repeated: Counter[int] = Counter()

    def _read(self, part: int, entry: Entry) -> None:
        self._aside.append([])
        self._reasons.append(Counter())
        rows = 0
        for height, done in entry.transformed(self._size):
            rows += height
            self._runs.add(done.events.with_columns(pl.lit(part, dtype=pl.Int32).alias("_part")))
            self._set_aside(part, done.quarantined)
            self._say(f"{entry.label}: {rows:,} rows read")
        self._rows_in.append(rows)

    def _set_aside(self, part: int, rows: pl.DataFrame) -> None:
        if rows.is_empty():
            return
        self._reasons[part].update(count_reasons(rows))
        file = self._folder / f"aside-{part:05}-{len(self._aside[part]):06}.parquet"
        rows.write_parquet(file, compression="lz4")
        self._aside[part].append(file)

    def events(self, until: datetime | None = None) -> Iterator[pl.DataFrame]:
        """Yield EVENT_SCHEMA, sorted by event_time and event_id, in frames that follow each other; once.

        Args:
            until: Content that rode on events is believed only if it was known before this moment.
        """
        for frame in self.labelled(until):
            yield frame.drop("table")

    def labelled(self, until: datetime | None = None) -> Iterator[pl.DataFrame]:
        """Yield what `events` yields, with the `table` (a label) that each event is of; in place of it, and once."""
        labels = {part: entry.label for part, entry in enumerate(self._entries)}
        table = pl.col("_part").replace_strict(labels, return_dtype=pl.String).alias("table")
        runs = self._runs
        count = max(1, -(-runs.rows // (2 * self._size.rows)), -(-runs.bytes // (8 * self._size.bytes)))
        self._say(f"{runs.rows:,} rows: looking for ids that came twice, and for sessions")
        strays, moments = find_strays(runs, self._folder, count) if runs.files else ([], [])
        starts = write_starts(moments, self._folder, count) if moments else []
        clashes, done = [pl.DataFrame(schema=_PLACES)], 0
        for batch in batches(runs, strays, starts, count):
            clashes.append(compact(batch.clashes))
            self._count(batch, until)
            done += batch.events.height
            self._say(f"{done:,} of {runs.rows:,} events in order")
            yield batch.events.select(*EVENT_SCHEMA, table)
        clashes += [pl.read_parquet(file).select(list(_PLACES)) for file in strays]
        self._set_aside_clashes(pl.concat(clashes))

    def _count(self, batch: Batch, until: datetime | None) -> None:
        self._accepted.update(dict(batch.events["_part"].value_counts().iter_rows()))
        self._repeated.update(dict(batch.repeated.value_counts().iter_rows()))
        # Batches come in the order of time: what was seen first stays.
        self._content = compact(merged_content(pl.concat([self._content, carried_content(batch.events, until)])))

    def _set_aside_clashes(self, clashes: pl.DataFrame) -> None:
        for (part,), rows in sorted(clashes.partition_by("_part", as_dict=True).items()):
            entry = self._entries[part]
            for numbers, raw in entry.raw(rows["_row"].sort(), self._size):
                marked = pl.DataFrame({"_row": numbers}).with_columns(pl.lit([OTHER_CONTENT]).alias("_reasons"))
                self._set_aside(part, quarantine(raw, marked, entry.label))
                self._say(f"{entry.label}: rows whose id came with other content before")

    @property
    def item_table(self) -> pl.DataFrame:
        """The rows that the items table gave."""
        return self._sides["items"].rows

    @property
    def content(self) -> pl.DataFrame:
        """CONTENT_SCHEMA of what rode on events, when `events` has ended."""
        return self._content

    def items(self, seen: pl.Series) -> pl.DataFrame:
        """Return the items that were seen, with the content that is known of them, when `events` has ended."""
        table = self._sides["items"].rows
        return every_item(table.filter(pl.col("item_id").is_in(seen.implode())), self._content, seen)

    def accounts(self) -> dict[str, TableAccount]:
        """Return the account of every table by its label, when `events` has ended."""
        found = {
            entry.label: TableAccount(rows, self._accepted[part], dict(self._reasons[part]), self._repeated[part])
            for part, (entry, rows) in enumerate(zip(self._entries, self._rows_in, strict=True))
        }
        for side in self._sides.values():
            found.update(side.accounts)
        return found

    def quarantined(self) -> Iterator[pl.DataFrame]:
        """Yield QUARANTINE_SCHEMA of every row that was set aside, when `events` has ended."""
        for file in (file for part in self._aside for file in part):
            yield scan([file]).collect()
        sides: list[Side] = list(self._sides.values())
        yield from (side.quarantined for side in sides if side.quarantined.height)
