"""The whole platform on a small real slice of The Complete Journey: one run of every stage, then from the package to
answers over HTTP: store, gate, release, supervisor, and the exported Bento alone."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
import yaml

from shoplens.files import read_json

pytestmark = [pytest.mark.whole, pytest.mark.timeout(900)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_ready(url: str, process: subprocess.Popen, log: Path, version: str | None = None) -> httpx.Response:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-4000:]
        try:
            answer = httpx.get(f"{url}/readyz", timeout=5, trust_env=False)
            if answer.status_code == 200 and version in (None, answer.headers["x-model-version"]):
                return answer
        except httpx.TransportError:
            pass
        time.sleep(0.3)
    raise AssertionError(log.read_text()[-4000:])


@pytest.fixture(scope="module")
def project(make_project: Callable[[], Any]) -> Any:
    """A scratch clone after what Airflow's tasks run: one stage after the other, with a cache of its own."""
    project = make_project()
    for name in yaml.safe_load((project.folder / "dvc.yaml").read_text())["stages"]:
        project.first_run += project.run("dvc", "repro", "--single-item", name)
    project.first_lock = project.lock()
    return project


@pytest.fixture(scope="module")
def released(project) -> dict[str, Any]:
    """The project with a loaded store and a first release, at the second try; what the commands said."""
    said = {name: project.run("shoplens", name) for name in ("materialize", "gate")}
    url = f"http://127.0.0.1:{free_port()}"  # where nothing answers
    failed = project.attempt("shoplens", "release", "--wait-ready", "0.1", "--url", url)
    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert "Rolled back to no model" in failed.stderr
    assert not (project.folder / "var/service/current").exists()
    said["release"] = project.run("shoplens", "release")
    return {name: json.loads(text.strip().splitlines()[-1]) for name, text in said.items()}


@pytest.fixture(scope="module")
def service(project, released) -> Iterator[httpx.Client]:
    port, log = free_port(), project.folder / "var/run/service.log"
    supervisor = subprocess.Popen(
        ["shoplens", "supervise", "--port", str(port)], cwd=project.folder, env=project.environment
    )
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 60
    while not log.exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    wait_ready(url, supervisor, log, released["release"]["digest"])
    with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
        yield client
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(timeout=30) == 0
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{url}/readyz", trust_env=False)


@pytest.fixture(scope="module")
def user(project) -> str:
    """Somebody who was active in the last weeks."""
    return str(pl.read_parquet(project.folder / "outs/evaluation/predictions/purchase.parquet")["user_id"][-1])


# --- the pipeline ---


def test_a_clean_clone_runs_every_stage_and_a_second_run_does_nothing(project) -> None:
    stages = yaml.safe_load((project.folder / "dvc.yaml").read_text())["stages"]
    for name, spec in stages.items():
        assert f"Running stage '{name}'" in project.first_run
        for out in [*spec.get("outs", []), *spec.get("metrics", []), *spec.get("plots", [])]:
            assert (project.folder / out).exists(), f"{name} did not leave {out}"
    again = project.run("dvc", "repro")
    assert "Running stage" not in again, "stage by stage is the same run as all at once"
    assert "up to date" in again
    assert project.lock() == project.first_lock


def test_the_last_stages_run_again_leave_the_same_bytes(project) -> None:
    """For the stages before them, tests of their own folder hold this."""
    for name in ("evaluate", "explain", "package"):
        assert f"Running stage '{name}'" in project.run("dvc", "repro", "--force", "--single-item", name)
    assert project.lock() == project.first_lock


def test_the_accounts_add_up(project) -> None:
    account = read_json(project.folder / "outs/events/account.json")
    for table in account["tables"].values():
        assert table["rows_in"] == table["accepted"] + sum(table["quarantined"].values()) + table["exact_duplicates"]
    # The account is of the source; the slice is taken after it.
    assert account["tables"]["transactions.parquet"]["rows_in"] == 1_469_307


@pytest.mark.parametrize(
    ("change", "reruns"),
    [
        ({"train": {"next_item": {"loop": {"epochs": 2}}}}, {"train_next_item"}),
        ({"train": {"purchase": {"model": "lstm"}}}, {"train_purchase"}),
        ({"explain": {"repeats": 3}}, {"explain"}),
        ({"evaluate": {"resamples": 60}}, {"evaluate", "explain"}),
        ({"expectations": {"max_bad_share": 0.06}}, {"validate"}),
        ({"features": {"owners": {"default": "crm"}}}, {"features"}),
        ({"gate": {"margin": 0.01}}, set()),
    ],
)
def test_one_parameter_touches_only_the_stages_that_use_it(project, change: dict, reruns: set) -> None:
    path = project.folder / "params.yaml"
    before = path.read_bytes()
    try:
        project.set_params(change)
        status = yaml.safe_load(project.run("dvc", "status", "--json")) or {}
    finally:
        path.write_bytes(before)
    touched = {name for name, causes in status.items() if any("changed deps" in cause for cause in causes)}
    touched &= {name for name, causes in status.items() if "params.yaml" in str(causes)}
    assert touched == reruns


