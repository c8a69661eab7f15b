"""A simulated shop: its log holds against the truth beside it, and the account of ingest against the dirt in it."""

import subprocess
import sys
from dataclasses import replace
from datetime import date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from events.mapping import Mapping, load_mapping
from shoplens.errors import SettingsError
from shoplens.files import folder_digest, read_json
from simulator.draws import keys, normal, pick, poisson, uniform
from simulator.log import KINDS, unique_ids
from simulator.plan import Plan, read_dirt
from simulator.run import simulate
from simulator.visits import choose, expected_units, open_shop, user_days, visits_of
from simulator.world import build_world, next_mood
from tests.read_source import Ingested, read_source

DAYS, USERS = 28, 1_500
START = date(2025, 2, 3)  # a Monday
CLEAN = Plan(users=USERS, items=400, days=DAYS, seed=7, start=START, events=60_000, bots=0.004)
# Kinds that affect reviews alone need more of them to be seen at all.
DIRT = {kind: 0.4 if KINDS[kind].affects == "review" else 0.02 for kind in KINDS}
SMALL = Plan(users=300, items=60, days=6, seed=3, events=6_000, dirt=DIRT, bots=0.01)
TIME = "%Y-%m-%d %H:%M:%S%.f"


@pytest.fixture(scope="module")
def mapping(root: Path) -> Mapping:
    return load_mapping(root / "events/mappings/simulated.yaml")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("clean") / "shop"
    simulate(CLEAN, out)
    return out


@pytest.fixture(scope="module")
def log(clean: Path) -> pl.DataFrame:
    """The log with `ts` as a time, and its order in the file."""
    return pl.read_parquet(clean / "log.parquet").with_columns(pl.col("ts").str.to_datetime(TIME))


@pytest.fixture(scope="module")
def visits(clean: Path) -> pl.DataFrame:
    return pl.read_parquet(clean / "truth/visits.parquet")


@pytest.fixture(scope="module")
def dirty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dirty") / "shop"
    simulate(SMALL, out)
    return out


@pytest.fixture(scope="module")
def read(dirty: Path, mapping: Mapping) -> Ingested:
    return read_source(mapping, [dirty])


def rows_with(folder: Path) -> dict[str, int]:
    return {kind: told["rows"] for kind, told in read_json(folder / "simulation.json")["dirt"].items()}


# --- the same again ---------------------------------------------------------------------------------------------------


def test_the_same_arguments_give_the_same_bytes_whatever_the_chunk(dirty: Path, tmp_path: Path) -> None:
    simulate(SMALL, tmp_path / "again", chunk=37)
    assert folder_digest(tmp_path / "again") == folder_digest(dirty)


def test_another_seed_gives_another_shop(dirty: Path, tmp_path: Path) -> None:
    simulate(replace(SMALL, seed=4), tmp_path / "other")
    for name in ("log", "products", "customers", "truth/users"):
        assert not pl.read_parquet(tmp_path / f"other/{name}.parquet").equals(
            pl.read_parquet(dirty / f"{name}.parquet")
        )


def test_an_earlier_simulation_is_replaced_and_anything_else_is_not(tmp_path: Path) -> None:
    tiny = Plan(users=5, items=3, days=2, seed=0)
    simulate(tiny, tmp_path / "shop")
    simulate(tiny, tmp_path / "shop")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shop"], "nothing is left beside it"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").touch()
    with pytest.raises(SettingsError, match=r"--out: must be a new or an empty folder, or an earlier simulation"):
        simulate(tiny, tmp_path / "mine")
    with pytest.raises(SettingsError, match=r"--out: must be a folder that can be made"):
        simulate(tiny, tmp_path / "mine/thesis.txt/shop")


@pytest.mark.parametrize("asked", [4_000, 60_000])
def test_the_log_has_about_the_size_that_is_asked_for(asked: int, tmp_path: Path) -> None:
    # Some 9 rows a visit that vary about as much: sqrt(4,000 / 9) visits are 5 % off; bots' walks of 150 rows more.
    counts = simulate(Plan(users=2_000, items=100, days=5, seed=1, events=asked), tmp_path / "shop")
    assert counts.rows == pytest.approx(asked, rel=0.15)


