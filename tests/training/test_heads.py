from pathlib import Path

import pytest

from shoplens.errors import ModelError
from training.heads import heads, leave_out, missing_heads


def test_a_task_without_a_model_is_left_out_with_its_reason(tmp_path: Path) -> None:
    assert heads(tmp_path) == ("purchase", "next_item")
    (tmp_path / "purchase").mkdir()
    leave_out(tmp_path / "purchase", "nobody buys")
    assert heads(tmp_path) == ("next_item",)
    assert missing_heads(tmp_path) == {"purchase": "nobody buys"}


def test_a_run_without_any_model_raises(tmp_path: Path) -> None:
    for task, reason in (("purchase", "nobody buys."), ("next_item", "no event has an item.")):
        (tmp_path / task).mkdir()
        leave_out(tmp_path / task, reason)
    with pytest.raises(ModelError, match=r"must have a model; none has\. nobody buys\. no event has an item\."):
        heads(tmp_path)
