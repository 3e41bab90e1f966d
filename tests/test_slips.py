"""A person's slips: input that would delete the wrong records is refused or shown."""

from __future__ import annotations

import csv
import gc
import re
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import bulk_delete
from bulk_delete import RESOURCES, Config, ListMatcher, Selection, read_list
from tests.fake_store import STORE_HASH, TOKEN, FakeStore, Fault, Record, Request, write_private
from tests.rigged import MakeStore, Outcome, Tool, lines, people, run_refused, write
from tests.test_selection import DirectTool

EMAILS = {11: "ada@one.example", 12: "bob@one.example", 13: "cleo@one.example"}
EMAILS |= {26: "dora@staff.example"}
EMAILS |= dict.fromkeys((27, 28), "shared@one.example")  # one account in each storefront
RECORDS = [{"id": number, "email": email} for number, email in EMAILS.items()]
INI = f"[store]\nstore_hash = {STORE_HASH}\naccess_token = {TOKEN}\n"
parametrize = pytest.mark.parametrize
each_list = parametrize("option", ["--ids", "--keep"])


@pytest.fixture
def tool(tmp_path: Path) -> DirectTool:
    return DirectTool(tmp_path)


@pytest.fixture
def store(make_store: MakeStore) -> FakeStore:
    """Five customers and one of the staff."""
    return with_emails(people(make_store, *EMAILS), EMAILS)


def with_emails(store: FakeStore, emails: dict[int, str]) -> FakeStore:
    for number, email in emails.items():
        store.change(number, email=email)
    return store


def run(tool: Tool, store: FakeStore, *options: str | Path, **ini: Any) -> Outcome:
    if "--resume" in options:
        gc.collect()  # the earlier run, in this process, and its lock
    return tool(store, store.config(tool.folder, **ini), *options)


def dry_run(tool: Tool, store: FakeStore, *options: str | Path) -> tuple[Path, list[int]]:
    """Return the run folder of a dry run, and the ids that it plans."""
    outcome = run(tool, store, "--dry-run", *options)
    assert outcome.folder, outcome.text
    return outcome.folder, sorted(outcome.plan["ids"])


def shown(outcome: Outcome) -> str:
    """Everything printed, in lower case, without frames and line breaks."""
    return " ".join(re.sub("[│╭╮╰╯─]", " ", outcome.text).split()).lower()


def assert_warns(outcome: Outcome, words: str) -> None:
    assert re.search(rf"\bwarning\b.{{0,300}}?{words}", shown(outcome)), outcome.text


def assert_deletes(tool: Tool, store: FakeStore, ids: Iterable[int], *options: Any) -> Outcome:
    """Run with --yes: exactly these customers are deleted, and no DELETE has another id."""
    before = set(store.customers)
    outcome = run(tool, store, "--yes", *options)
    assert outcome.status == 0, outcome.text
    assert before - set(store.customers) == set(store.deleted_ids()) == set(ids)
    return outcome


def assert_refused(tool: Tool, store: FakeStore, words: str, *options: Any, **ini: Any) -> None:
    """Run with --yes: it is refused with status 3 in these words, and deletes nothing."""
    outcome = run(tool, store, "--yes", *options, **ini)
    assert (outcome.status, store.deletes()) == (3, []), (options, outcome.text)
    assert re.search(words, shown(outcome)), (options, outcome.text)


def settings(folder: Path, ini: str, *options: str) -> Config:
    """Return the settings of a run with these lines in [cleanup] and these options."""
    path = folder / "settings.ini"
    write_private(path, f"{INI}[cleanup]\n{ini}\n")
    argv = bulk_delete.parse_arguments(["--config", str(path), *options])
    return bulk_delete.read_config(argv, {})


def matches(text: str, records: Iterable[Record] = RECORDS) -> tuple[set[int], str]:
    """Return the customers that a list matches, and its rows of two customers."""
    matcher = ListMatcher(read_list(text, RESOURCES["customers"]), RESOURCES["customers"])
    ids = {record["id"] for record in records if matcher.matches(record)}
    return ids, ", ".join(matcher.contradictions())


# --- lists ------------------------------------------------------------------------------------

