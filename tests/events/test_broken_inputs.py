"""A corpus of broken input: every kind ends in a named reason, in an error of ours, or is read; none in a traceback.

Each case says how many rows go where; what is not said is zero. `rows in` is what a person counts in the file.
"""

import gzip
import io
import json
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pytest

from events.mapping import Mapping
from events.reading import Reading
from events.sources.files import Size
from shoplens.errors import ShopLensError
from tests.read_source import Ingested, read_source

TABLES = """events:
  - table: "*"
    columns: {event_time: t, user_id: u, event_name: e, item_id: i, price: p, quantity: q}
    event_names: {view: view_item, buy: purchase}
"""
HEAD = "t,u,e,i,p,q\n"
GOOD = "2024-01-01 10:00:00,u1,view,i1,1.5,1\n"


@dataclass(frozen=True)
class Case:
    """A file, and what becomes of it.

    Attributes:
        name: What is wrong.
        content: The file.
        accepted: Rows.
        reasons: Rows by reason.
        duplicates: Rows.
        error: What the message of an error of ours says; then nothing is read.
        file: The file's name.
    """

    name: str
    content: bytes
    accepted: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    error: str | None = None
    file: str = "log.csv"


def row(**change: str) -> str:
    fields = {"t": "2024-01-01 10:00:00", "u": "u1", "e": "view", "i": "i1", "p": "1.5", "q": "1"} | change
    return ",".join(fields.values()) + "\n"


def csv(*rows: str) -> bytes:
    return (HEAD + "".join(rows)).encode()


def bad(name: str, reason: str, **change: str) -> Case:
    """One row that is wrong beside one that is good."""
    return Case(name, csv(GOOD, row(**change)), 1, {reason: 1})


def parquet(**columns: object) -> bytes:
    base = {"t": ["2024-01-01"], "u": ["u1"], "e": ["view"], "i": ["i1"], "p": [1.5], "q": [1]}
    out = io.BytesIO()
    pl.DataFrame(base | columns, strict=False).write_parquet(out)
    return out.getvalue()


def jsonl(*records: object) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


