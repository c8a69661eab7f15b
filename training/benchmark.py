"""`shoplens benchmark`: a sequence model and the counts that it must beat, by the protocols of the literature."""

import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from shoplens.errors import ModelError, SettingsError
from shoplens.files import write_json
from training.data.readers import read_interactions, read_item_lists
from training.data.sequences import Sequences
from training.data.windows import Longs
from training.models.sequence.encoder import Size
from training.models.sequence.fit import Log, Outcome, Trainer, Training
from training.models.sequence.model import Output, SequenceModel
from training.models.sequence.presets import preset
from training.models.sequence.references import Reference, reference_models
from training.models.sequence.score import ModelScorer
from training.models.sequence.workers import Workers
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
        references: Whether counts and neighbours are evaluated on the same queries.
        workers: The processes that train together, of which this is one; each evaluates the whole.
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
    references: bool = True
    workers: Workers | None = None


def training_of(epochs: int | None, max_seconds: float | None) -> Training:
    """Return the default training, with another number of epochs or a time limit."""
    default = Training(max_seconds=max_seconds)
    return default if epochs is None else replace(default, epochs=epochs)


_OPTIONS = ("seed", "epochs", "max_seconds")  # fields of a training that have options of their own


def changed(size: Size, training: Training, changes: Iterable[str]) -> tuple[Size, Training]:
    """Return the size and the training settings with some fields changed.

    Args:
        size: The size.
        training: The training.
        changes: `NAME=VALUE`, where NAME is a field of either that holds a number or a word.

    Raises:
        SettingsError: no such field, or a value of another type.
    """
    own = {name: one for name, one in training.as_json().items() if name not in _OPTIONS and one is not None}
    values = {**size.as_json(), **own}
    found: dict[str, Any] = {}
    for change in changes:
        name, _, text = change.partition("=")
        if name not in values:
            raise SettingsError(f"--set: NAME must be one of {', '.join(values)}; received {change!r}")
        kind = type(values[name])
        try:
            found[name] = kind(text)
        except ValueError as error:
            raise SettingsError(f"--set: {name} must be of type {kind.__name__}; received {text!r}") from error
    of_size = {name: value for name, value in found.items() if name in size.as_json()}
    return replace(size, **of_size), replace(training, **{k: v for k, v in found.items() if k not in of_size})


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


def sample(queries: Queries, limit: int) -> Queries:
    """Return the queries, or so many of them, drawn at random, if there are more."""
    if len(queries) <= limit:
        return queries
    return queries.take(np.sort(np.random.default_rng(0).choice(len(queries), limit, replace=False)))


