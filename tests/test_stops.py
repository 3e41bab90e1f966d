"""What stops a run early: exit 5, why, what to do, and nothing more sent than is in flight."""

from __future__ import annotations

import ast
import inspect
import math
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import bulk_delete
from tests.fake_store import FakeStore, Fault, Request
from tests.launcher import Rig
from tests.rigged import (
    QUIET,
    SIGNALS,
    MakeStore,
    Outcome,
    RiggedTool,
    assert_all_gone_once,
    assert_resumable,
    assert_says,
    counts,
    journal_sent,
    names,
    read_backs,
    sent_after,
    wait_until,
)

LOCKED = (409, "this customer is locked")
DAY = 86_400.0


def busy_store(make_store: MakeStore, victim_at: int = 55) -> tuple[FakeStore, int]:
    """200 customers; a DELETE takes long, but that of the batch of one id is answered at once."""
    store = make_store(customers=200, **QUIET)
    victim = list(store.customers)[victim_at]

    def latency(request: Request) -> float:
        return 0.4 if request.method == "DELETE" and victim not in request.ids else 0.0

    store.latency = latency
    return store, victim


# --- the error rate ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("customers", "failing", "rate", "status"),
    [
        (30, 10, None, 4),  # a third, but no more than 10
        (30, 11, None, 5),
        (110, 11, None, 4),  # 10 %, and not more
        (110, 12, None, 5),
        (100, 11, "10", 5),
        (100, 11, "10.9 %", 5),
        (100, 11, "11", 4),
        (100, 50, "50", 4),
        (100, 51, "50", 5),
        (30, 30, "100", 4),
        (30, 1, "0", 5),
        (30, 0, "0", 0),
    ],
)
def test_error_rate(
    make_store: MakeStore, hurried: RiggedTool, customers: int, failing: int, rate: str | None, status: int
) -> None:
    """More than 10 % and more than 10 failed ids end the run; with 0 % the first does."""
    store = make_store(customers=customers, **QUIET)
    store.per_item = dict.fromkeys(list(store.customers)[:failing], LOCKED)
    settings = {} if rate is None else {"max_error_rate": rate}
    outcome = hurried.run(store, **settings)
    assert outcome.status == status, outcome.text
    assert outcome.summary["failed"] <= failing
    if status == 5:
        assert_says(outcome, "locked")
        assert_resumable(outcome)
        assert outcome.summary["failed"] >= (1 if rate == "0" else 11)
        assert outcome.failed.items() <= dict.fromkeys(store.per_item, "409 this customer is locked").items()
    else:
        assert outcome.summary["failed"] == failing


def test_nothing_is_sent_after_the_error_rate(make_store: MakeStore, hurried: RiggedTool) -> None:
    """The batch that is one failure too many is the last, but for what is in flight."""
    store, victim = busy_store(make_store)
    ids = list(store.customers)
    store.per_item = dict.fromkeys(ids[50:60], LOCKED)
    outcome = hurried.run(store, max_error_rate="0")
    assert outcome.status == 5, outcome.text
    decided = next(request for request in store.deletes() if victim in request.ids)
    assert sent_after(store, decided.answered) <= 5
    assert store.log[-1].method == "DELETE"
    assert outcome.summary["not_attempted"] >= 50


# --- the store is down -------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "word"), [({"status": 503}, "503"), ({"close": "reset"}, "")])
@pytest.mark.parametrize("workers", [1, 5])
def test_five_exhausted_batches_in_a_row(
    make_store: MakeStore, hurried: RiggedTool, fault: dict[str, Any], word: str, workers: int
) -> None:
    """They end the run, long before each of 30 batches is tried; halves are not asked either."""
    store = make_store(customers=300, latency=0.05, **QUIET)
    store.faults = [Fault("DELETE", skip=3, times=math.inf, **fault)]
    outcome = hurried.run(store, max_retries=1, max_concurrent=workers)
    assert outcome.status == 5, outcome.text
    assert_says(outcome, word)
    assert_resumable(outcome)
    assert 3 + 10 <= len(store.deletes()) <= 3 + 10 + 2 * workers
    assert {len(request.ids) for request in store.deletes()} == {10}
    assert outcome.summary["failed"] == 0
    assert store.log[-1].method == "DELETE"


