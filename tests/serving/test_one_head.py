"""A log without purchases, and one without items: every step from features to answers goes on with the other model."""

import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from features.materialize import materialize
from features.stages import features
from serving.gate import evaluate_package
from serving.package import package
from serving.predictor import Predictions
from shoplens.files import read_json
from shoplens.params import Params, load_params
from shoplens.settings import Settings
from tests.features.conftest import Shop, at, contract_log
from training.evaluate import evaluate
from training.explain import explain
from training.fit import train_next_item, train_purchase
from training.rows import Task

pytestmark = pytest.mark.tensorflow
DAYS = 105
ITEMS = ["bread", "milk", "pen", "ink"]


def _day(number: float) -> str:
    return (at("2024-01-01 00:00") + timedelta(days=number)).isoformat(" ")[:16]


def _log(task: Task) -> pl.DataFrame:
    """Twenty people who come every few days: for the item that is theirs, or, without items, to buy or to look."""
    rows: list[dict[str, Any]] = []
    for person in range(20):
        for visit in range(person % 5, DAYS, 3 + person % 4):
            about = {
                "user_id": f"u{person}",
                "session_id": f"u{person}-{visit}",
                "event_time": _time(visit + person / 48),
            }
            if task == "next_item":
                about |= {"event_name": "view_item", "item_id": ITEMS[person % 4]}
            else:
                about |= {"event_name": "purchase" if person % 2 else "search", "order_id": f"o{person}-{visit}"}
            rows.append(about | {"ingested_at": about["event_time"], "platform": "web"})
    return contract_log(*rows)


def _time(day: float) -> datetime:
    return at(_day(day))


def _small(params: Params, task: Task) -> Params:
    """Models that need no network."""
    own = {"model": "decayed_frequency", "baselines": ("popularity",)}
    if task == "purchase":
        own = {"model": "personal_frequency", "baselines": ("base_rate",)}
    head = getattr(params.train, task).model_copy(update=own)
    train = params.train.model_copy(update={task: head})
    fewer = {"evaluate": params.evaluate.model_copy(update={"resamples": 50})}
    fewer["explain"] = params.explain.model_copy(update={"rows": 10, "repeats": 2})
    return params.model_copy(update={"train": train, **fewer})


@pytest.mark.parametrize(
    ("task", "other", "reason"),
    [
        ("next_item", "purchase", "train.purchase: at least one event of a user must be a purchase; none of "),
        ("purchase", "next_item", "train.next_item: at least one event of a user must be of an item; none of "),
    ],
)
def test_one_model_is_trained_judged_packaged_and_served(
    task: Task, other: Task, reason: str, tmp_path: Path, root: Path
) -> None:
    shutil.copy(root / "uv.lock", tmp_path)
    shop = Shop(
        Settings(root=tmp_path, outs=Path("outs"), var=Path("var")), _small(load_params(root / "params.yaml"), task)
    )
    shop.put(_log(task), digest="d1")
    outs = shop.settings.outs_dir
    for stage in (features, train_purchase, train_next_item, evaluate, explain, package):
        stage(shop.params, shop.settings)
    metrics = read_json(outs / "evaluation/metrics.json")
    assert metrics[other]["missing"].startswith(reason)
    assert metrics[task]["rows"] > 0
    assert metrics[task]["as_served"]["rows"] > 0
    assert read_json(outs / "explanation/importance.json")[other]["missing"].startswith(reason)
    manifest = read_json(outs / "package/manifest.json")
    assert list(manifest["models"]) == [task]
    assert manifest["missing"][other].startswith(reason)
    verdict = evaluate_package(shop.params, shop.settings)
    assert [head.task for head in (*verdict.heads, *verdict.baselines)] == [task, task]
    assert verdict.missing[other].startswith(reason)
    assert verdict.accepted

    materialize(shop.settings)
    service = Predictions(outs / "package", shop.settings)
    service.warm()
    purchase, items = service.predict_purchase("u3"), service.recommend("u3", 2)
    with_model, without = (purchase, items) if task == "purchase" else (items, purchase)
    assert (with_model.fallback, with_model.no_model) == (None, None)
    assert without.fallback == "no_model"
    assert without.no_model is not None
    assert without.no_model.startswith(reason)
    if task == "purchase":
        assert purchase.probability is not None
        assert purchase.probability > 0.5, "u3 buys every sixth day"
        assert items.items == []
    else:
        assert items.items[0].item_id == "ink"
        assert (purchase.probability, purchase.will_purchase, purchase.horizon_days) == (None, None, None)
    assert service.about().missing[other].startswith(reason)
