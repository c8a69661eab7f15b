"""Feature services: which features are read together, by name. No Feast in this module."""

from collections.abc import Mapping
from dataclasses import dataclass

from features.definitions import NUMERIC_FEATURES, VIEWS

USER_STATE = "user_state"  # the service that reads all that is known about one user


@dataclass(frozen=True)
class Service:
    """One feature service.

    Attributes:
        name: As Feast calls it.
        meaning: One sentence for people.
        reads: View -> the features that it reads of it; None: all.
    """

    name: str
    meaning: str
    reads: Mapping[str, frozenset[str] | None]


_OF_A_USER = {view.name: view.descriptions for view in VIEWS if view.online and view.keys == ("user_id",)}


def _numeric(task: str, wanted: frozenset[str]) -> Service:
    """Return the service of a prediction: its features, out of every view that has one of them."""
    reads = {view: wanted & set(descriptions) for view, descriptions in _OF_A_USER.items()}
    return Service(
        task,
        f"Slow features that the {task} models read.",
        {view: names for view, names in reads.items() if names},
    )


SERVICES: tuple[Service, ...] = (
    *(_numeric(task, frozenset(names)) for task, names in NUMERIC_FEATURES.items()),
    Service("profile", "What is known about a user, for people.", dict.fromkeys((*_OF_A_USER, "user_profile"))),
    Service(
        USER_STATE,
        "All that is known about a user, in one read.",
        dict.fromkeys((*_OF_A_USER, "user_profile", "recent_events")),
    ),
)


def readers(view: str, feature: str) -> tuple[str, ...]:
    """Return the names of the services that read a feature of a view."""
    found = [(one.name, one.reads[view]) for one in SERVICES if view in one.reads]
    return tuple(name for name, names in found if names is None or feature in names)
