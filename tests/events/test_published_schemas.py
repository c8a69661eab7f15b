"""The mappings of known sources on a few rows written to the schema that each source publishes."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from case_reading import Done, shipped
from case_reading import ingest as read

Ingest = Callable[[str, dict[str, Any]], Done]


@pytest.fixture(name="ingest")
def ingest_files(tmp_path: Path) -> Ingest:
    """Write files of a source and read them through its mapping."""

    def run(name: str, files: dict[str, str | list[dict[str, Any]]]) -> Done:
        folder = tmp_path / name
        folder.mkdir()
        for file, content in files.items():
            text = content if isinstance(content, str) else "\n".join(map(json.dumps, content))
            (folder / file).write_text(text + "\n")
        return read(shipped(name), folder)

    return run


def rows(done: Done, *columns: str) -> list[tuple[Any, ...]]:
    """The events in the order of their time, items of one moment by ID."""
    return done.events.sort("event_time", "item_id", nulls_last=True).select(columns).rows()


def money(done: Done, name: str = "purchase") -> list[tuple[Any, ...]]:
    """Person, item and amount of one kind of event."""
    found = done.events.filter(pl.col("event_name") == name).sort("order_id", "item_id", "amount", nulls_last=True)
    return found.select("user_id", "item_id", "amount").rows()


def title(done: Done, item: str, name: str = "title") -> str | None:
    """What the events or the items table know about an item."""
    found = done.items.filter(pl.col("item_id") == item)
    return found[name][0] if found.height and name in found.columns else None


def test_ga4(ingest: Ingest) -> None:
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
        ("search", None, None, None, None, None, "1.2"),
        ("view_item", "h1", None, None, "USD", None, "1.2"),
        ("purchase", "h1", 2.0, 25.0, "USD", "T1", "u1"),
        ("purchase", "m1", 1.0, 8.0, "USD", "T1", "u1"),
        ("purchase", "h1", None, 12.5, None, None, "1.2"),  # no quantity: one piece
    ]
    assert done.events["query"][0] == "warm hat"
    assert done.events["url"][1] == "https://shop/h1"
    assert done.events["anonymous_id"].unique().to_list() == ["1.2"]
    assert (title(done, "h1"), title(done, "h1", "brand"), title(done, "h1", "category")) == ("Hat", None, "Apparel")
    assert title(done, "m1", "category") == "Home > Kitchen"


def test_segment(ingest: Ingest) -> None:
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


def test_google_retail(ingest: Ingest) -> None:
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


def test_rees46(ingest: Ingest) -> None:
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


def test_retailrocket(ingest: Ingest) -> None:
    text = (
        "timestamp,visitorid,event,itemid,transactionid\n"
        "1433221332117,257597,view,355908,\n"
        "1433222276276,599528,transaction,356475,4000"
    )
    done = ingest("retailrocket", {"events.csv": text, "category_tree.csv": "categoryid,parentid\n1016,213"})
    assert done.events["event_time"][0].isoformat() == "2015-06-02T05:02:12.117000+00:00"
    assert rows(done, "event_name", "order_id") == [("view_item", None), ("purchase", "4000")]
    assert done.unread == ("category_tree.csv",)


def test_yoochoose(ingest: Ingest) -> None:
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


def test_diginetica(ingest: Ingest) -> None:
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
    assert title(done, "81766") == "4875,776"


def test_taobao_as_published_and_the_real_slice(ingest: Ingest, real_data: Path) -> None:
    done = ingest("taobao", {"UserBehavior.csv": "1,2268318,2520377,pv,1511544070\n1,2333346,2520771,fav,1511561733"})
    (account,) = done.accounts.values()
    assert account.quarantined == {"favourite": 1}
    assert rows(done, "event_name", "item_id") == [("view_item", "2268318")]
    real = read(shipped("taobao"), real_data / "taobao_userbehavior_110k.parquet")
    (account,) = real.accounts.values()
    # counted with DuckDB: 110,300 rows, of them 3,383 fav
    assert (account.rows_in, account.quarantined) == (110_300, {"favourite": 3_383})
    assert real.events.filter(real.events["event_name"] == "purchase").height <= 2_493


def test_instacart(ingest: Ingest) -> None:
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
    assert (title(done, "196"), title(done, "196", "category")) == ("Soda", "beverages")


def test_gzip_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "UserBehavior.csv.gz"
    path.write_bytes(gzip.compress(b"1,2268318,2520377,pv,1511544070\n"))
    assert read(shipped("taobao"), path).events.height == 1


# Money, a refund where the source has them, and an unidentified person.


def test_ga4_money_and_people(ingest: Ingest) -> None:
    def event(name: str, second: int, person: str, user: str | None, items: list[dict[str, Any]], **more: Any) -> Any:
        return {
            "event_timestamp": str(1_704_412_800_000_000 + second * 1_000_000),
            "event_name": name,
            "user_pseudo_id": person,
            "user_id": user,
            "items": items,
            "batch_event_index": second,
        } | more

    line = {"item_id": "h1", "price": 12.5, "quantity": 2}
    log = [
        event("purchase", 0, "p1", "u1", [line], ecommerce={"transaction_id": "T1"}),
        event("purchase", 1, "p2", None, [line | {"quantity": 3}], ecommerce={"transaction_id": "T2"}),
        event("purchase", 2, "p2", None, [line | {"quantity": 3}], ecommerce={"transaction_id": "T2"}),  # reloaded
        event("refund", 3, "p1", "u1", [], ecommerce={"transaction_id": "T1", "refund_value": 25.0}),
        event("view_item", 4, "(not set)", None, [line]),
    ]
    done = ingest("ga4", {"events_20240105.jsonl": log})
    assert money(done) == [("u1", "h1", 25.0), ("p2", "h1", 37.5)]
    assert money(done, "refund") == [("u1", None, 25.0)]
    assert done.reasons() == {"sent_again": 1, "who_missing": 1}


def test_two_events_of_one_batch_are_two(ingest: Ingest) -> None:
    event = {"event_timestamp": "1704412800000000", "event_name": "add_to_cart", "user_pseudo_id": "1.2"}
    event |= {"event_bundle_sequence_id": "7", "items": [{"item_id": "h1"}]}
    done = ingest("ga4", {"events_20240105.jsonl": [event | {"batch_event_index": n} for n in (0, 1, 1)]})
    assert done.events.height == 2


def test_segment_money_and_people(ingest: Ingest) -> None:
    def call(message: str, event: str, user: str | None, anonymous: str | None, **properties: Any) -> dict[str, Any]:
        who = {"userId": user, "anonymousId": anonymous}
        time = f"2024-01-05T10:00:0{message[-1]}Z"
        return {
            "messageId": message,
            "type": "track",
            "event": event,
            "timestamp": time,
            "properties": properties,
        } | who

    lines = [{"product_id": "h1", "price": 12.5, "quantity": 2}, {"product_id": "m1", "price": 8}]
    log = [
        call("m1", "Order Completed", "u1", "a1", order_id="1", products=lines, currency="EUR"),
        call("m2", "Order Completed", None, "a2", order_id="2", revenue=19.5, total=25.0),
        call("m3", "Order Refunded", "u1", "a1", order_id="1", total=33.0),
        call("m4", "Completed Order", "guest", "a3", order_id="3", products=[{"id": "h1", "price": "12.50"}]),
        call("m5", "Product Viewed", None, None, product_id="h1"),
    ]
    done = ingest("segment", {"calls.jsonl": log})
    assert money(done) == [("u1", "h1", 25.0), ("u1", "m1", 8.0), ("a2", None, 19.5), ("a3", "h1", 12.5)]
    assert money(done, "refund") == [("u1", None, 33.0)]
    assert done.reasons() == {"who_missing": 1}


def test_google_retail_money_and_people(ingest: Ingest) -> None:
    def bought(
        second: int, visitor: str, user: dict[str, str] | None, lines: list[Any], revenue: float
    ) -> dict[str, Any]:
        return {
            "eventType": "purchase-complete",
            "visitorId": visitor,
            "userInfo": user,
            "eventTime": f"2024-01-05T10:00:0{second}Z",
            "productDetails": lines,
            "purchaseTransaction": {"id": f"T{second}", "revenue": revenue, "currencyCode": "USD"},
        }

    line = {"product": {"id": "h1", "priceInfo": {"price": 10.0}}, "quantity": 2}
    log = [
        bought(1, "v1", {"userId": "u1"}, [line], 20.0),
        bought(2, "v2", None, [], 7.5),
        bought(3, "", None, [line], 1),
    ]
    done = ingest("google_retail", {"events.jsonl": log})
    assert money(done) == [("u1", "h1", 20.0), ("v2", None, 7.5)]
    assert done.reasons() == {"who_missing": 1}


def test_rees46_money_and_people(ingest: Ingest) -> None:
    head = "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session\n"
    line = "2019-10-01 00:00:00 UTC,purchase,4,5,,aqua,33.20"
    done = ingest("rees46", {"2019-Oct.csv": f"{head}{line},55,9\n{line},55,9\n{line},NULL,7"})
    assert money(done) == [("55", "4", 33.2), ("55", "4", 33.2)]
    assert done.reasons() == {"who_missing": 1}


def test_rees46_electronics_money(ingest: Ingest) -> None:
    head = "event_time,event_type,product_id,category_code,brand,price,session_idx,part\n"
    line = "2021-01-02 03:04:05,purchase,7,appliances.iron,aqua,20.50"
    done = ingest("rees46_electronics", {"log.csv": f"{head}{line},0,a\n{line},0,a\n{line},,a"})
    assert money(done) == [("0", "7", 20.5), ("0", "7", 20.5)]  # sessions are numbered from 0
    assert done.reasons() == {"who_missing": 1}


def test_online_retail_money_and_people(ingest: Ingest) -> None:
    text = (
        "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID,Country\n"
        "5001,84029G,HOT WATER BOTTLE,6,2010-12-01 08:26:00,3.39,17850.0,United Kingdom\n"
        "5002,84029G,HOT WATER BOTTLE,2,2010-12-01 09:00:00,3.39,,United Kingdom\n"
        "C5003,84029G,HOT WATER BOTTLE,-1,2010-12-02 10:00:00,3.39,17850.0,United Kingdom\n"
        "5001,POST,POSTAGE,1,2010-12-01 08:26:00,18.0,17850.0,France\n"
        "5004,gift_0001_20,Dotcomgiftshop Gift Voucher,1,2010-12-03 10:00:00,17.0,,United Kingdom"
    )
    done = ingest("online_retail", {"online_retail_II.csv": text})
    assert money(done) == [("17850", "84029G", pytest.approx(20.34)), (None, "84029G", 6.78)]
    assert money(done, "refund") == [("17850", "84029G", 3.39)]
    assert done.reasons() == {"service_line": 2}
    assert done.events.filter(pl.col("user_id").is_null())["anonymous_id"].to_list() == ["5002"]


def test_complete_journey_money(ingest: Ingest) -> None:
    done = ingest(
        "complete_journey",
        {
            "transactions.csv": (
                "household_id,store_id,basket_id,product_id,quantity,sales_value,retail_disc,coupon_disc,coupon_match_disc,"
                "week,transaction_timestamp\n900,330,31,1095275,2,1.00,0,0,0,1,2017-01-01 11:53:26\n"
                ",330,32,9878513,1,0.99,0,0,0,1,2017-01-01 12:10:28"
            ),
            "coupon_redemptions.csv": "household_id,coupon_upc,campaign_id,redemption_date\n900,513,26,2017-01-02",
            "products.csv": (
                "product_id,manufacturer_id,department,brand,product_category,product_type,package_size\n"
                "1095275,2,PASTRY,National,ROLLS,ROLLS: BAGELS,4 OZ"
            ),
            "demographics.csv": (
                "household_id,age,income,home_ownership,marital_status,household_size,household_comp,kids_count\n"
                "900,65+,35-49K,Homeowner,Married,2,2 Adults No Kids,0"
            ),
            "campaigns.csv": "campaign_id,household_id\n26,900",
            "campaign_descriptions.csv": "campaign_id,campaign_type,start_date,end_date\n26,B,2017-01-01,2017-02-01",
        },
    )
    assert done.events.filter(pl.col("event_name") == "purchase").select("user_id", "price", "amount").rows() == [
        ("900", 0.5, 1.0)
    ]
    assert done.reasons() == {"who_missing": 1}


DUNNHUMBY_HEAD = (
    "household_key,BASKET_ID,DAY,PRODUCT_ID,QUANTITY,SALES_VALUE,STORE_ID,RETAIL_DISC,TRANS_TIME,WEEK_NO,COUPON_DISC,"
    "COUPON_MATCH_DISC\n"
)


def test_dunnhumby(ingest: Ingest) -> None:
    done = ingest(
        "dunnhumby",
        {
            "transaction_data.csv": DUNNHUMBY_HEAD
            + "2375,1,1,1004906,2,2.78,364,-0.6,1631,1,0,0\n2375,2,32,1004906,-1,-1.39,364,0,905,5,0,0\n"
            + ",3,33,1004906,1,1.39,364,0,1200,5,0,0",
            "coupon_redempt.csv": "household_key,DAY,COUPON_UPC,CAMPAIGN\n2375,3,100,26",
            "product.csv": (
                "PRODUCT_ID,MANUFACTURER,DEPARTMENT,BRAND,COMMODITY_DESC,SUB_COMMODITY_DESC,CURR_SIZE_OF_PRODUCT\n"
                "1004906,69,PRODUCE,Private,POTATOES,POTATOES RUSSET,5 LB"
            ),
            "campaign_table.csv": "DESCRIPTION,household_key,CAMPAIGN\nTypeA,2375,26",
            "campaign_desc.csv": "DESCRIPTION,CAMPAIGN,START_DAY,END_DAY\nTypeA,26,1,31",
        },
    )
    assert money(done) == [("2375", "1004906", 2.78)]
    assert money(done, "refund") == [("2375", "1004906", 1.39)]
    assert done.events.sort("event_time")["event_time"].dt.to_string("%m-%d %H:%M").to_list() == [
        "01-01 21:31",  # day 1 at 16:31 in New York
        "01-03 05:00",  # a coupon: the day only
        "02-01 14:05",
    ]
    assert done.reasons() == {"who_missing": 1}
    assert title(done, "1004906", "category") == "PRODUCE > POTATOES > POTATOES RUSSET"


def test_hm(ingest: Ingest) -> None:
    line = "2018-09-20,c1,0663713001,0.0508,2"
    done = ingest(
        "hm",
        {
            "transactions_train.csv": (
                f"t_dat,customer_id,article_id,price,sales_channel_id\n{line}\n{line}\n2018-09-21,,1,0.01,1"
            ),
            "articles.csv": (
                "article_id,prod_name,product_type_name,index_group_name,section_name,detail_desc,colour_group_name,"
                "graphical_appearance_name\n"
                "0663713001,Atlanta Push Body,Underwear body,Ladieswear,Womens Lingerie,Lace,Black,Solid"
            ),
        },
    )
    assert money(done) == [("c1", "0663713001", 0.0508)] * 2
    assert done.reasons() == {"who_missing": 1}
    assert title(done, "0663713001") == "Atlanta Push Body"


def test_olist(ingest: Ingest) -> None:
    done = ingest(
        "olist",
        {
            "olist_order_items_dataset.csv": (
                "order_id,order_item_id,product_id,seller_id,shipping_limit_date,price,freight_value\n"
                "o1,1,p1,s1,2017-09-19 09:45:35,58.90,13.29\no1,2,p1,s1,2017-09-19 09:45:35,58.90,13.29\n"
                "o2,1,p2,s1,2017-09-20 09:45:35,10.00,1.00\no3,1,p2,s1,2017-09-20 09:45:35,10.00,1.00"
            ),
            "olist_orders_dataset.csv": (
                "order_id,customer_id,order_status,order_purchase_timestamp\no1,c1,delivered,2017-09-13 08:59:02\n"
                "o2,c2,canceled,2017-09-14 08:00:00\no3,c9,delivered,2017-09-15 08:00:00"
            ),
            "olist_customers_dataset.csv": (
                "customer_id,customer_unique_id,customer_zip_code_prefix,customer_city,customer_state\n"
                "c1,u1,14409,franca,SP\nc2,u1,14409,franca,SP"
            ),
            "olist_order_reviews_dataset.csv": (
                "review_id,order_id,review_score,review_comment_title,review_comment_message,review_creation_date,"
                "review_answer_timestamp\nr1,o1,4,,bom,2017-09-21 00:00:00,2017-09-22 10:00:00"
            ),
        },
    )
    assert money(done) == [("u1", "p1", 58.9), ("u1", "p1", 58.9), (None, "p2", 10.0)]
    assert done.reasons() == {"order_not_fulfilled": 1}
    assert done.events["event_time"].min().isoformat() == "2017-09-13T11:59:02+00:00"  # type: ignore[union-attr]
    review = done.events.filter(pl.col("event_name") == "review")
    assert review.select("user_id", "rating", "text").rows() == [("u1", 4.0, "bom")]


def test_otto(ingest: Ingest) -> None:
    events = [("clicks", 1), ("carts", 2), ("orders", 3)]
    log = [
        {"session": 0, "events": [{"aid": 9, "ts": 1661119200000 + 1000 * n, "type": kind} for kind, n in events]},
        {"session": 1, "events": [{"aid": 9, "ts": 1661119200, "type": "clicks"}]},
        {"session": None, "events": [{"aid": 9, "ts": 1661119200, "type": "clicks"}]},
    ]
    done = ingest("otto", {"otto-recsys-train.jsonl": log})
    assert rows(done, "user_id", "event_name", "item_id") == [
        ("1", "view_item", "9"),
        ("0", "view_item", "9"),
        ("0", "add_to_cart", "9"),
        ("0", "purchase", "9"),
    ]
    assert done.reasons() == {"who_missing": 1}


def test_woocommerce(ingest: Ingest) -> None:
    def order(number: int, status: str, lines: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return {
            "id": number,
            "number": str(number),
            "status": status,
            "currency": "EUR",
            "date_created_gmt": f"2024-03-0{number}T10:00:00",
            "date_modified_gmt": f"2024-03-1{number}T10:00:00",
            "customer_id": 0,
            "billing": {"email": ""},
            "total": "30.00",
            "line_items": lines,
            "refunds": [],
        } | more

    hat = {"id": 1, "name": "Hat", "product_id": 11, "sku": "HAT", "quantity": 2, "total": "25.00", "price": 12.5}
    log = [
        order(1, "completed", [hat, {**hat, "id": 2, "sku": "", "quantity": 1, "total": "5.00"}], customer_id=7),
        order(2, "refunded", [hat], billing={"email": "a@x"}, refunds=[{"id": 9, "reason": "", "total": "-25.00"}]),
        order(3, "failed", [hat], customer_id=7),
        order(4, "processing", []),
    ]
    done = ingest("woocommerce", {"orders.jsonl": log})
    assert money(done) == [("7", "11", 5.0), ("7", "HAT", 25.0), ("a@x", "HAT", 25.0), (None, None, 30.0)]
    assert money(done, "refund") == [("a@x", None, 25.0)]
    assert done.events.filter(pl.col("item_id") == "HAT")["price"].to_list() == [12.5, 12.5]
    assert done.reasons() == {"order_not_paid": 1}


def test_woocommerce_export(ingest: Ingest) -> None:
    text = (
        "Order Number,Order Status,Order Date,Email (Billing),Order Refund Amount,Order Total Amount,SKU,Item #,"
        "Item Name,Quantity,Item Cost\n"
        "1,Completed,2024-03-05 14:22,a@x,0,30,HAT,1,Hat,2,12.50\n1,,,,,,MUG,2,Mug,1,5.00\n"
        "2,Refunded,2024-03-06 14:22,,12.50,12.50,HAT,1,Hat,1,12.50\n"
        "3,Failed,2024-03-07 14:22,b@x,0,12.50,HAT,1,Hat,1,12.50"
    )
    done = ingest("woocommerce_export", {"orders.csv": text})
    assert money(done) == [("a@x", "HAT", 25.0), ("a@x", "MUG", 5.0), (None, "HAT", 12.5)]
    assert money(done, "refund") == [(None, None, 12.5)]
    assert done.reasons() == {"order_not_paid": 1}


def test_shopify(ingest: Ingest) -> None:
    head = (
        "Name,Email,Financial Status,Paid at,Fulfilled at,Currency,Total,Created at,Lineitem quantity,Lineitem name,"
        "Lineitem price,Lineitem sku,Cancelled at,Refunded Amount,Vendor,Id\n"
    )
    text = (
        "#1,a@x,partially_refunded,2025-10-07 09:50:26 +0200,,USD,30.00,2025-10-07 09:50:26 +0200,2,Hat,12.50,HAT,,"
        "5.00,Me,1\n"
        "#1,,,,,,,,1,Gift wrap,5.00,,,,Me,\n"
        "#2,,paid,2025-10-08 09:00:00 +0200,,USD,12.50,2025-10-08 09:00:00 +0200,1,Hat,12.50,HAT,,0.00,Me,2"
    )
    done = ingest("shopify", {"orders_export_1.csv": head + text})
    assert money(done) == [("a@x", "Gift wrap", 5.0), ("a@x", "HAT", 25.0), (None, "HAT", 12.5)]
    assert money(done, "refund") == [("a@x", None, 5.0)]
    assert done.quarantined.is_empty()


@pytest.mark.parametrize(
    ("name", "file", "lines"),
    [
        (
            "retailrocket",
            "events.csv",
            [
                "timestamp,visitorid,event,itemid,transactionid",
                "1433222276276,5,transaction,3,4",
                "1433222276276,,view,3,",
            ],
        ),
        ("taobao", "UserBehavior.csv", ["1,2268318,2520377,buy,1511544070", ",2268318,2520377,pv,1511544070"]),
    ],
)
def test_sources_without_money_leave_it_unknown(ingest: Ingest, name: str, file: str, lines: list[str]) -> None:
    done = ingest(name, {file: "\n".join(lines)})
    assert done.events.select("event_name", "amount").rows() == [("purchase", None)]
    assert done.reasons() == {"who_missing": 1}
