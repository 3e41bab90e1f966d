"""The local store is as strict as BigCommerce's API files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from operator import contains, eq, ge, gt, le, lt
from typing import Any

import pytest
import requests
from requests.exceptions import ChunkedEncodingError

from tests.fake_store import KINDS, NAMES, TOKEN, FakeStore, Fault, Record, Request, error_body
from tests.rigged import QUIET

Send = Callable[..., requests.Response]
COUNTS: dict[str, Any] = dict.fromkeys(NAMES, 30) | {"customers": 300}


def sender(store: FakeStore) -> Send:
    session = requests.Session()
    session.trust_env = False  # REQUESTS_CA_BUNDLE of this machine would override verify
    session.verify = str(store.ca_file)
    session.headers["X-Auth-Token"] = TOKEN

    def send(method: str, path: str, params: Any = None, **more: Any) -> requests.Response:
        url = f"https://{store.host}/stores/{more.pop('store_hash', store.store_hash)}/{path}"
        options = {"timeout": 10, "allow_redirects": False} | more
        return session.request(method, url, params=params, **options)

    return send


@pytest.fixture
def store() -> Iterator[FakeStore]:
    """A store with 300 customers and 30 records of every other kind."""
    with FakeStore(**QUIET, **COUNTS) as started:
        yield started


@pytest.fixture
def send(store: FakeStore) -> Send:
    return sender(store)


def rows(send: Send, name: str = "customers", /, **params: Any) -> list[Record]:
    """Return a page of the kind's list."""
    answer = send("GET", KINDS[name].path, {"limit": 250} | params)
    assert answer.status_code in (200, 204), answer.text
    body = answer.json() if answer.content else []
    listed: list[Record] = body if isinstance(body, list) else body["data"]
    return listed


def ids(send: Send, name: str = "customers", /, **params: Any) -> list[int]:
    return [row[KINDS[name].id_field] for row in rows(send, name, **params)]


def delete(send: Send, *numbers: int, path: str = "v3/customers") -> requests.Response:
    return send("DELETE", path, {"id:in": ",".join(map(str, numbers))})


def path_of(name: str, number: object) -> str:
    """Return the path of the kind's DELETE by path id."""
    return f"{KINDS[name].delete_path or KINDS[name].path}/{number}"


# --- records --------------------------------------------------------------------------------


def test_records_are_the_same_each_time(store: FakeStore) -> None:
    """Ids ascend with the time of creation."""
    assert FakeStore(**COUNTS).records == store.records
    assert list(store.customers) == sorted(store.customers)
    created = [record["date_created"] for record in store.customers.values()]
    assert created == sorted(created)


def test_fields_are_null_arrays_and_decimals_as_in_real_stores(send: Send) -> None:
    """channel_ids is null for most customers, which means everywhere, and never empty."""
    customers, products = rows(send, include="storecredit"), rows(send, "products")
    channels = [row["channel_ids"] for row in customers]
    assert channels.count(None) > 150
    assert min(channels.count([1]), channels.count([1, 2])) > 20
    amounts = [credit["amount"] for row in customers for credit in row["store_credit_amounts"]]
    assert {type(amount) for amount in amounts} == {float}
    assert max(len(row["categories"]) for row in products) > 1
    assert {row["price"].is_integer() for row in products} == {True, False}


def test_many_light_customers() -> None:
    with FakeStore(customers=100_000, light=True) as store:
        last = ids(sender(store), page=400, sort="date_created:asc")
        assert last == list(store.customers)[-250:]
        delete(sender(store), last[0])
        assert (len(store.customers), last[0] in store.customers) == (99_999, False)


# --- lists ----------------------------------------------------------------------------------


def test_pages(store: FakeStore, send: Send) -> None:
    """Pages hold each record once. V3 counts them; V2 ends with an empty 204."""
    assert len(send("GET", "v3/customers").json()["data"]) == 50
    for name, kind in KINDS.items():
        listed: list[int] = []
        for page in (1, 2, 3, 4):
            limit = len(store.records[name]) // 3
            answer = send("GET", kind.path, {"limit": limit, "page": page})
            assert answer.status_code == (204 if kind.v2 and page == 4 else 200)
            body: Any = answer.json() if answer.content else []
            found = body if kind.v2 else body["data"]
            listed += [row[kind.id_field] for row in found]
            if not kind.v2:
                meta = body["meta"]["pagination"]
                assert (meta["total"], meta["count"]) == (len(store.records[name]), len(found))
                assert (meta["total_pages"], meta["current_page"]) == (3, page)
        assert listed == list(store.records[name])


