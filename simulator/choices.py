"""What visitors are shown, look at and take: the second half of the truth.

A visit looks at one or two pages of eight articles. The shop draws a page by popularity out of a category that the
person prefers; the person chooses among all that is shown by a softmax of utility. Every unit of an order is a draw of
its own, so the expected units of an article in a visit are, exactly,

    chance of an order * expected units in one * chance of the article
"""

from dataclasses import dataclass

import numpy as np

from simulator.calendar import season
from simulator.catalogue import TASTES
from simulator.draws import Flags, Floats, Ints, again, pick, poisson, uniform
from simulator.promotions import NONE
from simulator.visits import Visits
from simulator.world import World

PAGES, PLACES = 2, 8
_SECOND_PAGE = 0.35
_PRICE = 1.5  # utility lost for each squared log-step above one's budget
_CHEAPER = 2.0  # articles of a campaign are shown so many times as often, and liked so much more:
_BARGAIN = 0.5
EXTRA = 3  # draws of a unit more in an order
_VIEWS, _MORE_VIEWS, _MOST_VIEWS = 1.6, 1.2, 8


@dataclass(frozen=True)
class Shop:
    """What is the same for all visits of a day."""

    wanted: Floats  # season of each category, (categories,)
    until: Floats  # cumulative weight of articles on sale, with a 0 before, (items + 1,)
    launched: Ints  # articles on sale of each category, (categories,)
    price: Floats  # in EUR, (items,)
    level: Floats  # log of price over the category's median, (items,)
    bargain: Flags  # articles of the day's campaign, (items,)


@dataclass(frozen=True)
class Choices:
    """What the visits of a day come to. A place is one of PAGES * PLACES."""

    pages: Ints  # pages looked at, (visits,)
    category: Ints  # of each page, (visits, PAGES)
    item: Ints  # articles, (visits, places)
    shown: Flags  # places that hold an article; no article is shown twice, (visits, places)
    chance: Floats  # of each place, for one unit, (visits, places)
    viewed: Flags  # articles looked at, (visits, places)
    units: Ints  # bought, (visits, places)


def open_shop(world: World, day: int) -> Shop:
    """Return the state of the shop on a day."""
    catalogue, campaign = world.catalogue, world.campaigns.on(day)
    bargain = np.zeros(catalogue.price.size, dtype=np.bool_)
    if campaign != NONE:
        bargain = catalogue.category == world.campaigns.category[campaign]
    price = world.campaigns.prices(campaign, catalogue)
    weight = catalogue.weight * (catalogue.launch <= day) * np.where(bargain, _CHEAPER, 1.0)
    return Shop(
        wanted=season(world.plan.start, day, world.plan.seed, len(catalogue.category_place)),
        until=np.concatenate([[0.0], np.cumsum(weight)]),
        launched=catalogue.launched(day),
        price=price,
        level=catalogue.level + np.log(price / catalogue.price),
        bargain=bargain,
    )


def _pages(world: World, shop: Shop, visits: Visits) -> tuple[Ints, Ints]:
    """Return the number of pages and the category of each."""
    key = again(visits.key, "pages")
    cumulative = np.cumsum(world.people.preference[visits.user] * shop.wanted, axis=1)
    cumulative /= cumulative[:, -1:]
    category = np.stack([pick(uniform(key, page), cumulative) for page in range(PAGES)], axis=1)
    return 1 + (uniform(key, PAGES) < _SECOND_PAGE).astype(np.int64), category


def _shelf(world: World, shop: Shop, visits: Visits, pages: Ints, category: Ints) -> tuple[Ints, Flags]:
    """Return the article of every place, and whether it is shown there: only where it is met first."""
    key = again(visits.key, "shelf")
    first = world.catalogue.first[category]  # (visits, PAGES)
    last = first + shop.launched[category]
    low, high = shop.until[first], shop.until[last]
    item = np.empty((visits.user.size, PAGES * PLACES), dtype=np.int64)
    for place in range(PAGES * PLACES):
        page = place // PLACES
        aim = low[:, page] + uniform(key, place) * (high[:, page] - low[:, page])
        found = np.searchsorted(shop.until, aim, side="right") - 1
        item[:, place] = np.clip(found, first[:, page], last[:, page] - 1)
    shown = np.arange(PAGES * PLACES) < PLACES * pages[:, None]
    for place in range(1, PAGES * PLACES):
        shown[:, place] &= ~(item[:, :place] == item[:, place : place + 1]).any(axis=1)
    return item, shown


def _chances(world: World, shop: Shop, visits: Visits, item: Ints, shown: Flags) -> Floats:
    """Return the softmax of utility over what is shown."""
    people, place = world.people, world.catalogue.place
    taste = people.taste[visits.user]
    utility = np.where(shop.bargain[item], _BARGAIN, 0.0)
    for k in range(TASTES):
        utility += taste[:, k : k + 1] * place[:, k][item]
    dear = np.maximum(shop.level[item] - people.budget[visits.user][:, None], 0.0)
    utility = np.where(shown, utility - _PRICE * dear**2, -np.inf)
    weight = np.exp(utility - utility.max(axis=1, keepdims=True))
    return np.asarray(weight / np.cumsum(weight, axis=1)[:, -1:])


def expected_units(world: World, user: Ints) -> Floats:
    """Return how many units an order of a person has on average."""
    return 1.0 + EXTRA * world.people.extra[user]


def choose(world: World, shop: Shop, visits: Visits) -> Choices:
    """Draw what the visits of a day are shown, look at and take."""
    pages, category = _pages(world, shop, visits)
    item, shown = _shelf(world, shop, visits, pages, category)
    chance = _chances(world, shop, visits, item, shown)
    cumulative = np.cumsum(chance, axis=1)
    key, rows = again(visits.key, "choices"), np.arange(visits.user.size)
    units = np.zeros(item.shape, dtype=np.int64)
    for unit in range(1 + EXTRA):
        more = visits.buys & ((unit == 0) | (uniform(key, 2 * unit) < world.people.extra[visits.user]))
        units[rows[more], pick(uniform(key, 2 * unit + 1), cumulative)[more]] += 1
    looks = 1 + poisson(uniform(key, 20), _VIEWS + _MORE_VIEWS * visits.buys.astype(np.float64))
    viewed = units > 0
    for look in range(_MOST_VIEWS):
        on = look < looks
        viewed[rows[on], pick(uniform(key, 21 + look), cumulative)[on]] = True
    return Choices(pages, category, item, shown, chance, viewed, units)


def add_demand(demand: Floats, world: World, visits: Visits, choices: Choices) -> None:
    """Add the expected units of every article, given who came and what they saw, to `demand`: (items,).

    Row by row: partial sums of chunks would differ in the last bit.
    """
    units = visits.chance * expected_units(world, visits.user)
    np.add.at(demand, choices.item[choices.shown], (units[:, None] * choices.chance)[choices.shown])
