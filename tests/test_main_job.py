"""The main job, end to end: the real tool, the real SDK, real sockets."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.fake_store import FakeStore, Fault, Request
from tests.rigged import TOOL, MakeStore, Outcome, RiggedTool, Tool, check, wait_until

KEYS_OF_SUMMARY = (
    "status exit_status reason store_hash resource filters selected deleted already_gone failed"
    " unknown not_attempted duplicates not_found spared verified requests retries rate_limited"
    " started_at finished_at elapsed_seconds resume"
)
SUMMARY_KEYS = set(KEYS_OF_SUMMARY.split())
UGLY = "\x1b[31m[bold red]x[/]\x07\u202e[/]"
LISTS = "v3/customers"


def listed(record: dict[str, Any]) -> dict[str, Any]:
    """The record as a list of the API shows it: ten addresses and attributes at most."""
    cut = {name: record[name][:10] for name in ("addresses", "attributes")}
    return record | cut


def backup(outcome: Outcome) -> list[dict[str, Any]]:
    assert outcome.folder is not None
    lines = (outcome.folder / "backup.jsonl").read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line]


def small(make_store: MakeStore, **options: Any) -> FakeStore:
    """A store on which no test waits for quota."""
    return make_store(**{"customers": 30, "quota": 10_000} | options)


def resume_is_printed(outcome: Outcome) -> bool:
    command = outcome.summary["resume"]
    assert f"--resume {outcome.folder}" in command or "--resume runs/" in command
    assert "--yes" not in command
    return command in outcome.err


def test_deletes_all_customers_once(make_store: MakeStore, installed: Tool) -> None:
    """1,003 customers: none left, each id sent once, no 429, few connections, all on record."""
    store = make_store(customers=1003, quota=150, window=3.0, latency=0.01)
    before = dict(store.customers)
    outcome = installed(store, None, "--yes")
    assert outcome.status == 0, outcome.text
    assert not store.customers
    assert store.deleted_ids() == dict.fromkeys(before, 1)
    assert not [request for request in store.log if request.status == 429]
    assert store.max_in_flight <= 5
    assert store.connections <= 6

    summary = outcome.summary
    assert set(summary) == SUMMARY_KEYS
    assert (summary["selected"], summary["deleted"], summary["verified"]) == (1003, 1003, True)
    assert (summary["status"], summary["exit_status"], summary["reason"]) == ("completed", 0, None)
    assert (summary["store_hash"], summary["resource"]) == (store.store_hash, "customers")
    assert (summary["requests"], summary["retries"]) == (len(store.log), 0)
    assert summary["resume"] is None
    assert summary["started_at"] < summary["finished_at"]

    plan = outcome.plan
    assert plan["ids"] == list(before)
    assert (plan["host"], plan["store_hash"]) == (store.host, store.store_hash)
    assert (plan["resource"], plan["filters"]) == ("customers", {})
    assert re.fullmatch("[0-9a-f]{64}", plan["sha256"])
    assert outcome.failed == {}
    records = {record["id"]: record for record in backup(outcome)}
    for number, record in before.items():
        assert listed(record).items() <= records[number].items()
    assert len(records) == 1003


def test_run_folder_is_private(make_store: MakeStore, installed: Tool) -> None:
    """The run folder is mode 0700 whatever the umask, named after store and resource."""
    store = small(make_store)
    before = os.umask(0)
    try:
        outcome = installed(store, None, "--yes")
    finally:
        os.umask(before)
    assert outcome.folder is not None
    assert stat.S_IMODE(outcome.folder.stat().st_mode) == 0o700
    assert outcome.folder.name.startswith(f"{store.store_hash}-customers-2")
    names = "plan.json backup.jsonl journal.jsonl failed.csv summary.json run.log"
    assert {path.name for path in outcome.folder.iterdir()} == set(names.split())


def test_run_log_has_every_request(make_store: MakeStore, tool: RiggedTool) -> None:
    """run.log tells method, path, ids, status, milliseconds and quota left of each request."""
    store = small(make_store)
    store.faults.append(Fault(method="DELETE", status=500))
    outcome = tool(store, None, "--yes")
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


def test_json(make_store: MakeStore, tool: RiggedTool) -> None:
    """--json: stdout is one JSON object, that of summary.json; all else goes to stderr."""
    outcome = tool(small(make_store), None, "--yes", "--json")
    assert json.loads(outcome.out) == outcome.summary
    assert "Deleted" in outcome.err


def test_stdout_holds_only_the_table(make_store: MakeStore, tool: RiggedTool) -> None:
    """The final table goes to stdout; panel and progress go to stderr."""
    outcome = tool(small(make_store), None, "--yes")
    for word in ("Result", "Deleted", "Verified", "Run folder"):
        assert word in outcome.out
        assert word not in outcome.err
    for word in ("Listing", "Deleting", "Verifying", "@"):
        assert word not in outcome.out
        assert word in outcome.err


@pytest.mark.parametrize("gone", ["stdout", "stderr"])
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_reader_goes_away(
    make_store: MakeStore, installed: Tool, gone: str, options: tuple[str, ...]
) -> None:
    """Output piped to a reader that has left, such as head, neither stops nor belies the run."""
    store = small(make_store)
    reading, writing = os.pipe()
    os.close(reading)
    kept = "stderr" if gone == "stdout" else "stdout"
    done = subprocess.run(
        installed.command(store.config(installed.folder), "--yes", *options),
        cwd=installed.folder,
        env=installed.environ(store),
        stdin=subprocess.DEVNULL,
        check=False,
        text=True,
        **{gone: writing, kept: subprocess.PIPE},  # type: ignore[call-overload]
    )
    os.close(writing)
    (folder,) = installed.folders()
    outcome = check(Outcome(done.returncode, done.stdout or "", done.stderr or "", folder))
    assert not store.customers
    assert (outcome.summary["status"], outcome.summary["exit_status"]) == ("completed", 0)


def test_verbose(make_store: MakeStore, tool: RiggedTool) -> None:
    """-v shows each request on stderr; without it none is shown."""
    for options, shown in ((["-v"], True), ([], False)):
        store = small(make_store)
        outcome = tool(store, None, "--yes", *options)
        assert ("DELETE /stores/" in outcome.err) is shown
        if shown:
            seen = Counter(re.findall(r"\b(GET|DELETE) /stores/", outcome.err))
            assert seen == Counter(request.method for request in store.log)


def test_version() -> None:
    """--version needs no config, and says nothing else."""
    command = [sys.executable, str(TOOL), "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"bulk_delete\.py \d+\.\d+\.\d+\n", done.stdout)
    assert not done.stderr


@pytest.mark.parametrize("by", ["--no-backup", "ini"])
def test_no_backup(make_store: MakeStore, tool: RiggedTool, by: str) -> None:
    """--no-backup, or the ini's key, writes no backup.jsonl; all else is as ever."""
    store = small(make_store)
    config = store.config(tool.folder, **({"no_backup": True} if by == "ini" else {}))
    outcome = tool(store, config, "--yes", *([by] if by != "ini" else []))
    assert outcome.status == 0
    assert outcome.folder
    assert not store.customers
    assert not (outcome.folder / "backup.jsonl").exists()
    assert (outcome.folder / "plan.json").exists()


