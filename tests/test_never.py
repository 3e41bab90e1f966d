"""The rules under "Never" in the design, by number; the tests that hold one name it in their docstrings.

Those without a test here are held in the file that is named. There is never ...
N1 an unfiltered DELETE; also test_resources.py, test_command_line.py
N2 a DELETE outside the plan; also test_plan.py, test_resources.py, test_chaos.py
N3 a DELETE to /v2/customers
N4 an id that is not a positive integer; also test_gather.py, test_resources.py
N5 a filter of ids on a collection, unless it is documented that nothing goes without one; test_resources.py
N6 a DELETE in a dry run; test_command_line.py, test_plan.py
N7 a DELETE before the plan is on disk; also test_run_folder.py
N8 a DELETE after a stop was asked for, and the at most five in flight are awaited; test_stops.py
N9 a read in flight that is awaited after a stop; test_stops.py, test_middlebox.py
N10 "deleted" for anything that is not proven gone; test_delete.py
N11 exit status 0 with anything unproven; test_delete.py
N12 a record counted twice or not at all; also test_plan.py, test_chaos.py
N13 a proof that a later resume forgets; test_proof.py
N14 a redirect followed; also test_report.py
N15 a certificate that is not verified; also test_report.py
N16 a password from .netrc sent; also test_report.py
N17 the token in argv, output, log, journal, file, repr, error message or POST; also test_report.py
N18 a part of the token, a proxy's password or the webhook's URL there; test_middlebox.py
N19 a sleep while holding a lock
N20 a wall clock for pacing
N21 a question answered that was not seen (test_terminal.py)
N22 a printed command that goes round a guard; test_selecting.py
N23 a protective entry that is dropped without a word; test_lists.py, test_selecting.py
N24 a traceback, a freeze or unbounded memory because of what a store or a proxy answers; test_middlebox.py
N25 an answer read beyond 64 MiB, or for longer than 5 times `timeout`; test_middlebox.py (the time: no test)
N26 something that the HTTP stack raises and that is taken for an answer; test_middlebox.py
N27 a pattern over foreign text that runs in more than linear time; test_middlebox.py
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from bulk_delete import Config, TokenBucket
from tests.fake_store import STORE_HASH, TOKEN, FakeStore, Fault, Request
from tests.launcher import FSYNCS, LOCKS, UNDER_A_LOCK, Rig
from tests.rigged import (
    QUIET,
    MakeStore,
    RiggedTool,
    Tool,
    Wire,
    assert_all_gone_once,
    assert_says,
    counts,
    journal_sent,
    linux,
    names,
    read_backs,
    refused_resume,
)

DAY = 86_400.0
CUSTOMERS = f"/stores/{STORE_HASH}/v3/customers"


def trouble(store: FakeStore) -> None:
    """Refused, exhausted, rate-limited and unproven ids: every way by which an id goes again."""
    ids = list(store.customers)
    store.refuse = {ids[4]: (404, {"title": "no"}), ids[5]: (422, {"title": "no"})}
    store.sticky = {ids[12]: 1, ids[13]: math.inf}
    store.per_item = {ids[25]: (429, "ERR_TOO_MANY_REQUEST")}
    store.faults = [
        Fault("DELETE", where=names(ids[25]), quota_headers=False, after=lambda _: store.per_item.clear()),
        Fault("DELETE", where=names(ids[17]), times=math.inf, status=500),
        Fault("DELETE", where=names(ids[29]), commit=True, close="reset"),
    ]


# --- which DELETEs --------------------------------------------------------------------------------


def test_never_an_unfiltered_delete(store: FakeStore, hurried: RiggedTool) -> None:
    """N1, N5: every DELETE, whatever goes wrong and is halved or resumed, names 1 to 10 ids and no more."""
    trouble(store)
    first = hurried.run(store, max_retries=0)
    assert first.status == 4, first.text
    again = hurried.resume(store, first.folder, max_retries=0)
    assert again.status == 4, again.text
    assert len(store.deletes()) > 20
    for request in store.deletes():
        assert request.query.keys() == {"id:in"}
        assert 1 <= len(request.ids) <= 10
        assert request.query["id:in"] == ",".join(map(str, request.ids))


def test_never_outside_the_plan(store: FakeStore, hurried: RiggedTool) -> None:
    """N2: neither sign-ups, nor ids that answers bring up, are deleted, also after a resume."""
    planned = set(store.customers)
    trouble(store)
    later: list[int] = []

    def intrude(_request: Request, answer: Any) -> Any:
        later.extend(store.add(1))
        number = later[-1]
        answer["data"].append({"id": number})
        answer["meta"]["pagination"]["total"] += 1
        return answer

    def bring_up(request: Request) -> None:
        later.extend(store.add(1))

    errors = [{"id": n, "status": 429, "message": "again"} for n in range(1, 500) if n not in planned]
    errors.append({"id": 10**6, "status": 409, "message": "no"})
    store.faults = [
        Fault("DELETE", skip=1, status=207, body={"errors": errors}, hook=bring_up, quota_headers=False),
        Fault("GET", where=read_backs, times=2, rewrite=intrude),
        *store.faults,
    ]
    first = hurried.run(store, max_retries=0)
    assert first.status == 4, first.text
    store.faults = []
    hurried.resume(store, first.folder)
    assert len(later) >= 3
    assert store.deleted_ids().keys() <= planned
    assert set(later) <= store.customers.keys()


def test_never_v2_customers(store: FakeStore, hurried: RiggedTool) -> None:
    """N3: all DELETEs go to /v3/customers, and a GET goes to it or to /v2/store."""
    trouble(store)
    first = hurried.run(store, max_retries=0)
    hurried.resume(store, first.folder)
    assert {request.path for request in store.deletes()} == {CUSTOMERS}
    assert {r.path for r in store.log} == {CUSTOMERS, f"/stores/{STORE_HASH}/v2/store"}
    assert not store.violations


def frozen(plan: dict[str, Any]) -> str:
    """The plan as JSON, with the SHA-256 that its head and its ids have now."""
    head = {name: value for name, value in plan.items() if name not in ("sha256", "ids")}
    text = json.dumps(head, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256("\n".join([text, *map(str, plan["ids"])]).encode())
    return json.dumps(plan | {"sha256": digest.hexdigest()})


@pytest.mark.parametrize("number", [None, 0, -7])
def test_never_a_plan_with_an_id_that_is_no_positive_integer(
    store: FakeStore, tool: RiggedTool, number: int | None
) -> None:
    """N4: a plan that holds one is not carried out, not even when its SHA-256 fits."""
    dry = tool.run(store, "--dry-run")
    assert dry.folder is not None
    plan = dry.plan
    if number is not None:
        plan["ids"][3] = number
    (dry.folder / "plan.json").write_text(frozen(plan))
    status, output = refused_resume(tool, store, dry.folder)
    assert status == (0 if number is None else 3), output
    assert ("positive" in output) is (number is not None)
    assert bool(store.deletes()) is (number is None)


# --- when -----------------------------------------------------------------------------------------


def test_never_a_delete_before_the_plan_and_the_journal_are_on_disk(
    store: FakeStore, hurried: RiggedTool
) -> None:
    """N7: when a DELETE arrives, plan, backup and its line of the journal can be read already."""
    planned = list(store.customers)
    trouble(store)
    seen: list[Request] = []

    def look(request: Request) -> None:
        (folder,) = hurried.folders()
        assert json.loads((folder / "plan.json").read_text())["ids"] == planned
        assert len((folder / "backup.jsonl").read_text().splitlines()) == len(planned)
        text = (folder / "journal.jsonl").read_text()
        sent = [json.loads(line).get("sent") for line in text.splitlines() if line.endswith("}")]
        assert list(request.ids) in sent
        seen.append(request)

    def watch(request: Request) -> float:
        if request.method == "DELETE":
            look(request)  # an error here is a violation
        return 0.0

    store.latency = watch
    outcome = hurried.run(store, max_retries=0)
    assert outcome.status == 4, outcome.text
    assert len(seen) == len(store.deletes()) > 10
    assert outcome.folder is not None
    assert {request.ids for request in seen} == set(journal_sent(outcome.folder))


def test_never_a_delete_before_a_small_backup_is_on_disk(make_store: MakeStore, hurried: RiggedTool) -> None:
    """N7: a backup that would fit into a buffer can be read too when the DELETE arrives."""
    store = make_store(customers=1, **QUIET)
    held: list[int] = []

    def look(_request: Request) -> None:
        (folder,) = hurried.folders()
        held.append(len((folder / "backup.jsonl").read_text().splitlines()))

    store.faults = [Fault("DELETE", hook=look)]
    assert hurried.run(store).status == 0
    assert held == [1]


@linux
def test_never_a_plan_or_a_note_that_a_power_cut_takes(store: FakeStore, tool: RiggedTool) -> None:
    """N7: when a DELETE arrives, all of plan, backup and its own line of the journal was synced."""
    tool.rig = Rig(speed=1.0, note_fsyncs=True)
    seen: list[Request] = []

    def look(request: Request) -> None:
        (folder,) = tool.folders()
        text = (tool.folder / FSYNCS).read_text()
        notes = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        synced = Counter[str]()  # the most that was saved of each: workers write side by side
        for path, size in notes:
            name = Path(path).name.removesuffix(".new")
            synced[name] = max(synced[name], size)
        for name in ("plan.json", "backup.jsonl"):
            assert synced[name] == (folder / name).stat().st_size
        order = [Path(path).name for path, _ in notes]
        assert folder.name in order[order.index("plan.json.new") :]  # the folder has the plan's name
        whole = (folder / "journal.jsonl").read_bytes()[: synced["journal.jsonl"]]
        assert list(request.ids) in [json.loads(line).get("sent") for line in whole.splitlines()]
        seen.append(request)

    store.faults = [Fault("DELETE", times=math.inf, hook=look)]  # an error there is a violation
    assert tool.run(store).status == 0
    assert len(seen) == len(store.deletes()) == 3


# --- what is claimed ------------------------------------------------------------------------------


def test_never_counted_twice_or_not_at_all(make_store: MakeStore, hurried: RiggedTool) -> None:
    """N12: every planned id is in exactly one count, however often and in whatever parts it was sent."""
    store = make_store(customers=60, **QUIET)
    ids = list(store.customers)
    trouble(store)
    first = hurried.run(store, max_retries=0)
    there = set(store.customers)
    assert {ids[4], ids[5], ids[13], ids[17]} == there == first.failed.keys()
    assert counts(first) == {"deleted": 56, "failed": 4}
    assert first.summary["selected"] == 60
    assert max(store.deleted_ids().values()) > 1
    again = hurried.resume(store, first.folder, max_retries=0)
    assert counts(again) == counts(first)


# --- to whom --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_never_a_redirect_followed(
    store: FakeStore, make_store: MakeStore, hurried: RiggedTool, status: int, method: str
) -> None:
    """N14: neither the request nor the token goes on to another host, nor to another path."""
    other = make_store(customers=30, **QUIET)
    location = f"https://{other.host}{CUSTOMERS}?id:in=11"
    store.faults = [Fault(method, "v3/customers", status=status, headers={"Location": location})]
    outcome = hurried.run(store, max_concurrent=1)
    assert outcome.status == 5, outcome.text
    assert other.connections == 0
    assert sum(request.status == status for request in store.log) == 1
    assert store.log[-1].status == status


@pytest.mark.parametrize("environ", [{"REQUESTS_CA_BUNDLE": ""}, {"CURL_CA_BUNDLE": ""}])
def test_never_an_unverified_certificate(
    store: FakeStore, hurried: RiggedTool, environ: dict[str, str]
) -> None:
    """N15: a store whose certificate nobody vouches for gets no request, hence no token: exit 5."""
    config = store.config(hurried.folder)
    environ = {"REQUESTS_CA_BUNDLE": "", "PYTHONHTTPSVERIFY": "0"} | environ
    outcome = hurried(store, config, "--yes", **environ)
    assert outcome.status == 5, outcome.text
    assert_says(outcome, "certificate", store.host)
    assert not store.log


@linux
def test_never_a_certificate_of_another_host(store: FakeStore, hurried: RiggedTool) -> None:
    """N15: a certificate that is valid, but for another name, does not do either."""
    with Wire(store, at="127.0.0.2") as wire:  # of which the store's certificate says nothing
        environ = wire.environ() | {"NO_PROXY": "127.0.0.2"}
        outcome = hurried(store, store.config(hurried.folder), "--yes", **environ)
        assert wire.connections
    assert outcome.status == 5, outcome.text
    assert_says(outcome, "certificate")
    assert not store.log


def test_never_a_password_of_netrc(store: FakeStore, hurried: RiggedTool, tmp_path: Path) -> None:
    """N16: a .netrc that has one for the host changes nothing: no request has it."""
    for path in (tmp_path / ".netrc", tmp_path / "_netrc"):
        path.write_text("machine localhost login jane password hunter2\ndefault login a password b\n")
        path.chmod(0o600)
    environ = {"HOME": str(tmp_path), "NETRC": str(tmp_path / ".netrc")}
    outcome = hurried(store, store.config(hurried.folder), "--yes", **environ)
    assert outcome.status == 0, outcome.text
    assert not store.customers
    assert not [request for request in store.log if "authorization" in request.headers]
    assert all(request.headers["x-auth-token"] == TOKEN for request in store.log)


# --- the token ------------------------------------------------------------------------------------


@linux
def test_never_the_token_in_argv_or_another_file(store: FakeStore, installed: Tool) -> None:
    """N17: its command line has no token, it has no child, and no file has it but the config."""
    seen: list[bytes] = []
    started = threading.Event()

    def look(_request: Request) -> None:
        assert started.wait(30)
        seen.append(Path(f"/proc/{process.pid}/cmdline").read_bytes())
        children.extend(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())

    children: list[str] = []
    store.faults = [Fault("DELETE", times=3, hook=look)]
    process = installed.start(store, store.config(installed.folder), "--yes", "-v")
    started.set()
    assert installed.finish(process).status == 0
    assert len(seen) == 3
    assert all(b"bulk_delete.py" in command and TOKEN.encode() not in command for command in seen)
    assert not children
    assert not os.path.exists(f"/proc/{process.pid}")
    holding = [p for p in installed.folder.rglob("*") if p.is_file() and TOKEN in p.read_text()]
    assert holding == [installed.folder / "store.ini"]


HALVES = (TOKEN[: len(TOKEN) // 2], TOKEN[len(TOKEN) // 2 :])
ECHOES: dict[str, Callable[[str], Fault]] = {
    "a refusal": lambda m: Fault(m, times=math.inf, status=422, body={"title": f"bad {TOKEN}"}),
    "a refusal's errors": lambda m: Fault(
        m, times=math.inf, status=409, body={"errors": {TOKEN: f"bad {TOKEN}"}}
    ),
    "a fatal answer": lambda m: Fault(m, status=401, body={"title": f"{TOKEN} is wrong"}),
    "another case": lambda m: Fault(m, status=409, times=9, body={"title": f"bad {TOKEN.upper()}"}),
    "its first half": lambda m: Fault(m, status=409, times=9, body={"title": f"bad {HALVES[0]}… at x"}),
    "its second half": lambda m: Fault(m, status=418, body={"title": f"bad …{HALVES[1]} at x"}),
    "another one": lambda m: Fault(m, status=418, body={"title": f"{TOKEN} is wrong"}),
    "HTML": lambda m: Fault(m, status=200, body=f"<p>{TOKEN}", content_type="text/html"),
    "an error": lambda m: Fault(m, times=math.inf, status=500, body={"title": f"bad {TOKEN}"}),
    "a redirect": lambda m: Fault(m, status=302, headers={"Location": f"https://{TOKEN}/?{TOKEN}"}),
    "headers": lambda m: Fault(
        m, status=429, quota_headers=False, headers={"Retry-After": TOKEN, "Date": TOKEN}
    ),
    "items": lambda m: Fault(
        m, status=207, body={"errors": [{"id": 11, "status": 409, "message": f"bad {TOKEN}"}]}
    ),
    "rows": lambda m: Fault(m, status=200, body={"failed_rows_data": [f"[11] {TOKEN}"]}),
    "records": lambda m: Fault(m, status=200, body={"data": [{"id": TOKEN}], "meta": {TOKEN: 1}}),
}


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_never_the_token_in_what_is_written(
    store: FakeStore, hurried: RiggedTool, echo: Callable[[str], Fault], method: str
) -> None:
    """N17: a store that repeats the token in its answer does not get it into output, log or files."""
    store.faults = [echo(method)]
    outcome = hurried.run(store, "-v", max_retries=1, max_concurrent=1)
    assert outcome.status in (0, 3, 4, 5), outcome.text
    written = {
        path.name: path.read_text("utf-8", "replace") for path in hurried.runs.rglob("*.*") if path.is_file()
    }
    for name, text in {"the screen": outcome.text, **written}.items():
        for secret in (TOKEN, *HALVES):
            assert secret.lower() not in text.lower(), name


def test_never_the_token_of_the_environment_in_what_is_written(store: FakeStore, hurried: RiggedTool) -> None:
    """N17: the token of BIGCOMMERCE_ACCESS_TOKEN is as secret as the ini's."""
    store.token = "another-made-up-token"
    store.faults = [Fault("DELETE", status=422, body={"title": f"bad {store.token}"})]
    config = store.config(hurried.folder, access_token="")
    environ = {"BIGCOMMERCE_ACCESS_TOKEN": store.token}
    outcome = hurried(store, config, "--yes", "-v", **environ)
    assert outcome.status == 0, outcome.text
    assert store.token not in outcome.text
    assert outcome.folder is not None
    assert not [p for p in outcome.folder.iterdir() if store.token in p.read_text()]


