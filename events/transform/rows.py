"""One source table of events through its mapping: rows to the contract, and reasons of rows that cannot go there."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time

import polars as pl

from events.contract import EVENT_SCHEMA, UTC_TIME
from events.mapping import NTH, DateAndTime, EventTable, Mapping, Source, columns_of
from events.transform.columns import attributes, require_scalars, scalar_columns
from events.transform.findings import Findings
from events.transform.ids import Seen, derived_ids, numbered_ids, order_keys
from events.transform.items import content_columns
from events.transform.joins import require_columns
from events.transform.money import CURRENCY_WITHOUT_RATE, in_currency, mapped_money, quantity_of_nothing, with_amounts
from events.transform.numbers import given, held, id_text, nobody, number, text, without_missing
from events.transform.quarantine import failed_tests, quarantine
from events.transform.records import POSITION, Rows, passes, sources_of
from events.transform.times import read_times, require_times

MALFORMED = "row_malformed"  # replaced by the reason of its line, see `events.transform.quarantine`
SENT_AGAIN = "sent_again"
_MICROSECONDS = {"ms": 1_000, "s": 1_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_PEOPLE = ("user_id", "anonymous_id")
_KEYED = (*_PEOPLE, "session_id", "item_id", "order_id", "campaign_id")


@dataclass(frozen=True)
class Transformed:
    """A table of events after its mapping: accepted rows, exact duplicates among them, and QUARANTINE_SCHEMA.

    The accepted are to the contract, plus `_row` and the item content that they carried (`events.transform.items`).
    """

    events: pl.DataFrame
    quarantined: pl.DataFrame


class TableState:
    """What the pieces of a table share: pieces of a file must be transformed in order, files one after the other.

    Attributes:
        needs_first_pass: Whether `learn` must be called with all pieces of a file before any of them is transformed.
        findings: What is reported about the table when it has been read.
    """

    def __init__(self, spec: EventTable, mapping: Mapping, rates: pl.DataFrame | None = None) -> None:
        self._spec, self._mapping, self.rates = spec, mapping, rates
        self.needs_first_pass = bool(spec.discounts) or (
            spec.negative_amount == "refund" and "order_id" in spec.columns
        )
        self.findings = Findings()
        self.currency: str | None = None  # the first that the source has, where the mapping names none
        self.orders = Seen()
        self.start_file()

    def start_file(self) -> None:
        """Forget what concerns one file alone."""
        self.lines = Seen()
        self._orders: list[pl.DataFrame] = []
        self._factors: pl.DataFrame | None = None

    def learn(self, rows: Rows) -> None:
        """Take note of the orders in a piece: a discount reduces lines that may be in other pieces."""
        mapped = _map(rows, self._spec, self._mapping)
        bad, _ = failed_tests(mapped.frame, mapped.tests)
        amounts = mapped.events.with_columns(mapped.discount.alias("discount")).filter(~bad | pl.col("discount"))
        amount = pl.col("amount")
        self._orders.append(
            amounts.group_by("order_id").agg(
                amount.filter(~pl.col("discount") & (pl.col("event_name") == "purchase")).sum().alias("lines"),
                amount.filter("discount").abs().sum().alias("discount"),
            )
        )

    @property
    def factors(self) -> pl.DataFrame:
        """`order_id` of the orders with a discount, and the `factor` of what is left of their lines."""
        if self._factors is None:
            orders = pl.concat(self._orders).group_by("order_id").agg(pl.col("lines", "discount").sum())
            left = (1 - pl.col("discount") / pl.col("lines")).clip(0.0, 1.0)
            self._factors = orders.filter((pl.col("lines") > 0) & (pl.col("discount") > 0)).select(
                "order_id", left.alias("factor")
            )
        return self._factors


@dataclass(frozen=True)
class _Mapped:
    """Rows with the mapping's columns, before anything that depends on other rows."""

    raw: pl.DataFrame
    frame: pl.DataFrame
    done: pl.DataFrame
    events: pl.DataFrame
    tests: list[tuple[str, pl.Expr]]
    discount: pl.Series


