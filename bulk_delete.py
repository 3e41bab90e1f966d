#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = ["bigcommerce~=0.23.4", "requests~=2.32", "rich~=15.0"]
# ///
"""Delete many records from one BigCommerce store: shown first, done exactly, proven afterwards.

The way of the data, and where each step is decided:

    store.ini + argv => Config          configuration
    Config => Store                     store: connection, client, workers
    pages of records => Selection       gather; what fits is decided under selection
    Selection => Plan                   plan and ledger; frozen on disk in the run folder
    Plan => a number that is typed      guards
    Plan => batches => BatchResult      delete and verify; what an answer means: answers
    BatchResult, read-back => Ledger    plan and ledger
    Ledger => summary, exit status      report, command line

The sections, top to bottom, each using only what stands above it:

    shared by all    the failures that end a run, the stop flag, the progress
    portability      what Windows does otherwise, each thing in one place
    resources        what is known of each kind of record
    words            how names, times and foreign text are shown
    selection        whether a record is one that was asked for
    lists            what the files of --ids and --keep name
    configuration    the ini and the command line, as one table of options
    rate limiting    when a request may leave: the store's window, the token bucket
    answers          what an answer means, and what became of a batch
    store            everything that touches the network, and the pool of threads
    gather           the listing, and what of it goes
    plan and ledger  what will be deleted, and what is known of each id
    run folder       the files that prove a run and resume it
    delete, verify   carrying the plan out, and proving it
    report           what the person sees
    guards           what keeps a plan from being carried out
    command line     a run from its first to its last step, exit statuses, main

Only the main thread writes to the ledger, the run folder's results and the screen. Workers send, wait, note a
batch in the journal before it leaves, write run.log (with --verbose to the screen too), and return what came.
Words that stand for one thing each: a *page* is read, a *batch* is deleted, an *attempt* is one sending of a
request; an id is *maybe deleted* from the first attempt that may have acted on it, and *deleted* once it was
read back and is gone. N1, N2 … and A1, A2 … are the rules of the design, as tests/test_never.py and
tests/test_answers.py list them.

Exit status: 0 every planned id is proven gone, or a dry run is done, or nothing was selected; 1 a bug;
2 usage or configuration; 3 refused before anything was deleted; 4 finished, and some records are not gone;
5 stopped early, resumable once there is a plan; 130, 143, 129 stopped by SIGINT, SIGTERM, SIGHUP.
"""

# ruff: noqa: RUF009  # what Config's fields are set to is a field of the dataclass, as `setting` makes it
from __future__ import annotations

import argparse
import bisect
import configparser
import csv
import difflib
import email.utils
import enum
import errno
import hashlib
import heapq
import html
import http.client
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
import socket
import ssl
import sys
import threading
import time
import unicodedata
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, TypeVar
from urllib.parse import unquote, urlencode, urlsplit

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until main takes it: no traceback out of an import

try:
    from datetime import UTC, datetime, timedelta
    from functools import cached_property, partial

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
    this = ".".join(map(str, sys.version_info[:3]))
    too_old = sys.version_info < (3, 11)
    print(
        f"bulk_delete.py: it needs Python 3.11 or newer (this is {this})"
        + ("" if too_old else f", and its packages ({error}): python -m pip install -r requirements.txt"),
        file=sys.stderr,
    )
    sys.exit(2)

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

__version__ = "1.0.0"

T = TypeVar("T")
R = TypeVar("R")
Record = dict[str, Any]

DEFAULT_HOST = "api.bigcommerce.com"
PAGE_LIMIT = 250  # records a page, and ids a read-back: the most the API gives
EMAIL_LIMIT = 50  # e-mail addresses a request, so that its URL stays below the usual limits
POLL = 0.1  # seconds: the longest sleep between two looks at the stop flag

# What the person reads when a signal ends a run, its summary written; Windows has no SIGHUP.
SIGNALS = {signal.SIGINT: "stopped by Ctrl-C", signal.SIGTERM: "stopped from outside (SIGTERM)"}
if hasattr(signal, "SIGHUP"):
    SIGNALS[signal.SIGHUP] = "stopped, since the terminal was closed (SIGHUP)"

# --- shared by all ------------------------------------------------------------------------------------
#
# A run ends in one way: a Failure is raised, which says in one sentence why, and carries its exit status.
# Threads are told by the stop flag: whoever finds the reason sets it, and everybody who is about to send or
# to sleep raises that same reason. The main thread learns of it like everybody else.


class Failure(Exception):
    """An end that can be expected: one sentence for the person, and the exit status."""

    exit_status = 5


class Bug(Failure):
    """An end that nobody expected; its traceback is shown."""

    exit_status = 1


class ConfigError(Failure):
    """Bad usage or configuration."""

    exit_status = 2


class Refused(Failure):
    """Refused before anything was deleted. planned: the plan stands, and may be resumed."""

    exit_status = 3

    def __init__(self, message: str, *, planned: bool = False) -> None:
        super().__init__(message)
        self.planned = planned


class ReadRefused(Refused):
    """The store refused a GET with a 4xx: exit status 3 before the plan, 5 after it."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Unreadable(Refused):
    """An answer that holds no list, total or ids that can be relied on."""


class Unanswered(Failure):
    """A GET used up its retries; a smaller one may be answered."""


class Unproven(Failure):
    """Everything was done, and some of the planned ids are not proven gone."""

    exit_status = 4


class StoreError(Failure):
    """The store, the network or the disk ends the run early."""


class Interrupted(Failure):
    """A signal ended the run."""

    def __init__(self, signum: int) -> None:
        super().__init__(SIGNALS[signal.Signals(signum)])
        self.exit_status = 128 + signum


class TooCostly(Exception):
    """A request costs more tokens than a whole window ever has."""


class ListingChanged(Exception):
    """Records moved while the pages were read, so the listing may have holes."""


class Stop:
    """The one flag that every thread reads before it sends; set once, never cleared.

    Plain attributes and no lock: the signal handler may run while the main thread holds it.
    """

    def __init__(self) -> None:
        # Why nothing more may be sent; None while it may.
        self.failure: Failure | None = None
        # A second signal came: do not even wait for what is in flight.
        self.at_once = False
        self._signals = 0

    @property
    def has_signal(self) -> bool:
        """Whether a signal came."""
        return self._signals > 0

    def set(self, failure: Failure) -> Failure:
        """Stop for this reason, unless there was one before; returns the reason that counts."""
        self.failure = self.failure or failure
        return self.failure

    def check(self) -> None:
        """Raise the reason when nothing more may be sent."""
        if self.failure is not None:
            raise self.failure

    def sleep(self, seconds: float) -> None:
        """Sleep for so many seconds, or raise the reason within POLL of a stop."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left, POLL))
        self.check()

    def on_signal(self, signum: int, _frame: FrameType | None) -> None:
        """Handle a signal: the first stops, the second leaves at once, the third ends the process."""
        self._signals += 1
        if self._signals > 2:  # the main thread has not left at the second: it hangs
            os._exit(128 + signum)
        self.at_once = self._signals > 1
        self.set(Interrupted(signum))


class Progress:
    """How far the current phase is. Those who work advance it, the screen reads it; main thread only."""

    def __init__(self) -> None:
        # Records to come; 0 where that is not known.
        self.total = 0
        self.done = 0
        # What the person should know meanwhile; the screen takes them out.
        self.warnings: deque[str] = deque()

    def begin(self, total: int) -> None:
        """Begin at 0 of so many records."""
        self.total, self.done = total, 0

    def advance(self, count: int) -> None:
        """So many more records are done."""
        self.done += count
        if self.total:
            self.done = min(self.done, self.total)


# --- portability --------------------------------------------------------------------------------------
#
# What only POSIX has, each thing in one place, beside what stands for it on Windows. (SIGHUP alone stands
# above, in SIGNALS.)


def lock_file(handle: int) -> None:
    """Lock an open file for this process, until it is closed; raises BlockingIOError if another has it."""
    try:
        fcntl: Any = importlib.import_module("fcntl")
    except ImportError:
        msvcrt: Any = importlib.import_module("msvcrt")
        os.lseek(handle, 2**30, os.SEEK_SET)  # far behind its end: nobody can read what is locked
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError from error
    else:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def sync_folder(path: Path) -> None:
    """Let a new name in a folder outlive a power cut; Windows sees to that itself."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(path, os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def replace_file(draft: Path, path: Path) -> None:
    """Put the draft in the place of a file; on Windows somebody who reads it holds it for a moment."""
    for _ in range(20 if os.name == "nt" else 0):
        with suppress(PermissionError):
            os.replace(draft, path)
            return
        time.sleep(POLL)
    os.replace(draft, path)


def readable_by_others(path: Path) -> int:
    """Return the mode of a file that other users of this machine can read, else 0; unknown on Windows."""
    mode = path.stat().st_mode & 0o777
    return mode if os.name == "posix" and mode & 0o077 else 0


def forget_what_was_typed() -> None:
    """Drop what was typed before the question: it cannot be meant as its answer (N21)."""
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
    from subprocess import list2cmdline  # slow to load, and for this alone

    return list2cmdline(words)


# --- resources ----------------------------------------------------------------------------------------
#
# What is known of each kind of record, from BigCommerce's own API files, which are named beside it. To add
# a resource is to add a `Resource` here, and its records to the local store of the tests. `id:in` is used
# for a DELETE only where it is documented that nothing is deleted without it; all others go by path id, one
# at a time.


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One kind of record, and how the API lists and deletes it."""

    name: str
    # Of the list, below /stores/{hash}/.
    path: str
    # The OAuth scope that deleting needs.
    scope: str
    # The filter that a DELETE of the collection takes; "" deletes by path id.
    delete_by: str = ""
    # Of the DELETE by path id, where it is not that of the list.
    delete_path: str = ""
    # What a DELETE well done answers.
    done: tuple[int, ...] = (204,)
    # A 404 for a batch: the ids that do exist were deleted.
    deletes_known_on_404: bool = False
    # The id filter of the list; "" where it has none.
    read_by: str = "id:in"
    # Ids in one DELETE of the collection; 10 where no maximum is documented.
    max_batch: int = 10
    max_concurrent: int = 5
    id_field: str = "id"
    # Parameters of the listing: sort, sub-resources.
    params: Mapping[str, str] = field(default_factory=dict)
    # Filters of the list that can be checked on the record, as name/type of FILTER_TYPES.
    filters: str = ""
    # Fields that tell a person which record it is.
    show: tuple[str, ...] = ("name",)
    # The field with the e-mail address by which a list may name a record; "" where ids alone do.
    email: str = ""
    # Holds the parent's id; deleting the parent may delete this record.
    parent: str = ""
    # What goes along with a record, or forbids to delete it.
    note: str = ""

    @property
    def words(self) -> str:
        """Its name in a sentence."""
        return self.name.replace("_", " ")

    @property
    def singular_words(self) -> str:
        """The name of one of them in a sentence."""
        return re.sub("ies$", "y", self.words).removesuffix("s")

    @property
    def id_column(self) -> str:
        """The column of ids in selected.csv: a list of one kind must not be read as one of another."""
        return f"{self.singular_words.replace(' ', '_')}_id"

    def counted(self, count: int) -> str:
        """Return so many of them, in words."""
        return f"{count:,} {self.singular_words if count == 1 else self.words}"

    @property
    def has_total(self) -> bool:
        """Whether a list says how many there are: V3 does; V2 is paged by min_id to an empty page."""
        return self.path.startswith("v3/")

    @property
    def largest_batch(self) -> int:
        """The most ids in one DELETE."""
        return self.max_batch if self.delete_by else 1

    def id_of(self, record: Record) -> int:
        """Return a record's id."""
        number: int = record[self.id_field]
        return number

    def address_of(self, record: Record) -> str:
        """Return a record's e-mail address, as it is compared."""
        return normalize_email(str(record.get(self.email, "")).strip())

    def filter_types(self) -> dict[str, str]:
        """Return the filters as name => type."""
        return dict(item.split("/") for item in self.filters.split())


_DATES = "date_created:min/date date_created:max/date"
_IDS = "id/id id:in/id id:not_in/id id:min/id id:max/id id:greater/id id:less/id"
_CHANGES = "date_modified:min/date date_modified:max/date"
_BY_ID = {"sort": "id", "direction": "asc"}

RESOURCES = {
    resource.name: resource
    for resource in (
        Resource(
            name="customers",  # customers.v3.yml: without id:in 204, "with no changes to the data"
            path="v3/customers",
            scope="store_v2_customers",
            delete_by="id:in",
            params={"sort": "date_created:asc", "include": "addresses,storecredit,attributes,formfields"},
            filters="id:in/id company:in/text customer_group_id:in/int email:in/text name:in/text "
            f"name:like/texts phone:in/text registration_ip_address:in/text {_DATES} {_CHANGES}",
            show=("email", "first_name", "last_name", "date_created"),
            email="email",
            note="addresses, attributes and store credit go along",
        ),
        Resource(
            name="products",  # products_catalog.v3.yml: "you must include a filter", at most 250
            path="v3/catalog/products",
            scope="store_v2_products",
            delete_by="id:in",
            max_batch=250,
            params=_BY_ID | {"include": "variants,images,custom_fields,bulk_pricing_rules,videos,reviews"},
            filters=f"{_IDS} name/text sku/text sku:in/text mpn/text upc/text price/number weight/number "
            "condition/choice brand_id/int categories:in/int is_visible/bool is_featured/int "
            "is_free_shipping/int type/text availability/text total_sold/int inventory_level/int "
            "inventory_level:in/int inventory_level:not_in/int inventory_level:min/int "
            "inventory_level:max/int inventory_level:greater/int inventory_level:less/int "
            f"date_last_imported:min/date date_last_imported:max/date {_CHANGES}",
            show=("name", "sku", "price", "date_created"),
            note="variants, images and all else go along; options and modifiers are not in the backup",
        ),
        Resource(
            name="categories",  # category-trees_catalog.v3.yml: its filter is optional; so by path id
            path="v3/catalog/trees/categories",
            scope="store_v2_products",
            delete_path="v3/catalog/categories",
            done=(202, 204),
            read_by="category_id:in",
            id_field="category_id",
            filters="category_id:in/id category_id:not_in/id tree_id:in/int tree_id:not_in/int "
            "parent_id:in/int parent_id:not_in/int name/text name:like/text page_title/text "
            "page_title:like/text is_visible/bool",
            show=("name", "parent_id"),
            parent="parent_id",
            note="a parent may take its child categories along; one that holds products is refused",
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
            delete_by="id:in",
            read_by="",
            max_batch=50,
            params=_BY_ID,
            filters="id/id name/text currency_code/text redemption_type/choice status/text",
            show=("name", "status", "redemption_type"),
            note="one that still has coupon codes is refused by the API",
        ),
        Resource(
            name="coupons",  # marketing.v2.yml: the collection's filter is optional
            path="v2/coupons",
            scope="store_v2_marketing",
            read_by="",
            filters="id/id code/text name/text type/text",
            show=("code", "name", "date_created"),
            note="the promotion that a coupon is attached to stays",
        ),
        Resource(
            name="price_lists",  # price_lists.v3.yml: the collection's filter is optional; 1 at a time
            path="v3/pricelists",
            scope="store_v2_products",
            max_concurrent=1,
            filters=f"id:in/id name/text name:like/text {_DATES} {_CHANGES}",
            show=("name", "active", "date_created"),
            note="all price records of a list go along, and are not in the backup",
        ),
        Resource(
            name="redirects",  # redirects.v3.yml: id:in is required
            path="v3/storefront/redirects",
            scope="store_v2_content",
            delete_by="id:in",
            params=_BY_ID | {"include": "to_url"},
            filters="id:in/id id:min/id id:max/id site_id/int",
            show=("from_path", "site_id"),
        ),
        Resource(
            name="pages",  # pages.v3.yml: id:in is required; delete_children is not sent
            path="v3/content/pages",
            scope="store_v2_content",
            delete_by="id:in",
            deletes_known_on_404=True,  # "Specified pages that did exist were successfully deleted"
            params={"include": "body"},
            filters="id:in/id channel_id/int name/text",
            show=("name", "url", "type"),
            note="child pages stay, at the top level and hidden",
        ),
        Resource(
            name="subscribers",  # subscribers.v3.yml: "By default, it deletes all subscribers"
            path="v3/customers/subscribers",
            scope="store_v2_customers",
            filters="id:in/id email/text first_name/text last_name/text source/text order_id/int "
            f"{_DATES} {_CHANGES}",
            show=("email", "first_name", "last_name", "date_created"),
            email="email",
        ),
        Resource(
            name="gift_certificates",  # marketing.v2.yml: "By default, it deletes all"
            path="v2/gift_certificates",
            scope="store_v2_marketing",
            read_by="",
            params=_BY_ID,
            filters="code/text order_id/int to_name/text to_email/text from_name/text from_email/text",
            show=("code", "to_email", "balance"),
            note="what is left on them is lost",
        ),
    )
}
# What is read besides, and never deleted.
ORDERS = Resource(
    name="orders", path="v2/orders", scope="store_v2_orders_read_only", params={"sort": "id:asc"}
)
STORE_INFO = Resource(
    name="the store's name and domain", path="v2/store", scope="store_v2_information_read_only"
)

# --- words --------------------------------------------------------------------------------------------
#
# How other people's words, times and names are shown.


SECRETS: set[str] = set()  # the token and the like, once they are read; cut out of the words of others
FOREIGN_LIMIT = 10_000  # characters of foreign text that are looked at; the rest is never shown
DATA_LIMIT = 1000  # characters of a field that selected.csv and failed.csv hold
MESSAGE_LIMIT = 300  # characters of the store's message that are shown and written


def printable(text: object, limit: int = 200) -> str:
    """Return data, such as a field of a record, as one printable line of at most `limit` characters."""
    line = str(text)[:FOREIGN_LIMIT]
    if not line.isprintable():
        line = "".join(character if character.isprintable() else " " for character in line)
    line = " ".join(line.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def clean(text: object, limit: int = 200) -> str:
    """Return the words of a store or proxy as one printable line, without SECRETS.

    N18: secrets are cut out whole, before anything is shortened. Ids and fields of records are data, which
    a short password may be a part of: for them, see `printable`.
    """
    line = str(text)
    for secret in tuple(SECRETS):  # a worker may learn of one meanwhile
        line = line.replace(secret, "[secret]")
    return printable(line, limit)


def utc_now() -> str:
    """Return the wall clock's time in UTC, as ISO 8601 with milliseconds. Never used for pacing."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def first_few(words: Sequence[str]) -> str:
    """Return the first five of them as one line."""
    return ", ".join(words[:5]) + (f" and {len(words) - 5:,} more" if len(words) > 5 else "")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return what to say of an unknown name: the nearest known one, or all there are."""
    known = list(known)
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"known are: {', '.join(known)}"


# --- selection ----------------------------------------------------------------------------------------
#
# Decides whether a record is one of those that a person asked for: the filters of the API, each checked
# here again since a store may ignore one, the --match expressions, and the list files. What can be read in
# two ways is refused with ValueError, which names the line or says what is wrong. Nothing here knows the
# store; the order in which all of this is applied stands under "gather".


def positive_id(value: object) -> int | None:
    """Return a record's id: a positive whole number, and nothing that only looks like one."""
    if isinstance(value, str) and re.fullmatch(r"[1-9][0-9]{0,17}", value):
        value = int(value)
    return value if type(value) is int and value > 0 else None


ADDRESS_LIMIT = 320  # characters of an e-mail address [RFC 3696, erratum 1690]


def normalize_email(address: str) -> str:
    """Return an e-mail address as it is compared: NFC, lower case.

    It is not folded further, since that makes one of two people: straße and strasse. What is too long for an
    address is returned as it is: normalizing a megabyte of combining marks would take minutes.
    """
    if len(address) > ADDRESS_LIMIT:
        return address
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", address).lower())


def spellings(addresses: Iterable[str]) -> list[str]:
    """Return the addresses as they are written and in lower case: a store's filter may mind case."""
    written = [unicodedata.normalize("NFC", address) for address in addresses]
    return list(dict.fromkeys(itertools.chain(map(normalize_email, written), written)))


PLAIN_ADDRESS = re.compile(r"(?!')[\w.!#$%&'+/=?^{|}~-]+@[\w-]+(\.[\w-]+)+")
UNSEEN_LETTERS = frozenset("\u115f\u1160\u3164\uffa0")  # fillers, which Unicode takes for letters


def is_plain_address(text: str) -> bool:
    """Tell whether the text is exactly one e-mail address, without a name, a comment or anything unseen."""
    if len(text) > ADDRESS_LIMIT:
        return False
    text = unicodedata.normalize("NFC", text)
    return bool(PLAIN_ADDRESS.fullmatch(text)) and UNSEEN_LETTERS.isdisjoint(text)


def unseen_letters(text: str) -> str:
    """Return what to say of the letters of a text that nobody sees, "" where there are none."""
    unseen = [letter for letter in text if letter != " " and (not letter.isprintable() or letter.isspace())]
    unseen += UNSEEN_LETTERS.intersection(text)
    return f" (it holds {first_few([f'U+{ord(letter):04X}' for letter in unseen])})" if unseen else ""


def moment(text: object) -> datetime:
    """Return a date or date-time of the API, in UTC where it names no zone; raises ValueError."""
    parsed = datetime.fromisoformat(str(text))
    return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)


# A day, or a moment to the second or the minute; nothing that may mean an hour, a week or a day without
# dashes.
DATE_OR_MOMENT = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?", re.ASCII)


def _span(text: str) -> tuple[datetime, datetime]:
    """Return the beginning of what a date or date-time names, a day or a second, and of what follows it."""
    if not DATE_OR_MOMENT.fullmatch(text):
        raise ValueError(text)
    begin = moment(text).replace(microsecond=0)
    return begin, begin + (timedelta(days=1) if len(text) == 10 else timedelta(seconds=1))


def _number(text: str, pattern: str) -> float | None:
    return float(text) if re.fullmatch(pattern, text) else None


def _casefolded(value: object) -> str:
    return str(value).casefold()


@dataclass(frozen=True)
class FilterType:
    """How the values of one kind of filter are read, and what they are compared with."""

    # What a value must be, to complete "needs …".
    wanted: str
    # text => the value; raises ValueError, or returns None, for any other text.
    read: Callable[[str], Any]
    # What the record holds => what the value is compared with; raises ValueError or TypeError.
    of_record: Callable[[Any], Any] = float


FILTER_TYPES = {
    "id": FilterType("a positive whole number", positive_id),
    "int": FilterType("a whole number", lambda text: _number(text, r"-?[0-9]{1,18}")),
    "number": FilterType("a number", lambda text: _number(text, r"[0-9]+(\.[0-9]+)?")),
    "bool": FilterType("true or false", {"true": True, "false": False}.get, bool),
    "date": FilterType("a date, such as 2025-03-31 or 2025-03-31T12:00:00Z", _span, moment),
    "text": FilterType("text", _casefolded, _casefolded),
    "texts": FilterType("text", _casefolded, _casefolded),  # :like that the API splits at commas
    "choice": FilterType("text", _casefolded, _casefolded),  # a word that the API takes in small letters only
}

# have: what the record holds; value: one of the filter's.
OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "": operator.eq,
    "in": operator.eq,
    "not_in": operator.eq,  # of none of the values
    "like": operator.contains,
    "min": operator.ge,
    "max": operator.le,
    "greater": operator.gt,
    "less": operator.lt,
}


@dataclass(frozen=True)
class Filter:
    """A filter of the API, which is checked here on every record, since a store may ignore it."""

    name: str  # such as date_created:min
    text: str  # as it was given
    kind: FilterType
    # The values, each as it was given => as it is compared.
    values: Mapping[str, Any]

    @property
    def sent(self) -> str:
        """What the API is asked for: date-times in full and in UTC, all else as it was given."""
        if self.kind is FILTER_TYPES["choice"]:
            return self.text.lower()
        if self.kind is not FILTER_TYPES["date"]:
            return self.text
        begin, follows = self.values[self.text]
        return f"{follows if self.name.endswith(':max') else begin:%Y-%m-%dT%H:%M:%SZ}"

    def fits(self, record: Record, *, as_sent: bool = False) -> bool:
        """Tell whether the record was meant; as_sent: whether a store that heeds the filter may list it.

        The API's :max means "before" for one resource and "until" for another, so a record that was made
        right at the moment that was sent may come, and is none that was meant.
        """
        have = self._have(record)
        if self.kind is FILTER_TYPES["date"]:
            begin, follows = self.values[self.text]
            if self.name.endswith(":min"):
                return any(item >= begin for item in have)
            return any(item < follows or (as_sent and item == follows) for item in have)
        found = bool(self.found_in(record))
        return bool(have) and not found if self.name.endswith(":not_in") else found

    def found_in(self, record: Record) -> set[str]:
        """Return those of the values, as they were given, that the record has."""
        compare, have = OPERATORS[self.name.partition(":")[2]], self._have(record)
        return {text for text, value in self.values.items() if any(compare(item, value) for item in have)}

    def _have(self, record: Record) -> list[Any]:
        """Return what the record holds in the filter's field, as it is compared."""
        base = self.name.partition(":")[0]
        held = record.get(base)
        if base == "name" and "first_name" in record:  # customers.v3.yml: "first_name and last_name"
            held = f"{record.get('first_name')} {record.get('last_name')}"
        items = held if isinstance(held, list) else [held]
        try:
            return [self.kind.of_record(item) for item in items if item is not None]
        except (TypeError, ValueError, OverflowError):
            return []


def make_filter(name: str, text: str, types: Mapping[str, str]) -> Filter:
    """Read a filter; types: those of the resource, as name => FILTER_TYPES.

    Raises ValueError for a name that is not among the types, and for a value of another type.
    """
    if name not in types:
        raise ValueError(f"is no filter that can be checked on the record: {nearest(name, types)}")
    text, kind = text.strip(), FILTER_TYPES[types[name]]
    listed = name.endswith((":in", ":not_in")) or types[name] == "texts"
    if listed and re.search(r",\s", text):
        raise ValueError("has a space after a comma, where the API begins the next value: use --match")
    values = {}
    for part in text.split(",") if listed else [text]:
        if not part.strip():
            raise ValueError("has an empty value")
        value = None
        with suppress(ValueError, OverflowError):
            value = kind.read(part.strip())
        if value is None:
            raise ValueError(f"needs {kind.wanted}")
        values[part] = value
    return Filter(name, text, kind, values)


def values_at(record: object, path: str) -> list[Any]:
    """Return what stands at a path such as addresses.0.country_code; with * for any element."""
    found = [record]
    for part in path.split("."):
        inner: list[Any] = []
        for item in found:
            if isinstance(item, list):
                place = int(part) if re.fullmatch(r"[0-9]{1,9}", part) else len(item)
                inner += item if part == "*" else item[place : place + 1]
            elif isinstance(item, dict) and part in item:
                inner.append(item[part])
        found = inner
    return found


def value_at(record: object, path: str) -> Any:
    """Return what stands at a path, None where nothing does."""
    return next(iter(values_at(record, path)), None)


