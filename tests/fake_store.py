"""A strict local BigCommerce store with real state: HTTPS on loopback, quotas, scripted faults.

It serves V3 customers and /v2/store as BigCommerce's OpenAPI files describe them, keeps a log of
every request, and really deletes. `python -m tests.fake_store` runs the tool against it.
"""

from __future__ import annotations

import argparse
import base64
import bisect
import collections
import configparser
import contextlib
import email.utils
import fnmatch
import http
import itertools
import json
import math
import os
import random
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

import trustme

TOKEN = "sandbox-token-not-a-secret"
STORE_HASH = "sandbox1"
UNLIMITED = 16_101_495  # what a store on an unlimited plan was seen to report as its quota
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
    """A parameter that the API answers with 422."""


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
    " Ueda Varga Walker Weiß Yılmaz Zhang 佐藤 山田"
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
        "addresses": [
            make_address(number, place, first, last, company, rng) for place in range(places)
        ],
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


def make_address(
    number: int, place: int, first: str, last: str, company: str, rng: random.Random
) -> Record:
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


# --- parameters of the list (pure) ---------------------------------------------------------------

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
    f"{name}:{way}"
    for name in ("date_created", "date_modified", "last_name")
    for way in ("asc", "desc")
)
PAGING = frozenset({"page", "limit", "include", "sort", "before", "after"})

Test = Callable[[Record], bool]


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


def one_of(name: str, *, folded: bool = False) -> Callable[[str], Test]:
    def compiled(value: str) -> Test:
        wanted = set((value.lower() if folded else value).split(","))
        return lambda record: (str(record[name]).lower() if folded else str(record[name])) in wanted

    return compiled


def full_name(record: Record) -> str:
    return f"{record['first_name']} {record['last_name']}".lower()


def name_in(value: str) -> Test:
    wanted = set(value.lower().split(","))
    return lambda record: full_name(record) in wanted


def name_like(value: str) -> Test:
    wanted = value.lower().split(",")
    return lambda record: any(part in full_name(record) for part in wanted)


def moment(name: str, value: str) -> str:
    """A date or date-time of a filter, in the form the records have it."""
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError as error:
        raise Invalid(name, "must be a date or a date-time") from error
    parsed = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    return timestamp(parsed.timestamp())


def on_date(name: str) -> Callable[[str], Test]:
    def compiled(value: str) -> Test:
        exact = moment(name, value)
        wanted = exact[:10] if len(value) == 10 else exact
        return lambda record: bool(record[name].startswith(wanted))

    return compiled


def since(name: str) -> Callable[[str], Test]:
    def compiled(value: str) -> Test:
        wanted = moment(name, value)
        return lambda record: bool(record[name] >= wanted)

    return compiled


def until(name: str) -> Callable[[str], Test]:
    def compiled(value: str) -> Test:
        wanted = moment(name, value)
        return lambda record: bool(record[name] <= wanted)

    return compiled


def groups_in(value: str) -> Test:
    if not all(part.isascii() and part.isdigit() for part in value.split(",")):
        raise Invalid("customer_group_id:in", "must be a list of integers")
    return one_of("customer_group_id")(value)


FILTERS: dict[str, Callable[[str], Test]] = {
    "company:in": one_of("company"),
    "customer_group_id:in": groups_in,
    "email:in": one_of("email", folded=True),
    "name:in": name_in,
    "name:like": name_like,
    "phone:in": one_of("phone"),
    "registration_ip_address:in": one_of("registration_ip_address"),
    **{name: on_date(name) for name in ("date_created", "date_modified")},
    **{f"{name}:min": since(name) for name in ("date_created", "date_modified")},
    **{f"{name}:max": until(name) for name in ("date_created", "date_modified")},
}
PARAMETERS = frozenset(FILTERS) | PAGING | {"id:in"}


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
            "date_format": {
                "display": "M jS Y",
                "export": "M jS Y",
                "extended_display": "M jS Y @ g:i A",
            },
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


# --- the store -----------------------------------------------------------------------------------