LISTS: list[Any] = [  # list, customers that it matches, rows of two customers
    ("ID,Email\n26,ada@one.example\n", {26}, "line 2 (id 26)"),
    ("ID,Email\n11,bob@one.example\n12,ada@one.example\n", {11, 12}, "line 2 (id 11), line 3"),
    ("ID;E-Mail\r\n11;ada@one.example\r\n13;bob@one.example\r\n", {11, 13}, "line 3 (id 13)"),
    ("ID\tEmail\n11\tada@one.example\n12\tbob@old.example\n", {11, 12}, "line 3 (id 12)"),
    ("ID,Email\n12,bob@one.example\n99,ada@one.example\n", {12}, "line 3 (id 99)"),
    ("Email,ID\nada@one.example,11\nshared@one.example,13\n", {11, 13}, "line 3 (id 13)"),
    ("ID,Email\n27,shared@one.example\n27,shared@one.example\n", {27}, ""),
    ("E-Mail\tCustomer ID\nSHARED@One.Example\t28\n", {28}, ""),
    ("ID,Email\n27,shared@one.example\n28,shared@one.example\n", {27, 28}, ""),
    ("ID,Email\n11,ada@one.example\n99,zoe@one.example\n", {11}, ""),
]
HALF_ROWS = [(3, "Customer ID,Name,Email\n11,Ada,ada@one.example\n13,,\n")]
HALF_ROWS += [(3, "ID,Email\n11,ada@one.example\n,bob@one.example\n"), (2, "ID,Email\n13,\n")]
HALF_ROWS += [(4, "ID,Email\n11,ada@one.example\n12,bob@one.example\n13\n")]
HALF_ROWS += [(3, "Email;ID\r\nada@one.example;11\r\n  ;13\r\n"), (2, "ID\tEmail\n13\t\n")]
EXPORTS = ["Item,ID,Name\nProduct,11,Mug\nVariant,12,Mug\n", "ID;ITEM_TYPE\r\n11;product\r\n"]
EXPORTS += ["Item Type,Product ID,Name\nProduct,11,Mug\n  SKU,12,[S]\n", "ID,Item\n11,Image\n"]
EXPORTS += ["item-type\tID\nProduct\t11\nProduct\t12\n", "Name,Item,ID\nMug,Product,11\n"]
CUSTOMER_IDS = ["customer_id", "Customer ID", "CustomerID", "CUSTOMER-ID", "customer id"]
SAVED: list[dict[str, Any]] = [{}, {"lineterminator": "\n"}, {"lineterminator": "\r"}]
SAVED += [{"dialect": "excel-tab"}, {"dialect": "unix"}, {"delimiter": ";"}]
UNUSUAL = ["+ada@one.example", "-bob@one.example", "=cleo@one.example", "müller@one.example"]
UNUSUAL += ["eva@bücher.example", "o'brien@one.example"]
STORED = [
    " Ada.Smith@One.Example ",
    "EVE@ONE.EXAMPLE",
    "ada@One.example",
    "JOSE\u0301@one.example",
]
STORED += ["Joe.Smith@one.example", "adaSmith@one.example"]
LISTED = [*map(str.lower, STORED[:3]), "josé@one.example", *map(str.swapcase, STORED[4:])]
CAPITALS = ["ZOE@ONE.EXAMPLE", "Bob@one.example", "cleo@One.Example", "dORa@one.example"]
STRAY = [("--ids", 250, 0, 0), ("--ids", 5, 0, 0), ("--ids", 300, 0, 1), ("--ids", 0, 40, 0)]
STRAY += [("--ids", 0, 80, 1), ("--ids", 20, 20, 1), ("--keep", 5, 0, 1), ("--keep", 0, 5, 1)]


@parametrize(("text", "ids", "rows"), LISTS)
def test_a_row_of_a_list_is_one_record(text: str, ids: set[int], rows: str) -> None:
    found, contradictions = matches(text)
    assert (found, contradictions[: len(rows) or None]) == (ids, rows)


@each_list
def test_a_row_of_two_records_is_refused(store: FakeStore, tool: Tool, option: str) -> None:
    for row in ("26,ada@one.example", "99,ada@one.example"):
        path = write(tool, f"ID,Email\n12,bob@one.example\n{row}\n")
        for text in ("", "--limit 2", "--match id=12", "--filter id:in=12"):
            if option == "--keep" or "filter" not in text:
                assert_refused(tool, store, r"\bline 3\b", *text.split(), option, path)