# --- the account ------------------------------------------------------------------------------------------------------


def test_a_clean_log_loses_no_row(clean: Path, mapping: Mapping) -> None:
    done = read_source(mapping, [clean])
    told = read_json(clean / "simulation.json")
    assert {name: (a.rows_in, a.accepted) for name, a in done.accounts.items()} == {
        "log.parquet": (told["rows"], told["rows"]),
        "products.parquet": (400, 400),
        "customers.parquet": (USERS, USERS),
        "promos.parquet": (done.campaigns.height, done.campaigns.height),
    }
    assert set(done.events["event_name"].unique()) == {
        *("view_item_list", "select_item", "view_item", "search", "add_to_cart", "remove_from_cart"),
        *("begin_checkout", "purchase", "refund", "review", "view_promotion", "select_promotion"),
    }
    assert done.unread == (), "truth is not looked into"


def test_every_kind_of_dirt_is_in_the_account(dirty: Path, read: Ingested) -> None:
    rows = rows_with(dirty)
    assert all(rows[kind] > 0 for kind in KINDS)
    at_ingest = {KINDS[kind].becomes: count for kind, count in rows.items() if KINDS[kind].at == "ingest"}
    again = at_ingest.pop("exact_duplicates")
    account = read.accounts["log.parquet"]
    assert account.quarantined == at_ingest
    assert account.exact_duplicates == again
    assert account.rows_in == read_json(dirty / "simulation.json")["rows"]


def test_what_a_suite_must_find_is_there_and_nothing_else(dirty: Path, read: Ingested) -> None:
    found = read.events.select(
        negative_price=(pl.col("price") < 0).sum(),
        missing_item=((pl.col("event_name") == "purchase") & pl.col("item_id").is_null()).sum(),
        rating_out_of_range=(pl.col("rating") > 5).sum(),
        future_clock=(pl.col("ingested_at") < pl.col("event_time")).sum(),
        late=(pl.col("ingested_at") - pl.col("event_time") > pl.duration(days=1)).sum(),
    )
    rows = rows_with(dirty)
    assert found.to_dicts() == [{kind: rows[kind] for kind in found.columns}]


@pytest.mark.stores
def test_the_suites_find_every_row_that_is_theirs(dirty: Path, read: Ingested, tmp_path: Path) -> None:
    from expectations.validator import TableValidator, open_tables

    read.events.write_parquet(tmp_path / "events.parquet")
    with open_tables(tmp_path / "tables.duckdb", {"events": [tmp_path / "events.parquet"]}) as context:
        result = TableValidator(context, tmp_path / "tables.duckdb").validate("events")
    rows = rows_with(dirty)
    # the amount of a row follows from its price, where it has a quantity
    reasons = {KINDS[kind].becomes for kind in KINDS if KINDS[kind].at == "validate"}
    assert set(result.failed) == {*reasons, "amount_negative"}
    of_column = {column: count for _, column, count in result.expectations if count}
    assert of_column == {
        "ingested_at": rows["future_clock"],
        "item_id": rows["missing_item"],
        "price": rows["negative_price"],
        "amount": read.events.filter(pl.col("amount") < 0).height,
        "rating": rows["rating_out_of_range"],
    }


def test_rows_out_of_order_lie_after_later_ones(tmp_path: Path) -> None:
    simulate(replace(SMALL, dirt={"out_of_order": 0.05}), tmp_path / "shop")
    rows = pl.read_parquet(tmp_path / "shop/log.parquet")
    late = rows.filter(pl.col("ts").str.to_datetime(TIME) < pl.col("ts").str.to_datetime(TIME).cum_max())
    assert late.height == rows_with(tmp_path / "shop")["out_of_order"] > 0


