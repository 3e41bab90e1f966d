"""How tests run the tool: as it is installed, or in surroundings that may be rigged.

The fixtures `installed`, `tool` and `hurried` of conftest.py are made of what stands here.
"""

from __future__ import annotations

import abc
import contextlib
import csv
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
KILLED = KILL if WINDOWS else -KILL  # the exit status of a process that was killed
# Windows has no fork, and on macOS no forked child may ask for the system's proxies, as requests does.
FORKS = hasattr(os, "fork") and sys.platform != "darwin"
if FORKS:
    FORKSERVER = multiprocessing.get_context("forkserver")
    FORKSERVER.set_forkserver_preload(PRELOADED)

posix = pytest.mark.skipif(
    WINDOWS, reason="what Windows has not: signals, modes of files, a POSIX shell"
)
linux = pytest.mark.skipif(sys.platform != "linux", reason="what only Linux has, such as /proc")

QUIET: dict[str, Any] = {
    "quota": 10_000,
    "window": 3600.0,
}  # no test outlives this window, nor its quota
SUMMARY_KEYS = frozenset(
    [
        "status",
        "exit_status",
        "reason",
        "version",
        "store",
        "store_hash",
        "run_folder",
        "resource",
        "filters",
        "selection",
        "selected",
        "deleted",
        "already_gone",
        "failed",
        "unknown",
        "not_attempted",
        "duplicates",
        "not_found",
        "spared",
        "keep_unknown",
        "backup_cut",
        "verified",
        "requests",
        "retries",
        "rate_limited",
        "started_at",
        "finished_at",
        "elapsed_seconds",
        "resume",
    ]
)
COUNTS = ("deleted", "already_gone", "failed", "unknown", "not_attempted")

MakeStore = Callable[..., FakeStore]

CONTROL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")

# What decides on how rich writes, beside the terminal itself.
RICH = "COLUMNS LINES NO_COLOR FORCE_COLOR TTY_COMPATIBLE TTY_INTERACTIVE COLORTERM"


@dataclass(frozen=True)
class Outcome:
    """What one run of the tool left behind."""

    status: int
    out: str
    err: str
    folder: Path | None  # the run folder, None when it made none
    resumed: bool = False

    @property
    def text(self) -> str:
        return self.out + self.err

    @property
    def summary(self) -> dict[str, Any]:
        assert self.folder is not None, self.err
        summary: dict[str, Any] = json.loads((self.folder / "summary.json").read_text())
        return summary

    @property
    def plan(self) -> dict[str, Any]:
        assert self.folder is not None, self.err
        plan: dict[str, Any] = json.loads((self.folder / "plan.json").read_text())
        return plan

    @property
    def backup(self) -> list[dict[str, Any]]:
        assert self.folder is not None, self.err
        lines = (self.folder / "backup.jsonl").read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines if line]

    @property
    def failed(self) -> dict[int, str]:
        assert self.folder is not None, self.err
        with open(self.folder / "failed.csv", newline="") as file:
            return {int(row["id"]): row["reason"] for row in csv.DictReader(file)}


def check(outcome: Outcome) -> Outcome:
    """What holds after every run: no traceback, no token, and counts that add up."""
    assert "Traceback" not in outcome.text, outcome.text
    assert TOKEN not in outcome.text
    if outcome.folder is None:
        return outcome
    for path in filter(Path.is_file, outcome.folder.iterdir()):
        assert TOKEN not in path.read_text(errors="replace"), path
    if (outcome.folder / "summary.json").exists():
        summary = outcome.summary
        assert summary["selected"] == sum(summary[name] for name in COUNTS), summary
        if (
            summary["status"] != "in_progress" and not outcome.resumed
        ):  # which may leave it as it was
            assert summary["exit_status"] == outcome.status
    return outcome


