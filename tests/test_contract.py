"""Each request of the tool, and each answer of the local store, conforms to the API files.

openapi-core decides: it reads BigCommerce's files on its own, without the tool or the store.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import pickle
import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

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
from tests.fake_store import KINDS, NAMES, Answer, FakeStore, Fault, Record, Request
from tests.rigged import QUIET, RiggedTool, in_process, lines

pytestmark = pytest.mark.filterwarnings("ignore:Use of allowEmptyValue")  # in promotions.v3.yml
FOLDER = Path(__file__).resolve().parents[2] / "shared" / "openapi"
GATEWAY = "https://api.bigcommerce.com"  # the host in `servers` of each file
# Path below /stores/{hash}/ => the file that documents it.
FILES = {
    "v2/store": "store_information.v2.yml",
    "v2/customer_groups": "customers.v2.yml",
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


@pytest.fixture(autouse=True, scope="module")
def _files() -> None:
    """Skip these tests without the API files, which are not in the project; fail in CI."""
    if FOLDER.is_dir():
        return
    if os.environ.get("CI"):
        pytest.fail("CI compares with BigCommerce's API files: ../shared/openapi is missing")
    reason = "nothing was compared with BigCommerce's API files: no ../shared/openapi"
    warnings.warn(reason, stacklevel=1)  # which, unlike the reason of a skip, is always shown
    pytest.skip(reason)


class Correction(NamedTuple):
    """A place where a file is wrong; a correction that is no longer needed fails its test."""

    place: str  # the file, then its keys from the top; in a list, the name of a parameter
    written: Any  # None: nothing
    right: Any  # None: nothing
    reason: str

    @property
    def file(self) -> str:
        return self.place.split()[0]


ORDER_SORTS = "id customer_id date_created date_modified status_id channel_id external_id"
SORTS = ORDER_SORTS.split()
WAYS = [f"{name}{way}" for name in SORTS for way in ("", ":asc", ":desc")]
PAGES_404 = "pages.v3.yml paths /content/pages delete responses 404 content application/json"
PAGES_ERROR = {"schema": {"$ref": "#/components/schemas/ResponseErrorBrief"}}
CATEGORIES = "categories_catalog.v3.yml paths /catalog/categories/{category_id}"
CUSTOMERS, ORDERS = "customers.v3.yml", "orders.v2.oas2.yml"
FILTERS = f"{CUSTOMERS} paths /customers get parameters"
IMPORTED = "products_catalog.v3.yml components parameters DateLastImported%sParam schema format"
SUBSCRIBERS = "subscribers.v3.yml components parameters"
COUPONS = "marketing.v2.yml paths /coupons"
GIFTS = "marketing.v2.yml paths /gift_certificates"
EMPTY = "an empty list of V2 is a 204, as in orders.v2.oas2.yml:755 for shipments"
MISSING = "no file has V2's answer for a record that does not exist: 404 is the stricter one"
# What the requests and answers of a resource need to conform.
CORRECTIONS: dict[str, tuple[Correction, ...]] = {
    "customers": (
        Correction(
            f"{FILTERS} registration_ip_address:in schema items type",
            "integer",
            "string",
            "its own example is 12.345.6.789",
        ),
        Correction(
            f"{CUSTOMERS} components schemas customerChannelIds nullable",
            None,
            True,
            "null means all channels, in line 257",
        ),
        Correction(
            f"{ORDERS} components parameters sort schema enum", SORTS, WAYS, "in its words"
        ),
        Correction(f"{ORDERS} paths /orders get responses 204", None, {}, EMPTY),
    ),
    "products": (
        Correction(IMPORTED % "Min", "date", "date-time", "its own example has a time"),
        Correction(IMPORTED % "Max", "date", "date-time", "its own example has a time"),
    ),
    "categories": (
        Correction(f"{CATEGORIES} delete responses 422", None, {}, "in line 447 for several"),
    ),
    "coupons": (
        Correction(f"{COUPONS} get responses 204", None, {}, EMPTY),
        Correction(f"{COUPONS}/{{id}} delete responses 404", None, {}, MISSING),
    ),
    "gift_certificates": (
        Correction(f"{GIFTS} get responses 204", None, {}, EMPTY),
        Correction(f"{GIFTS}/{{id}} get responses 404", None, {}, MISSING),
        Correction(f"{GIFTS}/{{id}} delete responses 404", None, {}, MISSING),
    ),
    "pages": (Correction(PAGES_404, None, PAGES_ERROR, "the store has no other type"),),
    "subscribers": (
        Correction(f"{SUBSCRIBERS} IdParam required", True, None, "it would end all lists"),
        Correction(f"{SUBSCRIBERS} IdInParam explode", None, False, "its example is 4,5,6"),
    ),
}


class Exchange(NamedTuple):
    """A request and its answer, as sent."""

    request: Request
    content_type: str
    body: bytes


class RecordingStore(FakeStore):
    """A local store that keeps its answers."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.answers: dict[int, bytes] = {}  # by the number of the request

    def _prepare(self, request: Request) -> tuple[Answer | None, bytes, str]:
        answer, data, close = super()._prepare(request)
        self.answers[request.number] = data
        return answer, data, close

    def exchanges(self) -> Iterator[Exchange]:
        for request in self.log:
            head, _, body = self.answers[request.number].partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
            yield Exchange(request, headers.get("Content-Type", ""), body)


