"""Content vectors: equal words are one vector, similar words are near, and nothing is downloaded."""

import logging

import numpy as np
import polars as pl

from features.catalogue import COLUMNS, Catalogue
from training.models.content_vectors import content_vectors

ITEMS = [  # title, category, price band
    ("Whole milk", "dairy", 2),
    ("Skimmed milk", "dairy", 2),
    ("Hair dryer", "electronics", 9),
    ("whole_milk!", "Dairy", 2),
    ("Whole milk", "dairy", 0),
    (None, None, 0),
]


def catalogue_of(items: list[tuple[str | None, str | None, int]]) -> Catalogue:
    frame = pl.DataFrame(items, schema=["title", "category_1", "price_band"], orient="row")
    index = pl.int_range(2, 2 + len(items), dtype=pl.Int32)
    missing = [name for name in COLUMNS if name not in ("item_index", "item_id", *frame.columns)]
    empty = [pl.lit(0 if name.endswith("_code") else None).alias(name) for name in missing]
    return Catalogue(
        frame.with_columns(item_index=index, item_id=index.cast(pl.String)).with_columns(empty).select(COLUMNS)
    )


def test_items_with_the_same_content_share_a_vector_and_similar_ones_are_near() -> None:
    before = list(logging.getLogger().handlers), logging.getLogger().level
    place, vectors = content_vectors(catalogue_of(ITEMS))
    assert (list(logging.getLogger().handlers), logging.getLogger().level) == before
    assert place.tolist() == [0, 0, 1, 2, 3, 1, 4, 5], "case and punctuation do not count; the price does"
    assert vectors.shape == (6, 260)
    assert not vectors[0].any()
    text = vectors[1:, :256]
    np.testing.assert_allclose(np.linalg.norm(text, axis=1), [1, 1, 1, 1, 0], atol=1e-3)
    assert text[0] @ text[1] > 0.5 > text[0] @ text[2], "milk is more like milk than like a hair dryer"
    np.testing.assert_array_equal(text[0], text[3])
    assert vectors[[4, 5], 258].tolist() == vectors[[1, 2], 259].tolist(), "an unknown price is marked"
    np.testing.assert_array_equal(vectors, vectors.astype(np.float16))


def test_a_catalogue_without_items_has_no_vector() -> None:
    place, vectors = content_vectors(catalogue_of([]))
    assert (place.tolist(), vectors.shape) == ([0, 0], (1, 260))
