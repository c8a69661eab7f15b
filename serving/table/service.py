"""The BentoML service for a flat table. It runs from its Bento, where this file is part of the package."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import bentoml
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from serving.table.predictor import About, Answer, Problem, Refusal

if TYPE_CHECKING:
    from serving.table.predictor import TablePredictions

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


def add_routes(app: FastAPI, predictions: "TablePredictions") -> None:
    """Add POST /predict and GET /version, once the model is loaded and the fields of a row are known."""

    def predict(row: predictions.row) -> Answer:  # type: ignore[name-defined]  # created from the table
        """Return the probability that the target is true for one row of the table."""
        return predictions.predict(row)

    def version() -> About:
        """Return the versions in service."""
        return predictions.about()

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
        from serving.table.predictor import TablePredictions

        predictions = TablePredictions(_PACKAGE)
        predictions.warm()
        add_routes(pages, predictions)
