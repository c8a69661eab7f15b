"""The Great Expectations suites for events, items, users and campaigns.

The meta of a row expectation holds the reason under which failing rows are quarantined. A table expectation has no
reason: if it fails, the table is broken and the run fails.
"""

from typing import Any

import great_expectations.expectations as gxe
from great_expectations import ExpectationSuite
from great_expectations.expectations.row_conditions import Column

from events.contract import CAMPAIGN_SCHEMA, EVENT_NAMES, EVENT_SCHEMA, ITEM_SCHEMA, USER_SCHEMA

_EARLIEST_BIRTH = 1900
_LATEST_BIRTH = 2100


def _row(kind: type, reason: str, why: str, **arguments: Any) -> Any:
    return kind(**arguments, meta={"reason": reason, "notes": {"format": "string", "content": [why]}})


def _not_null(column: str, why: str, **more: Any) -> Any:
    return _row(gxe.ExpectColumnValuesToNotBeNull, f"{column}_missing", why, column=column, **more)


def _at_least_zero(column: str, why: str) -> Any:
    return _row(gxe.ExpectColumnValuesToBeBetween, f"{column}_negative", why, column=column, min_value=0)


def _unique(column: str, why: str) -> Any:
    return _row(gxe.ExpectColumnValuesToBeUnique, f"{column}_repeated", why, column=column)


def _table(schema: dict[str, Any], *, may_be_empty: bool) -> list[Any]:
    columns = [gxe.ExpectColumnToExist(column=name) for name in schema]
    return columns if may_be_empty else [gxe.ExpectTableRowCountToBeBetween(min_value=1), *columns]


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
        _row(
            gxe.ExpectColumnValuesToBeBetween,
            "rating_out_of_range",
            "Ratings range from 0 to 5 stars.",
            column="rating",
            min_value=0,
            max_value=5,
        ),
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
        _row(
            gxe.ExpectColumnValuesToBeBetween,
            "birth_year_out_of_range",
            "A birth year has four digits and belongs to a living person.",
            column="birth_year",
            min_value=_EARLIEST_BIRTH,
            max_value=_LATEST_BIRTH,
        ),
    ]


def build_suites() -> dict[str, ExpectationSuite]:
    """Return table -> suite. Only events must have rows: not every source has items, users or campaigns."""
    return {
        "events": ExpectationSuite("events", expectations=[*_table(EVENT_SCHEMA, may_be_empty=False), *_event_rows()]),
        "items": ExpectationSuite("items", expectations=[*_table(ITEM_SCHEMA, may_be_empty=True), *_item_rows()]),
        "users": ExpectationSuite("users", expectations=[*_table(USER_SCHEMA, may_be_empty=True), *_user_rows()]),
        "campaigns": ExpectationSuite("campaigns", expectations=_table(CAMPAIGN_SCHEMA, may_be_empty=True)),
    }
