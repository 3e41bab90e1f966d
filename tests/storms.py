"""Random faults of all kinds at once, and a resume after each end: `python -m tests.storms --storms 100`.

Each storm draws from a seed of its own a store with its oddities, faults of store and wire, what other people
do meanwhile, and kills. The tool runs until it ends with 0, 3 or 4, eight times at most, and once more in
peace; after each run it is checked what went, what was counted, and what the journal says.

It prints a line a storm and a sum. Exit status 1 at a violation: `--storms 1 --seed N` raises that storm
again, as far as threads and processes let it be the same.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import math
import random
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fake_store import FakeStore, Fault, Request
from tests.launcher import KILL
from tests.rigged import (
    COUNTS,
    KILLED,
    QUIET,
    Outcome,
    RiggedTool,
    Wire,
    counts,
    journal,
    journal_sent,
    wait_until,
)

MOST_TRIES = 8
TIMEOUT = 0.4  # seconds, which no clock of the rig shortens
KINDS = (
    "customers",
    "customers",
    "customers",
    "products",
    "redirects",
    "brands",
    "promotions",
    "coupons",
)
PAGE = "<html><head><title>Sorry, we are down</title></head><body>soon</body></html>"
STATES = {0, 3, 4, 5}  # how a run may end that nobody ended
ENDED = {KILLED: "kill -9", 130: "SIGINT", 143: "SIGTERM"}


# --- what goes wrong ----------------------------------------------------------------------------------


def waits(rng: random.Random) -> dict[str, str]:
    """A header that says how long to wait, with the seconds of the tool's own clock."""
    seconds = rng.randint(1, 30)
    milliseconds = {"X-Rate-Limit-Time-Reset-Ms": str(seconds * 1000)}
    return rng.choice(
        [milliseconds, {"X-Retry-After": str(seconds)}, {"Retry-After": str(seconds)}]
    )


def said(status: int) -> dict[str, Any]:
    return {"status": status, "body": {"status": status, "title": "no"}}


def late(_request: Request) -> None:
    time.sleep(TIMEOUT * 1.5)


FAULTS: dict[str, Callable[[random.Random], dict[str, Any]]] = {
    "5xx": lambda rng: (
        said(rng.choice([500, 502, 503, 504, 509, 520, 599])) | {"commit": rng.random() < 0.5}
    ),
    "503 that says to wait": lambda rng: (
        said(503) | {"headers": waits(rng), "commit": rng.random() < 0.5}
    ),
    "408": lambda rng: said(408) | {"commit": rng.random() < 0.5},
    "429": lambda rng: said(429) | {"headers": waits(rng)},
    "429 without headers": lambda rng: said(429),
    "time-out before the deed": lambda rng: {"delay": TIMEOUT * 1.5},
    "time-out after the deed": lambda rng: {"after": late},
    "reset before the deed": lambda rng: {"close": "reset"},
    "reset after the deed": lambda rng: {"close": "reset", "commit": True},
    "cut off": lambda rng: {"close": "cut", "commit": rng.random() < 0.5},
    "HTML": lambda rng: {
        "status": rng.choice([200, 503]),
        "body": PAGE,
        "content_type": "text/html",
        "commit": rng.random() < 0.5,
    },
    "HTML instead of the store": lambda rng: {
        "status": 403,
        "body": PAGE,
        "content_type": "text/html",
    },
    "empty JSON": lambda rng: {"status": 200, "body": {}, "commit": rng.random() < 0.5},
    "refusal": lambda rng: said(rng.choice([400, 404, 409, 413, 422, 423])),
    "end": lambda rng: said(rng.choice([301, 401, 403, 501])) | {"times": 1},
}


