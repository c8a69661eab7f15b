"""A mapping proposed for an unknown file, out of the names and the values of its columns: to be read and edited.

A column is taken for what its name says only where its values agree: a time must read as one, a number as one, event
names must be words for events. What was not recognised is said, and stays an attribute.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from events.contract import EVENT_NAMES, EVENT_SCHEMA, UTC_TIME
from events.readers import read_table, table_name
from events.transform.numbers import number, text
from events.transform.times import day_or_month_first, moment
from shoplens.errors import SourceError

_SAMPLE = 50_000
_MOST = 0.95  # of the values of a column must be what its name says
_MOSTLY = 0.5  # of the values of a category hold a dot: it is a path
_MOST_EVENTS = 40  # distinct values: more are no names of events

# Contract column -> what shops call it, the surest first; compared in lower case without separators.
_CALLED: dict[str, tuple[str, ...]] = {
    "event_id": ("eventid", "messageid", "eventuuid"),
    "event_time": (
        "eventtime", "eventtimestamp", "timestamp", "transactiontimestamp", "datetime", "time", "ts", "createdat",
        "invoicedate", "orderdate", "purchasedate", "date", "eventdate", "unixtime",
    ),
    "ingested_at": ("ingestedat", "receivedat", "loadedat"),
    "event_name": ("eventname", "eventtype", "event", "action", "behavior", "behaviour", "behaviortype", "activity"),
    "user_id": (
        "userid", "customerid", "visitorid", "householdid", "memberid", "clientid", "shopperid", "user", "customer",
        "uid",
    ),
    "anonymous_id": ("anonymousid", "userpseudoid", "deviceid", "cookieid", "fullvisitorid"),
    "session_id": ("sessionid", "usersession", "session", "sessionidx", "visitid"),
    "platform": ("platform", "device", "devicetype", "channel"),
    "item_id": ("itemid", "productid", "sku", "stockcode", "articleid", "asin", "item", "product"),
    "quantity": ("quantity", "qty", "units", "count"),
    "price": ("price", "unitprice", "itemprice"),
    "amount": ("amount", "salesvalue", "total", "linetotal", "revenue", "sales", "totalprice"),
    "currency": ("currency", "currencycode"),
    "order_id": ("orderid", "transactionid", "invoiceno", "invoice", "basketid", "ordernumber", "invoicenumber"),
    "query": ("query", "searchterm", "searchquery", "keyword", "searchstring"),
    "position": ("position", "rank"),
    "url": ("url", "pageurl", "uri", "pagelocation"),
    "dwell_seconds": ("dwellseconds", "dwelltime", "timeonpage"),
    "rating": ("rating", "stars", "score"),
    "text": ("reviewtext", "reviewbody", "comment"),
    "campaign_id": ("campaignid", "campaign", "utmcampaign"),
}  # fmt: skip
_CONTENT: dict[str, tuple[str, ...]] = {
    "category": ("categorycode", "category", "categoryname", "categoryid", "department"),
    "brand": ("brand", "manufacturer", "vendor"),
    "title": ("title", "productname", "itemname", "name", "description"),
}
_EVENT_WORDS: dict[str, tuple[str, ...]] = {
    "view_item": ("view", "viewitem", "pv", "pageview", "detail", "productview", "productviewed", "detailpageview"),
    "add_to_cart": ("cart", "addtocart", "basket", "productadded", "add"),
    "remove_from_cart": ("removefromcart", "productremoved", "remove"),
    "begin_checkout": ("checkout", "begincheckout", "checkoutstarted"),
    "purchase": ("purchase", "buy", "transaction", "order", "ordercompleted", "purchasecomplete", "sale"),
    "refund": ("refund", "return", "orderrefunded"),
    "search": ("search", "viewsearchresults", "productssearched"),
    "view_item_list": ("list", "viewitemlist", "productlistviewed", "categorypageview", "impression"),
    "select_item": ("click", "selectitem", "productclicked"),
    "review": ("review", "rate", "productreviewed"),
}
_YAML_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
_DAY_OR_MONTH = tuple(
    f"{date.replace('/', mark)}{time}"
    for mark in "/.-"
    for date in ("%d/%m/%Y", "%m/%d/%Y")
    for time in (" %H:%M", " %H:%M:%S", "")
)
_EPOCHS = {"epoch_s": 1e9, "epoch_ms": 1e12, "epoch_us": 1e15}  # -> the number of September 2001


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


@dataclass(frozen=True)
class Guess:
    """What was recognised in a table.

    Attributes:
        columns: Contract column -> column of the file.
        events: The file's event name -> the contract's.
        unknown_events: Event names that are no word we know.
        content: Item column -> column of the file.
        time_format: As in a mapping.
        rest: Columns that were not recognised.
    """

    columns: dict[str, str]
    events: dict[str, str]
    unknown_events: list[str]
    content: dict[str, str]
    time_format: str | None
    rest: list[str]


def _named(frame: pl.DataFrame, called: tuple[str, ...], taken: set[str]) -> list[str]:
    """Return the columns that are called so, the surest first."""
    bare = {name: _bare(name) for name in frame.columns if name not in taken}
    return [name for word in called for name, found in bare.items() if found == word]


def _share(frame: pl.DataFrame, good: pl.Expr, column: str) -> float:
    held = frame.filter(text(frame, column).is_not_null())
    return float(held.select(good.is_not_null().mean()).item() or 0.0) if held.height else 0.0


def _time_format(frame: pl.DataFrame, column: str) -> tuple[bool, str | None]:
    """Return whether a column holds times, and the unit if they are numbers."""
    kind = frame.schema[column]
    if isinstance(kind, pl.Datetime) or kind == pl.Date:
        return True, None
    middle = frame.select(number(frame, column, pl.Float64()).median()).item()
    if middle is not None:
        fits = [name for name, low in _EPOCHS.items() if low * 0.3 <= middle < low * 7]
        return bool(fits), fits[0] if fits else None
    if kind != pl.String:
        return False, None
    return _text_format(frame, column)


def _text_format(frame: pl.DataFrame, column: str) -> tuple[bool, str | None]:
    """Return whether a text column holds times, and their format if they begin with the day or the month."""
    if day_or_month_first(frame, column) is None:
        return _share(frame, moment(frame, column, "UTC", None), column) >= _MOST, None
    shares = {form: _share(frame, moment(frame, column, "UTC", form), column) for form in _DAY_OR_MONTH}
    best = max(shares, key=lambda form: shares[form])  # the first of equals: where no day is above 12, a person decides
    return (True, best) if shares[best] >= _MOST else (False, None)


def _event_names(frame: pl.DataFrame, column: str) -> tuple[dict[str, str], list[str]]:
    """Return the known event names of a column, and the others; two empty ones where it holds something else."""
    values = frame.select(text(frame, column).drop_nulls().unique()).to_series().sort().to_list()
    if len(values) > _MOST_EVENTS:
        return {}, []
    words = {word: name for name, known in _EVENT_WORDS.items() for word in known} | {_bare(n): n for n in EVENT_NAMES}
    found = {value: words[_bare(value)] for value in values if _bare(value) in words}
    return found, [value for value in values if value not in found] if found else []


def _agrees(frame: pl.DataFrame, name: str, column: str) -> bool:
    kind = EVENT_SCHEMA[name]
    if frame.schema[column].is_nested():
        return False
    if kind == UTC_TIME:
        return _time_format(frame, column)[0]
    if name == "event_name":
        return bool(_event_names(frame, column)[0])
    return kind == pl.String or _share(frame, number(frame, column, kind), column) >= _MOST


def guess_table(frame: pl.DataFrame) -> Guess:
    """Return what the columns of a table of events seem to be."""
    columns: dict[str, str] = {}
    for name, called in _CALLED.items():
        found = (c for c in _named(frame, called, set(columns.values())) if _agrees(frame, name, c))
        column = next(found, None)
        if column is not None:
            columns[name] = column
    content: dict[str, str] = {}
    for name, called in _CONTENT.items():
        left = _named(frame, called, {*columns.values(), *content.values()})
        if left:
            content[name] = left[0]
    events, unknown = _event_names(frame, columns["event_name"]) if "event_name" in columns else ({}, [])
    unit = _time_format(frame, columns["event_time"])[1] if "event_time" in columns else None
    used = {*columns.values(), *content.values()}
    return Guess(columns, events, unknown, content, unit, [name for name in frame.columns if name not in used])


def _quoted(value: str) -> str:
    plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value) and value.lower() not in _YAML_WORDS
    return value if plain else json.dumps(value, ensure_ascii=False)  # a JSON string is one of YAML's


def _about(frame: pl.DataFrame, column: str) -> str:
    shown = frame.select(text(frame, column).is_not_null().mean().alias("f"), text(frame, column).n_unique().alias("n"))
    filled, distinct = shown.row(0)
    return f"{filled:.0%} filled, {distinct:,} distinct"


def _derived(frame: pl.DataFrame, guess: Guess) -> list[str]:
    has, lines = set(guess.columns), []
    if {"amount", "quantity"} <= has and "price" not in has:
        lines.append("    price: amount / quantity")
    if {"price", "quantity"} <= has and "amount" not in has:
        lines.append("    amount: price * quantity")
    if "quantity" in has:
        least = frame.select(number(frame, guess.columns["quantity"], pl.Float64()).min()).item()
        if least is not None and least < 0:
            lines.append("    negative_quantity: refund")
    return lines


def _columns(frame: pl.DataFrame, guess: Guess) -> list[str]:
    columns = dict(guess.columns)
    if "user_id" not in columns and "anonymous_id" not in columns and "session_id" in columns:
        columns["user_id"] = columns["session_id"]
    return [f"      {name}: {_quoted(column)}  # {_about(frame, column)}" for name, column in columns.items()]


def _events(guess: Guess) -> list[str]:
    if "event_name" not in guess.columns:
        buys = {"order_id", "amount", "quantity"} & set(guess.columns)
        return [f"    constants: {{event_name: {'purchase' if buys else 'view_item'}}}  # no column says it: is it so?"]
    lines = ["    event_names:", *(f"      {_quoted(theirs)}: {ours}" for theirs, ours in guess.events.items())]
    if guess.unknown_events:
        shown = ", ".join(guess.unknown_events)
        lines.append(f"      # not recognised, these rows go to quarantine: {shown}")
    return lines


def _content(frame: pl.DataFrame, guess: Guess) -> list[str]:
    lines = ["    items:"] if guess.content else []
    for name, column in guess.content.items():
        dotted = frame.select(text(frame, column).str.contains(r"\w\.\w").mean()).item()  # null where it is empty
        is_path = name == "category" and (dotted or 0.0) > _MOSTLY
        source = f'{{column: {_quoted(column)}, split: "."}}' if is_path else _quoted(column)
        lines.append(f"      {name}: {source}")
    return lines


def _doubt(guess: Guess) -> str:
    return "  # the day first, or the month: is it so?" if str(guess.time_format).startswith(("%d", "%m")) else ""


def propose(path: Path) -> str:
    """Return a mapping, as commented YAML, for a file of events.

    Raises:
        SourceError: the file cannot be read, or no column of it reads as a time, or none says who.
    """
    frame = read_table(path).head(_SAMPLE)
    guess = guess_table(frame)
    has = set(guess.columns)
    if "event_time" not in has or not has & {"user_id", "anonymous_id", "session_id"}:
        what = "a time" if "event_time" not in has else "who did it"
        raise SourceError(
            f"{path}: guess: one column must say {what}, by its name and by its values; it has "
            f"{', '.join(frame.columns)}. Write the mapping by hand, from one in events/mappings"
        )
    name = re.sub(r"[^a-z0-9]+", "_", table_name(path).lower()).strip("_")
    name = name if re.match(r"[a-z]", name) else f"log_{name}"
    identity = "user" if has & {"user_id", "anonymous_id"} else "session"
    lines = [
        f"# Proposed from the first {frame.height:,} rows of {path.name}: read it, correct it.",
        f"name: {name}",
        f"identity: {identity}",
        "time_zone: UTC  # of times that carry no offset: is it so?",
        "ingest_delay_seconds: 0",
        "events:",
        '  - table: "*"',
        "    columns:",
        *_columns(frame, guess),
        *_events(guess),
        *([f"    time_format: {_quoted(guess.time_format)}{_doubt(guess)}"] if guess.time_format else []),
        *_derived(frame, guess),
        *_content(frame, guess),
        *([f"    # kept as attributes: {', '.join(guess.rest)}"] if guess.rest else []),
    ]
    return "\n".join(lines) + "\n"
