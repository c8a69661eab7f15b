"""Permutation importance: the drop in a metric when one input is shuffled among held-out rows.

After Breiman (2001), section 10. Shuffling is repeated, so that the interval shows which importances are noise.
Correlated inputs share their importance: a low importance does not mean that a feature carries no information.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from features.fast import FAST_FEATURES
from training.rows.inputs import Inputs

Score = Callable[[Inputs], float]
_HISTORY = {
    "history: items": ("item_index",),
    "history: event names": ("event_code",),
    "history: times": ("event_time",),
}

# Ranking the whole catalogue is too slow to shuffle each feature separately, so next-item features form two groups.
_GROUPS = {"all fast features": True, "all slow features": False}


@dataclass(frozen=True)
class Importance:
    """Drop in the score when an input is shuffled: mean and 95% interval over the shuffles."""

    name: str
    value: float
    low: float
    high: float

    @classmethod
    def of(cls, name: str, base: float, shuffled: list[float]) -> "Importance":
        """Return the importance of an input from its scores; the interval is Student's t over the shuffles.

        The interval covers the randomness of the shuffles only, not that of the rows.

        Args:
            name: The input.
            base: Score without shuffling.
            shuffled: Score of each shuffle.
        """
        drops = base - np.array(shuffled)
        mean = float(drops.mean())
        spread = float(t.ppf(0.975, len(drops) - 1) * drops.std(ddof=1) / np.sqrt(len(drops)))
        return cls(name, mean, mean - spread, mean + spread)

    def as_json(self) -> dict[str, float]:
        """Return JSON-serializable values, rounded to six decimals."""
        return {name: round(getattr(self, name), 6) for name in ("value", "low", "high")}


def _shuffled(inputs: Inputs, name: str, order: NDArray[np.int64]) -> Inputs:
    """Return the inputs with one feature, or one part of the history, reordered by `order`."""
    if name in _HISTORY:
        parts = {part: getattr(inputs.recent, part)[order] for part in _HISTORY[name]}
        if name == "history: times":
            # Ages are exchanged, not timestamps: a history must end before its own `now`. Where the other history is
            # shorter, a row keeps its own times.
            moved = parts["event_time"] + (inputs.now - inputs.now[order])[:, None]
            parts["event_time"] = np.where(np.isnat(moved), inputs.recent.event_time, moved)
        return replace(inputs, recent=replace(inputs.recent, **parts))
    fast = _GROUPS.get(name)
    columns = [
        k
        for k, feature in enumerate(inputs.names)
        if (feature == name if fast is None else (feature in FAST_FEATURES) == fast)
    ]
    tabular = inputs.tabular.copy()
    tabular[:, columns] = tabular[order][:, columns]
    return replace(inputs, tabular=tabular)


def input_names(inputs: Inputs, *, sequence: bool, grouped: bool) -> tuple[str, ...]:
    """Return the names of all inputs: the tabular features, alone or in two groups, and the parts of the history."""
    return (*(_GROUPS if grouped else inputs.names), *(_HISTORY if sequence else ()))


def permutation_importance(
    inputs: Inputs, names: tuple[str, ...], score: Score, repeats: int, seed: int
) -> Iterator[Importance]:
    """Yield the importance of each input, in the order of `names`.

    Args:
        inputs: Held-out rows.
        names: From `input_names`.
        score: The metric; higher is better.
        repeats: Number of shuffles per input.
        seed: Seed of the shuffles.
    """
    random = np.random.default_rng(seed)
    orders = [random.permutation(len(inputs)) for _ in range(repeats)]
    base = score(inputs)
    for name in names:
        yield Importance.of(name, base, [score(_shuffled(inputs, name, order)) for order in orders])
