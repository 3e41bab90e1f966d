"""Every resource: sixty of each go by the documented way, and each line of the table is documented."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from bulk_delete import ORDERS, RESOURCES, Resource, delete_target
from tests.fake_store import KINDS, NAMES, FakeStore, Record
from tests.rigged import TOOL, MakeStore, Outcome, RiggedTool

# The issue's list, and how each is deleted: by what in the collection, how many at most; "": by path id.
HOW = {
    "customers": ("v3/customers", "id:in", 10),
    "products": ("v3/catalog/products", "id:in", 250),
    "categories": ("v3/catalog/categories/{id}", "", 1),
    "brands": ("v3/catalog/brands/{id}", "", 1),
    "promotions": ("v3/promotions", "id:in", 50),
    "coupons": ("v2/coupons/{id}", "", 1),
    "price_lists": ("v3/pricelists/{id}", "", 1),
    "redirects": ("v3/storefront/redirects", "id:in", 10),
    "pages": ("v3/content/pages", "id:in", 10),
    "subscribers": ("v3/customers/subscribers/{id}", "", 1),
    "gift_certificates": ("v2/gift_certificates/{id}", "", 1),
}
ONE_BY_ONE = [name for name, (_, by, _) in HOW.items() if not by]
IN_BATCHES = [name for name, (_, by, _) in HOW.items() if by]
WITHOUT_ID_FILTER = ["promotions", "coupons", "gift_certificates"]
FOLDER = Path(__file__).resolve().parents[2] / "shared" / "openapi"
# The file and path of the list; the same of the DELETE where it stands elsewhere.
FILES = {
    "customers": ("customers.v3.yml", "/customers"),
    "products": ("products_catalog.v3.yml", "/catalog/products"),
    "categories": ("category-trees_catalog.v3.yml", "/catalog/trees/categories"),
    "brands": ("brands_catalog.v3.yml", "/catalog/brands"),
    "promotions": ("promotions.v3.yml", "/promotions"),
    "coupons": ("marketing.v2.yml", "/coupons"),
    "price_lists": ("price_lists.v3.yml", "/pricelists"),
    "redirects": ("redirects.v3.yml", "/storefront/redirects"),
    "pages": ("pages.v3.yml", "/content/pages"),
    "subscribers": ("subscribers.v3.yml", "/customers/subscribers"),
    "gift_certificates": ("marketing.v2.yml", "/gift_certificates"),
    "orders": ("orders.v2.oas2.yml", "/orders"),
}
DELETE_FILES = FILES | {"categories": ("categories_catalog.v3.yml", "/catalog/categories")}


def stocked(make_store: MakeStore, resource: str, count: int = 60, **options: Any) -> FakeStore:
    """So many of the resource, twenty customers, and a few of everything else."""
    counts = {name: 5 for name in NAMES if name not in ("orders", resource)}
    counts |= {"customers": 20, resource: count}
    if resource == "categories":
        counts["products"] = 0  # a category that holds some is refused
    return make_store(**{"quota": 10_000, "date_bounds": "inclusive"} | counts | options)


def others_of(store: FakeStore, resource: str) -> dict[str, list[int]]:
    return {name: list(records) for name, records in store.records.items() if name != resource}


def assert_well_sent(store: FakeStore, resource: str, planned: Iterable[int]) -> None:
    """Each DELETE went to the documented path, with some planned ids and no more than are allowed."""
    path, by, largest = HOW[resource]
    planned = set(planned)
    assert store.deletes()
    for request in store.deletes():
        assert 0 < len(request.ids) <= largest
        assert set(request.ids) <= planned
        assert request.path.split("/", 3)[-1] == path.format(id=request.ids[0])
        assert list(request.query) == ([by] if by else [])
    assert store.deleted_ids().keys() == planned


def assert_read_back(store: FakeStore, resource: str, planned: Iterable[int]) -> None:
    """Since the last DELETE each planned id was asked for or, where none can be, all was listed again."""
    last = store.deletes()[-1].answered
    reads = [request for request in store.log if request.method == "GET" and request.arrived >= last]
    assert reads
    assert all(request.path.split("/", 3)[-1] == KINDS[resource].path for request in reads)
    if resource in WITHOUT_ID_FILTER:
        assert not any(name.startswith("id") for request in reads for name in request.query)
    else:
        assert {number for request in reads for number in request.ids} == set(planned)


@pytest.mark.parametrize("resource", list(HOW))
def test_sixty_go(make_store: MakeStore, tool: RiggedTool, resource: str) -> None:
    """N1, N5: sixty of it are gone, proven by reading back; customers and all the rest are untouched."""
    store = stocked(make_store, resource, latency=0.005)
    planned, others = list(store.records[resource]), others_of(store, resource)
    outcome = tool(store, None, "--yes", "--resource", resource)
    assert outcome.status == 0, outcome.text
    assert not store.records[resource]
    assert others_of(store, resource) == others
    assert_well_sent(store, resource, planned)
    assert_read_back(store, resource, planned)
    assert store.max_in_flight <= 5
    summary = outcome.summary
    assert (summary["selected"], summary["deleted"] + summary["already_gone"]) == (60, 60)
    assert (summary["verified"], summary["resource"]) == (True, resource)
    if resource != "categories":  # where parents take some along
        assert summary["deleted"] == 60
        assert set(store.deleted_ids().values()) == {1}


@pytest.mark.parametrize("resource", list(HOW))
def test_a_dry_run_of_all_and_of_some(make_store: MakeStore, tool: RiggedTool, resource: str) -> None:
    """backup.jsonl holds each planned record as the list shows it; the panel says if these are all."""
    store = stocked(make_store, resource)
    before = dict(store.records[resource])
    outcome = tool(store, None, "--dry-run", "--resource", resource)
    assert outcome.status == 0, outcome.text
    assert outcome.folder is not None
    assert not store.deletes()
    lines = (outcome.folder / "backup.jsonl").read_text(encoding="utf-8").splitlines()
    records = {record[KINDS[resource].id_field]: record for record in map(json.loads, lines)}
    assert records.keys() == before.keys() == set(outcome.plan["ids"])
    kind = KINDS[resource]
    for number, record in before.items():
        own = {name: value for name, value in record.items() if name not in kind.sub_resources}
        assert own.items() <= records[number].items()
    assert f"60 {resource.replace('_', ' ')}" in outcome.err
    whole = rf"(?i)\ball {resource.replace('_', ' ')}\b|whole store"
    assert re.search(whole, outcome.err)
    some = tool(store, None, "--dry-run", "--resource", resource, "--limit", "3")
    assert not re.search(whole, some.err)
    assert some.plan["ids"] == outcome.plan["ids"][:3] or resource == "categories"


@pytest.mark.parametrize(
    ("resource", "count", "sizes"),
    [("products", 600, [250, 250, 100]), ("promotions", 120, [50, 50, 20]), ("pages", 25, [10, 10, 5])],
)
def test_the_largest_batches(
    make_store: MakeStore, tool: RiggedTool, resource: str, count: int, sizes: list[int]
) -> None:
    """As many ids a request as are documented, and where none are, ten."""
    store = stocked(make_store, resource, count)
    outcome = tool(store, None, "--yes", "--resource", resource)
    assert outcome.status == 0, outcome.text
    assert sorted((len(request.ids) for request in store.deletes()), reverse=True) == sizes
    assert not store.records[resource]


@pytest.mark.parametrize("options", [(), ("--max-concurrent", "5")])
def test_price_lists_go_one_at_a_time(
    make_store: MakeStore, tool: RiggedTool, options: tuple[str, ...]
) -> None:
    """N5: no two DELETEs of price lists are under way at once, whatever is asked for."""
    store = stocked(make_store, "price_lists", 20, latency=0.02)
    outcome = tool(store, None, "--yes", "--resource", "price_lists", *options)
    assert outcome.status == 0, outcome.text
    assert {request.beside for request in store.deletes()} == {1}
    assert outcome.summary["rate_limited"] == 0


def apart(store: FakeStore, resource: str) -> list[int]:
    """Every third one, without parents: those take others along."""
    parents = {record.get("parent_id") for record in store.records[resource].values()}
    return [number for number in store.records[resource] if number not in parents][::3]


@pytest.mark.parametrize("resource", list(HOW))
def test_what_is_not_planned_stays(make_store: MakeStore, tool: RiggedTool, resource: str) -> None:
    """N2: of the sixty exactly those that a list names go; unknown ones are reported."""
    store = stocked(make_store, resource)
    planned, others = apart(store, resource), others_of(store, resource)
    left = set(store.records[resource]) - set(planned)
    path = tool.folder / "ids.txt"
    path.write_text("".join(f"{number}\n" for number in [*planned, 999_999]))
    outcome = tool(store, None, "--yes", "--resource", resource, "--ids", path)
    assert outcome.status == 0, outcome.text
    assert set(store.records[resource]) == left
    assert others_of(store, resource) == others
    assert_well_sent(store, resource, planned)
    assert (outcome.summary["deleted"], outcome.summary["not_found"]) == (len(planned), 1)


@pytest.mark.parametrize(
    ("resource", "header"),
    [
        ("products", "Product ID"),
        ("categories", "Category ID"),
        ("price_lists", "Price List ID"),
        ("gift_certificates", "gift_certificate_id"),
        ("brands", "id"),
    ],
)
def test_ids_of_an_export(make_store: MakeStore, tool: RiggedTool, resource: str, header: str) -> None:
    """The column of an export's ids is known by the resource's own name."""
    store = stocked(make_store, resource)
    planned = apart(store, resource)
    path = tool.folder / "ids.csv"
    path.write_text("".join(f"x,{value}\r\n" for value in [header, *planned]), encoding="utf-8-sig")
    outcome = tool(store, None, "--dry-run", "--resource", resource, "--ids", path)
    assert outcome.status == 0, outcome.text
    assert sorted(outcome.plan["ids"]) == planned


def test_keep_addresses_of_subscribers(make_store: MakeStore, tool: RiggedTool) -> None:
    """A keep list may hold e-mail addresses where a resource has them, and only there."""
    store = stocked(make_store, "subscribers")
    kept = list(store.records["subscribers"].values())[:7]
    path = tool.folder / "keep.txt"
    path.write_text("".join(f"{record['email'].upper()}\n" for record in kept))
    outcome = tool(store, None, "--yes", "--resource", "subscribers", "--keep", path)
    assert outcome.status == 0, outcome.text
    assert list(store.records["subscribers"].values()) == kept
    assert outcome.summary["spared"] == 7
    sent = len(store.log)
    outcome = tool(store, None, "--yes", "--resource", "products", "--keep", path)
    assert outcome.status == 2
    assert len(store.log) == sent


# --- what stands in the way ----------------------------------------------------------------------


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("resource", list(HOW))
def test_the_scope(make_store: MakeStore, tool: RiggedTool, resource: str, read_only: bool) -> None:
    """Without the scope, or with its read-only one, nothing goes, and the scope is named."""
    store = stocked(make_store, resource)
    scope = KINDS[resource].scope
    store.scopes.discard(scope)
    if read_only:
        store.scopes.add(f"{scope}_read_only")
    outcome = tool(store, None, "--yes", "--resource", resource)
    assert outcome.status == 5
    assert scope in outcome.err
    assert len(store.records[resource]) == 60
    assert len(store.deletes()) <= (5 if read_only else 0)


@pytest.mark.parametrize("resource", [name for name in HOW if name not in ["customers", *WITHOUT_ID_FILTER]])
def test_a_list_that_ignores_ids(make_store: MakeStore, tool: RiggedTool, resource: str) -> None:
    """Where the list is deaf to ids, it cannot be told which of them there are: nothing goes."""
    store = stocked(make_store, resource, 13)
    path = tool.folder / "ids.txt"
    path.write_text("".join(f"{number}\n" for number in list(store.records[resource])[:12]))
    store.deaf = {"id:in", "category_id:in"}
    outcome = tool(store, None, "--yes", "--resource", resource, "--ids", path)
    assert outcome.status == 3
    assert len(store.records[resource]) == 13
    assert not store.deletes()


@pytest.mark.parametrize("resource", ["coupons", "gift_certificates", "promotions", "brands"])
def test_a_delete_that_did_nothing_is_sent_again(
    make_store: MakeStore, hurried: RiggedTool, resource: str
) -> None:
    """A record that a 204 left there is found by the listing, and goes at the second DELETE."""
    store = stocked(make_store, resource)
    stubborn = list(store.records[resource])[7]
    store.sticky = {stubborn: 1}
    outcome = hurried(store, None, "--yes", "--resource", resource)
    assert outcome.status == 0, outcome.text
    assert not store.records[resource]
    again = [number for number, times in store.deleted_ids().items() if times > 1]
    assert again == [stubborn]


@pytest.mark.parametrize("partial", [False, True])
def test_a_promotion_with_codes_fails_alone(
    make_store: MakeStore, hurried: RiggedTool, partial: bool
) -> None:
    """A promotion with coupon codes attached stays, told in the store's words; all the others go."""
    store = stocked(make_store, "promotions")
    held = list(store.records["promotions"])[17]
    store.with_codes, store.partial_promotions = {held}, partial
    outcome = hurried(store, None, "--yes", "--resource", "promotions")
    assert outcome.status == 4, outcome.text
    assert list(store.records["promotions"]) == [held]
    assert outcome.summary["deleted"] == 59
    assert list(outcome.failed) == [held]
    assert "relating codes are still present" in outcome.failed[held]


