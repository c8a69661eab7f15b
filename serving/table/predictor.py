"""Predictions of a flat table's model: one row in, probability and decision out."""

from pathlib import Path
from typing import Any

import polars as pl
from pydantic import BaseModel

from serving.table.schemas import About, Answer, row_model
from shoplens.digest import file_digest
from shoplens.errors import ReleaseError
from shoplens.files import read_json
from training.table.artifact import load

MANIFEST, ABOUT = "manifest.json", "table.json"
VERSION_LENGTH = 16
_TYPES: dict[str, Any] = {
    "number": pl.Float64,
    "boolean": pl.Boolean,
    "category": pl.String,
    "time": pl.Datetime("us", "UTC"),
}


def table_version(package: Path) -> str:
    """Return the version of a package, as `serving.package.model_version` does; no package is a ReleaseError."""
    manifest = package / MANIFEST
    if not manifest.is_file():
        raise ReleaseError(
            f"{package}: must be the package of a table, but {MANIFEST} is missing. Run `shoplens table`"
        )
    return file_digest(manifest)[:VERSION_LENGTH]


class TablePredictions:
    """A loaded package."""

    def __init__(self, package: Path) -> None:
        self.version = table_version(package)
        self.model = load(package / "model")
        about = read_json(package / ABOUT)
        self.data: dict[str, str] = about["data"]
        self.dropped: dict[str, str] = about["dropped"]  # columns that the model does not use -> reason
        self.row = row_model(self.model.columns, self.model.example)  # the type of a request
        self._schema = {column.name: _TYPES[column.kind] for column in self.model.columns}

    def warm(self) -> None:
        """Predict once, so that the first request is not slower than later ones."""
        self.predict(self.row.model_validate(self.model.example))

    def predict(self, row: BaseModel) -> Answer:
        """Return the prediction for one row of type `row`."""
        values = row.model_dump(by_alias=True)
        probability = float(self.model.predict(pl.DataFrame([values], schema=self._schema))[0])
        return Answer(
            probability=round(probability, 6),
            decision=probability >= self.model.threshold,
            model_version=self.version,
        )

    def about(self) -> About:
        """Return the versions in service."""
        return About(
            model_version=self.version,
            model=self.model.name,
            target=self.model.target,
            threshold=self.model.threshold,
            data=self.data,
        )
