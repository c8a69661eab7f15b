"""Flat tables: which date format the values prove, and a split that keeps the rows of one person together."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from shoplens.errors import BrokenTableError, SettingsError
from training.table.clean import clean, read_column, read_flat
from training.table.run import Request, analyse, as_metrics
from training.table.split import PARTS

CASES = Path(__file__).parent / "cases/table"


def people_table(people: int = 60, rows: int = 10) -> pl.DataFrame:
    """`rows` rows per person, whose answer is the person's and whose basket differs little between rows."""
    random = np.random.default_rng(5)
    churned = random.permutation(np.arange(people) % 3 == 0)
    basket = random.normal(50, 10, people)
    person = np.repeat(np.arange(people), rows)
    return pl.DataFrame(
        {
            "person": [f"k{n}" for n in person],
            "basket": (basket[person] + random.normal(0, 0.1, len(person))).round(3),
            "churned": ["yes" if churned[n] else "no" for n in person],
        }
    )


@pytest.mark.parametrize(
    ("values", "first"),
    [
        (["1/12/2024", "1/31/2024"], (1, 12)),  # 31 can only be a day: the month is first
        (["12/1/2024", "31/1/2024"], (1, 12)),
        (["01.12.2024 10:30", "31.12.2024 11:00"], (12, 1)),
        (["1/12/24 1:05 PM", "1/31/24 2:00 AM"], (1, 12)),
        (["1-2-2024 10:00:00", "13-2-2024 11:00:00"], (2, 1)),
    ],
)
def test_a_number_above_12_proves_the_date_format(values: list[str], first: tuple[int, int]) -> None:
    column, read = read_column(pl.DataFrame({"visited": values}), "visited")
    assert column.kind == "time"
    assert (read[0].month, read[0].day) == first


def test_dates_that_nothing_decides_are_asked_about() -> None:
    frame = pl.DataFrame({"visited": ["1/2/2024", "3/4/2024"]})
    with pytest.raises(SettingsError, match=r"column visited .*'1/2/2024'.*--dates day-first or --dates month-first"):
        read_column(frame, "visited")
    assert read_column(frame, "visited", "day-first")[1].dt.month().to_list() == [2, 4]
    assert read_column(frame, "visited", "month-first")[1].dt.month().to_list() == [1, 3]


def test_us_dates_split_by_time() -> None:
    """500 days from 1 January 2024, one row each: the test rows are the last hundred."""
    found = analyse(Request(CASES / "us_dates.csv", "bought", models=("base_rate",)))
    assert found.split.how == "by time (visit_date): earlier rows train, later rows test"
    moments = found.cleaned.frame["visit_date"]
    assert (
        moments.filter(pl.Series(found.split.where("test"))).min()
        > moments.filter(pl.Series(~found.split.where("test"))).max()
    )  # type: ignore[operator]  # moments
    assert found.split.where("test").sum() == 100


def test_people_again_is_split_by_user_id() -> None:
    """60 people of ten rows: nothing predicts new ones, and the report says that the split is by user_id."""
    found = analyse(Request(CASES / "people_again.csv", "churned", models=("base_rate", "decision_tree")))
    part = found.split.part
    sides = pl.DataFrame({"person": found.cleaned.frame["user_id"], "part": part}).group_by("person").n_unique()
    assert sides["part"].to_list() == [1] * 60
    assert [int((part == n).sum()) for n in range(len(PARTS))] == [360, 120, 120]
    assert found.split.how.startswith("by user_id, which repeats")
    assert found.selection.dropped == {"user_id": "identifies people: nothing learned from it holds for new ones"}
    precision = as_metrics(found.trained, found.chosen)["decision_tree"]["test"]["average_precision"]
    assert precision["value"] < 0.3  # .869 where the same people are on both sides
    assert precision["high"] - precision["low"] > 0.3  # 12 people were drawn, not 120 rows


@pytest.mark.parametrize(
    ("name", "person"),
    [
        ("customer_no", "customer_no"),
        ("visitorId", "visitorId"),
        ("E-Mail", "E-Mail"),
        ("household_key", "household_key"),
        ("session_id", "session_id"),
        ("product_id", None),
        ("user_age", None),
        ("store_id", None),
    ],
)
def test_which_columns_identify_people(name: str, person: str | None) -> None:
    cleaned = clean(people_table().rename({"person": name}), "churned")
    assert cleaned.person == person


def test_people_are_preferred_to_their_sessions_and_rare_repeats_are_mistakes() -> None:
    table = people_table()
    table = table.rename({"person": "user_id"}).with_columns(
        pl.Series("session_id", [f"s{n // 2}" for n in range(600)])
    )
    assert clean(table, "churned").person == "user_id"
    ids = [f"u{n}" for n in range(590)] + [f"u{n}" for n in range(10)]  # 20 of 600 rows share their ID
    assert clean(table.drop("session_id").with_columns(pl.Series("user_id", ids)), "churned").person is None


def test_the_group_can_be_named_or_switched_off() -> None:
    table = people_table()
    assert clean(table, "churned").person == "person"
    assert clean(table, "churned", group="none").person is None
    assert clean(table, "churned", group="basket").person == "basket"
    with pytest.raises(SettingsError, match="--group: must be a column of the table, or none; received 'who'"):
        clean(table, "churned", group="who")


def test_too_few_people_to_split(tmp_path: Path) -> None:
    table = people_table(people=4, rows=30)
    table.write_csv(tmp_path / "t.csv")
    with pytest.raises(BrokenTableError, match="at least 5 values; it has 4"):
        analyse(Request(tmp_path / "t.csv", "churned", group="person", models=("base_rate",)))


@pytest.mark.parametrize(("separator", "encoding"), [(";", "utf-8-sig"), ("\t", "utf-8"), ("|", "utf-8")])
def test_a_table_in_another_dialect(tmp_path: Path, separator: str, encoding: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(separator.join(["größe", "b"]).encode(encoding) + f"\n1{separator}2\n".encode())
    assert read_flat(path).columns == ["größe", "b"]
