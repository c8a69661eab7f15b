"""Simulate a day's visits: who comes, and what they are shown, look at and buy. This is the ground truth of the log.

Visits are a Poisson process whose rate depends on the person, the week, the year and the mood. Each visit leads to an
order with its own probability, so orders are a Poisson process too (thinning). Given the day's mood, exactly:

    P(a purchase on the day) = 1 - exp(-visits * sum over platforms of share * chance)

and over several days with the sum of these rates.

A visit looks at one or two pages of eight articles. The shop draws a page by popularity from a category that the
person prefers; the person chooses among all articles shown by a softmax of utility. Each unit of an order is a separate
draw, so the expected units of an article in a visit are exactly

    chance of an order * expected units in one * chance of the article
"""

from dataclasses import dataclass

import numpy as np

from simulator.draws import Flags, Floats, Ints, Keys, again, keys, logistic, numbered, pick, poisson, uniform
from simulator.log import MOST_VISITS, STORE
from simulator.world import NONE, TASTES, World, day_start, moment_of_day, season, traffic

MOST_MEAN = 20.0  # visits of one person on one day; `draws.poisson` is exact up to here
_MOOD_VISITS = 0.5  # one standard deviation of mood: exp(0.5) times as many visits ...
_MOOD_ODDS = 0.7  # ... and exp(0.7) times the odds of a purchase in each
_NOTIFIED_ODDS = 0.6  # of a person who is notified of a campaign
# Log-odds of a purchase in a visit: 6 % on the web, less on a phone; few leave a store with nothing.
_ODDS = np.array([-2.8, -3.1, -3.2, 1.2])


@dataclass(frozen=True)
class UserDays:
    """The true state of people on a day, before any visit: (users of the chunk,)."""

    user: Ints  # index of the person
    visits: Floats  # expected visits
    chance: Floats  # chance that a visit leads to an order, by platform, (users, 4)
    notified: Flags  # who is notified of the day's campaign
    mood: Floats  # the mood
    rate: Floats  # expected visits that lead to an order


@dataclass(frozen=True)
class Visits:
    """Visits of a day, sorted by user and number: (visits,)."""

    day: int  # from the first
    user: Ints  # index of the person
    number: Ints  # from 0, of this person on this day
    key: Keys  # for the visit's own draws
    start: Ints  # milliseconds since 1970
    platform: Ints  # index into PLATFORMS
    notified: Flags  # whether the person is notified of the day's campaign
    chance: Floats  # the true chance of an order
    buys: Flags  # whether there is one

    @property
    def online(self) -> Flags:
        """Mask of the visits that leave more than an order in the log."""
        return np.asarray(self.platform != STORE)


def user_days(world: World, day: int, mood: Floats, user: Ints) -> UserDays:
    """Return the true state of the people `user` on a day, except those who are not registered yet.

    `mood` has the mood of all people.
    """
    people = world.people
    user = user[people.joined[user] <= day]
    notified = world.campaigns.exposed(world.campaigns.on(day), user, people.joined[user])
    drift = np.exp(_MOOD_VISITS * mood[user] - _MOOD_VISITS**2 / 2)  # mean 1
    visits = world.scale * traffic(world.plan.start, day) * people.activity[user] * drift
    visits = np.minimum(visits, MOST_MEAN)
    odds = people.propensity[user] + _MOOD_ODDS * mood[user] + _NOTIFIED_ODDS * notified
    chance = logistic(_ODDS + odds[:, None])
    share = people.platforms[user]
    buying = share[:, 0] * chance[:, 0]
    for platform in range(1, share.shape[1]):
        buying = buying + share[:, platform] * chance[:, platform]
    return UserDays(user, visits, chance, notified, mood[user], visits * buying)


def visits_of(world: World, day: int, today: UserDays) -> Visits:
    """Draw the visits of a day."""
    seed = world.plan.seed
    count = np.minimum(poisson(uniform(keys(seed, "day", today.user, day), 0), today.visits), MOST_VISITS)
    row, number = numbered(count)
    user = today.user[row]
    key = keys(seed, "visit", user, day, number)
    own = again(key, "visits")
    platform = pick(uniform(own, 0), np.cumsum(world.people.platforms[user], axis=1))
    chance = today.chance[row, platform]
    return Visits(
        day=day,
        user=user,
        number=number,
        key=key,
        start=day_start(world.plan.start, day) + moment_of_day(uniform(own, 1)).astype(np.int64),
        platform=platform,
        notified=today.notified[row],
        chance=chance,
        buys=uniform(own, 2) < chance,
    )


PAGES, PLACES = 2, 8
_SECOND_PAGE = 0.35
_PRICE = 1.5  # loss of utility per squared log-step above the budget
_CHEAPER = 2.0  # factor by which articles of a campaign are shown more often, and their additional utility
_BARGAIN = 0.5
EXTRA = 3  # draws for additional units of an order
_VIEWS, _MORE_VIEWS, _MOST_VIEWS = 1.6, 1.2, 8


@dataclass(frozen=True)
class Shop:
    """The state of the shop on a day, shared by all visits."""

    wanted: Floats  # season of each category, (categories,)
    until: Floats  # cumulative weight of articles on sale, with a 0 before, (items + 1,)
    launched: Ints  # articles on sale of each category, (categories,)
    price: Floats  # in EUR, (items,)
    level: Floats  # log of price over the category's median, (items,)
    bargain: Flags  # articles of the day's campaign, (items,)


@dataclass(frozen=True)
class Choices:
    """The outcome of a day's visits. A place is one of PAGES * PLACES."""

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
    """Return the article of each place, and whether it is shown there, which is only at its first occurrence."""
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
    """Return the softmax of utility over the articles shown."""
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
    """Return the expected number of units in a person's order."""
    return 1.0 + EXTRA * world.people.extra[user]


def choose(world: World, shop: Shop, visits: Visits) -> Choices:
    """Draw what a day's visits are shown, look at and buy."""
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
    """Add each article's expected units, given who came and what they saw, to `demand`: (items,).

    This adds row by row, because partial sums of chunks would differ in the last bit.
    """
    units = visits.chance * expected_units(world, visits.user)
    np.add.at(demand, choices.item[choices.shown], (units[:, None] * choices.chance)[choices.shown])
