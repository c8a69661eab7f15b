"""Counter-based random numbers: each is a function of its purpose, independent of other draws and their order.

With a stateful generator, the numbers would depend on the chunk size. Here each user, day and visit has a 64-bit key,
and the n-th number of a key is the n-th output of SplitMix64 seeded with it (Steele, Lea, Flood, "Fast splittable
pseudorandom number generators", OOPSLA 2014, figure 18).
"""

from hashlib import blake2b

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]

_GOLDEN = 0x9E3779B97F4A7C15  # 2**64 / the golden ratio, as an odd number: the paper's increment
_WORD = 2**64
_PAIR = 1 << 20  # lanes for the second number of a normal draw, beyond all other lanes
_MOST = 63


def mix(words: Keys) -> Keys:
    """Scramble the words with a bijection, so distinct words stay distinct."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def word(seed: int, purpose: str) -> np.uint64:
    """Return the 64-bit word of a seed and a purpose."""
    return np.uint64(int.from_bytes(blake2b(f"{seed}\0{purpose}".encode(), digest_size=8).digest(), "little"))


def keys(seed: int, purpose: str, *parts: npt.ArrayLike) -> Keys:
    """Return one key per element of `parts`: non-negative numbers, such as user and day, that are broadcast together.

    Different purposes of a seed share no numbers.
    """
    key = np.atleast_1d(word(seed, purpose))
    for part in parts:
        steps = np.atleast_1d(part).astype(np.uint64) + np.uint64(1)
        key = mix(key + steps * np.uint64(_GOLDEN))
    return key


def again(key: Keys, purpose: str) -> Keys:
    """Derive keys for another purpose from existing keys."""
    return mix(key ^ word(0, purpose))


def uniform(key: Keys, lane: int) -> Floats:
    """Return a uniform number in [0, 1) for each key; `lane`, from 0, numbers the draws of a key."""
    step = np.uint64((lane + 1) * _GOLDEN % _WORD)
    return (mix(key + step) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normal(key: Keys, lane: int) -> Floats:
    """Return a standard normal number for each key (Box and Muller, 1958)."""
    radius = np.sqrt(-2.0 * np.log1p(-uniform(key, lane)))
    return radius * np.cos(2.0 * np.pi * uniform(key, lane + _PAIR))


def normals(key: Keys, lane: int, count: int) -> Floats:
    """Return standard normal numbers from lanes `lane`, `lane` + 1, …: (keys, count)."""
    return np.stack([normal(key, lane + more) for more in range(count)], axis=1)


def numbered(count: Ints) -> tuple[Ints, Ints]:
    """Return the index i of each of `count[i]` elements, and each element's number, from 0, within its i."""
    of = np.repeat(np.arange(count.size), count)
    return of, np.arange(of.size) - np.repeat(np.cumsum(count) - count, count)


def poisson(draw: Floats, mean: Floats) -> Ints:
    """Return Poisson counts by inversion of uniform draws; means must be at most 20, where no draw exceeds 63."""
    count = np.zeros(draw.shape, dtype=np.int64)
    term = np.exp(-mean)
    total = term.copy()
    for k in range(1, _MOST + 1):
        more = draw >= total
        if not more.any():
            break
        count += more
        term = term * mean / k
        total += term
    return count


def pick(draw: Floats, cumulative: Floats) -> Ints:
    """Return the first column per row whose cumulative chance, (rows, columns) or (columns,), exceeds the draw."""
    above = (draw[:, None] >= cumulative[..., :-1]).sum(axis=1)
    return np.asarray(above, dtype=np.int64)


def logistic(value: Floats) -> Floats:
    """Return 1 / (1 + exp(-value))."""
    return 1.0 / (1.0 + np.exp(-value))