INVALID = """page=-1 id:in=1,x date_created:min=2024-05-14 customer_group_id:in=wholesale
date_created:min=2024-05-14T09:34:00%2B00:00 date_created:max=2024-02-30T00:00:00Z
sort=id:asc include=addresses,orders"""
PRODUCTS = "price=cheap is_visible=True is_featured=true condition=mint direction=desc"


def test_invalid_parameters(store: FakeStore, send: Send) -> None:
    """V3 answers 422 and V2 400, also to dates that are not full date-times in UTC."""
    targets = [f"v3/customers?{query}" for query in INVALID.split()]
    targets += [f"v3/catalog/products?{query}" for query in PRODUCTS.split()]
    for kind in KINDS.values():
        targets += [f"{kind.path}?limit={n}" for n in ("0", "-1", "ten", "1,2", "251")]
    for target in targets:
        status = 400 if target.startswith("v2") else 422
        assert send("GET", target).status_code == status, target
    assert send("GET", "v3/customers?page=0").json().keys() == error_body(422, "").keys()
    assert store.violations == []


def test_unknown_parameters(store: FakeStore, send: Send) -> None:
    """An unknown parameter is a violation. It is ignored, so that all records are returned."""
    for name in NAMES:
        found = ids(send, name, **{"colour:in": "red"})
        assert len(found) == min(250, len(store.records[name]))
    assert len(store.violations) == len(NAMES)
    store.deaf = {"colour:in", "company:in"}
    assert len(ids(send, **{"colour:in": "red", "company:in": "Nobody", "email:in": ""})) == 250
    assert len(store.violations) == len(NAMES)
    send("GET", "v3/customers?id:in=1&id:in=2")
    assert len(store.violations) == len(NAMES) + 1


OPERATORS: dict[str, Callable[[Any, Any], Any]] = {"": eq, "in": eq, "like": contains}
OPERATORS |= {"min": ge, "max": le, "greater": gt, "less": lt}


