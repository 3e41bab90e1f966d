#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = ["bigcommerce~=0.23.4", "requests~=2.32", "rich~=15.0"]
# ///
"""Delete many records from one BigCommerce store: review, delete, verify.

The data flow, and the section that decides each step:

    store.ini + argv => Config            configuration
    Config => Store                       store: connection, client, workers
    pages of records => Selection         listing; what matches is decided in selection
    Selection => Plan                     plan and ledger; frozen in the run folder
    Plan => the number that is typed      guards
    Plan => batches => BatchResult        delete and verify; what a response means: answers
    BatchResult, reads => Ledger          plan and ledger
    Ledger => summary, exit status        screen, run

The main thread writes the ledger, the results and the screen. Workers send and wait; they
write the journal before a batch leaves, and run.log. Sections use only what is above them.

Glossary:

    record      one customer, product, ...
    selection   the records that filters and lists choose
    excluded    left out of the selection by a keep list, != or orders
    plan        the ids that will be deleted, frozen in plan.json
    batch       the ids of one DELETE; a page is the records of one GET
    attempt     one sending of a request; a retry is a further one
    in flight   sent and not yet answered
    ruling      what a response means, decided once
    applied     a DELETE was accepted, or may have been
    verified    read back and found gone; only then `deleted`
    read check  reading known records back before the first DELETE
    session     one process that works on a run; a resume is a further one

N1, N2, ... are the rules of what must never happen. Each is named where it is kept and in
the test that fails when it is broken (tests/test_never.py lists them).

Exit status: 0 all planned records verified gone, or a dry run done, or nothing selected;
1 a bug; 2 usage or configuration; 3 refused or canceled before anything was deleted; 4
finished, some records not gone; 5 stopped early, resumable once there is a plan; 130, 143,
129 stopped by SIGINT, SIGTERM, SIGHUP.
"""

# ruff: noqa: RUF009  # the defaults of Config are dataclass fields, made by `option`
from __future__ import annotations

import argparse
import csv
import difflib
import enum
import errno
import hashlib
import heapq
import html
import importlib
import io
import itertools
import json
import logging
import math
import operator
import os
import random
import re
import shlex
import shutil
import signal
import ssl
import sys
import threading
import time
import unicodedata
from collections import Counter, deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, TypeVar
from urllib.parse import unquote, urlencode, urlsplit

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until main: no traceback of an import

try:
    from datetime import UTC, datetime, timedelta
    from functools import cache, cached_property, partial

    import requests
    from bigcommerce.connection import OAuthConnection
    from bigcommerce.resources.base import ListableApiResource
    from rich import box
    from rich.console import Console, Group
    from rich.panel import Panel
    from rich.table import Column, Table
    from rich.terminal_theme import TerminalTheme
    from rich.text import Text
except ImportError as error:
    needed = "Python 3.11 or newer"
    if sys.version_info >= (3, 11):  # noqa: UP036  # an older one is told so here
        needed = f"its packages ({error}). Run: python -m pip install -r requirements.txt"
    print(f"bulk_delete.py needs {needed}", file=sys.stderr)
    sys.exit(2)

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

__version__ = "1.1.0"

T = TypeVar("T")
R = TypeVar("R")
Record = dict[str, Any]

DEFAULT_HOST = "api.bigcommerce.com"
PAGE_LIMIT = 250  # records a page, and ids a read: the most the API gives
EMAIL_LIMIT = 50  # addresses a request, so that its URL stays within the usual limits
POLL = 0.1  # seconds: the longest sleep between two looks at the stop flag

# What the person reads when a signal has ended a run; Windows has no SIGHUP.
SIGNALS = {signal.SIGINT: "Interrupted (Ctrl-C).", signal.SIGTERM: "Terminated (SIGTERM)."}
if hasattr(signal, "SIGHUP"):
    SIGNALS[signal.SIGHUP] = "The terminal was closed (SIGHUP)."

# --- shared by all ------------------------------------------------------------------
#
# A run that ends early raises a RunError: one sentence and an exit status. The first one
# sets the stop flag; every thread raises it before it sends or sleeps.


class RunError(Exception):
    """An expected end of a run, as opposed to a bug: one sentence, and a status."""

    exit_status = 5
    # Of summary.json.
    status = "interrupted"


class Bug(RunError):
    """An unexpected end; its traceback is shown."""

    exit_status = 1


class ConfigError(RunError):
    """Wrong usage or configuration."""

    exit_status, status = 2, "refused"


class Refused(RunError):
    """Refused before anything was deleted."""

    exit_status, status = 3, "refused"


class Canceled(Refused):
    """Not approved; the plan remains and can be resumed."""

    status = "planned"


class ReadRejected(Refused):  # exit status 5 once there is a plan: see `ending`
    """The store answered a GET with 4xx."""

    def __init__(self, message: str, http_status: int) -> None:
        super().__init__(message)
        self.http_status = http_status


class InvalidResponse(Refused):
    """A response without a list, total or ids that can be relied on."""


class Incomplete(RunError):
    """Everything was done, and some planned records are not verified gone."""

    exit_status, status = 4, "completed"


class StoreError(RunError):
    """The store, the network or the disk ends the run early."""


class RetriesExhausted(StoreError):
    """A GET used up its retries; a smaller one may be answered."""


class Interrupted(RunError):
    """A signal ended the run."""

    def __init__(self, signum: int) -> None:
        super().__init__(SIGNALS[signal.Signals(signum)])
        self.exit_status = 128 + signum


class ListingChanged(Exception):
    """Records moved while the pages were read, so the listing may have holes."""


class Stop:
    """The flag that every thread reads before it sends; set once, never cleared.

    Plain attributes without a lock: the signal handler may run while the main thread
    holds it.
    """

    def __init__(self) -> None:
        # The error that ends the run, or None.
        self.failure: RunError | None = None
        # Do not even wait for what is in flight: a second signal came.
        self.force_exit = False
        # Whether a signal raises at once: while the main thread waits for input.
        self.raises_on_signal = False
        self._signals = 0

    @property
    def is_signaled(self) -> bool:
        """Whether a signal came."""
        return self._signals > 0

    def set(self, failure: RunError) -> RunError:
        """Set the error that ends the run, unless it is set; return the one in force."""
        self.failure = self.failure or failure
        return self.failure

    def check(self) -> None:
        """Raise the reason if nothing more may be sent."""
        if self.failure is not None:
            raise self.failure

    def sleep(self, seconds: float) -> None:
        """Sleep, or raise the reason within POLL of a stop."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left, POLL))
        self.check()

    def on_signal(self, signum: int, _frame: FrameType | None) -> None:
        """Handle a signal: the first stops, the second quits, the third kills."""
        self._signals += 1
        if self._signals > 2:  # the main thread has not left at the second: it hangs
            os._exit(128 + signum)
        self.force_exit |= self._signals > 1
        failure = self.set(Interrupted(signum))
        if self.raises_on_signal:
            raise failure


class Progress:
    """The progress of the current phase; main thread only."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        # Records to come; 0 if that is not known.
        self.total = 0
        self.done = 0
        # Tells the person something meanwhile.
        self.warn = warn

    def begin(self, total: int) -> None:
        """Begin at 0 of `total` records."""
        self.total, self.done = total, 0

    def advance(self, count: int) -> None:
        """Add `count` records that are done."""
        self.done += count
        if self.total:
            self.done = min(self.done, self.total)


# --- portability --------------------------------------------------------------------
#
# What only POSIX has, in one place, with its alternative on Windows. (SIGHUP alone is
# above, in SIGNALS.)


def lock_file(handle: int) -> None:
    """Lock an open file until it is closed; raises BlockingIOError if it is locked."""
    try:
        fcntl: Any = importlib.import_module("fcntl")
    except ImportError:
        msvcrt: Any = importlib.import_module("msvcrt")
        os.lseek(handle, 2**30, os.SEEK_SET)  # far behind its end: locked bytes are unreadable
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError from error
    else:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def sync_folder(path: Path) -> None:
    """Let a new name in a folder survive a power cut; Windows sees to that itself."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(path, os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def replace_file(draft: Path, path: Path) -> None:
    """Replace a file by its draft; on Windows a reader may hold it for a moment."""
    for _ in range(20 if os.name == "nt" else 0):
        with suppress(PermissionError):
            os.replace(draft, path)
            return
        time.sleep(POLL)
    os.replace(draft, path)


def mode_readable_by_others(path: Path) -> int:
    """Return the mode of a file that other users can read, else 0; 0 on Windows."""
    mode = path.stat().st_mode & 0o777
    return mode if os.name == "posix" and mode & 0o077 else 0


def discard_typed_ahead() -> None:
    """Drop what was typed before the question: it cannot be the answer (N21)."""
    try:
        termios: Any = importlib.import_module("termios")
    except ImportError:
        with suppress(ImportError):
            msvcrt: Any = importlib.import_module("msvcrt")
            while msvcrt.kbhit():
                msvcrt.getwch()
    else:
        with suppress(OSError, ValueError, termios.error):
            termios.tcflush(sys.stdin, termios.TCIFLUSH)


def shell_command(words: Sequence[str]) -> str:
    """Return the words as a command that can be pasted into the shell."""
    if os.name != "nt":
        return shlex.join(words)
    from subprocess import list2cmdline  # slow to load

    return list2cmdline(words)


# --- resources ----------------------------------------------------------------------
#
# What is known of each kind of record, from BigCommerce's own API files, which are named
# beside it. To add a resource, add a `Resource` here, and its records to the local store
# of the tests. `id:in` is used for a DELETE only where it is documented that nothing
# is deleted without it; all others go by path id, one at a time (N5).


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One kind of record, and how the API lists and deletes it."""

    name: str
    # Of the list, below /stores/{hash}/.
    path: str
    # The OAuth scope that deleting needs.
    scope: str
    # The filter that a DELETE of the collection takes; "" deletes by path id.
    delete_filter: str = ""
    # Of the DELETE by path id, if it is not that of the list.
    delete_path: str = ""
    # Statuses of a successful DELETE.
    success_statuses: tuple[int, ...] = (204,)
    # A 404 for a batch: the ids that do exist were deleted.
    deletes_known_on_404: bool = False
    # The id filter of the list, and how many ids it takes; "" reads by path id.
    id_filter: str = "id:in"
    max_read: int = PAGE_LIMIT
    # Ids in one DELETE of the collection; 10 where no maximum is documented.
    max_batch: int = 10
    max_concurrent: int = 5
    id_field: str = "id"
    # Parameters of the list: sort, sub-resources.
    params: Mapping[str, str] = field(default_factory=dict)
    # Filters that can be checked on the record, as name/type of FILTER_TYPES.
    filters: str = ""
    # Fields that tell a person which record it is.
    display_fields: tuple[str, ...] = ("name",)
    # The field of the email address by which a list may name a record; "" if none.
    email: str = ""
    # The field of the parent's id, if deleting a parent deletes its children.
    parent: str = ""
    # What is deleted with a record.
    also_deleted: str = ""
    # What else a person should know.
    note: str = ""

    @property
    def plural(self) -> str:
        """The name in a sentence."""
        return self.name.replace("_", " ")

    @property
    def singular(self) -> str:
        """The name of one record in a sentence."""
        return re.sub("ies$", "y", self.plural).removesuffix("s")

    @property
    def id_column(self) -> str:
        """The id column of selected.csv: a list of one kind must not pass for another."""
        return f"{self.singular.replace(' ', '_')}_id"

    def counted(self, count: int) -> str:
        """Return a number of records in words."""
        return f"{count:,} {self.singular if count == 1 else self.plural}"

    @property
    def has_total(self) -> bool:
        """Whether a list has a total: V3 does; V2 is paged by min_id to an empty page."""
        return self.path.startswith("v3/")

    @property
    def largest_batch(self) -> int:
        """The most ids in one DELETE."""
        return self.max_batch if self.delete_filter else 1

    def id_of(self, record: Record) -> int:
        """Return a record's id."""
        number: int = record[self.id_field]
        return number

    def address_of(self, record: Record) -> str:
        """Return a record's email address, as it is compared."""
        return normalize_email(str(record.get(self.email, "")).strip())

    def filter_types(self) -> dict[str, str]:
        """Return the filters as name => type."""
        return dict(item.split("/") for item in self.filters.split())


_DATES = "date_created:min/date date_created:max/date"
_IDS = "id/id id:in/id id:min/id id:max/id id:greater/id id:less/id"
_CHANGES = "date_modified:min/date date_modified:max/date"
_BY_ID = {"sort": "id", "direction": "asc"}

RESOURCES = {
    resource.name: resource
    for resource in (
        Resource(
            name="customers",  # customers.v3.yml: without id:in 204, "no changes to the data"
            path="v3/customers",
            scope="store_v2_customers",
            delete_filter="id:in",
            params={
                "sort": "date_created:asc",
                "include": "addresses,storecredit,attributes,formfields",
            },
            filters="id:in/id company:in/text customer_group_id:in/int email:in/text "
            "name:in/text name:like/texts phone:in/text registration_ip_address:in/text "
            f"{_DATES} {_CHANGES}",
            display_fields=("email", "first_name", "last_name", "date_created"),
            email="email",
            also_deleted="addresses, attributes and store credit",
        ),
        Resource(
            name="products",  # products_catalog.v3.yml: "must include a filter", at most 250
            path="v3/catalog/products",
            scope="store_v2_products",
            delete_filter="id:in",
            max_batch=250,
            params={
                **_BY_ID,
                "include": "variants,images,custom_fields,bulk_pricing_rules,videos,reviews",
            },
            filters=f"{_IDS} name/text sku/text sku:in/text mpn/text upc/text price/number "
            "weight/number condition/choice brand_id/int categories:in/int is_visible/bool "
            "is_featured/int is_free_shipping/int type/text availability/text "
            "total_sold/int inventory_level/int inventory_level:in/int "
            "inventory_level:min/int inventory_level:max/int inventory_level:greater/int "
            "inventory_level:less/int date_last_imported:min/date "
            f"date_last_imported:max/date {_CHANGES}",
            display_fields=("name", "sku", "price", "date_created"),
            also_deleted="variants, images and all other product data",
            note="options and modifiers are not in the backup",
        ),
        Resource(
            name="categories",  # category-trees_catalog.v3.yml: the filter is optional
            path="v3/catalog/trees/categories",
            scope="store_v2_products",
            delete_path="v3/catalog/categories",
            success_statuses=(202, 204),
            id_filter="category_id:in",
            id_field="category_id",
            filters="category_id:in/id tree_id:in/int parent_id:in/int name/text "
            "name:like/text page_title/text page_title:like/text is_visible/bool",
            display_fields=("name", "parent_id"),
            parent="parent_id",
            also_deleted="child categories",
            note="a category that has products cannot be deleted",
        ),
        Resource(
            name="brands",  # brands_catalog.v3.yml: the collection is deleted by name only
            path="v3/catalog/brands",
            scope="store_v2_products",
            params={"sort": "name", "direction": "asc"},
            filters=f"{_IDS} name/text name:like/text page_title/text",
        ),
        Resource(
            name="promotions",  # promotions.v3.yml: id:in is required (422), at most 50
            path="v3/promotions",
            scope="store_v2_marketing",
            delete_filter="id:in",
            id_filter="",
            max_batch=50,
            params=_BY_ID,
            filters="id/id name/text currency_code/text redemption_type/choice status/text",
            display_fields=("name", "status", "redemption_type"),
            note="a promotion that has coupon codes cannot be deleted",
        ),
        Resource(
            name="coupons",  # marketing.v2.yml: the collection's filter is optional
            path="v2/coupons",
            scope="store_v2_marketing",
            id_filter="id",  # there is no GET by path id
            max_read=1,
            filters="id/id code/text name/text type/text",
            display_fields=("code", "name", "date_created"),
            note="a coupon's promotion is kept",
        ),
        Resource(
            name="price_lists",  # price_lists.v3.yml: the filter is optional; 1 at a time
            path="v3/pricelists",
            scope="store_v2_products",
            max_concurrent=1,
            filters=f"id:in/id name/text name:like/text {_DATES} {_CHANGES}",
            display_fields=("name", "active", "date_created"),
            also_deleted="all price records of a list",
            note="price records are not in the backup",
        ),
        Resource(
            name="redirects",  # redirects.v3.yml: id:in is required
            path="v3/storefront/redirects",
            scope="store_v2_content",
            delete_filter="id:in",
            params={**_BY_ID, "include": "to_url"},
            filters="id:in/id id:min/id id:max/id site_id/int",
            display_fields=("from_path", "site_id"),
        ),
        Resource(
            name="pages",  # pages.v3.yml: id:in is required; delete_children is not sent
            path="v3/content/pages",
            scope="store_v2_content",
            delete_filter="id:in",
            deletes_known_on_404=True,  # "pages that did exist were successfully deleted"
            params={"include": "body"},
            filters="id:in/id channel_id/int name/text",
            display_fields=("name", "url", "type"),
            note="child pages are kept, moved to the top level and hidden",
        ),
        Resource(
            name="subscribers",  # subscribers.v3.yml: "By default, deletes all subscribers"
            path="v3/customers/subscribers",
            scope="store_v2_customers",
            filters="id:in/id email/text first_name/text last_name/text source/text "
            f"order_id/int {_DATES} {_CHANGES}",
            display_fields=("email", "first_name", "last_name", "date_created"),
            email="email",
        ),
        Resource(
            name="gift_certificates",  # marketing.v2.yml: "By default, it deletes all"
            path="v2/gift_certificates",
            scope="store_v2_marketing",
            id_filter="",
            params=_BY_ID,
            filters="code/text order_id/int to_name/text to_email/text from_name/text "
            "from_email/text",
            display_fields=("code", "to_email", "balance"),
            note="the remaining balance is lost",
        ),
    )
}
# Resources that are read but never deleted.
ORDERS = Resource(
    name="orders",
    path="v2/orders",
    scope="store_v2_orders_read_only",
    params={"sort": "id:asc"},
)
STORE_INFO = Resource(
    name="store_information",
    path="v2/store",
    scope="store_v2_information_read_only",
)

# --- words --------------------------------------------------------------------------
#
# How foreign text, data, times and names are shown.

SECRETS: set[str] = set()  # the token and the like; cut out of the words of others
FOREIGN_LIMIT = 10_000  # characters of foreign text that are looked at
DATA_LIMIT = 1000  # characters of a field in selected.csv and failed.csv
MESSAGE_LIMIT = 300  # characters of the store's message


def printable(text: object, limit: int = 200) -> str:
    """Return data, such as a field of a record, as one printable line."""
    line = str(text)[:FOREIGN_LIMIT]
    if not line.isprintable():
        line = "".join(letter if letter.isprintable() else " " for letter in line)
    line = " ".join(line.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def clean(text: object, limit: int = 200) -> str:
    """Return the words of a store or proxy as one printable line, without SECRETS.

    N17, N18: secrets are cut out whole, before anything is shortened. Ids and fields of
    records are data, of which a short password may be a part: for them, `printable`.
    """
    line = str(text)
    for secret in tuple(SECRETS):  # a worker may add one meanwhile
        line = line.replace(secret, "[secret]")
    return printable(line, limit)


def utc_now() -> str:
    """Return the wall clock's time in UTC, ISO 8601 with milliseconds; not for pacing."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def first_few(words: Sequence[str]) -> str:
    """Return the first five words as one line."""
    more = f" and {len(words) - 5:,} more" if len(words) > 5 else ""
    return ", ".join(words[:5]) + more


def suggest(name: str, known: Iterable[str]) -> str:
    """Return a hint at an unknown name: the nearest known one, or all."""
    known = [*known]
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"


# --- selection ----------------------------------------------------------------------
#
# Decides whether a record is one of those that were selected: the filters, each checked
# here since the API's own only narrow the listing, and the --match expressions. What can
# be read in two ways is refused with ValueError. Nothing here knows the store; the order
# in which filters, lists and orders apply is decided under "listing".


def positive_id(value: object) -> int | None:
    """Return a record's id: a positive whole number, and nothing that looks like one."""
    if isinstance(value, str) and re.fullmatch(r"[1-9][0-9]{0,17}", value):
        value = int(value)
    return value if type(value) is int and value > 0 else None


def moment(text: object) -> datetime:
    """Return a date-time of the API, in UTC if it names no zone; raises ValueError."""
    parsed = datetime.fromisoformat(str(text))
    return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)


# A day, or a moment to the minute or the second; nothing that may mean an hour or a week.
DATE_OR_MOMENT = re.compile(
    r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?", re.ASCII
)


def time_span(text: str) -> tuple[datetime, datetime]:
    """Return the start and the end of a day or second; raises ValueError."""
    if not DATE_OR_MOMENT.fullmatch(text):
        raise ValueError(text)
    start = moment(text).replace(microsecond=0)
    return start, start + (timedelta(days=1) if len(text) == 10 else timedelta(seconds=1))


def number_of_form(pattern: str, of: type) -> Callable[[str], Any]:
    """Return a converter for numbers of that form; it returns None for other texts."""
    return lambda text: of(text) if re.fullmatch(pattern, text) else None


def casefolded(value: object) -> str:
    """Return a value as text filters compare it."""
    return str(value).casefold()


@dataclass(frozen=True)
class FilterType:
    """How the values of one kind of filter are read and compared."""

    # What a value must be; completes "needs ...".
    wanted: str
    # text => value; raises ValueError or returns None for any other text.
    read: Callable[[str], Any]
    # Field of the record => what the value is compared with; raises for odd fields.
    of_record: Callable[[Any], Any] = float


FILTER_TYPES = {
    "id": FilterType("a positive whole number", positive_id, int),  # float loses 2**53 + 1
    "int": FilterType("a whole number", number_of_form(r"-?[0-9]{1,18}", int), int),
    "number": FilterType("a number", number_of_form(r"[0-9]+(\.[0-9]+)?", float)),
    "bool": FilterType("true or false", {"true": True, "false": False}.get, bool),
    "date": FilterType("a date such as 2025-03-31 or 2025-03-31T12:00:00Z", time_span, moment),
    "text": FilterType("text", casefolded, casefolded),
    "texts": FilterType("text", casefolded, casefolded),  # a :like that takes a list
    "choice": FilterType("text", casefolded, casefolded),  # sent in lower case
}

# Suffix of a filter's name => comparison of the record's field with the filter's value.
OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "": operator.eq,
    "in": operator.eq,
    "like": operator.contains,
    "min": operator.ge,
    "max": operator.le,
    "greater": operator.gt,
    "less": operator.lt,
}


@dataclass(frozen=True)
class Filter:
    """A filter of the API, which is checked here on every record."""

    # Such as date_created:min.
    name: str
    # As it was given.
    text: str
    type: FilterType
    # The values: as given => as compared.
    values: Mapping[str, Any]

    @property
    def sent(self) -> str:
        """The value that is sent: date-times in full and in UTC, all else as given."""
        if self.type is FILTER_TYPES["choice"]:
            return self.text.lower()
        if self.type is not FILTER_TYPES["date"]:
            return self.text
        start, end = self.values[self.text]
        return f"{end if self.name.endswith(':max') else start:%Y-%m-%dT%H:%M:%SZ}"

    def matches(self, record: Record) -> bool:
        """Tell whether the record matches; an unknown field does not."""
        if self.type is not FILTER_TYPES["date"]:
            return bool(self.matching_values(record))
        start, end = self.values[self.text]
        if self.name.endswith(":min"):
            return any(item >= start for item in self._fields(record))
        return any(item < end for item in self._fields(record))

    def matching_values(self, record: Record) -> set[str]:
        """Return the values, as given, that the record has."""
        compare = OPERATORS[self.name.partition(":")[2]]
        found = self._fields(record)
        return {
            text
            for text, value in self.values.items()
            if any(compare(item, value) for item in found)
        }

    def is_at_end(self, record: Record) -> bool:
        """Tell whether a :max filter may return this record though it does not match.

        :max means "before" for one resource and "until" for another, so a record of
        exactly the moment that was sent may come from a store that applies the filter.
        """
        if self.type is not FILTER_TYPES["date"]:
            return False
        return self.values[self.text][1] in self._fields(record)

    def _fields(self, record: Record) -> list[Any]:
        """Return what the record has in the filter's field, as it is compared."""
        name = self.name.partition(":")[0]
        value = record.get(name)
        if name == "name" and "first_name" in record:  # customers.v3.yml: both names
            value = f"{record.get('first_name')} {record.get('last_name')}"
        items = value if isinstance(value, list) else [value]
        try:
            return [self.type.of_record(item) for item in items if item is not None]
        except (TypeError, ValueError, OverflowError):
            return []


def make_filter(name: str, text: str, type_name: str) -> Filter:
    """Read a filter; type_name: in FILTER_TYPES. Raises ValueError for a wrong value."""
    text, type_ = text.strip(), FILTER_TYPES[type_name]
    is_list = name.endswith(":in") or type_name == "texts"
    if is_list and re.search(r",\s", text):
        raise ValueError("has a space after a comma, where the API splits values; use --match")
    values = {}
    for part in text.split(",") if is_list else [text]:
        if not part.strip():
            raise ValueError("has an empty value")
        value = None
        with suppress(ValueError, OverflowError):
            value = type_.read(part.strip())
        if value is None:
            raise ValueError(f"needs {type_.wanted}")
        values[part] = value
    return Filter(name, text, type_, values)


