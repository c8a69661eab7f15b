"""The steps of visits as rows of the log, and what follows an order days later: returns and reviews."""

import numpy as np
import polars as pl

from simulator.calendar import DAY_MS
from simulator.catalogue import BRANDS, DEPARTMENTS, LEAVES
from simulator.choices import PAGES, PLACES, Choices, Shop
from simulator.draws import Floats, Ints, Keys, again, keys, normal, uniform
from simulator.people import STORE
from simulator.promotions import campaign_id
from simulator.rows import AFTER, CODE, ORDER, ROWS, VISIT, unique_ids
from simulator.timeline import PAGE_STEP, Steps, known_from, steps_of
from simulator.visits import Visits
from simulator.world import World

_OFFLINE_SHARE, _OFFLINE_MS, _ONLINE_MS = 0.02, 1_200_000, 2_000  # a phone in a tunnel: up to 20 minutes
_NAMES_A_BRAND = 0.5
PATHS = [f"/{department}/{leaf}".lower() for department, leaf in zip(DEPARTMENTS, LEAVES, strict=True)]
_TRACKED = pl.col("platform") != STORE


def taken(labels: list[str] | pl.Series, index: Ints) -> pl.Series:
    """Return the labels at the places of an index."""
    return pl.Series(labels).gather(index)


def _common(world: World, visits: Visits, steps: Steps, at: Ints) -> pl.DataFrame:
    """Return who, when and where of the steps at `at`."""
    seed, visit = world.plan.seed, steps.visit[at]
    user, number, platform = visits.user[visit], visits.number[visit], visits.platform[visit]
    key = again(visits.key, "network")
    offline = uniform(key, 0) < _OFFLINE_SHARE
    delay = (uniform(key, 1) * np.where(offline, _OFFLINE_MS, _ONLINE_MS)).astype(np.int64)
    frame = pl.DataFrame(
        {
            "id": unique_ids(seed, user, visits.day, number, steps.nth[at]),
            "ts": steps.ts[at],
            "delay": delay[visit],
            "action": steps.action[at].astype(np.uint8),
            "user": user,
            "visitor": keys(seed, "device", user, platform),
            "platform": platform.astype(np.uint8),
            "visit": unique_ids(seed, user, visits.day, number, VISIT),
            "known": steps.step[at] >= known_from(visits)[visit],
        }
    )
    return frame.with_columns(
        pl.when("known").then("user"), *(pl.when(_TRACKED).then(name).alias(name) for name in ("visitor", "visit"))
    ).drop("known")


def _page_rows(world: World, visits: Visits, choices: Choices, steps: Steps) -> pl.DataFrame:
    at = np.flatnonzero(np.isin(steps.action, [CODE["search"], CODE["page"]]))
    visit, page = steps.visit[at], steps.step[at] // PAGE_STEP - 1
    category, first = choices.category[visit, page], choices.item[visit, page * PLACES]
    names = uniform(again(visits.key, "query"), 0)[visit] < _NAMES_A_BRAND
    articles = {}
    for place in range(PLACES):
        seat = page * PLACES + place
        articles[f"a{place}"] = taken(
            world.catalogue.skus, np.where(choices.shown[visit, seat], choices.item[visit, seat], 0)
        )
        articles[f"s{place}"] = pl.Series(choices.shown[visit, seat])
    leaf, brand = taken(LEAVES, category), taken(BRANDS, world.catalogue.brand[first])
    frame = pl.DataFrame({"leaf": leaf, "brand": brand, "names": names, "path": taken(PATHS, category), **articles})
    shown = [pl.when(f"s{place}").then(f"a{place}") for place in range(PLACES)]
    searches = pl.lit(pl.Series(steps.action[at] == CODE["search"]))
    text = pl.concat_str([pl.when("names").then("brand"), "leaf"], separator=" ", ignore_nulls=True).str.to_lowercase()
    address = pl.lit("/search?q=") + text.str.replace_all(" ", "+", literal=True)
    columns = frame.select(
        pl.when(searches).then(text).alias("search_text"),
        pl.concat_str(shown, separator=",", ignore_nulls=True).alias("shown"),
        pl.when(searches).then(pl.lit("search")).otherwise("path").alias("list"),
        pl.when(searches).then(address).otherwise("path").alias("page"),
    )
    return _common(world, visits, steps, at).hstack(columns)