LONG = csv(*[row(i=f"i{n}") for n in range(9999)])
RECORD = {"t": "2024-01-01", "u": "u1", "e": "view", "i": "i1", "p": 1.5, "q": 1}
CASES = [
    # times
    bad("no time", "event_time_missing", t=""),
    bad("words for a time", "event_time_not_a_time", t="yesterday"),
    bad("the 30th of February", "event_time_not_a_time", t="2024-02-30"),
    bad("hour 25", "event_time_not_a_time", t="2024-01-01 25:00:00"),
    bad("the year 0", "event_time_implausible", t="0000-01-01"),
    bad("the year 1899", "event_time_implausible", t="1899-12-31"),
    bad("a clock far in the future", "event_time_implausible", t="2999-01-01"),
    bad("the year 99999", "event_time_not_a_time", t="99999-01-01"),
    bad("an epoch among dates", "event_time_not_a_time", t="1704100000"),
    bad("a time with a made-up zone", "event_time_not_a_time", t="2024-01-01 10:00:00 Mars/Olympus"),
    Case("mixed time zones", csv(GOOD, row(t="2024-01-01T10:00:00+02:00"), row(t="2024-01-01T10:00:00Z", i="i2")), 3),
    Case("spaces around a time", csv(GOOD, row(t=" 2024-01-02 10:00:00 ")), 2),
    Case("day or month first", csv(row(t="12/1/2009 7:45"), row(t="13/1/2009 7:45")),
         error="whether the day or the month comes first"),
    Case("a short year", csv(row(t="1.2.24")), error='received \'1.2.24\'. Set time_format, such as "%m/%d/%Y'),
    # people
    bad("nobody", "who_missing", u=""),
    bad("blanks for a person", "who_missing", u="   "),
    Case("a very long person", csv(GOOD, row(u="u" * 10_000)), 2),
    Case("a person in Chinese", csv(row(u="张三")), 1),
    Case("emoji and joiners", csv(row(u="👩‍👩‍👧")), 1),
    # event names
    bad("an event without a name", "event_name_missing", e=""),
    bad("an unknown event", "event_name_unknown", e="teleport"),
    bad("an event in capitals", "event_name_unknown", e="VIEW"),
    # numbers
    bad("a word for a price", "price_not_a_number", p="cheap"),
    bad("a price with a currency", "price_not_a_number", p="€1.50"),
    bad("a decimal comma", "price_not_a_number", p='"1,5"'),
    bad("thousands separated", "price_not_a_number", p='"1,500.00"'),
    bad("an infinite price", "price_not_a_number", p="inf"),
    bad("not a number", "price_not_a_number", p="NaN"),
    bad("a price beyond doubles", "price_not_a_number", p="1e999"),
    bad("hexadecimal", "price_not_a_number", p="0x1F"),
    bad("a word for a quantity", "quantity_not_a_number", q="two"),
    bad("a formula", "price_not_a_number", p="=1+1"),
    Case("a negative price is for the expectations to judge", csv(GOOD, row(p="-1")), 2),
    Case("no price", csv(GOOD, row(p="")), 2),
    Case("exponents", csv(row(p="1.5e1")), 1),
    # several things at once
    Case("everything wrong", csv(GOOD, row(t="x", u="", e="y", p="z")), 1, {"event_time_not_a_time": 1}),
    Case("an empty row of commas", csv(GOOD, ",,,,,\n"), 1, {"event_time_missing": 1}),
    # duplicates
    Case("the same row twice", csv(GOOD, GOOD), 1, duplicates=1),
    Case("the same row a thousand times", csv(*[GOOD] * 1000), 1, duplicates=999),
    # the file
    Case("no bytes", b"", error="log.csv"),
    Case("only a header", csv(), 0),
    Case("only blank lines", b"\n\n\n", error="empty CSV"),
    Case("no header", GOOD.encode() * 2, error="must have column"),
    Case("another header", b"a,b,c\n1,2,3\n", error=r"must have column\(s\) t, u, e, i, p, q; it has a, b, c"),
    Case("a header in capitals", csv(GOOD).replace(b"t,u,e,i,p,q", b"T,U,E,I,P,Q"), error="must have column"),
    Case("a column twice", b"t,u,e,i,p,q,q\n2024-01-01,u1,view,i1,1,1,2\n", 1),
    Case("a byte order mark", b"\xef\xbb\xbf" + csv(GOOD), 1),
    Case("line ends of Windows", csv(GOOD, row(i="i2")).replace(b"\n", b"\r\n"), 2),
    Case("no line end at the end", csv(GOOD, row(i="i2")).rstrip(b"\n"), 2),
    Case("Latin-1", csv(row(u="J\xfcrgen")).decode().encode("latin-1"), error="log.csv"),
    Case("UTF-16", csv(GOOD).decode().encode("utf-16"), error="must be UTF-8 text"),
    Case("a NUL byte in a value", csv(GOOD, row(u="a\x00b")), 2),
    Case("NUL bytes only", b"\x00" * 100, error="must be UTF-8 text"),
    Case("random bytes", bytes(range(256)) * 4, error="log.csv"),
    Case("a row too short", csv(GOOD, "2024-01-01 10:00:00,u1,view\n"), 1, {"row_too_short": 1}),
    Case("a row too long", csv(GOOD, row().rstrip("\n") + ",more,still more\n"), 1, {"row_too_long": 1}),
    Case("cut off in the middle of a row", csv(GOOD) + b"2024-01-01,u2,vie", 1, {"row_too_short": 1}),
    Case("cut off in the last value, which cannot be seen", csv(GOOD, row(u="u2", q="12"))[:-2], 2),
    Case("an open quote", csv(GOOD, '2024-01-01,"u1,view,i1,1,1\n'), 1, {"quote_unbalanced": 1}),
    Case("an open quote among good rows", csv(GOOD, '2024-01-01,"u1,view,i1,1,1\n', row(u="u2"), row(u="u3")), 3,
         {"quote_unbalanced": 1}),
    Case("an open quote that a later row would close", csv(GOOD, '2024-01-01,"u1,view,i1,1,1\n', row(u="u2"),
         row(u="u3", i='i1" '), row(u="u4")), 4, {"quote_unbalanced": 1}),
    Case("text after a closing quote", csv(GOOD, row(i='"TV" wide'), row(u="u2")), 2, {"quote_unbalanced": 1}),
    Case("a quote in the middle of a text", csv(row(i='TV 27" wide'), row(u="u2")), 2),
    Case("three malformed lines among good rows", csv(GOOD, "2024-01-01,u1\n", row(u="u2"), row(i="a,b,c"),
         row(u="u3"), row(i='"i1'), row(u="u4")), 4, {"row_too_short": 1, "row_too_long": 1, "quote_unbalanced": 1}),
    Case("a line that is not UTF-8", csv(GOOD, row(u="u2"), row(u="u3")).replace(b"u2", b"u\xfc"), 2, {"not_utf8": 1}),
    Case("a line above the limit", csv(GOOD, row(u="u" * 20_000_000), row(u="u2")), 2, {"line_too_large": 1}),
    Case("line ends of both kinds", csv(GOOD, row(i="i2")).replace(b"\n", b"\r\n", 1), 2),
    Case("line ends of the old Macintosh", csv(GOOD, row(i="i2")).replace(b"\n", b"\r"), 2),
    Case("a separator after the last column", csv(GOOD.rstrip("\n") + ",\n"), 1),
    Case("a line break inside quotes", csv(GOOD, row(u='"a\nb"')), 2),
    Case("semicolons", csv(GOOD).replace(b",", b";"), error="must have column"),
    Case("a page of HTML", b"<!doctype html><html><body>Sign in</body></html>\n", error="must have column"),
    Case("JSON called CSV", jsonl(RECORD), error="log.csv|must have column"),
    Case("a line of ten megabytes", csv(GOOD, row(u="u" * 10_000_000)), 2),
    # gzip
    Case("gzip", gzip.compress(csv(GOOD)), 1, file="log.csv.gz"),
    Case("gzip, cut off", gzip.compress(LONG)[:-2000], error="gz", file="log.csv.gz"),
    Case("gzip, another check sum", gzip.compress(csv(GOOD))[:-6] + b"\0" * 6, error="gz", file="log.csv.gz"),
    Case("called gzip and is none", csv(GOOD), 1, file="log.csv.gz"),
    # Parquet
    Case("Parquet, cut off", parquet()[:-100], error="log.parquet", file="log.parquet"),
    Case("Parquet without bytes", b"", error="log.parquet", file="log.parquet"),
    Case("Parquet: times as numbers without a unit", parquet(t=[1704100000]), error="time_format", file="log.parquet"),
    Case("Parquet: a list for a person", parquet(u=[["u1"]]), error="must hold text", file="log.parquet"),
    Case("Parquet: nulls throughout", parquet(t=[None]), 0, {"event_time_missing": 1}, file="log.parquet"),
    Case("Parquet: numbers for people", parquet(u=[7]), 1, file="log.parquet"),
    Case("Parquet: not a number for a person", parquet(u=[float("nan")]), 0, {"who_missing": 1}, file="log.parquet"),
    # JSON Lines
    Case("JSON Lines, cut off", jsonl(RECORD, RECORD)[:-20], 1, {"json_malformed": 1}, file="log.jsonl"),
    Case("JSON Lines: a line that is no record", jsonl(RECORD, [1, 2]), 1, {"not_a_record": 1}, file="log.jsonl"),
    Case("JSON Lines: a record for a price", jsonl(RECORD, RECORD | {"p": {"eur": 1}}, RECORD | {"i": "i2"}), 2,
         {"field_has_other_type": 1}, file="log.jsonl"),
    Case("JSON Lines: a list for a record", jsonl(*[RECORD | {"x": {"y": n}} for n in range(3)], RECORD | {"x": [1]}),
         3, {"field_has_other_type": 1}, file="log.jsonl"),
    Case("JSON Lines: a line that is not UTF-8", jsonl(RECORD) + b'{"t": "\xfc"}\n', 1, {"not_utf8": 1},
         file="log.jsonl"),
    Case("JSON Lines: a byte order mark", b"\xef\xbb\xbf" + jsonl(RECORD), 1, file="log.jsonl"),
    Case("JSON Lines: an ID above 64 bits", jsonl(RECORD | {"u": 1}, RECORD | {"u": 2**63}), 1, {"number_too_large": 1},
         file="log.jsonl"),
    Case("JSON Lines: an ID of thirty digits", jsonl(RECORD | {"u": 1}, RECORD | {"u": 10**29}), 1,
         {"number_too_large": 1}, file="log.jsonl"),
    Case("JSON Lines: no number", jsonl(RECORD, RECORD | {"p": float("nan")}, RECORD | {"p": float("inf")}), 1,
         {"json_malformed": 2}, file="log.jsonl"),
    Case("JSON Lines: a number beyond all", jsonl(RECORD) + jsonl(RECORD).replace(b"1.5", b"1e999"), 1,
         {"json_malformed": 1}, file="log.jsonl"),
    Case("JSON Lines: half of a character", jsonl(RECORD) + jsonl(RECORD).replace(b"i1", b"\\ud83d"), 1,
         {"json_malformed": 1}, file="log.jsonl"),
    Case("JSON Lines: thirty digits in a text", jsonl(RECORD | {"u": 1}, RECORD | {"i": f"a: {10**29}"}), 2,
         file="log.jsonl"),
    Case("JSON Lines: a list", b"[1, 2]\n", error="log.jsonl|must have column", file="log.jsonl"),
    Case("JSON Lines: one array", json.dumps([RECORD]).encode(), error="log.jsonl|must have", file="log.jsonl"),
    Case("JSON Lines: a type that changes", jsonl(RECORD, RECORD | {"p": "dear", "i": "i2"}), 1,
         {"price_not_a_number": 1}, file="log.jsonl"),
    Case("JSON Lines: a key that comes and goes", jsonl(RECORD, {k: v for k, v in RECORD.items() if k != "u"}), 1,
         {"who_missing": 1}, file="log.jsonl"),
    Case("JSON Lines: blank lines between", jsonl(RECORD) + b"\n\n" + jsonl(RECORD | {"i": "i2"}), 2, file="log.jsonl"),
    Case("JSON Lines: no record", b"", error="log.jsonl", file="log.jsonl"),
    # the kind of file
    Case("an unknown ending", csv(GOOD), error="unknown kind of file", file="log.xlsx"),
]  # fmt: skip


