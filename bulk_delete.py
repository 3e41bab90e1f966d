#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = ["bigcommerce~=0.23.4", "requests~=2.32", "rich~=15.0"]
# ///
"""Delete many records from one BigCommerce store: shown first, done exactly, proven afterwards.

    store.ini + argv -> Config -> Store -> gather -> Plan (frozen on disk) -> guards, confirm
                     -> delete -> verify -> Summary -> exit status

Exit status: 0 every planned id is proven gone, or a dry run is done, or nothing was selected; 1 a bug;
2 usage or configuration; 3 refused before anything was deleted; 4 finished, and some records are not gone;
5 stopped early, resumable once there is a plan; 130, 143, 129 stopped by SIGINT, SIGTERM, SIGHUP.
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
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until main takes it: no traceback out of an import

try:
    import fcntl
    from datetime import UTC, date, datetime, timedelta

    import requests
    from bigcommerce.connection import OAuthConnection
    from bigcommerce.resources.base import ListableApiResource
    from rich import box
    from rich.console import Console
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text
except ImportError as error:
    needs = "it needs Python 3.11 on Linux, macOS or WSL, and: python -m pip install -r requirements.txt"
    print(f"bulk_delete.py: {error}; {needs}", file=sys.stderr)
    sys.exit(2)

if TYPE_CHECKING:
    from rich.progress import Progress

__version__ = "1.0.0"

T = TypeVar("T")
R = TypeVar("R")
Record = dict[str, Any]
Step = Callable[[int], None]  # told how many records are done

DEFAULT_HOST = "api.bigcommerce.com"
PAGE_LIMIT = 250  # records a page, and ids a read-back: the most the API gives
POLL = 0.1  # seconds: the longest sleep between two looks at the stop flag
REDRAW = 0.1  # seconds: the shortest time between two drawings of a bar

# --- errors -------------------------------------------------------------------------------------------


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


class ReadRefused(Refused):
    """The store refused a GET with a 4xx: exit status 3 before the plan, 5 after it."""


class Unreadable(Refused):
    """An answer of a shape that proves nothing."""


class StoreError(Failure):
    """The store, the network or the disk ends the run early."""


class Interrupted(Failure):
    """A signal ended the run."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.exit_status = 128 + signum


class Stopped(Exception):
    """Raised where nothing more may be sent; the reason is `Stop.failure`."""


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
        """Stop for this reason, unless there was one before; returns the reason that counts."""
        self.failure = self.failure or failure
        return self.failure

    def check(self) -> None:
        """Raise Stopped when nothing more may be sent."""
        if self.failure is not None:
            raise Stopped

    def sleep(self, seconds: float) -> None:
        """Sleep for so many seconds, or raise Stopped within POLL of a stop."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left, POLL))
        self.check()

    def on_signal(self, signum: int, _frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals > 2:  # the main thread has not left at the second: it hangs
            os._exit(128 + signum)
        self.at_once = self._signals > 1
        failure = self.set(Interrupted(signum))
        if self.asking:
            raise failure


# --- resources ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One kind of record, as BigCommerce's own API files describe it.

    delete_by: the filter that a DELETE of the collection takes, only where it is documented that nothing is
    deleted without one; "" deletes by path id, one at a time. read_by: the id filter of the list, "" where
    it has none. filters: those of the list that can be checked on the record, name/type.
    """

    name: str
    path: str  # of the list, below /stores/{hash}/
    scope: str  # the OAuth scope that deleting needs
    delete_by: str = ""
    delete_path: str = ""  # where it is not that of the list
    done: tuple[int, ...] = (204,)  # what a DELETE well done answers
    partly_on_404: bool = False  # then those that the store did know are gone
    read_by: str = "id:in"
    max_batch: int = 10  # ids in one DELETE; where none is documented, 10
    max_concurrent: int = 5
    id_field: str = "id"
    params: Mapping[str, str] = field(default_factory=dict)  # of the listing: sort, sub-resources
    filters: str = ""
    show: tuple[str, ...] = ("name",)  # fields that tell a person which record it is
    email: str = ""  # the field that --keep compares e-mail addresses with
    parent: str = ""  # the field with the record above, which takes it along
    note: str = ""  # what goes along, or forbids it

    @property
    def has_total(self) -> bool:
        """V3 lists say how many there are; V2 lists are paged by min_id to an empty page."""
        return self.path.startswith("v3/")

    @property
    def size(self) -> int:
        """The most ids in one DELETE."""
        return self.max_batch if self.delete_by else 1

    def filter_types(self) -> dict[str, str]:
        return dict(item.split("/") for item in self.filters.split())


_DATES = "date_created/date date_created:min/date date_created:max/date"
_IDS = "id/id id:in/id id:not_in/id id:min/id id:max/id id:greater/id id:less/id"
_CHANGES = "date_modified/date date_modified:min/date date_modified:max/date"
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
            f"name:like/text phone:in/text registration_ip_address:in/text {_DATES} {_CHANGES}",
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
            "condition/text brand_id/int categories:in/int is_visible/bool is_featured/int "
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
            filters="id/id name/text currency_code/text redemption_type/text status/text",
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
            partly_on_404=True,  # "Specified pages that did exist were successfully deleted"
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
            email="to_email",
            note="what is left on them is lost",
        ),
    )
}
ORDERS = Resource(
    name="orders", path="v2/orders", scope="store_v2_orders_read_only", params={"sort": "id:asc"}
)

# --- words --------------------------------------------------------------------------------------------


def clean(text: object, limit: int = 200) -> str:
    """Somebody else's words as one printable line: no control codes, no flood."""
    line = str(text)
    if not line.isprintable():
        line = "".join(c if c.isprintable() else " " for c in line)
    line = " ".join(line.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def nearest(name: str, known: Iterable[str]) -> str:
    """What to say of an unknown name: the nearest known one, or all there are."""
    known = list(known)
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"known are: {', '.join(known)}"


# --- selection: what a record must be to go -------------------------------------------------------------


def positive_id(value: object) -> int | None:
    """A record's id: a positive whole number, and nothing that only looks like one."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value):
        value = int(value)
    return value if type(value) is int and value > 0 else None


def _moment(text: str) -> datetime:
    """A date or date-time of the API, in UTC where it names no zone; raises ValueError."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


_TYPES: dict[str, tuple[Callable[[str], Any], str]] = {
    "id": (positive_id, "a positive whole number"),
    "int": (lambda text: int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else None, "a whole number"),
    "number": (lambda text: float(text) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) else None, "a number"),
    "bool": ({"true": True, "false": False}.get, "true or false"),
    "date": (_moment, "a date, such as 2025-03-31 or 2025-03-31T12:00:00Z"),
    "text": (str.casefold, "text"),
}


_OPERATORS: dict[str, Callable[[Any, Sequence[Any]], bool]] = {
    "": lambda have, values: have in values,
    "in": lambda have, values: have in values,
    "not_in": lambda have, values: have not in values,
    "like": lambda have, values: any(value in have for value in values),
    "min": lambda have, values: have >= values[0],
    "max": lambda have, values: have <= values[0],
    "greater": lambda have, values: have > values[0],
    "less": lambda have, values: have < values[0],
}


@dataclass(frozen=True)
class Filter:
    """A filter of the API, which is checked here on every record, since a store may ignore it."""

    name: str
    text: str
    kind: str
    values: tuple[Any, ...]

    def fits(self, record: Record) -> bool:
        base, _, operator = self.name.partition(":")
        found = record.get(base)
        if base == "name" and "first_name" in record:  # customers.v3.yml: "first_name and last_name"
            found = f"{record.get('first_name')} {record.get('last_name')}"
        fits = _OPERATORS[operator]
        try:
            have = [self._comparable(item) for item in (found if isinstance(found, list) else [found])]
        except (TypeError, ValueError):
            return False
        return found is not None and any(fits(item, self.values) for item in have)

    def _comparable(self, found: Any) -> Any:
        if self.kind == "text":
            return str(found).casefold()
        if self.kind == "bool":
            return bool(found)
        if self.kind != "date":
            return float(found)
        moment = _moment(str(found))
        return moment.date() if type(self.values[0]) is date else moment


def make_filter(name: str, text: str, types: Mapping[str, str]) -> Filter:
    """Raises ValueError for a name that is not among the types, and for a value of another type."""
    if name not in types:
        raise ValueError(f"is no filter that can be checked on the record: {nearest(name, types)}")
    listed = name.endswith((":in", ":not_in", ":like"))
    parts = [item.strip() for item in text.split(",")] if listed else [text.strip()]
    if not all(parts):
        raise ValueError("has an empty value")
    convert, wanted = _TYPES[types[name]]
    values = []
    for part in parts:
        value = None
        with suppress(ValueError):
            value = convert(part)
        if value is None:
            raise ValueError(f"needs {wanted}, not {clean(part)!r}")
        # A date without a time means the whole day, be it for :min, :max or the date itself.
        values.append(value.date() if types[name] == "date" and len(part) == 10 else value)
    return Filter(name, text.strip(), types[name], tuple(values))


_MISSING = object()


def value_at(record: object, path: str) -> object:
    """What stands at a path such as addresses.0.country_code; _MISSING when nothing does."""
    for part in path.split("."):
        if isinstance(record, list) and part.isdecimal() and int(part) < len(record):
            record = record[int(part)]
        elif isinstance(record, dict) and part in record:
            record = record[part]
        else:
            return _MISSING
    return record


@dataclass(frozen=True)
class Match:
    """--match: a regular expression that is to be found in a field of the record."""

    path: str
    pattern: re.Pattern[str]

    def fits(self, record: Record) -> bool:
        value = value_at(record, self.path)
        if value is _MISSING or value is None:
            return False
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return bool(self.pattern.search(text))


class IdSet:
    """Ids seen so far: 8 bytes each while they rise, as in a listing sorted oldest first."""

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
        """Add it; False when it was there."""
        if self._rising and number <= self._rising[-1]:
            if number in self:
                return False
            self._others.add(number)
        else:
            self._rising.append(number)
        return True


@dataclass(frozen=True)
class Entries:
    """What a list file names: ids in its order, and e-mail addresses in lower case."""

    ids: array[int]
    emails: frozenset[str] = frozenset()
    duplicates: int = 0


def read_entries(path: Path, resource: Resource, *, emails: bool) -> Entries:
    """Ids, and e-mail addresses where those are allowed, of a text file or of a CSV with a header.

    Raises ValueError that names the line, or the columns when it is not plain which one to take.
    """
    text = path.read_bytes().decode("utf-8-sig")
    first = text.split("\n", 1)[0]
    reader = csv.reader(io.StringIO(text), delimiter=max(",;\t", key=first.count))
    rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    rows = [(number, row) for number, row in rows if any(row)]
    if not rows:
        raise ValueError("holds nothing")
    number, header = rows[0]
    plain = len(header) == 1 and (positive_id(header[0]) or (emails and "@" in header[0]))
    columns = [0] if plain else _columns(number, header, resource, emails=emails)
    ids, addresses, seen, duplicates = array("q"), set(), IdSet(), 0
    for number, row in rows if plain else rows[1:]:
        if plain and len(row) > 1:
            raise ValueError(f"line {number}: more than one value, and no header says which to take")
        for cell in [row[column] if column < len(row) else "" for column in columns]:
            if identifier := positive_id(cell):
                fresh = seen.add(identifier)
                duplicates += not fresh
                if fresh:
                    ids.append(identifier)
            elif emails and "@" in cell:
                addresses.add(cell.casefold())
            elif cell or len(columns) == 1:
                what = "a positive whole number" + (" or an e-mail address" if emails else "")
                raise ValueError(f"line {number}: {clean(cell)!r} is not {what}")
    if not ids and not addresses:
        raise ValueError("holds nothing below its header")
    return Entries(ids, frozenset(addresses), duplicates)


def _columns(number: int, header: Sequence[str], resource: Resource, *, emails: bool) -> list[int]:
    """Which columns of a CSV to read: that of the id and, where allowed, that of the e-mail address."""
    names = [re.sub(r"[^a-z]", "", name.casefold()) for name in header]
    singular = re.sub(r"ies$", "y", resource.name).replace("_", "").rstrip("s")
    by_id = [place for place, name in enumerate(names) if name in ("id", f"{singular}id")]
    by_email = [place for place, name in enumerate(names) if name in ("email", "emailaddress")]
    by_email = by_email if emails else []
    if len(by_id) > 1 or len(by_email) > 1 or not (by_id or by_email):
        shown = ", ".join(clean(name, 40) for name in header)
        wanted = f"id or {singular} id" + (" or email" if emails else "")
        raise ValueError(f"line {number}: not plain which column is the {wanted}; there are: {shown}")
    return by_id + by_email


