"""A strict local BigCommerce store with real state: HTTPS on loopback, quotas, scripted faults.

It serves /v2/store, customers and the other KINDS as BigCommerce's OpenAPI files describe them, keeps
a log of every request, and really deletes. `python -m tests.fake_store` runs the tool against it: that is
the sandbox, at the end of this file.
"""

from __future__ import annotations

import argparse
import base64
import bisect
import collections
import configparser
import contextlib
import csv
import email.utils
import fnmatch
import functools
import http
import io
import itertools
import json
import math
import os
import random
import re
import shlex
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Any, NamedTuple, Self, TextIO

import trustme

TOKEN = "sandbox-token-not-a-secret"
STORE_HASH = "sandbox1"
BATCH = 10  # ids in a DELETE, where none is documented: of customers in a POST (customers.v3.yml:233)
ROWS = 50  # of a page, unless `limit` says otherwise (orders.v2.oas2.yml:321)
ROWS_WITH_OPTIONS = 10  # "When you specify `options` or `modifiers`" (products_catalog.v3.yml:9791)
MOST_SUB_RESOURCES = 10  # of addresses, and of attributes (customers.v3.yml:3498 and 3504)
MOST_ROWS = 250  # products_catalog.v3.yml:9490; gift certificates, marketing.v2.yml:714
UNLIMITED = 16_101_495  # what a store on an unlimited plan was seen to report as its quota
LINGER_NOT = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)  # for SO_LINGER: close() resets
STATUS_CODES_URL = "https://developer.bigcommerce.com/api-docs/getting-started/api-status-codes"

Record = dict[str, Any]


@dataclass(slots=True)
class Request:
    """One entry of the store's log, in order of arrival."""

    number: int
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]  # names in lower case
    arrived: float
    connection: int
    in_flight: int  # itself included, at arrival
    ids: tuple[int, ...] = ()  # of id:in, or of the path
    beside: int = 0  # DELETEs of its kind in flight at arrival, itself included
    answered: float = 0.0
    status: int = 0  # 0: no answer was given
    window: int = 0  # the quota window in which it was counted
    counted: bool = False  # a 429 for want of quota is not
    cost: int = 0  # tokens taken: 1, or with count_items one for each id
    left: int = 0  # tokens left after it, as its answer reports


@dataclass
class Fault:
    """Something scripted to go wrong; the first fault in store.faults that matches is the one."""

    method: str = "*"
    path: str = "*"  # fnmatch pattern for what follows /stores/<hash>/
    where: Callable[[Request], bool] | None = None
    skip: int = 0
    times: float = 1  # applies to matches skip+1 … skip+times; math.inf: for ever
    hook: Callable[[Request], None] | None = None  # called first, without the store's lock
    after: Callable[[Request], None] | None = None  # called after the deed, before the answer
    delay: float = 0.0  # before the deed
    commit: bool = False  # do the deed, then give the faulty answer
    status: int | None = None  # None, and no close: the ordinary answer
    headers: dict[str, str] = field(default_factory=dict)  # also laid over an ordinary answer's
    body: bytes | str | dict[str, Any] | list[Any] | None = None
    content_type: str = "application/json"
    close: str = ""  # "reset": TCP RST, no answer; "cut": the connection ends in mid-body
    quota_headers: bool = True
    counts: bool = True  # takes a token of the quota
    rewrite: Callable[[Request, Any], Any] | None = None  # of the ordinary answer's JSON
    seen: int = field(default=0, init=False)


class Answer(NamedTuple):
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = {}


class Invalid(Exception):
    """A parameter that the API refuses: with that status, or its version's usual one."""

    def __init__(self, name: str, message: str, status: int | None = None) -> None:
        super().__init__(name, message)
        self.name, self.message, self.status = name, message, status


# --- made-up customers ---------------------------------------------------------------------------

FIRST_NAMES = (
    "Ada Amélie Anna Ben Björn Carla Chloé Daniel Dmitri Elif Emma Fatima George Grace Hana Hugo"
    " Ines Ivan James Jana Kofi Lea Liam Łukasz Maria Mateo Mia Mohammed Noah Nour Olga Oscar"
    " Paula Priya Quentin Rosa Samir Søren Tomáš Uma Victor Wanda Xavier Yuki Zoë 愛 健太 نور"
)
LAST_NAMES = (
    "Abadi Andersson Baker Bianchi Brown Castro Chen Delgado Dubois Eriksen Fischer García Gruber"
    " Haddad Hughes Ivanova Jansen Kaya Kowalski Lindqvist López Martin Mbeki Meyer Müller Nakamura"
    " Nguyễn Novák Okafor Olsen Patel Popescu Quist Rossi Sato Schröder Silva Smith Tanaka Taylor"
    " Ueda Varga Walker Weiß Yılmaz Zhang 佐藤 山田"  # a name in Turkish
)
FIRST, LAST = FIRST_NAMES.split(), LAST_NAMES.split()
COMPANIES = (
    "Acme Corp",
    "Common Good",
    "Blue Heron Books",
    "Café Größenwahn",
    "Northwind Tools",
    "Pérez y Hijos",
    "Tide & Timber",
)
PLACES = (
    ("United States", "US", "Austin", "Texas", "78701"),
    ("United States", "US", "Akron", "Ohio", "44325"),
    ("United Kingdom", "GB", "Leeds", "West Yorkshire", "LS1 4AP"),
    ("Germany", "DE", "Köln", "Nordrhein-Westfalen", "50667"),
    ("Australia", "AU", "Hobart", "Tasmania", "7000"),
    ("Japan", "JP", "札幌市", "北海道", "060-0001"),
    ("Brazil", "BR", "São Paulo", "São Paulo", "01310-100"),
    ("Canada", "CA", "Québec", "Quebec", "G1R 4S9"),
)
STREETS = ("Mill Lane", "Harbour Road", "High Street", "Rue du Port", "Lindenallee", "Oak Avenue")
GROUPS = (0, 0, 0, 0, 1, 1, 2, 3, 7)
NETWORKS = ("192.0.2", "198.51.100", "203.0.113")  # reserved for documentation
THROW_AWAY = ("mailbin.example", "tempinbox.example", "spam-drop.example")
# Whatever prints a name must not obey it.
ODD_NAMES = (
    ("[bold red]x[/]", "Markup"),
    ("\x1b[31mred", "Escape"),
    ("[/]", "[link=https://evil.example]click[/link]"),
    ("two\nlines", "=1+1"),
    ("\u202eright to left", "\x07Bell\r"),
)
BEGIN, END = 1_546_300_800, 1_750_000_000  # 2019-01-01 … mid-June 2025


def timestamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def ascii_slug(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower()) or "customer"


FIRST_SLUGS, LAST_SLUGS = [ascii_slug(name) for name in FIRST], [ascii_slug(name) for name in LAST]


def make_customer(number: int, index: int, created: int, rng: random.Random) -> Record:
    """A full record; every 12th is a spam sign-up, every 60th has 12 addresses or attributes."""
    rand = rng.random
    a, b = int(rand() * len(FIRST)), int(rand() * len(LAST))
    first, last = FIRST[a], LAST[b]
    address = f"{FIRST_SLUGS[a]}.{LAST_SLUGS[b]}{number}@shop-mail.example"
    phone = f"555-01{int(rand() * 100):02}" if rand() < 0.7 else ""
    company = COMPANIES[int(rand() * len(COMPANIES))] if rand() < 0.3 else ""
    places = 0 if rand() < 0.3 else 1 + int(rand() * 2)
    values = int(rand() * 2)
    if index % 12 == 5:
        first, last = f"WIN ${int(rand() * 90) + 10}00 now", f"https://prize-{number}.example/go"
        address, places, company = f"x{number}q@{THROW_AWAY[index % 3]}", 0, ""
    elif index % 48 == 20:
        first, last = ODD_NAMES[index // 48 % len(ODD_NAMES)]
    elif index % 60 == 30:
        places = 12
    elif index % 60 == 31:
        values = 12
    stamp = timestamp(created)
    modified = timestamp(created + int(rand() * 9_000_000)) if rand() < 0.4 else stamp
    ip_address = f"{NETWORKS[number % 3]}.{int(rand() * 256)}" if rand() < 0.9 else ""
    return {
        "id": number,
        "email": address,
        "first_name": first,
        "last_name": last,
        "company": company,
        "phone": phone,
        "registration_ip_address": ip_address,
        "notes": "asked for a paper catalogue" if rand() < 0.05 else "",
        "tax_exempt_category": "",
        "customer_group_id": GROUPS[int(rand() * len(GROUPS))],
        "date_created": stamp,
        "date_modified": modified,
        "address_count": places,
        "attribute_count": values,
        "authentication": {"force_password_reset": False},
        "accepts_product_review_abandoned_cart_emails": rand() < 0.5,
        "origin_channel_id": 1,
        "channel_ids": [1],
        "addresses": [make_address(number, place, first, last, company, rng) for place in range(places)],
        "attributes": [
            {
                "id": number * 20 + value,
                "attribute_id": value + 2,
                "attribute_value": "Yes" if rand() < 0.5 else "No",
                "customer_id": number,
                "date_created": stamp,
                "date_modified": stamp,
            }
            for value in range(values)
        ],
        "form_fields": [{"name": "shirt_size", "value": "Large", "customer_id": number}]
        if rand() < 0.2
        else [],
        "store_credit_amounts": [{"amount": round(rand() * 50, 2)}] if rand() < 0.1 else [],
    }


def make_address(number: int, place: int, first: str, last: str, company: str, rng: random.Random) -> Record:
    country, code, city, state, postal_code = PLACES[int(rng.random() * len(PLACES))]
    house = int(rng.random() * 200) + 1
    return {
        "id": number * 20 + place,
        "customer_id": number,
        "first_name": first,
        "last_name": last,
        "company": company,
        "address1": f"{house} {STREETS[house % len(STREETS)]}",
        "address2": "",
        "city": city,
        "state_or_province": state,
        "postal_code": postal_code,
        "country_code": code,
        "country": country,
        "phone": f"555-01{house % 100:02}",
        "address_type": "commercial" if company else "residential",
    }


def make_customers(count: int, seed: int) -> dict[int, Record]:
    """Customers by id: ids have gaps, and ascend with date_created."""
    rng = random.Random(seed)
    made: dict[int, Record] = {}
    number, step = 10, (END - BEGIN) / max(count, 1)
    for index in range(count):
        number += 1 if rng.random() < 0.8 else 2 + int(rng.random() * 8)
        created = BEGIN + int((index + rng.random()) * step)
        made[number] = make_customer(number, index, created, rng)
    return made


class LightCustomers(MutableMapping[int, Record]):
    """Very many small records, each made when it is asked for: only changes take memory."""

    def __init__(self, count: int) -> None:
        self.made = range(11, 11 + 3 * count, 3)
        self.gone: set[int] = set()
        self.others: dict[int, Record] = {}

    def __getitem__(self, number: int) -> Record:
        if number in self.others:
            return self.others[number]
        if number not in self.made or number in self.gone:
            raise KeyError(number)
        stamp = timestamp(BEGIN + number * 20)
        return {
            "id": number,
            "email": f"customer{number}@shop-mail.example",
            "first_name": FIRST[number % len(FIRST)],
            "last_name": LAST[number % len(LAST)],
            "company": "",
            "phone": "",
            "registration_ip_address": "",
            "notes": "",
            "customer_group_id": number % 4,
            "date_created": stamp,
            "date_modified": stamp,
            "address_count": 0,
            "attribute_count": 0,
        }

    def __setitem__(self, number: int, record: Record) -> None:
        self.others[number] = record
        if number in self.made:
            self.gone.add(number)

    def __delitem__(self, number: int) -> None:
        if number in self.others:
            del self.others[number]
        elif number in self.made and number not in self.gone:
            self.gone.add(number)
        else:
            raise KeyError(number)

    def __contains__(self, number: object) -> bool:
        return number in self.others or (number in self.made and number not in self.gone)

    def __iter__(self) -> Iterator[int]:
        yield from (number for number in self.made if number not in self.gone)
        yield from self.others

    def __len__(self) -> int:
        return len(self.made) - len(self.gone) + len(self.others)


def ids_in_order(customers: MutableMapping[int, Record]) -> Sequence[int]:
    if isinstance(customers, LightCustomers) and not customers.gone and not customers.others:
        return customers.made  # a range: a page of it costs nothing
    return list(customers)


# --- parameters of the lists (pure) ---------------------------------------------------------------

Test = Callable[[Record], bool]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a store reads what the API's files leave open; a filter is compiled with it."""

    now: datetime  # when the request came
    zone: tzinfo = UTC  # of a date, or a date-time, that names none
    fold_emails: bool = False  # whether addresses are compared without regard to case
    inclusive: bool = False  # whether "before this date" and "after this date" take that moment too
    brands: Mapping[int, Record] = field(default_factory=dict)


Filter = Callable[[str, Reading], Test]


def whole_numbers(name: str, value: str) -> list[int]:
    """The ids of a comma list, all of them positive."""
    parts = value.split(",") if value else []
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise Invalid(name, "must be a list of positive integers")
    return [int(part) for part in parts]


def positive(query: Mapping[str, str], name: str, default: int) -> int:
    if name not in query:
        return default
    numbers = whole_numbers(name, query[name])
    if len(numbers) != 1:
        raise Invalid(name, "must be a positive integer")
    return numbers[0]


class DateWords(NamedTuple):
    """What one of the API's files says of its date filters."""

    exclusive: bool = False  # "after this date", "before this date": that moment is not meant
    at_request: bool = False  # a bound that is a date alone takes the time of day of the request
    offsets: bool = False  # an example of it has an offset from UTC
    mail: bool = False  # RFC 2822 is understood too


DATE_TYPES = {
    "date": DateWords(),  # price_lists.v3.yml says nothing of its bounds
    # customers.v3.yml:100 and subscribers.v3.yml:787: "created before this date", "after this date"
    "open_date": DateWords(exclusive=True),
    # products_catalog.v3.yml:9885 and 9891, "the API automatically adds the current time of the request"
    "request_date": DateWords(at_request=True),
    # products_catalog.v3.yml:9904 to 9928: "date_last_imported:max=2015-08-21T22%3A53%3A23%2B00%3A00"
    "import_date": DateWords(at_request=True, offsets=True),
    "mail_date": DateWords(offsets=True, mail=True),  # orders.v2.oas2.yml:1313, "RFC-2822 or ISO-8601"
}
# Where a file shows no offset there is Z or nothing: others were reported to fail.
DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\dZ?)?", re.ASCII)
DATE_TIME_WITH_OFFSET = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d(\.\d{3})?(Z|[+-]\d\d:\d\d)?)?", re.ASCII)
DATE_ALONE = len("2024-05-14")


