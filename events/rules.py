"""Rules of a mapping that only Polars or the system can judge: patterns, constants, time zones."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl

from events.contract import EVENT_NAMES, EVENT_SCHEMA

# Times of single rows, what is derived from single rows, and what the source's other columns fill.
_NEVER_CONSTANT = ("event_time", "ingested_at", "event_id", "attributes")


def checked_pattern(pattern: str) -> str:
    """Return `pattern`; a ValueError where it is no regular expression of the engine that will run it."""
    try:
        pl.Series([""]).str.contains(pattern)
    except pl.exceptions.PolarsError as error:
        raise ValueError("must be a regular expression (Rust's syntax: no look-around, no back-references)") from error
    return pattern


def require_constant(name: str, value: Any) -> None:
    """Raise a ValueError where `value` cannot be the constant of the contract's column `name`."""
    if name in _NEVER_CONSTANT:
        raise ValueError(f"{name} must come from a column: it differs from row to row; map one, or leave it out")
    if name == "event_name" and value not in EVENT_NAMES:
        raise ValueError(f"event_name: no event of the contract: {value}; it has {', '.join(EVENT_NAMES)}")
    kind = EVENT_SCHEMA[name]
    try:
        cast = pl.Series([value]).cast(kind, strict=True)
        same = not kind.is_numeric() or (cast.is_finite().all() and float(cast[0]) == float(value))
    except (pl.exceptions.PolarsError, ValueError, OverflowError):
        same = False
    if not same:
        raise ValueError(f"{name} must be of type {kind}: {value!r} is not")


def checked_zone(zone: str) -> str:
    """Return `zone`; a ValueError where it is no time zone for both Python and Polars, which has a list of its own."""
    try:
        ZoneInfo(zone)
        pl.Series([datetime(2024, 1, 1)]).dt.replace_time_zone(zone)  # noqa: DTZ001  (it gets its zone here)
    except (ZoneInfoNotFoundError, ValueError, OSError, pl.exceptions.PolarsError) as error:
        raise ValueError("no time zone of the IANA database, such as UTC or Europe/Berlin") from error
    return zone
