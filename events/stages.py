"""The stages `fetch` and `ingest`: freeze a source in one folder, and transform it to the contract."""

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any

import polars as pl

from events.account import TableAccount, count_reasons
from events.contract import EVENT_SCHEMA, QUARANTINE_SCHEMA, SIDE_SCHEMAS
from events.fetch import fetch as fetch_source
from events.lake import check_identity, freeze_lake, is_lake, is_url
from events.lake.snapshot import FROZEN_EVENTS
from events.mapping import Mapping, load_mapping
from events.parquet import write_parquet
from events.reading import Progress, Reading, require_events
from events.sources.files import Size, kind_of
from events.sources.readers import pieces, read_table
from shoplens.errors import SettingsError, SourceError
from shoplens.files import file_digest, whole_folder, write_json
from shoplens.params import DataParams, Params
from shoplens.settings import Settings
from shoplens.stage import console


def fetch(params: Params, settings: Settings) -> None:
    """Copy the source's raw tables to `outs/raw`; a lake is copied as it was known at `data.as_of`.

    Raises:
        SourceError: the source is missing, or is a lake with another kind of identity than the mapping's.
    """
    mapping = load_mapping(settings.root / params.data.mapping)
    with whole_folder(settings.outs_dir / "raw") as out:
        source = params.data.source if is_url(params.data.source) else settings.root / params.data.source
        if is_url(source) or is_lake(source):
            check_identity(source, mapping)
            freeze_lake(source, out, _until(params.data))
            return
        tables = (*mapping.required_tables(), *_optional(mapping, params.data))
        names = fetch_source(params.data.source, tables, settings.root, out)
        console.print(f"{len(names)} files from {params.data.source}")


def _optional(mapping: Mapping, data: DataParams) -> tuple[str, ...]:
    unknown = sorted(set(data.optional_tables) - set(mapping.optional_tables))
    if unknown:
        raise SettingsError(
            f"data.optional_tables: must be optional tables of mapping {mapping.name} "
            f"({', '.join(mapping.optional_tables) or 'it has none'}); received {', '.join(unknown)}. Remove the others"
        )
    return data.optional_tables


def _until(data: DataParams) -> datetime | None:
    return None if data.as_of is None else datetime.combine(data.as_of, datetime.min.time(), UTC)


class _Frozen:
    """A folder from `freeze_lake` with the parts of `Reading` that the stage uses; its events are already sorted."""

    unread: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __init__(self, folder: Path, size: Size | None) -> None:
        self._folder, self._size = folder, size
        self.sides = {name: read_table(folder / f"{name}.parquet") for name in SIDE_SCHEMAS}
        self._accepted = 0

    def events(self, _: datetime | None = None) -> Iterator[pl.DataFrame]:
        for piece in pieces(self._folder / FROZEN_EVENTS, size=self._size):
            self._accepted += piece.frame.height
            yield piece.frame.select(list(EVENT_SCHEMA))

    def items(self, _: pl.Series) -> pl.DataFrame:
        return self.sides["items"]

    def accounts(self) -> dict[str, TableAccount]:
        reasons = sum((Counter(count_reasons(rows)) for rows in self.quarantined()), Counter[str]())
        return {"lake": TableAccount(self._accepted + reasons.total(), self._accepted, dict(reasons))}

    def quarantined(self) -> Iterator[pl.DataFrame]:
        return (piece.frame for piece in pieces(self._folder / "quarantine.parquet", size=self._size))


