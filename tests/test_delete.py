"""Read check, first batch, deletion and verification: what counts as deleted."""

from __future__ import annotations

import json
import math
import random
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import bulk_delete
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
    write,
)

Rewrite = Callable[[Request, Any], Any]
Cut = Callable[[list[int]], list[int]]
EMPTY: dict[str, Any] = {"data": [], "meta": {"pagination": {"total": 0, "per_page": 250}}}
PATIENT = Rig(speed=1000.0)

# --- read check -----------------------------------------------------------------------------


def cutting(cut: Cut, *methods: str) -> list[Fault]:
    """Return the faults of a proxy that cuts the id filter before the store gets it."""

    def shorten(request: Request) -> None:
        request.query["id:in"] = ",".join(map(str, cut(list(request.ids))))

    def has_filter(request: Request) -> bool:
        return "id:in" in request.query

    return [Fault(m, where=has_filter, times=math.inf, hook=shorten) for m in methods]


@pytest.mark.parametrize(
    ("resource", "count", "cut"),
    [
        ("customers", 40, lambda ids: ids[:1]),
        ("customers", 300, lambda ids: ids[:-1] if len(ids) > 9 else ids),
        ("products", 300, lambda ids: ids[:100]),
        ("products", 300, lambda ids: ids[-100:]),
    ],
)
def test_partly_ignored_id_filter(
    make_store: MakeStore, hurried: RiggedTool, resource: str, count: int, cut: Cut
) -> None:
    """Reads and DELETEs shrink until none of their ids is ignored, and all are deleted."""
    store = make_store(**{"customers": 0, resource: count} | QUIET)
    store.faults = cutting(cut, "GET", "DELETE")
    outcome = hurried.run(store, "--resource", resource)
    assert outcome.status == 0, outcome.text
    assert not store.records[resource]
    assert counts(outcome) == {"deleted": count}


def test_id_filter_ignored_at_random(make_store: MakeStore, hurried: RiggedTool) -> None:
    """Where no size of a read works, the run is refused before the first DELETE."""
    hurried.rig, half = PATIENT, random.Random(7)
    store = make_store(customers=300, **QUIET)
    store.faults = cutting(lambda ids: [n for n in ids if half.random() < 0.5] or [1], "GET")
    outcome = hurried.run(store)
    assert outcome.status == 3, outcome.text
    assert not store.deletes()


def test_query_cut_at_a_length(make_store: MakeStore, hurried: RiggedTool) -> None:
    """The read check is as long as any query of the plan, so that it fails where they would."""
    store = make_store(products=1000, customers=0, **QUIET)

    def cut(request: Request) -> None:
        text = request.query["id:in"][:1100]
        request.query["id:in"] = text.rpartition(",")[0] if len(text) == 1100 else text

    store.faults = [Fault(where=lambda r: "id:in" in r.query, times=math.inf, hook=cut)]
    outcome = hurried.run(store, "--resource", "products")
    assert outcome.status == 3 or not store.records["products"], outcome.text


@pytest.mark.parametrize(
    ("already_gone", "stray", "cut"),
    [(0, True, lambda ids: ids[:100]), (150, False, lambda ids: ids[-100:])],
)
def test_read_check_of_a_resume(
    make_store: MakeStore, hurried: RiggedTool, already_gone: int, stray: bool, cut: Cut
) -> None:
    """Also where half of the plan is gone, or after one stray empty page of a listing."""
    store = make_store(customers=300, **QUIET)
    planned = set(store.customers)
    dry = hurried.run(store, "--dry-run")
    later = set(store.add(3))
    store.remove(*sorted(planned)[:already_gone])
    store.faults = cutting(cut, "GET", "DELETE")
    if stray:
        store.faults.insert(0, Fault(where=listings, status=200, body=EMPTY))
    outcome = hurried.resume(store, dry.folder)
    assert outcome.status == 0, outcome.text
    assert set(store.customers) == later
    assert outcome.summary["deleted"] == 300 - already_gone
    assert outcome.summary["already_gone"] == already_gone


