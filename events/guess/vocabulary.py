"""What shops call their columns and events, compared in lower case without accents, blanks and punctuation."""

import re
import unicodedata


def _names(**words: str) -> dict[str, tuple[str, ...]]:
    return {name: tuple(text.split()) for name, text in words.items()}


# Column of the contract -> names in exports, the surest first.
COLUMN_NAMES = _names(
    event_id="eventid messageid eventuuid",
    event_time="""eventtime eventtimestamp timestamp transactiontimestamp datetime createdat time ts invoicedate
        orderdate purchasedate orderpurchasetimestamp datecreatedgmt datecreated created placedat processedat occurredat
        transactiondate saledate tdat date eventdate unixtime bestelldatum rechnungsdatum kaufdatum
        auftragsdatum zeitstempel zeit datum fecha datecommande visitdate day""",
    ingested_at="ingestedat receivedat loadedat",
    event_name="eventname eventtype event action behavior behaviour behaviortype activity ereignis aktion type",
    user_id="""userid customerid customerkey visitorid householdid householdkey memberid clientid shopperid buyerid
        accountid customerno customernumber kundennummer kundennr kundenid user customer kunde client
        cliente idclient uid customeremail
        billingemail email""",
    anonymous_id="anonymousid userpseudoid deviceid cookieid fullvisitorid",
    session_id="sessionid usersession session sessionidx visitid gasessionid",
    platform="platform device devicetype channel plattform",
    item_id="""itemid productid sku lineitemsku stockcode articleid asin productcode itemcode itemsku productsku
        artikelnummer artikelnr artikel item product produkt produit producto aid""",
    quantity="quantity qty units lineitemquantity itemquantity menge anzahl stuckzahl cantidad quantite count",
    price="price unitprice itemprice lineitemprice itemcost einzelpreis stuckpreis preis precio prix",
    amount="""amount salesvalue linetotal lineamount itemrevenue total revenue sales totalprice gesamt gesamtpreis
        betrag summe umsatz importe""",
    currency="currency currencycode wahrung moneda",
    order_id="""orderid transactionid invoiceno invoice basketid ordernumber invoicenumber orderno ordernum receiptid
        receiptno receipt bestellnummer bestellnr rechnungsnummer bonnummer belegnummer pedido idcommande commande""",
    query="query searchterm searchquery keyword searchstring suchbegriff",
    position="position rank",
    url="url pageurl uri pagelocation",
    dwell_seconds="dwellseconds dwelltime timeonpage",
    rating="rating stars score bewertung",
    text="reviewtext reviewbody comment",
    campaign_id="campaignid campaign utmcampaign",
)
CONTENT_NAMES = _names(
    category="categorycode category categoryname itemcategory categoryid department kategorie warengruppe",
    brand="brand itembrand manufacturer vendor marke hersteller",
    title="title productname itemname lineitemname artikelname artikelbezeichnung bezeichnung name description",
)
TIME_OF_DAY_NAMES = ("time", "transtime", "timeofday", "ordertime", "uhrzeit", "zeit")
EVENT_WORDS = _names(
    view_item="""view viewitem pv pageview detail productview productviewed detailpageview viewedproduct ansicht clicks
""",
    add_to_cart="cart addtocart basket productadded add addedtocart carts warenkorb",
    remove_from_cart="removefromcart productremoved remove",
    begin_checkout="checkout begincheckout checkoutstarted",
    purchase="""purchase buy transaction order ordercompleted completedorder purchasecomplete sale orders kauf
        bestellung""",
    refund="refund return orderrefunded retoure erstattung storno",
    search="search viewsearchresults productssearched suche",
    view_item_list="list viewitemlist productlistviewed categorypageview impression",
    select_item="click selectitem productclicked",
    review="review rate productreviewed",
    view_promotion="viewpromotion promotionviewed",
    select_promotion="selectpromotion promotionclicked",
)
DISCOUNT = re.compile(r"(?i)discount|rabatt|coupon|voucher|gutschein|promo|descuento|remise")


def comparable(name: str) -> str:
    """Return a name in lower case, without accents, blanks and punctuation."""
    letters = unicodedata.normalize("NFKD", name).encode("ascii", errors="ignore").decode()
    return re.sub(r"[^a-z0-9]", "", letters.lower()) or name.strip().lower()
