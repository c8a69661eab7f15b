"""The world before the first visit: seasons, articles, people and campaigns."""

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from simulator.draws import Flags, Floats, Ints, Keys, keys, logistic, normal, normals, pick, uniform
from simulator.log import PLATFORMS
from simulator.plan import Plan

DAY_MS = 86_400_000
_EPOCH = date(1970, 1, 1)
_YEAR = 365.25
_PEAK = 340  # early December, the day of the year with most visits
_YEARLY = 0.25  # a quarter more than average then, a quarter less in June
_WEEK = np.array([0.95, 0.92, 0.93, 0.95, 1.0, 1.15, 1.1])  # Monday to Sunday; mean 1
# Share of a day's visits in each hour, UTC: asleep at four, a lunch break, the evening on the sofa.
_HOURS = np.array([2, 1, 1, 1, 1, 1, 2, 3, 4, 5, 6, 6, 7, 6, 5, 5, 5, 6, 7, 8, 8, 8, 6, 4], dtype=np.float64)
_HOUR_ENDS = np.concatenate([[0.0], np.cumsum(_HOURS) / _HOURS.sum()])
_TIDE = 0.6  # of a category: 1.6 times as wanted at its peak as on average


def day_start(start: date, day: int) -> int:
    """Return the first millisecond (since 1970) of a day counted from `start`."""
    return (start - _EPOCH).days * DAY_MS + day * DAY_MS


def _year_angle(when: date, peak: Floats | float) -> Floats:
    return np.asarray(2.0 * np.pi * (when.timetuple().tm_yday - peak) / _YEAR)


def traffic(start: date, day: int) -> float:
    """Return the visits of a day relative to the average: the week times the year."""
    when = start + timedelta(days=day)
    return float(_WEEK[when.weekday()] * (1.0 + _YEARLY * np.cos(_year_angle(when, _PEAK))))


def moment_of_day(draw: Floats) -> Floats:
    """Convert uniform draws to milliseconds since midnight, by the hours' shares and evenly within an hour.

    Given a non-homogeneous Poisson process's number of arrivals in a day, their times are independent draws from its
    intensity.
    """
    return np.interp(draw, _HOUR_ENDS, np.arange(25) * DAY_MS / 24)


def season(start: date, day: int, seed: int, categories: int) -> Floats:
    """Return the demand for each category on a day, relative to the average: (categories,)."""
    peak = uniform(keys(seed, "season", np.arange(categories)), 0) * _YEAR
    return 1.0 + _TIDE * np.cos(_year_angle(start + timedelta(days=day), peak))


TASTES = 8  # latent dimensions of what people like and of what articles are
_TREE = {
    "Clothing": ["Shirts", "Jackets", "Trousers", "Dresses"],
    "Shoes": ["Sneakers", "Boots", "Sandals", "Slippers"],
    "Home": ["Lamps", "Bedding", "Curtains", "Rugs"],
    "Kitchen": ["Pans", "Knives", "Kettles", "Plates"],
    "Garden": ["Pots", "Seeds", "Tools", "Chairs"],
    "Toys": ["Puzzles", "Dolls", "Blocks", "Games"],
    "Sports": ["Balls", "Mats", "Rackets", "Helmets"],
    "Beauty": ["Soap", "Creams", "Perfume", "Brushes"],
    "Electronics": ["Headphones", "Chargers", "Speakers", "Cameras"],
    "Books": ["Novels", "Cookbooks", "Comics", "Atlases"],
}
DEPARTMENTS = [name for name, leaves in _TREE.items() for _ in leaves]
LEAVES = [leaf for leaves in _TREE.values() for leaf in leaves]
BRANDS = ["Acorn", "Birch", "Cedar", "Dune", "Ember", "Fjord", "Grove", "Heron", "Iris", "Juno", "Kestrel", "Lumen"]
_ITEMS_PER_CATEGORY = 20  # with fewer, one page of results would show them all
_OF_BRAND, _OF_ITEM = 0.6, 0.5  # beside 1 for the category, in what an article is
_SPREAD = 0.45  # of log price within a category
_LAUNCHED_LATER = 0.25
_TAIL = 0.8  # exponent of popularity within a category (Zipf)


