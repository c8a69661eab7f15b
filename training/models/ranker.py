"""The main next-item model: a small network that ranks described candidates against each other.

Each candidate's numbers pass through a network that also sees the mean over the row's candidates, as in deep sets
(Zaheer et al., NeurIPS 2017, eq. 4). The loss is the softmax cross-entropy over the row's candidates with all targets
equally likely (ListNet's top-one probability; Cao et al., ICML 2007, eq. 5). Several networks from different seeds are
averaged. Keras trains, reproducibly from the seed; NumPy predicts, so that a service needs no TensorFlow.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from features.catalogue import Catalogue
from shoplens.errors import ModelError
from shoplens.params import NetworkParams
from shoplens.stage import console
from training.models.activations import silu
from training.models.candidates import CandidateMaker, Candidates
from training.models.contract import FloatArray, Model, Recipe, Report
from training.models.counts import popular_items
from training.models.examples import Examples, count_rules, examples_of
from training.models.memory import Places
from training.models.neighbours import Neighbours
from training.models.ranking import Ranking, ranked_pairs
from training.models.space import Among, Between
from training.models.threads import one_thread
from training.rows import Inputs, RowSet

_FAR = 6.0  # standard deviations; clipping keeps extreme inputs within the range seen in training
_BATCH = 128  # rows ranked at once
_DECAY = 1e-3  # of the weights, by AdamW
_MANY = 20_000  # candidates; with fewer, a second thread costs more than it helps
_LAYERS = ("in", "context", "hidden", "last", "score")


@dataclass(frozen=True)
class _Member:
    """The weights of one network: kernel and bias of each layer of `_LAYERS`, by "layer/kernel" and "layer/bias"."""

    weights: dict[str, FloatArray]

    def score(self, features: FloatArray, start: Places) -> FloatArray:
        """Return log probabilities over each row's candidates, (candidates,).

        Args:
            features: Standardized features of all rows' candidates, (candidates, features).
            start: First candidate of each row, ascending, (rows,); every row has one.
        """
        count = np.diff(start, append=len(features))
        logits = self.logits(features, start)
        logits = logits - np.repeat(np.asarray(np.maximum.reduceat(logits, start)), count)
        total = np.log(np.asarray(np.add.reduceat(np.exp(logits), start)))
        return np.asarray(logits - np.repeat(total, count), dtype=np.float32)

    def logits(self, features: FloatArray, start: Places, others: FloatArray | None = None) -> FloatArray:
        """Return the logit of every candidate, (candidates,).

        Args:
            features: See `score`.
            start: See `score`.
            others: Standardized features of the candidates that all of `features`, then one row, are compared with,
                (n, features); by default each row's own.
        """

        def dense(values: FloatArray, layer: str) -> FloatArray:
            out = values @ self.weights[f"{layer}/kernel"] + self.weights[f"{layer}/bias"]
            return np.asarray(out, dtype=np.float32)

        first = silu(dense(features, "in"))
        if others is None:
            count = np.diff(start, append=len(features))
            mean = np.asarray(np.add.reduceat(first, start, axis=0), dtype=np.float32) / count[:, None]
        else:
            count = np.array([len(features)])
            mean = silu(dense(others, "in")).mean(axis=0, keepdims=True)
        context = dense(mean.astype(np.float32), "context")
        second = silu(dense(first, "hidden") + np.repeat(context, count, axis=0))
        return dense(silu(dense(second, "last")), "score")[:, 0]

    def scores(self, examples: Examples) -> FloatArray:
        """Return log probabilities of the candidates of standardized examples, (candidates,)."""
        parts = []
        for rows in np.array_split(np.arange(len(examples)), math.ceil(len(examples) / _BATCH)):
            start = examples.start[rows]
            end = start[-1] + examples.count[rows[-1]]
            parts.append(self.score(examples.features[start[0] : end].astype(np.float32), start - start[0]))
        return np.concatenate(parts)


@dataclass(frozen=True)
class Described:
    """One candidate of a row, as the ranker sees it, beside the others.

    Attributes:
        names: Names of the numbers, (features,).
        numbers: The numbers of every candidate of the row, float32 (candidates, features).
        place: The candidate in question.
        score: Takes numbers that it could have, (variants, features), and returns its log probability with each,
            (variants,), while the other candidates stay as they are.
    """

    names: tuple[str, ...]
    numbers: FloatArray
    place: int
    score: Callable[[FloatArray], FloatArray]


class ListwiseRanker(Model):
    """Candidates from memory, rules and popularity, ranked by networks with a listwise loss."""

    name = "listwise_ranker"
    tasks = frozenset({"next_item"})
    space: ClassVar = {
        "candidates.memory": Among((48, 96, 144)),
        "candidates.neighbours": Among((0, 16, 32, 48)),
        "candidates.popular": Between(4, 40),
        "network.width": Among((64, 128, 192, 256)),
        "network.dropout": Between(0.0, 0.4),
        "loop.epochs": Between(2, 8),
        "loop.batch_size": Among((32, 64, 128)),
        "loop.learning_rate": Between(0.0005, 0.01, log=True),
    }

    def __init__(self, recipe: Recipe, catalogue: Catalogue) -> None:
        super().__init__(recipe, catalogue)
        if recipe.candidates is None:
            raise ModelError("train.next_item.candidates: must be set for listwise_ranker; it is missing")
        self._maker = CandidateMaker(catalogue, recipe.candidates)
        self._neighbours: Neighbours | None = None
        self._members: list[_Member] = []
        self._names: tuple[str, ...] = ()

    def fit(self, train: RowSet, validation: RowSet, live: Path | None) -> None:
        """Train on the latest rows; rules are counted before the rows that they describe."""
        began = time.monotonic()
        examples, held_out = examples_of(self.recipe, self._maker, train, validation)
        self._names = self._maker.names
        self._scale(examples.features)
        examples, held_out = self._scaled(examples), self._scaled(held_out)
        console.print(
            f"{self.name}: {len(examples):,} rows with a target among {len(examples.features):,} candidates, "
            f"{examples.features.shape[1]} features ({time.monotonic() - began:.0f} s)"
        )
        seeds = range(self.recipe.seed, self.recipe.seed + self.recipe.members)
        shown = (live, self.report)  # of the first network
        self._members = [
            _Member(_learn(self.recipe, examples, held_out, seed, *(shown if seed == seeds[0] else (None, None))))
            for seed in seeds
        ]
        self._neighbours = count_rules(self.recipe, train, self._maker, validation.inputs.now.max())

    def _scale(self, features: NDArray[np.float16]) -> None:
        self._mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
        deviation = features.std(axis=0, dtype=np.float64)
        self._deviation = np.where(deviation < 1e-4, np.inf, deviation).astype(np.float32)  # constant: always 0

    def _standardize(self, features: NDArray[Any]) -> FloatArray:
        scaled = (features.astype(np.float32) - self._mean) / self._deviation
        return np.asarray(np.clip(scaled, -_FAR, _FAR), dtype=np.float32)

    def _scaled(self, examples: "Examples") -> "Examples":
        scaled = np.empty_like(examples.features)
        for begin in range(0, len(scaled), 1_000_000):  # bounds memory
            part = slice(begin, begin + 1_000_000)
            scaled[part] = self._standardize(examples.features[part])
        return replace(examples, features=scaled)

    def _candidates(self, inputs: Inputs, also: int | None = None) -> Candidates:
        found = self._maker.make(inputs, self._neighbours, also=also)
        if self._maker.names != self._names:
            differ = sorted(set(self._maker.names) ^ set(self._names))
            raise ModelError(
                f"inputs: candidates must have the numbers that the model was trained on; these differ: "
                f"{', '.join(differ) or 'their order'}. Train the model again"
            )
        return found

    def recommend(self, inputs: Inputs, k: int) -> Ranking:
        """See `Model.recommend`; scores are log probabilities among the candidates.

        Where there are fewer than k candidates, the most popular other items follow.
        """
        parts = []
        for begin in range(0, len(inputs), _BATCH):
            rows = inputs.take(slice(begin, begin + _BATCH))
            found = self._candidates(rows)
            ranking = ranked_pairs(found.row, found.item, self._score(found), found.rows, k)
            parts.append(ranking.filled(popular_items(rows, "item_events_7d", 2 * k)))
        return Ranking.join(parts)

    def place(self, inputs: Inputs, item: int) -> tuple[FloatArray, NDArray[np.int64]]:
        """See `Model.place`; the item is a candidate of every row, whatever the sources give."""
        scores, ranks = [], []
        for begin in range(0, len(inputs), _BATCH):
            found = self._candidates(inputs.take(slice(begin, begin + _BATCH)), item)
            score = self._score(found)
            own = score[found.item == item]  # one candidate per row
            scores.append(own)
            ranks.append(1 + np.bincount(found.row, score > own[found.row], found.rows).astype(np.int64))
        return np.concatenate(scores), np.concatenate(ranks)

    def described(self, inputs: Inputs, item: int) -> Described:
        """Return an item among the candidates of `inputs`, one row; it need not be one that the sources give."""
        found = self._candidates(inputs, item)
        scaled, place = self._standardize(found.features), int(np.flatnonzero(found.item == item)[0])
        start = np.zeros(1, dtype=np.int64)
        rivals = [np.delete(member.logits(scaled, start), place) for member in self._members]
        against = [np.logaddexp.reduce(logits.astype(np.float64), initial=-np.inf) for logits in rivals]

        def score(numbers: FloatArray) -> FloatArray:
            values = self._standardize(numbers)
            logits = [member.logits(values, start, scaled) for member in self._members]
            chances = [own - np.logaddexp(own, other) for own, other in zip(logits, against, strict=True)]
            return np.asarray(np.mean(chances, axis=0), dtype=np.float32)

        return Described(self._maker.names, found.features, place, score)

    def _score(self, found: Candidates) -> FloatArray:
        """Return the mean of the members' log probabilities, (candidates,)."""
        features = self._standardize(found.features)
        start = np.flatnonzero(np.append(True, found.row[1:] != found.row[:-1])[: len(found.row)])
        if not len(start):
            return np.zeros(0, dtype=np.float32)
        with one_thread("blas", when=len(features) < _MANY):
            scores = [member.score(features, start) for member in self._members]
        return np.asarray(np.mean(scores, axis=0), dtype=np.float32)

    def export(self, folder: Path) -> dict[str, Any]:
        """Write weights, scale and rules."""
        weights: dict[str, Any] = {}
        for k, member in enumerate(self._members):
            weights |= {f"{k}/{name}": one for name, one in member.weights.items()}
        np.savez_compressed(folder / "ranker.npz", mean=self._mean, deviation=self._deviation, **weights)
        if self._neighbours is not None:
            self._neighbours.save(folder / "neighbours.npz")
        return {"features": list(self._names)}

    def restore(self, folder: Path, kept: dict[str, Any]) -> None:
        """Load what `export` wrote."""
        self._names = tuple(kept["features"])
        with np.load(folder / "ranker.npz") as file:
            self._mean, self._deviation = file["mean"], file["deviation"]
            self._members = [
                _Member({f"{n}/{part}": file[f"{k}/{n}/{part}"] for n in _LAYERS for part in ("kernel", "bias")})
                for k in range(self.recipe.members)
            ]
        if (folder / "neighbours.npz").exists():
            self._neighbours = Neighbours.load(folder / "neighbours.npz")

    def parameter_count(self) -> int:
        """Return the number of weights of all networks."""
        return sum(one.size for member in self._members for one in member.weights.values())


