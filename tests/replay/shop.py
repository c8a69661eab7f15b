"""A project folder in which a day of events can be streamed through the live path, and the same computed in batch."""

import os
import shutil
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import yaml

from features.stages import features
from shoplens.files import read_json, write_json
from shoplens.params import Params, load_params
from shoplens.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
_SIDES = ("items", "users", "campaigns")


def known(events: pl.DataFrame) -> pl.Series:
    """Return when each event was both over and received."""
    return events.select(pl.max_horizontal("event_time", "ingested_at")).to_series()


@dataclass(frozen=True)
class Project:
    """A project folder of its own."""

    settings: Settings
    params: Params

    @classmethod
    def make(cls, root: Path) -> "Project":
        """Make a folder with the parameters and mappings of this project."""
        root.mkdir(parents=True)
        shutil.copy(ROOT / "params.yaml", root / "params.yaml")
        shutil.copytree(ROOT / "events/mappings", root / "events/mappings")
        return cls(Settings(root=root), load_params(root / "params.yaml"))

    @property
    def environment(self) -> dict[str, str]:
        """What its commands are run with."""
        return {**os.environ, "SHOPLENS_ROOT": str(self.settings.root)}

    def use_mapping(self, mapping: str, source: str | None = None) -> "Project":
        """Return the project with another mapping, and another source, in its parameters."""
        path = self.settings.root / "params.yaml"
        params = yaml.safe_load(path.read_text())
        params["data"] |= {"mapping": mapping, **({"source": source} if source else {})}
        path.write_text(yaml.safe_dump(params))
        return Project(self.settings, load_params(path))

    def put(self, validated: Path, events: pl.DataFrame, high_water: datetime) -> None:
        """Write `outs/validated`: events, with the side tables of a folder, known until a moment."""
        out = self.settings.outs_dir / "validated"
        out.mkdir(parents=True, exist_ok=True)
        events.sort("event_time", "event_id").write_parquet(out / "events.parquet", row_group_size=1 << 17)
        for name in _SIDES:
            shutil.copy(validated / f"{name}.parquet", out / f"{name}.parquet")
        about = read_json(validated / "dataset.json")
        write_json(out / "dataset.json", {**about, "high_water": high_water.isoformat(), "rows": events.height})

    def build(self) -> Path:
        """Compute `outs/features`; return the folder."""
        features(self.params, self.settings)
        return self.settings.outs_dir / "features"


@dataclass(frozen=True)
class Split:
    """Events before a moment, what became known since, and the moment after which all of it is known."""

    before: pl.DataFrame
    streamed: pl.DataFrame
    start: datetime
    end: datetime

    @classmethod
    def last_day(cls, events: pl.DataFrame) -> "Split":
        """Split off what became known since 24 hours before the last event, in the order in which it did."""
        marked = events.with_columns(known(events).alias("_known"))
        last, end = events["event_time"].max(), marked["_known"].max()
        assert isinstance(last, datetime)
        assert isinstance(end, datetime)
        start = last - timedelta(days=1)
        streamed = marked.filter(pl.col("_known") >= start).sort("_known", "event_id").drop("_known")
        before = marked.filter(pl.col("_known") < start).drop("_known")
        return cls(before, streamed, start, end + timedelta(microseconds=1))