@dataclass(frozen=True)
class Assortment:
    """Articles sorted by category, then launch; the index is the place."""

    category: Ints  # index into LEAVES, (items,)
    brand: Ints  # index into BRANDS, (items,)
    place: Floats  # what an article is, in the dimensions of taste, (items, TASTES)
    category_place: Floats  # what a category is, (categories, TASTES)
    level: Floats  # log of price over the category's median, (items,)
    price: Floats  # in EUR, before promotions, (items,)
    launch: Ints  # day, from the first; -1 is before it, (items,)
    weight: Floats  # how often an article is shown, beside others of its category, (items,)
    first: Ints  # index of the first article of every category, and the end, (categories + 1,)
    skus: pl.Series  # their ids

    def launched(self, day: int) -> Ints:
        """Return the number of articles on sale in each category on a day, at least one: (categories,)."""
        return np.asarray(np.add.reduceat((self.launch <= day).astype(np.int64), self.first[:-1]))


def _launches(plan: Plan, key: Keys, category: Ints) -> Ints:
    later = uniform(key, 1) < _LAUNCHED_LATER
    launch = np.where(later, (uniform(key, 2) * plan.days).astype(np.int64), -1)
    launch[np.flatnonzero(np.diff(category, prepend=-1))] = -1  # a category sells something from the start
    return launch