def leaves_at(record: object, path: str) -> list[Any]:
    """Return the texts, numbers and booleans at a path, at any depth; None for each that is unknown.

    Null is unknown, and so is a field that an object lacks. A list that is empty, or too short for the
    path, is known to have no such element.
    """
    found = [record]
    for part in path.split("."):
        inner: list[Any] = []
        for item in found:
            if isinstance(item, list):
                inner += values_at(item, part)
            else:
                inner.append(item.get(part) if isinstance(item, dict) else None)
        found = inner
    leaves: list[Any] = []
    while found:
        item = found.pop()
        if isinstance(item, (list, dict)):
            found += item.values() if isinstance(item, dict) else item
        else:
            leaves.append(item)
    return leaves


def shortest(value: object) -> str:
    """Return a number or boolean as --match reads it: 100 for 100.0, true for True."""
    if isinstance(value, float):
        return format(Decimal(repr(value)).normalize(), "f")
    return json.dumps(value)


@dataclass(frozen=True)
class Match:
    """--match: records in whose field a regular expression matches or, negated, does not match."""

    path: str
    negated: bool
    pattern: re.Pattern[str]

    def fits(self, record: Record) -> bool:
        """Tell whether the record is selected, as far as this expression decides."""
        return self.is_found_in(record) is (not self.negated)

    def is_found_in(self, record: Record) -> bool | None:
        """Tell whether the expression matches in the field; None where that is unknown.

        Text is searched. A number or boolean must match as a whole, and so must each element of a list. Null
        is unknown, and so is a list of which the API returns only a part.
        """
        one_element = re.match(r"\w+\.[0-9]", self.path)
        if not one_element and self.path.partition(".")[0] in cut_off(record):
            return None
        leaves = leaves_at(record, self.path)
        if any(self._matches(leaf) for leaf in leaves if leaf is not None):
            return True
        return None if None in leaves else False

    def _matches(self, leaf: object) -> bool:
        if isinstance(leaf, str):
            return bool(self.pattern.search(leaf))
        return bool(self.pattern.fullmatch(shortest(leaf)))


def cut_off(record: Record) -> dict[str, int]:
    """Return the sub-resources that the API lists in part only (ten of them), and how many there are."""
    cut = {}
    for name, counted in (("addresses", "address_count"), ("attributes", "attribute_count")):
        listed, count = record.get(name), record.get(counted)
        if isinstance(listed, list) and type(count) is int and count > len(listed):
            cut[name] = count
    return cut


class IdSet:
    """Ids seen so far: 8 bytes each while they rise, as in a listing that is sorted oldest first.

    A set of a million ids takes 60 bytes each, which is most of what a dry run of a large store needs.
    """

    def __init__(self, ids: Iterable[int] = ()) -> None:
        self._rising = array("q")
        self._others: set[int] = set()
        for number in ids:
            self.add(number)

    def __len__(self) -> int:
        return len(self._rising) + len(self._others)

    def __contains__(self, number: int) -> bool:
        place = bisect.bisect_left(self._rising, number)
        return number in self._rising[place : place + 1] or number in self._others

    def add(self, number: int) -> bool:
        """Add it; returns False when it was there."""
        if self._rising and number <= self._rising[-1]:
            if number in self:
                return False
            self._others.add(number)
        else:
            self._rising.append(number)
        return True


# --- lists --------------------------------------------------------------------------------------------
#
# Reads what a person wrote down for --ids and --keep: one entry a line, or a CSV with a header. It reads
# strictly, since a comma too many once deleted the wrong people: a text has one meaning, or is refused with
# its line.

SEPARATORS = ",;\t"


@dataclass
class Entries:
    """The records that a list file lists, each by its id or its e-mail address, or by both."""

    # The file, as it was given.
    name: str = ""
    # In the order of the file, none twice.
    ids: array[int] = field(default_factory=lambda: array("q"))
    # E-mail addresses: as they are compared => as they were written.
    emails: dict[str, str] = field(default_factory=dict)
    # Of the ids whose row has an address too: id => line of the file, and the address as it is compared.
    pairs: dict[int, tuple[int, str]] = field(default_factory=dict)
    # How many entries were there again.
    duplicates: int = 0

    def __len__(self) -> int:
        return len(self.ids) + len(self.emails)

    def add_pair(self, line: int, number: str, address: str) -> None:
        """Add a row that has an id and an address of one record; raises ValueError where one is missing."""
        if not number or not address:
            missing = "address" if number else "id"
            raise ValueError(
                f"the {missing} is missing; a row has both, since the file has a column for each"
            )
        if "@" not in address:
            raise ValueError(f"{printable(address)!r} is not an e-mail address")
        self.add(number, by_id=True, by_email=False)
        pair = self.pairs.setdefault(self.ids[-1], (line, normalize_email(address)))
        if pair[1] != normalize_email(address):
            raise ValueError(f"id {number} has another address in line {pair[0]}")

    def add(self, text: str, *, by_id: bool, by_email: bool) -> None:
        """Add an id or an address; raises ValueError for anything else."""
        if by_id and (number := positive_id(text)):
            self.ids.append(number)
        elif by_email and is_plain_address(text):
            self.duplicates += normalize_email(text) in self.emails
            self.emails.setdefault(normalize_email(text), text)
        else:
            wanted = ["a positive whole number"] * by_id + ["one plain e-mail address"] * by_email
            made = re.fullmatch(r"[0-9]+[.,]0+|[0-9]+([.,][0-9]+)?E\+?[0-9]+", text, re.IGNORECASE)
            hint = f" (a spreadsheet's: make the column whole numbers, and {AS_CSV})" if made else ""
            raise ValueError(
                f"{printable(text)!r} is not {' or '.join(wanted)}{hint or unseen_letters(text)}"
            )

    def drop_repeated_ids(self) -> None:
        """Leave each id where it stands first."""
        if any(second <= first for first, second in itertools.pairwise(self.ids)):  # else each is a new one
            distinct = array("q", dict.fromkeys(self.ids))
            self.duplicates += len(self.ids) - len(distinct)
            self.ids = distinct


@dataclass(frozen=True)
class Layout:
    """Where the entries of a list stand: in columns of a CSV, or, without a header, alone in their lines."""

    separator: str
    # The cells of the header; none in a plain list.
    header: tuple[str, ...] = ()
    # The column of the ids, and of the addresses; None where there is none.
    ids: int | None = None
    emails: int | None = None

    def cells(self, row: Sequence[str]) -> tuple[str, str]:
        """Return id and address of a row; raises ValueError for a row that can be misread."""
        if len(row) > len(self.header) and sum(map(bool, row)) > 1:
            raise ValueError("more values than the header has columns; quote those that hold a separator")
        if any(cell and not name for cell, name in itertools.zip_longest(row, self.header)):
            raise ValueError("a value in a column without a name; name the column, or take the value out")

        def cell(place: int | None) -> str:
            return row[place] if place is not None and place < len(row) else ""

        # selected.csv has a ' before what a spreadsheet would take for a formula.
        return cell(self.ids), re.sub("^'(?=[=+@-])", "", cell(self.emails))


# How the files begin that a spreadsheet makes besides CSV UTF-8 => what they are.
SPREADSHEETS = {
    b"PK\x03\x04": "an Excel workbook, or another document",
    b"\xd0\xcf\x11\xe0": "an Excel workbook",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}
AS_CSV = "in the spreadsheet, save it as CSV UTF-8"


