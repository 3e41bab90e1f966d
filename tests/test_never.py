"""The rules under "Never" in the design, and a test for each, named by its number.

There is never …
N1 an unfiltered DELETE
N2 a DELETE outside the plan
N3 a DELETE to /v2/customers
N4 an id that is not a positive integer
N5 an id filter on a collection, unless it is documented that nothing is deleted without one
N6 a DELETE in a dry run
N7 a DELETE before the plan is on disk
N8 a DELETE after a stop was asked for
N9 a read that is awaited after a stop; also test_stops.py
N10 "deleted" for a record that was not verified gone
N11 exit status 0 with an unverified record
N12 a record counted twice or not at all
N13 a verified deletion that a later resume forgets
N14 a redirect followed; also test_screen.py
N15 a certificate that is not verified; also test_screen.py
N16 a password from .netrc sent
N17 the token in argv, output, log, journal, file, repr, error message or POST
N18 a proxy's password or the webhook's URL there; also test_wire.py, test_screen.py
N19 a sleep while holding a lock
N20 a wall clock used for pacing
N21 an answer taken for a question that was not seen
N22 a printed command that bypasses a guard
N23 an entry of a keep list that is dropped without a word
N24 a traceback, a freeze or unbounded memory because of an answer; also test_wire.py
N25 an answer read beyond 64 MiB, or for longer than 5 times `timeout`; see test_wire.py
N26 an exception of the HTTP stack that is taken for an answer; also test_wire.py
N27 a pattern over foreign text that runs in more than linear time
N28 a line of the ini in a message; in test_config.py
N29 a cookie kept
N30 a report, summary or table that contradicts another file of the run
N31 a suggestion to delete another kind of record; in test_config.py
N32 more than three seconds without a word on the screen; see test_endurance.py
N33 a request given up because the machine or the process was asleep; see test_endurance.py
N34 a webhook that is waited for after a signal; see test_endurance.py
"""

from __future__ import annotations

import ast
import hashlib
import json
import math
import os
import re
import shlex
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pexpect
import pytest

from bulk_delete import Config
from tests.fake_store import STORE_HASH, TOKEN, FakeStore, Fault, Request
from tests.launcher import FSYNCS, LOCKS, UNDER_A_LOCK, Rig
from tests.rigged import (
    QUIET,
    TOOL,
    MakeStore,
    Outcome,
    RiggedTool,
    Session,
    Tool,
    Wire,
    assert_all_gone_once,
    assert_resumable,
    counts,
    journal_sent,
    linux,
    names,
    posix,
    read_backs,
    refused_resume,
    run_refused,
    sent_after,
    wait_until,
    write,
)

CUSTOMERS = f"/stores/{STORE_HASH}/v3/customers"


def test_rule_numbers_are_known() -> None:
    """Each rule of the list above, and no other, is named in the module and has a test."""
    listed = re.findall(r"(?m)^(N\d+) (.*)$", __doc__ or "")
    numbers = [number for number, _ in listed]
    assert numbers == [f"N{place}" for place in range(1, len(listed) + 1)]
    tested: set[str] = set()
    for path in TOOL.with_name("tests").glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                tested |= {*re.findall(r"\bN\d+\b", ast.get_docstring(node) or "")}
    kept = {*re.findall(r"\bN\d+\b", TOOL.read_text(encoding="utf-8"))}
    assert tested <= kept == {*numbers}
    assert tested >= {number for number, words in listed if "; see " not in words}


# --- what is deleted, and what counts as deleted ----------------------------------------------


