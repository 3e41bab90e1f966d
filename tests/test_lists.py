"""List files: what a person wrote is what is read, or it is refused with the line."""

from __future__ import annotations

import csv
import io
import random
import re
import subprocess
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import bulk_delete
from tests.rigged import TOOL, MakeStore, Tool, people, run_refused, write


def read(text: str, resource: str = "customers", *, keep: bool = False) -> Any:
    return bulk_delete.read_list(text, bulk_delete.RESOURCES[resource], keep=keep)


def refusal(text: str, resource: str = "customers", *, keep: bool = False) -> str:
    """What is said of a list that is not taken."""
    with pytest.raises(ValueError, match=r"\w") as raised:
        read(text, resource, keep=keep)
    return str(raised.value)


def comparable(address: str) -> str:
    """An address as it is compared: NFC, case folded, the domain in the letters of IDNA."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", address).casefold())
    local, _, domain = folded.rpartition("@")
    return f"{local}@{domain.encode('idna').decode()}"


def assert_reads(entries: Any, ids: Sequence[int], emails: Sequence[str] = ()) -> None:
    """Exactly these entries: ids in the file's order, each address once."""
    assert list(entries.ids) == list(ids)
    assert len(entries.emails) == len(emails)
    assert set(map(comparable, entries.emails)) == set(map(comparable, emails))


# --- what is read ----------------------------------------------------------------------------------

FINE = {
    "quoted separators": 'Customer ID,Name\n11,"Smith, Bob"\n12,"a ""b"", c"\n',
    "a thousands separator in another column": 'Customer ID,Spent\n11,"1,034.50"\n12,"2,000"\n',
    "a line break in quotes": 'Name,Customer ID\n"two\nlines",11\n"three\r\n\r\nlines",12\n',
    "semicolons around commas": "Customer ID;Spent\n11;1,034\n12;2,5\n",
    "tabs around commas": "Name\tCustomer ID\nSmith, Bob\t11\nSmith; Ann\t12\n",
    "a quote within a cell": 'Customer ID,Size\n11,5" disk\n12,say "x"\n',
    "carriage returns": "Customer ID,Name\r11,Ada\r12,Bob\r",
    "carriage returns in a plain list": "11\r12",
    "line ends of three kinds": "11\r\n\r\n\r12\n",
    "lines of separators alone": "Customer ID,Name\n\n11,Ada\n,\n12,Bob\n,\n \n",
    "the empty cells that Excel writes": "Customer ID,Name,,\n11,Ada,,\n12,,,\n",
    "rows shorter than the header": "Customer ID,Name,Phone\n11\n12,Bob\n",
    "other columns of one name": "Notes,Customer ID,Notes\na,11,b\nc,12,d\n",
    "spaces around the cells": "Name , Customer ID \nAda , 11 \nBob ,\t12\n",
    "letters that are written from the right": "Customer ID,Name\n11,\u200fنور\n12,\u202bنور\u202c\n",
    "a very long cell": f'Customer ID,Notes\n11,"{"long, " * 40_000}"\n12,x\n',
    "a column of addresses beside it": "Customer ID,Email\n11,bob@y.example\n12,none at all\n",
}


@pytest.mark.parametrize("text", FINE.values(), ids=FINE)
def test_a_well_formed_list(text: str) -> None:
    """What is well formed is read, whatever stands in the other columns."""
    assert_reads(read(text), [11, 12])


HEADERS = [
    (
        "customers",
        ["ID", "Id", "Customer-ID", "customer_id", "CustomerID", " CUSTOMER  ID ", '"Customer ID"'],
    ),
    ("products", ["Product ID", "product-id"]),
    ("categories", ["Category ID", "category_id"]),
    ("gift_certificates", ["Gift Certificate ID", "gift_certificate_id"]),
    ("price_lists", ["Price List ID", "PriceListID"]),
]


@pytest.mark.parametrize(("resource", "headers"), HEADERS, ids=[name for name, _ in HEADERS])
def test_headers_of_ids(resource: str, headers: Sequence[str]) -> None:
    """The id's column is known in any case, with spaces, underscores and hyphens or without."""
    for header in headers:
        assert_reads(read(f"Name,{header}\nx,11\n", resource), [11])


@pytest.mark.parametrize(
    "header", ["email", "EMAIL", "E-Mail", "Email Address", "email_address", "E-Mail Address", '"e-mail"']
)
def test_headers_of_addresses(header: str) -> None:
    """The column of the addresses of customers is known, for --ids and for --keep."""
    for keep in (False, True):
        assert_reads(read(f"Name,{header}\nAda,ada@x.example\n", keep=keep), [], ["ada@x.example"])


