"""Requests and responses of the service."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from events.contract import PERSON_ID, PERSON_ID_LENGTH

VERSION_HEADER = "x-model-version"  # on every answer, /readyz included

UserId = Annotated[
    str,
    Field(
        strict=True,
        min_length=1,
        max_length=PERSON_ID_LENGTH,
        pattern=f"^{PERSON_ID}$",
        description="Who is asked about: the user_id of the event log.",
        json_schema_extra={"example": "900"},  # BentoML's schema knows `example`, not `examples`
    ),
]
Count = Annotated[
    int, Field(strict=True, ge=1, le=100, description="How many items.", json_schema_extra={"example": 5})
]
Fallback = Literal["unknown_user", "store_unavailable"]


class _Answer(BaseModel):
    model_config = ConfigDict(protected_namespaces=())

    model_version: str = Field(description="Version of the package that answered: the digest of its content.")
    as_of: str = Field(description="What 'now' is for this answer (UTC): what the store knows ends here.")
    fallback: Fallback | None = Field(
        description="Why this answer is not personal: nobody of that id is known, or the online store is unreachable."
    )


class PurchaseAnswer(_Answer):
    """Will the user buy within the horizon."""

    model_config = ConfigDict(
        protected_namespaces=(),
        json_schema_extra={
            "example": {
                "user_id": "900",
                "probability": 0.93,
                "will_purchase": True,
                "horizon_days": 7,
                "model_version": "3f0c9a7be1d24c55",
                "as_of": "2018-01-01T04:01:20.000001",
                "fallback": None,
            }
        },
    )
    user_id: str
    probability: float = Field(ge=0, le=1, description="Probability of a purchase within the horizon.")
    will_purchase: bool = Field(description="Whether the probability reaches the threshold of evaluation.")
    horizon_days: int


class Recommended(BaseModel):
    """One item."""

    item_id: str
    title: str | None
    category: str | None
    score: float = Field(description="Probability that it is next, of all items of the catalogue.")


class RecommendAnswer(_Answer):
    """What the user takes next, best first."""

    user_id: str
    items: list[Recommended]


class Fact(BaseModel):
    """One thing that is known of a user."""

    name: str
    meaning: str
    value: float | str | None


class ProfileAnswer(_Answer):
    """What is known of a user, in words and in numbers."""

    user_id: str
    known: bool
    summary: list[str] = Field(description="Sentences for a person.")
    features: list[Fact] = Field(description="Every feature by name, with meaning, unit and value.")
    recent_events: int = Field(description="Events that the online store holds of this user.")
    snapshot_time: str | None = Field(description="When the slow features were computed for (UTC).")


class VersionAnswer(BaseModel):
    """What is in service."""

    model_config = ConfigDict(protected_namespaces=())
    model_version: str
    git_revision: str
    data: dict[str, str]
    models: dict[str, str]
    as_of: str
