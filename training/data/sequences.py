"""Users' item histories as flat arrays that can be memory-mapped."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoplens.errors import SourceError
from shoplens.files import read_json, whole_folder, write_json

PADDING = 0  # the item index that no item has
_CARD = "sequences.json"


@dataclass(frozen=True)
class Sequences:
    """Every user's items in time order. Items are numbered from 1; 0 is padding.

    Attributes:
        offsets: Where each user's events begin, and where the last one's end, int64 (users + 1,).
        item: The item of each event, int32 (events,).
        time: Unix seconds of each event, int64 (events,); None if the source has no times.
        items: The number of items; `item` is at most this.
        names: The source's name of each item, (items,): `names[k]` is that of item k + 1. None if it was not kept.
    """

    offsets: NDArray[np.int64]
    item: NDArray[np.int32]
    time: NDArray[np.int64] | None
    items: int
    names: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        if len(self.offsets) < 2 or self.offsets[-1] != len(self.item):
            raise SourceError(
                f"offsets: must end with the number of events, {len(self.item)}; received "
                f"{self.offsets[-1] if len(self.offsets) else 'none'} for {len(self.offsets) - 1} users"
            )
        if self.time is not None and len(self.time) != len(self.item):
            raise SourceError(f"time: must have one value per event, {len(self.item)}; received {len(self.time)}")

    @property
    def users(self) -> int:
        """The number of users."""
        return len(self.offsets) - 1

    def seconds(self, events: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return the times of some events in seconds since the first user's first event, as int32.

        32 bits hold 68 years on each side; GPUs and JAX's defaults have no 64-bit integers. Without times, all are 0.
        """
        if self.time is None:
            return np.zeros(events.shape, np.int32)
        since: NDArray[np.int64] = self.time[events] - self.time[0]
        return since.astype(np.int32)

    def save(self, folder: Path) -> None:
        """Write the arrays as .npy files, atomically."""
        with whole_folder(folder) as work:
            for name in ("offsets", "item", "time", "names"):
                array: NDArray[Any] | None = getattr(self, name)
                if array is not None:
                    np.save(work / f"{name}.npy", array)
            write_json(work / _CARD, {"items": self.items})

    @classmethod
    def open(cls, folder: Path) -> "Sequences":
        """Open what `save` wrote; the arrays are memory-mapped.

        Raises:
            SourceError: the folder does not contain sequences.
        """
        try:
            items = int(read_json(folder / _CARD)["items"])
            found = {path.stem: np.load(path, mmap_mode="r") for path in folder.glob("*.npy")}
            return cls(found["offsets"], found["item"], found.get("time"), items, found.get("names"))
        except (OSError, ValueError, KeyError) as error:
            raise SourceError(f"{folder}: must hold saved sequences; cannot be read ({error})") from error