def test_runs_dir(make_store: MakeStore, tool: RiggedTool) -> None:
    """--runs-dir wins over the ini's runs_dir, and is made when it is missing."""
    store = small(make_store)
    config = store.config(tool.folder, runs_dir="from-ini")
    outcome = tool(store, config, "--yes", "--runs-dir", "a/b")
    assert outcome.status == 0
    assert len(list((tool.folder / "a" / "b").iterdir())) == 1
    assert not (tool.folder / "from-ini").exists()
    assert not tool.runs.exists()


@pytest.mark.parametrize("by", ["--dry-run", "ini"])
def test_dry_run(make_store: MakeStore, tool: RiggedTool, by: str) -> None:
    """A dry run sends GET only, says what would be deleted, and leaves a plan to resume."""
    store = small(make_store, customers=260)
    config = store.config(tool.folder, **({"dry_run": True} if by == "ini" else {}))
    outcome = tool(store, config, *([by] if by != "ini" else []))
    assert outcome.status == 0, outcome.text
    assert {request.method for request in store.log} == {"GET"}
    assert len(store.customers) == 260
    assert outcome.plan["ids"] == list(store.customers)
    assert len(backup(outcome)) == 260
    summary = outcome.summary
    assert (summary["status"], summary["not_attempted"], summary["deleted"]) == ("planned", 260, 0)
    assert "260 customers" in outcome.err
    assert outcome.err.count("@") == 5
    assert resume_is_printed(outcome)


