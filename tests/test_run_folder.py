"""The run folder: what it holds, the journal, its lock, and a disk that is full."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.fake_store import FakeStore, Fault, Request
from tests.launcher import Rig
from tests.rigged import (
    COUNTS,
    KILLED,
    QUIET,
    SUMMARY_KEYS,
    MakeStore,
    Outcome,
    RiggedTool,
    Tool,
    counts,
    in_process,
    journal,
    journal_sent,
    linux,
    posix,
    read_backs,
    refused_resume,
    wait_until,
)

LOCKED = (409, "this customer is locked")


# --- what it holds --------------------------------------------------------------------------------


@posix
def test_run_folder_is_private(make_store: MakeStore, installed: Tool) -> None:
    """The run folder is mode 0700 whatever the umask, named after store and resource."""
    store = make_store(customers=30, **QUIET)
    before = os.umask(0)
    try:
        outcome = installed(store, None, "--yes")
    finally:
        os.umask(before)
    assert outcome.folder is not None
    assert stat.S_IMODE(outcome.folder.stat().st_mode) == 0o700
    assert outcome.folder.name.startswith(f"{store.store_hash}-customers-2")
    names = "plan.json backup.jsonl selected.csv journal.jsonl failed.csv summary.json report.html run.log"
    assert {path.name for path in outcome.folder.iterdir()} == set(names.split())


def test_run_log_has_every_request(make_store: MakeStore, hurried: RiggedTool) -> None:
    """run.log tells method, path, ids, status, milliseconds and quota left of each request."""
    store = make_store(customers=30, **QUIET)
    store.faults.append(Fault(method="DELETE", status=500))
    outcome = hurried(store, None, "--yes")
    assert outcome.status == 0
    assert outcome.folder
    line = re.compile(r"(GET|DELETE) (\S+?)(?:\?(\S*))? (\d{3}) \d+ ms,? quota left (\d+)\b")
    found = [line.search(text) for text in (outcome.folder / "run.log").read_text().splitlines()]
    logged = Counter(match.groups() for match in found if match)
    assert logged == Counter(
        (
            request.method,
            request.path,
            "&".join(f"{name}={value}" for name, value in request.query.items()) or None,
            str(request.status),
            str(request.left),
        )
        for request in store.log
    )


@pytest.mark.parametrize("by", ["--no-backup", "ini"])
def test_no_backup(make_store: MakeStore, tool: RiggedTool, by: str) -> None:
    """--no-backup, or the ini's key, writes no backup.jsonl; all else is as ever."""
    store = make_store(customers=30, **QUIET)
    config = store.config(tool.folder, **({"no_backup": True} if by == "ini" else {}))
    outcome = tool(store, config, "--yes", *([by] if by != "ini" else []))
    assert outcome.status == 0
    assert outcome.folder
    assert not store.customers
    assert not (outcome.folder / "backup.jsonl").exists()
    assert (outcome.folder / "plan.json").exists()


def test_runs_dir(make_store: MakeStore, tool: RiggedTool) -> None:
    """--runs-dir wins over the ini's runs_dir, and is made when it is missing."""
    store = make_store(customers=30, **QUIET)
    config = store.config(tool.folder, runs_dir="from-ini")
    outcome = tool(store, config, "--yes", "--runs-dir", "a/b")
    assert outcome.status == 0
    assert len(list((tool.folder / "a" / "b").glob("*-customers-*"))) == 1
    assert not (tool.folder / "from-ini").exists()
    assert not tool.runs.exists()


def test_backup_says_where_it_is_cut(make_store: MakeStore, tool: RiggedTool) -> None:
    """A list shows ten addresses or attributes: the backup says of which records it has not all."""
    store = make_store(customers=100, **QUIET)
    short = {
        number: {name: len(record[name]) for name in names}
        for number, record in store.customers.items()
        if (names := [name for name in ("addresses", "attributes") if len(record[name]) > 10])
    }
    assert len(short) == 4
    outcome = tool(store, None, "--dry-run")
    said = {record["id"]: record["backup_cut"] for record in outcome.backup if "backup_cut" in record}
    assert said == short
    assert "4 customers with more addresses or attributes" in " ".join(outcome.err.split())
    assert outcome.summary["backup_cut"] == 4


