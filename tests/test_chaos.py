"""Any schedule of faults, refusals, signals and kills: what holds after at most N resumes."""

from __future__ import annotations

import math
import os
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from tests.fake_store import FakeStore, Fault, Request
from tests.kills import kill_at_random
from tests.launcher import Rig
from tests.rigged import COUNTS, QUIET, MakeStore, Outcome, RiggedTool, posix
from tests.storms import raise_storms

MOST_RUNS = 25  # every fault ends at most one run, and here are at most 8 of them
LIMITS = settings(
    max_examples=int(os.environ.get("CHAOS_EXAMPLES", "12")),
    derandomize="CHAOS_EXAMPLES" not in os.environ,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
)


@dataclass(frozen=True)
class Event:
    """Something that goes wrong at the n-th request of a kind, counted over all runs."""

    method: str
    at: int
    what: str
    committed: bool = False


@dataclass
class Ordeal:
    """A store, the tool, what others did to the store, and what is to be true of it all."""

    store: FakeStore
    tool: RiggedTool
    later: set[int] = field(default_factory=set)
    plans: set[frozenset[int]] = field(default_factory=set)

    def fault(self, event: Event) -> Fault:
        common: dict[str, Any] = {"skip": event.at, "commit": event.committed}
        doings: dict[str, Callable[[Request], None]] = {
            "kill": self.tool.kill,
            "SIGINT": lambda _: self.tool.signal(signal.SIGINT),
            "SIGTERM": lambda _: self.tool.signal(signal.SIGTERM),
            "up": lambda _: self.later.update(self.store.add(3)),
        }
        if event.what in doings:
            when = "after" if event.committed else "hook"
            close = "reset" if event.what == "kill" else ""
            fault = Fault(event.method, close=close, **common)
            setattr(fault, when, doings[event.what])
            return fault
        if event.what in ("reset", "cut"):
            return Fault(event.method, close=event.what, **common)
        if event.what == "down":
            return Fault(event.method, status=503, times=20, quota_headers=False, **common)
        if event.what == "HTML":
            return Fault(event.method, status=200, body="<html>", **common)
        body = {"title": "no", "status": int(event.what)}
        return Fault(event.method, status=int(event.what), body=body, quota_headers=False, **common)

    def folder(self) -> Path | None:
        folders = sorted(self.tool.folders())
        return next((f for f in folders if (f / "plan.json").exists()), None)

    def run(self) -> Outcome:
        """One run, or a resume once there is a plan; what must hold after each."""
        before = self.folder()
        options: list[str | Path] = ["--resume", before] if before else []
        settings = {"max_retries": 1, "max_concurrent": 2}
        config = self.store.config(self.tool.folder, **settings)
        outcome = self.tool(self.store, config, "--yes", *options)
        folder = self.folder()
        sent = self.store.deleted_ids().keys()
        if folder is None:
            assert not sent
            assert outcome.status != 0
            return outcome
        outcome = Outcome(outcome.status, outcome.out, outcome.err, folder)
        planned = set(outcome.plan["ids"])
        self.plans.add(frozenset(outcome.plan["ids"]))
        assert len(self.plans) == 1  # it never changes
        assert sent <= planned
        assert self.later - planned <= self.store.customers.keys()
        if outcome.status == 0:
            assert not planned & self.store.customers.keys()
        return outcome

    def check_end(self, outcome: Outcome) -> None:
        """Everything in the plan is gone, or failed with a reason; the counts add up."""
        planned, there = set(outcome.plan["ids"]), set(self.store.customers)
        summary = outcome.summary
        assert summary["selected"] == len(planned) == sum(summary[name] for name in COUNTS)
        assert summary["unknown"] == summary["not_attempted"] == 0
        assert outcome.failed.keys() == planned & there
        assert all(reason.strip() for reason in outcome.failed.values())
        assert summary["failed"] == len(planned & there)
        assert outcome.status == (4 if planned & there else 0)


