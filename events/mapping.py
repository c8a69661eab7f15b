"""A source mapping: the YAML that says how a source's tables and columns become the contract's.

name: my_shop
identity: user                  # or session: the source knows no user, the session stands in
time_zone: Europe/Berlin        # of times that carry none
ingest_delay_seconds: 0         # event_time + this = ingested_at, where the source has none
events:
  - table: clicks               # file name without its endings, or "*" for whatever is given
    columns: {event_time: ts, user_id: customer, event_name: action, item_id: sku}
    constants: {currency: EUR}
    event_names: {buy: purchase}
    reject: [{column: price, at_most: 0, reason: no_sale_price}]
    items: {category: category_path, brand: brand}      # content of items that rides on the events
    join: {table: orders, key: order}   # columns of a second table
    each: products              # one event an element of this list of the record
    optional: [products]        # columns that a file may lack
    missing: ["(not set)"]      # texts that stand for no value
    identified_by: [batch, nth] # what makes a derived event_id, in place of the whole row
    csv: {separator: ";", header: [ts, customer, action, sku]}      # where a CSV has no header of its own
items: {table: products, columns: {item_id: sku, title: name}}
users: {table: customers, columns: {user_id: customer}, own: [age]}

A column of an event may be an address inside a record (`properties.product_id`, `event_params[page_location]`, see
`events.records`), or a list of them: the first that holds anything.
"""

from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from events.contract import CAMPAIGN_SCHEMA, EVENT_NAMES, EVENT_SCHEMA, ITEM_SCHEMA, USER_SCHEMA
from events.rules import require_constant, require_pattern, require_zone
from shoplens.errors import MappingError
from shoplens.yaml_file import YamlFileError, line_of, read_yaml

SIDE_KEYS = {"items": "item_id", "users": "user_id", "campaigns": "campaign_id"}
_SIDE_SCHEMAS = {"items": ITEM_SCHEMA, "users": USER_SCHEMA, "campaigns": CAMPAIGN_SCHEMA}
_TEN_YEARS = 10 * 365.25 * 86_400  # no shop books later; more is a wrong unit


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _known(names: Any, schema: dict[str, Any]) -> None:
    unknown = sorted(set(names) - set(schema))
    if unknown:
        raise ValueError(f"no column of the contract: {', '.join(unknown)}; it has {', '.join(schema)}")


class Reject(_Strict):
    """Rows that are no behaviour: they go to quarantine with `reason`. Exactly one test is set."""

    column: str
    reason: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    equals: str | None = None
    matches: str | None = Field(default=None, description="A regular expression that the value must contain.")
    at_most: float | None = Field(default=None, allow_inf_nan=False)

    @field_validator("matches")
    @classmethod
    def _pattern(cls, value: str | None) -> str | None:
        if value is not None:
            require_pattern(value)
        return value

    @model_validator(mode="after")
    def _one_test(self) -> "Reject":
        if sum(test is not None for test in (self.equals, self.matches, self.at_most)) != 1:
            raise ValueError("set exactly one of equals, matches, at_most")
        return self


class Path_(_Strict):  # noqa: N801  (Path is pathlib's)
    """A category path out of one column of the source, split at a separator."""

    column: str
    split: str


Delay = Annotated[float, Field(ge=0, le=_TEN_YEARS, allow_inf_nan=False)]
Category = str | tuple[str, ...] | Path_
Source = str | tuple[str, ...]  # several: the first that holds anything


def name_of(source: Source) -> str:
    """Return what a source is called as one column, see `events.records`."""
    return source if isinstance(source, str) else " | ".join(source)


class Csv(_Strict):
    """How a CSV file is written, where it is not the usual way."""

    separator: Annotated[str, Field(min_length=1, max_length=1)] = ","
    header: tuple[str, ...] = Field(default=(), description="Names of the columns of a file that has no header.")


class Elapsed(_Strict):
    """Times that a source tells as days since a person's row before: they are summed from a start that we choose."""

    start: date
    by: str
    order: str = Field(description="Column that numbers a person's rows.")
    days: str = Field(description="Column with the days since the row before; empty for the first.")
    hour: str = Field(description="Column with the hour of the day.")
    into: str = Field(description="What the time is called as a column.")


class Join(_Strict):
    """Columns of a second table, found by a shared key."""

    table: str
    key: str
    elapsed: Elapsed | None = None
    csv: Csv = Csv()


class TimePlus(_Strict):
    """A column that says how long after event_time's own column something happened."""

    column: str
    unit: Literal["ms", "s", "h", "d"]


