"""The local store is as strict as BigCommerce's API files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from tests.fake_store import KINDS, NAMES, TOKEN, FakeStore, error_body
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


def ids(send: Send, name: str = "customers", /, **params: Any) -> list[int]:
    """Return the ids of a page of the kind's list."""
    answer = send("GET", KINDS[name].path, {"limit": 250} | params)
    assert answer.status_code in (200, 204), answer.text
    body = answer.json() if answer.content else []
    rows = body if isinstance(body, list) else body["data"]
    return [row[KINDS[name].id_field] for row in rows]


def delete(send: Send, *numbers: int, path: str = "v3/customers") -> requests.Response:
    return send("DELETE", path, {"id:in": ",".join(map(str, numbers))})


def path_of(name: str, number: object) -> str:
    """Return the path of the kind's DELETE by path id."""
    return f"{KINDS[name].delete_path or KINDS[name].path}/{number}"


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