class _Slice:
    """Filters events by `data.as_of` and `data.user_share`, and counts kept and excluded events."""

    def __init__(self, data: DataParams) -> None:
        self._until, self._share = _until(data), data.user_share
        self.left_out = {"after_as_of": 0, "by_user_share": 0}
        self.rows = self.rows_before = 0
        self.first: datetime | None = None
        self.last: datetime | None = None
        self.items: set[str] = set()

    def items_of(self, items: pl.DataFrame) -> pl.DataFrame:
        """Return all items; if `data.as_of` or `data.user_share` leaves events out, only those with a kept event.

        Tables of items have no times, so nothing else tells which products were known at `data.as_of`.
        """
        if self._until is None and self._share >= 1:
            return items
        return items.filter(pl.col("item_id").is_in(self.items))

    def of(self, frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """Yield the kept events of consecutive frames."""
        for frame in frames:
            self.rows_before += frame.height
            known, until = frame, self._until
            if until is not None:
                known = frame.filter((pl.col("event_time") < until) & (pl.col("ingested_at") < until))
            kept = known if self._share >= 1 else self._of_people(known)
            self.left_out["after_as_of"] += frame.height - known.height
            self.left_out["by_user_share"] += known.height - kept.height
            if kept.height:
                self.rows += kept.height
                self.first, self.last = self.first or kept["event_time"][0], kept["event_time"][-1]
                self.items.update(kept["item_id"].drop_nulls().unique())
                yield kept

    def _of_people(self, events: pl.DataFrame) -> pl.DataFrame:
        who = pl.coalesce("user_id", "anonymous_id")
        people = events.select(who.alias("who")).unique().to_series().to_list()
        limit = int(self._share * 2**64)
        chosen = [p for p in people if int.from_bytes(blake2b(p.encode(), digest_size=8).digest()) < limit]
        return events.filter(who.is_in(chosen))

    def dataset(self, data: DataParams, identity: str, digest: str) -> dict[str, Any]:
        """Return the content of `dataset.json` for the kept events.

        Raises:
            SourceError: no events were kept.
        """
        if self.first is None or self.last is None:
            raise SourceError(
                "events: none left: the source has none, or data.as_of and data.user_share exclude them all; widen them"
            )
        return {
            "source": data.source if "/" not in data.source else Path(data.source).name,
            "mapping": data.mapping,
            "identity": identity,
            "start": self.first.isoformat(),
            "high_water": (self.last + timedelta(microseconds=1)).isoformat(),
            "rows": self.rows,
            "digest": digest,
        }


def _read_raw(raw: Path, mapping: Mapping, work: Path, size: Size | None) -> Reading | _Frozen:
    if not is_lake(raw):
        return Reading(mapping, [raw], work, size, Progress(console.print))
    check_identity(raw, mapping)
    return _Frozen(raw, size)


@contextmanager
def _named_as_given(raw: Path, source: str) -> Iterator[None]:
    """Report the original file names in errors, because nobody should correct the copies in `raw`."""
    try:
        yield
    except SourceError as error:
        given = source if "/" in source else raw.name
        folder = given.rpartition("/")[0] if kind_of(Path(given)) else given
        raise SourceError(str(error).replace(f"{raw}/", f"{folder}/")) from error


def _print_account(reading: Reading | _Frozen, part: _Slice, mapping: Mapping) -> dict[str, TableAccount]:
    """Print and return the account, and print the remarks on the files."""
    if reading.unread:
        console.print(f"not read, no table of the mapping: {', '.join(reading.unread)}")
    for note in reading.notes:
        console.print(note)
    accounts = reading.accounts()
    for table, account in accounts.items():
        console.print(account.line(table))
    if not part.rows_before:
        require_events(accounts, mapping)
    if any(part.left_out.values()):
        console.print(f"slice: {part.rows:,} events kept, left out {part.left_out}")
    return accounts


def _announced(promotions: pl.DataFrame, until: datetime | None) -> pl.DataFrame:
    """Return in how many stores each promotion was announced before `until`: the promotions without `store_id`.

    A promotion without a store counts as one.
    """
    if until is not None:
        promotions = promotions.filter(pl.col("known_at") < until)
    key = ["item_id", "placement", "valid_from", "valid_to", "known_at"]
    stores = pl.col("store_id").n_unique().cast(pl.Int32).alias("stores")
    return promotions.group_by(key).agg(stores).sort(key, nulls_last=True)


def ingest(params: Params, settings: Settings, size: Size | None = None) -> None:
    """Transform `outs/raw` to `outs/events` through the mapping; print and write the account.

    Args:
        params: The parameters of the experiment.
        settings: The settings.
        size: Size of the pieces held in memory; it does not affect the output.
    """
    mapping = load_mapping(settings.root / params.data.mapping)
    with whole_folder(settings.outs_dir / "events") as out:
        work = out / "work"
        work.mkdir()
        part = _Slice(params.data)
        with _named_as_given(settings.outs_dir / "raw", params.data.source):
            reading = _read_raw(settings.outs_dir / "raw", mapping, work, size)
            write_parquet(part.of(reading.events(_until(params.data))), EVENT_SCHEMA, out / "events.parquet")
        accounts = _print_account(reading, part, mapping)
        items = reading.items(pl.Series("item_id", sorted(part.items), dtype=pl.String))
        part.items_of(items).write_parquet(out / "items.parquet")
        for name in ("users", "campaigns"):
            reading.sides[name].write_parquet(out / f"{name}.parquet")
        _announced(reading.sides["promotions"], _until(params.data)).write_parquet(out / "promotions.parquet")
        write_parquet(reading.quarantined(), QUARANTINE_SCHEMA, out / "quarantine.parquet")
        shutil.rmtree(work)
        tables = {table: account.as_json() for table, account in accounts.items()}
        declared = sorted({rule.reason for table in mapping.events for rule in table.reject})
        kept = {"kept": part.rows, "left_out": part.left_out, "declared_reasons": declared}
        write_json(out / "account.json", {"tables": tables, **kept})
        digest = file_digest(out / "events.parquet")
        write_json(out / "dataset.json", part.dataset(params.data, mapping.identity, digest))
