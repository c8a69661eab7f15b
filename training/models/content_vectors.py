"""Content vectors: title, categories, brand and price of every item, as numbers that mean the same in all shops.

WordLlama (Miller, 2024) encodes words by token embeddings of a language model. Its package ships the weights, so
nothing is downloaded. Even an item that nobody ever bought, in a shop without any training data, has a vector.
"""

import logging
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.catalogue import FIRST_INDEX, PRICE_BANDS, Catalogue

_TEXT = ("title", "category_1", "category_2", "category_3", "brand")
_NUMBER_WEIGHT = 0.3  # of the price and of the constant, relative to the text, which has length 1


def content_vectors(catalogue: Catalogue) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return where the vector of each catalogue index is, (size,), and the vectors, (contents, d).

    Items with the same words and price share a vector. A vector is the encoded text, of length 1 (0 if there is none),
    then the price band, its square and whether it is unknown, then a constant. The special indexes have vector 0, which
    is all zeros. Values are rounded to half precision, in which models store them.
    """
    words = [
        pl.col(name).fill_null("").str.to_lowercase().str.replace_all(r"[\W_]+", " ").str.strip_chars()
        for name in _TEXT
    ]
    content = catalogue.frame.select(text=pl.concat_str(words, separator=" "), band="price_band")
    different = content.unique(maintain_order=True).with_row_index("place", 1)
    place = content.join(different, on=["text", "band"], how="left", maintain_order="left")["place"]
    texts = different.select("text").unique(maintain_order=True).with_row_index("place")
    encoded = _encode(texts["text"].to_list())
    of_text = different.join(texts, on="text", how="left", maintain_order="left", suffix="_of_text")["place_of_text"]
    band = different["band"].to_numpy().astype(np.float32)
    known = band > 0
    middle = (PRICE_BANDS + 1) / 2
    price = np.where(known, (band - middle) / (PRICE_BANDS - middle), 0.0)
    numbers = np.stack([price, price**2, ~known, np.ones(len(band))], axis=1) * _NUMBER_WEIGHT
    vectors = np.pad(np.concatenate([encoded[of_text.to_numpy()], numbers], axis=1), ((1, 0), (0, 0)))
    none = np.zeros(FIRST_INDEX, dtype=np.int32)
    return np.concatenate([none, place.to_numpy().astype(np.int32)]), vectors.astype(np.float16).astype(np.float32)


def _encode(texts: list[str]) -> NDArray[np.float32]:
    """Return a vector per text, (texts, 256), of unit length, or zero if no word is known."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    import wordllama  # calls logging.basicConfig, which would make every library log to the terminal

    root.handlers[:] = handlers
    root.setLevel(level)
    # Version 0.4 does not find the tokenizer in its own package, except through `cache_dir`.
    folder = Path(wordllama.__file__).parent
    encoder = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)
    once = [" ".join(dict.fromkeys(text.split())) for text in texts]  # a word in both title and category counts once
    found = np.asarray(encoder.embed(once), dtype=np.float32) if once else np.zeros((0, 256), dtype=np.float32)
    length = np.linalg.norm(found, axis=1, keepdims=True)
    return np.asarray(np.divide(found, length, out=np.zeros_like(found), where=length > 0), dtype=np.float32)
