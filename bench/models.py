"""Measure sequence models: `python -m bench.models FILE [--parts quality speed memory]`.

FILE is a public log, `user item [time]` per line. `quality` ranks the whole catalogue, leave-one-out. `speed` trains
a SASRec of width 64 beside a plain PyTorch program (`bench/torch_sasrec.py`, in an environment of its own). `memory`
trains on simulated logs of one to a hundred million events and one million items.
"""

import argparse
import itertools
import json
import os
import re
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness import ROOT, apart, console, markdown

_TORCH = ("uv", "run", "--no-project", "--with", "torch==2.13.0", "--with", "numpy", "python")
_ITEMS = 1_000_000
_EVENTS_PER_USER = 100


class AnonymousPeak(threading.Thread):
    """The largest anonymous memory of this process: without pages of memory-mapped files, which can be dropped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.gb = 0.0
        self.start()

    def run(self) -> None:
        """Read the kernel's figure ten times a second."""
        while True:
            found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
            if found is None:
                raise SystemExit("/proc/self/status: must have RssAnon; it has none: measure on Linux")
            self.gb = max(self.gb, int(found[1]) * 1024 / 1e9)
            time.sleep(0.1)


def _fast_kernels() -> None:
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"  # as `shoplens benchmark`


@dataclass(frozen=True)
class Speed:
    """Unpadded targets learned from, and what they took."""

    positions: int
    seconds: float
    cpu_seconds: float


def _train(folder: str, steps: int) -> Speed:
    """Train a small SASRec with the full softmax for some steps after three of warm-up."""
    _fast_kernels()
    from training.data.sequences import Sequences
    from training.models.sequence.fit import Trainer, Training
    from training.models.sequence.model import SequenceModel
    from training.models.sequence.presets import preset
    from training.protocols.splits import leave_one_out

    split = leave_one_out(Sequences.open(Path(folder)))
    model = SequenceModel(split.sequences.items, "sasrec", preset("small"))
    trainer = Trainer(model, split.sequences, split.begin, split.end, Training())
    trainer.compile()
    counted: list[int] = []
    batches = trainer.batches(0, counted)
    for inputs, target in itertools.islice(batches, 3):
        model.train_on_batch(inputs, target)
    counted.clear()
    began, cpu = time.perf_counter(), time.process_time()
    for inputs, target in itertools.islice(batches, steps):
        model.train_on_batch(inputs, target)
    return Speed(sum(counted), time.perf_counter() - began, time.process_time() - cpu)


