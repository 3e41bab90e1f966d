#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = ["bigcommerce~=0.23.4", "requests~=2.32", "rich~=15.0"]
# ///
"""Delete many records from one BigCommerce store: review, delete, verify.

The data flow, and the section responsible for each step:

    store.ini + argv => Config            configuration
    Config => Store                       store: connection, client, workers
    pages of records => Selection         listing; matching in selection
    Selection => Plan                     plan and ledger; frozen in the run folder
    Plan => approval                      guards
    Plan => batches => BatchResult        delete and verify; responses in answers
    BatchResult, reads => Ledger          plan and ledger
    Ledger => summary, exit status        screen, run

The main thread writes the ledger, the results and the screen (the webhook thread may warn).
Workers send, wait, and write run.log and, before each batch, the journal.

Glossary:

    record      one customer, product, ...
    selection   the records that filters and lists choose
    excluded    left out of the selection by a keep list, != or orders
    plan        the ids that will be deleted, frozen in plan.json
    batch       the ids of one DELETE; a page is the records of one GET
    attempt     one try at a request; every attempt after the first is a retry
    in flight   sent and not yet answered
    ruling      the classification of a response
    applied     a DELETE was accepted, or may have been
    verified    read back and found gone; only then `deleted`
    read check  reading known records back before the first DELETE
    session     one process working on a run; each resume starts another

N1, N2, ... are the rules of what must never happen (tests/test_never.py lists them). Code
that exists to keep a rule cites it, and so does the test that fails when it is broken.

Exit status: 0 all planned records verified gone, or a dry run done, or nothing selected;
1 a bug; 2 usage or configuration; 3 refused or canceled before this session deleted
anything; 4 finished, some records not gone; 5 stopped early, resumable once there is a
plan; 130, 143, 129 stopped by SIGINT, SIGTERM, SIGHUP.
"""

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
import sys
import threading
import time
import traceback
import unicodedata
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from types import FrameType
from typing import Any, TextIO, TypeVar
from urllib.parse import parse_qsl, unquote, urlencode

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback during imports

try:
    from datetime import UTC, datetime, timedelta
    from functools import cache, cached_property, partial

    import requests
    from bigcommerce.connection import OAuthConnection
    from bigcommerce.resources.base import ListableApiResource
    from rich import box
    from rich.console import Console
    from rich.panel import Panel
    from rich.progress import (
        BarColumn,
        TaskProgressColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars
    from rich.table import Column, Table
    from rich.text import Text
except ImportError as error:
    needed = "Python 3.11 or newer"
    if sys.version_info >= (3, 11):  # noqa: UP036  # older versions reach this message
        needed = f"its packages ({error}). Run: python -m pip install -r requirements.txt"
    print(f"bulk_delete.py needs {needed}", file=sys.stderr)
    sys.exit(2)

__version__ = "1.1.0"

T = TypeVar("T")
R = TypeVar("R")
Record = dict[str, Any]

DEFAULT_HOST = "api.bigcommerce.com"
PAGE_LIMIT = 250  # records a page, and ids a read: the most the API gives
EMAIL_LIMIT = 50  # addresses a request, so that its URL stays within the usual limits
POLL = 0.1  # seconds: the longest sleep between two looks at the stop flag

# The message for each signal that ends a run; Windows has no SIGHUP.
SIGNALS = {signal.SIGINT: "Interrupted (Ctrl-C).", signal.SIGTERM: "Terminated (SIGTERM)."}
if hasattr(signal, "SIGHUP"):
    SIGNALS[signal.SIGHUP] = "The terminal was closed (SIGHUP)."

# --- shared by all ------------------------------------------------------------------
#
# A run that ends early raises a RunError with a message and an exit status. The first one
# sets the stop flag, which every thread checks before it sends or sleeps.


class RunError(Exception):
    """The end of an incomplete run, with a message and an exit status.

    Raised as is if the store, the network or the disk ends the run.
    """

    exit_status = 5
    # The status in summary.json.
    status = "interrupted"


class ConfigError(RunError):
    """Wrong usage or configuration."""

    exit_status, status = 2, "refused"


class Refused(RunError):
    """Refused before anything was deleted."""

    exit_status, status = 3, "refused"


class Canceled(Refused):
    """Not approved, or reads are unreliable; the plan is kept and can be resumed."""

    status = "planned"


class ReadRejected(Refused):  # exit status 5 once there is a plan: see `Run.end_status`
    """The store answered a GET with 4xx."""

    def __init__(self, message: str, http_status: int) -> None:
        super().__init__(message)
        self.http_status = http_status


class InvalidResponse(Refused):
    """A response without a valid list, total or ids."""


class RetriesExhausted(RunError):
    """A GET used up its retries; a smaller request may succeed."""


class ListingChanged(Exception):
    """Records changed during listing, so it may be incomplete."""


@dataclass
class Stop:
    """The flag that every thread reads before it sends; set once, never cleared.

    No lock: the signal handler may interrupt the main thread while it holds one.
    """

    # The error that ends the run, or None.
    failure: RunError | None = None
    # Whether a second signal came: requests in flight are not waited for.
    force_exit: bool = False
    # Whether a signal raises at once; see `raising`.
    raises_on_signal: bool = False
    # The number of signals received.
    signals: int = 0

    def set(self, failure: RunError) -> RunError:
        """Set the error that ends the run unless one is set; return the first one."""
        self.failure = self.failure or failure
        return self.failure

    def check(self) -> None:
        """Raise the error that ends the run, if it is set."""
        if self.failure is not None:
            raise self.failure

    def sleep(self, seconds: float) -> None:
        """Sleep; raise the error that ends the run within POLL seconds of a stop."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left, POLL))
        self.check()

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Let a signal raise inside the block: a prompt, or a slow regex search."""
        self.raises_on_signal = True
        try:
            yield
        finally:
            self.raises_on_signal = False

    def on_signal(self, signum: int, _frame: FrameType | None) -> None:
        """Handle a signal: the first stops, the second quits, the third kills."""
        self.signals += 1
        if self.signals > 2:  # the main thread has not left at the second: it hangs
            os._exit(128 + signum)
        self.force_exit |= self.signals > 1
        interrupted = RunError(SIGNALS[signal.Signals(signum)])
        interrupted.exit_status = 128 + signum
        failure = self.set(interrupted)
        if self.raises_on_signal:
            raise failure


class Progress:
    """The progress of the current phase, independent of the screen."""

    def begin(self, total: int) -> None:
        """Start at 0 of `total` records; 0 means unknown."""
        self.total, self.done = total, 0

    def advance(self, count: int) -> None:
        """Count `count` more records as done."""
        self.done += count
        if self.total:
            self.done = min(self.done, self.total)

    def warn(self, text: str) -> None:
        """Show a warning."""
        raise NotImplementedError


# --- portability --------------------------------------------------------------------
#
# POSIX-only calls and their Windows equivalents. (SIGHUP is in SIGNALS, above.)


def lock_file(handle: int) -> None:
    """Lock an open file until it is closed; raises BlockingIOError if it is locked."""
    try:
        fcntl: Any = importlib.import_module("fcntl")
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        msvcrt: Any = importlib.import_module("msvcrt")
        os.lseek(handle, 2**30, os.SEEK_SET)  # past the end: locked bytes are unreadable
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError from error


def sync_folder(path: Path) -> None:
    """Sync a folder, so that new names survive a power cut; Windows does so itself."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(path, os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def replace_file(draft: Path, path: Path) -> None:
    """Replace a file with its draft; retry while a reader on Windows holds it."""
    for _ in range(20):
        with suppress(PermissionError):
            return os.replace(draft, path)
        time.sleep(POLL)
    os.replace(draft, path)


def mode_readable_by_others(path: Path) -> int:
    """Return the mode of a file that other users can read, else 0; 0 on Windows."""
    mode = path.stat().st_mode & 0o777
    return mode if os.name == "posix" and mode & 0o077 else 0


def discard_typed_ahead() -> None:
    """Discard typeahead: it cannot be the answer to the prompt (N21)."""
    try:
        termios: Any = importlib.import_module("termios")
    except ImportError:
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
# The record types, from BigCommerce's own API files, cited beside each. To add one, add a
# `Resource` here, and its records to tests/fake_store.py. `id:in` is used for a DELETE only
# where an unfiltered DELETE is documented to delete nothing; all others are deleted by path
# id, one at a time (N5).


KEY_LIMIT = 320  # characters of a natural key, such as an address, that is normalized


@dataclass(frozen=True)
class Resource:
    """One kind of record, and how the API lists and deletes it."""

    name: str
    # Path of the list, below /stores/{hash}/.
    path: str
    # The OAuth scope that deleting needs.
    scope: str
    # The filter that a DELETE of the collection takes; "" deletes by path id.
    delete_filter: str = ""
    # Path of the DELETE by path id, if it differs from the list's.
    delete_path: str = ""
    # Statuses of a successful DELETE.
    success_statuses: tuple[int, ...] = (204,)
    # Whether a 404 for a batch means that its existing ids were deleted.
    deletes_known_on_404: bool = False
    # The id filter of the list, and how many ids it takes; "" reads by path id.
    id_filter: str = "id:in"
    max_read: int = PAGE_LIMIT
    # Ids in one DELETE of the collection; 10 where no maximum is documented.
    max_batch: int = 10
    max_concurrent: int = 5
    id_field: str = "id"
    # Parameters of the list: sort, sub-resources.
    query: str = ""
    # Filters that can be checked on the record, as name/type of FILTER_TYPES.
    filters: str = ""
    # Fields that identify a record to a person.
    fields: str = "name"
    # The natural key field that list entries can match; "" if none.
    key: str = ""
    # The field of the parent's id, if deleting a parent deletes its children.
    parent: str = ""
    # What is deleted with a record.
    also_deleted: str = ""
    # A note for the panel.
    note: str = ""

    @property
    def plural(self) -> str:
        """Return the plural as used in a sentence."""
        return self.name.replace("_", " ")

    @property
    def singular(self) -> str:
        """Return the singular as used in a sentence."""
        return re.sub("ies$", "y", self.plural).removesuffix("s")

    @property
    def id_column(self) -> str:
        """Return the id column of selected.csv, specific to the record type."""
        return f"{self.singular.replace(' ', '_')}_id"

    def format_count(self, count: int) -> str:
        """Return a count with its noun, such as "1,000 customers"."""
        return f"{count:,} {self.singular if count == 1 else self.plural}"

    @property
    def has_total(self) -> bool:
        """Return whether lists have a total (V3); V2 lists end with an empty page."""
        return self.path.startswith("v3/")

    @property
    def largest_batch(self) -> int:
        """Return the most ids in one DELETE."""
        return self.max_batch if self.delete_filter else 1

    def id_of(self, record: Record) -> int:
        """Return a record's id."""
        return int(record[self.id_field])

    def key_of(self, record: Record) -> str:
        """Return a record's natural key, as it is compared; "" if it has none."""
        return self.normalize_key(str(record.get(self.key) or "").strip())

    def normalize_key(self, key: str) -> str:
        """Return a natural key as it is compared: NFC, and an address in lower case.

        Addresses are not folded further: straße and strasse are different people. Other
        keys keep their case: coupon codes may differ only in case. Text over KEY_LIMIT is
        returned unchanged, since normalizing it could take minutes.
        """
        if len(key) > KEY_LIMIT:
            return key
        if self.key == "email":
            key = key.lower()
        return unicodedata.normalize("NFC", key)

    @property
    def params(self) -> dict[str, str]:
        """Return the parameters of the list as name => value."""
        return dict(parse_qsl(self.query))

    @property
    def display_fields(self) -> list[str]:
        """Return the fields that identify a record to a person."""
        return self.fields.split()

    def filter_types(self) -> dict[str, str]:
        """Return the filters as name => type."""
        return dict(item.split("/") for item in self.filters.split())


_DATES = "date_created:min/date date_created:max/date"
_IDS = "id/id id:in/id id:min/id id:max/id id:greater/id id:less/id"
_CHANGES = "date_modified:min/date date_modified:max/date"
_PERSON = "email first_name last_name date_created"
_BY_ID = "sort=id&direction=asc"

RESOURCES = {
    resource.name: resource
    for resource in (
        Resource(
            "customers",  # customers.v3.yml: without id:in 204, "no changes to the data"
            "v3/customers",
            "store_v2_customers",
            delete_filter="id:in",
            query="sort=date_created:asc&include=addresses,storecredit,attributes,formfields",
            filters="id:in/id company:in/text customer_group_id:in/int email:in/text "
            "name:in/text name:like/texts phone:in/text registration_ip_address:in/text "
            f"{_DATES} {_CHANGES}",
            fields=_PERSON,
            key="email",
            also_deleted="addresses, attributes and store credit",
        ),
        Resource(
            "products",  # products_catalog.v3.yml: "must include a filter", at most 250
            "v3/catalog/products",
            "store_v2_products",
            delete_filter="id:in",
            max_batch=250,
            query=f"{_BY_ID}&include=variants,images,custom_fields,bulk_pricing_rules,videos,"
            "reviews",
            filters=f"{_IDS} name/text sku/text sku:in/text mpn/text upc/text price/number "
            "weight/number condition/choice brand_id/int categories:in/int is_visible/bool "
            "is_featured/int is_free_shipping/int type/text availability/text "
            "total_sold/int inventory_level/int inventory_level:in/int "
            "inventory_level:min/int inventory_level:max/int inventory_level:greater/int "
            "inventory_level:less/int date_last_imported:min/date "
            f"date_last_imported:max/date {_CHANGES}",
            fields="name sku price date_created",
            key="sku",
            also_deleted="variants, images and all other product data",
            note="options and modifiers are not in the backup",
        ),
        Resource(
            "categories",  # category-trees_catalog.v3.yml: the filter is optional
            "v3/catalog/trees/categories",
            "store_v2_products",
            delete_path="v3/catalog/categories",
            success_statuses=(202, 204),
            id_filter="category_id:in",
            id_field="category_id",
            filters="category_id:in/id tree_id:in/int parent_id:in/int name/text "
            "name:like/text page_title/text page_title:like/text is_visible/bool",
            fields="name parent_id",
            parent="parent_id",
            also_deleted="child categories",
            note="a category with products cannot be deleted",
        ),
        Resource(
            "brands",  # brands_catalog.v3.yml: the collection is deleted by name only
            "v3/catalog/brands",
            "store_v2_products",
            query="sort=name&direction=asc",
            filters=f"{_IDS} name/text name:like/text page_title/text",
        ),
        Resource(
            "promotions",  # promotions.v3.yml: id:in is required (422), at most 50
            "v3/promotions",
            "store_v2_marketing",
            delete_filter="id:in",
            id_filter="",
            max_batch=50,
            query=_BY_ID,
            filters="id/id name/text currency_code/text redemption_type/choice status/text",
            fields="name status redemption_type",
            note="a promotion with coupon codes cannot be deleted",
        ),
        Resource(
            "coupons",  # marketing.v2.yml: the collection's filter is optional
            "v2/coupons",
            "store_v2_marketing",
            id_filter="id",  # there is no GET by path id
            max_read=1,
            filters="id/id code/text name/text type/text",
            fields="code name date_created",
            key="code",
            note="a coupon's promotion is kept",
        ),
        Resource(
            "price_lists",  # price_lists.v3.yml: the filter is optional; 1 at a time
            "v3/pricelists",
            "store_v2_products",
            max_concurrent=1,
            filters=f"id:in/id name/text name:like/text {_DATES} {_CHANGES}",
            fields="name active date_created",
            also_deleted="all price records in the list",
            note="price records are not in the backup",
        ),
        Resource(
            "redirects",  # redirects.v3.yml: id:in is required
            "v3/storefront/redirects",
            "store_v2_content",
            delete_filter="id:in",
            query=f"{_BY_ID}&include=to_url",
            filters="id:in/id id:min/id id:max/id site_id/int",
            fields="from_path site_id",
            key="from_path",
        ),
        Resource(
            "pages",  # pages.v3.yml: id:in is required; delete_children is not sent
            "v3/content/pages",
            "store_v2_content",
            delete_filter="id:in",
            deletes_known_on_404=True,  # "pages that did exist were successfully deleted"
            query="include=body",
            filters="id:in/id channel_id/int name/text",
            fields="name url type",
            note="child pages are kept, moved to the top level and hidden",
        ),
        Resource(
            "subscribers",  # subscribers.v3.yml: "By default, deletes all subscribers"
            "v3/customers/subscribers",
            "store_v2_customers",
            filters="id:in/id email/text first_name/text last_name/text source/text "
            f"order_id/int {_DATES} {_CHANGES}",
            fields=_PERSON,
            key="email",
        ),
        Resource(
            "gift_certificates",  # marketing.v2.yml: "By default, it deletes all"
            "v2/gift_certificates",
            "store_v2_marketing",
            id_filter="",
            query=_BY_ID,
            filters="code/text order_id/int to_name/text to_email/text from_name/text "
            "from_email/text",
            fields="code to_email balance",
            note="the remaining balance is lost",
        ),
    )
}
# Resources that are read but never deleted.
ORDERS = Resource(
    "orders",
    "v2/orders",
    "store_v2_orders_read_only",
    query="sort=id:asc",
)
CUSTOMER_GROUPS = Resource(
    "customer_groups",
    "v2/customer_groups",
    "store_v2_customers_read_only",
)
STORE_INFO = Resource(
    "store_information",
    "v2/store",
    "store_v2_information_read_only",
)

# --- words --------------------------------------------------------------------------
#
# How foreign text, data, times and names are shown.

SECRETS: set[str] = set()  # the token and passwords, replaced in foreign text
FOREIGN_LIMIT = 10_000  # characters of foreign text that are processed (N27)
DATA_LIMIT = 1000  # characters of a field in selected.csv and failed.csv
MESSAGE_LIMIT = 300  # characters of the store's message


def printable(text: object, limit: int = 200) -> str:
    """Return data, such as a field of a record, as one printable line."""
    line = str(text)[:FOREIGN_LIMIT]
    if not line.isprintable():
        line = "".join(letter if letter.isprintable() else " " for letter in line)
    line = " ".join(line.split())
    if len(line) > limit:
        line = line[: limit - 1] + "…"
    return line


def clean(text: object, limit: int = 200) -> str:
    """Return text from a store or proxy as one printable line, without SECRETS.

    N17, N18: secrets are replaced before the text is shortened. Record data may contain a
    short password by chance, so use `printable` for it.
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
    line = ", ".join(words[:5])
    if len(words) > 5:
        line += f" and {len(words) - 5:,} more"
    return line


def suggest(name: str, known: Iterable[str], otherwise: str, cutoff: float = 0.5) -> str:
    """Return "Did you mean …?" for an unknown name, or `otherwise`.

    Only names with the same operator are suggested, so never :max for :min.
    """
    _, colon, operator = name.partition(":")
    alike = [other for other in known if other.endswith(colon + operator)]
    for close in difflib.get_close_matches(name.lower(), alike, n=1, cutoff=cutoff):
        return f"Did you mean {close}?"
    return otherwise


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file; raises ValueError with the reason."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise ValueError("not found") from error
    except OSError as error:
        raise ValueError(error.strerror) from error
    fault = "not UTF-8 text; save it as UTF-8 (in Excel: CSV UTF-8)"
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"line {line}: {fault}") from error
    if "\0" in text:
        raise ValueError(fault)
    return text


# --- selection ----------------------------------------------------------------------
#
# Decides whether a record matches the filters and the --match expressions. Filters are
# checked here too, since the API's only narrow the listing. Ambiguous input raises
# ValueError. Nothing here uses the store; the order in which filters, lists and orders apply
# is decided under "listing".


def positive_id(value: object) -> int | None:
    """Return a value as a record id, or None if it is not a positive whole number."""
    if isinstance(value, str) and re.fullmatch("[1-9][0-9]{0,17}", value):
        value = int(value)
    return value if type(value) is int and value > 0 else None


def moment(text: object) -> datetime:
    """Return a date-time of the API, in UTC if it has no zone; raises ValueError."""
    parsed = datetime.fromisoformat(str(text))
    return parsed.replace(tzinfo=parsed.tzinfo or UTC).astimezone(UTC)


# Filter type => description of valid values, their pattern, and the function that parses a
# value or a record's field for comparison; it raises for invalid fields.
FILTER_TYPES: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
    "id": ("a positive whole number", "[1-9][0-9]{0,17}", int),
    "int": ("a whole number", "-?[0-9]{1,18}", int),
    "number": ("a number", r"[0-9]+(\.[0-9]+)?", float),
    "bool": ("true or false", "true|false", lambda value: str(value).lower()),
    "date": (  # complete dates only
        "a date such as 2025-03-31 or 2025-03-31T12:00:00Z",
        r"(?a)[12]\d{3}-\d\d-\d\d(T\d\d:\d\d(:\d\d)?(Z|[+-]\d\d:\d\d)?)?",
        moment,
    ),
    # texts: a :like that takes a list; choice: sent in lower case.
    **dict.fromkeys(
        ("text", "texts", "choice"),
        (
            "text without a space after a comma (use --match for that)",
            r"(?s)\S(.*\S)?",
            str.lower,  # not folded further: straße and strasse are different people
        ),
    ),
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
    """An API filter, which is checked here on every record."""

    # For example, date_created:min.
    name: str
    # As given, and as sent: date-times in full and in UTC.
    text: str
    sent: str
    # In FILTER_TYPES.
    type: str
    compare: Callable[[Any, Any], bool]
    # The values: as given => as compared.
    values: Mapping[str, Any]

    def matching_values(self, record: Record) -> set[str]:
        """Return the values, as given, that the record matches; none if unknown."""
        matching = set()
        for item in self._fields(record):
            for text, value in self.values.items():
                if self.compare(item, value):
                    matching.add(text)
        if self.name == "categories:in" and len(matching) < len(self.values):
            return set()  # products_catalog.v3.yml: "in all the categories specified"
        return matching

    def is_boundary(self, record: Record) -> bool:
        """Return whether a :max filter may return this non-matching record.

        :max is exclusive for some resources and inclusive for others, so a record at exactly
        the time sent does not show that the store ignored the filter.
        """
        return self.type == "date" and self.values[self.text] in self._fields(record)

    def _fields(self, record: Record) -> list[Any]:
        """Return the record's values in the filter's field, parsed for comparison."""
        name = self.name.partition(":")[0]
        value = record.get(name)
        if name == "name" and "first_name" in record:  # customers.v3.yml: both names
            value = f"{record.get('first_name')} {record.get('last_name')}"
        if not isinstance(value, list):
            value = [value]
        _, _, read = FILTER_TYPES[self.type]
        try:
            return [read(item) for item in value if item is not None]
        except (TypeError, ValueError, OverflowError):
            return []


def make_filter(text: str, resource: Resource, name: str) -> Filter:
    """Return the filter for a name and value; raises ValueError if invalid."""
    types = resource.filter_types()
    if name not in types:
        hint = suggest(name, types, "See --resource list.")
        raise ValueError(f"is not a filter for {resource.plural}. {hint}")
    kind, suffix = types[name], name.partition(":")[2]
    wanted, form, read = FILTER_TYPES[kind]
    compare = OPERATORS[suffix]
    text = sent = text.strip()
    if not text.isprintable():
        raise ValueError("contains an unprintable character.")
    parts, values = [text], {}
    if suffix == "in" or kind == "texts":  # the API splits at commas
        parts = text.split(",")
    for part in parts:
        with suppress(ValueError):  # 2025-02-31
            if re.fullmatch(form, part):
                values[part] = read(part)
        if part not in values:
            raise ValueError(f"must be {wanted}.")
    if kind == "choice":
        sent = text.lower()
    if kind == "date":
        if suffix == "max":  # all before the end of the second, or of the day
            span = timedelta(seconds=1)
            if len(text) == 10:
                span = timedelta(days=1)
            values[text] += span
            compare = operator.lt
        sent = f"{values[text]:%Y-%m-%dT%H:%M:%SZ}"
    return Filter(name, text, sent, kind, compare, values)


def values_at(record: object, path: str, *, with_missing: bool = False) -> list[Any]:
    """Return the values at a path; * is any element: addresses.*.country_code.

    with_missing: include None for each field that an object lacks.
    """
    found = [record]
    for part in path.split("."):
        inner: list[Any] = []
        for item in found:
            if isinstance(item, list):
                inner += [e for place, e in enumerate(item) if part in ("*", str(place))]
            elif isinstance(item, dict) and part in item:
                inner.append(item[part])
            elif with_missing:
                inner.append(None)
        found = inner
    return found


def value_at(record: object, path: str) -> Any:
    """Return the first value at a path; None if there is none."""
    return next(iter(values_at(record, path)), None)


NUMBERS_AS_TEXT = ("amount", "balance", "min_purchase")  # marketing.v2.yml: "50.0000"


@dataclass(frozen=True)
class Match:
    """A --match: records whose field matches or, if negated, does not match."""

    path: str
    negated: bool
    pattern: re.Pattern[str]

    def selects(self, record: Record) -> bool:
        """Return whether this expression selects the record."""
        return self.matches(record) is (not self.negated)

    def matches(self, record: Record) -> bool | None:
        """Return whether the expression matches the field; None if that is unknown.

        All texts, numbers and booleans at or below the path are compared. Null is
        unknown, and so are a field that an object lacks and a list that the API cut off.
        An empty list, or one too short for the path, does not match.
        """
        is_one_element = re.match(r"\w+\.[0-9]", self.path)
        if not is_one_element and self.path.partition(".")[0] in truncated_fields(record):
            return None
        found, is_known = values_at(record, self.path, with_missing=True), True
        for item in found:  # grows during the loop
            if isinstance(item, dict):
                found += item.values()
            elif isinstance(item, list):
                found += item
            elif item is None:
                is_known = False
            elif self._matches_value(item):
                return True
        if is_known:
            return False
        return None

    def _matches_value(self, value: object) -> bool:
        """Return whether a text contains a match, or a number or boolean is one.

        Numbers are compared without trailing zeros: 100 for 100.0.
        """
        is_number = re.fullmatch(r"[0-9]+(\.[0-9]+)?", str(value))
        if isinstance(value, str) and not (is_number and self.path in NUMBERS_AS_TEXT):
            return bool(self.pattern.search(value))
        text = str(value).lower()
        if isinstance(value, (str, float)):
            text = format(Decimal(text).normalize(), "f")
        return bool(self.pattern.fullmatch(text))


def truncated_fields(record: Record) -> dict[str, int]:
    """Return the list fields that the API cut off => their full length."""
    truncated = {}
    for name, count_name in (("addresses", "address_count"), ("attributes", "attribute_count")):
        listed, count = record.get(name), record.get(count_name)
        if isinstance(listed, list) and type(count) is int and count > len(listed):
            truncated[name] = count
    return truncated


# --- lists --------------------------------------------------------------------------
#
# Reads the files of --ids and --keep: one entry per line, or a CSV with a header. It reads
# strictly, since an extra comma once deleted the wrong people: ambiguous text is refused
# with its line. A row with an id and a natural key matches one record; whether both belong
# to it is checked once the store has answered.

# At most 320 characters [RFC 3696, erratum 1690].
PLAIN_ADDRESS = re.compile(r"(?!'|.{321})[\w.!#$%&'+/=?^{|}~-]+@[\w-]+(\.[\w-]+)+")
# Other names of the email column, normalized.
EMAIL_COLUMNS = ("emailaddress", "emailadresse", "adresseemail")


def csv_rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and cells of each non-empty row; raises ValueError.

    A header with two kinds of separators is refused as ambiguous.
    """
    lines = io.StringIO(text, newline="")
    filled = ((n, line) for n, line in enumerate(lines, 1) if line.strip(' \t\r\n,;"'))
    number, header = next(filled, (1, ""))
    separator = "".join(letter for letter in ",;\t" if letter in header) or ","
    if len(separator) > 1:
        raise ValueError(f"line {number}: ambiguous header; use one separator")
    lines.seek(0)
    reader = csv.reader(lines, delimiter=separator, strict=True)
    line = 1
    try:
        for row in reader:
            if any(re.match('[ \t]+"', cell) for cell in row):
                raise ValueError(f"line {line}: space before a quote; remove it")
            # selected.csv has a ' before text that a spreadsheet would run as a formula.
            cells = [re.sub("^'(?=[=+@-])", "", cell.strip(" \t")) for cell in row]
            if any(cells):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"line {line}: unclosed quote, or text after a quote") from error


