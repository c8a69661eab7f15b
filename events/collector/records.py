"""Events as JSON: validation of posted events against the contract, and the log's record format.

A log record is one JSON object: an event with the contract's columns, or `{"quarantined": …, "reasons": […]}`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from math import isnan
from typing import Annotated, Any, Literal

import polars as pl
from pydantic import AfterValidator, Field, FiniteFloat, TypeAdapter, ValidationError, with_config
from pydantic_core import PydanticCustomError, from_json, to_json
from typing_extensions import TypedDict

from events.collector.log import Record
from events.contract import (
    ATTRIBUTES,
    EVENT_NAMES,
    EVENT_SCHEMA,
    PERSON_ID,
    PERSON_ID_LENGTH,
    QUARANTINE_SCHEMA,
    UTC_TIME,
)
from events.transform.columns import is_nobody, json_text
from events.transform.times import EARLIEST, LATEST

NOT_JSON = "not_json"
NOT_AN_OBJECT = "not_an_object"
_LONGEST_TEXT = 65_536  # characters of one field; a page's URL or a review is far shorter
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)?")
_TIMES = ("event_time", "ingested_at")
_PEOPLE = ("user_id", "anonymous_id")
QUARANTINED = b'{"quarantined":'  # how the record of a rejected event starts


def _moment(text: str) -> datetime | None:
    if not text:
        return None
    found = _RFC_3339.fullmatch(text)
    if found is not None and found[2] is None:
        raise PydanticCustomError("without_time_zone", "must end with Z or an offset such as +01:00")
    try:
        moment = datetime.fromisoformat(text.upper() if found else "")
    except ValueError:
        raise PydanticCustomError("not_a_time", "must be an RFC 3339 time such as 2026-11-27T09:30:00Z") from None
    if not EARLIEST <= moment <= LATEST:
        raise PydanticCustomError("implausible", f"must be from {EARLIEST.year} to {LATEST.year}")
    return moment


_TYPES: dict[Any, Any] = {
    pl.String: Annotated[str, Field(max_length=_LONGEST_TEXT)],
    pl.Float64: FiniteFloat,
    pl.Int32: Annotated[int, Field(ge=-(2**31), lt=2**31)],
    UTC_TIME: Annotated[str, AfterValidator(_moment)],
    ATTRIBUTES: dict[str, Any],
}
_COLUMNS = {name: _TYPES[kind] | None for name, kind in EVENT_SCHEMA.items()} | {"event_name": Literal[EVENT_NAMES]}
_POSTED: Any = TypedDict("_POSTED", _COLUMNS, total=False)  # type: ignore[misc]
_EVENT: TypeAdapter[Any] = TypeAdapter(with_config(strict=True, extra="allow", str_strip_whitespace=True)(_POSTED))
_NUMBERS = frozenset(name for name, kind in EVENT_SCHEMA.items() if kind.is_numeric())
_REQUIRED = ("event_time", "event_name")


@dataclass(frozen=True)
class Incoming:
    """One posted event.

    Attributes:
        event: The non-null columns of the contract; empty if the event was rejected.
        reasons: Why the event was rejected; empty for a valid one.
        raw: The posted text, kept for rejected events only.
        problem: Description of the first reason: field and rule.
    """

    event: dict[str, Any]
    reasons: tuple[str, ...] = ()
    raw: str = ""
    problem: str = field(default="", compare=False)


def _reason(error: Any) -> str:
    """Return the reason for a pydantic error; the same fault in a file has the same reason."""
    name, kind = str(error["loc"][0]) if error["loc"] else "", error["type"]
    if not name:
        return NOT_AN_OBJECT
    if kind == "literal_error":
        return f"{name}_missing" if error["input"] in (None, "") else f"{name}_unknown"
    if name in _TIMES:
        return f"{name}_{kind}" if kind in ("without_time_zone", "implausible") else f"{name}_not_a_time"
    if name in _NUMBERS:
        return f"{name}_not_a_number"
    return f"{name}_too_long" if kind == "string_too_long" else f"{name}_not_text"


def rejected(raw: bytes, reasons: Iterable[str], problem: str) -> Incoming:
    """Build a rejection; bytes that are not UTF-8 are kept as escapes."""
    return Incoming({}, tuple(dict.fromkeys(reasons)), raw.decode("utf-8", "backslashreplace"), problem)


def _problems(event: dict[str, Any]) -> dict[str, str]:
    """Return reason -> rule in words, for what is missing and for people whom the service could not be asked about."""
    found = {f"{name}_missing": f"{name}: must be given" for name in _REQUIRED if event.get(name) is None}
    if not any(event.get(name) for name in _PEOPLE):
        found["who_missing"] = "user_id or anonymous_id: must be given"
    for name in _PEOPLE:
        person = event.get(name) or ""
        if len(person) > PERSON_ID_LENGTH:
            found[f"{name}_too_long"] = f"{name}: must have at most {PERSON_ID_LENGTH} characters, not {len(person)}"
        elif person and not re.fullmatch(PERSON_ID, person):
            found[f"{name}_with_control_character"] = f"{name}: must have no control characters"
    return found


def attribute_text(value: Any) -> str | None:
    """Return a JSON value as attribute text, the same as from a file: 2.0 becomes "2", and no value becomes None."""
    if isinstance(value, str):
        return value.strip() or None
    return None if value is None or (isinstance(value, float) and isnan(value)) else json_text(value)


def accept(event: dict[str, Any], raw: bytes | None = None, default_id: str = "") -> Incoming:
    """Convert an event to the contract's types, or reject it.

    Args:
        event: The columns of the contract; other fields become attributes.
        raw: The posted text, kept for a rejected event; by default the event as JSON.
        default_id: The ID of an event without one; by default one derived from its content.
    """
    for name in _PEOPLE:  # words such as "undefined"; but 0 may be a person here: only a mapping could know
        if (person := event.get(name)) and is_nobody(person) and not person.lstrip("-").isdigit():
            event[name] = None
    if problems := _problems(event):
        return rejected(to_json(event) if raw is None else raw, problems, next(iter(problems.values())))
    given = {name: value for name, value in event.items() if value is not None and value != ""}
    beyond = given.pop("attributes", {}) | {name: given.pop(name) for name in given.keys() - EVENT_SCHEMA.keys()}
    pairs = [(str(key), attribute_text(value)) for key, value in sorted(beyond.items())]
    if spelled := [{"key": key, "value": value} for key, value in pairs if value is not None]:
        given["attributes"] = spelled
    given["event_time"] = given["event_time"].astimezone(UTC)
    if "event_id" not in given:  # derived from the content, without the time of receipt and the session
        content = {name: given[name] for name in sorted(given) if name not in ("ingested_at", "session_id")}
        given["event_id"] = default_id or blake2b(to_json(content), digest_size=12).hexdigest()
    return Incoming(given)


def _checked(content: Any, raw: bytes | None = None, default_id: str = "") -> Incoming:
    """Validate a posted event, or reject it; see `accept` for the arguments."""
    try:
        return accept(_EVENT.validate_python(content), raw, default_id)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        place = ".".join(str(part) for part in found[0]["loc"]) or "event"
        sent = to_json(content, inf_nan_mode="constants") if raw is None else raw
        return rejected(sent, map(_reason, found), f"{place}: {found[0]['msg']}")


def parse_event(raw: bytes, default_id: str = "") -> Incoming:
    """Parse and check one event, a JSON object; for `default_id` see `accept`."""
    try:
        content = from_json(raw)
    except ValueError as error:
        return rejected(raw, [NOT_JSON], f"event: {error}")
    return _checked(content, raw, default_id)


def parse_body(body: bytes) -> list[Incoming]:
    """Parse and check a body: an event, a list, an object with a list `events`, or NDJSON, of any content type."""
    try:
        content = from_json(body)
    except ValueError as error:
        found = [parse_event(line) for line in body.split(b"\n") if line.strip()]
        is_ndjson = any(one.reasons[:1] not in ((NOT_JSON,), (NOT_AN_OBJECT,)) for one in found)
        return found if is_ndjson and body.lstrip()[:1] != b"[" else [rejected(body, [NOT_JSON], f"body: {error}")]
    if isinstance(content, dict) and isinstance(content.get("events"), list):
        content = content["events"]
    return [_checked(one) for one in content] if isinstance(content, list) else [_checked(content, body)]


def events_of(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Return the events among records, with times as `datetime`; faster than `record_frames` for a few records."""
    events = [from_json(one.content) for one in records if not one.content.startswith(QUARANTINED)]
    return [{**event, **{name: datetime.fromisoformat(event[name]) for name in _TIMES}} for event in events]


def record_frames(records: Sequence[Record]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split records into events (EVENT_SCHEMA) and the others (QUARANTINE_SCHEMA), numbered by position."""
    good = [one.content for one in records if not one.content.startswith(QUARANTINED)]
    bad = [(one.position, from_json(one.content)) for one in records if one.content.startswith(QUARANTINED)]
    rows = [("collector", position, one["reasons"], one["quarantined"]) for position, one in bad]
    quarantine = pl.DataFrame(rows, QUARANTINE_SCHEMA, orient="row")
    if not good:
        return pl.DataFrame(schema=EVENT_SCHEMA), quarantine
    as_text = {name: pl.String() if kind == UTC_TIME else kind for name, kind in EVENT_SCHEMA.items()}
    events = pl.read_ndjson(b"\n".join(good), schema=as_text).with_columns(
        pl.col(_TIMES).str.to_datetime("%+", time_unit="us", time_zone="UTC"),
        # events without attributes have an empty list, as from a file
        pl.col("attributes").fill_null(pl.lit([], dtype=ATTRIBUTES)),
    )
    return events.select(list(EVENT_SCHEMA)), quarantine
