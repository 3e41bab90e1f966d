"""Configuration: the ini file and the command line."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from bulk_delete import main
from tests.fake_store import STORE_HASH, TOKEN, FakeStore
from tests.rigged import QUIET, TOOL, MakeStore, RiggedTool, Tool, posix
from tests.test_selection import process_state_restored

EXAMPLE = TOOL.with_name("config.example.ini")
NO_HASH = f"[store]\naccess_token = {TOKEN}\n"
NO_TOKEN = f"[store]\nstore_hash = {STORE_HASH}\n"
STORE = f"{NO_TOKEN}access_token = {TOKEN}\n"
CLEANUP = f"{STORE}[cleanup]\n"
ONLY_IN_INI = {
    "min_requests_remaining",
    "count_items",
    "max_retries",
    "timeout",
    "max_error_rate",
    "webhook_url",
}
ONLY_ON_ARGV = {"help", "config", "filter", "yes", "resume", "json", "version"}

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """Run the tool in this process with an ini; returns exit status, stdout and stderr.

    Without a store's environment nothing listens at its API, so a request would be an error.
    """
    monkeypatch.delenv("BIGCOMMERCE_ACCESS_TOKEN", raising=False)
    monkeypatch.setenv("BC_API_ENDPOINT", "localhost:1")

    def call(ini: str | bytes | None, *options: str) -> tuple[int, str, str]:
        path = tmp_path / "store.ini"
        if ini is not None:
            path.write_bytes(ini.encode() if isinstance(ini, str) else ini)
            path.chmod(0o600)
        status = main(["--config", str(path), *options])
        return status, *capsys.readouterr()

    with process_state_restored(dict(os.environ), tmp_path):
        yield call


@pytest.fixture
def served(run: Run, make_store: MakeStore, monkeypatch: pytest.MonkeyPatch) -> FakeStore:
    """A store of three customers that the runs of this process reach."""
    store = make_store(customers=3, **QUIET)
    for name, value in store.env().items():
        monkeypatch.setenv(name, value)
    return store


@pytest.fixture
def assert_refused(run: Run, tmp_path: Path) -> Callable[..., None]:
    """Assert that an ini and options are refused in one line that has these words."""

    def check(ini: str | bytes | None, words: str, *options: str) -> None:
        status, out, err = run(ini, *options)
        case = (ini, options, err)
        assert (status, out, err.count("\n")) == (2, "", 1), case
        assert not [word for word in words.split() if word not in err], case
        assert TOKEN not in err, case
        assert not (tmp_path / "runs").exists(), case

    return check


# --- the ini file -----------------------------------------------------------------------------

BAD_FILES: list[tuple[str | bytes | None, str]] = [
    (None, "config.example.ini"),
    ("", "store_hash"),
    ("store_hash = x\n", "line 1 [store]"),
    ("[cleanup]\n", "store_hash"),
    (NO_HASH, "store_hash"),
    (NO_HASH + "store_hash =\n", "store_hash"),
    (NO_HASH + "store_hash = a-b\n", "store_hash"),
    (NO_HASH + "store_hash = ../x\n", "store_hash"),
    (NO_HASH + "store_hash = ä1\n", "store_hash"),
    (NO_HASH + "store_hash = 'sandbox1'\n", "store_hash quotes"),
    (NO_HASH + "store_hash = https://store-x.mybigcommerce.com/manage\n", "store_hash path"),
    (NO_TOKEN, "access_token BIGCOMMERCE_ACCESS_TOKEN"),
    (NO_TOKEN + "access_token =\n", "access_token BIGCOMMERCE_ACCESS_TOKEN"),
    (NO_TOKEN + f"access_token = {TOKEN} b\n", "access_token"),
    (NO_TOKEN + f"access_token = {TOKEN}ü\n", "access_token ASCII"),
    (NO_TOKEN + f"access_token = {TOKEN}\x7f\n", "access_token"),
    (NO_TOKEN + f'access_token = "{TOKEN}"\n', "access_token quotes"),
    (STORE + "domain = https://\n", "domain"),
    (STORE + "domain = //other.example/\n", "domain"),
    (STORE.encode("utf-16"), "UTF-8"),
    (STORE.encode("utf-16-le"), "UTF-8"),
    (b"[store]\nstore_hash = \xfc\n", "UTF-8"),
    (STORE + "nonsense\n", "line 4"),
    (STORE + f"{TOKEN} = x\n", "line 4"),
    (STORE + "store_hash = y\n", "line 4"),
    (STORE + "[DEFAULT]\nx = 1\n", "line 4"),
    (STORE + "[clean-up]\n", "line 4 cleanup"),
    (CLEANUP + "[store]\n", "line 5 duplicate section"),
    (STORE + "acess_token = x\n", "line 4 access_token"),
    (CLEANUP + "bach_size = 5\n", "line 5 batch_size"),
    (CLEANUP + "yes = yes\n", "line 5 --yes"),
    (CLEANUP + "resume = x\n", "line 5 --resume"),
    (CLEANUP + "json = yes\n", "line 5 --json"),
    (CLEANUP + "config = x\n", "line 5 --config"),
    (CLEANUP + "version = 1\n", "line 5"),
    (CLEANUP + "resource = custmers\n", "resource list"),
    (CLEANUP + "dry_run =\n", "dry_run yes no"),
    (CLEANUP + f"limit = {TOKEN}\n", "limit"),
]


def test_bad_ini_is_refused(assert_refused: Callable[..., None]) -> None:
    """N28: the message names the file and the line or key, and never shows the line."""
    for ini, words in BAD_FILES:
        assert_refused(ini, f"store.ini {words}")
    assert_refused(EXAMPLE.read_bytes(), "store.ini store_hash")  # not filled in yet
    Path("store.ini").unlink()
    Path("store.ini").mkdir()
    assert_refused(None, "store.ini")


def test_bad_value_in_ini_is_refused(assert_refused: Callable[..., None]) -> None:
    bad_values = {
        "batch_size": "0 11 -1 2.5 ten \u0661 1_0",
        "max_concurrent": "0 6 five",
        "rate_limit": "0 -5 1e3 fast",
        "timeout": "0 -1 0.0 nan inf soon",
        "max_error_rate": "-1 101 nan some",
        "max_retries": "-1 many",
        "min_requests_remaining": "-1 x",
        "count_items": "2 maybe",
        "dry_run": "perhaps",
        "webhook_url": "ftp://host.example/x hooks.example/x http:// https://a\u00a0b.example/",
    }
    for key, values in bad_values.items():
        for value in values.split(" "):
            assert_refused(f"{CLEANUP}{key} = {value}\n", f"store.ini {key}")


def test_bad_environment_is_refused(
    assert_refused: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for host in ("https://localhost:1", "local host", "localhost:x", "a/b"):
        monkeypatch.setenv("BC_API_ENDPOINT", host)
        assert_refused(STORE, "BC_API_ENDPOINT")
    monkeypatch.setenv("BC_API_ENDPOINT", "localhost:1")
    for token in ("a b", '"ab"'):
        monkeypatch.setenv("BIGCOMMERCE_ACCESS_TOKEN", token)
        assert_refused(NO_TOKEN, "BIGCOMMERCE_ACCESS_TOKEN quotes")


def test_ini_from_any_editor_is_read(make_store: MakeStore, tool: RiggedTool) -> None:
    """BOM, CRLF, indentation, comments, capitals in keys and spare characters in the token."""
    store = make_store(customers=3, **QUIET)
    store.token = "%(x)s=${x};b#c[x]:100%=="
    config = store.config(tool.folder)
    ini = config.read_bytes().replace(b"store_hash =", b"; a comment\n# 100 %\nSTORE_HASH=")
    config.write_bytes(b"\xef\xbb\xbf" + ini.replace(b"\n", b"\r\n  "))
    outcome = tool(store, config, "--yes")
    assert outcome.status == 0, outcome.text
    assert not store.customers


def test_store_keys_are_read(
    served: FakeStore, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hash may be a pasted API path; the token may come from the environment."""
    monkeypatch.setenv("BIGCOMMERCE_ACCESS_TOKEN", TOKEN)
    for pasted in (
        f"https://api.bigcommerce.com/stores/{STORE_HASH}/v3/",
        f"https://api.bigcommerce.com/stores/{STORE_HASH}",
        f"/stores/{STORE_HASH}/v3/",
        f"stores/{STORE_HASH}/",
    ):
        status, _, err = run(f"[store]\nstore_hash = {pasted}\n", "--dry-run")
        assert status == 0, (pasted, err)
    assert len({request.path for request in served.log}) == 3


