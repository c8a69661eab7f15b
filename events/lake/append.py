"""Events into the lake: all of an append or nothing, however many write at the same time.

An append looks at the newest version, writes what it adds under new names, a chunk at a time, and publishes the next
version. Where another writer was first, only that what that one added is looked at: a long append is not begun anew by
short ones, unless they brought the same events.
"""

import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import polars as pl

from events.account import TableAccount, count_reasons
from events.contract import CAMPAIGN_SCHEMA, EVENT_SCHEMA, ITEM_SCHEMA, QUARANTINE_SCHEMA, USER_SCHEMA
from events.duplicates import OTHER_CONTENT, distinct
from events.ingest import Ingested
from events.lake.index import day_events, known_events, share_an_id, with_indexed
from events.lake.index import tidied as tidied_index
from events.lake.manifest import Day, File, Manifest, newest, publish
from events.lake.place import opened
from events.lake.sides import (
    ACCOUNTS,
    QUARANTINE,
    as_quarantine,
    find_account,
    tidied,
    with_account,
    with_quarantined,
    with_sides,
)
from events.lake.sources import Sources, changes, merged_sources
from events.lake.store import Place, Store
from events.lake.tables import FAN, write_file
from events.lake.vacuum import GRACE, sweep
from events.mapping import Mapping
from events.transform.items import CONTENT_SCHEMA, every_item
from shoplens.errors import SourceError

LIVE = "live"  # what batches of events that came one by one are called in the account
Chunks = Callable[[], Iterable[pl.DataFrame]]
_CHUNK = 1 << 20
_TRIES = 1000
_SHORT, _LONG = 0.01, 1.0  # seconds between tries


@dataclass(frozen=True)
class _Arrival:
    """What is brought to a lake: `done`, but for its events and its quarantine, see `append_chunks`."""

    name: str
    done: Ingested
    events: Chunks
    aside: Chunks
    sources: Sources


@dataclass
class _Written:
    """What an append has found and written of its events, kept while it tries to publish it."""

    accounts: dict[str, TableAccount]
    days: dict[str, list[File]] = field(default_factory=dict)
    index: tuple[File, ...] = ()
    clashing: list[pl.DataFrame] = field(default_factory=list)


def _count(accounts: dict[str, TableAccount], rows: pl.Series, reason: str | None) -> dict[str, TableAccount]:
    counts = dict(rows.value_counts().iter_rows())
    return {table: account.moved(counts.get(table, 0), reason) for table, account in accounts.items()}


def _write_chunk(store: Store, held: Manifest, chunk: pl.DataFrame, written: _Written) -> None:
    """Write the events of a chunk that the lake does not hold, and note what becomes of the others."""
    known = known_events(store, held, held.index, chunk)
    met = chunk.join(known, on="event_id", how="inner", maintain_order="left")
    clashing = met.filter(~pl.col("same"))
    written.accounts = _count(written.accounts, met.filter("same")["table"], None)
    written.accounts = _count(written.accounts, clashing["table"], OTHER_CONTENT)
    written.clashing.append(clashing.select("event_id", as_quarantine(clashing).to_struct("aside")))
    new = chunk.join(known, on="event_id", how="anti", maintain_order="left").select(list(EVENT_SCHEMA))
    dated = new.with_columns(pl.col("event_time").dt.date().cast(pl.String).alias("_date"))
    for (date,), rows in dated.partition_by("_date", as_dict=True, include_key=False).items():
        file = write_file(store, f"events/event_date={date}", rows.sort("event_time", "event_id"))
        written.days.setdefault(str(date), []).append(file)
    written.index = with_indexed(store, written.index, new)


def _write_events(store: Store, held: Manifest, arrival: _Arrival) -> _Written:
    written = _Written(arrival.done.accounts)
    for chunk in arrival.events():
        _write_chunk(store, held, chunk, written)
    return written


