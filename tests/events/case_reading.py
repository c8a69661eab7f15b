"""A mapping and its files read as `shoplens ingest` reads them, and the result as plain values."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from events.account import TableAccount
from events.contract import EVENT_SCHEMA, QUARANTINE_SCHEMA
from events.guess.propose import propose
from events.mapping import Mapping, load_mapping
from events.reading import Reading

CASES = Path(__file__).parent / "cases"
MAPPINGS = Path(__file__).parents[2] / "events/mappings"


@dataclass(frozen=True)
class Done:
    """What became of files.

    Attributes:
        events: EVENT_SCHEMA in the order of time.
        quarantined: QUARANTINE_SCHEMA.
        accounts: By label of a file.
        content: item_id, name and value of what the events carried about items.
        items: The items of the events, with what is known about them.
        users: As the users table has them.
        unread: Files that no table of the mapping reads.
        messages: What was reported.
    """

    events: pl.DataFrame
    quarantined: pl.DataFrame
    accounts: dict[str, TableAccount]
    content: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame
    unread: tuple[str, ...]
    messages: list[str]

    def rows(self, *columns: str, **where: Any) -> list[tuple[Any, ...]]:
        """Return columns of the events in which other columns have these values, sorted by order and item."""
        tests = [pl.col(name).eq_missing(pl.lit(value)) for name, value in where.items()]
        found = self.events.filter(tests) if tests else self.events
        return found.sort("order_id", "item_id", "event_time", nulls_last=True).select(columns).rows()

    def reasons(self) -> dict[str, int]:
        """Return how many rows were quarantined for each first reason."""
        counts = self.quarantined.select(pl.col("reasons").list.first().alias("reason")).group_by("reason").len()
        return dict(sorted(counts.rows()))

    def total(self, name: str = "purchase") -> float:
        """Return the sum of the amounts of one kind of event."""
        return round(float(self.events.filter(pl.col("event_name") == name)["amount"].sum()), 6)


def shipped(name: str, **changes: Any) -> Mapping:
    """Return a mapping that ShopLens ships."""
    return load_mapping(MAPPINGS / f"{name}.yaml").model_copy(update=changes)


def guessed(path: Path, **changes: str) -> Mapping:
    """Return the mapping that `--guess` proposes, with keys of the top level set as a person would."""
    text = propose(path)
    for key, value in changes.items():
        lines = [f"{key}: {value}" if line.startswith(f"{key}:") else line for line in text.splitlines()]
        text = "\n".join(lines)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "guessed.yaml"
        file.write_text(text + "\n", encoding="utf-8")
        return load_mapping(file)


def ingest(mapping: Mapping, *files: Path) -> Done:
    """Read files through a mapping."""
    messages: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        reading = Reading(mapping, list(files), Path(folder), None, messages.append)
        frames = [frame.select(list(EVENT_SCHEMA)) for frame in reading.labelled()]
        events = pl.concat([pl.DataFrame(schema=EVENT_SCHEMA), *frames])
        return Done(
            events,
            pl.concat([pl.DataFrame(schema=QUARANTINE_SCHEMA), *reading.quarantined()]),
            reading.accounts(),
            reading.content,
            reading.items(events["item_id"].drop_nulls()),
            reading.sides["users"],
            reading.unread,
            [*messages, *reading.notes],
        )