def test_records_deleted_by_others(make_store: MakeStore, hurried: RiggedTool) -> None:
    """Records that vanished after the listing do not fail the read check."""
    store = make_store(customers=300, **QUIET)
    gone = list(store.customers)[5:9]
    store.faults = [Fault(where=listings, skip=3, after=lambda _: store.remove(*gone))]
    outcome = hurried.run(store)
    assert outcome.status == 0, outcome.text
    assert outcome.summary["deleted"] + outcome.summary["already_gone"] == 300


# --- answers that verify nothing ------------------------------------------------------------


def total(value: Any) -> Rewrite:
    """Return an answer without records, with this total."""
    return lambda *_: {"data": [], "meta": {"pagination": {"total": value}}}


def rows(*records: Any) -> Rewrite:
    return lambda *_: {"data": [*records], "meta": {"pagination": {"total": len(records)}}}


def repeated(_request: Request, answer: Any) -> Any:
    """As many rows as the total, but two are the same: another one is hidden."""
    return answer | {"data": answer["data"][:1] * len(answer["data"])}


DISTRUSTED: dict[str, Rewrite] = {
    "more than shown": total(1),
    "no total": lambda *_: {"data": [], "meta": {"pagination": {"count": 0}}},
    "total is a string": total("0"),
    "total is null": total(None),
    "total is negative": total(-1),
    "total is false": total(False),
    "no meta": lambda *_: {"data": []},
    "no data": lambda *_: {"meta": {"pagination": {"total": 0}}},
    "data is null": lambda *_: {"data": None, "meta": {"pagination": {"total": 0}}},
    "data is an object": lambda *_: {"data": {}, "meta": {"pagination": {"total": 0}}},
    "a bare list": lambda *_: [],
    "an id that was not asked for": rows({"id": 999_999}),
    "an id that is a string": rows({"id": "12"}),
    "an id that is true": rows({"id": True}),
    "a record without id": rows({"email": "x@shop-mail.example"}),
    "a record that is a number": rows(12),
    "a record twice": repeated,
}


def test_answers_that_verify_nothing(make_store: MakeStore, hurried: RiggedTool) -> None:
    """N10, N11: what they were to verify stays unverified, and the exit status is not 0."""
    hurried.rig = PATIENT
    store = make_store(customers=0, products=250 * (len(DISTRUSTED) + 1), **QUIET)
    planned = sorted(store.records["products"])
    for place, rewrite in enumerate(DISTRUSTED.values(), 1):
        part = names(*planned[250 * place : 250 * place + 250])

        def verifies(request: Request, part: Callable[[Request], bool] = part) -> bool:
            return read_backs(request) and part(request) and len(store.deletes()) > 1

        store.faults += [Fault(where=verifies, times=math.inf, rewrite=rewrite)]
    store.sticky = dict.fromkeys(planned[-2:], math.inf)  # to be repeated
    outcome = hurried.run(store, "--resource", "products")
    assert outcome.status == 4, outcome.text
    assert counts(outcome) == {"deleted": 250, "unknown": 250 * len(DISTRUSTED)}
    assert outcome.summary["verified"] is False
    assert store.deleted_ids().keys() == {*planned}


@pytest.mark.parametrize(
    "why", ["more than shown", "no total", "a bare list", "an id that was not asked for"]
)
def test_read_check_that_fails(store: FakeStore, hurried: RiggedTool, why: str) -> None:
    """N10: the run is refused before the first DELETE."""
    store.faults = [Fault("GET", where=read_backs, times=math.inf, rewrite=DISTRUSTED[why])]
    outcome = hurried.run(store)
    assert outcome.status == 3, outcome.text
    assert not store.deletes()


def test_one_odd_answer_is_read_again(store: FakeStore, hurried: RiggedTool) -> None:
    planned = set(store.customers)
    store.faults = [Fault("GET", where=read_backs, rewrite=total(7))]
    assert_all_gone_once(hurried.run(store), store, planned)