def _check(rows: Rows, spec: EventTable, mapping: Mapping) -> None:
    frame, where = rows.frame, f"mapping {mapping.name}, table {spec.table}"
    needed: list[str] = []
    for source in sources_of(spec):
        for part in (source.date, source.time or ()) if isinstance(source, DateAndTime) else (source,):
            present = [name for name in columns_of(part) if name in frame.columns]
            needed += present or columns_of(part)
    needed += [name for name in spec.identified_by if name not in spec.columns and name not in (NTH, *spec.optional)]
    require_columns(frame.columns, needed, spec.table, mapping.name)
    require_scalars(frame, needed, where)
    for name, source in spec.columns.items():
        if EVENT_SCHEMA[name] == UTC_TIME and not isinstance(source, DateAndTime):
            present = [address for address in columns_of(source) if address in frame.columns]
            require_times(frame, present, spec.time_formats, where)


def _person(frame: pl.DataFrame, source: Source, mapping: Mapping) -> pl.Expr:
    """Return IDs of people: the first column that holds one and not a word for nobody."""
    ids = [id_text(frame, name) for name in columns_of(source) if name in frame.columns]
    numbers = mapping.identity == "user"
    return pl.coalesce(pl.when(~nobody(one, mapping.nobody, numbers=numbers)).then(one) for one in ids)


def _mapped_columns(
    frame: pl.DataFrame, spec: EventTable, mapping: Mapping
) -> tuple[pl.DataFrame, dict[str, pl.Series]]:
    """Return the mapped columns of the contract, and per column why its value cannot be read (null: it can)."""
    done: dict[str, pl.Series] = {}
    faults: dict[str, pl.Series] = {}
    earliest = datetime.combine(mapping.earliest, time(), UTC)
    for name, source in spec.columns.items():
        kind = EVENT_SCHEMA[name]
        if isinstance(source, DateAndTime) or kind == UTC_TIME:
            times = read_times(frame, source, mapping.time_zone, spec.time_formats, earliest)
            done[name], faults[name] = times["time"], times["fault"]
        elif kind.is_numeric():
            values, column = held(frame, source)
            done[name] = values.select(number(values, column, kind, spec.csv)).to_series()
            wrong = pl.when(given(values, column) & done[name].is_null()).then(pl.lit("not_a_number"))
            faults[name] = values.select(wrong.alias("fault")).to_series()
        elif name in _PEOPLE:
            done[name] = frame.select(_person(frame, source, mapping)).to_series()
        else:
            values, column = held(frame, source)
            read = id_text if name in _KEYED else text
            done[name] = values.select(read(values, column)).to_series()
    return pl.DataFrame(done), faults


def _completed(done: pl.DataFrame, frame: pl.DataFrame, spec: EventTable, mapping: Mapping) -> pl.DataFrame:
    """Return mapped columns with constants, event names, times added up, people and order-level amounts."""
    more = [pl.lit(constant).cast(EVENT_SCHEMA[name]).alias(name) for name, constant in spec.constants.items()]
    if "event_name" in spec.columns:
        more.append(pl.col("event_name").replace_strict(spec.event_names, default=None, return_dtype=pl.String))
    if spec.time_plus is not None:
        later = frame.select(number(frame, spec.time_plus.column, pl.Float64(), spec.csv).alias("x")).to_series()
        micro = (pl.lit(later) * _MICROSECONDS[spec.time_plus.unit]).cast(pl.Int64)
        more.append((pl.col("event_time") + pl.duration(microseconds=micro)).cast(UTC_TIME).alias("event_time"))
    done = done.with_columns(more)
    absent = [name for name in EVENT_SCHEMA if name not in done.columns and name not in ("event_id", "attributes")]
    done = done.with_columns(pl.lit(None, dtype=EVENT_SCHEMA[name]).alias(name) for name in absent)
    if spec.order_amount is not None:
        totals, column = held(frame, spec.order_amount)
        total = totals.select(number(totals, column, pl.Float64(), spec.csv).alias("total")).to_series()
        alone = pl.col("event_name").is_in(["purchase", "refund"]) & pl.col("item_id").is_null()
        if POSITION in frame.columns:
            alone &= pl.lit(frame[POSITION].is_null())
        amount = pl.when(alone & pl.col("amount").is_null()).then(total).otherwise("amount")
        done = done.with_columns(amount.alias("amount"))
    return done


