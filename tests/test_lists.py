"""List files: each is read in the one way it can be read, or is refused with the line."""

from __future__ import annotations

import csv
import io
import random
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import bulk_delete
from tests.rigged import MakeStore, lines, people, run_refused, write
from tests.test_selection import DirectTool, dry_run, selected, stocked, unmatched


@dataclass(frozen=True)
class Reading:
    """What a list says."""

    ids: tuple[int, ...] = ()  # in the order of the file
    emails: frozenset[str] = frozenset()
    pairs: list[tuple[int, str]] = field(default_factory=list)  # rows with an id and an address
    repeats: int = 0


def comparable(address: str) -> str:
    """An address as it is compared: NFC, lower case."""
    lower = unicodedata.normalize("NFC", address).lower()
    return unicodedata.normalize("NFC", lower)


def read(text: str, resource: str = "customers") -> Reading:
    """What the tool reads; raises ValueError. Its names of these things are used here only."""
    found = bulk_delete.read_list(text, bulk_delete.RESOURCES[resource])
    ids = tuple(entry for entry in found if isinstance(entry, int))
    keys = frozenset(entry for entry in found if isinstance(entry, str))
    pairs = [(number, key) for _, number, key in found.pairs]
    return Reading(ids, keys, pairs, found.duplicates)


def refusal(text: str, resource: str = "customers") -> str:
    """The message by which a list is refused."""
    with pytest.raises(ValueError, match=r"\w") as raised:
        read(text, resource)
    return str(raised.value)


def assert_reads(text: str, ids: Iterable[int], emails: Iterable[str] = ()) -> None:
    reading = read(text)
    assert reading.ids == tuple(ids), text
    assert reading.emails == frozenset(map(comparable, emails)), text


def assert_refused_at(line: int, text: str) -> None:
    message = refusal(text)
    assert re.search(rf"\bline {line}\b", message), (text, message)


# --- what is read -----------------------------------------------------------------------------

WELL_FORMED = [
    'Customer ID,Name\n11,"Smith, Bob"\n12,"a ""b"", c"\n',
    'Customer ID,Spent\n11,"1,034.50"\n12,"2,000"\n',
    'Name,Customer ID\n"two\nlines",11\n"three\r\n\r\nlines",12\n',
    "Customer ID;Spent\n11;1,034\n12;2,5\n",
    "Name\tCustomer ID\nSmith, Bob\t11\nSmith; Ann\t12\n",
    'Customer ID,Size\n11,5" disk\n12,say "x"\n',
    "Customer ID,Name\r11,Ada\r12,Bob\r",
    "11\r12",
    "11\r\n\r\n\r12\n",
    "Customer ID,Name\n\n11,Ada\n,\n12,Bob\n,\n \n",  # lines of separators alone
    "Customer ID,Name,,\n11,Ada,,\n12,,,\n",  # the empty cells that Excel writes
    "Customer ID,Name,Phone\n11\n12,Bob\n",
    "Notes,Customer ID,Notes\na,11,b\nc,12,d\n",
    "Name , Customer ID \nAda , 11 \nBob ,\t12\n",
    "Customer ID,Name\n11,\u200fنور\n12,\u202bنور\u202c\n",
    f'Customer ID,Notes\n11,"{"long, " * 10_000}"\n12,x\n',
    '"ID"\n"11"\n"12"\n',
    "Customer ID,Email\n11,ada@x.example\n12,bob@x.example\n",
]
HEADERS = {
    "customers": 'ID|Id|Customer-ID|customer_id|CustomerID| CUSTOMER  ID |"Customer ID"',
    "products": "Product ID|product-id",
    "categories": "Category ID|category_id",
    "gift_certificates": "Gift Certificate ID|gift_certificate_id",
    "price_lists": "Price List ID|PriceListID",
}
EMAIL_HEADERS = 'email|EMAIL|E-Mail|Email Address|email_address|E-Mail Address|"e-mail"'
EMAIL_HEADERS += "|E-Mail-Adresse|EMail-Adresse|Adresse e-mail|ADRESSE_E-MAIL"
UNUSUAL = ["o'brien@x.example", "ada+news@x.example", "a.b-c_d@mail.x-y.example", "1@2.example"]
UNUSUAL += ["josé@x.example", "愛@例え.example", "ada@xn--bcher-kva.example"]
SAME = [("ada@x.example", "Ada@X.EXAMPLE"), ("JOSÉ@x.example", "josé@x.example")]
SAME += [("jos\u00e9@x.example", "jose\u0301@x.example")]
DIFFERENT = ["a.da@x.example", "ada+1@x.example", "ada@y.x.example", "ada@x.example.com"]
DIFFERENT += ["weiß@x.example", "weiss@x.example", "ada@straße.example", "ada@strasse.example"]