def test_a_rate_is_the_share_of_the_rows_that_a_kind_can_affect(tmp_path: Path) -> None:
    simulate(replace(SMALL, dirt={"negative_price": 0.1}), tmp_path / "shop")
    prices = pl.read_parquet(tmp_path / "shop/log.parquet")["unit_price"].drop_nulls()
    hit = rows_with(tmp_path / "shop")["negative_price"]
    assert hit == prices.str.starts_with("-").sum()
    # binomial: four standard deviations of a share of 0.1
    assert hit == pytest.approx(0.1 * len(prices), abs=4 * (0.1 * 0.9 * len(prices)) ** 0.5)


# --- the truth --------------------------------------------------------------------------------------------------------


def calibrated(frame: pl.DataFrame, chance: str, outcome: str) -> None:
    """Hold, in every tenth of the rows by their true chance, the outcomes against their sum.

    Independent outcomes of chances p have the variance sum p (1 - p); ten tenths leave four standard deviations with a
    probability of 0.0006.
    """
    tenth = pl.col(chance).rank("ordinal") * 10 // (pl.len() + 1)
    for _, part in frame.group_by(tenth.alias("tenth")):
        true, seen = part[chance], part[outcome].sum()
        assert abs(seen - true.sum()) <= 4 * (true * (1 - true)).sum() ** 0.5 + 1e-9


def test_the_log_has_exactly_the_orders_of_the_truth(log: pl.DataFrame, visits: pl.DataFrame) -> None:
    orders = log.filter(pl.col("action") == "order")
    bought = visits.filter("buys")
    assert orders["order_no"].n_unique() == bought.height
    online = bought.filter(pl.col("platform") != "store")
    assert set(orders["visit"].drop_nulls()) == set(online["visit_id"])


def test_visits_lead_to_orders_as_often_as_is_true(visits: pl.DataFrame) -> None:
    calibrated(visits, "purchase_probability", "buys")


@pytest.mark.parametrize("days", [1, 7])
def test_people_buy_within_days_as_often_as_is_true(clean: Path, visits: pl.DataFrame, days: int) -> None:
    by_user = pl.read_parquet(clean / "truth/user_days.parquet")
    bought = visits.filter("buys").select("user_id", pl.col("start_time").dt.date().alias("date")).unique()
    marked = by_user.join(bought.with_columns(pl.lit(1).alias("bought")), on=["user_id", "date"], how="left")
    week = (pl.col("date") - START).dt.total_days() // days
    spans = marked.group_by("user_id", week.alias("span")).agg(
        (1 - (-pl.col("purchase_rate").sum()).exp()).alias("true"), pl.col("bought").max().fill_null(0)
    )
    if days == 1:
        assert spans["true"].sum() == pytest.approx(by_user["purchase_probability"].sum())
    calibrated(spans, "true", "bought")


def test_visits_come_as_often_as_is_true(clean: Path, visits: pl.DataFrame) -> None:
    expected = pl.read_parquet(clean / "truth/user_days.parquet").group_by("date").agg(pl.col("visits").sum())
    seen = visits.group_by(pl.col("start_time").dt.date().alias("date")).len()
    both = expected.join(seen, on="date", validate="1:1")
    assert both.height == DAYS
    # Poisson: the variance is the mean. 28 days leave 4.5 standard deviations with a probability of 0.0002.
    assert ((both["len"] - both["visits"]).abs() <= 4.5 * both["visits"].sqrt()).all()
    # A week of the season's slope is less than 5 %; Saturday has 1.15 / 0.95 of Monday's visits, so 1.21.
    of = {weekday: both.filter(pl.col("date").dt.weekday() == weekday)["visits"].sum() for weekday in (1, 6)}
    assert 1.1 < of[6] / of[1] < 1.3


