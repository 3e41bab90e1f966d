"""The sandbox, as somebody meets it who has never seen the tool: `python -m tests.fake_store`."""

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

START = [sys.executable, "-m", "tests.fake_store"]
FAST = ["--customers", "20", "--latency", "0"]
# What Windows does not have, taken away before the sandbox is imported.
WITHOUT_POSIX = """
import os, signal, sys
for name in ("fcntl", "grp", "pwd", "resource", "termios", "tty"):
    sys.modules[name] = None
for name in ("pause", "SIGHUP", "SIGKILL", "SIGUSR1", "SIGALRM", "alarm", "pthread_kill"):
    delattr(signal, name)
for name in ("fork", "getuid", "getpgid", "killpg", "fchmod", "umask"):
    delattr(os, name)
from tests.fake_store import main
sys.exit(main(sys.argv[1:]))
"""


def environ() -> dict[str, str]:
    """Surroundings in which `tests` is found from any folder, and rich asks the terminal alone."""
    kept = {name: value for name, value in os.environ.items() if name not in RICH.split()}
    return kept | {"PYTHONPATH": str(TOOL.parent), "TERM": "xterm-256color"}


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the sandbox in that folder, without a terminal."""
    return subprocess.run(
        [*START, *options],
        cwd=folder,
        env=environ(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., pexpect.spawn[str]]]:
    """Starts a command in the folder of the test, on a terminal of 80 columns."""
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
            timeout=60,
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.close(force=True)


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Callable[..., list[str]]]:
    """Starts `--serve`, and returns the lines that it prints to be pasted; Ctrl-C must end it well."""
    processes: list[subprocess.Popen[str]] = []

    def start(*options: str, program: tuple[str, ...] = ("-m", "tests.fake_store")) -> list[str]:
        process = subprocess.Popen(
            [sys.executable, *program, "--serve", *options],
            cwd=tmp_path,
            env=environ(),
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout
        lines = list(iter(process.stdout.readline, "\n"))  # up to an empty line
        return [line.rstrip("\n") for line in lines]

    yield start
    for process in processes:
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


def rest(child: pexpect.spawn[str]) -> str:
    """All that the child still shows until it ends, with its lines joined as a person reads them."""
    child.expect(pexpect.EOF)
    child.close()
    return CONTROL.sub("", child.before or "").replace("\r\n", "\n")


def run_folder(folder: Path) -> Path:
    (found,) = folder.glob("sandbox1-*")
    return found


def summary(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((run_folder(folder) / "summary.json").read_text())
    return read


@posix
def test_the_first_command(tmp_path: Path, terminal: Callable[..., pexpect.spawn[str]]) -> None:
    """On a terminal the sandbox says what it is, lets the tool ask, and says where the run folder is."""
    child = terminal(*START, *FAST)
    child.expect("Type 20 ")
    shown = CONTROL.sub("", child.before or "").replace("\r\n", "\n")
    assert "a made-up BigCommerce store on this machine" in shown
    assert "nothing leaves this machine" in " ".join(shown.split())
    told = [line for line in shown[: shown.index("Listing")].split("\n") if not line.startswith("  ")]
    assert max(map(len, told)) < 80
    child.sendline("20")
    after = rest(child)
    assert child.exitstatus == 0
    assert "0 of its 20 customers are left" in " ".join(after.split())
    folder = run_folder(tmp_path / "runs")
    ending = after[after.index("Sandbox:") :]
    assert f"runs/{folder.name}" in ending
    files = re.findall(r"^  ([a-z]+\.[a-z]+) ", ending, re.MULTILINE)
    assert "backup.jsonl" in files
    assert set(files) <= {path.name for path in folder.iterdir()}


@posix
def test_a_declined_run_goes_on_as_printed(
    tmp_path: Path, terminal: Callable[..., pexpect.spawn[str]], serving: Callable[..., list[str]]
) -> None:
    """What `--serve` prints, pasted into another terminal, deletes what was listed before."""
    child = terminal(*START, *FAST)
    child.expect("Type 20 ")
    child.sendline("no")
    assert "-m tests.fake_store --serve\n" in rest(child)
    assert child.exitstatus == 3
    pasted = serving()
    assert pasted[-1] == summary(tmp_path / "runs")["resume"]
    other = terminal("sh")
    other.sendline("cd /")
    for line in pasted:
        other.sendline(line)
    other.expect("Type 20 .*: ")
    other.sendline("20")
    other.expect("completed, exit status 0")
    other.sendline("exit")
    rest(other)
    assert summary(tmp_path / "runs")["deleted"] == 20


@posix
def test_an_interrupted_run_goes_on(tmp_path: Path, terminal: Callable[..., pexpect.spawn[str]]) -> None:
    """After Ctrl-C what was deleted stays so, and the one line that is printed deletes the rest."""
    child = terminal(*START, "--customers", "120", "--latency", "0.2")
    child.expect("Type 120 ")
    child.sendline("120")
    child.expect("Deleting .* [1-9][0-9]?%")
    child.sendintr()
    after = rest(child)
    assert child.exitstatus == 130
    before = summary(tmp_path / "runs")
    assert 0 < before["deleted"] + before["unknown"] < 120
    command = next(line for line in after.split("\n") if "-m tests.fake_store -- --resume" in line)
    done = run(tmp_path, *shlex.split(command)[3:])
    assert done.returncode == 0, done.stderr
    after_all = summary(tmp_path / "runs")
    assert (after_all["status"], after_all["deleted"]) == ("completed", 120)
    assert not Sandbox(tmp_path / "runs" / "sandbox", keep=True).customers


def test_without_a_terminal(tmp_path: Path) -> None:
    """In CI the main job runs with --yes; what it leaves is its owner's alone, and git passes it over."""
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    done = run(tmp_path, *FAST, "--folder", "kept")
    assert done.returncode == 0, done.stderr
    assert summary(tmp_path / "kept")["deleted"] == 20
    assert {path.name for path in tmp_path.iterdir()} == {".git", "kept"}
    status = subprocess.run(["git", "status", "--porcelain"], cwd=tmp_path, capture_output=True, check=True)
    assert status.stdout == b""
    if os.name == "posix":
        folder = tmp_path / "kept" / "sandbox"
        assert folder.stat().st_mode & 0o777 == 0o700
        assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_the_same_store_again(tmp_path: Path) -> None:
    """A store that is kept has the same port, records and lists, less what was deleted; a new one has all."""
    with Sandbox(tmp_path, customers=30) as first:
        everything = {name: dict(records) for name, records in first.records.items()}
        port, lists = first.port, (tmp_path / "staff.txt").read_text()
        brand = next(
            record["brand_id"] for record in first.records["products"].values() if record["brand_id"]
        )
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