def test_a_well_formed_list_is_read_whatever_its_other_columns_hold() -> None:
    for text in WELL_FORMED:
        assert_reads(text, [11, 12])


def test_headers_are_compared_without_case_spaces_and_hyphens() -> None:
    for resource, headers in HEADERS.items():
        for header in headers.split("|"):
            assert read(f"Name,{header}\nx,11\n", resource).ids == (11,), header
    for header in EMAIL_HEADERS.split("|"):
        assert_reads(f"Name,{header}\nAda,ada@x.example\n", [], ["ada@x.example"])


def test_a_plain_list_holds_ids_and_addresses_in_any_order() -> None:
    text = "12\nada@x.example\n\n11\nBob@X.example\n"
    assert_reads(text, [12, 11], ["ada@x.example", "bob@x.example"])
    reading = read("12\n11\n12\n12\nada@x.example\nADA@x.Example\n")
    assert (reading.ids, len(reading.emails), reading.repeats) == ((12, 11), 1, 3)


def test_a_row_with_an_id_and_an_address_is_one_entry() -> None:
    reading = read("Email,Customer ID\nAda@x.example,12\nbob@x.example,11\n")
    assert (reading.ids, reading.emails) == ((12, 11), frozenset())
    assert reading.pairs == [(12, "ada@x.example"), (11, "bob@x.example")]


def test_addresses_are_the_same_only_in_another_case_or_form() -> None:
    """ß is not ss: full case folding would make one person of two."""
    assert_reads("\n".join(["11", *UNUSUAL]), [11], UNUSUAL)
    for pair in SAME:
        assert len(read("\n".join(pair)).emails) == 1
    assert len(read("\n".join(["ada@x.example", *DIFFERENT])).emails) == len(DIFFERENT) + 1


# --- what is refused --------------------------------------------------------------------------

