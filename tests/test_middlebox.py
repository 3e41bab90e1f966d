"""No answer can break it: pages of middleboxes, answers without end, proxies, and what must not leak."""

from __future__ import annotations

import contextlib
import gzip
import json
import math
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from tests.fake_store import FakeStore, Fault, Request
from tests.rigged import (
    QUIET,
    MakeStore,
    Outcome,
    RiggedTool,
    Tool,
    Wire,
    assert_all_gone_once,
    assert_resumable,
    assert_says,
    counts,
    linux,
    listings,
    posix,
    read_backs,
    wait_until,
)

PAGE = "<html><head><title>We&#39;ll be back &mdash; maintenance</title></head><body>soon</body></html>"
PAGES: dict[str, dict[str, Any]] = {
    "200 HTML": {"status": 200, "body": PAGE, "content_type": "text/html"},
    "200 empty": {"status": 200},
    "403 HTML": {"status": 403, "body": PAGE, "content_type": "text/html"},
    "503 HTML": {"status": 503, "body": PAGE, "content_type": "text/html"},
}
WHERE: dict[str, Callable[[Request], bool]] = {
    "the store": lambda request: request.path.endswith("v2/store"),
    "the listing": listings,
    "a read-back": read_backs,
    "a DELETE": lambda request: request.method == "DELETE",
}


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_one_page_of_a_middlebox(store: FakeStore, hurried: RiggedTool, page: dict[str, Any]) -> None:
    """A8: a maintenance page or one of a CDN among good answers is no answer: tried again, exit 0."""
    planned = set(store.customers)
    store.faults = [Fault(where=where, quota_headers=False, **page) for where in WHERE.values()]
    outcome = hurried.run(store)
    assert_all_gone_once(outcome, store, planned)
    assert outcome.summary["retries"] == len(WHERE)


@pytest.mark.parametrize("page", [PAGES["200 HTML"], PAGES["403 HTML"]], ids=["200", "403"])
@pytest.mark.parametrize("at", WHERE)
def test_a_middlebox_for_ever(store: FakeStore, hurried: RiggedTool, page: dict[str, Any], at: str) -> None:
    """A18, A19: its title is in the sentence, exit 5, and nothing is said of a scope."""
    store.faults = [Fault(where=WHERE[at], times=math.inf, quota_headers=False, **page)]
    outcome = hurried.run(store, max_retries=1)
    assert outcome.status == 5, outcome.text
    assert_says(outcome, "We'll be back — maintenance")
    assert "scope" not in outcome.text


@pytest.mark.parametrize(
    "told",
    [
        {"status": 503, "headers": {"Retry-After": "45"}},
        {"status": 509, "headers": {"X-Retry-After": "45"}},
        {"status": 503, "body": {"status": 503, "retry_after_seconds": 45}},
    ],
    ids=["Retry-After", "509", "in the body"],
)
def test_told_to_wait_by_another_answer(
    make_store: MakeStore, hurried: RiggedTool, told: dict[str, Any]
) -> None:
    """A9: what it says is waited for, by everybody, and not given up."""
    store = make_store(customers=300, **QUIET)
    planned = set(store.customers)
    store.faults = [Fault("DELETE", skip=8, times=3, quota_headers=False, **told)]
    outcome = hurried.run(store)
    assert_all_gone_once(outcome, store, planned)
    assert outcome.summary["elapsed_seconds"] >= 45


def test_told_to_wait_too_long(store: FakeStore, hurried: RiggedTool) -> None:
    """A9: over ten minutes the run ends, and says how long."""
    store.faults = [Fault("DELETE", status=503, headers={"Retry-After": "1800"}, quota_headers=False)]
    outcome = hurried.run(store)
    assert outcome.status == 5, outcome.text
    assert_says(outcome, "30 minutes")


ODD: dict[str, dict[str, Any]] = {
    "a date of the far future": {
        "status": 429,
        "headers": {"Retry-After": "Mon, 01 Jan 99999999999 00:00:00 GMT"},
    },
    "a negative wait": {"status": 503, "headers": {"Retry-After": "-5"}},
    "nested 1,000 deep": {"status": 500, "body": "[" * 1_000 + "]" * 1_000},
    "nested 100,000 deep": {"status": 200, "body": "[" * 100_000 + "]" * 100_000},
    "a number of 400 digits": {"status": 500, "body": '{"title": %s}' % ("9" * 400)},
    "a number of 100,000 digits": {"status": 200, "body": "9" * 100_000},
    "no UTF-8": {"status": 500, "body": '{"title": "\udcff"}'},
    "a long message without an id": {"status": 500, "body": {"title": "id=[" * 16_384}},
    "errors within errors": {"status": 500, "body": '{"errors":' * 60 + "{}" + "}" * 60},
}


