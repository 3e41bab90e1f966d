"""What the tests share: the real tool as a subprocess, against the local store."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fake_store import TOKEN, FakeStore

TOOL = Path(__file__).resolve().parent.parent / "bulk_delete.py"


@dataclass(frozen=True)
class Outcome:
    """What one run of the tool left behind."""

    status: int
    out: str
    err: str
    folder: Path | None  # the run folder, None when it made none

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
        parts = ("deleted", "already_gone", "failed", "unknown", "not_attempted")
        assert summary["selected"] == sum(summary[part] for part in parts), summary
        if summary["status"] != "in_progress":
            assert summary["exit_status"] == outcome.status
    return outcome


class Tool:
    """Runs bulk_delete.py in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs = folder / "runs"

    def environ(self, store: FakeStore | None, extra: Mapping[str, str] = {}) -> dict[str, str]:
        environ = {k: v for k, v in os.environ.items() if k != "BIGCOMMERCE_ACCESS_TOKEN"}
        return environ | (store.env() if store else {}) | dict(extra)

    def folders(self) -> set[Path]:
        return set(self.runs.iterdir()) if self.runs.is_dir() else set()

    def command(self, config: Path, *options: str | Path) -> list[str]:
        return [sys.executable, str(TOOL), "--config", str(config), *map(str, options)]

    def start(
        self, store: FakeStore | None, config: Path, *options: str | Path, **environ: str
    ) -> subprocess.Popen[str]:
        """Start it without a terminal; the caller waits for it."""
        return subprocess.Popen(
            self.command(config, *options),
            cwd=self.folder,
            env=self.environ(store, environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, process: subprocess.Popen[str], folder: Path | None = None) -> Outcome:
        """Wait for it, and check what must always hold."""
        before: set[Path] = getattr(process, "folders_before", set())
        out, err = process.communicate(timeout=100)
        new = self.folders() - before
        return check(Outcome(process.returncode, out, err, folder or (new.pop() if new else None)))

    def __call__(
        self, store: FakeStore | None, config: Path | None = None, *options: str | Path, **environ: str
    ) -> Outcome:
        """Run it to its end, without a terminal."""
        assert config is not None or store is not None
        config = config or store.config(self.folder)  # type: ignore[union-attr]
        before = self.folders()
        process = self.start(store, config, *options, **environ)
        process.folders_before = before  # type: ignore[attr-defined]
        resumed = Path(options[options.index("--resume") + 1]) if "--resume" in options else None
        return self.finish(process, resumed)


@pytest.fixture
def tool(tmp_path: Path) -> Tool:
    return Tool(tmp_path)


@pytest.fixture
def make_store() -> Iterator[Callable[..., FakeStore]]:
    """Starts local stores, and stops them; a test that does not expect violations sees none."""
    stores: list[FakeStore] = []

    def make(**options: Any) -> FakeStore:
        store = FakeStore(**options)
        store.__enter__()
        stores.append(store)
        return store

    yield make
    for store in stores:
        store.__exit__(None, None, None)
    for store in stores:
        assert not store.violations, store.violations


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for it; fails after so many seconds, which is no measure of speed."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


def sent_after(store: FakeStore, moment: float) -> int:
    """DELETEs that reached the store after that time of its clock."""
    return sum(request.arrived > moment for request in store.deletes())


SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
