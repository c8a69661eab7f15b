"""The rules for the rows of each table, and the Great Expectations suites that are built from them.

A rule is declared once: the expectation that counts the rows that fail it, and the Polars expression that finds them in
a table or among live events. Great Expectations would need one Python object per row for that, and takes seconds to
import. The two counts must agree. Expectations without a rule apply to a table as a whole: if one fails, the table is
broken and the run fails.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from events.contract import CAMPAIGN_SCHEMA, EVENT_NAMES, EVENT_SCHEMA, ITEM_SCHEMA, USER_SCHEMA

if TYPE_CHECKING:
    from great_expectations import ExpectationSuite

Condition = Callable[[Any], Any]  # of `polars.col` or of Great Expectations' `Column`, which share their operators


@dataclass(frozen=True)
class Rule:
    """A rule that every row of a table must keep.

    Attributes:
        reason: The reason under which failing rows are quarantined.
        why: For Data Docs.
        expectation: Name of the Great Expectations class.
        arguments: Its arguments.
        fails: True for a row that fails; null counts as false. None for uniqueness, which needs all rows.
        only: The rows that the rule applies to; None: all.
    """

    reason: str
    why: str
    expectation: str
    arguments: dict[str, Any]
    fails: pl.Expr | None
    only: Condition | None = None


def _not_null(column: str, why: str, only: Condition | None = None) -> Rule:
    fails, arguments = pl.col(column).is_null(), {"column": column}
    return Rule(f"{column}_missing", why, "ExpectColumnValuesToNotBeNull", arguments, fails, only)


def _between(column: str, reason: str, why: str, low: int, high: int | None = None) -> Rule:
    fails = pl.any_horizontal(pl.col(column) < low, pl.lit(False) if high is None else pl.col(column) > high)
    arguments = {"column": column, "min_value": low, "max_value": high}
    return Rule(f"{column}_{reason}", why, "ExpectColumnValuesToBeBetween", arguments, fails)


def _at_least_zero(column: str, why: str) -> Rule:
    return _between(column, "negative", why, 0)


def _unique(column: str, why: str) -> Rule:
    return Rule(f"{column}_repeated", why, "ExpectColumnValuesToBeUnique", {"column": column}, None)


def _is_line(column: Any) -> Any:
    """A purchase without a price is a whole order, which some sources send without its lines."""
    return (column("event_name") == "purchase") & column("price").is_not_null()


RULES: dict[str, list[Rule]] = {
    "events": [
        _not_null("event_id", "Without an ID, an event cannot be distinguished from its duplicates."),
        _unique("event_id", "An event ID identifies one event."),
        _not_null("event_time", "Every computation is as of a point in time."),
        _not_null("ingested_at", "A snapshot uses only events that had been ingested by then."),
        Rule(
            "ingested_before_it_happened",
            "An event cannot be ingested before it happens: a clock or a time zone is wrong.",
            "ExpectColumnPairValuesAToBeGreaterThanB",
            {"column_A": "ingested_at", "column_B": "event_time", "or_equal": True},
            pl.col("ingested_at") < pl.col("event_time"),
        ),
        Rule(
            "event_name_unknown",
            "Features are computed from the event names of the contract.",
            "ExpectColumnValuesToBeInSet",
            {"column": "event_name", "value_set": list(EVENT_NAMES)},
            ~pl.col("event_name").is_in(EVENT_NAMES),
        ),
        _not_null("event_name", "An event without a name has no meaning."),
        _not_null("item_id", "A line of a purchase must name the item.", _is_line),
        _at_least_zero("quantity", "A return is a refund event with a positive quantity."),
        _at_least_zero("price", "A price cannot be negative."),
        _at_least_zero("amount", "A return is a refund event with a positive amount."),
        _at_least_zero("dwell_seconds", "A dwell time cannot be negative."),
        _at_least_zero("position", "Positions in a list start at 0 or 1."),
        _between("rating", "out_of_range", "Ratings range from 0 to 5 stars.", 0, 5),
    ],
    "items": [
        _not_null("item_id", "An item without an ID cannot be bought or recommended."),
        _unique("item_id", "An item ID identifies one item."),
        _at_least_zero("price", "A list price cannot be negative."),
    ],
    "users": [
        _not_null("user_id", "A profile without an ID cannot be assigned to a user."),
        _unique("user_id", "A user ID identifies one user."),
        _between(
            "birth_year", "out_of_range", "A birth year has four digits and belongs to a living person.", 1900, 2100
        ),
    ],
    "campaigns": [],
}
_SCHEMAS = {"events": EVENT_SCHEMA, "items": ITEM_SCHEMA, "users": USER_SCHEMA, "campaigns": CAMPAIGN_SCHEMA}


def row_rules(table: str) -> dict[str, pl.Expr]:
    """Return reason -> expression that is true for a row that fails, sorted by reason, without uniqueness."""
    found = {}
    for rule in sorted(RULES[table], key=lambda rule: rule.reason):
        if rule.fails is not None:
            fails = rule.fails if rule.only is None else rule.fails & rule.only(pl.col)
            found[rule.reason] = fails.fill_null(value=False)
    return found


def reasons_of(rules: dict[str, pl.Expr]) -> pl.Expr:
    """Return the reasons of the rules that are true for each row, List(String), in order; null counts as false."""
    if not rules:
        return pl.lit([], dtype=pl.List(pl.String))
    return pl.concat_list([pl.when(fails).then(pl.lit(reason)) for reason, fails in rules.items()]).list.drop_nulls()


def failing_reasons(events: pl.DataFrame) -> pl.Series:
    """Return the sorted reasons to quarantine each event (EVENT_SCHEMA), List(String); an empty list accepts it."""
    return events.select(reasons_of(row_rules("events")).alias("reasons")).to_series()


def build_suites() -> "dict[str, ExpectationSuite]":
    """Return table -> suite. Only events must have rows: not every source has items, users or campaigns."""
    import great_expectations.expectations as gxe
    from great_expectations import ExpectationSuite
    from great_expectations.expectations.row_conditions import Column

    suites = {}
    for table, rules in RULES.items():
        expectations = [gxe.ExpectTableRowCountToBeBetween(min_value=1)] if table == "events" else []
        expectations += [gxe.ExpectColumnToExist(column=name) for name in _SCHEMAS[table]]
        for rule in rules:
            meta = {"reason": rule.reason, "notes": {"format": "string", "content": [rule.why]}}
            where = {} if rule.only is None else {"row_condition": rule.only(Column)}
            expectations.append(getattr(gxe, rule.expectation)(**rule.arguments, **where, meta=meta))
        suites[table] = ExpectationSuite(table, expectations=expectations)
    return suites