def test_articles_sell_as_much_as_is_true(clean: Path, log: pl.DataFrame) -> None:
    expected = pl.read_parquet(clean / "truth/demand.parquet").group_by("item_id").agg(pl.col("expected_units").sum())
    sold = log.filter(pl.col("action") == "order").group_by(pl.col("sku").alias("item_id")).agg(pl.col("qty").sum())
    both = expected.join(sold, on="item_id", how="left").fill_null(0)
    assert both["qty"].sum() == log.filter(pl.col("action") == "order")["qty"].sum(), "no sale of what was not shown"
    # X of L units are of one article, each with chance q: E[X^2] / E[X] = 1 + q E[L(L-1)] / E[L]. With L = 1 + a
    # binomial of three draws of chance x that is at most 1 + (6x + 6x^2) / (1 + 3x): 3.1 for the highest x, 0.6.
    near = 5 * (3.1 * both["expected_units"]).sqrt() + 3
    assert ((both["qty"] - both["expected_units"]).abs() <= near).all()
    assert both["qty"].sum() == pytest.approx(both["expected_units"].sum(), rel=0.08)
    assert np.corrcoef(both["qty"], both["expected_units"])[0, 1] > 0.9


def test_units_fall_on_what_is_shown_as_often_as_is_true() -> None:
    world = replace(build_world(Plan(users=20_000, items=400, days=1, seed=11)), scale=8.0)
    today = user_days(world, 0, next_mood(11, 0, None, 20_000), np.arange(20_000))
    visits = visits_of(world, 0, today)
    done = choose(world, open_shop(world, 0), visits)
    assert done.chance[done.shown].min() > 0
    assert done.chance[~done.shown].max() == 0
    assert done.chance.sum(axis=1) == pytest.approx(1)
    expected = (visits.buys * expected_units(world, visits.user))[:, None] * done.chance
    edges = np.quantile(done.chance[done.shown], np.linspace(0, 1, 11))
    for low, high in pairwise(edges):
        within = done.shown & (done.chance >= low) & (done.chance < high)
        # As above; with the x of 0.19 of the average person the variance is below 2 times that of a Poisson count.
        assert abs(done.units[within].sum() - expected[within].sum()) <= 4 * (2 * expected[within].sum()) ** 0.5


