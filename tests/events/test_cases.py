"""Exports as shops really have them: each small file with the money, people, times and counts worked out by hand."""

import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from case_reading import CASES, MAPPINGS, Done, guessed, ingest, shipped

from events.guess.propose import propose
from events.mapping import Mapping, load_mapping
from shoplens.errors import SourceError


def with_csv(mapping: Mapping, **dialect: str) -> Mapping:
    """Return a mapping whose first table is written in another dialect."""
    first, *rest = mapping.events
    changed = first.model_copy(update={"csv": first.csv.model_copy(update=dialect)})
    return mapping.model_copy(update={"events": (changed, *rest)})


# --- money


def test_segment_lines_have_price_times_quantity() -> None:
    """Six people with five orders each of 2 at 20.00 and 1 at 5.50."""
    done = ingest(shipped("segment"), CASES / "segment_money/track.jsonl")
    assert done.events.height == 90
    bought = done.events.filter(pl.col("event_name") == "purchase")
    assert bought.group_by("user_id").agg(pl.col("amount").sum())["amount"].to_list() == [227.5] * 6
    assert done.total() == 1365.0


def test_a_row_of_rees46_is_one_piece() -> None:
    done = ingest(shipped("rees46"), CASES / "money_missing/2019-Oct.csv")
    assert sorted(done.events.filter(pl.col("event_name") == "purchase")["amount"]) == [0.0, 130.76, 642.69, 642.69]
    assert done.events.height == 7


def test_a_price_of_0_is_unknown_at_yoochoose() -> None:
    folder = CASES / "money_missing"
    done = ingest(shipped("yoochoose"), folder / "yoochoose-buys.dat", folder / "yoochoose-clicks.dat")
    bought = done.events.filter(pl.col("event_name") == "purchase").sort("amount", nulls_last=True)
    assert bought["amount"].to_list() == [1883.0, 12462.0, 20942.0, None]  # 2 at 10471
    assert done.events.height == 6


def test_google_retail_lines_have_price_times_quantity() -> None:
    done = ingest(shipped("google_retail"), CASES / "money_missing/retail_events.jsonl")
    assert done.rows("item_id", "amount", event_name="purchase") == [("A", 20.0), ("B", 3.0)]


def test_ga4_refunds_and_orders_without_lines() -> None:
    done = ingest(shipped("ga4"), CASES / "ga4_refund/events_20240101.jsonl")
    assert done.rows("order_id", "item_id", "amount", event_name="refund") == [("T1", None, 25.5), ("T2", "A", 10.0)]
    assert done.rows("order_id", "item_id", "amount", event_name="purchase") == [
        ("T1", "A", 20.0),
        ("T1", "B", 5.5),
        ("T2", "A", 20.0),
        ("T2", "C", 7.0),
        ("T3", None, 49.9),  # without items: one event of the order
        ("T4", "A", 30.0),
        ("T4", "D", 2.0),  # without a quantity: one piece
    ]
    assert done.quarantined.is_empty()


def test_negative_amounts_are_refunds_and_discounts_reduce_their_order() -> None:
    file = CASES / "negative_amount/lines.csv"
    mapping = guessed(file)
    assert mapping.events[0].negative_amount == "refund"
    done = ingest(mapping, file)
    assert done.rows("order_id", "quantity", "amount", event_name="refund") == [("R2", 1.0, 10.0), ("R4", 1.0, 5.0)]
    assert done.rows("order_id", "item_id", "amount", event_name="purchase") == [
        ("R1", "P1", 20.0),
        ("R3", "P2", 5.0),
        ("R5", "P3", 10.0),  # 12.50 - 2.50
    ]
    assert done.reasons() == {"discount_of_order": 1, "quantity_zero": 1}
    assert "DISCOUNT" not in done.events["item_id"].to_list()


def test_negative_amounts_with_german_numbers_and_another_word_for_a_discount(write) -> None:
    file = write(
        "bons.csv",
        "Datum;Kundennr;Bonnummer;Artikel;Menge;Betrag",
        "13.01.2024 10:00;k1;B1;P1;2;1.020,00",
        "14.01.2024 10:00;k1;B1;Rabatt 10%;1;-20,00",
        "15.01.2024 10:00;k2;B2;P2;1;-7,50",
    )
    done = ingest(guessed(file), file)
    assert done.rows("order_id", "item_id", "amount", event_name="purchase") == [("B1", "P1", 1000.0)]
    assert done.rows("order_id", "item_id", "amount", event_name="refund") == [("B2", "P2", 7.5)]


