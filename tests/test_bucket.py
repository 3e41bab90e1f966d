"""The token bucket, in virtual time: tables for what it does, a simulated store for what it must.

Nothing here looks at a real clock. In the simulations every worker is a thread, but only one of
them runs at a time, and time passes only while all of them sleep: the same draw, the same run.
"""

from __future__ import annotations

import heapq
import itertools
import math
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bulk_delete import TokenBucket, TooCostly

UNLIMITED = 16_101_495  # what a store on an unlimited plan was seen to report
WORKERS = 5


def quota_headers(
    *, quota: object = 150, left: object = None, reset: float | str | None = None, window: object = 30.0
) -> dict[str, str]:
    """BigCommerce's four headers; what is None is left out, and text is taken as it is."""

    def ms(seconds: object) -> object:
        return math.ceil(seconds * 1000) if isinstance(seconds, (int, float)) else seconds

    values = {
        "Time-Window-Ms": ms(window),
        "Time-Reset-Ms": ms(reset),
        "Requests-Quota": quota,
        "Requests-Left": left,
    }
    return {f"X-Rate-Limit-{k}": str(v) for k, v in values.items() if v is not None}


# --- tables --------------------------------------------------------------------------------------


class NoToken(Exception):
    """Raised by a sleep that must not be."""


class Bench:
    """One bucket and one clock that only its sleep moves."""

    def __init__(self, **options: Any) -> None:
        self.now = 0.0
        self.may_sleep = True
        self.bucket = TokenBucket(clock=lambda: self.now, sleep=self._sleep, **options)

    def _sleep(self, seconds: float) -> None:
        assert seconds > 0
        if not self.may_sleep:
            raise NoToken
        self.now += max(seconds, 1e-6)  # no sleep is shorter than a clock's tick

    def take(self, count: int = 1, cost: int = 1) -> None:
        """Take them at full speed, without any wait."""
        self.may_sleep = False
        self.bucket.expect(0)
        for _ in range(count):
            self.bucket.acquire(cost)
        self.may_sleep = True

    def tokens(self, most: int = 1000) -> int:
        """How many can be had at once, up to so many; takes them."""
        for count in range(most):
            try:
                self.take()
            except NoToken:
                self.may_sleep = True
                return count
        return most

    def wait(self, cost: int = 1) -> float:
        """How long one waits for tokens when much more is to be done; takes them."""
        begun = self.now
        self.bucket.expect(math.inf)
        self.bucket.acquire(cost)
        return self.now - begun


Event = Callable[[Bench], object]


def take(count: int = 1, cost: int = 1) -> Event:
    return lambda bench: bench.take(count, cost)


def answer(sent_at: float = 0.0, cost: int = 1, **headers: Any) -> Event:
    return lambda bench: bench.bucket.sync(quota_headers(**headers), sent_at, cost)


def lost(sent_at: float = 0.0, cost: int = 1) -> Event:
    """No answer came, or one without a quota header."""
    return lambda bench: bench.bucket.sync({}, sent_at, cost)


def raw(headers: Mapping[str, str], sent_at: float = 0.0) -> Event:
    return lambda bench: bench.bucket.sync(headers, sent_at)


def pause(seconds: float) -> Event:
    return lambda bench: bench.bucket.pause(seconds)


def succeeded(bench: Bench) -> None:
    bench.bucket.succeeded()


def nothing(_bench: Bench) -> None:
    pass


Row = tuple[float, Event, int | None, float | None]  # time, event, tokens after it, wait after it

