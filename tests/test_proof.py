"""Proof with a control: a store that heeds a part, does nothing, lags or lies proves nothing."""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fake_store import FakeStore, Fault, Request
from tests.launcher import Rig
from tests.rigged import (
    QUIET,
    MakeStore,
    RiggedTool,
    assert_all_gone_once,
    assert_resumable,
    assert_says,
    counts,
    journal,
    linux,
    listings,
    names,
    read_backs,
    wait_until,
)

HALF = random.Random(7)


def first(count: int) -> Callable[[list[int]], list[int]]:
    return lambda ids: ids[:count]


HEED: dict[str, Callable[[list[int]], list[int]]] = {
    "the first one": first(1),
    "the first five": first(5),
    "the first hundred": first(100),
    "all but the last": lambda ids: ids[:-1] if len(ids) > 9 else ids,
    "the last hundred": lambda ids: ids[-100:],
}


def heeding(heed: Callable[[list[int]], list[int]], *methods: str) -> list[Fault]:
    """A proxy that cuts the list of ids of these requests before the store sees it."""

    def cut(request: Request) -> None:
        ids = heed(list(request.ids))
        request.query["id:in"] = ",".join(map(str, ids))

    return [
        Fault(method, where=lambda request: "id:in" in request.query, times=math.inf, hook=cut)
        for method in methods
    ]


@pytest.mark.parametrize("heed", HEED.values(), ids=HEED)
@pytest.mark.parametrize("resource", ["customers", "products"])
def test_a_store_that_heeds_a_part_of_the_ids(
    make_store: MakeStore, hurried: RiggedTool, resource: str, heed: Callable[[list[int]], list[int]]
) -> None:
    """Chunk and batch shrink until the store heeds all of what it is asked for, and all of it goes."""
    store = make_store(**{"customers": 0, resource: 300} | QUIET)
    planned = set(store.records[resource])
    store.faults = heeding(heed, "GET", "DELETE")
    outcome = hurried.run(store, "--resource", resource)
    assert outcome.status == 0, outcome.text
    assert not store.records[resource]
    assert counts(outcome) == {"deleted": len(planned)}


def test_a_store_that_heeds_ids_at_random(make_store: MakeStore, hurried: RiggedTool) -> None:
    """Where no size of a read is heeded, nothing is deleted: exit 3."""
    store = make_store(customers=300, **QUIET)
    store.faults = heeding(lambda ids: [number for number in ids if HALF.random() < 0.5] or [1], "GET")
    outcome = hurried.run(store)
    assert outcome.status == 3, outcome.text
    assert not store.deletes()
    assert_says(outcome, "does not heed the ids")


@pytest.mark.parametrize("heed", [first(100), lambda ids: ids[-100:]], ids=["the first", "the last"])
@pytest.mark.parametrize("gone", [0, 300])
def test_the_control_of_a_resume(
    make_store: MakeStore, hurried: RiggedTool, heed: Callable[[list[int]], list[int]], gone: int
) -> None:
    """A store that heeds a hundred ids only is noticed by a resume too, though half of the plan is gone."""
    store = make_store(customers=600, **QUIET)
    planned = set(store.customers)
    dry = hurried.run(store, "--dry-run")
    store.add(3)
    later = set(store.customers) - planned
    store.remove(*sorted(planned)[:gone])
    store.faults = heeding(heed, "GET", "DELETE")
    outcome = hurried.resume(store, dry.folder)
    assert outcome.status == 0, outcome.text
    assert set(store.customers) == later
    expected = {"deleted": 600 - gone, "already_gone": gone}
    assert counts(outcome) == {name: count for name, count in expected.items() if count}


def test_the_control_of_a_resume_after_a_stray_empty_page(make_store: MakeStore, hurried: RiggedTool) -> None:
    """One empty listing does not do away with the control: the store that heeds a hundred ids is noticed."""
    store = make_store(customers=600, **QUIET)
    dry = hurried.run(store, "--dry-run")
    stray = {"data": [], "meta": {"pagination": {"total": 0, "per_page": 250}}}
    store.faults = [Fault(where=listings, status=200, body=stray), *heeding(first(100), "GET", "DELETE")]
    outcome = hurried.resume(store, dry.folder)
    assert outcome.status == 0, outcome.text
    assert not store.customers
    assert counts(outcome) == {"deleted": 600}


