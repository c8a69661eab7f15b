"""Feast objects for Feast's command line, which imports only this file of the folder.

They are defined over the snapshots that the online store was last loaded from, so a store must have been loaded. No
module of the project imports this one.
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
    """List the objects: Feast's command line collects all Feast objects among this module's names."""
    return sorted(_objects)


def __getattr__(name: str) -> Any:
    """Return a Feast object by name."""
    if name not in _objects:
        raise AttributeError(f"{name}: must be one of {', '.join(_objects)}")
    return _objects[name]
