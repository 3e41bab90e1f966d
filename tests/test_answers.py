"""What each answer to a DELETE and to a GET leads to, by the numbers of the design's table.

The tests that hold a row name it in their docstrings, here or in the file that is named.
A1 204, 202 for categories: sent; deleted once verified, unknown until then; test_delete.py
A2 200, 207, 422 with per-item results: done, told to wait, or failed with its message; also test_quota.py
A3 an unknown shape: settled by reading back
A4 429: all pause for the longest of the headers; a date counts from the answer's own Date
A5 429 without headers: backoff with jitter, then again; no error of the batch
A6 ten 429s in a row, or told to wait over ten minutes: stop
A7 5xx but 501 and 505, 408, time-out, reset, cut-off body: up to max_retries more tries, with backoff
A8 a 200 or 403 that is not JSON, and a 1xx that comes as an answer: as A7; also test_middlebox.py
A9 an answer worth a retry that says how long to wait: that long, over ten minutes stop; test_middlebox.py
A10 retries used up: halved down to single ids
A11 a single id whose retries are used up: unknown if it may have acted, else failed; test_proof.py
A12 after a time-out and the like the store may have done it: verification decides
A13 400, 404, 409, 413, 422, 423: halved; a single id fails with the store's own words
A14 404 for a single id: asked back, gone is already_gone
A15 401, 403 in JSON, any 3xx, 501, 505, other: nothing more is sent; also test_stops.py
A16 more than max_error_rate and more than ten failed (0 %: the first): stop; test_delete.py, test_stops.py
A17 five requests in a row, batches or halves, whose retries are used up: stop; test_delete.py, test_proof.py
A18 a middlebox's page is quoted by its title; test_middlebox.py
A19 a 403 is put down to a missing scope only if it is JSON; also test_middlebox.py
A20 a permanent fault of the set-up is exit 2 at once; test_store.py
A21 already_gone: gone, and no attempt of this run can have done it; test_plan.py
A22 a GET follows the same table: fatal is exit 5; another 4xx exit 3 before the plan, 5 after
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import pytest
from requests.structures import CaseInsensitiveDict

from bulk_delete import retry_delay
from tests.fake_store import FakeStore, Fault, Request
from tests.launcher import Rig
from tests.rigged import (
    QUIET,
    MakeStore,
    RiggedTool,
    assert_all_gone_once,
    assert_resumable,
    assert_says,
    counts,
    names,
    read_backs,
    wait_until,
    waiting,
)

RETRIED = (500, 502, 503, 504, 507, 520, 599, 408)


REFUSED = (400, 404, 409, 413, 422, 423)


REDIRECTS = (300, 301, 302, 303, 304, 307, 308)


FATAL = (401, 403, 501, 505, 201, 402, 406, 418, 451)


HTML = {"status": 200, "body": "<html>We will be back</html>", "content_type": "text/html"}


WORDS = {"title": "This customer has open orders [7]"}


PATIENT = Rig(speed=2000.0)
TIMEOUT = 1  # second, of the true clock: no answer but one that is held takes that long


def answer_of(status: int) -> dict[str, Any]:
    """A Fault's fields for a plain answer of that status."""
    return {"status": status, "body": {"status": status, **WORDS}}


# --- DELETE: what is tried again ------------------------------------------------------------------


TRANSIENT: dict[str, dict[str, Any]] = {
    **{str(status): answer_of(status) for status in RETRIED},
    **{f"{status}, done": answer_of(status) | {"commit": True} for status in (408, 500, 504)},
    "429 without headers": answer_of(429) | {"quota_headers": False},
    "reset": {"close": "reset"},
    "reset, done": {"close": "reset", "commit": True},
    "cut off": {"close": "cut"},
    "cut off, done": {"close": "cut", "commit": True},
    "HTML of a gateway": HTML | {"status": 502},
    **{str(status): {"status": status, "quota_headers": False} for status in (101, 199)},
}


@pytest.mark.parametrize("fault", TRANSIENT.values(), ids=TRANSIENT)
def test_a_transient_answer_is_tried_again(
    store: FakeStore, hurried: RiggedTool, fault: dict[str, Any]
) -> None:
    """A5, A7, A8, A12: after it the batch goes again, and every id is deleted and counted once."""
    planned = set(store.customers)
    store.faults = [Fault("DELETE", **fault)]
    outcome = hurried.run(store)
    assert_all_gone_once(outcome, store, planned)
    first = store.deletes()[0].ids
    assert store.deleted_ids() == {n: 2 if n in first else 1 for n in planned}
    tried_again = outcome.summary["retries"] + outcome.summary["rate_limited"]
    assert tried_again == 1


