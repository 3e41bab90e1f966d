"""webhook_url: told of the start and the end of a run, and never in its way."""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.fake_store import TOKEN, FakeStore, Fault
from tests.rigged import MakeStore, RiggedTool, Tool, wait_until

DRIPS = 15  # seconds for which a dripping answer lasts, unless it is given up


@dataclass
class Post:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> str:
        return str(self.json["event"])

    @property
    def summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = self.json["summary"]
        return summary

    @property
    def json(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.body)
        return value


@dataclass
class Hook:
    """A webhook's server: what it got, and how it answers."""

    url: str = ""
    status: int = 200
    way: str = "answer"  # or "hang", "drip"
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
            if its.way == "hang":
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


@pytest.fixture
def store(make_store: MakeStore) -> FakeStore:
    return make_store(customers=60, quota=10_000)


def test_started_and_completed(store: FakeStore, tool: RiggedTool, hook: Hook) -> None:
    """A complete run is told twice: at its start, and at its end with the whole summary."""
    outcome = tool(store, store.config(tool.folder, webhook_url=hook.url), "--yes", "--json")
    assert outcome.status == 0, outcome.text
    assert [post.event for post in hook.posts] == ["started", "completed"]
    start, end = hook.posts
    assert start.path == "/hooks/cleanup"
    assert start.headers["content-type"].startswith("application/json")
    assert (start.summary["status"], start.summary["exit_status"]) == ("in_progress", None)
    assert start.summary["store_hash"] == store.store_hash
    assert end.summary == outcome.summary == json.loads(outcome.out)
    assert (end.summary["deleted"], end.summary["exit_status"]) == (60, 0)


def test_records_that_did_not_go(store: FakeStore, tool: RiggedTool, hook: Hook) -> None:
    """A run that finished with failures is completed, and its summary says how many."""
    bad = next(iter(store.customers))
    store.refuse = {bad: (422, {"title": "has open orders"})}
    outcome = tool(store, store.config(tool.folder, webhook_url=hook.url), "--yes")
    assert outcome.status == 4
    assert [post.event for post in hook.posts] == ["started", "completed"]
    assert hook.posts[-1].summary["failed"] == 1


def test_interrupted_by_the_store(store: FakeStore, tool: RiggedTool, hook: Hook) -> None:
    """A run that the store ends is told as interrupted, with reason and command to resume."""
    store.faults.append(Fault("DELETE", skip=2, times=1e9, status=401))
    outcome = tool(store, store.config(tool.folder, webhook_url=hook.url), "--yes")
    assert outcome.status == 5
    assert [post.event for post in hook.posts] == ["started", "interrupted"]
    end = hook.posts[-1].summary
    assert end == outcome.summary
    assert end["status"] == "interrupted"
    assert end["reason"]
    assert "--resume" in end["resume"]


def test_interrupted_by_a_signal(make_store: MakeStore, tool: RiggedTool, hook: Hook) -> None:
    """A run that is stopped by a signal is told as interrupted."""
    store = make_store(customers=600, quota=10_000, latency=0.1)
    process = tool.start(store, store.config(tool.folder, webhook_url=hook.url), "--yes")
    wait_until(lambda: len(store.deletes()) >= 5)
    process.send_signal(signal.SIGTERM)
    outcome = tool.finish(process)
    assert outcome.status == 143
    assert [post.event for post in hook.posts] == ["started", "interrupted"]
    assert hook.posts[-1].summary["exit_status"] == 143


def test_nothing_is_told_of_a_bad_configuration(store: FakeStore, tool: RiggedTool, hook: Hook) -> None:
    """A run that never starts is not told."""
    config = store.config(tool.folder, webhook_url=hook.url)
    outcome = tool(store, config, "--yes", "--filter", "emial:in=x")
    assert outcome.status == 2
    assert hook.posts == []


def test_no_token_is_told(make_store: MakeStore, tool: RiggedTool, hook: Hook) -> None:
    """Neither token, nor header of the store, nor a password of .netrc goes to the webhook."""
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
        assert post.json.keys() == {"event", "summary"}


def warned(text: str) -> bool:
    return "webhook_url" in text and "warning" in text.lower()


def assert_undisturbed(store: FakeStore, tool: Tool, url: str) -> None:
    """The run goes as if there were no webhook, but for warnings on stderr."""
    outcome = tool(store, store.config(tool.folder, webhook_url=url), "--yes", "--json")
    assert outcome.status == 0, outcome.text
    assert not store.customers
    assert json.loads(outcome.out) == outcome.summary
    assert (outcome.summary["status"], outcome.summary["deleted"]) == ("completed", 60)
    assert outcome.summary["reason"] is None
    assert warned(outcome.err)


@pytest.mark.parametrize("status", [500, 404, 302])
def test_a_webhook_that_refuses(store: FakeStore, tool: RiggedTool, hook: Hook, status: int) -> None:
    """An answer that is no success is a warning, and a redirect is not followed."""
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
    """A webhook that never answers is given up, with a warning."""
    hook.way = "hang"
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
    store.faults.append(Fault("DELETE", times=1e9, status=403))
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
    """It is told nothing, and the run goes on."""
    with FakeStore(customers=1) as other:  # with a CA of its own
        config = store.config(tool.folder, webhook_url=f"https://{other.host}/hooks")
        outcome = tool(store, config, "--yes")
        assert outcome.status == 0, outcome.text
        assert "certificate" in outcome.text
        assert not other.log
