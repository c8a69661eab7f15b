"""The graph of `dvc.yaml`, parsed as YAML without importing DVC: stages, and edges derived from their paths."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml


@dataclass(frozen=True)
class Stage:
    """A stage: its command, inputs and outputs."""

    name: str
    command: str
    text: str
    reads: tuple[str, ...]
    leaves: tuple[str, ...]


def _paths(entries: list[Any]) -> tuple[str, ...]:
    """Return the paths of deps, outs, metrics or plots; an entry with options is a mapping from its path."""
    return tuple(entry if isinstance(entry, str) else next(iter(entry)) for entry in entries)


def read_stages(path: Path) -> dict[str, Stage]:
    """Return the stages of a `dvc.yaml`, in file order."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    stages = {}
    for name, spec in content["stages"].items():
        leaves = [*spec.get("outs", []), *spec.get("metrics", []), *spec.get("plots", [])]
        stages[name] = Stage(name, spec["cmd"], spec.get("desc", ""), _paths(spec.get("deps", [])), _paths(leaves))
    return stages


def _contains(one: str, other: str) -> bool:
    a, b = PurePosixPath(one), PurePosixPath(other)
    return a == b or a in b.parents or b in a.parents


def edges(stages: dict[str, Stage]) -> set[tuple[str, str]]:
    """Return (upstream, downstream) for each stage that reads another's output, or a part or parent folder of it."""
    return {
        (up.name, down.name)
        for up in stages.values()
        for down in stages.values()
        if up.name != down.name and any(_contains(left, read) for left in up.leaves for read in down.reads)
    }


def outs_digest(lock: Path, stage: str) -> str:
    """Return the digests of a stage's outputs in `dvc.lock` as one string."""
    outs = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"][stage]["outs"]
    return ",".join(str(out["md5"]) for out in outs)