def test_summary_is_live(make_store: MakeStore, tool: RiggedTool) -> None:
    """While it runs, summary.json says in_progress, is always whole, and adds up."""
    store, seen = make_store(customers=300, **QUIET), threading.Event()

    def hold(_: Request) -> None:
        seen.wait(30)

    store.faults.append(Fault(method="DELETE", skip=10, times=20, hook=hold))
    process = tool.start(store, store.config(tool.folder), "--yes")

    def begun() -> bool:
        for path in tool.runs.glob("*/summary.json"):
            summary = json.loads(path.read_text())
            assert (summary["status"], summary["exit_status"]) == ("in_progress", None)
            assert summary["selected"] == sum(summary[name] for name in COUNTS)
            assert set(summary) == SUMMARY_KEYS
            return bool(summary["unknown"] and summary["not_attempted"])
        return False

    wait_until(begun)
    seen.set()
    outcome = tool.finish(process)
    assert (outcome.status, outcome.summary["deleted"]) == (0, 300)


def test_runs_of_one_second_have_folders_of_their_own(make_store: MakeStore, tool: RiggedTool) -> None:
    """Runs that start at the same time never share a folder."""
    store = make_store(customers=30, **QUIET)
    config = store.config(tool.folder)
    processes = [tool.start(store, config, "--dry-run") for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    for process in processes:
        process.communicate()
    folders = tool.folders()
    assert len(folders) == 3
    assert all(len(json.loads((f / "plan.json").read_text())["ids"]) == 30 for f in folders)


@linux
def test_a_folder_whose_name_is_not_utf_8(store: FakeStore, tmp_path: Path) -> None:
    """The run folder may lie below any name that the system allows, and resumes from there."""
    tool = Tool(tmp_path)
    tool.runs = Path(os.fsdecode(os.fsencode(tmp_path) + b"/r\xe4ns"))
    config = store.config(tmp_path)
    planned = tool(store, config, "--dry-run", "--runs-dir", tool.runs)
    assert planned.status == 0, planned.text
    words = shlex.split(planned.summary["resume"])
    process = tool.start(store, config, *words[words.index("--resume") :], "--yes")
    assert tool.finish(process, planned.folder).status == 0
    assert not store.customers


def test_a_resume_that_never_begins_keeps_the_reasons(store: FakeStore, tool: RiggedTool) -> None:
    """failed.csv of the run before stays, as long as the resume has not tried again."""
    number = next(iter(store.customers))
    store.refuse[number] = (422, {"status": 422, "title": "has an open dispute"})
    first = tool.run(store, max_error_rate=100)
    assert first.status == 4
    assert first.folder is not None
    assert list(first.failed) == [number]
    declined = tool(store, store.config(tool.folder), "--resume", first.folder)  # no terminal
    assert declined.status == 3
    assert list(declined.failed) == [number]


# --- the journal ----------------------------------------------------------------------------------


@pytest.fixture
def killed(make_store: MakeStore, hurried: RiggedTool) -> tuple[FakeStore, Path]:
    """A run of four batches that was killed: one done, one done and not noted, two not sent."""
    store = make_store(customers=12, **QUIET)
    second = Fault("DELETE", skip=1, commit=True, close="reset", after=hurried.kill)
    store.faults = [second]
    outcome = hurried.run(store, "--max-concurrent", "1", "--batch-size", "3")
    assert outcome.status == KILLED
    store.faults = []
    (folder,) = hurried.folders()
    return store, folder


def whole_lines(text: bytes) -> bytes:
    return text[: text.rfind(b"\n") + 1]


def test_the_journal_cut_at_every_byte_of_its_last_two_lines(
    killed: tuple[FakeStore, Path], tmp_path: Path
) -> None:
    """A torn last line is cut off, not appended to; what is gone is counted, what is not, not."""
    store, folder = killed
    text = (folder / "journal.jsonl").read_bytes()
    assert text.endswith(b"\n")
    last_two = len(b"".join(text.splitlines(keepends=True)[-2:]))
    assert last_two > 40
    for cut in range(len(text) - last_two, len(text) + 1):
        copy = tmp_path / f"cut-{cut}"
        shutil.copytree(folder, copy)
        (copy / "journal.jsonl").write_bytes(text[:cut])
        status, output = in_process(store, tmp_path, "--resume", copy, "--dry-run")
        assert status == 0, output
        assert (copy / "journal.jsonl").read_bytes().startswith(whole_lines(text[:cut]))
        for line in (copy / "journal.jsonl").read_bytes().splitlines():
            json.loads(line)
        summary = json.loads((copy / "summary.json").read_text())
        assert summary["deleted"] + summary["already_gone"] == 6, (cut, summary)
        assert summary["not_attempted"] + summary["unknown"] == 6, (cut, summary)
        shutil.rmtree(copy)
    assert len(store.deletes()) == 2


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.6, 0.9, 1.0])
@pytest.mark.parametrize("rest", [b"", b'{"sent": [1', b"\x00" * 40, b"\xff\xfe"])
def test_a_torn_journal_is_resumed(
    killed: tuple[FakeStore, Path], hurried: RiggedTool, fraction: float, rest: bytes
) -> None:
    """Cut anywhere, and with the garbage of a power cut behind it: the run is completed."""
    store, folder = killed
    text = (folder / "journal.jsonl").read_bytes()
    kept = text[: round(len(text) * fraction)] + rest
    (folder / "journal.jsonl").write_bytes(kept)
    outcome = hurried.resume(store, folder)
    assert outcome.status == 0, outcome.text
    assert not store.customers
    assert outcome.summary["deleted"] + outcome.summary["already_gone"] == 12
    assert outcome.summary["deleted"] >= 6
    assert all(isinstance(entry, dict) for entry in journal(folder))
    assert (folder / "journal.jsonl").read_bytes().startswith(whole_lines(kept))
    assert max(store.deleted_ids().values()) == 1