# --- people


def test_where_nobody_logs_in_the_pseudonym_is_the_person() -> None:
    done = ingest(shipped("ga4"), CASES / "ga4_no_user/events.jsonl")
    assert done.events.height == 144
    assert done.events["user_id"].null_count() == 0
    assert done.events["user_id"].n_unique() == 6


def test_a_log_in_which_nobody_is_identified_is_reported() -> None:
    done = ingest(shipped("ga4", person=("user_id",)), CASES / "ga4_no_user/events.jsonl")
    assert done.events["user_id"].null_count() == 144
    assert any("nobody is identified" in message for message in done.messages)


def test_words_for_nobody_are_nobody() -> None:
    file = CASES / "words_for_nobody/events.csv"
    done = ingest(guessed(file), file)
    assert sorted(done.events["user_id"].drop_nulls()) == ["17", "17", "18"]
    assert done.reasons() == {"who_missing": 15}


def test_words_for_nobody_leave_prices_alone(write) -> None:
    """The session identifies the visit where nobody is known: the six prices of 0.0 stay, and so do all 18 rows."""
    lines = (CASES / "words_for_nobody/events.csv").read_text().splitlines()
    log = write("log.csv", f"{lines[0]},anonymous_id", *(f"{line},a{n}" for n, line in enumerate(lines[1:])))
    done = ingest(guessed(log, person="[user_id]"), log)
    assert set(done.events["user_id"].drop_nulls()) == {"17", "18"}
    assert done.events.height == 18
    assert (done.events["price"] == 0.0).sum() == 6


def test_an_id_with_an_implausible_share_of_rows_is_reported(write) -> None:
    lines = [
        f"2024-05-{1 + n % 28:02}T{n % 24:02}:00:{n // 28:02}Z,view,{'kiosk' if n % 2 else f'u{n}'},P1,1.0"
        for n in range(200)
    ]
    file = write("log.csv", "event_time,event_type,user_id,product_id,price", *lines)
    done = ingest(guessed(file), file)
    assert any("'kiosk'" in message and "50%" in message for message in done.messages)


# --- which event


def test_an_order_that_is_sent_again_counts_once() -> None:
    done = ingest(shipped("ga4"), CASES / "ga4_resent_order/events_20240101.jsonl")
    assert done.rows("order_id", "item_id", "amount", event_name="purchase") == [("T9", "A", 20.0)]
    (account,) = done.accounts.values()
    assert (account.rows_in, account.accepted) == (3, 1)


def test_two_equal_lines_of_one_record_are_two_lines(tmp_path: Path) -> None:
    record = json.loads((CASES / "ga4_resent_order/events_20240101.jsonl").read_text().splitlines()[0])
    record["items"] *= 2
    (tmp_path / "events.jsonl").write_text(json.dumps(record) + "\n")
    assert ingest(shipped("ga4"), tmp_path / "events.jsonl").total() == 40.0


def test_equal_lines_are_pieces_and_reading_again_adds_nothing(tmp_path: Path) -> None:
    """3 + 2 pieces of .0508, 1 + 4 of .0305, one of .0152, one of .0169: .4386 in total."""
    file = CASES / "equal_lines/transactions_train.csv"
    done = ingest(shipped("hm"), file)
    assert done.events.height == 12
    assert done.total() == pytest.approx(0.4386)
    assert done.events["item_id"].unique().sort().to_list() == ["0505221004", "0541518023", "0663713001", "0685687003"]
    again = ingest(shipped("hm"), file)
    assert again.events["event_id"].equals(done.events["event_id"])


# --- numbers and files


EU_ORDERS = [
    ("5001", "A-1", 12.5, 25.0),
    ("5001", "A-2", 1299.0, 1299.0),
    ("5002", "A-1", 12.5, 12.5),
    ("5003", "A-3", 7.95, 23.85),
]


