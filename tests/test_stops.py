"""Runs that are stopped by a signal or an answer: no DELETE leaves after it."""

from __future__ import annotations

import itertools
import json
import math
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fake_store import Fault, Request
from tests.launcher import Rig
from tests.rigged import (
    QUIET,
    SIGNALS,
    MakeStore,
    RiggedTool,
    Tool,
    assert_resumable,
    assert_says,
    counts,
    linux,
    listings,
    names,
    posix,
    read_backs,
    sent_after,
    wait_until,
    waiting,
)

LONG_ENOUGH = 0.7  # seconds in which the tool's main thread surely sees a signal


def has_answer(tool: Tool, number: int) -> bool:
    """Whether the journal has the answer to a DELETE with that id."""
    paths: list[Path] = list(tool.runs.glob("*/journal.jsonl"))
    text = paths[0].read_text() if paths else ""
    entries = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
    return any(number in entry.get("ids", ()) for entry in entries)


@pytest.mark.parametrize("why", ["a fatal answer", "the error rate"])
def test_answer_that_ends_the_run(make_store: MakeStore, hurried: RiggedTool, why: str) -> None:
    """N8: the other four are awaited, and nothing else is sent."""
    store = make_store(customers=200, **QUIET)
    victim = list(store.customers)[55]  # in the last of the first five batches in flight
    released = threading.Event()
    store.faults = [
        Fault(
            "DELETE",
            skip=1,
            times=math.inf,
            where=lambda request: victim not in request.ids,
            hook=waiting(released),
        )
    ]
    if why == "the error rate":
        store.per_item = {victim: (409, "this customer is locked")}
    else:
        store.faults += [Fault("DELETE", where=names(victim), times=math.inf, status=402)]
    process = hurried.start(store, store.config(hurried.folder, max_error_rate=0), "--yes")
    wait_until(lambda: has_answer(hurried, victim))
    time.sleep(LONG_ENOUGH / 2)  # the stop flag is set right after that line
    released.set()
    outcome = hurried.finish(process)
    assert outcome.status == 5, outcome.text
    # Its worker may take the next batch before the main thread has counted the failure.
    assert len(store.deletes()) <= (7 if why == "the error rate" else 6)
    assert store.log[-1].method == "DELETE"
    assert_says(outcome, "locked" if why == "the error rate" else "402")
    assert_resumable(outcome)
    deleted = sum(len(request.ids) for request in store.deletes() if request.status == 204)
    rejected = {"failed": 1} if why == "the error rate" else {}
    unknown = deleted - 10 + 9 * len(rejected)
    remaining = 190 - unknown - len(rejected)
    assert counts(outcome) == {
        "deleted": 10,
        **rejected,
        "unknown": unknown,
        "not_attempted": remaining,
    }


@posix
@pytest.mark.parametrize(
    ("signum", "at"), [(signal.SIGTERM, 1), *[(signum, 6) for signum in SIGNALS]]
)
def test_signal_while_deleting(
    make_store: MakeStore, tool: RiggedTool, signum: int, at: int
) -> None:
    """N8: with the n-th DELETE (the first goes alone): those in flight are the last."""
    store = make_store(customers=200, **QUIET)
    released = threading.Event()
    moments: list[float] = []

    def stop(_request: Request) -> None:
        moments.append(time.monotonic())
        tool.signal(signum)
        time.sleep(LONG_ENOUGH)
        moments.append(time.monotonic())
        released.set()

    store.faults = [
        Fault("DELETE", skip=at - 1, hook=stop),
        Fault("DELETE", skip=at - 1, times=math.inf, hook=waiting(released)),
    ]
    outcome = tool.run(store)
    assert outcome.status == 128 + signum, outcome.text
    assert sent_after(store, moments[0]) <= 4 * (at > 1)
    assert sent_after(store, moments[1]) == 0
    assert all(request.status == 204 for request in store.deletes())
    assert store.log[-1].method == "DELETE"
    assert (outcome.summary["status"], outcome.summary["verified"]) == ("interrupted", False)
    sent = sum(store.deleted_ids().values())
    verified = {"deleted": 10} if at > 1 else {}
    unknown = sent - 10 * len(verified)
    assert counts(outcome) == {**verified, "unknown": unknown, "not_attempted": 200 - sent}
    assert_says(outcome)
    assert_resumable(outcome)


