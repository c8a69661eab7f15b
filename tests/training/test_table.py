"""A flat table: its columns, the account of its rows, leaks, the split, and that no test row is learned from."""

from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_world import mixed, user_behavior, write_csv

from shoplens.errors import BrokenTableError, SettingsError, SourceError
from shoplens.files import folder_digest, read_json
from training.table.clean import REASON, ROW, Cleaned, clean, read_column, read_flat
from training.table.columns import Column, Encoder
from training.table.run import Analysis, Request, analyse, write_results
from training.table.select_columns import reveals_target, select_columns
from training.table.split import PARTS, Split, split

QUICK = ("base_rate", "logistic_regression", "decision_tree")


def as_text(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.all().cast(pl.String))


def divide(cleaned: Cleaned, seed: int = 1) -> Split:
    return split(cleaned, seed)


def chosen_of(frame: pl.DataFrame, target: str, keep: tuple[str, ...] = ()) -> tuple[set[str], dict[str, str]]:
    cleaned = clean(as_text(frame), target)
    selection = select_columns(cleaned, divide(cleaned), frozenset(keep), 1)
    return {column.name for column in selection.columns}, selection.dropped


@pytest.mark.parametrize(
    ("name", "values", "kind", "unreadable"),
    [
        ("a", ["1", " 2.5", "-3e2", ""], "number", 0),
        ("a", ["TRUE", "false", None, "NA"], "boolean", 0),
        ("a", ["yes", "no", "No", "Y"], "boolean", 0),
        ("a", ["1", "0", "1", "0"], "number", 0),
        ("a", ["red", "1", "2", "3"], "category", 0),
        ("a", ["1"] * 39 + ["one"], "number", 1),  # 1 of 40 is under one in twenty
        ("a", ["1"] * 18 + ["one"] * 2, "category", 0),  # 2 of 20 is not
        ("a", ["2021-01-02 10:00:00", "2021-01-03T11:00:00Z"], "time", 0),
        ("a", ["2021-01-02", "2021-01-03"], "time", 0),
        ("event_time", ["1609459200", "1609459260"], "time", 0),
        ("event_time", ["1609459200000", "1609459260000"], "time", 0),
        ("browse_time", ["12", "600"], "number", 0),
        ("amount", ["1609459200", "1609459260"], "number", 0),
        ("a", ["Feb", "Mar"], "category", 0),
        ("a", ["", "NA", None], "category", 0),
    ],
)
def test_the_kind_of_a_column_follows_from_its_values(
    name: str, values: list[str | None], kind: str, unreadable: int
) -> None:
    column, read = read_column(pl.DataFrame({name: values}, schema={name: pl.String}), name)
    assert (column.kind, column.unreadable) == (kind, unreadable)
    assert column.nullable == (read.null_count() > 0)


@pytest.mark.parametrize(("yes", "no"), [("1", "0"), ("TRUE", "FALSE"), ("yes", "No"), ("1.0", "0.0"), ("y", "n")])
def test_a_target_has_two_values(yes: str, no: str) -> None:
    frame = pl.DataFrame({"x": [str(n) for n in range(100)], "y": [yes] * 30 + [no] * 70})
    assert clean(frame, "y").label.sum() == 30


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["a", "b"] * 50, ("column y", "true and false", "'a'", "Recode")),
        (["1", "2", "0", "3"] * 25, ("'2'", "'3'")),
        ([""] * 100, ("found nothing",)),
        (["1"] * 5 + ["0"] * 95, ("at least 20", "5 true and 95 false")),
    ],
)
def test_an_unsuitable_target_is_rejected_with_its_values(values: list[str], words: tuple[str, ...]) -> None:
    frame = pl.DataFrame({"x": [str(n) for n in range(100)], "y": values})
    with pytest.raises(BrokenTableError) as error:
        clean(frame, "y")
    assert all(word in str(error.value) for word in words)


def test_an_unknown_column_is_rejected_with_the_known_ones() -> None:
    frame = as_text(user_behavior(200))
    with pytest.raises(SettingsError, match="browse_time, search_result_count"):
        clean(frame, "Revenue")
    with pytest.raises(SettingsError, match="Times of this table: none"):
        clean(frame, "is_purchased", time="browse_time")
    with pytest.raises(SettingsError, match="'nothing'"):
        chosen_of(user_behavior(200), "is_purchased", ("nothing",))