def test_a_row_selects_and_excludes_only_its_record(store: FakeStore, tool: Tool) -> None:
    path = write(tool, "ID,Email\n27,shared@one.example\n11,ada@one.example\n")
    assert dry_run(tool, store, "--keep", path)[1] == [12, 13, 26, 28]
    path = write(tool, "ID,Email\n27,shared@one.example\n99,zoe@one.example\n")
    assert_warns(assert_deletes(tool, store, {27}, "--ids", path), "1 entry .* no customer: 99")


@parametrize("name", RESOURCES)
def test_selected_csv_is_a_list_of_its_own_resource_only(tmp_path: Path, name: str) -> None:
    resource, column = RESOURCES[name], re.sub("ie$", "y", name.removesuffix("s")) + "_id"
    files = bulk_delete.RecordFiles(tmp_path, resource, backup=False, groups=None)
    files.restart()
    files.write([dict.fromkeys(resource.display_fields, "a@b.cd") | {resource.id_field: 7}])
    files.close()
    text = bulk_delete.read_text(tmp_path / "selected.csv")
    assert text.startswith(f"{column},")
    for other in set(RESOURCES) - {name}:
        with pytest.raises(ValueError, match=f"line 1: lists {column}s, not"):
            read_list(text, RESOURCES[other])
    assert list(read_list(text, resource)) == [7]
    assert list(read_list(f"other_id,{column}\n8,7\n", resource)) == [7]


@each_list
def test_a_list_of_another_kind_is_refused(store: FakeStore, tool: Tool, option: str) -> None:
    texts = [(dry_run(tool, store)[0] / "selected.csv").read_text()]
    store.log.clear()
    for text in [*texts, *(f"{name},Email\n11,ada@one.example\n" for name in CUSTOMER_IDS)]:
        options = ("--resource", "subscribers", option, write(tool, text))
        run_refused(tool, store, 2, *options, words=["line 1: lists " + text.split(",")[0]])
    for text in EXPORTS:
        options = ("--resource", "products", option, write(tool, text))
        run_refused(tool, store, 2, *options, words=["list.txt: line 1: product exports"])
    for line, text in HALF_ROWS:
        run_refused(tool, store, 2, option, write(tool, text), words=[f"line {line}: "])


def test_selected_csv_can_be_saved_by_a_spreadsheet(make_store: MakeStore, tool: Tool) -> None:
    store = with_emails(people(make_store, *range(11, 18)), dict(enumerate(UNUSUAL, 11)))
    path = dry_run(tool, store, "--limit", "6")[0] / "selected.csv"
    rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    for saved in SAVED:
        with open(path, "w", encoding="utf-8-sig", newline="") as file:
            csv.writer(file, **saved).writerows(rows)
        text = bulk_delete.read_text(path)
        assert matches(text, store.customers.values()) == ({*range(11, 17)}, ""), saved
    assert dry_run(tool, store, "--keep", path)[1] == [17]
    assert_deletes(tool, store, range(11, 17), "--ids", path)


def test_addresses_match_in_any_case_in_a_listing(make_store: MakeStore, tool: Tool) -> None:
    store = people(make_store, *range(11, 18), case_sensitive_lookups=True)
    with_emails(store, dict(enumerate(STORED, 11)))
    path = write(tool, lines(LISTED))
    assert dry_run(tool, store, "--keep", path)[1] == [17]
    assert_deletes(tool, store, range(11, 17), "--ids", path)


def test_possible_case_mismatch_is_reported(make_store: MakeStore, tool: Tool) -> None:
    store = make_store(customers=600, quota=10_000, case_sensitive_lookups=True)
    numbers, words = list(store.customers), r"6 entries .*ada\.smith@one"
    with_emails(store, dict(zip(numbers, [*STORED, *map(str.lower, CAPITALS)], strict=False)))
    path = write(tool, lines([*LISTED, *CAPITALS]))
    other = write(tool, f"{numbers[-1]}\n", "other.txt")
    assert_refused(tool, store, words, "--ids", other, "--keep", path)
    assert_warns(assert_deletes(tool, store, numbers[6:10], "--ids", path), words)


