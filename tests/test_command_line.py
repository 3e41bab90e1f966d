"""The command line: the main job, end to end, and its options."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import pytest

from tests.rigged import QUIET, SUMMARY_KEYS, TOOL, MakeStore, Outcome, RiggedTool, Tool


def listed(record: dict[str, Any]) -> dict[str, Any]:
    """The record as a list of the API shows it: ten addresses and attributes at most."""
    cut = {name: record[name][:10] for name in ("addresses", "attributes")}
    return record | cut


def resume_is_printed(outcome: Outcome) -> bool:
    command = outcome.summary["resume"]
    assert f"--resume {outcome.folder}" in command or f"--resume runs{os.sep}" in command
    assert "--yes" not in command
    return command in outcome.err


def test_deletes_all_customers_once(make_store: MakeStore, installed: Tool) -> None:
    """1,003 customers: none left, each id sent once, no 429, few connections, all on record."""
    store = make_store(customers=1003, quota=150, window=3.0, latency=0.01)
    before = dict(store.customers)
    outcome = installed(store, None, "--yes")
    assert outcome.status == 0, outcome.text
    assert not store.customers
    assert store.deleted_ids() == dict.fromkeys(before, 1)
    assert not [request for request in store.log if request.status == 429]
    assert store.max_in_flight <= 5
    assert store.connections <= 6

    summary = outcome.summary
    assert set(summary) == SUMMARY_KEYS
    assert (summary["selected"], summary["deleted"], summary["verified"]) == (1003, 1003, True)
    assert (summary["status"], summary["exit_status"], summary["reason"]) == ("completed", 0, None)
    assert (summary["store_hash"], summary["resource"]) == (store.store_hash, "customers")
    assert (summary["requests"], summary["retries"]) == (len(store.log), 0)
    assert summary["resume"] is None
    assert summary["started_at"] < summary["finished_at"]

    plan = outcome.plan
    assert plan["ids"] == list(before)
    assert (plan["host"], plan["store_hash"]) == (store.host, store.store_hash)
    assert (plan["resource"], plan["filters"]) == ("customers", {})
    assert re.fullmatch("[0-9a-f]{64}", plan["sha256"])
    assert outcome.failed == {}
    records = {record["id"]: record for record in outcome.backup}
    for number, record in before.items():
        assert listed(record).items() <= records[number].items()
    assert len(records) == 1003


def test_version() -> None:
    """--version needs no config, and says nothing else."""
    command = [sys.executable, str(TOOL), "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"bulk_delete\.py \d+\.\d+\.\d+\n", done.stdout)
    assert not done.stderr


@pytest.mark.parametrize("by", ["--dry-run", "ini"])
def test_dry_run(make_store: MakeStore, tool: RiggedTool, by: str) -> None:
    """N6: a dry run sends GET only, says what would be deleted, and leaves a plan to resume."""
    store = make_store(customers=260, **QUIET)
    config = store.config(tool.folder, **({"dry_run": True} if by == "ini" else {}))
    outcome = tool(store, config, *([by] if by != "ini" else []))
    assert outcome.status == 0, outcome.text
    assert {request.method for request in store.log} == {"GET"}
    assert len(store.customers) == 260
    assert outcome.plan["ids"] == list(store.customers)
    assert len(outcome.backup) == 260
    summary = outcome.summary
    assert (summary["status"], summary["not_attempted"], summary["deleted"]) == ("planned", 260, 0)
    assert "260 customers" in outcome.err
    assert outcome.err.count("@") == 5
    assert resume_is_printed(outcome)


def test_no_dry_run_wins_over_the_ini(make_store: MakeStore, tool: RiggedTool) -> None:
    """--no-dry-run on the command line deletes although the ini says dry_run = yes."""
    store = make_store(customers=30, **QUIET)
    outcome = tool(store, store.config(tool.folder, dry_run=True), "--no-dry-run", "--yes")
    assert (outcome.status, len(store.customers)) == (0, 0)


@pytest.mark.parametrize("options", [("--yes",), ("--dry-run",), ()])
def test_empty_store(make_store: MakeStore, tool: RiggedTool, options: tuple[str, ...]) -> None:
    """N1: nothing selected is no error, needs no confirmation, and is said."""
    store = make_store(customers=0, **QUIET)
    outcome = tool(store, None, *options)
    assert outcome.status == 0, outcome.text
    assert "nothing is selected" in outcome.err.lower()
    assert (outcome.summary["selected"], outcome.summary["status"]) == (0, "completed")
    assert not store.deletes()


@pytest.mark.parametrize(
    ("ini", "options", "expected"),
    [({}, (), 10), ({"batch_size": 3}, (), 3), ({"batch_size": 3}, ("--batch-size", "7"), 7)],
)
def test_batch_size(
    make_store: MakeStore, tool: RiggedTool, ini: dict[str, int], options: tuple[str, ...], expected: int
) -> None:
    """N1: ten ids a DELETE unless the ini says less; the command line wins over the ini."""
    store = make_store(customers=21, **QUIET)
    outcome = tool(store, store.config(tool.folder, **ini), "--yes", *options)
    assert outcome.status == 0
    sizes = sorted((len(request.ids) for request in store.deletes()), reverse=True)
    whole, rest = divmod(21, expected)
    assert sizes == [expected] * whole + [rest] * bool(rest)