def test_the_users_views_of_dvc_work(project) -> None:
    metrics = project.run("dvc", "metrics", "show")
    assert "outs/evaluation/metrics.json" in metrics
    assert "average_precision" in metrics
    project.run("dvc", "plots", "show", "--out", "var/plots")
    page = (project.folder / "var/plots/index.html").read_text()
    for plot in yaml.safe_load((project.folder / "dvc.yaml").read_text())["plots"]:
        assert (plot if isinstance(plot, str) else next(iter(plot))) in page


def test_an_experiment_with_another_model_reruns_and_is_listed(project) -> None:
    output = project.run("dvc", "exp", "run", "-S", "train.purchase.model=lstm")
    assert "Running stage 'train_purchase'" in output
    assert "Running stage 'train_next_item'" not in output
    table = project.run("dvc", "exp", "show", "--csv")
    assert "lstm" in table
    # Back to what was committed: nothing is trained again, DVC knows the outs of these parameters.
    project.run("git", "checkout", "-q", "--", "params.yaml")
    assert "Running stage" not in project.run("dvc", "repro")


# --- the service ---


def test_the_first_model_is_judged_against_the_floor_and_released_once(project, released) -> None:
    assert released["gate"]["accepted"]
    assert released["gate"]["current"] is None
    assert {h["rival"] for h in released["gate"]["heads"].values()} == {"base_rate", "popularity"}
    assert released["release"]["changed"] is True
    again = json.loads(project.run("shoplens", "release").strip().splitlines()[-1])
    assert again == {"digest": released["release"]["digest"], "changed": False}


def test_a_known_user_gets_personal_answers(service: httpx.Client, released, user: str) -> None:
    purchase = service.post("/predict_purchase", json={"user_id": user}).json()
    assert purchase["fallback"] is None
    assert 0 <= purchase["probability"] <= 1
    assert purchase["model_version"] == released["release"]["digest"]
    items = service.post("/recommend", json={"user_id": user, "k": 7}).json()["items"]
    assert len({item["item_id"] for item in items}) == 7
    assert [i["score"] for i in items] == sorted((i["score"] for i in items), reverse=True)
    profile = service.post("/profile", json={"user_id": user}).json()
    assert profile["known"]
    assert profile["summary"][0].startswith("Last seen")
    assert all(fact["meaning"] for fact in profile["features"])


def test_the_service_answers_what_training_predicts(service: httpx.Client, project, user: str) -> None:
    """At the store's high-water mark, the online answer is the model on the same user's row built from the log."""
    import numpy as np

    from features.catalogue import Catalogue
    from features.definitions import COMPUTED_FEATURES, NUMERIC_FEATURES
    from features.histories import UserLog
    from features.repo import historical_features
    from training.models import artifact
    from training.rows import Inputs

    outs = project.folder / "outs"
    now = np.array([read_json(outs / "validated/dataset.json")["high_water"].removesuffix("+00:00")], "datetime64[us]")
    key = pl.DataFrame({"user_id": [user], "event_timestamp": pl.Series(now).dt.replace_time_zone("UTC")})
    slow = historical_features(key, outs / "features", "purchase").select(NUMERIC_FEATURES["purchase"])
    events = pl.read_parquet(outs / "validated/events.parquet")
    log = UserLog.from_events(events, Catalogue.load(outs / "features/catalogue.parquet"))
    inputs = Inputs.join(slow, log.as_of([user], now, 1024), now, COMPUTED_FEATURES["purchase"])
    expected = float(artifact.load(outs / "purchase/model").predict(inputs)[0])
    answer = service.post("/predict_purchase", json={"user_id": user}).json()
    assert answer["probability"] == pytest.approx(expected, abs=2e-6)


def test_an_answer_is_explained_by_a_process_that_starts_with_the_request(service: httpx.Client, user: str) -> None:
    with ThreadPoolExecutor() as threads:  # predictions do not wait for the process to start
        first = threads.submit(service.post, "/explain", json={"user_id": user})
        time.sleep(0.5)
        assert service.post("/predict_purchase", json={"user_id": user}).status_code == 200
        assert not first.done()
    assert first.result().status_code in {200, 503}
    deadline = time.monotonic() + 120
    while (found := service.post("/explain", json={"user_id": user})).status_code == 503:
        assert found.json()["fallback"] == "explainer_busy"
        assert time.monotonic() < deadline
    explanation = found.json()["explanation"]
    purchase = service.post("/predict_purchase", json={"user_id": user}).json()
    assert explanation["prediction"] == pytest.approx(purchase["probability"], abs=2e-6)
    assert explanation["parts"]
    item = service.post("/recommend", json={"user_id": user, "k": 2}).json()["items"][1]["item_id"]
    ranked = service.post("/explain", json={"user_id": user, "item_id": item}).json()["explanation"]
    assert (ranked["item_id"], ranked["rank"]) == (item, 2)
    assert service.post("/explain", json={"user_id": user, "item_id": "no such item"}).status_code == 400


