"""What is selected goes, and nothing else: the real tool on a store with mixed customers."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.fake_store import FakeStore, Fault, Record, Request
from tests.rigged import (
    DROP,
    ORDERS_SCOPE,
    QUIET,
    Fits,
    MakeStore,
    RiggedTool,
    Tool,
    assert_says,
    chosen,
    lines,
    listings,
    run_deletes,
    run_refused,
    with_orders,
    write,
)

SPAM = r"@(mailbin|tempinbox|spam-drop)\.example$"


@pytest.fixture
def store(make_store: MakeStore) -> FakeStore:
    """Mixed customers, more than a page of them, on which no test waits for quota."""
    return make_store(customers=300, quota=10_000, date_bounds="inclusive")


# --- filters of the API --------------------------------------------------------------------------


def filter_cases(store: FakeStore) -> dict[str, tuple[str, Fits]]:
    """A value for every documented filter, and what it selects."""
    records = list(store.customers.values())
    one, two = records[40], records[222]
    ids = {record["id"] for record in records[10:20]}
    company, phone = (next(r[name] for r in records if r[name]) for name in ("company", "phone"))
    addresses = {one["email"], two["email"]}
    whole = f"{one['first_name']} {one['last_name']}"
    created, modified = one["date_created"], two["date_modified"]
    address = next(r["registration_ip_address"] for r in records if r["registration_ip_address"])

    def name(record: Record) -> str:
        return f"{record['first_name']} {record['last_name']}".lower()

    return {
        "id:in": (",".join(map(str, ids)), lambda r: r["id"] in ids),
        "company:in": (company, lambda r: r["company"] == company),
        "customer_group_id:in": ("1,7", lambda r: r["customer_group_id"] in (1, 7)),
        "date_created:min": (created, lambda r: r["date_created"] >= created),
        "date_created:max": (created, lambda r: r["date_created"] <= created),
        "date_modified:min": (modified, lambda r: r["date_modified"] >= modified),
        "date_modified:max": (modified, lambda r: r["date_modified"] <= modified),
        "email:in": (",".join(addresses), lambda r: r["email"] in addresses),
        "name:in": (whole, lambda r: name(r) == whole.lower()),
        "name:like": ("win $,Prize-", lambda r: "win $" in name(r) or "prize-" in name(r)),
        "phone:in": (phone, lambda r: r["phone"] == phone),
        "registration_ip_address:in": (address, lambda r: r["registration_ip_address"] == address),
    }


FILTER_NAMES = sorted(filter_cases(FakeStore(customers=300)))


@pytest.mark.parametrize("name", FILTER_NAMES)
def test_a_filter(store: FakeStore, tool: RiggedTool, name: str) -> None:
    """Each documented filter of customers deletes what it selects, and is told in panel and summary."""
    value, fits = filter_cases(store)[name]
    outcome = run_deletes(tool, store, chosen(store, fits), "--filter", f"{name}={value}")
    assert name in outcome.err
    assert outcome.summary["filters"] == {name: value}
    assert "ALL" not in outcome.err


@pytest.mark.parametrize("name", FILTER_NAMES)
def test_a_filter_that_the_store_ignores(store: FakeStore, tool: RiggedTool, name: str) -> None:
    """A store that is deaf to a filter loses nothing: the first record that does not fit is noticed."""
    value, fits = filter_cases(store)[name]
    store.deaf = {name}
    assert chosen(store, fits) < set(store.customers)
    words = ("the store ignored the filter", name)
    outcome = run_refused(tool, store, 3, "--filter", f"{name}={value}", words=words)
    assert (outcome.summary["selected"], outcome.summary["resume"]) == (0, None)


@pytest.mark.parametrize("name", ["id:in", "company:in", "customer_group_id:in", "date_created:min"])
def test_a_deaf_store_in_a_dry_run(store: FakeStore, tool: RiggedTool, name: str) -> None:
    """What a real run would refuse, its dry run refuses too."""
    value, _ = filter_cases(store)[name]
    store.deaf = {name}
    run_refused(tool, store, 3, "--dry-run", "--filter", f"{name}={value}", words=["ignored the filter"])


def test_customers_of_no_group(store: FakeStore, tool: RiggedTool) -> None:
    """Group 0, which is none, can be selected like any other."""
    wanted = chosen(store, lambda r: r["customer_group_id"] == 0)
    run_deletes(tool, store, wanted, "--filter", "customer_group_id:in=0")


def test_filters_must_all_fit(store: FakeStore, tool: RiggedTool) -> None:
    """Several filters select what fits them all."""
    middle = store.customers[list(store.customers)[150]]["date_created"]
    wanted = chosen(store, lambda r: r["date_created"] >= middle and r["customer_group_id"] == 1)
    options = ("--filter", f"date_created:min={middle}", "--filter", "customer_group_id:in=1")
    run_deletes(tool, store, wanted, *options)


def test_filters_of_the_ini(store: FakeStore, tool: RiggedTool) -> None:
    """[filters] selects by itself, names in any case."""
    middle = store.customers[list(store.customers)[150]]["date_created"]
    wanted = chosen(store, lambda r: r["date_created"] >= middle and r["customer_group_id"] == 1)
    run_deletes(tool, store, wanted, filters={"date_created:min": middle, "Customer_Group_ID:in": "1"})


def test_filters_of_argv_are_merged_by_name(store: FakeStore, tool: RiggedTool) -> None:
    """A filter on the command line takes the place of the ini's of that name; the others stay."""
    middle = store.customers[list(store.customers)[150]]["date_created"]
    ini = {"date_created:min": middle, "customer_group_id:in": "1"}
    wanted = chosen(store, lambda r: r["date_created"] >= middle and r["customer_group_id"] in (2, 3))
    outcome = run_deletes(tool, store, wanted, "--filter", "customer_group_id:in=2,3", filters=ini)
    assert outcome.summary["filters"] == ini | {"customer_group_id:in": "2,3"}


