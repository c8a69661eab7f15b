"""IDs of events whose source gives none, equal lines of a file, and purchases that were sent again."""

from collections.abc import Sequence

import duckdb
import polars as pl

from events.contract import EVENT_SCHEMA, UTC_TIME
from events.mapping import NTH, EventTable
from events.transform.numbers import id_text
from events.transform.records import POSITION

_UNIT = "\x1f"  # ASCII unit separator: in no text that people type
_NOT_CONTENT = ("event_id", "ingested_at", "attributes")


def salt_of(table: str, place: int) -> str:
    """Return what IDs of a table are salted with; `place`, from 0, counts the entries of `events` that read it."""
    return table if place == 0 else f"{table}{_UNIT}{place}"


def digests(lines: pl.Series) -> pl.Series:
    """Return 96 bits of the MD5 of each text, in hexadecimal: a billion rows collide with a probability of 1e-11."""
    frame = lines.alias("line").to_frame()  # read by DuckDB, under its name; its MD5 runs on all cores
    with duckdb.connect() as connection:
        connection.register("rows", frame.to_arrow())
        found = connection.sql("SELECT left(md5(line), 24) AS event_id FROM rows").pl()
    return pl.Series(found["event_id"])


def derived_ids(
    done: pl.DataFrame, frame: pl.DataFrame, extra: Sequence[str], spec: EventTable, keys: pl.Series | None, salt: str
) -> pl.Series:
    """Return an ID per row, made of what identifies it, or else of everything it holds.

    Reading a file again gives the same IDs, and so does a file that spells the same values in another way (13085.0 for
    13085, another form of the same time). The columns are named in the text, so that empty ones do not matter.
    Where `order_keys` has a key, a later file's purchase has the ID of the same order. `extra` are the columns of
    `frame` beyond the contract.
    """
    mapped = [*spec.columns, *spec.constants]
    names = [name for name in spec.identified_by if name != NTH or NTH in frame.columns]
    own = [name for name in names if name in mapped]
    source = [name for name in names if name not in mapped]
    if not names:
        own = [name for name in EVENT_SCHEMA if name in spec.columns and name not in _NOT_CONTENT]
        own += ["amount"] if spec.order_amount is not None and "amount" not in own else []
        source = sorted(extra)
    if POSITION in frame.columns and POSITION not in source:
        source = [*source, POSITION]

    def spelled(name: str) -> pl.Expr:  # a time does not depend on how Polars writes it
        value = pl.col(name).to_physical() if done.schema[name] == UTC_TIME else pl.col(name)
        return value.cast(pl.String)

    parts = [
        *done.select((pl.lit(f"{name}=") + spelled(name)).alias(name) for name in own),
        *frame.select((pl.lit(f"{name}=") + id_text(frame, name)).alias(f"source:{name}") for name in source),
    ]
    line = pl.concat_str([pl.lit(salt), pl.all()], separator=_UNIT, ignore_nulls=True)
    lines = pl.DataFrame(parts).select(line.alias("line"))
    if keys is not None:
        once = pl.concat_str(pl.lit(f"{salt}{_UNIT}once"), pl.lit(keys), separator=_UNIT)
        lines = lines.select(pl.coalesce(once, "line").alias("line"))
    return digests(lines.to_series())


def order_keys(done: pl.DataFrame, frame: pl.DataFrame, spec: EventTable) -> pl.Series:
    """Return what a purchase counts once per; null for other events, and where the first of the columns is empty.

    The same item twice in one record is two lines: which of them it is belongs to the key.
    """
    names = list(spec.once_per)
    key = pl.concat_str([pl.col(name).cast(pl.String).fill_null("") for name in names], separator=_UNIT)
    purchase = (pl.col("event_name") == "purchase") & pl.col(names[0]).is_not_null()
    keys = done.select(pl.when(purchase).then(key).alias("key")).to_series()
    if POSITION not in frame.columns:
        return keys
    record = frame.select((pl.col(POSITION).fill_null(0) == 0).cum_sum().alias("record")).to_series()
    nth = pl.int_range(pl.len()).over("record", "key").cast(pl.String)
    return pl.DataFrame([keys, record]).select(pl.col("key") + _UNIT + nth).to_series()


class Seen:
    """How often keys came, over the pieces of a file or of several: 16 bytes per key."""

    def __init__(self) -> None:
        self._counts = pl.DataFrame(schema={"key": pl.UInt64, "count": pl.UInt32})

    def before(self, keys: pl.Series) -> pl.Series:
        """Return, per key, how often it came before; then count these."""
        frame = keys.hash(seed=0).alias("key").to_frame()
        counted = frame.group_by("key").agg(pl.len().cast(pl.UInt32).alias("count"))
        earlier = (
            self._counts.join(counted.select("key"), on="key", how="semi").group_by("key").agg(pl.col("count").sum())
        )
        self._counts = pl.concat([self._counts, counted])
        here = pl.int_range(pl.len(), dtype=pl.UInt32).over("key")
        joined = frame.join(earlier, on="key", how="left", maintain_order="left")
        return joined.select(pl.col("count").fill_null(0) + here).to_series()


def numbered_ids(ids: pl.Series, seen: Seen) -> pl.Series:
    """Return IDs in which each equal line after the first has its number: `nth` of identified_by."""
    nth = seen.before(ids)
    if not (nth > 0).any():
        return ids
    number = pl.when(pl.col("nth") > 0).then(pl.col("nth").cast(pl.String))
    numbered = pl.concat_str("event_id", number, separator=":", ignore_nulls=True)
    return pl.DataFrame({"event_id": ids, "nth": nth}).select(numbered).to_series()