def test_people_buy_what_they_like(clean: Path, log: pl.DataFrame) -> None:
    users = pl.read_parquet(clean / "truth/users.parquet")
    categories = pl.read_parquet(clean / "truth/categories.parquet")["category"].to_list()
    preference = np.stack(users["preference"].to_numpy())  # (users, categories)
    assert preference.sum(axis=1) == pytest.approx(1, abs=1e-5)
    place = {name: nth for nth, name in enumerate(categories)}
    section = pl.read_parquet(clean / "products.parquet").select("sku", "section")
    sold = log.filter(pl.col("action") == "order").join(section, on="sku")
    who = sold["customer"].str.strip_prefix("u").cast(pl.Int64).to_numpy()
    what = sold["section"].replace_strict(place, return_dtype=pl.Int64).to_numpy()
    liked = preference[who, what].mean()
    # People without tastes would buy from every category alike: at the mean preference of it.
    assert liked > 2 * preference.mean(axis=0)[what].mean()
    # five of twenty categories are a quarter of them
    best = np.argsort(-preference, axis=1)[:, : len(categories) // 4]
    assert (best[who] == what[:, None]).any(axis=1).mean() > 0.6


def test_mood_lasts(clean: Path) -> None:
    moods = pl.read_parquet(clean / "truth/user_days.parquet").sort("user_id", "date")
    pairs = moods.with_columns(pl.col("mood").shift(1).over("user_id").alias("before")).drop_nulls()
    # AR(1): the correlation of neighbours is 0.9, the variance 1
    assert np.corrcoef(pairs["mood"], pairs["before"])[0, 1] == pytest.approx(0.9, abs=0.01)
    assert moods["mood"].std() == pytest.approx(1, abs=0.05)


# --- the log ----------------------------------------------------------------------------------------------------------


def test_time_never_goes_back_and_ids_are_unique(log: pl.DataFrame) -> None:
    assert log["ts"].is_sorted()
    assert log["id"].n_unique() == log.height
    assert log["ts"].min() >= datetime(2025, 2, 3), "not before the first day"  # noqa: DTZ001  (times are UTC)
    later = log.filter(pl.col("action").is_in(["return", "review"]))
    assert later["ts"].max() < datetime(2025, 3, 3)  # noqa: DTZ001


def test_people_dwell_until_their_next_step(log: pl.DataFrame) -> None:
    after = log.filter(pl.col("visit").is_not_null()).with_columns(
        (pl.col("ts").shift(-1).over("visit") - pl.col("ts")).dt.total_milliseconds().alias("wait")
    )
    viewed = after.filter(
        (pl.col("action") == "product") & pl.col("seconds").is_not_null() & pl.col("wait").is_not_null()
    )
    assert viewed.height > 1_000
    assert (viewed["wait"] == (viewed["seconds"] * 1000).round()).all()


def test_an_order_follows_its_baskets_and_a_return_its_order(log: pl.DataFrame) -> None:
    of = {action: log.filter(pl.col("action") == action) for action in ("basket_add", "order", "return", "checkout")}
    online = of["order"].filter(pl.col("visit").is_not_null())
    in_basket = online.join(of["basket_add"], on=["visit", "sku", "qty"], how="inner")
    assert in_basket.height == online.height
    assert (in_basket["ts_right"] < in_basket["ts"]).all()
    assert set(online["visit"]) <= set(of["checkout"]["visit"])
    back = of["return"].join(of["order"], on=["order_no", "sku", "customer", "qty", "unit_price"], validate="1:1")
    assert back.height == of["return"].height > 0
    # two days at least, from the start of the visit, which takes less than half a day
    assert ((back["ts"] - back["ts_right"]).dt.total_hours() >= 36).all()
    assert of["order"].group_by("order_no").len()["len"].max() > 1, "orders of several lines"


def test_people_use_their_platforms(clean: Path, log: pl.DataFrame, visits: pl.DataFrame) -> None:
    store, online = (log.filter((pl.col("channel") == "store") == inside) for inside in (True, False))
    assert set(store["action"].unique()) == {"order", "return", "review"}
    assert store["customer"].null_count() == 0
    assert store["visitor"].null_count() == store.height
    devices = online.drop_nulls(["visitor", "customer"]).group_by("visitor")
    assert (devices.agg(pl.col("customer").n_unique(), pl.col("channel").n_unique()).drop("visitor") == 1).min().row(
        0
    ) == (
        True,
        True,
    )
    platforms = visits.group_by("user_id").agg(pl.col("platform").n_unique())["platform"]
    assert 0.3 < (platforms > 1).mean() < 0.9
    assert (platforms <= 4).all()


def test_a_visit_that_is_known_stays_known(log: pl.DataFrame) -> None:
    known = log.filter(pl.col("visit").is_not_null()).with_columns(pl.col("customer").is_not_null().alias("known"))
    forgotten = known.filter(~pl.col("known") & pl.col("known").cum_max().over("visit"))
    assert forgotten.is_empty()
    some = known.group_by("visit").agg(pl.col("known").any().alias("any"), pl.col("known").all().alias("all"))
    assert some.filter(pl.col("any") & ~pl.col("all")).height > 100, "anonymous before login"
    assert log.filter(pl.col("action") == "order")["customer"].null_count() == 0


def test_bots_are_recognised_by_their_pace(clean: Path, log: pl.DataFrame) -> None:
    pace = (
        log.filter(pl.col("visit").is_not_null())
        .group_by("visit")
        .agg(
            pl.len(),
            (pl.col("action") == "product").all().alias("only_views"),
            (pl.len() / ((pl.col("ts").max() - pl.col("ts").min()).dt.total_milliseconds() / 60_000 + 0.01)).alias(
                "a_minute"
            ),
            pl.col("seconds").is_not_null().any().alias("dwells"),
        )
    )
    bots = pace.filter((pl.col("len") >= 60) & (pl.col("a_minute") > 60))
    assert bots["len"].sum() == read_json(clean / "simulation.json")["bot_rows"] > 0
    assert bots["only_views"].all()
    assert not bots["dwells"].any()
    people = pace.join(bots, on="visit", how="anti")
    assert people["len"].max() < 60
    assert log.filter(pl.col("visit").is_in(bots["visit"].implode()))["visitor"].n_unique() <= 6  # 0.004 * 1,500


def test_nothing_is_seen_before_its_launch_and_nobody_before_they_join(clean: Path, log: pl.DataFrame) -> None:
    products, customers = (pl.read_parquet(clean / f"{name}.parquet") for name in ("products", "customers"))
    launched = log.join(products, on="sku").filter(pl.col("on_sale_since").is_not_null())
    assert launched.height > 100
    assert (launched["ts"].dt.date() >= launched["on_sale_since"]).all()
    seen = log.select("ts", pl.col("shown").str.split(",").alias("sku")).explode("sku").join(products, on="sku")
    assert (seen["ts"].dt.date() >= seen["on_sale_since"]).fill_null(value=True).all()
    joined = log.join(customers, on="customer")
    assert (joined["ts"].dt.date() >= joined["member_since"]).all()


def test_promotions_cut_prices_and_bring_buyers(clean: Path, log: pl.DataFrame, visits: pl.DataFrame) -> None:
    promos, products = (pl.read_parquet(clean / f"{name}.parquet") for name in ("promos", "products"))
    sold = log.filter((pl.col("action") == "order") & pl.col("promo").is_not_null())
    sold = sold.join(promos, on=["promo", "customer"], validate="m:1").join(products, on="sku")
    assert sold.height == log.filter((pl.col("action") == "order") & pl.col("promo").is_not_null()).height > 0
    paid, cut = sold["unit_price"].cast(pl.Float64), sold["list_price"] * (1 - sold["discount"])
    assert (paid - cut).abs().max() <= 0.0051, "to the cent"
    assert (sold["ts"] >= sold["from_day"]).all()
    told = promos.join(visits, left_on="customer", right_on="user_id").filter(
        pl.col("start_time").is_between("from_day", "to_day", closed="left")
    )
    beside = visits.join(told, on="visit_id", how="anti").filter(pl.col("platform") == "web")
    # exp(0.6) times the odds of a few in a hundred
    ratio = (
        told.filter(pl.col("platform") == "web")["purchase_probability"].mean() / beside["purchase_probability"].mean()
    )
    assert 1.3 < ratio < 2.0


# --- arguments and the command ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"users": 0}, r"--users: must be a whole number from 1 to .*; received 0"),
        ({"items": -1}, r"--items: .*received -1"),
        ({"days": 3_651}, r"--days: .*from 1 to 3,650; received 3651"),
        ({"seed": -1}, r"--seed: .*received -1"),
        ({"events": 0}, r"--events: must be at least 1; received 0"),
        ({"bots": float("nan")}, r"--bots: must be a share of the users, from 0 to 1; received nan"),
        ({"start": date(2190, 1, 1)}, r"--start: must be a day from 1970-01-02 to 2189-01-01; received '2190-01-01'"),
        ({"dirt": {"rain": 0.1}}, r"--dirt: must be KIND=RATE with a KIND of duplicate, .*; received 'rain'"),
        ({"dirt": {"late": 1.5}}, r"--dirt: must be late=RATE with a RATE from 0 to 1; received 1.5"),
        ({"dirt": {"late": 0.6, "duplicate": 0.6}}, r"--dirt: must be rates that sum to at most 1.*; received 1.2"),
    ],
)
def test_an_argument_that_breaks_its_rule_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Plan(**{"users": 5, "items": 5, "days": 5, "seed": 5, **changes})


