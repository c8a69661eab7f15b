"""Files of a source whose mapping ShopLens ships are recognised by their columns and event names."""

from pathlib import Path

import polars as pl

from events.guess.sample import Sample
from events.mapping import NTH, DateAndTime, EventTable, Mapping, Source, columns_of, load_mapping
from events.sources.files import table_name
from events.transform.numbers import text

MAPPINGS = Path(__file__).parents[1] / "mappings"
_FEWEST = 5  # columns in common: fewer are names that any shop has
_MOST_ROWS = 0.9  # have an event name that the mapping knows


def _alternatives(source: Source | DateAndTime) -> list[tuple[str, ...]]:
    """Return the columns that a source needs, each as its alternatives."""
    if isinstance(source, DateAndTime):
        return [one for part in (source.date, source.time) if part is not None for one in _alternatives(part)]
    return [(source,) if isinstance(source, str) else source]


def _is_optional(addresses: tuple[str, ...], spec: EventTable) -> bool:
    return any(one.startswith(tuple(spec.optional)) for one in addresses) if spec.optional else False


def _names_fit(spec: EventTable, frame: pl.DataFrame) -> bool:
    """Return whether nearly all rows have an event name that the mapping maps or rejects."""
    if "event_name" not in spec.columns:
        return True
    (column,) = (one for one in columns_of(spec.columns["event_name"]) if one in frame.columns)
    name = text(frame, column)
    known = name.is_in(list(spec.event_names))
    for rule in spec.reject:
        if rule.column == column:
            known |= name == rule.equals if rule.equals is not None else name.str.contains(rule.matches or "^$")
    return float(frame.select(known.mean()).item() or 0) >= _MOST_ROWS


def _fits(mapping: Mapping, table: str, sample: Sample) -> bool:
    """Return whether a file has what a mapping reads, and is written in the way that the mapping expects."""
    if not set(mapping.tables()) <= {"*", table, *mapping.optional_tables}:
        return False
    spec = mapping.events[0]
    if spec.each != sample.each or spec.joins or (sample.csv is not None and sample.csv != spec.csv):
        return False
    columns, common = set(sample.frame.columns), set[str]()
    identity = [(name,) for name in spec.identified_by if name != NTH]
    named = [(name, one) for name, source in spec.columns.items() for one in _alternatives(source)]
    named += [("", one) for rule in spec.reject for one in _alternatives(rule.column)]
    for name, alternatives in [*named, *(("", one) for one in identity)]:
        found = columns & set(alternatives)
        # A record need not have every field; a table has all its columns.
        needed = sample.each is None or name in ("event_time", "event_name")
        if not found and needed and not _is_optional(alternatives, spec):
            return False
        common |= found
    return len(common) >= _FEWEST and _names_fit(spec, sample.frame)


def known_mapping(path: Path, sample: Sample) -> str | None:
    """Return the text of the shipped mapping that reads a file, with a comment on top; None if there is none."""
    for file in sorted(MAPPINGS.glob("*.yaml")):
        if _fits(load_mapping(file), table_name(path), sample):
            return (
                f"# {path.name} has the columns of {file.name}, a mapping that ShopLens ships, which follows. Check\n"
                f"# the time zone and the constants.\n{file.read_text(encoding='utf-8')}"
            )
    return None
