"""Nothing that protects a record fails open: filters, match, keep, orders, limits and cascades."""

from __future__ import annotations

import csv
import json
import math
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.fake_store import KINDS, FakeStore, Fault, Request
from tests.rigged import (
    DROP,
    ORDERS_SCOPE,
    MakeStore,
    Outcome,
    Session,
    Tool,
    chosen,
    lines,
    listings,
    people,
    run_deletes,
    run_refused,
    with_orders,
    write,
)


@pytest.fixture
def store(make_store: MakeStore) -> FakeStore:
    """Mixed customers, more than a page of them, on which no test waits for quota."""
    return make_store(customers=300, quota=10_000)


def stocked(make_store: MakeStore, resource: str, count: int, **options: Any) -> tuple[FakeStore, list[int]]:
    """A store with so many of one resource, and their ids."""
    store = make_store(**{"customers": 0, "quota": 10_000, resource: count} | options)
    return store, list(store.records[resource])


def run_takes(
    tool: Tool, store: FakeStore, resource: str, wanted: Iterable[int], *options: str | Path, **ini: Any
) -> Outcome:
    """Run it; of that resource exactly these go, and no DELETE names another."""
    before, wanted = set(store.records[resource]), set(wanted)
    config = store.config(tool.folder, **ini)
    outcome = tool(store, config, "--yes", "--resource", resource, *options, COLUMNS="1000")
    assert outcome.status == 0, outcome.text
    assert before - set(store.records[resource]) == wanted
    assert set(store.deleted_ids()) == wanted
    assert (outcome.summary["selected"], outcome.summary["deleted"]) == (len(wanted), len(wanted))
    return outcome


def run_spares_all(tool: Tool, store: FakeStore, status: int, *options: str | Path, **ini: Any) -> Outcome:
    """Run it; it ends with that status, and deletes nothing of anything."""
    before = {name: set(records) for name, records in store.records.items()}
    outcome = tool(store, store.config(tool.folder, **ini), *options, COLUMNS="1000")
    assert outcome.status == status, outcome.text
    assert not store.deletes()
    assert {name: set(records) for name, records in store.records.items()} == before
    return outcome


def rows_of(outcome: Outcome, name: str) -> list[dict[str, str]]:
    """The rows of a CSV of the run folder."""
    assert outcome.folder is not None
    with open(outcome.folder / name, encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def unmatched(outcome: Outcome) -> set[tuple[str, str]]:
    """What unmatched.csv holds: names of list files and entries; the file is there only if something is."""
    assert outcome.folder is not None
    if not (outcome.folder / "unmatched.csv").exists():
        return set()
    rows = rows_of(outcome, "unmatched.csv")
    assert rows
    assert list(rows[0]) == ["list", "entry"]
    return {(Path(row["list"]).name, row["entry"].lower()) for row in rows}


def sent(store: FakeStore, name: str) -> list[str]:
    """The values of that parameter in the requests that list."""
    return [request.query[name] for request in store.log if request.method == "GET" and name in request.query]


def sizes(store: FakeStore, name: str) -> list[int]:
    """How many values each request asked for by that filter."""
    return [value.count(",") + 1 for value in sent(store, name)]


# --- options ---------------------------------------------------------------------------------------

TWICE = [
    ("--max-delete", "5", "100"),
    ("--limit", "3", "3"),
    ("--ids", "a.txt", "b.txt"),
    ("--resource", "customers", "subscribers"),
    ("--rate-limit", "50", "60"),
    ("--batch-size", "5", "6"),
    ("--max-concurrent", "1", "2"),
    ("--runs-dir", "here", "there"),
    ("--config", "store.ini", "store.ini"),
]


@pytest.mark.parametrize(("option", "first", "second"), TWICE, ids=[option for option, *_ in TWICE])
def test_an_option_that_is_there_twice(
    store: FakeStore, tool: Tool, option: str, first: str, second: str
) -> None:
    """An option that takes one value, and is given twice, is refused and named: the last does not win."""
    for name in ("a.txt", "b.txt"):
        write(tool, lines(list(store.customers)[:2]), name)
    outcome = run_refused(tool, store, 2, f"{option}={first}", option, second, words=[option])
    assert re.search(r"twice|once", outcome.err), outcome.err


TYPOS = [
    ("--dryrun", "--dry-run"),
    ("--dry_run", "--dry-run"),
    ("--max_delete=5", "--max-delete"),
    ("--spare-orders", "--spare-with-orders"),
    ("--filters=id:in=5", "--filter"),
    ("--keeps=a.txt", "--keep"),
    ("--mach=email=x", "--match"),
    ("--max-deletes", "--max-delete"),
]


@pytest.mark.parametrize(("typed", "meant"), TYPOS, ids=[typed for typed, _ in TYPOS])
def test_an_option_that_is_mistyped(store: FakeStore, tool: Tool, typed: str, meant: str) -> None:
    """An option that does not exist is answered with the nearest one, in a line or two."""
    outcome = run_refused(tool, store, 2, typed, words=[typed.split("=")[0], f"did you mean {meant}?"])
    assert "usage:" not in outcome.err
    assert len(outcome.err.strip().splitlines()) <= 3


def test_an_option_like_no_other(store: FakeStore, tool: Tool) -> None:
    """An option that is like no other is named, without a page of usage."""
    outcome = run_refused(tool, store, 2, "--force", words=["--force"])
    assert "usage:" not in outcome.err
    assert len(outcome.err.strip().splitlines()) <= 3


# --- --max-delete ----------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["argv", "ini"])
@pytest.mark.parametrize("how", [["--yes"], ["--dry-run"], []], ids=["yes", "dry run", "no terminal"])
def test_more_than_max_delete_prints_no_command(
    make_store: MakeStore, tool: Tool, how: list[str], by: str
) -> None:
    """A refusal for --max-delete shows no way round it: no command, not even in the summary."""
    store = make_store(customers=30, quota=10_000)
    options, ini = (["--max-delete", "5"], {}) if by == "argv" else ([], {"max_delete": 5})
    outcome = run_spares_all(tool, store, 3, "--json", *how, *options, **ini)
    assert "--resume" not in outcome.text
    assert outcome.summary["resume"] is None
    assert outcome.summary["status"] == "refused"


def test_a_weaker_max_delete_is_told(make_store: MakeStore, tool: Tool) -> None:
    """A max_delete of the ini that the command line weakens is told as a warning, a stronger one is not."""
    store = make_store(customers=10, quota=10_000)
    weaker = run_spares_all(tool, store, 0, "--dry-run", "--max-delete", "417", max_delete=23)
    told = [line for line in weaker.err.splitlines() if "warning" in line and "max" in line]
    assert len(told) == 1
    assert "23" in told[0]
    assert "417" in told[0]
    stronger = run_spares_all(tool, store, 0, "--dry-run", "--max-delete", "23", max_delete=417)
    assert not [line for line in stronger.err.splitlines() if "warning" in line and "max" in line]


# --- filters by date -------------------------------------------------------------------------------

DATED = [
    ("customers", "date_created"),
    ("customers", "date_modified"),
    ("products", "date_modified"),
    ("price_lists", "date_created"),
    ("subscribers", "date_modified"),
]
MAXIMA = {"before": operator.lt, "until": operator.le}
Fits = Callable[[datetime, datetime], bool]


def reword(monkeypatch: pytest.MonkeyPatch, resource: str, name: str, fits: Fits) -> None:
    """Let the store understand a date filter like this: fits(the record's moment, the one asked for)."""
    field = name.partition(":")[0]

    def compiled(value: str, _reading: object) -> Callable[[dict[str, Any]], bool]:
        return lambda record: fits(datetime.fromisoformat(record[field]), datetime.fromisoformat(value))

    kind = KINDS[resource]
    monkeypatch.setitem(KINDS, resource, replace(kind, filters={**kind.filters, name: compiled}))


def dated(make_store: MakeStore, resource: str, field: str, *moments: str) -> tuple[FakeStore, list[int]]:
    """Records of these moments."""
    store, ids = stocked(make_store, resource, len(moments))
    for number, text in zip(ids, moments, strict=True):
        store.change(number, kind=resource, **{field: text})
    return store, ids


@pytest.mark.parametrize("maximum", MAXIMA.values(), ids=MAXIMA)
@pytest.mark.parametrize(("resource", "field"), DATED)
def test_a_day_is_the_whole_day(
    make_store: MakeStore,
    tool: Tool,
    monkeypatch: pytest.MonkeyPatch,
    resource: str,
    field: str,
    maximum: Fits,
) -> None:
    """A date means the whole day in UTC, be the API's :max "before" or "until"; full moments are sent."""
    reword(monkeypatch, resource, f"{field}:min", operator.ge)
    reword(monkeypatch, resource, f"{field}:max", maximum)
    days = ["2024-12-30T23:59:59Z", "2024-12-31T00:00:00Z", "2024-12-31T12:00:00Z"]
    days += ["2024-12-31T23:59:59Z", "2025-01-01T00:00:00Z", "2025-01-01T00:00:01Z"]
    store, ids = dated(make_store, resource, field, *days)
    options = ("--filter", f"{field}:min=2024-12-31", "--filter", f"{field}:max=2024-12-31")
    run_takes(tool, store, resource, ids[1:4], *options)
    assert set(sent(store, f"{field}:min")) == {"2024-12-31T00:00:00Z"}
    assert set(sent(store, f"{field}:max")) == {"2025-01-01T00:00:00Z"}


SENT = [
    ("date_created:min", "2024-12-31T12:00:00+02:00", "2024-12-31T10:00:00Z"),
    ("date_created:min", "2024-12-31T00:30:00+01:00", "2024-12-30T23:30:00Z"),
    ("date_modified:min", "2024-12-31T12:00:00", "2024-12-31T12:00:00Z"),
    ("date_modified:min", "2024-12-31T12:00", "2024-12-31T12:00:00Z"),
    ("date_created:max", "2024-02-29", "2024-03-01T00:00:00Z"),
    ("date_modified:max", "2023-12-31", "2024-01-01T00:00:00Z"),
]


@pytest.mark.parametrize(("name", "given", "wanted"), SENT)
def test_moments_are_sent_in_utc(
    make_store: MakeStore, tool: Tool, name: str, given: str, wanted: str
) -> None:
    """What is sent is a full date-time in UTC that ends in Z, whatever was written."""
    store = make_store(customers=5, quota=10_000)
    outcome = run_spares_all(tool, store, 0, "--dry-run", "--filter", f"{name}={given}")
    assert set(sent(store, name)) == {wanted}
    assert outcome.summary["filters"] == {name: given}


@pytest.mark.parametrize("maximum", MAXIMA.values(), ids=MAXIMA)
def test_a_moment_as_the_latest(
    make_store: MakeStore, tool: Tool, monkeypatch: pytest.MonkeyPatch, maximum: Fits
) -> None:
    """A full date-time as :max takes that very second, and no later one, whatever :max means to the store."""
    reword(monkeypatch, "customers", "date_created:max", maximum)
    days = ["2024-12-31T11:59:59Z", "2024-12-31T12:00:00Z", "2024-12-31T12:00:01Z", "2024-12-31T12:00:02Z"]
    store, ids = dated(make_store, "customers", "date_created", *days)
    run_takes(tool, store, "customers", ids[:2], "--filter", "date_created:max=2024-12-31T12:00:00Z")
    assert all(re.fullmatch(r"[0-9-]{10}T[0-9:]{8}Z", text) for text in sent(store, "date_created:max"))


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("date_created:max", lambda have, asked: have <= asked + timedelta(seconds=1)),
        ("date_created:min", lambda have, asked: have >= asked - timedelta(seconds=1)),
    ],
)
def test_what_lies_outside_of_what_was_sent(
    make_store: MakeStore, tool: Tool, monkeypatch: pytest.MonkeyPatch, name: str, fits: Fits
) -> None:
    """A record a second outside of what was sent means that the store ignored the filter."""
    reword(monkeypatch, "customers", name, fits)
    days = ["2024-12-30T23:59:59Z", "2024-12-31T12:00:00Z", "2025-01-01T00:00:01Z"]
    store, _ = dated(make_store, "customers", "date_created", *days)
    outcome = run_spares_all(tool, store, 3, "--yes", "--filter", f"{name}=2024-12-31")
    assert "ignored the filter" in outcome.err