def _discounts(frame: pl.DataFrame, events: pl.DataFrame, spec: EventTable) -> pl.Series:
    """Return which lines reduce their order: those that the mapping names, and negative ones without an item."""
    test = pl.any_horizontal([pl.lit(value=False), *(passes(frame, one) for one in spec.discounts)])
    if spec.negative_amount == "refund" and "item_id" in spec.columns:
        negative = (pl.col("amount") < 0) | (pl.col("amount").is_null() & (pl.col("price") < 0))
        test |= negative & pl.col("item_id").is_null() & pl.col("order_id").is_not_null()
    test &= pl.col("event_name") == "purchase"
    return events.select(test.fill_null(value=False).alias("discount")).to_series()


def _map(rows: Rows, spec: EventTable, mapping: Mapping) -> _Mapped:
    """Map rows, one by one: nothing here depends on another row."""
    _check(rows, spec, mapping)
    raw = scalar_columns(rows.frame, rows.forms)
    frame = without_missing(raw, spec.missing)
    columns, faults = _mapped_columns(frame, spec, mapping)
    done = _completed(columns, frame, spec, mapping)
    tests: list[tuple[str, pl.Expr]] = [] if rows.malformed is None else [(MALFORMED, pl.lit(rows.malformed))]
    tests += [(reason, pl.lit(which)) for reason, which in rows.faults]
    tests += [(rule.reason, passes(frame, rule)) for rule in spec.reject]
    for name, fault in faults.items():
        kinds = fault.drop_nulls().unique().sort().to_list()
        tests += [(f"{name}_{kind}", pl.lit(fault == kind)) for kind in kinds]
    later = faults["event_time"].is_null() & done["event_time"].is_null()
    # The time is empty, or what is added to it is no number.
    empty = later if spec.time_plus is None else later & columns["event_time"].is_null()
    tests.append(("event_time_missing", pl.lit(empty)))
    if spec.time_plus is not None:
        tests.append(("event_time_not_a_time", pl.lit(later & ~empty)))
    if "event_id" in spec.columns:
        tests.append(("event_id_missing", pl.lit(done["event_id"].is_null())))
    if "event_name" in spec.columns:
        source = columns["event_name"]
        tests.append(("event_name_missing", pl.lit(source.is_null())))
        tests.append(("event_name_unknown", pl.lit(source.is_not_null() & done["event_name"].is_null())))
    tests.append(("who_missing", pl.lit(done["user_id"].is_null() & done["anonymous_id"].is_null())))
    discount = _discounts(frame, done, spec)
    events = mapped_money(done, spec)
    if discount.any():  # they stay what they are: negative, and no refund
        signed = with_amounts(done).select(pl.when(discount).then("amount").otherwise(events["amount"]).alias("amount"))
        events = events.with_columns(
            signed["amount"], pl.when(discount).then(pl.lit("purchase")).otherwise("event_name").alias("event_name")
        )
    tests.append(("quantity_zero", quantity_of_nothing(events) & ~pl.lit(discount)))
    return _Mapped(raw, frame, done, events, tests, discount)


def _reduced(mapped: _Mapped, state: TableState) -> tuple[pl.DataFrame, list[tuple[str, pl.Expr]]]:
    """Return events with the discounts of their orders spread over the lines, and the tests of discount lines."""
    if not state.needs_first_pass or (state.factors.is_empty() and not mapped.discount.any()):
        return mapped.events, []
    factor = mapped.events.select("order_id").join(state.factors, on="order_id", how="left", maintain_order="left")
    left = pl.when(pl.col("event_name") == "purchase").then(pl.lit(factor["factor"])).otherwise(None).fill_null(1.0)
    events = mapped.events.with_columns(pl.col("price", "amount") * left)
    known = factor["factor"].is_not_null()
    tests = [("discount_of_order", mapped.discount & known), ("discount_without_lines", mapped.discount & ~known)]
    return events, [(reason, pl.lit(test)) for reason, test in tests]


def _one_currency(events: pl.DataFrame, state: TableState, declared: str | None) -> tuple[pl.DataFrame, pl.Series]:
    """Return events in one currency, and those that have no rate; undeclared, the first currency is the shop's."""
    if declared is not None:
        return in_currency(events, declared, state.rates)
    money = pl.any_horizontal(pl.col("price", "amount").is_not_null())
    used = events.select(pl.when(money).then(pl.col("currency").str.to_uppercase()).alias("currency")).to_series()
    found = used.drop_nulls()
    if state.currency is None:
        if found.is_empty():
            return events, pl.repeat(value=False, n=events.height, eager=True)
        state.currency = found[0]
    return events, (used != state.currency).fill_null(value=False)


