"""Rows through a mapping: money, people, event identity, times and numbers, each with values worked out by hand."""

import json
from datetime import UTC, datetime

import polars as pl
import pytest

from events.identity import Seen
from events.mapping import load_mapping
from events.reading import Reading
from events.sources.files import Size
from events.transform.columns import is_nobody, nobody
from events.transform.money import with_amounts
from events.transform.side_tables import carried_content, every_item, merged_content
from events.transform.times import read_times
from shoplens.errors import MappingError, SourceError

TINY = Size(rows=2, bytes=64)


class Shop:
    """A mapping and its files in a folder, read in pieces of two rows or at once."""

    def __init__(self, folder) -> None:
        self.folder = folder

    def read(self, tables: str, size: Size | None = TINY, top: str = "", **files: str):
        mapping = self.folder / "shop.yaml"
        mapping.write_text(f"name: shop\nidentity: user\ntime_zone: UTC\n{top}{tables}")
        inputs = self.folder / "in"
        inputs.mkdir(exist_ok=True)
        for name, content in files.items():
            (inputs / name.replace("_csv", ".csv").replace("_jsonl", ".jsonl")).write_text(content)
        (self.folder / "work").mkdir(exist_ok=True)
        reading = Reading(load_mapping(mapping), [inputs], self.folder / "work", size, lambda line: None)
        self.events = pl.concat(list(reading.events())).sort("event_time", "event_id")
        self.accounts, self.notes = reading.accounts(), reading.notes
        self.items = reading.items(self.events["item_id"].drop_nulls())
        return self

    def rows(self, *columns: str) -> list[tuple]:
        return sorted(self.events.select(columns).rows(), key=str)

    def reasons(self, name: str = "log.csv") -> dict[str, int]:
        return self.accounts[name].quarantined


@pytest.fixture
def shop(tmp_path) -> Shop:
    return Shop(tmp_path)


LINES = """events:
  - table: log
    columns: {event_time: t, user_id: u, order_id: o, item_id: i, quantity: q, price: p, amount: a}
    constants: {event_name: purchase}
"""
HEAD = "t,u,o,i,q,p,a\n"


# --- money


def test_an_amount_is_given_or_price_times_quantity_and_never_0_for_unknown(shop: Shop) -> None:
    rows = ["1,9,", "2,9,", ",9,", "3,,", "2,9,17.5", "0,9,"]
    shop.read(LINES, log_csv=HEAD + "".join(f"2024-01-0{n},u,o{n},i{n},{row}\n" for n, row in enumerate(rows, 1)))
    # 1 * 9, 2 * 9, one piece of 9, unknown, as given; 0 pieces of 9 say nothing about money
    assert shop.rows("order_id", "amount") == [("o1", 9), ("o2", 18), ("o3", 9), ("o4", None), ("o5", 17.5)]
    assert shop.reasons() == {"quantity_zero": 1}
    assert "log: 1 of 5 purchase events (20%) have no amount: map amount, or price and quantity" in shop.notes


def test_the_rule_works_on_any_frame_and_leaves_views_alone() -> None:
    frame = pl.DataFrame(
        {
            "event_name": ["purchase", "refund", "view_item"],
            "quantity": [None, 2.0, None],
            "price": [3.0, 4.0, 5.0],
            "amount": pl.Series([None, None, None], dtype=pl.Float64),
        }
    )
    assert with_amounts(frame)["amount"].to_list() == [3.0, 8.0, None]


def test_negative_amounts_are_refunds_where_the_mapping_says_so(shop: Shop) -> None:
    rows = HEAD + "2024-01-01,u,o1,i,-1,,-10\n2024-01-02,u,o2,i,1,,-5\n2024-01-03,u,o3,i,,-4,\n2024-01-04,u,o4,i,1,,6\n"
    shop.read(LINES + "    negative_amount: refund\n", log_csv=rows)
    expected = [("o1", "refund", 10.0), ("o2", "refund", 5.0), ("o3", "refund", 4.0), ("o4", "purchase", 6.0)]
    assert shop.rows("order_id", "event_name", "amount") == expected
    assert shop.events["quantity"].drop_nulls().min() == 1
    shop.read(LINES, log_csv=rows)
    assert shop.events["event_name"].unique().to_list() == ["purchase"]


