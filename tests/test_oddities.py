"""What no one expects, and the tool has to outlive: odd answers, odd paths, closed streams."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.fake_store import FakeStore, Fault
from tests.rigged import MakeStore, RiggedTool, Tool, read_backs


@pytest.fixture
def store(make_store: MakeStore) -> FakeStore:
    return make_store(customers=60, quota=10_000)


def test_an_answer_with_broken_headers_is_tried_again(store: FakeStore, tool: RiggedTool) -> None:
    """Two lengths in one answer prove nothing, so the DELETE goes again, and what is gone is deleted."""
    broken = {"Content-Length": "0, 7"}
    store.faults.append(Fault(method="DELETE", times=2, commit=True, status=204, headers=broken))
    outcome = tool.run(store)
    assert outcome.status == 0, outcome.text
    assert outcome.summary["deleted"] == 60
    assert outcome.summary["retries"] >= 2


def test_half_a_character_is_backed_up(store: FakeStore, tool: RiggedTool) -> None:
    """A lone surrogate, which JSON can hold and UTF-8 cannot, is kept as JSON writes it."""
    number = next(iter(store.customers))
    store.change(number, first_name="bad \ud83d half")
    outcome = tool.run(store)
    assert outcome.status == 0, outcome.text
    assert outcome.folder is not None
    lines = (outcome.folder / "backup.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[0])["first_name"] == "bad \ud83d half"


def test_an_id_that_is_too_large_is_refused(store: FakeStore, tool: RiggedTool) -> None:
    """An id beyond 63 bits is no id of BigCommerce's."""

    def enlarge(_request: object, answer: dict[str, list[dict[str, int]]]) -> object:
        answer["data"][0]["id"] = 2**63
        return answer

    store.faults.append(Fault(method="GET", path="v3/customers", rewrite=enlarge))
    outcome = tool.run(store)
    assert outcome.status == 3, outcome.text
    assert not store.deletes()


