"""Live events: what a user did since the last load, one appended row per event, and their merge with the loaded lists.

The result does not depend on the order in which events arrive, nor on how often: it is the last N by (event_time,
event_id) of all that arrived, which is what the stage `features` computes from the same events.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

VIEW = "recent_events"  # the view of the last N events of a user, as lists of equal length


class RecentEvent(NamedTuple):
    """One event among the recent events of a user; events sort as the lists are sorted."""

    time: int  # microseconds since 1970, UTC
    event_id: str
    item_id: str  # empty: none
    event_name: str
    quantity: float  # rounded to 32 bits, as features are stored; 0: none
    amount: float
    order_key: str  # order, else session; empty: neither


class LiveEvent(NamedTuple):
    """An event that arrived after the data that were loaded.

    Attributes:
        user_id: Who did it.
        known_micros: When it was both over and received: microseconds since 1970, UTC.
        event: What happened.
    """

    user_id: str
    known_micros: int
    event: RecentEvent


# The lists of the view `recent_events`, and the field of `RecentEvent` that each is made of.
LISTS = {
    "recent_event_ids": "event_id",
    "recent_item_ids": "item_id",
    "recent_event_names": "event_name",
    "recent_event_times": "time",
    "recent_quantities": "quantity",
    "recent_amounts": "amount",
    "recent_order_keys": "order_key",
}


def merge(
    names: Sequence[str], lists: Sequence[Sequence[Any] | None], live: Iterable[RecentEvent], last_n: int
) -> tuple[list[Any], ...]:
    """Return the lists of the last `last_n` of loaded and live events, oldest first.

    Of several events with one ID the loaded one is kept, else the earliest.

    Args:
        names: Names of the lists, as in `LISTS`.
        lists: The loaded lists in the order of `names`; None where there are none.
        live: Events in any order.
        last_n: How many events to keep.
    """
    columns = {LISTS[name]: values or () for name, values in zip(names, lists, strict=True)}
    events = [RecentEvent(*row) for row in zip(*(columns[field] for field in RecentEvent._fields), strict=True)]
    known = {event.event_id for event in events}
    for event in sorted(live):
        if event.event_id not in known:
            known.add(event.event_id)
            events.append(event)
    kept = sorted(events)[-last_n:]
    return tuple([getattr(event, LISTS[name]) for event in kept] for name in names)
