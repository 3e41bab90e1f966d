"""What each answer of a store or a proxy to a DELETE or a GET leads to."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bulk_delete import backoff
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
    listings,
    names,
    read_backs,
)

WORDS = {"title": "This customer has open orders [7]"}
PATIENT = Rig(speed=1000.0)
PAGE = "<html><head><title>We&#39;ll be back &mdash; maintenance</title></head></html>"


def answer(status: int, **fault: Any) -> dict[str, Any]:
    """Return the fields of a Fault that answers in JSON, without quota headers."""
    body = {"status": status, **WORDS}
    return {"status": status, "body": body, "quota_headers": False} | fault


def page(status: int) -> dict[str, Any]:
    """Return the fields of a Fault that answers with a page of a proxy or a CDN."""
    return answer(status, body=PAGE, content_type="text/html")


# --- answers that are retried ---------------------------------------------------------------

RETRIED: list[dict[str, Any]] = [
    *[answer(status) for status in (500, 502, 503, 504, 507, 520, 599, 408, 429)],
    answer(200, body=None),
    *[page(status) for status in (200, 403, 502, 503)],
    {"close": "reset"},
    {"close": "cut"},
]
COMMITTED: list[dict[str, Any]] = [
    *[answer(status, commit=True) for status in (408, 500, 504)],
    {"close": "reset", "commit": True},
    {"close": "cut", "commit": True},
]
ODD: list[dict[str, Any]] = [
    answer(429, headers={"Retry-After": "Mon, 01 Jan 99999999999 00:00:00 GMT"}),
    answer(503, headers={"Retry-After": "-5"}),
    answer(500, body="[" * 1_000 + "]" * 1_000),
    answer(200, body="[" * 100_000 + "]" * 100_000),
    answer(500, body='{"title": %s}' % ("9" * 400)),
    answer(200, body="9" * 100_000),
    answer(500, body=b'{"title": "\xff"}'),
    answer(500, body={"title": "id=[" * 16_384}),
    answer(500, body='{"errors":' * 60 + "{}" + "}" * 60),
]


def test_delete_is_retried(make_store: MakeStore, hurried: RiggedTool) -> None:
    """Every record is deleted and counted once, be it that the answer came after the deed."""
    faults = RETRIED + COMMITTED + ODD
    store = make_store(customers=10 * len(faults) + 20, **QUIET)
    planned = sorted(store.customers)
    firsts = planned[10::10]
    store.faults = [
        Fault("DELETE", where=names(number), **fault)
        for number, fault in zip(firsts, faults, strict=False)
    ]
    outcome = hurried.run(store)
    assert_all_gone_once(outcome, store, {*planned})
    sent = store.deleted_ids()
    assert [sent[number] for number in firsts] == [2] * len(faults) + [1]
    limited = sum(fault.get("status") == 429 for fault in faults)
    assert outcome.summary["rate_limited"] == limited
    assert outcome.summary["retries"] == len(faults) - limited
    assert outcome.summary["requests"] == len(store.log)


def test_get_is_retried(make_store: MakeStore, hurried: RiggedTool) -> None:
    """At each page of the listing, each read-back, and the store's own record."""
    faults = RETRIED[1::2] + ODD[::2]
    store = make_store(customers=0, products=250 * len(faults), **QUIET)
    planned = sorted(store.records["products"])
    store.faults = [Fault("GET", "v2/store", **fault) for fault in (page(403), page(200))]
    for place, fault in enumerate(faults):

        def is_page(request: Request, number: str = str(place + 1)) -> bool:
            return listings(request) and request.query["page"] == number

        number = planned[250 * place + 100]
        store.faults += [
            Fault("GET", where=is_page, **fault),
            Fault("GET", where=names(number), **fault),
        ]
    outcome = hurried.run(store, "--resource", "products")
    assert outcome.status == 0, outcome.text
    assert counts(outcome) == {"deleted": len(planned)}
    assert not store.records["products"]
    assert all(fault.seen for fault in store.faults)
    assert outcome.summary["retries"] + outcome.summary["rate_limited"] == len(store.faults)