def test_the_journal_is_gone(killed: tuple[FakeStore, Path], hurried: RiggedTool) -> None:
    """Without it the plan is still carried out; only who deleted what is not known any more."""
    store, folder = killed
    (folder / "journal.jsonl").unlink()
    outcome = hurried.resume(store, folder)
    assert outcome.status == 0, outcome.text
    assert not store.customers
    assert counts(outcome) == {"deleted": 6, "already_gone": 6}


@pytest.mark.parametrize("line", ["{}}", "[1]", '{"sent": 5}', '{"acted": [[1]]}'])
def test_a_line_that_is_no_journal_s(store: FakeStore, hurried: RiggedTool, line: str) -> None:
    """A whole line of the journal that nobody can have written: nothing is sent."""
    first = hurried.run(store, "--dry-run")
    assert first.folder is not None
    (first.folder / "summary.json").unlink()  # it is refused before there is another
    (first.folder / "journal.jsonl").write_text(f"{line}\n")
    seen = len(store.log)
    outcome = hurried.resume(store, first.folder)
    assert outcome.status == 3, outcome.text
    assert "line 1" in outcome.err
    assert len(store.log) == seen


def test_a_journal_of_another_run_is_refused(store: FakeStore, tool: RiggedTool) -> None:
    """Ids in the journal that are none of the plan's would spoil the counts."""
    planned = tool(store, store.config(tool.folder), "--dry-run")
    assert planned.folder is not None
    (planned.folder / "journal.jsonl").write_text('{"sent": [900000]}\n')
    before = len(store.log)
    status, output = refused_resume(tool, store, planned.folder)
    assert status == 3
    assert "journal" in output
    assert len(store.log) == before