def test_records_that_others_delete_meanwhile(make_store: MakeStore, hurried: RiggedTool) -> None:
    """What vanished since the listing is no fault of the store's: the run goes on, and all of it is gone."""
    store = make_store(customers=300, **QUIET)
    gone = list(store.customers)[5:9]
    store.faults = [Fault(where=listings, skip=3, after=lambda _: store.remove(*gone))]
    outcome = hurried.run(store)
    assert outcome.status == 0, outcome.text
    assert outcome.summary["deleted"] + outcome.summary["already_gone"] == 300


# --- the first batch ------------------------------------------------------------------------------


def test_one_batch_at_a_time_until_one_is_proven(make_store: MakeStore, hurried: RiggedTool) -> None:
    """The second DELETE leaves only after the first batch was read back and is gone; then five at once."""
    store = make_store(customers=300, latency=lambda r: 0.02 * (r.method == "DELETE"), **QUIET)
    assert hurried.run(store).status == 0
    kinds = [r.method if r.method == "DELETE" else "read" for r in store.log if r.ids]
    assert kinds[:4] == ["read", "DELETE", "read", "DELETE"]
    assert max(request.in_flight for request in store.deletes()) >= 4


def test_a_204_that_does_nothing_at_all(make_store: MakeStore, hurried: RiggedTool) -> None:
    """An accepted batch of which nothing goes ends the run there: 5, after one DELETE, resumable."""
    store = make_store(customers=2000, **QUIET)
    store.sticky = dict.fromkeys(store.customers, math.inf)
    outcome = hurried.run(store)
    assert outcome.status == 5, outcome.text
    assert len(store.deletes()) == 1
    assert sum(map(read_backs, store.log)) < 20
    assert "still lists what it says it deleted" in outcome.text
    assert_resumable(outcome)


@pytest.mark.parametrize(("status", "most"), [(404, 60), (422, 60), (503, 40)])
def test_a_store_that_refuses_everything(
    make_store: MakeStore, hurried: RiggedTool, status: int, most: int
) -> None:
    """Three batches of which nothing goes, whyever, end the run: 5, after few DELETEs."""
    store = make_store(customers=2000, **QUIET)
    store.faults = [Fault("DELETE", times=math.inf, status=status, body={"title": "no"})]
    outcome = hurried.run(store, max_error_rate=100)
    assert outcome.status == 5, outcome.text
    assert len(store.deletes()) <= most
    assert_resumable(outcome)


def test_forty_customers_and_a_503_to_every_delete(make_store: MakeStore, hurried: RiggedTool) -> None:
    """A17: halves count, so that a store that is down is noticed with four batches too."""
    store = make_store(customers=40, **QUIET)
    store.faults = [Fault("DELETE", times=math.inf, status=503, quota_headers=False)]
    outcome = hurried.run(store)
    assert outcome.status == 5, outcome.text
    assert len(store.deletes()) <= 36
    assert_says(outcome, "does not answer")


def test_some_of_the_first_batch_are_refused(store: FakeStore, hurried: RiggedTool) -> None:
    """A first batch of which a part goes is proven."""
    ids = list(store.customers)
    store.refuse = dict.fromkeys(ids[:4], (422, {"title": "locked"}))
    outcome = hurried.run(store, max_error_rate=50)
    assert outcome.status == 4, outcome.text
    assert counts(outcome) == {"deleted": 26, "failed": 4}


@pytest.mark.parametrize("lag", [5.0, 30.0])
def test_a_store_that_shows_what_it_deleted(make_store: MakeStore, hurried: RiggedTool, lag: float) -> None:
    """The lag is waited for, told, and is what verification waits: exit 0, and each id is sent once."""
    store = make_store(customers=300, lag=lag / hurried.rig.speed, **QUIET)
    planned = set(store.customers)
    outcome = hurried.run(store)
    assert_all_gone_once(outcome, store, planned)
    assert "still lists what it says it deleted" in outcome.text


# --- claims of a listing --------------------------------------------------------------------------


def page_total(_request: Request, answer: Any) -> Any:
    """The total counts the page only."""
    answer["meta"]["pagination"]["total"] = len(answer["data"])
    answer["meta"]["pagination"]["total_pages"] = 1
    return answer