def test_a_time_out_after_the_store_deleted_counts_once(store: FakeStore, hurried: RiggedTool) -> None:
    """A12: the answer that came too late is not the last word: deleted, and not already_gone."""
    planned = set(store.customers)
    tried_again = threading.Event()

    def late(request: Request) -> None:
        wait_until(lambda: store.deleted_ids()[request.ids[0]] > 1)
        tried_again.set()

    store.faults = [Fault("DELETE", commit=True, after=late)]
    outcome = hurried.run(store, timeout=TIMEOUT)
    assert_all_gone_once(outcome, store, planned)
    assert outcome.summary["retries"] == 1
    assert tried_again.wait(30)


def test_a_time_out_of_the_last_attempt_leaves_it_to_the_read_back(
    make_store: MakeStore, hurried: RiggedTool
) -> None:
    """A12: with no retries left, what the store did after all is found and counted as deleted."""
    store = make_store(customers=4, **QUIET)
    victim = min(store.customers)
    ended = threading.Event()
    late = Fault("DELETE", where=names(victim), times=math.inf, commit=True, after=waiting(ended))
    store.faults = [late]
    outcome = hurried.run(store, "--batch-size", "2", timeout=TIMEOUT, max_retries=0)
    ended.set()
    assert not store.customers
    assert outcome.summary["deleted"] == 4, outcome.text
    assert outcome.status == 0
    assert late.seen >= 2  # the batch, and the one id alone


@pytest.mark.parametrize("status", [500, 408])
def test_an_exhausted_batch_is_halved(store: FakeStore, hurried: RiggedTool, status: int) -> None:
    """A7, A10: an id that is never answered soundly fails alone, with the store's words; its nine go."""
    victim = list(store.customers)[14]
    store.faults = [Fault("DELETE", where=names(victim), times=math.inf, **answer_of(status))]
    outcome = hurried.run(store, max_retries=1)
    assert outcome.status == 4, outcome.text
    assert set(store.customers) == {victim}
    assert counts(outcome) == {"deleted": 29, "failed": 1}
    assert outcome.failed == {victim: f"{status} {WORDS['title']}"}
    asked = [request for request in store.deletes() if victim in request.ids]
    sizes = [len(request.ids) for request in asked]
    assert sizes[:2] == [10, 10]  # max_retries more tries
    assert sizes == sorted(sizes, reverse=True)
    assert sizes.count(1) in (2, 4)  # once, and perhaps once more at the end


def test_the_connection_lost_for_one_id(store: FakeStore, hurried: RiggedTool) -> None:
    """A10: an id at which the connection always breaks fails alone, and says so."""
    victim = list(store.customers)[29]
    store.faults = [Fault("DELETE", where=names(victim), times=math.inf, close="reset")]
    outcome = hurried.run(store, max_retries=0)
    assert outcome.status == 4, outcome.text
    assert set(store.customers) == {victim}
    assert outcome.failed.keys() == {victim}
    assert outcome.failed[victim].strip()


def test_all_faults_in_one_run(make_store: MakeStore, hurried: RiggedTool) -> None:
    """A4, A5, A7, A12: every passing fault in one run: exit 0, nothing left, each counted once."""
    store = make_store(customers=520, **QUIET)
    wait_1 = {"X-Retry-After": "1"}
    html = "<html><body>Bad gateway</body></html>"
    listing = [
        Fault(method="GET", path="v3/customers", skip=1, status=502, body=html, content_type="text/html"),
        Fault(method="GET", path="v3/customers", skip=1, close="cut"),
    ]
    deleting = [
        Fault(method="DELETE", skip=4, status=503),
        Fault(method="DELETE", skip=4, status=500),
        Fault(method="DELETE", skip=4, status=504, commit=True),
        Fault(method="DELETE", skip=4, status=429, headers=wait_1, quota_headers=False),
        Fault(method="DELETE", skip=4, status=429, quota_headers=False),
        Fault(method="DELETE", skip=4, close="reset"),
        Fault(method="DELETE", skip=4, close="reset", commit=True),
        Fault(method="DELETE", skip=4, close="cut", commit=True),
    ]
    store.faults += listing + deleting
    outcome = hurried.run(store)
    assert outcome.status == 0, outcome.text
    assert all(fault.seen > fault.skip for fault in store.faults)
    assert not store.customers
    summary = outcome.summary
    assert (summary["selected"], summary["deleted"]) == (520, 520)
    assert (summary["retries"], summary["rate_limited"]) == (8, 2)
    assert summary["requests"] == len(store.log)


