"""The page of `shoplens compare`."""

from typing import Any

from training.comparison import _section


def result(value: float, samples: list[float]) -> dict[str, Any]:
    interval = {"value": value, "low": value - 0.1, "high": value + 0.1}
    metrics = dict.fromkeys(("hr@10", "ndcg@10", "recall@10", "recall@20"), interval)
    return {"metrics": metrics, "samples": samples, "parameters": 1234, "seconds": 5.0, "rows": [3000, 200, 100]}


def test_each_row_says_how_far_the_main_model_is_above_it() -> None:
    found = {"popularity": result(0.1, [0.1, 0.1, 0.2]), "listwise_ranker": result(0.3, [0.3, 0.2, 0.4])}
    lines = _section("next_item", "listwise_ranker", found)
    assert "3,000 training rows, 200 validation rows, 100 test rows" in lines[2]
    assert "listwise_ranker minus it, ndcg@10" in lines[4]
    count, ranker = (line.split(" | ") for line in lines[6:8])
    # On all rows .3 - .1; on the two resamples .1 and .2, of which the interval is 2.5% to 97.5%.
    assert count[5] == "+0.2000 [+0.1025, +0.1975]"
    assert count[6] == "1,234"
    assert ranker[5] == ""


def test_without_the_main_model_no_difference_is_claimed() -> None:
    lines = _section("next_item", "listwise_ranker", {"popularity": result(0.1, [0.1, 0.1, 0.2])})
    assert lines[6].split(" | ")[5] == ""


def test_what_a_service_is_asked_has_a_table_of_its_own() -> None:
    found = {"popularity": result(0.1, [0.1, 0.1, 0.2]), "listwise_ranker": result(0.3, [0.3, 0.2, 0.4])}
    found["popularity"]["as_served"] = result(0.05, [0.05, 0.1]) | {"rows": 4321}
    found["listwise_ranker"]["as_served"] = result(0.15, [0.15, 0.3]) | {"rows": 4321}
    lines = _section("next_item", "listwise_ranker", found)
    (said,) = (place for place, line in enumerate(lines) if "as a service is asked: 4,321 rows" in line)
    cells = lines[said + 4].split(" | ")
    assert cells[0] == "| popularity"
    assert cells[1].startswith("0.0500 [")
    assert cells[5] == "+0.1000 [+0.2000, +0.2000] |"