@pytest.mark.parametrize("file", ["orders_bom.csv", "orders_1252.csv", "orders_en.csv"])
def test_decimal_commas(file: str) -> None:
    """Order 5004 is at 02:30 on the day on which Berlin's clocks go from 2 to 3; the customer of 5005 is 0."""
    done = ingest(guessed(CASES / "decimal_comma" / file, time_zone="Europe/Berlin"), CASES / "decimal_comma" / file)
    assert done.rows("order_id", "item_id", "price", "amount") == EU_ORDERS
    assert done.reasons() == {"event_time_skipped_hour": 1, "who_missing": 1}
    assert done.events["event_time"].min() == datetime(2024, 3, 5, 13, 22, tzinfo=UTC)
    titles = set(done.content.filter(pl.col("name") == "title")["value"])
    assert titles == {"Käse jung", "Wein rot", "Öl"}


def test_an_encoding_that_is_not_declared_is_rejected_with_row_column_and_remedy() -> None:
    mapping = load_mapping(CASES / "decimal_comma/eu.yaml")
    with pytest.raises(SourceError, match=r"encoding") as error:
        ingest(mapping, CASES / "decimal_comma/orders_1252.csv")
    assert "cp1252" in str(error.value)
    assert "polars" not in str(error.value).lower()


@pytest.mark.parametrize(
    ("separator", "encoding", "price", "expected"),
    [
        ("\t", "utf-16", "1.299,00", 1299.0),
        ("|", "cp1252", "1 299,50", 1299.5),
        (";", "utf-8-sig", "1'299.50", 1299.5),
        (";", "utf-8", "12,5", 12.5),
        (",", "utf-8", '"1,299.00"', 1299.0),
    ],
)
def test_other_dialects(tmp_path: Path, separator: str, encoding: str, price: str, expected: float) -> None:
    file = tmp_path / "größen.csv"
    head = separator.join(["order_date", "customer_id", "sku", "price", "größe"])
    rows = [separator.join([f"2024-01-{n:02} 10:00:00", f"k{n}", "A", price, "weiß"]) for n in range(1, 6)]
    file.write_bytes("\r\n".join([head, *rows, ""]).encode(encoding))
    done = ingest(guessed(file), file)
    assert done.events["price"].to_list() == [expected] * 5
    assert done.events["attributes"].list.first().struct.field("value").to_list() == ["weiß"] * 5


@pytest.mark.parametrize(("file", "rows"), [("searches.tsv", 16), ("one_odd.tsv", 11), ("mysql_escapes.csv", 10)])
def test_quotes_that_are_not_quotes(file: str, rows: int) -> None:
    done = ingest(guessed(CASES / "tsv_quotes" / file), CASES / "tsv_quotes" / file)
    assert done.events.height == rows
    assert done.quarantined.is_empty()


def test_values_of_unbalanced_quotes_do_not_mix() -> None:
    file = CASES / "tsv_quotes/searches.tsv"
    done = ingest(with_csv(load_mapping(CASES / "tsv_quotes/search.yaml"), quote="none", escape="none"), file)
    assert done.events.filter(pl.col("item_id") == "I1").select("query", "price").rows() == [('"red shoes', 11.0)]
    assert done.events.filter(pl.col("item_id") == "I3").select("query", "price").rows() == [('desk 27"', 13.0)]


def test_backslashes_before_quotes() -> None:
    done = ingest(guessed(CASES / "tsv_quotes/mysql_escapes.csv"), CASES / "tsv_quotes/mysql_escapes.csv")
    titles = done.content.filter(pl.col("name") == "title")
    assert dict(titles.select("item_id", "value").rows())["I0"] == '27" Monitor, black'


# --- times


def test_day_numbers_and_times_of_day() -> None:
    """Day 1 is 2017-01-01 and day 711 is 2018-12-12; New York is five hours behind UTC in winter."""
    done = ingest(shipped("dunnhumby"), CASES / "day_number_and_hhmm/transaction_data.csv")
    times = dict(done.events.select("item_id", "event_time").rows())
    assert times["1004906"] == datetime(2017, 1, 1, 21, 31, tzinfo=UTC)
    assert times["883404"] == datetime(2018, 12, 12, 5, 9, tzinfo=UTC)  # 9 is 00:09
    assert done.rows("item_id", "quantity", "amount", event_name="refund") == [("1102207", 1.0, 9.09)]
    assert done.total() == 18.26  # 1.39 + 0.82 + 1.98 + 2.99 + 1.99 + 0 + 9.09