def _with_rest(
    events: pl.DataFrame, frame: pl.DataFrame, extra: Sequence[str], spec: EventTable, mapping: Mapping
) -> pl.DataFrame:
    """Return events with the item content that they carry, attributes, ingested_at, and the person."""
    more = [frame.select(column).to_series() for column in content_columns(frame, spec)]
    more.append(attributes(frame, list(extra)))
    seconds = mapping.ingest_delay_seconds if spec.ingest_delay_seconds is None else spec.ingest_delay_seconds
    booked = (pl.col("event_time") + pl.duration(microseconds=int(seconds * 1_000_000))).cast(UTC_TIME)
    people = pl.coalesce(mapping.person).alias("user_id")
    return events.with_columns(*more, pl.coalesce("ingested_at", booked).alias("ingested_at"), people)


def _ids(mapped: _Mapped, extra: Sequence[str], spec: EventTable, salt: str) -> tuple[pl.Series, pl.Series | None]:
    """Return the IDs of all rows, and what a purchase counts once per."""
    if "event_id" not in spec.columns:
        keys = order_keys(mapped.events, mapped.frame, spec) if spec.once_per else None
        return derived_ids(mapped.done, mapped.frame, extra, spec, keys, salt), keys
    ids = mapped.done["event_id"]
    if POSITION in mapped.frame.columns:  # elements of one record are events of their own
        position = pl.lit(mapped.frame[POSITION].cast(pl.String))
        ids = ids.to_frame().select(pl.concat_str("event_id", position, separator=":", ignore_nulls=True)).to_series()
    return ids, None


def transform(
    rows: Rows,
    spec: EventTable,
    mapping: Mapping,
    label: str,
    salt: str,
    start: int = 0,
    state: TableState | None = None,
) -> Transformed:
    """Map a source table, or a piece of it, to the contract; rows that cannot go there are quarantined with reasons.

    Args:
        rows: The rows, see `events.transform.records`.
        spec: The table's entry in the mapping.
        mapping: The mapping.
        label: The name of the file in the account and in quarantine.
        salt: See `events.transform.ids.salt_of`.
        start: The number of the first row.
        state: Shared by the pieces of a table; None where these rows are the whole table.

    Raises:
        MappingError: the table lacks columns that the mapping reads, or the unit of a time is not given.
        SourceError: a column that the mapping reads does not hold text, numbers or times.
    """
    if state is None:
        state = TableState(spec, mapping)
        if state.needs_first_pass:
            state.learn(rows)
    mapped = _map(rows, spec, mapping)
    events, discounts = _reduced(mapped, state)
    events, lacking = _one_currency(events, state, mapping.currency)
    tests = [*discounts, *mapped.tests, (CURRENCY_WITHOUT_RATE, pl.lit(lacking))]
    bad, reasons = failed_tests(mapped.frame, tests)
    used = {name for source in sources_of(spec) for name in columns_of(source)} | {*spec.ignore, *rows.derived}
    extra = [name for name in mapped.frame.columns if name not in used]
    ids, keys = _ids(mapped, extra, spec, salt)
    keep = ~bad
    marks = pl.DataFrame({"_row": bad.arg_true().cast(pl.UInt32), "_reasons": reasons})
    if keys is not None:
        counted = keep & keys.is_not_null()
        again = counted.arg_true().cast(pl.UInt32).filter(state.orders.before(keys.filter(counted)) > 0)
        repeated = again.alias("_row").to_frame().with_columns(pl.lit([SENT_AGAIN]).alias("_reasons"))
        marks = pl.concat([marks, repeated]).sort("_row")
        keep &= ~pl.int_range(events.height, dtype=pl.UInt32, eager=True).is_in(again.implode())
    events = _with_rest(events.with_columns(ids.alias("event_id")), mapped.frame, extra, spec, mapping)
    good = events.with_row_index("_row", offset=start).filter(keep)
    if NTH in spec.identified_by and NTH not in mapped.frame.columns:
        good = good.with_columns(numbered_ids(good["event_id"], state.lines))
    state.findings.add(good, rows)
    carried = [name for name in good.columns if name not in EVENT_SCHEMA and name != "_row"]
    quarantined = quarantine(mapped.raw[marks["_row"]], marks.with_columns(pl.col("_row") + start), label)
    return Transformed(good.select("_row", *EVENT_SCHEMA, *carried), quarantined)
