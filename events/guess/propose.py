"""A mapping proposed for an unknown file, as YAML with comments: to be read and corrected.

Where something required is not found, the proposal is a skeleton that names it.
"""

import io
import re
from pathlib import Path
from typing import Any

import polars as pl
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from events.guess.known import known_mapping
from events.guess.recognise import Guess, guess_columns
from events.guess.sample import read_sample
from events.guess.sniff import Sample
from events.guess.words import words
from events.sources.files import table_name
from events.transform.columns import nobody


def _in_one_line(value: Any) -> Any:
    """Return tuples and dicts as nodes that are written in one line, other values as they are."""
    if type(value) not in (tuple, dict):
        return value
    node: Any = CommentedSeq(value)
    if isinstance(value, dict):
        node = CommentedMap({key: _in_one_line(inner) for key, inner in value.items()})
    node.fa.set_flow_style()
    return node


def _add(node: CommentedMap, key: str, value: Any, comment: str = "") -> None:
    """Set a key; tuples and dicts are written in one line, and a comment behind the value."""
    node[key] = _in_one_line(value)
    if comment:
        node.yaml_add_eol_comment(comment, key)


def _one_or_several(columns: list[str]) -> str | tuple[str, ...]:
    return columns[0] if len(columns) == 1 else tuple(columns)


def _columns_node(sample: Sample, guess: Guess) -> CommentedMap:
    node = CommentedMap()
    for name, columns in guess.columns.items():
        source: Any = _one_or_several(columns)
        if name == "event_time" and guess.time.day_numbers:
            continue
        if name == "event_time" and guess.time_of_day is not None:
            source = {"date": columns[0], "time": guess.time_of_day}
        filled = sample.filled(columns[0])
        share = len(filled) / max(1, sample.frame.height)
        _add(node, name, source, f"{share:.0%} filled, {filled.n_unique():,} distinct")
    if not {"user_id", "anonymous_id"} & set(node) and "session_id" in node:
        node["user_id"] = node["session_id"]
    return node


def _missing(sample: Sample, guess: Guess, found: CommentedMap) -> list[str]:
    """Return what the mapping needs and the file does not show."""
    columns = ", ".join(sample.frame.columns) or "no columns"
    lines = []
    if guess.time.day_numbers:
        time = f", time: {guess.time_of_day}" if guess.time_of_day else ""
        lines.append(
            f"event_time: {{date: {guess.columns['event_time'][0]}{time}, start: YYYY-MM-DD}} - days are numbered: set "
            f"the date of the first, and remove the #"
        )
    elif "event_time" not in found:
        lines.append(f"not found: event_time, the column with the time of the event; the file has {columns}")
    if "user_id" not in found and "anonymous_id" not in found:
        lines.append(f"not found: user_id, the column that identifies a person; the file has {columns}")
    return lines


def _add_money(sample: Sample, guess: Guess, node: CommentedMap) -> None:
    """Add what the signs of quantities and amounts, and their columns, ask for."""
    has = guess.columns
    if guess.order_amount:
        _add(node, "order_amount", _one_or_several(guess.order_amount))
    if {"amount", "quantity"} <= set(has) and "price" not in has:
        node["price"] = "amount / quantity"
    if any((sample.numbers(column) < 0).any() for column in has.get("quantity", [])):
        node["negative_quantity"] = "refund"
    negative = [sample.numbers(column) < 0 for column in has.get("amount") or has.get("price") or []]
    if not any(one.any() for one in negative):
        return
    _add(node, "negative_amount", "refund", "a negative amount is a refund of its absolute value")
    if {"order_id", "item_id"} <= set(has):
        column = has["item_id"][0]
        names = sample.texts(column).filter(negative[0]).drop_nulls().unique().sort()
        names = names.filter(names.str.contains(f"(?i){'|'.join(words()['discount'])}"))
        if len(names):
            node["discounts"] = [_in_one_line({"column": column, "equals": name}) for name in names]


