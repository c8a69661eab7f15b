"""The paths of the table service. They are added when the model is loaded: a row's fields are known only then."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from serving.table.predictor import TablePredictions
from serving.table.schemas import About, Answer, Problem, Refusal


def _problem(error: dict[str, Any], dropped: dict[str, str]) -> Problem:
    """Return a broken rule without what was sent: a row is personal data."""
    path = [str(part) for part in error["loc"][1:]] or ["body"]
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "json_invalid":
        path, message = ["body"], "must be JSON"
    if error["type"] == "extra_forbidden":
        why = dropped.get(path[0])
        message = "is no column of the table" if why is None else f"is not read by the model: {why}"
    return Problem(loc=path[:1], msg=message)


def add_routes(app: FastAPI, predictions: TablePredictions) -> None:
    """Put POST /predict and GET /version on the application."""

    def predict(row: predictions.row) -> Answer:  # type: ignore[name-defined]  # made from the table
        """Answer for one row of the table: the probability that the target is true."""
        return predictions.predict(row)

    def version() -> About:
        """Say what is in service."""
        return predictions.about()

    def refuse(request: Request, error: Exception) -> JSONResponse:
        broken = error.errors() if isinstance(error, RequestValidationError) else []
        refusal = Refusal(detail=[_problem(one, predictions.dropped) for one in broken])
        return JSONResponse(refusal.model_dump(), status_code=400)

    app.add_exception_handler(RequestValidationError, refuse)
    app.add_api_route("/predict", predict, methods=["POST"], responses={400: {"model": Refusal}})
    app.add_api_route("/version", version, methods=["GET"])