def moment(name: str, value: str, words: DateWords, reading: Reading) -> datetime:
    """What a filter's date or date-time stands for."""
    try:
        if words.mail and "," in value:
            parsed = email.utils.parsedate_to_datetime(value)
        elif (DATE_TIME_WITH_OFFSET if words.offsets else DATE_TIME).fullmatch(value):
            parsed = datetime.fromisoformat(value)
        else:
            raise ValueError(value)
    except ValueError as error:
        raise Invalid(name, "must be a date or a date-time") from error
    if words.at_request and len(value) == DATE_ALONE:
        parsed = datetime.combine(parsed, reading.now.astimezone(reading.zone).time())
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=reading.zone)


def recorded(text: str) -> datetime:
    """When something happened, as a record of V3 or V2 tells it."""
    return datetime.fromisoformat(text) if text[4:5] == "-" else email.utils.parsedate_to_datetime(text)


def date_filter(name: str, base: str, operator: str, words: DateWords) -> Filter:
    """From or until a moment; or at that second, or on that day where the value is a date alone."""

    def compiled(value: str, reading: Reading) -> Test:
        bound = operator in ("min", "max")
        at = moment(name, value, words if bound else words._replace(at_request=False), reading)
        itself = not words.exclusive or reading.inclusive
        span = timedelta(days=1) if len(value) == DATE_ALONE else timedelta(seconds=1)

        def test(record: Record) -> bool:
            if record.get(base) is None:
                return operator == "not"
            when = recorded(record[base])
            if bound:
                return (when > at if operator == "min" else when < at) or (itself and when == at)
            return (timedelta(0) <= when - at < span) is (operator != "not")

        return test

    return compiled


def comparable(name: str, type_: str, reading: Reading) -> tuple[Callable[[str], Any], Callable[[Any], Any]]:
    """How a value of a filter of that type is read, and how the record's field is."""

    def matching(pattern: str, what: str, make: Callable[[str], Any]) -> Callable[[str], Any]:
        def read(value: str) -> Any:
            if not re.fullmatch(pattern, value):
                raise Invalid(name, f"must be {what}")
            return make(value)

        return read

    def folded(have: Any) -> str:
        return str(have).casefold()

    types: dict[str, tuple[Callable[[str], Any], Callable[[Any], Any]]] = {
        "text": (str.casefold, folded),
        "exact": (str, str),
        "email": (str.casefold, folded) if reading.fold_emails else (str, str),
        "int": (matching("-?[0-9]+", "an integer", int), lambda have: have),
        "number": (matching("-?[0-9]+([.][0-9]+)?", "a number", float), float),
        "bool": (matching("true|false", "true or false", str), lambda have: "true" if have else "false"),
        "flag": (matching("1|0", "1 or 0", str), lambda have: "1" if have else "0"),
    }
    # Anything else is the choices that the file lists, such as new|used.
    return types.get(type_) or (matching(type_, f"one of {type_}", str), folded)


def field_filter(name: str, type_: str, of: str = "") -> Filter:
    """The filter of that name: `field` or `field:operator`, or what `of` says; the field has the type."""
    base, _, operator = (of or name).partition(":")
    if type_ in DATE_TYPES:
        return date_filter(name, base, operator, DATE_TYPES[type_])

    def compiled(value: str, reading: Reading) -> Test:
        read, have = comparable(name, type_, reading)
        # A list is split at every comma and nowhere else: the second value of "a, b" is " b".
        listed = operator in ("in", "not_in")
        wanted = [read(part) for part in (value.split(",") if listed else [value])]
        one = wanted[0]

        def test(record: Record) -> bool:
            if record.get(base) is None:
                return operator == "not_in"
            found = have(record[base])
            match operator:
                case "like":
                    return one in found
                case "min":
                    return bool(found >= one)
                case "max":
                    return bool(found <= one)
                case "greater":
                    return bool(found > one)
                case "less":
                    return bool(found < one)
            return (found in wanted) is (operator != "not_in")

        return test

    return compiled


def filters_of(table: str) -> dict[str, Filter]:
    """Filters from "name/type name/type …"; a third part tells the field and the operator."""
    return {parts[0]: field_filter(*parts) for parts in (item.split("/") for item in table.split())}


def full_name(record: Record) -> str:
    return f"{record['first_name']} {record['last_name']}".lower()


def name_in(value: str, _: Reading) -> Test:
    wanted = set(value.lower().split(","))
    return lambda record: full_name(record) in wanted


def name_like(value: str, _: Reading) -> Test:
    """Of customers alone `name:like` is a list (customers.v3.yml:144)."""
    wanted = value.lower().split(",")
    return lambda record: any(part in full_name(record) for part in wanted)


def words_in(*names: str) -> Filter:
    """A search in some fields of the record."""

    def compiled(value: str, _: Reading) -> Test:
        wanted = value.casefold()
        return lambda record: any(wanted in str(record.get(n, "")).casefold() for n in names)

    return compiled


def product_keyword(value: str, reading: Reading) -> Test:
    """In the `name`, `description`, or `sku`, "or in the brand name"."""
    wanted, found = value.casefold(), words_in("name", "description", "sku")(value, reading)
    branded = {n for n, brand in reading.brands.items() if wanted in brand["name"].casefold()}
    return lambda record: found(record) or record["brand_id"] in branded


def members(name: str, field_name: str, *, every: bool) -> Filter:
    """A filter on a field that is itself a list of ids."""

    def compiled(value: str, _: Reading) -> Test:
        wanted = set(whole_numbers(name, value))
        if every:
            return lambda record: wanted <= set(record[field_name])
        return lambda record: bool(wanted & set(record[field_name]))

    return compiled


def only_category(value: str, _: Reading) -> Test:
    """A product that is in more than one category is not returned (products_catalog.v3.yml)."""
    wanted = whole_numbers("categories", value)
    return lambda record: record["categories"] == wanted


def inventory_low(value: str, reading: Reading) -> Test:
    """At or below the warning level: 1; above it: 0."""
    low, _ = comparable("inventory_low", "flag", reading)
    wanted = low(value) == "1"
    return lambda record: (record["inventory_level"] <= record["inventory_warning_level"]) is wanted


def out_of_stock(value: str, reading: Reading) -> Test:
    """Enabled by 1; another integer selects nothing."""
    whole, _ = comparable("out_of_stock", "int", reading)
    enabled = whole(value) == 1
    return lambda record: not enabled or record["inventory_level"] == 0


def order_email(value: str, reading: Reading) -> Test:
    """By "the email of the customer", which a guest's order has as well."""
    read, have = comparable("email", "email", reading)
    wanted = read(value)
    return lambda record: bool(have(record["billing_address"]["email"]) == wanted)


def targeted_channels(value: str, _: Reading) -> Test:
    """A promotion without channels targets all of them (promotions.v3.yml)."""
    wanted = set(whole_numbers("channels", value))
    return lambda record: not record["channels"] or bool({row["id"] for row in record["channels"]} & wanted)


def chosen(name: str, choices: str) -> Filter:
    """A parameter that selects nothing, of which only those values are known."""

    def compiled(value: str, reading: Reading) -> Test:
        read, _ = comparable(name, choices, reading)
        read(value)
        return lambda record: True

    return compiled


def cursor(number: int) -> str:
    return base64.urlsafe_b64encode(b'{"id":%d}' % number).decode().rstrip("=")


def cursor_position(name: str, value: str, order: Sequence[int], *, by_id: bool) -> int:
    """Where in the order the cursor's record stands, or would stand when it is gone by now."""
    try:
        number = int(json.loads(base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)))["id"])
        if by_id:
            at = bisect.bisect_left(order, number)
            return at if name == "before" or order[at : at + 1] == [number] else at - 1
        return order.index(number)
    except (ValueError, KeyError, TypeError) as error:
        raise Invalid(name, "is not a cursor") from error


def to_json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def problem(status: int, title: str, errors: Mapping[str, str] | None = None) -> Answer:
    """BigCommerce's error body."""
    body = {"status": status, "title": title, "type": STATUS_CODES_URL, "errors": errors or {}}
    return Answer(status, to_json(body))


def v2_problem(status: int, message: str) -> Answer:
    """An error body of V2."""
    return Answer(status, to_json([{"status": status, "message": message}]))


def store_information() -> dict[str, Any]:
    return {
        "id": STORE_HASH,
        "account_uuid": "00000000-0000-4000-8000-000000000001",
        "domain": "sandbox-store.example",
        "secure_url": "https://sandbox-store.example",
        "control_panel_base_url": f"https://store-{STORE_HASH}.mybigcommerce.example",
        "status": "live",
        "name": "Sandbox Store",
        "first_name": "Jane",
        "last_name": "Doe",
        "address": "1 Sandbox Way",
        "country": "United States",
        "country_code": "US",
        "infrastructure_region": "us-central1",
        "phone": "555-0100",
        "admin_email": "admin@sandbox-store.example",
        "order_email": "orders@sandbox-store.example",
        "favicon_url": "",
        "timezone": {
            "name": "America/Chicago",
            "raw_offset": -21600,
            "dst_offset": -18000,
            "dst_correction": True,
            "date_format": {"display": "M jS Y", "export": "M jS Y", "extended_display": "M jS Y @ g:i A"},
        },
        "language": "en",
        "currency": "USD",
        "currency_symbol": "$",
        "decimal_separator": ".",
        "thousands_separator": ",",
        "decimal_places": 2,
        "currency_symbol_location": "left",
        "weight_units": "Ounces",
        "dimension_units": "Inches",
        "dimension_decimal_places": 2,
        "dimension_decimal_token": ".",
        "dimension_thousands_token": ",",
        "plan_name": "Plus",
        "plan_level": "Plus",
        "plan_is_trial": False,
        "industry": "Technology",
        "logo": [],
        "is_price_entered_with_tax": False,
        "store_id": 1000000001,
        "default_channel_id": 1,
        "default_site_id": 1000,
        "active_comparison_modules": [],
        "features": {
            "stencil_enabled": True,
            "sitewidehttps_enabled": True,
            "facebook_catalog_id": "",
            "checkout_type": "optimized",
            "wishlists_enabled": True,
            "graphql_storefront_api_enabled": True,
            "shopper_consent_tracking_enabled": True,
            "multi_storefront_enabled": True,
            "storefront_limits": {"active": 1, "total_including_inactive": 1},
        },
    }