def test_a_store_whose_min_means_after(make_store: MakeStore, tool: Tool) -> None:
    """Where :min means "after", the record of the first second stays, and all later ones go."""
    days = ["2024-12-30T23:59:59Z", "2024-12-31T00:00:00Z", "2024-12-31T00:00:01Z"]
    store, ids = dated(make_store, "customers", "date_created", *days)
    run_takes(tool, store, "customers", ids[2:], "--filter", "date_created:min=2024-12-31")


@pytest.mark.parametrize(("resource", "field"), DATED)
def test_exact_dates_are_not_offered(make_store: MakeStore, tool: Tool, resource: str, field: str) -> None:
    """A filter for one exact date is refused, and :min or :max is named in its place."""
    store = make_store(customers=5, quota=10_000)
    options = ("--resource", resource, "--filter", f"{field}=2024-12-31")
    run_refused(tool, store, 2, *options, words=[f"{field}:m"])


@pytest.mark.parametrize(
    "text",
    ["20250331", "2025W141", "2024W01T10", "31.03.2025", "2025-3-1", "2025-03-31T12", "2025-03-31+02:00"],
)
def test_a_date_in_another_form(store: FakeStore, tool: Tool, text: str) -> None:
    """A date that is written in another way than the API's is refused: it may mean another span."""
    run_refused(tool, store, 2, "--filter", f"date_created:max={text}", words=["date_created:max"])


def test_a_filter_on_a_field_that_is_null(make_store: MakeStore, tool: Tool) -> None:
    """A field that is null or missing holds no value: a store that lists such a record ignored the filter."""
    store = people(make_store, 11, 12)
    store.change(11, company="none")
    store.change(12, company=None)
    store.deaf = {"company:in"}
    outcome = run_spares_all(tool, store, 3, "--yes", "--filter", "company:in=none")
    assert "ignored the filter" in outcome.err


def test_a_bad_value_of_the_ini_that_argv_replaces(store: FakeStore, tool: Tool) -> None:
    """A value of the ini is checked, though the command line wins over it."""
    words = ["spare_with_orders", "yes or no"]
    run_refused(tool, store, 2, "--no-spare-with-orders", words=words, spare_with_orders="perhaps")


# --- filters of text -------------------------------------------------------------------------------

SPLIT = [
    ("customers", "company:in", "Acme, Inc."),
    ("customers", "company:in", "Acme Corp,Tide, Timber"),
    ("customers", "name:in", "Smith, Bob"),
    ("customers", "name:like", "Smith, Bob"),
    ("customers", "phone:in", "555-0101, 555-0102"),
    ("customers", "email:in", "ada@x.example, bob@x.example"),
    ("products", "sku:in", "SKU-1, red"),
]


