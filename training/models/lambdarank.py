"""LambdaRank: boosted trees over the same candidates and numbers as the listwise ranker."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from features.catalogue import Catalogue
from shoplens.errors import ModelError
from training.models.candidates import CandidateMaker
from training.models.contract import Model, Recipe
from training.models.counts import popular_items
from training.models.examples import count_rules, examples_of
from training.models.neighbours import Neighbours
from training.models.ranking import Ranking, ranked_pairs
from training.models.space import Among, Between
from training.rows import Inputs, RowSet

_BATCH = 128  # rows ranked at once
_PATIENCE = 30  # trees without a better NDCG on the validation rows
_SETTINGS: dict[str, Any] = {
    "objective": "lambdarank",
    "metric": "ndcg",
    "eval_at": [10],
    "lambdarank_truncation_level": 20,
    "num_leaves": 31,
    "min_data_in_leaf": 200,
    "learning_rate": 0.06,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 2,
    "verbosity": -1,
}
_TREES = 400


def _lightgbm() -> Any:
    try:
        import lightgbm
    except OSError as error:
        raise ModelError(
            f"lambdarank: LightGBM needs the system library libgomp.so.1, which cannot be loaded ({error}). Install "
            f"it (Debian: apt-get install libgomp1), or remove lambdarank from train.next_item.baselines"
        ) from error
    return lightgbm


class LambdaRank(Model):
    """Candidates ranked by LightGBM (Burges, "From RankNet to LambdaRank to LambdaMART", MSR-TR-2010-82)."""

    name = "lambdarank"
    tasks = frozenset({"next_item"})
    space: ClassVar = {
        "candidates.memory": Among((48, 96, 144)),
        "candidates.neighbours": Among((0, 16, 32, 48)),
        "candidates.popular": Between(4, 40),
    }

    def __init__(self, recipe: Recipe, catalogue: Catalogue) -> None:
        super().__init__(recipe, catalogue)
        if recipe.candidates is None:
            raise ModelError("train.next_item.candidates: must be set for lambdarank; it is missing")
        self._maker = CandidateMaker(catalogue, recipe.candidates)
        self._neighbours: Neighbours | None = None

    def fit(self, train: RowSet, validation: RowSet, live: Path | None) -> None:
        """Grow trees until NDCG@10 on the validation rows stops improving."""
        lightgbm = _lightgbm()
        examples, held_out = examples_of(self.recipe, self._maker, train, validation)
        data = [
            lightgbm.Dataset(one.features.astype(np.float32), one.target.astype(np.int8), group=one.count)
            for one in (examples, held_out)
        ]
        self._booster = lightgbm.train(
            {**_SETTINGS, "seed": self.recipe.seed},
            data[0],
            _TREES,
            valid_sets=[data[1]],
            callbacks=[lightgbm.early_stopping(_PATIENCE, verbose=False)],
        )
        self._neighbours = count_rules(self.recipe, train, self._maker.size, validation.inputs.now.max())

    def recommend(self, inputs: Inputs, k: int) -> Ranking:
        """See `Model.recommend`."""
        parts = []
        for begin in range(0, len(inputs), _BATCH):
            rows = inputs.take(slice(begin, begin + _BATCH))
            found = self._maker.make(rows, self._neighbours)
            score = np.asarray(self._booster.predict(found.features), dtype=np.float32)
            ranking = ranked_pairs(found.row, found.item, score, found.rows, k)
            parts.append(ranking.filled(popular_items(rows, "item_events_7d", 2 * k)))
        return Ranking.join(parts)

    def export(self, folder: Path) -> dict[str, Any]:
        """Write the trees and rules."""
        self._booster.save_model(folder / "trees.txt", num_iteration=self._booster.best_iteration)
        if self._neighbours is not None:
            self._neighbours.save(folder / "neighbours.npz")
        return {}

    def restore(self, folder: Path, kept: dict[str, Any]) -> None:
        """Load what `export` wrote."""
        self._booster = _lightgbm().Booster(model_file=folder / "trees.txt")
        if (folder / "neighbours.npz").exists():
            self._neighbours = Neighbours.load(folder / "neighbours.npz")

    def parameter_count(self) -> int:
        """Return the number of leaves."""
        return int(self._booster.num_trees() * _SETTINGS["num_leaves"])