def test_backoff_grows_to_a_limit_and_has_jitter() -> None:
    delays = [backoff(attempt, 0.0) for attempt in range(6)]
    assert delays == sorted(delays)
    assert delays[0] >= 1
    assert delays[4] > 10 * delays[0]
    assert max(backoff(1000, 1.0), delays[-1]) <= 120
    for attempt in range(6):
        assert delays[attempt] < backoff(attempt, 0.5) < backoff(attempt, 1.0)


@pytest.mark.parametrize("fault", [answer(500), answer(408), {"close": "reset"}])
def test_unanswered_batch(store: FakeStore, hurried: RiggedTool, fault: dict[str, Any]) -> None:
    """The one id without an answer fails alone, with the store's words if there are any."""
    victim = list(store.customers)[14]
    store.faults = [Fault("DELETE", where=names(victim), times=math.inf, **fault)]
    outcome = hurried.run(store, max_retries=1)
    assert outcome.status == 4, outcome.text
    assert set(store.customers) == {victim} == outcome.failed.keys()
    assert counts(outcome) == {"deleted": 29, "failed": 1}
    reason = outcome.failed[victim]
    assert (
        reason == f"{fault['status']} {WORDS['title']}" if "body" in fault else reason.strip()
    )
    sizes = [len(request.ids) for request in store.deletes() if victim in request.ids]
    assert sizes[:2] == [10, 10]  # max_retries more tries
    assert sizes == sorted(sizes, reverse=True)
    assert sizes.count(1) in (2, 4)  # once, and perhaps once more at the end


# --- rejections -----------------------------------------------------------------------------


def test_rejected_ids_fail_alone(make_store: MakeStore, hurried: RiggedTool) -> None:
    """Of each status and shape, alone, side by side or a whole batch; no neighbor fails."""
    store = make_store(customers=300, **QUIET)
    ids = list(store.customers)
    expected: dict[int, str] = {}
    for number, status in zip(ids[17:77:10], (400, 404, 409, 413, 422, 423), strict=True):
        key = "detail" if status == 423 else "title"
        store.refuse[number] = (status, {"status": status, key: WORDS["title"]})
        expected[number] = f"{status} {WORDS['title']}"
    for number in (*ids[84:86], *ids[90:100]):
        store.refuse[number] = (422, {"errors": {"id": f"{number} is locked"}})
        expected[number] = f"422 {number} is locked"
    shapes: list[Any] = [b"", "not JSON", [], [{"status": 409, "message": "locked"}]]
    for number, body in zip(ids[105:145:10], shapes, strict=True):
        where = names(number)
        store.faults += [Fault("DELETE", where=where, times=math.inf, status=409, body=body)]
        expected[number] = "409"
    outcome = hurried.run(store)
    assert outcome.status == 4, outcome.text
    assert set(store.customers) == outcome.failed.keys() == expected.keys()
    assert counts(outcome) == {"deleted": 278, "failed": 22}
    assert all(outcome.failed[number].startswith(words) for number, words in expected.items())
    assert len(store.deletes()) <= 30 + 11 * 10 + 20
    assert max(times for n, times in store.deleted_ids().items() if n not in expected) <= 5
    assert outcome.summary["retries"] == 0


def test_404_for_a_single_id(make_store: MakeStore, hurried: RiggedTool) -> None:
    """What somebody else deleted meanwhile is already gone, and has not failed."""
    store = make_store(customers=30, **QUIET)
    victim = list(store.customers)[21]
    missing = Fault("DELETE", where=names(victim), times=math.inf, **answer(404))
    missing.hook = lambda _: store.remove(victim)
    store.faults = [missing]
    outcome = hurried.run(store)
    assert outcome.status == 0, outcome.text
    assert not store.customers
    assert counts(outcome) == {"deleted": 29, "already_gone": 1}
    assert outcome.failed == {}


def test_404_for_a_batch_of_pages(make_store: MakeStore, hurried: RiggedTool) -> None:
    store = make_store(customers=0, pages=10, **QUIET)
    store.faults = [Fault("DELETE", **answer(404, commit=True))]
    outcome = hurried.run(store, "--resource", "pages", max_error_rate=100)
    assert outcome.status == 0, outcome.text
    assert counts(outcome) == {"deleted": 10}


# --- results of each item -------------------------------------------------------------------

SHAPES = [("errors", 207), ("errors", 200), ("errors", 422), ("meta", 422), ("rows", 200)]