def empty_page(_request: Request, answer: Any) -> Any:
    none = {"total": 0, "count": 0, "total_pages": 0}
    return {"data": [], "meta": {"pagination": answer["meta"]["pagination"] | none}}


@parametrize("case", STRAY, ids=str)
def test_stray_response_omits_no_record(make_store: MakeStore, tool: Tool, case: Any) -> None:
    option, ids, emails, skip = case
    store = make_store(customers=1000, quota=10_000)
    other, *listed = list(store.customers)[: 1 + ids + emails]
    entries = [*listed[:ids], *(store.customers[number]["email"] for number in listed[ids:])]
    only: list[Any] = ["--ids", write(tool, f"{other}\n", "other.txt")] * (option == "--keep")
    store.faults = [fault := Fault("GET", skip=skip, rewrite=empty_page)]
    fault.where = lambda request: bool({"id:in", "email:in"} & request.query.keys())
    folder, planned = dry_run(tool, store, option, write(tool, lines(entries)), *only)
    assert fault.seen > skip
    assert planned == ([other] if option == "--keep" else listed)
    assert not (folder / "unmatched.csv").exists()


# --- filters, exclusions and the ini ----------------------------------------------------------

TYPO = r"--match email!=@stafff\.example$"
IDLE = [TYPO, "--match email!=(“@staff”)", r"--match email!=@STAFF\.example$", "--match id!=77"]
IDLE += [r"--match email!=@staff\\.example$", "--match email!=^@staff", "--spare-with-orders"]
IDLE += ["--match email!=@staff --match email!=@stuff", "--limit 2 --match email!=@staff"]
BUSY = ["--match email!=@staff", "--match email!=^(bob|cleo)", "--limit 1 --match id!=11"]
BUSY += ["--match email=@one --match email!=@staff", "--limit 4 --match email!=@staff"]
DE, US = {"country": "DE"}, {"country": "US"}
MATCHES: list[Any] = [  # field, values (...: none), expression => places of values that match
    ("channels", [[1], [12], [2, 1], [], None], {"=1": [0, 2], "!=1": [1, 3], ".*!=1": [1, 3]}),
    ("categories", [[5], [15, 50], [50, 5], [55], []], {"=5": [0, 2], "!=5": [1, 3, 4]}),
    ("related", [[-1], [-10], [1], [11, -1], [-1, 0]], {"=-1": [0, 3, 4], "=-1,.*": []}),
    ("keywords", [["red"], ["dark red"], ["blue", "red"], []], {"=^red$": [0, 2]}),
    ("weight", [0.0, 0, 0.5, 10], {"=0": [0, 1], "!=0": [2, 3]}),
    ("price", [1000000.0, 100000.0, 12.5, 12.55, 112.5], {"=1000000": [0], r"=12\.5": [2]}),
    ("amounts", [[{"n": n}] for n in (100.0, 100, 1000)], {".*.n=100": [0, 1], "!=100": [2]}),
    ("reset", [{"force": True}, {"force": False}], {"=true": [0], ".force!=true": [1]}),
    ("company", ["A", "Zeta", None, ..., ""], {"!=A": [1, 4], "=^(null|None|)$": [4]}),
    ("order_id", [None, 5, 55], {"!=5": [2]}),
    ("addresses", [[DE], [US], [US] * 12, []], {"!=DE": [1, 3], "=US": [1]}),
    ("attributes", [[{"v": "A"}], [{"v": "B"}], [{"v": "B"}] * 12], {".*.v!=A": [1]}),
    ("addresses", [[{"c": None}, {"c": "B"}], [{"c": "B"}], [{"c": "A"}]], {".*.c!=A": [1]}),
]
DAYS = [f"{day}T12:00:00Z" for day in ("2019-12-31", "2020-01-01", "2020-01-02")]
IGNORED: list[Any] = [  # resource, filter, values of the field, places of values that match
    ("customers", "company:in=Acme Corp", ["Acme Corp", "Acme", "", None], [0]),
    ("customers", "date_created:max=2020-01-01", DAYS, [0, 1]),
    ("subscribers", "date_modified:min=2020-01-01", DAYS, [1, 2]),
    ("products", "is_visible=false", [True, False, True], [1]),
    ("brands", "name:like=old", ["old stock", "new", "of old"], [0, 2]),
    ("coupons", "code=OLD", ["OLD", "OLDER", "NEW"], [0]),
]
ZONES: list[Any] = ["America/Chicago", "Asia/Kolkata", "UTC", None, {}, {"name": ""}, ["UTC"]]