# --- made-up records of the other kinds --------------------------------------------------------------

Others = Mapping[str, MutableMapping[int, Record]]  # the records made so far, by kind
ADJECTIVE_NAMES = "Amber Brass Classic Folding Giant Hand-made Indigo Linen Midnight Oak Slim Tall Wool"
THING_NAMES = "Apron Basket Candle Desk Jar Journal Kettle Lamp Mug Notebook Pillow Rug Scarf Vase"
ADJECTIVES, THINGS = ADJECTIVE_NAMES.split(), THING_NAMES.split()


def offset_time(seconds: float) -> str:
    return timestamp(seconds).replace("Z", "+00:00")


def rfc_2822(seconds: float) -> str:
    return email.utils.formatdate(seconds).replace("-0000", "+0000")  # which stands for an unknown zone


def thing(number: int, rng: random.Random) -> str:
    return f"{rng.choice(ADJECTIVES)} {rng.choice(THINGS)} {number}"


def make_product(number: int, index: int, created: int, rng: random.Random, others: Others) -> Record:
    """Every 12th is hidden test data; every third has a brand, and a category where there are any."""
    name = f"TEST do not buy {number}" if index % 12 == 5 else thing(number, rng)
    price = round(rng.random() * 90 + 5, 2)
    brands, categories = list(others["brands"]), list(others["categories"])
    return {
        "id": number,
        "name": name,
        "type": "digital" if index % 9 == 4 else "physical",
        "sku": f"SKU-{number}",
        "description": f"<p>{name}</p>",
        "weight": round(rng.random() * 8, 1),
        "width": 0,
        "depth": 0,
        "height": 0,
        "price": price,
        "cost_price": 0,
        "retail_price": 0,
        "sale_price": 0,
        "map_price": 0,
        "tax_class_id": 0,
        "product_tax_code": "",
        "calculated_price": price,
        "categories": [rng.choice(categories)] if categories and index % 3 == 0 else [],
        "brand_id": rng.choice(brands) if brands and index % 3 == 0 else 0,
        "inventory_level": index % 7,
        "inventory_warning_level": 2,
        "inventory_tracking": "product",
        "reviews_rating_sum": 0,
        "reviews_count": 0,
        "total_sold": index % 5,
        "fixed_cost_shipping_price": 0,
        "is_free_shipping": index % 10 == 0,
        "is_visible": index % 12 != 5,
        "is_featured": index % 20 == 0,
        "related_products": [-1],
        "warranty": "",
        "bin_picking_number": "",
        "layout_file": "product.html",
        "upc": f"{number:012}" if index % 2 else "",
        "mpn": f"MPN-{number}" if index % 4 == 0 else "",
        "gtin": "",
        "search_keywords": "",
        "availability": "disabled" if index % 8 == 3 else "available",
        "availability_description": "",
        "sort_order": 0,
        "condition": "Used" if index % 15 == 7 else "New",
        "is_condition_shown": False,
        "order_quantity_minimum": 0,
        "order_quantity_maximum": 0,
        "page_title": "",
        "meta_keywords": [],
        "meta_description": "",
        "view_count": index,
        "is_preorder_only": False,
        "is_price_hidden": False,
        "price_hidden_label": "",
        "custom_url": {"url": f"/product-{number}/", "is_customized": False},
        "base_variant_id": number * 10,
        "date_created": offset_time(created),
        "date_modified": offset_time(created + index % 3 * 500_000),
        "date_last_imported": offset_time(created),
        "custom_fields": [{"id": number * 10, "name": "Season", "value": "Spring"}],
        "bulk_pricing_rules": [],
        "images": [{"id": number * 10, "product_id": number, "is_thumbnail": True, "sort_order": 0}],
        "primary_image": {"id": number * 10, "product_id": number, "is_thumbnail": True, "sort_order": 0},
        "videos": [],
        "options": [],
        "modifiers": [],
        "parent_relations": [],
        "channels": [1],
    }


def make_category(number: int, index: int, created: int, rng: random.Random, others: Others) -> Record:
    """Flat, but for every tenth, which stands below the one before it."""
    made = list(others["categories"])
    return {
        "category_id": number,
        "category_uuid": f"00000000-0000-4000-8000-{number:012}",
        "tree_id": 1 + index // 10 % 2,
        "parent_id": made[-1] if made and index % 10 == 9 else 0,
        "name": f"{rng.choice(THINGS)}s {number}",
        "description": "",
        "views": index,
        "sort_order": 0,
        "page_title": f"Title {index % 4}",
        "meta_keywords": [],
        "meta_description": "",
        "layout_file": "category.html",
        "image_url": "",
        "is_visible": index % 6 != 5,
        "search_keywords": "",
        "default_product_sort": "use_store_settings",
        "url": {"path": f"/category-{number}/", "is_customized": False},
    }


def older_category(record: Record) -> Record:
    """A category as v3/catalog/categories shows it."""
    cut = ("category_id", "category_uuid", "tree_id", "url")
    older: Record = {"id": record["category_id"], **{k: v for k, v in record.items() if k not in cut}}
    older["custom_url"] = {"url": record["url"]["path"], "is_customized": record["url"]["is_customized"]}
    return older


def make_brand(number: int, index: int, created: int, rng: random.Random, others: Others) -> Record:
    return {
        "id": number,
        "name": f"{rng.choice(LAST)} & {rng.choice(LAST)} {number}",
        "page_title": f"Title {index % 4}",
        "meta_keywords": [],
        "meta_description": "",
        "search_keywords": "",
        "image_url": "",
        "custom_url": {"url": f"/brand-{number}/", "is_customized": False},
    }


def make_promotion(number: int, index: int, created: int, rng: random.Random, others: Others) -> Record:
    by_coupon = index % 2 == 1
    of_coupons = {
        "coupon_overrides_other_promotions": False,
        "multiple_codes": {"has_multiple_codes": True},
        "coupon_type": "BULK",
    }
    return {
        "id": number,
        "name": f"{rng.choice(ADJECTIVES)} sale {number}",
        "display_name": "",
        "redemption_type": "COUPON" if by_coupon else "AUTOMATIC",
        "channels": [{"id": 1}],
        "created_from": "api",
        "customer": {"group_ids": [], "minimum_order_count": 0, "excluded_group_ids": []},
        "rules": [],
        "current_uses": 0,
        "max_uses": 100,
        "status": "DISABLED" if index % 5 == 0 else "ENABLED",
        "start_date": offset_time(created),
        "stop": False,
        "can_be_used_with_other_promotions": True,
        "currency_code": "EUR" if index % 7 == 0 else "USD",
        "notifications": [],
    } | (of_coupons if by_coupon else {})


def make_coupon(number: int, index: int, created: int, rng: random.Random, others: Others) -> Record:
    return {
        "id": number,
        "name": f"{rng.choice(ADJECTIVES)} coupon {number}",
        "type": ("per_total_discount", "percentage_discount", "free_shipping")[index % 3],
        "amount": "5.0000",
        "min_purchase": "0.0000",
        "expires": "",
        "enabled": True,
        "code": f"CODE{number}",
        "applies_to": {"entity": "categories", "ids": [0]},
        "num_uses": index % 3,
        "max_uses": 0,
        "max_uses_per_customer": 0,
        "restricted_to": {},
        "shipping_methods": [],
        "date_created": rfc_2822(created),
    }


def make_gift_certificate(
    number: int, index: int, created: int, rng: random.Random, others: Others
) -> Record:
    to, sender = rng.choice(FIRST), rng.choice(FIRST)
    return {
        "id": number,
        "code": f"{number:03}-5E2-BO4-RWT",
        "amount": "50.0000",
        "balance": f"{index % 6 * 10}.0000",
        "status": "expired" if index % 4 == 3 else "active",
        "to_name": to,
        "to_email": f"{ascii_slug(to)}{number}@shop-mail.example",
        "from_name": sender,
        "from_email": f"{ascii_slug(sender)}@shop-mail.example",
        "order_id": index % 3 * 100,
        "customer_id": 0,
        "template": "general.html",
        "message": "Congratulations!",
        "purchase_date": str(created),
        "expiry_date": str(created + 31_536_000),
        "currency_code": "USD",
    }


def make_price_list(number: int, index: int, created: int, rng: random.Random, others: Others) -> Record:
    return {
        "id": number,
        "name": f"{rng.choice(ADJECTIVES)} wholesale {number}",
        "active": index % 4 != 3,
        "date_created": timestamp(created),
        "date_modified": timestamp(created + 3600),
    }


def make_redirect(number: int, index: int, created: int, rng: random.Random, others: Others) -> Record:
    return {
        "id": number,
        "site_id": 1000 + index % 3,
        "from_path": f"/old/{thing(number, rng).lower().replace(' ', '-')}",
        "to": {"type": "url", "entity_id": 0, "url": f"/new-{number}/"},
        "to_url": f"https://sandbox-store.example/new-{number}/",
    }


def make_page(number: int, index: int, created: int, rng: random.Random, others: Others) -> Record:
    """Flat, but for every tenth, which stands below the one before it."""
    made = list(others["pages"])
    return {
        "id": number,
        "channel_id": 1 + index // 10 % 2,
        "name": f"About the {rng.choice(THINGS)} {number}",
        "is_visible": True,
        "parent_id": made[-1] if made and index % 10 == 9 else 0,
        "sort_order": 0,
        "type": "raw",
        "is_homepage": False,
        "is_customers_only": False,
        "url": f"/page-{number}",
        "search_keywords": None,
        "content_type": "text/html",
        "body": f"<p>Page {number}</p>",
    }


def make_subscriber(number: int, index: int, created: int, rng: random.Random, others: Others) -> Record:
    first, last = rng.choice(FIRST), rng.choice(LAST)
    return {
        "id": number,
        "email": f"{ascii_slug(first)}{number}@{'mailbin' if index % 10 == 5 else 'shop-mail'}.example",
        "first_name": first,
        "last_name": last,
        "source": "storefront" if index % 2 else "order",
        "order_id": index + 100 if index % 2 == 0 else None,
        "channel_id": 1,
        "consents": ["marketing_newsletter"],
        "date_created": timestamp(created),
        "date_modified": timestamp(created + 60),
    }


def make_order(number: int, index: int, created: int, rng: random.Random, others: Others) -> Record:
    """Every fourth is a guest's, who has no customer id: 0; the others are of the first 1,000 customers."""
    customers = list(itertools.islice(others["customers"], 1000))
    customer = rng.choice(customers) if customers and index % 4 else 0
    return {
        "id": number,
        "customer_id": customer,
        "cart_id": f"00000000-0000-4000-9000-{number:012}",
        "external_order_id": "",
        "external_id": None,
        "status_id": 10 if index % 3 else 11,
        "status": "Completed" if index % 3 else "Awaiting Fulfillment",
        "date_created": rfc_2822(created),
        "date_modified": rfc_2822(created + 600),
        "subtotal_tax": "0.0000",
        "total_inc_tax": f"{rng.randrange(5, 200)}.0000",
        "items_total": 1 + index % 3,
        "payment_method": "Manual",
        "payment_status": "captured",
        "currency_code": "USD",
        "channel_id": 1,
        "is_deleted": False,
        "billing_address": {"email": f"buyer{customer or number}@shop-mail.example", "zip": "78701"},
    }


