"""Files whose text needs care: encodings, quotes, and malformed lines. Every good line stays, at its position."""

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from events.mapping import Csv, Mapping
from events.sources.files import MALFORMED, Piece, Size
from events.sources.readers import pieces, read_table
from shoplens.errors import SourceError
from tests.read_source import read_source

Load = Callable[[str], Mapping]
TABLES = """events:
  - table: log
    columns: {event_time: t, user_id: u, item_id: i}
    constants: {event_name: view_item}
"""


def written(tmp_path: Path, content: bytes | str, name: str = "log.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def values(read: list[Piece]) -> pl.DataFrame:
    """Return all rows without the column of malformed ones."""
    return pl.concat([piece.frame for piece in read]).drop(MALFORMED)


def kept(read: list[Piece]) -> list[tuple[int, str, dict[str, object]]]:
    """Return the position in the file, the reason and what is kept of each malformed row."""
    found = pl.concat([piece.frame for piece in read])[MALFORMED]
    split = [(n, *one.split(" ", 1)) for n, one in enumerate(found) if one is not None]
    return [(n, reason, json.loads(raw)) for n, reason, raw in split]


def malformed(read: list[Piece]) -> list[tuple[int, str, object]]:
    """Return the position in the file, the reason and the line number of each malformed row."""
    return [(n, reason, raw["line"]) for n, reason, raw in kept(read)]


@pytest.mark.parametrize("size", [Size(rows=2, bytes=20), Size()], ids=["in pieces", "at once"])
def test_a_malformed_line_keeps_its_position_and_its_text(tmp_path: Path, size: Size) -> None:
    text = 'a,b,c\n1,2,3\n4,5\n6,"x\ny",8\n\n9,"open,8\n10,11,12\n13,14,15,16\n17,"TV" wide,18\n19,20,21\n'
    read = list(pieces(written(tmp_path, text), size=size))
    none = (None, None, None)
    assert values(read).rows() == [
        ("1", "2", "3"), none, ("6", "x\ny", "8"), none, ("10", "11", "12"), none, none, ("19", "20", "21")
    ]  # fmt: skip
    assert malformed(read) == [
        (1, "row_too_short", 3), (3, "quote_unbalanced", 7), (5, "row_too_long", 9), (6, "quote_unbalanced", 10)
    ]  # fmt: skip
    assert [raw["text"] for _, _, raw in kept(read)] == ["4,5", '9,"open,8', "13,14,15,16", '17,"TV" wide,18']
    assert kept(read)[0][2]["remedy"] == "the line has 2 of 3 columns; add what is missing, or remove the line"


def test_a_malformed_line_is_quarantined_with_the_file_and_its_line(mapping_of: Load, tmp_path: Path) -> None:
    path = written(tmp_path, 't,u,i\n2024-01-01,ann,a\n2024-01-01,"ann,b\n2024-01-02,bob,a\nx,ann,a\n')
    done = read_source(mapping_of(TABLES), [path])
    assert done.accounts["log.csv"].as_json() == {
        "rows_in": 4, "accepted": 2, "quarantined": {"quote_unbalanced": 1, "event_time_not_a_time": 1},
        "exact_duplicates": 0,
    }  # fmt: skip
    assert done.quarantined.select("table", "row", pl.col("reasons").list.first()).rows() == [
        ("log.csv", 1, "quote_unbalanced"), ("log.csv", 3, "event_time_not_a_time")
    ]  # fmt: skip
    assert json.loads(done.quarantined["raw"][0])["line"] == 3


def test_a_malformed_line_of_a_side_table_has_its_own_reason(mapping_of: Load, tmp_path: Path) -> None:
    mapping = mapping_of(TABLES + "users: {table: people, columns: {user_id: u, gender: g}}\n")
    files = [written(tmp_path, "t,u,i\n2024-01-01,ann,a\n"), written(tmp_path, "u,g\nann,f\nbob,m,x\n", "people.csv")]
    done = read_source(mapping, files)
    assert done.users["user_id"].to_list() == ["ann"]
    assert done.accounts["people.csv"].quarantined == {"row_too_long": 1}


def test_rows_that_a_quote_would_swallow_are_read_without_it(tmp_path: Path) -> None:
    # the quote that opens in line 2 closes in line 4, and the result has four columns: line 3 shows that it was none
    path = written(tmp_path, 'a,b,c,d\n1,2,"red shoes,4\n5,6,lamp,8\n9,10,desk 27",12\n13,14,15,16\n')
    read = list(pieces(path))
    assert read[0].frame["a"].to_list() == [None, "5", "9", "13"]
    assert malformed(read) == [(0, "quote_unbalanced", 2)]
    without = read_table(path, Csv(quote="none"))
    assert without["c"].to_list() == ['"red shoes', "lamp", 'desk 27"', "15"]


def test_fewer_rows_than_lines_is_reported_once(tmp_path: Path) -> None:
    path = written(tmp_path, 'a,b\n1,"x\ny\nz"\n3,4\n')
    notes = [piece.note for piece in pieces(path, size=Size(rows=1, bytes=1))]
    assert notes == ["log.csv: 4 lines are 2 rows: quoted texts hold line ends", ""]
    assert [piece.note for piece in pieces(written(tmp_path, "a,b\n1,2\n"))] == [""]


@pytest.mark.parametrize(
    ("content", "dialect", "expected"),
    [
        ("a;b\nKäse;12,50\n".encode("cp1252"), Csv(separator=";", encoding="cp1252"), ("Käse", "12,50")),
        ("a,b\nKäse,1\n".encode("utf-16"), Csv(encoding="utf-16"), ("Käse", "1")),
        ("a,b\n大,1\n".encode("gb18030"), Csv(encoding="gb18030"), ("大", "1")),
        (b"\xef\xbb\xbf1,2\n", Csv(header=("a", "b")), ("1", "2")),
        (b'\xef\xbb\xbf"a","b"\n1,2\n', Csv(), ("1", "2")),
        ('a,b\n"27\\" TV, black",2\n', Csv(escape="\\"), ('27" TV, black', "2")),
        ("a,b\n'x, y',2\n", Csv(quote="'"), ("x, y", "2")),
        ("a\tb\n\"x\t2\n", Csv(separator="\t", quote="none"), ('"x', "2")),
        ('a,b\n"say ""hi""",2\n', Csv(), ('say "hi"', "2")),
        ("sep=;\r\na;b\r\n1,5;2\r\n", Csv(), ("1,5", "2")),
        (b'\xef\xbb\xbf"sep=;"\r\n1,5;2\r\n', Csv(separator=";", header=("a", "b")), ("1,5", "2")),
    ],
    ids=["cp1252", "UTF-16", "GB 18030", "BOM with a header given", "BOM", "backslash", "single quotes", "no quotes",
         "doubled quotes", "Excel's separator", "Excel's separator, header given"],
)  # fmt: skip
def test_a_declared_dialect_is_read(
    content: bytes | str, dialect: Csv, expected: tuple[str, str], tmp_path: Path
) -> None:
    assert read_table(written(tmp_path, content), dialect).rows() == [expected]


def test_an_encoding_that_was_not_declared_is_named_with_row_and_column(tmp_path: Path) -> None:
    rows = "".join(f"{n};Käse\n" for n in range(4))
    with pytest.raises(SourceError, match=r"line 2, column 2 is not\. Declare .*encoding: cp1252"):
        read_table(written(tmp_path, ("a;b\n" + rows).encode("cp1252")), Csv(separator=";"))
    with pytest.raises(SourceError, match="the header, column 2 is not"):
        read_table(written(tmp_path, "a;Währung\n1;2\n".encode("cp1252")), Csv(separator=";"))
    with pytest.raises(SourceError, match=r"line 3 is no gb18030 text; declare the encoding"):
        read_table(written(tmp_path, b"a,b\n1,2\n\xff\xff,3\n"), Csv(encoding="gb18030"))
    with pytest.raises(SourceError, match="unknown encoding 'latin-nine'"):
        read_table(written(tmp_path, "a,b\n1,2\n"), Csv(encoding="latin-nine"))


def test_a_malformed_line_after_a_stated_separator_keeps_its_line_number(tmp_path: Path) -> None:
    read = list(pieces(written(tmp_path, "sep=;\na;b\n1;2\n3\n4;5\n")))
    assert values(read).rows() == [("1", "2"), (None, None), ("4", "5")]
    assert malformed(read) == [(1, "row_too_short", 4)]


def test_a_quote_that_the_header_leaves_open_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="the first row must be well-formed CSV: a quote in it is not closed"):
        read_table(written(tmp_path, 'a,"b\n1,2\n3,4\n'))