@dataclass
class Troubled:
    """A run and a resume with every fault that makes the tool send an id again."""

    store: FakeStore
    planned: list[int]
    intruders: list[int]  # that answers of the store mentioned, or that signed up meanwhile
    announced: list[bool]  # of each DELETE, whether plan, backup and journal had it on arrival
    first: Outcome
    summary: dict[str, Any]  # of the first run
    failed: dict[int, str]  # by the first run
    page: str  # its report, without markup
    again: Outcome


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Troubled]:
    tool, intruders, announced = RiggedTool(tmp_path_factory.mktemp("run")), [], []
    with FakeStore(customers=60, **QUIET) as store:
        ids = list(store.customers)

        def is_announced(request: Request) -> bool:
            (folder,) = tool.folders()
            plan = json.loads((folder / "plan.json").read_text())
            backup = (folder / "backup.jsonl").read_text().splitlines()
            written = (folder / "journal.jsonl").read_text().splitlines()
            sent = [json.loads(line).get("sent") for line in written if line.endswith("}")]
            return plan["ids"] == ids and len(backup) == 60 and list(request.ids) in sent

        def watch(request: Request) -> float:
            if request.method == "DELETE":
                announced.append(is_announced(request))
            return 0.0

        def sign_up(_request: Request) -> None:
            intruders.extend(store.add(1))

        def intrude(request: Request, answer: Any) -> Any:
            sign_up(request)
            answer["data"].append({"id": intruders[-1]})
            answer["meta"]["pagination"]["total"] += 1
            return answer

        store.latency = watch
        store.refuse = {ids[4]: (404, {"title": "no"}), ids[5]: (422, {"title": "no"})}
        store.sticky = {ids[12]: 1, ids[13]: math.inf}
        store.per_item = {ids[25]: (429, "ERR_TOO_MANY_REQUEST")}
        others = [n for n in (*range(1, 500), 10**6) if n not in ids]
        errors = [{"id": number, "status": 429, "message": "again"} for number in others]
        again = Fault("DELETE", where=names(ids[25]), quota_headers=False)
        again.after = lambda _: store.per_item.clear()
        store.faults = [
            Fault("DELETE", skip=1, status=207, body={"errors": errors}, hook=sign_up),
            Fault("GET", where=read_backs, times=2, rewrite=intrude),
            again,
            Fault("DELETE", where=names(ids[17]), times=math.inf, status=500),
            Fault("DELETE", where=names(ids[29]), commit=True, close="reset"),
        ]
        first = tool.run(store, max_retries=0)
        assert first.folder is not None
        failed, page = first.failed, (first.folder / "report.html").read_text("utf-8")
        page = re.sub(r"<[^>]*>", "", page)
        summary = first.summary
        again = tool.resume(store, first.folder, max_retries=0)
        yield Troubled(store, ids, intruders, announced, first, summary, failed, page, again)
        assert not store.violations, store.violations


def test_never_an_unfiltered_delete(troubled: Troubled) -> None:
    """N1, N5: every DELETE has 1 to 10 ids, whatever is halved, repeated or resumed."""
    deletes = troubled.store.deletes()
    assert len(deletes) > 20
    assert max(Counter(number for request in deletes for number in request.ids).values()) > 1
    for request in deletes:
        assert request.query == {"id:in": ",".join(map(str, request.ids))}
        assert 1 <= len(request.ids) <= 10


def test_never_outside_the_plan(troubled: Troubled) -> None:
    """N2: neither new customers nor ids in answers of the store are deleted."""
    assert len(troubled.intruders) >= 3
    assert troubled.store.deleted_ids().keys() <= {*troubled.planned}
    assert {*troubled.intruders} <= troubled.store.customers.keys()


def test_never_v2_customers(troubled: Troubled) -> None:
    """N3: customers are listed, read and deleted at /v3/customers alone."""
    assert {request.path for request in troubled.store.deletes()} == {CUSTOMERS}
    paths = {request.path for request in troubled.store.log}
    others = {f"/stores/{STORE_HASH}/v2/{name}" for name in ("store", "customer_groups")}
    assert paths == {CUSTOMERS, *others}


def test_never_before_the_plan_is_on_disk(troubled: Troubled) -> None:
    """N7: plan, backup and the journal's line can be read when a DELETE arrives."""
    assert all(troubled.announced)
    assert len(troubled.announced) == len(troubled.store.deletes())
    assert troubled.first.folder is not None
    sent = {request.ids for request in troubled.store.deletes()}
    assert sent == set(journal_sent(troubled.first.folder))


def test_never_deleted_without_verification(troubled: Troubled) -> None:
    """N10, N11, N12, N13: each id is in one count, and "deleted" is what is gone."""
    planned, summary = troubled.planned, troubled.summary
    failed = {planned[4], planned[5], planned[13], planned[17]}
    assert (troubled.first.status, troubled.again.status) == (4, 4), troubled.again.text
    assert troubled.failed.keys() == failed
    assert (summary["selected"], summary["deleted"], summary["failed"]) == (60, 56, 4)
    assert troubled.store.customers.keys() & {*planned} == failed
    assert troubled.again.failed.keys() == failed
    assert counts(troubled.again) == {"deleted": 56, "failed": 4}


