"""How the process returns memory to the system."""

import ctypes
import sys

# Options of glibc's mallopt; values are in bytes and must be an int. The padding is what keeps the memory of other
# threads: without it, theirs is returned in pieces of 64 MiB whatever the other two say.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_MMAP_LIMITS = (2**30, 2**25)  # glibc before 2.35 takes no more than the second


def keep_freed_memory() -> None:
    """Keep freed memory for the next allocation, where the C library is glibc; elsewhere do nothing.

    Blocks of up to 1 GiB are kept in the main thread, and of up to 64 MiB in others. A network allocates and frees the
    same tensors at each step. By default glibc returns many of them to the system, which then clears each page again:
    of the time of an epoch of the ranker, that is more than half.

    Source: mallopt(3).
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    # Without a larger threshold, the other two would leave every block above 128 KiB to the system.
    if mallopt is not None and any(mallopt(_MMAP_THRESHOLD, limit) for limit in _MMAP_LIMITS):
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_TOP_PAD, 2**28)
