"""Kill the tool at random and resume it: `python -m tests.kills --kills 50`.

Prints how often the tool was killed, how many ids outside the plan were sent, and all else
that went wrong. Exits with 1 unless exactly the planned records were deleted.
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
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.fake_store import FakeStore, Fault, Request
from tests.launcher import Rig
from tests.rigged import QUIET, RiggedTool, counts

LATENCY = 0.02
MOST_TRIES = 200  # runs on one store


@dataclass
class Report:
    """The totals over all stores."""

    kills: int = 0
    outside: int = 0  # ids sent without being planned
    wrong: list[str] = field(default_factory=list)


def run_and_kill(
    tool: RiggedTool, store: FakeStore, seconds: float | None, *options: str | Path
) -> int | None:
    """Run the tool, kill it after `seconds` unless None, and return its exit status.

    The store processes every second DELETE that is in flight at the kill.
    """
    dead, turn = threading.Event(), itertools.count()

    def lose(request: Request) -> None:
        if dead.is_set() and next(turn) % 2 == 0:
            request.path = "lost"

    store.faults = [Fault("DELETE", times=math.inf, hook=lose)]
    process = tool.start(store, store.config(tool.folder), "--yes", *options)
    if seconds is not None:
        time.sleep(seconds)
        dead.set()
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=100)
    return process.returncode


@contextlib.contextmanager
def started(customers: int) -> Iterator[tuple[FakeStore, RiggedTool]]:
    """Yield a store and the tool, in a new folder."""
    with (
        FakeStore(customers=customers, latency=LATENCY, **QUIET) as store,
        tempfile.TemporaryDirectory(prefix="kills-") as name,
    ):
        yield store, RiggedTool(Path(name), Rig(speed=1))


def one_store(
    report: Report, kills: int, customers: int, life: float, rng: random.Random
) -> None:
    """Kill and resume the tool until it completes; the last run is not killed."""
    with started(customers) as (store, tool):
        bystanders = set(store.add(1))
        for _ in range(MOST_TRIES):
            run_folder = tool.plan_folder()
            options: list[str | Path] = ["--resume", run_folder] if run_folder else []
            last = report.kills >= kills
            status = run_and_kill(tool, store, None if last else rng.uniform(0, life), *options)
            if status != -signal.SIGKILL:
                break
            report.kills += 1
            bystanders |= set(store.add(1))
        check(report, store, tool, bystanders, status)


def check(
    report: Report, store: FakeStore, tool: RiggedTool, bystanders: set[int], status: int | None
) -> None:
    """Compare the store with the plan after a run that was not killed."""
    run_folder = tool.plan_folder()
    if run_folder is None:
        report.wrong.append(f"no plan; last exit status {status}")
        return
    outcome = tool.resume(store, run_folder)  # only reads: the run is complete
    planned = set(outcome.plan["ids"])
    report.outside += len(store.deleted_ids().keys() - planned)
    # A sign-up before the plan may be in it.
    if set(store.customers) != bystanders - planned:
        report.wrong.append(f"still in the store: {sorted(store.customers)[:20]}")
    if status != 0 or outcome.status != 0:
        report.wrong.append(f"exit status {status}, then {outcome.status}")
    if counts(outcome) != {"deleted": len(planned)}:
        report.wrong.append(f"counts: {counts(outcome)}")
    report.wrong += store.violations


def kill_at_random(kills: int, customers: int, seed: int) -> Report:
    """Kill the tool `kills` times, on as many stores as needed."""
    report, rng = Report(), random.Random(seed)
    with started(customers) as (store, tool):
        run_and_kill(tool, store, 0.0)  # the first process takes longer to start
        began = time.monotonic()
        run_and_kill(tool, store, None)
        life = time.monotonic() - began  # of a run that is not killed
    while report.kills < kills:
        one_store(report, kills, customers, life, rng)
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
