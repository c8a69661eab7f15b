"""Human-readable meanings of the features that describe a candidate of the next-item ranker."""

import re

from features.items import DESCRIPTIONS as ITEM_DESCRIPTIONS
from training.models.memory import DECAYS

_LEVELS = {
    "category_1_code": "items of its top category",
    "category_2_code": "items of its category",
    "category_3_code": "items of its product type",
    "brand_code": "items of its brand",
}
# {0} stands for "the item", or for the items of a level.
_RHYTHM = {
    **{f"count_{days:.0f}d": f"How often the user took {{0}}, decayed over {days:.0f} days" for days in DECAYS},
    **{
        f"share_{days:.0f}d": f"Share of the visits in which the user took {{0}}, decayed over {days:.0f} days"
        for days in DECAYS
    },
    "count": "How often the user took {0}",
    "recency": "Time since the user last took {0}",
    "first": "Time since the user first took {0}",
    "gap_mean": "Usual time between two times that the user took {0}",
    "gap_deviation": "How much that time varies",
    "gap_last": "Latest time between two times that the user took {0}",
    "recency_to_gap_mean": "Time since the user last took {0}, compared with the usual time between two",
    "recency_to_gap_recent": "Time since the user last took {0}, compared with the recent time between two",
    "recency_to_gap_last": "Time since the user last took {0}, compared with the latest time between two",
    "visits_since": "Visits since the user last took {0}",
    "visits_known": "Visits since the user first took {0}",
    "visit_rate": "Times per visit that the user took {0}",
    "events_since": "Events since the user last took {0}",
    "share": "Share of the item among what the user took of {0}",
}
_OTHER = {
    "rank": "Place of the item among all that the user took, by decayed count",
    "rank_30d": "Place of the item among all that the user took in the last weeks",
    "repeated": "Whether the user took the item more than once",
    "bought": "How often the user bought the item",
    "carted": "How often the user put the item into the cart",
    "known": "Whether the user ever took the item",
    "item_trend": "Events with the item in the last week, compared with the last four",
    "item_repeat_rate": "How often buyers of the item buy it again",
    "recency_to_item_gap": "Time since the user last took the item, compared with that of all buyers",
    "item_price": "Present price of the item",
    "price_to_mean": "Present price, compared with the mean price of the item",
    "price_to_paid": "Present price, compared with what the user paid on average",
    "price_to_latest": "Present price, compared with what the user paid last",
    "pieces": "Pieces per purchase of the item by the user",
    "visit_age": "Time since the user's last visit",
    "visit_gap": "Usual time between two visits of the user",
    "visits_30d": "Visits of the user, decayed over 30 days",
    "items_known": "Different items that the user took",
    "events": "Events of the user with an item",
    "rule_score": "How often the item follows what the user took last",
    "rule_rank": "Place of the item among those that follow what the user took last",
    "similar_score": "How often the item goes with what the user took last",
    "similar_rank": "Place of the item among those that go with what the user took last",
}


def candidate_meaning(name: str) -> str:
    """Return the meaning of a candidate feature, or its name if it has none."""
    if name.startswith("promoted_"):
        return f"Stores that announce the item for the coming week, by place ({name.removeprefix('promoted_')})"
    level = next((one for one in _LEVELS if name.startswith(f"{one}_")), None)
    measure = name.removeprefix(f"{level}_") if level else name
    if measure in _RHYTHM and (level or measure != "share"):
        return _RHYTHM[measure].format(_LEVELS[level] if level else "the item")
    found = _OTHER.get(name) or ITEM_DESCRIPTIONS.get(name, name)
    return re.sub(r" \([^()]*\)\.$", "", found)
