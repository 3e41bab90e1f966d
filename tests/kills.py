"""kill -9 at random moments, and a resume after each: `python -m tests.kills --kills 50`.

It prints how often the tool was killed, how many ids were sent twice, and whether what is left in
the store is what the plan did not name. Exit status 1 when it is not.
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
MOST_TRIES = 200  # at one store's plan


@dataclass
class Report:
    """What the kills came to, over all stores."""

    kills: int = 0
    in_listing: int = 0  # kills before there was a plan
    stores: int = 0
    resumes: int = 0
    selected: int = 0
    sent_twice: int = 0
    outside: int = 0  # ids that were sent, though no plan names them
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        state = "as planned" if not self.wrong and not self.outside else "NOT AS PLANNED"
        return (
            f"{self.kills} kills ({self.in_listing} of them before there was a plan), "
            f"{self.resumes} resumes, {self.stores} stores with {self.selected} planned ids: "
            f"{self.sent_twice} ids were sent twice or more, {self.outside} ids outside the plan, "
            f"the final state is {state}" + "".join(f"\n{line}" for line in self.wrong)
        )


def run_and_kill(
    tool: RiggedTool, store: FakeStore, seconds: float | None, *options: str | Path
) -> int | None:
    """Run the tool, and kill it after so many seconds when it still runs; its exit status.

    Of the DELETEs that are on their way then, the store does every other one.
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
    return next((folder for folder in tool.folders() if (folder / "plan.json").exists()), None)


def one_store(
    report: Report, kills: int, customers: int, life: float, rng: random.Random, folder: Path
) -> None:
    """Kill it until so many kills were made in all, or until it ends; then let it end."""
    with FakeStore(
        customers=customers, latency=LATENCY, count_latency="before", **QUIET
    ) as store:
        tool = RiggedTool(folder, Rig(speed=1))
        bystanders = set(store.add(1))
        for _ in range(MOST_TRIES):
            done = plan_folder(tool)
            options: list[str | Path] = ["--resume", done] if done else []
            report.resumes += bool(done)
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
    """Compare the store with the plan, once the last run has ended by itself."""
    run_folder = plan_folder(tool)
    report.stores += 1
    if run_folder is None:
        report.wrong.append(f"there is no plan; the last exit status was {status}")
        return
    outcome = tool.resume(store, run_folder)  # of a complete run: it only reads
    planned = set(outcome.plan["ids"])
    sent = store.deleted_ids()
    report.selected += len(planned)
    report.sent_twice += sum(times > 1 for times in sent.values())
    report.outside += len(sent.keys() - planned)
    unplanned = bystanders - planned  # who signed up before the plan may be in it
    if set(store.customers) != unplanned:
        report.wrong.append(f"left in the store: {sorted(store.customers)[:20]}")
    if status != 0 or outcome.status != 0:
        report.wrong.append(f"the exit status was {status}, and then {outcome.status}")
    if counts(outcome) != {"deleted": len(planned)}:
        report.wrong.append(f"counted: {counts(outcome)}")
    report.wrong += store.violations


def lifetime(customers: int) -> float:
    """Seconds that a run takes here that nobody kills."""
    with (
        FakeStore(
            customers=customers, latency=LATENCY, count_latency="before", **QUIET
        ) as store,
        tempfile.TemporaryDirectory(prefix="kills-") as name,
    ):
        tool = RiggedTool(Path(name), Rig(speed=1))
        run_and_kill(tool, store, 0.0)  # the first process of all takes longer to start
        begun = time.monotonic()
        run_and_kill(tool, store, None)
        return time.monotonic() - begun


def kill_at_random(kills: int, customers: int, seed: int) -> Report:
    """That many kills, in as many stores as it takes."""
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
    parser.add_argument(
        "--seed", type=int, default=None, metavar="N", help="default: another each time"
    )
    own = parser.parse_args(argv)
    seed = random.randrange(10**6) if own.seed is None else own.seed
    report = kill_at_random(own.kills, own.customers, seed)
    print(f"seed {seed}: {report}")
    return 1 if report.wrong or report.outside else 0


if __name__ == "__main__":
    sys.exit(main())