def test_records_of_every_kind(tmp_path: Path) -> None:
    """The sandbox has records of all kinds that the tool deletes, and orders, whatever the size."""
    assert all(Sandbox(tmp_path).records.values())
    with Sandbox(tmp_path, customers=0):
        assert (tmp_path / "staff.txt").exists()


@posix
def test_a_finished_run_leaves_a_whole_store(tmp_path: Path, serving: Callable[..., list[str]]) -> None:
    """Where no run can be gone on with, `--serve` has all records again, for the README's cookbook."""
    assert run(tmp_path, *FAST).returncode == 0
    pasted = serving("--customers", "20", "--latency", "0")
    assert pasted[-1].endswith(
        "bulk_delete.py --config runs/sandbox/store.ini --dry-run".replace("/", os.sep)
    )
    script = "\n".join(pasted)
    done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "20 customers" in done.stderr


@posix
def test_one_sandbox_at_a_time(tmp_path: Path, serving: Callable[..., list[str]]) -> None:
    """A second sandbox in the same folder is refused, and the first one's files are not touched."""
    serving(*FAST)
    folder = tmp_path / "runs" / "sandbox"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    done = run(tmp_path, *FAST)
    assert done.returncode == 2
    assert "--folder" in done.stderr
    assert "Traceback" not in done.stderr
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_somebody_s_own_folder(tmp_path: Path) -> None:
    """A folder of that name that is not the sandbox's is left alone."""
    own = tmp_path / "sandbox" / "store.ini"
    own.parent.mkdir()
    own.write_text("my own")
    done = run(tmp_path, *FAST, "--folder", ".")
    assert done.returncode == 2
    assert "--folder" in done.stderr
    assert [path.name for path in own.parent.iterdir()] == ["store.ini"]
    assert own.read_text() == "my own"


@posix
def test_without_what_only_posix_has(serving: Callable[..., list[str]]) -> None:
    """The sandbox serves, and ends at Ctrl-C, where there is nothing that Windows does not have."""
    assert len(serving(*FAST, program=("-c", WITHOUT_POSIX))) == 4


def test_lines_for_power_shell() -> None:
    """On Windows the lines are PowerShell's, which takes what stands in single quotes as it is."""

    def lines(command: str) -> list[str]:
        variables = {"BC_API_ENDPOINT": "localhost:1"}
        return fake_store.lines_to_paste(r"C:\My $hop's", variables, command, power_shell=True)

    setting = "$env:BC_API_ENDPOINT = 'localhost:1'"
    assert lines("py x.py") == [r"cd 'C:\My $hop''s'", setting, "py x.py"]
    assert lines('"C:\\A B\\py" x.py')[-1] == '& "C:\\A B\\py" x.py'
