"""Events whose id was seen before, in the same file or in another one of the same call."""

from dataclasses import dataclass

import polars as pl

from events.contract import EVENT_SCHEMA

OTHER_CONTENT = "event_id_with_other_content"


@dataclass(frozen=True)
class Distinct:
    """Events, one an id.

    Attributes:
        events: the first row of every id.
        clashes: `_part` and `_row` of later rows with another content.
        repeated: `_part` of every exact duplicate.
    """

    events: pl.DataFrame
    clashes: pl.DataFrame
    repeated: pl.Series


def distinct(events: pl.DataFrame) -> Distinct:
    """Keep one row an id, of events with `_part` and `_row` that say where each came from."""
    if events["event_id"].n_unique() == events.height:
        return Distinct(events, events.select("_part", "_row").clear(), events["_part"].clear())
    content = [name for name in EVENT_SCHEMA if name != "ingested_at"]
    # only rows that share an id are compared: hashing all content of all rows is what costs
    shared = (
        events.filter(pl.col("event_id").is_duplicated())
        .select("_part", "_row", "event_id", pl.struct(content).hash(seed=0).alias("_content"))
        .with_columns(
            pl.int_range(pl.len()).over("event_id").alias("_nth"),
            (pl.col("_content") == pl.col("_content").first().over("event_id")).alias("_same"),
        )
        .filter(pl.col("_nth") > 0)
    )
    return Distinct(
        events.filter(pl.col("event_id").is_first_distinct()),
        shared.filter(~pl.col("_same")).select("_part", "_row"),
        shared.filter("_same")["_part"],
    )