@pytest.mark.parametrize("first", ["run", "resume"])
def test_two_processes_never_work_on_one_folder(store: FakeStore, hurried: RiggedTool, first: str) -> None:
    """A resume while another process works on the folder is refused, sends nothing, harms nothing."""
    planned = set(store.customers)
    resumed: list[str | Path] = []
    if first == "resume":
        dry = hurried.run(store, "--dry-run")
        assert dry.folder is not None
        resumed = ["--resume", dry.folder]
    reached, go_on = threading.Event(), threading.Event()

    def hold(_request: Request) -> None:
        reached.set()
        go_on.wait(30)

    store.faults = [Fault("DELETE", hook=hold)]
    config = store.config(hurried.folder)
    working = hurried.start(store, config, "--yes", "--max-concurrent", "1", *resumed)
    assert reached.wait(30)
    (folder,) = hurried.folders()
    before = len(store.log)
    files = {path.name: path.read_bytes() for path in folder.glob("*.jsonl")}
    status, output = refused_resume(RiggedTool(hurried.folder), store, folder)
    assert status == 3, output
    assert "in use" in " ".join(output.split())
    assert len(store.log) == before
    assert {path.name: path.read_bytes() for path in folder.glob("*.jsonl")} == files
    go_on.set()
    outcome = hurried.finish(working)
    assert outcome.status == 0, outcome.text
    assert store.deleted_ids() == dict.fromkeys(planned, 1)


# --- a full disk ----------------------------------------------------------------------------------


def announced(outcome: Outcome, store: FakeStore) -> bool:
    """Whether every DELETE that the store got is in the journal on disk."""
    sent = {request.ids for request in store.deletes()}
    if not sent:
        return True
    assert outcome.folder is not None
    whole = (outcome.folder / "journal.jsonl").read_bytes().rpartition(b"\n")[0]
    (outcome.folder / "journal.jsonl").write_bytes(whole + b"\n")  # a torn line announces nothing
    return sent <= set(journal_sent(outcome.folder))


@posix
@pytest.mark.parametrize("backup", [True, False])
@pytest.mark.parametrize("limit", [0, 1, 100, 300, 500, 700, 900, 1300, 1700, 2500, 3500, 5000, 9000])
def test_no_file_can_grow_beyond_a_limit(
    make_store: MakeStore, hurried: RiggedTool, limit: int, backup: bool
) -> None:
    """Wherever the disk is full, a run ends with 5 or 0, and each DELETE is in the journal."""
    hurried.rig = Rig(file_limit=limit)
    store = make_store(customers=100, **QUIET)
    planned = set(store.customers)
    outcome = hurried.run(store, no_backup=not backup)
    assert outcome.status in (0, 5), outcome.text
    assert announced(outcome, store)
    if outcome.status == 0:
        assert outcome.folder is not None
        assert not store.customers
        return
    assert "cannot be written" in " ".join(outcome.text.split())
    if outcome.folder is not None and (outcome.folder / "plan.json").exists():
        hurried.rig = Rig()
        resumed = hurried.resume(store, outcome.folder)
        assert resumed.status == 0, resumed.text
        assert not store.customers
        assert resumed.summary["deleted"] == len(planned)
    else:
        assert set(store.customers) == planned


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB, for the run folders."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if mount is None or os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root can mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> Callable[[Request], None]:
    """A hook that fills the file system; free() makes room again."""

    def hook(_request: Request) -> None:
        with suppress(OSError), open(folder / "filler", "ab", buffering=0) as file:
            while True:
                file.write(bytes(512))

    return hook


FULL_AT: dict[str, dict[str, Any]] = {
    "the backup and the plan": {"method": "GET", "path": "v3/customers"},
    "the journal": {"method": "DELETE", "skip": 2},
    "the last summary and failed.csv": {"method": "GET", "where": read_backs, "skip": 2},
}


