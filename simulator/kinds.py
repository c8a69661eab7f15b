"""The kinds of dirt: which rows they can befall, and what becomes of such a row on its way in."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Kind:
    """One kind of dirt.

    Attributes:
        befalls: Which rows of the log.
        at: Where it is found out: by ingest, by the stage validate, or nowhere, because such a row is good.
        becomes: The reason in quarantine, or what it counts as.
        why: What happens in a shop.
    """

    befalls: Literal["all", "priced", "review", "purchase"]
    at: Literal["ingest", "validate", "nowhere"]
    becomes: str
    why: str


KINDS: dict[str, Kind] = {
    "duplicate": Kind("all", "ingest", "exact_duplicates", "A tracker sends a row again; the row is there twice."),
    "id_with_other_content": Kind("all", "ingest", "event_id_with_other_content", "A second row with a used id."),
    "missing_id": Kind("all", "ingest", "event_id_missing", "A row without an id."),
    "missing_user": Kind("all", "ingest", "who_missing", "Neither customer nor visitor is known."),
    "missing_time": Kind("all", "ingest", "event_time_missing", "A row without a time."),
    "bad_time": Kind("all", "ingest", "event_time_not_a_time", "A day and month that no calendar has."),
    "missing_event": Kind("all", "ingest", "event_name_missing", "A row that does not say what happened."),
    "unknown_event": Kind("all", "ingest", "event_name_unknown", "A new tracker's event that nobody mapped."),
    "bad_number": Kind("priced", "ingest", "price_not_a_number", "A price with a comma and a currency sign."),
    "negative_price": Kind("priced", "validate", "price_negative", "A correction booked as a sale."),
    "missing_item": Kind("purchase", "validate", "item_id_missing", "An order line without its article."),
    "rating_out_of_range": Kind("review", "validate", "rating_out_of_range", "Ten stars of five."),
    "future_clock": Kind("all", "validate", "ingested_before_it_happened", "A phone whose clock is hours ahead."),
    "late": Kind("all", "nowhere", "accepted", "A phone without a network delivers days later."),
    "out_of_order": Kind("all", "nowhere", "accepted", "A row that lies after later ones in the file."),
}
