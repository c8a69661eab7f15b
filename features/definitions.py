"""All features: view, meaning, unit, owner, and the services that read them. This module does not import Feast."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from features.fast import FAST_DESCRIPTIONS, FAST_FEATURES
from features.views import (
    item_activity,
    item_pairs,
    user_behaviour,
    user_preference,
    user_profile,
    user_reviews,
    user_search,
    user_sessions,
)
from features.views.contract import View
from features.visits import VISIT_DESCRIPTIONS, VISIT_FEATURES
from shoplens.errors import FeatureError

DEFAULT_OWNER = "default"
USER_STATE = "user_state"  # the service that reads everything known about one user


def _view(module: Any, meaning: str, **more: Any) -> View:
    """Return the view that a module defines; it is named after the module."""
    name = module.__name__.rpartition(".")[2]
    return View(name, (module.KEY,), meaning, module.DESCRIPTIONS, module.build, **more)


def _daily(module: Any, what: str, **more: Any) -> View:
    return _view(module, f"{what}, each day at 00:00 UTC while the user is active.", **more)


# In the order in which they are computed; `features.json` and the catalogue page list them in this order.
VIEWS: tuple[View, ...] = (
    _daily(user_behaviour, "What a user did over trailing days"),
    _daily(user_preference, "What a user prefers"),
    _daily(user_sessions, "How a user's sessions go"),
    _daily(user_search, "What a user searches for and how well it is found"),
    _daily(user_reviews, "How a user rates what was bought", reviews=True),
    _view(
        item_activity,
        "How an item performs, every seventh day at 00:00 UTC while it had an event in the week before.",
        online=False,
        every=item_activity.EVERY,
    ),
    _view(
        item_pairs,
        "What is bought in the same orders as an item, at the start of the last day, best companion first.",
        online=False,
        every=None,
        whole=True,
    ),
)
SLOW_VIEWS: dict[str, dict[str, str]] = {view.name: dict(view.descriptions) for view in VIEWS}
VIEW_MEANING: dict[str, str] = {
    **{view.name: view.meaning for view in VIEWS},
    "user_profile": "What users stated about themselves; it has no history, so it dates from the start of the data.",
    "recent_events": "The last events of a user, oldest first, as lists of equal length.",
    "fast": "What a user has just done: from the user's last events and the moment of the request.",
    "visits": "When a user comes and buys: the rhythm of the user's own visits, seen from the moment of the request.",
}
# Views without a table: pure functions, called for every prediction and every training row.
COMPUTED: dict[str, dict[str, str]] = {"fast": FAST_DESCRIPTIONS, "visits": VISIT_DESCRIPTIONS}
RECENT_DESCRIPTIONS: dict[str, str] = {
    "recent_event_ids": "ID of each event: it identifies repeated events, and orders those of one moment (id).",
    "recent_item_ids": "Item of each event (id; empty: no item).",
    "recent_event_names": "Name of each event, as in the event contract (name).",
    "recent_event_times": "When each event happened (microseconds since 1970, UTC).",
    "recent_quantities": "Pieces of each event (pieces; 0: none).",
    "recent_amounts": "Money of each event's line (currency of the shop; 0: none).",
    "recent_order_keys": "Order of each event, else its session (id; empty: neither).",
}
# Names, and features added after the models in docs/comparison.md were chosen.
_NOT_READ = frozenset({"top_category_90d", "top_brand_90d", "top_price_band_90d", "top_price_band_share_90d"})
# They grow for everybody as the data does, so a model takes them for the date, and later weeks for one of training.
_CLOCKS = frozenset({"tenure_days", "orders_ever"})
_BEHAVIOUR = tuple(name for name in user_behaviour.DESCRIPTIONS if name not in _CLOCKS)
_PREFERENCE = tuple(name for name in user_preference.DESCRIPTIONS if name not in _NOT_READ)

# Slow features that the models of a task read, in the order of their input columns. Models of the next item read the
# history and the item tables only.
NUMERIC_FEATURES: dict[str, tuple[str, ...]] = {
    "purchase": (*_BEHAVIOUR, *_PREFERENCE),
}
# Features that they read besides, computed from the history.
COMPUTED_FEATURES: dict[str, tuple[str, ...]] = {"purchase": (*FAST_FEATURES, *VISIT_FEATURES)}
DESCRIPTIONS: dict[str, str] = {
    **{name: text for view in SLOW_VIEWS.values() for name, text in view.items()},
    **user_profile.DESCRIPTIONS,
    **RECENT_DESCRIPTIONS,
    **FAST_DESCRIPTIONS,
    **VISIT_DESCRIPTIONS,
}
# Windows of features whose names do not end in one; `test_definitions.py` compares them with the descriptions.
_WINDOWS: dict[str, str] = {
    "spend_trend": "90 days",
    "item_trend": "28 days",
    "item_sales_trend": "28 days",
    **dict.fromkeys(item_pairs.DESCRIPTIONS, f"{item_pairs.WINDOW} days"),
}


@dataclass(frozen=True)
class Service:
    """A feature service: a set of features that are read together.

    Attributes:
        name: Name of the service in Feast.
        meaning: One-sentence description.
        reads: The features to read from each view; None means all of them.
    """

    name: str
    meaning: str
    reads: Mapping[str, frozenset[str] | None]


_OF_A_USER = {view.name: view.descriptions for view in VIEWS if view.online and view.keys == ("user_id",)}


def _numeric(task: str, wanted: frozenset[str]) -> Service:
    """Return the service of a prediction task: its features, grouped by view."""
    reads = {view: wanted & set(descriptions) for view, descriptions in _OF_A_USER.items()}
    meaning = f"Slow features that the {task} models read."
    return Service(task, meaning, {view: names for view, names in reads.items() if names})


_PROFILE = dict.fromkeys((*_OF_A_USER, "user_profile"))
SERVICES: tuple[Service, ...] = (
    *(_numeric(task, frozenset(names)) for task, names in NUMERIC_FEATURES.items()),
    Service("profile", "What is known about a user, for people.", _PROFILE),
    Service(USER_STATE, "All that is known about a user, in one read.", {**_PROFILE, "recent_events": None}),
)


def readers(view: str, feature: str) -> tuple[str, ...]:
    """Return the names of the services that read a feature of a view."""
    found = [(one.name, one.reads[view]) for one in SERVICES if view in one.reads]
    return tuple(name for name, names in found if names is None or feature in names)


def meaning_of(view: str, feature: str) -> str:
    """Return a feature's description, which ends with the unit in brackets."""
    known = {**SLOW_VIEWS, **COMPUTED, "recent_events": RECENT_DESCRIPTIONS}.get(view, {})
    return known.get(feature) or user_profile.describe(feature)


