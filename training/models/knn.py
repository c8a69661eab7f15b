"""Neighbourhood models that a next-item model must beat: of items (item-kNN, rules, content, EASE) and of users."""

from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from features.histories import Histories
from training.models.content import ContentMap
from training.models.content_vectors import content_vectors
from training.models.contract import Model
from training.models.counts import popular_items
from training.models.memory import Visits
from training.models.neighbours import Neighbours
from training.models.ranking import Ranking, top_items, top_sparse
from training.rows import Inputs, RowSet

_BATCH = 128  # rows ranked at once


class _Knn(Model):
    """A model that scores items by a product of the history with something counted."""

    tasks = frozenset({"next_item"})

    @abstractmethod
    def _scores(self, inputs: Inputs) -> csr_array | NDArray[np.float32]:
        """Return the scores of all items, (rows, catalogue size)."""

    def recommend(self, inputs: Inputs, k: int) -> Ranking:
        """See `Model.recommend`; popular items fill the places after those with a score."""
        parts = []
        for begin in range(0, len(inputs), _BATCH):
            rows = inputs.take(slice(begin, begin + _BATCH))
            scores = self._scores(rows)
            found = top_sparse(scores, k) if isinstance(scores, csr_array) else top_items(scores, k)
            parts.append(found.filled(popular_items(rows, "item_events_28d", 2 * k)))
        return Ranking.join(parts)


class ItemKnn(_Knn):
    """Items similar to the latest events, by the cosine of how often they occur near each other."""

    name = "item_knn"
    part: ClassVar[int] = 1

    def fit(self, train: RowSet, validation: RowSet, live: Path | None) -> None:
        """Count what is known when the validation rows end."""
        self.neighbours = Neighbours.count(train.full_log, self.catalogue.size, validation.inputs.now.max())

    def _scores(self, inputs: Inputs) -> csr_array:
        return self.neighbours.follow(inputs.history)[self.part]

    def export(self, folder: Path) -> dict[str, Any]:
        """Write the neighbours."""
        self.neighbours.save(folder / "neighbours.npz")
        return {}

    def restore(self, folder: Path, kept: dict[str, Any]) -> None:
        """Load the neighbours."""
        self.neighbours = Neighbours.load(folder / "neighbours.npz")

    def parameter_count(self) -> int:
        """Return the number of kept pairs."""
        return int((self.neighbours.rules, self.neighbours.similar)[self.part].nnz)


class SequentialRules(ItemKnn):
    """Items that follow the latest events, by how often they did so among all users."""

    name = "sequential_rules"
    part = 0


class ContentKnn(_Knn):
    """Items whose content goes with that of the latest events; it ranks items that were never taken like any other."""

    name = "content_knn"

    def fit(self, train: RowSet, validation: RowSet, live: Path | None) -> None:
        """Learn from the similarity of items that is known when the validation rows end."""
        size = self.catalogue.size
        similar = Neighbours.count(train.full_log, size, validation.inputs.now.max()).similar
        self.content = ContentMap.fit(content_vectors(self.catalogue), similar)

    def _scores(self, inputs: Inputs) -> NDArray[np.float32]:
        return self.content.scores(self.content.queries(inputs.history))

    def export(self, folder: Path) -> dict[str, Any]:
        """Write the map and the content."""
        arrays: dict[str, Any] = self.content.arrays()
        np.savez_compressed(folder / "content.npz", **arrays)
        return {}

    def restore(self, folder: Path, kept: dict[str, Any]) -> None:
        """Load the map and the content."""
        with np.load(folder / "content.npz") as file:
            self.content = ContentMap.of_arrays(file)

    def parameter_count(self) -> int:
        """Return the number of values in the learned matrix."""
        return int(self.content.matrix.size)


def _vectors(history: Histories, now: NDArray[np.datetime64], size: int, decay: float) -> csr_array:
    """Return each row's items with decayed counts, exp(-days/decay), (rows, size)."""
    visits = Visits.read(history, now)
    weight = np.exp(-visits.age / decay).astype(np.float32)
    return csr_array((weight, (visits.row, visits.item)), shape=(len(history), size))


