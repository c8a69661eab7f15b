"""`make chaos`: a hundred kills, spread over every step that keeps something."""

import argparse
import random
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import track

from tests.chaos.collector import collector_round, requests_of, undisturbed
from tests.chaos.kills import Killed, kill_round, reference
from tests.chaos.world import STEPS, World, make_world, prepared

_DAYS_STREAMED = 3
console = Console(width=110)


def rounds(scratch: Path, users: int = 250, days: int = 40) -> dict[str, Callable[[random.Random], Killed]]:
    """Return, for every step, what kills it once at a moment drawn from chance, in a shop of a size."""
    world = make_world(scratch / "world", users, days)
    found: dict[str, Callable[[random.Random], Killed]] = {}
    for step in STEPS:
        calm = reference(world, step, scratch)
        console.print(f"{step}: {calm.seconds:.1f} s undisturbed, digest {calm.digest[:16]}")
        base = prepared(world, step).copy(scratch / f"base-{step}")
        found[step] = partial(_kill, base, step, calm, scratch)
    loaded = world.copy(scratch / "base-collector")
    for step in ("features", "materialize"):
        prepared(loaded, step).run(*STEPS[step])
    bodies = requests_of(loaded, _DAYS_STREAMED)
    calm = undisturbed(loaded, bodies, scratch)
    console.print(f"collector: {len(bodies)} requests in {calm.seconds:.1f} s undisturbed, digests {calm.digest[:16]}…")
    found["collector"] = lambda chance: collector_round(loaded, bodies, calm, chance, scratch)
    return found


def _kill(base: World, step: str, calm: object, scratch: Path, chance: random.Random) -> Killed:
    return kill_round(base, step, calm, chance, scratch)  # type: ignore[arg-type]


def main() -> int:
    """Kill, print every round, and end with 1 when one left something else."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    chance = random.Random(chosen.seed)  # noqa: S311 - moments, not secrets
    with tempfile.TemporaryDirectory(prefix="shoplens-chaos-") as folder:
        steps = rounds(Path(folder))
        done = []
        for number in track(range(chosen.kills), "killing", console=console):
            step = list(steps)[number % len(steps)]
            done.append(steps[step](chance))
            console.print(done[-1].line())
    different = [one for one in done if not one.equal]
    in_time = sum(one.in_time for one in done)
    trees = sum(one.whole_tree for one in done)
    console.print(
        f"{len(done)} kills, {in_time} of them of a running process; {trees} of whole trees, {len(done) - trees} of "
        f"parents only: {len(done) - len(different)} equal, {len(different)} different"
    )
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