@posix
@pytest.mark.parametrize("at", FULL_AT)
def test_the_disk_is_full(make_store: MakeStore, hurried: RiggedTool, small_disk: Path, at: str) -> None:
    """Exit 5, a sentence, each DELETE in the journal; with room again, a resume completes it."""
    store = make_store(customers=100, **QUIET)
    ids = list(store.customers)
    store.per_item = {ids[7]: LOCKED}
    store.faults = [Fault(hook=fill(small_disk), **FULL_AT[at])]
    hurried.runs = small_disk / "runs"
    outcome = hurried.run(store, "--runs-dir", hurried.runs)
    assert outcome.status == 5, outcome.text
    assert "No space left on device" in " ".join(outcome.text.split())
    assert announced(outcome, store)
    store.faults, store.per_item = [], {}
    (small_disk / "filler").unlink()
    if at == "the backup and the plan":
        assert not store.deletes()
        return
    assert outcome.folder is not None
    assert f"--resume {outcome.folder}" in outcome.text
    resumed = hurried.resume(store, outcome.folder)
    assert resumed.status == 0, resumed.text
    assert not store.customers


@posix
def test_the_disk_is_full_before_the_first_delete_of_a_resume(
    make_store: MakeStore, hurried: RiggedTool, small_disk: Path
) -> None:
    """N7: a journal that cannot be written lets no DELETE leave."""
    store = make_store(customers=30, **QUIET)
    hurried.runs = small_disk / "runs"
    dry = hurried.run(store, "--dry-run", "--runs-dir", hurried.runs)
    assert dry.status == 0, dry.text
    store.faults = [Fault("GET", where=read_backs, hook=fill(small_disk))]
    outcome = hurried.resume(store, dry.folder)
    assert outcome.status == 5, outcome.text
    assert not store.deletes()


@pytest.mark.parametrize("name", ["plan.json", "backup.jsonl"])
def test_a_file_that_cannot_be_written_before_the_plan(
    make_store: MakeStore, hurried: RiggedTool, name: str
) -> None:
    """Where a folder stands in the way of the backup or the plan, nothing is deleted."""
    store = make_store(customers=30, **QUIET)

    def obstruct(_request: Request) -> None:
        (folder,) = hurried.folders()
        (folder / name).mkdir()

    store.faults = [Fault("GET", "v2/store", hook=obstruct)]
    process = hurried.start(store, store.config(hurried.folder), "--yes")
    out, err = process.communicate(timeout=100)
    assert process.returncode == 5, out + err
    assert "Traceback" not in out + err
    assert name in "".join((out + err).split())
    assert not store.deletes()
    assert len(store.customers) == 30


@pytest.mark.parametrize("name", ["failed.csv", "summary.json"])
def test_a_file_that_cannot_be_written_at_the_end(
    make_store: MakeStore, hurried: RiggedTool, name: str
) -> None:
    """A run whose outcome cannot be written is no success: exit 5, and it can be resumed."""
    store = make_store(customers=30, **QUIET)

    def obstruct(_request: Request) -> None:
        (folder,) = hurried.folders()
        while not (folder / name).is_dir():  # the running tool may write it anew in between
            (folder / name).unlink(missing_ok=True)
            with suppress(FileExistsError):
                (folder / name).mkdir()

    store.faults = [Fault("GET", where=read_backs, hook=obstruct)]
    config = store.config(hurried.folder)
    process = hurried.start(store, config, "--yes")
    out, err = process.communicate(timeout=100)
    assert process.returncode == 5, out + err
    assert "Traceback" not in out + err
    assert name in "".join((out + err).split())
    (folder,) = hurried.folders()
    (folder / name).rmdir()
    resumed = hurried.resume(store, folder)
    assert resumed.status == 0, resumed.text
    assert resumed.summary["deleted"] == 30


@posix
def test_the_run_folder_is_gone(make_store: MakeStore, hurried: RiggedTool) -> None:
    """When somebody removes the run folder in the middle, the run ends; there is no traceback."""
    store = make_store(customers=300, latency=0.02, **QUIET)

    def remove(_request: Request) -> None:
        (folder,) = hurried.folders()
        while folder.exists():  # the tool may write in it meanwhile
            shutil.rmtree(folder, ignore_errors=True)

    store.faults = [Fault("DELETE", hook=remove)]
    process = hurried.start(store, store.config(hurried.folder), "--yes")
    out, err = process.communicate(timeout=100)
    assert process.returncode == 5, out + err
    assert "Traceback" not in out + err