def test_never_files_that_contradict_one_another(troubled: Troubled) -> None:
    """N30: table, summary.json, failed.csv and report.html have the same counts and reasons."""
    for text in (troubled.first.out, troubled.page):
        assert re.search(r"Deleted\s+56\b", text)
        assert re.search(r"Failed\s+4\b", text)
    for number, reason in troubled.failed.items():
        assert str(number) in troubled.page
        assert " ".join(reason.split())[:20] in " ".join(troubled.page.split())


def frozen(plan: dict[str, Any]) -> str:
    """Return the plan as JSON with a SHA-256 that matches."""
    rest = {name: value for name, value in plan.items() if name != "sha256"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return json.dumps(rest | {"sha256": hashlib.sha256(text.encode()).hexdigest()})


def test_never_an_id_that_is_not_a_positive_integer(
    store: FakeStore, hurried: RiggedTool
) -> None:
    """N4: a plan that has one is refused, although its SHA-256 fits."""
    dry_run = hurried.run(store, "--dry-run")
    assert dry_run.folder is not None
    plan = dry_run.plan
    good, plan["ids"] = plan["ids"], [*plan["ids"]]
    for wrong in (0, -7):
        plan["ids"][3] = wrong
        (dry_run.folder / "plan.json").write_text(frozen(plan))
        status, output = refused_resume(hurried, store, dry_run.folder)
        assert status == 3, output
        assert "positive" in output
    assert not store.deletes()
    (dry_run.folder / "plan.json").write_text(frozen(plan | {"ids": good}))
    assert hurried.resume(store, dry_run.folder).status == 0


def test_never_a_delete_in_a_dry_run(make_store: MakeStore, hurried: RiggedTool) -> None:
    """N6: only GET requests are sent; a plan, a backup and the command to resume are left."""
    store = make_store(customers=260, **QUIET)
    for ini, options in (({}, ["-n"]), ({"dry_run": True}, [])):
        outcome = hurried(store, store.config(hurried.folder, **ini), *options)
        assert outcome.status == 0, outcome.text
        assert {request.method for request in store.log} == {"GET"}
        assert outcome.plan["ids"] == list(store.customers)
        assert len(outcome.backup) == 260
        summary = outcome.summary
        assert (summary["status"], summary["not_attempted"]) == ("planned", 260)
        assert "260 customers" in outcome.err
        assert_resumable(outcome)
        again = hurried.resume(store, outcome.folder, "--dry-run")
        assert again.status == 0, again.text
    assert not store.deletes()


@linux
def test_never_a_delete_that_a_power_cut_would_hide(
    make_store: MakeStore, tool: RiggedTool
) -> None:
    """N7: plan, backup and the journal's own line are synced when a DELETE arrives."""
    store = make_store(customers=12, **QUIET)
    tool.rig, seen = Rig(speed=1.0, note_fsyncs=True), []

    def look(request: Request) -> None:
        (folder,) = tool.folders()
        text = (tool.folder / FSYNCS).read_text()
        notes = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        synced = Counter[str]()  # the most that was saved of each: workers write side by side
        for path, size in notes:
            name = Path(path).name.removesuffix(".new")
            synced[name] = max(synced[name], size)
        for name in ("plan.json", "backup.jsonl"):
            assert synced[name] == (folder / name).stat().st_size > 100
        assert folder.name in synced  # the folder has the plan's name
        whole = (folder / "journal.jsonl").read_bytes()[: synced["journal.jsonl"]]
        assert list(request.ids) in [
            json.loads(line).get("sent") for line in whole.splitlines()
        ]
        seen.append(request)

    store.faults = [Fault("DELETE", times=math.inf, hook=look)]  # an error there is a violation
    assert tool.run(store).status == 0
    assert len(seen) == len(store.deletes()) == 2


@posix
def test_never_a_delete_after_a_stop(make_store: MakeStore, tool: RiggedTool) -> None:
    """N8: the DELETEs in flight are awaited, and nothing more is sent."""
    store = make_store(customers=200, latency=0.1, **QUIET)
    stopped_at: list[float] = []

    def stop(_request: Request) -> None:
        tool.signal(signal.SIGTERM)
        stopped_at.append(time.monotonic())

    store.faults = [Fault("DELETE", skip=7, hook=stop)]
    outcome = tool.run(store)
    assert outcome.status == 143, outcome.text
    assert sent_after(store, stopped_at[0] + 0.5) == 0
    assert len(store.deletes()) <= 8 + 5
    sent = sum(store.deleted_ids().values())
    assert (
        outcome.summary["deleted"] + outcome.summary["unknown"]
        == sent
        == 200 - len(store.customers)
    )


@posix
def test_never_a_read_awaited_after_a_stop(store: FakeStore, tool: RiggedTool) -> None:
    """N9: not even one that was sent a moment before the signal."""
    ended = threading.Event()

    def stop(_request: Request) -> None:
        tool.signal(signal.SIGTERM)
        ended.wait(60)

    store.faults = [Fault(where=read_backs, skip=1, hook=stop)]
    process = tool.start(store, store.config(tool.folder), "--yes", "--max-concurrent", "1")
    wait_until(lambda: process.poll() is not None, 15)
    assert process.returncode == 143
    ended.set()


# --- to whom requests and secrets go ----------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_never_a_redirect_followed(
    make_store: MakeStore, hurried: RiggedTool, method: str
) -> None:
    """N14: neither request nor token is sent to another host or path."""
    other = make_store(customers=30, **QUIET)
    location = f"https://{other.host}{CUSTOMERS}?id:in=11"
    for status in (301, 302, 303, 307, 308):
        store = make_store(customers=12, **QUIET)
        redirect = {"status": status, "headers": {"Location": location}}
        store.faults = [Fault(method, "v3/customers", **redirect)]
        outcome = hurried.run(store, max_concurrent=1)
        assert outcome.status == 5, outcome.text
        assert [request.status for request in store.log].count(status) == 1
        assert store.log[-1].status == status
    assert other.connections == 0


