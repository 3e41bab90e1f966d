"""The local store is what the tool's tests stand on: here it is itself held to the facts."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from tests import fake_store
from tests.fake_store import STORE_HASH, TOKEN, FakeStore, Fault
from tests.rigged import posix

INCLUDE = "addresses,storecredit,attributes,formfields"
OPENAPI = Path(__file__).resolve().parents[2] / "shared" / "openapi" / "customers.v3.yml"

Send = Callable[..., requests.Response]


def sender(store: FakeStore) -> Send:
    session = requests.Session()
    session.trust_env = False  # REQUESTS_CA_BUNDLE of this machine would win over verify
    session.verify = str(store.ca_file)
    session.headers["X-Auth-Token"] = TOKEN

    def send(method: str, path: str, params: dict[str, Any] | None = None, **more: Any) -> requests.Response:
        url = f"https://{store.host}/stores/{more.pop('store_hash', STORE_HASH)}/{path}"
        return session.request(method, url, params=params, timeout=10, allow_redirects=False, **more)

    return send


@pytest.fixture
def store() -> Iterator[FakeStore]:
    # A window that no test outlives: nothing here depends on the time.
    with FakeStore(customers=300, quota=10_000, window=3600.0) as started:
        yield started


@pytest.fixture
def send(store: FakeStore) -> Send:
    return sender(store)


def listed(send: Send, **params: Any) -> list[dict[str, Any]]:
    answer = send("GET", "v3/customers", {"limit": 250} | params)
    assert answer.status_code == 200, answer.text
    data: list[dict[str, Any]] = answer.json()["data"]
    return data


def delete(send: Send, *ids: int) -> requests.Response:
    return send("DELETE", "v3/customers", {"id:in": ",".join(map(str, ids))})


def test_made_up_customers_are_the_same_for_a_seed() -> None:
    """A seed makes the same customers; ids have gaps and ascend with date_created."""
    customers = FakeStore(customers=500).customers
    assert customers == FakeStore(customers=500).customers
    assert customers != FakeStore(customers=500, seed=2).customers
    assert list(customers) == sorted(customers)
    assert max(customers) > min(customers) + 499
    created = [record["date_created"] for record in customers.values()]
    assert created == sorted(created)
    names = [record["first_name"] for record in customers.values()]
    assert any("\x1b" in name for name in names)
    assert any("[bold" in name for name in names)


def test_pages(store: FakeStore, send: Send) -> None:
    """Pages hold each record once; limit is 50 unless given, and 250 at most."""
    assert len(send("GET", "v3/customers").json()["data"]) == 50
    first = send("GET", "v3/customers", {"limit": 1000}).json()
    second = send("GET", "v3/customers", {"limit": 250, "page": 2}).json()
    assert [row["id"] for row in first["data"] + second["data"]] == list(store.customers)
    assert first["meta"]["pagination"] == {
        "total": 300,
        "count": 250,
        "per_page": 250,
        "current_page": 1,
        "total_pages": 2,
        "links": {"current": "?page=1&limit=250", "next": "?page=2&limit=250"},
    }
    assert "cursor_pagination" in first["meta"]
    assert "cursor_pagination" not in second["meta"]
    assert listed(send, page=3) == []


def test_cursors(store: FakeStore, send: Send) -> None:
    """end_cursor leads to the next page, even when its record is gone; start_cursor back."""
    first = send("GET", "v3/customers", {"limit": 100}).json()
    end = first["meta"]["cursor_pagination"]["end_cursor"]
    store.remove(first["data"][-1]["id"])
    second = send("GET", "v3/customers", {"limit": 100, "after": end}).json()
    assert [row["id"] for row in second["data"]] == list(store.customers)[99:199]
    assert "pagination" not in second["meta"]
    start = second["meta"]["cursor_pagination"]["start_cursor"]
    back = send("GET", "v3/customers", {"limit": 50, "before": start}).json()
    assert [row["id"] for row in back["data"]] == list(store.customers)[49:99]
    assert send("GET", "v3/customers", {"after": "nonsense"}).status_code == 422


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("company:in", "company"),
        ("customer_group_id:in", "customer_group_id"),
        ("email:in", "email"),
        ("phone:in", "phone"),
        ("registration_ip_address:in", "registration_ip_address"),
        ("id:in", "id"),
        ("date_created", "date_created"),
    ],
)
def test_equality_filters(store: FakeStore, send: Send, name: str, field: str) -> None:
    """A filter selects the records whose field has one of its values, and no others."""
    value = next(record[field] for record in store.customers.values() if record[field])
    expected = [n for n, record in store.customers.items() if record[field] == value]
    assert [row["id"] for row in listed(send, **{name: value})] == expected


def test_other_filters(store: FakeStore, send: Send) -> None:
    """Names are matched whole or in part, dates as a day or from and to a moment."""
    records = list(store.customers.values())
    middle = records[150]
    whole = f"{middle['first_name']} {middle['last_name']}"
    assert middle["id"] in [row["id"] for row in listed(send, **{"name:in": whole})]
    spam = [record["id"] for record in records if "WIN $" in record["first_name"]]
    assert [row["id"] for row in listed(send, **{"name:like": "win $1,Prize-"})] == spam
    day = middle["date_created"][:10]
    store.info["timezone"]["raw_offset"] = 0
    assert middle["id"] in [row["id"] for row in listed(send, date_created=day)]
    assert middle["id"] in [row["id"] for row in listed(send, date_created=middle["date_created"])]
    assert listed(send, date_created="9999-12-31") == []  # the last day that Python knows
    assert listed(send, **{"date_created:max": "0001-01-01"}) == []


def test_bounds_that_are_not_meant_themselves(store: FakeStore, send: Send) -> None:
    """customers.v3.yml says "after this date" and "before this date": that second itself is neither."""
    ids = list(store.customers)
    moment = store.customers[ids[150]]["date_created"]
    assert [row["id"] for row in listed(send, **{"date_created:min": moment})] == ids[151:]
    assert [row["id"] for row in listed(send, **{"date_created:max": moment})] == ids[:150]
    store.date_bounds = "inclusive"  # other readers took the words otherwise
    assert [row["id"] for row in listed(send, **{"date_created:min": moment})] == ids[150:]
    assert [row["id"] for row in listed(send, **{"date_created:max": moment})] == ids[:151]


def test_a_time_without_a_zone_is_the_store_s(store: FakeStore, send: Send) -> None:
    """No file tells in which zone a date is read that names none: here it is the store's own."""
    ids = list(store.customers)
    for number, moment in zip(ids, ("2025-03-10T05:59:59Z", "2025-03-10T06:00:01Z"), strict=False):
        store.change(number, date_modified=moment)
    store.date_bounds = "inclusive"

    def found(value: str) -> set[int]:
        return {row["id"] for row in listed(send, **{"id:in": joined(*ids[:2]), "date_modified:min": value})}

    assert found("2025-03-10T00:00:00Z") == {ids[0], ids[1]}
    for value in ("2025-03-10", "2025-03-10T00:00:00"):  # in Chicago, six hours behind
        assert found(value) == {ids[1]}
    store.info["timezone"]["raw_offset"] = 0
    for value in ("2025-03-10", "2025-03-10T00:00:00"):
        assert found(value) == {ids[0], ids[1]}


def test_lists_are_split_at_each_comma(store: FakeStore, send: Send) -> None:
    """A value that holds a comma cannot be asked for, and a space after one belongs to the value."""
    first, second, third = list(store.customers)[:3]
    store.change(first, company="Ball, Ltd")
    store.change(second, company="Ball")
    store.change(third, company=" Ltd")
    assert [row["id"] for row in listed(send, **{"company:in": "Ball, Ltd"})] == [second, third]
    assert [row["id"] for row in listed(send, **{"company:in": "ball"})] == []
    ids = f"{first}, {second}"
    assert send("GET", "v3/customers", {"id:in": ids}).status_code == 422


def test_addresses(store: FakeStore, send: Send) -> None:
    """Several storefronts' customers may share an address; no file says that its case is passed over."""
    first, second, third = list(store.customers)[:3]
    for channel, number in enumerate((first, second), 1):
        store.change(number, email="Jo@shop.example", origin_channel_id=channel, channel_ids=[channel])
    store.change(third, email="jo@shop.example")
    for case, wanted in (("exact", [first, second]), ("folded", [first, second, third])):
        store.email_case = case
        assert [row["id"] for row in listed(send, **{"email:in": "Jo@shop.example"})] == wanted
    assert store.add(email="Jo@shop.example", origin_channel_id=3)
    assert len(listed(send, **{"email:in": "Jo@shop.example"})) == 4


