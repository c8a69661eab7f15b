"""Permutation importance: how much worse a model gets when one input is shuffled among held-out rows.

Breiman (2001), section 10; repeated, so that an interval says which importances are noise. Inputs that are correlated
share their importance: a low figure does not mean that a feature says nothing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from features.fast import FAST_FEATURES
from training.rows.inputs import Inputs

Loss = Callable[[Inputs], float]
_HISTORY = {
    "history: items": ("item_index",),
    "history: event names": ("event_code",),
    "history: times": ("event_time",),
}

# A ranking of the whole catalogue is too slow to shuffle every feature alone: its features are shuffled in two groups.
_GROUPS = {"all fast features": True, "all slow features": False}


def _in_group(feature: str, name: str, fast: bool | None) -> bool:
    return feature == name if fast is None else (feature in FAST_FEATURES) == fast


@dataclass(frozen=True)
class Importance:
    """How much the score falls when an input is shuffled: mean and 95% interval over repeats."""

    name: str
    value: float
    low: float
    high: float


def _shuffled(inputs: Inputs, name: str, order: NDArray[np.int64]) -> Inputs:
    """Return the inputs with one feature, or one part of the history, taken from the rows `order`."""
    if name in _HISTORY:
        parts = {part: getattr(inputs.recent, part)[order] for part in _HISTORY[name]}
        if name == "history: times":
            # Ages, not moments, are what a row could have had: a history must end before its own now.
            # Where the other history is shorter, a row keeps its own times.
            moved = parts["event_time"] + (inputs.now - inputs.now[order])[:, None]
            parts["event_time"] = np.where(np.isnat(moved), inputs.recent.event_time, moved)
        return replace(inputs, recent=replace(inputs.recent, **parts))
    prefix = _GROUPS.get(name)
    columns = [k for k, feature in enumerate(inputs.names) if _in_group(feature, name, prefix)]
    tabular = inputs.tabular.copy()
    tabular[:, columns] = tabular[order][:, columns]
    return replace(inputs, tabular=tabular)


def input_names(inputs: Inputs, *, sequence: bool, grouped: bool) -> tuple[str, ...]:
    """Return what can be shuffled: the tabular features, alone or in two groups, and the parts of the history."""
    return (*(_GROUPS if grouped else inputs.names), *(_HISTORY if sequence else ()))


def permutation_importance(
    inputs: Inputs, names: tuple[str, ...], score: Loss, repeats: int, seed: int
) -> Iterator[Importance]:
    """Yield the importance of each input, in the order of `names`.

    Args:
        inputs: Held-out rows.
        names: From `input_names`.
        score: Higher is better.
        repeats: Shuffles of each input; the interval is Student's t over them: it says how much of the figure is the
            luck of the shuffles, on these rows.
        seed: Of the shuffles.
    """
    random = np.random.default_rng(seed)
    orders = [random.permutation(len(inputs)) for _ in range(repeats)]
    base = score(inputs)
    for name in names:
        falls = np.array([base - score(_shuffled(inputs, name, order)) for order in orders])
        spread = t.ppf(0.975, repeats - 1) * falls.std(ddof=1) / np.sqrt(repeats)
        mean = float(falls.mean())
        yield Importance(name, mean, mean - float(spread), mean + float(spread))