def test_never_the_token_in_a_repr() -> None:
    """N17: the configuration's repr leaves the token out."""
    shown = {item.name: item.repr for item in fields(Config)}
    assert shown["access_token"] is False


def test_never_the_token_in_a_config_error(store: FakeStore, hurried: RiggedTool) -> None:
    """N17: a token with a space or a line break in it is an error that does not quote it."""
    for token in (f"{TOKEN} x", f"{TOKEN}é", f"{TOKEN}\x7f"):
        outcome = hurried(store, store.config(hurried.folder, access_token=token), "--yes")
        assert outcome.status == 2, outcome.text
        assert TOKEN not in outcome.text
    assert not store.log


# --- clocks and locks -----------------------------------------------------------------------------


def test_never_a_sleep_with_the_bucket_locked() -> None:
    """N19: while one worker sleeps for a token, others can use the bucket."""
    now = [0.0]
    got_through: list[bool] = []

    def sleep(seconds: float) -> None:
        assert seconds > 0
        now[0] += seconds
        for use in (bucket.waiting, lambda: bucket.pause(0.0)):
            other = threading.Thread(target=use, daemon=True)
            other.start()
            other.join(10)
            got_through.append(not other.is_alive())
        bucket.sync({"X-Rate-Limit-Requests-Left": "9"}, now[0], 0)

    bucket = TokenBucket(3, 1.0, clock=lambda: now[0], sleep=sleep)
    for _ in range(8):
        bucket.acquire()
        bucket.sync({}, now[0])
    assert got_through
    assert all(got_through)


def test_never_a_sleep_under_any_lock(make_store: MakeStore, tool: RiggedTool) -> None:
    """N19: no thread waits for anything while it holds a lock of the tool's, whatever it has to wait for."""
    tool.rig = Rig(speed=1.0, watch_locks=True)
    store = make_store(customers=300, quota=25, window=1.0)
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


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_a_wall_clock_that_jumps_a_day(make_store: MakeStore, hurried: RiggedTool, jump: float) -> None:
    """N20: nobody waits for it, and nobody hurries: the run is as it would have been."""
    hurried.rig = Rig(speed=1, jump=jump)
    store = make_store(customers=300, quota=25, window=1.0)
    planned = set(store.customers)
    outcome = hurried.run(store)
    assert_all_gone_once(outcome, store, planned)
    assert outcome.summary["rate_limited"] == sum(request.status == 429 for request in store.log) <= 5
    assert 0 <= outcome.summary["elapsed_seconds"] < DAY / 2