def test_a_total_that_counts_the_page_only(make_store: MakeStore, hurried: RiggedTool) -> None:
    """600 brands of which `total` says 250: not ALL, and nothing is deleted: exit 3."""
    store = make_store(customers=0, brands=600, **QUIET)
    store.faults = [Fault("GET", "v3/catalog/brands", times=math.inf, rewrite=page_total)]
    outcome = hurried.run(store, "--resource", "brands")
    assert outcome.status == 3, outcome.text
    assert not store.deletes()
    assert "ALL" not in outcome.text


@pytest.mark.parametrize("count", [200, 500, 600])
def test_a_total_that_is_one_short(make_store: MakeStore, hurried: RiggedTool, count: int) -> None:
    """Pages that hold more than their own total allows make no listing: exit 3, and not ALL but one."""
    store = make_store(customers=0, brands=count, **QUIET)

    def short(_request: Request, answer: Any) -> Any:
        answer["meta"]["pagination"]["total"] = count - 1
        return answer

    store.faults = [Fault("GET", "v3/catalog/brands", times=math.inf, rewrite=short)]
    outcome = hurried.run(store, "--resource", "brands")
    assert outcome.status == 3, outcome.text
    assert not store.deletes()


def test_urls_that_are_too_long_for_products(make_store: MakeStore, hurried: RiggedTool) -> None:
    """Where 250 ids make too long a URL, reads and DELETEs shrink together, and all of them go."""
    store = make_store(customers=0, products=300, **QUIET)
    store.faults = [
        Fault(where=lambda r: len(r.query.get("id:in", "")) > 500, times=math.inf, status=414, counts=False)
    ]
    outcome = hurried.run(store, "--resource", "products")
    assert outcome.status == 0, outcome.text
    assert not store.records["products"]


@pytest.mark.parametrize("count", [250, 500])
def test_a_last_page_that_is_full(make_store: MakeStore, tool: RiggedTool, count: int) -> None:
    """A listing that ends with a full page is followed by one more, which is empty."""
    store = make_store(customers=count, **QUIET)
    outcome = tool.run(store, "--dry-run")
    assert outcome.summary["selected"] == count
    asked = [int(request.query["page"]) for request in store.log if listings(request)]
    assert max(asked) == count // 250 + 1


def test_a_stray_204_in_a_v2_list(make_store: MakeStore, hurried: RiggedTool) -> None:
    """One empty page does not end a V2 list, when it is listed and when it is read back."""
    store = make_store(customers=0, coupons=30, **QUIET)
    stray = {"method": "GET", "path": "v2/coupons", "status": 204}
    store.faults = [Fault(**stray), Fault(skip=4, **stray)]
    outcome = hurried.run(store, "--resource", "coupons")
    assert outcome.status == 0, outcome.text
    assert counts(outcome) == {"deleted": 30}
    assert not store.records["coupons"]


@pytest.mark.parametrize("largest", [125, 60, 25])
def test_pages_that_stay_unanswered(make_store: MakeStore, hurried: RiggedTool, largest: int) -> None:
    """A page that stays unanswered is asked for with fewer records, down to 25, and the listing is whole."""
    store = make_store(customers=600, **QUIET)
    planned = set(store.customers)
    heavy = Fault(
        "GET",
        where=lambda r: listings(r) and int(r.query["limit"]) > largest,
        times=math.inf,
        status=504,
        quota_headers=False,
    )
    store.faults = [heavy]
    outcome = hurried.run(store, max_retries=1)
    assert_all_gone_once(outcome, store, planned)


@pytest.mark.parametrize("status", [400, 413, 414])
def test_a_read_back_that_is_too_long(make_store: MakeStore, hurried: RiggedTool, status: int) -> None:
    """Read-backs that are refused for their length are halved."""
    store = make_store(customers=600, **QUIET)
    planned = set(store.customers)
    store.faults = [
        Fault("GET", where=lambda r: len(r.query.get("id:in", "")) > 300, times=math.inf, status=status)
    ]
    assert_all_gone_once(hurried.run(store), store, planned)


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        ((), True),
        (("--no-backup",), False),
        (("--no-backup", "--match", "email=@"), False),
        (("--no-backup", "--match", "addresses.0.country_code=."), True),
    ],
)
def test_sub_resources_where_they_are_needed(
    store: FakeStore, tool: RiggedTool, options: tuple[str, ...], needed: bool
) -> None:
    """Sub-resources are asked for only if the backup or a --match needs them."""
    assert tool.run(store, "--dry-run", *options).status == 0
    asked = [request for request in store.log if listings(request)]
    assert all(("include" in request.query) == needed for request in asked)


