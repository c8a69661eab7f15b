"""The rank of the one right item among the whole catalogue, and the metrics that follow from it.

The catalogue is never sampled (Krichene & Rendle, 2020). Equal scores count against the model, so that a model that
scores all items alike ranks last.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from training.data.sequences import Sequences
from training.data.windows import Longs, ragged_ranges
from training.protocols.splits import Queries

Floats = NDArray[np.float32]
Array = NDArray[np.float64]
_MOST_ROWS = 512
_SCORES = 1 << 25  # scores in memory at once: 134 MB, and the same again for each copy


def rows_at_once(items: int) -> int:
    """Return how many queries are scored at once, so that memory does not grow with the catalogue."""
    return max(1, min(_MOST_ROWS, _SCORES // items))


class Scorer(Protocol):
    """Anything that scores all items for queries."""

    def score(self, sequences: Sequences, queries: Queries) -> Iterator[tuple[Longs, Floats]]:
        """Yield the numbers of some queries, (m,), and their scores, (m, items): column k is that of item k + 1."""


def seen_pairs(sequences: Sequences, queries: Queries) -> tuple[Longs, Longs]:
    """Return (query, column) of every event that a query may look at, both (events,)."""
    event, row = ragged_ranges(queries.begin, queries.target - queries.begin)
    return row, sequences.item[event].astype(np.int64) - 1


def ranks(scorer: Scorer, sequences: Sequences, queries: Queries, *, mask_seen: bool) -> Longs:
    """Return the rank of each query's target, from 1, (queries,).

    With `mask_seen` the user's earlier items are left out of the ranking; a target among them gets the last rank.
    """
    found = np.zeros(len(queries), np.int64)
    for number, given in scorer.score(sequences, queries):
        part = queries.take(number)
        wanted = sequences.item[part.target].astype(np.int64) - 1
        scores = given
        if mask_seen:
            scores = given.copy()
            scores[seen_pairs(sequences, part)] = -np.inf
        value = scores[np.arange(len(part)), wanted]
        better = (scores >= value[:, None]).sum(axis=1)  # includes the target itself
        found[number] = np.where(np.isfinite(value), better, sequences.items)
    return found


def repeats(sequences: Sequences, queries: Queries) -> NDArray[np.bool_]:
    """Return whether each target is an item that the user had before, (queries,)."""
    found = np.zeros(len(queries), np.bool_)
    for begin in range(0, len(queries), _MOST_ROWS):
        part = queries.take(slice(begin, begin + _MOST_ROWS))
        row, column = seen_pairs(sequences, part)
        same = column == sequences.item[part.target][row] - 1
        found[begin + row[same]] = True
    return found


def rank_metrics(rank: Longs) -> dict[str, Array]:
    """Return each query's metrics; with one relevant item, recall is the hit rate and NDCG is 1 / log2(rank + 1)."""
    metrics: dict[str, Array] = {}
    for k in (5, 10, 20):
        hit = rank <= k
        metrics[f"hr@{k}"] = hit.astype(np.float64)
        metrics[f"ndcg@{k}"] = np.where(hit, 1 / np.log2(rank + 1), 0.0)
        metrics[f"mrr@{k}"] = np.where(hit, 1 / rank, 0.0)
    return metrics


def bootstrap_means(value: Array, user: Longs, resamples: int, seed: int) -> Array:
    """Return the mean over queries on all rows and on each resample of users, (resamples + 1,)."""
    member = np.unique(user, return_inverse=True)[1]
    total, count = np.bincount(member, value), np.bincount(member).astype(np.float64)
    random = np.random.default_rng(seed)
    means = [float(value.mean())]
    for _ in range(resamples):
        drawn = random.integers(0, len(total), len(total))
        means.append(float(total[drawn].sum() / count[drawn].sum()))
    return np.array(means)


def summary(rank: Longs, queries: Queries, resamples: int, seed: int) -> dict[str, Any]:
    """Return metric -> value and 95% interval over users."""
    content = {}
    for name, value in rank_metrics(rank).items():
        means = bootstrap_means(value, queries.user, resamples, seed)
        low, high = np.percentile(means[1:], [2.5, 97.5])
        content[name] = {"value": round(float(means[0]), 6), "low": round(float(low), 6), "high": round(float(high), 6)}
    return content