def test_a_few_lines_that_are_not_utf8_are_malformed_where_others_are(tmp_path: Path) -> None:
    lines = ["Käse,1".encode()] * 5 + ["Käse,1".encode("cp1252")] * 2
    read = list(pieces(written(tmp_path, b"\n".join([b"a,b", *lines, b""]))))
    assert malformed(read) == [(5, "not_utf8", 7), (6, "not_utf8", 8)]


@pytest.mark.parametrize("size", [Size(rows=1, bytes=1), Size()], ids=["in pieces", "at once"])
def test_a_record_of_another_kind_is_malformed_alone(tmp_path: Path, size: Size) -> None:
    lines = ['{"u": 1, "x": [{"a": 1}]}', '{"u": 2, "x": {"a": 2}}', '{"u": 3, "x": "[{\\"a\\": 3}]"}', "", '{"u": 4',
             '{"u": "five", "x": null}']  # fmt: skip
    read = list(pieces(written(tmp_path, "\n".join(lines) + "\n", "log.jsonl"), size=size))
    frame = values(read)
    assert frame["u"].to_list() == ["1", None, "3", None, "five"]
    assert frame["x"].to_list() == [[{"a": 1}], None, [{"a": 3}], None, None]
    assert malformed(read) == [(1, "field_has_other_type", 2), (3, "json_malformed", 5)]
    assert str(kept(read)[0][2]["remedy"]).startswith("x holds one object where most records hold one list")


@pytest.mark.parametrize(
    "text",
    ["t,u\r2024-01-01,a\r2024-01-02,b\n", "t,u\r2024-01-01,a\n2024-01-02,b\r\n", '"t",u\r2024-01-01,a\r\r2024-01-02,b'],
)
def test_old_and_new_line_ends_in_one_file_lose_no_row(tmp_path: Path, text: str) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(text.encode())
    assert read_table(path).rows() == [("2024-01-01", "a"), ("2024-01-02", "b")]
