"""The main job, end to end: the real tool, the real SDK, real sockets."""

from __future__ import annotations

from collections.abc import Callable

from tests.conftest import Tool
from tests.fake_store import FakeStore


def test_deletes_all_customers_once(make_store: Callable[..., FakeStore], tool: Tool) -> None:
    """1,003 customers: none left, each id sent once, no 429, few connections, all proven."""
    store = make_store(customers=1003, quota=150, window=3.0, latency=0.01)
    planned = set(store.customers)
    outcome = tool(store, None, "--yes")
    assert outcome.status == 0, outcome.text
    assert not store.customers
    assert store.deleted_ids() == dict.fromkeys(planned, 1)
    assert not [request for request in store.log if request.status == 429]
    assert store.max_in_flight <= 5
    assert store.connections <= 6
    summary = outcome.summary
    assert (summary["selected"], summary["deleted"], summary["verified"]) == (1003, 1003, True)
    assert set(outcome.plan["ids"]) == planned