def _network(size: NetworkParams, width: int, features: int, seed: int) -> Any:
    """Return the untrained network: from the features of up to `width` candidates, and their mask, to logits."""
    import keras
    from keras import layers, ops

    given = keras.Input((width, features), name="features")
    mask = keras.Input((width,), name="mask")
    weight = ops.expand_dims(mask, -1)
    first = layers.Dense(size.width, activation="silu", name="in")(given)
    mean = ops.sum(first * weight, axis=1, keepdims=True) / ops.maximum(ops.sum(weight, axis=1, keepdims=True), 1.0)
    first = layers.Dropout(size.dropout, seed=seed)(first)
    second = layers.Dense(size.width, name="hidden")(first) + layers.Dense(size.width, name="context")(mean)
    second = layers.Dropout(size.dropout, seed=seed + 1000)(layers.Activation("silu")(second))
    last = layers.Dense(size.width // 2, activation="silu", name="last")(second)
    logits = layers.Dense(1, name="score")(last)[..., 0] - (1 - mask) * 1e9
    return keras.Model({"features": given, "mask": mask}, logits)


def _learn(
    recipe: Recipe, examples: Examples, held_out: Examples, seed: int, live: Path | None, report: Report | None
) -> dict[str, FloatArray]:
    """Train one network and return its weights by layer, averaged over the last steps.

    `report` is called after each epoch with NDCG@10 on the held-out rows.

    Raises:
        ModelError: the loss did not stay finite.
    """
    import keras

    from training.loop import Curves, Progress, Reports, averaged_adamw, require_finite

    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    loop = recipe.loop
    width = int(max(examples.count.max(), held_out.count.max()))

    class Batches(keras.utils.PyDataset):
        """Batches of rows in a new order each epoch."""

        def __init__(self, source: Examples, shuffle: bool) -> None:
            super().__init__()
            self.source, self.random = source, np.random.default_rng(seed) if shuffle else None
            self.order = np.arange(len(source))
            self.on_epoch_end()

        def __len__(self) -> int:
            return math.ceil(len(self.source) / loop.batch_size)

        def __getitem__(self, k: int) -> Any:
            rows = self.order[k * loop.batch_size : (k + 1) * loop.batch_size]
            features, mask, target = self.source.batch(rows, width)
            return {"features": features, "mask": mask}, target

        def on_epoch_end(self) -> None:
            if self.random is not None:
                self.order = self.random.permutation(len(self.source))

    network = _network(recipe.network, width, examples.features.shape[1], seed)
    batches = Batches(examples, shuffle=True)
    optimizer = averaged_adamw(loop, len(batches) * loop.epochs, _DECAY)
    network.compile(optimizer=optimizer, loss=keras.losses.CategoricalCrossentropy(from_logits=True), jit_compile=False)

    def weights() -> dict[str, FloatArray]:
        return {
            f"{name}/{part}": np.asarray(value, dtype=np.float32)
            for name in _LAYERS
            for part, value in zip(("kernel", "bias"), network.get_layer(name).get_weights(), strict=True)
        }

    def reached(_: Any) -> float:
        return held_out.ndcg(_Member(weights()).scores(held_out))

    network.fit(
        batches,
        epochs=loop.epochs,
        validation_data=Batches(held_out, shuffle=False),
        callbacks=[
            Progress(f"{recipe.task} ranker, seed {seed}"),
            *([] if live is None else [Curves(live)]),
            *([] if report is None else [Reports(report, reached)]),
        ],
        verbose=0,
    )
    found = weights()
    require_finite(found.values(), recipe.task, loop.learning_rate)
    return found