# --- configuration ------------------------------------------------------------------------------------


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
        raise ValueError(f"must be a resource ({nearest(text, RESOURCES)})")
    return RESOURCES[text]


def _match(text: str) -> tuple[Match, ...]:
    path, equals, pattern = text.partition("=")
    if not path.strip() or not equals or not pattern:
        raise ValueError("must be FIELD=REGEX")
    try:
        return (Match(path.strip(), re.compile(pattern)),)
    except re.error as error:
        raise ValueError(f"must hold a regular expression ({error})") from error


def _path(text: str) -> Path:
    if not text:
        raise ValueError("must be a path")
    return Path(text)


def _url(text: str) -> str:
    if not re.fullmatch(r"https?://[!-~]+", text):
        raise ValueError("must be an http or https URL")
    return text


@dataclass(frozen=True)
class Option:
    """One setting: a key of [cleanup] and, unless `argv` is False, an option of the same name."""

    name: str
    convert: Callable[[str], Any]
    default: Any
    help: str = ""
    metavar: str = "N"
    argv: bool = True
    selects: bool = False  # part of the selection, which --resume takes from the plan

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")


OPTIONS = (
    Option(
        "resource", _resource, RESOURCES["customers"], "what to delete (customers); list: show all", "NAME",
        selects=True,
    ),
    Option("match", _match, (), "only records whose FIELD holds the REGEX", "FIELD=REGEX", selects=True),
    Option("ids", _path, None, "only the ids that FILE lists", "FILE", selects=True),
    Option("keep", _path, None, "not those whose ids or e-mail addresses FILE lists", "FILE", selects=True),
    Option("spare_with_orders", _boolean, False, "not the customers that have orders", selects=True),
    Option("limit", _whole(1), None, "only the first N: a trial", selects=True),
    Option("max_delete", _whole(0), None, "refuse to delete more than N"),
    Option("dry_run", _boolean, False, "list, write the plan, and delete nothing"),
    Option("runs_dir", _path, Path("runs"), "where the run folders go (runs)", "DIR"),
    Option("no_backup", _boolean, False, "write no backup.jsonl"),
    Option("rate_limit", _whole(1), None, "at most N requests in each of the store's windows"),
    Option("batch_size", _whole(1), None, "ids in one DELETE (the most the resource takes)"),
    Option("max_concurrent", _whole(1, 5), 5, "requests at once, 1 to 5 (5)"),
    Option("verbose", _boolean, False, "show every request as run.log has it"),
    Option("min_requests_remaining", _whole(0), 0, argv=False),
    Option("count_items", _boolean, False, argv=False),
    Option("max_retries", _whole(0, 20), 5, argv=False),
    Option("timeout", _seconds, 60.0, argv=False),
    Option("max_error_rate", _percent, 10.0, argv=False),
    Option("webhook_url", _url, "", argv=False),
)  # fmt: skip
STORE_KEYS = ("store_hash", "access_token", "client_id", "domain")
ARGV_ONLY = ("config", "yes", "resume", "json", "version")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that a run is told; seconds, percent and counts, as the option of the name says."""

    path: Path
    host: str
    store_hash: str
    access_token: str = field(repr=False)
    client_id: str
    domain: str
    resource: Resource
    filters: Mapping[str, Filter]
    match: tuple[Match, ...]
    ids: Entries | None
    keep: Entries | None
    spare_with_orders: bool
    limit: int | None
    max_delete: int | None
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
    webhook_url: str = field(repr=False)
    yes: bool
    json: bool
    resume: Path | None
    selection: Mapping[str, str]  # what was asked for, in the words it was asked for
    typed: Sequence[str]  # options on argv that a resume needs again
    warnings: Sequence[str]

    def for_resource(self, resource: Resource) -> Config:
        """The same for another resource: its batches and its concurrency."""
        return replace(
            self,
            resource=resource,
            batch_size=min(self.batch_size, resource.size),
            max_concurrent=min(self.max_concurrent, resource.max_concurrent),
        )


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
        what = f"[{error.section}] is there twice; join the two"
        raise ConfigError(f"{path}, line {error.lineno}: {what}") from None
    except configparser.DuplicateOptionError as error:
        what = f"{error.option} is there twice in [{error.section}]; keep one"
        raise ConfigError(f"{path}, line {error.lineno}: {what}") from None
    except configparser.MissingSectionHeaderError as error:
        what = "a section must come first; write [store] above it"
        raise ConfigError(f"{path}, line {error.lineno}: {what}") from None
    except configparser.ParsingError as error:
        number = error.errors[0][0] if error.errors else "?"
        raise ConfigError(f"{path}, line {number}: this is neither [section] nor key = value") from None
    return {name: dict(parser.items(name)) for name in parser.sections()}


def check_names(path: Path, ini: Mapping[str, Mapping[str, str]]) -> None:
    """Raise ConfigError for a section or key that nobody reads: a typo may select too much."""
    known = {"store": STORE_KEYS, "cleanup": [option.name for option in OPTIONS], "filters": None}
    for section, keys in ini.items():
        if section not in known:
            raise ConfigError(f"{path}: unknown section [{section}]; {nearest(section, known)}")
        for key in keys:
            if section == "cleanup" and key in ARGV_ONLY:
                raise ConfigError(f"{path}: {key} in [cleanup]: use --{key}, on the command line only")
            names = known[section]
            if names is not None and key not in names:
                raise ConfigError(f"{path}: unknown key {key} in [{section}]; {nearest(key, names)}")
    if "store" not in ini:
        raise ConfigError(f"{path}: the section [store] is missing; see config.example.ini")


def read_store(path: Path, ini: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, Any]:
    """Host, hash, token, client id and domain; raises ConfigError, never quoting the token."""
    given = ini.get("store_hash", "")
    if not given:
        raise ConfigError(
            f"{path}: store_hash in [store] is missing; fill in the hash of the store's API path"
        )
    pasted = re.fullmatch(r"(?:(?:https?://)?[^/]+)?/?stores/([^/]+)(?:/.*)?", given)
    store_hash = pasted[1] if pasted else given
    if not re.fullmatch(r"[A-Za-z0-9]+", store_hash):
        raise ConfigError(
            f"{path}: store_hash in [store] must be letters and digits, or the API path that BigCommerce "
            "shows; copy it from the store's API account"
        )
    token, source = ini.get("access_token", ""), f"{path}: access_token in [store]"
    if not token and (token := environ.get("BIGCOMMERCE_ACCESS_TOKEN", "").strip()):
        source = "BIGCOMMERCE_ACCESS_TOKEN"
    if not token:
        raise ConfigError(
            f"{source} is missing; fill in the token of the store's API account, or set "
            "BIGCOMMERCE_ACCESS_TOKEN"
        )
    client_id = ini.get("client_id", "")
    for name, value in ((source, token), (f"{path}: client_id in [store]", client_id)):
        if not re.fullmatch(r"[!-~]*", value):
            what = "holds a space or a character that is not ASCII; paste it again, alone"
            raise ConfigError(f"{name} {what}")
    host = environ.get("BC_API_ENDPOINT") or DEFAULT_HOST
    if not re.fullmatch(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?", host):
        raise ConfigError(f"BC_API_ENDPOINT must be a host, or host:port, not {clean(host)!r}; correct it")
    domain = re.sub(r"^https?://|/.*$", "", ini.get("domain", "").lower())
    return {
        "host": host,
        "store_hash": store_hash,
        "access_token": token,
        "client_id": client_id,
        "domain": domain,
    }


def read_options(arguments: argparse.Namespace, ini: Mapping[str, str]) -> dict[str, Any]:
    """The value of every option: argv over the ini over the default; raises ConfigError."""
    values: dict[str, Any] = {}
    for option in OPTIONS:
        typed = getattr(arguments, option.name, None)
        name = option.flag if typed is not None else f"{arguments.config}: {option.name} in [cleanup]"
        text = typed if typed is not None else ini.get(option.name)
        if arguments.resume is not None and (option.selects or option.name == "dry_run"):
            if typed is not None and option.selects:
                raise ConfigError(f"{name} selects, but --resume takes the plan's selection: leave it out")
            text = typed
        try:
            if text is None or isinstance(text, bool):
                values[option.name] = option.default if text is None else text
            elif isinstance(text, list):
                values[option.name] = sum((option.convert(item) for item in text), ())
            else:
                values[option.name] = option.convert(text)
        except ValueError as error:
            raise ConfigError(f"{name} {error}, not {clean(text)!r}") from error
    resource, size = values["resource"], values["batch_size"]
    if arguments.resume is None and size is not None and size > resource.max_batch:
        typed = arguments.batch_size is not None
        name = "--batch-size" if typed else f"{arguments.config}: batch_size in [cleanup]"
        limits = f"a whole number from 1 to {resource.max_batch} for {resource.name}"
        raise ConfigError(f"{name} must be {limits}, not {size}")
    values["batch_size"] = size or max(item.size for item in RESOURCES.values())  # the resource lowers it
    return values


def read_filters(
    arguments: argparse.Namespace, ini: Mapping[str, str], resource: Resource
) -> dict[str, Filter]:
    """Filters by name, argv's over the ini's, each checked; raises ConfigError."""
    typed = arguments.filter or []
    if arguments.resume is not None:
        if typed:
            raise ConfigError("--filter selects, but --resume takes the plan's selection: leave it out")
        return {}
    sources = {name: (f"{arguments.config}: {name} in [filters]", value) for name, value in ini.items()}
    given: set[str] = set()
    for text in typed:
        name, equals, value = text.partition("=")
        name = name.strip().lower()
        if not equals:
            raise ConfigError(f"--filter must be NAME=VALUE, not {clean(text)!r}")
        if name in given:
            raise ConfigError(f"--filter {name} is there twice; join the two")
        given.add(name)
        sources[name] = (f"--filter {name}", value)
    filters = {}
    for name, (source, value) in sources.items():
        try:
            filters[name] = make_filter(name, value, resource.filter_types())
        except ValueError as error:
            raise ConfigError(f"{source} {error}") from error
    return filters


def read_lists(values: dict[str, Any]) -> None:
    """Replace the paths of --ids and --keep by what the files list; raises ConfigError."""
    resource: Resource = values["resource"]
    for name in ("ids", "keep"):
        path = values[name]
        if path is None:
            continue
        try:
            emails = name == "keep" and bool(resource.email)
            values[name] = read_entries(path, resource, emails=emails)
        except (OSError, ValueError, csv.Error) as error:
            bad_text = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error
            why = getattr(error, "strerror", None) or bad_text
            raise ConfigError(f"--{name} {path}: {why}; correct the file") from error


def read_config(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Config:
    """Options over the ini over the defaults; raises ConfigError naming file, key or option."""
    path: Path = arguments.config
    ini = read_ini(path)
    check_names(path, ini)
    values = read_options(arguments, ini.get("cleanup", {}))
    resource: Resource = values["resource"]
    filters = read_filters(arguments, ini.get("filters", {}), resource)
    if filters and values["ids"] is not None:
        raise ConfigError("--ids and filters exclude each other: use one, and --match for the rest")
    if values["spare_with_orders"] and resource.name != "customers":
        raise ConfigError(f"--spare-with-orders is for customers, not for {resource.name}: leave it out")
    told = [item for item in OPTIONS if item.selects and values[item.name] != item.default]
    selection = {item.name: clean(_told(values[item.name])) for item in told if item.name != "resource"}
    read_lists(values)
    warnings = []
    if (mode := path.stat().st_mode & 0o777) & 0o077:
        warnings.append(f"{path} can be read by others (mode {mode:04o}): chmod 600 {path}")
    again = ["--json"] if arguments.json else []
    for name in ("rate_limit", "batch_size", "max_concurrent"):
        if (typed := getattr(arguments, name)) is not None:
            again += ["--" + name.replace("_", "-"), typed]
    config = Config(
        path=path,
        filters=filters,
        selection=selection,
        typed=again,
        warnings=warnings,
        yes=arguments.yes,
        json=arguments.json,
        resume=arguments.resume,
        **read_store(path, ini["store"], environ),
        **values,
    )
    return config if arguments.resume else config.for_resource(resource)


def _told(value: object) -> object:
    if isinstance(value, tuple):
        return " and ".join(f"{match.path}={match.pattern.pattern}" for match in value)
    return value


# --- rate limiting ------------------------------------------------------------------------------------
#
# Decides when a request may leave, and nothing else: what its answer means is decided further down. The
# store counts the requests of all its apps in fixed windows, and every answer tells four numbers: the quota
# of a window, how long a window lasts, what was left of it, and when it ends [BigCommerce, API rate limits].
#
# The model: a token is the right to one request (or, with count_items, to one id of it). `Window` mirrors the
# store's current window. Tokens to be had = left - in flight, since the store has not counted yet what is on
# its way. Within a window `left` only falls, so of two answers the lower one is right. An answer was made
# somewhere between the moment its request left and the moment it arrived, so the end of a window is known only
# to lie between two times; what is in flight at that end may be counted in either window, and is counted in
# both. `TokenBucket` is the part that waits: it hands out the window's tokens in order of arrival, spread
# evenly over what is left of the window, or at full speed when the rest of the job fits into it.


@dataclass(frozen=True)
class Quota:
    """What one answer's headers tell of the store's window; None where a header is absent or garbage."""

    quota: int | None = None  # requests a window
    left: int | None = None  # requests that were left of it
    reset: float | None = None  # seconds to the end of the window, when the answer was made
    window: float | None = None  # seconds that a window lasts


def read_quota(headers: Mapping[str, str]) -> Quota:
    """Read the four X-Rate-Limit headers [BigCommerce, API rate limits], each on its own."""

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
        if told.window is not None and told.window != self.seconds:
            self.seconds, self.end_known = told.window, False
        first = not self.end_known
        if now - sent_at > self.seconds / 3:  # too slow to tell in which window it was counted
            self.counted_in_either += cost
            told = replace(told, left=None)
        elif told.reset is not None and not self._place_end(now, sent_at, told.reset, cost):
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
        # 429s since the last answer that was none.
        self.refusals_in_a_row = 0
        self._clock = clock
        self._sleep = sleep
        # Guards the window, the queue and the pause.
        self._lock = threading.Lock()
        # One object for each request that waits, first come first served.
        self._queue: deque[object] = deque()
        # A 429 told everybody to wait until then.
        self._paused_until = -math.inf
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

    def pause(self, seconds: float) -> int:
        """Let nobody send for so many seconds after a 429, and then one at a time until one succeeds.

        Returns how many 429s there were in a row.
        """
        with self._lock:
            self.refusals_in_a_row += 1
            self._paused_until = max(self._paused_until, self._clock() + seconds)
            return self.refusals_in_a_row

    def succeeded(self) -> None:
        """Take note of an answer that was no 429."""
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
        if paused >= 1:
            return f"the store says wait: {paused:.0f} s"
        if tokens < 1 and 1 <= ends < math.inf:
            return f"quota used, next in {ends:.0f} s"
        return ""


# --- retries -----------------------------------------------------------------------------------

PATIENCE = 600.0  # seconds: a store that says wait longer has better things to do
REFUSALS = 10  # 429s in a row that end the run: more is abuse [BigCommerce, integration design]


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that an answer says to wait: the longest of its headers, 0 when none is sound.

    X-Rate-Limit-Time-Reset-Ms and X-Retry-After are BigCommerce's, Retry-After is HTTP's; a date
    counts from the answer's own Date, never from this machine's clock.
    """
    waits = [0.0]
    for name, unit in (("X-Rate-Limit-Time-Reset-Ms", 0.001), ("X-Retry-After", 1.0), ("Retry-After", 1.0)):
        text = headers.get(name, "").strip()
        if re.fullmatch(r"[0-9]{1,40}(\.[0-9]{1,40})?", text):
            waits.append(float(text) * unit)
        else:
            with suppress(ValueError, TypeError):
                dates = map(email.utils.parsedate_to_datetime, (text, headers.get("Date", "")))
                until, since = (date if date.tzinfo else date.replace(tzinfo=UTC) for date in dates)
                waits.append((until - since).total_seconds())
    return max(waits)