def build_assortment(plan: Plan) -> Assortment:
    """Return the articles of a simulation."""
    categories = int(np.clip(plan.items // _ITEMS_PER_CATEGORY, 1, len(LEAVES)))
    index = np.arange(plan.items)
    category = index * categories // plan.items
    key = keys(plan.seed, "item", index)
    launch = _launches(plan, key, category)
    order = np.lexsort((index, launch, category))  # what is not sold yet comes last in its category
    key, launch = key[order], launch[order]
    brand = (uniform(key, 3) * len(BRANDS)).astype(np.int64)
    category_place = normals(keys(plan.seed, "category", np.arange(categories)), 0, TASTES) / np.sqrt(TASTES)
    brand_place = normals(keys(plan.seed, "brand", np.arange(len(BRANDS))), 0, TASTES) / np.sqrt(TASTES)
    own = normals(key, 10, TASTES) / np.sqrt(TASTES)
    level = _SPREAD * normal(key, 4)
    median = 8.0 + 72.0 * uniform(keys(plan.seed, "price", np.arange(categories)), 0)
    first = np.searchsorted(category, np.arange(categories + 1))
    rank = np.argsort(np.argsort(uniform(key, 5) + 2.0 * category)) - first[category] + 1
    return Assortment(
        category=category,
        brand=brand,
        place=category_place[category] + _OF_BRAND * brand_place[brand] + _OF_ITEM * own,
        category_place=category_place,
        level=level,
        price=np.ceil(median[category] * np.exp(level)) - 0.01,
        launch=launch,
        weight=rank.astype(np.float64) ** -_TAIL,
        first=first,
        skus=("s" + pl.Series(index).cast(pl.String).str.zfill(len(str(plan.items)))).alias("sku"),
    )


def _items_table(plan: Plan, catalogue: Assortment) -> pl.DataFrame:
    """Return the shop's table of articles; later launches have a date."""
    since = pl.lit(pl.Series(catalogue.launch))
    frame = pl.DataFrame(
        {
            "sku": catalogue.skus,
            "department": pl.Series(DEPARTMENTS).gather(catalogue.category),
            "section": pl.Series(LEAVES).gather(catalogue.category),
            "maker": pl.Series(BRANDS).gather(catalogue.brand),
            "list_price": catalogue.price.round(2),
        }
    )
    singular = pl.col("section").str.strip_suffix("s")
    launched = pl.lit(plan.start) + pl.duration(days=since)
    return frame.with_columns(
        pl.concat_str(["maker", singular, pl.lit(1) + pl.int_range(pl.len())], separator=" ").alias("name"),
        pl.concat_str([singular, pl.lit("by"), "maker"], separator=" ").alias("blurb"),
        pl.when(since >= 0).then(launched.cast(pl.Date)).alias("on_sale_since"),
    )


_TASTE = 2.0  # how far tastes are apart; the preferred category of most people has several times the average's chance
_ACTIVITY = 0.35  # visits per day of the median person
_ACTIVITY_SPREAD = 0.7
_USE = np.array([1.0, 0.5, 0.6, 0.4])  # a person's platforms are drawn with these weights
_KEPT = 0.35  # a person leaves platforms of a smaller share alone
_MEMORY = 0.9  # of mood from one day to the next: half is forgotten after a week
_JOINS_LATER = 0.3
_GENDERS = ("f", "m", "d")


@dataclass(frozen=True)
class People:
    """One row per person."""

    joined: Ints  # day of registration, from the first day; negative is before it, (users,)
    taste: Floats  # what a person likes, (users, TASTES)
    preference: npt.NDArray[np.float32]  # chance of each category in a visit, in an average season, (users, categories)
    budget: Floats  # log of the price over a category's median that a person is at ease with, (users,)
    activity: Floats  # visits per day, in an average season and mood, (users,)
    propensity: Floats  # added to the log-odds of a purchase, (users,)
    platforms: Floats  # share of each platform in a person's visits, (users, 4)
    extra: Floats  # chance of each of three more units in an order, (users,)


def dot(left: Floats, right: Floats) -> Floats:
    """Return the sum of products over the last axis, in an order of summation independent of the number of rows.

    A matrix product may change the order with the number of rows, and then differ in the last bit.
    """
    total = left[..., 0] * right[..., 0]
    for k in range(1, TASTES):
        total = total + left[..., k] * right[..., k]
    return np.asarray(total)


def _preference(taste: Floats, catalogue: Assortment) -> npt.NDArray[np.float32]:
    likes = np.stack([dot(taste, place) for place in catalogue.category_place], axis=1)
    chance = np.exp(likes - likes.max(axis=1, keepdims=True))
    return np.asarray(chance / chance.sum(axis=1, keepdims=True), dtype=np.float32)


def _platforms(seed: int, users: Ints) -> Floats:
    key = keys(seed, "platforms", users)
    weight = _USE * np.stack([-np.log1p(-uniform(key, lane)) for lane in range(len(PLATFORMS))], axis=1)
    weight = np.where(weight >= _KEPT * weight.max(axis=1, keepdims=True), weight, 0.0)
    return np.asarray(weight / weight.sum(axis=1, keepdims=True))


def build_people(plan: Plan, catalogue: Assortment) -> People:
    """Return the people of a simulation."""
    users = np.arange(plan.users)
    key = keys(plan.seed, "person", users)
    taste = _TASTE * normals(key, 20, TASTES)
    before = -1 - (uniform(key, 1) * 730).astype(np.int64)
    within = (uniform(key, 2) * plan.days).astype(np.int64)
    budget = 0.4 * normal(key, 3)
    return People(
        joined=np.where(uniform(key, 0) < _JOINS_LATER, within, before),
        taste=taste,
        preference=_preference(taste, catalogue),
        budget=budget,
        activity=_ACTIVITY * np.exp(_ACTIVITY_SPREAD * normal(key, 4)),
        propensity=0.6 * normal(key, 5),
        platforms=_platforms(plan.seed, users),
        extra=logistic(budget - 1.5),
    )


def next_mood(seed: int, day: int, mood: Floats | None, users: int) -> Floats:
    """Return the mood of all people on a day, given the day before: a stationary AR(1) of variance 1, (users,)."""
    news = normal(keys(seed, "mood", np.arange(users), day), 0)
    return news if mood is None else _MEMORY * mood + np.sqrt(1.0 - _MEMORY**2) * news


def _users_table(plan: Plan, people: People) -> pl.DataFrame:
    """Return the shop's table of customers: customer, member_since, sex, born, newsletter."""
    key = keys(plan.seed, "profile", np.arange(plan.users))
    since = pl.lit(plan.start) + pl.duration(days=pl.lit(pl.Series(people.joined)))
    sex = pick(uniform(key, 0), np.cumsum([0.52, 0.46, 0.02]))
    born = plan.start.year - 18 - (uniform(key, 1) * 62).astype(np.int64)
    silent = pl.lit(pl.Series(uniform(key, 2) < 0.2))  # one in five states nothing about themselves
    return pl.select(
        customers(np.arange(plan.users)).alias("customer"),
        since.cast(pl.Date).alias("member_since"),
        pl.when(~silent).then(pl.lit(pl.Series(_GENDERS).gather(sex))).alias("sex"),
        pl.when(~silent).then(pl.lit(pl.Series(born))).alias("born"),
        pl.lit(pl.Series(uniform(key, 3) < 0.4)).alias("newsletter"),
    )


def customers(users: Ints) -> pl.Series:
    """Return the IDs of people."""
    return "u" + pl.Series("customer", users).cast(pl.String)


_EVERY = 14  # days from one campaign to the next; the longest lasts 10, so that there is at most one at a time
_FIRST = 2
_EXPOSED = 0.25
NONE = -1


@dataclass(frozen=True)
class Campaigns:
    """One row per campaign."""

    seed: int  # of the simulation
    start: Ints  # first day, (campaigns,)
    end: Ints  # the day after the last, (campaigns,)
    category: Ints  # what is cheaper, (campaigns,)
    discount: Floats  # share of the price that is taken off, (campaigns,)

    def on(self, day: int) -> int:
        """Return the campaign of a day, or NONE."""
        found = np.flatnonzero((self.start <= day) & (day < self.end))
        return int(found[0]) if found.size else NONE

    def exposed(self, campaign: int, users: Ints, joined: Ints) -> Flags:
        """Return who is notified of a campaign: some of those who were registered when it began."""
        if campaign == NONE:
            return np.zeros(users.shape, dtype=np.bool_)
        drawn = uniform(keys(self.seed, "exposed", users, campaign), 0) < _EXPOSED
        return np.asarray(drawn & (joined <= self.start[campaign]))

    def prices(self, campaign: int, catalogue: Assortment) -> Floats:
        """Return the prices of all articles during a campaign, in EUR rounded to cents: (items,)."""
        if campaign == NONE:
            return catalogue.price.round(2)
        cheaper = catalogue.category == self.category[campaign]
        return np.where(cheaper, catalogue.price * (1.0 - self.discount[campaign]), catalogue.price).round(2)


def build_campaigns(plan: Plan, catalogue: Assortment) -> Campaigns:
    """Return the campaigns of a simulation: one per fortnight."""
    start = np.arange(_FIRST, plan.days, _EVERY)
    key = keys(plan.seed, "campaign", np.arange(start.size))
    return Campaigns(
        seed=plan.seed,
        start=start,
        end=start + 5 + (uniform(key, 0) * 6).astype(np.int64),
        category=(uniform(key, 1) * len(catalogue.category_place)).astype(np.int64),
        discount=0.1 + 0.1 * np.floor(uniform(key, 2) * 4),
    )


def campaign_id(campaign: int) -> str | None:
    """Return the ID of a campaign; None for NONE."""
    return None if campaign == NONE else f"c{campaign}"


def _campaigns_table(plan: Plan, campaigns: Campaigns, people: People) -> pl.DataFrame:
    """Return the shop's table of notifications: promo, customer, title, discount, from_day, to_day."""
    everybody, number = np.arange(plan.users), np.arange(campaigns.start.size)
    notified = [np.flatnonzero(campaigns.exposed(n, everybody, people.joined)) for n in number.tolist()]
    first = day_start(plan.start, 0)
    about = pl.DataFrame(
        {
            "promo": "c" + pl.Series(number).cast(pl.String),
            "title": [
                f"{round(discount * 100)}% off {LEAVES[category]}"
                for discount, category in zip(campaigns.discount, campaigns.category, strict=True)
            ],
            "discount": campaigns.discount,
            "from_day": first + campaigns.start * DAY_MS,
            "to_day": first + campaigns.end * DAY_MS,
            "customer": pl.Series(notified, dtype=pl.List(pl.Int64)),
        }
    )
    return about.explode("customer").select(
        ("u" + pl.col("customer").cast(pl.String)).alias("customer"),
        "promo",
        pl.col("title").cast(pl.String),
        "discount",
        pl.col("from_day", "to_day").cast(pl.Datetime("ms")),
    )


@dataclass(frozen=True)
class World:
    """The shop and its people."""

    plan: Plan  # what was asked for
    catalogue: Assortment  # what is sold
    people: People  # who could visit
    campaigns: Campaigns  # what is cheaper when
    # factor on people's number of visits, so that the log has the requested size
    scale: float = 1.0


def build_world(plan: Plan) -> World:
    """Return the world of a plan, without scaling people's activity."""
    catalogue = build_assortment(plan)
    return World(plan, catalogue, build_people(plan, catalogue), build_campaigns(plan, catalogue))


def write_tables(world: World, folder: Path) -> None:
    """Write the shop's other tables: products, customers and promos."""
    _items_table(world.plan, world.catalogue).write_parquet(folder / "products.parquet")
    _users_table(world.plan, world.people).write_parquet(folder / "customers.parquet")
    _campaigns_table(world.plan, world.campaigns, world.people).write_parquet(folder / "promos.parquet")
