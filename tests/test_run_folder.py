"""The run folder: its files, the journal, its lock, and a disk that is full."""

from __future__ import annotations

import csv
import json
import math
import os
import re
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

import bulk_delete
from tests.fake_store import FakeStore, Fault, Request
from tests.launcher import Rig
from tests.rigged import (
    COUNTS,
    KILLED,
    QUIET,
    MakeStore,
    Outcome,
    RiggedTool,
    Tool,
    counts,
    in_process,
    journal,
    journal_sent,
    listings,
    names,
    posix,
    read_backs,
    refused_resume,
    wait_until,
    waiting,
)

FILES = (
    "plan.json backup.jsonl selected.csv reimport.csv journal.jsonl failed.csv summary.json "
    "report.html run.log"
)
SUMMARY = (
    "status exit_status reason version store store_hash run_folder resource filters selection "
    "selected deleted already_gone failed unknown not_attempted duplicates not_found spared "
    "keep_unknown backup_cut verified requests retries rate_limited started_at finished_at "
    "elapsed_seconds resume"
)


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")[:-1]


# --- its files --------------------------------------------------------------------------------


@posix
def test_run_folder_is_private(make_store: MakeStore, installed: Tool) -> None:
    """Folder and files are their owner's alone, whatever the umask, and ignored by git."""
    store = make_store(customers=12, **QUIET)
    before = os.umask(0)
    try:
        outcome = installed(store, None, "--yes")
    finally:
        os.umask(before)
    assert outcome.folder is not None
    assert outcome.folder.name.startswith(f"{store.store_hash}-customers-2")
    assert stat.S_IMODE(outcome.folder.stat().st_mode) == 0o700
    assert {path.name for path in outcome.folder.iterdir()} >= {*FILES.split()}
    assert {stat.S_IMODE(path.stat().st_mode) for path in outcome.folder.iterdir()} == {0o600}
    assert (installed.runs / ".gitignore").read_text().strip() == "*"


def test_summary_and_log_stand_alone(store: FakeStore, hurried: RiggedTool) -> None:
    """summary.json has store, version and selection; run.log has every request."""
    store.faults.append(Fault("DELETE", status=500))
    outcome = hurried.run(store, "--match", "email=@", "--limit", "10")
    assert outcome.folder is not None
    summary, info = outcome.summary, store.info
    assert {*SUMMARY.split()} <= summary.keys()
    assert summary["selection"] == {"match": "email=@", "limit": "10"}
    assert (summary["resource"], summary["filters"]) == ("customers", {})
    named = {"name": info["name"], "domain": info["domain"], "plan": info["plan_name"]}
    assert summary["store"].items() >= named.items()
    assert Path(summary["run_folder"]).name == outcome.folder.name
    assert re.fullmatch(r"\d+\.\d+\.\d+", summary["version"])
    plan = outcome.plan
    assert (plan["host"], plan["store_hash"]) == (store.host, store.store_hash)
    assert re.fullmatch("[0-9a-f]{64}", plan["sha256"])

    line = re.compile(r"\b(GET|DELETE) (\S+) (\d{3})\b")
    found = [line.search(text) for text in lines_of(outcome.folder / "run.log")]
    assert Counter(match.groups() for match in found if match) == Counter(
        (request.method, target_of(request), str(request.status)) for request in store.log
    )
    store.scopes.discard("store_v2_information_read_only")
    assert {*hurried.run(store).summary["store"].values()} == {None}


def target_of(request: Request) -> str:
    """Return the path and query of a request as run.log shows them."""
    query = "&".join(f"{name}={value}" for name, value in request.query.items())
    return f"{request.path}?{query}" if query else request.path


def test_summary_is_kept_up_to_date(make_store: MakeStore, tool: RiggedTool) -> None:
    """During the run it is complete, its status is in_progress and its counts add up."""
    store, seen = make_store(customers=200, **QUIET), threading.Event()
    store.faults.append(Fault("DELETE", skip=10, times=10, hook=waiting(seen)))
    process = tool.start(store, store.config(tool.folder), "--yes")

    def has_begun() -> bool:
        for path in tool.runs.glob("*/summary.json"):
            summary = json.loads(path.read_text())
            assert (summary["status"], summary["exit_status"]) == ("in_progress", None)
            assert summary["selected"] == sum(summary[name] for name in COUNTS)
            return bool(summary["unknown"] and summary["not_attempted"])
        return False

    wait_until(has_begun)
    seen.set()
    outcome = tool.finish(process)
    assert (outcome.status, outcome.summary["deleted"]) == (0, 200)


