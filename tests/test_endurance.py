"""Long and interrupted runs: backups, trees, resumes, outages, sleep and odd responses."""

from __future__ import annotations

import contextlib
import html
import itertools
import json
import logging
import math
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import pytest

import bulk_delete
from bulk_delete import RESOURCES, Action, Response, Ruling, batch_result
from tests.fake_store import FakeStore, Fault, Request
from tests.rigged import (
    QUIET,
    MakeStore,
    RiggedTool,
    Tool,
    assert_all_gone_once,
    counts,
    journal,
    lines,
    linux,
    listings,
    people,
    posix,
    read_backs,
    wait_until,
    write,
)
from tests.test_wire import Proxy

CUSTOMERS = RESOURCES["customers"]
REQUIRED = (item.name for item in fields(bulk_delete.Config) if item.default is MISSING)
CONFIG = bulk_delete.Config(**dict.fromkeys(REQUIRED, "x"))
OWNER = "The store owner account changed"
DENIED: dict[str, Any] = {"status": 403, "times": math.inf, "body": {"title": OWNER}}
COUNTS = {"deleted": "Deleted", "failed": "Failed", "already_gone": "Already gone"}
COUNTS |= {"unknown": "Unverified", "not_attempted": "Remaining"}
NO_FAULT = Fault("PUT")
REJECTED = [("brands", count, [5, 4]) for count in (2, 4, 10)] + [("products", 7, [5, 4])]
REJECTED += [("subscribers", 12, [5, 5, 4]), ("brands", 15, [5, 5, 4])]
parametrize = pytest.mark.parametrize


def response(status: int, body: Any, **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, named, json.dumps(body).encode(), "no answer")


def classify(status: int, body: Any, *batch: int) -> Ruling:
    request = bulk_delete.Request("DELETE", CUSTOMERS, CUSTOMERS.path, {}, batch)
    return bulk_delete.classify(request, response(status, body))


def assert_files_agree(outcome: Any) -> str:
    """The counts in all files are those of summary.json; returns the words of the report."""
    page = (outcome.folder / "report.html").read_text(encoding="utf-8")
    text = re.sub(r"[\u2500-\u257f]", " ", html.unescape(re.sub("<[^>]*>", "", page)))
    report = " ".join(text.split())
    for name, label in COUNTS.items():
        shown = re.search(rf"\b{label}:? ([\d,]+)", report)
        assert int(shown[1].replace(",", "") if shown else 0) == outcome.summary[name], report
    assert len(outcome.failed) == outcome.summary["failed"]
    assert all(re.search(rf"\b{number}\b", report) for number in outcome.failed)
    return report


@parametrize("options", [[], ["--dry-run"]], ids=["interrupted", "dry run"])
def test_incomplete_backup(store: FakeStore, hurried: RiggedTool, options: list[str]) -> None:
    """Such a run is not resumed with --yes; with CRLF a backup is as complete as with LF."""
    store.faults = [Fault("DELETE", skip=1, **DENIED)]
    first = hurried.run(store, *options)
    store.faults, sent = [], len(store.deletes())
    backup = (first.folder or Path()) / "backup.jsonl"
    records = backup.read_bytes().splitlines(keepends=True)
    *others, last = records
    damaged = [None, [], records[1:], records[:15], [*others, others[0]], [*others, b"\n"]]
    damaged += [[*others, last[:-20]], [*others, b'{"id": 9}\n'], [r[:40] for r in records]]
    for kept in damaged:
        backup.unlink() if kept is None else backup.write_bytes(b"".join(kept))
        outcome = hurried.resume(store, first.folder)
        assert outcome.status == 3, kept
        assert "Backup incomplete" in outcome.err
    assert len(store.deletes()) == sent
    backup.write_bytes(b"".join(records).replace(b"\n", b"\r\n"))
    assert hurried.resume(store, first.folder).status == 0
    assert not store.customers