def test_partial_success(make_store: MakeStore, hurried: RiggedTool) -> None:
    """Rejected ids fail in the store's words, rate-limited ones alone are sent again."""
    store = make_store(customers=100, **QUIET)
    ids = list(store.customers)
    expected: set[int] = set()
    limited: set[int] = set()

    def freed(request: Request) -> None:
        for number in limited.intersection(request.ids):
            store.per_item.pop(number, None)

    for place, (shape, status) in enumerate(SHAPES):
        batch = ids[10 * place + 10 : 10 * place + 20]
        expected |= {batch[3]}
        limited |= {*batch[5:7]}

        def shaped(_: Request, shape: str = shape, status: int = status) -> None:
            store.per_item_shape, store.per_item_status = shape, status

        where = names(batch[5])
        store.faults.append(Fault("DELETE", where=where, hook=shaped, after=freed))
    limited |= {*ids[70:80]}  # a whole batch
    store.faults.append(Fault("DELETE", where=names(ids[70]), after=freed))
    store.per_item = {n: (409, f"customer {n} has a subscription") for n in expected}
    store.per_item |= dict.fromkeys(limited, (429, "ERR_TOO_MANY_REQUEST"))
    outcome = hurried.run(store, "--max-concurrent", "1")
    assert outcome.status == 4, outcome.text
    assert set(store.customers) == expected == outcome.failed.keys()
    for number, reason in outcome.failed.items():
        assert f"customer {number} has a subscription" in reason
    assert counts(outcome) == {"deleted": 95, "failed": 5}
    sent = store.deleted_ids()
    assert {number for number, times in sent.items() if times > 1} == limited
    assert outcome.summary["rate_limited"] == 6


def test_answer_of_unknown_shape(make_store: MakeStore, hurried: RiggedTool) -> None:
    """What it deleted counts once, the rest is sent again, ids of no batch never are."""
    bodies: list[Any] = [
        *({}, [], {"data": "done"}, {"data": []}, {"data": [{"ok": True}], "meta": {}}),
        {"errors": [{"message": "who knows"}]},
        {"errors": None, "data": None},
        {"failed_rows_data": "none", "data": [None]},
    ]
    for number in ("7", 0, -7, True, 7.0, None, 999_999):
        said = [{"id": number, "status": status, "message": "no"} for status in (429, 409)]
        bodies.append({"errors": said})
    store = make_store(customers=10 + 20 * len(bodies), **QUIET)
    planned = sorted(store.customers)
    for place, body in enumerate(bodies):
        for half in (0, 1):
            where = names(planned[10 + 20 * place + 10 * half])
            status = 200 if place % 2 == half else 207
            fault = Fault("DELETE", where=where, status=status, body=body, commit=half == 0)
            store.faults.append(fault)
    assert_all_gone_once(hurried.run(store), store, {*planned})


# --- answers that end the run ---------------------------------------------------------------

REDIRECT = {"status": 302, "headers": {"Location": "https://localhost:1/"}}
ADVICE = {401: ["access_token"], 403: ["store_v2_customers", WORDS["title"]]}


@pytest.mark.parametrize("status", [401, 403, 201, 402, 418, 501, 300, 302, 304, 308])
def test_fatal_answer_to_a_delete(store: FakeStore, hurried: RiggedTool, status: int) -> None:
    """Nothing more is sent, no read either; one line tells why, and how to resume."""
    fault = answer(status) if status // 100 != 3 else REDIRECT | {"status": status}
    store.faults = [Fault("DELETE", skip=1, times=math.inf, **fault)]
    outcome = hurried.run(store, "--max-concurrent", "1")
    assert outcome.status == 5, outcome.text
    assert len(store.deletes()) == 2 + (status in (401, 403))  # which are tried once more
    assert store.log[-1].method == "DELETE"
    # Whether a 2xx or a 5xx deleted anything is open; the others did not.
    unknown = {"unknown": 10} if status // 100 in (2, 5) else {}
    remaining = 20 - sum(unknown.values())
    assert counts(outcome) == {"deleted": 10, **unknown, "not_attempted": remaining}
    assert_says(outcome, str(status), *ADVICE.get(status, []))
    assert_resumable(outcome)


