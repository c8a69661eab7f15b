"""The feature catalogue: distributions worked out by hand, and what the page shows and keeps to itself."""

import math
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest

from features.definitions import COMPUTED, VIEW_MEANING, VIEWS
from features.page.page import (
    BINS,
    Numbers,
    TableDistribution,
    Texts,
    numbers,
    share,
    short,
    table_distribution,
    template,
)
from shoplens.errors import FeatureError
from shoplens.files import read_json
from tests.features.conftest import STORY, USERS, at, contract_log, event, log

draw = template("distribution.html").module.distribution  # type: ignore[attr-defined]
FIRST, LAST = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC)


@pytest.fixture
def connection() -> Iterator[Any]:
    with duckdb.connect() as open_one:
        open_one.execute("SET TimeZone = 'UTC'")
        yield open_one


# --- numbers ---


def test_quantiles_and_bins_by_hand() -> None:
    # 1 .. 100: the q-th hundredth is q. Bins reach from 1 to 99, each 98 / 24 = 4.083 wide: the first holds 1 .. 5
    # (5.083 begins the second), the last 95 .. 99 (94.917 begins it) and 100, which lies outside.
    found = numbers(np.arange(100, 0, -1), rows=110)
    assert found.quantiles == {0: 1, 1: 1, 25: 25, 50: 50, 75: 75, 99: 99, 100: 100}
    assert (found.rows, found.missing, found.bounds) == (110, 10, (1, 99))
    assert (found.bins[0], found.bins[1], found.bins[-1]) == (5, 4, 6)
    assert (len(found.bins), sum(found.bins)) == (BINS, 100)


def test_what_lies_outside_is_in_the_bins_at_the_ends() -> None:
    # 500 numbers: the 1st hundredth is the 5th, the 99th the 495th. -1000 and 9000 are outside of 0 .. 24.
    values = np.array([-1000.0] * 4 + [0.0] * 246 + [24.0] * 246 + [9000.0] * 4)
    found = numbers(values, rows=500)
    assert (found.bounds, found.quantiles[0], found.quantiles[100]) == ((0, 24), -1000, 9000)
    assert found.bins == (250, *(0,) * 22, 250)


def test_where_nearly_all_is_one_value_the_bins_reach_to_the_ends() -> None:
    # 999 zeros and one 48: hundredths 1 and 99 are both 0, so bins reach from 0 to 48.
    found = numbers(np.array([0] * 999 + [48]), rows=1000)
    assert found.bounds == (0, 48)
    assert found.bins == (999, *(0,) * 22, 1)


@pytest.mark.parametrize(
    ("values", "bins", "missing"),
    [([], (), 4), ([7.0, 7.0, 7.0], (3,), 1), ([math.nan, 7.0, math.inf], (1,), 3)],
    ids=["none", "all equal", "no numbers"],
)
def test_columns_without_a_spread(values: list[float], bins: tuple[int, ...], missing: int) -> None:
    found = numbers(np.array(values), rows=4)
    assert (found.bins, found.missing) == (bins, missing)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.1 + 0.2, "0.3"),
        (2.4837, "2.48"),
        (1980, "1980"),
        (12_340, "12.3k"),
        (-25_000, "-25k"),
        (4_100_000, "4.1M"),
        (3.0e9, "3G"),
        (0.00012345, "0.000123"),
    ],
)
def test_short_numbers(value: float, text: str) -> None:
    assert short(value) == text


@pytest.mark.parametrize(
    ("part", "text"), [(0.0, "0%"), (1.0, "100%"), (0.0001, "< 0.1%"), (0.9999, "> 99.9%"), (0.125, "12.5%")]
)
def test_shares_say_all_and_nothing_only_if_it_is_so(part: float, text: str) -> None:
    assert share(part) == text


# --- tables ---


def table(folder: Path, **columns: list[Any]) -> Path:
    path = folder / "view.parquet"
    pl.DataFrame(columns).write_parquet(path)
    return path


