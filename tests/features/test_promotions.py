"""Promotions: what is announced for the coming days, counted by hand."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from features.catalogue import Catalogue
from features.promotions import Promotions, write_promotions
from shoplens.errors import FeatureError


@pytest.fixture
def catalogue() -> Catalogue:
    ids = pl.DataFrame({"item_id": ["a", "b"]}, schema={"item_id": pl.String})
    return Catalogue(ids)


MONDAY = datetime(2024, 3, 4, tzinfo=UTC)
DAY = timedelta(days=1)
SCHEMA = {
    "item_id": pl.String,
    "placement": pl.String,
    "valid_from": pl.Datetime("us", "UTC"),
    "valid_to": pl.Datetime("us", "UTC"),
    "known_at": pl.Datetime("us", "UTC"),
    "stores": pl.Int32,
}


def moment(when: datetime) -> int:
    return int(when.timestamp() * 1_000_000)


def read(rows: list[tuple], catalogue: Catalogue, path: Path, first: datetime = MONDAY) -> Promotions | None:
    write_promotions(pl.DataFrame(rows, schema=SCHEMA, orient="row"), catalogue, first, path)
    return Promotions.read(path)


def test_stores_that_announce_an_item_for_the_coming_week(catalogue: Catalogue, tmp_path: Path) -> None:
    one, two = catalogue.frame["item_id"].to_list()[:2]
    week = (MONDAY, MONDAY + 7 * DAY)
    found = read(
        [
            (one, "0 > A", *week, MONDAY - DAY, 10),
            (one, "5 > A", *week, MONDAY - DAY, 4),
            (two, "5 > 0", MONDAY - 7 * DAY, MONDAY + DAY, MONDAY - 8 * DAY, 7),
            (two, "0 > D", *week, MONDAY + 2 * DAY, 9),  # printed on Wednesday
            ("unheard of", "5 > A", *week, MONDAY - DAY, 3),
        ],
        catalogue,
        tmp_path / "promotions.parquet",
        first=MONDAY + DAY,
    )
    assert found is not None
    assert found.names == ("promoted_1", "promoted_1_5", "promoted_2", "promoted_2_A"), "D was not known at the time"
    first, second = catalogue.index_of([one, two])
    ahead = found.ahead(moment(MONDAY), catalogue.size)
    assert ahead[first].tolist() == [4, 4, 14, 14]
    assert ahead[second].tolist() == pytest.approx([1, 1, 0, 0]), "one of the seven days"
    assert ahead.sum() == pytest.approx(38)
    later = found.ahead(moment(MONDAY + 3 * DAY), catalogue.size)
    assert later[second].tolist() == pytest.approx([0, 0, 9 * 4 / 7, 0])
    assert found.ahead(moment(MONDAY + 7 * DAY), catalogue.size).sum() == 0, "over"


def test_a_promotion_without_a_placement_counts(catalogue: Catalogue, tmp_path: Path) -> None:
    rows = [("a", None, MONDAY, MONDAY + 7 * DAY, MONDAY - DAY, 1)]
    found = read(rows, catalogue, tmp_path / "promotions.parquet")
    assert found is not None
    assert found.names == ("promoted_1", "promoted_1_unnamed")
    assert found.ahead(moment(MONDAY), catalogue.size)[catalogue.index_of(["a"])[0]].tolist() == [1, 1]


def test_a_shop_without_promotions_has_none(catalogue: Catalogue, tmp_path: Path) -> None:
    assert read([], catalogue, tmp_path / "promotions.parquet") is None
    with pytest.raises(FeatureError, match="Run the stage features"):
        Promotions.read(tmp_path / "missing.parquet")
