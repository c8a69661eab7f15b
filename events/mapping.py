"""A source mapping: the YAML that describes how a source's tables and columns become the contract's.

`docs/mapping.md` describes every key, with examples. A column of an event may be an address inside a record
(`properties.product_id`, `event_params[page_location]`, see `events.transform.records`), or a list of alternatives.
"""

import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from events.contract import EVENT_NAMES, EVENT_SCHEMA, SIDE_SCHEMAS, UTC_TIME
from shoplens.errors import MappingError
from shoplens.yaml_file import YamlFileError, line_of, read_yaml

# Columns without which a row of a side table is quarantined; the first is its key.
SIDE_KEYS: dict[str, tuple[str, ...]] = {
    "items": ("item_id",),
    "users": ("user_id",),
    "campaigns": ("campaign_id",),
    "promotions": ("item_id", "valid_from", "valid_to"),
    "stock": ("item_id", "as_of", "units"),
}
NTH = "nth"  # in identified_by: the number of a row among the equal rows of its file
_TEN_YEARS = 10 * 365.25 * 86_400  # no shop records events later than this; a larger value has the wrong unit
# Times of single rows, values derived from single rows, and values filled from other columns.
_NEVER_CONSTANT = ("event_time", "ingested_at", "event_id", "attributes")

Source = str | tuple[str, ...]  # alternatives: the first one with a value wins


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _require_known(names: Any, known: Any, what: str) -> None:
    if unknown := sorted(set(names) - set(known)):
        raise ValueError(f"unknown {what}: {', '.join(unknown)}; the contract has {', '.join(known)}")


def _require_times(columns: dict[str, Any], schema: dict[str, Any]) -> None:
    for name, source in columns.items():
        if isinstance(source, DateAndTime) and schema[name] != UTC_TIME:
            raise ValueError(f"{name} is not a time: date, time and start are for times; name one column, or several")


def _checked_pattern(pattern: str) -> str:
    """Return `pattern` if the engine that runs it accepts it."""
    try:
        pl.Series([""]).str.contains(pattern)
    except pl.exceptions.PolarsError as error:
        raise ValueError("must be a regular expression (Rust's syntax: no look-around, no back-references)") from error
    return pattern


def _checked_zone(zone: str) -> str:
    """Return `zone` if both Python and Polars, which has its own list, know the time zone."""
    try:
        ZoneInfo(zone)
        pl.Series([datetime.datetime(2024, 1, 1)]).dt.replace_time_zone(zone)  # noqa: DTZ001  (it gets its zone here)
    except (ZoneInfoNotFoundError, ValueError, OSError, pl.exceptions.PolarsError) as error:
        raise ValueError("must be a time zone of the IANA database, such as UTC or Europe/Berlin") from error
    return zone


class Test(_Strict):
    """A test of one column, with exactly one condition."""

    __test__ = False  # not a test class of pytest

    column: Source
    equals: str | None = None
    matches: Annotated[str, AfterValidator(_checked_pattern)] | None = None  # a regular expression it must contain
    at_most: float | None = Field(default=None, allow_inf_nan=False)
    above: float | None = Field(default=None, allow_inf_nan=False)
    empty: bool | None = None

    @model_validator(mode="after")
    def _one_condition(self) -> Self:
        if sum(one is not None for one in (self.equals, self.matches, self.at_most, self.above, self.empty)) != 1:
            raise ValueError("set exactly one of equals, matches, at_most, above, empty")
        return self


class Reject(Test):
    """Rows that are not user behaviour and are quarantined with `reason`."""

    reason: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class SplitPath(_Strict):
    """A category path in one column of the source, split at a separator."""

    column: str
    split: str


Delay = Annotated[float, Field(ge=0, le=_TEN_YEARS, allow_inf_nan=False)]
Category = str | tuple[str, ...] | SplitPath
Missing = tuple[str, ...] | dict[str, tuple[str, ...]]


