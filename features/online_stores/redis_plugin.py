"""Feast's online store on Redis where the newest value wins: see `plugins` for the rule, `redis_rows` for the keys."""

from collections.abc import Sequence
from typing import Literal

from feast import Entity, FeatureView
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from pydantic import SecretStr

from features.online_stores.plugins import NewestWinsOnlineStore
from features.online_stores.redis_rows import RedisRows

RedisType = Literal["features.online_stores.redis_plugin.NewestWinsRedisOnlineStore"]
REDIS_TYPE: RedisType = "features.online_stores.redis_plugin.NewestWinsRedisOnlineStore"


class NewestWinsRedisOnlineStoreConfig(FeastConfigBaseModel):  # type: ignore[misc]  # Feast ships no types
    """Configuration of `NewestWinsRedisOnlineStore`.

    Attributes:
        type: The class by its path.
        url: redis://, rediss:// or unix:// address; it may hold a password, and is not shown.
        generation: Begins all keys, so that stores do not see each other.
    """

    type: RedisType = REDIS_TYPE
    url: SecretStr
    generation: str


class NewestWinsRedisOnlineStore(NewestWinsOnlineStore):
    """Redis: a value for each row, compared and written by a script in the server."""

    def _open(self, config: RepoConfig) -> RedisRows:
        return RedisRows(config.online_store.url.get_secret_value(), config.online_store.generation)

    def teardown(self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]) -> None:
        """Remove all keys of the generation."""
        self._open(config).remove()
        self.disconnect()
