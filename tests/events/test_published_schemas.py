"""The mappings of known sources on a few rows written to the schema that each source publishes."""

import gzip
import json
from pathlib import Path

import pytest

from events.ingest import Ingested, read_source
from events.mapping import load_mapping


@pytest.fixture
def ingest(root: Path, tmp_path: Path):
    """Write files of a source and read them through its mapping."""

    def run(name: str, files: dict[str, str | list[dict]]) -> Ingested:
        folder = tmp_path / name
        folder.mkdir()
        for file, content in files.items():
            text = content if isinstance(content, str) else "\n".join(map(json.dumps, content))
            (folder / file).write_text(text + "\n")
        return read_source(load_mapping(root / f"events/mappings/{name}.yaml"), [folder])

    return run


def rows(done: Ingested, *columns: str) -> list[tuple]:
    """The events in the order of their time, items of one moment by id."""
    return done.events.sort("event_time", "item_id", nulls_last=True).select(columns).rows()


def test_ga4(ingest) -> None:
    def event(name: str, micros: int, items: list[dict], *params: dict, **more) -> dict:
        return {
            "event_date": "20240105",
            "event_timestamp": str(micros),
            "event_name": name,
            "event_params": list(params),
            "user_pseudo_id": "1.2",
            "event_bundle_sequence_id": "9",
            "platform": "WEB",
            "items": items,
            **more,
        }

    def text(key: str, value: str) -> dict:
        return {"key": key, "value": {"string_value": value}}

    hat = {"item_id": "h1", "item_name": "Hat", "item_brand": "(not set)", "item_category": "Apparel", "price": 12.5}
    mug = {"item_id": "m1", "item_name": "Mug", "item_category": "Home", "item_category2": "Kitchen", "price": 8}
    second = 1_704_412_800_000_000  # 2024-01-05 00:00:00 UTC
    log = [
        event("page_view", second, [], text("page_location", "https://shop/")),
        event("view_search_results", second + 1, [], text("search_term", "warm hat")),
        event("view_item", second + 2, [hat], text("page_location", "https://shop/h1"), text("currency", "USD")),
        event(
            "purchase",
            second + 3,
            [hat | {"quantity": 2, "item_revenue": 25.0}, mug | {"quantity": 1, "item_revenue": 8.0}],
            text("currency", "USD"),
            ecommerce={"transaction_id": "T1"},
            user_id="u1",
        ),
        event("purchase", second + 4, [hat], ecommerce={"transaction_id": "(not set)"}),
    ]
    done = ingest("ga4", {"events_20240105.jsonl": log})
    (account,) = done.accounts.values()
    assert (account.rows_in, account.accepted, account.quarantined) == (6, 5, {"no_shopping_event": 1})
    assert rows(done, "event_name", "item_id", "quantity", "amount", "currency", "order_id", "user_id") == [
        ("search", None, None, None, None, None, None),
        ("view_item", "h1", None, None, "USD", None, None),
        ("purchase", "h1", 2.0, 25.0, "USD", "T1", "u1"),
        ("purchase", "m1", 1.0, 8.0, "USD", "T1", "u1"),
        ("purchase", "h1", None, 12.5, None, None, None),  # no quantity: one piece
    ]
    assert done.events["query"][0] == "warm hat"
    assert done.events["url"][1] == "https://shop/h1"
    assert done.events["anonymous_id"].unique().to_list() == ["1.2"]
    items = {row["item_id"]: row for row in done.items.iter_rows(named=True)}
    assert (items["h1"]["title"], items["h1"]["brand"], items["h1"]["category"]) == ("Hat", None, "Apparel")
    assert items["m1"]["category"] == "Home > Kitchen"


