"""The repo's objects under names, for Feast's own command line, which imports this file and nothing else of the folder.

It defines them over the snapshots that the online store was last loaded from, so it needs a store that was loaded. No
module of the project imports it.
"""

from typing import Any

from features.repo import definitions
from features.store import places
from shoplens.settings import load_settings

_repo = definitions(places(load_settings()).current)
_objects: dict[str, Any] = {
    **_repo.entities,
    **_repo.views,
    **_repo.services,
    "recent_events_push": _repo.views["recent_events"].stream_source,
}


def __dir__() -> list[str]:
    """Name the objects: Feast's command line takes whatever of its own it finds among the names of this module."""
    return sorted(_objects)


def __getattr__(name: str) -> Any:
    """Return an object of the repo."""
    if name not in _objects:
        raise AttributeError(f"{name}: must be one of {', '.join(_objects)}")
    return _objects[name]
