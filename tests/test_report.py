"""The report: what is shown on stdout and stderr, and what webhook_url is told."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.fake_store import TOKEN, FakeStore, Fault
from tests.rigged import (
    COUNTS,
    QUIET,
    MakeStore,
    Outcome,
    RiggedTool,
    Tool,
    check,
    posix,
    read_backs,
    wait_until,
)

# All that the webhook is told: what came of the run, and of no person.
TOLD = {"event", "run_folder", "status", "exit_status", "selected", *COUNTS}

DRIPS = 15  # seconds for which a dripping answer lasts, unless it is given up


# --- stdout and stderr ----------------------------------------------------------------------------


def test_json(make_store: MakeStore, tool: RiggedTool) -> None:
    """--json: stdout is one JSON object, that of summary.json; all else goes to stderr."""
    outcome = tool(make_store(customers=30, **QUIET), None, "--yes", "--json")
    assert json.loads(outcome.out) == outcome.summary
    assert "Deleted" in outcome.err


def test_stdout_holds_only_the_table(make_store: MakeStore, tool: RiggedTool) -> None:
    """The final table goes to stdout; panel and progress go to stderr."""
    outcome = tool(make_store(customers=30, **QUIET), None, "--yes")
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
    store = make_store(customers=30, **QUIET)
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


@posix
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&-"])
@pytest.mark.parametrize("option", ["--no-json", "--json"])
def test_closed_streams(store: FakeStore, tmp_path: Path, closed: str, option: str) -> None:
    """Cron may close any stream: the run, its summary and its exit status are the same."""
    tool = Tool(tmp_path)
    command = tool.command(store.config(tmp_path), "--yes", option)
    shell = f"{shlex.join(command)} {closed}"
    done = subprocess.run(
        shell, shell=True, cwd=tmp_path, env=tool.environ(store), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert not store.customers


def test_verbose(make_store: MakeStore, tool: RiggedTool) -> None:
    """-v shows each request on stderr; without it none is shown."""
    for options, shown in ((["-v"], True), ([], False)):
        store = make_store(customers=30, **QUIET)
        outcome = tool(store, None, "--yes", *options)
        assert ("DELETE /stores/" in outcome.err) is shown
        if shown:
            seen = Counter(re.findall(r"\b(GET|DELETE) /stores/", outcome.err))
            assert seen == Counter(request.method for request in store.log)


@pytest.mark.parametrize("options", [("--yes",), ("--dry-run",), ()])
@pytest.mark.parametrize("customers", [0, 30])
def test_moved_api_is_shown(
    make_store: MakeStore, tool: RiggedTool, customers: int, options: tuple[str, ...]
) -> None:
    """With BC_API_ENDPOINT set, its host stands wherever the store is named."""
    store = make_store(customers=customers, **QUIET)
    outcome = tool(store, None, *options, COLUMNS="400")
    naming = [line for line in outcome.text.splitlines() if store.info["name"] in line]
    assert len(naming) == 2  # in the panel, or the sentence that nothing is selected; in the table
    assert all(store.host in line and store.store_hash in line for line in naming)


def test_reason_is_one_line_on_stderr(make_store: MakeStore, tool: RiggedTool) -> None:
    """Why a run ended early is a whole line of stderr too: stdout may be redirected, or wrapped."""
    store = make_store(customers=30, **QUIET)
    store.faults.append(Fault("DELETE", times=9, status=403, body={"title": "no"}))
    outcome = tool(store, None, "--yes")
    assert [line for line in outcome.err.splitlines() if outcome.summary["reason"] in line]


def test_what_could_not_be_read_back_is_said(store: FakeStore, hurried: RiggedTool) -> None:
    """Exit 4 without a failed record says what is unknown, and what to do, and names no empty file."""
    answer = {"status": 200, "body": {"data": []}}
    store.faults.append(Fault(method="GET", where=read_backs, skip=2, times=100, **answer))
    outcome = hurried.run(store)
    assert outcome.status == 4, outcome.text
    assert outcome.summary["unknown"] == 20
    assert "20 could not be read back" in outcome.err
    assert "failed.csv" not in outcome.err


# --- webhook_url ----------------------------------------------------------------------------------


@dataclass
class Post:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> str:
        return str(self.json["event"])

    @property
    def json(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.body)
        return value


@dataclass
class Hook:
    """A webhook's server: what it got, and how it answers."""

    url: str = ""
    status: int = 200
    way: str = "answer"  # or "hang once", "drip"
    headers: dict[str, str] = field(default_factory=dict)
    posts: list[Post] = field(default_factory=list)
    others: list[str] = field(default_factory=list)  # methods that are not POST
    dripped: list[bool] = field(default_factory=list)  # whether an answer was read to its end
    closing: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def hook() -> Iterator[Hook]:
    its = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            names = {name.lower(): value for name, value in self.headers.items()}
            its.posts.append(Post(self.path, names, self.rfile.read(length)))
            if its.way == "hang once" and len(its.posts) == 1:
                its.closing.wait(60)
                return
            self.send_response(its.status)
            for name, value in its.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(DRIPS if its.way == "drip" else 2))
            self.end_headers()
            if its.way == "drip":
                its.dripped.append(self.drip())
            else:
                self.wfile.write(b"ok")

        def drip(self) -> bool:
            try:
                for _ in range(DRIPS):
                    self.wfile.write(b".")
                    self.wfile.flush()
                    its.closing.wait(1)
            except OSError:
                return False
            return True

        def do_GET(self) -> None:
            its.others.append("GET")
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    its.url = f"http://localhost:{server.server_address[1]}/hooks/cleanup"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield its
    its.closing.set()
    server.shutdown()
    server.server_close()
    thread.join(5)
    assert not its.others