def test_of_the_last_snapshot_only(connection: Any, tmp_path: Path) -> None:
    path = table(tmp_path, event_timestamp=[FIRST, LAST, LAST, LAST], money=[99.0, 1.0, None, 3.0], day=[1, 2, 2, 2])
    found = table_distribution(connection, path, {"money": "currency"}, frozenset(), all_rows=False)
    assert (found.moment, found.rows, set(found.features)) == (LAST, 3, {"money"})
    money = found.features["money"]
    assert isinstance(money, Numbers)
    assert (money.missing, money.quantiles[0], money.quantiles[50], money.quantiles[100]) == (1, 1.0, 1.0, 3.0)


def test_of_all_rows(connection: Any, tmp_path: Path) -> None:
    path = table(tmp_path, event_timestamp=[FIRST, LAST], year=[1980, None])
    found = table_distribution(connection, path, {"year": "year"}, frozenset(), all_rows=True)
    assert (found.moment, found.rows, found.features["year"].missing) == (None, 2, 1)


def test_frequent_names_and_equals_by_the_alphabet(connection: Any, tmp_path: Path) -> None:
    words = ["pear"] * 3 + ["fig"] * 2 + ["apple"] * 2 + list("abcdefgh") + [None]
    path = table(tmp_path, event_timestamp=[LAST] * len(words), fruit=words)
    found = table_distribution(connection, path, {"fruit": "name"}, frozenset({"fruit"}), all_rows=False).features[
        "fruit"
    ]
    top = (("pear", 3), ("apple", 2), ("fig", 2), ("a", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 1))
    assert found == Texts(rows=16, missing=1, different=11, top=top)
    assert "and 3 other values" in draw(found)
    assert "20.0%" in draw(found)  # 3 of 15


def test_lists_are_their_lengths_and_ids_are_counted(connection: Any, tmp_path: Path) -> None:
    path = table(
        tmp_path, event_timestamp=[LAST] * 3, ids=[["a", "b"], [], ["b", "c", "d"]], prices=[[0.5], [0.5, 0.5], None]
    )
    found = table_distribution(
        connection, path, {"ids": "id", "prices": "currency"}, frozenset(), all_rows=False
    ).features
    ids, prices = found["ids"], found["prices"]
    assert isinstance(ids, Numbers)
    assert isinstance(prices, Numbers)
    assert (ids.quantiles[0], ids.quantiles[50], ids.quantiles[100], ids.lengths, ids.different) == (0, 2, 3, True, 4)
    assert (prices.missing, prices.quantiles[100], prices.different) == (1, 2, None)


def test_a_table_without_rows_and_a_column_with_a_strange_name(connection: Any, tmp_path: Path) -> None:
    name = 'so "called", ;'
    path = tmp_path / "view.parquet"
    schema = {"event_timestamp": pl.Datetime("us", "UTC"), name: pl.Int32, "text": pl.String, "ids": pl.List(pl.String)}
    pl.DataFrame(schema=schema).write_parquet(path)
    found = table_distribution(
        connection, path, {name: "count", "text": "name", "ids": "id"}, frozenset({"text"}), all_rows=False
    )
    assert found == TableDistribution(
        None,
        0,
        {
            name: Numbers(0, 0, {}, (0.0, 0.0), ()),
            "text": Texts(0, 0, 0, ()),
            "ids": Numbers(0, 0, {}, (0.0, 0.0), (), lengths=True, different=0),
        },
    )
    assert all("No value" in draw(one) for one in found.features.values())


# --- the page, as the stage writes it ---


def page_of(shop: Any) -> str:
    return (shop.features_dir / "features.html").read_text(encoding="utf-8")


def test_every_feature_is_there_once(story: Any) -> None:
    entries = read_json(story.features_dir / "features.json")["features"]
    rows = re.findall(r'<article id="([^"]+)"', page_of(story))
    assert sorted(rows) == sorted(f"{e['view']}.{e['name']}" for e in entries)
    assert re.findall(r'<section id="([^"]+)"', page_of(story)) == list(VIEW_MEANING)
    assert page_of(story).count("Computed for each request.") == sum(map(len, COMPUTED.values()))