# --- what is proven -------------------------------------------------------------------------------


def test_refused_and_an_empty_read_back(store: FakeStore, hurried: RiggedTool) -> None:
    """A21: three that are locked and read as gone once are read again, alone: failed, not already gone."""
    locked = list(store.customers)[10:13]
    store.refuse = dict.fromkeys(locked, (422, {"title": "locked"}))
    nothing = {"data": [], "meta": {"pagination": {"total": 0, "per_page": 250}}}
    store.faults = [Fault("GET", where=read_backs, skip=2, status=200, body=nothing)]
    outcome = hurried.run(store, max_error_rate=50)
    assert outcome.status == 4, outcome.text
    assert outcome.failed.keys() == set(locked)
    assert counts(outcome) == {"deleted": 27, "failed": 3}


def test_reset_after_the_commit_every_time(make_store: MakeStore, hurried: RiggedTool) -> None:
    """A11: what may have gone, and cannot be read back, is unknown, and not in failed.csv."""
    store = make_store(customers=1, **QUIET)
    store.faults = [
        Fault("DELETE", times=math.inf, commit=True, close="reset"),
        Fault("GET", where=read_backs, skip=1, times=math.inf, close="reset"),
    ]
    outcome = hurried.run(store, max_retries=1)
    assert outcome.status == 5, outcome.text
    assert counts(outcome) == {"unknown": 1}
    assert not (outcome.folder or Path()).joinpath("failed.csv").exists() or not outcome.failed


def test_a_resume_that_reads_nothing_changes_nothing(store: FakeStore, hurried: RiggedTool) -> None:
    """N13: a resume with a wrong token leaves summary and failures as they were."""
    store.refuse = {list(store.customers)[15]: (422, {"title": "locked"})}
    done = hurried.run(store)
    assert (done.status, counts(done)) == (4, {"deleted": 29, "failed": 1})
    assert done.folder is not None
    before = {name: (done.folder / name).read_bytes() for name in ("summary.json", "failed.csv")}
    refused = hurried.resume(store, done.folder, access_token="wrong")
    assert refused.status == 5, refused.text
    assert {name: (done.folder / name).read_bytes() for name in before} == before


def test_sums_over_resumes(store: FakeStore, hurried: RiggedTool) -> None:
    """N13: over resumes requests add up, the first start stays, and what was proven stays deleted."""
    planned = set(store.customers)
    store.faults = [Fault("DELETE", skip=2, status=401)]
    first_run = hurried.run(store, "--max-concurrent", "1")
    assert first_run.status == 5, first_run.text
    before = first_run.summary
    gone = [number for entry in journal(first_run.folder or Path()) for number in entry.get("gone", ())]
    assert gone
    outcome = hurried.resume(store, first_run.folder)
    assert outcome.status == 0, outcome.text
    assert counts(outcome) == {"deleted": len(planned)}
    assert outcome.summary["requests"] == len(store.log)
    assert outcome.summary["started_at"] == before["started_at"]
    assert outcome.summary["elapsed_seconds"] > before["elapsed_seconds"]


SLOW = "slow"  # a file that is there once a slow fsync has begun


def slowed(seconds: float, free: int) -> Rig:
    """Make this process's fsyncs of the journal slow, but for the first ones; called in the child."""
    fsync, turn = os.fsync, itertools.count()

    def slow(handle: int) -> None:
        if os.readlink(f"/proc/self/fd/{handle}").endswith("journal.jsonl") and next(turn) >= free:
            Path(SLOW).touch()
            time.sleep(seconds)
        fsync(handle)

    os.fsync = slow
    return Rig(speed=1.0)


class SlowDisk(Rig):
    """A disk that takes a second to save a line of the journal, after the first few lines."""

    def __reduce__(self) -> tuple[Any, ...]:
        """What comes to the child is made by `slowed`."""
        return slowed, (1.0, 4)


