"""docs/features.md lists every feature view, with its key, how often it has a row, and whether it is online."""

from pathlib import Path
from typing import Any

from features.definitions import VIEW_MEANING, VIEWS
from features.page.page import rhythm

Page = Any  # tests/docs/conftest.py


def test_views(root: Path, pages: list[Page]) -> None:
    (page,) = [page for page in pages if page.path == root / "docs/features.md"]
    rows = {row[0].strip("`"): row[1:4] for row in page.rows if row[0].startswith("`")}
    assert list(rows) == list(VIEW_MEANING)
    for view in VIEWS:
        keys = ", ".join(f"`{key}`" for key in view.keys)
        assert rows[view.name] == [keys, rhythm(view.name), "yes" if view.online else "no"]
    for name in set(rows) - {view.name for view in VIEWS}:
        assert rows[name][1] == rhythm(name)
