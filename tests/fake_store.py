"""A strict local BigCommerce store with real state: HTTPS, quota windows, scripted faults.

It serves the part of the API that the tool uses, as strictly as BigCommerce's OpenAPI files
describe it, really deletes records, and logs every request. Requests that a client must never
send are recorded as violations. `python -m tests.fake_store` runs the tool against such a
store; that sandbox is at the end of this file.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import email.utils
import fnmatch
import http.client
import io
import itertools
import json
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
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Self, TextIO

import trustme

TOKEN = "sandbox-token-not-a-secret"
STORE_HASH = "sandbox1"
DEFAULT_PAGE = 50  # records (orders.v2.oas2.yml:321)
MAX_PAGE = 250  # records (products_catalog.v3.yml:9490)
MAX_SUB_RESOURCES = 10  # addresses, and attributes, in a list (customers.v3.yml:3498, 3504)
UNLIMITED = 16_101_495  # the quota that a store on an unlimited plan was seen to report
RESET_ON_CLOSE = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)  # a value of SO_LINGER

Rng = random.Random
Record = dict[str, Any]
Records = dict[int, Record]  # by id


@dataclass(slots=True)
class Request:
    """One entry of the store's log, in order of arrival."""

    number: int
    method: str
    target: str  # path and query, as sent
    path: str
    query: dict[str, str]
    headers: dict[str, str]  # names in lower case
    arrived: float
    in_flight: int  # at arrival, including this one
    beside: int  # DELETEs in flight at arrival, including this one
    ids: tuple[int, ...] = ()  # of the id filter, or of the path
    answered: float = 0.0
    status: int = 0  # 0: not answered
    window: int = 0  # the quota window in which it was counted
    counted: bool = False  # False for a 429 because of the quota
    cost: int = 0  # tokens taken: 1, or with count_items one per id
    left: int = 0  # tokens left, as the answer reports them


@dataclass
class Fault:
    """A scripted fault; the first one in store.faults that matches a request applies to it."""

    method: str = "*"
    path: str = "*"  # fnmatch pattern for the path below /stores/<hash>/
    where: Callable[[Request], bool] | None = None
    skip: int = 0
    times: float = 1  # applies to matches skip + 1 to skip + times; math.inf: to all of them
    hook: Callable[[Request], None] | None = None  # called before the request is processed
    after: Callable[[Request], None] | None = None  # called between processing and answer
    delay: float = 0.0  # seconds, before the request is processed
    commit: bool = False  # process the request, then send the faulty answer
    status: int | None = None  # None without `close`: the ordinary answer
    headers: dict[str, str] = field(default_factory=dict)  # over the answer's own
    body: bytes | str | Mapping[str, Any] | Sequence[Any] | None = None
    content_type: str = "application/json"
    close: str = ""  # "reset": TCP RST without an answer; "cut": half of the body
    quota_headers: bool = True
    rewrite: Callable[[Request, Any], Any] | None = None  # of the ordinary answer's JSON
    seen: int = field(default=0, init=False)


class Answer(NamedTuple):
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = {}


class Invalid(ValueError):
    """A parameter that the API rejects."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(name, message)
        self.name, self.message = name, message


# --- made-up customers ----------------------------------------------------------------------

FIRST_NAMES = (
    "Ada Amélie Anna Ben Björn Carla Chloé Daniel Dmitri Elif Emma Fatima George Grace Hana"
    " Hugo Ines Ivan James Jana Kofi Lea Liam Łukasz Maria Mateo Mia Mohammed Noah Nour Olga"
    " Oscar Paula Priya Quentin Rosa Samir Søren Tomáš Uma Victor Wanda Xavier Yuki Zoë"
    " 愛 健太 نور"
)
LAST_NAMES = (
    "Abadi Andersson Baker Bianchi Brown Castro Chen Delgado Dubois Eriksen Fischer García"
    " Gruber Haddad Hughes Ivanova Jansen Kaya Kowalski Lindqvist López Martin Mbeki Meyer"
    " Müller Nakamura Nguyễn Novák Okafor Olsen Patel Popescu Quist Rossi Sato Schröder Silva"
    " Smith Tanaka Taylor Ueda Varga Walker Weiß Yılmaz Zhang 佐藤 山田"  # a Turkish dotless i
)
FIRST, LAST = FIRST_NAMES.split(), LAST_NAMES.split()
COMPANY_NAMES = (
    "Acme Corp|Common Good|Blue Heron Books|Café Größenwahn|Northwind Tools|Pérez y Hijos"
    "|Tide & Timber"
)
COMPANIES = COMPANY_NAMES.split("|")
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
STREET_NAMES = "Mill Lane|Harbour Road|High Street|Rue du Port|Lindenallee|Oak Avenue"
STREETS = STREET_NAMES.split("|")
CUSTOMER_GROUPS = {1: "Wholesale", 2: "Retail", 3: "Employees", 7: "VIP"}
GROUP_IDS = (0, 0, 0, 0, 1, 1, 2, 3, 7)  # 0: no group
NETWORKS = ("192.0.2", "198.51.100", "203.0.113")  # reserved for documentation
SPAM_DOMAINS = ("mailbin.example", "tempinbox.example", "spam-drop.example")
# Names that a careless program would execute, render or break a line at.
HOSTILE_NAMES = (
    ("[bold red]x[/]", "Markup"),
    ("\x1b[31mred", "Escape"),
    ("[/]", "[link=https://evil.example]click[/link]"),
    ("two\nlines", "=1+1"),
    ("\u202eright to left", "\x07Bell\r"),
)
BEGIN, END = 1_546_300_800, 1_750_000_000  # of creation: 2019-01-01, mid-June 2025


def timestamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def ascii_slug(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower()) or "customer"


FIRST_SLUGS, LAST_SLUGS = list(map(ascii_slug, FIRST)), list(map(ascii_slug, LAST))


def make_customer(number: int, index: int, created: int, rng: Rng, _others: object) -> Record:
    """Make a full record: every 12th is spam, every 60th has 12 addresses or attributes."""
    rand = rng.random
    a, b = int(rand() * len(FIRST)), int(rand() * len(LAST))
    first, last = FIRST[a], LAST[b]
    address = f"{FIRST_SLUGS[a]}.{LAST_SLUGS[b]}{number}@shop-mail.example"
    phone = f"555-01{int(rand() * 100):02}" if rand() < 0.7 else ""
    company = COMPANIES[int(rand() * len(COMPANIES))] if rand() < 0.3 else ""
    address_count = 0 if rand() < 0.3 else 1 + int(rand() * 2)
    attribute_count = int(rand() * 2)
    if index % 12 == 5:
        first, last = f"WIN ${int(rand() * 90) + 10}00 now", f"https://prize-{number}.example"
        last += "/go"
        address, address_count, company = f"x{number}q@{SPAM_DOMAINS[index % 3]}", 0, ""
    elif index % 48 == 20:
        first, last = HOSTILE_NAMES[index // 48 % len(HOSTILE_NAMES)]
    elif index % 60 == 30:
        address_count = 12
    elif index % 60 == 31:
        attribute_count = 12
    stamp = timestamp(created)
    modified = timestamp(created + int(rand() * 9_000_000)) if rand() < 0.4 else stamp
    names = {"first_name": first, "last_name": last, "company": company}
    ip_address = f"{NETWORKS[number % 3]}.{int(rand() * 256)}" if rand() < 0.9 else ""
    return {
        "id": number,
        "email": address,
        **names,
        "phone": phone,
        "registration_ip_address": ip_address,
        "notes": "asked for a paper catalogue" if rand() < 0.05 else "",
        "customer_group_id": GROUP_IDS[int(rand() * len(GROUP_IDS))],
        "date_created": stamp,
        "date_modified": modified,
        "address_count": address_count,
        "attribute_count": attribute_count,
        "authentication": {"force_password_reset": False},
        "accepts_product_review_abandoned_cart_emails": rand() < 0.5,
        "channel_ids": (None, [1, 2], [1])[(number % 4 == 0) + (number % 8 == 0)],  # None: all
        "addresses": [make_address(number, n, names, rng) for n in range(address_count)],
        "attributes": [
            {
                "id": number * 20 + n,
                "attribute_id": n + 2,
                "attribute_value": "Yes" if rand() < 0.5 else "No",
                "customer_id": number,
                "date_created": stamp,
                "date_modified": stamp,
            }
            for n in range(attribute_count)
        ],
        "form_fields": [{"name": "shirt_size", "value": "Large", "customer_id": number}]
        if rand() < 0.2
        else [],
        "store_credit_amounts": [{"amount": round(rand() * 200) / 4}] if rand() < 0.1 else [],
    }


def make_address(number: int, place: int, names: Mapping[str, str], rng: Rng) -> Record:
    country, code, city, state, postal_code = PLACES[int(rng.random() * len(PLACES))]
    house = int(rng.random() * 200) + 1
    return {
        "id": number * 20 + place,
        "customer_id": number,
        **names,
        "address1": f"{house} {STREETS[house % len(STREETS)]}",
        "address2": "",
        "city": city,
        "state_or_province": state,
        "postal_code": postal_code,
        "country_code": code,
        "country": country,
        "phone": f"555-01{house % 100:02}",
        "address_type": "commercial" if names["company"] else "residential",
    }


class LightCustomers(Records):
    """Very many small records, each made when it is looked up; only changes are stored."""

    def __init__(self, count: int) -> None:
        super().__init__((number, {}) for number in range(11, 11 + 3 * count, 3))

    def __getitem__(self, number: int) -> Record:
        return super().__getitem__(number) or {
            "id": number,
            "email": f"customer{number}@shop-mail.example",
            "first_name": FIRST[number % len(FIRST)],
            "last_name": LAST[number % len(LAST)],
            "company": "",
            "customer_group_id": number % 4,
            "date_created": timestamp(BEGIN + number * 20),
            "date_modified": timestamp(BEGIN + number * 20),
        }


# --- filters of the lists -------------------------------------------------------------------


class Reading(NamedTuple):
    """How the store reads filters where the API files leave it open."""

    case_sensitive: bool = False  # for email addresses
    inclusive: bool = False  # "before this date" and "after this date" include that moment


Test = Callable[[Record], bool]
Filter = Callable[[str, Reading], Test]
Convert = Callable[[Any], Any]


def matching(pattern: str, convert: Convert) -> Convert:
    """Return a parser that raises ValueError for text that does not match the whole pattern."""

    def parse(text: str) -> Any:
        if not re.fullmatch(pattern, text, re.ASCII):
            raise ValueError(text)
        return convert(text)

    return parse


def folded(value: object) -> str:
    return str(value).casefold()


# Only full date-times in UTC: the meaning of any others depends on the store and the time.
DATE = matching(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", datetime.fromisoformat)
# Type of a filter => how its value is parsed, and how the field of a record is converted.
TYPES: dict[str, tuple[Convert, Convert]] = {
    "text": (folded, folded),
    "exact": (str, str),
    "email": (folded, folded),
    "int": (matching("-?[0-9]+", int), int),
    "number": (matching("-?[0-9]+([.][0-9]+)?", float), float),
    "bool": (matching("true|false", "true".__eq__), bool),
    "flag": (matching("1|0", "1".__eq__), bool),
    "date": (DATE, datetime.fromisoformat),
    # "Returns customers created before this date", "after this date" (customers.v3.yml:100)
    "open_date": (DATE, datetime.fromisoformat),
}
OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "": operator.eq,
    "in": operator.eq,
    "like": operator.contains,
    "min": operator.ge,
    "max": operator.le,
    "greater": operator.gt,
    "less": operator.lt,
}


def field_filter(name: str, type_: str, meaning: str = "") -> Filter:
    """Return the filter of a name like `field:operator`; `meaning` replaces other names."""
    base, _, operation = (meaning or name).partition(":")

    def compiled(value: str, reading: Reading) -> Test:
        # A type that is not in TYPES is the choices in the API file, such as new|used.
        parse, convert = TYPES.get(type_, (matching(type_, folded), folded))
        if type_ == "email" and reading.case_sensitive:
            parse, convert = TYPES["exact"]
        # A list is split at every comma and nowhere else: the second value of "a, b" is " b".
        values = value.split(",") if operation == "in" else [value]
        try:
            wanted = [parse(part) for part in values]
        except ValueError as error:
            raise Invalid(name, f"must be of type {type_}") from error
        compare = OPERATORS[operation]
        if type_ == "open_date" and not reading.inclusive:
            compare = {"min": operator.gt, "max": operator.lt}[operation]

        def test(record: Record) -> bool:
            if record.get(base) is None:
                return False
            found = convert(record[base])
            return any(compare(found, one) for one in wanted)

        return test

    return compiled


def filters_of(table: str) -> dict[str, Filter]:
    """Return the filters of "name/type name/type/meaning …"; see field_filter."""
    rows = [item.split("/") for item in table.split()]
    return {row[0]: field_filter(*row) for row in rows}


def full_name(record: Record) -> str:
    return f"{record['first_name']} {record['last_name']}".lower()


def name_in(value: str, _: Reading) -> Test:
    wanted = set(value.lower().split(","))
    return lambda record: full_name(record) in wanted


def name_like(value: str, _: Reading) -> Test:
    """Search any of several texts, as only customers' does (customers.v3.yml:144)."""
    wanted = value.lower().split(",")
    return lambda record: any(part in full_name(record) for part in wanted)


