"""Kill the tool at random and resume it: `python -m tests.kills --kills 50`.

Prints how often the tool was killed, how many ids were sent twice, and whether exactly the
planned records were deleted. Exits with 1 if they were not.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import math
import os
import random
import signal
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.fake_store import FakeStore, Fault
from tests.launcher import Rig
from tests.rigged import QUIET, RiggedTool, counts

LATENCY = 0.02
MOST_TRIES = 200  # runs on one store


@dataclass
class Report:
    """The totals over all stores."""

    kills: int = 0
    in_listing: int = 0  # kills before there was a plan
    stores: int = 0
    resumes: int = 0
    selected: int = 0
    sent_twice: int = 0
    outside: int = 0  # ids sent without being planned
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        state = "as planned" if not self.wrong and not self.outside else "NOT AS PLANNED"
        return (
            f"{self.kills} kills ({self.in_listing} before there was a plan), "
            f"{self.resumes} resumes, {self.stores} stores with {self.selected} planned ids: "
            f"{self.sent_twice} ids sent more than once, {self.outside} ids outside the plan, "
            f"final state {state}" + "".join(f"\n{line}" for line in self.wrong)
        )


def run_and_kill(
    tool: RiggedTool, store: FakeStore, seconds: float | None, *options: str | Path
) -> int | None:
    """Run the tool, kill it after `seconds` unless None, and return its exit status.

    The store processes every second DELETE that is in flight at the kill.
    """
    dead, turn = threading.Event(), itertools.count()
    store.faults = [
        Fault(
            "DELETE",
            times=math.inf,
            where=lambda _: dead.is_set() and next(turn) % 2 == 0,
            close="reset",
        )
    ]
    process = tool.start(store, store.config(tool.folder), "--yes", *options)
    if seconds is not None:
        time.sleep(seconds)
        dead.set()
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=100)
    return process.returncode


def plan_folder(tool: RiggedTool) -> Path | None:
    """Return the run folder that has a plan; None if there is none."""
    return next((folder for folder in tool.folders() if (folder / "plan.json").exists()), None)


def one_store(
    report: Report, kills: int, customers: int, life: float, rng: random.Random, folder: Path
) -> None:
    """Kill and resume the tool until it completes; the last run is not killed."""
    with FakeStore(
        customers=customers, latency=LATENCY, count_latency="before", **QUIET
    ) as store:
        tool = RiggedTool(folder, Rig(speed=1))
        bystanders = set(store.add(1))
        for _ in range(MOST_TRIES):
            run_folder = plan_folder(tool)
            options: list[str | Path] = ["--resume", run_folder] if run_folder else []
            report.resumes += bool(run_folder)
            last = report.kills >= kills
            status = run_and_kill(tool, store, None if last else rng.uniform(0, life), *options)
            if status != -signal.SIGKILL:
                break
            report.kills += 1
            report.in_listing += plan_folder(tool) is None
            bystanders |= set(store.add(1))
        check(report, store, tool, bystanders, status)


def check(
    report: Report, store: FakeStore, tool: RiggedTool, bystanders: set[int], status: int | None
) -> None:
    """Compare the store with the plan after a run that was not killed."""
    run_folder = plan_folder(tool)
    report.stores += 1
    if run_folder is None:
        report.wrong.append(f"no plan; last exit status {status}")
        return
    outcome = tool.resume(store, run_folder)  # only reads: the run is complete
    planned = set(outcome.plan["ids"])
    sent = store.deleted_ids()
    report.selected += len(planned)
    report.sent_twice += sum(times > 1 for times in sent.values())
    report.outside += len(sent.keys() - planned)
    unplanned = bystanders - planned  # a sign-up before the plan may be in it
    if set(store.customers) != unplanned:
        report.wrong.append(f"still in the store: {sorted(store.customers)[:20]}")
    if status != 0 or outcome.status != 0:
        report.wrong.append(f"exit status {status}, then {outcome.status}")
    if counts(outcome) != {"deleted": len(planned)}:
        report.wrong.append(f"counts: {counts(outcome)}")
    report.wrong += store.violations


def lifetime(customers: int) -> float:
    """Return how many seconds a run takes on this machine when it is not killed."""
    with (
        FakeStore(
            customers=customers, latency=LATENCY, count_latency="before", **QUIET
        ) as store,
        tempfile.TemporaryDirectory(prefix="kills-") as name,
    ):
        tool = RiggedTool(Path(name), Rig(speed=1))
        run_and_kill(tool, store, 0.0)  # the first process takes longer to start
        started = time.monotonic()
        run_and_kill(tool, store, None)
        return time.monotonic() - started


def kill_at_random(kills: int, customers: int, seed: int) -> Report:
    """Kill the tool `kills` times, on as many stores as needed."""
    report, rng = Report(), random.Random(seed)
    life = lifetime(customers)
    while report.kills < kills:
        with tempfile.TemporaryDirectory(prefix="kills-") as name:
            one_store(report, kills, customers, life, rng, Path(name))
    return report


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=50, metavar="N")
    parser.add_argument("--customers", type=int, default=500, metavar="N", help="in each store")
    parser.add_argument("--seed", type=int, default=None, metavar="N", help="default: random")
    own = parser.parse_args(argv)
    seed = random.randrange(10**6) if own.seed is None else own.seed
    report = kill_at_random(own.kills, own.customers, seed)
    print(f"seed {seed}: {report}")
    return 1 if report.wrong or report.outside else 0


if __name__ == "__main__":
    sys.exit(main())