@pytest.mark.parametrize("size", [TINY, None])
def test_a_discount_reduces_the_lines_of_its_order_in_any_piece(shop: Shop, size: Size | None) -> None:
    rows = [
        "2024-01-01,u,o1,a,1,30,30",
        "2024-01-01,u,o2,a,1,30,30",
        "2024-01-01,u,o1,b,2,5,10",
        "2024-01-01,u,o1,VOUCHER,1,-4,-4",
        "2024-01-01,u,o1,,1,-4,-4",
        "2024-01-01,u,o3,VOUCHER,1,-1,-1",
    ]
    options = "    negative_amount: refund\n    discounts: [{column: i, equals: VOUCHER}]\n"
    shop.read(LINES + options, size, log_csv=HEAD + "\n".join(rows) + "\n")
    # o1: 40 - 4 - 4 = 32, four fifths of each line and price; the line without an item is a discount, too
    assert shop.rows("order_id", "item_id", "price", "amount") == [
        ("o1", "a", pytest.approx(24.0), pytest.approx(24.0)),
        ("o1", "b", pytest.approx(4.0), pytest.approx(8.0)),
        ("o2", "a", 30.0, 30.0),
    ]
    assert shop.reasons() == {"discount_of_order": 2, "discount_without_lines": 1}


RATES = "currency: EUR\nrates: {table: rates, columns: {currency: c, rate: r, day: d}}\n"
MONEY = LINES.replace("amount: a", "currency: a")


def test_other_currencies_are_converted_by_the_rate_of_their_day(shop: Shop) -> None:
    log = HEAD + "2024-01-01,u,o1,i,2,10,CHF\n2024-01-05,u,o2,i,1,10,chf\n2024-01-05,u,o3,i,1,10,USD\n"
    log += "2024-01-05,u,o4,i,1,10,EUR\n2024-01-05,u,o5,i,1,10,\n2023-12-31,u,o6,i,1,10,CHF\n"
    shop.read(MONEY, top=RATES, log_csv=log, rates_csv="c,d,r\nCHF,2024-01-03,1.1\nCHF,2024-01-01,1.05\n")
    assert shop.rows("order_id", "amount", "currency") == [
        ("o1", pytest.approx(21.0), "EUR"),
        ("o2", pytest.approx(11.0), "EUR"),  # the rate of the 3rd holds on the 5th
        ("o4", 10.0, "EUR"),
        ("o5", 10.0, "EUR"),  # no currency: the shop's
    ]
    assert shop.reasons() == {"currency_without_rate": 2}  # USD; and CHF before its first rate


def test_without_a_declared_currency_the_first_one_is_the_shops(shop: Shop) -> None:
    shop.read(
        MONEY, log_csv=HEAD + "".join(f"2024-01-01,u,o{n},i,1,10,{c}\n" for n, c in enumerate(["EUR", "", "CHF"]))
    )
    assert shop.rows("order_id", "currency") == [("o0", "EUR"), ("o1", None)]
    assert shop.reasons() == {"currency_without_rate": 1}


def test_a_rate_must_be_above_0(shop: Shop) -> None:
    with pytest.raises(SourceError, match="rates: every row of table rates must have a currency, a rate above 0"):
        shop.read(MONEY, top=RATES, log_csv=HEAD, rates_csv="c,d,r\nCHF,2024-01-01,0\n")


# --- people


@pytest.mark.parametrize(
    "word", ["NULL", "\\N", "undefined", "None", "nan", "0", "-1", "-1.0", "guest", "(not set)", "N/A"]
)
def test_words_for_nobody(word: str) -> None:
    assert is_nobody(word)
    assert pl.DataFrame({"x": [word]}).select(nobody(pl.col("x"), None)).item()


@pytest.mark.parametrize("word", ["17", "10", "-17", "nancy", "guest-house", "0a"])
def test_ids_that_are_somebody(word: str) -> None:
    assert not is_nobody(word)


def test_the_first_column_that_holds_a_person_counts_and_0_stays_a_price(shop: Shop) -> None:
    tables = LINES.replace("user_id: u", "user_id: [u, i]")
    shop.read(
        tables, log_csv=HEAD + "2024-01-01,guest,o1,17.0,1,0,0\n2024-01-02,0,o2,NULL,1,0,0\n2024-01-03,5,o3,x,1,0,0\n"
    )
    assert shop.rows("order_id", "user_id", "price") == [("o1", "17", 0.0), ("o3", "5", 0.0)]
    assert shop.reasons() == {"who_missing": 1}
    shop.read(tables, top="nobody: [x]\n", log_csv=HEAD + "2024-01-02,0,o2,x,1,0,0\n2024-01-02,x,o2,x,1,0,0\n")
    assert shop.rows("user_id") == [("0",)]


