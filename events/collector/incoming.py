"""What a sender says, against the event contract: one event at a time, each good or with its reasons."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json
from typing_extensions import TypedDict

from events.contract import EVENT_NAMES, EVENT_SCHEMA
from events.transform.times import EARLIEST, LATEST

NOT_JSON = "not_json"
_NOT_AN_OBJECT = "not_an_object"
_LONGEST_TEXT = 65_536  # characters of one field; a page's URL or a review is far shorter


def _in_range(moment: datetime) -> datetime:
    if not EARLIEST <= moment <= LATEST:
        raise ValueError(f"must be from {EARLIEST.year} to {LATEST.year}")
    return moment


_Time = Annotated[AwareDatetime, AfterValidator(_in_range)]
_Text = Annotated[str, Field(max_length=_LONGEST_TEXT)]


class _Incoming(TypedDict, total=False):
    """The columns of the contract as JSON; what is beyond them goes into `attributes`."""

    __pydantic_config__ = ConfigDict(strict=True, extra="allow", str_strip_whitespace=True)  # type: ignore[misc]

    event_id: _Text | None
    event_time: _Time
    ingested_at: _Time | None
    event_name: Literal[EVENT_NAMES]  # type: ignore[valid-type]  # one list of names, in the contract
    user_id: _Text | None
    anonymous_id: _Text | None
    platform: _Text | None
    session_id: _Text | None
    item_id: _Text | None
    quantity: FiniteFloat | None
    price: FiniteFloat | None
    amount: FiniteFloat | None
    currency: _Text | None
    order_id: _Text | None
    query: _Text | None
    results: _Text | None
    list_id: _Text | None
    position: Annotated[int, Field(ge=-(2**31), lt=2**31)] | None
    url: _Text | None
    dwell_seconds: FiniteFloat | None
    rating: FiniteFloat | None
    text: _Text | None
    campaign_id: _Text | None
    experiment_id: _Text | None
    attributes: dict[str, Any] | None


_ONE: TypeAdapter[Any] = TypeAdapter(_Incoming)
_MANY: TypeAdapter[Any] = TypeAdapter(list[_Incoming])
_NUMBERS = frozenset(name for name, kind in EVENT_SCHEMA.items() if kind.is_numeric())
_REQUIRED = ("event_time", "event_name")


@dataclass(frozen=True)
class Incoming:
    """One event as sent.

    Attributes:
        event: Columns of the contract that were given, checked; empty where `reasons` say why not.
        reasons: Why it cannot be an event; empty for a good one.
        raw: What was sent, as text; kept only of bad ones.
        problem: The first error for a person: field, rule.
        has_id: Whether the id is the sender's, and not derived from the content.
    """

    event: dict[str, Any]
    reasons: tuple[str, ...] = ()
    raw: str = ""
    problem: str = field(default="", compare=False)
    has_id: bool = True


def _reason(error: Any) -> str:
    """Name an error of the check as `events.transform` names the same fault in a file."""
    name = str(error["loc"][0]) if error["loc"] else ""
    kind = error["type"]
    if not name:
        return NOT_JSON if kind == "json_invalid" else _NOT_AN_OBJECT
    if kind == "timezone_aware":
        return f"{name}_without_time_zone"
    if kind == "literal_error":
        return f"{name}_missing" if error["input"] in (None, "") else f"{name}_unknown"
    if name in ("event_time", "ingested_at"):
        return f"{name}_missing" if error["input"] in (None, "") else f"{name}_not_a_time"
    if name in _NUMBERS:
        return f"{name}_not_a_number"
    return f"{name}_too_long" if kind == "string_too_long" else f"{name}_not_text"


def _bad(raw: bytes, reasons: list[str], problem: str) -> Incoming:
    # Surrogates and broken UTF-8 are kept as they can be: quarantine holds text.
    return Incoming({}, tuple(dict.fromkeys(reasons)), raw.decode("utf-8", "backslashreplace"), problem)


def _missing(event: dict[str, Any]) -> list[str]:
    reasons = [f"{name}_missing" for name in _REQUIRED if event.get(name) is None]
    if not (event.get("user_id") or event.get("anonymous_id")):
        reasons.append("who_missing")
    return reasons


def content_digest(event: dict[str, Any]) -> str:
    """Return a digest of all that an event says of what happened: when it came, and its session, are not of it."""
    said = {name: event[name] for name in sorted(event) if name not in ("ingested_at", "session_id")}
    said["event_time"] = said["event_time"].astimezone(UTC)
    return blake2b(to_json(said), digest_size=12).hexdigest()


def _filled(event: dict[str, Any]) -> dict[str, Any]:
    """Return the columns that say something, attributes as pairs, and an id."""
    given = {name: value for name, value in event.items() if value is not None and value != ""}
    beyond = given.pop("attributes", {})
    beyond |= {name: given.pop(name) for name in [n for n in given if n not in EVENT_SCHEMA]}
    if beyond:
        given["attributes"] = [
            {"key": str(key), "value": value if isinstance(value, str) else to_json(value).decode()}
            for key, value in sorted(beyond.items())
            if value is not None
        ]
    if "event_id" not in given:
        given["event_id"] = content_digest(given)
    return given


def _accept(event: dict[str, Any], raw: bytes) -> Incoming:
    reasons = _missing(event)
    if reasons:
        return _bad(raw, reasons, f"{reasons[0].removesuffix('_missing')}: must be given")
    return Incoming(_filled(event), has_id=bool(event.get("event_id")))


def read_one(raw: bytes) -> Incoming:
    """Check one event, a JSON object."""
    try:
        return _accept(_ONE.validate_json(raw), raw)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        place = ".".join(str(part) for part in found[0]["loc"]) or "event"
        return _bad(raw, [_reason(one) for one in found], f"{place}: {found[0]['msg']}")


def read_lines(body: bytes) -> list[Incoming]:
    """Check NDJSON: one event a line; empty lines say nothing."""
    return [read_one(line) for line in body.split(b"\n") if line.strip()]


def read_json_body(body: bytes) -> list[Incoming]:
    """Check a JSON document: one event, or a list of events, or an object with a list `events`."""
    start = body.lstrip()[:1]
    if start == b"[":
        try:
            events = _MANY.validate_json(body)
        except ValidationError:
            pass  # some are bad: one by one
        else:
            return [_accept(event, b"") if not _missing(event) else _accept(event, to_json(event)) for event in events]
    try:
        content = from_json(body)
    except ValueError as error:
        return [_bad(body, [NOT_JSON], f"body: {error}")]
    if isinstance(content, dict) and isinstance(content.get("events"), list):
        content = content["events"]
    many = content if isinstance(content, list) else [content]
    return [read_one(to_json(one)) for one in many]