@parametrize("text", [*IDLE, *BUSY])
def test_exclusion_without_effect_is_shown(tmp_path: Path, text: str) -> None:
    config = settings(tmp_path, "", *text.split())
    selection = Selection(config, set())
    selection.select(RECORDS)
    warnings = bulk_delete.selection_warnings(config, selection)
    assert [text.split()[-1] in row for row in warnings] == [True] * (text in IDLE)


@parametrize("text", [TYPO, "--spare-with-orders"])
def test_an_idle_exclusion_is_refused_with_yes(store: FakeStore, tool: Tool, text: str) -> None:
    store.add(3, kind="orders", customer_id=0)  # those of guests
    planned, words = run(tool, store, "--dry-run", *text.split()), re.escape(text.lower())
    assert_warns(planned, f"{words} excludes no")
    assert_refused(tool, store, f"{words} excludes no", *text.split())
    assert_refused(tool, store, f"{words} excludes no", "--resume", planned.folder)


@parametrize("case", MATCHES)
def test_match_compares_whole_numbers_and_elements_and_nothing_unknown(case: Any) -> None:
    name, values, expressions = case
    records: list[Record] = [{} if value is ... else {name: value} for value in values]
    counts = {"addresses": "address_count", "attributes": "attribute_count"}
    for record in records if name in counts else ():  # as the API lists it
        record |= {counts[name]: len(record[name]), name: record[name][:10]}
    for text, places in expressions.items():
        match = bulk_delete.match_expression(name + text)
        assert [at for at, record in enumerate(records) if match.selects(record)] == places


def test_match_deletes_only_what_is_known_to_match(make_store: MakeStore, tool: Tool) -> None:
    store, rest = people(make_store, *range(11, 18)), ([2], 100, [US])
    values: list[Any] = [([1], 100.0, [US]), ([12], 100.0, [US]), (None, 100, [US]), rest]
    values += [([2], 1000, [US]), ([2], 100, [US] * 12), ([2], 100, [DE])]
    for number, (channels, amount, addresses) in enumerate(values, 11):
        fields = {"channel_ids": channels, "store_credit_amounts": [{"amount": amount}]}
        fields |= {"addresses": addresses, "address_count": len(addresses)}
        store.change(number, **fields)
    options = ["--match", "channel_ids!=1", "--match", "store_credit_amounts.*.amount=100"]
    assert_deletes(tool, store, {12, 14}, *options, "--match", "addresses.*.country!=DE")


@parametrize("case", IGNORED, ids=str)
def test_an_ignored_filter_selects_only_records_that_match(tmp_path: Path, case: Any) -> None:
    resource, text, values, places = case
    name, field = text.split("=")[0], re.split("[:=]", text)[0]
    config = settings(tmp_path, "", "--resource", resource, "--filter", text)
    selection = Selection(config, set())
    selected = selection.select({"id": at + 1, field: value} for at, value in enumerate(values))
    assert [record["id"] - 1 for record in selected] == places
    (warning,) = bulk_delete.selection_warnings(config, selection)
    assert f"ignored the filter {name}: " in warning


def test_a_date_filter_shows_the_time_zone_of_the_store(store: FakeStore, tool: Tool) -> None:
    for zone in ZONES:
        store.info["timezone"] = {"name": zone} if isinstance(zone, str) else zone
        outcome = run(tool, store, "--dry-run", "--filter", "date_created:min=2001-01-01")
        words = zone.lower() if isinstance(zone, str) else "an unknown time zone"
        assert f"the store uses {words}" in shown(outcome)