PEOPLE = """events:
  - table: log
    columns: {event_time: t, user_id: u, anonymous_id: a}
    constants: {event_name: search}
"""


def test_who_is_a_person_and_that_nobody_is_identified_is_reported(shop: Shop) -> None:
    log = "t,u,a\n2024-01-01,,b1\n2024-01-02,,b2\n"
    assert shop.read(PEOPLE, log_csv=log).events["user_id"].null_count() == 2
    assert shop.notes[0].startswith("log: no event has a user_id, so nobody is identified")
    shop.read(PEOPLE, top="person: [user_id, anonymous_id]\n", log_csv=log)
    assert (shop.rows("user_id"), shop.notes) == ([("b1",), ("b2",)], ())


def test_an_id_with_an_implausible_share_of_rows_is_reported(shop: Shop) -> None:
    log = "t,u,a\n" + "".join(f"2024-01-01 10:{n:02}:00,{'web' if n % 2 else n},\n" for n in range(40))
    shop.read(PEOPLE, None, log_csv=log)
    assert shop.notes == ("log: user_id 'web' has 20 rows, 51% of all: if it is not a person, add it to `nobody`",)


# --- which event


NTH = LINES + "    identified_by: [o, i, nth]\n"


@pytest.mark.parametrize("size", [TINY, None])
def test_equal_lines_are_several_events_and_a_file_read_twice_adds_none(shop: Shop, size: Size | None) -> None:
    log = HEAD + "2024-01-01,u,o1,i,1,2,\n" * 3 + "2024-01-01,u,o2,i,1,2,\n" + "2024-01-01,u,o1,i,1,2,\n"
    once = shop.read(NTH, size, log_csv=log).events["event_id"].to_list()
    assert len(set(once)) == 5
    again = shop.read(NTH.replace("table: log", 'table: "*"'), size, log_csv=log, copy_csv=log)
    assert again.events.height == 5
    assert sum(account.exact_duplicates for account in again.accounts.values()) == 5


def test_ids_do_not_depend_on_how_values_are_spelled(shop: Shop) -> None:
    first = shop.read(LINES, log_csv=HEAD + "2024-01-01 10:00:00,13085.0,o,i,2.0,6.50,\n").events["event_id"].to_list()
    other = shop.read(LINES, log_csv=HEAD + "2024-01-01T10:00:00Z,13085,o,i,2,6.5,\n").events["event_id"].to_list()
    assert first == other
    assert (
        first != shop.read(LINES, log_csv=HEAD + "2024-01-01T10:00:00Z,13085,o,i,3,6.5,\n").events["event_id"].to_list()
    )


ONCE = """events:
  - table: "*"
    each: lines
    columns: {event_time: t, event_name: e, user_id: u, order_id: o,
              item_id: lines.i, quantity: lines.q, price: lines.p}
    event_names: {buy: purchase, back: refund}
    once_per: [order_id, item_id]
"""


def test_an_order_that_is_sent_again_counts_once_in_any_file(shop: Shop) -> None:
    def record(day: int, name: str, *lines: tuple[str, int]) -> str:
        found = [{"i": item, "q": quantity, "p": 10.0} for item, quantity in lines]
        return json.dumps({"t": f"2024-01-0{day}", "e": name, "u": "u", "o": "o1", "lines": found}) + "\n"

    order = (("a", 2), ("b", 1), ("b", 1))  # b twice, say in two colours
    shop.read(
        ONCE,
        day1_jsonl=record(1, "buy", *order) + record(2, "buy", *order) + record(3, "back", ("a", 1)),
        day4_jsonl=record(4, "buy", *order) + record(5, "back", ("a", 1)),
    )
    assert shop.rows("event_name", "item_id", "amount") == [
        ("purchase", "a", 20.0),
        ("purchase", "b", 10.0),
        ("purchase", "b", 10.0),
        ("refund", "a", 10.0),
        ("refund", "a", 10.0),
    ]
    assert (shop.reasons("day1.jsonl"), shop.reasons("day4.jsonl")) == ({"sent_again": 3}, {"sent_again": 3})