def test_id_filter_ignored_when_verifying(store: FakeStore, hurried: RiggedTool) -> None:
    """N2, N10: a list of everybody verifies nothing, and nobody on it is deleted."""
    planned = set(store.customers)
    fresh: list[int] = []

    def sign_up(_request: Request) -> None:
        fresh.extend(store.add(5) if not fresh else ())

    def everybody(_request: Request, _answer: Any) -> Any:
        records = [{"id": number} for number in sorted(store.customers)]
        return {"data": records, "meta": {"pagination": {"total": len(records)}}}

    store.faults = [
        Fault("DELETE", skip=2, hook=sign_up),
        Fault("GET", where=read_backs, skip=2, times=math.inf, rewrite=everybody),
    ]
    outcome = hurried.run(store)
    assert outcome.status == 4, outcome.text
    assert counts(outcome) == {"deleted": 10, "unknown": 20}
    assert store.deleted_ids().keys() == planned
    assert set(store.customers) == set(fresh)


def test_category_filter_ignored_later(make_store: MakeStore, hurried: RiggedTool) -> None:
    """N10: where it is ignored only when records are read back, nothing counts as deleted."""
    store = make_store(customers=0, categories=13, **QUIET)
    number = min(store.records["categories"])

    def ignore(_: Request) -> None:
        store.deaf = {"category_id:in"}

    store.faults = [Fault("DELETE", hook=ignore)]
    path = write(hurried, f"{number}\n")
    outcome = hurried.run(store, "--resource", "categories", "--ids", path)
    assert outcome.status == 5, outcome.text
    assert number not in store.records["categories"]
    assert counts(outcome) == {"unknown": 1}
    assert outcome.summary["verified"] is False


@pytest.mark.parametrize("count", [21, None])
def test_list_that_verifies_nothing(
    make_store: MakeStore, hurried: RiggedTool, count: int | None
) -> None:
    """N10, N11: neither a list that is never complete, nor one without a total."""
    store = make_store(customers=0, promotions=20, **QUIET)

    def is_late(request: Request) -> bool:
        return request.method == "GET" and bool(store.deletes())

    body = {"data": [], "meta": {"pagination": {"total": count}}}
    store.faults = [Fault(where=is_late, times=math.inf, status=200, body=body)]
    outcome = hurried.run(store, "--resource", "promotions")
    assert outcome.status in (4, 5), outcome.text
    assert outcome.summary["deleted"] == outcome.summary["already_gone"] == 0
    assert outcome.summary["unknown"] > 0
    assert outcome.summary["verified"] is False


def test_stray_empty_page(make_store: MakeStore, hurried: RiggedTool) -> None:
    """Where a list has no id filter, and the DELETEs did nothing."""
    store = make_store(customers=0, promotions=20, **QUIET)
    stray = Fault(
        where=lambda r: r.method == "GET" and bool(store.deletes()), status=200, body=EMPTY
    )
    store.faults = [stray, Fault("DELETE", times=math.inf, status=204)]
    outcome = hurried.run(store, "--resource", "promotions")
    assert outcome.status in (4, 5), outcome.text
    assert outcome.summary["deleted"] == 0
    assert stray.seen


def test_stray_empty_pages_of_a_v2_list(make_store: MakeStore, hurried: RiggedTool) -> None:
    """One does not end the list, neither when it is listed nor when it is read back."""
    store = make_store(customers=0, coupons=30, **QUIET)
    stray: dict[str, Any] = {"method": "GET", "path": "v2/coupons", "status": 204}
    store.faults = [Fault(**stray), Fault(skip=4, **stray)]
    outcome = hurried.run(store, "--resource", "coupons")
    assert outcome.status == 0, outcome.text
    assert counts(outcome) == {"deleted": 30}
    assert not store.records["coupons"]


# --- first batch ----------------------------------------------------------------------------


def test_first_batch_is_sent_alone(make_store: MakeStore, hurried: RiggedTool) -> None:
    """The first is read back before the second leaves; then five are in flight at once."""
    store = make_store(customers=300, latency=lambda r: 0.02 * (r.method == "DELETE"), **QUIET)
    assert hurried.run(store).status == 0
    kinds = [r.method if r.method == "DELETE" else "read" for r in store.log if r.ids]
    assert kinds[:4] == ["read", "DELETE", "read", "DELETE"]
    assert max(request.in_flight for request in store.deletes()) >= 4


