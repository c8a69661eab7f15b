"""The lines of the README that open the lake with other tools, executed as they stand there."""

import re
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from events.erase import revert
from events.lake.maintenance import compact
from events.lake.table import Lake
from events.mapping import Mapping
from tests.lake_content import read_events
from tests.read_source import append, lake_accounts, read_source

TABLES = """\
events:
  - table: log
    columns: {event_id: id, event_time: ts, user_id: who, item_id: sku}
    constants: {event_name: view_item}
users: {table: people, columns: {user_id: who, birth_year: born}}
"""
DAYS = [date(2024, 7, 1), date(2024, 7, 1), date(2024, 7, 2)]


@pytest.fixture
def names(
    mapping_of: Callable[[str], Mapping], write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """The variables of the README's lines after they ran beside a lake of three batches, one of which is reverted."""
    mapping, lake = mapping_of(TABLES), tmp_path / "lake"
    for n, day in enumerate((1, 1, 2, 3), start=1):
        log = write("log.csv", "id,ts,who,sku", f"{n},2024-07-0{day} 10:00:00,ann,a")
        append(lake, mapping, read_source(mapping, [log, write("people.csv", "who,born", f"ann,198{n}")]))
    compact(Lake(lake))
    revert(lake, lake_accounts(lake)[3]["batch"])
    monkeypatch.chdir(tmp_path)
    section = (Path(__file__).parents[2] / "README.md").read_text().partition("### Open the lake with any tool")[2]
    found: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", section.partition("\n## ")[0], re.DOTALL):
        if "spark" in block:
            found["for_spark"] = block
        else:
            exec(block, found)  # noqa: S102  (the README's own lines)
    return found


def test_the_readme_reads_the_lake_in_polars_pandas_and_duckdb(names: dict[str, Any], tmp_path: Path) -> None:
    ids = read_events(tmp_path / "lake")["event_id"].to_list()
    assert ids == ["1", "2", "3"]
    in_duckdb = names["in_duckdb"].order("event_id").fetchnumpy()
    assert list(in_duckdb["event_id"]) == ids
    assert in_duckdb["day"].astype("datetime64[D]").tolist() == DAYS
    assert names["in_polars"].sort("event_id").select("event_id", "day").rows() == list(zip(ids, DAYS, strict=True))
    in_pandas = names["in_pandas"].sort_values("event_id")
    assert [*zip(in_pandas["event_id"], in_pandas["day"], strict=True)] == list(zip(ids, DAYS, strict=True))


def test_the_readme_joins_side_tables_and_reads_history(names: dict[str, Any], tmp_path: Path) -> None:
    assert names["users"]["birth_year"].to_list() == [1981, 1982, 1983]
    assert names["history"]["mapping"].to_list() == ["shop", "shop", "shop", "shop", "revert"]
    assert names["history"]["batch"][:3].to_list() == [one["batch"] for one in lake_accounts(tmp_path / "lake")]
    assert "WRITE" in {commit["operation"] for commit in names["commits"]}
    assert names["first_version"]["event_id"].to_list() == ["1"]


def test_the_readme_reads_the_lake_in_spark(names: dict[str, Any]) -> None:
    from pyspark.sql import SparkSession

    spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
    try:
        exec(names["for_spark"], names | {"spark": spark}, rows := {})  # noqa: S102  (the README's own lines)
        found = rows["in_spark"].select("event_id", "day").orderBy("event_id").collect()
        assert [tuple(row) for row in found] == list(zip(["1", "2", "3"], DAYS, strict=True))
    finally:
        spark.stop()