def test_started_and_completed(store: FakeStore, tool: RiggedTool, hook: Hook) -> None:
    """A complete run is told twice: event, status, counts and the run folder's name, and nothing else."""
    outcome = tool(store, store.config(tool.folder, webhook_url=hook.url), "--yes", "--json")
    assert outcome.status == 0, outcome.text
    assert [post.event for post in hook.posts] == ["started", "completed"]
    start, end = hook.posts
    assert start.path == "/hooks/cleanup"
    assert start.headers["content-type"].startswith("application/json")
    assert start.json.keys() == TOLD
    assert (start.json["status"], start.json["exit_status"]) == ("in_progress", None)
    told = {name: outcome.summary[name] for name in ("status", "exit_status", "selected", *COUNTS)}
    assert outcome.folder is not None
    assert end.json == {"event": "completed", "run_folder": outcome.folder.name, **told}
    assert (end.json["deleted"], end.json["exit_status"]) == (30, 0)


def test_records_that_did_not_go(store: FakeStore, tool: RiggedTool, hook: Hook) -> None:
    """A run that finished with failures is told as completed, and how many they were."""
    bad = next(iter(store.customers))
    store.refuse = {bad: (422, {"title": "has open orders"})}
    outcome = tool(store, store.config(tool.folder, webhook_url=hook.url), "--yes")
    assert outcome.status == 4
    assert [post.event for post in hook.posts] == ["started", "completed"]
    assert hook.posts[-1].json["failed"] == 1


def test_interrupted_by_the_store(store: FakeStore, tool: RiggedTool, hook: Hook) -> None:
    """A run that the store ends is told as interrupted, without reason or command, which may name people."""
    store.faults.append(Fault("DELETE", skip=2, times=1e9, status=401))
    outcome = tool(store, store.config(tool.folder, webhook_url=hook.url), "--yes")
    assert outcome.status == 5
    assert [post.event for post in hook.posts] == ["started", "interrupted"]
    end = hook.posts[-1].json
    assert (end["status"], end["exit_status"]) == ("interrupted", 5)
    assert end.keys() == TOLD


@posix
def test_interrupted_by_a_signal(make_store: MakeStore, tool: RiggedTool, hook: Hook) -> None:
    """A run that is stopped by a signal is told as interrupted."""
    store = make_store(customers=600, **QUIET)
    store.faults = [Fault("DELETE", skip=4, hook=lambda _: tool.signal(signal.SIGTERM))]
    outcome = tool.run(store, webhook_url=hook.url)
    assert outcome.status == 143
    assert [post.event for post in hook.posts] == ["started", "interrupted"]
    assert hook.posts[-1].json["exit_status"] == 143


def test_nothing_is_told_of_a_bad_configuration(store: FakeStore, tool: RiggedTool, hook: Hook) -> None:
    """A run that never starts is not told."""
    config = store.config(tool.folder, webhook_url=hook.url)
    outcome = tool(store, config, "--yes", "--filter", "emial:in=x")
    assert outcome.status == 2
    assert hook.posts == []


