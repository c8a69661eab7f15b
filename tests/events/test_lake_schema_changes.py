"""A source whose tables change: what is reported, what is rejected."""

from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from test_broken_inputs import CASES, Case
from test_broken_inputs import TABLES as BROKEN_TABLES

from events.lake import Snapshot
from events.lake.schema_changes import changes, known_sources, source_columns
from events.lake.table import Lake
from events.mapping import Mapping
from events.sources.files import kind_of
from shoplens.errors import SourceError
from tests.lake_content import read_events
from tests.read_source import append, read_source

Load = Callable[[str], Mapping]
Write = Callable[..., Path]
Bring = Callable[[Path], list[str]]

TABLES = """\
events:
  - table: log
    columns: {event_time: ts, user_id: who, item_id: sku, price: price}
    constants: {event_name: view_item}
"""
HEAD = "ts,who,sku,price,colour"
ROWS = [f"2024-07-0{n} 10:00:00,user-{n},{n * 7},{n}.5,red" for n in range(1, 9)] * 2


@pytest.fixture
def bring(mapping_of: Load, tmp_path: Path) -> Bring:
    """Append a file as the command does; return what it says of the source."""

    def run(source: Path, tables: str = TABLES) -> list[str]:
        mapping, lake = mapping_of(tables), tmp_path / "lake"
        columns = source_columns(mapping, [source])
        said = changes(known_sources(Lake(lake), mapping.name), mapping, columns)
        append(lake, mapping, read_source(mapping, [source]), columns)
        return said

    return run


def test_the_same_columns_report_nothing(bring: Bring, write: Write) -> None:
    assert bring(write("log.csv", HEAD, *ROWS)) == []
    # whole prices, one bad time, an empty colour: rows differ, the source does not
    rows = ["2024-08-01 10:00:00,ann,1,2,", "2024-08-01 11:00:00,bob,2,3,", "soon,eve,3,4,"]
    assert bring(write("log.csv", HEAD, *rows)) == []
    assert bring(write("log.csv", HEAD, *ROWS)) == []


@pytest.mark.parametrize(
    ("head", "change", "said"),
    [
        (f"{HEAD},coupon", ",SAVE10", ["log: new column coupon, kept in attributes"]),
        (
            "ts,who,sku,price,tint",
            "",
            [
                "shop, table log: column colour (text) is gone",
                "log: new column tint, kept in attributes",
            ],
        ),
    ],
    ids=["new", "renamed, not mapped"],
)
def test_what_a_lake_can_hold_is_reported(bring: Bring, write: Write, head: str, change: str, said: list[str]) -> None:
    bring(write("log.csv", HEAD, *ROWS))
    assert bring(write("log.csv", head, *(row + change for row in ROWS))) == said
    assert bring(write("log.csv", head, *(row + change for row in ROWS))) == [], "said once"


def test_a_new_column_is_kept_in_attributes(bring: Bring, write: Write, tmp_path: Path) -> None:
    bring(write("log.csv", HEAD, *ROWS))
    bring(write("log.csv", f"{HEAD},coupon", "2024-09-01 10:00:00,ann,1,1.5,red,SAVE10"))
    assert {"key": "coupon", "value": "SAVE10"} in read_events(tmp_path / "lake")["attributes"][-1].to_list()


def test_a_column_that_is_gone_and_not_read_is_reported(bring: Bring, write: Write) -> None:
    bring(write("log.csv", HEAD, *ROWS))
    rows = [row.removesuffix(",red") for row in ROWS]
    assert bring(write("log.csv", "ts,who,sku,price", *rows)) == ["shop, table log: column colour (text) is gone"]


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (
            "ts,who,sku,unit_price,tint",
            r"column price \(float\) is gone, which the mapping reads. .* name in the mapping \(unit_price, tint\?\)",
        ),
        (
            "ts,who,sku,colour",
            r"column price \(float\) is gone, which the mapping reads. Bring it back, or take it out",
        ),
        ("moment,who,sku,price,colour", r"write its new name in the mapping \(moment\?\)"),
    ],
)
def test_a_mapped_column_that_is_gone_is_rejected_and_nothing_is_written(
    bring: Bring, write: Write, tmp_path: Path, head: str, said: str
) -> None:
    bring(write("log.csv", HEAD, *ROWS))
    gone = "price" not in head
    rows = [",".join(part for n, part in enumerate(row.split(",")) if n != 3 or not gone) for row in ROWS]
    with pytest.raises(SourceError, match=said):
        bring(write("log.csv", head, *rows))
    assert Snapshot(tmp_path / "lake").version == 1


