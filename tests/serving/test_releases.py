"""Releases on disk: the pointer moves by rename, releases do not change."""

from pathlib import Path

import pytest

from serving.releases import current_release, install, package_version, put_into_service
from shoplens.errors import ReleaseError
from shoplens.settings import Settings


def _package(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "manifest.json").write_text(text)
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(root=tmp_path, var=Path("var"))


def test_pointer_follows_and_same_release_changes_nothing(settings: Settings, tmp_path: Path) -> None:
    assert current_release(settings) is None
    first = install(_package(tmp_path / "a", "1"), settings)
    second = install(_package(tmp_path / "b", "2"), settings)
    assert put_into_service(first, settings)
    assert not put_into_service(first, settings)
    assert put_into_service(second, settings)
    assert current_release(settings) == second.resolve()
    assert first.is_dir()
    assert [p.name for p in (tmp_path / "var/service").glob(".current*")] == []


def test_changed_release_is_refused(settings: Settings, tmp_path: Path) -> None:
    package = _package(tmp_path / "a", "1")
    release = install(package, settings)
    assert release.name == package_version(package)
    (release / "manifest.json").write_text("other")
    with pytest.raises(ReleaseError, match="digest"):
        install(package, settings)


def test_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"manifest\.json"):
        package_version(tmp_path)