class Tool:
    """Runs bulk_delete.py in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs = folder / "runs"
        self._before: set[Path] = set()  # the run folders that were there at the last start

    def environ(self, store: FakeStore | None, extra: Mapping[str, str] = {}) -> dict[str, str]:
        # PYTHONUTF8 is for the tests (conftest.py); of the tool, they only want to read what it prints.
        hidden = ("BIGCOMMERCE_ACCESS_TOKEN", "PYTHONUTF8")
        environ = {k: v for k, v in os.environ.items() if k not in hidden} | {
            "PYTHONIOENCODING": "utf-8"
        }
        return environ | (store.env() if store else {}) | dict(extra)

    def folders(self) -> set[Path]:
        return set(filter(Path.is_dir, self.runs.iterdir())) if self.runs.is_dir() else set()

    def command(self, config: Path, *options: str | Path) -> list[str]:
        return [sys.executable, str(TOOL), "--config", str(config), *map(str, options)]

    def start(
        self, store: FakeStore | None, config: Path, *options: str | Path, **environ: str
    ) -> subprocess.Popen[str] | Process:
        """Start it without a terminal; the caller has it finished."""
        self._before = self.folders()
        return self._start(self.command(config, *options), self.environ(store, environ))

    def _start(
        self, command: list[str], environ: dict[str, str]
    ) -> subprocess.Popen[str] | Process:
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
        self, process: subprocess.Popen[str] | Process, folder: Path | None = None
    ) -> Outcome:
        """Wait for the one that was started last, and check what must always hold."""
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
        """Run it to its end, without a terminal."""
        assert config is not None or store is not None
        config = config or store.config(self.folder)  # type: ignore[union-attr]
        process = self.start(store, config, *options, **environ)
        resumed = (
            Path(options[options.index("--resume") + 1]) if "--resume" in options else None
        )
        return self.finish(process, resumed)

    def run(self, store: FakeStore, *options: str | Path, **cleanup: object) -> Outcome:
        """Run it with --yes, and these keys in the ini."""
        return self(store, store.config(self.folder, **cleanup), "--yes", *options)

    def resume(
        self, store: FakeStore, run_folder: Path | None, *options: str | Path, **cleanup: object
    ) -> Outcome:
        assert run_folder is not None
        return self.run(store, "--resume", run_folder, *options, **cleanup)


class Process(abc.ABC):
    """A run in a process whose surroundings are rigged: as much of subprocess.Popen as the tests use."""

    pid: int

    @property
    @abc.abstractmethod
    def returncode(self) -> int | None: ...

    @abc.abstractmethod
    def _ended(self, timeout: float) -> bool:
        """Wait so long for its end; whether it came."""

    def _gather(self, *pipes: IO[str]) -> None:
        """Read stdout and stderr as they come: a pipe that nobody reads gets full."""
        self._written = ["", ""]
        self._readers = [
            threading.Thread(target=self._read, args=(number, pipe), daemon=True)
            for number, pipe in enumerate(pipes)
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, number: int, pipe: IO[str]) -> None:
        with pipe:
            self._written[number] = pipe.read()

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float = 100) -> int:
        if not self._ended(timeout):
            self.send_signal(KILL)
            raise subprocess.TimeoutExpired("bulk_delete.py", timeout)
        status = self.returncode
        assert status is not None
        return status

    def send_signal(self, signum: int) -> None:
        with contextlib.suppress(PermissionError):  # what Windows says of one that has ended
            os.kill(self.pid, signum)  # on Windows, any signal is the end

    def communicate(self, timeout: float = 100) -> tuple[str, str]:
        self.wait(timeout)
        for reader in self._readers:
            reader.join(timeout)
        return self._written[0], self._written[1]


class Forked(Process):
    """A process that is forked from one that has loaded everything: several times as fast."""

    def __init__(
        self, rig: Rig, command: list[str], environ: Mapping[str, str], cwd: Path
    ) -> None:
        ends = [multiprocessing.Pipe(duplex=False) for _ in range(2)]
        arguments = (rig, command[1:], dict(environ), str(cwd), ends[0][1], ends[1][1])
        self._process = FORKSERVER.Process(target=forked, args=arguments)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        self._lock = threading.Lock()
        pipes = []
        for ours, theirs in ends:
            theirs.close()
            with ours:
                pipes.append(open(os.dup(ours.fileno()), encoding="utf-8"))  # noqa: SIM115
        self._gather(*pipes)

    @property
    def returncode(self) -> int | None:
        with self._lock:  # two threads at once would read its end twice
            return self._process.exitcode

    def _ended(self, timeout: float) -> bool:
        return bool(wait([self._process.sentinel], timeout))


class Started(Process):
    """A process that is started anew."""

    def __init__(
        self, rig: Rig, command: list[str], environ: Mapping[str, str], cwd: Path
    ) -> None:
        python, own = sys.executable, dict(environ)
        if (
            WINDOWS
        ):  # past the launcher of the venv, which would be killed in the place of Python
            python, own["__PYVENV_LAUNCHER__"] = sys._base_executable, python  # type: ignore[attr-defined]
        self._process = subprocess.Popen(
            [python, "-m", "tests.preloaded"],
            cwd=TOOL.parent,
            env=own,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        self.pid = self._process.pid
        assert self._process.stdin
        assert self._process.stdout
        assert self._process.stderr
        self._gather(self._process.stdout, self._process.stderr)
        hand_over(self._process.stdin, rig, command[1:], environ, str(cwd))

    @property
    def returncode(self) -> int | None:
        return self._process.poll()

    def _ended(self, timeout: float) -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
        return self.returncode is not None


class RiggedTool(Tool):
    """A Tool whose runs take place as `rig` says; `process` is the last one started."""

    def __init__(self, folder: Path, rig: Rig | None = None) -> None:
        super().__init__(folder)
        self.rig = rig or Rig()
        self.process: Process | None = None

    def _start(self, command: list[str], environ: dict[str, str]) -> Process:
        self.process = None
        make = Forked if FORKS else Started
        self.process = process = make(self.rig, command, environ, self.folder)
        return process

    def running(self) -> Process:
        """The process that was started last: a store's thread may ask before `start` has returned."""
        wait_until(lambda: self.process is not None)
        assert self.process is not None
        return self.process

    def signal(self, signum: int) -> None:
        """Send the running tool a signal, and come back once it was sent."""
        self.running().send_signal(signum)

    def killer(self, **matching: Any) -> Fault:
        """A fault that ends the tool with kill -9 when the store gets that request."""
        return Fault(hook=self.kill, close="reset", **matching)

    def kill(self, _request: Request | None = None) -> None:
        process = self.running()
        process.send_signal(KILL)
        process.wait()  # the answer to come finds nobody