def _with_days(store: Store, held: Manifest, written: dict[str, list[File]]) -> tuple[dict[str, Day], list[str]]:
    """Return the days with new files, and which of these lie before the newest day that the lake held."""
    days, last = dict(held.days), max(held.days, default="")
    late = sorted(date for date in written if date < last)
    for date, new in written.items():
        before = days.get(date)
        files = (*(before.files if before else ()), *new)
        day = Day(changed=held.version + 1, late=before.late if before else 0, files=files)
        if len(files) >= FAN:
            whole = write_file(store, f"events/event_date={date}", day_events(store, day))
            day = day.model_copy(update={"files": (whole,)})
        days[date] = day.model_copy(update={"late": held.version + 1}) if date in late else day
    return dict(sorted(days.items())), late


def _next(store: Store, held: Manifest, arrival: _Arrival, written: _Written) -> Manifest | None:
    done = arrival.done
    days, late = _with_days(store, held, written.days)
    clashing = pl.concat(written.clashing) if written.clashing else pl.DataFrame(schema={"event_id": pl.String})
    # Nothing of an event that is set aside is believed.
    content = done.item_content.join(clashing, on="event_id", how="anti")
    new = {"item_table": done.item_table, "users": done.users, "campaigns": done.campaigns}
    aside = chain(arrival.aside(), [clashing["aside"].struct.unnest()] if clashing.height else [])
    quarantine = with_quarantined(store, held.quarantine, aside, done.replayed)
    tables: dict[str, Any] = {table: account.as_json() for table, account in written.accounts.items()}
    accounts = with_account(store, held.accounts, arrival.name, done.digest, tables, late)
    return held.next(
        days=days,
        index=tidied_index(store, (*held.index, *written.index)),
        quarantine=tidied(store, quarantine, QUARANTINE),
        accounts=tidied(store, accounts, ACCOUNTS),
        sides=with_sides(store, held, new, content),
        sources=merged_sources(held.sources, arrival.name, arrival.sources),
    )


def _publish(store: Store, manifest: Manifest | None, started: float) -> bool:
    if manifest is None:
        return True
    if time.time() - started > GRACE / 2:
        raise SourceError(
            f"lake: {store.name}: an append must end within {GRACE // 7200:.0f} hours, before its files count as left "
            f"behind; this one took longer. Bring in less at a time"
        )
    return publish(store, manifest)


def _append(store: Store, arrival: _Arrival, *, once: bool = False) -> dict[str, TableAccount]:
    """Publish a version with what was read, or, with `once`, nothing where its inputs have an account already."""
    started, held = time.time(), newest(store)
    accounts, written = held.accounts, None
    for tries in range(_TRIES):
        if once and (before := find_account(store, accounts, arrival.done.digest)) is not None:
            return {table: TableAccount(**account) for table, account in before.items()}
        if written is None:
            started, written = time.time(), _write_events(store, held, arrival)
        manifest = _next(store, held, arrival, written)
        if _publish(store, manifest, started):
            sweep(store, manifest)
            return written.accounts
        time.sleep(random.uniform(0, min(_LONG, _SHORT * 2 ** min(tries, 10))))  # noqa: S311  (no secret)
        newer = newest(store)
        accounts = tuple(file for file in newer.accounts if file not in held.accounts)
        if share_an_id(store, tuple(run for run in newer.index if run not in held.index), written.index):
            written = None
        held = newer
    raise SourceError(f"lake: {store.name}: other writers were first {_TRIES} times. Run it again")


def _chunks(done: Ingested) -> Chunks:
    def sliced() -> Iterable[pl.DataFrame]:
        for start in range(0, done.events.height, _CHUNK):
            chunk = done.events.slice(start, _CHUNK)
            yield chunk.join(done.origin, on="event_id", how="left", maintain_order="left")

    return sliced


def _aside(done: Ingested) -> Chunks:
    return lambda: [done.quarantined]