@pytest.mark.parametrize("sort", sorted(fake_store.SORTS))
def test_sort(send: Send, sort: str) -> None:
    """Each documented order is the order of the answer."""
    name, _, way = sort.partition(":")
    values = [row[name] for row in listed(send, sort=sort)]
    assert values == sorted(values, reverse=way == "desc")


def test_include(store: FakeStore, send: Send) -> None:
    """Sub-resources come when asked for, at most 10 of each; the counts tell the truth."""
    assert not fake_store.SUB_RESOURCES & listed(send)[0].keys()
    rows = listed(send, include=INCLUDE)
    assert all(row.keys() >= fake_store.SUB_RESOURCES for row in rows)
    for count, name in (("address_count", "addresses"), ("attribute_count", "attributes")):
        cut = [row for row in rows if row[count] > len(row[name])]
        assert cut
        assert all((row[count], len(row[name])) == (12, 10) for row in cut)


@pytest.mark.parametrize(
    "params",
    [
        {"limit": 0},
        {"limit": "ten"},
        {"page": -1},
        {"page": 1.5},
        {"id:in": "1,x"},
        {"date_created:min": "yesterday"},
        {"date_created:min": "20240514"},
        {"date_created:min": "2024-05-14 09:34:00"},
        {"date_created:min": "2024-05-14T09:34Z"},
        {"date_created:min": "2024-05-14T09:34:00+00:00"},
        {"date_created:min": "2024-02-30"},
        {"date_created:min": "٢٠٢٤-05-14"},
        {"customer_group_id:in": "wholesale"},
        {"sort": "id:asc"},
        {"include": "orders"},
    ],
)
def test_bad_parameters(send: Send, params: dict[str, Any]) -> None:
    """A value that makes no sense is answered with 422."""
    answer = send("GET", "v3/customers", params)
    assert answer.status_code == 422
    assert answer.json().keys() == {"status", "title", "type", "errors"}


def test_a_deaf_store_ignores_the_parameter(store: FakeStore, send: Send) -> None:
    """What a store is deaf to selects nothing: the whole list comes."""
    store.deaf = {"company:in", "tpyo"}
    assert len(listed(send, **{"company:in": "Nobody", "tpyo": "x"})) == 250


def test_delete(store: FakeStore, send: Send) -> None:
    """A DELETE removes the ids that exist and answers 204, also for those that do not."""
    ids = list(store.customers)[:3]
    answer = delete(send, *ids, 999_999)
    assert (answer.status_code, answer.content) == (204, b"")
    assert len(store.customers) == 297
    assert not store.customers.keys() & set(ids)
    assert listed(send, **{"id:in": ",".join(map(str, ids))}) == []
    assert store.deletes()[0].ids == (*ids, 999_999)
    assert set(store.deleted_ids().values()) == {1}
    assert store.violations == []


def test_deletes_that_must_not_be_sent(store: FakeStore, send: Send) -> None:
    """More than 10 ids: 413; no positive integers: 422; no ids or an unknown filter: 204. Nothing goes."""
    ids = list(store.customers)
    assert delete(send, *ids[:11]).status_code == 413
    assert delete(send, ids[0], 0).status_code == 422
    assert len(store.violations) == 1
    assert send("DELETE", "v3/customers", {"name:in": "x"}).status_code == 204
    assert send("DELETE", "v3/customers").status_code == 204
    assert send("DELETE", "v3/customers", {"id:in": ""}).status_code == 204
    assert len(store.customers) == 300
    assert len(store.violations) == 5


def test_the_v2_delete_empties_the_store(store: FakeStore, send: Send) -> None:
    """DELETE /v2/customers takes everything, whatever its query, and is a violation."""
    assert send("DELETE", "v2/customers", {"id:in": "1"}).status_code == 204
    assert not store.customers
    assert len(store.violations) == 1


def test_access(store: FakeStore, send: Send) -> None:
    """401 for a wrong token, 403 for a missing scope, 404 for a wrong hash or path."""
    assert send("GET", "v2/store").json()["domain"] == "sandbox-store.example"
    assert send("GET", "v3/customers", headers={"X-Auth-Token": "x"}).status_code == 401
    assert send("GET", "v3/customers", store_hash="other").status_code == 404
    assert send("GET", "v3/customers/7").status_code == 404
    store.scopes.clear()
    for method, path in (("GET", "v2/store"), ("GET", "v3/customers"), ("DELETE", "v3/customers")):
        answer = send(method, path)
        assert (answer.status_code, answer.json()["status"]) == (403, 403)
    assert store.violations == []
    send("POST", "v3/customers", headers={"Authorization": "Basic x"})
    assert len(store.violations) == 2


def test_quota() -> None:
    """Each answer tells the quota; without tokens left 429s come, and do nothing."""
    with FakeStore(customers=20, quota=3, window=3600.0) as store:
        send = sender(store)
        lefts = [send("GET", "v2/store").headers["X-Rate-Limit-Requests-Left"] for _ in "ab"]
        assert lefts == ["2", "1"]
        assert store.use(5) == 1
        answer = delete(send, *list(store.customers)[:2])
        assert answer.status_code == 429
        assert len(store.customers) == 20
        assert answer.headers["X-Rate-Limit-Requests-Quota"] == "3"
        assert answer.headers["X-Rate-Limit-Time-Window-Ms"] == "3600000"
        reset = int(answer.headers["X-Rate-Limit-Time-Reset-Ms"])
        assert int(answer.headers["X-Retry-After"]) == math.ceil(reset / 1000) <= 3600
        assert parsedate_to_datetime(answer.headers["Date"]).tzinfo
        assert store.windows() == {0: 2}
        assert store.others == {0: 1}
        assert [request.counted for request in store.log] == [True, True, False]


def test_many_connections_share_one_quota() -> None:
    """Five clients at once: each id goes once, and no window gives more than its quota."""
    with FakeStore(customers=200, quota=13, window=0.1) as store:
        ids = list(store.customers)

        def work(mine: list[int]) -> None:
            send = sender(store)
            for number in mine:
                while delete(send, number).status_code == 429:
                    pass

        with ThreadPoolExecutor(5) as pool:
            assert list(pool.map(work, [ids[n::5] for n in range(5)])) == [None] * 5
        assert not store.customers
        assert sum(store.windows().values()) == 200
        assert max(store.windows().values()) <= 13
        assert store.max_in_flight <= 5
        assert store.connections == 5
        assert [request.number for request in store.log] == list(range(1, len(store.log) + 1))


def test_windows_follow_one_another() -> None:
    """A new window brings the whole quota back; the grid starts with the first request."""
    with FakeStore(customers=1, quota=1, window=0.2) as store:
        send = sender(store)
        assert send("GET", "v2/store").status_code == 200
        while send("GET", "v2/store").status_code == 429:
            pass
        assert set(store.windows().values()) == {1}
        assert len(store.windows()) == 2


def test_an_unlimited_plan() -> None:
    """Without a quota the store reports a very large one."""
    with FakeStore(customers=1, quota=None) as store:
        headers = sender(store)("GET", "v2/store").headers
    assert headers["X-Rate-Limit-Requests-Quota"] == "16101495"
    assert headers["X-Rate-Limit-Requests-Left"] == "16101494"


def test_count_items() -> None:
    """Where ids are counted, a batch that fits in part is done in part."""
    with FakeStore(customers=30, quota=13, window=3600.0, count_items=True) as store:
        send, ids = sender(store), list(store.customers)
        assert delete(send, *ids[:10]).status_code == 204
        answer = delete(send, *ids[10:15])
        assert answer.status_code == 207
        assert [row["id"] for row in answer.json()["data"]] == ids[10:13]
        assert [(row["id"], row["status"]) for row in answer.json()["errors"]] == [
            (ids[13], 429),
            (ids[14], 429),
        ]
        assert delete(send, *ids[13:15]).status_code == 429
        assert len(store.customers) == 17
        assert store.windows() == {0: 13}