def test_texts_that_are_no_argument_are_named() -> None:
    for texts in (["late"], ["late=much"], ["late=0.1", "late=0.2"]):
        with pytest.raises(SettingsError, match=rf"--dirt: .*; received '{texts[-1]}'"):
            read_dirt(texts)
    assert read_dirt(["late=0.1", "duplicate=1e-3"]) == {"late": 0.1, "duplicate": 0.001}


def test_more_events_than_people_can_cause_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"--events: must be at most about [\d,]+ for 3 users on 2 days"):
        simulate(Plan(users=3, items=5, days=2, seed=1, events=100_000), tmp_path / "shop")
    assert not (tmp_path / "shop").exists()


def test_the_commands_fit_together(root: Path, tmp_path: Path) -> None:
    program = str(Path(sys.executable).with_name("shoplens"))

    def call(*words: str) -> list[str]:
        done = subprocess.run([program, *words], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout.splitlines()

    size = ["--users", "40", "--items", "30", "--days", "3", "--seed", "1"]
    head = call("simulate", "--out", "shop", *size, "--start", "2025-03-01", "--dirt", "missing_user=0.1")
    told = read_json(tmp_path / "shop/simulation.json")
    assert head[0].startswith(f"shop: {told['rows']:,} rows of {told['visits']:,} visits")
    printed = call("ingest", "--mapping", str(root / "events/mappings/simulated.yaml"), "--lake", "lake", "shop")
    lines = [line for line in printed if " rows in = " in line]  # beside hints on the mapping, and the lake's version
    bad = told["dirt"]["missing_user"]["rows"]
    assert lines[0] == (
        f"log.parquet: {told['rows']:,} rows in = {told['rows'] - bad:,} accepted + {bad:,} quarantined "
        f"(who_missing {bad:,}) + 0 exact duplicates"
    )
    assert len(lines) == 4


# --- draws ------------------------------------------------------------------------------------------------------------


def test_draws_are_what_they_say() -> None:
    many = keys(1, "test", np.arange(100_000))
    flat, bell = uniform(many, 0), normal(many, 1)
    # standard errors of 100,000 draws: mean 0.0009 and 0.003; four of them
    assert flat.mean() == pytest.approx(0.5, abs=0.004)
    assert flat.std() == pytest.approx(12**-0.5, abs=0.003)
    assert (bell.mean(), bell.std()) == pytest.approx((0, 1), abs=0.013)
    assert np.histogram(flat, bins=10, range=(0, 1))[0] == pytest.approx(10_000, abs=400)
    for other in (uniform(many, 1), uniform(keys(1, "other", np.arange(100_000)), 0), np.roll(flat, 1)):
        assert abs(np.corrcoef(flat, other)[0, 1]) < 0.013
    for mean in (0.1, 3.0, 20.0):
        drawn = poisson(uniform(many, 2), np.full(many.size, mean))
        assert drawn.mean() == pytest.approx(mean, abs=4 * (mean / many.size) ** 0.5)
        assert drawn.var() == pytest.approx(mean, rel=0.04)


def test_draws_hang_on_nothing_but_their_key() -> None:
    whole = uniform(keys(5, "x", np.arange(10), 3), 4)
    assert uniform(keys(5, "x", np.arange(4, 7), 3), 4).tolist() == whole[4:7].tolist()
    assert uniform(keys(5, "x", 3, np.arange(10)), 4)[0] != whole[0], "user 3 on day 0 is not user 0 on day 3"


def test_a_pick_never_falls_on_what_has_no_chance() -> None:
    cumulative = np.array([0.0, 0.25, 0.25, 1.0])  # chances 0, 1/4, 0, 3/4
    assert pick(np.array([0.0, 0.2499, 0.25, 0.9999]), cumulative).tolist() == [1, 1, 3, 3]


def test_packed_ids_are_one_to_one() -> None:
    user, visit, place = (part.ravel() for part in np.meshgrid([0, 1, 2**32 - 1], [0, 62], np.arange(4_096)))
    found = np.concatenate([unique_ids(9, user, day, visit, place) for day in (0, 1, 3_649)])
    assert np.unique(found).size == found.size == 3 * 3 * 2 * 4_096
