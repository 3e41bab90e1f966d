"""What the person sees: panel, question, progress, result, report.html and the webhook."""

from __future__ import annotations

import json
import math
import re
import shlex
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

import bulk_delete
from tests.fake_store import FakeStore, Fault, Request
from tests.rigged import (
    COUNTS,
    QUIET,
    SIGNALS,
    MakeStore,
    RiggedTool,
    Session,
    Tool,
    in_process,
    names,
    posix,
    read_backs,
    wait_until,
    waiting,
)

HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"

Terminal = Callable[..., Session]


def question(number: int) -> str:
    """Return a pattern for the question that asks to type this number."""
    return rf"(?i)type {number}\b[^\n]*: "


def seconds_between(before: str, after: str) -> float:
    """Return the seconds between two times of summary.json."""
    return (datetime.fromisoformat(after) - datetime.fromisoformat(before)).total_seconds()


# --- the panel and the question ---------------------------------------------------------------


def test_panel_and_question(make_store: MakeStore, terminal: Terminal) -> None:
    """It shows store, selection, sample and estimate; the wait for an answer is no work."""
    store = make_store(customers=300, **QUIET)
    session = terminal(store, columns=160)
    session.child.expect(question(300))
    panel, _, asked = session.shown.rpartition("\n")
    for words in (store.info["name"], store.info["domain"], store.store_hash, store.host):
        assert words in panel
    for words in ("300 customers", "ALL customers"):
        assert words in panel
    assert re.search(r"\b\d+ s\b.*\b3\d requests", panel)
    records = list(store.customers.values())
    sample = [record for record in records if record["email"] in panel]
    assert 2 <= len(sample) <= 5
    assert {records[0]["id"], records[-1]["id"]} <= {record["id"] for record in sample}
    for record in sample:
        assert re.search(rf"\b{record['id']}\b", panel)
    for words in ("300 customers", store.info["name"]):
        assert words in asked
    time.sleep(2)
    session.child.sendline("no")
    outcome = session.finish()
    assert (outcome.status, len(store.customers)) == (3, 300)
    summary = outcome.summary
    waited = seconds_between(summary["started_at"], summary["finished_at"])
    assert waited - summary["elapsed_seconds"] > 1.9


def test_right_number_deletes(make_store: MakeStore, terminal: Terminal) -> None:
    """Nothing is deleted before it is typed; one customer is no plural."""
    store = make_store(customers=1, **QUIET)
    session = terminal(store)
    session.child.expect(question(1))
    assert not store.deletes()
    session.child.sendline("1")
    assert (session.finish().status, len(store.customers)) == (0, 0)
    assert "1 customer" in session.shown
    assert "1 customers" not in session.shown


def test_wrong_answer_deletes_nothing(
    make_store: MakeStore, terminal: Terminal, installed: Tool
) -> None:
    """The plan is kept and the command to resume is printed."""
    store = make_store(customers=30, **QUIET)
    answers = ["29\r", "\r", "30x\r", "-30\r", "\x04"]
    sessions = [terminal(store, "--runs-dir", f"r{number}") for number in range(len(answers))]
    for session, answer in zip(sessions, answers, strict=True):
        session.child.expect(question(30))
        session.child.send(answer)
    for number, session in enumerate(sessions):
        assert session.finish().status == 3, answers[number]
        (summary,) = installed.folder.glob(f"r{number}/*/summary.json")
        values = json.loads(summary.read_text())
        assert (values["status"], values["not_attempted"]) == ("planned", 30)
        assert values["resume"] in session.shown.replace("\n", "")
        assert json.loads((summary.parent / "plan.json").read_text())["ids"] == [
            *store.customers
        ]
    assert not store.deletes()


