"""The BentoML service of a flat table. It runs from its Bento, where the package lies around this file."""

from pathlib import Path

import bentoml
from fastapi import FastAPI

_TIMEOUT_SECONDS = 10
_AROUND = Path(__file__).resolve().parents[2]

pages = FastAPI(title="ShopLens table")


@bentoml.service(
    name="shoplens_table",
    workers=1,
    traffic={"timeout": _TIMEOUT_SECONDS},
    http={"host": "127.0.0.1"},
    logging={"access": {"enabled": False}},
)
@bentoml.asgi_app(pages)
class ShopLensTable:
    """What a row of the table says: `POST /predict`, `GET /version`; types and an example in `/openapi.json`."""

    def __init__(self) -> None:
        from serving.table.predictor import TablePredictions
        from serving.table.routes import add_routes

        predictions = TablePredictions(_AROUND)
        predictions.warm()
        add_routes(pages, predictions)
