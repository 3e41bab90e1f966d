"""Rate limiting: the token bucket in virtual time, and runs against stores with small quotas.

The simulations never look at a real clock. Every worker is a thread, but only one of them runs
at a time, and time passes only while all of them sleep: the same draw, the same run.
"""

from __future__ import annotations

import heapq
import itertools
import math
import re
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bulk_delete import TokenBucket
from tests.fake_store import FakeStore
from tests.rigged import MakeStore, Outcome, RiggedTool, assert_says, counts

WORKERS = 5
QUOTA_HEADERS = ("Time-Window-Ms", "Time-Reset-Ms", "Requests-Quota", "Requests-Left")
GARBAGE = (
    *("", "x", "-1", "1.5", "1e3", "1e999", "٣", "½", "²", "9" * 400, " ", "null", "0x10"),
    "150, 150",
)


def quota_headers(
    *, quota: object = 150, left: object = None, reset: object = None, window: object = 30.0
) -> dict[str, str]:
    """Return BigCommerce's four headers: None leaves one out, text is taken as it is."""

    def ms(seconds: object) -> object:
        return math.ceil(seconds * 1000) if isinstance(seconds, (int, float)) else seconds

    values = dict(zip(QUOTA_HEADERS, (ms(window), ms(reset), quota, left), strict=True))
    return {f"X-Rate-Limit-{k}": str(v) for k, v in values.items() if v is not None}


# --- tables ---------------------------------------------------------------------------------


class NoToken(Exception):
    """Raised by a sleep that must not happen."""


class Bench:
    """One bucket, and one clock that only its sleep moves."""

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
        """Take tokens at full speed, without any wait."""
        self.may_sleep = False
        self.bucket.set_remaining(0)
        for _ in range(count):
            self.bucket.acquire(cost)
        self.may_sleep = True

    def tokens(self, most: int = 1000) -> int:
        """Take all the tokens there are, up to that many, and return their number."""
        for count in range(most):
            try:
                self.take()
            except NoToken:
                self.may_sleep = True
                return count
        return most

    def wait(self, cost: int = 1) -> float:
        """Take tokens when much work remains, and return how long that took."""
        began = self.now
        self.bucket.set_remaining(math.inf)
        self.bucket.acquire(cost)
        return self.now - began