# --- the comparison -------------------------------------------------------------------------


@functools.cache
def pickled(file: str) -> bytes:
    """Return a file, parsed once: YAML is slow."""
    text = (FOLDER / file).read_text(encoding="utf-8")
    return pickle.dumps(yaml.load(text, yaml.CSafeLoader))


def corrected(file: str, corrections: Iterable[Correction]) -> Document:
    """Return the file with these corrections; each must find what it corrects."""
    document: Document = pickle.loads(pickled(file))
    for correction in corrections:
        _, *steps, last = correction.place.split()
        part: Any = document
        for step in steps:
            named = {row.get("name"): row for row in part} if type(part) is list else part
            part = named[step]
        assert part.get(last) == correction.written, f"already corrected: {correction}"
        part.pop(last, None)
        if correction.right is not None:
            part[last] = correction.right
    return document


class Validator:
    """Compares requests and answers with a file."""

    def __init__(self, file: str, corrections: Iterable[Correction]) -> None:
        document = SchemaPath.from_dict(corrected(file, corrections))
        self.file = file
        self.finder = APICallPathFinder(document)
        self.requests = V30RequestValidator(document)
        self.answers = V30ResponseValidator(document)

    def problems(self, exchange: Exchange) -> Iterator[str]:
        """Yield what is wrong with a request and its answer."""
        sent, kind, body = exchange
        request = MockRequest(GATEWAY, sent.method, sent.path, headers=sent.headers)
        request.parameters.query = MultiDict(sent.query)
        where = f"{self.file}: {sent.method} {sent.target}"
        try:
            found = self.finder.find(request.method, GATEWAY + sent.path)
        except PathError as error:
            yield f"{where}: {error}"
            return
        parts = (found.operation, found.path)
        documented = [row for part in parts for row in part.get("parameters", ())]
        names = {(row / "name").read_str() for row in documented}
        for name in request.parameters.query.keys() - names:
            yield f"{where}: {name} is not documented"
        for wrong in self.requests.iter_errors(request):
            yield f"{where}: {reason_of(wrong)}"
        if sent.status == 204 and body:
            yield f"{where}: 204 with a body"
        response = MockResponse(body, sent.status, content_type=kind)
        for wrong in self.answers.iter_errors(request, response):
            # Some files have `content: {}` for a 204.
            if not (sent.status == 204 and isinstance(wrong, MissingData)):
                yield f"{where}: {sent.status}: {reason_of(wrong)}"


def reason_of(error: BaseException) -> str:
    """Return an error of openapi-core and its causes."""
    causes = [error.__cause__] if error.__cause__ else getattr(error, "schema_errors", ())
    place = "".join(f"[{step!r}]" for step in getattr(error, "absolute_path", ()))
    own = f"{place} {str(error)[:300]}".strip()
    return " < ".join([own, *map(reason_of, itertools.islice(causes, 3))])


def file_of(request: Request) -> str:
    """Return the file that documents the path of a request."""
    path = request.path.split("/", 3)[-1] + "/"
    return FILES[max((name for name in FILES if path.startswith(f"{name}/")), key=len)]


def problems_of(
    exchanges: Iterable[Exchange], corrections: tuple[Correction, ...] = ()
) -> Iterator[tuple[Exchange, str]]:
    """Yield all that does not conform to the files with these corrections."""

    @functools.cache
    def validator(file: str) -> Validator:
        return Validator(file, [one for one in corrections if one.file == file])

    # Of those that differ only in numbers, one is enough.
    unique: dict[object, Exchange] = {}
    for exchange in exchanges:
        sent, _, body = exchange
        unique[sent.method, re.sub(r"\d+", "0", sent.target), sent.status, body] = exchange
    for exchange in unique.values():
        for problem in validator(file_of(exchange.request)).problems(exchange):
            yield exchange, problem