def test_no_token_is_told(make_store: MakeStore, tool: RiggedTool, hook: Hook) -> None:
    """N16, N17: neither token, nor header of the store, nor a password of .netrc goes to the webhook."""
    store = make_store(customers=30, quota=10_000)
    netrc = tool.folder / ".netrc"
    netrc.write_text("machine localhost\nlogin someone\npassword something\n")
    netrc.chmod(0o600)
    store.faults.append(Fault("DELETE", times=1e9, status=422, body={"title": f"no {TOKEN}"}))
    config = store.config(tool.folder, webhook_url=hook.url)
    outcome = tool(store, config, "--yes", HOME=str(tool.folder), NETRC=str(netrc))
    assert outcome.status in (4, 5)
    assert len(hook.posts) == 2
    for post in hook.posts:
        assert TOKEN not in post.body.decode()
        assert TOKEN not in " ".join(post.headers.values())
        assert not {"x-auth-token", "x-auth-client", "authorization", "cookie"} & post.headers.keys()
        assert post.json.keys() == TOLD


def warned(text: str) -> bool:
    return "webhook_url" in text and "warning" in text.lower()


def assert_undisturbed(store: FakeStore, tool: Tool, url: str) -> None:
    """The run goes as if there were no webhook, but for warnings on stderr."""
    outcome = tool(store, store.config(tool.folder, webhook_url=url), "--yes", "--json")
    assert outcome.status == 0, outcome.text
    assert not store.customers
    assert json.loads(outcome.out) == outcome.summary
    assert (outcome.summary["status"], outcome.summary["deleted"]) == ("completed", 30)
    assert outcome.summary["reason"] is None
    assert warned(outcome.err)


@pytest.mark.parametrize("status", [500, 404, 302])
def test_a_webhook_that_refuses(store: FakeStore, tool: RiggedTool, hook: Hook, status: int) -> None:
    """N14: an answer that is no success is a warning, and a redirect is not followed."""
    hook.status = status
    hook.headers = {"Location": hook.url + "/elsewhere"} if status == 302 else {}
    assert_undisturbed(store, tool, hook.url)
    assert [post.path for post in hook.posts] == ["/hooks/cleanup"] * 2


def test_a_webhook_that_is_down(store: FakeStore, tool: RiggedTool) -> None:
    """A webhook at which nobody listens is a warning."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert_undisturbed(store, tool, f"http://localhost:{port}/hooks")


def test_a_webhook_of_no_such_host(store: FakeStore, tool: RiggedTool) -> None:
    """A host name that there is not is a warning."""
    assert_undisturbed(store, tool, "http://no-such-host.invalid/hooks")


def test_a_webhook_that_hangs(store: FakeStore, tool: RiggedTool, hook: Hook) -> None:
    """A webhook that does not answer is given up, with a warning."""
    hook.way = "hang once"
    assert_undisturbed(store, tool, hook.url)
    assert len(hook.posts) == 2


def test_a_webhook_that_drips(store: FakeStore, tool: RiggedTool, hook: Hook) -> None:
    """An answer that comes byte by byte is not waited for to its end."""
    hook.way = "drip"
    outcome = tool(store, store.config(tool.folder, webhook_url=hook.url), "--yes")
    assert outcome.status == 0
    hook.closing.set()
    assert not store.customers
    wait_until(lambda: len(hook.dripped) == 2)
    assert hook.dripped == [False, False]


def test_a_webhook_does_not_hide_a_failure(store: FakeStore, tool: RiggedTool, hook: Hook) -> None:
    """A webhook that answers well does not make a failed run a good one, nor a bad one another."""
    store.faults.append(Fault("DELETE", times=1e9, status=403, body={"title": "no"}))
    for status in (200, 500):
        hook.status = status
        outcome = tool(store, store.config(tool.folder, webhook_url=hook.url), "--yes")
        assert outcome.status == 5
        assert outcome.summary["status"] == "interrupted"


@pytest.mark.parametrize(
    "url", ["ftp://host.example/x", "hooks.example/x", "http://", "https://a b.example/"]
)
def test_a_webhook_url_that_is_none(store: FakeStore, tool: RiggedTool, url: str) -> None:
    """What is no http or https URL is a bad configuration: nothing is sent."""
    outcome = tool(store, store.config(tool.folder, webhook_url=url), "--yes")
    assert (outcome.status, store.log) == (2, [])
    assert "webhook_url" in outcome.err


def test_a_webhook_whose_certificate_nobody_vouches_for(store: FakeStore, tool: RiggedTool) -> None:
    """N15: it is told nothing, and the run goes on."""
    with FakeStore(customers=1) as other:  # with a CA of its own
        config = store.config(tool.folder, webhook_url=f"https://{other.host}/hooks")
        outcome = tool(store, config, "--yes")
        assert outcome.status == 0, outcome.text
        assert "certificate" in outcome.text
        assert not other.log