@pytest.mark.parametrize("by", ["argv", "ini"])
@pytest.mark.parametrize(("resource", "name", "value"), SPLIT)
def test_a_value_that_the_api_would_split(
    make_store: MakeStore, tool: Tool, resource: str, name: str, value: str, by: str
) -> None:
    """A listed value with a space after its comma is refused, and --match is named: the API splits there."""
    store = make_store(customers=5, quota=10_000)
    options: list[str] = ["--resource", resource]
    if by == "argv":
        run_refused(tool, store, 2, *options, "--filter", f"{name}={value}", words=[name, "--match"])
    else:
        run_refused(tool, store, 2, *options, words=[name, "--match"], filters={name: value})


@pytest.mark.parametrize("deaf", [False, True])
@pytest.mark.parametrize("resource", ["categories", "brands", "price_lists"])
def test_a_comma_where_the_api_takes_one_string(
    make_store: MakeStore, tool: Tool, resource: str, deaf: bool
) -> None:
    """name:like of these is one string, comma and all, and what only holds a part of it does not fit."""
    store, (first, second) = stocked(make_store, resource, 2)
    store.change(first, kind=resource, name="Winter: red, blue")
    store.change(second, kind=resource, name="red")
    options = ("--filter", "name:like=red, blue")
    if deaf:
        store.deaf = {"name:like"}
        outcome = run_spares_all(tool, store, 3, "--yes", "--resource", resource, *options)
        assert "ignored the filter" in outcome.err
    else:
        run_takes(tool, store, resource, [first], *options)


def test_a_listed_value_that_nothing_had(make_store: MakeStore, tool: Tool) -> None:
    """A value of a filter that no record had is named by itself in the panel; one that some had is not."""
    store = people(make_store, 11, 12, 13)
    for number, company in ((11, "Zebra Works"), (12, "Quince Ltd"), (13, "")):
        store.change(number, company=company)
    told = run_spares_all(tool, store, 0, "--dry-run", "--filter", "company:in=Zebra Works,Yonder GmbH").err
    assert told.count("Yonder GmbH") > told.count("Zebra Works") > 0
    told = run_spares_all(tool, store, 0, "--dry-run", "--filter", "company:in=Zebra Works,Quince Ltd").err
    assert told.count("Quince Ltd") == told.count("Zebra Works") > 0


# --- --match ---------------------------------------------------------------------------------------

GROUPS = [0, 1, 2, 10, 11, 12, 21, 100]
NUMBERS = {
    "customer_group_id=1": {1},
    "customer_group_id=^1$": {1},
    "customer_group_id=1|2": {1, 2},
    "customer_group_id=1.": {10, 11, 12},
    "customer_group_id=0": {0},
    "customer_group_id!=1": set(GROUPS) - {1},
    "customer_group_id!=1|2": set(GROUPS) - {1, 2},
    "customer_group_id!=1.*": {0, 2, 21},
}


@pytest.mark.parametrize(("text", "groups"), NUMBERS.items(), ids=NUMBERS)
def test_numbers_match_as_a_whole(make_store: MakeStore, tool: Tool, text: str, groups: set[int]) -> None:
    """An expression on a number must match all of it."""
    store = people(make_store, *range(11, 11 + len(GROUPS)))
    for number, group in zip(list(store.customers), GROUPS, strict=True):
        store.change(number, customer_group_id=group)
    run_takes(
        tool, store, "customers", chosen(store, lambda r: r["customer_group_id"] in groups), "--match", text
    )


def test_a_price_matches_as_a_whole(make_store: MakeStore, tool: Tool) -> None:
    """A number with a fraction is one too."""
    store, ids = stocked(make_store, "products", 5)
    for number, price in zip(ids, (1.5, 11.5, 1.55, 15, 1), strict=True):
        store.change(number, kind="products", price=price)
    run_takes(tool, store, "products", ids[:1], "--match", r"price=1\.5")


BOOLEANS: dict[str, set[bool]] = {
    "=true": {True},
    "=t": set(),
    "=.rue|x": {True},
    "!=true": {False},
    "!=e": {True, False},
}


@pytest.mark.parametrize(("text", "values"), BOOLEANS.items(), ids=BOOLEANS)
def test_booleans_match_as_a_whole(make_store: MakeStore, tool: Tool, text: str, values: set[bool]) -> None:
    """An expression on a boolean must match all of it."""
    store, ids = stocked(make_store, "products", 4)
    for number in ids:
        store.change(number, kind="products", is_visible=number in ids[:2])
    wanted = [number for number in ids if (number in ids[:2]) in values]
    run_takes(tool, store, "products", wanted, "--match", f"is_visible{text}")


def test_digits_in_a_text_are_searched(make_store: MakeStore, tool: Tool) -> None:
    """A field that is text is searched, even if it holds nothing but digits."""
    store = people(make_store, 11, 12)
    store.change(11, phone="5550101")
    store.change(12, phone="4440102")
    run_takes(tool, store, "customers", [11], "--match", "phone=0101")


NEGATIVE: list[tuple[tuple[str, ...], Callable[[dict[str, Any]], bool]]] = [
    (("email!=@shop-mail[.]example$",), lambda r: not r["email"].endswith("@shop-mail.example")),
    (("company!=^$",), lambda r: r["company"]),
    (("last_name!=^https?://", DROP), lambda r: False),
    (
        ("email!=@mailbin", "email!=@shop-mail"),
        lambda r: "@mailbin" not in r["email"] and "@shop-mail" not in r["email"],
    ),
    (
        ("first_name!=[=]", "company=^Acme"),
        lambda r: "=" not in r["first_name"] and r["company"][:4] == "Acme",
    ),
]


@pytest.mark.parametrize(("given", "fits"), NEGATIVE, ids=[given[0] for given, _ in NEGATIVE])
def test_match_of_what_is_not_there(
    store: FakeStore, tool: Tool, given: tuple[str, ...], fits: Callable[[dict[str, Any]], bool]
) -> None:
    """FIELD!=REGEX takes those in whose field it is not found, and all expressions must hold."""
    options = [word for text in given for word in ("--match", text)]
    wanted = chosen(store, fits)
    outcome = run_takes(tool, store, "customers", wanted, *options)
    assert outcome.summary["spared"] == 0


def test_match_of_what_is_not_there_in_the_ini(store: FakeStore, tool: Tool) -> None:
    """`match` in the ini takes FIELD!=REGEX as well."""
    wanted = chosen(store, lambda r: "@shop-mail" not in r["email"])
    run_deletes(tool, store, wanted, match="email!=@shop-mail")


COUNTRIES = {11: [], 12: ["US"], 13: ["DE"], 14: ["US", "DE"], 15: ["DE", "US"], 16: ["DEU"]}
PATHS = {
    "addresses.*.country_code=^DE$": {13, 14, 15},
    "addresses.*.country_code=^(US|DE)$": {12, 13, 14, 15},
    "addresses.*.country_code!=^DE$": {11, 12, 16},
    "addresses.*.country_code!=^(US|DE)$": {11, 16},
    "addresses.0.country_code!=^DE$": {11, 12, 14, 16},
    "addresses.*.id=1": {12},
    "addresses.*.id!=1": {11, 13, 14, 15, 16},
    "channel_ids.*=1": {11, 13},
    "channel_ids.*!=1": {12, 14, 15, 16},
}


