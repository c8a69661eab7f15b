"""The rows of the log: the steps of visits, returns and reviews days after an order, and bots."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from simulator.draws import Flags, Floats, Ints, Keys, again, keys, normal, numbered, poisson, uniform
from simulator.log import AFTER, CODE, ORDER, PLATFORMS, ROWS, STORE, VISIT, unique_ids
from simulator.visits import MOST_MEAN, PAGES, PLACES, Choices, Shop, Visits
from simulator.world import BRANDS, DAY_MS, DEPARTMENTS, LEAVES, World, campaign_id, day_start

PAGE_STEP = 1_000  # steps from one page to the next; the steps of a place are 10 apart
CHECKOUT = 10_000
_NEVER = 1 << 20
_REMEMBERED, _LOGS_IN = np.array([0.45, 0.9, 0.9, 1.0]), 0.25
_SEARCHES = 0.6
_SEES_PROMOTION, _FOLLOWS_IT = 0.6, 0.35
_BASKET, _REMOVES, _ABANDONS = 0.12, 0.5, 0.3
_DWELL, _DWELL_SPREAD, _INTEREST, _LONGEST = 2.8, 0.8, 0.7, 900.0  # log seconds: 16 s at the median, 33 s if bought


@dataclass(frozen=True)
class Steps:
    """Steps of visits, sorted by visit and time: (steps,)."""

    visit: Ints  # row in Visits
    step: Ints  # position in the visit; grows within a visit
    action: Ints  # place in ACTIONS
    place: Ints  # in the choices of the visit; -1 where the step is about no article
    gap: Ints  # milliseconds to the next step
    ts: Ints  # milliseconds since 1970
    nth: Ints  # from 0, within the visit


def _steps(action: str, at: Flags, step: Ints, gap: Floats | float) -> tuple[Ints, ...]:
    """Return visit, step, action, place and gap (given in seconds) of the marked visits, or visits and places."""
    where = np.nonzero(at)
    size = where[0].size
    place = where[1] if at.ndim > 1 else np.full(size, -1)
    seconds = np.broadcast_to(gap, at.shape)[where]
    milliseconds = np.maximum((seconds * 1000).astype(np.int64), 0)
    return where[0], np.broadcast_to(step, at.shape)[where], np.full(size, CODE[action]), place, milliseconds


def _page_steps(visits: Visits, choices: Choices) -> list[tuple[Ints, ...]]:
    key = again(visits.key, "page steps")
    found = []
    for page in range(PAGES):
        seen = visits.online & (choices.pages > page)
        searches = uniform(key, page) < _SEARCHES
        look = 3.0 + 12.0 * uniform(key, PAGES + page)
        step = np.full(seen.shape, PAGE_STEP * (1 + page))
        found += [_steps("search", seen & searches, step, look), _steps("page", seen & ~searches, step, look)]
    return found


def _promotion_steps(visits: Visits) -> list[tuple[Ints, ...]]:
    key = again(visits.key, "promotion steps")
    sees = visits.online & visits.notified & (uniform(key, 0) < _SEES_PROMOTION)
    follows = sees & (uniform(key, 1) < _FOLLOWS_IT)
    zero = np.zeros(sees.shape, dtype=np.int64)
    return [
        _steps("promo_shown", sees, zero, 1.0 + 2.0 * uniform(key, 2)),
        _steps("promo_click", follows, zero + 1, 1.0 + uniform(key, 3)),
    ]


def _article_steps(visits: Visits, choices: Choices) -> list[tuple[Ints, ...]]:
    places = np.arange(PAGES * PLACES)
    step = PAGE_STEP * (1 + places // PLACES) + 10 * (1 + places % PLACES)
    lanes = again(visits.key, "article steps")[:, None] + places.astype(np.uint64) * np.uint64(0x100000001)
    key = again(lanes, "places")
    online, buys = visits.online[:, None], visits.buys[:, None]
    bought = choices.units > 0
    viewed = choices.viewed & online
    basket = (bought | (choices.viewed & (uniform(key, 0) < _BASKET))) & online
    dwell = np.exp(_DWELL + _INTEREST * basket + _DWELL_SPREAD * normal(key, 1))
    removed = basket & ~bought & (buys | (uniform(key, 2) < _REMOVES))
    left = (basket & ~removed).any(axis=1)
    stops = uniform(again(visits.key, "checkout"), 0) < _ABANDONS
    checkout = visits.online & left & (visits.buys | stops)
    return [
        _steps("click", viewed, step, 0.4 + uniform(key, 3)),
        _steps("product", viewed, step + 1, np.clip(dwell, 1.0, _LONGEST)),
        _steps("basket_add", basket, step + 2, 1.0 + 3.0 * uniform(key, 4)),
        _steps("basket_remove", removed, CHECKOUT - 100 + places, 2.0 + 6.0 * uniform(key, 5)),
        _steps("checkout", checkout, np.full(left.shape, CHECKOUT), 20.0 + 70.0 * uniform(key[:, 0], 6)),
        _steps("order", bought, CHECKOUT + 1 + places, 0.0),  # the lines of an order are booked at once
    ]


def steps_of(visits: Visits, choices: Choices) -> Steps:
    """Return the steps of the visits of a day."""
    found = [*_promotion_steps(visits), *_page_steps(visits, choices), *_article_steps(visits, choices)]
    visit, step, action, place, gap = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.argsort(visit * _NEVER + step)
    visit, step, action, place, gap = (column[order] for column in (visit, step, action, place, gap))
    begins = np.flatnonzero(np.diff(visit, prepend=-1))
    size = np.diff(begins, append=visit.size)
    before = np.cumsum(gap) - gap
    offset = before - np.repeat(before[begins], size)
    nth = np.arange(visit.size) - np.repeat(begins, size)
    return Steps(visit, step, action, place, gap, visits.start[visit] + offset, nth)


def known_from(visits: Visits) -> Ints:
    """Return the step from which the shop knows the user: remembered, after a page, at the checkout, or never."""
    key = again(visits.key, "login")
    remembered = uniform(key, 0) < _REMEMBERED[visits.platform]
    logs_in = uniform(key, 1) < _LOGS_IN
    later = np.where(logs_in, PAGE_STEP + 1, np.where(visits.buys, CHECKOUT, _NEVER))
    return np.where(remembered, 0, later)


_OFFLINE_SHARE, _OFFLINE_MS, _ONLINE_MS = 0.02, 1_200_000, 2_000  # a phone in a tunnel: up to 20 minutes
_NAMES_A_BRAND = 0.5
_PATHS = pl.Series([f"/{department}/{leaf}".lower() for department, leaf in zip(DEPARTMENTS, LEAVES, strict=True)])
_TRACKED = pl.col("platform") != STORE


def _common(world: World, visits: Visits, steps: Steps, at: Ints) -> pl.DataFrame:
    """Return the person, time and place of the steps at the positions `at`."""
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
    """Concatenate frames that have only some of the columns of ROWS."""
    whole = pl.concat([pl.DataFrame(schema=ROWS), *frames], how="diagonal_relaxed")
    return whole.select(pl.col(name).cast(kind) for name, kind in ROWS.items())


def visit_rows(world: World, shop: Shop, visits: Visits, choices: Choices) -> pl.DataFrame:
    """Return the ROWS of a day's visits, unsorted."""
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
    """Return the common columns of returns and reviews, some days after the visit, for the order lines at `at`."""
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
    """Return the ROWS of returns and reviews of a day's orders."""
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


