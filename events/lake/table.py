"""A lake: Delta tables below one folder or object-store prefix.

    LAKE/events/day=2024-07-01/NAME.parquet     one row per event, partitioned by day
    LAKE/items  users  campaigns  promotions  stock  item_content  quarantine  accounts/NAME.parquet
    LAKE/known_ids/                             which event IDs there are (`events.lake.known_ids`); can be rebuilt
    LAKE/pending/                               accounts of commits in progress (`events.lake.commit`)

Every row has the `batch` that added it. A batch is valid once its events are committed; its account is then in
`accounts`, and readers of the other tables ignore rows of batches that are not.
"""

import contextlib
import errno
import io
import json
import os
import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import fsspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

from events.contract import EVENT_SCHEMA, QUARANTINE_SCHEMA, SIDE_SCHEMAS, UTC_TIME
from events.parquet import ROW_GROUP
from events.sources.files import first_line
from events.transform.side_tables import CONTENT_SCHEMA
from shoplens.errors import SourceError
from shoplens.files import whole_file

Place = str | Path
Actions = list[AddAction | RemoveAction]
EVENTS, CONTENT, QUARANTINE, ACCOUNTS = "events", "item_content", "quarantine", "accounts"
ACCOUNT_SCHEMA: dict[str, Any] = {
    "inputs": pl.String,  # identifies the content of the batch; the same inputs are committed only once
    "mapping": pl.String,
    "version": pl.Int64,  # first version of the Delta table `events` with this batch
    "committed_at": UTC_TIME,
    "tables": pl.String,  # JSON: the account of each file
    "days": pl.List(pl.String),
    "late_days": pl.List(pl.String),
    "duplicates_of": pl.List(pl.String),  # batches that hold duplicates of this batch's events
    "reverts": pl.String,
    "replayed": pl.List(pl.Struct({"batch": pl.String, "table": pl.String, "row": pl.Int64})),
    "sources": pl.String,  # JSON: the columns of the files (`events.lake.schema_changes`)
}
_OTHERS = {CONTENT: CONTENT_SCHEMA, QUARANTINE: QUARANTINE_SCHEMA, ACCOUNTS: ACCOUNT_SCHEMA}
SCHEMAS: dict[str, dict[str, Any]] = {EVENTS: EVENT_SCHEMA | {"batch": pl.String, "day": pl.Date}} | {
    name: schema | {"batch": pl.String} for name, schema in (SIDE_SCHEMAS | _OTHERS).items()
}
_OWN_NAMES = {*SCHEMAS, "known_ids", "pending", "live"}
_OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az")
_IDENTITY = "shoplens.identity"  # in the configuration of the events
_PROBES = 4
_TRIES = 1000
_SHORT, _LONG = 0.01, 1.0  # seconds between tries

