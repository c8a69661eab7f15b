"""Rows that a lake set aside: listed, corrected, replayed."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from events.account import TableAccount
from events.lake import Snapshot
from events.replay import quarantined, reasons_by_table, replay, write_rows
from shoplens.errors import SettingsError, SourceError
from tests.lake_content import lake_digest, read_events
from tests.read_source import append, lake_accounts, read_source

TABLES = """events:
  - table: log
    columns: {event_time: t, user_id: u, event_name: what, item_id: i, price: p}
    event_names: {view: view_item}
"""
HEAD = "t,u,what,i,p"
GOOD = "2024-01-01,u1,view,i1,1.5"


@pytest.fixture
def shop(mapping_of, write, tmp_path: Path):
    """A lake of five rows of which three are set aside, and its mapping."""
    mapping = mapping_of(TABLES)
    source = write(
        "log.csv", HEAD, GOOD, "soon,u1,view,i2,1", "2024-01-02,,view,i3,dear", GOOD, "2024-01-03,u2,look,i4,2"
    )
    lake = tmp_path / "lake"
    append(lake, mapping, read_source(mapping, [source]))
    return lake, mapping


def corrected(lake: Path, tmp_path: Path, **change: str) -> Path:
    """Write the quarantine out, with columns of every row changed."""
    path = tmp_path / "rows.jsonl"
    write_rows(quarantined(lake), path)
    rows = [json.loads(line) | change for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_list_names_table_and_reason(shop) -> None:
    lake, _ = shop
    assert sorted(reasons_by_table(quarantined(lake))) == [
        ("log.csv", "event_name_unknown", 1),
        ("log.csv", "event_time_not_a_time", 1),
        ("log.csv", "price_not_a_number", 1),
        ("log.csv", "who_missing", 1),
    ]
    assert quarantined(lake, "who_missing")["row"].to_list() == [2]


def test_corrected_rows_go_in_and_leave_the_quarantine(shop, tmp_path: Path) -> None:
    lake, mapping = shop
    rows = corrected(lake, tmp_path, t="2024-01-05", u="u9", what="view", p="3")
    assert replay(lake, mapping, rows) == {"log.csv": TableAccount(3, 3)}
    assert read_events(lake)["item_id"].sort().to_list() == ["i1", "i2", "i3", "i4"]
    assert quarantined(lake).is_empty()
    assert [entry["tables"]["log.csv"]["accepted"] for entry in lake_accounts(lake)] == [1, 3]


def test_replayed_again_nothing_changes(shop, tmp_path: Path) -> None:
    lake, mapping = shop
    rows = corrected(lake, tmp_path, t="2024-01-05", u="u9", what="view", p="3")
    replay(lake, mapping, rows)
    before = lake_digest(lake), Snapshot(lake).version
    assert replay(lake, mapping, rows) == {"log.csv": TableAccount(3, 0, {}, 3)}
    assert (lake_digest(lake), Snapshot(lake).version) == before


def test_what_is_still_wrong_stays_under_its_row_with_the_reasons_of_now(shop, tmp_path: Path) -> None:
    lake, mapping = shop
    rows = corrected(lake, tmp_path, t="2024-01-05", u="u9", p="3")
    assert replay(lake, mapping, rows) == {"log.csv": TableAccount(3, 2, {"event_name_unknown": 1})}
    left = quarantined(lake)
    assert left.select("table", "row", "reasons").rows() == [("log.csv", 4, ["event_name_unknown"])]
    assert json.loads(left["raw"][0])["t"] == "2024-01-05"


def test_some_rows_may_be_replayed_alone(shop, tmp_path: Path) -> None:
    lake, mapping = shop
    rows = corrected(lake, tmp_path, t="2024-01-05", u="u9", what="view", p="3")
    rows.write_text(rows.read_text().splitlines()[1] + "\n")
    replay(lake, mapping, rows)
    assert quarantined(lake)["row"].sort().to_list() == [1, 4]


def test_a_row_corrected_into_one_that_the_lake_has_is_a_duplicate(shop, tmp_path: Path) -> None:
    lake, mapping = shop
    rows = corrected(lake, tmp_path, t="2024-01-01", u="u1", what="view", i="i1", p="1.5")
    assert replay(lake, mapping, rows) == {"log.csv": TableAccount(3, 0, {}, 3)}
    assert quarantined(lake).is_empty()
    assert read_events(lake).height == 1


def test_elements_of_records_are_replayed_as_they_were_quarantined(mapping_of, write, tmp_path: Path) -> None:
    tables = (
        "events:\n  - table: log\n    each: basket\n    columns: {event_id: n, event_time: t, user_id: u, "
        "item_id: basket.sku, price: basket.price}\n    constants: {event_name: purchase}\n"
    )
    record = {
        "n": "m1",
        "t": "2024-01-01",
        "u": "u1",
        "basket": [{"sku": "a", "price": "1"}, {"sku": "b", "price": "x"}],
    }
    mapping, lake = mapping_of(tables), tmp_path / "lake"
    append(lake, mapping, read_source(mapping, [write("log.jsonl", json.dumps(record))]))
    rows = corrected(lake, tmp_path, **{"basket.price": "2"})
    assert replay(lake, mapping, rows) == {"log.jsonl": TableAccount(1, 1)}
    assert read_events(lake).sort("event_id").select("event_id", "item_id", "price").rows() == [
        ("m1:0", "a", 1.0),
        ("m1:1", "b", 2.0),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"_table": "log.csv", "_row": 1, "t": "2024-01-01"}', "_batch: every line must have it"),
        ('{"_batch": "1", "_row": 1, "t": "2024-01-01"}', "_table: every line must have it"),
        ('{"_batch": "1", "_table": "log.csv", "t": "2024-01-01"}', "_row: every line must have it"),
        (
            '{"_batch": "1", "_table": "people.csv", "_row": 1, "u": "x"}',
            "must be a table of events .* shop reads.*people",
        ),
        ("no json", "cannot be read as jsonl"),
    ],
)
def test_a_file_of_another_kind_is_rejected(shop, write, line: str, message: str) -> None:
    lake, mapping = shop
    before = lake_digest(lake), Snapshot(lake).version
    with pytest.raises(SourceError, match=message):
        replay(lake, mapping, write("rows.jsonl", line))
    assert (lake_digest(lake), Snapshot(lake).version) == before


def test_only_the_row_of_its_own_batch_leaves_the_quarantine(mapping_of, write, tmp_path: Path) -> None:
    mapping, lake = mapping_of(TABLES), tmp_path / "lake"
    for day in (1, 2):  # two files of one name, in each of which row 0 is bad
        source = write(f"{day}/log.csv", HEAD, f"2024-01-0{day},u1,view,i{day},dear", f"2024-01-0{day},u1,view,i9,1")
        append(lake, mapping, read_source(mapping, [source]))
    rows = corrected(lake, tmp_path, p="3")
    rows.write_text(next(line for line in rows.read_text().splitlines() if '"i1"' in line) + "\n")
    assert replay(lake, mapping, rows) == {"log.csv": TableAccount(1, 1)}
    assert [json.loads(raw)["i"] for raw in quarantined(lake)["raw"]] == ["i2"]
    assert read_events(lake)["item_id"].to_list() == ["i1", "i9", "i9"]


def test_the_command(shop, tmp_path: Path, call: Callable[..., str]) -> None:
    lake = ("--lake", str(shop[0]))
    listed = call("quarantine", "list", *lake, "--reason", "who_missing", "--out", "rows.jsonl")
    assert "log.csv: who_missing 1" in listed
    assert "1 rows written to" in listed
    with pytest.raises(SettingsError, match="--mapping: required for replay"):
        call("quarantine", "replay", *lake)
    path = tmp_path / "rows.jsonl"
    path.write_text(path.read_text().replace('"u": null', '"u": "u9"').replace("dear", "3"))
    done = call("quarantine", "replay", *lake, "--mapping", "shop.yaml", "--rows", "rows.jsonl")
    assert done == "log.csv, replayed: 1 rows in = 1 accepted + 0 quarantined + 0 exact duplicates\n"


def test_a_replayed_element_is_the_same_event_as_in_the_corrected_file(mapping_of, tmp_path: Path) -> None:
    mapping = mapping_of("""events:
  - table: log
    columns: {event_time: t, user_id: u, item_id: lines.i, price: lines.p}
    constants: {event_name: purchase}
    each: lines
""")
    lake, source = tmp_path / "lake", tmp_path / "in/log.jsonl"
    source.parent.mkdir()
    record = {"t": "2024-01-01", "lines": [{"i": "a", "p": 1}, {"i": "b", "p": 2}]}
    source.write_text(json.dumps(record) + "\n")
    append(lake, mapping, read_source(mapping, [source]))
    replay(lake, mapping, corrected(lake, tmp_path, u="ann"))
    source.write_text(json.dumps(record | {"u": "ann"}) + "\n")
    done = append(lake, mapping, read_source(mapping, [source]))
    assert done == {"log.jsonl": TableAccount(2, 0, {}, 2)}


def test_rows_whose_id_counts_lines_are_not_replayed(mapping_of, write, tmp_path: Path) -> None:
    mapping = mapping_of(TABLES + "    identified_by: [t, u, nth]\n")
    lake = tmp_path / "lake"
    append(lake, mapping, read_source(mapping, [write("log.csv", HEAD, GOOD, "2024-01-02,u1,look,i2,1")]))
    with pytest.raises(SourceError, match=r"log\.csv cannot be replayed: identified_by .*revert"):
        replay(lake, mapping, corrected(lake, tmp_path, what="view"))