def test_never_an_unverified_certificate(store: FakeStore, hurried: RiggedTool) -> None:
    """N15: a store with an unknown CA, or with another host's certificate, gets no request."""
    config = store.config(hurried.folder)
    outcome = hurried(store, config, "--yes", REQUESTS_CA_BUNDLE="none.pem")
    assert outcome.status == 2, outcome.text
    assert "REQUESTS_CA_BUNDLE" in outcome.err
    unknown = {"REQUESTS_CA_BUNDLE": "", "CURL_CA_BUNDLE": "", "PYTHONHTTPSVERIFY": "0"}
    outcome = hurried(store, config, "--yes", **unknown)
    assert outcome.status == 5, outcome.text
    assert "certificate" in outcome.err
    if os.name != "nt" and os.uname().sysname == "Linux":  # where 127.0.0.2 is this machine
        with Wire(store, at="127.0.0.2") as wire:  # a name that the certificate does not have
            environ = wire.environ() | {"NO_PROXY": "127.0.0.2"}
            outcome = hurried(store, config, "--yes", **environ)
            assert wire.connections
        assert outcome.status == 5, outcome.text
        assert "certificate" in outcome.err
    assert not store.log


def test_never_a_password_of_netrc(store: FakeStore, hurried: RiggedTool) -> None:
    """N16, N29: no request has credentials from .netrc, or a cookie of an earlier answer."""
    for name in (".netrc", "_netrc"):
        path = write(
            hurried, "machine localhost login a password b\ndefault login a password b", name
        )
        path.chmod(0o600)
    store.faults = [Fault(times=math.inf, headers={"Set-Cookie": "session=1; Path=/; Secure"})]
    environ = {"HOME": str(hurried.folder), "NETRC": str(hurried.folder / ".netrc")}
    outcome = hurried(store, store.config(hurried.folder), "--yes", **environ)
    assert (outcome.status, len(store.customers)) == (0, 0), outcome.text
    assert not [r for r in store.log if {"authorization", "cookie"} & r.headers.keys()]
    assert {request.headers["x-auth-token"] for request in store.log} == {TOKEN}