NO_IDS = ["1,034", "1.034", "1 034", "1'034", "1_034", "11.0", "1.2E+5", "0", "-12", "+12"]
NO_IDS += ["0012", "１２", "١٢", "1²", "1" * 25, str(2**63), "#12", "0x12", "12-14", "1e3"]
NO_IDS += ["12 # staff", "12\u00a0", "12\u200b", "\ufeff12", "1\x002", "12\x0c13", "12\x8513"]
NO_IDS += ["12\u202813", "12\x1c", "Customer ID", '"12']
NO_ADDRESSES = ["Ada <ada@x.example>", "<ada@x.example>", "(ada@x.example)", "ada.x.example"]
NO_ADDRESSES += ["mailto:ada@x.example", "ada@x.example; bob@x.example", "ada@", "@x.example"]
NO_ADDRESSES += ["ada@x.example,bob@x.example", "ada@x.example bob@x.example"]
NO_ADDRESSES += ["ada@b@x.example", "ada@x.example/bob@x.example", "ada@localhost"]
NO_ADDRESSES += ["ada@.example", "ada@x..example", "ada@x.example.", "ada @x.example"]
NO_ADDRESSES += ["a&amp;b@x.example", "ada&#64;x.example", "*@x.example", "ada@*.example"]
NO_ADDRESSES += ['ada"b"@x.example', "'ada@x.example'", "'ada@x.example"]
NO_ADDRESSES += ["ada@x.example (staff)", "ada@x.example:25", "staff", "ada@x"]
NO_ADDRESSES += ["“ada@x.example”", "`ada@x.example`", "•ada@x.example", "ada@x.example|b"]
NO_ADDRESSES += ["ada@x.example!", "ada@x.example/foo", "ada@x.example\x0bbob@x.example"]
# Letters that nobody sees.
NO_ADDRESSES += [f"ada{letter}@x.example" for letter in "\u200b\u2060\u00a0\x07\u034f\ufe0f"]
NO_ADDRESSES += [f"ada@x.example{letter}" for letter in "\u200b\u00a0\u3000\x00"]
NO_ADDRESSES += [f"{letter}ada@x.example" for letter in "\u200f\u202e\ufeff"]
NO_ADDRESSES += ["ada@x\u00ad.example", "ada\u2800@x.example"]
BAD_ROWS: list[tuple[int, str]] = [
    (2, "Customer ID\n1,034\n1,035\n"),
    (3, "Customer Name,Phone,Customer ID\nAda Smith,555,12\nSmith, Bob,44,13\n"),
    (2, "Customer Name,Phone,Customer ID\nSmith, Bob,44,\n"),
    (2, "Customer ID,Name\n1,034,\n"),
    (2, "Customer ID,,\n1,034,\n"),
    (3, "Customer ID;Name\n11;Ada\n12;Smith;Bob\n"),
    (2, "Customer ID\tName\n11\tSmith\tBob\n"),
    (2, 'Customer ID,Notes\n6,"unclosed\n7,ok\n'),
    (2, 'Customer ID,Notes\n6,"unclosed\n7,ok\n8,"late" x\n'),
    (1, 'Customer ID,"Notes\n6,x\n7,ok\n'),
    (2, 'Customer ID,Name\n11,"Ada" Smith\n12,x\n'),
    (2, 'Customer ID,Notes\n11, "a, b"\n'),
    (2, 'Nr, Name, Phone, Customer ID, Notes\n1, "Smith, Bob", 12, 13\n'),
    (3, "Customer ID,Name\n11,Ada\n,Bob\n"),
    (2, "Customer ID,Name\nada@x.example,Ada\n"),
    (2, "Email,Name\n11,Ada\n"),
    (3, "Name,Email\nAda,ada@x.example\nBob\n"),
    (3, "Customer ID\r11\r1,034\r"),
    (4, "Customer ID\r\n\r\n11\r\nx\r\n"),
    (3, 'Name,Customer ID\nA,5\n"two\nlines",x\n'),
    (1, "11,Ada\n12,Bob\n"),
    (1, '"Customer ID,Name"\n"11,Ada"\n'),
    (1, "id;email,id\n5;6,7\n"),
    (2, "5\n6,7\n"),
]
BAD_HEADERS = ["ID 2", "idи", "ID.", "ids", "Old ID", "Customer ID (old)", "Customers ID"]
BAD_HEADERS += ["customer.id", "Email 2", "Emails", "Email?", "Group", "Customer ID\u200b"]
EMPTY = ["", "\n\n", "\ufeff", "\r\r", " \n\t\n", "id\n", "Customer ID,Email\r\n", ",,,\n"]
EMPTY += ["Customer ID,Email\n,\n"]


def test_invalid_id_is_refused_with_its_line() -> None:
    for entry in NO_IDS:
        assert_refused_at(2, f"11\n{entry}\n13\n")
    for entry in ("1,034", "0012", "12\u00a0", "１２", "11.0"):
        assert_refused_at(3, f'Name,Customer ID\nAda,11\nBob,"{entry}"\n')


def test_invalid_address_is_refused_with_its_line() -> None:
    """Else an entry of a keep list would protect nobody, and nobody would see it."""
    for entry in NO_ADDRESSES:
        assert_refused_at(2, f"bob@x.example\n{entry}\n11\n")
        if not {'"', "\0"} & {*entry}:
            assert_refused_at(3, f'Email,Name\nbob@x.example,Bob\n"{entry}",Ada\n')


def test_ambiguous_row_is_refused_with_its_line() -> None:
    for line, text in BAD_ROWS:
        assert_refused_at(line, text)


def test_columns_that_are_unclear_are_refused_and_shown() -> None:
    """A header is compared whole, and only one column may be meant."""
    for header in BAD_HEADERS:
        message = refusal(f"First Name,{header}\nAda,11\n")
        assert header.replace("\u200b", "") in message
    for head in ("Email,E-Mail", "ID,id", "ID,Customer ID", "Customer ID,Email,E-Mail Address"):
        message = refusal(f"{head}\n11,12,13\n")
        assert all(name in message for name in head.split(",")), message
    assert "Product ID" in refusal("Order ID,Product ID,Total\n5,6,7\n")


UNCLEAR = ["ID,Customer", "ID,Customer No", "Customer Name;id", "id,customer_group_id"]
UNCLEAR += ["ID,Customers ID", "ID,customer.id", "Customer ID,Billing Email", "ID,Mail"]


