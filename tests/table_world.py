"""A flat table whose truth is known: one row a session."""

from pathlib import Path

import numpy as np
import polars as pl


def user_behavior(rows: int = 1_500, seed: int = 3) -> pl.DataFrame:
    """Sessions in which who looks longer buys more often; an amount exists only where something was bought."""
    random = np.random.default_rng(seed)
    browse, results = random.gamma(2, 60, rows).round(2), random.poisson(8, rows)
    bought = random.random(rows) < 1 / (1 + np.exp(3 - browse / 80))
    amount = np.where(bought, random.lognormal(3, 0.5, rows).round(2), 0.0)
    return pl.DataFrame(
        {
            "browse_time": browse,
            "search_result_count": results,
            "purchase_amount": amount,
            "is_purchased": bought.astype(int),
        }
    )


def mixed(rows: int = 300) -> pl.DataFrame:
    """The same without the amount, with gaps, categories, a rare one among them, and yes and no."""
    random = np.random.default_rng(8)
    frame = user_behavior(rows).drop("purchase_amount")
    gaps = np.where(random.random(rows) < 0.1, np.nan, random.normal(5, 2, rows))
    return frame.with_columns(
        pl.Series("gaps", [None if np.isnan(v) else str(v) for v in gaps]),
        pl.Series("channel", random.choice(["ad", "mail", "search", "rare"], rows, p=[0.5, 0.3, 0.18, 0.02])),
        pl.Series("returning", random.choice(["yes", "no"], rows)),
    )


def write_csv(frame: pl.DataFrame, folder: Path) -> Path:
    """Write user_behavior_data.csv."""
    path = folder / "user_behavior_data.csv"
    frame.write_csv(path)
    return path