TABLES: dict[str, tuple[dict[str, Any], list[Row]]] = {
    "it starts from 150 in 30 s, spread evenly": (
        {},
        [(0, nothing, 150, 0), (0, take(), 149, 0.2), (0.2, take(), 148, 0.2)],
    ),
    "without an answer, what is in flight stays taken": (
        {},
        [(0, take(5), 145, 0.2), (29, nothing, 145, 0), (30, nothing, 145, 0)],
    ),
    "the first answer corrects the guess: Pro's 450": (
        {},
        [(0, take(), 149, 0.2), (0.1, answer(quota=450, left=449, reset=29.95), 449, 0)],
    ),
    "an unlimited plan is not slowed by the guess": (
        {},
        [(0, take(5), 145, 0.2), (0.1, answer(quota=UNLIMITED, left=9**8, reset=29.9), 1000, 0)],
    ),
    "a start in mid-window: 30 left, and 5 s": (
        {},
        [
            (0, take(), 149, None),
            (0.1, answer(left=30, reset=4.95), 30, None),
            (4.9, nothing, 30, 0),
            (5.06, nothing, 150, 0),
        ],
    ),
    "left minus in flight": ({}, [(0, take(5), 145, None), (0.1, answer(left=149, reset=29.9), 145, None)]),
    "answers out of order: within a window left only falls": (
        {},
        [
            (0, take(3), 147, None),
            (0.2, answer(left=147, reset=29.9), 145, None),
            (0.2, answer(left=149, reset=29.9), 146, None),
            (0.2, answer(left=148, reset=29.9), 147, None),
        ],
    ),
    "a late answer of the last window is ignored": (
        {},
        [
            (0, take(2), 148, None),
            (0.1, answer(left=149, reset=29.95), 148, None),
            (29.9, take(1), None, None),
            (30.2, nothing, 148, None),  # two of the last window are still in flight
            (30.3, answer(29.9, left=1, reset=0.05), 149, None),
        ],
    ),
    "a new window told by an answer before the clock says so": (
        {},
        [
            (0, take(1), 149, None),
            (0.4, answer(left=149, reset=29.6), 149, None),  # it ends at 29.6 … 30.0
            (29.65, take(1), None, None),
            (29.7, answer(29.65, left=149, reset=29.94), 149, 0),
        ],
    ),
    "rollover with requests in flight: the new window may count them": (
        {},
        [
            (0, take(1), 149, None),
            (0.1, answer(left=149, reset=29.9), 149, None),
            (29.8, take(4), 145, None),
            (30.1, nothing, 146, None),
        ],
    ),
    "a quota that grows in mid-run": (
        {},
        [
            (0, take(2), 148, None),
            (0.1, answer(left=148, reset=29.9), 147, None),
            (0.1, answer(quota=450, left=447, reset=29.9), 447, None),
        ],
    ),
    "a quota that shrinks in mid-run": (
        {},
        [
            (0, take(2), 148, None),
            (0.1, answer(quota=450, left=448, reset=29.9), 447, None),
            (0.2, answer(0.1, quota=150, left=10, reset=29.9), 10, None),
            (30.1, nothing, 150, 0),
        ],
    ),
    "an answer from before the quota changed does not change it back": (
        {},
        [
            (0, take(3), 147, None),
            (0.1, answer(quota=450, left=448, reset=29.9), 446, None),
            (0.2, answer(0.15, quota=150, left=2, reset=29.8), 1, None),
            (0.3, answer(0.0, quota=450, left=447, reset=29.9), 2, None),
        ],
    ),
    "another app's use is followed within one answer": (
        {},
        [
            (0, take(2), 148, None),
            (0.1, answer(left=149, reset=29.9), 148, None),
            (15, answer(14.9, left=0, reset=15.0), 0, 15.0),
        ],
    ),
    "an answer without headers was counted, for all we know": (
        {},
        [(0, take(2), 148, None), (0.1, lost(), 148, None), (0.2, lost(), 148, None)],
    ),
    "a 30 s guess, and a store whose windows are 3 s": (
        {},
        [
            (0, take(), 149, 0.2),
            (0.03, answer(left=149, reset=3.0, window=3.0), 149, 0),
            (3.05, nothing, 150, 0),
        ],
    ),
    "rate_limit is a ceiling a window": (
        {"ceiling": 60},
        [
            (0, take(), 59, 0.5),
            (0.1, answer(left=149, reset=29.9), 59, None),
            (1, take(59), 0, 29.0),
            (30.2, nothing, 1, None),  # 59 are still in flight
        ],
    ),
    "a ceiling above the store's quota changes nothing": (
        {"ceiling": 400},
        [(0, take(), 149, 0.2), (0.1, answer(left=100, reset=29.9), 100, None)],
    ),
    "the reserve is left to other apps": (
        {"reserve": 40},
        [(0, nothing, 110, 0), (0, take(), 109, None), (0.1, answer(left=41, reset=29.9), 1, None)],
    ),
    "a batch may cost as many tokens as it has ids": (
        {},
        [
            (0, take(1, cost=10), 140, 2.0),
            (0.1, answer(cost=10, left=140, reset=29.9), 140, None),
            (1, take(13, cost=10), 10, None),
        ],
    ),
    "a 429 pauses, then one at a time until one succeeds": (
        {},
        [
            (0, take(2), 148, None),
            (0.1, answer(left=0, reset=5.0), 0, None),
            (0.1, pause(5.0), 0, None),
            (0.2, answer(left=0, reset=4.9), 0, None),
            (5.2, nothing, 1, 0),
            (5.2, take(), 0, None),
            (5.3, answer(5.2, left=149, reset=29.9), 1, None),
            (5.3, succeeded, 149, 0),
        ],
    ),
}


