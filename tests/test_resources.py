"""The resources: each is listed, filtered and deleted in its documented way."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from bulk_delete import RESOURCES, delete_target
from tests.fake_store import KINDS, NAMES, OPERATORS, FakeStore, Record
from tests.rigged import QUIET, TOOL, MakeStore, RiggedTool, lines, write
from tests.test_selection import DirectTool, selected

# Where a DELETE goes, the parameter with its ids ("" for the path) and how many it may have.
DELETES = {
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
# A word of what the panel says of things that are deleted too, or that are in the way.
ALSO_DELETED = {
    "customers": "addresses",
    "products": "variants",
    "categories": "child",
    "promotions": "coupon codes",
    "coupons": "promotion",
    "price_lists": "price records",
    "pages": "child",
}
OPENAPI = Path(__file__).resolve().parents[2] / "shared" / "openapi"
# The file that documents a DELETE, and the path there.
DOCUMENTS = {
    "customers": ("customers.v3.yml", "/customers"),
    "products": ("products_catalog.v3.yml", "/catalog/products"),
    "categories": ("categories_catalog.v3.yml", "/catalog/categories"),
    "brands": ("brands_catalog.v3.yml", "/catalog/brands"),
    "promotions": ("promotions.v3.yml", "/promotions"),
    "coupons": ("marketing.v2.yml", "/coupons"),
    "price_lists": ("price_lists.v3.yml", "/pricelists"),
    "redirects": ("redirects.v3.yml", "/storefront/redirects"),
    "pages": ("pages.v3.yml", "/content/pages"),
    "subscribers": ("subscribers.v3.yml", "/customers/subscribers"),
    "gift_certificates": ("marketing.v2.yml", "/gift_certificates"),
}
each_resource = pytest.mark.parametrize("resource", DELETES)


def stocked(
    make_store: Callable[..., FakeStore], resource: str, count: int = 60, **options: Any
) -> FakeStore:
    """Return a store with so many of the resource and a few of everything else."""
    counts = {name: 5 for name in NAMES if name not in ("orders", resource)} | {resource: count}
    if resource == "categories":
        counts["products"] = 0  # a category that has products is rejected
    return make_store(**{"date_bounds": "inclusive"} | QUIET | counts | options)


def others_of(store: FakeStore, resource: str) -> dict[str, list[int]]:
    """Return the ids of all records that are not of this resource."""
    return {name: list(records) for name, records in store.records.items() if name != resource}


def childless(store: FakeStore, resource: str) -> list[int]:
    """Return every third record that is no parent."""
    parents = {record.get("parent_id") for record in store.records[resource].values()}
    return [number for number in store.records[resource] if number not in parents][::3]


# --- all of them ------------------------------------------------------------------------------


def assert_deleted(store: FakeStore, resource: str, planned: Iterable[int], since: int) -> None:
    """Assert that these were deleted once, in the documented way, and read back afterwards."""
    path, by, largest = DELETES[resource]
    log, planned = store.log[since:], {*planned}
    deletes = [request for request in log if request.method == "DELETE"]
    for request in deletes:
        assert request.path.split("/", 3)[-1] == path.format(id=request.ids[0])
        assert [*request.query] == ([by] if by else [])
    assert {number for request in deletes for number in request.ids} == planned
    assert sum(len(request.ids) for request in deletes) == len(planned)
    assert max(len(request.ids) for request in deletes) == min(largest, len(planned))
    reads = [r for r in log if r.method == "GET" and r.arrived >= deletes[-1].answered]
    assert reads
    if resource not in ("promotions", "coupons", "gift_certificates"):  # read one by one
        read = {number for request in reads for number in request.ids}
        assert planned - {*deletes[0].ids} <= read <= planned  # the first batch was read before


@each_resource
def test_records_are_deleted_in_the_documented_way(
    make_store: MakeStore, hurried: RiggedTool, resource: str
) -> None:
    """N1, N2, N5: first the records in a list, then the remaining ones, and no others."""
    store = stocked(make_store, resource, 300 if resource == "products" else 60, latency=0.002)
    before, others = {**store.records[resource]}, others_of(store, resource)
    planned, kind = childless(store, resource), KINDS[resource]
    name = re.sub("ies$", "y", resource.replace("_", " ").title()).removesuffix("s")
    path = write(hurried, lines([f"{name} ID", *planned, 999_999]), "ids.csv")
    outcome = hurried.run(store, "--resource", resource, "--ids", path)
    assert outcome.status == 0, outcome.text
    assert store.records[resource].keys() == before.keys() - {*planned}
    assert_deleted(store, resource, planned, 0)
    assert (outcome.summary["deleted"], outcome.summary["not_found"]) == (len(planned), 1)

    left, sent = list(store.records[resource]), len(store.log)
    config = store.config(hurried.folder, resource=resource)
    outcome = hurried(store, config, "--yes", COLUMNS="300")
    assert outcome.status == 0, outcome.text
    assert not store.records[resource]
    assert others_of(store, resource) == others
    assert_deleted(store, resource, left, sent)
    assert (outcome.summary["deleted"], outcome.summary["resource"]) == (len(left), resource)
    assert f"{len(left)} {resource.replace('_', ' ')}" in outcome.err
    assert ALSO_DELETED.get(resource, "") in outcome.err.partition("╭")[2].partition("╰")[0]
    records = {record[kind.id_field]: record for record in outcome.backup}
    assert records.keys() == {*left}
    for number, record in records.items():
        for name in before[number].keys() - kind.sub_resources:
            assert record[name] == before[number][name]
    if resource == "price_lists":
        assert {request.beside for request in store.deletes()} == {1}
        assert outcome.summary["rate_limited"] == 0


def test_resource_list() -> None:
    """--resource list shows each resource with path, scope and filters, and needs no ini."""
    listed = resource_blocks()
    assert [*listed] == [*DELETES]
    for name, block in listed.items():
        assert KINDS[name].path in block
        assert KINDS[name].scope in block


def resource_blocks() -> dict[str, str]:
    """Return what --resource list prints of each resource."""
    command = [sys.executable, str(TOOL), "--resource", "list"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not done.stderr
    blocks = re.findall(r"(?m)^\w+ .*(?:\n .*)*", done.stdout)
    return {block.split()[0]: block for block in blocks}


# --- filters ----------------------------------------------------------------------------------


def comparable(value: Any) -> Any:
    """Return dates as moments, text without case, and everything else as it is."""
    if isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\dT", value):
        return datetime.fromisoformat(value)
    return value.casefold() if isinstance(value, str) else value


def filter_text(name: str, record: Record) -> str:
    """Return a record's value as a filter has it."""
    base, _, suffix = name.partition(":")
    value = next(iter(record[base]), "") if isinstance(record[base], list) else record[base]
    if suffix == "like":
        return str(value)[2:].upper()
    if name in ("is_featured", "is_free_shipping"):
        return str(int(value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def is_match(name: str, text: str, record: Record) -> bool:
    """Tell whether a record matches a filter."""
    base, _, suffix = name.partition(":")
    value = record[base]
    if isinstance(value, list):
        return text in map(str, value)
    wanted: Any = text.casefold()
    if isinstance(value, (bool, int, float)):
        value, wanted = float(value), float({"true": 1, "false": 0}.get(text, text))
    elif re.match(r"\d{4}-\d\d-\d\dT", text):
        wanted = comparable(text)
    return bool(OPERATORS[suffix](comparable(value), wanted))


@pytest.mark.parametrize("resource", [name for name in DELETES if name != "customers"])
def test_filters_select_what_matches(
    make_store: MakeStore, tmp_path: Path, resource: str
) -> None:
    """Three at a time, also in a store that ignores them: the record decides."""
    store = stocked(make_store, resource)
    for number, record in store.records[resource].items():
        if record.get("parent_id"):  # else a parent is refused without its children
            store.change(number, kind=resource, parent_id=5)
    records = store.records[resource]
    block = resource_blocks()[resource].split()
    known = [*dict.fromkeys(name for name in block if name in KINDS[resource].filters)]
    assert len(known) > 2
    while known:
        names, middle = known[:3], None
        while middle is None:  # a record that has something to filter by
            bases = [name.partition(":")[0] for name in names]
            full = [
                r for r in records.values() if all(r[b] not in ("", None, []) for b in bases)
            ]
            middle, names = (full[len(full) // 2], names) if full else (None, names[:-1])
        known = known[len(names) :]
        given = {}
        for name in names:  # each with a value that this record matches
            texts = [filter_text(name, record) for record in (middle, *records.values())]
            given[name] = next((t for t in texts if is_match(name, t, middle)), "999")
        wanted = [
            number
            for number, record in records.items()
            if all(is_match(name, text, record) for name, text in given.items())
        ]
        assert 0 < len(wanted) < 60, given
        for ignored in ((), given):
            store.deaf = {*ignored}
            options = [word for name in given for word in ("--filter", f"{name}={given[name]}")]
            assert planned_ids(store, tmp_path, "--resource", resource, *options) == wanted, (
                given
            )


def planned_ids(store: FakeStore, folder: Path, *options: str) -> list[int]:
    """Return the ids of a dry run's plan in order."""
    return sorted(selected(DirectTool(folder), store, "--no-backup", *options))


def test_filter_for_zero(make_store: MakeStore, tmp_path: Path) -> None:
    """Products without a brand, or sold out."""
    store = stocked(make_store, "products")
    for name in ("brand_id", "inventory_level"):
        wanted = [n for n, record in store.records["products"].items() if record[name] == 0]
        assert wanted
        options = ("--resource", "products", "--filter", f"{name}=0")
        assert planned_ids(store, tmp_path, *options) == wanted


# --- what is in the way -----------------------------------------------------------------------


def test_missing_scope_is_shown(make_store: MakeStore, hurried: RiggedTool) -> None:
    """Also where the token may read but not delete."""
    for resource, may_read in (
        ("customers", True),
        ("products", False),
        ("coupons", True),
        ("redirects", True),
    ):
        store = stocked(make_store, resource, 12)
        scope = KINDS[resource].scope
        store.scopes.discard(scope)
        if may_read:
            store.scopes.add(f"{scope}_read_only")
        outcome = hurried.run(store, "--resource", resource)
        assert outcome.status == 5, outcome.text
        assert scope in outcome.err
        assert len(store.records[resource]) == 12
        assert len(store.deletes()) <= (10 if may_read else 0)


def test_list_that_ignores_ids_is_refused(make_store: MakeStore, hurried: RiggedTool) -> None:
    """Nothing can be verified then, so nothing is deleted."""
    for resource in ("products", "categories", "brands"):
        store = stocked(make_store, resource, 13)
        path = write(hurried, lines(childless(store, resource)[:4]))
        store.deaf = {"id:in", "category_id:in"}
        outcome = hurried.run(store, "--resource", resource, "--ids", path)
        assert outcome.status == 3, outcome.text
        assert not store.deletes()


def test_delete_without_effect_is_sent_again(
    make_store: MakeStore, hurried: RiggedTool
) -> None:
    """A record that still exists after a 204 is found, also where the list has no id filter."""
    for resource in ("coupons", "promotions", "brands"):
        store = stocked(make_store, resource, 30)
        stubborn = list(store.records[resource])[7]
        store.sticky = {stubborn: 1}
        outcome = hurried.run(store, "--resource", resource)
        assert outcome.status == 0, outcome.text
        assert not store.records[resource]
        assert [n for n, times in store.deleted_ids().items() if times > 1] == [stubborn]


def test_rejected_record_fails_alone(make_store: MakeStore, hurried: RiggedTool) -> None:
    """A promotion with coupon codes or a category with products, in the store's words."""
    for partial in (False, True):
        store = stocked(make_store, "promotions")
        held = list(store.records["promotions"])[17]
        store.with_codes, store.partial_promotions = {held}, partial
        outcome = hurried.run(store, "--resource", "promotions")
        assert outcome.status == 4, outcome.text
        assert list(store.records["promotions"]) == [held]
        assert outcome.summary["deleted"] == 59
        assert list(outcome.failed) == [held]
        assert "relating codes are still present" in outcome.failed[held]
    store = stocked(make_store, "categories", 30, products=1)
    held = childless(store, "categories")[3]
    (product,) = store.records["products"]
    store.change(product, kind="products", categories=[held])
    outcome = hurried.run(store, "--resource", "categories")
    assert outcome.status == 4, outcome.text
    assert held in store.records["categories"]
    assert "contains products" in outcome.failed[held]
    assert list(store.records["products"]) == [product]


# --- one DELETE -------------------------------------------------------------------------------

NO_IDS: list[Any] = [0, -1, None, True, 1.0, "5", "1,2", "", 2.5, [3], float("nan")]


@each_resource
def test_delete_has_exactly_its_ids(resource: str) -> None:
    """N1, N4, N5: no DELETE has none, too many, or anything but positive integers."""
    path, by, largest = DELETES[resource]
    ids = tuple(range(5, 5 + largest))
    expected = (path.format(id=5), {by: ",".join(map(str, ids))} if by else {})
    assert delete_target(RESOURCES[resource], ids) == expected
    wrong: list[tuple[Any, ...]] = [(), (*ids, 999)]
    for bad in ((bad,) for bad in NO_IDS):
        wrong += [bad, (7, *bad)]
    for ids in wrong:
        with pytest.raises(ValueError, match="id"):
            delete_target(RESOURCES[resource], ids)


@each_resource
def test_delete_is_documented(resource: str) -> None:
    """N5: an id filter is used only where the file says that nothing is deleted without it."""
    if not OPENAPI.is_dir():
        pytest.skip("BigCommerce's API files are not at hand")
    yaml = pytest.importorskip("yaml")
    file, path = DOCUMENTS[resource]
    document = yaml.load((OPENAPI / file).read_text(encoding="utf-8"), yaml.CSafeLoader)
    collection = document["paths"][path]["delete"]
    below = re.compile(re.escape(path) + r"/\{\w+\}")
    singles = [found for name, found in document["paths"].items() if below.fullmatch(name)]
    scheme = document["components"]["securitySchemes"]["X-Auth-Token"]["description"]
    (row,) = [row for row in scheme.splitlines() if f"`{KINDS[resource].scope}`" in row]
    assert "modify" in row

    _, by, largest = DELETES[resource]
    filters = [parameter(document, row) for row in collection.get("parameters", [])]
    required = {row["name"] for row in filters if row.get("required")}
    if by:
        said = collection["description"]
        assert by in required or "you must include a filter" in said
        documented = re.search(r"(?:at one time is|limited to) (\d+)", said)
        assert largest == (int(documented[1]) if documented else 10)
    else:
        assert not {"id:in", "category_id:in"} & required
        (single,) = [found["delete"] for found in singles if "delete" in found]
        said = single["description"]
        assert bool(re.search(r"Limit of 1 concurrent", said)) == (resource == "price_lists")


def parameter(document: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """Return a parameter, or what its $ref refers to."""
    found: Any = document if "$ref" in row else row
    for step in row.get("$ref", "#/").removeprefix("#/").split("/"):
        found = found[step.replace("~1", "/")] if step else found
    result: dict[str, Any] = found
    return result
