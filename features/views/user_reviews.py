"""Daily snapshots of a user's reviews: stars given, and the sentiment of the review texts.

Stars are used as the source gives them and are not rescaled. Sentiment comes from a lexicon of English words (VADER,
Hutto and Gilbert 2014), without training; a text in another language contains few of them and scores near 0. A review
without a text has no sentiment, and a mean over no reviews is missing.
"""

from pathlib import Path
from typing import Any

import ibis.expr.types as ir
import polars as pl

from features.views.contract import ViewInput
from features.views.windows import EVER, Measure, column, whole

KEY = "user_id"
WINDOWS = (90, EVER)
LOW = 2  # stars
_UNITS = 1_000  # integer units per star, and per 1.0 of sentiment

_WHEN = {90: "in the last 90 days", EVER: "since the data begins"}
_WHAT = {
    "ratings": "Ratings given {when} (count).",
    "mean_rating": "Rating given {when}, mean (stars; missing: none).",
    "low_rating_share": "Share of the ratings given {when} that are 2 stars or fewer (share, 0 to 1; missing: none).",
    "mean_sentiment": "Sentiment of the review texts written {when}, mean, by a lexicon of English words "
    "(-1 bad to 1 good; missing: no text).",
}
DESCRIPTIONS: dict[str, str] = {
    column(name, w): text.format(when=_WHEN[w]) for name, text in _WHAT.items() for w in WINDOWS
}


def score(texts: list[str]) -> list[float]:
    """Return the sentiment of each text in thousandths, from -1000 (negative) to 1000 (positive)."""
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    analyzer = SentimentIntensityAnalyzer()
    return [float(round(analyzer.polarity_scores(text)["compound"] * _UNITS)) for text in texts]


def score_reviews(connection: Any, events: Path, out: Path) -> Path | None:
    """Write (event_id, sentiment in thousandths) of every review with a text to `out`, sorted by event_id.

    Each text is scored once, however many reviews have it.

    Args:
        connection: A DuckDB connection.
        events: A Parquet file of the contract's events.
        out: The Parquet file to write.

    Returns:
        `out`, or None if no review has a text.
    """
    source = connection.read_parquet(str(events))
    if "text" not in source.columns:
        return None
    reviews = source.filter("event_name = 'review' AND trim(text) <> ''")
    texts: pl.DataFrame = reviews.project("text").distinct().pl()
    if texts.is_empty():
        return None
    scored = texts.with_columns(pl.Series("sentiment", score(texts["text"].to_list()), dtype=pl.Float64))
    connection.register("scored", scored.to_arrow())
    reviews.join(connection.table("scored"), "text").project("event_id, sentiment").order("event_id").write_parquet(
        str(out)
    )
    connection.unregister("scored")
    return out


def _reviews(log: ir.Table) -> ir.Table:
    """Return the stars and sentiment of every review, both in thousandths."""
    t = log.filter(log.event_name == "review")
    stars = (t.rating * _UNITS).round().cast("float64")
    flags = {
        "ratings": t.rating.notnull(),
        "low": (stars <= LOW * _UNITS).fill_null(False),
        "texts": t.sentiment.notnull(),
    }
    return t.select(
        KEY,
        "event_day",
        "known_day",
        stars=stars.fill_null(whole(0)),
        tones=t.sentiment.fill_null(whole(0)),
        **{name: flag.cast("int32").cast("float64") for name, flag in flags.items()},
    )


def build(inputs: ViewInput) -> ir.Table:
    """Return a row (user_id, day, features) for every user and day of activity."""
    counted = Measure(_reviews(inputs.log), dict.fromkeys(("ratings", "stars", "low", "texts", "tones"), WINDOWS))
    t = inputs.while_active(counted)
    values = {}
    for w in WINDOWS:
        count, stars, low, texts, tones = (t[column(name, w)] for name in ("ratings", "stars", "low", "texts", "tones"))
        values[column("mean_rating", w)] = stars / _UNITS / count.nullif(0.0)
        values[column("low_rating_share", w)] = low / count.nullif(0.0)
        values[column("mean_sentiment", w)] = tones / _UNITS / texts.nullif(0.0)
    return t.mutate(**values)
