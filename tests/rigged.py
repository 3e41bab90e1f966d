"""The tool in rigged surroundings: a hurried clock, a jumping one, a full disk, a kill -9."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, cast

import pytest

from tests.conftest import Outcome, Tool
from tests.fake_store import FakeStore, Fault, Request
from tests.launcher import PRELOADED, Rig, run

FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(PRELOADED)
QUIET: dict[str, Any] = {"quota": 10_000, "window": 3600.0}  # no test outlives this window, nor its quota
COUNTS = ("deleted", "already_gone", "failed", "unknown", "not_attempted")

MakeStore = Callable[..., FakeStore]


class Process:
    """A run in a forked process: as much of subprocess.Popen as the tests use."""

    def __init__(self, rig: Rig, command: list[str], environ: Mapping[str, str], cwd: Path) -> None:
        ends = [multiprocessing.Pipe(duplex=False) for _ in range(2)]
        arguments = (rig, command[1:], dict(environ), str(cwd), ends[0][1], ends[1][1])
        self._process = FORKSERVER.Process(target=run, args=arguments)
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid
        self.folders_before: set[Path] = set()
        self._output = ["", ""]
        self._readers = []
        for number, (ours, theirs) in enumerate(ends):
            theirs.close()
            reader = threading.Thread(target=self._read, args=(number, ours), daemon=True)
            reader.start()
            self._readers.append(reader)

    def _read(self, number: int, end: Connection) -> None:
        with open(end.fileno(), encoding="utf-8", closefd=False) as file, end:
            self._output[number] = file.read()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> None:
        wait([self._process.sentinel], 100)

    def communicate(self, timeout: float) -> tuple[str, str]:
        self._process.join(timeout)
        if self.returncode is None:
            os.kill(self.pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired("bulk_delete.py", timeout)
        for reader in self._readers:
            reader.join(timeout)
        return self._output[0], self._output[1]


class RiggedTool(Tool):
    """A Tool whose runs take place as `rig` says; `process` is the last one started."""

    def __init__(self, folder: Path, rig: Rig | None = None) -> None:
        super().__init__(folder)
        self.rig = rig or Rig()
        self.process: Process | None = None

    def start(  # type: ignore[override]
        self, store: FakeStore | None, config: Path, *options: str | Path, **environ: str
    ) -> Process:
        command = self.command(config, *options)
        self.process = Process(self.rig, command, self.environ(store, environ), self.folder)
        return self.process

    def run(self, store: FakeStore, *options: str | Path, **cleanup: object) -> Outcome:
        """Run it with --yes, and these keys in the ini."""
        config = store.config(self.folder, **cleanup)
        return self(store, config, "--yes", *options)

    def end(self, process: Process) -> Outcome:
        """Wait for one that `start` began."""
        return self.finish(cast("subprocess.Popen[str]", process))

    def resume(
        self, store: FakeStore, run_folder: Path | None, *options: str | Path, **cleanup: object
    ) -> Outcome:
        assert run_folder is not None
        return self.run(store, "--resume", run_folder, *options, **cleanup)

    def signal(self, signum: int) -> None:
        """Send the running tool a signal, and come back once it was sent."""
        assert self.process is not None
        os.kill(self.process.pid, signum)

    def killer(self, **matching: Any) -> Fault:
        """A fault that ends the tool with kill -9 when the store gets that request."""
        return Fault(hook=self.kill, close="reset", **matching)

    def kill(self, _request: Request | None = None) -> None:
        assert self.process is not None
        self.signal(signal.SIGKILL)
        self.process.wait()  # the answer to come finds nobody


def journal(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "journal.jsonl").read_bytes().splitlines()]


def journal_sent(folder: Path) -> list[tuple[int, ...]]:
    """The ids of each DELETE that the journal announces."""
    return [tuple(entry["sent"]) for entry in journal(folder) if "sent" in entry]


def counts(outcome: Outcome) -> dict[str, int]:
    """The outcomes that are not 0, by name."""
    return {name: outcome.summary[name] for name in COUNTS if outcome.summary[name]}


def assert_says(outcome: Outcome, *words: str) -> None:
    """One line says why the run ended, and it is the summary's reason too."""
    reason = outcome.summary["reason"]
    assert reason
    assert "\n" not in reason
    assert "".join(reason.split()) in "".join(outcome.text.split())  # a table breaks its lines
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


@pytest.fixture(name="tool")
def forked_tool(tmp_path: Path) -> RiggedTool:
    """A Tool in surroundings that are not rigged, forked instead of started: four times as fast."""
    return RiggedTool(tmp_path, Rig(speed=1.0))
