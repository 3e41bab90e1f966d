"""The README's cookbook: every command there, run in the sandbox as it is printed, deletes what it says."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fake_store import ADA, Sandbox
from tests.rigged import RiggedTool

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")
RECIPES: dict[str, str] = dict(
    re.findall(r"^# (.+)\n(python bulk_delete\.py .+)$", README.split("### Cookbook")[1], re.MULTILINE)
)
Record = dict[str, Any]


Lists = dict[str, set[str]]  # the entries of the lists that the sandbox writes, by the file's name


def _listed(record: Record, entries: set[str]) -> bool:
    return record["email"] in entries or str(record["id"]) in entries


def _spring_bots(record: Record, _: Lists) -> bool:
    throw_away = ("@mailbin.example", "@spam-drop.example")
    return bool(record["date_created"].startswith("2024") and record["email"].endswith(throw_away))


def _country(record: Record, _: Lists) -> bool:
    addresses = record["addresses"]
    return bool(addresses) and addresses[0]["country_code"] in ("BR", "JP")


def _not_staff(record: Record, lists: Lists) -> bool:
    return not _listed(record, lists["staff.txt"])


# What each recipe is to delete, as the test computes it; None: told apart below.
WANTED: list[tuple[str, Callable[[Record, Lists], bool] | None]] = [
    ("customers", _spring_bots),
    ("customers", lambda record, _: "http" in record["last_name"]),
    ("customers", lambda record, lists: _listed(record, lists["merchant.csv"])),
    (
        "customers",
        lambda record, lists: _listed(record, lists["addresses.txt"]) and _not_staff(record, lists),
    ),
    ("customers", _not_staff),
    ("customers", lambda record, _: not record["email"].endswith("@shop-mail.example")),
    ("customers", None),
    ("customers", None),
    ("customers", lambda record, _: record["email"] == ADA),
    ("subscribers", lambda record, _: record["email"] == ADA),
    ("customers", lambda record, _: record["registration_ip_address"].startswith("203.0.113.")),
    ("customers", _country),
    ("products", lambda record, _: not record["is_visible"] and record["name"].startswith("TEST ")),
    ("coupons", lambda record, _: re.fullmatch("CODE1[0-9]", record["code"]) is not None),
    ("redirects", lambda record, _: "-kettle-" in record["from_path"]),
    ("subscribers", lambda record, _: record["email"].endswith("@mailbin.example")),
]


@pytest.fixture
def sandbox(tool: RiggedTool) -> Iterator[Sandbox]:
    """The sandbox with all its records, whose lists and store.ini stand where the tool runs."""
    with Sandbox(tool.folder, quota=None) as store:
        yield store
    assert not store.violations, store.violations


@pytest.mark.parametrize("number", range(len(WANTED)))
def test_recipe(sandbox: Sandbox, tool: RiggedTool, number: int) -> None:
    """A recipe selects some of the sandbox's records, and not all; it deletes exactly what it says."""
    assert len(RECIPES) == len(WANTED) >= 10
    recipe = list(RECIPES.values())[number]
    lists = {
        name: {line.split(",")[0] for line in (tool.folder / name).read_text().splitlines()}
        for name in ("merchant.csv", "addresses.txt", "staff.txt")
    }
    resource, wants = WANTED[number]
    customers, orders = sandbox.customers, sandbox.records["orders"].values()
    if wants is not None:
        expected = {key for key, record in sandbox.records[resource].items() if wants(record, lists)}
    elif "--limit" in recipe:
        group = [record for record in customers.values() if record["customer_group_id"] == 7]
        expected = {record["id"] for record in sorted(group, key=lambda item: item["date_created"])[:10]}
        assert len(expected) == 10 < len(group)
    else:
        busy = {order["customer_id"] for order in orders}
        expected = {key for key, record in customers.items() if key not in busy and _not_staff(record, lists)}
        assert busy
    assert 0 < len(expected) < len(sandbox.records[resource])
    kept = {name: set(records) for name, records in sandbox.records.items()}
    command = shlex.split(recipe)
    assert command[:4] == ["python", "bulk_delete.py", "--config", "store.ini"]
    outcome = tool(sandbox, Path("store.ini"), *command[4:], "--yes")
    assert outcome.status == 0, outcome.text
    assert "unmatched.csv" not in {path.name for path in tool.runs.glob("*/*")}
    kept[resource] -= expected
    assert {name: set(records) for name, records in sandbox.records.items()} == kept