@pytest.mark.parametrize("by", ["argv", "ini"])
@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("emial:in", "a@b.example", "email:in"),
        ("date_create:min", "2025-01-01", "date_created:min"),
        ("id", "5", "id:in"),
        ("company", "Acme", "company:in"),
        ("limit", "5", "filter"),
        ("page", "2", "filter"),
        ("sort", "date_created:desc", "filter"),
        ("include", "addresses", "filter"),
    ],
)
def test_an_unknown_filter(
    store: FakeStore, tool: RiggedTool, by: str, name: str, value: str, word: str
) -> None:
    """A name that is no filter of the resource sends nothing; the nearest known one is named."""
    words = (name, word)
    if by == "argv":
        run_refused(tool, store, 2, "--filter", f"{name}={value}", words=words)
    else:
        run_refused(tool, store, 2, words=words, filters={name: value})


@pytest.mark.parametrize("by", ["argv", "ini"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("company:in", ""),
        ("company:in", "  "),
        ("company:in", "Acme,,Blue"),
        ("email:in", ","),
        ("id:in", "abc"),
        ("id:in", "0"),
        ("id:in", "1,-2"),
        ("id:in", "1.5"),
        ("id:in", "٣"),
        ("customer_group_id:in", "x"),
        ("date_created", "yesterday"),
        ("date_created:min", "2025-13-01"),
        ("date_created:max", "1714521600"),
        ("date_modified:max", "31/12/2024"),
    ],
)
def test_a_filter_of_a_wrong_value(
    store: FakeStore, tool: RiggedTool, by: str, name: str, value: str
) -> None:
    """An empty value, or one of another type, sends nothing, and the filter is named."""
    if by == "argv":
        run_refused(tool, store, 2, "--filter", f"{name}={value}", words=[name])
    else:
        run_refused(tool, store, 2, words=[name], filters={name: value})


def test_a_filter_without_a_value(store: FakeStore, tool: RiggedTool) -> None:
    """--filter NAME alone sends nothing."""
    run_refused(tool, store, 2, "--filter", "company:in", words=["NAME=VALUE"])


# --- --match -------------------------------------------------------------------------------------

MATCHES: list[tuple[tuple[str, ...], Fits]] = [
    (
        (f"email={SPAM}",),
        lambda r: r["email"].split("@")[1] in ("mailbin.example", "tempinbox.example", "spam-drop.example"),
    ),
    (("last_name=^https?://",), lambda r: r["last_name"].startswith("https://")),
    (("first_name=[0-9]",), lambda r: any(c.isdigit() for c in r["first_name"])),
    (
        ("addresses.0.country_code=^(US|DE)$",),
        lambda r: bool(r["addresses"]) and r["addresses"][0]["country_code"] in ("US", "DE"),
    ),
    (
        ("addresses.1.city=^Leeds$",),
        lambda r: len(r["addresses"]) > 1 and r["addresses"][1]["city"] == "Leeds",
    ),
    (("customer_group_id=^7$",), lambda r: r["customer_group_id"] == 7),
    (
        ("accepts_product_review_abandoned_cart_emails=^true$",),
        lambda r: r["accepts_product_review_abandoned_cart_emails"],
    ),
    (
        ("authentication.force_password_reset=false", "company=^Acme"),
        lambda r: r["company"].startswith("Acme"),
    ),
    (
        ("company=^Acme", "customer_group_id=^[01]$", "phone=^$"),
        lambda r: r["company"].startswith("Acme") and r["customer_group_id"] in (0, 1) and not r["phone"],
    ),
]


