"""An index of a lake's event IDs and their days, which finds repeated events without reading the lake.

Random IDs cannot be pruned by statistics, so a semi-join with the events would read every ID of the lake. The index is
one number of 64 bits per event: 48 bits of the hash of its ID, 16 bits of its day. The numbers are kept in sorted runs
that are searched through a memory map: a batch of n IDs reads n pages per run, however large the lake is. Runs of
similar size are merged, so there are few; a row is rewritten a logarithmic number of times.

    LAKE/known_ids/polars-2.1.0/000000000001-000000000042-5120.ids

A run covers a range of versions of `events`. The index is derived from the events: each append first adds the missing
versions, and the folder may be deleted at any time. For a lake on an object store, the index is in the temporary folder
of each writing machine. The hash is stable only within one version of Polars, so the path contains the version.
"""

import contextlib
import hashlib
import json
import os
import re
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from events.contract import EVENT_SCHEMA
from events.identity import content_hash
from events.lake.table import EVENTS, Lake, added_files

Ids = np.ndarray[Any, np.dtype[np.uint64]]
_DAY = np.uint64(0xFFFF)
_FAN = 4  # a run is merged with the one before it unless that one is this many times larger
_BLOCK = 1 << 22  # numbers merged at a time
_RUN = re.compile(r"(\d{12})-(\d{12})-(\d+)\.ids")  # first and last version, number of IDs


def hashed(ids: pl.Series) -> Ids:
    """Return the upper 48 bits of each ID's hash, with the lower 16 bits zero."""
    return ids.hash(seed=0).to_numpy() & ~_DAY


def _numbers(events: pl.DataFrame) -> Ids:
    """Return the index entries of a frame with event_id and event_time."""
    numbers: Ids = hashed(events["event_id"]) | _codes(events["event_time"].dt.date()).to_numpy()
    return numbers


def _codes(days: pl.Series) -> pl.Series:
    """Return the lower 16 bits of each day number."""
    return (days.to_physical() & int(_DAY)).cast(pl.UInt64)


