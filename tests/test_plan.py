"""Plan and ledger: what was listed is what goes, now or on --resume, and every id is counted once."""

from __future__ import annotations

import json
import math
import shlex
import subprocess
from collections.abc import Callable, Iterator, Sequence
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
)

DAY = 86_400.0


# --- of a dry run ---------------------------------------------------------------------------------


def test_a_dry_run_is_resumed(store: FakeStore, hurried: RiggedTool) -> None:
    """What was listed is deleted, and nothing else: later sign-ups stay."""
    planned = set(store.customers)
    dry = hurried.run(store, "--dry-run")
    assert dry.status == 0, dry.text
    assert_resumable(dry)
    assert dry.summary["status"] == "planned"
    later = set(store.add(5))
    outcome = hurried.resume(store, dry.folder)
    assert outcome.status == 0, outcome.text
    assert set(store.customers) == later
    assert store.deleted_ids() == dict.fromkeys(planned, 1)
    assert counts(outcome) == {"deleted": 30}
    assert not any(listings(request) for request in store.log if request.number > len(store.log) / 2)


def test_what_goes_while_a_resume_lists(make_store: MakeStore, hurried: RiggedTool) -> None:
    """Where it is read back by listing, only a listing that is complete tells who is still there."""
    store = make_store(customers=0, promotions=300, **QUIET)
    dry = hurried.run(store, "--resource", "promotions", "--limit", "100", "--dry-run")
    planned = sorted(store.records["promotions"])[:100]
    store.faults = [
        Fault(where=listings, skip=skip, after=lambda _, gone=gone: store.remove(gone, kind="promotions"))
        for skip, gone in ((1, planned[0]), (2, planned[1]))
    ]
    outcome = hurried.resume(store, dry.folder)
    assert outcome.status == 0, outcome.text
    assert counts(outcome) == {"deleted": 98, "already_gone": 2}
    assert store.deleted_ids() == dict.fromkeys(planned[2:], 1)


def test_the_ini_s_dry_run_is_ignored(store: FakeStore, hurried: RiggedTool) -> None:
    """N6: the config of a dry run resumes it for real; only --dry-run on argv holds it back."""
    dry = hurried.run(store, dry_run=True)
    again = hurried.resume(store, dry.folder, "--dry-run")
    assert (again.status, again.summary["status"]) == (0, "planned")
    assert not store.deletes()
    outcome = hurried.resume(store, dry.folder, dry_run=True)
    assert outcome.status == 0, outcome.text
    assert not store.customers


def test_what_others_removed_is_already_gone(store: FakeStore, hurried: RiggedTool) -> None:
    """A21: gone, and by no attempt of this run: already_gone, and never sent."""
    dry = hurried.run(store, "--dry-run")
    removed = list(store.customers)[::3]
    store.remove(*removed)
    outcome = hurried.resume(store, dry.folder)
    assert outcome.status == 0, outcome.text
    assert counts(outcome) == {"deleted": 20, "already_gone": 10}
    assert not store.deleted_ids().keys() & set(removed)


def test_all_is_gone(store: FakeStore, hurried: RiggedTool) -> None:
    """A resume of a plan of which nothing is left is complete, however often it is asked for."""
    first = hurried.run(store)
    for _ in range(2):
        before = len(store.deletes())
        outcome = hurried.resume(store, first.folder)
        assert outcome.status == 0, outcome.text
        assert counts(outcome) == {"deleted": 30}
        assert len(store.deletes()) == before