class EventTable(_Strict):
    """One table of events."""

    table: str
    columns: dict[str, Source]
    join: Join | None = None
    each: str | None = Field(default=None, description="Address of a list: every element is an event.")
    optional: tuple[str, ...] = Field(default=(), description="Columns that a file may lack.")
    missing: tuple[str, ...] = Field(default=(), description="Texts that stand for no value.")
    identified_by: tuple[str, ...] = Field(default=(), description="What a derived event_id is made of.")
    csv: Csv = Csv()
    constants: dict[str, str | int | float] = {}
    event_names: dict[str, str] = Field(
        default={}, validate_default=True, description="The source's event name -> the contract's."
    )
    ingest_delay_seconds: Delay | None = Field(default=None, description="In place of the mapping's.")
    time_plus: TimePlus | None = Field(default=None, description="What is added to event_time.")
    time_format: str | None = Field(default=None, description="strptime format, or epoch_s, epoch_ms, epoch_us.")
    negative_quantity: Literal["refund", "keep"] = "keep"
    price: Literal["given", "amount / quantity"] = "given"
    amount: Literal["given", "price * quantity"] = "given"
    ignore: tuple[str, ...] = Field(default=(), description="Columns of the source that mean nothing here.")
    reject: tuple[Reject, ...] = ()
    items: dict[Literal["category", "brand", "title", "description"], Category] = {}

    @field_validator("columns", "constants")
    @classmethod
    def _columns(cls, value: dict[str, Any]) -> dict[str, Any]:
        _known(value, EVENT_SCHEMA)
        if "attributes" in value:
            raise ValueError("attributes are the columns that are not mapped: leave the column out of the mapping")
        return value

    @field_validator("constants")
    @classmethod
    def _castable(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name, constant in value.items():
            require_constant(name, constant)
        return value

    @field_validator("event_names")
    @classmethod
    def _names(cls, value: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        if not value and "event_name" in info.data.get("columns", {}):
            raise ValueError("must name the source's events where event_name is a column, as in {buy: purchase}")
        unknown = sorted(set(value.values()) - set(EVENT_NAMES))
        if unknown:
            raise ValueError(f"no event of the contract: {', '.join(unknown)}; it has {', '.join(EVENT_NAMES)}")
        return value

    @model_validator(mode="after")
    def _needs(self) -> "EventTable":
        given = {*self.columns, *self.constants}
        for name in ("event_time", "event_name"):
            if name not in given:
                raise ValueError(f"{name} must be given, as a column or a constant")
        twice = sorted(set(self.columns) & set(self.constants))
        if twice:
            raise ValueError(f"given twice, as a column and as a constant: {', '.join(twice)}; keep one")
        if not given & {"user_id", "anonymous_id"}:
            raise ValueError("user_id or anonymous_id must be given: who did it")
        if self.identified_by and "event_id" in given:
            raise ValueError("identified_by and columns.event_id: one of them makes the id; leave the other out")
        return self

    @property
    def sources(self) -> dict[str, str]:
        """The contract's columns -> the columns of the rows they are read from, see `events.records`."""
        return {name: name_of(source) for name, source in self.columns.items()}


class SideTable(_Strict):
    """Items, users or campaigns."""

    table: str
    columns: dict[str, Category]
    own: tuple[str, ...] = Field(default=(), description="Columns kept as text under their own names.")
    time_format: str | None = Field(default=None, description="strptime format of its times.")
    csv: Csv = Csv()
    join: Join | None = None


class Mapping(_Strict):
    """A source."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    description: str = ""
    identity: Literal["user", "session"]
    time_zone: str
    ingest_delay_seconds: Delay = 0.0
    events: tuple[EventTable, ...] = Field(min_length=1)
    items: SideTable | None = None
    users: SideTable | None = None
    campaigns: SideTable | None = None

    @field_validator("time_zone")
    @classmethod
    def _zone(cls, value: str) -> str:
        require_zone(value)
        return value

    @field_validator("items", "users", "campaigns")
    @classmethod
    def _side(cls, value: SideTable | None, info: ValidationInfo) -> SideTable | None:
        if value is None or info.field_name is None:
            return value
        schema, key = _SIDE_SCHEMAS[info.field_name], SIDE_KEYS[info.field_name]
        _known(value.columns, schema)
        if key not in value.columns:
            raise ValueError(f"columns: {key} must be mapped: rows of {info.field_name} are known by it")
        repeated = sorted(set(value.own) & set(schema))
        if repeated:
            raise ValueError(f"own: a column of the contract: {', '.join(repeated)}; map it under columns instead")
        return value

    def tables(self) -> tuple[str, ...]:
        """Names of all tables that the mapping reads."""
        sides = [side for side in (self.items, self.users, self.campaigns) if side is not None]
        joins = [*(table.join for table in self.events), *(side.join for side in sides)]
        joined = [join.table for join in joins if join is not None]
        return tuple(dict.fromkeys([*(e.table for e in self.events), *(s.table for s in sides), *joined]))


def _own_problems(error: ValidationError) -> list[Any]:
    """Return the problems of a mapping without those that are only what others come to: a list that lost its entry."""
    found = error.errors()
    return [
        one
        for one in found
        if one["type"] != "too_short"
        or all(other is one or other["loc"][: len(one["loc"])] != one["loc"] for other in found)
    ]


def load_mapping(path: Path) -> Mapping:
    """Read and check a mapping file.

    Raises:
        MappingError: missing, no YAML, or a key that breaks its rule; the message gives file, line, key and value.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = read_yaml(text)
    except OSError as error:
        raise MappingError(f"{path}: {error.strerror}. Name a mapping file, as in events/mappings") from error
    except (UnicodeDecodeError, YamlFileError) as error:
        raise MappingError(f"{path}: must be YAML: {' '.join(str(error).split())}. Correct it") from error
    try:
        return Mapping.model_validate(content)
    except ValidationError as error:
        lines = []
        for problem in _own_problems(error):
            where = ".".join(str(part) for part in problem["loc"]) or "the file"
            shown = " ".join(repr(problem.get("input")).split())
            lines.append(f"line {line_of(text, problem['loc'])}: {where}: {problem['msg']}; received {shown[:120]}")
        raise MappingError(f"{path}: {'; '.join(lines)}. Correct the mapping") from error
