"""Run the tool in a child process with a rigged environment.

The tool itself is unchanged. Only the clocks, os.fsync, locks and the file size limit are
replaced.
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

FSYNCS, LOCKS = "fsyncs.jsonl", "locks"  # files in the working directory
UNDER_A_LOCK = 99  # exit status
KILL = getattr(signal, "SIGKILL", 9)  # not defined on Windows, where any signal kills
# Modules to load once, in the process that all children are forked from.
PRELOADED = ["tests.launcher", "tests.preloaded"]


@dataclass(frozen=True, kw_only=True)
class Rig:
    """Changes to the environment of a run."""

    speed: float = 50.0  # of the tool's monotonic clock; the store keeps real time
    later: float = 0.0  # seconds that the wall clock is ahead
    jump: float = 0.0  # seconds that the wall clock jumps back and forth at each reading
    kill_at_fsync: int = 0  # kill -9 at the n-th fsync; 0: never
    kill_before: bool = False  # before that fsync, not after it
    note_fsyncs: bool = False  # write the path and size of each fsync to FSYNCS
    watch_locks: bool = False  # exit with UNDER_A_LOCK on a wait that holds a lock of the tool
    file_limit: int | None = None  # largest file size in bytes; larger writes fail


class Clock:
    """The monotonic clock, `speed` times as fast as the real one."""

    speed = 1.0

    @classmethod
    def install(cls) -> None:
        """Replace time.monotonic and time.sleep, for all modules imported later."""
        # Before Python 3.13, time.monotonic has a resolution of only 16 ms on Windows.
        monotonic, sleep = time.perf_counter, time.sleep
        time.monotonic = lambda: monotonic() * cls.speed
        time.sleep = lambda seconds: sleep(float(seconds) / cls.speed)


def set_wall_clock(later: float, jump: float) -> None:
    """Set the wall clock ahead by `later` seconds, jumping by `jump` at each reading."""
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
    del sys.modules["bulk_delete"]  # so that it is imported again, with this class


def kill_at_fsync(number: int, *, before: bool) -> None:
    """Kill this process (kill -9) right before or after its n-th fsync."""
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
    """Write a line with the path and size in bytes after each fsync."""
    fsync, notes = os.fsync, open(FSYNCS, "a", buffering=1)  # noqa: SIM115  # never closed

    def noted(handle: int) -> None:
        size = os.fstat(handle).st_size
        fsync(handle)
        notes.write(json.dumps([os.readlink(f"/proc/self/fd/{handle}"), size]) + "\n")

    os.fsync = os.fdatasync = noted  # type: ignore[assignment]


def watch_locks() -> None:
    """End this process when a thread waits while it holds a lock of the tool."""
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
    """Write the arguments that `started` reads."""
    with contextlib.suppress(OSError), file:  # the process may have ended; its output shows why
        json.dump([asdict(rig), argv, dict(environ), folder], file)


def started() -> None:
    """Run the tool with the arguments from stdin, in a new process."""
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
    """Run the tool in a forked process, with pipes as stdout and stderr."""
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    out.close()
    err.close()
    run(rig, argv, environ, folder)


def run(rig: Rig, argv: list[str], environ: Mapping[str, str], folder: str) -> None:
    """Run `python bulk_delete.py …` in this process, in the given folder."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  # as the interpreter does
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(  # noqa: SIM115
        2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False
    )
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
    import bulk_delete  # preloaded, unless the wall clock is rigged

    os._exit(bulk_delete.main())