def test_segment(ingest) -> None:
    def call(message: str, event: str | None, properties: dict, kind: str = "track") -> dict:
        return {
            "messageId": message,
            "type": kind,
            "event": event,
            "anonymousId": "a1",
            "userId": "u1",
            "timestamp": f"2024-01-05T10:00:0{message[-1]}.250Z",
            "receivedAt": "2024-01-05T10:01:00Z",
            "context": {"page": {"url": "https://shop/p"}},
            "properties": properties,
        }

    log = [
        call("m0", None, {}, "page"),
        call("m1", "Products Searched", {"query": "hat"}),
        call("m2", "Product Viewed", {"product_id": "h1", "price": 12.5, "currency": "EUR"}),
        call(
            "m3",
            "Order Completed",
            {"order_id": "o1", "products": [{"product_id": "h1", "quantity": 2, "price": 12.5}, {"sku": "m1"}]},
        ),
        call("m4", "Product Reviewed", {"product_id": "h1", "rating": "4", "review_body": "warm"}),
        call("m5", "Coupon Applied", {}),
    ]
    done = ingest("segment", {"calls.jsonl": log})
    (account,) = done.accounts.values()
    assert account.rows_in == 7
    assert account.quarantined == {"no_track_call": 1, "event_name_unknown": 1}
    assert rows(done, "event_id", "event_name", "item_id", "quantity", "price") == [
        ("m1", "search", None, None, None),
        ("m2", "view_item", "h1", None, 12.5),
        ("m3:0", "purchase", "h1", 2.0, 12.5),
        ("m3:1", "purchase", "m1", None, None),
        ("m4", "review", "h1", None, None),
    ]
    assert done.events["ingested_at"].dt.minute().unique().to_list() == [1]
    assert (done.events["rating"][4], done.events["text"][4]) == (4.0, "warm")


def test_google_retail(ingest) -> None:
    def event(kind: str, second: int, **more) -> dict:
        return {"eventType": kind, "visitorId": "v1", "eventTime": f"2024-01-05T10:00:0{second}Z", **more}

    log = [
        event("home-page-view", 0),
        event("search", 1, searchQuery="hat", userInfo={"userId": "u1"}),
        event("detail-page-view", 2, productDetails=[{"product": {"id": "h1"}}]),
        event(
            "purchase-complete",
            3,
            productDetails=[{"product": {"id": "h1"}, "quantity": 2}, {"product": {"id": "m1"}, "quantity": 1}],
            purchaseTransaction={"id": "T1", "revenue": 33, "currencyCode": "USD"},
        ),
    ]
    done = ingest("google_retail", {"events.jsonl": log})
    assert rows(done, "event_name", "user_id", "anonymous_id", "item_id", "quantity", "order_id")[0] == (
        "search", "u1", "v1", None, None, None,
    )  # fmt: skip
    bought = done.events.filter(done.events["event_name"] == "purchase").sort("item_id")
    assert bought.select("item_id", "quantity", "currency").rows() == [("h1", 2.0, "USD"), ("m1", 1.0, "USD")]
    (account,) = done.accounts.values()
    assert account.quarantined == {"no_shopping_event": 1}


def test_rees46(ingest) -> None:
    text = (
        "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session\n"
        "2019-10-01 00:00:00 UTC,view,44600062,2103807459595387724,,shiseido,35.79,541312140,72d76fde\n"
        "2019-10-01 00:00:01 UTC,cart,3900821,2053013552326770905,appliances.environment.water_heater,aqua,33.20,55,9\n"
        "2019-10-01 00:00:02 UTC,remove_from_cart,3900821,2053013552326770905,,aqua,33.20,55,9"
    )
    done = ingest("rees46", {"2019-Oct.csv": text})
    assert rows(done, "event_name", "user_id", "session_id", "price") == [
        ("view_item", "541312140", "72d76fde", 35.79),
        ("add_to_cart", "55", "9", 33.2),
        ("remove_from_cart", "55", "9", 33.2),
    ]
    assert "appliances > environment > water_heater" in done.items["category"].to_list()


def test_retailrocket(ingest) -> None:
    text = (
        "timestamp,visitorid,event,itemid,transactionid\n"
        "1433221332117,257597,view,355908,\n"
        "1433222276276,599528,transaction,356475,4000"
    )
    done = ingest("retailrocket", {"events.csv": text, "category_tree.csv": "categoryid,parentid\n1016,213"})
    assert done.events["event_time"][0].isoformat() == "2015-06-02T05:02:12.117000+00:00"
    assert rows(done, "event_name", "order_id") == [("view_item", None), ("purchase", "4000")]
    assert done.unread == ("category_tree.csv",)


