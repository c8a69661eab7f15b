"""What a visit does, in order, and how long each step takes."""

from dataclasses import dataclass

import numpy as np

from simulator.choices import PAGES, PLACES, Choices
from simulator.draws import Flags, Floats, Ints, again, normal, uniform
from simulator.rows import CODE
from simulator.visits import Visits

PAGE_STEP = 1_000  # steps from one page to the next; the steps of a place are 10 apart
CHECKOUT = 10_000
_NEVER = 1 << 20
_REMEMBERED, _LOGS_IN = np.array([0.45, 0.9, 0.9, 1.0]), 0.25
_SEARCHES = 0.6
_SEES_PROMOTION, _FOLLOWS_IT = 0.6, 0.35
_BASKET, _REMOVES, _ABANDONS = 0.12, 0.5, 0.3
_DWELL, _DWELL_SPREAD, _INTEREST, _LONGEST = 2.8, 0.8, 0.7, 900.0  # log seconds: 16 s at the median, 33 s if bought


@dataclass(frozen=True)
class Steps:
    """Steps of visits, in order of visit and time: (steps,)."""

    visit: Ints  # row in Visits
    step: Ints  # position in the visit; grows within a visit
    action: Ints  # place in ACTIONS
    place: Ints  # in the choices of the visit; -1 where the step is about no article
    gap: Ints  # milliseconds to the next step
    ts: Ints  # milliseconds since 1970
    nth: Ints  # from 0, within the visit


def _steps(action: str, at: Flags, step: Ints, gap: Floats | float) -> tuple[Ints, ...]:
    """Return visit, step, action, place and gap (from seconds) of the marked visits, or visits and places."""
    where = np.nonzero(at)
    size = where[0].size
    place = where[1] if at.ndim > 1 else np.full(size, -1)
    seconds = np.broadcast_to(gap, at.shape)[where]
    milliseconds = np.maximum((seconds * 1000).astype(np.int64), 0)
    return where[0], np.broadcast_to(step, at.shape)[where], np.full(size, CODE[action]), place, milliseconds


def _page_steps(visits: Visits, choices: Choices) -> list[tuple[Ints, ...]]:
    key = again(visits.key, "page steps")
    found = []
    for page in range(PAGES):
        seen = visits.online & (choices.pages > page)
        searches = uniform(key, page) < _SEARCHES
        look = 3.0 + 12.0 * uniform(key, PAGES + page)
        step = np.full(seen.shape, PAGE_STEP * (1 + page))
        found += [_steps("search", seen & searches, step, look), _steps("page", seen & ~searches, step, look)]
    return found


def _promotion_steps(visits: Visits) -> list[tuple[Ints, ...]]:
    key = again(visits.key, "promotion steps")
    sees = visits.online & visits.notified & (uniform(key, 0) < _SEES_PROMOTION)
    follows = sees & (uniform(key, 1) < _FOLLOWS_IT)
    zero = np.zeros(sees.shape, dtype=np.int64)
    return [
        _steps("promo_shown", sees, zero, 1.0 + 2.0 * uniform(key, 2)),
        _steps("promo_click", follows, zero + 1, 1.0 + uniform(key, 3)),
    ]


def _article_steps(visits: Visits, choices: Choices) -> list[tuple[Ints, ...]]:
    places = np.arange(PAGES * PLACES)
    step = PAGE_STEP * (1 + places // PLACES) + 10 * (1 + places % PLACES)
    lanes = again(visits.key, "article steps")[:, None] + places.astype(np.uint64) * np.uint64(0x100000001)
    key = again(lanes, "places")
    online, buys = visits.online[:, None], visits.buys[:, None]
    bought = choices.units > 0
    viewed = choices.viewed & online
    basket = (bought | (choices.viewed & (uniform(key, 0) < _BASKET))) & online
    dwell = np.exp(_DWELL + _INTEREST * basket + _DWELL_SPREAD * normal(key, 1))
    removed = basket & ~bought & (buys | (uniform(key, 2) < _REMOVES))
    left = (basket & ~removed).any(axis=1)
    stops = uniform(again(visits.key, "checkout"), 0) < _ABANDONS
    checkout = visits.online & left & (visits.buys | stops)
    return [
        _steps("click", viewed, step, 0.4 + uniform(key, 3)),
        _steps("product", viewed, step + 1, np.clip(dwell, 1.0, _LONGEST)),
        _steps("basket_add", basket, step + 2, 1.0 + 3.0 * uniform(key, 4)),
        _steps("basket_remove", removed, CHECKOUT - 100 + places, 2.0 + 6.0 * uniform(key, 5)),
        _steps("checkout", checkout, np.full(left.shape, CHECKOUT), 20.0 + 70.0 * uniform(key[:, 0], 6)),
        _steps("order", bought, CHECKOUT + 1 + places, 0.0),  # the lines of an order are booked at once
    ]


def steps_of(visits: Visits, choices: Choices) -> Steps:
    """Return the steps of the visits of a day."""
    found = [*_promotion_steps(visits), *_page_steps(visits, choices), *_article_steps(visits, choices)]
    visit, step, action, place, gap = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.argsort(visit * _NEVER + step)
    visit, step, action, place, gap = (column[order] for column in (visit, step, action, place, gap))
    begins = np.flatnonzero(np.diff(visit, prepend=-1))
    size = np.diff(begins, append=visit.size)
    before = np.cumsum(gap) - gap
    offset = before - np.repeat(before[begins], size)
    nth = np.arange(visit.size) - np.repeat(begins, size)
    return Steps(visit, step, action, place, gap, visits.start[visit] + offset, nth)


def known_from(visits: Visits) -> Ints:
    """Return the step from which the shop knows who it is: remembered, after a page, at the checkout, or never."""
    key = again(visits.key, "login")
    remembered = uniform(key, 0) < _REMEMBERED[visits.platform]
    logs_in = uniform(key, 1) < _LOGS_IN
    later = np.where(logs_in, PAGE_STEP + 1, np.where(visits.buys, CHECKOUT, _NEVER))
    return np.where(remembered, 0, later)