def replay(options: dict[str, Any], rows: Sequence[Row]) -> Bench:
    bench = Bench(**options)
    for moment, event, _, _ in rows:
        bench.now = moment
        event(bench)
    return bench


@pytest.mark.parametrize("name", TABLES)
def test_follows_the_store(name: str) -> None:
    """After each row of the table: the tokens to be had at once, and the wait for the next."""
    options, rows = TABLES[name]
    for count in range(1, len(rows) + 1):
        moment, _, tokens, wait = rows[count - 1]
        if tokens is not None:
            assert replay(options, rows[:count]).tokens() == tokens, (name, moment)
        if wait is not None:
            assert replay(options, rows[:count]).wait() == pytest.approx(wait, abs=0.11), moment


GARBAGE = ("", "x", "-1", "1.5", "1e3", "٣", "9" * 40, " ", "null", "0x10")


@pytest.mark.parametrize("text", GARBAGE)
@pytest.mark.parametrize("name", ["Time-Window-Ms", "Time-Reset-Ms", "Requests-Quota", "Requests-Left"])
def test_garbage_in_one_header_spoils_no_other(name: str, text: str) -> None:
    """No header makes it fail, and what the others say is still taken in."""
    headers = quota_headers(quota=450, left=300, reset=20.0) | {f"X-Rate-Limit-{name}": text}
    bench = replay({}, [(0, take(), None, None), (0.1, raw(headers), None, None)])
    known = 449 if name == "Requests-Left" else 150 if name == "Requests-Quota" else 300
    assert bench.tokens() in (known, 149)


@pytest.mark.parametrize("present", list(itertools.product((False, True), repeat=4)))
def test_any_of_the_headers_may_be_missing(present: tuple[bool, ...]) -> None:
    """It goes on with those that came, never with more tokens than they tell of."""
    every = quota_headers(left=100, reset=20.0)
    headers = dict(itertools.compress(every.items(), present))
    bench = replay({}, [(0, take(), None, None), (0.1, raw(headers), None, None)])
    assert bench.tokens() == (100 if present[3] else 149)


@pytest.mark.parametrize(
    ("options", "largest"),
    [({}, 150), ({"reserve": 40}, 110), ({"ceiling": 60}, 60), ({"ceiling": 5, "reserve": 1}, 5)],
)
def test_more_than_a_window_has_is_too_costly(options: dict[str, int], largest: int) -> None:
    """What no window ever has is refused at once, and nobody behind it is kept waiting."""
    bench = Bench(**options)
    assert bench.bucket.largest() == largest
    with pytest.raises(TooCostly):
        bench.bucket.acquire(largest + 1)
    bench.take()


def test_what_was_affordable_may_become_too_costly() -> None:
    """A quota that shrinks while one waits for tokens ends the wait."""
    bench = replay({}, [(0, take(), None, None), (1, answer(quota=8, left=0, reset=29), None, None)])
    with pytest.raises(TooCostly):
        bench.bucket.acquire(10)


@pytest.mark.parametrize(("demand", "wait"), [(10, 0.0), (148, 0.0), (149, 0.0), (150, 0.2), (math.inf, 0.2)])
def test_full_speed_when_the_rest_of_the_job_fits(demand: float, wait: float) -> None:
    """Spread evenly over the window, but for a job that the window's tokens can end."""
    bench = Bench()
    bench.take()
    bench.bucket.expect(demand)
    bench.bucket.acquire()
    assert bench.now == pytest.approx(wait, abs=0.01)


def test_even_spread() -> None:
    """150 requests in a window, each a little after the last: no spike, no silence."""
    bench = Bench()
    times = []
    for _ in range(150):
        bench.wait()
        times.append(bench.now)
        bench.bucket.sync(quota_headers(left=150 - len(times), reset=30 - bench.now), bench.now)
    gaps = [later - sooner for sooner, later in itertools.pairwise(times)]
    assert 0.15 < min(gaps) <= max(gaps) < 0.25
    assert times[-1] < 30