class FakeStore:
    """The store; `with FakeStore(...) as store:` serves it until the block is left.

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
        max_batch: int = 10,
    ) -> None:
        self.quota, self.window, self.latency, self.lag = quota, window, latency, lag
        self.window_anchor, self.count_latency = window_anchor, count_latency
        self.count_items, self.max_batch = count_items, max_batch
        self.customers: MutableMapping[int, Record] = (
            LightCustomers(customers) if light else make_customers(customers, seed)
        )
        self.token, self.store_hash = TOKEN, STORE_HASH
        self.scopes = {"store_v2_customers", "store_v2_information_read_only"}
        self.info = store_information()
        self.log: list[Request] = []
        self.faults: list[Fault] = []
        self.violations: list[str] = []
        self.connections = self.max_in_flight = self.other_refused = 0
        self.deaf: set[str] = set()  # parameters that are ignored without a word
        self.refuse: dict[int, tuple[int, object]] = {}  # a DELETE with one of them does nothing
        self.per_item: dict[int, tuple[int, str]] = {}  # refused alone; the others are deleted
        self.per_item_status, self.per_item_shape = 207, "errors"  # or "meta" or "rows"
        self.sticky: dict[int, float] = {}  # DELETEs still to be answered 204 without any effect
        self.others: collections.Counter[int] = collections.Counter()  # window → others' tokens

        self._rng = random.Random(seed + 1)
        self._next_id = max(ids_in_order(self.customers)[-1:], default=10) + 1
        self._lock = threading.RLock()
        self._anchor: float | None = None
        self._used: collections.Counter[int] = collections.Counter()
        self._in_flight = self._changes = 0
        self._ghosts: dict[int, tuple[Record, float]] = {}
        self._json: dict[frozenset[str], dict[int, bytes]] = {}
        self._orders: dict[object, Sequence[int]] = {}
        self._orders_of = (0, 0)
        self._sockets: set[socket.socket] = set()
        self._stopping = threading.Event()

    # serving

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="fake-store-"))
        self.ca_file = self._folder / "ca.pem"
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.ca_file))
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.num_tickets = 0  # no client here resumes a session
        authority.issue_cert("localhost", "127.0.0.1").configure_cert(self._tls)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.host = f"localhost:{self._listener.getsockname()[1]}"
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
        shutil.rmtree(self._folder, ignore_errors=True)

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

    def _arrive(
        self, method: str, target: str, headers: dict[str, str], connection: int
    ) -> Request:
        path, _, query_string = target.partition("?")
        query = dict(urllib.parse.parse_qsl(query_string, keep_blank_values=True))
        ids = query["id:in"].split(",") if "id:in" in query else [path.rpartition("/")[2]]
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
            if "authorization" in headers:
                self.violations.append(f"{method} {path} with an Authorization header")
            if method not in ("GET", "DELETE"):
                self.violations.append(f"{method} {path}: only GET and DELETE are expected")
        return request

    def _exchange(self, tls: ssl.SSLSocket, request: Request) -> bool:
        """Answer one request; False when the connection ends with it."""
        try:
            answer, data, close = self._prepare(request)
        except Exception as error:  # noqa: BLE001  # a test's own function's
            self.violations.append(f"a scripted function failed: {error!r}")
            answer, data, close = None, b"", "reset"
        with self._lock:  # before it is sent: the client may send its next request at once
            self._in_flight -= 1
            request.status = answer.status if answer else 0
            request.answered = time.monotonic()
        if answer is None:
            tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
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

    def _message(
        self, answer: Answer, headers: dict[str, str], fault: Fault | None, *, cut: bool
    ) -> bytes:
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
            body = (
                b"" if body is None else body.encode() if isinstance(body, str) else to_json(body)
            )
        return Answer(fault.status, body, {"Content-Type": fault.content_type} if body else {})

    def _rewritten(self, request: Request, answer: Answer, fault: Fault) -> Answer:
        if fault.rewrite is None:
            return answer
        value = fault.rewrite(request, json.loads(answer.body) if answer.body else None)
        if value is None:
            return answer
        return answer._replace(
            status=200 if answer.status == 204 else answer.status, body=to_json(value)
        )

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
                name, message = error.args
                return problem(422, f"The {name} was not valid.", {name: f"{name} {message}"})

    def _route(self, request: Request) -> Answer:
        prefix = f"/stores/{self.store_hash}/"
        if not request.path.startswith(prefix):
            return problem(404, "The resource at that URL is not found.")
        if request.headers.get("x-auth-token") != self.token:
            return problem(401, "X-Auth-Token header is required and must be valid")
        match request.method, request.path.removeprefix(prefix):
            case "GET", "v2/store":
                return self._scoped("store_v2_information_read_only", self._information, request)
            case "GET", "v3/customers":
                return self._scoped("store_v2_customers", self._list, request)
            case "DELETE", "v3/customers":
                return self._scoped("store_v2_customers", self._delete, request)
            case "DELETE", "v2/customers":
                return self._scoped("store_v2_customers", self._delete_all, request)
            case (("GET" | "DELETE"), _):
                return problem(404, "The resource at that URL is not found.")
        return problem(405, "Method not allowed")

    def _scoped(self, scope: str, deed: Callable[[Request], Answer], request: Request) -> Answer:
        if scope not in self.scopes:
            return problem(403, "You don't have a required scope to access the endpoint")
        return deed(request)

    def _information(self, request: Request) -> Answer:
        return Answer(200, to_json(self.info))

    def _delete_all(self, request: Request) -> Answer:
        self.violations.append("DELETE /v2/customers: that empties the store")
        self.customers.clear()
        self._changes += 1
        return Answer(204)

    def _delete(self, request: Request) -> Answer:
        value = self._heard(request.query, {"id:in"}).get("id:in", "")
        if not value:
            self.violations.append("DELETE /v3/customers without id:in")
            return Answer(204)
        if value.count(",") >= self.max_batch:
            return problem(413, f"The maximum number of items is {self.max_batch}.")
        try:
            ids = whole_numbers("id:in", value)
        except Invalid:
            self.violations.append(f"DELETE with an id that is no positive integer: {value!r}")
            raise
        for number in ids:
            if number in self.refuse:
                status, body = self.refuse[number]
                return Answer(status, to_json(body))
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
                else:
                    self._drop(number, self.lag)
        return self._partly(done, failed) if failed else Answer(204)

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

    def _drop(self, number: int, lag: float = 0.0) -> None:
        record = self.customers.pop(number, None)
        if record is None:
            return
        self._changes += 1
        for cached in self._json.values():
            cached.pop(number, None)
        if lag:
            self._ghosts[number] = (record, time.monotonic() + lag)

    def _heard(self, query: dict[str, str], known: Iterable[str]) -> dict[str, str]:
        """The query without what the store is deaf to; anything unknown is refused."""
        heard = {name: value for name, value in query.items() if name not in self.deaf}
        for name in heard.keys() - set(known):
            raise Invalid(name, "is not a known parameter")
        return heard

    def _list(self, request: Request) -> Answer:
        query = self._heard(request.query, PARAMETERS)
        limit = min(positive(query, "limit", 50), 250)
        page = positive(query, "page", 1)
        asked = frozenset(query["include"].split(",") if query.get("include") else ())
        if asked - INCLUDES.keys():
            raise Invalid("include", "names an unknown sub-resource")
        if query.get("sort", "date_created:asc") not in SORTS:
            raise Invalid("sort", "is not a known order")
        now = time.monotonic()
        self._ghosts = {n: ghost for n, ghost in self._ghosts.items() if ghost[1] > now}
        order = self._order({k: v for k, v in query.items() if k not in PAGING - {"sort"}})

        by_cursor = next((name for name in ("after", "before") if query.get(name)), "")
        start = (page - 1) * limit
        if by_cursor:
            at = cursor_position(by_cursor, query[by_cursor], order, by_id="sort" not in query)
            start = at + 1 if by_cursor == "after" else max(0, at - limit)
            limit = min(limit, at) if by_cursor == "before" else limit
        shown = order[start : start + limit]
        include = frozenset(INCLUDES[name] for name in asked) - {""}
        rows = b",".join([self._record_json(number, include) for number in shown])

        meta: dict[str, Any] = {}
        if not by_cursor:
            meta["pagination"] = self._pagination(query, len(order), len(shown), page, limit)
        if by_cursor or page == 1:
            more = start + len(shown) < len(order)
            meta["cursor_pagination"] = self._cursors(query, shown, limit, start > 0, more)
        return Answer(200, b'{"data":[' + rows + b'],"meta":' + to_json(meta) + b"}")

    def _order(self, query: dict[str, str]) -> Sequence[int]:
        """The ids that the filters select, sorted; kept until something changes."""
        if self._orders_of != (self._changes, len(self.customers)):
            self._orders, self._orders_of = {}, (self._changes, len(self.customers))
        key = tuple(sorted(query.items()))
        if not self._ghosts and key in self._orders:
            return self._orders[key]
        sort, _, way = query.get("sort", "").partition(":")
        tests = [FILTERS[name](value) for name, value in query.items() if name in FILTERS]
        order: Sequence[int]
        if "id:in" in query:
            wanted = sorted(set(whole_numbers("id:in", query["id:in"])))
            order = [n for n in wanted if n in self.customers or n in self._ghosts]
        elif self._ghosts:
            order = sorted({*self.customers, *self._ghosts})
        else:
            order = ids_in_order(self.customers)
        if tests:
            order = [n for n in order if all(test(self._record(n)) for test in tests)]
        if isinstance(order, range) and sort in ("", "date_created"):
            order = order[::-1] if way == "desc" else order
        elif sort:
            order = sorted(order, key=lambda n: (self._record(n)[sort], n), reverse=way == "desc")
        if not self._ghosts and "id:in" not in query:
            self._orders[key] = order
        return order

    def _record(self, number: int) -> Record:
        return self.customers[number] if number in self.customers else self._ghosts[number][0]

    def _record_json(self, number: int, include: frozenset[str]) -> bytes:
        cached = self._json.setdefault(include, {})
        if number not in cached:
            record = self._record(number)
            shown = {
                # A list shows at most 10 addresses and attributes; the counts tell the truth.
                name: value[:10] if name in ("addresses", "attributes") else value
                for name, value in record.items()
                if name not in SUB_RESOURCES or name in include
            }
            if isinstance(self.customers, LightCustomers) or number in self._ghosts:
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
        direct = {"NO_PROXY": "localhost", "no_proxy": "localhost"}
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
        path = Path(folder) / "store.ini"
        path.touch(mode=0o600)
        path.chmod(0o600)
        with path.open("w", encoding="utf-8") as file:
            parser.write(file)
        return path

    def add(self, n: int = 1, **fields: Any) -> list[int]:
        """Sign-ups: customers with the next ids, created now."""
        with self._lock:
            ids = list(range(self._next_id, self._next_id + n))
            self._next_id += n
            for number in ids:
                record = make_customer(number, 0, int(time.time()), self._rng)
                record["date_modified"] = record["date_created"]
                self.customers[number] = record | fields
            self._changes += 1
            return ids

    def remove(self, *ids: int) -> None:
        """Another app deletes them, at once."""
        with self._lock:
            for number in ids:
                self._drop(number)

    def change(self, number: int, **fields: Any) -> None:
        with self._lock:
            self.customers[number] = self.customers[number] | fields
            self._changes += 1
            for cached in self._json.values():
                cached.pop(number, None)

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


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fake_store",
        description="Run bulk_delete.py against a local store of made-up customers.",
        epilog="What follows -- goes to bulk_delete.py.",
    )
    parser.add_argument("--customers", type=int, default=1000, metavar="N")
    parser.add_argument("--quota", type=int, default=150, metavar="N", help="0: unlimited")
    parser.add_argument("--window", type=float, default=30.0, metavar="SECONDS")
    parser.add_argument("--latency", type=float, default=0.1, metavar="SECONDS")
    parser.add_argument("--serve", action="store_true", help="only serve, until Ctrl-C")
    return parser


def serve(store: FakeStore, ini: Path) -> int:
    for name, value in store.env().items():
        print(f"export {name}={value}")
    print(f"# --config {ini}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            signal.pause()
    return 0


def run_tool(store: FakeStore, ini: Path, folder: Path, options: list[str]) -> int:
    """The tool on this terminal; Ctrl-C reaches it, and is its business alone."""
    tool = Path(__file__).resolve().parent.parent / "bulk_delete.py"
    command = [sys.executable, str(tool), "--config", str(ini), "--runs-dir", str(folder / "runs")]
    if not sys.stdin or not sys.stdin.isatty():
        options = [*options, "--yes"]
    # A token of a real store has no business here, and would win over the ini's.
    environment = {k: v for k, v in os.environ.items() if k != "BIGCOMMERCE_ACCESS_TOKEN"}
    # A handler, since the child would inherit SIG_IGN.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        status = subprocess.run(
            [*command, *options], env=environment | store.env(), check=False
        ).returncode
    finally:
        signal.signal(signal.SIGINT, before)
    refused = sum(request.status == 429 for request in store.log)
    print(
        f"Sandbox: {len(store.customers):,} customers are left in the store; it got"
        f" {len(store.log):,} requests and answered {refused:,} of them with 429.",
        file=sys.stderr,
    )
    return status if status >= 0 else 128 - status


def main(argv: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    split = arguments.index("--") if "--" in arguments else len(arguments)
    options = arguments[split + 1 :]
    own = make_parser().parse_args(arguments[:split])
    quota = own.quota or None
    pace = f"{quota} requests per {own.window:g} s" if quota else "any number of requests"
    with (
        FakeStore(
            customers=own.customers, quota=quota, window=own.window, latency=own.latency
        ) as store,
        tempfile.TemporaryDirectory(prefix="sandbox-") as name,
    ):
        folder = Path(name)
        ini = store.config(folder)
        print(
            f"Sandbox: a made-up BigCommerce store on https://{store.host},"
            f" with {own.customers:,} made-up customers.\n"
            f"It allows {pace} and takes {own.latency:g} s for each; it goes when the tool ends.",
            file=sys.stderr,
        )
        if own.serve or "--serve" in options:
            return serve(store, ini)
        return run_tool(store, ini, folder, options)


if __name__ == "__main__":
    sys.exit(main())