def test_run_that_listed_nothing_leaves_no_folder(
    store: FakeStore, hurried: RiggedTool
) -> None:
    """It prints one line; with --json the reason is given and the folder is null."""
    for wrong in ({"access_token": "another-token"}, {"store_hash": "another1"}):
        outcome = hurried.run(store, "--json", **wrong)
        assert outcome.status in (3, 5), outcome.text
        summary = json.loads(outcome.out)
        assert summary["run_folder"] is None
        assert re.search("401|404", summary["reason"])
        outcome = hurried.run(store, **wrong)
        assert (outcome.out, outcome.err.count("\n")) == ("", 1)
    assert not hurried.folders()


def test_backup_is_written_by_default(make_store: MakeStore, hurried: RiggedTool) -> None:
    """It holds what UTF-8 cannot, and names the records of which the API lists only a part."""
    store = make_store(customers=100, **QUIET)
    store.change(min(store.customers), first_name="bad \ud83d half")
    cut = {
        number: {name: len(record[name]) for name in names}
        for number, record in store.customers.items()
        if (names := [name for name in ("addresses", "attributes") if len(record[name]) > 10])
    }
    assert len(cut) == 4
    outcome = hurried(store, None, "--dry-run")
    assert outcome.backup[0]["first_name"] == "bad \ud83d half"
    found = {
        record["id"]: record["backup_cut"]
        for record in outcome.backup
        if "backup_cut" in record
    }
    assert (found, outcome.summary["backup_cut"]) == (cut, 4)
    assert re.search(
        r"\b4 customers\b[^.]*addresses", " ".join(outcome.err.replace("│", "").split())
    )
    for ini, options in (({}, ["--no-backup"]), ({"no_backup": True}, [])):
        outcome = hurried(store, store.config(hurried.folder, **ini), "--dry-run", *options)
        assert outcome.status == 0, outcome.text
        assert outcome.folder
        assert (outcome.folder / "plan.json").exists()
        assert not (outcome.folder / "backup.jsonl").exists()
        assert not (outcome.folder / "reimport.csv").exists()


def test_number_that_json_cannot_hold_is_text() -> None:
    """1e999 is what Python reads as infinity; a record that is too deep is refused."""
    text = bulk_delete.json_line({"id": 7, "amount": math.inf, "notes": "Infinity"})
    assert text == '{"id": 7, "amount": "Infinity", "notes": "Infinity"}\n'
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"inner": deep}
    with pytest.raises(bulk_delete.InvalidResponse):
        bulk_delete.json_line(deep)


ADDRESS = {
    "Address First Name": "first_name",
    "Address Last Name": "last_name",
    "Address Company": "company",
    "Address Line 1": "address1",
    "Address Line 2": "address2",
    "Address City": "city",
    "Address State": "state_or_province",
    "Address Zip": "postal_code",
    "Address Country": "country",
    "Address Phone": "phone",
}
ODD = (
    '=HYPERLINK("x")',
    "+49 30 1",
    "@a",
    "-1",
    'quote " and ""',
    "line\nbreak\r\nhere\r",
    "Jürgen, Ω 札幌",
    " spaces ",
    "a;b\tc\u2028d",
    "'",
)


def table_of(text: str) -> list[list[str]]:
    """Return the rows of a CSV as RFC 4180 has it, without Python's own reader."""
    rows, row, place = [], list[str](), 0
    cell = re.compile(r'(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n)')
    while place < len(text):
        match = cell.match(text, place)
        assert match, text[place : place + 80]
        quoted, plain, end = match.groups()
        row.append(plain if quoted is None else quoted.replace('""', '"'))
        place = match.end()
        if end != ",":
            rows.append(row)
            row = []
    assert not row
    return rows


def imported(customer: dict[str, Any], groups: dict[int, str]) -> dict[str, str]:
    """Return what the importer should read of a customer; no address is an empty cell."""
    fields = ("email", "first_name", "last_name", "company", "phone", "notes")
    names = ("Email Address", "First Name", "Last Name", "Company", "Phone", "Notes")
    expected = dict(zip(names, map(customer.get, fields), strict=True))
    credit = customer["store_credit_amounts"]
    expected["Store Credit"] = credit[0]["amount"] if credit else None
    expected["Customer Group"] = groups.get(customer["customer_group_id"])
    for place, address in enumerate([*customer["addresses"], *[{}] * 10][:10], 1):
        expected |= {f"{name} - {place}": address.get(key) for name, key in ADDRESS.items()}
    return {name: "" if value is None else str(value) for name, value in expected.items()}


