"""Measure the speed of the tool against local stores: `python -m tests.benchmark`.

Prints a table and asserts nothing. Each store runs in its own process, so that its GIL does
not slow the tool. The parts run one after another.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

# The store is imported where it runs: a child's ru_maxrss is never below its parent's.
ROOT = Path(__file__).resolve().parent.parent
WORKERS = 5
PACKAGES = "bigcommerce.api, requests, rich"
STARTS = 11  # timings of each command


class Entry(NamedTuple):
    """One request in the store's log."""

    arrived: float
    answered: float
    status: int
    window: int
    cost: int  # tokens; 0 if rate-limited


@dataclass(frozen=True)
class Log:
    """The store's record of one run."""

    entries: list[Entry]
    others: Mapping[int, int]  # window -> tokens used by another app
    connections: int
    customers: int  # remaining in the store


@dataclass(frozen=True)
class Part:
    """One row of the table: a store, and the options of the tool."""

    name: str
    title: str
    customers: int
    quota: int | None = 150
    window: float = 3.0
    latency: float = 0.03
    light: bool = False
    others: float = 0.0  # requests per second by another app
    cleanup: Mapping[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ("--yes",)

    @property
    def count_items(self) -> bool:
        return bool(self.cleanup.get("count_items"))

    @property
    def allowed(self) -> int | None:
        """The tokens per window for the tool and the other app; None if unlimited."""
        rate_limit = self.cleanup.get("rate_limit")
        limits = [limit for limit in (self.quota, rate_limit) if limit is not None]
        return min(limits, default=None)


PARTS = (
    Part("plus", "Plus: 150 per 3 s", 12_000),
    Part("pro", "Pro: 450 per 3 s", 24_000, quota=450, latency=0.02),
    Part("unlimited", "unlimited plan", 20_000, quota=None),
    Part("shared", "Plus, another app uses 20 of 50 per second", 9_000, others=20.0),
    Part("small", "a small job, 30 s windows", 1_000, window=30.0, latency=0.1),
    Part("latency", "a small job, 0.3 s latency", 1_000, window=30.0, latency=0.3),
    Part("rate_limit", "Plus, `rate_limit = 60`", 4_000, cleanup={"rate_limit": 60}),
    Part("count_items", "Plus, `count_items = yes`", 900, cleanup={"count_items": True}),
    Part("memory", "dry run", 1_000_000, quota=None, latency=0.0, light=True),
)
NAMES = (*dict.fromkeys(part.name for part in PARTS), "start")


@dataclass(frozen=True)
class Usage:
    """The exit status, time and memory of one run."""

    status: int
    elapsed: float  # seconds
    cpu: float  # seconds
    peak: int  # bytes


# --- stores, each in its own process ----------------------------------------------------------


def keep_store(
    pipe: Connection, folder: Path, options: dict[str, Any], ini: dict[str, Any], others: float
) -> None:
    """Run a store until a message arrives, then send its log."""
    from tests.fake_store import FakeStore

    with FakeStore(**options) as store:
        pipe.send((store.env(), store.config(folder, **ini)))
        if others:
            with store.other_app(others):
                pipe.recv()
        else:
            pipe.recv()
        entries = [
            Entry(item.arrived, item.answered, item.status, item.window, item.cost)
            for item in store.log
        ]
        pipe.send(Log(entries, dict(store.others), store.connections, len(store.customers)))


class Served:
    """A running store: its environment, its store.ini and finally its log."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.env: dict[str, str]
        self.ini: Path
        self.env, self.ini = pipe.recv()
        self.log = Log([], {}, 0, 0)

    def stop(self) -> None:
        self._pipe.send("stop")
        self.log = self._pipe.recv()


@contextmanager
def serving(part: Part, folder: Path) -> Iterator[Served]:
    """Run the part's store; its log is available after the block."""
    options = {
        "customers": part.customers,
        "quota": part.quota,
        "window": part.window,
        "latency": part.latency,
        "light": part.light,
        "count_items": part.count_items,
    }
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    ini = dict(part.cleanup)
    process = spawn.Process(target=keep_store, args=(there, folder, options, ini, part.others))
    process.start()
    try:
        served = Served(here)
        yield served
        served.stop()
    finally:
        process.join(10)
        process.kill()


def run_tool(tool: Path, served: Served, folder: Path, options: tuple[str, ...]) -> Usage:
    """Run the tool to its end."""
    environ = {k: v for k, v in os.environ.items() if k != "BIGCOMMERCE_ACCESS_TOKEN"}
    command = [sys.executable, str(tool), "--config", str(served.ini), *options]
    started = time.monotonic()
    with open(folder / "output", "w+b") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environ | served.env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        _, status, used = os.wait4(process.pid, 0)
        elapsed = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            sys.stderr.buffer.write(output.read())
    unit = 1 if sys.platform == "darwin" else 1024
    cpu = used.ru_utime + used.ru_stime
    return Usage(process.returncode, elapsed, cpu, used.ru_maxrss * unit)


# --- measures ---------------------------------------------------------------------------------


def used_in_full_windows(part: Part, log: Log) -> float | None:
    """Return the share of the quota used in full windows; None if there were none."""
    if part.allowed is None or part.allowed > part.customers:
        return None
    taken: dict[int, int] = {}
    for entry in log.entries:
        taken[entry.window] = taken.get(entry.window, 0) + entry.cost
    # A window begins with its first request. The other app has begun the first one.
    first, last = min(taken) + bool(part.others), max(taken)
    if last <= first:
        return None
    total = sum(taken.get(n, 0) + log.others.get(n, 0) for n in range(first, last))
    return total / (part.allowed * (last - first))


def lower_bound(part: Part, log: Log) -> float | None:
    """Return the fewest seconds for any five workers; None if another app runs."""
    if part.others:
        return None
    tokens = sum(entry.cost for entry in log.entries)
    full = (tokens - 1) // part.allowed if part.allowed else 0
    rest = tokens - full * (part.allowed or 0)
    requests = rest * len(log.entries) / tokens
    return full * part.window + requests * part.latency / WORKERS


def elapsed(log: Log) -> float:
    """Return the seconds from the first request to the last answer."""
    return max(e.answered for e in log.entries) - min(e.arrived for e in log.entries)


def longest_silence(log: Log) -> float:
    """Return the longest time between two requests, in seconds."""
    times = sorted(entry.arrived for entry in log.entries)
    return max((b - a for a, b in itertools.pairwise(times)), default=0.0)


# --- the table --------------------------------------------------------------------------------

HEAD = (
    "part",
    "customers",
    "latency",
    "requests",
    "quota used in full windows",
    "rate-limited",
    "seconds",
    "relative to lower bound",
    "longest silence",
    "CPU per request",
    "peak memory",
    "connections",
    "notes",
)


def show(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def row(part: Part, usage: Usage, log: Log, notes: str = "") -> tuple[str, ...]:
    """Return one row of the table."""
    bound, took, count = lower_bound(part, log), elapsed(log), len(log.entries)
    limited = sum(entry.status == 429 for entry in log.entries)
    silence = longest_silence(log)
    share = f" ({silence / part.window:.0%} of a window)" if part.quota else ""
    if usage.status:
        notes = f"**exit status {usage.status}** {notes}".strip()
    return (
        part.title,
        f"{part.customers:,}",
        f"{part.latency:g} s",
        f"{count:,}",
        show(used_in_full_windows(part, log), ".1%"),
        f"{limited}" + (f" ({limited / count:.1%})" if limited else ""),
        f"{took:.1f}",
        "" if not bound else f"{took / bound:.3f}x",
        f"{silence:.2f} s{share}",
        f"{usage.cpu / count * 1000:.2f} ms",
        f"{usage.peak / 1e6:.0f} MB",
        f"{log.connections}",
        notes,
    )


def measure(tool: Path, part: Part) -> tuple[Usage, Log]:
    """Run the tool on the part's store."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        with serving(part, folder) as served:
            usage = run_tool(tool, served, folder, part.options)
        return usage, served.log


def memory_row(tool: Path, part: Part) -> tuple[str, ...]:
    """Measure a dry run, and its memory per customer."""
    dry = Part(**{**vars(part), "options": ("--dry-run",)})
    tenth, _ = measure(tool, Part(**{**vars(dry), "customers": part.customers // 10}))
    usage, log = measure(tool, dry)
    growth = (usage.peak - tenth.peak) / (part.customers - part.customers // 10)
    return row(dry, usage, log, f"{growth:.0f} bytes per customer beyond the first tenth")


def start_row(tool: Path) -> tuple[str, ...]:
    """Compare the time of `--version` with importing just the three packages."""
    commands = ([str(tool), "--version"], ["-c", f"import {PACKAGES}"])
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(STARTS):
        for command, timings in zip(commands, times, strict=True):
            started = time.perf_counter()
            subprocess.run([sys.executable, *command], stdout=subprocess.DEVNULL, check=True)
            timings.append((time.perf_counter() - started) * 1000)
    own, bare = map(statistics.median, times)
    notes = f"`--version`: {own:.0f} ms, {own - bare:+.0f} ms compared with `import {PACKAGES}`"
    return ("start", *("" for _ in HEAD[2:]), notes)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark", description=__doc__)
    parser.add_argument(
        "--only", metavar="NAME,…", default=",".join(NAMES), help=f"parts: {', '.join(NAMES)}"
    )
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="runs of each part")
    parser.add_argument(
        "--tool",
        type=Path,
        default=ROOT / "bulk_delete.py",
        metavar="FILE",
        help="another version of the tool",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    parser = make_parser()
    arguments = parser.parse_args(argv)
    only, tool = arguments.only.split(","), arguments.tool.resolve()
    if unknown := set(only) - set(NAMES):
        parser.error(
            f"unknown part: {', '.join(sorted(unknown))} (choose from {', '.join(NAMES)})"
        )

    def print_row(cells: tuple[str, ...]) -> None:
        print("| " + " | ".join(cells) + " |", flush=True)

    print_row(HEAD)
    print_row(("---",) * len(HEAD))
    for part in [part for part in PARTS for _ in range(arguments.repeat) if part.name in only]:
        if part.name == "memory":
            print_row(memory_row(tool, part))
            continue
        usage, log = measure(tool, part)
        notes = f"{log.customers:,} customers not deleted" if log.customers else ""
        print_row(row(part, usage, log, notes))
    if "start" in only:
        print_row(start_row(tool))
    return 0


if __name__ == "__main__":
    sys.exit(main())
