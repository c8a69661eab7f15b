"""Items that nobody took are recommended from their content: the map by a naive solution, and a world of new items."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy.sparse import csr_array

from features.catalogue import COLUMNS, Catalogue
from features.histories import EventLog, Histories, UserLog
from features.items import item_tables
from features.recent import EVENT_CODES
from training.datasets import Rows
from training.models import content
from training.models.candidates import CandidateMaker
from training.models.content import ContentMap
from training.models.contract import model_class
from training.models.examples import count_rules, examples_of
from training.models.ranking import rank_all
from training.resamples import Resamples, paired_difference
from training.rows import Inputs, RowSet

# What goes together shares no word: only the log tells that tea needs a kettle.
PAIRS = [("green tea", "copper kettle"), ("cat food", "litter box"), ("guitar", "plectrum"), ("paint", "bristle brush")]
COLOURS = ["red", "blue", "white", "black", "golden", "silver", "pink", "orange", "brown", "violet"]
WEEKS, USERS = 9, 64
WEEK = np.timedelta64(7, "D")
START = np.datetime64("2024-01-01", "us")


def test_the_map_minimizes_its_loss_as_the_naive_solution_does() -> None:
    random = np.random.default_rng(3)
    vectors = np.concatenate([np.zeros((1, 3)), random.normal(size=(4, 3))]).astype(np.float32)
    place = np.array([0, 0, 1, 2, 3, 4, 2, 4], dtype=np.int32)  # items 3 and 6, 5 and 7 have the same content
    dense = np.zeros((8, 8), dtype=np.float32)
    dense[2:7, 2:7] = random.random((5, 5))  # item 7 was never taken
    similar = csr_array(dense + dense.T)
    prior = random.normal(size=(3, 3)).astype(np.float32)
    found = ContentMap.fit((place, vectors), similar, prior).matrix
    c = vectors[place[2:7]].astype(np.float64)
    design = np.kron(c, c)  # one line per pair of taken items
    ridge = content._RIDGE * np.eye(9)
    target = design.T @ similar.todense()[2:7, 2:7].ravel() + ridge @ prior.ravel()
    np.testing.assert_allclose(found.ravel(), np.linalg.solve(design.T @ design + ridge, target), rtol=1e-4)
    nothing = ContentMap.fit((place, vectors), csr_array((8, 8), dtype=np.float32), prior).matrix
    np.testing.assert_allclose(nothing, prior, rtol=1e-6)


def test_the_best_of_a_pool_by_hand() -> None:
    vectors = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], dtype=np.float32)
    place = np.array([0, 0, 1, 2, 3, 1, 3], dtype=np.int32)
    found = ContentMap(place, vectors, np.eye(2, dtype=np.float32))
    queries = np.array([[2, 1], [-1, 1], [0, 0]], dtype=np.float32)
    pool = found.pool(np.array([2, 3, 5, 6]))
    assert found.best(queries, pool, 3).tolist() == [[6, 2, 5], [3, 6, 2], [0, 0, 0]]
    assert found.best(queries, pool, 6)[0].tolist() == [6, 2, 5, 3, 0, 0]
    assert not found.best(queries, found.pool(np.zeros(0, dtype=np.int64)), 2).any()
    assert found.score(queries, np.array([0, 1]), np.array([6, 3])).tolist() == [3, 1]
    np.testing.assert_array_equal(found.scores(queries)[0], [0, 0, 2, 1, 3, 2, 3])


@pytest.fixture(scope="module")
def new_items() -> tuple[Rows, Catalogue]:
    """Each week, every user takes an item and, an hour later, its companion in a colour nobody has taken before."""
    titles = [f"{colour} {pair[side]}" for side in (0, 1) for pair in PAIRS for colour in COLOURS]
    items = len(titles)
    frame = pl.DataFrame({"title": titles, "item_index": pl.int_range(2, 2 + items, dtype=pl.Int32, eager=True)})
    empty = [pl.lit(0 if name.endswith(("_code", "band")) else None).alias(name) for name in COLUMNS[2:]]
    frame = frame.with_columns(item_id=pl.col("item_index").cast(pl.String))
    frame = frame.with_columns([one for one in empty if one.meta.output_name() != "title"])
    random = np.random.default_rng(0)
    theme = np.arange(USERS) % len(PAIRS)
    week = np.tile(np.arange(WEEKS), USERS)
    thing = 2 + np.repeat(theme, WEEKS) * len(COLOURS) + random.integers(0, len(COLOURS), USERS * WEEKS)
    other = 2 + items // 2 + np.repeat(theme, WEEKS) * len(COLOURS) + week
    item = np.stack([thing, other], axis=1).ravel().astype(np.int32)
    first = START + week * WEEK
    hour = np.timedelta64(1, "h")
    time = np.stack([first, first + 2 * hour], axis=1).ravel()
    ones = np.ones(len(item), dtype=np.float32)
    code = np.full(len(item), EVENT_CODES["purchase"], dtype=np.int8)
    events = EventLog(item, code, time, time, ones, ones, np.repeat(np.arange(len(week)), 2).astype(np.int32))
    begin = np.repeat(np.arange(USERS) * 2 * WEEKS, WEEKS)
    names = np.repeat(np.array([f"u{k:02}" for k in range(USERS)]), WEEKS)
    places = pl.DataFrame({"user_id": names, "begin": begin, "end": begin + 2 * WEEKS}).unique(maintain_order=True)
    log = UserLog(places, events)
    tables = item_tables(log, 2 + items, START + np.arange(WEEKS) * WEEK)
    now = first + hour
    history = Histories(events, begin + 2 * week, begin + 2 * week + 1)  # the thing alone: words must not give it away
    inputs = Inputs((), np.zeros((len(now), 0), dtype=np.float32), history, now, tables)
    targets = [np.array([one], dtype=np.int32) for one in other]
    rows = RowSet("next_item", names, inputs, targets=targets, log=log)
    train, validation, test = (
        np.flatnonzero(part) for part in (week < WEEKS - 2, week == WEEKS - 2, week == WEEKS - 1)
    )
    parts = (rows.take(train), rows.take(validation), rows.take(test), START)
    return Rows(*parts), Catalogue(frame.select(COLUMNS))


def test_unseen_candidates_have_no_event_and_are_new_to_everybody(new_items, recipe) -> None:
    rows, catalogue = new_items
    own = recipe("next_item")
    maker = CandidateMaker(catalogue, own.candidates)
    rules = count_rules(own, rows.train, maker, rows.validation.inputs.now.min())
    found = maker.make(rows.test.inputs, rules)
    sold = np.unique(rows.train.full_log.events.item_index[rows.train.full_log.events.known_time < START + 8 * WEEK])
    new = ~np.isin(found.item, sold)
    assert (np.bincount(found.row[new], minlength=found.rows) == own.candidates.unseen).all()
    assert {"content_score", "content_rank"} <= set(maker.names)
    without = CandidateMaker(catalogue, own.candidates.model_copy(update={"unseen": 0}))
    plain = without.make(rows.test.inputs, replace(rules, content=None))
    assert np.isin(plain.item, sold).all()
    assert not {"content_score", "content_rank"} & set(without.names)


def test_content_is_left_out_where_nobody_takes_new_items(new_items, rows, recipe, catalogue) -> None:
    """In the tiny world every item was taken before; in the other, every target is new to everybody."""
    own = recipe("next_item")
    used = {}
    for name, (found, items) in {"old": (rows("next_item"), catalogue), "new": new_items}.items():
        maker = CandidateMaker(items, own.candidates)
        examples, held_out = examples_of(own, maker, found.train, found.validation)
        used[name] = maker.uses_content
        assert examples.features.shape[1] == held_out.features.shape[1]
        assert ("content_score" in maker.names) == maker.uses_content
    assert used == {"old": False, "new": True}


def test_cold_items_are_found_better_than_by_popularity_chance_and_words_alone(new_items, recipe) -> None:
    rows, catalogue = new_items
    fitted = {}
    for name in ("content_knn", "popularity"):
        fitted[name] = model_class(name)(recipe("next_item"), catalogue)
        fitted[name].fit(rows.train, rows.validation, None)
    own = fitted["content_knn"].content
    words = replace(own, matrix=np.eye(len(own.matrix), dtype=np.float32))
    inputs = rows.test.inputs
    sold = np.unique(rows.train.full_log.events.item_index[rows.train.full_log.events.known_time < START + 8 * WEEK])
    cold = np.setdiff1d(np.arange(2, catalogue.size), sold)
    target = np.concatenate(rows.test.target_sets)
    assert np.isin(target, cold).all()
    found = {
        name: one.best(one.queries(inputs.history), one.pool(cold), 2) for name, one in (("log", own), ("words", words))
    }
    random = np.random.default_rng(1)
    found["chance"] = np.stack([random.permutation(cold)[:2] for _ in target])
    found["popularity"] = fitted["popularity"].recommend(inputs, catalogue.size - 2).items
    found["popularity"] = np.stack([row[np.isin(row, cold)][:2] for row in found["popularity"]])
    resamples = Resamples(rows.test.user_id, 200, seed=5)
    hit = {name: resamples.mean((best == target[:, None]).any(axis=1).astype(float)) for name, best in found.items()}
    assert hit["log"][0] > 0.9
    for name in ("words", "chance", "popularity"):
        assert paired_difference(hit["log"], hit[name]).low > 0, name


@pytest.mark.tensorflow
def test_the_ranker_recommends_unseen_items_where_people_take_them(new_items, recipe) -> None:
    """No candidate of another source is a target: the test above."""
    rows, catalogue = new_items
    model = model_class("listwise_ranker")(recipe("next_item", epochs=6), catalogue)
    model.fit(rows.train, rows.validation, None)
    ranked = rank_all(model, rows.test.inputs, k=3)
    assert model._neighbours is not None
    assert model._neighbours.content is not None
    hit = [np.isin(wanted, best).all() for wanted, best in zip(rows.test.target_sets, ranked, strict=True)]
    assert np.mean(hit) > 0.8
