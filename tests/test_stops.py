"""Stopped early: by a signal, or by an answer; what is in flight is awaited, and nothing more is sent."""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fake_store import FakeStore, Fault, Request
from tests.rigged import (
    QUIET,
    SIGNALS,
    MakeStore,
    RiggedTool,
    Tool,
    assert_resumable,
    assert_says,
    counts,
    names,
    posix,
    read_backs,
    sent_after,
    wait_until,
    waiting,
)

LONG_ENOUGH = 1.0  # seconds in which the tool's main thread surely sees a signal
BY_SIGNAL = pytest.mark.parametrize(
    ("signum", "status"), SIGNALS.items(), ids=lambda value: getattr(value, "name", None)
)


def answered(tool: Tool, number: int) -> bool:
    """Whether the journal says what was answered to a DELETE with that id."""
    paths: list[Path] = list(tool.runs.glob("*/journal.jsonl"))
    text = paths[0].read_text() if paths else ""
    entries = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
    return any(number in entry.get("ids", ()) for entry in entries)


# --- by an answer ------------------------------------------------------------------------------


@pytest.mark.parametrize("why", ["a fatal answer", "the error rate"])
def test_an_answer_in_the_middle(make_store: MakeStore, hurried: RiggedTool, why: str) -> None:
    """A15, A16, N8: the other four in flight are awaited, and nothing else is sent; a resume goes on."""
    store = make_store(customers=200, **QUIET)
    victim = list(store.customers)[55]  # of the last of the first five batches after the proven one
    released = threading.Event()
    holding = Fault(
        "DELETE",
        skip=1,
        times=math.inf,
        where=lambda request: victim not in request.ids,
        hook=waiting(released),
    )
    store.faults = [holding]
    if why == "the error rate":
        store.per_item = {victim: (409, "this customer is locked")}
    else:
        store.faults += [Fault("DELETE", where=names(victim), status=401)]
    config = store.config(hurried.folder, max_error_rate=0)
    process = hurried.start(store, config, "--yes")
    wait_until(lambda: answered(hurried, victim))
    time.sleep(LONG_ENOUGH / 2)  # the flag is set right after that line
    released.set()
    outcome = hurried.finish(process)
    assert outcome.status == 5, outcome.text
    # Its worker may take the next batch before the main thread has counted the failure.
    assert len(store.deletes()) <= (7 if why == "the error rate" else 6)
    assert store.log[-1].method == "DELETE"
    assert_says(outcome, "locked" if why == "the error rate" else "401")
    assert_resumable(outcome)
    sent = sum(len(request.ids) for request in store.deletes() if request.status == 204)
    expected = {"deleted": 10, "unknown": sent - 10, "not_attempted": 200 - sent}
    if why == "the error rate":
        expected = {"deleted": 10, "unknown": sent - 1, "failed": 1, "not_attempted": 190 - sent}
    assert counts(outcome) == expected
    store.faults, store.per_item = [], {}
    assert hurried.resume(store, outcome.folder).status == 0
    assert not store.customers


# --- by a signal -------------------------------------------------------------------------------


def assert_stopped_while_deleting(
    store: FakeStore, tool: Tool, signum: int, at: int, kill: Callable[[], None]
) -> None:
    """The n-th DELETE of 200 customers brings the signal, and all others are held until it was seen."""
    released = threading.Event()
    moments: list[float] = []

    def stop(_request: Request) -> None:
        moments.append(time.monotonic())
        kill()
        time.sleep(LONG_ENOUGH)
        moments.append(time.monotonic())
        released.set()

    store.faults = [
        Fault("DELETE", skip=at - 1, hook=stop),
        Fault("DELETE", skip=at - 1, times=math.inf, hook=waiting(released)),
    ]
    outcome = tool.finish(tool.start(store, store.config(tool.folder), "--yes"))
    assert outcome.status == 128 + signum, outcome.text
    assert sent_after(store, moments[0]) <= 4
    assert sent_after(store, moments[1]) == 0
    assert all(request.status == 204 for request in store.deletes())  # each one's answer was awaited
    assert store.log[-1].method == "DELETE"
    assert (outcome.summary["status"], outcome.summary["verified"]) == ("interrupted", False)
    gone = sum(store.deleted_ids().values())
    expected = {"unknown": gone, "not_attempted": 200 - gone}
    if at > 1:  # the first batch was proven
        expected = {"deleted": 10, "unknown": gone - 10, "not_attempted": 200 - gone}
    assert counts(outcome) == expected
    assert_says(outcome)
    assert_resumable(outcome)