def column_key(name: str) -> str:
    """Return a column name for comparison: without case, spaces, _ and -."""
    return re.sub(r"[ _-]", "", name.casefold())


def read_header(header: Sequence[str], resource: Resource) -> list[str]:
    """Return each column's role: "id", the resource's key, another name, or "".

    An empty list means a plain list. Raises ValueError for an ambiguous header.
    """
    if not any(header[1:]) and (positive_id(header[0]) or "@" in header[0]):
        return []
    # Normalized names of the columns that are read => their role.
    own = {"id": "id", column_key(resource.id_column): "id"}
    own[column_key(resource.key)] = resource.key
    if resource.key == "email":
        own |= dict.fromkeys(EMAIL_COLUMNS, "email")
    names = [*map(column_key, header)]
    if "item" in names or "itemtype" in names:
        raise ValueError(
            "product exports (Item column) also contain the ids of variants and images; "
            "use a file that contains only the ids to delete"
        )
    found = [own[name] for name in names if own.get(name)]
    others = {column_key(other.id_column) for other in RESOURCES.values()}
    for name, shown in zip(names, header, strict=True):
        shown = printable(shown, 40)
        if name in others and "id" not in found:
            raise ValueError(f"lists {shown}s, not {resource.plural}")
        # Ids may be those of orders (ID, Customer No) or row numbers (ID, Mail).
        is_unclear = "id" in names and column_key(resource.singular) in name
        is_unclear |= "mail" in name and resource.key == "email"
        if is_unclear and found == ["id"]:
            raise ValueError(
                f'id and "{shown}" may refer to different {resource.plural}; '
                "rename or remove one column"
            )
    if not found or len(found) > len({*found}):
        count = "more than one" if found else "no"
        wanted = f"id, {resource.singular} id or {resource.key}"
        if not resource.key:
            wanted = f"id or {resource.singular} id"
        shown = printable(", ".join(filter(None, header)))
        raise ValueError(f"{count} {wanted} column (columns: {shown})")
    return [own.get(name, name) for name in names]


class ListFile(dict[int | str, str]):
    """The entries of a list (ids and natural keys): normalized => as written."""

    def __init__(self, name: str) -> None:
        super().__init__()
        # The path, as given.
        self.name = name
        # Rows with an id and a key: line, id, normalized key; and these keys.
        self.pairs: list[tuple[int, int, str]] = []
        self.paired_keys: set[str] = set()
        # Repeated entries.
        self.duplicates = 0

    def add_row(
        self, line: int, row: Sequence[str], columns: Sequence[str], resource: Resource
    ) -> None:
        """Add the entry of a row; raises ValueError if the row is ambiguous."""
        cells = [*itertools.zip_longest(columns, row, fillvalue="")]
        is_wide = len(row) > len(columns) and sum(map(bool, row)) > 1
        if is_wide or any(cell and not column for column, cell in cells):
            raise ValueError("more values than columns; quote values that contain commas")
        values = dict(cells)
        kind = "id" if "id" in columns else resource.key
        text = values[kind]
        entry: int | str | None = positive_id(text)
        if kind != "id":
            entry = resource.normalize_key(text)
            if kind == "email" and not PLAIN_ADDRESS.fullmatch(entry):
                entry = None
        if not entry:
            raise ValueError(f"{printable(repr(text))} is not a valid {kind}")
        self.duplicates += entry in self
        self.setdefault(entry, text)
        if kind == "id" and resource.key and resource.key in columns:
            key = paired_key(values, resource)
            if not key:
                raise ValueError(f"{resource.key} is missing")
            self.pairs.append((line, int(text), key))
            self.paired_keys.add(key)


def paired_key(values: Mapping[str, Any], resource: Resource) -> str:
    """Return the key of a row or record that is compared beside an id.

    It is shortened as in selected.csv. The name replaces a missing sku, so that a stray
    number below the ids, such as a row count, matches no product.
    """
    key = values.get(resource.key) or values.get(resource.display_fields[0]) or ""
    return resource.normalize_key(printable(key, DATA_LIMIT))


def read_list(text: str, resource: Resource, name: str = "") -> ListFile:
    """Return the entries of a list; raises ValueError with the line number."""
    entries = ListFile(name)
    columns: list[str] | None = None
    for line, row in csv_rows(text):
        try:
            if columns is None:
                columns = read_header(row, resource)
                if columns:
                    continue
            plain = ["id"]
            if resource.key == "email" and "@" in row[0]:
                plain = ["email"]
            entries.add_row(line, row, columns or plain, resource)
        except ValueError as error:
            raise ValueError(f"line {line}: {error}") from None
    if not entries:
        raise ValueError("contains no entries")
    return entries


@dataclass(eq=False)
class ListMatcher:
    """Matches the entries of a list with records, and remembers the matches."""

    entries: ListFile
    resource: Resource
    # Records that the list excluded.
    excluded: int = 0
    # Keys of entries that match several records.
    shared: set[str] = field(default_factory=set)
    # The listed ids and keys that were seen: id => key, key => id of its first record.
    found: dict[int | str, int | str] = field(default_factory=dict)

    def matches(self, record: Record) -> bool:
        """Return whether an entry matches the record, and remember it."""
        entries, number = self.entries, self.resource.id_of(record)
        key = self.resource.key_of(record)
        if entries.paired_keys:
            key = paired_key(record, self.resource)
        if number in entries:
            self.found[number] = key
        if key in entries or key in entries.paired_keys:
            first = self.found.setdefault(key, number)
            if key in entries and first != number:
                self.shared.add(key)
        return number in entries or key in entries

    def unmatched(self, kind: type = object) -> list[str]:
        """Return the entries, as written, that match no record.

        kind: int for ids, str for keys.
        """
        entries = self.entries.items()
        return [
            text for key, text in entries if isinstance(key, kind) and key not in self.found
        ]

    def keys_of_unmatched_ids(self) -> list[str]:
        """Return keys of rows with an unmatched id; another record may have them."""
        pairs = self.entries.pairs
        keys = [key for _, number, key in pairs if number not in self.found]
        if self.resource.key == "email":
            return [*filter(PLAIN_ADDRESS.fullmatch, keys)]
        return keys

    def contradictions(self, *, is_complete: bool = True) -> list[str]:
        """Return rows whose id and key belong to different records: "line 2 (id 26)".

        is_complete: whether all records that the entries match have been seen.
        """
        rows = []
        for line, number, key in self.entries.pairs:
            is_of_another = is_complete and number not in self.found and key in self.found
            if is_of_another or self.found.get(number, key) != key:
                rows.append(f"line {line} (id {number})")
        return rows


# --- configuration ------------------------------------------------------------------
#
# Turns store.ini and the command line into one frozen Config, or reports the file, line,
# key or option that is wrong. An option of GROUPS, unless in NOT_IN_INI, is also a key of
# [cleanup], and sets the Config field of that name. A filter is an option, --filter NAME,
# and a key of [filters]. To add an option, add it to GROUPS (or READERS, if only the ini has
# it), Config and config.example.ini.


QUOTED = re.compile("^['\"“”„‘’]|['\"“”„‘’]$")


def register_secret(text: str) -> str:
    """Register a text that is never shown (N17, N18), and return it."""
    SECRETS.add(text)
    return text


def bare_domain(url: object) -> str:
    """Return the domain of a URL in lower case, without scheme and path."""
    return re.sub(r"^https?://|/.*$", "", str(url).lower())


def match_expression(text: str) -> Match:
    """Convert FIELD=REGEX or FIELD!=REGEX."""
    path, _, pattern = text.partition("=")
    is_negated, path = path.endswith("!"), path.removesuffix("!").strip()
    if QUOTED.search(pattern):
        raise ValueError('starts or ends with a quote; remove it, or write ["] to match one.')
    if re.search(r"\[:\^?[a-z]+:\]", pattern):
        raise ValueError(r"contains a POSIX class, which Python lacks; use \d, \w or [a-z].")
    try:
        return Match(path, is_negated, re.compile(pattern))
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"contains an invalid regular expression ({error}).") from error


def make_reader(
    pattern: str, fault: str, convert: Callable[[str], Any] = str
) -> Callable[..., Any]:
    """Return a function that checks and converts an option's text.

    Its ValueError, and that of `convert`, completes the sentence "--name …".
    """

    def read(text: str, *_: object) -> Any:
        if not re.fullmatch(pattern, text, re.DOTALL):
            raise ValueError(f"{fault}.")
        return convert(text)

    return read


def read_list_file(text: str, resource: Resource, *_: object) -> ListFile:
    """Return the entries in a file of --ids or --keep; raises ConfigError."""
    path = Path(os.path.expanduser(text))
    try:
        return read_list(read_text(path), resource, str(path))
    except ValueError as error:
        raise ConfigError(f"{path}: {error}.") from error


FALSE_WORDS = ("no", "false", "off", "0")
SWITCH = make_reader(
    "(?i)yes|no|true|false|on|off|1|0",
    "must be yes or no",
    lambda text: text.lower() not in FALSE_WORDS,
)
POSITIVE = make_reader("0*[1-9][0-9]{0,17}", "must be a whole number of 1 or more", int)
NOT_NEGATIVE = make_reader("[0-9]{1,18}", "must be a whole number of 0 or more", int)
PATH = make_reader(".+", "must be a path", lambda text: Path(os.path.expanduser(text)))

# Group in --help => its options, each with its placeholder or short form => its reader
# and help. A reader is called with the text, the resource and the key.
GROUPS: dict[str, dict[str, tuple[Callable[..., Any], str]]] = {
    "store": {"--config FILE": (PATH, "the store's ini file (required)")},
    "selection": {
        "--resource NAME": (
            # N31: a misspelled name gets no suggestion to delete another kind of record.
            make_reader(
                "|".join(RESOURCES),
                "must be a record type (see --resource list)",
                RESOURCES.get,
            ),
            'record type (default: customers); "list" shows all',
        ),
        "--filter NAME=VALUE": (make_filter, "only records matching this API filter"),
        "--match FIELD=REGEX": (
            make_reader(
                r"\s*[^=!\s][^=]*=[^ =].*",
                "must be FIELD=REGEX or FIELD!=REGEX, without a space after =",
                match_expression,
            ),
            "only records whose FIELD matches REGEX (FIELD!=REGEX: does not match)",
        ),
        "--ids FILE": (
            read_list_file,
            "only records listed in FILE (ids, email addresses, SKUs, codes or paths)",
        ),
        "--keep FILE": (read_list_file, "exclude records listed in FILE (may be repeated)"),
        "--spare-with-orders": (SWITCH, "exclude customers that have orders"),
        "--limit N": (POSITIVE, "delete at most N records"),
    },
    "safety": {
        "--max-delete N": (NOT_NEGATIVE, "refuse to delete more than N records"),
        "--dry-run -n": (SWITCH, "list records and write the plan; delete nothing"),
        "--yes -y": (SWITCH, "skip the confirmation prompt"),
        "--resume RUN_FOLDER": (PATH, "resume a run, or execute a dry run's plan"),
        "--runs-dir DIR": (PATH, "directory for run folders (default: runs)"),
        "--no-backup": (SWITCH, "do not write backup.jsonl or reimport.csv"),
    },
    "performance": {
        "--rate-limit N": (
            POSITIVE,
            "send at most N requests per rate-limit window",
        ),
        "--batch-size N": (
            POSITIVE,
            "ids per DELETE (default: the record type's maximum)",
        ),
        "--max-concurrent N": (
            make_reader("[1-5]", "must be a whole number from 1 to 5", int),
            "requests in flight at once, 1 to 5 (default: 5)",
        ),
    },
    "output": {
        "--json": (SWITCH, "print the summary as JSON on stdout, everything else on stderr"),
        "--verbose -v": (SWITCH, "show every request"),
    },
}
# Options set only in the ini or the environment => their readers.
STORE_READERS = {
    "--store-hash": make_reader(
        "(.*stores/)?[A-Za-z0-9]+(/v[0-9])?/?",
        "must be letters and digits, or the whole API path",
        partial(re.sub, "^.*stores/|/.*$", ""),
    ),
    "--access-token": make_reader(
        "[!#-&(-~]+",
        "must be ASCII without spaces or quotes",
        register_secret,
    ),
    "--client-id": make_reader("[!-~]*", "must be ASCII without spaces"),
    "--domain": make_reader(
        "((https?://)?[^/:]+(/.*)?)?", "must be a domain such as www.example.com", bare_domain
    ),
}
READERS = {
    "--host": make_reader("[A-Za-z0-9.-]+(:[0-9]{1,5})?", "must be host or host:port"),
    "--min-requests-remaining": NOT_NEGATIVE,
    "--count-items": SWITCH,
    "--max-retries": make_reader("1?[0-9]|20", "must be a whole number from 0 to 20", int),
    "--timeout": make_reader(
        r"(?=.*[1-9])[0-9]{1,4}(\.[0-9]{1,9})?", "must be a number of seconds above 0", float
    ),
    "--max-error-rate": make_reader(
        r"([0-9]{1,2}(\.[0-9]{1,9})?|100)\s?%?",
        "must be a percentage from 0 to 100",
        lambda text: float(text.rstrip(" %")),
    ),
    "--webhook-url": make_reader(
        "https?://[A-Za-z0-9][!-~]*", "must be an http or https URL", register_secret
    ),
    **STORE_READERS,
}
for group in GROUPS.values():
    for words, (read, _) in group.items():
        READERS[words.split()[0]] = read