def reimported(outcome: Outcome) -> list[dict[str, str]]:
    """Return the rows of reimport.csv by column; it has no byte order mark."""
    assert outcome.status == 0, outcome.text
    assert outcome.folder is not None
    path = outcome.folder / "reimport.csv"
    header, *rows = table_of(path.read_bytes().decode())
    with open(path, encoding="utf-8", newline="") as file:
        assert [header, *rows] == [*csv.reader(file, strict=True)]
    assert len({*header}) == 8 + 10 * len(ADDRESS)
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_reimport_csv_has_each_value_as_the_api_gave_it(
    make_store: MakeStore, hurried: RiggedTool
) -> None:
    """Also after a listing that started over, and of a group beyond the first page."""
    store = make_store(customers=300, **QUIET)
    store.customer_groups |= {n: f'Group {n}, "Ü"' for n in range(50, 320)}
    first, second, third, *_ = store.customers
    fields = ("first_name", "last_name", "company", "phone", "notes")
    store.change(first, **dict(zip(fields, ODD, strict=False)), customer_group_id=319)
    store.change(first, store_credit_amounts=[{"amount": 43.15}])
    texts = [f"{text}{place}" for place, text in enumerate(ODD * 12)]
    width = len(ADDRESS)
    addresses = [
        {"id": place + 1} | dict(zip(ADDRESS.values(), texts[place * width :], strict=False))
        for place in range(12)
    ]
    store.change(second, addresses=addresses, company=None, customer_group_id=900)
    store.change(third, last_name="half \ud83d")
    last = max(store.customers)
    store.faults.append(Fault(where=listings, skip=1, after=lambda _: store.remove(last)))
    found = reimported(hurried.run(store, "--dry-run"))
    expected = [imported(item, store.customer_groups) for item in store.customers.values()]
    expected[2]["Last Name"] = "half \\ud83d"
    assert found == expected
    groups = [request for request in store.log if "customer_groups" in request.path]
    assert [request.query["page"] for request in groups] == ["1", "2"]
    assert store.log.index(groups[-1]) < store.log.index(next(filter(listings, store.log)))
    assert sum(map(listings, store.log)) > 4  # it did start over


@pytest.mark.parametrize("status", [0, 200, 301, 401, 403, 404, 500, 501])
def test_groups_that_cannot_be_read_leave_the_column_empty(
    store: FakeStore, hurried: RiggedTool, status: int
) -> None:
    """They are asked for once. The panel says so, unless the token may not read them (403)."""
    fault: dict[str, Any] = {"status": status, "body": {}} if status else {"close": "reset"}
    store.faults.append(Fault(path="v2/customer_groups", times=math.inf, **fault))
    outcome = hurried.run(store, "--dry-run", max_retries=1)
    assert {row["Customer Group"] for row in reimported(outcome)} == {""}
    assert ("lacks the customer groups" in outcome.text) is (status != 403)
    assert store.faults[0].seen == 1


def test_other_records_have_no_reimport_csv(make_store: MakeStore, hurried: RiggedTool) -> None:
    store = make_store(customers=0, brands=3, **QUIET)
    outcome = hurried.run(store, "--resource", "brands", "--dry-run")
    assert outcome.folder is not None
    assert not (outcome.folder / "reimport.csv").exists()
    assert not any("customer_groups" in request.path for request in store.log)