def test_first_batch_without_effect(make_store: MakeStore, hurried: RiggedTool) -> None:
    store = make_store(customers=2000, **QUIET)
    store.sticky = dict.fromkeys(store.customers, math.inf)
    outcome = hurried.run(store)
    assert outcome.status == 5, outcome.text
    assert len(store.deletes()) == 1
    assert sum(map(read_backs, store.log)) < 20
    assert_resumable(outcome)


def test_ten_rejected_batches(make_store: MakeStore, hurried: RiggedTool) -> None:
    store = make_store(customers=300, **QUIET)
    store.faults = [Fault("DELETE", times=math.inf, status=404, body={"title": "no"})]
    outcome = hurried.run(store, "--batch-size", "2", max_error_rate=100)
    assert outcome.status == 5, outcome.text
    assert len(store.deletes()) <= 10 * 3 + 1
    assert_resumable(outcome)


def test_first_batch_rejected_in_part(store: FakeStore, hurried: RiggedTool) -> None:
    store.refuse = dict.fromkeys(list(store.customers)[:4], (422, {"title": "locked"}))
    outcome = hurried.run(store, max_error_rate=50)
    assert outcome.status == 4, outcome.text
    assert counts(outcome) == {"deleted": 26, "failed": 4}


# --- consistency delay ----------------------------------------------------------------------


def test_consistency_delay(make_store: MakeStore, hurried: RiggedTool) -> None:
    """Deleted records that are still listed for 30 s are deleted, and each is sent once."""
    store = make_store(customers=100, lag=30 / hurried.rig.speed, **QUIET)
    planned = set(store.customers)
    assert_all_gone_once(hurried.run(store), store, planned)
    assert store.deleted_ids() == dict.fromkeys(planned, 1)


def test_resume_within_the_consistency_delay(
    make_store: MakeStore, hurried: RiggedTool
) -> None:
    hurried.rig = Rig(speed=20)
    store = make_store(customers=60, lag=0.6, **QUIET)
    store.faults = [Fault("DELETE", skip=3, hook=lambda _: hurried.signal(signal.SIGTERM))]
    stopped = hurried.run(store, max_concurrent=1)
    assert stopped.status == 143, stopped.text
    resumed = hurried.resume(store, stopped.folder)
    assert resumed.status == 0, resumed.text
    assert counts(resumed) == {"deleted": 60}


def test_second_delete_that_finds_nothing(make_store: MakeStore, hurried: RiggedTool) -> None:
    """A 404 for a record that was listed too long is no failure."""
    hurried.rig = Rig(speed=10)
    store = make_store(customers=0, coupons=8, lag=0.6, **QUIET)
    outcome = hurried.run(store, "--resource", "coupons")
    assert outcome.status == 0, outcome.text
    assert not store.records["coupons"]


# --- records that remain --------------------------------------------------------------------


def test_accepted_records_that_remain(store: FakeStore, hurried: RiggedTool) -> None:
    """N10, N11: then they are gone, or have failed, for a reason; a resume tries them again."""
    ids = list(store.customers)
    sticky = {ids[2], ids[3], ids[28]}
    store.sticky = dict.fromkeys(sticky, math.inf) | {ids[15]: 1}
    outcome = hurried.run(store)
    assert outcome.status == 4, outcome.text
    assert counts(outcome) == {"deleted": 27, "failed": 3}
    assert outcome.failed.keys() == sticky
    assert all(reason.strip() for reason in outcome.failed.values())
    sent = store.deleted_ids()
    assert {number for number in ids if sent[number] == 2} == sticky | {ids[15]}
    last = store.deletes()[-1].number
    assert len([r for r in store.log if read_backs(r) and r.number > last]) >= 2
    again = hurried.resume(store, outcome.folder)
    assert again.status == 4, again.text
    assert again.failed.keys() == sticky
    assert store.deletes()[-1].number > last


