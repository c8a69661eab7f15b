"""Where things are and which engines run them: environment variables, never experiment parameters.

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
    """Return the nearest folder at or above the working folder that holds `params.yaml`; else raise a SettingsError."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "params.yaml").is_file():
            return folder
    raise SettingsError(
        f"no params.yaml in {here} or above it: run this inside a ShopLens project, or set SHOPLENS_ROOT"
    )


class Settings(BaseSettings):
    """Settings of this process, read from the environment."""

    model_config = SettingsConfigDict(env_prefix="SHOPLENS_", frozen=True, extra="ignore")

    root: Path = Field(default_factory=find_root, description="The project folder: params.yaml, dvc.yaml, outs/, var/.")
    outs: Path = Field(default=Path("outs"), description="DVC outs, one folder per stage; relative to root.")
    var: Path = Field(default=Path("var"), description="State that can be rebuilt; relative to root.")
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
        description="Address of Redis, when it is the store: redis://, rediss:// or unix://.",
    )
    service_url: str = Field(
        default_factory=lambda: f"http://127.0.0.1:{os.environ.get('SERVICE_PORT', '3000')}",
        description="Where a release waits for the service.",
    )
    collector_token: SecretStr | None = Field(default=None, description="What senders of events must show, if set.")
    collector_origins: str = Field(
        default="", description="Web origins whose pages may post events, separated by commas; * is any."
    )
    kafka_servers: str | None = Field(default=None, description="HOST:PORT of a Kafka broker to read as well.")
    kafka_topics: str = Field(default="shoplens", description="Topics that the collector reads, separated by commas.")
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
        """Absolute folder of the state that can be rebuilt."""
        return (self.root / self.var).resolve()

    @cached_property
    def lake_dir(self) -> Path:
        """Absolute folder of the lake. `make clean` leaves it alone."""
        return (self.root / self.lake).resolve()

    @cached_property
    def live_dir(self) -> Path:
        """Absolute folder of the collector's log and of its followers' positions, inside the lake's folder."""
        return self.lake_dir / "live"


def load_settings() -> Settings:
    """Read the settings from the environment; raise a SettingsError that names the variable with a wrong value."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "SHOPLENS_" + "_".join(str(part) for part in first["loc"]).upper()
        raise SettingsError(f"{name}: {first['msg']}; received {first.get('input')!r}") from error