def test_a_sleep_that_raises_leaves_the_queue() -> None:
    """One that is stopped while it waits does not block those behind it."""
    bench = Bench()
    bench.take(150)
    with pytest.raises(NoToken):
        bench.take()
    bench.may_sleep = True
    for _ in range(150):
        bench.bucket.sync({}, bench.now)
    assert bench.wait() == pytest.approx(30, abs=0.2)


def test_tells_what_is_waited_for() -> None:
    """A pause and a used-up quota are named; a short wait is not worth a word."""
    bench = Bench()
    assert bench.bucket.waiting() == ""
    bench.take(150)
    assert bench.bucket.waiting() == "quota used, next in 30 s"
    bench.bucket.pause(12)
    assert bench.bucket.waiting() == "the store says wait: 12 s"


def test_counts_refusals_in_a_row() -> None:
    """A pause returns how many there were since the last success."""
    bench = Bench()
    assert [bench.bucket.pause(1) for _ in range(3)] == [1, 2, 3]
    bench.bucket.succeeded()
    assert bench.bucket.pause(1) == 1


# --- a simulated store ---------------------------------------------------------------------------


class Over(BaseException):
    """Ends a simulated worker."""


class VirtualTime:
    """Virtual time: its threads take turns, and it jumps to the next that wants to wake."""

    def __init__(self) -> None:
        self.now = 0.0
        self._wakes: list[tuple[float, int, threading.Semaphore]] = []
        self._order = itertools.count()
        self._turn = threading.Semaphore(0)
        self._running: threading.Semaphore
        self._over = False
        self.errors: list[BaseException] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        """What a worker calls to let time pass."""
        mine = self._running
        until = self.now + max(seconds, 1e-6)  # no sleep is shorter than a clock's tick
        heapq.heappush(self._wakes, (until, next(self._order), mine))
        self._turn.release()
        mine.acquire()
        if self._over:
            raise Over

    def start(self, work: Callable[[], None]) -> None:
        gate = threading.Semaphore(0)

        def body() -> None:
            gate.acquire()
            try:
                if not self._over:
                    work()
            except Over:
                pass
            except BaseException as error:  # it is raised in the test's own thread
                self.errors.append(error)
            finally:
                self._turn.release()

        threading.Thread(target=body, daemon=True).start()
        heapq.heappush(self._wakes, (self.now, next(self._order), gate))

    def run(self, until: float) -> None:
        """To the end of all work, which must come before that time."""
        late = False
        while self._wakes:
            at, _, gate = heapq.heappop(self._wakes)
            late = late or at > until
            self._over = self._over or late or bool(self.errors)
            self.now = max(self.now, at) if not late else self.now
            self._running = gate
            gate.release()
            self._turn.acquire()
        if self.errors:
            raise self.errors[0]
        assert not late, f"not done after {until} s of virtual time"


@dataclass
class ExactStore:
    """Fixed windows that begin at offset + n * window, each with exactly so many tokens."""

    time: VirtualTime
    quota: int = 150
    window: float = 30.0
    offset: float = 0.0
    rounding: Callable[[float], int] = math.ceil
    used: Counter[int] = field(default_factory=Counter)  # window -> tokens
    own: Counter[int] = field(default_factory=Counter)
    refused: Counter[int] = field(default_factory=Counter)  # window -> the tool's 429s

    def _count(self, cost: int) -> tuple[int, float, bool]:
        number, into = divmod(self.time.now - self.offset, self.window)
        granted = self.used[int(number)] + cost <= self.quota
        if granted:
            self.used[int(number)] += cost
        return int(number), self.window - into, granted

    def request(self, cost: int = 1) -> tuple[dict[str, str], bool]:
        """The answer's headers, and whether it was granted."""
        number, rest, granted = self._count(cost)
        (self.own if granted else self.refused)[number] += cost if granted else 1
        left = self.quota - self.used[number]
        headers = quota_headers(quota=self.quota, left=left, window=self.window)
        return headers | {"X-Rate-Limit-Time-Reset-Ms": str(self.rounding(rest * 1000))}, granted


