"""Listing, plan, ledger and resume: what was listed is deleted, and counted once."""

from __future__ import annotations

import itertools
import json
import math
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fake_store import FakeStore, Fault, Request
from tests.launcher import Rig
from tests.rigged import (
    KILLED,
    QUIET,
    MakeStore,
    Outcome,
    RiggedTool,
    Tool,
    assert_resumable,
    assert_says,
    counts,
    in_process,
    listings,
    names,
    posix,
    read_backs,
    refused_resume,
    write,
)

DAY = 86_400.0
REJECTED: dict[str, Any] = {"status": 401, "times": math.inf}  # which is tried once more

# --- a listing is complete, or not used -----------------------------------------------------


def pages_alone(_request: Request, answer: Any) -> Any:
    """The total counts the records of the page alone."""
    pagination = answer["meta"]["pagination"]
    pagination |= {"total": len(answer["data"]), "total_pages": 1}
    return answer


def total(value: int) -> Callable[[Request, Any], Any]:
    def rewrite(_request: Request, answer: Any) -> Any:
        answer["meta"]["pagination"]["total"] = value
        return answer

    return rewrite


@pytest.mark.parametrize(
    ("count", "rewrite"),
    [
        (600, pages_alone),
        (200, total(199)),
        (600, total(599)),
    ],
)
def test_wrong_total_makes_no_plan(
    make_store: MakeStore,
    hurried: RiggedTool,
    count: int,
    rewrite: Callable[[Request, Any], Any],
) -> None:
    """Nothing is deleted, and nothing is called all records of the store."""
    store = make_store(customers=0, brands=count, **QUIET)
    store.faults = [Fault("GET", "v3/catalog/brands", times=math.inf, rewrite=rewrite)]
    outcome = hurried.run(store, "--resource", "brands")
    assert outcome.status == 3, outcome.text
    assert not store.deletes()
    assert "ALL" not in outcome.text


def test_full_last_page_is_not_the_end(make_store: MakeStore, hurried: RiggedTool) -> None:
    store = make_store(customers=500, **QUIET)
    outcome = hurried.run(store, "--dry-run")
    assert outcome.summary["selected"] == 500
    assert max(int(r.query["page"]) for r in store.log if listings(r)) == 3


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        ((), True),
        (("--no-backup", "--match", "email=@"), False),
        (("--no-backup", "--match", "addresses.0.country_code=."), True),
    ],
)
def test_sub_resources_where_needed(
    store: FakeStore, hurried: RiggedTool, options: tuple[str, ...], needed: bool
) -> None:
    assert hurried.run(store, "--dry-run", *options).status == 0
    asked = [request for request in store.log if listings(request)]
    assert all(("include" in request.query) == needed for request in asked)


def test_backup_is_strict_json(store: FakeStore, hurried: RiggedTool) -> None:
    """A record a line, whatever separates lines within it, and without NaN."""
    first, second, *_ = store.customers
    company = "a\u2028b\u2029c\x85d"
    store.change(first, company=company)
    store.change(second, notes=float("nan"), company=float("inf"))
    folder = hurried.run(store, "--dry-run").folder
    assert folder is not None
    text = (folder / "backup.jsonl").read_text(encoding="utf-8")
    assert not re.search(r": (NaN|Infinity)", text)
    records = {record["id"]: record for record in map(json.loads, text.splitlines())}
    assert records.keys() == set(store.customers)
    assert records[first]["company"] == company


# --- resuming a dry run ---------------------------------------------------------------------


def test_resume_executes_a_dry_run(store: FakeStore, hurried: RiggedTool) -> None:
    """N6: what was listed is deleted, for real whatever the ini says, later sign-ups stay."""
    planned = set(store.customers)
    dry = hurried.run(store, dry_run=True)
    assert dry.status == 0, dry.text
    assert_resumable(dry)
    assert dry.summary["status"] == "planned"
    later = set(store.add(5))
    again = hurried.resume(store, dry.folder, "--dry-run")
    assert (again.status, again.summary["status"]) == (0, "planned")
    assert not store.deletes()
    outcome = hurried.resume(store, dry.folder, dry_run=True)
    assert outcome.status == 0, outcome.text
    assert set(store.customers) == later
    assert store.deleted_ids() == dict.fromkeys(planned, 1)
    assert counts(outcome) == {"deleted": 30}


