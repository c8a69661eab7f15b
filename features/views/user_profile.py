"""What users declared about themselves: one row per user, as of the start of the data."""

from datetime import datetime

import polars as pl

KEY = "user_id"

DESCRIPTIONS: dict[str, str] = {
    "registered_at": "When the user registered (UTC, ISO 8601).",
    "gender": "Gender as the source states it (text).",
    "birth_year": "Year of birth (year).",
}


def describe(name: str) -> str:
    """Return the meaning of a profile column; columns beyond the contract are the source's own."""
    return DESCRIPTIONS.get(name, f"Declared by the source as {name!r} (text).")


def user_profile(users: pl.DataFrame, start: datetime) -> pl.DataFrame:
    """Return (user_id, registered_at, gender, birth_year, the source's string columns, event_timestamp).

    Args:
        users: The contract's table of users.
        start: Start of the data (UTC); declared data has no history, so it applies from then on.
    """
    own = [name for name, kind in users.schema.items() if kind == pl.String and name not in {KEY, *DESCRIPTIONS}]
    return (
        users.unique(KEY, keep="first", maintain_order=True)
        .sort(KEY)
        .select(
            KEY,
            pl.lit(start.replace(hour=0, minute=0, second=0, microsecond=0))
            .cast(pl.Datetime("us", "UTC"))
            .alias("event_timestamp"),
            pl.col("registered_at").dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
            pl.col("gender").cast(pl.String),
            pl.col("birth_year").cast(pl.Int32),
            *sorted(own),
        )
    )