Make = Callable[[int, int, int, random.Random, Others], Record]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One resource, as its OpenAPI file describes the list and the DELETEs."""

    name: str
    path: str  # of the list and the collection's DELETE, below /stores/<hash>/
    scope: str  # "…_read_only" is enough to read
    make: Make
    records: str = ""  # the kind whose records these are, where a second path shows them
    view: Callable[[Record], Record] | None = None  # how a record is shown, where not as it is
    id_field: str = "id"
    filters: Mapping[str, Filter]
    includes: Mapping[str, str] = field(default_factory=dict)  # parameter's word → field, "": none
    sorts: frozenset[str] = frozenset()
    others: frozenset[str] = frozenset({"page", "limit"})  # further parameters of the list
    cursors: bool = False
    by: str = "id:in"  # what names ids in a DELETE of the collection
    deletes: frozenset[str] = frozenset({"id:in"})  # parameters that such a DELETE knows
    needs: frozenset[str] | None = None  # one of them (None: of `deletes`) must be given, or else:
    bare: str = "refuse"  # 422; "nothing": 204; "all": everything is deleted
    max_batch: int = BATCH
    too_many: int = 413  # what more of them are answered with (customers.v3.yml:317, of a POST)
    refuses_limits: bool = False  # of more than MOST_ROWS, where the file has a maximum; else they are cut
    cursor_alone: bool = False  # `before` and `after` go with neither `page` nor one another
    unknown_parameter: int | None = None  # what the list answers one with; None: it is ignored
    max_concurrent: int | None = None  # DELETEs at once
    done: int = 204
    one: bool = True  # DELETE <path>/<id>
    missing: int = 204  # what that answers for an id that is not there
    missing_of_several: int | None = None  # what a DELETE by ids answers if some of them are not there
    read_one: bool = False  # GET <path>/<id>
    archives: bool = False  # a DELETE leaves the records, marked as deleted

    @property
    def store(self) -> str:
        return self.records or self.name

    @property
    def v2(self) -> bool:
        return self.path.startswith("v2/")

    @property
    def sub_resources(self) -> frozenset[str]:
        return frozenset(self.includes.values()) - {""}

    @property
    def parameters(self) -> frozenset[str]:
        """All that the list knows."""
        named = {"sort"} if self.sorts else set()
        return self.others | self.filters.keys() | named | ({"include"} if self.includes else set())


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def dates(type_: str, *names: str) -> str:
    return " ".join(f"{name}/{type_} {name}:min/{type_} {name}:max/{type_}" for name in names)


def ranges(name: str, type_: str = "int") -> str:
    return " ".join(f"{name}:{way}/{type_}" for way in ("min", "max", "greater", "less"))


INCLUDES = {
    "addresses": "addresses",
    "storecredit": "store_credit_amounts",
    "attributes": "attributes",
    "formfields": "form_fields",
    "shopper_profile_id": "",  # beta; understood, but these customers have none
    "segment_ids": "",
}
SUB_RESOURCES = frozenset(INCLUDES.values()) - {""}
SORTS = frozenset(
    f"{name}:{way}" for name in ("date_created", "date_modified", "last_name") for way in ("asc", "desc")
)
FILTERS = filters_of(
    "id:in/int company:in/exact customer_group_id:in/int email:in/email phone:in/exact"
    f" registration_ip_address:in/exact {dates('open_date', 'date_created', 'date_modified')}"
) | {"name:in": name_in, "name:like": name_like}
PAGES = frozenset({"page", "limit"})
FIELDS = frozenset({"include_fields", "exclude_fields"})
DIRECTION = frozenset({"direction"})
PRODUCT_FILTERS = filters_of(
    f"id/int id:in/int id:not_in/int {ranges('id')} name/text mpn/text upc/text price/number weight/number"
    f" condition/new|used|refurbished brand_id/int {dates('request_date', 'date_modified')}"
    f" {dates('import_date', 'date_last_imported')} date_last_imported:not/import_date is_visible/bool"
    " is_featured/flag is_free_shipping/flag inventory_level/int inventory_level:in/int"
    f" inventory_level:not_in/int {ranges('inventory_level')} total_sold/int type/digital|physical"
    " availability/available|disabled|preorder sku/text sku:in/text"
) | {
    "channel_id:in": members("channel_id:in", "channels", every=False),
    "categories": only_category,
    "categories:in": members("categories:in", "categories", every=True),
    "inventory_low": inventory_low,
    "out_of_stock": out_of_stock,
    "keyword": product_keyword,
    "keyword_context": chosen("keyword_context", "shopper|merchant"),
}
COUPON_TYPES = (
    "per_item_discount|percentage_discount|per_total_discount|shipping_discount|free_shipping|promotion"
)
ID_BOUNDS = "min_id/int/id:min max_id/int/id:max"  # of V2
CATEGORY_FILTERS = (
    f"id/int id:in/int id:not_in/int {ranges('id')} name/text name:like/text parent_id/int parent_id:in/int"
    f" {ranges('parent_id')} page_title/text page_title:like/text is_visible/bool"
)
WORDS_OF_CATEGORY = {"keyword": words_in("name", "description")}

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            name="customers",
            path="v3/customers",
            scope="store_v2_customers",
            make=lambda number, index, created, rng, _: make_customer(number, index, created, rng),
            filters=FILTERS,
            includes=INCLUDES,
            sorts=SORTS,
            others=frozenset({"page", "limit", "before", "after"}),
            cursors=True,
            bare="nothing",
            one=False,
        ),
        Kind(
            name="products",
            path="v3/catalog/products",
            scope="store_v2_products",
            make=make_product,
            filters=PRODUCT_FILTERS,
            includes={
                "bulk_pricing_rules": "bulk_pricing_rules",
                "channels": "channels",
                "custom_fields": "custom_fields",
                "images": "images",
                "modifiers": "modifiers",
                "options": "options",
                "parent_relations": "parent_relations",
                "primary_image": "primary_image",
                "reviews": "",  # the file has no field for these two
                "variants": "",
                "videos": "videos",
            },
            sorts=words(
                "id name sku price date_modified date_last_imported inventory_level is_visible total_sold"
                " calculated_price"
            ),
            others=PAGES | FIELDS | DIRECTION,
            deletes=words(
                "name sku price weight condition brand_id date_modified date_last_imported is_visible"
                " is_featured id:in inventory_level total_sold type categories keyword"
            ),
            max_batch=250,  # "The maximum number of products you can delete at one time is 250."
            refuses_limits=True,
            read_one=True,
        ),
        Kind(
            name="categories",
            path="v3/catalog/trees/categories",
            scope="store_v2_products",
            make=make_category,
            id_field="category_id",
            filters=filters_of(
                "category_uuid:in/text category_uuid:not_in/text category_id:in/int category_id:not_in/int"
                " tree_id:in/int tree_id:not_in/int parent_id:in/int parent_id:not_in/int page_title/text"
                " page_title:like/text name/text name:like/text is_visible/bool"
            )
            | WORDS_OF_CATEGORY,
            others=PAGES | FIELDS,
            refuses_limits=True,
            by="category_id:in",
            deletes=frozenset({"category_uuid:in", "category_id:in", "tree_id:in", "parent_id:in"}),
            bare="all",
            done=202,
            one=False,
        ),
        Kind(
            name="older_categories",
            path="v3/catalog/categories",
            scope="store_v2_products",
            make=make_category,
            records="categories",
            view=older_category,
            filters=filters_of(CATEGORY_FILTERS) | WORDS_OF_CATEGORY,
            sorts=frozenset({"name", "id", "parent_id", "sort_order"}),
            others=PAGES | FIELDS,
            deletes=frozenset(filters_of(CATEGORY_FILTERS)) | {"keyword"},
            read_one=True,
        ),
        Kind(
            name="brands",
            path="v3/catalog/brands",
            scope="store_v2_products",
            make=make_brand,
            filters=filters_of(
                f"id/int id:in/int id:not_in/int {ranges('id')} name/text name:like/text page_title/text"
            ),
            sorts=frozenset({"name"}),
            others=PAGES | FIELDS | DIRECTION,
            by="",
            deletes=frozenset({"name", "page_title"}),
            needs=frozenset({"name"}),
            missing=404,
            read_one=True,
        ),
        Kind(
            name="promotions",
            path="v3/promotions",
            scope="store_v2_marketing",
            make=make_promotion,
            filters=filters_of(
                "id/int name/text currency_code/text redemption_type/automatic|coupon status/text"
            )
            | {
                "code": lambda *_: lambda record: False,  # none of their codes is made up
                "query": words_in("name"),
                "channels": targeted_channels,
            },
            sorts=frozenset({"id", "name", "priority", "start_date"}),
            others=PAGES | DIRECTION,
            max_batch=50,  # "Currently, batches are limited to 50 promotions."
            too_many=422,  # "Response for bulk delete operations on promotions."
            refuses_limits=True,
            read_one=True,
        ),
        Kind(
            name="coupons",
            path="v2/coupons",
            scope="store_v2_marketing",
            make=make_coupon,
            filters=filters_of(
                f"id/int code/text name/text type/{COUPON_TYPES} exclude_type/{COUPON_TYPES}/type:not_in"
                f" {ID_BOUNDS}"
            ),
            bare="all",
            missing=404,
        ),
        Kind(
            name="gift_certificates",
            path="v2/gift_certificates",
            scope="store_v2_marketing",
            make=make_gift_certificate,
            filters=filters_of(
                "code/text order_id/int to_name/text to_email/email from_name/text from_email/email"
                f" {ID_BOUNDS}"
            ),
            sorts=frozenset({"id"}),
            others=PAGES | DIRECTION,
            refuses_limits=True,
            by="",
            deletes=frozenset(),
            bare="all",
            missing=404,
            read_one=True,
        ),
        Kind(
            name="price_lists",
            path="v3/pricelists",
            scope="store_v2_products",
            make=make_price_list,
            filters=filters_of(
                f"id:in/int name/text name:like/text {dates('date', 'date_created', 'date_modified')}"
            ),
            others=PAGES | {"before", "after"},
            cursors=True,
            cursor_alone=True,  # "Cannot be used with the 'page' query parameter."
            deletes=frozenset({"id:in", "name"}),
            bare="all",
            max_concurrent=1,
            read_one=True,
        ),
        Kind(
            name="redirects",
            path="v3/storefront/redirects",
            scope="store_v2_content",
            make=make_redirect,
            filters=filters_of("site_id/int id:in/int id:min/int id:max/int")
            | {
                "keyword": lambda value, _: (
                    lambda record: record["from_path"].startswith("/" + value.lstrip("/"))
                )
            },
            includes={"to_url": "to_url"},
            sorts=frozenset({"from_path", "type", "site_id", "id"}),
            others=PAGES | DIRECTION,
            deletes=frozenset({"id:in", "site_id"}),
            needs=frozenset({"id:in"}),
            one=False,
        ),
        Kind(
            name="pages",
            path="v3/content/pages",
            scope="store_v2_content",
            make=make_page,
            filters=filters_of("channel_id/int id:in/int name/text")
            | {"name:like": words_in("name", "body")},
            includes={"body": "body"},
            unknown_parameter=400,  # "passing query parameters that are not supported on this endpoint"
            deletes=frozenset({"id:in", "delete_children"}),
            needs=frozenset({"id:in"}),
            missing=404,
            read_one=True,
            missing_of_several=404,  # "Specified pages that did exist were successfully deleted."
        ),
        Kind(
            name="subscribers",
            path="v3/customers/subscribers",
            scope="store_v2_customers",
            make=make_subscriber,
            filters=filters_of(
                "email/email first_name/text last_name/text source/text order_id/int id/int id:in/int "
                + dates("open_date", "date_created", "date_modified")
            ),
            by="",
            deletes=words("email first_name last_name source order_id date_created date_modified"),
            bare="all",
            read_one=True,
        ),
        Kind(
            name="orders",
            path="v2/orders",
            scope="store_v2_orders",
            make=make_order,
            filters=filters_of(
                f"{ID_BOUNDS} min_total/number/total_inc_tax:min max_total/number/total_inc_tax:max"
                " customer_id/int status_id/int cart_id/exact payment_method/text channel_id/int"
                " external_order_id/exact min_date_created/mail_date/date_created:min"
                " max_date_created/mail_date/date_created:max min_date_modified/mail_date/date_modified:min"
                " max_date_modified/mail_date/date_modified:max"
            )
            | {"email": order_email, "consignment_structure": chosen("consignment_structure", "object")},
            includes=dict.fromkeys(("consignments", "consignments.line_items", "fees"), ""),  # they have none
            sorts=frozenset(
                f"{name}{way}"
                for name in words(
                    "id customer_id date_created date_modified status_id channel_id external_id"
                )
                for way in ("", ":asc", ":desc")
            ),
            by="",
            deletes=frozenset({"limit"}),
            needs=frozenset(),
            bare="all",
            one=False,
            read_one=True,
            archives=True,
        ),
    )
}
NAMES = tuple(kind.name for kind in KINDS.values() if not kind.records)
SCOPES = frozenset(
    {"store_v2_information_read_only", "store_v2_orders_read_only"}
    | {kind.scope for kind in KINDS.values() if kind.name != "orders"}
)


def kind_at(path: str) -> tuple[Kind, str] | None:
    """The kind that a path below /stores/<hash>/ belongs to, and what follows its own path."""
    for kind in KINDS.values():
        if path == kind.path:
            return kind, ""
    for kind in KINDS.values():
        if path.rpartition("/")[0] == kind.path:
            return kind, path.rpartition("/")[2]
    return None


def make_records(name: str, count: int, seed: int, others: Others) -> None:
    """Fill others[name]: ids have gaps, and ascend with the time at which they were made."""
    rng = random.Random(f"{name} {seed}")
    number, step = 10, (END - BEGIN) / max(count, 1)
    for index in range(count):
        number += 1 if rng.random() < 0.8 else 2 + int(rng.random() * 8)
        created = BEGIN + int((index + rng.random()) * step)
        others[name][number] = KINDS[name].make(number, index, created, rng, others)


class Shelf:
    """The records of one kind, and what was made of them for its lists."""

    def __init__(self, records: MutableMapping[int, Record]) -> None:
        self.records = records
        self.next_id = max(ids_in_order(records)[-1:], default=10) + 1
        self.changes = 0
        self.ghosts: dict[int, tuple[Record, float]] = {}
        self.json: dict[object, dict[int, bytes]] = {}
        self.orders: dict[object, Sequence[int]] = {}
        self.orders_of = (0, 0)

    def changed(self, *ids: int) -> None:
        self.changes += 1
        for cached in self.json.values():
            for number in ids:
                cached.pop(number, None)

    def record(self, number: int) -> Record:
        return self.records[number] if number in self.records else self.ghosts[number][0]


def write_private(path: Path, text: str) -> None:
    """Write a file that its owner alone can read."""
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text, encoding="utf-8")


# --- the store -----------------------------------------------------------------------------------


class FakeStore:
    """The store; `with FakeStore(...) as store:` serves it until the block is left.

    It is as strict as BigCommerce's API files. What they leave open it does in the way that is harder on a
    client, and a test may choose the other: with `email_case` and `date_bounds`, and later with
    `info["timezone"]`, `guards_subtrees` and `lists_archived`. `violations` are requests that no client of a
    real store should ever send.

    Records that were listed already are cached as JSON: change them through `change`.
    """

    def __init__(
        self,
        *,
        customers: int = 1003,
        quota: int | None = 150,  # None: an unlimited plan; may be changed while it runs
        window: float = 3.0,
        latency: float | Callable[[Request], float] = 0.0,
        seed: int = 1,
        light: bool = False,
        lag: float = 0.0,  # seconds for which a deleted record still shows in lists
        window_anchor: str = "first",  # "grid": windows start with the store, not with a request
        count_latency: str = "after",  # counted on arrival, then the latency; or "before" it
        count_items: bool = False,  # each id of a DELETE costs a token
        max_batch: int = BATCH,  # of customers
        email_case: str = "exact",  # how addresses are compared, which no file tells; or "folded"
        date_bounds: str = "worded",  # `:min` and `:max` as the files word them; or "inclusive" everywhere
        folder: Path | None = None,  # where ca.pem is written, and stays; None: a temporary one
        **counts: int,  # of the other kinds: products=60, orders=20, …
    ) -> None:
        self.quota, self.window, self.latency, self.lag = quota, window, latency, lag
        self.window_anchor, self.count_latency = window_anchor, count_latency
        self.count_items, self.max_batch = count_items, max_batch
        self.email_case, self.date_bounds, self.folder = email_case, date_bounds, folder
        if unknown := counts.keys() - set(NAMES):
            raise TypeError(f"FakeStore has no such kinds of records: {unknown}")
        self.records: dict[str, MutableMapping[int, Record]] = {name: {} for name in NAMES}
        self.records["customers"] = LightCustomers(customers) if light else make_customers(customers, seed)
        for name in ("categories", "brands", *counts):  # those that others name come first
            if not self.records[name]:
                make_records(name, counts.get(name, 0), seed, self.records)
        self.token, self.store_hash = TOKEN, STORE_HASH
        self.scopes = set(SCOPES)
        self.info = store_information()
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)
        self.log: list[Request] = []
        self.faults: list[Fault] = []
        self.violations: list[str] = []
        self.connections = self.max_in_flight = self.other_refused = 0
        self.deaf: set[str] = set()  # parameters that are ignored without a word
        self.refuse: dict[int, tuple[int, object]] = {}  # a DELETE with one of them does nothing
        self.per_item: dict[int, tuple[int, str]] = {}  # refused alone; the others are deleted
        self.per_item_status, self.per_item_shape = 207, "errors"  # or "meta" or "rows"
        self.sticky: dict[int, float] = {}  # DELETEs still to be answered 204 without any effect
        self.with_codes: set[int] = set()  # promotions that still have coupon codes attached
        self.price_records: dict[int, list[Record]] = {}  # by price list
        self.guards_subtrees = False  # a category whose child holds products is refused too
        self.lists_archived = False  # archived orders are listed like the others
        self.partial_promotions = False  # the others of such a batch go, and the answer is 422 too
        self.others: collections.Counter[int] = collections.Counter()  # window → others' tokens

        self._rng = random.Random(seed + 1)
        self._shelves = {name: Shelf(records) for name, records in self.records.items()}
        self._busy: collections.Counter[str] = collections.Counter()  # kind → DELETEs in flight
        self._lock = threading.RLock()
        self._anchor: float | None = None
        self._used: collections.Counter[int] = collections.Counter()
        self._in_flight = 0
        self._sockets: set[socket.socket] = set()
        self._stopping = threading.Event()

    @property
    def customers(self) -> MutableMapping[int, Record]:
        return self.records["customers"]

    # serving

    def __enter__(self) -> Self:
        self._listener = self._listen()
        self.port: int = self._listener.getsockname()[1]
        # Windows tries ::1 first for localhost, and takes two seconds to be refused.
        self.host = f"{'127.0.0.1' if os.name == 'nt' else 'localhost'}:{self.port}"
        self._folder = self.folder or Path(tempfile.mkdtemp(prefix="fake-store-"))
        self.ca_file = self._folder / "ca.pem"
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.ca_file))
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.num_tickets = 0  # no client here resumes a session
        authority.issue_cert("localhost", "127.0.0.1").configure_cert(self._tls)
        if self.window_anchor == "grid":
            self._anchor = time.monotonic()
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept(), which close() does not
        self._listener.close()
        self._acceptor.join(5)
        with self._lock:
            opened = list(self._sockets)
        for plain in opened:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(plain, socket.SHUT_RDWR)
        if self.folder is None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _listen(self) -> socket.socket:
        return socket.create_server(("127.0.0.1", 0), backlog=128)

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                number = self.connections
            threading.Thread(target=self._serve, args=(plain, number), daemon=True).start()

    def _serve(self, plain: socket.socket, number: int) -> None:
        """One connection, in a thread of its own, from the handshake to its end."""
        tls: socket.socket = plain
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            tls = self._tls.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
            with self._lock:
                self._sockets.add(tls)
            assert isinstance(tls, ssl.SSLSocket)
            tls.do_handshake()
            self._converse(tls, number)
        except (OSError, ValueError):
            pass  # the client went away, or does not trust the CA, or does not speak HTTP
        finally:
            with self._lock:
                self._sockets.discard(tls)
            tls.close()

    def _converse(self, tls: ssl.SSLSocket, connection: int) -> None:
        buffer = b""
        while not self._stopping.is_set():
            while (end := buffer.find(b"\r\n\r\n")) < 0:
                received = tls.recv(65536)
                if not received:
                    return
                buffer += received
            head, buffer = buffer[:end].decode("latin-1").split("\r\n"), buffer[end + 4 :]
            method, target, _ = head[0].split(" ")
            headers: dict[str, str] = {}
            for line in head[1:]:
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            length = int(headers.get("content-length") or 0)
            while len(buffer) < length:
                received = tls.recv(65536)
                if not received:
                    return
                buffer += received
            buffer = buffer[length:]
            if not self._exchange(tls, self._arrive(method, target, headers, connection)):
                return
            if headers.get("connection", "").lower() == "close":
                return

    def _arrive(self, method: str, target: str, headers: dict[str, str], connection: int) -> Request:
        path, _, query_string = target.partition("?")
        query = dict(urllib.parse.parse_qsl(query_string, keep_blank_values=True))
        named = query.get("id:in", query.get("category_id:in"))
        ids = [path.rpartition("/")[2]] if named is None else named.split(",")
        with self._lock:
            self._in_flight += 1
            self.max_in_flight = max(self.max_in_flight, self._in_flight)
            request = Request(
                number=len(self.log) + 1,
                method=method,
                path=path,
                query=query,
                headers=headers,
                arrived=time.monotonic(),
                connection=connection,
                in_flight=self._in_flight,
                ids=tuple(int(part) for part in ids if part.isascii() and part.isdigit()),
            )
            self.log.append(request)
            if name := self._deleting(request):
                self._busy[name] += 1
                request.beside = self._busy[name]
            if "authorization" in headers:
                self.violations.append(f"{method} {path} with an Authorization header")
            if method not in ("GET", "DELETE"):
                self.violations.append(f"{method} {path}: only GET and DELETE are expected")
        return request

    def _deleting(self, request: Request) -> str:
        """The kind that a DELETE is for, "" for anything else."""
        found = kind_at(request.path.split("/", 3)[-1]) if request.method == "DELETE" else None
        return found[0].store if found else ""

    def _exchange(self, tls: ssl.SSLSocket, request: Request) -> bool:
        """Answer one request; False when the connection ends with it."""
        try:
            answer, data, close = self._prepare(request)
        except Exception as error:  # a test's own function's
            self.violations.append(f"a scripted function failed: {error!r}")
            answer, data, close = None, b"", "reset"
        with self._lock:  # before it is sent: the client may send its next request at once
            self._in_flight -= 1
            if name := self._deleting(request):
                self._busy[name] -= 1
            request.status = answer.status if answer else 0
            request.answered = time.monotonic()
        if answer is None:
            tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
            return False
        tls.sendall(data)
        return not close

    def _prepare(self, request: Request) -> tuple[Answer | None, bytes, str]:
        """The answer (None: there is to be none), its bytes, and how the connection is to end."""
        if self.count_latency == "before":
            self._wait(request, self.latency)
        with self._lock:
            fault, quota_headers = self._count(request)
        if self.count_latency == "after":
            self._wait(request, self.latency)
        answer: Answer | None
        if fault:
            answer = self._faulty(request, fault)
        elif request.counted:
            answer = self._deed(request)
        else:
            seconds = math.ceil(int(quota_headers["X-Rate-Limit-Time-Reset-Ms"]) / 1000)
            too_many = problem(429, "Too many requests")
            answer = too_many._replace(headers={"X-Retry-After": str(seconds)})
        close = fault.close if fault else ""
        headers = {"Date": email.utils.formatdate(usegmt=True)}
        if fault is None or fault.quota_headers:
            headers |= quota_headers
        data = self._message(answer, headers, fault, cut=close == "cut") if answer else b""
        return answer, data, close

    def _wait(self, request: Request, seconds: float | Callable[[Request], float]) -> None:
        seconds = seconds(request) if callable(seconds) else seconds
        if seconds > 0:
            self._stopping.wait(seconds)

    def _message(self, answer: Answer, headers: dict[str, str], fault: Fault | None, *, cut: bool) -> bytes:
        """Head and body in one piece; half of the body when it is to be cut off."""
        if answer.body:
            headers["Content-Type"] = "application/json"
        headers |= answer.headers
        if answer.status not in (204, 304):
            headers["Content-Length"] = str(len(answer.body))
        if fault:
            named = {name.lower() for name in fault.headers}
            headers = {k: v for k, v in headers.items() if k.lower() not in named} | fault.headers
        try:
            phrase = http.HTTPStatus(answer.status).phrase
        except ValueError:
            phrase = "Unknown"
        lines = [f"HTTP/1.1 {answer.status} {phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        body = answer.body[: len(answer.body) // 2] if cut else answer.body
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body

    def _faulty(self, request: Request, fault: Fault) -> Answer | None:
        if fault.hook:
            fault.hook(request)
        self._wait(request, fault.delay)
        reads = request.method == "GET" and fault.close != "reset"
        ordinary = None
        if fault.commit or (fault.status is None and (not fault.close or reads)):
            ordinary = self._deed(request)
        if fault.after:
            fault.after(request)
        if fault.close == "reset":
            return None
        if fault.status is None and ordinary and (ordinary.body or not fault.close):
            return self._rewritten(request, ordinary, fault)
        if fault.status is None:  # an empty answer cannot be cut off
            return Answer(200, to_json({"data": [], "meta": {"note": "this is cut off"}}))
        body = fault.body
        if not isinstance(body, bytes):
            body = b"" if body is None else body.encode() if isinstance(body, str) else to_json(body)
        return Answer(fault.status, body, {"Content-Type": fault.content_type} if body else {})

    def _rewritten(self, request: Request, answer: Answer, fault: Fault) -> Answer:
        if fault.rewrite is None:
            return answer
        value = fault.rewrite(request, json.loads(answer.body) if answer.body else None)
        if value is None:
            return answer
        return answer._replace(status=200 if answer.status == 204 else answer.status, body=to_json(value))

    # the quota; everything below runs with the lock held

    def _window(self) -> tuple[int, float]:
        """The number of the present window, and the seconds that are left of it."""
        now = time.monotonic()
        if self._anchor is None:
            self._anchor = now
        number, into = divmod(now - self._anchor, self.window)
        return int(number), self.window - into

    def _count(self, request: Request) -> tuple[Fault | None, dict[str, str]]:
        """Take the request's tokens; the headers tell the quota as of this moment."""
        quota = UNLIMITED if self.quota is None else self.quota
        request.window, reset = self._window()
        request.left = max(0, quota - self._used[request.window])
        fault = self._fault_for(request)
        if request.left and (fault is None or fault.counts):
            items = len(request.ids) if self.count_items and request.method == "DELETE" else 1
            request.counted, request.cost = True, min(max(items, 1), request.left)
            self._used[request.window] += request.cost
            request.left -= request.cost
        return fault, {
            "X-Rate-Limit-Time-Window-Ms": str(round(self.window * 1000)),
            "X-Rate-Limit-Time-Reset-Ms": str(math.ceil(reset * 1000)),
            "X-Rate-Limit-Requests-Quota": str(quota),
            "X-Rate-Limit-Requests-Left": str(request.left),
        }

    def _fault_for(self, request: Request) -> Fault | None:
        path = request.path.split("/", 3)[-1]
        for fault in self.faults:
            if (
                (request.left or not fault.counts)  # without quota: a plain 429, not this match
                and fault.method in ("*", request.method)
                and fnmatch.fnmatchcase(path, fault.path)
                and (fault.where is None or fault.where(request))
            ):
                fault.seen += 1
                if fault.skip < fault.seen <= fault.skip + fault.times:
                    return fault
        return None

    # the deeds

    def _deed(self, request: Request) -> Answer:
        with self._lock:
            try:
                return self._route(request)
            except Invalid as error:
                name = error.name
                if request.path.split("/")[3] == "v2":  # 400: of customers.v2.yml, /customer_groups/{id}
                    return v2_problem(400, f"The field '{name}' is invalid.")
                words = {name: f"{name} {error.message}"}
                return problem(error.status or 422, f"The {name} was not valid.", words)

    def _route(self, request: Request) -> Answer:
        prefix = f"/stores/{self.store_hash}/"
        if not request.path.startswith(prefix):
            return problem(404, "The resource at that URL is not found.")
        if request.headers.get("x-auth-token") != self.token:
            return problem(401, "X-Auth-Token header is required and must be valid")
        # What ends with a slash is the collection, whatever the client meant.
        path = request.path.removeprefix(prefix).rstrip("/")
        found, method = kind_at(path), request.method
        if method not in ("GET", "DELETE"):
            return problem(405, "Method not allowed")
        if (method, path) == ("GET", "v2/store"):
            return self._scoped("store_v2_information", request, lambda: Answer(200, to_json(self.info)))
        if (method, path) == ("DELETE", "v2/customers"):
            return self._scoped("store_v2_customers", request, lambda: self._delete_all("customers", path))
        if found is None:
            return problem(404, "The resource at that URL is not found.")
        kind, tail = found
        if tail and not (kind.read_one if method == "GET" else kind.one):
            return problem(404, "The resource at that URL is not found.")
        deed = functools.partial(self._list if method == "GET" else self._delete, kind, request)
        if tail:
            deed = functools.partial(self._read if method == "GET" else self._delete_one, kind, request, tail)
        return self._scoped(kind.scope, request, deed)

    def _scoped(self, scope: str, request: Request, deed: Callable[[], Answer]) -> Answer:
        enough = {scope, f"{scope}_read_only"} if request.method == "GET" else {scope}
        if not enough & self.scopes:
            return problem(403, "You don't have a required scope to access the endpoint")
        return deed()

    def _delete_all(self, name: str, path: str) -> Answer:
        self.violations.append(f"DELETE /{path} without a filter: that deletes everything")
        for number in list(self.records[name]):
            if KINDS[name].archives:
                self.change(number, kind=name, is_deleted=True)
            else:
                self._drop(name, number)
        return Answer(202 if name == "categories" else 204)

    def _delete(self, kind: Kind, request: Request) -> Answer:
        """DELETE of a collection: by ids, by its other filters, or by none."""
        query = self._heard(request, kind.deletes)
        needs = kind.deletes if kind.needs is None else kind.needs
        if not any(query.get(name) for name in needs):
            if kind.bare == "all":
                return self._delete_all(kind.store, kind.path)
            self.violations.append(f"DELETE /{kind.path} without {' or '.join(sorted(needs))}")
            if kind.bare == "nothing":
                return Answer(204)
            return problem(422, f"Parameter {min(needs)} is required")
        if busy := self._too_busy(kind, request):
            return busy
        ids: list[int] | None = None
        if value := query.get(kind.by, ""):
            largest = self.max_batch if kind.name == "customers" else kind.max_batch
            if value.count(",") >= largest:
                return problem(kind.too_many, f"The maximum number of items is {largest}.")
            try:
                ids = whole_numbers(kind.by, value)
            except Invalid:
                self.violations.append(f"DELETE with an id that is no positive integer: {value!r}")
                raise
        reading = self._reading()
        tests = [
            kind.filters[name](value, reading)
            for name, value in query.items()
            if name in kind.filters and name in kind.deletes and name != kind.by
        ]
        if tests:
            shelf = self._shelves[kind.store]
            among = [n for n in (list(shelf.records) if ids is None else ids) if n in shelf.records]
            ids = [n for n in among if all(test(self._shown(kind, n)) for test in tests)]
        children = query.get("delete_children") == "true"
        return self._delete_ids(kind, request, ids or [], children=children)

    def _delete_one(self, kind: Kind, request: Request, tail: str) -> Answer:
        self._heard(request, ())
        try:
            (number,) = whole_numbers("id", tail)
        except ValueError:
            self.violations.append(f"DELETE of several by path: {tail!r}")
            raise Invalid("id", "must be a positive integer") from None
        except Invalid:
            self.violations.append(f"DELETE with an id that is no positive integer: {tail!r}")
            raise
        if busy := self._too_busy(kind, request):
            return busy
        if number not in self.records[kind.store] and kind.missing != 204:
            return self._problem(kind, kind.missing, "The requested resource was not found.")
        return self._delete_ids(kind, request, [number])

    def _read(self, kind: Kind, request: Request, tail: str) -> Answer:
        """GET of one record."""
        query = self._heard(request, kind.parameters & (FIELDS | {"include"}))
        number = positive({"id": tail}, "id", 0)
        if number not in self.records[kind.store]:
            return self._problem(kind, 404, "The requested resource was not found.")
        row = self._record_json(kind, number, *self._shape(kind, query))
        return Answer(200, row if kind.v2 else b'{"data":' + row + b',"meta":{}}')

    def _problem(self, kind: Kind, status: int, title: str) -> Answer:
        return v2_problem(status, title) if kind.v2 else problem(status, title)

    def _too_busy(self, kind: Kind, request: Request) -> Answer | None:
        if kind.max_concurrent is None or request.beside <= kind.max_concurrent:
            return None
        self.violations.append(f"{request.beside} DELETEs of /{kind.path} at once")
        return problem(429, f"Limit of {kind.max_concurrent} concurrent request")

    def _kept(self, kind: Kind, ids: Sequence[int]) -> Answer | None:
        """The refusal of a batch with a record that something else holds."""
        if kind.name == "older_categories":  # categories_catalog.v3.yml; the trees' file says nothing of it
            held = {n for record in self.records["products"].values() for n in record["categories"]}
            if held & set(self._with_children("categories", ids) if self.guards_subtrees else ids):
                return problem(422, "A category that contains products cannot be deleted.")
        if kind.name == "promotions" and (bad := [n for n in ids if n in self.with_codes]):
            gone = [n for n in ids if n not in self.with_codes] if self.partial_promotions else []
            for number in gone:
                self._drop(kind.store, number, self.lag)
            words = {
                f"{ids.index(n)}.code": f"Failed for id={n}. Error: some relating codes are still present."
                for n in bad
            }
            error = json.loads(problem(422, "Errors occurred in bulk delete action.", words).body)
            meta = {"total": len(ids), "success": len(gone), "failed": len(ids) - len(gone)}
            return Answer(422, to_json({"errors": [error], "meta": meta}))
        return None

    def _with_children(self, name: str, ids: Iterable[int]) -> list[int]:
        """The ids, and those of all that stand below them."""
        below: dict[int, list[int]] = {}
        for number, record in self.records[name].items():
            below.setdefault(record["parent_id"], []).append(number)
        found = list(ids)
        for number in found:
            found += below.get(number, [])
        return found

    def _delete_ids(
        self, kind: Kind, request: Request, ids: Sequence[int], *, children: bool = False
    ) -> Answer:
        for number in ids:
            if number in self.refuse:
                status, body = self.refuse[number]
                return Answer(status, to_json(body))
        if refusal := self._kept(kind, ids):
            return refusal
        missing = [number for number in ids if number not in self.records[kind.store]]
        fitting = request.cost if self.count_items and request.counted else len(ids)
        done: list[int] = []
        failed: dict[int, tuple[int, str]] = {}
        for place, number in enumerate(ids):
            if place >= fitting:
                failed[number] = (429, "ERR_TOO_MANY_REQUEST")
            elif number in self.per_item:
                failed[number] = self.per_item[number]
            else:
                done.append(number)
                if self.sticky.get(number, 0) > 0:
                    self.sticky[number] -= 1
                    continue
                goes = [number]
                if kind.store == "categories" or children:
                    goes = self._with_children(kind.store, goes)
                for each in goes:
                    self._drop(kind.store, each, self.lag)
        if failed:
            return self._partly(done, failed)
        if missing and kind.missing_of_several:
            return problem(kind.missing_of_several, f"A Page was not found with an ID of {missing[0]}")
        return Answer(kind.done)

    def _partly(self, done: list[int], failed: dict[int, tuple[int, str]]) -> Answer:
        """The three shapes in which BigCommerce tells a partial success."""
        meta = {"total": len(done) + len(failed), "success": len(done), "failed": len(failed)}
        if self.per_item_shape == "meta":
            words = {str(number): message for number, (_, message) in failed.items()}
            error = json.loads(problem(422, "Bulk operation has failed", words).body)
            return Answer(422, to_json({"data": done, "errors": [error], "meta": meta}))
        if self.per_item_shape == "rows":
            rows = [f"[{number}] {status} {text}" for number, (status, text) in failed.items()]
            return Answer(200, to_json({"data": done, "failed_rows_data": rows, "meta": meta}))
        data = [{"id": number, "status": 204} for number in done]
        errors = [{"id": n, "status": status, "message": m} for n, (status, m) in failed.items()]
        return Answer(self.per_item_status, to_json({"data": data, "errors": errors}))

    def _drop(self, name: str, number: int, lag: float = 0.0) -> None:
        shelf = self._shelves[name]
        record = shelf.records.pop(number, None)
        if record is None:
            return
        shelf.changed(number)
        if lag:
            shelf.ghosts[number] = (record, time.monotonic() + lag)
        if name == "price_lists":
            self.price_records.pop(number, None)
        for product, its in self.records["products"].items() if name in ("brands", "categories") else ():
            if name == "brands" and its["brand_id"] == number:
                self.change(product, kind="products", brand_id=0)
            if name == "categories" and number in its["categories"]:
                left = [category for category in its["categories"] if category != number]
                self.change(product, kind="products", categories=left)
        if name == "pages":  # pages.v3.yml:569, "will update its immediate children"
            for page, its in self.records["pages"].items():
                if its["parent_id"] == number:
                    self.change(page, kind="pages", parent_id=0, is_visible=False)

    def _heard(self, request: Request, known: Iterable[str], unknown: int | None = None) -> dict[str, str]:
        """The query as far as the store heeds it: it may ignore what it does not know, and does.

        What has no value is as if it were not there, which is documented of DELETE /v3/customers alone.
        """
        heard = {n: value for n, value in request.query.items() if value and n not in self.deaf}
        for name in heard.keys() - set(known):
            self.violations.append(f"{request.method} {request.path} with an unknown parameter: {name}")
            if unknown:
                raise Invalid(name, "is not supported", unknown)
            del heard[name]
        return heard

    def _shape(self, kind: Kind, query: Mapping[str, str]) -> tuple[frozenset[str], tuple[str, ...]]:
        """The sub-resources that are asked for, and the fields that are to be shown and left out."""
        asked = frozenset(query["include"].split(",") if "include" in query else ())
        if asked - kind.includes.keys():
            raise Invalid("include", "names an unknown sub-resource")
        fields = tuple(query.get(name, "") for name in ("include_fields", "exclude_fields"))
        return frozenset(kind.includes[name] for name in asked) - {""}, fields

    def _list(self, kind: Kind, request: Request) -> Answer:
        query = self._heard(request, kind.parameters, kind.unknown_parameter)
        limit, page = positive(query, "limit", ROWS), positive(query, "page", 1)
        if limit > MOST_ROWS and kind.refuses_limits:
            raise Invalid("limit", f"must be at most {MOST_ROWS}")
        limit = min(limit, MOST_ROWS)
        if kind.cursor_alone and len(query.keys() & {"page", "before", "after"}) > 1:
            raise Invalid("page", "cannot be used with a cursor, nor a cursor with another")
        include, fields = self._shape(kind, query)
        if "sort" in query and query["sort"] not in kind.sorts:
            raise Invalid("sort", "is not a known order")
        if query.get("direction", "asc") not in ("asc", "desc"):
            raise Invalid("direction", "must be asc or desc")
        if kind.name == "products" and include & {"options", "modifiers"}:
            limit = min(limit, ROWS_WITH_OPTIONS)
        shelf, now = self._shelves[kind.store], time.monotonic()
        shelf.ghosts = {n: ghost for n, ghost in shelf.ghosts.items() if ghost[1] > now}
        ways = ("sort", "direction")
        order = self._order(kind, {k: v for k, v in query.items() if k in kind.filters or k in ways})

        by_cursor = next((name for name in ("after", "before") if query.get(name)), "")
        start = (page - 1) * limit
        if by_cursor:
            at = cursor_position(by_cursor, query[by_cursor], order, by_id="sort" not in query)
            start = at + 1 if by_cursor == "after" else max(0, at - limit)
            limit = min(limit, at) if by_cursor == "before" else limit
        shown = order[start : start + limit]
        rows = b",".join([self._record_json(kind, number, include, fields) for number in shown])
        if kind.v2:
            return Answer(200, b"[" + rows + b"]") if shown else Answer(204)

        meta: dict[str, Any] = {}
        if not by_cursor:
            meta["pagination"] = self._pagination(query, len(order), len(shown), page, limit)
        if kind.cursors and (by_cursor or page == 1):
            more = start + len(shown) < len(order)
            meta["cursor_pagination"] = self._cursors(query, shown, limit, start > 0, more)
        return Answer(200, b'{"data":[' + rows + b'],"meta":' + to_json(meta) + b"}")

    def _order(self, kind: Kind, query: dict[str, str]) -> Sequence[int]:
        """The ids that the filters select, sorted; kept until something changes."""
        shelf, by_id = self._shelves[kind.store], f"{kind.id_field}:in"
        reading = self._reading()
        if shelf.orders_of != (shelf.changes, len(shelf.records)):
            shelf.orders, shelf.orders_of = {}, (shelf.changes, len(shelf.records))
        # A date alone may take the time of day of the request.
        timed = any(name.startswith("date") and len(value) == DATE_ALONE for name, value in query.items())
        read = (reading.now if timed else None, reading.zone, reading.fold_emails, reading.inclusive)
        key = (kind.name, self.lists_archived, read, *sorted(query.items()))
        if not shelf.ghosts and key in shelf.orders:
            return shelf.orders[key]
        sort, _, way = query.get("sort", "").partition(":")
        way = query.get("direction", way)
        tests = [kind.filters[n](v, reading) for n, v in query.items() if n in kind.filters and n != by_id]
        order: Sequence[int]
        if by_id in query:
            wanted = sorted(set(whole_numbers(by_id, query[by_id])))
            order = [n for n in wanted if n in shelf.records or n in shelf.ghosts]
        elif shelf.ghosts:
            order = sorted({*shelf.records, *shelf.ghosts})
        else:
            order = ids_in_order(shelf.records)
        if kind.archives and not self.lists_archived:
            tests.append(lambda record: not record["is_deleted"])
        if tests:
            order = [n for n in order if all(test(self._shown(kind, n)) for test in tests)]
        if isinstance(order, range) and sort in ("", "date_created"):
            order = order[::-1] if way == "desc" else order
        elif sort:
            order = sorted(order, key=lambda n: self._rank(kind, n, sort), reverse=way == "desc")
        if not shelf.ghosts and by_id not in query:
            shelf.orders[key] = order
        return order

    def _reading(self) -> Reading:
        """What the API's files leave open, as this store has it at this moment."""
        return Reading(
            now=self.now().replace(microsecond=0),
            zone=timezone(timedelta(seconds=self.info["timezone"]["raw_offset"])),
            fold_emails=self.email_case == "folded",
            inclusive=self.date_bounds == "inclusive",
            brands=self.records["brands"],
        )

    def _shown(self, kind: Kind, number: int) -> Record:
        record = self._shelves[kind.store].record(number)
        return kind.view(record) if kind.view else record

    def _rank(self, kind: Kind, number: int, sort: str) -> tuple[Any, int]:
        record = self._shown(kind, number)
        value = record["to"]["type"] if "to" in record and sort == "type" else record.get(sort)
        if kind.v2 and sort.startswith("date_"):  # which are in RFC 2822
            value = recorded(value)
        return ("" if value is None else value), number

    def _record_json(
        self, kind: Kind, number: int, include: frozenset[str], fields: tuple[str, ...]
    ) -> bytes:
        shelf = self._shelves[kind.store]
        cached = shelf.json.setdefault((kind.name, include, fields), {})
        if number not in cached:
            only, without = (set(text.split(",")) if text else set() for text in fields)
            shown = {
                # The counts of them tell the truth.
                name: value[:MOST_SUB_RESOURCES] if name in ("addresses", "attributes") else value
                for name, value in self._shown(kind, number).items()
                if (name not in kind.sub_resources or name in include)
                and (name == kind.id_field or ((not only or name in only) and name not in without))
            }
            if isinstance(shelf.records, LightCustomers) or number in shelf.ghosts:
                return to_json(shown)
            cached[number] = to_json(shown)
        return cached[number]

    def _pagination(
        self, query: dict[str, str], total: int, count: int, page: int, limit: int
    ) -> dict[str, Any]:
        pages = math.ceil(total / limit)
        others = {k: v for k, v in query.items() if k not in ("page", "limit")}
        near = {"previous": page - 1, "current": page, "next": page + 1}
        return {
            "total": total,
            "count": count,
            "per_page": limit,
            "current_page": page,
            "total_pages": pages,
            "links": {
                name: "?" + urllib.parse.urlencode({"page": number, "limit": limit} | others)
                for name, number in near.items()
                if name == "current" or 1 <= number <= pages
            },
        }

    def _cursors(
        self, query: dict[str, str], shown: Sequence[int], limit: int, less: bool, more: bool
    ) -> dict[str, Any]:
        meta: dict[str, Any] = {"count": len(shown), "per_page": limit, "links": {}}
        if shown:
            meta |= {"start_cursor": cursor(shown[0]), "end_cursor": cursor(shown[-1])}
            others = {k: v for k, v in query.items() if k not in ("page", "before", "after")}
            for name, way, exists in (("previous", "before", less), ("next", "after", more)):
                if exists:
                    at = meta["end_cursor" if way == "after" else "start_cursor"]
                    meta["links"][name] = "?" + urllib.parse.urlencode({**others, way: at})
        return meta

    # for tests and benchmarks

    def env(self) -> dict[str, str]:
        """All that the tool needs to reach the store; a proxy of this machine is passed by."""
        reach = {"BC_API_ENDPOINT": self.host, "REQUESTS_CA_BUNDLE": str(self.ca_file)}
        direct = dict.fromkeys(("NO_PROXY", "no_proxy"), "localhost,127.0.0.1")
        return reach | direct if urllib.request.getproxies() else reach

    def config(self, folder: Path, **cleanup: object) -> Path:
        """Write store.ini: [store], [cleanup] with the keys given, [filters] from `filters`."""
        store = {"store_hash": self.store_hash, "access_token": self.token}
        for name in ("store_hash", "access_token", "client_id", "domain"):
            if name in cleanup:
                store[name] = str(cleanup.pop(name))
        filters = cleanup.pop("filters", {})
        assert isinstance(filters, dict)
        parser = configparser.ConfigParser(interpolation=None, delimiters="=", default_section="")
        parser.optionxform = str  # type: ignore[assignment,method-assign]  # as its manual says
        words = {True: "yes", False: "no"}
        settings = {k: words[v] if isinstance(v, bool) else v for k, v in cleanup.items()}
        for section, values in (("store", store), ("cleanup", settings), ("filters", filters)):
            if values:
                parser[section] = {name: str(value) for name, value in values.items()}
        path, text = Path(folder) / "store.ini", io.StringIO()
        parser.write(text)
        write_private(path, text.getvalue())
        return path

    def add(self, n: int = 1, kind: str = "customers", **fields: Any) -> list[int]:
        """Sign-ups: customers, or others, with the next ids, created now."""
        with self._lock:
            shelf, made = self._shelves[kind], KINDS[kind].make
            ids = list(range(shelf.next_id, shelf.next_id + n))
            shelf.next_id += n
            for number in ids:
                record = made(number, 0, int(time.time()), self._rng, self.records)
                if kind == "customers":
                    record["date_modified"] = record["date_created"]
                shelf.records[number] = record | fields
            shelf.changed(*ids)
            return ids

    def remove(self, *ids: int, kind: str = "customers") -> None:
        """Another app deletes them, at once."""
        with self._lock:
            for number in ids:
                self._drop(kind, number)

    def change(self, number: int, kind: str = "customers", **fields: Any) -> None:
        with self._lock:
            shelf = self._shelves[kind]
            shelf.records[number] = shelf.records[number] | fields
            shelf.changed(number)

    def use(self, n: int = 1) -> int:
        """Another app takes up to n tokens of this window; how many it got."""
        with self._lock:
            window, _ = self._window()
            quota = UNLIMITED if self.quota is None else self.quota
            got = max(0, min(n, quota - self._used[window]))
            self._used[window] += got
            self.others[window] += got
            return got

    @contextlib.contextmanager
    def other_app(self, per_second: float) -> Iterator[None]:
        """Another app takes tokens at an even pace meanwhile; other_refused counts its 429s."""
        done = threading.Event()

        def work() -> None:
            begun = time.monotonic()
            for turn in itertools.count(1):
                self.other_refused += 1 - self.use(1)
                if done.wait(max(0.0, begun + turn / per_second - time.monotonic())):
                    return

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def deletes(self) -> list[Request]:
        return [request for request in self.log if request.method == "DELETE"]

    def deleted_ids(self) -> collections.Counter[int]:
        """How often each id came in a DELETE, however that was answered."""
        return collections.Counter(n for request in self.deletes() for n in request.ids)

    def windows(self) -> dict[int, int]:
        """Window → tokens that the requests of the log took."""
        taken: collections.Counter[int] = collections.Counter()
        for request in self.log:
            if request.counted:
                taken[request.window] += request.cost
        return dict(sorted(taken.items()))


