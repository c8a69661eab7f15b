"""The BentoML service for a flat table. It runs from its Bento, where this file is part of the package."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import bentoml
import polars as pl
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model

from shoplens.files import manifest_version, read_json
from training.table.columns import Column, load

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


_FIELDS: dict[str, Any] = {
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
        kind = _FIELDS[column.kind]
        about = Field(alias=column.name, description=_MEANING[column.kind])
        fields[f"column_{number}"] = (kind | None if column.nullable else kind, about)
    config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"example": example})
    return create_model("Row", __config__=config, **fields)


ABOUT = "table.json"
_TYPES: dict[str, Any] = {
    "number": pl.Float64,
    "boolean": pl.Boolean,
    "category": pl.String,
    "time": pl.Datetime("us", "UTC"),
}


class TablePredictions:
    """A loaded package.

    Attributes:
        row: The type of a request.
        dropped: Column that the model does not use -> reason.
        about: The versions in service.
    """

    def __init__(self, package: Path) -> None:
        self.model, content = load(package / "model"), read_json(package / ABOUT)
        self.dropped: dict[str, str] = content["dropped"]
        self.row = row_model(self.model.columns, self.model.example)
        self._schema = {column.name: _TYPES[column.kind] for column in self.model.columns}
        self.about = About(
            model_version=manifest_version(package),
            model=self.model.model.name,
            target=self.model.target,
            threshold=self.model.model.threshold,
            data=content["data"],
        )

    def warm(self) -> None:
        """Predict once, so that the first request is not slower than later ones."""
        self.predict(self.row.model_validate(self.model.example))

    def predict(self, row: BaseModel) -> Answer:
        """Return the prediction for one row of type `row`."""
        frame = pl.DataFrame([row.model_dump(by_alias=True)], schema=self._schema)
        probability = float(self.model.predict(frame)[0])
        return Answer(
            probability=round(probability, 6),
            decision=probability >= self.about.threshold,
            model_version=self.about.model_version,
        )


_TIMEOUT_SECONDS = 10
_PACKAGE = Path(__file__).resolve().parents[2]

pages = FastAPI(title="ShopLens table")


def _problem(error: dict[str, Any], dropped: dict[str, str]) -> Problem:
    """Describe a validation error without the value that was sent, which is personal data."""
    path = [str(part) for part in error["loc"][1:]] or ["body"]
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "json_invalid":
        path, message = ["body"], "must be JSON"
    if error["type"] == "extra_forbidden":
        why = dropped.get(path[0])
        message = "is not a column of the table" if why is None else f"is not used by the model: {why}"
    return Problem(loc=path[:1], msg=message)


def add_routes(app: FastAPI, predictions: TablePredictions) -> None:
    """Add POST /predict and GET /version, once the model is loaded and the fields of a row are known."""

    def predict(row: predictions.row) -> Answer:  # type: ignore[name-defined]  # created from the table
        """Return the probability that the target is true for one row of the table."""
        return predictions.predict(row)

    def version() -> About:
        """Return the versions in service."""
        return predictions.about

    def reject(request: Request, error: Exception) -> JSONResponse:
        broken = error.errors() if isinstance(error, RequestValidationError) else []
        refusal = Refusal(detail=[_problem(one, predictions.dropped) for one in broken])
        return JSONResponse(refusal.model_dump(), status_code=400)

    app.add_exception_handler(RequestValidationError, reject)
    app.add_api_route("/predict", predict, methods=["POST"], responses={400: {"model": Refusal}})
    app.add_api_route("/version", version, methods=["GET"])


@bentoml.service(
    name="shoplens_table",
    workers=1,
    traffic={"timeout": _TIMEOUT_SECONDS},
    http={"host": "127.0.0.1"},
    logging={"access": {"enabled": False}},
)
@bentoml.asgi_app(pages)
class ShopLensTable:
    """Predicts the target for one row. `POST /predict`, `GET /version`; types and an example are in `/openapi.json`."""

    def __init__(self) -> None:
        predictions = TablePredictions(_PACKAGE)
        predictions.warm()
        add_routes(pages, predictions)
