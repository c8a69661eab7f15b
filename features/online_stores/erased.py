"""Tombstones: which ids were removed on request, told by hashes and never by the ids themselves.

A store refuses rows of an erased id, so that neither a late push nor data that still hold it bring it back.
"""

from collections.abc import Callable, Iterable
from hashlib import blake2b

from features.online_stores.shape import ViewShape

ERASABLE_KEY = "user_id"  # a person; items and the like are nobody
_PERSON = b"shoplens-erased"


def tombstone(value: str) -> str:
    """Return the tombstone of an id: who knows the id can check that it was erased, and nobody can read it off."""
    return blake2b(value.encode(), digest_size=16, person=_PERSON).hexdigest()


class Erased:
    """The tombstones of a store as last seen; the store says by a version when they are others."""

    def __init__(self) -> None:
        self._version = -1
        self._hashes: frozenset[str] = frozenset()

    def current(self, version: int, load: Callable[[], Iterable[str]]) -> frozenset[str]:
        """Return the tombstones of a version, asking the store only when it is not the one known."""
        if version != self._version:
            self._hashes, self._version = frozenset(load()), version
        return self._hashes


def refused(shape: ViewShape, keys: list[list[str]], hashes: frozenset[str]) -> list[int]:
    """Return the places of rows that may not be written.

    Args:
        shape: Of the view.
        keys: One column a key, in the order of `shape.keys`.
        hashes: Tombstones.
    """
    if not hashes or ERASABLE_KEY not in shape.keys:
        return []
    column = keys[shape.keys.index(ERASABLE_KEY)]
    return [place for place, value in enumerate(column) if tombstone(value) in hashes]