@dataclass
class Job:
    """Requests to make with a pool of workers, as the tool does."""

    store: ExactStore
    requests: int
    latencies: Sequence[tuple[float, float]]  # to the store, and back
    cost: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    workers: int = WORKERS
    known: bool = True  # the bucket is told how many they are
    asked: list[int] = field(default_factory=list)
    granted: list[int] = field(default_factory=list)
    done: int = 0

    def run(self, until: float, *others: Callable[[], None]) -> None:
        time = self.store.time
        self.bucket = TokenBucket(clock=time.clock, sleep=time.sleep, **self.options)
        if self.known:
            self.bucket.expect(self.requests * self.cost)
        todo = deque(range(self.requests))
        latencies = itertools.cycle(self.latencies)
        tickets = itertools.count()

        def work() -> None:
            while todo:
                todo.pop()
                while not self.attempt(next(tickets), *next(latencies)):
                    pass
                self.done += 1
            if self.done == self.requests:
                time._over = True  # the others need not go on

        for _ in range(self.workers):
            time.start(work)
        for other in others:
            time.start(other)
        time.run(until)
        assert self.done == self.requests

    def attempt(self, ticket: int, there: float, back: float) -> bool:
        time, bucket = self.store.time, self.bucket
        self.asked.append(ticket)
        bucket.acquire(self.cost)
        self.granted.append(ticket)
        sent_at = time.now
        time.sleep(there)
        headers, granted = self.store.request(self.cost)
        time.sleep(back)
        bucket.sync(headers, sent_at, self.cost)
        if granted:
            bucket.succeeded()
        else:
            bucket.pause(float(headers["X-Rate-Limit-Time-Reset-Ms"]) / 1000)
        return granted


simulated = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
shares = st.floats(0, 1, allow_nan=False)
roundings = st.sampled_from([math.ceil, math.floor, round])
short = st.tuples(st.floats(0, 0.01), st.floats(0, 0.01))  # of a window


def any_latency(longest: float) -> st.SearchStrategy[list[tuple[float, float]]]:
    one_way = st.one_of(st.floats(0, 0.02), st.floats(0, longest))
    return st.lists(st.tuples(one_way, one_way), min_size=1, max_size=12)


def scaled(latencies: Sequence[tuple[float, float]], window: float) -> list[tuple[float, float]]:
    return [(there * window, back * window) for there, back in latencies]


@simulated
@given(
    quota=st.integers(25, 200),
    window=st.sampled_from([3.0, 30.0]),
    offset=shares,
    rounding=roundings,
    latencies=any_latency(1.3),
    ahead=st.integers(0, 100),
    known=st.booleans(),
)
@example(150, 30.0, 0.0, math.ceil, [(0.5, 0.6), (0.001, 0.001)], 0, True)
@example(25, 3.0, 0.9, math.ceil, [(0.3, 0.3)], 0, True)
@example(40, 3.0, 0.99, math.floor, [(0.0, 0.02), (0.02, 0.0)], 0, True)
def test_alone_it_never_exceeds_the_quota(
    quota: int,
    window: float,
    offset: float,
    rounding: Callable[[float], int],
    latencies: list[tuple[float, float]],
    ahead: int,
    known: bool,
) -> None:
    """Alone on a store that counts exactly: no 429, whatever the latencies and their order.

    Also not when the first window was partly used before, by an earlier run.
    """
    store = ExactStore(VirtualTime(), quota, window, -offset * window, rounding)
    store.used[0] = min(ahead, quota - 25)
    job = Job(store, quota * 2, scaled(latencies, window), known=known)
    job.run(until=window * (60 + quota * 2))
    assert not store.refused
    assert max(store.used.values()) <= quota


@simulated
@given(
    quota=st.integers(30, 450),
    window=st.sampled_from([3.0, 30.0]),
    offset=shares,
    rounding=roundings,
    latencies=st.lists(short, min_size=1, max_size=12),
)
@example(450, 3.0, 0.0, math.ceil, [(0.0, 0.003)])
def test_no_token_is_lost(
    quota: int,
    window: float,
    offset: float,
    rounding: Callable[[float], int],
    latencies: list[tuple[float, float]],
) -> None:
    """With enough to do and quick answers, every full window is used to the last few tokens."""
    share = WORKERS / quota / 2  # five workers can do that many, and more
    quick = [(there * share / 0.01, back * share / 0.01) for there, back in latencies]
    store = ExactStore(VirtualTime(), quota, window, -offset * window, rounding)
    Job(store, quota * 5, scaled(quick, window), known=False).run(until=window * 20)
    assert not store.refused
    for number in range(1, max(store.used)):
        assert store.used[number] >= quota - WORKERS, store.used