def test_a_row_says_what_is_known(story: Any) -> None:
    # On 8 January: Ann has 2 orders in 90 days, Bob 1. Both have a mean basket: 8 / 2 = 4 and 9.
    (row,) = re.findall(r'(?s)<article id="user_behaviour.mean_basket_90d".*?</article>', page_of(story))
    for text in (
        "Money per order in the last 90 days. Missing: no order.",
        "<dd>currency of the shop</dd>",
        "<dd>90 days</dd>",
        "<dd>data-team</dd>",
        "read by purchase, profile, user_state",
        "<b>4</b> min",
        "<b>9</b> max",
    ):
        assert text in row


def test_what_people_typed_or_told_and_ids_stay_out(
    new_shop: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ("user_search", "user_preference")
    monkeypatch.setattr("features.stages.VIEWS", tuple(view for view in VIEWS if view.name in texts))
    shop = new_shop()
    users = USERS.with_columns(
        user_id=pl.lit("u-") + pl.col("user_id"), city=pl.lit("Upper Nowhere"), gender=pl.lit("secretive")
    )
    when = "2024-01-01 10:00"
    bought = {"item_id": "bread", "quantity": 1.0, "amount": 2.0, "order_id": "o-77"}
    searched = event("u-ann", when, "search", session_id="s-1", query="cure for a rare illness")
    shop.put(contract_log(searched, event("u-ann", when, **bought)), users=users, end=at("2024-01-08 00:00"))
    shop.build()
    assert shop.snapshot("user_search", "u-ann", "2024-01-08")["top_search_90d"] == "cure for a rare illness"
    page = page_of(shop)
    for hidden in ("rare illness", "u-ann", "u-bob", "Nowhere", "secretive", "o-77", "bread", "2023-12-24"):
        assert hidden not in page, hidden
    assert '<span class="word">Food</span>' in page  # a category is the shop's own word
    assert "<b>1</b> different values. The values are not shown." in page


def test_markup_in_names_is_text_and_nothing_is_loaded_from_elsewhere(new_shop: Callable[..., Any]) -> None:
    shop = new_shop(owners={"default": "<b>data</b> & co", "user_profile": "people"})
    column = '<script>alert("1")</script>'
    shop.put(log(STORY), users=USERS.rename({"city": column}), end=at("2024-01-08 00:00"), source="<i>shop</i>")
    shop.build()
    page = page_of(shop)
    assert "<script>alert" not in page
    assert "<b>data" not in page
    assert "<i>shop" not in page
    assert page.count("<script>") == 1
    assert "&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt;" in page
    assert "&lt;b&gt;data&lt;/b&gt; &amp; co" in page
    assert "default-src 'none'" in page
    assert not re.findall(r"https?://|<link|<img|@import|\bsrc=|url\(", page)


def test_owners_are_those_of_the_parameters(new_shop: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("features.stages.VIEWS", tuple(view for view in VIEWS if view.name == "user_search"))
    shop = new_shop(owners={"default": "data-team", "user_search": "search-team"})
    shop.put(log(STORY), end=at("2024-01-08 00:00"))
    shop.build()
    entries = read_json(shop.features_dir / "features.json")["features"]
    assert {e["view"] for e in entries if e["owner"] == "search-team"} == {"user_search"}
    assert {e["owner"] for e in entries} == {"data-team", "search-team"}
    assert "<dd>search-team</dd>" in page_of(shop)


def test_an_owner_of_no_view_is_refused(new_shop: Callable[..., Any]) -> None:
    shop = new_shop(owners={"default": "data-team", "user_behavior": "web-team"})
    shop.put(log(STORY))
    with pytest.raises(
        FeatureError, match=r"features\.owners: must name views .*user_behaviour.*'user_behavior'.*params"
    ):
        shop.build()
    assert not shop.features_dir.exists()