# --- DELETE: what is refused ----------------------------------------------------------------------


@pytest.mark.parametrize("status", REFUSED)
def test_one_refused_id_fails_alone(make_store: MakeStore, hurried: RiggedTool, status: int) -> None:
    """A13: among 30 batches it costs at most 10 extra DELETEs, and has the store's own words."""
    store = make_store(customers=300, **QUIET)
    victim = list(store.customers)[157]
    store.refuse[victim] = (status, {"status": status, **WORDS})
    outcome = hurried.run(store)
    assert outcome.status == 4, outcome.text
    assert set(store.customers) == {victim}
    assert counts(outcome) == {"deleted": 299, "failed": 1}
    assert outcome.failed == {victim: f"{status} {WORDS['title']}"}
    assert len(store.deletes()) <= 30 + 10
    others = {n: times for n, times in store.deleted_ids().items() if times > 5}
    assert not others
    assert outcome.summary["retries"] == 0


@pytest.mark.parametrize("places", [(0, 1), (4, 5), (3, 12, 27), tuple(range(10))])
def test_several_refused_ids_fail_alone(
    store: FakeStore, hurried: RiggedTool, places: tuple[int, ...]
) -> None:
    """A13: wherever they stand, the refused ids fail, and no neighbour does."""
    ids = list(store.customers)
    victims = {ids[place] for place in places}
    store.refuse = {n: (422, {"errors": {"id": f"{n} is locked"}}) for n in victims}
    outcome = hurried.run(store)
    assert outcome.status == 4, outcome.text
    assert set(store.customers) == victims
    assert outcome.failed.keys() == victims
    assert all(f"{n} is locked" in reason for n, reason in outcome.failed.items())


def test_a_404_for_a_single_id_is_asked_back(store: FakeStore, hurried: RiggedTool) -> None:
    """A14: what somebody else removed meanwhile is already_gone, and no failure."""
    ids = list(store.customers)
    victim = ids[21]

    def remove(_request: Request) -> None:
        store.remove(victim)

    not_found = answer_of(404)
    store.faults = [Fault("DELETE", where=names(victim), times=math.inf, hook=remove, **not_found)]
    outcome = hurried.run(store)
    assert outcome.status == 0, outcome.text
    assert not store.customers
    assert counts(outcome) == {"deleted": 29, "already_gone": 1}
    assert outcome.failed == {}


def test_pages_that_are_half_known(make_store: MakeStore, tool: RiggedTool) -> None:
    """A13: a 404 for a batch of pages may have deleted those that did exist: they count as deleted."""
    store = make_store(customers=5, pages=10, quota=10_000)
    body = {"status": 404, "title": "some were not found"}
    store.faults.append(Fault(method="DELETE", commit=True, status=404, body=body))
    outcome = tool.run(store, "--resource", "pages", max_error_rate=100)
    assert outcome.status == 0, outcome.text
    assert outcome.summary["deleted"] == 10


@pytest.mark.parametrize("body", [b"", "not JSON", [], [{"status": 409, "message": "locked"}]])
def test_a_refusal_of_any_shape(store: FakeStore, hurried: RiggedTool, body: Any) -> None:
    """A13: whatever the body of a refusal is, the id fails with the status at least."""
    victim = max(store.customers)
    store.faults = [Fault("DELETE", where=names(victim), times=math.inf, status=409, body=body)]
    outcome = hurried.run(store)
    assert outcome.status == 4, outcome.text
    assert set(store.customers) == {victim}
    assert outcome.failed[victim].startswith("409")


# --- DELETE: per-item results ---------------------------------------------------------------------


SHAPES = [("errors", 207), ("errors", 200), ("errors", 422), ("meta", 422), ("rows", 200)]