@pytest.mark.parametrize("answer", ODD.values(), ids=ODD)
def test_an_odd_answer(store: FakeStore, hurried: RiggedTool, answer: dict[str, Any]) -> None:
    """N24: it is tried again, whatever it holds, and no traceback comes of it."""
    planned = set(store.customers)
    body = answer.get("body", "")
    sent = answer | ({"body": body.encode("utf-8", "surrogateescape")} if isinstance(body, str) else {})
    store.faults = [
        Fault("DELETE", skip=1, quota_headers=False, **sent),
        Fault("GET", where=read_backs, skip=3, **sent),
    ]
    assert_all_gone_once(hurried.run(store), store, planned)


def test_a_total_beyond_all_numbers(store: FakeStore, hurried: RiggedTool) -> None:
    """N24: a total of 400 digits is no total."""

    def lie(_request: Request, answer: Any) -> Any:
        answer["meta"]["pagination"]["total"] = 10**400
        return answer

    store.faults = [Fault(where=listings, times=math.inf, rewrite=lie)]
    outcome = hurried.run(store)
    assert outcome.status == 3, outcome.text
    assert not store.deletes()


# --- answers without end ----------------------------------------------------------------------------


@pytest.fixture
def wire(make_store: MakeStore) -> Iterator[tuple[FakeStore, Wire]]:
    store = make_store(customers=300, **QUIET)
    wire = Wire(store)
    yield store, wire
    wire.close()


CHAOS = ["cut", "corrupt", "reset every third", "short"]