def whole_numbers(name: str, value: str) -> list[int]:
    """Return the positive integers of a comma-separated list."""
    try:
        return [matching("[0-9]*[1-9][0-9]*", int)(part) for part in value.split(",")]
    except ValueError as error:
        raise Invalid(name, "must be a list of positive integers") from error


def in_all_categories(value: str, _: Reading) -> Test:
    wanted = set(whole_numbers("categories:in", value))
    return lambda record: wanted <= set(record["categories"])


def to_json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def error_body(status: int, title: str, errors: Mapping[str, str] = {}) -> dict[str, Any]:
    """Return a V3 error, such as error_body(403, "The store owner account changed")."""
    reference = "https://developer.bigcommerce.com/api-docs/getting-started/api-status-codes"
    return {"status": status, "title": title, "type": reference, "errors": dict(errors)}


def problem(
    status: int, title: str, errors: Mapping[str, str] = {}, *, v2: bool = False
) -> Answer:
    """Return an error as V3 words it, or as V2 does."""
    body = [{"status": status, "message": title}] if v2 else error_body(status, title, errors)
    return Answer(status, to_json(body))


def store_information() -> dict[str, Any]:
    return {
        "id": STORE_HASH,
        "domain": "sandbox-store.example",
        "secure_url": "https://sandbox-store.example",
        "name": "Sandbox Store",
        "timezone": {"name": "America/Chicago", "raw_offset": -21600},
        "plan_name": "Plus",
    }


# --- made-up records of the other kinds -----------------------------------------------------

Others = Mapping[str, Records]  # the records made so far, by kind
ADJECTIVE_NAMES = "Amber Brass Classic Folding Giant Hand-made Indigo Linen Midnight Oak Slim"
THING_NAMES = "Apron Basket Candle Desk Jar Journal Kettle Lamp Mug Notebook Pillow Rug Scarf"
ADJECTIVES = [*ADJECTIVE_NAMES.split(), "Tall", "Wool"]
THINGS = [*THING_NAMES.split(), "Vase"]


def offset_time(seconds: float) -> str:
    return timestamp(seconds).replace("Z", "+00:00")


def rfc_2822(seconds: float) -> str:
    return email.utils.formatdate(seconds).replace("-0000", "+0000")  # -0000: of unknown zone


def product_name(number: int, rng: Rng) -> str:
    return f"{rng.choice(ADJECTIVES)} {rng.choice(THINGS)} {number}"


def make_product(number: int, index: int, created: int, rng: Rng, others: Others) -> Record:
    """Make a product: every 12th hidden test data, every third with a brand and categories."""
    name = f"TEST do not buy {number}" if index % 12 == 5 else product_name(number, rng)
    price = round(rng.random() * 90 + 5, 2 if index % 5 else 0)
    weight = round(rng.random() * 8, 1)
    category_ids, brand_ids = list(others["categories"]), list(others["brands"])
    in_categories: set[int] = set()
    if category_ids and index % 3 == 0:
        in_categories = {rng.choice(category_ids), category_ids[number % len(category_ids)]}
    return {
        "id": number,
        "name": name,
        "type": "digital" if index % 9 == 4 else "physical",
        "sku": f"SKU-{number}",
        "description": f"<p>{name}</p>",
        "weight": weight,
        "price": price,
        "categories": sorted(in_categories),
        "brand_id": rng.choice(brand_ids) if brand_ids and index % 3 == 0 else 0,
        "inventory_level": index % 7,
        "total_sold": index % 5,
        "is_free_shipping": index % 10 == 0,
        "is_visible": index % 12 != 5,
        "is_featured": index % 20 == 0,
        "upc": f"{number:012}" if index % 2 else "",
        "mpn": f"MPN-{number}" if index % 4 == 0 else "",
        "availability": "disabled" if index % 8 == 3 else "available",
        "condition": "Used" if index % 15 == 7 else "New",
        "date_created": offset_time(created),
        "date_modified": offset_time(created + index % 3 * 500_000),
        "date_last_imported": offset_time(created),
        "custom_fields": [{"id": number * 10, "name": "Season", "value": "Spring"}],
        "bulk_pricing_rules": [],
        "images": [{"id": number * 10, "product_id": number, "is_thumbnail": True}],
        "videos": [],
    }


