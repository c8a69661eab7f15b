"""A lake: Delta tables below one folder or object-store prefix, opened, created and written to.

    LAKE/events/day=2024-07-01/NAME.parquet     one row per event, partitioned by day
    LAKE/items  users  campaigns  promotions  stock  item_content  quarantine  accounts/NAME.parquet
    LAKE/known_ids/                             which event IDs there are (`events.lake.known_ids`); can be rebuilt
    LAKE/pending/                               accounts of commits in progress (`events.lake.commit`)

Every row carries the `batch` that added it. A batch counts when its events are committed; only then its account is in
`accounts`, and only rows of batches in `accounts` are read from the other tables.
"""

import contextlib
import errno
import io
import json
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from events.contract import EVENT_SCHEMA, QUARANTINE_SCHEMA, SIDE_SCHEMAS, UTC_TIME
from events.sources.files import first_line
from events.transform.items import CONTENT_SCHEMA
from shoplens.errors import SourceError

Place = str | Path
EVENTS, CONTENT, QUARANTINE, ACCOUNTS = "events", "item_content", "quarantine", "accounts"
ACCOUNT_SCHEMA: dict[str, Any] = {
    "inputs": pl.String,  # what the batch was made of; the same inputs are committed once
    "mapping": pl.String,
    "version": pl.Int64,  # of the Delta table `events`, with this batch in it
    "committed_at": UTC_TIME,
    "tables": pl.String,  # JSON: what became of the rows of each file
    "days": pl.List(pl.String),
    "late_days": pl.List(pl.String),
    "duplicates_of": pl.List(pl.String),  # batches whose events this batch repeated
    "reverts": pl.String,
    "replayed": pl.List(pl.Struct({"batch": pl.String, "table": pl.String, "row": pl.Int64})),
    "sources": pl.String,  # JSON: the columns of the files (`events.lake.schema_changes`)
}
SCHEMAS: dict[str, dict[str, Any]] = {
    EVENTS: EVENT_SCHEMA | {"batch": pl.String, "day": pl.Date},
    **{
        name: schema | {"batch": pl.String}
        for name, schema in (
            *SIDE_SCHEMAS.items(),
            (CONTENT, CONTENT_SCHEMA),
            (QUARANTINE, QUARANTINE_SCHEMA),
            (ACCOUNTS, ACCOUNT_SCHEMA),
        )
    },
}
# No statistics of other columns: Delta's log keeps them, and an erased person's ID could be one.
_STATISTICS = {EVENTS: ("event_time", "ingested_at", "batch")}
_OWN_NAMES = {*SCHEMAS, "known_ids", "pending", "live"}
_OLD_NAMES = {"lake.json", "manifests"}
_OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az")
_PROBES = 4
_TRIES = 100
ROW_GROUP = 1 << 17


def is_url(place: Place) -> bool:
    """Return whether a place is named by a URL rather than by a path."""
    return isinstance(place, str) and "://" in place


