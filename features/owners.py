"""Whom to ask about a feature: the owner of its view, from `features.owners` of params.yaml."""

from collections.abc import Mapping

from features.definitions import VIEW_MEANING
from shoplens.errors import FeatureError

DEFAULT = "default"


def check_owners(owners: Mapping[str, str]) -> None:
    """Check that every owner is of a view that there is; which views there are, the parameters cannot know.

    Raises:
        FeatureError: a name is neither a view's nor `default`.
    """
    for name in owners:
        if name != DEFAULT and name not in VIEW_MEANING:
            raise FeatureError(
                f"features.owners: must name views ({', '.join(VIEW_MEANING)}) or {DEFAULT}; received {name!r}; "
                "correct the name in params.yaml"
            )


def owner_of(view: str, owners: Mapping[str, str]) -> str:
    """Return whom to ask about a view."""
    return owners.get(view, owners[DEFAULT])
