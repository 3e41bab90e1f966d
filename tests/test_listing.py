"""Listing: every record is found, or there is no plan; pages, look-ups, orders and cascades."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bigcommerce.resources.base import ListableApiResource

from tests.fake_store import KINDS, FakeStore, Fault, Request
from tests.rigged import (
    ORDERS_SCOPE,
    QUIET,
    MakeStore,
    Outcome,
    RiggedTool,
    assert_says,
    counts,
    in_process,
    lines,
    listings,
    run_deletes,
    run_refused,
    with_orders,
    write,
)
from tests.test_selection import DirectTool, dry_run, selected, selected_ids, stocked, unmatched

Rewrite = Callable[[Request, Any], Any]


@pytest.fixture
def direct(tmp_path: Path) -> DirectTool:
    return DirectTool(tmp_path)


def assert_refused_without_plan(outcome: Outcome) -> None:
    """One sentence says why, and there is nothing to resume."""
    assert outcome.status == 3, outcome.text
    assert_says(outcome)
    assert "--resume" not in outcome.text
    assert outcome.folder is None or not (outcome.folder / "plan.json").exists()


# --- others change the store while it is listed -----------------------------------------------


class Neighbors:
    """Other apps that change a store of 600 customers, three pages, while it is listed."""

    def __init__(self, store: FakeStore) -> None:
        self.store = store
        self.first = set(store.customers)
        self.removed: set[int] = set()

    def remove(self, place: float, count: int = 1) -> None:
        """Remove customers at that part of the listing, from 0 to 1."""
        for _ in range(min(count, len(self.store.customers))):
            ids = sorted(self.store.customers)
            number = ids[min(int(place * len(ids)), len(ids) - 1)]
            self.store.remove(number)
            self.removed.add(number)

    def swap(self, place: float, count: int = 1) -> None:
        """Remove and add as many, which leaves the total as it was."""
        self.remove(place, count)
        self.store.add(count)

    def check(self, outcome: Outcome) -> None:
        """A plan has every customer who was there all the time; without a plan: refused."""
        assert not self.store.deletes()
        if outcome.status == 3:
            assert_refused_without_plan(outcome)
            return
        assert outcome.status == 0, outcome.text
        planned = outcome.plan["ids"]
        assert len(planned) == len(set(planned))
        assert self.first - self.removed <= set(planned)
        assert [record["id"] for record in outcome.backup] == planned
        assert selected_ids(outcome) == planned


Change = Callable[[Neighbors], object]
CHANGES: dict[str, Change] = {
    "the first removed": lambda others: others.remove(0.0),
    "the last removed": lambda others: others.remove(1.0),
    "a page removed": lambda others: others.remove(0.1, 250),
    "a page and more added": lambda others: others.store.add(300),
    "the first swapped": lambda others: others.swap(0.0),
    "one in the middle swapped": lambda others: others.swap(0.5),
    "the last swapped": lambda others: others.swap(1.0),
    "a page swapped": lambda others: others.swap(0.2, 250),
}


def neighbors_at(make_store: MakeStore, change: Change, **when: Any) -> Neighbors:
    """Return neighbors who make that change after these pages."""
    others = Neighbors(make_store(customers=600, **QUIET))
    after = Fault(where=listings, after=lambda _: change(others), **when)
    others.store.faults = [after]
    return others


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changes_omit_no_record(
    make_store: MakeStore, direct: DirectTool, change: Change
) -> None:
    """After page 1, the last one, those between, page 1 again, and after every page."""
    for page in range(4):
        others = neighbors_at(make_store, change, skip=page)
        outcome = direct(others.store, None, "--dry-run")
        assert outcome.status == 0, outcome.text
        assert others.store.faults[0].seen > page
        others.check(outcome)
    others = neighbors_at(make_store, change, times=60)
    others.check(direct(others.store, None, "--dry-run"))


def test_constantly_changing_list_is_refused(make_store: MakeStore, direct: DirectTool) -> None:
    """It starts over three times."""
    others = neighbors_at(make_store, lambda others: others.remove(0.0), times=math.inf)
    outcome = direct(others.store, None, "--yes")
    assert outcome.status == 3, outcome.text
    others.check(outcome)
    first_pages = [r for r in others.store.log if listings(r) and r.query["page"] == "1"]
    assert 4 <= len(first_pages) <= sum(map(listings, others.store.log)) <= 4 * 5


# --- pages that make no sense -----------------------------------------------------------------


def page(number: int) -> Callable[[Request], bool]:
    return lambda request: listings(request) and request.query["page"] == str(number)


def paged(**changes: Any) -> Rewrite:
    """Return a change of the pagination; ... removes a key."""

    def rewrite(_request: Request, answer: Any) -> Any:
        pagination = answer["meta"]["pagination"] | changes
        kept = {name: value for name, value in pagination.items() if value is not ...}
        return answer | {"meta": {"pagination": kept}}

    return rewrite


def merged(**changes: Any) -> Rewrite:
    return lambda _, answer: answer | changes


def with_record(record: Any) -> Rewrite:
    """Return a change of the second record."""
    return lambda _, answer: answer | {"data": [answer["data"][0], record, *answer["data"][2:]]}


def twice(_request: Request, answer: Any) -> Any:
    """Return the second record in the place of the first as well."""
    return answer | {"data": [answer["data"][1], *answer["data"][1:]]}


TOTALS = [..., None, "600", 600.5, True, -1, [600]]
RECORDS: list[object] = [{"email": "x@shop-mail.example"}, None, 12, [12]]
RECORDS += [{"id": held} for held in ("12", 0, -12, True, "", 12.5, 12.0, None, [12], 2**63)]
NONSENSE: list[Rewrite] = [
    *(paged(total=total) for total in TOTALS),
    *(with_record(record) for record in RECORDS),
    *(merged(data=data) for data in (None, "all", {"id": 12}, 7)),
    *(merged(meta=meta) for meta in (None, [], {}, {"pagination": 600})),
    lambda _, answer: {"data": answer["data"]},
    lambda _, answer: {"meta": answer["meta"]},
    lambda _, answer: answer["data"],
]


@pytest.mark.parametrize(("customers", "number"), [(10, 1), (260, 2)])
def test_invalid_page_is_refused(
    make_store: MakeStore, direct: DirectTool, customers: int, number: int
) -> None:
    """N4: no id that is not a positive integer; one clear sentence, no plan."""
    store = make_store(customers=customers, **QUIET)
    for place, rewrite in enumerate(NONSENSE[:: 1 if number == 1 else 4]):
        store.faults = [Fault(where=page(number), times=math.inf, rewrite=rewrite)]
        outcome = direct(store, None, "--yes")
        assert not store.deletes(), place
        assert_refused_without_plan(outcome)


def test_wrong_totals_omit_no_record(make_store: MakeStore, direct: DirectTool) -> None:
    """Nor do wrong page sizes."""
    store = make_store(customers=600, **QUIET)
    others = Neighbors(store)
    for total in (0, 601, 10_000):
        store.faults = [Fault(where=listings, times=math.inf, rewrite=paged(total=total))]
        outcome = direct(store, None, "--dry-run")
        assert outcome.status == 3, outcome.text
        others.check(outcome)
    for per_page in (..., "250", 0, 100):
        rewrite = paged(per_page=per_page)
        store.faults = [Fault(where=listings, times=math.inf, rewrite=rewrite)]
        others.check(direct(store, None, "--dry-run"))


def test_duplicates_are_dropped_and_counted(make_store: MakeStore, direct: DirectTool) -> None:
    """Where a duplicate hides that another record is missing, the run is refused."""
    store = make_store(customers=600, **QUIET)
    planned = sorted(store.customers)

    def repeat(_request: Request, answer: Any) -> Any:
        return answer | {"data": [{"id": planned[3]}, *answer["data"], {"id": planned[260]}]}

    store.faults = [Fault(where=page(2), times=math.inf, rewrite=repeat)]
    outcome = dry_run(direct, store)
    assert sorted(outcome.plan["ids"]) == planned
    assert (outcome.summary["selected"], outcome.summary["duplicates"]) == (600, 2)
    for number in (1, 2, 3):
        store.faults = [Fault(where=page(number), times=math.inf, rewrite=twice)]
        assert_refused_without_plan(direct(store, None, "--yes"))
        assert not store.deletes()


def test_smaller_pages_are_listed_completely(make_store: MakeStore, direct: DirectTool) -> None:
    """Whatever page size was asked for, these pages have 100 records."""
    store = make_store(customers=600, **QUIET)

    def fewer(request: Request) -> None:
        request.query["limit"] = "100"

    store.faults = [Fault(where=listings, times=math.inf, hook=fewer)]
    assert selected(direct, store) == set(store.customers)


def test_lists_by_id_are_complete_or_refused(make_store: MakeStore, direct: DirectTool) -> None:
    """V2: deleted records shift no other record; a list that cannot be paged ends the run."""
    for resource in ("coupons", "gift_certificates"):
        store, ids = stocked(make_store, resource, 600)

        def remove_some(_: Request, ids: list[int] = ids, resource: str = resource) -> None:
            store.remove(*ids[:30], kind=resource)  # noqa: B023

        store.faults = [Fault("GET", KINDS[resource].path, skip=1, hook=remove_some)]
        assert set(ids[30:]) <= selected(direct, store, "--resource", resource)
        store.log.clear()
        store.deaf = {"min_id"}
        outcome = direct(store, None, "--yes", "--resource", resource)
        assert outcome.status in (3, 5)
        assert not store.deletes()
        assert len(store.log) < 20


# --- look-ups ---------------------------------------------------------------------------------


def look_up_sizes(requests: Iterable[Request], name: str) -> list[int]:
    """Return how many values each of the requests asked for, in ascending order."""
    gets = [request for request in requests if request.method == "GET"]
    return sorted(r.query[name].count(",") + 1 for r in gets if name in r.query)


def test_ids_are_looked_up_250_a_request(make_store: MakeStore, tool: RiggedTool) -> None:
    """So are they verified; the read check and the first batch take a request each."""
    store = make_store(customers=1000, quota=10_000)
    ids = list(store.customers)[100:700]
    outcome = run_deletes(tool, store, set(ids), "--ids", write(tool, lines(ids)))
    first = store.deletes()[0].number
    before = [request for request in store.log if request.number < first]
    after = [request for request in store.log if request.number > first]
    assert look_up_sizes(before, "id:in") == [100, 250, 250, 250]
    assert look_up_sizes(after, "id:in") == [10, 90, 250, 250]
    assert outcome.summary["verified"]
    assert (outcome.summary["duplicates"], outcome.summary["not_found"]) == (0, 0)


def test_addresses_are_looked_up_50_a_request(
    make_store: MakeStore, direct: DirectTool
) -> None:
    """So are entries of keep lists; again in lower case, if a store has not found them."""
    store = make_store(customers=3000, quota=10_000)
    ids = list(store.customers)
    emails = [record["email"] for record in store.customers.values()]
    path = write(direct, lines(emails[20:140]))
    assert selected(direct, store, "--ids", path) == set(ids[20:140])
    assert look_up_sizes(store.log, "email:in") == [20, 50, 50]
    store.log.clear()
    store.reading = store.reading._replace(case_sensitive=True)
    path = write(direct, lines(email.title() for email in emails[20:60]))
    assert selected(direct, store, "--ids", path) == set(ids[20:60])
    assert look_up_sizes(store.log, "email:in") == [40, 40]
    store.log.clear()
    kept = write(direct, lines([*ids[100:400], *emails[400:460]]), "staff.txt")
    options = ("--ids", write(direct, lines(ids[95:105])), "--keep", kept)
    outcome = dry_run(direct, store, *options)
    assert outcome.plan["ids"] == ids[95:100]
    assert (outcome.summary["spared"], outcome.summary["keep_unknown"]) == (5, 0)
    assert look_up_sizes(store.log, "id:in")[-1] == 250
    assert look_up_sizes(store.log, "email:in")[-1] == 50


@pytest.mark.parametrize("option", ["--ids", "--keep"])
def test_doubtful_look_up_lists_all_records(
    make_store: MakeStore, direct: DirectTool, option: str
) -> None:
    """The store ignores the filter, or returns fewer records than it promises."""

    def drop_one(_request: Request, answer: Any) -> Any:
        return answer | {"data": answer["data"][1:]}

    store = make_store(customers=2000, quota=10_000)
    last, expected = list(store.customers.values())[-5:], [*store.customers][-5:]
    selection: list[str | Path] = []
    if option == "--keep":
        selection, expected = ["--limit", "3"], [*store.customers][:3]
    for key, name in (("id", "id:in"), ("email", "email:in")):
        options = [*selection, option, write(direct, lines(record[key] for record in last))]

        def looks_up(request: Request, name: str = name) -> bool:
            return name in request.query

        lack = Fault("GET", where=looks_up, times=math.inf, rewrite=drop_one)
        for store.faults, store.deaf in (([], {name}), ([lack], set())):
            outcome = dry_run(direct, store, *options)
            assert outcome.plan["ids"] == expected
            assert (outcome.plan["counts"]["keep_unknown"], name in outcome.err) == (0, True)
        assert lack.seen


WITHOUT_LOOK_UP = [  # resource, field of the entries, a filter
    ("coupons", "id", "type=free_shipping"),
    ("gift_certificates", "id", "order_id=100"),
    ("subscribers", "email", "source=order"),
    ("promotions", "id", "status=DISABLED"),
]


@pytest.mark.parametrize(("resource", "key", "given"), WITHOUT_LOOK_UP)
def test_keep_without_look_ups(
    make_store: MakeStore, direct: DirectTool, resource: str, key: str, given: str
) -> None:
    """All records are listed, beyond the filter too."""
    store, ids = stocked(make_store, resource, 20)
    name, _, value = given.partition("=")
    records = store.records[resource]
    matched = [number for number in ids if str(records[number][name]) == value]
    other = next(number for number in ids if number not in matched)
    entries = [records[number][key] for number in (matched[0], other)]
    stranger = "nobody@x.example" if key == "email" else "999001"
    options = ("--resource", resource, "--filter", given, "--keep")
    more = write(direct, lines([*entries, stranger]), "more.txt")
    refused = run_refused(direct, store, 3, *options, more)
    assert unmatched(refused) == {("more.txt", stranger)}
    outcome = dry_run(direct, store, *options, write(direct, lines(entries)))
    assert sorted(outcome.plan["ids"]) == matched[1:]
    assert (outcome.summary["keep_unknown"], outcome.summary["spared"]) == (0, 1)


# --- orders -----------------------------------------------------------------------------------


@pytest.fixture
def shop(make_store: MakeStore) -> FakeStore:
    """Customers of whom some have one of 600 orders, three pages; some are of guests."""
    return make_store(customers=200, orders=600, quota=10_000)


def without_orders(store: FakeStore) -> set[int]:
    return set(store.customers) - with_orders(store)


def test_customers_with_orders_are_excluded(shop: FakeStore, direct: DirectTool) -> None:
    count = len(with_orders(shop))
    for options, ini in ((["--spare-with-orders"], {}), ([], {"spare_with_orders": True})):
        outcome = dry_run(direct, shop, *options, **ini)
        assert set(outcome.plan["ids"]) == without_orders(shop)
        assert outcome.summary["spared"] == count
    pages = [request for request in shop.log if request.path.endswith("v2/orders")]
    assert all("min_id" in request.query for request in pages)
    run_deletes(direct, shop, without_orders(shop), "--spare-with-orders")
    assert len(shop.records["orders"]) == 600


def test_orders_are_read_only_for_the_option(make_store: MakeStore, tool: RiggedTool) -> None:
    """Without it the panel says that they are not checked."""
    store = make_store(customers=30, orders=12, quota=10_000)
    planned = dry_run(tool, store)
    assert re.search(r"(?i)orders\W+not checked", planned.err)
    assert tool.resume(store, planned.folder).status == 0
    assert not store.customers
    assert not [request for request in store.log if request.path.endswith("v2/orders")]


def test_orders_that_change_while_they_are_read(shop: FakeStore, direct: DirectTool) -> None:
    """A new order excludes its customer; a deleted one hides no other."""
    late = sorted(without_orders(shop))[:3]

    def place_order(_: Request) -> None:
        if pages.seen <= len(late):
            shop.add(kind="orders", customer_id=late[pages.seen - 1])

    pages = Fault("GET", "v2/orders", times=math.inf, hook=place_order)
    shop.faults = [pages]
    assert selected(direct, shop, "--spare-with-orders") == without_orders(shop)
    assert set(late) <= with_orders(shop)
    busy = with_orders(shop)
    guests = [n for n, order in shop.records["orders"].items() if not order["customer_id"]]

    def remove_orders(_: Request) -> None:
        shop.remove(*guests[:20], kind="orders")

    shop.faults = [Fault("GET", "v2/orders", skip=1, hook=remove_orders)]
    assert selected(direct, shop, "--spare-with-orders") == set(shop.customers) - busy


def test_customer_who_orders_meanwhile_is_kept(make_store: MakeStore, tool: RiggedTool) -> None:
    """Such as during the listing; test_slips.py has orders before a resume."""
    store = make_store(customers=30, orders=12, quota=10_000)
    late = sorted(without_orders(store))[-1]

    def place_order(_: Request) -> None:
        store.add(kind="orders", customer_id=late)

    store.faults = [Fault("GET", "v3/customers", hook=place_order)]
    outcome = tool.run(store, "--spare-with-orders")
    assert outcome.status in (0, 3), outcome.text
    assert late not in store.deleted_ids()


def test_unreadable_orders_stop_the_run(shop: FakeStore, hurried: RiggedTool) -> None:
    """Nothing is deleted, on a resume neither, and a missing scope is named."""
    planned = hurried(shop, None, "--dry-run", "--spare-with-orders")
    shop.scopes.discard(ORDERS_SCOPE)
    for options in (["--spare-with-orders"], ["--resume", planned.folder or ""]):
        outcome = hurried.run(shop, *options)
        assert outcome.status in (3, 5)
        assert ORDERS_SCOPE in outcome.err
    shop.scopes.add(ORDERS_SCOPE)
    for status in (404, 500):
        shop.faults = [Fault("GET", "v2/orders", skip=1, times=math.inf, status=status)]
        assert hurried.run(shop, "--spare-with-orders", max_retries=1).status in (3, 5)
    shop.faults, shop.deaf = [], {"min_id"}
    assert hurried.run(shop, "--spare-with-orders").status in (3, 5)
    shop.deaf = set()
    number = next(iter(shop.records["orders"]))
    shop.change(number, kind="orders", customer_id=None)
    outcome = hurried.run(shop, "--spare-with-orders")
    assert outcome.status == 3, outcome.text
    assert re.search(rf"\b{number}\b", outcome.err)
    assert not shop.deletes()


# --- cascades ---------------------------------------------------------------------------------


@pytest.fixture
def family(make_store: MakeStore) -> FakeStore:
    """Categories: the first has a child and a grandchild; the others have none."""
    store, ids = stocked(make_store, "categories", 9)
    for number in ids:
        store.change(number, kind="categories", parent_id=0, name=f"Shelf {number}")
    store.change(ids[1], kind="categories", parent_id=ids[0])
    store.change(ids[2], kind="categories", parent_id=ids[1])
    return store


def assert_refused_for(
    tool: DirectTool, store: FakeStore, children: Iterable[int], *options: str | Path
) -> Outcome:
    """Run with --yes: refused, and the reason has the ids of these children."""
    outcome = run_refused(tool, store, 3, "--resource", "categories", *options)
    for number in children:
        assert re.search(rf"\b{number}\b", outcome.summary["reason"]), outcome.text
    assert outcome.summary["resume"] is None
    return outcome


def test_parents_need_all_their_descendants(family: FakeStore, direct: DirectTool) -> None:
    """They would be deleted along with them."""
    ids = list(family.records["categories"])
    first, child, grandchild = ids[:3]

    def listed(*numbers: int) -> Path:
        return write(direct, lines(numbers), f"{'-'.join(map(str, numbers))}.txt")

    for options, children in (
        (["--ids", listed(first)], [child, grandchild]),
        (["--ids", listed(first, child)], [grandchild]),
        (["--ids", listed(child, ids[7])], [grandchild]),
        (["--filter", f"name=Shelf {first}"], [child, grandchild]),
        (["--filter", "parent_id:in=0"], [child, grandchild]),
        (["--match", f"name=^Shelf {child}$"], [grandchild]),
        (["--limit", "2"], [grandchild]),
        (["--keep", listed(grandchild)], [grandchild]),
        (["--keep", listed(child)], [child]),
    ):
        assert_refused_for(direct, family, children, *options)
    options = ["--resource", "categories", "--dry-run", "--limit", "2"]
    assert direct(family, None, *options).status == 3
    for parent in (None, "x", -1):  # what cannot be read may be the child of any
        family.change(child, kind="categories", parent_id=parent)
        assert_refused_for(direct, family, [], "--ids", listed(first))
    assert len(family.records["categories"]) == 9


def test_the_first_few_children_are_shown(make_store: MakeStore, direct: DirectTool) -> None:
    store, (parent, *children) = stocked(make_store, "categories", 60)
    store.change(parent, kind="categories", parent_id=0)
    for number in children:
        store.change(number, kind="categories", parent_id=parent)
    path = write(direct, lines([parent]))
    outcome = assert_refused_for(direct, store, children[:1], "--ids", path)
    numbers = set(map(int, re.findall(r"\d+", outcome.summary["reason"])))
    assert len(numbers.intersection(children)) < 20
    assert 59 in numbers


def test_a_branch_can_be_deleted_alone(family: FakeStore, direct: DirectTool) -> None:
    """With its leaves and without its parent; whole and without the other branches."""
    ids = list(family.records["categories"])
    first, child, grandchild = ids[:3]
    family.change(ids[8], kind="categories", tree_id=9)
    tree = family.records["categories"][first]["tree_id"]
    for options, wanted in (
        (["--ids", write(direct, lines([child, grandchild]))], {child, grandchild}),
        (["--limit", "3"], {first, child, grandchild}),
        (["--filter", f"tree_id:in={tree}"], set(ids[:8])),
    ):
        assert selected(direct, family, "--resource", "categories", *options) == wanted
    outcome = direct.run(family, "--resource", "categories", "--limit", "3")
    assert counts(outcome) == {"deleted": 3}
    assert [n for r in family.deletes() for n in r.ids] == [grandchild, child, first]


def test_records_come_from_the_iterall_of_the_sdk(
    make_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each page of a list is read by it, and by nothing else."""
    iterall, asked = ListableApiResource.iterall.__func__, []

    def counted(cls: Any, connection: Any = None, **params: Any) -> Iterator[Any]:
        asked.append((cls.resource_name, params["page"]))
        yield from iterall(cls, connection=connection, **params)

    monkeypatch.setattr(ListableApiResource, "iterall", classmethod(counted))
    store = make_store(customers=300, **QUIET)
    status, output = in_process(store, tmp_path, "--dry-run")
    assert status == 0, output
    pages = [int(request.query["page"]) for request in store.log if listings(request)]
    assert sorted(page for _, page in asked) == sorted(pages) == [1, 1, 2, 2]
    assert {name for name, _ in asked} == {"v3/customers"}
