"""The naive count of the views of sessions, search and reviews; see `tests.features.naive`."""

from collections import Counter
from collections.abc import Callable

from features.views.user_reviews import score
from tests.features.naive import DAY, Event, Features, Known, f32, micros, named, units

_SECOND = 1_000


def _begins(known: Known, session: list[Event], days: int) -> bool:
    """Whether a session begins in the last `days` days."""
    first = min(e["event_time"] for e in session)
    return bool(first >= known.moment - days * DAY)


def _ratio(top: float, bottom: float) -> float | None:
    return f32(top / bottom) if bottom else None


def user_sessions(known: Known, user_id: str) -> Features | None:
    mine = known.of(user_id=user_id)
    if not known.inside(mine, known.active_days):
        return None
    ids = {e["session_id"] for e in mine} - {None}
    sessions = [[e for e in mine if e["session_id"] == one] for one in ids]
    found: Features = {}
    for w in (7, 30, 90):
        begun = [one for one in sessions if _begins(known, one, w)]
        length = sum(micros(max(e["event_time"] for e in s) - min(e["event_time"] for e in s)) for s in begun)
        dwells = [units(e["dwell_seconds"], 1_000) for e in named(known.inside(mine, w), "view_item")
                  if e["dwell_seconds"] is not None]  # fmt: skip
        found[f"sessions_{w}d"] = len(begun)
        found[f"session_minutes_{w}d"] = _ratio(length / 60_000_000, len(begun))
        found[f"session_conversion_{w}d"] = _ratio(sum(bool(named(s, "purchase")) for s in begun), len(begun))
        found[f"bounce_share_{w}d"] = _ratio(sum(len(s) == 1 for s in begun), len(begun))
        found[f"dwell_seconds_{w}d"] = f32(sum(dwells) / _SECOND)
        found[f"mean_dwell_seconds_{w}d"] = _ratio(sum(dwells) / _SECOND, len(dwells))
    begun = [one for one in sessions if _begins(known, one, 90)]
    viewed, carted = ([s for s in begun if named(s, name)] for name in ("view_item", "add_to_cart"))
    found["view_to_cart_90d"] = _ratio(sum(bool(named(s, "add_to_cart")) for s in viewed), len(viewed))
    found["cart_to_purchase_90d"] = _ratio(sum(bool(named(s, "purchase")) for s in carted), len(carted))
    on = [{e["platform"].lower() for e in s if e["platform"]} for s in begun]
    for name, values in (("web", {"web"}), ("app", {"app", "ios", "android"}), ("store", {"store"})):
        found[f"{name}_share_90d"] = _ratio(sum(bool(one & values) for one in on), sum(bool(one) for one in on))
    return found


def _takes(search: Event, event: Event) -> bool:
    """Whether an event takes a result of a search."""
    if event["event_name"] not in ("select_item", "view_item") or event["event_time"] < search["event_time"]:
        return False
    if search["session_id"] is None or event["session_id"] != search["session_id"]:
        return False
    if search["results"] is not None:
        return event["item_id"] in [place.strip() for place in search["results"].split(",")]
    return search["list_id"] is not None and event["list_id"] == search["list_id"]


def user_search(known: Known, user_id: str) -> Features | None:
    mine = known.of(user_id=user_id)
    if not known.inside(mine, known.active_days):
        return None
    found: Features = {}
    for w in (30, 90):
        searches = named(known.inside(mine, w), "search")
        judged = [s for s in searches if s["session_id"] and (s["results"] is not None or s["list_id"] is not None)]
        found[f"searches_{w}d"] = len(searches)
        found[f"search_taken_share_{w}d"] = _ratio(sum(any(_takes(s, e) for e in mine) for s in judged), len(judged))
    searches = named(known.inside(mine, 90), "search")
    # A result of searches of two days counts on both.
    places = {(s["event_time"].date(), e["event_id"]): e["position"] for s in searches for e in mine if _takes(s, e)}
    told = [place for place in places.values() if place is not None]
    found["search_position_90d"] = _ratio(sum(told), len(told))
    terms = Counter(s["query"] for s in searches if s["query"] is not None)
    found["top_search_90d"] = min(terms, key=lambda term: (-terms[term], term.encode())) if terms else None
    return found


def user_reviews(known: Known, user_id: str) -> Features | None:
    mine = known.of(user_id=user_id)
    if not known.inside(mine, known.active_days):
        return None
    found: Features = {}
    for suffix, events in (("90d", known.inside(mine, 90)), ("ever", mine)):
        reviews = named(events, "review")
        stars = [units(e["rating"], 1_000) for e in reviews if e["rating"] is not None]
        tones = [score([e["text"]])[0] for e in reviews if e["text"]]
        found[f"ratings_{suffix}"] = len(stars)
        found[f"mean_rating_{suffix}"] = _ratio(sum(stars) / 1_000, len(stars))
        found[f"low_rating_share_{suffix}"] = _ratio(sum(one <= 2_000 for one in stars), len(stars))
        found[f"mean_sentiment_{suffix}"] = _ratio(sum(tones) / 1_000, len(tones))
    return found


VIEWS: dict[str, Callable[..., Features | None]] = {
    "user_sessions": user_sessions,
    "user_search": user_search,
    "user_reviews": user_reviews,
}
