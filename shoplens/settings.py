"""Locations and engines, set by environment variables; experiment parameters are separate.

Settings choose between the embedded default and the production engine (`SHOPLENS_…`); parameters of an experiment
live in `params.yaml` (see `shoplens.params`).
"""

import os
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from shoplens.errors import SettingsError


def find_root() -> Path:
    """Return the nearest folder at or above the working folder with a `params.yaml`, or raise a SettingsError."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "params.yaml").is_file():
            return folder
    raise SettingsError(
        f"no params.yaml in {here} or above it: run this inside a ShopLens project, or set SHOPLENS_ROOT"
    )


class Settings(BaseSettings):
    """Settings of this process from environment variables."""

    model_config = SettingsConfigDict(env_prefix="SHOPLENS_", frozen=True, extra="ignore")

    root: Path = Field(default_factory=find_root, description="The project folder: params.yaml, dvc.yaml, outs/, var/.")
    outs: Path = Field(default=Path("outs"), description="DVC outs, one folder per stage; relative to root.")
    var: Path = Field(default=Path("var"), description="Rebuildable state; relative to root.")
    lake: Path = Field(
        default=Path("lake"), description="Events, and the live log: cannot be rebuilt; relative to root."
    )
    clock: Literal["data", "wall"] = Field(
        default="data",
        description="What 'now' is when serving: the online store's high-water mark (frozen data), or the wall clock.",
    )
    engine: Literal["duckdb", "spark"] = Field(default="duckdb", description="What computes the daily feature views.")
    online_store: Literal["sqlite", "redis"] = Field(default="sqlite", description="Feast's online store.")
    redis_url: SecretStr = Field(
        default=SecretStr("redis://127.0.0.1:6379/0"),
        description="Redis address if Redis is the online store: redis://, rediss:// or unix://.",
    )
    service_url: str = Field(
        default_factory=lambda: f"http://127.0.0.1:{os.environ.get('SERVICE_PORT', '3000')}",
        description="URL at which a release waits for the service.",
    )
    collector_token: SecretStr | None = Field(
        default=None, description="Token that senders of events must present, if set."
    )
    collector_origins: str = Field(
        default="", description="Web origins whose pages may post events, separated by commas; * is any."
    )
    kafka_servers: str | None = Field(default=None, description="HOST:PORT of a Kafka broker to read as well.")
    kafka_topics: str = Field(default="shoplens", description="Comma-separated topics that the collector reads.")
    kafka_group: str = Field(default="shoplens", description="Consumer group of the collector.")
    kafka_options: SecretStr = Field(
        default=SecretStr("{}"), description="Further options of librdkafka, a JSON object: security, for example."
    )
    package: Path | None = Field(default=None, description="The packaged model to serve; default var/service/current.")

    @cached_property
    def outs_dir(self) -> Path:
        """Absolute folder of the DVC outs."""
        return (self.root / self.outs).resolve()

    @cached_property
    def var_dir(self) -> Path:
        """Absolute folder of rebuildable state."""
        return (self.root / self.var).resolve()

    @cached_property
    def lake_dir(self) -> Path:
        """Absolute folder of the lake, which `make clean` does not delete."""
        return (self.root / self.lake).resolve()

    @cached_property
    def live_dir(self) -> Path:
        """Absolute folder of the collector's log and of its followers' positions, inside the lake's folder."""
        return self.lake_dir / "live"


def load_settings() -> Settings:
    """Read the settings from the environment; raise a SettingsError that names an invalid variable."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "SHOPLENS_" + "_".join(str(part) for part in first["loc"]).upper()
        raise SettingsError(f"{name}: {first['msg']}; received {first.get('input')!r}") from error