@pytest.mark.parametrize(("text", "wanted"), PATHS.items(), ids=PATHS)
def test_match_of_any_element(make_store: MakeStore, tool: Tool, text: str, wanted: set[int]) -> None:
    """With * any element may hold it; with != none may, and who has no element at all is taken."""
    store = people(make_store, *COUNTRIES)
    for number, codes in COUNTRIES.items():
        own = [{"id": number % 11 * 10 + at - 9, "country_code": code} for at, code in enumerate(codes)]
        channels = {11: [1], 12: [11], 13: [11, 1]}.get(number, [])
        store.change(number, addresses=own, address_count=len(own), channel_ids=channels)
    run_takes(tool, store, "customers", wanted, "--match", text)


def test_an_address_that_the_list_does_not_show(make_store: MakeStore, tool: Tool) -> None:
    """Of a customer with more addresses than are listed it cannot be told that none matches: it stays."""
    store = people(make_store, 11, 12)
    for number, count in ((11, 12), (12, 2)):
        own = [{"id": number * 20 + at, "country_code": "DE" if at == 11 else "US"} for at in range(count)]
        store.change(number, addresses=own, address_count=count)
    outcome = tool(store, None, "--yes", "--match", "addresses.*.country_code!=DE")
    assert outcome.status in (0, 3), outcome.text
    assert 11 in store.customers
    assert 11 not in store.deleted_ids()


@pytest.mark.parametrize(
    ("text", "wanted"), [("order_id!=5", [0, 2]), ("order_id=5", [1]), ("order_id=null", [])]
)
def test_match_of_nothing(make_store: MakeStore, tool: Tool, text: str, wanted: list[int]) -> None:
    """Nothing is found in a field that is null: = does not take it, and != does."""
    store, ids = stocked(make_store, "subscribers", 3)
    for number, order in zip(ids, (None, 5, 55), strict=True):
        store.change(number, kind="subscribers", order_id=order)
    run_takes(tool, store, "subscribers", [ids[at] for at in wanted], "--match", text)


@pytest.mark.parametrize(("text", "wanted"), [("company!=Acme", [11, 13]), ("company=.", [12])])
def test_match_of_a_field_that_one_has_not(
    make_store: MakeStore, tool: Tool, text: str, wanted: list[int]
) -> None:
    """A record without a field that others have is treated as one in which nothing is found."""
    store = people(make_store, 11, 12, 13)
    for number, company in ((11, ""), (12, "Acme Corp")):
        store.change(number, company=company)
    del store.customers[13]["company"]
    run_takes(tool, store, "customers", wanted, "--match", text)


@pytest.mark.parametrize(
    "path", ["emial", "addresses.*.country_cod", "email.*", "addresses.country_code", "addresses.*.*"]
)
def test_match_of_what_is_not_there_in_a_field_that_nobody_has(
    store: FakeStore, tool: Tool, path: str
) -> None:
    """A mistyped field does not select everybody: no record has it, and the fields there are named."""
    run_refused(tool, store, 3, "--match", f"{path}!=^zzz$", words=[path, "email", "first_name", "company"])


@pytest.mark.parametrize(
    "text", ["!=x", "email!=", "email!=[", " !=x", "email!= x", "email != x", "email!==x"]
)
def test_a_bad_match_of_what_is_not_there(store: FakeStore, tool: Tool, text: str) -> None:
    """What is no FIELD!=REGEX sends nothing."""
    run_refused(tool, store, 2, "--match", text, words=["--match"])


def test_match_of_the_ini_that_argv_replaces(make_store: MakeStore, tool: Tool) -> None:
    """A `match` of the ini that the command line replaces is told, and so is a smaller limit."""
    store = people(make_store, 11, 12, 13)
    options = ("--dry-run", "--match", "id=11|12", "--limit", "2")
    told = run_spares_all(tool, store, 0, *options, match="id!=11", limit=1).err
    warned = [line for line in told.splitlines() if "warning" in line]
    assert any("match = id!=11" in line for line in warned)
    assert any("limit = 1" in line for line in warned)


def test_a_filter_of_the_ini_that_argv_replaces(make_store: MakeStore, tool: Tool) -> None:
    """A filter of the ini that the command line widens is told; one that it repeats is not."""
    store = people(make_store, 11, 12, 13)
    ini = {"date_created:max": "2020-01-01", "date_created:min": "2001-01-01"}
    told = ["--filter", "date_created:max=2031-01-01", "--filter", "date_created:min=2001-01-01"]
    outcome = run_spares_all(tool, store, 0, "--dry-run", *told, filters=ini)
    warned = [line for line in outcome.err.splitlines() if "warning: --filter" in line]
    assert len(warned) == 1
    assert "date_created:max = 2020-01-01" in warned[0]


def test_a_whole_list_that_is_not_all_shown(make_store: MakeStore, tool: Tool) -> None:
    """Without a star too: of addresses that are not all listed, it cannot be told that none matches."""
    store = people(make_store, 11, 12)
    for number, count in ((11, 12), (12, 2)):
        own = [{"id": at, "country": "Germany" if at == 11 else "France"} for at in range(count)]
        store.change(number, addresses=own, address_count=count)
    run_takes(tool, store, "customers", [12], "--match", "addresses!=Germany")


# --- --ids with addresses --------------------------------------------------------------------------


def test_addresses_are_looked_up_50_a_request(store: FakeStore, tool: Tool) -> None:
    """--ids takes addresses, asks for at most 50 a request, and deletes exactly those."""
    ids = list(store.customers)[20:140]
    path = write(tool, lines(store.customers[number]["email"] for number in ids))
    outcome = run_deletes(tool, store, set(ids), "--ids", path)
    assert sorted(sizes(store, "email:in")) == [20, 50, 50]
    assert (outcome.summary["not_found"], unmatched(outcome)) == (0, set())


@pytest.mark.parametrize("case", ["exact", "folded"])
def test_addresses_in_another_case(make_store: MakeStore, tool: Tool, case: str) -> None:
    """An address is found in the store's case and in the list's, and at most 50 are asked for at once."""
    store = make_store(customers=120, quota=10_000, email_case=case)
    ids = list(store.customers)[20:100]
    for number in ids[:3]:
        store.change(number, email=store.customers[number]["email"].title())
    path = write(tool, lines(store.customers[number]["email"].title() for number in ids))
    run_deletes(tool, store, set(ids), "--ids", path)
    assert max(sizes(store, "email:in")) == 50


def test_what_of_a_list_the_store_does_not_know(store: FakeStore, tool: Tool) -> None:
    """Ids and addresses that are not there are counted as not found, and stand in unmatched.csv."""
    known = list(store.customers)[:6]
    entries = [*known[:3], *(store.customers[number]["email"] for number in known[3:])]
    strangers = ["999001", "nobody@x.example", "999002", "+1@x.example"]
    path = write(tool, lines([*strangers[:2], *entries, *strangers[2:]]), "merchant.csv")
    planned = run_spares_all(tool, store, 0, "--dry-run", "--ids", path)
    assert planned.summary["not_found"] == 4
    done = run_deletes(tool, store, set(known), "--ids", path)
    assert done.summary["not_found"] == 4
    assert "merchant.csv" in done.summary["selection"]["ids"]
    for outcome in (planned, done):
        entries_left = {(name, entry.lstrip("'")) for name, entry in unmatched(outcome)}
        assert entries_left == {("merchant.csv", entry) for entry in strangers}
        assert all(row["entry"][0] not in "=+-@" for row in rows_of(outcome, "unmatched.csv"))


