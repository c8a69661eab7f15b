"""What the shop sells: categories, brands, prices, and articles that come in over time."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from simulator.draws import Floats, Ints, Keys, keys, normal, normals, uniform
from simulator.plan import Plan

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
_ITEMS_A_CATEGORY = 20  # fewer, and a page of results would show them all
_OF_BRAND, _OF_ITEM = 0.6, 0.5  # beside 1 for the category, in what an article is
_SPREAD = 0.45  # of log price within a category
_LAUNCHED_LATER = 0.25
_TAIL = 0.8  # exponent of popularity within a category (Zipf)


@dataclass(frozen=True)
class Assortment:
    """Articles in order of category, then launch; index = place."""

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
        """Return how many articles of each category are sold on a day, at least one: (categories,)."""
        return np.asarray(np.add.reduceat((self.launch <= day).astype(np.int64), self.first[:-1]))


def _launches(plan: Plan, key: Keys, category: Ints) -> Ints:
    later = uniform(key, 1) < _LAUNCHED_LATER
    launch = np.where(later, (uniform(key, 2) * plan.days).astype(np.int64), -1)
    launch[np.flatnonzero(np.diff(category, prepend=-1))] = -1  # a category sells something from the start
    return launch


def build_assortment(plan: Plan) -> Assortment:
    """Return the articles of a simulation."""
    categories = int(np.clip(plan.items // _ITEMS_A_CATEGORY, 1, len(LEAVES)))
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


def items_table(plan: Plan, catalogue: Assortment) -> pl.DataFrame:
    """Return the shop's own table of articles, with the day since when one is sold that came in later."""
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
