"""The features of one day as hand-written DuckDB SQL, one query per view: the baseline for our engine.

The SQL is fast rather than general: the day is a constant, no other day can be requested, and every event must have a
time of receipt. Money is summed in integer ten-thousandths, as in our engine, so that results are bit-identical.
"""

# One pass over the events; days with events are bits of an integer.
_BEHAVIOUR = """
WITH event AS (
  SELECT user_id, event_name, epoch_us(event_time) AS us, epoch_us(event_time) // 86400000000 AS day,
         round(coalesce(amount, 0) * 10000) AS money, round(coalesce(quantity, 0) * 1000) AS pieces
  FROM read_parquet($events)
  WHERE user_id IS NOT NULL AND event_time < $moment AND ingested_at < $moment
), total AS (
  SELECT user_id, {windows},
         sum(pieces) FILTER (event_name = 'purchase' AND day >= $day - 90) / 1000 AS units_90d,
         count(*) FILTER (event_name = 'refund' AND day >= $day - 90) AS refunds_90d,
         bit_or(CASE WHEN day >= $day - 90 THEN 1::HUGEINT << ($day - day)::INTEGER ELSE 0 END) AS active, {active},
         min(us) AS first_us, max(us) AS last_us,
         min(us) FILTER (event_name = 'purchase') AS first_bought, max(us) FILTER (event_name = 'purchase') AS bought
  FROM event GROUP BY user_id HAVING max(day) >= $day - $active
), placed AS (
  SELECT DISTINCT user_id, epoch_us(event_time) // 86400000000 AS day, coalesce(order_id, session_id, event_id) AS o
  FROM read_parquet($events)
  WHERE user_id IS NOT NULL AND event_name = 'purchase' AND event_time < $moment AND ingested_at < $moment
), orders AS (
  SELECT user_id, {orders}, count(*) AS orders_ever FROM placed GROUP BY user_id
), tenured AS (
  SELECT *, ($day * 86400000000 - first_us) / 86400000000 AS tenure FROM total LEFT JOIN orders USING (user_id)
)
SELECT user_id, $moment AS event_timestamp, {columns},
       CAST(coalesce(units_90d, 0) AS FLOAT) AS units_90d, CAST(coalesce(refunds_90d, 0) AS INTEGER) AS refunds_90d,
       CAST(coalesce(orders_ever, 0) AS INTEGER) AS orders_ever,
       CAST(($day * 86400000000 - last_us) / 86400000000 AS FLOAT) AS recency_days,
       CAST(($day * 86400000000 - bought) / 86400000000 AS FLOAT) AS purchase_recency_days,
       CAST(tenure AS FLOAT) AS tenure_days,
       CAST(spend_90d / 10000 / nullif(orders_90d, 0) AS FLOAT) AS mean_basket_90d,
       CAST(coalesce(orders_90d, 0) * 7 / greatest(least(tenure, 90.0::DOUBLE), 7.0::DOUBLE) AS FLOAT)
         AS weekly_orders_90d,
       CAST(coalesce(spend_30d, 0) * 3 / nullif(spend_90d, 0) AS FLOAT) AS spend_trend,
       CAST(CASE WHEN orders_ever > 1 THEN (bought - first_bought) / 86400000000 / (orders_ever - 1) END AS FLOAT)
         AS order_gap_days
FROM tenured ORDER BY user_id
"""