STORE_ERRORS = (OSError, DeltaError, pa.ArrowException, pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""What Delta, Arrow, Polars and the disk raise where a lake cannot be read or written."""

_GONE = "a file is gone: it was vacuumed, erased or taken away. Read the newest version, or restore it"
_UNREACHABLE = (
    "it cannot be reached. Check the URL, the network and the credentials (for S3: AWS_ACCESS_KEY_ID, "
    "AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL)"
)
_CAUSES = (  # words of the error -> what it means and what to do; the first that fits
    (("no space left", "disk quota"), "the disk is full; nothing was committed. Free some space and run it again"),
    (("read-only", "permission denied"), "the place cannot be written; nothing was committed. Name another place"),
    (("bucket", "connect", "credential"), _UNREACHABLE),
    (("not found", "no such file"), _GONE),
    (("",), "a file of it is damaged, or it cannot be reached. Restore the file, or check the URL and the credentials"),
)


@contextmanager
def clear_errors(name: str) -> Iterator[None]:
    """Raise a SourceError of one line in place of STORE_ERRORS."""
    try:
        yield
    except STORE_ERRORS as error:
        text = f"{'no such file ' if isinstance(error, FileNotFoundError) else ''}{error}".lower()
        cause = next(cause for words, cause in _CAUSES if any(word in text for word in words))
        raise SourceError(f"lake: {name}: {first_line(error)}: {cause}") from error


def _storage_options(url: str) -> dict[str, str] | None:
    """Return the options of an object store from the AWS_* environment; other stores read theirs themselves."""
    if not url.startswith(("s3://", "s3a://")):
        return None
    options = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    endpoint = options.pop("AWS_ENDPOINT_URL_S3", None) or options.get("AWS_ENDPOINT_URL")
    if endpoint:
        options |= {"AWS_ENDPOINT_URL": endpoint}
        options |= {"AWS_ALLOW_HTTP": "true"} if endpoint.startswith("http://") else {}
    return options | {"aws_conditional_put": "etag"}


class Lake:
    """The place of a lake: a folder of this machine, or a prefix of an object store."""

    def __init__(self, place: Place) -> None:
        """Name the place; nothing is opened or created.

        Raises:
            SourceError: the URL is of a store that cannot hold a lake.
        """
        self.name = str(place)
        self.uri = self.name.rstrip("/") if is_url(place) else self.name
        self.folder: Path | None = None
        scheme, _, rest = self.name.partition("://")
        if not is_url(place) or scheme in ("file", "local"):
            self.folder = Path(rest if is_url(place) else place)
            self.uri = str(self.folder)
        elif scheme not in _OBJECT_STORES:
            raise SourceError(
                f"--lake: must be a folder or a URL of {', '.join(_OBJECT_STORES)}; received {self.name!r}. A lake "
                f"needs a store with writes that fail where a file exists"
            )
        elif not rest.strip("/"):
            raise SourceError(f"--lake: must name a bucket and a prefix, as s3://bucket/prefix; received {self.name!r}")
        self.options = _storage_options(self.uri)

    @cached_property
    def files(self) -> pafs.FileSystem:
        """The files below the lake, as an Arrow file system with relative paths."""
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            return pafs.SubTreeFileSystem(str(self.folder), pafs.LocalFileSystem())
        # Not deltalake's own file system, which keeps other threads from running while it waits for the store.
        return pafs.SubTreeFileSystem(self.root, pafs.PyFileSystem(pafs.FSSpecHandler(self.store)))

    @cached_property
    def store(self) -> Any:
        """The object store, as an fsspec file system."""
        endpoint = {"endpoint_url": self.options.get("AWS_ENDPOINT_URL")} if self.options else {}
        try:
            return fsspec.core.url_to_fs(self.uri, use_listings_cache=False, **endpoint)[0]
        except (ImportError, ValueError) as error:
            raise SourceError(
                f"--lake: {self.name}: no file system for this URL: {first_line(error)}. Name a folder, or install "
                f"the fsspec package of that store"
            ) from error

    @property
    def root(self) -> str:
        """The bucket and prefix of an object store."""
        return self.uri.partition("://")[2]

    def names(self, folder: str = "") -> list[str]:
        """Return the names of the files and folders in a folder of the lake; none where there is no such folder."""
        try:
            if self.folder is not None:
                return sorted(path.name for path in (self.folder / folder).iterdir())
            paths = self.store.ls(f"{self.root}/{folder}".rstrip("/"), detail=False)
        except FileNotFoundError:
            return []
        return sorted(name for path in paths if (name := path.rstrip("/").rpartition("/")[2]))

    def read_bytes(self, path: str) -> bytes:
        """Return the content of a file; raise FileNotFoundError where there is none."""
        if self.folder is not None:
            return (self.folder / path).read_bytes()
        with self.files.open_input_stream(path) as stream:
            return bytes(stream.read())

    def sync(self, path: str) -> None:
        """Put a file that was written to a folder, and its entry there, on the disk; an object store did already."""
        if self.folder is not None:
            for target in (self.folder / path, (self.folder / path).parent):
                descriptor = os.open(target, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)

    def write_bytes(self, path: str, content: bytes) -> None:
        """Write a file, whole or not at all."""
        if self.folder is None:
            with self.files.open_output_stream(path) as stream:
                stream.write(content)
            return
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        work = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
        try:
            with work.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            work.replace(target)
        finally:
            work.unlink(missing_ok=True)

    def delete(self, path: str) -> None:
        """Delete a file, if there is one."""
        if self.folder is not None:
            (self.folder / path).unlink(missing_ok=True)
        else:
            with contextlib.suppress(FileNotFoundError):
                self.store.rm_file(f"{self.root}/{path}")

    def find(self, name: str, version: int | None = None) -> DeltaTable | None:
        """Open a table of the lake, at its newest version by default; None where there is none."""
        if self.folder is not None and not (self.folder / name / "_delta_log").is_dir():
            return None
        try:
            return DeltaTable(f"{self.uri}/{name}", version=version, storage_options=self.options)
        except TableNotFoundError:
            return None

    def open(self, name: str, configuration: Mapping[str, str] | None = None) -> DeltaTable:
        """Open a table, created if it is new, with every column of today's schema."""
        table = self.find(name)
        if table is None:
            columns = ",".join(_STATISTICS.get(name, ("batch",)))
            with contextlib.suppress(CommitFailedError):  # another writer created it
                DeltaTable.create(
                    f"{self.uri}/{name}",
                    _delta_schema(pl.DataFrame(schema=SCHEMAS[name])),
                    mode="ignore",
                    partition_by=["day"] if name == EVENTS else None,
                    configuration={"delta.dataSkippingStatsColumns": columns, **(configuration or {})},
                    storage_options=self.options,
                    raise_if_key_not_exists=False,
                    commit_properties=CommitProperties(max_commit_retries=0),
                )
            table = DeltaTable(f"{self.uri}/{name}", storage_options=self.options)
        return with_columns(table, pl.DataFrame(schema=SCHEMAS[name]))

    def write(self, name: str, frame: pl.DataFrame, batch: str, day: date | None = None) -> AddAction:
        """Write rows as a new file that no version of the table names yet."""
        folder = f"day={day}/" if day else ""
        path = f"{folder}{batch}-{uuid.uuid4().hex[:12]}.parquet"
        rows = frame if name == ACCOUNTS else frame.with_columns(pl.lit(batch).alias("batch"))
        return self.write_as(name, path, rows, {"day": str(day)} if day else {})

    def write_as(self, name: str, path: str, rows: pl.DataFrame, partition: dict[str, str | None]) -> AddAction:
        """Write rows, their `batch` included, to a path below the table."""
        buffer = io.BytesIO()
        rows.write_parquet(buffer, compression="zstd", row_group_size=ROW_GROUP)
        content = buffer.getbuffer()
        if self.folder is None:
            with self.files.open_output_stream(f"{name}/{path}") as stream:
                stream.write(content)
        else:
            target = self.folder / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            self.sync(f"{name}/{path}")
        now, stats = int(time.time() * 1000), json.dumps(_statistics(rows, _STATISTICS.get(name, ("batch",))))
        return AddAction(path, content.nbytes, partition, now, True, stats)

    def append(self, name: str, frame: pl.DataFrame, batch: str) -> None:
        """Append rows of a batch to a table other than the events, in one commit."""
        if frame.is_empty():
            return
        for _ in range(_TRIES):
            table = with_columns(self.open(name), frame)
            add = self.write(name, frame, batch)
            try:
                commit(table, [add], [])
            except CommitFailedError:
                continue  # another writer added a column
            return
        raise SourceError(f"lake: {self.name}: table {name}: other writers were first {_TRIES} times. Run it again")


def _delta_schema(frame: pl.DataFrame) -> Schema:
    return Schema.from_arrow(frame.head(0).to_arrow().schema)


def with_columns(table: DeltaTable, frame: pl.DataFrame) -> DeltaTable:
    """Return the table with the columns that a frame has and it lacks: null in the rows that it holds."""
    held = {field.name for field in table.schema().fields}
    new = [field for field in _delta_schema(frame.head(0)).fields if field.name not in held]
    if new:
        table.alter.add_columns(new)
        table.update_incremental()
    return table


def commit(
    table: DeltaTable,
    actions: list[AddAction | RemoveAction],
    transactions: list[Transaction],
    metadata: dict[str, Any] | None = None,
) -> None:
    """Commit files to a table that was read at `table.version()`.

    Raises:
        CommitFailedError: another writer committed one of the `transactions` since, or removed what was read.
    """
    properties = CommitProperties(custom_metadata=metadata, app_transactions=transactions)
    partitions = table.metadata().partition_columns
    table.create_write_transaction(actions, "append", table.schema(), partitions, commit_properties=properties)


def _statistics(rows: pl.DataFrame, columns: Iterable[str]) -> dict[str, Any]:
    """Return Delta's statistics of a file: https://github.com/delta-io/delta/blob/master/PROTOCOL.md#per-file-statistics."""
    found: dict[str, Any] = {"numRecords": rows.height, "minValues": {}, "maxValues": {}, "nullCount": {}}
    for name in columns:
        found["nullCount"][name] = rows[name].null_count()
        for key, value in (("minValues", rows[name].min()), ("maxValues", rows[name].max())):
            if value is not None:
                found[key][name] = f"{value:%Y-%m-%dT%H:%M:%S.%fZ}" if isinstance(value, datetime) else value
    return found


def identity_of(lake: Lake) -> str | None:
    """Return the kind of identity of a lake, `user` or `session`; None where there is no lake.

    Raises:
        SourceError: the place holds a lake in a format that is not read any more.
    """
    with clear_errors(lake.name):
        table = lake.find(EVENTS)
        if table is not None:
            return str(table.metadata().configuration.get("shoplens.identity"))
        if lake.folder is None or lake.folder.is_dir():
            _reject_old(lake, set(lake.names()))
    return None


def _reject_old(lake: Lake, names: set[str]) -> None:
    if names >= _OLD_NAMES or (_OLD_NAMES & names and EVENTS in names):
        raise SourceError(
            f"lake: {lake.name} was written by an older ShopLens, in a format that is not read any more. Ingest the "
            f"files again into a new place"
        )


def existing(place: Place) -> Lake:
    """Return the lake at a place.

    Raises:
        SourceError: there is none.
    """
    lake = Lake(place)
    if identity_of(lake) is None:
        raise SourceError(
            f"--lake: must be a lake; {lake.name} is none. Name the place that `shoplens ingest --lake` filled"
        )
    return lake


def created(place: Place, identity: str, whose: str) -> Lake:
    """Return the lake at a place, created if it is new.

    Raises:
        SourceError: it holds another kind of identity or other files, or its store cannot hold a lake.
    """
    lake = Lake(place)
    held = identity_of(lake)
    if held is None:
        with clear_errors(lake.name):
            _check_place(lake)
            lake.open(EVENTS, {"shoplens.identity": identity})
        held = identity_of(lake)
    check_same_identity(str(held), identity, whose, lake.name)
    return lake


def check_same_identity(held: str, identity: str, whose: str, name: str) -> None:
    """Raise a SourceError where a lake's kind of identity is another than that of what comes."""
    if held != identity:
        raise SourceError(
            f"lake: {name} holds events whose identity is {held!r}; {whose} has {identity!r}: give it a lake of its own"
        )


def _check_place(lake: Lake) -> None:
    if lake.folder is not None and lake.folder.exists() and not lake.folder.is_dir():
        raise SourceError(
            f"--lake: must be a lake, a new or an empty folder; {lake.name} is a file. Name another place"
        )
    names = set(lake.names())
    if any(name not in _OWN_NAMES and not name.startswith(".") for name in names):
        raise SourceError(
            f"--lake: must be a lake, a new or an empty folder; {lake.name} holds other things. Name another place"
        )
    if lake.options is not None and not _creates_once(lake):
        raise SourceError(
            f"--lake: {lake.name}: its store overwrites a file in spite of If-None-Match, so that two writers would "
            f"overwrite each other. Use another store, or a newer version of this one"
        )


def _creates_once(lake: Lake) -> bool:
    """Return whether an S3 store keeps exactly one of several files created under one name at the same time.

    Some stores do not know the condition, or check first and then write
    (https://github.com/seaweedfs/seaweedfs/issues/7153 and 8800).
    """
    fs, path = lake.store, f"{lake.root}/.{uuid.uuid4().hex}.tmp"

    def create(content: int) -> bool:
        try:
            fs.pipe_file(path, b"%d" % content, mode="create")
        except FileExistsError:
            return False
        except OSError as error:
            if "ConditionalRequestConflict" in f"{error} {error.__cause__}" or error.errno == errno.EBUSY:
                return False
            raise
        return True

    try:
        with ThreadPoolExecutor(_PROBES) as pool:
            return sum(pool.map(create, range(_PROBES))) == 1
    finally:
        if fs.exists(path):
            fs.rm_file(path)


class GroupedWriter:
    """Rows as they come, into a Parquet file of row groups of one size: the same rows give the same bytes."""

    def __init__(self, place: Any, schema: Mapping[str, Any], group: int = ROW_GROUP) -> None:
        self._schema, self._group = schema, group
        self._kept = pl.DataFrame(schema=schema)
        self._writer = pq.ParquetWriter(place, self._kept.to_arrow().schema, compression="zstd")
        self.rows = 0

    def add(self, frame: pl.DataFrame) -> None:
        """Add the rows of a frame of the schema."""
        self._kept = pl.concat([self._kept, frame.select(list(self._schema))])
        whole = self._kept.height // self._group * self._group
        for start in range(0, whole, self._group):
            self._write(self._kept.slice(start, self._group))
        self._kept = self._kept.slice(whole)

    def _write(self, frame: pl.DataFrame) -> None:
        self._writer.write_table(frame.rechunk().to_arrow(), row_group_size=self._group)
        self.rows += frame.height

    def close(self) -> None:
        """Write what is left and end the file."""
        if self._kept.height:
            self._write(self._kept)
        self._writer.close()