def test_no_dry_run_wins_over_the_ini(make_store: MakeStore, tool: RiggedTool) -> None:
    """--no-dry-run on the command line deletes although the ini says dry_run = yes."""
    store = small(make_store)
    outcome = tool(store, store.config(tool.folder, dry_run=True), "--no-dry-run", "--yes")
    assert (outcome.status, len(store.customers)) == (0, 0)


@pytest.mark.parametrize("options", [("--yes",), ("--dry-run",), ()])
def test_empty_store(make_store: MakeStore, tool: RiggedTool, options: tuple[str, ...]) -> None:
    """Nothing selected is no error, needs no confirmation, and is said."""
    store = small(make_store, customers=0)
    outcome = tool(store, None, *options)
    assert outcome.status == 0, outcome.text
    assert "nothing is selected" in outcome.err.lower()
    assert (outcome.summary["selected"], outcome.summary["status"]) == (0, "completed")
    assert not store.deletes()


@pytest.mark.parametrize(
    ("ini", "options", "expected"),
    [({}, (), 10), ({"batch_size": 3}, (), 3), ({"batch_size": 3}, ("--batch-size", "7"), 7)],
)
def test_batch_size(
    make_store: MakeStore, tool: RiggedTool, ini: dict[str, int], options: tuple[str, ...], expected: int
) -> None:
    """Ten ids a DELETE unless the ini says less; the command line wins over the ini."""
    store = small(make_store, customers=23)
    outcome = tool(store, store.config(tool.folder, **ini), "--yes", *options)
    assert outcome.status == 0
    sizes = sorted((len(request.ids) for request in store.deletes()), reverse=True)
    whole, rest = divmod(23, expected)
    assert sizes == [expected] * whole + [rest]


@pytest.mark.parametrize("workers", [1, 2])
def test_max_concurrent(make_store: MakeStore, tool: RiggedTool, workers: int) -> None:
    """No more requests are in flight than max_concurrent, and no more connections opened."""
    store = small(make_store, customers=600, latency=0.03)
    outcome = tool(store, None, "--yes", "--max-concurrent", str(workers))
    assert outcome.status == 0
    assert store.max_in_flight == workers
    assert store.connections <= workers + 1


def test_ugly_names_are_shown_raw_nowhere(make_store: MakeStore, tool: RiggedTool) -> None:
    """Control codes and markup in names and refusals are neither obeyed nor passed on."""
    store = small(make_store)
    store.info["name"] = UGLY
    for number in store.customers:
        store.change(number, first_name=UGLY, last_name=UGLY, email=f"{UGLY}{number}@x.example")
    bad = next(iter(store.customers))
    store.refuse[bad] = (422, {"title": UGLY})
    outcome = tool(store, None, "--yes", "-v", COLUMNS="400")
    assert outcome.status == 4
    assert outcome.folder
    run_log = (outcome.folder / "run.log").read_text()
    for text in (outcome.text, run_log, outcome.failed[bad]):
        assert not set("\x1b\x07\u202e") & set(text)
        assert "[bold red]x[/]" in text


def test_backup_says_where_it_is_cut(make_store: MakeStore, tool: RiggedTool) -> None:
    """A list shows ten addresses or attributes: the backup says of which records it has not all."""
    store = small(make_store, customers=100)
    short = {
        number: {name: len(record[name]) for name in names}
        for number, record in store.customers.items()
        if (names := [name for name in ("addresses", "attributes") if len(record[name]) > 10])
    }
    assert len(short) == 4
    outcome = tool(store, None, "--dry-run")
    said = {record["id"]: record["backup_cut"] for record in backup(outcome) if "backup_cut" in record}
    assert said == short
    assert "warning: 4 records" in outcome.err