def test_others_deleted_before_a_resume(store: FakeStore, hurried: RiggedTool) -> None:
    """They are never sent."""
    dry = hurried.run(store, "--dry-run")
    removed = list(store.customers)[::3]
    store.remove(*removed)
    outcome = hurried.resume(store, dry.folder)
    assert outcome.status == 0, outcome.text
    assert counts(outcome) == {"deleted": 20, "already_gone": 10}
    assert not store.deleted_ids().keys() & {*removed}


def test_others_delete_while_a_resume_reads(make_store: MakeStore, hurried: RiggedTool) -> None:
    """Also where the list has no id filter."""
    store = make_store(customers=0, promotions=300, **QUIET)
    options = ("--resource", "promotions", "--limit", "100")
    dry = hurried.run(store, *options, "--dry-run")
    planned = sorted(store.records["promotions"])[:100]

    def remove(number: int) -> Callable[[Request], None]:
        return lambda _: store.remove(number, kind="promotions")

    reads = {"method": "GET", "path": "v3/promotions*"}
    store.faults = [
        Fault(skip=1, after=remove(planned[0]), **reads),  # type: ignore[arg-type]
        Fault(skip=2, after=remove(planned[1]), **reads),  # type: ignore[arg-type]
    ]
    outcome = hurried.resume(store, dry.folder)
    assert outcome.status == 0, outcome.text
    assert outcome.summary["deleted"] + outcome.summary["already_gone"] == 100
    assert outcome.summary["deleted"] >= 98
    assert len(store.records["promotions"]) == 200
    assert store.deleted_ids().keys() <= {*planned}


# --- the printed command --------------------------------------------------------------------