def append_chunks(
    place: Place,
    mapping: Mapping,
    done: Ingested,
    events: Chunks,
    sources: Sources | None = None,
    aside: Chunks | None = None,
) -> dict[str, TableAccount]:
    """Add what was read to the lake as `append` does, its events a chunk at a time: memory is that of a chunk.

    Args:
        place: A folder or an fsspec URL; made if it is new.
        mapping: What the files were read through.
        done: What was read; its own `events` and `origin` do not count, its accounts are those of all chunks.
        events: Returns the chunks, each time it is called: EVENT_SCHEMA and the `table` (a label) that each event is
            of, one row an id over all chunks. Chunks that follow the time make the fewest files.
        sources: See `append`.
        aside: Returns the quarantine in chunks, in place of what `done` holds.

    Raises:
        SourceError: see `append`.
    """
    store = opened(place, mapping.identity, f"mapping {mapping.name}")
    changes(newest(store).sources, mapping, sources or {})
    return _append(store, _Arrival(mapping.name, done, events, aside or _aside(done), sources or {}))


def append(place: Place, mapping: Mapping, done: Ingested, sources: Sources | None = None) -> dict[str, TableAccount]:
    """Add what was read to the lake, all or nothing; return the accounts, with events that it holds as duplicates.

    Args:
        place: A folder or an fsspec URL; made if it is new.
        mapping: What the files were read through.
        done: What was read.
        sources: The columns of the files (`events.lake.sources`), to be held against those of the next append.

    Raises:
        SourceError: see `opened`; a file of the lake cannot be read; or a column of the source does not fit.
    """
    return append_chunks(place, mapping, done, _chunks(done), sources)


def append_events(
    lake: Place, identity: str, events: pl.DataFrame, quarantined: pl.DataFrame, batch_id: str
) -> TableAccount:
    """Add a batch of events that came one by one, all or nothing; return its account.

    Args:
        lake: A folder or an fsspec URL; made if it is new.
        identity: `user` or `session`, as in a mapping.
        events: EVENT_SCHEMA, in the order in which they came; of several with one id the first counts.
        quarantined: QUARANTINE_SCHEMA, what was set aside before.
        batch_id: Names the batch, once and for ever: a batch that the lake holds changes nothing, whatever is in it.

    Returns:
        rows_in = events and quarantined; accepted, quarantined by reason (clashes of ids among them), exact
        duplicates. For a batch that the lake holds, the account of then.

    Raises:
        SourceError: see `opened`; no batch_id; or a file of the lake cannot be read.
    """
    if not batch_id:
        raise SourceError("batch_id: must name the batch; received ''. Give every batch a name of its own")
    store = opened(lake, identity, f"batch {batch_id}")
    done = _batch(events, quarantined, batch_id)
    return _append(store, _Arrival(LIVE, done, _chunks(done), _aside(done), {}), once=True)[LIVE]


def _batch(events: pl.DataFrame, quarantined: pl.DataFrame, batch_id: str) -> Ingested:
    numbered = events.select(pl.lit(0, dtype=pl.Int32).alias("_part"), *EVENT_SCHEMA).with_row_index("_row")
    settled = distinct(numbered)
    again = numbered.join(settled.clashes, on=["_part", "_row"], how="semi").with_columns(pl.lit(LIVE).alias("table"))
    aside = pl.concat([quarantined.select(list(QUARANTINE_SCHEMA)), as_quarantine(again)])
    kept = settled.events.select(list(EVENT_SCHEMA)).sort("event_time", "event_id")
    rows_in = events.height + quarantined.height
    account = TableAccount(rows_in, kept.height, count_reasons(aside), settled.repeated.len())
    return Ingested(
        events=kept,
        items=every_item(pl.DataFrame(schema=ITEM_SCHEMA), pl.DataFrame(schema=CONTENT_SCHEMA), kept["item_id"]),
        users=pl.DataFrame(schema=USER_SCHEMA),
        campaigns=pl.DataFrame(schema=CAMPAIGN_SCHEMA),
        quarantined=aside,
        accounts={LIVE: account},
        origin=kept.select("event_id", pl.lit(LIVE).alias("table")),
        digest=batch_id,
    )
