"""Events that have left the collector's log for the lake, for a store that was made anew since."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import polars as pl

from events.lake import Place, is_lake, known_since


def missed(lake: Place, moment: datetime) -> Iterator[list[dict[str, Any]]]:
    """Yield, a day at a time, the events of a lake that became known at or after a moment; none where there is no lake.

    Each is a dict of the columns that it has, times as `datetime`.
    """
    if not is_lake(lake):
        return
    for day in known_since(lake, moment):
        rows = day.filter(pl.col("user_id").is_not_null()).to_dicts()
        yield [{name: value for name, value in row.items() if value is not None} for row in rows]