class Csv(_Strict):
    """The dialect of a CSV file."""

    separator: Annotated[str, Field(min_length=1, max_length=1)] = ","
    header: tuple[str, ...] = Field(default=(), description="Names of the columns of a file that has no header.")
    encoding: str = "utf-8"
    quote: Literal['"', "'", "none"] = '"'
    escape: Literal['"', "\\", "none"] = '"'
    decimal: Literal[".", ","] = "."
    thousands: Literal["", ",", ".", "'", " "] = ""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if self.decimal == self.thousands:
            raise ValueError(f"decimal and thousands must differ; both are {self.decimal!r}")
        return self


class DateAndTime(_Strict):
    """A time in a date column and a time column, or in numbers that count from a start date.

    The time column holds HH:MM, HH:MM:SS, or a number such as 1631 (16:31) or 9 (00:09).
    """

    date: Source
    time: Source | None = None
    start: datetime.date | None = Field(default=None, description="Date of the number `first`.")
    unit: Literal["h", "d", "w"] = Field(default="d", description="Unit of the numbers: hours, days or weeks.")
    first: int = 1

    @model_validator(mode="after")
    def _start(self) -> Self:
        if self.start is None and self.model_fields_set & {"unit", "first"}:
            raise ValueError("unit and first count from a start date: set start")
        return self


def columns_of(source: Category | DateAndTime) -> tuple[str, ...]:
    """Return all source columns, or addresses, that a contract column is derived from."""
    if isinstance(source, DateAndTime):
        return columns_of(source.date) + (() if source.time is None else columns_of(source.time))
    if isinstance(source, SplitPath):
        return (source.column,)
    return (source,) if isinstance(source, str) else source


class FillDown(_Strict):
    """Columns whose blanks are filled from the previous row with the same key."""

    by: str
    columns: tuple[str, ...] = Field(min_length=1)


class Elapsed(_Strict):
    """Times given as days since a person's previous row, which are summed from a chosen start."""

    start: datetime.date
    by: str
    order: str = Field(description="Column that numbers a person's rows.")
    days: str = Field(description="Column with the days since the row before; empty for the first.")
    hour: str = Field(description="Column with the hour of the day.")
    into: str = Field(description="Name of the resulting time column.")


class Join(_Strict):
    """Columns of a second table, joined by a shared key."""

    table: str
    key: str
    elapsed: Elapsed | None = None
    csv: Csv = Csv()


class TimePlus(_Strict):
    """A column with the delay between event_time's column and the actual time."""

    column: str
    unit: Literal["ms", "s", "h", "d"]


class _File(_Strict):
    """A table to read, and its format."""

    table: str
    csv: Csv = Csv()
    time_format: str | tuple[str, ...] | None = Field(
        default=None, description="strptime formats, or iso, excel, epoch, epoch_s, epoch_ms, epoch_us."
    )

    @property
    def time_formats(self) -> tuple[str, ...]:
        """The formats of the table's times, in the order in which they are tried; may be empty."""
        return (self.time_format,) if isinstance(self.time_format, str) else self.time_format or ()


class _Table(_File):
    join: Join | tuple[Join, ...] = ()

    @property
    def joins(self) -> tuple[Join, ...]:
        """The table's joins, in order."""
        return (self.join,) if isinstance(self.join, Join) else self.join


