"""Gather: a listing that can be trusted, complete, or no plan at all."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from tests.fake_store import KINDS, FakeStore, Fault, Request
from tests.rigged import QUIET, MakeStore, Outcome, RiggedTool, assert_says, counts, listings


class Neighbours:
    """What others do to a store of 600 customers, three pages, while it is listed."""

    def __init__(self, store: FakeStore) -> None:
        self.store = store
        self.first = set(store.customers)
        self.removed: set[int] = set()

    def present(self, place: float) -> int:
        """The id at that part of the listing, of those that are there."""
        ids = sorted(self.store.customers)
        return ids[min(int(place * len(ids)), len(ids) - 1)]

    def remove(self, place: float, count: int = 1) -> None:
        for _ in range(min(count, len(self.store.customers))):
            number = self.present(place)
            self.store.remove(number)
            self.removed.add(number)

    def add(self, count: int = 1) -> None:
        self.store.add(count)

    def swap(self, place: float, count: int = 1) -> None:
        """Remove some and add as many, so that the total stays the same."""
        self.remove(place, count)
        self.add(count)

    def check(self, outcome: Outcome) -> None:
        """Complete, or refused: a plan holds all that was there all the time."""
        staying = self.first - self.removed
        if outcome.status == 3:
            assert_says(outcome)
            assert not self.store.deletes()
            assert outcome.folder is not None
            # There is a plan only if the control, right before the first DELETE, finds none of it.
            assert not (outcome.folder / "plan.json").exists() or "does not heed" in outcome.err
            assert outcome.summary["resume"] is None
            return
        assert outcome.status == 0, outcome.text
        planned = set(outcome.plan["ids"])
        assert len(outcome.plan["ids"]) == len(planned)
        assert staying <= planned
        assert not staying & self.store.customers.keys()
        assert not self.store.deleted_ids().keys() - planned
        assert self.store.customers.keys() & planned == set()
        assert outcome.folder is not None
        assert [record["id"] for record in outcome.backup] == outcome.plan["ids"]


CHANGES: dict[str, Callable[[Neighbours], None]] = {
    "the first removed": lambda neighbours: neighbours.remove(0.0),
    "one in the middle removed": lambda neighbours: neighbours.remove(0.5),
    "the last removed": lambda neighbours: neighbours.remove(1.0),
    "a whole page removed": lambda neighbours: neighbours.remove(0.1, 250),
    "one added": lambda neighbours: neighbours.add(),
    "a page and more added": lambda neighbours: neighbours.add(300),
    "the first swapped": lambda neighbours: neighbours.swap(0.0),
    "one in the middle swapped": lambda neighbours: neighbours.swap(0.5),
    "the last swapped": lambda neighbours: neighbours.swap(1.0),
    "a whole page swapped": lambda neighbours: neighbours.swap(0.2, 250),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("page", [1, 2, 3, 4])
def test_others_change_the_store_once(
    make_store: MakeStore, hurried: RiggedTool, change: Callable[[Neighbours], None], page: int
) -> None:
    """Right after the n-th page was made: the plan is complete all the same, and carried out."""
    store = make_store(customers=600, **QUIET)
    neighbours = Neighbours(store)
    store.faults = [Fault(where=listings, skip=page - 1, after=lambda _: change(neighbours))]
    outcome = hurried.run(store)
    assert outcome.status == 0, outcome.text
    assert store.faults[0].seen >= page
    neighbours.check(outcome)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("workers", [1, 5])
def test_others_change_the_store_all_the_time(
    make_store: MakeStore, hurried: RiggedTool, change: Callable[[Neighbours], None], workers: int
) -> None:
    """After every page: the plan is complete, or there is none and nothing is deleted."""
    store = make_store(customers=600, **QUIET)
    neighbours = Neighbours(store)
    store.faults = [Fault(where=listings, times=60, after=lambda _: change(neighbours))]
    outcome = hurried.run(store, max_concurrent=workers)
    neighbours.check(outcome)


def test_a_listing_that_always_shrinks_is_refused(make_store: MakeStore, hurried: RiggedTool) -> None:
    """Three more listings, and then exit 3: nothing is deleted."""
    store = make_store(customers=600, **QUIET)
    neighbours = Neighbours(store)
    store.faults = [Fault(where=listings, times=math.inf, after=lambda _: neighbours.remove(0.0))]
    outcome = hurried.run(store)
    assert outcome.status == 3, outcome.text
    neighbours.check(outcome)
    assert sum(listings(r) and r.query["page"] == "1" for r in store.log) >= 4
    assert sum(map(listings, store.log)) <= 4 * 5


@pytest.mark.parametrize("count", [1, 300])
def test_sign_ups_during_the_listing_are_left_out(
    make_store: MakeStore, hurried: RiggedTool, count: int
) -> None:
    """What signed up after the first page is neither planned nor touched; one listing is enough."""
    store = make_store(customers=600, **QUIET)
    planned = set(store.customers)
    fresh: list[int] = []
    store.faults = [Fault(where=listings, after=lambda _: fresh.extend(store.add(count)))]
    outcome = hurried.run(store)
    assert outcome.status == 0, outcome.text
    assert set(outcome.plan["ids"]) == planned
    assert set(store.customers) == set(fresh)
    assert counts(outcome) == {"deleted": 600}
    assert sum(map(listings, store.log)) <= 6


def on_page(number: int) -> Callable[[Request], bool]:
    return lambda request: listings(request) and request.query["page"] == str(number)


def test_duplicates_are_dropped_and_counted(make_store: MakeStore, hurried: RiggedTool) -> None:
    """A record that is listed twice, where nothing is missing, is planned and deleted once."""
    store = make_store(customers=600, **QUIET)
    planned = sorted(store.customers)

    def repeat(_request: Request, answer: Any) -> Any:
        return answer | {"data": [{"id": planned[3]}, *answer["data"], {"id": planned[260]}]}

    store.faults = [Fault(where=on_page(2), times=math.inf, rewrite=repeat)]
    outcome = hurried.run(store)
    assert outcome.status == 0, outcome.text
    assert sorted(outcome.plan["ids"]) == planned
    assert (outcome.summary["selected"], outcome.summary["duplicates"]) == (600, 2)
    assert store.deleted_ids() == dict.fromkeys(planned, 1)


@pytest.mark.parametrize("page", [1, 2, 3])
def test_a_duplicate_in_the_place_of_another(make_store: MakeStore, hurried: RiggedTool, page: int) -> None:
    """Where it hides that a record is missing, the listing is not complete: exit 3."""
    store = make_store(customers=600, **QUIET)

    def hide(_request: Request, answer: Any) -> Any:
        data = answer["data"]
        return answer | {"data": [data[1], *data[1:]]}

    store.faults = [Fault(where=on_page(page), times=math.inf, rewrite=hide)]
    outcome = hurried.run(store)
    assert outcome.status == 3, outcome.text
    assert_says(outcome)
    assert not store.deletes()


# --- answers that make no sense -------------------------------------------------------------------


def paged(**changes: Any) -> Callable[[Request, Any], Any]:
    """The answer with these changes to its pagination; ... takes one out."""

    def rewrite(_request: Request, answer: Any) -> Any:
        pagination = answer["meta"]["pagination"] | changes
        kept = {name: value for name, value in pagination.items() if value is not ...}
        return answer | {"meta": {"pagination": kept}}

    return rewrite


def with_data(data: Any) -> Callable[[Request, Any], Any]:
    return lambda _request, answer: answer | {"data": data}


def with_record(record: Any) -> Callable[[Request, Any], Any]:
    """The answer with this in the place of its second record."""
    return lambda _, answer: answer | {"data": [answer["data"][0], record, *answer["data"][2:]]}


def without(name: str) -> Callable[[Request, Any], Any]:
    return lambda _, answer: {key: value for key, value in answer.items() if key != name}


NONSENSE: dict[str, Callable[[Request, Any], Any]] = {
    "no total": paged(total=...),
    "total is null": paged(total=None),
    "total is a string": paged(total="600"),
    "total is a fraction": paged(total=600.5),
    "total is true": paged(total=True),
    "total is negative": paged(total=-1),
    "total is a list": paged(total=[600]),
    "no meta": without("meta"),
    "meta is null": lambda _, answer: answer | {"meta": None},
    "meta is a list": lambda _, answer: answer | {"meta": []},
    "no pagination": lambda _, answer: answer | {"meta": {}},
    "pagination is a number": lambda _, answer: answer | {"meta": {"pagination": 600}},
    "no data": without("data"),
    "data is null": with_data(None),
    "data is a string": with_data("all"),
    "data is an object": with_data({"id": 12}),
    "data is a number": with_data(7),
    "a bare list": lambda _, answer: answer["data"],
    "a record without id": with_record({"email": "x@shop-mail.example"}),
    "a record that is null": with_record(None),
    "a record that is a number": with_record(12),
    "a record that is a list": with_record([12]),
    "id is a string": with_record({"id": "12"}),
    "id is 0": with_record({"id": 0}),
    "id is negative": with_record({"id": -12}),
    "id is true": with_record({"id": True}),
    "id is empty": with_record({"id": ""}),
    "id is a fraction": with_record({"id": 12.5}),
    "id is a number with a point": with_record({"id": 12.0}),
    "id is null": with_record({"id": None}),
    "id is a list": with_record({"id": [12]}),
}


@pytest.mark.parametrize("rewrite", NONSENSE.values(), ids=NONSENSE)
@pytest.mark.parametrize("page", [1, 2])
def test_an_answer_that_makes_no_sense(
    make_store: MakeStore, hurried: RiggedTool, rewrite: Callable[[Request, Any], Any], page: int
) -> None:
    """N4: it is refused with one clear sentence, exit 3; there is no plan, and nothing is deleted."""
    store = make_store(customers=300, **QUIET)
    store.faults = [Fault(where=on_page(page), times=math.inf, rewrite=rewrite)]
    outcome = hurried.run(store)
    assert outcome.status == 3, outcome.text
    assert_says(outcome)
    assert len(outcome.summary["reason"]) > 20
    assert outcome.summary["resume"] is None
    assert not store.deletes()
    assert len(store.customers) == 300


def test_an_id_that_is_too_large_is_refused(store: FakeStore, tool: RiggedTool) -> None:
    """An id beyond 63 bits is no id of BigCommerce's."""

    def enlarge(_request: object, answer: dict[str, list[dict[str, int]]]) -> object:
        answer["data"][0]["id"] = 2**63
        return answer

    store.faults.append(Fault(method="GET", path="v3/customers", rewrite=enlarge))
    outcome = tool.run(store)
    assert outcome.status == 3, outcome.text
    assert not store.deletes()


