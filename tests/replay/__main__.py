"""`make replay`: the last day of the default data, and of a simulated shop of a million events, live and in batch."""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from shoplens.params import load_params
from tests.chaos.world import PROGRAM
from tests.replay.replay import replay
from tests.replay.shop import ROOT, Project

_SIMULATED = "events/mappings/simulated.yaml"
console = Console(width=120, soft_wrap=True)


def simulated(root: Path, events: int) -> Path:
    """Simulate a shop of about so many events, some of them late and repeated; return its validated tables."""
    project = Project.make(root).use_mapping(_SIMULATED, source="sim")
    people = str(max(200, events // 100))
    size = ["--users", people, "--items", "2000", "--days", "60", "--seed", "5", "--events", str(events)]
    dirt = ["--dirt", "late=0.02", "--dirt", "duplicate=0.01", "--dirt", "out_of_order=0.02"]
    commands = [
        ["simulate", "--out", "sim", *size, *dirt],
        *(["stage", one] for one in ("fetch", "ingest", "validate")),
    ]
    for words in commands:
        subprocess.run([PROGRAM, *words], cwd=root, env=project.environment, check=True, stdout=subprocess.DEVNULL)
    return project.settings.outs_dir / "validated"


def main() -> int:
    """Replay, print the counts, and end with 1 where a value differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000, help="of the simulated shop; 0: not that one")
    parser.add_argument("--only-simulated", action="store_true")
    chosen = parser.parse_args()
    different = 0
    with tempfile.TemporaryDirectory(prefix="shoplens-replay-") as folder:
        worlds = {}
        if not chosen.only_simulated:
            worlds["this project's data"] = (ROOT / "outs/validated", load_params(ROOT / "params.yaml").data.mapping)
        if chosen.events:
            made = simulated(Path(folder) / "simulated", chosen.events)
            worlds[f"a simulated shop of {chosen.events:,} events"] = (made, _SIMULATED)
        for number, (name, (validated, mapping)) in enumerate(worlds.items()):
            console.print(name)
            found = replay(
                Path(folder) / f"replay-{number}", validated, mapping, lambda line: console.print(f"  {line}")
            )
            console.print(f"  {found.users:,} users, {found.events:,} events streamed in {found.seconds:.1f} s")
            for line in found.comparison.lines():
                console.print(line)
            different += found.comparison.differences
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
