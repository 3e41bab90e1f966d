"""Fixtures that test files share; rigged.py has the classes behind them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.fake_store import FakeStore
from tests.launcher import Rig
from tests.rigged import (
    FORKS,
    QUIET,
    RICH,
    WINDOWS,
    MakeStore,
    RiggedTool,
    Session,
    Tool,
    children_get_signals,
)

if WINDOWS:  # the workers of pytest-xdist read and write UTF-8, as the tool does
    os.environ["PYTHONUTF8"] = "1"
if not FORKS:  # starting Python for each run is slow
    os.environ.setdefault("PYTEST_TIMEOUT", "600")


@pytest.fixture(scope="session", autouse=True)
def _children_get_signals() -> Iterator[None]:
    with children_get_signals():
        yield


@pytest.fixture
def installed(tmp_path: Path) -> Tool:
    """The tool as users run it: `python bulk_delete.py` in its own process."""
    return Tool(tmp_path)


@pytest.fixture
def tool(tmp_path: Path) -> RiggedTool:
    """The tool in an environment without faults, forked where possible."""
    return RiggedTool(tmp_path, Rig(speed=1.0))


@pytest.fixture
def hurried(tmp_path: Path) -> RiggedTool:
    """The same with a clock that runs fifty times as fast, so that waits are short."""
    return RiggedTool(tmp_path)


@pytest.fixture
def make_store() -> Iterator[MakeStore]:
    """Start local stores, and stop them; a recorded violation fails the test."""
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


@pytest.fixture
def store(make_store: MakeStore) -> FakeStore:
    """A store with 30 customers, or three batches."""
    return make_store(customers=30, **QUIET)


@pytest.fixture
def terminal(installed: Tool) -> Iterator[Callable[..., Session]]:
    """Start the tool on a pseudo-terminal with the given number of columns."""
    if not hasattr(pexpect, "spawn"):
        pytest.skip("pexpect does not support pseudo-terminals on Windows")
    children = []

    def start(store: FakeStore, *options: str, columns: int = 100) -> Session:
        command, *arguments = installed.command(store.config(installed.folder), *options)
        environ = {k: v for k, v in installed.environ(store).items() if k not in RICH.split()}
        child = pexpect.spawn(
            command,
            arguments,
            cwd=str(installed.folder),
            env=environ | {"TERM": "xterm-256color"},
            dimensions=(40, columns),
            encoding="utf-8",
            # On Ctrl-C the terminal drops output, sometimes in the middle of a character.
            codec_errors="replace",
            timeout=60,
        )
        session = Session(installed, child)
        child.logfile_read = session.written
        children.append(child)
        return session

    yield start
    for child in children:
        child.close(force=True)