def values_at(record: object, path: str, *, with_missing: bool = False) -> list[Any]:
    """Return what is at a path such as addresses.0.country_code; * is any element.

    with_missing: None for each field that an object lacks.
    """
    found = [record]
    for part in path.split("."):
        inner: list[Any] = []
        for item in found:
            if isinstance(item, list):
                inner += elements_at(item, part)
            elif isinstance(item, dict) and part in item:
                inner.append(item[part])
            elif with_missing:
                inner.append(None)
        found = inner
    return found


def elements_at(items: list[Any], part: str) -> list[Any]:
    """Return the elements of a list that a part of a path names: all, one or none."""
    if part == "*":
        return items
    index = int(part) if re.fullmatch(r"[0-9]{1,9}", part) else len(items)
    return items[index : index + 1]


def value_at(record: object, path: str) -> Any:
    """Return what is at a path; None if there is nothing."""
    return next(iter(values_at(record, path)), None)


def leaves_at(record: object, path: str) -> list[Any]:
    """Return the texts, numbers and booleans at or below a path; None for an unknown one.

    Null is unknown, and so is a field that an object lacks. A list that is empty, or too
    short for the path, is known to have no such element.
    """
    found, leaves = values_at(record, path, with_missing=True), list[Any]()
    while found:
        item = found.pop()
        if isinstance(item, dict):
            found += item.values()
        elif isinstance(item, list):
            found += item
        else:
            leaves.append(item)
    return leaves


def shortest_form(value: object) -> str:
    """Return a number or boolean as --match reads it: 100 for 100.0, true for True."""
    if isinstance(value, float):
        return format(Decimal(repr(value)).normalize(), "f")
    return json.dumps(value)


@dataclass(frozen=True)
class Match:
    """--match: records in whose field an expression matches or, negated, does not."""

    path: str
    negated: bool
    pattern: re.Pattern[str]

    def selects(self, record: Record) -> bool:
        """Tell whether this expression selects the record."""
        return self.matches(record) is (not self.negated)

    def matches(self, record: Record) -> bool | None:
        """Tell whether the expression matches in the field; None if that is unknown.

        Text is searched. A number or boolean must match as a whole, and so must each
        element of a list. Null is unknown, and so is a list that the API cut off.
        """
        is_one_element = re.match(r"\w+\.[0-9]", self.path)
        if not is_one_element and self.path.partition(".")[0] in truncated_fields(record):
            return None
        leaves = leaves_at(record, self.path)
        if any(self._matches_leaf(leaf) for leaf in leaves if leaf is not None):
            return True
        return None if None in leaves else False

    def _matches_leaf(self, leaf: object) -> bool:
        if isinstance(leaf, str):
            if not re.fullmatch(r"-?[0-9]{1,18}\.[0-9]{4}", leaf):
                return bool(self.pattern.search(leaf))
            leaf = float(leaf)  # V2 returns numbers as text: "50.0000"
        return bool(self.pattern.fullmatch(shortest_form(leaf)))


def truncated_fields(record: Record) -> dict[str, int]:
    """Return the fields of which the API lists only ten elements => how many there are."""
    truncated = {}
    for name, count_name in (("addresses", "address_count"), ("attributes", "attribute_count")):
        listed, count = record.get(name), record.get(count_name)
        if isinstance(listed, list) and type(count) is int and count > len(listed):
            truncated[name] = count
    return truncated


# --- lists --------------------------------------------------------------------------
#
# Reads the files of --ids and --keep: one entry a line, or a CSV with a header. It reads
# strictly, since a comma too many once deleted the wrong people: a text has one meaning,
# or it is refused with its line. A row that has an id and an address names one record:
# whether both are of the same record is decided when the store has answered.

ADDRESS_LIMIT = 320  # characters of an email address [RFC 3696, erratum 1690]
PLAIN_ADDRESS = re.compile(r"(?!')[\w.!#$%&'+/=?^{|}~-]+@[\w-]+(\.[\w-]+)+")
HANGUL_FILLERS = frozenset("\u115f\u1160\u3164\uffa0")  # invisible, and letters to \w


def normalize_email(address: str) -> str:
    """Return an email address as it is compared: NFC, lower case.

    It is not folded further, since straße and strasse are two people. What is too long
    for an address is returned as it is: normalizing it could take minutes.
    """
    if len(address) > ADDRESS_LIMIT:
        return address
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", address).lower())


def spellings(addresses: Iterable[str]) -> list[str]:
    """Return addresses as written and in lower case: a store's look-up may mind case."""
    written = [unicodedata.normalize("NFC", address) for address in addresses]
    return list(dict.fromkeys([*map(normalize_email, written), *written]))


def is_plain_address(text: str) -> bool:
    """Tell whether the text is exactly one email address, with nothing invisible."""
    if len(text) > ADDRESS_LIMIT:
        return False
    text = unicodedata.normalize("NFC", text)
    return bool(PLAIN_ADDRESS.fullmatch(text)) and HANGUL_FILLERS.isdisjoint(text)


def invisible_characters(text: str) -> str:
    """Return a remark on the invisible characters of a text; "" if there are none."""
    found = [
        f"U+{ord(letter):04X}"
        for letter in text
        if letter in HANGUL_FILLERS
        or (letter != " " and (letter.isspace() or not letter.isprintable()))
    ]
    return f" (contains {first_few(found)})" if found else ""


@dataclass
class ListFile:
    """The entries of a list file: ids, addresses, and rows that have both."""

    # The path, as it was given.
    name: str
    # In the order of the file, without repeats; dict as an ordered set.
    ids: dict[int, None] = field(default_factory=dict)
    # Addresses: as compared => as written.
    emails: dict[str, str] = field(default_factory=dict)
    # Rows with both: id => line in the file, address as compared.
    pairs: dict[int, tuple[int, str]] = field(default_factory=dict)
    # Entries that were repeated.
    duplicates: int = 0

    def __len__(self) -> int:
        return len(self.ids) + len(self.emails)

    def add_id(self, number: int) -> None:
        """Add an entry that is an id."""
        self.duplicates += number in self.ids
        self.ids[number] = None

    def add(self, text: str, *, ids: bool, emails: bool) -> None:
        """Add an id or an address, whichever is allowed; raises ValueError if neither."""
        if ids and (number := positive_id(text)):
            self.add_id(number)
        elif emails and is_plain_address(text):
            address = normalize_email(text)
            self.duplicates += address in self.emails
            self.emails.setdefault(address, text)
        else:
            wanted = ["a positive whole number"] * ids + ["an email address"] * emails
            fault = f"{printable(text)!r} is not {' or '.join(wanted)}"
            raise ValueError(fault + (spreadsheet_remark(text) or invisible_characters(text)))

    def add_pair(self, line: int, number: str, address: str) -> None:
        """Add a row with an id and an address; raises ValueError if one is missing."""
        if not number or not address:
            missing = "address" if number else "id"
            raise ValueError(f"{missing} missing, though the file has a column for it")
        if "@" not in address:
            raise ValueError(f"{printable(address)!r} is not an email address")
        self.add(number, ids=True, emails=False)
        address = normalize_email(address)
        first_line, first_address = self.pairs.setdefault(int(number), (line, address))
        if first_address != address:
            raise ValueError(f"id {number} has a different address in line {first_line}")


def spreadsheet_remark(text: str) -> str:
    """Return a remark on a number such as 1.0 or 1E+05; "" for other texts."""
    form = r"[0-9]+[.,]0+|[0-9]+([.,][0-9]+)?E\+?[0-9]+"
    if not re.fullmatch(form, text, re.IGNORECASE):
        return ""
    return f" (format the column as whole numbers and {SAVE_AS_CSV})"


@dataclass(frozen=True)
class Columns:
    """Which columns of a list file hold its entries."""

    separator: str
    # The cells of the header; empty in a plain list.
    header: tuple[str, ...] = ()
    # The columns of ids and addresses; None if there is none.
    ids: int | None = None
    emails: int | None = None

    def add_row(self, line: int, row: Sequence[str], entries: ListFile) -> None:
        """Add the entry of a row; raises ValueError if the row can be misread."""
        if len(row) > len(self.header) and sum(map(bool, row)) > 1:
            raise ValueError("more values than columns; quote values that contain commas")
        if any(cell and not name for cell, name in itertools.zip_longest(row, self.header)):
            raise ValueError("value in an unnamed column")
        number = self._cell(row, self.ids)
        # selected.csv has a ' before what a spreadsheet would take for a formula.
        address = re.sub("^'(?=[=+@-])", "", self._cell(row, self.emails))
        if self.ids is not None and self.emails is not None:
            entries.add_pair(line, number, address)
        else:
            has_ids = self.ids is not None
            entries.add(number or address, ids=has_ids, emails=not has_ids)

    @staticmethod
    def _cell(row: Sequence[str], column: int | None) -> str:
        return row[column] if column is not None and column < len(row) else ""


SAVE_AS_CSV = "save it as CSV UTF-8"
SEPARATORS = ",;\t"


