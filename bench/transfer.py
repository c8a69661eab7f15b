"""Does a content map learned in one shop help another, which has little data? Learning curves with intervals.

A fifth of the second shop's items is hidden from its log. A map is learned from a share of its users; it starts from
nothing, from the similarity of words, or from the map of the first shop. For the targets that are hidden it
ranks all hidden items, for the others all other items.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bench.harness import ROOT, markdown
from features.catalogue import FIRST_INDEX, Catalogue
from features.histories import UserLog
from shoplens.files import read_json
from shoplens.params import load_params
from training.datasets import build_rows
from training.metrics import ranking_metrics
from training.models.content import ContentMap
from training.models.content_vectors import content_vectors
from training.models.neighbours import Neighbours
from training.models.ranking import top_items
from training.resamples import Array, Resamples, interval, paired_difference
from training.rows import RowSet

_SHARES = (0.01, 0.05, 0.2, 1.0)
_BATCH = 250
_NEVER = np.float32(-1e9)  # the score of an item that is not to be ranked
Flags = NDArray[np.bool_]


def _without(log: Any, hidden: Flags) -> Any:
    """Return a copy of an event log whose events of hidden items have no item."""
    item = np.asarray(log.item_index)
    return replace(log, item_index=np.where(hidden[item], np.int32(0), item))


@dataclass(frozen=True)
class Shop:
    """A shop some of whose items are hidden.

    Attributes:
        catalogue: All items.
        hidden: Which of them are hidden, (size,).
        test: Test rows; the hidden items are missing in their histories, not in their targets.
        log: The log without the hidden items; the test begins at `until`.
    """

    catalogue: Catalogue
    hidden: Flags
    test: RowSet
    log: UserLog
    until: np.datetime64

    @classmethod
    def open(cls, outs: Path, most: int) -> "Shop":
        """Read the outputs of the stage `features`, hide a fifth of the items, and take at most `most` test rows."""
        params = load_params(ROOT / "params.yaml")
        catalogue = Catalogue.load(outs / "features/catalogue.parquet")
        random = np.random.default_rng(params.seed)
        hidden = (random.random(catalogue.size) < 0.2) & (np.arange(catalogue.size) >= FIRST_INDEX)
        rows = build_rows("next_item", params, outs).test
        until = rows.inputs.now.min()
        rows = rows.take(np.sort(random.permutation(len(rows))[:most]))
        history = rows.inputs.history
        rows = replace(rows, inputs=replace(rows.inputs, history=replace(history, log=_without(history.log, hidden))))
        log = UserLog.load(outs / "features/event_log")
        return cls(catalogue, hidden, rows, replace(log, events=_without(log.events, hidden)), until)

    def similar(self, share: float, seed: int) -> Any:
        """Return the similarity of items among a sample of users, (size, size)."""
        users = self.log.users.sort("begin")
        kept = np.random.default_rng(seed).random(users.height) < share
        of_kept = np.repeat(kept, (users["end"] - users["begin"]).to_numpy())
        item = np.where(of_kept, self.log.events.item_index, np.int32(0))
        log = replace(self.log, events=replace(self.log.events, item_index=item))
        return Neighbours.count(log, self.catalogue.size, self.until).similar

    def alike(self) -> NDArray[np.float32]:
        """Return for each item the mean number of events of items with its categories, brand and price, (size,)."""
        known = np.asarray(self.log.events.known_time) < self.until
        count = np.bincount(self.log.events.item_index[known], minlength=self.catalogue.size)[FIRST_INDEX:]
        columns = ["category_1", "category_2", "category_3", "brand", "price_band"]
        mean = pl.col("count").filter(pl.col("count") > 0).mean().over(columns).fill_null(0.0)
        found = self.catalogue.frame.with_columns(pl.Series("count", count)).select(mean)["count"].to_numpy()
        return np.append(np.zeros(FIRST_INDEX), found).astype(np.float32)

    def recall(self, scores: Any, part: Flags) -> tuple[Array, Flags]:
        """Return recall@20 of the rows with targets in a part of the catalogue, ranking that part, and these rows.

        Args:
            scores: Maps a slice of the rows to their scores, (rows, size).
            part: The items that are ranked, (size,).
        """
        targets = [wanted[part[wanted]] for wanted in self.test.target_sets]
        has = np.array([len(one) > 0 for one in targets])
        best = []
        for begin in range(0, len(targets), _BATCH):
            values = np.where(part, scores(slice(begin, begin + _BATCH)), _NEVER)
            best.append(top_items(values.astype(np.float32), 20).items)
        found = ranking_metrics(np.concatenate(best)[has], [one for one in targets if len(one)])["recall@20"]
        return found, has


def _first_map(outs: Path) -> NDArray[np.float32]:
    """Return the map that all data of a shop teach."""
    catalogue = Catalogue.load(outs / "features/catalogue.parquet")
    until = datetime.fromisoformat(read_json(outs / "validated/dataset.json")["high_water"]).replace(tzinfo=None)
    log = UserLog.load(outs / "features/event_log")
    similar = Neighbours.count(log, catalogue.size, np.datetime64(until, "us")).similar
    return ContentMap.fit(content_vectors(catalogue), similar).matrix


def transfer(first: Path, second: Path, rows: int, seeds: int) -> str:
    """Return the table of the learning curves of the second shop.

    Args:
        first: Outputs (`outs/`) of the shop whose map is transferred.
        second: Outputs of the other shop.
        rows: Test rows, at most.
        seeds: Samples of users per share, whose recalls are averaged per row.
    """
    other, shop = _first_map(first), Shop.open(second, rows)
    content = content_vectors(shop.catalogue)
    width = len(other)
    starts = {"nothing": np.zeros_like(other), "words": None, "other shop": other}
    resamples = Resamples(shop.test.user_id, 500, 0)

    def of_map(matrix: NDArray[np.float32]) -> Any:
        found = ContentMap(*content, matrix)
        queries = found.queries(shop.test.inputs.history)
        return lambda rows: found.scores(queries[rows])

    random, alike = np.random.default_rng(1), shop.alike()
    shape = (len(shop.test), shop.catalogue.size)
    ways: dict[tuple[str, str], list[Any]] = {
        ("", "chance"): [lambda rows: random.random((len(range(*rows.indices(shape[0]))), shape[1]))],
        ("", "popularity of like items"): [lambda rows: np.tile(alike, (len(range(*rows.indices(shape[0]))), 1))],
        ("0%", "words"): [of_map(np.eye(width, dtype=np.float32))],
        ("0%", "other shop"): [of_map(other)],
    }
    for share in _SHARES:
        similar = [shop.similar(share, seed) for seed in range(seeds if share < 1 else 1)]
        for name, prior in starts.items():
            ways[f"{share:.0%}", name] = [of_map(ContentMap.fit(content, one, prior).matrix) for one in similar]
    parts = {"hidden": shop.hidden, "others": ~shop.hidden}
    samples: dict[tuple[str, str], dict[str, Array]] = {}
    for way, seeds in ways.items():
        samples[way] = {}
        for name, part in parts.items():
            found = [shop.recall(scores, part) for scores in seeds]
            samples[way][name] = resamples.mean(np.mean([one for one, _ in found], axis=0), found[0][1])
    rows = []
    for (share, start), one in samples.items():
        base = samples.get((share, "words"))
        gaps = [str(paired_difference(one[k], base[k])) if base and start == "other shop" else "" for k in parts]
        rows.append([share, start, *(str(interval(one[k])) for k in parts), *gaps])
    measured = [f"recall@20 of {name}" for name in parts]
    return markdown(["data", "start", *measured, *(f"{one}, minus words" for one in measured)], rows)