def make_category(number: int, index: int, created: int, rng: Rng, others: Others) -> Record:
    """Make a top-level category; every tenth is a child of the one before it."""
    made = list(others["categories"])
    return {
        "category_id": number,
        "tree_id": 1 + index // 10 % 2,
        "parent_id": made[-1] if made and index % 10 == 9 else 0,
        "name": f"{rng.choice(THINGS)}s {number}",
        "description": "",
        "page_title": f"Title {index % 4}",
        "is_visible": index % 6 != 5,
    }


def make_brand(number: int, index: int, created: int, rng: Rng, others: Others) -> Record:
    return {
        "id": number,
        "name": f"{rng.choice(LAST)} & {rng.choice(LAST)} {number}",
        "page_title": f"Title {index % 4}",
    }


def make_promotion(number: int, index: int, created: int, rng: Rng, others: Others) -> Record:
    codes = {"multiple_codes": {"has_multiple_codes": True}, "coupon_type": "BULK"}
    of_coupons = {"coupon_overrides_other_promotions": False} | codes
    return {
        "id": number,
        "name": f"{rng.choice(ADJECTIVES)} sale {number}",
        "redemption_type": "COUPON" if index % 2 else "AUTOMATIC",
        "channels": [{"id": 1}],
        "created_from": "api",
        "customer": {"group_ids": [], "minimum_order_count": 0, "excluded_group_ids": []},
        "rules": [],
        "notifications": [],
        "current_uses": 0,
        "status": "DISABLED" if index % 5 == 0 else "ENABLED",
        "start_date": offset_time(created),
        "stop": False,
        "can_be_used_with_other_promotions": True,
        "currency_code": "EUR" if index % 7 == 0 else "USD",
    } | (of_coupons if index % 2 else {})


def make_coupon(number: int, index: int, created: int, rng: Rng, others: Others) -> Record:
    return {
        "id": number,
        "name": f"{rng.choice(ADJECTIVES)} coupon {number}",
        "type": ("per_total_discount", "percentage_discount", "free_shipping")[index % 3],
        "amount": "5.0000",
        "code": f"CODE{number}",
        "applies_to": {"entity": "categories", "ids": [0]},
        "date_created": rfc_2822(created),
    }


def make_gift(number: int, index: int, created: int, rng: Rng, others: Others) -> Record:
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
    }


def make_price_list(number: int, index: int, created: int, rng: Rng, others: Others) -> Record:
    return {
        "id": number,
        "name": f"{rng.choice(ADJECTIVES)} wholesale {number}",
        "active": index % 4 != 3,
        "date_created": timestamp(created),
        "date_modified": timestamp(created + 3600),
    }


def make_redirect(number: int, index: int, created: int, rng: Rng, others: Others) -> Record:
    return {
        "id": number,
        "site_id": 1000 + index % 3,
        "from_path": f"/old/{product_name(number, rng).lower().replace(' ', '-')}",
        "to": {"type": "url", "entity_id": 0, "url": f"/new-{number}/"},
        "to_url": f"https://sandbox-store.example/new-{number}/",
    }


def make_page(number: int, index: int, created: int, rng: Rng, others: Others) -> Record:
    """Make a top-level page; every tenth is a child of the one before it."""
    made = list(others["pages"])
    return {
        "id": number,
        "channel_id": 1 + index // 10 % 2,
        "type": "raw",
        "name": f"About the {rng.choice(THINGS)} {number}",
        "is_visible": True,
        "parent_id": made[-1] if made and index % 10 == 9 else 0,
        "body": f"<p>Page {number}</p>",
    }


def make_subscriber(number: int, index: int, created: int, rng: Rng, others: Others) -> Record:
    first, last = rng.choice(FIRST), rng.choice(LAST)
    domain = "mailbin" if index % 10 == 5 else "shop-mail"
    return {
        "id": number,
        "email": f"{ascii_slug(first)}{number}@{domain}.example",
        "first_name": first,
        "last_name": last,
        "source": "storefront" if index % 2 else "order",
        "order_id": index + 100 if index % 2 == 0 else None,
        "channel_id": 1,
        "date_created": timestamp(created),
        "date_modified": timestamp(created + 60),
    }


def make_order(number: int, index: int, created: int, rng: Rng, others: Others) -> Record:
    """Make an order of one of the first 1,000 customers; every fourth is a guest's."""
    customers = list(itertools.islice(others["customers"], 1000))
    customer = rng.choice(customers) if customers and index % 4 else 0
    return {
        "id": number,
        "customer_id": customer,
        "date_created": rfc_2822(created),
    }


# --- the kinds of records -------------------------------------------------------------------


def all_operators(name: str) -> str:
    return " ".join(f"{name}:{way}/int" for way in OPERATORS if way not in ("", "like"))


def dates(type_: str, *names: str) -> str:
    return " ".join(f"date_{n}:{way}/{type_}" for n in names for way in ("min", "max"))


OPEN_DATES = dates("open_date", "created", "modified")
# By kind, the filters that filters_of makes; NAMED_FILTERS come on top.
FILTERS = {
    "customers": "id:in/int company:in/exact customer_group_id:in/int email:in/email"
    f" phone:in/exact registration_ip_address:in/exact {OPEN_DATES}",
    "products": f"id/int {all_operators('id')} inventory_level/int"
    f" {all_operators('inventory_level')} name/text sku/text sku:in/text mpn/text upc/text"
    " price/number weight/number condition/new|used|refurbished brand_id/int is_visible/bool"
    " is_featured/flag is_free_shipping/flag total_sold/int type/digital|physical"
    f" availability/available|disabled|preorder {dates('date', 'modified', 'last_imported')}",
    "categories": "category_id:in/int tree_id:in/int parent_id:in/int name/text"
    " name:like/text page_title/text page_title:like/text is_visible/bool",
    "brands": f"id/int {all_operators('id')} name/text name:like/text page_title/text",
    "promotions": "id/int name/text currency_code/text redemption_type/automatic|coupon"
    " status/text",
    "coupons": "min_id/int/id:min id/int code/text name/text type/per_item_discount"
    "|percentage_discount|per_total_discount|shipping_discount|free_shipping|promotion",
    "gift_certificates": "min_id/int/id:min code/text order_id/int to_name/text to_email/email"
    " from_name/text from_email/email",
    "price_lists": "id:in/int name/text name:like/text " + dates("date", "created", "modified"),
    "redirects": "id:in/int id:min/int id:max/int site_id/int",
    "pages": "id:in/int channel_id/int name/text",
    "subscribers": "id:in/int email/email first_name/text last_name/text source/text"
    f" order_id/int {OPEN_DATES}",
    "orders": "min_id/int/id:min",
}
NAMED_FILTERS = {
    "customers": {"name:in": name_in, "name:like": name_like},
    "products": {"categories:in": in_all_categories},
}
# By kind, the words of `include` and their fields.
INCLUDES = {
    "customers": {
        "addresses": "addresses",
        "storecredit": "store_credit_amounts",
        "attributes": "attributes",
        "formfields": "form_fields",
    },
    "products": {
        **{name: name for name in ("bulk_pricing_rules", "custom_fields", "images", "videos")},
        **{"reviews": "", "variants": ""},  # the API file has no field for these
    },
    "redirects": {"to_url": "to_url"},
    "pages": {"body": "body"},
}


@dataclass(frozen=True)
class Kind:
    """One resource: its list, and the documented form of DELETE that always names ids."""

    name: str
    path: str  # of the list, below /stores/<hash>/
    scope: str  # with "_read_only" appended it is enough to read
    make: Callable[[int, int, int, Rng, Others], Record]
    sort: str = ""  # the only order of the list; without ":asc" it goes with direction=asc
    max_batch: int = 0  # ids in `id:in` of a DELETE; 0: DELETE by path id
    too_many: int = 413  # the answer to a larger batch (customers.v3.yml:317, of a POST)
    max_concurrent: int = 0  # DELETEs at once; 0: any number
    missing: int = 204  # the answer to a DELETE of a record that does not exist
    id_field: str = "id"
    delete_path: str = ""  # of the DELETE by path id, if it is not the list's
    read_one: bool = True  # GET <path>/<id> exists
    filters: Mapping[str, Filter] = field(default_factory=dict)
    includes: Mapping[str, str] = field(default_factory=dict)

    @property
    def v2(self) -> bool:
        return self.path.startswith("v2/")

    @property
    def order(self) -> dict[str, str]:
        """The parameters that sort the list."""
        direction = {} if ":" in self.sort else {"direction": "asc"}
        return {"sort": self.sort} | direction if self.sort else {}

    @property
    def sub_resources(self) -> frozenset[str]:
        return frozenset(self.includes.values()) - {""}


