"""The event contract: one row per action of a person. Names follow Google Analytics 4's e-commerce events."""

from typing import Any

import polars as pl

EVENT_NAMES: tuple[str, ...] = (
    "view_item_list",
    "select_item",
    "view_item",
    "search",
    "add_to_cart",
    "remove_from_cart",
    "begin_checkout",
    "purchase",
    "refund",
    "review",
    "view_promotion",
    "select_promotion",
)

# Person IDs that the service accepts: a single line of text.
PERSON_ID_LENGTH = 256
PERSON_ID = r"[^\x00-\x1f\x7f]+"

UTC_TIME = pl.Datetime("us", "UTC")
ATTRIBUTES = pl.List(pl.Struct({"key": pl.String, "value": pl.String}))

EVENT_SCHEMA: dict[str, Any] = {
    "event_id": pl.String,
    "event_time": UTC_TIME,
    "ingested_at": UTC_TIME,
    "event_name": pl.String,
    "user_id": pl.String,
    "anonymous_id": pl.String,
    "platform": pl.String,
    "session_id": pl.String,
    "item_id": pl.String,
    "quantity": pl.Float64,
    "price": pl.Float64,
    "amount": pl.Float64,
    "currency": pl.String,
    "order_id": pl.String,
    "query": pl.String,
    "results": pl.String,
    "list_id": pl.String,
    "position": pl.Int32,
    "url": pl.String,
    "dwell_seconds": pl.Float64,
    "rating": pl.Float64,
    "text": pl.String,
    "campaign_id": pl.String,
    "experiment_id": pl.String,
    "attributes": ATTRIBUTES,
}

# Sources add string columns of their own after these.
ITEM_SCHEMA: dict[str, Any] = {
    "item_id": pl.String,
    "category": pl.String,
    "brand": pl.String,
    "price": pl.Float64,
    "title": pl.String,
    "description": pl.String,
}
USER_SCHEMA: dict[str, Any] = {
    "user_id": pl.String,
    "registered_at": UTC_TIME,
    "gender": pl.String,
    "birth_year": pl.Int32,
}
CAMPAIGN_SCHEMA: dict[str, Any] = {
    "campaign_id": pl.String,
    "user_id": pl.String,
    "name": pl.String,
    "start_time": UTC_TIME,
    "end_time": UTC_TIME,
}
PROMOTION_SCHEMA: dict[str, Any] = {
    "item_id": pl.String,
    "store_id": pl.String,
    "placement": pl.String,
    "valid_from": UTC_TIME,
    "valid_to": UTC_TIME,  # the first moment after the promotion
    "known_at": UTC_TIME,  # valid_from where the source has none
}
STOCK_SCHEMA: dict[str, Any] = {
    "item_id": pl.String,
    "as_of": UTC_TIME,
    "units": pl.Float64,
}
SIDE_SCHEMAS: dict[str, dict[str, Any]] = {
    "items": ITEM_SCHEMA,
    "users": USER_SCHEMA,
    "campaigns": CAMPAIGN_SCHEMA,
    "promotions": PROMOTION_SCHEMA,
    "stock": STOCK_SCHEMA,
}
QUARANTINE_SCHEMA: dict[str, Any] = {
    "table": pl.String,
    "row": pl.Int64,
    "reasons": pl.List(pl.String),
    "raw": pl.String,
}
CATEGORY_SEPARATOR = " > "