def test_mixed_units_of_epochs() -> None:
    done = ingest(shipped("retailrocket"), CASES / "epoch_mixed/events.csv")
    assert done.events.height == 12
    assert done.events["event_time"].dt.date().unique().to_list() == [datetime(2015, 6, 2, tzinfo=UTC).date()]


def test_a_unit_that_is_named_wrongly_is_implausible(write) -> None:
    file = write("events.csv", "timestamp,visitorid,event,itemid", "1433221332,1,view,2", "1433221332117,2,view,3")
    mapping = shipped("retailrocket")
    spec = mapping.events[0].model_copy(update={"time_format": "epoch_ms", "columns": {
        name: source for name, source in mapping.events[0].columns.items() if name != "order_id"
    }})  # fmt: skip
    done = ingest(mapping.model_copy(update={"events": (spec,)}), file)
    assert done.reasons() == {"event_time_implausible": 1}
    assert done.events.height == 1


def test_a_time_that_is_empty_now_and_then() -> None:
    file = CASES / "guess_gaps/two_of_twenty.csv"
    mapping = guessed(file)
    assert mapping.events[0].columns["event_time"] == "created_at"
    done = ingest(mapping, file)
    assert (done.events.height, done.reasons()) == (18, {"event_time_missing": 2})
    assert done.total() == 90.0


# --- tables


@pytest.mark.parametrize("file", ["orders_export.csv", "orders_created.csv"])
def test_shopify(file: str) -> None:
    done = ingest(shipped("shopify", currency="EUR"), CASES / "shopify_orders" / file)
    assert done.rows("order_id", "user_id", "item_id", "amount", event_name="purchase") == [
        ("#1001", "ana@example.com", "CRM", 19.0),
        ("#1001", "ana@example.com", "MSK", pytest.approx(104.7)),
        ("#1001", "ana@example.com", "SOP", 9.0),
        ("#1002", "ben@example.com", "MSK", 34.9),
        ("#1002", "ben@example.com", "SOP", 4.5),
        ("#1003", "ana@example.com", "MSK", 69.8),
        ("#1006", None, "SOP", 9.0),
        ("#1006", None, "SOP", 9.0),
    ]
    assert done.rows("order_id", "amount", event_name="refund") == [("#1002", 39.4), ("#1003", 34.9)]
    assert done.reasons() == {"currency_without_rate": 2, "voided_order": 1}
    assert done.events["currency"].unique().to_list() == ["EUR"]


def test_shopify_with_a_rate(tmp_path: Path) -> None:
    (tmp_path / "rates.csv").write_text("code,eur\nCHF,1.1\n")
    mapping = shipped("shopify", currency="EUR").model_dump()
    mapping["rates"] = {"table": "rates", "columns": {"currency": "code", "rate": "eur"}}
    for entry in mapping["events"]:
        entry["table"] = "orders_export"
    done = ingest(Mapping.model_validate(mapping), CASES / "shopify_orders/orders_export.csv", tmp_path / "rates.csv")
    assert done.rows("item_id", "amount", "currency", order_id="#1005") == [
        ("Gift card", pytest.approx(55.0), "EUR"),
        ("Tip", pytest.approx(5.5), "EUR"),
    ]


def test_both_editions_of_online_retail_are_the_same_events() -> None:
    first, second = (
        ingest(shipped("online_retail"), CASES / "online_retail_ii" / n) for n in ("data.csv", "online_retail_II.csv")
    )
    for done in (first, second):
        assert done.rows("item_id", "user_id", "amount") == [
            ("22041", "13085", pytest.approx(100.8)),
            ("79323P", "13085", 81.0),
            ("85048", "13085", pytest.approx(83.4)),
            ("22087", "16321", pytest.approx(35.4)),
        ]
        assert done.events["event_name"].to_list().count("refund") == 1
        assert done.reasons() == {"bad_debt_adjustment": 1, "service_line": 5, "stock_correction": 1}
    assert first.events["event_id"].sort().equals(second.events["event_id"].sort())
    assert first.events["event_time"].sort().equals(second.events["event_time"].sort())