def test_a_renamed_column_that_the_mapping_follows_is_accepted(bring: Bring, write: Write, tmp_path: Path) -> None:
    bring(write("log.csv", HEAD, *ROWS))
    source = write("log.csv", HEAD.replace("price", "unit_price"), *(row.replace("07-", "08-") for row in ROWS))
    said = bring(source, TABLES.replace("price: price", "price: unit_price"))
    assert said == ["shop, table log: column price (float) is gone"]
    assert read_events(tmp_path / "lake")["price"].sum() == 2 * (36 + 8 * 0.5)  # 1.5 + … + 8.5, twice


NOON = datetime(2024, 7, 1, 12, tzinfo=UTC)
BASE = {"ts": [NOON] * 4, "who": list("abcd"), "sku": [1, 2, 3, 4], "price": [1.5, 2.5, 3.5, 4.5]}


def write_parquet(target: Path, column: str, values: pl.Series) -> Path:
    """Write the base with another column, ten times over: of a few values nothing is said."""
    frame = pl.DataFrame(BASE).with_columns(values.alias(column))
    pl.concat([frame] * 10).write_parquet(target)
    return target


@pytest.mark.parametrize(
    ("column", "before", "after", "said"),
    [
        ("sku", pl.Series([1, 2, 3, 4], dtype=pl.Int32), pl.Series([1, 2, 3, 4]), None),
        ("price", pl.Series([1, 2, 3, 4]), pl.Series([1.5, 2.0, 3.0, 4.0]), "is wider: int before, float now"),
        ("sku", pl.Series([1, 2, 3, 4]), pl.Series(["a1", "a2", "a3", "a4"]), "is wider: int before, text now"),
        ("ts", pl.Series([date(2024, 7, 1)] * 4), pl.Series([NOON] * 4), "is wider: date before, timestamp now"),
        # text in place of text, whatever it looks like; and bad values that have become good ones
        ("sku", pl.Series(["2024-07-01"] * 4), pl.Series(["1", "2", "3", "4"]), None),
        ("price", pl.Series(["EUR 1", "EUR 2", "EUR 3", "4"]), pl.Series([1.5, 2.5, 3.5, 4.5]), None),
        # as pandas writes whole numbers, one of which is missing
        ("sku", pl.Series([1, 2, 3, 4]), pl.Series([1.0, 2.0, None, 4.0]), "is wider: int before, float now"),
        ("sku", pl.Series([1.0, 2.0, None, 4.0]), pl.Series([1, 2, 3, 4]), None),
        # any number is a number, and any value is text
        ("price", pl.Series([1.5, 2.5, 3.5, 4.5]), pl.Series([1, 2, 3, 4]), None),
        ("sku", pl.Series(["1", "2", "3", "4"]), pl.Series([1, 2, 3, 4]), None),
        ("price", pl.Series([None] * 4, dtype=pl.Float64), pl.Series(["1", "2", "3", "4"]), None),
    ],
    ids=["int32-int64", "int-float", "int-text", "date-timestamp", "any text", "repaired", "int-whole", "whole-int",
         "float-int", "digits-int", "empty-any"],
)  # fmt: skip
def test_a_wider_type_is_accepted(
    bring: Bring, tmp_path: Path, column: str, before: pl.Series, after: pl.Series, said: str | None
) -> None:
    for values in (before, after):
        lines = bring(write_parquet(tmp_path / "log.parquet", column, values))
    assert [line for line in lines if "new column" not in line] == (
        [] if said is None else [f"shop, table log: column {column} {said}"]
    )