@pytest.mark.parametrize(("given", "fits"), MATCHES)
def test_match(store: FakeStore, tool: RiggedTool, given: tuple[str, ...], fits: Fits) -> None:
    """--match selects the records in whose field the expression is found; several must all match."""
    options = itertools.chain.from_iterable(("--match", text) for text in given)
    run_deletes(tool, store, chosen(store, fits), *options)


def test_match_of_the_ini(store: FakeStore, tool: RiggedTool) -> None:
    """`match` in the ini selects; --match on the command line takes its place."""
    wanted = chosen(store, lambda r: r["company"].startswith("Tide"))
    run_deletes(tool, store, wanted, match="company=^Tide & ")
    wanted = chosen(store, lambda r: r["email"].endswith("@spam-drop.example"))
    before = set(store.customers)
    config = store.config(tool.folder, match="company=.")
    outcome = tool(store, config, "--yes", "--match", DROP)
    assert outcome.status == 0
    assert before - set(store.customers) == wanted
    assert wanted


DEEP = pytest.param(f"email={'(' * 3000}{')' * 3000}", id="nested too deep")


@pytest.mark.parametrize(
    "text", ["email=[", "email=(?P<", "email=", "=x", "email", "email=*", "email=a{99999999999}", DEEP]
)
def test_a_bad_match(store: FakeStore, tool: RiggedTool, text: str) -> None:
    """What is no FIELD=REGEX, or no regular expression, sends nothing."""
    run_refused(tool, store, 2, "--match", text, words=["--match"])


@pytest.mark.parametrize(
    ("name", "value", "held"),
    [("brand_id", "5", 10**400), ("date_modified:min", "2020-01-01", "0001-01-01T00:00:00+14:00")],
)
def test_a_field_that_holds_what_cannot_be_compared(
    make_store: MakeStore, tool: RiggedTool, name: str, value: str, held: object
) -> None:
    """A number or date beyond all bounds fits no filter: the store is refused, without a traceback."""
    store = make_store(customers=0, products=3, **QUIET)

    def rewritten(_: Request, body: dict[str, Any]) -> dict[str, Any]:
        for record in body["data"]:
            record[name.partition(":")[0]] = held
        return body

    store.faults = [Fault(where=listings, times=math.inf, rewrite=rewritten)]
    records = list(store.records["products"].values())
    for record in records:
        record |= {"brand_id": 5, "date_modified": "2024-01-01T00:00:00+00:00"}
    outcome = tool.run(store, "--resource", "products", "--filter", f"{name}={value}")
    assert outcome.status == 3, outcome.text
    assert_says(outcome, "ignored the filter")


@pytest.mark.parametrize(
    "path", ["emial", "addresses.0.country_cod", "email.0", "addresses.99.city", "Email", "addresses.city"]
)
def test_match_on_a_field_that_no_record_has(store: FakeStore, tool: RiggedTool, path: str) -> None:
    """A field that no listed record has is refused, and the fields there are named."""
    words = (path, "email", "first_name", "company", "date_created")
    run_refused(tool, store, 3, "--match", f"{path}=.", words=words)


def test_one_of_several_matches_on_no_field(store: FakeStore, tool: RiggedTool) -> None:
    """A second --match is checked for its field even where the first one takes nobody."""
    run_refused(tool, store, 3, "--match", "email=^nobody$", "--match", "emial=.", words=["emial"])


def test_a_match_reads_letters_as_they_are(store: FakeStore, tool: RiggedTool) -> None:
    """An expression on a list sees München, not its escapes: sparing by it spares."""
    number = next(iter(store.customers))
    store.change(number, company="München", channel_ids=["München"])
    outcome = tool.run(store, "--match", "channel_ids=^(?!.*München)")
    assert outcome.status == 0, outcome.text
    assert list(store.customers) == [number]


def test_match_of_nobody(store: FakeStore, tool: RiggedTool) -> None:
    """An expression that nobody's field holds selects nothing, which is no error."""
    outcome = tool(store, None, "--yes", "--match", "email=^nobody$")
    assert (outcome.status, outcome.summary["selected"]) == (0, 0)
    assert not store.deletes()