CUSTOMERS, PRODUCTS = "store_v2_customers", "store_v2_products"  # scopes
MARKETING, CONTENT = "store_v2_marketing", "store_v2_content"
# "The maximum number of products you can delete at one time is 250." "Currently, batches are
# limited to 50 promotions." Elsewhere no maximum is documented: 10 is a POST's. Of a 404 to
# pages: "Specified pages that did exist were successfully deleted."
TABLE = (
    Kind("customers", "v3/customers", CUSTOMERS, make_customer, "date_created:asc", 10),
    Kind("products", "v3/catalog/products", PRODUCTS, make_product, "id", 250),
    Kind(
        "categories",
        "v3/catalog/trees/categories",
        PRODUCTS,
        make_category,
        id_field="category_id",
        delete_path="v3/catalog/categories",
    ),
    Kind("brands", "v3/catalog/brands", PRODUCTS, make_brand, "name", missing=404),
    Kind("promotions", "v3/promotions", MARKETING, make_promotion, "id", 50, too_many=422),
    Kind("coupons", "v2/coupons", MARKETING, make_coupon, missing=404),
    Kind("gift_certificates", "v2/gift_certificates", MARKETING, make_gift, "id", missing=404),
    Kind("price_lists", "v3/pricelists", PRODUCTS, make_price_list, max_concurrent=1),
    Kind("redirects", "v3/storefront/redirects", CONTENT, make_redirect, "id", 10),
    Kind("pages", "v3/content/pages", CONTENT, make_page, max_batch=10, missing=404),
    Kind("subscribers", "v3/customers/subscribers", CUSTOMERS, make_subscriber),
    Kind("orders", "v2/orders", "store_v2_orders", make_order, "id:asc"),
)
NO_PATH_ID = {"customers", "categories", "coupons", "redirects", "orders"}  # of a GET
KINDS: dict[str, Kind] = {
    kind.name: replace(
        kind,
        read_one=kind.name not in NO_PATH_ID,
        filters=filters_of(FILTERS[kind.name]) | NAMED_FILTERS.get(kind.name, {}),
        includes=INCLUDES.get(kind.name, {}),
    )
    for kind in TABLE
}
NAMES = tuple(KINDS)
LISTS = {kind.path: kind.name for kind in TABLE}
BATCH_DELETES = {kind.path: kind.name for kind in TABLE if kind.max_batch}
SINGLE_DELETES = {
    kind.delete_path or kind.path: kind.name
    for kind in TABLE
    if not kind.max_batch and kind.name != "orders"  # which are never deleted
}
READ_ONLY = {"store_v2_information_read_only", "store_v2_orders_read_only"}
SCOPES = frozenset(READ_ONLY | {kind.scope for kind in TABLE if kind.name != "orders"})


def make_records(name: str, count: int, others: Others, seed: object) -> None:
    """Fill others[name]; ids have gaps, and ascend with the time of creation."""
    rng = random.Random(seed)  # type: ignore[arg-type]
    number, step = 10, (END - BEGIN) / max(count, 1)
    for index in range(count):
        number += 1 if rng.random() < 0.8 else 2 + int(rng.random() * 8)
        created = BEGIN + int((index + rng.random()) * step)
        others[name][number] = KINDS[name].make(number, index, created, rng, others)


class Collection:
    """The records of one kind, and what is cached for its lists."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self.next_id = max(records, default=10) + 1
        self.version = 0
        self.lingering: dict[int, tuple[Record, float]] = {}  # deleted, listed until then
        self.orders: dict[object, Sequence[int]] = {}  # ids by query
        self.orders_version = (0, 0)

    def record(self, number: int) -> Record:
        return self.records[number] if number in self.records else self.lingering[number][0]


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read."""
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text, encoding="utf-8")


def ini_text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value).replace("\n", "\n\t")


# --- the store ------------------------------------------------------------------------------


