"""Files of a source whose mapping ShopLens ships are recognised by their columns and event names."""

from pathlib import Path

import polars as pl

from events.guess.sniff import Sample
from events.mapping import NTH, DateAndTime, EventTable, Mapping, columns_of, load_mapping
from events.sources.files import TEXT, kind_of, table_name
from events.transform.records import passes

_MAPPINGS = Path(__file__).parents[1] / "mappings"
_FEWEST = 5  # columns in common: fewer are names that any shop has
_MOST_ROWS = 0.9  # have an event name that the mapping knows


def _names_fit(spec: EventTable, sample: Sample) -> bool:
    """Return whether nearly all rows have an event name that the mapping maps or rejects."""
    if "event_name" not in spec.columns:
        return True
    (column,) = (one for one in columns_of(spec.columns["event_name"]) if one in sample.frame.columns)
    known = pl.lit(sample.texts(column)).is_in(list(spec.event_names))
    for rule in spec.reject:
        known |= passes(sample.frame, rule) if rule.column == column else pl.lit(value=False)
    return float(pl.select(known.mean()).item() or 0) >= _MOST_ROWS


def _fits(mapping: Mapping, path: Path, sample: Sample) -> bool:
    """Return whether a file has what a mapping reads, and is written in the way that the mapping expects."""
    spec = mapping.events[0]
    if not set(mapping.tables()) <= {"*", table_name(path), *mapping.optional_tables}:
        return False
    if spec.each != sample.each or spec.joins or (kind_of(path) in TEXT and sample.csv != spec.csv):
        return False
    wanted = [("", name) for name in spec.identified_by if name != NTH] + [("", rule.column) for rule in spec.reject]
    for name, source in spec.columns.items():
        parts = (source.date, source.time) if isinstance(source, DateAndTime) else (source,)
        wanted += [(name, part) for part in parts if part is not None]
    columns, common = set(sample.frame.columns), set[str]()
    for name, column in wanted:
        alternatives = columns_of(column)
        found = columns & set(alternatives)
        # A record need not have every field; a table has all its columns.
        needed = sample.each is None or name in ("event_time", "event_name")
        if not found and needed and not any(one.startswith(spec.optional) for one in alternatives):
            return False
        common |= found
    return len(common) >= _FEWEST and _names_fit(spec, sample)


def known_mapping(path: Path, sample: Sample) -> str | None:
    """Return the text of the shipped mapping that reads a file, with a comment on top; None if there is none."""
    for file in sorted(_MAPPINGS.glob("*.yaml")):
        if _fits(load_mapping(file), path, sample):
            return (
                f"# {path.name} has the columns of {file.name}, a mapping that ShopLens ships, which follows. Check\n"
                f"# the time zone and the constants.\n{file.read_text(encoding='utf-8')}"
            )
    return None