@pytest.mark.parametrize(("shape", "status"), SHAPES)
def test_items_that_failed(store: FakeStore, hurried: RiggedTool, shape: str, status: int) -> None:
    """A2: of a partial success each id counts for itself; the failed have the store's words."""
    ids = list(store.customers)
    victims = {ids[3], ids[4], ids[25]}
    store.per_item = {n: (409, f"customer {n} has a subscription") for n in victims}
    store.per_item_shape, store.per_item_status = shape, status
    outcome = hurried.run(store)
    assert outcome.status == 4, outcome.text
    assert set(store.customers) == victims
    assert counts(outcome) == {"deleted": 27, "failed": 3}
    assert outcome.failed.keys() == victims
    for number, reason in outcome.failed.items():
        assert f"customer {number} has a subscription" in reason
    assert len(store.deletes()) == 3  # no need to halve


@pytest.mark.parametrize(("shape", "status"), SHAPES)
@pytest.mark.parametrize("items", [2, 10])
def test_items_that_are_rate_limited(
    store: FakeStore, hurried: RiggedTool, shape: str, status: int, items: int
) -> None:
    """A2: they go again after a pause, be it some or all of a batch, and are no failure."""
    planned = set(store.customers)
    victims = sorted(planned)[:items]
    store.per_item = dict.fromkeys(victims, (429, "ERR_TOO_MANY_REQUEST"))
    store.per_item_shape, store.per_item_status = shape, status
    store.faults = [
        Fault("DELETE", where=names(*victims), quota_headers=False, after=lambda _: store.per_item.clear())
    ]
    outcome = hurried.run(store)
    assert_all_gone_once(outcome, store, planned)
    assert store.deleted_ids() == {n: 2 if n in victims else 1 for n in planned}
    assert outcome.summary["rate_limited"] == 1


UNKNOWN_SHAPES: list[Any] = [
    {},
    [],
    {"data": "done"},
    {"data": []},
    {"data": [{"ok": True}], "meta": {}},
    {"errors": [{"message": "who knows"}]},
    {"errors": None, "data": None},
    {"failed_rows_data": "none", "data": [None]},
]


@pytest.mark.parametrize("body", UNKNOWN_SHAPES, ids=repr)
@pytest.mark.parametrize("status", [200, 207])
def test_an_unknown_shape_is_settled_by_reading_back(
    store: FakeStore, hurried: RiggedTool, body: Any, status: int
) -> None:
    """A3: what it did is counted as deleted; what it did not do is deleted again."""
    planned = set(store.customers)
    first, second = sorted(planned)[0], sorted(planned)[15]
    store.faults = [
        Fault("DELETE", where=names(first), status=status, body=body, commit=True),
        Fault("DELETE", where=names(second), status=status, body=body),
    ]
    outcome = hurried.run(store)
    assert_all_gone_once(outcome, store, planned)


@pytest.mark.parametrize("number", ["7", 0, -7, True, 7.0, None])
def test_a_result_for_an_id_that_was_not_asked(store: FakeStore, hurried: RiggedTool, number: Any) -> None:
    """A2: items that are none of the batch's are nobody's: they are neither counted nor sent."""
    planned = set(store.customers)
    bystander = max(planned) + 1
    body = {
        "errors": [
            {"id": number, "status": 429, "message": "ERR_TOO_MANY_REQUEST"},
            {"id": bystander, "status": 429, "message": "ERR_TOO_MANY_REQUEST"},
            {"id": bystander + 1, "status": 409, "message": "no"},
        ]
    }
    store.faults = [Fault("DELETE", status=207, body=body, commit=True)]
    outcome = hurried.run(store)
    assert_all_gone_once(outcome, store, planned)


# --- DELETE: what ends the run --------------------------------------------------------------------


FATAL_ANSWERS: dict[str, dict[str, Any]] = {
    **{str(status): answer_of(status) for status in FATAL},
    **{
        str(status): {"status": status, "headers": {"Location": "https://localhost:1/"}}
        for status in REDIRECTS
    },
}


ADVICE = {201: [], 401: ["token", "access_token", "store_hash"], 403: ["scope", "store_v2_customers"]}


