"""Any schedule of faults, rejections, signals and kills, and storms of all kinds of faults."""

from __future__ import annotations

import math
import os
import signal
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from tests.fake_store import FakeStore, Fault, Request
from tests.kills import kill_at_random
from tests.launcher import Rig
from tests.rigged import COUNTS, QUIET, Outcome, RiggedTool, posix
from tests.storms import raise_storms

MOST_RUNS = 25  # every fault ends at most one run, and there are at most 8 of them
LIMITS = settings(
    max_examples=int(os.environ.get("CHAOS_EXAMPLES", "10")),
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
    """A store, the tool, what others do to the store, and what must hold after each run."""

    store: FakeStore
    tool: RiggedTool
    later: set[int] = field(default_factory=set)
    plans: set[frozenset[int]] = field(default_factory=set)

    def fault(self, event: Event) -> Fault:
        common: dict[str, Any] = {"skip": event.at, "commit": event.committed}
        actions: dict[str, Callable[[Request], None]] = {
            "kill": self.tool.kill,
            "SIGINT": lambda _: self.tool.signal(signal.SIGINT),
            "SIGTERM": lambda _: self.tool.signal(signal.SIGTERM),
            "sign-ups": lambda _: self.later.update(self.store.add(3)),
        }
        answers: dict[str, dict[str, Any]] = {
            "reset": {"close": "reset"},
            "cut": {"close": "cut"},
            "down": {"status": 503, "times": 20, "quota_headers": False},
            "HTML": {"status": 200, "body": "<html>"},
        }
        if event.what in actions:
            close = "reset" if event.what == "kill" else ""
            when: dict[str, Any] = {"after" if event.committed else "hook": actions[event.what]}
            return Fault(event.method, close=close, **common, **when)
        if event.what in answers:
            return Fault(event.method, **common, **answers[event.what])
        body = {"title": "no", "status": int(event.what)}
        common |= {"status": int(event.what), "body": body, "quota_headers": False}
        return Fault(event.method, **common)

    def folder(self) -> Path | None:
        folders = sorted(self.tool.folders())
        return next((path for path in folders if (path / "plan.json").exists()), None)

    def run(self) -> Outcome:
        """Run the tool, or resume once there is a plan, and check what must hold."""
        before = self.folder()
        options: list[str | Path] = ["--resume", before] if before else []
        config = self.store.config(self.tool.folder, max_retries=1, max_concurrent=2)
        outcome = self.tool(self.store, config, "--yes", *options)
        folder = self.folder()
        sent = self.store.deleted_ids().keys()
        if folder is None:
            assert not sent
            assert outcome.status != 0
            return outcome
        outcome = Outcome(outcome.status, outcome.out, outcome.err, folder)
        planned = set(outcome.plan["ids"])
        self.plans.add(frozenset(planned))
        assert len(self.plans) == 1  # it never changes
        assert sent <= planned
        assert self.later - planned <= self.store.customers.keys()
        assert outcome.status != 0 or not planned & self.store.customers.keys()
        return outcome

    def check_end(self, outcome: Outcome) -> None:
        """Everything in the plan is gone, or has failed for a reason; the counts add up."""
        planned, summary = set(outcome.plan["ids"]), outcome.summary
        remaining = planned & self.store.customers.keys()
        assert summary["selected"] == len(planned) == sum(summary[name] for name in COUNTS)
        assert summary["unknown"] == summary["not_attempted"] == 0
        assert outcome.failed.keys() == remaining
        assert all(reason.strip() for reason in outcome.failed.values())
        assert summary["failed"] == len(remaining)
        assert outcome.status == (4 if remaining else 0)


WHAT = (
    *("kill", "kill", "kill", "SIGINT", "SIGTERM", "sign-ups", "reset", "cut", "down", "HTML"),
    *("400", "401", "403", "404", "408", "422", "429", "500", "504"),
)
METHODS = st.sampled_from(["DELETE", "DELETE", "DELETE", "GET"])
EVENTS = st.builds(Event, METHODS, st.integers(0, 7), st.sampled_from(WHAT), st.booleans())
PLACES = st.sets(st.integers(0, 44), max_size=4)


@LIMITS
@given(events=st.lists(EVENTS, max_size=8), rejected=PLACES, sticky=PLACES, foreign=PLACES)
@example([Event("DELETE", n, "kill", n % 2 == 0) for n in range(6)], {3}, set(), {9})
@example([Event("GET", n, "kill") for n in range(6)], set(), {44}, set())
@example([Event("DELETE", 1, "down", True)], {0, 10}, {20}, {30})
def test_any_schedule_of_faults_and_kills(
    events: list[Event], rejected: set[int], sticky: set[int], foreign: set[int]
) -> None:
    """N2, N12: only the plan is deleted, what remains has a reason, 0 means all are gone."""
    with tempfile.TemporaryDirectory() as name, FakeStore(customers=45, **QUIET) as store:
        ordeal = Ordeal(store, RiggedTool(Path(name), Rig(speed=1000)))
        ids = list(store.customers)
        store.refuse = {ids[place]: (422, {"title": "locked"}) for place in rejected}
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
        # A fault that came late may have left something unverified: once more, in peace.
        store.faults = []
        ordeal.check_end(ordeal.run())
        assert not [v for v in store.violations if "scripted" not in v], store.violations


@posix
def test_kills_at_random_moments() -> None:
    """N2: after each kill -9 a resume takes over; in the end the store is as planned."""
    report = kill_at_random(kills=5, customers=200, seed=int.from_bytes(os.urandom(2)))
    assert report.kills == 5
    assert not report.wrong, report
    assert report.outside == 0, report


@posix
def test_storms() -> None:
    """N2, N12: through faults of all kinds at once, only the plan is deleted, truly counted."""
    total = raise_storms(2, seed=1013)
    assert not total.wrong, "\n".join(map(str, total.wrong))
    assert total.counts["deleted"] > 0
