"""Rate limiting, end to end: stores whose limit counts items, the reserve, and odd quota headers."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest

from tests.fake_store import FakeStore, Fault, Request
from tests.rigged import QUIET, MakeStore, Outcome, RiggedTool, assert_all_gone_once, assert_says

# --- stores whose limit counts items --------------------------------------------------------------


def partial_answers(store: FakeStore) -> int:
    """DELETEs of which some ids were done, and the others told to wait."""
    return sum(0 < request.cost < len(request.ids) for request in store.deletes() if request.counted)


def done(store: FakeStore) -> Counter[int]:
    """How often each id was done: the store does as many of a DELETE's ids as it takes tokens."""
    return Counter(n for request in store.deletes() if request.counted for n in request.ids[: request.cost])


def assert_all_gone(store: FakeStore, outcome: Outcome, planned: set[int]) -> None:
    """All are gone, each was done once, and none of it was an error."""
    assert outcome.status == 0, outcome.text
    assert not store.customers
    assert done(store) == dict.fromkeys(planned, 1)
    summary = outcome.summary
    assert (summary["deleted"], summary["failed"], summary["retries"]) == (len(planned), 0, 0)
    assert summary["verified"] is True
    assert outcome.failed == {}


def test_items_are_paced_with_the_option(make_store: MakeStore, tool: RiggedTool) -> None:
    """150 items a window and count_items: 600 are gone, with at most three partial answers."""
    store = make_store(customers=600, quota=150, window=1.0, count_items=True)
    planned = set(store.customers)
    outcome = tool(store, store.config(tool.folder, count_items=True), "--yes")
    assert_all_gone(store, outcome, planned)
    assert partial_answers(store) <= 3
    assert max(store.windows().values()) <= 150


@pytest.mark.parametrize(("option", "latency"), [(True, 0.05), (False, 0.05), (False, 0.0)])
def test_another_app_takes_items_too(
    make_store: MakeStore, tool: RiggedTool, option: bool, latency: float
) -> None:
    """With another app on the store's quota batches are done in part, and all are gone in the end."""
    store = make_store(customers=150, quota=60, window=1.0, latency=latency, count_items=True)
    planned = set(store.customers)
    with store.other_app(per_second=20):
        outcome = tool(store, store.config(tool.folder, count_items=option), "--yes")
    assert_all_gone(store, outcome, planned)


def partly(store: FakeStore, times: int, items: int) -> Fault:
    """The first DELETEs find tokens for so many of their items only, whatever time it is."""

    def hook(request: Request) -> None:
        request.cost = items

    return Fault("DELETE", times=times, hook=hook, quota_headers=False)


@pytest.mark.parametrize("option", [True, False])
@pytest.mark.parametrize(
    ("shape", "status"), [("errors", 207), ("errors", 422), ("meta", 422), ("rows", 200)]
)
def test_every_shape_of_a_partial_limit(
    make_store: MakeStore, hurried: RiggedTool, shape: str, status: int, option: bool
) -> None:
    """A2: however the store tells which ids have to wait, only those are sent again.

    The first batch goes alone, so the second of those requests is for its last three, and is done whole.
    """
    store = make_store(customers=60, count_items=True, **QUIET)
    store.per_item_shape, store.per_item_status = shape, status
    store.faults = [partly(store, 4, 7)]
    planned = set(store.customers)
    outcome = hurried.run(store, count_items=option)
    assert_all_gone(store, outcome, planned)
    assert partial_answers(store) == 3
    assert outcome.summary["rate_limited"] == 3


@pytest.mark.parametrize("option", [True, False])
def test_a_window_smaller_than_a_batch(make_store: MakeStore, tool: RiggedTool, option: bool) -> None:
    """Where a whole window has fewer items than a batch, smaller ones go."""
    store = make_store(customers=20, quota=8, window=1.0, count_items=True)
    planned = set(store.customers)
    outcome = tool(store, store.config(tool.folder, count_items=option), "--yes")
    assert_all_gone(store, outcome, planned)


