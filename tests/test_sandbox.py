"""The sandbox as a new user meets it: `python -m tests.fake_store`."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests import fake_store
from tests.fake_store import Sandbox
from tests.rigged import CONTROL, RICH, TOOL, posix
from tests.test_run_folder import WITHOUT_POSIX

START = [sys.executable, "-m", "tests.fake_store"]
FAST = ["--customers", "20", "--latency", "0"]
Spawn = Callable[..., "pexpect.spawn[str]"]
Serve = Callable[..., list[str]]


def environ() -> dict[str, str]:
    """Return an environment in which `tests` is found from any folder."""
    kept = {name: value for name, value in os.environ.items() if name not in RICH.split()}
    path = os.pathsep.join([str(TOOL.parent), *kept.get("PYTHONPATH", "").split(os.pathsep)])
    return kept | {"PYTHONPATH": path, "TERM": "xterm-256color"}


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the sandbox in that folder without a terminal."""
    return subprocess.run(
        [*START, *options],
        cwd=folder,
        env=environ(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Spawn]:
    """Start a command in the folder of the test, on a terminal of 80 columns."""
    children: list[pexpect.spawn[str]] = []

    def start(command: str, *arguments: str) -> pexpect.spawn[str]:
        child = pexpect.spawn(
            command,
            list(arguments),
            cwd=str(tmp_path),
            env=environ(),
            dimensions=(40, 80),
            encoding="utf-8",
            codec_errors="replace",
            timeout=30,
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.close(force=True)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start `--serve` and return the lines that it prints to be pasted; Ctrl-C ends it well."""
    processes: list[subprocess.Popen[str]] = []

    def start(*options: str) -> list[str]:
        command = [*START, "--serve", *options]
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environ(), stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        assert process.stdout
        lines = iter(process.stdout.readline, "\n")  # up to an empty line
        return [line.rstrip("\n") for line in lines]

    yield start
    for process in processes:
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


def screen_of(text: str | None) -> str:
    return CONTROL.sub("", text or "").replace("\r\n", "\n")


def rest_of(child: pexpect.spawn[str]) -> str:
    """Return everything that the child still shows until it ends."""
    child.expect(pexpect.EOF)
    child.close()
    return screen_of(child.before)


def run_folder(folder: Path) -> Path:
    (found,) = folder.glob("sandbox1-*")
    return found


def summary(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((run_folder(folder) / "summary.json").read_text())
    return read


@posix
def test_first_command_asks_and_shows_the_run_folder(tmp_path: Path, terminal: Spawn) -> None:
    child = terminal(*START, *FAST)
    child.expect(r"(?i)type 20\b")
    assert "nothing leaves this machine" in " ".join(screen_of(child.before).split())
    child.sendline("20")
    after = rest_of(child)
    assert child.exitstatus == 0
    assert "0 of its 20 customers" in " ".join(after.split())
    folder = run_folder(tmp_path / "runs")
    ending = after[after.rindex(f"runs/{folder.name}") :]
    files = re.findall(r"^  ([a-z]+\.[a-z]+) ", ending, re.MULTILINE)
    assert "backup.jsonl" in files
    assert {*files} <= {path.name for path in folder.iterdir()}


@posix
def test_canceled_run_is_resumed_as_printed(
    tmp_path: Path, terminal: Spawn, serve: Serve
) -> None:
    """What `--serve` prints, pasted into another terminal, deletes what was listed before."""
    child = terminal(*START, *FAST)
    child.expect(r"(?i)type 20\b")
    child.sendline("no")
    assert "-m tests.fake_store --serve\n" in rest_of(child)
    assert child.exitstatus == 3
    pasted = serve()
    assert pasted[-1] == summary(tmp_path / "runs")["resume"]
    other = terminal("sh")
    for line in ("cd /", *pasted):
        other.sendline(line)
    other.expect(r"(?i)type 20\b.*: ")
    other.sendline("20")
    other.expect("exit status 0")
    other.sendline("exit")
    rest_of(other)
    assert summary(tmp_path / "runs")["deleted"] == 20


@posix
def test_interrupted_run_is_resumed_as_printed(tmp_path: Path, terminal: Spawn) -> None:
    """What was deleted stays deleted, and the one line that is printed deletes the rest."""
    child = terminal(*START, "--customers", "120", "--latency", "0.1")
    child.expect(r"(?i)type 120\b")
    child.sendline("120")
    child.expect("Deleting .* [1-9][0-9]?%")
    child.sendintr()
    after = rest_of(child)
    assert child.exitstatus == 130
    before = summary(tmp_path / "runs")
    assert 0 < before["deleted"] + before["unknown"] < 120
    command = next(line for line in after.split("\n") if "fake_store -- --resume" in line)
    done = run(tmp_path, *shlex.split(command)[3:])
    assert done.returncode == 0, done.stderr
    after_all = summary(tmp_path / "runs")
    assert (after_all["status"], after_all["deleted"]) == ("completed", 120)
    assert not Sandbox(tmp_path / "runs" / "sandbox", keep=True).customers


@posix
def test_without_a_terminal(tmp_path: Path, serve: Serve) -> None:
    """The job runs with --yes; its files are private and git ignores them.

    Where no run can be resumed, `--serve` has all records again for the README's cookbook.
    """
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    done = run(tmp_path, *FAST)
    assert done.returncode == 0, done.stderr
    assert summary(tmp_path / "runs")["deleted"] == 20
    status = ["git", "status", "--porcelain"]
    assert subprocess.run(status, cwd=tmp_path, capture_output=True, check=True).stdout == b""
    folder = tmp_path / "runs" / "sandbox"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    pasted = serve(*FAST)
    assert pasted[-1].endswith("bulk_delete.py --config runs/sandbox/store.ini --dry-run")
    script = ["sh", "-ec", "\n".join(pasted)]
    again = subprocess.run(script, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "20 customers" in again.stderr


def test_kept_store_is_as_it_was(tmp_path: Path) -> None:
    """It has the same port, records and lists, less what was deleted; a new one has all."""
    with Sandbox(tmp_path, customers=30) as first:
        everything = {name: dict(records) for name, records in first.records.items()}
        assert all(everything.values())
        port, lists = first.port, (tmp_path / "staff.txt").read_text()
        products = first.records["products"].values()
        brand = next(record["brand_id"] for record in products if record["brand_id"])
        first.remove(*list(first.customers)[:3])
        first.remove(brand, kind="brands")
        left = {name: dict(records) for name, records in first.records.items()}
    assert left != everything
    with Sandbox(tmp_path, keep=True) as again:
        assert (again.port, again.records) == (port, left)
        again.remove(next(iter(again.customers)))
    assert len(Sandbox(tmp_path, keep=True).customers) == 26
    with Sandbox(tmp_path, customers=30) as fresh:
        assert (fresh.port, fresh.records) == (port, everything)
    assert (tmp_path / "staff.txt").read_text() == lists


@posix
def test_folder_in_use_or_foreign_folder_is_refused(tmp_path: Path, serve: Serve) -> None:
    serve(*FAST)
    own = tmp_path / "own" / "sandbox" / "store.ini"
    own.parent.mkdir(parents=True)
    own.write_text("my own")
    for folder, options in (
        (tmp_path / "runs" / "sandbox", []),
        (own.parent, ["--folder", "own"]),
    ):
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        done = run(tmp_path, *FAST, *options)
        assert done.returncode == 2, done.stderr
        assert "--folder" in done.stderr
        assert "Traceback" not in done.stderr
        assert before == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_without_posix_features(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Store and tool do the main job, and the store ends at Ctrl-C."""
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_POSIX)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("LOCKS", str(tmp_path))
    done = run(tmp_path, *FAST)
    assert done.returncode == 0, done.stderr
    assert summary(tmp_path / "runs")["deleted"] == 20
    if os.name == "posix":
        assert len(serve(*FAST)) == 4


def test_powershell_commands() -> None:
    """Text in single quotes is literal there."""

    def lines(command: str) -> list[str]:
        variables = {"BC_API_ENDPOINT": "localhost:1"}
        return fake_store.lines_to_paste(r"C:\My $hop's", variables, command, power_shell=True)

    setting = "$env:BC_API_ENDPOINT = 'localhost:1'"
    assert lines("py x.py") == [r"cd 'C:\My $hop''s'", setting, "py x.py"]
    assert lines('"C:\\A B\\py" x.py')[-1] == '& "C:\\A B\\py" x.py'