def test_signal_at_the_question(
    make_store: MakeStore, terminal: Terminal, installed: Tool
) -> None:
    """Nothing is deleted; after Ctrl-C the summary begins on a line of its own."""
    store = make_store(customers=30, **QUIET)
    sessions = {signum: terminal(store, "--runs-dir", f"r{signum}") for signum in SIGNALS}
    for signum, session in sessions.items():
        session.child.expect(question(30))
        if signum == signal.SIGINT:
            session.child.sendintr()
        else:
            session.child.kill(signum)
    for signum, session in sessions.items():
        assert session.finish().status == SIGNALS[signum]
        (summary,) = installed.folder.glob(f"r{int(signum)}/*/summary.json")
        assert json.loads(summary.read_text())["not_attempted"] == 30
    after = re.split("(?i)type 30.*: ", sessions[signal.SIGINT].shown)[-1]
    assert "─" not in after.splitlines()[0]
    assert "Ctrl-C" in after
    assert not store.deletes()


# --- progress and signals ---------------------------------------------------------------------


def test_progress_fits_the_terminal(make_store: MakeStore, terminal: Terminal) -> None:
    """With --yes nothing is asked; waits are shown in the bar and the cursor comes back."""
    store = make_store(customers=1003, latency=0.01, **QUIET)
    limited = {"status": 429, "headers": {"X-Retry-After": "1.5"}, "quota_headers": False}
    store.faults.append(Fault("DELETE", skip=20, **limited))
    session = terminal(store, "--yes", columns=80)
    outcome = session.finish()
    assert (outcome.status, len(store.customers)) == (0, 0), outcome.text
    assert "1,003 customers" in session.shown
    assert not re.search("(?i)type 1003", session.shown)
    for line in re.findall(r"[^\r\n]*[%│─][^\r\n]*", session.shown):  # bars and tables
        assert cell_len(line) <= 80, line
    assert re.search(r"(?i)(rate-limited|retry|wait)[^\r]* [12] ?s\b", session.shown)
    for name in ("Listing", "Deleting", "Verifying"):
        assert re.search(rf"{name}\W.* 100% 0:00:\d\d 1,003/1,003\b", session.shown), name
    written = session.written.getvalue()
    assert written.rfind(SHOW_CURSOR) > written.rfind(HIDE_CURSOR) > 0
    assert re.findall(r"\x1b\[[0-9;]*m", written)[-1] == "\x1b[0m"
    assert {*re.findall(r"\x1b\[\?\d+[hl]", written)} == {HIDE_CURSOR, SHOW_CURSOR}


@posix
def test_ctrl_c_shows_requests_in_flight(make_store: MakeStore, tool: RiggedTool) -> None:
    """The number of DELETE requests in flight is shown at once."""
    store = make_store(customers=200, latency=0.1, **QUIET)

    def interrupt(_: Request) -> None:
        tool.signal(signal.SIGINT)
        time.sleep(0.8)  # in flight until the message was shown

    store.faults.append(Fault("DELETE", skip=5, hook=interrupt))
    outcome = tool.run(store)
    assert outcome.status == 130, outcome.text
    found = re.search(r"(?i)stopping\W+waiting for (\d)", outcome.err)
    assert found
    assert 1 <= int(found[1]) <= 5
    assert outcome.summary["reason"] in outcome.err
    assert re.search(rf"\b{outcome.summary['unknown']}\b", outcome.out)


@pytest.mark.parametrize("deleting", [True, False])
def test_closed_window_stops_like_sighup(
    make_store: MakeStore, terminal: Terminal, installed: Tool, deleting: bool
) -> None:
    """At the question or later, a summary is left."""
    store = make_store(customers=200, **QUIET)
    seen = threading.Event()
    store.faults = [Fault("DELETE", skip=5, times=math.inf, hook=waiting(seen))]
    session = terminal(store)
    session.child.expect(question(200))
    if deleting:
        session.child.sendline("200")
        wait_until(lambda: len(store.deletes()) == 10)
        threading.Timer(1.0, seen.set).start()  # by then it has received the signal
    assert session.hang_up() == 129
    assert len(store.deletes()) == (10 if deleting else 0)
    (folder,) = installed.folders()
    summary = json.loads((folder / "summary.json").read_text())
    verified = 10 if deleting else 0  # the first batch
    assert (summary["exit_status"], summary["deleted"]) == (129, verified)
    assert summary["unknown"] == sum(store.deleted_ids().values()) - verified


