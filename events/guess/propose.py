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
from events.guess.recognise import DEFAULT_CSV, Guess, filled, guess_columns, numbers_of
from events.guess.sample import Sample, read_sample
from events.guess.vocabulary import DISCOUNT
from events.sources.files import table_name
from events.transform.numbers import nobody, text


def _flow(values: list[Any] | dict[str, Any]) -> CommentedSeq | CommentedMap:
    node = CommentedMap(values) if isinstance(values, dict) else CommentedSeq(values)
    node.fa.set_flow_style()
    return node


def _one_or_list(columns: list[str]) -> Any:
    return columns[0] if len(columns) == 1 else _flow(columns)


def _about(sample: Sample, column: str) -> str:
    values = sample.frame.select(text(sample.frame, column)).to_series()
    share = 1 - values.null_count() / max(1, len(values))
    return f"{share:.0%} filled, {values.drop_nulls().n_unique():,} distinct"


def _columns_node(sample: Sample, guess: Guess) -> CommentedMap:
    node = CommentedMap()
    for name, columns in guess.columns.items():
        if name == "event_time" and guess.time is not None and guess.time.day_numbers:
            continue
        if name == "event_time" and guess.time_of_day is not None:
            node[name] = _flow({"date": columns[0], "time": guess.time_of_day})
        else:
            node[name] = _one_or_list(columns)
        node.yaml_add_eol_comment(_about(sample, columns[0]), name)
    if not {"user_id", "anonymous_id"} & set(node) and "session_id" in node:
        node["user_id"] = node["session_id"]
    return node


def _missing(sample: Sample, guess: Guess, found: CommentedMap) -> list[str]:
    """Return what the mapping needs and the file does not show."""
    columns = ", ".join(sample.frame.columns) or "no columns"
    lines = []
    if "event_time" not in found and guess.time is not None:
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


def _money(sample: Sample, guess: Guess, node: CommentedMap) -> None:
    """Add what the signs of quantities and amounts, and their columns, ask for."""
    has = guess.columns
    if guess.order_amount:
        node["order_amount"] = _one_or_list(guess.order_amount)
    if {"amount", "quantity"} <= set(has) and "price" not in has:
        node["price"] = "amount / quantity"
    if "quantity" in has and any((numbers_of(sample, c) < 0).any() for c in has["quantity"]):
        node["negative_quantity"] = "refund"
    paid = has.get("amount") or has.get("price") or []
    negative = [numbers_of(sample, c) < 0 for c in paid]
    if not any(one.any() for one in negative):
        return
    node["negative_amount"] = "refund"
    node.yaml_add_eol_comment("a negative amount is a refund of its absolute value", "negative_amount")
    if {"order_id", "item_id"} <= set(has):
        lines = sample.frame.filter(negative[0].fill_null(value=False))
        names = lines.select(text(lines, has["item_id"][0]).drop_nulls().unique().sort()).to_series().to_list()
        found = [name for name in names if DISCOUNT.search(name)]
        if found:
            tests = [_flow({"column": has["item_id"][0], "equals": name}) for name in found]
            node["discounts"] = CommentedSeq(tests)


def _events_node(sample: Sample, guess: Guess) -> CommentedMap:
    node = CommentedMap(table="*")
    if sample.csv is not None:
        dialect = {k: v for k, v in sample.csv.model_dump().items() if v != getattr(DEFAULT_CSV, k)}
        if dialect:
            node["csv"] = _flow({k: _flow(list(v)) if k == "header" else v for k, v in dialect.items()})
        if sample.evidence:
            node.yaml_add_eol_comment(f"{', '.join(sample.evidence)}: are these the right letters?", "csv")
    if sample.each is not None:
        node["each"] = sample.each
    node["columns"] = columns = _columns_node(sample, guess)
    missing = _missing(sample, guess, columns)
    if missing:
        node.yaml_set_comment_before_after_key("columns", before="\n".join(missing), indent=4)
    if guess.events:
        node["event_names"] = CommentedMap(guess.events)
        if guess.unknown_events:
            shown = f"not recognised, these rows go to quarantine: {', '.join(guess.unknown_events)}"
            node.yaml_set_comment_before_after_key("event_names", before=shown, indent=4)
    else:
        buys = {"order_id", "amount", "quantity", "price"} & set(columns)
        node["constants"] = _flow({"event_name": "purchase" if buys else "view_item"})
        node.yaml_add_eol_comment("no column holds event names: is this right?", "constants")
    _time_node(guess, node)
    _money(sample, guess, node)
    if guess.content:
        node["items"] = CommentedMap()
    for name, column in guess.content.items():
        dotted = filled(sample, column).str.contains(r"\w\.\w").mean() or 0.0
        is_path = name == "category" and dotted > 0.5  # type: ignore[operator]  # a float
        node["items"][name] = _flow({"column": column, "split": "."}) if is_path else column
    return node


def _time_node(guess: Guess, node: CommentedMap) -> None:
    time = guess.time
    if time is None or time.day_numbers:
        return
    if len(time.formats) > 1:
        either = " or ".join(f'"{form}"' for form in time.formats)
        guess.notes.append(f"time_format: {either}? No date has a number above 12 that decides it: add one of them")
    elif time.formats:
        node["time_format"] = time.formats[0]
        if time.comment:
            node.yaml_add_eol_comment(time.comment, "time_format")


def _mapping_node(path: Path, sample: Sample, guess: Guess) -> CommentedMap:
    name = re.sub(r"[^a-z0-9]+", "_", table_name(path).lower()).strip("_")
    has = set(guess.columns)
    node = CommentedMap(name=name if re.match(r"[a-z]", name) else f"log_{name}".strip("_"))
    people = bool(has & {"user_id", "anonymous_id"}) or "session_id" not in has
    node["identity"] = "user" if people else "session"
    if "anonymous_id" in has:
        known = filled(sample, guess.columns["user_id"][0]) if "user_id" in has else pl.Series([], dtype=pl.String)
        known = known.to_frame("x").filter(~nobody(pl.col("x"), None)).to_series()
        order = ["user_id", "anonymous_id"] if "user_id" in has else ["anonymous_id"]
        if known.len() < sample.frame.height:
            node["person"] = _flow(order)
            node.yaml_add_eol_comment("user_id is empty in some rows", "person")
    node["time_zone"] = "UTC"
    node.yaml_add_eol_comment("of times without an offset: is this right?", "time_zone")
    node["ingest_delay_seconds"] = 0
    if "currency" in has:
        counts = filled(sample, guess.columns["currency"][0]).value_counts(sort=True)
        if counts.height > 1 and re.fullmatch("[A-Z]{3}", str(counts[0, 0])):
            node["currency"] = counts[0, 0]
            node.yaml_add_eol_comment("the most frequent; others need rates, or are quarantined", "currency")
    node["events"] = CommentedSeq([_events_node(sample, guess)])
    rest = [column for column in sample.frame.columns if column not in guess.used]
    notes = [*guess.notes, *([f"kept as attributes: {', '.join(rest)}"] if rest else [])]
    if notes:
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
    rows = f"{sample.frame.height:,} rows"
    node.yaml_set_start_comment(f"Proposed from the first {rows} of {path.name}: read it and correct it.")
    yaml = YAML()
    yaml.width = 4096  # a comment after a line that is wrapped would end up elsewhere
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = io.StringIO()
    yaml.dump(node, stream)
    return stream.getvalue()
