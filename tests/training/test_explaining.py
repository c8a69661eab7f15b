"""Explanations of single answers, against numbers worked out by hand and by enumeration."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from features.fast import FAST_FEATURES
from features.histories import Histories
from features.visits import VISIT_FEATURES
from shoplens.errors import ModelError
from training.explanations.answer import Explainer
from training.explanations.fidelity import REMOVALS, check_answers
from training.explanations.meanings import candidate_meaning
from training.explanations.parts import leave_one_out, parts_of, without
from training.explanations.question import PurchaseQuestions, item_question
from training.explanations.shapley import logit, permutation_values
from training.explanations.surrogate import agreement, local_line
from training.models.artifact import Predictor
from training.models.contract import model_class
from training.models.scaler import Scaler
from training.rows import Inputs, RowSet

pytestmark = pytest.mark.tensorflow
LATER = np.datetime64("2024-04-05", "us")


def with_computed_features(rows: RowSet) -> RowSet:
    """The same rows with what the history says as features; `noise` stays, the rate goes."""
    names = ("noise", *FAST_FEATURES, *VISIT_FEATURES)
    inputs = rows.inputs
    blank = np.zeros((len(rows), len(names)), dtype=np.float32)
    blank[:, 0] = inputs.tabular[:, 1]
    made = Inputs(names, blank, inputs.history, inputs.now).with_history(inputs.history)
    return replace(rows, inputs=made)


@pytest.fixture(scope="module")
def purchase(rows, recipe, catalogue):
    """A trained blend that reads the history through features, and held-out rows."""
    found = rows("purchase")
    train, validation, test = (with_computed_features(one) for one in (found.train, found.validation, found.test))
    own = replace(recipe("purchase", epochs=4), blend=("boosted_trees", "hazard_network"))
    model = model_class("hazard_blend")(own, catalogue)
    model.fit(train, validation, None)
    return Predictor("hazard_blend", "purchase", train.inputs.names, LATER, model), test


@pytest.fixture(scope="module")
def next_item(rows, recipe, catalogue):
    """A trained ranker, and held-out rows."""
    found = rows("next_item")
    model = model_class("listwise_ranker")(recipe("next_item"), catalogue)
    model.fit(found.train, found.validation, None)
    return Predictor("listwise_ranker", "next_item", found.train.inputs.names, LATER, model), found.test


def row(inputs: Inputs, k: int) -> Inputs:
    return inputs.take(slice(k, k + 1))


def history(make, order: list[int]) -> Histories:
    log = make("purchase", 40, 1).inputs.history.log.at(slice(0, len(order)))
    return Histories(replace(log, order=np.array(order, np.int32)), np.array([0]), np.array([len(order)]))


@pytest.mark.parametrize(
    ("order", "most", "expected"),
    [
        ([5, 5, 2, 2, 9], 10, [0, 0, 1, 1, 2]),
        ([5, 2, 5, 9], 10, [1, 0, 1, 2]),  # the order that ended first is the oldest
        ([5, 5, 2, 9, 9, 1], 3, [0, 0, 0, 1, 1, 2]),  # of four orders the two oldest count as one
        ([7, 7, 7], 10, [0, 1, 2]),  # one session: its events
        ([7, 7, 7], 2, [0, 0, 1]),
        ([], 10, []),
    ],
)
def test_parts_are_orders_and_of_a_single_session_events(make, order, most, expected) -> None:
    assert parts_of(history(make, order), most).tolist() == expected


def test_without_an_event_features_are_those_of_a_history_that_never_had_it(purchase) -> None:
    _, test = purchase
    k = int(np.argmax(test.inputs.history.lengths))
    one = row(test.inputs, k)
    begin, end = int(one.history.begin[0]), int(one.history.end[0])
    left_out = np.zeros((2, end - begin), dtype=bool)
    left_out[1, -1] = True
    found = without(one, left_out)
    np.testing.assert_array_equal(found.tabular[0], one.tabular[0])
    shorter = one.with_history(Histories(one.history.log, one.history.begin, one.history.end - 1))
    np.testing.assert_array_equal(found.tabular[1], shorter.tabular[0])
    events, noise = (one.names.index(name) for name in ("fast_events", "noise"))
    assert found.tabular[:, events].tolist() == [end - begin, end - begin - 1]
    assert found.tabular[1, noise] == one.tabular[0, noise] or np.isnan(one.tabular[0, noise])


def test_leave_one_out_compares_with_the_whole_history(make) -> None:
    one = row(make("purchase", 40, 1).inputs, 0)
    one = replace(one, history=history(make, [3, 3, 4, 5]))
    found = leave_one_out(one, parts_of(one.history, 10), lambda inputs: inputs.history.lengths.astype(np.float64))
    assert found.tolist() == [4, 2, 3, 3]
    with pytest.raises(ModelError, match="of one row; received 2"):
        without(make("purchase", 40, 1).inputs.take(slice(0, 2)), np.zeros((1, 1), dtype=bool))


def shapley_by_definition(score, own: np.ndarray, background: np.ndarray) -> list[float]:
    """The mean over all subsets of the other numbers (Shapley, 1953)."""

    def value(known: tuple[int, ...]) -> float:
        mixed = background.copy()
        mixed[:, list(known)] = own[list(known)]
        return float(score(mixed).mean())

    size, found = len(own), []
    for k in range(size):
        others, total = [j for j in range(size) if j != k], 0.0
        for count in range(size):
            weight = math.factorial(count) * math.factorial(size - 1 - count) / math.factorial(size)
            for known in itertools.combinations(others, count):
                total += weight * (value((*known, k)) - value(known))
        found.append(total)
    return found


def test_permutation_values_are_exact_where_two_numbers_interact() -> None:
    random = np.random.default_rng(1)
    own, background = random.normal(size=4), random.normal(size=(6, 4))

    def score(rows: np.ndarray) -> np.ndarray:
        return rows[:, 0] * rows[:, 1] - 2 * rows[:, 2] * rows[:, 3] + np.sin(rows[:, 3])

    values, base = permutation_values(score, own, background, 0)
    np.testing.assert_allclose(values, shapley_by_definition(score, own, background), atol=1e-12)
    assert base == pytest.approx(score(background).mean())


def test_values_of_a_blend_are_those_of_its_definition_and_add_up(purchase) -> None:
    """Trees have theirs exactly; the network's, over many interacting numbers, are an estimate that adds up."""
    predictor, test = purchase
    background = test.inputs.tabular[50:60]
    questions = PurchaseQuestions(predictor, background)
    for k in range(5):
        numbers = questions.of(row(test.inputs, k)).numbers
        score = logit(predictor.predict(row(test.inputs, k)))[0]
        assert numbers.base + numbers.effects.sum() == pytest.approx(score, abs=2e-4)