def test_ambiguous_column_is_refused() -> None:
    """The ids may be those of orders, or counts below the ids."""
    for head in UNCLEAR:
        message = refusal(f"{head}\n5,6\n7,8\n")
        assert "may refer to different customers" in message
        assert any(f'"{name}"' in message for name in re.split("[,;]", head))
    assert_reads("Customer ID,Customer Name\n11,Ada\n", [11])
    assert refusal("ID,Product\n11,Mug\n", "products")


def test_a_list_without_an_entry_or_of_another_key_is_refused() -> None:
    for text in EMPTY:
        assert refusal(text)
    assert "line 2" in refusal("11\nada@x.example\n", "products")
    assert "Email" in refusal("Name,Email\nAda,ada@x.example\n", "products")


# --- any text ---------------------------------------------------------------------------------


class Unclear(Exception):
    """The strict reader does not accept the text."""


def require(condition: object) -> None:
    if not condition:
        raise Unclear


def strict_id(cell: str) -> int | None:
    return int(cell) if re.fullmatch("[1-9][0-9]{0,17}", cell) else None


def strict_address(cell: str) -> str | None:
    """The address as it is compared, if it is one: letters, digits and a few signs."""

    def consists_of(text: str, signs: str) -> bool:
        return all(c in signs or unicodedata.category(c)[0] in "LN" for c in text)

    local, at, domain = unicodedata.normalize("NFC", cell).partition("@")
    labels = domain.split(".")
    named = all(label and consists_of(label, "_-") for label in labels) and len(labels) > 1
    plain = local and at and consists_of(local, "._-!#$%&'+/=?^{|}~") and local[0] != "'"
    return comparable(cell) if named and plain else None


def one_line(key: str, by_email: bool) -> str:
    """A key as it is compared beside an id: as selected.csv shows it."""
    shown = " ".join("".join(c if c.isprintable() else " " for c in key).split())
    return comparable(shown) if by_email else unicodedata.normalize("NFC", shown)


def strict_rows(text: str, separator: str) -> list[list[str]]:
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except csv.Error as error:
        raise Unclear from error
    stripped = [[re.sub("^'(?=[=+@-])", "", c.strip(" \t")) for c in row] for row in rows]
    return [row for row in stripped if any(row)]


def strict_reading(text: str, separator: str, resource: str) -> Reading:
    """The entries of a text with that separator; raises Unclear."""
    rows = strict_rows(text, separator)
    require(rows)
    by_email, by_sku = resource != "products", resource == "products"
    head = rows[0]
    alone = head[0] if not any(head[1:]) else ""
    if strict_id(alone) or (by_email and strict_address(alone)):
        require(not any(any(row[1:]) for row in rows))
        return collected([(row[0], row[0] if by_email else "") for row in rows], plain=True)
    names = [re.sub("[ _-]", "", name.casefold()) for name in head]
    own = ("id", f"{resource.removesuffix('s')}id")
    ids = [at for at, name in enumerate(names) if name in own]
    email_names = ("email", "emailaddress", "emailadresse", "adresseemail")
    key_names = email_names if by_email else ("sku",)
    emails = [at for at, name in enumerate(names) if name in key_names]
    titles = [at for at, name in enumerate(names) if by_sku and name == "name"]
    require(len(ids) < 2 and len(emails) < 2 and ids + emails)
    require(not {"item", "itemtype"} & {*names})
    cells = []
    for row in rows[1:]:
        require(len(row) <= len(head) or sum(map(bool, row)) == 1)
        require(not any(row[len(head) :]))
        wide = row + [""] * (len(head) - len(row))
        require(not any(cell for cell, name in zip(wide, head, strict=False) if not name))
        cells.append(tuple(wide[at[-1]] if at else "" for at in (ids, emails, titles)))
    if ids and emails:
        named = [(number, one_line(key, by_email) or title) for number, key, title in cells]
        return paired(named, by_email)
    if emails and by_sku:
        return by_key([unicodedata.normalize("NFC", key) for _, key, _ in cells])
    return collected([(number, address) for number, address, _ in cells])


def collected(cells: Sequence[tuple[str, ...]], *, plain: bool = False) -> Reading:
    """The entries of cells with an id or an address, in either place where `plain`."""
    ids: list[int] = []
    emails: list[str] = []
    for number, address in cells:
        found, email = strict_id(number), strict_address(address)
        require(found or email)
        require(plain or (bool(number) == bool(found) and bool(address) == bool(email)))
        ids += [found] if found else []
        emails += [email] if email and not found else []
    require(ids or emails)
    distinct = tuple(dict.fromkeys(ids))
    repeats = len(ids) + len(emails) - len(distinct) - len({*emails})
    return Reading(distinct, frozenset(emails), [], repeats)