def test_domain_must_match_the_store(served: FakeStore, run: Run) -> None:
    """A hash of another store than the pinned one is refused before anything is listed."""
    for domain in ("other-store.example", "store.example", "sandbox-store.example.x.example"):
        status, _, err = run(f"{STORE}domain = {domain}\n", "--yes")
        assert status == 3, (domain, err)
        assert domain in err
        assert served.info["domain"] in err
    served.scopes.discard("store_v2_information_read_only")
    status, _, err = run(f"{STORE}domain = {served.info['domain']}\n", "--yes")
    assert status == 3, err
    assert "store_v2_information_read_only" in err
    served.scopes.add("store_v2_information_read_only")
    assert not [request for request in served.log if "customers" in request.path]
    for domain in ("sandbox-store.example", "https://Sandbox-Store.example/"):
        status, _, err = run(f"{STORE}domain = {domain}\n", "--yes")
        assert status == 0, (domain, err)
    assert not served.customers


@posix
def test_ini_readable_by_others_is_a_warning(served: FakeStore, run: Run) -> None:
    config = Path("store.ini").absolute()
    config.write_text(STORE)
    for mode, warned in ((0o600, False), (0o400, False), (0o640, True)):
        config.chmod(mode)
        status, _, err = run(None, "--dry-run")
        assert (status, f"chmod 600 {config}" in err) == (0, warned)