def test_ids_read_the_id_where_both_columns_are() -> None:
    """With columns of ids and of addresses --ids takes the ids alone, and keeps their order."""
    assert_reads(read("Email,Customer ID\nada@x.example,12\nbob@x.example,11\n"), [12, 11])


def test_keep_reads_both_columns() -> None:
    """With columns of ids and of addresses --keep takes both, and either may be empty in a row."""
    text = "Email,Customer ID\nada@x.example,12\n,11\nbob@x.example,\neve@x.example\n"
    wanted = ["ada@x.example", "bob@x.example", "eve@x.example"]
    assert_reads(read(text, keep=True), [12, 11], wanted)


@pytest.mark.parametrize("keep", [False, True])
def test_ids_and_addresses_in_one_plain_list(keep: bool) -> None:
    """A plain list may hold ids and addresses, in any order."""
    text = "12\nada@x.example\n\n11\nBob@X.example\n"
    assert_reads(read(text, keep=keep), [12, 11], ["ada@x.example", "bob@x.example"])


def test_repeats_are_counted() -> None:
    """An id or an address that stands there again is counted, in whatever case it is written."""
    entries = read("12\n11\n12\n12\nada@x.example\nADA@x.Example\n")
    assert_reads(entries, [12, 11], ["ada@x.example"])
    assert entries.duplicates == 3


@pytest.mark.parametrize(
    "address",
    [
        "o'brien@x.example",
        "ada+news@x.example",
        "a.b-c_d@mail.x-y.example",
        "josé@x.example",
        "愛@例え.example",
        "1@2.example",
        "ada@xn--bcher-kva.example",
    ],
)
def test_an_unusual_address(address: str) -> None:
    """What is unusual in an address, and plain, is read."""
    assert_reads(read(f"11\n{address}\n", keep=True), [11], [address])


SAME = {
    "case": ("ada@x.example", "Ada@X.EXAMPLE"),
    "letters beyond ASCII": ("JOSÉ@x.example", "josé@x.example"),
    "NFC and NFD": ("jos\u00e9@x.example", "jose\u0301@x.example"),
    "IDNA": ("ada@bücher.example", "ada@xn--bcher-kva.example"),
    "full-width digits": ("ada@x1.example", "ada@x１.example"),
    "IDNA in capitals": ("ada@BÜCHER.example", "ada@XN--BCHER-KVA.example"),
    "IDNA in NFD": ("ada@b\u00fccher.example", "ada@bu\u0308cher.example"),
}


@pytest.mark.parametrize("pair", SAME.values(), ids=SAME)
def test_two_ways_to_write_an_address(pair: tuple[str, str]) -> None:
    """Two spellings of one address are one entry."""
    first, second = (set(read(f"{address}\n", keep=True).emails) for address in pair)
    assert first == second
    assert len(first) == 1


@pytest.mark.parametrize(
    "pair", [("weiß@x.example", "weiss@x.example"), ("a@straße.example", "a@strasse.example")]
)
def test_two_people_that_folding_would_make_one(pair: tuple[str, str]) -> None:
    """What only folding makes alike are two addresses: ß is not ss."""
    assert len(read("\n".join(pair), keep=True).emails) == 2


@pytest.mark.parametrize(
    "other", ["a.da@x.example", "ada+1@x.example", "ada@y.x.example", "ada@x.example.com"]
)
def test_two_addresses_that_are_alike(other: str) -> None:
    """Addresses that are merely alike are two entries."""
    assert len(read(f"ada@x.example\n{other}\n", keep=True).emails) == 2


# --- BigCommerce's own exports ----------------------------------------------------------------------

EXPORTS = {
    "today's": "Item,ID,Name\nProduct,77,Mug\nVariant,78,Mug\nImage,79,\nProduct,80,Jar\n",
    "the older one": "Item Type,Product ID,Name\nProduct,77,Mug\n  SKU,78,[S]\n  Rule,,x\nProduct,80,\n",
    "in other letters": "ID;ITEM_TYPE\n77;product\n78;variant\n79;IMAGE\n80; PRODUCT \n",
}


@pytest.mark.parametrize("text", EXPORTS.values(), ids=EXPORTS)
@pytest.mark.parametrize("keep", [False, True])
def test_an_export_of_products(text: str, keep: bool) -> None:
    """Of a product export only the products are read, and the rows of other items are counted."""
    entries = read(text, "products", keep=keep)
    assert_reads(entries, [77, 80])
    assert entries.passed_over == 2


def test_without_an_item_column_no_row_is_passed_over() -> None:
    """Every row of a list without such a column counts."""
    assert read("Kind,ID\nVariant,11\nProduct,12\n", "products").passed_over == 0