@linux
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_while_the_note_is_saved(make_store: MakeStore, tmp_path: Path, signum: int) -> None:
    """N8: no DELETE leaves after a stop that is asked for while its note goes to the disk."""
    tool = RiggedTool(tmp_path, SlowDisk(speed=1.0))
    store = make_store(customers=200, **QUIET)
    process = tool.start(store, store.config(tmp_path), "--yes")
    wait_until((tmp_path / SLOW).exists)
    time.sleep(0.3)  # the other workers get there too
    stopped_at = time.monotonic()
    process.send_signal(signum)
    outcome = tool.finish(process)
    assert outcome.status == 128 + signum, outcome.text
    assert not [request for request in store.deletes() if request.arrived > stopped_at + 0.3]
    reached = len(store.deleted_ids())
    assert outcome.summary["deleted"] + outcome.summary["unknown"] <= reached
    resumed = RiggedTool(tmp_path).resume(store, outcome.folder)
    assert resumed.status == 0, resumed.text
    assert counts(resumed) == {"deleted": 200}


def test_a_resume_in_spite_of_a_lost_summary(store: FakeStore, hurried: RiggedTool) -> None:
    """What was proven is in the journal: without summary.json too, it counts before anything is read."""
    store.faults = [Fault("DELETE", skip=1, status=401)]
    first_run = hurried.run(store, "--max-concurrent", "1")
    assert first_run.folder is not None
    assert counts(first_run)["deleted"] == 10
    (first_run.folder / "summary.json").unlink()
    store.faults = [Fault("GET", "v2/store", status=401)]
    refused = hurried.resume(store, first_run.folder, "--json")
    assert json.loads(refused.out)["deleted"] == 10


def test_a_sticky_record_on_a_resume(store: FakeStore, hurried: RiggedTool) -> None:
    """A run that has proven a batch does not take one sticky record for a store that does nothing."""
    victim = list(store.customers)[20]
    store.sticky = {victim: math.inf}
    assert hurried.run(store).status == 4
    (folder,) = hurried.folders()
    again = hurried.resume(store, folder)
    assert again.status == 4, again.text
    assert again.failed.keys() == {victim}
    assert names(victim)(store.deletes()[-1])


# --- what an adversary found ----------------------------------------------------------------------

LOCKED = {"title": "is locked"}
EMPTY: dict[str, Any] = {"data": [], "meta": {"pagination": {"total": 0, "total_pages": 0, "per_page": 250}}}


def refused(*victims: int) -> Fault:
    """The store refuses to delete these for good."""
    return Fault("DELETE", where=names(*victims), times=math.inf, status=422, body=LOCKED)


def test_a_query_that_is_cut_at_a_length(make_store: MakeStore, hurried: RiggedTool) -> None:
    """What drops the end of a long query is noticed: the control is as long as any query of the plan."""
    store = make_store(products=1500, customers=0, **QUIET)

    def cut(request: Request) -> None:
        text = request.query["id:in"][:1100]
        request.query["id:in"] = text.rpartition(",")[0] if len(text) == 1100 else text

    store.faults = [Fault(where=lambda r: "id:in" in r.query, times=math.inf, hook=cut)]
    outcome = hurried.run(store, "--resource", "products")
    assert outcome.status == 3 or not store.records["products"], outcome.text


def test_a_total_of_a_page_that_is_smaller(make_store: MakeStore, hurried: RiggedTool) -> None:
    """A page is full by what the store says a page is, so its total is held to the next page."""
    store = make_store(brands=600, customers=0, **QUIET)

    def rewrite(request: Request, answer: Any) -> Any:
        page = int(request.query.get("page", 1))
        records = sorted(store.records["brands"].values(), key=lambda record: record["name"])
        shown = records[100 * (page - 1) : 100 * page]
        pagination = {"total": len(shown), "count": len(shown), "per_page": 100, "current_page": page}
        return {"data": shown, "meta": {"pagination": pagination}}

    store.faults = [Fault("GET", "v3/catalog/brands", times=math.inf, rewrite=rewrite)]
    outcome = hurried.run(store, "--resource", "brands")
    assert outcome.status == 3, outcome.text
    assert not store.deletes()


def test_a_refusal_outlives_a_resume(store: FakeStore, hurried: RiggedTool) -> None:
    """What was refused is read once more, alone, on a resume too: one empty read does not make it gone."""
    victims = sorted(store.customers)[:3]
    store.faults = [refused(*victims)]
    done = hurried.run(store)
    assert counts(done) == {"deleted": 27, "failed": 3}
    empty = Fault("GET", where=lambda r: read_backs(r) and len(r.ids) == 30, skip=1, body=EMPTY, status=200)
    store.faults.append(empty)
    again = hurried.resume(store, done.folder)
    assert again.status != 0, again.text
    assert set(store.customers) == set(victims)
    assert again.summary["already_gone"] == 0


