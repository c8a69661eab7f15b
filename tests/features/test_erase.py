"""Erasure after a killed or damaged load: it finishes, and nothing of the person remains."""

from typing import Any
from uuid import uuid4

import polars as pl
import pytest

from features.erase import erase_user
from features.materialize import materialize
from features.store import places

pytestmark = pytest.mark.stores


def test_temporary_files_of_killed_loads_and_stages_do_not_stop_an_erasure(story: Any) -> None:
    materialize(story.settings)
    offline = places(story.settings).offline
    killed_load, killed_stage = (
        parent / f".{name}.{uuid4().hex}.tmp"
        for parent, name in ((offline, "0" * 64), (story.settings.outs_dir, "features"))
    )
    for folder in (killed_load, killed_stage):
        folder.mkdir()
        (folder / "user_profile.parquet").write_bytes(b"PAR1ann")  # no footer yet
    killed_erasure = (offline / "current").resolve() / ".user_profile.parquet.1.tmp"
    killed_erasure.write_bytes(b"PAR1ann")
    report = erase_user(story.settings, "ann")
    assert report.offline
    assert not any("tmp" in path for path in report.recompute)
    assert not killed_load.exists()
    assert not killed_erasure.exists()
    assert killed_stage.exists()  # the stage may be running


def test_copies_of_an_earlier_version_are_erased_too(story: Any) -> None:
    materialize(story.settings)
    copy = places(story.settings).current.resolve()
    earlier = copy / "latest/user_profile.parquet"
    earlier.parent.mkdir()
    earlier.write_bytes((copy / "user_profile.parquet").read_bytes())
    report = erase_user(story.settings, "ann")
    assert report.offline[f"offline/{copy.name}/latest/user_profile.parquet"] == 1
    assert sorted(pl.read_parquet(earlier)["user_id"]) == ["bob", "quiet"]
