from pathlib import Path

import polars as pl
import pytest

from events.account import TableAccount
from events.ingest import read_source
from events.lake import append, freeze_lake, read_frozen
from events.mapping import load_mapping
from shoplens.digest import folder_digest
from shoplens.errors import SourceError

MAPPING = """\
name: shop
identity: user
time_zone: UTC
events:
  - table: "*"
    columns: {event_id: id, event_time: ts, user_id: who, item_id: sku}
    constants: {event_name: view_item}
"""
ROWS = ["1,2024-07-01 10:00:00,ann,a", "2,2024-07-01 11:00:00,bob,b", "3,2024-07-02 10:00:00,ann,c"]


def ingest(folder: Path, lake: Path, rows: list[str]) -> TableAccount:
    (folder / "shop.yaml").write_text(MAPPING)
    (folder / "log.csv").write_text("\n".join(["id,ts,who,sku", *rows]) + "\n")
    mapping = load_mapping(folder / "shop.yaml")
    return append(lake, mapping, read_source(mapping, [folder / "log.csv"]))["log.csv"]


def test_events_lie_by_day_and_reading_again_changes_nothing(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    assert ingest(tmp_path, lake, ROWS) == TableAccount(3, 3, {}, 0)
    assert sorted(p.name for p in (lake / "events").iterdir()) == ["event_date=2024-07-01", "event_date=2024-07-02"]
    before = folder_digest(lake / "events")
    assert ingest(tmp_path, lake, ROWS) == TableAccount(3, 0, {}, 3)
    assert folder_digest(lake / "events") == before


def test_a_late_event_lands_in_its_own_day_and_other_days_stay(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    ingest(tmp_path, lake, ROWS)
    second = (lake / "events/event_date=2024-07-02/part.parquet").read_bytes()
    assert ingest(tmp_path, lake, ["9,2024-07-01 10:30:00,eve,a"]) == TableAccount(1, 1, {}, 0)
    first = pl.read_parquet(lake / "events/event_date=2024-07-01/part.parquet")
    assert first["event_id"].to_list() == ["1", "9", "2"], "in the order of time"
    assert (lake / "events/event_date=2024-07-02/part.parquet").read_bytes() == second


def test_an_id_that_the_lake_holds_with_another_content_is_set_aside(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    ingest(tmp_path, lake, ROWS)
    account = ingest(tmp_path, lake, [ROWS[0].replace(",a", ",z"), ROWS[1]])
    assert account == TableAccount(2, 0, {"event_id_with_other_content": 1}, 1)
    assert "z" in pl.read_parquet(lake / "quarantine.parquet")["raw"][0]


def test_a_frozen_lake_is_the_events_in_order(tmp_path: Path) -> None:
    lake, frozen = tmp_path / "lake", tmp_path / "frozen"
    ingest(tmp_path, lake, ROWS[::-1])
    frozen.mkdir()
    freeze_lake(lake, frozen)
    done = read_frozen(frozen)
    assert done.events["event_id"].to_list() == ["1", "2", "3"]
    assert done.accounts["lake"] == TableAccount(3, 3, {}, 0)


def test_a_folder_of_other_things_is_no_lake(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/letter.txt").write_text("dear")
    with pytest.raises(SourceError, match="holds other things"):
        ingest(tmp_path, tmp_path / "home", ROWS)