# --- stdout and stderr ------------------------------------------------------------------------


def test_stdout_holds_only_the_result(make_store: MakeStore, tool: RiggedTool) -> None:
    """It is the table or, with --json, summary.json; -v adds each request to stderr."""
    store = make_store(customers=30, **QUIET)
    outcome = tool(store, None, "--yes", "-v")
    for word in ("Deleted", "Verified", "Requests"):
        assert word in outcome.out
        assert word not in outcome.err
    for word in ("Listing", "Deleting", "Verifying", "@"):
        assert word not in outcome.out
        assert word in outcome.err
    seen = Counter(re.findall(r"\b(GET|DELETE) /stores/", outcome.err))
    assert seen == Counter(request.method for request in store.log)
    store.add(30)
    outcome = tool(store, None, "--yes", "--json")
    assert json.loads(outcome.out) == outcome.summary
    assert "Deleted" in outcome.err
    assert "/stores/" not in outcome.err


@posix
def test_streams_can_be_closed(make_store: MakeStore, installed: Tool) -> None:
    """Neither closed streams nor a reader that leaves, such as head, stop or belie the run."""
    for ending in (">&- 2>&-", "<&- 2>&- --json", "--json | true", "2>&1 >/dev/null | true"):
        store = make_store(customers=12, **QUIET)
        before = installed.folders()
        command = shlex.join(installed.command(store.config(installed.folder), "--yes"))
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", f"{command} {ending}"],
            cwd=installed.folder,
            env=installed.environ(store),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        (folder,) = installed.folders() - before
        assert json.loads((folder / "summary.json").read_text())["status"] == "completed"
        assert not store.customers


def test_moved_api_is_shown_beside_the_store(
    make_store: MakeStore, hurried: RiggedTool
) -> None:
    """With BC_API_ENDPOINT set, its host is shown wherever the store is named."""
    for customers in (30, 0):
        store = make_store(customers=customers, **QUIET)
        outcome = hurried(store, None, "--yes", COLUMNS="400")
        named = [line for line in outcome.text.splitlines() if store.info["name"] in line]
        assert named or not customers
        assert all(store.host in line and store.store_hash in line for line in named)


def test_reason_is_a_whole_line_of_stderr(store: FakeStore, hurried: RiggedTool) -> None:
    """stdout may be redirected or wrapped; a run that read nothing back names no failed.csv."""
    store.faults.append(Fault("DELETE", times=9, status=403, body={"title": "no"}))
    outcome = hurried.run(store)
    assert [line for line in outcome.err.splitlines() if outcome.summary["reason"] in line]
    empty = {"status": 200, "body": {"data": []}}
    store.faults = [Fault("GET", where=read_backs, skip=2, times=100, **empty)]
    outcome = hurried.run(store)
    assert outcome.status == 4, outcome.text
    assert outcome.summary["unknown"] == 20
    assert re.search(r"\b20\b", outcome.err.partition("Verifying")[2])
    assert "failed.csv" not in outcome.err


def test_foreign_text_is_shown_without_control_codes(
    store: FakeStore, hurried: RiggedTool
) -> None:
    """Neither markup nor control codes in names and messages are obeyed or passed on."""
    ugly = "\x1b[31m[bold red]x[/]\x07\r\n\u202e=1+1[/]"
    store.info["name"] = ugly
    for number in store.customers:
        store.change(number, first_name=ugly, last_name=ugly, email=f"{ugly}{number}@x.example")
    bad = min(store.customers)
    store.refuse[bad] = (422, {"title": ugly})
    outcome = hurried(store, None, "--yes", "-v", COLUMNS="400")
    assert outcome.status == 4, outcome.text
    assert outcome.folder
    run_log = (outcome.folder / "run.log").read_text()
    for text in (outcome.text, run_log, outcome.failed[bad]):
        assert not {*"\x1b\x07\u202e"} & {*text}
        assert "[bold red]x[/]" in text
    assert outcome.failed[bad].isprintable()