class KnownIds:
    """The index of a lake's event IDs."""

    def __init__(self, lake: Lake, events: DeltaTable) -> None:
        """Open the index of a lake for the version of its `events` table."""
        self._lake, self._events = lake, events
        place = lake.folder
        if place is None:
            key = hashlib.sha256(f"{lake.uri} {events.metadata().id}".encode()).hexdigest()[:24]
            place = Path(tempfile.gettempdir()) / f"shoplens-known-ids-{os.getuid()}" / key
        self._folder = place / f"known_ids/polars-{pl.__version__}"
        self._folder.mkdir(parents=True, exist_ok=True)

    def catch_up(self) -> None:
        """Add all commits up to the version of the `events` table."""
        events = self._events
        runs = self._cover(events.version())
        covered = max((last for _, last, _ in runs), default=0)
        if covered < events.version():
            try:
                new = [self._committed(version) for version in range(covered + 1, events.version() + 1)]
            except FileNotFoundError:  # a log entry or file was already cleaned up: rebuild from the current files
                runs, covered = [], 0
                new = [self._of_files(added_files(events)["path"])]
            runs.append((covered + 1, events.version(), np.sort(np.concatenate(new))))
            self._write_merged(runs)

    def find(self, ids: Ids, since: int = 0) -> Iterator[tuple[Ids, Ids]]:
        """Yield the positions of `ids` that the index probably contains, and their days.

        Args:
            ids: Hashes from `hashed`, in any order.
            since: Search only commits after this version.
        """
        order = np.argsort(ids)
        asked = ids[order]
        runs = self._cover(self._events.version())
        if max((last for _, last, _ in runs), default=0) < self._events.version():
            raise CommitFailedError("the index of event IDs was removed or merged meanwhile")  # the caller tries again
        for _, last, run in runs:
            if last <= since:
                continue
            at, where = np.searchsorted(run, asked), order
            wanted = asked
            while True:
                inside = at < len(run)
                at, where, wanted = at[inside], where[inside], wanted[inside]
                found = np.asarray(run[at])
                hit = (found & ~_DAY) == wanted
                at, where, wanted = at[hit] + 1, where[hit], wanted[hit]
                if not len(where):
                    break
                yield where, found[hit] & _DAY

    def known_events(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Return the events that the lake already holds: event_id, `same` (equal content) and `batch`.

        Args:
            batch: EVENT_SCHEMA, one row per event ID.
        """
        found = [pl.DataFrame(schema={"event_id": pl.String, "same": pl.Boolean, "batch": pl.String})]
        hits = [pl.DataFrame({"nth": nth, "code": codes}) for nth, codes in self.find(hashed(batch["event_id"]))]
        if not hits:
            return found[0]
        days = added_files(self._events)["partition.day"].unique()
        suspects = pl.DataFrame({"day": days, "code": _codes(days)}).join(pl.concat(hits).unique(), on="code")
        for (day,), rows in suspects.partition_by("day", as_dict=True).items():
            asked = batch[rows["nth"]]
            held = held_rows(self._events, day).filter(pl.col("event_id").is_in(asked["event_id"].implode()))
            both = _marked(asked, "_new").join(_marked(held.collect(), "_held", "batch"), on="event_id")
            found.append(both.select("event_id", (pl.col("_new") == pl.col("_held")).alias("same"), "batch"))
        return pl.concat(found).unique("event_id", keep="first", maintain_order=True)

    def _cover(self, version: int) -> list[tuple[int, int, Ids]]:
        """Return the fewest runs that cover the versions from 1, with their first and last version."""
        found = []
        for path in self._folder.iterdir():
            named = _RUN.fullmatch(path.name)
            with contextlib.suppress(FileNotFoundError):  # merged by another writer in the meantime
                if named and path.stat().st_size == 8 * int(named[3]):  # else cut off by a crash of the machine
                    found.append((int(named[1]), int(named[2]), path.name))
        runs: list[tuple[int, int, Ids]] = []
        covered = 0
        while covered < version:
            fitting = [run for run in found if run[0] <= covered + 1 and run[1] > covered]
            if not fitting:
                break
            first, last, name = max(fitting, key=lambda run: (run[1], -run[0]))
            try:
                runs.append((first, last, _mapped(self._folder / name)))
            except FileNotFoundError:  # merged by another writer in the meantime
                return self._cover(version)
            covered = last
        return runs

    def _committed(self, version: int) -> Ids:
        """Return the index entries of the events that a commit added; empty if it only rewrote files."""
        text = self._lake.files.cat_file(f"{EVENTS}/_delta_log/{version:020}.json").decode()
        adds = [entry["add"] for line in text.splitlines() if "add" in (entry := json.loads(line))]
        return self._of_files(add["path"] for add in adds if add["dataChange"])

    def _of_files(self, paths: Iterable[str]) -> Ids:
        files = (self._lake.read(f"{EVENTS}/{path}", ["event_id", "event_time"]) for path in paths)
        return np.concatenate([*(_numbers(file) for file in files), np.empty(0, np.uint64)])

    def _write_merged(self, runs: list[tuple[int, int, Ids]]) -> None:
        """Merge the last run with preceding runs that are not much larger, and write it."""
        merged = [runs.pop()]
        while runs and len(runs[-1][2]) < _FAN * max(1, sum(len(run) for _, _, run in merged)):
            merged.append(runs.pop())
        name = _name(min(run[0] for run in merged), max(run[1] for run in merged), sum(len(run[2]) for run in merged))
        work = self._folder / f".{uuid.uuid4().hex}.tmp"  # other threads and processes may write the same run
        try:
            with work.open("wb") as stream:
                for block in _blocks([run for _, _, run in merged]):
                    block.tofile(stream)
                stream.flush()
                os.fsync(stream.fileno())
            work.replace(self._folder / name)
        finally:
            work.unlink(missing_ok=True)
        for old in {_name(first, last, len(run)) for first, last, run in merged} - {name}:
            (self._folder / old).unlink(missing_ok=True)


def _name(first: int, last: int, count: int) -> str:
    return f"{first:012}-{last:012}-{count}.ids"


def _mapped(path: Path) -> Ids:
    return np.memmap(path, dtype=np.uint64, mode="r") if path.stat().st_size else np.empty(0, np.uint64)


def _blocks(runs: list[Ids]) -> Iterator[Ids]:
    """Merge sorted runs and yield the result in ranges, so that memory use does not grow with the runs."""
    count = 1 + sum(len(run) for run in runs) // _BLOCK
    bounds = [np.uint64(n * ((1 << 64) // count)) for n in range(1, count)]
    cuts = [[0, *(int(np.searchsorted(run, bound)) for bound in bounds), len(run)] for run in runs]
    for n in range(count):
        yield np.sort(np.concatenate([run[cut[n] : cut[n + 1]] for run, cut in zip(runs, cuts, strict=True)]))


def held_rows(events: DeltaTable, day: date) -> pl.LazyFrame:
    """Return the events of one day with their batch, unordered."""
    rows = pl.scan_delta(events).filter(pl.col("day") == day)
    return rows.select(pl.col(name).cast(kind) for name, kind in (EVENT_SCHEMA | {"batch": pl.String}).items())


def _marked(events: pl.DataFrame, name: str, *others: str) -> pl.DataFrame:
    return events.select("event_id", content_hash().alias(name), *others)