class FakeStore:
    """The store; `with FakeStore(...) as store:` serves it until the block ends.

    It is as strict as BigCommerce's API files. `violations` are requests that no client of a
    real store should ever send. The order of lists is cached: change records with `change`.
    """

    def __init__(
        self,
        *,
        customers: int = 1003,
        quota: int | None = 150,  # None: unlimited; may be changed while the store runs
        window: float = 3.0,
        latency: float | Callable[[Request], float] = 0.0,
        light: bool = False,  # see LightCustomers
        lag: float = 0.0,  # seconds for which a deleted record is still listed
        count_items: bool = False,  # each id of a DELETE costs a token
        case_sensitive_lookups: bool = False,  # of email addresses
        date_bounds: str = "worded",  # as in the API files; or "inclusive"
        folder: Path | None = None,  # where ca.pem is written; None: a temporary one
        **counts: int,  # of the other kinds: products=60, orders=20, …
    ) -> None:
        self.quota, self.window, self.latency, self.lag = quota, window, latency, lag
        self.count_items, self.folder = count_items, folder
        self.reading = Reading(case_sensitive_lookups, date_bounds == "inclusive")
        if unknown := counts.keys() - set(NAMES):
            raise TypeError(f"FakeStore has no such kinds of records: {unknown}")
        self.records: dict[str, Records] = {name: {} for name in NAMES}
        if light:
            self.records["customers"] = LightCustomers(customers)
        else:
            make_records("customers", customers, self.records, 1)
        for name in dict.fromkeys(("categories", "brands", *counts)):  # before products
            make_records(name, counts.get(name, 0), self.records, f"{name} 1")
        self.customer_groups = dict(CUSTOMER_GROUPS)  # id => name
        self.token, self.store_hash = TOKEN, STORE_HASH
        self.scopes = set(SCOPES)
        self.info = store_information()
        self.log: list[Request] = []
        self.faults: list[Fault] = []
        self.violations: list[str] = []
        self.connections = self.max_in_flight = 0
        self.deaf: set[str] = set()  # parameters of lists that are ignored silently
        self.refuse: dict[int, tuple[int, object]] = {}  # id => answer to a DELETE with it
        self.per_item: dict[int, tuple[int, str]] = {}  # id => its own rejection
        self.per_item_status, self.per_item_shape = 207, "errors"  # or "meta" or "rows"
        self.sticky: dict[int, float] = {}  # id => DELETEs answered 204 without effect
        self.with_codes: set[int] = set()  # promotions that still have coupon codes attached
        self.partial_promotions = False  # the rest of such a batch is deleted
        self.others: Counter[int] = Counter()  # window => tokens of other apps

        self._rng = random.Random(2)
        self._collections = {name: Collection(its) for name, its in self.records.items()}
        self._lock = threading.RLock()
        self._anchor: float | None = None  # when the first window began
        self._used: Counter[int] = Counter()
        self._in_flight = self._deletes_in_flight = 0
        self._sockets: set[socket.socket] = set()
        self._stopping = threading.Event()

    @property
    def customers(self) -> Records:
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
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        """Serve one connection, in a thread of its own, from its handshake to its end."""
        tls: socket.socket = plain
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            tls = self._tls.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
            with self._lock:
                self._sockets.add(tls)
            assert isinstance(tls, ssl.SSLSocket)
            tls.do_handshake()
            self._converse(tls)
        except (OSError, ValueError):
            pass  # the client left, does not trust the CA, or does not speak HTTP
        finally:
            with self._lock:
                self._sockets.discard(tls)
            tls.close()

    def _converse(self, tls: ssl.SSLSocket) -> None:
        with tls.makefile("rb") as reader:
            while not self._stopping.is_set() and (line := reader.readline()):
                method, target, _ = line.decode("latin-1").split(" ")
                headers: dict[str, str] = {}
                while header := reader.readline().decode("latin-1").strip():
                    name, _, value = header.partition(":")
                    headers[name.lower()] = value.strip()
                reader.read(int(headers.get("content-length") or 0))
                if not self._exchange(tls, self._arrive(method, target, headers)):
                    return
                if headers.get("connection", "").lower() == "close":
                    return

    def _arrive(self, method: str, target: str, headers: dict[str, str]) -> Request:
        path, _, query_string = target.partition("?")
        pairs = urllib.parse.parse_qsl(query_string, keep_blank_values=True)
        query = dict(pairs)
        named = query.get("id:in", query.get("category_id:in"))
        ids = [path.rpartition("/")[2]] if named is None else named.split(",")
        with self._lock:
            self._in_flight += 1
            self._deletes_in_flight += method == "DELETE"
            self.max_in_flight = max(self.max_in_flight, self._in_flight)
            request = Request(
                number=len(self.log) + 1,
                method=method,
                target=target,
                path=path,
                query=query,
                headers=headers,
                arrived=time.monotonic(),
                in_flight=self._in_flight,
                beside=self._deletes_in_flight,
                ids=tuple(int(part) for part in ids if part.isascii() and part.isdigit()),
            )
            self.log.append(request)
            for name in {"authorization", "cookie"} & headers.keys():
                self.violations.append(f"{method} {path} with the header {name}")
            if method not in ("GET", "DELETE"):
                self.violations.append(f"{method} {path}: only GET and DELETE are sent")
            if len(pairs) > len(query):
                self.violations.append(f"{method} {target} with a repeated parameter")
        return request

    def _exchange(self, tls: ssl.SSLSocket, request: Request) -> bool:
        """Answer one request; return False when the connection ends with it."""
        try:
            answer, data, close = self._prepare(request)
        except Exception as error:  # raised by a function of the test
            self.violations.append(f"a scripted function failed: {error!r}")
            answer, data, close = None, b"", "reset"
        with self._lock:  # before the client can send its next request
            self._in_flight -= 1
            self._deletes_in_flight -= request.method == "DELETE"
            request.status = answer.status if answer else 0
            request.answered = time.monotonic()
        if answer is None:
            tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            return False
        tls.sendall(data)
        return not close

    def _prepare(self, request: Request) -> tuple[Answer | None, bytes, str]:
        """Return the answer (None: send none), its bytes, and how to close the connection."""
        with self._lock:
            fault, quota_headers = self._count(request)
        self._wait(self.latency(request) if callable(self.latency) else self.latency)
        answer: Answer | None
        if fault:
            answer = self._faulty(request, fault)
        elif request.counted:
            answer = self._process(request)
        else:
            seconds = math.ceil(int(quota_headers["X-Rate-Limit-Time-Reset-Ms"]) / 1000)
            headers = {"X-Retry-After": str(seconds)}
            answer = problem(429, "Too many requests")._replace(headers=headers)
        close = fault.close if fault else ""
        headers = {"Date": email.utils.formatdate(usegmt=True)}
        if fault is None or fault.quota_headers:
            headers |= quota_headers
        data = self._message(answer, headers, fault, cut=close == "cut") if answer else b""
        return answer, data, close

    def _wait(self, seconds: float) -> None:
        if seconds > 0:
            self._stopping.wait(seconds)

    def _message(
        self, answer: Answer, headers: dict[str, str], fault: Fault | None, *, cut: bool
    ) -> bytes:
        """Return the head and the body, or half of the body if it is cut off."""
        if answer.body:
            headers["Content-Type"] = "application/json"
        headers |= answer.headers
        if answer.status not in (204, 304):
            headers["Content-Length"] = str(len(answer.body))
        if fault:
            named = {name.lower() for name in fault.headers}
            headers = {k: v for k, v in headers.items() if k.lower() not in named}
            headers |= fault.headers
        phrase = http.client.responses.get(answer.status, "Unknown")
        lines = [f"HTTP/1.1 {answer.status} {phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        body = answer.body[: len(answer.body) // 2] if cut else answer.body
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body

    def _faulty(self, request: Request, fault: Fault) -> Answer | None:
        if fault.hook:
            fault.hook(request)
        self._wait(fault.delay)
        reads = request.method == "GET" and fault.close != "reset"
        ordinary = None
        if fault.commit or (fault.status is None and (not fault.close or reads)):
            ordinary = self._process(request)
        if fault.after:
            fault.after(request)
        if fault.close == "reset":
            return None
        if fault.status is None and ordinary and (ordinary.body or not fault.close):
            if fault.rewrite is None:
                return ordinary
            body = json.loads(ordinary.body) if ordinary.body else None
            status = 200 if ordinary.status == 204 else ordinary.status
            rewritten = fault.rewrite(request, body)
            return ordinary._replace(status=status, body=to_json(rewritten))
        if fault.status is None:  # an empty answer cannot be cut off
            return Answer(200, to_json({"data": [], "meta": {"note": "this is cut off"}}))
        body = b"" if fault.body is None else fault.body
        body = body.encode() if isinstance(body, str) else body
        body = body if isinstance(body, bytes) else to_json(body)
        return Answer(fault.status, body, {"Content-Type": fault.content_type} if body else {})

    # the quota; everything below runs with the lock collection

    def _window(self) -> tuple[int, float]:
        """Return the number of the present window, and the seconds left in it."""
        now = time.monotonic()
        if self._anchor is None:
            self._anchor = now
        number, into = divmod(now - self._anchor, self.window)
        return int(number), self.window - into

    def _count(self, request: Request) -> tuple[Fault | None, dict[str, str]]:
        """Take the request's tokens; return its fault and the quota headers of this moment."""
        quota = self.quota or UNLIMITED
        request.window, reset = self._window()
        request.left = max(0, quota - self._used[request.window])
        fault = self._fault_for(request)
        if request.left:
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
                request.left  # without quota: a plain 429
                and fault.method in ("*", request.method)
                and fnmatch.fnmatchcase(path, fault.path)
                and (fault.where is None or fault.where(request))
            ):
                fault.seen += 1
                if fault.skip < fault.seen <= fault.skip + fault.times:
                    return fault
        return None

    # processing

    def _process(self, request: Request) -> Answer:
        with self._lock:
            try:
                return self._route(request)
            except Invalid as error:
                if request.path.split("/")[3] == "v2":  # as in customers.v2.yml
                    return problem(400, f"The field '{error.name}' is invalid.", v2=True)
                detail = {error.name: f"{error.name} {error.message}"}
                return problem(422, f"The {error.name} was not valid.", detail)

    def _route(self, request: Request) -> Answer:
        prefix = f"/stores/{self.store_hash}/"
        if not request.path.startswith(prefix):
            return problem(404, "The resource at that URL is not found.")
        if request.headers.get("x-auth-token") != self.token:
            return problem(401, "X-Auth-Token header is required and must be valid")
        # A path that ends with a slash is the collection, whatever the client meant.
        path = request.path.removeprefix(prefix).rstrip("/")
        parent, _, last = path.rpartition("/")
        if request.method == "DELETE":
            return self._delete(request, path)
        if request.method != "GET":
            return problem(405, "Method not allowed")
        if path == "v2/store":
            forbidden = self._forbidden(request, "store_v2_information")
            return forbidden or Answer(200, to_json(self.info))
        if path == "v2/customer_groups":
            return self._forbidden(request, CUSTOMERS) or self._list_groups(request)
        kind = KINDS.get(LISTS.get(path) or LISTS.get(parent, ""))
        if kind is None or not (kind.read_one or path == kind.path):
            self.violations.append(f"GET {request.path}: not in the API files")
            return problem(404, "The resource at that URL is not found.")
        if forbidden := self._forbidden(request, kind.scope):
            return forbidden
        if path == kind.path:
            return self._list(kind, request)
        return self._read(kind, request, last)

    def _forbidden(self, request: Request, scope: str) -> Answer | None:
        enough = {scope, f"{scope}_read_only"} if request.method == "GET" else {scope}
        if enough & self.scopes:
            return None
        return problem(403, "You don't have a required scope to access the endpoint")

    # deleting

    def _delete(self, request: Request, path: str) -> Answer:
        """Delete ids that are given in the kind's documented form; any other is a violation."""
        parent, _, last = path.rpartition("/")
        name, text, pattern = SINGLE_DELETES.get(parent), last, "[1-9][0-9]*"
        parameters: set[str] = set()
        if path in BATCH_DELETES:
            name, text = BATCH_DELETES[path], request.query.get("id:in", "")
            pattern, parameters = "[1-9][0-9]*(,[1-9][0-9]*)*", {"id:in"}
        valid = re.fullmatch(pattern, text) and request.query.keys() == parameters
        if name is None or not valid:
            self.violations.append(f"DELETE {request.target}: no positive ids as documented")
            # The API files say of several collections that this deletes all records, as here.
            if emptied := LISTS.get(path.replace("v2/customers", "v3/customers")):
                self.remove(*self.records[emptied], kind=emptied)
                return Answer(204)
            return problem(422, "The request was not valid.", v2=path.startswith("v2/"))
        kind, ids = KINDS[name], [int(part) for part in text.split(",")]
        return self._forbidden(request, kind.scope) or self._delete_ids(kind, request, ids)

    def _delete_ids(self, kind: Kind, request: Request, ids: Sequence[int]) -> Answer:
        if kind.max_concurrent and request.beside > kind.max_concurrent:
            self.violations.append(f"{request.beside} DELETEs of /{kind.path} at once")
            return problem(429, f"Limit of {kind.max_concurrent} concurrent request")
        if len(ids) > (kind.max_batch or 1):
            return problem(kind.too_many, f"The maximum number of items is {kind.max_batch}.")
        answer = Answer(204)
        if kind.missing != 204 and not self.records[kind.name].keys() >= set(ids):
            answer = problem(kind.missing, "The requested resource was not found.", v2=kind.v2)
            if not kind.max_batch:
                return answer
        for number in ids:
            if number in self.refuse:
                status, body = self.refuse[number]
                return Answer(status, to_json(body))
        if rejection := self._rejection(kind, ids):
            return rejection
        affordable = request.cost if self.count_items and request.counted else len(ids)
        failed = dict.fromkeys(ids[affordable:], (429, "ERR_TOO_MANY_REQUEST"))
        failed |= {n: self.per_item[n] for n in ids[:affordable] if n in self.per_item}
        done = [number for number in ids if number not in failed]
        for number in done:
            if self.sticky.get(number, 0) > 0:
                self.sticky[number] -= 1
                continue
            for each in self._with_children(number) if kind.name == "categories" else [number]:
                self._drop(kind.name, each, self.lag)
        return self._partial_answer(done, failed) if failed else answer

    def _rejection(self, kind: Kind, ids: Sequence[int]) -> Answer | None:
        """Return the answer to a batch with a record that something else depends on."""
        products = self.records["products"].values()
        if kind.name == "categories" and any(set(ids) & set(p["categories"]) for p in products):
            return problem(422, "A category that contains products cannot be deleted.")
        if kind.name != "promotions" or self.with_codes.isdisjoint(ids):
            return None
        held = [number for number in ids if number in self.with_codes]
        deleted = sorted(set(ids) - self.with_codes) if self.partial_promotions else []
        for number in deleted:
            self._drop(kind.name, number, self.lag)
        message = "Failed for id={}. Error: some relating codes are still present."
        details = {f"{ids.index(number)}.code": message.format(number) for number in held}
        error = error_body(422, "Errors occurred in bulk delete action.", details)
        meta = {"total": len(ids), "success": len(deleted), "failed": len(ids) - len(deleted)}
        return Answer(422, to_json({"errors": [error], "meta": meta}))

    def _with_children(self, number: int) -> list[int]:
        """Return the category and all its descendants."""
        found = [number]
        for parent in found:
            categories = self.records["categories"].items()
            found += [n for n, its in categories if its["parent_id"] == parent]
        return found

    def _partial_answer(self, done: list[int], failed: dict[int, tuple[int, str]]) -> Answer:
        """Report a partial success in one of the three shapes that BigCommerce uses."""
        meta = {"total": len(done) + len(failed), "success": len(done), "failed": len(failed)}
        if self.per_item_shape == "meta":
            messages = {str(number): message for number, (_, message) in failed.items()}
            error = error_body(422, "Bulk operation has failed", messages)
            return Answer(422, to_json({"data": done, "errors": [error], "meta": meta}))
        if self.per_item_shape == "rows":
            rows = [f"[{number}] {status} {text}" for number, (status, text) in failed.items()]
            return Answer(200, to_json({"data": done, "failed_rows_data": rows, "meta": meta}))
        data = [{"id": number, "status": 204} for number in done]
        errors = [{"id": n, "status": s, "message": m} for n, (s, m) in failed.items()]
        return Answer(self.per_item_status, to_json({"data": data, "errors": errors}))

    def _drop(self, name: str, number: int, lag: float = 0.0) -> None:
        collection = self._collections[name]
        if number not in collection.records:
            return
        if lag:
            collection.lingering[number] = (collection.records[number], time.monotonic() + lag)
        del collection.records[number]
        collection.version += 1

    # reading

    def _accepted(self, request: Request, parameters: Iterable[str]) -> dict[str, str]:
        """Return the query without unknown parameters, which stores ignore, and empty ones."""
        query = {n: v for n, v in request.query.items() if v and n not in self.deaf}
        for name in query.keys() - set(parameters):
            self.violations.append(f"GET {request.path} with an unknown parameter: {name}")
            del query[name]
        return query

    def _page(self, query: Mapping[str, str]) -> tuple[int, int]:
        """Return the page's number and the records on a page."""
        numbers = []
        for name, default in (("page", 1), ("limit", DEFAULT_PAGE)):
            found = whole_numbers(name, query.get(name, str(default)))
            if len(found) > 1 or (name == "limit" and found[0] > MAX_PAGE):
                raise Invalid(name, "must be a positive integer, and a limit at most 250")
            numbers += found
        return numbers[0], numbers[1]

    def _list_groups(self, request: Request) -> Answer:
        page, limit = self._page(self._accepted(request, {"page", "limit"}))
        access = {"category_access": {"type": "all"}, "is_default": False}
        names = sorted(self.customer_groups.items())
        groups = [{"id": number, "name": name} | access for number, name in names]
        shown = groups[(page - 1) * limit : page * limit]
        return Answer(200, to_json(shown)) if shown else Answer(204)

    def _read(self, kind: Kind, request: Request, tail: str) -> Answer:
        """Answer a GET by path id; no record has a parameter there but `include`."""
        query = self._accepted(request, {"include"} if kind.includes else ())
        number = whole_numbers("id", tail)[0]
        if number not in self.records[kind.name]:
            if kind.name == "promotions":  # whose file has a body of its own
                errors = [{"status": 404, "title": "Promotion not found"}]
                return Answer(404, to_json({"errors": errors}))
            return problem(404, "The requested resource was not found.", v2=kind.v2)
        record = self._shown(kind, number, self._included(kind, query))
        return Answer(200, to_json(record if kind.v2 else {"data": record, "meta": {}}))

    def _included(self, kind: Kind, query: Mapping[str, str]) -> frozenset[str]:
        words = query["include"].split(",") if "include" in query else []
        if not kind.includes.keys() >= set(words):
            raise Invalid("include", "contains an unknown sub-resource")
        return frozenset(kind.includes[word] for word in words)

    def _list(self, kind: Kind, request: Request) -> Answer:
        words = ["page", "limit", *(["include"] if kind.includes else [])]
        query = self._accepted(request, [*words, *kind.filters, *kind.order])
        page, limit = self._page(query)
        include = self._included(kind, query)
        for name, value in kind.order.items():
            if query.get(name, value) != value:
                raise Invalid(name, f"must be {value}")
        collection, now = self._collections[kind.name], time.monotonic()
        lingering = collection.lingering.items()
        collection.lingering = {n: record for n, record in lingering if record[1] > now}
        used = kind.filters.keys() | {"sort"}
        order = self._order(kind, {n: value for n, value in query.items() if n in used})
        shown = order[(page - 1) * limit : page * limit]
        rows = [self._shown(kind, number, include) for number in shown]
        if kind.v2:
            return Answer(200, to_json(rows)) if rows else Answer(204)
        pagination = {
            "total": len(order),
            "count": len(rows),
            "per_page": limit,
            "current_page": page,
            "total_pages": math.ceil(len(order) / limit),
            "links": {"current": f"?page={page}&limit={limit}"},
        }
        return Answer(200, to_json({"data": rows, "meta": {"pagination": pagination}}))

    def _order(self, kind: Kind, query: dict[str, str]) -> Sequence[int]:
        """Return the ids that the filters select, sorted; cached until a record changes."""
        collection, by_id = self._collections[kind.name], f"{kind.id_field}:in"
        version = (collection.version, len(collection.records))
        if collection.orders_version != version:
            collection.orders, collection.orders_version = {}, version
        key = (kind.name, self.reading, *sorted(query.items()))
        if not collection.lingering and key in collection.orders:
            return collection.orders[key]
        order: Iterable[int] = (
            sorted({*collection.records, *collection.lingering})
            if collection.lingering
            else collection.records
        )
        if by_id in query:
            wanted = sorted(set(whole_numbers(by_id, query[by_id])))
            order = [n for n in wanted if n in collection.records or n in collection.lingering]
        names = [name for name in query if name in kind.filters and name != by_id]
        tests = [kind.filters[name](query[name], self.reading) for name in names]
        order = [n for n in order if all(test(collection.record(n)) for test in tests)]
        sort = query.get("sort", "").partition(":")[0]
        if sort and not isinstance(collection.records, LightCustomers):  # which are in order
            order.sort(key=lambda n: (collection.record(n).get(sort) or "", n))
        if not collection.lingering and by_id not in query:
            collection.orders[key] = order
        return order

    def _shown(self, kind: Kind, number: int, include: frozenset[str]) -> Record:
        return {
            # address_count and attribute_count are not cut.
            name: value[:MAX_SUB_RESOURCES] if name in ("addresses", "attributes") else value
            for name, value in self._collections[kind.name].record(number).items()
            if name not in kind.sub_resources or name in include
        }

    # for tests and benchmarks

    def env(self) -> dict[str, str]:
        """Return all that the tool needs to reach the store, past any proxy of this machine."""
        reach = {"BC_API_ENDPOINT": self.host, "REQUESTS_CA_BUNDLE": str(self.ca_file)}
        direct = dict.fromkeys(("NO_PROXY", "no_proxy"), "localhost,127.0.0.1")
        return reach | direct if urllib.request.getproxies() else reach

    def config(self, folder: Path, **cleanup: object) -> Path:
        """Write store.ini: [store], [cleanup] with the given keys, [filters] from `filters`."""
        own = {"store_hash": self.store_hash, "access_token": self.token}
        for name in (*own, "client_id", "domain"):
            if name in cleanup:
                own[name] = str(cleanup.pop(name))
        filters, lines = cleanup.pop("filters", {}), []
        for section, values in (("store", own), ("cleanup", cleanup), ("filters", filters)):
            assert isinstance(values, dict)
            if values:
                texts = [f"{name} = {ini_text(value)}" for name, value in values.items()]
                lines += [f"[{section}]", *texts, ""]
        path = Path(folder) / "store.ini"
        write_private(path, "\n".join([*lines, ""]))
        return path

    def add(self, n: int = 1, kind: str = "customers", **fields: Any) -> list[int]:
        """Create n records now, with the next ids and these fields; return the ids."""
        with self._lock:
            collection, make = self._collections[kind], KINDS[kind].make
            ids = list(range(collection.next_id, collection.next_id + n))
            collection.next_id += n
            for number in ids:
                record = make(number, 0, int(time.time()), self._rng, self.records)
                if kind == "customers":
                    record["date_modified"] = record["date_created"]
                collection.records[number] = record | fields
            collection.version += 1
            return ids

    def remove(self, *ids: int, kind: str = "customers") -> None:
        """Delete records at once, as another app does."""
        with self._lock:
            for number in ids:
                self._drop(kind, number)

    def change(self, number: int, kind: str = "customers", **fields: Any) -> None:
        with self._lock:
            collection = self._collections[kind]
            collection.records[number] = collection.records[number] | fields
            collection.version += 1

    @contextlib.contextmanager
    def other_app(self, per_second: float) -> Iterator[None]:
        """Take tokens at an even pace, as another app does, until the block ends."""
        done = threading.Event()

        def work() -> None:
            begun = time.monotonic()
            for turn in itertools.count(1):
                with self._lock:
                    window, _ = self._window()
                    if self._used[window] < (self.quota or UNLIMITED):
                        self._used[window] += 1
                        self.others[window] += 1
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

    def deleted_ids(self) -> Counter[int]:
        """Count how often each id was in a DELETE, whatever the answer."""
        return Counter(n for request in self.deletes() for n in request.ids)

    def windows(self) -> dict[int, int]:
        """Return the tokens that the requests in the log took, by window."""
        taken: Counter[int] = Counter()
        for request in self.log:
            if request.counted:
                taken[request.window] += request.cost
        return dict(sorted(taken.items()))


