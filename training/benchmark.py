"""`shoplens benchmark`: a sequence model and the counts that it must beat, by the protocols of the literature."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from shoplens.errors import SettingsError
from shoplens.files import write_json
from training.data.readers import read_interactions, read_item_lists
from training.data.sequences import Sequences
from training.models.sequence.encoder import Size
from training.models.sequence.fit import Log, Outcome, Trainer, Training
from training.models.sequence.model import Output, SequenceModel
from training.models.sequence.presets import preset
from training.models.sequence.score import ModelScorer
from training.protocols.ranks import Scorer, rank_metrics, ranks, repeats, summary
from training.protocols.splits import Queries, Split, leave_one_out, split_sessions

Protocol = Literal["leave-one-out", "sessions"]
MAIN_METRIC = {"leave-one-out": "ndcg@10", "sessions": "mrr@20"}
FULL_SOFTMAX_ITEMS = 20_000  # above, negatives are sampled
_VALIDATED = 20_000  # queries per evaluation during training; a random sample of more


@dataclass(frozen=True)
class Settings:
    """What is trained and how it is evaluated. The defaults are the same for every file.

    Attributes:
        model: Name of the encoder.
        size: Its size.
        output: Scores and loss; None takes "full" for small catalogues and "sampled" for large ones.
        training: How it is trained.
        time_aware: Whether the time of the event to predict is an input.
        mask_seen: Whether the user's earlier items are left out of the ranking; None: yes for leave-one-out, no for
            sessions.
        seeds: A model is trained with each seed.
        precision: Keras dtype policy.
        resamples: Bootstrap resamples of the intervals.
        counts: Whether counts and neighbours are evaluated on the same queries.
    """

    model: str = "sasrec"
    size: Size = field(default_factory=lambda: preset("small"))
    output: Output | None = None
    training: Training = field(default_factory=Training)
    time_aware: bool = False
    mask_seen: bool | None = None
    seeds: tuple[int, ...] = (0,)
    precision: str = "float32"
    resamples: int = 500
    counts: bool = True


def training_of(epochs: int | None, max_seconds: float | None) -> Training:
    """Return the default training, with another number of epochs or a time limit."""
    default = Training(max_seconds=max_seconds)
    return default if epochs is None else replace(default, epochs=epochs)


def read_split(path: Path, protocol: Protocol, test: Path | None = None) -> Split:
    """Read a file and cut it.

    Args:
        path: `user item [time]` text for leave-one-out, JSON Lines of item lists for sessions; also .gz.
        protocol: How it is cut.
        test: The sessions to test on; without it, the last tenth of the file's. Sessions only.

    Raises:
        SettingsError: `test` is given for leave-one-out.
        SourceError: a file cannot be read or is too small.
    """
    if protocol == "leave-one-out":
        if test is not None:
            raise SettingsError("--test: leave-one-out tests on the last event of each user of FILE. Leave --test out")
        return leave_one_out(read_interactions(path))
    sequences = read_item_lists(path)
    if test is None:
        return split_sessions(sequences)
    late = read_item_lists(test, sequences.names)
    joined = Sequences(
        np.concatenate([sequences.offsets, late.offsets[1:] + sequences.offsets[-1]]),
        np.concatenate([sequences.item, late.item]),
        None,
        late.items,
        late.names,
    )
    return split_sessions(joined, sequences.users)


def _sample(queries: Queries, limit: int) -> Queries:
    if len(queries) <= limit:
        return queries
    return queries.take(np.sort(np.random.default_rng(0).choice(len(queries), limit, replace=False)))


def _report(rank: Any, queries: Queries, repeated: Any, settings: Settings, seed: int) -> dict[str, Any]:
    """Return the figures of all queries, and of repeated and new items apart."""
    content: dict[str, Any] = {"all": summary(rank, queries, settings.resamples, seed)}
    for name, chosen in (("repeat", repeated), ("explore", ~repeated)):
        part = np.flatnonzero(chosen)
        content[name] = {"queries": len(part)}
        if len(part):
            content[name] |= summary(rank[part], queries.take(part), settings.resamples, seed)
    return content


def train_once(
    split: Split,
    settings: Settings,
    seed: int,
    *,
    score: Callable[[SequenceModel], float],
    folder: Path | None = None,
    log: Log = lambda line: None,
) -> tuple[SequenceModel, Outcome]:
    """Train one model; `score` decides which weights are kept."""
    items = split.sequences.items
    output = settings.output or Output(loss="full" if items <= FULL_SOFTMAX_ITEMS else "sampled")
    model = SequenceModel(
        items,
        settings.model,
        settings.size,
        output,
        seed=seed,
        time_aware=settings.time_aware,
        precision=settings.precision,
    )
    training = replace(settings.training, seed=seed)
    trainer = Trainer(model, split.sequences, split.begin, split.end, training, evaluate=score, folder=folder, log=log)
    return model, trainer.run()


def run(
    split: Split,
    protocol: Protocol,
    settings: Settings,
    target: Path,
    *,
    folder: Path | None = None,
    log: Log = lambda line: None,
) -> dict[str, Any]:
    """Train and evaluate, and write the JSON after every model.

    Args:
        split: The file, cut by `protocol`.
        protocol: For the choice of the main metric and of masking.
        settings: See there.
        target: The JSON file.
        folder: Where checkpoints are kept; an interrupted benchmark continues from them.
        log: Receives lines of progress.

    Returns:
        What was written: the data, settings, and per model figures with intervals, seconds and parameter counts.
    """
    sequences, main = split.sequences, MAIN_METRIC[protocol]
    mask = settings.mask_seen if settings.mask_seen is not None else protocol == "leave-one-out"
    repeated = repeats(sequences, split.test)
    validation = _sample(split.validation, _VALIDATED)

    def evaluated(scorer: Scorer, queries: Queries) -> Any:
        return ranks(scorer, sequences, queries, mask_seen=mask)

    def main_metric(scorer: Scorer) -> float:
        return float(rank_metrics(evaluated(scorer, validation))[main].mean())

    content: dict[str, Any] = {
        "protocol": protocol,
        "main_metric": main,
        "mask_seen": mask,
        "time_aware": settings.time_aware,
        "data": {
            "users": sequences.users,
            "items": sequences.items,
            "events": len(sequences.item),
            "training_events": int((split.end - split.begin).sum()),
            "validation_queries": len(split.validation),
            "test_queries": len(split.test),
            "repeat_share": round(float(repeated.mean()), 6),
        },
        "training": settings.training.as_json(),
        "models": {},
    }
    if settings.counts:
        from training.models.sequence.references import reference_models

        for name, make in reference_models(split).items():
            began = time.monotonic()
            tried = {setting: main_metric(make(split, setting)) for setting in make.settings}  # type: ignore[attr-defined]
            chosen = max(tried, key=lambda setting: tried[setting])
            rank = evaluated(make(split, chosen), split.test)
            content["models"][name] = {
                "setting": chosen,
                "validation": round(tried[chosen], 6),
                "figures": _report(rank, split.test, repeated, settings, 0),
                "seconds": round(time.monotonic() - began, 1),
            }
            log(f"{name} ({chosen:g}): {main} {content['models'][name]['figures']['all'][main]}")
            write_json(target, content)
    for seed in settings.seeds:
        place = folder / f"{settings.model}-{seed}" if folder else None
        model, outcome = train_once(
            split, settings, seed, score=lambda one: main_metric(ModelScorer(one)), folder=place, log=log
        )
        began = time.monotonic()
        rank = evaluated(ModelScorer(model), split.test)
        name = settings.model if len(settings.seeds) == 1 else f"{settings.model}-{seed}"
        content["models"][name] = {
            **model.describe(),
            "seed": seed,
            "precision": settings.precision,
            "validation": round(outcome.best_score, 6),
            "outcome": outcome.as_json(),
            "figures": _report(rank, split.test, repeated, settings, seed),
            "evaluation_seconds": round(time.monotonic() - began, 1),
        }
        log(f"{name}: {main} {content['models'][name]['figures']['all'][main]}")
        write_json(target, content)
    return content