_IN_BRACKETS = re.compile(r"\(([^()]*)\)\.$")
_SPANS = {"d": "day", "h": "hour"}


def unit(description: str) -> str:
    """Return the unit in a description's last brackets, without remarks on missing values."""
    found = _IN_BRACKETS.search(description)
    return found[1].split(";")[0] if found else ""


def sentence(description: str) -> str:
    """Return a description without its unit: "Time (days; missing: none)." becomes "Time. Missing: none."."""
    found = _IN_BRACKETS.search(description)
    if found is None:
        return description
    remarks = [one.strip() for one in found[1].split(";")[1:]]
    parts = [description[: found.start()].rstrip(), *(f"{one[0].upper()}{one[1:]}" for one in remarks)]
    return " ".join(f"{part}." for part in parts)


def window(name: str) -> str:
    """Return a feature's window, e.g. "90 days", "all time", "at the moment"."""
    if name in _WINDOWS:
        return _WINDOWS[name]
    if found := re.search(r"_(\d+)([dh])$", name):
        count, span = int(found[1]), _SPANS[found[2]]
        return f"{count} {span}" if count == 1 else f"{count} {span}s"
    if name in FAST_DESCRIPTIONS or name in RECENT_DESCRIPTIONS:
        return "last events"
    return "all time" if any(name in view for view in SLOW_VIEWS.values()) else "as declared"


def may_show_values(unit: str) -> bool:
    """Return whether the values of a unit may be shown on the catalogue page: only names, which come from the shop.

    Categories and brands are names. Texts that a person typed or stated, IDs, times, the source's own columns (whose
    content is unknown) and unknown units are not shown.
    """
    return unit == "name"


def check_owners(owners: Mapping[str, str]) -> None:
    """Check that every owner belongs to an existing view; the parameters themselves cannot check this.

    Raises:
        FeatureError: a name is neither a view nor `default`.
    """
    for name in owners:
        if name != DEFAULT_OWNER and name not in VIEW_MEANING:
            raise FeatureError(
                f"features.owners: must name views ({', '.join(VIEW_MEANING)}) or {DEFAULT_OWNER}; received {name!r}; "
                "correct the name in params.yaml"
            )


def owner_of(view: str, owners: Mapping[str, str]) -> str:
    """Return the owner of a view."""
    return owners.get(view, owners[DEFAULT_OWNER])