@pytest.mark.parametrize(
    ("column", "before", "after", "said"),
    [
        ("ts", pl.Series([NOON] * 4), pl.Series([date(2024, 7, 1)] * 4), "timestamp.*received date.*narrower"),
        ("sku", pl.Series(["007", "008", "009", "010"]), pl.Series([7, 8, 9, 10]), "text.*received int.*narrower"),
        ("price", pl.Series([1.5, 2.5, 3.5, 4.5]), pl.Series(["EUR 1", "EUR 2", "3", "EUR 4"]), "float.*received text"),
        ("ts", pl.Series([NOON] * 4), pl.Series([1719835200] * 4), "timestamp.*received int.*another type"),
    ],
    ids=["timestamp-date", "leading zeros", "number-text", "time-epoch"],
)  # fmt: skip
def test_a_narrower_or_another_type_is_rejected_and_nothing_is_written(
    bring: Bring, tmp_path: Path, column: str, before: pl.Series, after: pl.Series, said: str
) -> None:
    bring(write_parquet(tmp_path / "log.parquet", column, before))
    write_parquet(tmp_path / "log.parquet", column, after)
    with pytest.raises(SourceError, match=rf"column {column}: must stay {said}") as caught:
        bring(tmp_path / "log.parquet")
    assert "give the mapping another name" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert Snapshot(tmp_path / "lake").version == 1


# a file that declares its types shows in one row that its IDs or its times are numbers now
DECLARED = {
    "Parquet: numbers for people",
    "Parquet: times as numbers without a unit",
    "JSON Lines: an ID above 64 bits",
    "JSON Lines: an ID of thirty digits",
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_broken_file_is_reported_by_its_reader_alone(case: Case, mapping_of: Load, tmp_path: Path) -> None:
    """A few bad rows are no other type, and what cannot be read is refused by its reader, in its words."""
    mapping, source, good = mapping_of(BROKEN_TABLES), tmp_path / "new" / case.file, tmp_path / "good.csv"
    source.parent.mkdir()
    source.write_bytes(case.content)
    rows = [f"2024-01-01 10:00:{n},u{n},view,i{n},1.5,{n}" for n in range(10, 30)]
    good.write_text("\n".join(["t,u,e,i,p,q", *rows]) + "\n")
    known = source_columns(mapping, [good])
    if kind_of(source) is None:
        return
    with pytest.raises(SourceError, match="must stay") if case.name in DECLARED else nullcontext():
        said = changes(known, mapping, source_columns(mapping, [source]))
        assert all("new column" in line or "is gone" in line for line in said), said


def test_a_mapping_knows_only_its_own_sources(bring: Bring, write: Write, tmp_path: Path) -> None:
    bring(write("log.csv", HEAD, *ROWS))
    assert known_sources(Lake(tmp_path / "lake"), "other") == {}
    assert list(known_sources(Lake(tmp_path / "lake"), "shop")) == ["log"]


def test_the_command_reports_changes_and_late_days(mapping_of: Load, write: Write, call: Callable[..., str]) -> None:
    mapping_of(TABLES)
    write("1/log.csv", HEAD, *ROWS)
    write("2/log.csv", f"{HEAD},coupon", "2024-07-02 10:00:00,ann,1,1.5,red,SAVE10")
    write("3/log.csv", "ts,who,sku,unit_price,colour", *ROWS)
    words = ("--mapping", "shop.yaml", "--lake", "lake")
    call("ingest", *words, "1")
    assert call("ingest", *words, "2").splitlines() == [
        "log: new column coupon, kept in attributes",
        "log.csv: 1 rows in = 1 accepted + 0 quarantined + 0 exact duplicates",
        "late events, recompute reports of these days: 2024-07-02",
    ]
    with pytest.raises(SourceError, match=r"mapping shop, table log: column price \(float\) is gone"):
        call("ingest", *words, "3")
    lake = ("--lake", "lake")
    assert call("lake", "status", "--since", "1", *lake).splitlines()[-1] == "late days since version 1: 2024-07-02"
    assert call("lake", "status", *lake).splitlines()[:2] == [
        "lake: version 2, identity user",
        "9 events of 8 days, 2024-07-01 to 2024-07-08",
    ]
    assert call("lake", "vacuum", *lake) == "0 files deleted that no version of the last day needs\n"