VERSIONS = """events:
  - table: "*"
    columns: {event_id: n, event_time: t, user_id: u, item_id: i, price: p}
    constants: {event_name: purchase}
    version_by: changed
"""
DAY1 = "n,t,u,i,p,changed\n1,2024-01-01,ann,a,10,{0}\n2,2024-01-01,bob,b,20,{0}\n3,2024-01-01,eve,c,30,{1}\n"
AGAIN = "n,t,u,i,p,changed\n1,2024-01-01,ann,a,11,{1}\n2,2024-01-01,bob,b,20,{1}\n3,2024-01-01,eve,c,31,{0}\n"


@pytest.mark.parametrize(("old", "new"), [("9", "10"), ("2024-01-01 08:00:00", "2024-01-02")], ids=["number", "time"])
@pytest.mark.parametrize("size", [TINY, None])
def test_the_newest_version_of_an_event_counts_whichever_file_it_is_in(
    shop: Shop, size: Size | None, old: str, new: str
) -> None:
    shop.read(VERSIONS, size, day1_csv=DAY1.format(old, new), day2_csv=AGAIN.format(old, new))
    assert shop.rows("event_id", "price") == [("1", 11.0), ("2", 20.0), ("3", 30.0)]
    # The row that has not changed is a duplicate; no version is left in the attributes.
    assert (shop.reasons("day1.csv"), shop.reasons("day2.csv")) == ({"older_version": 1}, {"older_version": 1})
    assert sum(account.exact_duplicates for account in shop.accounts.values()) == 1
    assert shop.events["attributes"].list.len().sum() == 0


def test_rows_of_one_version_conflict_as_without_versions(shop: Shop) -> None:
    shop.read(VERSIONS, day1_csv=DAY1.format(1, 1), day2_csv=AGAIN.format(1, ""))
    assert shop.rows("event_id", "price") == [("1", 10.0), ("2", 20.0), ("3", 30.0)]
    assert shop.reasons("day2.csv") == {"event_id_with_other_content": 2}


def test_seen_counts_over_calls() -> None:
    seen = Seen()
    assert seen.before(pl.Series(["a", "b", "a"])).to_list() == [0, 0, 1]
    assert seen.before(pl.Series(["a", "c", "a"])).to_list() == [2, 0, 3]


# --- tables


def test_blanks_are_filled_by_key_over_pieces_and_not_without_one(shop: Shop) -> None:
    log = HEAD + "2024-01-01,ann,o1,a,1,1,\n2024-01-02,bob,o2,b,1,1,\n,,o1,c,1,1,\n, ,o2,d,1,1,\n,,,e,1,1,\n"
    shop.read(LINES + "    fill_down: {by: o, columns: [u, t]}\n", log_csv=log)
    assert shop.rows("item_id", "user_id") == [("a", "ann"), ("b", "bob"), ("c", "ann"), ("d", "bob")]
    assert shop.reasons() == {"event_time_missing": 1}


def test_several_joins_and_columns_under_either_name(shop: Shop) -> None:
    tables = """events:
  - table: lines
    join: [{table: orders, key: o}, {table: people, key: c}]
    columns: {event_time: t, user_id: [mail, email], item_id: i, order_id: o}
    constants: {event_name: purchase}
"""
    shop.read(tables, lines_csv="o,i\n1,a\n2.0,b\n", orders_csv="o,c,t\n1,7,2024-01-01\n2,8.0,2024-01-02\n",
              people_csv="c,email\n7,ann\n8,bob\n")  # fmt: skip
    assert shop.rows("item_id", "user_id", "order_id") == [("a", "ann", "1"), ("b", "bob", "2")]


def test_an_entry_reads_only_the_rows_that_it_names(shop: Shop) -> None:
    tables = LINES + "    only: [{column: a, above: 0}]\n"
    shop.read(tables, log_csv=HEAD + "2024-01-01,u,o1,i,1,1,\n2024-01-01,u,o2,i,1,1,5\n2024-01-01,u,o3,i,1,1,0\n")
    assert (shop.rows("order_id"), shop.accounts["log.csv"].rows_in) == ([("o2",)], 1)