def test_a_folder_whose_name_is_not_utf_8(store: FakeStore, tmp_path: Path) -> None:
    """The run folder may lie below any name that the system allows, and resumes from there."""
    tool = Tool(tmp_path)
    tool.runs = Path(os.fsdecode(os.fsencode(tmp_path) + b"/r\xe4ns"))
    config = store.config(tmp_path)
    planned = tool(store, config, "--dry-run", "--runs-dir", tool.runs)
    assert planned.status == 0, planned.text
    words = shlex.split(planned.summary["resume"])
    process = tool.start(store, config, *words[words.index("--resume") :], "--yes")
    assert tool.finish(process, planned.folder).status == 0
    assert not store.customers


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&-"])
@pytest.mark.parametrize("option", ["--no-json", "--json"])
def test_closed_streams(store: FakeStore, tmp_path: Path, closed: str, option: str) -> None:
    """Cron may close any stream: the run, its summary and its exit status are the same."""
    tool = Tool(tmp_path)
    command = tool.command(store.config(tmp_path), "--yes", option)
    shell = f"{shlex.join(command)} {closed}"
    done = subprocess.run(
        shell, shell=True, cwd=tmp_path, env=tool.environ(store), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert not store.customers


def test_other_resources_resume_as_they_began(make_store: MakeStore, tool: RiggedTool) -> None:
    """The printed command of a run of products goes on with 250 a DELETE, be it asked for or not."""
    for options in ((), ("--batch-size", "250")):
        store = make_store(customers=5, products=500, quota=10_000)
        planned = tool(store, store.config(tool.folder, resource="products"), "--dry-run", *options)
        assert planned.status == 0, planned.text
        words = shlex.split(planned.summary["resume"])
        process = tool.start(store, Path(words[3]), *words[4:], "--yes")
        outcome = tool.finish(process, planned.folder)
        assert outcome.status == 0, outcome.text
        assert [len(request.ids) for request in store.deletes()] == [250, 250]
        assert len(store.customers) == 5


def test_a_journal_of_another_run_is_refused(store: FakeStore, tool: RiggedTool) -> None:
    """Ids in the journal that are none of the plan's would spoil the counts."""
    planned = tool(store, store.config(tool.folder), "--dry-run")
    assert planned.folder is not None
    (planned.folder / "journal.jsonl").write_text('{"sent": [900000]}\n')
    before = len(store.log)
    outcome = tool.start(store, store.config(tool.folder), "--resume", planned.folder, "--yes")
    _, err = outcome.communicate(60)
    assert outcome.returncode == 3
    assert "journal" in err
    assert len(store.log) == before


def test_a_resume_that_never_begins_keeps_the_reasons(store: FakeStore, tool: RiggedTool) -> None:
    """failed.csv of the run before stays, as long as the resume has not tried again."""
    number = next(iter(store.customers))
    store.refuse[number] = (422, {"status": 422, "title": "has an open dispute"})
    first = tool.run(store, max_error_rate=100)
    assert first.status == 4
    assert list(first.failed) == [number]
    declined = tool(store, store.config(tool.folder), "--resume", first.folder)  # no terminal
    assert declined.status == 3
    assert list(declined.failed) == [number]


def test_what_could_not_be_read_back_is_said(store: FakeStore, tool: RiggedTool) -> None:
    """Exit 4 without a failed record says what is unknown, and what to do, and names no empty file."""
    store.faults.append(Fault(method="GET", where=read_backs, times=100, status=200, body={"data": []}))
    outcome = tool.run(store)
    assert outcome.status == 4, outcome.text
    assert outcome.summary["unknown"] == 60
    assert "60 could not be read back" in outcome.err
    assert "failed.csv" not in outcome.err


def test_a_reserve_above_the_guess_waits_for_the_stores_word(make_store: MakeStore, tool: RiggedTool) -> None:
    """A reserve of 200 is fine where the quota turns out to be 450, and refused where it is 150."""
    store = make_store(customers=60, quota=450)
    assert tool.run(store, min_requests_remaining=200).status == 0
    store = make_store(customers=60, quota=150)
    outcome = tool.run(store, min_requests_remaining=200)
    assert outcome.status == 2
    assert "min_requests_remaining" in outcome.err
    assert not store.deletes()


def test_a_store_that_is_down_is_noticed_when_items_count(make_store: MakeStore, tool: RiggedTool) -> None:
    """Batches that are split to fit the quota are batches: five of them exhausted end the run."""
    store = make_store(customers=5, products=2000, quota=150, count_items=True)
    store.faults.append(Fault(method="DELETE", times=10_000, status=503, counts=False))
    outcome = tool.run(store, "--resource", "products", count_items=True, max_retries=0)
    assert outcome.status == 5, outcome.text
    assert len(store.deletes()) <= 10


def test_a_match_reads_letters_as_they_are(store: FakeStore, tool: RiggedTool) -> None:
    """An expression on a list sees München, not its escapes: sparing by it spares."""
    number = next(iter(store.customers))
    store.change(number, company="München", channel_ids=["München"])
    outcome = tool.run(store, "--match", "channel_ids=^(?!.*München)")
    assert outcome.status == 0, outcome.text
    assert list(store.customers) == [number]


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


def test_who_orders_while_customers_are_listed_is_spared(make_store: MakeStore, tool: RiggedTool) -> None:
    """An order that comes in during the listing spares its customer too."""
    store = make_store(customers=60, orders=5, quota=10_000)
    late = list(store.customers)[30]
    listing = {"method": "GET", "path": "v3/customers"}
    store.faults.append(Fault(**listing, hook=lambda _: store.add(kind="orders", customer_id=late)))
    outcome = tool.run(store, "--spare-with-orders")
    assert outcome.status == 0, outcome.text
    assert late in store.customers
    assert late not in outcome.plan["ids"]


def test_pages_that_are_half_known(make_store: MakeStore, tool: RiggedTool) -> None:
    """A 404 for a batch of pages may have deleted those that did exist: they count as deleted."""
    store = make_store(customers=5, pages=10, quota=10_000)
    body = {"status": 404, "title": "some were not found"}
    store.faults.append(Fault(method="DELETE", commit=True, status=404, body=body))
    outcome = tool.run(store, "--resource", "pages", max_error_rate=100)
    assert outcome.status == 0, outcome.text
    assert outcome.summary["deleted"] == 10


def test_children_go_before_their_parents(make_store: MakeStore, tool: RiggedTool) -> None:
    """Each planned category goes by its own DELETE; what a parent takes along is told in the panel."""
    store = make_store(customers=5, categories=12, quota=10_000)
    numbers = list(store.records["categories"])
    for child, parent in zip(numbers[1:6], numbers[:5], strict=True):
        store.change(child, kind="categories", parent_id=parent)
    top = store.records["categories"][numbers[0]]["name"]
    shown = tool(
        store, store.config(tool.folder), "--resource", "categories", "--match", f"name=^{top}$", "--dry-run"
    )
    assert "5 more categories" in shown.err
    outcome = tool.run(store, "--resource", "categories")
    assert outcome.status == 0, outcome.text
    assert outcome.summary["deleted"] == 12
    assert outcome.summary["already_gone"] == 0


@pytest.mark.parametrize("total", [None, 21])
def test_a_listing_that_proves_nothing(make_store: MakeStore, tmp_path: Path, total: int | None) -> None:
    """Where a listing is the read-back, one that is unreadable or never complete leaves ids unknown."""
    store = make_store(customers=5, promotions=20, quota=10_000, window=3600.0)

    def lie(_request: object, answer: dict[str, dict[str, dict[str, int | None]]]) -> object:
        answer["meta"]["pagination"]["total"] = total
        return answer

    store.faults.append(Fault(method="GET", path="v3/promotions", skip=1, times=1000, rewrite=lie))
    outcome = RiggedTool(tmp_path).run(store, "--resource", "promotions")
    assert outcome.status == 4, outcome.text
    assert outcome.summary["unknown"] == 20
    assert outcome.summary["verified"] is False


def test_an_order_of_nobody(make_store: MakeStore, tool: RiggedTool) -> None:
    """An order that does not say whose it is might be anybody's: nothing is deleted."""
    store = make_store(customers=10, orders=3, quota=10_000)
    store.change(next(iter(store.records["orders"])), kind="orders", customer_id=None)
    outcome = tool.run(store, "--spare-with-orders")
    assert outcome.status == 3, outcome.text
    assert "customer_id" in outcome.err
    assert not store.deletes()
