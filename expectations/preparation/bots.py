"""Bot detection: users who click too fast, never dwell or never sleep."""

from pathlib import Path
from typing import Any

import polars as pl

from expectations.duckdb_dialect import bounded_connection
from shoplens.params import BotsParams

BOTS_SCHEMA: dict[str, Any] = {
    "user": pl.String,
    "reasons": pl.List(pl.String),
    "events": pl.Int64,
    "most_a_minute": pl.Int64,
    "views": pl.Int64,
    "dwells": pl.Int64,
    "dwells_expected": pl.Float64,
    "most_hours_a_day": pl.Int64,
}
# Lines of one order share a timestamp, so only page views, clicks and searches are counted per minute.
_MEASURES = """
WITH seen AS (
    SELECT coalesce(user_id, anonymous_id) AS who, event_time, platform, dwell_seconds,
        event_name = 'view_item' AS viewed,
        event_name IN ('view_item', 'view_item_list', 'select_item', 'search') AS browsed
    FROM read_parquet($events)
    WHERE coalesce(user_id, anonymous_id) IS NOT NULL AND event_time IS NOT NULL
),
platforms AS (
    SELECT platform, count(*) FILTER (dwell_seconds > 0) / count(*) AS share FROM seen WHERE viewed GROUP BY platform
),
minutes AS (
    SELECT who, date_trunc('minute', event_time) AS minute, count(*) AS n FROM seen WHERE browsed GROUP BY ALL
),
fast AS (SELECT who, max(n) AS most_a_minute FROM minutes GROUP BY who HAVING max(n) >= $events_a_minute),
dwelling AS (
    SELECT who, platform, count(*) AS views, count(*) FILTER (dwell_seconds > 0) AS dwells
    FROM seen WHERE viewed GROUP BY ALL
),
idle AS (
    SELECT who, sum(views) AS views, sum(dwells) AS dwells,
        round(sum(views * share ORDER BY dwelling.platform), 3) AS dwells_expected
    FROM dwelling JOIN platforms ON dwelling.platform IS NOT DISTINCT FROM platforms.platform
    GROUP BY who HAVING sum(dwells) = 0 AND sum(views * share ORDER BY dwelling.platform) >= $dwells_expected
),
hours AS (
    SELECT who, date_trunc('day', event_time) AS day, count(DISTINCT date_trunc('hour', event_time)) AS n
    FROM (SELECT DISTINCT who, date_trunc('hour', event_time) AS event_time FROM seen) GROUP BY ALL
),
sleepless AS (SELECT who, max(n) AS most_hours_a_day FROM hours GROUP BY who HAVING max(n) >= $hours_a_day),
found AS (SELECT who FROM fast UNION SELECT who FROM idle UNION SELECT who FROM sleepless),
counted AS (SELECT who, count(*) AS events FROM seen SEMI JOIN found USING (who) GROUP BY who)
SELECT who AS user,
    list_filter([
        CASE WHEN dwells_expected IS NOT NULL THEN 'never_dwells' END,
        CASE WHEN most_hours_a_day IS NOT NULL THEN 'never_sleeps' END,
        CASE WHEN most_a_minute IS NOT NULL THEN 'too_fast' END
    ], lambda reason: reason IS NOT NULL) AS reasons,
    events, most_a_minute, views, dwells, dwells_expected, most_hours_a_day
FROM found JOIN counted USING (who)
LEFT JOIN fast USING (who) LEFT JOIN idle USING (who) LEFT JOIN sleepless USING (who)
ORDER BY user
"""


def find_bots(events: Path, params: BotsParams) -> pl.DataFrame:
    """Return the users who behave like bots, BOTS_SCHEMA, sorted by user; a measure is null below its threshold.

    too_fast: at least `events_a_minute` pages, clicks and searches within one minute. never_dwells: no view has a dwell
    time, although at least `dwells_expected` would have one at the average share of their platforms. never_sleeps:
    events in at least `hours_a_day` different hours of one day. The file `events` may be larger than memory.
    """
    limits = params.model_dump(exclude={"action"})
    with bounded_connection() as connection:
        found = connection.execute(_MEASURES, {"events": str(events), **limits}).fetchall()
    return pl.DataFrame(found, schema=BOTS_SCHEMA, orient="row")


def is_bot(bots: pl.DataFrame) -> pl.Expr:
    """Return an expression that is true for the events of bots."""
    return pl.coalesce("user_id", "anonymous_id").is_in(bots["user"].implode())