class EventTable(_Table):
    """One table of events."""

    columns: dict[str, Source | DateAndTime]
    fill_down: FillDown | None = None
    only: tuple[Test, ...] = Field(default=(), description="Only rows that pass all of these tests are read.")
    each: str | None = Field(default=None, description="Address of a list: every element is an event.")
    optional: tuple[str, ...] = Field(default=(), description="Columns that a file may lack.")
    missing: Missing = Field(default=(), description="Words for no value, in any column or per column.")
    identified_by: tuple[str, ...] = Field(default=(), description="Columns from which event_id is derived.")
    once_per: tuple[str, ...] = Field(default=(), description="Contract columns; a repeated purchase counts once.")
    version_by: Source | None = Field(default=None, description="Of rows with one event ID, the highest counts.")
    constants: dict[str, str | int | float] = {}
    event_names: dict[str, str] = Field(
        default={}, validate_default=True, description="The source's event name -> the contract's."
    )
    ingest_delay_seconds: Delay | None = Field(default=None, description="Overrides the mapping's value.")
    time_plus: TimePlus | None = Field(default=None, description="Delay added to event_time.")
    negative_quantity: Literal["refund", "keep"] = "keep"
    negative_amount: Literal["refund", "keep"] = "keep"
    price: Literal["given", "amount / quantity"] = "given"
    amount: Literal["given", "price * quantity"] = "given"
    order_amount: Source | None = Field(default=None, description="Amount of an order without lines.")
    discounts: tuple[Test, ...] = Field(default=(), description="Lines that reduce the other lines of their order.")
    ignore: tuple[str, ...] = Field(default=(), description="Columns that carry no information.")
    reject: tuple[Reject, ...] = ()
    items: dict[Literal["category", "brand", "title", "description"], Category] = {}

    @field_validator("columns", "constants")
    @classmethod
    def _columns(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        _require_known(value, EVENT_SCHEMA, "column")
        if info.field_name == "columns" and "attributes" in value:
            raise ValueError("attributes are the columns that are not mapped: leave the column out of the mapping")
        _require_times(value, EVENT_SCHEMA)
        for name, constant in value.items() if info.field_name == "constants" else ():
            if name in _NEVER_CONSTANT:
                raise ValueError(
                    f"{name} must come from a column: it differs from row to row; map one, or leave it out"
                )
            if name == "event_name" and constant not in EVENT_NAMES:
                raise ValueError(f"event_name: unknown event: {constant}; the contract has {', '.join(EVENT_NAMES)}")
            kind = EVENT_SCHEMA[name]
            try:
                cast = pl.Series([constant]).cast(kind, strict=True)
                same = not kind.is_numeric() or (cast.is_finite().all() and float(cast[0]) == float(constant))
            except (pl.exceptions.PolarsError, ValueError, OverflowError):
                same = False
            if not same:
                raise ValueError(f"{name} must be of type {kind}: {constant!r} is not")
        return value

    @field_validator("event_names")
    @classmethod
    def _names(cls, value: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        if not value and "event_name" in info.data.get("columns", {}):
            raise ValueError("must name the source's events where event_name is a column, as in {buy: purchase}")
        _require_known(value.values(), EVENT_NAMES, "event")
        return value

    @model_validator(mode="after")
    def _needs(self) -> Self:
        given = {*self.columns, *self.constants}
        for name in ("event_time", "event_name"):
            if name not in given:
                raise ValueError(f"{name} must be given, as a column or a constant")
        if twice := sorted(set(self.columns) & set(self.constants)):
            raise ValueError(f"given twice, as a column and as a constant: {', '.join(twice)}; keep one")
        if not given & {"user_id", "anonymous_id"}:
            raise ValueError("user_id or anonymous_id must be given: who did it")
        if "event_id" in given and (self.identified_by or self.once_per):
            raise ValueError("columns.event_id is the ID already: leave out identified_by and once_per, or event_id")
        if unknown := sorted(set(self.once_per) - given):
            raise ValueError(f"once_per: must name mapped columns; {', '.join(unknown)} is not mapped")
        if self.discounts and "order_id" not in given:
            raise ValueError("discounts: order_id must be mapped: a discount reduces the lines of its order")
        return self


class SideTable(_Table):
    """A side table: items, users, campaigns, promotions or stock."""

    columns: dict[str, Category | DateAndTime]
    own: tuple[str, ...] = Field(default=(), description="Columns kept as text under their own names.")


class Rates(_File):
    """Exchange rates: how many units of the shop's currency one unit of another is worth."""

    columns: dict[Literal["currency", "rate", "day"], str] = Field(
        description="Without day, one rate holds for all days; with it, the latest one up to the event's UTC day."
    )

    @field_validator("columns")
    @classmethod
    def _needs(cls, value: dict[str, str]) -> dict[str, str]:
        if not {"currency", "rate"} <= set(value):
            raise ValueError("currency and rate must be mapped")
        return value


class Mapping(_Strict):
    """The mapping of a source."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    description: str = ""
    identity: Literal["user", "session"]
    person: tuple[Literal["user_id", "anonymous_id"], ...] = Field(default=("user_id",), min_length=1)
    nobody: tuple[str, ...] | None = Field(
        default=None, description="Words for unknown people; replaces the built-in ones."
    )
    time_zone: Annotated[str, AfterValidator(_checked_zone)]
    earliest: datetime.date = datetime.date(1995, 1, 1)
    ingest_delay_seconds: Delay = 0.0
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] | None = None
    rates: Rates | None = None
    events: tuple[EventTable, ...] = Field(min_length=1)
    items: SideTable | None = None
    users: SideTable | None = None
    campaigns: SideTable | None = None
    promotions: SideTable | None = None
    stock: SideTable | None = None
    optional_tables: tuple[str, ...] = Field(default=(), description="Tables whose files may be missing.")

    @field_validator("items", "users", "campaigns", "promotions", "stock")
    @classmethod
    def _side(cls, value: SideTable | None, info: ValidationInfo) -> SideTable | None:
        if value is None:
            return value
        table = str(info.field_name)
        schema = SIDE_SCHEMAS[table]
        _require_known(value.columns, schema, "column")
        _require_times(value.columns, schema)
        for name in SIDE_KEYS[table]:
            if name not in value.columns:
                raise ValueError(f"columns: {name} must be mapped: no row of {table} is complete without it")
        if repeated := sorted(set(value.own) & set(schema)):
            raise ValueError(f"own: a column of the contract: {', '.join(repeated)}; map it under columns instead")
        return value

    @model_validator(mode="after")
    def _rates_need_a_currency(self) -> Self:
        if self.rates is not None and self.currency is None:
            raise ValueError("currency must be given where rates are: rates convert to the shop's currency")
        return self

    @property
    def sides(self) -> dict[str, SideTable]:
        """The side tables of the mapping, by name."""
        found = {name: getattr(self, name) for name in SIDE_KEYS}
        return {name: side for name, side in found.items() if side is not None}

    def tables(self) -> tuple[str, ...]:
        """Names of all tables that the mapping reads."""
        tables: list[_Table] = [*self.events, *self.sides.values()]
        joined = [join.table for one in tables for join in one.joins]
        rates = [] if self.rates is None else [self.rates.table]
        return tuple(dict.fromkeys([*(one.table for one in tables), *joined, *rates]))

    def required_tables(self) -> tuple[str, ...]:
        """Names of the required tables."""
        return tuple(table for table in self.tables() if table not in self.optional_tables)


def load_mapping(path: Path) -> Mapping:
    """Read and check a mapping file.

    Raises:
        MappingError: the file is missing or not YAML, or a key is invalid; the message has file, line, key and value.
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
        found, lines = error.errors(), []
        for problem in found:
            inside = [
                other
                for other in found
                if other is not problem and other["loc"][: len(problem["loc"])] == problem["loc"]
            ]
            if problem["type"] == "too_short" and inside:
                continue  # the list is short only of the entry that has a problem itself
            where = ".".join(str(part) for part in problem["loc"]) or "the file"
            shown = " ".join(repr(problem.get("input")).split())
            lines.append(f"line {line_of(text, problem['loc'])}: {where}: {problem['msg']}; received {shown[:120]}")
        raise MappingError(f"{path}: {'; '.join(lines)}. Correct the mapping") from error
