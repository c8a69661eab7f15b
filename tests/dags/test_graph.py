"""The graph of a dvc.yaml, read without DVC or Airflow."""

import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture
def graph(root: Path):
    spec = importlib.util.spec_from_file_location("dag_graph", root / "dags/common/graph.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["dag_graph"] = module
    spec.loader.exec_module(module)
    return module


YAML = """\
stages:
  a: {cmd: a, outs: [out/a]}
  b: {cmd: b, deps: [out/a/part.csv], outs: [{out/b: {cache: false}}]}
  c: {cmd: c, deps: [out/b], metrics: [out/c.json]}
  d: {cmd: d, deps: [out/ab, out], plots: [plots]}
"""


def test_edges_follow_from_containment_and_not_from_spelling(graph, tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text(YAML)
    stages = graph.read_stages(tmp_path / "dvc.yaml")
    # b reads a part of what a leaves; c reads b's out, given with options; d reads the folder of all three.
    # out/ab is no part of out/a.
    assert graph.edges(stages) == {("a", "b"), ("b", "c"), ("a", "d"), ("b", "d"), ("c", "d")}


def test_the_digest_is_of_all_outs(graph, tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").write_text("stages: {a: {outs: [{path: x, md5: '1'}, {path: y, md5: '2'}]}}")
    assert graph.outs_digest(tmp_path / "dvc.lock", "a") == "1,2"