def test_an_address_that_no_record_has_is_reported_with_the_nearest(shop: Shop) -> None:
    tables = PEOPLE.replace("anonymous_id: a", "item_id: what.skoo")
    shop.read(tables, log_jsonl='{"t": "2024-01-01", "u": "a", "what": {"sku": 1}}\n')
    assert shop.notes == ("log: no record has what.skoo; the nearest is what.sku",)
    with pytest.raises(MappingError, match=r"must have column\(s\) w"):
        shop.read(tables.replace("what.skoo", "w"), log_csv="t,u\n2024-01-01,a\n", log_jsonl="")


def test_the_title_of_an_item_is_the_most_frequent_one_that_was_known() -> None:
    def at(day: int) -> datetime:
        return datetime(2024, 1, day, tzinfo=UTC)

    titles = ["mailout", "Lamp", "Lamp", "Stool", "Stool", "Stool"]
    events = pl.DataFrame(
        {
            "item_id": "i",
            "_item:title": titles,
            "event_time": [at(n + 1) for n in range(6)],
            "ingested_at": [at(n + 1) for n in range(6)],
            "event_id": [str(n) for n in range(6)],
        }
    )
    none = pl.DataFrame(schema={"item_id": pl.String})
    seen = pl.Series(["i"])
    assert every_item(none, carried_content(events), seen)["title"].to_list() == ["Stool"]
    assert every_item(none, carried_content(events, at(5)), seen)["title"].to_list() == ["Lamp"]
    parts = merged_content(pl.concat([carried_content(events[:3]), carried_content(events[3:])]))
    assert every_item(none, parts, seen)["title"].to_list() == ["Stool"]


# --- times and numbers


@pytest.mark.parametrize(
    ("value", "form", "expected"),
    [
        ("20240301T100000Z", None, "2024-03-01T10:00:00"),
        ("20240301", None, "2024-03-01T00:00:00"),
        ("20240301100000", None, "2024-03-01T10:00:00"),
        ("2024-03-01T10:00:00.123456789+01:00", None, "2024-03-01T09:00:00.123456"),
        ("2024-3-1 9:05", None, "2024-03-01T09:05:00"),
        ("1433221452", "epoch", "2015-06-02T05:04:12"),
        ("1433221452000", "epoch", "2015-06-02T05:04:12"),
        ("1433221452000000", "epoch", "2015-06-02T05:04:12"),
        ("45123.5", "excel", "2023-07-16T12:00:00"),
        ("1433221452", None, "not_a_time"),
        ("1433221452", "epoch_ms", "implausible"),
        ("1994-12-31", None, "implausible"),
        ("2024-02-30", None, "not_a_time"),
        ("2024-01-01 24:00:00", None, "not_a_time"),
        (" ", None, None),
    ],
)
def test_each_time_is_read_by_itself(value: str, form: str | None, expected: str | None) -> None:
    neighbours = ["2024-01-01", "yesterday", "2024-01-01T00:00:00Z"]
    for values in ([value], [value, *neighbours], [*neighbours, value]):
        done = read_times(pl.DataFrame({"t": values}), "t", "UTC", () if form is None else (form,))
        time, fault = done.row(values.index(value))
        assert (time.replace(tzinfo=None).isoformat() if time else fault) == expected


def test_an_hour_that_the_zone_skips_and_one_that_comes_twice() -> None:
    frame = pl.DataFrame({"t": ["2024-03-31 02:30:00", "2024-10-27 02:30:00"]})
    done = read_times(frame, "t", "Europe/Berlin")
    assert done["fault"].to_list() == ["skipped_hour", None]
    assert done["time"][1] == datetime(2024, 10, 27, 0, 30, tzinfo=UTC)  # the first of the two


@pytest.mark.parametrize(
    ("time", "expected"),
    [("1631", "16:31"), ("9", "00:09"), ("0009", "00:09"), ("163159", "16:31"), ("16:31", "16:31"),
     ("4:31 PM", "16:31"), ("0.5", "12:00"), ("2460", None), ("x", None)],
)  # fmt: skip
def test_times_of_day(shop: Shop, time: str, expected: str | None) -> None:
    tables = PEOPLE.replace("event_time: t", "event_time: {date: t, time: a, start: 2017-01-01}").replace(
        ", anonymous_id: a", ""
    )
    shop.read(tables, log_csv=f"t,u,a\n2,u,{time}\n3,u,1000\n")
    found = shop.events["event_time"].dt.strftime("%Y-%m-%d %H:%M").to_list()
    assert found == ([f"2017-01-02 {expected}"] if expected else []) + ["2017-01-03 10:00"]
    assert shop.reasons() == ({} if expected else {"event_time_not_a_time": 1})