# Title and options of the bucket; then a line for each moment: the time, what happens, how many
# tokens can be taken at once after it, and how long one token takes while much work remains.
TABLES = """
starts from 150 in 30 s, spread evenly
    0    | -                                          | 150 | 0
    0    | take                                       | 149 | 0.2
    0.2  | take                                       | 148 | 0.2
a request in flight keeps its token
    0    | take count=5                               | 145 | 0.2
    29   | -                                          | 145 | 0
    30   | -                                          | 145 | 0
the first answer corrects the guess: 450 of a Pro store
    0    | take                                       | 149 | 0.2
    0.1  | answer quota=450 left=449 reset=29.95      | 449 | 0
an unlimited plan is not slowed by the guess
    0    | take count=5                               | 145 | 0.2
    0.1  | answer quota=16101495 left=9**8 reset=29.9 | 1000 | 0
a start in mid-window: 30 left, and 5 s
    0    | take                                       | 149 |
    0.1  | answer left=30 reset=4.95                  | 30  |
    4.9  | -                                          | 30  | 0
    5.06 | -                                          | 150 | 0
left minus in flight
    0    | take count=5                               | 145 |
    0.1  | answer left=149 reset=29.9                 | 145 |
answers out of order: within a window left only falls
    0    | take count=3                               | 147 |
    0.2  | answer left=147 reset=29.9                 | 145 |
    0.2  | answer left=149 reset=29.9                 | 146 |
    0.2  | answer left=148 reset=29.9                 | 147 |
a late answer of the last window is ignored, and two of it are still in flight
    0    | take count=2                               | 148 |
    0.1  | answer left=149 reset=29.95                | 148 |
    29.9 | take                                       |     |
    30.2 | -                                          | 148 |
    30.3 | answer sent=29.9 left=1 reset=0.05         | 149 |
an answer of the new window, which begins at 29.6 to 30 s
    0    | take                                       | 149 |
    0.4  | answer left=149 reset=29.6                 | 149 |
    29.65 | take                                      |     |
    29.7 | answer sent=29.65 left=149 reset=29.94     | 149 | 0
a new window may count requests in flight
    0    | take                                       | 149 |
    0.1  | answer left=149 reset=29.9                 | 149 |
    29.8 | take count=4                               | 145 |
    30.1 | -                                          | 146 |
a quota that grows
    0    | take count=2                               | 148 |
    0.1  | answer left=148 reset=29.9                 | 147 |
    0.1  | answer quota=450 left=447 reset=29.9       | 447 |
a quota that shrinks
    0    | take count=2                               | 148 |
    0.1  | answer quota=450 left=448 reset=29.9       | 447 |
    0.2  | answer sent=0.1 left=147 reset=29.9        | 147 |
another app's use is followed within one answer
    0    | take count=2                               | 148 |
    0.1  | answer left=149 reset=29.9                 | 148 |
    15   | answer sent=14.9 left=0 reset=15           | 0   | 15
an answer without headers counts as a request
    0    | take count=2                               | 148 |
    0.1  | unanswered                                 | 148 |
    0.2  | unanswered                                 | 148 |
windows of 3 s instead of 30 s
    0    | take                                       | 149 | 0.2
    0.03 | answer left=149 reset=3.0 window=3.0       | 149 | 0
    3.05 | -                                          | 150 | 0
rate_limit is a ceiling per window, and 59 are still in flight in the next; ceiling=60
    0    | take                                       | 59  | 0.5
    0.1  | answer left=149 reset=29.9                 | 59  |
    1    | take count=59                              | 0   | 29
    30.2 | -                                          | 1   |
a ceiling above the quota changes nothing; ceiling=400
    0    | take                                       | 149 | 0.2
    0.1  | answer left=100 reset=29.9                 | 100 |
the reserve is left to other apps; reserve=40
    0    | -                                          | 110 | 0
    0    | take                                       | 109 |
    0.1  | answer left=41 reset=29.9                  | 1   |
a batch may cost as many tokens as it has ids
    0    | take cost=10                               | 140 |
    0.1  | answer cost=10 left=140 reset=29.9         | 140 |
    1    | take count=13 cost=10                      | 10  |
a 429 pauses, then one request at a time until one succeeds
    0    | take count=2                               | 148 |
    0.1  | answer left=0 reset=5.0                    | 0   |
    0.1  | rate-limited                               | 0   |
    0.2  | answer left=0 reset=4.9                    | 0   |
    5.2  | -                                          | 1   | 0
    5.2  | take                                       | 0   |
    5.3  | answer sent=5.2 left=149 reset=29.9        | 1   |
    5.3  | success                                    | 149 | 0
"""
CASES = re.findall(r"^(\w[^;\n]*)(?:; (.*))?\n((?: +.*\n)+)", TABLES, re.MULTILINE)


def arguments(text: str) -> dict[str, Any]:
    return {key: eval(value) for key, value in (pair.split("=") for pair in text.split())}


def replay(options: dict[str, Any], rows: Sequence[Sequence[str]]) -> Bench:
    """Return a bench on which these rows of a table have happened."""
    bench = Bench(**options)
    for moment, event, *_ in rows:
        bench.now = float(moment)
        verb, _, rest = event.partition(" ")
        given = arguments(rest)
        sent_at, cost = given.pop("sent", 0.0), given.pop("cost", 1)
        match verb:
            case "take":
                bench.take(cost=cost, **given)
            case "answer":
                bench.bucket.update_from_headers(quota_headers(**given), sent_at, cost)
            case "unanswered":
                bench.bucket.update_from_headers({}, sent_at)
            case "rate-limited":
                bench.bucket.rate_limited(bench.now)
                bench.bucket.pause(5.0)
            case "success":
                bench.bucket.succeeded()
    return bench


