"""Candidates of a next-item model: the items worth ranking for a row, each described by numbers.

Four sources: what the user remembers (the items of the history), what follows the latest events (rules between items),
what is popular, and what nobody took yet but resembles by content what goes with the latest events. A ranker that sees
the scores of all as features can be no worse than the best of them except by its own noise, which is how industrial
recommenders are built (Covington et al., RecSys 2016).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from features.catalogue import FIRST_INDEX, Catalogue
from features.items import NAMES as ITEM_NAMES
from features.items import ItemTables
from shoplens.params import CandidateParams
from training.models.content import ContentMap, Pool, has_events
from training.models.content_vectors import content_vectors
from training.models.memory import Describer, Places, Rhythm, Visits, item_rows, memory_score, ranks
from training.models.neighbours import Neighbours
from training.rows import Inputs, RowSet

_EPSILON = 1e-4  # of a rule's score
_FAR_RANK = 1000.0  # of an item without a score
_POPULARITY = ("item_events_7d", "item_buys_28d")
_PATHS = ("category_1_code", "category_2_code", "category_3_code", "brand_code")


@dataclass(frozen=True)
class Candidates:
    """The candidates of a batch of rows, flat.

    Attributes:
        rows: Number of rows.
        row: Row of each candidate, ascending.
        item: Catalogue index; each once per row, ascending within a row.
        features: float32 (candidates, features).
    """

    rows: int
    row: Places
    item: NDArray[np.int64]
    features: NDArray[np.float32]


class CandidateMaker:
    """Finds and describes candidates."""

    def __init__(self, catalogue: Catalogue, params: CandidateParams) -> None:
        self._params = params
        self.uses_content = params.unseen > 0  # until the training rows show that it finds nothing
        self._catalogue = catalogue
        self.size = catalogue.size
        none = np.zeros(FIRST_INDEX, dtype=np.int64)
        codes = {name: np.concatenate([none, catalogue.frame[name].to_numpy().astype(np.int64)]) for name in _PATHS}
        self._describer = Describer(codes, catalogue.size)
        self.names: tuple[str, ...] = ()
        self._popular: tuple[ItemTables, NDArray[np.int64]] | None = None  # of the tables seen last
        self._pools: tuple[ItemTables, dict[int, Pool]] | None = None  # the same

    @cached_property
    def content(self) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The content vectors of the catalogue, which only training needs; see `content_vectors`."""
        return content_vectors(self._catalogue)

    def make(self, inputs: Inputs, neighbours: Neighbours | None, also: int | None = None) -> Candidates:
        """Return the candidates of each row.

        Args:
            inputs: The rows; their item tables must reach back to the earliest row.
            neighbours: Rules counted before the rows' times; None if the parameters use none.
            also: Catalogue index of an item that is a candidate of every row, whatever the sources give.
        """
        rows, now = len(inputs), inputs.now
        items = inputs.item_tables
        visits = Visits.read(inputs.history, now)
        own = Rhythm.of(visits, visits.item, self.size)
        kept = ranks(own.row, memory_score(own), rows) < self._params.memory
        codes = [own.code[kept]]
        scores = []
        if neighbours is not None and self._params.neighbours:
            for matrix in neighbours.follow(inputs.history):
                row = np.repeat(np.arange(rows), np.diff(matrix.indptr))
                code, score = row * self.size + matrix.indices, matrix.data.astype(np.float64)
                order = np.argsort(code)
                code, score, row = code[order], score[order], row[order]
                place = ranks(row, score, rows)
                item = code % self.size
                codes.append(code[(place < self._params.neighbours) & (item >= FIRST_INDEX)])
                scores.append((code, score, place))
        if self._params.popular:
            popular = self.popular(items)[items.at(now)]  # (rows, popular)
            codes.append((np.arange(rows)[:, None] * self.size + popular)[popular >= FIRST_INDEX])
        content = None if neighbours is None else neighbours.content
        if content is not None:
            queries = content.queries(inputs.history)
            unseen = self._unseen(content, queries, items, items.at(now))  # (rows, unseen)
            codes.append((np.arange(rows)[:, None] * self.size + unseen)[unseen >= FIRST_INDEX])
        if also is not None:
            codes.append(np.arange(rows) * self.size + also)
        code = np.unique(np.concatenate(codes))
        row, item = code // self.size, code % self.size
        table = item_rows(items, now, row, item)
        described = self._describer.describe(visits, own, row, item, table, items.announced)
        columns, names = [described], list(self._describer.names)
        for name, (found, score, place) in zip(("rule", "similar"), scores, strict=False):
            at = np.minimum(np.searchsorted(found, code), max(len(found) - 1, 0))
            has = found[at] == code if len(found) else np.zeros(len(code), dtype=bool)
            columns.append(
                np.where(has, np.log(score[at] + _EPSILON) if len(found) else 0.0, np.log(_EPSILON))[:, None]
            )
            columns.append(np.where(has, np.log1p(place[at]) if len(found) else 0.0, np.log1p(1000.0))[:, None])
            names += [f"{name}_score", f"{name}_rank"]
        if content is not None:
            likeness = content.score(queries, row, item).astype(np.float64)
            columns += [likeness[:, None], np.log1p(ranks(row, likeness, rows))[:, None]]
            names += ["content_score", "content_rank"]
        self.names = tuple(names)
        return Candidates(rows, row, item, np.concatenate(columns, axis=1).astype(np.float32))

    def share_found_unseen(self, rows: RowSet, content: ContentMap) -> float:
        """Return the share of all targets that are among the unseen candidates of their rows."""
        items = rows.inputs.item_tables
        found = self._unseen(content, content.queries(rows.inputs.history), items, items.at(rows.inputs.now))
        hits = [int(np.isin(wanted, best).sum()) for wanted, best in zip(rows.target_sets, found, strict=True)]
        return sum(hits) / max(1, sum(len(wanted) for wanted in rows.target_sets))

    def popular(self, items: ItemTables) -> NDArray[np.int64]:
        """Return the most popular items of each table, (tables, params.popular), best first; 0: there are fewer."""
        if self._popular is None or self._popular[0] is not items:
            self._popular = items, _popular(items, self._params.popular)
        return self._popular[1]

    def _unseen(
        self, content: ContentMap, queries: NDArray[np.float32], items: ItemTables, tables: Places
    ) -> NDArray[np.int64]:
        """Return the best items without an event as of each row's table, (rows, params.unseen); 0: there are fewer."""
        if self._pools is None or self._pools[0] is not items:
            self._pools = items, {}
        found = np.zeros((len(queries), self._params.unseen), dtype=np.int64)
        for table in np.unique(tables):
            if table not in self._pools[1]:
                unseen = np.flatnonzero(~has_events(items, table))
                self._pools[1][table] = content.pool(unseen[unseen >= FIRST_INDEX])
            pool = self._pools[1][table]
            rows = tables == table
            found[rows] = content.best(queries[rows], pool, self._params.unseen)
        return found


def _popular(items: ItemTables, count: int) -> NDArray[np.int64]:
    """Return the most popular items of each table, (tables, count), by events and by purchases in turn; 0: fewer."""
    found = np.zeros((len(items.times), count), dtype=np.int64)
    columns = [ITEM_NAMES.index(name) for name in _POPULARITY]
    for table, values in enumerate(items.values):
        orders = [np.argsort(-values[:, k], kind="stable")[:count] for k in columns]
        mixed = np.stack(
            [np.where(values[order, k] > 0, order, 0) for order, k in zip(orders, columns, strict=True)], 1
        )
        listed = list(dict.fromkeys(int(item) for item in mixed.ravel() if item))[:count]
        found[table, : len(listed)] = listed
    return found