def test_values_of_trees_are_exact(rows, recipe, catalogue) -> None:
    found = rows("purchase")
    trees = model_class("boosted_trees")(recipe("purchase"), catalogue)
    trees.fit(found.train, found.validation, None)
    predictor = Predictor("boosted_trees", "purchase", found.train.inputs.names, LATER, trees)
    background = found.validation.inputs.tabular[:8]  # with missing values
    assert np.isnan(background).any()
    questions = PurchaseQuestions(predictor, background)
    for k in range(10):
        numbers = questions.of(row(found.test.inputs, k)).numbers
        by_definition = shapley_by_definition(numbers.score, numbers.own, background)
        np.testing.assert_allclose(numbers.effects, by_definition, atol=1e-4)


def test_the_place_of_an_item_is_that_of_the_ranking(next_item) -> None:
    predictor, test = next_item
    inputs = test.inputs.take(slice(0, 20))
    ranking = predictor.recommend(inputs, 5)
    for column in range(3):
        for k in range(20):
            score, rank = predictor.model.place(row(inputs, k), int(ranking.items[k, column]))
            assert rank.tolist() == [column + 1]
            assert score[0] == pytest.approx(ranking.scores[k, column], abs=1e-4)
    popular = model_class("popularity")(predictor.model.recipe, predictor.catalogue)
    popular.fit(test, test, None)
    best = popular.recommend(inputs, 3)
    score, rank = popular.place(inputs.take(slice(0, 1)), int(best.items[0, 2]))
    assert (score[0], rank[0]) == (best.scores[0, 2], 3)


def test_an_item_that_no_source_gives_is_explained_too(next_item, catalogue) -> None:
    predictor, test = next_item
    one = row(test.inputs, 0)
    for item in range(2, catalogue.size):
        described = predictor.model.described(one, item)
        own = described.numbers[described.place]
        score, _ = predictor.model.place(one, item)
        assert described.score(own[None])[0] == pytest.approx(score[0], abs=1e-4)


def test_every_number_of_a_candidate_has_a_meaning(next_item) -> None:
    predictor, test = next_item
    names = predictor.model.described(row(test.inputs, 0), 2).names
    assert len(names) > 60
    meanings = {name: candidate_meaning(name) for name in names}
    assert [name for name, text in meanings.items() if text == name or "{" in text] == []


