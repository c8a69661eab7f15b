"""The online store of the settings, row by row and without Feast's messages: for loads and for the live path.

with OnlineRows(settings) as online:
    online.push_rows("recent_events", [Row(("ann",), micros, (ids, items, names, times, ...))])
    held = online.read_many("recent_events", ["ann", "bob"])      # {"ann": Row}
    online.change("recent_events", ["ann"], lambda held: [joined(held, news)])
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

import pyarrow as pa

from features.online_stores.rows import Key, RowStore
from features.online_stores.shape import Row, ViewShape
from features.store import close_store, in_use, open_store, places, store_errors
from shoplens.errors import StoreUnavailableError
from shoplens.settings import Settings

if TYPE_CHECKING:
    from feast import FeatureStore


class OnlineRows:
    """Rows of the store in use. Open it again when the store was made anew (`online.db` points elsewhere).

    Safe to share between threads, which take turns. Every method raises StoreUnavailableError when the store cannot be
    reached, read or written, or was never loaded; nothing of the call is written then.
    """

    def __init__(self, settings: Settings) -> None:
        """Open the store that the settings choose."""
        self._settings = settings
        self._feast: FeatureStore | None = None
        self._rows: RowStore | None = None
        self._shapes: dict[str, ViewShape] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _reaching(self) -> Iterator[tuple["FeatureStore", RowStore]]:
        from feast.errors import FeastObjectNotFoundException
        from google.protobuf.message import DecodeError

        where = places(self._settings)
        if not where.registry.is_file() or in_use(self._settings) is None:
            raise StoreUnavailableError(
                f"online store {where.home}: must hold a loaded store; run `shoplens materialize`"
            )
        try:
            if self._feast is None or self._rows is None:
                self._feast = open_store(self._settings)
                self._rows = self._feast._get_provider().online_store.rows(self._feast.config)
            yield self._feast, self._rows
        except (FeastObjectNotFoundException, DecodeError, *store_errors(self._settings)) as error:
            self.close()
            raise StoreUnavailableError(f"online store: cannot be used: {error}; is it loaded and up?") from error

    def shape(self, view: str) -> ViewShape:
        """Return the names of a view's keys and features, in the order of a `Row`'s; read once, as it was applied."""
        if view not in self._shapes:
            with self._reaching() as (feast, _):
                self._shapes[view] = ViewShape.of(feast.get_feature_view(view))
        return self._shapes[view]

    def push_rows(self, view: str, rows: Iterable[Row] | pa.Table | pa.RecordBatch) -> None:
        """Write rows of many keys in one transaction, each only over one that is not newer.

        Args:
            view: Name of the view.
            rows: Rows, values in the order of `shape(view).names`; or a table with columns for the keys,
                `event_timestamp` and every feature.

        Raises:
            FeatureError: a value is not of its feature's type.
        """
        shape = self.shape(view)
        with self._reaching() as (_, store):
            if isinstance(rows, pa.Table):
                rows = (
                    rows.combine_chunks().to_batches()[0]
                    if rows.num_rows
                    else pa.RecordBatch.from_pylist([], rows.schema)
                )
            if isinstance(rows, pa.RecordBatch):
                store.load(shape, rows)
            else:
                store.write(shape, rows)

    def read_many(self, view: str, keys: Sequence[str | Key]) -> dict[str | Key, Row]:
        """Return the rows that there are, under their keys as they were given; fresh or not: expiry is the reader's.

        Args:
            view: Name of the view.
            keys: One text a key, or a tuple where the view has several, in the order of `shape(view).keys`.
        """
        shape = self.shape(view)
        given = {(key,) if isinstance(key, str) else key: key for key in keys}
        with self._reaching() as (_, store):
            found = store.read(shape, list(given))
        return {given[key]: row for key, row in found.items()}

    def change(self, view: str, keys: Sequence[str | Key], change: Callable[[dict[Key, Row]], Iterable[Row]]) -> None:
        """Read the rows of keys and write what `change` makes of them, with no other writer in between.

        Newest wins here, too: what is returned must be as late as what was held, or it is not written.

        Args:
            view: Name of the view.
            keys: As for `read_many`.
            change: Gets the rows that there are under their keys as tuples; it may be called more than once.
        """
        shape = self.shape(view)
        with self._reaching() as (_, store):
            store.change(shape, [(key,) if isinstance(key, str) else key for key in keys], change)

    def close(self) -> None:
        """Let go of the store; the next use opens it again."""
        if self._feast is not None:
            close_store(self._feast)
        self._feast, self._rows, self._shapes = None, None, {}