# --- the sandbox ---------------------------------------------------------------------------------

RUNS = "runs"  # where the tool itself puts its run folders
SANDBOX_PORTS = range(20_000, 30_000)  # below those that systems give to whoever connects
SANDBOX_CUSTOMERS = 1000
SANDBOX_RECORDS: dict[str, Any] = {
    "products": 60,
    "categories": 30,
    "brands": 20,
    "promotions": 20,
    "coupons": 30,
    "gift_certificates": 20,
    "price_lists": 10,
    "redirects": 60,
    "pages": 20,
    "subscribers": 120,
    "orders": 200,
}
ADA = "ada.smith15@shop-mail.example"  # a customer of the README's cookbook, who subscribes here too
# What is told of the files of a run folder, as far as they are there.
RUN_FILES = {
    "report.html": "what was shown, for a browser",
    "plan.json": "the ids that were to go",
    "selected.csv": "who they are",
    "backup.jsonl": "their records as they were",
    "failed.csv": "what did not go, and why",
    "journal.jsonl": "what was sent, answered and proven gone",
    "run.log": "each request",
    "summary.json": "the result, for a program",
}


class Sandbox(FakeStore):
    """A store with records of every kind that can be started again as it was left.

    Its folder holds what a command needs to reach it (store.ini, ca.pem), the lists that the README's
    cookbook names, and store.jsonl: a line with the port and the number of customers, and then one for
    each deleted record.
    """

    folder: Path

    def __init__(
        self, folder: Path, *, customers: int | None = None, keep: bool = False, **options: Any
    ) -> None:
        folder = folder.absolute()
        self._state = folder / "store.jsonl"
        lines = self._state.read_text(encoding="utf-8").splitlines() if self._state.exists() else []
        last, *gone = [json.loads(line) for line in lines] or [{}]
        self.kept: bool = keep and bool(last) and customers in (None, last["customers"])
        if customers is None:
            customers = last["customers"] if self.kept else SANDBOX_CUSTOMERS
        super().__init__(customers=customers, folder=folder, **SANDBOX_RECORDS, **options)
        self._last_port: int = last.get("port", 0)
        self._resized = customers != last.get("customers")
        self._notes: TextIO | None = None
        self.change(next(iter(self.records["subscribers"])), kind="subscribers", email=ADA)
        self.counts = {name: len(records) for name, records in self.records.items()}
        self.lists = lists_of(list(self.customers.values()))
        for name, number in gone if self.kept else ():
            self.remove(number, kind=name)

    @property
    def ini(self) -> Path:
        return self.folder / "store.ini"

    def size(self) -> str:
        left, total = len(self.customers), self.counts["customers"]
        return (
            f"the {left:,} of {total:,} customers that are left" if left < total else f"{total:,} customers"
        )

    def __enter__(self) -> Self:
        if not self._state.exists() and self.folder.is_dir() and any(self.folder.iterdir()):
            raise OSError(f"{short(self.folder)} is not the sandbox's: name another place with --folder")
        self.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.mkdir(mode=0o700, exist_ok=True)
        super().__enter__()
        if not self.kept:
            first = {"port": self.port, "customers": self.counts["customers"]}
            write_private(self._state, json.dumps(first) + "\n")
        self._notes = self._state.open("a", encoding="utf-8", buffering=1)
        write_private(self.folder / ".gitignore", "*\n")
        self.ca_file.chmod(0o600)
        # What was edited by hand stays as it is.
        for name, text in self.lists.items():
            if self._resized or not (self.folder / name).exists():
                write_private(self.folder / name, text)
        if not self.ini.exists():
            self.config(self.folder)
        return self

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        with self._lock:
            if self._notes:
                self._notes.close()
            self._notes = None

    def _listen(self) -> socket.socket:
        """At the port of the last time, since a plan is carried out at its own host and port alone.

        The first time the folder decides, so that two sandboxes hardly ever have the same.
        """
        first = SANDBOX_PORTS[zlib.crc32(str(self.folder).encode()) % len(SANDBOX_PORTS)]
        try:
            return socket.create_server(("127.0.0.1", self._last_port or first), backlog=128)
        except OSError as error:
            if self._last_port:
                raise OSError(
                    f"port {self._last_port}, which {short(self.folder)} is for, is in use: end the sandbox"
                    " that serves there, or name another place with --folder"
                ) from error
            return super()._listen()

    def _drop(self, name: str, number: int, lag: float = 0.0) -> None:
        if self._notes and number in self.records[name]:
            print(json.dumps([name, number]), file=self._notes)
        super()._drop(name, number, lag)


