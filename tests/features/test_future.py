"""Whatever happens, or is received, at t or later: rows to learn from up to t stay as they were."""

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.catalogue import Catalogue
from shoplens.params import Params
from training.datasets import build_rows
from training.rows import RowSet, Task

pytestmark = pytest.mark.stores

START = datetime(2024, 1, 1, tzinfo=UTC)
END = START + timedelta(days=42, hours=5)  # so that weekly cut-offs are at 05:00, between two snapshots
_FOLDERS = itertools.count()
_TIME = pl.Datetime("us", "UTC")
_SCHEMA: dict[str, Any] = {
    "event_id": pl.String, "event_time": _TIME, "ingested_at": _TIME, "event_name": pl.String, "user_id": pl.String,
    "session_id": pl.String, "item_id": pl.String, "order_id": pl.String, "quantity": pl.Float64, "price": pl.Float64,
    "amount": pl.Float64,
}  # fmt: skip
Event = dict[str, Any]


def _event(user: str, moment: datetime, name: str, item: str, late: timedelta = timedelta(0)) -> Event:
    money = {"quantity": 1.0, "amount": 2.5, "order_id": f"{user}{moment:%j}"} if name == "purchase" else {}
    about = {"user_id": user, "event_name": name, "item_id": item, "event_time": moment, "ingested_at": moment + late}
    return dict.fromkeys(_SCHEMA) | about | money


def _others() -> list[Event]:
    """What other people do, so that every split has rows and both labels: two weekly, and one a day who visits once."""
    found = [_event("yan", START, "view_item", "pen")]
    found += [_event("zoe", START + timedelta(days=week, hours=30), "purchase", "bread") for week in range(0, 42, 7)]
    for day in range(0, 42, 2):
        found.append(_event(f"once{day}", START + timedelta(days=day), "view_item", "milk"))
        if day % 4:
            found.append(_event(f"once{day}", START + timedelta(days=day, hours=1), "purchase", "milk"))
    return [event | {"event_id": f"o{number:03}"} for number, event in enumerate(found)]


@st.composite
def _events(draw: st.DrawFn) -> Event:
    hour = draw(st.sampled_from([0, 5, 11])) + 24 * draw(st.integers(0, 41))
    late = timedelta(hours=draw(st.sampled_from([0, 0, 20, 24 * 8])))
    name = draw(st.sampled_from(["purchase", "view_item", "add_to_cart"]))
    item = draw(st.sampled_from(["bread", "milk", "pen", "ink"]))
    return _event(draw(st.sampled_from(["ann", "bob"])), START + timedelta(hours=hour), name, item, late)


def _is_known(event: Event, moment: datetime) -> bool:
    return bool(max(event["event_time"], event["ingested_at"]) < moment)


def _moved(event: Event, by: timedelta, moment: datetime) -> Event:
    """Move an event in time; it is known at `moment` or later, as before."""
    when = min(max(event["event_time"] + by, START), END - timedelta(hours=1))
    return event | {"event_time": when, "ingested_at": max(event["ingested_at"], when, moment)}


def _with_future(past: list[Event], future: list[Event]) -> pl.DataFrame:
    numbered = [event | {"event_id": f"f{number:03}"} for number, event in enumerate(future)]
    return pl.DataFrame([*past, *numbered], schema=_SCHEMA, orient="row").sort("event_time", "event_id")


def _params(params: Params, identity: str) -> Params:
    """A session's split is its share of the year: a quarter of them each, since there are few."""
    test, validation = (2, 1) if identity == "user" else (13, 13)  # two cut-offs, or nothing would be served between
    weeks = {"test_weeks": test, "validation_weeks": validation, "warmup_weeks": 0}
    rows = params.train.rows.model_copy(update=weeks)
    return params.model_copy(update={"train": params.train.model_copy(update={"rows": rows})})


def _inputs(shop: Any, task: Task, identity: str, moment: datetime) -> dict[tuple[str, Any], dict[str, Any]]:
    """Return what a model reads of every row up to `moment`; items by id, for new items get numbers between others."""
    outs = shop.settings.outs_dir
    rows = build_rows(task, _params(shop.params, identity), outs)
    catalogue = Catalogue.load(outs / "features/catalogue.parquet")
    parts: list[RowSet] = [rows.train, rows.validation, rows.test, *([rows.served] if rows.served else [])]
    found = {}
    for part in parts:
        for place in np.flatnonzero(part.inputs.now <= np.datetime64(moment.replace(tzinfo=None), "us")):
            recent = part.inputs.history.window(32)
            read = {name: getattr(recent, name)[place] for name in type(recent).__dataclass_fields__}
            ids = [catalogue.item_id(int(index)) if index > 1 else str(index) for index in read.pop("item_index")]
            key = (str(part.user_id[place]), part.inputs.now[place])
            found[key] = read | {"items": np.array(ids), "tabular": part.inputs.tabular[place]}
    return found


@pytest.mark.parametrize(("task", "identity"), [("purchase", "user"), ("next_item", "user"), ("purchase", "session")])
@settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_future_changes_no_row(new_shop: Callable[..., Any], task: Task, identity: str, data: Any) -> None:
    # A cut-off, or 5 hours before one: then rows of the cut-off are of the future. Or among the rows as served.
    moment = START + timedelta(days=data.draw(st.sampled_from([14, 21, 32])), hours=data.draw(st.sampled_from([5, 0])))
    drawn = data.draw(st.lists(_events(), min_size=4, max_size=16))
    all_of = [event | {"event_id": event["event_id"] or f"e{n:03}"} for n, event in enumerate([*_others(), *drawn])]
    past = [event for event in all_of if _is_known(event, moment) or event["event_id"].startswith("o")]
    future = [event for event in all_of if event not in past]
    # Two events are in one world and not in the other: what happened before the latest cut-off up to `moment` and was
    # received after it, and what happened an hour later. A look ahead at either shows in any draw.
    late = _event("zoe", moment - timedelta(days=9), "purchase", "ink", late=timedelta(days=10))
    soon = _event("zoe", moment + timedelta(hours=1), "purchase", "ink")
    added = [event for event in data.draw(st.lists(_events(), max_size=6)) if not _is_known(event, moment)]
    moves = st.sampled_from([timedelta(days=-9), timedelta(hours=3), timedelta(days=4)])
    changed = [_moved(event, data.draw(moves), moment) for event in future if data.draw(st.booleans())]
    worlds = []
    for unknown in ([*future, late, soon], [*changed, *added]):
        shop = new_shop(f"world{next(_FOLDERS)}")
        shop.put(_with_future(past, unknown), end=END, start=START, identity=identity)
        shop.build()
        worlds.append(_inputs(shop, task, identity, moment))
    one, other = worlds
    both = set(one) & set(other)
    assert both
    if (task, identity) == ("purchase", "user"):
        assert set(one) == set(other)  # who is asked about is known, too; who has a next basket is of the future
    for key in both:
        for name, value in one[key].items():
            np.testing.assert_array_equal(value, other[key][name], err_msg=f"{key} {name}")