# --- the sandbox ----------------------------------------------------------------------------

RUNS = "runs"  # the tool's own default for its run folders
SANDBOX_PORTS = range(20_000, 30_000)  # below those that systems assign to clients
SANDBOX_CUSTOMERS = 1000
SANDBOX_RECORDS: dict[str, Any] = {
    **{"products": 60, "categories": 30, "brands": 20, "promotions": 20, "coupons": 30},
    **{"gift_certificates": 20, "price_lists": 10, "redirects": 60, "pages": 20},
    **{"subscribers": 120, "orders": 200},
}
ADA = "ada.smith15@shop-mail.example"  # in the cookbook a customer and a subscriber
RUN_FILES = {
    "report.html": "the run, for a browser",
    "plan.json": "the ids to delete",
    "selected.csv": "the selected records, for a spreadsheet",
    "backup.jsonl": "the records before they were deleted",
    "reimport.csv": "the customers, for an import in the control panel",
    "failed.csv": "failed records and reasons",
    "journal.jsonl": "batches sent, answered and verified",
    "run.log": "all requests",
    "summary.json": "the result, for scripts",
}


class Sandbox(FakeStore):
    """A store with records of every kind, which can be started again in its last state.

    Its folder contains what a command needs to reach it (store.ini, ca.pem), the lists used in
    the README's cookbook, and store.jsonl: one line with the port and the number of customers,
    then one for each deleted record.
    """

    folder: Path

    def __init__(
        self, folder: Path, *, customers: int | None = None, keep: bool = False, **options: Any
    ) -> None:
        folder = folder.absolute()
        self._state = folder / "store.jsonl"
        text = self._state.read_text(encoding="utf-8") if self._state.exists() else "{}"
        last, *deleted = [json.loads(line) for line in text.splitlines()] or [{}]
        self.kept: bool = keep and bool(last) and customers in (None, last["customers"])
        if customers is None:
            customers = last["customers"] if self.kept else SANDBOX_CUSTOMERS
        super().__init__(customers=customers, folder=folder, **SANDBOX_RECORDS, **options)
        self._last_port: int = last.get("port", 0)
        self._resized = customers != last.get("customers")
        self._notes: TextIO | None = None
        self.change(next(iter(self.records["subscribers"])), kind="subscribers", email=ADA)
        self.counts = {name: len(records) for name, records in self.records.items()}
        self.lists = cookbook_lists(list(self.customers.values()))
        for name, number in deleted if self.kept else ():
            self.remove(number, kind=name)

    def tool(self) -> list[str]:
        """Return bulk_delete.py and the options that it needs for this store."""
        script = Path(__file__).resolve().parent.parent / "bulk_delete.py"
        runs = relative(self.folder.parent)
        words = [relative(script), "--config", relative(self.folder / "store.ini")]
        return words if runs == RUNS else [*words, "--runs-dir", runs]

    def command(self, *options: str) -> str:
        """Return the command that starts this sandbox again."""
        runs = relative(self.folder.parent)
        own = ["-m", "tests.fake_store", *([] if runs == RUNS else ["--folder", runs])]
        return command_line(this_python(), *own, *options)

    def __enter__(self) -> Self:
        if not self._state.exists() and self.folder.is_dir() and any(self.folder.iterdir()):
            here = relative(self.folder)
            raise OSError(f"{here} contains other files. Choose another place with --folder.")
        self.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.mkdir(mode=0o700, exist_ok=True)
        super().__enter__()
        if not self.kept:
            first = {"port": self.port, "customers": self.counts["customers"]}
            write_private(self._state, json.dumps(first) + "\n")
        self._notes = self._state.open("a", encoding="utf-8", buffering=1)
        write_private(self.folder / ".gitignore", "*\n")
        self.ca_file.chmod(0o600)
        for name, text in self.lists.items():
            if self._resized or not (self.folder / name).exists():  # edits by hand are kept
                write_private(self.folder / name, text)
        if not (self.folder / "store.ini").exists():
            self.config(self.folder)
        return self

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        with self._lock:
            if self._notes:
                self._notes.close()
            self._notes = None

    def _listen(self) -> socket.socket:
        """Listen at the last port, since a plan is only executed at its own host and port.

        The first port follows from the folder, so that two sandboxes rarely share one.
        """
        first = SANDBOX_PORTS[zlib.crc32(str(self.folder).encode()) % len(SANDBOX_PORTS)]
        try:
            return socket.create_server(("127.0.0.1", self._last_port or first), backlog=128)
        except OSError as error:
            if self._last_port:
                here = relative(self.folder)
                raise OSError(
                    f"Port {self._last_port}, used by {here}, is in use. Stop the sandbox that"
                    " runs there, or choose another place with --folder."
                ) from error
            return super()._listen()

    def _drop(self, name: str, number: int, lag: float = 0.0) -> None:
        if self._notes and number in self.records[name]:
            print(json.dumps([name, number]), file=self._notes)
        super()._drop(name, number, lag)


