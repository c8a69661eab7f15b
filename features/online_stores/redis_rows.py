"""Rows in Redis: one value a row, under a key of the view and the entity, written by a script that compares times.

The server runs a script alone, so that comparing and writing are one step for any number of writers. Feast's own layout
(a hash of messages for each entity) is not used: a value a row is smaller, and one command writes hundreds of them.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
from redis import Redis
from redis.exceptions import NoScriptError, RedisError, WatchError

from features.online_stores.cells import Cell, columns, pack, unpack
from features.online_stores.erased import ERASABLE_KEY, Erased, refused, tombstone
from features.online_stores.payload import Layout, layout_id
from features.online_stores.rows import CellRow, Change, Key, Progress
from features.online_stores.shape import Row, ViewShape, kind_of
from shoplens.errors import SettingsError

_CONNECT_SECONDS = 2.0
_ANSWER_SECONDS = 15.0  # a script of a megabyte of rows on a busy server
_CHUNK_ROWS, _CHUNK_BYTES = 1_000, 1 << 20  # rows of one run of the script: others wait while it runs
_CHUNKS_A_TRIP = 8
_KEYS_A_QUERY = 1_000
_ATTEMPTS = 100  # of a change that other writers disturb; each time one of them got on
_TOMBSTONES, _VERSION, _LAYOUTS = b"+erased", b"+version", b"+layouts"
_PROGRESS, _VIEWS, _LOADED = b"+progress", b"+views", b"+loaded"

# KEYS: the version of the tombstones, then the rows' keys; ARGV: the version that the writer knows, then the rows.
# A number of Lua is exact up to 2^53 microseconds, the year 2255.
_WRITE = """
if (redis.call('GET', KEYS[1]) or '0') ~= ARGV[1] then return -1 end
for i = 2, #KEYS do
  local held = redis.call('GETRANGE', KEYS[i], 0, 7)
  if #held < 8 or struct.unpack('>i8', ARGV[i]) >= struct.unpack('>i8', held) then
    redis.call('SET', KEYS[i], ARGV[i])
  end
