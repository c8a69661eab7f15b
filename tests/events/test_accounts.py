"""rows in = accepted + quarantined by reason + exact duplicates, for every file and every place that reads it."""

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from events.account import TableAccount
from events.mapping import Mapping
from shoplens.errors import MappingError, SourceError
from tests.read_source import read_source

Load = Callable[[str], Mapping]
Write = Callable[..., Path]

ANY = """\
events:
  - table: "*"
    columns: {event_time: ts, user_id: who, item_id: sku}
    constants: {event_name: view_item}
"""
GIVEN_IDS = ANY.replace("{event_time", "{event_id: id, event_time")
SHOP = ANY.replace('"*"', "log") + "items: {table: products, columns: {item_id: sku, brand: brand, price: price}}\n"
HEAD, ANN, BOB = "ts,who,sku", "2024-07-01 10:00:00,ann,a", "2024-07-01 11:00:00,bob,b"


def test_item_content_of_a_row_without_an_item_is_no_error(mapping_of: Load, write: Write) -> None:
    mapping = mapping_of(ANY + "    items: {brand: brand}\n")
    bad = "soon,ann,c,nike"
    log = write("log.csv", HEAD + ",brand", ANN + ",acme", "2024-07-01 10:00:00,ann,,acme", bad)
    done = read_source(mapping, [log])
    assert done.accounts["log.csv"] == TableAccount(3, 2, {"event_time_not_a_time": 1}, 0)
    assert done.items.select("item_id", "brand").rows() == [("a", "acme")]


def test_two_files_of_one_name_have_an_account_each(mapping_of: Load, write: Write) -> None:
    first, second = write("x/log.csv", HEAD, ANN), write("y/log.csv", HEAD, ANN, BOB)
    done = read_source(mapping_of(ANY), [first, second])
    assert done.accounts == {"x/log.csv": TableAccount(1, 1, {}, 0), "y/log.csv": TableAccount(2, 1, {}, 1)}


def test_a_path_given_twice_is_read_once(mapping_of: Load, write: Write, tmp_path: Path) -> None:
    log = write("x/log.csv", HEAD, ANN)
    (tmp_path / "link.csv").symlink_to(log)
    done = read_source(mapping_of(ANY), [log, tmp_path / "x/../x/log.csv", log.parent, tmp_path / "link.csv"])
    assert done.accounts == {"log.csv": TableAccount(1, 1, {}, 0)}


def test_two_entries_on_one_table_make_two_events_of_a_row(mapping_of: Load, write: Write) -> None:
    entry = ANY.removeprefix("events:\n")
    mapping = mapping_of(ANY + entry.replace("view_item", "add_to_cart"))
    log = write("log.csv", HEAD, ANN, BOB)
    done = read_source(mapping, [log])
    assert done.accounts == {"log.csv": TableAccount(2, 2, {}, 0), "log.csv (events 2)": TableAccount(2, 2, {}, 0)}
    alone = read_source(mapping_of(ANY), [log]).events
    first = done.events.filter(pl.col("event_name") == "view_item")
    assert first["event_id"].to_list() == alone["event_id"].to_list(), "ids of the first entry stay"


def test_a_row_without_the_id_that_the_source_gives_is_quarantined(mapping_of: Load, write: Write) -> None:
    done = read_source(mapping_of(GIVEN_IDS), [write("log.csv", "id," + HEAD, f"1,{ANN}", f",{BOB}", f",{ANN}")])
    assert done.accounts["log.csv"] == TableAccount(3, 1, {"event_id_missing": 2}, 0)


def test_one_id_with_other_content_in_a_second_file_is_quarantined(mapping_of: Load, write: Write) -> None:
    first = write("a.csv", "id," + HEAD, f"1,{ANN}", f"2,{BOB}")
    second = write("b.csv", "id," + HEAD, f"3,{ANN}", f"1,{BOB}", f"2,{BOB}")
    done = read_source(mapping_of(GIVEN_IDS), [first, second])
    assert done.accounts["b.csv"] == TableAccount(3, 1, {"event_id_with_other_content": 1}, 1)
    (aside,) = done.quarantined.to_dicts()
    assert (aside["table"], aside["row"], json.loads(aside["raw"])["who"]) == ("b.csv", 1, "bob")


