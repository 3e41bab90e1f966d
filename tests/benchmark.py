"""How fast the tool is: `python -m tests.benchmark` runs it against local stores, prints a table.

It measures and asserts nothing. Each store runs in a process of its own, so that neither's GIL
slows the other; the parts run one after another, but for the incumbent's pacing, which sleeps most
of its time and runs beside them on a store of its own.
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
import threading
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
STARTS = 11  # how often each start is timed
INCUMBENT_CUSTOMERS, INCUMBENT_LATENCY = 2000, 0.3


class Entry(NamedTuple):
    """One request of the store's log."""

    arrived: float
    answered: float
    status: int
    window: int
    cost: int  # 0: refused for want of quota


@dataclass(frozen=True)
class Log:
    """What a store saw of one run."""

    entries: list[Entry]
    others: Mapping[int, int]  # window -> tokens that another app took
    connections: int
    customers: int  # that are left


@dataclass(frozen=True)
class Part:
    """One row: a store, and how the tool is told to run."""

    name: str
    what: str
    customers: int
    quota: int | None = 150
    window: float = 3.0
    latency: float = 0.03
    light: bool = False
    others: float = 0.0  # requests a second that another app takes
    cleanup: Mapping[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ("--yes",)
    ratio: bool = False  # against the incumbent's pacing

    @property
    def count_items(self) -> bool:
        return bool(self.cleanup.get("count_items"))

    @property
    def allowed(self) -> int | None:
        """Tokens a window that are the tool's and the other app's."""
        ceiling = self.cleanup.get("rate_limit")
        return (
            ceiling if self.quota is None or (ceiling and ceiling < self.quota) else self.quota
        )


PARTS = (
    Part("plus", "Plus: 150 in 3 s", 12_000),
    Part("pro", "Pro: 450 in 3 s", 24_000, quota=450, latency=0.02),
    Part("unlimited", "unlimited plan", 20_000, quota=None),
    Part("shared", "Plus, another app takes 20 a second of 50", 9_000, others=20.0),
    Part("small", "a small job, 30 s windows", 1_000, window=30.0, latency=0.1),
    Part("rate_limit", "Plus, `rate_limit = 60`", 4_000, cleanup={"rate_limit": 60}),
    Part("count_items", "Plus, `count_items = yes`", 900, cleanup={"count_items": True}),
    Part("memory", "dry run", 1_000_000, quota=None, latency=0.0, light=True),
    Part("incumbent", "Plus, 30 s windows", 2_000, window=30.0, latency=0.3, ratio=True),
    Part("incumbent", "Pro, 30 s windows", 2_000, 450, window=30.0, latency=0.3, ratio=True),
)
NAMES = (*dict.fromkeys(part.name for part in PARTS), "start")


@dataclass(frozen=True)
class Usage:
    """What a process of the tool took."""

    status: int
    elapsed: float
    cpu: float
    peak: int  # bytes


# --- stores, each in a process of its own --------------------------------------------------------


def keep_store(
    pipe: Connection, folder: Path, options: dict[str, Any], ini: dict[str, Any], others: float
) -> None:
    """Serve until told to stop, then send what was seen."""
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
    """A store that runs: how to reach it, its ini, and in the end its log."""

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
    """The part's store; its log is there once the block is left."""
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
    """One run of the tool, to its end."""
    environ = {k: v for k, v in os.environ.items() if k != "BIGCOMMERCE_ACCESS_TOKEN"}
    command = [sys.executable, str(tool), "--config", str(served.ini), *options]
    begun = time.monotonic()
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
        elapsed = time.monotonic() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            sys.stderr.buffer.write(output.read())
    unit = 1 if sys.platform == "darwin" else 1024
    cpu = used.ru_utime + used.ru_stime
    return Usage(process.returncode, elapsed, cpu, used.ru_maxrss * unit)


# --- measures (pure) -----------------------------------------------------------------------------


def used_in_full_windows(part: Part, log: Log) -> float | None:
    """Tokens used of those there were, in the windows that the job filled from end to end."""
    if part.allowed is None or part.allowed > part.customers:
        return None
    taken: dict[int, int] = {}
    for entry in log.entries:
        taken[entry.window] = taken.get(entry.window, 0) + entry.cost
    # A window begins with its first request; another app's begins before the tool's.
    first, last = min(taken) + bool(part.others), max(taken)
    if last <= first:
        return None
    total = sum(taken.get(n, 0) + log.others.get(n, 0) for n in range(first, last))
    return total / (part.allowed * (last - first))


def lower_bound(part: Part, log: Log) -> float | None:
    """Seconds that no client with five workers can beat; None next to another app."""
    if part.others:
        return None
    tokens = sum(entry.cost for entry in log.entries)
    full = (tokens - 1) // part.allowed if part.allowed else 0
    rest = tokens - full * (part.allowed or 0)
    requests = rest * len(log.entries) / tokens
    return full * part.window + requests * part.latency / WORKERS


def elapsed(log: Log) -> float:
    """Seconds from the first request to the last answer."""
    return max(e.answered for e in log.entries) - min(e.arrived for e in log.entries)


def longest_silence(log: Log) -> float:
    """Seconds between two requests, at most."""
    times = sorted(entry.arrived for entry in log.entries)
    return max((b - a for a, b in itertools.pairwise(times)), default=0.0)


# --- the incumbent's pacing ----------------------------------------------------------------------


def incumbent(env: Mapping[str, str]) -> float:
    """List, then delete one batch after another, with its fixed sleeps; seconds it took."""
    import requests

    from tests.fake_store import STORE_HASH, TOKEN

    url = f"https://{env['BC_API_ENDPOINT']}/stores/{STORE_HASH}/v3/customers"
    ids: list[int] = []
    with requests.Session() as session:
        session.headers["X-Auth-Token"] = TOKEN
        session.verify = env["REQUESTS_CA_BUNDLE"]
        session.trust_env = False
        begun = time.monotonic()
        for page in itertools.count(1):
            answer = session.get(url, params={"page": page, "limit": 250}, timeout=60).json()
            ids += [record["id"] for record in answer["data"]]
            time.sleep(0.2)
            if page >= answer["meta"]["pagination"]["total_pages"]:
                break
        for start in range(0, len(ids), 10):
            batch = ",".join(map(str, ids[start : start + 10]))
            session.delete(url, params={"id:in": batch}, timeout=60)
            time.sleep(0.4)
        return time.monotonic() - begun


def incumbent_process(pipe: Connection, env: Mapping[str, str]) -> None:
    pipe.send(incumbent(env))


class Incumbent(threading.Thread):
    """Its pacing on a store of its own; it never comes near a quota, so Plus and Pro are one."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._seconds = 0.0

    def run(self) -> None:
        part = Part("", "", INCUMBENT_CUSTOMERS, latency=INCUMBENT_LATENCY, window=30.0)
        spawn = multiprocessing.get_context("spawn")
        with tempfile.TemporaryDirectory() as folder, serving(part, Path(folder)) as served:
            here, there = spawn.Pipe()
            process = spawn.Process(target=incumbent_process, args=(there, served.env))
            process.start()
            self._seconds = here.recv()
            process.join(10)

    def seconds(self) -> float:
        self.join()
        return self._seconds


# --- the table -----------------------------------------------------------------------------------

HEAD = (
    "what",
    "customers",
    "latency",
    "requests",
    "quota used in full windows",
    "429s",
    "seconds",
    "over the lower bound",
    "longest silence",
    "CPU a request",
    "peak memory",
    "connections",
    "besides",
)


def show(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def row(part: Part, usage: Usage, log: Log, besides: str = "") -> tuple[str, ...]:
    bound, took, count = lower_bound(part, log), elapsed(log), len(log.entries)
    refused = sum(entry.status == 429 for entry in log.entries)
    silence = longest_silence(log)
    share = f" ({silence / part.window:.0%} of a window)" if part.quota else ""
    if usage.status:
        besides = f"**exit status {usage.status}** {besides}".strip()
    return (
        part.what,
        f"{part.customers:,}",
        f"{part.latency:g} s",
        f"{count:,}",
        show(used_in_full_windows(part, log), ".1%"),
        f"{refused}" + (f" ({refused / count:.1%})" if refused else ""),
        f"{took:.1f}",
        "" if not bound else f"{took / bound:.3f} times",
        f"{silence:.2f} s{share}",
        f"{usage.cpu / count * 1000:.2f} ms",
        f"{usage.peak / 1e6:.0f} MB",
        f"{log.connections}",
        besides,
    )


def measure(tool: Path, part: Part) -> tuple[Usage, Log]:
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        with serving(part, folder) as served:
            usage = run_tool(tool, served, folder, part.options)
        return usage, served.log


def memory_row(tool: Path, part: Part) -> tuple[str, ...]:
    """A dry run of very many, and of a tenth of them: the growth a customer."""
    dry = Part(**{**vars(part), "options": ("--dry-run",)})
    tenth, _ = measure(tool, Part(**{**vars(dry), "customers": part.customers // 10}))
    usage, log = measure(tool, dry)
    growth = (usage.peak - tenth.peak) / (part.customers - part.customers // 10)
    return row(dry, usage, log, f"{growth:.0f} bytes a customer over a tenth of them")


def start_row(tool: Path) -> tuple[str, ...]:
    """`--version` over the imports of the three packages alone."""
    commands = ([str(tool), "--version"], ["-c", f"import {PACKAGES}"])
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(STARTS):
        for command, taken in zip(commands, times, strict=True):
            begun = time.perf_counter()
            subprocess.run([sys.executable, *command], stdout=subprocess.DEVNULL, check=True)
            taken.append((time.perf_counter() - begun) * 1000)
    own, bare = map(statistics.median, times)
    what = f"`--version`: {own:.0f} ms, {own - bare:+.0f} ms over `import {PACKAGES}`"
    return ("start", *("" for _ in HEAD[2:]), what)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark", description=__doc__)
    parser.add_argument(
        "--only", metavar="NAME,…", default=",".join(NAMES), help=f"of {', '.join(NAMES)}"
    )
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="each row N times")
    parser.add_argument(
        "--tool",
        type=Path,
        default=ROOT / "bulk_delete.py",
        metavar="FILE",
        help="another version",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    parser = make_parser()
    arguments = parser.parse_args(argv)
    only, tool = arguments.only.split(","), arguments.tool.resolve()
    if unknown := set(only) - set(NAMES):
        parser.error(
            f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}"
        )
    pacing = Incumbent()
    if "incumbent" in only:
        pacing.start()

    def say(cells: tuple[str, ...]) -> None:
        print("| " + " | ".join(cells) + " |", flush=True)

    say(HEAD)
    say(("---",) * len(HEAD))
    for part in [part for part in PARTS for _ in range(arguments.repeat) if part.name in only]:
        if part.name == "memory":
            say(memory_row(tool, part))
            continue
        usage, log = measure(tool, part)
        besides = f"{log.customers:,} customers left" if log.customers else ""
        if part.ratio:
            theirs = pacing.seconds()
            besides = f"{theirs / elapsed(log):.1f} times as fast as the incumbent's pacing ({theirs:.0f} s)"
        say(row(part, usage, log, besides))
    if "start" in only:
        say(start_row(tool))
    return 0


if __name__ == "__main__":
    sys.exit(main())