def test_lime_finds_the_weights_of_a_line() -> None:
    own, background = np.array([3.0, 1.0, 0.0, -2.0]), np.zeros((5, 4))
    weights = np.array([1.0, -4.0, 7.0, 0.5])
    found = local_line(lambda rows: rows @ weights, own, background, 0)
    np.testing.assert_allclose(found, weights * own, atol=0.01)  # ridge draws towards 0
    assert agreement(found, weights * own, 3) == (pytest.approx(1.0), 1.0)


def test_agreement_counts_only_what_is_large() -> None:
    one, other = np.array([5.0, -4.0, 3.0, 0.0]), np.array([4.0, -5.0, 0.0, 3.0])
    # The two largest of both are the same, in the same order of value.
    assert agreement(one, other, 2) == (pytest.approx(1.0), 1.0)
    # Three of each: all four count. Ranks 4, 1, 3, 2 and 4, 1, 2, 3: 1 - 6 * (1 + 1) / (4 * 15) = 0.8.
    assert agreement(one, other, 3) == (pytest.approx(0.8), 2 / 3)
    assert agreement(one, np.zeros(4), 2)[0] == 0


def questions_of(predictor: Predictor, test: RowSet, count: int):
    if predictor.task == "next_item":
        return [item_question(predictor, row(test.inputs, k)) for k in range(count)]
    questions = PurchaseQuestions(predictor, test.inputs.tabular[-16:])
    return [questions.of(row(test.inputs, k)) for k in range(count)]


@pytest.mark.parametrize("task", ["purchase", "next_item"])
def test_what_is_called_important_changes_the_answer_most(task, request) -> None:
    predictor, test = request.getfixturevalue(task)
    found = check_answers(questions_of(predictor, test, 40), test.user_id[:40], 200, 0)
    assert set(found) == {"features", "parts", "lime"}
    for name in ("features", "parts"):
        for other in REMOVALS[1:]:
            assert found[name][f"important_minus_{other}"].low > 0, (name, other)
    assert found["lime"]["rank_correlation"].low > 0


def test_a_wrong_explanation_is_not_faithful(purchase) -> None:
    """The check must fail where effects belong to other numbers."""
    predictor, test = purchase
    wrong = [
        replace(one, numbers=replace(one.numbers, effects=np.random.default_rng(k).permutation(one.numbers.effects)))
        for k, one in enumerate(questions_of(predictor, test, 40))
    ]
    found = check_answers(wrong, test.user_id[:40], 200, 0)["features"]
    assert found["important_minus_random"].low <= 0


def test_an_explanation_is_json_and_text(purchase, next_item, catalogue) -> None:
    (buys, test), (ranker, baskets) = purchase, next_item
    explainer = Explainer(buys, ranker, test.inputs.tabular[-8:])
    found = explainer.purchase(row(test.inputs, 3)).as_json()
    assert found["prediction"] == pytest.approx(float(buys.predict(row(test.inputs, 3))[0]), abs=1e-6)
    assert (found["item_id"], found["rank"], len(found["features"])) == (None, None, 10)
    assert found["text"][0].startswith("Purchase: ")
    one = row(baskets.inputs, 3)
    best = int(ranker.recommend(one, 1).items[0, 0])
    found = explainer.item(one).as_json()
    assert (found["item_id"], found["title"], found["rank"]) == (f"i{best}", f"Item {best}", 1)
    assert len(found["parts"]) == one.history.lengths[0]
    assert explainer.item_index(f"i{best}") == best
    with pytest.raises(ModelError, match="item: must be an item_id of the catalogue; received 'none'"):
        explainer.item_index("none")


def test_attention_weights_are_causal_and_sum_to_one(rows, recipe, catalogue) -> None:
    found = rows("purchase")
    model = model_class("transformer")(recipe("purchase"), catalogue)
    model.scaler = Scaler.fit(found.train.inputs)
    model.build()  # attention has this form whatever was learned
    inputs = found.test.inputs.take(slice(0, 6))
    weights = model.attention(inputs)
    length = 6
    assert weights.shape == (6, 1, 2, length, length)
    seen = inputs.history.window(length).valid
    for k in range(6):
        own = weights[k][..., seen[k], :]
        np.testing.assert_allclose(own.sum(axis=-1), 1, atol=1e-5)
        assert (own[..., ~seen[k]] < 1e-6).all(), "padding is not attended to"
        assert np.triu(weights[k][..., seen[k], :][..., seen[k]], 1).max() < 1e-6, "nor is the future"
