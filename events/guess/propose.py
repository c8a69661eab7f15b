"""Propose a mapping for an unknown file, as commented YAML to review and correct.

A file with the columns and event names of a mapping that ShopLens ships gets that mapping. If something required is
not found, the proposal is a skeleton that names it.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from events.guess.recognise import Guess, guess_columns
from events.guess.sample import Sample, read_sample
from events.guess.words import words
from events.mapping import NTH, DateAndTime, EventTable, Mapping, columns_of, load_mapping
from events.sources.files import TEXT, kind_of, table_name
from events.transform.columns import nobody
from events.transform.records import passes
from shoplens.yaml_file import yaml_line

_MAPPINGS = Path(__file__).parents[1] / "mappings"
_FEWEST = 5  # columns in common; fewer may be names that any shop uses
_MOST_ROWS = 0.9  # share of rows whose event name the mapping knows


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
    """Return whether a file has the columns and the format that a mapping expects."""
    spec = mapping.events[0]
    if not set(mapping.tables()) <= {"*", table_name(path), *mapping.optional_tables}:
        return False
    if spec.each != sample.each or spec.joins or (kind_of(path) in TEXT and sample.csv != spec.csv):
        return False
    read = [("", name) for name in spec.identified_by if name != NTH] + [("", rule.column) for rule in spec.reject]
    for name, source in spec.columns.items():
        parts = (source.date, source.time) if isinstance(source, DateAndTime) else (source,)
        read += [(name, part) for part in parts if part is not None]
    common = set[str]()
    for name, column in read:
        found = {one for one in columns_of(column) if one in sample.frame.columns}
        # A record need not have every field; a table has all its columns.
        needed = sample.each is None or name in ("event_time", "event_name")
        if not found and needed and not any(one.startswith(spec.optional) for one in columns_of(column)):
            return False
        common |= found
    return len(common) >= _FEWEST and _names_fit(spec, sample)


def _line(key: str, value: Any, comment: str = "") -> str:
    return f"{yaml_line(key)}: {yaml_line(value)}" + (f"  # {comment}" if comment else "")


def _comments(lines: Iterable[str]) -> list[str]:
    return [f"# {part}" for line in lines for part in line.splitlines()]


def _block(key: str, lines: Iterable[str]) -> list[str]:
    return [f"{key}:", *(f"  {line}" for line in lines)]


def _one_or_several(columns: list[str]) -> str | list[str]:
    return columns[0] if len(columns) == 1 else columns


def _columns(sample: Sample, guess: Guess) -> Iterator[str]:
    """Yield the required columns that were not found, then the recognised ones."""
    has, names = guess.columns, ", ".join(sample.frame.columns) or "no columns"
    if guess.time.day_numbers:
        time = f", time: {guess.time_of_day}" if guess.time_of_day else ""
        yield (
            f"# event_time: {{date: {has['event_time'][0]}{time}, start: YYYY-MM-DD}} - days are numbered: set the "
            f"date of the first, and remove the #"
        )
    elif "event_time" not in has:
        yield f"# not found: event_time, the column with the time of the event; the file has {names}"
    people = {"user_id", "anonymous_id", "session_id"} & set(has)
    if not people:
        yield f"# not found: user_id, the column that identifies a person; the file has {names}"
    for name, columns in has.items():
        filled = sample.filled(columns[0])
        comment = f"{len(filled) / max(1, sample.frame.height):.0%} filled, {filled.n_unique():,} distinct"
        if name != "event_time":
            yield _line(name, _one_or_several(columns), comment)
        elif guess.time_of_day is not None and not guess.time.day_numbers:
            yield _line(name, {"date": columns[0], "time": guess.time_of_day}, comment)
        elif not guess.time.day_numbers:
            yield _line(name, columns[0], comment)
    if people == {"session_id"}:
        yield _line("user_id", has["session_id"][0])


def _money(sample: Sample, guess: Guess) -> Iterator[str]:
    """Yield the keys that depend on the columns of quantities and amounts and on their signs."""
    has = guess.columns
    if guess.order_amount:
        yield _line("order_amount", _one_or_several(guess.order_amount))
    if {"amount", "quantity"} <= set(has) and "price" not in has:
        yield "price: amount / quantity"
    if any((sample.numbers(column) < 0).any() for column in has.get("quantity", [])):
        yield "negative_quantity: refund"
    negative = [sample.numbers(column) < 0 for column in has.get("amount") or has.get("price") or []]
    if not any(one.any() for one in negative):
        return
    yield _line("negative_amount", "refund", "a negative amount is a refund of its absolute value")
    if {"order_id", "item_id"} <= set(has):
        column = has["item_id"][0]
        names = sample.texts(column).filter(negative[0]).drop_nulls().unique().sort()
        names = names.filter(names.str.contains(f"(?i){'|'.join(words()['discount'])}"))
        if len(names):
            yield from _block("discounts", (f"- {yaml_line({'column': column, 'equals': name})}" for name in names))


def _table(sample: Sample, guess: Guess) -> Iterator[str]:
    yield _line("table", "*")
    if dialect := sample.csv.model_dump(exclude_defaults=True):
        evidence = ", ".join(sample.evidence)
        yield _line("csv", dialect, f"{evidence}: are these the right letters?" if evidence else "")
    if sample.each is not None:
        yield _line("each", sample.each)
    columns = [*_columns(sample, guess)]
    skeleton = all(line.startswith("#") for line in columns)
    yield from [*columns, "columns: {}"] if skeleton else _block("columns", columns)
    if guess.events:
        unknown = ", ".join(guess.unknown_events)
        shown = [f"not recognised, these rows go to quarantine: {unknown}"] if unknown else []
        yield from _block("event_names", [*_comments(shown), *map(_line, guess.events, guess.events.values())])
    else:
        event = "purchase" if {"order_id", "amount", "quantity", "price"} & set(guess.columns) else "view_item"
        yield _line("constants", {"event_name": event}, "no column holds event names: is this right?")
    if len(guess.time.formats) == 1:
        yield _line("time_format", guess.time.formats[0], guess.time.comment)
    yield from _money(sample, guess)
    content: dict[str, Any] = dict(guess.content)
    if "category" in content:
        dotted = sample.filled(content["category"]).str.contains(r"\w\.\w")
        if dotted.sum() > 0.5 * len(dotted):
            content["category"] = {"column": content["category"], "split": "."}
    if content:
        yield from _block("items", map(_line, content, content.values()))


def _mapping(path: Path, sample: Sample, guess: Guess) -> Iterator[str]:
    yield f"# Proposed from the first {sample.frame.height:,} rows of {path.name}: review and correct it."
    name = re.sub(r"[^a-z0-9]+", "_", table_name(path).lower()).strip("_")
    has = guess.first
    yield _line("name", name if re.match(r"[a-z]", name) else f"log_{name}".strip("_"))
    people = [one for one in ("user_id", "anonymous_id") if one in has]
    yield _line("identity", "session" if not people and "session_id" in has else "user")
    users = sample.filled(has["user_id"]) if "user_id" in has else pl.Series(dtype=pl.String)
    known = int(pl.select((~nobody(pl.lit(users), None)).sum()).item())
    if "anonymous_id" in has and known < sample.frame.height:
        yield _line("person", people, "user_id is empty in some rows")
    yield _line("time_zone", "UTC", "of times without an offset: is this right?")
    yield "ingest_delay_seconds: 0"
    counts = sample.filled(has["currency"]).value_counts(sort=True) if "currency" in has else pl.DataFrame()
    if counts.height > 1 and re.fullmatch("[A-Z]{3}", str(counts[0, 0])):
        yield _line("currency", counts[0, 0], "the most frequent; others need rates, or are quarantined")
    yield from _comments(guess.notes)
    if len(guess.time.formats) > 1:
        either = " or ".join(f'"{form}"' for form in guess.time.formats)
        yield f"# time_format: {either}? No date has a number above 12 that decides it: add one of them"
    if rest := ", ".join(column for column in sample.frame.columns if column not in guess.used):
        yield from _comments([f"kept as attributes: {rest}"])
    first, *lines = _table(sample, guess)
    yield from _block("events", [f"- {first}", *(f"  {line}" for line in lines)])


def propose(path: Path) -> str:
    """Return a mapping, as commented YAML, for a file of events.

    Raises:
        SourceError: the file is missing, of an unknown kind, or unreadable.
    """
    sample = read_sample(path)
    for file in sorted(_MAPPINGS.glob("*.yaml")):
        if _fits(load_mapping(file), path, sample):
            return (
                f"# {path.name} has the columns of {file.name}, a mapping that ShopLens ships, which follows. Check\n"
                f"# the time zone and the constants.\n{file.read_text(encoding='utf-8')}"
            )
    return "\n".join(_mapping(path, sample, guess_columns(sample))) + "\n"
