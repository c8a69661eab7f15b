"""Transform a source's events table to the contract, with reasons for rows that must be quarantined."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, time
from itertools import chain, repeat

import polars as pl

from events.account import Faults, Findings, faulty, quarantine
from events.contract import EVENT_SCHEMA, UTC_TIME
from events.identity import UNIT, VERSION, Seen, derived_ids, numbered_ids
from events.mapping import NTH, DateAndTime, EventTable, Mapping, columns_of
from events.sources.files import MALFORMED
from events.transform.columns import (
    attributes,
    held,
    id_text,
    path,
    person,
    read_number,
    require_scalars,
    scalar_columns,
    text,
    without_missing,
)
from events.transform.money import in_currency, mapped_money, quantity_of_nothing, with_amounts
from events.transform.records import POSITION, Rows, passes, require_columns, sources_of
from events.transform.times import faults_of, read_times, require_times

CARRIED = "_item:"
"""Prefix of the columns with item content that accompany the events."""

_MICROSECONDS = {"ms": 1_000, "s": 1_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_PEOPLE = ("user_id", "anonymous_id")
_KEYED = ("session_id", "item_id", "order_id", "campaign_id")
_AHEAD = 2  # pieces mapped concurrently, because much of the mapping is single-threaded
_NOT_CONTENT = ("event_id", "ingested_at", "attributes")


@dataclass(frozen=True)
class Transformed:
    """Rows of an events table after the mapping.

    Attributes:
        rows: Number of rows.
        events: The accepted rows, including exact duplicates: EVENT_SCHEMA, `_row`, VERSION and item content.
        quarantined: The rejected rows: QUARANTINE_SCHEMA.
    """

    rows: int
    events: pl.DataFrame
    quarantined: pl.DataFrame


@dataclass(frozen=True)
class _Mapped:
    """Rows with the mapping's columns, before any step that depends on other rows.

    Attributes:
        raw: The rows as read.
        frame: The rows with words for missing values replaced by null.
        columns: The contract's columns, before the rules on amounts.
        events: The contract's columns, after the rules on amounts.
        faults: Reasons, each with the rows that cannot be read.
        discount: Mask of the rows that reduce the other lines of their order.
    """

    raw: pl.DataFrame
    frame: pl.DataFrame
    columns: pl.DataFrame
    events: pl.DataFrame
    faults: Faults
    discount: pl.Series


class Transformer:
    """Transforms one entry of a mapping's `events`: file by file, with each file's pieces in order.

    Attributes:
        spec: The entry.
        findings: Findings about the table, complete when it has been read.
        needs_first_pass: Whether `start_file` must see all rows of a file before they are transformed.
    """

    def __init__(self, spec: EventTable, mapping: Mapping, salt: str, rates: pl.DataFrame | None = None) -> None:
        """Prepare to transform the files of one entry.

        Args:
            spec: The entry of the mapping's `events`.
            mapping: The mapping that the entry belongs to.
            salt: See `events.identity.salt_of`.
            rates: See `events.transform.money.read_rates`.
        """
        self.spec, self.mapping = spec, mapping
        self.findings = Findings()
        self.needs_first_pass = bool(spec.discounts) or (
            spec.negative_amount == "refund" and "order_id" in spec.columns
        )
        self._salt, self._rates = salt, rates
        self._currency = mapping.currency  # if the mapping names none, the first one in the source
        self._orders = Seen()
        self.start_file()

    def start_file(self, rows: Iterable[Rows] = ()) -> None:
        """Reset per-file state and scan the file's orders, because discounts also reduce lines in other pieces."""
        self._lines = Seen()
        amount, orders = pl.col("amount"), []
        for piece in rows if self.needs_first_pass else ():
            mapped = self._map(piece)
            bad, _ = faulty(mapped.events.height, mapped.faults)
            kept = mapped.events.with_columns(mapped.discount.alias("discount")).filter(~bad | mapped.discount)
            purchased = amount.filter(~pl.col("discount") & (pl.col("event_name") == "purchase"))
            orders.append(
                kept.group_by("order_id").agg(lines=purchased.sum(), discount=amount.filter("discount").abs().sum())
            )
        # `order_id` of the orders with a discount, and the remaining `factor` of their lines.
        self._factors = pl.DataFrame(schema={"order_id": pl.String, "factor": pl.Float64})
        if orders:
            total = pl.concat(orders).group_by("order_id").agg(pl.col("lines", "discount").sum())
            left = (1 - pl.col("discount") / pl.col("lines")).clip(0.0, 1.0)
            reduced = total.filter((pl.col("lines") > 0) & (pl.col("discount") > 0))
            self._factors = reduced.select("order_id", left.alias("factor"))

    def transform(self, pieces: Iterable[Rows], label: str) -> Iterator[Transformed]:
        """Map the pieces of a file to the contract, quarantining invalid rows with their reasons.

        Args:
            pieces: The rows, see `events.transform.records`.
            label: The file's name in the account and in quarantine.

        Raises:
            MappingError: the table lacks columns that the mapping reads, or the unit of a time is not given.
            SourceError: a column that the mapping reads does not hold text, numbers or times.
        """
        start, waiting = 0, deque[tuple[Rows, Future[_Mapped]]]()
        with ThreadPoolExecutor(_AHEAD) as pool:
            for rows in chain(pieces, repeat(None, _AHEAD)):
                if rows is not None:
                    waiting.append((rows, pool.submit(self._map, rows)))
                if waiting and (rows is None or len(waiting) > _AHEAD):
                    first, mapped = waiting.popleft()
                    yield self._transformed(first, mapped.result(), label, start)
                    start += first.frame.height

    def _transformed(self, rows: Rows, mapped: _Mapped, label: str, start: int) -> Transformed:
        """Finish mapped rows, which are numbered from `start`."""
        spec = self.spec
        events, faults = self._reduced(mapped)
        events, lacking = self._in_one_currency(events)
        bad, reasons = faulty(events.height, [*faults, *mapped.faults, ("currency_without_rate", lacking)])
        used = {name for source in sources_of(spec) for name in columns_of(source)}
        used |= {*spec.ignore, *rows.derived, MALFORMED}
        extra = [name for name in mapped.frame.columns if name not in used]
        ids, keys = self._ids(mapped, extra)
        keep, row = ~bad, pl.int_range(events.height, dtype=pl.UInt32, eager=True)
        marks = pl.DataFrame({"row": row.filter(bad), "reasons": reasons})
        if keys is not None:
            counted = keep & keys.is_not_null()
            again = row.filter(counted).filter(self._orders.before(keys.filter(counted)) > 0)
            repeated = again.alias("row").to_frame().with_columns(pl.lit(["sent_again"]).alias("reasons"))
            marks = pl.concat([marks, repeated]).sort("row")
            keep &= ~row.is_in(again.implode())
        events = self._completed(events.with_columns(ids.alias("event_id")), mapped.frame, extra)
        good = events.with_row_index("_row", offset=start).filter(keep)
        if NTH in spec.identified_by and NTH not in mapped.frame.columns:
            good = good.with_columns(numbered_ids(good["event_id"], self._lines))
        self.findings.add(good, rows.absent, rows.unread)
        carried = [VERSION, *(name for name in good.columns if name.startswith(CARRIED))]
        quarantined = quarantine(mapped.raw[marks["row"]], marks["row"].cast(pl.Int64) + start, marks["reasons"], label)
        return Transformed(events.height, good.select("_row", *EVENT_SCHEMA, *carried), quarantined)

    def _check(self, frame: pl.DataFrame) -> None:
        spec, where = self.spec, f"mapping {self.mapping.name}, table {self.spec.table}"
        needed: list[str] = []
        for source in sources_of(spec):
            for part in (source.date, source.time or ()) if isinstance(source, DateAndTime) else (source,):
                needed += [name for name in columns_of(part) if name in frame.columns] or columns_of(part)
        optional = {*spec.columns, *spec.optional, NTH}
        needed += [name for name in spec.identified_by if name not in optional]
        require_columns(frame.columns, needed, spec.table, self.mapping.name)
        require_scalars(frame, needed, where)
        for name, source in spec.columns.items():
            if EVENT_SCHEMA[name] == UTC_TIME and not isinstance(source, DateAndTime):
                present = [address for address in columns_of(source) if address in frame.columns]
                require_times(frame, present, spec.time_formats, where)

    def _map(self, rows: Rows) -> _Mapped:
        """Map rows independently of each other."""
        spec = self.spec
        self._check(rows.frame)
        raw = scalar_columns(rows.frame)
        frame = without_missing(raw, spec.missing)
        columns, faults = self._columns(frame)
        first = [("row_malformed", frame[MALFORMED].is_not_null())] if MALFORMED in frame.columns else []
        faults = [*first, *rows.faults, *((rule.reason, passes(frame, rule)) for rule in spec.reject), *faults]
        discount = self._discounts(frame, columns)
        events = mapped_money(columns, spec)
        if discount.any():  # left unchanged: negative, and not a refund
            given = pl.lit(with_amounts(columns)["amount"])
            events = events.with_columns(
                pl.when(discount).then(given).otherwise("amount").alias("amount"),
                pl.when(discount).then(pl.lit("purchase")).otherwise("event_name").alias("event_name"),
            )
        faults.append(("quantity_zero", quantity_of_nothing(events) & ~discount))
        return _Mapped(raw, frame, columns, events, faults, discount)

    def _columns(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, Faults]:
        """Return the contract's columns filled by the mapping, and the faults of unreadable values."""
        spec, mapping = self.spec, self.mapping
        earliest = datetime.combine(mapping.earliest, time(), UTC)
        done: dict[str, pl.Series] = {}
        faults: Faults = []
        for name, source in spec.columns.items():
            kind = EVENT_SCHEMA[name]
            if isinstance(source, DateAndTime) or kind == UTC_TIME:
                times = read_times(frame, source, mapping.time_zone, spec.time_formats, earliest)
                done[name] = times["time"]
                faults += faults_of(name, times["fault"])
                if name == "event_time":
                    missing = times["time"].is_null() & times["fault"].is_null()
            elif kind.is_numeric():
                done[name], wrong = read_number(frame, source, kind, spec.csv)
                faults.append((f"{name}_not_a_number", wrong))
            elif name in _PEOPLE:
                done[name] = person(frame, source, mapping.nobody, numbers=mapping.identity == "user")
            else:
                values, column = held(frame, source)
                done[name] = values.select((id_text if name in _KEYED else text)(values, column)).to_series()
        columns = pl.DataFrame(done).with_columns(
            pl.lit(constant).cast(EVENT_SCHEMA[name]).alias(name) for name, constant in spec.constants.items()
        )
        absent = [name for name in EVENT_SCHEMA if name not in {*columns.columns, "event_id", "attributes"}]
        columns = columns.with_columns(pl.lit(None, dtype=EVENT_SCHEMA[name]).alias(name) for name in absent)
        faults.append(("event_time_missing", missing))
        if spec.time_plus is not None:
            later, _ = read_number(frame, spec.time_plus.column, pl.Float64(), spec.csv)
            micro = (pl.lit(later) * _MICROSECONDS[spec.time_plus.unit]).cast(pl.Int64)
            moment = (pl.col("event_time") + pl.duration(microseconds=micro)).cast(UTC_TIME)
            faults.append(("event_time_not_a_time", columns["event_time"].is_not_null() & later.is_null()))
            columns = columns.with_columns(moment.alias("event_time"))
        if "event_id" in spec.columns:
            faults.append(("event_id_missing", columns["event_id"].is_null()))
        if "event_name" in spec.columns:
            given = columns["event_name"]
            known = given.replace_strict(spec.event_names, default=None, return_dtype=pl.String)
            faults.append(("event_name_missing", given.is_null()))
            faults.append(("event_name_unknown", given.is_not_null() & known.is_null()))
            columns = columns.with_columns(known)
        nobody = pl.coalesce(mapping.person).is_null() & pl.col("anonymous_id").is_null()
        faults.append(("who_missing", columns.select(nobody.alias("nobody")).to_series()))
        if spec.version_by is not None:
            faults.append(("version_not_readable", self._versions(frame)[1]))
        if spec.order_amount is not None:
            total, _ = read_number(frame, spec.order_amount, pl.Float64(), spec.csv)
            alone = pl.col("event_name").is_in(["purchase", "refund"]) & pl.col("item_id").is_null()
            if POSITION in frame.columns:
                alone &= frame[POSITION].is_null()
            amount = pl.when(alone & pl.col("amount").is_null()).then(pl.lit(total)).otherwise("amount")
            columns = columns.with_columns(amount.alias("amount"))
        return columns, faults

    def _versions(self, frame: pl.DataFrame) -> tuple[pl.Series, pl.Series]:
        """Return the version of each row, a number or else a time, and which rows hold one that cannot be compared."""
        source = self.spec.version_by or ()
        numbers, wrong = read_number(frame, source, pl.Float64(), self.spec.csv)
        times = read_times(frame, source, self.mapping.time_zone, self.spec.time_formats)["time"].to_physical()
        version = numbers.zip_with(numbers.is_not_null(), times.cast(pl.Float64))
        return version, (wrong & version.is_null()) | (version.abs() > 2**53).fill_null(value=False)

    def _discounts(self, frame: pl.DataFrame, columns: pl.DataFrame) -> pl.Series:
        """Return a mask of lines that reduce their order: those the mapping names, and negative lines without item."""
        spec, test = self.spec, pl.lit(value=False)
        for one in spec.discounts:
            test |= passes(frame, one)
        if spec.negative_amount == "refund" and "item_id" in spec.columns:
            negative = (pl.col("amount") < 0) | (pl.col("amount").is_null() & (pl.col("price") < 0))
            test |= negative & pl.col("item_id").is_null() & pl.col("order_id").is_not_null()
        test &= pl.col("event_name") == "purchase"
        return columns.select(test.fill_null(value=False).alias("discount")).to_series()

    def _reduced(self, mapped: _Mapped) -> tuple[pl.DataFrame, Faults]:
        """Return the events with each order's discounts spread over its lines, and the faults of the discount lines."""
        if self._factors.is_empty() and not mapped.discount.any():
            return mapped.events, []
        factor = mapped.events.select("order_id").join(self._factors, on="order_id", how="left", maintain_order="left")
        left = pl.when(pl.col("event_name") == "purchase").then(pl.lit(factor["factor"])).otherwise(None).fill_null(1.0)
        known = factor["factor"].is_not_null()
        return mapped.events.with_columns(pl.col("price", "amount") * left), [
            ("discount_of_order", mapped.discount & known),
            ("discount_without_lines", mapped.discount & ~known),
        ]

    def _in_one_currency(self, events: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series]:
        """Convert events to one currency, by default the source's first; also return which events have no rate."""
        if self.mapping.currency is not None:
            return in_currency(events, self.mapping.currency, self._rates)
        money = pl.any_horizontal(pl.col("price", "amount").is_not_null())
        used = events.select(pl.when(money).then(pl.col("currency").str.to_uppercase())).to_series()
        found = used.drop_nulls()
        if self._currency is None and not found.is_empty():
            self._currency = found[0]
        return events, (used != (self._currency or "")).fill_null(value=False)

    def _ids(self, mapped: _Mapped, extra: list[str]) -> tuple[pl.Series, pl.Series | None]:
        """Return the IDs of all rows, and the keys by which repeated purchases count once.

        Derived IDs come from the identifying columns, or from all columns. They hash parsed values, so that another
        spelling (13085.0 for 13085, another format of the same time) gives the same ID.
        """
        spec, frame, columns = self.spec, mapped.frame, mapped.columns
        position = frame[POSITION].cast(pl.String) if POSITION in frame.columns else None
        if "event_id" in spec.columns:
            own_id = columns["event_id"]
            if position is None:
                return own_id, None
            # Elements of one record are separate events.
            return pl.select(pl.concat_str(own_id, position, separator=":", ignore_nulls=True)).to_series(), None
        mapped_names = [*spec.columns, *spec.constants]
        names = [name for name in spec.identified_by if name != NTH or NTH in frame.columns]
        own = [name for name in names if name in mapped_names]
        source = [name for name in names if name not in mapped_names]
        if not names:
            own = [name for name in EVENT_SCHEMA if name in spec.columns and name not in _NOT_CONTENT]
            own += ["amount"] if spec.order_amount is not None and "amount" not in own else []
            source = sorted(extra)
        source += [POSITION] if position is not None and POSITION not in source else []
        times = pl.selectors.datetime().to_physical()  # independent of Polars' formatting
        parts = [
            *columns.select(own).with_columns(times).cast(pl.String),
            *(frame.select(id_text(frame, name).alias(name)).to_series() for name in source),
        ]
        keys = self._order_keys(mapped.events, frame) if spec.once_per else None
        return derived_ids(self._salt, parts, keys), keys

    def _order_keys(self, events: pl.DataFrame, frame: pl.DataFrame) -> pl.Series:
        """Return the key by which repeated purchases count once; null for other events or if its first column is empty.

        The same item twice in one record is two lines, so the line's position is part of the key.
        """
        names = list(self.spec.once_per)
        key = pl.concat_str([pl.col(name).cast(pl.String).fill_null("") for name in names], separator=UNIT)
        purchase = (pl.col("event_name") == "purchase") & pl.col(names[0]).is_not_null()
        keys = events.select(pl.when(purchase).then(key).alias("key"))
        if POSITION in frame.columns:
            record = (frame[POSITION].fill_null(0) == 0).cum_sum().alias("record")
            nth = pl.int_range(pl.len()).over("record", "key").cast(pl.String)
            keys = keys.with_columns(record).select(pl.col("key") + UNIT + nth)
        return keys.to_series()

    def _completed(self, events: pl.DataFrame, frame: pl.DataFrame, extra: list[str]) -> pl.DataFrame:
        """Add item content, attributes, ingested_at and the person to events."""
        spec, mapping = self.spec, self.mapping
        content = frame.select(path(frame, category).alias(f"{CARRIED}{name}") for name, category in spec.items.items())
        seconds = mapping.ingest_delay_seconds if spec.ingest_delay_seconds is None else spec.ingest_delay_seconds
        booked = (pl.col("event_time") + pl.duration(microseconds=int(seconds * 1_000_000))).cast(UTC_TIME)
        version = pl.lit(None, dtype=pl.Float64) if spec.version_by is None else pl.lit(self._versions(frame)[0])
        return events.with_columns(
            *content,
            version.alias(VERSION),
            attributes(frame, extra),
            pl.coalesce("ingested_at", booked).alias("ingested_at"),
            pl.coalesce(mapping.person).alias("user_id"),
        )