WHAT = (
    *("kill", "kill", "kill", "SIGINT", "SIGTERM", "up", "reset", "cut", "down", "HTML"),
    *("400", "401", "403", "404", "408", "422", "429", "500", "504"),
)
EVENTS = st.builds(
    Event,
    method=st.sampled_from(["DELETE", "DELETE", "DELETE", "GET"]),
    at=st.integers(0, 7),
    what=st.sampled_from(WHAT),
    committed=st.booleans(),
)
PLACES = st.sets(st.integers(0, 44), max_size=4)


@LIMITS
@given(events=st.lists(EVENTS, max_size=8), refused=PLACES, sticky=PLACES, foreign=PLACES)
@example(
    events=[Event("DELETE", n, "kill", n % 2 == 0) for n in range(6)], refused={3}, sticky=set(), foreign={9}
)
@example(events=[Event("GET", n, "kill") for n in range(6)], refused=set(), sticky={44}, foreign=set())
@example(events=[Event("DELETE", 1, "down", True)], refused={0, 10}, sticky={20}, foreign={30})
def test_any_schedule_of_faults_and_kills(
    events: list[Event], refused: set[int], sticky: set[int], foreign: set[int]
) -> None:
    """N2, N12: deleted is at most the plan, what is left of it has a reason, and 0 means that all is gone."""
    with tempfile.TemporaryDirectory() as name, FakeStore(customers=45, **QUIET) as store:
        tool = RiggedTool(Path(name), Rig(speed=300))
        ordeal = Ordeal(store, tool)
        ids = list(store.customers)
        store.refuse = {ids[place]: (422, {"title": "locked"}) for place in refused}
        store.sticky = dict.fromkeys([ids[place] for place in sticky], math.inf)
        store.faults = [ordeal.fault(event) for event in events]
        for number in range(MOST_RUNS):
            outcome = ordeal.run()
            if number == 1:
                store.remove(*[ids[place] for place in foreign])
            if outcome.status in (0, 4):
                break
        else:
            raise AssertionError(f"it never ended: {outcome.text}")
        # What is unproven may be so for a fault that came late: once more, in peace.
        store.faults = []
        ordeal.check_end(ordeal.run())
        assert not [v for v in store.violations if "scripted" not in v], store.violations


@posix
def test_kills_at_random_moments() -> None:
    """N2: after each kill -9 a resume takes over; in the end the store is as planned."""
    report = kill_at_random(kills=8, customers=300, seed=int.from_bytes(os.urandom(2)))
    assert report.kills == 8
    assert not report.wrong, report
    assert report.outside == 0, report


def test_a_lag_that_was_measured_before_a_resume(make_store: MakeStore, hurried: RiggedTool) -> None:
    """A resume ends as the whole run would have, where the store lists for a while what it deleted."""
    store = make_store(customers=60, lag=0.8, **QUIET)  # 40 seconds of the tool's clock
    store.faults = [Fault("DELETE", skip=3, status=401, body={"title": "no"})]
    outcome = hurried.run(store)
    assert outcome.status == 5, outcome.text
    assert outcome.summary["deleted"] > 0
    time.sleep(store.lag)
    resumed = hurried.resume(store, outcome.folder)
    assert not store.customers
    assert resumed.status == 0, resumed.text


def test_a_second_delete_that_finds_nothing(make_store: MakeStore, tmp_path: Path) -> None:
    """What is listed for some seconds after it was deleted is read on, and no 404 makes a failure of it."""
    store = make_store(customers=0, coupons=8, lag=0.6, **QUIET)  # 6 seconds of the tool's clock
    outcome = RiggedTool(tmp_path, Rig(speed=10)).run(store, "--resource", "coupons")
    assert not store.records["coupons"]
    assert outcome.status == 0, outcome.text


@posix
def test_storms() -> None:
    """N2, N12: through faults of all kinds at once nothing goes but the plan, and the counts are true."""
    total = raise_storms(3, seed=1013)  # of a lag the tests above tell
    assert not total.wrong, "\n".join(map(str, total.wrong))
    assert total.counts["deleted"] > 0