@linux
def test_never_the_token_in_argv_or_another_file(store: FakeStore, installed: Tool) -> None:
    """N17: no command line has it, there is no child process, and only the ini has it."""
    seen: list[bytes] = []
    started = threading.Event()

    def look(_request: Request) -> None:
        assert started.wait(30)
        seen.append(Path(f"/proc/{process.pid}/cmdline").read_bytes())
        seen.append(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_bytes())

    store.faults = [Fault("DELETE", hook=look)]
    process = installed.start(store, store.config(installed.folder), "--yes", "-v")
    started.set()
    assert installed.finish(process).status == 0
    command, children = seen
    assert b"bulk_delete.py" in command
    assert TOKEN.encode() not in command
    assert not children.strip()
    files = [path for path in installed.folder.rglob("*") if path.is_file()]
    assert [path.name for path in files if TOKEN in path.read_text()] == ["store.ini"]


def echoes(token: str) -> dict[str, list[dict[str, Any]]]:
    """Return answers that contain the token, by run."""
    html = {"status": 200, "body": f"<p>{token}", "content_type": "text/html"}
    error = {"status": 500, "body": {"title": f"bad {token}"}}
    headers = {"Retry-After": token, "Date": token, "X-Other": token}
    limited = {"status": 429, "quota_headers": False, "headers": headers}
    records = {"status": 200, "body": {"data": [{"id": token}], "meta": {token: 1}}}
    item = {"id": 11, "status": 409, "message": f"bad {token}"}
    rows = {"status": 200, "body": {"failed_rows_data": [f"[11] {token}"]}}
    wrong = {"title": f"{token} is wrong", "errors": {token: f"bad {token}"}}
    redirect = {"status": 302, "headers": {"Location": f"https://{token}/?{token}"}}
    return {
        "GET": [html, error, limited],
        "DELETE": [
            html,
            error,
            limited,
            {"status": 207, "body": {"errors": [item]}},
            rows,
            {"status": 422, "body": wrong},
            {"status": 409, "body": wrong},
        ],
        "GET records": [records] * 9,
        "GET 401": [{"status": 401, "body": wrong}] * 9,
        "GET redirect": [redirect],
        "DELETE 418": [{"status": 418, "body": wrong}],
    }


def test_never_the_token_in_output(make_store: MakeStore, hurried: RiggedTool) -> None:
    """N17: an answer that repeats the token does not get it into output, log or files."""
    token = "another-made-up-token"  # of the environment, which is as secret as the ini's
    for name, answers in echoes(token).items():
        store = make_store(customers=30, **QUIET)
        store.token = token
        store.faults = [Fault(name.split()[0], "v3/*", **answer) for answer in answers]
        config = store.config(hurried.folder, access_token="")
        environ = {"BIGCOMMERCE_ACCESS_TOKEN": token}
        outcome = hurried(store, config, "--yes", "-v", "--max-concurrent", "1", **environ)
        assert outcome.status in (0, 3, 4, 5), (name, outcome.text)
        written = [path for path in hurried.runs.rglob("*") if path.is_file()]
        for text in (outcome.text, *(path.read_text("utf-8", "replace") for path in written)):
            assert token not in text, name


def test_never_the_token_in_a_repr() -> None:
    """N17: the configuration's repr leaves it out."""
    assert Config.__repr__ is object.__repr__


# --- locks, clocks and odd answers ------------------------------------------------------------


def test_never_a_sleep_under_a_lock(make_store: MakeStore, tool: RiggedTool) -> None:
    """N19: no thread waits for anything while it holds a lock of the tool."""
    tool.rig = Rig(speed=1.0, watch_locks=True)
    store = make_store(customers=150, quota=12, window=0.5)
    store.faults = [
        Fault("DELETE", skip=3, status=503),
        Fault("DELETE", skip=5, status=429, quota_headers=False),
        Fault("DELETE", skip=7, close="reset"),
    ]
    outcome = tool.run(store, "-v")
    assert outcome.status != UNDER_A_LOCK
    assert outcome.status == 0, outcome.text
    assert (tool.folder / LOCKS).exists()  # there were locks to watch
    assert outcome.summary["retries"] == 2
    assert outcome.summary["rate_limited"] >= 1


