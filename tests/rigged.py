"""Run the tool in tests: as installed, or in a rigged environment.

The fixtures `installed`, `tool` and `hurried` in conftest.py use these classes.
"""

from __future__ import annotations

import contextlib
import csv
import gc
import io
import json
import math
import multiprocessing
import os
import random
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import IO, Any, Self

import pexpect
import pytest

from bulk_delete import main
from tests.fake_store import KINDS, TOKEN, FakeStore, Fault, Record, Request
from tests.launcher import KILL, PRELOADED, Rig, forked, hand_over

TOOL = Path(__file__).resolve().parent.parent / "bulk_delete.py"
WINDOWS = os.name == "nt"
SIGNALS = {
    getattr(signal, name): status
    for name, status in (("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129))
    if hasattr(signal, name)  # Windows has no SIGHUP
}
KILLED = KILL if WINDOWS else -KILL  # the exit status of a killed process
# Windows has no fork. On macOS a forked child must not look up the system's proxies, which
# requests does.
FORKS = hasattr(os, "fork") and sys.platform != "darwin"
if FORKS:
    FORKSERVER = multiprocessing.get_context("forkserver")
    FORKSERVER.set_forkserver_preload(PRELOADED)

posix = pytest.mark.skipif(WINDOWS, reason="needs POSIX signals, file modes or a POSIX shell")
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux features such as /proc")

# No test outlasts this window or uses up its quota.
QUIET: dict[str, Any] = {"quota": 10_000, "window": 3600.0}
COUNTS = ("deleted", "already_gone", "failed", "unknown", "not_attempted")

MakeStore = Callable[..., FakeStore]

CONTROL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")

# Environment variables that change how rich prints.
RICH = "COLUMNS LINES NO_COLOR FORCE_COLOR TTY_COMPATIBLE TTY_INTERACTIVE COLORTERM"


@dataclass(frozen=True)
class Outcome:
    """The exit status, output and run folder of one run."""

    status: int
    out: str
    err: str
    folder: Path | None  # the run folder; None if the run made none
    resumed: bool = False

    @property
    def text(self) -> str:
        return self.out + self.err

    def read(self, name: str) -> str:
        """Return the text of a file in the run folder."""
        assert self.folder is not None, self.err
        return (self.folder / name).read_text(encoding="utf-8")

    @property
    def summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = json.loads(self.read("summary.json"))
        return summary

    @property
    def plan(self) -> dict[str, Any]:
        plan: dict[str, Any] = json.loads(self.read("plan.json"))
        return plan

    @property
    def backup(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.read("backup.jsonl").split("\n") if line]

    @property
    def failed(self) -> dict[int, str]:
        rows = csv.DictReader(io.StringIO(self.read("failed.csv"), newline=""))
        return {int(row["id"]): row["reason"] for row in rows}


def check(outcome: Outcome) -> Outcome:
    """Check that a run printed no traceback and no token, and that its counts add up."""
    assert "Traceback" not in outcome.text, outcome.text
    assert TOKEN not in outcome.text
    if outcome.folder is None:
        return outcome
    for path in filter(Path.is_file, outcome.folder.iterdir()):
        assert TOKEN not in path.read_text(errors="replace"), path
    if (outcome.folder / "summary.json").exists():
        summary = outcome.summary
        assert summary["selected"] == sum(summary[name] for name in COUNTS), summary
        # A resume may leave the summary of the earlier run unchanged.
        if summary["status"] != "in_progress" and not outcome.resumed:
            assert summary["exit_status"] == outcome.status
    return outcome


class Tool:
    """Runs bulk_delete.py in its own folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs = folder / "runs"
        self._before: set[Path] = set()  # run folders that existed at the last start

    def environ(self, store: FakeStore | None, extra: Mapping[str, str] = {}) -> dict[str, str]:
        # PYTHONUTF8 is for the tests only (conftest.py). The tool gets just an output encoding.
        hidden = ("BIGCOMMERCE_ACCESS_TOKEN", "PYTHONUTF8")
        environ = {k: v for k, v in os.environ.items() if k not in hidden}
        own = {"PYTHONIOENCODING": "utf-8"} | (store.env() if store else {})
        return environ | own | dict(extra)

    def folders(self) -> set[Path]:
        return set(filter(Path.is_dir, self.runs.iterdir())) if self.runs.is_dir() else set()

    def plan_folder(self) -> Path | None:
        """Return the first run folder that has a plan; None if there is none."""
        found = (path for path in sorted(self.folders()) if (path / "plan.json").exists())
        return next(found, None)

    def command(self, config: Path, *options: str | Path) -> list[str]:
        return [sys.executable, str(TOOL), "--config", str(config), *map(str, options)]

    def start(
        self, store: FakeStore | None, config: Path, *options: str | Path, **environ: str
    ) -> subprocess.Popen[str] | Forked:
        """Start the tool without a terminal; the caller finishes the run."""
        self._before = self.folders()
        return self._start(self.command(config, *options), self.environ(store, environ))

    def _start(
        self, command: list[str], environ: dict[str, str]
    ) -> subprocess.Popen[str] | Forked:
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )

    def finish(
        self, process: subprocess.Popen[str] | Forked, folder: Path | None = None
    ) -> Outcome:
        """Wait for the last run that was started, and check its outcome."""
        out, err = process.communicate(timeout=100)
        assert process.returncode is not None
        new = self.folders() - self._before
        made = folder or (new.pop() if new else None)
        return check(Outcome(process.returncode, out, err, made, folder is not None))

    def __call__(
        self,
        store: FakeStore | None,
        config: Path | None = None,
        *options: str | Path,
        **environ: str,
    ) -> Outcome:
        """Run the tool to its end, without a terminal."""
        assert config is not None or store is not None
        config = config or store.config(self.folder)  # type: ignore[union-attr]
        process = self.start(store, config, *options, **environ)
        at = options.index("--resume") + 1 if "--resume" in options else 0
        return self.finish(process, Path(options[at]) if at else None)

    def run(self, store: FakeStore, *options: str | Path, **cleanup: object) -> Outcome:
        """Run the tool with --yes, and with these keys in store.ini."""
        return self(store, store.config(self.folder, **cleanup), "--yes", *options)

    def resume(
        self, store: FakeStore, run_folder: Path | None, *options: str | Path, **cleanup: object
    ) -> Outcome:
        assert run_folder is not None
        return self.run(store, "--resume", run_folder, *options, **cleanup)


class Forked:
    """A process forked from one with all modules loaded, with methods like a Popen."""

    def __init__(
        self, rig: Rig, command: list[str], environ: Mapping[str, str], cwd: Path
    ) -> None:
        ends = [multiprocessing.Pipe(duplex=False) for _ in range(2)]
        arguments = (rig, command[1:], dict(environ), str(cwd), ends[0][1], ends[1][1])
        self._process = FORKSERVER.Process(target=forked, args=arguments)
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid
        self._lock = threading.Lock()
        self._written = ["", ""]
        self._readers = []
        for number, (ours, theirs) in enumerate(ends):
            theirs.close()
            with ours:
                pipe = open(os.dup(ours.fileno()), encoding="utf-8")  # noqa: SIM115
            # In threads, so that no pipe fills up.
            reader = threading.Thread(target=self._read, args=(number, pipe), daemon=True)
            reader.start()
            self._readers.append(reader)

    def _read(self, number: int, pipe: IO[str]) -> None:
        with pipe:
            self._written[number] = pipe.read()

    @property
    def returncode(self) -> int | None:
        with self._lock:  # two threads at once would reap the process twice
            return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float = 100) -> int:
        if not wait([self._process.sentinel], timeout):
            self.send_signal(KILL)
            raise subprocess.TimeoutExpired("bulk_delete.py", timeout)
        status = self.returncode
        assert status is not None
        return status

    def send_signal(self, signum: int) -> None:
        os.kill(self.pid, signum)

    def communicate(self, timeout: float = 100) -> tuple[str, str]:
        self.wait(timeout)
        for reader in self._readers:
            reader.join(timeout)
        return self._written[0], self._written[1]


class Started(subprocess.Popen[str]):
    """A process with a new interpreter, where fork is not available."""

    def __init__(
        self, rig: Rig, command: list[str], environ: Mapping[str, str], cwd: Path
    ) -> None:
        python, own = sys.executable, dict(environ)
        if WINDOWS:  # bypass the venv's launcher, which would be killed instead of Python
            python, own["__PYVENV_LAUNCHER__"] = sys._base_executable, python  # type: ignore[attr-defined]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        preloaded = [python, "-m", "tests.preloaded"]
        super().__init__(preloaded, cwd=TOOL.parent, env=own, encoding="utf-8", **pipes)
        assert self.stdin
        hand_over(self.stdin, rig, command[1:], environ, str(cwd))
        self.stdin = None  # communicate would flush it

    def send_signal(self, signum: int) -> None:
        with contextlib.suppress(PermissionError):  # raised on Windows if it has ended
            os.kill(self.pid, signum)  # on Windows, any signal ends the process


Process = Forked | Started


class RiggedTool(Tool):
    """A Tool that applies a rig to its runs; `process` is the last one started."""

    def __init__(self, folder: Path, rig: Rig | None = None) -> None:
        super().__init__(folder)
        self.rig = rig or Rig()
        self.process: Process | None = None

    def _start(self, command: list[str], environ: dict[str, str]) -> Process:
        self.process = None
        make = Forked if FORKS else Started
        self.process = make(self.rig, command, environ, self.folder)
        return self.process

    def running(self) -> Process:
        """Return the last process, waiting for it if `start` has not returned yet."""
        wait_until(lambda: self.process is not None)
        assert self.process is not None
        return self.process

    def signal(self, signum: int) -> None:
        """Send the running tool a signal, and return once it is sent."""
        self.running().send_signal(signum)

    def killer(self, **matching: Any) -> Fault:
        """Return a fault that kills the tool (kill -9) when the store gets the request."""
        return Fault(hook=self.kill, close="reset", **matching)

    def kill(self, _request: Request | None = None) -> None:
        process = self.running()
        process.send_signal(KILL)
        process.wait()  # so that it does not get the answer


class Wire:
    """A TCP relay between the tool and the store that can misbehave; `with` closes it.

    With within_tls it terminates the tool's TLS and opens another connection to the store, as
    a company's proxy or a CDN does, so that it relays plain HTTP.
    """

    def __init__(
        self, store: FakeStore, *, within_tls: bool = False, at: str = "127.0.0.1"
    ) -> None:
        self.store, self.within_tls = store, within_tls
        self._tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None
        if within_tls:
            self._tls = (store._tls, ssl.create_default_context(cafile=store.ca_file))
        self._beyond = ("127.0.0.1", int(store.host.partition(":")[2]))
        self._listener = socket.create_server((at, 0), backlog=128)
        name = "localhost" if at == "127.0.0.1" else at
        self.host = f"{name}:{self._listener.getsockname()[1]}"
        self.connections = 0  # made so far; the first is number 1
        self._closing = threading.Event()
        # Changes the data for the tool; None closes the connection.
        self.treat: Callable[[bytes], bytes | None] = lambda data: data
        self.heal()
        threading.Thread(target=self._accept, daemon=True).start()

    def heal(self) -> None:
        """Reset all faults except `treat`; connections that were lost stay lost."""
        # Whether the faults apply to the connection with this number.
        self.strikes: Callable[[int], bool] = lambda number: True
        self.piece = 65536  # bytes of an answer to relay at once
        self.pieces = math.inf  # after this many pieces, relay the rest at once
        self.delay: Callable[[], float] = lambda: 0.0  # seconds before each piece
        # "all": a black hole. "answers": half-open, the store gets the requests and the tool
        # gets nothing back. "the end": the same, but the tool gets a FIN instead of an answer.
        self.loses = ""

    def throttle(self, bytes_a_second: int) -> None:
        """Limit the bytes per second that come back on each connection."""
        self.piece = max(1, bytes_a_second // 50)
        self.delay = lambda: self.piece / bytes_a_second

    def drip(self, seconds: float) -> None:
        """Send the first bytes of an answer one by one, at this interval."""
        self.piece, self.pieces, self.delay = 1, 400, lambda: seconds

    def environ(self) -> dict[str, str]:
        """Return the environment that makes the tool connect through this wire."""
        return self.store.env() | {"BC_API_ENDPOINT": self.host}

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                ours, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(
                target=self._relay, args=(ours, self.connections), daemon=True
            ).start()

    def _relay(self, ours: socket.socket, number: int) -> None:
        with (
            contextlib.suppress(OSError),
            ours,
            socket.create_connection(self._beyond) as theirs,
        ):
            if self._tls is None:
                return self._carry(ours, theirs, number)
            server, client = self._tls
            with (
                server.wrap_socket(ours, server_side=True) as within,
                client.wrap_socket(theirs, server_hostname="localhost") as beyond,
            ):
                self._carry(within, beyond, number)

    def _carry(self, ours: socket.socket, theirs: socket.socket, number: int) -> None:
        lost = ""
        for end in (ours, theirs):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while not self._closing.is_set():
            for end in select.select([ours, theirs], [], [], 0.1)[0]:
                data: bytes | None = end.recv(65536)
                if end is theirs and lost and not data:
                    return self._swallow(ours)
                if data and end is theirs:
                    data = self.treat(data)
                if not data:
                    return
                if not lost and self.strikes(number):
                    lost = self.loses  # forever: no connection recovers
                    if lost == "all":
                        return self._swallow(ours)
                if end is ours:
                    theirs.sendall(data)
                elif not lost:
                    self._send(ours, data, number)
                elif lost == "the end":
                    ours.shutdown(socket.SHUT_WR)
                    return self._swallow(ours)

    def _swallow(self, ours: socket.socket) -> None:
        """Read and discard data, and stay open until the tool closes."""
        while not self._closing.is_set():
            if select.select([ours], [], [], 0.1)[0] and not ours.recv(65536):
                return

    def _send(self, ours: socket.socket, data: bytes, number: int) -> None:
        """Send data to the tool at the current pace; after `heal`, the rest at once."""
        sent = 0
        while data and not self._closing.is_set():
            struck = self.strikes(number) and sent < self.pieces
            size = self.piece if struck else len(data)
            self._closing.wait(self.delay() if struck else 0.0)
            ours.sendall(data[:size])
            data, sent = data[size:], sent + 1

    def close(self) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept(), which close() does not
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def in_process(store: FakeStore, folder: Path, *options: str | Path) -> tuple[int, str]:
    """Run `main` in this process, for many quick runs without clocks or signals."""
    config = store.config(folder)
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    output = io.StringIO()
    before = dict(os.environ)
    os.environ.update(store.env())
    os.environ.pop("BIGCOMMERCE_ACCESS_TOKEN", None)
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            status = main(["--config", str(config), *map(str, options)])
    finally:
        os.environ.clear()
        os.environ.update(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    gc.collect()  # the run, whose end is not to come within the next one
    return status, output.getvalue()


def refused_resume(
    tool: Tool, store: FakeStore, folder: Path, *options: str, **cleanup: object
) -> tuple[int | None, str]:
    """Resume a run without checking its summary; returns exit status and output."""
    config = store.config(tool.folder, **cleanup)
    process = tool.start(store, config, "--yes", "--resume", folder, *options)
    out, err = process.communicate(timeout=100)
    assert "Traceback" not in out + err
    return process.returncode, out + err


def journal(folder: Path) -> list[dict[str, Any]]:
    """Return the entries of a run's journal."""
    return [json.loads(line) for line in (folder / "journal.jsonl").read_bytes().splitlines()]


def journal_sent(folder: Path) -> list[tuple[int, ...]]:
    """Return the ids of each DELETE that the journal noted before it was sent."""
    return [tuple(entry["sent"]) for entry in journal(folder) if "sent" in entry]


def counts(outcome: Outcome) -> dict[str, int]:
    """Return the counts in the summary that are not 0, by name."""
    return {name: outcome.summary[name] for name in COUNTS if outcome.summary[name]}


def assert_says(outcome: Outcome, *words: str) -> None:
    """Check the one reason on stderr for the end of the run, also in the summary."""
    assert outcome.err.count("bulk_delete.py: ") == 1, outcome.err
    reason = outcome.err.partition("bulk_delete.py: ")[2].partition("\n")[0]
    assert reason
    if outcome.folder is not None and not outcome.resumed:
        assert outcome.summary["reason"] == reason
    for word in words:
        assert word in reason, reason


def assert_resumable(outcome: Outcome) -> None:
    """Check that the summary and the output contain the resume command, without --yes."""
    command = outcome.summary["resume"]
    assert outcome.folder is not None
    assert outcome.folder.name in command
    assert "--resume" in command
    assert "--yes" not in command
    assert command in outcome.text


def assert_all_gone_once(outcome: Outcome, store: FakeStore, planned: set[int]) -> None:
    """Check a complete run: all planned ids are gone and counted as deleted once."""
    assert outcome.status == 0, outcome.text
    assert not planned & store.customers.keys()
    assert counts(outcome) == {"deleted": len(planned)}
    assert outcome.summary["verified"] is True
    assert store.deleted_ids().keys() == planned


def read_backs(request: Request) -> bool:
    """Tell whether a request reads ids back, as verification and a resume do."""
    return request.method == "GET" and "id:in" in request.query


def listings(request: Request) -> bool:
    """Tell whether a request is for a page of the listing."""
    is_page = request.method == "GET" and "page" in request.query
    return is_page and "id:in" not in request.query and "customer_groups" not in request.path


def names(*ids: int) -> Callable[[Request], bool]:
    """Return a predicate: whether a request contains one of these ids."""
    return lambda request: not {*ids}.isdisjoint(request.ids)


@contextlib.contextmanager
def children_get_signals() -> Iterator[None]:
    """Keep children from inheriting ignored signals, as they would under nohup.

    A handler replaces each ignored signal, and exec resets handlers to the default.
    """
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    ignored = [signum for signum, handler in before.items() if handler is signal.SIG_IGN]
    for signum in ignored:
        signal.signal(signum, lambda *_: None)
    yield
    for signum in ignored:
        signal.signal(signum, signal.SIG_IGN)


def waiting(released: threading.Event) -> Callable[[Request], None]:
    """Return a hook that makes the store hold a request until the event is set."""

    def hook(_request: Request) -> None:
        assert released.wait(60)

    return hook


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for a condition; fails after `seconds`, which does not measure speed."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition never became true"
        time.sleep(0.01)


def sent_after(store: FakeStore, moment: float) -> int:
    """Return how many DELETEs reached the store after a moment of its clock."""
    return sum(request.arrived > moment for request in store.deletes())


DROP = r"email=@spam-drop\.example$"  # the sandbox's spam sign-ups
ORDERS_SCOPE = "store_v2_orders_read_only"
Fits = Callable[[Record], bool]


def chosen(store: FakeStore, fits: Fits) -> set[int]:
    """Return the ids of the customers that fit, as the test itself selects them."""
    return {number for number, record in store.customers.items() if fits(record)}


def run_deletes(
    tool: Tool, store: FakeStore, wanted: set[int], *options: str | Path, **ini: Any
) -> Outcome:
    """Run the tool; exactly these ids are planned, backed up, sent once and deleted."""
    before = set(store.customers)
    assert wanted < before, "the test must not select all customers"
    assert wanted
    outcome = tool(store, store.config(tool.folder, **ini), "--yes", *options)
    assert outcome.status == 0, outcome.text
    assert before - set(store.customers) == wanted
    assert store.deleted_ids() == dict.fromkeys(wanted, 1)
    backed_up = sorted(record["id"] for record in outcome.backup)
    assert sorted(outcome.plan["ids"]) == backed_up == sorted(wanted)
    assert outcome.summary["selected"] == outcome.summary["deleted"] == len(wanted)
    return outcome


def run_refused(
    tool: Tool,
    store: FakeStore,
    status: int,
    *options: str | Path,
    words: Iterable[str] = (),
    **ini: Any,
) -> Outcome:
    """Run the tool; it refuses with these words and sends no DELETE.

    With status 2 it sends no request at all and makes no run folder.
    """
    before = len(store.customers)
    outcome = tool(store, store.config(tool.folder, **ini), "--yes", *options, COLUMNS="1000")
    assert outcome.status == status, outcome.text
    assert not store.deletes()
    assert len(store.customers) == before
    for word in words:
        assert word in outcome.err, outcome.err
    if status == 2:
        assert not store.log
        assert outcome.folder is None
    return outcome


def write(tool: Tool, text: str | bytes, name: str = "list.txt") -> Path:
    """Write a file into the tool's folder, and return its path."""
    path = tool.folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def lines(values: Iterable[object]) -> str:
    """Return the values as text, one on each line."""
    return "".join(f"{value}\n" for value in values)


def with_orders(store: FakeStore) -> set[int]:
    """Return the ids of the customers that have orders."""
    return {order["customer_id"] for order in store.records["orders"].values()} - {0}


@dataclass
class Session:
    """The tool on a pseudo-terminal."""

    tool: Tool
    child: pexpect.spawn[str]
    written: io.StringIO = field(default_factory=io.StringIO)

    @property
    def shown(self) -> str:
        """All output so far, without control codes."""
        return CONTROL.sub("", self.written.getvalue()).replace("\r\n", "\n")

    def finish(self) -> Outcome:
        self.child.expect(pexpect.EOF)
        self.child.close()
        status = self.child.exitstatus
        assert status is not None, f"killed by signal {self.child.signalstatus}"
        folders = self.tool.folders()
        assert len(folders) <= 1
        return check(Outcome(status, self.shown, "", folders.pop() if folders else None))

    def hang_up(self) -> int:
        """Close the terminal, and return the exit status."""
        os.close(self.child.child_fd)
        self.child.closed = self.child.ptyproc.closed = True
        status: int = self.child.ptyproc.wait()
        return status


def people(make_store: MakeStore, *ids: int, **options: Any) -> FakeStore:
    """Return a store with exactly these customers."""
    store = make_store(**{"customers": 0, "quota": 10_000} | options)
    rng = random.Random(1)
    for number in ids:
        store.customers[number] = KINDS["customers"].make(
            number, 0, 1_700_000_000 + number, rng, store.records
        )
    return store