def test_a_category_that_holds_products_fails_alone(make_store: MakeStore, tool: RiggedTool) -> None:
    """A category that holds products stays, told in the store's words; the others go."""
    store = stocked(make_store, "categories", products=1)
    held = apart(store, "categories")[3]
    product = next(iter(store.records["products"]))
    store.change(product, kind="products", categories=[held])
    outcome = tool(store, None, "--yes", "--resource", "categories")
    assert outcome.status == 4, outcome.text
    assert held in store.records["categories"]
    assert held in outcome.failed
    assert "contains products" in outcome.failed[held]
    assert list(store.records["products"]) == [product]


@pytest.mark.parametrize(
    ("resource", "word"),
    [
        ("price_lists", "price records"),
        ("promotions", "coupon codes"),
        ("categories", "child"),
        ("pages", "child"),
        ("coupons", "promotion"),
        ("products", "variants"),
        ("customers", "addresses"),
    ],
)
def test_the_panel_tells_what_goes_along(
    make_store: MakeStore, tool: RiggedTool, resource: str, word: str
) -> None:
    """What goes along with a record, or forbids its deletion, stands in the panel."""
    store = stocked(make_store, resource, 3)
    outcome = tool(store, None, "--dry-run", "--resource", resource, COLUMNS="300")
    note = next(line for line in outcome.err.splitlines() if "Note" in line)
    assert word in note


