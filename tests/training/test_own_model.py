"""The model of docs/adding-a-model.md, registered as the page says, goes the whole way from parameters to metrics."""

import re
from pathlib import Path

import pytest

from shoplens.errors import SettingsError
from shoplens.models import MODELS
from shoplens.params import parse_params
from shoplens.yaml_file import set_values
from training.evaluate import evaluate_model
from training.fit import recipe_of, train_model
from training.models import artifact
from training.resamples import Resamples


def test_the_model_of_the_page_is_trained_saved_and_evaluated(
    root: Path, rows, catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (root / "docs/adding-a-model.md").read_text()
    module, line = re.findall(r"^```python\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    name, target = re.fullmatch(r'"(\w+)": "training\.models\.(\w+:\w+)",\n', line).groups()
    (tmp_path / "markov_chain.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    text = (root / "params.yaml").read_text()
    named = set_values(text, {"train.next_item.model": name})
    with pytest.raises(SettingsError, match=r"train\.next_item\.model: .*must be one of .*received 'markov_chain'"):
        parse_params(named, "params.yaml")
    monkeypatch.setitem(MODELS["next_item"], name, target)
    params = parse_params(named, "params.yaml")
    found, recipe = rows("next_item"), recipe_of("next_item", params)
    resamples = Resamples(found.test.user_id, 50, params.seed)
    reached = {}
    for one in (params.train.next_item.model, "popularity"):
        model = train_model(one, recipe, found, catalogue)
        artifact.save(model, found.train.inputs.names, found.learned_until, tmp_path / one)
        back = artifact.load(tmp_path / one)
        evaluation = evaluate_model(back, found.test, resamples)
        assert (evaluation.ranked == evaluate_model(model, found.test, resamples).ranked).all()
        reached[one] = evaluation.intervals()["ndcg@10"]
    # The latest event is most often with the person's favourite, which follows itself; popularity knows no person.
    assert reached[name].low > reached["popularity"].high
