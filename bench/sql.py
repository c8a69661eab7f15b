"""The same features of one day as SQL written by hand for DuckDB, one query a view: the limit that ours is held to.

Written to be fast, not general: the day is a constant, nothing but that day can be asked for. Money is summed in
whole ten-thousandths, as ours is, so that the answers can be compared bit for bit.
"""

DAY_US = 86_400_000_000

BEHAVIOUR = """
WITH event AS (
  SELECT user_id, event_name, epoch_us(event_time) AS us, epoch_us(event_time) // 86400000000 AS day,
         round(coalesce(amount, 0) * 10000) AS money, round(coalesce(quantity, 0) * 1000) AS pieces
  FROM read_parquet($events)
  WHERE user_id IS NOT NULL AND event_time < $moment AND ingested_at < $moment
), by_day AS (
  SELECT user_id, day,
         count(*) FILTER (event_name = 'purchase') AS purchases,
         count(*) FILTER (event_name = 'view_item') AS views,
         count(*) FILTER (event_name = 'add_to_cart') AS carts,
         count(*) FILTER (event_name = 'refund') AS refunds,
         sum(money) FILTER (event_name = 'purchase') AS spend,
         sum(pieces) FILTER (event_name = 'purchase') AS units,
         min(us) AS first_us, max(us) AS last_us,
         min(us) FILTER (event_name = 'purchase') AS first_bought, max(us) FILTER (event_name = 'purchase') AS bought
  FROM event GROUP BY user_id, day
), total AS (
  SELECT user_id,
         {windows},
         sum(units) FILTER (day >= $day - 90) / 1000 AS units_90d,
         sum(refunds) FILTER (day >= $day - 90) AS refunds_90d,
         min(first_us) AS first_us, max(last_us) AS last_us, min(first_bought) AS first_bought, max(bought) AS bought
  FROM by_day GROUP BY user_id HAVING max(day) >= $day - $active
), placed AS (
  SELECT DISTINCT user_id, epoch_us(event_time) // 86400000000 AS day, coalesce(order_id, session_id, event_id) AS o
  FROM read_parquet($events)
  WHERE user_id IS NOT NULL AND event_name = 'purchase' AND event_time < $moment AND ingested_at < $moment
), orders AS (
  SELECT user_id, {orders}, count(*) AS orders_ever FROM placed GROUP BY user_id
), told AS (
  SELECT *, ($day * 86400000000 - first_us) / 86400000000 AS tenure FROM total LEFT JOIN orders USING (user_id)
)
SELECT user_id, {columns},
       CAST(coalesce(units_90d, 0) AS FLOAT) AS units_90d, CAST(coalesce(refunds_90d, 0) AS INTEGER) AS refunds_90d,
       CAST(coalesce(orders_ever, 0) AS INTEGER) AS orders_ever,
       CAST(($day * 86400000000 - last_us) / 86400000000 AS FLOAT) AS recency_days,
       CAST(($day * 86400000000 - bought) / 86400000000 AS FLOAT) AS purchase_recency_days,
       CAST(tenure AS FLOAT) AS tenure_days,
       CAST(spend_90d / nullif(orders_90d, 0) AS FLOAT) AS mean_basket_90d,
       CAST(coalesce(orders_90d, 0) * 7 / greatest(least(tenure, 90.0), 7.0) AS FLOAT) AS weekly_orders_90d,
       CAST(spend_30d * 3 / nullif(spend_90d, 0) AS FLOAT) AS spend_trend,
       CAST(CASE WHEN orders_ever > 1 THEN (bought - first_bought) / 86400000000 / (orders_ever - 1) END AS FLOAT)
         AS order_gap_days
FROM told ORDER BY user_id
"""
