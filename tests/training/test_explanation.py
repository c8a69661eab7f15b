import numpy as np

from training.explain import input_names, permutation_importance, shuffle_input
from training.metrics import purchase_metrics


def orders(rows, repeats: int) -> list[np.ndarray]:
    random = np.random.default_rng(3)
    return [random.permutation(len(rows)) for _ in range(repeats)]


def test_only_inputs_that_the_score_depends_on_are_important(make) -> None:
    rows = make("purchase", 400, 1)

    def score(inputs) -> float:
        return purchase_metrics(rows.labels, inputs.tabular[:, 0])["roc_auc"]

    names = input_names(rows.inputs, history=True)
    found = dict(permutation_importance(rows.inputs, names, shuffle_input, score, orders(rows, 5)))
    assert set(found) == {"weekly_orders_90d", "noise", "history: items", "history: event names", "history: times"}
    assert found["weekly_orders_90d"].low > 0.1
    for name in ("noise", "history: items", "history: times"):
        assert found[name].value == found[name].low == found[name].high == 0


def test_the_history_is_shuffled_between_rows_and_stays_before_now(make) -> None:
    rows = make("next_item", 200, 1)
    seen = []

    def score(inputs) -> float:
        recent = inputs.history.window(8)
        valid = recent.valid & ~np.isnat(recent.event_time)
        assert ((inputs.now[:, None] - recent.event_time)[valid] > np.timedelta64(0)).all()
        seen.append((recent.item_index, recent.event_time))
        return 0.0

    names = ("history: items", "history: times")
    list(permutation_importance(rows.inputs, names, shuffle_input, score, orders(rows, 2)))
    items = rows.inputs.history.window(8).item_index
    assert not np.array_equal(seen[1][0], items)
    assert np.array_equal(seen[1][0] > 0, items > 0), "histories keep their length"
    assert np.array_equal(seen[3][0], items), "times are shuffled, items stay"