def by_key(keys: list[str]) -> Reading:
    """The entries of rows that each have a key which is no address."""
    require(keys and all(keys))
    return Reading((), frozenset(keys), [], len(keys) - len({*keys}))


def paired(cells: Sequence[tuple[str, str]], by_email: bool) -> Reading:
    """The entries of rows that each have an id and a key."""
    pairs = [(strict_id(number) or 0, one_line(key, by_email)) for number, key in cells]
    require(pairs and all(number and address for number, address in pairs))
    ids = tuple(dict.fromkeys(number for number, _ in pairs))
    return Reading(ids, frozenset(), pairs, len(pairs) - len(ids))


def strict_readings(text: str, resource: str) -> list[Reading]:
    """All that a text can mean: one reading, none, or several."""
    readings: list[Reading] = []
    for separator in ",;\t":
        try:
            reading = strict_reading(text, separator, resource)
        except Unclear:
            continue
        readings += [reading] if reading not in readings else []
    return readings


def assert_read_strictly(text: str, resource: str) -> None:
    """Either it is refused with a line, or read in the only way in which it can be read."""
    try:
        reading = read(text, resource)
    except ValueError as error:
        numbers = set(map(int, re.findall(r"\bline ([0-9]+)", str(error))))
    else:
        assert strict_readings(text, resource) == [reading]
        return
    assert numbers <= set(range(1, 2 + len(re.findall("\r\n|\r|\n", text)))), text


ANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
PIECES = ["11", "12", "7", "0", "-3", "007", "1,034", "11.0", "1" * 20, "１２", "Ada", '5" x']
PIECES += ["Smith, Bob", "ada@x.example", "Ada@X.Example", "bob@y.example", "a@b@c.example"]
PIECES += ["ada@x", "jose\u0301@x.example", "josé@x.example", "o'b@x.example", "Notes", "Name"]
PIECES += ["ada@bücher.example", "Ada <a@x.example>", "Customer ID", "customer_id", "ID"]
PIECES += ["ID 2", "Email", "E-Mail Address", "SKU", "Item", "Product ID", "Product"]
PIECES += [*'"",,;\t\n\n\n\r', "\r\n", *" @'<>:.\u200b\u00a0\u200f\x00\x0b\x0c\x1c\x85\u2028"]
JUMBLES = st.lists(st.sampled_from(PIECES), max_size=14).map("".join)
RESOURCES = st.sampled_from(["customers", "products", "subscribers"])
LINE_ENDS = ["\n", "\r\n", "\r"]
CELLS = {
    "id": ["11", "12", "13", " 14 "],
    "email": ["ada@x.example", "BOB@y.example", "josé@x.example"],
    "": ["x", "Smith, Bob", "1;034", 'a "b"\nc', "", "7", "eve@x.example"],
}
HEADS = {
    "id": ["ID", "id", "ID", "product_id", "Customer-ID"],
    "email": ["Email", "E-Mail Address", "SKU"],
    "": ["Name", "Notes", "Phone", "Name", "", "ID 2"],
}
LAYOUTS = [["id", ""], ["id"], ["", "id", ""], ["id", "email"], ["email", "", "id"]]
LAYOUTS += [["", "email"], ["", "", "id"], ["id", "", "id"]]


def quoted(cell: str, separator: str, *, always: bool) -> str:
    odd = any(c in cell for c in f'"\r\n{separator}')
    return '"' + cell.replace('"', '""') + '"' if odd or always else cell


def table(rng: random.Random) -> str:
    """A CSV as a program writes it, now and then with a wrong or an unquoted cell."""
    separator, end, columns = rng.choice(",,;\t"), rng.choice(LINE_ENDS), rng.choice(LAYOUTS)
    always, careless = rng.random() < 0.3, rng.random() < 0.2
    rows = [[rng.choice(HEADS[column]) for column in columns]]
    for _ in range(rng.randint(1, 4)):
        row = [rng.choice(PIECES if rng.random() < 0.03 else CELLS[name]) for name in columns]
        rows.append(row[: rng.randint(1, len(row))] if rng.random() < 0.1 else row)

    def written(cell: str) -> str:
        return cell if careless else quoted(cell, separator, always=always)

    return end.join(separator.join(map(written, row)) for row in rows)


