"""Delete and verify: what stops a run that fails too often, and what proves that a record is gone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from tests.fake_store import FakeStore, Fault, Request
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
)

LOCKED = (409, "this customer is locked")


# --- the error rate -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("customers", "failing", "rate", "status"),
    [
        (30, 10, None, 4),  # a third, but no more than 10
        (30, 11, None, 5),
        (110, 11, None, 4),  # 10 %, and not more
        (110, 12, None, 5),
        (100, 11, "10", 5),
        (100, 11, "10.9 %", 5),
        (100, 11, "11", 4),
        (100, 50, "50", 4),
        (100, 51, "50", 5),
        (40, 30, "100", 4),
        (30, 1, "0", 5),
        (30, 0, "0", 0),
    ],
)
def test_error_rate(
    make_store: MakeStore, hurried: RiggedTool, customers: int, failing: int, rate: str | None, status: int
) -> None:
    """A16: more than 10 % and more than 10 failed ids end the run; with 0 % the first does."""
    store = make_store(customers=customers, **QUIET)
    store.per_item = dict.fromkeys(list(store.customers)[10 : 10 + failing], LOCKED)
    settings = {} if rate is None else {"max_error_rate": rate}
    outcome = hurried.run(store, **settings)
    assert outcome.status == status, outcome.text
    assert outcome.summary["failed"] <= failing
    if status == 5:
        assert_says(outcome, "locked")
        assert_resumable(outcome)
        assert outcome.summary["failed"] >= (1 if rate == "0" else 11)
        assert outcome.failed.items() <= dict.fromkeys(store.per_item, "409 this customer is locked").items()
    else:
        assert outcome.summary["failed"] == failing


# --- the store is down ----------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "word"), [({"status": 503}, "503"), ({"close": "reset"}, "")])
@pytest.mark.parametrize("workers", [1, 5])
def test_five_exhausted_batches_in_a_row(
    make_store: MakeStore, hurried: RiggedTool, fault: dict[str, Any], word: str, workers: int
) -> None:
    """A17: they end the run, long before each of 30 batches is tried; halves are not asked either."""
    store = make_store(customers=300, latency=0.25 if workers == 5 else 0.0, **QUIET)
    store.faults = [Fault("DELETE", skip=3, times=math.inf, **fault)]
    outcome = hurried.run(store, max_retries=1, max_concurrent=workers)
    assert outcome.status == 5, outcome.text
    assert_says(outcome, word)
    assert_resumable(outcome)
    assert 3 + 10 <= len(store.deletes()) <= 3 + 10 + 2 * workers
    assert {len(request.ids) for request in store.deletes()} == {10}
    assert outcome.summary["failed"] == 0
    assert store.log[-1].method == "DELETE"


def test_four_exhausted_batches_in_a_row(make_store: MakeStore, hurried: RiggedTool) -> None:
    """A17: a success after four of them, and four more, do not end the run; their halves go later."""
    store = make_store(customers=120, **QUIET)
    planned = set(store.customers)
    store.faults = [
        Fault("DELETE", skip=1, times=4, status=500),
        Fault("DELETE", skip=2, times=4, status=502),
    ]
    outcome = hurried.run(store, max_retries=0, max_concurrent=1)
    assert_all_gone_once(outcome, store, planned)
    statuses = [request.status for request in store.deletes()[:11]]
    assert statuses == [204] + [500] * 4 + [204] + [502] * 4 + [204]


def test_exhausted_halves_count(make_store: MakeStore, hurried: RiggedTool) -> None:
    """A17: five requests in a row that used up their retries end the run, be they batches or halves."""
    store = make_store(customers=30, **QUIET)
    victims = list(store.customers)[20:]
    store.faults = [Fault("DELETE", where=names(*victims), times=math.inf, status=500)]
    outcome = hurried.run(store, max_retries=0, max_concurrent=1)
    assert outcome.status == 5, outcome.text
    assert len(store.deletes()) <= 2 + 5 + 1  # one more may be on its way to a worker
    assert set(store.customers) == set(victims)


def test_a_store_that_is_down_is_noticed_when_items_count(make_store: MakeStore, tool: RiggedTool) -> None:
    """A17: batches that are split to fit the quota are batches: five of them exhausted end the run."""
    store = make_store(customers=5, products=2000, quota=150, window=1.0, count_items=True)
    store.faults.append(Fault(method="DELETE", times=10_000, status=503, counts=False))
    outcome = tool.run(store, "--resource", "products", count_items=True, max_retries=0)
    assert outcome.status == 5, outcome.text
    assert len(store.deletes()) <= 10


# --- reading back ---------------------------------------------------------------------------------


def test_a_204_that_did_nothing(store: FakeStore, hurried: RiggedTool) -> None:
    """A1: what is still there after its 204 is deleted once more, and then gone."""
    planned = set(store.customers)
    victim = min(planned)
    store.sticky[victim] = 1
    outcome = hurried.run(store)
    assert_all_gone_once(outcome, store, planned)
    assert store.deleted_ids() == {n: 2 if n == victim else 1 for n in planned}


def test_a_204_that_never_does_anything(store: FakeStore, hurried: RiggedTool) -> None:
    """A1, N10, N11: it is deleted once more, read again for a while, and then failed: exit 4."""
    ids = list(store.customers)
    victims = {ids[2], ids[3], ids[28]}
    store.sticky = dict.fromkeys(victims, math.inf)
    outcome = hurried.run(store)
    assert outcome.status == 4, outcome.text
    assert counts(outcome) == {"deleted": 27, "failed": 3}
    assert outcome.failed.keys() == victims
    assert all(reason.strip() for reason in outcome.failed.values())
    assert all(store.deleted_ids()[n] == 2 for n in victims)
    last = max(request.number for request in store.deletes())
    assert len([r for r in store.log if read_backs(r) and r.number > last]) >= 2


def test_a_lagging_store(make_store: MakeStore, hurried: RiggedTool) -> None:
    """A1: records that show for some seconds after they were deleted are deleted all the same."""
    store = make_store(customers=30, lag=0.08, **QUIET)  # 4 s of the tool's clock
    planned = set(store.customers)
    outcome = hurried.run(store)
    assert_all_gone_once(outcome, store, planned)


def everything(store: FakeStore) -> Callable[[Request, Any], Any]:
    """The answer of a list that does not know id:in: all there is."""

    def rewrite(_request: Request, _answer: Any) -> Any:
        rows = [{"id": number} for number in sorted(store.customers)[:250]]
        return {"data": rows, "meta": {"pagination": {"total": len(rows), "per_page": 250}}}

    return rewrite


def told(**changes: Any) -> Callable[[Request, Any], Any]:
    """An answer that finds nothing, with these changes to its pagination; None drops one."""

    def rewrite(_request: Request, answer: Any) -> Any:
        pagination = answer["meta"]["pagination"] | changes
        pagination = {name: value for name, value in pagination.items() if value is not None}
        return {"data": [], "meta": {"pagination": pagination}}

    return rewrite


def rows(*records: Any) -> Callable[[Request, Any], Any]:
    def rewrite(_request: Request, _answer: Any) -> Any:
        return {"data": list(records), "meta": {"pagination": {"total": len(records)}}}

    return rewrite


DISTRUSTED: dict[str, Callable[[Request, Any], Any]] = {
    "more in all than shown": told(total=1),
    "no total": told(total=None),
    "total is a string": told(total="0"),
    "total is null": lambda *_: {"data": [], "meta": {"pagination": {"total": None}}},
    "total is negative": told(total=-1),
    "total is false": told(total=False),
    "no meta": lambda *_: {"data": []},
    "no data": lambda *_: {"meta": {"pagination": {"total": 0}}},
    "data is null": lambda *_: {"data": None, "meta": {"pagination": {"total": 0}}},
    "data is an object": lambda *_: {"data": {}, "meta": {"pagination": {"total": 0}}},
    "a bare list": lambda *_: [],
    "an id nobody asked for": rows({"id": 999_999}),
    "an id that is a string": rows({"id": "12"}),
    "an id that is true": rows({"id": True}),
    "a record without id": rows({"email": "x@shop-mail.example"}),
    "a record that is a number": rows(12),
}


@pytest.mark.parametrize("rewrite", DISTRUSTED.values(), ids=DISTRUSTED)
def test_a_read_back_that_cannot_be_trusted(
    store: FakeStore, hurried: RiggedTool, rewrite: Callable[[Request, Any], Any]
) -> None:
    """A1, N10, N11: what it was to prove stays unknown, never deleted, and the exit status is not 0."""
    store.faults = [Fault("GET", where=read_backs, skip=2, times=math.inf, rewrite=rewrite)]
    outcome = hurried.run(store)
    assert outcome.status == 4, outcome.text
    assert counts(outcome) == {"deleted": 10, "unknown": 20}
    assert outcome.summary["verified"] is False
    assert store.deleted_ids().keys() == set(outcome.plan["ids"])


@pytest.mark.parametrize("rewrite", DISTRUSTED.values(), ids=DISTRUSTED)
def test_a_control_that_cannot_be_trusted(
    store: FakeStore, hurried: RiggedTool, rewrite: Callable[[Request, Any], Any]
) -> None:
    """N10: a store whose read-backs cannot be relied on from the start is refused before the first DELETE."""
    store.faults = [Fault("GET", where=read_backs, times=math.inf, rewrite=rewrite)]
    outcome = hurried.run(store)
    assert outcome.status == 3, outcome.text
    assert not store.deletes()


def test_a_read_back_that_repeats_a_record(store: FakeStore, hurried: RiggedTool) -> None:
    """N10: as many rows as `total` says prove nothing when two are the same: another one is hidden."""
    store.sticky = dict.fromkeys(list(store.customers)[10:12], math.inf)

    def repeat(_request: Request, answer: Any) -> Any:
        return answer | {"data": answer["data"][:1] * len(answer["data"])}

    store.faults = [Fault("GET", where=read_backs, skip=2, times=math.inf, rewrite=repeat)]
    outcome = hurried.run(store)
    assert outcome.status == 4, outcome.text
    assert counts(outcome) == {"deleted": 10, "unknown": 20}


def test_a_list_that_is_deaf_to_ids(make_store: MakeStore, hurried: RiggedTool) -> None:
    """N2, N10: all that is there, in place of what was asked for, proves nothing, and none of it goes."""
    store = make_store(customers=30, **QUIET)
    planned = set(store.customers)
    fresh: list[int] = []

    def sign_up(_request: Request) -> None:
        fresh.extend(store.add(5) if not fresh else ())

    store.faults = [
        Fault("DELETE", skip=2, hook=sign_up),
        Fault("GET", where=read_backs, skip=2, times=math.inf, rewrite=everything(store)),
    ]
    outcome = hurried.run(store)
    assert outcome.status == 4, outcome.text
    assert counts(outcome) == {"deleted": 10, "unknown": 20}
    assert store.deleted_ids().keys() == planned
    assert set(store.customers) == set(fresh)


def test_distrust_of_one_answer_does_not_last(store: FakeStore, hurried: RiggedTool) -> None:
    """A read-back that made no sense is asked again a little later."""
    planned = set(store.customers)
    store.faults = [Fault("GET", where=read_backs, rewrite=told(total=7))]
    assert_all_gone_once(hurried.run(store), store, planned)


@pytest.mark.parametrize("total", [None, 21])
def test_a_listing_that_proves_nothing(make_store: MakeStore, hurried: RiggedTool, total: int | None) -> None:
    """N10, N11: a listing that is unreadable or never complete, read back, leaves ids unknown."""
    store = make_store(customers=5, promotions=20, quota=10_000, window=3600.0)

    def lie(_request: object, answer: dict[str, dict[str, dict[str, int | None]]]) -> object:
        answer["meta"]["pagination"]["total"] = total
        return answer

    store.faults.append(Fault(method="GET", path="v3/promotions", skip=1, times=1000, rewrite=lie))
    outcome = hurried.run(store, "--resource", "promotions")
    assert outcome.status == 4, outcome.text
    assert outcome.summary["unknown"] == 20
    assert outcome.summary["verified"] is False


def test_a_list_that_ignores_ids_later(make_store: MakeStore, hurried: RiggedTool) -> None:
    """N10: where it is deaf only when they are read back, nothing counts as deleted."""
    store = make_store(customers=5, categories=13, **QUIET)
    first = min(store.records["categories"])
    path = hurried.folder / "ids.txt"
    path.write_text(f"{first}\n")

    def go_deaf(_: Request) -> None:
        store.deaf = {"category_id:in"}

    store.faults = [Fault("DELETE", hook=go_deaf)]
    outcome = hurried.run(store, "--resource", "categories", "--ids", path)
    assert outcome.status == 4, outcome.text
    assert first not in store.records["categories"]
    assert (outcome.summary["deleted"], outcome.summary["unknown"]) == (0, 1)
    assert outcome.summary["verified"] is False