# --- what is sent and answered --------------------------------------------------------------


def filter_text(resource: str, name: str, kind: str, records: list[Record]) -> str:
    """Return a value for a filter from the records; two where a list is accepted."""
    base = name.partition(":")[0]
    if resource == "customers" and base == "name":
        found = [f"{record['first_name']} {record['last_name']}" for record in records]
    else:
        found = [record[base] for record in records if record[base]]
    found = [value[0] if isinstance(value, list) else value for value in found]
    if isinstance(found[0], bool):
        return "true" if kind == "bool" else "1"
    listed = name.endswith(":in") or kind == "texts"
    return ",".join(map(str, dict.fromkeys(found[: 2 if listed else 1])))


def selections(resource: str, records: dict[int, Record], folder: Path) -> Iterator[list[str]]:
    """Yield options that together select in each way there is."""

    def file(name: str, values: Iterable[object]) -> str:
        (folder / name).write_text(lines(values), encoding="utf-8")
        return str(folder / name)

    filters = RESOURCES[resource].filter_types()
    rows = list(records.values())
    texts = {name: filter_text(resource, name, kind, rows) for name, kind in filters.items()}
    yield [word for name, text in texts.items() for word in ("--filter", f"{name}={text}")]
    ids = list(records)
    kept = ["--keep", file("kept.txt", [*ids[:9], 999_999])]
    yield ["--ids", file("some.txt", [*ids[::3], 999_999]), *kept]
    kept += ["--limit", "7", "--match", f"{KINDS[resource].id_field}=.*[02468]"]
    if "email" in records[ids[0]]:
        addresses = [record["email"] for record in records.values()]
        kept += ["--keep", file("addresses.txt", [*addresses, "nobody@shop-mail.example"])]
    yield [*kept, *(["--spare-with-orders"] if resource == "customers" else [])]


def delete_all(store: FakeStore, tool: RiggedTool, resource: str) -> None:
    """Delete some by a plan, then all, while another app deletes some; then find none."""
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
    assert tool.run(store, "--resource", resource).status == 0


def list_pages(store: FakeStore, tool: RiggedTool, resource: str) -> None:
    """List more than a page; delete it where a batch is possible."""
    store.add(251, kind=resource)
    options = () if KINDS[resource].max_batch else ("--dry-run",)
    outcome = tool.run(store, "--resource", resource, *options)
    assert (outcome.status, outcome.summary["selected"]) == (0, 251)


def be_rejected(store: FakeStore, tool: RiggedTool, resource: str) -> None:
    """Try to delete a record that something else depends on."""
    number, *_ = store.add(3, kind=resource)
    if resource == "promotions":
        store.with_codes = {number}
    if resource == "categories":
        store.add(kind="products", categories=[number])
    assert tool.run(store, "--resource", resource).failed.keys() == {number}


@contextlib.contextmanager
def stocked(resource: str) -> Iterator[RecordingStore]:
    """Serve thirty records of a resource, and a few of every other."""
    counts = dict.fromkeys(NAMES, 5) | {"customers": 20, resource: 30}
    if resource == "categories":
        counts["products"] = 0  # a category that contains products is rejected
    with RecordingStore(**QUIET, date_bounds="inclusive", **counts) as store:
        for number, record in store.records[resource].items():
            if record.get("parent_id"):  # no record is deleted with another
                store.change(number, kind=resource, parent_id=5)
        yield store


@pytest.mark.parametrize("resource", list(RESOURCES))
def test_requests_and_answers_are_documented(
    hurried: RiggedTool, tmp_path: Path, resource: str
) -> None:
    """Whatever is selected or deleted, in whichever way, conforms to the files."""
    with stocked(resource) as store:
        for options in selections(resource, dict(store.records[resource]), tmp_path):
            words = ["--resource", resource, "--runs-dir", str(tmp_path / "runs"), "--dry-run"]
            status, output = in_process(store, tmp_path, *words, *options)
            assert status == 0, output
        delete_all(store, hurried, resource)
        list_pages(store, hurried, resource)
        if resource in ("promotions", "categories"):
            be_rejected(store, hurried, resource)
    assert not store.violations
    sent = {name for request in store.log for name in request.query}
    assert sent >= {"limit", *RESOURCES[resource].filter_types(), *KINDS[resource].filters}
    corrections = CORRECTIONS.get(resource, ())
    failing = [exchange for exchange, _ in problems_of(store.exchanges())]
    assert [problem for _, problem in problems_of(failing, corrections)] == []
    for correction in corrections:
        others = tuple(other for other in corrections if other != correction)
        assert any(problems_of(failing, others)), f"no longer needed: {correction}"
