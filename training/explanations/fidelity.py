"""Fidelity of explanations: removing what they call important must change the answer most.

For each answer, the parts or features with the largest effects are removed together; then, instead, as many with the
smallest effects, or random ones. The changes of the answer are compared (Samek et al., "Evaluating the visualization of
what a deep neural network has learned", IEEE TNNLS 2017; DeYoung et al., ACL 2020, call it comprehensiveness). The
effects were computed one by one, so they need not hold for a joint removal.
"""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from training.explanations.parts import PARTS, Mask, Numbers, by_size, leave_one_out, parts_of, without
from training.explanations.question import SEED, Question
from training.explanations.shapley import mean_scores
from training.explanations.surrogate import agreement, local_line
from training.resamples import Interval, Resamples, intervals, paired_difference

REMOVED = {"features": 5, "parts": 3}  # removed together
REMOVALS = ("important", "random", "unimportant")
_AGREEMENT = ("rank_correlation", "shared_of_ten")
_DRAWS = 5  # random choices per answer
_TOP = 10  # features on which Shapley values and LIME are compared


def removal(effects: Numbers, count: int, answer: Callable[[Mask], Numbers], seed: int) -> Numbers:
    """Return the absolute change of an answer when `count` things are removed, by kind as in `REMOVALS`, (3,).

    Args:
        effects: The effect of each thing, (things,), at least `count`.
        count: How many things to remove.
        answer: Maps masks of the removed things, (sets, things), to the answers without them, (sets,).
        seed: Seed of the random choices.
    """
    order, random = by_size(effects), np.random.default_rng(seed)
    chosen = [order[:count], order[-count:]]
    chosen += [random.choice(len(effects), count, replace=False) for _ in range(_DRAWS)]
    masks = np.zeros((1 + len(chosen), len(effects)), dtype=bool)  # the first removes nothing
    for mask, places in zip(masks[1:], chosen, strict=True):
        mask[places] = True
    found = answer(masks)
    important, unimportant, *drawn = np.abs(found[1:] - found[0])
    return np.array([important, np.mean(drawn), unimportant])


def check_answer(question: Question, seed: int) -> dict[str, Numbers]:
    """Return the figures of one answer: for "features" and "parts", see `removal`; for "lime", see `agreement`.

    A figure is left out if there are too few features or parts to choose from.
    """
    found, numbers = {}, question.numbers
    if numbers is not None and len(numbers.own) >= 2 * REMOVED["features"]:

        def without_numbers(masks: Mask) -> Numbers:
            return mean_scores(numbers.score, ~masks, numbers.own, numbers.background)

        found["features"] = removal(numbers.effects, REMOVED["features"], without_numbers, seed)
        line = local_line(numbers.score, numbers.own, numbers.background, SEED)
        found["lime"] = np.array(agreement(numbers.effects, line, _TOP))
    part = parts_of(question.inputs.history, PARTS)
    if part.max(initial=-1) + 1 >= 2 * REMOVED["parts"]:
        scores = leave_one_out(question.inputs, part, question.predict)[:, 0]

        def without_parts(masks: Mask) -> Numbers:
            return question.predict(without(question.inputs, masks[:, part]))[:, 0]

        found["parts"] = removal(scores[0] - scores[1:], REMOVED["parts"], without_parts, seed)
    return found


def check_answers(
    questions: Iterable[Question], user: NDArray[np.str_], resamples: int, seed: int
) -> dict[str, dict[str, Interval]]:
    """Return the mean of each figure over answers, with its 95% interval over users.

    Args:
        questions: One per answer.
        user: The user of each, (answers,).
        resamples: Number of bootstrap resamples.
        seed: Seed of the resamples and of the random choices.
    """
    figures: dict[str, list[Numbers]] = {}
    place: dict[str, list[int]] = {}
    for k, question in enumerate(questions):
        for name, values in check_answer(question, seed + k).items():
            figures.setdefault(name, []).append(values)
            place.setdefault(name, []).append(k)
    result: dict[str, dict[str, Interval]] = {}
    for name, rows in figures.items():
        drawn = Resamples(user[place[name]], resamples, seed)
        labels = _AGREEMENT if name == "lime" else REMOVALS
        samples = {label: drawn.mean(values) for label, values in zip(labels, np.stack(rows, axis=1), strict=True)}
        result[name] = intervals(samples)
        if name != "lime":
            for other in REMOVALS[1:]:
                difference = paired_difference(samples[REMOVALS[0]], samples[other])
                result[name][f"{REMOVALS[0]}_minus_{other}"] = difference
    return result
