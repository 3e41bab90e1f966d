"""Combine random faults and resume each run: `python -m tests.storms --storms 9`.

Each storm has a seed, which determines a store with its peculiarities, faults in the store
and on the wire, changes by other apps, and kills. The tool runs until it exits with 0, 3 or
4, at most eight times, and then once without faults. After each run the deleted records, the
counts and the journal are checked.

Prints a line for each storm and a total. Exits with 1 on a violation; `--storms 1 --seed N`
repeats that storm as far as the timing of threads and processes allows.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import math
import random
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.fake_store import FakeStore, Fault, Request
from tests.launcher import KILL
from tests.rigged import (
    KILLED,
    QUIET,
    SIGNALS,
    Outcome,
    RiggedTool,
    Wire,
    counts,
    journal,
    wait_until,
)

MOST_TRIES = 8
TIMEOUT = 0.4  # seconds of real time; the rigged clock does not shorten it
KINDS = ["customers"] * 3 + ["products", "redirects", "brands", "promotions", "coupons"]
# The reasons of a run that stops because its first DELETEs have no effect.
WITHOUT_EFFECT = (
    "the first 10 batches deleted nothing",
    "none of its records is verified gone after 60 s",
)
PAGE = "<html><head><title>Sorry, we are down</title></head><body>soon</body></html>"
STATES = {0, 3, 4, 5}  # exit statuses of a run that got no signal
ENDED = SIGNALS | {KILL: KILLED}  # signal => exit status


# --- faults -----------------------------------------------------------------------------------

# Statuses of answers in JSON, by the name of the fault.
STATUSES = {
    "5xx": [500, 502, 503, 504, 509, 520, 599],
    "408": [408],
    "429": [429],
    "rejection": [400, 404, 409, 413, 422, 423],
    "fatal status": [301, 401, 403, 501],
}
# The fields of the other faults.
OTHERS: dict[str, dict[str, Any]] = {
    "timeout before processing": {"delay": TIMEOUT * 1.5},
    "timeout after processing": {"after": lambda _: time.sleep(TIMEOUT * 1.5)},
    "reset": {"close": "reset"},
    "cut off": {"close": "cut"},
    "HTML": {"status": 200, "body": PAGE, "content_type": "text/html"},
    "503 HTML": {"status": 503, "body": PAGE, "content_type": "text/html"},
    "403 HTML": {"status": 403, "body": PAGE, "content_type": "text/html"},
    "empty JSON": {"status": 200, "body": {}},
}


def draw_fault(name: str, rng: random.Random) -> dict[str, Any]:
    """Return the fields of a Fault of that name."""
    drawn = {"times": rng.choice([1, 1, 2, 3, 6, 12]), "quota_headers": rng.random() < 0.5}
    # What was answered so has had no effect.
    if name not in ("429", "rejection", "fatal status", "403 HTML"):
        drawn["commit"] = rng.random() < 0.5
    if name in OTHERS:
        return drawn | OTHERS[name]
    status = rng.choice(STATUSES[name])
    if status in (429, 503) and rng.random() < 0.5:  # in seconds of the tool's clock
        header = rng.choice(["Retry-After", "X-Retry-After"])
        drawn["headers"] = {header: str(rng.randint(1, 30))}
    if name == "fatal status":
        drawn["times"] = 1
    return drawn | {"status": status, "body": {"status": status, "title": "no"}}


PIECES, CONNECTIONS = ("cut", "corrupt", "short", "reset"), ("latency", "throttle", "drip")
LOSSES = {"black hole": "all", "half-open": "answers", "half-closed": "the end"}


def spoil(wire: Wire, rng: random.Random) -> str:
    """Add a fault to some pieces of data or to some connections, and return its name."""
    how = rng.choice([*PIECES, *CONNECTIONS, *LOSSES])
    if wire.within_tls and how == "corrupt":
        how = "cut"  # corrupt HTTP cannot be detected
    begin, turn = rng.randrange(60), itertools.count()
    struck = range(begin, begin + rng.randint(10, 40), rng.randint(2, 5))

    def treat(data: bytes) -> bytes | None:
        if next(turn) not in struck:
            return data
        if how == "corrupt":
            return data[:-9] + bytes(9)
        return data[: {"cut": len(data) // 2, "short": 40, "reset": 0}[how]]

    if how in PIECES:
        wire.treat = treat
        return f"wire: {how}"
    some = {rng.randint(1, 30) for _ in range(rng.randint(1, 8))}
    wire.strikes = lambda number: number in some
    if how == "latency":
        source = random.Random(rng.random())
        wire.delay = lambda: source.uniform(0, TIMEOUT)
    elif how == "throttle":
        wire.throttle(rng.choice([500, 5_000, 50_000]))
    elif how == "drip":
        wire.drip(TIMEOUT / 100)
    else:
        wire.loses = LOSSES[how]
    return f"wire: {how}"


# --- a storm ----------------------------------------------------------------------------------


@dataclass
class Storm:
    """One store and the tool, the faults they meet, and the violations found."""

    seed: int
    kind: str
    store: FakeStore
    tool: RiggedTool
    wire: Wire | None
    rng: random.Random
    names: list[str] = field(default_factory=list)  # of the faults
    foreign: set[int] = field(default_factory=set)  # ids deleted by other apps
    stubborn: set[int] = field(default_factory=set)  # ids not deleted by the first DELETE
    is_partial: bool = False  # whether the store ignores some ids of a DELETE
    sent_signals: set[int] = field(default_factory=set)
    statuses: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    plan: bytes = b""
    lines: list[dict[str, Any]] = field(default_factory=list)  # of the last run's journal
    verified: int = 0
    finished_at: str = ""  # of the last complete summary
    counted: dict[str, int] = field(default_factory=dict)
    last: Outcome | None = None

    # Faults

    def brew(self) -> None:
        """Draw the peculiarities of the store, and the faults."""
        rng, ids = self.rng, list(self.store.records[self.kind])
        odd = rng.sample(ids[6:], 6)  # the first records show that a DELETE has an effect
        if rng.random() < 0.4:
            self.names.append("rejected ids")
            self.store.refuse = {
                n: (rng.choice([409, 422, 423]), {"title": "is locked"}) for n in odd[:3]
            }
        if rng.random() < 0.3:
            self.names.append("sticky ids")
            self.store.sticky = {n: rng.choice([1, 2, math.inf]) for n in odd[3:5]}
        if rng.random() < 0.2 and self.kind in ("customers", "redirects"):
            self.names.append("rejections per id")
            self.store.per_item = {odd[5]: (409, "is locked")}
            self.store.per_item_shape = rng.choice(["errors", "rows"])
        self.stubborn = {*self.store.refuse, *self.store.sticky, *self.store.per_item}
        if self.store.lag:
            self.names.append("consistency delay")
        faults = [self.fault() for _ in range(rng.randint(0, 10))]
        self.store.faults = [*faults, *self.ignored_ids()]
        if self.wire:
            self.names += [spoil(self.wire, rng) for _ in range(rng.randint(1, 2))]

    def fault(self) -> Fault:
        """Draw one fault: a faulty answer, or an event at a request."""
        rng = self.rng
        events: dict[str, Callable[[Request], None]] = {
            "kill": self.kill,
            "SIGINT": lambda _: self.signal(signal.SIGINT),
            "SIGTERM": lambda _: self.signal(signal.SIGTERM),
            "sign-ups": lambda _: self.store.add(3, kind=self.kind),
            "deletions by others": lambda _: self.delete_some(rng.randrange(10**6)),
        }
        name = rng.choice([*STATUSES, *OTHERS, *events, "kill", "kill"])
        self.names.append(name)
        place = {"method": rng.choice(["DELETE", "DELETE", "GET"]), "skip": rng.randrange(14)}
        if name in events:
            reset = "reset" if name == "kill" else ""
            when = "after" if rng.random() < 0.5 else "hook"
            return Fault(**place, close=reset, commit=when == "after", **{when: events[name]})
        return Fault(**place, **draw_fault(name, rng))

    def ignored_ids(self) -> list[Fault]:
        """Draw permanent faults: the store ignores all but the first ids in a filter."""
        faults = []
        for method, chance, most in (("GET", 0.15, 120), ("DELETE", 0.1, 8)):
            if self.rng.random() < chance and self.kind in ("customers", "redirects"):
                self.names.append(f"{method} ignores some ids")
                self.is_partial |= method == "DELETE"
                kept = self.rng.randint(1 if method == "DELETE" else 20, most)
                faults.append(Fault(method, times=math.inf, hook=truncate_ids(kept)))
        return faults

    def kill(self, _request: Request | None = None) -> None:
        self.signal(KILL)
        with contextlib.suppress(Exception):
            self.tool.running().wait()

    def signal(self, signum: int) -> None:
        process = self.tool.running()
        if process.poll() is None:
            self.sent_signals.add(signum)
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signum)

    def delete_some(self, seed: int) -> None:
        """Delete a few records as another app does, whether or not the tool has sent them."""
        there = sorted(self.store.records[self.kind])
        some = random.Random(seed).sample(there, min(4, len(there)))
        self.foreign.update(some)
        self.store.remove(*some, kind=self.kind)

    # Runs

    def run(self, *, is_calm: bool = False, **ini: Any) -> None:
        """Run the tool, or resume once there is a plan, and check the outcome."""
        before = self.tool.plan_folder()
        options: list[str | Path] = ["--resume", before] if before else []
        ini = {"resource": self.kind, "timeout": TIMEOUT} | ini
        config = self.store.config(self.tool.folder, **ini)
        environ = self.wire.environ() if self.wire else self.store.env()
        process = self.tool.start(self.store, config, "--yes", *options, **environ)
        timer = threading.Timer(self.rng.uniform(0, 1.5), self.kill)
        if not is_calm and self.rng.random() < 0.15:
            timer.start()
        try:
            outcome = self.tool.finish(process, before)
        finally:
            timer.cancel()
        self.statuses.append(outcome.status)
        self.last = replace(outcome, folder=self.tool.plan_folder())
        self.check(self.last)

    def rage(self) -> None:
        """Run and resume until it completes, then once without temporary faults."""
        rng = self.rng
        ini = {
            "max_retries": rng.randint(0, 3),
            "max_concurrent": rng.randint(1, 5),
            "max_error_rate": rng.choice([10, 50, 100]),
            "no_backup": rng.random() < 0.3,
        }
        self.brew()
        for _ in range(MOST_TRIES):
            self.run(**ini)
            if self.statuses[-1] in (0, 3, 4):
                break
        if self.tool.plan_folder() is None:
            return
        self.store.faults = [fault for fault in self.store.faults if fault.times == math.inf]
        if self.wire:
            self.wire.heal()
            self.wire.treat = lambda data: data
        wait_until(lambda: self.store._in_flight == 0)
        time.sleep(self.store.lag)
        self.run(is_calm=True, **ini | {"max_error_rate": 100, "max_retries": 5, "timeout": 10})
        self.check_end()

    # Checks

    def check(self, outcome: Outcome) -> None:
        """Check what must hold after every run, however it ended."""
        allowed = STATES | {ENDED[signum] for signum in self.sent_signals}
        assert outcome.status in allowed, outcome.text[-600:]
        deleted = set(self.store.deleted_ids())
        if outcome.folder is None:
            assert not deleted, "sent without a plan"
            assert outcome.status != 0, "exit 0 without a plan"
            return
        planned = set(outcome.plan["ids"])
        text = (outcome.folder / "plan.json").read_bytes()
        assert self.plan in (b"", text), "the plan has changed"
        self.plan = text
        assert deleted <= planned, deleted - planned
        self.check_journal(outcome.folder, planned, deleted)
        there = planned & set(self.store.records[self.kind])
        if (outcome.folder / "summary.json").exists():
            self.check_counts(outcome, planned, there)
        if outcome.status == 0:
            assert not there, there
            assert outcome.summary["verified"], "exit 0, but not verified"
        if outcome.status == 5:
            assert "--resume" in outcome.text or outcome.resumed, "no command to resume"

    def check_journal(self, folder: Path, planned: set[int], deleted: set[int]) -> None:
        """Check that the journal only grows, has each DELETE, and no existing id as gone."""
        data = (folder / "journal.jsonl").read_bytes()
        if data and not data.endswith(b"\n"):
            assert self.statuses[-1] == KILLED, "the journal's last line is torn"
            complete = data[: data.rfind(b"\n") + 1]
            (folder / "journal.jsonl").write_bytes(complete)  # as a resume does
        entries = journal(folder)
        assert entries[: len(self.lines)] == self.lines, "the journal has lost lines"
        self.lines = entries
        sent = self.noted("sent")
        assert deleted <= sent <= planned, (deleted - sent, sent - planned)
        left = self.noted("gone") & set(self.store.records[self.kind])
        assert not left, left

    def noted(self, key: str) -> set[int]:
        """Return the ids that the journal notes as sent, or as verified gone."""
        return {number for entry in self.lines for number in entry.get(key, ())}

    def check_counts(self, outcome: Outcome, planned: set[int], there: set[int]) -> None:
        """Compare the counts in the summary with the store and the journal."""
        summary = outcome.summary
        in_progress = summary["status"] == "in_progress"
        self.counted = counts(outcome)
        assert summary["selected"] in {len(planned), 0 if in_progress else len(planned)}
        gone = planned - there
        ours, theirs = gone - (self.foreign - self.noted("sent")), gone & self.foreign
        assert summary["deleted"] <= len(ours), (summary["deleted"], len(ours))
        assert summary["already_gone"] <= len(theirs), (summary["already_gone"], len(theirs))
        if in_progress or summary["finished_at"] == self.finished_at:
            return  # killed, or ended before it read anything
        self.finished_at = summary["finished_at"]
        assert summary["exit_status"] == outcome.status
        verified = summary["deleted"] + summary["already_gone"]
        assert verified == len(self.noted("gone")), (verified, len(self.noted("gone")))
        assert verified >= self.verified, (verified, self.verified)
        self.verified = verified

    def check_end(self) -> None:
        """Check after the last run: each record is gone, or failed with a reason."""
        assert self.last is not None
        outcome = self.last
        wait_until(lambda: self.store._in_flight == 0)
        there = set(outcome.plan["ids"]) & set(self.store.records[self.kind])
        words = outcome.text[-600:]
        may_stay = bool(self.stubborn) or self.is_partial
        if outcome.status == 5 and may_stay and any(text in words for text in WITHOUT_EFFECT):
            return  # not even the first batches of the remaining records can be deleted
        assert outcome.status == (4 if there else 0), words
        assert may_stay or not there, there
        assert counts(outcome).keys() <= {"deleted", "already_gone", "failed"}
        assert outcome.failed.keys() == there, (outcome.failed, there)
        assert all(map(str.strip, outcome.failed.values())), "failed without a reason"

    def __str__(self) -> str:
        counted = ", ".join(f"{name} {n}" for name, n in self.counted.items())
        faults = ", ".join(sorted(self.names))
        return (
            f"seed {self.seed}: exited with {self.statuses}; {self.kind}:"
            f" {counted or 'no plan'}; {faults or 'no faults'}"
            + "".join(f"\n  VIOLATION {line}" for line in self.wrong)
        )


def truncate_ids(most: int) -> Callable[[Request], None]:
    """Return a hook that removes all but the first ids from a request's filter."""

    def hook(request: Request) -> None:
        if "id:in" in request.query:
            request.query["id:in"] = ",".join(request.query["id:in"].split(",")[:most])

    return hook


