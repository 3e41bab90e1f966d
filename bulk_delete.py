#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "bigcommerce~=0.23.4",
#     "requests~=2.32",
#     "rich~=15.0",
# ]
# ///
"""Delete many records from one BigCommerce store: shown first, done exactly, proven afterwards.

    store.ini + argv -> Config -> Store -> gather -> Plan (frozen on disk) -> guards, confirm
                     -> delete -> verify -> Summary -> exit status

Exit status: 0 every planned id is proven gone, or a dry run is done, or nothing was selected;
1 a bug; 2 usage or configuration; 3 refused before anything was deleted; 4 finished, and some
records are not gone; 5 stopped early, resumable once there is a plan; 130, 143, 129 stopped by
SIGINT, SIGTERM, SIGHUP.
"""

from __future__ import annotations

import argparse
import bisect
import configparser
import csv
import difflib
import email.utils
import enum
import errno
import fcntl
import hashlib
import io
import itertools
import json
import logging
import math
import os
import random
import re
import shlex
import shutil
import signal
import sys
import threading
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import requests
from bigcommerce.connection import OAuthConnection
from bigcommerce.resources.base import ListableApiResource
from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

__version__ = "1.0.0"

T = TypeVar("T")
R = TypeVar("R")
Record = dict[str, Any]

DEFAULT_HOST = "api.bigcommerce.com"
PAGE_LIMIT = 250  # records a page, and ids a read-back: the most the API gives
NAP = 0.1  # seconds: the longest sleep between two looks at the stop flag

# --- errors ------------------------------------------------------------------------------------


class Failure(Exception):
    """An end that can be expected: one sentence for the person, and the exit status."""

    exit_status = 5


class ConfigError(Failure):
    """Bad usage or configuration; nothing was sent."""

    exit_status = 2


class Refused(Failure):
    """Refused before anything was deleted. `planned`: the plan stands and may be resumed."""

    exit_status = 3

    def __init__(self, message: str, *, planned: bool = False) -> None:
        super().__init__(message)
        self.planned = planned


class StoreError(Failure):
    """The store, the network or the disk ends the run early."""


class Interrupted(Failure):
    """A signal ended the run."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.exit_status = 128 + signum


class Unreadable(Refused):
    """An answer of a shape that proves nothing."""


class Stopped(Exception):
    """Raised in a worker that must not send any more; the reason is `Stop.failure`."""


class TooCostly(Exception):
    """A request costs more tokens than a whole window ever has."""


class ListingChanged(Exception):
    """The records moved while the pages were read, so the listing may have holes."""


class Stop:
    """The one flag that every thread reads before it sends; set once, never cleared.

    It is plain attributes, since a lock taken in a signal handler may deadlock.
    """

    def __init__(self) -> None:
        self.failure: Failure | None = None
        self.at_once = False  # a second signal: do not even wait for what is in flight
        self.asking = False  # at the prompt a handler that returns would resume the read
        self._signals = 0

    def set(self, failure: Failure) -> Failure:
        self.failure = self.failure or failure
        return self.failure

    def check(self) -> None:
        """Raise Stopped when nothing more may be sent."""
        if self.failure is not None:
            raise Stopped

    def sleep(self, seconds: float) -> None:
        """Sleep for so many seconds, or raise Stopped within NAP of a stop."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left, NAP))
        self.check()

    def on_signal(self, signum: int, _frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals > 2:  # the main thread has not left at the second: it hangs
            os._exit(128 + signum)
        self.at_once = self._signals > 1
        failure = self.set(Interrupted(signum))
        if self.asking:
            raise failure


# --- resources ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One kind of record, as BigCommerce's API files describe it."""

    name: str
    path: str  # of the collection, below /stores/{hash}/
    scope: str  # the OAuth scope that deleting needs
    max_batch: int  # ids in one DELETE
    max_concurrent: int = 5
    done: int = 204  # what a DELETE well done answers
    params: Mapping[str, str] = field(default_factory=dict)  # of the listing: sort, sub-resources
    show: tuple[str, ...] = ("id",)  # fields that tell a person which record it is


RESOURCES = {
    resource.name: resource
    for resource in (
        Resource(
            name="customers",
            path="v3/customers",
            scope="store_v2_customers",
            max_batch=10,
            params={
                "sort": "date_created:asc",
                "include": "addresses,storecredit,attributes,formfields",
            },
            show=("id", "email", "first_name", "last_name", "date_created"),
        ),
    )
}

# --- configuration -----------------------------------------------------------------------------


def _whole(low: int, high: int | None = None) -> Callable[[str], int]:
    def convert(text: str) -> int:
        value = int(text) if re.fullmatch(r"[0-9]{1,18}", text) else -1
        if value < low or (high is not None and value > high):
            limits = f"from {low} to {high}" if high is not None else f"of {low} or more"
            raise ValueError(f"must be a whole number {limits}")
        return value

    return convert


def _seconds(text: str) -> float:
    value = float(text) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) else 0.0
    if not 0 < value <= 3600:
        raise ValueError("must be a number of seconds above 0, and at most 3600")
    return value


def _percent(text: str) -> float:
    number = text.removesuffix("%").rstrip()
    value = float(number) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", number) else -1.0
    if not 0 <= value <= 100:
        raise ValueError("must be a percentage from 0 to 100")
    return value


def _boolean(text: str) -> bool:
    value = configparser.RawConfigParser.BOOLEAN_STATES.get(text.lower())
    if value is None:
        raise ValueError("must be yes or no")
    return value


def _resource(text: str) -> Resource:
    if text not in RESOURCES:
        raise ValueError(f"must be one of: {', '.join(RESOURCES)}")
    return RESOURCES[text]


@dataclass(frozen=True, kw_only=True)
class Option:
    """One setting: a key of [cleanup], an option on the command line, or both."""

    name: str
    convert: Callable[[str], Any]
    default: Any
    help: str
    metavar: str = "N"
    argv: bool = True
    selects: bool = False  # part of the selection, which --resume takes from the plan

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")


OPTIONS = (
    Option(
        name="resource",
        convert=_resource,
        default=RESOURCES["customers"],
        help="what to delete: " + ", ".join(RESOURCES) + " (default: customers)",
        metavar="NAME",
        selects=True,
    ),
    Option(
        name="dry_run",
        convert=_boolean,
        default=False,
        help="list, write the plan, and delete nothing",
    ),
    Option(
        name="runs_dir",
        convert=Path,
        default=Path("runs"),
        help="where the run folders go (default: runs)",
        metavar="DIR",
    ),
    Option(
        name="no_backup",
        convert=_boolean,
        default=False,
        help="write no backup.jsonl",
    ),
    Option(
        name="rate_limit",
        convert=_whole(1),
        default=None,
        help="at most N requests in each of the store's windows (default: what the store allows)",
    ),
    Option(
        name="batch_size",
        convert=_whole(1),
        default=None,
        help="ids in one DELETE (default: the most the resource allows)",
    ),
    Option(
        name="max_concurrent",
        convert=_whole(1, 5),
        default=5,
        help="requests at once, 1 to 5 (default: 5)",
    ),
    Option(
        name="verbose",
        convert=_boolean,
        default=False,
        help="show every request as run.log has it",
    ),
    Option(name="min_requests_remaining", convert=_whole(0), default=0, help="", argv=False),
    Option(name="count_items", convert=_boolean, default=False, help="", argv=False),
    Option(name="max_retries", convert=_whole(0, 20), default=5, help="", argv=False),
    Option(name="timeout", convert=_seconds, default=60.0, help="", argv=False),
    Option(name="max_error_rate", convert=_percent, default=10.0, help="", argv=False),
)
STORE_KEYS = ("store_hash", "access_token", "client_id", "domain")
ARGV_ONLY = ("config", "yes", "resume", "json", "version")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that a run is told; seconds, percent, and counts as the names say."""

    path: Path
    host: str
    store_hash: str
    access_token: str = field(repr=False)
    client_id: str
    domain: str
    resource: Resource
    dry_run: bool
    runs_dir: Path
    no_backup: bool
    rate_limit: int | None
    batch_size: int
    max_concurrent: int
    verbose: bool
    min_requests_remaining: int
    count_items: bool
    max_retries: int
    timeout: float
    max_error_rate: float
    yes: bool
    json: bool
    resume: Path | None
    typed: tuple[str, ...] = ()  # options on argv that a resume needs again
    warnings: tuple[str, ...] = ()


def nearest(name: str, known: Iterable[str]) -> str:
    """What to say of an unknown name: the nearest known one, or all there are."""
    known = list(known)
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"known are: {', '.join(known)}"


def read_ini(path: Path) -> dict[str, dict[str, str]]:
    """The sections of an ini file, by name; raises ConfigError, which never quotes a line."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: there is no such file; copy config.example.ini to it and fill it in"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: this is not UTF-8 text; save it as UTF-8") from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path}: cannot be read ({why}); name an ini file") from error
    if "\0" in text:
        raise ConfigError(f"{path}: this is not UTF-8 text (UTF-16?); save it as UTF-8")
    parser = configparser.RawConfigParser(delimiters=("=",), default_section="\0")
    # Without their indentation no line continues the one before: a token never swallows a key.
    lines = [line.strip() for line in re.split(r"\r\n|\r|\n", text)]
    try:
        parser.read_string("\n".join(lines))
    except configparser.DuplicateSectionError as error:
        raise ConfigError(
            f"{path}, line {error.lineno}: [{error.section}] is there twice; join the two"
        ) from None
    except configparser.DuplicateOptionError as error:
        raise ConfigError(
            f"{path}, line {error.lineno}: {error.option} is there twice in [{error.section}]; "
            "keep one"
        ) from None
    except configparser.MissingSectionHeaderError as error:
        raise ConfigError(
            f"{path}, line {error.lineno}: a section must come first; write [store] above it"
        ) from None
    except configparser.ParsingError as error:
        number = error.errors[0][0] if error.errors else "?"
        raise ConfigError(
            f"{path}, line {number}: this is neither [section] nor key = value"
        ) from None
    return {name: dict(parser.items(name)) for name in parser.sections()}


def check_names(path: Path, ini: Mapping[str, Mapping[str, str]]) -> None:
    """Raise ConfigError for a section or key that nobody reads: a typo may select too much."""
    cleanup = [option.name for option in OPTIONS]
    known = {"store": list(STORE_KEYS), "cleanup": cleanup}
    for section, keys in ini.items():
        if section not in known:
            raise ConfigError(f"{path}: unknown section [{section}]; {nearest(section, known)}")
        for key in keys:
            if section == "cleanup" and key in ARGV_ONLY:
                raise ConfigError(
                    f"{path}: {key} in [cleanup]: only the command line takes it; use --{key}"
                )
            if key not in known[section]:
                raise ConfigError(
                    f"{path}: unknown key {key} in [{section}]; {nearest(key, known[section])}"
                )