def test_children_are_deleted_before_parents(
    make_store: MakeStore, hurried: RiggedTool
) -> None:
    """A parent is sent once all its children are answered, and never if one has failed."""
    slow: dict[str, Any] = {"latency": lambda request: 0.01 * (request.method == "DELETE")}
    # The place of each category => that of its parent, or -1: chains, one parent of all, pairs.
    trees = [[-1, *range(5)], [-1, *range(19)], [1, 2, 3, 4, 5, -1], [-1] * 3 + [*range(9)]]
    trees += [[-1] + [0] * 11, [(place + 1) // 2 - 1 for place in range(15)]]
    total = sum(map(len, trees))
    store = make_store(customers=0, categories=total, products=0, **slow, **QUIET)
    listed, parents = iter(list(store.records["categories"])), dict[int, int]()
    for tree in trees:
        ids = [*itertools.islice(listed, len(tree)), 0]
        parents |= {ids[place]: ids[parent] for place, parent in enumerate(tree)}
    for number, parent in parents.items():
        store.change(number, kind="categories", parent_id=parent)
    statuses = {14: 422, 12: 409, 10: 500, 9: 423, 7: 400}  # in the last tree, by place
    store.refuse = {ids[n]: (status, {"title": OWNER}) for n, status in statuses.items()}
    above = {n for child in store.refuse for n in bulk_delete.ancestors(child, parents)}
    outcome = hurried.run(store, "--resource", "categories", max_retries=0)
    assert set(store.records["categories"]) == store.refuse.keys() | above
    left = 5 + len(above)
    assert (outcome.status, counts(outcome)) == (4, {"deleted": total - left, "failed": left})
    assert all(OWNER in outcome.failed[number] for number in store.refuse)
    sent = {request.ids[0]: request for request in store.deletes()}
    assert sent.keys() == parents.keys() - above
    for number, parent in parents.items():
        assert parent not in sent or sent[number].answered < sent[parent].arrived
    assert_files_agree(outcome)


@parametrize("options", ["--ids list.txt --no-backup", "--limit 20", "--no-backup"])
def test_resume_of_a_finished_run(store: FakeStore, hurried: RiggedTool, options: str) -> None:
    """It changes no file; a run without a backup needs none to be resumed."""
    write(hurried, lines([*list(store.customers)[:20], 999_999]))
    folder = hurried.run(store, *options.split(), "--dry-run").folder or Path()
    assert (folder / "backup.jsonl").exists() is ("--no-backup" not in options)
    assert hurried.resume(store, folder).status == 0
    assert len(store.customers) == (0 if options == "--no-backup" else 10)
    paths = [path for path in folder.iterdir() if path.name not in ("run.log", "journal.jsonl")]
    before = {path: path.read_bytes() for path in paths}
    for again in ([], ["--json"], ["--dry-run"], ["--max-delete", "0"]):
        assert hurried.resume(store, folder, *again).status == 0
        assert {path: path.read_bytes() for path in paths} == before


def test_files_agree_in_all_sessions(make_store: MakeStore, hurried: RiggedTool) -> None:
    """They show the plan that was approved, and reasons of 300 characters at most."""
    many = {f"{n}.field": f"message {n}, and none of them is short" for n in range(200)}
    errors: list[tuple[int, Any]] = [(422, {"title": "no", "errors": many})]
    errors += [(422, {"title": "long " * 20_000}), (500, {"errors": many})]
    errors += [(409, {"title": "no", "errors": [*many.values()]}), (422, {"errors": [many]})]
    errors += [(400, [{"status": 400, "message": text} for text in many.values()])]
    errors += [(207, {"errors": [{"id": 7, "status": 409, "x": many}]})]
    for status, body in errors:
        ruling = classify(status, body, 7)
        messages = [ruling.message, *(item.message for item in ruling.items.values())]
        assert max(map(len, messages)) <= 300
    store = make_store(customers=397, **QUIET)
    store.refuse = dict(zip(list(store.customers)[-2:], errors, strict=False))
    interrupt = Fault("DELETE", skip=3, hook=lambda _: hurried.signal(signal.SIGINT))
    unanswered = Fault("DELETE", skip=2, times=math.inf, commit=True, close="reset")
    denied_read = Fault(where=lambda r: read_backs(r) and len(store.customers) < 3, **DENIED)
    faults = [Fault("DELETE", skip=1, **DENIED), unanswered, interrupt, denied_read, NO_FAULT]
    resume: list[Any] = []
    for fault, status in zip(faults, (5, 5, 130, 5, 4), strict=True):
        store.faults = [fault]
        outcome = hurried.run(store, *resume, max_retries=0)
        assert outcome.status == status, outcome.text
        resume = ["--resume", outcome.folder]
        assert sum(counts(outcome).values()) == 397
        report = assert_files_agree(outcome)
        planned = re.findall(r"\b(?:Delete|Plan):? ([\d,]+) customers", report)
        assert set(planned) == {"397"}
        assert (OWNER in outcome.summary["reason"]) is (fault.status == 403)
    assert counts(outcome) == {"deleted": 395, "failed": 2}
    answers = [entry.get("answer", "") for entry in journal(outcome.folder or Path())]
    assert max(map(len, [*answers, *outcome.failed.values()])) <= 300
    assert max(map(len, outcome.err.splitlines())) <= 800


@posix
def test_resume_without_progress_keeps_failures(
    store: FakeStore, hurried: RiggedTool, terminal: Any
) -> None:
    """It forgets no failure: not if it is canceled, and not if it is stopped."""
    ids = list(store.customers)
    store.refuse[ids[4]] = (422, {"title": OWNER})
    store.sticky[ids[25]] = math.inf  # accepted, and never deleted
    first = hurried.run(store)
    failed, sent = first.failed, len(store.deletes())
    stopped = Fault(where=read_backs, skip=1, hook=lambda _: hurried.signal(signal.SIGTERM))
    unanswered = Fault(where=read_backs, times=math.inf, status=500)
    endings = [(options, 3, NO_FAULT) for options in ("", "--json", "--yes --max-delete 1")]
    endings += [("--dry-run", 0, NO_FAULT), ("--yes", 143, stopped), ("--yes", 5, unanswered)]
    for options, status, fault in [*endings, ("--yes", 5, Fault(where=read_backs, **DENIED))]:
        store.faults, resume = [fault], ["--resume", str(first.folder), *options.split()]
        if options:
            again = hurried(store, store.config(hurried.folder, max_retries=0), *resume)
        else:
            session = terminal(store, *resume)
            session.child.expect("type 2: ")
            session.child.sendline("no")
            again = session.finish()
        assert again.status == status, again.text
        assert (counts(first), first.failed) == ({"deleted": 28, "failed": 2}, failed)
        assert_files_agree(first)
    assert len(store.deletes()) == sent


@parametrize("case", REJECTED, ids=str)
def test_rejected_records_are_sent_last(
    make_store: MakeStore, hurried: RiggedTool, case: Any
) -> None:
    """A resume sends them after all others; a session that verified nothing claims nothing."""
    resource, count, sessions = case  # the exit status of each session
    store = make_store(**{"customers": 0, resource: 30} | QUIET)
    dry = hurried.run(store, "--resource", resource, "--dry-run")
    ids, rejected = dry.plan["ids"], list[int]()
    store.refuse = {number: (422, {"title": f"{number} is in use"}) for number in ids[:count]}
    for place, status in enumerate(sessions):  # the first stops at its first failure
        sent, pace = len(store.deletes()), {"batch_size": 1, "max_concurrent": 1}
        outcome = hurried.resume(store, dry.folder, max_error_rate=100 * bool(place), **pace)
        assert outcome.status == status, outcome.text
        order = [request.ids[0] for request in store.deletes()[sent:]]
        fresh = [number for number in ids if number not in rejected]
        assert order == [*fresh, *rejected][: len(order)]
        report = assert_files_agree(outcome)
        if status == 5:
            rejected += order
            claim = r"(?i)(every|all) .{0,20}\b(was|were|are) (read|gone)|verified:? yes"
            assert not re.search(claim, " ".join(outcome.text.split()) + report)
    assert counts(outcome) == {"deleted": 30 - count, "failed": count}
    assert all(f"{number} is in use" in outcome.failed[number] for number in ids[:count])


class Scripted:
    """A Client whose store gives these responses, the last for ever; only sleep takes time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *responses: Response) -> None:
        self.now, self.responses, self.sent_at = 0.0, responses, list[float]()
        self.on_sleep: Callable[[], object] = lambda: None  # called before each sleep
        self.monotonic = self.perf_counter = lambda: self.now
        monkeypatch.setattr(bulk_delete, "time", self)
        self.client = bulk_delete.Client(CONFIG, bulk_delete.Stop(), logging.Logger("test"))
        self.client.bucket = bulk_delete.TokenBucket(clock=self.monotonic, sleep=self.sleep)
        monkeypatch.setattr(self.client, "connection", lambda: self)

    def sleep(self, seconds: float) -> None:
        self.on_sleep()
        self.now += seconds

    def send_once(self, *_request: object) -> Response:
        self.sent_at.append(self.now)
        return self.responses[min(len(self.sent_at), len(self.responses)) - 1]

    def send(self) -> str:
        """Send a request; returns the status of the response, or why the run ends."""
        with contextlib.suppress(bulk_delete.RunError):
            request = bulk_delete.Request("DELETE", CUSTOMERS, CUSTOMERS.path, batch=(7,))
            return str(self.client.send(request).status)
        return str(self.client.stop.failure)


def test_length_of_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default retries take 90 s at least; each 429 in a row makes the next wait longer."""
    for status in (0, 408, 500, 502, 503, 504):
        down = Scripted(monkeypatch, response(status, {}))
        assert (down.send(), len(down.sent_at)) == (str(status), 6)
        assert down.sent_at[-1] >= 90
    limits = [{"Retry_After": text} for text in ("0.01", "0", "1", "-1", "x")]
    limits += [{"X_Retry_After": "0.01"}, {"X_Rate_Limit_Time_Reset_Ms": "1"}, {}]
    for headers in limits:
        limited = Scripted(monkeypatch, response(429, {}, **headers))
        assert "Rate-limited (429) 10 times in a row" in limited.send()
        assert len(limited.sent_at) == 10
        waits = [later - earlier for earlier, later in itertools.pairwise(limited.sent_at)]
        assert all(seconds >= min(60, 2**place) for place, seconds in enumerate(waits) if place)


def test_wait_is_shown_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """N32: a retry, a 429, and a used-up quota."""
    done, limited = response(200, []), response(429, {}, Retry_After="12")
    tool = Scripted(monkeypatch, done, response(503, {}), limited, done)
    waits = list[str]()
    tool.on_sleep = lambda: waits.append(tool.client.waiting_for())
    tool.client.bucket.set_remaining(0)
    for _ in range(152):
        tool.send()
    shown = dict.fromkeys(re.sub(r" in [0-9]+s$", "", words) for words in waits)
    expected = ["error 503, retry 1 of 5", "rate-limited, retrying", "quota used up, resuming"]
    assert [*shown] == [*expected, ""]  # under a second it is not worth a word
    assert "rate-limited, retrying in 12s" in waits


@parametrize("status", [401, 403])
def test_stray_401_or_403(store: FakeStore, hurried: RiggedTool, status: int) -> None:
    """A listing, the read check, two DELETEs and a read are tried again, without cookies."""
    planned, denied = set(store.customers), DENIED | {"status": status, "times": 1}
    store.faults = [Fault("DELETE", skip=skip, **denied) for skip in (0, 2)]
    store.faults += [Fault(where=read_backs, skip=skip, **denied) for skip in (0, 2)]
    store.faults += [Fault(where=listings, **denied), Fault(times=math.inf)]
    attributes = ["; Path=/", "; Path=/; Secure; HttpOnly", "; Max-Age=3600; SameSite=None", ""]
    attributes += ["; Expires=Wed, 06 Jul 2050 10:00:00 GMT", "; Path=/stores; Version=1"]
    for fault, text in zip(store.faults, attributes, strict=True):
        fault.headers = {"Set-Cookie": f"session=1{text}"}
    assert_all_gone_once(hurried.run(store), store, planned)
    assert all(fault.seen > fault.skip for fault in store.faults)
    assert not [request for request in store.log if "cookie" in request.headers]


def test_rulings_by_id() -> None:
    """Errors by id are of those ids, but in a 422 without meta; an error outdoes a success."""
    errors = {"errors": {"7": "is locked"}, "data": [{"id": 7, "status": 200}, {"id": 8}]}
    limited = {"errors": [{"id": 7, "code": "TOO_MANY_REQUEST"}]}
    for status, body, action in (
        (207, errors, Action.REJECTED),
        (422, errors | {"meta": {}}, Action.REJECTED),
        (207, limited, Action.PAUSE),
    ):
        assert classify(status, body, 7, 8).items[7].action is action
    assert not classify(422, errors, 7, 8).items


@parametrize("status", [0, 408, 500, 501, 502, 503, 504, 505, 599])
def test_last_response_may_have_deleted(status: int) -> None:
    """Then a record that is gone counts as deleted, whatever is to be done next."""
    cases = itertools.product([(7,), (7, 8)], Action, [False, True])
    for batch, action, is_complete in cases:
        ruling = replace(classify(status, {}, *batch), action=action)
        ledger = bulk_delete.Ledger({*batch})
        result = batch_result(batch, [ruling], is_complete=is_complete)
        ledger.apply({"ids": batch, "applied": result.applied, "failed": result.rejected})
        ledger.apply({"gone": batch})
        assert ledger.counts()["deleted"] == len(batch)
    part = {"errors": [{"id": 7, "status": status or 500, "message": "Timed out"}]}
    ruling = classify(207, part, 7, 8)
    assert batch_result((7, 8), [ruling]).applied == [7, 8]


@posix
def test_process_that_was_asleep(store: FakeStore, hurried: RiggedTool) -> None:
    """N33: for over ten times the timeout, with a DELETE in flight, which is sent again."""
    timeout = 0.15

    def sleep(_request: Request) -> None:
        hurried.signal(signal.SIGSTOP)
        time.sleep(12 * timeout)
        hurried.signal(signal.SIGCONT)
        time.sleep(2 * timeout)

    store.faults = [Fault("DELETE", skip=1, hook=sleep)]
    outcome = hurried.run(store, timeout=timeout, max_retries=10)
    assert (outcome.status, counts(outcome)) == (0, {"deleted": 30}), outcome.text
    assert outcome.summary["retries"] > 0


@posix
def test_waits_are_shown(make_store: MakeStore, installed: Tool, terminal: Any) -> None:
    """N32: of a missing host, a closed port, and a slow store with and without a terminal."""
    missing, closed, slow = (make_store(customers=3) for _ in range(3))
    words, soon = "(?i)no answer", 11.0  # 3 s, and the start of four processes at once
    missing.host, closed.host = "no-such-host.invalid", "localhost:1"
    slow.faults = [Fault(where=listings, times=math.inf, delay=60)]
    began, config = time.monotonic(), slow.config(installed.folder)
    plain: Any = [installed.start(store, config, "--yes") for store in (missing, slow)]
    for session in [terminal(store, "--yes") for store in (closed, slow)]:
        session.child.expect(words, timeout=soon)
    for process in plain:
        is_shown = any(re.search(words, line) for line in process.stderr)  # as they come
        process.kill()
        process.communicate()
        assert is_shown
    assert time.monotonic() - began < soon


def test_password_of_a_proxy(make_store: MakeStore, hurried: RiggedTool) -> None:
    """N18: it is cut out of the words of others, and not out of ids and emails."""
    store = people(make_store, *range(123_401, 123_431))
    proxy = Proxy(store, 200)
    emails = {number: record["email"] for number, record in store.customers.items()}
    words = f"via http://user:1234@proxy, x1234y, {store.token}"
    store.refuse[123_405] = (422, {"title": words})
    ids = write(hurried, lines([*store.customers, 123_499]))
    outcome = hurried(store, None, "--yes", "--ids", str(ids), **proxy.environ("1234"))
    proxy.close()
    assert outcome.status == 4, outcome.text
    reason = "422 via http://user:[secret]@proxy, x[secret]y, [secret]"
    assert outcome.failed == {123_405: reason}
    files = {path.name: path.read_text() for path in (outcome.folder or Path()).iterdir()}
    assert all(f"{n},{email}," in files["selected.csv"] for n, email in emails.items())
    assert f"123405,{emails[123_405]}," in files["failed.csv"]
    assert f"123401  {emails[123_401][:25]}" in outcome.err  # the sample
    written = files["selected.csv"] + files["unmatched.csv"] + outcome.text
    assert "[secret]" not in written


@posix
@parametrize("moment", ["start", "listing", "deleting", "end"])
def test_silent_webhook(make_store: MakeStore, tool: RiggedTool, moment: str) -> None:
    """N34: the run goes on without its answer, and ends at once after a signal."""
    store = make_store(customers=300, latency=0.02, **QUIET)
    conditions: dict[str, Any] = {"start": lambda: store.log, "deleting": store.deletes}
    conditions["listing"] = lambda: [*filter(listings, store.log)]
    conditions["end"] = lambda: [*tool.runs.glob("*/report.html")]
    signum = signal.SIGTERM if moment == "deleting" else signal.SIGINT
    with socket.create_server(("127.0.0.1", 0)) as hook:
        url, began = f"http://127.0.0.1:{hook.getsockname()[1]}/hook", time.monotonic()
        process = tool.start(store, store.config(tool.folder, webhook_url=url), "--yes")
        wait_until(conditions[moment])
        process.send_signal(signum)
        assert tool.finish(process).status == (0 if moment == "end" else 128 + signum)
        assert time.monotonic() - began < 4.5  # to wait for the webhook takes 5 at the least


def test_email_comparison_is_fast(store: FakeStore, hurried: RiggedTool) -> None:
    letters, marks = "".join(map(chr, range(0x4E00, 0x7CE0))), "\u0301\u0316" * 100_000
    odd = [f"x@{letters}.example", f"x@{letters * 16}.example", f"x@one.{letters}"]
    odd += [f"x@{'a'.join(letters)}.example", f"x{marks}@one.example", f"x@one{marks}.example"]
    ids, odd = list(store.customers), [*odd, f"x@{'a.' * 100_000}"]
    for number, email in zip(ids, odd, strict=False):
        store.change(number, email=email)
        with pytest.raises(ValueError, match="line 2"):
            bulk_delete.read_list(f"email\n{email}\n", CUSTOMERS)
    last = store.customers[ids[-1]]["email"]
    began = time.monotonic()
    outcome = hurried.run(store, "--keep", write(hurried, lines([last])))
    assert time.monotonic() - began < 12  # about 1; a single one of these took 16
    assert (outcome.status, counts(outcome)) == (0, {"deleted": 29}), outcome.text


@linux
@parametrize("options", [["--yes", "--json"], ["--yes"]], ids=" ".join)
def test_stdout_on_a_full_disk(store: FakeStore, installed: Tool, options: list[str]) -> None:
    """The exit status is that of summary.json."""
    command = installed.command(store.config(installed.folder), *options)
    with open("/dev/full", "w") as full:
        where: Any = {"cwd": installed.folder, "env": installed.environ(store)}
        status = subprocess.run(command, stdout=full, **where).returncode
    (folder,) = installed.folders()
    assert json.loads((folder / "summary.json").read_text())["exit_status"] == status