def test_a_fault_after_the_commit(store: FakeStore, send: Send) -> None:
    """A 504 may come after the deed: the records are gone."""
    ids = list(store.customers)[:2]
    store.faults = [Fault("DELETE", skip=1, status=504, body="<html>", commit=True)]
    assert delete(send, ids[0]).status_code == 204
    answer = delete(send, ids[1])
    assert (answer.status_code, answer.text) == (504, "<html>")
    assert len(store.customers) == 298
    assert delete(send, ids[1]).status_code == 204


@pytest.mark.parametrize("commit", [True, False])
def test_a_reset(store: FakeStore, send: Send, commit: bool, capfd: pytest.CaptureFixture[str]) -> None:
    """A reset ends the connection without an answer, before or after the deed."""
    store.faults = [Fault("DELETE", close="reset", commit=commit)]
    with pytest.raises(requests.ConnectionError):
        delete(send, next(iter(store.customers)))
    assert len(store.customers) == (299 if commit else 300)
    assert store.log[-1].status == 0
    assert listed(send, limit=1)
    assert store.connections == 2
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_cut_off_body(store: FakeStore, send: Send, method: str) -> None:
    """A cut-off answer promises more bytes than it gives."""
    store.faults = [Fault(method, "v3/customers", close="cut", commit=True)]
    ids = {"id:in": next(iter(store.customers))}
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        send(method, "v3/customers", ids)
    assert len(store.customers) == (300 if method == "GET" else 299)


def test_hooks_and_rewritten_answers(store: FakeStore, send: Send) -> None:
    """A fault may act in mid-run, rewrite an answer, and leave quota headers out."""
    first = next(iter(store.customers))

    def without_total(_: fake_store.Request, answer: Any) -> Any:
        del answer["meta"]["pagination"]["total"]
        return answer

    store.faults = [
        Fault("GET", hook=lambda _: store.remove(first), rewrite=without_total),
        Fault("GET", where=lambda request: "page" in request.query, quota_headers=False),
    ]
    answer = send("GET", "v3/customers")
    assert "total" not in answer.json()["meta"]["pagination"]
    assert answer.json()["data"][0]["id"] != first
    assert "X-Rate-Limit-Requests-Left" not in send("GET", "v3/customers", {"page": 1}).headers
    assert "X-Rate-Limit-Requests-Left" in send("GET", "v3/customers", {"page": 1}).headers
    assert store.violations == []


def test_a_fault_that_fails_itself(store: FakeStore, send: Send, capfd: pytest.CaptureFixture[str]) -> None:
    """An error in a scripted function is a violation; the store goes on."""
    store.faults = [Fault(where=lambda _: 1 / 0 > 0)]
    with pytest.raises(requests.ConnectionError):
        send("GET", "v2/store")
    store.faults.clear()
    assert send("GET", "v2/store").status_code == 200
    assert len(store.violations) == 1
    assert capfd.readouterr().err == ""
    assert store.max_in_flight == 1


def test_sticky_records(store: FakeStore, send: Send) -> None:
    """A sticky record survives so many DELETEs that were answered 204."""
    once, ever = list(store.customers)[:2]
    store.sticky = {once: 1, ever: math.inf}
    for left in ({once, ever}, {ever}, {ever}):
        assert delete(send, once, ever).status_code == 204
        assert store.customers.keys() & {once, ever} == left


def test_lag() -> None:
    """Where the list lags behind, a deleted record still shows."""
    with FakeStore(customers=5, lag=3600.0) as store:
        send, first = sender(store), next(iter(store.customers))
        delete(send, first)
        assert len(store.customers) == 4
        assert len(listed(send)) == 5
        assert listed(send, **{"id:in": first})[0]["id"] == first


def test_refused_batches(store: FakeStore, send: Send) -> None:
    """One refused record keeps its whole batch from being deleted."""
    ids = list(store.customers)[:3]
    store.refuse = {ids[1]: (422, {"title": "has open orders"})}
    answer = delete(send, *ids)
    assert (answer.status_code, answer.json()) == (422, {"title": "has open orders"})
    assert len(store.customers) == 300


@pytest.mark.parametrize(
    ("shape", "status", "key"),
    [("errors", 207, "errors"), ("meta", 422, "meta"), ("rows", 200, "failed_rows_data")],
)
def test_per_item_results(store: FakeStore, send: Send, shape: str, status: int, key: str) -> None:
    """A record that is refused alone stays; its neighbours go; the answer names it."""
    ids = list(store.customers)[:3]
    store.per_item, store.per_item_shape = {ids[1]: (409, "is locked")}, shape
    answer = delete(send, *ids)
    assert answer.status_code == status
    assert key in answer.json()
    assert str(ids[1]) in answer.text
    assert "is locked" in answer.text
    assert store.customers.keys() & set(ids) == {ids[1]}


def test_sign_ups(store: FakeStore, send: Send) -> None:
    """Sign-ups get the next ids, also after the newest record was deleted."""
    newest = max(store.customers)
    store.remove(newest)
    assert store.add(2, company="New Ltd") == [newest + 1, newest + 2]
    rows = listed(send, **{"company:in": "New Ltd"})
    assert [row["id"] for row in rows] == [newest + 1, newest + 2]
    store.change(newest + 1, company="Old Ltd")
    assert len(listed(send, **{"company:in": "New Ltd"})) == 1


def test_a_light_store_of_a_million() -> None:
    """A million records are made page by page, and can be deleted."""
    with FakeStore(customers=1_000_000, light=True) as store:
        send = sender(store)
        rows = listed(send, page=4000, sort="date_created:asc")
        assert [row["id"] for row in rows] == list(store.customers)[-250:]
        delete(send, rows[0]["id"])
        assert len(store.customers) == 999_999
        assert rows[0]["id"] not in store.customers


@posix
def test_config(store: FakeStore, tmp_path: Path) -> None:
    """store.ini is the owner's alone, and says what was asked for."""
    path = store.config(tmp_path, dry_run=True, batch_size=5, filters={"id:in": "1,2"})
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text().split("\n\n") == [
        f"[store]\nstore_hash = {STORE_HASH}\naccess_token = {TOKEN}",
        "[cleanup]\ndry_run = yes\nbatch_size = 5",
        "[filters]\nid:in = 1,2",
        "",
    ]


def test_a_client_that_does_not_trust_the_store(store: FakeStore, capfd: pytest.CaptureFixture[str]) -> None:
    """A failed handshake is the client's affair: no traceback, and the store goes on."""
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(f"https://{store.host}/", timeout=10, verify=True)
    assert len(listed(sender(store))) == 250
    assert capfd.readouterr().err == ""


def test_leaving_frees_everything() -> None:
    """After the block nothing listens, and the store's files are gone."""
    with FakeStore(customers=1) as store:
        send = sender(store)
        send("GET", "v2/store")
        assert store.ca_file.exists()
    assert not store.ca_file.exists()
    with pytest.raises(OSError, match=r"refused|reset|aborted|Max retries"):
        requests.get(f"https://{store.host}/", timeout=10)


# --- the store and BigCommerce's own description of it -------------------------------------------


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    if not OPENAPI.exists():
        pytest.skip("BigCommerce's customers.v3.yml is not at hand")
    yaml = pytest.importorskip("yaml")
    loaded: dict[str, Any] = yaml.safe_load(OPENAPI.read_text(encoding="utf-8"))
    return loaded