@pytest.mark.parametrize("fault", FATAL_ANSWERS.values(), ids=FATAL_ANSWERS)
def test_a_fatal_answer_to_a_delete(store: FakeStore, hurried: RiggedTool, fault: dict[str, Any]) -> None:
    """A15: nothing more is sent: exit 5, one line that says why, and how to resume."""
    store.faults = [Fault("DELETE", skip=1, times=math.inf, **fault)]
    outcome = hurried.run(store, "--max-concurrent", "1")
    assert outcome.status == 5, outcome.text
    assert len(store.deletes()) == 2
    assert store.log[-1].method == "DELETE"  # nothing was read back either
    # The first batch was proven. What a 2xx or a 5xx did is open; the others did nothing.
    unknown = {"unknown": 10} if fault["status"] // 100 in (2, 5) else {}
    assert counts(outcome) == {"deleted": 10, **unknown, "not_attempted": 20 - sum(unknown.values())}
    assert_says(outcome, str(fault["status"]))
    assert_says(outcome, *ADVICE.get(fault["status"], ["redirect"] if fault["status"] < 400 else []))
    assert_resumable(outcome)


# --- GET ------------------------------------------------------------------------------------------


GET_TRANSIENT = {name: fault for name, fault in TRANSIENT.items() if "done" not in name}


VERIFYING = 2  # read-backs before those of verification: the control, and that of the first batch
AT: dict[str, Callable[[Request], bool]] = {
    "the store": lambda request: request.path.endswith("/v2/store"),
    "the listing": lambda request: request.path.endswith("/customers") and "id:in" not in request.query,
    "the read-back": read_backs,
}


@pytest.mark.parametrize("fault", GET_TRANSIENT.values(), ids=GET_TRANSIENT)
def test_a_transient_answer_to_a_get(store: FakeStore, hurried: RiggedTool, fault: dict[str, Any]) -> None:
    """A22: every GET is tried again after it, and the run ends as if it had not been."""
    planned = set(store.customers)
    store.faults = [Fault("GET", where=where, **fault) for where in AT.values()]
    outcome = hurried.run(store)
    assert_all_gone_once(outcome, store, planned)
    assert outcome.summary["retries"] + outcome.summary["rate_limited"] == len(AT)


@pytest.mark.parametrize("at", AT)
@pytest.mark.parametrize("status", [500, 408])
def test_a_get_whose_retries_are_exhausted(
    store: FakeStore, hurried: RiggedTool, at: str, status: int
) -> None:
    """A22: the store is down: exit 5, and nothing is deleted without a plan."""
    skip = VERIFYING if at == "the read-back" else 0
    store.faults = [Fault("GET", where=AT[at], skip=skip, times=math.inf, **answer_of(status))]
    outcome = hurried.run(store, max_retries=1)
    assert outcome.status == 5, outcome.text
    assert_says(outcome, str(status))
    asked = [r.status for r in store.log if AT[at](r) and r.method == "GET"][skip:]
    assert asked == [status] * (8 if at == "the listing" else 2)  # by 250, 125, 50 and 25 a page
    if at == "the read-back":
        assert_resumable(outcome)
        assert counts(outcome) == {"deleted": 10, "unknown": 20}
    else:
        assert not store.deletes()
        assert outcome.folder is None


FINAL_ANSWERS = FATAL_ANSWERS | {str(status): answer_of(status) for status in (400, 404, 409, 422)}


@pytest.mark.parametrize("at", ["the listing", "the read-back"])
@pytest.mark.parametrize("fault", FINAL_ANSWERS.values(), ids=FINAL_ANSWERS)
def test_a_fatal_answer_to_a_get(
    store: FakeStore, hurried: RiggedTool, at: str, fault: dict[str, Any]
) -> None:
    """A22: 401, 403, a redirect and the like end the run at once; any other 4xx refuses it."""
    skip = VERIFYING if at == "the read-back" else 0
    store.faults = [Fault("GET", where=AT[at], skip=skip, times=math.inf, **fault)]
    outcome = hurried.run(store)
    refused = fault["status"] not in (401, 403) and 400 <= fault["status"] <= 499
    planned = at == "the read-back"
    assert outcome.status == (3 if refused and not planned else 5), outcome.text
    asked = [request for request in store.log if request.method == "GET" and AT[at](request)][skip:]
    halved = planned and fault["status"] == 400  # it may be too long: 30, 15, 8, 4, 2 and 1 ids
    assert len(asked) == (6 if halved else 1)
    assert store.log[-1] is asked[-1]
    if refused:
        assert_says(outcome, WORDS["title"])
    assert_says(outcome, str(fault["status"]))
    if planned:
        assert_resumable(outcome)
        assert counts(outcome) == {"deleted": 10, "unknown": 20}
    else:
        assert not store.deletes()
        assert outcome.folder is None  # an empty one would be of no use