def test_four_exhausted_batches_in_a_row(make_store: MakeStore, hurried: RiggedTool) -> None:
    """A success after four of them, and four more, do not end the run; their halves go later."""
    store = make_store(customers=120, **QUIET)
    planned = set(store.customers)
    store.faults = [Fault("DELETE", times=4, status=500), Fault("DELETE", skip=1, times=4, status=502)]
    outcome = hurried.run(store, max_retries=0, max_concurrent=1)
    assert_all_gone_once(outcome, store, planned)
    assert [request.status for request in store.deletes()[:10]] == [500] * 4 + [204] + [502] * 4 + [204]


def test_exhausted_halves_do_not_count(make_store: MakeStore, hurried: RiggedTool) -> None:
    """One bad batch, all of whose halves are exhausted in turn, does not look like a store down."""
    store = make_store(customers=30, **QUIET)
    victims = list(store.customers)[20:]
    store.faults = [Fault("DELETE", where=names(*victims), times=math.inf, status=500)]
    outcome = hurried.run(store, max_retries=0, max_concurrent=1)
    assert outcome.status == 4, outcome.text
    assert outcome.failed.keys() == set(victims)


# --- answers that end the run ------------------------------------------------------------------

FATAL: dict[str, dict[str, Any]] = {
    "401": {"status": 401},
    "403": {"status": 403},
    "redirect": {"status": 302, "headers": {"Location": "https://localhost:1/"}},
    "HTML": {"status": 200, "body": "<html>Maintenance</html>", "content_type": "text/html"},
    "501": {"status": 501},
    "505": {"status": 505},
}
ADVICE = {
    "401": ("token", "401"),
    "403": ("403", "scope", "store_v2_customers"),
    "redirect": ("redirect", "302"),
    "HTML": ("JSON",),
    "501": ("501",),
    "505": ("505",),
}


@pytest.mark.parametrize("name", FATAL)
def test_a_fatal_answer_in_the_middle(make_store: MakeStore, hurried: RiggedTool, name: str) -> None:
    """What is in flight is awaited, and nothing else is sent; the reason says what to do."""
    store, victim = busy_store(make_store)
    store.faults = [Fault("DELETE", where=names(victim), **FATAL[name])]
    outcome = hurried.run(store)
    assert outcome.status == 5, outcome.text
    decided = next(request for request in store.deletes() if victim in request.ids)
    assert sent_after(store, decided.answered) <= 5
    assert store.log[-1].method == "DELETE"
    assert_says(outcome, *ADVICE[name])
    assert_resumable(outcome)
    sent = sum(len(request.ids) for request in store.deletes() if request is not decided)
    assert outcome.summary["unknown"] in (sent, sent + len(decided.ids))  # awaited, not read back
    assert outcome.summary["deleted"] == 0
    store.faults, store.latency = [], 0.0
    assert hurried.resume(store, outcome.folder).status == 0
    assert not store.customers


@pytest.mark.parametrize("signum", SIGNALS, ids=lambda signum: signum.name)
@pytest.mark.parametrize("at", [1, 6])
def test_a_signal_on_the_nth_delete(make_store: MakeStore, hurried: RiggedTool, signum: int, at: int) -> None:
    """It ends the run with 128 + n: what is in flight is awaited, and nothing else is sent."""
    store = make_store(customers=200, latency=lambda r: 0.4 * (r.method == "DELETE"), **QUIET)
    moments: list[float] = []

    def stop(_request: Request) -> None:
        moments.append(time.monotonic())
        hurried.signal(signum)

    store.faults = [Fault("DELETE", skip=at - 1, hook=stop)]
    outcome = hurried.run(store)
    assert outcome.status == 128 + signum, outcome.text
    assert sent_after(store, moments[0]) <= 5
    assert store.log[-1].method == "DELETE"
    assert outcome.summary["status"] == "interrupted"
    assert_says(outcome)
    assert_resumable(outcome)
    gone = {n for request in store.deletes() for n in request.ids if request.status == 204}
    assert outcome.summary["unknown"] == len(gone)
    assert outcome.summary["not_attempted"] == 200 - len(gone)


