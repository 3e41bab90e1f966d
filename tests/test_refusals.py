"""Ends that no other test reaches."""

from __future__ import annotations

import os

import pytest

from tests.fake_store import FakeStore
from tests.rigged import QUIET, MakeStore, RiggedTool, assert_says


@pytest.fixture
def store(make_store: MakeStore) -> FakeStore:
    return make_store(customers=30, **QUIET)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--filter", "name:like=a", "--filter", "name:like=b"), "twice"),
        (("--spare-with-orders", "--resource", "products"), "--spare-with-orders"),
        (("--runs-dir", ""), "--runs-dir"),
        (("--runs-dir", "store.ini/runs"), "--runs-dir"),
    ],
)
def test_usage_that_cannot_be_meant(
    store: FakeStore, hurried: RiggedTool, options: tuple[str, ...], word: str
) -> None:
    """It is refused with exit status 2, names the option, and sends nothing."""
    outcome = hurried.run(store, *options)
    assert outcome.status == 2, outcome.text
    assert word in outcome.err
    assert not store.log


def test_a_reserve_that_leaves_nothing(store: FakeStore, hurried: RiggedTool) -> None:
    """min_requests_remaining above the store's quota is an error that names it, not a wait for ever."""
    outcome = hurried.run(store, min_requests_remaining=20_000)
    assert outcome.status == 2, outcome.text
    assert_says(outcome, "min_requests_remaining")
    assert not store.deletes()


@pytest.mark.parametrize("line", ["{}}", "[1]", '{"sent": 5}', '{"acted": [[1]]}'])
def test_a_line_that_is_no_journal_s(store: FakeStore, hurried: RiggedTool, line: str) -> None:
    """A whole line of the journal that nobody can have written: nothing is sent."""
    first = hurried.run(store, "--dry-run")
    assert first.folder is not None
    (first.folder / "summary.json").unlink()  # it is refused before there is another
    (first.folder / "journal.jsonl").write_text(f"{line}\n")
    seen = len(store.log)
    outcome = hurried.resume(store, first.folder)
    assert outcome.status == 3, outcome.text
    assert "line 1" in outcome.err
    assert len(store.log) == seen


def test_certificates_that_are_not_there(store: FakeStore, hurried: RiggedTool) -> None:
    """REQUESTS_CA_BUNDLE that names no file ends the run with 2, and nothing is sent."""
    config = store.config(hurried.folder)
    outcome = hurried(store, config, "--yes", REQUESTS_CA_BUNDLE=os.path.join(hurried.folder, "none.pem"))
    assert outcome.status == 2, outcome.text
    assert_says(outcome, "REQUESTS_CA_BUNDLE")
    assert not store.log