# How many requests of a kind are answered well, before the one that is not.
AT: dict[str, tuple[Callable[[Request], bool], int]] = {
    "the store": (lambda request: request.path.endswith("/v2/store"), 0),
    "the listing": (listings, 0),
    "the read check": (read_backs, 0),
    "the first batch": (read_backs, 1),
    "verification": (read_backs, 2),
}
LEFT = {
    "the read check": {"not_attempted": 30},
    "the first batch": {"unknown": 10, "not_attempted": 20},
    "verification": {"deleted": 10, "unknown": 20},
}


@pytest.mark.parametrize(
    ("at", "fault"),
    [
        *[(at, answer(500)) for at in AT],
        *[(at, answer(401)) for at in AT if at != "the store"],
        *[(at, REDIRECT) for at in AT],
        *[(at, answer(422)) for at in AT if at != "the store"],
        ("the store", answer(404)),
        ("the read check", answer(501)),
        ("verification", answer(400)),  # halved down to a single id
    ],
)
def test_get_without_a_valid_response(
    store: FakeStore, hurried: RiggedTool, at: str, fault: dict[str, Any]
) -> None:
    """No plan without a complete listing, no second DELETE before the first is verified."""
    where, skip = AT[at]
    store.faults = [Fault("GET", where=where, skip=skip, times=math.inf, **fault)]
    outcome = hurried.run(store, max_retries=1)
    status = fault["status"]
    rejected = status in (404, 422) and at not in LEFT
    assert outcome.status == (3 if rejected else 5), outcome.text
    words = [WORDS["title"]] if status in (404, 422) else ADVICE.get(status, [])
    assert_says(outcome, str(status), *words)
    assert len(store.deletes()) == {"the first batch": 1, "verification": 3}.get(at, 0)
    if at in LEFT:
        assert counts(outcome) == LEFT[at]
        assert_resumable(outcome)
    else:
        assert outcome.folder is None


def test_token_that_cannot_read_the_store_name(store: FakeStore, hurried: RiggedTool) -> None:
    store.faults = [Fault("GET", "v2/store", times=math.inf, **answer(403))]
    outcome = hurried.run(store)
    assert outcome.status == 0, outcome.text
    assert not store.customers
    assert store.store_hash in outcome.text


@pytest.mark.parametrize(
    ("status", "where"),
    [(200, names(*range(9999))), (403, listings), (403, lambda r: r.method == "DELETE")],
)
def test_page_of_a_proxy(
    store: FakeStore, hurried: RiggedTool, status: int, where: Callable[[Request], bool]
) -> None:
    """Its title is quoted, and no scope is blamed for it."""
    store.faults = [Fault(where=where, times=math.inf, **page(status))]
    outcome = hurried.run(store, max_retries=0)
    assert outcome.status == 5, outcome.text
    assert_says(outcome, "We'll be back — maintenance")
    assert "scope" not in outcome.text


# --- answers that say to wait ---------------------------------------------------------------

MS = "X-Rate-Limit-Time-Reset-Ms"
LIMITS: list[tuple[float, dict[str, str]]] = [
    (20, {"Retry-After": "20"}),
    (20.5, {"retry-after": " 20.5 "}),
    (25, {"X-Retry-After": "20", MS: "25000"}),
    (26, {"X-Retry-After": "26", "Retry-After": "9", MS: "900"}),
    (600, {"X-Retry-After": "600"}),
    # Backoff, where the headers make no sense.
    *[(1, {"Retry-After": text}) for text in ("", "-5", "0", "soon", "nan", "inf", "1e3", "²")],
    (1, {"Retry-After": "Mon, 06 Jul 2015 09:00:00 GMT"}),
    (1, {MS: "-1"}),
]
WAITS = [(least, answer(429, headers=headers)) for least, headers in LIMITS] + [
    (45, answer(503, headers={"Retry-After": "45"})),
    (45, answer(509, headers={"X-Retry-After": "45"})),
    (45, answer(503, body={"status": 503, "retry_after_seconds": 45})),
]