def test_only_unknown_addresses(store: FakeStore, tool: Tool) -> None:
    """A list of strangers selects nothing, which is no error, and names them all."""
    path = write(tool, "nobody@x.example\nnone@x.example\n")
    outcome = run_spares_all(tool, store, 0, "--yes", "--ids", path)
    assert (outcome.summary["selected"], outcome.summary["not_found"]) == (0, 2)
    assert len(unmatched(outcome)) == 2


def test_a_customer_by_id_and_by_address(store: FakeStore, tool: Tool) -> None:
    """A customer whom a list names by id and by address is one customer."""
    first, second = list(store.customers)[:2]
    path = write(
        tool, lines([first, store.customers[first]["email"], store.customers[second]["email"], second])
    )
    run_deletes(tool, store, {first, second}, "--ids", path)


def test_an_address_of_two_customers(make_store: MakeStore, tool: Tool) -> None:
    """An address that two customers have selects both, and the panel says so."""
    store = people(make_store, 11, 12, 13, 14)
    for number in (11, 13):
        store.change(number, email="shared@x.example", channel_ids=[number])
    path = write(tool, "shared@x.example\n14\n")
    outcome = run_takes(tool, store, "customers", [11, 13, 14], "--ids", path)
    assert_says_shared(outcome)


def assert_says_shared(outcome: Outcome) -> None:
    """A line of the panel, which is no sample, says that an address has two customers."""
    said = [line for line in outcome.err.splitlines() if "shared@x.example" in line]
    assert any(re.search(r"\b(2|two|both|several) ", line) for line in said), outcome.err


SPELT = {
    "IDNA in the store": ("ada@xn--bcher-kva.example", "ada@bücher.example"),
    "IDNA in the list": ("ada@bücher.example", "ada@xn--bcher-kva.example"),
    "NFD in the list": ("jos\u00e9@x.example", "jose\u0301@x.example"),
    "a plus sign": ("ada+news@x.example", "Ada+News@x.example"),
    "an apostrophe": ("o'brien@x.example", "O'Brien@x.example"),
}


@pytest.mark.parametrize(("stored", "listed"), SPELT.values(), ids=SPELT)
def test_an_address_that_is_spelt_in_another_way(
    make_store: MakeStore, tool: Tool, stored: str, listed: str
) -> None:
    """--ids finds a customer whose address the store spells in another way."""
    store = people(make_store, 11, 12)
    store.change(11, email=stored)
    outcome = run_takes(tool, store, "customers", [11], "--ids", write(tool, f"{listed}\n"))
    assert outcome.summary["not_found"] == 0


def test_addresses_on_a_store_that_ignores_them(store: FakeStore, tool: Tool) -> None:
    """A store that is deaf to email:in proves nothing of the addresses: nothing is deleted."""
    store.deaf = {"email:in"}
    path = write(tool, lines(record["email"] for record in list(store.customers.values())[:5]))
    run_refused(tool, store, 3, "--ids", path, words=["ignored the filter", "email:in"])


def test_an_answer_that_lacks_an_address(store: FakeStore, tool: Tool) -> None:
    """An answer with fewer rows than its total proves nothing of the others: nothing is deleted."""

    def lack(_request: Request, answer: Any) -> Any:
        return answer | {"data": answer["data"][1:]}

    asks = Fault("GET", "v3/customers", where=lambda r: "email:in" in r.query, times=math.inf, rewrite=lack)
    store.faults = [asks]
    path = write(tool, lines(record["email"] for record in list(store.customers.values())[:5]))
    run_refused(tool, store, 3, "--ids", path)
    assert asks.seen


@pytest.mark.parametrize("form", ["plain", "column"])
def test_addresses_where_the_resource_has_none(make_store: MakeStore, tool: Tool, form: str) -> None:
    """--ids takes no addresses for what cannot be asked for by them: nothing is sent."""
    store, ids = stocked(make_store, "products", 3)
    text = f"{ids[0]}\nada@x.example\n" if form == "plain" else "Name,Email\nAda,ada@x.example\n"
    run_refused(tool, store, 2, "--resource", "products", "--ids", write(tool, text), words=["list.txt"])


# --- --keep ----------------------------------------------------------------------------------------


def test_keep_lists_add_up(make_store: MakeStore, tool: Tool) -> None:
    """What the ini's keep list and all of the command line name stays, and the panel names each file."""
    store = people(make_store, *range(11, 20))
    first = write(tool, "11\n", "first.txt")
    second = write(tool, store.customers[12]["email"], "second.txt")
    third = write(tool, "13\n11\n", "third.csv")
    lists = ("--keep", second, "--keep", third)
    outcome = run_takes(tool, store, "customers", range(14, 20), *lists, keep=first)
    assert outcome.summary["spared"] == 3
    for name in ("first.txt", "second.txt", "third.csv"):
        assert name in outcome.err
        assert name in json.dumps(outcome.summary["selection"])


def test_keep_of_nobody_among_the_selected(store: FakeStore, tool: Tool) -> None:
    """A keep list of people whom the store knows, none of whom is selected, is no error, and is told."""
    spam = chosen(store, lambda r: r["email"].endswith("spam-drop.example"))
    staff = sorted(set(store.customers) - spam)[:5]
    path = write(
        tool, lines([*staff[:3], *(store.customers[number]["email"] for number in staff[3:])]), "staff.txt"
    )
    planned = run_spares_all(tool, store, 0, "--dry-run", "--match", DROP, "--keep", path)
    assert all(words in planned.err for words in ("staff.txt", "5 known", "0 spared"))
    outcome = run_deletes(tool, store, spam, "--match", DROP, "--keep", path)
    assert (outcome.summary["keep_unknown"], outcome.summary["spared"], unmatched(outcome)) == (0, 0, set())


STRANGERS = {"999001": "id:in", "adda.smiht@shop-mail.example": "email:in"}
SELECTIONS = {"all": (), "some": ("--match", DROP), "a few": ("--limit", "3")}


@pytest.mark.parametrize("options", SELECTIONS.values(), ids=SELECTIONS)
@pytest.mark.parametrize("stranger", STRANGERS)
def test_a_stranger_in_a_keep_list(
    store: FakeStore, tool: Tool, stranger: str, options: tuple[str, ...]
) -> None:
    """An entry that is nobody in the store is named and counted, and with --yes nothing is deleted."""
    path = write(tool, lines([*list(store.customers)[-3:], stranger]), "staff.txt")
    planned = run_spares_all(tool, store, 0, "--dry-run", "--keep", path, *options)
    refused = run_spares_all(tool, store, 3, "--yes", "--keep", path, *options)
    for outcome in (planned, refused):
        assert stranger in outcome.err
        assert outcome.summary["keep_unknown"] == 1
        assert unmatched(outcome) == {("staff.txt", stranger)}
    assert "--keep" in refused.summary["reason"]
    assert (refused.summary["status"], refused.summary["selected"]) == (
        "refused",
        refused.summary["not_attempted"],
    )


def test_a_stranger_in_a_keep_list_at_the_question(
    make_store: MakeStore, tool: Tool, terminal: Callable[..., Session]
) -> None:
    """Who reads the panel, which names the stranger, may go on."""
    store = people(make_store, 11, 12, 13)
    session = terminal(store, "--keep", str(write(tool, "11\n999001\n")), columns=200)
    session.child.expect("Type 2 ")
    assert "999001" in session.shown
    session.child.sendline("2")
    outcome = session.finish()
    assert (outcome.status, set(store.customers)) == (0, {11})
    assert outcome.summary["keep_unknown"] == 1