def test_rows_in_are_used_quarantined_and_duplicates() -> None:
    """100 rows: 2 targets missing, 1 unreadable, 3 copies; 94 used."""
    rows = [(str(n), "1" if n % 2 else "0") for n in range(94)]
    rows += [("200", ""), ("201", "NA"), ("202", "maybe"), *rows[:3]]
    cleaned = clean(pl.DataFrame(rows, schema=["x", "y"], orient="row"), "y")
    assert str(cleaned.account) == (
        "100 rows in = 94 used + 3 quarantined (y: missing 2, y: unreadable 1) + 3 exact duplicates"
    )
    assert cleaned.quarantine.select(ROW, REASON, "x").rows() == [
        (95, "y: missing", "200"),
        (96, "y: missing", "201"),
        (97, "y: unreadable", "202"),
    ]
    kept = clean(pl.DataFrame(rows, schema=["x", "y"], orient="row"), "y", keep_duplicates=True)
    assert (kept.account.used, kept.account.exact_duplicates) == (97, 0)


def test_nested_columns_are_dropped_with_a_reason() -> None:
    frame = user_behavior(200).with_columns(
        pl.Series("items", [[n % 3, 1] for n in range(200)]), pl.Series("page", [{"n": n % 5} for n in range(200)])
    )
    cleaned = clean(pl.concat([frame, frame[:4]]), "is_purchased")
    assert cleaned.account.exact_duplicates == 4
    assert cleaned.dropped["items"] == "holds List(Int64), which no model reads"
    assert set(cleaned.dropped) == {"items", "page"}


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_detected(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f'"a|,"{separator}b\n1{separator}2\n')
    assert read_flat(path).columns == ["a|,", "b"]


