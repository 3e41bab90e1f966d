"""What runs in a child process: the tool, in surroundings that are rigged.

Nothing of the tool itself is replaced, only the clocks, os.fsync, the locks and the limit on file sizes.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import IO, Any, Self

# What is loaded once, in the process that all children are forked from.
FSYNCS, LOCKS = "fsyncs.jsonl", "locks"  # files in the folder of the run
UNDER_A_LOCK = 99
KILL = getattr(signal, "SIGKILL", 9)  # Windows has no name for it, and no other signal to send
PRELOADED = ["tests.launcher", "tests.preloaded"]


@dataclass(frozen=True, kw_only=True)
class Rig:
    """What is rigged."""

    speed: float = 50.0  # the tool's clock for waiting; the store's own is never rigged
    later: float = 0.0  # seconds that the wall clock is ahead
    jump: float = 0.0  # seconds that the wall clock jumps to and fro, at every look at it
    kill_at_fsync: int = 0  # kill -9 at the n-th fsync; 0: never
    kill_before: bool = False  # before that fsync, not after it
    note_fsyncs: bool = False  # write path and size of what each fsync saved to FSYNCS
    watch_locks: bool = (
        False  # end with UNDER_A_LOCK at a wait with one of the tool's locks held
    )
    file_limit: int | None = None  # bytes that any file can have: beyond them a write fails


class Clock:
    """The clock for waiting, which goes that many times as fast as the true one."""

    speed = 1.0

    @classmethod
    def install(cls) -> None:
        """Put it into the place of time.monotonic and time.sleep, for all that is imported after it."""
        # The finer clock: before Python 3.13 the other one goes by 16 ms on Windows.
        monotonic, sleep = time.perf_counter, time.sleep
        time.monotonic = lambda: monotonic() * cls.speed
        time.sleep = lambda seconds: sleep(float(seconds) / cls.speed)


def set_wall_clock(later: float, jump: float) -> None:
    """Let the wall clock be late by so many seconds, and jump to and fro at every look at it."""
    now, turn = time.time, itertools.count()

    def shifted() -> float:
        return now() + later + jump * (next(turn) % 2)

    class Rigged(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Self:
            return cls.fromtimestamp(shifted(), tz)

    time.time = shifted
    time.time_ns = lambda: int(shifted() * 1e9)
    datetime.datetime = Rigged  # type: ignore[misc]
    del sys.modules["bulk_delete"]  # it is imported again, with the class of this name


def kill_at_fsync(number: int, *, before: bool) -> None:
    """End this process as `kill -9` does, right before or after its n-th fsync."""
    turn, lock = itertools.count(1), threading.Lock()

    def rigged(fsync: Callable[[int], None]) -> Callable[[int], None]:
        def call(handle: int) -> None:
            with lock:
                last = next(turn) == number
            if last and before:
                os.kill(os.getpid(), KILL)
            fsync(handle)
            if last:
                os.kill(os.getpid(), KILL)

        return call

    os.fsync = os.fdatasync = rigged(os.fsync)  # type: ignore[assignment]


def note_fsyncs() -> None:
    """Write a line for each fsync, once it is done: the path, and how many bytes there were."""
    fsync, notes = os.fsync, open(FSYNCS, "a", buffering=1)  # noqa: SIM115  # held to the end

    def noted(handle: int) -> None:
        size = os.fstat(handle).st_size
        fsync(handle)
        notes.write(json.dumps([os.readlink(f"/proc/self/fd/{handle}"), size]) + "\n")

    os.fsync = os.fdatasync = noted  # type: ignore[assignment]


def watch_locks() -> None:
    """End this process when a thread waits for anything with a lock that the tool made."""
    held = threading.local()
    make = threading.Lock

    class Watched:
        def __init__(self) -> None:
            self._lock = make()
            self.locked = self._lock.locked
            open(LOCKS, "a").close()

        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
            taken = self._lock.acquire(blocking, timeout)
            held.count = getattr(held, "count", 0) + taken
            return taken

        def release(self) -> None:
            held.count -= 1
            self._lock.release()

        def __enter__(self) -> bool:
            return self.acquire()

        def __exit__(self, *exception: object) -> None:
            self.release()

    def lock() -> Any:
        return Watched() if sys._getframe(1).f_globals["__name__"] == "bulk_delete" else make()

    def checked(wait: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if getattr(held, "count", 0):
                os._exit(UNDER_A_LOCK)
            return wait(*args, **kwargs)

        return call

    threading.Lock = lock  # type: ignore[assignment]
    time.sleep = checked(time.sleep)
    threading.Condition.wait = checked(threading.Condition.wait)  # type: ignore[method-assign]


def hand_over(
    file: IO[str], rig: Rig, argv: list[str], environ: Mapping[str, str], folder: str
) -> None:
    """Write what `started` reads; of a process that has ended by then, its own output says why."""
    with contextlib.suppress(OSError), file:
        json.dump([asdict(rig), argv, dict(environ), folder], file)


def started() -> None:
    """What a process does that was started anew: it is told on stdin what to run."""
    rig, argv, environ, folder = json.load(sys.stdin)
    run(Rig(**rig), argv, environ, folder)


def forked(
    rig: Rig,
    argv: list[str],
    environ: Mapping[str, str],
    folder: str,
    out: Connection,
    err: Connection,
) -> None:
    """What a forked process does: it is given the ends of two pipes."""
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    out.close()
    err.close()
    run(rig, argv, environ, folder)


def run(rig: Rig, argv: list[str], environ: Mapping[str, str], folder: str) -> None:
    """Be `python bulk_delete.py …` in that folder."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  # as the interpreter opens them
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
    Clock.speed = rig.speed
    if rig.later or rig.jump:
        set_wall_clock(rig.later, rig.jump)
    if rig.kill_at_fsync:
        kill_at_fsync(rig.kill_at_fsync, before=rig.kill_before)
    if rig.note_fsyncs:
        note_fsyncs()
    if rig.watch_locks:
        watch_locks()
    if rig.file_limit is not None:
        import resource  # not on Windows

        resource.setrlimit(resource.RLIMIT_FSIZE, (rig.file_limit, rig.file_limit))
    sys.argv = argv
    import bulk_delete  # preloaded, unless its wall clock is rigged

    sys.exit(bulk_delete.main())
