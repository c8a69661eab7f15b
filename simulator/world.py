"""Everything that stands before the first visit."""

from dataclasses import dataclass

from simulator.catalogue import Assortment, build_assortment
from simulator.people import People, build_people
from simulator.plan import Plan
from simulator.promotions import Campaigns, build_campaigns


@dataclass(frozen=True)
class World:
    """The shop and its people."""

    plan: Plan  # what was asked for
    catalogue: Assortment  # what is sold
    people: People  # who could visit
    campaigns: Campaigns  # what is cheaper when
    # times as many visits as people are inclined to, so that the log has the size that was asked for
    scale: float = 1.0


def build_world(plan: Plan) -> World:
    """Return the world of a plan, with people as active as they are."""
    catalogue = build_assortment(plan)
    return World(plan, catalogue, build_people(plan, catalogue), build_campaigns(plan, catalogue))
