"""The README's cookbook: every command there, run as it is printed, deletes what its comment says."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fake_store import FakeStore
from tests.rigged import RiggedTool

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")
RECIPES: dict[str, str] = dict(
    re.findall(r"^# (.+)\n(python bulk_delete\.py .+)$", README.split("### Cookbook")[1], re.MULTILINE)
)
Record = dict[str, Any]
MERCHANT, STAFF = (11, 16, 33), ("ada.smith15@shop-mail.example", "17")


def _spring_bots(record: Record) -> bool:
    throw_away = ("@mailbin.example", "@spam-drop.example")
    return bool(record["date_created"].startswith("2024") and record["email"].endswith(throw_away))


def _country(record: Record) -> bool:
    addresses = record["addresses"]
    return bool(addresses) and addresses[0]["country_code"] in ("BR", "JP")


# What each recipe is to delete, as the test computes it; None: told apart below.
WANTED: list[tuple[str, Callable[[Record], bool] | None]] = [
    ("customers", _spring_bots),
    ("customers", lambda record: "http" in record["last_name"]),
    ("customers", lambda record: record["id"] in MERCHANT),
    ("customers", lambda record: record["id"] in MERCHANT),
    ("customers", lambda record: record["email"] != STAFF[0] and record["id"] != 17),
    ("customers", lambda record: not record["email"].endswith("@shop-mail.example")),
    ("customers", None),
    ("customers", None),
    ("customers", lambda record: record["email"] == STAFF[0]),
    ("subscribers", lambda record: record["email"] == STAFF[0]),
    ("customers", lambda record: record["registration_ip_address"].startswith("203.0.113.")),
    ("customers", _country),
    ("products", lambda record: not record["is_visible"] and record["name"].startswith("TEST ")),
    ("coupons", lambda record: re.fullmatch("CODE1[0-9]", record["code"]) is not None),
    ("redirects", lambda record: "-kettle-" in record["from_path"]),
    ("subscribers", lambda record: record["email"].endswith("@mailbin.example")),
]


@pytest.mark.parametrize("number", range(len(WANTED)))
def test_recipe(make_store: Callable[..., FakeStore], tool: RiggedTool, number: int) -> None:
    """A recipe deletes exactly what it says, of a store that holds much else."""
    assert len(RECIPES) == len(WANTED) >= 10
    store = make_store(
        customers=400, products=40, coupons=30, redirects=20, subscribers=30, orders=60, quota=None
    )
    tool.folder.joinpath("merchant.csv").write_text(
        "Customer ID,Name\r\n" + "".join(f"{i},x\r\n" for i in MERCHANT)
    )
    tool.folder.joinpath("staff.txt").write_text("\n".join(STAFF))
    listed = [*(store.customers[number]["email"] for number in MERCHANT), STAFF[0]]
    tool.folder.joinpath("addresses.txt").write_text("\n".join(listed))
    store.change(next(iter(store.records["subscribers"])), kind="subscribers", email=STAFF[0])
    resource, wants = WANTED[number]
    customers, orders = store.customers, store.records["orders"].values()
    if wants is not None:
        expected = {key for key, record in store.records[resource].items() if wants(record)}
    elif "--limit" in list(RECIPES.values())[number]:
        group = [record for record in customers.values() if record["customer_group_id"] == 7]
        expected = {record["id"] for record in sorted(group, key=lambda item: item["date_created"])[:10]}
    else:
        busy = {order["customer_id"] for order in orders}
        expected = {
            key for key, item in customers.items() if key not in busy | {17} and item["email"] != STAFF[0]
        }
    assert 0 < len(expected) < len(store.records[resource])
    kept = {name: set(records) for name, records in store.records.items()}
    store.config(tool.folder)
    command = shlex.split(list(RECIPES.values())[number])
    assert command[:4] == ["python", "bulk_delete.py", "--config", "store.ini"]
    outcome = tool(store, Path("store.ini"), *command[4:], "--yes")
    assert outcome.status == 0, outcome.text
    kept[resource] -= expected
    assert {name: set(records) for name, records in store.records.items()} == kept