def test_equal_bad_rows_of_two_files_are_both_kept(mapping_of: Load, write: Write) -> None:
    files = [write(name, HEAD, "soon,ann,a") for name in ("a.csv", "b.csv")]
    assert read_source(mapping_of(ANY), files).quarantined["table"].to_list() == ["a.csv", "b.csv"]


def test_a_side_table_has_an_account(mapping_of: Load, write: Write) -> None:
    rows = ["a,acme,1.5", "a,acme,1.5", ",acme,2", "b,acme,much", "b,acme,nan", "b,bold,"]
    products = write("products.csv", "sku,brand,price", *rows)
    done = read_source(mapping_of(SHOP), [write("log.csv", HEAD, ANN), products])
    reasons = {"item_id_missing": 1, "price_not_a_number": 2}
    assert done.accounts["products.csv"] == TableAccount(6, 2, reasons, 1)
    assert done.items.select("item_id", "brand", "price").rows() == [("a", "acme", 1.5), ("b", "bold", None)]
    assert done.quarantined["row"].to_list() == [2, 3, 4]


def test_a_side_table_in_two_files_with_different_columns_is_read_whole(mapping_of: Load, write: Write) -> None:
    files = [write("x/products.csv", "sku,brand", "a,acme"), write("y/products.csv", "sku,price", "b,2")]
    done = read_source(mapping_of(SHOP), [write("log.csv", HEAD, ANN), *files])
    assert done.items.select("item_id", "brand", "price").rows() == [("a", "acme", None), ("b", None, 2.0)]
    assert done.accounts["y/products.csv"] == TableAccount(1, 1, {}, 0)


CAMPAIGNS = """\
campaigns:
  table: sent
  columns: {campaign_id: c, user_id: who, start_time: start}
  join: {table: kinds, key: c}
"""


def test_a_joined_table_is_in_the_account_of_its_main_table(mapping_of: Load, write: Write) -> None:
    sent = write("sent.csv", "c,who", "1,ann", "2,bob", "3,eve")
    kinds = write("kinds.csv", "c,start", "1,2024-01-01", "1,2024-01-01", "2,soon")
    done = read_source(mapping_of(ANY.replace('"*"', "log") + CAMPAIGNS), [write("log.csv", HEAD, ANN), sent, kinds])
    assert set(done.accounts) == {"log.csv", "sent.csv"}
    # 3 is in no joined row: its start is not known
    assert done.accounts["sent.csv"] == TableAccount(3, 2, {"start_time_not_a_time": 1}, 0)


def test_a_joined_table_with_two_rows_a_key_is_rejected(mapping_of: Load, write: Write) -> None:
    kinds = write("kinds.csv", "c,start", "1,2024-01-01", "1,2024-02-01")
    files = [write("log.csv", HEAD, ANN), write("sent.csv", "c,who", "1,ann"), kinds]
    with pytest.raises(
        SourceError, match=r"kinds\.c: a joined table must have one row per key; received several for '1'"
    ):
        read_source(mapping_of(ANY.replace('"*"', "log") + CAMPAIGNS), files)


def test_a_file_given_by_name_that_no_table_reads_is_rejected(mapping_of: Load, write: Write) -> None:
    mapping = mapping_of(ANY.replace('"*"', "log"))
    log, other = write("log.csv", HEAD, ANN), write("clicks.csv", HEAD, ANN)
    with pytest.raises(SourceError, match=r"reads \(log\); received clicks\.csv") as caught:
        read_source(mapping, [log, other])
    assert "\n" not in str(caught.value)
    assert read_source(mapping, [log.parent]).unread == ("clicks.csv",)


def test_a_time_that_is_a_bare_number_needs_its_unit(mapping_of: Load, tmp_path: Path) -> None:
    for values in ([1_719_828_000], [True]):
        pl.DataFrame({"ts": values, "who": ["ann"], "sku": ["a"]}).write_parquet(tmp_path / "log.parquet")
        with pytest.raises(MappingError, match=r"time_format: .*column ts of type"):
            read_source(mapping_of(ANY), [tmp_path / "log.parquet"])