@dataclass(frozen=True)
class _Evaluation:
    """How every model of one benchmark is scored: on the same queries, by the same metrics."""

    split: Split
    main: str
    mask_seen: bool
    resamples: int
    repeated: NDArray[np.bool_]
    validation: Queries

    @classmethod
    def of(cls, split: Split, protocol: Protocol, settings: Settings) -> "_Evaluation":
        mask = settings.mask_seen if settings.mask_seen is not None else protocol == "leave-one-out"
        repeated = repeats(split.sequences, split.test)
        validation = sample(split.validation, _VALIDATED)
        return cls(split, MAIN_METRIC[protocol], mask, settings.resamples, repeated, validation)

    def _ranks(self, scorer: Scorer, queries: Queries) -> Longs:
        return ranks(scorer, self.split.sequences, queries, mask_seen=self.mask_seen)

    def validated(self, scorer: Scorer) -> float:
        """Return the main metric on the validation queries."""
        return float(rank_metrics(self._ranks(scorer, self.validation))[self.main].mean())

    def tested(self, scorer: Scorer, seed: int) -> dict[str, Any]:
        """Return the figures on all test queries, and on repeated and new items apart."""
        queries = self.split.test
        rank = self._ranks(scorer, queries)
        content: dict[str, Any] = {"all": summary(rank, queries, self.resamples, seed)}
        for name, chosen in (("repeat", self.repeated), ("explore", ~self.repeated)):
            part = np.flatnonzero(chosen)
            content[name] = {"queries": len(part)}
            if len(part):
                content[name] |= summary(rank[part], queries.take(part), self.resamples, seed)
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
    with settings.workers.scope() if settings.workers else nullcontext():
        model = SequenceModel(
            items,
            settings.model,
            settings.size,
            output,
            seed=seed,
            time_aware=settings.time_aware,
            precision=settings.precision,
        )
    trainer = Trainer(
        model,
        split.sequences,
        split.begin,
        split.end,
        replace(settings.training, seed=seed),
        evaluate=score,
        folder=folder,
        log=log,
        workers=settings.workers,
    )
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

    Raises:
        SettingsError: the model is time-aware and the file has no times.

    Returns:
        What was written: the data, settings, and per model figures with intervals, seconds and parameter counts.
    """
    if settings.time_aware and split.sequences.time is None:
        raise SettingsError("--time-aware: FILE must have times, `user item unix_seconds` per line; it has none")
    evaluation = _Evaluation.of(split, protocol, settings)
    content = _header(split, protocol, settings, evaluation)

    def add(name: str, figures: dict[str, Any]) -> None:
        content["models"][name] = figures
        write_json(target, content)
        found = figures["figures"]["all"][evaluation.main]
        log(f"{name}: {evaluation.main} {found['value']:.4f} [{found['low']:.4f}, {found['high']:.4f}]")

    for name, make in (reference_models(split) if settings.references else {}).items():
        add(name, _reference(make, split, evaluation))
    for seed in settings.seeds:
        name = settings.model if len(settings.seeds) == 1 else f"{settings.model}-{seed}"
        place = folder / f"{settings.model}-{seed}" if folder else None
        add(name, _trained(split, settings, seed, evaluation, place, log))
    return content


def _header(split: Split, protocol: Protocol, settings: Settings, evaluation: _Evaluation) -> dict[str, Any]:
    sequences = split.sequences
    return {
        "protocol": protocol,
        "main_metric": evaluation.main,
        "mask_seen": evaluation.mask_seen,
        "time_aware": settings.time_aware,
        "data": {
            "users": sequences.users,
            "items": sequences.items,
            "events": len(sequences.item),
            "training_events": int((split.end - split.begin).sum()),
            "validation_queries": len(split.validation),
            "test_queries": len(split.test),
            "repeat_share": round(float(evaluation.repeated.mean()), 6),
        },
        "training": settings.training.as_json(),
        "models": {},
    }


def _reference(make: type[Reference], split: Split, evaluation: _Evaluation) -> dict[str, Any]:
    """Choose the setting of a count or neighbour model on the validation queries, and test it."""
    began, best, kept = time.monotonic(), float("-inf"), None
    for setting in make.settings:
        scorer = make(split, setting)
        score = evaluation.validated(scorer)
        if score > best:
            best, kept = score, (setting, scorer)
    if kept is None:
        raise ModelError(f"{make.name}: must score a validation query; every score is not a number. Report this")
    return {
        "setting": kept[0],
        "validation": round(best, 6),
        "figures": evaluation.tested(kept[1], 0),
        "seconds": round(time.monotonic() - began, 1),
    }


def _trained(
    split: Split, settings: Settings, seed: int, evaluation: _Evaluation, folder: Path | None, log: Log
) -> dict[str, Any]:
    """Train the sequence model with one seed, and test it."""

    def score(model: SequenceModel) -> float:
        return evaluation.validated(ModelScorer(model))

    model, outcome = train_once(split, settings, seed, score=score, folder=folder, log=log)
    began = time.monotonic()
    figures = evaluation.tested(ModelScorer(model), seed)
    return {
        **model.describe(),
        "seed": seed,
        "precision": settings.precision,
        "validation": round(outcome.best_score, 6),
        "outcome": outcome.as_json(),
        "figures": figures,
        "evaluation_seconds": round(time.monotonic() - began, 1),
    }