def retry_delay(attempt: int, status: int, headers: Mapping[str, str], jitter: float) -> float | None:
    """Seconds before the next attempt, or None when there is to be none.

    attempt: how many were made before this one; status: 0 when no answer came; jitter: a random
    number from 1/2 to 1. A 429 is told how long to wait; everything else backs off.
    """
    backoff = min(30.0, 2.0 ** min(attempt, 5)) * jitter
    told = retry_after(headers)
    if status == 429:
        return None if told > PATIENCE else told or backoff
    return backoff if retriable(status) else None


def retriable(status: int) -> bool:
    """Whether the same request may succeed a little later."""
    return status in (0, 408) or (500 <= status <= 599 and status not in (501, 505))


# --- answers (pure) -----------------------------------------------------------------------------------


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
    def words(self) -> str:
        """Status and the store's own words, or what is known in their place."""
        if self.status == 0:
            return self.problem
        return f"{self.status} {'; '.join(dict.fromkeys(_messages(self.json)))}".strip()


def _messages(said: object) -> Iterator[str]:
    """What an error says, from the outside in: V3's title and errors, V2's list of messages."""
    if isinstance(said, dict):
        yield from _messages(said.get("title") or said.get("message") or said.get("detail"))
    inner = said.get("errors") if isinstance(said, dict) else said
    if isinstance(inner, (dict, list)):
        for item in inner.values() if isinstance(inner, dict) else inner:
            yield from _messages(item)
    elif isinstance(said, str) and clean(said):
        yield clean(said)


def _message(item: object) -> str:
    if isinstance(item, dict):
        item = item.get("message") or item.get("title") or json.dumps(item)
    return clean(item)


def may_have_acted(answer: Answer) -> bool:
    """Whether the store may have deleted what a DELETE with this answer named."""
    return answer.status == 408 or not 300 <= answer.status <= 499


def judge(method: str, answer: Answer, done: Sequence[int] = (204,)) -> Verdict:
    """What an answer to a GET or a DELETE means; `done`: the statuses of a DELETE well done."""
    status = answer.status
    if status == 429:
        return Verdict.THROTTLED
    if retriable(status):
        return Verdict.RETRY
    if status == 200 and not isinstance(answer.json, (dict, list)):
        cut_off = answer.body.lstrip()[:1] in (b"{", b"[")
        return Verdict.RETRY if cut_off else Verdict.FATAL
    if method == "GET":
        if status in (200, 204):
            return Verdict.DONE
        return Verdict.REFUSED if 400 <= status <= 499 and status not in (401, 403) else Verdict.FATAL
    if status in (200, 207, 422) and (items := item_results(answer)):
        return Verdict.THROTTLED if all(item.throttled for item in items.values()) else Verdict.DONE
    if status in (*done, 200, 207):
        return Verdict.DONE
    return Verdict.REFUSED if status in (400, 404, 409, 413, 422, 423) else Verdict.FATAL


@dataclass(frozen=True)
class Item:
    """What an answer says of one of its ids."""

    status: int
    message: str = ""

    @property
    def throttled(self) -> bool:
        return self.status == 429 or "TOO_MANY_REQUEST" in self.message.upper()

    @property
    def failed(self) -> bool:
        return not self.throttled and not 200 <= self.status <= 299


_ID_IN_WORDS = re.compile(r".*?\bid=(\d{1,18})\b.*", re.DOTALL)  # promotions.v3.yml: "Failed for id=…"


def item_results(answer: Answer) -> dict[int, Item] | None:
    """What an answer says of each id, None when it has no shape that is known.

    Known: `errors: [{id, status, message}]` and `data: [{id, status}]` or `data: [id]`; `errors: {id:
    message}` with a `meta`, also inside a list; `failed_rows_data`, whose strings hold `[id]`.
    """
    body = answer.json
    if not isinstance(body, dict):
        return None
    said: list[tuple[object, object, int]] = []
    for entry in body["data"] if isinstance(body.get("data"), list) else ():
        said.append((entry.get("id"), entry, 200) if isinstance(entry, dict) else (entry, "", 200))
    errors = body.get("errors")
    if isinstance(errors, dict) and (answer.status != 422 or isinstance(body.get("meta"), dict)):
        said += [(key, text, 422) for key, text in errors.items()]
    for entry in errors if isinstance(errors, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("errors"), dict):
            said += [(key, text, 422) for key, text in entry["errors"].items()]
        elif isinstance(entry, dict):
            said.append((entry.get("id"), entry, 422))
    for row in body["failed_rows_data"] if isinstance(body.get("failed_rows_data"), list) else ():
        said += [(found, row, 422) for found in re.findall(r"\[(\d{1,18})\]", str(row))]
    items = {}
    for key, entry, status in said:
        if number := positive_id(key) or positive_id(_ID_IN_WORDS.sub(r"\1", str(entry))):
            given = entry.get("status") if isinstance(entry, dict) else None
            message = "" if isinstance(entry, dict) and status == 200 and "message" not in entry else entry
            items[number] = Item(given if type(given) is int else status, _message(message))
    return items or None


@dataclass(frozen=True)
class Batch:
    """Ids to delete with one request; `half`: a part of a batch that did not go as a whole."""

    ids: tuple[int, ...]
    half: bool = False


def batches(ids: Iterable[int], size: int) -> Iterator[Batch]:
    """The ids in batches of that size, as they are asked for."""
    iterator = iter(ids)
    while chunk := tuple(itertools.islice(iterator, size)):
        yield Batch(chunk)


def halves(batch: Batch) -> tuple[Batch, ...]:
    """A batch that did not go as a whole, in two."""
    middle = (len(batch.ids) + 1) // 2
    return tuple(Batch(ids, half=True) for ids in (batch.ids[:middle], batch.ids[middle:]) if ids)


@dataclass(frozen=True, kw_only=True)
class BatchResult:
    """What became of a batch. Each of its ids is in one of sent, failed, missing, again, unsent."""

    batch: Batch
    answer: str = ""  # for the journal
    sent: tuple[int, ...] = ()  # the store may have deleted them: reading back decides
    failed: Mapping[int, str] = field(default_factory=dict)  # id -> the store's words
    missing: tuple[int, ...] = ()  # a single id that the store does not know
    again: tuple[Batch, ...] = ()
    unsent: tuple[int, ...] = ()  # nothing left that can have acted
    acted: tuple[int, ...] = ()  # those that some attempt may have deleted, whatever came last
    exhausted: bool = False  # no attempt got an answer that settles it


def batch_result(batch: Batch, trace: Sequence[Answer], said: str, resource: Resource) -> BatchResult:
    """What the answers to the attempts at a batch, the last of which settles it, mean for its ids."""
    answer, ids = trace[-1], batch.ids
    verdict = judge("DELETE", answer, resource.done)
    partly = resource.partly_on_404 and answer.status == 404 and len(ids) > 1
    acted = ids if any(map(may_have_acted, trace[:-1])) or verdict is Verdict.RETRY or partly else ()
    result = BatchResult(batch=batch, answer=said, acted=acted, exhausted=verdict is Verdict.RETRY)
    if verdict is Verdict.DONE:
        items = item_results(answer) or {} if answer.status not in resource.done else {}
        again = tuple(number for number in ids if number in items and items[number].throttled)
        failed = {
            number: clean(f"{items[number].status} {items[number].message}")
            for number in ids
            if number in items and items[number].failed
        }
        sent = tuple(number for number in ids if number not in failed and number not in again)
        waiting = (Batch(again, half=True),) if again else ()
        return replace(result, sent=sent, failed=failed, again=waiting, acted=acted or sent)
    if len(ids) > 1:
        return replace(result, again=halves(batch))
    if answer.status == 404:
        return replace(result, missing=ids)
    return replace(result, failed={ids[0]: said})


def delete_target(resource: Resource, ids: Sequence[int]) -> tuple[str, dict[str, str]]:
    """Path and query of the DELETE of exactly these ids; raises ValueError rather than name more.

    The SDK's own `delete()` sends an unfiltered DELETE for an id of None or 0, so it is never called.
    """
    if not 0 < len(ids) <= resource.size:
        raise ValueError(f"{len(ids)} ids do not make one DELETE of {resource.name}")
    if any(type(number) is not int or number <= 0 for number in ids):
        raise ValueError("an id is not a positive whole number")
    path = resource.delete_path or resource.path
    if resource.delete_by:
        return path, {resource.delete_by: ",".join(map(str, ids))}
    return f"{path}/{ids[0]}", {}


# --- store --------------------------------------------------------------------------------------------


