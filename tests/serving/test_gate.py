"""The gate on models that need no TensorFlow: who is the rival, on which rows, and what follows."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.catalogue import Catalogue
from serving.gate import Verdict, evaluate_package
from serving.package import model_version
from serving.release import Locations, point_current_to
from shoplens.errors import ReleaseError
from shoplens.files import read_json, write_json
from shoplens.params import load_params
from shoplens.settings import Settings
from training.heads import leave_out
from training.models import artifact
from training.models.contract import model_class
from training.rows import TASKS

FLOOR = {"purchase": "base_rate", "next_item": "popularity"}
GOOD = {"purchase": "personal_frequency", "next_item": "decayed_frequency"}


class Shop:
    """A project's outs and releases, with what the gate reads in them."""

    def __init__(self, folder: Path, root: Path, fit: Callable[[Any, str], Any], rows: Any) -> None:
        self.settings = Settings(root=folder)
        self.params = load_params(root / "params.yaml")
        self._fit = fit
        for task in TASKS:
            outs = self.settings.outs_dir / task
            self._keep(task, FLOOR[task], outs / "baselines" / FLOOR[task])
            rows(task).test.save(outs / "rows/test")

    def _keep(self, task: Any, name: str, folder: Path, learned_until: str = "2024-02-01") -> None:
        model, names = self._fit(task, name)
        artifact.save(model, names, np.datetime64(learned_until, "us"), folder)

    def package(self, models: dict[str, str], learned_until: str = "2024-02-01") -> str:
        """Write a package of these models to outs and return its version; other tasks are left out, with a reason."""
        folder = self.settings.outs_dir / "package"
        shutil.rmtree(folder, ignore_errors=True)
        for task in TASKS:
            (self.settings.outs_dir / task / "missing.json").unlink(missing_ok=True)
            if task not in models:
                leave_out(self.settings.outs_dir / task, f"nothing to learn for {task}")
                continue
            self._keep(task, models[task], folder / "models" / task, learned_until)
        write_json(folder / "manifest.json", {"models": models, "learned_until": learned_until})
        return model_version(folder)

    def release(self) -> None:
        """Put the package into service as it is."""
        folder = self.settings.outs_dir / "package"
        release = Locations(self.settings).releases / model_version(folder)
        shutil.copytree(folder, release / "src")
        point_current_to(self.settings, release)

    def evaluate(self) -> Verdict:
        return evaluate_package(self.params, self.settings)


@pytest.fixture
def shop(tmp_path: Path, root: Path, rows, recipe, catalogue: Catalogue) -> Shop:
    def fit(task: Any, name: str) -> tuple[Any, tuple[str, ...]]:
        found = rows(task)
        model = model_class(name)(recipe(task), catalogue)
        model.fit(found.train, found.validation, None)
        return model, found.train.inputs.names

    return Shop(tmp_path, root, fit, rows)


def test_with_nothing_in_service_the_floor_must_be_beaten(shop: Shop) -> None:
    version = shop.package(GOOD)
    verdict = shop.evaluate()
    assert verdict.accepted
    assert {head.task: head.rival for head in verdict.heads} == FLOOR
    kept = read_json(Locations(shop.settings).verdicts / f"{version}.json")
    assert kept == json.loads(json.dumps(verdict.as_json()))
    for head in kept["heads"].values():
        assert head["difference"]["low"] > 0
        assert head["new"]["low"] <= head["new"]["value"] <= head["new"]["high"]


def test_the_floor_does_not_beat_itself(shop: Shop) -> None:
    shop.package(FLOOR)
    assert not shop.evaluate().accepted


def test_a_worse_model_is_rejected_and_one_failing_head_is_enough(shop: Shop) -> None:
    shop.package(GOOD)
    shop.release()
    shop.package({**GOOD, "next_item": "popularity"})
    verdict = shop.evaluate()
    assert {head.task: head.passed for head in verdict.heads} == {"purchase": True, "next_item": False}
    assert not verdict.accepted
    assert "REJECTED" in verdict.heads[1].line()