# --- --ids ---------------------------------------------------------------------------------------


def csv_of(store: FakeStore, ids: Iterable[int], head: str, between: str = ",") -> str:
    """Like an export: the id in the second column, a quoted name in the third."""
    rows = [
        between.join([str(place), str(n), f'"Doe{between} ""J"" {place}"', store.customers[n]["email"]])
        for place, n in enumerate(ids)
    ]
    return lines([between.join(["Row", head, "Name", "Email"]), *rows])


ID_FILES: dict[str, Callable[[FakeStore, list[int]], str | bytes]] = {
    "plain": lambda _, ids: lines(ids),
    "no line break at the end": lambda _, ids: lines(ids).rstrip("\n"),
    "empty lines and spaces": lambda _, ids: "\n" + lines(f"  {n} \n" for n in ids),
    "CRLF": lambda _, ids: lines(ids).replace("\n", "\r\n"),
    "BOM": lambda _, ids: b"\xef\xbb\xbf" + lines(ids).encode(),
    "header id": lambda _, ids: lines(["id", *ids]),
    "export": lambda store, ids: csv_of(store, ids, "Customer ID"),
    "export with BOM and CRLF": lambda store, ids: (
        b"\xef\xbb\xbf" + csv_of(store, ids, "Customer ID").replace("\n", "\r\n").encode()
    ),
    "semicolons": lambda store, ids: csv_of(store, ids, "Customer ID", ";"),
    "tabs": lambda store, ids: csv_of(store, ids, "customer_id", "\t"),
    "quoted": lambda _, ids: lines(['"ID"', *(f'"{n}"' for n in ids)]),
}


@pytest.mark.parametrize("form", list(ID_FILES))
def test_ids(store: FakeStore, tool: RiggedTool, form: str) -> None:
    """A list of ids, in each form, deletes exactly those."""
    ids = list(store.customers)[20:270:5]
    path = write(tool, ID_FILES[form](store, ids))
    outcome = run_deletes(tool, store, set(ids), "--ids", path)
    assert (outcome.summary["duplicates"], outcome.summary["not_found"]) == (0, 0)


def test_ids_are_read_250_a_request(make_store: MakeStore, tool: RiggedTool) -> None:
    """600 ids are read by three requests, before and after; the control and the first batch are one each."""
    store = make_store(customers=1000, quota=10_000)
    ids = list(store.customers)[100:700]
    outcome = run_deletes(tool, store, set(ids), "--ids", write(tool, lines(ids)))
    sizes: dict[bool, list[int]] = {False: [], True: []}  # before the first DELETE, and after it
    for request in store.log:
        if request.method == "GET" and request.path.endswith("v3/customers") and request.ids:
            sizes[request.number > store.deletes()[0].number].append(len(request.ids))
    control, first_batch = [250], [10]
    assert sorted(sizes[False]) == sorted([100, 250, 250, *control])
    assert sizes[True][:1] == first_batch
    assert sorted(sizes[True][1:]) == [100, 250, 250]
    assert outcome.summary["verified"]


def test_ids_twice_and_unknown(store: FakeStore, tool: RiggedTool) -> None:
    """Ids that stand twice are counted, and those that the store does not know are reported."""
    ids = list(store.customers)[:10]
    path = write(tool, lines([*ids, ids[0], ids[0], ids[3], 999_001, 999_002, 999_001]))
    outcome = run_deletes(tool, store, set(ids), "--ids", path, "--json")
    summary = json.loads(outcome.out)
    assert (summary["duplicates"], summary["not_found"]) == (4, 2)
    assert "Not found" in outcome.err
    assert 999_001 not in outcome.plan["ids"]


def test_only_unknown_ids(store: FakeStore, tool: RiggedTool) -> None:
    """A list of which the store knows nothing selects nothing, and says how many were not found."""
    outcome = tool(store, None, "--yes", "--ids", write(tool, lines([999_001, 999_002])))
    assert (outcome.status, outcome.summary["selected"], outcome.summary["not_found"]) == (0, 0, 2)
    assert not store.deletes()


