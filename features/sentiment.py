"""The sentiment of review texts, from a lexicon of English words (VADER, Hutto and Gilbert 2014), without training.

A text in another language has few of these words, or false friends, and scores near 0: the feature is the sentiment of
English reviews only.
"""

from pathlib import Path
from typing import Any

import polars as pl

from features.engine.write import write_parts

_SCALE = 1_000
_WITH_TEXT = "event_name = 'review' AND trim(text) <> ''"


def score(texts: list[str]) -> list[float]:
    """Return the sentiment of each text in thousandths, whole numbers from -1000 (bad) to 1000 (good)."""
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    analyzer = SentimentIntensityAnalyzer()
    return [float(round(analyzer.polarity_scores(text)["compound"] * _SCALE)) for text in texts]


def score_reviews(connection: Any, events: Path, out: Path) -> Path | None:
    """Write (event_id, sentiment in thousandths) of every review with a text to `out`, by event_id.

    Each text is scored once, however many reviews have it.

    Args:
        connection: DuckDB's own.
        events: To the contract.
        out: The Parquet file to write.

    Returns:
        `out`, or None where no review has a text.
    """
    source = connection.read_parquet(str(events))
    if "text" not in source.columns:
        return None
    reviews = source.filter(_WITH_TEXT)
    texts: pl.DataFrame = reviews.project("text").distinct().pl()
    if texts.is_empty():
        return None
    scored = texts.with_columns(pl.Series("sentiment", score(texts["text"].to_list()), dtype=pl.Float64))
    connection.register("scored", scored.to_arrow())
    joined = reviews.set_alias("r").join(connection.table("scored").set_alias("s"), "r.text = s.text")
    rows = joined.project("r.event_id AS event_id, s.sentiment AS sentiment").order("event_id")
    write_parts(out, [rows.to_arrow_reader()])
    connection.unregister("scored")
    return out
