"""The store as it is reached: connections, certificates, and answers that break HTTP."""

from __future__ import annotations

import os

import pytest

from tests.fake_store import FakeStore, Fault
from tests.rigged import QUIET, MakeStore, RiggedTool, assert_says


@pytest.mark.parametrize("workers", [1, 2])
def test_max_concurrent(make_store: MakeStore, tool: RiggedTool, workers: int) -> None:
    """No more requests are in flight than max_concurrent, and no more connections opened."""
    store = make_store(customers=200, latency=0.03, **QUIET)
    outcome = tool(store, None, "--yes", "--max-concurrent", str(workers))
    assert outcome.status == 0
    assert store.max_in_flight == workers
    assert store.connections <= workers + 1


def test_an_answer_with_broken_headers_is_tried_again(store: FakeStore, hurried: RiggedTool) -> None:
    """A7, A12: two lengths in one answer prove nothing, so the DELETE goes again; what is gone is deleted."""
    broken = {"Content-Length": "0, 7"}
    store.faults.append(Fault(method="DELETE", times=2, commit=True, status=204, headers=broken))
    outcome = hurried.run(store)
    assert outcome.status == 0, outcome.text
    assert outcome.summary["deleted"] == 30
    assert outcome.summary["retries"] >= 2


def test_certificates_that_are_not_there(store: FakeStore, hurried: RiggedTool) -> None:
    """A20: REQUESTS_CA_BUNDLE that names no file ends the run with 2, and nothing is sent."""
    config = store.config(hurried.folder)
    outcome = hurried(store, config, "--yes", REQUESTS_CA_BUNDLE=os.path.join(hurried.folder, "none.pem"))
    assert outcome.status == 2, outcome.text
    assert_says(outcome, "REQUESTS_CA_BUNDLE")
    assert not store.log
