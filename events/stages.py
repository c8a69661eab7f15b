"""The stages `fetch` and `ingest`: a source to one frozen folder to the contract."""

from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any

import polars as pl

from events.fetch import fetch as fetch_source
from events.ingest import Ingested, read_source, require_some
from events.lake import check_identity, freeze_lake, is_lake, read_frozen
from events.lake.store import is_url
from events.mapping import Mapping, load_mapping
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


def _take_slice(done: Ingested, data: DataParams) -> tuple[pl.DataFrame, dict[str, int]]:
    """Return the events that `data.as_of` and `data.user_share` leave, and how many each took out."""
    events = done.events
    left_out = {"after_as_of": 0, "by_user_share": 0}
    until = _until(data)
    if until is not None:
        kept = events.filter((pl.col("event_time") < until) & (pl.col("ingested_at") < until))
        left_out["after_as_of"], events = events.height - kept.height, kept
    if data.user_share < 1:
        who = pl.coalesce("user_id", "anonymous_id")
        people = events.select(who.alias("who")).unique().to_series().to_list()
        limit = int(data.user_share * 2**64)
        chosen = [p for p in people if int.from_bytes(blake2b(p.encode(), digest_size=8).digest()) < limit]
        kept = events.filter(who.is_in(chosen))
        left_out["by_user_share"], events = events.height - kept.height, kept
    return events, left_out


def _dataset(events: pl.DataFrame, data: DataParams, identity: str, digest: str) -> dict[str, Any]:
    first, last = events["event_time"].min(), events["event_time"].max()
    if not isinstance(first, datetime) or not isinstance(last, datetime):
        raise SourceError(
            "events: none is left: the source has none, or data.as_of and data.user_share leave none; widen them"
        )
    return {
        "source": data.source if "/" not in data.source else Path(data.source).name,
        "mapping": data.mapping,
        "identity": identity,
        "start": first.isoformat(),
        "high_water": (last + timedelta(microseconds=1)).isoformat(),
        "rows": events.height,
        "digest": digest,
    }


def _read_raw(raw: Path, mapping: Mapping) -> Ingested:
    if not is_lake(raw):
        return read_source(mapping, [raw])
    check_identity(raw, mapping)
    return read_frozen(raw)


def ingest(params: Params, settings: Settings) -> None:
    """Bring `outs/raw` through the mapping to `outs/events`, and print and keep the account."""
    mapping = load_mapping(settings.root / params.data.mapping)
    raw = settings.outs_dir / "raw"
    done = _read_raw(raw, mapping)
    if done.unread:
        console.print(f"not read, no table of the mapping: {', '.join(done.unread)}")
    for table, account in done.accounts.items():
        console.print(account.line(table))
    require_some(done, mapping)
    events, left_out = _take_slice(done, params.data)
    if any(left_out.values()):
        console.print(f"slice: {events.height:,} events kept, left out {left_out}")
    with whole_folder(settings.outs_dir / "events") as out:
        events.write_parquet(out / "events.parquet", row_group_size=1 << 17)
        seen = events.select("item_id").unique()
        catalogue = done.items.filter(pl.col("item_id").is_in(seen["item_id"].implode()))
        catalogue.write_parquet(out / "items.parquet")
        done.users.write_parquet(out / "users.parquet")
        done.campaigns.write_parquet(out / "campaigns.parquet")
        done.quarantined.write_parquet(out / "quarantine.parquet")
        tables = {table: account.as_json() for table, account in done.accounts.items()}
        declared = sorted({rule.reason for table in mapping.events for rule in table.reject})
        kept = {"kept": events.height, "left_out": left_out, "declared_reasons": declared}
        write_json(out / "account.json", {"tables": tables, **kept})
        digest = file_digest(out / "events.parquet")
        write_json(out / "dataset.json", _dataset(events, params.data, mapping.identity, digest))