@pytest.mark.parametrize(
    ("bad", "number"),
    [
        ("5\n6\nabc\n7\n", 3),
        ("5\n0\n", 2),
        ("5\n-6\n", 2),
        ("5\n\n6.5\n", 3),
        ("5\n6 7\n", 2),
        ("5\n6,7\n", 2),
        ("5\n1e3\n", 2),
        ("5\n+6\n", 2),
        ("5\n٣\n", 2),
        ("5\n" + "9" * 30 + "\n", 2),
        ("id\n5\nfive\n", 3),
        ("Name,Customer ID\nA,5\nB,x\n", 3),
        ("Name,Customer ID\nA,5\nB\n", 3),
        ('Name,Customer ID\nA,5\n"two\nlines",x\n', 4),
    ],
)
def test_a_bad_line_of_ids(store: FakeStore, tool: RiggedTool, bad: str, number: int) -> None:
    """A line that is no positive whole number sends nothing, and is told by its number."""
    path = write(tool, bad)
    run_refused(tool, store, 2, "--ids", path, words=[str(path), f"line {number}"])


@pytest.mark.parametrize("option", ["--ids", "--keep"])
@pytest.mark.parametrize("text", ["", "\n\n", "\ufeff", "id\n", "Customer ID,Email\r\n", " \r\n"])
def test_an_empty_list(store: FakeStore, tool: RiggedTool, option: str, text: str) -> None:
    """A list file that holds nothing sends nothing."""
    path = write(tool, text)
    run_refused(tool, store, 2, option, path, words=[option, str(path)])


@pytest.mark.parametrize("option", ["--ids", "--keep"])
@pytest.mark.parametrize(
    ("head", "columns"),
    [
        ("Order ID,Product ID,Total", ("Order ID", "Product ID", "Total")),
        ("Name,Group", ("Name", "Group")),
        ("ID,Customer ID", ("ID", "Customer ID")),
        ("id,id", ("id",)),
    ],
)
def test_unclear_columns(
    store: FakeStore, tool: RiggedTool, option: str, head: str, columns: tuple[str, ...]
) -> None:
    """A CSV in which the column is not plain sends nothing, and its columns are named."""
    path = write(tool, f"{head}\n{','.join('5' for _ in head.split(','))}\n")
    run_refused(tool, store, 2, option, path, words=columns)


@pytest.mark.parametrize("option", ["--ids", "--keep"])
def test_a_list_that_is_not_there(store: FakeStore, tool: RiggedTool, option: str) -> None:
    """A list file that cannot be read sends nothing, and is named."""
    run_refused(tool, store, 2, option, tool.folder / "none.txt", words=["none.txt", option])
    path = write(tool, b"5\n\xff\xfe\n")
    run_refused(tool, store, 2, option, path, words=[str(path)])


def test_ids_on_a_store_that_ignores_them(store: FakeStore, tool: RiggedTool) -> None:
    """A list that is deaf to id:in proves nothing of the ids: nothing is deleted."""
    store.deaf = {"id:in"}
    path = write(tool, lines(list(store.customers)[:10]))
    run_refused(tool, store, 3, "--ids", path, words=["ignored the filter", "id:in"])


@pytest.mark.parametrize("by", ["argv", "ini"])
def test_ids_with_filters(store: FakeStore, tool: RiggedTool, by: str) -> None:
    """--ids and filters exclude each other: nothing is sent."""
    path = write(tool, lines(list(store.customers)[:10]))
    if by == "argv":
        run_refused(tool, store, 2, "--ids", path, "--filter", "company:in=Acme Corp", words=["--ids"])
    else:
        run_refused(tool, store, 2, "--ids", path, words=["--ids"], filters={"company:in": "Acme Corp"})


# --- --keep --------------------------------------------------------------------------------------

KEEP_FILES: dict[str, Callable[[list[Record]], str]] = {
    "ids": lambda kept: lines(record["id"] for record in kept),
    "addresses": lambda kept: lines(record["email"] for record in kept),
    "addresses in any case": lambda kept: lines(record["email"].upper() for record in kept),
    "ids and addresses": lambda kept: lines(
        record["id"] if place % 2 else record["email"].title() for place, record in enumerate(kept)
    ),
    "CSV of ids": lambda kept: lines(["Customer ID,Name", *(f"{r['id']},x" for r in kept)]),
    "CSV of addresses": lambda kept: lines(["Name;Email", *(f"x;{r['email'].upper()}" for r in kept)]),
    "CSV of both": lambda kept: lines(
        ["Customer ID,Email", *(f"{r['id']},{kept[0]['email']}" for r in kept)]
    ),
}


@pytest.mark.parametrize("form", list(KEEP_FILES))
def test_keep(store: FakeStore, tool: RiggedTool, form: str) -> None:
    """Those that a file names, by id or e-mail address in any case, stay, and are counted."""
    kept = [store.customers[number] for number in list(store.customers)[30:280:10]]
    path = write(tool, "\ufeff" + KEEP_FILES[form](kept))
    wanted = set(store.customers) - {record["id"] for record in kept}
    outcome = run_deletes(tool, store, wanted, "--keep", path)
    assert outcome.summary["spared"] == len(kept)
    assert "Spared" in outcome.err