def test_an_empty_listing_is_read_twice(make_store: MakeStore, hurried: RiggedTool) -> None:
    """Where a list has no id filter, one stray empty listing proves nothing."""
    store = make_store(promotions=20, customers=0, **QUIET)
    first_after: list[bool] = []

    def once(request: Request) -> bool:
        meant = request.method == "GET" and "promotions" in request.path and bool(store.deletes())
        if meant and not first_after:
            first_after.append(True)
            return True
        return False

    store.faults = [
        Fault(where=once, times=math.inf, status=200, body=EMPTY),
        Fault("DELETE", times=math.inf, status=204),
    ]
    outcome = hurried.run(store, "--resource", "promotions")
    assert outcome.status == 4, outcome.text
    assert outcome.summary["deleted"] == 0
    assert first_after


def nested(depth: int) -> Any:
    return [nested(depth - 1) for _ in range(10)] if depth else [f"word {depth}"] * 10


@pytest.mark.timeout(60)  # it took 18 s for each look at each answer
@pytest.mark.parametrize(
    "body",
    [
        {"title": "no", "errors": ["x" * 5000 + "sandbox-token-not" + "y" * 5000] * 100},
        {"title": "no", "errors": nested(5)},
        {"title": "no", "errors": [[[[[[[[[]] * 30] * 30] * 30]] * 30]]]},
    ],
    ids=["parts of the token", "nested messages", "nested nothing"],
)
def test_an_error_of_very_many_words(store: FakeStore, tool: RiggedTool, body: Any) -> None:
    """N26: an error that never ends is looked at in part, and neither freezes the run nor tells a secret."""
    store.faults = [Fault("DELETE", times=math.inf, status=422, body=body)]
    outcome = tool.run(store, max_error_rate=0)
    assert outcome.status in (4, 5), outcome.text
    assert "sandbox-token-not" not in outcome.text


def test_the_store_names_itself_like_the_token(store: FakeStore, hurried: RiggedTool) -> None:
    """N17: what GET /v2/store says stands in the summary without secrets."""
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in store.token)
    body = f'{{"name": "{escaped}", "domain": "x", "plan_name": "{store.token[:-2]}"}}'
    store.faults = [Fault("GET", "v2/store", times=math.inf, status=200, body=body)]
    outcome = hurried.run(store, "--json")
    assert outcome.status == 0, outcome.text
    assert store.token[:-2] not in outcome.text + json.dumps(outcome.summary)


def test_a_resume_within_the_lag(make_store: MakeStore, tmp_path: Path) -> None:
    """A resume waits as long as the store was seen to list what it had deleted, and sends nothing twice."""
    tool = RiggedTool(tmp_path, Rig(speed=10))
    store = make_store(customers=60, lag=1.5, **QUIET)
    stop = Fault("DELETE", skip=3, hook=lambda _: tool.signal(signal.SIGTERM))
    store.faults = [stop]
    stopped = tool.run(store, max_concurrent=1)
    assert stopped.status == 143, stopped.text
    again = tool.resume(store, stopped.folder)
    assert again.status == 0, again.text
    sent = [number for request in store.deletes() for number in request.ids]
    assert len(sent) == len(set(sent)) == 60
    assert again.summary["deleted"] == 60


@pytest.mark.parametrize(
    "proxy",
    [
        "bob:pw99@127.0.0.1:9",
        "http://bob:pw99@ho st:80",
        "ftp://bob:pw99@host:80",
        "http://bob:pw99@a..b:80",
        "http://bob:1234?pw99@host:9",
        "http://bob:1#pw99@host:9",
        "http://bob:p@pw99@host:9",
    ],
)
def test_a_proxy_that_cannot_be_meant(store: FakeStore, hurried: RiggedTool, proxy: str) -> None:
    """A20: exit 2 names the variable of the proxy, and nothing of its value."""
    config = store.config(hurried.folder)
    outcome = hurried(store, config, "--yes", HTTPS_PROXY=proxy, NO_PROXY="", no_proxy="")
    assert outcome.status == 2, outcome.text
    assert_says(outcome, "HTTPS_PROXY")
    assert "pw99" not in outcome.text
    assert not store.log