def test_an_unreadable_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        read_flat(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("a,b\n")
    with pytest.raises(SourceError, match="must have at least one row"):
        read_flat(tmp_path / "t.csv")
    (tmp_path / "t.xlsx").write_bytes(b"PK")
    with pytest.raises(SourceError, match="unknown kind"):
        read_flat(tmp_path / "t.xlsx")


def test_an_amount_that_exists_only_after_a_purchase_is_dropped() -> None:
    used, dropped = chosen_of(user_behavior(), "is_purchased")
    assert used == {"browse_time", "search_result_count"}
    reason = "leaks the target: not zero in 100.0% of the rows with a true target, 0.00% with a false one"
    assert dropped == {"purchase_amount": reason}
    used, dropped = chosen_of(user_behavior(), "is_purchased", keep=("purchase_amount",))
    assert "purchase_amount" in used
    assert not dropped


def test_leaks_are_dropped_and_strong_columns_are_kept() -> None:
    frame = user_behavior(3_000)
    random = np.random.default_rng(0)
    bought = frame["is_purchased"].to_numpy().astype(bool)
    half = bought & (random.random(len(frame)) < 0.7)
    wrong = random.random(len(frame)) < 0.002
    frame = frame.drop("purchase_amount").with_columns(
        pl.Series("order_id", [f"o{n}" if yes else None for n, yes in enumerate(bought)]),
        pl.Series("paid_at", ["2021-01-02 10:00:00" if yes else None for yes in half]),
        pl.Series("coupon_redeemed", ["yes" if yes else "no" for yes in half]),
        pl.Series("reason_for_leaving", [None if yes else "price" for yes in bought]),
        pl.Series("status", ["done" if yes != odd else "open" for yes, odd in zip(bought, wrong, strict=True)]),
        pl.Series("loyalty", bought * 40 + random.normal(0, 5, len(frame))),
        # Nobody buys without a cart, and one cart in three is bought: strong, and known before the answer.
        pl.Series(
            "cart_adds", np.where(bought | (random.random(len(frame)) < 0.4), 1 + random.poisson(1, len(frame)), 0)
        ),
        pl.Series("shop", ["north"] * len(frame)),
        pl.Series("row", range(len(frame))),
        pl.Series("visitor_id", random.permutation(len(frame)) * 7 + 1_000),
    )
    used, dropped = chosen_of(frame, "is_purchased")
    assert used == {"browse_time", "search_result_count", "cart_adds"}
    for name in ("order_id", "paid_at", "coupon_redeemed", "reason_for_leaving", "status", "loyalty"):
        assert dropped[name].startswith("leaks the target"), name
    assert "on its own it reaches ROC AUC 0.99" in dropped["status"]
    assert dropped["shop"] == "constant: the same value in every row"
    assert dropped["row"].startswith("identifies rows")
    assert dropped["visitor_id"].startswith("identifies rows")


@pytest.mark.parametrize(
    ("state_true", "state_false", "leak"),
    [
        (100, 0, True),
        (60, 0, True),  # not for all, but only for those who bought
        (40, 0, False),  # for fewer than half
        (100, 9, False),  # 9 of 109 rows are false: 8%
    ],
)
def test_which_states_are_leaks(state_true: int, state_false: int, leak: bool) -> None:
    """100 true and 900 false rows: false is 90% of all, so up to 0.9% of the rows of the state may be."""
    label = np.repeat(np.array([1, 0], dtype=np.int8), [100, 900])
    state = np.zeros(1_000, dtype=bool)
    state[:state_true] = True
    state[100 : 100 + state_false] = True
    assert reveals_target(state, label) == leak


def test_copies_stay_in_one_part_and_shares_are_equal() -> None:
    frame = as_text(user_behavior(1_000).with_columns(pl.Series("page", range(1_000))))
    cleaned = clean(pl.concat([frame, frame[:200], frame[:100]]), "is_purchased", keep_duplicates=True)
    divided = divide(cleaned)
    assert cleaned.account.used == 1_300
    assert (divided.copies, divided.crossing) == (300, 0)
    assert divided.would_cross > 20
    for name, share in zip(PARTS, (0.6, 0.2, 0.2), strict=True):
        where = divided.where(name)
        assert where.mean() == pytest.approx(share, abs=0.01)
        assert cleaned.label[where].mean() == pytest.approx(cleaned.label.mean(), abs=0.01)
    assert (divide(cleaned).part == divided.part).all()
    assert (divide(cleaned, seed=2).part != divided.part).any()


def test_with_a_time_column_the_latest_rows_are_tested() -> None:
    frame = user_behavior(1_000)
    day = [f"2021-03-{1 + n * 7 % 28:02d} {n % 24:02d}:00:00" for n in range(1_000)]
    day[5] = ""
    cleaned = clean(as_text(frame.with_columns(pl.Series("seen", day))), "is_purchased")
    assert cleaned.time == "seen"
    assert cleaned.account.quarantined == {"seen: missing or unreadable": 1}
    divided = divide(cleaned)
    train, validation, test = (cleaned.frame["seen"].filter(pl.Series(divided.where(name))) for name in PARTS)
    assert train.max() < validation.min()
    assert validation.max() < test.min()


def test_a_time_that_only_purchases_have_does_not_order_the_rows() -> None:
    frame = user_behavior(500)
    paid = ["2021-03-01 10:00:00" if yes else "" for yes in frame["is_purchased"]]
    assert clean(as_text(frame.with_columns(pl.Series("paid_at", paid))), "is_purchased").time is None


CLEANED = clean(as_text(mixed()), "is_purchased")
DIVIDED = divide(CLEANED)
TESTED = np.flatnonzero(DIVIDED.where("test"))


def fitted(frame: pl.DataFrame) -> Encoder:
    return Encoder.fit(frame.filter(pl.Series(DIVIDED.where("train"))), CLEANED.columns, 1)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_nothing_is_fitted_on_test_rows(data: st.DataObject) -> None:
    """Whatever the test rows hold, what is fitted on the training rows is the same, to the last bit."""
    value = {
        "number": st.none() | st.floats(-1e9, 1e9),
        "boolean": st.none() | st.booleans(),
        "category": st.none() | st.text(max_size=5),
    }
    other = CLEANED.frame
    for column in CLEANED.columns:
        drawn = data.draw(st.lists(value[column.kind], min_size=4, max_size=4))
        values = other[column.name].to_list()
        for place, row in enumerate(TESTED):
            values[row] = drawn[place % 4]
        other = other.with_columns(pl.Series(column.name, values, dtype=other.schema[column.name]))
    assert joblib.hash(fitted(other).vectorizer) == joblib.hash(fitted(CLEANED.frame).vectorizer)


def test_numbers_stay_and_categories_and_times_become_features() -> None:
    """Twelve rows each of two channels and one of a third, which is rare; Thursday 6:30; an unknown channel is rare."""
    moment = pl.Series("seen", ["2024-02-29 06:30:00"] * 25).str.to_datetime(time_unit="us", time_zone="UTC")
    frame = pl.DataFrame(
        {"price": [1.5] * 24 + [None], "channel": ["ad"] * 12 + ["mail"] * 12 + ["tv"], "seen": moment}
    )
    columns = (Column("price", "number", True), Column("channel", "category", False), Column("seen", "time", False))
    encoder = Encoder.fit(frame, columns, 1)
    row = pl.concat([frame[:1], frame[:1].with_columns(pl.lit("never seen").alias("channel"), price=pl.lit(None))])
    inputs = encoder.inputs(row)
    assert inputs.names == (
        *("price", "channel_ad", "channel_mail", "channel_infrequent_sklearn", "seen: hour", "seen: weekday"),
    )
    np.testing.assert_array_equal(inputs.tabular, [[1.5, 1, 0, 0, 6.5, 4], [np.nan, 0, 0, 1, 6.5, 4]])


def test_a_column_of_many_words_is_read_by_its_pieces() -> None:
    """Every text is new in the second half; those that share a word with buyers are told from the others."""
    words = pl.Series("query", [f"{'red shoe' if n % 2 else 'blue coat'} {n}" for n in range(200)])
    columns = (Column("query", "category", False),)
    found = Encoder.fit(pl.DataFrame(words[:100]), columns, 1).inputs(pl.DataFrame(words[100:])).tabular
    apart = np.linalg.norm(found[0] - found[1])
    assert np.linalg.norm(found[0] - found[2]) < apart / 2


def run(request: Request, folder: Path) -> Analysis:
    folder.mkdir()
    found = analyse(request)
    write_results(found, folder)
    return found


def test_the_same_arguments_give_the_same_metrics_and_the_same_model(tmp_path: Path) -> None:
    request = Request(write_csv(user_behavior(600), tmp_path), "is_purchased", models=("base_rate", "tuned_trees"))
    for name in ("a", "b"):
        run(request, tmp_path / name)
    run(replace(request, seed=7, models=QUICK), tmp_path / "c")
    first, second, other = (read_json(tmp_path / name / "metrics.json") for name in "abc")
    assert first == second
    assert first["models"]["base_rate"] != other["models"]["base_rate"]
    assert folder_digest(tmp_path / "a/model") == folder_digest(tmp_path / "b/model") == first["chosen"]["digest"]
    assert pl.read_parquet(tmp_path / "a/cleaned.parquet").columns == [
        *("browse_time", "search_result_count", "purchase_amount", "is_purchased", "shoplens_part")
    ]


def test_the_selection_does_not_use_the_test_rows(tmp_path: Path) -> None:
    """The chosen one is the best of the validation rows, also where another is better on the test rows."""
    found = run(Request(write_csv(user_behavior(400), tmp_path), "is_purchased", models=QUICK), tmp_path / "a")
    assert found.chosen.validation == max(one.validation for one in found.trained)


def test_the_threshold_follows_the_cost_of_a_false_alarm(tmp_path: Path) -> None:
    """Of probabilities the threshold is near c / (1 + c): .1 where nine false alarms cost one missed row, or .9."""
    data = write_csv(user_behavior(1_500), tmp_path)
    cheap, dear = (
        analyse(Request(data, "is_purchased", models=("logistic_regression",), false_alarm_cost=cost)).chosen.model
        for cost in (1 / 9, 9.0)
    )
    assert cheap.threshold < 0.3, cheap.threshold
    assert dear.threshold > 0.6, dear.threshold


@pytest.mark.tensorflow
def test_online_shoppers(real_data: Path, tmp_path: Path) -> None:
    """The real table: 125 copies, no false alarm, PageValues strong and kept, every model above the base rate."""
    found = run(Request(real_data / "online_shoppers_intention.csv", "Revenue"), tmp_path / "a")
    content = read_json(tmp_path / "a/metrics.json")
    assert content["account"] == {"rows": 12_330, "used": 12_205, "quarantined": {}, "exact_duplicates": 125}
    assert [column["column"] for column in content["columns"] if column["dropped"]] == []
    strongest = content["columns"][0]
    assert strongest["column"] == "PageValues"
    assert 0.8 < strongest["roc_auc_alone"] < 0.95
    assert content["split"]["duplicates"]["crossing"] == 0
    floor = content["models"]["base_rate"]["test"]["average_precision"]["high"]
    for name, one in content["models"].items():
        assert name == "base_rate" or one["test"]["average_precision"]["low"] > floor
    assert found.chosen.model.name in ("tuned_trees", "neural_network", "hazard_blend")
    assert next(iter(found.importances)) == "PageValues"
    for name in ("roc", "precision_recall", "calibration", "importance_table"):
        assert (tmp_path / f"a/plots/{name}.png").stat().st_size > 10_000