@pytest.mark.parametrize("how", CHAOS)
def test_a_wire_that_misbehaves_for_a_while(
    wire: tuple[FakeStore, Wire], hurried: RiggedTool, how: str
) -> None:
    """N24, N26: cut, corrupted, lost in the middle of a run: only the plan goes, and in the end all of it."""
    store, relay = wire
    planned = set(store.customers)
    count = 0

    # A handshake that is cut is one piece and a time-out: 20 of them use up the tries of any request.
    ends = 60 if how == "cut" else 90

    def treat(data: bytes) -> bytes | None:
        nonlocal count
        count += 1
        if not 40 < count < ends:
            return data
        if how == "cut":
            return data[: len(data) // 2] or None
        if how == "corrupt":
            return data[:-9] + bytes(9) if count % 4 == 0 else data
        if how == "short":
            return data[:40] if count % 5 == 0 else data
        return None if count % 3 == 0 else data

    relay.treat = treat
    config = store.config(hurried.folder, timeout=1)
    outcome = hurried(store, config, "--yes", BC_API_ENDPOINT=relay.host)
    tries = 0
    while outcome.status and tries < 4:
        assert outcome.status in (3, 4, 5), outcome.text
        # Where nothing was listed there is no folder, and where nothing was planned it cannot be resumed.
        planned_already = outcome.folder is not None and (outcome.folder / "plan.json").exists()
        again = ("--resume", str(outcome.folder)) if planned_already else ()
        outcome = hurried(store, config, "--yes", *again, BC_API_ENDPOINT=relay.host)
        tries += 1
    assert outcome.status == 0, outcome.text
    assert store.deleted_ids().keys() == planned
    assert not store.customers


WireSetter = Callable[[Wire, float], None]


def jitter(wire: Wire, seconds: float) -> None:
    wire.delay = lambda: random.uniform(0, 2 * seconds)


def drip(wire: Wire, seconds: float) -> None:
    wire.piece, wire.pieces, wire.delay = 1, 400, lambda: seconds


def loses(what: str) -> WireSetter:
    def set_wire(wire: Wire, _seconds: float) -> None:
        wire.loses = what

    return set_wire


def throttle(wire: Wire, seconds: float) -> None:
    wire.throttle(max(1, round(100 / seconds)))


SLOW: dict[str, WireSetter] = {"latency with jitter": jitter, "throttle": throttle, "drip": drip}
LOST: dict[str, WireSetter] = {
    "black hole": loses("all"),
    "half-open": loses("answers"),
    "half-closed": loses("the end"),
}
BAD_WIRES = SLOW | LOST


def ends_resumable(outcome: Outcome, store: FakeStore, planned: set[int]) -> None:
    """The run ended with 5: nothing but the plan went, and what did not is still counted."""
    assert outcome.status == 5, outcome.text
    assert set(outcome.plan["ids"]) == planned
    assert store.deleted_ids().keys() <= planned
    assert outcome.summary["selected"] == len(planned)
    assert outcome.summary["deleted"] <= len(planned - store.customers.keys())
    assert_resumable(outcome)


def resume_through(wire: Wire, tool: RiggedTool, outcome: Outcome) -> Outcome:
    """Resume with the limits of store.ini at their defaults, once the wire is mended."""
    assert outcome.folder is not None
    config = wire.store.config(tool.folder)
    return tool(wire.store, config, "--yes", "--resume", outcome.folder, **wire.environ())


@pytest.mark.parametrize("within_tls", [False, True], ids=["TCP", "HTTP"])
@pytest.mark.parametrize("set_wire", SLOW.values(), ids=SLOW)
def test_a_slow_wire(store: FakeStore, hurried: RiggedTool, set_wire: WireSetter, within_tls: bool) -> None:
    """A wire that is slow, and within the limits, takes time and changes nothing."""
    planned = set(store.customers)
    with Wire(store, within_tls=within_tls) as wire:
        set_wire(wire, {jitter: 0.02, throttle: 0.002, drip: 0.0002}[set_wire])
        outcome = hurried(store, store.config(hurried.folder, timeout=10), "--yes", **wire.environ())
    assert_all_gone_once(outcome, store, planned)


@pytest.mark.parametrize("set_wire", BAD_WIRES.values(), ids=BAD_WIRES)
def test_a_wire_that_heals_in_time(
    wire: tuple[FakeStore, Wire], hurried: RiggedTool, set_wire: WireSetter
) -> None:
    """N24, A11: connections on which nothing comes back are given up and made anew, and all of it goes."""
    store, relay = wire
    planned = set(store.customers)
    relay.strikes = lambda number: number in (1, 3, 4, 6)
    set_wire(relay, 1.0)
    outcome = hurried(store, store.config(hurried.folder, timeout=0.7), "--yes", **relay.environ())
    assert outcome.status == 0, outcome.text
    assert store.deleted_ids().keys() == planned
    assert not store.customers
    assert counts(outcome) == {"deleted": 300}
    assert outcome.summary["retries"] > 0


@pytest.mark.parametrize("set_wire", BAD_WIRES.values(), ids=BAD_WIRES)
def test_a_wire_that_does_not_heal(
    wire: tuple[FakeStore, Wire], hurried: RiggedTool, set_wire: WireSetter
) -> None:
    """A11: when nothing comes back any more the run ends with 5, and a resume ends with 0."""
    store, relay = wire
    planned = set(store.customers)
    store.faults = [Fault("DELETE", skip=3, hook=lambda _: set_wire(relay, 5.0))]
    config = store.config(hurried.folder, timeout=0.5, max_retries=1)
    outcome = hurried(store, config, "--yes", **relay.environ())
    ends_resumable(outcome, store, planned)
    assert store.customers
    relay.heal()
    resumed = resume_through(relay, hurried, outcome)
    assert resumed.status == 0, resumed.text
    assert not store.customers
    assert counts(resumed) == {"deleted": 300}


def test_a_black_hole_from_the_first_connection_on(wire: tuple[FakeStore, Wire], hurried: RiggedTool) -> None:
    """A19: what never answers ends the run with 5 before there is a plan, and nothing was deleted."""
    store, relay = wire
    relay.loses = "all"
    config = store.config(hurried.folder, timeout=0.3, max_retries=1)
    outcome = hurried(store, config, "--yes", **relay.environ())
    assert outcome.status == 5, outcome.text
    assert_says(outcome, "no answer within 0.3 s")
    assert outcome.folder is None
    assert not store.log
    assert relay.connections > 1


def test_a_black_hole_from_the_sixth_connection_on(wire: tuple[FakeStore, Wire], hurried: RiggedTool) -> None:
    """A11: with the last connections that answered gone, the run ends with 5, and a resume with 0."""
    store, relay = wire
    planned = set(store.customers)
    relay.strikes, relay.loses = lambda number: number >= 6, "all"

    def hang_up(_request: Request) -> None:
        relay.treat = lambda _data: None

    store.faults = [Fault("DELETE", skip=4, after=hang_up, commit=True, status=204)]
    config = store.config(hurried.folder, timeout=0.5, max_retries=1)
    outcome = hurried(store, config, "--yes", **relay.environ())
    ends_resumable(outcome, store, planned)
    relay.heal()
    relay.treat = lambda data: data
    resumed = resume_through(relay, hurried, outcome)
    assert resumed.status == 0, resumed.text
    assert counts(resumed) == {"deleted": 300}
    assert not store.customers


def test_every_connection_is_forgotten_at_once(wire: tuple[FakeStore, Wire], hurried: RiggedTool) -> None:
    """A router that forgets all connections, in the middle of the DELETEs, costs a time-out each."""
    store, relay = wire
    planned = set(store.customers)

    def forget(_request: Request) -> None:
        so_far = relay.connections
        relay.strikes, relay.loses = lambda number: number <= so_far, "answers"

    store.faults = [Fault("DELETE", skip=10, after=forget, commit=True, status=204)]
    outcome = hurried(store, store.config(hurried.folder, timeout=1), "--yes", **relay.environ())
    assert outcome.status == 0, outcome.text
    assert store.deleted_ids().keys() == planned
    assert counts(outcome) == {"deleted": 300}
    assert outcome.summary["retries"] > 0


def test_headers_that_are_dripped(make_store: MakeStore, hurried: RiggedTool) -> None:
    """N24: headers that come a byte at a time, and never end in time, are no answer, and tried again."""
    store = make_store(customers=30, **QUIET)
    planned = set(store.customers)
    with Wire(store, within_tls=True) as wire:
        wire.strikes = lambda number: number == 1
        drip(wire, 0.15)
        config = store.config(hurried.folder, timeout=0.3)
        outcome = hurried(store, config, "--yes", **wire.environ())
    assert_all_gone_once(outcome, store, planned)
    assert outcome.summary["retries"] > 0


def test_headers_that_are_dripped_for_ever(make_store: MakeStore, hurried: RiggedTool) -> None:
    """N24: while every answer's headers drip the run ends with 5, and a resume ends with 0."""
    store = make_store(customers=100, **QUIET)
    planned = set(store.customers)
    with Wire(store, within_tls=True) as wire:
        store.faults = [Fault("DELETE", skip=2, hook=lambda _: drip(wire, 0.1))]
        config = store.config(hurried.folder, timeout=0.2, max_retries=0)
        outcome = hurried(store, config, "--yes", **wire.environ())
        ends_resumable(outcome, store, planned)
        wire.heal()
        resumed = resume_through(wire, hurried, outcome)
    assert resumed.status == 0, resumed.text
    assert counts(resumed) == {"deleted": 100}


def test_an_answer_that_is_too_long(store: FakeStore, tool: RiggedTool) -> None:
    """N25: a small gzip body that becomes 200 MB is no answer, and takes no memory of that size."""
    bomb = gzip.compress(b" " * 200_000_000)
    answer = {"status": 200, "body": bomb, "headers": {"Content-Encoding": "gzip"}, "quota_headers": False}
    store.faults = [Fault(where=listings, times=1, **answer)]
    outcome = tool.run(store)
    assert outcome.status == 0, outcome.text
    assert outcome.summary["retries"] == 1
    assert "64 MiB" in (outcome.folder or Path()).joinpath("run.log").read_text()


@posix
def test_a_stop_while_a_read_hangs(make_store: MakeStore, installed: Tool) -> None:
    """N9: reads in flight are not awaited after a stop."""
    store = make_store(customers=300, **QUIET)
    seen, done = threading.Event(), threading.Event()

    def hang(_request: Request) -> None:
        seen.set()
        done.wait(300)  # longer than the test waits for the tool

    store.faults = [Fault(where=listings, hook=hang)]
    process = installed.start(store, store.config(installed.folder), "--yes")
    assert seen.wait(30)
    process.send_signal(signal.SIGTERM)
    outcome = installed.finish(process)
    done.set()
    assert outcome.status == 143, outcome.text


# --- proxies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["http://bob:SECRETIVE/x@host:1", "http://bob:SECRETIVE@host:99999", "http://bob:SECRETIVE@"]
)
@pytest.mark.parametrize("name", ["HTTPS_PROXY", pytest.param("https_proxy", marks=posix), "ALL_PROXY"])
def test_a_proxy_that_cannot_be_parsed(store: FakeStore, tool: RiggedTool, url: str, name: str) -> None:
    """A20, N18: exit 2, naming the variable, and never its value."""
    outcome = tool(store, None, "--yes", **{name: url})
    assert outcome.status == 2, outcome.text
    assert name in outcome.text
    assert not store.log
    written = "".join(path.read_text() for path in tool.folder.rglob("*") if path.is_file())
    assert "SECRETIVE" not in outcome.text + written.replace(url, "")


