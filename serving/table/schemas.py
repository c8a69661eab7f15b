"""Requests and answers of the table service: a row's fields are the columns that the model reads."""

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model

from training.table.kinds import Column

_LONGEST = 1_000  # signs of a category


def _moment(value: Any) -> Any:
    """Return a time that is given as text; a number would be read in a unit that nobody stated."""
    if not isinstance(value, str):
        raise ValueError("must be text in ISO 8601, such as 2026-11-25T12:30:00Z")
    try:
        moment = datetime.fromisoformat(value)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:  # the year 1 east of Greenwich was the year 0
        raise ValueError("must be a moment in ISO 8601, such as 2026-11-25T12:30:00Z") from error


_TYPES: dict[str, Any] = {
    "number": Annotated[float, Field(strict=True, allow_inf_nan=False)],
    "boolean": Annotated[bool, Field(strict=True)],
    "category": Annotated[str, Field(strict=True, max_length=_LONGEST)],
    "time": Annotated[datetime, BeforeValidator(_moment)],
}
_MEANING = {
    "number": "A number.",
    "boolean": "true or false.",
    "category": "Text; a value that the training rows do not have counts as a rare one.",
    "time": "ISO 8601; UTC where it has no offset.",
}


class Answer(BaseModel):
    """What the model says of a row."""

    model_config = ConfigDict(protected_namespaces=())

    probability: float = Field(ge=0, le=1, description="Probability that the target is true.")
    decision: bool = Field(description="Whether the probability reaches the threshold.")
    model_version: str = Field(description="Version of the package that answered: the digest of its content.")


class About(BaseModel):
    """What is in service."""

    model_config = ConfigDict(protected_namespaces=())

    model_version: str
    model: str
    target: str
    threshold: float
    data: dict[str, str]


class Problem(BaseModel):
    """What is wrong with one field of a request."""

    loc: list[str]
    msg: str


class Refusal(BaseModel):
    """Why a request is refused."""

    detail: list[Problem]


def row_model(columns: tuple[Column, ...], example: dict[str, Any]) -> type[BaseModel]:
    """Return the type of a request: every column that the model reads, and no other.

    A column is given as null only where the table has missing values too. Fields have names of our own, because a
    column may be called anything; the column's name is the alias.
    """
    fields: dict[str, Any] = {}
    for place, column in enumerate(columns):
        kind = _TYPES[column.kind]
        about = Field(alias=column.name, description=_MEANING[column.kind])
        fields[f"column_{place}"] = (kind | None if column.nullable else kind, about)
    config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"example": example})
    return create_model("Row", __config__=config, **fields)
