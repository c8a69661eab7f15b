"""Measure next-item models: `python -m bench.models FILE [--parts quality speed parity memory]`.

FILE is a public log, `user item [time]` per line. `quality` ranks the whole catalogue, leave-one-out. `speed` trains
a SASRec of width 64 beside a plain PyTorch program (`bench/torch_sasrec.py`), `parity` beside RecTools' SASRec
(`bench/rectools_sasrec.py`), both in environments of their own. `memory` trains on simulated logs of one to a hundred
million events and one million items. `scaling` trains networks of several sizes on shares of FILE's users and draws
what that brings. `transfer` takes no FILE but `--shops OUTS OUTS`, the outputs of two shops, and
measures what the content of the first teaches about the second.
"""

import argparse
import itertools
import json
import os
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench.harness import ROOT, apart, console, markdown

_TORCH = ("uv", "run", "--no-project", "--with", "torch==2.13.0", "--with", "numpy", "python")
_RECTOOLS = (
    "uv", "run", "--no-project", "--python", "3.11", "--with", "rectools[torch]==0.19.0", "--with", "torch==2.13.0",
    "python",
)  # fmt: skip
_PARITY_USERS, _PARITY_LENGTH, _PARITY_ROWS = 1000, 50, 32
_PARTS = ("quality", "speed", "parity", "memory")
_ITEMS = 1_000_000
_EVENTS_PER_USER = 100


def _anonymous_gb(process: psutil.Process) -> float:
    """Return the anonymous memory of a process: without pages of memory-mapped files, which can be dropped."""
    with suppress(psutil.NoSuchProcess):  # it has ended
        used = process.memory_info()
        return float(used.rss - used.shared) / 1e9
    return 0.0


class AnonymousPeak(threading.Thread):
    """The largest anonymous memory of this process and its children together, read ten times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.gb = _anonymous_gb(psutil.Process())  # raises here, not in the thread, where the system has no such figure
        self.start()

    def run(self) -> None:
        """Read the kernel's figures."""
        own = psutil.Process()
        while True:
            self.gb = max(self.gb, sum(_anonymous_gb(one) for one in (own, *own.children(recursive=True))))
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


def _elsewhere(command: tuple[str, ...], script: str, *given: object) -> Speed:
    """Run a program of another environment; its last line is its speed."""
    path = str(ROOT / "bench" / script)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [*command, path, *map(str, given)], capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        raise SystemExit(f"{path}: failed; needs {' '.join(command)}\n{done.stderr[-2000:]}")
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
            torch.append(_elsewhere(_TORCH, "torch_sasrec.py", folder, 6))
    rows = []
    for name, runs in (("shoplens, sasrec small", ours), ("plain PyTorch 2.13.0", torch)):
        best = max((one for one in runs if one), key=lambda one: one.positions / one.seconds)
        total = [sum(getattr(one, field) for one in runs if one) for field in ("positions", "cpu_seconds")]
        rows.append([name, f"{best.positions / best.seconds:,.0f}", f"{total[0] / total[1]:,.0f}"])
    columns = ["program", f"positions/s, best of {rounds}", "positions per CPU second, all runs"]
    return markdown(columns, rows)


def _small(file: Path, folder: Path) -> None:
    """Write the latest events of the first users of a file: what a model of this length learns from, and two more."""
    from training.data.readers import read_interactions
    from training.data.sequences import Sequences

    log = read_interactions(file)
    begin, end = log.offsets[:_PARITY_USERS], log.offsets[1 : _PARITY_USERS + 1]
    begin = np.maximum(begin, end - (_PARITY_LENGTH + 1) - 2)
    kept, item = np.unique(
        np.concatenate([log.item[b:e] for b, e in zip(begin, end, strict=True)]), return_inverse=True
    )
    offsets = np.concatenate([[0], np.cumsum(end - begin)])
    Sequences(offsets, item.astype(np.int32) + 1, None, len(kept)).save(folder)