@posix
@BY_SIGNAL
def test_a_signal_while_deleting(
    make_store: MakeStore, installed: Tool, monkeypatch: pytest.MonkeyPatch, signum: int, status: int
) -> None:
    """N8: a signal ends the run with 128 + n: what is in flight is awaited, and nothing else is sent."""
    store = make_store(customers=200, **QUIET)
    pids: list[int] = []
    start = installed.start

    def started(*args: object) -> object:
        process = start(*args)  # type: ignore[arg-type]
        pids.append(process.pid)
        return process

    monkeypatch.setattr(installed, "start", started)

    def kill() -> None:
        wait_until(lambda: bool(pids))
        os.kill(pids[0], signum)

    assert status == 128 + signum
    assert_stopped_while_deleting(store, installed, signum, 6, kill)


@posix
def test_a_signal_on_the_first_delete(make_store: MakeStore, hurried: RiggedTool) -> None:
    """N8: the first DELETE, which goes alone, is the last when the signal comes with it."""
    store = make_store(customers=200, **QUIET)
    assert_stopped_while_deleting(store, hurried, 15, 1, lambda: hurried.signal(signal.SIGTERM))
    assert len(store.deletes()) == 1


@posix
@BY_SIGNAL
def test_a_signal_while_listing(make_store: MakeStore, tool: RiggedTool, signum: int, status: int) -> None:
    """A signal during the listing ends it: nothing is planned, nothing deleted, nothing to resume."""
    store = make_store(customers=2000, **QUIET)
    released = threading.Event()
    moments: list[float] = []

    def stop(_request: Request) -> None:
        tool.signal(signum)
        moments.append(time.monotonic() + LONG_ENOUGH)
        time.sleep(LONG_ENOUGH)
        released.set()

    store.faults = [
        Fault(path="v3/customers", skip=3, hook=stop),
        Fault(path="v3/customers", skip=3, times=math.inf, hook=waiting(released)),
    ]
    outcome = tool.run(store)
    assert outcome.status == status, outcome.text
    assert not [request for request in store.log if request.arrived > moments[0]]
    assert not store.deletes()
    summary = outcome.summary
    assert (summary["status"], summary["selected"], summary["resume"]) == ("interrupted", 0, None)
    assert outcome.folder
    assert not (outcome.folder / "plan.json").exists()


@posix
def test_a_signal_while_verifying(make_store: MakeStore, hurried: RiggedTool) -> None:
    """N9: no read-back in flight is awaited: what was read is deleted, the rest unknown; a resume ends it."""
    store = make_store(customers=750, **QUIET)

    def stop(_request: Request) -> None:
        hurried.signal(signal.SIGINT)
        time.sleep(LONG_ENOUGH)

    store.faults = [Fault(where=read_backs, skip=3, hook=stop)]
    outcome = hurried.run(store, "--max-concurrent", "1")
    summary = outcome.summary
    assert (outcome.status, summary["status"]) == (130, "interrupted")
    assert counts(outcome) == {"deleted": 250, "unknown": 500}
    assert_resumable(outcome)
    assert hurried.resume(store, outcome.folder).status == 0


@posix
def test_a_signal_in_a_long_wait(store: FakeStore, tool: RiggedTool) -> None:
    """A run that was told to wait for ten minutes ends at once when it is asked to, and sends nothing."""
    told = {"X-Retry-After": "600"}
    store.faults = [Fault("DELETE", times=math.inf, status=429, headers=told, quota_headers=False)]
    process = tool.start(store, store.config(tool.folder), "--yes", "--max-concurrent", "1")
    wait_until(lambda: any(request.status == 429 for request in store.log))
    sent = len(store.log)
    tool.signal(signal.SIGTERM)
    outcome = tool.finish(process)
    assert outcome.status == 143
    assert len(store.log) == sent
    assert counts(outcome) == {"not_attempted": 30}
    assert outcome.summary["rate_limited"] == 1


@posix
def test_the_second_signal_may_be_another(make_store: MakeStore, installed: Tool) -> None:
    """SIGTERM after SIGINT leaves at once, though DELETEs are still awaited."""
    store = make_store(customers=600, **QUIET)
    store.faults = [Fault("DELETE", skip=1, times=math.inf, delay=60)]
    process = installed.start(store, store.config(installed.folder), "--yes")
    wait_until(lambda: len(store.deletes()) == 6)
    process.send_signal(signal.SIGINT)
    time.sleep(LONG_ENOUGH)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) in (130, 143)
    outcome = installed.finish(process)
    assert counts(outcome) == {"deleted": 10, "unknown": 50, "not_attempted": 540}
    assert outcome.summary["status"] == "interrupted"
