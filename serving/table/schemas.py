"""Requests and responses of the table service; the fields of a request are the columns that the model uses."""

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model

from training.table.inputs import Column

_LONGEST = 1_000  # characters in a category


def _parse_time(value: Any) -> Any:
    """Parse a time given as text; numbers are rejected because their unit would be ambiguous."""
    if not isinstance(value, str):
        raise ValueError("must be text in ISO 8601, such as 2026-11-25T12:30:00Z")
    try:
        time = datetime.fromisoformat(value)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError) as error:  # OverflowError: year 1 with an offset that leads to year 0
        raise ValueError("must be a time in ISO 8601, such as 2026-11-25T12:30:00Z") from error


_TYPES: dict[str, Any] = {
    "number": Annotated[float, Field(strict=True, allow_inf_nan=False)],
    "boolean": Annotated[bool, Field(strict=True)],
    "category": Annotated[str, Field(strict=True, max_length=_LONGEST)],
    "time": Annotated[datetime, BeforeValidator(_parse_time)],
}
_MEANING = {
    "number": "A number.",
    "boolean": "true or false.",
    "category": "Text; a value that does not occur in the training rows is treated as rare.",
    "time": "ISO 8601; UTC if there is no offset.",
}


class Answer(BaseModel):
    """The prediction for a row."""

    model_config = ConfigDict(protected_namespaces=())

    probability: float = Field(ge=0, le=1, description="Probability that the target is true.")
    decision: bool = Field(description="Whether the probability reaches the threshold.")
    model_version: str = Field(description="Version of the package: a digest of its content.")


class About(BaseModel):
    """The versions in service."""

    model_config = ConfigDict(protected_namespaces=())

    model_version: str
    model: str
    target: str
    threshold: float
    data: dict[str, str]


class Problem(BaseModel):
    """A validation error of one field of a request."""

    loc: list[str]
    msg: str


class Refusal(BaseModel):
    """Why a request was rejected."""

    detail: list[Problem]


def row_model(columns: tuple[Column, ...], example: dict[str, Any]) -> type[BaseModel]:
    """Return the type of a request: exactly the columns that the model uses.

    Null is accepted only for columns that have missing values in the table. The name of a column is an alias, because
    it need not be a valid field name.
    """
    fields: dict[str, Any] = {}
    for number, column in enumerate(columns):
        kind = _TYPES[column.kind]
        about = Field(alias=column.name, description=_MEANING[column.kind])
        fields[f"column_{number}"] = (kind | None if column.nullable else kind, about)
    config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"example": example})
    return create_model("Row", __config__=config, **fields)
