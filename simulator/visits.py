"""Who comes on a day, when, on what, and how likely they are to buy: the first half of the truth.

Visits are a Poisson process whose rate follows the person, the week, the year and the mood, and each visit leads to an
order with a chance of its own, so orders are a Poisson process too (thinning). Hence, exactly, given the day's mood:

    P(a purchase on the day) = 1 - exp(-visits * sum over platforms of share * chance)

and over several days with the sum of these rates.
"""

from dataclasses import dataclass

import numpy as np

from simulator.calendar import day_start, moment_of_day, traffic
from simulator.draws import Flags, Floats, Ints, Keys, again, keys, logistic, numbered, pick, poisson, uniform
from simulator.rows import MOST_VISITS, STORE
from simulator.world import World

MOST_MEAN = 20.0  # visits of one person on one day; `draws.poisson` is exact up to here
_MOOD_VISITS = 0.5  # one standard deviation of mood: exp(0.5) times as many visits ...
_MOOD_ODDS = 0.7  # ... and exp(0.7) times the odds of a purchase in each
_NOTIFIED_ODDS = 0.6  # of a person who is notified of a campaign
# Log-odds of a purchase in a visit: 6 % on the web, less on a phone; few leave a store with nothing.
_ODDS = np.array([-2.8, -3.1, -3.2, 1.2])


@dataclass(frozen=True)
class UserDays:
    """What is true of people on a day, before anything happens: (users of the chunk,)."""

    user: Ints  # index of the person
    visits: Floats  # expected visits
    chance: Floats  # chance that a visit leads to an order, by platform, (users, 4)
    notified: Flags  # who is notified of the day's campaign
    mood: Floats  # the mood
    rate: Floats  # expected visits that lead to an order


@dataclass(frozen=True)
class Visits:
    """Visits of a day, in order of user and number: (visits,)."""

    day: int  # from the first
    user: Ints  # index of the person
    number: Ints  # from 0, of this person on this day
    key: Keys  # for the visit's own draws
    start: Ints  # milliseconds since 1970
    platform: Ints  # index into PLATFORMS
    notified: Flags  # whether the person is notified of the day's campaign
    chance: Floats  # the true chance of an order
    buys: Flags  # whether there is one

    @property
    def online(self) -> Flags:
        """Visits that leave more in the log than an order."""
        return np.asarray(self.platform != STORE)


def user_days(world: World, day: int, mood: Floats, user: Ints) -> UserDays:
    """Return what is true of the people `user` on a day; those who are not registered yet are left out.

    `mood` is that of all people.
    """
    people = world.people
    user = user[people.joined[user] <= day]
    notified = world.campaigns.exposed(world.campaigns.on(day), user, people.joined[user])
    drift = np.exp(_MOOD_VISITS * mood[user] - _MOOD_VISITS**2 / 2)  # mean 1
    visits = world.scale * traffic(world.plan.start, day) * people.activity[user] * drift
    visits = np.minimum(visits, MOST_MEAN)
    odds = people.propensity[user] + _MOOD_ODDS * mood[user] + _NOTIFIED_ODDS * notified
    chance = logistic(_ODDS + odds[:, None])
    share = people.platforms[user]
    buying = share[:, 0] * chance[:, 0]
    for platform in range(1, share.shape[1]):
        buying = buying + share[:, platform] * chance[:, platform]
    return UserDays(user, visits, chance, notified, mood[user], visits * buying)


def visits_of(world: World, day: int, today: UserDays) -> Visits:
    """Draw the visits of a day."""
    seed = world.plan.seed
    count = np.minimum(poisson(uniform(keys(seed, "day", today.user, day), 0), today.visits), MOST_VISITS)
    row, number = numbered(count)
    user = today.user[row]
    key = keys(seed, "visit", user, day, number)
    own = again(key, "visits")
    platform = pick(uniform(own, 0), np.cumsum(world.people.platforms[user], axis=1))
    chance = today.chance[row, platform]
    return Visits(
        day=day,
        user=user,
        number=number,
        key=key,
        start=day_start(world.plan.start, day) + moment_of_day(uniform(own, 1)).astype(np.int64),
        platform=platform,
        notified=today.notified[row],
        chance=chance,
        buys=uniform(own, 2) < chance,
    )