def read_store(path: Path, ini: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Host, hash, token, client id and domain; raises ConfigError, never quoting the token."""
    given = ini.get("store_hash", "")
    if not given:
        raise ConfigError(
            f"{path}: store_hash in [store] is missing; fill in the hash of the store's API path"
        )
    pasted = re.fullmatch(r"(?:https?://[^/]+)?/?stores/([^/]+)(?:/.*)?", given)
    store_hash = pasted[1] if pasted else given
    if not re.fullmatch(r"[A-Za-z0-9]+", store_hash):
        raise ConfigError(
            f"{path}: store_hash in [store] must be letters and digits, or the API path that "
            f"BigCommerce shows, not {clean(given)!r}"
        )
    token, source = ini.get("access_token", ""), f"{path}: access_token in [store]"
    if not token:
        token = environ.get("BIGCOMMERCE_ACCESS_TOKEN", "").strip()
        source = "BIGCOMMERCE_ACCESS_TOKEN" if token else source
    if not token:
        raise ConfigError(
            f"{source} is missing; fill in the token of the store's API account, or set "
            "BIGCOMMERCE_ACCESS_TOKEN"
        )
    secrets = {source: token, f"{path}: client_id in [store]": ini.get("client_id", "")}
    for name, value in secrets.items():
        if not re.fullmatch(r"[!-~]*", value):
            raise ConfigError(
                f"{name} holds a space or a character that is not ASCII; paste it again, alone"
            )
    host = environ.get("BC_API_ENDPOINT") or DEFAULT_HOST
    if not re.fullmatch(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?", host):
        raise ConfigError(
            f"BC_API_ENDPOINT must be a host, or host:port, not {clean(host)!r}; correct or unset it"
        )
    domain = re.sub(r"^https?://|/.*$", "", ini.get("domain", "").lower())
    return {
        "host": host,
        "store_hash": store_hash,
        "access_token": token,
        "client_id": ini.get("client_id", ""),
        "domain": domain,
    }


def read_config(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Config:
    """Options over the ini over the defaults; raises ConfigError naming file, key or option."""
    path: Path = arguments.config
    ini = read_ini(path)
    check_names(path, ini)
    if "store" not in ini:
        raise ConfigError(f"{path}: the section [store] is missing; see config.example.ini")
    store = read_store(path, ini["store"], environ)
    values: dict[str, Any] = {}
    for option in OPTIONS:
        typed = getattr(arguments, option.name, None)
        written = ini.get("cleanup", {}).get(option.name)
        name = option.flag if typed is not None else f"{path}: {option.name} in [cleanup]"
        text = typed if typed is not None else written
        if arguments.resume is not None and option.selects:
            if typed is not None:
                raise ConfigError(f"{name} selects, but --resume takes the plan's selection")
            text = None
        if arguments.resume is not None and option.name == "dry_run" and typed is None:
            text = None
        try:
            if text is None or isinstance(text, bool):
                values[option.name] = option.default if text is None else text
            else:
                values[option.name] = option.convert(text)
        except ValueError as error:
            raise ConfigError(f"{name} {error}, not {clean(text)!r}") from error
    resource: Resource = values["resource"]
    values["max_concurrent"] = min(values["max_concurrent"], resource.max_concurrent)
    values["batch_size"] = values["batch_size"] or resource.max_batch
    if values["batch_size"] > resource.max_batch:
        typed = getattr(arguments, "batch_size", None)
        name = "--batch-size" if typed is not None else f"{path}: batch_size in [cleanup]"
        raise ConfigError(
            f"{name} must be a whole number from 1 to {resource.max_batch} for {resource.name}, "
            f"not {values['batch_size']}"
        )
    warnings = ()
    if (mode := path.stat().st_mode & 0o777) & 0o077:
        warnings = (f"{path} can be read by others (mode {mode:04o}): chmod 600 {path}",)
    return Config(
        path=path,
        **store,
        **values,
        yes=arguments.yes,
        json=arguments.json,
        resume=arguments.resume,
        typed=typed_again(arguments),
        warnings=warnings,
    )


def typed_again(arguments: argparse.Namespace) -> tuple[str, ...]:
    """The options on argv that say how to delete, not what: a resume is to keep them."""
    words: list[str] = ["--json"] if arguments.json else []
    for name in ("rate_limit", "batch_size", "max_concurrent"):
        if (value := getattr(arguments, name)) is not None:
            words += ["--" + name.replace("_", "-"), value]
    return tuple(words)


# --- rate limiting -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Quota:
    """What one answer's headers tell of the store's window; None where absent or garbage."""

    quota: int | None = None
    left: int | None = None
    reset: float | None = None  # seconds to the end of the window, when the answer was made
    window: float | None = None  # seconds


def read_quota(headers: Mapping[str, str]) -> Quota:
    """The four X-Rate-Limit headers [BigCommerce, API rate limits], each on its own."""

    def number(name: str, low: int, high: int) -> int | None:
        text = headers.get("X-Rate-Limit-" + name, "").strip()
        value = int(text) if re.fullmatch(r"[0-9]{1,12}", text) else -1
        return value if low <= value <= high else None

    reset_ms = number("Time-Reset-Ms", 0, 600_000)
    window_ms = number("Time-Window-Ms", 1, 600_000)
    return Quota(
        quota=number("Requests-Quota", 1, 10**12),
        left=number("Requests-Left", 0, 10**12),
        reset=None if reset_ms is None else reset_ms / 1000,
        window=None if window_ms is None else window_ms / 1000,
    )


class TokenBucket:
    """The store's fixed window of quota, mirrored: never more tokens than the store has left.

    capacity: tokens a window; refill_rate: tokens a second, so a window lasts
    capacity / refill_rate seconds, until an answer's headers say otherwise. ceiling: the most to
    take in a window; reserve: tokens left to other apps. clock and sleep take and give seconds;
    sleep may raise, and is never called with the lock held.
    """

    def __init__(
        self,
        capacity: int = 150,
        refill_rate: float = 5.0,
        *,
        ceiling: int | None = None,
        reserve: int = 0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.capacity = capacity
        self.window = capacity / refill_rate
        self.refusals_in_a_row = 0  # 429s since the last answer that was none
        self._ceiling = ceiling
        self._reserve = reserve
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._queue: deque[object] = deque()  # who waits, first come first served
        self._left = capacity  # what the store had left at the last answer of this window
        self._taken = 0  # in this window
        self._in_flight = 0  # taken, and not answered yet
        self._reset_at: float | None = None  # no earlier than the store's own reset
        self._next_at = -math.inf  # the earliest time of the next request
        self._paused_until = -math.inf
        self._demand = math.inf  # tokens that the rest of the job needs

    def acquire(self, cost: int = 1) -> None:
        """Wait for that many tokens, in order of arrival.

        Raises TooCostly when no window ever has that many, and what sleep raises.
        """
        ticket = object()
        with self._lock:
            self._queue.append(ticket)
        try:
            while True:
                with self._lock:
                    if cost > self.largest():
                        raise TooCostly
                    delay = self._delay(cost)
                    if self._queue[0] is not ticket:
                        delay = max(delay, 0.001)
                    elif delay <= 0:
                        self._take(cost)
                        return
                self._sleep(min(delay, NAP))
        finally:
            with self._lock:
                self._queue.remove(ticket)

    def sync(self, headers: Mapping[str, str], sent_at: float, cost: int = 1) -> None:
        """Take in the answer to a request of that cost, sent at that time of the clock."""
        told = read_quota(headers)
        with self._lock:
            now = self._clock()
            self._roll(now)
            self._in_flight -= cost
            if told.window is not None:
                self.window = told.window
            if told.reset is not None and not self._in_this_window(now, sent_at, told.reset):
                return
            if told.quota is not None and told.quota != self.capacity:
                self.capacity = told.quota
                self._left = told.quota if told.left is None else told.left
            elif told.left is not None:
                self._left = min(self._left, told.left)
            else:
                self._left -= cost  # nothing told: it was counted, for all we know

    def pause(self, seconds: float) -> int:
        """A 429: nobody sends for so many seconds, and then one at a time until one succeeds.

        Returns how many there were in a row.
        """
        with self._lock:
            self.refusals_in_a_row += 1
            self._paused_until = max(self._paused_until, self._clock() + seconds)
            return self.refusals_in_a_row

    def succeeded(self) -> None:
        """An answer came that was no 429."""
        self.refusals_in_a_row = 0

    def expect(self, tokens: float) -> None:
        """So many tokens does the rest of the job need: if they are there, nobody waits."""
        self._demand = tokens

    def largest(self) -> int:
        """The most tokens that one request may ever cost."""
        largest = self.capacity - self._reserve
        return largest if self._ceiling is None else min(largest, self._ceiling)

    def waiting(self) -> str:
        """What a person would want to know about the next request's wait, or nothing."""
        with self._lock:
            now = self._clock()
            paused, tokens = self._paused_until - now, self._tokens()
            resets = (self._reset_at or now) - now
        if paused >= 1:
            return f"the store says wait: {paused:.0f} s"
        if tokens < 1 and resets >= 1:
            return f"quota used, next in {resets:.0f} s"
        return ""

    def _tokens(self) -> int:
        tokens = self._left - self._reserve - self._in_flight
        return tokens if self._ceiling is None else min(tokens, self._ceiling - self._taken)

    def _delay(self, cost: int) -> float:
        """Seconds until that many tokens may be taken, as far as can be known now."""
        now = self._clock()
        self._roll(now)
        tokens = self._tokens()
        if now < self._paused_until:
            return self._paused_until - now
        if self.refusals_in_a_row and self._in_flight:
            return NAP  # the one request that tries whether the store is willing again
        if tokens < cost:
            return self._reset_at - now if self._reset_at is not None else NAP
        if self._demand <= tokens:
            return 0.0
        return self._next_at - now

    def _take(self, cost: int) -> None:
        now = self._clock()
        if self._reset_at is None:
            self._reset_at = now + self.window
        # Spread evenly: what is left of the window over what is left of the tokens.
        tokens = max(self._tokens(), 1)
        self._next_at = now + cost * (self._reset_at - now) / tokens
        self._taken += cost
        self._in_flight += cost
        self._demand -= cost

    def _roll(self, now: float) -> None:
        """Begin the next window once this one has ended."""
        if self._reset_at is None or now < self._reset_at:
            return
        self._begin(self._reset_at + self.window * (1 + (now - self._reset_at) // self.window))

    def _begin(self, reset_at: float) -> None:
        self._reset_at = reset_at
        self._left = self.capacity
        self._taken = self._in_flight  # the store may count them in this window
        self._next_at = -math.inf

    def _in_this_window(self, now: float, sent_at: float, reset: float) -> bool:
        """Correct the end of the window by an answer; False for a late one of the last window.

        The store's reset lies between sent_at + reset and now + reset: waiting for the latter is
        safe, and the least of them over all answers is the best known.
        """
        earliest, latest = sent_at + reset, now + reset + 0.001  # it is cut to milliseconds
        if self._reset_at is None or earliest > self._reset_at + self.window / 2:
            self._begin(latest)
            return True
        middle = self._reset_at - self.window / 2
        straddles = sent_at < self._reset_at - self.window
        if straddles and latest < middle:
            return False
        if earliest > self._reset_at:
            self._reset_at = latest  # this window began later than the last one foretold
        elif not straddles or earliest > middle:
            self._reset_at = min(self._reset_at, latest)
        return True


# --- retries -----------------------------------------------------------------------------------

PATIENCE = 600.0  # seconds: a store that says wait longer has better things to do
REFUSALS = 10  # 429s in a row that end the run: more is abuse [BigCommerce, integration design]


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that an answer says to wait: the longest of its headers, 0 when none is sound.

    X-Rate-Limit-Time-Reset-Ms and X-Retry-After are BigCommerce's, Retry-After is HTTP's; a date
    counts from the answer's own Date, never from this machine's clock.
    """
    waits = [0.0]
    for name, unit in (
        ("X-Rate-Limit-Time-Reset-Ms", 0.001),
        ("X-Retry-After", 1.0),
        ("Retry-After", 1.0),
    ):
        text = headers.get(name, "").strip()
        if re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,9})?", text):
            waits.append(float(text) * unit)
        else:
            with suppress(ValueError, TypeError):
                until = email.utils.parsedate_to_datetime(text)
                since = email.utils.parsedate_to_datetime(headers.get("Date", ""))
                waits.append((until - since).total_seconds())
    return max(waits)


def retry_delay(
    attempt: int, status: int, headers: Mapping[str, str], jitter: float
) -> float | None:
    """Seconds before the next attempt, or None when there is to be none.

    attempt: how many were made before this one; status: 0 when no answer came; jitter: a random
    number from 1/2 to 1. A 429 is told how long to wait; everything else backs off.
    """
    backoff = min(30.0, 2.0 ** min(attempt, 5)) * jitter
    told = retry_after(headers)
    if status == 429:
        return None if told > PATIENCE else told or backoff
    if status == 503 and 0 < told <= PATIENCE:  # closed for maintenance, and says for how long
        return max(told, backoff)
    return backoff if retriable(status) else None


def retriable(status: int) -> bool:
    """Whether the same request may succeed a little later."""
    return status in (0, 408) or (500 <= status <= 599 and status not in (501, 505))


# --- store -------------------------------------------------------------------------------------


def clean(text: object, limit: int = 200) -> str:
    """Somebody else's words as one printable line: no control codes, no flood."""
    line = "".join(c if c.isprintable() else " " for c in str(text))
    line = " ".join(line.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


class Verdict(enum.Enum):
    """What one answer to one request means."""

    DONE = enum.auto()
    THROTTLED = enum.auto()
    RETRY = enum.auto()
    REFUSED = enum.auto()
    FATAL = enum.auto()


@dataclass(frozen=True)
class Answer:
    """The answer to one request; status 0 when none came, and then `problem` says why."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    problem: str = ""

    @cached_property
    def json(self) -> Any:
        """The parsed body, None when it is no JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    @property
    def is_json(self) -> bool:
        return isinstance(self.json, (dict, list))

    @property
    def words(self) -> str:
        """The store's own words for why not, or what is known in their place."""
        if self.status == 0:
            return self.problem
        data = self.json
        if isinstance(data, list) and data and isinstance(data[0], dict):  # V2
            data = data[0]
        said = []
        if isinstance(data, dict):
            errors = data.get("errors")
            details = errors.values() if isinstance(errors, dict) else errors or ()
            said = [data.get("title") or data.get("message") or data.get("detail"), *details]
        text = "; ".join(dict.fromkeys(clean(_message(item)) for item in said if item))
        return f"{self.status} {text}".rstrip() if text else f"{self.status}"


def _message(item: object) -> object:
    if isinstance(item, dict):
        return item.get("message") or item.get("title") or json.dumps(item)
    return item


REFUSALS_OF_DATA = frozenset({400, 404, 409, 413, 422, 423})


def may_have_acted(answer: Answer) -> bool:
    """Whether the store may have deleted what a DELETE with this answer named."""
    return answer.status == 408 or not 300 <= answer.status <= 499


def judge(method: str, answer: Answer, done: int = 204) -> Verdict:
    """What an answer to a GET or a DELETE means; `done`: the status of a DELETE well done."""
    status = answer.status
    if status == 429:
        return Verdict.THROTTLED
    if retriable(status):
        return Verdict.RETRY
    if status == 200 and not answer.is_json:
        cut_off = answer.body.lstrip()[:1] in (b"{", b"[")
        return Verdict.RETRY if cut_off else Verdict.FATAL
    if method == "GET":
        if status in (200, 204):
            return Verdict.DONE
        other = 400 <= status <= 499 and status not in (401, 403)
        return Verdict.REFUSED if other else Verdict.FATAL
    if status in (200, 207, 422) and (items := item_results(answer)):
        throttled = all(item.throttled for item in items.values())
        return Verdict.THROTTLED if throttled else Verdict.DONE
    if status in (done, 200, 207):
        return Verdict.DONE
    return Verdict.REFUSED if status in REFUSALS_OF_DATA else Verdict.FATAL


@dataclass(frozen=True)
class Item:
    """What an answer says of one of its ids."""

    status: int
    message: str = ""

    @property
    def throttled(self) -> bool:
        return self.status == 429 or "TOO_MANY_REQUEST" in self.message.upper()

    @property
    def done(self) -> bool:
        return 200 <= self.status <= 299 and not self.throttled


def item_results(answer: Answer) -> dict[int, Item] | None:
    """What an answer says of each id, None when it has no shape that is known.

    Known: `errors: [{id, status, message}]` and `data: [{id, status}]`; `errors: {id: message}`
    with `meta.success` and `meta.failed`; `failed_rows_data`, whose strings hold `[id]`. The
    worst that is said of an id counts.
    """
    body = answer.json
    if not isinstance(body, dict):
        return None
    items: dict[int, Item] = {}
    for entry in body["data"] if isinstance(body.get("data"), list) else ():
        number = _id(entry.get("id") if isinstance(entry, dict) else entry)
        status = entry.get("status") if isinstance(entry, dict) else None
        if number:
            text = clean(_message(entry)) if isinstance(entry, dict) else ""
            items[number] = Item(status if isinstance(status, int) else 200, text)
    for key, entry in _listed_errors(body, partial=answer.status in (200, 207)):
        status = entry.get("status") if isinstance(entry, dict) else None
        if number := _id(key):
            items[number] = Item(status if isinstance(status, int) else 422, clean(_message(entry)))
    for row in body["failed_rows_data"] if isinstance(body.get("failed_rows_data"), list) else ():
        for found in re.findall(r"\[(\d{1,18})\]", str(row)):
            items[int(found)] = Item(422, clean(row))
    return items or None


def _listed_errors(body: Record, *, partial: bool) -> Iterator[tuple[object, object]]:
    errors = body.get("errors")
    if isinstance(errors, dict) and (partial or isinstance(body.get("meta"), dict)):
        yield from errors.items()
    for entry in errors if isinstance(errors, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("errors"), dict):
            yield from entry["errors"].items()
        elif isinstance(entry, dict):
            yield entry.get("id"), entry


def _id(value: object) -> int | None:
    """A record's id: a positive whole number, and nothing that only looks like one."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value):
        value = int(value)
    return value if type(value) is int and value > 0 else None


@dataclass(frozen=True)
class Batch:
    """Ids to delete with one request; `half`: a part of a batch that did not go as a whole."""

    ids: tuple[int, ...]
    half: bool = False


@dataclass(frozen=True, kw_only=True)
class BatchResult:
    """What became of a batch. Each of its ids is in one of sent, failed, missing, again, unsent."""

    batch: Batch
    answer: str = ""  # for the journal
    sent: tuple[int, ...] = ()  # the store may have deleted them: reading back decides
    failed: Mapping[int, str] = field(default_factory=dict)  # id -> the store's words
    missing: tuple[int, ...] = ()  # a single id that the store does not know
    again: tuple[Batch, ...] = ()
    unsent: tuple[int, ...] = ()  # stopped before anything left
    acted: tuple[int, ...] = ()  # those that some attempt may have deleted, whatever came last
    exhausted: bool = False  # no attempt got an answer that settles it


@dataclass(frozen=True)
class Page:
    """One page of a listing: its records, and the total that the store promises in all."""

    records: list[Record]
    total: int
    pages: int


def delete_target(resource: Resource, ids: Sequence[int]) -> tuple[str, dict[str, str]]:
    """Path and query of the DELETE of exactly these ids; raises ValueError rather than more.

    The SDK's own `delete()` sends an unfiltered DELETE for an id of None or 0, so it is never
    called.
    """
    if not ids or len(ids) > resource.max_batch:
        raise ValueError(f"{len(ids)} ids do not make a DELETE of {resource.name}")
    if any(type(number) is not int or number <= 0 for number in ids):
        raise ValueError("an id is not a positive whole number")
    return resource.path, {"id:in": ",".join(map(str, ids))}


class _Listing(ListableApiResource):  # type: ignore[misc]  # the SDK has no types
    """The SDK's listing, with V3's envelope taken off and its records left plain dicts.

    The SDK does not unwrap {"data": …}, and its own objects cost 100 ms a page.
    """

    @classmethod
    def _make_request(
        cls, method: str, url: str, connection: Connection, *args: Any, **kwargs: Any
    ) -> Any:
        answer = connection.make_request(method, url, *args, **kwargs)
        if judge(method, answer) is Verdict.REFUSED:
            raise Refused(f"the store refused to list {cls.resource_name}: {answer.words}")
        if judge(method, answer) is Verdict.RETRY:
            raise StoreError(f"the store does not answer ({answer.words}): resume once it does")
        connection.envelope = answer.json
        records = connection.envelope.get("data") if isinstance(connection.envelope, dict) else None
        if not isinstance(records, list):
            raise Unreadable(f"the store's answer for {cls.resource_name} holds no list of records")
        return records

    @classmethod
    def _create_object(cls, response: Any, connection: Any = None) -> Any:
        return response


NETWORK_ERRORS = (
    requests.ConnectionError,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
)


class Connection(OAuthConnection):  # type: ignore[misc]  # the SDK has no types
    """The SDK's connection, one a thread; `make_request` is what every request goes through."""

    def __init__(self, store: Store) -> None:
        config = store.config
        super().__init__(
            config.client_id,
            config.store_hash,
            config.access_token,
            config.host,
            api_path="/stores/{}/{}",
        )
        if not config.client_id:
            del self._session.headers["X-Auth-Client"]
        self.timeout = config.timeout
        self._session.max_redirects = 0  # else a DELETE and its token go on to another host
        self._session.auth = lambda request: request  # else ~/.netrc adds a password
        self._store = store
        self.envelope: Any = None

    def make_request(
        self,
        method: str,
        url: str,
        data: object = None,
        params: Mapping[str, str] | None = None,
        headers: object = None,
        *,
        cost: int = 1,
        before: Callable[[], None] = lambda: None,
        trace: list[Answer] | None = None,
        tolerate: Sequence[int] = (),
    ) -> Answer:
        """Send until the answer settles it: DONE or REFUSED, or RETRY when all attempts are used.

        cost: tokens an attempt; before: called right before each leaves; trace: takes the answer
        to each; tolerate: statuses that are no failure. Raises Stopped when nothing more may be
        sent, be it by this answer, and TooCostly as the bucket does.
        """
        store, attempt = self._store, 0
        while True:
            answer = self._attempt(method, url, params, cost, before)
            if trace is not None:
                trace.append(answer)
            verdict = judge(method, answer, store.resource.done)
            if answer.status in tolerate or verdict in (Verdict.DONE, Verdict.REFUSED):
                store.bucket.succeeded()
                return answer
            if verdict is Verdict.FATAL:
                store.stop.set(StoreError(store.explain(method, url, answer)))
                raise Stopped
            if verdict is Verdict.THROTTLED:
                store.throttled(answer)
                continue
            delay = retry_delay(attempt, answer.status, answer.headers, store.jitter())
            if attempt >= store.config.max_retries or delay is None:
                return answer
            attempt += 1
            store.count("retries")
            store.stop.sleep(delay)

    def _attempt(
        self,
        method: str,
        url: str,
        params: Mapping[str, str] | None,
        cost: int,
        before: Callable[[], None],
    ) -> Answer:
        store = self._store
        store.bucket.acquire(cost)
        answer, sent_at = Answer(0), time.monotonic()
        try:
            store.stop.check()
            before()
            sent_at = time.monotonic()
            answer = self._exchange(method, url, params)
        finally:
            store.bucket.sync(answer.headers, sent_at, cost)
        store.log_request(method, url, params, answer, time.monotonic() - sent_at)
        return answer

    def _exchange(self, method: str, url: str, params: Mapping[str, str] | None) -> Answer:
        try:
            response = self._run_method(method, url, None, params)
        except requests.TooManyRedirects as error:
            response = error.response
        except requests.Timeout:
            return Answer(0, problem=f"no answer within {self.timeout:g} s")
        except requests.exceptions.SSLError as error:
            if "CERTIFICATE_VERIFY_FAILED" not in str(error):
                return Answer(0, problem=_network_words(error))
            host = self._store.config.host
            self._store.stop.set(
                StoreError(f"the certificate of {host} is not trusted ({_network_words(error)})")
            )
            raise Stopped from error
        except NETWORK_ERRORS as error:
            return Answer(0, problem=_network_words(error))
        except OSError as error:  # no such certificates, no such host
            self._store.stop.set(
                ConfigError(f"{clean(error)}: check BC_API_ENDPOINT and REQUESTS_CA_BUNDLE")
            )
            raise Stopped from error
        return Answer(response.status_code, response.headers, response.content)


def _network_words(error: BaseException) -> str:
    """The innermost reason of a network error: the outer ones repeat the URL."""
    reason: Any = error
    for _ in range(6):
        inner = getattr(reason, "reason", None)
        inner = inner if isinstance(inner, BaseException) else None
        for argument in () if inner else getattr(reason, "args", ()):
            inner = argument if isinstance(argument, BaseException) else inner
        if inner is None:
            break
        reason = inner
    return clean(re.sub(r"^<[^>]*>: |^HTTPS?Connection\([^)]*\): ", "", str(reason))) or "no answer"


class Store:
    """One store, seen through a pool of workers that share a token bucket and a stop flag."""

    def __init__(self, config: Config, resource: Resource, stop: Stop, log: logging.Logger) -> None:
        self.config = config
        self.resource = resource
        self.stop = stop
        self.counts = Counter(requests=0, retries=0, rate_limited=0)
        self.busy_seconds = 0.0  # the time of all answers together
        self.bucket = TokenBucket(
            ceiling=config.rate_limit, reserve=config.min_requests_remaining, sleep=stop.sleep
        )
        self.pool = ThreadPoolExecutor(max_workers=config.max_concurrent)
        self.on_wait: Callable[[], None] = lambda: None  # called a few times a second
        self._log = log
        self._lock = threading.Lock()
        self._random = random.Random()
        self._local = threading.local()
        self._listing = type("_Listing", (_Listing,), {"resource_name": resource.path})

    # What workers call.

    def connection(self) -> Connection:
        """This thread's own connection: it holds state, and sockets do not like to be shared."""
        if not hasattr(self._local, "connection"):
            self._local.connection = Connection(self)
        connection: Connection = self._local.connection
        return connection

    def jitter(self) -> float:
        return self._random.uniform(0.5, 1.0)

    def count(self, name: str) -> None:
        with self._lock:
            self.counts[name] += 1

    def log_request(
        self, method: str, url: str, params: Mapping[str, str] | None, answer: Answer, took: float
    ) -> None:
        """Count and log a request; the token is in a header, so in none of it."""
        with self._lock:
            self.counts["requests"] += 1
            self.busy_seconds += took
        told = read_quota(answer.headers)
        query = "?" + "&".join(f"{k}={v}" for k, v in params.items()) if params else ""
        self._log.info(
            "%s %s %s %.0f ms, quota left %s of %s%s",
            method,
            clean(f"/stores/{self.config.store_hash}/{url}{query}", 4000),
            answer.status or "no answer",
            took * 1000,
            "?" if told.left is None else told.left,
            "?" if told.quota is None else told.quota,
            "" if answer.status in (200, 204) else f": {self.words(answer)}",
        )

    def throttled(self, answer: Answer) -> None:
        """A 429: pause everybody, or stop when the store means it."""
        self.count("rate_limited")
        refusals = self.bucket.refusals_in_a_row
        delay = retry_delay(refusals, 429, answer.headers, self.jitter())
        if delay is None:
            minutes = retry_after(answer.headers) / 60
            self.stop.set(StoreError(f"the store says to wait {minutes:.0f} minutes: resume then"))
        if self.bucket.pause(delay or 0.0) >= REFUSALS:
            self.stop.set(
                StoreError(
                    f"the store answered 429 (too many requests) {REFUSALS} times in a row: "
                    "resume when its other apps are quieter"
                )
            )

    def words(self, answer: Answer) -> str:
        """What the store said; should it repeat the token, that is cut out."""
        return answer.words.replace(self.config.access_token, "[token]")

    def explain(self, method: str, url: str, answer: Answer) -> str:
        """One sentence on an answer that ends the run, and what to do."""
        config, status = self.config, answer.status
        what = f"{'delete' if method == 'DELETE' else 'read'} {url.split('/', 1)[1]}"
        if status == 401:
            return (
                f"the store refused the access token (401): check access_token and store_hash in "
                f"{config.path}, or BIGCOMMERCE_ACCESS_TOKEN"
            )
        if status == 403:
            return (
                f"the token may not {what} (403): give its API account the OAuth scope "
                f"{self.resource.scope} (modify), or use another token"
            )
        if 300 <= status <= 399:
            return (
                f"{config.host} answered with a redirect ({status}), which is never followed: "
                "check store_hash, and BC_API_ENDPOINT if it is set"
            )
        if status == 200:
            return f"{config.host} answered with something that is not JSON: is it the API?"
        return f"the store cannot {what}: it answered {self.words(answer)}"

    def info(self) -> Record | None:
        """GET /v2/store: name, domain and plan, None where the token may not read it."""
        answer = self.connection().make_request("GET", "v2/store", tolerate=(403, 404))
        return answer.json if answer.status == 200 and isinstance(answer.json, dict) else None

    def page(self, number: int, **params: str) -> Page:
        """One page of the listing, oldest first; raises Refused for an answer of another shape."""
        records = self._read(page=number, limit=PAGE_LIMIT, **self.resource.params, **params)
        total, per_page = self._promised()
        return Page(records, total, max(1, math.ceil(total / per_page)))

    def present(self, ids: Sequence[int]) -> list[Record] | None:
        """Those of at most 250 ids that are still there; None when the answer cannot be trusted.

        Raises ValueError when asked for too many.
        """
        if not 0 < len(ids) <= PAGE_LIMIT:
            raise ValueError(f"{len(ids)} ids cannot be read back at once")
        wanted = {"id:in": ",".join(map(str, ids))}
        try:
            records = self._read(page=1, limit=PAGE_LIMIT, **wanted)
            total, _ = self._promised()
        except Unreadable:
            return None
        found = {record["id"] for record in records}
        return records if len(records) == len(found) == total and found <= set(ids) else None

    def _read(self, **params: Any) -> list[Record]:
        connection = self.connection()
        records = list(self._listing.iterall(connection=connection, **params))
        for record in records:
            if not isinstance(record, dict) or type(record.get("id")) is not int:
                raise Unreadable(f"the store listed one of its {self.resource.name} without an id")
            if record["id"] <= 0:
                raise Unreadable(
                    f"the store listed one of its {self.resource.name} as {record['id']}"
                )
        return records

    def _promised(self) -> tuple[int, int]:
        """Total and records a page, as the last listing's meta says."""
        envelope = self.connection().envelope
        meta = envelope.get("meta") if isinstance(envelope, dict) else None
        pagination = meta.get("pagination") if isinstance(meta, dict) else None
        total = pagination.get("total") if isinstance(pagination, dict) else None
        per_page = pagination.get("per_page") if isinstance(pagination, dict) else None
        if type(total) is not int or total < 0:
            raise Unreadable(
                f"the store's listing of {self.resource.name} does not say how many there are "
                "(meta.pagination.total), so it cannot be trusted to be complete"
            )
        sound = type(per_page) is int and 0 < per_page <= PAGE_LIMIT
        return total, per_page if sound else PAGE_LIMIT

    def delete_batch(self, batch: Batch, before: Callable[[Batch], None]) -> BatchResult:
        """DELETE the batch; `before` is called with it once, before the first attempt leaves."""
        path, params = delete_target(self.resource, batch.ids)
        cost = len(batch.ids) if self.config.count_items else 1
        trace: list[Answer] = []
        noted: list[Batch] = []

        def note() -> None:
            if not noted:
                before(batch)
                noted.append(batch)

        try:
            answer = self.connection().make_request(
                "DELETE", path, params=params, cost=cost, before=note, trace=trace
            )
        except TooCostly:
            acted = batch.ids if any(map(may_have_acted, trace)) else ()
            return BatchResult(batch=batch, answer="too costly", again=halves(batch), acted=acted)
        except (Stopped, Failure) as error:
            if isinstance(error, Failure):  # the journal could not take the note
                self.stop.set(error)
            acted = batch.ids if any(map(may_have_acted, trace)) else ()
            unsent = () if acted else batch.ids
            said = self.words(trace[-1]) if trace else ""
            return BatchResult(batch=batch, answer=said, sent=acted, acted=acted, unsent=unsent)
        return self._result(batch, answer, any(map(may_have_acted, trace[:-1])))

    def _result(self, batch: Batch, answer: Answer, acted_before: bool) -> BatchResult:
        ids, said = batch.ids, self.words(answer)
        verdict = judge("DELETE", answer, self.resource.done)
        exhausted = verdict is Verdict.RETRY
        acted = ids if acted_before or exhausted else ()
        if verdict is Verdict.DONE:
            return self._item_result(batch, answer, acted)
        if len(ids) > 1:
            again = halves(batch)
            return BatchResult(
                batch=batch, answer=said, again=again, acted=acted, exhausted=exhausted
            )
        if answer.status == 404:
            return BatchResult(batch=batch, answer=said, missing=ids, acted=acted)
        failed = {ids[0]: said}
        return BatchResult(
            batch=batch, answer=said, failed=failed, acted=acted, exhausted=exhausted
        )

    def _item_result(self, batch: Batch, answer: Answer, acted: tuple[int, ...]) -> BatchResult:
        items = item_results(answer) if answer.status != self.resource.done else None
        items = {number: items[number] for number in batch.ids if number in items} if items else {}
        again = tuple(number for number, item in items.items() if item.throttled)
        failed = {
            number: clean(f"{item.status} {item.message}").strip()
            for number, item in items.items()
            if not item.done and not item.throttled
        }
        sent = tuple(number for number in batch.ids if number not in failed and number not in again)
        if again:
            self.throttled(answer)
        return BatchResult(
            batch=batch,
            answer=f"{answer.status}",
            sent=sent,
            failed=failed,
            again=(Batch(again, half=True),) if again else (),
            acted=acted or sent,
        )

    # What the main thread calls.

    def call(self, function: Callable[..., R], *args: Any) -> R:
        """Have a worker do it, and wait for it."""
        future = self.pool.submit(function, *args)
        self.await_any([future])
        return future.result()

    def in_order(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """The function of each item, done by the workers, few ahead, in the order of the items."""
        pending: deque[Future[R]] = deque()
        try:
            for item in items:
                pending.append(self.pool.submit(function, item))
                if len(pending) > self.config.max_concurrent:
                    self.await_any([pending[0]])
                    yield pending.popleft().result()
            while pending:
                self.await_any([pending[0]])
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
            while pending and not self.stop.at_once:
                with suppress(Stopped):
                    self.await_any([pending.popleft()])

    def await_any(self, pending: Iterable[Future[R]]) -> set[Future[R]]:
        """Those of them that are done, at least one; raises Stopped to leave at once."""
        while True:
            self.on_wait()
            done, _ = wait(pending, timeout=NAP, return_when=FIRST_COMPLETED)
            if done:
                return done
            if self.stop.at_once:
                raise Stopped

    def nap(self, seconds: float) -> None:
        """Let so many seconds pass; raises Stopped when nothing more may be sent."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.on_wait()
            self.stop.sleep(min(left, NAP))

    def close(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)


# --- gather ------------------------------------------------------------------------------------

LISTINGS = 4  # how often a listing is tried: once, and three times more when it changes


@dataclass
class Sample:
    """What a person is shown of a selection, without holding all of it."""

    count: int = 0
    first_created: str = ""
    last_created: str = ""
    records: list[Record] = field(default_factory=list)  # five of them, drawn evenly
    _random: random.Random = field(default_factory=lambda: random.Random(5))

    def add(self, record: Record) -> None:
        created = record.get("date_created")
        if isinstance(created, str) and created:
            self.first_created = min(self.first_created or created, created)
            self.last_created = max(self.last_created, created)
        self.count += 1
        if len(self.records) < 5:
            self.records.append(record)
        elif (place := self._random.randrange(self.count)) < 5:
            self.records[place] = record


class IdSet:
    """Ids seen so far: 8 bytes each while they rise, as in a listing sorted oldest first."""

    def __init__(self) -> None:
        self._rising = array("q")
        self._others: set[int] = set()

    def __len__(self) -> int:
        return len(self._rising) + len(self._others)

    def __contains__(self, number: int) -> bool:
        place = bisect.bisect_left(self._rising, number)
        return self._rising[place : place + 1] == array("q", (number,)) or number in self._others

    def add(self, number: int) -> bool:
        """Add it; False when it was there."""
        if not self._rising or number > self._rising[-1]:
            self._rising.append(number)
            return True
        if number in self:
            return False
        self._others.add(number)
        return True


@dataclass
class Selection:
    """What one listing found; ids in its order."""

    ids: array[int] = field(default_factory=lambda: array("q"))
    duplicates: int = 0
    not_found: int = 0
    spared: int = 0
    cut: int = 0  # records that the backup cannot hold whole
    sample: Sample = field(default_factory=Sample)


def list_pages(store: Store, begin: Callable[[int], None]) -> Iterator[list[Record]]:
    """All pages of the listing, in order; `begin` gets the total that the first one promises.

    A record that goes while the pages are read pulls one over each later page's edge, past the
    reader. So the last page is read right after the first, both are read again at the end, and
    neither may have moved; what was added meanwhile stands behind the total, and is left out.
    Raises ListingChanged, and Refused when an answer is refused or makes no sense.
    """
    first = store.call(store.page, 1)
    begin(first.total)
    yield first.records
    if first.pages == 1:
        return
    last = store.call(store.page, first.pages)
    promised = last.records[: first.total - (first.pages - 1) * len(first.records)]
    for page in store.in_order(store.page, range(2, first.pages)):
        if page.total < first.total:
            raise ListingChanged("records went while the pages were read")
        yield page.records
    yield promised
    for before, after in zip(
        (first.records, promised), store.in_order(store.page, (1, first.pages)), strict=True
    ):
        ids = [record["id"] for record in after.records[: len(before)]]
        if ids != [record["id"] for record in before]:
            raise ListingChanged("records moved while the pages were read")


def cut_off(record: Record) -> dict[str, int]:
    """Sub-resources that the API lists in part only (ten of them), and how many there are."""
    counts = {"addresses": "address_count", "attributes": "attribute_count"}
    return {
        name: record[counter]
        for name, counter in counts.items()
        if isinstance(record.get(name), list)
        and type(record.get(counter)) is int
        and record[counter] > len(record[name])
    }


def select(
    store: Store, backup: Backup, begin: Callable[[int], None], step: Callable[[int], None]
) -> Selection:
    """List once, streaming the records to the backup; raises ListingChanged for holes."""
    chosen, seen, total = Selection(), IdSet(), 0

    def promised(count: int) -> None:
        nonlocal total
        total = count
        begin(count)

    for records in list_pages(store, promised):
        for record in records:
            if not seen.add(record["id"]):
                chosen.duplicates += 1
                continue
            chosen.ids.append(record["id"])
            chosen.sample.add(record)
            if cut := cut_off(record):
                chosen.cut += 1
                record = record | {"backup_cut": cut}
            backup.write(record)
        step(len(records))
    if len(seen) != total:
        raise ListingChanged(f"the store promised {total} records and listed {len(seen)}")
    return chosen


# --- plan (pure) -------------------------------------------------------------------------------

PLAN_VERSION = 1


def utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Plan:
    """What will be deleted, frozen: from here on nothing is selected any more."""

    host: str
    store_hash: str
    resource: str
    filters: Mapping[str, str]
    created_at: str  # UTC, ISO 8601
    duplicates: int
    not_found: int
    spared: int
    ids: array[int]

    def head(self) -> dict[str, Any]:
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values["selected"] = len(values.pop("ids"))
        return {"version": PLAN_VERSION, **values}

    def digest(self) -> str:
        """SHA-256, in hex, over the head as compact sorted JSON, and the ids, a line each."""
        sha = hashlib.sha256()
        sha.update(json.dumps(self.head(), sort_keys=True, separators=(",", ":")).encode())
        for start in range(0, len(self.ids), 10_000):
            sha.update(
                "".join(f"\n{number}" for number in self.ids[start : start + 10_000]).encode()
            )
        return sha.hexdigest()

    def lines(self) -> Iterator[str]:
        """The plan as the text of one JSON object, in pieces: a million ids need no copy."""
        yield json.dumps(self.head() | {"sha256": self.digest()}, indent=1)[:-2] + ',\n "ids": ['
        for start in range(0, len(self.ids), 10_000):
            yield (
                ("," if start else "") + "\n" + ",".join(map(str, self.ids[start : start + 10_000]))
            )
        yield "\n ]\n}\n"

    def age(self) -> timedelta:
        return datetime.now(UTC) - datetime.fromisoformat(self.created_at)


def parse_plan(text: str) -> Plan:
    """The plan that `Plan.lines` wrote; raises ValueError when it is not exactly that."""
    data = json.loads(text)
    if not isinstance(data, dict) or data.get("version") != PLAN_VERSION:
        raise ValueError("this is no plan of this version")
    names = [item.name for item in fields(Plan)]
    if set(data) != {*names, "version", "selected", "sha256"}:
        raise ValueError("its keys are not a plan's")
    ids = data["ids"]
    if not isinstance(ids, list) or any(type(number) is not int or number <= 0 for number in ids):
        raise ValueError("its ids are not positive whole numbers")
    if len(set(ids)) != len(ids):
        raise ValueError("it names an id twice")
    plan = Plan(**{name: data[name] for name in names} | {"ids": array("q", ids)})
    if plan.digest() != data["sha256"] or plan.head()["selected"] != data["selected"]:
        raise ValueError("its SHA-256 does not match: it was changed")
    return plan


def batches(ids: Iterable[int], size: int) -> Iterator[Batch]:
    """The ids in batches of that size, as they are asked for."""
    iterator = iter(ids)
    while chunk := tuple(itertools.islice(iterator, size)):
        yield Batch(chunk)


def halves(batch: Batch) -> tuple[Batch, ...]:
    """A batch that did not go as a whole, in two."""
    middle = (len(batch.ids) + 1) // 2
    return tuple(Batch(ids, half=True) for ids in (batch.ids[:middle], batch.ids[middle:]) if ids)


def too_many_failed(failed: int, selected: int, max_error_rate: float) -> bool:
    """Whether to stop: more than the rate, in percent, and more than 10; for 0 % at the first."""
    if max_error_rate == 0:
        return failed > 0
    return failed > 10 and failed > selected * max_error_rate / 100


class Outcome(enum.Enum):
    """What is known of a planned id; the values are the summary's keys."""

    NOT_ATTEMPTED = "not_attempted"
    UNKNOWN = "unknown"
    FAILED = "failed"
    DELETED = "deleted"
    ALREADY_GONE = "already_gone"


class Ledger:
    """The outcome of every planned id: each in exactly one state, so the counts always add up."""

    def __init__(self, selected: int, acted: Iterable[int] = ()) -> None:
        self.selected = selected
        self.reasons: dict[int, str] = {}  # why an id did not go, in the store's words
        self._acted = set(acted)  # some attempt, in this process or before, may have deleted it
        self._outcomes = dict.fromkeys(self._acted, Outcome.UNKNOWN)
        self._counts = Counter(self._outcomes.values())

    def count(self, outcome: Outcome) -> int:
        if outcome is Outcome.NOT_ATTEMPTED:
            return self.selected - sum(
                count for other, count in self._counts.items() if other is not outcome
            )
        return self._counts[outcome]

    def outcome(self, number: int) -> Outcome:
        return self._outcomes.get(number, Outcome.NOT_ATTEMPTED)

    def set(self, number: int, outcome: Outcome, reason: str = "") -> None:
        self._counts[self.outcome(number)] -= 1
        self._counts[outcome] += 1
        self._outcomes[number] = outcome
        if reason:
            self.reasons[number] = reason

    def apply(self, result: BatchResult) -> None:
        """Take in what became of a batch; nothing counts as deleted before it is read back."""
        self._acted.update(result.acted)
        for number in result.sent:
            self.set(number, Outcome.UNKNOWN)
        for number in result.missing:
            self.set(number, Outcome.UNKNOWN, result.answer)
        for number, reason in result.failed.items():
            self.set(number, Outcome.FAILED, reason)
        for batch in result.again:
            for number in batch.ids:
                self.set(
                    number, Outcome.UNKNOWN if number in self._acted else Outcome.NOT_ATTEMPTED
                )

    def gone(self, number: int) -> None:
        """It was read back, and is not there."""
        self.reasons.pop(number, None)
        self.set(number, Outcome.DELETED if number in self._acted else Outcome.ALREADY_GONE)

    def there(self, number: int) -> bool:
        """It was read back, and is there. True when a second DELETE may help."""
        if reason := self.reasons.get(number):
            self.set(number, Outcome.FAILED, reason)
            return False
        return True


# --- run folder and journal --------------------------------------------------------------------


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what a full disk or a lost folder raises into one sentence."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        raise StoreError(
            f"{path} cannot be written ({why}): make room or mend it, then resume"
        ) from error


def sync_folder(path: Path) -> None:
    """Make a new name in a folder last through a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomically(path: Path, pieces: Iterable[str], *, last: bool = True) -> None:
    """Replace the file as a whole; `last`: and let it last through a power cut."""
    with writing(path):
        draft = path.with_name(path.name + ".new")
        with open(draft, "w", encoding="utf-8", newline="") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            if last:
                os.fsync(file.fileno())
        os.replace(draft, path)
        if last:
            sync_folder(path.parent)


class Backup:
    """backup.jsonl: the full records, one a line, as they come; nothing with --no-backup."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file = None
        if path is not None:
            with writing(path):
                self._file = open(path, "w", encoding="utf-8")  # noqa: SIM115  # close() is below

    def write(self, record: Record) -> None:
        if self._file is not None and self._path is not None:
            with writing(self._path):
                self._file.write(json.dumps(record, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """Let it last: what follows cannot be undone."""
        if self._file is not None and self._path is not None:
            with writing(self._path), self._file:
                self._file.flush()
                os.fsync(self._file.fileno())


class Journal:
    """journal.jsonl: append-only, on disk before it returns; its lock makes a run one process's.

    A line is either {"sent": ids}, written before their DELETE leaves, or {"ids", "answer",
    "acted"}, written after: what came, and which of the ids it may have deleted.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        with writing(path):
            self._file = open(path, "a+b", buffering=0)  # noqa: SIM115  # held to the end
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Refused(f"{path.parent} is in use by another process: wait for it") from error

    def replay(self) -> set[int]:
        """Ids that an earlier process may have deleted; cuts a torn last line off.

        Raises Refused for a line that is none of the journal's.
        """
        with writing(self._path):
            self._file.seek(0)
            text = self._file.readall() or b""
            whole = text[: text.rfind(b"\n") + 1]
            if whole != text:
                self._file.truncate(len(whole))
        acted: set[int] = set()
        open_ids: set[int] = set()
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                entry = json.loads(line)
                if "sent" in entry:
                    open_ids.update(entry["sent"])
                else:
                    open_ids.difference_update(entry["ids"])
                    acted.update(entry["acted"])
            except (ValueError, KeyError, TypeError) as error:
                raise Refused(f"{self._path}, line {number}: this is no journal's line") from error
        return acted | open_ids

    def sent(self, batch: Batch) -> None:
        self._append({"sent": batch.ids})

    def result(self, result: BatchResult) -> None:
        if result.answer or not result.unsent:
            self._append({"ids": result.batch.ids, "answer": result.answer, "acted": result.acted})

    def _append(self, entry: dict[str, Any]) -> None:
        line = json.dumps({"time": utc_now(), **entry}).encode() + b"\n"
        with self._lock, writing(self._path):
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())


class RunFolder:
    """runs/<store_hash>-<resource>-<UTC time>/: everything that proves a run, and resumes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.journal = Journal(path / "journal.jsonl")
        self.log = logging.getLogger("bulk_delete")
        self.log.setLevel(logging.INFO)
        self.log.propagate = False
        logging.raiseExceptions = False  # a full disk shows in the journal, before a DELETE
        with writing(path):
            handler = logging.FileHandler(path / "run.log", encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s.%(msecs)03dZ %(message)s"))
        handler.formatter.converter = time.gmtime  # type: ignore[union-attr]  # set just above
        handler.formatter.default_time_format = "%Y-%m-%dT%H:%M:%S"  # type: ignore[union-attr]
        handler.formatter.default_msec_format = None  # type: ignore[union-attr]
        self.log.handlers = [handler]

    @classmethod
    def create(cls, config: Config) -> RunFolder:
        """A new folder, mode 0700; raises ConfigError when it cannot be made."""
        stem = f"{config.store_hash}-{config.resource.name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        try:
            config.runs_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in (stem, *(f"{stem}-{n}" for n in range(2, 100))):
                with suppress(FileExistsError):
                    (config.runs_dir / name).mkdir(mode=0o700)
                    return cls(config.runs_dir / name)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        except OSError as error:
            message = f"no run folder can be made in {config.runs_dir} ({error.strerror})"
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StoreError(f"{message}: make room, then run it again") from error
            raise ConfigError(f"{message}: name another with --runs-dir") from error

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """That of an earlier run; raises ConfigError when it holds no plan."""
        if not (path / "plan.json").is_file():
            raise ConfigError(
                f"--resume {path}: there is no plan.json in it; name a run folder that has one"
            )
        return cls(path)

    def write_plan(self, plan: Plan) -> None:
        write_atomically(self.path / "plan.json", plan.lines())

    def read_plan(self, config: Config) -> Plan:
        """The plan; raises Refused when it was changed, or is another store's."""
        path = self.path / "plan.json"
        try:
            plan = parse_plan(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise Refused(f"{path} cannot be trusted ({clean(error)}): start a new run") from error
        for name, planned, given in (
            ("API host", plan.host, config.host),
            ("store hash", plan.store_hash, config.store_hash),
        ):
            if planned != given:
                raise Refused(
                    f"{path} is for the {name} {clean(planned)}, and {config.path} is for {given}"
                )
        if plan.resource not in RESOURCES:
            raise Refused(f"{path} is for {clean(plan.resource)}, which nothing here deletes")
        return plan

    def write_failed(self, ledger: Ledger) -> None:
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(("id", "reason"))
        for number, reason in sorted(ledger.reasons.items()):
            if ledger.outcome(number) is Outcome.FAILED:
                writer.writerow((number, reason))
        write_atomically(self.path / "failed.csv", [text.getvalue()])

    def write_summary(self, summary: Mapping[str, Any], *, last: bool) -> None:
        text = json.dumps(summary, indent=1, ensure_ascii=False) + "\n"
        write_atomically(self.path / "summary.json", [text], last=last)


# --- delete ------------------------------------------------------------------------------------

EXHAUSTED_BATCHES = 5  # in a row: the store is down


def delete_batches(
    store: Store, source: Iterator[Batch], before: Callable[[Batch], None]
) -> Iterator[BatchResult]:
    """Delete them, few submitted at a time, and yield each result as it comes.

    What has to go again is put in by itself: a refused batch's halves at once, so that its bad
    record is known soon; an exhausted one's after all others, so that a store that is down is
    not asked twenty times for each batch. Ends early, with all that was sent yielded, once the
    stop flag is set.
    """
    soon: deque[Batch] = deque()
    late: deque[Batch] = deque()
    pending: set[Future[BatchResult]] = set()

    def following() -> Batch | None:
        if store.stop.failure is not None:
            return None
        return soon.popleft() if soon else next(source, None) or (late.popleft() if late else None)

    while True:
        while len(pending) < 2 * store.config.max_concurrent and (batch := following()):
            pending.add(store.pool.submit(store.delete_batch, batch, before))
        if not pending:
            return
        for future in store.await_any(pending):
            pending.remove(future)
            result = future.result()
            (late if result.exhausted else soon).extend(result.again)
            yield result


class Judge:
    """Decides from the results when a run must stop, and says why."""

    def __init__(self, selected: int, max_error_rate: float) -> None:
        self._selected = selected
        self._max_error_rate = max_error_rate
        self._failed = 0
        self._exhausted = 0  # batches in a row

    def stop(self, result: BatchResult) -> StoreError | None:
        self._failed += len(result.failed)
        if not result.exhausted:
            self._exhausted = 0
        elif not result.batch.half:
            self._exhausted += 1
        if self._exhausted >= EXHAUSTED_BATCHES:
            return StoreError(
                f"the store does not answer: {EXHAUSTED_BATCHES} batches in a row used up their "
                f"retries (last: {result.answer}): resume once it is up"
            )
        if too_many_failed(self._failed, self._selected, self._max_error_rate):
            reason = next(iter(result.failed.values()), result.answer)
            return StoreError(
                f"{self._failed} of {self._selected} failed, more than max_error_rate "
                f"({self._max_error_rate:g} %) allows (last: {reason}): see why, then resume"
            )
        return None


def delete(
    store: Store,
    ids: Iterable[int],
    ledger: Ledger,
    journal: Journal,
    step: Callable[[int], None],
) -> None:
    """Delete these planned ids; returns when all have an answer, or once a stop is asked for."""
    judge_results = Judge(ledger.selected, store.config.max_error_rate)
    size = store.config.batch_size
    for result in delete_batches(store, batches(ids, size), journal.sent):
        ledger.apply(result)
        try:
            journal.result(result)
        except Failure as failure:
            store.stop.set(failure)
        step(len(result.sent) + len(result.failed) + len(result.missing))
        if failure := judge_results.stop(result):
            store.stop.set(failure)
    store.stop.check()


# --- verify ------------------------------------------------------------------------------------

REREADS = (1.0, 2.0, 3.0, 4.0)  # seconds before each: what is deleted may show for a moment


def read_back(
    store: Store, ids: Sequence[int], step: Callable[[int], None]
) -> Iterator[tuple[Sequence[int], list[Record] | None]]:
    """Ids, at most 250 at a time, with those records of them that are still there, or None."""
    chunks = (ids[start : start + PAGE_LIMIT] for start in range(0, len(ids), PAGE_LIMIT))
    these, those = itertools.tee(chunks)
    for chunk, records in zip(these, store.in_order(store.present, those), strict=True):
        yield chunk, records
        step(len(chunk))


def settle(
    store: Store, ids: Sequence[int], ledger: Ledger, step: Callable[[int], None]
) -> tuple[array[int], array[int]]:
    """Read these back into the ledger; returns those still there for no reason, and the unknown."""
    there, unknown = array("q"), array("q")
    for chunk, records in read_back(store, ids, step):
        found = None if records is None else {record["id"] for record in records}
        for number in chunk:
            if found is None:
                ledger.set(number, Outcome.UNKNOWN)
                unknown.append(number)
            elif number not in found:
                ledger.gone(number)
            elif ledger.there(number):
                there.append(number)
    return there, unknown


def verify(
    store: Store,
    ids: Sequence[int],
    ledger: Ledger,
    journal: Journal,
    step: Callable[[int], None],
) -> None:
    """Read all of them back; delete once more what is still there, and read that again."""
    there, unknown = settle(store, ids, ledger, step)
    twice: set[int] = set()
    for seconds in REREADS:
        once = [number for number in there if number not in twice]
        if once:
            delete(store, once, ledger, journal, lambda _: None)
            twice.update(once)
        if not there and not unknown:
            return
        store.nap(seconds)
        there, unknown = settle(store, there + unknown, ledger, lambda _: None)
    for number in there:
        if number in twice:
            ledger.set(number, Outcome.FAILED, "still there after two DELETEs that were accepted")


# --- report ------------------------------------------------------------------------------------

LINE_EVERY = 5.0  # seconds between two plain lines of progress, where there is no terminal


def duration(seconds: float) -> str:
    """1:02:03, or 2:03."""
    minutes, second = divmod(max(0, round(seconds)), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"


def progress_text(done: int, total: int, elapsed: float, waiting: str) -> str:
    """Count, rate a second, and the time left or what is waited for."""
    rate = done / elapsed if elapsed > 0 else 0.0
    count = f"{done:,}/{total:,}" if total else f"{done:,}"
    if waiting:
        return f"{count} · {waiting}"
    if done >= total > 0:
        return f"{count} · {rate:,.0f}/s · took {duration(elapsed)}"
    left = f"{duration((total - done) / rate)} left" if rate and total else "…"
    return f"{count} · {rate:,.1f}/s · {left}"


class Phase:
    """The progress of one phase: a bar on a terminal, else a plain line every few seconds."""

    def __init__(self, screen: Screen, name: str, bars: Progress | None) -> None:
        self._screen, self._name, self._bars = screen, name, bars
        self._total = self._done = 0
        self._began = self._said = time.monotonic()
        self._task = bars.add_task(name, total=None, detail="…") if bars else None

    def begin(self, total: int) -> None:
        self._total, self._done = total, 0
        self._began = time.monotonic()

    def step(self, count: int) -> None:
        self._done += count

    def show(self, waiting: str = "", *, last: bool = False) -> None:
        """Redraw; called often, so it does little."""
        now = time.monotonic()
        if not last and now - self._said < (0.1 if self._bars else LINE_EVERY):
            return
        self._said = now
        text = progress_text(self._done, self._total, now - self._began, waiting)
        if self._bars is not None and self._task is not None:
            total = self._total if self._total or last else None
            self._bars.update(self._task, completed=self._done, total=total, detail=text)
        elif self._total:
            share = 100 * self._done // self._total
            self._screen.say(f"{self._name}: {share} % · {text}")


class Screen:
    """What the person sees: messages and bars on stderr, the final table on stdout."""

    def __init__(self, *, json_summary: bool = False) -> None:
        self.err = Console(stderr=True, highlight=False, markup=False)
        self.out = self.err if json_summary else Console(highlight=False, markup=False)
        self._phase: Phase | None = None

    def say(self, text: str, style: str = "") -> None:
        with suppress(OSError):  # the terminal may be gone; the run is not
            self.err.print(Text(text, style=style), soft_wrap=True)

    def warn(self, text: str) -> None:
        self.say(f"warning: {text}", "yellow")

    @contextmanager
    def phase(self, name: str) -> Iterator[Phase]:
        bars = None
        if self.err.is_terminal and not self.err.is_dumb_terminal:
            bars = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=18),
                TaskProgressColumn(),
                TextColumn("{task.fields[detail]}", markup=False),
                console=self.err,
                refresh_per_second=8,
            )
        with bars or suppress():
            self._phase = Phase(self, f"{name:<9}" if bars else name, bars)
            try:
                yield self._phase
            finally:
                with suppress(OSError):
                    self._phase.show(last=True)
                self._phase = None

    def tick(self, waiting: str) -> None:
        if self._phase is not None:
            with suppress(OSError):
                self._phase.show(waiting)

    def show(self, renderable: Any, *, final: bool = False) -> None:
        with suppress(OSError):
            (self.out if final else self.err).print(renderable)

    def ask(self, text: str) -> str:
        """The line that the person types, "" at the end of the file."""
        self.err.print(Text(text, style="bold"), end="")
        return sys.stdin.readline()


def store_name(config: Config, info: Record | None) -> str:
    """How a store is named wherever it is named: name, domain, plan, hash, and a moved API."""
    known = [clean(info[key], 60) for key in ("name", "domain") if info.get(key)] if info else []
    plan = f"{clean(info['plan_name'], 30)} plan" if info and info.get("plan_name") else ""
    moved = f"API at {config.host}" if config.host != DEFAULT_HOST else ""
    return " · ".join(filter(None, [*known, plan, f"hash {config.store_hash}", moved]))


def describe(record: Record, resource: Resource) -> list[str]:
    return [clean(record.get(name, ""), 40) for name in resource.show]


def plan_panel(
    config: Config, plan: Plan, sample: Sample, name: str, facts: Mapping[str, str]
) -> Panel:
    """What is about to be deleted, from which store, and how long it will take."""
    resource = RESOURCES[plan.resource]
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    rows = {"Store": name, **facts}
    if sample.first_created:
        rows["Created"] = f"{clean(sample.first_created)} to {clean(sample.last_created)}"
    for label, value in rows.items():
        grid.add_row(Text(label), Text(value))
    for number, record in enumerate(sample.records):
        shown = describe(record, resource)
        line = Text(", ".join(filter(None, shown)))
        grid.add_row(Text("" if number else "Such as"), line)
    title = "DRY RUN: nothing is deleted" if config.dry_run else "This cannot be undone"
    return Panel(
        grid, title=title, title_align="left", border_style="cyan" if config.dry_run else "red"
    )


def summary_table(summary: Mapping[str, Any], name: str, folder: Path) -> Table:
    """The final table: what was selected, what became of it, and where the proof is."""
    table = Table(box=box.SIMPLE, show_header=False, padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    good = summary["exit_status"] == 0
    head = f"{summary['status']}, exit status {summary['exit_status']}"
    table.add_row("Result", Text(head, style="bold green" if good else "bold red"))
    if summary["reason"]:
        table.add_row("Reason", Text(summary["reason"]))
    table.add_row("Store", Text(name))
    table.add_row("Resource", summary["resource"])
    for key in ("selected", *(outcome.value for outcome in reversed(Outcome))):
        if summary[key] or key in ("selected", "deleted", "failed"):
            table.add_row(key.replace("_", " ").capitalize(), f"{summary[key]:,}")
    for key in ("duplicates", "not_found", "spared"):
        if summary[key]:
            table.add_row(key.replace("_", " ").capitalize(), f"{summary[key]:,}")
    verified = "yes, every id was read back" if summary["verified"] else "no"
    table.add_row("Verified", verified)
    table.add_row(
        "Requests",
        f"{summary['requests']:,} ({summary['retries']:,} retries, "
        f"{summary['rate_limited']:,} told to wait)",
    )
    table.add_row("Time", f"{duration(summary['elapsed_seconds'])} from {summary['started_at']}")
    table.add_row("Run folder", Text(str(folder)))
    return table


# --- command line ------------------------------------------------------------------------------


def make_parser() -> argparse.ArgumentParser:
    """The command line; what OPTIONS holds is read like the ini's keys, and wins over them."""
    parser = argparse.ArgumentParser(
        prog="bulk_delete.py",
        description="Delete many records from one BigCommerce store: shown first, done exactly, "
        "proven afterwards.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="the store's ini file"
    )
    for option in OPTIONS:
        if not option.argv:
            continue
        if option.convert is not _boolean:
            parser.add_argument(option.flag, metavar=option.metavar, help=option.help)
            continue
        flags = ["-v", option.flag] if option.name == "verbose" else [option.flag]
        parser.add_argument(*flags, action="store_true", default=None, help=option.help)
        opposite = (
            option.flag.replace("--no-", "--")
            if "--no-" in option.flag
            else (option.flag.replace("--", "--no-"))
        )
        parser.add_argument(
            opposite, dest=option.name, action="store_false", default=None, help=argparse.SUPPRESS
        )
    parser.add_argument("--yes", action="store_true", help="do not ask before deleting")
    parser.add_argument(
        "--resume", type=Path, metavar="RUN_FOLDER", help="go on with an earlier run's plan"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the summary as JSON on stdout, all else on stderr",
    )
    parser.add_argument("--version", action="version", version=f"bulk_delete.py {__version__}")
    return parser


def interpreter() -> str:
    """How this Python is called at the prompt."""
    for name in ("python", "python3"):
        found = shutil.which(name)
        if found and os.path.realpath(found) == os.path.realpath(sys.executable):
            return name
    return sys.executable


class _ScreenHandler(logging.Handler):
    """Shows on the screen what goes to run.log."""

    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        self._screen.say(record.getMessage(), "dim")


class Run:
    """One run from the run folder to the summary: the steps of the design, in order."""

    def __init__(self, config: Config, screen: Screen, stop: Stop) -> None:
        self.screen, self.stop = screen, stop
        self.folder = RunFolder.open(config.resume) if config.resume else RunFolder.create(config)
        self.plan: Plan | None = None
        if config.resume:
            self.plan = self.folder.read_plan(config)
            resource = RESOURCES[self.plan.resource]
            config = replace(
                config,
                resource=resource,
                batch_size=min(config.batch_size, resource.max_batch),
                max_concurrent=min(config.max_concurrent, resource.max_concurrent),
            )
        if config.verbose:
            self.folder.log.addHandler(_ScreenHandler(screen))
        self.config = config
        self.ledger = Ledger(0)
        self.sample = Sample()
        self.name = store_name(config, None)
        self.started_at, self._began = utc_now(), time.monotonic()
        self._written = -math.inf
        self.store = Store(config, config.resource, stop, self.folder.log)
        self.store.on_wait = self.tick

    def tick(self) -> None:
        """Called a few times a second, whatever is waited for."""
        self.screen.tick(self.store.bucket.waiting())
        if time.monotonic() - self._written >= 1.0:
            self._written = time.monotonic()
            try:
                self.folder.write_summary(self.summary("in_progress", None, ""), last=False)
            except Failure as failure:
                self.stop.set(failure)

    def summary(self, status: str, exit_status: int | None, reason: str) -> dict[str, Any]:
        """summary.json; selected is always the sum of the five outcomes."""
        plan = self.plan
        counts = {outcome.value: self.ledger.count(outcome) for outcome in reversed(Outcome)}
        resumable = plan is not None and status != "completed"
        settled = counts["unknown"] == counts["not_attempted"] == 0
        return {
            "status": status,
            "exit_status": exit_status,
            "reason": reason or None,
            "store_hash": self.config.store_hash,
            "resource": self.config.resource.name,
            "filters": dict(plan.filters) if plan else {},
            "selected": self.ledger.selected,
            **counts,
            "duplicates": plan.duplicates if plan else 0,
            "not_found": plan.not_found if plan else 0,
            "spared": plan.spared if plan else 0,
            "verified": status == "completed" and settled,
            **self.store.counts,
            "started_at": self.started_at,
            "finished_at": None if status == "in_progress" else utc_now(),
            "elapsed_seconds": round(time.monotonic() - self._began, 3),
            "resume": self.resume_command() if resumable else None,
        }

    def resume_command(self) -> str:
        """The exact command that goes on with this run, without --yes."""
        words = [interpreter(), sys.argv[0], "--config", str(self.config.path), "--resume"]
        return shlex.join([*words, str(self.folder.path), *self.config.typed])

    def work(self) -> str:
        """Do it; returns the summary's status. Raises Failure, and Stopped with Stop.failure set."""
        for warning in self.config.warnings:
            self.screen.warn(warning)
        self.store.bucket.expect(2)
        info = self.store.call(self.store.info)
        self.name = store_name(self.config, info)
        self.check_domain(info)
        todo = self.reread(self.plan) if self.plan else self.gather()
        assert self.plan is not None
        if not todo:
            nothing = "nothing is left to delete" if self.config.resume else "nothing is selected"
            self.screen.say(f"{nothing}: {self.config.resource.name} of {self.name}")
            return "completed"
        self.confirm(self.plan, todo)
        if self.config.dry_run:
            return "planned"
        self.store.bucket.expect(self.requests(len(todo)))
        with self.screen.phase("Deleting") as phase:
            phase.begin(len(todo))
            delete(self.store, todo, self.ledger, self.folder.journal, phase.step)
        with self.screen.phase("Verifying") as phase:
            phase.begin(len(todo))
            verify(self.store, todo, self.ledger, self.folder.journal, phase.step)
        return "completed"

    def requests(self, count: int) -> int:
        """Tokens to delete so many and read them back."""
        size = 1 if self.config.count_items else self.config.batch_size
        return math.ceil(count / size) + math.ceil(count / PAGE_LIMIT)

    def check_domain(self, info: Record | None) -> None:
        """Raise Refused when [store] domain is not this store's."""
        pinned = self.config.domain
        if not pinned:
            return
        if info is None:
            raise Refused(
                f"domain in {self.config.path} cannot be checked: the token may not read GET "
                "/v2/store; give it store_v2_information_read_only, or take domain out"
            )
        own = {str(info.get(key, "")).lower() for key in ("domain", "secure_url")}
        if pinned not in {re.sub(r"^https?://|/.*$", "", value) for value in own}:
            raise Refused(
                f"{self.config.path} is for the domain {clean(pinned)}, but its store_hash is "
                f"that of {self.name}: correct one of them"
            )

    def gather(self) -> array[int]:
        """List, and freeze the plan; returns the ids. Raises Refused for a listing with holes."""
        config, folder = self.config, self.folder
        backup_path = None if config.no_backup else folder.path / "backup.jsonl"
        with self.screen.phase("Listing") as phase:

            def begin(total: int) -> None:
                phase.begin(total)
                self.store.bucket.expect(total // PAGE_LIMIT + 2 + self.requests(total))

            for attempt in range(1, LISTINGS + 1):
                backup = Backup(backup_path)
                try:
                    chosen = select(self.store, backup, begin, phase.step)
                    break
                except ListingChanged as change:
                    if attempt == LISTINGS:
                        raise Refused(
                            f"the listing was never complete in {LISTINGS} tries ({change}): "
                            "try again when nobody changes the records"
                        ) from change
                    self.screen.warn(f"{change}; listing again")
                finally:
                    backup.close()
        plan = Plan(
            host=config.host,
            store_hash=config.store_hash,
            resource=config.resource.name,
            filters={},
            created_at=utc_now(),
            duplicates=chosen.duplicates,
            not_found=chosen.not_found,
            spared=chosen.spared,
            ids=chosen.ids,
        )
        folder.write_plan(plan)
        self.plan, self.sample = plan, chosen.sample
        self.ledger = Ledger(len(plan.ids))
        if chosen.cut and backup_path:
            self.screen.warn(
                f"{chosen.cut:,} records have more than the ten addresses or attributes that the "
                "API lists: backup.jsonl says where it is cut (backup_cut)"
            )
        return plan.ids

    def reread(self, plan: Plan) -> array[int]:
        """What of the plan is still there, by reading all of it back."""
        self.ledger = Ledger(len(plan.ids), self.folder.journal.replay())
        there = array("q")
        self.store.bucket.expect(
            math.ceil(len(plan.ids) / PAGE_LIMIT) + self.requests(len(plan.ids))
        )
        with self.screen.phase("Re-reading") as phase:
            phase.begin(len(plan.ids))
            for chunk, records in read_back(self.store, plan.ids, phase.step):
                found = None if records is None else {record["id"] for record in records}
                for record in records or ():
                    self.sample.add(record)
                for number in chunk:
                    if found is not None and number not in found:
                        self.ledger.gone(number)
                        continue
                    if found is not None:
                        self.ledger.set(number, Outcome.NOT_ATTEMPTED)
                    there.append(number)
        return there

    def confirm(self, plan: Plan, todo: Sequence[int]) -> None:
        """Show what will be deleted, and have the person type how many; raises Refused if not."""
        config, count = self.config, len(todo)
        age = plan.age()
        facts = {"Delete": f"{count:,} {plan.resource}"}
        if config.resume:
            facts["Delete"] += f", all that is left of {len(plan.ids):,} planned"
            facts["Plan"] = f"{config.resume}, {duration(age.total_seconds())} old"
        else:
            facts["Delete"] += ": ALL that the store has"
        requests = self.requests(count)
        facts["It takes"] = f"{requests:,} requests, about {self.estimate(requests)}"
        if not config.no_backup and not config.resume:
            facts["Backup"] = str(self.folder.path / "backup.jsonl")
        self.screen.show(plan_panel(config, plan, self.sample, self.name, facts))
        if config.dry_run:
            return
        if config.yes:
            if config.resume and age > timedelta(days=1):
                raise Refused(
                    f"the plan is {age.days} days old: look at it, and resume it without --yes",
                    planned=True,
                )
            return
        if sys.stdin is None or not sys.stdin.isatty():
            raise Refused("there is no terminal to confirm on: add --yes to delete", planned=True)
        self.stop.check()
        self.stop.asking = True
        try:
            typed = self.screen.ask(f"Type {count} to delete them, anything else to leave: ")
        finally:
            self.stop.asking = False
        if typed.strip().replace(",", "") != str(count):
            raise Refused(f"not confirmed: that was not {count}", planned=True)

    def estimate(self, requests: int) -> str:
        """How long so many requests take, by the quota and by the answers' times so far."""
        bucket, sent = self.store.bucket, self.store.counts["requests"]
        by_quota = max(0, math.ceil(requests / max(1, bucket.largest())) - 1) * bucket.window
        by_time = requests * self.store.busy_seconds / max(1, sent) / self.config.max_concurrent
        seconds = max(by_quota, by_time)
        return f"{math.ceil(seconds / 60)} min" if seconds > 90 else f"{math.ceil(seconds)} s"

    def finish(self, status: str, exit_status: int, reason: str) -> int:
        """Write what became of it, show it, and return the exit status."""
        try:
            if self.plan is not None:
                self.folder.write_failed(self.ledger)
            summary = self.summary(status, exit_status, reason)
            self.folder.write_summary(summary, last=True)
        except Failure as failure:
            status, exit_status, reason = "interrupted", failure.exit_status, str(failure)
            summary = self.summary(status, exit_status, reason)
        self.screen.show(summary_table(summary, self.name, self.folder.path), final=True)
        if self.config.json:
            print(json.dumps(summary, ensure_ascii=False), flush=True)
        if reason:
            self.screen.say(f"bulk_delete.py: {reason}", "bold red")
        if exit_status == 4:
            self.screen.say(f"what did not go, and why: {self.folder.path / 'failed.csv'}")
        if status == "planned":
            self.screen.say("nothing was deleted; to delete exactly these:")
        elif exit_status and self.plan is not None:
            self.screen.say("to go on where it ended:")
        if exit_status and self.plan is not None or status == "planned":
            self.screen.say(f"  {self.resume_command()}")
        return exit_status


def run(config: Config, screen: Screen, stop: Stop) -> int:
    """One run, whatever happens to it, with its summary; returns the exit status."""
    job = Run(config, screen, stop)
    try:
        status = job.work()
        left = job.ledger.selected - job.ledger.count(Outcome.DELETED)
        left -= job.ledger.count(Outcome.ALREADY_GONE)
        if status == "completed" and left:
            return job.finish(status, 4, f"{left:,} of {job.ledger.selected:,} are not proven gone")
        return job.finish(status, 0, "")
    except (Stopped, Failure) as error:
        failure = stop.set(error if isinstance(error, Failure) else StoreError("stopped"))
        planned = isinstance(failure, Refused) and failure.planned
        exit_status = failure.exit_status
        if job.plan is not None and not planned and exit_status == Refused.exit_status:
            exit_status = StoreError.exit_status
        return job.finish("planned" if planned else "interrupted", exit_status, str(failure))
    except BaseException as error:
        stop.set(StoreError("a bug"))  # the workers send nothing more
        job.finish("interrupted", 1, f"a bug: {clean(repr(error))}")
        raise
    finally:
        job.store.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, run, and turn what happened into an exit status."""
    try:
        arguments = make_parser().parse_args(argv)
    except SystemExit as leaving:
        return int(leaving.code or 0)
    screen, stop = Screen(json_summary=arguments.json), Stop()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) is not signal.SIG_IGN:  # nohup
            signal.signal(signum, stop.on_signal)
    try:
        status = run(read_config(arguments, os.environ), screen, stop)
    except Failure as failure:
        screen.say(f"bulk_delete.py: {failure}", "bold red")
        status = failure.exit_status
    if stop.at_once:
        os._exit(status)
    return status


if __name__ == "__main__":
    sys.exit(main())
