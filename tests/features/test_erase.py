"""Erasure after a killed or damaged load: it finishes, and nothing of the person remains."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl
import pytest

from events.contract import QUARANTINE_SCHEMA
from events.lake import append_events
from features.erase import erase_user
from features.materialize import _sorting, materialize
from features.store import places
from shoplens.errors import StoreUnavailableError
from tests.features.conftest import STORY, at, contract_log
from tests.lake_content import read_events

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


def _load_other_data(story: Any) -> None:
    story.put(pl.read_parquet(story.validated / "events.parquet"), end=at("2024-01-09 00:00"))
    story.build()
    materialize(story.settings)


@pytest.mark.parametrize(
    "run", [lambda story: erase_user(story.settings, "ann"), _load_other_data], ids=["erase", "load"]
)
def test_spilled_rows_of_a_killed_load_are_removed(story: Any, run: Callable[[Any], Any]) -> None:
    materialize(story.settings)
    spilled = places(story.settings).current.resolve() / "spill/duckdb_temp_storage_DEFAULT-0.tmp"
    spilled.parent.mkdir()
    spilled.write_bytes(b"ann")
    run(story)
    assert spilled.parent.parent.exists()
    assert not spilled.parent.exists()


def test_spilled_rows_of_a_failed_load_are_removed(tmp_path: Path) -> None:
    (tmp_path / "spill").mkdir()
    with pytest.raises(OSError, match="disk full"), _sorting(tmp_path):
        raise OSError("disk full")
    assert not (tmp_path / "spill").exists()


@pytest.mark.parametrize("intact", [0, 4096], ids=["is no database", "has a header only"])
def test_a_damaged_store_is_removed_and_the_person_erased_from_the_rest(story: Any, intact: int) -> None:
    materialize(story.settings)
    damaged = places(story.settings).online.resolve()
    _load_other_data(story)
    damaged.write_bytes(damaged.read_bytes()[:intact] + b"ann?" * 4096)
    append_events(story.settings.lake_dir, "user", contract_log(*STORY), pl.DataFrame(schema=QUARANTINE_SCHEMA), "one")
    report = erase_user(story.settings, "ann")
    assert not damaged.exists()
    assert len(report.broken) == 1
    assert list(report.online) == [places(story.settings).online.resolve().stem]
    assert sum(next(iter(report.online.values())).values()) > 0
    assert report.offline
    assert set(read_events(story.settings.lake_dir)["user_id"]) == {"bob"}


def test_the_lake_is_erased_although_the_stores_cannot_be(story: Any) -> None:
    materialize(story.settings)
    append_events(story.settings.lake_dir, "user", contract_log(*STORY), pl.DataFrame(schema=QUARANTINE_SCHEMA), "one")
    places(story.settings).state.write_text("{")
    with pytest.raises(StoreUnavailableError, match="run `shoplens materialize`"):
        erase_user(story.settings, "ann")
    assert set(read_events(story.settings.lake_dir)["user_id"]) == {"bob"}
