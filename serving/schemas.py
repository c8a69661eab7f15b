"""Requests and responses of the service."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from events.contract import PERSON_ID, PERSON_ID_LENGTH

VERSION_HEADER = "x-model-version"  # in every response, including /readyz

UserId = Annotated[
    str,
    Field(
        strict=True,
        min_length=1,
        max_length=PERSON_ID_LENGTH,
        pattern=f"^{PERSON_ID}$",
        description="The user, by user_id in the event log.",
        json_schema_extra={"example": "900"},  # BentoML's schema knows `example`, not `examples`
    ),
]
ItemId = Annotated[
    Annotated[str, Field(strict=True, min_length=1, max_length=256)] | None,
    Field(description="The item_id whose rank is explained; null to explain the probability of a purchase."),
]
Count = Annotated[
    int, Field(strict=True, ge=1, le=100, description="Number of items.", json_schema_extra={"example": 5})
]
Fallback = Literal["unknown_user", "store_unavailable", "no_model", "explainer_busy"]


class _Answer(BaseModel):
    model_config = ConfigDict(protected_namespaces=())

    model_version: str = Field(description="Version of the package: a digest of its content.")
    as_of: str = Field(description="Time (UTC) for which the answer is valid; the store has no later events.")
    fallback: Fallback | None = Field(
        description="Why the answer is not personal: the user is unknown, the online store is unavailable, the "
        "log gave no model of this task or, for explanations, the explanation worker is starting or occupied."
    )


_EXAMPLE: dict[str, Any] = {
    "user_id": "900",
    "probability": 0.93,
    "will_purchase": True,
    "horizon_days": 7,
    "model_version": "3f0c9a7be1d24c55",
    "as_of": "2018-01-01T04:01:20.000001",
    "fallback": None,
    "no_model": None,
}


_NO_MODEL = "With fallback `no_model`, why there is no model of this task; else null."


class PurchaseAnswer(_Answer):
    """Whether the user will buy within the horizon."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})
    user_id: str
    probability: float | None = Field(
        ge=0, le=1, description="Probability of a purchase within the horizon; null without a model."
    )
    will_purchase: bool | None = Field(
        description="Whether the probability reaches the threshold that was chosen with the model; null without one."
    )
    horizon_days: float | None = Field(description="The horizon; less than a day if the log was short.")
    no_model: str | None = Field(default=None, description=_NO_MODEL)


class Recommended(BaseModel):
    """A recommended item."""

    item_id: str
    title: str | None
    category: str | None
    score: float = Field(description="Probability, among all items of the catalogue, that this item is next.")


class RecommendAnswer(_Answer):
    """The items that the user is most likely to take next, best first."""

    user_id: str
    items: list[Recommended] = Field(description="Empty without a model.")
    no_model: str | None = Field(default=None, description=_NO_MODEL)


class Fact(BaseModel):
    """The value of one feature of a user."""

    name: str
    meaning: str
    value: float | str | None


class ProfileAnswer(_Answer):
    """What is known about a user, as text and as numbers."""

    user_id: str
    known: bool
    summary: list[str] = Field(description="Human-readable sentences.")
    features: list[Fact] = Field(description="Every feature by name, with meaning, unit and value.")
    recent_events: int = Field(description="Number of this user's events in the online store.")
    snapshot_time: str | None = Field(description="As-of time of the slow features (UTC).")


class FeatureEffect(BaseModel):
    """The contribution of one feature to an answer."""

    name: str
    meaning: str
    value: float | None
    effect: float = Field(description="Log odds of a purchase, or log probability of the item.")


class PartEffect(BaseModel):
    """The contribution of one order or session to an answer."""

    time: str = Field(description="Its first event (UTC).")
    events: int
    names: list[str] = Field(description="Names of its events.")
    items: list[str] = Field(description="Its most frequent items.")
    effect: float = Field(description="Log odds of a purchase, or log probability of the item, with it minus without.")
    prediction: float = Field(description="The probability without it.")
    rank: int | None = Field(description="The rank of the item without it.")


class Explained(BaseModel):
    """Why an answer is what it is."""

    task: Literal["purchase", "next_item"]
    item_id: str | None
    title: str | None
    prediction: float = Field(description="Probability of a purchase, or that the item is next.")
    base: float | None = Field(description="The same for a mean user or other candidate: baseline of the effects.")
    rank: int | None = Field(description="Rank of the item, from 1.")
    features: list[FeatureEffect] = Field(description="The features with the largest effects (SHAP).")
    parts: list[PartEffect] = Field(description="The orders or sessions with the largest effects, each left out alone.")
    text: list[str] = Field(description="The same as sentences.")


class ExplainAnswer(_Answer):
    """Why a user is expected to buy, or why an item is recommended."""

    user_id: str
    no_model: str | None = Field(default=None, description=_NO_MODEL)
    explanation: Explained | None = Field(description="None if the answer is not personal; see fallback.")


class VersionAnswer(BaseModel):
    """The versions in service."""

    model_config = ConfigDict(protected_namespaces=())
    model_version: str
    git_revision: str
    data: dict[str, str]
    models: dict[str, str]
    missing: dict[str, str] = Field(description="Tasks without a model, with the reason.")
    as_of: str