def test_unverified_record_is_not_in_failed_csv(
    make_store: MakeStore, hurried: RiggedTool
) -> None:
    """It is not in failed.csv."""
    store = make_store(customers=1, **QUIET)
    store.faults = [
        Fault("DELETE", times=math.inf, commit=True, close="reset"),
        Fault("GET", where=read_backs, skip=1, times=math.inf, close="reset"),
    ]
    outcome = hurried.run(store, max_retries=1)
    assert outcome.status == 5, outcome.text
    assert counts(outcome) == {"unknown": 1}
    assert outcome.folder is not None
    assert not (outcome.folder / "failed.csv").exists() or not outcome.failed


# --- too many failures ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("customers", "failing", "rate", "status"),
    [
        (30, 10, None, 4),  # a third, but no more than 10
        (30, 11, None, 5),
        (110, 11, None, 4),  # 10 %, and not more
        (110, 12, None, 5),
        (100, 11, "10.9 %", 5),
        (100, 11, "11", 4),
        (40, 30, "100", 4),
        (30, 1, "0", 5),
    ],
)
def test_max_error_rate(
    make_store: MakeStore,
    hurried: RiggedTool,
    customers: int,
    failing: int,
    rate: str | None,
    status: int,
) -> None:
    store = make_store(customers=customers, **QUIET)
    victims = list(store.customers)[10 : 10 + failing]
    store.per_item = dict.fromkeys(victims, (409, "this customer is locked"))
    outcome = hurried.run(store, **({} if rate is None else {"max_error_rate": rate}))
    assert outcome.status == status, outcome.text
    failed = outcome.summary["failed"]
    if status == 4:
        assert failed == failing
    else:
        assert (1 if rate == "0" else 11) <= failed <= failing
        assert_says(outcome, "locked")
        assert_resumable(outcome)
    reasons = dict.fromkeys(victims, "409 this customer is locked")
    assert outcome.failed.items() <= reasons.items()


@pytest.mark.parametrize(("fault", "workers"), [({"status": 503}, 1), ({"close": "reset"}, 5)])
def test_five_unanswered_in_a_row(
    make_store: MakeStore, hurried: RiggedTool, fault: dict[str, Any], workers: int
) -> None:
    """Long before each of 30 batches was tried, and without halving any."""
    store = make_store(customers=300, latency=0.1 if workers == 5 else 0.0, **QUIET)
    store.faults = [Fault("DELETE", skip=3, times=math.inf, **fault)]
    outcome = hurried.run(store, max_retries=1, max_concurrent=workers)
    assert outcome.status == 5, outcome.text
    assert_says(outcome, str(fault.get("status", "")))
    assert_resumable(outcome)
    assert 3 + 10 <= len(store.deletes()) <= 3 + 10 + 2 * workers
    assert {len(request.ids) for request in store.deletes()} == {10}
    assert outcome.summary["failed"] == 0
    assert store.log[-1].method == "DELETE"


def test_four_unanswered_in_a_row(make_store: MakeStore, hurried: RiggedTool) -> None:
    """Nor four more after a success; their halves are sent later."""
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


@pytest.mark.parametrize(("customers", "healthy"), [(30, 2), (40, 0)])
def test_unanswered_halves_count(
    make_store: MakeStore, hurried: RiggedTool, customers: int, healthy: int
) -> None:
    """So that a store that is down is noticed with fewer than five batches, too."""
    store = make_store(customers=customers, **QUIET)
    victims = list(store.customers)[10 * healthy :]
    store.faults = [Fault("DELETE", where=names(*victims), times=math.inf, status=500)]
    outcome = hurried.run(store, max_retries=0, max_concurrent=1)
    assert outcome.status == 5, outcome.text
    assert len(store.deletes()) <= healthy + 5 + 1  # one more may be on its way to a worker
    assert set(store.customers) == set(victims)


def test_an_id_outside_the_plan_is_never_sent() -> None:
    """N2: whatever is wrong with the program."""
    nothing: Any = None
    ledger = bulk_delete.Ledger({7})
    executor = bulk_delete.Executor(nothing, nothing, nothing, ledger, nothing, 0.0)
    with pytest.raises(ValueError, match="not in the plan"):
        executor.send_batches([7, 8])


