"""The last N events of a user as rows, and how events that come one by one join them.

The result does not depend on the order in which events come, nor on how often: it is the last N by (event_time,
event_id) of all that came, which is what `features.stages` computes from frozen events.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class RecentRow(NamedTuple):
    """One event in a user's lists; rows sort as the lists are sorted."""

    time: int  # microseconds since 1970, UTC
    event_id: str
    item_id: str  # empty: none
    event_name: str
    quantity: float  # rounded to 32 bits, as features are stored; 0: none
    amount: float
    order_key: str  # order, else session; empty: neither


# The lists of the view `recent_events`, and the field of a row that each is made of.
LISTS: dict[str, str] = {
    "recent_event_ids": "event_id",
    "recent_item_ids": "item_id",
    "recent_event_names": "event_name",
    "recent_event_times": "time",
    "recent_quantities": "quantity",
    "recent_amounts": "amount",
    "recent_order_keys": "order_key",
}


def micros(moment: datetime) -> int:
    """Return microseconds since 1970 of a moment with a time zone."""
    return (moment - _EPOCH) // _MICROSECOND


def row_of(event: dict[str, Any]) -> RecentRow:
    """Return the row of an event to the contract, its times as `datetime`."""
    return RecentRow(
        micros(event["event_time"]),
        event["event_id"],
        event.get("item_id") or "",
        event["event_name"],
        float(np.float32(event.get("quantity") or 0.0)),
        float(np.float32(event.get("amount") or 0.0)),
        event.get("order_id") or event.get("session_id") or "",
    )


def rows_of(lists: dict[str, Sequence[Any] | None]) -> list[RecentRow]:
    """Return the rows of a user's stored lists; none where there are none."""
    columns = {field: lists[name] or () for name, field in LISTS.items()}
    return [RecentRow(*values) for values in zip(*(columns[name] for name in RecentRow._fields), strict=True)]


def lists_of(rows: Sequence[RecentRow]) -> dict[str, list[Any]]:
    """Return rows as the lists that are stored."""
    return {name: [getattr(row, field) for row in rows] for name, field in LISTS.items()}


def joined(held: Sequence[RecentRow], new: Iterable[RecentRow], n: int) -> list[RecentRow]:
    """Return the last `n` of held and new events; of several with one id the held one, else the first, stays."""
    known = {row.event_id for row in held}
    rows = list(held)
    for row in new:
        if row.event_id not in known:
            known.add(row.event_id)
            rows.append(row)
    return sorted(rows)[-n:]