# --- V2 lists ------------------------------------------------------------------------------------


# --- filters -------------------------------------------------------------------------------------


def comparable(value: Any) -> Any:
    """Dates as moments, text without case, all else as it is."""
    if isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\dT", value):
        return datetime.fromisoformat(value)
    return value.casefold() if isinstance(value, str) else value


def filter_case(name: str, records: list[Record]) -> tuple[str, list[bool]]:
    """A value for a filter, and which of the records fit it."""
    base, _, operator = name.partition(":")
    values = [record[base] for record in records]
    if values and isinstance(values[0], list):
        wanted = values[0][0]
        return str(wanted), [wanted in each for each in values]
    ordered = sorted((value for value in values if value), key=comparable)
    value = ordered[len(ordered) // 2]
    wanted = comparable(value)
    if operator == "like":
        value = value[2:].upper()
        return value, [value.casefold() in comparable(each) for each in values]
    if operator == "min":
        return str(value), [comparable(each) >= wanted for each in values]
    if operator == "max":
        return str(value), [comparable(each) <= wanted for each in values]
    if operator == "greater":
        return str(value), [comparable(each) > wanted for each in values]
    if operator == "less":
        return str(value), [comparable(each) < wanted for each in values]
    if operator == "not_in":
        return str(value), [comparable(each) != wanted for each in values]
    asked = {"is_featured": "1", "is_free_shipping": "1"}.get(
        name, str(value).lower() if value is True else str(value)
    )
    return asked, [comparable(each) == wanted for each in values]


FILTERS = [
    (resource, name)
    for resource in HOW
    if resource != "customers"
    for name in RESOURCES[resource].filter_types()
]


@pytest.fixture(scope="module")
def unchanged() -> Iterator[Callable[[str], FakeStore]]:
    """Stores of sixty of a resource that no test changes, one for each."""
    stores: list[FakeStore] = []
    with contextlib.ExitStack() as stack:

        @functools.cache
        def store_of(resource: str) -> FakeStore:
            stores.append(stack.enter_context(stocked(FakeStore, resource)))
            for number, record in stores[-1].records[resource].items():
                if record.get("parent_id"):  # of another store: none here takes another along
                    stores[-1].change(number, kind=resource, parent_id=5)
            return stores[-1]

        yield store_of
        assert not [store.violations for store in stores if store.violations]


@pytest.mark.parametrize(("resource", "name"), FILTERS)
def test_a_filter_of_a_resource(
    unchanged: Callable[[str], FakeStore], tool: RiggedTool, resource: str, name: str
) -> None:
    """Each filter selects what fits it; a store that ignores it is noticed."""
    store = unchanged(resource)
    records = list(store.records[resource].values())
    value, fit = filter_case(name, records)
    wanted = [number for number, fits in zip(store.records[resource], fit, strict=True) if fits]
    assert 0 < len(wanted) < 60, "the test is to select some, and not all"
    options = ("--resource", resource, "--filter", f"{name}={value}")
    outcome = tool(store, None, "--dry-run", *options)
    assert outcome.status == 0, outcome.text
    assert sorted(outcome.plan["ids"]) == wanted
    store.deaf = {name}
    outcome = tool(store, None, "--yes", *options)
    store.deaf = set()
    assert outcome.status == 3, outcome.text
    assert "the store ignored the filter" in outcome.err
    assert name in outcome.err
    assert not store.deletes()


@pytest.mark.parametrize(
    ("resource", "name", "value"), [("products", "brand_id", "0"), ("products", "inventory_level", "0")]
)
def test_a_filter_for_zero(
    make_store: MakeStore, tool: RiggedTool, resource: str, name: str, value: str
) -> None:
    """Zero, which stands for none, can be selected: products without a brand, or sold out."""
    store = stocked(make_store, resource)
    base = name.partition(":")[0]
    wanted = [n for n, record in store.records[resource].items() if record[base] == 0]
    assert wanted
    outcome = tool(store, None, "--dry-run", "--resource", resource, "--filter", f"{name}={value}")
    assert outcome.status == 0, outcome.text
    assert sorted(outcome.plan["ids"]) == wanted


def test_a_filter_of_another_resource(make_store: MakeStore, tool: RiggedTool) -> None:
    """A filter that only another resource has sends nothing."""
    store = stocked(make_store, "brands", 3)
    outcome = tool(store, None, "--yes", "--resource", "brands", "--filter", "sku=SKU-11")
    assert (outcome.status, store.log) == (2, [])
    assert "sku" in outcome.err


# --- the command line ----------------------------------------------------------------------------


def test_resource_list() -> None:
    """--resource list prints each resource with path, scope and filters, and needs no config."""
    command = [sys.executable, str(TOOL), "--resource", "list"]
    environ = {"COLUMNS": "400", "PATH": "", "SYSTEMROOT": os.environ.get("SYSTEMROOT", "")}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environ)
    assert not done.stderr
    words = done.stdout.split()
    for name in HOW:
        resource = RESOURCES[name]
        assert name in words
        for word in (resource.path, resource.scope, *resource.filter_types()):
            assert word in done.stdout, word
        if resource.note:
            assert resource.note.split(";")[0][:30] in done.stdout


