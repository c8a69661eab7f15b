"""The repo's objects under names, for Feast's own command line, which imports this file and nothing else of the folder.

It defines them over the snapshots that the online store was last loaded from, so it needs a store that was loaded. No
module of the project imports it.
"""

from features.repo import definitions
from features.store import places
from shoplens.settings import load_settings

_repo = definitions(places(load_settings()).current)
# Feast's command line takes whatever objects of its own this module has, whatever their names.
globals().update({**_repo.entities, **_repo.views, **_repo.services})
recent_events_push = _repo.views["recent_events"].stream_source