def _train_small(folder: str, epochs: int, target: str) -> Speed:
    """Train with RecTools' optimizer (Adam, nothing else) for as many epochs, and write the ranks of the test items."""
    _fast_kernels()
    from training.data.sequences import Sequences
    from training.models.sequence.encoder import Size
    from training.models.sequence.fit import Trainer, Training
    from training.models.sequence.model import SequenceModel
    from training.models.sequence.score import ModelScorer
    from training.protocols.ranks import ranks
    from training.protocols.splits import leave_one_out

    split = leave_one_out(Sequences.open(Path(folder)))
    model = SequenceModel(split.sequences.items, "sasrec", Size(length=_PARITY_LENGTH))
    adam = Training(
        epochs=epochs, evaluate_every=epochs, rows=_PARITY_ROWS, warmup_steps=0, schedule="constant", weight_decay=0.0,
        clip=1e6, average=0.0,
    )  # fmt: skip
    cpu = time.process_time()
    outcome = Trainer(model, split.sequences, split.begin, split.end, adam).run()
    used = time.process_time() - cpu
    np.save(target, ranks(ModelScorer(model), split.sequences, split.test, mask_seen=True))
    return Speed(outcome.positions, outcome.seconds, used)


def parity(file: Path, epochs: int) -> str:
    """Return the table of our SASRec and RecTools', trained alike on a small part of the file, and their difference."""
    from training.protocols.ranks import bootstrap_means, rank_metrics

    with tempfile.TemporaryDirectory() as work:
        folder, ours, theirs = Path(work) / "log", Path(work) / "ours.npy", Path(work) / "theirs.npy"
        _small(file, folder)
        first = apart(_train_small, str(folder), epochs, str(ours))
        second = _elsewhere(_RECTOOLS, "rectools_sasrec.py", folder, _PARITY_LENGTH, epochs, _PARITY_ROWS, theirs)
        gains = [rank_metrics(np.load(one))["ndcg@10"] for one in (ours, theirs)]
    users, rows = np.arange(len(gains[0])), []
    for name, run, gain in (
        ("shoplens", first, gains[0]),
        ("RecTools 0.19", second, gains[1]),
        ("difference", None, gains[0] - gains[1]),
    ):
        means = bootstrap_means(gain, users, 1000, 0)
        low, high = np.percentile(means[1:], [2.5, 97.5])
        speed = [f"{run.positions / run.seconds:,.0f}", f"{run.positions / run.cpu_seconds:,.0f}"] if run else ["", ""]
        rows.append([name, f"{means[0]:.4f} [{low:.4f}, {high:.4f}]", *speed])
    return markdown(["program", "NDCG@10", "positions/s", "positions per CPU second"], rows)


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
    """What training on a simulated log took; `training_gb` is the peak before the checkpoint and the evaluation."""

    seconds: float
    cpu_seconds: float
    training_gb: float
    peak_gb: float
    vectors_gb: float


def _train_large(folder: str, steps: int, rows: int) -> Memory:
    """Train with sampled negatives, write a checkpoint, and rank the catalogue for a thousand users."""
    peak = AnonymousPeak()
    _fast_kernels()
    from training.benchmark import sample
    from training.data.sequences import Sequences
    from training.models.sequence.checkpoint import save_checkpoint
    from training.models.sequence.fit import Trainer, Training, averaged
    from training.models.sequence.model import Output, SequenceModel
    from training.models.sequence.presets import preset
    from training.models.sequence.score import ModelScorer
    from training.protocols.ranks import ranks
    from training.protocols.splits import leave_one_out

    split = leave_one_out(Sequences.open(Path(folder)))
    model = SequenceModel(split.sequences.items, "sasrec", preset("small"), Output("sampled"))
    trainer = Trainer(model, split.sequences, split.begin, split.end, Training(rows=rows))
    trainer.compile()
    began, cpu = time.perf_counter(), time.process_time()
    for inputs, target in itertools.islice(trainer.batches(0, []), steps):
        model.train_on_batch(inputs, target)
    seconds, cpu_seconds, training_gb = time.perf_counter() - began, time.process_time() - cpu, peak.gb
    save_checkpoint(model, Path(folder) / "checkpoint.npz", {}, [])
    with averaged(model):
        ranks(ModelScorer(model), split.sequences, sample(split.test, 1000), mask_seen=True)
    vectors_gb = 4 * np.prod(model.vectors.table.shape) * 4 / 1e9  # float32: weights, two moments, averages
    return Memory(seconds, cpu_seconds, training_gb, peak.gb, vectors_gb)