def damaged(text: str, rng: random.Random) -> str:
    """The text with a piece put in, or a character lost, mostly below its header."""
    head = len(re.split("[\r\n]", text)[0])
    at = rng.randint(head if rng.random() < 0.9 else 0, len(text))
    piece = rng.choice(["", '"', '"', ",", ",", "\n", rng.choice(PIECES)])
    return text[:at] + piece + text[at + (not piece) :]


@ANY
@given(text=JUMBLES, resource=RESOURCES)
@example(text="josé@x.example１２", resource="customers")
def test_any_text_is_read_strictly(text: str, resource: str) -> None:
    assert_read_strictly(text, resource)


@ANY
@given(seed=st.integers(0, 2**63), resource=RESOURCES)
def test_any_table_whole_or_damaged_is_read_strictly(seed: int, resource: str) -> None:
    rng = random.Random(seed)
    for _ in range(10):
        text = table(rng)
        assert_read_strictly(text, resource)
        assert_read_strictly(damaged(text, rng), resource)


WORDS = st.from_regex("[a-z0-9]{1,6}([.+_-][a-z0-9]{1,4})?", fullmatch=True)
DOMAINS = st.sampled_from(["x.example", "Shop-Mail.example", "bücher.example", "A.B.EXAMPLE"])
ADDRESSES = st.builds("{}@{}".format, WORDS, DOMAINS)
NOTES = st.text(st.sampled_from("ab1@.,;\t\"' \n\r\u200f愛-:<"), max_size=8).filter(
    lambda note: (
        not note.strip(" \t").startswith('"')
    )  # which looks like a space before a quote
)
ROW = st.tuples(st.integers(1, 10**9), ADDRESSES, NOTES)
ROWS = st.lists(ROW, min_size=1, max_size=8, unique_by=lambda row: row[0])


def well_formed(columns: list[str], rows: list[list[str]], rng: random.Random) -> str:
    """A CSV with these columns in any order, separator, line ends and quotes."""
    separator, end, always = rng.choice(",;\t"), rng.choice(LINE_ENDS), rng.random() < 0.5
    order = [*range(len(columns))]
    rng.shuffle(order)
    return end.join(
        separator.join(quoted(row[at], separator, always=always) for at in order)
        for row in [columns, *rows]
    )


@ANY
@given(rows=ROWS, rng=st.randoms(use_true_random=False))
def test_no_entry_of_a_well_formed_list_is_dropped(rows: Any, rng: random.Random) -> None:
    """N23: whatever its columns, separator, line ends and quotes."""
    ids, emails = [str(row[0]) for row in rows], [row[1] for row in rows]
    numbers, pairs = [row[0] for row in rows], [(row[0], comparable(row[1])) for row in rows]
    cells = [[str(number), email, note] for number, email, note in rows]
    end = rng.choice(LINE_ENDS)
    plain = "".join(f"{entry}{end} {end}" for entry in ids + emails)
    assert_reads(plain, numbers, emails)
    assert_reads(well_formed(["ID", "Name"], [[n, note] for n, _, note in cells], rng), numbers)
    text = well_formed(["E-Mail", "Name"], [[email, note] for _, email, note in cells], rng)
    assert_reads(text, [], emails)
    text = well_formed(["customer_id", "Email", "Name"], cells, rng)
    assert_reads(text, numbers)
    assert read(text).pairs == pairs


# --- with the tool ----------------------------------------------------------------------------


@pytest.fixture
def direct(tmp_path: Path) -> DirectTool:
    return DirectTool(tmp_path)


def test_misread_lists_are_refused(make_store: MakeStore, direct: DirectTool) -> None:
    """Nothing is sent; the message has the file and the line. So it is for the ini's lists."""
    store = people(make_store, 1, 34, 1034)
    for option in ("--ids", "--keep"):
        path = write(direct, "Customer ID\n1,034\n")
        words, ini = ["line 2", str(path)], {option.strip("-"): path}
        run_refused(direct, store, 2, option, path, words=words)
        run_refused(direct, store, 2, words=words, **ini)
        missing = direct.folder / "none.txt"
        run_refused(direct, store, 2, option, missing, words=["none.txt"])
        for content in (b"", b"id\n", b"5\n\xff\xfe\n"):
            run_refused(direct, store, 2, option, write(direct, content), words=["list.txt"])