@pytest.mark.parametrize("where", ["listing", "read-back"])
def test_a_signal_on_a_get(make_store: MakeStore, hurried: RiggedTool, where: str) -> None:
    """While listing there is no plan yet, so nothing to resume; while verifying there is."""
    store = make_store(customers=30, **QUIET)
    path = "v3/customers"
    wanted = read_backs if where == "read-back" else None
    store.faults = [Fault("GET", path, where=wanted, hook=lambda _: hurried.signal(15), status=500)]
    outcome = hurried.run(store)
    assert outcome.status == 143, outcome.text
    assert outcome.summary["status"] == "interrupted"
    if where == "listing":
        assert outcome.summary["resume"] is None
        assert not store.deletes()
    else:
        assert_resumable(outcome)
        assert hurried.resume(store, outcome.folder).status == 0


def test_a_signal_in_a_long_wait(make_store: MakeStore, hurried: RiggedTool) -> None:
    """A run that was told to wait for ten minutes ends at once when it is asked to."""
    hurried.rig = Rig(speed=1)
    store = make_store(customers=30, **QUIET)
    told = {"X-Retry-After": "600"}
    store.faults = [Fault("DELETE", times=math.inf, status=429, headers=told, quota_headers=False)]
    process = hurried.start(store, store.config(hurried.folder), "--yes")
    wait_until(lambda: any(request.status == 429 for request in store.log))
    hurried.signal(15)
    outcome = hurried.finish(process)
    assert outcome.status == 143, outcome.text
    assert counts(outcome) == {"not_attempted": 30}


# --- a full disk -------------------------------------------------------------------------------


def announced(outcome: Outcome, store: FakeStore) -> bool:
    """Whether every DELETE that the store got is in the journal on disk."""
    sent = {request.ids for request in store.deletes()}
    if not sent:
        return True
    assert outcome.folder is not None
    whole = (outcome.folder / "journal.jsonl").read_bytes().rpartition(b"\n")[0]
    (outcome.folder / "journal.jsonl").write_bytes(whole + b"\n")  # a torn line announces nothing
    return sent <= set(journal_sent(outcome.folder))


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
    "the last summary and failed.csv": {"method": "GET", "where": read_backs},
}


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


def test_the_disk_is_full_before_the_first_delete_of_a_resume(
    make_store: MakeStore, hurried: RiggedTool, small_disk: Path
) -> None:
    """A journal that cannot be written lets no DELETE leave."""
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
        (folder / name).unlink(missing_ok=True)
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


# --- the wall clock ----------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_a_wall_clock_that_jumps_a_day(make_store: MakeStore, hurried: RiggedTool, jump: float) -> None:
    """Nobody waits for it, and nobody hurries: the run is as it would have been."""
    hurried.rig = Rig(speed=1, jump=jump)
    store = make_store(customers=300, quota=25, window=0.5)
    planned = set(store.customers)
    outcome = hurried.run(store)
    assert_all_gone_once(outcome, store, planned)
    assert outcome.summary["rate_limited"] == sum(request.status == 429 for request in store.log) <= 5
    assert 0 <= outcome.summary["elapsed_seconds"] < DAY / 2


def test_pacing_reads_no_wall_clock() -> None:
    """The bucket and the retries name no clock but time.monotonic."""
    parts = (bulk_delete.TokenBucket, bulk_delete.retry_delay)
    names = {
        ast.unparse(node)
        for part in parts
        for node in ast.walk(ast.parse(inspect.getsource(part)))
        if isinstance(node, ast.Attribute)
    }
    clocks = {name for name in names if name.startswith(("time.", "datetime."))}
    assert clocks <= {"time.monotonic", "time.sleep"}
    assert "time.monotonic" in clocks
