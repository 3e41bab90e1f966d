"""The README's cookbook: each command, as printed, selects what it says in the sandbox."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fake_store import ADA, Sandbox
from tests.test_selection import DirectTool

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")
COOKBOOK = README.split("### Cookbook")[1].split("\n## ")[0]
RECIPES: list[str] = re.findall(r"^python bulk_delete\.py .+$", COOKBOOK, re.MULTILINE)

Record = dict[str, Any]
Wants = Callable[[Record], bool]


def expected_records(store: Sandbox, folder: Path) -> list[tuple[str, Wants]]:
    """The resource of each recipe, and what it is to select, as the test computes it."""

    def entries(name: str) -> set[str]:
        return {line.split(",")[0] for line in (folder / name).read_text().splitlines()}

    def is_listed(record: Record, listed: set[str]) -> bool:
        return not listed.isdisjoint({record["email"], str(record["id"])})

    addresses, staff = entries("addresses.txt"), entries("staff.txt")
    busy = {order["customer_id"] for order in store.records["orders"].values()}
    bots = ("@mailbin.example", "@spam-drop.example")

    def is_bot_of_2024(record: Record) -> bool:
        return bool(record["date_created"][:4] == "2024" and record["email"].endswith(bots))

    return [
        ("customers", is_bot_of_2024),
        ("customers", lambda r: "http" in r["last_name"]),
        ("customers", lambda r: is_listed(r, addresses) and not is_listed(r, staff)),
        ("customers", lambda r: not r["email"].endswith("@shop-mail.example")),
        ("customers", lambda r: r["id"] not in busy and not is_listed(r, staff)),
        ("customers", lambda r: r["email"] == ADA),
        ("subscribers", lambda r: r["email"] == ADA),
        ("products", lambda r: not r["is_visible"] and r["name"].startswith("TEST ")),
    ]


def test_each_recipe_selects_what_it_says(tmp_path: Path) -> None:
    """Some records and not all, without a warning that --yes would refuse."""
    tool = DirectTool(tmp_path)
    with Sandbox(tmp_path, quota=None) as store:
        expected = expected_records(store, tmp_path)
        assert len(expected) == len(RECIPES)
        for recipe, (resource, wants) in zip(RECIPES, expected, strict=True):
            records = store.records[resource]
            wanted = {number for number, record in records.items() if wants(record)}
            assert 0 < len(wanted) < len(records)
            command = shlex.split(recipe)
            assert command[:4] == ["python", "bulk_delete.py", "--config", "store.ini"]
            dry_run = [*command[4:], "--dry-run", "--no-backup"]  # which may be incomplete
            outcome = tool(store, Path("store.ini"), *dry_run)
            assert outcome.status == 0, outcome.text
            assert set(outcome.plan["ids"]) == wanted, recipe
            assert outcome.plan["resource"] == resource
            assert "warning" not in outcome.text.lower()
        last = tool(store, Path("store.ini"), *command[4:], "--yes")
        assert last.summary["deleted"] == len(wanted)
        assert not wanted & records.keys()
    assert not list(tool.runs.glob("*/unmatched.csv"))
    assert not store.violations
