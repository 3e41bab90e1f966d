"""Connections, proxies and limits: slow, cut and lost answers, long answers, long requests."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import math
import random
import socket
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import bulk_delete
from tests.fake_store import FakeStore, Fault, Request
from tests.rigged import (
    QUIET,
    MakeStore,
    Outcome,
    RiggedTool,
    Wire,
    assert_all_gone_once,
    assert_resumable,
    assert_says,
    counts,
    listings,
    posix,
)

# --- wires that misbehave -------------------------------------------------------------------


@contextlib.contextmanager
def wired(
    make_store: MakeStore, customers: int, *, within_tls: bool = False
) -> Iterator[tuple[FakeStore, Wire, set[int]]]:
    """Yield a store, a wire to it, and the ids of its customers."""
    store = make_store(customers=customers, **QUIET)
    with Wire(store, within_tls=within_tls) as wire:
        yield store, wire, set(store.customers)


def run_through(wire: Wire, tool: RiggedTool, *options: Any, **cleanup: Any) -> Outcome:
    config = wire.store.config(tool.folder, **cleanup)
    return tool(wire.store, config, "--yes", *options, **wire.environ())


def assert_ends_well(
    outcome: Outcome, wire: Wire, tool: RiggedTool, planned: set[int], first_status: int
) -> None:
    """The run ended so; where that was early, a resume through the mended wire completes it."""
    store = wire.store
    assert outcome.status == first_status, outcome.text
    if first_status == 5:
        assert set(outcome.plan["ids"]) == planned
        assert store.deleted_ids().keys() <= planned
        assert outcome.summary["deleted"] <= len(planned - store.customers.keys())
        assert_resumable(outcome)
        wire.heal()
        outcome = run_through(wire, tool, "--resume", outcome.folder)
        assert outcome.status == 0, outcome.text
    assert not store.customers
    assert store.deleted_ids().keys() == planned
    assert counts(outcome) == {"deleted": len(planned)}


def test_wire_that_cuts_and_corrupts(make_store: MakeStore, hurried: RiggedTool) -> None:
    """N24, N26: only the plan is deleted, and after a few resumes all of it."""
    with wired(make_store, 300) as (_, wire, planned):
        turn = itertools.count()

        def treat(data: bytes) -> bytes | None:
            number = next(turn)
            if not 40 < number < 65:  # each cut handshake is a time-out
                return data
            damaged = (data[: len(data) // 2], data[:-9] + bytes(9), data[:40], None, data)
            return damaged[number % 5] or None

        wire.treat = treat
        outcome = run_through(wire, hurried, timeout=0.6)
        for _ in range(4):
            if outcome.status == 0:
                break
            assert outcome.status in (3, 4, 5), outcome.text
            has_plan = outcome.folder is not None and (outcome.folder / "plan.json").exists()
            again = ("--resume", outcome.folder) if has_plan else ()
            outcome = run_through(wire, hurried, *again, timeout=0.6)
        assert_ends_well(outcome, wire, hurried, planned, 0)


@pytest.mark.parametrize("within_tls", [False, True], ids=["throttle", "drip"])
def test_slow_wire(make_store: MakeStore, hurried: RiggedTool, within_tls: bool) -> None:
    with wired(make_store, 30, within_tls=within_tls) as (store, wire, planned):
        if within_tls:
            wire.drip(0.0002)
        else:
            wire.throttle(50_000)
            wire.delay = lambda: random.uniform(0, 0.04)
        assert_all_gone_once(run_through(wire, hurried, timeout=10), store, planned)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("what", ["all", "answers", "the end"])
def test_connection_that_recovers(
    make_store: MakeStore, hurried: RiggedTool, what: str, method: str
) -> None:
    """N24: connections without an answer in time are given up and replaced."""
    with wired(make_store, 100) as (store, wire, planned):

        def strike(_request: Request) -> None:
            so_far = max(wire.connections, 3)
            wire.strikes, wire.loses = lambda number: number <= so_far, what

        store.faults = [Fault(method, skip=5 * (method == "DELETE"), after=strike)]
        outcome = run_through(wire, hurried, timeout=0.4)
        assert_ends_well(outcome, wire, hurried, planned, 0)
        assert outcome.summary["retries"] > 0


BROKEN: dict[str, tuple[bool, Callable[[Wire], None]]] = {
    "dripped headers": (True, lambda wire: wire.drip(0.1)),
    "throttle": (False, lambda wire: wire.throttle(20)),
    "black hole": (False, lambda wire: setattr(wire, "loses", "all")),
    "half-open": (False, lambda wire: setattr(wire, "loses", "answers")),
}


@pytest.mark.parametrize(("within_tls", "set_wire"), BROKEN.values(), ids=BROKEN)
def test_connection_that_does_not_recover(
    make_store: MakeStore,
    hurried: RiggedTool,
    within_tls: bool,
    set_wire: Callable[[Wire], None],
) -> None:
    with wired(make_store, 100, within_tls=within_tls) as (store, wire, planned):
        store.faults = [Fault("DELETE", skip=2, hook=lambda _: set_wire(wire))]
        outcome = run_through(wire, hurried, timeout=0.2, max_retries=0)
        assert_ends_well(outcome, wire, hurried, planned, 5)


def test_store_that_never_answers(make_store: MakeStore, hurried: RiggedTool) -> None:
    with wired(make_store, 30) as (store, wire, _):
        wire.loses = "all"
        outcome = run_through(wire, hurried, timeout=0.3, max_retries=1)
        assert outcome.status == 5, outcome.text
        assert_says(outcome, "0.3")
        assert outcome.folder is None
        assert not store.log
        assert wire.connections > 1


# --- limits of size -------------------------------------------------------------------------


def test_answer_of_more_than_64_mib(store: FakeStore, hurried: RiggedTool) -> None:
    """N25: nor does it take that much memory, though it is a small gzip body."""
    bomb = gzip.compress(b" " * 70_000_000, 1)
    headers = {"Content-Encoding": "gzip"}
    store.faults = [
        Fault(where=listings, status=200, body=bomb, headers=headers, quota_headers=False)
    ]
    outcome = hurried.run(store)
    assert outcome.status == 0, outcome.text
    assert outcome.summary["retries"] == 1
    assert outcome.folder is not None
    assert "64 MiB" in (outcome.folder / "run.log").read_text()


@pytest.mark.parametrize(("resource", "status"), [("products", 414), ("customers", 400)])
def test_long_requests_are_halved(
    make_store: MakeStore, hurried: RiggedTool, resource: str, status: int
) -> None:
    """Reads and DELETEs of many ids."""
    store = make_store(**{"customers": 0, resource: 300}, **QUIET)

    def is_too_long(request: Request) -> bool:
        return len(request.query.get("id:in", "")) > 500

    store.faults = [Fault(where=is_too_long, times=math.inf, status=status)]
    outcome = hurried.run(store, "--resource", resource)
    assert outcome.status == 0, outcome.text
    assert not store.records[resource]
    assert counts(outcome) == {"deleted": 300}


def test_unanswered_pages_shrink(make_store: MakeStore, hurried: RiggedTool) -> None:
    store = make_store(customers=300, **QUIET)
    planned = set(store.customers)

    def is_heavy(request: Request) -> bool:
        return listings(request) and int(request.query["limit"]) > 50

    store.faults = [Fault(where=is_heavy, times=math.inf, status=504, quota_headers=False)]
    assert_all_gone_once(hurried.run(store, max_retries=1), store, planned)


# --- the environment ------------------------------------------------------------------------


class Proxy(Wire):
    """A CONNECT proxy that answers with this status, or, with 200, opens a tunnel."""

    def __init__(self, store: FakeStore, status: int) -> None:
        self._status = status
        self.seen: list[str] = []
        super().__init__(store)

    def _relay(self, ours: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError), ours:
            head = b""
            while b"\r\n\r\n" not in head and (data := ours.recv(4096)):
                head += data
            self.seen.append(head.decode())
            ours.sendall(f"HTTP/1.1 {self._status} X\r\n".encode())
            if self._status != 200:
                return ours.sendall(b"Content-Length: 0\r\n\r\n")
            ours.sendall(b"\r\n")
            with socket.create_connection(self._beyond) as theirs:
                self._carry(ours, theirs, number)

    def environ(self, password: str = "p%40ssword9") -> dict[str, str]:
        address = f"http://bob:{password}@{self.host}"
        return {"HTTPS_PROXY": address, "NO_PROXY": "", "no_proxy": ""}


@pytest.mark.parametrize(("status", "expected"), [(407, 2), (403, 2), (401, 2), (502, 5)])
def test_proxy_that_does_not_connect(
    store: FakeStore, hurried: RiggedTool, status: int, expected: int
) -> None:
    """A final rejection is exit 2 at once, other faults are retried; both name the proxy."""
    proxy = Proxy(store, status)
    config = store.config(hurried.folder, max_retries=1)
    outcome = hurried(store, config, "--yes", "--no-backup", **proxy.environ())
    proxy.close()
    assert outcome.status == expected, outcome.text
    assert_says(outcome, "proxy", str(status), *(["HTTPS_PROXY"] if expected == 2 else []))
    assert len(proxy.seen) == (1 if expected == 2 else 2)
    assert proxy.seen[0].startswith("CONNECT ")
    assert "ssword9" not in outcome.text
    assert not store.log
    assert outcome.folder is None


def test_proxy_that_disappears(store: FakeStore, hurried: RiggedTool) -> None:
    """The run ends with 5 and names the proxy; resumed through another one, it completes."""
    planned = set(store.customers)
    config = store.config(hurried.folder, max_retries=1)
    proxy = Proxy(store, 200)
    environ = proxy.environ()
    store.faults = [Fault("DELETE", hook=lambda _: proxy.close(), commit=True, status=204)]
    outcome = hurried(store, config, "--yes", **environ)
    assert outcome.status == 5, outcome.text
    assert_says(outcome, "proxy")
    assert_resumable(outcome)
    refused = hurried(store, config, "--yes", **environ)
    assert refused.status == 5
    assert_says(refused, "proxy")
    proxy = Proxy(store, 200)
    options = ("--yes", "--resume", outcome.folder or "")
    resumed = hurried(store, config, *options, **proxy.environ())
    proxy.close()
    assert_all_gone_once(resumed, store, planned)
    assert outcome.folder is not None
    written = resumed.text + "".join(path.read_text() for path in outcome.folder.iterdir())
    assert "ssword9" not in written


BAD_PROXIES: list[tuple[str, str]] = [
    *[("HTTPS_PROXY", url) for url in ("bob:pw99@127.0.0.1:9", "http://bob:pw99@ho st:80")],
    *[("ALL_PROXY", url) for url in ("ftp://bob:pw99@host:80", "http://bob:pw99@a..b:80")],
    *[("HTTPS_PROXY", f"http://bob:1{sign}pw99@host:9") for sign in "?#@/"],
    *[("HTTPS_PROXY", f"http://bob:pw99@{host}") for host in ("host:99999", "")],
    ("HTTPS_PROXY", "socks5://127.0.0.1:9"),  # its package is not installed
    pytest.param("https_proxy", "http://bob:pw99@host:0", marks=posix),  # type: ignore[list-item]
]


@pytest.mark.parametrize(("name", "url"), BAD_PROXIES)
def test_unusable_proxy(store: FakeStore, hurried: RiggedTool, name: str, url: str) -> None:
    """N18: exit 2 names the variable, and shows no part of its value."""
    outcome = hurried(store, None, "--yes", **{name: url, "NO_PROXY": "", "no_proxy": ""})
    assert outcome.status == 2, outcome.text
    assert_says(outcome, name)
    assert "pw99" not in outcome.text
    assert outcome.folder is None
    assert not store.log


@pytest.mark.parametrize("text", [None, "", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END"])
def test_unusable_certificates(store: FakeStore, hurried: RiggedTool, text: str | None) -> None:
    """Exit 2 at once, without a retry; None: the file does not exist."""
    path = hurried.folder / "bad.pem"
    if text is not None:
        path.write_text(text)
    outcome = hurried(store, None, "--yes", REQUESTS_CA_BUNDLE=str(path))
    assert outcome.status == 2, outcome.text
    assert_says(outcome, "REQUESTS_CA_BUNDLE")
    assert "retry" not in outcome.text
    assert outcome.folder is None


def test_unusable_proxy_of_the_webhook(store: FakeStore, hurried: RiggedTool) -> None:
    """N24: a warning, as the run itself does not use it."""
    config = store.config(hurried.folder, webhook_url="http://hooks.example/x")
    proxy = "http://bob:pw99@"
    outcome = hurried(store, config, "--yes", HTTP_PROXY=proxy, http_proxy=proxy)
    assert outcome.status == 0, outcome.text
    assert "webhook_url" in outcome.err
    assert "pw99" not in outcome.text


@pytest.mark.parametrize("start", ["htp://hooks.example", "https://["])
def test_bad_webhook_url(store: FakeStore, hurried: RiggedTool, start: str) -> None:
    """N18: the key is named, not the secret in its value."""
    outcome = hurried.run(store, webhook_url=f"{start}/T00/secretive")
    assert outcome.status == 2
    assert "webhook_url" in outcome.err
    assert "secretive" not in outcome.text


def test_a_body_that_never_ends_is_no_answer() -> None:
    """N25: each read may be quick; it is the whole that has a deadline."""
    connection = object.__new__(bulk_delete.Connection)
    connection.timeout = 0.01
    raw = SimpleNamespace(read=None, read1=lambda *_args, **_options: b"x")
    with pytest.raises(ValueError, match="takes too long"):
        connection._read_body(SimpleNamespace(raw=raw))