@pytest.mark.parametrize("yes", [True, False])
@pytest.mark.parametrize(
    "text", ["999001\n999002\n", "nobody@x.example\n", "Customer ID,Email\n999001,a@x.example\n"]
)
def test_a_keep_list_of_strangers(make_store: MakeStore, tool: Tool, text: str, yes: bool) -> None:
    """A list none of whose entries the store knows is refused, asked or not, whatever other lists hold."""
    store = people(make_store, 11, 12, 13)
    right, wrong = write(tool, "11\n", "right.txt"), write(tool, text, "wrong.txt")
    how = "--yes" if yes else "--dry-run"
    outcome = run_spares_all(tool, store, 3, how, "--keep", right, "--keep", wrong)
    assert "wrong.txt" in outcome.summary["reason"]
    assert {name for name, _ in unmatched(outcome)} == {"wrong.txt"}


def test_a_row_of_which_only_the_id_is_known(make_store: MakeStore, tool: Tool) -> None:
    """Id and address of a row are two entries: one that the store does not know is told."""
    store = people(make_store, 11, 12, 13)
    path = write(tool, "Customer ID,Email\n11,former@x.example\n", "staff.csv")
    outcome = run_spares_all(tool, store, 0, "--dry-run", "--keep", path)
    assert (outcome.summary["keep_unknown"], outcome.summary["spared"]) == (1, 1)
    assert unmatched(outcome) == {("staff.csv", "former@x.example")}


def test_keep_entries_are_looked_up(make_store: MakeStore, tool: Tool) -> None:
    """Entries beyond the selection are asked for, at most 250 ids and 50 addresses a request."""
    store = make_store(customers=600, quota=10_000)
    ids = list(store.customers)
    entries = [*ids[100:400], *(store.customers[number]["email"] for number in ids[400:460])]
    options = ("--ids", write(tool, lines(ids[:5])), "--keep", write(tool, lines(entries), "staff.txt"))
    outcome = run_deletes(tool, store, set(ids[:5]), *options)
    assert outcome.summary["keep_unknown"] == 0
    assert max(sizes(store, "id:in")) == 250
    assert max(sizes(store, "email:in")) == 50


@pytest.mark.parametrize(("stranger", "by"), STRANGERS.items(), ids=STRANGERS)
def test_a_stranger_on_a_store_that_ignores_the_filter(
    make_store: MakeStore, tool: Tool, stranger: str, by: str
) -> None:
    """A store that is deaf to the filter makes nobody known: nothing is deleted."""
    store = people(make_store, *range(11, 31))
    store.deaf = {by}
    path = write(tool, f"{stranger}\n11\n{store.customers[12]['email']}\n")
    run_spares_all(tool, store, 3, "--yes", "--match", "email=@", "--keep", path)


NO_FILTER = [
    ("coupons", "", "type=free_shipping"),
    ("gift_certificates", "to_email", "order_id=100"),
    ("subscribers", "email", "source=order"),
    ("promotions", "", "status=DISABLED"),
]


@pytest.mark.parametrize(("resource", "email", "given"), NO_FILTER, ids=[name for name, *_ in NO_FILTER])
def test_keep_where_nothing_can_be_asked_for(
    make_store: MakeStore, tool: Tool, resource: str, email: str, given: str
) -> None:
    """Where the list has no such filter, entries are looked up in the unfiltered listing."""
    store, ids = stocked(make_store, resource, 20)
    name, _, value = given.partition("=")
    selected = [n for n in ids if str(store.records[resource][n][name]) == value]
    other = next(n for n in ids if n not in selected)
    entries: list[object] = [selected[0], other]
    if email:
        entries = [store.records[resource][n][email] for n in (selected[0], other)]
    options = ("--resource", resource, "--filter", given, "--keep")
    stranger = "nobody@x.example" if email else "999001"
    with_stranger = write(tool, lines([*entries, stranger]), "more.txt")
    refused = run_spares_all(tool, store, 3, "--yes", *options, with_stranger)
    assert unmatched(refused) == {("more.txt", stranger)}
    outcome = run_takes(tool, store, resource, selected[1:], *options[2:], write(tool, lines(entries)))
    assert (outcome.summary["keep_unknown"], outcome.summary["spared"]) == (0, 1)


def test_keep_of_an_address_of_two_customers(make_store: MakeStore, tool: Tool) -> None:
    """An address that two customers have keeps both, and the panel says so."""
    store = people(make_store, 11, 12, 13, 14)
    for number in (11, 13):
        store.change(number, email="shared@x.example")
    path = write(tool, "shared@x.example\n")
    outcome = run_takes(tool, store, "customers", [12, 14], "--keep", path)
    assert outcome.summary["spared"] == 2
    assert_says_shared(outcome)


KEPT = SPELT | {"NFD in the store": ("jose\u0301@x.example", "jos\u00e9@x.example")}


@pytest.mark.parametrize(("stored", "listed"), KEPT.values(), ids=KEPT)
def test_keep_of_an_address_that_is_spelt_in_another_way(
    make_store: MakeStore, tool: Tool, stored: str, listed: str
) -> None:
    """Who is selected, and kept by an address that the store spells in another way, is known and stays."""
    store = people(make_store, 11, 12)
    store.change(11, email=stored)
    outcome = run_takes(tool, store, "customers", [12], "--keep", write(tool, f"{listed}\n"))
    assert (outcome.summary["spared"], outcome.summary["keep_unknown"]) == (1, 0)


def test_an_address_with_blanks_in_the_store(make_store: MakeStore, tool: Tool) -> None:
    """Blanks around an address as the store has it do not make it another one."""
    store = people(make_store, 11, 12)
    store.change(11, email=" Ada@x.example ")
    path = write(tool, "ada@x.example\n12\n")
    outcome = tool(store, None, "--dry-run", "--keep", path)
    assert (outcome.status, outcome.summary["spared"]) == (0, 2)


# --- orders ----------------------------------------------------------------------------------------


def ordering(make_store: MakeStore) -> tuple[FakeStore, list[int]]:
    """Thirty customers, of whom some have orders; and those who have none."""
    store = make_store(customers=30, orders=12, quota=10_000)
    return store, sorted(set(store.customers) - with_orders(store))


def assert_spares(store: FakeStore, outcome: Outcome, free: list[int], late: int) -> None:
    """All who had no orders went, but for the late one, who is counted as spared."""
    assert outcome.status == 0, outcome.text
    assert not set(free) - {late} & set(store.customers)
    assert set(store.deleted_ids()) == set(free) - {late}
    summary = outcome.summary
    assert summary["selected"] == summary["deleted"] == len(free) - 1
    assert summary["spared"] == 30 - len(free) + 1


def test_an_order_between_dry_run_and_deed(make_store: MakeStore, tool: Tool) -> None:
    """Who orders after a dry run is spared when it is resumed, and counted."""
    store, free = ordering(make_store)
    planned = tool(store, None, "--dry-run", "--spare-with-orders")
    assert planned.plan["ids"] == free
    store.add(kind="orders", customer_id=free[2])
    outcome = tool(store, None, "--yes", "--resume", planned.folder or "")
    assert_spares(store, outcome, free, free[2])


def test_an_order_while_the_question_stands(make_store: MakeStore, terminal: Callable[..., Session]) -> None:
    """Who orders while the question stands is spared, and counted."""
    store, free = ordering(make_store)
    session = terminal(store, "--spare-with-orders")
    session.child.expect(f"Type {len(free)} ")
    store.add(kind="orders", customer_id=free[0])
    session.child.sendline(str(len(free)))
    assert_spares(store, session.finish(), free, free[0])