def test_yoochoose(ingest) -> None:
    done = ingest(
        "yoochoose",
        {
            "yoochoose-clicks.dat": "1,2014-04-07T10:51:09.277Z,214536502,0\n1,2014-04-07T10:54:09.868Z,214536500,0",
            "yoochoose-buys.dat": "1,2014-04-07T10:56:09.868Z,214536500,0,1\n1,2014-04-07T10:56:10Z,214536502,12462,2",
        },
    )
    assert rows(done, "event_name", "item_id", "price", "quantity") == [
        ("view_item", "214536502", None, None),
        ("view_item", "214536500", None, None),
        ("purchase", "214536500", None, 1.0),
        ("purchase", "214536502", 12462.0, 2.0),
    ]


def test_diginetica(ingest) -> None:
    done = ingest(
        "diginetica",
        {
            "train-item-views.csv": "sessionId;userId;itemId;timeframe;eventdate\n1;NA;81766;526309;2016-05-09",
            "train-purchases.csv": (
                "sessionId;userId;timeframe;eventdate;ordernumber;itemId\n1;NA;600000;2016-05-09;7;81766"
            ),
            "train-queries.csv": (
                "queryId;sessionId;userId;timeframe;duration;eventdate;searchstring.tokens;categoryId;items;is.test\n"
                "1;1;NA;1000;309;2016-05-09;12,34;0;81766,9;FALSE"
            ),
            "products.csv": "itemId;pricelog2;product.name.tokens\n81766;8;4875,776",
        },
    )
    assert rows(done, "event_name", "item_id", "query") == [
        ("search", None, "12,34"),
        ("view_item", "81766", None),
        ("purchase", "81766", None),
    ]
    # 526,309 ms after midnight
    assert done.events["event_time"][1].isoformat() == "2016-05-09T00:08:46.309000+00:00"
    assert done.items.filter(done.items["item_id"] == "81766")["title"].to_list() == ["4875,776"]


def test_taobao_as_published_and_the_real_slice(ingest, root: Path, real_data: Path) -> None:
    done = ingest("taobao", {"UserBehavior.csv": "1,2268318,2520377,pv,1511544070\n1,2333346,2520771,fav,1511561733"})
    (account,) = done.accounts.values()
    assert account.quarantined == {"favourite": 1}
    assert rows(done, "event_name", "item_id") == [("view_item", "2268318")]
    real = read_source(
        load_mapping(root / "events/mappings/taobao.yaml"), [real_data / "taobao_userbehavior_110k.parquet"]
    )
    (account,) = real.accounts.values()
    # counted with DuckDB: 110,300 rows, of them 3,383 fav
    assert (account.rows_in, account.quarantined) == (110_300, {"favourite": 3_383})
    assert real.events.filter(real.events["event_name"] == "purchase").height <= 2_493


def test_instacart(ingest) -> None:
    done = ingest(
        "instacart",
        {
            "orders.csv": (
                "order_id,user_id,eval_set,order_number,order_dow,order_hour_of_day,days_since_prior_order\n"
                "3,1,prior,2,3,07,15.0\n2,1,prior,1,2,08,\n9,2,prior,1,2,10,\n5,1,prior,3,3,12,21.0"
            ),
            "order_products__prior.csv": (
                "order_id,product_id,add_to_cart_order,reordered\n2,196,1,0\n3,196,1,1\n5,24,2,0\n9,24,1,0\n7,24,1,0"
            ),
            "products.csv": "product_id,product_name,aisle_id,department_id\n196,Soda,77,7\n24,Eggs,86,16",
            "departments.csv": "department_id,department\n7,beverages\n16,dairy eggs",
        },
    )
    # user 1: day 0 at 8, 15 days later at 7, 21 days after that at 12; an order that `orders` lacks has no time
    assert [(who, str(when)[:16], what) for who, when, what in rows(done, "user_id", "event_time", "item_id")] == [
        ("1", "2016-01-01 08:00", "196"),
        ("2", "2016-01-01 10:00", "24"),
        ("1", "2016-01-16 07:00", "196"),
        ("1", "2016-02-06 12:00", "24"),
    ]
    account = done.accounts["order_products__prior.csv"]
    assert (account.rows_in, account.accepted, sum(account.quarantined.values())) == (5, 4, 1)
    soda = done.items.filter(done.items["item_id"] == "196")
    assert soda.select("title", "category").rows() == [("Soda", "beverages")]


def test_gzip_is_read_too(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "UserBehavior.csv.gz"
    path.write_bytes(gzip.compress(b"1,2268318,2520377,pv,1511544070\n"))
    assert read_source(load_mapping(root / "events/mappings/taobao.yaml"), [path]).events.height == 1