def cookbook_lists(people: Sequence[Record]) -> dict[str, str]:
    """Return the lists used in the README's cookbook, each with some of these customers."""
    staff = [people[index] for index in (1, 6, 7) if index < len(people)]
    table = io.StringIO()
    rows = ([row["id"], f"{row['first_name']} {row['last_name']}"] for row in people[::50])
    csv.writer(table, lineterminator="\n").writerows([["Customer ID", "Name"], *rows])
    return {
        "merchant.csv": table.getvalue(),
        "addresses.txt": "".join(f"{row['email']}\n" for row in [*people[25::50], *staff]),
        "staff.txt": "".join(f"{row['email']}\n" for row in staff[:-1])
        + "".join(f"{row['id']}\n" for row in staff[-1:]),
        "person.txt": f"{ADA}\n",
    }


class LastRun(NamedTuple):
    written: int  # when its summary was written, in nanoseconds
    folder: Path
    summary: Record


def last_run(runs: Path) -> LastRun | None:
    """Return the run whose summary was written last."""
    paths = runs.glob(f"{STORE_HASH}-*/summary.json")
    found = [(path.stat().st_mtime_ns, path) for path in paths]
    if not found:
        return None
    written, path = max(found)
    return LastRun(written, path.parent, json.loads(path.read_text(encoding="utf-8")))


