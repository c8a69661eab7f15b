"""Ids that never repeat and tell nothing: user, day, visit and place in it, packed into 64 bits and scrambled."""

import numpy as np
import numpy.typing as npt

from simulator.draws import Keys, mix, word

_PLACE, _VISIT, _DAY = 12, 6, 14  # bits; 32 are left for the user
AFTER = 1 << 11  # places of what comes days after the visit
ORDER, VISIT = (1 << _PLACE) - 1, (1 << _PLACE) - 2
MOST_VISITS = (1 << _VISIT) - 1  # of one user on one day


def pack(seed: int, user: npt.ArrayLike, day: int, visit: npt.ArrayLike, place: npt.ArrayLike) -> Keys:
    """Return one id an element; no two of one simulation are the same, because every step is one to one."""
    packed = np.asarray(user).astype(np.uint64) << np.uint64(_PLACE + _VISIT + _DAY)
    packed = packed | np.uint64(day << (_PLACE + _VISIT))
    packed = packed | (np.asarray(visit).astype(np.uint64) << np.uint64(_PLACE))
    return mix((packed | np.asarray(place).astype(np.uint64)) ^ word(seed, "id"))
