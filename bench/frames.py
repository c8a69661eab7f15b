"""The same features of one day as pandas, as people write them first: everything in memory, a mask a window, a groupby.

Money is summed as it is, in floats, so the answers are near ours and not the same bits.
"""

from pathlib import Path
from typing import Any

import pandas as pd

_COLUMNS = ["event_id", "event_time", "ingested_at", "event_name", "user_id", "session_id", "order_id", "item_id"]
_NUMBERS = ["quantity", "price", "amount"]


def read(events: Path, moment: pd.Timestamp) -> pd.DataFrame:
    """Return what was known at `moment`, with the day and the order of each event."""
    log = pd.read_parquet(events, columns=[*_COLUMNS, *_NUMBERS])
    log = log[(log["event_time"] < moment) & (log["ingested_at"] < moment)]
    log["day"] = log["event_time"].dt.floor("D")
    log["order"] = log["order_id"].fillna(log["session_id"]).fillna(log["event_id"])
    return log


def _young(log: pd.DataFrame, moment: pd.Timestamp, days: int) -> pd.DataFrame:
    return log[log["day"] >= moment - pd.Timedelta(days=days)]


def _days(span: Any) -> Any:
    return span / pd.Timedelta(days=1)


def user_behaviour(log: pd.DataFrame, moment: pd.Timestamp, active: int) -> pd.DataFrame:
    """Return user_id and the features of `user_behaviour`."""
    log = log[log["user_id"].notna()]
    out = pd.DataFrame(index=pd.Index(_young(log, moment, active)["user_id"].unique(), name="user_id"))
    for w in (1, 7, 30, 90):
        young = _young(log, moment, w)
        bought = young[young["event_name"] == "purchase"]
        out[f"purchases_{w}d"] = bought.groupby("user_id").size()
        out[f"views_{w}d"] = young[young["event_name"] == "view_item"].groupby("user_id").size()
        out[f"carts_{w}d"] = young[young["event_name"] == "add_to_cart"].groupby("user_id").size()
        out[f"spend_{w}d"] = bought.groupby("user_id")["amount"].sum()
        out[f"orders_{w}d"] = bought.drop_duplicates(["user_id", "day", "order"]).groupby("user_id").size()
        out[f"days_active_{w}d"] = young.groupby("user_id")["day"].nunique()
    out["units_90d"] = bought.groupby("user_id")["quantity"].sum()
    out["refunds_90d"] = young[young["event_name"] == "refund"].groupby("user_id").size()
    ever = log[log["event_name"] == "purchase"]
    out["orders_ever"] = ever.drop_duplicates(["user_id", "day", "order"]).groupby("user_id").size()
    out = out.fillna(0)
    times, paid = log.groupby("user_id")["event_time"], ever.groupby("user_id")["event_time"]
    out["recency_days"] = _days(moment - times.max())
    out["purchase_recency_days"] = _days(moment - paid.max())
    out["tenure_days"] = _days(moment - times.min())
    out["mean_basket_90d"] = out["spend_90d"] / out["orders_90d"].where(out["orders_90d"] > 0)
    out["weekly_orders_90d"] = out["orders_90d"] * 7 / out["tenure_days"].clip(7, 90)
    out["spend_trend"] = out["spend_30d"] * 3 / out["spend_90d"].where(out["spend_90d"] != 0)
    several = out["orders_ever"].where(out["orders_ever"] > 1)
    out["order_gap_days"] = _days(paid.max() - paid.min()) / (several - 1)
    return out.reset_index()


def _top(content: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the value met most (of equals the first of the alphabet), its share, and the number of values, by user."""
    met = content[content[f"{column}_code"] > 0].groupby(["user_id", column]).size().rename("met").reset_index()
    best = met.sort_values(["met", column], ascending=[False, True]).drop_duplicates("user_id").set_index("user_id")
    by_user = met.groupby("user_id")["met"]
    return pd.DataFrame({"top": best[column], "share": best["met"] / by_user.sum(), "values": by_user.size()})


def _price(lines: pd.DataFrame) -> "pd.Series[float]":
    return lines["price"].fillna(lines["amount"] / lines["quantity"].where(lines["quantity"] != 0))


def _bands(liked: pd.DataFrame) -> pd.DataFrame:
    """Return the price band met most, by its lower end (of equals the lowest), and its share, by user."""
    ends = [0.0, *(step * 10.0**power for power in range(-2, 8) for step in (1, 2, 5)), float("inf")]
    band = pd.cut(_price(liked), ends, right=False, labels=ends[:-1]).astype(float)
    met = liked.assign(band=band).dropna(subset="band").groupby(["user_id", "band"]).size().rename("met").reset_index()
    best = met.sort_values(["met", "band"], ascending=[False, True]).drop_duplicates("user_id").set_index("user_id")
    return pd.DataFrame({"top": best["band"], "share": best["met"] / met.groupby("user_id")["met"].sum()})


def user_preference(log: pd.DataFrame, moment: pd.Timestamp, active: int, catalogue: pd.DataFrame) -> pd.DataFrame:
    """Return user_id and the features of `user_preference`."""
    log = log[log["user_id"].notna()]
    out = pd.DataFrame(index=pd.Index(_young(log, moment, active)["user_id"].unique(), name="user_id"))
    young = _young(log, moment, 90)
    liked = young[~young["event_name"].isin(["refund", "remove_from_cart"])]
    content = liked.merge(catalogue[["item_id", "category_1", "category_1_code", "brand", "brand_code"]], on="item_id")
    category, brand = _top(content, "category_1"), _top(content, "brand")
    out["top_category_90d"], out["top_category_share_90d"] = category["top"], category["share"]
    out["category_count_90d"] = category["values"]
    out["category_count_90d"] = out["category_count_90d"].fillna(0)
    out["top_brand_90d"], out["top_brand_share_90d"] = brand["top"], brand["share"]
    bought = young[young["event_name"] == "purchase"]
    price = _price(bought)
    band = _bands(liked)
    out["top_price_band_90d"], out["top_price_band_share_90d"] = band["top"], band["share"]
    lines = bought.groupby("user_id").size()
    out["mean_price_90d"] = price.groupby(bought["user_id"]).mean()
    out["lines_per_order_90d"] = lines / bought.drop_duplicates(["user_id", "day", "order"]).groupby("user_id").size()
    ever = log[log["event_name"] == "purchase"]
    known = ever[["event_time", "ingested_at"]].max(axis=1)
    # Of lines that arrived together, the oldest came first.
    arrived = ever.assign(known=known).sort_values(["known", "day"]).drop_duplicates(["user_id", "item_id"])
    firsts = _young(arrived, moment, 90).groupby("user_id").size().reindex(lines.index, fill_value=0)
    out["repeat_share_90d"] = (lines - firsts) / lines
    return out.reset_index()


def write(events: Path, catalogue: Path, out: Path, moment: pd.Timestamp, active: int) -> None:
    """Write the two views below `out`."""
    log = read(events, moment)
    views = {
        "user_behaviour": user_behaviour(log, moment, active),
        "user_preference": user_preference(log, moment, active, pd.read_parquet(catalogue)),
    }
    for name, view in views.items():
        key = view.columns[0]
        view.insert(1, "event_timestamp", moment)
        view.sort_values(key).to_parquet(out / f"{name}.parquet", compression="zstd", index=False)