def test_both_editions_in_one_lake_are_duplicates(call) -> None:
    words = ("ingest", "--mapping", str(MAPPINGS / "online_retail.yaml"), "--lake", "lake")
    folder = CASES / "online_retail_ii"
    assert "4 accepted + 7 quarantined" in call(*words, str(folder / "data.csv"))
    assert "0 accepted + 7 quarantined" in (second := call(*words, str(folder / "online_retail_II.csv")))
    assert "4 exact duplicates" in second


def test_equal_lines_in_a_copy_of_their_file_add_nothing(call, tmp_path: Path) -> None:
    words = ("ingest", "--mapping", str(MAPPINGS / "hm.yaml"), "--lake", "lake")
    file = CASES / "equal_lines/transactions_train.csv"
    assert "12 accepted" in call(*words, str(file))
    (tmp_path / "again").mkdir()
    copy = tmp_path / "again/transactions_train.csv"
    copy.write_text(file.read_text() + "2020-09-06,c4,0663713001,0.0508,2\n")
    assert "13 rows in = 1 accepted + 0 quarantined + 12 exact duplicates" in call(*words, str(copy))


def test_the_command_prints_what_was_found(call) -> None:
    typo, file = CASES / "address_typo/typo.yaml", CASES / "address_typo/track.jsonl"
    text = call("ingest", "--mapping", str(typo), "--lake", "lake", str(file))
    assert "no record has properties.products.prize; the nearest is properties.products.price\n" in text
    assert "6 of 6 purchase events (100%) have no amount" in text


# --- nested records


def test_an_address_that_no_record_has_is_reported_with_the_nearest() -> None:
    done = ingest(load_mapping(CASES / "address_typo/typo.yaml"), CASES / "address_typo/track.jsonl")
    shown = [message for message in done.messages if "properties.products.prize" in message]
    assert len(shown) == 1
    assert "properties.products.price" in shown[0]
    assert any("properties.orderNumber" in message for message in done.messages)
    assert done.events.height == 10


def test_the_same_calls_by_the_shipped_mapping() -> None:
    """m6 and the refunds are sent without products, and are events of their order."""
    done = ingest(shipped("segment"), CASES / "address_typo/track.jsonl")
    assert done.rows("order_id", "item_id", "amount", event_name="purchase")[:4] == [
        ("O1", "P1", 39.98),
        ("O1", "P2", 5.5),
        ("O2", "P1", 39.98),  # its products have `id` in place of product_id
        ("O3", None, 39.98),
    ]
    assert ("O5", None, 25.0) in done.rows("order_id", "item_id", "amount", event_name="purchase")
    assert ("O1", None, 45.48) in done.rows("order_id", "item_id", "amount", event_name="refund")


def test_a_record_of_another_type_is_quarantined_alone() -> None:
    done = ingest(shipped("segment"), CASES / "mixed_types/products2.jsonl")
    assert done.rows("order_id", "item_id", "amount") == [("1", "A", 1.0)]
    (account,) = done.accounts.values()
    assert (account.accepted, sum(account.quarantined.values())) == (1, 1)


def test_json_in_text_is_read() -> None:
    done = ingest(shipped("segment"), CASES / "mixed_types/products3.jsonl")
    assert done.rows("order_id", "item_id", "amount") == [("1", "A", 1.0), ("3", "C", 3.0)]


# --- proposals


@pytest.mark.parametrize("name", ["log.json", "log.xlsx", "log.zip"])
def test_the_proposal_rejects_unknown_kinds_as_ingest_does(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04")
    with pytest.raises(SourceError, match="unknown kind of file") as guess:
        propose(tmp_path / name)
    with pytest.raises(SourceError) as error:
        ingest(shipped("ga4"), tmp_path / name)
    assert str(guess.value) == str(error.value)


def every_case() -> list[Path]:
    return sorted(p for p in CASES.rglob("*") if p.suffix in (".csv", ".tsv", ".jsonl"))


@pytest.mark.parametrize("file", every_case(), ids=lambda p: f"{p.parent.name}/{p.name}")
def test_what_is_proposed_can_be_ingested(file: Path) -> None:
    done: Done = ingest(guessed(file), file)
    assert not done.events.is_empty()
    assert done.events["event_time"].min() > datetime(1995, 1, 1, tzinfo=UTC)  # type: ignore[operator]
