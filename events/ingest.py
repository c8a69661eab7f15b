"""Files through a mapping into the contract, with the account of every row."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import polars as pl

from events.account import TableAccount, count_reasons
from events.contract import CAMPAIGN_SCHEMA, EVENT_SCHEMA, ITEM_SCHEMA, QUARANTINE_SCHEMA, USER_SCHEMA
from events.mapping import EventTable, Mapping, SideTable
from events.readers import find_files, read_table, table_name
from events.transform import Transformed, quarantine, require_columns, side_table, transform
from shoplens.errors import SourceError

_IDLE = timedelta(minutes=30)  # Google Analytics' session time-out


@dataclass(frozen=True)
class Ingested:
    """A source, to the contract. `accounts` is by table; `origin` has (event_id, table) of every accepted event."""

    events: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame
    campaigns: pl.DataFrame
    quarantined: pl.DataFrame
    accounts: dict[str, TableAccount]
    origin: pl.DataFrame


def _select(files: list[Path], table: str) -> list[Path]:
    return files if table == "*" else [path for path in files if table_name(path) == table]


def _drop_duplicates(done: Transformed, raw: pl.DataFrame, table: str) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """Return events with one row an id, rows whose id was seen with other content, and the exact duplicates' count."""
    events = done.events
    if events["event_id"].n_unique() == events.height:
        return events.drop("_row"), done.quarantined, 0
    content = [name for name in EVENT_SCHEMA if name != "ingested_at"]
    marked = events.with_columns(
        pl.int_range(pl.len()).over("event_id").alias("_nth"),
        pl.struct(content).hash(seed=0).alias("_content"),
    ).with_columns((pl.col("_content") == pl.col("_content").first().over("event_id")).alias("_same"))
    kept = marked.filter(pl.col("_nth") == 0).select(list(EVENT_SCHEMA))
    clash = marked.filter((pl.col("_nth") > 0) & ~pl.col("_same")).select(
        "_row", pl.lit(["event_id_with_other_content"], dtype=pl.List(pl.String)).alias("_reasons")
    )
    set_aside = pl.concat([done.quarantined, quarantine(raw[clash["_row"].to_list()], clash, table)])
    return kept, set_aside, events.height - kept.height - clash.height


def _read_events(path: Path, spec: EventTable, mapping: Mapping) -> tuple[Transformed, TableAccount]:
    raw = read_table(path)
    # The id is derived from the name of the mapped table, so that the same rows in another file are duplicates.
    done = transform(raw, spec, mapping, spec.table)
    events, set_aside, duplicates = _drop_duplicates(done, raw, spec.table)
    account = TableAccount(raw.height, events.height, count_reasons(set_aside), duplicates)
    return Transformed(events, set_aside, done.items), account


def derive_sessions(events: pl.DataFrame) -> pl.DataFrame:
    """Fill missing session ids: a person's events with gaps of at most 30 minutes; the id is who and first moment."""
    if events["session_id"].null_count() == 0:
        return events
    who = pl.coalesce("user_id", "anonymous_id")
    ordered = events.with_columns(who.alias("_who")).sort("_who", "event_time", "event_id")
    new = (pl.col("event_time").diff().over("_who") > _IDLE).fill_null(value=True)
    first = pl.when(new).then(pl.col("event_time").dt.epoch("s")).forward_fill()
    derived = pl.concat_str([pl.col("_who"), first.cast(pl.String)], separator="-")
    return ordered.with_columns(pl.coalesce("session_id", derived).alias("session_id")).drop("_who")


def _side(files: list[Path], spec: SideTable | None, schema: dict[str, pl.DataType], mapping: Mapping) -> pl.DataFrame:
    if spec is None:
        return pl.DataFrame(schema=schema)
    found = _select(files, spec.table)
    if not found:
        raise SourceError(f"mapping {mapping.name}: table {spec.table} is in none of the {len(files)} given files")
    frame = pl.concat([read_table(path) for path in found], how="vertical_relaxed")
    if spec.join is not None:
        other = _select(files, spec.join.table)
        if not other:
            raise SourceError(f"mapping {mapping.name}: table {spec.join.table} is in none of the given files")
        more = read_table(other[0])
        for part, name in ((frame, spec.table), (more, spec.join.table)):
            require_columns(part, [spec.join.key], name, mapping.name)
        frame = frame.join(more, on=spec.join.key, how="left", maintain_order="left")
    return side_table(frame, spec, schema, mapping)


def _all_items(items: pl.DataFrame, content: list[pl.DataFrame], events: pl.DataFrame) -> pl.DataFrame:
    """Return every item: those of the items table, then those only seen in events, with what rode on the events.

    Content that rode on events is taken where it was first seen: later values would tell the past about the future.
    """
    seen = events.select("item_id").filter(pl.col("item_id").is_not_null()).unique()
    riding = [frame for frame in content if frame.width > 0]
    if riding:
        first = (
            pl.concat(riding, how="diagonal_relaxed")
            .sort("item_id", "event_time", "event_id")
            .group_by("item_id", maintain_order=True)
            .agg(pl.exclude("event_time", "event_id").drop_nulls().first())
        )
        seen = seen.join(first, on="item_id", how="left")
    new = seen.join(items.select("item_id").drop_nulls(), on="item_id", how="anti").sort("item_id")
    return pl.concat([items, new], how="diagonal_relaxed")


def read_source(mapping: Mapping, inputs: list[Path]) -> Ingested:
    """Read files through a mapping.

    Raises:
        SourceError: an input is missing or unreadable, or no file is a table that the mapping reads.
        MappingError: a table lacks columns that the mapping reads.
    """
    files = find_files(inputs)
    parts: list[Transformed] = []
    tables: list[str] = []
    accounts: dict[str, TableAccount] = {}
    for spec in mapping.events:
        found = _select(files, spec.table)
        if not found:
            names = ", ".join(sorted({table_name(path) for path in files}))
            raise SourceError(f"mapping {mapping.name}: table {spec.table} is none of the given ones ({names})")
        for path in found:
            part, accounts[path.name] = _read_events(path, spec, mapping)
            parts.append(part)
            tables += [path.name] * part.events.height
    events = pl.concat([part.events for part in parts])
    origin = pl.DataFrame({"event_id": events["event_id"], "table": pl.Series(tables, dtype=pl.String)})
    if len(parts) > 1:
        first = origin.select(pl.col("event_id").is_first_distinct()).to_series()
        accounts = move_to_duplicates(accounts, origin.filter(~first)["table"])
        events, origin = events.filter(first), origin.filter(first)
    events = derive_sessions(events).sort("event_time", "event_id").select(list(EVENT_SCHEMA))
    items = _all_items(_side(files, mapping.items, ITEM_SCHEMA, mapping), [part.items for part in parts], events)
    return Ingested(
        events,
        items,
        _side(files, mapping.users, USER_SCHEMA, mapping),
        _side(files, mapping.campaigns, CAMPAIGN_SCHEMA, mapping),
        pl.concat([part.quarantined for part in parts]).select(list(QUARANTINE_SCHEMA)),
        accounts,
        origin,
    )


def move_to_duplicates(accounts: dict[str, TableAccount], again: pl.Series) -> dict[str, TableAccount]:
    """Return the accounts with one accepted row of table t counted as a duplicate for every t in `again`."""
    counts = dict(again.value_counts().iter_rows())
    return {
        name: TableAccount(
            account.rows_in,
            account.accepted - counts.get(name, 0),
            account.quarantined,
            account.exact_duplicates + counts.get(name, 0),
        )
        for name, account in accounts.items()
    }