class Ease(_Knn):
    """EASE: a linear item-item model in closed form, B = I - P / diag(P) with P = (X'X + lambda I)^-1.

    Steck, "Embarrassingly shallow autoencoders for sparse data" (WWW 2019), eq. 8, over the most frequent items; the
    inverse of n items takes n^2 memory.
    """

    name = "ease"
    _items: ClassVar[int] = 4_000
    _lambda: ClassVar[float] = 200.0
    _decay: ClassVar[float] = 90.0

    def fit(self, train: RowSet, validation: RowSet, live: Path | None) -> None:
        """Solve for the users known when the validation rows end."""
        until = validation.inputs.now.max()
        log = train.full_log
        users = log.users["user_id"].to_numpy()
        times = np.full(len(users), until)
        x = _vectors(log.as_of(users, times, 4096), times, self.catalogue.size, self._decay)
        counts = np.asarray((x > 0).sum(axis=0)).ravel()
        self.kept = np.sort(np.argsort(-counts, kind="stable")[: self._items]).astype(np.int32)
        self.kept = self.kept[counts[self.kept] > 0]
        part = (x[:, self.kept] > 0).astype(np.float32)
        gram = np.asarray((part.T @ part).todense(), dtype=np.float64)
        gram[np.diag_indices_from(gram)] += self._lambda
        inverse = np.linalg.inv(gram)
        weights = -inverse / np.diag(inverse)
        weights[np.diag_indices_from(weights)] = 0
        self.weights = weights.astype(np.float32)

    def _scores(self, inputs: Inputs) -> NDArray[np.float32]:
        own = _vectors(inputs.history, inputs.now, self.catalogue.size, self._decay)
        scores = np.asarray(own.todense(), dtype=np.float32)  # what the person takes, plus what goes with it
        scores[:, self.kept] += own[:, self.kept] @ self.weights
        return scores

    def export(self, folder: Path) -> dict[str, Any]:
        """Write the weights and the items that they are for."""
        np.savez_compressed(folder / "ease.npz", kept=self.kept, weights=self.weights)
        return {}

    def restore(self, folder: Path, kept: dict[str, Any]) -> None:
        """Load what `export` wrote."""
        with np.load(folder / "ease.npz") as file:
            self.kept, self.weights = file["kept"], file["weights"]

    def parameter_count(self) -> int:
        """Return the number of weights."""
        return int(self.weights.size)


class _UserKnn(_Knn):
    """A model that adds what similar users take; their vectors are as of the end of the validation rows."""

    _users: ClassVar[int] = 20_000
    _neighbours: ClassVar[int] = 300

    @abstractmethod
    def _represent(self, history: Histories, now: NDArray[np.datetime64]) -> csr_array:
        """Return the vectors of rows, (rows, catalogue size)."""

    def fit(self, train: RowSet, validation: RowSet, live: Path | None) -> None:
        """Compute the vectors of all users, or of a sample of many."""
        log = train.full_log
        users = log.users["user_id"].to_numpy()
        if len(users) > self._users:
            chosen = np.random.default_rng(self.recipe.seed).choice(len(users), self._users, replace=False)
            users = users[np.sort(chosen)]
        times = np.full(len(users), validation.inputs.now.max())
        self.vectors = self._represent(log.as_of(users, times, 4096), times)

    def _near(self, own: csr_array) -> csr_array:
        """Return the nearest users of each vector by cosine similarity, (rows, users)."""
        unit = _normalized(own) @ self._columns
        return _nearest(np.asarray(unit.todense(), dtype=np.float32), self._neighbours)

    @cached_property
    def _columns(self) -> csr_array:
        """The normalized vectors of the users, transposed: (catalogue size, users)."""
        return csr_array(_normalized(self.vectors).T)

    def export(self, folder: Path) -> dict[str, Any]:
        """Write the vectors."""
        np.savez_compressed(
            folder / "users.npz", data=self.vectors.data, indices=self.vectors.indices, indptr=self.vectors.indptr
        )
        return {}

    def restore(self, folder: Path, kept: dict[str, Any]) -> None:
        """Load the vectors."""
        with np.load(folder / "users.npz") as file:
            parts = (file["data"], file["indices"], file["indptr"])
        self.vectors = csr_array(parts, shape=(len(parts[2]) - 1, self.catalogue.size))

    def parameter_count(self) -> int:
        """Return the number of values in the users' vectors."""
        return int(self.vectors.nnz)