def test_an_unknown_user_gets_the_stated_fallback(service: httpx.Client, project) -> None:
    fallback = read_json(project.folder / "outs/package/fallback.json")
    purchase = service.post("/predict_purchase", json={"user_id": "nobody"}).json()
    assert (purchase["fallback"], purchase["probability"]) == ("unknown_user", fallback["base_rate"])
    items = service.post("/recommend", json={"user_id": "nobody"}).json()["items"]
    assert len(items) == 10
    assert items[0]["score"] == pytest.approx(fallback["popular"][0]["score"])
    assert service.post("/profile", json={"user_id": "nobody"}).json()["known"] is False


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/predict_purchase", {}, "user_id"),
        ("/predict_purchase", {"user_id": 7}, "user_id"),
        ("/predict_purchase", {"user_id": ""}, "user_id"),
        ("/predict_purchase", {"user_id": "x" * 257}, "user_id"),
        ("/predict_purchase", {"user_id": "a\nb"}, "user_id"),
        ("/profile", {"user_id": None}, "user_id"),
        ("/recommend", {"user_id": "900", "k": 0}, "k"),
        ("/recommend", {"user_id": "900", "k": 101}, "k"),
        ("/recommend", {"user_id": "900", "k": "ten"}, "k"),
    ],
)
def test_bad_input_is_named_and_not_logged(service: httpx.Client, project, path: str, body: dict, field: str) -> None:
    answer = service.post(path, json=body)
    assert answer.status_code == 400
    assert answer.json()["detail"][0]["loc"] == [field]
    assert answer.json()["detail"][0]["msg"]
    log = (project.folder / "var/run/service.log").read_text()
    assert "x" * 257 not in log
    assert "a\\nb" not in log


def test_a_body_that_is_no_json_is_refused(service: httpx.Client) -> None:
    answer = service.post("/recommend", content=b'{"user_id":', headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert "JSON" in answer.json()["detail"][0]["msg"]


def test_version_and_openapi_say_what_is_served(service: httpx.Client, project, released) -> None:
    about = service.get("/version").json()
    assert about["model_version"] == released["release"]["digest"]
    head = project.run("git", "rev-parse", "HEAD").strip()
    assert about["git_revision"] == head
    assert about["data"]["events"] == read_json(project.folder / "outs/validated/dataset.json")["digest"]
    schema = service.get("/docs.json").json()
    assert {"/predict_purchase", "/recommend", "/profile"} <= set(schema["paths"])
    assert "900" in json.dumps(schema), "examples"


def test_a_store_that_is_gone_is_said_and_comes_back(service: httpx.Client, project, user: str) -> None:
    store = project.folder / "var/feast/online.db"
    away = store.with_name("away")
    store.rename(away)
    try:
        answer = service.post("/predict_purchase", json={"user_id": user}).json()
        assert answer["fallback"] == "store_unavailable"
        assert service.post("/recommend", json={"user_id": user}).json()["fallback"] == "store_unavailable"
    finally:
        away.rename(store)
    assert service.post("/predict_purchase", json={"user_id": user}).json()["fallback"] is None


def test_the_exported_bento_runs_alone_in_another_folder(project, released, user: str, tmp_path: Path) -> None:
    version = released["release"]["digest"]
    exported = project.folder / f"var/service/exports/shoplens-{version}.bento"
    alone = {name: value for name, value in os.environ.items() if not name.startswith(("SHOPLENS_", "BENTOML_"))}
    alone |= {"BENTOML_HOME": str(tmp_path / "bentos"), "SHOPLENS_VAR": str(project.folder / "var")}
    subprocess.run(["bentoml", "import", str(exported)], cwd=tmp_path, env=alone, check=True, capture_output=True)
    port, log = free_port(), tmp_path / "log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            ["bentoml", "serve", f"shoplens:{version}", "--port", str(port)],
            cwd=tmp_path,
            env=alone,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_ready(url, server, log, version)
        answer = httpx.post(f"{url}/predict_purchase", json={"user_id": user}, timeout=30, trust_env=False).json()
        assert (answer["fallback"], answer["model_version"]) == (None, version)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)


def test_a_worse_model_is_refused_and_the_old_one_still_answers(project, released, service, user: str) -> None:
    """Last in this file: it trains another model into the project's outs."""
    path = project.folder / "params.yaml"
    before = path.read_bytes()
    heads = {head: {"loop": {"learning_rate": 1e-9}} for head in ("purchase", "next_item")}
    try:
        project.set_params({"train": heads})
        project.run("dvc", "repro")
        gate = project.attempt("shoplens", "gate")
        assert gate.returncode == 3, gate.stdout + gate.stderr
        verdict = json.loads(gate.stdout.strip().splitlines()[-1])
        assert verdict["current"] == released["release"]["digest"]
        kept = read_json(project.folder / f"var/service/verdicts/{verdict['model_version']}.json")
        assert kept["accepted"] is False
        assert any(head["difference"]["low"] < -0.005 for head in kept["heads"].values())
        rejected = project.attempt("shoplens", "release")
        assert rejected.returncode == 1
        assert "the gate has rejected it" in rejected.stderr
        answer = service.post("/predict_purchase", json={"user_id": user}).json()
        assert answer["model_version"] == released["release"]["digest"]
    finally:
        path.write_bytes(before)
