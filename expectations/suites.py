"""The Great Expectations suites for events, items, users and campaigns.

The meta of a row expectation holds the reason under which failing rows are quarantined. A table expectation has no
reason: if it fails, the table is broken and the run fails.
"""

from typing import Any

import great_expectations.expectations as gxe
from great_expectations import ExpectationSuite
from great_expectations.expectations.row_conditions import Column

from events.contract import CAMPAIGN_SCHEMA, EVENT_NAMES, EVENT_SCHEMA, ITEM_SCHEMA, USER_SCHEMA


def _row(kind: type, reason: str, why: str, **arguments: Any) -> Any:
    return kind(**arguments, meta={"reason": reason, "notes": {"format": "string", "content": [why]}})


def _not_null(column: str, why: str, **more: Any) -> Any:
    return _row(gxe.ExpectColumnValuesToNotBeNull, f"{column}_missing", why, column=column, **more)


def _between(column: str, reason: str, why: str, low: int, high: int | None = None) -> Any:
    kind = gxe.ExpectColumnValuesToBeBetween
    return _row(kind, f"{column}_{reason}", why, column=column, min_value=low, max_value=high)


def _at_least_zero(column: str, why: str) -> Any:
    return _between(column, "negative", why, 0)


def _unique(column: str, why: str) -> Any:
    return _row(gxe.ExpectColumnValuesToBeUnique, f"{column}_repeated", why, column=column)


def _columns(schema: dict[str, Any]) -> list[Any]:
    return [gxe.ExpectColumnToExist(column=name) for name in schema]


def _event_rows() -> list[Any]:
    # A purchase without a price is a whole order, which some sources send without its lines.
    line = (Column("event_name") == "purchase") & Column("price").is_not_null()
    return [
        _not_null("event_id", "Without an ID, an event cannot be distinguished from its duplicates."),
        _unique("event_id", "An event ID identifies one event."),
        _not_null("event_time", "Every computation is as of a point in time."),
        _not_null("ingested_at", "A snapshot uses only events that had been ingested by then."),
        _row(
            gxe.ExpectColumnPairValuesAToBeGreaterThanB,
            "ingested_before_it_happened",
            "An event cannot be ingested before it happens: a clock or a time zone is wrong.",
            column_A="ingested_at",
            column_B="event_time",
            or_equal=True,
        ),
        _row(
            gxe.ExpectColumnValuesToBeInSet,
            "event_name_unknown",
            "Features are computed from the event names of the contract.",
            column="event_name",
            value_set=list(EVENT_NAMES),
        ),
        _not_null("event_name", "An event without a name has no meaning."),
        _not_null("item_id", "A line of a purchase must name the item.", row_condition=line),
        _at_least_zero("quantity", "A return is a refund event with a positive quantity."),
        _at_least_zero("price", "A price cannot be negative."),
        _at_least_zero("amount", "A return is a refund event with a positive amount."),
        _at_least_zero("dwell_seconds", "A dwell time cannot be negative."),
        _at_least_zero("position", "Positions in a list start at 0 or 1."),
        _between("rating", "out_of_range", "Ratings range from 0 to 5 stars.", 0, 5),
    ]


def _item_rows() -> list[Any]:
    return [
        _not_null("item_id", "An item without an ID cannot be bought or recommended."),
        _unique("item_id", "An item ID identifies one item."),
        _at_least_zero("price", "A list price cannot be negative."),
    ]


def _user_rows() -> list[Any]:
    return [
        _not_null("user_id", "A profile without an ID cannot be assigned to a user."),
        _unique("user_id", "A user ID identifies one user."),
        _between(
            "birth_year", "out_of_range", "A birth year has four digits and belongs to a living person.", 1900, 2100
        ),
    ]


def build_suites() -> dict[str, ExpectationSuite]:
    """Return table -> suite. Only events must have rows: not every source has items, users or campaigns."""
    tables = {
        "events": [gxe.ExpectTableRowCountToBeBetween(min_value=1), *_columns(EVENT_SCHEMA), *_event_rows()],
        "items": [*_columns(ITEM_SCHEMA), *_item_rows()],
        "users": [*_columns(USER_SCHEMA), *_user_rows()],
        "campaigns": _columns(CAMPAIGN_SCHEMA),
    }
    return {name: ExpectationSuite(name, expectations=expectations) for name, expectations in tables.items()}