def _events_node(sample: Sample, guess: Guess) -> CommentedMap:
    node = CommentedMap(table="*")
    dialect = sample.csv.model_dump(exclude_defaults=True)
    if dialect:
        evidence = ", ".join(sample.evidence)
        _add(node, "csv", dialect, f"{evidence}: are these the right letters?" if evidence else "")
    if sample.each is not None:
        node["each"] = sample.each
    node["columns"] = columns = _columns_node(sample, guess)
    if missing := _missing(sample, guess, columns):
        node.yaml_set_comment_before_after_key("columns", before="\n".join(missing), indent=4)
    if guess.events:
        node["event_names"] = CommentedMap(guess.events)
        if guess.unknown_events:
            shown = f"not recognised, these rows go to quarantine: {', '.join(guess.unknown_events)}"
            node.yaml_set_comment_before_after_key("event_names", before=shown, indent=4)
    else:
        event = "purchase" if {"order_id", "amount", "quantity", "price"} & set(columns) else "view_item"
        _add(node, "constants", {"event_name": event}, "no column holds event names: is this right?")
    if len(guess.time.formats) > 1:
        either = " or ".join(f'"{form}"' for form in guess.time.formats)
        guess.notes.append(f"time_format: {either}? No date has a number above 12 that decides it: add one of them")
    elif guess.time.formats:
        _add(node, "time_format", guess.time.formats[0], guess.time.comment)
    _add_money(sample, guess, node)
    if guess.content:
        node["items"] = CommentedMap()
    for name, column in guess.content.items():
        dotted = sample.filled(column).str.contains(r"\w\.\w")
        is_path = name == "category" and dotted.sum() > 0.5 * len(dotted)
        _add(node["items"], name, {"column": column, "split": "."} if is_path else column)
    return node


def _mapping_node(path: Path, sample: Sample, guess: Guess) -> CommentedMap:
    name = re.sub(r"[^a-z0-9]+", "_", table_name(path).lower()).strip("_")
    has = {one: columns[0] for one, columns in guess.columns.items()}
    node = CommentedMap(name=name if re.match(r"[a-z]", name) else f"log_{name}".strip("_"))
    people = [one for one in ("user_id", "anonymous_id") if one in has]
    node["identity"] = "session" if not people and "session_id" in has else "user"
    users = sample.filled(has["user_id"]) if "user_id" in has else pl.Series(dtype=pl.String)
    known = int(pl.select((~nobody(pl.lit(users), None)).sum()).item())
    if "anonymous_id" in has and known < sample.frame.height:
        _add(node, "person", tuple(people), "user_id is empty in some rows")
    _add(node, "time_zone", "UTC", "of times without an offset: is this right?")
    node["ingest_delay_seconds"] = 0
    counts = sample.filled(has["currency"]).value_counts(sort=True) if "currency" in has else pl.DataFrame()
    if counts.height > 1 and re.fullmatch("[A-Z]{3}", str(counts[0, 0])):
        _add(node, "currency", counts[0, 0], "the most frequent; others need rates, or are quarantined")
    node["events"] = CommentedSeq([_events_node(sample, guess)])
    rest = ", ".join(column for column in sample.frame.columns if column not in guess.used)
    if notes := [*guess.notes, *([f"kept as attributes: {rest}"] if rest else [])]:
        node.yaml_set_comment_before_after_key("events", before="\n".join(notes))
    return node


def propose(path: Path) -> str:
    """Return a mapping, as commented YAML, for a file of events.

    Raises:
        SourceError: the file is missing, of an unknown kind, or unreadable.
    """
    sample = read_sample(path)
    known = known_mapping(path, sample)
    if known is not None:
        return known
    node = _mapping_node(path, sample, guess_columns(sample))
    node.yaml_set_start_comment(
        f"Proposed from the first {sample.frame.height:,} rows of {path.name}: read it and correct it."
    )
    yaml = YAML()
    yaml.width = 4096  # a comment after a line that is wrapped would end up elsewhere
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = io.StringIO()
    yaml.dump(node, stream)
    return stream.getvalue()