@simulated
@given(
    window=st.sampled_from([3.0, 30.0]),
    offset=shares,
    latencies=any_latency(0.3),
    gaps=st.lists(st.floats(0.001, 0.5), min_size=1, max_size=10),
    burst=st.integers(1, 60),
)
def test_with_others_at_most_five_refusals_a_window(
    window: float, offset: float, latencies: list[tuple[float, float]], gaps: list[float], burst: int
) -> None:
    """However another app behaves: those in flight may be refused, and after that nobody asks."""
    store = ExactStore(VirtualTime(), 150, window, -offset * window)
    job = Job(store, 300, scaled(latencies, window))
    time = store.time
    begun = time.now

    def other() -> None:
        for gap in itertools.cycle(gaps):
            time.sleep(gap * window)
            if time.now - begun > 8 * window:
                return  # it may be greedy, but not for ever
            for _ in range(burst):
                store._count(1)

    job.run(window * 200, other)
    assert not store.refused or max(store.refused.values()) <= WORKERS


@simulated
@given(
    rate=st.floats(0.05, 0.8),
    window=st.sampled_from([3.0, 30.0]),
    offset=shares,
    latencies=st.lists(short, min_size=1, max_size=12),
)
def test_next_to_a_steady_app_the_windows_are_shared(
    rate: float, window: float, offset: float, latencies: list[tuple[float, float]]
) -> None:
    """What the other app takes is left to it to the end; the rest is used: 97 %, and no spike."""
    store = ExactStore(VirtualTime(), 150, window, -offset * window)
    wanted = Counter[int]()
    time = store.time

    def other() -> None:
        while True:
            time.sleep(window / (150 * rate))
            number, _, granted = store._count(1)
            wanted[number] += not granted

    Job(store, 400, scaled(latencies, window), known=False).run(window * 100, other)
    full = range(2, max(store.own))
    for number in full:
        assert store.used[number] >= 150 * 0.95, store.used
    assert sum(store.refused.values()) <= 0.01 * 400
    assert sum(wanted[number] for number in full) <= 0.01 * 150 * len(full)


@simulated
@given(latencies=any_latency(0.2), quota=st.integers(25, 450), workers=st.integers(2, 5))
def test_first_come_first_served(latencies: list[tuple[float, float]], quota: int, workers: int) -> None:
    """Tokens are given in the order in which they were asked for, so every worker gets its turn."""
    store = ExactStore(VirtualTime(), quota, 3.0)
    job = Job(store, quota + 100, scaled(latencies, 3.0), workers=workers, known=False)
    job.run(until=3.0 * 400)
    assert job.granted == job.asked


@simulated
@given(cost=st.integers(1, 12), quota=st.integers(60, 200), latencies=any_latency(0.3))
def test_costly_batches_never_exceed_the_quota(
    cost: int, quota: int, latencies: list[tuple[float, float]]
) -> None:
    """With count_items a batch takes as many tokens as it has ids, and waits for all of them."""
    store = ExactStore(VirtualTime(), quota, 3.0)
    job = Job(store, 3 * quota // cost, scaled(latencies, 3.0), cost=cost)
    job.run(until=3.0 * 400)
    assert not store.refused
    assert max(store.used.values()) <= quota


@simulated
@given(ceiling=st.integers(5, 150), reserve=st.integers(0, 60), latencies=any_latency(0.3))
def test_ceiling_and_reserve_hold_in_every_window(
    ceiling: int, reserve: int, latencies: list[tuple[float, float]]
) -> None:
    """Of 150: never more than rate_limit, and never the last that are left to other apps."""
    store = ExactStore(VirtualTime(), 150, 3.0)
    options = {"ceiling": ceiling, "reserve": reserve}
    Job(store, 3 * ceiling, scaled(latencies, 3.0), options=options).run(until=3.0 * 400)
    assert max(store.used.values()) <= min(ceiling, 150 - reserve)


@simulated
@given(
    before=st.integers(60, 450),
    after=st.integers(60, 450),
    moment=st.floats(0.1, 2.5),
    latencies=any_latency(0.05),
)
def test_a_quota_that_changes_in_mid_run(
    before: int, after: int, moment: float, latencies: list[tuple[float, float]]
) -> None:
    """At most those in flight at the change are refused, and the job ends."""
    store = ExactStore(VirtualTime(), before, 3.0)

    def change() -> None:
        store.time.sleep(moment * 3.0)
        store.quota = after

    job = Job(store, 3 * max(before, after), scaled(latencies, 3.0), known=False)
    job.run(3.0 * 400, change)
    assert sum(store.refused.values()) <= WORKERS