def decode_list(content: bytes) -> str:
    """Return the text of a list file; raises ValueError for anything but UTF-8."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"line {line}: not UTF-8 text; {SAVE_AS_CSV}") from error


def read_list(text: str, resource: Resource, name: str = "") -> ListFile:
    """Return the entries of a list; raises ValueError that names the line."""
    columns = find_columns(text, resource)
    entries = ListFile(name)
    rows = csv_rows(text, columns.separator)
    for line, row in itertools.islice(rows, 1 if columns.header else 0, None):
        try:
            if columns.header:
                columns.add_row(line, row, entries)
            elif any(row[1:]):
                raise ValueError("several values, but no header row")
            else:
                entries.add(row[0], ids=True, emails=bool(resource.email))
        except ValueError as error:
            raise ValueError(f"line {line}: {error}") from None
    if not entries:
        raise ValueError(f"lists no {resource.plural}")
    return entries


def csv_rows(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield line and cells of each row that is not empty; raises ValueError."""
    csv.field_size_limit(2**31 - 1)
    lines = (match[0] for match in re.finditer(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+", text))
    reader = csv.reader(lines, delimiter=separator, strict=True)
    while True:
        first_line = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            is_open = "unexpected end" in str(error)
            fault = "unclosed quote" if is_open else "text after a closing quote"
            raise ValueError(f"line {first_line}: {fault}") from error
        if row is None:
            return
        cells = [cell.strip(" \t") for cell in row]
        pairs = zip(row, cells, strict=True)
        if any(cell != stripped and stripped.startswith('"') for cell, stripped in pairs):
            raise ValueError(f"line {first_line}: space before a quote; remove it")
        if any(cells):
            yield reader.line_num, cells


def find_columns(text: str, resource: Resource) -> Columns:
    """Return the columns of a list; raises ValueError unless there is one way to read it.

    Each separator is tried on the first line. If none fits, the fault of the one that
    found most columns is told.
    """
    found: dict[tuple[str, ...], Columns] = {}
    faults = [(0, f"lists no {resource.plural}")]
    for separator in SEPARATORS:
        header: list[str] = []
        try:
            _, header = next(csv_rows(text, separator), (1, []))
            alone = header[0] if header and not any(header[1:]) else ""
            if positive_id(alone) or (resource.email and is_plain_address(alone)):
                return Columns(separator)
            if header:
                columns = read_header(separator, header, resource)
                found.setdefault(columns.header, columns)
        except ValueError as error:
            faults.append((len(header) or 1, str(error)))
    if not found:
        raise ValueError(max(faults, key=lambda fault: fault[0])[1])
    if len(found) > 1:
        raise ValueError("line 1: ambiguous header; use one separator")
    return next(iter(found.values()))


def column_key(name: str) -> str:
    """Return the name of a column as it is compared: without case, spaces, _ and -."""
    return re.sub(r"[ _-]", "", name.casefold())


ADDRESS_COLUMNS = ("email", "emailaddress", "emailadresse", "adresseemail")


def read_header(separator: str, header: Sequence[str], resource: Resource) -> Columns:
    """Return the columns that a header names; raises ValueError if that is ambiguous."""
    names = [column_key(name) for name in header]
    if not {"item", "itemtype"}.isdisjoint(names):
        raise ValueError(
            "line 1: a product export (Item column) also lists ids of variants and "
            "images in its ID column; make a list of the ids to delete"
        )
    own_names = ("id", column_key(resource.id_column))
    ids = [place for place, name in enumerate(names) if name in own_names]
    emails = [place for place, name in enumerate(names) if name in ADDRESS_COLUMNS]
    if not resource.email:
        emails = []
    if not ids:
        others = {column_key(other.id_column) for other in RESOURCES.values()}
        for name in header:
            if column_key(name) in others:
                raise ValueError(f"line 1: lists {printable(name, 40)}s, not {resource.plural}")
    odd = [name for name in header if "mail" in column_key(name)]
    if resource.email and ids and odd and not emails:
        fault = f'line 1: column "{printable(odd[0], 40)}" may have addresses'
        raise ValueError(f"{fault}; rename it to email, or remove it")
    if len(ids) > 1 or len(emails) > 1 or not ids + emails:
        shown = ", ".join(printable(name, 40) for name in header if name)
        wanted = f"id, {resource.singular} id" + (" or email" if resource.email else "")
        count = "no" if not ids + emails else "more than one"
        raise ValueError(
            f"line 1: {count} {wanted} column (columns: {shown})"
            f"{invisible_characters(''.join(header))}"
        )
    return Columns(
        separator,
        tuple(header),
        ids[0] if ids else None,
        emails[0] if emails else None,
    )


class ListMatcher:
    """Which entries of a list match a record in the store, as records are seen."""

    def __init__(self, entries: ListFile, resource: Resource) -> None:
        self.entries = entries
        # Records that the list excluded.
        self.excluded = 0
        # Whether the store looked the entries up, rather than all records being compared.
        self.is_looked_up = False
        self._resource = resource
        self._ids: set[int] = set()
        # Addresses as compared => ids of the records that have them.
        self._emails: dict[str, set[int]] = {}
        paired = (address for _, address in entries.pairs.values())
        self._paired: dict[str, set[int]] = {address: set() for address in paired}

    def matches(self, record: Record) -> bool:
        """Tell whether an entry matches the record, and remember it."""
        number, entries = self._resource.id_of(record), self.entries
        is_listed = number in entries.ids
        if is_listed:
            self._ids.add(number)
        if entries.emails or self._paired:
            address = self._resource.address_of(record)
            if address in self._paired:
                self._paired[address].add(number)
            if address in entries.emails:
                self._emails.setdefault(address, set()).add(number)
                return True
        return is_listed

    @property
    def matched(self) -> int:
        """How many entries match a record."""
        return len(self._ids) + len(self._emails)

    def unmatched_ids(self) -> list[int]:
        """Return the ids that match no record."""
        return [number for number in self.entries.ids if number not in self._ids]

    def unmatched_emails(self) -> list[str]:
        """Return the addresses that match no record, as written."""
        emails = self.entries.emails.items()
        return [written for address, written in emails if address not in self._emails]

    def unmatched(self) -> list[str]:
        """Return the entries that match no record."""
        return [*map(str, self.unmatched_ids()), *self.unmatched_emails()]

    def emails_of_unmatched_ids(self) -> list[str]:
        """Return the addresses of rows whose id matches no record: another may have it."""
        pairs = self.entries.pairs.items()
        emails = [address for number, (_, address) in pairs if number not in self._ids]
        return [address for address in emails if is_plain_address(address)]

    def contradictions(self) -> list[str]:
        """Return the rows whose id and address are of two records: "line 2 (id 26)"."""
        return [
            f"line {line} (id {number})"
            for number, (line, address) in self.entries.pairs.items()
            if number not in self._paired[address]
            and (number in self._ids or self._paired[address])
        ]

    def shared_emails(self) -> list[str]:
        """Return the addresses that several records have."""
        return [address for address, ids in self._emails.items() if len(ids) > 1]


# --- configuration ------------------------------------------------------------------
#
# Turns store.ini and the command line into one frozen Config, or names the file, line,
# key or option that is wrong. A field of Config made by `option` is both an option of the
# command line and a key of [cleanup]; an option replaces its key, or adds to it. To add an
# option, add such a field and a line in config.example.ini.


@dataclass(frozen=True)
class Option:
    """One option: how its text is read, and what --help says about it."""

    # text => value; raises ValueError that completes "--name ...".
    convert: Callable[[str], Any]
    # Its group in --help; "" if only the ini has it.
    group: str = ""
    # The placeholder of its value; "" for a switch.
    metavar: str = ""
    help: str = ""
    in_ini: bool = True
    # May be given more than once, and makes a tuple.
    repeats: bool = False
    # The values of the ini and of the command line add up.
    adds_up: bool = False
    # Part of the selection, which --resume takes from the plan.
    selects: bool = False
    # Repeated in the command that resumes the run.
    resumes: bool = False
    name: str = ""

    @property
    def flag(self) -> str:
        """The option as it is typed."""
        return "--" + self.name.replace("_", "-")


def option(
    default: Any,
    convert: Callable[[str], Any],
    group: str = "",
    metavar: str = "",
    help: str = "",
    **more: Any,
) -> Any:
    """Return a field of Config that is an Option."""
    metadata = {"option": Option(convert, group, metavar, help, **more)}
    return field(default=default, metadata=metadata, repr=convert is not web_address)


def number(low: float, high: float, wanted: str, *, of: type = int) -> Callable[[str], Any]:
    """Return a converter for numbers from low to high; wanted completes "must be"."""
    pattern = r"[0-9]{1,18}" if of is int else r"[0-9]{1,18}(\.[0-9]{1,18})?"

    def convert(text: str) -> Any:
        value = of(text) if re.fullmatch(pattern, text) else -1
        if not low <= value <= high:
            raise ValueError(f"must be {wanted}")
        return value

    return convert


positive = number(1, math.inf, "a whole number of 1 or more")
not_negative = number(0, math.inf, "a whole number of 0 or more")


def percentage(text: str) -> float:
    """Convert a percentage, with or without the sign."""
    convert = number(0, 100, "a percentage from 0 to 100", of=float)
    return float(convert(text.removesuffix("%").rstrip()))


def switch(text: str) -> bool:
    """Convert the values that an ini uses for a boolean."""
    words = {"yes": True, "true": True, "on": True, "1": True}
    words |= {"no": False, "false": False, "off": False, "0": False}
    if text.lower() not in words:
        raise ValueError("must be yes or no")
    return words[text.lower()]


def resource_named(text: str) -> Resource:
    """Convert the name of a resource; never suggests to delete another one (N31)."""
    if text not in RESOURCES:
        raise ValueError("is not a resource (see --resource list)")
    return RESOURCES[text]


def name_and_value(text: str) -> tuple[str, str]:
    """Convert NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ValueError("must be NAME=VALUE")
    return name.strip().lower(), value


def match_expression(text: str) -> Match:
    """Convert FIELD=REGEX or FIELD!=REGEX."""
    path, equals, pattern = text.partition("=")
    negated, path = path.endswith("!"), path.removesuffix("!").strip()
    if not path or not equals or not pattern or pattern[0] in " =":
        raise ValueError("must be FIELD=REGEX or FIELD!=REGEX, without a space after =")
    if is_quoted(pattern) or is_quoted(path):
        raise ValueError('starts or ends with a quote; remove it, or write ["] to match one')
    if re.search(r"\[:\^?[a-z]+:\]", pattern):
        raise ValueError(r"has a POSIX class, which Python lacks; use \d, \w or [a-z]")
    try:
        return Match(path, negated, re.compile(pattern))
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"has an invalid regular expression ({error})") from error


def file_path(text: str) -> Path:
    """Convert a path; ~ is the home folder."""
    if not text:
        raise ValueError("must be a path")
    with suppress(RuntimeError):  # no such user
        return Path(text).expanduser()
    return Path(text)


def web_address(text: str) -> str:
    """Convert an http or https URL, which is a secret: it may hold a password."""
    SECRETS.update(filter(None, [text]))
    try:
        parts = urlsplit(text)
        is_valid = bool(re.fullmatch(r"https?://[!-~]+", text) and parts.hostname)
        is_valid = is_valid and parts.port != 0
    except ValueError:  # the port is not a number
        is_valid = False
    if not is_valid:
        raise ValueError("must be an http or https URL")
    return text


WHAT, SAFETY, PACE, OUTPUT = "what to delete", "safety", "pace", "output"


@dataclass(frozen=True, kw_only=True)
class Config:
    """The settings of one run."""

    # The ini file.
    path: Path
    # [store]. host: of the API, moved by BC_API_ENDPOINT; domain: "" if not given.
    host: str
    store_hash: str
    access_token: str = field(repr=False)
    client_id: str
    domain: str

    resource: Resource = option(
        RESOURCES["customers"],
        resource_named,
        WHAT,
        "NAME",
        'record type (default: customers); "list" shows all',
        selects=True,
    )
    # By name; those of [filters] too.
    filter: Mapping[str, Filter] = option(
        (),
        name_and_value,
        WHAT,
        "NAME=VALUE",
        "only records matching this API filter",
        in_ini=False,
        repeats=True,
        selects=True,
    )
    match: tuple[Match, ...] = option(
        (),
        match_expression,
        WHAT,
        "FIELD=REGEX",
        "only records whose FIELD matches REGEX (FIELD!=REGEX: does not match)",
        repeats=True,
        selects=True,
    )
    ids: Path | None = option(
        None,
        file_path,
        WHAT,
        "FILE",
        "only records listed in FILE (ids or email addresses)",
        selects=True,
    )
    keep: tuple[Path, ...] = option(
        (),
        file_path,
        WHAT,
        "FILE",
        "exclude records listed in FILE (may be repeated)",
        repeats=True,
        adds_up=True,
        selects=True,
    )
    spare_with_orders: bool = option(
        False, switch, WHAT, "", "exclude customers that have orders", selects=True
    )
    limit: int | None = option(
        None, positive, WHAT, "N", "delete at most N records", selects=True
    )
    max_delete: int | None = option(
        None,
        not_negative,
        SAFETY,
        "N",
        "refuse to delete more than N records",
        resumes=True,
    )
    dry_run: bool = option(
        False, switch, SAFETY, "", "list records and write the plan; delete nothing"
    )
    yes: bool = option(False, switch, SAFETY, "", "skip the confirmation prompt", in_ini=False)
    resume: Path | None = option(
        None,
        file_path,
        SAFETY,
        "RUN_FOLDER",
        "resume a run, or execute a dry run's plan",
        in_ini=False,
    )
    runs_dir: Path = option(
        Path("runs"),
        file_path,
        SAFETY,
        "DIR",
        "directory for run folders (default: runs)",
    )
    no_backup: bool = option(False, switch, SAFETY, "", "do not write backup.jsonl")
    rate_limit: int | None = option(
        None,
        positive,
        PACE,
        "N",
        "at most N requests in each of the store's rate-limit windows",
        resumes=True,
    )
    batch_size: int | None = option(
        None,
        positive,
        PACE,
        "N",
        "ids in one DELETE (default: as many as the API takes)",
        resumes=True,
    )
    max_concurrent: int = option(
        5,
        number(1, 5, "a whole number from 1 to 5"),
        PACE,
        "N",
        "requests in flight at once, 1 to 5 (default: 5)",
        resumes=True,
    )
    min_requests_remaining: int = option(0, not_negative)
    count_items: bool = option(False, switch)
    max_retries: int = option(5, number(0, 20, "a whole number from 0 to 20"))
    # Seconds to wait for an answer, or for more of it.
    timeout: float = option(
        60.0, number(1e-3, 3600, "a number of seconds above 0, at most 3600", of=float)
    )
    # In percent of the selection.
    max_error_rate: float = option(10.0, percentage)
    webhook_url: str = option("", web_address)
    json: bool = option(
        False,
        switch,
        OUTPUT,
        "",
        "print the summary as JSON on stdout, everything else on stderr",
        in_ini=False,
        resumes=True,
    )
    verbose: bool = option(False, switch, OUTPUT, "", "show every request")

    # What --ids and --keep list.
    ids_list: ListFile | None = None
    keep_lists: Sequence[ListFile] = ()
    # What selects, besides the filters, in the words given: option => words.
    selection: Mapping[str, str] = field(default_factory=dict)
    # Keys of the ini that exclude records, though --resume ignores them: key => value.
    ini_protections: Mapping[str, str] = field(default_factory=dict)
    # Options of the command line that the command to resume repeats.
    resume_options: Sequence[str] = ()
    warnings: Sequence[str] = ()

    @property
    def filters(self) -> dict[str, str]:
        """The filters, in the words given."""
        return {name: item.text for name, item in self.filter.items()}


OPTIONS = {
    item.name: replace(item.metadata["option"], name=item.name)
    for item in fields(Config)
    if item.metadata
}
STORE_KEYS = ("store_hash", "access_token", "client_id", "domain")
CLEANUP_KEYS = [name for name, option in OPTIONS.items() if option.in_ini]
FILTER_KEYS = sorted({name for r in RESOURCES.values() for name in r.filter_types()})
INI_KEYS = {"store": STORE_KEYS, "cleanup": CLEANUP_KEYS, "filters": FILTER_KEYS}
Keys = Mapping[str, str]  # of a section of the ini => their values
QUOTES = "'\"“”„‘’"


def is_quoted(value: str) -> bool:
    """Tell whether a value begins or ends with a quote."""
    return bool(value) and (value[0] in QUOTES or value[-1] in QUOTES)


def read_ini(path: Path) -> dict[str, dict[str, str]]:
    """Return the sections of an ini file, each as key => value; raises ConfigError.

    Its values are taken as they are: = is the only delimiter, and there are no inline
    comments, quotes, continuation lines or defaults, each of which could turn a
    protection into one that protects nobody. N28: a message names the line and never
    quotes it, since it may hold the token.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        fault = "not found. Copy config.example.ini and edit it."
        raise ConfigError(f"{path}: {fault}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text. Save it as UTF-8.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path}: cannot be read ({reason}).") from error
    if "\0" in text:
        raise ConfigError(f"{path}: not UTF-8 text. Save it as UTF-8.")
    sections: dict[str, dict[str, str]] = {}
    section = ""
    for number_, line in enumerate(re.split(r"\r\n|\r|\n", text), 1):
        line = line.strip()
        try:
            if header := re.fullmatch(r"\[(.*)\]", line):
                section = check_section(header[1], sections)
                sections[section] = {}
            elif line and line[0] not in "#;":
                key, value = read_key(line, section)
                if key in sections[section]:
                    raise ValueError("duplicate key")
                sections[section][key] = value
        except ValueError as error:
            raise ConfigError(f"{path}, line {number_}: {error}.") from None
    if "store" not in sections:
        raise ConfigError(f"{path}: section [store] is missing. See config.example.ini.")
    return sections


def check_section(name: str, sections: Container[str]) -> str:
    """Return the name of a section; raises ValueError unless it is known and new."""
    if name in sections:
        raise ValueError("duplicate section")
    if name not in INI_KEYS:
        raise ValueError(f"unknown section ({suggest(name, INI_KEYS)})")
    return name


def read_key(line: str, section: str) -> tuple[str, str]:
    """Return key and value of a line; raises ValueError, which never quotes it."""
    key, equals, value = line.partition("=")
    key, value = key.strip().lower(), value.strip()
    if not equals:
        raise ValueError("expected [section] or key = value")
    if not section:
        raise ValueError("expected a section such as [store] before the first key")
    if section == "cleanup" and key in (*OPTIONS, "config", "version"):
        if key not in CLEANUP_KEYS:
            raise ValueError(f"--{key} can only be given on the command line")
    elif key not in INI_KEYS[section]:
        name = key if section == "filters" else key.partition(":")[0]
        hint = suggest(name, INI_KEYS[section])
        if section == "filters" and hint.startswith("known"):  # too many to list
            hint = "see --resource list"
        raise ValueError(f"unknown key in [{section}] ({hint})")
    if is_quoted(value):
        raise ValueError(f"{key} is in quotes; remove them")
    if re.search(r"\s[;#]", value):
        raise ValueError(f"{key} has a comment after its value; move it to its own line")
    return key, value


def read_store(path: Path, section: Keys, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of Config that [store] and the environment set."""
    token, source = section.get("access_token", ""), f"{path}: access_token"
    if not token and (token := environ.get("BIGCOMMERCE_ACCESS_TOKEN", "").strip()):
        source = "BIGCOMMERCE_ACCESS_TOKEN"
    SECRETS.update(filter(None, [token]))
    store_hash = read_store_hash(path, section.get("store_hash", ""))
    if not token:
        raise ConfigError(f"{source} is empty. Fill it in, or set BIGCOMMERCE_ACCESS_TOKEN.")
    if is_quoted(token):
        raise ConfigError(f"{source} is in quotes. Remove them.")
    client_id = section.get("client_id", "")
    for name, value in ((source, token), (f"{path}: client_id", client_id)):
        if not re.fullmatch(r"[!-~]*", value):
            raise ConfigError(f"{name} has a space or a non-ASCII character. Paste it again.")
    host = environ.get("BC_API_ENDPOINT") or DEFAULT_HOST
    if not re.fullmatch(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?", host):
        raise ConfigError(f"BC_API_ENDPOINT must be host or host:port, not {clean(host)!r}.")
    domain = bare_domain(section.get("domain", ""))
    if section.get("domain") and not domain:
        raise ConfigError(f"{path}: domain must look like www.example.com.")
    return {
        "host": host,
        "store_hash": store_hash,
        "access_token": token,
        "client_id": client_id,
        "domain": domain,
    }


def read_store_hash(path: Path, text: str) -> str:
    """Return the store hash, which may be given as the API path of the control panel."""
    pasted = re.fullmatch(r"(?:(?:https?://)?[^/]+)?/?stores/([^/]+)(?:/.*)?", text)
    store_hash = pasted[1] if pasted else text
    if not store_hash:
        raise ConfigError(f"{path}: store_hash is empty. Copy it from the API path.")
    if not re.fullmatch(r"[A-Za-z0-9]+", store_hash):
        fault = "store_hash must be letters and digits, or the whole API path"
        raise ConfigError(f"{path}: {fault}.")
    return store_hash


def bare_domain(url: object) -> str:
    """Return the domain of a URL in lower case, without scheme and path."""
    return re.sub(r"^https?://|/.*$", "", str(url).lower())


def convert_text(option: Option, text: str, source: str) -> Any:
    """Return the value of a text; a value of the ini is never shown (N28)."""
    try:
        return option.convert(text)
    except ValueError as error:
        given = f" {clean(text)!r}" if source == option.flag else ""
        raise ConfigError(f"{source}{given} {error}.") from error


def read_options(arguments: argparse.Namespace, cleanup: Keys) -> dict[str, Any]:
    """Return the fields of Config that options set; raises ConfigError."""
    values: dict[str, Any] = {}
    selection: dict[str, str] = {}
    resume_options: list[str] = []
    warnings: list[str] = []
    for name, option in OPTIONS.items():
        argv: list[str] = getattr(arguments, name, None) or []
        ini = [cleanup[name]] if name in cleanup else []
        if arguments.resume and (option.selects or name == "dry_run"):
            if argv and option.selects:
                raise ConfigError(f"{option.flag} cannot be used with --resume.")
            ini = []  # the selection is the plan's
        if len(argv if option.metavar else {*argv}) > 1 and not option.repeats:
            raise ConfigError(f"{option.flag} can be given only once.")
        source = f"{arguments.config}: {name}"
        converted = [convert_text(option, text, source) for text in ini]
        if argv and not option.adds_up:
            if ini and ini != argv and (option.selects or name == "max_delete"):
                overridden = f"{name} = {printable(ini[0], 80)} in {arguments.config}"
                warnings.append(f"{option.flag} overrides {overridden}")
            ini, converted = [], []
        converted += [convert_text(option, text, option.flag) for text in argv]
        if converted:
            values[name] = tuple(converted) if option.repeats else converted[-1]
        if option.selects and values.get(name) and name not in ("resource", "filter"):
            selection[name] = " and ".join(ini + argv)
        if option.resumes and argv and (option.metavar or values[name]):
            resume_options += [option.flag, argv[-1]] if option.metavar else [option.flag]
    lists = {"selection": selection, "resume_options": resume_options}
    return values | lists | {"warnings": warnings}


def read_protections(path: Path, cleanup: Keys) -> dict[str, str]:
    """Return the keys of [cleanup] that exclude records, as key => value."""
    protections = {name: cleanup[name] for name in ("keep", "match") if name in cleanup}
    name = "spare_with_orders"
    if convert_text(OPTIONS[name], cleanup.get(name, "no"), f"{path}: {name}"):
        protections[name] = "yes"
    return protections


def read_filters(
    path: Path, ini: Keys, argv: Iterable[tuple[str, str]], resource: Resource
) -> tuple[dict[str, Filter], list[str]]:
    """Return the filters by name and what to warn of; argv wins over the ini."""
    types = resource.filter_types()
    texts = {name: (f"{path}: {name}", text) for name, text in ini.items()}
    warnings = []
    for name, text in argv:
        source = f"--filter {clean(name)}"
        if texts.get(name, ("",))[0] == source:
            raise ConfigError(f"{source} can be given only once.")
        if name in texts and texts[name][1] != text:
            overridden = f"{name} = {printable(texts[name][1], 80)} in {path}"
            warnings.append(f"{source} overrides {overridden}")
        texts[name] = (source, text)
    filters = {}
    for name, (source, text) in texts.items():
        if name not in types:
            suffix = name.partition(":")[2]  # the opposite of a filter is no suggestion
            alike = [other for other in types if suffix in ("", other.partition(":")[2])]
            hint = suggest(name, alike) if alike else "see --resource list"
            raise ConfigError(f"{source}: not a filter for {resource.plural} ({hint}).")
        try:
            filters[name] = make_filter(name, text, types[name])
        except ValueError as error:
            raise ConfigError(f"{source} {error}.") from error
    return filters, warnings


def read_list_file(option: str, path: Path, resource: Resource) -> ListFile:
    """Return what the file of --ids or --keep lists; raises ConfigError."""
    try:
        return read_list(decode_list(path.read_bytes()), resource, str(path))
    except FileNotFoundError as error:
        raise ConfigError(f"{option} {path}: not found.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{option} {path}: {reason}.") from error


def check_together(config: Config) -> None:
    """Raise ConfigError for options that exclude one another."""
    resource, size = config.resource, config.batch_size
    if config.filter and config.ids is not None:
        raise ConfigError("--ids cannot be combined with --filter or [filters]; use --match.")
    if config.spare_with_orders and resource.name != "customers":
        raise ConfigError(
            f"--spare-with-orders works only with customers, not {resource.plural}."
        )
    if size is not None and size > resource.max_batch and not config.resume:
        is_argv = "--batch-size" in config.resume_options
        name = "--batch-size" if is_argv else f"{config.path}: batch_size"
        limit = f"at most {resource.max_batch} for {resource.plural}"
        raise ConfigError(f"{name} must be {limit}, not {size}.")


def read_config(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Config:
    """Return the settings of a run; raises ConfigError naming file, key or option."""
    path: Path = arguments.config
    ini = read_ini(path)
    cleanup = ini.get("cleanup", {})
    store = read_store(path, ini["store"], environ)
    options = read_options(arguments, cleanup)
    argv_filters = options.pop("filter", ())
    config = Config(
        path=path, **store, **options, ini_protections=read_protections(path, cleanup)
    )
    resource, warnings = config.resource, list(config.warnings)
    if mode := mode_readable_by_others(path):
        fault = f"{path} is readable by other users ({mode:04o})"
        warnings.insert(0, f"{fault}. Run: chmod 600 {path}")
    ini_filters = {} if arguments.resume else ini.get("filters", {})
    filters, overrides = read_filters(path, ini_filters, argv_filters, resource)
    config = replace(config, filter=filters, warnings=[*warnings, *overrides])
    check_together(config)
    ids_list = read_list_file("--ids", config.ids, resource) if config.ids else None
    keep_lists = [read_list_file("--keep", file, resource) for file in config.keep]
    return replace(config, ids_list=ids_list, keep_lists=keep_lists)


class Parser(argparse.ArgumentParser):
    """A parser that says in one sentence what is wrong."""

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError instead of printing the usage."""
        if missing := re.match(r"argument (?:-\w/)?(\S+): expected one argument", message):
            message = f"{missing[1]} needs a value"
        raise ConfigError(f"{message}.")

    def parse(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """Return the arguments, --config as a path; raises ConfigError."""
        arguments, unknown = self.parse_known_args(argv)
        if unknown:
            name = unknown[0].partition("=")[0]
            if not name.startswith(("-", "–", "—")):
                raise ConfigError(f"Unexpected argument: {clean(name)}")
            flags = [flag[2:] for action in self._actions for flag in action.option_strings]
            word = name.lower().lstrip("-–—")
            close = difflib.get_close_matches(word, flags, n=1, cutoff=0.8)
            hint = f"Did you mean --{close[0]}?" if close else "See --help."
            raise ConfigError(f"Unknown option {clean(name)}. {hint}")
        if len(arguments.config or ()) > 1:
            raise ConfigError("--config can be given only once.")
        if not arguments.config and arguments.resource != ["list"]:
            raise ConfigError("--config FILE is required: the store's ini file.")
        arguments.config = Path(*arguments.config or ())
        return arguments


EXAMPLES = """\
examples:
  python bulk_delete.py --config store.ini --dry-run
      list all customers, write the plan and a backup, and delete nothing
  python bulk_delete.py --config store.ini --ids merchant.csv --keep staff.txt
      delete the customers in merchant.csv, excluding those in staff.txt
  python bulk_delete.py --config store.ini --resume runs/RUN_FOLDER
      execute the plan of a dry run, or resume a run that ended early
"""


def make_parser() -> Parser:
    """Return the command line; each option collects the texts that were given."""
    parser = Parser(
        prog="bulk_delete.py",
        usage="python bulk_delete.py --config FILE [option ...]",
        description="Delete many records from one BigCommerce store: review, delete, verify.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    help_text = "the store's ini file (required)"
    parser.add_argument("--config", action="append", metavar="FILE", help=help_text)
    for group in (WHAT, SAFETY, PACE, OUTPUT):
        add = parser.add_argument_group(group).add_argument
        for option in (item for item in OPTIONS.values() if item.group == group):
            names = [*SHORT_FORMS.get(option.name, ()), option.flag]
            if option.metavar:
                add(*names, action="append", metavar=option.metavar, help=option.help)
                continue
            is_negative = option.flag.startswith("--no-")
            opposite = "--" + option.flag[5:] if is_negative else "--no-" + option.flag[2:]
            kind = {"dest": option.name, "action": "append_const"}
            add(*names, **kind, const="yes", help=option.help)
            add(opposite, **kind, const="no", help=argparse.SUPPRESS)
    parser.add_argument("--version", action="version", version=f"bulk_delete.py {__version__}")
    return parser


SHORT_FORMS = {"dry_run": ["-n"], "yes": ["-y"], "verbose": ["-v"]}


# --- rate limiting ------------------------------------------------------------------
#
# Decides when a request may leave. The store counts the requests of all its apps in fixed
# windows, and every response has the quota of a window, how long a window lasts, how many
# requests are left, and when it ends [BigCommerce, API rate limits].
#
# A token is the right to one request (with count_items, to one id of it). `Window` mirrors
# the store's current window: tokens = left - in flight, since the store has not counted
# what it has not seen. Within a window `left` only falls, so of two responses the lower
# one is right. A response was made between the moment its request left and the moment it
# arrived, so the end of a window is only known to be between two times. What other apps
# are likely to take of the window is left to them: without that we would starve them, and
# collect 429s. `TokenBucket` is the part that waits: it spreads the tokens evenly over
# the window, or hands them out at full speed if the rest of the job fits into it.


@dataclass(frozen=True)
class Quota:
    """The rate-limit headers of a response; None if one is absent or invalid."""

    quota: int | None
    left: int | None
    # Milliseconds to the end of the window, and of a whole window.
    reset_ms: int | None
    window_ms: int | None


def read_quota(headers: Mapping[str, str]) -> Quota:
    """Read the X-Rate-Limit headers, each on its own."""

    def number(name: str, low: int, high: int) -> int | None:
        text = headers.get("X-Rate-Limit-" + name, "").strip()
        value = int(text) if re.fullmatch(r"[0-9]{1,12}", text) else -1
        return value if low <= value <= high else None

    return Quota(
        quota=number("Requests-Quota", 1, 10**12),
        left=number("Requests-Left", 0, 10**12),
        reset_ms=number("Time-Reset-Ms", 0, 600_000),
        window_ms=number("Time-Window-Ms", 1, 600_000),
    )


class Window:
    """The store's current window, as far as its responses tell; it looks at no clock.

    quota: tokens a window, and seconds: its length, until a response says otherwise;
    ceiling: the most tokens to take in a window, or None; reserve: tokens to leave.
    """

    DRIFT = 0.0002  # of the two clocks, as a share of a window

    def __init__(
        self, quota: int, seconds: float, *, ceiling: int | None, reserve: int
    ) -> None:
        self.quota, self.seconds = quota, seconds
        self.ceiling, self.reserve = ceiling, reserve
        # Whether a response has told when windows end; until then the quota is a guess.
        self.is_known = False
        # The window ends between these times; infinite before the first request.
        self.earliest_end = self.latest_end = math.inf
        # What the store had left, by the lowest response of this window.
        self.left = quota
        # When the request behind `left` was sent.
        self.left_at = -math.inf
        # Tokens taken in this window; and those of requests not answered yet.
        self.taken = self.in_flight = 0
        # Tokens gone before the first response: they say nothing about other apps' rate.
        self.used_before = 0
        # Tokens that other apps took in the last window; None before there was one.
        self.others_last: float | None = None
        # Time and cost of the window's last request.
        self.last_at, self.last_cost = -math.inf, 0

    def largest(self) -> int:
        """Return the most tokens that one request may ever cost."""
        reserve = self.reserve if self.is_known else min(self.reserve, self.quota - 1)
        largest = self.quota - reserve
        return largest if self.ceiling is None else min(largest, self.ceiling)

    def tokens(self) -> int:
        """Return the tokens that may be taken now."""
        reserve = self.reserve if self.is_known else min(self.reserve, self.quota - 1)
        tokens = self.left - self.in_flight - reserve
        return tokens if self.ceiling is None else min(tokens, self.ceiling - self.taken)

    def used_by_others(self) -> int:
        """Return how many tokens other apps were seen to take in this window."""
        return max(0, self.quota - self.left - self.taken - self.used_before)

    def expected_by_others(self, now: float) -> float:
        """Return how many tokens other apps will take by the window's end."""
        if self.latest_end == math.inf:
            return 0.0
        began = self.latest_end - self.seconds
        elapsed = now - began
        if self.others_last is None:
            rate = self.used_by_others() / max(elapsed, self.seconds / 4)
        else:
            rate = (self.others_last + self.used_by_others()) / (self.seconds + elapsed)
        expected = rate * (self.latest_end - max(began, self.left_at))
        return min(expected, 0.9 * self.left)  # beside a greedy app something is left

    def take(self, now: float, cost: int) -> None:
        """Count a request that leaves now."""
        if self.latest_end == math.inf:
            self.earliest_end = self.latest_end = now + self.seconds
        self.last_at, self.last_cost = now, cost
        self.taken += cost
        self.in_flight += cost

    def advance(self, now: float) -> None:
        """Begin the next window once this one has surely ended."""
        if now >= self.latest_end:
            self._begin(1 + (now - self.latest_end) // self.seconds)

    def _begin(self, steps: float) -> None:
        """Begin the window that is so many windows after this one."""
        self.others_last = self.used_by_others() if steps == 1 else 0.0
        drift = steps * self.seconds * self.DRIFT
        self.earliest_end += steps * self.seconds - drift
        self.latest_end += steps * self.seconds + drift
        self.left = self.quota
        self.taken = self.in_flight  # the store may count them in this window
        self.used_before = 0
        self.last_at, self.last_cost = -math.inf, 0

    def answered(self, now: float, sent_at: float, cost: int, told: Quota) -> None:
        """Add a response that came now to a request of that cost, sent at sent_at."""
        self.in_flight -= cost
        if told.window_ms is not None and told.window_ms / 1000 != self.seconds:
            self.seconds, self.is_known = told.window_ms / 1000, False
        is_first, is_slow = not self.is_known, now - sent_at > self.seconds / 3
        is_placed = told.reset_ms is not None and not is_slow
        if is_placed and not self._place_end(now, sent_at, (told.reset_ms or 0) / 1000, cost):
            return
        is_changed = told.quota is not None and told.quota != self.quota
        if is_changed:
            self.quota = told.quota or self.quota
            self.left = self.quota - self.taken
        if told.left is None or is_slow:  # it may count in this window
            self.left -= cost
        else:
            self.left = min(self.left, told.left)
            self.left_at = max(self.left_at, sent_at)
        if is_first or is_changed:
            self.used_before = max(0, self.quota - self.left - self.taken)

    def _place_end(self, now: float, sent_at: float, reset: float, cost: int) -> bool:
        """Correct the end of the window; False for a late response of the last one.

        The end is between sent_at + reset and now + reset, give or take the millisecond
        to which it is cut. Moved by whole windows, this interval and the one known so
        far overlap.
        """
        earliest, latest = sent_at + reset - 0.001, now + reset + 0.001
        if not self.is_known:
            self.is_known = True
            self.earliest_end, self.latest_end = earliest, latest
            self.left = self.quota
            return True
        ahead = (earliest + latest - self.earliest_end - self.latest_end) / 2
        steps = round(ahead / self.seconds)
        if steps < 0 and sent_at < self.latest_end - self.seconds:
            self.taken = max(0, self.taken - cost)
            return False
        if steps > 0:
            self._begin(steps)
            self.taken += cost
        self.earliest_end = max(earliest, self.earliest_end)
        self.latest_end = min(latest, self.latest_end)
        if self.earliest_end > self.latest_end:  # windows do not follow exactly
            self.earliest_end, self.latest_end = earliest, latest
        return True


class TokenBucket:
    """Hands the tokens of the store's window to the workers, and makes them wait.

    capacity: tokens a window, and refill_rate: tokens a second, until the first
    response; ceiling and reserve: as in Window. clock and sleep are in seconds; sleep
    may raise, and is never called with the lock held.
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
        seconds = capacity / refill_rate
        self.window = Window(capacity, seconds, ceiling=ceiling, reserve=reserve)
        # 429s since the last success, and when the last one came that counted.
        self.refusals_in_a_row, self._refused_at = 0, -math.inf
        self._clock, self._sleep = clock, sleep
        # Guards the window and the pause.
        self._lock = threading.Lock()
        # Everybody waits until then.
        self._paused_until = -math.inf
        # Tokens that the rest of the job needs.
        self._remaining = math.inf

    def acquire(self, cost: int = 1) -> int:
        """Wait for that many tokens, take them and return their number.

        No more than a window ever has are taken. Raises whatever sleep raises.
        """
        while True:
            cost = min(cost, max(1, self.window.largest()))
            delay = self._take_or_delay(cost)
            if delay <= 0:
                return cost
            self._sleep(min(delay, POLL))

    def _take_or_delay(self, cost: int) -> float:
        """Take the tokens and return 0, or return the seconds until the next try."""
        with self._lock:
            now = self._clock()
            self.window.advance(now)
            delay = self._delay(now, cost)
            if delay <= 0:
                self.window.take(now, cost)
                self._remaining -= cost
            return delay

    def _delay(self, now: float, cost: int) -> float:
        window = self.window
        if now < self._paused_until:
            return self._paused_until - now
        if self.refusals_in_a_row and window.in_flight:
            return POLL  # one request tries whether the store accepts again
        spare = window.tokens() - window.expected_by_others(now)
        if spare < cost:
            return max(window.latest_end - now, 0.001)
        if self._remaining <= spare or window.last_at == -math.inf:
            return 0.0
        rest = max(0.0, window.earliest_end - window.last_at)
        interval = rest / max(spare + window.last_cost, 1.0)
        return window.last_at + window.last_cost * interval - now

    def update_from_headers(
        self, headers: Mapping[str, str], sent_at: float, cost: int = 1
    ) -> None:
        """Add the response to a request of that cost, sent at that time of the clock."""
        told = read_quota(headers)
        with self._lock:
            now = self._clock()
            self.window.advance(now)
            self.window.answered(now, sent_at, cost, told)

    def pause(self, seconds: float) -> None:
        """Let nobody send for so many seconds."""
        with self._lock:
            self._paused_until = max(self._paused_until, self._clock() + seconds)

    def refused(self, sent_at: float) -> int:
        """Add a 429 to a request sent then; return how many there were in a row.

        Requests that were in flight together count once. Until one succeeds, one at a
        time is sent.
        """
        with self._lock:
            if sent_at >= self._refused_at:
                self.refusals_in_a_row += 1
                self._refused_at = self._clock()
            return self.refusals_in_a_row

    def succeeded(self) -> None:
        """Add a response that settled its request."""
        self.refusals_in_a_row = 0

    def set_remaining(self, tokens: float) -> None:
        """Set how many tokens the rest of the job needs: if it fits, nobody waits."""
        self._remaining = tokens

    def largest(self) -> int:
        """Return the most tokens that one request may ever cost."""
        return self.window.largest()

    def waiting_for(self) -> str:
        """Return why the next request waits; "" if that is not worth a word."""
        with self._lock:
            now = self._clock()
            paused, tokens = self._paused_until - now, self.window.tokens()
            ends = self.window.latest_end - now
        if paused > 0:
            reason = "rate-limited" if self.refusals_in_a_row else "paused by the store"
            return f"{reason}, retrying in {math.ceil(paused)}s"
        if tokens < 1 and 1 <= ends < math.inf:
            return f"quota used up, resuming in {math.ceil(ends)}s"
        return ""


# --- answers ------------------------------------------------------------------------
#
# Decides what a response means, once: `classify` returns a Ruling, and everything that
# follows (retry, pause, halve, verify, stop) reads it. `batch_result` puts the rulings
# on all attempts at a batch together. Nothing here sends, waits or writes. To change a
# rule of retrying: `classify` decides whether, `Response.wait` and `backoff` how long,
# `Client.send` how often.

LONGEST_WAIT = 600.0  # seconds: if a store asks for more, the run ends; resume later
MAX_REFUSALS = 10  # 429s in a row that end the run: more is abuse [integration design]
LONGEST_BACKOFF = 60.0  # seconds, without the jitter
MAX_NODES = 200  # parts of an error body that are looked at


@dataclass(frozen=True)
class Response:
    """The response to one request; status 0 if none came: then `problem` says why."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    problem: str = ""

    @cached_property
    def json(self) -> Any:
        """The parsed body; None if it is not JSON. NaN, which JSON lacks, becomes text."""
        try:
            return json.loads(self.body, parse_constant=str)
        except (ValueError, RecursionError):
            return None

    @property
    def is_json(self) -> bool:
        """Whether it comes from the API, and not from a proxy or CDN."""
        return isinstance(self.json, (dict, list))

    @cached_property
    def message(self) -> str:
        """Status and the store's own words, or the title of an HTML page."""
        if self.status == 0:
            return self.problem
        words = "; ".join(dict.fromkeys(error_messages(self.json)))
        return printable(f"{self.status} {words or self._title}", MESSAGE_LIMIT)

    @property
    def _title(self) -> str:
        text = self.body[:FOREIGN_LIMIT].decode(errors="replace")
        found = re.search(r"<title[^>]{0,100}>([^<]{1,1000})", text, re.IGNORECASE)
        return clean(html.unescape(found[1])) if found and not self.is_json else ""

    @property
    def wait(self) -> float:
        """Seconds that it asks to wait, in its headers or its body; 0 if it does not.

        The quota headers are on every response, and ask to wait only with a 429.
        """
        headers = [("X-Retry-After", 1.0), ("Retry-After", 1.0)]
        if self.status == 429:
            headers.append(("X-Rate-Limit-Time-Reset-Ms", 0.001))
        texts = [(self.headers.get(name, ""), unit) for name, unit in headers]
        if isinstance(self.json, dict):
            texts.append((str(self.json.get("retry_after_seconds", "")), 1.0))
        number = r"\s*[0-9]{1,40}(\.[0-9]{1,40})?\s*"
        waits = [float(text) * unit for text, unit in texts if re.fullmatch(number, text)]
        return max(waits, default=0.0)


def error_messages(body: object) -> Iterator[str]:
    """Yield the messages of an error, outermost first: V3's title and errors, V2's list."""
    waiting, seen = deque([body]), 0
    while waiting and seen < MAX_NODES:
        item, seen = waiting.popleft(), seen + 1
        if isinstance(item, str) and item:
            yield clean(item, MESSAGE_LIMIT)
        elif isinstance(item, list):
            waiting.extend(item[:MAX_NODES])
        elif isinstance(item, dict):
            errors = item.get("errors")
            waiting.append(item.get("title") or item.get("message") or item.get("detail"))
            waiting.append([*errors.values()] if isinstance(errors, dict) else errors)


def backoff(attempt: int, jitter: float) -> float:
    """Return the seconds before the next attempt: exponential backoff with jitter.

    attempt: retries made so far; jitter: from 0 to 1. The default of five retries takes
    at least 93 s, since BigCommerce asks for minutes after a 500 [status codes].
    """
    seconds = min(LONGEST_BACKOFF, 3.0 * 2.0 ** min(attempt, 5))
    return seconds * (1 + jitter / 2)


class Action(enum.Enum):
    """What to do after a response."""

    DONE = enum.auto()  # it did what was asked
    PAUSE = enum.auto()  # rate-limited: everybody waits, then the same request again
    RETRY = enum.auto()  # the same request may succeed a little later
    REJECTED = enum.auto()  # this request will never succeed, others may
    FATAL = enum.auto()  # no request will succeed


@dataclass(frozen=True)
class Item:
    """What a response says about one id of a batch."""

    action: Action
    message: str
    may_have_applied: bool


@dataclass(frozen=True)
class Ruling:
    """What a response means."""

    action: Action
    # As in Response.
    status: int
    message: str
    # Whether the store may have deleted what the request named.
    may_have_applied: bool
    # What it says about single ids of a batch.
    items: Mapping[int, Item] = field(default_factory=dict)


def may_have_applied(status: int) -> bool:
    """Tell whether a DELETE with this status may have deleted something."""
    return status == 408 or not 300 <= status <= 499


def classify(
    method: str, response: Response, resource: Resource, batch: Sequence[int] = ()
) -> Ruling:
    """Return what a response means; batch: the ids that a DELETE named."""
    status, items = response.status, {}
    if method == "DELETE":
        items = item_results(response, batch)
        applied = may_have_applied(status)
    else:
        applied = False
    if status == 429:
        action = Action.PAUSE
    elif status in (0, 408) or (status >= 500 and status not in (501, 505)):
        action = Action.RETRY
    elif status in (200, 403) and not response.is_json:
        action = Action.RETRY  # a maintenance page, a CDN's page or a cut-off body
    elif method == "GET":
        action = classify_read(status)
    elif items and all(item.action is Action.PAUSE for item in items.values()):
        action = Action.PAUSE
    elif items or status in (*resource.success_statuses, 200, 207):
        action = Action.DONE
    elif status == 404 and resource.deletes_known_on_404 and len(batch) > 1:
        action = Action.DONE  # some did not exist, and the others were deleted
    elif status in (400, 404, 409, 413, 422, 423):
        action = Action.REJECTED
    else:
        action = Action.FATAL
    return Ruling(action, status, response.message, applied, items)


def classify_read(status: int) -> Action:
    """Return what the final status of a GET means."""
    if status in (200, 204):
        return Action.DONE
    is_denied = status in (401, 403)
    return Action.REJECTED if 400 <= status <= 499 and not is_denied else Action.FATAL


ID_IN_TEXT = re.compile(r"\bid=(\d{1,18})\b|\[(\d{1,18})\]")


def item_results(response: Response, batch: Sequence[int]) -> dict[int, Item]:
    """Return what a response says about the ids of a batch, wherever they are in it.

    Known shapes: objects with id and status, objects keyed by id, and texts such as
    "[7] 409 is locked" or "Failed for id=7". Numeric keys of a 422's errors without
    `meta` are places in the request, not ids.
    """
    body, wanted, found = response.json, {*batch}, dict[int, Item]()
    if isinstance(body, list):
        body = {"data": body}
    if response.status not in (200, 207, 422) or not isinstance(body, dict):
        return {}

    def visit(value: object, status: int, depth: int = 0) -> None:
        if isinstance(value, str):
            match = ID_IN_TEXT.search(value[:FOREIGN_LIMIT])
            note(match and (match[1] or match[2]), value, status)
        elif isinstance(value, list):
            for inner in value if depth < 8 else ():
                if type(inner) is int and status == 200:
                    note(inner, "", status)
                visit(inner, status, depth + 1)
        elif isinstance(value, dict) and not note(value.get("id"), value, status):
            for key, inner in value.items() if depth < 8 else ():
                if not note(key, inner, status):
                    visit(inner, status, depth + 1)

    def note(key: object, value: object, status: int) -> bool:
        number = positive_id(key)
        if number in wanted:
            found[number] = read_item(value, status)
        return number in wanted

    errors = body.get("errors")
    if isinstance(errors, dict) and response.status == 422 and "meta" not in body:
        errors = None
    visit(body.get("data"), 200)
    visit(body.get("failed_rows_data"), 422)
    visit(errors, 422)
    return found


def read_item(value: object, status: int) -> Item:
    """Return what is said about one id; its own status counts before that of its list."""
    if isinstance(value, dict):
        own = value.get("status")
        status = own if type(own) is int else status
        text = value.get("message") or value.get("title")
        value = text or ("" if status < 300 else json.dumps(value))
    message = clean(f"{status} {value}", MESSAGE_LIMIT)
    if status == 429 or "TOO_MANY_REQUEST" in message.upper():  # the marketplace's word
        return Item(Action.PAUSE, message, False)
    action = Action.DONE if 200 <= status <= 299 else Action.REJECTED
    return Item(action, message, may_have_applied(status))


Batch = tuple[int, ...]  # ids to delete with one request


def chunks(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield the values in parts of that size."""
    return (values[start : start + size] for start in range(0, len(values), size))


def batches(ids: Sequence[int], size: int) -> Iterator[Batch]:
    """Yield the ids in batches of that size, as they are asked for."""
    return map(tuple, chunks(ids, size))


@dataclass(frozen=True, kw_only=True)
class BatchResult:
    """What became of a batch, before anything is read back."""

    batch: Batch
    # Status and words of the last response.
    message: str = "not sent"
    # Ids that some attempt may have deleted.
    applied: tuple[int, ...] = ()
    # id => why the store rejected it.
    rejected: Mapping[int, str] = field(default_factory=dict)
    # Ids of which no attempt was clearly accepted or rejected: a time-out, a 404.
    doubtful: tuple[int, ...] = ()
    # What is to be sent again.
    requeue: tuple[Batch, ...] = ()
    # No attempt got a response that settles the batch.
    retries_exhausted: bool = False


def batch_result(batch: Batch, rulings: Sequence[Ruling]) -> BatchResult:
    """Return what the rulings on all attempts at a batch mean; the last settles it."""
    last = rulings[-1]
    before = any(ruling.may_have_applied for ruling in rulings[:-1])
    if last.action is Action.DONE:
        return settled_by_items(batch, last, before)
    applied = batch if before or last.may_have_applied else ()
    result = BatchResult(
        batch=batch,
        message=last.message,
        applied=applied,
        retries_exhausted=last.action is Action.RETRY,
    )
    if len(batch) > 1:
        return replace(result, requeue=tuple(batches(batch, (len(batch) + 1) // 2)))
    if last.status == 404 or (result.retries_exhausted and applied):
        return replace(result, doubtful=batch)
    return replace(result, rejected={batch[0]: last.message})


def settled_by_items(batch: Batch, ruling: Ruling, applied_before: bool) -> BatchResult:
    """Return the result of a batch by what the response says about its ids.

    An id that it does not name is accepted; after a 404 or 422 it is doubtful, since the
    whole request may have been rejected.
    """
    rejected, later, applied = {}, [], []
    for number in batch:
        item = ruling.items.get(number, Item(Action.DONE, "", True))
        if item.action is Action.REJECTED:
            rejected[number] = item.message
        elif item.action is Action.PAUSE:
            later.append(number)
        if applied_before or item.may_have_applied:
            applied.append(number)
    return BatchResult(
        batch=batch,
        message=ruling.message,
        applied=tuple(applied),
        rejected=rejected,
        doubtful=tuple(n for n in applied if n not in ruling.items and ruling.status >= 400),
        requeue=(tuple(later),) if later else (),
    )


def unsettled(batch: Batch, rulings: Sequence[Ruling]) -> BatchResult:
    """Return what is known of a batch when the run stops before it is settled."""
    if not any(ruling.may_have_applied for ruling in rulings):
        return BatchResult(batch=batch)
    return BatchResult(batch=batch, message=rulings[-1].message, applied=batch)


def delete_target(resource: Resource, ids: Sequence[int]) -> tuple[str, dict[str, str]]:
    """Return path and query of the DELETE of these ids; raises ValueError for any other.

    N1, N4: the SDK's own delete() sends an unfiltered DELETE for an id of None or 0, so
    it is never called.
    """
    if not 0 < len(ids) <= resource.largest_batch:
        raise ValueError(f"{len(ids)} ids do not make one DELETE of {resource.name}")
    if any(type(number) is not int or number <= 0 for number in ids):
        raise ValueError("an id is not a positive whole number")
    path = resource.delete_path or resource.path
    if resource.delete_filter:
        return path, {resource.delete_filter: ",".join(map(str, ids))}
    return f"{path}/{ids[0]}", {}


# --- store --------------------------------------------------------------------------
#
# Everything that touches the network, in layers: `Connection` is the SDK's connection,
# one a thread; it turns one exchange over HTTP into a Response, and a page of a list
# into records. `Client` sends a request with its policy: tokens, retries, pauses, the
# log. `Store` is what this tool asks a store. `Workers` is the pool of threads that ask,
# while the main thread waits, redraws and writes.

RESPONSE_LIMIT = 64 * 2**20  # bytes that are read of a response
RESPONSE_TIMEOUTS = 5  # multiples of `timeout` that a response may take
SMALL_PAGE = 50  # records a page, where one of PAGE_LIMIT stays unanswered


@dataclass
class Request:
    """One request, through all attempts at it."""

    method: str
    resource: Resource
    # Below /stores/{hash}/, with the API version.
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    # The ids that a DELETE names.
    batch: Batch = ()
    # Tokens that an attempt costs.
    cost: int = 1
    # A status that is no failure, though it would end the run.
    tolerated: int | None = None
    # Called once, right before the first attempt; may raise RunError.
    before_send: Callable[[], None] = lambda: None
    # The ruling on each attempt so far.
    rulings: list[Ruling] = field(default_factory=list)


class Connection(OAuthConnection):  # type: ignore[misc]  # the SDK has no types
    """The SDK's connection, made safe; one a thread, since it holds state."""

    def __init__(self, client: Client, config: Config) -> None:
        path = "/stores/{}/{}"  # the API version comes with each request
        token = config.access_token
        super().__init__(config.client_id, config.store_hash, token, config.host, path)
        if not config.client_id:
            del self._session.headers["X-Auth-Client"]
        self.timeout = config.timeout
        # The page that `make_request` read last.
        self.page = Page([])
        self._client, self._token = client, token.encode()
        session = self._session
        session.get_redirect_target = lambda response: None  # N14: nor the token sent on
        session.auth = lambda request: request  # N16: else ~/.netrc adds a password
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))  # N29
        session.stream = True  # the body is read within limits
        # Proxies and certificates, read once: that costs more than a request.
        settings = session.merge_environment_settings(self.full_path(""), {}, True, None, None)
        session.proxies, session.verify = settings["proxies"], settings["verify"]
        session.trust_env = False
        check_proxies(session.proxies)
        check_certificates(session.verify)

    def make_request(
        self, method: str, url: str, data: Any = None, params: Any = None, headers: Any = None
    ) -> list[Record]:
        """Return the records of a page, out of V3's envelope; the SDK's iterall asks."""
        request = Request(method, LISTED[url], url, params or {})
        response = self._client.read(request)
        self.page = read_page(response, request.resource)
        return self.page.records

    def send_once(self, method: str, path: str, params: Mapping[str, Any]) -> Response:
        """Send a request once; whatever the HTTP stack raises is a Response of status 0.

        Raises ConfigError and StoreError for what no retry mends: certificates, proxies
        and addresses.
        """
        # Encoded here: the SDK's %2C for each comma is parsed again in four places.
        query = "?" + urlencode(params, safe=":,") if params else ""
        via = " through the proxy" if self._session.proxies else ""
        try:
            response = self._run_method(method, path + query)
            with closing(response):
                body = self._read_body(response).replace(self._token, b"[secret]")
                return Response(response.status_code, response.headers, body)
        except (requests.exceptions.ProxyError, requests.exceptions.InvalidSchema) as error:
            return self._no_proxy(error)
        except requests.Timeout:
            return Response(0, problem=f"no answer within {self.timeout:g} s{via}")
        except requests.exceptions.SSLError as error:
            reason = network_reason(error)
            if "CERTIFICATE_VERIFY_FAILED" not in str(error):
                return Response(0, problem=reason)
            fault = f"The certificate of {self.host} is not trusted: {reason}."
            raise StoreError(f"{fault} Check REQUESTS_CA_BUNDLE.") from error
        except requests.exceptions.InvalidURL as error:
            raise ConfigError(f"{clean(error)}. Check BC_API_ENDPOINT.") from error
        except Exception as error:  # N26: urllib3 raises much that requests does not wrap
            return Response(0, problem=f"{network_reason(error)}{via}")

    def _read_body(self, response: Any) -> bytes:
        """Return the decoded body; raises ValueError if it is too long or too slow (N25)."""
        parts, size = [], 0
        deadline = time.perf_counter() + RESPONSE_TIMEOUTS * self.timeout
        read = getattr(response.raw, "read1", response.raw.read)  # urllib3 1 lacks read1
        while part := read(2**18, decode_content=True):
            parts.append(part)
            size += len(part)
            if size > RESPONSE_LIMIT:
                raise ValueError(f"response larger than {RESPONSE_LIMIT // 2**20} MiB")
            if time.perf_counter() > deadline:
                raise ValueError("response does not end")
        return b"".join(parts)

    def _no_proxy(self, error: Exception) -> Response:
        """Return no response; raises ConfigError for a proxy that will never work."""
        reason, name = network_reason(error), proxy_variable()
        if isinstance(error, requests.exceptions.InvalidSchema):
            raise ConfigError(f"Cannot use the proxy in {name} ({reason}).") from error
        if re.search(r"\b40[137]\b", reason):  # tinyproxy: 401 for a wrong password
            fault = f"The proxy rejected the connection to {self.host} ({reason})"
            raise ConfigError(f"{fault}. Check {name}.") from error
        return Response(0, problem=f"no answer from the proxy: {reason}")


def proxy_variable() -> str:
    """Return the name of the environment variable that sets the proxy for https."""
    names = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
    return next((name for name in names if os.environ.get(name)), "HTTPS_PROXY")


PROXY_URL = re.compile(
    r"((https?|socks4a?|socks5h?)://([^\s/?#@]+@)?)?"  # a user only after a scheme
    r"([\w-]+(\.[\w-]+)*\.?|\[[0-9a-f:.]+\])(:[0-9]{1,5})?/?",
    re.ASCII | re.IGNORECASE,
)


def check_proxies(proxies: Mapping[str, str]) -> None:
    """Raise ConfigError for a proxy that cannot be used; its value is never shown."""
    for url in filter(None, (proxies.get("https"), proxies.get("all"))):
        passwords = url.partition("://")[2].rpartition("@")[0].split(":")[1:]
        secrets = (url, *passwords, *map(unquote, passwords))
        SECRETS.update(text for text in secrets if len(text) > 3)
        try:
            port = urlsplit(url if "://" in url else f"http://{url}").port
            is_valid = bool(PROXY_URL.fullmatch(url)) and port != 0
        except ValueError:
            is_valid = False
        if not is_valid:
            raise ConfigError(
                f"{proxy_variable()} must look like http://user:password@host:port "
                "(write / and @ in the password as %2F and %40)."
            )


def check_certificates(verify: object) -> None:
    """Raise ConfigError for certificates that cannot be read; True: the default ones."""
    if not isinstance(verify, str):
        return
    try:
        where = "capath" if os.path.isdir(verify) else "cafile"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(**{where: verify})
    except OSError as error:  # ssl.SSLError is one
        name = (
            "REQUESTS_CA_BUNDLE" if os.environ.get("REQUESTS_CA_BUNDLE") else "CURL_CA_BUNDLE"
        )
        reason = error.strerror or clean(error)
        raise ConfigError(f"{name}: {verify} cannot be read ({reason}).") from error


def network_reason(error: BaseException) -> str:
    """Return the innermost reason of a network error: the outer ones repeat the URL."""
    for _ in range(6):
        reason = getattr(error, "reason", None)
        inner = [item for item in (reason, *error.args) if isinstance(item, BaseException)]
        if not inner:
            break
        error = inner[0]
    prefix = r"^<[^>]*>: |^HTTPS?Connection\([^)]*\): "
    return clean(re.sub(prefix, "", str(error))) or "no answer"


class Client:
    """Sends each request until a response settles it; the one place that retries.

    An attempt waits for its tokens, then leaves, unless a stop was asked for. After
    RETRY the same request goes out again, up to max_retries times, and then the last
    response is returned. PAUSE holds all workers and does not count as an attempt; many
    in a row, or a long wait, end the run. FATAL ends it, but a 401 or 403 after earlier
    successes is tried once more. Each response is logged.
    """

    def __init__(self, config: Config, stop: Stop, log: logging.Logger) -> None:
        self.counts = Counter(requests=0, retries=0, rate_limited=0)
        # Seconds that all responses took together.
        self.busy_seconds = 0.0
        ceiling, reserve = config.rate_limit, config.min_requests_remaining
        self.bucket = TokenBucket(ceiling=ceiling, reserve=reserve, sleep=stop.sleep)
        self.stop = stop
        self._config, self._log = config, log
        # Guards the counts.
        self._lock = threading.Lock()
        self._random = random.Random()
        # Holds each thread's connection.
        self._local = threading.local()
        # Thread => when its request left, on the clock of `tick`.
        self._in_flight: dict[int, float] = {}
        # Seconds that the process was awake, and when that was last updated.
        self._awake, self._updated_at = 0.0, time.perf_counter()
        # The last retry that was announced: its words, and when it leaves.
        self._retry, self._retry_at = "", -math.inf
        # Whether the store has accepted the token.
        self._is_accepted = False

    def connection(self) -> Connection:
        """Return this thread's own connection."""
        if not hasattr(self._local, "connection"):
            self._local.connection = Connection(self, self._config)
        connection: Connection = self._local.connection
        return connection

    def send(self, request: Request) -> Response:
        """Return the response that settles the request, or the last one of all attempts.

        Its rulings are in `request`. Raises the RunError that ends the run.
        """
        retries, is_denied = 0, False
        while True:
            sent_at = self._leave(request)
            response = self._exchange(request, sent_at)
            resource, batch = request.resource, request.batch
            ruling = classify(request.method, response, resource, batch)
            request.rulings.append(ruling)
            if ruling.action in (Action.DONE, Action.REJECTED):
                self._is_accepted |= ruling.action is Action.DONE
                self.bucket.succeeded()
                return response
            if ruling.action is Action.PAUSE:
                self.pause(response, sent_at)
            elif ruling.action is Action.RETRY:
                if retries >= self._config.max_retries:
                    return response
                self._await_retry(retries, response)
                retries += 1
            elif response.status == request.tolerated:
                self.bucket.succeeded()
                return response
            elif response.status in (401, 403) and self._is_accepted and not is_denied:
                is_denied = True
                self._await_retry(0, response)
            else:
                raise self.stop.set(StoreError(explain(request, response, self._config)))

    def read(self, request: Request) -> Response:
        """Send a GET; raises ReadRejected or RetriesExhausted unless it is answered."""
        response = self.send(request)
        action = request.rulings[-1].action
        if response.status == request.tolerated:
            return response
        if action is Action.REJECTED:
            raise ReadRejected(explain(request, response, self._config), response.status)
        if action is Action.RETRY:
            raise RetriesExhausted(f"Cannot reach the store: {response.message}.")
        return response

    def _leave(self, request: Request) -> float:
        """Wait for the tokens of one attempt; returns the time when it leaves."""
        if self.bucket.largest() < 1:
            reserve = f"min_requests_remaining ({self._config.min_requests_remaining})"
            quota = f"must be below the store's quota ({self.bucket.window.quota})"
            raise self.stop.set(ConfigError(f"{self._config.path}: {reserve} {quota}."))
        request.cost = self.bucket.acquire(request.cost)
        self.stop.check()
        if not request.rulings:
            request.before_send()
            self.stop.check()  # N8: a stop may have come while the journal was written
        return time.monotonic()

    def _exchange(self, request: Request, sent_at: float) -> Response:
        """Send one attempt, and note its response: the quota, the counts, the log."""
        thread = threading.get_ident()
        self._in_flight[thread] = self._awake
        connection = self.connection()
        try:
            response = connection.send_once(request.method, request.path, request.params)
        except RunError as failure:
            raise self.stop.set(failure) from None
        finally:
            self._in_flight.pop(thread, None)
        took = time.monotonic() - sent_at
        self.bucket.update_from_headers(response.headers, sent_at, request.cost)
        with self._lock:
            self.counts["requests"] += 1
            self.busy_seconds += took
        query = "&".join(f"{name}={value}" for name, value in request.params.items())
        target = f"/stores/{self._config.store_hash}/{request.path}{'?' * bool(query)}{query}"
        words = "" if response.status in (200, 202, 204) else f": {response.message}"
        self._log.info(
            f"{utc_now()} {request.method} {printable(target, 4000)} {response.status} "
            f"{took * 1000:.0f} ms, quota left: {read_quota(response.headers).left}{words}"
        )
        return response

    def _await_retry(self, retries: int, response: Response) -> None:
        """Wait before the next attempt; everybody waits if the response asks for it."""
        seconds = self._wait_for(response, retries)
        if response.wait:
            self.bucket.pause(response.wait)
        fault = f"error {response.status}" if response.status else "no answer"
        self._retry = f"{fault}, retry {retries + 1} of {self._config.max_retries}"
        self._retry_at = time.monotonic() + seconds
        self.stop.sleep(seconds)
        self._count("retries")

    def pause(self, response: Response, sent_at: float) -> None:
        """Hold all workers after a 429 to a request sent then.

        The first in a row says how long. From the second on, its headers have proved too
        short, so the wait grows with each.
        """
        self._count("rate_limited")
        refusals = self.bucket.refused(sent_at)
        seconds = self._wait_for(response, refusals - 1)
        self.bucket.pause(response.wait if refusals == 1 and response.wait else seconds)
        if refusals >= MAX_REFUSALS:
            fault = f"Rate-limited (429) {MAX_REFUSALS} times in a row"
            raise self.stop.set(StoreError(f"{fault}. Resume when other apps are less busy."))

    def _wait_for(self, response: Response, retries: int) -> float:
        """Return the seconds to wait: the longer of backoff and what the response asks."""
        if response.wait > LONGEST_WAIT:
            minutes = f"{response.wait / 60:,.0f} minutes"
            fault = f"The store asked to wait for {minutes} ({response.status})"
            raise self.stop.set(StoreError(f"{fault}. Resume after that."))
        return max(response.wait, backoff(retries, self._random.random()))

    def _count(self, name: str) -> None:
        with self._lock:
            self.counts[name] += 1

    def in_flight(self) -> int:
        """Return how many requests are sent and not yet answered."""
        return len(self._in_flight)

    def tick(self) -> None:
        """Advance the clock that times requests in flight; called ten times a second.

        N33: time in which the machine slept, or the process was stopped, does not count.
        """
        now = time.perf_counter()
        self._awake += min(now - self._updated_at, 1.0)
        self._updated_at = now

    def longest_wait(self) -> float:
        """Return the seconds for which the oldest request in flight waits."""
        return self._awake - min([*self._in_flight.values()], default=self._awake)

    def waiting_for(self) -> str:
        """Return what requests wait for; "" if the wait is not worth a word."""
        if text := self.bucket.waiting_for():
            return text
        if (seconds := self._retry_at - time.monotonic()) > 0:
            return f"{self._retry} in {math.ceil(seconds)}s"
        seconds = self.longest_wait()
        return f"no answer yet for {seconds:.0f}s" if seconds >= 2 else ""


def explain(request: Request, response: Response, config: Config) -> str:
    """Return one sentence on a response that ends the run, and what to do."""
    status, resource = response.status, request.resource
    verb = "delete" if request.method == "DELETE" else "read"
    if status == 401:
        return f"Access token rejected (401). Check access_token in {config.path}."
    if status == 403:
        scope = resource.scope + ("" if resource.scope.endswith("only") else " (modify)")
        fault = f"Not allowed to {verb} {resource.plural} ({response.message})"
        return f"{fault}. The API account may lack the scope {scope}."
    if status == 404:
        return f"Store not found ({response.message}). Check store_hash in {config.path}."
    if 300 <= status <= 399:
        fault = f"Unexpected redirect ({status}) from {config.host}"
        return f"{fault}. Redirects are not followed. Check store_hash and BC_API_ENDPOINT."
    return f"Cannot {verb} {resource.plural}: {response.message}."


@dataclass(frozen=True)
class Page:
    """One page of a list."""

    records: list[Record]
    # Records in the whole list, as the store claims; V2 counts those of the page alone.
    total: int = 0
    # Records a page, as the store claims; anything.
    per_page: Any = None


def read_page(response: Response, resource: Resource) -> Page:
    """Return the page in a response; raises InvalidResponse if it cannot be relied on."""
    body = [] if response.status == 204 else response.json  # V2: an empty page is a 204
    records, total = body, 0
    if resource.has_total:
        records = value_at(body, "data")
        total = value_at(body, "meta.pagination.total")
    if not isinstance(records, list) or type(total) is not int or not 0 <= total < 10**12:
        fault = f"The store returned no list of {resource.plural}"
        raise InvalidResponse(f"{fault} with a valid total.")
    for record in records:
        number = value_at(record, resource.id_field)
        if type(number) is not int or not 0 < number < 2**63:
            fault = f"The store returned a {resource.singular} with an invalid id"
            raise InvalidResponse(f"{fault}: {clean(number)!r}.")
    if not resource.has_total:
        return Page(records, len(records))
    return Page(records, total, value_at(body, "meta.pagination.per_page"))


@cache
def record_class(path: str) -> type[ListableApiResource]:
    """Return the SDK's resource for a list; its iterall yields plain records.

    The SDK's own objects take 100 ms a page of 250; parsing it takes 0.5 ms.
    """

    class Records(ListableApiResource):  # type: ignore[misc]  # the SDK has no types
        resource_name = path

        @classmethod
        def _create_object(cls, response: Any, connection: object = None) -> Any:
            return response

    return Records


LISTED = {item.path: item for item in (*RESOURCES.values(), ORDERS)}


class Store:
    """The requests that this tool makes; its methods are called by the workers."""

    def __init__(self, config: Config, client: Client) -> None:
        self.resource = config.resource
        self.client = client
        largest = self.resource.largest_batch
        self.batch_size = min(config.batch_size or largest, largest)
        # Records a page of a list.
        self.page_size = PAGE_LIMIT
        # Ids in one read-back; by path id it is one at a time.
        self.chunk_size = self.resource.max_read if self.resource.id_filter else 1
        # Whether any page was answered.
        self.has_listed = False
        self._count_items = config.count_items
        # Parameters of a list: sub-resources only for the backup or a --match.
        self.params = {**self.resource.params}
        paths = {match.path for match in config.match}
        if config.no_backup and paths.issubset(self.resource.display_fields):
            self.params.pop("include", None)

    def requests_for(self, count: int) -> int:
        """Return the tokens that it takes to delete so many ids and read them back."""
        ids_per_token = 1 if self._count_items else self.batch_size
        return math.ceil(count / ids_per_token) + math.ceil(count / self.chunk_size)

    def info(self) -> Record | None:
        """GET /v2/store: name, domain, plan, time zone; None without the permission."""
        request = Request("GET", STORE_INFO, STORE_INFO.path, tolerated=403)
        response = self.client.read(request)
        is_read = response.status == 200 and isinstance(response.json, dict)
        return response.json if is_read else None

    def page(self, resource: Resource, page: int = 1, **params: Any) -> Page:
        """Return a page of a list, by the SDK's iterall.

        Raises ReadRejected, RetriesExhausted, and InvalidResponse for a page that cannot
        be relied on.
        """
        connection = self.client.connection()
        params = {"connection": connection, "limit": PAGE_LIMIT, "page": page} | params
        records = [*record_class(resource.path).iterall(**params)]
        self.has_listed = True
        return replace(connection.page, records=records)

    def find(self, filter_name: str, values: Sequence[Any], **params: Any) -> list[Record]:
        """Return the records with these ids or addresses.

        Raises InvalidResponse unless none is listed twice, they are as many as the total,
        and each has one of the ids. What is rejected for its length, stays unanswered, or
        has more addresses than fit a page, is asked for in halves.
        """
        is_by_id = filter_name == self.resource.id_filter
        params[filter_name] = ",".join(map(str, values))
        half = (len(values) + 1) // 2
        try:
            page = self.page(self.resource, **params)
            ids = {self.resource.id_of(record) for record in page.records}
            is_complete = len(ids) == len(page.records) == page.total
            if is_complete and (not is_by_id or ids.issubset(map(int, values))):
                return page.records
            if is_by_id or len(values) == 1:
                fault = f"The store returned incomplete or unrelated records for {filter_name}"
                raise InvalidResponse(f"{fault}, so the list cannot be matched. Try again.")
        except (ReadRejected, RetriesExhausted) as failure:
            status = getattr(failure, "http_status", 0)
            if len(values) < EMAIL_LIMIT or status not in (0, 400, 413, 414):
                raise
            if is_by_id:
                self.chunk_size = min(self.chunk_size, half)
        parts = [self.find(filter_name, part, **params) for part in chunks(values, half)]
        return [*itertools.chain.from_iterable(parts)]

    def existing(self, ids: Sequence[int]) -> set[int] | None:
        """Return which of the ids exist; None if it cannot be told.

        At most `chunk_size` ids: by the list's id filter, or by path id, where a 404
        means that the record does not exist.
        """
        if self.resource.id_filter:
            try:
                return {*map(self.resource.id_of, self.find(self.resource.id_filter, ids))}
            except InvalidResponse:
                return None
        (number,) = ids
        path = f"{self.resource.path}/{number}"
        response = self.client.read(Request("GET", self.resource, path, tolerated=404))
        if response.status == 404 and response.is_json:  # not a proxy's page
            return set()
        record = value_at(response.json, "data") or response.json
        return {number} if value_at(record, self.resource.id_field) == number else None

    def delete_batch(self, batch: Batch, journal: Journal) -> BatchResult:
        """DELETE the batch, noted in the journal before it leaves. Never raises RunError."""
        path, params = delete_target(self.resource, batch)
        cost = len(batch) if self._count_items else 1
        request = Request("DELETE", self.resource, path, params, batch, cost)
        request.before_send = partial(journal.sent, batch)
        try:
            response = self.client.send(request)
        except RunError as failure:
            self.client.stop.set(failure)
            return unsettled(batch, request.rulings)
        result = batch_result(batch, request.rulings)
        if any(item.action is Action.PAUSE for item in request.rulings[-1].items.values()):
            with suppress(RunError):  # the stop flag is set then
                self.client.pause(response, math.inf)
        return result


class Workers(ThreadPoolExecutor):
    """The pool of threads that ask the store; its methods are the main thread's."""

    def __init__(self, count: int, stop: Stop, on_wait: Callable[[], None]) -> None:
        super().__init__(max_workers=count)
        self.count = count
        self.stop = stop
        # Called a few times a second, whatever is waited for.
        self._on_wait = on_wait

    def call(self, function: Callable[..., R], *args: Any, **kwargs: Any) -> R:
        """Have a worker call the function, and return its result."""
        return self.result(self.submit(function, *args, **kwargs))

    def in_order(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Yield the result for each item, in order; workers are a few items ahead."""
        pending: deque[Future[R]] = deque()
        for item in items:
            pending.append(self.submit(function, item))
            if len(pending) > self.count:
                yield self.result(pending.popleft())
        while pending:
            yield self.result(pending.popleft())

    def result(self, future: Future[R]) -> R:
        """Wait for the result; raises the reason of a stop."""
        self.await_any([future])
        return future.result()

    def await_any(
        self, pending: Iterable[Future[R]], *, deletes: bool = False
    ) -> set[Future[R]]:
        """Return the futures that are done, at least one.

        Raises the reason of a stop: at once if reads are awaited; if deletes are, only
        at a second signal (N9).
        """
        while True:
            self._on_wait()
            done, _ = wait(pending, timeout=POLL, return_when=FIRST_COMPLETED)
            if done:
                return done
            if self.stop.force_exit or not deletes:
                self.stop.check()

    def sleep(self, seconds: float) -> None:
        """Let so many seconds pass, redrawing; raises RunError at a stop."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._on_wait()
            self.stop.sleep(POLL)


# --- listing ------------------------------------------------------------------------
#
# Reads the records of the store, completely or not at all, and selects from them: each
# selected record streams to the backup while memory keeps its id. Selection is applied
# in this order: filters or ids, match, keep, orders, limit.

LISTING_TRIES = 4  # once, and three times more if records change meanwhile


class Selection:
    """Selects record by record, and counts what is excluded."""

    def __init__(self, config: Config, with_orders: Set[int]) -> None:
        self.ids: list[int] = []
        # The oldest three of the selected records, and the newest.
        self.sample: list[Record] = []
        # Whether --limit is reached.
        self.is_full = False
        # Records that were listed more than once, and entries that --ids repeats.
        self.duplicates = 0
        # Records in the store; -1 if that is not known.
        self.total = -1
        # Records excluded by keep lists or orders; and those with orders.
        self.excluded = self.excluded_by_orders = 0
        # Records of which the backup holds a part.
        self.truncated = 0
        # Customers that have orders; empty unless they are to be excluded.
        self.with_orders = with_orders
        # What --ids lists, nothing without it; and what each --keep lists.
        self.ids_list = ListMatcher(config.ids_list or ListFile("--ids"), config.resource)
        self.keep_lists = [ListMatcher(file, config.resource) for file in config.keep_lists]
        self.lists = [self.ids_list, *self.keep_lists]
        # Of each filter with several values, those that no record has.
        self.unmatched_values = {
            item.name: {*item.values} for item in config.filter.values() if len(item.values) > 1
        }
        # Filter that the store ignored => a record that it returned all the same.
        self.ignored_filters: dict[str, int] = {}
        # The FIELD!=REGEX that have excluded no record yet.
        self.idle_exclusions = [match for match in config.match if match.negated]
        # The paths of --match that no record has, and the fields that records have.
        self.missing_paths = {match.path for match in config.match}
        self.field_names: set[str] = set()
        self._config = config

    def select(self, records: Iterable[Record]) -> list[Record]:
        """Return the selected records of a page, as the backup has them."""
        selected = []
        for record in records:
            if self.is_full or not self._is_selected(record):
                continue
            self.ids.append(self._config.resource.id_of(record))
            self.is_full = len(self.ids) == self._config.limit
            self.sample = [*self.sample[:3], record]
            if truncated := truncated_fields(record):
                self.truncated += 1
                record = record | {"backup_cut": truncated}
            selected.append(record)
        return selected

    def _is_selected(self, record: Record) -> bool:
        config = self._config
        keeping = [matcher for matcher in self.keep_lists if matcher.matches(record)]
        if not self._matches_filters(record):
            return False
        if config.ids_list and not self.ids_list.matches(record):
            return False
        if self.missing_paths:
            self.missing_paths -= {p for p in self.missing_paths if values_at(record, p)}
            self.field_names.update(record)
        self.idle_exclusions = [m for m in self.idle_exclusions if not m.matches(record)]
        if not all(match.selects(record) for match in config.match):
            return False
        for matcher in keeping:
            matcher.excluded += 1
        has_orders = config.resource.id_of(record) in self.with_orders
        self.excluded_by_orders += has_orders
        is_excluded = has_orders or bool(keeping)
        self.excluded += is_excluded
        return not is_excluded

    def _matches_filters(self, record: Record) -> bool:
        """Return whether the record matches; the API's filters only narrow the listing."""
        filters = self._config.filter
        failing = [item for item in filters.values() if not item.matches(record)]
        for item in failing:
            if not item.is_at_end(record):
                number = self._config.resource.id_of(record)
                self.ignored_filters.setdefault(item.name, number)
        if failing:
            return False
        for name, values in self.unmatched_values.items():
            if values:
                values -= filters[name].matching_values(record)
        return True

    def unmatched_ids(self) -> list[str]:
        """Return the entries of --ids that match no record; none once --limit is reached."""
        return [] if self.is_full else self.ids_list.unmatched()

    def unmatched_entries(self) -> list[tuple[str, str]]:
        """Return the entries that match no record, as list file and entry."""
        lists = self.keep_lists if self.is_full else self.lists
        return [(item.entries.name, entry) for item in lists for entry in item.unmatched()]


SAMPLE_WIDTHS = {"email": 32, "date_created": 16}  # characters; 20 for other fields


def sample_lines(records: Sequence[Record], resource: Resource) -> list[str]:
    """Return records in columns that fit 80, with headings; "…" before the newest."""
    names = [resource.id_field, *resource.display_fields]
    names = [name for name in names if name not in ("first_name", "last_name")]
    rows = [names]
    for record in records:
        rows.append(
            [printable(record.get(name))[: SAMPLE_WIDTHS.get(name, 20)] for name in names]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    if len(records) > 3:
        lines.insert(-1, "…")
    return lines


@dataclass
class Collector:
    """Lists the records of the store, and selects from them."""

    store: Store
    workers: Workers
    progress: Progress
    config: Config
    # Ids of the current listing, and how many of its records were repeated.
    seen: set[int] = field(default_factory=set)
    duplicates: int = 0
    # Records in the store; -1 if that is not known.
    total: int = -1
    # Customers that have orders, as far as the orders were read.
    with_orders: set[int] = field(default_factory=set)
    next_order: int = 1

    def collect(self, files: RecordFiles) -> Selection:
        """Return the selection, its records in the files."""
        config, selection = self.config, Selection(self.config, self.with_orders)
        is_narrowed = bool(config.filter or config.ids_list)
        if is_narrowed and config.resource.has_total:
            self.total = self.workers.call(self.store.page, config.resource, limit=1).total
        files.restart()
        pages = self.listing(config.filter)
        if config.ids_list:
            self.begin(len(config.ids_list))
            pages = self.candidates(selection.ids_list)
        for records in pages:
            if records is None:
                selection = Selection(config, self.with_orders)
                files.restart()
                continue
            files.write(selection.select(records))
            if selection.is_full:
                break
        selection.duplicates = self.duplicates + selection.ids_list.entries.duplicates
        if is_narrowed or selection.is_full:
            for matcher in selection.keep_lists:
                for records in self.candidates(matcher):
                    for record in records or ():
                        matcher.matches(record)
        else:
            self.total = len(self.seen)
        selection.total = self.total
        return selection

    def candidates(self, matcher: ListMatcher) -> Iterator[list[Record] | None]:
        """Yield the records that unmatched entries may match; None if it starts over.

        Entries are looked up if the API has the filters for them, and addresses only if
        there are few: listing takes 250 a request, a look-up 50. What is not found is asked
        for once more, addresses in lower case: an empty response may be a stray one, and a
        store may mind case.
        """
        store, known = self.store, self.store.resource.filter_types()
        steps = (
            (store.resource.id_filter, matcher.unmatched_ids),
            ("email:in", matcher.unmatched_emails),
            ("email:in", matcher.emails_of_unmatched_ids),
        )
        is_possible = all(name in known or not unmatched() for name, unmatched in steps)
        is_fast = 10 * len(matcher.unmatched_emails()) <= max(0, self.total)
        if not (is_possible and is_fast):
            yield from self.listing({})
            return
        matcher.is_looked_up = True
        self.seen = set()  # a keep list has not seen the records beyond --limit
        for normalize in (str, normalize_email):
            for name, unmatched in steps:
                values = [*map(normalize, map(str, unmatched()))]
                size = EMAIL_LIMIT if name == "email:in" else store.chunk_size
                find = partial(store.find, name, **store.params)
                for records in self.workers.in_order(find, chunks(values, size)):
                    yield self.unseen(records)

    def listing(self, filters: Mapping[str, Filter]) -> Iterator[list[Record] | None]:
        """Yield all records, a page at a time and each once; None if it starts over.

        The listing is complete, or an error ends it: Refused if records moved in each of
        four tries, RetriesExhausted if a page stays unanswered with fewer records too.
        """
        store, sent = self.store, {name: item.sent for name, item in filters.items()}
        for tries_left in reversed(range(LISTING_TRIES)):
            self.begin(0)
            try:
                if store.resource.has_total:
                    pages = self.pages_by_number(sent)
                else:
                    pages = self.pages_by_id(store.resource, 1, **sent)
                for records in pages:
                    yield self.unseen(records)
                return
            except ListingChanged as change:
                if not tries_left:
                    fault = f"Records changed during each of {LISTING_TRIES} listings"
                    raise Refused(f"{fault}. Try again when the store is quiet.") from change
                self.progress.warn("Records changed during listing; starting over.")
            except RetriesExhausted:
                if not tries_left or store.page_size == SMALL_PAGE:
                    raise
                store.page_size = SMALL_PAGE
                text = f"starting over with {SMALL_PAGE} records a page"
                self.progress.warn(f"A page stayed unanswered; {text}.")
            yield None

    def pages_by_number(self, sent: Mapping[str, str]) -> Iterator[list[Record]]:
        """Yield the pages of a V3 list; raises ListingChanged if it may have holes.

        Pages are counted, and each deletion moves later records up one place, so one can
        slip onto a page that was read already. Therefore the last page is read right
        after the first, both are read again at the end, and neither may have moved. Where
        the API sorts by age, records added meanwhile come after the total, and are left
        out. The total is a claim: it may count one page only.
        """
        store, workers, id_of = self.store, self.workers, self.store.resource.id_of
        params: dict[str, Any] = {**store.params, **sent, "limit": store.page_size}
        get: Callable[[int], Page] = partial(store.page, store.resource, **params)
        first = workers.call(get, 1)
        total, size = first.total, len(first.records)
        if size > total or (size == 0 and (total or workers.call(get, 1).records)):
            raise ListingChanged  # a single empty page may be a stray response
        if not sent:
            self.total = total
        if not total:
            return
        if size == total:  # not the size of all pages, which may be smaller than asked for
            size = store.page_size
        count = math.ceil(total / size)

        def read(number: int) -> list[Record]:
            """Return the records of a page, without those after the total."""
            page, start = get(number), (number - 1) * size
            is_short = number <= count and not page.records
            if is_short or page.total < total or page.total < start + len(page.records):
                raise ListingChanged
            return page.records[: max(0, total - start)]

        self.begin(total)
        yield first.records
        last = workers.call(read, count) if count > 1 else first.records
        numbers: Iterable[int] = range(2, count)
        if total in (count * size, first.per_page):  # a full page may not be the last
            numbers = itertools.chain(numbers, [count + 1])
        yield from workers.in_order(read, numbers)
        if count > 1:
            yield last
            again = workers.in_order(read, (1, count))
            for before, after in zip((first.records, last), again, strict=True):
                if [*map(id_of, before)] != [*map(id_of, after)]:
                    raise ListingChanged
        if len(self.seen) != total:
            raise ListingChanged

    def pages_by_id(
        self, resource: Resource, first: int, **sent: str
    ) -> Iterator[list[Record]]:
        """Yield the pages of a V2 list with ids from `first` on; deletions do not shift them.

        Each page begins after the last id of the one before, and an empty one ends the
        list. Raises InvalidResponse if the ids do not rise.
        """
        params = {**resource.params, **sent, "limit": self.store.page_size}
        read = partial(self.workers.call, self.store.page, resource, **params)
        # A single empty page may be a stray response: two end the list.
        while records := read(min_id=first).records or read(min_id=first).records:
            ids = [*map(resource.id_of, records)]
            if ids[0] < first or ids != sorted({*ids}):
                fault = f"The store returned {resource.plural} out of order"
                raise InvalidResponse(f"{fault}, so the listing may be incomplete.")
            yield records
            first = ids[-1] + 1

    def begin(self, total: int) -> None:
        """Begin a listing of so many records; 0 if that is not known."""
        self.seen, self.duplicates = set(), 0
        self.progress.begin(total)
        requests = total // PAGE_LIMIT + self.store.requests_for(total)
        self.store.client.bucket.set_remaining(requests)

    def unseen(self, records: Sequence[Record]) -> list[Record]:
        """Return the records that were not listed before."""
        id_of = self.store.resource.id_of
        new = {id_of(record): record for record in records if id_of(record) not in self.seen}
        self.seen.update(new)
        self.duplicates += len(records) - len(new)
        self.progress.advance(len(new))
        return [*new.values()]

    def read_orders(self) -> None:
        """Read the orders placed since; raises InvalidResponse without a customer."""
        for orders in self.pages_by_id(ORDERS, self.next_order):
            for order in orders:
                customer = order.get("customer_id")
                if type(customer) is not int:
                    fault = f"The store returned order {order['id']} without a customer_id"
                    raise InvalidResponse(f"{fault}.")
                self.with_orders.add(customer)
            self.next_order = orders[-1]["id"] + 1
            self.progress.advance(len(orders))
        self.with_orders.discard(0)  # guests

    def parents(self) -> dict[int, int]:
        """Return record => its parent or 0, where a parent's deletion takes children along.

        Empty for other resources. Raises InvalidResponse for an unknown parent.
        """
        resource, parents = self.store.resource, dict[int, int]()
        for records in self.listing({}) if resource.parent else ():
            for record in records or ():
                number, parent = resource.id_of(record), record.get(resource.parent)
                if type(parent) is not int or parent < 0:
                    fault = f"The store returned {resource.singular} {number}"
                    raise InvalidResponse(f"{fault} without a valid {resource.parent}.")
                parents[number] = parent
        return parents


def ancestors(number: int, parents: Mapping[int, int]) -> list[int]:
    """Return the ids above a record, nearest first; a circle is walked once."""
    found: list[int] = []
    while (number := parents.get(number, 0)) and number not in found:
        found.append(number)
    return found


def levels(ids: Sequence[int], parents: Mapping[int, int]) -> list[Sequence[int]]:
    """Return the ids in groups, children before their parents."""

    def depth(number: int) -> int:
        return len(ancestors(number, parents))

    deepest_first = sorted(ids, key=depth, reverse=True)
    return [[*group] for _, group in itertools.groupby(deepest_first, depth)]


# --- plan and ledger ----------------------------------------------------------------
#
# The plan is what will be deleted, frozen: nothing is selected after it. The ledger holds
# what is known of each planned id, as the journal has it; the outcomes follow from that,
# so the counts always add up. Nothing here reads or writes.

PLAN_VERSION = 4


@dataclass(frozen=True)
class Plan:
    """What will be deleted, and everything that is needed to resume."""

    host: str
    store_hash: str
    # Its name.
    resource: str
    filters: Mapping[str, str]
    # The other options that select, in the words given.
    selection: Mapping[str, str]
    # What the panel says of the selection: label => text.
    facts: Mapping[str, str]
    # A few of the records, a line each.
    sample: Sequence[str]
    # What the panel warns of; slips are likely mistakes, which --yes refuses.
    warnings: Sequence[str]
    slips: Sequence[str]
    # UTC, ISO 8601.
    created_at: str
    # As in summary.json.
    duplicates: int
    not_found: int
    spared: int
    keep_unknown: int
    backup_cut: int
    # Whether backup.jsonl has the records.
    backup: bool
    # In the order in which they are deleted.
    ids: Sequence[int]

    def text(self) -> str:
        """Return the plan as JSON, with a SHA-256 over all of it."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values = {"version": PLAN_VERSION, "selected": len(self.ids), **values}
        return json.dumps({"sha256": sha256_of(values), **values}) + "\n"

    def age(self) -> timedelta:
        """Return how long ago it was made, by the wall clock."""
        return datetime.now(UTC) - datetime.fromisoformat(self.created_at)


def sha256_of(values: Mapping[str, Any]) -> str:
    """Return the SHA-256, in hex, of values as compact sorted JSON."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def parse_plan(text: str) -> Plan:
    """Return the plan that `Plan.text` wrote; raises ValueError, TypeError or KeyError."""
    values = json.loads(text)
    if values["version"] != PLAN_VERSION:
        raise ValueError("made by another version of the tool")
    if values.pop("sha256") != sha256_of(values):
        raise ValueError("the SHA-256 does not match")
    del values["version"]
    count, ids = values.pop("selected"), values["ids"]
    if any(type(number) is not int or number <= 0 for number in ids) or count != len({*ids}):
        raise ValueError("the ids are not distinct positive whole numbers")
    plan = Plan(**values)
    if plan.resource not in RESOURCES or datetime.fromisoformat(plan.created_at).tzinfo is None:
        raise ValueError("unknown resource or time")
    return plan


class Outcome(enum.StrEnum):
    """What is known of a planned id; the values are the summary's keys."""

    DELETED = "deleted"  # verified gone, and a DELETE of this run may have done it
    ALREADY_GONE = "already_gone"  # verified gone, and none of them can have done it
    FAILED = "failed"  # still exists, or was rejected, with a reason
    UNVERIFIED = "unknown"  # a DELETE was accepted, or may have been
    REMAINING = "not_attempted"


class Ledger:
    """What is known of the planned ids; each has one outcome, derived from the sets."""

    def __init__(self, selected: int) -> None:
        self.selected = selected
        # Ids that some DELETE of this run may have deleted.
        self.applied: set[int] = set()
        # Verified gone; never forgotten, never sent again.
        self.gone: set[int] = set()
        # id => why it failed, in the store's words.
        self.failed: dict[int, str] = {}
        # id => the last words, where no DELETE was clearly accepted or rejected.
        self.doubts: dict[int, str] = {}
        # Ids that were rejected in an earlier session; a resume sends them last.
        self.rejected_before: set[int] = set()
        # Seconds for which the store lists deleted records; None until this session knows.
        self.consistency_delay: float | None = None

    def counts(self) -> dict[str, int]:
        """Return how many ids have each outcome."""
        deleted = len(self.gone & self.applied)
        unverified = (self.applied | self.doubts.keys()) - self.gone - self.failed.keys()
        counts = {
            Outcome.DELETED: deleted,
            Outcome.ALREADY_GONE: len(self.gone) - deleted,
            Outcome.FAILED: len(self.failed),
            Outcome.UNVERIFIED: len(unverified),
        }
        counts[Outcome.REMAINING] = self.selected - sum(counts.values())
        return {outcome.value: count for outcome, count in counts.items()}

    def apply(self, result: BatchResult) -> None:
        """Add what became of a batch; N10: nothing is deleted before it is read."""
        self.applied.update(result.applied)
        for number in result.batch:
            self.failed.pop(number, None)
            self.doubts.pop(number, None)
        self.doubts |= dict.fromkeys(result.doubtful, result.message)
        self.failed |= result.rejected

    def read_back(self, ids: Iterable[int], existing: Container[int]) -> None:
        """Add what a read has found: an id is gone, or still exists.

        One that exists after a 404 has failed. One that exists after a time-out may be
        deleted yet, and is sent once more.
        """
        for number in ids:
            if number not in existing:
                self.gone.add(number)
                self.failed.pop(number, None)
                self.doubts.pop(number, None)
            elif number in self.doubts and number not in self.applied:
                self.failed[number] = self.doubts.pop(number)


# --- run folder ---------------------------------------------------------------------
#
# The files of runs/<store_hash>-<resource>-<UTC time>/ that document a run and resume it,
# and the lock that makes them one process's. Every failure to write becomes one
# StoreError, and ends the run before a DELETE could leave without a note.

SURROGATES = "backslashreplace"  # a lone surrogate is written as \udce4, as JSON does


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError, such as a full disk, into a StoreError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(f"Cannot write {path} ({reason}). Fix this, then resume.") from error


def write_atomically(path: Path, text: str, *, durable: bool = True) -> None:
    """Replace the file as a whole; durable: so that it survives a power cut too."""
    with writing(path):
        draft = path.with_name(path.name + ".new")
        with open(draft, "w", encoding="utf-8", errors=SURROGATES, newline="") as file:
            file.write(text)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        replace_file(draft, path)
        if durable:
            sync_folder(path.parent)


class RecordFiles:
    """The files to which selected records stream: backup.jsonl and selected.csv."""

    def __init__(self, folder: Path, resource: Resource, *, backup: bool) -> None:
        self._folder, self._resource = folder, resource
        self._selected = self._open("selected.csv")
        self._backup = self._open("backup.jsonl") if backup else None

    def _open(self, name: str) -> TextIO:
        path = self._folder / name
        with writing(path):
            return open(path, "w", encoding="utf-8", errors=SURROGATES, newline="")

    def _files(self) -> list[TextIO]:
        return [file for file in (self._selected, self._backup) if file is not None]

    def restart(self) -> None:
        """Begin with empty files."""
        with writing(self._folder):
            for file in self._files():
                file.seek(0)
                file.truncate()
            header = (self._resource.id_column, *self._resource.display_fields)
            csv.writer(self._selected).writerow(header)

    def write(self, records: Sequence[Record]) -> None:
        """Append the records."""
        resource = self._resource
        with writing(self._folder):
            if self._backup is not None:
                self._backup.writelines(json_line(record) for record in records)
            for record in records:
                values = (record.get(name) for name in resource.display_fields)
                row = (resource.id_of(record), *values)
                csv.writer(self._selected).writerow([*map(csv_cell, row)])

    def close(self) -> None:
        """Sync them to the disk: what follows cannot be undone."""
        with writing(self._folder):
            for file in self._files():
                with file:
                    file.flush()
                    os.fsync(file.fileno())


LINE_ENDS = "\x85\u2028\u2029"  # line ends to str.splitlines, which JSON does not escape


def json_line(record: Record) -> str:
    """Return a record as strict JSON on one line; a number that JSON lacks becomes text."""
    try:
        line = json.dumps(record, ensure_ascii=False, allow_nan=False)
    except ValueError:
        finite = json.loads(json.dumps(record), parse_constant=str)
        line = json.dumps(finite, ensure_ascii=False)
    except RecursionError as error:
        raise InvalidResponse(
            "The store returned a record that is nested too deeply."
        ) from error
    for letter in LINE_ENDS:
        line = line.replace(letter, f"\\u{ord(letter):04x}")
    return line + "\n"


def backup_id(line: bytes, id_field: str) -> Any:
    """Return the id of a record in backup.jsonl; None if the line was cut off."""
    with suppress(ValueError, AttributeError, RecursionError):
        number = json.loads(line).get(id_field)
        return number if type(number) is int else None
    return None


def csv_cell(value: object) -> str:
    """Return a value as one line that no spreadsheet takes for a formula."""
    text = "" if value is None else printable(value, DATA_LIMIT)
    return f"'{text}" if text[:1] in tuple("=+-@") else text


class Journal:
    """journal.jsonl: append-only, synced to the disk; its lock lets one process work on a run.

    Each line has a time and one of: {"sent": ids}, before their DELETE leaves; {"ids",
    "answer", "applied", "rejected": {id: reason}}, after it; {"gone": ids}, which were
    verified gone; {"failed": {id: reason}}, which still exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # Guards the end of the file and the unanswered batches.
        self._lock = threading.Lock()
        self._unanswered: set[Batch] = set()
        with writing(path):
            self._file = open(path, "a+b", buffering=0)  # noqa: SIM115  # held to the end
        try:
            lock_file(self._file.fileno())
        except BlockingIOError as error:
            raise Refused(f"{path.parent} is in use by another process.") from error
        except (OSError, ImportError) as error:
            reason = getattr(error, "strerror", error)
            fault = f"{path.parent} cannot be locked ({reason}). Use another --runs-dir."
            raise Refused(fault) from error

    def replay(self, planned: Set[int]) -> Ledger:
        """Return the ledger of the earlier sessions; raises Refused for a foreign journal.

        A torn last line is cut off, or the next one would be joined to it.
        """
        with writing(self._path):
            self._file.seek(0)
            text = self._file.readall() or b""
            whole = text[: text.rfind(b"\n") + 1]
            if whole != text:
                self._file.truncate(len(whole))
        ledger, unanswered = Ledger(len(planned)), set[int]()
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                entry = json.loads(line)
                sent = entry.get("sent", ())
                ledger.applied |= unanswered.intersection(sent)  # was sent, never answered
                unanswered.update(sent)
                for again in sent:
                    ledger.failed.pop(again, None)
                unanswered.difference_update(entry.get("ids", ()))
                ledger.applied.update(entry.get("applied", ()))
                rejected = {int(key): text for key, text in entry.get("rejected", {}).items()}
                ledger.rejected_before.update(rejected)
                ledger.failed |= rejected
                failed = entry.get("failed", {}).items()
                ledger.failed |= {int(key): reason for key, reason in failed}
                ledger.gone.update(entry.get("gone", ()))
            except (ValueError, AttributeError, TypeError) as error:
                raise Refused(f"{self._path}, line {number}: invalid journal entry.") from error
        ledger.applied |= unanswered
        for gone in ledger.gone:
            ledger.failed.pop(gone, None)
        known = ledger.applied | ledger.gone | ledger.failed.keys() | ledger.rejected_before
        if not known <= planned:
            raise Refused(f"{self._path} does not belong to its plan.json. Start a new run.")
        return ledger

    def sent(self, batch: Batch) -> None:
        """Note the batch before its DELETE leaves (N12, N13)."""
        with self._lock:
            self._unanswered.add(batch)
        self._append({"sent": batch})

    def result(self, result: BatchResult) -> None:
        """Note what became of a batch."""
        with self._lock:
            self._unanswered.discard(result.batch)
        entry = {"ids": result.batch, "answer": result.message, "applied": result.applied}
        self._append(entry | ({"rejected": result.rejected} if result.rejected else {}))

    def gone(self, ids: Sequence[int]) -> None:
        """Note which ids are verified gone, so that no resume forgets it."""
        if ids:
            self._append({"gone": ids})

    def failed(self, reasons: Mapping[int, str]) -> None:
        """Note which ids still exist, and why."""
        if reasons:
            self._append({"failed": reasons})

    def unanswered(self) -> list[Batch]:
        """Return the batches that were sent, and of which no result was noted."""
        with self._lock:
            return [*self._unanswered]

    def close(self) -> None:
        """Release the lock."""
        self._file.close()

    def _append(self, entry: Mapping[str, Any]) -> None:
        line = json.dumps({"time": utc_now(), **entry}).encode() + b"\n"
        with self._lock, writing(self._path):
            size = os.fstat(self._file.fileno()).st_size
            try:
                if self._file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                self._file.truncate(size)  # else the next line would be joined to this
                raise
        with writing(self._path):
            os.fsync(self._file.fileno())  # outside the lock: one may serve several lines


class RunFolder:
    """The folder of one run, with its journal locked and its log open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.journal = Journal(path / "journal.jsonl")
        logging.raiseExceptions = False  # a full disk shows in the journal, before a DELETE
        self.log = logging.Logger("run.log", logging.INFO)
        with writing(path):
            self.log.addHandler(logging.FileHandler(path / "run.log", encoding="utf-8"))

    @classmethod
    def create(cls, config: Config) -> RunFolder:
        """Make a new folder, mode 0700; raises ConfigError if it cannot be made."""
        stem = f"{config.store_hash}-{config.resource.name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        try:
            config.runs_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            with suppress(OSError), open(config.runs_dir / ".gitignore", "x") as file:
                file.write("*\n")
            for number in itertools.count(1):
                path = config.runs_dir / (stem if number == 1 else f"{stem}-{number}")
                with suppress(FileExistsError):
                    path.mkdir(mode=0o700)
                    break
            return cls(path)
        except OSError as error:
            fault = f"Cannot create a run folder in {config.runs_dir} ({error.strerror})."
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StoreError(fault) from error
            raise ConfigError(f"{fault} Use another --runs-dir.") from error

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open the folder of an earlier run; raises ConfigError if it has no plan."""
        reason = "contains no plan.json"
        try:
            if path.is_file():
                reason = f"not a folder. Did you mean {path.parent}?"
            elif (path / "plan.json").is_file():
                return cls(path)
        except PermissionError as error:
            reason = str(error.strerror)
        raise ConfigError(f"--resume {path}: {reason}")

    def write(self, name: str, text: str, *, durable: bool = True) -> None:
        """Write a file of the folder as a whole."""
        write_atomically(self.path / name, text, durable=durable)

    def read_plan(self, config: Config) -> Plan:
        """Return the plan; raises Refused if it was modified, or is another store's."""
        path = self.path / "plan.json"
        try:
            plan = parse_plan(path.read_text(encoding="utf-8"))
        except (
            OSError,
            ValueError,
            TypeError,
            LookupError,
            AttributeError,
            RecursionError,
        ) as error:
            fault = f"{path} is invalid or was modified ({clean(error)})"
            raise Refused(f"{fault}. Start a new run.") from error
        for name in ("host", "store_hash"):
            planned, given = getattr(plan, name), getattr(config, name)
            if planned != given:
                fault = f"{path} is for {clean(planned)}, {config.path} is for {given}"
                raise Refused(f"Store mismatch: {fault}.")
        return plan

    def backup_fault(self, plan: Plan) -> str:
        """Return what is wrong with the backup of the plan; "" if nothing is."""
        path = self.path / "backup.jsonl"
        if not plan.backup:
            return ""
        try:
            with open(path, "rb") as file:
                found = {backup_id(line, RESOURCES[plan.resource].id_field) for line in file}
        except OSError as error:
            return f"Backup missing: {path} ({error.strerror})"
        missing = len({*plan.ids} - found)
        if not missing:
            return ""
        return f"Backup incomplete: {path} lacks {missing:,} of {len(plan.ids):,} records"

    def earlier_summary(self) -> Record:
        """Return the summary of the sessions before; {} if there is none."""
        try:
            summary = json.loads((self.path / "summary.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return summary if isinstance(summary, dict) else {}

    def write_unmatched(self, entries: Sequence[tuple[str, str]]) -> None:
        """Write unmatched.csv: the entries of lists that match no record, if any."""
        if entries:
            self._write_csv("unmatched.csv", [("list", "entry"), *entries])

    def write_failed(self, failed: Mapping[int, str], resource: Resource) -> None:
        """Write failed.csv: id, the fields of selected.csv, and the reason."""
        width = len(resource.display_fields)
        shown = {}
        for row in self.rows("selected.csv") if failed else ():
            number = positive_id(row[0]) if row else None
            if number in failed:
                shown[number] = (row[1:] + [""] * width)[:width]
        header: Sequence[object] = ("id", *resource.display_fields, "reason")
        empty = [""] * width
        rows = [[n, *shown.get(n, empty), failed[n]] for n in sorted(failed)]
        self._write_csv("failed.csv", [header, *rows])

    def _write_csv(self, name: str, rows: Iterable[Sequence[object]]) -> None:
        text = io.StringIO()
        csv.writer(text).writerows([[*map(csv_cell, row)] for row in rows])
        self.write(name, text.getvalue())

    def rows(self, name: str) -> Iterator[list[str]]:
        """Yield the rows of a CSV; none if it is missing or damaged."""
        path = self.path / name
        with (
            suppress(OSError, csv.Error),
            open(path, encoding="utf-8", errors="replace", newline="") as file,
        ):
            yield from csv.reader(file)

    def discard(self) -> None:
        """Remove the folder of a run that ended before anything was listed."""
        for handler in [*self.log.handlers]:
            self.log.removeHandler(handler)
            with suppress(OSError):  # a full disk
                handler.close()
        self.journal.close()
        shutil.rmtree(self.path, ignore_errors=True)

    def write_summary(self, summary: Mapping[str, Any], *, durable: bool) -> None:
        """Write summary.json."""
        text = json.dumps(summary, indent=1, ensure_ascii=False) + "\n"
        self.write("summary.json", text, durable=durable)


# --- delete and verify --------------------------------------------------------------
#
# Carries out the plan, and verifies it. Only a read makes an id `deleted`. `existing` is
# the one question behind it all: it is asked before the first DELETE (are reads reliable?),
# after the first batch (does deleting work?), on a resume (what remains?) and at the end
# (is it gone?).

STORE_DOWN = 5  # requests in a row that used up their retries end the run
REREAD_DELAYS = (1.0, 2.0, 3.0, 4.0)  # seconds before each further read of what is left
# Seconds before each read of the first batch: 60 in all, the consistency delay allowed.
FIRST_BATCH_DELAYS = (0.0, 1.0, 1.0, 2.0, 3.0, 5.0, 8.0, 10.0, 10.0, 10.0, 10.0)
MAX_WITHOUT_EFFECT = 10  # batches in a row, before one has deleted anything


@dataclass
class ReadBack:
    """The ids that a read did not find gone."""

    # They exist, and no reason is known.
    existing: list[int] = field(default_factory=list)
    # They exist, and have failed for a reason.
    failed: list[int] = field(default_factory=list)
    # The response cannot be relied on.
    unknown: list[int] = field(default_factory=list)


@dataclass
class FailureBudget:
    """Counts the failures of one pass, and says when and why the run must stop."""

    selected: int
    # In percent of the selection.
    max_error_rate: float
    failed: int = 0
    # Requests in a row that used up their retries.
    exhausted: int = 0

    def add(self, result: BatchResult) -> StoreError | None:
        """Add a result; returns the reason to stop, if there is one."""
        unsettled_ids = result.doubtful if result.retries_exhausted else ()
        self.failed += len(result.rejected) + len(unsettled_ids)
        self.exhausted = self.exhausted + 1 if result.retries_exhausted else 0
        if self.exhausted >= STORE_DOWN:
            fault = f"{STORE_DOWN} requests in a row used up their retries"
            return StoreError(f"Cannot reach the store: {fault}. Last error: {result.message}.")
        allowed = 0.0
        if self.max_error_rate:
            allowed = max(10.0, self.selected * self.max_error_rate / 100)
        if self.failed > allowed:
            last = next(iter(result.rejected.values()), result.message)
            limit = f"above max_error_rate ({self.max_error_rate:g}%)"
            fault = f"Stopped: {self.failed:,} of {self.selected:,} failed, {limit}"
            return StoreError(f"{fault}. Last error: {last}.")
        return None


@dataclass
class Executor:
    """Deletes planned ids and verifies the deletions."""

    store: Store
    workers: Workers
    progress: Progress
    ledger: Ledger
    journal: Journal
    max_error_rate: float
    # Record => its parent, where deleting a parent deletes its children; else empty.
    parents: Mapping[int, int] = field(default_factory=dict)
    # Records that are not sent, since a child of theirs was not deleted => the reason.
    blocked: dict[int, str] = field(default_factory=dict)

    # What exists

    def read_back(
        self, ids: Sequence[int], *, is_progress: bool = True, is_resume: bool = False
    ) -> ReadBack:
        """Read planned ids back: what is gone is noted in ledger and journal (N10, N13).

        is_resume: nothing is known of the store, so every absence is read twice.
        """
        result, ledger = ReadBack(), self.ledger
        parts = [*chunks(ids, self.store.chunk_size)]
        reads: Iterable[set[int] | None]
        reads = self.workers.in_order(self.store.existing, parts)
        if not self.store.resource.id_filter:
            reads = [*reads]
            if not self.is_path_read_reliable():
                return ReadBack(unknown=[*ids])
        for chunk, existing in zip(parts, reads, strict=True):
            if existing is None:
                result.unknown.extend(chunk)
                continue
            before = {*ledger.failed}
            # N10: no accepted DELETE explains these absences, and one response may be a
            # stray one: they are read once more.
            is_unclear = before | ledger.doubts.keys()
            unexpected = [
                number
                for number in chunk
                if number not in existing
                and (is_resume or number in is_unclear or number not in ledger.applied)
            ]
            if unexpected and self.workers.call(self.store.existing, unexpected) != set():
                result.unknown.extend(chunk)
                continue
            ledger.read_back(chunk, existing)
            self.journal.gone([number for number in chunk if number not in existing])
            new = ledger.failed.keys() - before
            self.journal.failed({number: ledger.failed[number] for number in new})
            for number in (n for n in chunk if n in existing):
                has_failed = number in ledger.failed
                (result.failed if has_failed else result.existing).append(number)
            self.progress.advance(len(chunk) * is_progress)
        return result

    def read_after_delay(self, ids: Sequence[int]) -> ReadBack:
        """Read ids back, and once more if the store may still list deleted records."""
        result, delay = self.read_back(ids), self.ledger.consistency_delay
        if delay and not self.ledger.applied.isdisjoint(result.existing):
            text = "Deleted records may still be listed"
            self.progress.warn(f"{text}; reading again in {delay:.0f}s.")
            self.workers.sleep(delay)
            result = self.read_back(result.existing + result.unknown, is_progress=False)
        return result

    def check_reads(self, ids: Sequence[int], known: Sequence[int] = ()) -> None:
        """Check that the store returns the records that exist: the read check.

        Absence proves nothing unless presence is reported. The longest of the ids are read
        as verification will read them, with known ids, which surely exist, before, between
        and after them. If one is missing, fewer are asked for until all are returned: an
        id that a smaller read returns was ignored by the larger one; if none does, somebody
        has deleted it. Raises Canceled if no size works.
        """
        store, size, known = self.store, self.store.chunk_size, known[: self.store.chunk_size]
        others = [number for number in ids if number not in known]
        others = heapq.nlargest(size - len(known), others)
        third, half = len(known) // 3, len(others) // 2
        sample = [*known[:third], *others[:half], *known[third : 2 * third]]
        sample += [*others[half:], *known[2 * third :]]
        while True:
            found = self._read_parts(sample, size)
            missing = [number for number in sample if number not in found]
            in_halves = self._read_parts(missing, max(1, min(len(missing) // 2, size)))
            in_halves |= self._read_parts(missing[-1:], 1)
            if store.chunk_size < size:  # a read that was too long was halved
                size = store.chunk_size
                store.batch_size = min(store.batch_size, size)
            if found and None not in found and not in_halves and found.issuperset(known):
                if size < store.chunk_size:
                    store.chunk_size = size
                    store.batch_size = min(store.batch_size, size)
                return
            if size == 1:
                fault = f"the store does not return {store.resource.singular} {missing[0]}"
                raise Canceled(f"Deletions cannot be verified: {fault}, which it has listed.")
            size = (min(size, len(sample)) + 1) // 2

    def is_path_read_reliable(self) -> bool:
        """Tell whether a record that the list has can be read by its path id.

        Else a store that answers everything with 404 would seem to have deleted all.
        """
        known = self.known_ids()[-1:]
        return not known or self.workers.call(self.store.existing, known) == {*known}

    def known_ids(self) -> list[int]:
        """Return a few ids that exist: the last of the first page.

        A list may show deleted records for a while, as its id filter does. A read by path
        id does not, so there only records that were not sent count.
        """
        read = partial(self.workers.call, self.store.page, self.store.resource)
        read = partial(read, page=1, limit=PAGE_LIMIT)
        records = read().records or read().records  # an empty page may be a stray response
        ids = [*map(self.store.resource.id_of, records)]
        if not self.store.resource.id_filter:
            sent = self.ledger.applied | self.ledger.gone
            ids = [number for number in ids if number not in sent]
        return ids[-6:]

    def _read_parts(self, ids: Sequence[int], size: int) -> set[int | None]:
        """Return which of the ids exist, read in parts; with None if that is unknown."""
        found: set[int | None] = set()
        for part in chunks(ids, size):
            existing = self.workers.call(self.store.existing, part)
            found |= {None} if existing is None else existing
        return found

    # Deleting

    def delete(self, ids: Sequence[int]) -> None:
        """Delete planned ids, one batch at a time until one is verified."""
        budget = FailureBudget(self.ledger.selected, self.max_error_rate)
        # An earlier session may have deleted something.
        is_confirmed = not self.ledger.applied.isdisjoint(self.ledger.gone)
        without_effect = 0
        for level in levels(ids, self.parents):
            self.read_back([*self.ledger.doubts], is_progress=False)
            rest = self.without_blocked(level)
            while rest and not is_confirmed:
                size = self.store.batch_size
                first, rest = rest[:size], rest[size:]
                self.send_batches(first, budget, one_by_one=True)
                is_confirmed = self.confirm_first_batch(first)
                was_gone = self.ledger.gone.issuperset(first)
                without_effect += not is_confirmed and not was_gone
                if without_effect == MAX_WITHOUT_EFFECT:
                    raise self.workers.stop.set(self._without_effect(first))
            self.send_batches(rest, budget)

    def _without_effect(self, ids: Sequence[int]) -> StoreError:
        reasons = self.ledger.doubts | self.ledger.failed
        last = [f" Last error: {reasons[n]}." for n in ids if n in reasons][:1]
        fault = f"Stopped: the first {MAX_WITHOUT_EFFECT} batches deleted nothing."
        return StoreError("".join([fault, *last]))

    def without_blocked(self, ids: Sequence[int]) -> Sequence[int]:
        """Return the ids without parents of a child that was not deleted.

        Deleting a parent deletes its children.
        """
        kept = self.ledger.failed.keys() | self.ledger.doubts.keys() | self.blocked.keys()
        reasons = {
            self.parents[child]: f"its child {child} was not deleted"
            for child in kept.intersection(self.parents)
        }
        self.blocked |= {number: reasons[number] for number in ids if number in reasons}
        return [number for number in ids if number not in self.blocked] if reasons else ids

    def send_batches(
        self, ids: Sequence[int], budget: FailureBudget, *, one_by_one: bool = False
    ) -> None:
        """Delete ids in batches; raises RunError, with all responses noted, at a stop."""
        stop = self.workers.stop
        try:
            for result in self.batch_results(ids, one_by_one=one_by_one):
                self.ledger.apply(result)
                try:
                    self.journal.result(result)
                except RunError as failure:
                    stop.set(failure)
                requeued = sum(map(len, result.requeue))
                self.progress.advance(len(result.batch) - requeued)
                if reason := budget.add(result):
                    stop.set(reason)
        finally:
            for batch in self.journal.unanswered():  # not waited for
                self.ledger.apply(BatchResult(batch=batch, applied=batch))
        stop.check()

    def batch_results(self, ids: Sequence[int], *, one_by_one: bool) -> Iterator[BatchResult]:
        """Delete ids in batches, several at a time, and yield each result as it comes.

        Halves of a rejected batch go at once, so that its bad record is found soon;
        those of a batch that used up its retries go last, so that a store that is down
        is not asked twenty times for each. Ends early once the stop flag is set.
        """
        store, workers = self.store, self.workers
        limit = 1 if one_by_one else 2 * workers.count  # no worker waits for this thread
        fresh = batches(ids, store.batch_size)
        soon: deque[Batch] = deque()
        late: deque[Batch] = deque()
        pending: list[Future[BatchResult]] = []

        def next_batch() -> Batch | None:
            if workers.stop.failure is not None:
                return None
            if soon:
                return soon.popleft()
            return next(fresh, None) or (late.popleft() if late else None)

        while True:
            while len(pending) < limit and (batch := next_batch()):
                pending.append(workers.submit(store.delete_batch, batch, self.journal))
            if not pending:
                return
            done = workers.await_any(pending, deletes=True)
            for future in [item for item in pending if item in done]:  # in order
                pending.remove(future)
                result = future.result()
                (late if result.retries_exhausted else soon).extend(result.requeue)
                yield result

    def confirm_first_batch(self, ids: Sequence[int]) -> bool:
        """Tell whether this run has deleted something of a batch.

        An accepted batch is read for up to 60 s, and that consistency delay is what
        verification waits. Raises StoreError if all of it still exists then.
        """
        began, ledger = time.monotonic(), self.ledger
        for delay in FIRST_BATCH_DELAYS:
            self.workers.sleep(delay)
            result = self.read_back(ids, is_progress=False)
            if not ledger.gone.isdisjoint(ledger.applied.intersection(ids)):
                ledger.consistency_delay = time.monotonic() - began if delay else 0.0
                return True
            if not result.unknown and ledger.doubts.keys() >= {*result.existing}:
                return False  # nothing was clearly accepted
            if not delay:
                seconds = sum(FIRST_BATCH_DELAYS)
                text = "Deleted records are still listed"
                self.progress.warn(f"{text}; waiting up to {seconds:.0f}s.")
        fault = "its records still exist after 60 s"
        if result.unknown:
            fault = "what it returns of its records cannot be relied on"
        fault = f"The store accepted the first DELETE, but {fault}."
        raise self.workers.stop.set(StoreError(fault))

    # Verifying

    def verify(self, ids: Sequence[int]) -> None:
        """Read all ids back; delete what still exists once more, and read it again."""
        unverified = [number for number in ids if number not in self.ledger.gone]
        self.progress.advance(len(ids) - len(unverified))
        result = self.read_after_delay(unverified)
        resent: set[int] = set()
        delays: Sequence[float] = REREAD_DELAYS
        if self.ledger.consistency_delay is None:  # this session has not measured it
            delays = FIRST_BATCH_DELAYS[1:]
            if result.existing:
                self.workers.sleep(REREAD_DELAYS[-1])
                result = self.read_back(result.existing + result.unknown, is_progress=False)
        for delay in delays:
            if not result.existing and not result.unknown:
                return
            budget = FailureBudget(self.ledger.selected, self.max_error_rate)
            self.blocked.clear()
            for level in levels([n for n in result.existing if n not in resent], self.parents):
                sendable = self.without_blocked(level)
                self.send_batches(sendable, budget)
                resent.update(sendable)
            self.workers.sleep(max(delay, self.ledger.consistency_delay or 0.0))
            result = self.read_back(result.existing + result.unknown)
        reasons = {
            number: self.ledger.doubts.pop(number, "still exists after two accepted DELETEs")
            for number in resent.intersection(result.existing)
        }
        for number in (self.blocked.keys() - resent).intersection(result.existing):
            reasons[number] = self.blocked[number]
        self.ledger.failed |= reasons
        self.journal.failed(reasons)
        for number in self.ledger.failed.keys() & {*result.unknown}:  # it may be gone
            self.ledger.doubts[number] = self.ledger.failed.pop(number)


# --- screen -------------------------------------------------------------------------
#
# What the person sees: messages, bars and the question on stderr, the result on stdout,
# and report.html. It decides nothing; a terminal that is gone never ends a run.

LINE_EVERY = 2.0  # seconds between plain lines of progress, without a terminal
REDRAW_EVERY = 0.1  # seconds between drawings of a bar


def duration(seconds: float) -> str:
    """Return 4 s, 2 min 5 s or 1 h 2 min."""
    minutes, second = divmod(max(0, round(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minute} min"
    return f"{minutes} min {second} s" if minutes else f"{second} s"


def progress_text(progress: Progress, elapsed: float, waiting: str, *, is_last: bool) -> str:
    """Return count, rate a second, and the time left or what is waited for."""
    done, total = progress.done, progress.total
    count = f"{done:,}/{total:,}" if total else f"{done:,}"
    if is_last:
        return f"{count} in {duration(elapsed)}"
    if waiting:
        return f"{count} · {waiting}"
    rate = done / elapsed if elapsed > 0 else 0.0
    left = f" · {duration((total - done) / rate)} left" if rate and total else ""
    return f"{count} · {rate:,.0f}/s{left}"


class PatientConsole(Console):
    """A console that may be closed, or whose reader may leave: rich would exit then."""

    def on_broken_pipe(self) -> None:
        """Print nothing from now on."""
        self.quiet = True

    def __exit__(self, *exception: object) -> None:
        """Write what was printed; all that rich writes goes through here."""
        with suppress(OSError):
            super().__exit__(*exception)


class PhaseDisplay:
    """Shows the progress of a phase: a bar on a terminal, else a line now and then."""

    def __init__(self, screen: Screen, name: str, progress: Progress, bars: Bars) -> None:
        self._screen, self._name, self._progress, self._bars = screen, name, progress, bars
        self._began = self._shown_at = time.monotonic()
        self._task = bars.add_task(f"{name:<9}", total=None, detail="…")

    def show(self, waiting: str = "", *, is_last: bool = False) -> None:
        """Show the progress; called often, so it mostly does nothing."""
        now, is_plain = time.monotonic(), self._bars.disable
        if not is_last and now - self._shown_at < (LINE_EVERY if is_plain else REDRAW_EVERY):
            return
        self._shown_at = now
        done, total = self._progress.done, self._progress.total
        text = progress_text(self._progress, now - self._began, waiting, is_last=is_last)
        total = total or (done if is_last else 0)
        self._bars.update(self._task, completed=done, total=total or None, detail=text)
        if is_plain and (total or done or waiting):
            share = f"{100 * done // total}% · " if total else ""
            self._screen.say(f"{self._name}: {share}{text}")


class Screen:
    """Prints messages, bars and tables, and asks."""

    def __init__(self) -> None:
        for stream in (sys.stdin, sys.stdout, sys.stderr):
            with suppress(AttributeError):  # a test's stand-in, or closed
                stream.reconfigure(errors="replace")  # type: ignore[union-attr]
        if os.environ.get("COLUMNS") == "0":  # as in some containers: nothing would be seen
            del os.environ["COLUMNS"]
        self._err = PatientConsole(stderr=True, highlight=False, markup=False)
        self._out = PatientConsole(highlight=False, markup=False)
        self._phase: PhaseDisplay | None = None
        # What was last said to be waited for, outside of a phase, and when.
        self._waiting, self._said_at = "", 0.0

    def say(self, text: str, style: str = "", *, is_command: bool = False) -> None:
        """Print a message; a command, which is to be copied, is not wrapped."""
        soft_wrap = is_command or not self._err.is_terminal
        self._err.print(Text(text, style=style), soft_wrap=soft_wrap)

    def warn(self, text: str) -> None:
        """Print a warning."""
        self.say(f"WARNING: {text}", "yellow")

    def fail(self, text: str) -> None:
        """Print why the run ended."""
        self.say(f"bulk_delete.py: {text}", "bold red")

    def show(self, renderable: Any, *, is_result: bool = False) -> None:
        """Print a table or panel; the result goes to stdout."""
        (self._out if is_result else self._err).print(renderable)

    def ask(self, question: str, stop: Stop) -> str:
        """Return the line that the person types; "" at the end of the input.

        A signal ends it: its handler raises, since no signal ends a read everywhere.
        """
        self._err.print(Text(question, style="bold"), end="")
        stop.raises_on_signal = True
        try:
            stop.check()
            return sys.stdin.readline()
        except (OSError, ValueError):  # the terminal is gone
            return ""
        except Interrupted:
            self.say("")  # the cursor is behind ^C
            raise
        finally:
            stop.raises_on_signal = False

    @contextmanager
    def phase(self, name: str, progress: Progress, total: int = 0) -> Iterator[None]:
        """Show the progress of a phase while it lasts; `tick` redraws it."""
        progress.begin(total)
        with make_bars(self._err) as bars:
            self._phase = display = PhaseDisplay(self, name, progress, bars)
            try:
                yield
                progress.total = progress.done  # less was found than expected
            finally:
                self._phase = None
                display.show(is_last=True)

    def tick(self, waiting: str) -> None:
        """Redraw; waiting: what a wait is for, if there is one."""
        if self._phase is not None:
            self._phase.show(waiting)
            return
        words, now = waiting.rpartition(" ")[0], time.monotonic()
        is_due = not self._err.is_terminal and now - self._said_at >= LINE_EVERY
        if waiting and (is_due or self._waiting != words):
            self._said_at = now
            self.say(waiting)
        self._waiting = words


def make_bars(console: Console) -> Bars:
    """Return rich's bars for a console; where it is no terminal, they are disabled."""
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn  # slow to load
    from rich.progress import Progress as RichProgress

    green = "bold green"
    bar = BarColumn(16, style="bright_black", complete_style=green, finished_style=green)
    detail = TextColumn("{task.fields[detail]}", markup=False)
    columns = (TextColumn("{task.description}"), bar, TaskProgressColumn(), detail)
    is_plain = not console.is_terminal or console.is_dumb_terminal
    return RichProgress(*columns, console=console, refresh_per_second=8, disable=is_plain)


class ScreenHandler(logging.Handler):
    """Shows on the screen what goes to run.log."""

    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        """Show a line of the log."""
        self._screen.say(record.getMessage(), "dim")


Rows = Sequence[tuple[str, str]]  # label and text; rows without a text are left out


def grid(rows: Rows, first_style: str = "") -> Table:
    """Return labels and texts in two columns; first_style: of the first text."""
    table = Table.grid(Column(no_wrap=True), Column(overflow="fold"), padding=(0, 2))
    for number, (label, text) in enumerate(row for row in rows if row[1]):
        style = "bold yellow" if label == "WARNING" else "" if number else first_style
        table.add_row(Text(label, style=style if label == "WARNING" else ""), Text(text, style))
    return table


def plan_panel(rows: Rows, *, is_dry_run: bool) -> Panel:
    """Return the panel of a plan."""
    title = "Dry run: nothing will be deleted" if is_dry_run else "This cannot be undone"
    style = "cyan" if is_dry_run else "red"
    return Panel(grid(rows), title=title, title_align="left", border_style=style)


def result_words(summary: Mapping[str, Any]) -> str:
    """Return the result of a run in a word or two."""
    status, exit_status = summary["status"], summary["exit_status"]
    if status == "completed":
        return "Completed with failures" if exit_status else "Completed"
    if status == "planned":
        return "Canceled" if exit_status else "Dry run complete"
    if exit_status == Refused.exit_status:
        return "Refused" if status == "refused" else "Canceled"
    return "Interrupted" if exit_status > 128 else "Stopped"


def verified_words(summary: Mapping[str, Any]) -> str:
    """Return whether the deletions were verified; "" if there were none to verify."""
    selected, gone = summary["selected"], summary["deleted"] + summary["already_gone"]
    if not selected or summary["status"] not in ("completed", "interrupted"):
        return ""
    if gone == selected:
        return f"yes, all {gone:,} are gone"
    if summary["verified"]:
        return f"yes, {gone:,} are gone and {selected - gone:,} failed"
    return f"no, {selected - gone:,} not verified"


def result_rows(summary: Mapping[str, Any], store_name: str, resource: Resource) -> Rows:
    """Return the rows of the result table."""

    def count(key: str, remark: str = "") -> str:
        return f"{summary[key]:,}{remark}" if summary[key] else ""

    waits = f"{summary['retries']:,} retries, {summary['rate_limited']:,} rate-limited"
    started = summary["started_at"][:19].replace("T", " ")
    took = duration(summary["elapsed_seconds"])
    return [
        ("Result", f"{result_words(summary)} (exit status {summary['exit_status']})"),
        ("Reason", summary["reason"] or ""),
        ("Store", store_name),
        ("Selected", resource.counted(summary["selected"])),
        ("Deleted", f"{summary['deleted']:,}"),
        ("Failed", f"{summary['failed']:,}"),
        ("Remaining", count("not_attempted")),
        ("Unverified", count("unknown", " (accepted, or possibly accepted, by the store)")),
        ("Already gone", count("already_gone", " (not by this run)")),
        ("Verified", verified_words(summary)),
        ("Excluded", count("spared")),
        ("Unmatched", count("not_found", " of --ids (unmatched.csv)")),
        ("Not kept", count("keep_unknown", " of --keep match no record (unmatched.csv)")),
        ("Duplicates", count("duplicates", " (each counted once)")),
        ("Requests", f"{summary['requests']:,} ({waits})"),
        ("Duration", f"{took} (started {started} UTC)"),
        ("Run folder", summary["run_folder"] or ""),
    ]


def result_panel(rows: Rows, exit_status: int) -> Panel:
    """Return the result table."""
    style = "red" if exit_status else "green"
    return Panel(grid(rows, f"bold {style}"), box=box.HORIZONTALS, border_style=style)


REPORT_ROWS = 100  # of each of these files
REPORT_FILES = {"failed.csv": "Failed records", "unmatched.csv": "Unmatched entries"}
REPORT_COLUMNS = 120
# Readable on white and on black: black, red, green, yellow, blue, magenta, cyan, white.
COLORS = "5a5a5a d72832 1e8c3c 966e00 286edc aa46be 00828c 808080"
ANSI_COLORS = [tuple(bytes.fromhex(color)) for color in COLORS.split()]
REPORT_THEME = TerminalTheme((255, 255, 255), (0, 0, 0), ANSI_COLORS)  # type: ignore[arg-type]
REPORT_FORMAT = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="UTF-8">
<title>bulk_delete.py: TITLE</title>
<style>
:root {{ color-scheme: light dark; }}
pre {{ font: 13px/1.3 Menlo, Consolas, "DejaVu Sans Mono", monospace; }}
@page {{ margin: 10mm; }}
@media print {{ pre {{ font-size: 7.2pt; }} }}
</style>
</head>
<body><pre>{code}</pre></body>
</html>
"""


def file_table(folder: RunFolder, name: str) -> Table | None:
    """Return the first rows of a CSV of the run folder; None if it has none."""
    rows = folder.rows(name)
    shown = [*itertools.islice(rows, REPORT_ROWS + 1)]
    more = sum(1 for _ in rows)
    if len(shown) < 2:
        return None
    columns = [Column(Text(header), overflow="fold") for header in shown[0]]
    title = f"{REPORT_FILES[name]} ({name})"
    table = Table(*columns, title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for row in shown[1:]:
        table.add_row(*map(Text, row))
    table.caption = f"and {more:,} more in {name}" if more else None
    return table


def report_html(title: str, parts: Iterable[Any]) -> str:
    """Return one HTML file without external resources, for the ticket."""
    output = io.StringIO()
    console = Console(record=True, file=output, width=REPORT_COLUMNS, legacy_windows=False)
    console.print(Group(*parts))
    page = REPORT_FORMAT.replace("TITLE", html.escape(title))
    return console.export_html(theme=REPORT_THEME, code_format=page, inline_styles=True)


def resource_table() -> Table:
    """Return all resources, for --resource list."""
    rows = []
    for item in RESOURCES.values():
        how = "one at a time"
        if item.delete_filter:
            how = f"{item.largest_batch} at a time by {item.delete_filter}"
        if item.max_concurrent == 1:
            how += ", one request in flight"
        lines = [f"{item.path}, deleted {how}", f"scope: {item.scope}"]
        lines.append(f"filters: {' '.join(item.filter_types())}")
        rows.append((item.name, "\n".join([*lines, *filter(None, [item.note])])))
    return grid(rows)


# --- guards -------------------------------------------------------------------------
#
# Everything that keeps a plan from being executed: each raises Refused or Canceled and
# says what to do. Others are where they are noticed: a plan that was modified in
# `RunFolder`, a store whose reads are unreliable in `Executor.check_reads`.


def check_domain(config: Config, info: Record | None, store_name: str) -> None:
    """Raise Refused if [store] domain is not the domain of the store."""
    if not config.domain:
        return
    if info is None:
        fault = f"{config.path}: cannot check domain, since the token cannot read GET /v2/store"
        raise Refused(f"{fault}. Add the scope {STORE_INFO.scope}, or remove domain.")
    domains = [bare_domain(info.get(name, "")) for name in ("domain", "secure_url")]
    if config.domain not in domains:
        fault = f"{config.path} expects {clean(config.domain)}, but store_hash is {store_name}"
        raise Refused(f"Store mismatch: {fault}.")


def check_selection(selection: Selection, parents: Mapping[int, int], config: Config) -> None:
    """Raise Refused for a list or --match that does not fit the records of the store."""
    for matcher in selection.lists:
        if rows := matcher.contradictions():
            fault = (
                f"{matcher.entries.name}, {first_few(rows)}: id and address are of two records"
            )
            raise Refused(f"{fault}. Correct the rows, or remove one column.")
    if selection.field_names:
        for path in sorted(selection.missing_paths):
            hint = suggest(path, sorted(selection.field_names))
            raise Refused(f'Unknown field "{path}" in --match ({hint}).')
    for matcher in selection.keep_lists:
        if not matcher.matched:
            name = matcher.entries.name
            raise Refused(
                f"No entry of {name} matches a {config.resource.singular}. Wrong file?"
            )
    check_cascade(selection.ids, parents, config.resource)


def check_cascade(ids: Sequence[int], parents: Mapping[int, int], resource: Resource) -> None:
    """Raise Refused for a planned parent of a record that is not planned (N2)."""
    planned = {*ids} if parents else set()
    unplanned = [
        str(number)
        for number in parents
        if number not in planned and not planned.isdisjoint(ancestors(number, parents))
    ]
    if unplanned:
        children = f"child {resource.singular if len(unplanned) == 1 else resource.plural}"
        verb = "is" if len(unplanned) == 1 else "are"
        fault = f"{len(unplanned):,} {children} {verb} not selected but would be deleted with"
        shown = f"their parents: {first_few(unplanned)}"
        raise Refused(f"{fault} {shown}. Select them too, or leave out the parents.")


def check_count(config: Config, count: int) -> None:
    """Raise Refused if more would be deleted than --max-delete allows."""
    if config.max_delete is not None and count > config.max_delete:
        fault = f"{count:,} selected, but --max-delete is {config.max_delete:,}."
        raise Canceled(fault) if config.resume else Refused(fault)


def check_age(config: Config, plan: Plan) -> None:
    """Raise Refused for a plan from the future, or one over a day old with --yes."""
    if plan.age() < -timedelta(minutes=1):
        raise Canceled(f"Plan is from the future ({clean(plan.created_at)}). Check the clock.")
    if config.yes and plan.age() > timedelta(days=1):
        days = "1 day" if plan.age().days == 1 else f"{plan.age().days} days"
        raise Canceled(f"Plan is {days} old. Resume without --yes to review it.")


def check_slips(config: Config, slips: Sequence[str]) -> None:
    """Raise Refused for likely mistakes if nobody looks at the panel: with --yes (N23)."""
    if config.yes and slips:
        fault = ". ".join([*slips, "Correct this, or run without --yes to review it."])
        raise Canceled(fault) if config.resume else Refused(fault)


def missing_protections(config: Config, plan: Plan) -> list[str]:
    """Return the exclusions of the ini that the plan to be resumed was made without."""
    missing = []
    for name, text in config.ini_protections.items():
        planned = f" and {plan.selection.get(name, '')} and "
        is_known = name in plan.selection and name == "spare_with_orders"
        if not is_known and f" and {text} and " not in planned:
            setting = f"{name} = {printable(text, 80)} in {config.path}"
            missing.append(f"{setting} is ignored: the plan was made without it")
    return missing


def confirm(screen: Screen, stop: Stop, count: int, what: str) -> None:
    """Ask the person to type the number of records; raises Canceled if they do not.

    N21: what was typed before the question does not count.
    """
    if not all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr)):
        raise Canceled("Cannot prompt: not a terminal. Add --yes to delete without asking.")
    stop.check()
    discard_typed_ahead()
    typed = screen.ask(f"To delete {what}, type {count}: ", stop)
    if not typed:
        stop.sleep(POLL)  # a terminal that closes ends the input before its signal comes
    if typed.strip().replace(",", "") != str(count):
        raise Canceled(f"Canceled: expected {count}.")


# --- run ----------------------------------------------------------------------------
#
# Puts the parts together: `Run.work` is the table of contents of a run, `ending` the one
# place where a failure becomes an exit status, and `main` what the shell calls.


def make_plan(config: Config, selection: Selection, facts: Mapping[str, str]) -> Plan:
    """Return the plan of a selection; facts: what the panel says of it."""
    return Plan(
        host=config.host,
        store_hash=config.store_hash,
        resource=config.resource.name,
        filters=config.filters,
        selection=config.selection,
        facts={label: text for label, text in facts.items() if text},
        sample=sample_lines(selection.sample, config.resource),
        warnings=selection_warnings(config, selection),
        slips=selection_slips(config, selection),
        created_at=utc_now(),
        duplicates=selection.duplicates,
        not_found=len(selection.unmatched_ids()),
        spared=selection.excluded,
        keep_unknown=sum(len(matcher.unmatched()) for matcher in selection.keep_lists),
        backup_cut=0 if config.no_backup else selection.truncated,
        backup=not config.no_backup,
        ids=selection.ids,
    )


def selection_facts(config: Config, selection: Selection, time_zone: str) -> dict[str, str]:
    """Return what the panel says of a selection: label => text, which may be empty."""
    shared = [email for matcher in selection.lists for email in matcher.shared_emails()]
    values = selection.unmatched_values.items()
    unmatched = [f"{name}={text}" for name, texts in values for text in sorted(texts)]
    has_dates = any(item.type is FILTER_TYPES["date"] for item in config.filter.values())
    is_customers = config.resource.name == "customers"
    return {
        "Selection": selection_words(config, selection),
        "Excluded": f"{selection.excluded:,}" if selection.excluded else "",
        "Orders": NOT_CHECKED if is_customers and not config.spare_with_orders else "",
        "Time zone": f"filters use UTC; the store uses {time_zone}" if has_dates else "",
        "Shared": f"{first_few(shared)} (used by several {config.resource.plural})"
        * bool(shared),
        "Unmatched": "" if selection.is_full else first_few(unmatched),
    }


NOT_CHECKED = "not checked (--spare-with-orders)"


def selection_words(config: Config, selection: Selection) -> str:
    """Return what is selected, in the words given, and whether that is everything."""
    plural = config.resource.plural
    conditions = [f"{name}={text}" for name, text in config.filters.items()]
    for match in config.match:
        verb = "does not match" if match.negated else "matches"
        conditions.append(f"{match.path} {verb} {match.pattern.pattern}")
    words = plural
    if config.ids:
        words += f" in {config.ids}"
    if conditions:
        words += f" where {' and '.join(conditions)}"
    if 0 < len(selection.ids) == selection.total:
        is_plain = words == plural and config.limit is None
        everything = f"ALL {plural} in the store"
        words = everything if is_plain else f"{words} ({everything})"
    elif words == plural:
        words += " in the store"
    if config.limit is not None:
        is_by_date = "date_created" in config.resource.params.get("sort", "")
        order = "oldest" if is_by_date and not config.ids else "first"
        words = f"the {config.limit:,} {order} {words}"
    excluded = [
        f"{m.excluded:,} of the {len(m.entries):,} in {m.entries.name}"
        for m in selection.keep_lists
    ]
    if config.spare_with_orders:
        excluded.append(f"{selection.excluded_by_orders:,} with orders")
    return words + (f", excluding {' and '.join(excluded)}" if excluded else "")


IN_UNMATCHED = " (unmatched.csv)"


def unmatched_words(matcher: ListMatcher, resource: Resource) -> str:
    """Return a sentence on the entries that match no record; "" if there are none."""
    entries = matcher.unmatched()
    if not entries:
        return ""
    is_one = len(entries) == 1
    subject = f"{len(entries):,} {'entry' if is_one else 'entries'} of {matcher.entries.name}"
    verb = f"{'matches' if is_one else 'match'} no {resource.singular}"
    shown = first_few([printable(entry) for entry in entries])
    may_mind_case = matcher.is_looked_up and matcher.unmatched_emails()
    remark = "; look-ups by address may be case-sensitive" if may_mind_case else ""
    return f"{subject} {verb}: {shown}{remark}{IN_UNMATCHED}"


def selection_warnings(config: Config, selection: Selection) -> list[str]:
    """Return what the panel warns of, besides slips."""
    resource, warnings = config.resource, [*config.warnings]
    for match in selection.idle_exclusions if selection.is_full else ():
        shown = printable(match.pattern.pattern, 80)
        warnings.append(
            f"--match {match.path}!={shown} has excluded none of those listed so far"
        )
    for name, number in selection.ignored_filters.items():
        returned = f"it returned {resource.singular} {number}, which does not match"
        warnings.append(
            f"The store ignored the filter {name}: {returned} (and is not selected)"
        )
    if selection.ids_list and selection.unmatched_ids():
        warnings.append(unmatched_words(selection.ids_list, resource))
    if selection.truncated and not config.no_backup:
        count = resource.counted(selection.truncated)
        verb = "has" if selection.truncated == 1 else "have"
        fault = f"{count} {verb} more addresses or attributes than the API returns"
        warnings.append(f"Backup incomplete: {fault}")
    return warnings


def selection_slips(config: Config, selection: Selection) -> list[str]:
    """Return the likely mistakes of a selection: protections that exclude nobody (N23)."""
    slips = [unmatched_words(matcher, config.resource) for matcher in selection.keep_lists]
    for match in selection.idle_exclusions if selection.ids and not selection.is_full else ():
        expression = f"{match.path}!={printable(match.pattern.pattern, 80)}"
        slips.append(f"--match {expression} excludes no {config.resource.singular}")
    if config.spare_with_orders and not selection.with_orders:
        slips.append("--spare-with-orders excludes no customer: no order belongs to one")
    return [*filter(None, slips)]


class Webhook:
    """Posts events to webhook_url, one after the other, while the run goes on."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._posts: list[tuple[str, Future[str]]] = []

    def send(self, event: Mapping[str, Any]) -> None:
        """Post an event after those before it; does nothing without a URL."""
        if self._url:
            self._posts.append(
                (event["event"], self._pool.submit(post_event, self._url, event))
            )

    def is_busy(self) -> bool:
        """Tell whether an event is not answered yet."""
        return not all(future.done() for _, future in self._posts)

    def faults(self) -> list[str]:
        """Return a sentence on each event that was not accepted."""
        found = []
        for event, future in self._posts:
            if fault := future.result() if future.done() else "no answer":
                found.append(f"webhook_url was not notified ({event}): {fault}")
        return found


def post_event(url: str, body: Mapping[str, Any]) -> str:
    """POST an event; returns why that failed, without a part of the URL, or ""."""
    try:
        with requests.Session() as session:
            session.auth = lambda request: request  # N16: else ~/.netrc adds a password
            # stream: its body, which may never end, is not read
            response = session.post(
                url, json=body, timeout=5, allow_redirects=False, stream=True
            )
    except requests.Timeout:
        return "no answer within 5 s"
    except requests.exceptions.SSLError:
        return "its certificate is not trusted"
    except Exception:  # whatever is wrong with it never changes the run
        return "it cannot be reached"
    is_accepted = response.ok and not response.is_redirect
    return "" if is_accepted else f"it answered {response.status_code}"


STORE_FIELDS = {"name": "name", "domain": "domain", "plan": "plan_name"}  # summary => API
PLAN_COUNTS = ("duplicates", "not_found", "spared", "keep_unknown", "backup_cut")
WEBHOOK_PATIENCE = 10.0  # seconds to wait for webhook_url at the end of a run


class Run:
    """One run, from the run folder to the summary."""

    def __init__(self, config: Config, screen: Screen, stop: Stop) -> None:
        self.folder = (
            RunFolder.open(config.resume) if config.resume else RunFolder.create(config)
        )
        self.plan: Plan | None = None
        ledger = Ledger(0)
        if config.resume:
            self.plan = self.folder.read_plan(config)
            ledger = self.folder.journal.replay({*self.plan.ids})
            config = replace(config, resource=RESOURCES[self.plan.resource])
        if config.verbose:
            self.folder.log.addHandler(ScreenHandler(screen))
        self.config, self.screen, self.stop, self.ledger = config, screen, stop, ledger
        self.progress = Progress(screen.warn)
        self.client = Client(config, stop, self.folder.log)
        workers = min(config.max_concurrent, config.resource.max_concurrent)
        self.workers = Workers(workers, stop, self.tick)
        self.store = Store(config, self.client)
        parts = (self.store, self.workers, self.progress)
        self.collector = Collector(*parts, config)
        self.executor = Executor(*parts, ledger, self.folder.journal, config.max_error_rate)
        self.webhook = Webhook(config.webhook_url)
        # GET /v2/store; None if the token may not read it.
        self.info: Record | None = None
        # A resume leaves all files as they were until it has read something new.
        self.has_results = not config.resume
        # Whether this session may have sent a DELETE.
        self.is_executing = False
        self.earlier = self.folder.earlier_summary()
        self.started_at = str(self.earlier.get("started_at") or utc_now())
        # When the work began, without the wait at the question.
        self.began = time.monotonic()
        # When summary.json was last written.
        self.written_at = -math.inf
        self.announced_stop = False

    # The run

    def work(self) -> None:
        """Do all phases of the run; raises the RunError that ends it."""
        for warning in self.config.warnings:
            self.screen.warn(warning)
        self.notify("started", self.summary(is_ended=False))
        self.client.bucket.set_remaining(4)  # this and the first pages
        self.info = self.workers.call(self.store.info)
        check_domain(self.config, self.info, self.store_name)
        plan = self.plan or self.make_plan()
        ids = self.read_what_is_left(plan) if self.config.resume else plan.ids
        check_count(self.config, len(ids))
        self.show_plan(plan, ids)
        if self.config.dry_run or not ids:
            return
        self.approve(plan, ids)
        self.is_executing = True
        self.client.bucket.set_remaining(self.store.requests_for(len(ids)))
        with self.screen.phase("Deleting", self.progress, len(ids)):
            self.executor.delete(ids)
        with self.screen.phase("Verifying", self.progress, len(ids)):
            self.executor.verify(ids)

    def make_plan(self) -> Plan:
        """List, select, and freeze the plan on disk."""
        config, collector = self.config, self.collector
        if config.spare_with_orders:
            with self.screen.phase("Orders", self.progress):
                self.collector.read_orders()
        files = RecordFiles(self.folder.path, config.resource, backup=not config.no_backup)
        with self.screen.phase("Listing", self.progress), closing(files):
            selection = collector.collect(files)
            parents = collector.parents()
        self.folder.write_unmatched(selection.unmatched_entries())
        check_selection(selection, parents, config)
        time_zone = printable(value_at(self.info, "timezone.name") or "an unknown one", 60)
        facts = selection_facts(config, selection, time_zone)
        selection.ids = [n for level in levels(selection.ids, parents) for n in level]
        plan = make_plan(config, selection, facts)
        self.folder.write("plan.json", plan.text())
        self.plan, self.ledger.selected = plan, len(plan.ids)
        return plan

    def read_what_is_left(self, plan: Plan) -> Sequence[int]:
        """Return the planned ids that still exist, those rejected before last."""
        unverified = [number for number in plan.ids if number not in self.ledger.gone]
        reads = math.ceil(len(unverified) / self.store.chunk_size)
        self.client.bucket.set_remaining(reads + self.store.requests_for(len(unverified)))
        with self.screen.phase("Checking", self.progress, len(unverified)):
            if known := self.executor.known_ids() if unverified else ():
                self.executor.check_reads(unverified, known)
            result = self.executor.read_back(unverified, is_resume=True)
        is_new = bool(unverified) or self.earlier.get("status") != "completed"
        self.has_results = is_new and not self.config.dry_run
        left = {*result.existing, *result.failed, *result.unknown}
        last = self.ledger.rejected_before | self.ledger.failed.keys()
        return sorted((n for n in unverified if n in left), key=last.__contains__)

    def approve(self, plan: Plan, ids: Sequence[int]) -> None:
        """Return once guards and person have agreed; raises Refused or Canceled."""
        if self.config.resume:
            check_age(self.config, plan)
        check_slips(self.config, self.slips(plan))
        if not self.config.yes:
            name = self.store_field("name", 60) or f"the store {self.config.store_hash}"
            what = f"{self.config.resource.counted(len(ids))} from {name}"
            asked_at = time.monotonic()
            try:
                confirm(self.screen, self.stop, len(ids), what)
            finally:
                self.began += time.monotonic() - asked_at
        self.check_changes(plan, ids)
        if not self.config.resume:  # a resume has done so
            self.executor.check_reads(ids)

    def check_changes(self, plan: Plan, ids: Sequence[int]) -> None:
        """Raise Refused for a planned customer who has ordered since, or a new child."""
        resource = self.config.resource
        if "spare_with_orders" in plan.selection:
            with self.screen.phase("Orders", self.progress):
                self.collector.read_orders()
            if late := sorted(self.collector.with_orders.intersection(ids)):
                verb = "has placed an order" if len(late) == 1 else "have placed orders"
                fault = f"{resource.counted(len(late))} {verb} since the plan was made"
                raise Refused(f"{fault}: {first_few([*map(str, late)])}. Start a new run.")
        if resource.parent:
            with self.screen.phase("Checking", self.progress):
                self.executor.parents = self.collector.parents()
            check_cascade(ids, self.executor.parents, resource)

    def slips(self, plan: Plan) -> list[str]:
        """Return the likely mistakes that a person must see."""
        if not self.config.resume:
            return [*plan.slips]
        backup = self.folder.backup_fault(plan)
        return [*plan.slips, *missing_protections(self.config, plan), *filter(None, [backup])]

    # What is shown

    def store_field(self, key: str, limit: int = 200) -> str:
        """Return a field of GET /v2/store, "" if it is unknown."""
        text = str((self.info or {}).get(key) or "")
        return printable(text.replace(self.config.access_token, "[secret]"), limit)

    @property
    def store_name(self) -> str:
        """Name and domain of the store, its hash, and the API host if it was moved."""
        config = self.config
        moved = f"API at {config.host}" if config.host != DEFAULT_HOST else ""
        known = (self.store_field("name", 60), self.store_field("domain", 60))
        return " · ".join(filter(None, [*known, f"hash {config.store_hash}", moved]))

    def plan_rows(self, plan: Plan, count: int) -> list[tuple[str, str]]:
        """Return the rows of a plan of which so many records are to be deleted."""
        resource = self.config.resource
        facts = [(label, printable(text, 2000)) for label, text in plan.facts.items()]
        sample = "\n".join(line[:200] for line in plan.sample)
        files = f"selected.csv, {'backup.jsonl' if plan.backup else 'no backup'}"
        return [
            ("Delete", resource.counted(count)),
            ("Store", self.store_name),
            *facts,
            ("Sample", sample),
            ("Also deleted", resource.also_deleted),
            ("Note", resource.note),
            ("Run folder", f"{self.folder.path} ({files})"),
        ]

    def show_plan(self, plan: Plan, ids: Sequence[int]) -> None:
        """Show what will be deleted and how long that takes, warnings last."""
        config, resource = self.config, self.config.resource
        warnings = [*plan.warnings, *self.slips(plan)]
        if not ids:
            for warning in warnings:  # the run folder is not kept
                self.screen.warn(printable(warning.removesuffix(IN_UNMATCHED), 2000))
            nothing = "No records remain" if config.resume else f"No {resource.plural} match"
            self.screen.say(f"{nothing}. Nothing to delete.")
            return
        rows = self.plan_rows(plan, len(ids))
        if config.resume:
            age = duration(plan.age().total_seconds())
            about = f"{resource.counted(len(plan.ids))}, created {age} ago"
            rows.append(("Plan", f"{self.folder.path} ({about})"))
        requests = self.store.requests_for(len(ids))
        seconds = self.estimate(requests)
        rows.append(("Estimate", f"about {duration(seconds)} ({requests:,} requests)"))
        rows += [("WARNING", printable(warning, 2000)) for warning in warnings]
        self.screen.show(plan_panel(rows, is_dry_run=config.dry_run))

    def estimate(self, requests: int) -> float:
        """Return the seconds for so many requests, by the quota and the latency so far."""
        client = self.client
        windows = math.ceil(requests / max(1, client.bucket.largest())) - 1
        latency = client.busy_seconds / max(1, client.counts["requests"])
        by_latency = requests * latency / self.workers.count
        return max(1.0, windows * client.bucket.window.seconds, by_latency)

    def tick(self) -> None:
        """Redraw, and rewrite summary.json about once a second; called in every wait."""
        self.client.tick()
        if isinstance(self.stop.failure, Interrupted) and not self.announced_stop:
            self.announced_stop = True
            count = self.client.in_flight() if self.folder.journal.unanswered() else 0
            requests = "1 request" if count == 1 else f"{count} requests"
            waits = f"waiting for {requests} in flight (Ctrl-C again to quit now)"
            self.screen.say(f"Stopping: {waits if count else 'saving progress'}", "bold")
        self.screen.tick(self.client.waiting_for())
        if self.client.longest_wait() > 2 * RESPONSE_TIMEOUTS * self.config.timeout:
            self.stop.set(StoreError("Cannot reach the store: its response does not end."))
            self.stop.force_exit = True
        if self.has_results and time.monotonic() - self.written_at >= 1.0:
            self.written_at = time.monotonic()
            try:
                self.folder.write_summary(self.summary(is_ended=False), durable=False)
            except RunError as failure:
                self.stop.set(failure)

    # The result

    def summary(self, failure: RunError | None = None, *, is_ended: bool = True) -> Record:
        """Return summary.json of a run that ended so, or that is in progress."""
        plan, counts = self.plan or self.config, self.ledger.counts()
        status, exit_status = "in_progress", None
        if is_ended:
            status, exit_status = ending(failure, self.plan, counts)
        is_verified = status == "completed" and not counts["unknown"] + counts["not_attempted"]
        is_complete = status == "completed" and exit_status == 0
        can_resume = self.plan is not None and status != "refused" and not is_complete
        store = {name: self.store_field(key) or None for name, key in STORE_FIELDS.items()}
        return {
            "status": status,
            "exit_status": exit_status,
            "reason": str(failure) if failure else None,
            "version": __version__,
            "store": store,
            "store_hash": self.config.store_hash,
            "run_folder": str(self.folder.path) if self.is_kept() else None,
            "resource": self.config.resource.name,
            "filters": {**plan.filters},
            "selection": {**plan.selection},
            "selected": self.ledger.selected,
            **counts,
            **{name: getattr(plan, name, 0) for name in PLAN_COUNTS},
            "verified": is_verified,
            **self.client.counts,
            "started_at": self.started_at,
            "finished_at": utc_now() if is_ended else None,
            "elapsed_seconds": round(time.monotonic() - self.began, 3),
            "resume": self.resume_command() if can_resume else None,
        }

    def is_kept(self) -> bool:
        """Tell whether the run folder is of use: something was listed and selected."""
        if self.config.resume:
            return True
        return self.store.has_listed and (self.plan is None or bool(self.plan.ids))

    def resume_command(self) -> str:
        """Return the shortest command that resumes this run, without --yes."""
        words = [short_python(), short_path(sys.argv[0]), "--config", str(self.config.path)]
        words += ["--resume", str(self.folder.path), *self.config.resume_options]
        return shell_command(words)

    def notify(self, event: str, summary: Mapping[str, Any]) -> None:
        """Send an event to webhook_url; it never changes the run."""
        names = ("status", "exit_status", "selected", *Outcome)
        counts = {str(name): summary[name] for name in names}
        self.webhook.send({"event": event, **counts, "run_folder": self.folder.path.name})

    def finish(self, failure: RunError | None) -> int:
        """Write and show the result, and notify the webhook; returns the exit status."""
        summary = self.summary(failure)
        is_signaled = isinstance(failure, Interrupted)
        if is_signaled:  # sent before the files are written: nothing waits for it later
            self.notify("interrupted", summary)
        try:
            self.write_results(summary)
            self.show_result(summary)
        except OSError as error:
            reason = f"Cannot print the summary ({error.strerror}). See summary.json."
            summary = self.summary(StoreError(reason))
            with suppress(RunError):
                self.write_results(summary)
            self.screen.fail(reason)
        except RunError as unwritten:
            summary = self.summary(unwritten)
            with suppress(OSError):
                self.show_result(summary)
        if not is_signaled:
            is_complete = summary["exit_status"] in (0, Incomplete.exit_status)
            self.notify("completed" if is_complete else "interrupted", summary)
            self.await_webhook()
        if not self.is_kept():
            self.folder.discard()
        return int(summary["exit_status"])

    def write_results(self, summary: Mapping[str, Any]) -> None:
        """Write failed.csv, summary.json and report.html."""
        if not self.has_results or not self.is_kept():
            return
        if self.plan is not None:
            self.folder.write_failed(self.ledger.failed, self.config.resource)
        self.folder.write_summary(summary, durable=True)
        self.folder.write("report.html", report_html(summary["status"], self.report(summary)))

    def report(self, summary: Mapping[str, Any]) -> Iterator[Any]:
        """Yield the parts of the report, as rich prints them."""
        rows = result_rows(summary, self.store_name, self.config.resource)
        rows = [*rows, ("Finished", summary["finished_at"])]
        yield result_panel(rows, summary["exit_status"])
        if self.plan is not None:
            plan_rows = self.plan_rows(self.plan, len(self.plan.ids))
            warnings = [*self.plan.warnings, *self.plan.slips]
            plan_rows += [("WARNING", printable(warning, 2000)) for warning in warnings]
            yield plan_panel(plan_rows, is_dry_run=False)
        for name in REPORT_FILES:
            if table := file_table(self.folder, name):
                yield table
        command = printable(shell_command([short_path(sys.argv[0]), *sys.argv[1:]]), 1000)
        yield Text(f"bulk_delete.py {__version__}: {command}")
        if summary["resume"]:
            yield Text(f"To resume, run: {printable(summary['resume'], 1000)}")

    def show_result(self, summary: Mapping[str, Any]) -> None:
        """Show the result, and what to do next."""
        screen, reason, status = self.screen, summary["reason"], summary["status"]
        if self.config.json:
            with suppress(BrokenPipeError):  # nobody reads it
                print(json.dumps(summary), flush=True)
        has_table = self.is_executing or (status == "completed" and self.is_kept())
        if has_table:
            rows = result_rows(summary, self.store_name, self.config.resource)
            panel = result_panel(rows, summary["exit_status"])
            screen.show(panel, is_result=not self.config.json)
        if reason and not (has_table and is_same_output() and not self.config.json):
            screen.fail(reason)
        if has_table and summary["failed"]:
            screen.say(f"Failed records: {self.folder.path / 'failed.csv'}")
        if self.is_kept() and not summary["exit_status"]:
            screen.say(f"{self.folder.path} contains personal data. Delete it when done.")
        if summary["resume"] is not None:
            is_untouched = not self.ledger.applied and not self.ledger.gone
            exactly = "Nothing was deleted. To delete exactly these records, run:"
            screen.say(exactly if is_untouched else "To resume, run:")
            screen.say(f"  {summary['resume']}", is_command=True)

    def await_webhook(self) -> None:
        """Wait for webhook_url a little, and not after a signal (N34)."""
        waited = 0.0
        while self.webhook.is_busy() and waited < WEBHOOK_PATIENCE:
            if self.stop.is_signaled:
                break
            time.sleep(POLL)
            waited += POLL
            if waited > 2:
                self.screen.tick("waiting for the webhook")
        for fault in self.webhook.faults():
            self.screen.warn(fault)


def short_python() -> str:
    """Return the shortest name of this Python: python, where the shell finds it."""
    name = Path(sys.executable).name
    for known in ("python", name):
        if shutil.which(known) == sys.executable:
            return known
    return short_path(sys.executable)


def short_path(path: str) -> str:
    """Return a path relative to the current folder if it is in it."""
    with suppress(ValueError):  # another drive of Windows
        relative = os.path.relpath(path)
        if not relative.startswith(".."):
            return relative
    return path


def is_same_output() -> bool:
    """Tell whether stdout and stderr go to the same place, such as a terminal."""
    with suppress(OSError):  # one of them is closed
        return os.path.sameopenfile(1, 2)
    return False


def ending(
    failure: RunError | None, plan: Plan | None, counts: Mapping[str, int]
) -> tuple[str, int]:
    """Return the status of the summary and the exit status of a run that ended so."""
    if failure is None:
        gone = counts["deleted"] + counts["already_gone"]
        return "completed" if gone == sum(counts.values()) else "planned", 0
    if plan is not None and isinstance(failure, (ReadRejected, InvalidResponse, ConfigError)):
        return "interrupted", StoreError.exit_status  # what was deleted stays deleted
    is_untouched = counts["not_attempted"] == sum(counts.values())
    if isinstance(failure, Refused) and not is_untouched:
        return "interrupted", failure.exit_status  # an earlier session has deleted something
    return failure.status, failure.exit_status


def run(config: Config, screen: Screen, stop: Stop) -> int:
    """Do one run, with its summary whatever happens to it; returns the exit status."""
    job = Run(config, screen, stop)
    failure: RunError | None = None
    try:
        job.work()
        left = job.ledger.selected - len(job.ledger.gone)
        if left and not config.dry_run:
            count = f"{left:,} of {job.config.resource.counted(job.ledger.selected)}"
            failure = Incomplete(f"{count} not verified as deleted.")
    except RunError as error:
        failure = stop.set(error)
    except BaseException as error:
        bug = Bug(f"Bug: {clean(repr(error))}")
        stop.set(bug)  # the workers send nothing more
        job.finish(bug)
        raise
    finally:
        job.workers.shutdown(wait=False, cancel_futures=True)
    status = job.finish(failure)
    # N9, N34: neither a read in flight nor the webhook is waited for.
    stop.force_exit |= job.client.in_flight() > 0 or job.webhook.is_busy()
    return status


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, run, and return the exit status."""
    os.umask(0o077)  # what is written is for nobody else
    screen, stop = Screen(), Stop()
    for signum in SIGNALS:
        if signal.getsignal(signum) is not signal.SIG_IGN:  # nohup
            signal.signal(signum, stop.on_signal)
    try:
        arguments = make_parser().parse(argv)
        if arguments.resource == ["list"]:
            screen.show(resource_table(), is_result=True)
            return 0
        status = run(read_config(arguments, os.environ), screen, stop)
    except SystemExit as leaving:  # --help, --version
        return int(leaving.code or 0)
    except RunError as failure:
        screen.fail(str(failure))
        status = failure.exit_status
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):  # None: closed by the shell
            stream.flush()
    except OSError:  # nobody reads it
        stop.force_exit = True
    if stop.force_exit:
        os._exit(status)  # the interpreter would wait for the pool
    return status


if __name__ == "__main__":
    exit_status = main()
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)  # everything is written
    sys.exit(exit_status)