SECRET = "q7w8e9r0t1y2u3i4="
BAD_CLEANUP = ["match = a!=@b$ ; ours", "match = a!=@b$ # ours", 'match = "a!=@b$"']
BAD_CLEANUP += ["keep = 'a.txt'", "ids = a.txt ; all", "max_delete = 100 # no more"]
BAD_CLEANUP += ["runs_dir = “runs”", "webhook_url = https://a.example # the desk"]
BAD_STORE = [f"access_token = {SECRET} ; live", f"access_token: {SECRET}", SECRET]
BAD_STORE += [f"access_token {SECRET[:-1]}", f"acess_token = {SECRET}", f"[{SECRET}]"]
BAD_STORE += [f"access_token = x\naccess_token = {SECRET}", "domain = a.example # live"]
BAD_FILTERS = ["company:in = Acme ; old", 'company:in = "Acme"', "name:like = ‘Ada’"]
BAD_INI = [f"access_token: {SECRET}", f"{INI}[cleanup]\naccess_token: {SECRET}"]
BAD_INI += [f"{INI}[cleanup]\n{line}" for line in BAD_CLEANUP]
BAD_INI += [f"[store]\nstore_hash = x\n{line}" for line in BAD_STORE]
BAD_INI += [f"{INI}[filters]\n{line}" for line in [*BAD_FILTERS, f"access_token: {SECRET}"]]


def test_a_bad_line_of_the_ini_is_numbered_and_not_shown(store: FakeStore, tool: Tool) -> None:
    parts = [SECRET[at : at + 4] for at in range(len(SECRET) - 4)]
    for text in BAD_INI:
        write_private(tool.folder / "store.ini", f"{text}\n")
        outcome = tool(store, tool.folder / "store.ini", "--yes")
        assert (outcome.status, store.log) == (2, []), outcome.text
        assert f"store.ini, line {len(text.splitlines())}: " in outcome.err, text
        assert not [part for part in parts if part in outcome.text], outcome.text


def test_an_empty_store_is_never_all_customers(make_store: MakeStore, tool: Tool) -> None:
    path = write(tool, "999\n")
    for text in ("", "--limit 3", "--match id=7", "--filter id:in=7", f"--ids {path}"):
        config = settings(tool.folder, "", *text.split())
        selection = Selection(config, set())
        selection.total = 0
        assert "ALL" not in bulk_delete.selection_words(config, selection)
    outcome = assert_deletes(tool, people(make_store), (), "--ids", path)
    assert "all customers" not in shown(outcome)


# --- between the plan and the deletion --------------------------------------------------------

STAFF, NO_STAFF, NO_BOB = "--keep staff.txt", "--match email!=@staff", "--match email!=^bob"
KEEP, MATCH, ORDERS = "keep = staff.txt", "match = email!=@staff", "spare_with_orders = yes"
ADDED = [("", "", KEEP), ("", "", MATCH), ("", "", "match = email=@one"), ("", "", ORDERS)]
ADDED += [("--keep family.txt", "", KEEP), (NO_BOB, "", MATCH), (NO_BOB, KEEP, MATCH)]
SAME = [("", KEEP, KEEP), (STAFF, "", KEEP), ("--keep family.txt", KEEP, KEEP)]
SAME += [(NO_STAFF, "", MATCH), ("--spare-with-orders", "", ORDERS)]
SAME += [(NO_STAFF, KEEP, f"{KEEP}\n{MATCH}\nspare_with_orders = no")]


@parametrize("case", [*ADDED, *SAME], ids=str)  # options of the dry run, the ini then, and now
def test_a_protection_not_in_the_plan_is_found(tool: Tool, monkeypatch: Any, case: Any) -> None:
    options, before, after = case
    monkeypatch.chdir(write(tool, "26\n", "staff.txt").parent)
    write(tool, "11\n", "family.txt")
    config = settings(tool.folder, before, *options.split())
    plan: Any = SimpleNamespace(selection=config.selection, age=timedelta)
    found = bulk_delete.resume_mistakes(settings(tool.folder, after, "--resume", "a"), plan)
    assert [text.startswith(after) for text in found] == [True] * (case in ADDED)


def test_a_protection_added_after_the_dry_run_is_refused(store: FakeStore, tool: Tool) -> None:
    write(tool, "26\n", "staff.txt")
    folder, ini = dry_run(tool, store)[0], {"keep": "staff.txt"}
    assert_warns(run(tool, store, "--resume", folder, **ini), KEEP)
    assert_refused(tool, store, KEEP, "--resume", folder, **ini)
    folder, _ = dry_run(tool, store, *STAFF.split())
    outcome = run(tool, store, "--yes", "--resume", folder, **ini)
    assert (outcome.status, set(store.customers)) == (0, {26}), outcome.text
    assert "warning" not in shown(outcome)