@pytest.mark.parametrize("status", [500, 401, 403, 302, 501, 400, 404, 422])
@pytest.mark.parametrize("at", ["the control", "the first batch"])
def test_a_read_that_proves_is_not_answered(
    store: FakeStore, hurried: RiggedTool, at: str, status: int
) -> None:
    """A22: without the control nothing is sent; without the first batch's proof no second one goes."""
    sent = at == "the first batch"
    store.faults = [Fault("GET", where=read_backs, skip=int(sent), times=math.inf, **answer_of(status))]
    outcome = hurried.run(store, max_retries=1)
    assert outcome.status == 5, outcome.text
    assert_says(outcome, str(status))
    assert len(store.deletes()) == sent
    assert counts(outcome) == ({"unknown": 10, "not_attempted": 20} if sent else {"not_attempted": 30})
    assert_resumable(outcome)


@pytest.mark.parametrize(("status", "expected"), [(403, 0), (401, 5), (302, 5), (404, 3)])
def test_the_store_s_name(store: FakeStore, hurried: RiggedTool, status: int, expected: int) -> None:
    """A22: a token that may not read /v2/store is no error; all else that it answers is."""
    store.faults = [Fault("GET", "v2/store", times=math.inf, **answer_of(status))]
    outcome = hurried.run(store)
    assert outcome.status == expected
    assert bool(store.customers) is bool(expected)
    assert store.store_hash in outcome.text


def test_a_wrong_token(make_store: MakeStore, tool: RiggedTool) -> None:
    """A15: a token of another store is refused after few requests, and not quoted."""
    store = make_store(customers=600, **QUIET)
    wrong = "not-the-token-of-this-store"
    outcome = tool.run(store, access_token=wrong)
    assert outcome.status == 5
    assert len(store.log) <= 6
    assert len(store.customers) == 600
    assert_says(outcome, "access_token", "401")
    assert wrong not in outcome.text
    assert outcome.folder is None


# --- 429 ------------------------------------------------------------------------------------------


YEAR = 365 * 24 * 3600


WAITS: dict[str, dict[str, str]] = {
    "no headers": {},
    "seconds": {"Retry-After": "2"},
    "a fraction": {"Retry-After": "1.5"},
    "negative": {"Retry-After": "-5"},
    "garbage": {"Retry-After": "soon"},
    "a date": {"Date": "Mon, 06 Jul 2015 10:00:00 GMT", "Retry-After": "Mon, 06 Jul 2015 10:00:02 GMT"},
    "a date that has passed": {
        "Date": "Mon, 06 Jul 2015 10:00:00 GMT",
        "Retry-After": "Mon, 06 Jul 2015 09:00:00 GMT",
    },
    "a date without a Date": {"Date": "today", "Retry-After": "Fri, 06 Jul 2035 10:00:00 GMT"},
    "the store's own": {"X-Retry-After": "2", "X-Rate-Limit-Time-Reset-Ms": "900"},
    "ten minutes": {"X-Retry-After": "600"},
}


TOO_LONG: dict[str, dict[str, str]] = {
    "a year": {"Retry-After": str(YEAR)},
    "a date a year away": {
        "Date": "Mon, 06 Jul 2015 10:00:00 GMT",
        "Retry-After": "Wed, 06 Jul 2016 10:00:00 GMT",
    },
    "eleven minutes": {"X-Retry-After": "660"},
    "over ten minutes": {"X-Retry-After": "600.5"},
    "the reset": {"X-Rate-Limit-Time-Reset-Ms": "600001"},
    "the longest of them": {"X-Retry-After": "1", "Retry-After": "1", **{}}
    | {"X-Rate-Limit-Time-Reset-Ms": "900000"},
}


