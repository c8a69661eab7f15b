"""What an online store holds, as one digest: equal for equal content, whatever the store is made of."""

import hashlib
import json

from features.online_stores.shape import ViewShape
from features.store import open_rows, open_store, store_errors
from shoplens.errors import StoreUnavailableError
from shoplens.settings import Settings


def store_digest(settings: Settings) -> str:
    """Return a digest of all rows of all online views: keys, event times, and values to the bit, sorted by key.

    What the definitions say of the views is part of it; when and in what order it was written is not.

    Raises:
        StoreUnavailableError: the store was never loaded, or cannot be read.
    """
    from feast.errors import FeastObjectNotFoundException

    total = hashlib.sha256()
    rows = open_rows(settings)
    try:
        views = sorted(open_store(settings).list_feature_views(), key=lambda view: view.name)
        for shape in [ViewShape.of(view) for view in views if view.online]:
            kinds = {name: kind.name for name, kind in shape.features}
            total.update(f"{shape.name} {json.dumps([shape.keys, kinds])}\n".encode())
            for row in rows.scan(shape):
                total.update(f"{tuple(row)!r}\n".encode())
    except (FeastObjectNotFoundException, *store_errors(settings)) as error:
        raise StoreUnavailableError(f"online store: cannot be read: {error}; run `shoplens materialize`") from error
    finally:
        rows.close()
    return total.hexdigest()