@pytest.fixture
def mapping(mapping_of) -> Mapping:
    return mapping_of(TABLES)


def account_of(done: Ingested) -> tuple[int, dict[str, int], int]:
    (account,) = done.accounts.values()
    return account.accepted, account.quarantined, account.exact_duplicates


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_kind_ends_as_it_should(case: Case, mapping: Mapping, tmp_path: Path) -> None:
    path = tmp_path / "in" / case.file
    path.parent.mkdir()
    path.write_bytes(case.content)
    if case.error is not None:
        with pytest.raises(ShopLensError, match=case.error):
            read_source(mapping, [path])
        return
    done = read_source(mapping, [path])
    assert account_of(done) == (case.accepted, case.reasons, case.duplicates)
    assert done.quarantined.height == sum(case.reasons.values())
    for raw in done.quarantined["raw"]:
        assert isinstance(json.loads(raw), dict)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_kind_ends_so_in_pieces_too(case: Case, mapping: Mapping, tmp_path: Path) -> None:
    path, work = tmp_path / "in" / case.file, tmp_path / "work"
    path.parent.mkdir()
    work.mkdir()
    path.write_bytes(case.content)
    # a row or so at a time, but not thousands of pieces
    size = Size(rows=max(2, len(case.content) // 500), bytes=max(40, len(case.content) // 10))

    def read() -> tuple[int, dict[str, int], int]:
        reading = Reading(mapping, [path], work, size, lambda line: None)
        rows = sum(events.height for events in reading.events())
        (account,) = reading.accounts().values()
        assert rows == account.accepted
        assert sum(aside.height for aside in reading.quarantined()) == sum(account.quarantined.values())
        return account.accepted, account.quarantined, account.exact_duplicates

    if case.error is not None:
        with pytest.raises(ShopLensError, match=case.error):
            read()
        return
    assert read() == (case.accepted, case.reasons, case.duplicates)


def test_the_corpus_is_large_and_every_name_is_its_own() -> None:
    assert len(CASES) >= 99
    assert len({case.name for case in CASES}) == len(CASES)