def lists_of(people: Sequence[Record]) -> dict[str, str]:
    """The lists that the README's cookbook names, each with a part of these customers."""
    staff = [people[index] for index in (1, 6, 7) if index < len(people)]
    table = io.StringIO()
    rows = ([row["id"], f"{row['first_name']} {row['last_name']}"] for row in people[::50])
    csv.writer(table, lineterminator="\n").writerows([["Customer ID", "Name"], *rows])
    return {
        "merchant.csv": table.getvalue(),
        "addresses.txt": "".join(f"{row['email']}\n" for row in [*people[25::50], *staff]),
        "staff.txt": "".join(f"{row['email']}\n" for row in staff[:-1])
        + "".join(f"{row['id']}\n" for row in staff[-1:]),
    }


class Ended(NamedTuple):
    """A run of the tool, as its folder tells of it."""

    written: int  # when its summary was, in nanoseconds
    folder: Path
    summary: Record


def last_run(runs: Path) -> Ended | None:
    """The run whose summary was written last."""
    found = [(path.stat().st_mtime_ns, path) for path in runs.glob(f"{STORE_HASH}-*/summary.json")]
    if not found:
        return None
    written, path = max(found)
    return Ended(written, path.parent, json.loads(path.read_text(encoding="utf-8")))


def short(path: Path | str) -> str:
    """A path as it is written from the current folder, where it lies below that."""
    whole, here = Path(os.path.abspath(path)), Path.cwd()
    return str(whole.relative_to(here) if whole.is_relative_to(here) else whole)