# --- the command line -------------------------------------------------------------------------

LISTS: dict[str, bytes] = {
    "book.xlsx": b"PK\x03\x04\x14\x00\x06\x00\x08\x00\x00\x00!\x00\xa4\xc2",
    "old-book.xls": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    "utf-16.csv": "id\n11\n".encode("utf-16"),
    "cp1252.csv": "email\njosé@shop.example\n".encode("cp1252"),
    "sep.csv": b"sep=;\nid;name\n11;Ada\n",
    "decimals.csv": b"Customer ID\n11.0\n",
    "two.txt": b"11\na@x.example, b@x.example\n",
    "header.txt": b"Customer Email\na@x.example\n",
}
BAD_OPTIONS = [
    ("--batch-size 11", "--batch-size 1 10 customers"),
    ("--batch-size x", "--batch-size"),
    ("--max-concurrent 6", "--max-concurrent 1 5"),
    ("--rate-limit 0", "--rate-limit"),
    ("--limit ten", "--limit ten"),
    ("--limit 0", "--limit 1"),
    ("--limit -1", "--limit"),
    ("--max-delete -1", "--max-delete"),
    ("--limit", "--limit"),
    ("--dry-run --no-dry-run", "--dry-run"),
    ("--yes=5", "--yes"),
    ("--filter name:like", "--filter NAME=VALUE"),
    ("--filter name:like=a --filter NAME:LIKE=b", "--filter name:like"),
    ("--match !=x", "--match FIELD=REGEX"),
    ("--ye", "--ye"),
    ("--dry", "--dry"),
    ("extra", "extra"),
    ("--ids my list.csv", "list.csv"),
    ("--filter date_created:min=01/02/2024", "date_created:min"),
    ("--spare-with-orders --resource products", "--spare-with-orders"),
    ("--resource brands --filter sku=SKU-11", "sku"),
    ("--resource products --batch-size 251", "--batch-size 250"),
    ("--resource promotions --batch-size 51", "--batch-size 50"),
    ("--resource brands --batch-size 11", "--batch-size"),
    ("--runs-dir=", "--runs-dir"),
    ("--runs-dir store.ini/runs", "--runs-dir"),
    ("--resume nowhere", "--resume nowhere plan.json"),
    ("--resume plan.json", "--resume plan.json"),
    ("--resume nowhere --resource customers", "--resource --resume"),
    ("--ids nowhere.csv", "nowhere.csv: not found"),
    ("--ids book.xlsx", "book.xlsx CSV"),
    ("--ids old-book.xls", "old-book.xls CSV"),
    ("--ids utf-16.csv", "utf-16.csv CSV"),
    ("--keep cp1252.csv", "cp1252.csv line 2 UTF-8"),
    ("--ids sep.csv", "sep.csv line 1 sep="),
    ("--ids decimals.csv", "decimals.csv line 2 11.0"),
    ("--ids two.txt", "two.txt line 2"),
    ("--ids header.txt", "header.txt line 1 id email"),
]