def test_keep_counts_only_the_selected(store: FakeStore, tool: RiggedTool) -> None:
    """What a keep list names beside the selection is neither spared nor an error."""
    spam = sorted(chosen(store, lambda r: r["email"].endswith("spam-drop.example")))
    others = sorted(set(store.customers) - set(spam))[:50]
    path = write(tool, lines([*spam[:2], *others]))
    outcome = run_deletes(tool, store, set(spam[2:]), "--match", DROP, "--keep", path)
    assert outcome.summary["spared"] == 2


@pytest.mark.parametrize("text", ["999001\n999002\n", "nobody@elsewhere.example\n"])
def test_keep_of_none_among_the_selected(store: FakeStore, tool: RiggedTool, text: str) -> None:
    """A keep list of which nobody is selected is likelier the wrong file: nothing is deleted."""
    run_refused(tool, store, 3, "--keep", write(tool, text), words=["--keep"])


@pytest.mark.parametrize("bad", ["5\nabc\n", "Customer ID\n5\nx\n"])
def test_a_bad_line_of_keep(store: FakeStore, tool: RiggedTool, bad: str) -> None:
    """A line that is neither id nor e-mail address sends nothing, and is told by its number."""
    number = bad.count("\n")
    run_refused(tool, store, 2, "--keep", write(tool, bad), words=[f"line {number}"])


def test_a_trial_with_the_wrong_keep_list_is_refused(store: FakeStore, tool: RiggedTool) -> None:
    """--limit does not hide that nothing in the keep list is among the selected."""
    keep = tool.folder / "keep.txt"
    keep.write_text("nobody@elsewhere.example\n")
    refused = tool.run(store, "--keep", keep, "--limit", "10")
    assert refused.status == 3
    assert "--keep" in refused.err
    assert not store.deletes()
    keep.write_text(store.customers[list(store.customers)[40]]["email"])
    assert tool.run(store, "--keep", keep, "--limit", "10").summary["deleted"] == 10


def test_keep_of_the_whole_selection(store: FakeStore, tool: RiggedTool) -> None:
    """A keep list of all that is selected leaves nothing to delete."""
    outcome = tool(store, None, "--yes", "--keep", write(tool, lines(store.customers)))
    assert (outcome.status, outcome.summary["selected"], outcome.summary["spared"]) == (0, 0, 300)
    assert not store.deletes()


# --- --spare-with-orders -------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["argv", "ini"])
def test_spare_with_orders(make_store: MakeStore, tool: RiggedTool, by: str) -> None:
    """Customers whom any order names stay, and are counted; guests' orders name nobody."""
    store = make_store(customers=300, orders=600, quota=10_000)
    spared = with_orders(store)
    assert any(not order["customer_id"] for order in store.records["orders"].values())
    options, ini = (["--spare-with-orders"], {}) if by == "argv" else ([], {"spare_with_orders": True})
    outcome = run_deletes(tool, store, set(store.customers) - spared, *options, **ini)
    assert outcome.summary["spared"] == len(spared)
    pages = [request for request in store.log if request.path.endswith("v2/orders")]
    assert all("min_id" in request.query for request in pages)
    assert len(store.records["orders"]) == 600


def test_orders_that_come_in_meanwhile(make_store: MakeStore, tool: RiggedTool) -> None:
    """An order that comes in while the orders are paged spares its customer."""
    store = make_store(customers=300, orders=600, quota=10_000)
    free = sorted(set(store.customers) - with_orders(store))
    late = free[:3]

    def comes_in(request: Request) -> None:
        if pages.seen <= len(late):
            store.add(kind="orders", customer_id=late[pages.seen - 1])

    pages = Fault("GET", "v2/orders", times=1e9, hook=comes_in)
    store.faults = [pages]
    outcome = run_deletes(tool, store, set(free) - set(late), "--spare-with-orders")
    assert pages.seen >= len(late)
    assert set(late) <= with_orders(store)
    assert not set(late) & set(outcome.plan["ids"])


def test_who_orders_while_customers_are_listed_is_spared(make_store: MakeStore, tool: RiggedTool) -> None:
    """An order that comes in during the listing spares its customer too."""
    store = make_store(customers=60, orders=5, quota=10_000)
    late = list(store.customers)[30]

    def comes_in(_: Request) -> None:
        store.add(kind="orders", customer_id=late)

    store.faults.append(Fault("GET", "v3/customers", hook=comes_in))
    outcome = tool.run(store, "--spare-with-orders")
    assert outcome.status == 0, outcome.text
    assert late in store.customers
    assert late not in outcome.plan["ids"]


