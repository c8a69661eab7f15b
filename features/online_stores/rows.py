"""What every online store can do with rows, whatever it is made of."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

import pyarrow as pa

from features.online_stores.cells import Cell
from features.online_stores.shape import Row, ViewShape

Key = tuple[str, ...]
Change = Callable[[dict[Key, Row]], Iterable[Row]]


class Progress(NamedTuple):
    """How far a load of a view is.

    Attributes:
        load: Names the load; another load begins at its first slice.
        slices: Slices that are in the store.
    """

    load: str
    slices: int


class CellRow(NamedTuple):
    """A row as it is kept: see `cells`."""

    key: Key
    event_micros: int
    cells: tuple[Cell, ...]


class RowStore(Protocol):
    """One row for each key of a view. A row is written whole, and only over one that is not newer.

    All methods raise what `features.store.store_errors` names when the store cannot be reached, read or written.
    """

    def prepare(self, shape: ViewShape) -> None:
        """Make room for a view; where its definition changed, values of features that stayed the same are kept."""

    def drop(self, name: str) -> None:
        """Remove a view and all its rows."""

    def write(self, shape: ViewShape, rows: Iterable[Row]) -> None:
        """Write rows, all or none; of two with one key and one moment the later in `rows` stays."""

    def load(self, shape: ViewShape, batch: pa.RecordBatch, progress: Progress | None = None) -> None:
        """Write a slice from Arrow (columns: keys, `event_timestamp`, features), and with it how far the load is."""

    def views(self) -> set[str]:
        """Return the names of the views that there may be rows of."""

    def progress(self, name: str, load: str) -> int:
        """Return how many slices of a load of a view are in the store."""

    def read(self, shape: ViewShape, keys: Sequence[Key], names: Sequence[str] | None = None) -> dict[Key, Row]:
        """Return the rows that there are; with `names`, only these features, in this order."""

    def change(self, shape: ViewShape, keys: Sequence[Key], change: Change) -> None:
        """Write what `change` makes of the rows of these keys, with nothing written between reading and writing.

        `change` may be called more than once and must depend on nothing but the rows; what it returns is written
        under the same rule as everything else.
        """

    def scan(self, shape: ViewShape) -> Iterator[CellRow]:
        """Yield all rows of a view, sorted by key."""

    def erase(self, value: str) -> dict[str, int]:
        """Remove all rows of a user, and refuse them from now on.

        Returns:
            How many rows were removed from each view that is keyed by users.
        """

    def tombstones(self, hashes: Iterable[str]) -> None:
        """Refuse the rows of exactly these erased users."""

    def finish(self, load: str) -> None:
        """Make all that was written durable, and keep that a load is complete."""

    def loaded(self) -> str | None:
        """Return the load that was completed last; None where none was, or the store has lost its content."""

    def close(self) -> None:
        """Let go of the store."""
