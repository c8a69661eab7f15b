"""Links lead somewhere, pictures are well formed and small, tables of the docs are complete, prose keeps to itself."""

import re
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import yaml

Page = Any  # tests/docs/conftest.py
SCREENSHOTS = {"docs/images/airflow.png", "docs/images/service.png", "docs/images/feature-catalogue.png"}
MAX_PICTURE_BYTES = 300_000


def test_links_lead_to_files(root: Path, pages: list[Page]) -> None:
    for page in pages:
        for link in page.links:
            target = (page.path.parent / link.partition("#")[0]).resolve()
            if str(target.relative_to(root)) not in SCREENSHOTS:
                assert target.exists(), f"{page.path.name} -> {link}"


@pytest.mark.parametrize("name", sorted(SCREENSHOTS))
def test_screenshots_are_pngs_and_small(root: Path, name: str) -> None:
    path = root / name
    if not path.exists():
        pytest.skip(f"{name} has not been taken yet")
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n")
    assert len(content) < MAX_PICTURE_BYTES


def test_the_picture_is_well_formed_and_names_the_six_tools(root: Path) -> None:
    tree = ET.fromstring((root / "docs/images/overview.svg").read_text(encoding="utf-8"))  # noqa: S314  (our own file)
    words = " ".join(tree.itertext())
    for tool in ("Airflow", "DVC", "Great Expectations", "Feast", "Keras", "BentoML"):
        assert tool in words
    for folder in ("events/", "expectations/", "features/", "training/", "serving/"):
        assert folder in words
        assert (root / folder).is_dir()


def test_nothing_is_loaded_from_elsewhere(root: Path) -> None:
    picture = (root / "docs/images/overview.svg").read_text(encoding="utf-8")
    assert set(re.findall(r"https?://\S+?(?=\")", picture)) == {"http://www.w3.org/2000/svg"}


def test_map_of_folders_is_complete(root: Path, english: Page) -> None:
    named = set(english.links)
    folders = {path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")}
    documented = {name for name in named if (root / name).is_dir()} | {"docs"}
    assert folders - {"outs", "var", "lake", "dvc_plots"} <= documented
    assert documented - {"events/mappings"} <= folders


def test_every_decision_is_dated_and_in_the_index(root: Path) -> None:
    index = (root / "docs/README.md").read_text()
    pages = sorted((root / "docs/decisions").glob("*.md"))
    assert pages
    for path in pages:
        date = re.match(r"(\d{4}-\d{2}-\d{2})-[a-z0-9-]+\.md$", path.name)
        assert date is not None, path.name
        assert f"decisions/{path.name}" in index, path.name
        title, _, body = path.read_text().partition("\n\n")
        assert f"[{title.removeprefix('# ')}]" in index
        assert body.startswith(f"{date[1]}. ")


def test_every_dependency_has_its_line(root: Path) -> None:
    groups = tomllib.loads((root / "pyproject.toml").read_text())["dependency-groups"]
    page = (root / "docs/decisions/2026-11-24-dependencies.md").read_text()
    lines = re.findall(r"^\| ([a-z-]+) \| ([a-z0-9-]+) \|", page, flags=re.MULTILINE)
    stated = {(group, name) for group, name in lines if group != "group"}
    names = {
        (group, re.match(r"[A-Za-z0-9-]+", entry)[0].lower())
        for group, entries in groups.items()
        for entry in entries
        if isinstance(entry, str)
    }
    assert {name for _, name in names} == {name for _, name in stated}
    assert stated <= names


def test_production_page_names_every_service(root: Path) -> None:
    page = (root / "docs/production.md").read_text()
    for name in yaml.safe_load((root / "docker-compose.yml").read_text())["services"]:
        assert f"`{name}`" in page, name


def test_architecture_names_the_outs_of_dvc_yaml(root: Path) -> None:
    page = (root / "docs/architecture.md").read_text()
    stages = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
    for stage in stages.values():
        for out in [*stage.get("outs", []), *stage.get("metrics", []), *stage.get("plots", [])]:
            folder, name = "/".join(Path(out).parts[:2]), Path(out).name
            assert f"`{folder}`" in page, out
            assert name in page, out


def test_licence_is_the_one_that_pyproject_states(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert project["license"] == "Apache-2.0"
    text = (root / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text
    assert "9. Accepting Warranty or Additional Liability" in text
    assert "END OF TERMS AND CONDITIONS" in text


@pytest.mark.parametrize("mapping", ["complete_journey", "online_retail", "rees46_electronics"])
def test_notice_speaks_of_the_data_of_every_mapping(root: Path, mapping: str) -> None:
    assert (root / f"events/mappings/{mapping}.yaml").is_file()
    words = {
        "complete_journey": "The Complete Journey",
        "online_retail": "Online Retail",
        "rees46_electronics": "REES46",
    }
    assert words[mapping] in (root / "NOTICE.md").read_text()