def test_orders_that_go_meanwhile(make_store: MakeStore, tool: RiggedTool) -> None:
    """An order that goes while the orders are paged pulls no other past the reader."""
    store = make_store(customers=300, orders=600, quota=10_000)
    spared = with_orders(store)
    first = [n for n, order in store.records["orders"].items() if not order["customer_id"]][:20]

    def go(_: Request) -> None:
        store.remove(*first, kind="orders")

    store.faults.append(Fault("GET", "v2/orders", skip=1, hook=go))
    run_deletes(tool, store, set(store.customers) - spared, "--spare-with-orders")


def test_an_order_of_nobody(make_store: MakeStore, tool: RiggedTool) -> None:
    """An order that does not say whose it is might be anybody's: nothing is deleted."""
    store = make_store(customers=10, orders=3, quota=10_000)
    store.change(next(iter(store.records["orders"])), kind="orders", customer_id=None)
    outcome = tool.run(store, "--spare-with-orders")
    assert outcome.status == 3, outcome.text
    assert "customer_id" in outcome.err
    assert not store.deletes()


def test_only_guests_have_orders(make_store: MakeStore, tool: RiggedTool) -> None:
    """Where only guests ordered nobody is spared."""
    store = make_store(customers=30, quota=10_000)
    store.add(5, kind="orders", customer_id=0)
    outcome = tool(store, None, "--yes", "--spare-with-orders")
    assert (outcome.status, outcome.summary["deleted"], outcome.summary["spared"]) == (0, 30, 0)


def test_orders_need_a_scope(make_store: MakeStore, tool: RiggedTool) -> None:
    """Without the scope of orders it is refused, the scope named, and nothing deleted."""
    store = make_store(customers=30, orders=10, quota=10_000)
    store.scopes.discard(ORDERS_SCOPE)
    outcome = tool(store, None, "--yes", "--spare-with-orders")
    assert outcome.status in (3, 5)
    assert ORDERS_SCOPE in outcome.err
    assert not store.deletes()
    assert outcome.folder is None


@pytest.mark.parametrize("status", [404, 500])
def test_orders_that_cannot_be_read(make_store: MakeStore, tool: RiggedTool, status: int) -> None:
    """Without all the orders nothing is deleted."""
    store = make_store(customers=30, orders=300, quota=10_000)
    store.faults.append(Fault("GET", "v2/orders", skip=1, times=1e9, status=status))
    config = store.config(tool.folder, max_retries=1)
    outcome = tool(store, config, "--yes", "--spare-with-orders")
    assert outcome.status in (3, 5)
    assert not store.deletes()


def test_orders_on_a_store_that_ignores_min_id(make_store: MakeStore, tool: RiggedTool) -> None:
    """Orders that are not paged by id as asked may be missed: nothing is deleted."""
    store = make_store(customers=30, orders=600, quota=10_000)
    store.deaf = {"min_id"}
    outcome = tool(store, None, "--yes", "--spare-with-orders")
    assert outcome.status in (3, 5)
    assert not store.deletes()


# --- --limit and --max-delete ---------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 9, 251])
def test_limit(store: FakeStore, tool: RiggedTool, limit: int) -> None:
    """--limit deletes the first N, the oldest, and no more."""
    run_deletes(tool, store, set(list(store.customers)[:limit]), "--limit", str(limit))


def test_limit_above_all(store: FakeStore, tool: RiggedTool) -> None:
    """A limit above the number of records takes all of them."""
    outcome = tool(store, None, "--yes", "--limit", "1000")
    assert (outcome.status, outcome.summary["deleted"], len(store.customers)) == (0, 300, 0)


def test_limit_comes_last(store: FakeStore, tool: RiggedTool) -> None:
    """The first N are those of the selection, with what is kept left out."""
    spam = sorted(chosen(store, lambda r: "@shop-mail" not in r["email"]))
    path = write(tool, lines(spam[:4]))
    options = ("--match", f"email={SPAM}", "--keep", path, "--limit", "6")
    run_deletes(tool, store, set(spam[4:10]), *options)