def _train_torch(folder: str, steps: int) -> Speed:
    script = str(ROOT / "bench" / "torch_sasrec.py")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [*_TORCH, script, folder, str(steps)], capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        raise SystemExit(f"{script}: failed; needs uv and torch==2.13.0\n{done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return Speed(found["positions"], found["seconds"], found["cpu_seconds"])


def speed(file: Path, rounds: int) -> str:
    """Return the table of both programs; they alternate, so that other work on the machine slows both alike."""
    from training.data.readers import read_interactions

    with tempfile.TemporaryDirectory() as work:
        folder = str(Path(work) / "sequences")
        read_interactions(file).save(Path(folder))
        ours, torch = [], []
        for _ in range(rounds):
            ours.append(apart(_train, folder, 40))
            torch.append(_train_torch(folder, 6))
    rows = []
    for name, runs in (("shoplens, sasrec small", ours), ("plain PyTorch 2.13.0", torch)):
        best = max((one for one in runs if one), key=lambda one: one.positions / one.seconds)
        total = [sum(getattr(one, field) for one in runs if one) for field in ("positions", "cpu_seconds")]
        rows.append([name, f"{best.positions / best.seconds:,.0f}", f"{total[0] / total[1]:,.0f}"])
    columns = ["program", f"positions/s, best of {rounds}", "positions per CPU second, all runs"]
    return markdown(columns, rows)


def _simulate(folder: Path, events: int) -> None:
    """Write a log of a hundred events per user with Zipf-like items, without holding it in memory."""
    from shoplens.files import write_json

    folder.mkdir()
    random = np.random.default_rng(0)
    users = events // _EVENTS_PER_USER
    np.save(folder / "offsets.npy", np.arange(users + 1, dtype=np.int64) * _EVENTS_PER_USER)
    item = np.lib.format.open_memmap(folder / "item.npy", "w+", np.int32, (users * _EVENTS_PER_USER,))
    for begin in range(0, len(item), 1 << 20):
        part = item[begin : begin + (1 << 20)]
        part[:] = np.minimum(_ITEMS ** random.random(len(part)), _ITEMS)  # density 1 / item
    item.flush()
    write_json(folder / "sequences.json", {"items": _ITEMS})


@dataclass(frozen=True)
class Memory:
    """What a training run on a simulated log took."""

    steps: int
    seconds: float
    anonymous_gb: float
    parameters: int


def _train_large(folder: str, steps: int) -> Memory:
    """Train with sampled negatives, write a checkpoint, and recommend to a thousand users."""
    peak = AnonymousPeak()
    _fast_kernels()
    from training.data.sequences import Sequences
    from training.models.sequence.checkpoint import save_checkpoint
    from training.models.sequence.fit import Trainer, Training
    from training.models.sequence.model import Output, SequenceModel
    from training.models.sequence.presets import preset
    from training.models.sequence.score import ModelScorer

    sequences = Sequences.open(Path(folder))
    model = SequenceModel(sequences.items, "sasrec", preset("small"), Output("sampled"))
    offsets = np.asarray(sequences.offsets)
    trainer = Trainer(model, sequences, offsets[:-1], offsets[1:], Training())
    trainer.compile()
    began = time.perf_counter()
    for inputs, target in itertools.islice(trainer.batches(0, []), steps):
        model.train_on_batch(inputs, target)
    seconds = time.perf_counter() - began
    save_checkpoint(model, Path(folder) / "checkpoint.npz", {}, [])
    few = Sequences(offsets[:1001], np.asarray(sequences.item[: offsets[1000]]), None, sequences.items)
    ModelScorer(model).recommend(few, 10, mask_seen=True)
    return Memory(steps, seconds, peak.gb, model.describe()["parameters"])


def memory(events: list[int], steps: int) -> str:
    """Return the table of one run per number of events."""
    rows = []
    for number in events:
        with tempfile.TemporaryDirectory() as work:
            folder = Path(work) / "log"
            _simulate(folder, number)
            found = apart(_train_large, str(folder), steps)
        if found is None:
            raise SystemExit(f"{number} events: the training was killed")
        rows.append(
            [f"{number:,}", f"{found.parameters:,}", str(steps), f"{found.seconds:.0f}", f"{found.anonymous_gb:.2f}"]
        )
    return markdown(["events", "parameters", "steps", "seconds", "peak anonymous memory (GB)"], rows)


def _benchmark(file: str, model: str, preset: str, time_aware: bool, target: str) -> dict[str, Any]:
    _fast_kernels()
    from training import benchmark
    from training.models.sequence.presets import preset as size_of

    settings = benchmark.Settings(model, size_of(preset), time_aware=time_aware)
    split = benchmark.read_split(Path(file), "leave-one-out")
    return benchmark.run(split, "leave-one-out", settings, Path(target), log=console.print)


def quality(file: Path, model: str, preset: str, time_aware: bool) -> str:
    """Return the table of a sequence model and the references on one file."""
    with tempfile.TemporaryDirectory() as work:
        found = apart(_benchmark, str(file), model, preset, time_aware, str(Path(work) / "out.json"))
    if found is None:
        raise SystemExit(f"{file}: the training was killed")
    rows = []
    for name, one in found["models"].items():
        figures = one["figures"]["all"]
        cells = [
            f"{figures[m]['value']:.4f} [{figures[m]['low']:.4f}, {figures[m]['high']:.4f}]"
            for m in ("ndcg@10", "hr@10")
        ]
        seconds = one["outcome"]["seconds"] if "outcome" in one else one["seconds"]
        rows.append([name, *cells, f"{one.get('parameters', 0):,}", f"{seconds:.0f}"])
    return markdown(["model", "NDCG@10", "HR@10", "parameters", "seconds"], rows)


def main() -> None:
    """Run the parts and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="`user item [time]` per line, also .gz")
    parser.add_argument(
        "--parts", nargs="+", choices=("quality", "speed", "memory"), default=["quality", "speed", "memory"]
    )
    parser.add_argument("--model", default="sasrec")
    parser.add_argument("--preset", default="small")
    parser.add_argument("--time-aware", action="store_true")
    parser.add_argument("--rounds", type=int, default=3, help="alternating runs of `speed`")
    parser.add_argument("--events", type=int, nargs="+", default=[1_000_000, 10_000_000, 100_000_000])
    parser.add_argument("--steps", type=int, default=500, help="steps of `memory`")
    given = parser.parse_args()
    if "speed" in given.parts:
        console.print(speed(given.file, given.rounds))
    if "memory" in given.parts:
        console.print(memory(given.events, given.steps))
    if "quality" in given.parts:
        console.print(quality(given.file, given.model, given.preset, given.time_aware))


if __name__ == "__main__":
    main()