def memory(events: list[int], steps: int, rows: int) -> str:
    """Return the table of one run per number of events."""
    table = []
    for number in events:
        with tempfile.TemporaryDirectory() as work:
            folder = Path(work) / "log"
            _simulate(folder, number)
            found = apart(_train_large, str(folder), steps, rows)
        if found is None:
            raise SystemExit(f"{number} events: the training was killed")
        figures = (found.training_gb, found.peak_gb, found.vectors_gb, found.peak_gb - found.vectors_gb)
        table.append(
            [f"{number:,}", f"{steps} x {rows}", f"{found.seconds:.0f}", f"{found.cpu_seconds:.0f}"]
            + [f"{one:.2f}" for one in figures]
        )
        console.print(table[-1])
    columns = ["events", "steps x rows", "seconds", "CPU seconds", "training (GB)", "peak (GB)"]
    return markdown([*columns, "item vectors (GB)", "peak without them (GB)"], table)


def _benchmark(file: str, model: str, preset: str, time_aware: bool, target: str) -> dict[str, Any]:
    _fast_kernels()
    from training import benchmark
    from training.models.sequence.presets import preset as size_of

    settings = benchmark.Settings(model, size_of(preset), time_aware=time_aware)
    split = benchmark.read_split(Path(file), "leave-one-out")
    return benchmark.run(split, "leave-one-out", settings, Path(target), log=console.print)


def _scaling(file: str, model: str, presets: list[str], shares: list[float], epochs: int) -> str:
    _fast_kernels()
    from bench.scaling import scaling

    folder = ROOT / "var/bench/scaling"
    return scaling(Path(file), model, presets, shares, epochs, folder, folder / f"{model}.png")


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
    parser.add_argument("file", type=Path, nargs="?", help="`user item [time]` per line, also .gz")
    parser.add_argument("--parts", nargs="+", choices=(*_PARTS, "scaling", "transfer"), default=list(_PARTS))
    parser.add_argument("--presets", nargs="+", default=["tiny", "small"], help="of `scaling`")
    parser.add_argument("--shares", nargs="+", type=float, default=[0.1, 0.3, 1.0], help="of the users, for `scaling`")
    parser.add_argument("--passes", type=int, default=10, help="over all users, of `scaling`")
    parser.add_argument("--shops", nargs=2, type=Path, help="of `transfer`: outs/, var/compare/NAME/outs")
    parser.add_argument("--shop-rows", type=int, default=1_000, help="test rows of `transfer`, at most")
    parser.add_argument("--shop-seeds", type=int, default=3, help="samples of users per share of `transfer`")
    parser.add_argument("--model", default="sasrec")
    parser.add_argument("--preset", default="small")
    parser.add_argument("--time-aware", action="store_true")
    parser.add_argument("--rounds", type=int, default=3, help="alternating runs of `speed`")
    parser.add_argument("--epochs", type=int, default=30, help="epochs of `parity`")
    parser.add_argument("--events", type=int, nargs="+", default=[1_000_000, 10_000_000, 100_000_000])
    parser.add_argument("--steps", type=int, default=500, help="steps of `memory`")
    parser.add_argument("--rows", type=int, default=32, help="packed rows per step of `memory`")
    given = parser.parse_args()
    if given.file is None and set(given.parts) != {"transfer"}:
        parser.error(f"FILE: must be given for the parts {', '.join(_PARTS)}, scaling")
    if not all(0 < share <= 1 for share in given.shares):
        parser.error("--shares: must be above 0 and at most 1")
    if "transfer" in given.parts:
        if given.shops is None:
            parser.error("--shops: must name the outputs of two shops for the part transfer")
        from bench.transfer import transfer

        console.print(transfer(*given.shops, given.shop_rows, given.shop_seeds))
    if "speed" in given.parts:
        console.print(speed(given.file, given.rounds))
    if "parity" in given.parts:
        console.print(parity(given.file, given.epochs))
    if "scaling" in given.parts:
        console.print(apart(_scaling, str(given.file), given.model, given.presets, given.shares, given.passes))
        console.print(f"plot: {ROOT / 'var/bench/scaling' / given.model}.png")
    if "memory" in given.parts:
        console.print(memory(given.events, given.steps, given.rows))
    if "quality" in given.parts:
        console.print(quality(given.file, given.model, given.preset, given.time_aware))


if __name__ == "__main__":
    main()