@pytest.mark.parametrize(
    ("name", "near"), [("product", "products"), ("Customers", "customers"), ("order", "")]
)
def test_an_unknown_resource(make_store: MakeStore, tool: RiggedTool, name: str, near: str) -> None:
    """A resource that there is not sends nothing; the nearest one is named."""
    store = make_store(customers=3)
    outcome = tool(store, None, "--yes", "--resource", name)
    assert (outcome.status, store.log) == (2, [])
    assert near in outcome.err


def test_orders_cannot_be_deleted(make_store: MakeStore, tool: RiggedTool) -> None:
    """Orders are read to spare customers; they are no resource."""
    store = make_store(customers=3, orders=3)
    outcome = tool(store, None, "--yes", "--resource", "orders")
    assert (outcome.status, store.log) == (2, [])


@pytest.mark.parametrize("resource", list(HOW))
def test_batch_size_stays_within_the_maximum(make_store: MakeStore, tool: RiggedTool, resource: str) -> None:
    """One more id than a resource takes in a DELETE is refused, and nothing is sent."""
    store = make_store(customers=3)
    largest = max(HOW[resource][2], 10)
    options = ("--resource", resource, "--batch-size", str(largest + 1))
    outcome = tool(store, None, "--yes", *options)
    assert (outcome.status, store.log) == (2, [])
    assert "--batch-size" in outcome.err


