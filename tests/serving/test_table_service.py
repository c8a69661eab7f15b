"""`shoplens table` from a file to answers over HTTP, out of the Bento that it leaves."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
from table_world import mixed, user_behavior

from serving.table.cli import CODE, require_replaceable
from shoplens.errors import SettingsError
from shoplens.files import read_json

pytestmark = [pytest.mark.service, pytest.mark.timeout(300)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def table(root: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["shoplens", "table", *arguments]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {**os.environ, "BENTOML_HOME": str(tmp_path_factory.mktemp("bentoml"))}


@pytest.fixture(scope="module")
def made(root: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the command said of a table with a leak and columns of every kind, and left in a folder."""
    folder = tmp_path_factory.mktemp("table")
    rows = 700
    moments = pl.Series("seen_on", [f"2021-{1 + n % 5:02d}-{1 + n % 28:02d} {n % 24:02d}:30:00" for n in range(rows)])
    amount = user_behavior(rows)["purchase_amount"]
    data = folder / "user_behavior_data.csv"
    mixed(rows).with_columns(amount, moments).write_csv(data)
    out = folder / "made"
    done = table(root, environment, "--data", str(data), "--target", "is_purchased", "--out", str(out))
    assert done.returncode == 0, done.stderr
    return {"out": out, "said": done.stdout, "progress": done.stderr, "content": read_json(out / "metrics.json")}


@pytest.fixture(scope="module")
def service(made: dict[str, Any], environment: dict[str, str], tmp_path_factory) -> Iterator[httpx.Client]:
    """The Bento, served from its folder alone, elsewhere."""
    port, where = free_port(), tmp_path_factory.mktemp("elsewhere")
    log = where / "log"
    with log.open("wb") as stream:
        server = subprocess.Popen(
            ["bentoml", "serve", str(made["out"] / "bento"), "--port", str(port)],
            cwd=where,
            env=environment,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:
            wait_ready(client, server, log)
            yield client
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)


def wait_ready(client: httpx.Client, server: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()[-4000:]
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError(log.read_text()[-4000:])


def example(made: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = read_json(made["out"] / "model/columns.json")["example"]
    return row


def test_the_command_prints_and_writes_its_results(made: dict[str, Any]) -> None:
    out, printed = made["out"], made["said"]
    assert printed.startswith("700 rows in = 700 used + 0 quarantined + 0 exact duplicates\n")
    assert "dropped purchase_amount: leaks the target: not zero in 100.0%" in printed
    assert f"bentoml serve {out}/bento --port 3000" in printed
    assert "neural_network" in made["progress"]
    assert made["content"]["time"] == "seen_on"
    for name in ("report.md", "report.html", "cleaned.parquet", "quarantine.parquet", "plots/roc.png"):
        assert (out / name).stat().st_size > 0
    assert len(list(out.glob("shoplens_table-*.bento"))) == 1
    assert not list(out.parent.glob(".made*"))


def test_the_pages_are_complete_and_self_contained(made: dict[str, Any]) -> None:
    page = (made["out"] / "report.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert page.count("data:image/png;base64,") == 4
    text = (made["out"] / "report.md").read_text()
    for words in ("**purchase_amount** | number", "leaks the target", "by time (seen_on)", "tuned_trees", "curl"):
        assert words in text
    for plot in re.findall(r"\]\((plots/[^)]+)\)", text):
        assert (made["out"] / plot).is_file()


def test_a_row_gets_a_prediction(service: httpx.Client, made: dict[str, Any]) -> None:
    about = service.get("/version").json()
    row = example(made)
    answer = service.post("/predict", json=row).json()
    assert answer["model_version"] == about["model_version"]
    assert answer["decision"] == (answer["probability"] >= about["threshold"])
    assert (about["target"], about["model"]) == ("is_purchased", made["content"]["chosen"]["model"])
    moved = row | {"seen_on": row["seen_on"].replace("+00:00", "-05:00"), "channel": "never seen", "gaps": None}
    assert service.post("/predict", json=moved).status_code == 200


def test_the_service_predicts_what_training_predicts(service: httpx.Client, made: dict[str, Any]) -> None:
    from training.table.columns import load

    model = load(made["out"] / "model")
    rows = pl.read_parquet(made["out"] / "cleaned.parquet")[-5:]
    expected = model.predict(rows)
    for row, probability in zip(
        rows.select(c.name for c in model.columns).iter_rows(named=True), expected, strict=True
    ):
        body = row | {"seen_on": row["seen_on"].isoformat()}
        answer = service.post("/predict", json=body).json()
        assert answer["probability"] == pytest.approx(float(probability), abs=2e-6)


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"browse_time": None}, "browse_time", "number"),
        ({"browse_time": "12"}, "browse_time", "number"),
        ({"browse_time": True}, "browse_time", "number"),
        ({"returning": "yes"}, "returning", "boolean"),
        ({"returning": 1}, "returning", "boolean"),
        ({"channel": 7}, "channel", "string"),
        ({"channel": "x" * 1_001}, "channel", "1000"),
        ({"seen_on": "yesterday"}, "seen_on", "ISO 8601"),
        ({"seen_on": 1_609_459_200}, "seen_on", "ISO 8601"),
        ({"seen_on": "0001-01-01T00:00:00+05:00"}, "seen_on", "ISO 8601"),
        ({"purchase_amount": 3.5}, "purchase_amount", "not used by the model: leaks the target"),
        ({"is_purchased": 1}, "is_purchased", "it is the target"),
        ({"colour": "red"}, "colour", "not a column of the table"),
    ],
)
def test_an_invalid_field_is_reported_by_name(
    service: httpx.Client, made: dict[str, Any], change: dict[str, Any], field: str, words: str
) -> None:
    answer = service.post("/predict", json=example(made) | change)
    assert answer.status_code == 400
    assert [one["loc"] for one in answer.json()["detail"]] == [[field]]
    assert words in answer.json()["detail"][0]["msg"]