def test_max_delete(store: FakeStore, tool: RiggedTool) -> None:
    """One more than --max-delete is refused before anything is deleted; as many are not."""
    spam = chosen(store, lambda r: r["email"].endswith("@spam-drop.example"))
    match = ("--match", DROP)
    outcome = run_refused(tool, store, 3, *match, "--max-delete", str(len(spam) - 1), words=["--max-delete"])
    assert outcome.summary["status"] == "refused"
    run_refused(tool, store, 3, *match, words=["--max-delete"], max_delete=0)
    run_deletes(tool, store, spam, *match, "--max-delete", str(len(spam)))


@pytest.mark.parametrize(
    "option", [("--limit", "0"), ("--limit", "-1"), ("--limit", "x"), ("--max-delete", "-1")]
)
def test_bad_numbers(store: FakeStore, tool: RiggedTool, option: tuple[str, str]) -> None:
    """No limit is below 1, and no number is negative: nothing is sent."""
    run_refused(tool, store, 2, *option)


# --- all together --------------------------------------------------------------------------------


def test_all_of_it_with_filters(make_store: MakeStore, tool: RiggedTool) -> None:
    """Filter, match, keep, orders and limit together delete exactly what fits them all."""
    store = make_store(customers=900, orders=500, quota=10_000)
    middle = store.customers[list(store.customers)[200]]["date_created"]

    def fits(record: Record) -> bool:
        return record["date_created"] >= middle and record["customer_group_id"] in (1, 2)

    matched = sorted(chosen(store, lambda r: fits(r) and not r["company"]))
    kept, ordered = matched[::7], with_orders(store)
    left = [number for number in matched if number not in kept and number not in ordered]
    assert ordered & set(matched) - set(kept)
    options: list[str | Path] = [
        *("--filter", f"date_created:min={middle}", "--filter", "customer_group_id:in=1,2"),
        *("--match", "company=^$", "--keep", write(tool, lines(kept)), "--spare-with-orders"),
        *("--limit", "40", "--max-delete", "40", "--json"),
    ]
    outcome = run_deletes(tool, store, set(left[:40]), *options)
    passed = matched[: matched.index(left[39])]
    spared = [number for number in passed if number in kept or number in ordered]
    assert json.loads(outcome.out)["spared"] == len(spared)


def test_all_of_it_with_ids(make_store: MakeStore, tool: RiggedTool) -> None:
    """Ids, match, keep, orders and limit together delete exactly what fits them all."""
    store = make_store(customers=900, orders=500, quota=10_000)
    ids = list(store.customers)[50:850:2]
    matched = [number for number in ids if not store.customers[number]["company"]]
    kept = matched[::7]
    left = [number for number in matched if number not in {*kept, *with_orders(store)}]
    spared = len(matched) - len(left)
    options: list[str | Path] = [
        *("--ids", write(tool, lines([*ids, *ids[:3], 999_999]))),
        *("--match", "company=^$", "--keep", write(tool, lines(kept), "keep.txt"), "--spare-with-orders"),
        *("--limit", "500", "--json"),
    ]
    outcome = run_deletes(tool, store, set(left), *options)
    summary = json.loads(outcome.out)
    assert (summary["duplicates"], summary["not_found"], summary["spared"]) == (3, 1, spared)


# --- what is said, and resumed --------------------------------------------------------------------


def panel(tool: Tool, store: FakeStore, *options: str | Path) -> str:
    outcome = tool(store, None, "--dry-run", *options, COLUMNS="300")
    assert outcome.status == 0, outcome.text
    return outcome.err


def says_whole_store(text: str) -> bool:
    return "all customers" in text.lower() or "whole store" in text.lower()


def test_the_panel_says_when_it_is_the_whole_store(store: FakeStore, tool: RiggedTool) -> None:
    """Without a selection the panel says that these are all; with one it says what was selected."""
    assert says_whole_store(panel(tool, store))
    for options in (
        ("--filter", "customer_group_id:in=1"),
        ("--match", DROP),
        ("--limit", "7"),
        ("--ids", write(tool, lines(list(store.customers)[:5]))),
    ):
        text = panel(tool, store, *options)
        assert not says_whole_store(text)
        said = str(options[1]).rpartition("/")[2]
        assert all(word in text for word in said.split("=", 1))


def test_a_match_of_everybody_is_the_whole_store(store: FakeStore, tool: RiggedTool) -> None:
    """The panel says so too when an expression, a filter or a list turns out to select every record."""
    assert says_whole_store(panel(tool, store, "--match", "email=@"))
    assert says_whole_store(panel(tool, store, "--filter", "date_created:min=2000-01-01"))
    assert says_whole_store(panel(tool, store, "--ids", write(tool, lines(list(store.customers)))))