def test_never_a_wall_clock_for_pacing(make_store: MakeStore, hurried: RiggedTool) -> None:
    """N20: a clock that jumps to and fro by a day changes nothing."""
    day = 86_400.0
    hurried.rig = Rig(speed=1, jump=day)
    store = make_store(customers=120, quota=10, window=0.5)
    planned = {*store.customers}
    outcome = hurried.run(store)
    assert_all_gone_once(outcome, store, planned)
    assert outcome.summary["rate_limited"] <= 5
    assert 0 <= outcome.summary["elapsed_seconds"] < day / 2


def test_never_a_hang_or_a_traceback_because_of_an_answer(
    make_store: MakeStore, hurried: RiggedTool
) -> None:
    """N24, N26, N27: answers that are deep, huge, not UTF-8 or no HTTP at all."""
    answers: list[dict[str, Any]] = [
        {"status": 422, "body": "[" * 200_000},
        {"status": 422, "body": {"title": "[1 id=" * 200_000}},
        {"status": 200, "body": {"errors": [{"id": 10**400, "status": "x"}, None, 5]}},
        {"status": 422, "body": b"\xff\xfe\x00"},
    ]
    for answer in answers:
        store = make_store(customers=12, **QUIET)
        store.faults = [Fault("DELETE", times=2, **answer)]
        outcome = hurried.run(store)
        assert outcome.status in (0, 4, 5), outcome.text
    store = make_store(customers=30, **QUIET)  # two lengths in one answer: the stack raises
    broken = {"status": 204, "headers": {"Content-Length": "0, 7"}}
    store.faults = [Fault("DELETE", times=2, commit=True, **broken)]
    outcome = hurried.run(store)
    assert outcome.status == 0, outcome.text
    assert outcome.summary["deleted"] == 30
    assert outcome.summary["retries"] >= 2


# --- the question and messages ----------------------------------------------------------------


def test_never_an_answer_typed_before_the_question(
    make_store: MakeStore, terminal: Callable[..., Session]
) -> None:
    """N21: a number typed during the listing confirms nothing."""
    store = make_store(customers=30, **QUIET)
    seen, typed = threading.Event(), threading.Event()

    def hold(_request: Request) -> None:
        seen.set()
        typed.wait(30)

    store.faults = [Fault(path="v3/customers", hook=hold)]
    session = terminal(store)
    assert seen.wait(30)
    session.child.sendline("30")
    time.sleep(0.3)
    typed.set()
    session.child.expect("(?i)type 30")
    time.sleep(0.7)
    assert session.child.isalive()
    session.child.sendline("no")
    assert session.finish().status == 3
    assert not store.deletes()


@posix
def test_never_a_question_that_nobody_sees(make_store: MakeStore, installed: Tool) -> None:
    """N21: with messages or answer redirected nothing is asked; --yes is required."""
    store = make_store(customers=30, **QUIET)
    (installed.folder / "answer.txt").write_text("30\n")
    command = shlex.join(installed.command(store.config(installed.folder)))
    environ = installed.environ(store) | {"TERM": "xterm-256color"}
    children = []
    for redirected in ("2>err.log", "2>&1 | cat", "<answer.txt"):
        line = f"set -o pipefail; {command} {redirected}"
        child = pexpect.spawn("bash", ["-c", line], cwd=str(installed.folder), env=environ)
        child.send("30\n30\n")
        children.append(child)
    for child in children:
        child.expect(pexpect.EOF, timeout=60)
        child.close()
        assert child.exitstatus == 3
    assert not store.deletes()
    for folder in installed.folders():
        summary = json.loads((folder / "summary.json").read_text())
        assert (summary["status"], summary["not_attempted"]) == ("planned", 30)
        assert "--yes" in summary["reason"]
        assert summary["resume"]


def test_never_a_command_that_bypasses_a_guard(store: FakeStore, hurried: RiggedTool) -> None:
    """N22: the printed command has --max-delete and has no --yes."""
    outcome = hurried.run(store, "--dry-run", "--max-delete", "40")
    assert_resumable(outcome)
    assert "--max-delete 40" in outcome.summary["resume"]


def test_never_a_keep_entry_dropped(store: FakeStore, hurried: RiggedTool) -> None:
    """N23: an entry that matches no customer is shown, and refused with --yes."""
    write(hurried, f"{min(store.customers)}\nnobody@nowhere.example\n", "staff.txt")
    run_refused(
        hurried, store, 3, "--keep", "staff.txt", words=["staff.txt", "nobody@nowhere.example"]
    )