def test_filters(store: FakeStore, send: Send) -> None:
    """Each filter returns exactly the records whose field compares to the value."""
    store.reading = store.reading._replace(inclusive=True)
    store.remove(*list(store.customers)[250:])
    for name, kind in KINDS.items():
        for parameter in kind.filters.keys() - {"name:in", "categories:in"}:
            base, _, way = parameter.replace("min_id", "id:min").partition(":")
            if (name, base) == ("customers", "name"):
                continue
            values = [record[base] for record in store.records[name].values() if record[base]]
            value = values[len(values) // 2]
            text = str(value)
            if base in ("is_featured", "is_free_shipping"):
                text = "1"
            elif base in ("is_visible", "condition", "redemption_type"):
                text = text.lower()
            elif base.startswith("date_"):
                text = text.replace("+00:00", "Z")
            records = store.records[name].items()
            wanted = [n for n, record in records if OPERATORS[way](record[base], value)]
            assert sorted(ids(send, name, **{parameter: text})) == wanted, (name, parameter)
    assert store.violations == []


def test_filters_on_names_and_categories(store: FakeStore, send: Send) -> None:
    """Lists are split at every comma. name:like is one text, but for customers a list."""
    spam = [n for n, record in store.customers.items() if "WIN $" in record["first_name"]]
    assert ids(send, **{"name:like": "win $1,Prize-"}) == spam
    first, second = list(store.customers)[:2]
    store.change(first, first_name="Ada", last_name="Zu", company="Ball")
    store.change(second, company=" Ltd")
    assert ids(send, **{"name:in": "ada zu"}) == [first]
    assert ids(send, **{"company:in": "Ball, Ltd"}) == [first, second]
    for name in ("brands", "categories", "price_lists"):
        one = next(iter(store.records[name]))
        store.change(one, kind=name, name="Salt, Pepper")
        assert ids(send, name, **{"name:like": "alt, pep"}) == [one]
    one, other = list(store.records["products"])[:2]
    store.change(one, kind="products", categories=[15, 50])
    store.change(other, kind="products", categories=[15])
    assert ids(send, "products", **{"categories:in": "15,50"}) == [one]
    assert {one, other} <= set(ids(send, "products", **{"categories:in": 15}))


@pytest.mark.parametrize("sensitive", [False, True])
def test_the_case_of_email_addresses(sensitive: bool) -> None:
    """Addresses are found in any case unless look-ups are case-sensitive."""
    options = QUIET | {"case_sensitive_lookups": sensitive}
    with FakeStore(customers=3, subscribers=3, **options) as store:
        send, (first, second, _) = sender(store), store.customers
        store.change(first, email="Ada.Smith@One.Example", channel_ids=[1])
        store.change(second, email="Ada.Smith@One.Example", channel_ids=[2])
        assert ids(send, **{"email:in": "x@y.example,Ada.Smith@One.Example"}) == [first, second]
        found = ids(send, **{"email:in": "ada.smith@one.example"})
        assert found == ([] if sensitive else [first, second])
        one, record = next(iter(store.records["subscribers"].items()))
        found = ids(send, "subscribers", email=record["email"].upper())
        assert found == ([] if sensitive else [one])


def test_date_bounds(store: FakeStore, send: Send) -> None:
    """Bounds of customers exclude that very second, unless bounds are inclusive."""
    numbers = list(store.customers)
    moment = store.customers[numbers[150]]["date_created"]
    for inclusive in (False, True):
        store.reading = store.reading._replace(inclusive=inclusive)
        assert ids(send, **{"date_created:max": moment}) == numbers[: 150 + inclusive]
        assert ids(send, **{"date_created:min": moment}) == numbers[151 - inclusive :]
    store.reading = store.reading._replace(inclusive=False)
    moment = next(iter(store.records["price_lists"].values()))["date_created"]
    both = {"date_created:min": moment, "date_created:max": moment}
    assert len(ids(send, "price_lists", **both)) == 1  # whose file does not word its bounds


def test_order_and_sub_resources(store: FakeStore, send: Send) -> None:
    """At most 10 addresses and attributes of a customer are listed; the counts are true."""
    store.change(min(store.customers), date_created="2030-01-01T00:00:00Z")
    last = rows(send, page=300, limit=1, sort="date_created:asc")
    assert [row["id"] for row in last] == [min(store.customers)]
    names = [row["name"] for row in rows(send, "brands", sort="name", direction="asc")]
    assert names == sorted(names)
    for name, kind in KINDS.items():
        assert not kind.sub_resources & rows(send, name)[0].keys()
        for word, field in kind.includes.items():
            for row in rows(send, name, include=word):
                assert row.keys() & kind.sub_resources == {field} - {""}
    full = rows(send, include="addresses,attributes")
    for count, field in (("address_count", "addresses"), ("attribute_count", "attributes")):
        cut = [(row[count], len(row[field])) for row in full if row[count] > len(row[field])]
        assert set(cut) == {(12, 10)}


def test_one_record_by_path_id(store: FakeStore, send: Send) -> None:
    """A record that does not exist is a 404; an undocumented path is a violation too."""
    for name, kind in KINDS.items():
        first, second = list(store.records[name])[:2]
        answer = send("GET", f"{kind.path}/{first}")
        assert answer.status_code == (200 if kind.read_one else 404), name
        if kind.read_one:
            assert (answer.json() if kind.v2 else answer.json()["data"]) == rows(send, name)[0]
        store.remove(second, kind=name)
        assert send("GET", f"{kind.path}/{second}").status_code == 404
        undocumented = 0 if kind.read_one else 2
        assert len(store.violations) == undocumented
        store.violations.clear()


def test_store_information_and_customer_groups(store: FakeStore, send: Send) -> None:
    zone = send("GET", "v2/store").json()["timezone"]
    assert (zone["name"], zone["raw_offset"]) == ("America/Chicago", -21600)
    groups = send("GET", "v2/customer_groups").json()
    used = {record["customer_group_id"] for record in store.customers.values()} - {0}
    assert {group["id"] for group in groups} == used
    assert send("GET", "v2/customer_groups", {"limit": 1, "page": 2}).json() == groups[1:2]
    store.customer_groups = {}
    assert send("GET", "v2/customer_groups").status_code == 204
    assert store.violations == []


def test_access(store: FakeStore, send: Send) -> None:
    """401 for a wrong token, 404 for another store, 403 for a missing scope."""
    assert send("GET", "v3/customers", headers={"X-Auth-Token": "x"}).status_code == 401
    assert send("GET", "v3/customers", store_hash="other").status_code == 404
    scopes = {"v2/store": "store_v2_information", "v2/customer_groups": "store_v2_customers"}
    for path, scope in (scopes | {kind.path: kind.scope for kind in KINDS.values()}).items():
        for granted, status in (f"{scope}_read_only", 200), ("store_v2_checkouts", 403):
            store.scopes = {granted}
            assert send("GET", path).status_code == status
    store.scopes = {"store_v2_customers_read_only"}
    assert delete(send, min(store.customers)).status_code == 403
    assert store.violations == []
    for method, headers in (
        ("POST", {}),
        ("PUT", {}),
        ("GET", {"Authorization": "x"}),
        ("GET", {"Cookie": "a=b"}),
    ):
        send(method, "v3/customers", headers=headers)
        assert store.violations.pop()
    assert len(store.customers) == 300


# --- deleting -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in NAMES if name != "orders"])
def test_deleting(store: FakeStore, send: Send, name: str) -> None:
    """The documented DELETE deletes exactly its ids, and no more than the maximum."""
    kind, records = KINDS[name], store.records[name]
    before, wanted = set(records), list(records)[:2] if kind.max_batch else list(records)[:1]
    if name == "categories":
        store.remove(*store.records["products"], kind="products")
    if kind.max_batch:
        answer = delete(send, *wanted, path=kind.path)
        too_many = range(1, kind.max_batch + 2)
        assert delete(send, *too_many, path=kind.path).status_code == kind.too_many
        again = delete(send, *wanted, max(records), path=kind.path)
        wanted.append(max(before))
    else:
        answer, again = (send("DELETE", path_of(name, wanted[0])) for _ in "ab")
    assert (answer.status_code, answer.content, again.status_code) == (204, b"", kind.missing)
    assert before - set(records) == set(wanted)
    assert not set(wanted) & set(ids(send, name))
    assert store.deleted_ids()[wanted[0]] >= 2
    assert store.violations == []


def forbidden_deletes() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield DELETEs that do not name positive ids in the documented form."""
    yield "v2/customers", {"id:in": "11"}
    for name, kind in KINDS.items():
        yield f"{kind.path}/", {}
        yield kind.path, {f"{kind.id_field}:in": "11", "name": "x"}
        for value in ("", "0", "11,-1", "11, 12", "None"):
            yield kind.path, {"id:in": value}
        yield from ((path_of(name, number), {}) for number in ("0", "-1", "None", "11,12"))
        yield path_of(name, 11), {"id:in": 11}
    for path in ("v3/customers/11", "v2/orders/11", "v2/customer_groups"):
        yield path, {}
    yield "v3/catalog/trees/categories", {"category_id:in": 11}
    yield "v3/catalog/categories", {"id:in": 11}


def test_any_other_delete_is_a_violation(store: FakeStore, send: Send) -> None:
    """On a collection it may delete everything, and here it does."""
    for count, (path, params) in enumerate(forbidden_deletes(), 1):
        assert send("DELETE", path, params).status_code in (204, 422)
        assert len(store.violations) == count, (path, params)
    assert not any(store.records.values())


def test_categories(store: FakeStore, send: Send) -> None:
    """Descendants are deleted with a category. One that contains products is rejected."""
    root, child, grandchild, other, *_ = categories = store.records["categories"]
    for number in store.records["products"]:
        store.change(number, kind="products", categories=[other])
    store.change(child, kind="categories", parent_id=root)
    store.change(grandchild, kind="categories", parent_id=child)
    assert send("DELETE", path_of("categories", root)).status_code == 204
    assert not categories.keys() & {root, child, grandchild}
    answer = send("DELETE", path_of("categories", other))
    assert (answer.status_code, "contains products" in answer.text) == (422, True)
    assert other in categories


@pytest.mark.parametrize("partial", [False, True])
def test_promotions_with_codes(store: FakeStore, send: Send, partial: bool) -> None:
    """A promotion with coupon codes is rejected with its batch or, as documented, alone."""
    first, held, last = list(store.records["promotions"])[:3]
    store.partial_promotions, store.with_codes = partial, {held}
    answer = delete(send, first, held, last, path="v3/promotions")
    assert f"Failed for id={held}." in answer.json()["errors"][0]["errors"]["1.code"]
    assert (answer.status_code, answer.json()["meta"]["success"]) == (422, 2 if partial else 0)
    assert len(store.records["promotions"]) == (28 if partial else 30)


def test_price_lists_one_at_a_time() -> None:
    slow = QUIET | {"latency": 0.1}
    with FakeStore(customers=0, price_lists=2, **slow) as store, ThreadPoolExecutor(2) as pool:
        paths = [path_of("price_lists", number) for number in store.records["price_lists"]]
        sent = [pool.submit(sender(store), "DELETE", path) for path in paths]
        assert sorted(each.result().status_code for each in sent) == [204, 429]
        assert len(store.violations) == 1


def test_batches_that_fail_in_whole_or_in_part(store: FakeStore, send: Send) -> None:
    first, locked, last, once, forever = numbers = list(store.customers)[:5]
    store.refuse = {locked: (422, {"title": "has open orders"})}
    answer = delete(send, *numbers)
    assert (answer.status_code, answer.json()) == (422, {"title": "has open orders"})
    assert len(store.customers) == 300
    store.refuse, store.per_item = {}, {locked: (409, "is locked")}
    shapes = [("errors", 207, "errors"), ("meta", 422, "meta"), ("rows", 200, "data")]
    for store.per_item_shape, status, key in shapes:
        answer = delete(send, first, locked, last)
        assert (answer.status_code, key in answer.json()) == (status, True)
        assert str(locked) in answer.text
        assert "is locked" in answer.text
    assert store.customers.keys() & set(numbers) == {locked, once, forever}
    store.sticky = {once: 1, forever: math.inf}
    for remaining in ({once, forever}, {forever}, {forever}):
        assert delete(send, once, forever).status_code == 204
        assert store.customers.keys() & {once, forever} == remaining


def test_a_deleted_record_is_listed_for_a_while() -> None:
    with FakeStore(customers=5, lag=3600.0) as store:
        send, first = sender(store), min(store.customers)
        delete(send, first)
        assert len(store.customers) == 4
        assert (len(rows(send)), ids(send, **{"id:in": first})) == (5, [first])


# --- the quota ------------------------------------------------------------------------------


def test_quota() -> None:
    """Each answer reports the quota. A request without a token is answered 429."""
    with FakeStore(customers=20, quota=3, window=3600.0) as store:
        send = sender(store)
        left = [send("GET", "v2/store").headers["X-Rate-Limit-Requests-Left"] for _ in "ab"]
        assert left == ["2", "1"]
        with store.other_app(per_second=100):
            while not store.others:
                pass
        answer = delete(send, *list(store.customers)[:2])
        assert (answer.status_code, len(store.customers)) == (429, 20)
        assert answer.headers["X-Rate-Limit-Requests-Quota"] == "3"
        assert answer.headers["X-Rate-Limit-Time-Window-Ms"] == "3600000"
        reset = int(answer.headers["X-Rate-Limit-Time-Reset-Ms"])
        assert int(answer.headers["X-Retry-After"]) == math.ceil(reset / 1000) <= 3600
        assert (store.windows(), store.others) == ({0: 2}, {0: 1})
        assert [request.counted for request in store.log] == [True, True, False]
        store.quota = None
        assert send("GET", "v2/store").headers["X-Rate-Limit-Requests-Quota"] == "16101495"


def test_windows_and_many_connections() -> None:
    """Five clients at once: no window grants more than its quota."""
    with FakeStore(customers=60, quota=13, window=0.05) as store, ThreadPoolExecutor(5) as pool:

        def work(mine: list[int]) -> None:
            send = sender(store)
            for number in mine:
                while delete(send, number).status_code == 429:
                    pass

        numbers = list(store.customers)
        list(pool.map(work, [numbers[n::5] for n in range(5)]))
        assert not store.customers
        assert sum(store.windows().values()) == 60
        assert max(store.windows().values()) <= 13
        assert store.max_in_flight <= 5 == store.connections
        assert [request.number for request in store.log] == list(range(1, len(store.log) + 1))


def test_quota_of_items() -> None:
    """With count_items a batch takes a token per id, and is deleted as far as they last."""
    with FakeStore(customers=30, quota=13, window=3600.0, count_items=True) as store:
        send, numbers = sender(store), list(store.customers)
        assert delete(send, *numbers[:10]).status_code == 204
        answer = delete(send, *numbers[10:15])
        assert answer.status_code == 207
        assert [row["id"] for row in answer.json()["data"]] == numbers[10:13]
        failed = [(row["id"], row["status"]) for row in answer.json()["errors"]]
        assert failed == [(numbers[13], 429), (numbers[14], 429)]
        assert delete(send, *numbers[13:15]).status_code == 429
        assert (len(store.customers), store.windows()) == (17, {0: 13})


# --- faults and serving ---------------------------------------------------------------------


def test_a_fault_of_any_status_headers_and_body(store: FakeStore, send: Send) -> None:
    body, headers = error_body(403, "The store owner account changed"), {"Set-Cookie": "a=b"}
    store.faults = [
        Fault("GET", "v3/customers", skip=1, times=2, status=403, body=body, headers=headers),
        Fault("GET", status=200, body="<html>", content_type="text/html", quota_headers=False),
    ]
    answer = send("GET", "v3/customers")
    assert (answer.text, answer.headers["Content-Type"]) == ("<html>", "text/html")
    assert "X-Rate-Limit-Requests-Left" not in answer.headers
    for _ in range(2):
        answer = send("GET", "v3/customers")
        assert (answer.status_code, answer.json()) == (403, body)
    assert len(rows(send)) == 250
    cookies = [request.headers.get("cookie") for request in store.log]
    assert cookies == [None, None, "a=b", "a=b"]


FAULTS: list[dict[str, Any]] = [{"status": 504}, {"close": "reset"}, {"close": "cut"}]


@pytest.mark.parametrize("commit", [True, False])
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_before_or_after_the_deletion(
    store: FakeStore, send: Send, fault: dict[str, Any], commit: bool
) -> None:
    """After a gateway's error, a reset or a cut-off body the record may be deleted or not."""
    store.faults = [Fault("DELETE", commit=commit, **fault)]
    number = min(store.customers)
    if "close" in fault:
        with pytest.raises((requests.ConnectionError, ChunkedEncodingError)):
            delete(send, number)
    else:
        assert delete(send, number).status_code == 504
    assert (number in store.customers) is not commit
    assert rows(send, limit=1)


def test_faults_that_act_and_rewrite(store: FakeStore, send: Send) -> None:
    """A hook acts before the request is processed. An error in a function is a violation."""
    first = min(store.customers)

    def without_total(_: Request, answer: Any) -> Any:
        del answer["meta"]["pagination"]["total"]
        return answer

    store.faults = [Fault("GET", hook=lambda _: store.remove(first), rewrite=without_total)]
    answer = send("GET", "v3/customers").json()
    assert "total" not in answer["meta"]["pagination"]
    assert answer["data"][0]["id"] != first
    assert store.violations == []
    store.faults = [Fault(where=lambda _: 1 / 0 > 0)]
    with pytest.raises(requests.ConnectionError):
        send("GET", "v2/store")
    store.faults.clear()
    assert send("GET", "v2/store").status_code == 200
    assert len(store.violations) == 1


def test_starting_and_stopping(capfd: pytest.CaptureFixture[str]) -> None:
    """A failed handshake leaves no traceback, and a store that has ended leaves nothing."""
    with FakeStore(customers=1) as store:
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(f"https://{store.host}/", timeout=10, verify=True)
        assert sender(store)("GET", "v2/store").status_code == 200
        assert store.ca_file.exists()
    assert not store.ca_file.exists()
    with pytest.raises(OSError, match=r"refused|reset|aborted|Max retries"):
        requests.get(f"https://{store.host}/", timeout=10)
    assert capfd.readouterr().err == ""