@pytest.mark.parametrize("headers", WAITS.values(), ids=WAITS)
def test_a_429_is_waited_out(store: FakeStore, hurried: RiggedTool, headers: dict[str, str]) -> None:
    """A4, A5: whatever its headers look like, the batch goes again, and it is not the batch's error."""
    hurried.rig = PATIENT
    planned = set(store.customers)
    refusal = answer_of(429) | {"quota_headers": False, "headers": headers}
    store.faults = [Fault("DELETE", **refusal)]
    outcome = hurried.run(store, max_retries=0)
    assert_all_gone_once(outcome, store, planned)
    assert (outcome.summary["rate_limited"], outcome.summary["retries"]) == (1, 0)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("headers", TOO_LONG.values(), ids=TOO_LONG)
def test_told_to_wait_for_over_ten_minutes(
    store: FakeStore, hurried: RiggedTool, headers: dict[str, str], method: str
) -> None:
    """A6: the run stops instead, with exit 5 and the command to resume it."""
    refusal = answer_of(429) | {"quota_headers": False, "headers": headers}
    store.faults = [Fault(method, "v3/customers", **refusal)]
    outcome = hurried.run(store, max_concurrent=1)
    assert outcome.status == 5, outcome.text
    assert store.log[-1].status == 429
    assert_says(outcome, "wait")
    if method == "DELETE":
        assert_resumable(outcome)
        assert counts(outcome) == {"not_attempted": 30}


def test_nine_429s_in_a_row_are_waited_out(store: FakeStore, hurried: RiggedTool) -> None:
    """A6: neither they nor nine more after a success end the run."""
    hurried.rig = PATIENT
    planned = set(store.customers)
    refusal = answer_of(429) | {"quota_headers": False}
    store.faults = [
        Fault("DELETE", times=9, **refusal),
        Fault("DELETE", skip=1, times=9, **refusal),  # skips what came after the first nine
    ]
    outcome = hurried.run(store, max_concurrent=1)
    assert_all_gone_once(outcome, store, planned)
    assert outcome.summary["rate_limited"] == 18


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("headers", [{}, {"X-Retry-After": "1"}], ids=["none", "X-Retry-After"])
def test_ten_429s_in_a_row_end_the_run(
    store: FakeStore, hurried: RiggedTool, method: str, headers: dict[str, str]
) -> None:
    """A6: the tenth is the last: exit 5, and the batch that got them has not failed."""
    hurried.rig = PATIENT
    refusal = answer_of(429) | {"quota_headers": False, "headers": headers}
    store.faults = [Fault(method, "v3/customers", times=math.inf, **refusal)]
    outcome = hurried.run(store, max_concurrent=1)
    assert outcome.status == 5, outcome.text
    assert sum(request.status == 429 for request in store.log) == 10
    assert store.log[-1].status == 429
    assert_says(outcome, "429")
    if method == "GET":
        assert outcome.folder is None
    else:
        assert outcome.summary["failed"] == 0


def test_ten_429s_end_five_workers(make_store: MakeStore, hurried: RiggedTool) -> None:
    """A6: with five workers no more than those in flight come on top of the ten."""
    hurried.rig = PATIENT
    store = make_store(customers=300, latency=0.02, **QUIET)
    refusal = answer_of(429) | {"quota_headers": False}
    store.faults = [Fault("DELETE", times=math.inf, **refusal)]
    outcome = hurried.run(store)
    assert outcome.status == 5, outcome.text
    assert 10 <= len(store.deletes()) <= 14
    assert counts(outcome) == {"not_attempted": 300}


# --- retry_delay ----------------------------------------------------------------------------------


DATE = {"Date": "Mon, 06 Jul 2015 10:00:00 GMT"}


