"""The models of flat tables, and their cross-validation."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from table_world import user_behavior, write_csv

from features.histories import Histories
from shoplens.errors import BrokenTableError, SettingsError
from shoplens.files import read_json
from training.metrics import purchase_metrics
from training.models.piecewise import PieceScaler
from training.models.tuned_trees import TunedTrees
from training.rows import Inputs
from training.table.benchmark import Protocol, benchmark
from training.table.columns import NO_ITEMS, Column, Encoder
from training.table.run import table_recipe


def inputs_of(values: list[float]) -> Inputs:
    matrix = np.array(values, dtype=np.float32)[:, None]
    now = np.full(len(values), np.datetime64("2024-01-01", "us"))
    return Inputs(("x",), matrix, Histories.none(len(values)), now)


def test_pieces_rise_one_after_the_other() -> None:
    """Of 0, 0, 0, 1, ..., 13 the lowest value is an edge alone; 12 pieces lie between the 13 values above it."""
    scaler = PieceScaler.fit(inputs_of([0, 0, 0, *range(1, 14)]))
    assert scaler.edges[0] == pytest.approx(range(14))
    applied = scaler.apply(inputs_of([0.5, 0, 20]))[:, 1:14]  # without the feature itself and the missing flags
    zero, top = applied[1], applied[2]
    share = (applied[0] - zero) / (top - zero)
    assert share[0] == pytest.approx(np.log(1.5) / np.log(2), abs=1e-5)  # the scaler takes log(1 + x)
    assert share[1:].tolist() == [0] * 12


def test_pieces_survive_json_and_missing_values_have_none() -> None:
    given = inputs_of([1, 2, 3, 4, np.nan])
    scaler = PieceScaler.fit(given)
    back = PieceScaler.from_json(scaler.as_json())
    assert back == scaler
    missing = back.apply(given)[4]
    half = len(missing) // 2
    assert missing.tolist() == [0] * half + [1] * half
    assert PieceScaler.fit(inputs_of([0, 1, 0, 1])).edges == ((),)


def test_the_size_of_the_trees_follows_the_validation_rows() -> None:
    """What a few trees learn is enough where labels are noise; a checkerboard of 36 fields needs the many."""
    random = np.random.default_rng(0)
    values = random.uniform(0, 6, (6_000, 2))
    board = (values.astype(int).sum(axis=1) % 2).astype(float)
    noise = (random.random(6_000) < 0.5).astype(float)
    columns = tuple(Column(name, "number", False) for name in "ab")
    frame = pl.DataFrame(values, schema=["a", "b"])
    encoder = Encoder.fit(frame, columns, 1)
    chosen = []
    for label in (noise, board):
        train, held = (encoder.rows(frame[k], label[k], np.arange(3_000)) for k in (slice(3_000), slice(3_000, 6_000)))
        model = TunedTrees(table_recipe(3_000, 1, 1.0), NO_ITEMS)
        model.fit(train, held, None)
        chosen.append(model.trees.n_iter_)
    assert chosen == [80, 250]
    assert purchase_metrics(held.labels, model.predict(held.inputs))["roc_auc"] > 0.9


def test_the_benchmark_keeps_folds_and_gives_intervals(tmp_path: Path) -> None:
    """Labels depend on browse_time alone: without it, no model ranks better than chance."""
    data = write_csv(user_behavior(900), tmp_path)
    drop = ("purchase_amount",)
    protocol = Protocol(data, "is_purchased", drop, 3, 2, models=("base_rate", "logistic_regression"))
    lines: list[str] = []
    content = benchmark(protocol, tmp_path / "a.json", tmp_path / "kept", lines.append)
    assert len(lines) == 6
    figures = content["figures"]["logistic_regression"]
    assert figures["roc_auc"]["low"] > 0.7
    assert figures["calibration"][0]["calibrated"]
    assert content["figures"]["base_rate"]["last_minus_this"]["roc_auc"]["low"] > 0.2
    assert content["figures"]["base_rate"]["roc_auc"]["value"] == pytest.approx(0.5, abs=0.06)
    assert benchmark(protocol, tmp_path / "b.json", tmp_path / "kept", lines.append) == content
    assert len(lines) == 6
    assert read_json(tmp_path / "a.json") == read_json(tmp_path / "b.json")
    blind = Protocol(data, "is_purchased", (*drop, "browse_time"), 3, 1, models=("base_rate", "logistic_regression"))
    with pytest.raises(SettingsError, match="--keep: must be a new folder"):
        benchmark(blind, tmp_path / "c.json", tmp_path / "kept", lines.append)
    chance = benchmark(blind, tmp_path / "c.json", None, lines.append)["figures"]["logistic_regression"]["roc_auc"]
    assert chance["low"] < 0.5 < chance["high"] + 0.03


def test_a_benchmark_that_cannot_be_run_says_why(tmp_path: Path) -> None:
    data = write_csv(user_behavior(200), tmp_path)
    with pytest.raises(SettingsError, match="--drop: must name columns of the table; received 'who'"):
        benchmark(Protocol(data, "is_purchased", ("who",)), tmp_path / "a.json", None, print)
    with pytest.raises(BrokenTableError, match="the table: must have at least 150 people, or rows, with each label"):
        benchmark(Protocol(data, "is_purchased", folds=150), tmp_path / "a.json", None, print)