@pytest.mark.parametrize("resource", ["customers", "brands"])
def test_an_export_of_something_else(resource: str) -> None:
    """An export of which no row is of the resource is refused."""
    assert "roduct" in refusal("Item,ID,Name\nProduct,77,Mug\nProduct,80,Jar\n", resource)


BAD_EXPORTS = {
    "no item": ("Item,ID\nProduct,77\n,78\n", 3),
    "a row that ends before its item": ("ID,Item\n77,Product\n78\n", 3),
    "a comma too many": ("Name,Item,ID\nMug,Product,77\nMug, blue,Product,78\n", 3),
    "two item columns": ("Item,Item Type,ID\nProduct,Variant,77\n", 1),
    "a kind that is none": ("Item,ID\nProduct,77\nproducts,78\n", 3),
    "a product without an id": ("Item,ID\nProduct,77\nProduct,\n", 3),
}


@pytest.mark.parametrize(("text", "line"), BAD_EXPORTS.values(), ids=BAD_EXPORTS)
def test_an_export_that_is_unclear(text: str, line: int) -> None:
    """A row of which it is not plain what it is, or which, is refused."""
    assert f"line {line}" in refusal(text, "products", keep=True)


# --- what is refused --------------------------------------------------------------------------------

NUMBERS = {
    "thousands": "1,034",
    "thousands in another country": "1.034",
    "thousands with a space": "1 034",
    "thousands with an apostrophe": "1'034",
    "underscore": "1_034",
    "float": "11.0",
    "scientific": "1.2E+5",
    "zero": "0",
    "negative": "-12",
    "plus": "+12",
    "leading zeros": "0012",
    "full-width digits": "１２",
    "Arabic digits": "١٢",
    "superscript": "1²",
    "25 digits": "1" * 25,
    "a bit too many for an id": str(2**63),
    "number sign": "#12",
    "hexadecimal": "0x12",
    "a range": "12-14",
    "no-break space": "12\u00a0",
    "zero-width space": "12\u200b",
    "byte order mark": "\ufeff12",
    "NUL": "1\x002",
    "form feed": "12\x0c13",
    "next line": "12\x8513",
    "line separator": "12\u202813",
    "file separator": "12\x1c",
    "a remark": "12 # staff",
    "a heading": "Customer ID",
    "a quote that never closes": '"12',
}


@pytest.mark.parametrize("entry", NUMBERS.values(), ids=NUMBERS)
def test_what_is_no_id(entry: str) -> None:
    """What only looks like a positive whole number is refused with its line."""
    assert "line 2" in refusal(f"11\n{entry}\n13\n")


@pytest.mark.parametrize("entry", ["1,034", "0012", "12\u00a0", "１２", "11.0"])
def test_what_is_no_id_in_a_column(entry: str) -> None:
    """A cell is held to the same as a line."""
    assert "line 3" in refusal(f'Name,Customer ID\nAda,11\nBob,"{entry}"\n')


ADDRESSES = {
    "with a name": "Ada <ada@x.example>",
    "in angle brackets": "<ada@x.example>",
    "in brackets": "(ada@x.example)",
    "mailto": "mailto:ada@x.example",
    "two of them": "ada@x.example; bob@x.example",
    "two with a comma": "ada@x.example,bob@x.example",
    "two with a space": "ada@x.example bob@x.example",
    "two with a slash": "ada@x.example/bob@x.example",
    "two @": "ada@b@x.example",
    "no dot in the domain": "ada@localhost",
    "a dot at the domain's beginning": "ada@.example",
    "two dots in the domain": "ada@x..example",
    "a dot at the end": "ada@x.example.",
    "nothing before the @": "@x.example",
    "nothing behind the @": "ada@",
    "a space": "ada @x.example",
    "entity": "a&amp;b@x.example",
    "entity of the @": "ada&#64;x.example",
    "any address": "*@x.example",
    "any domain": "ada@*.example",
    "quotes in it": 'ada"b"@x.example',
    "apostrophes around it": "'ada@x.example'",
    "apostrophe before it": "'ada@x.example",
    "a remark": "ada@x.example (staff)",
    "a port": "ada@x.example:25",
    "no @": "ada.x.example",
    "zero-width space": "ada\u200b@x.example",
    "zero-width space at the end": "ada@x.example\u200b",
    "right-to-left mark": "\u200fada@x.example",
    "right-to-left override": "\u202eada@x.example",
    "soft hyphen": "ada@x\u00ad.example",
    "word joiner": "ada\u2060@x.example",
    "byte order mark": "\ufeffada@x.example",
    "no-break space": "ada@x.example\u00a0",
    "no-break space in it": "ada\u00a0@x.example",
    "ideographic space": "ada@x.example\u3000",
    "bell": "ada\x07@x.example",
    "NUL": "ada@x.example\x00",
    "combining joiner": "ada\u034f@x.example",
    "variation selector": "ada\ufe0f@x.example",
    "Hangul filler": "ada\u3164@x.example",
    "Braille blank": "ada\u2800@x.example",
    "curly quotes": "“ada@x.example”",
    "backquotes": "`ada@x.example`",
    "a bullet": "•ada@x.example",
    "a bar": "ada@x.example|b",
    "an exclamation": "ada@x.example!",
    "a path": "ada@x.example/foo",
    "vertical tab": "ada@x.example\x0bbob@x.example",
}