class Proxy:
    """A CONNECT proxy with a password: the status that it answers, or 200 for a tunnel."""

    def __init__(self, status: int) -> None:
        self._status = status
        self.seen: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                ours, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(ours,), daemon=True).start()

    def _serve(self, ours: socket.socket) -> None:
        with ours:
            head = b""
            while b"\r\n\r\n" not in head and (data := ours.recv(4096)):
                head += data
            self.seen.append(head.decode())
            if self._status != 200:
                ours.sendall(f"HTTP/1.1 {self._status} No\r\nContent-Length: 0\r\n\r\n".encode())
                return
            host, _, port = head.split()[1].decode().partition(":")
            ours.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            with socket.create_connection((host, int(port))) as theirs:
                while True:
                    for end in select.select([ours, theirs], [], [])[0]:
                        if not (data := end.recv(65536)):
                            return
                        (theirs if end is ours else ours).sendall(data)

    def close(self) -> None:
        self._listener.close()


@pytest.mark.parametrize(("status", "expected"), [(407, 2), (403, 2), (502, 5), (200, 0)])
def test_a_proxy(store: FakeStore, hurried: RiggedTool, status: int, expected: int) -> None:
    """A20: a refusal for good is exit 2 at once, another fault is tried again; both name the proxy."""
    proxy = Proxy(status)
    address = f"http://bob:p%40ssword9@127.0.0.1:{proxy.port}"
    config = store.config(hurried.folder, max_retries=1)
    outcome = hurried(store, config, "--yes", HTTPS_PROXY=address, NO_PROXY="", no_proxy="")
    proxy.close()
    assert outcome.status == expected, outcome.text
    assert proxy.seen[0].startswith("CONNECT ")
    if expected:
        assert_says(outcome, "the proxy", str(status))
        assert len(proxy.seen) == (1 if expected == 2 else 2)
    assert "ssword9" not in outcome.text