class _Listing(ListableApiResource):  # type: ignore[misc]  # the SDK has no types
    """The SDK's listing, with V3's envelope taken off and its records left plain dicts.

    The SDK does not unwrap {"data": …}, and its own objects cost 100 ms a page.
    """

    @classmethod
    def _make_request(cls, method: str, url: str, connection: Connection, *args: Any, **kwargs: Any) -> Any:
        answer = connection.make_request(method, url, *args, **kwargs)
        connection.store.check_read(url, answer)
        body = answer.json
        connection.pagination = value_at(body, "meta.pagination")
        bare = [] if answer.status == 204 else body  # V2: no envelope, and an empty page is a 204
        records = value_at(body, "data") if url.startswith("v3/") else bare
        if not isinstance(records, list):
            raise Unreadable(f"the store's answer for {url.split('/', 1)[1]} holds no list of records")
        return records

    @classmethod
    def _create_object(cls, response: Any, connection: Any = None) -> Any:
        return response


class Connection(OAuthConnection):  # type: ignore[misc]  # the SDK has no types
    """The SDK's connection, one a thread; `make_request` is what every request goes through."""

    def __init__(self, store: Store) -> None:
        config = store.config
        path = "/stores/{}/{}"  # version and resource are the caller's
        super().__init__(config.client_id, config.store_hash, config.access_token, config.host, path)
        if not config.client_id:
            del self._session.headers["X-Auth-Client"]
        self.timeout = config.timeout
        self._session.max_redirects = 0  # else a DELETE and its token go on to another host
        self._session.auth = lambda request: request  # else ~/.netrc adds a password
        # Proxies and certificates are the environment's; read once, since that costs more than a request.
        settings = self._session.merge_environment_settings(self.full_path(""), {}, None, None, None)
        self._session.proxies, self._session.verify = settings["proxies"], settings["verify"]
        self._session.trust_env = False
        self.store = store
        self.pagination: object = None  # of the last listing

    def make_request(
        self,
        method: str,
        url: str,
        data: object = None,
        params: Mapping[str, Any] | None = None,
        headers: object = None,
        *,
        cost: int = 1,
        before: Callable[[], None] = lambda: None,
        trace: list[Answer] | None = None,
        tolerate: Sequence[int] = (),
    ) -> Answer:
        """Send until the answer settles it: DONE or REFUSED, or RETRY when all attempts are used.

        cost: tokens an attempt; before: called right before each leaves; trace: takes the answer to each;
        tolerate: statuses that are no failure. Raises Stopped when nothing more may be sent, be it by this
        answer, and TooCostly as the bucket does.
        """
        store, attempt = self.store, 0
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
            store.stop.sleep(delay)
            store.count("retries")

    def _attempt(
        self, method: str, url: str, params: Mapping[str, Any] | None, cost: int, before: Callable[[], None]
    ) -> Answer:
        store = self.store
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

    def _exchange(self, method: str, url: str, params: Mapping[str, Any] | None) -> Answer:
        stop, host = self.store.stop, self.store.config.host
        try:
            # Encoded here: the SDK's %2C for each comma is parsed again in four places.
            query = "?" + urlencode(params, safe=":,") if params else ""
            response = self._run_method(method, url + query)
        except requests.TooManyRedirects as error:
            response = error.response
        except requests.Timeout:
            return Answer(0, problem=f"no answer within {self.timeout:g} s")
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidProxyURL) as error:
            stop.set(ConfigError(f"{clean(error)}: check BC_API_ENDPOINT and HTTPS_PROXY"))
            raise Stopped from error
        except requests.RequestException as error:
            if "CERTIFICATE_VERIFY_FAILED" not in str(error):
                return Answer(0, problem=network_words(error))
            stop.set(StoreError(f"the certificate of {host} is not trusted: {network_words(error)}"))
            raise Stopped from error
        except OSError as error:  # no such file of certificates
            stop.set(ConfigError(f"{clean(error)}: check REQUESTS_CA_BUNDLE"))
            raise Stopped from error
        except UnicodeError as error:  # a redirect to where requests cannot even decode
            return Answer(302, problem=clean(error))
        return Answer(response.status_code, response.headers, response.content)


def network_words(error: BaseException) -> str:
    """The innermost reason of a network error: the outer ones repeat the URL."""
    for _ in range(6):
        reason = getattr(error, "reason", None)
        inner = [item for item in (reason, *error.args) if isinstance(item, BaseException)]
        if not inner:
            break
        error = inner[0]
    return clean(re.sub(r"^<[^>]*>: |^HTTPS?Connection\([^)]*\): ", "", str(error))) or "no answer"


@dataclass(frozen=True)
class Page:
    """One page of a V3 listing: its records, and how many the store promises in all."""

    records: list[Record]
    total: int
    pages: int


