"""A small simulated shop in a project folder of its own, whose steps can be run, killed and run again."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from shoplens.digest import folder_digest
from shoplens.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = str(Path(sys.executable).with_name("shoplens"))
_DIRT = [
    word for kind in ("duplicate", "late", "id_with_other_content", "bad_time") for word in ("--dirt", f"{kind}=0.01")
]
MAPPING = "events/mappings/simulated.yaml"
STEPS: dict[str, list[str]] = {
    "append": [PROGRAM, "ingest", "--mapping", MAPPING, "--lake", "var/lake", "sim"],
    "ingest": [PROGRAM, "stage", "ingest"],
    "features": [PROGRAM, "stage", "features"],
    "materialize": [PROGRAM, "materialize"],
}
_BEFORE = {"append": [], "ingest": ["fetch"], "features": ["fetch", "ingest", "validate"]}
_BEFORE["materialize"] = [*_BEFORE["features"], "features"]


@dataclass(frozen=True)
class World:
    """A project folder."""

    root: Path

    @property
    def settings(self) -> Settings:
        return Settings(root=self.root)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "SHOPLENS_ROOT": str(self.root)}

    def run(self, *command: str) -> None:
        """Run a command to its end.

        Raises:
            RuntimeError: it fails; with what it said.
        """
        done = subprocess.run(command, cwd=self.root, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-4000:]}")

    def copy(self, target: Path) -> "World":
        """Return the same world in another place."""
        shutil.copytree(self.root, target, symlinks=True)
        return World(target)

    def digest(self, step: str) -> str:
        """Return the digest of what a step leaves."""
        if step == "append":
            from events.lake import lake_digest

            return lake_digest(self.root / "var/lake")
        if step == "materialize":
            from tests.store_digest import store_digest

            return store_digest(self.settings)
        return folder_digest(self.root / "outs" / {"ingest": "events"}.get(step, step))


def make_world(root: Path, users: int, days: int) -> World:
    """Simulate the shop into a new project folder."""
    root.mkdir(parents=True)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["data"] |= {"source": "sim", "mapping": MAPPING}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    (root / MAPPING).parent.mkdir(parents=True)
    shutil.copy(ROOT / MAPPING, root / MAPPING)
    world = World(root)
    size = ["--users", str(users), "--items", "120", "--days", str(days), "--seed", "11"]
    world.run(PROGRAM, "simulate", "--out", "sim", *size, *_DIRT)
    return world


def prepared(world: World, step: str) -> World:
    """Run what a step stands on."""
    for stage in _BEFORE[step]:
        if not (
            world.root / "outs" / {"fetch": "raw", "ingest": "events", "validate": "validated"}.get(stage, stage)
        ).exists():
            world.run(PROGRAM, "stage", stage)
    return world
