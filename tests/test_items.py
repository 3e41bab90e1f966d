"""Stores whose limit counts items: a batch costs its ids, and a part of it may be told to wait."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.fake_store import FakeStore
from tests.rigged import MakeStore, Outcome, RiggedTool


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


def test_900_customers_with_the_option(make_store: MakeStore, tool: RiggedTool) -> None:
    """150 items a window and count_items: 900 are gone, with at most three partial answers."""
    store = make_store(customers=900, quota=150, window=1.0, count_items=True)
    planned = set(store.customers)
    outcome = tool(store, store.config(tool.folder, count_items=True), "--yes")
    assert_all_gone(store, outcome, planned)
    assert partial_answers(store) <= 3
    assert max(store.windows().values()) <= 150


def test_900_customers_without_the_option(make_store: MakeStore, tool: RiggedTool) -> None:
    """The same store, not announced: 900 are gone too, and only what was told to wait went again."""
    store = make_store(customers=900, quota=150, window=1.0, count_items=True)
    planned = set(store.customers)
    outcome = tool(store, None, "--yes")
    assert_all_gone(store, outcome, planned)


@pytest.mark.parametrize("option", [True, False])
@pytest.mark.parametrize("latency", [0.0, 0.05])
def test_another_app_takes_items_too(
    make_store: MakeStore, tool: RiggedTool, option: bool, latency: float
) -> None:
    """With another app on the store's quota batches are done in part, and all are gone in the end."""
    store = make_store(customers=300, quota=60, window=0.8, latency=latency, count_items=True)
    planned = set(store.customers)
    with store.other_app(per_second=20):
        outcome = tool(store, store.config(tool.folder, count_items=option), "--yes")
    assert_all_gone(store, outcome, planned)


@pytest.mark.parametrize("option", [True, False])
@pytest.mark.parametrize(
    ("shape", "status"), [("errors", 207), ("errors", 422), ("meta", 422), ("rows", 200)]
)
def test_every_shape_of_a_partial_limit(
    make_store: MakeStore, tool: RiggedTool, shape: str, status: int, option: bool
) -> None:
    """However the store tells which ids have to wait, only those are sent again."""
    store = make_store(customers=60, quota=23, window=0.8, count_items=True)
    store.per_item_shape, store.per_item_status = shape, status
    planned = set(store.customers)
    outcome = tool(store, store.config(tool.folder, count_items=option), "--yes")
    assert_all_gone(store, outcome, planned)
    if not option:
        assert partial_answers(store)
        assert outcome.summary["rate_limited"]


@pytest.mark.parametrize("option", [True, False])
def test_a_window_smaller_than_a_batch(make_store: MakeStore, tool: RiggedTool, option: bool) -> None:
    """Where a whole window has fewer items than a batch, smaller ones go."""
    store = make_store(customers=30, quota=8, window=0.6, count_items=True)
    planned = set(store.customers)
    outcome = tool(store, store.config(tool.folder, count_items=option), "--yes")
    assert_all_gone(store, outcome, planned)


def test_items_one_of_which_is_refused(make_store: MakeStore, tool: RiggedTool) -> None:
    """Beside those told to wait, the one that is refused fails alone, with the store's words."""
    store = make_store(customers=60, quota=23, window=0.8, count_items=True)
    bad = list(store.customers)[41]
    store.per_item = {bad: (409, "is locked")}
    outcome = tool(store, None, "--yes")
    assert outcome.status == 4, outcome.text
    assert list(store.customers) == [bad]
    assert outcome.failed.keys() == {bad}
    assert "is locked" in outcome.failed[bad]
    assert outcome.summary["deleted"] == 59


def test_one_by_one_costs_one(make_store: MakeStore, tool: RiggedTool) -> None:
    """A DELETE by path id costs one item: forty coupons are not sent slower than they may."""
    store = make_store(customers=3, coupons=40, quota=50, window=1.0, count_items=True)
    config = store.config(tool.folder, count_items=True, resource="coupons")
    outcome: Any = tool(store, config, "--yes")
    assert outcome.status == 0, outcome.text
    assert not store.records["coupons"]
    assert {request.cost for request in store.deletes()} == {1}
    assert len(store.customers) == 3