def test_resource_of_the_ini(make_store: MakeStore, tool: RiggedTool) -> None:
    """The ini may name the resource, and the command line another."""
    store = stocked(make_store, "brands", 8)
    config = store.config(tool.folder, resource="brands")
    outcome = tool(store, config, "--yes", "--resource", "redirects")
    assert (outcome.status, len(store.records["redirects"]), len(store.records["brands"])) == (0, 0, 8)
    outcome = tool(store, config, "--yes")
    assert (outcome.status, len(store.records["brands"]), len(store.customers)) == (0, 0, 20)


@pytest.mark.parametrize("resource", ["coupons", "promotions"])
def test_resume_keeps_the_resource(make_store: MakeStore, tool: RiggedTool, resource: str) -> None:
    """A plan is resumed for its own resource, although the ini names none, and the default is another."""
    store = stocked(make_store, resource)
    planned = tool(store, None, "--dry-run", "--resource", resource)
    assert planned.folder is not None
    late = store.add(2, kind=resource)
    outcome: Outcome = tool(store, store.config(tool.folder), "--yes", "--resume", planned.folder)
    assert outcome.status == 0, outcome.text
    assert list(store.records[resource]) == late
    assert len(store.customers) == 20
    assert_well_sent(store, resource, planned.plan["ids"])


