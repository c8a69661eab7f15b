"""SIGKILL at a random moment, then the same again: what is left equals what an undisturbed run leaves."""

import os
import random
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.world import STEPS, World, prepared

_SETTLE_SECONDS = 60.0


@dataclass(frozen=True)
class Killed:
    """One round.

    Attributes:
        step: What was killed.
        whole_tree: Whether all its processes were, or only the one that had been started.
        after: Seconds until then.
        in_time: Whether it was still running.
        equal: Whether what was left after the rerun equals an undisturbed run's.
    """

    step: str
    whole_tree: bool
    after: float
    in_time: bool
    equal: bool

    def line(self) -> str:
        """Return the round as one line for a person."""
        who = "the whole tree" if self.whole_tree else "only the parent"
        moment = f"{self.after:5.2f} s{'' if self.in_time else ' (it had ended)'}"
        return f"{self.step:<12} {who:<16} after {moment:<24} {'equal' if self.equal else 'DIFFERENT'}"


@dataclass(frozen=True)
class Reference:
    """An undisturbed run: its digest, and how long it took."""

    digest: str
    seconds: float


def reference(world: World, step: str, scratch: Path) -> Reference:
    """Run a step on a copy of a world in which it can run."""
    copy = prepared(world, step).copy(scratch / f"calm-{step}")
    started = time.monotonic()
    copy.run(*STEPS[step])
    seconds = time.monotonic() - started
    digest = copy.digest(step)
    shutil.rmtree(copy.root)
    return Reference(digest, seconds)


def kill(process: "subprocess.Popen[bytes]", *, whole_tree: bool) -> bool:
    """Kill a process that leads its own group, or the group; say whether it was still running."""
    running = process.poll() is None
    if running:
        if whole_tree:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()
    return running


def kill_round(world: World, step: str, calm: Reference, chance: random.Random, scratch: Path) -> Killed:
    """Start a step under a shell, kill it at a random moment, run it again, and compare."""
    copy = world.copy(scratch / f"{step}-{chance.getrandbits(32):08x}")
    whole_tree, after = chance.random() < 0.5, chance.uniform(0.0, calm.seconds * 1.05)
    # A shell stands for whatever starts a step: Airflow's worker, dvc, cron.
    command = ["sh", "-c", '"$@"; exit $?', "step", *STEPS[step]]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=copy.root, env=copy.environment, start_new_session=True, **quiet)
    time.sleep(after)
    in_time = kill(process, whole_tree=whole_tree)
    copy.run(*STEPS[step])  # at once, while an orphan may still be ending
    equal = copy.digest(step) == calm.digest
    _await_group(process.pid)
    equal = equal and copy.digest(step) == calm.digest  # nor does the orphan spoil it afterwards
    if equal:
        shutil.rmtree(copy.root)
    return Killed(step, whole_tree, after, in_time, equal)


def _await_group(group: int) -> None:
    """Wait until no process of a group is left."""
    end = time.monotonic() + _SETTLE_SECONDS
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise TimeoutError(f"processes of group {group} outlive the one that started them by {_SETTLE_SECONDS:g} s")
