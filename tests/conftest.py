"""The fixtures that test files share; what they are made of stands in rigged.py."""

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
    heeding_signals,
)

if WINDOWS:  # for the workers of pytest-xdist: they read and write UTF-8, as the tool does
    os.environ["PYTHONUTF8"] = "1"
if not FORKS:  # to start Python for each run takes its time
    os.environ.setdefault("PYTEST_TIMEOUT", "600")


@pytest.fixture(scope="session", autouse=True)
def _heeding_signals() -> Iterator[None]:
    with heeding_signals():
        yield


@pytest.fixture
def installed(tmp_path: Path) -> Tool:
    """The tool as a person has it: `python bulk_delete.py` in a process of its own."""
    return Tool(tmp_path)


@pytest.fixture
def tool(tmp_path: Path) -> RiggedTool:
    """The tool in surroundings that are not rigged, in a forked process where there is one."""
    return RiggedTool(tmp_path, Rig(speed=1.0))


@pytest.fixture
def hurried(tmp_path: Path) -> RiggedTool:
    """The same, and its clock goes fifty times as fast: no wait takes long."""
    return RiggedTool(tmp_path)


@pytest.fixture
def make_store() -> Iterator[MakeStore]:
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


@pytest.fixture
def store(make_store: MakeStore) -> FakeStore:
    """30 customers: three batches."""
    return make_store(customers=30, **QUIET)


@pytest.fixture
def terminal(installed: Tool) -> Iterator[Callable[..., Session]]:
    """Starts the tool on a pseudo-terminal of so many columns."""
    if not hasattr(pexpect, "spawn"):
        pytest.skip("pexpect knows no pseudo-terminal of Windows")
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
            codec_errors="replace",  # Ctrl-C makes the terminal drop output, in the middle of a character too
            timeout=60,
        )
        session = Session(installed, child)
        child.logfile_read = session.written
        children.append(child)
        return session

    yield start
    for child in children:
        child.close(force=True)