def test_summary_is_live(make_store: MakeStore, tool: RiggedTool) -> None:
    """While it runs, summary.json says in_progress, is always whole, and adds up."""
    store, seen = small(make_store, customers=300), threading.Event()

    def hold(_: Request) -> None:
        seen.wait(30)

    store.faults.append(Fault(method="DELETE", skip=10, times=20, hook=hold))
    process = tool.start(store, store.config(tool.folder), "--yes")

    def begun() -> bool:
        for path in tool.runs.glob("*/summary.json"):
            summary = json.loads(path.read_text())
            assert (summary["status"], summary["exit_status"]) == ("in_progress", None)
            parts = ("deleted", "already_gone", "failed", "unknown", "not_attempted")
            assert summary["selected"] == sum(summary[part] for part in parts)
            assert set(summary) == SUMMARY_KEYS
            return bool(summary["unknown"] and summary["not_attempted"])
        return False

    wait_until(begun)
    seen.set()
    outcome = tool.finish(process)
    assert (outcome.status, outcome.summary["deleted"]) == (0, 300)


def test_runs_of_one_second_have_folders_of_their_own(make_store: MakeStore, tool: RiggedTool) -> None:
    """Runs that start at the same time never share a folder."""
    store = small(make_store)
    config = store.config(tool.folder)
    processes = [tool.start(store, config, "--dry-run") for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    for process in processes:
        process.communicate()
    folders = tool.folders()
    assert len(folders) == 3
    assert all(len(json.loads((f / "plan.json").read_text())["ids"]) == 30 for f in folders)


def test_no_netrc_password_is_sent(make_store: MakeStore, tool: RiggedTool, tmp_path: Path) -> None:
    """A password for the host in ~/.netrc goes nowhere."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".netrc").write_text("machine localhost\nlogin someone\npassword something\n")
    (home / ".netrc").chmod(0o600)
    store = small(make_store)
    outcome = tool(store, None, "--yes", HOME=str(home), NETRC=str(home / ".netrc"))
    assert outcome.status == 0
    assert not [request for request in store.log if "authorization" in request.headers]


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("status", [301, 302, 307])
def test_redirects_are_not_followed(
    make_store: MakeStore, tool: RiggedTool, method: str, status: int
) -> None:
    """A redirect ends the run with status 5, and the other host is never contacted."""
    store, other = small(make_store, customers=100), small(make_store)
    location = {"Location": f"https://{other.host}/stores/{store.store_hash}/{LISTS}"}
    store.faults.append(Fault(method=method, path=LISTS, times=1e9, status=status, headers=location))
    outcome = tool(store, None, "--yes")
    assert outcome.status == 5, outcome.text
    assert other.connections == 0
    assert len(store.customers) == 100
    assert "redirect" in outcome.summary["reason"]
    assert len(store.log) <= 7


def test_tls_is_verified(make_store: MakeStore, tool: RiggedTool) -> None:
    """A certificate that is not trusted ends the run with status 5 before anything is sent."""
    store = small(make_store)
    outcome = tool(store, None, "--yes", REQUESTS_CA_BUNDLE="", CURL_CA_BUNDLE="")
    assert outcome.status == 5
    assert not store.log
    assert "certificate" in outcome.summary["reason"]
    assert store.host in outcome.summary["reason"]


@pytest.mark.parametrize("options", [("--yes",), ("--dry-run",), ()])
@pytest.mark.parametrize("customers", [0, 30])
def test_moved_api_is_shown(
    make_store: MakeStore, tool: RiggedTool, customers: int, options: tuple[str, ...]
) -> None:
    """With BC_API_ENDPOINT set, its host stands wherever the store is named."""
    store = small(make_store, customers=customers)
    outcome = tool(store, None, *options, COLUMNS="400")
    naming = [line for line in outcome.text.splitlines() if store.info["name"] in line]
    assert len(naming) == 2  # in the panel, or the sentence that nothing is selected; in the table
    assert all(store.host in line and store.store_hash in line for line in naming)


def test_store_information_may_be_unreadable(make_store: MakeStore, tool: RiggedTool) -> None:
    """A token that may not read GET /v2/store still deletes customers."""
    store = small(make_store)
    store.scopes = {"store_v2_customers"}
    outcome = tool(store, None, "--yes")
    assert (outcome.status, len(store.customers)) == (0, 0)
    assert store.store_hash in outcome.err


# --- what goes wrong -----------------------------------------------------------------------------


def test_all_faults_in_one_run(make_store: MakeStore, tool: RiggedTool) -> None:
    """Every passing fault of the issue in one run: exit 0, nothing left, each counted once."""
    store = small(make_store, customers=520)
    wait_1 = {"X-Retry-After": "1"}
    html = "<html><body>Bad gateway</body></html>"
    listing = [
        Fault(method="GET", path=LISTS, skip=1, status=502, body=html, content_type="text/html"),
        Fault(method="GET", path=LISTS, skip=1, close="cut"),
    ]
    deleting = [
        Fault(method="DELETE", skip=4, status=503),
        Fault(method="DELETE", skip=4, status=500),
        Fault(method="DELETE", skip=4, status=504, commit=True),
        Fault(method="DELETE", skip=4, status=429, headers=wait_1, quota_headers=False),
        Fault(method="DELETE", skip=4, status=429, quota_headers=False),
        Fault(method="DELETE", skip=4, close="reset"),
        Fault(method="DELETE", skip=4, close="reset", commit=True),
        Fault(method="DELETE", skip=4, close="cut", commit=True),
    ]
    store.faults += listing + deleting
    outcome = tool(store, None, "--yes")
    assert outcome.status == 0, outcome.text
    assert all(fault.seen > fault.skip for fault in store.faults)
    assert not store.customers
    summary = outcome.summary
    assert (summary["selected"], summary["deleted"]) == (520, 520)
    assert (summary["retries"], summary["rate_limited"]) == (8, 2)
    assert summary["requests"] == len(store.log)


@pytest.mark.parametrize("status", [401, 403])
def test_refused_at_the_start(make_store: MakeStore, tool: RiggedTool, status: int) -> None:
    """A bad token or a missing scope: status 5 after few requests, in a sentence that names it."""
    store = small(make_store, customers=600)
    wrong = "not-the-token-of-this-store"
    config = store.config(tool.folder, **({"access_token": wrong} if status == 401 else {}))
    if status == 403:
        store.scopes.discard("store_v2_customers")
    outcome = tool(store, config, "--yes")
    assert outcome.status == 5
    assert len(store.log) <= 6
    assert len(store.customers) == 600
    sentence = outcome.summary["reason"]
    assert ("access_token" if status == 401 else "store_v2_customers") in sentence
    assert str(status) in sentence
    assert wrong not in outcome.text
    assert outcome.summary["resume"] is None


def test_reason_is_one_line_on_stderr(make_store: MakeStore, tool: RiggedTool) -> None:
    """Why a run ended early is a whole line of stderr too: stdout may be redirected, or wrapped."""
    store = small(make_store)
    store.scopes.discard("store_v2_customers")
    outcome = tool(store, None, "--yes")
    assert [line for line in outcome.err.splitlines() if outcome.summary["reason"] in line]


@pytest.mark.parametrize("status", [401, 403])
def test_refused_in_the_middle(make_store: MakeStore, tool: RiggedTool, status: int) -> None:
    """401 or 403 in mid-run: nothing is sent after what was in flight, and resume is told."""
    store = small(make_store, customers=600, latency=0.05)
    store.faults.append(Fault(method="DELETE", skip=10, times=1e9, status=status))
    outcome = tool(store, None, "--yes")
    assert outcome.status == 5
    first = next(request for request in store.log if request.status == status)
    later = [request for request in store.log if request.arrived > first.answered]
    assert len(later) <= 4
    assert {request.method for request in later} <= {"DELETE"}
    summary = outcome.summary
    assert (summary["status"], summary["deleted"]) == ("interrupted", 0)
    assert summary["unknown"]
    assert summary["not_attempted"]
    assert resume_is_printed(outcome)