def this_python() -> str:
    """How this Python is called at the prompt."""
    name = Path(sys.executable).name
    return name if shutil.which(name) == sys.executable else short(sys.executable)


def command_line(*words: str) -> str:
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def lines_to_paste(
    folder: str, variables: Mapping[str, str], command: str, *, power_shell: bool
) -> list[str]:
    """What a second terminal needs to run the command with these variables, from that folder."""
    if not power_shell:
        settings = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
        return [f"cd {shlex.quote(folder)}", *settings, command]

    def quoted(text: str) -> str:
        return "'" + text.replace("'", "''") + "'"

    settings = [f"$env:{name} = {quoted(value)}" for name, value in variables.items()]
    called = f"& {command}" if command.startswith('"') else command  # else it would be a string
    return [f"cd {quoted(folder)}", *settings, called]


def say(*paragraphs: str) -> None:
    """Tell the person; what begins with spaces is not broken, since it is to be copied."""
    for text in paragraphs:
        lines = (
            [text]
            if text.startswith(" ")
            else textwrap.wrap(text, 79, break_long_words=False, break_on_hyphens=False)
        )
        print("\n".join(lines), file=sys.stderr, flush=True)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fake_store",
        description="Run bulk_delete.py against a local store of made-up records, which is new each time. "
        "With -- --resume, and with --serve after a run that can be resumed, it is as that run left it.",
        epilog="What follows -- goes to bulk_delete.py: -- --resource products",
    )
    parser.add_argument("--customers", type=int, metavar="N", help=f"default: {SANDBOX_CUSTOMERS}")
    parser.add_argument("--quota", type=int, default=150, metavar="N", help="0: unlimited")
    parser.add_argument("--window", type=float, default=30.0, metavar="SECONDS")
    parser.add_argument("--latency", type=float, default=0.1, metavar="SECONDS")
    parser.add_argument(
        "--folder", default=RUNS, metavar="DIR", help=f"of its files and runs; default: {RUNS}"
    )
    parser.add_argument("--serve", action="store_true", help="only serve, until Ctrl-C")
    return parser


