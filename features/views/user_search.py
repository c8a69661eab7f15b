"""Daily snapshots of a user's searches: how many, how many succeed, at which position, and the most frequent term.

A search succeeds ("is taken") when the same user selects or views one of its results in the same session, at or after
the time of the search. If a search records a list instead of results, an event with the same list counts. Shares
exclude searches without a session and searches with neither results nor a list. A search counts as taken once both
events are known, however late either arrives.
"""

import ibis
import ibis.expr.types as ir

from features.views.contract import ViewInput
from features.views.windows import Measure, whole

KEY = "user_id"
WINDOW = 90
WINDOWS = (30, WINDOW)
_TAKES = ("select_item", "view_item")
_WHERE = [KEY, "session_id", "kind", "place"]
_ITEM, _LIST = 0, 1

DESCRIPTIONS: dict[str, str] = {
    **{f"searches_{w}d": f"Searches in the last {w} days (count)." for w in WINDOWS},
    **{
        f"search_taken_share_{w}d": f"Share of searches of {w} days, of those whose results are known, with a result "
        "taken in the session (share, 0 to 1; missing: none known)."
        for w in WINDOWS
    },
    "search_position_90d": "Place in the list of the results taken of searches of 90 days, mean (place, from 1; "
    "missing: no place is known).",
    "top_search_90d": "Term searched for most in the last 90 days, as typed; among equals the first by the alphabet "
    "(text).",
}


def _judged(log: ir.Table) -> ir.Value:
    """Return whether the results of a search are known."""
    return log.session_id.notnull() & (log.results.notnull() | log.list_id.notnull())


def _shown(searches: ir.Table) -> ir.Table:
    """Return (event_id, _WHERE, event_day, event_us, known_day) for every item or list that a search shows."""
    what = ["event_id", KEY, "session_id", "event_day", "event_us", "known_day"]
    with_results = searches.filter(searches.results.notnull())
    # A separate step, because Spark does not allow `explode` inside an expression.
    items = with_results.select(*what, each=with_results.results.split(",").unnest())
    without = searches.filter(searches.results.isnull())
    return items.select(*what, kind=ibis.literal(_ITEM, "int32"), place=items.each.strip()).union(
        without.select(*what, kind=ibis.literal(_LIST, "int32"), place=without.list_id), distinct=False
    )


def _takers(takes: ir.Table) -> ir.Table:
    """Return (_WHERE, taker, take_us, take_known, position) for every item and list in an event."""
    named = takes.rename(taker="event_id", take_us="event_us", take_known="known_day")
    what = [KEY, "session_id", "taker", "take_us", "take_known", "position"]
    items, lists = (
        named.filter(named[column].notnull()).select(*what, kind=ibis.literal(kind, "int32"), place=named[column])
        for kind, column in ((_ITEM, "item_id"), (_LIST, "list_id"))
    )
    return items.union(lists, distinct=False)


def _pairs(log: ir.Table) -> ir.Table:
    """Join each search with the events that take one of its results, and the day on which both are known."""
    searches = log.filter((log.event_name == "search") & _judged(log))
    takes = log.filter(log.event_name.isin(_TAKES) & log.session_id.notnull())
    t = _shown(searches).join(_takers(takes), _WHERE)
    t = t.filter(t.take_us >= t.event_us)
    return t.select(KEY, "event_id", "event_day", "taker", "position", both=ibis.greatest(t.known_day, t.take_known))


def _luck(log: ir.Table) -> list[Measure]:
    """Return the measures: searches, taken searches and taken positions, by the day of the search."""
    searches = log.filter(log.event_name == "search")
    known = _judged(searches).cast("int32").cast("float64")
    judged = searches.select(KEY, "event_day", "known_day", searches=whole(1), judged=known)
    pairs = _pairs(log)
    taken = pairs.group_by(KEY, "event_id", "event_day").agg(known_day=pairs.both.min())
    placed = pairs.filter(pairs.position.notnull())
    place = placed.position.max().cast("float64")
    places = placed.group_by(KEY, "taker", "event_day").agg(known_day=placed.both.min(), places=place)
    return [
        Measure(judged, {"searches": WINDOWS, "judged": WINDOWS}),
        Measure(taken.mutate(taken=whole(1)), {"taken": WINDOWS}),
        Measure(places.mutate(placed=whole(1)), {"places": (WINDOW,), "placed": (WINDOW,)}),
    ]


def _top(log: ir.Table, inputs: ViewInput) -> ir.Table:
    """Return the most frequent search term per user and day; the alphabetically first wins a tie."""
    asked = log.filter((log.event_name == "search") & log.query.notnull())
    terms = asked.select("query").distinct()
    numbered = terms.select(term=terms.query, code=ibis.row_number().over(ibis.window(order_by=terms.query)))
    top = inputs.most_met(asked.join(numbered, asked.query == numbered.term), WINDOW)
    return top.join(numbered, "code").select(KEY, "day", top_search="term")


def build(inputs: ViewInput) -> ir.Table:
    """Return a row (user_id, day, features) for every user and day of activity."""
    log = inputs.within(WINDOW)
    t = inputs.while_active(*_luck(log))
    t = t.left_join(_top(log, inputs), [KEY, "day"])
    return t.mutate(
        **{f"search_taken_share_{w}d": t[f"taken_{w}d"] / t[f"judged_{w}d"].nullif(0.0) for w in WINDOWS},
        search_position_90d=t.places_90d / t.placed_90d.nullif(0.0),
        top_search_90d=t.top_search,
    )