def treat_at_times(wire: Wire, rng: random.Random, how: str) -> None:
    """Let the wire do that to some of its pieces, of a while that begins soon."""
    begin, every = rng.randrange(60), rng.randint(2, 5)
    end, turn = begin + rng.randint(10, 40), 0

    def treat(data: bytes) -> bytes | None:
        nonlocal turn
        turn += 1
        if not begin < turn < end or turn % every:
            return data
        spoilt = {
            "cut": data[: len(data) // 2],
            "corrupt": data[:-9] + bytes(9),
            "short": data[:40],
        }
        return spoilt.get(how) or None

    wire.treat = treat


def strike_some(wire: Wire, rng: random.Random, how: str) -> None:
    """Let the wire do that to some of its connections."""
    some = {rng.randint(1, 30) for _ in range(rng.randint(1, 8))}
    wire.strikes = lambda number: number in some
    if how == "latency":
        source = random.Random(rng.random())
        wire.delay = lambda: source.uniform(0, TIMEOUT)
    elif how == "throttle":
        wire.throttle(rng.choice([500, 5_000, 50_000]))
    elif how == "drip":
        wire.piece, wire.pieces, wire.delay = 1, 400, lambda: TIMEOUT / 100
    else:
        wire.loses = how


PIECES, CONNECTIONS = ("cut", "corrupt", "short", "reset"), ("latency", "throttle", "drip")
LOSSES = {"black hole": "all", "half-open": "answers", "half-closed": "the end"}


def spoil(wire: Wire, rng: random.Random, *, within_tls: bool) -> str:
    """Let the wire misbehave in one way; returns which."""
    how = rng.choice([*PIECES, *CONNECTIONS, *LOSSES])
    if within_tls and how == "corrupt":
        how = "cut"  # nobody could notice the other
    if how in PIECES:
        treat_at_times(wire, rng, how)
    else:
        strike_some(wire, rng, LOSSES.get(how, how))
    return f"wire{' within TLS' if within_tls else ''}: {how}"


# --- a storm ------------------------------------------------------------------------------------------


@dataclass
class Storm:
    """One store, the tool, what befalls them, and what is wrong with what came of it."""

    seed: int
    kind: str
    store: FakeStore
    tool: RiggedTool
    wire: Wire | None
    rng: random.Random
    names: list[str] = field(default_factory=list)  # what goes wrong
    foreign: set[int] = field(default_factory=set)  # ids that others deleted
    stubborn: set[int] = field(
        default_factory=set
    )  # ids that the store does not delete at once
    part: bool = False  # the store heeds a part of a DELETE's ids
    sent_signals: set[int] = field(default_factory=set)
    statuses: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    plan: bytes = b""
    lines: list[dict[str, Any]] = field(
        default_factory=list
    )  # of the journal, as of the last run
    proven: int = 0
    finished_at: str = ""  # of the last summary that was written to its end
    counted: dict[str, int] = field(default_factory=dict)
    last: Outcome | None = None

    # what befalls them

    def brew(self) -> None:
        """Draw the oddities of the store, and the faults."""
        rng, ids = self.rng, list(self.store.records[self.kind])
        odd = rng.sample(ids[6:], 6)  # what comes first proves that a DELETE has an effect
        if rng.random() < 0.4:
            self.name("refused ids")
            self.store.refuse = {
                n: (rng.choice([409, 422, 423]), {"title": "is locked"}) for n in odd[:3]
            }
        if rng.random() < 0.3:
            self.name("ids that stay")
            self.store.sticky = {n: rng.choice([1, 2, math.inf]) for n in odd[3:5]}
        if rng.random() < 0.2 and self.kind in ("customers", "redirects"):
            self.name("refusals per item")
            self.store.per_item = {odd[5]: (409, "is locked")}
            self.store.per_item_shape = rng.choice(["errors", "rows"])
        self.stubborn = {*self.store.refuse, *self.store.sticky, *self.store.per_item}
        if self.store.lag:
            self.name("lag")
        faults = [self.fault() for _ in range(rng.randint(0, 10))]
        self.store.faults = [*faults, *self.heeding()]
        for _ in range(rng.randint(1, 2) if self.wire else 0):
            assert self.wire is not None
            self.name(spoil(self.wire, rng, within_tls=self.wire.within_tls))

    def name(self, name: str) -> None:
        self.names.append(name)

    def fault(self) -> Fault:
        """Draw one fault: of an answer, or something that happens at a request."""
        rng = self.rng
        doings: dict[str, Callable[[Request], None]] = {
            "kill": self.kill,
            "SIGINT": lambda _: self.signal(signal.SIGINT),
            "SIGTERM": lambda _: self.signal(signal.SIGTERM),
            "sign-ups": lambda _: self.sign_up(),
            "deletions by others": lambda _: self.delete_some(rng.randrange(10**6)),
        }
        name = rng.choice([*FAULTS, *doings, "kill", "kill"])
        self.name(name)
        place = {"method": rng.choice(["DELETE", "DELETE", "GET"]), "skip": rng.randrange(14)}
        if name in doings:
            reset = "reset" if name == "kill" else ""
            when = "after" if rng.random() < 0.5 else "hook"
            return Fault(**place, close=reset, commit=when == "after", **{when: doings[name]})
        times = {"times": rng.choice([1, 1, 2, 3, 6, 12]), "quota_headers": rng.random() < 0.5}
        return Fault(**place | times | FAULTS[name](rng))

    def heeding(self) -> list[Fault]:
        """Draw how many of the ids that a request names the store heeds, for ever."""
        found = []
        for method, chance, most in (("GET", 0.15, 120), ("DELETE", 0.1, 8)):
            if self.rng.random() < chance and self.kind in ("customers", "redirects"):
                self.name(f"a part of a {method}'s ids is heeded")
                self.part |= method == "DELETE"
                heeded = self.rng.randint(1 if method == "DELETE" else 20, most)
                found.append(Fault(method, times=math.inf, hook=heeding_only(heeded)))
        return found

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

    def sign_up(self) -> None:
        self.store.add(3, kind=self.kind)

    def delete_some(self, seed: int) -> None:
        """Let another app delete a few; whether the tool had sent them is for the checks to see."""
        there = sorted(self.store.records[self.kind])
        some = random.Random(seed).sample(there, min(4, len(there)))
        self.foreign.update(some)
        self.store.remove(*some, kind=self.kind)

    # running it

    def folder(self) -> Path | None:
        return next(
            (f for f in sorted(self.tool.folders()) if (f / "plan.json").exists()), None
        )

    def run(self, *, peace: bool = False, **ini: Any) -> None:
        """One run, or a resume once there is a plan, and all that must hold after it."""
        before = self.folder()
        options: list[str | Path] = ["--resume", before] if before else []
        config = self.store.config(
            self.tool.folder, resource=self.kind, **{"timeout": TIMEOUT} | ini
        )
        environ = self.wire.environ() if self.wire else self.store.env()
        process = self.tool.start(self.store, config, "--yes", *options, **environ)
        timer = threading.Timer(self.rng.uniform(0, 1.5), self.kill)
        if not peace and self.rng.random() < 0.15:
            timer.start()
        try:
            outcome = self.tool.finish(process, before)
        finally:
            timer.cancel()
        self.statuses.append(outcome.status)
        self.last = Outcome(
            outcome.status, outcome.out, outcome.err, self.folder(), before is not None
        )
        self.check(self.last)

    def rage(self) -> None:
        """Run and resume it to its end; then once more, with all that passes gone."""
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
        if self.folder() is None:
            return
        self.store.faults = [fault for fault in self.store.faults if fault.times == math.inf]
        if self.wire:
            self.wire.heal()
            self.wire.treat = lambda data: data
        wait_until(lambda: self.store._in_flight == 0)
        time.sleep(self.store.lag)
        self.run(peace=True, **ini | {"max_error_rate": 100, "max_retries": 5, "timeout": 10})
        self.check_end()

    # what must hold

    def expect(self, holds: object, words: str) -> None:
        if not holds:
            self.wrong.append(f"after run {len(self.statuses)}: {words}")

    def check(self, outcome: Outcome) -> None:
        """What holds after every run, however it ended."""
        allowed = STATES | {s for s, name in ENDED.items() if self.was_sent(name)}
        self.expect(
            outcome.status in allowed, f"exit status {outcome.status}: {outcome.text[-600:]}"
        )
        deleted = set(self.store.deleted_ids())
        if outcome.folder is None:
            self.expect(not deleted, f"sent without a plan: {sorted(deleted)[:9]}")
            self.expect(outcome.status != 0, "exit 0 without a plan")
            return
        planned = set(outcome.plan["ids"])
        text = (outcome.folder / "plan.json").read_bytes()
        self.expect(self.plan in (b"", text), "the plan has changed")
        self.plan = text
        self.expect(
            deleted <= planned, f"sent, and not planned: {sorted(deleted - planned)[:9]}"
        )
        self.check_journal(outcome.folder, planned, deleted)
        there = planned & set(self.store.records[self.kind])
        if (outcome.folder / "summary.json").exists():
            self.check_counts(outcome, planned, there)
        if outcome.status == 0:
            self.expect(not there, f"exit 0, and in the store: {sorted(there)[:9]}")
            self.expect(outcome.summary["verified"], "exit 0, and not verified")
        if outcome.status == 5:
            self.expect(
                "--resume" in outcome.text or outcome.resumed,
                "exit 5 without a command to resume",
            )

    def was_sent(self, name: str) -> bool:
        number = KILL if name == "kill -9" else signal.Signals[name]
        return number in self.sent_signals

    def check_journal(self, folder: Path, planned: set[int], deleted: set[int]) -> None:
        """It only grows, knew of each DELETE before the store, and proves nothing that is still there."""
        data = (folder / "journal.jsonl").read_bytes()
        torn = bool(data) and not data.endswith(b"\n")
        self.expect(not torn or self.statuses[-1] == KILLED, "the journal's last line is torn")
        if torn:
            (folder / "journal.jsonl").write_bytes(
                data[: data.rfind(b"\n") + 1]
            )  # as a resume does
        entries = journal(folder)
        self.expect(entries[: len(self.lines)] == self.lines, "the journal has lost lines")
        self.lines = entries
        sent = set().union(*journal_sent(folder))
        self.expect(
            deleted <= sent, f"sent, and not in the journal: {sorted(deleted - sent)[:9]}"
        )
        self.expect(
            sent <= planned, f"in the journal, and not planned: {sorted(sent - planned)[:9]}"
        )
        left = self.gone() & set(self.store.records[self.kind])
        self.expect(not left, f"proven gone, and in the store: {sorted(left)[:9]}")

    def gone(self) -> set[int]:
        """The ids that the journal holds for proven."""
        return {number for entry in self.lines for number in entry.get("gone", ())}

    def check_counts(self, outcome: Outcome, planned: set[int], there: set[int]) -> None:
        summary = outcome.summary
        self.counted = counts(outcome)
        self.expect(
            summary["selected"] == sum(summary[name] for name in COUNTS), f"counts: {summary}"
        )
        self.expect(
            summary["selected"]
            in {len(planned), 0 if summary["status"] == "in_progress" else len(planned)},
            f"selected {summary['selected']} of {len(planned)}",
        )
        sent = {number for entry in self.lines for number in entry.get("sent", ())}
        gone = planned - there
        ours, theirs = gone - (self.foreign - sent), gone & self.foreign
        self.expect(
            summary["deleted"] <= len(ours), f"deleted {summary['deleted']} of {len(ours)}"
        )
        self.expect(
            summary["already_gone"] <= len(theirs),
            f"already gone {summary['already_gone']}, while others deleted {len(theirs)}",
        )
        if summary["status"] == "in_progress" or summary["finished_at"] == self.finished_at:
            return  # it was killed, or ended before it had read anything
        self.finished_at = summary["finished_at"]
        self.expect(
            summary["exit_status"] == outcome.status, f"exit status {summary['exit_status']}"
        )
        proven = summary["deleted"] + summary["already_gone"]
        self.expect(
            proven == len(self.gone()), f"proven {proven}, in the journal {len(self.gone())}"
        )
        self.expect(proven >= self.proven, f"proven {proven}, before {self.proven}")
        self.proven = proven

    def check_end(self) -> None:
        """In peace all is settled: each record is gone, or failed with a reason."""
        assert self.last is not None
        outcome = self.last
        wait_until(lambda: self.store._in_flight == 0)
        there = set(outcome.plan["ids"]) & set(self.store.records[self.kind])
        words = outcome.text[-600:]
        may_stay = bool(self.stubborn) or self.part
        if (
            outcome.status == 5
            and may_stay
            and ("nothing went" in words or "still lists all" in words)
        ):
            return  # what is left has no effect from its first batch on
        self.expect(
            outcome.status == (4 if there else 0), f"in peace {outcome.status}: {words}"
        )
        self.expect(may_stay or not there, f"in peace, and in the store: {sorted(there)[:9]}")
        self.expect(
            counts(outcome).keys() <= {"deleted", "already_gone", "failed"},
            f"in peace: {counts(outcome)}",
        )
        self.expect(
            outcome.failed.keys() == there,
            f"failed {sorted(outcome.failed)[:9]}, there {sorted(there)[:9]}",
        )
        self.expect(all(map(str.strip, outcome.failed.values())), "failed without a reason")

    def __str__(self) -> str:
        names = [
            f"{n} x{times}" if times > 1 else n
            for n, times in collections.Counter(self.names).items()
        ]
        return (
            f"seed {self.seed}: {len(self.statuses)} runs ended with {' '.join(map(str, self.statuses))}; "
            f"{self.kind}: {', '.join(f'{name} {n}' for name, n in self.counted.items()) or 'no plan'}; "
            f"{', '.join(names) or 'calm'}"
            + "".join(f"\n  WRONG {line}" for line in self.wrong)
        )


def heeding_only(most: int) -> Callable[[Request], None]:
    """A hook that lets the store hear no more than the first ids that a request names."""

    def hook(request: Request) -> None:
        if "id:in" in request.query:
            request.query["id:in"] = ",".join(request.query["id:in"].split(",")[:most])

    return hook


def raise_storm(seed: int) -> Storm:
    """One storm from its beginning to its end."""
    rng = random.Random(seed)
    kind, count = rng.choice(KINDS), rng.randint(15, 320)
    longest = 0.3
    lag = rng.uniform(0.02, longest) if rng.random() < 0.25 else 0.0
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
        except (
            Exception
        ) as error:  # what the checks of every run raise, or a run that does not end
            line = traceback.extract_tb(error.__traceback__)[-1].line
            storm.wrong.append(f"{type(error).__name__}: {error} (at: {line})")
        storm.wrong += [text for text in store.violations if "at once" not in text]
    return storm


@dataclass
class Sum:
    """What all storms came to."""

    storms: int = 0
    statuses: collections.Counter[int] = field(default_factory=collections.Counter)
    unplanned: int = 0  # storms that ended before there was a plan
    counts: collections.Counter[str] = field(default_factory=collections.Counter)
    wrong: list[Storm] = field(default_factory=list)

    def add(self, storm: Storm) -> None:
        self.storms += 1
        self.statuses.update(storm.statuses)
        self.unplanned += not storm.plan
        self.counts.update(storm.counted)
        if storm.wrong:
            self.wrong.append(storm)

    def __str__(self) -> str:
        statuses = ", ".join(
            f"{times} with {status}" for status, times in sorted(self.statuses.items())
        )
        outcomes = ", ".join(f"{name} {count}" for name, count in self.counts.items())
        seeds = " ".join(str(storm.seed) for storm in self.wrong)
        return (
            f"{self.storms} storms, {self.statuses.total()} runs: {statuses}; "
            f"{self.unplanned} without a plan; {outcomes}; "
            + (f"VIOLATIONS, seeds {seeds}" if self.wrong else "no violation")
        )


def raise_storms(count: int, seed: int, say: Callable[[str], None] = lambda text: None) -> Sum:
    """That many storms, each with the next seed."""
    total = Sum()
    for number in range(seed, seed + count):
        storm = raise_storm(number)
        total.add(storm)
        say(str(storm))
    return total


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.storms", description=__doc__)
    parser.add_argument("--storms", type=int, default=100, metavar="N")
    parser.add_argument(
        "--seed", type=int, default=None, metavar="N", help="default: another each time"
    )
    own = parser.parse_args(argv)
    seed = random.randrange(10**6) if own.seed is None else own.seed
    total = raise_storms(own.storms, seed, lambda text: print(text, flush=True))
    print(total)
    return 1 if total.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
