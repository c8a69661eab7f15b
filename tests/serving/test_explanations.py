"""The explanation worker: it starts on first use, is replaced when it dies, and takes shap out of the service."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from serving.explanations.process import ExplainProcess
from serving.package import model_version
from serving.schemas import ExplainAnswer
from shoplens.errors import ExplainerBusyError, ModelError
from shoplens.files import write_json, write_manifest
from shoplens.settings import Settings
from training.explanations.background import background_of, write_background
from training.models import artifact
from training.models.contract import model_class

pytestmark = pytest.mark.service
MODELS = {"purchase": "boosted_trees", "next_item": "popularity"}  # neither needs TensorFlow


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory, rows, recipe, catalogue) -> Path:
    folder = tmp_path_factory.mktemp("project") / "package"
    for task, name in MODELS.items():
        found = rows(task)
        model = model_class(name)(recipe(task), catalogue)
        model.fit(found.train, found.validation, None)
        artifact.save(model, found.train.inputs.names, found.learned_until, folder / "models" / task)
    catalogue.frame.write_parquet(folder / "catalogue.parquet")
    rows("next_item").train.inputs.item_tables.latest.write(folder / "items.npz")
    write_background(background_of(rows("purchase").validation.inputs, 7), folder)
    write_json(folder / "fallback.json", {"base_rate": 0.5, "popular": [{"item_index": 2, "score": 1.0}]})
    about = {"as_of": "2024-03-29T00:00:00+00:00", "last_n": 8, "horizon_days": 7, "threshold": 0.5}
    about |= {"models": list(MODELS), "missing": {}}
    write_manifest(folder, about)
    return folder


@pytest.fixture(scope="module")
def process(package: Path) -> Iterator[ExplainProcess]:
    started = ExplainProcess(package, Settings(root=package.parent))
    yield started
    started.stop()


def wait_for_answer(process: ExplainProcess, user: str, item: str | None = None) -> ExplainAnswer:
    deadline = time.monotonic() + 120
    while True:
        try:
            return ExplainAnswer.model_validate(process.ask(user, item, 60))
        except ExplainerBusyError:
            assert time.monotonic() < deadline


def test_it_starts_with_the_first_request_and_says_so_meanwhile(process: ExplainProcess, package: Path) -> None:
    assert process.pid is None
    with pytest.raises(ExplainerBusyError, match=r"is starting\. Ask again shortly"):
        process.ask("ann", None, 0.01)
    started = process.pid
    assert started is not None
    answer = wait_for_answer(process, "ann")
    assert process.pid == started, "a request that does not wait does not start another one"
    assert (answer.user_id, answer.explanation, answer.fallback) == ("ann", None, "store_unavailable")
    assert answer.model_version == model_version(package)


def test_a_request_that_cannot_be_answered_ends_nothing(process: ExplainProcess) -> None:
    wait_for_answer(process, "ann")
    before = process.pid
    with pytest.raises(ModelError, match="item: must be an item_id of the catalogue; received 'none'"):
        process.ask("ann", "none", 60)
    assert wait_for_answer(process, "ann", "i3").user_id == "ann"
    assert process.pid == before


def test_a_process_that_died_is_replaced(process: ExplainProcess) -> None:
    wait_for_answer(process, "ann")
    before = process.pid
    assert before is not None
    os.kill(before, signal.SIGKILL)
    assert wait_for_answer(process, "bob").user_id == "bob"
    assert process.pid not in (None, before)


def test_the_process_ends_with_the_service_and_the_service_never_imports_shap(package: Path, root: Path) -> None:
    program = f"""
import sys, time
from pathlib import Path
import serving.service
from serving.explanations.process import ExplainProcess
from serving.predictor import Predictions
from shoplens.errors import ExplainerBusyError
from shoplens.settings import Settings
settings = Settings(root=Path({str(package.parent)!r}))
Predictions(Path({str(package)!r}), settings).warm()
process = ExplainProcess(Path({str(package)!r}), settings)
try:
    process.ask("ann", None, 0.01)
except ExplainerBusyError:
    pass
assert not [name for name in sys.modules if name.split(".")[0] in ("shap", "numba")]
print(process.pid)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    child, deadline = int(done.stdout), time.monotonic() + 60
    while Path(f"/proc/{child}/cmdline").exists() and "explanations" in Path(f"/proc/{child}/cmdline").read_text():
        assert time.monotonic() < deadline, "it outlives the service"
        time.sleep(0.2)


def test_a_background_file_that_is_missing_is_named(tmp_path: Path) -> None:
    from training.explanations.background import read_background

    write_background(np.ones((2, 3), dtype=np.float32), tmp_path)
    assert read_background(tmp_path).tolist() == [[1, 1, 1], [1, 1, 1]]
    with pytest.raises(ModelError, match=r"background\.npz: cannot be read .* Run `dvc repro package`"):
        read_background(tmp_path / "elsewhere")