def check(value: Any, schema: dict[str, Any], openapi: dict[str, Any], where: str) -> None:
    """Each field that is sent is documented, and of the documented type."""
    if "$ref" in schema:
        schema = openapi["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    types = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
    assert isinstance(value, types.get(schema.get("type", ""), object)), where
    if isinstance(value, dict):
        assert value.keys() >= set(schema.get("required", ())), where
        for name, part in value.items():
            assert name in schema["properties"], f"{where}.{name}"
            check(part, schema["properties"][name], openapi, f"{where}.{name}")
    if isinstance(value, list):
        assert len(value) <= schema.get("maxItems", math.inf), where
        for part in value:
            check(part, schema["items"], openapi, f"{where}[]")
    if isinstance(value, str):
        assert len(value) <= schema.get("maxLength", math.inf), where
        assert value in schema.get("enum", [value]), where


def test_every_field_is_documented(openapi: dict[str, Any], send: Send) -> None:
    """Records and meta hold no field that customers.v3.yml does not have."""
    schemas = openapi["components"]["schemas"]
    answer = send("GET", "v3/customers", {"limit": 250, "include": INCLUDE}).json()
    for row in answer["data"]:
        check(row, schemas["customer_Full"], openapi, "customer")
    meta = schemas["_metaCollectionWithCursorPagination"]
    check(answer["meta"], meta, openapi, "meta")
    error = send("GET", "v3/customers", {"limit": 0}).json()
    assert error.keys() == schemas["Error"]["properties"].keys()


def test_delete_answers_as_documented(openapi: dict[str, Any], store: FakeStore, send: Send) -> None:
    """A DELETE has the one documented parameter, and the documented statuses."""
    documented = openapi["paths"]["/customers"]["delete"]
    assert [row["name"] for row in documented["parameters"]] == ["id:in"]
    good, bad = delete(send, next(iter(store.customers))), delete(send, 0)
    assert [str(good.status_code), str(bad.status_code)] == list(documented["responses"])


# --- the other kinds of records ------------------------------------------------------------------


FOLDER = OPENAPI.parent
COUNTS: dict[str, Any] = dict.fromkeys((name for name in fake_store.NAMES if name != "customers"), 60)
# The kind's list and path-id operations: file, path of the collection, path of one.
FILES = {
    "customers": ("customers.v3.yml", "/customers", ""),
    "products": ("products_catalog.v3.yml", "/catalog/products", "/catalog/products/{product_id}"),
    "categories": ("category-trees_catalog.v3.yml", "/catalog/trees/categories", ""),
    "older_categories": (
        "categories_catalog.v3.yml",
        "/catalog/categories",
        "/catalog/categories/{category_id}",
    ),
    "brands": ("brands_catalog.v3.yml", "/catalog/brands", "/catalog/brands/{brand_id}"),
    "promotions": ("promotions.v3.yml", "/promotions", "/promotions/{id}"),
    "coupons": ("marketing.v2.yml", "/coupons", "/coupons/{id}"),
    "gift_certificates": ("marketing.v2.yml", "/gift_certificates", "/gift_certificates/{id}"),
    "price_lists": ("price_lists.v3.yml", "/pricelists", "/pricelists/{price_list_id}"),
    "redirects": ("redirects.v3.yml", "/storefront/redirects", ""),
    "pages": ("pages.v3.yml", "/content/pages", "/content/pages/{pageId}"),
    "subscribers": ("subscribers.v3.yml", "/customers/subscribers", "/customers/subscribers/{subscriber_id}"),
    "orders": ("orders.v2.oas2.yml", "/orders", ""),
}
KIND_NAMES = list(fake_store.KINDS)


@pytest.fixture
def full() -> Iterator[FakeStore]:
    """A store with sixty of everything."""
    with FakeStore(customers=60, quota=10_000, window=3600.0, **COUNTS) as started:
        for record in started.records["products"].values():
            record["categories"] = []
        yield started


@pytest.fixture
def ask(full: FakeStore) -> Send:
    return sender(full)


def all_of(ask: Send, name: str, /, **params: Any) -> list[dict[str, Any]]:
    answer = ask("GET", fake_store.KINDS[name].path, {"limit": 250} | params)
    assert answer.status_code in (200, 204), answer.text
    body = answer.json() if answer.content else []
    rows: list[dict[str, Any]] = body if isinstance(body, list) else body["data"]
    return rows


def ids_of(name: str, rows: list[dict[str, Any]]) -> list[int]:
    return [row[fake_store.KINDS[name].id_field] for row in rows]


def joined(*ids: int) -> str:
    return ",".join(map(str, ids))


def test_no_such_kind() -> None:
    """A count of something that the store does not have is an error, not an empty store."""
    with pytest.raises(TypeError, match="product"):
        FakeStore(product=3)


def test_counts(full: FakeStore) -> None:
    """Each kind has as many as was asked for, the same for a seed, and customers are one of them."""
    assert {len(records) for records in full.records.values()} == {60}
    assert full.customers is full.records["customers"]
    again = FakeStore(customers=60, **COUNTS)
    del full.records["products"], again.records["products"]  # the fixture changed them
    assert again.records == full.records


@pytest.mark.parametrize("name", KIND_NAMES)
def test_a_list_has_all(full: FakeStore, ask: Send, name: str) -> None:
    """Pages of 25 hold each record once, and an empty page ends them."""
    kind = fake_store.KINDS[name]
    listed_ids: list[int] = []
    for page in (1, 2, 3, 4):
        answer = ask("GET", kind.path, {"limit": 25, "page": page})
        if not answer.content:
            assert (answer.status_code, page, kind.v2) == (204, 4, True)
        elif kind.v2:
            listed_ids += ids_of(name, answer.json())
        else:
            listed_ids += ids_of(name, answer.json()["data"])
            rows = answer.json()["data"]
            pagination = answer.json()["meta"]["pagination"]
            assert (pagination["total"], pagination["total_pages"]) == (60, 3)
            assert (pagination["current_page"], pagination["count"]) == (page, len(rows))
    assert listed_ids == list(full.records[kind.store])


@pytest.mark.parametrize("name", KIND_NAMES)
def test_a_list_passes_over_what_it_does_not_know(full: FakeStore, ask: Send, name: str) -> None:
    """An unknown parameter selects nothing, so that all is listed, and is a violation; pages answer 400."""
    if name == "pages":  # pages.v3.yml: "passing query parameters that are not supported on this endpoint"
        assert ask("GET", "v3/content/pages", {"id": 11}).status_code == 400
    else:
        assert len(all_of(ask, name, **{"colour:in": "red"})) == 60
    assert len(full.violations) == 1
    full.deaf = {"colour:in"}
    assert len(all_of(ask, name, **{"colour:in": "red"})) == 60
    assert len(full.violations) == 1


@pytest.mark.parametrize("name", KIND_NAMES)
def test_a_filter_without_a_value_is_none(full: FakeStore, ask: Send, name: str) -> None:
    """An empty list of ids selects all, not nothing: no file says otherwise."""
    kind = fake_store.KINDS[name]
    for parameter in kind.filters:
        assert len(all_of(ask, name, **{parameter: ""})) == 60


@pytest.mark.parametrize("name", KIND_NAMES)
def test_limits_of_a_list(full: FakeStore, ask: Send, name: str) -> None:
    """A limit above the documented maximum is refused; where there is none, it is cut to 250."""
    kind = fake_store.KINDS[name]
    answer = ask("GET", kind.path, {"limit": 251})
    if kind.refuses_limits:
        assert answer.status_code == (400 if kind.v2 else 422)
    else:
        assert answer.status_code == 200
        assert kind.v2 or answer.json()["meta"]["pagination"]["per_page"] == 250
    for limit in ("0", "-1", "ten", "2.5", "1,2"):
        assert ask("GET", kind.path, {"limit": limit}).status_code == (400 if kind.v2 else 422)


def test_cursors_of_price_lists(full: FakeStore, ask: Send) -> None:
    """Their file says that a cursor cannot be used with a page, nor with the other cursor."""
    path = "v3/pricelists"
    end = ask("GET", path, {"limit": 5}).json()["meta"]["cursor_pagination"]["end_cursor"]
    assert ask("GET", path, {"after": end}).status_code == 200
    assert ask("GET", path, {"after": end, "page": 2}).status_code == 422
    assert ask("GET", path, {"after": end, "before": end}).status_code == 422


@pytest.mark.parametrize("name", KIND_NAMES)
def test_scopes(full: FakeStore, ask: Send, name: str) -> None:
    """Read-only is enough to read and not to delete; without both there is nothing."""
    kind = fake_store.KINDS[name]
    full.scopes = {f"{kind.scope}_read_only"}
    assert ask("GET", kind.path).status_code == 200
    assert ask("DELETE", kind.path, {"id:in": "1"}).status_code == 403
    full.scopes.clear()
    assert ask("GET", kind.path).status_code == 403
    assert full.violations == []


BARE = {
    "customers": (204, 60),
    "products": (422, 60),
    "categories": (202, 0),
    "older_categories": (422, 60),
    "brands": (422, 60),
    "promotions": (422, 60),
    "coupons": (204, 0),
    "gift_certificates": (204, 0),
    "price_lists": (204, 0),
    "redirects": (422, 60),
    "pages": (422, 60),
    "subscribers": (204, 0),
    "orders": (204, 0),
}


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("name", KIND_NAMES)
def test_a_delete_without_a_filter(full: FakeStore, ask: Send, name: str, slash: str) -> None:
    """It is a violation, and takes everything wherever BigCommerce does not say otherwise."""
    kind = fake_store.KINDS[name]
    status, left = BARE[name]
    full.scopes.add(kind.scope)
    assert ask("DELETE", kind.path + slash).status_code == status
    assert len(all_of(ask, name)) == left
    if name == "orders":  # "Archives all orders."
        assert all(order["is_deleted"] for order in full.records["orders"].values())
    else:
        assert len(full.records[kind.store]) == left
    assert len(full.violations) == 1
    others = [len(records) for other, records in full.records.items() if other != kind.store]
    assert set(others) == {60}


@pytest.mark.parametrize("name", ["subscribers", "gift_certificates", "orders"])
def test_an_id_filter_that_is_not_documented_is_none(full: FakeStore, ask: Send, name: str) -> None:
    """A collection that has no id filter is emptied by a DELETE with one."""
    first = next(iter(full.records[name]))
    full.scopes.add(fake_store.KINDS[name].scope)
    ask("DELETE", fake_store.KINDS[name].path, {"id:in": first})
    assert all_of(ask, name) == []
    assert len(full.violations) == 2


@pytest.mark.parametrize("name", [n for n in KIND_NAMES if fake_store.KINDS[n].by])
def test_a_delete_by_ids(full: FakeStore, ask: Send, name: str) -> None:
    """A DELETE of a collection takes the ids that it names, as many as are allowed, and no others."""
    kind = fake_store.KINDS[name]
    ids = list(full.records[kind.store])[:6]
    answer = ask("DELETE", kind.path, {kind.by: joined(*ids)})
    assert answer.status_code == kind.done
    assert list(full.deleted_ids()) == ids
    rest = [number for number in full.records[kind.store] if number not in ids]
    assert len(rest) == 54
    assert ids_of(name, all_of(ask, name)) == rest
    assert full.violations == []
    largest = joined(*range(1, kind.max_batch + 2))
    assert ask("DELETE", kind.path, {kind.by: largest}).status_code == kind.too_many
    assert ask("DELETE", kind.path, {kind.by: "1,0"}).status_code == (400 if kind.v2 else 422)
    assert len(full.records[kind.store]) == 54
    assert len(full.violations) == 1


@pytest.mark.parametrize("name", [n for n in KIND_NAMES if fake_store.KINDS[n].one])
def test_a_delete_by_path(full: FakeStore, ask: Send, name: str) -> None:
    """A DELETE by path id takes that one; the id must be a positive integer, and one alone."""
    kind = fake_store.KINDS[name]
    first, second = list(full.records[kind.store])[:2]
    assert ask("DELETE", f"{kind.path}/{first}").status_code == 204
    assert len(full.records[kind.store]) == 59
    assert first not in full.records[kind.store]
    assert ask("DELETE", f"{kind.path}/{first}").status_code == kind.missing
    assert full.violations == []
    assert ask("DELETE", f"{kind.path}/{second}", {"id:in": first}).status_code == 204
    assert len(full.violations) == 1  # no single record has a parameter
    full.violations.clear()
    for tail in ("0", "-1", "None", f"{first},{second}"):
        assert ask("DELETE", f"{kind.path}/{tail}").status_code == (400 if kind.v2 else 422)
    assert len(full.violations) == 4
    assert len(full.records[kind.store]) == 58


@pytest.mark.parametrize("name", KIND_NAMES)
def test_a_read_by_path(full: FakeStore, ask: Send, name: str) -> None:
    """One that is there is shown, one that is not is 404; where no such path is documented all are."""
    kind = fake_store.KINDS[name]
    first, second = list(full.records[kind.store])[:2]
    answer = ask("GET", f"{kind.path}/{first}")
    assert answer.status_code == (200 if kind.read_one else 404)
    if kind.read_one:
        body = answer.json()
        row = body if kind.v2 else body["data"]
        assert row == next(row for row in all_of(ask, name) if row[kind.id_field] == first)
        assert kind.v2 or body.keys() == {"data", "meta"}
    full.remove(second, kind=kind.store)
    assert ask("GET", f"{kind.path}/{second}").status_code == 404


@pytest.mark.parametrize("name", [n for n in KIND_NAMES if not fake_store.KINDS[n].one])
def test_no_delete_by_path(full: FakeStore, ask: Send, name: str) -> None:
    """Where no path id is documented there is none."""
    kind = fake_store.KINDS[name]
    first = next(iter(full.records[kind.store]))
    assert ask("DELETE", f"{kind.path}/{first}").status_code == 404
    assert first in full.records[kind.store]


def test_brands_go_by_name(full: FakeStore, ask: Send) -> None:
    """A DELETE of brands takes those of the name, and their products stay without a brand."""
    product = next(r for r in full.records["products"].values() if r["brand_id"])
    brand = full.records["brands"][product["brand_id"]]
    assert len(all_of(ask, "products", brand_id=brand["id"])) > 0
    assert ask("DELETE", "v3/catalog/brands", {"name": brand["name"]}).status_code == 204
    assert len(full.records["brands"]) == 59
    assert all_of(ask, "products", brand_id=brand["id"]) == []
    assert len(full.records["products"]) == 60


def test_categories_take_their_children(full: FakeStore, ask: Send) -> None:
    """A deleted parent takes its children along; the older path shows the same categories."""
    child = next(r for r in full.records["categories"].values() if r["parent_id"])
    assert ids_of("older_categories", all_of(ask, "older_categories")) == list(full.records["categories"])
    assert ask("DELETE", f"v3/catalog/categories/{child['parent_id']}").status_code == 204
    assert len(full.records["categories"]) == 58
    assert child["category_id"] not in full.records["categories"]


def test_a_whole_tree_goes_with_its_root(full: FakeStore, ask: Send) -> None:
    """Nothing tells that grandchildren went too, nor that a product lost its category with them."""
    root, child, grandchild, other, *_ = full.records["categories"]
    full.change(child, kind="categories", parent_id=root)
    full.change(grandchild, kind="categories", parent_id=child)
    product = next(iter(full.records["products"]))
    full.change(product, kind="products", categories=[other, grandchild])
    answer = ask("DELETE", f"v3/catalog/categories/{root}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert not full.records["categories"].keys() & {root, child, grandchild}
    assert full.records["products"][product]["categories"] == [other]
    assert full.deleted_ids() == {root: 1}


def test_categories_that_hold_products_are_refused(full: FakeStore, ask: Send) -> None:
    """A category that holds products stays; so does one whose child holds some, if the store is so kind."""
    child = next(r for r in full.records["categories"].values() if r["parent_id"])
    full.change(next(iter(full.records["products"])), kind="products", categories=[child["category_id"]])
    full.guards_subtrees = True
    for number in (child["category_id"], child["parent_id"]):
        answer = ask("DELETE", f"v3/catalog/categories/{number}")
        assert (answer.status_code, "contains products" in answer.text) == (422, True)
    assert len(full.records["categories"]) == 60
    full.guards_subtrees = False  # the file says it of the category itself alone
    assert ask("DELETE", f"v3/catalog/categories/{child['category_id']}").status_code == 422
    assert ask("DELETE", f"v3/catalog/categories/{child['parent_id']}").status_code == 204
    assert child["category_id"] not in full.records["categories"]


def test_the_path_of_trees_refuses_nothing(full: FakeStore, ask: Send) -> None:
    """Of categories that hold products the file of the trees says nothing."""
    number = next(iter(full.records["categories"]))
    full.change(next(iter(full.records["products"])), kind="products", categories=[number])
    assert ask("DELETE", "v3/catalog/trees/categories", {"category_id:in": number}).status_code == 202
    assert number not in full.records["categories"]


def test_pages_of_which_some_are_missing(full: FakeStore, ask: Send) -> None:
    """pages.v3.yml: the answer is 404, and those that did exist were successfully deleted."""
    first, second = list(full.records["pages"])[:2]
    answer = ask("DELETE", "v3/content/pages", {"id:in": joined(first, 999_999, second)})
    assert (answer.status_code, answer.json()["title"]) == (404, "A Page was not found with an ID of 999999")
    assert not full.records["pages"].keys() & {first, second}


def test_price_records_go_with_their_list(full: FakeStore, ask: Send) -> None:
    """price_lists.v3.yml: "All associated price records are also removed."."""
    first, second = list(full.records["price_lists"])[:2]
    full.price_records = {first: [{"variant_id": 1, "price": 5}], second: [{"variant_id": 1, "price": 6}]}
    assert ask("DELETE", f"v3/pricelists/{first}").status_code == 204
    assert full.price_records.keys() == {second}


def test_archived_orders(full: FakeStore, ask: Send) -> None:
    """An archived order is no longer listed, unless the store lists those too: no file tells."""
    first, *others = full.records["orders"]
    full.change(first, kind="orders", is_deleted=True)
    assert ids_of("orders", all_of(ask, "orders")) == others
    full.lists_archived = True
    assert ids_of("orders", all_of(ask, "orders")) == [first, *others]
    assert ask("GET", f"v2/orders/{first}").json()["is_deleted"] is True


def test_pages_leave_their_children(full: FakeStore, ask: Send) -> None:
    """Children of a deleted page are moved to the top and hidden, unless they are to go too."""
    children = [r for r in full.records["pages"].values() if r["parent_id"]]
    ask("DELETE", "v3/content/pages", {"id:in": children[0]["parent_id"]})
    moved = full.records["pages"][children[0]["id"]]
    assert (moved["parent_id"], moved["is_visible"]) == (0, False)
    both = {"id:in": children[1]["parent_id"], "delete_children": "true"}
    ask("DELETE", "v3/content/pages", both)
    assert children[1]["id"] not in full.records["pages"]
    assert len(full.records["pages"]) == 57


@pytest.mark.parametrize("partial", [False, True])
def test_promotions_with_codes(full: FakeStore, ask: Send, partial: bool) -> None:
    """A promotion with coupon codes is refused, with its batch or, as documented, alone."""
    full.partial_promotions = partial
    ids = list(full.records["promotions"])[:3]
    full.with_codes = {ids[1]}
    answer = ask("DELETE", "v3/promotions", {"id:in": joined(*ids)})
    assert answer.status_code == 422
    assert "related" not in answer.text
    assert f"Failed for id={ids[1]}." in answer.json()["errors"][0]["errors"]["1.code"]
    assert answer.json()["meta"]["success"] == (2 if partial else 0)
    assert len(full.records["promotions"]) == (58 if partial else 60)
    assert ids[1] in full.records["promotions"]


def test_price_lists_one_at_a_time() -> None:
    """A second DELETE of a price list at the same time is 429, and a violation."""
    with FakeStore(price_lists=4, quota=10_000, window=3600.0, latency=0.3) as store:
        first, second = list(store.records["price_lists"])[:2]
        path = "v3/pricelists"
        with ThreadPoolExecutor(2) as pool:
            sent = [pool.submit(sender(store), "DELETE", f"{path}/{n}") for n in (first, second)]
            assert sorted(each.result().status_code for each in sent) == [204, 429]
        assert len(store.violations) == 1
        assert len(store.records["price_lists"]) == 3
        left = next(iter(store.records["price_lists"]))
        assert sender(store)("DELETE", f"{path}/{left}").status_code == 204
        assert len(store.violations) == 1


def test_v2_lists_are_paged_by_id(full: FakeStore, ask: Send) -> None:
    """min_id and max_id are inclusive, and orders that come in stand at the end."""
    for name in ("orders", "coupons", "gift_certificates"):
        ids = list(full.records[name])
        assert ids_of(name, all_of(ask, name, min_id=ids[20])) == ids[20:]
        assert ids_of(name, all_of(ask, name, max_id=ids[20])) == ids[:21]
        assert ids_of(name, all_of(ask, name, min_id=ids[-1] + 1)) == []
    (new,) = full.add(kind="orders", customer_id=7)
    assert ids_of("orders", all_of(ask, "orders", sort="id:asc"))[-1] == new
    assert ids_of("orders", all_of(ask, "orders", sort="id:desc"))[0] == new
    assert ids_of("orders", all_of(ask, "orders", customer_id=7))[-1] == new
    orders = full.records["orders"].values()
    assert {order["customer_id"] for order in orders} <= {0, 7, *full.customers}
    assert 0 in {order["customer_id"] for order in orders}


def equality_filters() -> list[tuple[str, str]]:
    kinds = [kind for kind in fake_store.KINDS.values() if kind.name not in ("customers", "orders")]
    special = {"keyword", "query", "code", "categories", "channel_id:in", "categories:in", "exclude_type"}
    pairs = [(kind.name, name) for kind in kinds for name in sorted(kind.filters)]
    return [
        (kind, name)
        for kind, name in pairs
        if name.endswith(":in") or ":" not in name
        if name not in special or (kind, name) in (("coupons", "code"), ("gift_certificates", "code"))
        if not name.startswith(("min_", "max_", "inventory_low", "out_of", "keyword_", "channels"))
    ]


@pytest.mark.parametrize(("name", "parameter"), equality_filters())
def test_filters_of_the_other_lists(full: FakeStore, ask: Send, name: str, parameter: str) -> None:
    """A filter selects the records whose field has its value, and no others."""
    base = parameter.partition(":")[0]
    kind = fake_store.KINDS[name]
    shown = [kind.view(r) if kind.view else r for r in full.records[kind.store].values()]
    values = [row[base] for row in shown if row[base]]
    value = values[len(values) // 2]
    wanted = [row[kind.id_field] for row in shown if row[base] == value]
    flags = ("is_featured", "is_free_shipping")  # documented as 1 and 0
    asked = int(value) if parameter in flags else str(value).lower() if value is True else value
    if parameter in ("condition", "redemption_type"):  # the records' own words are "New" and "COUPON"
        asked = asked.lower()
    if parameter == "date_modified":
        asked = asked.replace("+00:00", "Z")
    assert ids_of(name, all_of(ask, name, **{parameter: asked})) == wanted
    assert wanted


def test_operators(full: FakeStore, ask: Send) -> None:
    """:not_in, :like, :min, :max, :greater, :less, and searches select what their names say."""
    products = full.records["products"]
    middle = list(products)[30]

    def found(**params: Any) -> list[int]:
        return ids_of("products", all_of(ask, "products", **params))

    assert found(**{"id:min": middle}) == list(products)[30:]
    assert found(**{"id:greater": middle}) == list(products)[31:]
    assert found(**{"id:max": middle}) == list(products)[:31]
    assert found(**{"id:less": middle}) == list(products)[:30]
    assert found(**{"id:not_in": middle}) == [n for n in products if n != middle]
    full.info["timezone"]["raw_offset"] = 0
    moment = products[middle]["date_modified"].replace("+00:00", "Z")
    assert middle in found(**{"date_modified:min": moment, "date_modified:max": moment})
    assert middle in found(date_modified=moment[:10])
    imported = products[middle]["date_last_imported"]  # with an offset, as its example has it
    assert middle in found(**{"date_last_imported:min": imported, "date_last_imported:max": imported})
    assert middle not in found(**{"date_last_imported:not": imported})
    assert ask("GET", "v3/catalog/products", {"date_modified:min": imported}).status_code == 422
    assert found(keyword="TEST do not buy") == [n for n, r in products.items() if "TEST" in r["name"]]
    assert found(out_of_stock=1) == [n for n, r in products.items() if not r["inventory_level"]]
    brands = full.records["brands"]
    part = next(iter(brands.values()))["name"][:5].upper()
    rows = all_of(ask, "brands", **{"name:like": part})
    assert ids_of("brands", rows) == [n for n, r in brands.items() if part.lower() in r["name"].lower()]
    for value in ("cheap", "nan", "1e3", "1_0", " 1"):
        assert ask("GET", "v3/catalog/products", {"price": value}).status_code == 422
    assert ask("GET", "v3/catalog/products", {"id": "x"}).status_code == 422
    for value in ("perhaps", "True", "1"):
        assert ask("GET", "v3/catalog/products", {"is_visible": value}).status_code == 422
    assert ask("GET", "v3/catalog/products", {"condition": "mint"}).status_code == 422
    assert ask("GET", "v3/catalog/products", {"keyword_context": "x"}).status_code == 422


def test_a_date_alone_takes_the_time_of_the_request(full: FakeStore, ask: Send) -> None:
    """On products a bound without a time is that date at the time of day of the request."""
    full.info["timezone"]["raw_offset"] = 0
    early, late = list(full.records["products"])[:2]
    for number, hour in ((early, 9), (late, 15)):
        full.change(number, kind="products", date_modified=f"2026-01-15T{hour:02}:00:00+00:00")
    for hour, after, before in ((8, 2, 0), (12, 1, 1), (16, 0, 2)):
        full.now = lambda hour=hour: datetime(2026, 5, 5, hour, tzinfo=UTC)  # type: ignore[misc]
        assert len(all_of(ask, "products", **{"date_modified:min": "2026-01-15"})) == after
        rows = all_of(ask, "products", **{"date_modified:max": "2026-01-15"})
        assert sum(row["id"] in (early, late) for row in rows) == before
    assert len(all_of(ask, "products", date_modified="2026-01-15")) == 2


def test_special_filters_of_products(full: FakeStore, ask: Send) -> None:
    """Filters of products that mean something other than their names say."""
    first, second, third = list(full.records["products"])[:3]
    brand = next(iter(full.records["brands"]))
    full.change(first, kind="products", categories=[7])
    full.change(second, kind="products", categories=[7, 8], brand_id=brand, inventory_level=2)
    full.change(brand, kind="brands", name="Zephyrus")
    full.change(third, kind="products", inventory_level=3)

    def found(**params: Any) -> set[int]:
        return set(ids_of("products", all_of(ask, "products", **params))) & {first, second, third}

    assert found(categories=7) == {first}
    assert found(**{"categories:in": 7}) == {first, second}
    assert found(**{"categories:in": "7,8"}) == {second}
    assert second in found(keyword="zephyr")
    assert third not in found(keyword="zephyr")
    assert second in found(inventory_low=1)
    assert third in found(inventory_low=0)
    assert second not in found(inventory_low=0)
    assert found(out_of_stock=0) == {first, second, third}


def test_bounds_that_a_file_says_nothing_of(full: FakeStore, ask: Send) -> None:
    """Bounds of price lists are meant themselves; those of subscribers are not, as their file says."""
    for name, within in (("price_lists", 1), ("subscribers", 0)):
        moment = next(iter(full.records[name].values()))["date_created"]
        both = {"date_created:min": moment, "date_created:max": moment}
        assert len(all_of(ask, name, **both)) == within


def test_the_case_of_addresses(full: FakeStore, ask: Send) -> None:
    """The case of an address matters wherever one is asked for, or nowhere: no file tells."""
    for name, parameter in (("subscribers", "email"), ("orders", "email"), ("gift_certificates", "to_email")):
        number, record = next(iter(full.records[name].items()))
        address = record["billing_address"]["email"] if name == "orders" else record[parameter]
        for case, wanted in (("exact", False), ("folded", True)):
            full.email_case = case
            assert (number in ids_of(name, all_of(ask, name, **{parameter: address.upper()}))) is wanted
        assert number in ids_of(name, all_of(ask, name, **{parameter: address}))


def test_like_is_one_string(full: FakeStore, ask: Send) -> None:
    """`name:like` of all but customers is not split at commas; that of pages is of the body too."""
    for name in ("brands", "categories", "older_categories", "price_lists", "pages"):
        kind = fake_store.KINDS[name]
        first, second = list(full.records[kind.store])[:2]
        full.change(first, kind=kind.store, name="Salt, Pepper")
        assert ids_of(name, all_of(ask, name, **{"name:like": "alt, pep"})) == [first]
        assert all_of(ask, name, **{"name:like": "Salt,nothing"}) == []
        assert full.records[kind.store][second]["name"] not in str(all_of(ask, name, name="Salt, Pepper"))
    full.change(second, kind="pages", body="<p>Turmeric</p>")
    assert ids_of("pages", all_of(ask, "pages", **{"name:like": "turmeric"})) == [second]


def test_promotions_for_all_channels(full: FakeStore, ask: Send) -> None:
    """Asked for those of some channels, the list has those of all channels too."""
    first, second = list(full.records["promotions"])[:2]
    full.change(first, kind="promotions", channels=[])
    full.change(second, kind="promotions", channels=[{"id": 5}])
    assert ids_of("promotions", all_of(ask, "promotions", channels="5")) == [first, second]


def test_orders_of_the_other_lists(full: FakeStore, ask: Send) -> None:
    """`sort` and `direction` order a list; only documented orders are taken."""
    for name in KIND_NAMES:
        kind = fake_store.KINDS[name]
        if "direction" not in kind.others:
            continue
        for sort in kind.sorts:
            up = ids_of(name, all_of(ask, name, sort=sort, direction="asc"))
            assert ids_of(name, all_of(ask, name, sort=sort, direction="desc")) == up[::-1]
        refused = 400 if kind.v2 else 422
        assert ask("GET", kind.path, {"sort": "colour"}).status_code == refused
        assert ask("GET", kind.path, {"sort": min(kind.sorts), "direction": "up"}).status_code == refused
    prices = [row["price"] for row in all_of(ask, "products", sort="price", direction="asc")]
    assert prices == sorted(prices)


@pytest.mark.parametrize("name", [n for n in KIND_NAMES if fake_store.KINDS[n].includes])
def test_sub_resources_come_as_asked_for(full: FakeStore, ask: Send, name: str) -> None:
    """Each word of `include` brings its own sub-resource and no other; an unknown word is refused."""
    kind = fake_store.KINDS[name]
    for word, own in kind.includes.items():
        for row in all_of(ask, name, include=word):
            assert row.keys() & kind.sub_resources == {own} - {""}
    assert not kind.sub_resources & all_of(ask, name)[0].keys()
    refused = 400 if kind.v2 else 422
    for words in ("nothing", f"{min(kind.includes)},nothing", f"{min(kind.includes)}, {max(kind.includes)}"):
        assert ask("GET", kind.path, {"include": words}).status_code == refused


def test_filters_of_orders(full: FakeStore, ask: Send) -> None:
    """Orders are found by total, address, cart, and time in RFC 2822 or ISO 8601, bounds included."""
    middle, order = list(full.records["orders"].items())[30]
    when = parsedate_to_datetime(order["date_created"])
    modified = parsedate_to_datetime(order["date_modified"]).astimezone(timezone(timedelta(hours=-4)))
    values = {
        "email": order["billing_address"]["email"],
        "cart_id": order["cart_id"],
        "min_total": order["total_inc_tax"],
        "max_total": order["total_inc_tax"],
        "min_date_created": order["date_created"],
        "max_date_created": f"{when:%Y-%m-%dT%H:%M:%SZ}",
        "max_date_modified": modified.isoformat(timespec="milliseconds"),
    }
    for name, value in values.items():
        found = ids_of("orders", all_of(ask, "orders", **{name: value}))
        assert middle in found, name
        assert name.endswith("_total") or len(found) < 60, name
    assert ids_of("orders", all_of(ask, "orders", min_date_created=order["date_created"]))[0] == middle
    assert all_of(ask, "orders", external_order_id="elsewhere") == []
    assert ask("GET", "v2/orders", {"min_date_created": "yesterday"}).status_code == 400
    assert ask("GET", "v2/orders", {"min_date_created": "Thu, 32 Foo 2017"}).status_code == 400
    newest = ids_of("orders", all_of(ask, "orders", sort="date_created:desc"))
    assert newest == list(full.records["orders"])[::-1]


def test_fields_of_products(full: FakeStore, ask: Send) -> None:
    """Sub-resources and fields come as asked for; with options no more than ten products come."""
    assert "images" not in all_of(ask, "products")[0]
    assert "images" in all_of(ask, "products", include="images,variants")[0]
    assert len(all_of(ask, "products", include="options")) == 10
    assert all_of(ask, "products", include_fields="name,sku")[0].keys() == {"id", "name", "sku"}
    assert "name" not in all_of(ask, "products", exclude_fields="name")[0]


# --- the other kinds and BigCommerce's own description of them -----------------------------------


@pytest.fixture(scope="module")
def documents() -> Callable[[str], dict[str, Any]]:
    if not FOLDER.is_dir():
        pytest.skip("BigCommerce's API files are not at hand")
    yaml = pytest.importorskip("yaml")
    loaded: dict[str, dict[str, Any]] = {}

    def load(name: str) -> dict[str, Any]:
        if name not in loaded:
            loaded[name] = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
        return loaded[name]

    return load


Documents = Callable[[str], dict[str, Any]]


def resolved(document: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """What a $ref stands for."""
    while "$ref" in part:
        found: Any = document
        for step in part["$ref"].removeprefix("#/").split("/"):
            found = found[step.replace("~1", "/")]
        part = found
    return part


def parameters_of(document: dict[str, Any], operation: dict[str, Any]) -> dict[str, dict[str, Any]]:
    rows = [resolved(document, row) for row in operation.get("parameters", [])]
    return {row["name"]: row for row in rows if row["in"] == "query"}


def fits(value: Any, schema: dict[str, Any], document: dict[str, Any], where: str) -> None:
    """Like `check`, for schemas that are put together of several."""
    schema = resolved(document, schema)
    if value is None:
        assert schema.get("nullable"), where
        return
    for way in ("oneOf", "anyOf"):
        for one in schema.get(way, [])[:-1]:
            try:
                return fits(value, one, document, where)
            except AssertionError:
                continue
        if way in schema:
            return fits(value, schema[way][-1], document, where)
    parts = flat(schema, document)
    types: dict[str, Any] = {
        "object": dict,
        "array": list,
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
    }
    kinds = {part["type"] for part in parts if "type" in part}
    assert len(kinds) <= 1, where
    assert isinstance(value, types.get(kinds.pop() if kinds else "", object)), where
    if isinstance(value, dict):
        properties = {n: s for part in parts for n, s in part.get("properties", {}).items()}
        assert value.keys() >= {name for part in parts for name in part.get("required", ())}, where
        for name, its in value.items():
            assert name in properties, f"{where}.{name}"
            fits(its, properties[name], document, f"{where}.{name}")
    if isinstance(value, list):
        for part in value:
            fits(part, parts[0]["items"], document, f"{where}[]")
    if isinstance(value, str):
        assert len(value) <= min(part.get("maxLength", math.inf) for part in parts), where
        assert all(value in part.get("enum", [value]) for part in parts), where
    return None


def flat(schema: dict[str, Any], document: dict[str, Any]) -> list[dict[str, Any]]:
    """A schema and all that it is put together of."""
    schema = resolved(document, schema)
    below = [part for one in schema.get("allOf", []) for part in flat(one, document)]
    return [schema, *below]


@pytest.mark.parametrize("name", KIND_NAMES)
def test_parameters_are_the_documented_ones(documents: Documents, name: str) -> None:
    """A list, and the DELETE of its collection, know the documented parameters, and no others."""
    file, path, _ = FILES[name]
    document, kind = documents(file), fake_store.KINDS[name]
    listing = parameters_of(document, document["paths"][path]["get"])
    assert kind.parameters == listing.keys()
    sorts = set(listing["sort"]["schema"]["enum"] if kind.sorts else ())
    if name == "orders":  # "add `:asc` or `:desc` to the end of the query parameter"
        sorts = {f"{sort}{way}" for sort in sorts for way in ("", ":asc", ":desc")}
    assert kind.sorts == sorts
    if kind.includes:
        its = resolved(document, listing["include"]["schema"])
        assert kind.includes.keys() == set(its["items"]["enum"])
    words = document["paths"][path]["get"]["description"]
    highest = listing["limit"]["schema"].get("maximum", 250 if "maximum limit is 250" in words else None)
    assert kind.refuses_limits is (highest is not None)
    assert highest in (None, fake_store.MOST_ROWS)
    deleting = parameters_of(document, document["paths"][path]["delete"])
    assert kind.deletes == deleting.keys()
    required = {n for n, row in deleting.items() if row.get("required")}
    if kind.needs and name != "customers":
        assert kind.needs == required
    assert kind.by in {"", *deleting}


@pytest.mark.parametrize("name", KIND_NAMES)
def test_values_are_taken_as_documented(documents: Documents, full: FakeStore, ask: Send, name: str) -> None:
    """A documented choice is taken, and nothing else is; a number is one; a list is cut at its commas."""
    file, path, _ = FILES[name]
    document, kind = documents(file), fake_store.KINDS[name]
    refused = 400 if kind.v2 else 422

    def status(value: str) -> int:
        return ask("GET", kind.path, {parameter: value}).status_code

    for parameter, row in parameters_of(document, document["paths"][path]["get"]).items():
        schema = resolved(document, row["schema"])
        item = resolved(document, schema.get("items", schema))
        choices = [str(choice) for choice in item.get("enum", [])]
        if choices and parameter != "include_fields":
            assert {status(choice) for choice in choices} <= {200, 204}, parameter
            assert status("no-such-choice") == refused, parameter
        elif schema["type"] in ("integer", "number"):
            assert status("1") in (200, 204), parameter
            assert status("x") == refused, parameter
        elif schema["type"] == "boolean":
            assert (status("true"), status("false"), status("True")) == (200, 200, refused), parameter
        elif schema.get("format") in ("date", "date-time"):
            assert (status("2024-05-14T09:34:00Z"), status("x")) == (200, refused), parameter
        elif item["type"] == "integer" and parameter != "registration_ip_address:in":  # an address is none
            listed = schema["type"] == "array" and parameter.partition(":")[2] in ("in", "not_in", "")
            assert status("1,2") == (200 if listed else refused), parameter
            assert status("1,x") == refused, parameter


@pytest.mark.parametrize("name", KIND_NAMES)
def test_bounds_of_dates_are_as_worded(documents: Documents, full: FakeStore, ask: Send, name: str) -> None:
    """What is "before this date" or "after this date" leaves that second out, and nothing else does."""
    file, path, _ = FILES[name]
    document = documents(file)
    for parameter, row in parameters_of(document, document["paths"][path]["get"]).items():
        base, _, bound = parameter.partition(":")
        if not base.startswith("date_") or bound not in ("min", "max"):
            continue
        wanted, record = list(full.records[name].items())[30]
        moment = record[base].replace("+00:00", "Z")
        exclusive = {"min": "after this date", "max": "before this date"}[bound] in row.get("description", "")
        found = ids_of(name, all_of(ask, name, **{parameter: moment}))
        assert (wanted in found) is not exclusive, parameter
        assert found, parameter


@pytest.mark.parametrize("name", KIND_NAMES)
def test_paths_and_scopes_are_the_documented_ones(documents: Documents, name: str) -> None:
    """Path, version, scope, and whether there is a DELETE by path id, are the file's."""
    file, path, one = FILES[name]
    document, kind = documents(file), fake_store.KINDS[name]
    assert document["servers"][0]["url"].endswith("/" + kind.path.split("/")[0])
    assert kind.path == kind.path.split("/")[0] + path
    assert f"`{kind.scope}`" in document["components"]["securitySchemes"]["X-Auth-Token"]["description"]
    single = [other for other in document["paths"] if re.fullmatch(re.escape(path) + r"/\{\w+\}", other)]
    assert kind.read_one is any("get" in document["paths"][other] for other in single)
    has_delete = [other for other in single if "delete" in document["paths"][other]]
    if name != "orders":  # archives one; the store has no need of it
        assert has_delete == ([one] if one else [])
        assert kind.one is bool(one)


@pytest.mark.parametrize("name", [name for name in KIND_NAMES if name != "customers"])
def test_records_are_as_documented(documents: Documents, full: FakeStore, ask: Send, name: str) -> None:
    """Records and meta have no field, type or value that the file does not have."""
    file, path, _ = FILES[name]
    document, kind = documents(file), fake_store.KINDS[name]
    answer = resolved(document, document["paths"][path]["get"]["responses"]["200"])
    schema = answer["content"]["application/json"]["schema"]
    params: dict[str, Any] = {"limit": 250}
    if kind.includes:
        params["include"] = ",".join(n for n in kind.includes if n not in ("options", "modifiers"))
    body = ask("GET", kind.path, params).json()
    if name == "price_lists":  # its file leaves out the links of a list, which every other has
        del body["meta"]["pagination"]["links"]
    fits(body, schema, document, name)


@pytest.mark.parametrize("name", KIND_NAMES)
def test_statuses_are_the_documented_ones(
    documents: Documents, full: FakeStore, ask: Send, name: str
) -> None:
    """A DELETE answers with a status that the file has for it."""
    file, path, one = FILES[name]
    document, kind = documents(file), fake_store.KINDS[name]
    collection = document["paths"][path]["delete"]["responses"]
    assert str(kind.done) in collection
    assert str(kind.too_many) in collection or kind.too_many == 413  # of a POST of customers
    listing = document["paths"][path]["get"]["responses"]
    words = listing.get("400", {}).get("description", "")
    assert kind.unknown_parameter == (400 if "parameters that are not supported" in words else None)
    assert str(BARE[name][0]) in collection or kind.bare == "refuse"
    assert kind.missing_of_several == (404 if "404" in collection else None)
    if one:
        assert "204" in document["paths"][one]["delete"]["responses"]
        assert str(kind.missing) in document["paths"][one]["delete"]["responses"] or kind.v2