def _normalized(matrix: csr_array) -> csr_array:
    norm = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    scaled = matrix.copy()
    scaled.data = matrix.data / np.repeat(np.maximum(norm, 1e-9), np.diff(matrix.indptr)).astype(np.float32)
    return scaled


def _nearest(similarity: NDArray[np.float32], k: int) -> csr_array:
    """Return the k most similar users of each row with their similarity, (rows, users)."""
    k = min(k, similarity.shape[1])
    users = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
    rows = np.repeat(np.arange(len(similarity)), k)
    weight = np.maximum(np.take_along_axis(similarity, users, axis=1), 0).ravel()
    return csr_array((weight, (rows, users.ravel())), shape=similarity.shape)


class TifuKnn(_UserKnn):
    """TIFU-KNN: the user's own decayed item frequencies, mixed with those of the nearest users.

    Hu et al., "Modeling personalized item frequency information for next-basket recommendation" (SIGIR 2020), section
    4: baskets decay within groups of m, groups decay against each other; m 7, rates 0.9 and 0.7, 300 neighbours, 0.7
    of the own vector.
    """

    name = "tifu_knn"
    _size, _within, _between, _own = 7, 0.9, 0.7, 0.7

    def _represent(self, history: Histories, now: NDArray[np.datetime64]) -> csr_array:
        visits = Visits.read(history, now)
        group, place = visits.basket // self._size, visits.basket % self._size
        baskets = np.zeros(visits.rows, dtype=np.int64)
        np.maximum.at(baskets, visits.row, visits.basket + 1)
        groups = -(-baskets // self._size)[visits.row]
        members = np.minimum(self._size, baskets[visits.row] - group * self._size)
        weight = self._within**place / members * self._between**group / np.maximum(groups, 1)
        shape = (visits.rows, self.catalogue.size)
        return csr_array((weight.astype(np.float32), (visits.row, visits.item)), shape=shape)

    def _scores(self, inputs: Inputs) -> NDArray[np.float32]:
        own = self._represent(inputs.history, inputs.now)
        near = self._near(own)
        near.data = np.full(len(near.data), 1 / max(1, near.indptr[1]), dtype=np.float32)
        mixed = own * np.float32(self._own) + (near @ self.vectors) * np.float32(1 - self._own)
        return np.asarray(mixed.todense(), dtype=np.float32)


class UpCf(_UserKnn):
    """UP-CF: what similar users take lately, weighted by a power of the similarity.

    Faggioli, Polato & Aiolli, "Recency aware collaborative filtering for next basket recommendation" (UMAP 2020),
    eq. 6: popularity within the latest r baskets of each user, cosine similarity to the power q; r 25, q 10.
    """

    name = "up_cf"
    _window, _power = 25, 10.0

    def _represent(self, history: Histories, now: NDArray[np.datetime64]) -> csr_array:
        visits = Visits.read(history, now)
        recent = visits.basket < self._window
        weight = np.full(int(recent.sum()), 1 / self._window, dtype=np.float32)
        return csr_array((weight, (visits.row[recent], visits.item[recent])), shape=(visits.rows, self.catalogue.size))

    def _scores(self, inputs: Inputs) -> NDArray[np.float32]:
        own = self._represent(inputs.history, inputs.now)
        near = self._near(own)
        near.data **= np.float32(self._power)
        mixed = own + near @ self.vectors  # a user is most similar to themself, at similarity 1
        return np.asarray(mixed.todense(), dtype=np.float32)