end
return 0
"""


class _TombstonesChangedError(Exception):
    """The rows were chosen by tombstones that are no longer all."""


def connect(url: str) -> Any:  # redis-py types every answer as perhaps awaitable
    """Return a client of the server at a redis://, rediss:// or unix:// address; nothing is connected yet.

    Raises:
        SettingsError: the address cannot be understood. It is not repeated, for it may hold a password.
    """
    try:
        return Redis.from_url(
            url, socket_connect_timeout=_CONNECT_SECONDS, socket_timeout=_ANSWER_SECONDS, health_check_interval=30
        )
    except ValueError:
        raise SettingsError(
            "SHOPLENS_REDIS_URL: must look like redis://HOST:PORT/DB or unix:///PATH; received something else"
        ) from None


def _text(key: Key) -> bytes:
    """Return a key as one text that no other key begins with or equals: the length of each part, then the part."""
    parts = [part.encode() for part in key]
    return b"".join(b"%d:%b" % (len(part), part) for part in parts)


def _parts(text: bytes) -> Key:
    parts, place = [], 0
    while place < len(text):
        colon = text.index(b":", place)
        end = colon + 1 + int(text[place:colon])
        parts.append(text[colon + 1 : end].decode())
        place = end
    return tuple(parts)


def _literal(text: bytes) -> bytes:
    """Return a pattern of Redis that only the text itself fits."""
    return re.sub(rb"([*?\[\]\\^-])", rb"\\\1", text)


def _batches(items: Sequence[bytes], size: int) -> Iterator[Sequence[bytes]]:
    return (items[begin : begin + size] for begin in range(0, len(items), size))


class RedisRows:
    """A `RowStore` in a generation of keys of a Redis database. Safe to share between threads."""

    def __init__(self, url: str, generation: str) -> None:
        """Connect to nothing yet.

        Args:
            url: Of the server.
            generation: Begins the keys: stores of different generations do not see each other.
        """
        self._client = connect(url)
        self._prefix = f"shoplens:{generation}:".encode()
        self._script: str | None = None
        self._layouts: dict[bytes, Layout] = {}
        self._shapes: dict[str, tuple[ViewShape, Layout]] = {}
        self._erased = Erased()

    def _own(self, name: bytes) -> bytes:
        return self._prefix + name

    def _view(self, name: str) -> bytes:
        return self._prefix + name.encode() + b"/"

    def prepare(self, shape: ViewShape) -> None:
        """See `RowStore`. Rows of an older definition stay as they are, and are read by the names that they have."""
        self._layout(shape)

    def _layout(self, shape: ViewShape) -> Layout:
        held = self._shapes.get(shape.name)
        if held is None or held[0] != shape:
            layout = Layout.of(shape)
            self._client.hset(self._own(_LAYOUTS), layout.id, layout.text)
            self._client.hset(self._own(_VIEWS), shape.name, json.dumps(shape.keys))
            self._layouts[layout.id] = layout
            held = self._shapes[shape.name] = (shape, layout)
        return held[1]

    def drop(self, name: str) -> None:
        """See `RowStore`."""
        self._remove(self._view(name))
        self._client.hdel(self._own(_PROGRESS), name)
        self._client.hdel(self._own(_VIEWS), name)
        self._shapes.pop(name, None)

    def views(self) -> set[str]:
        """See `RowStore`."""
        return set(self._keys())

    def _keys(self) -> dict[str, list[str]]:
        """Return the views, and the names of the keys of each."""
        held = self._client.hgetall(self._own(_VIEWS))
        return {name.decode(): json.loads(keys) for name, keys in sorted(held.items())}

    def _found(self, prefix: bytes) -> Iterator[bytes]:
        yield from self._client.scan_iter(_literal(prefix) + b"*", count=_KEYS_A_QUERY)

    def _remove(self, prefix: bytes) -> None:
        for keys in _batches(list(self._found(prefix)), _KEYS_A_QUERY):
            self._client.unlink(*keys)

    def remove(self) -> None:
        """Remove all that this generation holds."""
        self._remove(self._prefix)

    def _chunks(
        self, shape: ViewShape, keys: list[list[Any]], micros: list[int], cells: Sequence[Sequence[Cell]], version: int
    ) -> Iterator[list[Any]]:
        """Yield the arguments of runs of the script: how many keys, the keys, what is to be written."""
        known = self._erased.current(version, self._tombstones)
        no = set(refused(shape, keys, known))
        view, size = self._view(shape.name), 0
        first, said = self._own(_VERSION), str(version).encode()
        names: list[bytes] = []
        values: list[bytes] = []
        payloads = self._layout(shape).encode(micros, cells)
        for place, (key, payload) in enumerate(zip(zip(*keys, strict=True), payloads, strict=True)):
            if place in no:
                continue
            names.append(view + _text(key))
            values.append(payload)
            size += len(payload)
            if len(names) == _CHUNK_ROWS or size >= _CHUNK_BYTES:
                yield [len(names) + 1, first, *names, said, *values]
                names, values, size = [], [], 0
        if names:
            yield [len(names) + 1, first, *names, said, *values]

    def _tombstones(self) -> Iterable[str]:
        return [one.decode() for one in self._client.smembers(self._own(_TOMBSTONES))]

    def _version(self, client: Any) -> int:
        return int(client.get(self._own(_VERSION)) or 0)

    def _run(self, pipeline: Any) -> None:
        if -1 in pipeline.execute():
            raise _TombstonesChangedError

    def _queue(self, pipeline: Any, chunk: list[Any]) -> None:
        pipeline.evalsha(self._script, *chunk)

    def _trying(self, attempt: Callable[[], None]) -> None:
        """Do what a new tombstone, another writer or a server without the script may disturb, until nothing does."""
        for _ in range(_ATTEMPTS):
            if self._script is None:
                self._script = str(self._client.script_load(_WRITE))
            try:
                attempt()
            except NoScriptError:
                self._script = None  # the server began anew
            except (_TombstonesChangedError, WatchError):
                continue
            else:
                return
        raise RedisError(f"a change was disturbed {_ATTEMPTS} times")

    def write(self, shape: ViewShape, rows: Iterable[Row]) -> None:
        """See `RowStore`."""
        packed = self._pack(shape, rows)

        def attempt() -> None:
            version = self._version(self._client)
            with self._client.pipeline(transaction=True) as pipeline:
                for chunk in self._chunks(shape, *packed, version):
                    self._queue(pipeline, chunk)
                self._run(pipeline)

        self._trying(attempt)

    @staticmethod
    def _pack(shape: ViewShape, rows: Iterable[Row]) -> tuple[list[list[Any]], list[int], list[list[Cell]]]:
        held = list(rows)
        keys = [[row.key[place] for row in held] for place in range(len(shape.keys))]
        cells = [[pack(kind, row.values[place]) for row in held] for place, kind in enumerate(shape.kinds)]
        return keys, [row.event_micros for row in held], cells

    def load(self, shape: ViewShape, batch: pa.RecordBatch, progress: Progress | None = None) -> None:
        """See `RowStore`: progress is kept when all rows are; a slice that was cut short is simply written again."""
        held = columns(batch, shape)

        def attempt() -> None:
            version = self._version(self._client)
            with self._client.pipeline(transaction=False) as pipeline:
                for number, chunk in enumerate(self._chunks(shape, *held, version), start=1):
                    self._queue(pipeline, chunk)
                    if number % _CHUNKS_A_TRIP == 0:
                        self._run(pipeline)
                self._run(pipeline)

        self._trying(attempt)
        if progress is not None:
            self._client.hset(self._own(_PROGRESS), shape.name, json.dumps(progress))

    def progress(self, name: str, load: str) -> int:
        """See `RowStore`."""
        kept = self._client.hget(self._own(_PROGRESS), name)
        found = Progress(*json.loads(kept)) if kept else Progress("", 0)
        return found.slices if found.load == load else 0

    def read(self, shape: ViewShape, keys: Sequence[Key], names: Sequence[str] | None = None) -> dict[Key, Row]:
        """See `RowStore`."""
        return self._read(self._client, shape, keys, names)

    def _read(
        self, client: Any, shape: ViewShape, keys: Sequence[Key], names: Sequence[str] | None = None
    ) -> dict[Key, Row]:
        kinds, result = dict(shape.features), {}
        wanted = shape.names if names is None else tuple(names)
        view = self._view(shape.name)
        for begin in range(0, len(keys), _KEYS_A_QUERY):
            some = keys[begin : begin + _KEYS_A_QUERY]
            for key, payload in zip(some, client.mget([view + _text(key) for key in some]), strict=True):
                if payload is not None:
                    micros, cells = self._decoded(shape, payload)
                    values = tuple(unpack(kinds[name], cells.get(name)) for name in wanted)
                    result[key] = Row(key, micros, values)
        return result

    def _decoded(self, shape: ViewShape, payload: bytes) -> tuple[int, dict[str, Cell]]:
        """Return the event time of a row, and its cells of the features that are what they were when it was written."""
        layout = self._layouts.get(layout_id(payload)) or self._older(layout_id(payload))
        micros, cells = layout.decode(payload)
        if layout.features == shape.features:
            return micros, dict(zip(shape.names, cells, strict=True))
        kinds = dict(shape.features)
        held = zip(layout.features, cells, strict=True)
        return micros, {name: cell for (name, kind), cell in held if kinds.get(name) == kind}

    def _older(self, layout: bytes) -> Layout:
        text = self._client.hget(self._own(_LAYOUTS), layout)
        if text is None:
            raise RedisError(f"a row has the layout {layout.hex()}, which the store does not know")
        found = Layout([(name, kind_of(kind, name)) for name, kind in json.loads(text)])
        self._layouts[layout] = found
        return found

    def change(self, shape: ViewShape, keys: Sequence[Key], change: Change) -> None:
        """See `RowStore`: what was read is watched, and where it is written meanwhile, all begins anew."""
        watched = [self._view(shape.name) + _text(key) for key in keys]

        def attempt() -> None:
            with self._client.pipeline(transaction=True) as pipeline:
                pipeline.watch(*watched)
                version = self._version(pipeline)
                packed = self._pack(shape, change(self._read(pipeline, shape, keys)))
                pipeline.multi()
                for chunk in self._chunks(shape, *packed, version):
                    self._queue(pipeline, chunk)
                self._run(pipeline)

        if keys:
            self._trying(attempt)

    def scan(self, shape: ViewShape) -> Iterator[CellRow]:
        """See `RowStore`."""
        view = self._view(shape.name)
        keys = sorted((_parts(name[len(view) :]), name) for name in set(self._found(view)))
        for begin in range(0, len(keys), _KEYS_A_QUERY):
            some = keys[begin : begin + _KEYS_A_QUERY]
            for (key, _), payload in zip(some, self._client.mget([name for _, name in some]), strict=True):
                if payload is not None:  # else it was removed meanwhile
                    micros, cells = self._decoded(shape, payload)
                    yield CellRow(key, micros, tuple(cells.get(name) for name in shape.names))

    def erase(self, value: str) -> dict[str, int]:
        """See `RowStore`."""
        with self._client.pipeline(transaction=True) as pipeline:
            pipeline.sadd(self._own(_TOMBSTONES), tombstone(value))
            pipeline.incr(self._own(_VERSION))
            pipeline.execute()
        removed = {}
        for name, keys in self._keys().items():
            if ERASABLE_KEY not in keys:
                continue
            place, view = keys.index(ERASABLE_KEY), self._view(name)
            if len(keys) == 1:
                names = [view + _text((value,))]
            else:
                names = [one for one in set(self._found(view)) if _parts(one[len(view) :])[place] == value]
            removed[name] = sum(self._client.unlink(*some) for some in _batches(names, _KEYS_A_QUERY))
        return removed

    def tombstones(self, hashes: Iterable[str]) -> None:
        """See `RowStore`."""
        with self._client.pipeline(transaction=True) as pipeline:
            pipeline.delete(self._own(_TOMBSTONES))
            if some := sorted(set(hashes)):
                pipeline.sadd(self._own(_TOMBSTONES), *some)
            pipeline.incr(self._own(_VERSION))
            pipeline.execute()

    def finish(self, load: str) -> None:
        """See `RowStore`. Whether it outlives the server is the server's configuration."""
        self._client.set(self._own(_LOADED), load)

    def loaded(self) -> str | None:
        """See `RowStore`."""
        load = self._client.get(self._own(_LOADED))
        return load.decode() if load is not None else None

    def close(self) -> None:
        """See `RowStore`."""
        self._client.close()