def test_an_order_before_an_interrupted_run_goes_on(make_store: MakeStore, tool: Tool) -> None:
    """Who orders while a run lies half done is spared when it goes on."""
    store, free = ordering(make_store)
    store.faults = [Fault("DELETE", skip=1, status=501)]
    config = store.config(tool.folder, max_concurrent=1)
    first = tool(store, config, "--yes", "--spare-with-orders")
    assert first.status == 5, first.text
    left = sorted(set(free) & set(store.customers))
    assert 0 < len(left) < len(free)
    store.faults = []
    store.add(kind="orders", customer_id=left[-1])
    outcome = tool(store, config, "--yes", "--resume", first.folder or "")
    assert outcome.status == 0, outcome.text
    assert set(store.customers) & set(free) == {left[-1]}


def test_orders_of_all_that_were_planned(make_store: MakeStore, tool: Tool) -> None:
    """If all who were planned have ordered by now, nothing is deleted, which is no error."""
    store, free = ordering(make_store)
    planned = tool(store, None, "--dry-run", "--spare-with-orders")
    for number in free:
        store.add(kind="orders", customer_id=number)
    outcome = tool(store, None, "--yes", "--resume", planned.folder or "")
    assert (outcome.status, outcome.summary["deleted"]) == (0, 0)
    assert not store.deletes()


def test_orders_that_cannot_be_read_again(make_store: MakeStore, tool: Tool) -> None:
    """If a resume may not read the orders, nothing is deleted, and the scope is named."""
    store, _ = ordering(make_store)
    planned = tool(store, None, "--dry-run", "--spare-with-orders")
    store.scopes.discard(ORDERS_SCOPE)
    outcome = tool(store, None, "--yes", "--resume", planned.folder or "")
    assert outcome.status in (3, 5)
    assert ORDERS_SCOPE in outcome.err
    assert not store.deletes()


def test_orders_are_read_only_if_they_spare(make_store: MakeStore, tool: Tool) -> None:
    """A plan that spares nobody for orders reads none, the first time and on resume."""
    store, _ = ordering(make_store)
    planned = tool(store, None, "--dry-run")
    outcome = tool(store, None, "--yes", "--resume", planned.folder or "")
    assert (outcome.status, len(store.customers)) == (0, 0)
    assert not [request for request in store.log if request.path.endswith("v2/orders")]


# --- cascades --------------------------------------------------------------------------------------


def family(make_store: MakeStore) -> tuple[FakeStore, list[int]]:
    """Categories: the first with a child and a grandchild, and others that stand alone; all their ids."""
    store, ids = stocked(make_store, "categories", 9)
    for number in ids:
        store.change(number, kind="categories", parent_id=0, name=f"Shelf {number}")
    store.change(ids[1], kind="categories", parent_id=ids[0])
    store.change(ids[2], kind="categories", parent_id=ids[1])
    return store, ids


CASCADES: dict[str, Callable[[Tool, list[int]], tuple[tuple[str | Path, ...], list[int]]]] = {
    "ids": lambda tool, ids: (("--ids", write(tool, lines(ids[:1]))), ids[1:3]),
    "ids, a grandchild": lambda tool, ids: (("--ids", write(tool, lines(ids[:2]))), ids[2:3]),
    "ids, with other categories": lambda tool, ids: (
        ("--ids", write(tool, lines([ids[1], ids[7]]))),
        ids[2:3],
    ),
    "filter": lambda _, ids: (("--filter", f"name=Shelf {ids[0]}"), ids[1:3]),
    "filter by parent": lambda _, ids: (("--filter", "parent_id:in=0"), ids[1:3]),
    "match": lambda _, ids: (("--match", f"name=^Shelf {ids[1]}$"), ids[2:3]),
    "limit": lambda _, ids: (("--limit", "2"), ids[2:3]),
    "keep": lambda tool, ids: (("--keep", write(tool, lines(ids[2:3]))), ids[2:3]),
    "keep, in between": lambda tool, ids: (("--keep", write(tool, lines(ids[1:2]))), ids[1:2]),
}


@pytest.mark.parametrize("how", ["--yes", "--dry-run"])
@pytest.mark.parametrize("case", CASCADES.values(), ids=CASCADES)
def test_a_parent_without_its_children(make_store: MakeStore, tool: Tool, case: Any, how: str) -> None:
    """A selected parent with a descendant that is not selected is refused, and the descendants are named."""
    store, ids = family(make_store)
    options, children = case(tool, ids)
    outcome = run_spares_all(tool, store, 3, how, "--resource", "categories", *options)
    for number in children:
        assert re.search(rf"\b{number}\b", outcome.summary["reason"]), outcome.text
    assert outcome.summary["resume"] is None


@pytest.mark.parametrize("by", ["ids", "filter", "limit"])
def test_a_parent_with_all_its_children(make_store: MakeStore, tool: Tool, by: str) -> None:
    """A whole branch goes, children first, and each is counted."""
    store, ids = family(make_store)
    store.change(ids[8], kind="categories", tree_id=9)
    options: dict[str, tuple[tuple[str | Path, ...], list[int]]] = {
        "ids": (("--ids", write(tool, lines(ids[:3]))), ids[:3]),
        "filter": (("--filter", f"tree_id:not_in={9}"), ids[:8]),
        "limit": (("--limit", "3"), ids[:3]),
    }
    chosen_by, wanted = options[by]
    run_takes(tool, store, "categories", wanted, *chosen_by, "--max-concurrent", "1")
    order = [number for request in store.deletes() for number in request.ids]
    assert order.index(ids[2]) < order.index(ids[1]) < order.index(ids[0])


def test_children_without_their_parent(make_store: MakeStore, tool: Tool) -> None:
    """A branch that is selected down to its leaves goes without what stands above it."""
    store, ids = family(make_store)
    run_takes(tool, store, "categories", ids[1:3], "--ids", write(tool, lines(ids[1:3])))


@pytest.mark.parametrize("parent", [None, "x", -1])
def test_a_parent_that_cannot_be_read(make_store: MakeStore, tool: Tool, parent: Any) -> None:
    """A category that does not say what is above it may be anybody's child: nothing is deleted."""
    store, ids = family(make_store)
    store.change(ids[1], kind="categories", parent_id=parent)
    run_spares_all(tool, store, 3, "--yes", "--resource", "categories", "--ids", write(tool, lines(ids[:1])))


def test_many_children_that_are_not_selected(make_store: MakeStore, tool: Tool) -> None:
    """Of many children the first few are named, and how many there are."""
    store, ids = stocked(make_store, "categories", 60)
    for number in ids:
        store.change(number, kind="categories", parent_id=0 if number == ids[0] else ids[0])
    path = write(tool, lines(ids[:1]))
    outcome = run_spares_all(tool, store, 3, "--yes", "--resource", "categories", "--ids", path)
    named = [number for number in ids[1:] if re.search(rf"\b{number}\b", outcome.summary["reason"])]
    assert ids[1] in named
    assert len(named) < 20
    assert re.search(r"\b59\b", outcome.summary["reason"])


# --- selected.csv ----------------------------------------------------------------------------------


def selected(outcome: Outcome) -> list[int]:
    """The ids of selected.csv."""
    return [int(row["id"]) for row in rows_of(outcome, "selected.csv")]


