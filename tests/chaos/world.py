"""A small simulated shop in a project folder of its own, whose steps can be run, killed and run again."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from shoplens.files import folder_digest
from shoplens.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = str(Path(sys.executable).with_name("shoplens"))
_DIRT = [
    word for kind in ("duplicate", "late", "id_with_other_content", "bad_time") for word in ("--dirt", f"{kind}=0.01")
]
MAPPING = "events/mappings/simulated.yaml"
STEPS: dict[str, list[str]] = {
    "append": [PROGRAM, "ingest", "--mapping", MAPPING, "--lake", "lake", "sim"],
    "ingest": [PROGRAM, "stage", "ingest"],
    "features": [PROGRAM, "stage", "features"],
    "materialize": [PROGRAM, "materialize"],
    "compact": [
        sys.executable,
        "-c",
        # Again where an orphan compacts the same files.
        (
            "from events.lake.maintenance import compact; from events.lake.table import Lake, retried; "
            "retried('lake', lambda: compact(Lake('lake')))"
        ),
    ],
    "erase": [
        sys.executable,
        "-c",
        "from events.erase import erase_from_lake; erase_from_lake('lake', open('whom.txt').read())",
    ],
}
# Small batches on top of an ingest, so that there is something to merge, and the person to erase.
_LIVE_BATCHES = """
import polars as pl
from events.contract import QUARANTINE_SCHEMA
from events.lake import Snapshot, append_events
from tests.lake_content import read_events
snapshot = Snapshot("lake")
events = read_events("lake").filter(pl.col("user_id").is_not_null())
for n in range(6):
    batch = events[n::97].with_columns(event_id=pl.concat_str(pl.lit(f"live-{n}-"), "event_id"))
    append_events("lake", snapshot.identity, batch, pl.DataFrame(schema=QUARANTINE_SCHEMA), f"batch-{n}")
open("whom.txt", "w").write(events["user_id"][0])
"""
_BEFORE: dict[str, list[str]] = {"append": [], "ingest": ["fetch"], "features": ["fetch", "ingest", "validate"]}
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
        if step in ("append", "compact", "erase"):
            from tests.lake_content import lake_digest

            return lake_digest(self.root / "lake")
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
    if step in ("compact", "erase"):
        filled = World(world.root.with_name(f"{world.root.name}-with-lake"))  # apart: the collector starts with none
        if not filled.root.exists():
            world.copy(filled.root)
            filled.run(*STEPS["append"])
            filled.run(sys.executable, "-c", _LIVE_BATCHES)
        return filled
    for stage in _BEFORE[step]:
        if not (
            world.root / "outs" / {"fetch": "raw", "ingest": "events", "validate": "validated"}.get(stage, stage)
        ).exists():
            world.run(PROGRAM, "stage", stage)
    return world