@pytest.mark.parametrize(
    ("options", "table"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_the_bucket_follows_the_store(options: str, table: str) -> None:
    rows = [[cell.strip() for cell in line.split("|")] for line in table.splitlines()]
    for count, (*_, tokens, wait) in enumerate(rows, 1):
        done = rows[:count]
        if tokens:
            assert replay(arguments(options), done).tokens() == int(tokens), done[-1]
        if wait:
            expected = pytest.approx(float(wait), abs=0.11)
            assert replay(arguments(options), done).wait() == expected, done[-1]


def after_headers(headers: Mapping[str, str]) -> int:
    """Return the tokens left after one request that was answered with these headers."""
    bench = Bench()
    bench.take()
    bench.now = 0.1
    bench.bucket.update_from_headers(headers, 0.0)
    return bench.tokens()


def test_invalid_quota_header_affects_no_other() -> None:
    """Any of them may be missing, too."""
    known, sound = {"Left": 449, "Quota": 150}, quota_headers(quota=450, left=300, reset=20.0)
    for name, text in itertools.product(sound, (*GARBAGE, None)):
        headers = {k: v for k, v in (sound | {name: text}).items() if v is not None}
        most = known.get(name.rpartition("-")[2], 300)
        assert after_headers(headers) in (most, most - 1, 149), (name, text)


def test_endless_window_is_ignored() -> None:
    bench = Bench()
    bench.take()
    headers = quota_headers(left=0, reset=10.0**8, window=10.0**8)
    bench.bucket.update_from_headers(headers, 0.0)
    assert bench.wait() < 1000


def test_full_speed_when_the_rest_of_the_job_fits_into_the_window() -> None:
    for demand, wait in ((10, 0.0), (149, 0.0), (150, 0.2), (math.inf, 0.2)):
        bench = Bench()
        bench.take()
        bench.bucket.set_remaining(demand)
        bench.bucket.acquire()
        assert bench.now == pytest.approx(wait, abs=0.01), demand


def test_429s_in_a_row_are_counted_and_those_in_flight_together_once() -> None:
    bench, counted = Bench(), []
    for now, sent_at in ((1.0, 0.0), (1.1, 0.5), (2.0, 1.5), (3.0, 2.5)):
        bench.now = now
        counted.append(bench.bucket.rate_limited(sent_at))
    assert counted == [1, 1, 2, 3]
    bench.bucket.succeeded()
    assert bench.bucket.rate_limited(bench.now) == 1


# --- a simulated store ----------------------------------------------------------------------


class Over(BaseException):
    """Ends a simulated worker."""


class VirtualTime:
    """Virtual time: its threads take turns, and it jumps to the next one that wants to wake."""

    def __init__(self) -> None:
        self.now = 0.0
        self.over = False
        self._until = math.inf
        self._late = False
        self._wakes: list[tuple[float, int, Any]] = []  # time, order, the thread's gate
        self._order = itertools.count()
        self._running: Any = None  # the gate of the thread whose turn it is
        self._ended = self._closed()
        self._errors: list[BaseException] = []

    @staticmethod
    def _closed() -> Any:
        gate = threading.Lock()
        gate.acquire()
        return gate

    def sleep(self, seconds: float) -> None:
        """Let time pass: what a worker calls."""
        mine = self._running
        until = self.now + max(seconds, 1e-6)  # no sleep is shorter than a clock's tick
        heapq.heappush(self._wakes, (until, next(self._order), mine))
        if (following := self._next()) is not mine:
            following.release()
            mine.acquire()
        if self.over:
            raise Over

    def _next(self) -> Any:
        """Jump to the next wake, and return the gate of its thread."""
        at, _, self._running = heapq.heappop(self._wakes)
        self._late = self._late or at > self._until
        self.over = self.over or self._late or bool(self._errors)
        self.now = self.now if self._late else max(self.now, at)
        return self._running

    def start(self, work: Callable[[], None]) -> None:
        gate = self._closed()

        def body() -> None:
            gate.acquire()
            try:
                if not self.over:
                    work()
            except Over:
                pass
            except BaseException as error:  # raised in the test's own thread
                self._errors.append(error)
            (self._next() if self._wakes else self._ended).release()

        threading.Thread(target=body, daemon=True).start()
        heapq.heappush(self._wakes, (self.now, next(self._order), gate))

    def run(self, until: float) -> None:
        """Run all threads to their ends, which must come before that time."""
        self._until = until
        self._next().release()
        self._ended.acquire()
        if self._errors:
            raise self._errors[0]
        assert not self._late, f"not done after {until} s of virtual time"


@dataclass
class ExactStore:
    """Fixed windows that begin at offset + n * window, each with exactly so many tokens."""

    quota: int = 150
    window: float = 30.0
    offset: float = 0.0  # as a share of the window
    rounding: Callable[[float], int] = math.ceil
    time: VirtualTime = field(default_factory=VirtualTime)
    used: Counter[int] = field(default_factory=Counter)  # window -> tokens
    own: Counter[int] = field(default_factory=Counter)  # window -> the tool's tokens
    refused: Counter[int] = field(default_factory=Counter)  # window -> the tool's 429s

    def count(self, cost: int = 1) -> tuple[int, float, bool]:
        """Return the window of a request, the rest of it, and whether it is granted."""
        number, into = divmod(self.time.now + self.offset * self.window, self.window)
        granted = self.used[int(number)] + cost <= self.quota
        if granted:
            self.used[int(number)] += cost
        return int(number), self.window - into, granted

    def request(self, cost: int = 1) -> tuple[dict[str, str], bool]:
        """Return the headers of the answer, and whether the request was granted."""
        number, rest, granted = self.count(cost)
        (self.own if granted else self.refused)[number] += cost if granted else 1
        left = self.quota - self.used[number]
        reset = str(self.rounding(rest * 1000))
        headers = quota_headers(quota=self.quota, left=left, reset=reset, window=self.window)
        return headers, granted


@dataclass
class Job:
    """Requests of a pool of workers, sent as the tool sends them."""

    store: ExactStore
    requests: int
    latencies: Sequence[tuple[float, float]]  # to the store and back, as shares of a window
    cost: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    known: bool = True  # whether the bucket is told their number
    done: int = 0

    def run(self, windows: float, *others: Callable[[], None]) -> None:
        """Do all of it, within so many windows."""
        time = self.store.time
        self.bucket = TokenBucket(clock=lambda: time.now, sleep=time.sleep, **self.options)
        if self.known:
            self.bucket.set_remaining(self.requests * self.cost)
        todo = deque(range(self.requests))
        latencies = itertools.cycle(self.latencies)

        def work() -> None:
            while todo:
                todo.pop()
                while not self.attempt(*next(latencies)):
                    pass
                self.done += 1
            if self.done == self.requests:
                time.over = True  # the others need not go on

        for each in (*[work] * WORKERS, *others):
            time.start(each)
        time.run(windows * self.store.window)
        assert self.done == self.requests

    def attempt(self, there: float, back: float) -> bool:
        time, bucket = self.store.time, self.bucket
        bucket.acquire(self.cost)
        sent_at = time.now
        time.sleep(there * self.store.window)
        headers, granted = self.store.request(self.cost)
        time.sleep(back * self.store.window)
        bucket.update_from_headers(headers, sent_at, self.cost)
        if granted:
            bucket.succeeded()
        else:
            bucket.rate_limited(sent_at)
            bucket.pause(float(headers["X-Rate-Limit-Time-Reset-Ms"]) / 1000)
        return granted


simulated = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
Latencies = list[tuple[float, float]]


def stores(least: int, most: int, window: float | None = None) -> st.SearchStrategy[ExactStore]:
    windows = st.sampled_from([3.0, 30.0]) if window is None else st.just(window)
    roundings = st.sampled_from([math.ceil, math.floor, round])
    return st.builds(ExactStore, st.integers(least, most), windows, st.floats(0, 1), roundings)


def latency(longest: float, usual: float = 0.02) -> st.SearchStrategy[Latencies]:
    one_way = st.one_of(st.floats(0, usual), st.floats(0, longest))
    return st.lists(st.tuples(one_way, one_way), min_size=1, max_size=12)


quick = latency(0.01, 0.01)


@simulated
@given(stores(25, 200), latency(1.3), st.integers(0, 100), st.booleans())
@example(ExactStore(150), [(0.5, 0.6), (0.001, 0.001)], 0, True)
@example(ExactStore(25, 3.0, 0.9), [(0.3, 0.3)], 0, True)
@example(ExactStore(40, 3.0, 0.99, math.floor), [(0.0, 0.02), (0.02, 0.0)], 0, True)
def test_alone_never_over_quota(
    store: ExactStore, latencies: Latencies, ahead: int, known: bool
) -> None:
    """No 429, whatever the latencies, also when an earlier run used part of a window."""
    store.used[0] = min(ahead, store.quota - 25)
    Job(store, store.quota * 2, latencies, known=known).run(60 + store.quota * 2)
    assert not store.refused
    assert max(store.used.values()) <= store.quota


@simulated
@given(stores(30, 150), quick)
@example(ExactStore(450, 3.0), [(0.0, 0.003)])
def test_no_token_is_lost(store: ExactStore, latencies: Latencies) -> None:
    """With enough work and quick answers, full windows are used to their last few tokens."""
    share = WORKERS / store.quota / 2 / 0.01  # five workers can do that many, and more
    in_time = [(there * share, back * share) for there, back in latencies]
    Job(store, store.quota * 4, in_time, known=False).run(20)
    assert not store.refused
    for number in range(1, max(store.used)):
        assert store.used[number] >= store.quota - WORKERS, store.used


@simulated
@given(
    stores(150, 150),
    latency(0.3),
    st.lists(st.floats(0.001, 0.5), min_size=1, max_size=10),
    st.integers(1, 60),
)
def test_beside_any_other_app(
    store: ExactStore, latencies: Latencies, gaps: list[float], burst: int
) -> None:
    """Those in flight may get a 429, and after that no more are sent."""

    def other() -> None:
        for gap in itertools.cycle(gaps):
            store.time.sleep(gap * store.window)
            if store.time.now > 8 * store.window:  # it may be greedy, but not forever
                return
            for _ in range(burst):
                store.count()

    Job(store, 200, latencies).run(200, other)
    assert not store.refused or max(store.refused.values()) <= WORKERS


@simulated
@given(st.floats(0.05, 0.8), stores(150, 150), quick)
def test_beside_a_steady_app(rate: float, store: ExactStore, latencies: Latencies) -> None:
    """What the other app takes is left to it to the end, and 95 % and more are used."""
    denied = Counter[int]()

    def other() -> None:
        while True:
            store.time.sleep(store.window / (150 * rate))
            number, _, granted = store.count()
            denied[number] += not granted

    Job(store, 400, latencies, known=False).run(100, other)
    full = range(2, max(store.own))
    assert all(store.used[number] >= 150 * 0.95 for number in full), store.used
    assert store.refused.total() <= 0.01 * 400
    assert sum(denied[number] for number in full) <= 0.01 * 150 * len(full)


@simulated
@given(
    stores(150, 150, 3.0),
    latency(0.3),
    st.integers(5, 150),
    st.integers(0, 60),
    st.integers(1, 5),
)
def test_ceiling_reserve_and_cost(
    store: ExactStore, latencies: Latencies, ceiling: int, reserve: int, cost: int
) -> None:
    options = {"ceiling": ceiling, "reserve": reserve}
    Job(store, 3 * ceiling // cost, latencies, cost=cost, options=options).run(400)
    assert not store.refused
    assert max(store.used.values()) <= min(ceiling, 150 - reserve)


# --- stores whose limit counts items --------------------------------------------------------


def assert_each_done_once(store: FakeStore, outcome: Outcome, planned: set[int]) -> None:
    """All are deleted, each by one DELETE (a store does as many ids as there are tokens)."""
    assert outcome.status == 0, outcome.text
    assert not store.customers
    deletes = [request for request in store.deletes() if request.counted]
    done = Counter(number for request in deletes for number in request.ids[: request.cost])
    assert done == dict.fromkeys(planned, 1)
    assert counts(outcome) == {"deleted": len(planned)}
    assert outcome.summary["retries"] == 0


def test_count_items_paces_by_items(make_store: MakeStore, tool: RiggedTool) -> None:
    store = make_store(customers=400, quota=150, window=1.0, count_items=True)
    planned = set(store.customers)
    assert_each_done_once(store, tool.run(store, count_items=True), planned)
    in_part = [r for r in store.deletes() if r.counted and r.cost < len(r.ids)]
    assert len(in_part) <= 3
    assert max(store.windows().values()) <= 150


@pytest.mark.parametrize("option", [True, False])
@pytest.mark.parametrize(("customers", "quota", "others"), [(90, 60, 20), (12, 8, 0.1)])
def test_partly_accepted_batches(
    make_store: MakeStore,
    tool: RiggedTool,
    customers: int,
    quota: int,
    others: float,
    option: bool,
) -> None:
    """Because of another app, or of a quota below a batch; all is deleted in the end."""
    store = make_store(
        customers=customers, quota=quota, window=1.0, latency=0.02, count_items=True
    )
    planned = set(store.customers)
    with store.other_app(per_second=others):
        assert_each_done_once(store, tool.run(store, count_items=option), planned)


# --- reserve and headers --------------------------------------------------------------------


def test_a_reserve_above_the_first_guess(make_store: MakeStore, tool: RiggedTool) -> None:
    """A reserve of 200 fits a quota of 450, and is refused where the quota is 150."""
    assert tool.run(make_store(customers=30, quota=450), min_requests_remaining=200).status == 0
    store = make_store(customers=30, quota=150)
    outcome = tool.run(store, min_requests_remaining=200)
    assert outcome.status == 2
    assert_says(outcome, "min_requests_remaining")
    assert not store.deletes()