# --- one DELETE ----------------------------------------------------------------------------------


NO_IDS: list[Any] = [0, -1, None, True, 1.0, "5", "1,2", "", 2.5, [3], float("nan")]


@pytest.mark.parametrize("resource", list(HOW))
def test_a_delete_refuses_what_is_no_id(resource: str) -> None:
    """N4: alone or among good ids, what is not a positive integer makes no DELETE of any resource."""
    for bad in NO_IDS:
        for ids in [(bad,), (7, bad)]:
            with pytest.raises(ValueError, match=r"id"):
                delete_target(RESOURCES[resource], ids)


@pytest.mark.parametrize("resource", list(HOW))
def test_a_delete_names_exactly_its_ids(resource: str) -> None:
    """N1, N5: a DELETE names its ids, all and only those; without any, or with too many, there is none."""
    line = RESOURCES[resource]
    path, by, largest = HOW[resource]
    ids = tuple(range(5, 5 + largest))
    expected = (path.format(id=5), {by: ",".join(map(str, ids))} if by else {})
    assert delete_target(line, ids) == expected
    for wrong in ((), (*ids, 999)):
        with pytest.raises(ValueError, match=resource):
            delete_target(line, wrong)


def test_the_resources_are_those_of_the_issue() -> None:
    """The table has these resources, each with its maxima, and orders are not among them."""
    assert set(RESOURCES) == set(HOW)
    assert {name: line.largest_batch for name, line in RESOURCES.items()} == {
        name: largest for name, (_, _, largest) in HOW.items()
    }
    at_once = {name: line.max_concurrent for name, line in RESOURCES.items()}
    assert at_once == dict.fromkeys(HOW, 5) | {"price_lists": 1}


# --- the table and BigCommerce's own description of it ---------------------------------------------


Document = dict[str, Any]


@pytest.fixture(scope="module")
def documents() -> Callable[[str], Document]:
    if not FOLDER.is_dir():
        pytest.skip("BigCommerce's API files are not at hand")
    yaml = pytest.importorskip("yaml")
    loaded: dict[str, Document] = {}

    def load(name: str) -> Document:
        if name not in loaded:
            loaded[name] = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
        return loaded[name]

    return load


def resolved(document: Document, part: Document) -> Document:
    """What a $ref stands for."""
    while "$ref" in part:
        found: Any = document
        for step in part["$ref"].removeprefix("#/").split("/"):
            found = found[step.replace("~1", "/")]
        part = found
    return part


def parameters_of(document: Document, operation: Document) -> dict[str, Document]:
    """Query parameters by name, each with its schema."""
    rows = [resolved(document, row) for row in operation.get("parameters", [])]
    found = {row["name"]: dict(row) for row in rows if row["in"] == "query"}
    for row in found.values():
        row["schema"] = resolved(document, row.get("schema", {}))
    return found


LINES = [*RESOURCES.values(), ORDERS]
lines = pytest.mark.parametrize("line", LINES, ids=lambda line: line.name)