_PREFERENCE = """
WITH event AS NOT MATERIALIZED (
  SELECT user_id, event_name, item_id, epoch_us(event_time) // 86400000000 AS day,
         round(coalesce(price, amount / nullif(quantity, 0)) * 10000) AS price,
         coalesce(order_id, session_id, event_id) AS o
  FROM read_parquet($events)
  WHERE user_id IS NOT NULL AND event_time < $moment AND ingested_at < $moment
    AND event_time >= $moment - INTERVAL 90 DAY
), active AS (
  SELECT DISTINCT user_id FROM read_parquet($events)
  WHERE user_id IS NOT NULL AND event_time < $moment AND ingested_at < $moment
    AND event_time >= $moment - $active * INTERVAL 1 DAY
), met AS (
  SELECT user_id, category_1_code AS category, brand_code AS brand, count(*) AS met
  FROM event JOIN read_parquet($catalogue) USING (item_id)
  WHERE event_name NOT IN ('refund', 'remove_from_cart') GROUP BY ALL
), met_price AS (
  SELECT user_id, {band} AS band, count(*) AS met
  FROM event WHERE event_name NOT IN ('refund', 'remove_from_cart') AND price IS NOT NULL GROUP BY ALL
), {tops}, lines AS (
  SELECT user_id, count(*) AS lines, sum(price) AS prices, count(price) AS priced, count(DISTINCT (day, o)) AS orders
  FROM event WHERE event_name = 'purchase' GROUP BY user_id
), line AS (
  SELECT user_id, item_id, greatest(epoch_us(event_time), epoch_us(ingested_at)) AS known,
         event_time >= $moment - INTERVAL 90 DAY AS young
  FROM read_parquet($events)
  WHERE user_id IS NOT NULL AND event_name = 'purchase' AND event_time < $moment AND ingested_at < $moment
), firsts AS (
  SELECT user_id, sum(young) AS firsts
  FROM (SELECT user_id, min(known * 2 + young::INT) % 2 AS young FROM line GROUP BY user_id, item_id)
  GROUP BY user_id
)
SELECT user_id, $moment AS event_timestamp,
       c.category_1 AS top_category_90d, CAST(categories.top / categories.total AS FLOAT) AS top_category_share_90d,
       CAST(coalesce(categories.number, 0) AS INTEGER) AS category_count_90d,
       b.brand AS top_brand_90d, CAST(brands.top / brands.total AS FLOAT) AS top_brand_share_90d,
       CAST([{ends}][bands.code] AS FLOAT) AS top_price_band_90d,
       CAST(bands.top / bands.total AS FLOAT) AS top_price_band_share_90d,
       CAST(prices / 10000 / nullif(priced, 0) AS FLOAT) AS mean_price_90d,
       CAST(lines / orders AS FLOAT) AS lines_per_order_90d,
       CAST((lines - firsts) / lines AS FLOAT) AS repeat_share_90d
FROM active LEFT JOIN categories USING (user_id) LEFT JOIN brands USING (user_id) LEFT JOIN bands USING (user_id)
  LEFT JOIN (SELECT DISTINCT category_1_code AS code, category_1 FROM read_parquet($catalogue)) c
    ON c.code = categories.code
  LEFT JOIN (SELECT DISTINCT brand_code AS code, brand FROM read_parquet($catalogue)) b ON b.code = brands.code
  LEFT JOIN lines USING (user_id) LEFT JOIN firsts USING (user_id)
ORDER BY user_id
"""
# Encodes the largest count, then the smallest code (codes are in alphabetical order), in one integer.
_TOP = """
{many} AS (
  SELECT user_id, max(met * 16777216 - {one}) AS best, 16777216 - best % 16777216 AS code,
         (best + code) // 16777216 AS top, sum(met) AS total, count(*) AS number
  FROM (SELECT user_id, {one}, sum(met)::BIGINT AS met FROM {met} WHERE {one} > 0 GROUP BY ALL)
  GROUP BY user_id
)
"""


def _behaviour() -> str:
    days = (1, 7, 30, 90)
    counted = {"purchases": "purchase", "views": "view_item", "carts": "add_to_cart"}

    def window(value: str, name: str, span: int, condition: str = "") -> str:
        return f"{value} FILTER ({condition}day >= $day - {span}) AS {name}_{span}d"

    def column(name: str) -> str:
        value = f"coalesce({name}, 0)"
        return f"CAST({value} / 10000 AS FLOAT) AS {name}" if "spend" in name else f"CAST({value} AS INTEGER) AS {name}"

    windows = [window("count(*)", n, d, f"event_name = '{e}' AND ") for n, e in counted.items() for d in days]
    windows += [window("sum(money)", "spend", d, "event_name = 'purchase' AND ") for d in days]
    names = (*counted, "spend", "orders", "days_active")
    return _BEHAVIOUR.format(
        windows=", ".join(windows),
        active=", ".join(f"bit_count(active & ((1::HUGEINT << {d + 1}) - 1)) AS days_active_{d}d" for d in days),
        orders=", ".join(window("count(*)", "orders", d) for d in days),
        columns=", ".join(column(f"{name}_{d}d") for name in names for d in days),
    )


def _preference() -> str:
    tops = {"categories": ("category", "met"), "brands": ("brand", "met"), "bands": ("band", "met_price")}
    ends = [step * 10**power for power in range(2, 12) for step in (1, 2, 5)]  # in ten-thousandths
    return _PREFERENCE.format(
        tops=", ".join(_TOP.format(many=many, one=one, met=met) for many, (one, met) in tops.items()),
        band=" + ".join(["1", *(f"(price >= {end})::INTEGER" for end in ends)]),
        ends=", ".join(str(end / 10_000) for end in (0, *ends)),
    )


def queries() -> dict[str, str]:
    """Return the query of each view; its parameters are $events, $catalogue (files), $moment, $day and $active."""
    return {"user_behaviour": _behaviour(), "user_preference": _preference()}