@pytest.mark.parametrize(
    ("attempt", "status", "headers", "jitter", "expected"),
    [
        # 5xx, 408 and no answer: min(30, 2ⁿ) times jitter, whatever the quota's headers say
        (0, 500, {}, 1.0, 1.0),
        (1, 500, {}, 1.0, 2.0),
        (2, 502, {}, 1.0, 4.0),
        (3, 504, {}, 1.0, 8.0),
        (4, 408, {}, 1.0, 16.0),
        (5, 0, {}, 1.0, 30.0),
        (6, 520, {}, 1.0, 30.0),
        (5000, 500, {}, 1.0, 30.0),
        (0, 0, {}, 0.5, 0.5),
        (3, 503, {}, 0.75, 6.0),
        (0, 500, {"X-Rate-Limit-Time-Reset-Ms": "29000"}, 1.0, 1.0),
        (0, 503, {"X-Rate-Limit-Time-Reset-Ms": "29000"}, 1.0, 1.0),
        # 429: the longest of the headers
        (0, 429, {"X-Rate-Limit-Time-Reset-Ms": "2500"}, 0.5, 2.5),
        (0, 429, {"X-Retry-After": "7"}, 0.5, 7.0),
        (0, 429, {"X-Retry-After": "2", "X-Rate-Limit-Time-Reset-Ms": "2500"}, 0.5, 2.5),
        (0, 429, {"X-Retry-After": "3", "X-Rate-Limit-Time-Reset-Ms": "2500"}, 0.5, 3.0),
        (0, 429, {"Retry-After": "9", "X-Retry-After": "3"}, 0.5, 9.0),
        (0, 429, {"Retry-After": "1.5"}, 0.5, 1.5),
        (0, 429, {"retry-after": " 12 "}, 0.5, 12.0),
        (9, 429, {"Retry-After": "1"}, 1.0, 1.0),
        # a date counts from the answer's own Date, in each of HTTP's three forms
        (0, 429, {"Retry-After": "Mon, 06 Jul 2015 10:00:30 GMT"} | DATE, 1.0, 30.0),
        (0, 429, {"Retry-After": "Monday, 06-Jul-15 10:00:30 GMT"} | DATE, 1.0, 30.0),
        (0, 429, {"Retry-After": "Mon Jul  6 10:00:30 2015"} | DATE, 1.0, 30.0),
        (0, 429, {"X-Retry-After": "Mon, 06 Jul 2015 10:00:30 GMT"} | DATE, 1.0, 30.0),
        # nothing sound in the headers: backoff
        (0, 429, {}, 1.0, 1.0),
        (2, 429, {}, 0.5, 2.0),
        (9, 429, {}, 1.0, 30.0),
        (1, 429, {"Retry-After": "-5"}, 1.0, 2.0),
        (1, 429, {"Retry-After": "0"}, 1.0, 2.0),
        (1, 429, {"Retry-After": "soon"}, 1.0, 2.0),
        (1, 429, {"Retry-After": "nan"}, 1.0, 2.0),
        (1, 429, {"Retry-After": "inf"}, 1.0, 2.0),
        (1, 429, {"Retry-After": "1e3"}, 1.0, 2.0),
        (1, 429, {"Retry-After": "٣"}, 1.0, 2.0),
        (1, 429, {"Retry-After": ""}, 1.0, 2.0),
        (1, 429, {"Retry-After": "Mon, 06 Jul 2015 09:00:00 GMT"} | DATE, 1.0, 2.0),
        (1, 429, {"Retry-After": "Mon, 06 Jul 2015 10:00:30 GMT"}, 1.0, 2.0),
        (1, 429, {"Retry-After": "Mon, 06 Jul 2015 10:00:30 GMT", "Date": "x"}, 1.0, 2.0),
        (1, 429, {"X-Rate-Limit-Time-Reset-Ms": "-1"}, 1.0, 2.0),
        # over ten minutes: none
        (0, 429, {"Retry-After": "600"}, 1.0, 600.0),
        (0, 429, {"Retry-After": "601"}, 1.0, None),
        (0, 429, {"Retry-After": str(YEAR)}, 1.0, None),
        (0, 429, {"Retry-After": "9" * 15}, 1.0, None),
        (0, 429, {"Retry-After": "Wed, 06 Jul 2016 10:00:00 GMT"} | DATE, 1.0, None),
        (0, 429, {"Retry-After": "1", "X-Retry-After": "601"}, 1.0, None),
        (0, 429, {"X-Rate-Limit-Time-Reset-Ms": "600001"}, 1.0, None),
        # what is final
        *((0, status, {}, 1.0, None) for status in (501, 505, 200, 204, 301, 400, 401, 403, 404)),
        *((0, status, {"Retry-After": "1"}, 1.0, None) for status in (409, 413, 422, 423, 501)),
    ],
)
def test_retry_delay(
    attempt: int, status: int, headers: dict[str, str], jitter: float, expected: float | None
) -> None:
    """A4, A5, A6, A7: seconds before the next attempt, by attempt, status, headers and jitter."""
    delay = retry_delay(attempt, status, CaseInsensitiveDict(headers), jitter)
    assert delay == (expected if expected is None else pytest.approx(expected))