def raise_storm(seed: int) -> Storm:
    """Run one storm from start to end."""
    rng = random.Random(seed)
    kind, count = rng.choice(KINDS), rng.randint(15, 320)
    lag = rng.uniform(0.02, 0.3) if rng.random() < 0.25 else 0.0
    made = {"customers": 0, kind: count}
    with (
        FakeStore(**made, lag=lag, **QUIET) as store,
        tempfile.TemporaryDirectory(prefix="storm-") as name,
        contextlib.ExitStack() as stack,
    ):
        wire = None
        if rng.random() < 0.5:
            wire = stack.enter_context(Wire(store, within_tls=rng.random() < 0.4))
        storm = Storm(seed, kind, store, RiggedTool(Path(name)), wire, rng)
        try:
            storm.rage()
        except Exception as error:  # a failed check, or a run that does not end
            line = traceback.extract_tb(error.__traceback__)[-1].line
            run = f"run {len(storm.statuses)}"
            storm.wrong.append(f"{run}: {type(error).__name__}: {error} (at: {line})")
        storm.wrong += [text for text in store.violations if "at once" not in text]
    return storm


@dataclass
class Sum:
    """The totals over all storms."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[Storm] = field(default_factory=list)


def raise_storms(count: int, seed: int) -> Sum:
    """Run `count` storms with consecutive seeds, and print a line for each."""
    total = Sum()
    for number in range(seed, seed + count):
        storm = raise_storm(number)
        print(storm, flush=True)
        total.counts.update(storm.counted)
        if storm.wrong:
            total.wrong.append(storm)
    return total


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.storms", description=__doc__)
    parser.add_argument("--storms", type=int, default=100, metavar="N")
    parser.add_argument("--seed", type=int, default=None, metavar="N", help="default: random")
    own = parser.parse_args(argv)
    seed = random.randrange(10**6) if own.seed is None else own.seed
    total = raise_storms(own.storms, seed)
    print(f"{own.storms} storms, {total.counts}; with violations: {len(total.wrong)}")
    return 1 if total.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