class Commands:
    """The commands that a person can run from here."""

    def __init__(self, store: Sandbox, runs: str) -> None:
        tool = Path(__file__).resolve().parent.parent / "bulk_delete.py"
        self.tool = [short(tool), "--config", short(store.ini)]
        self.tool += [] if runs == RUNS else ["--runs-dir", runs]
        self.folder = [] if runs == RUNS else ["--folder", runs]

    def run(self, *options: str) -> str:
        return command_line(this_python(), *self.tool, *options)

    def sandbox(self, *options: str) -> str:
        return command_line(this_python(), "-m", "tests.fake_store", *self.folder, *options)


def serve(store: Sandbox, commands: Commands, last: Ended | None) -> int:
    """Serve until Ctrl-C; stdout tells what to paste, and then an empty line."""
    on_windows = os.name == "nt"
    resume = last.summary["resume"] if last and store.kept else None
    with contextlib.suppress(KeyboardInterrupt):
        shell = "a second PowerShell" if on_windows else "a second terminal"
        what = "goes on with that run" if resume else "runs the tool, as a dry run"
        say(f"Pasted into {shell}, which then reaches this store and no other, this {what}:", "")
        command = resume or commands.run("--dry-run")
        lines = lines_to_paste(str(Path.cwd()), store.env(), command, power_shell=on_windows)
        print("\n".join([*lines, ""]), flush=True)
        lists = " and ".join(short(store.folder / name) for name in ("merchant.csv", "staff.txt"))
        say(
            "The commands of the README's cookbook run there too, with "
            f"--config {short(store.ini)}, and lists such as {lists}. Ctrl-C here ends the store."
        )
        while True:  # no signal.pause: Windows has none
            time.sleep(3600)
    return 0


def run_tool(store: Sandbox, commands: Commands, runs: Path, options: list[str]) -> int:
    """The tool on this terminal; Ctrl-C reaches it, and is its business alone."""
    if sys.stdin and sys.stdin.isatty():
        say("The tool now runs as on a real store. Nothing is deleted until you type the number it asks for:")
    else:
        options = [*options, "--yes"]
        say("The tool now runs as on a real store, without a question, since there is no terminal:")
    say("  " + commands.run(*options), "")
    # A token of a real store has no business here.
    environment = {k: v for k, v in os.environ.items() if k != "BIGCOMMERCE_ACCESS_TOKEN"}
    before = last_run(runs)
    # A handler, since the child would inherit SIG_IGN.
    handler = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        command = [sys.executable, *commands.tool, *options]
        status = subprocess.run(command, env=environment | store.env(), check=False).returncode
    finally:
        signal.signal(signal.SIGINT, handler)
    last = last_run(runs)
    tell_ending(store, commands, last if last != before else None)
    return status if status >= 0 else 128 - status


def tell_ending(store: Sandbox, commands: Commands, run: Ended | None) -> None:
    """Say what is left in the store, where the run folder is, and what to do next."""
    kind = run.summary["resource"] if run else "customers"
    left = f"{len(store.records[kind]):,} of its {store.counts[kind]:,} {kind.replace('_', ' ')} are left"
    refused = sum(request.status == 429 for request in store.log)
    requests = f"it got {len(store.log):,} requests, and answered {refused:,} of them with 429 (wait)"
    say("", f"Sandbox: {left}; {requests}.")
    if run is None:
        return
    say(f"The run folder stays: {short(run.folder)}")
    names = [name for name in RUN_FILES if (run.folder / name).exists()]
    say(*(f"  {n:14} {RUN_FILES[n]}" for n in names if n != "failed.csv" or run.summary["failed"]), "")
    if run.summary["resume"]:
        say(
            "The store ends here, so the command above finds none. This starts it as it is now, and goes on:",
            "  " + commands.sandbox("--", "--resume", short(run.folder)),
            "Or serve it, and run the command above by hand, in another terminal:",
            "  " + commands.sandbox("--serve"),
        )
    else:
        say(
            "To try more, such as the README's cookbook, serve a new store of this kind:",
            "  " + commands.sandbox("--serve"),
        )


def main(argv: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    split = arguments.index("--") if "--" in arguments else len(arguments)
    options = arguments[split + 1 :]
    own = make_parser().parse_args(arguments[:split])
    quota, runs = own.quota or None, Path(own.folder)
    serving = own.serve or "--serve" in options
    last = last_run(runs)
    resumable = serving and last is not None and last.summary["resume"] is not None
    resuming = any(option.partition("=")[0] == "--resume" for option in options)
    with contextlib.ExitStack() as stack:
        try:
            store = stack.enter_context(
                Sandbox(
                    runs / "sandbox",
                    customers=own.customers,
                    keep=resumable or resuming,
                    quota=quota,
                    window=own.window,
                    latency=own.latency,
                )
            )
        except OSError as error:
            say(f"Sandbox: {error}")
            return 2
        pace = f"{quota} requests per {own.window:g} s" if quota else "any number of requests"
        say(
            f"Sandbox: a made-up BigCommerce store on this machine, https://{store.host}, with"
            f" {store.size()} and some of every other kind of record. Nobody in it is real, and nothing"
            f" leaves this machine. It allows {pace} and takes {own.latency:g} s for each.",
            "",
        )
        commands = Commands(store, own.folder)
        return serve(store, commands, last) if serving else run_tool(store, commands, runs, options)


if __name__ == "__main__":
    sys.exit(main())