@pytest.mark.parametrize("total", [0, 601, 10_000])
def test_a_total_that_is_wrong(make_store: MakeStore, hurried: RiggedTool, total: int) -> None:
    """A total that the records do not amount to leads to exit 3, however wrong it is."""
    store = make_store(customers=600, **QUIET)
    store.faults = [Fault(where=listings, times=math.inf, rewrite=paged(total=total))]
    outcome = hurried.run(store)
    assert outcome.status == 3, outcome.text
    assert_says(outcome)
    assert not store.deletes()


@pytest.mark.parametrize("per_page", [..., None, "250", 0, -1, 100, 50])
def test_the_page_size_that_is_told(make_store: MakeStore, hurried: RiggedTool, per_page: Any) -> None:
    """Whatever per_page claims, the plan is complete, or there is none."""
    store = make_store(customers=600, **QUIET)
    neighbours = Neighbours(store)
    store.faults = [Fault(where=listings, times=math.inf, rewrite=paged(per_page=per_page))]
    neighbours.check(hurried.run(store))


def test_a_store_that_gives_less_than_was_asked(make_store: MakeStore, hurried: RiggedTool) -> None:
    """Where a page holds 100 records at most, all of them are found nevertheless."""
    store = make_store(customers=600, **QUIET)
    planned = set(store.customers)
    arrive = store._arrive  # the store reads the query after this

    def fewer(method: str, target: str, headers: dict[str, str], connection: int) -> Request:
        request = arrive(method, target, headers, connection)
        if listings(request):
            request.query["limit"] = "100"
        return request

    store._arrive = fewer  # type: ignore[method-assign]
    outcome = hurried.run(store)
    assert outcome.status == 0, outcome.text
    assert set(outcome.plan["ids"]) == planned
    assert not store.customers