WALKS_PER_DAY = 0.3  # per bot, on average
_WALK = (60, 239)  # views per walk
MEAN_ROWS = sum(_WALK) / 2
_GAP_MS = (100, 600)  # milliseconds from view to view: some 170 a minute


def bots_of(world: World) -> int:
    """Return the number of bots, whose indexes follow those of the people."""
    return round(world.plan.users * world.plan.bots)


def bot_rows(world: World, day: int) -> pl.DataFrame:
    """Return the ROWS of a day's bots: views of random articles without a dwell time."""
    plan = world.plan
    bot = plan.users + np.arange(bots_of(world))
    mean = np.full(bot.size, min(WALKS_PER_DAY * world.scale, MOST_MEAN))
    count = poisson(uniform(keys(plan.seed, "bot day", bot, day), 0), mean)
    of, number = numbered(count)
    who = bot[of]
    key = keys(plan.seed, "walk", who, day, number)
    size = _WALK[0] + (uniform(key, 0) * (_WALK[1] + 1 - _WALK[0])).astype(np.int64)
    start = day_start(plan.start, day) + (uniform(key, 1) * DAY_MS).astype(np.int64)
    walk, nth = numbered(size)
    own = keys(plan.seed, "step", who[walk], day, number[walk], nth)
    gap = _GAP_MS[0] + (uniform(own, 0) * (_GAP_MS[1] - _GAP_MS[0])).astype(np.int64)
    before = np.cumsum(gap) - gap
    on_sale = np.flatnonzero(world.catalogue.launch <= day)
    item = on_sale[(uniform(own, 1) * on_sale.size).astype(np.int64)]
    frame = pl.DataFrame(
        {
            "id": unique_ids(plan.seed, who[walk], day, number[walk], nth),
            "ts": start[walk] + before - before[nth == 0][walk] if walk.size else walk,
            "delay": np.zeros(walk.size, dtype=np.int64),
            "action": np.full(walk.size, CODE["product"]),
            "visitor": keys(plan.seed, "device", who[walk], 0),
            "platform": np.full(walk.size, PLATFORMS.index("web")),
            "visit": unique_ids(plan.seed, who[walk], day, number[walk], VISIT),
            "item": item,
            "price": world.campaigns.prices(world.campaigns.on(day), world.catalogue)[item],
            "page": "/p/" + world.catalogue.skus.gather(item),
        }
    )
    return as_rows([frame])
