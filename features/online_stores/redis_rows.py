"""Rows in Redis: one value per row, and a sorted set of each user's live events.

A row's value begins with its event time, so that a server-side script can compare and write atomically. Every write
watches the tombstones, so nothing is written about a person who is being erased.

    shoplens:STORE:view:VIEW:KEY    8 bytes, big endian, signed: event time; then the features (`codec`)
    shoplens:STORE:live:USER        members: event ID, a zero byte, JSON; score: event time
"""

import json
import re
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from redis import Redis

from features.online_stores.rows import LiveEvent, RowStore, chunks, not_erased
from features.online_stores.views import Encoded, View
from shoplens.errors import SettingsError, StoreUnavailableError

_CONNECT_SECONDS = 2.0
_ANSWER_SECONDS = 15.0  # a script of a megabyte of rows on a busy server
_CHUNK_ROWS, _CHUNK_BYTES = 1_000, 1 << 20  # rows per run of the script, which blocks other clients
_TIME = struct.Struct(">q")
# KEYS: the rows' keys; ARGV: the rows. Lua numbers are exact up to 2^53 microseconds, the year 2255.
_NEWEST_WINS = """
for i = 1, #KEYS do
  local held = redis.call('GETRANGE', KEYS[i], 0, 7)
  if #held < 8 or struct.unpack('>i8', ARGV[i]) >= struct.unpack('>i8', held) then
    redis.call('SET', KEYS[i], ARGV[i])
  end
end
"""


def _events(members: Iterable[bytes]) -> Iterator[LiveEvent]:
    return (LiveEvent(*json.loads(member.rpartition(b"\0")[2])) for member in members)


class RedisRows(RowStore):
    """A `RowStore` in Redis, under keys that begin with the store's name."""

    def __init__(self, url: str, name: str) -> None:
        """Create the client; it connects on first use.

        Args:
            url: redis://, rediss:// or unix:// address of the server.
            name: Name of the store; stores with different names do not share rows.

        Raises:
            SettingsError: the address is not valid. The message omits it, because it may contain a password.
        """
        waits = {"socket_connect_timeout": _CONNECT_SECONDS, "socket_timeout": _ANSWER_SECONDS}
        try:  # redis-py types every response as possibly awaitable
            self._client: Any = Redis.from_url(url, health_check_interval=30, **waits)
        except ValueError:
            raise SettingsError(
                "SHOPLENS_REDIS_URL: must look like redis://HOST:PORT/DB or unix:///PATH; received something else"
            ) from None
        self._prefix = f"shoplens:{name}:".encode()
        self._texts, self._erased = self._prefix + b"meta", self._prefix + b"erased"

    def _view(self, name: str) -> bytes:
        return self._prefix + f"view:{name}:".encode()

    def _live(self, user_id: str) -> bytes:
        return self._prefix + b"live:" + user_id.encode()

    def _suffixes(self, prefix: bytes) -> list[bytes]:
        """Return the rest of all keys that begin with `prefix`, sorted."""
        literal = re.sub(rb"([*?\[\]\\^-])", rb"\\\1", prefix)
        found = set(self._client.scan_iter(literal + b"*", count=_CHUNK_ROWS))
        return sorted(key.removeprefix(prefix) for key in found)

    def meta(self, name: str) -> str | None:  # noqa: D102 - see `RowStore`
        text = self._client.hget(self._texts, name)
        return None if text is None else text.decode()

    def set_meta(self, name: str, text: str) -> None:  # noqa: D102
        self._client.hset(self._texts, name, text)

    def _put(self, view: View, rows: list[Encoded]) -> None:
        prefix, size = self._view(view.name), sum(len(row[3]) for row in rows) // max(len(rows), 1)

        def queue(chunk: Sequence[Encoded], pipeline: Any) -> None:
            erased = {one.decode() for one in pipeline.smembers(self._erased)}
            kept = not_erased(chunk, 1, erased) if view.of_people else chunk
            keys = [prefix + key.encode() for _, key, _, _ in kept]
            pipeline.multi()
            pipeline.eval(_NEWEST_WINS, len(keys), *keys, *(_TIME.pack(row[2]) + row[3] for row in kept))

        for chunk in chunks(rows, max(1, min(_CHUNK_ROWS, _CHUNK_BYTES // max(size, 1)))):
            self._client.transaction(partial(queue, chunk), self._erased)

    def append(self, events: Iterable[LiveEvent]) -> None:  # noqa: D102
        last_n, added = self._keep(), list(events)

        def queue(pipeline: Any) -> None:
            erased = {one.decode() for one in pipeline.smembers(self._erased)}
            if not pipeline.hexists(self._texts, "loaded"):
                raise StoreUnavailableError("online store: was removed, or has lost its content; open the one in use")
            members: dict[bytes, dict[bytes, int]] = defaultdict(dict)
            for one in not_erased(added, 0, erased):
                members[self._live(one.user_id)][f"{one.event_id}\0{json.dumps(one)}".encode()] = one.time
            pipeline.multi()
            for key, times in members.items():
                pipeline.zadd(key, times, nx=True)
                pipeline.zremrangebyrank(key, 0, -last_n - 1)

        self._client.transaction(queue, self._erased, self._texts)

    def _fetch(self, views: list[str], keys: list[str], live: bool) -> tuple[list[Encoded], list[LiveEvent]]:
        rows: list[Encoded] = []
        events: list[LiveEvent] = []
        for chunk in chunks(keys, _CHUNK_ROWS):
            with self._client.pipeline(transaction=False) as pipeline:
                for view in views:
                    pipeline.mget([self._view(view) + key.encode() for key in chunk])
                for key in chunk if live else ():
                    pipeline.zrange(self._live(key), 0, -1)
                answers = pipeline.execute()
            for view, values in zip(views, answers, strict=False):
                found = ((key, value) for key, value in zip(chunk, values, strict=True) if value is not None)
                rows += [(view, key, *_TIME.unpack_from(value), value[_TIME.size :]) for key, value in found]
            for members in answers[len(views) :]:
                events += _events(members)
        return rows, events

    def _delete(self, views: list[str], user_id: str) -> dict[str, int]:
        with self._client.pipeline() as pipeline:
            for view in views:
                pipeline.unlink(self._view(view) + user_id.encode())
            pipeline.zcard(self._live(user_id)).unlink(self._live(user_id))
            *removed, live, _ = pipeline.execute()
        return dict(zip(views, removed, strict=True)) | {"live_events": live}

    def live(self) -> Iterator[LiveEvent]:  # noqa: D102
        for user in self._suffixes(self._live("")):
            yield from _events(self._client.zrange(self._live(user.decode()), 0, -1))

    def reject(self, hashes: Iterable[str], *, only: bool = False) -> None:  # noqa: D102
        with self._client.pipeline() as pipeline:
            if only:
                pipeline.delete(self._erased)
            if some := list(hashes):
                pipeline.sadd(self._erased, *some)
            pipeline.execute()

    def flush(self) -> None:
        """See `RowStore`. Durability depends on the server's configuration."""

    def remove(self) -> None:
        """See `RowStore`. The state is deleted first, so that nothing is appended during the removal."""
        self._client.unlink(self._texts)
        for chunk in chunks(self._suffixes(self._prefix), _CHUNK_ROWS):
            self._client.unlink(*(self._prefix + suffix for suffix in chunk))

    def close(self) -> None:  # noqa: D102
        self._client.close()
