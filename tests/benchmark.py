"""Measure the speed of the tool against local stores: `python -m tests.benchmark`.

Prints a table and asserts nothing. Each store runs in its own process, so that its GIL does
not slow the tool. The parts run one after another.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

# The store is imported where it runs: a child's ru_maxrss is never below its parent's.
TOOL = Path(__file__).resolve().parent.parent / "bulk_delete.py"
WORKERS = 5


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
    Part("memory", "dry run", 1_000_000, None, latency=0.0, light=True, options=("--dry-run",)),
)
NAMES = tuple(part.name for part in PARTS)


@dataclass(frozen=True)
class Usage:
    """The exit status, processor time and memory of one run."""

    status: int
    cpu: float  # seconds
    peak: int  # bytes


# --- stores, each in its own process ----------------------------------------------------------


def keep_store(pipe: Connection, folder: Path, part: Part) -> None:
    """Run the part's store until a message arrives, then send its log."""
    from tests.fake_store import FakeStore

    names = ("customers", "quota", "window", "latency", "light", "count_items")
    with FakeStore(**{name: getattr(part, name) for name in names}) as store:
        pipe.send((store.env(), store.config(folder, **part.cleanup)))
        with store.other_app(part.others) if part.others else nullcontext():
            pipe.recv()
        entries = [
            Entry(*(getattr(item, name) for name in Entry._fields)) for item in store.log
        ]
        pipe.send(Log(entries, dict(store.others), store.connections, len(store.customers)))


def measure(tool: Path, part: Part) -> tuple[Usage, Log]:
    """Run the tool on the part's store, which keeps running until the tool has ended."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        process = spawn.Process(target=keep_store, args=(there, Path(name), part))
        process.start()
        try:
            usage = run_tool(tool, *here.recv(), Path(name), part.options)
            here.send("stop")
            return usage, here.recv()
        finally:
            process.join(10)
            process.kill()


def run_tool(
    tool: Path, environ: dict[str, str], ini: Path, folder: Path, options: tuple[str, ...]
) -> Usage:
    """Run the tool to its end."""
    own = {k: v for k, v in os.environ.items() if k != "BIGCOMMERCE_ACCESS_TOKEN"}
    command = [sys.executable, str(tool), "--config", str(ini), *options]
    with open(folder / "output", "w+b") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=own | environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            sys.stderr.buffer.write(output.read())
    unit = 1 if sys.platform == "darwin" else 1024
    return Usage(process.returncode, used.ru_utime + used.ru_stime, used.ru_maxrss * unit)


# --- measures ---------------------------------------------------------------------------------


def used_in_full_windows(part: Part, log: Log) -> float | None:
    """Return the share of the quota used in full windows; None if there were none."""
    if part.allowed is None or part.allowed > part.customers:
        return None
    taken = Counter(log.others)
    for entry in log.entries:
        taken[entry.window] += entry.cost
    # A window begins with its first request. The other app has begun the first one.
    first, last = min(taken) + bool(part.others), max(entry.window for entry in log.entries)
    total = sum(taken[number] for number in range(first, last))
    return total / (part.allowed * (last - first)) if last > first else None


def lower_bound(part: Part, log: Log) -> float | None:
    """Return the fewest seconds for any five workers; None if another app runs."""
    if part.others:
        return None
    tokens = sum(entry.cost for entry in log.entries)
    full = (tokens - 1) // part.allowed if part.allowed else 0
    rest = tokens - full * (part.allowed or 0)
    requests = rest * len(log.entries) / tokens
    return full * part.window + requests * part.latency / WORKERS


def longest_silence(log: Log) -> float:
    """Return the longest time between two requests, in seconds."""
    times = sorted(entry.arrived for entry in log.entries)
    return max((b - a for a, b in itertools.pairwise(times)), default=0.0)


# --- the table --------------------------------------------------------------------------------

HEAD = (
    *("part", "customers", "latency", "requests", "quota used in full windows"),
    *("rate-limited", "seconds", "relative to lower bound", "longest silence"),
    *("CPU per request", "peak memory", "connections", "notes"),
)


def row(part: Part, usage: Usage, log: Log, notes: str = "") -> tuple[str, ...]:
    """Return one row of the table."""
    bound, count, used = (
        lower_bound(part, log),
        len(log.entries),
        used_in_full_windows(part, log),
    )
    took = max(e.answered for e in log.entries) - min(e.arrived for e in log.entries)
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
        "" if used is None else f"{used:.1%}",
        f"{limited}" + (f" ({limited / count:.1%})" if limited else ""),
        f"{took:.1f}",
        "" if not bound else f"{took / bound:.3f}x",
        f"{silence:.2f} s{share}",
        f"{usage.cpu / count * 1000:.2f} ms",
        f"{usage.peak / 1e6:.0f} MB",
        f"{log.connections}",
        notes,
    )


def memory_row(tool: Path, part: Part) -> tuple[str, ...]:
    """Measure a dry run, and its memory per customer."""
    tenth, _ = measure(tool, replace(part, customers=part.customers // 10))
    usage, log = measure(tool, part)
    growth = (usage.peak - tenth.peak) / (part.customers - part.customers // 10)
    return row(part, usage, log, f"{growth:.0f} bytes per customer beyond the first tenth")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark", description=__doc__)
    add = parser.add_argument
    add("--only", nargs="+", choices=NAMES, default=NAMES, help="some parts")
    add("--repeat", type=int, default=1, metavar="N", help="runs of each part")
    add("--tool", type=Path, default=TOOL, metavar="FILE", help="another version of the tool")
    arguments = parser.parse_args(argv)
    only, tool = arguments.only, arguments.tool.resolve()

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
    return 0


if __name__ == "__main__":
    sys.exit(main())