# Prefixes of the selection options; a filter is --filter NAME.
SELECTION_FLAGS = tuple(words.split()[0] for words in GROUPS["selection"])
NOT_IN_INI = ("--config", "--filter", "--yes", "--resume", "--json", "--version")
REPEATABLE = ("--match", "--keep")
# Options compared with the plan's on a resume.
PROTECTIONS = ("--keep", "--match", "--spare-with-orders")
# Options repeated in the command that resumes the run.
RESUMED = ("--max-delete", "--rate-limit", "--batch-size", "--max-concurrent")


@dataclass(frozen=True, kw_only=True, repr=False)  # N17: a repr would show secrets
class Config:
    """The settings of one run."""

    # The ini file.
    path: Path
    # The API host; BC_API_ENDPOINT overrides it.
    host: str
    # [store]; client_id and domain: "" if not given.
    store_hash: str
    access_token: str
    client_id: str = ""
    domain: str = ""

    # [cleanup], [filters] and the command line.
    resource: Resource
    # Filters by name: parsed, and as given.
    filter: Mapping[str, Filter]
    filters: Mapping[str, str]
    match: Sequence[Match] = ()
    ids: ListFile | None = None
    keep: Sequence[ListFile] = ()
    spare_with_orders: bool = False
    limit: int | None = None
    max_delete: int | None = None
    dry_run: bool = False
    yes: bool = False
    resume: Path | None = None
    runs_dir: Path = Path("runs")
    no_backup: bool = False
    rate_limit: int | None = None
    batch_size: int | None = None
    max_concurrent: int = 5
    min_requests_remaining: int = 0
    count_items: bool = False
    max_retries: int = 5
    timeout: float = 60.0  # seconds to wait for an answer, or for more of it
    max_error_rate: float = 10.0  # percent of the selection
    webhook_url: str = ""
    json: bool = False
    verbose: bool = False

    # The other selection options, as given: option => text.
    selection: Mapping[str, str]
    # Ini keys that exclude records but are ignored by --resume: key => value.
    ini_protections: Mapping[str, str]
    # Command-line options that the command to resume repeats.
    resume_options: Sequence[str]
    warnings: Sequence[str]


def key_of(flag: str) -> str:
    """Return the ini key of an option."""
    return flag.removeprefix("--filter ").removeprefix("--").replace("-", "_")


Texts = dict[str, list[str]]  # option => its values as given
# Ini section => its keys => the equivalent options.
INI_KEYS = {
    "store": {key_of(flag): flag for flag in STORE_READERS},
    "cleanup": {
        key_of(flag): flag
        for flag in READERS
        if flag not in (*STORE_READERS, *NOT_IN_INI, "--host")
    },
    "filters": {key: f"--filter {key}" for r in RESOURCES.values() for key in r.filter_types()},
}


def read_ini(path: Path) -> Texts:
    """Return the settings in an ini file, as option => text; raises ConfigError.

    Values are taken literally: = is the only delimiter, and there are no inline comments,
    quotes, continuation lines or defaults, any of which could disable a protection. N28: a
    message gives the line number but never quotes the line, which may contain the token.
    """
    try:
        text = read_text(path)
    except ValueError as error:
        hint = ""
        if isinstance(error.__cause__, FileNotFoundError):
            hint = " Copy config.example.ini and edit it."
        raise ConfigError(f"{path}: {error}.{hint}") from error
    ini: Texts = {}
    sections = [""]
    for line_number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1):
        try:
            read_line(line.strip(), sections, ini)
        except ValueError as error:
            raise ConfigError(f"{path}, line {line_number}: {error}") from None
    return ini


def read_line(line: str, sections: list[str], ini: Texts) -> None:
    """Parse a line of the ini into sections and ini; raises ValueError."""
    if not line or line[0] in "#;":
        return
    if header := re.fullmatch(r"\[(.*)\]", line):
        if header[1] not in INI_KEYS:
            hint = suggest(header[1], INI_KEYS, "See config.example.ini.")
            raise ValueError(f"unknown section. {hint}")
        if header[1] in sections:
            raise ValueError("duplicate section.")
        sections.append(header[1])
        return
    key, equals, value = line.partition("=")
    key, value, section = key.strip().lower(), value.strip(), sections[-1]
    if not equals or not section:
        raise ValueError("expected a section such as [store], then key = value.")
    flag = INI_KEYS[section].get(key)
    if not flag:
        hint = suggest(key, INI_KEYS[section], "See config.example.ini.")
        if f"--{key}" in NOT_IN_INI:
            hint = f"Use --{key} on the command line."
        raise ValueError(f"unknown key in [{section}]. {hint}")
    if flag in ini:
        raise ValueError("duplicate key.")
    if QUOTED.search(value):
        raise ValueError(f"{key} is in quotes; remove them.")
    if re.search(r"\s[;#]", value):
        raise ValueError(f"{key} has a comment after its value; move it to its own line.")
    ini[flag] = [value]


def read_options(
    path: Path, ini: Texts, argv: Texts, sources: Mapping[str, str]
) -> dict[str, Any]:
    """Return the fields of Config that options set; raises ConfigError.

    sources: the origin of texts that come from neither the ini nor argv.

    An option overrides its ini key, with a warning if it selects or protects; keep lists
    add up. N28: a message may quote an option's text, but never a key's value.
    """
    values: dict[str, Any] = {"resource": RESOURCES["customers"], "filter": {}}
    values |= {"filters": {}, "selection": {}, "resume_options": [], "warnings": []}
    for flag in dict.fromkeys(["--resource", *ini, *argv]):  # the others depend on it
        key, in_ini, in_argv = key_of(flag), ini.get(flag, []), argv.get(flag, [])
        texts, converted = in_ini + in_argv, []
        if flag == "--ids":  # a list in the ini is not read if it is overridden
            texts = texts[-1:]
        for text in texts:  # any other is checked, even if it is overridden
            try:
                read = READERS.get(flag, make_filter)
                converted.append(read(text, values["resource"], key))
            except ValueError as error:
                source = sources.get(flag, f"{path}: {key}")
                if text in in_argv:
                    source = f"{flag} {clean(text)!r}"
                raise ConfigError(f"{source} {error}") from error
        if in_argv and flag != "--keep":
            is_guard = flag.startswith(SELECTION_FLAGS) or flag == "--max-delete"
            if is_guard and in_ini not in ([], in_argv):
                overridden = f"{key} = {printable(in_ini[0], 80)} in {path}"
                values["warnings"].append(f"{flag} overrides {overridden}")
            in_ini, converted = [], converted[-len(in_argv) :]
        if flag not in READERS:
            values["filter"][key], values["filters"][key] = converted[0], converted[0].text
        elif converted:
            values[key] = converted if flag in REPEATABLE else converted[0]
        if flag in SELECTION_FLAGS and flag != "--resource" and values.get(key):
            values["selection"][key] = " and ".join(in_ini + in_argv)
        if flag in RESUMED and in_argv:
            values["resume_options"] += [flag, *in_argv]
    return values


def read_config(argv: Texts, environ: Mapping[str, str]) -> Config:
    """Return the settings of a run; raises ConfigError with the file, key or option."""
    path = Path(argv.pop("--config")[0])
    ini = {"--store-hash": [""]} | read_ini(path)
    ini["--host"] = [environ.get("BC_API_ENDPOINT") or DEFAULT_HOST]
    token = environ.get("BIGCOMMERCE_ACCESS_TOKEN", "").strip()
    if ini.setdefault("--access-token", [""]) == [""]:
        ini["--access-token"] = [token]
    sources = {
        "--host": "BC_API_ENDPOINT",
        "--access-token": f"{path}: access_token, or BIGCOMMERCE_ACCESS_TOKEN,",
    }
    protections = {}
    if "--resume" in argv:  # the selection is the plan's
        for flag in PROTECTIONS:
            if flag in ini and ini[flag][0].lower() not in FALSE_WORDS:
                protections[key_of(flag)] = ini[flag][0]
        ini.pop("--dry-run", None)
        for flag in [*ini, *argv]:
            if flag.startswith(SELECTION_FLAGS):
                if flag in argv:
                    raise ConfigError(f"{flag} cannot be used with --resume.")
                del ini[flag]
    options = read_options(path, ini, argv, sources)
    if mode := mode_readable_by_others(path):
        fault = f"{path} is readable by other users ({mode:04o})"
        options["warnings"].append(f"{fault}. Run: chmod 600 {path}")
    config = Config(path=path, **options, ini_protections=protections)
    resource, size = config.resource, config.batch_size or 0
    if config.filter and config.ids:
        raise ConfigError("--ids cannot be combined with --filter or [filters]; use --match.")
    if config.spare_with_orders and resource.name != "customers":
        raise ConfigError("--spare-with-orders works only with customers.")
    if size > resource.max_batch and "--resume" not in argv:
        limit = f"at most {resource.max_batch} for {resource.plural}"
        name = f"--batch-size, or batch_size in {path},"
        raise ConfigError(f"{name} must be {limit}, not {size}.")
    return config


EXAMPLES = """\
examples:
  python bulk_delete.py --config store.ini --dry-run
      list all customers, write the plan and a backup, and delete nothing
  python bulk_delete.py --config store.ini --ids merchant.csv --keep staff.txt
      delete the customers in merchant.csv, excluding those in staff.txt
  python bulk_delete.py --config store.ini --resume runs/RUN_FOLDER
      execute the plan of a dry run, or resume a run that ended early
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser; each option collects its values."""
    parser = argparse.ArgumentParser(
        usage="python bulk_delete.py --config FILE [option ...]",
        description="Delete many records from one BigCommerce store: review, delete, verify.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        exit_on_error=False,
    )
    parser.add_argument("--version", action="version", version=f"bulk_delete.py {__version__}")
    for title, options in GROUPS.items():
        group = parser.add_argument_group(title)
        for words, (read, text) in options.items():
            flag, *extra = words.split()
            add = partial(group.add_argument, dest=flag, help=text)
            if read is SWITCH:
                opposite = f"--no-{flag[2:]}".replace("--no-no-", "--")
                add(*extra, flag, action="append_const", const="yes")
                add(opposite, action="append_const", const="no", help=argparse.SUPPRESS)
            else:
                add(flag, action="append", metavar=extra[0])
    return parser


def parse_arguments(words: Sequence[str] | None) -> Texts:
    """Return the command-line options => their values; raises ConfigError."""
    try:
        arguments, unknown = make_parser().parse_known_args(words)
    except argparse.ArgumentError as error:
        fault = str(error).removeprefix("argument ")
        fault = fault.replace(": expected one argument", " needs a value")
        raise ConfigError(f"{fault}.") from error
    if unknown:
        typed = clean(unknown[0].partition("=")[0])
        name = typed.lstrip("-–—")
        if name == typed:
            raise ConfigError(f"Unexpected argument: {typed}")
        hint = suggest(f"--{name}", vars(arguments), "See --help.", 0.8)
        raise ConfigError(f"Unknown option {typed}. {hint}")
    argv = {flag: texts for flag, texts in vars(arguments).items() if texts}
    if "--config" not in argv and argv.get("--resource") != ["list"]:
        raise ConfigError("--config FILE is required (the store's ini file).")
    for text in argv.pop("--filter", ()):
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--filter {clean(text)!r} must be NAME=VALUE.")
        argv.setdefault(f"--filter {clean(name).lower()}", []).append(value)
    for flag, texts in argv.items():
        count = len(texts)
        if READERS.get(flag) is SWITCH:
            count = len({*texts})  # the same twice is no contradiction
        if count > 1 and flag not in REPEATABLE:
            raise ConfigError(f"{flag} can be given only once.")
    return argv


# --- rate limiting ------------------------------------------------------------------
#
# Decides when a request may be sent. The store counts the requests of all its apps in fixed
# windows. Every response has the quota and length of a window, the number of requests left
# and the time until the window ends [BigCommerce, API rate limits].
#
# A token is the right to one request (with count_items, to one id of it). `Window` mirrors
# the store's current window: tokens = remaining - in flight, since the store has not
# counted what it has not seen. Within a window the count only falls, so the lower of two
# responses is right. Tokens that other apps will probably take are left to them; otherwise
# we would starve them and collect 429s. `TokenBucket` is the part that waits: it spreads the
# tokens evenly over the window, or hands them out at full speed if the rest of the job fits.


QUOTA, WINDOW = 150, 30.0  # tokens and seconds of a window, until the first response


def quota_header(headers: Mapping[str, str], name: str) -> int | None:
    """Return the number in an X-Rate-Limit header; None if it is absent or invalid."""
    text = headers.get("X-Rate-Limit-" + name, "").strip()
    digits = "{1,6}" if name.endswith("Ms") else "{1,12}"
    return int(text) if re.fullmatch(f"[0-9]{digits}", text) else None


