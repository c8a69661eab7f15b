"""Ratings and the tone of texts worked out by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from features.engine.engines import duckdb
from features.views.user_reviews import score, score_reviews
from tests.features.conftest import contract_log, event

_GOOD, _BAD, _FLAT = "Great, I love it.", "Terrible, I hate it.", "A pen."


_REVIEWS = contract_log(
    event("ann", "2024-01-01 10:00", "review", rating=5.0, text=_GOOD),
    event("ann", "2024-04-01 10:00", "review", rating=1.0, text=_BAD),
    event("ann", "2024-04-02 10:00", "review", rating=2.5),
    event("ann", "2024-04-02 11:00", "review", text=_FLAT),
    event("ann", "2024-04-03 11:00", "review", rating=2.0, text=" ", ingested="2024-04-05 09:00"),
    event("ann", "2024-04-03 12:00", "view_item", rating=1.0),
)


def _vader(valences: float) -> float:
    """Return VADER's compound of a sum of valences, in thousandths: x / sqrt(x^2 + 15), rounded to 4 digits first."""
    return float(round(round(valences / (valences**2 + 15) ** 0.5, 4) * 1000))


# The lexicon: great 3.1, love 3.2, terrible -2.1, hate -2.7.
@pytest.mark.parametrize(
    ("text", "valences"), [(_GOOD, 3.1 + 3.2), (_BAD, -2.1 - 2.7), (_FLAT, 0.0), ("Schrecklich.", 0.0)]
)
def test_tone_by_the_lexicon(text: str, valences: float) -> None:
    assert score([text]) == [_vader(valences)]


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        # The 1st of January is 94 days old; the tones known are those of the bad and of the flat text.
        ("2024-04-04", {"ratings": (2, 3), "mean_rating": (1.75, 8.5 / 3), "low_rating_share": (0.5, 1 / 3)}),
        # The 2 stars of the 3rd have come; their text is empty.
        ("2024-04-06", {"ratings": (3, 4), "mean_rating": (5.5 / 3, 10.5 / 4), "low_rating_share": (2 / 3, 0.5)}),
    ],
)
def test_by_hand(anns: Callable[..., Any], day: str, expected: dict[str, tuple[float, float]]) -> None:
    row = anns("user_reviews", _REVIEWS, day)
    tones = (_vader(-4.8) / 2_000, (_vader(-4.8) + _vader(6.3)) / 3_000)
    for name, (young, ever) in {**expected, "mean_sentiment": tones}.items():
        assert (row[f"{name}_90d"], row[f"{name}_ever"]) == (pytest.approx(young), pytest.approx(ever)), name


def test_without_texts_the_tone_is_missing(story: Any, tmp_path: Path) -> None:
    row = story.snapshot("user_reviews", "ann", "2024-01-06")
    assert (row["ratings_ever"], row["mean_rating_ever"], row["mean_sentiment_ever"]) == (0, None, None)
    _REVIEWS.with_columns(text=pl.lit(None, pl.String)).write_parquet(tmp_path / "silent.parquet")
    with duckdb(tmp_path) as duck:
        for events in (story.validated / "events.parquet", tmp_path / "silent.parquet"):
            assert score_reviews(duck.connection, events, tmp_path / "s.parquet") is None


def test_scores_are_by_event(tmp_path: Path) -> None:
    _REVIEWS.write_parquet(tmp_path / "events.parquet")
    with duckdb(tmp_path) as duck:
        found = score_reviews(duck.connection, tmp_path / "events.parquet", tmp_path / "s.parquet")
    assert found is not None
    assert pl.read_parquet(found).rows() == [("e0000", _vader(6.3)), ("e0001", _vader(-4.8)), ("e0003", 0.0)]