class Store:
    """One store, seen through a pool of workers that share a token bucket and a stop flag."""

    def __init__(self, config: Config, stop: Stop, log: logging.Logger) -> None:
        self.config = config
        self.resource = config.resource
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
        self, method: str, url: str, params: Mapping[str, Any] | None, answer: Answer, took: float
    ) -> None:
        """Count and log a request; the token is in a header, so in none of it."""
        with self._lock:
            self.counts["requests"] += 1
            self.busy_seconds += took
        told = read_quota(answer.headers)
        query = "&".join(f"{key}={value}" for key, value in (params or {}).items())
        target = f"/stores/{self.config.store_hash}/{url}{'?' if query else ''}{query}"
        words = "" if answer.status in (200, 202, 204) else f": {self.words(answer)}"
        left = f"quota left {'?' if told.left is None else told.left}"
        self._log.info(
            f"{utc_now()} {method} {clean(target, 4000)} {answer.status} {took * 1000:.0f} ms {left}{words}"
        )

    def throttled(self, answer: Answer) -> None:
        """Told to wait: pause everybody, or stop when the store means it."""
        self.count("rate_limited")
        delay = retry_delay(self.bucket.refusals_in_a_row, 429, answer.headers, self.jitter())
        if delay is None:
            minutes = retry_after(answer.headers) / 60
            self.stop.set(StoreError(f"the store says to wait {minutes:.0f} minutes: resume then"))
        if self.bucket.pause(delay or 0.0) >= REFUSALS:
            what = f"the store answered 429 (too many requests) {REFUSALS} times in a row"
            self.stop.set(StoreError(f"{what}: resume when its other apps are quieter"))

    def words(self, answer: Answer) -> str:
        return self.without_token(answer.words)

    def without_token(self, text: str) -> str:
        """What the store said; should it repeat the token, that is cut out."""
        return text.replace(self.config.access_token, "[token]")

    def explain(self, method: str, url: str, answer: Answer) -> str:
        """One sentence on an answer that ends the run, and what to do."""
        config, status = self.config, answer.status
        scope = ORDERS.scope if url == ORDERS.path else f"{self.resource.scope} (modify)"
        what = f"{'delete' if method == 'DELETE' else 'read'} {url.split('/', 1)[1]}"
        if status == 401:
            where = f"access_token and store_hash in {config.path}, or BIGCOMMERCE_ACCESS_TOKEN"
            return f"the store refused the access token (401): check {where}"
        if status == 403:
            return f"the token may not {what} (403): give its API account the OAuth scope {scope}"
        if 300 <= status <= 399:
            check = "check store_hash, and BC_API_ENDPOINT if it is set"
            return f"{config.host} answered with a redirect ({status}), which is never followed: {check}"
        if status == 404:
            return f"the store cannot {what} ({self.words(answer)}): check store_hash in {config.path}"
        if status == 200:
            return f"{config.host} answered with something that is not JSON: check that it is the API"
        if 400 <= status <= 499:
            return f"the store refused to {what} ({self.words(answer)}): correct what it names"
        return f"the store cannot {what} ({self.words(answer)}): ask BigCommerce's support"

    def info(self) -> Record | None:
        """GET /v2/store: name, domain and plan, None where the token may not read it."""
        answer = self.connection().make_request("GET", "v2/store", tolerate=(403,))
        if answer.status != 403:
            self.check_read("v2/store", answer)
        return answer.json if answer.status == 200 and isinstance(answer.json, dict) else None

    def check_read(self, url: str, answer: Answer) -> None:
        """Raise ReadRefused or StoreError when a GET was not answered with what it asked for."""
        verdict = judge("GET", answer)
        if verdict is Verdict.REFUSED:
            raise ReadRefused(self.explain("GET", url, answer))
        if verdict is Verdict.RETRY:
            raise StoreError(f"the store does not answer ({self.words(answer)}): try again once it does")

    def id_of(self, record: Record) -> int:
        number: int = record[self.resource.id_field]
        return number

    def page(self, number: int, **params: Any) -> Page:
        """One page of a V3 listing, oldest first; raises Unreadable for an answer of another shape."""
        records = self._read(self.resource, {"page": number, **self.resource.params, **params})
        total, per_page = self._promised()
        return Page(records, total, max(1, math.ceil(total / per_page)))

    def page_from(self, least: int, resource: Resource, **params: Any) -> list[Record]:
        """The page of a V2 listing that begins with this id: it moves for nobody; [] ends it."""
        records = self._read(resource, {"page": 1, "min_id": least, **resource.params, **params})
        ids = [record[resource.id_field] for record in records]
        if any(later <= earlier for earlier, later in itertools.pairwise([least - 1, *ids])):
            raise Unreadable(f"the store does not list {resource.name} by id, so records may be missed")
        return records

    def present(self, ids: Sequence[int], **params: Any) -> list[Record] | None:
        """Those of at most 250 ids that are there; None when the answer cannot be trusted."""
        wanted = {self.resource.read_by: ",".join(map(str, ids)), "page": 1, **params}
        try:
            records = self._read(self.resource, wanted)
            total, _ = self._promised()
        except Unreadable:
            return None
        found = set(map(self.id_of, records))
        return records if len(records) == len(found) == total and found <= set(ids) else None

    def _read(self, resource: Resource, params: Mapping[str, Any]) -> list[Record]:
        listing: Any = type(resource.name, (_Listing,), {"resource_name": resource.path})
        records = list(listing.iterall(connection=self.connection(), **{"limit": PAGE_LIMIT, **params}))
        for record in records:
            number = record.get(resource.id_field) if isinstance(record, dict) else None
            if type(number) is not int or not 0 < number < 2**63:
                what = f"without an id that is a positive whole number ({clean(number)!r})"
                raise Unreadable(f"the store listed one of its {resource.name} {what}")
        return records

    def _promised(self) -> tuple[int, int]:
        """Total and records a page, as the last listing's meta says; raises Unreadable without."""
        pagination = self.connection().pagination
        values: Record = pagination if isinstance(pagination, dict) else {}
        total, per_page = values.get("total"), values.get("per_page")
        if type(total) is not int or total < 0:
            raise Unreadable(
                f"the store's listing of {self.resource.name} does not say how many there are "
                "(meta.pagination.total), so it cannot be trusted to be complete"
            )
        return total, per_page if type(per_page) is int and 0 < per_page <= PAGE_LIMIT else PAGE_LIMIT

    def delete_batch(self, batch: Batch, before: Callable[[Batch], None]) -> BatchResult:
        """DELETE the batch; `before` is called with it once, before the first attempt leaves."""
        path, params = delete_target(self.resource, batch.ids)
        trace: list[Answer] = []
        noted: list[Batch] = []

        def note() -> None:
            if not noted:
                before(batch)
                noted.append(batch)

        cost = len(batch.ids) if self.config.count_items else 1
        try:
            connection = self.connection()
            answer = connection.make_request(
                "DELETE", path, params=params, cost=cost, before=note, trace=trace
            )
        except (TooCostly, Stopped, Failure) as error:
            acted = batch.ids if any(map(may_have_acted, trace)) else ()
            said = self.words(trace[-1]) if trace else ""
            result = BatchResult(batch=batch, answer=said, acted=acted)
            if isinstance(error, TooCostly) and (size := min(self.bucket.largest(), len(batch.ids) - 1)) > 0:
                parts = (replace(part, half=batch.half) for part in batches(batch.ids, size))
                return replace(result, again=tuple(parts))
            if isinstance(error, TooCostly):
                self.stop.set(self.too_costly())
            elif isinstance(error, Failure):  # the journal could not take the note
                self.stop.set(error)
            return replace(result, sent=acted, unsent=() if acted else batch.ids)
        result = batch_result(batch, trace, self.words(answer), self.resource)
        reasons = {number: self.without_token(reason) for number, reason in result.failed.items()}
        result = replace(result, failed=reasons)
        if result.again and (result.sent or result.failed):  # some of its ids were told to wait
            self.throttled(answer)
        return result

    def too_costly(self) -> ConfigError:
        config = self.config
        what = f"leaves nothing of the store's quota of {self.bucket.window.quota}: lower it"
        return ConfigError(
            f"min_requests_remaining ({config.min_requests_remaining}) in {config.path} {what}"
        )

    # What the main thread calls.

    def call(self, function: Callable[..., R], *args: Any, **kwargs: Any) -> R:
        """Have a worker do it, and wait for it."""
        future = self.pool.submit(function, *args, **kwargs)
        self.await_any([future])
        return self._result(future)

    def in_order(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """The function of each item, done by the workers, few ahead, in the order of the items."""
        pending: deque[Future[R]] = deque()
        try:
            for item in items:
                pending.append(self.pool.submit(function, item))
                if len(pending) > self.config.max_concurrent:
                    self.await_any([pending[0]])
                    yield self._result(pending.popleft())
            while pending:
                self.await_any([pending[0]])
                yield self._result(pending.popleft())
        finally:
            for future in pending:
                future.cancel()
            while pending and not self.stop.at_once:
                with suppress(Stopped):
                    self.await_any([pending.popleft()])

    def _result(self, future: Future[R]) -> R:
        try:
            return future.result()
        except TooCostly as error:
            raise self.too_costly() from error

    def await_any(self, pending: Iterable[Future[R]]) -> set[Future[R]]:
        """Those of them that are done, at least one; raises Stopped to leave at once."""
        while True:
            self.on_wait()
            done, _ = wait(pending, timeout=POLL, return_when=FIRST_COMPLETED)
            if done:
                return done
            if self.stop.at_once:
                raise Stopped

    def nap(self, seconds: float) -> None:
        """Let so many seconds pass; raises Stopped when nothing more may be sent."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.on_wait()
            self.stop.sleep(min(left, POLL))

    def close(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)


def post_event(url: str, event: str, summary: Mapping[str, Any]) -> str:
    """POST {"event", "summary"} to webhook_url; returns why that failed, "" when it did not."""
    try:
        with requests.Session() as session:
            session.auth = lambda request: request  # else ~/.netrc adds a password
            body = {"event": event, "summary": summary}
            # stream: its body is not waited for, which may come for ever
            response = session.post(url, json=body, timeout=5, allow_redirects=False, stream=True)
    except (OSError, ValueError) as error:
        return network_words(error)
    return "" if response.ok and not response.is_redirect else f"it answered {response.status_code}"


# --- gather -------------------------------------------------------------------------------------------

LISTINGS = 4  # how often a listing is tried: once, and three times more when it changes


class Listing:
    """The pages of a listing, complete and each record once, or ListingChanged at their end.

    A record that goes while V3's pages are read pulls one over each later page's edge, past the reader. So
    the last page is read right after the first, both are read again at the end, and neither may have moved;
    what was added meanwhile stands behind the total, and is left out. V2's pages go by id, which never moves.
    """

    def __init__(self, store: Store, begin: Step, *, filtered: bool = True) -> None:
        self._store, self._begin = store, begin
        told = store.config.filters if filtered else {}
        self._filters = {name: item.text for name, item in told.items()}
        self.duplicates = self.total = 0

    def __iter__(self) -> Iterator[list[Record]]:
        seen, store = IdSet(), self._store
        self.duplicates = self.total = 0
        v2 = by_id(store, store.resource, 1, **self._filters)
        for page in self._numbered() if store.resource.has_total else v2:
            fresh = [record for record in page if seen.add(store.id_of(record))]
            self.duplicates += len(page) - len(fresh)
            yield fresh
        if store.resource.has_total and len(seen) != self.total:
            raise ListingChanged(f"the store promised {self.total} records and listed {len(seen)}")

    def _page(self, number: int) -> Page:
        return self._store.page(number, **self._filters)

    def _numbered(self) -> Iterator[list[Record]]:
        store = self._store
        first = store.call(self._page, 1)
        total, pages, size = first.total, first.pages, len(first.records)
        self.total = total
        self._begin(total)
        edges = [list(map(store.id_of, first.records))]
        yield first.records
        del first  # a page is memory
        if pages == 1:
            return
        last = store.call(self._page, pages).records[: total - (pages - 1) * size]
        edges.append(list(map(store.id_of, last)))
        for page in store.in_order(self._page, range(2, pages)):
            if page.total < total or not page.records:
                raise ListingChanged("records went while the pages were read")
            yield page.records
        yield last
        for ids, page in zip(edges, store.in_order(self._page, (1, pages)), strict=True):
            if ids != list(map(store.id_of, page.records[: len(ids)])):
                raise ListingChanged("records moved while the pages were read")


def by_id(store: Store, resource: Resource, least: int = 1, **params: str) -> Iterator[list[Record]]:
    """The pages of a V2 listing from this id on: each begins behind the last id of the one before."""
    while records := store.call(store.page_from, least, resource, **params):
        yield records
        least = records[-1][resource.id_field] + 1


@dataclass
class Sample:
    """What a person is shown of a selection, without holding all of it."""

    count: int = 0
    first_created: str = ""
    last_created: str = ""
    records: list[Record] = field(default_factory=list)  # five of them, drawn evenly
    _random: random.Random = field(default_factory=lambda: random.Random(5))

    def add(self, record: Record) -> None:
        created = str(record.get("date_created", ""))
        if created[4:5] == "-":  # V2's RFC 2822 dates do not sort
            self.first_created = min(self.first_created or created, created)
            self.last_created = max(self.last_created, created)
        self.count += 1
        if len(self.records) < 5:
            self.records.append(record)
        elif (place := int(self._random.random() * self.count)) < 5:  # randrange is slow
            self.records[place] = record


def cut_off(record: Record) -> dict[str, int]:
    """Sub-resources that the API lists in part only (ten of them), and how many there are."""
    counts = {"addresses": record.get("address_count"), "attributes": record.get("attribute_count")}
    return {
        name: count
        for name, count in counts.items()
        if type(count) is int and isinstance(record.get(name), list) and count > len(record[name])
    }


class Selection:
    """Decides record by record what goes: filters or ids, match, keep, orders, limit, in that order."""

    def __init__(self, config: Config, orders: Orders) -> None:
        self.ids = array("q")
        self.spared = 0
        self.cut = 0  # records that the backup cannot hold whole
        self.sample = Sample()
        self._config = config
        self._wanted = None if config.ids is None else IdSet(sorted(config.ids.ids))
        self._keep = IdSet(sorted(config.keep.ids)) if config.keep else IdSet()
        self._orders = orders
        self.listed = 0
        self._kept = self._eligible = 0
        self.parents: dict[int, int] = {}  # of what was listed, where a parent takes its children along
        self._fields: set[str] = set()
        self._unseen = {match.path for match in config.match}

    @property
    def full(self) -> bool:
        return self._config.limit is not None and len(self.ids) >= self._config.limit

    @property
    def decided(self) -> bool:
        """Whether no further record matters: full, and --keep is known to be the right file."""
        return self.full and bool(self._kept or not self._config.keep)

    def take(self, records: Iterable[Record]) -> Iterator[Record]:
        """Take what goes, and yield it for the backup; raises Refused for what the store should not list."""
        for record in records:
            if self.decided:
                return
            if self._fits(record) and not self.full:
                self.ids.append(record[self._config.resource.id_field])
                self.sample.add(record)
                cut = cut_off(record)
                self.cut += bool(cut)
                yield record | {"backup_cut": cut} if cut else record

    def _fits(self, record: Record) -> bool:
        config, number = self._config, record[self._config.resource.id_field]
        if config.resource.parent:
            self.parents[number] = positive_id(record.get(config.resource.parent)) or 0
        for told in config.filters.values():
            if not told.fits(record):
                what = f"it listed {config.resource.name} {number}, which is none of them"
                raise Refused(f"the store ignored the filter {told.name}={clean(told.text, 80)}: {what}")
        if self._wanted is not None and number not in self._wanted:
            return False
        self.listed += 1
        if self._unseen:
            self._unseen = {path for path in self._unseen if value_at(record, path) is _MISSING}
            self._fields.update(record)
        if not all(match.fits(record) for match in config.match):
            return False
        self._eligible += 1
        kept = number in self._keep
        if config.keep and config.keep.emails:
            kept = kept or str(record.get(config.resource.email, "")).strip().casefold() in config.keep.emails
        self._kept += kept
        if kept or number in self._orders.customers:
            self.spared += 1
            return False
        return True

    def spare(self, customers: set[int]) -> None:
        """Take these out again."""
        before = len(self.ids)
        self.ids = array("q", (number for number in self.ids if number not in customers))
        self.spared += before - len(self.ids)

    def check(self) -> None:
        """Raise Refused when --match or --keep cannot have been meant like this."""
        if self._unseen and self.listed:
            there = ", ".join(sorted(self._fields))
            path = ", ".join(sorted(self._unseen))
            raise Refused(f"--match {path}: no listed record has this field; there are: {there}")
        if self._config.keep and self._eligible and not self._kept:
            raise Refused("--keep: nothing that it lists is among the selected; is it the right file?")


def listed_pages(store: Store, listing: Listing, begin: Step) -> Iterator[list[Record]]:
    """The records to select from: the whole listing, or those that --ids names."""
    asked = store.config.ids
    if asked is None or not store.resource.read_by:
        yield from listing
        return
    begin(len(asked.ids))
    chunks = [asked.ids[start : start + PAGE_LIMIT] for start in range(0, len(asked.ids), PAGE_LIMIT)]
    params = {key: value for key, value in store.resource.params.items() if key == "include"}
    for records in store.in_order(lambda chunk: store.present(chunk, **params), chunks):
        if records is None:
            what = f"the store ignored the filter {store.resource.read_by}, or answered in part"
            raise Refused(f"{what}: it cannot be told which of the ids there are")
        yield records


def deepest_first(ids: Sequence[int], parents: Mapping[int, int]) -> tuple[array[int], int]:
    """Ids with children before their parents, and how many others a parent may take along.

    parents: of each listed record, its parent's id, or 0.
    """

    def above(number: int) -> list[int]:
        line: list[int] = []
        while (number := parents.get(number, 0)) and number not in line:
            line.append(number)
        return line

    planned = set(ids)
    along = sum(number not in planned and not planned.isdisjoint(above(number)) for number in parents)
    return array("q", sorted(ids, key=lambda number: -len(above(number)))), along


class Orders:
    """The customers that any order names; `read` again takes those that came in meanwhile."""

    def __init__(self) -> None:
        self.customers: set[int] = set()
        self._least = 1

    def read(self, store: Store, step: Step) -> None:
        """Read on to the last order; raises Unreadable for one that does not say whose it is."""
        for records in by_id(store, ORDERS, self._least):
            for record in records:
                if type(record.get("customer_id")) is not int:
                    raise Unreadable(f"order {record['id']} does not say whose it is (customer_id)")
                self.customers.add(record["customer_id"])
            self._least = records[-1]["id"] + 1
            step(len(records))


def select(
    store: Store, listing: Listing, orders: Orders, backup: Backup, begin: Step, step: Step
) -> Selection:
    """List once, streaming what goes to the backup; raises ListingChanged for holes, and Refused."""
    chosen = Selection(store.config, orders)
    for records in listed_pages(store, listing, begin):
        backup.write(chosen.take(records))
        step(len(records))
        if chosen.decided:
            break
    chosen.check()
    return chosen


# --- plan (pure) --------------------------------------------------------------------------------------

PLAN_VERSION = 1


@dataclass(frozen=True)
class Plan:
    """What will be deleted, frozen: from here on nothing is selected any more."""

    host: str
    store_hash: str
    resource: str
    filters: Mapping[str, str]
    selection: Mapping[str, str]  # the other options that selected, for the reader
    created_at: str  # UTC, ISO 8601
    duplicates: int
    not_found: int
    spared: int
    ids: array[int]

    def head(self) -> dict[str, Any]:
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values["selected"] = len(values.pop("ids"))
        return {"version": PLAN_VERSION, **values}

    def pieces(self, between: str) -> Iterator[str]:
        """The ids as text, in pieces: a million of them need no copy."""
        for start in range(0, len(self.ids), 10_000):
            yield (between if start else "") + between.join(map(str, self.ids[start : start + 10_000]))

    def digest(self) -> str:
        """SHA-256, in hex, over the head as compact sorted JSON, a line feed, and the ids, a line each."""
        sha = hashlib.sha256(json.dumps(self.head(), sort_keys=True, separators=(",", ":")).encode())
        for piece in itertools.chain("\n", self.pieces("\n")):
            sha.update(piece.encode())
        return sha.hexdigest()

    def lines(self) -> Iterator[str]:
        """The plan as the text of one JSON object, in pieces."""
        yield json.dumps(self.head() | {"sha256": self.digest()}, indent=1)[:-2] + ',\n "ids": ['
        yield from self.pieces(",")
        yield "]\n}\n"

    def age(self) -> timedelta:
        return datetime.now(UTC) - datetime.fromisoformat(self.created_at)


def parse_plan(text: str) -> Plan:
    """The plan that `Plan.lines` wrote; raises ValueError, or TypeError, when it is not exactly that."""
    data = json.loads(text)
    names = [item.name for item in fields(Plan)]
    if not isinstance(data, dict) or set(data) != {*names, "version", "selected", "sha256"}:
        raise ValueError("it is no plan")
    ids = data["ids"]
    if not isinstance(ids, list) or any(type(number) is not int or number <= 0 for number in ids):
        raise ValueError("its ids are not positive whole numbers")
    if len(set(ids)) != len(ids):
        raise ValueError("it names an id twice")
    plan = Plan(**{name: data[name] for name in names} | {"ids": array("q", ids)})
    told = {key: data[key] for key in plan.head()}
    if plan.head() != told or plan.digest() != data["sha256"]:
        raise ValueError("its SHA-256 does not match: it was changed")
    return plan


def too_many_failed(failed: int, selected: int, max_error_rate: float) -> bool:
    """Whether to stop: more than the rate, in percent, and more than 10; for 0 % at the first."""
    return failed > (0 if max_error_rate == 0 else max(10, selected * max_error_rate / 100))


class Outcome(enum.StrEnum):
    """What is known of a planned id; the values are the summary's keys."""

    DELETED = "deleted"
    ALREADY_GONE = "already_gone"
    FAILED = "failed"
    UNKNOWN = "unknown"
    NOT_ATTEMPTED = "not_attempted"


class Ledger:
    """The outcome of every planned id: each in exactly one state, so the counts always add up."""

    def __init__(self, selected: int, acted: Iterable[int] = ()) -> None:
        self.selected = selected
        self.reasons: dict[int, str] = {}  # why an id did not go, in the store's words
        self._acted = set(acted)  # some attempt, in this process or before, may have deleted it
        self._outcomes = dict.fromkeys(self._acted, Outcome.UNKNOWN)
        self._counts = Counter(self._outcomes.values())
        self._counts[Outcome.NOT_ATTEMPTED] = selected - len(self._outcomes)

    def counts(self) -> dict[str, int]:
        return {outcome.value: self._counts[outcome] for outcome in Outcome}

    def outcome(self, number: int) -> Outcome:
        return self._outcomes.get(number, Outcome.NOT_ATTEMPTED)

    def left(self) -> int:
        """How many are not proven gone."""
        return self.selected - self._counts[Outcome.DELETED] - self._counts[Outcome.ALREADY_GONE]

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
        for number in itertools.chain.from_iterable(batch.ids for batch in result.again):
            self.set(number, Outcome.UNKNOWN if number in self._acted else Outcome.NOT_ATTEMPTED)

    def read(self, number: int, *, there: bool) -> None:
        """It was read back. What is gone is settled, and so is what is there for a known reason."""
        if not there:
            self.reasons.pop(number, None)
            self.set(number, Outcome.DELETED if number in self._acted else Outcome.ALREADY_GONE)
        elif number in self.reasons:
            self.set(number, Outcome.FAILED)
        else:
            self.set(number, Outcome.UNKNOWN if number in self._acted else Outcome.NOT_ATTEMPTED)


# --- run folder and journal ---------------------------------------------------------------------------


ESCAPE = "backslashreplace"  # half a character, or an odd path: JSON writes it as \udce4 too


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what a full disk or a lost folder raises into one sentence."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        raise StoreError(f"{path} cannot be written ({why}): make room or mend it, then resume") from error


def write_atomically(path: Path, pieces: Iterable[str], *, lasting: bool = True) -> None:
    """Replace the file as a whole; `lasting`: through a power cut too."""
    with writing(path):
        draft = path.with_name(path.name + ".new")
        with open(draft, "w", encoding="utf-8", errors=ESCAPE, newline="") as file:
            file.writelines(pieces)
            file.flush()
            if lasting:
                os.fsync(file.fileno())
        os.replace(draft, path)
        if lasting:
            handle = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(handle)  # the new name
            finally:
                os.close(handle)


class Backup:
    """backup.jsonl: the full records, one a line, as they come; nothing where the path is None."""

    def __init__(self, path: Path | None) -> None:
        self._path = path or Path(os.devnull)
        with writing(self._path):
            self._file = open(self._path, "w", encoding="utf-8", errors=ESCAPE)  # noqa: SIM115  # close() is below

    def write(self, records: Iterable[Record]) -> None:
        encode = json.JSONEncoder(ensure_ascii=False).encode
        with writing(self._path):
            self._file.write("".join(f"{encode(record)}\n" for record in records))

    def close(self) -> None:
        """Let it last: what follows cannot be undone."""
        with writing(self._path), self._file:
            self._file.flush()
            with suppress(OSError):  # os.devnull has nothing to sync
                os.fsync(self._file.fileno())


class Journal:
    """journal.jsonl: append-only, on disk before it returns; its lock makes a run one process's.

    A line is either {"sent": ids}, written before their DELETE leaves, or {"ids", "answer", "acted"},
    written after: what came, and which of the ids it may have deleted.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        with writing(path):
            self._file = open(path, "a+b", buffering=0)  # noqa: SIM115  # held to the end
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Refused(f"{path.parent} is in use by another process: wait until it has ended") from error

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
        unanswered: set[int] = set()
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                entry = json.loads(line)
                unanswered.update(entry.get("sent", ()))
                unanswered.difference_update(entry.get("ids", ()))
                acted.update(entry.get("acted", ()))
            except (ValueError, AttributeError, TypeError) as error:
                raise Refused(f"{self._path}, line {number}: this is no journal's line") from error
        return acted | unanswered

    def sent(self, batch: Batch) -> None:
        """Note it before its DELETE leaves."""
        self._append({"sent": batch.ids})

    def result(self, result: BatchResult) -> None:
        """Note what came of it."""
        if not result.unsent or result.answer:
            self._append({"ids": result.batch.ids, "answer": result.answer, "acted": result.acted})

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
    """runs/<store_hash>-<resource>-<UTC time>/: everything that proves a run, and resumes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.journal = Journal(path / "journal.jsonl")
        logging.raiseExceptions = False  # a full disk shows in the journal, before a DELETE
        self.log = logging.Logger("run.log", logging.INFO)
        with writing(path):
            self.log.addHandler(logging.FileHandler(path / "run.log", encoding="utf-8"))

    @classmethod
    def create(cls, config: Config) -> RunFolder:
        """A new folder, mode 0700; raises ConfigError when it cannot be made."""
        stem = f"{config.store_hash}-{config.resource.name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        try:
            config.runs_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2))):
                with suppress(FileExistsError):
                    (config.runs_dir / name).mkdir(mode=0o700)
                    return cls(config.runs_dir / name)
        except OSError as error:
            message = f"no run folder can be made in {config.runs_dir} ({error.strerror})"
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StoreError(f"{message}: make room, then run it again") from error
            raise ConfigError(f"{message}: name another with --runs-dir") from error
        raise AssertionError("names never end")

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """That of an earlier run; raises ConfigError when it holds no plan."""
        try:
            if (path / "plan.json").is_file():
                return cls(path)
            what = "there is no plan.json in it"
        except PermissionError as error:
            what = str(error.strerror)
        raise ConfigError(f"--resume {path}: {what}; name a run folder of yours that has a plan")

    def write_plan(self, plan: Plan) -> None:
        write_atomically(self.path / "plan.json", plan.lines())

    def read_plan(self, config: Config) -> Plan:
        """The plan; raises Refused when it was changed, or is another store's."""
        path = self.path / "plan.json"
        try:
            plan = parse_plan(path.read_text(encoding="utf-8"))
            known = plan.resource in RESOURCES and datetime.fromisoformat(plan.created_at).tzinfo
        except (OSError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise Refused(f"{path} cannot be trusted ({clean(error)}): start a new run") from error
        if not known:
            raise Refused(f"{path} cannot be trusted: start a new run")
        for name, planned, given in (
            ("API host", plan.host, config.host),
            ("store hash", plan.store_hash, config.store_hash),
        ):
            if planned != given:
                what = f"is for the {name} {clean(planned)}, and {config.path} is for {given}"
                raise Refused(f"{path} {what}: name the ini of its store")
        return plan

    def write_failed(self, ledger: Ledger) -> None:
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(("id", "reason"))
        for number, reason in sorted(ledger.reasons.items()):
            if ledger.outcome(number) is Outcome.FAILED:
                writer.writerow((number, reason))
        write_atomically(self.path / "failed.csv", [text.getvalue()])

    def write_summary(self, summary: Mapping[str, Any], *, lasting: bool) -> None:
        text = json.dumps(summary, indent=1, ensure_ascii=False) + "\n"
        write_atomically(self.path / "summary.json", [text], lasting=lasting)


# --- delete -------------------------------------------------------------------------------------------

EXHAUSTED_BATCHES = 5  # in a row: the store is down


def delete_batches(
    store: Store, source: Iterator[Batch], before: Callable[[Batch], None]
) -> Iterator[BatchResult]:
    """Delete them, few submitted at a time, and yield each result as it comes.

    What has to go again is put in by itself: a refused batch's halves at once, so that its bad record is
    known soon; an exhausted one's after all others, so that a store that is down is not asked twenty times
    for each batch. Ends early, with all that was sent yielded, once the stop flag is set.
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


class Tally:
    """Counts the failures of one pass, and says when and why it must stop."""

    def __init__(self, selected: int, max_error_rate: float) -> None:
        self._selected, self._max_error_rate = selected, max_error_rate
        self._failed = 0
        self._exhausted = 0  # batches in a row

    def add(self, result: BatchResult) -> StoreError | None:
        """Take in a result; returns the reason to stop, if there is one."""
        self._failed += len(result.failed)
        if not result.exhausted:
            self._exhausted = 0
        elif not result.batch.half:
            self._exhausted += 1
        if self._exhausted >= EXHAUSTED_BATCHES:
            what = f"{EXHAUSTED_BATCHES} batches in a row used up their retries (last: {result.answer})"
            return StoreError(f"the store does not answer: {what}: resume once it is up")
        if too_many_failed(self._failed, self._selected, self._max_error_rate):
            limit = f"more than max_error_rate ({self._max_error_rate:g} %) allows"
            last = next(iter(result.failed.values()), result.answer)
            what = f"{self._failed:,} of {self._selected:,} failed, {limit} (last: {last})"
            return StoreError(f"{what}: see why, then resume")
        return None


def delete(store: Store, ids: Iterable[int], ledger: Ledger, journal: Journal, step: Step) -> None:
    """Delete these planned ids; raises Stopped, with every answer taken in, once a stop is asked for."""
    tally = Tally(ledger.selected, store.config.max_error_rate)
    in_flight: set[Batch] = set()

    def note(batch: Batch) -> None:
        journal.sent(batch)
        in_flight.add(batch)

    try:
        for result in delete_batches(store, batches(ids, store.config.batch_size), note):
            in_flight.discard(result.batch)
            ledger.apply(result)
            try:
                journal.result(result)
            except Failure as failure:
                store.stop.set(failure)
            step(len(result.sent) + len(result.failed) + len(result.missing))
            if reason := tally.add(result):
                store.stop.set(reason)
    finally:
        for batch in in_flight:  # what is left here was not waited for
            ledger.apply(BatchResult(batch=batch, sent=batch.ids, acted=batch.ids))
    store.stop.check()


# --- verify -------------------------------------------------------------------------------------------

REREADS = (1.0, 2.0, 3.0, 4.0)  # seconds before each: what is deleted may show for a moment


def read_back(
    store: Store, ids: Sequence[int], step: Step
) -> Iterator[tuple[Sequence[int], list[Record] | None]]:
    """The ids, in parts, each with those of its records that are still there, None if that is unknown."""
    if not store.resource.read_by:
        yield ids, _listed_among(store, IdSet(sorted(ids)))
        step(len(ids))
        return
    chunks = (ids[start : start + PAGE_LIMIT] for start in range(0, len(ids), PAGE_LIMIT))
    these, those = itertools.tee(chunks)
    for chunk, records in zip(these, store.in_order(store.present, those), strict=True):
        yield chunk, records
        step(len(chunk))


def _listed_among(store: Store, ids: IdSet) -> list[Record] | None:
    """Those of the ids that a complete listing still holds; None when none was complete."""
    for _ in range(LISTINGS):
        try:
            pages = Listing(store, lambda _: None, filtered=False)
            return [record for page in pages for record in page if store.id_of(record) in ids]
        except ListingChanged:
            continue
        except Unreadable:
            break
    return None


def settle(
    store: Store, ids: Sequence[int], ledger: Ledger, step: Step
) -> tuple[array[int], array[int], Sample]:
    """Read these back into the ledger: those still there for no known reason, the unknown, and samples."""
    there, unknown, shown = array("q"), array("q"), Sample()
    for chunk, records in read_back(store, ids, step):
        found = set(map(store.id_of, records or ()))
        for record in records or ():
            shown.add(record)
        for number in chunk:
            if records is None:
                ledger.set(number, Outcome.UNKNOWN)
                unknown.append(number)
                continue
            ledger.read(number, there=number in found)
            if number in found and ledger.outcome(number) is not Outcome.FAILED:
                there.append(number)
    return there, unknown, shown


def verify(store: Store, ids: Sequence[int], ledger: Ledger, journal: Journal, step: Step) -> None:
    """Read all of them back; delete once more what is still there, and read that again."""
    there, unknown, _ = settle(store, ids, ledger, step)
    twice: set[int] = set()
    for seconds in REREADS:
        if not there and not unknown:
            return
        once = [number for number in there if number not in twice]
        delete(store, once, ledger, journal, lambda _: None)
        twice.update(once)
        store.nap(seconds)
        there, unknown, _ = settle(store, there + unknown, ledger, lambda _: None)
    for number in there:
        if number in twice:
            ledger.set(number, Outcome.FAILED, "still there after two DELETEs that were accepted")


# --- report -------------------------------------------------------------------------------------------

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
    if done >= total > 0:
        return f"{count} · {rate:,.0f}/s · took {duration(elapsed)}"
    if waiting:
        return f"{count} · {waiting}"
    left = f" · {duration((total - done) / rate)} left" if rate and total else ""
    return f"{count} · {rate:,.1f}/s{left}"


class Phase:
    """The progress of one phase: a bar on a terminal, else a plain line every few seconds."""

    def __init__(self, screen: Screen, name: str, bars: Progress | None) -> None:
        self._screen, self._name, self._bars = screen, name, bars
        self._total = self._done = 0
        self._began = self._shown = time.monotonic()  # so the first answer counts in the rate
        self._task = bars.add_task(f"{name:<10}", total=None, detail="…") if bars else None

    def begin(self, total: int) -> None:
        self._total, self._done = total, 0

    def step(self, count: int) -> None:
        self._done += count

    def show(self, waiting: str = "", *, last: bool = False) -> None:
        """Show how far it is; called often, so it mostly does nothing."""
        now = time.monotonic()
        if not last and now - self._shown < (REDRAW if self._bars else LINE_EVERY):
            return
        self._shown = now
        text = progress_text(self._done, self._total, now - self._began, waiting)
        if self._bars is not None and self._task is not None:
            total = self._total or (self._done if last else None)
            self._bars.update(self._task, completed=self._done, total=total, detail=text)
        elif self._total or self._done:
            share = f"{100 * self._done // self._total} % · " if self._total else ""
            self._screen.say(f"{self._name}: {share}{text}")


class PatientConsole(Console):
    """A console whose reader may leave: rich would end the process then, and the run goes on."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class Screen:
    """What the person sees: messages and bars on stderr, the final table on stdout."""

    def __init__(self, *, json_summary: bool = False) -> None:
        for stream in (sys.stdin, sys.stdout, sys.stderr):
            with suppress(AttributeError):  # a test's stand-in, or closed
                stream.reconfigure(errors="replace")  # type: ignore[union-attr]
        self._err = PatientConsole(stderr=True, highlight=False, markup=False)
        self._out = self._err if json_summary else PatientConsole(highlight=False, markup=False)
        self._phase: Phase | None = None

    def say(self, text: str, style: str = "", *, whole: bool = False) -> None:
        """Print a message; `whole`: a line to be copied, which is not wrapped for the terminal."""
        with suppress(OSError):  # the terminal may be gone; the run is not
            self._err.print(Text(text, style=style), soft_wrap=whole or not self._err.is_terminal)

    def warn(self, text: str) -> None:
        self.say(f"warning: {text}", "yellow")

    def show(self, renderable: Any, *, final: bool = False) -> None:
        with suppress(OSError):
            (self._out if final else self._err).print(renderable)

    def ask(self, text: str) -> str:
        """The line that the person types, "" at the end of the file, or of the terminal."""
        with suppress(OSError):
            self._err.print(Text(text, style="bold"), end="")
            return sys.stdin.readline()
        return ""

    @contextmanager
    def phase(self, name: str) -> Iterator[Phase]:
        """Show a phase's progress while it lasts; `tick` redraws it."""
        bars = None
        if self._err.is_terminal and not self._err.is_dumb_terminal:
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn  # slow to load

            detail = TextColumn("{task.fields[detail]}", markup=False)
            columns = (TextColumn("{task.description}"), BarColumn(16), TaskProgressColumn(), detail)
            bars = Progress(*columns, console=self._err, refresh_per_second=8)
            bars.start()
        self._phase = phase = Phase(self, name, bars)
        try:
            yield phase
        finally:
            self._phase = None
            with suppress(OSError):
                phase.show(last=True)
                if bars is not None:
                    bars.stop()

    def tick(self, waiting: str) -> None:
        if self._phase is not None:
            with suppress(OSError):
                self._phase.show(waiting)


class ScreenHandler(logging.Handler):
    """Shows on the screen what goes to run.log."""

    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        self._screen.say(record.getMessage(), "dim")


def store_name(config: Config, info: Record | None) -> str:
    """How a store is named wherever it is named: name, domain, plan, hash, and a moved API."""
    known = [clean(info[key], 60) for key in ("name", "domain") if info.get(key)] if info else []
    plan = f"{clean(info['plan_name'], 30)} plan" if info and info.get("plan_name") else ""
    moved = f"API at {config.host}" if config.host != DEFAULT_HOST else ""
    return " · ".join(filter(None, [*known, plan, f"hash {config.store_hash}", moved]))


def two_columns(rows: Iterable[tuple[str, str | Text]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in rows:
        table.add_row(Text(label), value if isinstance(value, Text) else Text(value))
    return table


def plan_panel(config: Config, facts: Mapping[str, str], sample: Sample) -> Panel:
    """What is about to be deleted, from which store, and how long it will take."""
    rows = list(facts.items())
    if sample.first_created:
        rows.append(("Created", f"{clean(sample.first_created)} to {clean(sample.last_created)}"))
    for number, record in enumerate(sample.records):
        shown = [clean(record.get(name), 40) for name in (config.resource.id_field, *config.resource.show)]
        rows.append(("" if number else "Such as", "  ".join(shown)))
    style, title = "red", "This cannot be undone"
    if config.dry_run:
        style, title = "cyan", "Dry run: this would be deleted"
    return Panel(two_columns(rows), title=title, title_align="left", border_style=style)


def summary_table(summary: Mapping[str, Any], name: str, folder: Path) -> Panel:
    """The final table: what was selected, what became of it, and where the proof is."""
    good = summary["exit_status"] == 0
    result = f"{summary['status']}, exit status {summary['exit_status']}"
    rows: list[tuple[str, str | Text]] = [("Result", Text(result, "bold green" if good else "bold red"))]
    if summary["reason"]:
        rows.append(("Reason", summary["reason"]))
    rows += [("Store", name), ("Resource", summary["resource"])]
    outcomes = [outcome.value for outcome in Outcome]
    for key in ("selected", *outcomes, "duplicates", "not_found", "spared"):
        if summary[key] or key in ("selected", "deleted", "failed"):
            rows.append((key.replace("_", " ").capitalize(), f"{summary[key]:,}"))
    proof = "yes: every id was read back" if summary["selected"] else "there was nothing to verify"
    waits = f"{summary['retries']:,} retries, {summary['rate_limited']:,} times told to wait"
    rows += [
        ("Verified", proof if summary["verified"] else "no"),
        ("Requests", f"{summary['requests']:,} ({waits})"),
        ("Time", f"{duration(summary['elapsed_seconds'])}, from {summary['started_at']}"),
        ("Run folder", str(folder)),
    ]
    return Panel(two_columns(rows), box=box.HORIZONTALS, border_style="green" if good else "red")


def resource_table() -> Table:
    """RESOURCES, for --resource list."""
    rows = []
    for item in RESOURCES.values():
        how = f"{item.size} at a time by {item.delete_by}" if item.delete_by else "one by one"
        how += f", {item.max_concurrent} request at once" if item.max_concurrent == 1 else ""
        lines = [f"{item.path}, deleted {how}", f"scope: {item.scope}"]
        lines.append(f"filters: {' '.join(item.filter_types())}")
        rows.append((item.name, "\n".join([*lines, *filter(None, [item.note])])))
    return two_columns(rows)


# --- command line -------------------------------------------------------------------------------------


def make_parser() -> argparse.ArgumentParser:
    """The command line; what OPTIONS holds is read like the ini's keys, and wins over them."""
    about = "Delete many records from one BigCommerce store: shown first, done exactly, proven afterwards."
    parser = argparse.ArgumentParser(prog="bulk_delete.py", description=about, allow_abbrev=False)
    add = parser.add_argument
    add("--config", type=Path, metavar="FILE", help="the store's ini file (required)")
    add("--filter", action="append", metavar="NAME=VALUE", help="only what this filter of the API finds")
    for option in OPTIONS:
        if not option.argv:
            continue
        if option.convert is not _boolean:
            action = "append" if option.convert is _match else "store"
            add(option.flag, action=action, metavar=option.metavar, help=option.help)
            continue
        flags = ["-v", option.flag] if option.name == "verbose" else [option.flag]
        add(*flags, action="store_true", default=None, help=option.help)
        opposite = option.flag.replace("--no-", "--")
        opposite = opposite if opposite != option.flag else option.flag.replace("--", "--no-")
        add(opposite, dest=option.name, action="store_false", default=None, help=argparse.SUPPRESS)
    add("--resume", type=Path, metavar="RUN_FOLDER", help="go on with an earlier run's plan")
    add("--yes", action="store_true", help="do not ask before deleting")
    add("--json", action="store_true", help="the summary as JSON on stdout, all else on stderr")
    for name in ("yes", "json"):
        add(f"--no-{name}", dest=name, action="store_false", help=argparse.SUPPRESS)
    add("--version", action="version", version=f"bulk_delete.py {__version__}")
    return parser


def interpreter() -> str:
    """How this Python is called at the prompt."""
    for name in ("python", "python3"):
        found = shutil.which(name)
        if found and Path(found).absolute() == Path(sys.executable).absolute():
            return name
    return sys.executable


class Run:
    """One run from the run folder to the summary: the steps of the design, in order."""

    def __init__(self, config: Config, screen: Screen, stop: Stop) -> None:
        self.screen, self.stop = screen, stop
        self.folder = RunFolder.open(config.resume) if config.resume else RunFolder.create(config)
        self.plan = self.folder.read_plan(config) if config.resume else None
        self.config = config = config.for_resource(RESOURCES[self.plan.resource]) if self.plan else config
        self.ledger = Ledger(0)
        if self.plan:
            acted = self.folder.journal.replay()
            if not acted <= set(self.plan.ids):
                raise Refused(f"the journal in {self.folder.path} is not its plan's: start a new run")
            self.ledger = Ledger(len(self.plan.ids), acted)
        if config.verbose:
            self.folder.log.addHandler(ScreenHandler(screen))
        self.name = store_name(config, None)
        self.started_at, self._began = utc_now(), time.monotonic()
        self._written = -math.inf
        self.store = Store(config, stop, self.folder.log)
        self.store.on_wait = self.tick

    def tick(self) -> None:
        """Called a few times a second, whatever is waited for."""
        self.screen.tick(self.store.bucket.waiting())
        if time.monotonic() - self._written >= 1.0:
            self._written = time.monotonic()
            try:
                self.folder.write_summary(self.summary("in_progress", None, ""), lasting=False)
            except Failure as failure:
                self.stop.set(failure)

    def summary(self, status: str, exit_status: int | None, reason: str) -> dict[str, Any]:
        """summary.json; selected is always the sum of the five outcomes."""
        plan, counts = self.plan, self.ledger.counts()
        proven = counts["unknown"] == counts["not_attempted"] == 0
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
            "verified": status == "completed" and proven,
            **self.store.counts,
            "started_at": self.started_at,
            "finished_at": None if status == "in_progress" else utc_now(),
            "elapsed_seconds": round(time.monotonic() - self._began, 3),
            "resume": self.resume_command() if plan and status != "completed" else None,
        }

    def resume_command(self) -> str:
        """The exact command that goes on with this run, without --yes."""
        words = [interpreter(), sys.argv[0], "--config", str(self.config.path)]
        return shlex.join([*words, "--resume", str(self.folder.path), *self.config.typed])

    def tell(self, event: str, summary: Mapping[str, Any]) -> None:
        """Tell webhook_url, if there is one; it is not waited for long, and never changes the run."""
        url = "" if self.stop.at_once else self.config.webhook_url
        if not url:
            return
        words = ["no answer within 10 s"]
        thread = threading.Thread(target=lambda: words.append(post_event(url, event, summary)), daemon=True)
        thread.start()
        thread.join(10)  # its own time-out is for each read only
        if words[-1]:
            self.screen.warn(f"webhook_url was not told that the run {event}: {words[-1]}")

    def work(self) -> str:
        """Do it; returns the summary's status. Raises Failure, and Stopped with Stop.failure set."""
        for warning in self.config.warnings:
            self.screen.warn(warning)
        self.tell("started", self.summary("in_progress", None, ""))
        self.store.bucket.expect(2)
        info = self.store.call(self.store.info)
        self.name = store_name(self.config, info)
        self.check_domain(info)
        if self.plan:
            plan, (todo, facts, sample) = self.plan, self.reread(self.plan)
        else:
            plan, facts, sample = self.gather()
            self.plan, self.ledger, todo = plan, Ledger(len(plan.ids)), plan.ids
            self.folder.write_plan(plan)
        if not todo:
            nothing = "nothing is left to delete" if self.config.resume else "nothing is selected"
            self.screen.say(f"{nothing}: {plan.resource} of {self.name}")
            return "completed"
        self.confirm(plan, len(todo), facts, sample)
        if self.config.dry_run:
            return "planned"
        self.store.bucket.expect(self.requests(len(todo)))
        for name, work in (("Deleting", delete), ("Verifying", verify)):
            with self.screen.phase(name) as phase:
                phase.begin(len(todo))
                work(self.store, todo, self.ledger, self.folder.journal, phase.step)
        return "completed"

    def requests(self, count: int) -> int:
        """Tokens to delete so many and read them back."""
        size = 1 if self.config.count_items else self.config.batch_size
        return math.ceil(count / size) + math.ceil(count / PAGE_LIMIT)

    def check_domain(self, info: Record | None) -> None:
        """Raise Refused when [store] domain is not this store's."""
        pinned, path = self.config.domain, self.config.path
        if pinned and info is None:
            what = "the token may not read GET /v2/store; give it store_v2_information_read_only"
            raise Refused(f"domain in {path} cannot be checked: {what}, or take domain out")
        urls = [str(info.get(key, "")).lower() for key in ("domain", "secure_url")] if info else []
        if pinned and pinned not in [re.sub(r"^https?://|/.*$", "", url) for url in urls]:
            what = f"but its store_hash is that of {self.name}: correct one of them"
            raise Refused(f"{path} is for the domain {clean(pinned)}, {what}")

    def gather(self) -> tuple[Plan, dict[str, str], Sample]:
        """List, and make the plan; raises Refused for a listing that stays incomplete."""
        config, store = self.config, self.store
        backup_path = None if config.no_backup else self.folder.path / "backup.jsonl"
        chosen, listing = self.list_all(backup_path)
        if chosen.cut and backup_path:
            what = "records have more addresses or attributes than the ten that the API lists"
            self.screen.warn(f"{chosen.cut:,} {what}: backup.jsonl says where it is cut (backup_cut)")
        ids, along = deepest_first(chosen.ids, chosen.parents) if chosen.parents else (chosen.ids, 0)
        asked = len(config.ids.ids) if config.ids else 0
        plan = Plan(
            host=config.host,
            store_hash=config.store_hash,
            resource=config.resource.name,
            filters={name: told.text for name, told in config.filters.items()},
            selection=config.selection,
            created_at=utc_now(),
            duplicates=listing.duplicates + (config.ids.duplicates if config.ids else 0),
            not_found=0 if chosen.full else max(0, asked - chosen.listed),
            spared=chosen.spared,
            ids=ids,
        )
        total = listing.total if config.resource.has_total else chosen.listed  # of the store
        if config.filters or config.ids:  # or it may be, since the listing was narrowed
            total = store.call(store.page, 1, limit=1).total if config.resource.has_total else -1
        told = [f"{key}={value}" for key, value in {**plan.filters, **plan.selection}.items()]
        if len(plan.ids) == total and (config.resource.has_total or not chosen.full):
            told.append(f"ALL {plan.resource} of the store")
        facts = {"Selected": "; ".join(told), "Not found": plan.not_found, "Spared": plan.spared}
        facts["Along"] = f"{along:,} more {plan.resource}, which are below selected ones" if along else ""
        facts["Backup"] = backup_path or "none"
        return plan, {label: f"{fact}" for label, fact in facts.items() if fact}, chosen.sample

    def list_all(self, backup_path: Path | None) -> tuple[Selection, Listing]:
        """The selection of a complete listing, and that listing."""
        store, orders = self.store, Orders()
        if self.config.spare_with_orders:
            with self.screen.phase("Orders") as phase:
                orders.read(store, phase.step)
        with self.screen.phase("Listing") as phase:

            def begin(total: int) -> None:
                phase.begin(total)
                store.bucket.expect(total // PAGE_LIMIT + 3 + self.requests(total))

            listing = Listing(store, begin)
            for attempt in range(1, LISTINGS + 1):
                backup = Backup(backup_path)
                try:
                    chosen = select(store, listing, orders, backup, begin, phase.step)
                    if self.config.spare_with_orders:  # those who ordered while they were listed
                        orders.read(store, lambda _: None)
                        chosen.spare(orders.customers)
                    return chosen, listing
                except ListingChanged as change:
                    if attempt == LISTINGS:
                        what = f"the listing was never complete in {LISTINGS} tries ({change})"
                        raise Refused(f"{what}: try again when nobody changes the records") from change
                    self.screen.warn(f"{change}; listing again")
                finally:
                    backup.close()
        raise AssertionError("the last try returns or raises")

    def reread(self, plan: Plan) -> tuple[array[int], dict[str, str], Sample]:
        """What of the plan is still there, by reading all of it back."""
        self.store.bucket.expect(math.ceil(len(plan.ids) / PAGE_LIMIT) + self.requests(len(plan.ids)))
        with self.screen.phase("Re-reading") as phase:
            phase.begin(len(plan.ids))
            there, unknown, sample = settle(self.store, plan.ids, self.ledger, phase.step)
        age = f"{duration(plan.age().total_seconds())} old, {len(plan.ids):,} {plan.resource}"
        return there + unknown, {"Plan": f"{self.folder.path}, {age}"}, sample

    def confirm(self, plan: Plan, count: int, facts: Mapping[str, str], sample: Sample) -> None:
        """Show what will be deleted, and have the person type how many; raises Refused if not."""
        config, requests = self.config, self.requests(count)
        shown = {"Store": self.name, "Delete": f"{count:,} {plan.resource}", **facts}
        shown["It takes"] = f"{requests:,} requests, about {self.estimate(requests)}"
        if config.resource.note:
            shown["Note"] = config.resource.note
        self.screen.show(plan_panel(config, shown, sample))
        if config.max_delete is not None and count > config.max_delete:
            what = f"{count:,} are selected, more than --max-delete {config.max_delete:,}"
            raise Refused(f"{what}: narrow the selection, or raise it", planned=True)
        if config.dry_run:
            return
        if config.yes and config.resume and plan.age() > timedelta(days=1):
            what = f"the plan is {plan.age().days} days old: look at it, and resume it without --yes"
            raise Refused(what, planned=True)
        if config.yes:
            return
        if sys.stdin is None or not sys.stdin.isatty():
            raise Refused("there is no terminal to confirm on: add --yes to delete", planned=True)
        self.stop.check()
        self.stop.asking = True
        try:
            typed = self.screen.ask(f"Type {count} to delete them, anything else to leave: ")
            if not typed:
                self.stop.sleep(POLL)  # a terminal that closes ends the file before its signal comes
        finally:
            self.stop.asking = False
        if typed.strip().replace(",", "") != str(count):
            raise Refused(f"not confirmed: that was not {count}", planned=True)

    def estimate(self, requests: int) -> str:
        """How long so many requests take, by the quota and by the answers' times so far."""
        bucket, sent = self.store.bucket, max(1, self.store.counts["requests"])
        by_quota = (math.ceil(requests / max(1, bucket.largest())) - 1) * bucket.window.seconds
        seconds = max(by_quota, requests * self.store.busy_seconds / sent / self.config.max_concurrent)
        return f"{math.ceil(seconds / 60)} min" if seconds > 90 else f"{math.ceil(seconds)} s"

    def finish(self, status: str, exit_status: int, reason: str) -> int:
        """Write what became of it, show it, tell of it; returns the exit status."""
        config = self.config
        try:
            if self.plan is not None and (status == "completed" or self.ledger.reasons or not config.resume):
                self.folder.write_failed(self.ledger)  # a resume that never began keeps the one there is
            summary = self.summary(status, exit_status, reason)
            self.folder.write_summary(summary, lasting=True)
        except Failure as failure:
            status, exit_status, reason = "interrupted", failure.exit_status, str(failure)
            summary = self.summary(status, exit_status, reason)
        self.screen.show(summary_table(summary, self.name, self.folder.path), final=True)
        if self.config.json:
            with suppress(OSError):
                print(json.dumps(summary), flush=True)
        if reason:
            self.screen.say(f"bulk_delete.py: {reason}", "bold red")
        if summary["failed"]:
            self.screen.say(f"what did not go, and why: {self.folder.path / 'failed.csv'}")
        if exit_status == 4 and summary["unknown"]:
            self.screen.say(f"{summary['unknown']:,} could not be read back: a resume reads them again")
        if self.plan is not None and (exit_status or status == "planned"):
            more = " more" if summary["not_attempted"] < summary["selected"] else ""
            planned = f"nothing{more} was deleted; to delete exactly these:"
            self.screen.say(planned if status == "planned" else "to go on where it ended:")
            self.screen.say(f"  {self.resume_command()}", whole=True)
        self.tell("completed" if exit_status in (0, 4) else "interrupted", summary)
        return exit_status


def run(config: Config, screen: Screen, stop: Stop) -> int:
    """One run, whatever happens to it, with its summary; returns the exit status."""
    job = Run(config, screen, stop)
    try:
        status, left = job.work(), job.ledger.left()
        if status == "completed" and left:
            return job.finish(status, 4, f"{left:,} of {job.ledger.selected:,} are not proven gone")
        return job.finish(status, 0, "")
    except (Stopped, Failure) as error:
        failure = stop.set(error if isinstance(error, Failure) else StoreError("stopped"))
        planned = isinstance(failure, Refused) and failure.planned
        late = isinstance(failure, (ReadRefused, ConfigError)) and job.plan is not None
        exit_status = StoreError.exit_status if late else failure.exit_status
        return job.finish("planned" if planned else "interrupted", exit_status, str(failure))
    except BaseException as error:
        stop.set(StoreError("a bug"))  # the workers send nothing more
        job.finish("interrupted", 1, f"a bug: {clean(repr(error))}")
        raise
    finally:
        job.store.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, run, and turn what happened into an exit status."""
    parser = make_parser()
    try:
        arguments = parser.parse_args(argv)
        if arguments.resource == "list":
            Screen().show(resource_table(), final=True)
            return 0
        if arguments.config is None:
            parser.error("--config FILE is required: the store's ini file")
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
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):  # None: closed by the shell
            stream.flush()
    except OSError:  # nobody reads it any more, and the interpreter would complain of that
        stop.at_once = True
    if stop.at_once:
        os._exit(status)
    return status


if __name__ == "__main__":
    exit_status = main()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # all is said and done
    sys.exit(exit_status)