class Wire:
    """A TCP relay between the tool and the store, which can be told to misbehave; `with` closes it.

    within_tls: it ends the tool's TLS and begins another with the store, as the machine of a company or of
    a CDN does, so that what goes on are the bytes of HTTP itself.
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
        self.connections = 0  # that were made so far; the first has the number 1
        self._closing = threading.Event()
        self.treat: Callable[[bytes], bytes | None] = lambda data: (
            data
        )  # to the tool; None: close
        self.heal()
        threading.Thread(target=self._accept, daemon=True).start()

    def heal(self) -> None:
        """Let what is set by the lines below do no harm any more; what was lost stays lost."""
        self.strikes: Callable[[int], bool] = lambda number: (
            True
        )  # the connections that they are for
        self.piece = 65536  # bytes of an answer that go on at once
        self.pieces = math.inf  # after so many of them, the rest of what came goes at once
        self.delay: Callable[[], float] = lambda: 0.0  # seconds before each piece
        # "all": a black hole; "answers": half-open, what the tool sends arrives and nothing comes back;
        # "the end": the same, and the tool gets a FIN in the place of the answer.
        self.loses = ""

    def throttle(self, bytes_a_second: int) -> None:
        """Let no more come back on each connection."""
        self.piece = max(1, bytes_a_second // 50)
        self.delay = lambda: self.piece / bytes_a_second

    def environ(self) -> dict[str, str]:
        """What leads the tool through this wire."""
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
                    lost = self.loses  # for ever: no connection comes back
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
        """Take what comes, answer nothing, and stay open until the tool closes."""
        while not self._closing.is_set():
            if select.select([ours], [], [], 0.1)[0] and not ours.recv(65536):
                return

    def _send(self, ours: socket.socket, data: bytes, number: int) -> None:
        """Send it to the tool, at the pace that is set; what heals meanwhile sends the rest at once."""
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
    """`main` in this process: quicker, for very many runs that need no clock and no signal."""
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
    return status, output.getvalue()


def refused_resume(
    tool: Tool, store: FakeStore, folder: Path, *options: str, **cleanup: object
) -> tuple[int | None, str]:
    """Exit status and output of a resume that may leave the folder's summary as it is."""
    config = store.config(tool.folder, **cleanup)
    process = tool.start(store, config, "--yes", "--resume", folder, *options)
    out, err = process.communicate(timeout=100)
    assert "Traceback" not in out + err
    return process.returncode, out + err


def journal(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "journal.jsonl").read_bytes().splitlines()]


def journal_sent(folder: Path) -> list[tuple[int, ...]]:
    """The ids of each DELETE that the journal announces."""
    return [tuple(entry["sent"]) for entry in journal(folder) if "sent" in entry]


def counts(outcome: Outcome) -> dict[str, int]:
    """The outcomes that are not 0, by name."""
    return {name: outcome.summary[name] for name in COUNTS if outcome.summary[name]}


def assert_says(outcome: Outcome, *words: str) -> None:
    """One line of stderr says why the run ended, and it is the summary's reason too, where one is left."""
    assert outcome.err.count("bulk_delete.py: ") == 1, outcome.err
    reason = outcome.err.partition("bulk_delete.py: ")[2].partition("\n")[0]
    assert reason
    if outcome.folder is not None and not outcome.resumed:
        assert outcome.summary["reason"] == reason
    for word in words:
        assert word in reason, reason


def assert_resumable(outcome: Outcome) -> None:
    """The exact command to resume was printed, and is in the summary, without --yes."""
    command = outcome.summary["resume"]
    assert outcome.folder is not None
    assert outcome.folder.name in command
    assert "--resume" in command
    assert "--yes" not in command
    assert command in outcome.text


