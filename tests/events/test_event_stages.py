"""The stages `fetch` and `ingest`, on a folder of files and on a lake."""

from collections.abc import Callable
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from events.lake import freeze_lake
from events.mapping import Mapping
from events.stages import fetch, ingest
from shoplens.errors import SourceError
from shoplens.files import read_json
from shoplens.params import Params, load_params
from shoplens.settings import Settings
from tests.read_source import append, read_source

Load = Callable[[str], Mapping]
Write = Callable[..., Path]

TABLES = """\
ingest_delay_seconds: 3600
events:
  - table: log
    columns: {event_time: ts, user_id: who, item_id: sku, quantity: n}
    constants: {event_name: view_item}
    items: {brand: brand}
"""
HEAD = "ts,who,sku,n,brand"
# booked an hour later: the second is known on the 2nd of July only
ROWS = ["2024-07-01 10:00:00,ann,a,1,", "2024-07-01 23:30:00,ann,b,1,bold", "2024-07-02 10:00:00,ann,a,1,acme"]


@pytest.fixture
def params_of(root: Path, tmp_path: Path) -> Callable[..., Params]:
    found = load_params(root / "params.yaml")

    def make(source: Path, as_of: date | None = None) -> Params:
        data = {"source": str(source), "mapping": "shop.yaml", "as_of": as_of, "user_share": 1.0}
        return found.model_copy(update={"data": found.data.model_copy(update=data)})

    return make


@pytest.fixture
def lake(mapping_of: Load, write: Write, tmp_path: Path) -> Path:
    mapping = mapping_of(TABLES)
    append(tmp_path / "lake", mapping, read_source(mapping, [write("in/log.csv", HEAD, *ROWS)]))
    return tmp_path / "lake"


def test_a_frozen_lake_is_what_was_known_then(lake: Path, params_of: Callable[..., Params], tmp_path: Path) -> None:
    settings = Settings(root=tmp_path)
    params = params_of(lake, date(2024, 7, 2))
    fetch(params, settings)
    ingest(params, settings)
    assert pl.read_parquet(settings.outs_dir / "raw/events.parquet")["item_id"].to_list() == ["a"]
    # that a is of acme was said on the 2nd of July
    items = pl.read_parquet(settings.outs_dir / "events/items.parquet")
    assert items.select("item_id", "brand").rows() == [("a", None)]
    account = read_json(settings.outs_dir / "events/account.json")
    assert account["tables"]["lake"]["rows_in"] == 1


def test_a_whole_lake_and_its_files_give_the_same_events(
    lake: Path, params_of: Callable[..., Params], tmp_path: Path
) -> None:
    tables = []
    for source in (lake, tmp_path / "in"):
        settings = Settings(root=tmp_path, outs=Path(f"outs-of-{source.name}"))
        fetch(params_of(source), settings)
        ingest(params_of(source), settings)
        tables.append([pl.read_parquet(settings.outs_dir / f"events/{name}.parquet") for name in ("events", "items")])
    assert tables[0][0].equals(tables[1][0])
    assert tables[0][1].sort("item_id").equals(tables[1][1].sort("item_id"))
    assert tables[0][1]["brand"].to_list() == ["acme", "bold"]


def test_a_product_without_an_event_is_kept(
    tmp_path: Path, mapping_of: Load, write: Write, params_of: Callable[..., Params]
) -> None:
    mapping = mapping_of(TABLES + "items: {table: goods, columns: {item_id: sku, title: name}}\n")
    log, goods = write("in/log.csv", HEAD, *ROWS), write("in/goods.csv", "sku,name", "a,Apple", "new,Novelty")
    append(tmp_path / "lake", mapping, read_source(mapping, [log, goods]))
    for source in (tmp_path / "lake", tmp_path / "in"):
        settings = Settings(root=tmp_path, outs=Path(f"outs-of-{source.name}"))
        fetch(params_of(source), settings)
        ingest(params_of(source), settings)
        items = pl.read_parquet(settings.outs_dir / "events/items.parquet").sort("item_id")
        assert items.select("item_id", "title").rows() == [("a", "Apple"), ("b", None), ("new", "Novelty")]
        # Nobody can tell whether a product without an event was known at an earlier time.
        fetch(params_of(source, date(2024, 7, 2)), settings)
        ingest(params_of(source, date(2024, 7, 2)), settings)
        assert pl.read_parquet(settings.outs_dir / "events/items.parquet")["item_id"].to_list() == ["a"]


def test_nothing_known_then_is_said(lake: Path, tmp_path: Path, params_of: Callable[..., Params]) -> None:
    with pytest.raises(SourceError, match="holds no event before 2020-01-01"):
        fetch(params_of(lake, date(2020, 1, 1)), Settings(root=tmp_path))


def test_a_lake_of_another_identity_is_refused(
    lake: Path, tmp_path: Path, params_of: Callable[..., Params], mapping_of: Load
) -> None:
    path = tmp_path / "shop.yaml"
    settings = Settings(root=tmp_path)
    fetch(params_of(lake), settings)
    path.write_text(path.read_text().replace("identity: user", "identity: session"))
    for stage in (fetch, ingest):
        with pytest.raises(SourceError, match="identity is 'user'; mapping shop has 'session'"):
            stage(params_of(lake), settings)


def test_side_tables_and_files_that_are_not_read_are_in_the_account(
    tmp_path: Path, mapping_of: Load, write: Write, params_of: Callable[..., Params], capsys: pytest.CaptureFixture[str]
) -> None:
    mapping_of(TABLES + "users: {table: people, columns: {user_id: who}}\n")
    write("in/log.csv", HEAD, *ROWS)
    write("in/people.csv", "who", "ann", "ann")
    write("in/letters.csv", "dear", "you")
    settings = Settings(root=tmp_path)
    fetch(params_of(tmp_path / "in"), settings)
    ingest(params_of(tmp_path / "in"), settings)
    tables = read_json(settings.outs_dir / "events/account.json")["tables"]
    assert tables["people.csv"] == {"rows_in": 2, "accepted": 1, "quarantined": {}, "exact_duplicates": 1}
    assert "not read, no table of the mapping: letters.csv" in capsys.readouterr().err


def test_freezing_twice_gives_the_same_bytes(lake: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        freeze_lake(lake, tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_a_broken_file_is_named_as_it_was_given(
    tmp_path: Path, mapping_of: Load, write: Write, params_of: Callable[..., Params]
) -> None:
    mapping_of(TABLES)
    path = write("in/log.csv", "")
    path.write_bytes(b"")
    settings = Settings(root=tmp_path)
    for source in (path, path.parent):
        fetch(params_of(source), settings)
        with pytest.raises(SourceError, match=rf"^{path}: must have at least one row; received an empty CSV file"):
            ingest(params_of(source), settings)