def relative(path: Path | str) -> str:
    """Return a path relative to the current folder if it is below it."""
    whole, here = Path(os.path.abspath(path)), Path.cwd()
    return str(whole.relative_to(here) if whole.is_relative_to(here) else whole)


def this_python() -> str:
    """Return the command that runs this Python."""
    name = Path(sys.executable).name
    return name if shutil.which(name) == sys.executable else relative(sys.executable)


def command_line(*words: str) -> str:
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def lines_to_paste(
    folder: str, variables: Mapping[str, str], command: str, *, power_shell: bool
) -> list[str]:
    """Return the lines that run the command in that folder with these variables."""
    if not power_shell:
        settings = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
        return [f"cd {shlex.quote(folder)}", *settings, command]

    def quoted(text: str) -> str:
        return "'" + text.replace("'", "''") + "'"

    settings = [f"$env:{name} = {quoted(value)}" for name, value in variables.items()]
    # Without & PowerShell prints a string in quotes.
    called = f"& {command}" if command.startswith('"') else command
    return [f"cd {quoted(folder)}", *settings, called]


def say(*paragraphs: str) -> None:
    """Print to stderr; text that begins with spaces is a command to copy and not wrapped."""
    for text in paragraphs:
        wrapped = textwrap.wrap(text, 79, break_long_words=False, break_on_hyphens=False)
        shown = text if text.startswith(" ") else "\n".join(wrapped)
        print(shown, file=sys.stderr, flush=True)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fake_store",
        description="Run bulk_delete.py against a local store of made-up records. The store is"
        " new each time. With -- --resume, and with --serve after a run that can be resumed, it"
        " keeps its last state.",
        epilog="Options after -- are passed to bulk_delete.py: -- --resource products",
    )
    add = parser.add_argument
    add("--customers", type=int, metavar="N", help=f"default: {SANDBOX_CUSTOMERS}")
    add("--quota", type=int, default=150, metavar="N", help="0: unlimited")
    add("--window", type=float, default=30.0, metavar="SECONDS")
    add("--latency", type=float, default=0.1, metavar="SECONDS")
    add("--folder", default=RUNS, metavar="DIR", help=f"for files and runs; default: {RUNS}")
    add("--serve", action="store_true", help="only serve the store, until Ctrl-C")
    return parser


def serve(store: Sandbox, last: LastRun | None) -> int:
    """Serve until Ctrl-C; print the lines to paste on stdout, then an empty line."""
    on_windows = os.name == "nt"
    resume = last.summary["resume"] if last and store.kept else None
    with contextlib.suppress(KeyboardInterrupt):
        purpose = "resume that run" if resume else "start a dry run"
        shell = "a second PowerShell" if on_windows else "a second terminal"
        say(
            f"To {purpose}, paste this into {shell}. It will reach this store and no other.", ""
        )
        command = resume or command_line(this_python(), *store.tool(), "--dry-run")
        lines = lines_to_paste(str(Path.cwd()), store.env(), command, power_shell=on_windows)
        print("\n".join([*lines, ""]), flush=True)
        lists = [relative(store.folder / name) for name in ("merchant.csv", "staff.txt")]
        config = relative(store.folder / "store.ini")
        say(
            f"The commands in the README's cookbook work there too, with --config {config} and"
            f" lists such as {' and '.join(lists)}. Press Ctrl-C here to stop the store."
        )
        while True:  # Windows has no signal.pause
            time.sleep(3600)
    return 0


def run_tool(store: Sandbox, options: list[str]) -> int:
    """Run the tool on this terminal; return its exit status. Only the tool handles Ctrl-C."""
    if sys.stdin and sys.stdin.isatty():
        say("The tool now runs as on a real store. It deletes nothing until you type a number:")
    else:
        options = [*options, "--yes"]
        say("The tool now runs as on a real store, with --yes since there is no terminal:")
    say("  " + command_line(this_python(), *store.tool(), *options), "")
    # The token of a real store must not be used here.
    environment = {k: v for k, v in os.environ.items() if k != "BIGCOMMERCE_ACCESS_TOKEN"}
    before = last_run(store.folder.parent)
    # The child would inherit SIG_IGN, but not a handler.
    handler = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        command = [sys.executable, *store.tool(), *options]
        status = subprocess.run(command, env=environment | store.env(), check=False).returncode
    finally:
        signal.signal(signal.SIGINT, handler)
    last = last_run(store.folder.parent)
    say_result(store, last if last != before else None)
    return status if status >= 0 else 128 - status


def say_result(store: Sandbox, run: LastRun | None) -> None:
    """Print what remains in the store, where the run folder is, and what to do next."""
    kind = run.summary["resource"] if run else "customers"
    left, plural = len(store.records[kind]), kind.replace("_", " ")
    limited = sum(request.status == 429 for request in store.log)
    say(
        "",
        f"Sandbox: {left:,} of its {store.counts[kind]:,} {plural} are left."
        f" It received {len(store.log):,} requests and rate-limited {limited:,}.",
    )
    if run is None:
        return
    say(f"Run folder: {relative(run.folder)}")
    names = [name for name in RUN_FILES if (run.folder / name).exists()]
    names = [name for name in names if name != "failed.csv" or run.summary["failed"]]
    say(*(f"  {name:14} {RUN_FILES[name]}" for name in names), "")
    if run.summary["resume"]:
        say(
            "The store stops now, so the command above cannot reach it. To resume, run:",
            "  " + store.command("--", "--resume", relative(run.folder)),
            "Or serve it, and run the command above in another terminal:",
            "  " + store.command("--serve"),
        )
    else:
        say("To try more, such as the README's cookbook, serve a new store:")
        say("  " + store.command("--serve"))


def main(argv: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    split = arguments.index("--") if "--" in arguments else len(arguments)
    options = arguments[split + 1 :]
    own = make_parser().parse_args(arguments[:split])
    runs, last = Path(own.folder), last_run(Path(own.folder))
    resumable = own.serve and last is not None and last.summary["resume"] is not None
    resuming = any(option.partition("=")[0] == "--resume" for option in options)
    settings = {"customers": own.customers, "quota": own.quota or None}
    settings |= {"window": own.window, "latency": own.latency}
    with contextlib.ExitStack() as stack:
        try:
            store = stack.enter_context(
                Sandbox(runs / "sandbox", keep=resumable or resuming, **settings)
            )
        except OSError as error:
            say(f"Sandbox: {error}")
            return 2
        left, total = len(store.customers), store.counts["customers"]
        customers = f"{left:,} of {total:,}" if left < total else f"{total:,}"
        pace = f"{own.quota or 'any number of'} requests per {own.window:g} s"
        say(
            f"Sandbox: a made-up BigCommerce store on this machine, https://{store.host}, with"
            f" {customers} customers and some records of every other kind. None is real, and"
            f" nothing leaves this machine. It allows {pace} and takes {own.latency:g} s for"
            " each.",
            "",
        )
        return serve(store, last) if own.serve else run_tool(store, options)


if __name__ == "__main__":
    sys.exit(main())