# --- V2 lists -------------------------------------------------------------------------------------


def went_while_paging(store: FakeStore, resource: str, ids: list[int]) -> Fault:
    """Another app deletes those once the first page was read."""

    def go(_: Request) -> None:
        store.remove(*ids, kind=resource)

    return Fault("GET", KINDS[resource].path, skip=1, hook=go)


@pytest.mark.parametrize("resource", ["coupons", "gift_certificates"])
def test_v2_lists_have_no_holes(make_store: MakeStore, tool: RiggedTool, resource: str) -> None:
    """What goes while a V2 list is paged pulls no other past the reader."""
    store = make_store(**QUIET, **{"customers": 5, resource: 600})
    ids = list(store.records[resource])
    store.faults = [went_while_paging(store, resource, ids[:30])]
    outcome = tool(store, None, "--dry-run", "--resource", resource)
    assert outcome.status == 0, outcome.text
    assert set(ids[30:]) <= set(outcome.plan["ids"])


@pytest.mark.parametrize("resource", ["coupons", "gift_certificates"])
def test_v2_lists_that_ignore_min_id(make_store: MakeStore, tool: RiggedTool, resource: str) -> None:
    """A V2 list that cannot be paged to its end is refused, and the run ends."""
    store = make_store(**QUIET, **{"customers": 5, resource: 600})
    store.deaf = {"min_id"}
    outcome = tool(store, None, "--yes", "--resource", resource)
    assert outcome.status in (3, 5)
    assert not store.deletes()
    assert len(store.log) < 20


# --- cascades -------------------------------------------------------------------------------------


def test_children_go_before_their_parents(make_store: MakeStore, tool: RiggedTool) -> None:
    """Each planned category goes by its own DELETE, the children of a parent before it."""
    store = make_store(customers=5, categories=12, quota=10_000)
    numbers = list(store.records["categories"])
    for child, parent in zip(numbers[1:6], numbers[:5], strict=True):
        store.change(child, kind="categories", parent_id=parent)
    outcome = tool.run(store, "--resource", "categories")
    assert outcome.status == 0, outcome.text
    assert outcome.summary["deleted"] == 12
    assert outcome.summary["already_gone"] == 0