def test_selected_tells_who_it_is(store: FakeStore, tool: Tool) -> None:
    """selected.csv has a line for each that is planned, with the id and the fields that tell who it is."""
    planned = run_spares_all(tool, store, 0, "--dry-run", "--match", DROP)
    rows = rows_of(planned, "selected.csv")
    assert next(iter(rows[0])) == "id"
    assert [int(row["id"]) for row in rows] == planned.plan["ids"]
    for row in rows:
        record = store.customers[int(row["id"])]
        assert (row["email"], row["date_created"]) == (record["email"], record["date_created"])
        assert row["first_name"] == record["first_name"]
    done = run_deletes(tool, store, set(planned.plan["ids"]), "--match", DROP)
    assert rows_of(done, "selected.csv") == rows


ODD = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    '=HYPERLINK("https://evil.example")',
    "a\x00b",
    'x"y',
    "a;b,c",
]


def test_selected_is_safe_in_a_spreadsheet(make_store: MakeStore, tool: Tool) -> None:
    """No cell of selected.csv begins like a formula, and what the name says can still be read."""
    store = people(make_store, *range(11, 11 + len(ODD)))
    for number, name in zip(list(store.customers), ODD, strict=True):
        store.change(number, first_name=name)
    outcome = run_spares_all(tool, store, 0, "--dry-run")
    rows = rows_of(outcome, "selected.csv")
    assert all(cell[:1] not in tuple("=+-@\t\r\n") for row in rows for cell in row.values() if cell)
    for row, name in zip(rows, ODD, strict=True):
        assert re.sub(r"\W", "", row["first_name"]) == re.sub(r"\W", "", name)


@pytest.mark.parametrize(
    "resource", ["customers", "categories", "products", "pages", "coupons", "subscribers"]
)
def test_selected_is_a_list(make_store: MakeStore, tool: Tool, resource: str) -> None:
    """selected.csv of a dry run is a list for --ids, and selects exactly the same again."""
    store = make_store(**{"customers": 0, "quota": 10_000} | {resource: 90})
    names = iter(ODD * 9)
    field = {"customers": "last_name", "coupons": "code", "subscribers": "last_name"}.get(resource, "name")
    for number in store.records[resource]:
        changes = {"parent_id": 0} if "parent_id" in store.records[resource][number] else {}
        store.change(number, kind=resource, **{field: next(names, "plain")}, **changes)
    planned = tool(store, None, "--dry-run", "--resource", resource, "--limit", "70")
    assert planned.status == 0, planned.text
    wanted = planned.plan["ids"]
    assert sorted(selected(planned)) == sorted(wanted)
    path = (planned.folder or Path()) / "selected.csv"
    outcome = run_takes(tool, store, resource, wanted, "--ids", path)
    assert sorted(selected(outcome)) == sorted(wanted)
    assert outcome.summary["not_found"] == 0


def test_selected_after_a_listing_that_was_read_again(make_store: MakeStore, tool: Tool) -> None:
    """A listing that has to be read again leaves each record once."""
    store = make_store(customers=600, quota=10_000)
    first = next(iter(store.customers))
    store.faults = [Fault(where=listings, skip=1, after=lambda _: store.remove(first))]
    outcome = tool(store, None, "--dry-run")
    assert outcome.status == 0, outcome.text
    assert "listing again" in outcome.err
    assert selected(outcome) == outcome.plan["ids"]


def test_selected_without_who_ordered_meanwhile(make_store: MakeStore, tool: Tool) -> None:
    """Who orders while the listing is read is neither in the plan nor in selected.csv."""
    store, free = ordering(make_store)

    def order(_: Request) -> None:
        store.add(kind="orders", customer_id=free[0])

    store.faults = [Fault(where=lambda r: listings(r) and r.path.endswith("v3/customers"), after=order)]
    outcome = tool(store, None, "--dry-run", "--spare-with-orders")
    assert outcome.plan["ids"] == free[1:]
    assert selected(outcome) == free[1:]


def test_selected_without_a_backup(make_store: MakeStore, tool: Tool) -> None:
    """selected.csv is there with --no-backup too."""
    store = people(make_store, 11, 12)
    assert selected(run_spares_all(tool, store, 0, "--dry-run", "--no-backup")) == [11, 12]


# --- panel and summary -----------------------------------------------------------------------------


def test_the_panel_of_everybody_but(make_store: MakeStore, tool: Tool) -> None:
    """The panel says in order: ALL of the store, except those of the file, and those with orders."""
    store = make_store(customers=60, orders=30, quota=10_000)
    ordered = with_orders(store)
    staff = sorted(set(store.customers) - ordered)[:12]
    path = write(tool, lines(staff), "staff.txt")
    outcome = tool(store, None, "--dry-run", "--keep", path, "--spare-with-orders", COLUMNS="1000")
    said = " ".join(outcome.err.split())
    but = r"the 12 of \S*staff\.txt \(12 known, 12 spared\)"
    words = rf"ALL customers of the store except {but} and the {len(ordered)} with orders"
    assert re.search(words, said), said


def test_the_panel_of_some_but(store: FakeStore, tool: Tool) -> None:
    """With a selection the panel says whom it is taken from, and never ALL."""
    spam = sorted(chosen(store, lambda r: r["email"].endswith("@spam-drop.example")))
    path = write(tool, lines([*spam[:2], next(iter(store.customers))]), "staff.txt")
    outcome = run_spares_all(tool, store, 0, "--dry-run", "--match", DROP, "--keep", path)
    assert "(3 known, 2 spared)" in " ".join(outcome.err.split())
    assert DROP.partition("=")[2] in outcome.err
    assert "ALL" not in outcome.err


def test_the_summary_holds_the_selection(make_store: MakeStore, tool: Tool) -> None:
    """`selection` of the summary has all that selected but the filters, in the words given, on resume too."""
    store = make_store(customers=30, orders=5, quota=10_000)
    keep = write(tool, lines(list(store.customers)[:2]), "staff.txt")
    options = (
        "--match",
        "email!=@mailbin",
        "--match",
        "email=@",
        "--keep",
        keep,
        "--spare-with-orders",
        "--limit",
        "9",
    )
    outcome = tool(store, None, "--dry-run", "--filter", "date_created:min=2000-01-01", *options)
    assert outcome.status == 0, outcome.text
    selection = outcome.summary["selection"]
    assert set(selection) == {"match", "keep", "spare_with_orders", "limit"}
    told = json.dumps(selection)
    assert all(word in told for word in ("email!=@mailbin", "email=@", str(keep), "9"))
    assert outcome.summary["filters"] == {"date_created:min": "2000-01-01"}
    resumed = tool(store, None, "--yes", "--resume", outcome.folder or "")
    assert resumed.summary["selection"] == selection


def test_the_summary_of_everybody(make_store: MakeStore, tool: Tool) -> None:
    """Without a selection there is none in the summary, and no keep entry is unknown."""
    store = people(make_store, 11, 12)
    summary = run_spares_all(tool, store, 0, "--dry-run").summary
    assert (summary["selection"], summary["filters"], summary["keep_unknown"]) == ({}, {}, 0)


def test_the_summary_table_counts_strangers(make_store: MakeStore, tool: Tool) -> None:
    """The final table says how many entries of keep lists the store does not know."""
    store = people(make_store, 11, 12)
    outcome = run_spares_all(tool, store, 0, "--dry-run", "--keep", write(tool, "11\n999001\n"))
    assert re.search(r"(?i)keep.unknown\s+1\b", outcome.out), outcome.out
