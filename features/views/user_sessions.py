"""Daily snapshots of a user's sessions: number, duration, platform and funnel.

A session is all events of one user with the same `session_id`; events before a login have no user and are excluded. It
counts in full on the UTC day of its first event known at the snapshot, even if it runs past midnight. A late event
changes the session from the next day on: its length, its funnel, and its day if the event comes first.
"""

import ibis
import ibis.expr.types as ir

from features.views.contract import ViewInput
from features.views.windows import Measure, whole, whole_days

KEY = "user_id"
WINDOWS = (7, 30, 90)
LONGEST = 90
_SESSION = [KEY, "session_id"]
_PLATFORMS = {"web": ("web",), "app": ("app", "ios", "android"), "store": ("store",)}
_MINUTE_US, _SECOND_MS = 60_000_000, 1_000

_WHAT = {
    "sessions": "Sessions begun in the last {w} days (count).",
    "session_minutes": "Time from first to last event of those of {w} days, mean (minutes; missing: no session).",
    "session_conversion": "Share of sessions of the last {w} days with a purchase (share, 0 to 1; missing: none).",
    "bounce_share": "Share of sessions of the last {w} days with one event (share, 0 to 1; missing: none).",
    "dwell_seconds": "Time on the items viewed in the last {w} days, where the source gives it (seconds).",
    "mean_dwell_seconds": "Time on a viewed item, mean over views of {w} days that have one (seconds; missing: none).",
}
_ON = "Share of sessions of the last 90 days {where}, of those whose platform is known (share, 0 to 1)."
DESCRIPTIONS: dict[str, str] = {
    **{f"{name}_{w}d": text.format(w=w) for name, text in _WHAT.items() for w in WINDOWS},
    "view_to_cart_90d": "Share of sessions of the last 90 days with a view that also fill the cart (share, 0 to 1).",
    "cart_to_purchase_90d": "Share of sessions of the last 90 days that fill the cart and also buy (share, 0 to 1).",
    "web_share_90d": _ON.format(where="with an event on the web"),
    "app_share_90d": _ON.format(where="with an event in an app"),
    "store_share_90d": _ON.format(where="with an event in a store"),
}
_COUNTED = dict.fromkeys(("sessions", "length_us", "bought", "bounced"), WINDOWS)
_FUNNEL = dict.fromkeys(("viewed", "view_cart", "carted", "cart_buy", "known", *_PLATFORMS), (LONGEST,))
_FLAGS = ("viewed", "carted", "bought", "known", *_PLATFORMS)
_STATE = (*_COUNTED, *_FUNNEL)


def _arrivals(log: ir.Table) -> ir.Table:
    """Return what became known about each session on each day: events, first and last time, and flags (0 or 1)."""
    t = log.filter(log.session_id.notnull())
    platform = t.platform.lower()
    flags = {
        "viewed": t.event_name == "view_item",
        "carted": t.event_name == "add_to_cart",
        "bought": t.event_name == "purchase",
        "known": t.platform.notnull(),
        **{name: platform.isin(values) for name, values in _PLATFORMS.items()},
    }
    return t.group_by(*_SESSION, "known_day").agg(
        events=t.count(),
        first_us=t.event_us.min(),
        last_us=t.event_us.max(),
        **{name: (t.count(where=flag) > 0).cast("int32") for name, flag in flags.items()},
    )


def _versions(arrived: ir.Table) -> ir.Table:
    """Return the state and day of every session after each day on which some of its events arrived."""
    so_far = ibis.window(group_by=_SESSION, order_by="known_day", preceding=None, following=0)
    t = arrived.select(
        *_SESSION,
        "known_day",
        events=arrived.events.sum().over(so_far),
        first_us=arrived.first_us.min().over(so_far),
        last_us=arrived.last_us.max().over(so_far),
        **{name: arrived[name].max().over(so_far) for name in _FLAGS},
    )
    state = {
        "sessions": whole(1),
        "length_us": t.last_us - t.first_us,
        "bounced": t.events == 1,
        "view_cart": t.viewed * t.carted,
        "cart_buy": t.carted * t.bought,
        **{name: t[name] for name in _FLAGS},
    }
    values = {name: state[name].cast("float64") for name in _STATE}
    return t.select(*_SESSION, "known_day", event_day=whole_days(t.first_us), **values)


def _sessions(log: ir.Table) -> ir.Table:
    """Return rows that add a session's state when it becomes known, and subtract the previous one on the same day."""
    t = _versions(_arrivals(log))
    order = ibis.window(group_by=_SESSION, order_by="known_day")
    taken_on = t.mutate(replaced=t.known_day.lead().over(order))
    gone = taken_on.filter(taken_on.replaced.notnull())
    added = t.select(KEY, "event_day", "known_day", *_STATE)
    removed = gone.select(
        KEY, "event_day", known_day=gone.replaced.cast("int32"), **{name: whole(0) - gone[name] for name in _STATE}
    )
    return added.union(removed)


def _dwells(log: ir.Table) -> ir.Table:
    """Return the dwell time on viewed items, by the day of the event."""
    t = log.filter((log.event_name == "view_item") & log.dwell.notnull())
    return t.group_by(KEY, "event_day", "known_day").agg(dwell=t.dwell.sum(), dwelt=t.count().cast("float64"))


def build(inputs: ViewInput) -> ir.Table:
    """Return a row (user_id, day, features) for every user and day of activity."""
    dwells = Measure(_dwells(inputs.within(LONGEST)), {"dwell": WINDOWS, "dwelt": WINDOWS})
    sessions = Measure(_sessions(inputs.log), {**_COUNTED, **_FUNNEL})
    t = inputs.while_active(dwells, sessions)
    values = {}
    for w in WINDOWS:
        begun, dwell = t[f"sessions_{w}d"].nullif(0.0), t[f"dwell_{w}d"] / _SECOND_MS
        values[f"session_minutes_{w}d"] = t[f"length_us_{w}d"] / _MINUTE_US / begun
        values[f"session_conversion_{w}d"] = t[f"bought_{w}d"] / begun
        values[f"bounce_share_{w}d"] = t[f"bounced_{w}d"] / begun
        values[f"dwell_seconds_{w}d"] = dwell
        values[f"mean_dwell_seconds_{w}d"] = dwell / t[f"dwelt_{w}d"].nullif(0.0)
    return t.mutate(
        **values,
        view_to_cart_90d=t.view_cart_90d / t.viewed_90d.nullif(0.0),
        cart_to_purchase_90d=t.cart_buy_90d / t.carted_90d.nullif(0.0),
        **{f"{name}_share_90d": t[f"{name}_90d"] / t.known_90d.nullif(0.0) for name in _PLATFORMS},
    )