@pytest.mark.parametrize("entry", ADDRESSES.values(), ids=ADDRESSES)
def test_what_is_no_address(entry: str) -> None:
    """What is not exactly one plain address is refused with its line, and protects nobody unseen."""
    assert "line 2" in refusal(f"bob@x.example\n{entry}\n11\n", keep=True)


@pytest.mark.parametrize(
    "entry", ["Ada <ada@x.example>", "a@x.example; b@x.example", "ada@x.example\u200b", "staff", "ada@x"]
)
def test_what_is_no_address_in_a_column(entry: str) -> None:
    """A cell is held to the same as a line, be there an id in the row or not."""
    assert "line 3" in refusal(f'Email,Name\nbob@x.example,Bob\n"{entry}",Ada\n', keep=True)
    assert "line 2" in refusal(f'Customer ID,Email\n11,"{entry}"\n', keep=True)


BAD_ROWS: dict[str, tuple[str, int]] = {
    "two values under one header": ("Customer ID\n1,034\n1,035\n", 2),
    "an unquoted comma": ("Customer Name,Phone,Customer ID\nAda Smith,555,12\nSmith, Bob,44,13\n", 3),
    "an unquoted comma and nothing at the end": ("Customer Name,Phone,Customer ID\nSmith, Bob,44,\n", 2),
    "thousands and nothing behind them": ("Customer ID,Name\n1,034,\n", 2),
    "thousands below no name": ("Customer ID,,\n1,034,\n", 2),
    "an unquoted semicolon": ("Customer ID;Name\n11;Ada\n12;Smith;Bob\n", 3),
    "an unquoted tab": ("Customer ID\tName\n11\tSmith\tBob\n", 2),
    "a quote that never closes": ('Customer ID,Notes\n6,"unclosed\n7,ok\n', 2),
    "a quote of the header that never closes": ('Customer ID,"Notes\n6,x\n7,ok\n', 1),
    "text behind a quote": ('Customer ID,Name\n11,"Ada" Smith\n12,x\n', 2),
    "a space before a quote": ('Customer ID,Notes\n11, "a, b"\n', 2),
    "a space before a quote that shifts": (
        'Nr, Name, Phone, Customer ID, Notes\n1, "Smith, Bob", 12, 13\n',
        2,
    ),
    "an empty id": ("Customer ID,Name\n11,Ada\n,Bob\n", 3),
    "an address for an id": ("Customer ID,Name\nada@x.example,Ada\n", 2),
    "NUL in another column": ("Customer ID,Name\n11,A\x00da\n", 2),
    "carriage returns are lines": ("Customer ID\r11\r1,034\r", 3),
    "empty lines are lines": ("Customer ID\r\n\r\n11\r\nx\r\n", 4),
    "a CSV without a header": ("11,Ada\n12,Bob\n", 1),
    "rows that are quoted whole": ('"Customer ID,Name"\n"11,Ada"\n', 1),
    "columns in two ways": ("id;email,id\n5;6,7\n", 1),
}