# --- one response that is not true -----------------------------------------------------------


def test_stray_empty_read_on_resume_omits_no_record(
    make_store: MakeStore, hurried: RiggedTool
) -> None:
    """N11: an absence that nothing explains is read twice."""
    store = make_store(customers=600, **QUIET)
    planned = hurried.run(store, "--dry-run")

    def reads_a_chunk(request: Request) -> bool:
        return read_backs(request) and len(request.ids) == 250

    store.faults = [Fault(where=reads_a_chunk, skip=1, status=200, body=EMPTY)]
    outcome = hurried.resume(store, planned.folder)
    assert outcome.status == 0, outcome.text
    assert counts(outcome) == {"deleted": 600}
    assert not store.customers


@pytest.mark.parametrize("resource", ["promotions", "gift_certificates", "coupons", "pages"])
def test_a_store_that_answers_404_to_everything_has_deleted_nothing(
    make_store: MakeStore, hurried: RiggedTool, resource: str
) -> None:
    """N10, N11: a record that the list has is read too."""
    store = make_store(**{"customers": 0, resource: 120} | QUIET)
    body = [{"status": 404, "message": "Store not found"}]
    late = Fault(
        where=lambda _: len(store.deletes()) >= 2, times=math.inf, status=404, body=body
    )
    store.faults = [late]
    outcome = hurried.run(store, "--resource", resource)
    assert outcome.status == 5, outcome.text
    gone = 120 - len(store.records[resource])
    assert outcome.summary["deleted"] <= gone
    assert outcome.summary["already_gone"] == 0


def test_the_first_batch_must_be_verified_before_the_second_is_sent(
    make_store: MakeStore, hurried: RiggedTool
) -> None:
    """N10: a read that cannot be relied on confirms nothing."""
    store = make_store(customers=60, **QUIET)

    def reads_later(request: Request) -> bool:
        return read_backs(request) and bool(store.deletes())

    body = {"data": [], "meta": {}}
    store.faults = [Fault(where=reads_later, times=math.inf, status=200, body=body)]
    outcome = hurried.run(store)
    assert outcome.status == 5, outcome.text
    assert len(store.deletes()) == 1
    assert counts(outcome) == {"unknown": 10, "not_attempted": 50}


def test_parents_follow_a_child_category_that_was_deleted_late(
    make_store: MakeStore, hurried: RiggedTool
) -> None:
    """A child that was not deleted at first is deleted in verification, then its parents."""
    store = make_store(customers=0, categories=6, products=0, **QUIET)
    line = sorted(store.records["categories"])
    for parent, child in zip([0, *line], line, strict=False):
        store.records["categories"][child]["parent_id"] = parent
    store.faults = [Fault("DELETE", where=names(line[-1]), times=6, status=500)]
    outcome = hurried.run(store, "--resource", "categories")
    assert outcome.status == 0, outcome.text
    assert counts(outcome) == {"deleted": 6}


def test_parents_of_a_category_that_remains(make_store: MakeStore, hurried: RiggedTool) -> None:
    """They are not sent, and the reason of each names the child right below it."""
    store = make_store(customers=0, categories=5, products=0, **QUIET)
    top, middle, child, *_ = sorted(store.records["categories"])
    store.records["categories"][middle]["parent_id"] = top
    store.records["categories"][child]["parent_id"] = middle
    rejected = {"status": 422, "body": {"title": "locked"}}
    store.faults = [Fault("DELETE", where=names(child), times=math.inf, **rejected)]  # type: ignore[arg-type]
    outcome = hurried.run(store, "--resource", "categories")
    assert outcome.status == 4, outcome.text
    assert not store.deleted_ids().keys() & {top, middle}
    assert outcome.failed == {
        child: "422 locked",
        middle: f"its child {child} was not deleted",
        top: f"its child {middle} was not deleted",
    }


