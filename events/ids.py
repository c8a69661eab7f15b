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
    lines = frame.select(
        pl.concat_str([spelled(frame, name).fill_null("\x00") for name in frame.columns], separator=_UNIT)
    ).to_series()
    start = blake2b(salt.encode(), digest_size=12)

    def one(line: str) -> str:
        state = start.copy()
        state.update(line.encode())
        return state.hexdigest()

    return pl.Series("event_id", [one(line) for line in lines], dtype=pl.String)
