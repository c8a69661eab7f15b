"""The repo's objects under names, for Feast's own command line, which imports this file and nothing else of the folder.

It defines them over the snapshots that the online store was last loaded from, so it needs a store that was loaded. No
module of the project imports it.
"""

from features.repo import definitions
from features.store import places
from shoplens.settings import load_settings

_repo = definitions(places(load_settings()).current)
user, item = _repo.entities["user"], _repo.entities["item"]
user_behaviour, user_preference = _repo.views["user_behaviour"], _repo.views["user_preference"]
user_profile, item_popularity = _repo.views["user_profile"], _repo.views["item_popularity"]
recent_events = _repo.views["recent_events"]
recent_events_push = recent_events.stream_source
purchase, next_item = _repo.services["purchase"], _repo.services["next_item"]
profile, user_state = _repo.services["profile"], _repo.services["user_state"]
