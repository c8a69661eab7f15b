"""The content of an online store as one digest: equal for equal content in SQLite and Redis."""

import hashlib
from contextlib import closing

from features.store import open_rows
from shoplens.settings import Settings


def store_digest(settings: Settings) -> str:
    """Return a digest of views, rows and live events, to the bit; the order of writing is not part of it."""
    total = hashlib.sha256()
    with closing(open_rows(settings)) as rows:
        for name, view in sorted(rows.views().items()):
            total.update(f"{view!r}\n".encode())
            for row in rows.scan(name):
                total.update(f"{row!r}\n".encode())
        for event in rows.live():
            total.update(f"{event!r}\n".encode())
    return total.hexdigest()
