"""The stages `fetch` and `ingest`: a source to one frozen folder to the contract."""

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any

import polars as pl

from events.account import TableAccount
from events.bounded import Reading
from events.contract import EVENT_SCHEMA, QUARANTINE_SCHEMA
from events.fetch import fetch as fetch_source
from events.frozen import Frozen
from events.ingest import refuse_all
from events.kinds import kind_of
from events.lake import check_identity, freeze_lake, is_lake, is_url
from events.mapping import Mapping, load_mapping
from events.pieces import Size
from events.progress import Progress
from events.sink import sink
from events.spill import compact
from shoplens.digest import file_digest
from shoplens.errors import SourceError
from shoplens.files import whole_folder, write_json
from shoplens.params import DataParams, Params
from shoplens.settings import Settings
from shoplens.stage import console


def fetch(params: Params, settings: Settings) -> None:
    """Copy the source's raw tables to `outs/raw`; of a lake, what was known at `data.as_of`.

    Raises:
        SourceError: the source is missing, or a lake of another identity than the mapping's.
    """
    mapping = load_mapping(settings.root / params.data.mapping)
    with whole_folder(settings.outs_dir / "raw") as out:
        source = params.data.source if is_url(params.data.source) else settings.root / params.data.source
        if is_url(source) or is_lake(source):
            check_identity(source, mapping)
            freeze_lake(source, out, _until(params.data))
            return
        names = fetch_source(params.data.source, mapping.tables(), settings.root, out)
        console.print(f"{len(names)} files from {params.data.source}")


def _until(data: DataParams) -> datetime | None:
    return None if data.as_of is None else datetime.combine(data.as_of, datetime.min.time(), UTC)


class _Slice:
    """The events that `data.as_of` and `data.user_share` leave, and what was seen of them on their way."""

    def __init__(self, data: DataParams) -> None:
        self._until, self._share = _until(data), data.user_share
        self.left_out = {"after_as_of": 0, "by_user_share": 0}
        self.rows = self.rows_before = 0
        self.first: datetime | None = None
        self.last: datetime | None = None
        self.seen = pl.Series("item_id", [], dtype=pl.String)

    def of(self, frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """Yield what is left of frames of events that follow each other."""
        for frame in frames:
            self.rows_before += frame.height
            kept = self._of_people(self._known(frame))
            if kept.height:
                self.rows += kept.height
                self.first, self.last = self.first or kept["event_time"][0], kept["event_time"][-1]
                seen = pl.concat([self.seen, kept["item_id"]]).unique(maintain_order=True)
                self.seen = compact(seen.to_frame()).to_series()
                yield kept

    def _known(self, events: pl.DataFrame) -> pl.DataFrame:
        if self._until is None:
            return events
        kept = events.filter((pl.col("event_time") < self._until) & (pl.col("ingested_at") < self._until))
        self.left_out["after_as_of"] += events.height - kept.height
        return kept

    def _of_people(self, events: pl.DataFrame) -> pl.DataFrame:
        if self._share >= 1:
            return events
        who = pl.coalesce("user_id", "anonymous_id")
        people = events.select(who.alias("who")).unique().to_series().to_list()
        limit = int(self._share * 2**64)
        chosen = [p for p in people if int.from_bytes(blake2b(p.encode(), digest_size=8).digest()) < limit]
        kept = events.filter(who.is_in(chosen))
        self.left_out["by_user_share"] += events.height - kept.height
        return kept


def _dataset(part: _Slice, data: DataParams, identity: str, digest: str) -> dict[str, Any]:
    return {
        "source": data.source if "/" not in data.source else Path(data.source).name,
        "mapping": data.mapping,
        "identity": identity,
        "start": _some(part.first).isoformat(),
        "high_water": (_some(part.last) + timedelta(microseconds=1)).isoformat(),
        "rows": part.rows,
        "digest": digest,
    }


def _some(moment: datetime | None) -> datetime:
    if moment is None:
        raise SourceError(
            "events: none is left: the source has none, or data.as_of and data.user_share leave none; widen them"
        )
    return moment


def _read_raw(raw: Path, mapping: Mapping, work: Path, size: Size | None) -> Reading | Frozen:
    if not is_lake(raw):
        return Reading(mapping, [raw], work, size, Progress(console.print))
    check_identity(raw, mapping)
    return Frozen(raw, size)


@contextmanager
def _named_as_given(raw: Path, source: str) -> Iterator[None]:
    """Name files in errors as they were given: `raw` holds copies, which nobody is to correct."""
    try:
        yield
    except SourceError as error:
        given = source if "/" in source else raw.name
        folder = given.rpartition("/")[0] if kind_of(Path(given)) else given
        raise SourceError(str(error).replace(f"{raw}/", f"{folder}/")) from error


def _tell(reading: Reading | Frozen, part: _Slice, mapping: Mapping) -> dict[str, TableAccount]:
    """Print the account, and return it."""
    if reading.unread:
        console.print(f"not read, no table of the mapping: {', '.join(reading.unread)}")
    accounts = reading.accounts()
    for table, account in accounts.items():
        console.print(account.line(table))
    if not part.rows_before:
        refuse_all(dict(sum((Counter(account.quarantined) for account in accounts.values()), Counter())), mapping)
    if any(part.left_out.values()):
        console.print(f"slice: {part.rows:,} events kept, left out {part.left_out}")
    return accounts


def ingest(params: Params, settings: Settings, size: Size | None = None) -> None:
    """Bring `outs/raw` through the mapping to `outs/events`, and print and keep the account.

    Args:
        params: Those of the experiment.
        settings: Where things are.
        size: Of what is held in memory at a time; what is written does not depend on it.
    """
    mapping = load_mapping(settings.root / params.data.mapping)
    with whole_folder(settings.outs_dir / "events") as out:
        work = out / "work"
        work.mkdir()
        with _named_as_given(settings.outs_dir / "raw", params.data.source):
            reading = _read_raw(settings.outs_dir / "raw", mapping, work, size)
        part = _Slice(params.data)
        sink(part.of(reading.events(_until(params.data))), EVENT_SCHEMA, out / "events.parquet")
        accounts = _tell(reading, part, mapping)
        reading.items(part.seen).write_parquet(out / "items.parquet")
        reading.users.write_parquet(out / "users.parquet")
        reading.campaigns.write_parquet(out / "campaigns.parquet")
        sink(reading.quarantined(), QUARANTINE_SCHEMA, out / "quarantine.parquet")
        shutil.rmtree(work)
        tables = {table: account.as_json() for table, account in accounts.items()}
        declared = sorted({rule.reason for table in mapping.events for rule in table.reject})
        kept = {"kept": part.rows, "left_out": part.left_out, "declared_reasons": declared}
        write_json(out / "account.json", {"tables": tables, **kept})
        digest = file_digest(out / "events.parquet")
        write_json(out / "dataset.json", _dataset(part, params.data, mapping.identity, digest))