def test_missing_columns_and_invalid_bodies_are_rejected(service: httpx.Client, made: dict[str, Any]) -> None:
    row = example(made)
    del row["browse_time"]
    answer = service.post("/predict", json=row)
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (400, ["browse_time"])
    infinite = json.dumps(example(made)).replace('"browse_time": ', '"browse_time": 1e999, "x": ')
    lone = json.dumps(example(made) | {"channel": "\ud800"})
    for body in ("{", "[]", "7", "null", "", infinite, lone):
        answer = service.post("/predict", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 400, body
        assert answer.json()["detail"]


def test_types_and_an_example_are_published(service: httpx.Client, made: dict[str, Any]) -> None:
    row = service.get("/openapi.json").json()["components"]["schemas"]["Row"]
    assert set(row["properties"]) == set(example(made)) == set(row["required"])
    assert row["example"] == example(made)


def test_the_bento_contains_exactly_the_code_that_it_runs(made: dict[str, Any], tmp_path: Path) -> None:
    """Loaded from its own folder, the service imports none of our modules from anywhere else."""
    code = (
        "import sys, pathlib; here = pathlib.Path.cwd(); sys.path.insert(0, str(here))\n"
        "[sys.modules.pop(n) for n in list(sys.modules) if n.startswith('shoplens')]\n"  # .venv loads it at its start
        "import serving.table.service\n"
        "from serving.table.service import TablePredictions\n"
        "TablePredictions(here).warm()\n"
        "ours = [m.__file__ for n, m in sys.modules.items()"
        " if n.partition('.')[0] in ('shoplens', 'events', 'expectations', 'features', 'training', 'serving')]\n"
        "assert ours and all(pathlib.Path(f).is_relative_to(here) for f in ours), ours"
    )
    source = made["out"] / "bento/src"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {path.relative_to(source).as_posix() for path in source.rglob("*.py")} == set(CODE)


def test_a_folder_with_other_files_is_not_replaced(made: dict[str, Any], tmp_path: Path) -> None:
    require_replaceable(tmp_path / "new")
    require_replaceable(tmp_path)
    require_replaceable(made["out"])
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(SettingsError, match="--out: must be a new or empty folder"):
        require_replaceable(tmp_path)


def test_an_unsuitable_target_is_reported_without_a_traceback(
    root: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    data = tmp_path / "t.csv"
    user_behavior(100).write_csv(data)
    done = table(root, environment, "--data", str(data), "--target", "browse_time", "--out", str(tmp_path / "out"))
    assert done.returncode == 1
    assert "BrokenTableError: column browse_time: must hold two values" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
