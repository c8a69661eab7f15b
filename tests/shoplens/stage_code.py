"""Which modules each stage of dvc.yaml runs, from the imports of its function."""

import ast
from importlib.util import find_spec
from pathlib import Path

import grimp

from shoplens.stage import STAGES

PACKAGES = ("shoplens", "events", "simulator", "expectations", "features", "training", "serving", "insights")


def _imports_of_function(source: Path, function: str) -> set[str]:
    """Return the modules that a stage's function imports itself, and those that its module imports for all."""
    body = ast.parse(source.read_text(encoding="utf-8")).body
    nodes = [node for node in body if isinstance(node, ast.ImportFrom)]
    (its,) = [node for node in body if isinstance(node, ast.FunctionDef) and node.name == function]
    nodes += [node for node in ast.walk(its) if isinstance(node, ast.ImportFrom)]
    return {node.module for node in nodes if node.module and node.module.split(".")[0] in PACKAGES}


def modules_of_stages() -> dict[str, set[str]]:
    """Return stage -> every module of ours that runs in it, without what is imported for types alone."""
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True, cache_dir=None)
    found = {}
    for stage, target in STAGES.items():
        module, _, function = target.partition(":")
        names = _imports_of_function(path_of(module), function) & graph.modules
        names |= {module} | graph.find_modules_directly_imported_by(module)
        closure = set(names)
        for name in names - {module}:
            closure |= graph.find_upstream_modules(name)
        found[stage] = closure
    return found


def path_of(module: str) -> Path:
    """Return the file of a module."""
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin)
