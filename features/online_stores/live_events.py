"""Live events: what a user did since the last load, one appended row per event, and their merge with the loaded lists.

The result does not depend on the order in which events arrive, nor on how often: it is the last N by (event_time,
event_id) of all that arrived, which is what the stage `features` computes from the same events.
"""

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

VIEW = "recent_events"  # the view of the last N events of a user, as lists of equal length


class LiveEvent(NamedTuple):
    """An event that arrived after the data that were loaded; the stores keep it as JSON, `LiveEvent(*json.loads(…))`.

    Attributes:
        user_id: Who did it.
        known_micros: When it was both over and received: microseconds since 1970, UTC.
        time: When it happened: microseconds since 1970, UTC.
        quantity: Rounded to 32 bits, as features are stored; 0: none.
        order_key: Order, else session.
    """

    user_id: str
    known_micros: int
    time: int
    event_id: str
    item_id: str  # empty: none, as for `order_key`
    event_name: str
    quantity: float
    amount: float
    order_key: str


# The lists of the view `recent_events`, and the field of an event that each is made of.
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
    names: Sequence[str], lists: Sequence[Sequence[Any] | None], live: Iterable[LiveEvent], last_n: int
) -> tuple[list[Any], ...]:
    """Return the lists of the last `last_n` of loaded and live events, oldest first.

    Of several events with one ID the loaded one is kept, else the earliest. `lists` are in the order of `names`, and
    None where nothing was loaded.
    """
    fields = [LISTS[name] for name in names]
    columns = [values or () for values in lists]
    events = [LiveEvent("", 0, **dict(zip(fields, row, strict=True))) for row in zip(*columns, strict=True)]
    in_order = attrgetter("time", "event_id")
    loaded = {event.event_id for event in events}
    first = {event.event_id: event for event in sorted(live, key=in_order, reverse=True)}
    events += [event for event in first.values() if event.event_id not in loaded]
    kept = sorted(events, key=in_order)[-last_n:]
    return tuple([getattr(event, field) for event in kept] for field in fields)