# --- natural keys -----------------------------------------------------------------------------

KEYS = [("products", "sku", "SKU"), ("coupons", "code", "Code")]
KEYS += [("redirects", "from_path", "From Path")]
each_key = pytest.mark.parametrize(("resource", "name", "header"), KEYS)
PRODUCTS = ("--resource", "products")


@each_key
def test_a_list_by_natural_key(
    make_store: MakeStore, direct: DirectTool, resource: str, name: str, header: str
) -> None:
    """It is compared exactly: an entry in another case matches nothing, and is reported.

    A key of digits is no id.
    """
    store, ids = stocked(make_store, resource, 6)
    keys = ["Ab-1", str(ids[0]), "=Ab-3", "a  b", "e\u0301", "x" * 900]
    for number, key in zip(ids, keys, strict=True):
        store.change(number, kind=resource, **{name: key})
    options = ("--resource", resource)
    rows = [f"{header};Note", "aB-1;x", f"{ids[0]};x", "'=Ab-3;x", "a  b;x", "a b;x", "é;x"]
    path = write(direct, lines(rows))
    outcome = dry_run(direct, store, *options, "--ids", path)
    assert sorted(outcome.plan["ids"]) == ids[1:5]
    assert unmatched(outcome) == {("list.txt", "ab-1"), ("list.txt", "a b")}
    assert "aB-1" in outcome.err
    keep = write(direct, lines([header, *keys[3:]]), "keep.txt")
    assert selected(direct, store, *options, "--keep", keep) == {*ids[:3]}
    done = direct(store, None, "--yes", *options, "--ids", path, "--keep", keep)
    assert (done.status, done.summary["spared"]) == (0, 2), done.text
    assert sorted(store.records[resource]) == [ids[0], *ids[3:]]


REFUSED_ROWS = [  # status, and the third row of a list that has `first` and `second` before
    (2, "{second},"),
    (2, ",{key}"),
    (3, "{second},{other}"),
    (3, "999999,{key}"),
    (3, "{second},{key}x"),
]


@each_key
def test_a_row_with_an_id_and_a_key_is_one_record(
    make_store: MakeStore, direct: DirectTool, resource: str, name: str, header: str
) -> None:
    store, (first, second, third) = stocked(make_store, resource, 3)
    other, key = (store.records[resource][number][name] for number in (first, second))
    rows = [f"ID,{header}", f"{first},{other}", f"{second},{key}"]
    for option, wanted in (("--ids", {first, second}), ("--keep", {third})):
        options = ("--resource", resource, option, "list.txt")
        store.log.clear()
        for status, row in REFUSED_ROWS:
            write(direct, lines([*rows, row.format(second=second, key=key, other=other)]))
            words = [
                "line 4",
                f"id and {name} belong to different records" if status == 3 else "",
            ]
            run_refused(direct, store, status, *options, words=words)
        write(direct, lines(rows))
        assert selected(direct, store, *options) == wanted


def test_a_product_without_a_sku_is_matched_by_its_name(
    make_store: MakeStore, direct: DirectTool
) -> None:
    """So selected.csv is a list; a count below the ids is not taken for a product."""
    store, ids = stocked(make_store, "products", 4)
    for number, sku in zip(ids, ["", "=1+1", ""], strict=False):
        store.change(number, kind="products", sku=sku, name=f"- Mug\t{number}, " + "x" * 1200)
    products = ("--resource", "products")
    planned = dry_run(direct, store, *products, "--limit", "3")
    path = (planned.folder or Path()) / "selected.csv"
    outcome = dry_run(direct, store, *products, "--ids", path)
    assert (outcome.plan["ids"], outcome.summary["not_found"]) == (planned.plan["ids"], 0)
    assert selected(direct, store, *products, "--keep", path) == {ids[3]}
    text = path.read_text(encoding="utf-8")
    store.log.clear()
    for status, row in ((2, f"{ids[0]},,,,"), (2, f"{ids[0]},,,9,"), (3, f"{ids[0]},Total,,,")):
        path = write(direct, f"{text}{row}\n")
        run_refused(direct, store, status, *products, "--ids", path, words=["line 5"])
    store.log.clear()
    run_refused(direct, store, 2, *products, "--ids", write(direct, "SKU-1\nSKU-2\n"))
