"""What is selected: filters, --match, exclusions and limits, and how the panel shows them."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import re
import signal
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

import pytest

from bulk_delete import main
from tests.fake_store import FakeStore, Fault, Record, Request
from tests.rigged import (
    DROP,
    SIGNALS,
    Fits,
    MakeStore,
    Outcome,
    RiggedTool,
    Session,
    Tool,
    check,
    chosen,
    lines,
    listings,
    people,
    run_deletes,
    run_refused,
    with_orders,
    write,
)

# --- running the tool in this process ---------------------------------------------------------


def exit_now(status: int) -> NoReturn:
    raise SystemExit(status)


@contextlib.contextmanager
def process_state_restored(environ: dict[str, str], folder: Path) -> Iterator[None]:
    """Run in this folder and environment; whatever `main` changes is restored afterwards."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    mask = os.umask(0o077)
    try:
        with (
            contextlib.chdir(folder),
            mock.patch.dict(os.environ, environ, clear=True),
            mock.patch("os._exit", exit_now),  # main leaves like this while a read is in flight
        ):
            yield
    finally:
        os.umask(mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)


class DirectTool(Tool):
    """Runs `main` in this process: several times as fast, for tests without clock or signal."""

    def __call__(
        self,
        store: FakeStore | None,
        config: Path | None = None,
        *options: str | Path,
        **environ: str,
    ) -> Outcome:
        config = config or store.config(self.folder)  # type: ignore[union-attr]
        before, out, err = self.folders(), io.StringIO(), io.StringIO()
        arguments = ["--config", str(config), *map(str, options)]
        environ = {"COLUMNS": "1000", "LINES": "1000"} | environ
        with (
            process_state_restored(self.environ(store, environ), self.folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                status = main(arguments)
            except SystemExit as leaving:
                status = int(leaving.code or 0)
        resumed = "--resume" in options
        made = Path(options[options.index("--resume") + 1]) if resumed else None
        new = self.folders() - before
        folder = made or (new.pop() if new else None)
        return check(Outcome(status, out.getvalue(), err.getvalue(), folder, resumed))


@pytest.fixture
def direct(tmp_path: Path) -> DirectTool:
    return DirectTool(tmp_path)


@pytest.fixture
def store(make_store: MakeStore) -> FakeStore:
    """One page of varied customers."""
    return make_store(customers=100, quota=10_000)


@pytest.fixture
def three(make_store: MakeStore) -> FakeStore:
    return people(make_store, 11, 12, 13)


def dry_run(tool: Tool, store: FakeStore, *options: str | Path, **ini: Any) -> Outcome:
    """Make a plan without deleting anything."""
    config = store.config(tool.folder, **ini)
    outcome = tool(store, config, "--dry-run", *options)
    assert outcome.status == 0, (options, outcome.text)
    assert not store.deletes()
    return outcome


def selected(tool: Tool, store: FakeStore, *options: str | Path, **ini: Any) -> set[int]:
    """Return the ids that a dry run selects; an empty selection leaves no run folder."""
    outcome = dry_run(tool, store, *options, **ini)
    ids = outcome.plan["ids"] if outcome.folder else []
    if not ids:
        return set()
    assert len(ids) == len(set(ids)) == outcome.summary["selected"]
    return set(ids)


def with_option(name: str, values: Iterable[str]) -> list[str]:
    return [word for value in values for word in (name, value)]


def csv_rows(outcome: Outcome, name: str) -> list[dict[str, str]]:
    """Return the rows of a CSV file in the run folder; none where there is no such file."""
    assert outcome.folder is not None
    path = outcome.folder / name
    if not path.exists():
        return []
    with open(path, encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def unmatched(outcome: Outcome) -> set[tuple[str, str]]:
    """Return the list file and the entry of each row of unmatched.csv."""
    rows = [list(row.values()) for row in csv_rows(outcome, "unmatched.csv")]
    return {(Path(name).name, entry.lstrip("'").lower()) for name, entry in rows}


def selected_ids(outcome: Outcome) -> list[int]:
    """Return the ids of selected.csv, which are its first column."""
    return [int(next(iter(row.values()))) for row in csv_rows(outcome, "selected.csv")]


def stocked(
    make_store: MakeStore, resource: str, count: int, **options: Any
) -> tuple[FakeStore, list[int]]:
    """Return a store with records of one resource, and their ids."""
    store = make_store(**{"customers": 0, "quota": 10_000, resource: count} | options)
    return store, list(store.records[resource])


# --- filters ----------------------------------------------------------------------------------


def second_after(text: str) -> str:
    later = datetime.fromisoformat(text) + timedelta(seconds=1)
    return later.strftime("%Y-%m-%dT%H:%M:%SZ")


def filter_cases(store: FakeStore) -> list[tuple[str, str, Fits]]:
    """A value for each filter of customers, and the customers that it matches."""
    records = list(store.customers.values())
    one, two = records[40], records[62]
    ids = {record["id"] for record in records[10:20]}
    company, phone = (
        next(r[name] for r in records if r[name]) for name in ("company", "phone")
    )
    addresses = {one["email"], two["email"]}
    whole = f"{one['first_name']} {one['last_name']}"
    created, modified = one["date_created"], two["date_modified"]
    ip = next(r["registration_ip_address"] for r in records if r["registration_ip_address"])

    def name(record: Record) -> str:
        return f"{record['first_name']} {record['last_name']}".lower()

    return [
        ("id:in", ",".join(map(str, ids)), lambda r: r["id"] in ids),
        ("company:in", company, lambda r: r["company"] == company),
        ("customer_group_id:in", "1,7", lambda r: r["customer_group_id"] in (1, 7)),
        ("customer_group_id:in", "0", lambda r: r["customer_group_id"] == 0),
        ("date_created:min", second_after(created), lambda r: r["date_created"] > created),
        ("date_created:max", created, lambda r: r["date_created"] <= created),
        ("date_modified:min", second_after(modified), lambda r: r["date_modified"] > modified),
        ("date_modified:max", modified, lambda r: r["date_modified"] <= modified),
        ("email:in", ",".join(addresses), lambda r: r["email"] in addresses),
        ("name:in", whole, lambda r: name(r) == whole.lower()),
        ("name:like", "win $,Prize-", lambda r: "win $" in name(r) or "prize-" in name(r)),
        ("phone:in", phone, lambda r: r["phone"] == phone),
        ("registration_ip_address:in", ip, lambda r: r["registration_ip_address"] == ip),
    ]


def test_each_filter_is_also_checked_here(store: FakeStore, direct: DirectTool) -> None:
    """A store that ignores the filter only lists more records."""
    for name, value, fits in filter_cases(store):
        wanted = chosen(store, fits)
        assert wanted
        assert wanted < set(store.customers)
        outcome = dry_run(direct, store, "--filter", f"{name}={value}")
        assert set(outcome.plan["ids"]) == wanted, name
        assert outcome.summary["filters"] == {name: value}
        assert name in outcome.err
        store.deaf = {name}
        outcome = dry_run(direct, store, "--filter", f"{name}={value}")
        assert set(outcome.plan["ids"]) == wanted, name
        assert f"ignored the filter {name}: it returned customer " in outcome.err
        store.deaf = set()


def test_filters_of_the_ini_and_of_options(store: FakeStore, direct: DirectTool) -> None:
    """All must match; an option replaces the filter of that name in the ini."""
    middle = store.customers[list(store.customers)[50]]["date_created"]
    late = f"date_created:min={second_after(middle)}"

    def of_groups(*groups: int) -> set[int]:
        return chosen(
            store, lambda r: r["date_created"] > middle and r["customer_group_id"] in groups
        )

    options = with_option("--filter", [late, "customer_group_id:in=1"])
    assert selected(direct, store, *options) == of_groups(1)
    ini = {"date_created:min": second_after(middle)}
    given = ini | {"Customer_Group_ID:in": "1"}
    assert selected(direct, store, filters=given) == of_groups(1)
    other = ("--filter", "customer_group_id:in=2,3")
    outcome = dry_run(direct, store, *other, filters=ini | {"customer_group_id:in": "1"})
    assert set(outcome.plan["ids"]) == of_groups(2, 3)
    assert outcome.summary["filters"] == ini | {"customer_group_id:in": "2,3"}
    run_deletes(direct, store, of_groups(1), filters=given)


UNKNOWN_FILTERS = {  # and what is shown in its place
    "emial:in=a@b.example": "email:in",
    "date_create:min=2025-01-01": "date_created:min",
    "id=5": "id:in",
    "company=Acme": "company:in",
    "date_created=2025-01-01": "date_created:m",
    "limit=5": "",
    "page=2": "",
    "sort=date_created:desc": "",
    "include=addresses": "",
}
BAD_VALUES = {
    "company:in": ["", "  ", "Acme,,Blue", "Acme, Inc.", "Acme Corp,Tide, Timber"],
    "email:in": [",", "ada@x.example, bob@x.example"],
    "id:in": ["abc", "0", "1,-2", "1.5", "٣"],
    "customer_group_id:in": ["x"],
    "name:in": ["Smith, Bob"],
    "name:like": ["Smith, Bob"],
    "phone:in": ["555-0101, 555-0102"],
    "date_created:min": [
        "2025-13-01",
        "2025-02-31",
        "20250331",
        "2025W141",
        "2024W01T10",
        "31.03.2025",
    ],
    "date_created:max": ["1714521600", "2025-3-1", "2025-03-31T12", "2025-03-31+02:00"],
    "date_modified:max": ["31/12/2024"],
}


def test_unknown_filter_is_refused(store: FakeStore, direct: DirectTool) -> None:
    """The nearest known one is shown."""
    for text, near in UNKNOWN_FILTERS.items():
        name, _, value = text.partition("=")
        run_refused(direct, store, 2, "--filter", text, words=[name, near])
        run_refused(direct, store, 2, words=["store.ini"], filters={name: value})
    products = ("--resource", "products", "--filter", "date_modified=2024-12-31")
    run_refused(direct, store, 2, *products, words=["date_modified:m"])


def test_unclear_filter_value_is_refused(store: FakeStore, direct: DirectTool) -> None:
    """So is one with a space after a comma, where the API would split it: use --match."""
    for name, values in BAD_VALUES.items():
        for value in values:
            words = [name, "must be ", "--match" if ", " in value else ""]
            run_refused(direct, store, 2, "--filter", f"{name}={value}", words=words)
            run_refused(direct, store, 2, words=words, filters={name: value})
    products = ("--resource", "products", "--filter", "sku:in=SKU-1, red")
    run_refused(direct, store, 2, *products, words=["sku:in", "--match"])
    run_refused(direct, store, 2, "--filter", "company:in", words=["company:in"])


DATED = [("customers", "date_created"), ("customers", "date_modified")]
DATED += [("products", "date_modified"), ("price_lists", "date_created")]
DATED += [("subscribers", "date_modified")]
MOMENTS = ["2024-12-30T23:59:59Z", "2024-12-31T00:00:00Z", "2024-12-31T12:00:00Z"]
MOMENTS += ["2024-12-31T23:59:59Z", "2025-01-01T00:00:00Z", "2025-01-01T00:00:01Z"]
SENT = [  # filter, its value as given, and as sent
    ("date_created:min", "2024-12-31T12:00:00+02:00", "2024-12-31T10:00:00Z"),
    ("date_created:min", "2024-12-31T00:30:00+01:00", "2024-12-30T23:30:00Z"),
    ("date_modified:min", "2024-12-31T12:00:00", "2024-12-31T12:00:00Z"),
    ("date_modified:min", "2024-12-31T12:00", "2024-12-31T12:00:00Z"),
    ("date_created:max", "2024-02-29", "2024-03-01T00:00:00Z"),
    ("date_modified:max", "2023-12-31", "2024-01-01T00:00:00Z"),
]


def sent_values(store: FakeStore, name: str) -> set[str]:
    """Return the values of a parameter in the requests since the last look."""
    values = {request.query[name] for request in store.log if name in request.query}
    store.log.clear()
    return values


def set_moments(store: FakeStore, resource: str, field: str, moments: list[str]) -> None:
    for number, moment in zip(store.records[resource], moments, strict=True):
        store.change(number, kind=resource, **{field: moment})


@pytest.mark.parametrize(("resource", "field"), DATED)
def test_a_date_is_the_whole_day_in_utc(
    make_store: MakeStore, direct: DirectTool, resource: str, field: str
) -> None:
    """A store may take :min for "after" and :max for "before" or "until"."""
    store, ids = stocked(make_store, resource, len(MOMENTS))
    set_moments(store, resource, field, MOMENTS)
    least, most = f"{field}:min", f"{field}:max"
    filters = with_option("--filter", [f"{least}=2024-12-31", f"{most}=2024-12-31"])
    outcome = dry_run(direct, store, "--resource", resource, *filters)
    planned = set(outcome.plan["ids"])
    assert set(ids[2:4]) <= planned <= set(ids[1:4])
    assert not re.search(rf"(?i)ignored.*{field}", outcome.err)
    assert {r.query[most] for r in store.log if most in r.query} == {"2025-01-01T00:00:00Z"}
    assert sent_values(store, least) == {"2024-12-31T00:00:00Z"}
    store.deaf = {least, most}
    assert selected(direct, store, "--resource", resource, *filters) == set(ids[1:4])


def test_date_times_are_seconds_in_utc(make_store: MakeStore, direct: DirectTool) -> None:
    store, ids = stocked(make_store, "customers", 4)
    for name, given, wanted in SENT:
        outcome = dry_run(direct, store, "--filter", f"{name}={given}")
        assert sent_values(store, name) == {wanted}
        assert outcome.summary["filters"] == {name: given}
    seconds = [
        f"2024-12-31T{time}Z" for time in ("11:59:59", "12:00:00", "12:00:01", "12:00:02")
    ]
    set_moments(store, "customers", "date_created", seconds)
    store.deaf = {"date_created:max", "date_created:min"}
    until = "date_created:max=2024-12-31T12:00:00Z"
    assert selected(direct, store, "--filter", until) == set(ids[:2])
    since = "date_created:min=2024-12-31T12:00:00Z"
    assert selected(direct, store, "--filter", since) == set(ids[1:])


INCOMPARABLE = [("brand_id=5", 10**400)]
INCOMPARABLE += [("date_modified:min=2020-01-01", "0001-01-01T00:00:00+14:00")]


def test_values_beyond_bounds_match_nothing(make_store: MakeStore, direct: DirectTool) -> None:
    """Such a number or date once ended the run with a traceback."""
    store, _ = stocked(make_store, "products", 3)
    for text, held in INCOMPARABLE:
        field = re.split("[:=]", text)[0]

        def replace(_: Request, body: Any, field: str = field, held: object = held) -> Any:
            return body | {"data": [record | {field: held} for record in body["data"]]}

        store.faults = [Fault(where=listings, times=math.inf, rewrite=replace)]
        store.deaf = {text.partition("=")[0]}
        assert not selected(direct, store, "--resource", "products", "--filter", text)


def test_text_filters_compare_the_whole_text(make_store: MakeStore, direct: DirectTool) -> None:
    """A comma is part of a text where the API takes one value; null is not the word None."""
    for resource in ("categories", "brands", "price_lists"):
        store, (first, second) = stocked(make_store, resource, 2)
        store.change(first, kind=resource, name="Winter: red, blue")
        store.change(second, kind=resource, name="red")
        for deaf in (set(), {"name:like"}):
            store.deaf = deaf
            options = ("--resource", resource, "--filter", "name:like=red, blue")
            assert selected(direct, store, *options) == {first}
    store = people(make_store, 11, 12)
    store.change(11, company="none")
    store.change(12, company=None)
    store.deaf = {"company:in"}
    assert selected(direct, store, "--filter", "company:in=none") == {11}


def test_filter_values_without_a_match_are_shown(three: FakeStore, direct: DirectTool) -> None:
    """Values that some record has are not."""
    for number, company in ((11, "Zebra Works"), (12, "Quince Ltd"), (13, "")):
        three.change(number, company=company)
    shown = dry_run(direct, three, "--filter", "company:in=Zebra Works,Yonder GmbH").err
    assert shown.count("Yonder GmbH") > shown.count("Zebra Works") > 0
    shown = dry_run(direct, three, "--filter", "company:in=Zebra Works,Quince Ltd").err
    assert shown.count("Quince Ltd") == shown.count("Zebra Works") > 0


# --- --match ----------------------------------------------------------------------------------

SPAM = r"@(mailbin|tempinbox|spam-drop)\.example$"
ACCEPTS = "accepts_product_review_abandoned_cart_emails"
GROUPS = [0, 1, 2, 10, 11, 12, 21, 100]  # of the first customers


def group(record: Record) -> int:
    return int(record["customer_group_id"])


def countries(record: Record) -> list[str]:
    return [address["country_code"] for address in record["addresses"]]


def is_known(record: Record) -> bool:
    """Whether the API returns all addresses: of more than ten it returns the first ten."""
    return len(record["addresses"]) <= 10


def is_acme(record: Record) -> bool:
    return bool(record["company"].startswith("Acme"))


def is_late_in_the_alphabet(record: Record) -> bool:
    return bool(record["email"][0] > "m" and "@spam-drop" not in record["email"])


MATCHES: list[tuple[list[str], Fits]] = [
    ([f"email={SPAM}"], lambda r: bool(re.search(SPAM, r["email"]))),
    (["last_name=^https?://"], lambda r: r["last_name"].startswith("https://")),
    (["first_name=[0-9]"], lambda r: bool(re.search("[0-9]", r["first_name"]))),
    (["phone=0"], lambda r: "0" in r["phone"]),  # text is searched, even if it is digits
    (["addresses.0.country_code=^(US|DE)$"], lambda r: countries(r)[:1] in (["US"], ["DE"])),
    (["addresses.1.country_code=^GB$"], lambda r: countries(r)[1:2] == ["GB"]),
    (["addresses.*.country_code=^DE$"], lambda r: is_known(r) and "DE" in countries(r)),
    (["addresses.*.country_code!=^DE$"], lambda r: is_known(r) and "DE" not in countries(r)),
    ([f"{ACCEPTS}=^true$"], lambda r: r[ACCEPTS]),
    ([f"{ACCEPTS}=t"], lambda _: False),
    (["authentication.force_password_reset=false", "company=^Acme"], is_acme),
    (["customer_group_id=1"], lambda r: group(r) == 1),
    (["customer_group_id=^0$"], lambda r: group(r) == 0),
    (["customer_group_id=1|2"], lambda r: group(r) in (1, 2)),
    (["customer_group_id=1."], lambda r: group(r) in (10, 11, 12)),
    (["customer_group_id!=1|2"], lambda r: group(r) not in (1, 2)),
    (["company=^Acme", "customer_group_id=^[01]$"], lambda r: is_acme(r) and group(r) < 2),
    (["email!=@shop-mail[.]"], lambda r: "@shop-mail." not in r["email"]),
    (["company!=^$"], lambda r: r["company"]),
    (["last_name!=^https?://", DROP], lambda _: False),
    (["email!=@spam-drop", "email!=^[a-m]"], is_late_in_the_alphabet),
    (["first_name!=[=]", "company=^Acme"], lambda r: is_acme(r) and "=" not in r["first_name"]),
    (["email=^nobody$"], lambda _: False),
]
BAD_MATCHES = ["email=[", "email=(?P<", "email=", "=x", "email", "email=*", "!=x", "email!="]
BAD_MATCHES += ["email!=[", " !=x", "email!= x", "email != x", "email!==x"]
BAD_MATCHES += ["email!=[[:alpha:]]+@", "email=^[^[:digit:]]+@", "email=[:alpha:]"]
BAD_MATCHES += ["email='@one'", 'email!="@staff"', "email!=“@staff”", "email=„@one"]
BAD_MATCHES += ["email=a{99999999999}", f"email={'(' * 3000}{')' * 3000}"]
UNKNOWN_PATHS = ["emial", "Email", "email.0", "email.*", "addresses.0.country_cod"]
UNKNOWN_PATHS += ["addresses.99.city", "addresses.city", "addresses.*.*"]
UNKNOWN_PATHS += ["addresses.*.country_cod"]


def test_records_must_match_every_expression(store: FakeStore, direct: DirectTool) -> None:
    for number, held in zip(list(store.customers), GROUPS, strict=False):
        store.change(number, customer_group_id=held)
    empty = 0
    for given, fits in MATCHES:
        wanted = chosen(store, fits)
        assert wanted < set(store.customers)
        assert selected(direct, store, *with_option("--match", given)) == wanted, given
        empty += not wanted
    assert empty == 3
    acme = chosen(store, is_acme)
    assert selected(direct, store, match="company=^Acme") == acme
    outcome = run_deletes(direct, store, acme, "--match", "company=^Acme")
    assert outcome.summary["spared"] == 0


def test_bad_match_is_refused(store: FakeStore, direct: DirectTool) -> None:
    for text in BAD_MATCHES:
        run_refused(direct, store, 2, "--match", text, words=["--match"])
        run_refused(direct, store, 2, words=["match "], match=text)


def test_match_on_an_unknown_field_is_refused(store: FakeStore, direct: DirectTool) -> None:
    """A misspelled field neither selects nor excludes anybody, even beside another --match."""
    for path in UNKNOWN_PATHS:
        for text in (f"{path}=.", f"{path}!=^zzz$"):
            run_refused(direct, store, 3, "--match", text, words=[path])
    options = with_option("--match", ["email=^nobody$", "emial=."])
    run_refused(direct, store, 3, *options, words=["emial", "email"])


# --- options and the ini ----------------------------------------------------------------------


def test_options_that_override_the_ini_are_shown(three: FakeStore, direct: DirectTool) -> None:
    """A selection or protection of the ini is not dropped without a word."""
    cases: list[tuple[list[str], dict[str, Any], str, str]] = [
        (["--match", "id=11|12"], {"match": "id!=11"}, "match", "id!=11"),
        (["--limit", "777"], {"limit": 417}, "limit", "417"),
        (["--max-delete", "777"], {"max_delete": 417}, "max", "417"),
        (
            ["--filter", "date_created:max=2031-01-01"],
            {"filters": {"date_created:max": "2020-01-01"}},
            "date_created:max",
            "2020-01-01",
        ),
    ]
    for options, ini, key, replaced in cases:
        shown = dry_run(direct, three, *options, **ini).err.splitlines()
        assert [text for text in shown if key in text and replaced in text], (options, shown)
    path = write(direct, "11\n")
    outcome = dry_run(direct, three, "--ids", path, ids="gone.txt")
    assert "--ids overrides ids = gone.txt" in outcome.err
    outcome = dry_run(direct, three, "--limit", "417", limit=417)
    assert not re.search(r"(?i)limit.*417.*store\.ini|warning", outcome.err)


TWICE = "--max-delete 5 100|--limit 3 3|--ids a.txt b.txt|--resource customers subscribers"
TWICE += "|--rate-limit 50 60|--batch-size 5 6|--max-concurrent 1 2|--runs-dir here there"
TWICE += "|--config store.ini store.ini"
MISSPELLED = {
    "--dryrun": "--dry-run",
    "--dry_run": "--dry-run",
    "--max_delete=5": "--max-delete",
    "--spare-orders": "--spare-with-orders",
    "--filters=id:in=5": "--filter",
    "--keeps=a.txt": "--keep",
    "--mach=email=x": "--match",
    "--force": "",
}


def test_option_given_twice_is_refused(store: FakeStore, direct: DirectTool) -> None:
    """The last value does not win, not even where both are the same."""
    for name in ("a.txt", "b.txt"):
        write(direct, lines(list(store.customers)[:2]), name)
    for option, first, second in map(str.split, TWICE.split("|")):
        run_refused(direct, store, 2, f"{option}={first}", option, second, words=[option])


def test_misspelled_options_get_a_short_answer(store: FakeStore, direct: DirectTool) -> None:
    for typed, meant in MISSPELLED.items():
        outcome = run_refused(direct, store, 2, typed, words=[typed.split("=")[0], meant])
        assert "usage:" not in outcome.err
        assert len(outcome.err.strip().splitlines()) <= 3


def test_options_that_are_unclear_are_refused(store: FakeStore, direct: DirectTool) -> None:
    path = write(direct, lines(list(store.customers)[:10]))
    acme = ("company:in", "Acme Corp")
    run_refused(direct, store, 2, "--ids", path, "--filter", "=".join(acme), words=["--ids"])
    run_refused(direct, store, 2, "--ids", path, words=["--ids"], filters=dict([acme]))
    # A value of the ini is checked even if an option overrides it.
    ini = {"spare_with_orders": "perhaps"}
    words = ["spare_with_orders"]
    run_refused(direct, store, 2, "--no-spare-with-orders", words=words, **ini)


# --- --keep -----------------------------------------------------------------------------------


def keep_texts(kept: list[Record]) -> list[str]:
    """The same keep list in each of its forms."""
    mixed = [r["id"] if r["id"] % 2 else r["email"].title() for r in kept]
    return [
        lines(record["id"] for record in kept),
        lines(record["email"].upper() for record in kept),
        lines(mixed),
        lines(["Customer ID,Name", *(f"{r['id']},x" for r in kept)]),
        lines(["Name;Email", *(f"x;{r['email'].upper()}" for r in kept)]),
        lines(["Customer ID,Email", *(f"{r['id']},{r['email']}" for r in kept)]),
    ]


def test_keep_excludes_the_listed_customers(store: FakeStore, direct: DirectTool) -> None:
    kept = [store.customers[number] for number in list(store.customers)[30:90:5]]
    wanted = set(store.customers) - {record["id"] for record in kept}
    for text in keep_texts(kept):
        path = write(direct, "\ufeff" + text)
        outcome = dry_run(direct, store, "--keep", path)
        assert set(outcome.plan["ids"]) == wanted, text
        assert (outcome.summary["spared"], unmatched(outcome)) == (len(kept), set())
    run_deletes(direct, store, wanted, "--keep", path)


def test_keep_lists_add_up(make_store: MakeStore, direct: DirectTool) -> None:
    """Those of the ini and of the command line all count, and the panel has each file."""
    store = people(make_store, *range(11, 20))
    first = write(direct, "11\n", "first.txt")
    second = write(direct, store.customers[12]["email"], "second.txt")
    third = write(direct, "13\n11\n", "third.csv")
    options = with_option("--keep", [str(second), str(third)])
    outcome = run_deletes(direct, store, set(range(14, 20)), *options, keep=first)
    assert outcome.summary["spared"] == 3
    for name in ("first.txt", "second.txt", "third.csv"):
        assert name in outcome.err
        assert name in json.dumps(outcome.summary["selection"])


def test_keep_counts_only_selected_records(store: FakeStore, direct: DirectTool) -> None:
    """Entries that match customers outside the selection are no error, even if all do."""
    spam = sorted(chosen(store, lambda r: r["email"].endswith("spam-drop.example")))
    others = sorted(set(store.customers) - set(spam))[:5]
    entries = [*others[:3], *(store.customers[number]["email"] for number in others[3:])]
    options = ("--match", DROP, "--keep")
    for kept in (0, 2):
        path = write(direct, lines([*spam[:kept], *entries]), "staff.txt")
        outcome = dry_run(direct, store, *options, path)
        assert set(outcome.plan["ids"]) == set(spam[kept:])
        assert (outcome.summary["spared"], outcome.summary["keep_unknown"]) == (kept, 0)
        assert "staff.txt" in outcome.err
    everybody = write(direct, lines(store.customers), "everybody.txt")
    assert not selected(direct, store, "--keep", everybody)
    run_deletes(direct, store, set(spam[2:]), *options, path)


MISSPELLED_ENTRIES: list[tuple[str, list[str]]] = [
    ("999001", []),
    ("adda.smiht@shop-mail.example", ["--match", DROP]),
    ("999001", ["--limit", "3"]),
]


def test_unmatched_keep_entry_is_a_warning(store: FakeStore, direct: DirectTool) -> None:
    """With --yes it is refused."""
    for entry, options in MISSPELLED_ENTRIES:
        path = write(direct, lines([*list(store.customers)[-3:], entry]), "staff.txt")
        planned = dry_run(direct, store, "--keep", path, *options)
        refused = run_refused(direct, store, 3, "--keep", path, *options, words=["staff.txt"])
        for outcome in (planned, refused):
            assert entry in outcome.err
            assert outcome.summary["keep_unknown"] == 1
            assert unmatched(outcome) == {("staff.txt", entry)}
        assert entry in refused.summary["reason"]
        assert refused.summary["status"] == "refused"
        assert refused.summary["selected"] == refused.summary["not_attempted"]


def test_unmatched_keep_entry_can_be_accepted(
    three: FakeStore, installed: Tool, terminal: Callable[..., Session]
) -> None:
    """The person at the question has seen it in the panel."""
    path = write(installed, "11\n999001\n")
    session = terminal(three, "--keep", str(path), columns=200)
    session.child.expect("[Tt]ype 2\\b")
    assert "999001" in session.shown
    session.child.sendline("2")
    outcome = session.finish()
    assert (outcome.status, set(three.customers)) == (0, {11})
    assert outcome.summary["keep_unknown"] == 1


@pytest.mark.parametrize("how", ["--yes", "--dry-run"])
def test_wrong_keep_list_is_refused(three: FakeStore, direct: DirectTool, how: str) -> None:
    """It is likely the wrong file, whatever other lists match and however few are selected."""
    right = write(direct, "11\n", "right.txt")
    texts = [
        "999001\n999002\n",
        "nobody@x.example\n",
        "Customer ID,Email\n999001,a@x.example\n",
    ]
    for text in texts:
        wrong = write(direct, text, "wrong.txt")
        outcome = direct(three, None, how, "--keep", right, "--keep", wrong, "--limit", "1")
        assert outcome.status == 3, outcome.text
        assert not three.deletes()
        assert "wrong.txt" in outcome.summary["reason"]
        assert {name for name, _ in unmatched(outcome)} == {"wrong.txt"}


# --- addresses --------------------------------------------------------------------------------


def test_a_shared_address_matches_all_its_customers(
    make_store: MakeStore, direct: DirectTool
) -> None:
    """The panel says so: each storefront has its own customer with that address."""
    store = people(make_store, 11, 12, 13, 14)
    for number in (11, 13):
        store.change(number, email="shared@x.example", channel_ids=[number])
    for option, text, wanted in (
        ("--keep", "shared@x.example\n", {12, 14}),
        ("--ids", "shared@x.example\n14\n", {11, 13, 14}),
    ):
        outcome = dry_run(direct, store, option, write(direct, text))
        assert set(outcome.plan["ids"]) == wanted
        shown = [line for line in outcome.err.splitlines() if "shared@x.example" in line]
        assert any(re.search(r"\b(2|two|both|several)\b", line) for line in shown), outcome.err


def test_id_and_address_of_a_customer_are_one(three: FakeStore, direct: DirectTool) -> None:
    emails = [record["email"] for record in three.customers.values()]
    path = write(direct, lines([11, emails[0], emails[1], 12]))
    run_deletes(direct, three, {11, 12}, "--ids", path)


# --- --ids: repeated and unmatched entries ----------------------------------------------------


def test_repeated_and_unmatched_entries_of_ids(store: FakeStore, direct: DirectTool) -> None:
    """They are counted, and unmatched.csv has those that match nobody."""
    known = list(store.customers)[:6]
    emails = [store.customers[number]["email"] for number in known[3:]]
    strangers = ["999001", "nobody@x.example", "999002", "+1@x.example"]
    entries = [*strangers[:2], *known[:3], known[0], 999001, known[0], *emails, *strangers[2:]]
    path = write(direct, lines(entries), "merchant.csv")
    planned = dry_run(direct, store, "--ids", path)
    done = run_deletes(direct, store, set(known), "--ids", path, "--json")
    assert json.loads(done.out) == done.summary
    for outcome in (planned, done):
        assert (outcome.summary["duplicates"], outcome.summary["not_found"]) == (3, 4)
        assert unmatched(outcome) == {("merchant.csv", entry) for entry in strangers}
        assert all(stranger in outcome.err for stranger in strangers)
        cells = [cell for row in csv_rows(outcome, "unmatched.csv") for cell in row.values()]
        assert not [cell for cell in cells if cell[0] in "=+-@"]
    outcome = direct(store, None, "--yes", "--ids", write(direct, lines(strangers)))
    assert outcome.status == 0, outcome.text
    assert all(stranger in outcome.err for stranger in strangers)


# --- --limit and --max-delete -----------------------------------------------------------------


def test_limit_comes_last_and_takes_the_oldest(make_store: MakeStore, tool: RiggedTool) -> None:
    """It is applied last, after matches and exclusions; N may be more than there are."""
    store = make_store(customers=300, quota=10_000)
    ids = list(store.customers)
    for limit in (9, 251, 1000):
        assert selected(tool, store, "--limit", str(limit)) == set(ids[:limit])
    left = sorted(chosen(store, lambda r: bool(re.search(SPAM, r["email"]))))
    path = write(tool, lines(left[:4]))
    options = ("--match", f"email={SPAM}", "--keep", path, "--limit", "6")
    run_deletes(tool, store, set(left[4:10]), *options)


def test_max_delete_suggests_no_bypass(make_store: MakeStore, direct: DirectTool) -> None:
    """N22: too many are refused; neither screen nor summary has a command for them."""
    store = make_store(customers=30, quota=10_000)
    for options, ini in ((["--max-delete", "29"], {}), ([], {"max_delete": 0})):
        for how in (["--yes"], ["--dry-run"], []):
            config = store.config(direct.folder, **ini)
            outcome = direct(store, config, "--json", *how, *options)
            assert outcome.status == 3, outcome.text
            assert "max-delete" in outcome.summary["reason"].replace("_", "-")
            assert "--resume" not in outcome.text
            assert store.customers[11]["email"] not in outcome.text  # no panel either
            assert outcome.summary["resume"] is None
            assert outcome.summary["status"] == "refused"
            assert not store.deletes()
    assert direct.run(store, "--max-delete", "30").summary["deleted"] == 30


# --- everything together ----------------------------------------------------------------------


@pytest.mark.parametrize("by", ["filters", "ids"])
def test_all_conditions_together(make_store: MakeStore, tool: RiggedTool, by: str) -> None:
    """Filters or ids, match, keep, orders, limit: each narrows the selection, in this order."""
    store = make_store(customers=500, orders=300, quota=10_000)
    ids = list(store.customers)
    if by == "ids":
        listed = set(ids[50:450:2])
        entries = [*sorted(listed), *sorted(listed)[:3], 999_999]
        options: list[str | Path] = ["--ids", write(tool, lines(entries))]
    else:
        since = store.customers[ids[100]]["date_created"]
        listed = chosen(
            store, lambda r: r["date_created"] > since and r["customer_group_id"] in (1, 2)
        )
        filters = [f"date_created:min={second_after(since)}", "customer_group_id:in=1,2"]
        options = [*with_option("--filter", filters)]
    matched = sorted(number for number in listed if not store.customers[number]["company"])
    kept, ordered = matched[::7], with_orders(store)
    assert ordered & set(matched) - set(kept)
    left = [number for number in matched if number not in kept and number not in ordered]
    limit = len(left) - 5
    options += ["--match", "company=^$", "--keep", write(tool, lines(kept), "keep.txt")]
    options += ["--spare-with-orders", "--limit", str(limit), "--max-delete", str(limit)]
    outcome = run_deletes(tool, store, set(left[:limit]), *options, "--json")
    passed = matched[: matched.index(left[limit - 1])]
    summary = json.loads(outcome.out)
    assert summary["spared"] == len([n for n in passed if n in kept or n in ordered])
    assert summary["duplicates"] == (3 if by == "ids" else 0)


# --- the panel, the summary and selected.csv --------------------------------------------------


def is_whole_store(shown: str) -> bool:
    return "all customers" in " ".join(shown.split()).lower()


def test_panel_shows_the_selection(make_store: MakeStore, direct: DirectTool) -> None:
    """It also shows whether that is the whole store."""
    store = make_store(customers=60, orders=30, quota=10_000)
    ids = list(store.customers)
    some = write(direct, lines(ids[:5]), "some.txt")
    everybody = write(direct, lines(ids), "all.txt")
    for options in (
        (),
        ("--match", "email=@"),
        ("--filter", "date_created:min=2000-01-01"),
        ("--ids", everybody),
    ):
        assert is_whole_store(dry_run(direct, store, *options).err), options
    for options in (
        ("--filter", "customer_group_id:in=1"),
        ("--match", DROP),
        ("--limit", "7"),
        ("--ids", some),
    ):
        shown = dry_run(direct, store, *options).err
        assert not is_whole_store(shown), shown
        given = str(options[1]).rpartition("/")[2].rpartition("=")[2]
        assert given in shown
    ordered = with_orders(store)
    staff = sorted(set(ids) - ordered)[:13]
    path = write(direct, lines(staff), "staff.txt")
    shown = dry_run(direct, store, "--keep", path, "--spare-with-orders").err
    selection = next(line for line in shown.splitlines() if "staff.txt" in line)
    assert re.search(rf"\b13\b.*\b{len(ordered)}\b", selection), selection


def test_summary_holds_the_given_selection(make_store: MakeStore, tool: RiggedTool) -> None:
    store = make_store(customers=30, orders=5, quota=10_000)
    summary = dry_run(tool, store).summary
    assert (summary["selection"], summary["filters"], summary["keep_unknown"]) == ({}, {}, 0)
    keep = write(tool, lines(list(store.customers)[:2]), "staff.txt")
    options = with_option("--match", ["email!=@spam-drop", "email=@"])
    options += ["--keep", str(keep), "--spare-with-orders", "--limit", "9"]
    options += ["--filter", "date_created:min=2000-01-01"]
    outcome = dry_run(tool, store, *options)
    selection = outcome.summary["selection"]
    assert set(selection) == {"match", "keep", "spare_with_orders", "limit"}
    text = json.dumps(selection)
    assert all(word in text for word in ("email!=@spam-drop", "email=@", str(keep), "9"))
    assert outcome.summary["filters"] == {"date_created:min": "2000-01-01"}
    resumed = tool.resume(store, outcome.folder)
    assert (resumed.status, resumed.summary["selection"]) == (0, selection), resumed.text


ODD = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", 'x"y', "a;b,c", "a\x00b"]
ODD += ['=HYPERLINK("https://evil.example")']


def test_selected_csv_lists_planned_records(store: FakeStore, direct: DirectTool) -> None:
    for options in (["--match", DROP], ["--match", DROP, "--no-backup"]):
        planned = dry_run(direct, store, *options)
        rows = csv_rows(planned, "selected.csv")
        assert selected_ids(planned) == planned.plan["ids"]
        for number, row in zip(planned.plan["ids"], rows, strict=True):
            record = store.customers[number]
            for name in ("email", "first_name", "date_created"):
                assert row[name] == record[name]
    done = run_deletes(direct, store, set(planned.plan["ids"]), "--match", DROP)
    assert csv_rows(done, "selected.csv") == rows


@pytest.mark.parametrize(
    ("resource", "field"),
    [("customers", "first_name"), ("products", "name"), ("coupons", "code"), ("pages", "name")],
)
def test_selected_csv_is_safe_and_a_list(
    make_store: MakeStore, direct: DirectTool, resource: str, field: str
) -> None:
    """No cell begins like a formula; as a list for --ids it selects the same records."""
    store, ids = stocked(make_store, resource, len(ODD) + 5)
    for number, name in zip(ids, ODD, strict=False):
        changes = {field: name} | ({"parent_id": 0} if resource == "pages" else {})
        store.change(number, kind=resource, **changes)
    planned = dry_run(direct, store, "--resource", resource, "--limit", str(len(ODD)))
    rows = csv_rows(planned, "selected.csv")
    cells = [cell for row in rows for cell in row.values() if cell]
    assert not [cell for cell in cells if cell[0] in "=+-@\t\r\n"]
    by_id = dict(zip(planned.plan["ids"], rows, strict=True))
    for number, name in zip(ids, ODD, strict=False):
        if number in by_id:
            assert re.sub(r"\W", "", by_id[number][field]) == re.sub(r"\W", "", name)
    path = (planned.folder or Path()) / "selected.csv"
    outcome = dry_run(direct, store, "--resource", resource, "--ids", path)
    assert sorted(outcome.plan["ids"]) == sorted(planned.plan["ids"])
    assert outcome.summary["not_found"] == 0
