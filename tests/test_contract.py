"""Each request that the tool sends, and each answer of the local store, fits BigCommerce's own API files.

openapi-core is the judge: it reads the files by itself, and knows neither the tool nor the store.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import pytest
import yaml
from jsonschema_path import SchemaPath
from openapi_core import V30RequestValidator, V30ResponseValidator
from openapi_core.templating.paths.exceptions import PathError
from openapi_core.templating.paths.finders import APICallPathFinder
from openapi_core.testing import MockRequest, MockResponse
from openapi_core.validation.response.exceptions import MissingData
from werkzeug.datastructures import MultiDict

from bulk_delete import RESOURCES
from tests.fake_store import NAMES, Answer, FakeStore, Fault, Record, Request
from tests.rigged import QUIET, RiggedTool, in_process, lines

pytestmark = pytest.mark.filterwarnings("ignore:Use of allowEmptyValue")  # in promotions.v3.yml
FOLDER = Path(__file__).resolve().parents[2] / "shared" / "openapi"
GATEWAY = "https://api.bigcommerce.com"  # as each file has it under `servers`
# What is below /stores/{hash}/ => the file that documents it.
FILES = {
    "v2/store": "store_information.v2.yml",
    "v2/orders": "orders.v2.oas2.yml",
    "v2/coupons": "marketing.v2.yml",
    "v2/gift_certificates": "marketing.v2.yml",
    "v3/customers": "customers.v3.yml",
    "v3/customers/subscribers": "subscribers.v3.yml",
    "v3/catalog/products": "products_catalog.v3.yml",
    "v3/catalog/categories": "categories_catalog.v3.yml",
    "v3/catalog/trees/categories": "category-trees_catalog.v3.yml",
    "v3/catalog/brands": "brands_catalog.v3.yml",
    "v3/promotions": "promotions.v3.yml",
    "v3/pricelists": "price_lists.v3.yml",
    "v3/storefront/redirects": "redirects.v3.yml",
    "v3/content/pages": "pages.v3.yml",
}
Document = dict[str, Any]


class Correction(NamedTuple):
    """Where a file does not say what holds; a correction that is no longer needed fails its test."""

    file: str
    place: str  # its keys, from the top; in a list, the name of a parameter
    said: Any  # None: nothing
    meant: Any  # None: nothing
    reason: str


ORDERED_BY = ["id", "customer_id", "date_created", "date_modified", "status_id", "channel_id", "external_id"]
EMPTY = "an empty list of V2 is a 204, as orders.v2.oas2.yml:755 has it of shipments"
GONE = "no file tells what V2 answers where nothing is there: the local store's 404 is the harder way"
# By the resource whose requests or answers do not fit the file as it is.
CORRECTIONS: dict[str, tuple[Correction, ...]] = {
    "customers": (
        Correction(
            "customers.v3.yml",
            "paths /customers get parameters registration_ip_address:in schema items type",
            said="integer",
            meant="string",
            reason="its own example is the address 12.345.6.789",
        ),
        Correction(
            "orders.v2.oas2.yml",
            "components parameters sort schema enum",
            said=ORDERED_BY,
            meant=[f"{name}{way}" for name in ORDERED_BY for way in ("", ":asc", ":desc")],
            reason="its description has `:asc` and `:desc` added at the end",
        ),
        Correction("orders.v2.oas2.yml", "paths /orders get responses 204", None, {}, EMPTY),
    ),
    "products": tuple(
        Correction(
            "products_catalog.v3.yml",
            f"components parameters DateLastImported{bound}Param schema format",
            said="date",
            meant="date-time",
            reason="its own example is 2015-08-21T22%3A53%3A23%2B00%3A00",
        )
        for bound in ("Min", "Max")
    ),
    "categories": (
        Correction(
            "categories_catalog.v3.yml",
            "paths /catalog/categories/{category_id} delete responses 422",
            said=None,
            meant={},
            reason="of a category that contains products; line 447 has it of the DELETE of several",
        ),
    ),
    "coupons": (
        Correction("marketing.v2.yml", "paths /coupons get responses 204", None, {}, EMPTY),
        Correction("marketing.v2.yml", "paths /coupons/{id} delete responses 404", None, {}, GONE),
    ),
    "gift_certificates": (
        Correction("marketing.v2.yml", "paths /gift_certificates get responses 204", None, {}, EMPTY),
        Correction("marketing.v2.yml", "paths /gift_certificates/{id} delete responses 404", None, {}, GONE),
    ),
    "pages": (
        Correction(
            "pages.v3.yml",
            "paths /content/pages delete responses 404 content application/json",
            said=None,
            meant={"schema": {"$ref": "#/components/schemas/ResponseErrorBrief"}},
            reason="the local store is wrong here: it calls no error application/problem+json",
        ),
    ),
    "subscribers": (
        Correction(
            "subscribers.v3.yml",
            "components parameters IdParam required",
            said=True,
            meant=None,
            reason="required, it would leave a list that never has more than one subscriber",
        ),
        Correction(
            "subscribers.v3.yml",
            "components parameters IdInParam explode",
            said=None,
            meant=False,
            reason="its own example is `id:in=4,5,6`",
        ),
    ),
}


class Exchange(NamedTuple):
    """A request and its answer, as they were on the wire."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    status: int
    content_type: str
    body: bytes


