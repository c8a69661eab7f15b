"""A lake on S3 as people use it: the commands, the stage that freezes it; and stores that cannot hold one."""

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from events.account import TableAccount
from events.lake import Snapshot
from events.lake.known_ids import KnownIds
from events.lake.table import Lake
from events.mapping import Mapping
from events.stages import fetch, ingest
from shoplens.errors import SourceError
from shoplens.files import folder_digest
from shoplens.params import load_params
from shoplens.settings import Settings
from tests.lake_content import lake_digest
from tests.read_source import append, read_source

Load = Callable[[str], Mapping]
Write = Callable[..., Path]

TABLES = """\
events:
  - table: log
    columns: {event_id: id, event_time: ts, user_id: who, item_id: sku}
    constants: {event_name: view_item}
users: {table: people, columns: {user_id: who, birth_year: born}}
"""
HEAD = "id,ts,who,sku"
ROWS = ["1,2024-07-01 10:00:00,ann,a", "2,2024-07-02 10:00:00,bob,b", "3,soon,bob,b"]


@pytest.fixture
def source(mapping_of: Load, write: Write) -> tuple[Mapping, list[Path]]:
    return mapping_of(TABLES), [write("in/log.csv", HEAD, *ROWS), write("in/people.csv", "who,born", "ann,1980")]


def test_the_commands_on_s3(
    source: tuple[Mapping, list[Path]], tmp_path: Path, bucket: str, call: Callable[..., str]
) -> None:
    lake = ("--lake", f"{bucket}/lake")
    call("ingest", "--mapping", "shop.yaml", *lake, "in")
    assert "log.csv: event_time_not_a_time 1" in call("quarantine", "list", "--out", "rows.jsonl", *lake)
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps(json.loads(rows.read_text()) | {"ts": "2024-07-03 10:00:00"}) + "\n")
    assert "1 accepted" in call("quarantine", "replay", "--mapping", "shop.yaml", "--rows", "rows.jsonl", *lake)
    assert call("lake", "status", *lake).splitlines()[:2] == [
        f"{bucket}/lake: version 2, identity user",
        "3 events of 3 days, 2024-07-01 to 2024-07-03",
    ]


def test_a_lake_on_s3_is_frozen_as_one_in_a_folder(
    source: tuple[Mapping, list[Path]], tmp_path: Path, root: Path, bucket: str
) -> None:
    found = load_params(root / "params.yaml")
    digests = []
    for place in (f"{bucket}/lake", str(tmp_path / "lake")):
        append(place, source[0], read_source(*source))
        data = {"source": place, "mapping": "shop.yaml", "as_of": None, "user_share": 1.0}
        params = found.model_copy(update={"data": found.data.model_copy(update=data)})
        settings = Settings(root=tmp_path, outs=Path(f"outs-{len(digests)}"))
        fetch(params, settings)
        ingest(params, settings)
        digests.append((folder_digest(settings.outs_dir / "raw"), folder_digest(settings.outs_dir / "events")))
    assert digests[0] == digests[1]
    assert pl.read_parquet(tmp_path / "outs-0/raw/users.parquet").rows() == [("ann", None, None, 1980)]
    assert lake_digest(f"{bucket}/lake") == lake_digest(tmp_path / "lake")


def test_a_url_that_holds_no_lake_is_reported(
    source: tuple[Mapping, list[Path]], tmp_path: Path, root: Path, bucket: str
) -> None:
    found = load_params(root / "params.yaml")
    data = {"source": f"{bucket}/nothing", "mapping": "shop.yaml", "as_of": None, "user_share": 1.0}
    with pytest.raises(SourceError, match=rf"must be a lake; {bucket}/nothing is not"):
        fetch(found.model_copy(update={"data": found.data.model_copy(update=data)}), Settings(root=tmp_path))


def test_a_store_that_overwrites_what_it_was_told_to_leave_is_rejected(
    source: tuple[Mapping, list[Path]], careless_s3_server: str, new_bucket: Callable[[str], str]
) -> None:
    with pytest.raises(SourceError, match=r"overwrites a file in spite of If-None-Match"):
        append(f"{new_bucket(careless_s3_server)}/lake", source[0], read_source(*source))


def test_a_store_that_denies_access_is_reported_in_one_line(
    source: tuple[Mapping, list[Path]], bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # nobody listens on the discard port
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(SourceError, match=r"cannot be reached.*credentials") as caught:
        append(f"{bucket}/lake", source[0], read_source(*source))
    assert "\n" not in str(caught.value)


def test_an_append_reads_the_days_that_it_shares_an_id_with_and_no_other(
    mapping_of: Load, write: Write, tmp_path: Path
) -> None:
    mapping, lake = mapping_of(TABLES.replace("users:", "#")), tmp_path / "lake"

    def ingest(*rows: str) -> TableAccount:
        return append(lake, mapping, read_source(mapping, [write("log.csv", HEAD, *rows)]))["log.csv"]

    ingest(*(f"{n},2024-{1 + n // 28:02}-{1 + n % 28:02} 10:00:00,ann,a" for n in range(200)))
    events = Snapshot(lake).events
    KnownIds(Lake(lake), events).catch_up()
    # 5 is of the 6th of January, 30 of the 3rd of February: without the files of all other days it can be found
    for folder in (lake / "events").glob("day=*"):
        if folder.name not in ("day=2024-01-06", "day=2024-02-03"):
            folder.rename(tmp_path / folder.name)
    shared = ["5,2024-01-06 10:00:00,ann,a", "30,2024-03-01 10:00:00,ann,a", "later,2024-05-01 10:00:00,ann,a"]
    assert ingest(*shared) == TableAccount(3, 1, {"event_id_with_other_content": 1}, 1)
    assert ingest(*(f"new-{n},2024-01-{1 + n % 28:02} 10:00:00,ann,a" for n in range(100))).accepted == 100
    with pytest.raises(SourceError, match="a file is gone"):
        ingest("6,2024-01-07 10:00:00,ann,a")
