"""What must hold of events, items and users, as Great Expectations suites.

Every row expectation carries, as meta, the reason under which a failing row goes to quarantine. Table expectations have
none: when one fails, the table is broken and the run stops.
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
    purchase = Column("event_name") == "purchase"
    return [
        _not_null("event_id", "An event without an id cannot be told from its duplicate."),
        _unique("event_id", "One id is one event."),
        _not_null("event_time", "Everything is as of a time."),
        _not_null("ingested_at", "A snapshot uses only what had reached us."),
        _row(
            gxe.ExpectColumnPairValuesAToBeGreaterThanB,
            "ingested_before_it_happened",
            "Nothing reaches us before it happens: a clock or a time zone is wrong.",
            column_A="ingested_at",
            column_B="event_time",
            or_equal=True,
        ),
        _row(
            gxe.ExpectColumnValuesToBeInSet,
            "event_name_unknown",
            "Features count events by the names of the contract.",
            column="event_name",
            value_set=list(EVENT_NAMES),
        ),
        _not_null("event_name", "An event is something that happened."),
        _not_null("item_id", "A purchase is of an item.", row_condition=purchase),
        _at_least_zero("quantity", "A return is a refund with a positive quantity."),
        _at_least_zero("price", "Nobody is paid for taking an item."),
        _at_least_zero("amount", "A return is a refund with a positive amount."),
        _at_least_zero("dwell_seconds", "Nobody leaves a page before opening it."),
        _at_least_zero("position", "Positions in a list count from 0 or 1."),
        _row(
            gxe.ExpectColumnValuesToBeBetween,
            "rating_out_of_range",
            "Ratings go from 0 to 5 stars.",
            column="rating",
            min_value=0,
            max_value=5,
        ),
    ]


def _item_rows() -> list[Any]:
    return [
        _not_null("item_id", "An item without an id can neither be bought nor recommended."),
        _unique("item_id", "One id is one item."),
        _at_least_zero("price", "A list price is at least zero."),
    ]


def _user_rows() -> list[Any]:
    return [
        _not_null("user_id", "A profile without an id belongs to nobody."),
        _unique("user_id", "One id is one user."),
        _row(
            gxe.ExpectColumnValuesToBeBetween,
            "birth_year_out_of_range",
            "A four-digit year of somebody alive.",
            column="birth_year",
            min_value=_EARLIEST_BIRTH,
            max_value=_LATEST_BIRTH,
        ),
    ]


def build_suites() -> dict[str, ExpectationSuite]:
    """Return the suites by table. Items and users may be empty: not every source has them."""
    return {
        "events": ExpectationSuite("events", expectations=[*_table(EVENT_SCHEMA, may_be_empty=False), *_event_rows()]),
        "items": ExpectationSuite("items", expectations=[*_table(ITEM_SCHEMA, may_be_empty=True), *_item_rows()]),
        "users": ExpectationSuite("users", expectations=[*_table(USER_SCHEMA, may_be_empty=True), *_user_rows()]),
        "campaigns": ExpectationSuite("campaigns", expectations=_table(CAMPAIGN_SCHEMA, may_be_empty=True)),
    }