def test_a_store_that_answers_only_small_pages(
    make_store: MakeStore, hurried: RiggedTool
) -> None:
    """It is listed, verified and resumed with 50 records a page."""
    for resource in ("customers", "promotions"):
        store = make_store(**{"customers": 0, resource: 120}, **QUIET)

        def is_large(request: Request) -> bool:
            return request.query.get("limit") == "250" and "id:in" not in request.query

        down = {"status": 504, "body": {}}
        options = ("--resource", resource, "--no-backup")
        store.faults = [Fault("GET", where=is_large, times=math.inf, **down)]  # type: ignore[arg-type]
        folder = hurried.run(store, *options, "--dry-run", max_retries=0).folder
        outcome = hurried.run(store, "--resume", folder or "", max_retries=0)
        assert outcome.status == 0, outcome.text
        assert counts(outcome) == {"deleted": 120}


@pytest.mark.parametrize("fault", [{"close": "reset"}, {"status": 504, "body": {}}], ids=str)
def test_second_delete_that_acts_without_an_answer(
    make_store: MakeStore, hurried: RiggedTool, fault: dict[str, Any]
) -> None:
    """It is read once more: only what still exists then has failed."""
    store = make_store(customers=30, **QUIET)
    number = sorted(store.customers)[14]

    def is_meant(request: Request) -> bool:
        return number in request.ids

    def is_verifying() -> bool:
        alone = [r.number for r in store.deletes() if r.ids == (number,)]
        read = [r.number for r in store.log if r.method == "GET" and number in r.ids]
        return bool(alone) and read[-1] > alone[0]

    lost = Fault(
        "DELETE",
        where=lambda r: is_meant(r) and is_verifying(),
        times=math.inf,
        commit=True,
        **fault,
    )
    store.faults = [lost, Fault("DELETE", where=is_meant, times=math.inf, **fault)]
    outcome = hurried.run(store, max_retries=1)
    assert (outcome.status, number in store.customers) == (0, False), outcome.text
    assert lost.seen


def test_unsent_batches_do_not_advance_progress(tmp_path: Path) -> None:
    """After a stop they are neither counted nor in the journal."""
    stop, progress = bulk_delete.Stop(), bulk_delete.Progress()
    progress.begin(3)

    def delete_batch(batch: bulk_delete.Batch, journal: bulk_delete.Journal) -> Any:
        rulings = []
        if 7 in batch:
            journal.sent(batch)
            rulings = [bulk_delete.Ruling(bulk_delete.Action.PAUSE, 429, "429", False)]
        stop.set(bulk_delete.RunError("Stopped."))
        return bulk_delete.batch_result(batch, rulings, is_complete=False)

    store: Any = SimpleNamespace(delete_batch=delete_batch, batch_size=1)
    workers = bulk_delete.Workers(1, stop, lambda: None)
    ledger, journal = bulk_delete.Ledger({7, 8, 9}), bulk_delete.Journal(tmp_path / "journal")
    executor = bulk_delete.Executor(store, workers, progress, ledger, journal, 0.0)
    with pytest.raises(bulk_delete.RunError, match="Stopped"):
        executor.send_batches([7, 8, 9])
    assert progress.done == 0
    assert ledger.counts()["not_attempted"] == 3
    lines = [json.loads(line) for line in (tmp_path / "journal").read_text().splitlines()]
    assert [line.get("sent") or line["ids"] for line in lines] == [[7], [7]]


def test_a_resume_checks_reads_even_if_all_records_were_sent(
    make_store: MakeStore, hurried: RiggedTool
) -> None:
    """N10, N11: else a store that applies five ids of a filter seems to have deleted all."""
    store = make_store(customers=60, **QUIET)
    planned = hurried.run(store, "--dry-run")
    assert planned.folder is not None
    line = json.dumps({"sent": list(store.customers)}) + "\n"  # as if killed in flight
    with open(planned.folder / "journal.jsonl", "a", encoding="utf-8") as file:
        file.write(line)
    store.faults = cutting(lambda ids: ids[:5], "GET", "DELETE")
    outcome = hurried.resume(store, planned.folder)
    assert outcome.status == 0, outcome.text
    assert not store.customers
    assert counts(outcome) == {"deleted": 60}
