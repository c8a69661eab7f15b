"""Prepare contract events for the views: integer times, days, money, and the order an event belongs to."""

from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from events.contract import EVENT_SCHEMA
from features.engine.engines import EngineName
from features.views.windows import DAY_US, MONEY_UNITS, QUANTITY_UNITS, whole_days


def _builtin(name: str, takes: Any, gives: Any) -> Any:
    """Return an engine's built-in function by name."""

    def function(value):  # type: ignore[no-untyped-def]
        ...

    return ibis.udf.scalar.builtin(function, name=name, signature=((takes,), gives))


_MOMENT = dt.Timestamp(timezone="UTC", scale=6)
# The engines' functions that convert times to microseconds since 1970 and back.
_MICROS = {"duckdb": _builtin("epoch_us", _MOMENT, dt.int64), "spark": _builtin("unix_micros", _MOMENT, dt.int64)}
_MOMENTS = {
    "duckdb": _builtin("make_timestamptz", dt.int64, _MOMENT),
    "spark": _builtin("timestamp_micros", dt.int64, _MOMENT),
}

# The contract's columns that the views use; engines read only these.
READ = tuple(name for name in EVENT_SCHEMA if name not in {"currency", "url", "text", "experiment_id", "attributes"})
_TEXT = ("anonymous_id", "platform", "query", "results", "list_id", "campaign_id")


def read_log(raw: ir.Table, engine: EngineName, sentiment: ir.Table | None = None) -> ir.Table:
    """Return the log for a file of events.

    Columns: user_id, item_id, event_id, event_name, event_time, event_us and known_us (microseconds since 1970),
    event_day, known_day, money and price (0.0001 of the currency; price null where unknown), quantity (thousandths),
    order_key (order, else session, else the event itself), session_id, anonymous_id, platform, query, results,
    list_id, position, dwell (whole milliseconds; null where unknown), rating, campaign_id, sentiment (null unless the
    review was scored). Columns that the file lacks are null, as in an older file or a source without them.

    Args:
        raw: Events in the contract's schema.
        engine: Name of the engine whose functions are used.
        sentiment: event_id and sentiment of the scored reviews; None if the view does not read them.
    """
    micros = _MICROS[engine]
    money = ibis.coalesce(raw.price, raw.amount / raw.quantity.nullif(0))
    log = raw.select(
        "user_id",
        "item_id",
        "event_id",
        "event_time",
        "session_id",
        event_name=raw.event_name.cast("string"),
        event_us=micros(raw.event_time),
        ingested_us=micros(raw.ingested_at),
        money=(raw.amount.fill_null(0.0) * MONEY_UNITS).round().cast("float64"),
        quantity=(raw.quantity.fill_null(0.0) * QUANTITY_UNITS).round().cast("float64"),
        price=(money * MONEY_UNITS).round().cast("float64"),
        order_key=ibis.coalesce(raw.order_id, raw.session_id, raw.event_id),
        dwell=(_known(raw, "dwell_seconds", "float64") * 1000).round().cast("float64"),
        rating=_known(raw, "rating", "float64"),
        position=_known(raw, "position", "int32"),
        **{name: _known(raw, name, "string") for name in _TEXT},
    )
    log = log.mutate(known_us=ibis.greatest(log.event_us, log.ingested_us)).drop("ingested_us")
    log = log.mutate(event_day=whole_days(log.event_us), known_day=whole_days(log.known_us))
    if sentiment is None:
        return log.mutate(sentiment=ibis.null("float64"))
    return log.left_join(sentiment.select("event_id", "sentiment"), "event_id").drop("event_id_right")


def midnight(day: ir.IntegerColumn, engine: EngineName) -> ir.Value:
    """Return the time at which a day begins; days are counted from 1970."""
    return _MOMENTS[engine](day.cast("int64") * DAY_US)


def _known(raw: ir.Table, name: str, kind: str) -> ir.Value:
    return raw[name].cast(kind) if name in raw.columns else ibis.null(kind)