def test_bug_is_shown_and_leaves_a_summary(
    store: FakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its traceback; what was verified before counts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bulk_delete.Executor, "verify", lambda *_: 1 // 0)
    status, output = in_process(store, tmp_path, "--yes")
    (summary,) = (json.loads(path.read_text()) for path in tmp_path.glob("runs/*/summary.json"))
    assert (status, summary["exit_status"], summary["deleted"]) == (1, 1, 10)
    assert "Traceback" in output
    assert output.count("ZeroDivisionError") == 2
    assert summary["resume"] in output


# --- report.html ------------------------------------------------------------------------------


def test_report_is_one_file(make_store: MakeStore, hurried: RiggedTool) -> None:
    """It has plan, result, failures, unmatched entries, version and command."""
    store = make_store(customers=60, **QUIET)
    ids = hurried.folder / "merchant.csv"
    ids.write_text("id\n" + "".join(f"{n}\n" for n in [*sorted(store.customers)[:40], 999_999]))
    number = min(store.customers)
    rejected = {"status": 422, "body": {"title": "<b>&{x}"}}
    store.faults.append(Fault("DELETE", where=names(number), times=99, **rejected))
    outcome = hurried.run(store, "--ids", str(ids))
    assert outcome.status == 4, outcome.text
    assert outcome.folder is not None
    report = (outcome.folder / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"<[^>]*\b(src|href|data|action)=", report)
    assert not re.search(r"url\(|@import|https?://(?!localhost)", report)
    tags = {"html", "meta", "title", "style", "h2", "table", "tr", "td"}
    assert {*re.findall(r"<(\w+)", report)} == tags
    text = " ".join(re.sub(r"<[^>]*>", "", report).split())
    for words in ("40 customers", "failed.csv", "unmatched.csv", "999999", "--ids"):
        assert words in text
    assert "&lt;b&gt;&amp;{x}" in text
    assert re.search(r"bulk_delete\.py \d+\.\d+\.\d+", text)


def test_a_phase_that_has_counted_nothing_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    """N32: without a terminal too, a line every two seconds says that it goes on."""
    screen = bulk_delete.Screen()
    with screen.phase("Checking", 300):
        screen._said_at -= 2.5
        screen.tick("")
        screen.tick("")
    assert capfd.readouterr().err == "Checking: 0/300 \n"


# --- webhook_url ------------------------------------------------------------------------------

WEBHOOK_KEYS = {"event", "run_folder", "status", "exit_status", "selected", *COUNTS}


@dataclass
class Hook:
    """A webhook: the bodies that it received, and how it answers."""

    url: str = ""
    status: int = 200
    hangs: bool = False
    events: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            hook.events.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            hook.paths.append(self.path)
            if hook.hangs:
                hook.closing.wait(60)
                return
            self.send_response(hook.status)
            self.send_header("Location", f"{hook.url}/elsewhere")
            self.send_header(
                "Content-Length", "15"
            )  # which are never sent: it is not waited for
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hook.url = f"http://localhost:{server.server_address[1]}/hooks/cleanup"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield hook
    hook.closing.set()
    server.shutdown()
    server.server_close()


def test_webhook_gets_event_and_counts(
    make_store: MakeStore, hurried: RiggedTool, hook: Hook
) -> None:
    """It gets no filter, reason, command or record, and changes no exit status."""
    rejected = {"status": 422, "body": {"title": "has open orders"}}
    endings = {
        0: ("completed", None),
        4: ("completed", Fault("DELETE", where=names(11), times=math.inf, **rejected)),
        5: ("interrupted", Fault("DELETE", skip=1, times=math.inf, status=401)),
    }
    for status, (event, fault) in endings.items():
        store = make_store(customers=30, **QUIET)
        store.faults = [fault] if fault else []
        outcome = hurried.run(store, webhook_url=hook.url)
        assert outcome.status == status, outcome.text
        assert outcome.folder is not None
        start, end = hook.events
        assert start.keys() == WEBHOOK_KEYS
        assert (start["event"], start["status"]) == ("started", "in_progress")
        reported = {
            name: outcome.summary[name] for name in WEBHOOK_KEYS & outcome.summary.keys()
        }
        assert end == reported | {"event": event, "run_folder": outcome.folder.name}
        hook.events.clear()


def test_unwritable_report_interrupts_the_run(
    make_store: MakeStore, hurried: RiggedTool, hook: Hook
) -> None:
    """Screen, summary.json and webhook tell the same; the next resume makes up for it."""
    store = make_store(customers=30, **QUIET)
    folder = hurried.run(store, "--dry-run").folder
    assert folder is not None
    (folder / "report.html.new").mkdir()
    outcome = hurried.run(store, "--resume", folder, webhook_url=hook.url)
    assert (outcome.status, outcome.summary["exit_status"]) == (5, 5), outcome.text
    assert [event["event"] for event in hook.events] == ["started", "interrupted"]
    (folder / "report.html.new").rmdir()
    assert hurried.run(store, "--resume", folder).status == 0
    assert "Completed" in (folder / "report.html").read_text(encoding="utf-8")


@posix
def test_webhook_is_notified_of_a_signal(
    make_store: MakeStore, tool: RiggedTool, hook: Hook
) -> None:
    store = make_store(customers=200, **QUIET)
    store.faults = [Fault("DELETE", skip=4, hook=lambda _: tool.signal(signal.SIGTERM))]
    assert tool.run(store, webhook_url=hook.url).status == 143
    assert [event["event"] for event in hook.events] == ["started", "interrupted"]
    assert hook.events[-1]["exit_status"] == 143


def assert_completes_with_warning(hurried: RiggedTool, store: FakeStore, url: str) -> None:
    """Assert that a run is as it would be without this webhook, but for a warning."""
    outcome = hurried.run(store, "--json", webhook_url=url)
    assert (outcome.status, len(store.customers)) == (0, 0), outcome.text
    assert json.loads(outcome.out) == outcome.summary
    assert (outcome.summary["status"], outcome.summary["reason"]) == ("completed", None)
    assert "webhook" in outcome.err
    assert url not in outcome.text


def test_faulty_webhook_is_a_warning(
    make_store: MakeStore, hurried: RiggedTool, hook: Hook
) -> None:
    """N14: it answers with an error or a redirect, is down, or has no such host."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        down = f"http://localhost:{server.getsockname()[1]}/hooks"
    nowhere = "http://no-such-host.invalid/hooks"
    for url, status in ((hook.url, 404), (hook.url, 302), (down, 200), (nowhere, 200)):
        hook.status = status
        assert_completes_with_warning(hurried, make_store(customers=3, **QUIET), url)
    assert {*hook.paths} == {"/hooks/cleanup"}


def test_webhook_without_trusted_certificate_gets_nothing(
    make_store: MakeStore, hurried: RiggedTool
) -> None:
    """N15: its CA is another one than the store's."""
    other = make_store(customers=1)
    url = f"https://{other.host}/hooks"
    assert_completes_with_warning(hurried, make_store(customers=3, **QUIET), url)
    assert not other.log


def test_hanging_webhook_is_abandoned(
    store: FakeStore, hurried: RiggedTool, hook: Hook
) -> None:
    hook.hangs = True
    assert_completes_with_warning(hurried, store, hook.url)
    assert [event["event"] for event in hook.events] == ["started", "completed"]