@pytest.mark.parametrize(("text", "line"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_a_row_that_can_be_misread(text: str, line: int) -> None:
    """A row that can be read in two ways, or of which the id is not reached, is refused with its line."""
    assert f"line {line}" in refusal(text)


BAD_KEEP_ROWS: dict[str, tuple[str, int]] = {
    "neither id nor address": ("Name,Customer ID,Email\nAda,11,ada@x.example\nBob,,\n", 3),
    "an id for an address": ("Email,Name\n11,Ada\n", 2),
    "an address for an id": ("Customer ID,Email\n11,ada@x.example\nbob@x.example,\n", 3),
    "no address": ("Name,Email\nAda,ada@x.example\nBob\n", 3),
    "lines swallowed by quotes": ('Customer ID,Notes\n6,"unclosed\n7,ok\n8,"late" x\n', 2),
}


@pytest.mark.parametrize(("text", "line"), BAD_KEEP_ROWS.values(), ids=BAD_KEEP_ROWS)
def test_a_row_of_keep_that_protects_nobody(text: str, line: int) -> None:
    """No row of a keep list is passed over in silence: it protects somebody, or is refused."""
    said = refusal(text, keep=True)
    assert re.search(rf"\bline [{line}-4]\b", said), said


BAD_HEADERS = [
    "ID 2",
    "idи",
    "ID.",
    "ids",
    "Old ID",
    "Customer ID (old)",
    "Customers ID",
    "Product ID",
    "customer.id",
    "Email 2",
    "Emails",
    "Email?",
    "Customer\u200b ID",
]


@pytest.mark.parametrize("header", BAD_HEADERS)
def test_a_header_that_is_only_alike(header: str) -> None:
    """A header is compared whole: what is only alike is refused, and the columns are named."""
    said = refusal(f"First Name,{header}\nAda,11\n", keep=True)
    assert "First Name" in said
    assert bulk_delete.clean(header) in said


@pytest.mark.parametrize("head", ["Email,E-Mail", "ID,id", "Customer ID,Email,E-Mail Address"])
def test_two_columns_for_one(head: str) -> None:
    """Two columns that could both be meant are refused, and named."""
    said = refusal(f"{head}\n11,12,13\n", keep=True)
    assert all(name in said for name in head.split(","))


@pytest.mark.parametrize(
    ("resource", "keep"), [("products", True), ("products", False), ("subscribers", False)]
)
@pytest.mark.parametrize("text", ["Name,Email\nAda,ada@x.example\n", "11\nada@x.example\n"])
def test_addresses_of_a_resource_that_has_none(resource: str, keep: bool, text: str) -> None:
    """Addresses are refused where nothing can be found by them."""
    said = refusal(text, resource, keep=keep)
    assert "line 2" in said or "Email" in said


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("text", ["", "\r\r", " \n\t\n", "Customer ID,Email\n,\n", ",,,\n"])
def test_a_list_of_nothing(text: str, keep: bool) -> None:
    """A list without an entry is refused."""
    assert re.search(r"holds no|line 1\b", refusal(text, keep=keep))


# --- any text ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reading:
    """What a strict reader finds."""

    ids: tuple[int, ...]
    emails: frozenset[str]
    passed_over: int
    repeats: int


class Unclear(Exception):
    """The strict reader takes no such text."""


def strict_id(cell: str) -> int | None:
    return int(cell) if re.fullmatch("[1-9][0-9]{0,17}", cell) else None


def strict_address(cell: str) -> str | None:
    """The address as it is compared, if it is exactly one, and plain: letters, digits and few signs."""
    text = unicodedata.normalize("NFC", cell)
    local, at, domain = text.partition("@")
    seen = all(c in "._-!#$%&'+/=?^{|}~" or unicodedata.category(c)[0] in "LN" for c in local)
    labels = domain.split(".")
    named = all(
        part and all(c in "_-" or unicodedata.category(c)[0] in "LN" for c in part) for part in labels
    )
    if not (local and at and seen and named and len(labels) > 1) or local[0] == "'":
        return None
    try:
        return comparable(cell)
    except UnicodeError:
        return None


def strict_reading(text: str, separator: str, resource: str, *, keep: bool) -> Reading:
    """The entries of a text by that separator; raises Unclear."""
    if "\0" in text:
        raise Unclear
    try:
        raw = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except csv.Error as error:
        raise Unclear from error
    rows = [[cell.strip(" \t") for cell in row] for row in raw]
    rows = [row for row in rows if any(row)]
    if not rows:
        raise Unclear
    by_email = resource == "customers" or (keep and resource == "subscribers")
    head = rows[0]
    alone = head[0] if not any(head[1:]) else ""
    if strict_id(alone) or (by_email and strict_address(alone)):
        return collected(((None, row[0], row[0]) if not any(row[1:]) else None for row in rows), by_email)
    names = [re.sub("[ _-]", "", name.casefold()) for name in head]
    singular = re.sub("ies$", "y", resource).replace("_", "").removesuffix("s")
    by = {
        "id": [at for at, name in enumerate(names) if name in ("id", f"{singular}id")],
        "email": [at for at, name in enumerate(names) if by_email and name in ("email", "emailaddress")],
        "item": [at for at, name in enumerate(names) if name in ("item", "itemtype")],
    }
    if any(len(places) > 1 for places in by.values()) or not by["id"] + by["email"]:
        raise Unclear
    if by["id"] and not keep:
        by["email"] = []
    found: list[tuple[str | None, str, str] | None] = []
    passed_over = 0
    for row in rows[1:]:
        if len(row) > len(head) and sum(map(bool, row)) > 1:
            raise Unclear
        if any(cell for at, cell in enumerate(row) if at >= len(head) or not head[at]):
            raise Unclear
        cells = {name: row[at[0]] if at and at[0] < len(row) else "" for name, at in by.items()}
        kind = re.sub("[ _-]", "", cells["item"].casefold())
        if by["item"] and not kind:
            raise Unclear
        if by["item"] and kind != singular:
            passed_over += 1
            continue
        found.append(("cells", cells["id"], cells["email"]))
    reading = collected(found, by_email)
    return Reading(reading.ids, reading.emails, passed_over, reading.repeats)


def collected(rows: Any, by_email: bool) -> Reading:
    """The entries of these rows; each is (None, line, line), or ("cells", id, address)."""
    ids: dict[int, None] = {}
    emails: set[str] = set()
    count = 0
    for row in rows:
        if row is None:
            raise Unclear
        plain, number, address = row[0] is None, strict_id(row[1]), strict_address(row[2])
        if plain and not number and not (by_email and address):
            raise Unclear
        if not plain and ((row[1] and not number) or (row[2] and not address) or not (row[1] or row[2])):
            raise Unclear
        if number:
            ids[number] = None
        if address and by_email:
            emails.add(address)
        count += bool(number) + bool(address)
    if not ids and not emails:
        raise Unclear
    return Reading(tuple(ids), frozenset(emails), 0, count - len(ids) - len(emails))


def strict_readings(text: str, resource: str, *, keep: bool) -> set[Reading]:
    """All that a text can mean: one reading, none, or several."""
    readings = set()
    for separator in ",;\t":
        try:
            readings.add(strict_reading(text, separator, resource, keep=keep))
        except Unclear:
            continue
    return readings


def assert_read_strictly(text: str, resource: str, *, keep: bool) -> None:
    """Either an error with a line, or what the text means in the only way in which it can be read."""
    try:
        found = read(text, resource, keep=keep)
    except ValueError as error:
        said = str(error)
        lines = 1 + len(re.findall("\r\n|\r|\n", text))
        named = [int(number) for number in re.findall(r"\bline ([0-9]+)", said)]
        assert named or "holds no" in said, said
        assert all(1 <= number <= lines for number in named), said
        return
    emails = frozenset(map(comparable, found.emails))
    assert len(emails) == len(found.emails)
    readings = strict_readings(text, resource, keep=keep)
    assert len(readings) == 1
    (reading,) = readings
    assert (tuple(found.ids), emails) == (reading.ids, reading.emails)
    assert found.passed_over == reading.passed_over
    if not keep:
        assert found.duplicates == reading.repeats


ANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
PIECES = [
    *("11", "12", "7", "0", "-3", "007", "1,034", "11.0", "1" * 20, "１２", "Ada", "Smith, Bob", '5" x'),
    *("ada@x.example", "Ada@X.Example", "bob@y.example", "a@b@c.example", "ada@x", "jose\u0301@x.example"),
    *(
        "josé@x.example",
        "o'b@x.example",
        "ada@bücher.example",
        "ada@xn--bcher-kva.example",
        "Ada <a@x.example>",
    ),
    *("Customer ID", "customer_id", "ID", "ID 2", "Email", "E-Mail Address", "Name", "Item", "Item Type"),
    *("Product ID", "Product", "Variant", "customer", "Notes"),
    *('"', '"', '""', ",", ",", ";", "\t", "\n", "\n", "\n", "\r\n", "\r", " ", "@", "'", "<", ">", ":"),
    *("\u200b", "\u00a0", "\u200f", "\x00", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "."),
]
JUMBLES = st.lists(st.sampled_from(PIECES), max_size=14).map("".join)
LINE_ENDS = ["\n", "\r\n", "\r"]
COLUMNS = {
    "id": ["11", "12", "13", " 14 "],
    "email": ["ada@x.example", "BOB@y.example", "josé@x.example"],
    "item": ["Product", "product ", "Variant", "  SKU"],
    "": ["x", "Smith, Bob", "1;034", 'a "b"\nc', "", "7", "eve@x.example"],
}
HEADS = {
    "id": ["ID", "id", "ID", "product_id", "Customer-ID"],
    "email": ["Email", "E-Mail Address"],
    "item": ["Item", "ITEM TYPE"],
    "": ["Name", "Notes", "Phone", "Name", "", "ID 2"],
}
LAYOUTS = [
    ["id", ""],
    ["id"],
    ["", "id", ""],
    ["item", "id", ""],
    ["", "item", "id"],
    ["id", "item"],
    ["id", "email"],
    ["email", "", "id"],
    ["", "email"],
    ["", "", "id"],
    ["id", "", "id"],
]


def quoted(cell: str, separator: str, always: bool) -> str:
    odd = any(c in cell for c in f'"\r\n{separator}')
    return '"' + cell.replace('"', '""') + '"' if odd or always else cell


def table(rng: random.Random) -> str:
    """A CSV as a program writes it; once in a while with a cell that does not belong, or is not quoted."""
    separator, end, columns = rng.choice(",,;\t"), rng.choice(LINE_ENDS), rng.choice(LAYOUTS)
    always, careless = rng.random() < 0.3, rng.random() < 0.2
    rows = [[rng.choice(HEADS[column]) for column in columns]]
    for _ in range(rng.randint(1, 4)):
        row = [rng.choice(PIECES if rng.random() < 0.03 else COLUMNS[column]) for column in columns]
        rows.append(row[: rng.randint(1, len(row))] if rng.random() < 0.1 else row)
    write_cell = (lambda cell: cell) if careless else (lambda cell: quoted(cell, separator, always))
    return end.join(separator.join(map(write_cell, row)) for row in rows)


def damage(text: str, rng: random.Random) -> str:
    """The text with a piece put in, or a character lost, mostly below its header."""
    head = len(re.split("[\r\n]", text)[0])
    at = rng.randint(head if rng.random() < 0.9 else 0, len(text))
    piece = rng.choice(["", '"', '"', ",", ",", "\n", rng.choice(PIECES)])
    return text[:at] + piece + text[at + (not piece) :]


@ANY
@given(text=JUMBLES, resource=st.sampled_from(["customers", "products", "subscribers"]), keep=st.booleans())
@example(text="josé@x.example１２", resource="customers", keep=False)
def test_any_text(text: str, resource: str, keep: bool) -> None:
    """Any text gives an error with a line, or exactly what a strict reader finds."""
    assert_read_strictly(text, resource, keep=keep)


@ANY
@given(seed=st.integers(0, 2**63), resource=st.sampled_from(["customers", "products"]), keep=st.booleans())
def test_any_table(seed: int, resource: str, keep: bool) -> None:
    """Any table, whole or damaged, gives an error with a line, or exactly what a strict reader finds."""
    rng = random.Random(seed)
    for _ in range(10):
        text = table(rng)
        assert_read_strictly(text, resource, keep=keep)
        assert_read_strictly(damage(text, rng), resource, keep=keep)


WORDS = st.from_regex("[a-z0-9]{1,6}([.+_-][a-z0-9]{1,4})?", fullmatch=True)
DOMAINS = st.sampled_from(["x.example", "shop-mail.example", "bücher.example", "a.b.example"])
ADDRESS = st.builds(
    lambda local, domain, up: f"{local}@{domain.upper() if up else domain}", WORDS, DOMAINS, st.booleans()
)
ENTRIES = st.lists(st.one_of(st.integers(1, 10**9), ADDRESS), min_size=1, max_size=8)
NOTES = st.text(st.sampled_from("ab1@.,;\t\"' \n\r\u200f愛-:<"), max_size=8).filter(
    lambda note: not note.strip(" \t").startswith('"')  # which looks like a space before a quote
)


@st.composite
def keep_lists(draw: st.DrawFn) -> tuple[str, list[int], list[str]]:
    """A well-formed keep list in one of its forms, its ids, and its addresses."""
    entries, end, seed = draw(ENTRIES), draw(st.sampled_from(LINE_ENDS)), draw(st.integers(0, 10**6))
    ids = list(dict.fromkeys(entry for entry in entries if isinstance(entry, int)))
    emails = [entry for entry in entries if isinstance(entry, str)]
    between = draw(st.sampled_from(["", end, " "]))
    if draw(st.booleans()):
        return "".join(f"{entry}{end}{between}" for entry in entries) + end, ids, emails
    separator, wide, always = draw(st.sampled_from(",;\t")), draw(st.integers(0, 2)), draw(st.booleans())
    names = ["Name", draw(st.sampled_from(["ID", "customer_id"])), draw(st.sampled_from(["Email", "E-Mail"]))]
    rows = [names + [""] * wide]
    for entry in entries:
        row = [draw(NOTES), "", ""]
        row[1 if isinstance(entry, int) else 2] = str(entry)
        rows.append(row + [""] * wide)
    order = [*range(3)]
    random.Random(seed).shuffle(order)
    rows = [[row[at] for at in order] + row[3:] for row in rows]
    lines = [separator.join(quoted(cell, separator, always) for cell in row) for row in rows]
    return end.join(lines) + draw(st.sampled_from(["", end, end + separator + end])), ids, emails


@ANY
@given(given_list=keep_lists())
def test_no_entry_of_a_keep_list_is_dropped(given_list: tuple[str, list[int], list[str]]) -> None:
    """Every entry of a well-formed keep list, in whatever form, is in what is read, and nothing else."""
    text, ids, emails = given_list
    entries = read(text, keep=True)
    assert_reads(entries, ids, sorted(set(map(comparable, emails))))
    assert entries.passed_over == 0


# --- the tool itself --------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a process's own peak")
def test_a_list_of_a_million_ids(tmp_path: Path) -> None:
    """Reading a million ids takes the process no more than 150 MB, all that it imports included."""
    with open(tmp_path / "ids.txt", "w") as file:
        file.writelines(f"{number}\n" for number in range(1_000_001, 2_000_001))
    code = (
        "import pathlib, sys, bulk_delete\n"
        "text = pathlib.Path(sys.argv[1]).read_text()\n"
        "found = bulk_delete.read_list(text, bulk_delete.RESOURCES['customers'], keep=False)\n"
        "status = pathlib.Path('/proc/self/status').read_text()\n"
        "print(len(found.ids), status.split('VmHWM:')[1].split()[0])\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "ids.txt")]
    done = subprocess.run(command, cwd=TOOL.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    count, kilobytes = map(int, done.stdout.split())
    assert count == 1_000_000
    assert kilobytes <= 150_000


SEEN: dict[str, tuple[str, str, list[str]]] = {
    "two values under one header": ("--ids", "Customer ID\n1,034\n1,035\n", ["line 2"]),
    "an unquoted comma": (
        "--ids",
        "Customer Name,Phone,Customer ID\nAda Smith,555,12\nSmith, Bob,44,13\n",
        ["line 3"],
    ),
    "a quote that never closes": ("--keep", 'Customer ID,Notes\n6,"unclosed\n7,ok\n', ["line 2"]),
    "a header that is alike": ("--ids", "Name,ID 2\nAda,12\n", ["Name", "ID 2"]),
    "letters of another alphabet": ("--ids", "Name,idи\nAda,12\n", ["Name", "idи"]),
    "an address with a name": ("--keep", "12\nAda <ada@x.example>\n", ["line 2"]),
    "mailto": ("--keep", "12\nmailto:ada@x.example\n", ["line 2"]),
    "two addresses": ("--keep", "12\na@x.example; b@x.example\n", ["line 2"]),
    "an invisible character": ("--keep", "12\nada@x.example\u200b\n", ["line 2"]),
}


@pytest.mark.parametrize(("option", "text", "words"), SEEN.values(), ids=SEEN)
def test_a_list_that_was_misread(
    make_store: MakeStore, tool: Tool, option: str, text: str, words: list[str]
) -> None:
    """A list that once deleted the wrong people is refused with status 2, its file named; nothing is sent."""
    store = people(make_store, 1, 6, 7, 12, 13, 44, 1034, 1035)
    store.change(7, email="ada@x.example")
    store.change(44, email="a@x.example")
    path = write(tool, text)
    run_refused(tool, store, 2, option, path, words=[option, str(path), *words])


def test_the_export_of_products_that_was_misread(make_store: MakeStore, tool: Tool) -> None:
    """Only the products of a product export go, and it is told how many rows were of other items."""
    store = make_store(customers=0, products=9, quota=10_000)
    first, second, third, *others = store.records["products"]
    text = (
        f"Item,ID,Name\nProduct,{first},Mug\nVariant,{third},Mug\nImage,{others[0]},\nProduct,{second},Jar\n"
    )
    options = ("--yes", "--resource", "products", "--ids", write(tool, text))
    outcome = tool(store, None, *options, COLUMNS="300")
    assert outcome.status == 0, outcome.text
    assert set(store.records["products"]) == {third, *others}
    assert set(store.deleted_ids()) == {first, second}
    assert "2 rows of other items passed over" in outcome.err


def test_an_export_without_one_of_the_kind(make_store: MakeStore, tool: Tool) -> None:
    """A list of variants alone deletes no product: status 2."""
    store = make_store(customers=0, products=9, quota=10_000)
    first, second, *_ = store.records["products"]
    path = write(tool, f"Item,ID\nVariant,{first}\nImage,{second}\n")
    run_refused(tool, store, 2, "--resource", "products", "--ids", path, words=[str(path)])
    assert len(store.records["products"]) == 9


@pytest.mark.parametrize("key", ["ids", "keep"])
def test_a_list_of_the_ini_that_is_unclear(make_store: MakeStore, tool: Tool, key: str) -> None:
    """A list that the ini names is held to the same."""
    path = write(tool, "Customer ID\n1,034\n")
    run_refused(tool, people(make_store, 1, 34, 1034), 2, words=["line 2", str(path)], **{key: path})