@dataclass
class Window:
    """The store's current window, inferred from its responses; reads no clock.

    The first window is a guess until the first response.
    """

    # The most tokens to take in a window, and tokens to leave.
    ceiling: int
    reserve: int
    # Tokens per window, and the lowest number left in a response in this window.
    quota: int
    remaining: int
    # The latest time at which this window ends, and by how many seconds it may be earlier.
    end: float
    uncertainty: float = 0.0
    # Length of a window, in seconds.
    seconds: float = WINDOW
    # When the request behind `remaining` was sent.
    counted_at: float = -math.inf
    # Tokens taken in this window, and those of requests in flight.
    taken: int = 0
    in_flight: int = 0
    # Tokens for all apps at the first response in this window; -inf before it.
    at_first: float = -math.inf
    # Tokens that other apps took in the last window.
    others_before: float = 0.0
    # When the last request in this window was sent.
    last_at: float = -math.inf

    def largest(self) -> int:
        """Return the most tokens that one request may ever cost."""
        return min(self.quota - self.reserve, self.ceiling)

    def tokens(self) -> int:
        """Return the tokens that may be taken now."""
        tokens = self.remaining - self.in_flight - self.reserve
        return min(tokens, self.ceiling - self.taken)

    def taken_by_others(self) -> float:
        """Return how many tokens other apps have taken in this window."""
        return max(0.0, self.at_first - self.remaining - self.taken)

    def expected_by_others(self, now: float) -> float:
        """Return how many tokens other apps will take by the window's end."""
        began = self.end - self.seconds
        seen = self.others_before + self.taken_by_others()
        rate = seen / (self.seconds + now - began)
        expected = rate * (self.end - max(began, self.counted_at))
        return min(expected, 0.9 * self.remaining)  # keep some tokens beside a greedy app

    def take(self, now: float, cost: int) -> None:
        """Count a request that is sent now."""
        self.last_at = now
        self.taken += cost
        self.in_flight += cost

    def advance(self, now: float) -> None:
        """Start the next window once this one has surely ended."""
        if now < self.end:
            return
        self.others_before = self.taken_by_others()
        self.end += self.seconds * (1 + (now - self.end) // self.seconds)
        self.remaining, self.at_first = self.quota, -math.inf
        self.taken = self.in_flight  # the store may count them in this window
        self.last_at = -math.inf

    def add_response(
        self, now: float, sent_at: float, cost: int, headers: Mapping[str, str]
    ) -> None:
        """Update the window from a response that arrived now."""
        self.advance(now)
        self.in_flight -= cost
        seconds = (quota_header(headers, "Time-Window-Ms") or 0) / 1000
        if seconds not in (0, self.seconds):
            self.seconds, self.end = seconds, sent_at + seconds
        remaining = quota_header(headers, "Requests-Left")
        reset_ms = quota_header(headers, "Time-Reset-Ms")
        if now - sent_at > self.seconds / 3:
            remaining = reset_ms = None  # it may have been counted in this window or before
        if reset_ms is not None and not self._update_end(now, sent_at, reset_ms / 1000, cost):
            return
        quota = quota_header(headers, "Requests-Quota") or self.quota
        if quota != self.quota:
            self.quota, self.remaining = quota, quota - self.taken
            self.at_first = -math.inf
        if remaining is None:
            self.remaining -= cost
        else:
            self.remaining = min(self.remaining, remaining)
            self.counted_at = max(self.counted_at, sent_at)
        if self.at_first < 0:
            self.at_first = min(self.quota, self.remaining + self.taken)

    def _update_end(self, now: float, sent_at: float, reset: float, cost: int) -> bool:
        """Correct the window's end; return False for a response of the last window.

        The response was made after its request was sent and before it arrived, so its
        window ends between two times, give or take a millisecond.
        """
        earliest, latest = sent_at + reset - 0.001, now + reset + 0.001
        ahead = round(((earliest + latest) / 2 - self.end) / self.seconds)
        if ahead < 0 and sent_at < self.end - self.seconds:
            self.taken -= cost
            return False
        if ahead > 0:  # the next window has begun
            self.advance(self.end)
            self.taken += cost
        if not earliest <= self.end <= latest:
            self.end, self.uncertainty = latest, latest - earliest
        return True


class TokenBucket:
    """Rate limiter: makes workers wait for tokens of the store's window.

    ceiling and reserve: as in Window. clock (N20: not the wall clock) and sleep are in
    seconds; sleep may raise, and is never called with the lock held (N19).
    """

    def __init__(
        self,
        ceiling: int | None = None,
        reserve: int = 0,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        quota, end = max(QUOTA, reserve + 1), clock() + WINDOW
        self.window = Window(ceiling or sys.maxsize, reserve, quota, quota, end)
        # 429s since the last success, and when the last one came that counted.
        self.rate_limited_in_a_row, self._rate_limited_at = 0, -math.inf
        self._clock, self._sleep = clock, sleep
        # Guards the window and the pause.
        self._lock = threading.Lock()
        # No request is sent before this time.
        self._paused_until = -math.inf
        # Tokens that the rest of the job needs.
        self._demand = math.inf

    def acquire(self, cost: int = 1) -> int:
        """Wait for tokens, take them, and return their number.

        The cost is capped at what one window can have. Raises whatever sleep raises.
        """
        while True:
            with self._lock:
                now = self._clock()
                self.window.advance(now)
                cost = min(cost, max(1, self.window.largest()))
                delay = self._delay(now, cost)
                if delay <= 0:
                    self.window.take(now, cost)
                    self._demand -= cost
                    return cost
            self._sleep(min(delay, POLL))

    def _delay(self, now: float, cost: int) -> float:
        """Return the seconds until the next try; 0 or less if the tokens can be taken."""
        window = self.window
        if now < self._paused_until:
            return self._paused_until - now
        if self.rate_limited_in_a_row and window.in_flight:
            return POLL  # one request at a time tests the store
        spare = window.tokens() - window.expected_by_others(now)
        if spare < cost:
            return max(window.end - now, 0.001)
        if self._demand <= spare:
            return 0.0
        ends = window.end - window.uncertainty
        return (spare * window.last_at + cost * ends) / (spare + cost) - now

    def update_from_headers(
        self, headers: Mapping[str, str], sent_at: float, cost: int = 1
    ) -> None:
        """Update the window from the response to a request sent at sent_at."""
        with self._lock:
            self.window.add_response(self._clock(), sent_at, cost, headers)

    def pause(self, seconds: float) -> None:
        """Hold all requests for this many seconds."""
        with self._lock:
            self._paused_until = max(self._paused_until, self._clock() + seconds)

    def rate_limited(self, sent_at: float) -> int:
        """Count a 429 to a request sent at sent_at; return the number in a row.

        Requests that were in flight together count once. Until one succeeds, one at a
        time is sent.
        """
        with self._lock:
            if sent_at >= self._rate_limited_at:
                self.rate_limited_in_a_row += 1
                self._rate_limited_at = self._clock()
            return self.rate_limited_in_a_row

    def succeeded(self) -> None:
        """End a row of 429s: a request has succeeded."""
        self.rate_limited_in_a_row = 0

    def set_remaining(self, tokens: float) -> None:
        """Set the tokens that the rest of the job needs; if they fit, none waits."""
        self._demand = tokens


# --- answers ------------------------------------------------------------------------
#
# Decides what a response means, once: `classify` returns a Ruling, and everything that
# follows (retry, pause, halve, verify, stop) reads it. `batch_result` combines the rulings
# on all attempts at a batch. Nothing here sends, waits or writes. To change a retry rule:
# `classify` decides whether, `Response.wait` and `backoff` how long, `Client.send` how
# often, and `may_have_applied` whether a retried DELETE may have deleted records.

LONGEST_WAIT = 600.0  # seconds: if a store asks for more, the run ends; resume later
MAX_RATE_LIMITED = 10  # 429s in a row that end the run: more is abuse [integration design]
LONGEST_BACKOFF = 60.0  # seconds, without the jitter
MAX_PARTS = 2000  # parts of a body that are searched for messages or results (N24)

Batch = tuple[int, ...]  # ids to delete with one request


@dataclass
class Request:
    """One request, through all attempts at it."""

    method: str
    resource: Resource
    # Path below /stores/{hash}/, with the API version.
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    # The ids in a DELETE.
    batch: Batch = ()
    # Tokens that an attempt costs, and when the last one was sent.
    cost: int = 1
    sent_at: float = 0.0
    # A status that counts as success for this request.
    tolerated: int | None = None
    # Whether the run continues after any response.
    is_optional: bool = False
    # Called once, right before the first attempt; may raise RunError.
    before_send: Callable[[], None] = lambda: None
    # The ruling on each attempt so far.
    rulings: list[Ruling] = field(default_factory=list)

    @property
    def target(self) -> str:
        """Return path and query, with commas that the SDK would encode as %2C."""
        query = urlencode(self.params, safe=":,")
        return f"{self.path}?{query}" if query else self.path


@dataclass(frozen=True)
class Response:
    """The response to one attempt; if none came, status 0 and a `problem`."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    problem: str = ""

    @cached_property
    def json(self) -> Any:
        """Return the parsed body, with NaN as text; None if it is not JSON."""
        try:
            return json.loads(self.body, parse_constant=str)
        except (ValueError, RecursionError):
            return None

    @property
    def is_json(self) -> bool:
        """Return whether it comes from the API, and not from a proxy or CDN."""
        return isinstance(self.json, (dict, list))

    @cached_property
    def message(self) -> str:
        """Return status and the store's own words, or the title of an HTML page."""
        if self.status == 0:
            return self.problem
        words = error_words(self.json)
        if not self.is_json:
            text = self.body[:FOREIGN_LIMIT].decode(errors="replace")
            titles = re.findall(r"<title[^>]{0,100}>([^<]{1,1000})", text, re.IGNORECASE)
            words = clean(html.unescape("".join(titles[:1])))
        return printable(f"{self.status} {words}", MESSAGE_LIMIT)

    @property
    def wait(self) -> float:
        """Return the seconds to wait, from headers and body; 0 if none are given.

        The quota headers are on every response, and ask to wait only with a 429.
        """
        texts = [self.headers.get(name, "") for name in ("X-Retry-After", "Retry-After")]
        texts.append(str(value_at(self.json, "retry_after_seconds")))
        number = r"\s*[0-9]{1,40}(\.[0-9]{1,40})?\s*"
        waits = [float(text) for text in texts if re.fullmatch(number, text)]
        if self.status == 429:
            waits.append((quota_header(self.headers, "Time-Reset-Ms") or 0) / 1000)
        return max(waits, default=0.0)


def error_words(body: object) -> str:
    """Return the messages in an error body, outermost first, joined by "; "."""
    parts, words = [body], []
    for part in itertools.islice(parts, MAX_PARTS):  # grows during the loop
        if isinstance(part, str) and part:
            words.append(clean(part, MESSAGE_LIMIT))
        elif isinstance(part, list):
            parts.extend(part)
        elif isinstance(part, dict):
            errors = part.get("errors")
            parts.extend(part.get(key) for key in ("title", "message", "detail"))
            parts.extend(errors.values() if isinstance(errors, dict) else [errors])
    return "; ".join(dict.fromkeys(words))


def backoff(attempt: int, jitter: float) -> float:
    """Return the seconds before the next attempt: exponential backoff with jitter.

    attempt: retries made so far; jitter: from 0 to 1. The default of five retries takes
    at least 93 s, since BigCommerce recommends minutes after a 500 [status codes].
    """
    seconds = min(LONGEST_BACKOFF, 3.0 * 2.0**attempt)
    return seconds * (1 + jitter / 2)


class Action(enum.Enum):
    """What to do after a response."""

    DONE = "done"  # succeeded
    PAUSE = "pause"  # rate-limited: all workers wait, then retry
    RETRY = "retry"  # the request may succeed later
    REJECTED = "rejected"  # this request can never succeed, others can
    FATAL = "fatal"  # no request can succeed


@dataclass(frozen=True)
class Ruling:
    """What a response means, for a request or for one id of its batch."""

    action: Action
    # As in Response.
    status: int
    message: str
    # Whether the store may have deleted the ids in a DELETE.
    may_have_applied: bool
    # Rulings on single ids in a batch.
    items: Mapping[int, Ruling] = field(default_factory=dict)


def may_have_applied(status: int) -> bool:
    """Return whether a DELETE with this status may have deleted something."""
    return status == 408 or not 300 <= status <= 499


def classify(request: Request, response: Response) -> Ruling:
    """Return what a response means."""
    status, resource, batch = response.status, request.resource, request.batch
    items = item_rulings(response, batch)
    if status == 429:
        action = Action.PAUSE
    elif status in (0, 408) or (status >= 500 and status not in (501, 505)):
        action = Action.RETRY
    elif status in (200, 403) and not response.is_json:
        action = Action.RETRY  # a maintenance page, a CDN's page or a cut-off body
    elif items or status in (200, 207, *resource.success_statuses, request.tolerated):
        action = Action.DONE
    elif status == 404 and resource.deletes_known_on_404 and len(batch) > 1:
        action = Action.DONE  # some did not exist, and the others were deleted
    elif status in (400, 404, 409, 413, 414, 422, 423):
        action = Action.REJECTED
    else:
        action = Action.FATAL
    applied = action is Action.DONE or may_have_applied(status)
    return Ruling(action, status, response.message, applied, items)


# Keys of failed results => the status of a result without its own.
FAILURES = {"errors": 422, "failed_rows_data": 422}


def item_rulings(response: Response, batch: Batch) -> dict[int, Ruling]:
    """Return a ruling for each id of a batch that the response mentions.

    The id may be a field, a key, or part of an error text: "[7] 409 is locked", "Failed for
    id=7". In a 422 without `meta`, errors by key concern the whole request, and numeric keys
    are positions in it.
    """
    body, found = response.json, dict[int, Ruling]()
    is_whole = isinstance(value_at(body, "errors"), dict) and value_at(body, "meta") is None
    is_whole = is_whole and response.status == 422
    if not batch or is_whole or response.status not in (200, 207, 422):
        return found
    parts = [("", body, 200)]
    for key, value, status in itertools.islice(parts, MAX_PARTS):  # grows during the loop
        number = positive_id(key)
        if isinstance(value, dict):
            number = positive_id(value.get("id")) or number
        elif isinstance(value, str) and status != 200:
            match = re.search(r"(?:\bid=|\[)(\d{1,18})\b", value[:FOREIGN_LIMIT])
            number = int(match[1]) if match else number
        if number in batch:
            ruling = item_ruling(value, status)
            if number not in found or ruling.action is not Action.DONE:
                found[number] = ruling
        elif isinstance(value, list):
            parts.extend(("", inner, status) for inner in value)
        elif isinstance(value, dict):
            for name, inner in value.items():
                parts.append((name, inner, FAILURES.get(name, status)))
    return found


def item_ruling(value: object, status: int) -> Ruling:
    """Return the ruling on one id; its own status overrides its list's."""
    if isinstance(value, dict) and type(value.get("status")) is int:
        status = value["status"]
    message = clean(f"{status} {error_words(value)}", MESSAGE_LIMIT)
    words = str(value)[:FOREIGN_LIMIT].upper()
    if status == 429 or "TOO_MANY_REQUEST" in words:  # the marketplace's word
        return Ruling(Action.PAUSE, status, message, may_have_applied=False)
    action = Action.DONE if 200 <= status <= 299 else Action.REJECTED
    return Ruling(action, status, message, may_have_applied(status))


def chunks(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield the values in parts of this size."""
    return (values[start : start + size] for start in range(0, len(values), size))


@dataclass(kw_only=True)
class BatchResult:
    """The result of sending a batch, before verification."""

    batch: Batch
    # Status and message of the last response.
    message: str = "not sent"
    # Ids that some attempt may have deleted.
    applied: Sequence[int] = ()
    # id => why the store rejected it.
    rejected: dict[int, str] = field(default_factory=dict)
    # Ids neither clearly accepted nor rejected: after a time-out or a 404.
    doubtful: list[int] = field(default_factory=list)
    # Batches to send again.
    requeue: Sequence[Batch] = ()
    # Whether no attempt got a response that settles the batch.
    retries_exhausted: bool = False


def batch_result(
    batch: Batch, rulings: Sequence[Ruling], *, is_complete: bool = True
) -> BatchResult:
    """Combine the rulings on all attempts at a batch; the last one settles it.

    An id without its own ruling shares the batch's; after a 404 or 422 such an id is
    doubtful, since the whole request may have been rejected. is_complete: False if the run
    stopped before the last attempt.
    """
    if not rulings:
        return BatchResult(batch=batch, requeue=[batch])
    last = rulings[-1]
    by_id = {number: last.items.get(number, last) for number in batch}
    before = any(ruling.may_have_applied for ruling in rulings[:-1])
    applied = [number for number in batch if before or by_id[number].may_have_applied]
    result = BatchResult(batch=batch, message=last.message, applied=applied)
    if last.action is Action.DONE:
        for number, ruling in by_id.items():
            if ruling.action is Action.REJECTED:
                result.rejected[number] = ruling.message
            elif ruling is last and last.status >= 400:
                result.doubtful.append(number)
        if limited := tuple(n for n in batch if by_id[n].action is Action.PAUSE):
            result.requeue = [limited]
    elif is_complete:
        result.retries_exhausted = last.action is Action.RETRY
        if len(batch) > 1:
            half = (len(batch) + 1) // 2
            result.requeue = [batch[:half], batch[half:]]
        elif last.status == 404 or (result.retries_exhausted and applied):
            result.doubtful = [*batch]
        else:
            result.rejected[batch[0]] = last.message
    else:
        result.requeue = [batch]
    return result


def delete_target(resource: Resource, ids: Sequence[int]) -> tuple[str, dict[str, str]]:
    """Return path and query of a DELETE; raises ValueError for invalid ids.

    N1, N3, N4: the SDK's own delete() sends an unfiltered DELETE for an id of None or 0, so
    it is never called.
    """
    is_valid = all(type(number) is int and number > 0 for number in ids)
    if not is_valid or not 0 < len(ids) <= resource.largest_batch:
        raise ValueError(f"Invalid ids for one DELETE of {resource.name}: {ids}")
    path = resource.delete_path or resource.path
    if resource.delete_filter:
        return path, {resource.delete_filter: ",".join(map(str, ids))}
    return f"{path}/{ids[0]}", {}


# --- store --------------------------------------------------------------------------
#
# Everything that touches the network, in layers: `Connection` is the SDK's connection,
# one per thread; it turns one attempt over HTTP into a Response, and a page of a list
# into records. `Client` sends a request with its policy: tokens, retries, pauses, the
# log. `Store` has the requests this tool makes. `Workers` is the thread pool that sends
# them, while the main thread waits, redraws and writes.

RESPONSE_LIMIT = 64 * 2**20  # bytes
RESPONSE_TIMEOUTS = 5  # multiples of `timeout` that a response may take
SMALL_PAGE = 50  # records a page, after a larger one got no answer


class Connection(OAuthConnection):  # type: ignore[misc]  # the SDK has no types
    """The SDK's connection, made safe; one per thread, since it holds state."""

    def __init__(self, client: Client, config: Config) -> None:
        super().__init__(
            config.client_id,
            config.store_hash,
            config.access_token,
            config.host,
            api_path="/stores/{}/{}",  # the API version is in Request.path
        )
        if not config.client_id:
            del self._session.headers["X-Auth-Client"]
        self.timeout = config.timeout
        # The page that `make_request` read last.
        self.page = Page([])
        self._client, self._token = client, config.access_token.encode()
        session = self._session
        session.get_redirect_target = lambda response: None  # N14: follow no redirect
        session.auth = lambda request: request  # N16: else ~/.netrc adds a password
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))  # N29
        session.stream = True  # the body is read within limits
        # Proxies and certificates (N15), read once: that costs more than a request.
        url = self.full_path("")
        settings = session.merge_environment_settings(url, {}, True, None, None)
        session.proxies, session.verify = settings["proxies"], settings["verify"]
        session.trust_env = False
        if isinstance(session.verify, str) and not os.path.exists(session.verify):
            raise ConfigError(
                f"Certificates cannot be read ({session.verify}: not found). "
                "Check REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE."
            )
        if proxy := requests.utils.select_proxy(url, session.proxies):
            check_proxy(proxy)

    def make_request(
        self, method: str, url: str, data: Any = None, params: Any = None, headers: Any = None
    ) -> list[Record]:
        """Return the records of a page; called by the SDK's iterall."""
        request = Request(method, LISTED[url], url, params or {})
        response = self._client.send(request)
        self.page = read_page(response, request.resource)
        return self.page.records

    def send_once(self, request: Request) -> Response:
        """Send a request once; return errors of the HTTP stack as status 0.

        Raises ConfigError and RunError for FINAL_FAULTS.
        """
        try:
            response = self._run_method(request.method, request.target)
            with closing(response):
                body = self._read_body(response).replace(self._token, b"[secret]")
                return Response(response.status_code, response.headers, body)
        except Exception as error:  # N26: urllib3 raises much that requests does not wrap
            reason = network_reason(error)
            for pattern, failure, text in FINAL_FAULTS:
                if re.match(pattern, f"{type(error).__name__}: {reason}"):
                    text = text.format(host=self.host, proxy=proxy_variable(), reason=reason)
                    raise failure(text) from error
            if isinstance(error, requests.Timeout):
                reason = f"no answer within {self.timeout:g} s"
            if self._session.proxies:
                reason += " through the proxy"
            return Response(0, {}, b"", reason)

    def _read_body(self, response: Any) -> bytes:
        """Return the decoded body; raises ValueError if it is too long or too slow (N25)."""
        body = bytearray()
        deadline = time.perf_counter() + RESPONSE_TIMEOUTS * self.timeout
        read = getattr(response.raw, "read1", response.raw.read)  # urllib3 1 lacks read1
        while part := read(2**18, decode_content=True):
            body += part
            if len(body) > RESPONSE_LIMIT:
                raise ValueError(f"response larger than {RESPONSE_LIMIT // 2**20} MiB")
            if time.perf_counter() > deadline:
                raise ValueError("response takes too long")
        return bytes(body)


def proxy_variable() -> str:
    """Return the name of the environment variable that sets the proxy for https."""
    names = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
    return next((name for name in names if os.environ.get(name)), "HTTPS_PROXY")


PROXY_URL = re.compile(  # a user only after a scheme
    r"(?:(?:https?|socks4a?|socks5h?)://(?:[^\s/?#@:]+(?::(?P<password>[^\s/?#@]*))?@)?)?"
    r"(?:[\w-]+(?:\.[\w-]+)*\.?|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?/?",
    re.ASCII | re.IGNORECASE,
)


def check_proxy(url: str) -> None:
    """Raise ConfigError for a proxy that cannot be used; its value is never shown."""
    match = PROXY_URL.fullmatch(url)
    if not match or not 0 < int(match["port"] or 80) < 2**16:
        raise ConfigError(
            f"{proxy_variable()} must look like http://user:password@host:port "
            "(write / and @ in the password as %2F and %40)."
        )
    password = match["password"] or ""
    SECRETS.update(text for text in (url, password, unquote(password)) if len(text) > 3)


# Errors that no retry fixes: pattern, exception to raise, message.
FINAL_FAULTS = (
    (
        r"InvalidSchema|ProxyError.*\b40[137]\b",  # tinyproxy: 401 for a wrong password
        ConfigError,
        "Cannot use the proxy in {proxy} ({reason}).",
    ),
    (
        "SSLError.*CERTIFICATE_VERIFY_FAILED",
        RunError,
        "The certificate of {host} is not trusted: {reason}. Check REQUESTS_CA_BUNDLE.",
    ),
    (
        r"SSLError: (\[X509|.*Permission denied)|OSError: .*TLS CA certificate",
        ConfigError,
        "Certificates cannot be read ({reason}). Check REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE.",
    ),
)


def network_reason(error: BaseException) -> str:
    """Return the innermost reason for a network error: the outer ones repeat the URL."""
    inner = [error]
    while inner:
        error = inner[0]
        parts = (getattr(error, "reason", None), *error.args)
        inner = [part for part in parts if isinstance(part, BaseException)]
    words = re.sub(r"^(<[^>]*>|HTTPS?Connection\([^)]*\)): ", "", str(error))
    return clean(words) or "no answer"


class Client:
    """Sends each request until a response settles it; the one place that retries.

    An attempt waits for its tokens and is sent unless the run is stopping. After RETRY the
    request is sent again, up to max_retries times; then a GET raises, and a DELETE returns
    the last response. PAUSE holds all workers and is not a retry; many in a row, or a long
    wait, end the run. FATAL ends it, but a 401 or 403 after earlier successes is retried
    once. Each response is logged.
    """

    def __init__(self, config: Config, stop: Stop, log: logging.Logger) -> None:
        self.counts = Counter(requests=0, retries=0, rate_limited=0)
        # Seconds that the last response took.
        self.latency = 0.0
        self.bucket = TokenBucket(
            config.rate_limit, config.min_requests_remaining, sleep=stop.sleep
        )
        self.stop = stop
        self._config, self._log = config, log
        # Guards the counts.
        self._lock = threading.Lock()
        # Holds each thread's connection.
        self._local = threading.local()
        # Connection in use => when its request was sent, on the clock of `tick`.
        self.in_flight: dict[Connection, float] = {}
        # Seconds since the oldest request in flight was sent.
        self.longest_wait = 0.0
        # Seconds that the process was awake, and when that was last updated.
        self._awake, self._updated_at = 0.0, time.perf_counter()
        # When the longest announced wait ends, and its description.
        self._notice = (-math.inf, "")
        # Whether the store has accepted the token.
        self._is_accepted = False

    def connection(self) -> Connection:
        """Return this thread's own connection."""
        if not hasattr(self._local, "connection"):
            self._local.connection = Connection(self, self._config)
        connection: Connection = self._local.connection
        return connection

    def send(self, request: Request) -> Response:
        """Return the response that settles the request; its rulings are in `request`.

        A DELETE returns the last response, whatever it means. A GET raises ReadRejected or
        RetriesExhausted if it fails. Raises the RunError that ends the run.
        """
        while True:
            response = self._attempt(request)
            ruling = classify(request, response)
            request.rulings.append(ruling)
            self._is_accepted |= ruling.action is Action.DONE
            is_settled = ruling.action in (Action.DONE, Action.REJECTED)
            if Action.PAUSE in [item.action for item in (ruling, *ruling.items.values())]:
                self._wait(response, self.bucket.rate_limited(request.sent_at), "rate_limited")
            elif is_settled:
                self.bucket.succeeded()
            if ruling.action is Action.REJECTED and not (request.batch or request.is_optional):
                raise ReadRejected(explain(request, response, self._config), response.status)
            if is_settled or (request.is_optional and ruling.action is not Action.PAUSE):
                return response
            tries = [earlier.action for earlier in request.rulings].count(ruling.action)
            is_stray = response.status in (401, 403) and self._is_accepted and tries == 1
            if ruling.action is Action.FATAL and not is_stray:
                raise self.stop.set(RunError(explain(request, response, self._config)))
            if ruling.action is Action.RETRY and tries > self._config.max_retries:
                if request.batch:
                    return response
                raise RetriesExhausted(f"Cannot reach the store: {response.message}.")
            if ruling.action is not Action.PAUSE:
                self._wait(response, tries, "retries")

    def _attempt(self, request: Request) -> Response:
        """Send the request once, when it has its tokens; raises the error of a stop."""
        request.cost = self.bucket.acquire(request.cost)
        self.stop.check()
        if not request.rulings:
            request.before_send()
            self.stop.check()  # N8: a stop may have come while the journal was written
        request.sent_at, connection = time.monotonic(), self.connection()
        self.in_flight[connection] = self._awake
        try:
            response = connection.send_once(request)
        except RunError as failure:
            raise self.stop.set(failure) from None
        finally:
            del self.in_flight[connection]
        self.latency = took = time.monotonic() - request.sent_at
        self.bucket.update_from_headers(response.headers, request.sent_at, request.cost)
        if self.bucket.window.largest() < 1:
            limit = f"below the store's quota ({self.bucket.window.quota})"
            fault = f"{self._config.path}: min_requests_remaining must be {limit}."
            self.stop.set(ConfigError(fault))  # not raised: this response is settled
        self._count("requests")
        left = quota_header(response.headers, "Requests-Left")
        words = "" if response.status in (200, 202, 204) else f": {response.message}"
        self._log.info(
            f"{utc_now()} {request.method} /stores/{self._config.store_hash}/{request.target} "
            f"{response.status} {took * 1000:.0f} ms, quota left: {left}{words}"
        )
        return response

    def _wait(self, response: Response, tries: int, reason: str) -> None:
        """Wait before the next attempt: the longer of backoff and what the response asks.

        tries: attempts in a row with this result; reason: the counter to increment. After a
        429, or if the response asks to wait, all workers wait. The first 429 in a row sets
        the wait. From the second on its headers were too short, so the wait grows.
        """
        if response.wait > LONGEST_WAIT:
            wait = f"{response.wait / 60:,.0f} minutes ({response.status})"
            fault = RunError(f"The store requires a wait of {wait}. Resume after that.")
            raise self.stop.set(fault)
        self._count(reason)
        seconds = max(response.wait, backoff(tries - 1, random.random()))
        if reason == "rate_limited":
            if tries >= MAX_RATE_LIMITED:
                text = f"Rate-limited (429) {tries} times in a row"
                raise self.stop.set(RunError(f"{text}. Resume when other apps are less busy."))
            if tries <= 1 and response.wait:
                seconds = response.wait
            words = "rate-limited, retrying"
        else:
            result = f"error {response.status}" if response.status else "no answer"
            words = f"{result}, retry {tries} of {self._config.max_retries}"
        self._notice = max(self._notice, (time.monotonic() + seconds, words))
        if response.wait or reason == "rate_limited":
            self.bucket.pause(seconds)
        else:
            self.stop.sleep(seconds)

    def _count(self, name: str) -> None:
        with self._lock:
            self.counts[name] += 1

    def tick(self) -> None:
        """Advance the clock that times requests in flight; called ten times a second.

        N33: time in which the machine slept, or the process was stopped, does not count.
        """
        now = time.perf_counter()
        self._awake += min(now - self._updated_at, 1.0)
        self._updated_at = now
        self.longest_wait = self._awake - min([self._awake, *self.in_flight.values()])

    def waiting_for(self) -> str:
        """Return why requests are waiting; "" if the wait is short."""
        now, window = time.monotonic(), self.bucket.window
        ends, words = self._notice
        if ends > now:
            return f"{words} in {math.ceil(ends - now)}s"
        if self.longest_wait >= 2:
            return f"no answer yet for {self.longest_wait:.0f}s"
        if window.tokens() < 1 <= window.end - now:
            return f"quota used up, resuming in {math.ceil(window.end - now)}s"
        return ""


def explain(request: Request, response: Response, config: Config) -> str:
    """Return a message for a response that ends the run, with what to do."""
    status, resource = response.status, request.resource
    verb = "delete" if request.method == "DELETE" else "read"
    words = response.message.replace(" ", ": ", 1)
    if status == 401:
        return f"Access token rejected (401). Check access_token in {config.path}."
    if status == 403:
        fault = f"Not allowed to {verb} {resource.plural} ({words})"
        return f"{fault}. The API account may lack the scope {resource.scope}."
    if status == 404:
        return f"Store not found ({words}). Check store_hash in {config.path}."
    if 300 <= status <= 399:
        fault = f"Unexpected redirect ({status}) from {config.host}"
        return f"{fault}. Redirects are not followed. Check store_hash and BC_API_ENDPOINT."
    return f"Cannot {verb} {resource.plural}: {response.message}."


@dataclass(frozen=True)
class Page:
    """One page of a list."""

    records: list[Record]
    # Total in the response; for V2, the records on this page.
    total: int = 0
    # Page size in the response, of any type.
    per_page: Any = None


def read_page(response: Response, resource: Resource) -> Page:
    """Return the page in a response; raises InvalidResponse if it is invalid."""
    body = [] if response.status == 204 else response.json  # V2: an empty page is a 204
    records, total = body, 0
    if resource.has_total:
        records = value_at(body, "data")
        total = value_at(body, "meta.pagination.total")
    if not isinstance(records, list) or type(total) is not int or not 0 <= total < 10**12:
        raise InvalidResponse(f"The store returned an invalid list of {resource.plural}.")
    for record in records:
        number = value_at(record, resource.id_field)
        if type(number) is not int or not 0 < number < 2**63:
            raise InvalidResponse(
                f"The store returned {resource.plural} with an invalid id: {clean(number)!r}."
            )
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
        # Ids in one read; 1 by path id.
        self.chunk_size = self.resource.max_read if self.resource.id_filter else 1
        # Whether any page has been read.
        self.has_listed = False
        self._count_items = config.count_items
        # Parameters of a list: sub-resources only for the backup or a --match.
        self.params = {**self.resource.params}
        plain = {name.partition(":")[0] for name in self.resource.filter_types()}
        fields_matched = {match.path.partition(".")[0] for match in config.match}
        if config.no_backup and fields_matched <= plain.union(self.resource.display_fields):
            self.params.pop("include", None)

    def requests_for(self, count: int) -> int:
        """Return the tokens needed to delete this many ids and read them back."""
        ids_per_token = 1 if self._count_items else self.batch_size
        return math.ceil(count / ids_per_token) + math.ceil(count / self.chunk_size)

    def info(self) -> Record | None:
        """GET /v2/store: name, domain, plan, time zone; None without the permission."""
        request = Request("GET", STORE_INFO, STORE_INFO.path, tolerated=403)
        response = self.client.send(request)
        is_read = response.status == 200 and isinstance(response.json, dict)
        return response.json if is_read else None

    def group_names(self) -> tuple[dict[str, object], str]:
        """Return id => name of the customer groups, and why some cannot be read, or "".

        The run does not need them, so only a 429 is retried.
        """
        names: dict[str, object] = {}
        for number in itertools.count(1):
            params = {"page": number, "limit": PAGE_LIMIT}
            request = Request("GET", CUSTOMER_GROUPS, CUSTOMER_GROUPS.path, params)
            request.is_optional = True
            response = self.client.send(request)
            try:
                groups = read_page(response, CUSTOMER_GROUPS).records
            except InvalidResponse:
                return names, response.message
            known = len(names)
            for group in groups:
                names[str(group["id"])] = group.get("name")
            # A page of that many may not be the last: some stores cap what is asked for.
            if len(groups) < SMALL_PAGE or len(names) == known:
                break
        return names, ""

    def page(self, resource: Resource, page: int = 1, **params: Any) -> Page:
        """Return a page of a list, by the SDK's iterall.

        Raises ReadRejected, RetriesExhausted, and InvalidResponse for an invalid page.
        """
        connection = self.client.connection()
        params = {"connection": connection, "limit": PAGE_LIMIT, "page": page} | params
        records = [*record_class(resource.path).iterall(**params)]
        self.has_listed = True
        return replace(connection.page, records=records)

    def find(self, filter_name: str, values: Sequence[Any], **params: Any) -> list[Record]:
        """Return the records with these ids or addresses.

        Raises InvalidResponse for duplicates, a differing total, or other ids. A request
        that is too long or unanswered, or matches more than a page, is split in halves.
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
                raise InvalidResponse(
                    f"The store returned incomplete or unrelated records for {filter_name}."
                )
        except (ReadRejected, RetriesExhausted) as failure:
            status = getattr(failure, "http_status", 0)
            if len(values) < EMAIL_LIMIT or status not in (0, 400, 413, 414):
                raise
            if is_by_id:
                self.chunk_size = min(self.chunk_size, half)
        parts = [self.find(filter_name, part, **params) for part in chunks(values, half)]
        return [*itertools.chain.from_iterable(parts)]

    def existing(self, ids: Sequence[int]) -> set[int] | None:
        """Return the ids that exist; None if the response is unreliable.

        At most `chunk_size` ids: by the list's id filter, or by path id, where a 404
        means that the record does not exist.
        """
        if self.resource.id_filter:
            try:
                return {*map(self.resource.id_of, self.find(self.resource.id_filter, ids))}
            except InvalidResponse:
                return None
        found = set()
        for number in ids:
            path = f"{self.resource.path}/{number}"
            response = self.client.send(Request("GET", self.resource, path, tolerated=404))
            if response.status == 404 and response.is_json:  # not a proxy's page
                continue
            record = value_at(response.json, "data") or response.json
            if value_at(record, self.resource.id_field) != number:
                return None
            found.add(number)
        return found

    def delete_batch(self, batch: Batch, journal: Journal) -> BatchResult:
        """Send the batch's DELETE, journaled before it is sent; raises no RunError."""
        path, params = delete_target(self.resource, batch)
        cost = len(batch) if self._count_items else 1
        request = Request("DELETE", self.resource, path, params, batch, cost)
        request.before_send = partial(journal.sent, batch)
        is_complete = True
        try:
            self.client.send(request)
        except RunError as failure:
            self.client.stop.set(failure)
            is_complete = False
        return batch_result(batch, request.rulings, is_complete=is_complete)


class Workers(ThreadPoolExecutor):
    """The thread pool for store requests; for the main thread only."""

    def __init__(self, count: int, stop: Stop, on_wait: Callable[[], None]) -> None:
        super().__init__(max_workers=count)
        self.count = count
        self.stop = stop
        # Called a few times a second in every wait.
        self._on_wait = on_wait

    def call(self, function: Callable[..., R], *args: Any, **kwargs: Any) -> R:
        """Call the function in a worker, and return its result."""
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
        """Wait for the result; raises the error of a stop."""
        self.await_any([future])
        return future.result()

    def await_any(
        self, pending: Iterable[Future[R]], *, deletes: bool = False
    ) -> set[Future[R]]:
        """Return the futures that are done, at least one.

        Raises the error of a stop: at once if reads are awaited; if deletes are, only at a
        second signal (N9).
        """
        while True:
            self._on_wait()
            done, _ = wait(pending, timeout=POLL, return_when=FIRST_COMPLETED)
            if done:
                return done
            if self.stop.force_exit or not deletes:
                self.stop.check()

    def sleep(self, seconds: float) -> None:
        """Sleep while redrawing the screen; raises RunError at a stop."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._on_wait()
            self.stop.sleep(POLL)


# --- listing ------------------------------------------------------------------------
#
# Reads the records in the store, completely or not at all, and selects from them: each
# selected record streams to the backup while memory keeps its id. Selection is applied
# in this order: filters or ids, match, keep, orders, limit.

LISTING_TRIES = 4  # the first, and three more if records change meanwhile


class Selection:
    """Selects record by record, and counts excluded records."""

    def __init__(self, config: Config, with_orders: Set[int]) -> None:
        self.ids: list[int] = []
        # The oldest three of the selected records, and the newest.
        self.sample: list[Record] = []
        # Whether --limit is reached.
        self.is_full = False
        # Records listed more than once, and repeated entries of --ids.
        self.duplicates = 0
        # Records in the store; -1 if unknown.
        self.total = -1
        # Records excluded by keep lists or orders, and those with orders.
        self.excluded = self.excluded_by_orders = 0
        # Records that are incomplete in the backup.
        self.truncated = 0
        # Customers with orders; empty unless they are excluded.
        self.with_orders = with_orders
        # The matcher of --ids (empty without it), and one for each --keep.
        self.ids_list = ListMatcher(config.ids or ListFile("--ids"), config.resource)
        self.keep_lists = [ListMatcher(entries, config.resource) for entries in config.keep]
        self.lists = [self.ids_list, *self.keep_lists]
        # Filter with several values => the values that match no record.
        self.unmatched_values = {
            item.name: {*item.values} for item in config.filter.values() if len(item.values) > 1
        }
        # Filter that the store ignored => a returned record that does not match.
        self.ignored_filters: dict[str, int] = {}
        # FIELD!=REGEX expressions that have excluded no record yet.
        self.idle_exclusions = [match for match in config.match if match.negated]
        # Paths of --match that no record has, and the fields that records have.
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
        if config.ids and not self.ids_list.matches(record):
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
        matching = {name: item.matching_values(record) for name, item in filters.items()}
        for name, values in matching.items():
            if not values and not filters[name].is_boundary(record):
                self.ignored_filters.setdefault(name, self._config.resource.id_of(record))
        if not all(matching.values()):
            return False
        for name, unmatched in self.unmatched_values.items():
            unmatched -= matching[name]
        return True

    @property
    def compared(self) -> list[ListMatcher]:
        """Return the lists compared completely: not --ids once --limit is reached."""
        return self.keep_lists if self.is_full else self.lists


def sample_lines(records: Sequence[Record], resource: Resource) -> list[str]:
    """Return records in columns that fit 80, with headings; "…" before the newest."""
    names = [resource.id_field, *resource.display_fields]
    names = [name for name in names if name not in ("first_name", "last_name")]
    rows = [[name.removeprefix("date_") for name in names]]
    for record in records:
        values = [re.sub(r"(-\d\d)T\d\d:.*", r"\1", str(record.get(name))) for name in names]
        limits = [32 if name == "email" else 20 for name in names]
        rows.append([*map(printable, values, limits)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    if len(records) > 3:
        lines.insert(-1, "…")
    return lines


@dataclass
class Collector:
    """Lists the records in the store, and selects from them."""

    store: Store
    workers: Workers
    progress: Progress
    config: Config
    # Ids in the current listing, and the number of repeated records.
    seen: set[int] = field(default_factory=set)
    duplicates: int = 0
    # Records in the store; -1 if unknown.
    total: int = -1
    # Customers with orders, as far as orders have been read.
    with_orders: set[int] = field(default_factory=set)
    next_order: int = 1

    def collect(self, files: RecordFiles) -> Selection:
        """Return the selection, and write its records to the files."""
        config, selection = self.config, Selection(self.config, self.with_orders)
        is_narrowed = bool(config.filter or config.ids)
        if is_narrowed and config.resource.has_total:
            self.total = self.workers.call(self.store.page, config.resource, limit=1).total
        files.restart()
        pages = self.listing(config.filter)
        if config.ids:
            self.begin(len(config.ids))
            pages = self.candidates(selection.ids_list)
        for records in pages:
            if records is None:
                selection = Selection(config, self.with_orders)
                files.restart()
                continue
            with self.workers.stop.raising():  # a regex may be very slow
                selected = selection.select(records)
            files.write(selected)
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
        there are few: a listing returns 250 a request, a look-up 50. Unmatched entries are
        looked up once more, addresses in lower case: an empty response may be a stray one,
        and a store may be case-sensitive.
        """
        store, known = self.store, self.store.resource.filter_types()
        steps = (
            (store.resource.id_filter, partial(matcher.unmatched, int)),
            ("email:in", partial(matcher.unmatched, str)),
            ("email:in", matcher.keys_of_unmatched_ids),
        )
        is_possible = all(name in known or not unmatched() for name, unmatched in steps)
        is_fast = 10 * len(matcher.unmatched(str)) <= max(0, self.total)
        if not (is_possible and is_fast):
            yield from self.listing({})
            return
        self.seen = set()  # a keep list has not seen the records beyond --limit
        for normalize in (str, str.lower):
            for name, unmatched in steps:
                values = [*map(normalize, unmatched())]
                size = EMAIL_LIMIT if name == "email:in" else store.chunk_size
                find = partial(store.find, name, **store.params)
                try:
                    for records in self.workers.in_order(find, chunks(values, size)):
                        yield self.unseen(records)
                except InvalidResponse as failure:
                    self.progress.warn(f"{failure} Listing all records.")
                    yield None
                    yield from self.listing({})
                    return

    def listing(self, filters: Mapping[str, Filter]) -> Iterator[list[Record] | None]:
        """Yield all records, a page at a time and each once; None if it starts over.

        The listing is complete, or an error ends it: Refused if records changed in each of
        four tries, RetriesExhausted if even a small page gets no answer.
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
                    raise Refused(
                        f"Records changed during each of {LISTING_TRIES} listings. "
                        "Try again when the store is quiet."
                    ) from change
                self.progress.warn("Records changed during listing; starting over.")
            except RetriesExhausted:
                if not tries_left or store.page_size == SMALL_PAGE:
                    raise
                store.page_size = SMALL_PAGE
                text = f"starting over with {SMALL_PAGE} records a page"
                self.progress.warn(f"No answer to a page request; {text}.")
            yield None

    def pages_by_number(self, sent: Mapping[str, str]) -> Iterator[list[Record]]:
        """Yield the pages of a V3 list; raises ListingChanged if it may be incomplete.

        Each deletion moves later records up one place, so one can move to a page that was
        already read. Therefore the last page is read right after the first, and both again
        at the end: neither may have changed. Where the API sorts by age, records added since
        the first page come after the total and are ignored. The total may count one page
        only.
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
        if size == total:  # not the page size, which may be smaller than requested
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
        """Yield the pages of a V2 list with ids from `first` on.

        Each page starts after the last id of the previous one, so deletions do not shift
        them; an empty page ends the list. Raises InvalidResponse if the ids do not rise.
        """
        params = {**resource.params, **sent, "limit": self.store.page_size}
        read = partial(self.workers.call, self.store.page, resource, **params)
        # A single empty page may be a stray response: two end the list.
        while records := read(min_id=first).records or read(min_id=first).records:
            ids = [*map(resource.id_of, records)]
            if ids[0] < first or ids != sorted({*ids}):
                raise InvalidResponse(
                    f"The store returned {resource.plural} out of order, "
                    "so the listing may be incomplete."
                )
            yield records
            first = ids[-1] + 1

    def begin(self, total: int) -> None:
        """Begin a listing of `total` records; 0 means unknown."""
        self.seen, self.duplicates = set(), 0
        self.progress.begin(total)
        requests = total // PAGE_LIMIT + self.store.requests_for(total)
        self.store.client.bucket.set_remaining(requests)

    def unseen(self, records: Sequence[Record]) -> list[Record]:
        """Return the records that have not been listed before."""
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
                    raise InvalidResponse(
                        f"The store returned order {order['id']} without a customer_id."
                    )
                self.with_orders.add(customer)
            self.next_order = orders[-1]["id"] + 1
            self.progress.advance(len(orders))
        self.with_orders.discard(0)  # guests

    def parents(self) -> dict[int, int]:
        """Return record => parent or 0, if deleting a parent deletes its children.

        Empty for other resources. Raises InvalidResponse for an unknown parent.
        """
        resource, parents = self.store.resource, dict[int, int]()
        for records in self.listing({}) if resource.parent else ():
            for record in records or ():
                number, parent = resource.id_of(record), record.get(resource.parent)
                if type(parent) is not int or parent < 0:
                    raise InvalidResponse(
                        f"The store returned {resource.singular} {number} "
                        f"without a valid {resource.parent}."
                    )
                parents[number] = parent
        return parents


def ancestors(number: int, parents: Mapping[int, int]) -> list[int]:
    """Return a record's ancestors, nearest first; a cycle ends the list."""
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
# The plan is the frozen list of ids to delete. The ledger has the state of each planned id,
# as recorded in the journal; outcomes are derived from it, so the counts always add up.
# Nothing here reads or writes.

PLAN_VERSION = 5


@dataclass(frozen=True)
class Plan:
    """The ids to delete, and everything needed to resume."""

    host: str
    store_hash: str
    # The name of the resource.
    resource: str
    filters: Mapping[str, str]
    # The other selection options, as given.
    selection: Mapping[str, str]
    # Panel rows on the selection: label => text.
    facts: Mapping[str, str]
    # Panel warnings => whether each is a likely mistake, refused with --yes.
    warnings: dict[str, bool]
    # UTC, ISO 8601.
    created_at: str
    # By the keys of summary.json.
    counts: Mapping[str, int]
    # Whether backup.jsonl has the records.
    backup: bool
    # As listed; children are deleted before their parents all the same.
    ids: Sequence[int]

    def text(self) -> str:
        """Return the plan as JSON, with a SHA-256 over all of it."""
        values = {"version": PLAN_VERSION, "selected": len(self.ids), **vars(self)}
        return json.dumps({"sha256": sha256_of(values), **values}) + "\n"

    def age(self) -> timedelta:
        """Return the plan's age, by the wall clock."""
        return datetime.now(UTC) - datetime.fromisoformat(self.created_at)


def sha256_of(values: Mapping[str, Any]) -> str:
    """Return the SHA-256, in hex, of values as compact sorted JSON."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def parse_plan(text: str) -> Plan:
    """Return the plan from `Plan.text`; raises ValueError, TypeError or KeyError."""
    values = json.loads(text)
    if values["version"] != PLAN_VERSION:
        raise ValueError("made by another version of the tool")
    if values.pop("sha256") != sha256_of(values):
        raise ValueError("the SHA-256 does not match")
    if any(type(number) is not int or number <= 0 for number in values["ids"]):
        raise ValueError("an id is not a positive whole number")  # N4
    del values["version"], values["selected"]
    return Plan(**values)


class Ledger:
    """The state of the planned ids; each has one outcome, derived from the sets."""

    def __init__(self, planned: Set[int] = frozenset()) -> None:
        self.planned = planned
        # Ids that some DELETE of this run may have deleted.
        self.applied: set[int] = set()
        # Verified gone; never forgotten, never sent again.
        self.gone: set[int] = set()
        # id => the reason, in the store's words.
        self.failed: dict[int, str] = {}
        # id => the last message, where no DELETE was clearly accepted or rejected.
        self.doubts: dict[int, str] = {}
        # Seconds for which deleted records are still listed; None until measured.
        self.consistency_delay: float | None = None

    def counts(self) -> dict[str, int]:
        """Return how many ids have each outcome, by the keys of the summary.

        Gone records count as deleted if a DELETE of this run may have deleted them, else as
        already gone. Failed records still exist or were rejected. Unknown: a DELETE was
        accepted or may have been. Not attempted: no DELETE was sent.
        """
        deleted = len(self.gone & self.applied)
        unverified = (self.applied | self.doubts.keys()) - self.gone - self.failed.keys()
        counts = {
            "deleted": deleted,
            "already_gone": len(self.gone) - deleted,
            "failed": len(self.failed),
            "unknown": len(unverified),
        }
        return {**counts, "not_attempted": len(self.planned) - sum(counts.values())}

    def accepted(self) -> set[int]:
        """Return the ids whose DELETE was clearly accepted."""
        return self.applied - self.doubts.keys() - self.failed.keys()

    def apply(self, entry: Mapping[str, Any]) -> None:
        """Add an entry of the journal; N10: only a read makes an id `gone`."""
        gone, failed = entry.get("gone", ()), entry.get("failed", {})
        failed = {int(number): reason for number, reason in failed.items()}
        for number in (*entry.get("sent", ()), *entry.get("ids", ()), *gone, *failed):
            self.failed.pop(number, None)
            self.doubts.pop(number, None)
        self.applied.update(entry.get("applied", ()))
        self.gone.update(gone)
        self.doubts |= dict.fromkeys(entry.get("doubtful", ()), entry.get("answer", ""))
        self.failed |= failed


# --- run folder ---------------------------------------------------------------------
#
# The files of runs/<store_hash>-<resource>-<UTC time>/ that document a run and resume it,
# and the lock that limits them to one process. A write error becomes a RunError, and ends
# the run before an unrecorded DELETE can be sent.


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError, such as a full disk, into a RunError."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"Cannot write {error.filename or path} ({error.strerror or error}). "
            "Fix this, then try again."
        ) from error


def open_new(path: Path) -> TextIO:
    """Open an empty UTF-8 file; a lone surrogate is written as in JSON."""
    return open(path, "w", encoding="utf-8", errors="backslashreplace", newline="")


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Return rows as CSV; None is an empty cell."""
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def csv_cell(value: object) -> str:
    """Return a value as one line that no spreadsheet runs as a formula."""
    if value is None:
        return ""
    text = printable(value, DATA_LIMIT)
    if text.startswith(("=", "+", "-", "@")):
        return f"'{text}"
    return text


def json_line(record: Record) -> str:
    """Return a record as strict JSON on one line, in ASCII; 1e999 becomes text."""
    try:
        line = json.dumps(record)
        if "Infinity" in line:  # what Python makes of 1e999
            line = json.dumps(json.loads(line, parse_constant=str))
        return f"{line}\n"
    except RecursionError as error:  # nested too deeply
        raise InvalidResponse("The store returned a record nested too deeply.") from error


# Columns of BigCommerce's own customer import => fields of a customer [control panel].
REIMPORT_FIELDS = {
    "Email Address": "email",
    "First Name": "first_name",
    "Last Name": "last_name",
    "Company": "company",
    "Phone": "phone",
    "Notes": "notes",
}
# The same for each address; the columns end with " - 1" to " - 10".
REIMPORT_ADDRESS = {
    "Address First Name": "first_name",
    "Address Last Name": "last_name",
    "Address Company": "company",
    "Address Line 1": "address1",
    "Address Line 2": "address2",
    "Address City": "city",
    "Address State": "state_or_province",
    "Address Zip": "postal_code",
    "Address Country": "country",
    "Address Phone": "phone",
}
MAX_ADDRESSES = 10  # in a list of customers
REIMPORT_HEADER = [*REIMPORT_FIELDS, "Store Credit", "Customer Group"]
for place in range(1, MAX_ADDRESSES + 1):
    REIMPORT_HEADER += [f"{name} - {place}" for name in REIMPORT_ADDRESS]


class RecordFiles:
    """Streams selected records to selected.csv, backup.jsonl and reimport.csv."""

    def __init__(
        self,
        folder: Path,
        resource: Resource,
        backup: bool,
        groups: Mapping[str, object] | None,
    ) -> None:
        """Open the files; groups: id => name for reimport.csv, None without that file.

        All methods raise OSError if they cannot write.
        """
        self._resource, self._groups = resource, groups or {}
        header = csv_text([(resource.id_column, *resource.display_fields)])
        # Each with its first line, and the function that returns the line of a record.
        self._files = [(open_new(folder / "selected.csv"), header, self._selected_line)]
        if backup:
            self._files.append((open_new(folder / "backup.jsonl"), "", json_line))
        if groups is not None:
            file, header = open_new(folder / "reimport.csv"), csv_text([REIMPORT_HEADER])
            self._files.append((file, header, self._reimport_line))

    def restart(self) -> None:
        """Truncate the files to their headers."""
        for file, header, _ in self._files:
            file.seek(0)
            file.truncate()
            file.write(header)

    def write(self, records: Sequence[Record]) -> None:
        """Append the records."""
        for file, _, line_of in self._files:
            file.writelines(map(line_of, records))

    def close(self) -> None:
        """Sync the files to disk before anything is deleted, and close them."""
        for file, *_ in self._files:
            with file:
                file.flush()
                os.fsync(file.fileno())

    def _selected_line(self, record: Record) -> str:
        values = (record.get(name) for name in self._resource.display_fields)
        return csv_text([map(csv_cell, (self._resource.id_of(record), *values))])

    def _reimport_line(self, record: Record) -> str:
        """Return the values as the API returned them; a leading = stays."""
        row = [*map(record.get, REIMPORT_FIELDS.values())]
        row.append(value_at(record, "store_credit_amounts.0.amount"))
        row.append(self._groups.get(str(record.get("customer_group_id"))))
        for address in values_at(record, "addresses.*")[:MAX_ADDRESSES]:
            if isinstance(address, dict):
                row += map(address.get, REIMPORT_ADDRESS.values())
        return csv_text([row + [""] * (len(REIMPORT_HEADER) - len(row))])


class Journal:
    """journal.jsonl: append-only, synced, and locked to a single process.

    Each line has a time and one of: {"sent": ids}, before their DELETE is sent; {"ids",
    "answer", "applied", "doubtful", "failed": {id: reason}}, after it; {"gone": ids,
    "failed": {id: reason}}, after a read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # Guards the end of the file.
        self._lock = threading.Lock()
        # Batches sent without a recorded result. Adding, removing and
        # copying are single steps of the interpreter, so they need no lock.
        self.unanswered: set[Batch] = set()
        with writing(path):
            self.file = open(path, "a+b", buffering=0)  # noqa: SIM115  # held to the end
        try:
            lock_file(self.file.fileno())
        except BlockingIOError as error:
            raise Refused(f"{path.parent} is in use by another process.") from error
        except (OSError, ImportError) as error:
            raise Refused(
                f"{path.parent} cannot be locked ({error}). Use a folder on a local disk."
            ) from error

    def replay(self, planned: Set[int]) -> Ledger:
        """Return the ledger of earlier sessions; raises Refused if it is invalid.

        A torn last line is cut off, or the next one would be joined to it.
        """
        with writing(self._path):
            text = self._path.read_bytes()
            whole = text[: text.rfind(b"\n") + 1]
            self.file.truncate(len(whole))
        ledger, unanswered = Ledger(planned), set[int]()
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                entry = json.loads(line)
                sent = {*entry.get("sent", ())}
                ledger.applied |= unanswered & sent  # an earlier DELETE may have deleted them
                unanswered = (unanswered | sent) - {*entry.get("ids", ())}
                ledger.apply(entry)
            except (ValueError, AttributeError, TypeError, RecursionError) as error:
                raise Refused(f"{self._path}, line {number}: invalid journal entry.") from error
        ledger.applied |= unanswered
        ledger.doubts |= dict.fromkeys(unanswered, "no answer")
        if not planned >= {*ledger.applied, *ledger.doubts, *ledger.gone, *ledger.failed}:
            raise Refused(f"{self._path} does not match plan.json. Start a new run.")
        return ledger

    def sent(self, batch: Batch) -> None:
        """Record the batch before its DELETE is sent (N12, N13)."""
        self.unanswered.add(batch)
        self.append({"sent": batch})

    def append(self, entry: Mapping[str, Any]) -> None:
        """Append an entry and sync it to disk; raises RunError if that fails."""
        line = json.dumps({"time": utc_now(), **entry}).encode() + b"\n"
        with writing(self._path):
            with self._lock:
                size = os.fstat(self.file.fileno()).st_size
                try:
                    if self.file.write(line) != len(line):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                except OSError:
                    self.file.truncate(size)  # else the next line would be joined to this
                    raise
            os.fsync(self.file.fileno())  # unlocked: one may sync several lines


class RunFolder:
    """The folder of one run, with its journal locked and its log open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.journal = Journal(path / "journal.jsonl")
        logging.raiseExceptions = False  # the journal reports a full disk
        self.log = logging.Logger("run.log", logging.INFO)
        with writing(path):
            self._log_file = logging.FileHandler(path / "run.log", encoding="utf-8")
        self.log.addHandler(self._log_file)

    @classmethod
    def create(cls, config: Config) -> RunFolder:
        """Create a new folder, mode 0700; raises ConfigError if that fails."""
        now = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        path = config.runs_dir / f"{config.store_hash}-{config.resource.name}-{now}"
        try:
            config.runs_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            with suppress(OSError), open(config.runs_dir / ".gitignore", "x") as file:
                file.write("*\n")
            while True:
                with suppress(FileExistsError):
                    path.mkdir(mode=0o700)
                    return cls(path)
                path = path.with_name(f"{path.name}-2")  # started in the same second
        except OSError as error:
            raise ConfigError(
                f"Cannot create a run folder in {config.runs_dir} ({error.strerror}). "
                "Use another --runs-dir."
            ) from error

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open the folder of an earlier run; raises ConfigError if it has no plan."""
        if not os.path.isfile(path / "plan.json"):
            raise ConfigError(f"--resume {path}: not a run folder (no readable plan.json).")
        return cls(path)

    def write(self, name: str, text: str) -> None:
        """Replace a file atomically, even in a power cut."""
        path, draft = self.path / name, self.path / f"{name}.new"
        with writing(path):
            with open_new(draft) as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            replace_file(draft, path)
            sync_folder(self.path)

    def write_csv(self, name: str, rows: Iterable[Iterable[object]]) -> None:
        """Write a CSV for people."""
        self.write(name, csv_text(map(csv_cell, row) for row in rows))

    def write_failed(self, failed: Mapping[int, str], resource: Resource) -> None:
        """Write failed.csv: id, the fields of selected.csv, and the reason."""
        fields = resource.display_fields
        shown = {str(number): [""] * len(fields) for number in sorted(failed)}
        for number, *values in self.rows("selected.csv"):
            if number in shown and len(values) == len(fields):
                shown[number] = values
        rows = [[number, *values, failed[int(number)]] for number, values in shown.items()]
        self.write_csv("failed.csv", [["id", *fields, "reason"], *rows])

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json."""
        self.write("summary.json", json.dumps(summary, indent=1) + "\n")

    def rows(self, name: str) -> Iterator[list[str]]:
        """Yield the rows of a CSV; none if it is missing or damaged."""
        path = self.path / name
        with (
            suppress(OSError, csv.Error),
            open(path, encoding="utf-8", errors="replace", newline="") as file,
        ):
            yield from filter(None, csv.reader(file))

    def read_plan(self, config: Config) -> Plan:
        """Return the plan; raises Refused if it was modified or is for another store."""
        path = self.path / "plan.json"
        try:
            plan = parse_plan(path.read_text(encoding="utf-8"))
        except Exception as error:  # the file may contain anything
            raise Refused(
                f"{path} is invalid or was modified ({clean(error)}). Start a new run."
            ) from error
        for name in ("host", "store_hash"):
            planned, given = getattr(plan, name), getattr(config, name)
            if planned != given:
                raise Refused(
                    f"Store mismatch: {path} is for {clean(planned)}, "
                    f"but {config.path} is for {given}."
                )
        return plan

    def backup_faults(self, plan: Plan) -> list[str]:
        """Return a warning if the backup lacks planned records; else []."""
        if not plan.backup:
            return []
        path, id_field = self.path / "backup.jsonl", RESOURCES[plan.resource].id_field
        missing = {*plan.ids}
        with suppress(OSError), open(path, "rb") as file:
            for line in file:
                with suppress(ValueError, AttributeError, TypeError, RecursionError):
                    missing.discard(json.loads(line).get(id_field))
        if not missing:
            return []
        count = f"{len(missing):,} of {len(plan.ids):,} records"
        return [f"Backup incomplete: {path} lacks {count}"]

    def earlier_summary(self) -> Record:
        """Return the summary of the last session; {} if there is none."""
        with suppress(OSError, ValueError, TypeError, RecursionError):
            return dict(json.loads((self.path / "summary.json").read_text(encoding="utf-8")))
        return {}

    def discard(self) -> None:
        """Remove the folder of a run that listed or selected nothing."""
        self.log.removeHandler(self._log_file)
        with suppress(OSError):  # a full disk
            self._log_file.close()
        self.journal.file.close()
        shutil.rmtree(self.path, ignore_errors=True)


# --- delete and verify --------------------------------------------------------------
#
# Executes and verifies the plan. Only a read makes an id `gone`. `existing` is used
# throughout: before the first DELETE (are reads reliable?), after the first batch (does
# deleting work?), on a resume (what remains?) and at the end (is it gone?).

MAX_EXHAUSTED = 5  # requests in a row that used up their retries end the run
# Seconds before each further read of remaining records: 60 in total, the longest
# consistency delay allowed.
READ_DELAYS = [1.0, 2.0, 3.0, 4.0, 5.0, 5.0, 10.0, 10.0, 10.0, 10.0]
PATH_READS = 20  # ids that one worker reads by path id, one at a time
MAX_WITHOUT_EFFECT = 10  # batches in a row, before one is verified


@dataclass
class Executor:
    """Deletes planned ids and verifies the deletions.

    Three steps: `check_reads`, `delete` (the first batch alone), `verify`.
    """

    store: Store
    workers: Workers
    progress: Progress
    ledger: Ledger
    journal: Journal
    # Percent of the plan.
    max_error_rate: float
    # Record => its parent, if deleting a parent deletes its children; else empty.
    parents: Mapping[int, int] = field(default_factory=dict)
    # Ids that failed in this session, and the store's last error message.
    failing: set[int] = field(default_factory=set)
    last_error: str = ""
    # Requests in a row that used up their retries.
    exhausted: int = 0

    def note(self, **entry: Any) -> None:
        """Add an entry to the ledger and the journal."""
        self.ledger.apply(entry)
        self.journal.append(entry)

    # Reading

    def check_reads(self, ids: Sequence[int], known: Sequence[int] = ()) -> None:
        """Check that the store returns the records that exist: the read check.

        An absence is reliable only if existing records are returned. The largest ids are
        read as in verification, between known ids, which exist. If one is missing, smaller
        reads follow until all are returned: an id that only a smaller read returns was
        ignored by the larger one; an id that none returns was deleted by others. Raises
        Canceled if no size works.
        """
        store = self.store
        known = known[: store.chunk_size]
        others = heapq.nlargest(store.chunk_size - len(known), {*ids} - {*known})
        sample = [*known[::2], *others, *known[1::2]]
        while True:
            size = store.chunk_size
            found = self.read_parts(sample, size)
            missing = [number for number in sample if number not in found]
            smaller = (min(size, len(sample)) + 1) // 2
            ignored = self.read_parts(missing, smaller)
            if found and None not in found and not ignored and found.issuperset(known):
                return
            if size == 1:
                raise Canceled(
                    "Deletions cannot be verified: the store listed "
                    f"{store.resource.singular} {missing[0]} but does not return it by id."
                )
            store.chunk_size = min(smaller, store.chunk_size)  # or halved, if too long
            store.batch_size = min(store.batch_size, store.chunk_size)

    def read_parts(self, ids: Sequence[int], size: int) -> set[int | None]:
        """Return the ids that exist, read in parts; with None if a read is unreliable."""
        found: set[int | None] = set()
        for existing in self.workers.in_order(self.store.existing, chunks(ids, size)):
            found |= {None} if existing is None else existing
        return found

    def known_ids(self) -> list[int]:
        """Return a few ids that exist: the last of the first page.

        A list may show deleted records for a while, as its id filter does. A read by path
        id does not, so there only records without a DELETE count.
        """
        store, resource = self.store, self.store.resource
        read = partial(self.workers.call, store.page, resource, limit=store.page_size)
        try:
            records = read().records or read().records  # an empty page may be a stray one
        except RetriesExhausted:
            if store.page_size == SMALL_PAGE:
                raise
            store.page_size = SMALL_PAGE
            return self.known_ids()
        ids = [*map(resource.id_of, records)]
        if not resource.id_filter:
            sent = self.ledger.applied | self.ledger.gone
            ids = [number for number in ids if number not in sent]
        return ids[-6:]

    def read_back(
        self, ids: Sequence[int], is_progress: bool = True
    ) -> tuple[list[int], list[int]]:
        """Read planned ids back, and record the verified ones (N10, N13).

        Returns the ids that exist and have not failed, and those without a reliable
        response. A record that exists after a 404 has failed; after a time-out it may still
        be deleted.
        """
        ledger, existing_ids, unreadable = self.ledger, list[int](), list[int]()
        accepted = ledger.accepted()
        size, known = self.store.chunk_size, list[int]()
        if ids and not self.store.resource.id_filter:
            # A store that answers everything with 404 would seem empty, so each part ends
            # with a listed record.
            size, known = PATH_READS, self.known_ids()[-1:]
        parts = [*chunks(ids, size)]
        reads = self.workers.in_order(self.store.existing, ([*part, *known] for part in parts))
        for part, existing in zip(parts, reads, strict=True):
            if existing is None or not existing.issuperset(known):
                unreadable += part
                continue
            gone = [n for n in part if n not in existing]
            # N10: a response may be a stray one, so absences without an accepted DELETE are
            # read once more.
            unexplained = [n for n in gone if n not in accepted]
            if unexplained and self.workers.call(self.store.existing, unexplained) != set():
                unreadable += part
                continue
            rejected = ledger.doubts.keys() & existing - ledger.applied
            failed = {n: ledger.doubts[n] for n in rejected}
            if gone or failed:
                self.note(gone=gone, failed=failed)
            self.failing.difference_update(gone)
            existing_ids += [n for n in part if n in existing and n not in ledger.failed]
            self.progress.advance(len(part) * is_progress)
        return existing_ids, unreadable

    # Deleting

    def delete(self, ids: Sequence[int]) -> None:
        """Delete planned ids, one batch at a time until one is verified."""
        # An earlier session may have deleted something.
        is_confirmed = not self.ledger.applied.isdisjoint(self.ledger.gone)
        without_effect = 0
        for rest in self.sendable(ids):
            while rest and not is_confirmed:
                size = self.store.batch_size
                first, rest = rest[:size], rest[size:]
                self.send_batches(first)
                is_confirmed = self.confirm_first_batch(first)
                if not is_confirmed and not self.ledger.gone.issuperset(first):
                    without_effect += 1
                if without_effect == MAX_WITHOUT_EFFECT:
                    raise RunError(
                        f"Stopped: the first {MAX_WITHOUT_EFFECT} batches deleted nothing. "
                        f"Last error: {self.last_error}."
                    )
            self.send_batches(rest)

    def sendable(self, ids: Sequence[int]) -> Iterator[Sequence[int]]:
        """Yield the ids in groups, children first, without parents of kept children.

        Deleting a parent deletes its children, so a rejected child blocks its parents.
        """
        for level in levels(ids, self.parents):
            if self.parents:
                self.read_back([*self.ledger.doubts], is_progress=False)
            blocked = self.blocked()
            withheld = blocked.keys() | self.ledger.gone
            yield [number for number in level if number not in withheld]

    def blocked(self) -> dict[int, str]:
        """Return the records that a remaining child blocks => the reason."""
        blocked = {}
        for kept in self.ledger.failed.keys() | self.ledger.doubts.keys():
            line = [kept, *ancestors(kept, self.parents)]
            for child, parent in itertools.pairwise(line):
                blocked[parent] = f"its child {child} was not deleted"
        return blocked

    def send_batches(self, ids: Sequence[int]) -> None:
        """Delete ids in batches; at a stop, raises RunError with all responses recorded."""
        if not self.ledger.planned >= {*ids}:  # N2
            raise ValueError("an id is not in the plan")
        stop, unanswered = self.workers.stop, self.journal.unanswered
        try:
            for result in self.batch_results(ids):
                if result.batch not in unanswered:  # not sent, because of a stop
                    continue
                unanswered.remove(result.batch)
                requeued = sum(map(len, result.requeue))
                self.progress.advance(len(result.batch) - requeued)
                try:
                    self.note(
                        ids=result.batch,
                        answer=result.message,
                        applied=result.applied,
                        doubtful=result.doubtful,
                        failed=result.rejected,
                    )
                    self.count_failures(result)
                except RunError as failure:
                    stop.set(failure)
        finally:
            for batch in [*unanswered]:  # not waited for
                self.ledger.apply({"sent": batch, "applied": batch})
        stop.check()

    def count_failures(self, result: BatchResult) -> None:
        """Count the failures of a batch; raises RunError if they are too many."""
        self.last_error = next(iter(result.rejected.values()), result.message)
        self.failing.difference_update(result.batch)
        self.failing.update(result.rejected)
        if result.retries_exhausted:
            self.failing.update(result.doubtful)
            self.exhausted += 1
        else:
            self.exhausted = 0
        if self.exhausted >= MAX_EXHAUSTED:
            raise RunError(
                f"Cannot reach the store: {MAX_EXHAUSTED} requests in a row used up their "
                f"retries. Last error: {result.message}."
            )
        failed, planned = len(self.failing), len(self.ledger.planned)
        rate = self.max_error_rate
        if failed > planned * rate / 100 and (failed > 10 or rate == 0):
            raise RunError(
                f"Stopped: {failed:,} of {planned:,} failed, above max_error_rate "
                f"({rate:g}%). Last error: {self.last_error}."
            )

    def batch_results(self, ids: Sequence[int]) -> Iterator[BatchResult]:
        """Delete ids in batches, several at a time, and yield each result as it comes.

        Halves of a rejected batch are sent next, so that its bad record is found soon;
        halves of a batch that used up its retries are sent last, to spare a store that is
        down. Ends early once the stop flag is set.
        """
        store, workers = self.store, self.workers
        limit = 2 * workers.count  # no worker waits for this thread
        queue = deque(map(tuple, chunks(ids, store.batch_size)))
        pending: list[Future[BatchResult]] = []
        while True:
            while queue and len(pending) < limit and workers.stop.failure is None:
                batch = queue.popleft()
                pending.append(workers.submit(store.delete_batch, batch, self.journal))
            if not pending:
                return
            done = workers.await_any(pending, deletes=True)
            for future in [item for item in pending if item in done]:  # in order
                pending.remove(future)
                result = future.result()
                if result.retries_exhausted:
                    queue.extend(result.requeue)
                else:
                    queue.extendleft(reversed(result.requeue))
                yield result

    def confirm_first_batch(self, ids: Sequence[int]) -> bool:
        """Return whether this run has verifiably deleted a record of the batch.

        An accepted batch is read for up to 60 s; the time taken is the consistency delay
        used in verification. Raises RunError if all its records still exist.
        """
        began, ledger = time.monotonic(), self.ledger
        accepted = ledger.accepted().intersection(ids)
        for delay in (0.0, *READ_DELAYS):
            self.workers.sleep(delay)
            self.read_back(ids, is_progress=False)
            if not ledger.gone.isdisjoint(ledger.applied.intersection(ids)):
                ledger.consistency_delay = time.monotonic() - began if delay else 0.0
                return True
            if not accepted:
                return False
            if not delay:
                self.progress.warn("Deleted records are still listed; waiting up to 60s.")
        raise RunError(
            "The store accepted the first DELETE, but none of its records is verified gone "
            "after 60 s."
        )

    # Verifying

    def verify(self, ids: Sequence[int]) -> None:
        """Read all ids back; delete remaining records once more, and read them again."""
        ledger, resent = self.ledger, set[int]()
        remaining = [number for number in ids if number not in ledger.gone]
        self.progress.advance(len(ids) - len(remaining))
        remaining, unreadable = self.read_back(remaining)
        consistency_delay, delays = ledger.consistency_delay, READ_DELAYS[:4]
        if consistency_delay is None:  # this session has not measured it
            consistency_delay, delays = READ_DELAYS[3], READ_DELAYS
        for place, delay in enumerate(delays):
            if not remaining and not unreadable:
                return
            is_accepted = not ledger.accepted().isdisjoint(remaining)
            if consistency_delay and place == 0 and is_accepted:  # re-read before resending
                again = f"reading again in {consistency_delay:.0f}s"
                self.progress.warn(f"Deleted records may still be listed; {again}.")
            else:
                unsent = [number for number in remaining if number not in resent]
                for group in self.sendable(unsent):
                    self.send_batches(group)
                    resent.update(group)
            may_be_gone = ledger.applied | ledger.doubts.keys()
            if not unreadable and may_be_gone.isdisjoint(remaining):
                break  # the rest was rejected or not sent
            self.workers.sleep(max(delay, consistency_delay))
            remaining, unreadable = self.read_back(remaining + unreadable)
        reasons = dict.fromkeys(remaining, "still exists after its DELETE was accepted")
        reasons |= self.blocked() | ledger.doubts
        failed = {n: reasons[n] for n in remaining if n not in ledger.failed}
        self.note(failed=failed)


# --- screen -------------------------------------------------------------------------
#
# The terminal and report.html: messages, bars and the prompt on stderr, the result on
# stdout. It decides nothing; a failure to print never ends a run.

LINE_EVERY = 2.0  # seconds between plain lines of progress, without a terminal (N32)


def duration(seconds: float) -> str:
    """Return 4 s, 2 min 5 s or 1 h 2 min."""
    minutes, second = divmod(max(0, round(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minute} min"
    return f"{minutes} min {second} s" if minutes else f"{second} s"


class SafeConsole(Console):
    """A console that ignores closed streams and pipes, where rich would exit."""

    def on_broken_pipe(self) -> None:
        """Print nothing from now on."""
        self.quiet = True

    def __exit__(self, *exception: object) -> None:
        """Write what was printed; all that rich writes goes through here."""
        with suppress(OSError):
            super().__exit__(*exception)


class Screen(Progress):
    """Prints messages, and a bar on a terminal, else a line of progress now and then.

    Tables and prompts use its consoles. The bar of a phase that counts nothing is removed.
    """

    def __init__(self) -> None:
        with suppress(AttributeError):  # a test's stand-in, or closed
            sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
        # The result goes to stdout, everything else to stderr.
        self.out = SafeConsole(highlight=False, markup=False)
        self.err = SafeConsole(stderr=True, highlight=False, markup=False)
        # The bar of the current phase; without a terminal it is disabled.
        self._bars: Bars | None = None
        # When a line of progress was last printed.
        self._said_at = 0.0

    def say(self, text: str, style: str = "") -> None:
        """Print a message; it is not wrapped, since commands and paths are copied."""
        self.err.print(Text(text, style=style), soft_wrap=True)

    def warn(self, text: str) -> None:
        """Print a warning."""
        self.say(f"WARNING: {text}", "yellow")

    def fail(self, text: str) -> None:
        """Print why the run ended."""
        self.say(f"bulk_delete.py: {text}", "bold red")

    def write(self, line: str) -> None:
        """Print a line of run.log, with -v."""
        self.say(line.rstrip(), "dim")

    @contextmanager
    def phase(self, name: str, total: int = 0) -> Iterator[None]:
        """Show the progress of a phase while it lasts: a bar, or a line now and then."""
        self.begin(total)
        self._said_at = time.monotonic()
        with Bars(
            "{task.description:<10}",
            BarColumn(10, complete_style="green"),
            TaskProgressColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            "{task.fields[status]}",
            console=self.err,
            disable=not self.err.is_terminal or self.err.is_dumb_terminal,
        ) as self._bars:
            self._bars.add_task(name, total=None, status="")
            try:
                yield
                self.total = self.done  # fewer than expected
            finally:
                if self.done:
                    self._said_at = -math.inf
                    self.tick("")
                self._bars.live.transient = not self.done
                self._bars = None

    def tick(self, waiting: str) -> None:
        """Redraw; waiting: the reason for a wait, or ""."""
        if self._bars is None:
            return
        now, task, status = time.monotonic(), self._bars.tasks[0], f"{self.done:,}"
        if self.total:
            status += f"/{self.total:,}"
        status += f" {waiting}"
        self._bars.update(task.id, completed=self.done, total=self.total or None, status=status)
        if self._bars.disable and now - self._said_at >= LINE_EVERY:
            self._said_at = now
            self.say(f"{task.description}: {status}")


Rows = list[tuple[str, str]]  # label and text; rows without a text are left out
ROW_STYLES = {"WARNING": "bold yellow", "Result": "bold"}  # by label


def grid(rows: Rows) -> Table:
    """Return labels and texts in two columns."""
    table = Table.grid(Column(no_wrap=True), Column(overflow="fold"), padding=(0, 2))
    for label, text in rows:
        if text:
            table.add_row(label, Text(text), style=ROW_STYLES.get(label))
    return table


# (Status, exit status) => result in the table; others show the status itself.
RESULTS = {
    ("completed", 0): "Completed",
    ("completed", 4): "Completed with failures",
    ("planned", 0): "Dry run complete",
    ("planned", 3): "Canceled",
    ("interrupted", 3): "Canceled",
    ("interrupted", 5): "Stopped",
}


def verified_words(summary: Record) -> str:
    """Return whether the deletions were verified; "" if there were none to verify."""
    selected, gone = summary["selected"], summary["deleted"] + summary["already_gone"]
    if summary["not_attempted"] == selected:
        return ""
    if gone == selected:
        return f"yes, all {gone:,} are gone"
    if summary["verified"]:
        return f"yes, {gone:,} are gone and {selected - gone:,} failed"
    return f"no, {selected - gone:,} not verified"


REPORT_HEAD = """<!DOCTYPE html>
<html lang="en">
<meta charset="UTF-8">
<title>bulk_delete.py</title>
<style>
:root { color-scheme: light dark; font: 13px/1.4 Menlo, Consolas, monospace; }
td { vertical-align: top; padding: 0 16px 0 0; white-space: pre-wrap; }
@page { margin: 10mm; }
</style>
"""


def html_table(title: str, rows: Iterable[Sequence[str]]) -> str:
    """Return an HTML table without rows that have only a label; "" if empty."""
    lines = ["\n<td>".join(["<tr>", *map(html.escape, row)]) for row in rows if any(row[1:])]
    if len(lines) < 2:  # the header of a CSV
        return ""
    return "\n".join([f"<h2>{title}</h2>", "<table>", *lines, "</table>\n"])


def resource_table() -> Table:
    """Return all resources, for --resource list."""
    rows: Rows = []
    for item in RESOURCES.values():
        rows += [
            (item.name, f"{item.path}, up to {item.largest_batch} per DELETE"),
            ("", f"scope: {item.scope}"),
            ("", f"filters: {' '.join(item.filter_types())}"),
            ("", item.note),
        ]
    return grid(rows)


# --- guards -------------------------------------------------------------------------
#
# Checks that can refuse a plan: each raises Refused or Canceled. Three are elsewhere: a
# modified plan in `RunFolder`, unreliable reads in `Executor.check_reads`, and new orders in
# `Run.approve`.


def check_domain(config: Config, info: Record, store_name: str) -> None:
    """Raise Refused if [store] domain is not the domain of the store."""
    if not config.domain:
        return
    if not info:
        raise Refused(
            f"Cannot check domain in {config.path}: not allowed to read the store's name. "
            f"Add the scope {STORE_INFO.scope}, or remove domain."
        )
    domains = [bare_domain(info.get(name, "")) for name in ("domain", "secure_url")]
    if config.domain not in domains:
        raise Refused(
            f"Store mismatch: domain in {config.path} is {clean(config.domain)}, "
            f"but store_hash is for {store_name}."
        )


def check_selection(selection: Selection, parents: Mapping[int, int], config: Config) -> None:
    """Raise Refused for a list or --match that contradicts the store's records."""
    for matcher in selection.lists:
        if rows := matcher.contradictions(is_complete=matcher in selection.compared):
            raise Refused(
                f"{matcher.entries.name}, {first_few(rows)}: id and {config.resource.key} "
                "belong to different records. Correct the rows or remove one column."
            )
    if selection.field_names:
        for path in sorted(selection.missing_paths):
            known = sorted(selection.field_names)
            hint = suggest(path, known, f"Known fields: {', '.join(known)}.")
            raise Refused(f'Unknown field "{path}" in --match. {hint}')
    for matcher in selection.keep_lists:
        if len(matcher.unmatched()) == len(matcher.entries):
            raise Refused(
                f"No entry of {matcher.entries.name} matches a {config.resource.singular}. "
                "Wrong file?"
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
        count, above = f"{len(unplanned):,} child {resource.plural} are", "their parents"
        if len(unplanned) == 1:
            count, above = f"1 child {resource.singular} is", "its parents"
        raise Refused(
            f"{count} not selected but would be deleted with {above}: "
            f"{first_few(unplanned)}. Select all children, or exclude the parents."
        )


def check_count(config: Config, count: int) -> None:
    """Raise Refused if more would be deleted than --max-delete allows."""
    if config.max_delete is not None and count > config.max_delete:
        fault = f"{count:,} selected, but --max-delete is {config.max_delete:,}."
        raise Canceled(fault) if config.resume else Refused(fault)


def check_mistakes(config: Config, warnings: Mapping[str, bool]) -> None:
    """Raise Refused for likely mistakes with --yes, when nobody reviews them (N23)."""
    mistakes = [text for text, is_mistake in warnings.items() if is_mistake]
    if config.yes and mistakes:
        fault = ". ".join(mistakes)
        if config.resume:
            raise Canceled(f"{fault}. Resume without --yes to review it.")
        raise Refused(f"{fault}. Run without --yes to review the selection.")


def resume_mistakes(config: Config, plan: Plan) -> list[str]:
    """Return why a plan may be outdated: its age, or exclusions added since."""
    mistakes, age = [], plan.age()
    if age.days > 0:
        mistakes.append(f"Plan is {age.days} day{'s' * (age.days > 1)} old")
    if age < -timedelta(minutes=1):
        mistakes.append(f"Plan is dated in the future ({plan.created_at}); check the clock")
    for name, text in config.ini_protections.items():
        planned = plan.selection.get(name, "")
        is_planned = f" and {text} and " in f" and {planned} and "
        if not is_planned and not (planned and name == "spare_with_orders"):
            setting = f"{name} = {printable(text, 80)} in {config.path}"
            mistakes.append(f"{setting} is ignored: the plan was made without it")
    return mistakes


def confirm(screen: Screen, stop: Stop, count: int, what: str) -> None:
    """Ask the person to type the number of records; raises Canceled if they do not.

    N21: typeahead is discarded. On a signal the handler raises, since a signal does not end
    a read on every platform.
    """
    if not (os.isatty(0) and os.isatty(2)):
        raise Canceled("Cannot prompt: not a terminal. Add --yes to delete without asking.")
    discard_typed_ahead()
    screen.err.print(Text(f"To delete {what}, type {count}: ", style="bold"), end="")
    typed = ""
    try:
        with stop.raising(), suppress(OSError, ValueError):  # the terminal is gone
            stop.check()
            typed = sys.stdin.readline()
    except RunError:
        screen.say("")  # the cursor is after ^C
        raise
    if not typed:
        stop.sleep(POLL)  # a terminal that closes ends the input before its signal comes
    if typed.strip().replace(",", "") != str(count):
        raise Canceled(f"Canceled: expected {count}.")


# --- run ----------------------------------------------------------------------------
#
# Puts the parts together: `Run.work` lists the phases of a run, `Run.end_status` is the one
# place where a failure becomes an exit status, and `main` is the entry point.


def make_plan(config: Config, selection: Selection, time_zone: str) -> Plan:
    """Return the plan for a selection, with its panel rows and warnings."""
    counts = {
        "duplicates": selection.duplicates,
        "not_found": 0 if selection.is_full else len(selection.ids_list.unmatched()),
        "spared": selection.excluded,
        "keep_unknown": sum(len(matcher.unmatched()) for matcher in selection.keep_lists),
        "backup_cut": 0 if config.no_backup else selection.truncated,
    }
    return Plan(
        host=config.host,
        store_hash=config.store_hash,
        resource=config.resource.name,
        filters=config.filters,
        selection=config.selection,
        facts=selection_facts(config, selection, time_zone),
        warnings=selection_warnings(config, selection),
        created_at=utc_now(),
        counts=counts,
        backup=not config.no_backup,
        ids=selection.ids,
    )


def selection_facts(config: Config, selection: Selection, time_zone: str) -> dict[str, str]:
    """Return the panel rows on a selection: label => text."""
    resource = config.resource
    facts = {"Selection": printable(selection_words(config, selection), 2000)}
    if selection.excluded:
        facts["Excluded"] = f"{selection.excluded:,}"
    is_customers = resource.name == "customers"
    if is_customers and not config.spare_with_orders:
        facts["Orders"] = "not checked (--spare-with-orders)"
    if any(item.type == "date" for item in config.filter.values()):
        facts["Time zone"] = f"filters use UTC; the store uses {time_zone}"
    shared = [email for matcher in selection.lists for email in sorted(matcher.shared)]
    if shared:
        words = f"{first_few(shared)} (used by several {resource.plural})"
        facts["Shared"] = printable(words, 2000)
    if not selection.is_full:
        values = selection.unmatched_values.items()
        unmatched = [f"{name}={text}" for name, texts in values for text in sorted(texts)]
        facts["Unmatched"] = printable(first_few(unmatched), 2000)
    facts["Sample"] = "\n".join(sample_lines(selection.sample, resource))
    facts["Also deleted"], facts["Note"] = resource.also_deleted, resource.note
    facts["Files"] = "selected.csv, no backup"
    if not config.no_backup:
        facts["Files"] = "selected.csv, backup.jsonl" + ", reimport.csv" * is_customers
    return facts


def selection_words(config: Config, selection: Selection) -> str:
    """Return a description of the selection, with ALL for the whole store.

    Examples: "ALL customers in the store", "the 10 oldest customers where company matches
    ^Acme", "customers in merchant.csv, excluding 3 of the 3 in staff.txt". Conditions that
    select the whole store are marked ALL, since that is probably a mistake.
    """
    plural, scope = config.resource.plural, ""
    conditions = [f"{name}={text}" for name, text in config.filters.items()]
    for match in config.match:
        verb = "does not match" if match.negated else "matches"
        conditions.append(f"{match.path} {verb} {match.pattern.pattern}")
    if config.ids:
        scope += f" in {config.ids.name}"
    if conditions:
        scope += f" where {' and '.join(conditions)}"
    words = plural + (scope or " in the store")
    if 0 < len(selection.ids) == selection.total:
        everything = f"ALL {plural} in the store"
        words = f"{words} ({everything})" if scope or config.limit else everything
    if config.limit is not None:
        is_by_date = "date_created" in config.resource.params.get("sort", "")
        order = "oldest" if is_by_date and not config.ids else "first"
        words = f"the {config.limit:,} {order} {words}"
    excluded = [
        f"{matcher.excluded:,} of the {len(matcher.entries):,} in {matcher.entries.name}"
        for matcher in selection.keep_lists
    ]
    if config.spare_with_orders:
        excluded.append(f"{selection.excluded_by_orders:,} with orders")
    if excluded:
        words += f", excluding {' and '.join(excluded)}"
    return words


def selection_warnings(config: Config, selection: Selection) -> dict[str, bool]:
    """Return panel warnings => whether each is a likely mistake (N23).

    A protection that excludes no record is a likely mistake, refused with --yes.
    """
    resource, warnings = config.resource, dict[str, bool]()
    for matcher in selection.compared:
        if matcher.unmatched():
            is_keep_list = matcher is not selection.ids_list
            warnings[unmatched_words(matcher, selection, resource)] = is_keep_list
    for match in selection.idle_exclusions if selection.ids else ():
        expression = f"--match {match.path}!={printable(match.pattern.pattern, 80)}"
        text = f"{expression} excludes no {resource.singular}"
        warnings[text] = not selection.is_full
    if config.spare_with_orders and not selection.with_orders:
        warnings["--spare-with-orders excludes no customer: no customer has orders"] = True
    for name, number in selection.ignored_filters.items():
        returned = f"it returned {resource.singular} {number}, which does not match"
        text = f"The store ignored the filter {name}: {returned} and is not selected"
        warnings[text] = False
    if selection.truncated and not config.no_backup:
        have = "has" if selection.truncated == 1 else "have"
        count = f"{resource.format_count(selection.truncated)} {have}"
        text = f"Backup incomplete: {count} more addresses or attributes than the API returns"
        warnings[text] = False
    return warnings


def unmatched_words(matcher: ListMatcher, selection: Selection, resource: Resource) -> str:
    """Return a sentence on the entries that match no record."""
    entries, name = matcher.unmatched(), matcher.entries.name
    text = f"{len(entries):,} entries of {name} match no {resource.singular}"
    if len(entries) == 1:
        text = f"1 entry of {name} matches no {resource.singular}"
    text += f": {first_few([printable(entry) for entry in entries])}"
    if selection.ids:  # else the run folder is not kept
        text += " (unmatched.csv)"
    return text


# Key of `store` in summary.json => field of GET /v2/store.
STORE_FIELDS = {
    "name": "name",
    "domain": "domain",
    "plan": "plan_name",
    "time_zone": "timezone.name",
}
# The counts of a summary before there is a plan.
NO_COUNTS = dict.fromkeys(
    ("duplicates", "not_found", "spared", "keep_unknown", "backup_cut"), 0
)
EVENTS = {None: "started", 0: "completed", 4: "completed"}
WEBHOOK_TIMEOUT = 10.0  # seconds to wait for webhook_url at the end of a run


class Run:
    """One run, from the run folder to the summary.

    All waits for the store call `tick`, so that the screen and summary.json follow the
    run. A new run that listed or selected nothing leaves no folder. A resume writes only
    journal and log until it has read back what remains: until then, the last session's
    summary is the better one.
    """

    def __init__(self, config: Config, screen: Screen, stop: Stop) -> None:
        self.plan: Plan | None = None
        ledger = Ledger()
        if config.resume:
            self.folder = RunFolder.open(config.resume)
            self.plan = self.folder.read_plan(config)
            ledger = self.folder.journal.replay({*self.plan.ids})
            config = replace(config, resource=RESOURCES[self.plan.resource])
        else:
            self.folder = RunFolder.create(config)
        if config.verbose:
            self.folder.log.addHandler(logging.StreamHandler(screen))
        self.config, self.screen, self.stop, self.ledger = config, screen, stop, ledger
        self.client = Client(config, stop, self.folder.log)
        workers = min(config.max_concurrent, config.resource.max_concurrent)
        self.workers = Workers(workers, stop, self.tick)
        self.store = Store(config, self.client)
        parts = (self.store, self.workers, screen)
        self.collector = Collector(*parts, config)
        self.executor = Executor(*parts, ledger, self.folder.journal, config.max_error_rate)
        # As in summary.json; values are None if the token may not read them.
        self.store_info: dict[str, str | None] = dict.fromkeys(STORE_FIELDS)
        # Name, domain and hash of the store, and the API host unless it is the default.
        self.store_name = ""
        # Customer groups for reimport.csv, read in the background.
        self.group_names: Future[tuple[dict[str, object], str]] | None = None
        # The thread that posts the last event.
        self.webhook_thread = threading.Thread()
        # started; read: a resume has read records back; deleting: a DELETE may be sent.
        self.stage = "started"
        # The summary of the last session.
        self.earlier = self.folder.earlier_summary()
        self.started_at = str(self.earlier.get("started_at") or utc_now())
        # When the work began, moved by the time spent at the prompt.
        self.began = time.monotonic()
        # When summary.json was last written.
        self.written_at = -math.inf
        self.has_announced_stop = False

    # The run

    def run(self) -> int:
        """Run all phases and finish, whatever happens; return the exit status."""
        failure: RunError | None = None
        try:
            self.work()
        except RunError as error:
            failure = self.stop.set(error)
        except Exception as error:
            traceback.print_exc()
            bug = RunError(f"Bug: {clean(repr(error))}")
            bug.exit_status = 1
            failure = self.stop.set(bug)
        return self.finish(failure)

    def work(self) -> None:
        """Run all phases; raises the RunError that ends the run."""
        config, screen = self.config, self.screen
        for warning in config.warnings:
            screen.warn(warning)
        self.notify(self.summary(is_ended=False))
        self.connect()
        plan = self.plan or self.list_records()
        ids, warnings = plan.ids, {**plan.warnings}
        if config.resume:
            ids = self.read_remaining(plan)
            mistakes = resume_mistakes(config, plan) + self.folder.backup_faults(plan)
            warnings |= dict.fromkeys(mistakes, True)
        check_count(config, len(ids))
        if not ids:
            for warning in warnings:
                screen.warn(warning)
            nothing = f"No {config.resource.plural} match"
            if config.resume:
                nothing = "No records remain"
            screen.say(f"{nothing}. Nothing to delete.")
            return
        self.show_plan(plan, ids, [*config.warnings, *warnings])
        if config.dry_run:  # N6
            return
        check_mistakes(config, warnings)
        self.approve(plan, ids)
        self.stage = "deleting"
        self.client.bucket.set_remaining(self.store.requests_for(len(ids)))
        with screen.phase("Deleting", len(ids)):
            self.executor.delete(ids)
        with screen.phase("Verifying", len(ids)):
            self.executor.verify(ids)
        if unverified := len(plan.ids) - len(self.ledger.gone):
            count = f"{unverified:,} of {config.resource.format_count(len(plan.ids))}"
            incomplete = RunError(f"{count} failed or could not be verified.")
            incomplete.exit_status, incomplete.status = 4, "completed"
            raise incomplete

    def connect(self) -> None:
        """Read the store's name and domain; raises Refused if the domain differs."""
        config = self.config
        self.client.bucket.set_remaining(4)  # this and the first pages
        with self.screen.phase("Connecting"):
            if config.resource.name == "customers" and not (config.no_backup or config.resume):
                self.group_names = self.workers.submit(self.store.group_names)
            info = self.workers.call(self.store.info) or {}
        for key, source in STORE_FIELDS.items():
            text = str(value_at(info, source) or "").replace(config.access_token, "[secret]")
            self.store_info[key] = printable(text, 60) or None
        name, domain, *_ = self.store_info.values()
        parts = [name, domain, f"hash {config.store_hash}"]
        if config.host != DEFAULT_HOST:
            parts.append(f"API at {config.host}")
        self.store_name = " · ".join(filter(None, parts))
        check_domain(config, info, self.store_name)

    def list_records(self) -> Plan:
        """List, select, and freeze the plan on disk."""
        config = self.config
        if config.spare_with_orders:
            self.read_orders()
        backup, groups, fault = not config.no_backup, None, ""
        with self.screen.phase("Listing"):
            if self.group_names:
                groups, fault = self.workers.result(self.group_names)
            with writing(self.folder.path):
                files = RecordFiles(self.folder.path, config.resource, backup, groups)
                with closing(files):
                    selection = self.collector.collect(files)
            parents = self.collector.parents()
        rows = [("list", "entry")]
        for matcher in selection.compared:
            rows += [(matcher.entries.name, entry) for entry in matcher.unmatched()]
        if len(rows) > 1:
            self.folder.write_csv("unmatched.csv", rows)
        check_selection(selection, parents, config)
        time_zone = self.store_info["time_zone"] or "an unknown time zone"
        plan = make_plan(config, selection, time_zone)
        if fault and not fault.startswith("403"):  # the token may lack the scope
            plan.warnings[f"reimport.csv lacks the customer groups ({fault})"] = False
        self.folder.write("plan.json", plan.text())  # N7: on disk before any DELETE
        self.plan, self.ledger.planned = plan, {*plan.ids}
        return plan

    def read_orders(self) -> None:
        """Read the orders placed since the last read."""
        with self.screen.phase("Orders"):
            self.collector.read_orders()

    def read_remaining(self, plan: Plan) -> Sequence[int]:
        """Return the planned ids not verified gone, earlier failures at the end.

        Verified ids are neither read nor sent again (N13). Known ids come from the list, so
        that a store that answers every read by id with nothing does not look empty.
        """
        ledger, executor = self.ledger, self.executor
        unverified = [number for number in plan.ids if number not in ledger.gone]
        self.client.bucket.set_remaining(self.store.requests_for(len(unverified)))
        with self.screen.phase("Checking", len(unverified)):
            if unverified and (known := executor.known_ids()):
                executor.check_reads(unverified, known)
            executor.read_back(unverified)
        is_new = bool(unverified) or self.earlier.get("status") != "completed"
        if is_new and not self.config.dry_run:
            self.stage = "read"
        remaining = [number for number in unverified if number not in ledger.gone]
        return sorted(remaining, key=ledger.failed.__contains__)

    def approve(self, plan: Plan, ids: Sequence[int]) -> None:
        """Ask for approval, then check again; raises Refused or Canceled."""
        config, screen, resource = self.config, self.screen, self.config.resource
        if not config.yes:
            store = self.store_info["name"] or f"the store {config.store_hash}"
            what, asked_at = f"{resource.format_count(len(ids))} from {store}", time.monotonic()
            try:
                confirm(screen, self.stop, len(ids), what)
            finally:
                self.began += time.monotonic() - asked_at
        if "spare_with_orders" in plan.selection:
            self.read_orders()
            if late := sorted(self.collector.with_orders.intersection(ids)):
                have = "has" if len(late) == 1 else "have"
                raise Refused(
                    f"{resource.format_count(len(late))} {have} placed orders since the plan "
                    f"was made: {first_few([*map(str, late)])}. Start a new run."
                )
        with screen.phase("Checking"):
            self.executor.parents = self.collector.parents()
            check_cascade(ids, self.executor.parents, resource)
            if not config.resume:  # already done on a resume
                self.executor.check_reads(ids)

    # What is shown

    def show_plan(self, plan: Plan, ids: Sequence[int], warnings: Sequence[str]) -> None:
        """Show the plan and its estimated duration, with warnings last."""
        resource, window = self.config.resource, self.client.bucket.window
        requests = self.store.requests_for(len(ids))
        # Requests above the quota wait for the next window; the last window is not waited out.
        by_quota = requests // max(1, window.largest()) * window.seconds
        by_latency = requests * self.client.latency / self.workers.count
        seconds = duration(max(1.0, by_quota, by_latency))
        age = duration(plan.age().total_seconds())
        made = f"{resource.format_count(len(plan.ids))}, created {age} ago"
        rows = [
            ("Delete", resource.format_count(len(ids))),
            ("Store", self.store_name),
            *plan.facts.items(),
            ("Plan", f"{self.folder.path} ({made})"),
            ("Estimate", f"about {seconds} ({requests:,} requests)"),
            *(("WARNING", text) for text in warnings),
        ]
        title, style = "This cannot be undone", "red"
        if self.config.dry_run:
            title, style = "Dry run: nothing will be deleted", "cyan"
        frame = Panel(grid(rows), border_style=style, title=title, title_align="left")
        self.screen.err.print(frame)

    def tick(self) -> None:
        """Redraw, and rewrite summary.json about once a second; called in every wait."""
        client, stop, now = self.client, self.stop, time.monotonic()
        client.tick()
        if stop.signals and not self.has_announced_stop:
            self.has_announced_stop, text = True, "saving progress"
            if self.folder.journal.unanswered and (count := len(client.in_flight)):
                text = f"waiting for {count} request{'s' * (count > 1)} in flight"
                text += " (Ctrl-C again to quit now)"
            self.screen.say(f"Stopping: {text}", "bold")
        self.screen.tick(client.waiting_for())
        if client.longest_wait > 2 * RESPONSE_TIMEOUTS * self.config.timeout:
            stop.set(RunError("Cannot reach the store: its response takes too long."))
            stop.force_exit = True
        if self.has_results() and now - self.written_at >= 1.0:
            self.written_at = now
            try:
                self.folder.write_summary(self.summary(is_ended=False))
            except RunError as failure:
                stop.set(failure)

    # The result

    def has_results(self) -> bool:
        """Return whether records were selected, or read back on a resume."""
        if self.config.resume:
            return self.stage != "started"
        return self.store.has_listed and (self.plan is None or bool(self.plan.ids))

    def end_status(self, failure: RunError | None) -> tuple[str, int]:
        """Return the status and exit status of an ended run.

        The failure has both; some change once there is a plan, or once something was
        deleted.
        """
        ledger = self.ledger
        if failure is None:  # N11
            return "completed" if ledger.gone == ledger.planned else "planned", 0
        if self.plan and isinstance(failure, (ReadRejected, InvalidResponse, ConfigError)):
            return "interrupted", RunError.exit_status
        if isinstance(failure, Refused) and (ledger.gone or ledger.applied):
            return "interrupted", failure.exit_status
        return failure.status, failure.exit_status

    def summary(self, failure: RunError | None = None, *, is_ended: bool = True) -> Record:
        """Return the content of summary.json, for an ended run or one in progress."""
        plan, counts = self.plan or self.config, self.ledger.counts()
        is_kept = bool(self.config.resume) or self.has_results()
        status, exit_status, resume = "in_progress", None, None
        if is_ended:
            status, exit_status = self.end_status(failure)
        is_verified = status == "completed" and not counts["unknown"] + counts["not_attempted"]
        if self.plan and status != "refused" and (status, exit_status) != ("completed", 0):
            resume = self.resume_command()
        return {
            "status": status,
            "exit_status": exit_status,
            "reason": str(failure) if failure else None,
            "version": __version__,
            "store": self.store_info,
            "store_hash": self.config.store_hash,
            "run_folder": str(self.folder.path) if is_kept else None,
            "resource": self.config.resource.name,
            "filters": plan.filters,
            "selection": plan.selection,
            "selected": len(self.ledger.planned),
            **counts,
            **getattr(plan, "counts", NO_COUNTS),
            "verified": is_verified,
            **self.client.counts,
            "started_at": self.started_at,
            "finished_at": utc_now() if is_ended else None,
            "elapsed_seconds": round(time.monotonic() - self.began, 3),
            "resume": resume,
        }

    def resume_command(self) -> str:
        """Return the shortest command that resumes this run, without --yes (N22)."""
        python = "python"
        if shutil.which(python) != sys.executable:
            python = short_path(sys.executable)
        words = [python, short_path(sys.argv[0]), "--config", str(self.config.path)]
        words += ["--resume", str(self.folder.path), *self.config.resume_options]
        return shell_command(words)

    def finish(self, failure: RunError | None) -> int:
        """Write and show the result, and notify the webhook; returns the exit status.

        N30: if a file cannot be written, the run is incomplete. The screen and the webhook
        come last, so that they report it.
        """
        summary, folder = self.summary(failure), self.folder
        is_signaled = self.stop.signals > 0
        if is_signaled:  # before the files are written: no wait after a signal
            self.notify(summary)
        try:
            if self.has_results():
                folder.write_failed(self.ledger.failed, self.config.resource)
                folder.write("report.html", self.report(summary))
                folder.write_summary(summary)  # last: a resume relies on it
        except RunError as unwritten:
            self.screen.warn(str(unwritten))
            if summary["exit_status"] in (0, 4):
                summary = self.summary(unwritten)
            with suppress(RunError):
                folder.write_summary(summary)
            with suppress(RunError):
                folder.write("report.html", self.report(summary))
        if not is_signaled:
            self.notify(summary)
        self.show_result(summary)
        self.await_webhook()
        if not summary["run_folder"]:
            folder.discard()
        return int(summary["exit_status"])

    def result_rows(self, summary: Record) -> Rows:
        """Return the rows of the result table, without those that start with "0 ("."""
        waits = f"{summary['retries']:,} retries, {summary['rate_limited']:,} rate-limited"
        status, exit_status = summary["status"], summary["exit_status"]
        result = RESULTS.get((status, exit_status), status.capitalize())
        started = summary["started_at"][:19].replace("T", " ")
        unverified = "accepted or possibly accepted by the store"
        rows = [
            ("Result", f"{result} (exit status {exit_status})"),
            ("Store", self.store_name),
            ("Selected", self.config.resource.format_count(summary["selected"])),
            ("Deleted", f"{summary['deleted']:,}"),
            ("Failed", f"{summary['failed']:,}"),
            ("Remaining", f"{summary['not_attempted']:,} (no DELETE sent)"),
            ("Unverified", f"{summary['unknown']:,} ({unverified})"),
            ("Already gone", f"{summary['already_gone']:,} (not by this run)"),
            ("Duplicates", f"{summary['duplicates']:,} (each counted once)"),
            ("Verified", verified_words(summary)),
            ("Requests", f"{summary['requests']:,} ({waits})"),
            ("Duration", f"{duration(summary['elapsed_seconds'])} (started {started} UTC)"),
            ("Run folder", str(self.folder.path)),
        ]
        return [row for row in rows if not row[1].startswith("0 (")]

    def report(self, summary: Record) -> str:
        """Return the whole run as one HTML file without external resources."""
        rows = [
            *self.result_rows(summary),
            ("Reason", summary["reason"]),
            ("Finished", summary["finished_at"]),
            ("Version", f"bulk_delete.py {__version__}"),
            ("Command", shell_command([short_path(sys.argv[0]), *sys.argv[1:]])),
            ("Resume", summary["resume"]),
        ]
        parts = [REPORT_HEAD, html_table("Result", rows)]
        if plan := self.plan:
            rows = [*plan.facts.items(), *(("WARNING", text) for text in plan.warnings)]
            title = f"Plan: {self.config.resource.format_count(len(plan.ids))}"
            parts.append(html_table(title, rows))
        for name in ("failed.csv", "unmatched.csv"):
            parts.append(html_table(name, self.folder.rows(name)))
        return "".join(parts)

    def show_result(self, summary: Record) -> None:
        """Show the result and the next step."""
        screen, exit_status, selected = self.screen, summary["exit_status"], summary["selected"]
        console = screen.out
        if self.config.json:
            console = screen.err
            with suppress(OSError):  # `main` flushes again
                print(json.dumps(summary), flush=True)
        if self.stage == "deleting" or (selected and summary["status"] == "completed"):
            style = "red" if exit_status else "green"
            table = grid(self.result_rows(summary))
            console.print(Panel(table, border_style=style, box=box.HORIZONTALS))
        if summary["reason"]:
            screen.fail(summary["reason"])
        if summary["failed"]:
            screen.say(f"Failed records: {self.folder.path / 'failed.csv'}")
        if selected and not exit_status:
            screen.say(f"{self.folder.path} may contain personal data. Delete it when done.")
        if summary["resume"]:
            heading = "To resume, run:"
            if summary["not_attempted"] == selected:
                heading = "Nothing was deleted. To delete exactly these records, run:"
            screen.say(f"{heading}\n  {summary['resume']}")

    def notify(self, summary: Record) -> None:
        """Post an event to webhook_url, in a thread that does not delay the exit."""
        if not self.config.webhook_url:
            return
        names = ("status", "exit_status", "selected", *self.ledger.counts())
        body = {name: summary[name] for name in names}
        body["event"] = EVENTS.get(summary["exit_status"], "interrupted")
        body["run_folder"] = self.folder.path.name
        self.webhook_thread = threading.Thread(target=self.post, args=(body,), daemon=True)
        self.webhook_thread.start()

    def post(self, body: Record) -> None:
        """POST an event, or warn; never changes the run or shows the URL (N18)."""
        try:
            response = requests.post(
                self.config.webhook_url,
                json=body,
                auth=lambda request: request,  # N16: else ~/.netrc adds a password
                timeout=5,
                allow_redirects=False,
                stream=True,  # its body, which may never end, is not read
            )
            if response.status_code // 100 == 2:
                return
            fault = f"HTTP {response.status_code}"
        except Exception as error:
            fault = type(error).__name__
        self.screen.warn(f"Cannot send the {body['event']} event to webhook_url: {fault}")

    def await_webhook(self) -> None:
        """Wait briefly for the webhook, but not after a signal (N34)."""
        if not self.webhook_thread.is_alive():
            return
        deadline = time.monotonic() + WEBHOOK_TIMEOUT
        with self.screen.phase("Notifying"):
            while self.webhook_thread.is_alive() and time.monotonic() < deadline:
                if self.stop.signals:
                    break
                self.screen.tick("waiting for the webhook")
                self.webhook_thread.join(POLL)


def short_path(path: str) -> str:
    """Return a path relative to the current directory, if inside it."""
    return str(Path(path).absolute()).removeprefix(f"{Path.cwd()}{os.sep}")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, run, and return the exit status."""
    os.umask(0o077)  # files are private
    screen, stop = Screen(), Stop()
    for signum in SIGNALS:
        if signal.getsignal(signum) is not signal.SIG_IGN:  # nohup
            signal.signal(signum, stop.on_signal)
    try:
        arguments = parse_arguments(argv)
        if arguments.get("--resource") == ["list"]:
            screen.out.print(resource_table())
            return 0
        status = Run(read_config(arguments, os.environ), screen, stop).run()
    except RunError as failure:
        screen.fail(str(failure))
        status = failure.exit_status
    with suppress(OSError):  # the reader is gone
        for stream in filter(None, (sys.stdout, sys.stderr)):  # None: closed by the shell
            stream.flush()
    return status


if __name__ == "__main__":
    os._exit(main())  # N9, N34: neither a read in flight nor the webhook is waited for