def assert_all_gone_once(outcome: Outcome, store: FakeStore, planned: set[int]) -> None:
    """A complete run: all planned ids are gone and counted as deleted, none twice."""
    assert outcome.status == 0, outcome.text
    assert not planned & store.customers.keys()
    assert counts(outcome) == {"deleted": len(planned)}
    assert outcome.summary["verified"] is True
    assert store.deleted_ids().keys() == planned


def read_backs(request: Request) -> bool:
    """Whether it reads ids back, as verification and a resume do."""
    return request.method == "GET" and "id:in" in request.query


def listings(request: Request) -> bool:
    """Whether it is a page of the listing."""
    return request.method == "GET" and "page" in request.query and "id:in" not in request.query


def names(*ids: int) -> Callable[[Request], bool]:
    """Whether a request names one of these ids."""
    return lambda request: not {*ids}.isdisjoint(request.ids)


@contextlib.contextmanager
def heeding_signals() -> Iterator[None]:
    """Let no child ignore a signal that this process ignores, as it does under nohup.

    A handler stands in meanwhile: a child that is executed begins with the default in its place.
    """
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    ignored = [signum for signum, handler in before.items() if handler is signal.SIG_IGN]
    for signum in ignored:
        signal.signal(signum, lambda *_: None)
    yield
    for signum in ignored:
        signal.signal(signum, signal.SIG_IGN)


def waiting(released: threading.Event) -> Callable[[Request], None]:
    """A hook by which the store holds a request until the event is set."""

    def hook(_request: Request) -> None:
        assert released.wait(60)

    return hook


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for it; fails after so many seconds, which is no measure of speed."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


def sent_after(store: FakeStore, moment: float) -> int:
    """DELETEs that reached the store after that time of its clock."""
    return sum(request.arrived > moment for request in store.deletes())


DROP = r"email=@spam-drop\.example$"  # the sandbox's spam sign-ups
ORDERS_SCOPE = "store_v2_orders_read_only"
Fits = Callable[[Record], bool]


def chosen(store: FakeStore, fits: Fits) -> set[int]:
    """The ids that the test itself selects."""
    return {number for number, record in store.customers.items() if fits(record)}


def run_deletes(
    tool: Tool, store: FakeStore, wanted: set[int], *options: str | Path, **ini: Any
) -> Outcome:
    """Run it; exactly these go, no DELETE names another, and plan and backup hold just these."""
    before = set(store.customers)
    assert wanted < before, "the test is to select some, and not all"
    assert wanted
    outcome = tool(store, store.config(tool.folder, **ini), "--yes", *options)
    assert outcome.status == 0, outcome.text
    assert before - set(store.customers) == wanted
    assert store.deleted_ids() == dict.fromkeys(wanted, 1)
    assert (
        sorted(outcome.plan["ids"])
        == sorted(record["id"] for record in outcome.backup)
        == sorted(wanted)
    )
    assert (outcome.summary["selected"], outcome.summary["deleted"]) == (
        len(wanted),
        len(wanted),
    )
    return outcome


def run_refused(
    tool: Tool,
    store: FakeStore,
    status: int,
    *options: str | Path,
    words: Iterable[str] = (),
    **ini: Any,
) -> Outcome:
    """Run it; it is refused in these words, and deletes nothing; with status 2 it even sends nothing."""
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
    path = tool.folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def lines(values: Iterable[object]) -> str:
    return "".join(f"{value}\n" for value in values)


def with_orders(store: FakeStore) -> set[int]:
    return {order["customer_id"] for order in store.records["orders"].values()} - {0}


@dataclass
class Session:
    """The tool on a terminal of its own."""

    tool: Tool
    child: pexpect.spawn[str]
    written: io.StringIO = field(default_factory=io.StringIO)

    @property
    def shown(self) -> str:
        """All that was written so far, without its control codes."""
        return CONTROL.sub("", self.written.getvalue()).replace("\r\n", "\n")

    def finish(self) -> Outcome:
        self.child.expect(pexpect.EOF)
        self.child.close()
        status = self.child.exitstatus
        assert status is not None, f"it died of signal {self.child.signalstatus}"
        folders = self.tool.folders()
        assert len(folders) <= 1
        return check(Outcome(status, self.shown, "", folders.pop() if folders else None))

    def hang_up(self) -> int:
        """Close the window; returns the exit status."""
        os.close(self.child.child_fd)
        self.child.closed = self.child.ptyproc.closed = True
        status: int = self.child.ptyproc.wait()
        return status


def people(make_store: MakeStore, *ids: int, **options: Any) -> FakeStore:
    """A store with exactly these customers."""
    store = make_store(**{"customers": 0, "quota": 10_000} | options)
    rng = random.Random(1)
    for number in ids:
        store.customers[number] = KINDS["customers"].make(
            number, 0, 1_700_000_000 + number, rng, store.records
        )
    return store
