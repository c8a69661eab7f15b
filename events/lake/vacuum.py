"""Files that no version of a lake names any more: left by killed or outrun writers, or by versions long replaced.

They are deleted a day after: whoever began to read a version, or to write one, has as long to end.
"""

import time
from itertools import pairwise

from events.lake.legacy import LEFT
from events.lake.manifest import Manifest, path_of, read_version, versions
from events.lake.store import Store

GRACE = 24 * 3600.0  # seconds
EVERY = 64  # versions between two sweeps
_FOLDERS = ("events/", "index/", "quarantine/", "accounts/", "sides/")


def _replaced(store: Store, written: dict[str, float], before: float) -> tuple[list[int], list[int]]:
    """Return the versions to keep, and those whose successor was published before that moment."""
    there = versions(store)
    old = [version for version, after in pairwise(there) if written.get(path_of(after), before) < before]
    return [version for version in there if version not in old], old


def _is_ours(path: str) -> bool:
    name = path.rpartition("/")[2]
    return path.startswith(_FOLDERS) or path in LEFT or (name.startswith(".") and name.endswith(".tmp"))


def vacuum(store: Store, grace: float = GRACE) -> int:
    """Delete what no version of the last `grace` seconds names; return how many files that were.

    Args:
        store: The files of a lake.
        grace: Seconds. No reader or writer may be at work for longer: its files are taken from under it.
    """
    before = time.time() - grace
    written = store.files()
    keep, old = _replaced(store, written, before)
    if not keep:
        return 0
    named = {path for version in keep for path in read_version(store, version).files()}
    # The versions first: one whose files are gone must not be found.
    dead = [path_of(version) for version in old]
    dead += [path for path, when in written.items() if when < before and path not in named and _is_ours(path)]
    for path in dead:
        store.delete(path)
    return len(dead)


def sweep(store: Store, manifest: Manifest | None) -> None:
    """Vacuum after every 64th version."""
    if manifest is not None and manifest.version % EVERY == 0:
        vacuum(store)
