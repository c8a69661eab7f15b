"""The steps of visits as rows of the log, and what follows an order days later: returns and reviews."""

import numpy as np
import polars as pl

from simulator.calendar import DAY_MS
from simulator.catalogue import BRANDS, DEPARTMENTS, LEAVES
from simulator.choices import PAGES, PLACES, Choices, Shop
from simulator.draws import Floats, Ints, Keys, again, keys, normal, uniform
from simulator.promotions import campaign_id
from simulator.rows import AFTER, CODE, ORDER, ROWS, STORE, VISIT, unique_ids
from simulator.timeline import PAGE_STEP, Steps, known_from, steps_of
from simulator.visits import Visits
from simulator.world import World

_OFFLINE_SHARE, _OFFLINE_MS, _ONLINE_MS = 0.02, 1_200_000, 2_000  # a phone in a tunnel: up to 20 minutes
_NAMES_A_BRAND = 0.5
_PATHS = pl.Series([f"/{department}/{leaf}".lower() for department, leaf in zip(DEPARTMENTS, LEAVES, strict=True)])
_TRACKED = pl.col("platform") != STORE


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
        held = choices.shown[visit, seat]
        articles[f"a{place}"] = world.catalogue.skus.gather(np.where(held, choices.item[visit, seat], 0))
        articles[f"s{place}"] = pl.Series(held)
    leaf, path = pl.Series(LEAVES).gather(category), _PATHS.gather(category)
    brand = pl.Series(BRANDS).gather(world.catalogue.brand[first])
    frame = pl.DataFrame({"leaf": leaf, "brand": brand, "names": names, "path": path, **articles})
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
    campaign = world.campaigns.on(visits.day)
    columns = pl.DataFrame(
        {
            "item": item,
            "qty": np.maximum(choices.units[visit, place], 1),
            "price": shop.price[item],
            "order_no": unique_ids(world.plan.seed, visits.user[visit], visits.day, visits.number[visit], ORDER),
            "rank": (place % PLACES + 1).astype(np.int32),
            "page": "/p/" + world.catalogue.skus.gather(item),
            "seconds": steps.gap[at] / 1000,
            "notified": visits.notified[visit] & shop.bargain[item],
        }
    )
    frame = _common(world, visits, steps, at).hstack(columns)
    kind = pl.lit(pl.Series(action))

    def only(column: str, *names: str) -> pl.Expr:
        return pl.when(kind.is_in([CODE[name] for name in names])).then(column).alias(column)

    return frame.with_columns(
        only("qty", "basket_add", "basket_remove", "order"),
        only("order_no", "order"),
        only("rank", "click"),
        only("seconds", "product"),
        pl.when(_TRACKED).then("page"),
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
    pages = _page_rows(world, visits, choices, steps)
    return as_rows([pages, _article_rows(world, shop, visits, choices, steps), _other_rows(world, visits, steps)])


_RETURNS, _REVIEWS = 0.05, 0.12  # of order lines
_RETURN_DAYS, _REVIEW_DAYS = (2, 14), (3, 21)
_STARS, _STARS_SPREAD = 3.6, 1.1
_COMMENTS = (
    "Broken on arrival.", "Not what I hoped for.", "It is all right.", "Good, would buy again.", "Exactly right!",
)  # fmt: skip


def _late(
    world: World, visits: Visits, at: tuple[Ints, ...], first: int, draw: Floats, days: tuple[int, int]
) -> dict[str, Ints | Keys]:
    """Return the columns that every late row has: of the order lines at `at`, some days after the visit."""
    visit, place = at
    user, number = visits.user[visit], visits.number[visit]
    wait = ((days[0] + (days[1] - days[0]) * draw) * DAY_MS).astype(np.int64)
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
    back = np.nonzero(bought & (uniform(key, 0) < _RETURNS))
    rated = np.nonzero(bought & (uniform(key, 1) < _REVIEWS))
    returned, reviewed = choices.item[back], choices.item[rated]
    stars = np.clip(np.rint(_STARS + _STARS_SPREAD * normal(key[rated], 2)), 1, 5).astype(np.int64)
    returns = {
        **_late(world, visits, back, AFTER, uniform(key[back], 3), _RETURN_DAYS),
        "action": np.full(returned.size, CODE["return"]),
        "item": returned,
        "qty": choices.units[back],
        "price": shop.price[returned],
        "order_no": unique_ids(world.plan.seed, visits.user[back[0]], visits.day, visits.number[back[0]], ORDER),
    }
    reviews = {
        **_late(world, visits, rated, AFTER + places.size, uniform(key[rated], 4), _REVIEW_DAYS),
        "action": np.full(reviewed.size, CODE["review"]),
        "item": reviewed,
        "stars": stars,
        "comment": pl.Series(_COMMENTS).gather(stars - 1),
    }
    return as_rows([pl.DataFrame(returns), pl.DataFrame(reviews)])