STORE_ERRORS = (OSError, DeltaError, pa.ArrowException, pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""Exceptions of Delta, Arrow, Polars and the file system when a lake cannot be read or written."""

_UNREACHABLE = (
    "it cannot be reached. Check the URL, the network and the credentials (for S3: AWS_ACCESS_KEY_ID, "
    "AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL)"
)
_GONE = "a file is gone: it was vacuumed, erased or taken away. Read the newest version, or restore it"
_CAUSES = (  # words of an error -> cause and remedy; the first match wins
    (("no space left", "disk quota"), "the disk is full; nothing was committed. Free some space and run it again"),
    (("read-only", "permission denied"), "the place cannot be written; nothing was committed. Name another place"),
    (("bucket", "connect", "credential"), _UNREACHABLE),
    (("not found", "no such file"), _GONE),
    (("",), "a file of it is damaged, or it cannot be reached. Restore the file, or check the URL and the credentials"),
)


def is_url(place: Place) -> bool:
    """Return whether a place is a URL rather than a path."""
    return isinstance(place, str) and "://" in place


@contextmanager
def clear_errors(name: str) -> Iterator[None]:
    """Convert STORE_ERRORS to a one-line SourceError."""
    try:
        yield
    except STORE_ERRORS as error:
        text = f"{'no such file ' if isinstance(error, FileNotFoundError) else ''}{error}".lower()
        cause = next(cause for words, cause in _CAUSES if any(word in text for word in words))
        raise SourceError(f"lake: {name}: {first_line(error)}: {cause}") from error


Result = TypeVar("Result")


def retried(name: str, attempt: Callable[[], Result]) -> Result:
    """Call `attempt` and return its result, retrying with increasing pauses after a CommitFailedError.

    Raises:
        SourceError: other writers won every retry.
    """
    for tries in range(_TRIES):
        try:
            return attempt()
        except CommitFailedError:
            time.sleep(random.uniform(0, min(_LONG, _SHORT * 2 ** min(tries, 10))))  # noqa: S311  (no secret)
    raise SourceError(f"lake: {name}: other writers committed first {_TRIES} times. Run it again")


def _storage_options(url: str) -> dict[str, str] | None:
    """Return S3 options from the AWS_* environment variables; other stores read their own."""
    if not url.startswith(("s3://", "s3a://")):
        return None
    options = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    endpoint = options.pop("AWS_ENDPOINT_URL_S3", None) or options.get("AWS_ENDPOINT_URL")
    if endpoint:
        options |= {"AWS_ENDPOINT_URL": endpoint}
        options |= {"AWS_ALLOW_HTTP": "true"} if endpoint.startswith("http://") else {}
    return options | {"aws_conditional_put": "etag"}


class Lake:
    """A lake in a local folder or at a prefix of an object store."""

    def __init__(self, place: Place) -> None:
        """Set the location without opening or creating anything.

        Raises:
            SourceError: the URL's store cannot hold a lake.
        """
        self.name = str(place)
        scheme, _, rest = self.name.partition("://") if is_url(place) else ("file", "", self.name)
        self.folder = Path(rest) if scheme in ("file", "local") else None
        if self.folder is None and scheme not in _OBJECT_STORES:
            raise SourceError(
                f"--lake: must be a folder or a URL of {', '.join(_OBJECT_STORES)}; received {self.name!r}. A lake "
                f"needs a store with writes that fail where a file exists"
            )
        if self.folder is None and not rest.strip("/"):
            raise SourceError(f"--lake: must name a bucket and a prefix, as s3://bucket/prefix; received {self.name!r}")
        self.uri = str(self.folder or self.name.rstrip("/"))
        self.options = _storage_options(self.uri)

    @cached_property
    def files(self) -> DirFileSystem:
        """File system rooted at the lake."""
        # deltalake's own file system blocks other threads while it waits for the store.
        if self.folder is not None:
            return DirFileSystem(str(self.folder.absolute()), LocalFileSystem(auto_mkdir=True))
        endpoint = {"endpoint_url": self.options.get("AWS_ENDPOINT_URL")} if self.options else {}
        try:
            store, root = fsspec.core.url_to_fs(self.uri, use_listings_cache=False, **endpoint)
        except (ImportError, ValueError) as error:
            raise SourceError(
                f"--lake: {self.name}: no file system for this URL: {first_line(error)}. Name a folder, or install "
                f"the fsspec package of that store"
            ) from error
        return DirFileSystem(root, store)

    def names(self, folder: str = "") -> list[str]:
        """Return the names in a folder of the lake; empty if the folder does not exist."""
        try:
            paths = self.files.ls(folder, detail=False)
        except FileNotFoundError:
            return []
        return sorted(name for path in paths if (name := path.rstrip("/").rpartition("/")[2]))

    def sync(self, path: str) -> None:
        """Sync a local file and its directory entry to disk; object stores need no sync."""
        if self.folder is not None:
            for target in (self.folder / path, (self.folder / path).parent):
                descriptor = os.open(target, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)

    def write_bytes(self, path: str, content: bytes) -> None:
        """Write a file atomically."""
        if self.folder is None:
            self.files.pipe_file(path, content)
            return
        with whole_file(self.folder / path) as work:
            work.write_bytes(content)
            self.sync(str(work.relative_to(self.folder)))

    def delete(self, path: str) -> None:
        """Delete a file if it exists."""
        with contextlib.suppress(FileNotFoundError):
            self.files.rm_file(path)

    def find(self, name: str, version: int | None = None) -> DeltaTable | None:
        """Open a table of the lake, at its newest version by default; None if it does not exist."""
        if self.folder is not None and not (self.folder / name / "_delta_log").is_dir():
            return None
        try:
            return DeltaTable(f"{self.uri}/{name}", version=version, storage_options=self.options)
        except TableNotFoundError:
            return None

    def tables(self) -> dict[str, DeltaTable]:
        """Open all tables of the lake."""
        return {name: table for name in SCHEMAS if (table := self.find(name)) is not None}

    def open(self, name: str, configuration: Mapping[str, str] | None = None) -> DeltaTable:
        """Open a table, creating it or adding missing columns of the current schema if necessary."""
        table = self.find(name)
        if table is None:
            with contextlib.suppress(CommitFailedError):  # another writer created it first
                DeltaTable.create(
                    f"{self.uri}/{name}",
                    _delta_schema(pl.DataFrame(schema=SCHEMAS[name])),
                    mode="ignore",
                    partition_by=["day"] if name == EVENTS else None,
                    configuration={"delta.dataSkippingStatsColumns": ",".join(_known(name)), **(configuration or {})},
                    storage_options=self.options,
                    raise_if_key_not_exists=False,
                    commit_properties=CommitProperties(max_commit_retries=0),
                )
            table = DeltaTable(f"{self.uri}/{name}", storage_options=self.options)
        return _with_columns(table, pl.DataFrame(schema=SCHEMAS[name]))

    def write(self, name: str, rows: pl.DataFrame, prefix: str, day: date | None = None) -> AddAction:
        """Write rows with their `batch` to a new file of a table; no version references it yet."""
        path = f"{f'day={day}/' if day else ''}{prefix}-{uuid.uuid4().hex[:12]}.parquet"
        buffer = io.BytesIO()
        rows.write_parquet(buffer, compression="zstd", row_group_size=ROW_GROUP)
        self.files.pipe_file(f"{name}/{path}", buffer.getvalue())
        self.sync(f"{name}/{path}")
        statistics = _statistics(rows.select(_known(name)))
        return AddAction(path, buffer.tell(), _partition(day), int(time.time() * 1000), True, statistics)

    def read(self, path: str, columns: list[str] | None = None) -> pl.DataFrame:
        """Return the rows of a Parquet file, with those of `columns` that it has."""
        with self.files.open(path) as stream, pq.ParquetFile(stream) as source:
            return pl.DataFrame(source.read(columns))

    def append(self, name: str, frame: pl.DataFrame, batch: str) -> None:
        """Append rows of a batch to a table other than `events` in one commit."""

        def attempt() -> None:  # fails if another writer adds a column
            table = _with_columns(self.open(name), frame)
            commit(table, [self.write(name, frame.with_columns(pl.lit(batch).alias("batch")), batch)], [])

        if frame.height:
            retried(self.name, attempt)

    def events(self, version: int | None = None) -> DeltaTable:
        """Open the events of a lake, at its newest version or at an earlier one.

        Raises:
            SourceError: there is no lake, or the version no longer exists.
        """
        with clear_errors(self.name):
            try:
                table = self.find(EVENTS, version)
            except DeltaError as error:
                if version is None:
                    raise
                raise SourceError(
                    f"lake: {self.name} has no version {version}: {first_line(error)}. `shoplens lake status` lists "
                    f"its versions"
                ) from error
        if table is None:
            raise SourceError(
                f"--lake: must be a lake; {self.name} is not. Give the location that `shoplens ingest --lake` wrote to"
            )
        return table


def identity_of(events: DeltaTable) -> str:
    """Return the kind of identity of the lake that a table of events belongs to."""
    return str(events.metadata().configuration.get(_IDENTITY))


def added_files(table: DeltaTable) -> pl.DataFrame:
    """Return the files of a table: path, size_bytes, num_records, partition.day (events only) and statistics."""
    return pl.DataFrame(table.get_add_actions(flatten=True))


def removed(file: dict[str, Any], *, data_change: bool) -> RemoveAction:
    """Return the action that removes a file of `added_files` from its table."""
    partition, now = _partition(file.get("partition.day")), int(time.time() * 1000)
    return RemoveAction(file["path"], data_change, now, file["size_bytes"], partition)


def _partition(day: date | None) -> dict[str, str | None]:
    return {"day": str(day)} if day else {}


def _delta_schema(frame: pl.DataFrame) -> Schema:
    return Schema.from_arrow(frame.head(0).to_arrow().schema)


def _with_columns(table: DeltaTable, frame: pl.DataFrame) -> DeltaTable:
    """Return the table extended by the missing columns of a frame, which are null in existing rows."""
    held = {field.name for field in table.schema().fields}
    new = [field for field in _delta_schema(frame).fields if field.name not in held]
    if new:
        table.alter.add_columns(new)
        table.update_incremental()
    return table


def commit(
    table: DeltaTable,
    actions: Actions,
    transactions: list[Transaction],
    metadata: dict[str, Any] | None = None,
    retries: int | None = None,
) -> None:
    """Commit file actions to a table that was read at `table.version()`.

    With 0 `retries` it becomes the next version or fails; otherwise non-conflicting commits may come first.

    Raises:
        CommitFailedError: another writer has since committed one of the `transactions`, or removed files that we read.
    """
    properties = CommitProperties(metadata, retries, transactions)
    partitions = table.metadata().partition_columns
    table.create_write_transaction(actions, "append", table.schema(), partitions, commit_properties=properties)


@contextmanager
def again_if_erased(lake: Lake, name: str, table: DeltaTable) -> Iterator[None]:
    """Raise a CommitFailedError, so that the caller tries again, if an erasure has deleted files of the table."""
    try:
        yield
    except FileNotFoundError as error:
        newest = lake.find(name)
        if newest is not None and newest.version() > table.version():
            raise CommitFailedError(str(error)) from error
        raise


def _known(name: str) -> tuple[str, ...]:
    """Return the columns with statistics. Delta's log keeps statistics, so they must never include a person's ID."""
    return ("event_time", "ingested_at", "batch") if name == EVENTS else ("batch",)


def _statistics(columns: pl.DataFrame) -> str:
    """Return Delta's statistics of a file: https://github.com/delta-io/delta/blob/master/PROTOCOL.md#per-file-statistics."""
    found = {"minValues": columns.min(), "maxValues": columns.max(), "nullCount": columns.null_count()}
    limits = {
        key: {name: value for name, value in frame.row(0, named=True).items() if value is not None}
        for key, frame in found.items()
    }
    content = {"numRecords": columns.height} | limits
    return json.dumps(content, default=lambda moment: f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}")


def created(place: Place, identity: str, whose: str) -> Lake:
    """Return the lake at a place, creating it if it does not exist.

    Raises:
        SourceError: the place holds a lake with another kind of identity or other files, or its store is unsuitable.
    """
    lake = Lake(place)
    with clear_errors(lake.name):
        events = lake.find(EVENTS)
        if events is None:
            _check_place(lake)
            events = lake.open(EVENTS, {_IDENTITY: identity})
    require_same_identity(identity_of(events), identity, whose, lake.name)
    return lake


def require_same_identity(held: str, identity: str, whose: str, name: str) -> None:
    """Raise a SourceError if a lake's kind of identity differs from that of the incoming data."""
    if held != identity:
        raise SourceError(
            f"lake: {name} holds events whose identity is {held!r}; {whose} has {identity!r}: use a separate lake"
        )


def _check_place(lake: Lake) -> None:
    """Raise a SourceError if a new lake cannot be created."""
    problem = None
    if lake.folder is not None and lake.folder.exists() and not lake.folder.is_dir():
        problem = "is a file"
    elif any(name not in _OWN_NAMES and not name.startswith(".") for name in lake.names()):
        problem = "holds other things"
    if problem:
        raise SourceError(
            f"--lake: must be a lake, a new or an empty folder; {lake.name} {problem}. Name another place"
        )
    if lake.options is not None and not _creates_once(lake):
        raise SourceError(
            f"--lake: {lake.name}: its store overwrites a file in spite of If-None-Match, so that two writers would "
            f"overwrite each other. Use another store, or a newer version of this one"
        )


def _creates_once(lake: Lake) -> bool:
    """Return whether an S3 store accepts exactly one of several concurrent conditional writes of one name.

    Some stores ignore the condition, or check it before writing rather than atomically
    (https://github.com/seaweedfs/seaweedfs/issues/7153 and 8800).
    """
    path = f".{uuid.uuid4().hex}.tmp"

    def create(content: int) -> bool:
        try:
            lake.files.pipe_file(path, b"%d" % content, mode="create")
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
        lake.delete(path)
