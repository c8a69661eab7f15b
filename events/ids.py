"""Ids of events whose source gives none."""

from hashlib import blake2b

import polars as pl

from events.values import spelled

_UNIT = "\x1f"  # ASCII unit separator: in no text that people type


def salt_of(table: str, place: int) -> str:
    """Return what ids of a table are salted with; `place`, from 0, counts the entries of `events` that read it."""
    # The first keeps the bare name: what was read before a second entry was written stays known.
    return table if place == 0 else f"{table}{_UNIT}{place}"


def content_ids(frame: pl.DataFrame, salt: str) -> pl.Series:
    """Return an id for every row, derived from its content and salt: re-reading a file gives the same ids.

    A 96-bit BLAKE2b: a billion rows collide with a probability of about 1e-11.
    """
    values = [spelled(frame, name).fill_null("\x00") for name in frame.columns]
    lines = frame.select(pl.concat_str(pl.lit(salt), pl.concat_str(values, separator=_UNIT)).cast(pl.Binary))
    ids = [blake2b(line, digest_size=12).hexdigest() for line in lines.to_series().to_list()]
    return pl.Series("event_id", ids, dtype=pl.String)