def test_failed_csv_identifies_records(store: FakeStore, hurried: RiggedTool) -> None:
    """It has fields of the record and the reason, also after a resume with damaged CSVs."""
    number = sorted(store.customers)[4]
    rejected = {"status": 422, "body": {"title": "is locked"}}
    store.faults.append(Fault("DELETE", where=names(number), times=math.inf, **rejected))
    outcome = hurried.run(store)
    assert outcome.status == 4, outcome.text
    assert outcome.folder is not None
    with open(outcome.folder / "failed.csv", newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["id"] == str(number)
    assert row["email"] == store.customers[number]["email"]
    assert "is locked" in row["reason"]
    for content in ("id,email\n11,José\n".encode("cp1252"), b"\xff\x00", b'"', b"id\n11\n"):
        for name in ("selected.csv", "unmatched.csv", "failed.csv"):
            (outcome.folder / name).write_bytes(content)
        again = hurried.resume(store, outcome.folder)
        assert again.status == 4, again.text
        assert "is locked" in again.failed[number]


def test_resume_shows_the_selection_of_the_plan(store: FakeStore, hurried: RiggedTool) -> None:
    """In the words of the first run; the backup is named too."""
    keep = hurried.folder / "staff.txt"
    keep.write_text(f"{min(store.customers)}\n")
    first = hurried(
        store, None, "--dry-run", "--match", "email=@", "--keep", str(keep), COLUMNS="400"
    )
    config = store.config(hurried.folder)
    again = hurried(store, config, "--resume", str(first.folder), "--yes", COLUMNS="400")
    rows = [{*outcome.err.splitlines()} for outcome in (first, again)]
    assert [line for line in rows[0] & rows[1] if "staff.txt" in line and "@" in line]
    assert "29 customers" in again.err
    assert "backup.jsonl" in again.err


# --- where it is ------------------------------------------------------------------------------


def test_runs_dir(make_store: MakeStore, tool: RiggedTool) -> None:
    """The option wins over the ini; the folder is made, and ~ is the home directory."""
    store = make_store(customers=3, **QUIET)
    config = store.config(tool.folder, runs_dir="from-ini")
    home = {"HOME": str(tool.folder), "USERPROFILE": str(tool.folder)}
    assert tool(store, config, "--yes", "--runs-dir", "~/a/b", **home).status == 0
    assert len(list((tool.folder / "a" / "b").glob("*-customers-*"))) == 1
    assert not (tool.folder / "from-ini").exists()
    assert not tool.runs.exists()


def test_runs_of_one_second_have_their_own_folders(
    make_store: MakeStore, tool: RiggedTool
) -> None:
    store = make_store(customers=30, **QUIET)
    config = store.config(tool.folder)
    processes = [tool.start(store, config, "--dry-run") for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert [len(lines_of(folder / "backup.jsonl")) for folder in tool.folders()] == [30] * 3


# --- the journal ------------------------------------------------------------------------------


@pytest.fixture
def killed(make_store: MakeStore, hurried: RiggedTool) -> tuple[FakeStore, Path]:
    """A run of four batches that was killed when two were deleted and one of them was noted."""
    store = make_store(customers=12, **QUIET)
    store.faults = [Fault("DELETE", skip=1, commit=True, close="reset", after=hurried.kill)]
    outcome = hurried.run(store, "--max-concurrent", "1", "--batch-size", "3")
    assert outcome.status == KILLED
    store.faults = []
    (folder,) = hurried.folders()
    return store, folder


def whole_lines(text: bytes) -> bytes:
    return text[: text.rfind(b"\n") + 1]


def test_torn_last_line_is_cut_off(killed: tuple[FakeStore, Path], tmp_path: Path) -> None:
    """Cut anywhere in its last two lines, the journal is not appended to in mid-line."""
    store, folder = killed
    text = (folder / "journal.jsonl").read_bytes()
    ends = [match.end() for match in re.finditer(rb"\n", text)][-3:]
    cuts = {*range(ends[0], ends[-1], 11)} | {
        end + by for end in ends[1:] for by in (-2, -1, 0)
    }
    assert len(cuts) > 8
    for cut in sorted(cuts):
        copy = tmp_path / f"cut-{cut}"
        shutil.copytree(folder, copy)
        (copy / "journal.jsonl").write_bytes(text[:cut])
        status, output = in_process(store, tmp_path, "--resume", copy)
        assert status == 3, output  # nobody to ask
        assert (copy / "journal.jsonl").read_bytes().startswith(whole_lines(text[:cut]))
        assert journal(copy)
        summary = json.loads((copy / "summary.json").read_text())
        assert summary["deleted"] + summary["already_gone"] == 6, (cut, summary)
        assert summary["not_attempted"] + summary["unknown"] == 6, (cut, summary)
    assert len(store.deletes()) == 2


@pytest.mark.parametrize(
    ("fraction", "rest"),
    [(None, b""), (0.0, b'{"sent": [1'), (0.6, b"\x00" * 40), (1.0, b"\xff\xfe")],
)
def test_damaged_journal_is_resumed(
    killed: tuple[FakeStore, Path], hurried: RiggedTool, fraction: float | None, rest: bytes
) -> None:
    """Removed, or cut and followed by the garbage of a power cut: the run is completed."""
    store, folder = killed
    path = folder / "journal.jsonl"
    text = path.read_bytes()
    kept = text[: round(len(text) * (fraction or 0))] + rest
    path.write_bytes(kept)
    if fraction is None:
        path.unlink()
    outcome = hurried.resume(store, folder)
    assert outcome.status == 0, outcome.text
    assert not store.customers
    assert counts(outcome).keys() <= {"deleted", "already_gone"}
    assert outcome.summary["deleted"] >= 6
    assert path.read_bytes().startswith(whole_lines(kept))
    assert all(isinstance(entry, dict) for entry in journal(folder))
    assert max(store.deleted_ids().values()) == 1


def test_batch_sent_twice_may_have_been_deleted_the_first_time(tmp_path: Path) -> None:
    """A kill left the first DELETE unanswered; the second was rejected, and it is gone."""
    sent = {"sent": [7]}
    rejected = {"ids": [7], "answer": "409", "applied": [], "failed": {"7": "409 is locked"}}
    for lines, outcome in (
        ([sent, sent, rejected], "failed"),
        ([sent, sent, rejected, {"gone": [7]}], "deleted"),
        ([sent, rejected, {"gone": [7]}], "already_gone"),
        ([sent, sent], "unknown"),
    ):
        path = tmp_path / f"{outcome}.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        counted = bulk_delete.Journal(path).replay({7}).counts()
        assert {name for name, count in counted.items() if count} == {outcome}


@pytest.mark.parametrize("text", ["[]", "{}", '{"started_at": null}', '{"started_at": 5}', "x"])
def test_damaged_summary_is_written_anew(
    store: FakeStore, hurried: RiggedTool, text: str
) -> None:
    folder = hurried.run(store, "--dry-run").folder
    assert folder is not None
    (folder / "summary.json").write_text(text)
    outcome = hurried.run(store, "--resume", folder)
    assert (outcome.status, outcome.summary["status"]) == (0, "completed"), outcome.text


def test_foreign_journal_is_refused(store: FakeStore, hurried: RiggedTool) -> None:
    """A line that no run has written, or an id outside the plan: nothing is sent."""
    folder = hurried.run(store, "--dry-run").folder
    assert folder is not None
    sent = len(store.log)
    for line in ("{}}", "[1]", '{"sent": 5}', '{"sent": [[1]]}', '{"sent": [900000]}'):
        (folder / "journal.jsonl").write_text(f"{line}\n")
        status, output = refused_resume(hurried, store, folder)
        assert status == 3, (line, output)
        assert "journal" in output
    assert len(store.log) == sent


@pytest.mark.parametrize("first", ["run", "resume"])
def test_two_processes_never_work_on_one_folder(
    store: FakeStore, hurried: RiggedTool, first: str
) -> None:
    """The second is refused, sends nothing and changes nothing."""
    planned = {*store.customers}
    options: list[str | Path] = []
    if first == "resume":
        folder = hurried.run(store, "--dry-run").folder
        assert folder is not None
        options = ["--resume", folder]
    reached, may_go_on = threading.Event(), threading.Event()

    def hold(_request: Request) -> None:
        reached.set()
        may_go_on.wait(30)

    store.faults = [Fault("DELETE", hook=hold)]
    config = store.config(hurried.folder)
    working = hurried.start(store, config, "--yes", "--max-concurrent", "1", *options)
    assert reached.wait(30)
    (folder,) = hurried.folders()
    sent = len(store.log)
    files = {path.name: path.read_bytes() for path in folder.glob("*.jsonl")}
    status, output = refused_resume(RiggedTool(hurried.folder), store, folder)
    assert status == 3, output
    assert "in use" in " ".join(output.split())
    assert len(store.log) == sent
    assert {path.name: path.read_bytes() for path in folder.glob("*.jsonl")} == files
    may_go_on.set()
    outcome = hurried.finish(working)
    assert outcome.status == 0, outcome.text
    assert store.deleted_ids() == dict.fromkeys(planned, 1)


# --- a disk that is full, files that cannot be written ----------------------------------------


def is_announced(outcome: Outcome, store: FakeStore) -> bool:
    """Return whether every DELETE that the store received is in the journal on disk."""
    sent = {request.ids for request in store.deletes()}
    if not sent:
        return True
    assert outcome.folder is not None
    path = outcome.folder / "journal.jsonl"
    path.write_bytes(whole_lines(path.read_bytes()))  # a torn line announces nothing
    return sent <= set(journal_sent(outcome.folder))


@posix
@pytest.mark.parametrize("limit", [0, 100, 500, 900, 1700, 3500, 9000])
def test_no_file_can_grow_beyond_a_limit(
    make_store: MakeStore, hurried: RiggedTool, limit: int
) -> None:
    """N7: a run ends with 5 or 0, each DELETE is announced, and a resume completes it."""
    store = make_store(customers=100, **QUIET)
    hurried.rig = Rig(file_limit=limit)
    outcome = hurried.run(store, no_backup=limit > 200)
    assert outcome.status in (0, 5), outcome.text
    assert is_announced(outcome, store)
    if outcome.status == 5 and outcome.folder and (outcome.folder / "plan.json").exists():
        hurried.rig = Rig()
        outcome = hurried.resume(store, outcome.folder)
    if outcome.status == 0:
        assert not store.customers
        assert outcome.summary["deleted"] == 100
    else:
        assert len(store.customers) == 100


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB for the run folders."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if (
        mount is None
        or os.geteuid() != 0
        or subprocess.run(command, capture_output=True).returncode
    ):
        pytest.skip("only root can mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> Callable[[Request], None]:
    """Return a hook that fills the file system with the file `filler`."""

    def hook(_request: Request) -> None:
        with suppress(OSError), open(folder / "filler", "ab", buffering=0) as file:
            while True:
                file.write(bytes(512))

    return hook


FULL_AT: dict[str, dict[str, Any]] = {
    "the journal": {"method": "DELETE", "skip": 2},
    "the last summary and failed.csv": {"method": "GET", "where": read_backs, "skip": 2},
}


@posix
@pytest.mark.parametrize("at", FULL_AT)
def test_full_disk_ends_the_run(
    make_store: MakeStore, hurried: RiggedTool, small_disk: Path, at: str
) -> None:
    """Exit 5, each DELETE is in the journal; with room again, a resume completes it."""
    store = make_store(customers=100, **QUIET)
    locked = sorted(store.customers)[7]
    store.refuse = {locked: (409, {"title": "this customer is locked"})}
    store.faults = [Fault(hook=fill(small_disk), **FULL_AT[at])]
    hurried.runs = small_disk / "runs"
    outcome = hurried.run(store, "--runs-dir", hurried.runs)
    assert outcome.status == 5, outcome.text
    assert "No space left on device" in " ".join(outcome.text.split())
    assert is_announced(outcome, store)
    store.faults, store.refuse = [], {}
    (small_disk / "filler").unlink()
    assert f"--resume {outcome.folder}" in outcome.text
    resumed = hurried.resume(store, outcome.folder)
    assert resumed.status == 0, resumed.text
    assert not store.customers


# --- without what only POSIX has --------------------------------------------------------------

WITHOUT_POSIX = """
import os, signal, subprocess, sys, types  # subprocess takes a Python with msvcrt for Windows
for name in ("fcntl", "termios", "tty", "pty", "resource", "pwd", "grp"):
    sys.modules[name] = None
for name in ("SIGHUP", "SIGKILL", "SIGUSR1", "SIGALRM", "pause", "alarm", "pthread_kill"):
    delattr(signal, name)
for name in ("O_DIRECTORY", "fork", "getuid", "geteuid", "getpgid", "killpg", "fchmod"):
    delattr(os, name)
if "LOCKS" in os.environ:  # Windows' own lock, as far as it can be imitated
    msvcrt = types.ModuleType("msvcrt")
    msvcrt.LK_NBLCK = 2
    def locking(handle, mode, size, path=os.path.join(os.environ["LOCKS"], "taken")):
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            raise PermissionError(13, "Permission denied") from None
    msvcrt.locking = locking
    msvcrt.kbhit = lambda: False
    sys.modules["msvcrt"] = msvcrt
"""


def test_lock_without_posix(store: FakeStore, installed: Tool, tmp_path: Path) -> None:
    """A folder that is in use or cannot be locked is refused, and nothing is sent."""
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_POSIX)
    path = {"PYTHONPATH": str(tmp_path)}
    outcome = installed(store, None, "--yes", **path)
    assert outcome.status == 3, outcome.text
    assert "locked" in " ".join(outcome.text.split())
    (tmp_path / "taken").touch()
    outcome = installed(store, None, "--yes", LOCKS=str(tmp_path), **path)
    assert outcome.status == 3, outcome.text
    assert "in use" in " ".join(outcome.text.split())
    assert not store.log