def decoded_list(content: bytes) -> str:
    """Return the text of a list; raises ValueError for what a spreadsheet saves besides CSV UTF-8."""
    kind = next((kind for start, kind in SPREADSHEETS.items() if content.startswith(start)), "")
    if kind:
        raise ValueError(f"is {kind}: {AS_CSV}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"line {line}: is not UTF-8 text: {AS_CSV}") from error
    if re.match(r"\s*\"?sep=", text, re.IGNORECASE):
        raise ValueError(f"line 1: sep= is Excel's own, and no entry: take it out, or {AS_CSV}")
    return text


def read_list(text: str, resource: Resource) -> Entries:
    """Read the entries of a list; raises ValueError that names the line, or says that there are none."""
    by_email = bool(resource.email)
    layout = find_layout(text, resource, by_email=by_email)
    entries = Entries()
    rows = csv_rows(text, layout.separator)
    for line, row in itertools.islice(rows, 1 if layout.header else 0, None):
        try:
            read_row(line, row, layout, entries, by_email=by_email)
        except ValueError as error:
            raise ValueError(f"line {line}: {error}") from None
    entries.drop_repeated_ids()
    if not entries:
        raise ValueError(f"holds no {resource.words}")
    return entries


def read_row(line: int, row: Sequence[str], layout: Layout, entries: Entries, *, by_email: bool) -> None:
    """Add the record of a row; raises ValueError for a row that can be misread."""
    if not layout.header:
        if any(row[1:]):
            raise ValueError("more than one value, and no header says which to take")
        entries.add(row[0], by_id=True, by_email=by_email)
        return
    number, address = layout.cells(row)
    if layout.ids is None or layout.emails is None:
        entries.add(number or address, by_id=layout.ids is not None, by_email=layout.emails is not None)
    else:
        entries.add_pair(line, number, address)


def csv_rows(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield line and cells of each row that holds anything; raises ValueError that names the line."""
    csv.field_size_limit(2**31 - 1)
    # Line by line: a copy of the whole would be most of the memory.
    lines = (match[0] for match in re.finditer(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+", text))
    reader = csv.reader(lines, delimiter=separator, strict=True)
    while True:
        begins = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            unclosed = "unexpected end" in str(error)
            fault = "the quote never closes" if unclosed else "there is text behind a closing quote"
            raise ValueError(f"line {begins}: {fault}") from error
        if row is None:
            return
        cells = [cell.strip(" \t") for cell in row]
        if any("\0" in cell for cell in cells):
            raise ValueError(f"line {reader.line_num}: it holds a NUL; save the list as UTF-8 text")
        if any(cell[:1] != '"' == stripped[:1] for cell, stripped in zip(row, cells, strict=True)):
            raise ValueError(f"line {begins}: there is a space before a quote; take it out")
        if any(cells):
            yield reader.line_num, cells


def find_layout(text: str, resource: Resource, *, by_email: bool) -> Layout:
    """Return how the list is laid out; raises ValueError unless there is exactly one way to read it."""
    found: dict[tuple[str, ...], Layout] = {}
    faults = [(0, f"holds no {resource.words}")]
    for separator in SEPARATORS:
        header: list[str] = []
        try:
            _, header = next(csv_rows(text, separator), (1, []))
            alone = header[0] if header and not any(header[1:]) else ""
            if positive_id(alone) or (by_email and is_plain_address(alone)):
                return Layout(separator)
            if header:
                layout = find_columns(separator, header, resource, by_email=by_email)
                found.setdefault(layout.header, layout)
        except ValueError as error:
            faults.append((len(header) or 1, str(error)))
    if not found:
        raise ValueError(max(faults, key=lambda fault: fault[0])[1])
    if len(found) > 1:
        raise ValueError("line 1: its columns can be told apart in two ways; use one separator")
    return next(iter(found.values()))


def header_key(name: str) -> str:
    """Return a name of a column or item as it is compared: case, spaces, _ and - aside."""
    return re.sub(r"[ _-]", "", name.casefold())


SEVERAL = -1  # columns that could be meant


def column_of(names: Sequence[str], wanted: Sequence[str]) -> int | None:
    """Return the place of the one column with such a name; None without one, SEVERAL if it is not plain."""
    places = [place for place, name in enumerate(names) if name in wanted]
    return (places[0] if len(places) == 1 else SEVERAL) if places else None


ADDRESS_COLUMNS = ("email", "emailaddress", "emailadresse", "adresseemail")  # as header_key has them


def find_columns(separator: str, header: Sequence[str], resource: Resource, *, by_email: bool) -> Layout:
    """Return which columns of a CSV to read; raises ValueError that names all when that is not plain."""
    names = list(map(header_key, header))
    if not {"item", "itemtype"}.isdisjoint(names):
        raise ValueError(
            "line 1: this is a product export (Item column): its ID column also holds ids of variants and "
            "images. Make a list that has only the ids to delete"
        )
    ids = column_of(names, ("id", f"{header_key(resource.singular_words)}id"))
    emails = column_of(names, ADDRESS_COLUMNS if by_email else ())
    others = {f"{header_key(other.singular_words)}id" for other in RESOURCES.values()}
    foreign = next((header[place] for place, name in enumerate(names) if name in others), "")
    if foreign and ids is None:
        raise ValueError(f"line 1: the file lists {printable(foreign, 40)}s, not {resource.words}")
    if SEVERAL in (ids, emails) or (ids is None and emails is None):
        shown = ", ".join(printable(name, 40) for name in header if name)
        wanted = f"id or {resource.singular_words} id" + (" or email" if by_email else "")
        alone = "id or address" if by_email else "id"
        raise ValueError(
            f"line 1: this is neither one {alone}, alone on its line, nor a header; it is not plain which "
            f"column is the {wanted}; there are: {shown}{unseen_letters(''.join(header))}"
        )
    return Layout(separator, tuple(header), ids, emails)


class Found:
    """Which entries of a list match a record of the store, as its records come by."""

    def __init__(self, entries: Entries, resource: Resource) -> None:
        self.entries = entries
        # Records that the list excluded.
        self.spared = 0
        # Whether the store was asked for the entries, rather than all of its records compared.
        self.looked_up = False
        self._resource = resource
        self._wanted = IdSet(sorted(entries.ids))
        self._ids = IdSet()
        # Address, as it is compared => the ids of those who have it; of entries.emails, and of pairs.
        self._emails: dict[str, set[int]] = {}
        self._paired: dict[str, set[int]] = {address: set() for _, address in entries.pairs.values()}

    def names(self, record: Record) -> bool:
        """Take note of a record; returns whether the list names it."""
        number = self._resource.id_of(record)
        named = number in self._wanted
        if named:
            self._ids.add(number)
        if self.entries.emails or self._paired:
            email = self._resource.address_of(record)
            if email in self._paired:
                self._paired[email].add(number)
            if email in self.entries.emails:
                self._emails.setdefault(email, set()).add(number)
                return True
        return named

    @property
    def known(self) -> int:
        """How many entries the store knows."""
        return len(self._ids) + len(self._emails)

    def case_words(self) -> str:
        """Return what to say of addresses that a look-up did not find, "" where there are none."""
        may_mind_case = self.looked_up and self.unknown_emails()
        return " (the store's look-up by address may be case-sensitive)" if may_mind_case else ""

    def unknown_pairs(self) -> list[str]:
        """Return the addresses of rows whose id no record has: another record may have that address."""
        pairs = self.entries.pairs.items()
        addresses = [address for number, (_, address) in pairs if number not in self._ids]
        return [address for address in addresses if is_plain_address(address)]

    def split_rows(self) -> list[str]:
        """Return the rows whose id and address are those of two records, such as "line 2 (id 26)"."""
        return [
            f"line {line} (id {number})"
            for number, (line, address) in self.entries.pairs.items()
            if number not in self._paired[address] and (number in self._ids or self._paired[address])
        ]

    def unknown_ids(self) -> array[int]:
        """Return the ids that no record has had."""
        return array("q", (number for number in self.entries.ids if number not in self._ids))

    def unknown_emails(self) -> list[str]:
        """Return the addresses that no record has had, as they were written."""
        return [text for email, text in self.entries.emails.items() if email not in self._emails]

    def unknown(self) -> Iterator[str]:
        """Yield the entries that no record has had."""
        yield from map(str, self.unknown_ids())
        yield from self.unknown_emails()

    def shared(self) -> list[str]:
        """Return what to say of addresses that several records have."""
        counts = ((email, len(ids)) for email, ids in self._emails.items() if len(ids) > 1)
        return [f"{email} is the address of {count} {self._resource.words}" for email, count in counts]


# --- configuration ------------------------------------------------------------------------------------
#
# Turns store.ini and the command line into one frozen Config, or says which file, key or option is wrong. A
# field of Config that is made by `setting` is an option: its name is the key in [cleanup] and, with dashes,
# the option of the command line. To add an option is to add such a field, and its lines in HELP and in
# config.example.ini. Whether a number is sensible for this store is decided later.


def number_between(low: float, high: float, wanted: str, *, of: type = int) -> Callable[[str], Any]:
    """Return a converter for numbers from low to high; wanted: what they must be, for the message."""
    pattern = r"[0-9]{1,18}" if of is int else r"[0-9]{1,18}(\.[0-9]{1,18})?"

    def convert(text: str) -> Any:
        value = of(text) if re.fullmatch(pattern, text) else -1
        if not low <= value <= high:
            raise ValueError(f"must be {wanted}")
        return value

    return convert


def whole_number(low: int) -> Callable[[str], int]:
    """Return a converter for whole numbers from low on."""
    return number_between(low, math.inf, f"a whole number of {low} or more")


def seconds_up_to(most: int) -> Callable[[str], float]:
    """Return a converter for a time in seconds."""
    return number_between(1e-3, most, f"a number of seconds above 0, and at most {most}", of=float)


def percentage(text: str) -> float:
    """Convert a share in percent; the sign may stand behind it."""
    convert = number_between(0, 100, "a percentage from 0 to 100", of=float)
    return float(convert(text.removesuffix("%").rstrip()))


def yes_or_no(text: str) -> bool:
    """Convert what an ini calls a boolean."""
    value = configparser.RawConfigParser.BOOLEAN_STATES.get(text.lower())
    if value is None:
        raise ValueError("must be yes or no")
    return value


def known_resource(text: str) -> Resource:
    """Convert the name of a resource."""
    if text not in RESOURCES:  # N: no suggestion to delete another kind of record
        raise ValueError("must be a resource (see --resource list)")
    return RESOURCES[text]


def name_and_value(text: str) -> tuple[str, str]:
    """Convert NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ValueError("must be NAME=VALUE")
    return name.strip().lower(), value


def field_and_pattern(text: str) -> Match:
    """Convert FIELD=REGEX, or FIELD!=REGEX."""
    path, equals, pattern = text.partition("=")
    negated, path = path.endswith("!"), path.removesuffix("!").strip()
    if not path or not equals or not pattern or pattern[0] in " =":
        raise ValueError("must be FIELD=REGEX or FIELD!=REGEX, without a space or another = behind the first")
    if is_quoted(pattern) or is_quoted(path):
        raise ValueError('stands in quotes: take them out, or write ["] where one is meant')
    if re.search(r"\[:\^?[a-z]+:\]", pattern):
        raise ValueError(r"has a POSIX class, which Python reads as single letters: write \d, \w or [a-z]")
    try:
        return Match(path, negated, re.compile(pattern))
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"must hold a regular expression ({error})") from error


def some_path(text: str) -> Path:
    """Convert a path."""
    if not text:
        raise ValueError("must be a path")
    with suppress(RuntimeError):  # there is no such user
        return Path(text).expanduser()
    return Path(text)


def web_address(text: str) -> str:
    """Convert an http or https URL."""
    SECRETS.update(filter(None, [text]))
    try:
        parts = urlsplit(text)
        sound = bool(re.fullmatch(r"https?://[!-~]+", text) and parts.hostname and parts.port != 0)
    except ValueError:  # no port, no address
        sound = False
    if not sound:
        raise ValueError("must be an http or https URL")
    return text


@dataclass(frozen=True)
class Option:
    """How a field of Config is set: by a key of [cleanup], and by an option of the command line."""

    # text => value; raises ValueError that completes "NAME …".
    convert: Callable[[str], Any]
    in_ini: bool = True
    # May be given more than once, and makes a tuple.
    repeats: bool = False
    # And the ini's and the command line's values add up.
    adds_up: bool = False
    # Part of the selection, which --resume takes from the plan.
    selects: bool = False
    # Repeated in the command that resumes the run.
    resumes: bool = False
    name: str = ""

    @property
    def flag(self) -> str:
        """The option of the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def is_switch(self) -> bool:
        """Whether it takes no value on the command line."""
        return self.convert is yes_or_no


def setting(default: Any, convert: Callable[[str], Any], *, secret: bool = False, **more: Any) -> Any:
    """Return a field of Config that is an option; convert and more: the fields of Option."""
    return field(default=default, repr=not secret, metadata={"option": Option(convert, **more)})


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that a run is told: the store, the options, and the words in which they were given."""

    # The ini file.
    path: Path
    # [store]; host is the API's, moved by BC_API_ENDPOINT; domain is "" where it is not pinned.
    host: str
    store_hash: str
    access_token: str = field(repr=False)
    client_id: str
    domain: str

    # What to delete.
    resource: Resource = setting(RESOURCES["customers"], known_resource, selects=True)
    # By name; those of [filters] too.
    filter: Mapping[str, Filter] = setting((), name_and_value, in_ini=False, repeats=True, selects=True)
    match: tuple[Match, ...] = setting((), field_and_pattern, repeats=True, selects=True)
    ids: Path | None = setting(None, some_path, selects=True)
    keep: tuple[Path, ...] = setting((), some_path, repeats=True, adds_up=True, selects=True)
    spare_with_orders: bool = setting(False, yes_or_no, selects=True)
    limit: int | None = setting(None, whole_number(1), selects=True)

    # Safety.
    max_delete: int | None = setting(None, whole_number(0), resumes=True)
    dry_run: bool = setting(False, yes_or_no)
    yes: bool = setting(False, yes_or_no, in_ini=False)
    resume: Path | None = setting(None, some_path, in_ini=False)
    runs_dir: Path = setting(Path("runs"), some_path)
    no_backup: bool = setting(False, yes_or_no)

    # Pace: a ceiling a window, ids in one DELETE (None: the resource's maximum), requests at once.
    rate_limit: int | None = setting(None, whole_number(1), resumes=True)
    batch_size: int | None = setting(None, whole_number(1), resumes=True)
    max_concurrent: int = setting(5, number_between(1, 5, "a whole number from 1 to 5"), resumes=True)
    min_requests_remaining: int = setting(0, whole_number(0))
    count_items: bool = setting(False, yes_or_no)
    max_retries: int = setting(5, number_between(0, 20, "a whole number from 0 to 20"))
    # Seconds to wait for an answer, or for more of it.
    timeout: float = setting(60.0, seconds_up_to(3600))
    # In percent of the selection.
    max_error_rate: float = setting(10.0, percentage)

    # Output.
    json: bool = setting(False, yes_or_no, in_ini=False, resumes=True)
    verbose: bool = setting(False, yes_or_no)
    webhook_url: str = setting("", web_address, secret=True)

    # What excludes records by the ini, whether or not it applies to a resume: key of [cleanup] => value.
    ini_protections: Mapping[str, str] = field(default_factory=dict)
    # What --ids and --keep list.
    ids_entries: Entries | None = None
    keep_entries: Sequence[Entries] = ()
    # What selected, besides the filters, in the words that were given: option => words.
    selection: Mapping[str, str] = field(default_factory=dict)
    # Options of the command line that the command to resume needs again.
    resume_options: Sequence[str] = ()
    warnings: Sequence[str] = ()

    @property
    def filters(self) -> dict[str, str]:
        """The filters, in the words given."""
        return {name: item.text for name, item in self.filter.items()}


OPTIONS = {f.name: replace(f.metadata["option"], name=f.name) for f in fields(Config) if f.metadata}
STORE_KEYS = ("store_hash", "access_token", "client_id", "domain")
Keys = Mapping[str, str]  # of a section of the ini => their values

# What configparser raises => what to say of the line; a subclass stands before its base.
INI_FAULTS = {
    configparser.DuplicateSectionError: "this section is there twice; join the two",
    configparser.DuplicateOptionError: "this key is there twice in its section; keep one",
    configparser.MissingSectionHeaderError: "a section must come first; write [store] above it",
    configparser.ParsingError: "this is neither [section] nor key = value (with =, not :)",
}


def read_ini(path: Path) -> Mapping[str, Keys]:
    """Return the sections of an ini file; raises ConfigError, which never quotes a line (N16)."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such file; copy config.example.ini and fill it in") from error
    except (OSError, ValueError) as error:
        text_fault = isinstance(error, UnicodeDecodeError)
        why = "this is not UTF-8 text" if text_fault else getattr(error, "strerror", None) or error
        raise ConfigError(f"{path}: cannot be read ({why}); name an ini file, saved as UTF-8") from error
    if "\0" in text:
        raise ConfigError(f"{path}: this is not UTF-8 text (UTF-16?); save it as UTF-8")
    parser = configparser.RawConfigParser(delimiters=("=",), default_section="\0")
    # Without their indentation no line continues the one before: a token never swallows a key.
    lines = [line.strip() for line in re.split(r"\r\n|\r|\n", text)]
    try:
        parser.read_string("\n".join(lines))
    except configparser.Error as error:
        fault = next(text for kind, text in INI_FAULTS.items() if isinstance(error, kind))
        line = getattr(error, "lineno", None) or getattr(error, "errors", [["?"]])[0][0]
        raise ConfigError(f"{path}, line {line}: {fault}") from None
    ini = {name: dict(parser.items(name)) for name in parser.sections()}
    check_names(path, ini, lines)
    check_values(path, ini)
    return ini


def check_names(path: Path, ini: Mapping[str, Keys], lines: Sequence[str]) -> None:
    """Raise ConfigError for a section or key that nobody reads: a typo may select too much.

    The name is not shown, since it may be a token: access_token: abc= is a key, as an ini has it.
    """
    keys = [name for name, option in OPTIONS.items() if option.in_ini]
    filters = {name for resource in RESOURCES.values() for name in resource.filter_types()}
    known: dict[str, Sequence[str]] = {"store": STORE_KEYS, "cleanup": keys, "filters": sorted(filters)}
    if "store" not in ini:
        raise ConfigError(f"{path}: the section [store] is missing; see config.example.ini")
    section = ""
    for number, line in enumerate(lines, 1):
        where = f"{path}, line {number}"
        if header := re.fullmatch(r"\[(.+)\].*", line):
            section = header[1]
            if section not in known:
                raise ConfigError(f"{where}: unknown section; {nearest(section, known)}")
        elif "=" in line and line[0] not in "#;":
            key = line.partition("=")[0].strip().lower()
            if section == "cleanup" and key in (*OPTIONS, "config", "version") and key not in keys:
                raise ConfigError(f"{where}: {key} in [cleanup]: use --{key} on the command line")
            if key not in known[section]:
                close = nearest(key.partition(":")[0], known[section])
                hint = close if section != "filters" else "see --resource list"
                raise ConfigError(f"{where}: unknown key in [{section}]; {hint}")


QUOTES = "'\"“”„‘’"


def is_quoted(value: str) -> bool:
    """Tell whether a value begins or ends with a quote."""
    return bool(value) and (value[0] in QUOTES or value[-1] in QUOTES)


def check_values(path: Path, ini: Mapping[str, Keys]) -> None:
    """Raise ConfigError, which never shows the value, for quotes or a comment that would be part of it."""
    for section, keys in ini.items():
        for key, value in keys.items():
            if is_quoted(value):
                raise ConfigError(f"{path}: {key} in [{section}] stands in quotes: take them out")
            if re.search(r"\s[;#]", value):
                fault = "has a comment behind its value: put it on a line of its own"
                raise ConfigError(f"{path}: {key} in [{section}] {fault}")


def read_store(path: Path, section: Keys, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of Config that [store] and the environment set; raises ConfigError."""
    store_hash = read_store_hash(path, section.get("store_hash", ""))
    token, source = section.get("access_token", ""), f"{path}: access_token in [store]"
    if not token and (token := environ.get("BIGCOMMERCE_ACCESS_TOKEN", "").strip()):
        source = "BIGCOMMERCE_ACCESS_TOKEN"
    if not token:
        raise ConfigError(f"{source} is missing; fill it in, or set BIGCOMMERCE_ACCESS_TOKEN")
    SECRETS.add(token)
    client_id = section.get("client_id", "")
    if is_quoted(token):
        raise ConfigError(f"{source} stands in quotes: take them out")
    for name, value in ((source, token), (f"{path}: client_id in [store]", client_id)):
        if not re.fullmatch(r"[!-~]*", value):
            raise ConfigError(f"{name} holds a space or a character that is not ASCII; paste it again, alone")
    host = environ.get("BC_API_ENDPOINT") or DEFAULT_HOST
    if not re.fullmatch(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?", host):
        raise ConfigError(f"BC_API_ENDPOINT must be a host, or host:port, not {clean(host)!r}; correct it")
    domain = bare_domain(section.get("domain", ""))
    if section.get("domain") and not domain:
        raise ConfigError(f"{path}: domain in [store] names no domain; write it as www.example.com")
    found = {"store_hash": store_hash, "access_token": token, "client_id": client_id, "domain": domain}
    return {"host": host, **found}


def read_store_hash(path: Path, given: str) -> str:
    """Return the hash, which may be given as the API path that BigCommerce shows; raises ConfigError."""
    pasted = re.fullmatch(r"(?:(?:https?://)?[^/]+)?/?stores/([^/]+)(?:/.*)?", given)
    store_hash = pasted[1] if pasted else given
    if not store_hash:
        raise ConfigError(f"{path}: store_hash in [store] is missing; see the store's API path")
    if not re.fullmatch(r"[A-Za-z0-9]+", store_hash):
        raise ConfigError(
            f"{path}: store_hash in [store] must be letters and digits, or the API path that BigCommerce "
            "shows; copy it from the store's API account"
        )
    return store_hash


def bare_domain(url: object) -> str:
    """Return the domain of a URL, in lower case, without scheme and path."""
    return re.sub(r"^https?://|/.*$", "", str(url).lower())


def read_options(arguments: argparse.Namespace, cleanup: Keys) -> dict[str, Any]:
    """Return the fields of Config that options set: the command line over the ini; raises ConfigError."""
    values: dict[str, Any] = {"selection": {}, "resume_options": []}
    for name, text in cleanup.items() if not arguments.resume else ():  # though the command line may win
        convert_one(OPTIONS[name], text, f"{arguments.config}: {name} in [cleanup]")
    for name, option in OPTIONS.items():
        texts, source = given_texts(option, arguments, cleanup)
        if not texts:
            continue
        converted = [convert_one(option, text, source) for text in texts]
        values[name] = tuple(converted) if option.repeats else converted[-1]
        if option.selects and values[name] and name not in ("resource", "filter"):  # summary.json's own keys
            values["selection"][name] = " and ".join(texts)
        if option.resumes and source == option.flag:
            values["resume_options"] += repeated(option, texts[-1])
    return values


def repeated(option: Option, text: str) -> list[str]:
    """Return the words that give an option again; none for a switch that is off."""
    if option.is_switch:
        return [option.flag] if yes_or_no(text) else []
    return [option.flag, text]


def convert_one(option: Option, text: str, source: str) -> Any:
    """Return the value of a text; raises ConfigError that names where it was given.

    A value of the ini is not shown: it may be a token in the wrong line.
    """
    try:
        return option.convert(text)
    except ValueError as error:
        shown = f", not {clean(text)!r}" if source == option.flag else ""
        raise ConfigError(f"{source} {error}{shown}") from error


def given_texts(option: Option, arguments: argparse.Namespace, cleanup: Keys) -> tuple[list[str], str]:
    """Return what was given for an option, and the name of where; raises ConfigError if it may not be.

    With --resume the selection is the plan's, so what selects is an error on the command line, and is not
    read from the ini; nor is dry_run, which the earlier run was.
    """
    texts: list[str] = getattr(arguments, option.name, None) or []
    from_plan = arguments.resume and (option.selects or option.name == "dry_run")
    if texts and from_plan and option.selects:
        raise ConfigError(f"{option.flag} selects, but --resume takes the plan's selection: leave it out")
    check_once(option, texts)
    if option.name in cleanup and not from_plan and (not texts or option.adds_up):
        return [cleanup[option.name], *texts], f"{arguments.config}: {option.name} in [cleanup]"
    return texts, option.flag


def check_once(option: Option, texts: Sequence[str]) -> None:
    """Raise ConfigError for an option that takes one value, and is given more; a switch may be repeated."""
    if not option.repeats and len(set(texts) if option.is_switch else texts) > 1:
        raise ConfigError(f"{option.flag} is there twice, and takes one value: leave one out")


def read_filters(given: Iterable[tuple[str, str]], path: Path, ini: Keys, types: Keys) -> dict[str, Filter]:
    """Return filters by name, the command line's over the ini's, each checked; raises ConfigError.

    types: those of the resource, as in make_filter.
    """
    texts = {name: (f"{path}: {name} in [filters]", text) for name, text in ini.items()}
    for name, text in given:
        source = f"--filter {clean(name)}"
        if texts.get(name, ("",))[0] == source:
            raise ConfigError(f"{source} is there twice; join the two")
        texts[name] = (source, text)
    filters = {}
    for name, (source, text) in texts.items():
        try:
            filters[name] = make_filter(name, text, types)
        except ValueError as error:
            raise ConfigError(f"{source} {error}") from error
    return filters


def read_list_file(option: str, path: Path, resource: Resource) -> Entries:
    """Return what the file of --ids or --keep lists; raises ConfigError."""
    try:
        text = decoded_list(path.read_bytes())
        return replace(read_list(text, resource), name=str(path))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"{option} {path}: {why}; correct the file") from error


def check_together(config: Config) -> None:
    """Raise ConfigError for options that exclude one another."""
    resource, size = config.resource, config.batch_size
    if config.filter and config.ids is not None:
        raise ConfigError("--ids and filters exclude each other: use one, and --match for the rest")
    if config.spare_with_orders and resource.name != "customers":
        raise ConfigError(f"--spare-with-orders is for customers, not for {resource.name}: leave it out")
    if size is not None and size > resource.max_batch and not config.resume:
        on_argv = "--batch-size" in config.resume_options
        name = "--batch-size" if on_argv else f"{config.path}: batch_size in [cleanup]"
        limits = f"a whole number from 1 to {resource.max_batch} for {resource.name}"
        raise ConfigError(f"{name} must be {limits}, not {size}")


def read_config(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Config:
    """Return the options over the ini over the defaults; raises ConfigError naming file, key or option."""
    path: Path = arguments.config
    ini = read_ini(path)
    cleanup = ini.get("cleanup", {})
    store, options = read_store(path, ini["store"], environ), read_options(arguments, cleanup)
    given, in_ini = options.pop("filter", ()), {} if arguments.resume else ini.get("filters", {})
    config = Config(path=path, **store, **options, ini_protections=read_protections(path, cleanup))
    resource = config.resource
    config = replace(config, filter=read_filters(given, path, in_ini, resource.filter_types()))
    check_together(config)
    return replace(
        config,
        warnings=tuple(config_warnings(config, ini)),
        ids_entries=read_list_file("--ids", config.ids, resource) if config.ids else None,
        keep_entries=[read_list_file("--keep", file, resource) for file in config.keep],
    )


def read_protections(path: Path, cleanup: Keys) -> dict[str, str]:
    """Return the keys of [cleanup] that exclude records; raises ConfigError."""
    option, source = OPTIONS["spare_with_orders"], f"{path}: spare_with_orders in [cleanup]"
    protections = {name: cleanup[name] for name in ("keep", "match") if name in cleanup}
    if convert_one(option, cleanup.get(option.name, "no"), source):
        protections[option.name] = "yes"
    return protections


def config_warnings(config: Config, ini: Mapping[str, Keys]) -> Iterator[str]:
    """Yield what to warn of: an ini that others can read, and what `replaced` says."""
    if mode := readable_by_others(config.path):
        yield f"{config.path} can be read by others (mode {mode:04o}): chmod 600 {config.path}"
    if not config.resume:  # there the selection is the plan's
        yield from replaced(config, ini.get("cleanup", {}), ini.get("filters", {}))


def replaced(config: Config, cleanup: Keys, filters: Keys) -> Iterator[str]:
    """Yield what to say of parts of the ini's selection that the command line replaces, or weakens."""
    path = config.path
    for name, most in (("max_delete", config.max_delete), ("limit", config.limit)):
        if name in cleanup and most is not None and most > int(cleanup[name]):
            yield f"{OPTIONS[name].flag} {most} allows more than {name} = {cleanup[name]} in {path}"
    if "match" in cleanup and cleanup["match"] != config.selection.get("match"):
        yield f"--match stands in place of match = {clean(cleanup['match'], 80)} in {path}"
    for name in (name for name, text in filters.items() if config.filter[name].text != text):
        yield f"--filter {name} stands in place of {name} = {clean(filters[name], 80)} in {path}"
    if yes_or_no(cleanup.get("spare_with_orders", "no")) and not config.spare_with_orders:
        yield f"--no-spare-with-orders: customers with orders go, though {path} spares them"


# --- rate limiting ------------------------------------------------------------------------------------
#
# Decides when a request may leave, and nothing else: what its answer means is decided further down. The
# store counts the requests of all its apps in fixed windows, and every answer tells four numbers: the quota
# of a window, how long a window lasts, what was left of it, and when it ends [BigCommerce, API rate limits].
#
# The model: a token is the right to one request (or, with count_items, to one id of it). `Window` mirrors
# the store's current window. Tokens to be had = left - in flight, since the store has not counted yet what
# is on its way. Within a window `left` only falls, so of two answers the lower one is right. An answer was
# made somewhere between the moment its request left and the moment it arrived, so the end of a window is
# known only to lie between two times; what is in flight at that end may be counted in either window, and is
# counted in both. `TokenBucket` is the part that waits: it hands out the window's tokens in order of
# arrival, spread evenly over what is left of the window, or at full speed when the rest of the job fits
# into it.


@dataclass(frozen=True)
class Quota:
    """What one answer's headers tell of the store's window; None where a header is absent or garbage."""

    quota: int | None = None  # requests a window
    left: int | None = None  # requests that were left of it
    reset_ms: int | None = None  # to the end of the window, when the answer was made
    window_ms: int | None = None  # that a window lasts


def read_quota(headers: Mapping[str, str]) -> Quota:
    """Read the four X-Rate-Limit headers [BigCommerce, API rate limits], each on its own."""

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
    """The store's current window of quota, as far as its answers tell. It never looks at a clock.

    quota: tokens a window, and seconds: how long one lasts, until an answer says otherwise; ceiling: the most
    tokens to take in a window, None without a limit; reserve: tokens to leave to the store's other apps.
    """

    # Of the two clocks, as a share of the time since an answer told the end of a window.
    DRIFT = 0.0002

    def __init__(self, quota: int, seconds: float, *, ceiling: int | None, reserve: int) -> None:
        self.quota = quota
        self.seconds = seconds
        self.ceiling = ceiling
        self.reserve = reserve
        # Whether any answer has told the quota; until then it is a guess.
        self.quota_known = False
        # When the quota was last corrected: an answer to an older request does not change it back.
        self.quota_told_at = -math.inf
        # Whether any answer has told when windows end.
        self.end_known = False
        # The window ends between these two times; it has not begun while they are infinite.
        self.earliest_end = self.latest_end = math.inf
        # What the store had left, by the lowest answer of this window.
        self.left = quota
        # When the request left whose answer told `left`.
        self.left_told_at = -math.inf
        # Tokens taken in this window, answered or not.
        self.taken = 0
        # Tokens of requests that are not answered yet.
        self.in_flight = 0
        # Tokens of answers that did not tell what is left: the store has counted them, for all we know.
        self.answered_untold = 0
        # Tokens of answers that took so long that the next window may have counted them.
        self.counted_in_either = 0
        # Tokens that were gone when the first answer of this window came: no rate of use by other apps.
        self.used_before_us = 0
        # Tokens that other apps took in the last window; None before there was one.
        self.others_last_window: float | None = None
        # Time and cost of the window's last request; -inf before its first one.
        self.last_sent_at, self.last_cost = -math.inf, 0

    def largest(self) -> int:
        """Return the most tokens that one request may ever cost."""
        largest = self.quota - self._kept_back()
        return largest if self.ceiling is None else min(largest, self.ceiling)

    def tokens(self, for_others: float = 0.0) -> float:
        """Return the tokens that may be taken now; for_others: how many to leave besides the reserve."""
        tokens = self.left - self.answered_untold - self._kept_back() - self.in_flight - for_others
        return tokens if self.ceiling is None else min(tokens, self.ceiling - self.taken)

    def _kept_back(self) -> int:
        """Return the reserve; until the quota is known, one request must pass to learn it."""
        return self.reserve if self.quota_known else min(self.reserve, self.quota - 1)

    def used_by_others(self) -> int:
        """Return how many tokens other apps were seen to take in this window."""
        return max(0, self.quota - self.left - self.taken - self.used_before_us)

    def expected_by_others(self, now: float) -> float:
        """Return how many tokens other apps will take by the window's end, if they go on as they do."""
        if self.latest_end == math.inf:
            return 0.0
        begun = self.latest_end - self.seconds
        elapsed = now - begun
        if self.others_last_window is None:
            rate = self.used_by_others() / max(elapsed, self.seconds / 4)
        else:
            rate = (self.others_last_window + self.used_by_others()) / (self.seconds + elapsed)
        expected = rate * (self.latest_end - max(begun, self.left_told_at))
        return min(expected, 0.9 * self.left)  # beside a greedy app there is something left for us

    def interval(self, spare: float) -> float:
        """Return the seconds a token that spread so many spare tokens evenly over the rest of the window."""
        rest = max(0.0, self.earliest_end - self.last_sent_at)
        return rest / max(spare + self.last_cost, 1.0)

    def take(self, now: float, cost: int) -> None:
        """Count a request of that cost that leaves now."""
        if self.latest_end == math.inf:
            self.earliest_end = self.latest_end = now + self.seconds
        self.last_sent_at, self.last_cost = now, cost
        self.taken += cost
        self.in_flight += cost

    def roll(self, now: float) -> None:
        """Begin the next window once this one has surely ended."""
        if now >= self.latest_end:
            self._begin(1 + (now - self.latest_end) // self.seconds)

    def _begin(self, steps: float) -> None:
        """Begin the window that comes so many windows after this one."""
        self.others_last_window = self.used_by_others() if steps == 1 else 0
        drift = steps * self.seconds * self.DRIFT
        self.earliest_end += steps * self.seconds - drift
        self.latest_end += steps * self.seconds + drift
        self.left = self.quota - self.counted_in_either
        self.taken = self.in_flight + self.counted_in_either  # the store may count them in this window
        self.counted_in_either = self.used_before_us = self.answered_untold = 0
        self.last_sent_at, self.last_cost = -math.inf, 0

    def answered(self, now: float, sent_at: float, cost: int, told: Quota) -> None:
        """Take in the answer, which came now, to a request of that cost that left at sent_at."""
        self.in_flight -= cost
        self.quota_known = self.quota_known or told.quota is not None
        if told.window_ms is not None and told.window_ms / 1000 != self.seconds:
            self.seconds, self.end_known = told.window_ms / 1000, False
        first = not self.end_known
        if now - sent_at > self.seconds / 3:  # too slow to tell in which window it was counted
            self.counted_in_either += cost
            told = replace(told, left=None)
        elif told.reset_ms is not None and not self._place_end(now, sent_at, told.reset_ms / 1000, cost):
            return
        if told.quota is not None and told.quota != self.quota:
            if sent_at < self.quota_told_at:
                return  # made before the quota changed
            self._change_quota(now, told.quota, told.left)
        elif told.left is not None:
            self.left = min(self.left, told.left)
            self.left_told_at = max(self.left_told_at, sent_at)
        else:
            self.answered_untold += cost
        if first:
            self.used_before_us = max(0, self.quota - self.left - self.taken)

    def _change_quota(self, now: float, quota: int, left: int | None) -> None:
        """Go on with another quota, of which so many tokens are left (None: not told)."""
        self.quota, self.quota_told_at = quota, now
        self.left = quota - self.taken if left is None else left
        self.used_before_us = quota - self.left - self.taken

    def _place_end(self, now: float, sent_at: float, reset: float, cost: int) -> bool:
        """Correct the end of the window by an answer; False for a late answer of the last window.

        The end lies between sent_at + reset and now + reset, give or take the millisecond to which it is
        cut. Moved by whole windows, this interval and the one known so far overlap.
        """
        earliest, latest = sent_at + reset - 0.001, now + reset + 0.001
        if not self.end_known:
            self.end_known = True
            self.earliest_end, self.latest_end = earliest, latest
            self.left = self.quota - self.counted_in_either
            return True
        ahead = (earliest + latest - self.earliest_end - self.latest_end) / 2
        steps = round(ahead / self.seconds)
        if steps < 0 and sent_at < self.latest_end - self.seconds:
            self.taken = max(0, self.taken - cost)
            return False
        if steps > 0:
            self._begin(steps)
            self.taken += cost
        self.earliest_end, self.latest_end = max(earliest, self.earliest_end), min(latest, self.latest_end)
        if self.earliest_end > self.latest_end:  # the store's windows do not follow one another exactly
            self.earliest_end, self.latest_end = earliest, latest
        return True


class TokenBucket:
    """Hands out the tokens of the store's window to the workers, and makes them wait for the next.

    capacity: tokens a window, and refill_rate: tokens a second, until the first answer; ceiling and reserve:
    as in Window. clock and sleep take and give seconds; sleep may raise, and is never called with the lock
    held.
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
        self.window = Window(capacity, capacity / refill_rate, ceiling=ceiling, reserve=reserve)
        # 429s since the last success.
        self.refusals_in_a_row = 0
        self._clock = clock
        self._sleep = sleep
        # Guards the window, the queue and the pause.
        self._lock = threading.Lock()
        # One object for each request that waits, first come first served.
        self._queue: deque[object] = deque()
        # A 429 told everybody to wait until then.
        self._paused_until = -math.inf
        # When the last 429 came that counted.
        self._refused_at = -math.inf
        # Tokens that the rest of the job needs.
        self._demand = math.inf

    def acquire(self, cost: int = 1) -> None:
        """Wait for that many tokens, in order of arrival, and take them.

        Raises TooCostly when no window ever has that many, and whatever sleep raises.
        """
        ticket = object()
        with self._lock:
            self._queue.append(ticket)
        try:
            while (delay := self._take_or_delay(ticket, cost)) > 0:
                self._sleep(min(delay, POLL))
        finally:
            with self._lock:
                self._queue.remove(ticket)

    def _take_or_delay(self, ticket: object, cost: int) -> float:
        """Take the tokens and return 0, or return the seconds to sleep before the next try."""
        with self._lock:
            if cost > self.window.largest():
                raise TooCostly
            now = self._clock()
            delay, interval = self._delay(now, cost)
            if self._queue[0] is not ticket:
                return max(delay + self._queue.index(ticket) * interval, 0.001)
            if delay <= 0:
                self.window.take(now, cost)
                self._demand -= cost
            return delay

    def _delay(self, now: float, cost: int) -> tuple[float, float]:
        """Return the seconds until that many tokens may be taken, and the seconds between two requests."""
        window = self.window
        window.roll(now)
        if now < self._paused_until:
            return self._paused_until - now, 0.0
        if self.refusals_in_a_row and window.in_flight:
            return POLL, 0.0  # one request tries whether the store is willing again
        spare = window.tokens(window.expected_by_others(now))
        if spare < cost:
            return min(window.latest_end - now, POLL), 0.0
        if self._demand <= spare or window.last_sent_at == -math.inf:
            return 0.0, 0.0
        interval = window.interval(spare)
        return window.last_sent_at + window.last_cost * interval - now, cost * interval

    def sync(self, headers: Mapping[str, str], sent_at: float, cost: int = 1) -> None:
        """Take in the answer to a request of that cost, sent at that time of the clock."""
        told = read_quota(headers)
        with self._lock:
            now = self._clock()
            self.window.roll(now)
            self.window.answered(now, sent_at, cost, told)

    def pause(self, seconds: float) -> None:
        """Let nobody send for so many seconds."""
        with self._lock:
            self._paused_until = max(self._paused_until, self._clock() + seconds)

    def refused(self, sent_at: float) -> int:
        """Take in a 429 to a request sent then, and return how many there were in a row.

        Requests that were in flight together count once. Until one succeeds, one at a time is sent.
        """
        with self._lock:
            if sent_at >= self._refused_at:
                self.refusals_in_a_row += 1
                self._refused_at = self._clock()
            return self.refusals_in_a_row

    def succeeded(self) -> None:
        """Take note of an answer that settled its request."""
        self.refusals_in_a_row = 0

    def expect(self, tokens: float) -> None:
        """Take note of how many tokens the rest of the job needs: if they are there, nobody waits."""
        self._demand = tokens

    def largest(self) -> int:
        """Return the most tokens that one request may ever cost."""
        return self.window.largest()

    def waiting(self) -> str:
        """Say why the next request has to wait, or nothing where the wait is not worth a word."""
        with self._lock:
            now = self._clock()
            paused, tokens = self._paused_until - now, self.window.tokens()
            ends = self.window.latest_end - now
        if paused > 0:
            words = "rate-limited" if self.refusals_in_a_row else "asked to wait"
            return f"{words}, retrying in {math.ceil(paused)}s"
        if tokens < 1 and 1 <= ends < math.inf:
            return f"quota used up, resuming in {math.ceil(ends)}s"
        return ""


# --- answers (pure) -----------------------------------------------------------------------------------
#
# Decides what an answer means: whether it settles its request, whether the same request may succeed a little
# later and when, what it says of each id of a batch, and how it is put to the person. Nothing here sends,
# waits or writes. To change a rule of retrying: `judge` and `retriable` say whether, `Answer.wait` and
# `retry_delay` how long, `Client.send` how often.

PATIENCE = 600.0  # seconds: a longer wait ends the run; resume later
REFUSALS = 10  # 429s in a row that end the run: more is abuse [BigCommerce, integration design]


class Verdict(enum.Enum):
    """What one answer to one request means."""

    DONE = enum.auto()  # it did what was asked
    THROTTLED = enum.auto()  # everybody has to wait, then the same again; no error of the request
    RETRY = enum.auto()  # the same request may succeed a little later: no answer, or a middlebox's
    REFUSED = enum.auto()  # this request will never succeed, others may
    FATAL = enum.auto()  # no request will succeed


@dataclass(frozen=True)
class Answer:
    """The answer to one request; status 0 when none came, and then `problem` says why."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    problem: str = ""

    @cached_property
    def json(self) -> Any:
        """The parsed body, None when it is not JSON; NaN and the like, which JSON has not, become text."""
        try:
            return json.loads(self.body, parse_constant=str)
        except (ValueError, RecursionError):
            return None

    @property
    def is_json(self) -> bool:
        """Whether it comes from the API, and not from something in between."""
        return isinstance(self.json, (dict, list))

    @cached_property
    def words(self) -> str:
        """Status and the store's own words, the title of a page, or what is known in their place."""
        if self.status == 0:
            return self.problem
        messages = filter(None, itertools.islice(_messages(self.json), MOST_MESSAGES))
        said = "; ".join(dict.fromkeys(messages)) if self.is_json else self._title
        return printable(f"{self.status} {said}", MESSAGE_LIMIT)

    @property
    def _title(self) -> str:
        """The title of the page that a middlebox sent, "" without one."""
        text = self.body[:FOREIGN_LIMIT].decode(errors="replace")
        found = re.search(r"<title[^>]{0,100}>([^<]{1,1000})", text, re.IGNORECASE)
        return clean(html.unescape(found[1])) if found else ""

    @property
    def wait(self) -> float:
        """Seconds that it says to wait, in its headers or its body; 0 where it does not."""
        body = self.json if isinstance(self.json, dict) else {}
        in_body = str(body.get("retry_after_seconds", ""))
        sound = re.fullmatch(r"[0-9]{1,40}(\.[0-9]{1,40})?", in_body)
        names = WAITS if self.status == 429 else WAITS[1:]
        return max(retry_after(self.headers, names), float(in_body) if sound else 0.0)


MOST_MESSAGES = 200  # of an error, that are looked at


def _messages(said: object, depth: int = 0) -> Iterator[str]:
    """Yield what an error says, from the outside in: V3's title and errors, V2's list of messages.

    Between them "" for each thing that was looked at, so that who reads can stop in time.
    """
    yield ""
    if depth > 8:
        return
    if isinstance(said, str):
        yield from filter(None, [clean(said, MESSAGE_LIMIT)])
    elif isinstance(said, dict):
        yield from _messages(said.get("title") or said.get("message") or said.get("detail"), depth + 1)
        errors = said.get("errors")
        said = list(errors.values()) if isinstance(errors, dict) else errors
    if isinstance(said, list):
        for item in said[:100]:
            yield from _messages(item, depth + 1)


# Headers that say how long to wait, and their units in seconds. The first is on every answer of BigCommerce,
# and means to wait only with a 429.
WAITS = (("X-Rate-Limit-Time-Reset-Ms", 0.001), ("X-Retry-After", 1.0), ("Retry-After", 1.0))


def retry_after(headers: Mapping[str, str], names: Sequence[tuple[str, float]] = WAITS) -> float:
    """Return the seconds that an answer says to wait: the longest of its headers, 0 when none is sound.

    X-Rate-Limit-Time-Reset-Ms and X-Retry-After are BigCommerce's, Retry-After is HTTP's; a date counts from
    the answer's own Date, never from this machine's clock.
    """
    waits = [0.0]
    for name, unit in names:
        text = headers.get(name, "").strip()
        if re.fullmatch(r"[0-9]{1,40}(\.[0-9]{1,40})?", text):
            waits.append(float(text) * unit)
        else:
            with suppress(ValueError, TypeError, OverflowError, IndexError):
                dates = map(email.utils.parsedate_to_datetime, (text, headers.get("Date", "")))
                until, since = (date if date.tzinfo else date.replace(tzinfo=UTC) for date in dates)
                waits.append((until - since).total_seconds())
    return max(waits)


LONGEST_BACKOFF = 60.0  # seconds, without the jitter


def backoff(attempt: int, jitter: float) -> float:
    """Return the seconds before the next attempt: exponential backoff with jitter.

    attempt: how many were made before this one; jitter: a random number from 0 to 1. The default of five
    retries takes at least 93 s: after a 500 BigCommerce asks for three to five with a minute between them.
    """
    return min(LONGEST_BACKOFF, 3.0 * 2.0 ** min(attempt, 5)) * (1 + jitter / 2)


def retriable(status: int) -> bool:
    """Tell whether the same request may succeed a little later; a 1xx is no answer, but came as one."""
    return status in (0, 408) or 100 <= status <= 199 or (500 <= status <= 599 and status not in (501, 505))


def may_have_acted(answer: Answer) -> bool:
    """Tell whether the store may have deleted what a DELETE with this answer named."""
    return answer.status == 408 or not 300 <= answer.status <= 499


def judge(method: str, answer: Answer, done: Sequence[int] = (204,)) -> Verdict:
    """Return what an answer to a GET or a DELETE means; done: the statuses of a DELETE well done."""
    status = answer.status
    if status == 429:
        return Verdict.THROTTLED
    if retriable(status):
        return Verdict.RETRY
    if status in (200, 403) and not answer.is_json:
        return Verdict.RETRY  # A8: a maintenance page, or one of a CDN, or a body that was cut off
    return _judge_read(status) if method == "GET" else _judge_delete(answer, done)


def _judge_read(status: int) -> Verdict:
    if status in (200, 204):
        return Verdict.DONE
    return Verdict.REFUSED if 400 <= status <= 499 and status not in (401, 403) else Verdict.FATAL


def _judge_delete(answer: Answer, done: Sequence[int]) -> Verdict:
    items = item_results(answer)
    if items and all(verdict is Verdict.THROTTLED for verdict, *_ in items.values()):
        return Verdict.THROTTLED
    if items or answer.status in (*done, 200, 207):
        return Verdict.DONE
    return Verdict.REFUSED if answer.status in (400, 404, 409, 413, 422, 423) else Verdict.FATAL


# What an answer says of one of its ids: DONE, THROTTLED or REFUSED, in which words, and whether the DELETE
# may have deleted it.
Item = tuple[Verdict, str, bool]
_ID_IN_WORDS = re.compile(r"\bid=(\d{1,18})\b|\[(\d{1,18})\]")


def item_results(answer: Answer) -> dict[int, Item]:
    """Return what an answer to a DELETE says of each id; empty when it has no shape that is known."""
    body, items = answer.json, {}
    if answer.status not in (200, 207, 422) or not isinstance(body, dict):
        return {}
    for key, said, status in _said_of_items(body, answer.status):
        number = positive_id(key)
        if number is None and (found := _ID_IN_WORDS.search(str(said)[:FOREIGN_LIMIT])):
            number = positive_id(found[1] or found[2])
        if number is not None:
            items[number] = _item(said, status)
    return items


def _said_of_items(body: Record, status: int) -> Iterator[tuple[object, object, int]]:
    """Yield key, words and status of each item, by the shapes that such answers are known to have."""
    for entry in _listed(body, "data"):  # [{"id": 7, "status": 204}] or [7]
        yield (entry.get("id"), entry, 200) if isinstance(entry, dict) else (entry, "", 200)
    for row in _listed(body, "failed_rows_data"):  # ["[7] 409 is locked"]
        yield "", row, 422
    maps: list[Any] = [body.get("errors")] if status != 422 or isinstance(body.get("meta"), dict) else []
    for entry in filter(lambda entry: isinstance(entry, dict), _listed(body, "errors")):
        if "errors" in entry:  # promotions.v3.yml: [{"errors": {"0.code": "Failed for id=7. Error: …"}}]
            maps.append(entry["errors"])
        else:  # [{"id": 7, "status": 409, "message": "is locked"}]
            yield entry.get("id"), entry, 422
    for errors in filter(lambda errors: isinstance(errors, dict), maps):  # {"7": "is locked"}
        yield from ((key, said, 422) for key, said in errors.items())


def _listed(body: Record, key: str) -> list[Any]:
    value = body.get(key)
    return value if isinstance(value, list) else []


def _item(said: object, status: int) -> Item:
    """Return what is said of an id, its own status before that of its kind of list."""
    if isinstance(said, dict):
        own = said.get("status")
        said = said.get("message") or said.get("title") or ("" if status == 200 else json.dumps(said))
        status = own if type(own) is int else status
    words = clean(f"{status} {said}", MESSAGE_LIMIT)
    if status == 429 or "TOO_MANY_REQUEST" in words.upper():  # the marketplace's word for it
        return Verdict.THROTTLED, words, False
    verdict = Verdict.DONE if 200 <= status <= 299 else Verdict.REFUSED
    return verdict, words, may_have_acted(Answer(status))


Batch = tuple[int, ...]  # ids to delete with one request


def chunks(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield the values in parts of that size."""
    return (values[start : start + size] for start in range(0, len(values), size))


def batches(ids: Sequence[int], size: int) -> Iterator[Batch]:
    """Yield the ids in batches of that size, as they are asked for."""
    return map(tuple, chunks(ids, size))


@dataclass(frozen=True, kw_only=True)
class BatchResult:
    """What became of a batch. Each of its ids is in exactly one of accepted, refused, missing and again.

    Where the run was stopped before the batch was settled, what may have gone is in accepted, the rest in
    none of them.
    """

    batch: Batch
    # Status and words of the last answer, for the journal.
    answer: str = ""
    # A DELETE of these was accepted, or may have been: reading back decides.
    accepted: tuple[int, ...] = ()
    # id => the store's own words.
    refused: Mapping[int, str] = field(default_factory=dict)
    # A single id that the store does not know.
    missing: tuple[int, ...] = ()
    # What is to be sent again.
    again: tuple[Batch, ...] = ()
    # Those that some attempt may have deleted: a time-out, a 5xx, a 404 for a part of them.
    maybe_deleted: tuple[int, ...] = ()
    # No attempt got an answer that settles the batch.
    retries_used_up: bool = False


def batch_result(batch: Batch, answers: Sequence[Answer], resource: Resource) -> BatchResult:
    """Return what the answers to the attempts at a batch mean for its ids; the last one settles it."""
    last, verdict = answers[-1], judge("DELETE", answers[-1], resource.done)
    in_part = resource.deletes_known_on_404 and last.status == 404 and len(batch) > 1
    used_up = verdict is Verdict.RETRY
    maybe = batch if in_part or any(map(may_have_acted, answers[:-1])) else ()
    result = BatchResult(batch=batch, answer=last.words, maybe_deleted=maybe, retries_used_up=used_up)
    items = {} if last.status in resource.done else item_results(last)
    # A 422 that names none of the ids, but places in the list perhaps, refuses all of them.
    if verdict is Verdict.DONE and (last.status != 422 or not items.keys().isdisjoint(batch)):
        return _sorted_by_item(result, items)
    if may_have_acted(last):  # whether it is final or retried is another question
        result = replace(result, maybe_deleted=batch)
    if len(batch) > 1:
        return replace(result, again=tuple(batches(batch, (len(batch) + 1) // 2)))
    if last.status == 404:
        return replace(result, missing=batch)
    if used_up:  # A11: an attempt may have acted
        return replace(result, accepted=batch)
    return replace(result, refused={batch[0]: last.words})


def _sorted_by_item(result: BatchResult, items: Mapping[int, Item]) -> BatchResult:
    """Return the result with each id where the answer puts it; an id of which nothing is said is accepted."""
    said = [(number, *items.get(number, (Verdict.DONE, "", True))) for number in result.batch]
    again = tuple(number for number, verdict, *_ in said if verdict is Verdict.THROTTLED)
    maybe = tuple(number for number, *_, acted in said if acted)
    return replace(
        result,
        accepted=tuple(number for number, verdict, *_ in said if verdict is Verdict.DONE),
        refused={number: words for number, verdict, words, _ in said if verdict is Verdict.REFUSED},
        again=(again,) if again else (),
        maybe_deleted=result.maybe_deleted or maybe,
    )


def unsettled(batch: Batch, answers: Sequence[Answer]) -> BatchResult:
    """Return what is known of a batch that no answer settled."""
    maybe = batch if any(map(may_have_acted, answers)) else ()
    said = answers[-1].words if answers else "not sent"
    return BatchResult(batch=batch, answer=said, maybe_deleted=maybe, accepted=maybe)


def delete_target(resource: Resource, ids: Sequence[int]) -> tuple[str, dict[str, str]]:
    """Return path and query of the DELETE of exactly these ids; raises ValueError rather than name more.

    The SDK's own `delete()` sends an unfiltered DELETE for an id of None or 0, so it is never called.
    """
    if not 0 < len(ids) <= resource.largest_batch:
        raise ValueError(f"{len(ids)} ids do not make one DELETE of {resource.name}")
    if any(type(number) is not int or number <= 0 for number in ids):
        raise ValueError("an id is not a positive whole number")
    path = resource.delete_path or resource.path
    if resource.delete_by:
        return path, {resource.delete_by: ",".join(map(str, ids))}
    return f"{path}/{ids[0]}", {}


# Status, or its first digit => what an answer that ends the run means, and what to do. {action}: what was
# asked, such as "read customers"; {said}: status and the store's words; {scope}: the OAuth scope it needs.
EXPLANATIONS = {
    3: "{host} answered with a redirect ({status}), which is never followed: check store_hash, and "
    "BC_API_ENDPOINT if it is set",
    401: "the store refused the access token (401): check access_token and store_hash in {path}, or "
    "BIGCOMMERCE_ACCESS_TOKEN",
    403: "not allowed to {action} ({said}): the API account may lack the OAuth scope {scope}",
    404: "asked to {action}, the store says that there is no such thing ({said}): check store_hash in {path}",
    4: "the store refused to {action} ({said}): correct what it names",
    0: "asked to {action}, the store says what nobody expects ({said}): ask BigCommerce's support",
}


# --- store --------------------------------------------------------------------------------------------
#
# Everything that touches the network, in four layers, each using the one before: `Connection` is the SDK's
# connection as an adapter, which turns one exchange over HTTP into an Answer. `Client` sends a request with
# its policy: tokens, retries, pauses, the log. `Store` is what this tool asks of a store. `Workers` is the
# pool of threads that ask it, while the main thread waits, redraws and writes. What an answer means was
# decided above; in which order things are asked is decided below.


class Connection(OAuthConnection):  # type: ignore[misc]  # the SDK has no types
    """The SDK's connection; one a thread, since it holds state and sockets do not like to be shared."""

    def __init__(self, config: Config) -> None:
        path = "/stores/{}/{}"  # API version and resource come with each request
        super().__init__(config.client_id, config.store_hash, config.access_token, config.host, path)
        if not config.client_id:
            del self._session.headers["X-Auth-Client"]
        self.timeout, self._token = config.timeout, config.access_token
        self._session.get_redirect_target = lambda response: None  # N14: else the token goes to another host
        self._session.auth = lambda request: request  # N16: else ~/.netrc adds a password
        self._session.stream = True  # the body is read below, within limits
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))  # else they pile up
        # Proxies and certificates are the environment's; read once, since that costs more than a request.
        settings = self._session.merge_environment_settings(self.full_path(""), {}, True, None, None)
        self._session.proxies, self._session.verify = settings["proxies"], settings["verify"]
        self._session.trust_env = False
        check_proxies(self._session.proxies)
        check_certificates(self._session.verify)

    def exchange(self, method: str, path: str, params: Mapping[str, Any]) -> Answer:
        """Send once, and return what came; whatever the HTTP stack raises is no answer, status 0.

        Raises ConfigError and StoreError for what no retry mends: certificates, proxies, addresses.
        """
        # Encoded here: the SDK's %2C for each comma is parsed again in four places.
        query = "?" + urlencode(params, safe=":,") if params else ""
        way = " through the proxy" if self._session.proxies else ""
        try:
            response = self._run_method(method, path + query)
            with closing(response):
                body = read_body(response).replace(self._token.encode(), b"[secret]")
                return Answer(response.status_code, response.headers, body)
        except (requests.exceptions.ProxyError, requests.exceptions.InvalidSchema) as error:
            return self._no_proxy(error)
        except requests.Timeout:
            return Answer(0, problem=f"no answer within {self.timeout:g} s{way}")
        except requests.exceptions.SSLError as error:
            if "CERTIFICATE_VERIFY_FAILED" not in str(error):
                return Answer(0, problem=network_reason(error))
            reason = network_reason(error)
            raise StoreError(f"the certificate of {self.host} is not trusted: {reason}") from error
        except requests.exceptions.InvalidURL as error:
            raise ConfigError(f"{clean(error)}: check BC_API_ENDPOINT") from error
        except Exception as error:  # N26: urllib3 and http.client raise much that requests does not wrap
            return Answer(0, problem=f"{network_reason(error)}{way}")

    def _no_proxy(self, error: Exception) -> Answer:
        """Return no answer, for the proxy's sake; raises ConfigError for what the proxy will always say."""
        reason, name, fault = network_reason(error), proxy_variable(), ""
        if re.search(r"\b40[137]\b", reason):  # tinyproxy answers 401 to a wrong password
            fault = f"the proxy refuses to connect to {self.host}"
        elif isinstance(error, requests.exceptions.InvalidSchema):
            fault = f"the proxy of {name} cannot be used"
        if fault:
            raise ConfigError(f"{fault} ({reason}): correct {name}") from error
        return Answer(0, problem=f"no answer from the proxy: {reason}")


ANSWER_LIMIT = 64 * 2**20  # bytes that are read of an answer
ANSWER_TIMEOUTS = 5  # times timeout: how long an answer may take in all


class AnswerReader(io.RawIOBase):
    """Reads an answer from its socket, for 5 x timeout in all: headers and body may come drop by drop."""

    def __init__(self, connected: socket.socket) -> None:
        super().__init__()
        self._socket, self._raw = connected, connected.makefile("rb", buffering=0)
        self._timeout = connected.gettimeout() or 3600.0
        self._deadline = time.perf_counter() + ANSWER_TIMEOUTS * self._timeout

    def readable(self) -> bool:
        """Whether it can be read: io.BufferedReader asks."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read what there is; raises TimeoutError when it has taken too long in all."""
        left = self._deadline - time.perf_counter()
        if left <= 0:
            raise TimeoutError("an answer that does not end")
        if left < self._timeout:
            self._socket.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        """Let the socket go."""
        self._raw.close()
        super().close()


class BoundedResponse(http.client.HTTPResponse):
    """The answer as the standard library parses it, read within a deadline."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp = io.BufferedReader(AnswerReader(sock), 2**16)


# The one way in: the pools of urllib3 make the connections, and a connection its answer, of this class.
http.client.HTTPConnection.response_class = BoundedResponse


def read_body(response: Any) -> bytes:
    """Return the decoded body; raises ValueError for one that is too long."""
    parts, size = [], 0
    while part := response.raw.read1(2**18, decode_content=True):
        parts.append(part)
        size += len(part)
        if size > ANSWER_LIMIT:
            raise ValueError(f"an answer of more than {ANSWER_LIMIT // 2**20} MiB")
    return b"".join(parts)


def proxy_variable() -> str:
    """Return the name of the environment's variable that sets the proxy of https."""
    names = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
    return next((name for name in names if os.environ.get(name)), "HTTPS_PROXY")


PROXY_URL = re.compile(
    r"((https?|socks4a?|socks5h?)://([^\s/?#@]+@)?)?"  # requests takes a user only behind a scheme
    r"([\w-]+(\.[\w-]+)*\.?|\[[0-9a-f:.]+\])(:[0-9]{1,5})?/?",
    re.ASCII | re.IGNORECASE,
)


def check_proxies(proxies: Mapping[str, str]) -> None:
    """Raise ConfigError for a proxy that cannot be used; its value is never shown."""
    for scheme in ("https", "all"):
        if not (url := proxies.get(scheme)):
            continue
        user_and_password = url.partition("://")[2].rpartition("@")[0]
        passwords = user_and_password.split(":")[1:]
        SECRETS.update(text for text in (url, *passwords, *map(unquote, passwords)) if len(text) > 3)
        try:
            port = urlsplit(url if "://" in url else f"http://{url}").port
            sound = bool(PROXY_URL.fullmatch(url)) and port != 0
        except ValueError:
            sound = False
        if not sound:
            raise ConfigError(
                f"{proxy_variable()} is no address of a proxy, such as http://user:password@host:port "
                "(a / or @ in the password is written %2F or %40): correct it"
            )


def check_certificates(verify: object) -> None:
    """Raise ConfigError for a file or folder of certificates that cannot be read; True: the default ones."""
    if isinstance(verify, str):
        try:
            where = "capath" if os.path.isdir(verify) else "cafile"
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(**{where: verify})
        except OSError as error:  # of which ssl.SSLError is one
            fault = f"the certificates in {verify} cannot be read ({error.strerror or clean(error)})"
            name = "REQUESTS_CA_BUNDLE" if os.environ.get("REQUESTS_CA_BUNDLE") else "CURL_CA_BUNDLE"
            raise ConfigError(f"{fault}: check {name}") from error


def network_reason(error: BaseException) -> str:
    """Return the innermost reason of a network error: the outer ones repeat the URL."""
    for _ in range(6):
        reason = getattr(error, "reason", None)
        inner = [item for item in (reason, *error.args) if isinstance(item, BaseException)]
        if not inner:
            break
        error = inner[0]
    return clean(re.sub(r"^<[^>]*>: |^HTTPS?Connection\([^)]*\): ", "", str(error))) or "no answer"


@dataclass
class Request:
    """One request, through all attempts at it."""

    method: str
    resource: Resource
    # Below /stores/{hash}/, with the API version.
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    # Tokens that an attempt costs.
    cost: int = 1
    # A status that is no failure, though it would end the run.
    tolerated: int | None = None
    # Called once, right before the first attempt leaves; may raise Failure.
    announce: Callable[[], None] = lambda: None
    # The answer to each attempt so far.
    answers: list[Answer] = field(default_factory=list)


class Client:
    """Sends each request until an answer settles it; the one place that retries, or ends a run for it.

    An attempt waits for its tokens, then leaves, unless a stop was asked for meanwhile. DONE and REFUSED
    settle the request. After RETRY the same goes out again, up to max_retries times, with exponential
    backoff and jitter, and then the last answer is returned as it is. THROTTLED pauses all workers and does
    not count as an attempt; many in a row, or a long wait, end the run. FATAL ends it at once.
    """

    def __init__(self, config: Config, stop: Stop, log: logging.Logger) -> None:
        self.counts = Counter(requests=0, retries=0, rate_limited=0)
        # Seconds that all answers took together.
        self.busy_seconds = 0.0
        ceiling, reserve = config.rate_limit, config.min_requests_remaining
        self.bucket = TokenBucket(ceiling=ceiling, reserve=reserve, sleep=stop.sleep)
        self._config, self._stop, self._log = config, stop, log
        # Guards the counts.
        self._lock = threading.Lock()
        self._random = random.Random()
        # Holds each thread's connection.
        self._local = threading.local()
        # Of each thread that waits for an answer, since when, by the clock of `tick`.
        self._waiting: dict[int, float] = {}
        # Seconds that passed while the process was awake, and when that was last looked at.
        self._awake, self._looked_at = 0.0, time.perf_counter()
        # The last retry that was announced: its words, and when it leaves.
        self._retry, self._retry_at = "", -math.inf
        # Whether the store has accepted the token.
        self._is_accepted = False

    def send(self, request: Request) -> Answer:
        """Return the answer that settles the request, or the last one when all attempts are used.

        Raises the Failure that ends the run, and TooCostly when no window has that many tokens.
        """
        retries, is_denied = 0, False
        while True:
            sent_at = self._leave(request)
            self._waiting[threading.get_ident()] = self._awake
            try:
                answer = self._connection().exchange(request.method, request.path, request.params)
            except Failure as failure:
                raise self._stop.set(failure) from None
            finally:
                self._waiting.pop(threading.get_ident(), None)
            self._arrived(request, answer, sent_at)
            verdict = judge(request.method, answer, request.resource.done)
            tolerated = verdict is Verdict.FATAL and answer.status == request.tolerated
            if tolerated or verdict in (Verdict.DONE, Verdict.REFUSED):
                self._is_accepted = self._is_accepted or verdict is Verdict.DONE
                self.bucket.succeeded()
                return answer
            if verdict is Verdict.FATAL:
                # A stray 401 or 403 among good answers: these are tried once more.
                if answer.status not in (401, 403) or is_denied or not self._is_accepted:
                    raise self._stop.set(StoreError(self.explain(request, answer)))
                is_denied = True
                self._await_retry(0, answer)
                continue
            if verdict is Verdict.THROTTLED:
                self.pause(answer, sent_at)
                continue
            if retries >= self._config.max_retries:
                return answer
            self._await_retry(retries, answer)
            retries += 1

    def on_their_way(self) -> int:
        """Return how many requests wait for their answers."""
        return len(self._waiting)

    def tick(self) -> None:
        """Let the time pass by which requests wait; called about ten times a second.

        Time in which the machine slept, or the process was stopped, does not count.
        """
        now = time.perf_counter()
        self._awake += min(now - self._looked_at, 1.0)
        self._looked_at = now

    def longest(self) -> float:
        """Return the seconds for which the oldest request in flight waits; 0 where there is none."""
        return self._awake - min(list(self._waiting.values()), default=self._awake)

    def waiting(self) -> str:
        """Return what requests wait for, "" where the wait is not worth a word."""
        left = self._retry_at - time.monotonic()
        if text := self.bucket.waiting():
            return text
        if left > 0:
            return f"{self._retry} in {math.ceil(left)}s"
        return f"waiting for an answer for {self.longest():.0f}s" if self.longest() >= 2 else ""

    def _await_retry(self, retries: int, answer: Answer) -> None:
        """Wait before the next attempt, everybody where the answer says so; raises StoreError if too long."""
        told, delay = self._waits(retries, answer)
        if told:
            self.bucket.pause(told)
        fault = "no answer" if answer.status == 0 else f"error {answer.status}"
        self._retry = f"{fault}, retry {retries + 1} of {self._config.max_retries}"
        self._retry_at = time.monotonic() + max(told, delay)
        self._stop.sleep(max(told, delay))
        self._count("retries")

    def _waits(self, attempt: int, answer: Answer) -> tuple[float, float]:
        """Return the seconds that an answer says to wait, and the backoff; raises StoreError if too long."""
        told = answer.wait
        if told > PATIENCE:
            raise self._stop.set(StoreError(f"the store says to wait {told / 60:,.0f} minutes: resume then"))
        return told, backoff(attempt, self._random.random())

    def _leave(self, request: Request) -> float:
        """Wait for the tokens of one attempt; returns the time when it leaves."""
        try:
            self.bucket.acquire(request.cost)
        except TooCostly:
            if request.cost > 1:
                raise
            reserve = f"min_requests_remaining ({self._config.min_requests_remaining}) in {self._config.path}"
            quota = f"the store's quota of {self.bucket.window.quota}"
            raise self._stop.set(ConfigError(f"{reserve} leaves nothing of {quota}: lower it")) from None
        self._stop.check()
        if not request.answers:
            request.announce()
            self._stop.check()  # N8: a stop may have been asked for while the note went to the disk
        return time.monotonic()

    def _arrived(self, request: Request, answer: Answer, sent_at: float) -> None:
        """Take in an answer: the quota it tells, the counts, and a line of the log."""
        took = time.monotonic() - sent_at
        self.bucket.sync(answer.headers, sent_at, request.cost)
        request.answers.append(answer)
        with self._lock:
            self.counts["requests"] += 1
            self.busy_seconds += took
        query = "&".join(f"{key}={value}" for key, value in request.params.items())
        target = f"/stores/{self._config.store_hash}/{request.path}{'?' if query else ''}{query}"
        left = read_quota(answer.headers).left
        words = "" if answer.status in (200, 202, 204) else f": {answer.words}"
        self._log.info(
            f"{utc_now()} {request.method} {printable(target, 4000)} {answer.status} {took * 1000:.0f} ms "
            f"quota left {'?' if left is None else left}{words}"
        )

    def _connection(self) -> Connection:
        """Return this thread's own connection."""
        if not hasattr(self._local, "connection"):
            self._local.connection = Connection(self._config)
        connection: Connection = self._local.connection
        return connection

    def _count(self, name: str) -> None:
        with self._lock:
            self.counts[name] += 1

    def pause(self, answer: Answer, sent_at: float) -> None:
        """Pause everybody after a 429 to a request sent then; raises StoreError rather than wait too long.

        The first in a row says how long. From the second on, its headers may not be right: the wait grows.
        """
        self._count("rate_limited")
        refusals = self.bucket.refused(sent_at)
        told, delay = self._waits(refusals - 1, answer)
        self.bucket.pause(told if told and refusals == 1 else max(told, delay))
        if refusals >= REFUSALS:
            words = f"the store answered 429 (too many requests) {REFUSALS} times in a row"
            raise self._stop.set(StoreError(f"{words}: resume when its other apps are quieter"))

    def explain(self, request: Request, answer: Answer) -> str:
        """Return one sentence on an answer that ends the run, and what to do."""
        resource, status = request.resource, answer.status
        words = EXPLANATIONS.get(status) or EXPLANATIONS.get(status // 100, EXPLANATIONS[0])
        return words.format(
            action=f"{'delete' if request.method == 'DELETE' else 'read'} {resource.words}",
            scope=resource.scope if resource.scope.endswith("read_only") else f"{resource.scope} (modify)",
            said=answer.words,
            status=status,
            host=self._config.host,
            path=self._config.path,
        )


class SdkListing(ListableApiResource):  # type: ignore[misc]  # the SDK has no types
    """The SDK's `iterall`, asked for one page at a time; all that it yields is the page's Answer.

    The SDK does not take V3's envelope {"data": …} off, so it would yield its keys; and making an object of
    its own of each record costs 100 ms a page.
    """

    resource_name = ""  # the request has its path

    @classmethod
    def _make_request(cls, method: str, url: str, connection: Asked, *_: Any, **sent: Any) -> Answer:
        connection.request.params = sent["params"]
        return connection.client.send(connection.request)

    @classmethod
    def _create_object(cls, response: Answer, connection: object = None) -> list[Answer]:
        return [response]


@dataclass(frozen=True)
class Asked:
    """What `SdkListing` is given in place of a connection: a request, and who sends it."""

    client: Client
    request: Request


@dataclass(frozen=True)
class Page:
    """One page of a listing."""

    records: list[Record]
    # How many records the store promises in all; V2 does not tell, and it is 0.
    total: int = 0
    # Records a page, as the store says.
    per_page: int = PAGE_LIMIT

    @property
    def pages(self) -> int:
        """How many pages the store promises in all."""
        return max(1, math.ceil(self.total / self.per_page))


def joined(pages: Sequence[Page]) -> Page:
    """Return pages that follow one another as one."""
    records = [record for page in pages for record in page.records]
    return Page(records, min(page.total for page in pages), sum(page.per_page for page in pages))


def read_page(answer: Answer, resource: Resource) -> Page:
    """Return the page that an answer holds; raises Unreadable for one that cannot be relied on."""
    bare = [] if answer.status == 204 else answer.json  # V2: no envelope, and an empty page is a 204
    records = value_at(answer.json, "data") if resource.has_total else bare
    if not isinstance(records, list):
        raise Unreadable(f"the store's answer for {resource.words} holds no list of records")
    for record in records:
        check_id(record, resource)
    if not resource.has_total:
        return Page(records)
    total = value_at(answer.json, "meta.pagination.total")
    if type(total) is not int or not 0 <= total < 10**12:
        raise Unreadable(
            f"the store's listing of {resource.words} does not say how many there are "
            "(meta.pagination.total), so it cannot be trusted to be complete"
        )
    per_page = value_at(answer.json, "meta.pagination.per_page")
    sound = type(per_page) is int and 0 < per_page <= PAGE_LIMIT
    return Page(records, total, per_page if sound else PAGE_LIMIT)


def check_id(record: object, resource: Resource) -> None:
    """Raise Unreadable for a record without an id that can be relied on."""
    number = record.get(resource.id_field) if isinstance(record, dict) else None
    if type(number) is not int or not 0 < number < 2**63:
        wrong = f"without an id that is a positive whole number ({clean(number)!r})"
        raise Unreadable(f"the store listed one of its {resource.words} {wrong}")


PAGE_SIZES = (PAGE_LIMIT, 125, 50, 25)  # records; each a part of the first
HEAVY = 16 * 2**20  # bytes of pages to be read ahead


def is_halved_after(failure: Failure, count: int) -> bool:
    """Tell whether to ask in halves for so many values: they were too long, or stayed unanswered."""
    if isinstance(failure, ReadRefused):
        return count > 1 and failure.status in (400, 413, 414)
    return count >= 2 * PAGE_SIZES[-1]


class Store:
    """What this tool asks of one store; workers call `info`, `page`, `find` and `delete_batch`."""

    def __init__(self, config: Config, client: Client, workers: Workers, progress: Progress) -> None:
        self.resource = config.resource
        self.client = client
        self.workers = workers
        self.progress = progress
        # Ids in one DELETE, and in one read-back, as many as the store heeds.
        self.batch_size = min(config.batch_size or self.resource.largest_batch, self.resource.largest_batch)
        self.chunk_size = PAGE_LIMIT
        # Records a page, as many as the store answers for.
        self._page_size = PAGE_LIMIT
        # Whether any page was answered.
        self.has_listed = False
        # Bytes of the heaviest page so far, as if all had 250 records.
        self._heaviest = 0
        self._count_items = config.count_items
        # Parameters of the listing; sub-resources only where the backup or a --match needs them.
        plain = {*self.resource.show, *(name.partition(":")[0] for name in self.resource.filter_types())}
        needed = not config.no_backup or any(m.path.partition(".")[0] not in plain for m in config.match)
        self.params = {key: text for key, text in self.resource.params.items() if needed or key != "include"}

    def requests_for(self, count: int) -> int:
        """Return the tokens that it takes to delete so many ids and read them back."""
        ids_per_token = 1 if self._count_items else self.batch_size
        return math.ceil(count / ids_per_token) + math.ceil(count / PAGE_LIMIT)

    def expect(self, reads: int, count: int) -> None:
        """Tell the bucket what the rest of the job needs: so many reads, and to delete so many ids."""
        self.client.bucket.expect(reads + self.requests_for(count))

    def info(self) -> Record | None:
        """GET /v2/store: name, domain and plan; None where the token may not read it."""
        request = Request("GET", STORE_INFO, STORE_INFO.path, tolerated=403)
        answer = self.client.send(request)
        self._check_read(request, answer)
        return answer.json if answer.status == 200 and isinstance(answer.json, dict) else None

    def _check_read(self, request: Request, answer: Answer) -> None:
        """Raise ReadRefused or StoreError when a GET was not answered with what it asked for."""
        verdict = judge("GET", answer)
        if verdict is Verdict.REFUSED:
            raise ReadRefused(self.client.explain(request, answer), answer.status)
        if verdict is Verdict.RETRY:
            raise Unanswered(f"the store does not answer ({answer.words}): try again once it does")

    def page(self, resource: Resource, number: int = 0, size: int = PAGE_LIMIT, **params: Any) -> Page:
        """Return that page of a listing, or, without a number, the one that begins at params' min_id.

        While it stays unanswered it is asked for with fewer records, down to 25: one with a number is put
        together of several, one without is shorter. Raises Unreadable for what cannot be relied on.
        """
        while True:
            part = min(size, self._page_size)
            parts = size // part if number else 1
            pages: list[Page] = []
            end = max(number, 1) * parts
            for place in range(end - parts + 1, end + 1):
                request = Request("GET", resource, resource.path)
                asked, sent = Asked(self.client, request), {"limit": part, "page": place, **params}
                answer = next(SdkListing.iterall(connection=asked, **sent))
                if judge("GET", answer) is Verdict.RETRY and part > PAGE_SIZES[-1]:
                    smaller = next(smaller for smaller in PAGE_SIZES if smaller < part)
                    self._page_size = min(self._page_size, smaller)
                    break
                pages.append(self._read(request, answer))
            else:
                return joined(pages)

    def _read(self, request: Request, answer: Answer) -> Page:
        """Return what a GET was answered with; raises ReadRefused, Unanswered and Unreadable."""
        self._check_read(request, answer)
        self.has_listed = True
        self._heaviest = max(self._heaviest, len(answer.body) * PAGE_LIMIT // request.params["limit"])
        return read_page(answer, request.resource)

    def count(self) -> int:
        """Return how many records the store has, -1 where its list does not say."""
        if not self.resource.has_total:
            return -1
        return self.workers.call(self.page, self.resource, 1, size=1).total

    def ahead(self) -> int:
        """Return how many pages may be read ahead: fewer when they are heavy."""
        return max(1, min(self.workers.count, HEAVY // max(1, self._heaviest)))

    def find(self, by: str, values: Sequence[Any], **params: Any) -> list[Record] | None:
        """Return the records that have one of these ids or addresses; None when that cannot be relied on.

        by: the filter to ask with. An answer is relied on when every record has one of the values, none is
        there twice, and they are as many as the total says. At most PAGE_LIMIT ids, or EMAIL_LIMIT addresses;
        what is refused for its length, or stays unanswered, is asked for in halves.
        """
        resource, by_id = self.resource, by == self.resource.read_by
        asked = set(values) if by_id else set(map(normalize_email, values))
        value_of: Callable[[Record], Any] = resource.id_of if by_id else resource.address_of
        sent = {"limit": PAGE_LIMIT, "page": 1, by: ",".join(map(str, values)), **params}
        request = Request("GET", resource, resource.path, sent)
        try:
            page = self._read(request, self.client.send(request))
        except Unreadable:
            return None
        except (ReadRefused, Unanswered) as failure:
            if not is_halved_after(failure, len(values)):
                raise
            half = (len(values) + 1) // 2
            if by_id:
                self.chunk_size = min(self.chunk_size, half)
            found = [self.find(by, part, **params) for part in chunks(values, half)]
            return None if None in found else list(itertools.chain.from_iterable(filter(None, found)))
        distinct = len(set(map(resource.id_of, page.records)))
        complete = distinct == len(page.records) == page.total
        return page.records if complete and asked.issuperset(map(value_of, page.records)) else None

    def delete_batch(self, batch: Batch, journal: Journal) -> BatchResult:
        """DELETE the batch, noted in the journal before it leaves. Never raises Failure: see Stop."""
        path, params = delete_target(self.resource, batch)
        cost = len(batch) if self._count_items else 1
        request = Request("DELETE", self.resource, path, params, cost, announce=lambda: journal.sent(batch))
        try:
            self.client.send(request)
        except TooCostly:
            size = max(1, min(self.client.bucket.largest(), len(batch) - 1))
            smaller = tuple(batches(batch, size))
            return replace(unsettled(batch, request.answers), again=smaller, accepted=())
        except Failure as failure:
            self.workers.stop.set(failure)
            return unsettled(batch, request.answers)
        result = batch_result(batch, request.answers, self.resource)
        if result.again and (result.accepted or result.refused):  # some of its ids have to wait
            with suppress(Failure):  # the stop flag is set then
                self.client.pause(request.answers[-1], math.inf)
        return result


class Workers:
    """The pool of threads that ask the store. Its methods are the main thread's."""

    def __init__(self, count: int, stop: Stop, on_wait: Callable[[], None]) -> None:
        self.count = count
        self.stop = stop
        # Called a few times a second, whatever is waited for.
        self._on_wait = on_wait
        self._pool = ThreadPoolExecutor(max_workers=count)

    def submit(self, function: Callable[..., R], *args: Any) -> Future[R]:
        """Have a worker do it, and do not wait for it."""
        return self._pool.submit(function, *args)

    def call(self, function: Callable[..., R], *args: Any, **kwargs: Any) -> R:
        """Have a worker do it, and wait for what it returns."""
        future = self._pool.submit(function, *args, **kwargs)
        self.await_any([future])
        return future.result()

    def in_order(self, work: Callable[[T], R], items: Iterable[T], ahead: Callable[[], int]) -> Iterator[R]:
        """Yield the work of each item, done by the workers, so many ahead, in the order of the items."""
        pending: deque[Future[R]] = deque()
        try:
            for item in items:
                pending.append(self.submit(work, item))
                while len(pending) > ahead():
                    self.await_any([pending[0]])
                    yield pending.popleft().result()
            while pending:
                self.await_any([pending[0]])
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()

    def await_any(self, pending: Iterable[Future[R]], *, deletes: bool = False) -> set[Future[R]]:
        """Return those of them that are done, at least one.

        Raises the reason of a stop: at once where reads are awaited; where it is deletes, only at a second
        signal.
        """
        while True:
            self._on_wait()
            done, _ = wait(pending, timeout=POLL, return_when=FIRST_COMPLETED)
            if done:
                return done
            if self.stop.at_once or not deletes:
                self.stop.check()

    def sleep(self, seconds: float) -> None:
        """Let so many seconds pass, redrawing; raises Failure when nothing more may be sent."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._on_wait()
            self.stop.sleep(min(left, POLL))

    def close(self) -> None:
        """Let the threads end once they have nothing to do."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class Webhook:
    """Posts events to webhook_url, one after the other, while the run goes on."""

    LONGEST = 10.0  # seconds until the run ends without an answer

    def __init__(self, url: str) -> None:
        self._url = url
        self._events: list[Mapping[str, Any]] = []
        self._faults: list[str] = []
        self._thread: threading.Thread | None = None

    def send(self, event: Mapping[str, Any]) -> None:
        """Post an event after those that came before; does nothing without a URL."""
        if self._url:
            before = self._thread
            self._events.append(event)
            self._thread = threading.Thread(target=self._post, args=(event, before), daemon=True)
            self._thread.start()

    def _post(self, event: Mapping[str, Any], before: threading.Thread | None) -> None:
        if before is not None:
            before.join()
        if fault := post_event(self._url, event):
            self._faults.append(f"webhook_url was not notified ({event['event']}): {fault}")
        self._events.remove(event)

    def is_busy(self) -> bool:
        """Tell whether an event is not answered yet."""
        return bool(self._events)

    def faults(self) -> list[str]:
        """Return what to say of events that were not accepted."""
        late = [f"webhook_url was not notified ({event['event']}): no answer" for event in self._events]
        return [*self._faults, *late]


def post_event(url: str, body: Mapping[str, Any]) -> str:
    """POST it to webhook_url; returns why that failed, "" when it did not, and never a part of the URL."""
    try:
        with requests.Session() as session:
            session.auth = lambda request: request  # N11: else ~/.netrc adds a password
            # stream: its body is not waited for, which may come for ever
            response = session.post(url, json=body, timeout=5, allow_redirects=False, stream=True)
    except requests.Timeout:
        return "no answer within 5 s"
    except requests.exceptions.SSLError:
        return "its certificate is not trusted"
    except Exception:  # whatever is wrong with it never changes the run
        return "it cannot be reached"
    return "" if response.ok and not response.is_redirect else f"it answered {response.status_code}"


# --- gather -------------------------------------------------------------------------------------------
#
# Decides which records of the store go, from a listing that is complete or from the ids that a list names,
# and streams each of them to the backup while only its id stays in memory. Selection is applied in this
# order: filters or ids, match, keep, orders, limit. Whether a person wants that many to go is asked further
# down.

LISTINGS = 4  # how often a listing is tried: once, and three times more when it changes


class Orders:
    """The customers that any order names; `read_on` takes those that came in since."""

    def __init__(self) -> None:
        self.customers: set[int] = set()
        self._next_id = 1

    def read_on(self, store: Store) -> None:
        """Read to the last order; raises Unreadable for one that does not say whose it is."""
        for orders in pages_by_id(store, ORDERS, self._next_id):
            for order in orders:
                if type(order.get("customer_id")) is not int:
                    raise Unreadable(f"order {order['id']} does not say whose it is (customer_id)")
                self.customers.add(order["customer_id"])
            self._next_id = orders[-1]["id"] + 1
            store.progress.advance(len(orders))


def pages_by_id(store: Store, resource: Resource, least: int = 1, **params: Any) -> Iterator[list[Record]]:
    """Yield the pages of a V2 listing with records from the id `least` on; deletions do not shift them.

    Each page begins behind the last id of the one before, and an empty one ends them. Raises Unreadable when
    the ids do not rise.
    """
    page_from = partial(store.workers.call, store.page, resource, **resource.params, **params)
    # One empty page may be a stray answer: two end the list.
    while records := page_from(min_id=least).records or page_from(min_id=least).records:
        ids = [least - 1, *map(resource.id_of, records)]
        if any(later <= earlier for earlier, later in itertools.pairwise(ids)):
            raise Unreadable(f"the store does not list {resource.words} by id, so records may be missed")
        yield records
        least = ids[-1] + 1
        store.client.bucket.expect(math.inf)  # nobody knows how many more there are


class Listing:
    """The pages of a listing, complete and each record once, or ListingChanged at their end.

    V3's pages are counted: each deletion moves later records up one place, so one can slip onto a page that
    was read already. Therefore the last page is read right after the first, both are read again at the end,
    and neither may have moved. What was added meanwhile stands behind the total, and is left out. V2's
    pages go by id, which never moves.
    """

    def __init__(self, store: Store, filters: Mapping[str, Filter]) -> None:
        self._store = store
        self._filters: dict[str, Any] = {name: item.sent for name, item in filters.items()}
        # Records that were listed more than once.
        self.duplicates = 0
        # Records that the first page promised; 0 before it, and for V2.
        self.total = 0
        self._seen = IdSet()

    def pages(self) -> Iterator[list[Record]]:
        """Return the records, a page at a time; ListingChanged is raised when there may be holes."""
        by_id = partial(pages_by_id, self._store, self._store.resource, **self._filters)
        return self._counted_pages() if self._store.resource.has_total else by_id()

    def _counted_pages(self) -> Iterator[list[Record]]:
        store, workers = self._store, self._store.workers
        params: dict[str, Any] = store.params | self._filters
        page_of = partial(store.page, store.resource, **params)
        first = workers.call(page_of, 1)
        self.total, pages, size = first.total, first.pages, len(first.records)
        edges = {1: self._ids(first.records)}
        yield self._fresh(first.records)
        if self.total == 0 and workers.call(page_of, 1).records:  # two empty reads end a list
            raise ListingChanged("the store listed nothing, and then something")
        last = first if pages == 1 else workers.call(page_of, pages)
        del first  # a page is memory
        self._check_end(page_of, last, pages, last.total - (pages - 1) * size)
        if pages > 1:
            records = last.records[: self.total - (pages - 1) * size]
            edges[pages] = self._ids(records)
            for page in workers.in_order(page_of, range(2, pages), store.ahead):
                if page.total < self.total or not page.records:
                    raise ListingChanged("records went while the pages were read")
                yield self._fresh(page.records)
            yield self._fresh(records)
            for ids, page in zip(edges.values(), workers.in_order(page_of, edges, store.ahead), strict=True):
                if ids != self._ids(page.records[: len(ids)]):
                    raise ListingChanged("records moved while the pages were read")
        if len(self._seen) != self.total:
            raise ListingChanged(f"the store promised {self.total} records and listed {len(self._seen)}")

    def _ids(self, records: Iterable[Record]) -> list[int]:
        return list(map(self._store.resource.id_of, records))

    def _fresh(self, page: Sequence[Record]) -> list[Record]:
        """Return the records of a page that were not listed before."""
        fresh = [record for record in page if self._seen.add(self._store.resource.id_of(record))]
        self.duplicates += len(page) - len(fresh)
        return fresh

    def _check_end(self, page_of: Callable[[int], Page], last: Page, pages: int, promised: int) -> None:
        """Raise ListingChanged where the last page, or one behind it, holds more than a total accounts for.

        The store's total is a claim: it may count a page only. What was added meanwhile counts in a later
        total.
        """
        more = len(last.records) > promised
        if not more and len(last.records) >= last.per_page:
            after = self._store.workers.call(page_of, pages + 1)
            more = bool(after.records) and after.total <= pages * last.per_page
        if more:
            raise ListingChanged(f"the store lists more records than the {self.total:,} that it promised")


def can_look_up(store: Store, found: Found | None, total: int) -> bool:
    """Tell whether the store is asked for the entries of a list, rather than for all of its records.

    The API must have the filters. A look-up by address may mind case, so all records are compared here where
    listing them takes no more requests than look-ups, each of which is repeated for what it does not find.
    total: records in the store.
    """
    if found is None:
        return False
    ids, emails = len(found.unknown_ids()), len(spellings(found.unknown_emails()))
    if (ids and not store.resource.read_by) or (emails and "email:in" not in store.resource.filter_types()):
        return False
    look_ups = 2 * (math.ceil(ids / PAGE_LIMIT) + math.ceil(emails / EMAIL_LIMIT))
    pages = max(1, math.ceil(total / PAGE_LIMIT))
    return not emails or look_ups < pages + min(pages, 2)  # the first and the last page are read twice


def named_pages(store: Store, found: Found) -> Iterator[list[Record]]:
    """Yield the records of the entries that are not found yet, each once, asked for by filter.

    What is not found is asked for once more: one empty answer may be a stray one. Last come the addresses of
    rows whose id no record has. Raises Refused when it cannot be told which entries match a record.
    """
    seen, resource = IdSet(), store.resource
    found.looked_up = True
    params: dict[str, Any] = {key: text for key, text in store.params.items() if key == "include"}
    look_up = {by: partial(store.find, by, **params) for by in (resource.read_by, "email:in")}

    def remaining() -> Iterator[tuple[str, Iterator[Sequence[Any]]]]:
        for _ in range(2):
            yield resource.read_by, chunks(found.unknown_ids(), PAGE_LIMIT)
            yield "email:in", chunks(spellings(found.unknown_emails()), EMAIL_LIMIT)
        if "email:in" in resource.filter_types():
            yield "email:in", chunks(spellings(found.unknown_pairs()), EMAIL_LIMIT)

    for by, asked in remaining():
        for records in store.workers.in_order(look_up[by], asked, store.ahead):
            if records is None:
                fault = f"the store ignored the filter {by}, or answered in part"
                raise Refused(f"{fault}: it cannot be told which entries of {found.entries.name} it knows")
            yield [record for record in records if seen.add(resource.id_of(record))]


@dataclass
class Sample:
    """What a person is shown of many records: how old they are, the first four, and the last."""

    first_created: str = ""
    last_created: str = ""
    records: list[Record] = field(default_factory=list)

    def add(self, record: Record) -> None:
        """Take note of a record."""
        created = str(record.get("date_created", ""))
        if created[4:5] == "-":  # V2's RFC 2822 dates do not sort
            self.first_created = min(self.first_created or created, created)
            self.last_created = max(self.last_created, created)
        self.records = [*self.records[:4], record]

    def lines(self, resource: Resource) -> list[str]:
        """Return a line for each of the records."""
        names = (resource.id_field, *resource.show)
        return ["  ".join(printable(record.get(name), 40) for name in names) for record in self.records]


class Selection:
    """Decides record by record what goes, and counts why the others stay."""

    def __init__(self, config: Config, orders: Orders) -> None:
        self.ids = array("q")
        # Whether --limit is reached, so that no further record matters.
        self.full = False
        # Kept, or with orders; and those with orders alone.
        self.spared = self.spared_for_orders = 0
        # Records that the backup cannot hold whole.
        self.cut = 0
        # Records that were listed more than once.
        self.duplicates = 0
        # Records of the store; -1 where that is not known.
        self.total = -1
        # Records that the filters or ids ask for.
        self.listed = 0
        self.sample = Sample()
        # What --ids names (None without), and what each --keep names, as far as the store knows it.
        self.named = Found(config.ids_entries, config.resource) if config.ids_entries else None
        self.kept = [Found(entries, config.resource) for entries in config.keep_entries]
        # Of each filter with a list of values, those that no record has had.
        lists = (f for f in config.filter.values() if len(f.values) > 1 and not f.name.endswith(":not_in"))
        self.unseen_values = {item.name: set(item.values) for item in lists}
        # Of each filter that the store ignored, a record that it returned and that does not match.
        self.ignored_filters: dict[str, int] = {}
        # The FIELD!=REGEX that have excluded no record yet.
        self.idle_exclusions = [match for match in config.match if match.negated]
        self._config = config
        self._resource = config.resource
        self._orders = orders
        # The paths of --match that no record has had yet, and the fields that they have.
        self.unseen_paths = {match.path for match in config.match}
        self.field_names: set[str] = set()

    def take(self, records: Iterable[Record]) -> Iterator[Record]:
        """Take the records that are selected, and yield them for the backup."""
        for record in records:
            if self.full:
                return
            if self._goes(record):
                self.ids.append(self._resource.id_of(record))
                self.full = len(self.ids) == self._config.limit
                self.sample.add(record)
                cut = cut_off(record)
                self.cut += bool(cut)
                yield record | {"backup_cut": cut} if cut else record

    def _goes(self, record: Record) -> bool:
        keeping = [found for found in self.kept if found.names(record)]
        if not self._is_meant(record) or (self.named is not None and not self.named.names(record)):
            return False
        self.listed += 1
        self._note_fields(record)
        if self.idle_exclusions:
            self.idle_exclusions = [match for match in self.idle_exclusions if not match.is_found_in(record)]
        if not all(match.fits(record) for match in self._config.match):
            return False
        for found in keeping:
            found.spared += 1
        with_orders = not keeping and self._resource.id_of(record) in self._orders.customers
        self.spared_for_orders += with_orders
        self.spared += bool(keeping or with_orders)
        return not keeping and not with_orders

    def _note_fields(self, record: Record) -> None:
        """Take note of which paths of --match a record has."""
        if self.unseen_paths:
            self.unseen_paths = {path for path in self.unseen_paths if not values_at(record, path)}
            self.field_names.update(record)

    def _is_meant(self, record: Record) -> bool:
        """Tell whether the record matches the filters; the API's own filters only narrow the listing."""
        filters = self._config.filter.values()
        for item in filters:
            if not item.fits(record, as_sent=True):
                self.ignored_filters.setdefault(item.name, self._resource.id_of(record))
        if not all(item.fits(record) for item in filters):
            return False
        for name, values in self.unseen_values.items():
            values -= self._config.filter[name].found_in(record) if values else set()
        return True

    @property
    def has_orders(self) -> bool:
        """Whether any order names a customer."""
        return bool(self._orders.customers - {0})

    def not_found(self) -> list[tuple[str, str]]:
        """Return the entries of --ids that the store does not know, as list and entry; none at a limit."""
        if self.named is None or self.full:
            return []
        return [(self.named.entries.name, entry) for entry in self.named.unknown()]

    def keep_unknown(self) -> list[tuple[str, str]]:
        """Return the entries of --keep that the store does not know, as list and entry."""
        return [(found.entries.name, entry) for found in self.kept for entry in found.unknown()]


def gather(store: Store, config: Config, orders: Orders, files: RecordFiles) -> Selection:
    """Return the selection, its full records in the files; raises Refused when no listing is complete."""
    narrowed = bool(config.filter or config.ids_entries)
    total = store.count() if narrowed else -1
    for tries_left in reversed(range(LISTINGS)):
        selection, listing = Selection(config, orders), Listing(store, config.filter)
        named = selection.named if can_look_up(store, selection.named, total) else None
        files.restart()
        store.progress.begin(0)
        expect_records(store, len(named.entries) if named else 0)
        try:
            for records in named_pages(store, named) if named else listing.pages():
                expect_records(store, listing.total)
                files.write(selection.take(records))
                store.progress.advance(len(records))
                if selection.full:
                    break
            break
        except ListingChanged as change:
            list_again(store, change, tries_left)
    if not narrowed and store.resource.has_total:
        total = listing.total
    elif not narrowed and not selection.full:
        total = selection.listed
    if named or config.filter or selection.full:  # else the listing has shown all that there is
        look_up(store, selection.kept, total)
    selection.duplicates = listing.duplicates + getattr(config.ids_entries, "duplicates", 0)
    selection.total = total
    return selection


def list_again(store: Store, change: ListingChanged, tries_left: int) -> None:
    """Say that the records are listed again; raises Refused when that was tried often enough."""
    if not tries_left:
        fault = f"the listing was never complete in {LISTINGS} tries ({change})"
        raise Refused(f"{fault}: try again when nobody changes the records") from change
    store.progress.warnings.append(f"{change}; listing again")


def expect_records(store: Store, total: int) -> None:
    """Tell screen and bucket, once it is known, how many records are to come; 0: it is not."""
    if total and total != store.progress.total:
        store.progress.begin(total)
        store.expect(total // PAGE_LIMIT + 3, total)


def look_up(store: Store, lists: Iterable[Found], total: int) -> None:
    """Ask the store for the entries of lists that no record has had yet; total: records in the store."""
    for found in lists:
        if next(found.unknown(), None) is None:
            continue
        for records in named_pages(store, found) if can_look_up(store, found, total) else everything(store):
            for record in records:
                found.names(record)


def everything(store: Store) -> Iterator[list[Record]]:
    """Yield all records of the store, some twice where the listing changed; raises Refused for holes."""
    for _ in range(LISTINGS):
        with suppress(ListingChanged):
            yield from Listing(store, {}).pages()
            return
    raise Unreadable("the listing of all records was never complete: try again when nobody changes them")


def ancestors(number: int, parents: Mapping[int, int]) -> list[int]:
    """Return the ids above a record, the nearest first; a circle is walked once."""
    line: list[int] = []
    while (number := parents.get(number, 0)) and number not in line:
        line.append(number)
    return line


def read_parents(store: Store) -> dict[int, int]:
    """Return of every record of the store its parent's id, or 0; empty where a parent takes nothing along."""
    field_name, parents = store.resource.parent, {}
    for records in everything(store) if field_name else ():
        for record in records:
            number, parent = store.resource.id_of(record), record.get(field_name)
            if type(parent) is not int or parent < 0:
                raise Unreadable(f"{store.resource.singular_words} {number} does not say what is above it")
            parents[number] = parent
    return parents


# --- plan and ledger (pure) ---------------------------------------------------------------------------
#
# The plan is what will be deleted, frozen: from here on nothing is selected any more. The ledger holds what
# is known of each planned id, one outcome each, so that the counts always add up. Nothing here reads or
# writes.

PLAN_VERSION = 3


@dataclass(frozen=True)
class Plan:
    """What will be deleted, and everything that is needed to resume."""

    host: str
    store_hash: str
    # Its name.
    resource: str
    filters: Mapping[str, str]
    # The other options that selected, in the words given.
    selection: Mapping[str, str]
    # What the panel says of all this, label => text.
    facts: Mapping[str, str]
    # A few of the records, a line each.
    sample: Sequence[str]
    # What the panel warns of, a sentence each; slips are likely mistakes, which --yes refuses.
    warnings: Sequence[str]
    slips: Sequence[str]
    # UTC, ISO 8601.
    created_at: str
    # As in summary.json.
    duplicates: int
    not_found: int
    spared: int
    # In the order in which they are deleted.
    ids: array[int]
    # Entries of --keep that are nobody in the store.
    keep_unknown: int = 0
    # Records of which backup.jsonl holds a part, since the API lists no more.
    backup_cut: int = 0
    # Whether backup.jsonl holds the records.
    backup: bool = True

    def head(self) -> dict[str, Any]:
        """Return everything but the ids, as JSON has it."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values["selected"] = len(values.pop("ids"))
        return {"version": PLAN_VERSION, **values}

    def pieces(self, between: str) -> Iterator[str]:
        """Yield the ids as text, in pieces: a million of them need no copy."""
        for start in range(0, len(self.ids), 10_000):
            yield (between if start else "") + between.join(map(str, self.ids[start : start + 10_000]))

    def digest(self) -> str:
        """Return a SHA-256, in hex: of the head as compact sorted JSON, a line feed, and an id a line."""
        sha = hashlib.sha256(json.dumps(self.head(), sort_keys=True, separators=(",", ":")).encode())
        for piece in itertools.chain("\n", self.pieces("\n")):
            sha.update(piece.encode())
        return sha.hexdigest()

    def lines(self) -> Iterator[str]:
        """Yield the plan as the text of one JSON object, in pieces."""
        yield json.dumps(self.head() | {"sha256": self.digest()}, indent=1)[:-2] + ',\n "ids": ['
        yield from self.pieces(",")
        yield "]\n}\n"

    def age(self) -> timedelta:
        """Return how long ago it was made, by the wall clock."""
        return datetime.now(UTC) - datetime.fromisoformat(self.created_at)


def parse_plan(text: str) -> Plan:
    """Return the plan that `Plan.lines` wrote; raises ValueError or TypeError for anything else."""
    data = json.loads(text)
    names = [item.name for item in fields(Plan)]
    if not isinstance(data, dict) or set(data) != {*names, "version", "selected", "sha256"}:
        raise ValueError("it is no plan")
    plan = Plan(**{name: data[name] for name in names} | {"ids": _plan_ids(data["ids"])})
    head = {key: data[key] for key in plan.head()}
    if plan.head() != head or plan.digest() != data["sha256"]:
        raise ValueError("its SHA-256 does not match: it was changed")
    if plan.resource not in RESOURCES or datetime.fromisoformat(plan.created_at).tzinfo is None:
        raise ValueError("it names no resource, or no time, that is known")
    return plan


def _plan_ids(ids: object) -> array[int]:
    if not isinstance(ids, list) or any(type(number) is not int or number <= 0 for number in ids):
        raise ValueError("its ids are not positive whole numbers")
    if len(set(ids)) != len(ids):
        raise ValueError("it names an id twice")
    return array("q", ids)


class Outcome(enum.StrEnum):
    """What is known of a planned id; the values are the summary's keys."""

    DELETED = "deleted"  # proven gone, and a DELETE of this run may have done it
    ALREADY_GONE = "already_gone"  # proven gone, and none of them can have done it
    FAILED = "failed"  # proven there, or refused for a reason
    UNKNOWN = "unknown"  # maybe deleted and not yet read back, or its last read cannot be relied on
    NOT_ATTEMPTED = "not_attempted"


PROVEN = (Outcome.DELETED, Outcome.ALREADY_GONE)  # gone


@dataclass(frozen=True)
class Replayed:
    """What the journal says of the earlier processes of a run."""

    maybe_deleted: Set[int] = frozenset()
    # Proven.
    gone: Set[int] = frozenset()
    # Refused by the store, at least once.
    refused: Set[int] = frozenset()
    # Why ids had failed when they were last heard of.
    reasons: Mapping[int, str] = field(default_factory=dict)
    # Seconds for which the store was seen to list what it had deleted.
    lag: float = 0.0


class Ledger:
    """The outcome of every planned id: each has exactly one, so the counts always add up."""

    def __init__(self, selected: int, before: Replayed = Replayed()) -> None:
        self.selected = selected
        # Ids whose DELETE was refused before a resume: one absence does not prove them gone.
        self._refused_before = before.refused
        # Why an id failed, in the store's words.
        self.reasons: dict[int, str] = {}
        # The last words on an id of which no attempt was clearly accepted or refused.
        self.doubts: dict[int, str] = {}
        # Seconds for which the store was seen to list what it had deleted.
        self.lag = before.lag
        # Ids that some attempt, in this process or before a resume, may have deleted.
        self._maybe_deleted = set(before.maybe_deleted)
        # What an id was last found to be; an id that was neither sent nor read is absent.
        self._outcomes = dict.fromkeys(self._maybe_deleted, Outcome.UNKNOWN)
        self._counts = Counter(self._outcomes.values())
        self._counts[Outcome.NOT_ATTEMPTED] = selected - len(self._outcomes)
        for number, reason in before.reasons.items():
            self.set(number, Outcome.FAILED, reason)
        for number in before.gone:
            self.read_back(number, there=False)

    def counts(self) -> dict[str, int]:
        """Return how many ids have each outcome."""
        return {outcome.value: self._counts[outcome] for outcome in Outcome}

    def outcome(self, number: int) -> Outcome:
        """Return what is known of a planned id."""
        return self._outcomes.get(number, Outcome.NOT_ATTEMPTED)

    def was_refused(self, number: int) -> bool:
        """Tell whether the store has said no to the DELETE of an id, now or before a resume."""
        return number in self._refused_before or self.outcome(number) is Outcome.FAILED

    def left(self) -> int:
        """Return how many are not proven gone."""
        return self.selected - sum(self._counts[outcome] for outcome in PROVEN)

    def set(self, number: int, outcome: Outcome, reason: str = "") -> None:
        """Let an id have this outcome, and no other."""
        self._counts[self.outcome(number)] -= 1
        self._counts[outcome] += 1
        self._outcomes[number] = outcome
        if reason:
            self.reasons[number] = reason

    def apply(self, result: BatchResult) -> None:
        """Take in what became of a batch; N7: nothing counts as deleted before it is read back."""
        self._maybe_deleted.update(result.maybe_deleted)
        for number in result.batch:
            self.reasons.pop(number, None)
        for number in result.accepted:
            self.set(number, Outcome.UNKNOWN)
            self.doubts.pop(number, None)
            if result.retries_used_up:
                self.doubts[number] = result.answer
        for number in result.missing:
            self.set(number, Outcome.UNKNOWN)
            # After an attempt that may have acted, a 404 is no reason to be there: it may be what went.
            (self.doubts if number in self._maybe_deleted else self.reasons)[number] = result.answer
        for number, reason in result.refused.items():
            self.set(number, Outcome.FAILED, reason)
        for number in itertools.chain.from_iterable(result.again):
            self.set(number, self._open_outcome(number))

    def read_back(self, number: int, *, there: bool) -> None:
        """Take in that an id was read: gone is deleted, or already gone; refused and there is failed."""
        if not there:
            self.reasons.pop(number, None)
            was_us = number in self._maybe_deleted
            self.set(number, Outcome.DELETED if was_us else Outcome.ALREADY_GONE)
        elif number in self.reasons:
            self.set(number, Outcome.FAILED)
        else:
            self.set(number, self._open_outcome(number))

    def doubt(self, ids: Iterable[int]) -> list[int]:
        """Take in a read that cannot be relied on; returns those that were not proven before, and stay so."""
        unproven = [number for number in ids if self.outcome(number) not in PROVEN]
        for number in unproven:
            self.set(number, Outcome.UNKNOWN)
        return unproven

    def _open_outcome(self, number: int) -> Outcome:
        """Return the outcome of an id that is neither proven gone nor failed."""
        return Outcome.UNKNOWN if number in self._maybe_deleted else Outcome.NOT_ATTEMPTED


# --- run folder ---------------------------------------------------------------------------------------
#
# Everything that proves a run, and resumes it: the files of runs/<store_hash>-<resource>-<UTC time>/ and the
# lock that makes them one process's. Every failure to write becomes one StoreError, and ends the run before a
# DELETE could go unnoted. What stands in the files was decided elsewhere.

# A lone surrogate is written as \udce4, as JSON does; also in paths.
SURROGATES = "backslashreplace"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what a full disk or a lost folder raises into one sentence."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        raise StoreError(f"{path} cannot be written ({why}): make room or mend it, and go on") from error


def write_atomically(path: Path, pieces: Iterable[str], *, lasting: bool = True) -> None:
    """Replace the file as a whole; lasting: so that it outlives a power cut too."""
    with writing(path):
        draft = path.with_name(path.name + ".new")
        with open(draft, "w", encoding="utf-8", errors=SURROGATES, newline="") as file:
            file.writelines(pieces)
            file.flush()
            if lasting:
                os.fsync(file.fileno())
        replace_file(draft, path)
        if lasting:
            sync_folder(path.parent)


class RecordFiles:
    """What is written of each selected record as it comes: all in backup.jsonl, a line in selected.csv."""

    def __init__(self, folder: Path, resource: Resource, *, backup: bool) -> None:
        self.selected_path = folder / "selected.csv"
        # None with --no-backup.
        self.backup_path = folder / "backup.jsonl" if backup else None
        self._resource = resource
        self._files: list[TextIO] = []
        for path in filter(None, (self.selected_path, self.backup_path)):
            with writing(path):
                file = open(path, "w", encoding="utf-8", errors=SURROGATES, newline="")  # noqa: SIM115
                self._files.append(file)

    def restart(self) -> None:
        """Begin with empty files."""
        with writing(self.selected_path.parent):
            for file in self._files:
                file.seek(0)
                file.truncate()
            csv.writer(self._files[0]).writerow((self._resource.id_column, *self._resource.show))

    def write(self, records: Iterable[Record]) -> None:
        """Append the records."""
        taken, resource = list(records), self._resource
        with writing(self.selected_path.parent):
            for file in self._files[1:]:
                file.write("".join(f"{json_line(record)}\n" for record in taken))
            rows = ((resource.id_of(record), *map(record.get, resource.show)) for record in taken)
            csv.writer(self._files[0]).writerows(tuple(map(csv_cell, row)) for row in rows)

    def close(self) -> None:
        """Let them last: what follows cannot be undone."""
        with writing(self.selected_path.parent):
            for file in self._files:
                with file:
                    file.flush()
                    os.fsync(file.fileno())


# What str.splitlines() takes for the end of a line, and JSON does not escape.
LINE_ENDS = "\x85\u2028\u2029"
encode_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def json_line(record: Record) -> str:
    """Return a record as strict JSON on one line; a number that JSON has not becomes text."""
    try:
        line = encode_json(record)
    except ValueError:
        line = encode_json(json.loads(json.dumps(record), parse_constant=str))
    except RecursionError as error:
        raise Unreadable("the store listed a record that is nested too deep to be written down") from error
    for letter in LINE_ENDS:
        line = line.replace(letter, f"\\u{ord(letter):04x}")
    return line


def csv_cell(value: object) -> str:
    """Return one line that is safe in a spreadsheet, and can still be read: it is no formula."""
    text = "" if value is None else printable(value, DATA_LIMIT)
    return f"'{text}" if text[:1] in tuple("=+-@") else text


class Journal:
    """journal.jsonl: append-only, on disk before it returns; its lock makes a run one process's.

    A line is {"sent": ids}, written before their DELETE leaves, or {"ids", "answer", "acted", "refused"},
    written after: what came, which of the ids it may have deleted, and which it refused, if any, with its
    reasons; or {"gone": ids}: they were read back, and are proven; or {"failed": {id: reason}}: they were
    read back, and still exist; or {"lag": seconds}: for so long the store listed what it had deleted.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # Guards the end of the file, and what is unanswered.
        self._lock = threading.Lock()
        self._unanswered: set[Batch] = set()
        with writing(path):
            self._file = open(path, "a+b", buffering=0)  # noqa: SIM115  # held to the end
        try:
            lock_file(self._file.fileno())
        except BlockingIOError as error:
            raise Refused(f"{path.parent} is in use by another process: wait until it has ended") from error
        except (OSError, ImportError) as error:
            fault = f"{path.parent} cannot be locked ({getattr(error, 'strerror', error)})"
            raise Refused(f"{fault}: put the run folders on a disk that can, with --runs-dir") from error

    def replay(self) -> Replayed:
        """Return what the earlier processes of the run have noted.

        A torn line at the end is cut off. Raises Refused for a line that is none of the journal's.
        """
        with writing(self._path):
            self._file.seek(0)
            text = self._file.readall() or b""
            whole = text[: text.rfind(b"\n") + 1]
            if whole != text:
                self._file.truncate(len(whole))
        noted: dict[str, set[int]] = {"acted": set(), "gone": set()}
        unanswered: set[int] = set()
        refused: set[int] = set()
        reasons: dict[int, str] = {}
        lag = 0.0
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                entry = json.loads(line)
                noted["acted"] |= unanswered.intersection(entry.get("sent", ()))  # sent again, never answered
                unanswered.update(entry.get("sent", ()))
                unanswered.difference_update(entry.get("ids", ()))
                for name, ids in noted.items():
                    ids.update(entry.get(name, ()))
                for sent in entry.get("sent", ()):
                    reasons.pop(sent, None)
                refused.update(map(int, entry.get("refused", ())))
                failed = entry.get("refused", {}) | entry.get("failed", {})
                reasons |= {int(number): reason for number, reason in failed.items()}
                lag = min(max(lag, entry.get("lag", 0.0)), PATIENCE)
            except (ValueError, AttributeError, TypeError) as error:
                raise Refused(f"{self._path}, line {number}: this is no journal's line") from error
        return Replayed(noted["acted"] | unanswered, noted["gone"], refused, reasons, lag)

    def sent(self, batch: Batch) -> None:
        """Note the batch before its DELETE leaves."""
        with self._lock:
            self._unanswered.add(batch)
        self._append({"sent": batch})

    def result(self, result: BatchResult) -> None:
        """Note what came of a batch."""
        with self._lock:
            self._unanswered.discard(result.batch)
        entry = {"ids": result.batch, "answer": result.answer, "acted": result.maybe_deleted}
        self._append(entry | ({"refused": result.refused} if result.refused else {}))

    def failed(self, reasons: Mapping[int, str]) -> None:
        """Note which ids still exist after all that was tried, and why."""
        if reasons:
            self._append({"failed": reasons})

    def gone(self, ids: Sequence[int]) -> None:
        """Note which ids are proven gone, so that no resume forgets it."""
        if ids:
            self._append({"gone": ids})

    def lag(self, seconds: float) -> None:
        """Note for how long the store was seen to list what it had deleted."""
        self._append({"lag": round(seconds, 3)})

    def unanswered(self) -> list[Batch]:
        """Return the batches that were sent, and of which no result was noted."""
        with self._lock:
            return list(self._unanswered)

    def close(self) -> None:
        """Give up the lock."""
        self._file.close()

    def _append(self, entry: dict[str, Any]) -> None:
        line = json.dumps({"time": utc_now(), **entry}).encode() + b"\n"
        with self._lock, writing(self._path):
            size = os.fstat(self._file.fileno()).st_size
            try:
                if self._file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                self._file.truncate(size)  # else the next line would be joined to half of this one
                raise
        with writing(self._path):
            os.fsync(self._file.fileno())  # not under the lock, so that one may serve several lines


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
        """Make a new folder, mode 0700; raises ConfigError when it cannot be made."""
        stem = f"{config.store_hash}-{config.resource.name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        names = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
        try:
            config.runs_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            with suppress(OSError), open(config.runs_dir / ".gitignore", "x", encoding="utf-8") as file:
                file.write("*\n")
            while True:
                path = config.runs_dir / next(names)
                with suppress(FileExistsError):
                    path.mkdir(mode=0o700)
                    return cls(path)
        except OSError as error:
            message = f"no run folder can be made in {config.runs_dir} ({error.strerror})"
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StoreError(f"{message}: make room, then run it again") from error
            raise ConfigError(f"{message}: name another with --runs-dir") from error

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open that of an earlier run; raises ConfigError when it holds no plan."""
        try:
            if (path / "plan.json").is_file():
                return cls(path)
            if path.is_file():
                raise ConfigError(f"--resume {path} is a file; name its folder: --resume {path.parent}")
            why = "there is no plan.json in it"
        except PermissionError as error:
            why = str(error.strerror)
        raise ConfigError(f"--resume {path}: {why}; name a run folder of yours that has a plan")

    def write(self, name: str, pieces: Iterable[str], *, lasting: bool = True) -> None:
        """Write a file of the folder as a whole; lasting: as in write_atomically."""
        write_atomically(self.path / name, pieces, lasting=lasting)

    def read_plan(self, config: Config) -> Plan:
        """Return the plan; raises Refused when it was changed, or is another store's."""
        path = self.path / "plan.json"
        try:
            plan = parse_plan(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise Refused(f"{path} cannot be trusted ({clean(error)}): start a new run") from error
        for name, words in {"host": "API host", "store_hash": "store hash"}.items():
            planned, given = getattr(plan, name), getattr(config, name)
            if planned != given:
                conflict = f"is for the {words} {clean(planned)}, and {config.path} is for {given}"
                raise Refused(f"{path} {conflict}: name the ini of its store")
        return plan

    def read_ledger(self, plan: Plan) -> Ledger:
        """Return what the journal knows of the plan; raises Refused for another's journal."""
        noted = self.journal.replay()
        if not noted.maybe_deleted | noted.gone | noted.refused | noted.reasons.keys() <= set(plan.ids):
            raise Refused(f"the journal in {self.path} is not its plan's: start a new run")
        return Ledger(len(plan.ids), noted)

    def check_backup(self, plan: Plan) -> str:
        """Return what is wrong with the backup that the plan promises, "" where nothing is."""
        path = self.path / "backup.jsonl"
        if not plan.backup:
            return ""
        try:
            with open(path, "rb") as file:
                lines = sum(line.rstrip(b"\r\n").endswith(b"}") and line.endswith(b"\n") for line in file)
        except OSError as error:
            return f"Backup missing: {path} ({error.strerror})"
        records = RESOURCES[plan.resource].counted(len(plan.ids))
        return "" if lines >= len(plan.ids) else f"Backup incomplete: {path} has {lines:,} of {records}"

    def earlier_summary(self) -> Record:
        """Return the summary of the processes before this one, {} where there is none that can be read."""
        try:
            summary = json.loads((self.path / "summary.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return summary if isinstance(summary, dict) else {}

    def write_unmatched(self, entries: Sequence[tuple[str, str]]) -> None:
        """Write unmatched.csv, where there are any: entries of lists that the store does not know."""
        if entries:
            self._write_csv("unmatched.csv", [("list", "entry"), *entries])

    def _write_csv(self, name: str, rows: Iterable[Sequence[object]]) -> None:
        """Write a CSV as a whole, safe in a spreadsheet."""

        def lines() -> Iterator[str]:
            for row in rows:
                text = io.StringIO()
                csv.writer(text).writerow(tuple(map(csv_cell, row)))
                yield text.getvalue()

        self.write(name, lines())

    def write_failed(self, ledger: Ledger, resource: Resource) -> None:
        """Write failed.csv: who it is, as selected.csv has it, and why."""
        failed = sorted(number for number in ledger.reasons if ledger.outcome(number) is Outcome.FAILED)
        wanted, width = set(failed), len(resource.show)
        rows_by_id = self._rows_by_id("selected.csv") if failed else ()
        known = {number: row for number, row in rows_by_id if number in wanted}
        who = {number: (*known.get(number, ()), *[""] * width)[:width] for number in failed}
        rows = ((number, *who[number], ledger.reasons[number]) for number in failed)
        self._write_csv("failed.csv", itertools.chain([("id", *resource.show, "reason")], rows))

    def _rows(self, name: str) -> Iterator[list[str]]:
        """Yield the rows of a CSV of the folder; none of one that is not there, or cannot be read."""
        path = self.path / name  # which somebody may have edited meanwhile
        with suppress(OSError, csv.Error), open(path, encoding="utf-8", errors="replace", newline="") as file:
            yield from csv.reader(file)

    def _rows_by_id(self, name: str) -> Iterator[tuple[int, list[str]]]:
        """Yield the rows of a CSV whose first cell is an id, as id and the rest."""
        return ((int(row[0]), row[1:]) for row in self._rows(name) if row and positive_id(row[0]))

    def first_rows(self, name: str, count: int) -> tuple[list[list[str]], int]:
        """Return so many rows of a CSV, its header first, and how many more it has; none where it is not."""
        rows = self._rows(name)
        return list(itertools.islice(rows, count)), sum(1 for _ in rows)

    def discard(self) -> None:
        """Remove the folder of a run that ended before anything was listed."""
        for handler in list(self.log.handlers):
            self.log.removeHandler(handler)
            with suppress(OSError):  # a full disk
                handler.close()
        self.journal.close()
        shutil.rmtree(self.path, ignore_errors=True)

    def write_summary(self, summary: Mapping[str, Any], *, lasting: bool) -> None:
        """Write summary.json; lasting: as in write_atomically."""
        text = json.dumps(summary, indent=1, ensure_ascii=False) + "\n"
        self.write("summary.json", [text], lasting=lasting)


# --- delete and verify --------------------------------------------------------------------------------
#
# Carries out the plan, and proves it. `delete` sends batches and sorts what comes back into the ledger; a
# planned id that was sent is `unknown` from then on. `verify` reads every planned id, and only that makes it
# `deleted`. Both end the run through the stop flag, and only after every answer on its way was taken in.

USED_UP_IN_A_ROW = 5  # requests that used up their retries, batches or halves: the store is down
REREADS = (1.0, 2.0, 3.0, 4.0)  # seconds before each: what is deleted may show for a moment
PROOF_READS = (0.0, 1.0, 1.0, 2.0, 3.0, 5.0, 8.0, 10.0, 10.0, 10.0, 10.0)  # seconds before each: 60 in all
WITHOUT_EFFECT = 10  # batches in a row of which nothing was deleted, before one was, that end the run


@dataclass
class Job:
    """What deleting and verifying need besides the ids."""

    store: Store
    ledger: Ledger
    journal: Journal
    max_error_rate: float
    # Of each record its parent's id, where deleting a parent deletes its children; else empty.
    parents: Mapping[int, int] = field(default_factory=dict)

    @property
    def stop(self) -> Stop:
        """The stop flag."""
        return self.store.workers.stop


def delete_batches(job: Job, ids: Sequence[int], *, one_by_one: bool) -> Iterator[BatchResult]:
    """Delete the ids in batches, several at a time or one by one, and yield each result as it comes.

    What has to go again is put in by itself: a refused batch's halves at once, so that its bad record is
    known soon; those of a batch that used up its retries after all others, so that a store that is down is
    not asked twenty times for each batch. Ends early once the stop flag is set, with all that was sent
    yielded.
    """
    store, stop = job.store, job.stop
    at_once = 1 if one_by_one else 2 * store.workers.count  # so that no worker waits for the main thread
    fresh = batches(ids, store.batch_size)
    soon: deque[Batch] = deque()
    late: deque[Batch] = deque()
    pending: list[Future[BatchResult]] = []

    def following() -> Batch | None:
        if stop.failure is not None:
            return None
        return soon.popleft() if soon else next(fresh, None) or (late.popleft() if late else None)

    while True:
        while len(pending) < at_once and (batch := following()):
            pending.append(store.workers.submit(store.delete_batch, batch, job.journal))
        if not pending:
            return
        done = store.workers.await_any(pending, deletes=True)
        for future in [future for future in pending if future in done]:  # as they were sent
            pending.remove(future)
            result = future.result()
            (late if result.retries_used_up else soon).extend(result.again)
            yield result


class Tally:
    """Counts the failures of one pass, and says when and why it must stop."""

    def __init__(self, job: Job) -> None:
        self._selected, self._max_error_rate = job.ledger.selected, job.max_error_rate
        self._failed = 0
        # Requests in a row that used up their retries.
        self._used_up = 0

    def add(self, result: BatchResult) -> StoreError | None:
        """Take in a result; returns the reason to stop, if there is one."""
        self._failed += len(result.refused) + len(result.accepted if result.retries_used_up else ())
        self._used_up = self._used_up + 1 if result.retries_used_up else 0
        if self._used_up >= USED_UP_IN_A_ROW:
            fault = f"{USED_UP_IN_A_ROW} requests in a row used up their retries (last: {result.answer})"
            return StoreError(f"the store does not answer: {fault}: resume once it is up")
        # More than 10, too, but for 0 %: there the first one is too many.
        if self._failed > (
            max(10, self._selected * self._max_error_rate / 100) if self._max_error_rate else 0
        ):
            last = next(iter(result.refused.values()), result.answer)
            allowed = f"more than max_error_rate ({self._max_error_rate:g} %) allows (last: {last})"
            failed = f"{self._failed:,} of {self._selected:,} failed"
            return StoreError(f"{failed}, {allowed}: see why, then resume")
        return None


def delete(job: Job, ids: Sequence[int]) -> None:
    """Delete these planned ids, one batch at a time until one is proven; raises Failure at a stop."""
    tally = Tally(job)
    # An earlier process of this run may have proven it.
    proven = not job.store.resource.read_by or job.ledger.counts()["deleted"] > 0
    without_effect = 0
    for level in levels(ids, job.parents):
        rest = without_kept_children(job, level)
        while rest and not proven:
            first, rest = rest[: job.store.batch_size], rest[job.store.batch_size :]
            delete_batches_of(job, first, tally, one_by_one=True)
            proven = prove(job, first)
            gone = all(job.ledger.outcome(number) is Outcome.ALREADY_GONE for number in first)
            without_effect += not proven and not gone
            if without_effect == WITHOUT_EFFECT:
                reasons = job.ledger.doubts | job.ledger.reasons
                last = next((reasons[number] for number in first if number in reasons), "")
                fault = (
                    f"nothing of the first {WITHOUT_EFFECT} batches was deleted (last: {last or 'unknown'})"
                )
                raise job.stop.set(StoreError(f"{fault}: see why, then resume"))
        delete_batches_of(job, rest, tally)


def levels(ids: Sequence[int], parents: Mapping[int, int]) -> list[Sequence[int]]:
    """Return the ids in groups, children before their parents: one group is answered before the next."""
    if not parents:
        return [ids]
    by_depth: dict[int, list[int]] = {}
    for number in ids:
        by_depth.setdefault(len(ancestors(number, parents)), []).append(number)
    return [by_depth[depth] for depth in sorted(by_depth, reverse=True)]


def without_kept_children(job: Job, ids: Sequence[int]) -> Sequence[int]:
    """Return the ids without parents of a failed child, which would be deleted with them."""
    ledger, kept = job.ledger, dict[int, int]()
    for child, parent in job.parents.items():
        if ledger.outcome(child) is Outcome.FAILED or child in ledger.doubts:
            kept.setdefault(parent, child)
    refused = {number: f"its child {kept[number]} was not deleted" for number in ids if number in kept}
    for number, reason in refused.items():
        ledger.set(number, Outcome.FAILED, reason)
    job.journal.failed(refused)
    return [number for number in ids if number not in refused] if refused else ids


def delete_batches_of(job: Job, ids: Sequence[int], tally: Tally, *, one_by_one: bool = False) -> None:
    """Delete these ids in batches; raises Failure, with every answer taken in, once a stop is asked for."""
    try:
        for result in delete_batches(job, ids, one_by_one=one_by_one):
            job.ledger.apply(result)
            try:
                job.journal.result(result)
            except Failure as failure:
                job.stop.set(failure)
            done = len(result.accepted) + len(result.refused) + len(result.missing)
            job.store.progress.advance(done)
            if reason := tally.add(result):
                job.stop.set(reason)
    finally:
        for batch in job.journal.unanswered():  # what is left here was not waited for
            job.ledger.apply(BatchResult(batch=batch, accepted=batch, maybe_deleted=batch))
    job.stop.check()


def prove(job: Job, ids: Sequence[int]) -> bool:
    """Tell whether something of a batch reads as gone that this run may have deleted.

    An accepted batch is read for up to 60 s, and the lag is noted; raises StoreError if all of it stays.
    """
    began = time.monotonic()
    for seconds in PROOF_READS:
        job.store.workers.sleep(seconds)
        result = read_into_ledger(job, ids, shown=False)
        if any(job.ledger.outcome(number) is Outcome.DELETED for number in ids):
            if seconds:
                job.ledger.lag = time.monotonic() - began
                job.journal.lag(job.ledger.lag)
            return True
        if all(number in job.ledger.doubts for number in result.there):
            return False  # nothing of it was accepted, or it cannot be told
        if not seconds:
            waits = f"waiting for up to {sum(PROOF_READS):.0f} s"
            job.store.progress.warnings.append(f"the store still lists what it says it deleted; {waits}")
    raise job.stop.set(
        StoreError(
            f"the store accepted the first DELETE, and still lists all of it after {sum(PROOF_READS):.0f} s: "
            "nothing more is sent; ask BigCommerce's support, then resume"
        )
    )


@dataclass
class ReadBack:
    """What reading planned ids back has found, besides what went into the ledger."""

    # Still there, for no known reason.
    there: array[int] = field(default_factory=lambda: array("q"))
    # The answer for these cannot be relied on.
    unknown: array[int] = field(default_factory=lambda: array("q"))
    # Still there, and rejected.
    failed: array[int] = field(default_factory=lambda: array("q"))


def read_into_ledger(job: Job, ids: Sequence[int], *, shown: bool = True) -> ReadBack:
    """Read planned ids back: what is found goes into the ledger, what is proven into the journal.

    shown: it counts as progress of the phase.
    """
    result, ledger, resource = ReadBack(), job.ledger, job.store.resource
    for chunk, records in read_back(job.store, ids):
        if records is None:
            result.unknown.extend(ledger.doubt(chunk))
            continue
        found = set(map(resource.id_of, records)) | there_though_unlisted(job, chunk, records)
        reasons = {}
        for number in chunk:
            before = ledger.outcome(number)
            ledger.read_back(number, there=number in found)
            if number not in found:
                continue
            if ledger.outcome(number) is not Outcome.FAILED:
                result.there.append(number)
                continue
            result.failed.append(number)
            if before is not Outcome.FAILED:
                reasons[number] = ledger.reasons[number]
        job.journal.gone([number for number in chunk if number not in found])
        job.journal.failed(reasons)
        job.store.progress.advance(len(chunk) if shown else 0)
    return result


def read_past_lag(job: Job, ids: Sequence[int]) -> ReadBack:
    """Read planned ids back, and once more where the store may still list what was deleted."""
    result, lag = read_into_ledger(job, ids), job.ledger.lag
    if lag and any(job.ledger.outcome(number) is Outcome.UNKNOWN for number in result.there):
        job.store.progress.warnings.append(f"the store may still list what it deleted: {lag:.0f} s")
        job.store.workers.sleep(lag)
        result = read_into_ledger(job, result.there + result.unknown, shown=False)
    return result


def there_though_unlisted(job: Job, chunk: Sequence[int], records: Sequence[Record]) -> set[int]:
    """Return those that a read did not list, that were refused for a reason, and that a read alone finds.

    The store said no to their DELETE, so one absence does not prove them gone.
    """
    store, listed = job.store, set(map(job.store.resource.id_of, records))
    refused = [number for number in chunk if number not in listed and job.ledger.was_refused(number)]
    if refused and not store.resource.read_by:  # then a second listing
        found = listed_among(store, IdSet(sorted(refused)))
        return set(refused) if found is None else set(map(store.resource.id_of, found))
    reads = ((number, store.workers.call(store.find, store.resource.read_by, [number])) for number in refused)
    return {number for number, again in reads if again is None or again}


def read_back(store: Store, ids: Sequence[int]) -> Iterator[tuple[Sequence[int], list[Record] | None]]:
    """Yield the ids, in parts, each with those of its records that are still there, None if unknown."""
    if not store.resource.read_by:
        yield ids, listed_among(store, IdSet(sorted(ids)))
        return

    def read(chunk: Sequence[int]) -> tuple[Sequence[int], list[Record] | None]:
        return chunk, store.find(store.resource.read_by, chunk)

    yield from store.workers.in_order(read, chunks(ids, store.chunk_size), store.ahead)


def listed_among(store: Store, ids: IdSet) -> list[Record] | None:
    """Return those of the ids that a complete listing still holds; None when none was complete."""
    for _ in range(LISTINGS):
        try:
            pages = Listing(store, {}).pages()
            return [record for page in pages for record in page if store.resource.id_of(record) in ids]
        except ListingChanged:  # what it held may have gone meanwhile
            continue
        except Unreadable:
            break
    return None


def verify(job: Job, ids: Sequence[int]) -> None:
    """Read all of them back; delete once more what is still there, and read that again."""
    result = read_past_lag(job, ids)
    resent: set[int] = set()
    for seconds in REREADS:
        if not result.there and not result.unknown:
            return
        not_resent = [number for number in result.there if number not in resent]
        for level in levels(not_resent, job.parents):
            delete_batches_of(job, without_kept_children(job, level), Tally(job))
        resent.update(not_resent)
        job.store.workers.sleep(max(seconds, job.ledger.lag))
        result = read_into_ledger(job, result.there + result.unknown)
    reasons = {
        number: job.ledger.doubts.get(number, "still exists after two accepted DELETEs")
        for number in result.there
        if number in resent
    }
    for number, reason in reasons.items():
        job.ledger.set(number, Outcome.FAILED, reason)
    job.journal.failed(reasons)


def control(store: Store, ids: Sequence[int], there: Sequence[int] = ()) -> None:
    """Shrink chunk and batch until the store heeds all ids that a read names; raises Refused if no size does.

    Absence proves nothing without a control: before the first DELETE one chunk, of records that were just
    listed, is read as verification will read it. What it lacks is asked for again in smaller parts: only if
    that finds something, the store did not heed all of the first. there: ids that surely are.
    """
    if not store.resource.read_by or not ids:
        return
    size = store.chunk_size
    chunk = ids if there else heapq.nlargest(size, ids)  # no query of the plan is longer
    while True:
        present = read_present(store, chunk, size) or set()
        missing = [number for number in chunk if number not in present]
        heeded = present and present.issuperset(there) and not hides(store, missing)
        size = min(size, store.chunk_size)  # a read that was too long was halved
        if heeded:
            store.chunk_size, store.batch_size = size, min(store.batch_size, size)
            return
        if size == 1:
            raise Refused(
                f"the store does not heed the ids that it is asked for ({store.resource.read_by}), or "
                "somebody deletes the same records: what it does not list may still be there, so nothing "
                "could be proven; try again"
            )
        size = (min(size, len(chunk)) + 1) // 2


def hides(store: Store, ids: Sequence[int]) -> bool:
    """Tell whether the store finds any of these ids in smaller reads, or gives no answer to rely on."""
    found = read_present(store, ids, max(1, len(ids) // 2)), read_present(store, ids[-1:], 1)
    return None in found or any(found)


def control_by_listing(store: Store, ids: Sequence[int]) -> None:
    """Control by records that are surely there: of a plan to be resumed, most ids may be gone.

    They stand before, among and behind planned ids in one chunk, so that a store is noticed that heeds only
    the first or the last of many.
    """
    if not store.resource.read_by or not ids:
        return
    first_page = partial(store.workers.call, store.page, store.resource, 1)
    records = first_page().records or first_page().records  # one empty page may be a stray answer
    there = list(map(store.resource.id_of, records[-6:]))
    if there:
        longest = heapq.nlargest(PAGE_LIMIT - len(there), ids)
        planned = [number for number in longest if number not in there]
        middle, (one, two) = len(planned) // 2, (len(there) // 3, 2 * len(there) // 3)
        mixed = [*there[:one], *planned[:middle], *there[one:two], *planned[middle:], *there[two:]]
        control(store, mixed, there)


def read_present(store: Store, ids: Sequence[int], size: int) -> set[int] | None:
    """Return which of the ids are there, read in chunks of that size; None when that cannot be relied on."""
    found: set[int] = set()
    for chunk in chunks(ids, size):
        records = store.workers.call(store.find, store.resource.read_by, chunk)
        if records is None:
            return None
        found.update(map(store.resource.id_of, records))
    return found


# --- report -------------------------------------------------------------------------------------------
#
# What the person sees: messages and bars on stderr, the final table on stdout. It reads what was done and
# decides nothing; a terminal that is gone never ends a run.

NARROWEST = 20  # columns; fewer cannot be meant, and nothing would be seen
LINE_EVERY = 2.5  # seconds between two plain lines of progress, where there is no terminal
REDRAW = 0.1  # seconds: the shortest time between two drawings of a bar


def duration(seconds: float) -> str:
    """Return 1:02:03, or 2:03."""
    minutes, second = divmod(max(0, round(seconds)), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"


def progress_text(progress: Progress, elapsed: float, waiting: str, *, last: bool = False) -> str:
    """Return count, rate a second, and the time left, taken, or what is waited for."""
    done, total = progress.done, progress.total
    rate = done / elapsed if elapsed > 0 else 0.0
    count = f"{done:,}/{total:,}" if total else f"{done:,}"
    if last or done >= total > 0:
        return f"{count} · {rate:,.0f}/s · took {duration(elapsed)}"
    if waiting:
        return f"{count} · {waiting}"
    left = f" · {duration((total - done) / rate)} left" if rate and total else ""
    return f"{count} · {rate:,.1f}/s{left}"


class PatientConsole(Console):
    """A console that may be closed, or whose reader may leave: rich would end the process then."""

    def on_broken_pipe(self) -> None:
        """Print nothing any more."""
        self.quiet = True

    def __exit__(self, *exception: object) -> None:
        """Write what was printed; all that rich writes goes through here."""
        with suppress(OSError):
            super().__exit__(*exception)


class PhaseDisplay:
    """Shows how far one phase is: a bar on a terminal, else a plain line every few seconds."""

    def __init__(self, screen: Screen, name: str, progress: Progress, bars: Bars) -> None:
        self._screen, self._name, self._progress, self._bars = screen, name, progress, bars
        # When it began, so that the first answer counts in the rate, and when it was last shown.
        self._began = self._shown = time.monotonic()
        self._task = bars.add_task(f"{name:<10}", total=None, detail="…")

    def show(self, waiting: str = "", *, last: bool = False) -> None:
        """Show how far it is; called often, so it mostly does nothing."""
        while self._progress.warnings:
            self._screen.warn(self._progress.warnings.popleft())
        now = time.monotonic()
        if not last and now - self._shown < (LINE_EVERY if self._bars.disable else REDRAW):
            return
        self._shown = now
        text = progress_text(self._progress, now - self._began, waiting, last=last)
        done, total = self._progress.done, self._progress.total
        self._bars.update(self._task, completed=done, total=total or (done if last else None), detail=text)
        if self._bars.disable and (total or done or waiting):
            share = f"{100 * done // total} % · " if total else ""
            self._screen.say(f"{self._name}: {share}{text}")


class Screen:
    """Prints messages, bars and tables, and asks."""

    def __init__(self) -> None:
        for stream in (sys.stdin, sys.stdout, sys.stderr):
            with suppress(AttributeError):  # a test's stand-in, or closed
                stream.reconfigure(errors="replace")  # type: ignore[union-attr]
        columns = os.environ.get("COLUMNS", "")
        width = 80 if columns.isdecimal() and int(columns) < NARROWEST else None
        self._err = PatientConsole(stderr=True, highlight=False, markup=False, width=width)
        self._out = PatientConsole(highlight=False, markup=False, width=width)
        self._phase: PhaseDisplay | None = None
        # A thread waits for a line that nobody will type: the interpreter would not end for it.
        self.still_reads = False
        # What was last said to be waited for, outside of a phase.
        self._waiting = ""

    def say(self, text: str, style: str = "", *, whole: bool = False) -> None:
        """Print a message; whole: a line to be copied, which is not wrapped for the terminal."""
        self._err.print(Text(text, style=style), soft_wrap=whole or not self._err.is_terminal)

    def warn(self, text: str) -> None:
        """Print a warning."""
        self.say(f"warning: {text}", "magenta")

    def show(self, renderable: Any, *, final: bool = False) -> None:
        """Print a table or panel; final: to stdout."""
        (self._out if final else self._err).print(renderable)

    def show_plan(self, rows: Rows, title: str, style: str) -> None:
        """Show the panel of a plan; on a small screen without what is needed least."""
        rows = list(rows)

        def is_too_tall() -> bool:
            lines = self._err.render_lines(plan_panel(rows, title, style))
            return self._err.is_terminal and len(lines) > self._err.height - 3

        for row in [row for label in LEAST_NEEDED for row in reversed(rows) if row[0] == label]:
            if is_too_tall():
                rows.remove(row)
        if is_too_tall():
            rows = [(label, printable(text, self._err.width)) for label, text in rows]
        self.show(plan_panel(rows, title, style))

    def ask(self, text: str, stop: Stop) -> str:
        """Return the line that the person types, "" at the end of the file, or of the terminal.

        A thread reads it, since no signal ends a read on every system; raises the reason of a stop.
        """
        typed = [""]

        def read() -> None:
            with suppress(OSError, ValueError):
                typed.append(sys.stdin.readline())

        reader = threading.Thread(target=read, daemon=True)
        self._err.print(Text(text, style="bold"), end="")
        reader.start()
        while reader.is_alive():
            if stop.failure is not None:
                self.still_reads = True
                self.say("")  # the cursor stands behind ^C
                raise stop.failure
            reader.join(POLL)
        return typed[-1]

    @contextmanager
    def phase(self, name: str, progress: Progress, total: int = 0) -> Iterator[None]:
        """Show the progress of a phase while it lasts; `tick` redraws it."""
        progress.begin(total)
        with make_bars(self._err) as bars:
            self._phase = display = PhaseDisplay(self, name, progress, bars)
            try:
                yield
                progress.total = progress.done  # a limit was reached, or less was found than asked for
            finally:
                self._phase = None
                display.show(last=True)

    def tick(self, waiting: str) -> None:
        """Redraw; waiting: why nothing moves, if it does not."""
        if self._phase is not None:
            self._phase.show(waiting)
        elif waiting and self._waiting != (words := waiting.rpartition(" ")[0]):
            self._waiting = words
            self.say(waiting)


def make_bars(console: Console) -> Bars:
    """Return rich's bars for that console; where it is no terminal, they are disabled."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn  # slow to load

    detail = TextColumn("{task.fields[detail]}", markup=False)
    bar = BarColumn(16, style="bright_black", complete_style="bold green", finished_style="bold green")
    columns = (TextColumn("{task.description}"), bar, TaskProgressColumn(), detail)
    plain = not console.is_terminal or console.is_dumb_terminal
    return Progress(*columns, console=console, refresh_per_second=8, disable=plain)


class ScreenHandler(logging.Handler):
    """Shows on the screen what goes to run.log."""

    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        """Show a line of the log."""
        self._screen.say(record.getMessage(), "dim")


Rows = Sequence[tuple[str, str]]  # label and text; "" continues the label above


def two_columns(rows: Rows, first_style: str = "") -> Table:
    """Return labels and what they stand for, where there is a text; first_style: that of the first text."""
    table = Table.grid(Column(no_wrap=True), Column(overflow="fold"), padding=(0, 2))
    for number, (label, text) in enumerate(row for row in rows if row[1]):
        table.add_row(Text(label), Text(text, "" if number else first_style))
    return table


# What the panel leaves out on a small screen, the first first; "" are the samples after the first.
LEAST_NEEDED = ("", "Such as", "Note", "Created", "It takes", "Shared", "No record", "Backup")


def plan_panel(rows: Rows, title: str, style: str) -> Panel:
    """Return the panel of a plan: what is about to be deleted, and what else plan_rows says."""
    return Panel(two_columns(rows), title=title, title_align="left", border_style=style)


# Key of the summary => how its number is shown, where it is not 0. The first three are always shown.
COUNTS = {
    "selected": "{:,}",
    "deleted": "{:,}",
    "failed": "{:,}",
    "already_gone": "{:,}, before this run could do it",
    "unknown": "{:,} accepted, not yet read back",
    "not_attempted": "{:,}",
    "duplicates": "{:,} listed twice, taken once",
    "not_found": "{:,} listed to delete, unknown to the store (unmatched.csv)",
    "keep_unknown": "{:,} listed to keep, unknown to the store (unmatched.csv)",
    "spared": "{:,} kept, or with orders",
    "backup_cut": "{:,} with more addresses or attributes than the API lists: the backup is cut there",
}


def verified_words(summary: Mapping[str, Any]) -> str:
    """Return what was proven, as the ticket tells it; "" where nothing was to be proven yet."""
    if summary["status"] not in ("completed", "interrupted"):
        return ""
    if not summary["selected"]:
        return "there was nothing to verify" if summary["status"] == "completed" else ""
    gone = summary["deleted"] + summary["already_gone"]
    if gone == summary["selected"]:
        return f"yes, all {gone:,} are gone"
    if summary["verified"]:
        return f"{gone:,} are gone, {summary['failed']:,} still exist"
    return f"no, {summary['selected'] - gone:,} not verified"


def summary_table(summary: Mapping[str, Any], name: str, *, unclear: bool = False) -> Panel:
    """Return the final table: what was selected, what became of it, and where the proof is.

    unclear: not all that was sent was accepted, or it was still there when it was read.
    """
    words = COUNTS | ({"unknown": "{:,} sent, not yet proven gone"} if unclear else {})
    shown = [key for number, key in enumerate(COUNTS) if summary[key] or number < 3]
    waits = f"{summary['retries']:,} retries, {summary['rate_limited']:,} times told to wait"
    started = summary["started_at"][:19].replace("T", " ")
    facts = {
        "Result": f"{summary['status']}, exit status {summary['exit_status']}",
        "Reason": summary["reason"],
        "Store": name,
        "Resource": summary["resource"],
        **{key.replace("_", " ").capitalize(): words[key].format(summary[key]) for key in shown},
        "Verified": verified_words(summary),
        "Requests": f"{summary['requests']:,} ({waits})",
        "Time": f"{duration(summary['elapsed_seconds'])} at work, started {started} UTC",
        "Run folder": summary["run_folder"] or "none: nothing was listed",
    }
    style = "red" if summary["exit_status"] else "green"
    return Panel(two_columns([*facts.items()], f"bold {style}"), box=box.HORIZONTALS, border_style=style)


class Pace:
    """How many requests there were over the time at work, in steps of equal length."""

    MOST_STEPS = 60

    def __init__(self) -> None:
        # Seconds of a step.
        self.step = 0.25
        # Requests in all at the end of each step.
        self._totals: list[int] = []

    def note(self, elapsed: float, requests: int) -> None:
        """Take note of how many requests there were, so many seconds after the start."""
        while elapsed >= self.step * self.MOST_STEPS:
            self._totals = self._totals[1::2]
            self.step *= 2
        last = self._totals[-1] if self._totals else 0
        self._totals += [last] * (int(elapsed / self.step) + 1 - len(self._totals))
        self._totals[-1] = requests

    def chart(self) -> str:
        """Return a bar for each step, and what the highest stands for; "" without a request."""
        counts = [after - before for before, after in itertools.pairwise([0, *self._totals])]
        if not (most := max(counts, default=0)):
            return ""
        bars = "".join(" ▁▂▃▄▅▆▇█"[math.ceil(8 * count / most)] for count in counts)
        return f"{bars}\n{most / self.step:,.0f} requests a second at most; a bar is {self.step:g} s"


REPORT_ROWS = 100  # of each of these files
REPORTED = {"failed.csv": "What did not go, and why", "unmatched.csv": "What the store does not know"}
REPORT_COLUMNS = 120
# Colours that can be read on white and on black: black, red, green, yellow, blue, magenta, cyan, white.
COLOURS = "5a5a5a d72832 1e8c3c 966e00 286edc aa46be 00828c 808080"
REPORT_THEME = TerminalTheme((255, 255, 255), (0, 0, 0), [(*bytes.fromhex(c),) for c in COLOURS.split()])
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


def report_table(title: str, rows: Sequence[Sequence[str]], more: int, name: str) -> Table:
    """Return the first rows of a CSV of that name, its header first, and how many more it has."""
    columns = [Column(Text(header), overflow="fold") for header in rows[0]]
    table = Table(*columns, title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for row in rows[1:]:
        table.add_row(*map(Text, row))
    table.caption = f"and {more:,} more in {name}" if more else None
    return table


def report_html(title: str, parts: Iterable[Any]) -> str:
    """Return what a person may attach to the ticket: one file of HTML that needs nothing else.

    title: the run's status, without braces.
    """
    console = Console(record=True, file=io.StringIO(), width=REPORT_COLUMNS, legacy_windows=False)
    console.print(Group(*parts))
    page = REPORT_FORMAT.replace("TITLE", html.escape(title))
    return console.export_html(theme=REPORT_THEME, code_format=page, inline_styles=True)


def resource_table() -> Table:
    """Return RESOURCES, for --resource list."""
    rows = []
    for item in RESOURCES.values():
        how = f"{item.largest_batch} at a time by {item.delete_by}" if item.delete_by else "one by one"
        how += f", {item.max_concurrent} request at once" if item.max_concurrent == 1 else ""
        lines = [f"{item.path}, deleted {how}", f"scope: {item.scope}"]
        lines.append(f"filters: {' '.join(item.filter_types())}")
        rows.append((item.name, "\n".join([*lines, *filter(None, [item.note])])))
    return two_columns(rows)


# --- guards -------------------------------------------------------------------------------------------
#
# Everything that keeps a plan from being carried out though it could be: each raises Refused, with what to
# do. The filters that a store ignores, and a --keep list or a --match field that nothing has, are found
# while listing (`Selection`); a plan that was changed or is another store's, when it is read
# (`RunFolder.read_plan`).


def check_domain(config: Config, info: Record | None, name: str) -> None:
    """Raise Refused when [store] domain is not that of the store; name: the store's, for the message."""
    if config.domain and info is None:
        raise Refused(
            f"domain in {config.path} cannot be checked: the token may not read GET /v2/store; "
            "give it store_v2_information_read_only, or take domain out"
        )
    domains = [bare_domain(info.get(key, "")) for key in ("domain", "secure_url")] if info else []
    if config.domain and config.domain not in domains:
        given = f"{config.path} is for the domain {clean(config.domain)}"
        raise Refused(f"{given}, but its store_hash is that of {name}: correct one of them")


def check_count(config: Config, count: int) -> None:
    """Raise Refused when more would be deleted than --max-delete allows."""
    if config.max_delete is not None and count > config.max_delete:
        excess = f"{count:,} are selected, more than --max-delete {config.max_delete:,}"
        raise Refused(f"{excess}: narrow the selection, or raise it")


def check_seen(selection: Selection) -> None:
    """Raise Refused for a field of --match that no record has, or a list that does not fit the store."""
    for found in filter(None, [selection.named, *selection.kept]):
        if rows := found.split_rows():
            which = f"{first_few(rows)}: the id and the address are not those of one record"
            raise Refused(
                f"{found.entries.name}, {which}. Correct the list, or remove one of the two columns."
            )
    if selection.unseen_paths and selection.listed:
        paths, there = ", ".join(sorted(selection.unseen_paths)), ", ".join(sorted(selection.field_names))
        raise Refused(f"--match {paths}: no listed record has this field; there are: {there}")
    for entries in (found.entries for found in selection.kept if not found.known):
        raise Refused(f"--keep {entries.name}: the store knows nothing that it lists; is it the right file?")


def check_slips(config: Config, slips: Sequence[str]) -> None:
    """Raise Refused for a likely mistake, when nobody looks at the panel: with --yes."""
    if config.yes and slips:
        fault = ". ".join([*slips, "Correct this, or run without --yes to review it."])
        raise Refused(fault, planned=bool(config.resume))


def missing_protections(config: Config, plan: Plan) -> list[str]:
    """Return what to say of protections in the ini that the plan to be resumed was made without."""
    return [
        f"{name} = {printable(text, 80)} in {config.path} is not part of the plan, so it protects nobody"
        for name, text in config.ini_protections.items()
        if (name not in plan.selection)
        or (name != "spare_with_orders" and f" and {text} and " not in f" and {plan.selection[name]} and ")
    ]


def check_cascade(ids: Sequence[int], parents: Mapping[int, int], resource: Resource) -> None:
    """Raise Refused for a selected parent that would take along what is not selected."""
    planned = set(ids) if parents else set()
    along = [n for n in parents if n not in planned and not planned.isdisjoint(ancestors(n, parents))]
    if along:
        below = f"{resource.counted(len(along))} that are not selected stand below selected ones"
        fault = f"{below}, and would go along: {first_few([*map(str, along)])}"
        raise Refused(f"{fault}; select them too, or not what is above them")


def check_age(config: Config, plan: Plan) -> None:
    """Raise Refused for a plan of the future, and for one over a day old that nobody looks at."""
    if config.resume and plan.age() < -timedelta(minutes=1):
        made = clean(plan.created_at)
        raise Refused(f"the plan is of the future ({made}): correct the clock, or start a new run")
    if config.yes and config.resume and plan.age() > timedelta(days=1):
        days = "1 day" if plan.age().days == 1 else f"{plan.age().days} days"
        raise Refused(f"the plan is {days} old: look at it, and resume it without --yes", planned=True)


def confirm(screen: Screen, stop: Stop, count: int, what: str) -> None:
    """Have the person type how many records go; raises Refused where they do not, or nobody is there.

    what: the records and their store, for the question.
    """
    if not all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr)):
        raise Refused("there is no terminal to confirm on: add --yes to delete", planned=True)
    stop.check()  # a signal that came before
    forget_what_was_typed()
    typed = screen.ask(f"Type {count} to delete {what}: ", stop)
    if not typed:
        stop.sleep(POLL)  # a terminal that closes ends the file before its signal comes
    if typed.strip().replace(",", "") != str(count):
        raise Refused(f"not confirmed: that was not {count}", planned=True)


# --- command line -------------------------------------------------------------------------------------
#
# Puts the parts together: `Run.work` is the table of contents of a run, `ending` the one place that maps a
# failure to an exit status, and `main` what the shell calls.


class Parser(argparse.ArgumentParser):
    """A parser that says in one sentence what is wrong, and which option was likely meant."""

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError in place of a page of usage."""
        raise ConfigError(message)

    def parse(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """Return the arguments, --config as a path; raises ConfigError."""
        arguments, unknown = self.parse_known_args(argv)
        if unknown:
            name = unknown[0].partition("=")[0]
            options = [flag[2:] for action in self._actions for flag in action.option_strings]
            close = difflib.get_close_matches(name.lower().lstrip("-–—"), options, n=1, cutoff=0.8)
            hint = f"did you mean --{close[0]}?" if close else "see --help"
            is_option = name.startswith(("-", "–", "—"))
            fault = f"unknown option {clean(name)}" if is_option else f"{clean(name)} belongs to no option"
            raise ConfigError(f"{fault}; {hint}")
        if len(arguments.config or ()) > 1:
            raise ConfigError("--config is there twice, and takes one value: leave one out")
        if not arguments.config and arguments.resource != ["list"]:
            raise ConfigError("--config FILE is required: the store's ini file")
        arguments.config = Path(*arguments.config or ())
        return arguments


# What --help says, in these groups: option => what stands for its value ("" for a switch), and what it does.
HELP = {
    "what to delete": {
        "filter": ("NAME=VALUE", "only what this filter of the API finds"),
        "resource": ("NAME", "what to delete (customers); list: show all"),
        "match": ("FIELD=REGEX", "only records whose FIELD holds the REGEX; FIELD!=REGEX: does not hold it"),
        "ids": ("FILE", "only those whose ids or e-mail addresses FILE lists"),
        "keep": ("FILE", "not those whose ids or e-mail addresses FILE lists"),
        "spare_with_orders": ("", "not the customers that have orders"),
        "limit": ("N", "only the first N: a trial"),
    },
    "safety": {
        "max_delete": ("N", "refuse to delete more than N"),
        "dry_run": ("", "list, write the plan, and delete nothing"),
        "yes": ("", "do not ask before deleting"),
        "resume": ("RUN_FOLDER", "go on with an earlier run's plan"),
        "runs_dir": ("DIR", "where the run folders go (runs)"),
        "no_backup": ("", "write no backup.jsonl"),
    },
    "pace": {
        "rate_limit": ("N", "at most N requests in each of the store's windows"),
        "batch_size": ("N", "ids in one DELETE (the most the resource takes)"),
        "max_concurrent": ("N", "requests at once, 1 to 5 (5)"),
    },
    "output": {
        "json": ("", "the summary as JSON on stdout, all else on stderr"),
        "verbose": ("", "show every request as run.log has it"),
    },
}
EXAMPLES = """\
examples:
  python bulk_delete.py --config store.ini --dry-run
      list all customers, write the plan and a backup, and delete nothing
  python bulk_delete.py --config store.ini --ids merchant.csv --keep staff.txt
      delete the customers of the merchant's list, but not the staff among them
  python bulk_delete.py --config store.ini --resume runs/RUN_FOLDER
      carry out the plan of a dry run, or go on with a run that ended early
"""


def make_parser() -> Parser:
    """Return the command line; OPTIONS are read like the ini's keys, and win over them."""
    parser = Parser(
        prog="bulk_delete.py",
        usage="python bulk_delete.py --config FILE [option ...]",
        description="Delete many records from one BigCommerce store: shown first, done exactly,\nproven "
        "afterwards.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--config", action="append", metavar="FILE", help="the store's ini file (required)")
    for title, options in HELP.items():
        add = parser.add_argument_group(title).add_argument
        for name, (metavar, words) in options.items():
            flag = OPTIONS[name].flag
            if metavar:
                add(flag, action="append", metavar=metavar, help=words)
                continue
            flags = ["-v", flag] if name == "verbose" else [flag]
            opposite = flag.replace("--no-", "--") if "--no-" in flag else f"--no-{flag[2:]}"
            add(*flags, dest=name, action="append_const", const="yes", help=words)
            add(opposite, dest=name, action="append_const", const="no", help=argparse.SUPPRESS)
    add("--version", action="version", version=f"bulk_delete.py {__version__}")
    return parser


STORE_FIELDS = {"name": "name", "domain": "domain", "plan": "plan_name"}  # in the summary => in the API
PLAN_COUNTS = ("duplicates", "not_found", "spared", "keep_unknown", "backup_cut")  # of the plan


class Run:
    """One run, from the run folder to the summary."""

    def __init__(self, config: Config, screen: Screen, stop: Stop) -> None:
        self.folder = RunFolder.open(config.resume) if config.resume else RunFolder.create(config)
        self.plan = self.folder.read_plan(config) if config.resume else None
        # What is known of each planned id.
        self.ledger = self.folder.read_ledger(self.plan) if self.plan else Ledger(0)
        if self.plan:
            config = replace(config, resource=RESOURCES[self.plan.resource])
        if config.verbose:
            self.folder.log.addHandler(ScreenHandler(screen))
        self.config, self.screen, self.stop = config, screen, stop
        # What GET /v2/store says; None where the token may not read it.
        self.info: Record | None = None
        self.progress = Progress()
        # The customers that have orders.
        self.orders = Orders()
        # Of each record its parent's id, where deleting a parent deletes its children; else empty.
        self.parents: Mapping[int, int] = {}
        self.client = Client(config, stop, self.folder.log)
        self.workers = Workers(min(config.max_concurrent, config.resource.max_concurrent), stop, self.tick)
        self.store = Store(config, self.client, self.workers, self.progress)
        self.webhook = Webhook(config.webhook_url)
        # Whether anything was read of the plan: before it, a resume leaves the files as they were.
        self.has_read = not config.resume
        # The summary of the processes before this one.
        self.earlier = self.folder.earlier_summary()
        self._started_at = str(self.earlier.get("started_at") or utc_now())
        # Since when it is at work; the time at the question is taken off.
        self._began = time.monotonic()
        # When summary.json was last written.
        self._written_at = -math.inf
        # How fast the requests were, for the report.
        self._pace = Pace()
        # Whether the person was told that the run is stopping.
        self._told_stopping = False

    @property
    def name(self) -> str:
        """How the store is named: name, domain and plan, as far as they are known, hash, and a moved API."""
        plan, host = self.store_says("plan_name", 30), self.config.host
        known = [self.store_says("name", 60), self.store_says("domain", 60), plan and f"{plan} plan"]
        moved = f"API at {host}" if host != DEFAULT_HOST else ""
        return " · ".join(filter(None, [*known, f"hash {self.config.store_hash}", moved]))

    def store_says(self, key: str, limit: int = 200) -> str:
        """Return what GET /v2/store says of the store, "" where it does not."""
        return printable((self.info or {}).get(key) or "", limit)

    def work(self) -> None:
        """Do it all, up to the last proof; raises the Failure that ends it."""
        for warning in self.config.warnings:
            self.screen.warn(warning)
        self.notify("started", self.summary(ended=False))
        self.identify()
        plan = self.plan or self.gather()
        ids = self.reread(plan) if self.config.resume else plan.ids
        check_count(self.config, len(ids))
        if self.config.dry_run and ids:
            return
        if ids:
            self.approve(plan, ids)
        self.store.expect(0, len(ids))
        for phase, function in (("Deleting", delete), ("Verifying", verify)) if ids else ():
            with self.screen.phase(phase, self.progress, len(ids)):
                function(self.job(), ids)
        if left := self.ledger.left():
            verb = "is" if left == 1 else "are"
            raise Unproven(f"{left:,} of {self.ledger.selected:,} {verb} not proven gone")

    def approve(self, plan: Plan, ids: Sequence[int]) -> None:
        """Return once the guards and the person have agreed to delete these ids; raises Refused."""
        config = self.config
        check_age(config, plan)
        check_slips(config, self.slips(plan))
        if not config.yes:
            known = self.store_says("name", 60) or f"the store {config.store_hash}"
            asked_at = time.monotonic()
            try:
                confirm(self.screen, self.stop, len(ids), f"{config.resource.counted(len(ids))} of {known}")
            finally:
                self._began += time.monotonic() - asked_at
        self.recheck_before_delete(plan, ids)  # the question may have taken long
        if not config.resume:  # a resume has done so before it read back
            control(self.store, ids)

    def slips(self, plan: Plan) -> Sequence[str]:
        """Return the likely mistakes that a person must see: those of the plan, and those of a resume."""
        if not self.config.resume:
            return plan.slips
        backup = self.folder.check_backup(plan)
        return [*plan.slips, *missing_protections(self.config, plan), *filter(None, [backup])]

    def job(self) -> Job:
        """Return what deleting and verifying need."""
        return Job(self.store, self.ledger, self.folder.journal, self.config.max_error_rate, self.parents)

    def identify(self) -> None:
        """Learn which store it is; raises Refused when it is not the one that the ini is for."""
        self.client.bucket.expect(4)  # this, and the first pages, which tell how much there is to do
        self.info = self.workers.call(self.store.info)
        check_domain(self.config, self.info, self.name)

    def gather(self) -> Plan:
        """List, freeze the plan on disk, and show it; raises Refused for a listing that stays incomplete."""
        config, store = self.config, self.store
        if config.spare_with_orders:
            with self.screen.phase("Orders", self.progress):
                self.orders.read_on(store)
        files = RecordFiles(self.folder.path, config.resource, backup=not config.no_backup)
        with self.screen.phase("Listing", self.progress), closing(files):
            selection = gather(store, config, self.orders, files)
            self.parents = read_parents(store)
        self.folder.write_unmatched(selection.not_found() + selection.keep_unknown())
        check_seen(selection)
        check_cascade(selection.ids, self.parents, config.resource)
        plan = make_plan(config, selection, self.parents, self.time_zone())
        self.plan, self.ledger = plan, Ledger(len(plan.ids))
        self.folder.write("plan.json", plan.lines())
        self.show(plan, len(plan.ids))
        return plan

    def time_zone(self) -> str:
        """Return the store's time zone, "" where it is not known."""
        return printable(value_at(self.info, "timezone.name") or "", 60)

    def reread(self, plan: Plan) -> Sequence[int]:
        """Return, and show, which records of the plan still exist, by reading back all that is not verified.

        Last come those whose DELETE was rejected before, so that they do not hold up the others.
        """
        unverified = [number for number in plan.ids if self.ledger.outcome(number) not in PROVEN]
        self.store.expect(math.ceil(len(unverified) / PAGE_LIMIT), len(unverified))
        with self.screen.phase("Re-reading", self.progress, len(unverified)):
            control_by_listing(self.store, unverified)
            result = read_past_lag(self.job(), unverified)
        left = {*result.there, *result.unknown, *result.failed}
        ids = sorted((n for n in unverified if n in left), key=self.ledger.was_refused)
        self.has_read = bool(unverified) or self.earlier.get("status") != "completed"
        self.recheck_before_delete(plan, ids)
        self.show(plan, len(ids))
        return ids

    def recheck_before_delete(self, plan: Plan, ids: Sequence[int]) -> None:
        """Raise Refused for a planned customer who has ordered since, and for a new child of a record."""
        if "spare_with_orders" in plan.selection:
            self.orders.read_on(self.store)
            if late := self.orders.customers.intersection(ids):
                verb = "has placed an order" if len(late) == 1 else "have placed orders"
                fault = f"{self.config.resource.counted(len(late))} {verb} since the plan was made"
                raise Refused(f"{fault}: {first_few([*map(str, sorted(late))])}. Start a new run.")
        self.parents = read_parents(self.store)
        check_cascade(ids, self.parents, self.config.resource)

    def plan_rows(self, plan: Plan, count: int) -> Rows:
        """Return what the panel says of a plan, of which so many records are to be deleted."""
        labels = itertools.chain(["Such as"], itertools.repeat(""))
        return [
            ("Store", self.name),
            ("Delete", self.config.resource.counted(count)),
            *((label, printable(text, 2000)) for label, text in plan.facts.items()),
            ("Backup", str(self.folder.path / "backup.jsonl") if plan.backup else "none"),
            *((label, printable(line)) for label, line in zip(labels, plan.sample, strict=False)),
            ("Note", self.config.resource.note),
        ]

    def show(self, plan: Plan, count: int) -> None:
        """Show how many records of the plan will be deleted, which, and how long that takes."""
        resource, requests = self.config.resource, self.store.requests_for(count)
        if not count:
            nothing = "nothing is left to delete" if self.config.resume else "nothing is selected"
            self.screen.say(f"{nothing}: {resource.words} of {self.name}")
            if text := plan.facts.get("Selected"):
                self.screen.say(f"Selected: {text}")
            for warning in (*plan.warnings, *plan.slips):
                self.screen.warn(warning)
            return
        rows = [*self.plan_rows(plan, count)]
        if self.config.resume:
            age = f"{duration(plan.age().total_seconds())} old, {resource.counted(len(plan.ids))}"
            rows.append(("Plan", f"{self.folder.path}, {age}"))
        rows.append(("It takes", f"{requests:,} requests, about {self.estimate(requests)}"))
        rows += [("WARNING", printable(text, 2000)) for text in (*plan.warnings, *self.slips(plan))]
        dry = self.config.dry_run
        title = "Dry run: this would be deleted" if dry else "This cannot be undone"
        self.screen.show_plan(rows, title, "cyan" if dry else "red")

    def estimate(self, requests: int) -> str:
        """Return how long so many requests take, by the quota and by the answers' times so far."""
        client = self.client
        windows = math.ceil(requests / max(1, client.bucket.largest())) - 1
        latency = client.busy_seconds / max(1, client.counts["requests"])
        seconds = max(windows * client.bucket.window.seconds, requests * latency / self.workers.count)
        return f"{math.ceil(seconds / 60)} min" if seconds > 90 else f"{math.ceil(seconds)} s"

    def tick(self) -> None:
        """Redraw, and rewrite summary.json about once a second; called whatever is waited for."""
        self.tell_stopping()
        self.client.tick()
        self._pace.note(self.elapsed(), self.client.counts["requests"])
        self.screen.tick(self.client.waiting())
        if self.client.longest() > 2 * ANSWER_TIMEOUTS * self.config.timeout:
            self.stop.set(StoreError("the store's answer does not end: resume once it answers"))
            self.stop.at_once = True
        if self.has_read and time.monotonic() - self._written_at >= 1.0:
            self._written_at = time.monotonic()
            try:
                self.folder.write_summary(self.summary(ended=False), lasting=False)
            except Failure as failure:
                self.stop.set(failure)

    def tell_stopping(self) -> None:
        """Say at once that a signal came, and what is still waited for."""
        if isinstance(self.stop.failure, Interrupted) and not self._told_stopping:
            self._told_stopping = True
            count = self.client.on_their_way() if self.folder.journal.unanswered() else 0
            deletes = f"{count} DELETE" + "s" * (count > 1)
            waits = f"waiting for {deletes} on the way (Ctrl-C again: leave at once)"
            self.screen.say(f"stopping: {waits if count else 'writing down what was done'}", "bold")

    def elapsed(self) -> float:
        """Return the seconds that this process was at work."""
        return time.monotonic() - self._began

    def summary(self, failure: Failure | None = None, *, ended: bool = True) -> dict[str, Any]:
        """Return summary.json of a run that ended so, or that is at work; selected: the sum of outcomes."""
        plan, counts = self.plan or self.config, self.ledger.counts()
        end = ending(failure, planned=self.plan is not None, left=self.ledger.left())
        status, exit_status = end if ended else ("in_progress", None)
        return {
            "status": status,
            "exit_status": exit_status,
            "reason": str(failure) if failure else None,
            "version": __version__,
            "store": {name: self.store_says(key) or None for name, key in STORE_FIELDS.items()},
            "store_hash": self.config.store_hash,
            "run_folder": self.proof_folder(),
            "resource": self.config.resource.name,
            "filters": dict(plan.filters),
            "selection": dict(plan.selection),
            "selected": self.ledger.selected,
            **counts,
            **{name: getattr(plan, name, 0) for name in PLAN_COUNTS},
            "verified": status == "completed" and counts["unknown"] == counts["not_attempted"] == 0,
            **self.client.counts,
            "started_at": self._started_at,
            "finished_at": None if status == "in_progress" else utc_now(),
            "elapsed_seconds": round(self.elapsed(), 3),
            "resume": self.resume_command() if self.plan and status not in ("completed", "refused") else None,
        }

    def proof_folder(self) -> str | None:
        """Return the run folder; None while nothing was listed, now or before: then none is left behind."""
        return str(self.folder.path) if self.store.has_listed or self.config.resume else None

    def resume_command(self) -> str:
        """Return the exact command that goes on with this run, without --yes."""
        name = Path(sys.executable).name  # what a person types, where it is this Python that it calls
        python = name if shutil.which(name) == sys.executable else sys.executable
        words = [python, sys.argv[0], "--config", str(self.config.path)]
        return shell_command([*words, "--resume", str(self.folder.path), *self.config.resume_options])

    def notify(self, event: str, summary: Mapping[str, Any]) -> None:
        """Send an event to webhook_url; it never changes the run."""
        counts = {name: summary[name] for name in ("status", "exit_status", "selected", *Outcome)}
        self.webhook.send({"event": event, **counts, "run_folder": self.folder.path.name})

    def finish(self, failure: Failure | None) -> int:
        """Write and show the result, and notify the webhook; returns the exit status."""
        summary = self.summary(failure)
        kept = summary["run_folder"] is not None  # an answer that comes now changes nothing any more
        is_stopped = isinstance(failure, Interrupted)
        if is_stopped:  # it is not waited for then, and gets the time that writing takes
            self.notify("interrupted", summary)
        try:
            if kept and self.has_read:  # a resume that has read nothing leaves all as it was
                self.write_results(summary)
            self.show_summary(summary)
        except Failure as unwritten:
            summary = self.summary(unwritten)
            with suppress(OSError):
                self.show_summary(summary)
        except OSError as error:
            unprinted = StoreError(f"the summary cannot be printed ({error.strerror}): see summary.json")
            summary = self.summary(unprinted)
            with suppress(Failure):
                if kept and self.has_read:
                    self.write_results(summary)
            self.screen.say(f"bulk_delete.py: {unprinted}", "bold red")
        if not is_stopped:
            self.notify("completed" if summary["exit_status"] in (0, 4) else "interrupted", summary)
            self.await_webhook()
        if not kept:
            self.folder.discard()
        return int(summary["exit_status"])

    def await_webhook(self) -> None:
        """Wait for the webhook for 10 s at most, and not after a signal."""
        began = time.monotonic()
        while (
            self.webhook.is_busy() and not self.stop.has_signal and time.monotonic() - began < Webhook.LONGEST
        ):
            time.sleep(POLL)
            if time.monotonic() - began > 2:
                self.screen.tick("waiting for webhook_url to answer")
        for fault in self.webhook.faults():
            self.screen.warn(fault)

    def write_results(self, summary: Mapping[str, Any]) -> None:
        """Write failed.csv, summary.json and the report."""
        if self.plan is not None:
            self.folder.write_failed(self.ledger, self.config.resource)
        self.folder.write_summary(summary, lasting=True)
        self.folder.write("report.html", [report_html(summary["status"], self.report(summary))])

    def table(self, summary: Mapping[str, Any]) -> Panel:
        """Return the final table."""
        unclear = bool(self.ledger.doubts or self.config.resume)
        return summary_table(summary, self.name, unclear=unclear)

    def report(self, summary: Mapping[str, Any]) -> Iterator[Any]:
        """Yield the parts of the report, as rich prints them."""
        yield self.table(summary)
        if self.plan is not None:
            warnings = [
                ("WARNING", printable(text, 2000)) for text in (*self.plan.warnings, *self.plan.slips)
            ]
            yield plan_panel([*self.plan_rows(self.plan, len(self.plan.ids)), *warnings], "The plan", "red")
        for name, title in REPORTED.items():
            rows, more = self.folder.first_rows(name, REPORT_ROWS + 1)
            if len(rows) > 1:
                yield report_table(f"{title} ({name})", rows, more, name)
        if chart := self._pace.chart():
            yield Text(f"Requests over time\n{chart}\n")
        yield Text(f"bulk_delete.py {__version__}: {printable(shell_command(sys.argv), 1000)}")
        if summary["resume"]:
            yield Text(f"To go on: {printable(summary['resume'], 1000)}")

    def show_summary(self, summary: Mapping[str, Any]) -> None:
        """Show the final table, and what to do next."""
        self.screen.show(self.table(summary), final=not self.config.json)
        if self.config.json:
            with suppress(BrokenPipeError):  # nobody reads it any more
                print(json.dumps(summary), flush=True)
        if summary["reason"] and not (self.config.json or same_output()):  # else it stands in the table
            self.screen.say(f"bulk_delete.py: {summary['reason']}", "bold red")
        if summary["failed"]:
            self.screen.say(f"what did not go, and why: {self.folder.path / 'failed.csv'}")
        if summary["exit_status"] == Unproven.exit_status and summary["unknown"]:
            self.screen.say(f"{summary['unknown']:,} could not be read back: a resume reads them again")
        if summary["exit_status"] or summary["status"] == "planned":
            self.show_resume(summary)

    def show_resume(self, summary: Mapping[str, Any]) -> None:
        """Show the command that goes on with this run, where there is a plan that may be gone on with."""
        if self.plan is None or summary["status"] == "refused":
            return
        more = " more" if summary["not_attempted"] < summary["selected"] else ""
        planned = f"nothing{more} was deleted; to delete exactly these:"
        self.screen.say(planned if summary["status"] == "planned" else "to go on where it ended:")
        self.screen.say(f"  {self.resume_command()}", whole=True)


def same_output() -> bool:
    """Tell whether stdout and stderr go to the same place, such as a terminal."""
    with suppress(OSError):  # one of them is closed
        return os.path.sameopenfile(1, 2)
    return False


def make_plan(config: Config, selection: Selection, parents: Mapping[int, int], time_zone: str) -> Plan:
    """Return the plan of a selection; parents: of each record its parent's id, or 0."""
    ids = itertools.chain.from_iterable(levels(selection.ids, parents))
    facts = selection_facts(config, selection)
    if any(item.kind is FILTER_TYPES["date"] for item in config.filter.values()):
        facts["Time zone"] = f"dates are in UTC; the store's own time zone is {time_zone or 'not known'}"
    return Plan(
        host=config.host,
        store_hash=config.store_hash,
        resource=config.resource.name,
        filters=config.filters,
        selection=config.selection,
        facts={label: text for label, text in facts.items() if text},
        sample=selection.sample.lines(config.resource),
        warnings=selection_warnings(config, selection),
        slips=selection_slips(config, selection),
        created_at=utc_now(),
        duplicates=selection.duplicates,
        not_found=len(selection.not_found()),
        spared=selection.spared,
        ids=array("q", ids),
        keep_unknown=len(selection.keep_unknown()),
        backup_cut=0 if config.no_backup else selection.cut,
        backup=not config.no_backup,
    )


def selection_facts(config: Config, selection: Selection) -> dict[str, str]:
    """Return what the panel says of a selection: label => text, "" where there is nothing to say."""
    lists = [selection.named, *selection.kept] if selection.named else selection.kept
    shared = [text for found in lists for text in found.shared()]
    first, last = printable(selection.sample.first_created), printable(selection.sample.last_created)
    unseen = [f"{name}: {text}" for name, texts in selection.unseen_values.items() for text in sorted(texts)]
    not_checked = "not checked (--spare-with-orders excludes customers with orders)"
    return {
        "Selected": selected_words(config, selection),
        "No record": "" if selection.full else first_few(unseen),
        "Shared": first_few(shared),
        "Spared": f"{selection.spared:,}" if selection.spared else "",
        "Orders": not_checked if config.resource.name == "customers" and not config.spare_with_orders else "",
        "Created": first and f"{first} to {last}",
    }


def unmatched_words(found: Found, resource: Resource) -> str:
    """Return what to say of entries of a list that match no record, "" where there are none."""
    if not (unknown := list(found.unknown())):
        return ""
    matches = "1 entry" if len(unknown) == 1 else f"{len(unknown):,} entries"
    matches += f" of {found.entries.name} {'matches' if len(unknown) == 1 else 'match'}"
    entries = first_few([*map(printable, unknown)])
    return f"{matches} no {resource.singular_words} (unmatched.csv): {entries}{found.case_words()}"


def selection_warnings(config: Config, selection: Selection) -> list[str]:
    """Return what the panel warns of, a sentence each."""
    warnings = []
    for name, number in selection.ignored_filters.items():
        ignored = (
            f"The store ignored the filter {name}: it returned {config.resource.singular_words} {number}"
        )
        warnings.append(f"{ignored}, which does not match and is not selected")
    if selection.named and selection.not_found():
        warnings.append(unmatched_words(selection.named, config.resource))
    if selection.cut and not config.no_backup:
        cut = config.resource.counted(selection.cut)
        warnings.append(f"Backup incomplete: {cut} with more addresses or attributes than the API returns")
    return warnings


def selection_slips(config: Config, selection: Selection) -> list[str]:
    """Return the likely mistakes of a selection, a sentence each: a protection that protects nobody."""
    slips = [unmatched_words(found, config.resource) for found in selection.kept]
    for match in selection.idle_exclusions if selection.ids else ():
        slips.append(f"--match {match.path}!={printable(match.pattern.pattern, 80)} excludes no record")
    if config.spare_with_orders and not selection.has_orders:
        slips.append("--spare-with-orders excludes no record: no order names a customer")
    return [*filter(None, slips)]


def meant_words(config: Config) -> str:
    """Return which records are meant, in the words given; "" for all of them."""
    conditions = [f"{name}={text}" for name, text in config.filters.items()]
    conditions += [f"match {config.selection['match']}"] if config.match else []
    listed = f" listed in {config.ids}" if config.ids else ""
    return listed + (f" with {' and '.join(conditions)}" if conditions else "")


def selected_words(config: Config, selection: Selection) -> str:
    """Return what is selected, in the words given, whether that is the whole store, and what is excepted."""
    meant = meant_words(config)
    everything = f"{'ALL ' if selection.ids else ''}{config.resource.words} of the store"
    whole = 0 < len(selection.ids) == selection.total
    if not meant and config.limit is None:
        meant = everything
    else:
        meant = f"the {config.resource.words}{meant}" + (f", which are {everything}" if whole else "")
    excepted = [
        f"the {len(found.entries):,} of {found.entries.name} ({found.known:,} known, {found.spared:,} spared)"
        for found in selection.kept
    ]
    if config.spare_with_orders:
        excepted.append(f"the {selection.spared_for_orders:,} with orders")
    meant += f" except {' and '.join(excepted)}" if excepted else ""
    return meant if config.limit is None else f"the first {config.limit:,} of {meant}"


def ending(failure: Failure | None, *, planned: bool, left: int) -> tuple[str, int]:
    """Return the summary's status and the exit status of a run that ended so.

    planned: there is a plan; left: how many of it are not proven gone. The one place where a failure becomes
    an exit status.
    """
    if failure is None:
        return "planned" if left else "completed", 0  # left by a dry run
    if isinstance(failure, Unproven):
        return "completed", failure.exit_status
    if isinstance(failure, Refused) and failure.planned:
        return "planned", failure.exit_status
    if isinstance(failure, (ReadRefused, Unreadable, ConfigError)) and planned:
        return "interrupted", StoreError.exit_status  # what was deleted before stays deleted
    return "refused" if isinstance(failure, (Refused, ConfigError)) else "interrupted", failure.exit_status


def run(config: Config, screen: Screen, stop: Stop) -> int:
    """One run, whatever happens to it, with its summary; returns the exit status."""
    job = Run(config, screen, stop)
    failure: Failure | None = None
    try:
        job.work()
    except Failure as error:
        failure = stop.set(error)
    except BaseException as error:
        bug = Bug(f"a bug: {clean(repr(error))}")
        stop.set(bug)  # the workers send nothing more
        job.finish(bug)
        raise
    finally:
        job.workers.close()
    status = job.finish(failure)
    # N9: a read on its way is not awaited, nor what a person types.
    stop.at_once = stop.at_once or job.client.longest() > 0 or screen.still_reads
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
            screen.show(resource_table(), final=True)
            return 0
        status = run(read_config(arguments, os.environ), screen, stop)
    except SystemExit as leaving:  # --help, --version
        return int(leaving.code or 0)
    except Failure as failure:
        screen.say(f"bulk_delete.py: {failure}", "bold red")
        status = failure.exit_status
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):  # None: closed by the shell
            stream.flush()
    except OSError:  # nobody reads it any more
        stop.at_once = True
    if stop.at_once:
        os._exit(status)  # the interpreter would complain of the closed output, or wait for the pool
    return status


if __name__ == "__main__":
    exit_status = main()
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)  # all is said and done
    sys.exit(exit_status)