def _article_rows(world: World, shop: Shop, visits: Visits, choices: Choices, steps: Steps) -> pl.DataFrame:
    at = np.flatnonzero(steps.place >= 0)
    visit, place, action = steps.visit[at], steps.place[at], steps.action[at]
    item = choices.item[visit, place]
    sku = taken(world.catalogue.skus, item)
    campaign = world.campaigns.on(visits.day)
    columns = pl.DataFrame(
        {
            "item": item,
            "qty": np.maximum(choices.units[visit, place], 1),
            "price": shop.price[item],
            "order_no": unique_ids(world.plan.seed, visits.user[visit], visits.day, visits.number[visit], ORDER),
            "rank": (place % PLACES + 1).astype(np.int32),
            "page": "/p/" + sku,
            "seconds": steps.gap[at] / 1000,
            "notified": visits.notified[visit] & shop.bargain[item],
        }
    )
    frame = _common(world, visits, steps, at).hstack(columns)
    kind, online = pl.lit(pl.Series(action)), _TRACKED

    def only(column: str, *names: str) -> pl.Expr:
        return pl.when(kind.is_in([CODE[name] for name in names])).then(column).alias(column)

    return frame.with_columns(
        only("qty", "basket_add", "basket_remove", "order"),
        only("order_no", "order"),
        only("rank", "click"),
        only("seconds", "product"),
        pl.when(online).then("page"),
        pl.when(pl.col("notified") & (kind == CODE["order"])).then(pl.lit(campaign_id(campaign))).alias("promo"),
    ).drop("notified")


def _other_rows(world: World, visits: Visits, steps: Steps) -> pl.DataFrame:
    at = np.flatnonzero(np.isin(steps.action, [CODE["promo_shown"], CODE["promo_click"], CODE["checkout"]]))
    promoted = pl.col("action") != CODE["checkout"]
    campaign = pl.lit(campaign_id(world.campaigns.on(visits.day)), dtype=pl.String)
    return _common(world, visits, steps, at).with_columns(
        pl.when(promoted).then(campaign).alias("promo"),
        pl.when(promoted).then(pl.lit("/")).otherwise(pl.lit("/checkout")).alias("page"),
    )


def as_rows(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """Return ROWS of frames that have some of their columns."""
    whole = pl.concat([pl.DataFrame(schema=ROWS), *frames], how="diagonal_relaxed")
    return whole.select(pl.col(name).cast(kind) for name, kind in ROWS.items())


def visit_rows(world: World, shop: Shop, visits: Visits, choices: Choices) -> pl.DataFrame:
    """Return ROWS of the visits of a day, in no order."""
    steps = steps_of(visits, choices)
    return as_rows(
        [
            _page_rows(world, visits, choices, steps),
            _article_rows(world, shop, visits, choices, steps),
            _other_rows(world, visits, steps),
        ]
    )


RETURNS, REVIEWS = 0.05, 0.12  # of order lines
_RETURN_DAYS, _REVIEW_DAYS = (2, 14), (3, 21)
_STARS, _STARS_SPREAD = 3.6, 1.1
_COMMENTS = [
    "Broken on arrival.",
    "Not what I hoped for.",
    "It is all right.",
    "Good, would buy again.",
    "Exactly right!",
]


def _wait(draw: Floats, days: tuple[int, int]) -> Ints:
    low, high = days
    return ((low + (high - low) * draw) * DAY_MS).astype(np.int64)


def _rows(world: World, visits: Visits, at: tuple[Ints, ...], first: int, wait: Ints) -> dict[str, Ints | Keys]:
    """Return the columns that every late row has: of the order lines at `at`, `wait` milliseconds after the visit."""
    visit, place = at
    user, number = visits.user[visit], visits.number[visit]
    return {
        "id": unique_ids(world.plan.seed, user, visits.day, number, first + place),
        "ts": visits.start[visit] + wait,
        "delay": np.zeros(user.size, dtype=np.int64),
        "user": user,
        "platform": visits.platform[visit],
    }


def later_rows(world: World, shop: Shop, visits: Visits, choices: Choices) -> pl.DataFrame:
    """Return ROWS of the returns and reviews of the orders of a day."""
    places = np.arange(PAGES * PLACES, dtype=np.uint64)
    key = again(again(visits.key, "later")[:, None] + places, "places")  # (visits, places)
    bought = choices.units > 0
    back = np.nonzero(bought & (uniform(key, 0) < RETURNS))
    rated = np.nonzero(bought & (uniform(key, 1) < REVIEWS))
    returned, reviewed = choices.item[back], choices.item[rated]
    stars = np.clip(np.rint(_STARS + _STARS_SPREAD * normal(key[rated], 2)), 1, 5).astype(np.int64)
    returns = {
        **_rows(world, visits, back, AFTER, _wait(uniform(key[back], 3), _RETURN_DAYS)),
        "action": np.full(returned.size, CODE["return"]),
        "item": returned,
        "qty": choices.units[back],
        "price": shop.price[returned],
        "order_no": unique_ids(world.plan.seed, visits.user[back[0]], visits.day, visits.number[back[0]], ORDER),
    }
    reviews = {
        **_rows(world, visits, rated, AFTER + places.size, _wait(uniform(key[rated], 4), _REVIEW_DAYS)),
        "action": np.full(reviewed.size, CODE["review"]),
        "item": reviewed,
        "stars": stars,
        "comment": pl.Series(_COMMENTS).gather(stars - 1),
    }
    return as_rows([pl.DataFrame(returns), pl.DataFrame(reviews)])