@posix
def test_printed_command(store: FakeStore, tmp_path: Path) -> None:
    """Through a shell, with --yes added; it repeats --max-delete, and no switch that is off."""
    tool = Tool(tmp_path)
    store.faults = [Fault("DELETE", skip=1, **REJECTED)]
    tool.runs = tmp_path / "runs of 'today' $HOME"
    config = store.config(tmp_path, max_delete=10)
    renamed = config.rename(config.with_name("my store.ini"))
    options = ("--runs-dir", tool.runs, "--max-delete", "50", "--no-json")
    outcome = tool(store, renamed, "--yes", *options, "--max-concurrent", "1")
    assert outcome.status == 5, outcome.text
    assert_resumable(outcome)
    command = outcome.summary["resume"]
    assert "--max-delete 50" in command
    assert "--json" not in command
    store.faults, newcomers = [], store.add(3)
    done = subprocess.run(
        f"{command} --yes",
        shell=True,
        cwd=tmp_path,
        env=tool.environ(store),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert list(store.customers) == newcomers


@pytest.mark.parametrize("options", [(), ("--batch-size", "100")])
def test_printed_command_of_another_resource(
    make_store: MakeStore, hurried: RiggedTool, options: tuple[str, ...]
) -> None:
    store = make_store(customers=0, products=300, **QUIET)
    dry = hurried(
        store, store.config(hurried.folder, resource="products"), "--dry-run", *options
    )
    assert dry.status == 0, dry.text
    words = shlex.split(dry.summary["resume"])
    process = hurried.start(store, Path(words[3]), *words[4:], "--yes")
    outcome = hurried.finish(process, dry.folder)
    assert outcome.status == 0, outcome.text
    sizes = [len(request.ids) for request in store.deletes()]
    assert sorted(sizes) == ([100, 100, 100] if options else [50, 250])


# --- resuming an interrupted run ------------------------------------------------------------

ENDS: list[dict[str, Any]] = [
    {"status": 401},
    {"status": 500},
    {"status": 429, "quota_headers": False},
    {"status": 302, "headers": {"Location": "/"}},
]


def test_stopped_and_resumed_run_ends_like_an_unbroken_one(
    make_store: MakeStore, hurried: RiggedTool
) -> None:
    """N12: however it was stopped, and with the same failures; what signed up since stays."""

    def pieces(stops: list[int]) -> Outcome:
        store = make_store(customers=120, **QUIET)
        ids = list(store.customers)
        store.per_item = dict.fromkeys(ids[33:36], (409, "locked"))
        own = RiggedTool(hurried.folder / f"pieces-{len(stops)}", Rig(speed=1000))
        own.folder.mkdir()
        resumed: list[str | Path] = []
        for stop, end in zip(stops, ENDS, strict=False):
            store.faults = [Fault("DELETE", skip=stop, times=math.inf, **end)]
            stopped = own.run(store, "--max-concurrent", "1", *resumed, max_retries=0)
            assert stopped.status == 5, stopped.text
            resumed = ["--resume", *own.folders()]
        store.faults, later = [], store.add(3) if stops else []
        outcome = own.run(store, *resumed)
        assert set(store.customers) == {*ids[33:36], *later}
        return outcome

    whole, cut = pieces([]), pieces([2, 0, 3, 1])
    assert whole.status == cut.status == 4
    assert counts(whole) == counts(cut) == {"deleted": 117, "failed": 3}
    assert whole.failed == cut.failed


def test_counts_of_a_resume(make_store: MakeStore, hurried: RiggedTool) -> None:
    """It reads back what is not verified yet, and no more; nothing verified is sent again."""
    store = make_store(customers=600, **QUIET)
    store.faults = [Fault("DELETE", skip=2, **REJECTED)]
    first = hurried.run(store, "--max-concurrent", "1")
    assert first.status == 5, first.text
    verified = set(first.plan["ids"][:10])
    before = len(store.log)
    store.faults = []
    outcome = hurried.resume(store, first.folder)
    assert outcome.status == 0, outcome.text
    assert counts(outcome) == {"deleted": 600}
    assert outcome.summary["started_at"] == first.summary["started_at"]
    assert outcome.summary["requests"] == len(store.log) - before
    assert not any(verified & {*request.ids} for request in store.log[before:])


def test_resume_without_the_summary(store: FakeStore, hurried: RiggedTool) -> None:
    """Before anything is read, too."""
    store.faults = [Fault("DELETE", skip=1, **REJECTED)]
    first = hurried.run(store, "--max-concurrent", "1")
    assert first.folder is not None
    assert counts(first)["deleted"] == 10
    (first.folder / "summary.json").unlink()
    store.faults = [Fault("GET", "v2/store", **REJECTED)]
    refused = hurried.resume(store, first.folder, "--json")
    assert json.loads(refused.out)["deleted"] == 10


def test_already_gone_after_a_kill(make_store: MakeStore, hurried: RiggedTool) -> None:
    """Deleted is what an attempt of any session may have deleted, the rest somebody else."""
    store = make_store(customers=50, **QUIET)
    ids = list(store.customers)
    committed = {"commit": True, "close": "reset", "after": hurried.kill}
    store.faults = [Fault("DELETE", where=names(ids[10]), **committed)]  # type: ignore[arg-type]
    assert hurried.run(store, "--max-concurrent", "1").status == KILLED
    (folder,) = hurried.folders()
    assert set(store.customers) == set(ids[20:])
    store.remove(*ids[25:35])
    store.faults = []
    outcome = hurried.resume(store, folder)
    assert outcome.status == 0, outcome.text
    assert counts(outcome) == {"deleted": 40, "already_gone": 10}
    assert store.deleted_ids() == {n: 1 for n in ids if n not in ids[25:35]}


def test_batch_that_was_not_sent_before_a_stop(store: FakeStore, hurried: RiggedTool) -> None:
    """A later session deletes it, though that one was killed before the answer."""
    store.faults = [Fault("DELETE", skip=1, **REJECTED)]
    first = hurried.run(store, "--max-concurrent", "1")
    assert counts(first) == {"deleted": 10, "not_attempted": 20}
    committed = {"commit": True, "close": "reset", "after": hurried.kill}
    last = names(first.plan["ids"][-1])
    store.faults = [Fault("DELETE", where=last, **committed)]  # type: ignore[arg-type]
    assert hurried.resume(store, first.folder, "--max-concurrent", "1").status == KILLED
    outcome = hurried.resume(store, first.folder)
    assert outcome.status == 0, outcome.text
    assert counts(outcome) == {"deleted": 30}


def test_failure_after_a_kill_is_kept(store: FakeStore, hurried: RiggedTool) -> None:
    """It was in flight when the first session was killed, and rejected in the second."""
    locked = list(store.customers)[15]
    store.faults = [Fault("DELETE", where=names(locked), close="reset", after=hurried.kill)]
    assert hurried.run(store, "--max-concurrent", "1").status == KILLED
    (folder,) = hurried.folders()
    store.faults, store.per_item = [], {locked: (409, "locked")}
    assert counts(hurried.resume(store, folder)) == {"deleted": 29, "failed": 1}
    canceled = hurried(store, store.config(hurried.folder), "--resume", folder)
    assert canceled.status == 3, canceled.text
    assert counts(canceled) == {"deleted": 29, "failed": 1}
    assert canceled.failed == {locked: "409 locked"}


def test_resume_retries_failures(make_store: MakeStore, hurried: RiggedTool) -> None:
    store = make_store(customers=60, **QUIET)
    ids = list(store.customers)
    store.per_item = dict.fromkeys(ids[:12], (409, "locked"))
    stopped = hurried.run(store, "--max-concurrent", "1")
    assert stopped.status == 5, stopped.text
    assert stopped.summary["failed"] >= 11
    for number in ids[9:12]:
        del store.per_item[number]
    outcome = hurried.resume(store, stopped.folder)
    assert outcome.status == 4, outcome.text
    assert counts(outcome) == {"deleted": 51, "failed": 9}
    assert set(store.customers) == set(ids[:9]) == outcome.failed.keys()
    store.per_item = {}
    outcome = hurried.resume(store, stopped.folder)
    assert outcome.status == 0, outcome.text
    assert counts(outcome) == {"deleted": 60}
    assert outcome.failed == {}


# --- resuming a killed run ------------------------------------------------------------------


def test_killed_around_each_fsync(make_store: MakeStore, hurried: RiggedTool) -> None:
    """Right before and after each fsync of records, plan and journal, after a summary."""
    moments = [*itertools.product((3, 4, 5, 6), (True, False)), (7, True), (8, False)]
    moments += [(10, True)]
    for at, before in moments:
        store = make_store(customers=30, **QUIET)
        planned = set(store.customers)
        folder = hurried.folder / f"killed-{at}-{before}"
        folder.mkdir()
        tool = RiggedTool(folder, Rig(speed=1.0, kill_at_fsync=at, kill_before=before))
        killed = tool.run(store, "--max-concurrent", "1")
        tool.rig, later = Rig(), set(store.add(2))
        (run_folder,) = tool.folders()
        if not (run_folder / "plan.json").exists():
            assert killed.status == KILLED
            assert set(store.customers) == planned | later
            assert not store.deletes()
            assert tool.resume(store, run_folder).status == 2
            continue
        outcome = tool.resume(store, run_folder)
        assert outcome.status == 0, outcome.text
        assert set(store.customers) == later
        assert counts(outcome) == {"deleted": 30}
        assert store.deleted_ids().keys() == planned


def test_killed_again_and_again(make_store: MakeStore, hurried: RiggedTool) -> None:
    """While deleting, while a resume reads, and while verifying: the next one takes over."""
    store = make_store(customers=80, **QUIET)
    kills: list[dict[str, Any]] = [
        {"method": "DELETE"},
        {"method": "DELETE", "skip": 1},
        {"method": "GET", "where": read_backs},
        {"method": "GET", "where": lambda r: read_backs(r) and not store.customers},
    ]
    for place, kill in enumerate(kills):
        store.faults = [hurried.killer(**kill)]
        resumed: list[str | Path] = ["--resume", *hurried.folders()] if place else []
        assert hurried.run(store, "--max-concurrent", "1", *resumed).status == KILLED
    (folder,) = hurried.folders()
    assert json.loads((folder / "summary.json").read_text())["status"] == "in_progress"
    store.faults, sent = [], len(store.deletes())
    for _ in range(2):  # and a resume that finds nothing left to do
        outcome = hurried.resume(store, folder)
        assert outcome.status == 0, outcome.text
        assert counts(outcome) == {"deleted": 80}
        assert len(store.deletes()) == sent


# --- plans that are refused -----------------------------------------------------------------


@pytest.fixture
def planned(make_store: MakeStore, hurried: RiggedTool) -> Iterator[tuple[FakeStore, Path]]:
    """Yield store and folder of a dry run; whatever the test does, the store is not asked."""
    store = make_store(customers=12, **QUIET)
    outcome = hurried.run(store, "--dry-run")
    assert outcome.folder is not None, outcome.text
    store.log.clear()
    yield store, outcome.folder
    assert not store.log
    assert len(store.customers) == 12


def one_word(text: str) -> str:
    """Return it without line breaks and spaces: messages are wrapped."""
    return "".join(text.split())


def variants(value: Any) -> list[Any]:
    """Return other values that a careless or a clever hand may have put there."""
    match value:
        case bool():
            return [not value, None]
        case int():
            return [value + 1, -value - 1, str(value), None]
        case str():
            return [value + "x", value[:-1], "", None]
        case [int(), *_]:
            first, *rest = value
            more = [[*value, first], [*value, 10**9], [*rest, first], [True, *rest], []]
            return [*more, *[[odd, *rest] for odd in (0, -first, str(first), None)]]
        case list():
            return [[*value, "x"], None]
        case dict():
            return [value | {"name:like": "x"}, [], None]
    return ["x", 1]


def test_changed_plan(planned: tuple[FakeStore, Path], hurried: RiggedTool) -> None:
    """N2: each field, changed, dropped or added; another spelling of the same is no change."""
    store, folder = planned
    path = folder / "plan.json"
    plan = json.loads(path.read_text())
    assert {"host", "store_hash", "resource", "filters", "ids", "created_at"} <= plan.keys()
    changed = [
        plan | {name: other} for name, value in plan.items() for other in variants(value)
    ]
    changed += [{k: v for k, v in plan.items() if k != name} for name in plan]
    changed += [plan | {"note": "mine"}]
    for other in changed:
        path.write_text(json.dumps(other))
        status, output = in_process(store, hurried.folder, "--resume", folder, "--yes")
        assert status == 3, (other, output)
        assert "plan.json" in one_word(output)
        assert not store.log
    path.write_text(json.dumps(plan))
    status, output = in_process(store, hurried.folder, "--resume", folder, "--dry-run")
    assert status == 0, output
    store.log.clear()


def test_damaged_plan(planned: tuple[FakeStore, Path], hurried: RiggedTool) -> None:
    store, folder = planned
    path = folder / "plan.json"
    whole = path.read_bytes()
    for damaged in (
        b"",
        whole[: len(whole) // 2],
        whole[:-5],
        b"[]",
        b"null",
        b"hello",
        b"\xff\xfe" + whole,
        bytes(len(whole)),
        b"[" * 100_000,
        whole + whole,
        re.sub(rb'("ids": ?\[)', rb"\g<1>" + b"9" * 5000 + b",", whole),
    ):
        assert damaged != whole
        path.write_bytes(damaged)
        status, output = in_process(store, hurried.folder, "--resume", folder, "--yes")
        assert status == 3, output
        assert "plan.json" in one_word(output)
        assert path.read_bytes() == damaged


def test_plan_of_another_store(
    planned: tuple[FakeStore, Path], make_store: MakeStore, hurried: RiggedTool
) -> None:
    """By its hash, or by its host; both are named, and neither store is asked anything."""
    store, folder = planned
    status, output = refused_resume(hurried, store, folder, store_hash="another9")
    assert status == 3, output
    assert "sandbox1" in output
    assert "another9" in output
    other = make_store(customers=12, **QUIET)
    status, output = refused_resume(hurried, other, folder)
    assert status == 3, output
    assert store.host in one_word(output)
    assert not other.log


def test_folder_without_a_plan(planned: tuple[FakeStore, Path], hurried: RiggedTool) -> None:
    """None at all, a file, an empty one, or one of a run that never had a plan: exit 2."""
    store, _ = planned
    folders = [hurried.folder / name for name in ("none", "a-file", "empty", "early")]
    folders[1].write_text("")
    for folder in folders[2:]:
        folder.mkdir()
    for name in ("backup.jsonl", "journal.jsonl"):
        (folders[3] / name).write_text("")
    for folder in folders:
        status, output = refused_resume(hurried, store, folder)
        assert status == 2, output
        wanted = str(hurried.folder) if folder.is_file() else "plan.json"
        assert one_word(wanted) in one_word(output)


def test_selection_options_of_a_resume(
    planned: tuple[FakeStore, Path], hurried: RiggedTool
) -> None:
    store, folder = planned
    path = str(write(hurried, "12\n"))
    for options in (
        ("--resource", "customers"),
        ("--filter", "name:like=x"),
        ("--match", "first_name=x"),
        ("--ids", path),
        ("--keep", path),
        ("--spare-with-orders",),
        ("--limit", "1"),
    ):
        status, output = refused_resume(hurried, store, folder, *options)
        assert status == 2, output
        assert "--resume" in output
        assert options[0] in output


def test_selection_in_the_ini_of_a_resume(store: FakeStore, hurried: RiggedTool) -> None:
    """Whatever the ini selects by now, and though the lists are gone."""
    spam = [n for n, record in store.customers.items() if "@shop-mail" not in record["email"]]
    assert len(spam) > 1
    keep = write(hurried, f"{spam[0]}\n")
    match = "email=@(?!shop-mail)"
    dry = hurried(store, store.config(hurried.folder, match=match, keep=keep, dry_run=True))
    assert dry.status == 0, dry.text
    keep.unlink()
    late = store.add(2, email="late@mailbin.example")
    before = set(store.customers)
    filters = {"company:in": "Acme Corp"}
    other = {"match": match, "keep": keep, "limit": 1, "resource": "products"}
    outcome = hurried.resume(store, dry.folder, filters=filters, **other)
    assert outcome.status == 0, outcome.text
    assert before - set(store.customers) == set(spam[1:]) == set(store.deleted_ids())
    assert set(late) < set(store.customers)
    assert {record["id"] for record in outcome.backup} == set(spam[1:])


@pytest.mark.parametrize(
    ("written", "resumed", "status"),
    [(0.0, DAY + 60, 3), (0.0, DAY - 60, 0), (60.0, 0.0, 0), (40 * DAY, 0.0, 3)],
)
def test_age_of_a_plan(
    store: FakeStore, hurried: RiggedTool, written: float, resumed: float, status: int
) -> None:
    """Nor one that is dated in the future, beyond what clocks differ by."""
    hurried.rig = Rig(later=written)
    dry = hurried.run(store, "--dry-run")
    hurried.rig = Rig(later=resumed)
    outcome = hurried.resume(store, dry.folder)
    assert outcome.status == status, outcome.text
    assert bool(store.customers) is bool(status)
    assert bool(store.deletes()) is not bool(status)
    if resumed > DAY:
        assert_says(outcome, "1 day")
        assert_resumable(outcome)
        assert outcome.summary["status"] == "planned"


def test_resume_without_a_terminal_needs_yes(store: FakeStore, hurried: RiggedTool) -> None:
    dry = hurried.run(store, "--dry-run")
    assert dry.folder is not None
    outcome = hurried(store, store.config(hurried.folder), "--resume", dry.folder)
    assert outcome.status == 3, outcome.text
    assert_resumable(outcome)
    assert not store.deletes()


@pytest.mark.parametrize("count", [7, "0", None])
def test_resume_with_invalid_responses(
    store: FakeStore, hurried: RiggedTool, count: Any
) -> None:
    """N2, N10: what may still exist is deleted."""
    dry = hurried.run(store, "--dry-run")
    body = {"data": [], "meta": {"pagination": {"total": count}}}
    store.faults = [Fault("GET", where=read_backs, status=200, body=body)]
    outcome = hurried.resume(store, dry.folder)
    assert outcome.status in (0, 5), outcome.text
    assert outcome.summary["already_gone"] == 0
    assert store.deleted_ids().keys() <= {*outcome.plan["ids"]}
    if outcome.status == 0:
        assert counts(outcome) == {"deleted": 30}
