"""Numbers and times as people's files have them."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from events.account import TableAccount
from events.mapping import Mapping
from shoplens.errors import SourceError
from tests.read_source import Ingested, read_source

Load = Callable[[str], Mapping]

TABLE = """\
events:
  - table: "*"
    columns: {event_time: ts, user_id: who, item_id: sku, quantity: n}
    constants: {event_name: view_item}
"""
NOON = datetime(2024, 7, 1, 12, tzinfo=UTC)


@pytest.fixture
def read(mapping_of: Load, tmp_path: Path) -> Callable[..., Ingested]:
    def one(extra: str = "", **columns: object) -> Ingested:
        frame = pl.DataFrame({"ts": ["2024-07-01 12:00:00"], "who": ["ann"], "sku": ["a"], "n": [1.0], **columns})
        frame.write_parquet(tmp_path / "log.parquet")
        return read_source(mapping_of(TABLE + extra), [tmp_path / "log.parquet"])

    return one


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "nan", "inf", "-inf", "1e400"])
def test_what_is_no_finite_number_is_quarantined(read: Callable[..., Ingested], value: object) -> None:
    assert read(n=[value]).accounts["log.parquet"] == TableAccount(1, 0, {"quantity_not_a_number": 1}, 0)


def test_a_number_that_is_missing_stays_missing(read: Callable[..., Ingested]) -> None:
    assert read(n=pl.Series([None], dtype=pl.Float64)).events["quantity"].to_list() == [None]


def test_an_id_that_is_not_a_number_is_missing(read: Callable[..., Ingested]) -> None:
    assert read(who=[float("nan")]).accounts["log.parquet"] == TableAccount(1, 0, {"who_missing": 1}, 0)
    assert read(sku=[float("nan")]).events["item_id"].to_list() == [None]
    assert read(sku=[13085.0]).events["item_id"].to_list() == ["13085"]


@pytest.mark.parametrize(
    ("values", "form"),
    [
        pytest.param([1_719_835_200_000], "epoch_s", id="milliseconds read as seconds"),
        pytest.param([10**30], "epoch_ms", id="out of 64 bits"),
        pytest.param([-1], "epoch_s", id="before 1970"),
        pytest.param(pl.Series([2**61]).cast(pl.Datetime("ms")), None, id="a timestamp far off"),
        pytest.param(pl.Series([2**31 - 1], dtype=pl.Int32).cast(pl.Date), None, id="a date far off"),
        pytest.param([date(1969, 12, 31)], None, id="the day before 1970"),
        pytest.param(["2200-01-01 00:00:01"], None, id="text after 2200"),
    ],
)
def test_a_time_out_of_range_is_quarantined(read: Callable[..., Ingested], values: object, form: str | None) -> None:
    if isinstance(values, list) and values[0] == 10**30:
        values = [str(values[0])]
    done = read(f"    time_format: {form}\n" if form else "", ts=values)
    assert done.accounts["log.parquet"] == TableAccount(1, 0, {"event_time_implausible": 1}, 0)


def test_epochs_are_read_in_their_unit(read: Callable[..., Ingested]) -> None:
    # 2024-07-01 12:00 UTC is 1,719,835,200 s after 1970
    assert read("    time_format: epoch_ms\n", ts=[1_719_835_200_000]).events["event_time"][0] == NOON
    assert read("    time_format: epoch_s\n", ts=["1719835200.5"]).events["event_time"][0] == NOON + timedelta(
        seconds=0.5
    )


@pytest.mark.parametrize("first", [0, 1, 2, 5])
def test_text_with_and_without_an_offset_may_be_mixed(mapping_of: Load, tmp_path: Path, first: int) -> None:
    texts = [
        "2024-07-01T12:00:00Z",
        "2024-07-01 14:00:00",  # Berlin
        "2024-07-01T14:00:00+02:00",
        "2024-07-01 07:00:00.000-0500",
        "2024-07-01T12:00:00.000000+00",
        "2024-07-01 12:00 UTC",
    ]
    texts = texts[first:] + texts[:first]
    pl.DataFrame({"ts": texts, "who": texts, "sku": "a", "n": 1}).write_parquet(tmp_path / "log.parquet")
    mapping = mapping_of(TABLE).model_copy(update={"time_zone": "Europe/Berlin"})
    done = read_source(mapping, [tmp_path / "log.parquet"])
    assert done.events["event_time"].to_list() == [NOON] * 6


def test_a_bare_date_has_no_offset(read: Callable[..., Ingested]) -> None:
    assert read(ts=["2024-07-01"]).events["event_time"][0] == datetime(2024, 7, 1, tzinfo=UTC)


def test_a_format_with_an_offset_is_not_read_as_local(mapping_of: Load, tmp_path: Path) -> None:
    frame = pl.DataFrame({"ts": ["01.07.2024 14:00 +0200"], "who": "ann", "sku": "a", "n": 1})
    frame.write_parquet(tmp_path / "log.parquet")
    mapping = mapping_of(TABLE + '    time_format: "%d.%m.%Y %H:%M %z"\n')
    mapping = mapping.model_copy(update={"time_zone": "Asia/Tokyo"})
    assert read_source(mapping, [tmp_path / "log.parquet"]).events["event_time"][0] == NOON


ODD = {"sizes": [[1, 2]], "dwell": [timedelta(seconds=3)], "mark": [b"\xff"], "box": [{"w": [1]}], "bytes": [[b"a"]]}


def test_columns_of_odd_types_are_attributes_as_text(read: Callable[..., Ingested]) -> None:
    (event,) = read(**ODD).events.to_dicts()
    found = {pair["key"]: pair["value"] for pair in event["attributes"]}
    assert found.items() >= {"sizes": "[1,2]", "dwell": "PT3S", "mark": "ff"}.items()
    # and a row of them can be quarantined
    assert read(who=pl.Series([None], dtype=pl.String), **ODD).quarantined.height == 1


@pytest.mark.parametrize("column", ["sizes", "dwell", "mark"])
def test_a_mapped_column_of_an_odd_type_is_rejected(read: Callable[..., Ingested], column: str) -> None:
    with pytest.raises(SourceError, match="a mapped column must hold text, numbers or times; received sku") as caught:
        read(sku=ODD[column])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a[1].csv", "b*.jsonl", "c[x]/d.parquet"])
def test_a_path_is_no_pattern(mapping_of: Load, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    frame = pl.DataFrame({"ts": ["2024-07-01 12:00:00"], "who": ["ann"], "sku": ["a"], "n": [1]})
    with path.open("wb") as stream:
        {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}[path.suffix[1:]](stream)
    assert read_source(mapping_of(TABLE), [path]).events["event_time"].to_list() == [NOON]


def test_a_readers_message_does_not_repeat_rows(mapping_of: Load, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"ts": "2024-07-01", "who": "ann@example.org"\n' * 50)
    with pytest.raises(SourceError) as caught:
        read_source(mapping_of(TABLE), [tmp_path / "log.jsonl"])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200 + len(str(tmp_path)) + 60