@posix
@pytest.mark.parametrize("signum", SIGNALS)
def test_signal_while_listing(make_store: MakeStore, tool: RiggedTool, signum: int) -> None:
    """N9: nothing is planned, nothing deleted, and reads in flight are not awaited."""
    store, ended = make_store(customers=2000, **QUIET), threading.Event()

    def stop(request: Request) -> None:
        tool.signal(signum)
        waiting(ended)(request)

    store.faults = [
        Fault(where=listings, skip=3, hook=stop),
        Fault(where=listings, skip=3, times=math.inf, hook=waiting(ended)),
    ]
    outcome = tool.run(store)
    ended.set()
    assert outcome.status == 128 + signum, outcome.text
    assert not store.deletes()
    summary = outcome.summary
    assert (summary["status"], summary["selected"], summary["resume"]) == (
        "interrupted",
        0,
        None,
    )
    assert outcome.folder
    assert not (outcome.folder / "plan.json").exists()


@posix
def test_signal_while_verifying(make_store: MakeStore, hurried: RiggedTool) -> None:
    """N9: no read in flight is awaited; what was read is deleted, the rest is unverified."""
    store, ended = make_store(customers=750, **QUIET), threading.Event()

    def stop(request: Request) -> None:
        hurried.signal(signal.SIGINT)
        waiting(ended)(request)

    store.faults = [Fault(where=read_backs, skip=3, hook=stop)]
    outcome = hurried.run(store, "--max-concurrent", "1")
    ended.set()
    assert (outcome.status, outcome.summary["status"]) == (130, "interrupted")
    assert counts(outcome) == {
        "deleted": 260,
        "unknown": 490,
    }  # the first batch was read before
    assert_resumable(outcome)
    assert hurried.resume(store, outcome.folder).status == 0


@posix
def test_signal_while_verifying_by_path_id(make_store: MakeStore, hurried: RiggedTool) -> None:
    """What was read before it is deleted, here too."""
    store, ended = make_store(customers=0, promotions=100, **QUIET), threading.Event()

    def is_late(request: Request) -> bool:
        return request.method == "GET" and not store.records["promotions"]

    def stop(request: Request) -> None:
        hurried.signal(signal.SIGINT)
        waiting(ended)(request)

    store.faults = [Fault(where=is_late, skip=40, hook=stop)]
    outcome = hurried.run(store, "--resource", "promotions", "--max-concurrent", "1")
    ended.set()
    assert outcome.status == 130, outcome.text
    assert outcome.summary["deleted"] >= 70
    assert outcome.summary["deleted"] + outcome.summary["unknown"] == 100


@posix
def test_signal_during_a_long_wait(make_store: MakeStore, tool: RiggedTool) -> None:
    """A pause of ten minutes ends at once, and nothing more is sent."""
    store = make_store(customers=30, **QUIET)
    headers = {"X-Retry-After": "600"}
    store.faults = [
        Fault("DELETE", times=math.inf, status=429, headers=headers, quota_headers=False)
    ]
    process = tool.start(store, store.config(tool.folder), "--yes", "--max-concurrent", "1")
    wait_until(lambda: any(request.status == 429 for request in store.log))
    sent = len(store.log)
    tool.signal(signal.SIGTERM)
    outcome = tool.finish(process)
    assert outcome.status == 143
    assert len(store.log) == sent
    assert counts(outcome) == {"not_attempted": 30}
    assert outcome.summary["rate_limited"] == 1


SLOW = "slow"  # a file that exists once a slow fsync has begun


def slow_disk(seconds: float, free: int) -> Rig:
    """Slow down this process's fsyncs of the journal, after the first; run in the child."""
    fsync, turn = os.fsync, itertools.count()

    def slow(handle: int) -> None:
        path = os.readlink(f"/proc/self/fd/{handle}")
        if path.endswith("journal.jsonl") and next(turn) >= free:
            Path(SLOW).touch()
            time.sleep(seconds)
        fsync(handle)

    os.fsync = slow  # type: ignore[assignment]
    return Rig(speed=1.0)


class SlowDisk(Rig):
    """A disk that needs long to save a line of the journal, after the first few lines."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Let the child get what `slow_disk` returns."""
        return slow_disk, (0.6, 4)


@linux
def test_signal_while_the_journal_is_saved(make_store: MakeStore, tool: RiggedTool) -> None:
    """N8: the stop flag is read again once the line is on disk, before the DELETE leaves."""
    tool.rig = SlowDisk(speed=1.0)
    store = make_store(customers=100, **QUIET)
    process = tool.start(store, store.config(tool.folder, max_concurrent=2), "--yes")
    wait_until((tool.folder / SLOW).exists)
    time.sleep(0.15)  # the other worker gets there too
    stopped_at = time.monotonic()
    process.send_signal(signal.SIGINT)
    outcome = tool.finish(process)
    assert outcome.status == 130, outcome.text
    assert sent_after(store, stopped_at + 0.3) == 0
    assert outcome.summary["deleted"] + outcome.summary["unknown"] <= len(store.deleted_ids())
    resumed = RiggedTool(tool.folder).resume(store, outcome.folder)
    assert resumed.status == 0, resumed.text
    assert counts(resumed) == {"deleted": 100}