def test_a_proxy_that_is_not_there(store: FakeStore, hurried: RiggedTool) -> None:
    """A20: a proxy that refuses connections is tried again, and then named."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    config = store.config(hurried.folder, max_retries=1)
    outcome = hurried(store, config, "--yes", HTTPS_PROXY=f"http://127.0.0.1:{port}", NO_PROXY="")
    assert outcome.status == 5, outcome.text
    assert_says(outcome, "the proxy")


class TinyProxy:
    """The real tinyproxy, with these lines in its configuration; `with` ends it."""

    def __init__(self, folder: Path, *lines: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        file = folder / "tinyproxy.conf"
        always = (f"Port {self.port}", "Listen 127.0.0.1", "Allow 127.0.0.1", "MaxClients 50")
        log = (f'LogFile "{folder / "tinyproxy.log"}"', "LogLevel Connect", f'PidFile "{folder / "pid"}"')
        file.write_text("".join(f"{line}\n" for line in (*always, *log, *lines)))
        self.log = folder / "tinyproxy.log"
        self._process = subprocess.Popen([str(TINYPROXY), "-d", "-c", str(file)], stdout=subprocess.DEVNULL)
        wait_until(self._listens)

    def _listens(self) -> bool:
        assert self._process.poll() is None, "tinyproxy ended by itself"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def environ(self, user: str = "") -> dict[str, str]:
        """What leads the tool through this proxy."""
        address = f"http://{user}127.0.0.1:{self.port}"
        return {"HTTPS_PROXY": address, "https_proxy": address, "NO_PROXY": "", "no_proxy": ""}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.wait()


TINYPROXY = shutil.which("tinyproxy", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/bin")
needs_tinyproxy = pytest.mark.skipif(TINYPROXY is None, reason="tinyproxy is not installed")


@needs_tinyproxy
@pytest.mark.parametrize("password", ["", "ssword9"], ids=["open", "with its password"])
def test_tinyproxy(store: FakeStore, hurried: RiggedTool, tmp_path: Path, password: str) -> None:
    """A20: a whole run goes through a proxy as people have it, and its password is written nowhere."""
    planned = set(store.customers)
    auth, user = (("BasicAuth bob ssword9",), f"bob:{password}@") if password else ((), "")
    with TinyProxy(tmp_path, *auth) as proxy:
        outcome = hurried(store, None, "--yes", **proxy.environ(user))
        assert f"localhost:{store.host.partition(':')[2]}" in proxy.log.read_text()
    assert_all_gone_once(outcome, store, planned)
    assert outcome.folder is not None
    written = outcome.text + "".join(path.read_text() for path in outcome.folder.iterdir())
    assert "ssword9" not in written


NO_PASSWORD, A_WRONG_ONE = "", "bob:s3cret-wrong@"


@needs_tinyproxy
@pytest.mark.parametrize("user", [NO_PASSWORD, A_WRONG_ONE], ids=["no password", "a wrong one"])
def test_tinyproxy_refuses_at_once(store: FakeStore, hurried: RiggedTool, tmp_path: Path, user: str) -> None:
    """A20: no password, or a wrong one, is exit 2 at once: it names the variable, and shows no value."""
    config = store.config(hurried.folder, max_retries=1)
    with TinyProxy(tmp_path, "BasicAuth bob ssword9") as proxy:
        outcome = hurried(store, config, "--yes", **proxy.environ(user))
        asked = proxy.log.read_text().count(": CONNECT localhost")
    assert outcome.status == 2, outcome.text
    assert_says(outcome, "the proxy", "https_proxy")
    assert asked == 1
    assert "s3cret" not in outcome.text
    assert outcome.folder is None
    assert not store.log


@needs_tinyproxy
@pytest.mark.parametrize("when", ["before the run", "during the run"])
def test_tinyproxy_that_is_stopped(store: FakeStore, hurried: RiggedTool, tmp_path: Path, when: str) -> None:
    """A20: a proxy that is gone ends the run with 5, and it is the proxy that is named."""
    planned = set(store.customers)
    config = store.config(hurried.folder, max_retries=1)
    with TinyProxy(tmp_path) as proxy:
        environ = proxy.environ()
        if when == "before the run":
            proxy.__exit__()
        else:
            store.faults = [Fault("DELETE", hook=lambda _: proxy.__exit__(), commit=True, status=204)]
        outcome = hurried(store, config, "--yes", **environ)
    assert outcome.status == 5, outcome.text
    assert_says(outcome, "the proxy")
    if when == "before the run":
        assert not store.log
        return
    ends_resumable(outcome, store, planned)
    with TinyProxy(tmp_path) as proxy:
        resumed = hurried(store, config, "--yes", "--resume", outcome.folder or "", **proxy.environ())
    assert resumed.status == 0, resumed.text
    assert not store.customers


def test_socks_without_its_package(store: FakeStore, hurried: RiggedTool) -> None:
    """A20: SOCKS, whose package is not there, is exit 2 at once."""
    outcome = hurried(store, None, "--yes", HTTPS_PROXY="socks5://127.0.0.1:9", NO_PROXY="")
    assert outcome.status == 2, outcome.text
    assert "HTTPS_PROXY" in outcome.text


# --- what must not leak, and what must last -----------------------------------------------------------


@pytest.mark.parametrize("shape", ["plain", "escaped", "late"])
def test_a_token_that_is_echoed(store: FakeStore, hurried: RiggedTool, shape: str) -> None:
    """N17, N18: no part of the token is written, wherever in an answer it comes, and however it is spelt."""
    store.token = token = "k9x2m4q8w1z7r3v5t6b0"
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in token)
    title = {"plain": token, "escaped": escaped, "late": "x" * 195 + token}[shape]
    body = f'{{"title": "{title}"}}'.encode()
    store.faults = [Fault("DELETE", skip=1, times=math.inf, status=422, body=body)]
    outcome = hurried.run(store)
    assert outcome.folder is not None
    written = outcome.text + "".join(p.read_text() for p in outcome.folder.iterdir())
    pieces = {token[at : at + 6] for at in range(len(token) - 5)}
    assert not [piece for piece in pieces if piece in written]


@posix
def test_files_whatever_the_umask(store: FakeStore, tool: RiggedTool) -> None:
    """Every file of the run folder is 0600 and the folder 0700, with a umask of 0 too."""
    before = os.umask(0)
    try:
        outcome = Tool(tool.folder).run(store)
    finally:
        os.umask(before)
    assert outcome.folder is not None
    assert {path.stat().st_mode & 0o777 for path in outcome.folder.iterdir()} == {0o600}
    assert outcome.folder.stat().st_mode & 0o777 == 0o700
    assert (tool.runs / ".gitignore").read_text() == "*\n"


@pytest.mark.parametrize(
    "start", ["htp://hooks.example", "https://", "https://hooks.example:99999", "https://["]
)
def test_a_bad_webhook_url_is_not_printed(store: FakeStore, tool: RiggedTool, start: str) -> None:
    """N18: a webhook_url that is none is named, and its secret is not shown."""
    outcome = tool.run(store, webhook_url=f"{start}/T00/secretive")
    assert outcome.status == 2
    assert "webhook_url" in outcome.err
    assert "secretive" not in outcome.text


def dry(tool: RiggedTool, store: FakeStore) -> Outcome:
    outcome = tool.run(store, "--dry-run")
    assert outcome.status == 0, outcome.text
    return outcome


def test_a_webhook_behind_a_broken_proxy(store: FakeStore, tool: RiggedTool) -> None:
    """N24: a proxy for the webhook alone that cannot be parsed is a warning, and no traceback."""
    config = store.config(tool.folder, webhook_url="http://hooks.example/x")
    outcome = tool(store, config, "--yes", HTTP_PROXY="http://bob:pw@", http_proxy="http://bob:pw@")
    assert outcome.status == 0, outcome.text
    assert "webhook_url was not told" in outcome.err


@pytest.mark.parametrize("damage", ["missing", "cut", "zeros"])
def test_a_backup_that_is_missing_or_cut(store: FakeStore, tool: RiggedTool, damage: str) -> None:
    """A resume says where the backup is, or that it is missing or cut."""
    folder = dry(tool, store).folder
    assert folder is not None
    path = folder / "backup.jsonl"
    text = path.read_text()
    path.unlink()
    if damage != "missing":
        path.write_text(text[: len(text) // 2] if damage == "cut" else text[:-20] + "\0" * 20)
    outcome = tool.resume(store, folder)
    assert outcome.status == 0, outcome.text
    assert ("MISSING" if damage == "missing" else "CUT") in outcome.text


def test_a_plan_of_the_future(store: FakeStore, hurried: RiggedTool) -> None:
    """A plan that is dated in the future is refused, with --yes and without."""
    hurried.rig = type(hurried.rig)(later=86_400.0)
    folder = dry(hurried, store).folder
    hurried.rig = type(hurried.rig)()
    outcome = hurried.resume(store, folder)
    assert outcome.status == 3, outcome.text
    assert "of the future" in outcome.text
    assert not store.deletes()


def test_a_backup_of_odd_records(store: FakeStore, tool: RiggedTool) -> None:
    """backup.jsonl is strict JSON, a record a line for str.splitlines() too."""
    first, second, *_ = store.customers
    store.change(first, company="a\u2028b\u2029c\x85d")
    store.change(second, notes=float("nan"), company=float("inf"))
    outcome = dry(tool, store)
    lines = (outcome.folder or Path()).joinpath("backup.jsonl").read_text(encoding="utf-8").splitlines()

    def refuse(name: str) -> None:
        raise AssertionError(name)

    records = {record["id"]: record for record in (json.loads(line, parse_constant=refuse) for line in lines)}
    assert records.keys() == set(store.customers)
    assert records[first]["company"] == "a\u2028b\u2029c\x85d"


@pytest.mark.parametrize("columns", ["0", "1"])
def test_a_terminal_of_no_columns(store: FakeStore, tool: RiggedTool, columns: str) -> None:
    """COLUMNS that nobody can mean is 80."""
    outcome = tool(store, None, "--dry-run", COLUMNS=columns)
    assert outcome.status == 0
    assert "30 customers" in outcome.err


@linux
def test_a_summary_that_cannot_be_printed(store: FakeStore, installed: Tool) -> None:
    """--json to a full disk is exit 5, with a sentence."""
    config = store.config(installed.folder)
    command = " ".join(installed.command(config, "--yes", "--json")) + " > /dev/full"
    child = installed._start(["sh", "-c", command], installed.environ(store))
    _, err = child.communicate(timeout=60)
    assert child.returncode == 5, err
    assert "cannot be printed" in err
    assert counts(Outcome(5, "", err, installed.folders().pop())) == {"deleted": 30}