def test_bad_option_is_refused(assert_refused: Callable[..., None]) -> None:
    """The message names the option or the file and its line; no option is abbreviated."""
    for name, content in (LISTS | {"plan.json": b"{}"}).items():
        Path(name).write_bytes(content)
    for options, words in BAD_OPTIONS:
        assert_refused(STORE, words, *options.split())


def test_resource_is_never_suggested(run: Run) -> None:
    """N31: a name that is nearly one gets no suggestion to delete another kind of record."""
    for name in ("orders", "order", "product", "customer", "custmers", "Customers", "users"):
        for ini, *options in ((STORE, "--resource", name), (f"{CLEANUP}resource = {name}\n",)):
            status, _, err = run(ini, *options)
            assert status == 2, err
            assert "--resource list" in err
            assert not re.search(r"redirects|products|customers|\?", err.replace(name, ""))


def test_config_is_required(
    run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for options, word in (([], "--config"), (["store.ini"], "store.ini")):
        assert main(options) == 2
        assert word in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def printed(*command: str | Path, **environ: str) -> tuple[int, str, str]:
    """Run a command; returns exit status, stdout and stderr."""
    done = subprocess.run(
        list(map(str, command)), env=os.environ | environ, capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


def test_version() -> None:
    status, out, err = printed(sys.executable, TOOL, "--version")
    assert (status, err) == (0, "")
    assert re.fullmatch(r"bulk_delete\.py \d+\.\d+\.\d+\n", out)


def test_missing_packages_and_old_python_are_reported() -> None:
    status, _, err = printed(sys.executable, "-S", TOOL, "--version")
    assert status == 2, err
    assert "Traceback" not in err
    for words in ("requests", "pip install -r requirements.txt"):
        assert words in err
    for version in ("3.9", "3.10"):
        pyenv = Path.home().glob(f".pyenv/versions/{version}.*/bin/python")
        if old := next(pyenv, shutil.which(f"python{version}")):
            status, _, err = printed(old, TOOL, "--version")
            assert status == 2, err
            assert "3.11" in err
            assert "pip" not in err


@pytest.fixture(scope="module")
def help_text() -> str:
    status, out, err = printed(sys.executable, TOOL, "--help", COLUMNS="80")
    assert (status, err) == (0, "")
    return out


def test_readme_has_only_known_options(help_text: str) -> None:
    readme = TOOL.with_name("README.md").read_text(encoding="utf-8")
    commands = re.findall(r"(?m)^.*bulk_delete\.py .*$|^\| `-.*$", readme)
    options = {
        option for line in commands for option in re.findall(r"(?<!\S)`?(--[a-z-]+)", line)
    }
    assert len(options) > 8
    assert not [option for option in options if f"{option} " not in help_text]


def example_keys() -> Mapping[str, list[str]]:
    """Return the keys of config.example.ini by section, also the commented ones."""
    found: dict[str, list[str]] = {}
    for line in EXAMPLE.read_text(encoding="utf-8").splitlines():
        if header := re.fullmatch(r"\[(\w+)\]", line):
            keys = found.setdefault(header[1], [])
        elif key := re.match(r"(?:[#;] ?)?([a-z_]+) *=", line):
            keys.append(key[1])
    return found


def test_example_has_every_key_once(help_text: str) -> None:
    """Each option has its key in config.example.ini, and each key there has its option."""
    keys = example_keys()
    options = set(re.findall(r"^  (?:-\w, )?--([a-z-]+)", help_text, re.MULTILINE))
    wanted = {name.replace("-", "_") for name in options} - ONLY_ON_ARGV | ONLY_IN_INI
    assert sorted(keys["cleanup"]) == sorted(wanted)
    assert sorted(keys["store"]) == ["access_token", "client_id", "domain", "store_hash"]


def test_example_works_once_filled_in(served: FakeStore, run: Run) -> None:
    """Every setting is accepted; the values of some are files and hosts that do not exist."""
    text = EXAMPLE.read_text(encoding="utf-8")
    for key, value in (("store_hash", STORE_HASH), ("access_token", TOKEN)):
        text = re.sub(rf"(?m)^{key} *=.*$", f"{key} = {value}", text)
    settings = {*example_keys()["cleanup"]} - {"match", "ids", "keep", "webhook_url"}
    text = re.sub(rf"(?m)^[#;] ?((?:{'|'.join(settings)}) *=)", r"\1", text)
    status, _, err = run(text, "--dry-run")
    assert status == 0, err


# --- the main job and its settings ------------------------------------------------------------


def test_all_customers_are_deleted_once(make_store: MakeStore, installed: Tool) -> None:
    """Each id is sent once, over few connections and without a 429."""
    store = make_store(customers=503, quota=150, window=3.0, latency=0.01)
    before = dict(store.customers)
    outcome = installed(store, None, "-y")
    assert outcome.status == 0, outcome.text
    assert not store.customers
    assert store.deleted_ids() == dict.fromkeys(before, 1)
    assert {len(request.ids) for request in store.deletes()} == {10, 3}
    assert not [request for request in store.log if request.status == 429]
    assert store.max_in_flight <= 5
    assert store.connections <= 6

    summary = outcome.summary
    assert (summary["selected"], summary["deleted"], summary["verified"]) == (503, 503, True)
    assert (summary["status"], summary["exit_status"], summary["reason"]) == (
        "completed",
        0,
        None,
    )
    assert (summary["requests"], summary["retries"]) == (len(store.log), 0)
    assert summary["resume"] is None
    assert summary["started_at"] < summary["finished_at"]
    assert outcome.plan["ids"] == list(before)
    assert outcome.failed == {}
    records = {record["id"]: record for record in outcome.backup}
    assert records.keys() == before.keys()
    for number, record in before.items():
        listed = record | {name: record[name][:10] for name in ("addresses", "attributes")}
        assert listed.items() <= records[number].items()


def test_empty_selection_is_no_error(make_store: MakeStore, tool: RiggedTool) -> None:
    """N1: nothing is deleted, nothing is asked, and there is no run folder."""
    store = make_store(customers=0, **QUIET)
    for options in (["--yes"], ["--dry-run"], []):
        outcome = tool(store, None, *options)
        assert outcome.status == 0, outcome.text
        assert "nothing" in outcome.err.lower()
        assert outcome.folder is None
    assert not store.deletes()


def test_command_line_wins_over_ini(make_store: MakeStore, tool: RiggedTool) -> None:
    """N1: no DELETE has more ids than batch_size."""
    for ini, options, largest in (
        ({"batch_size": 3}, [], 3),
        ({"batch_size": 3}, ["--batch-size", "7"], 7),
        ({"dry_run": True}, ["--no-dry-run"], 10),
    ):
        store = make_store(customers=21, **QUIET)
        outcome = tool(store, store.config(tool.folder, **ini), "--yes", *options)
        assert (outcome.status, len(store.customers)) == (0, 0), outcome.text
        sizes = sorted(len(request.ids) for request in store.deletes())
        assert sizes == [21 % largest] * (21 % largest > 0) + [largest] * (21 // largest)


def test_max_concurrent_bounds_requests_in_flight(
    make_store: MakeStore, tool: RiggedTool
) -> None:
    for workers in (1, 2):
        store = make_store(customers=100, latency=0.03, **QUIET)
        outcome = tool(store, None, "--yes", "--max-concurrent", str(workers))
        assert outcome.status == 0, outcome.text
        assert store.max_in_flight == workers
        assert store.connections <= workers + 1