class WiredStore(FakeStore):
    """A local store that keeps what was on the wire: its log holds of two equal parameters only the last."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.targets: dict[int, str] = {}
        self.answers: dict[int, bytes] = {}

    def _arrive(self, method: str, target: str, headers: dict[str, str], connection: int) -> Request:
        request = super()._arrive(method, target, headers, connection)
        self.targets[request.number] = target
        return request

    def _prepare(self, request: Request) -> tuple[Answer | None, bytes, str]:
        answer, data, close = super()._prepare(request)
        self.answers[request.number] = data
        return answer, data, close

    def exchanges(self) -> list[Exchange]:
        """All that the log holds."""
        found = []
        for request in self.log:
            head, _, body = self.answers[request.number].partition(b"\r\n\r\n")
            answered = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
            found.append(
                Exchange(
                    request.method,
                    self.targets[request.number],
                    tuple(request.headers.items()),
                    request.status,
                    answered.get("Content-Type", ""),
                    body,
                )
            )
        return found


# --- the judge -----------------------------------------------------------------------------------


@functools.cache
def text_of(file: str) -> str:
    return (FOLDER / file).read_text(encoding="utf-8")


def corrected(file: str, corrections: Iterable[Correction]) -> Document:
    """The file, with these of its corrections made; each must find there what it corrects."""
    document: Document = yaml.load(text_of(file), yaml.CSafeLoader)
    for correction in corrections:
        *steps, last = correction.place.split()
        part: Any = document
        for step in steps:
            part = next(row for row in part if row.get("name") == step) if type(part) is list else part[step]
        assert part.get(last) == correction.said, f"no longer so: {correction}"
        part.pop(last, None)
        if correction.meant is not None:
            part[last] = correction.meant
    return document


class Judge:
    """Finds what does not fit a file."""

    def __init__(self, file: str, corrections: Iterable[Correction]) -> None:
        document = SchemaPath.from_dict(corrected(file, corrections))
        self.file = file
        self.finder = APICallPathFinder(document)
        self.requests = V30RequestValidator(document)
        self.answers = V30ResponseValidator(document)

    def problems(self, exchange: Exchange) -> Iterator[str]:
        """What is wrong with a request and its answer."""
        path, _, query = exchange.target.partition("?")
        request = MockRequest(GATEWAY, exchange.method, path, headers=dict(exchange.headers))
        request.parameters.query = MultiDict(parse_qsl(query, keep_blank_values=True))
        where = f"{self.file}: {exchange.method} {exchange.target}"
        try:
            found = self.finder.find(request.method, GATEWAY + path)
        except PathError as error:
            yield f"{where}: {error}"
            return
        documented = [row for part in (found.operation, found.path) for row in part.get("parameters", ())]
        types = {
            (row / "name").read_str(): (row / "schema" / "type").read_str()
            for row in documented
            if (row / "in").read_str() == "query"
        }
        for name, values in request.parameters.query.lists():
            if name not in types:
                yield f"{where}: {name} is not documented"
            elif len(values) > 1:
                yield f"{where}: {name} is there {len(values)} times"
            elif types[name] == "boolean" and values[0] not in ("true", "false"):  # else yes is one too
                yield f"{where}: {name} is not of type 'boolean'"
        for wrong in self.requests.iter_errors(request):
            yield f"{where}: {reason_of(wrong)}"
        if exchange.status == 204 and exchange.body:
            yield f"{where}: 204 with a body"
        response = MockResponse(exchange.body, exchange.status, content_type=exchange.content_type)
        for wrong in self.answers.iter_errors(request, response):
            if not (exchange.status == 204 and isinstance(wrong, MissingData)):  # of `content: {}`
                yield f"{where}: {exchange.status}: {reason_of(wrong)}"


def reason_of(error: BaseException) -> str:
    """An error of openapi-core, and what is behind it."""
    behind = [error.__cause__] if error.__cause__ else getattr(error, "schema_errors", ())
    place = "".join(f"[{step!r}]" for step in getattr(error, "absolute_path", ()))
    return " < ".join([f"{place} {str(error)[:300]}".strip(), *map(reason_of, itertools.islice(behind, 3))])


def file_of(target: str) -> str:
    """The file that documents the path of a request."""
    path = target.partition("?")[0].split("/", 3)[-1]
    known = [name for name in FILES if f"{path}/".startswith(f"{name}/")]
    assert known, f"no file is known for {target}"
    return FILES[max(known, key=len)]


def problems_of(
    exchanges: Iterable[Exchange], corrections: tuple[Correction, ...] = ()
) -> Iterator[tuple[Exchange, str]]:
    """All that does not fit the files, these corrections made."""

    @functools.cache
    def judge(file: str) -> Judge:
        return Judge(file, [correction for correction in corrections if correction.file == file])

    for exchange in dict.fromkeys(exchanges):
        for problem in judge(file_of(exchange.target)).problems(exchange):
            yield exchange, problem


@pytest.fixture(autouse=True)
def _files() -> None:
    if not FOLDER.is_dir():
        pytest.skip("BigCommerce's API files are not at hand")


# --- what the tool sends -------------------------------------------------------------------------


def filter_text(resource: str, name: str, records: list[Record]) -> str:
    """A value for a filter, from the records; a list of two where one is taken."""
    kind, base = RESOURCES[resource].filter_types()[name], name.partition(":")[0]
    if resource == "customers" and base == "name":
        found = [f"{record['first_name']} {record['last_name']}" for record in records]
    else:
        found = [record[base] for record in records if record[base]]
    found = [value[0] if isinstance(value, list) else value for value in found]
    if isinstance(found[0], bool):
        return "true" if kind == "bool" else "1"
    listed = name.endswith((":in", ":not_in")) or kind == "texts"
    return ",".join(map(str, dict.fromkeys(found[: 2 if listed else 1])))


def selections(resource: str, records: Mapping[int, Record], folder: Path) -> Iterator[tuple[str, ...]]:
    """Options that ask for some of the records, in each way there is."""

    def file(name: str, values: Iterable[object]) -> str:
        path = folder / name
        path.write_text(lines(values), encoding="utf-8")
        return str(path)

    line, ids = RESOURCES[resource], list(records)
    for name, kind in line.filter_types().items():
        yield ("--filter", f"{name}={filter_text(resource, name, list(records.values()))}")
        if kind == "date":
            yield ("--filter", f"{name}=2024-02-29")
    some, kept = file("some.txt", [*ids[::3], 999_999]), file("kept.txt", [*ids[:9], 999_999])
    yield ("--ids", some)
    yield ("--ids", some, "--keep", kept)
    yield ("--keep", kept)
    yield ("--limit", "7")
    yield ("--match", f"{line.show[0]}=[02468]")
    if line.email:
        addresses = [record[line.email] for record in records.values()][:30]
        yield ("--keep", file("addresses.txt", [*addresses, "nobody@shop-mail.example"]))
    if resource == "customers":
        yield ("--spare-with-orders",)


def delete_all(store: FakeStore, tool: RiggedTool, resource: str) -> None:
    """Delete some by a plan, and then all; of both, something is gone when its turn comes."""
    planned = tool.run(store, "--resource", resource, "--limit", "12", "--dry-run")
    store.remove(planned.plan["ids"][3], kind=resource)
    assert tool.resume(store, planned.folder).status == 0

    def forestall(request: Request) -> None:
        store.remove(request.ids[-1], kind=resource)

    store.faults = [Fault(method="DELETE", hook=forestall, skip=1, times=2)]
    outcome = tool.run(store, "--resource", resource)
    assert outcome.status == 0, outcome.text
    assert not store.records[resource]
    store.faults = []
    assert tool.run(store, "--resource", resource).summary["selected"] == 0


def fill_pages(store: FakeStore, tool: RiggedTool, resource: str) -> None:
    """List more than one page, and delete as many at once as are allowed."""
    store.add(251, kind=resource)
    options = () if RESOURCES[resource].delete_by else ("--dry-run",)
    outcome = tool.run(store, "--resource", resource, *options)
    assert (outcome.status, outcome.summary["selected"]) == (0, 251)


def be_refused(store: FakeStore, tool: RiggedTool, resource: str) -> None:
    """Try to delete what the store holds fast."""
    number, *_ = store.add(3, kind=resource)
    if resource == "promotions":
        store.with_codes = {number}
    if resource == "categories":
        store.add(kind="products", categories=[number])
    assert tool.run(store, "--resource", resource).failed.keys() == {number}


@pytest.fixture
def wired() -> Iterator[Callable[[str], WiredStore]]:
    """Starts a store of thirty of a resource, and a few of everything else."""
    with contextlib.ExitStack() as stack:

        def start(resource: str) -> WiredStore:
            counts = dict.fromkeys(NAMES, 5) | {"customers": 20, resource: 30}
            if resource == "categories":
                counts["products"] = 0  # a category that holds some is refused
            store = stack.enter_context(WiredStore(**QUIET, date_bounds="inclusive", **counts))
            for number, record in store.records[resource].items():
                if record.get("parent_id"):  # of another store: none here takes another along
                    store.change(number, kind=resource, parent_id=5)
            return store

        yield start


@pytest.mark.parametrize("resource", list(RESOURCES))
def test_all_that_is_sent_and_answered_is_documented(
    wired: Callable[[str], WiredStore], hurried: RiggedTool, tmp_path: Path, resource: str
) -> None:
    """Whatever is selected or deleted, and in whichever way, request and answer are what the files say."""
    store = wired(resource)
    for options in selections(resource, dict(store.records[resource]), tmp_path):
        words: list[str | Path] = ["--resource", resource, "--runs-dir", tmp_path / "runs", "--dry-run"]
        status, output = in_process(store, tmp_path, *words, *options)
        assert status == 0, output
    delete_all(store, hurried, resource)
    fill_pages(store, hurried, resource)
    if resource in ("promotions", "categories"):
        be_refused(store, hurried, resource)
    assert not store.violations
    line = RESOURCES[resource]
    sent = {"", *(name for request in store.log for name in request.query)}
    assert sent >= {"limit", "page", line.read_by, line.delete_by, *line.params, *line.filter_types()}
    corrections = CORRECTIONS.get(resource, ())
    assert CORRECTIONS.keys() <= RESOURCES.keys()
    unfit = dict(problems_of(store.exchanges()))
    assert [problem for _, problem in problems_of(unfit, corrections)] == []
    for correction in corrections:
        others = tuple(other for other in corrections if other != correction)
        assert any(problems_of(unfit, others)), f"no longer needed: {correction}"


LISTED: Any = {"data": [], "meta": {}}
ERROR: Any = {"status": 404, "title": "x", "type": "x"}
# A request and its answer with one thing wrong, and how that is told.
WRONG: list[tuple[str, str, int, Any, str]] = [
    ("GET", "v3/catalog/products?limit=251", 200, LISTED, "251 is greater than the maximum of 250"),
    ("GET", "v3/catalog/products?colour=red", 200, LISTED, "colour is not documented"),
    ("GET", "v3/catalog/products?type=paper", 200, LISTED, "'paper' is not one of"),
    ("GET", "v3/catalog/products?is_visible=yes", 200, LISTED, "is_visible"),
    ("GET", "v3/catalog/products?include=images,orders", 200, LISTED, "'orders' is not one of"),
    ("GET", "v3/catalog/products?id:in=1,x", 200, LISTED, "id:in"),
    ("GET", "v3/catalog/products?id:in=1&id:in=2", 200, LISTED, "id:in is there 2 times"),
    ("GET", "v3/catalog/products?date_last_imported:min=today", 200, LISTED, "is not a 'date'"),
    ("DELETE", "v3/promotions", 204, None, "Missing required query parameter: id:in"),
    ("DELETE", "v3/promotions?id:in=", 204, None, "id:in"),
    ("DELETE", "v3/customers", 204, None, "Missing required query parameter: id:in"),
    ("DELETE", "v3/customers/7", 204, None, "Path not found"),
    ("DELETE", "v3/catalog/brands/seven", 204, None, "brand_id"),
    ("PATCH", "v3/pricelists/7", 204, None, "Operation patch not found"),
    ("DELETE", "v3/customers?id:in=7", 204, ERROR, "204 with a body"),
    ("DELETE", "v3/customers?id:in=7", 200, LISTED, "Unknown response http status: 200"),
    ("GET", "v3/pricelists", 200, {"data": [{"id": "7"}]}, "['data'][0]['id'] '7' is not of type 'integer'"),
    ("GET", "v3/pricelists", 200, [], "[] is not of type 'object'"),
    ("GET", "v3/pricelists", 200, None, "Missing response data"),
]


@pytest.mark.parametrize(("method", "target", "status", "body", "words"), WRONG)
def test_what_does_not_fit_is_found(method: str, target: str, status: int, body: Any, words: str) -> None:
    """Each thing that is wrong with a request or an answer is told, and it alone."""
    headers = (("accept", "application/json"), ("x-auth-token", "x"))
    text = b"" if body is None else json.dumps(body).encode()
    exchange = Exchange(method, f"/stores/x/{target}", headers, status, "application/json", text)
    ((_, problem),) = problems_of([exchange])
    assert words in problem