@lines
def test_the_list_is_documented(documents: Callable[[str], Document], line: Resource) -> None:
    """Path, version, id filter, sort and sub-resources of the list are the file's."""
    file, path = FILES[line.name]
    document = documents(file)
    version = document["servers"][0]["url"].rpartition("/")[2]
    assert line.path == version + path
    listing = parameters_of(document, document["paths"][path]["get"])
    if line.read_by:
        if line.name != "orders":  # whose list is only paged
            assert line.read_by in listing
    else:
        assert not {"id:in", "category_id:in"} & listing.keys()
    for name, value in line.params.items():
        schema = listing[name]["schema"]
        words = resolved(document, schema.get("items", schema))["enum"]
        for word in value.split(","):
            assert word in words or (line.name == "orders" and word.partition(":")[0] in words)
    assert "limit" in listing
    assert "page" in listing
    assert line.has_total or "min_id" in listing


@lines
def test_the_scope_is_documented(documents: Callable[[str], Document], line: Resource) -> None:
    """The OAuth scope is the file's, the one that may modify where something is deleted."""
    for file, _ in {FILES[line.name], DELETE_FILES[line.name]}:
        schemes = documents(file)["components"]["securitySchemes"]
        rows = schemes["X-Auth-Token"]["description"].splitlines()
        (row,) = [row for row in rows if f"`{line.scope}`" in row]
        assert ("read-only" if line.name == "orders" else "modify") in row


@pytest.mark.parametrize("resource", list(HOW))
def test_the_filters_are_documented(documents: Callable[[str], Document], resource: str) -> None:
    """Each filter is a parameter of the list, of that type, whose field the records have."""
    file, path = FILES[resource]
    document, line = documents(file), RESOURCES[resource]
    listing = parameters_of(document, document["paths"][path]["get"])
    fitting = {
        "id": {"integer", "array"},
        "int": {"integer", "array"},
        "number": {"number"},
        "bool": {"boolean", "integer"},
        "date": {"string"},
        "text": {"string", "array"},
        "texts": {"array"},
        "choice": {"string"},
    }
    for name, kind in line.filter_types().items():
        assert name in listing, name
        schema = listing[name]["schema"]
        text_id = (resource, name) == ("coupons", "id")  # documented as a string
        assert schema["type"] in fitting[kind] or text_id, name
        if schema["type"] == "array":
            of = resolved(document, schema["items"])["type"]
            # Documented the other way round, against the records.
            quirk = name in ("registration_ip_address:in", "customer_group_id:in")
            assert quirk or of == ("integer" if kind in ("id", "int") else "string"), name
    assert not {"page", "limit", "sort", "direction", "include"} & line.filter_types().keys()


@pytest.mark.parametrize("resource", IN_BATCHES)
def test_the_filter_of_a_delete_is_required(documents: Callable[[str], Document], resource: str) -> None:
    """N5: a collection is deleted from only where the file says that nothing goes without the filter."""
    file, path = DELETE_FILES[resource]
    document, line = documents(file), RESOURCES[resource]
    operation = document["paths"][path]["delete"]
    parameter = parameters_of(document, operation)[line.delete_by]
    said = operation["description"]
    assert parameter.get("required") or "you must include a filter" in said
    assert str(line.done[0]) in operation["responses"]
    documented = re.search(r"(?:at one time is|limited to) (\d+)", said)
    assert line.max_batch == (int(documented[1]) if documented else 10)


@pytest.mark.parametrize("resource", ONE_BY_ONE)
def test_one_by_one_is_documented(documents: Callable[[str], Document], resource: str) -> None:
    """N5: where a collection's filter is optional, or no id filter, there is a DELETE by path id."""
    file, path = DELETE_FILES[resource]
    document, line = documents(file), RESOURCES[resource]
    below = [p for p in document["paths"] if re.fullmatch(re.escape(path) + r"/\{\w+\}", p)]
    (operation,) = [document["paths"][p]["delete"] for p in below if "delete" in document["paths"][p]]
    assert (line.delete_path or line.path).endswith(path)
    assert set(map(str, line.done)) & operation["responses"].keys()
    at_once = re.search(r"Limit of (\d+) concurrent", operation["description"])
    assert line.max_concurrent == (int(at_once[1]) if at_once else 5)
    listed_file, listed_path = FILES[resource]
    listed = documents(listed_file)
    collection = listed["paths"][listed_path]["delete"]
    its = parameters_of(listed, collection)
    by_id = [its[name] for name in ("id:in", "category_id:in") if name in its]
    assert not any(row.get("required") for row in by_id)