def test_an_equal_model_is_accepted_within_the_margin(shop: Shop) -> None:
    shop.package(GOOD)
    shop.release()
    shop.package(GOOD, learned_until="2024-02-02")
    verdict = shop.evaluate()
    assert verdict.accepted
    assert [head.rival for head in verdict.heads] == list(GOOD.values())
    assert all(head.difference.value == 0 for head in verdict.heads)
    assert shop.evaluate() == verdict, "evaluating changes nothing"


def test_the_model_in_service_is_not_evaluated_again(shop: Shop) -> None:
    shop.package(GOOD)
    shop.release()
    assert shop.evaluate().heads == ()


def test_only_rows_that_the_model_in_service_was_not_trained_on_count(shop: Shop) -> None:
    shop.package(GOOD, learned_until="2024-03-15")
    shop.release()
    shop.package(GOOD)
    assert all(0 < head.rows < 100 for head in shop.evaluate().heads)


def test_without_such_rows_the_floor_is_used_and_the_verdict_says_why(shop: Shop) -> None:
    shop.package(GOOD, learned_until="2024-06-01")
    shop.release()
    shop.package(GOOD)
    verdict = shop.evaluate()
    assert {head.task: head.rival for head in verdict.heads} == FLOOR
    assert all("may have been trained on every held-out row" in head.note for head in verdict.heads)
    assert verdict.accepted


def test_an_unreadable_model_in_service_is_replaced_by_the_floor(shop: Shop) -> None:
    shop.package(GOOD)
    shop.release()
    (Locations(shop.settings).current / "src/models/purchase/model.json").write_text("{}")
    shop.package(FLOOR)
    verdict = shop.evaluate()
    assert [head.rival for head in verdict.heads] == ["base_rate", "decayed_frequency"]
    assert "cannot be run by the current code" in verdict.heads[0].note
    assert not verdict.accepted


def test_a_model_that_a_count_beats_is_rejected(shop: Shop) -> None:
    """Popularity replaces popularity, but a decayed count trained beside it is far better."""
    shop.package({**GOOD, "next_item": "popularity"})
    shop.release()
    shop._keep("next_item", "decayed_frequency", shop.settings.outs_dir / "next_item/baselines/decayed_frequency")
    shop.package({**GOOD, "next_item": "popularity"}, learned_until="2024-02-02")
    verdict = shop.evaluate()
    assert all(head.passed for head in verdict.heads), "as good as the model in service"
    found = {one.task: (one.rival, one.passed) for one in verdict.baselines}
    assert found == {"purchase": ("base_rate", True), "next_item": ("decayed_frequency", False)}
    assert not verdict.accepted


ONE = {"next_item": GOOD["next_item"]}


def test_one_head_alone_is_judged_alone(shop: Shop) -> None:
    shop.package(ONE)
    verdict = shop.evaluate()
    assert [head.task for head in (*verdict.heads, *verdict.baselines)] == ["next_item", "next_item"]
    assert verdict.accepted
    assert verdict.as_json()["missing"] == {"purchase": "nothing to learn for purchase"}
    assert verdict.lines()[-1] == "purchase: no model: nothing to learn for purchase"


def test_a_head_in_service_must_not_disappear(shop: Shop) -> None:
    """A mapping that loses the purchases would take the purchase model out of service, without an error."""
    in_service = shop.package(GOOD)
    shop.release()
    shop.package(ONE)
    verdict = shop.evaluate()
    assert [head.passed for head in verdict.heads] == [True]
    assert verdict.lost == ("purchase",)
    assert not verdict.accepted
    assert verdict.lines()[-1].startswith(f"purchase: REJECTED, for {in_service} in service has one")


def test_a_head_that_is_new_must_beat_the_floor(shop: Shop) -> None:
    shop.package(ONE)
    shop.release()
    shop.package(GOOD)
    found = {head.task: head for head in shop.evaluate().heads}
    assert (found["purchase"].rival, found["purchase"].note) == (
        "base_rate",
        "the package in service has no such model",
    )
    assert found["next_item"].rival == GOOD["next_item"]


def test_a_missing_floor_raises(shop: Shop) -> None:
    shop.package(GOOD)
    shutil.rmtree(shop.settings.outs_dir / "purchase/baselines/base_rate")
    with pytest.raises(ReleaseError, match=r"train\.purchase\.baselines must include base_rate"):
        shop.evaluate()