def test_items_one_of_which_is_refused(make_store: MakeStore, hurried: RiggedTool) -> None:
    """A2: beside those told to wait, the one that is refused fails alone, with the store's words."""
    store = make_store(customers=60, count_items=True, **QUIET)
    bad = list(store.customers)[4]
    store.per_item = {bad: (409, "is locked")}
    store.faults = [partly(store, 1, 7)]
    outcome = hurried.run(store)
    assert outcome.status == 4, outcome.text
    assert list(store.customers) == [bad]
    assert outcome.failed.keys() == {bad}
    assert "is locked" in outcome.failed[bad]
    assert outcome.summary["deleted"] == 59
    assert outcome.summary["rate_limited"] == 1


def test_one_by_one_costs_one(make_store: MakeStore, tool: RiggedTool) -> None:
    """A DELETE by path id costs one item: forty coupons are not sent slower than they may."""
    store = make_store(customers=3, coupons=40, quota=50, window=1.0, count_items=True)
    config = store.config(tool.folder, count_items=True, resource="coupons")
    outcome: Any = tool(store, config, "--yes")
    assert outcome.status == 0, outcome.text
    assert not store.records["coupons"]
    assert {request.cost for request in store.deletes()} == {1}
    assert len(store.customers) == 3


# --- the reserve ----------------------------------------------------------------------------------


def test_a_reserve_above_the_guess_waits_for_the_stores_word(make_store: MakeStore, tool: RiggedTool) -> None:
    """A reserve of 200 is fine where the quota turns out to be 450, and refused where it is 150."""
    store = make_store(customers=60, quota=450)
    assert tool.run(store, min_requests_remaining=200).status == 0
    store = make_store(customers=60, quota=150)
    outcome = tool.run(store, min_requests_remaining=200)
    assert outcome.status == 2
    assert_says(outcome, "min_requests_remaining")
    assert not store.deletes()


# --- headers --------------------------------------------------------------------------------------


GARBAGE = ["", "-1", "1.5", "NaN", "1e999", "9" * 400, "150, 150", "½", "²", "0x10", "null", "٣"]


QUOTA_HEADERS = [
    f"X-Rate-Limit-{name}" for name in ("Time-Window-Ms", "Time-Reset-Ms", "Requests-Quota", "Requests-Left")
]


SOUND = dict(zip(QUOTA_HEADERS, ("30000", "20000", "150", "120"), strict=True))


def test_garbage_in_the_quota_headers(make_store: MakeStore, hurried: RiggedTool) -> None:
    """Values that make no sense are as good as none: the run goes on, and ends well."""
    store = make_store(customers=120, **QUIET)
    planned = set(store.customers)
    values = [value.encode().decode("latin-1") for value in GARBAGE]
    store.faults = [Fault(headers={header: value}) for header in QUOTA_HEADERS for value in values]
    outcome = hurried.run(store, "--batch-size", "2", no_backup=True)
    assert_all_gone_once(outcome, store, planned)
    assert all(fault.seen for fault in store.faults)


@pytest.mark.parametrize("header", QUOTA_HEADERS)
def test_a_quota_header_that_is_always_garbage(store: FakeStore, hurried: RiggedTool, header: str) -> None:
    """One header of which no value ever makes sense leaves the others as they are."""
    planned = set(store.customers)
    store.faults = [Fault(times=math.inf, headers={header: "garbage"})]
    assert_all_gone_once(hurried.run(store, no_backup=True), store, planned)


SOME = [(), QUOTA_HEADERS[:1], QUOTA_HEADERS[1:2], QUOTA_HEADERS[2:], QUOTA_HEADERS[1:]]


@pytest.mark.parametrize("present", SOME, ids=lambda some: "+".join(n[13:] for n in some) or "none")
def test_only_some_of_the_quota_headers(
    make_store: MakeStore, hurried: RiggedTool, present: list[str]
) -> None:
    """With some of the headers missing, the run goes on with the others; test_bucket.py has all cases."""
    store = make_store(customers=12, **QUIET)
    planned = set(store.customers)
    headers = {name: SOUND[name] for name in present}
    store.faults = [Fault(times=math.inf, quota_headers=False, headers=headers)]
    assert_all_gone_once(hurried.run(store, no_backup=True), store, planned)