def test_several_formats_in_one_column(shop: Shop) -> None:
    tables = PEOPLE + '    time_format: ["%m/%d/%Y %H:%M", iso]\n'
    shop.read(tables, log_csv="t,u,a\n12/1/2009 7:45,u,\n2009-12-01 07:46:00,u,\n")
    assert shop.events["event_time"].dt.strftime("%d %H:%M").to_list() == ["01 07:45", "01 07:46"]


def test_declared_separators_decide_what_a_number_is(shop: Shop) -> None:
    tables = LINES + '    csv: {separator: ";", decimal: ",", thousands: "."}\n'
    values = {"1.299,00": 1299.0, "12,5": 12.5, "12.50": None, "€ 3": 3.0, "-0,5": -0.5, "1.29": None}
    rows = "".join(f"2024-01-01;u;o{n};i;1;;{value}\n" for n, value in enumerate(values))
    shop.read(tables, log_csv=HEAD.replace(",", ";") + rows)
    assert shop.rows("order_id", "amount") == [(f"o{n}", v) for n, v in enumerate(values.values()) if v is not None]
    assert shop.reasons() == {"amount_not_a_number": 2}


# --- side tables


def test_promotions_and_stock(shop: Shop) -> None:
    from events.sources.files import Labels
    from events.transform.side_tables import read_side

    sides = """promotions:
  table: leaflet
  columns:
    item_id: sku
    placement: [display, mailer]
    valid_from: {date: week, start: 2024-01-01, unit: w}
    valid_to: {date: week, start: 2024-01-08, unit: w}
stock: {table: stock, columns: {item_id: sku, as_of: at, units: n}}
"""
    leaflet = "sku,display,mailer,week\n1.0,front,A,2\n2,,B,x\n1,front,A,2\n"
    shop.read(
        LINES + sides,
        log_csv=HEAD + "2024-01-01,u,o,i,1,1,\n",
        leaflet_csv=leaflet,
        stock_csv="sku,at,n\n1,2024-01-01,3\n1,,2\n",
    )
    mapping = load_mapping(shop.folder / "shop.yaml")
    files = sorted((shop.folder / "in").iterdir())
    side = read_side(files, "promotions", mapping, Labels(files))
    week = datetime(2024, 1, 8, tzinfo=UTC)
    assert side.rows.rows() == [("1", None, "front > A", week, datetime(2024, 1, 15, tzinfo=UTC), week)]
    assert side.accounts["leaflet.csv"].line("leaflet").startswith("leaflet: 3 rows in = 1 accepted + 1 quarantined")
    side = read_side(files, "stock", mapping, Labels(files))
    assert side.rows["units"].to_list() == [3.0]
    assert side.accounts["stock.csv"].quarantined == {"as_of_missing": 1}


def test_a_version_that_cannot_be_read_is_quarantined(shop: Shop) -> None:
    shop.read(VERSIONS, day1_csv=DAY1.format("soon", 2**60), day2_csv=AGAIN.format(1, 2))
    assert shop.reasons("day1.csv") == {"version_not_readable": 3}
    assert shop.rows("event_id", "price") == [("1", 11.0), ("2", 20.0), ("3", 31.0)]


def test_the_person_that_the_mapping_names_must_be_known(shop: Shop) -> None:
    tables = LINES.replace("order_id: o", "anonymous_id: o")
    shop.read(tables, top="person: [anonymous_id]\n", log_csv=HEAD + "2024-01-01,u1,,a,1,1,\n2024-01-01,u1,d1,a,1,1,\n")
    assert (shop.rows("user_id"), shop.reasons()) == ([("d1",)], {"who_missing": 1})


@pytest.mark.parametrize("size", [Size(rows=1, bytes=1 << 20), None])
def test_an_id_written_as_a_float_does_not_depend_on_its_neighbours(shop: Shop, size: Size | None) -> None:
    shop.read(LINES, size, log_csv=HEAD + "2024-01-01,u1,o1,8.00,1,1,\n2024-01-01,u1,o1,7.0,1,1,\n")
    assert shop.rows("item_id") == [("7",), ("8",)]