def test_an_order_placed_since_the_dry_run_stops_a_resume(store: FakeStore, tool: Tool) -> None:
    store.add(kind="orders", customer_id=26)
    folder, _ = dry_run(tool, store, "--spare-with-orders", *NO_STAFF.split())
    for customers in ([11], [28], [12, 27], [11, 12, 13, 27, 28], [13, 13], [0, 99, 12]):
        orders = [store.add(kind="orders", customer_id=number)[0] for number in customers]
        assert_refused(tool, store, "since the plan was made", "--resume", folder)
        store.remove(*orders, kind="orders")
    for number in (0, 26, 99):
        store.add(kind="orders", customer_id=number)
    outcome = run(tool, store, "--yes", "--resume", folder)
    assert (outcome.status, set(store.customers)) == (0, {26}), outcome.text
    assert "warning" not in shown(outcome)


def test_an_order_placed_at_the_question_stops_the_run(store: FakeStore, terminal: Any) -> None:
    store.add(kind="orders", customer_id=26)
    session = terminal(store, "--spare-with-orders")
    session.child.expect("type 5:")
    store.add(kind="orders", customer_id=12)
    session.child.sendline("5")
    assert (session.finish().status, store.deletes()) == (3, [])


def test_a_filter_on_two_categories_needs_both(make_store: MakeStore, tool: DirectTool) -> None:
    """products_catalog.v3.yml: "in all the categories specified"; so it is checked here."""
    store = make_store(customers=0, products=4, categories=3)
    one, other, third = store.records["categories"]
    products = list(store.records["products"])
    for number, listed in zip(
        products, [[one, other], [one], [other, third], [third]], strict=True
    ):
        store.change(number, kind="products", categories=listed)
    store.deaf = {"categories:in"}
    value = f"categories:in={one},{other}"
    assert dry_run(tool, store, "--resource", "products", "--filter", value)[1] == products[:1]


def test_sharp_s_is_not_folded(make_store: MakeStore, tool: DirectTool) -> None:
    """Filters and lists compare addresses alike, whatever the store returns."""
    store = with_emails(
        people(make_store, 11, 12), {11: "straße@x.example", 12: "strasse@x.example"}
    )
    store.deaf = {"email:in"}
    assert dry_run(tool, store, "--filter", "email:in=STRASSE@x.example")[1] == [12]


@parametrize("resource", ["products", "coupons", "redirects"])
def test_a_row_of_a_missing_id_and_another_key_is_refused(
    make_store: MakeStore, tool: DirectTool, resource: str
) -> None:
    store = make_store(**{"customers": 0, resource: 5})
    kind, (first, second, *_) = RESOURCES[resource], store.records[resource].values()
    table = [f"id,{kind.key}", f"99999,{first[kind.key]}", f"{second['id']},{second[kind.key]}"]
    path = write(tool, lines(table))
    run_refused(
        tool, store, 3, "--resource", resource, "--ids", path, words=["line 2 (id 99999)"]
    )


def test_a_limit_leaves_rows_with_a_shared_address_unseen(
    store: FakeStore, tool: DirectTool
) -> None:
    path = write(tool, "id,email\n27,shared@one.example\n28,shared@one.example\n")
    assert dry_run(tool, store, "--ids", path, "--limit", "1")[1] == [27]


def test_phone_number_is_compared_as_text() -> None:
    """Text with four decimals is searched, but for the amounts that V2 returns as text."""
    phone = bulk_delete.match_expression("phone!=0101")
    assert not phone.selects({"phone": "555.0101"})
    balance = bulk_delete.match_expression("balance=50")
    assert [balance.selects({"balance": text}) for text in ("50.0000", "50", "150.0000")] == [
        True,
        True,
        False,
    ]


def test_switches_may_be_repeated_and_values_must_be_printable(
    store: FakeStore, tool: DirectTool
) -> None:
    assert dry_run(tool, store, "--dry-run", "--no-backup", "--no-backup")[1] == sorted(EMAILS)
    store.log.clear()
    run_refused(tool, store, 2, "-n", "--no-dry-run", words=["--dry-run", "once"])
    run_refused(tool, store, 2, "--filter", "email:in=\udcff", words=["--filter email:in"])