def test_retry_after_is_honored(make_store: MakeStore, hurried: RiggedTool) -> None:
    """As long as headers or body say; the batch is sent again, and a 429 is no retry."""
    hurried.rig = PATIENT
    store = make_store(customers=10 * len(WAITS) + 10, **QUIET)
    planned = sorted(store.customers)
    store.faults = [
        Fault("DELETE", where=names(number), **fault)
        for number, (_, fault) in zip(planned[10::10], WAITS, strict=True)
    ]
    outcome = hurried.run(store, "--max-concurrent", "1", max_retries=1)
    assert_all_gone_once(outcome, store, {*planned})
    assert (outcome.summary["rate_limited"], outcome.summary["retries"]) == (len(LIMITS), 3)
    for number, (least, fault) in zip(planned[10::10], WAITS, strict=True):
        first, second = [request for request in store.deletes() if number in request.ids]
        assert (second.arrived - first.answered) * hurried.rig.speed >= least, fault


TOO_LONG: list[tuple[int, dict[str, str]]] = [
    (429, {"Retry-After": str(365 * 24 * 3600)}),
    (429, {"Retry-After": "9" * 15}),
    (429, {"X-Retry-After": "600.5", "Retry-After": "1"}),
    (429, {"X-Retry-After": "1", "X-Rate-Limit-Time-Reset-Ms": "600001"}),
    (503, {"Retry-After": "1800"}),
]


def test_wait_of_more_than_ten_minutes(store: FakeStore, hurried: RiggedTool) -> None:
    folder = hurried.run(store, "--dry-run").folder
    for status, headers in TOO_LONG:
        store.faults = [Fault("DELETE", **answer(status, headers=headers))]
        outcome = hurried.resume(store, folder, "--max-concurrent", "1")
        assert outcome.status == 5, outcome.text
        assert store.log[-1].status == status
        unknown = {"unknown": 10} if status == 503 else {}  # which may have deleted its batch
        assert counts(outcome) == {**unknown, "not_attempted": 20 if unknown else 30}
    assert_says(outcome, "30")
    assert_resumable(outcome)
    store.faults = [Fault("GET", "v3/customers", **answer(429, headers=TOO_LONG[0][1]))]
    assert hurried.run(store).status == 5
    assert store.log[-1].status == 429


# --- 429s in a row --------------------------------------------------------------------------


def test_nine_429s_in_a_row_are_retried(store: FakeStore, hurried: RiggedTool) -> None:
    """And nine more after a success."""
    hurried.rig = PATIENT
    planned = set(store.customers)
    # The second skips the success after the first nine.
    store.faults = [Fault("DELETE", skip=skip, times=9, **answer(429)) for skip in (0, 1)]
    outcome = hurried.run(store, max_concurrent=1)
    assert_all_gone_once(outcome, store, planned)
    assert outcome.summary["rate_limited"] == 18


def test_ten_429s_with_five_workers(make_store: MakeStore, hurried: RiggedTool) -> None:
    """Only the requests in flight come on top, and no batch has failed."""
    hurried.rig = PATIENT
    store = make_store(customers=300, latency=0.02, **QUIET)
    headers = {"X-Retry-After": "1"}
    store.faults = [Fault("DELETE", times=math.inf, **answer(429, headers=headers))]
    outcome = hurried.run(store)
    assert outcome.status == 5, outcome.text
    assert 10 <= len(store.deletes()) <= 14
    assert counts(outcome) == {"not_attempted": 300}
    assert_resumable(outcome)


# --- foreign words --------------------------------------------------------------------------


def test_secrets_in_answers(store: FakeStore, hurried: RiggedTool) -> None:
    """N17, N18: no six letters of the token are written, wherever and however they came."""
    store.token = token = "k9x2m4q8w1z7r3v5t6b0"
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in token)
    named = f'{{"name": "{escaped}", "domain": "x", "plan_name": "{token}"}}'
    store.faults = [Fault("GET", "v2/store", status=200, body=named)]
    titles = (token, escaped, "x" * 290 + token)
    for number, title in zip(list(store.customers)[12:15], titles, strict=True):
        where, body = names(number), f'{{"title": "{title}"}}'
        store.faults += [Fault("DELETE", where=where, times=math.inf, status=422, body=body)]
    outcome = hurried.run(store, "--json", "-v", max_error_rate=50)
    assert outcome.status == 4, outcome.text
    files = (outcome.folder or Path()).iterdir()
    written = outcome.text + "".join(path.read_text() for path in files)
    assert not [at for at in range(len(token) - 5) if token[at : at + 6] in written]