def test_the_printed_command_works(store: FakeStore, tmp_path: Path) -> None:
    """Through the shell, from the same folder, with --yes added: it deletes the rest."""
    tool = Tool(tmp_path)
    store.faults = [Fault("DELETE", skip=1, status=401)]
    folder = tmp_path / "runs of 'today' $HOME"
    tool.runs = folder
    config = store.config(tmp_path)
    renamed = config.rename(config.with_name("my store.ini"))
    outcome = tool(store, renamed, "--yes", "--runs-dir", folder, "--max-concurrent", "1")
    assert outcome.status == 5, outcome.text
    assert_resumable(outcome)
    newcomers = store.add(3)
    command = outcome.summary["resume"] + " --yes"
    done = subprocess.run(
        command, shell=True, cwd=tmp_path, env=tool.environ(store), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert list(store.customers) == newcomers


@posix
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


# --- of an interrupted run ------------------------------------------------------------------------


ENDS: dict[str, dict[str, Any]] = {
    "token refused": {"status": 401},
    "store down": {"status": 500, "times": math.inf},
    "too many requests": {"status": 429, "times": math.inf, "quota_headers": False},
    "redirected": {"status": 302, "headers": {"Location": "/"}},
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_stopped_run_ends_as_if_it_had_not(
    make_store: MakeStore, hurried: RiggedTool, end: dict[str, Any]
) -> None:
    """All that was planned is deleted in the end, and what signed up meanwhile stays."""
    store = make_store(customers=120, **QUIET)
    store.faults = [Fault("DELETE", skip=4, **end)]
    hurried.rig = Rig(speed=1000)
    stopped = hurried.run(store, max_retries=0)
    assert stopped.status == 5, stopped.text
    assert_resumable(stopped)
    store.faults = []
    later = set(store.add(3))
    outcome = hurried.resume(store, stopped.folder)
    assert outcome.status == 0, outcome.text
    assert set(store.customers) == later
    assert outcome.summary["selected"] == 120
    assert counts(outcome) == {"deleted": 120}


def test_deleted_and_already_gone_are_told_apart(make_store: MakeStore, hurried: RiggedTool) -> None:
    """A21: deleted is what an attempt may have done, before or after; the rest was somebody else."""
    store = make_store(customers=50, **QUIET)
    ids = list(store.customers)
    store.faults = [Fault("DELETE", where=names(ids[10]), commit=True, close="reset", after=hurried.kill)]
    assert hurried.run(store, "--max-concurrent", "1").status == KILLED
    (folder,) = hurried.folders()
    assert set(store.customers) == set(ids[20:])
    store.remove(*ids[25:35])
    store.faults = []
    outcome = hurried.resume(store, folder)
    assert outcome.status == 0, outcome.text
    assert counts(outcome) == {"deleted": 40, "already_gone": 10}
    assert store.deleted_ids() == {n: 1 for n in ids if n not in ids[25:35]}


def test_the_count_of_errors_starts_anew(make_store: MakeStore, hurried: RiggedTool) -> None:
    """A run that was stopped by its error rate can be resumed, and may fail as often again."""
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


def test_what_failed_is_tried_again(store: FakeStore, hurried: RiggedTool) -> None:
    """A finished run with failures, resumed once they are mended, ends with 0."""
    victim = min(store.customers)
    store.refuse[victim] = (422, {"title": "locked"})
    first = hurried.run(store)
    assert (first.status, counts(first)) == (4, {"deleted": 29, "failed": 1})
    assert first.failed.keys() == {victim}
    again = hurried.resume(store, first.folder)
    assert (again.status, counts(again)) == (4, {"deleted": 29, "failed": 1})
    store.refuse = {}
    outcome = hurried.resume(store, first.folder)
    assert outcome.status == 0, outcome.text
    assert counts(outcome) == {"deleted": 30}
    assert outcome.failed == {}


def test_outcomes_are_counted_over_all_runs(make_store: MakeStore, hurried: RiggedTool) -> None:
    """N12: however a run is cut into pieces, its counts are those of the run in one piece."""

    def pieces(stops: list[int]) -> Outcome:
        store = make_store(customers=80, **QUIET)
        ids = list(store.customers)
        store.per_item = dict.fromkeys(ids[33:36], (409, "locked"))
        own = RiggedTool(hurried.folder / f"pieces-{len(stops)}")
        own.folder.mkdir()
        resumed: list[str | Path] = []
        for stop in stops:
            store.faults = [Fault("DELETE", skip=stop, status=401)]
            assert own.run(store, "--max-concurrent", "1", *resumed).status == 5
            resumed = ["--resume", *own.folders()]
        store.faults = []
        return own.run(store, *resumed)

    whole, cut = pieces([]), pieces([2, 0, 3])
    assert whole.status == cut.status == 4
    assert counts(whole) == counts(cut) == {"deleted": 77, "failed": 3}
    assert whole.failed == cut.failed


# --- of a killed process --------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_killed_around_a_delete(store: FakeStore, hurried: RiggedTool, moment: str, at: int) -> None:
    """kill -9 while the store holds its n-th DELETE, undone or done: all else is as ever."""
    planned = set(store.customers)
    commit = moment == "after"
    fault = Fault("DELETE", skip=at - 1, commit=commit, close="reset")
    setattr(fault, "after" if commit else "hook", hurried.kill)
    store.faults = [fault]
    assert hurried.run(store, "--max-concurrent", "1").status == KILLED
    done = 10 * (at if commit else at - 1)
    assert len(store.customers) == 30 - done
    (folder,) = hurried.folders()
    store.faults = []
    later = set(store.add(2))
    outcome = hurried.resume(store, folder)
    assert outcome.status == 0, outcome.text
    assert set(store.customers) == later
    assert counts(outcome) == {"deleted": 30}
    twice = {n for n, times in store.deleted_ids().items() if times == 2}
    assert store.deleted_ids().keys() == planned
    assert len(twice) == (0 if commit else 10)  # what a DELETE did is read back, not sent again


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("at", range(1, 9))
def test_killed_around_each_write(store: FakeStore, hurried: RiggedTool, at: int, before: bool) -> None:
    """kill -9 right before and after each fsync: of the backup, the plan, and the journal."""
    planned = set(store.customers)
    hurried.rig = Rig(kill_at_fsync=at, kill_before=before)
    killed = hurried.run(store, "--max-concurrent", "1")
    hurried.rig = Rig()
    later = set(store.add(2))
    (folder,) = hurried.folders()
    if not (folder / "plan.json").exists():
        assert killed.status == KILLED
        assert set(store.customers) == planned | later
        assert not store.deletes()
        assert hurried.resume(store, folder).status == 2
        return
    outcome = hurried.resume(store, folder)
    assert outcome.status == 0, outcome.text
    assert set(store.customers) == later
    assert counts(outcome) == {"deleted": 30}
    assert store.deleted_ids().keys() == planned


def test_killed_while_it_verifies(store: FakeStore, hurried: RiggedTool) -> None:
    """All was sent, and only the first batch proven: a resume proves it, and sends nothing again."""
    store.faults = [hurried.killer(method="GET", where=read_backs, skip=2)]
    assert hurried.run(store).status == KILLED
    (folder,) = hurried.folders()
    assert json.loads((folder / "summary.json").read_text())["status"] == "in_progress"
    before = len(store.deletes())
    outcome = hurried.resume(store, folder)
    assert outcome.status == 0, outcome.text
    assert counts(outcome) == {"deleted": 30}
    assert len(store.deletes()) == before


@pytest.mark.parametrize("request_", ["read-back", "DELETE"])
def test_a_resume_is_killed_too(make_store: MakeStore, hurried: RiggedTool, request_: str) -> None:
    """However often it is killed, the next one takes over."""
    store = make_store(customers=80, **QUIET)
    for at in range(3):
        store.faults = [hurried.killer(method="DELETE", skip=at)]
        if at and request_ == "read-back":
            store.faults = [hurried.killer(method="GET", where=read_backs)]
        resumed: list[str | Path] = ["--resume", *hurried.folders()] if at else []
        assert hurried.run(store, "--max-concurrent", "1", *resumed).status == KILLED
    (folder,) = hurried.folders()
    store.faults = []
    outcome = hurried.resume(store, folder)
    assert outcome.status == 0, outcome.text
    assert not store.customers
    assert counts(outcome) == {"deleted": 80}


# --- what is not to be trusted --------------------------------------------------------------------


@pytest.fixture
def planned(make_store: MakeStore, hurried: RiggedTool) -> Iterator[tuple[FakeStore, Path]]:
    """A dry run's store and folder; whatever the test does, no DELETE is sent."""
    store = make_store(customers=12, **QUIET)
    outcome = hurried.run(store, "--dry-run")
    assert outcome.status == 0, outcome.text
    assert outcome.folder is not None
    store.log.clear()
    yield store, outcome.folder
    assert not store.deletes()
    assert len(store.customers) == 12


def variants(value: Any) -> list[Any]:
    """Other values, that a careless or a clever hand may have put there."""
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
            return [*more, *[[odd, *rest] for odd in (0, -first, str(first), float(first), None)]]
        case list():
            return [[*value, "x"], None]
        case dict():
            return [value | {"name:like": "x"}, [], None]
    return ["x", 1]


def test_a_changed_plan_is_refused(planned: tuple[FakeStore, Path], hurried: RiggedTool) -> None:
    """N2: each field, changed, dropped or added: exit 3, one sentence, and nothing is sent."""
    store, folder = planned
    plan = json.loads((folder / "plan.json").read_text())
    assert {"host", "store_hash", "resource", "filters", "ids", "created_at"} <= plan.keys()
    changed = [plan | {name: other} for name, value in plan.items() for other in variants(value)]
    changed += [{k: v for k, v in plan.items() if k != name} for name in plan]
    changed += [plan | {"note": "mine"}]
    for other in changed:
        (folder / "plan.json").write_text(json.dumps(other))
        status, output = in_process(store, hurried.folder, "--resume", folder, "--yes")
        differs = {k: other.get(k) for k in plan.keys() | other.keys() if other.get(k) != plan.get(k)}
        assert status == 3, (differs, output)
        assert "plan.json" in "".join(output.split())
        assert not store.log
    (folder / "plan.json").write_text(json.dumps(plan))  # another spelling of the same
    assert in_process(store, hurried.folder, "--resume", folder, "--dry-run")[0] == 0


DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda text: b"",
    "half": lambda text: text[: len(text) // 2],
    "without its end": lambda text: text[:-5],
    "a list": lambda text: b"[]",
    "null": lambda text: b"null",
    "not JSON": lambda text: b"hello",
    "not UTF-8": lambda text: b"\xff\xfe" + text,
    "zeros": lambda text: bytes(len(text)),
    "very deep": lambda text: b"[" * 100_000,
    "twice": lambda text: text + text,
    "a huge number": lambda text: text.replace(b'"ids": [', b'"ids": [' + b"9" * 5000 + b","),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_plan_is_refused(
    planned: tuple[FakeStore, Path], hurried: RiggedTool, damage: Callable[[bytes], bytes]
) -> None:
    """Exit 3, a sentence that names it, no traceback, and nothing is sent."""
    store, folder = planned
    path = folder / "plan.json"
    damaged = damage(path.read_bytes())
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)
    status, output = refused_resume(hurried, store, folder)
    assert status == 3, output
    assert "plan.json" in "".join(output.split())
    assert not store.log
    assert path.read_bytes() == damaged


def test_a_foreign_store_hash(planned: tuple[FakeStore, Path], hurried: RiggedTool) -> None:
    """The plan of another store is refused, with both hashes told; nothing is sent."""
    store, folder = planned
    status, output = refused_resume(hurried, store, folder, store_hash="another9")
    assert status == 3, output
    assert "sandbox1" in output
    assert "another9" in output
    assert not store.log


def test_a_foreign_host(planned: tuple[FakeStore, Path], make_store: MakeStore, hurried: RiggedTool) -> None:
    """The plan of a store elsewhere is refused; neither host is asked anything."""
    store, folder = planned
    other = make_store(customers=12, **QUIET)
    status, output = refused_resume(hurried, other, folder)
    assert status == 3, output
    assert store.host in "".join(output.split())
    assert not other.log
    assert not store.log


@pytest.mark.parametrize("contents", [None, [], ["backup.jsonl", "journal.jsonl"], "a file"])
def test_a_folder_without_a_plan(
    planned: tuple[FakeStore, Path], hurried: RiggedTool, tmp_path: Path, contents: Any
) -> None:
    """No folder, an empty one, that of a run which never had a plan, a file: exit 2."""
    store, _ = planned
    folder = tmp_path / "elsewhere"
    if contents == "a file":
        folder.write_text("")
    elif contents is not None:
        folder.mkdir()
        for name in contents:
            (folder / name).write_text("")
    status, output = refused_resume(hurried, store, folder)
    assert status == 2, output
    wanted = f"name its folder: --resume {tmp_path}" if contents == "a file" else "plan.json"
    assert "".join(wanted.split()) in "".join(output.split())
    assert not store.log


SELECTIONS: list[Sequence[str]] = [
    ("--resource", "customers"),
    ("--filter", "name:like=x"),
    ("--match", "first_name=x"),
    ("--ids", "ids.txt"),
    ("--keep", "ids.txt"),
    ("--spare-with-orders",),
    ("--limit", "1"),
]


@pytest.mark.parametrize("options", SELECTIONS, ids=lambda options: options[0])
def test_a_selection_on_argv(
    planned: tuple[FakeStore, Path], hurried: RiggedTool, options: Sequence[str]
) -> None:
    """The selection is the plan's: with --resume it is an error to give another."""
    store, folder = planned
    (hurried.folder / "ids.txt").write_text("12\n")
    status, output = refused_resume(hurried, store, folder, *options)
    assert status == 2, output
    assert "resume" in output
    assert options[0] in output
    assert not store.log


def test_a_selection_in_the_ini_is_ignored(store: FakeStore, tool: RiggedTool) -> None:
    """--resume deletes what was planned, whatever the ini selects by now, lists that went included."""
    spam = [n for n, record in store.customers.items() if "@shop-mail" not in record["email"]]
    keep = tool.folder / "keep.txt"
    keep.write_text(f"{spam[0]}\n")
    config = store.config(tool.folder, match="email=@(?!shop-mail)", keep=keep, dry_run=True)
    planned = tool(store, config)
    assert planned.status == 0, planned.text
    keep.unlink()
    late = store.add(2, email="late@mailbin.example")
    before, wanted = set(store.customers), set(spam[1:])
    assert wanted
    other = {"match": "email=@shop-mail", "keep": keep, "limit": 1, "resource": "products"}
    outcome = tool.resume(store, planned.folder, filters={"company:in": "Acme Corp"}, **other)
    assert outcome.status == 0, outcome.text
    assert before - set(store.customers) == wanted == set(store.deleted_ids())
    assert set(late) < set(store.customers)
    assert {record["id"] for record in outcome.backup} == wanted


# --- too late, or unasked -------------------------------------------------------------------------


def test_an_old_plan_with_yes(store: FakeStore, hurried: RiggedTool) -> None:
    """--yes does not do for a plan that is over a day old: exit 3, its age, nothing deleted."""
    dry = hurried.run(store, "--dry-run")
    hurried.rig = Rig(later=DAY + 60)
    outcome = hurried.resume(store, dry.folder)
    assert outcome.status == 3, outcome.text
    assert_says(outcome, "1 day")
    assert_resumable(outcome)
    assert not store.deletes()
    assert outcome.summary["status"] == "planned"
    hurried.rig = Rig(later=DAY - 60)
    assert hurried.resume(store, dry.folder).status == 0
    assert not store.customers


@pytest.mark.parametrize("ahead", [60.0, 40 * DAY])
def test_a_plan_of_the_future(store: FakeStore, hurried: RiggedTool, ahead: float) -> None:
    """A wall clock that was set back does no harm: the plan is done, or refused with a sentence."""
    hurried.rig = Rig(later=ahead)
    dry = hurried.run(store, "--dry-run")
    assert dry.status == 0, dry.text
    hurried.rig = Rig()
    outcome = hurried.resume(store, dry.folder)
    assert outcome.status in (0, 3), outcome.text
    assert bool(store.customers) is bool(outcome.status)


def test_a_resume_without_a_terminal_needs_yes(store: FakeStore, hurried: RiggedTool) -> None:
    """A plan is not carried out unasked: exit 3, and the command is printed again."""
    dry = hurried.run(store, "--dry-run")
    assert dry.folder is not None
    outcome = hurried(store, store.config(hurried.folder), "--resume", dry.folder)
    assert outcome.status == 3, outcome.text
    assert_resumable(outcome)
    assert not store.deletes()


# --- what a resume reads --------------------------------------------------------------------------


@pytest.mark.parametrize("total", [7, "0", None])
def test_a_re_reading_that_cannot_be_trusted(store: FakeStore, hurried: RiggedTool, total: Any) -> None:
    """N2, N10: what may still be there is not taken for gone: it is deleted, and never out of the plan."""
    planned = set(store.customers)
    dry = hurried.run(store, "--dry-run")

    def distrusted(_request: Request, answer: Any) -> Any:
        return answer | {"data": [], "meta": {"pagination": {"total": total}}}

    store.faults = [Fault("GET", where=read_backs, rewrite=distrusted)]
    outcome = hurried.resume(store, dry.folder)
    assert outcome.status in (0, 5), outcome.text
    assert outcome.summary["already_gone"] == 0
    assert store.deleted_ids().keys() <= planned
    if outcome.status == 0:
        assert counts(outcome) == {"deleted": 30}


def test_the_command_keeps_the_guard_and_drops_what_is_off(store: FakeStore, hurried: RiggedTool) -> None:
    """The printed command repeats --max-delete of the command line, and no switch that was off."""
    store.faults = [Fault("DELETE", skip=1, status=401)]
    outcome = hurried.run(store, "--max-delete", "50", "--no-json", max_delete=10)
    assert outcome.status == 5, outcome.text
    assert "--max-delete 50" in outcome.summary["resume"]
    assert "--json" not in outcome.summary["resume"]
