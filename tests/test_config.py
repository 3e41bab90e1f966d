"""Configuration: what is wrong is said in one sentence, before anything is sent."""

from __future__ import annotations

import configparser
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bulk_delete import main
from tests.fake_store import STORE_HASH, TOKEN, FakeStore
from tests.rigged import SIGNALS, TOOL, MakeStore, RiggedTool, assert_says, posix

EXAMPLE = TOOL.with_name("config.example.ini")
STORE = f"[store]\nstore_hash = {STORE_HASH}\naccess_token = {TOKEN}\n"
CLEANUP = STORE + "[cleanup]\n"
NO_HASH = f"[store]\naccess_token = {TOKEN}\n"
NO_TOKEN = f"[store]\nstore_hash = {STORE_HASH}\n"
STORE_KEYS = {"store_hash", "access_token", "client_id", "domain"}
CLEANUP_KEYS = {
    "resource",
    "match",
    "ids",
    "keep",
    "spare_with_orders",
    "limit",
    "max_delete",
    "dry_run",
    "runs_dir",
    "no_backup",
    "rate_limit",
    "batch_size",
    "max_concurrent",
    "verbose",
    "min_requests_remaining",
    "count_items",
    "max_retries",
    "timeout",
    "max_error_rate",
    "webhook_url",
}
ELSEWHERE = {"match", "ids", "keep", "webhook_url"}  # their examples name what is not here


@pytest.fixture(scope="module")
def unreachable() -> Iterator[FakeStore]:
    """A store that nobody is to reach."""
    with FakeStore(customers=30, quota=None) as store:
        yield store


@pytest.fixture
def refused(
    unreachable: FakeStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Callable[..., str]]:
    """Runs main() in this process, and returns the last line of stderr: exit 2, nothing sent."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BIGCOMMERCE_ACCESS_TOKEN", raising=False)
    for name, value in unreachable.env().items():
        monkeypatch.setenv(name, value)
    handlers = {signum: signal.getsignal(signum) for signum in SIGNALS}

    def run(ini: str | bytes | None, *options: str) -> str:
        path = tmp_path / "store.ini"
        if ini is not None:
            path.write_bytes(ini.encode() if isinstance(ini, str) else ini)
            path.chmod(0o600)
        status = main(["--config", str(path), *options])
        captured = capsys.readouterr()
        assert status == 2, captured
        assert unreachable.connections == 0
        assert not (tmp_path / "runs").exists()
        assert captured.out == ""
        *usage, sentence = captured.err.splitlines()
        assert not usage or usage[0].startswith("usage: ")  # argparse says that first
        assert sentence.startswith("bulk_delete.py: ")
        assert TOKEN not in captured.err
        return sentence

    yield run
    for signum, handler in handlers.items():
        signal.signal(signum, handler)


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ini", "named"),
    [
        pytest.param(None, "store.ini no such file config.example.ini", id="no file"),
        pytest.param("", "store.ini [store]", id="empty file"),
        pytest.param("store_hash = x\n", "store.ini line 1 [store]", id="no section"),
        pytest.param("[cleanup]\n", "store.ini [store]", id="no store"),
        pytest.param(NO_HASH, "store_hash [store]", id="no hash"),
        pytest.param(NO_HASH + "store_hash =\n", "store_hash [store]", id="empty hash"),
        pytest.param(NO_HASH + "store_hash = a-b\n", "store_hash letters and digits", id="hash -"),
        pytest.param(NO_HASH + "store_hash = ../x\n", "store_hash letters", id="hash path"),
        pytest.param(NO_HASH + "store_hash = ä1\n", "store_hash letters", id="hash not ascii"),
        pytest.param(NO_TOKEN, "access_token BIGCOMMERCE_ACCESS_TOKEN", id="no token"),
        pytest.param(NO_TOKEN + "access_token =\n", "access_token", id="empty token"),
        pytest.param(NO_TOKEN + "access_token = a b\n", "access_token space", id="token space"),
        pytest.param(NO_TOKEN + "access_token = abcü\n", "access_token ASCII", id="token ü"),
        pytest.param(NO_TOKEN + "access_token = a\x7f\n", "access_token", id="token control"),
        pytest.param(STORE.encode("utf-16"), "store.ini UTF-8", id="utf-16"),
        pytest.param(STORE.encode("utf-16-le"), "store.ini UTF-8", id="utf-16 without a bom"),
        pytest.param(b"[store]\nstore_hash = \xfc\n", "store.ini UTF-8", id="latin-1"),
        pytest.param(STORE + "nonsense\n", "line 4", id="no key"),
        pytest.param(STORE + "store_hash = y\n", "line 4 store_hash twice", id="key twice"),
        pytest.param(STORE + "[store]\n", "line 4 [store] twice", id="section twice"),
        pytest.param(STORE + "[DEFAULT]\nx = 1\n", "[DEFAULT]", id="default"),
        pytest.param(STORE + "[clean-up]\n", "[clean-up] cleanup?", id="unknown section"),
        pytest.param(STORE + "acess_token = x\n", "acess_token access_token?", id="store key"),
        pytest.param(CLEANUP + "bach_size = 5\n", "bach_size batch_size?", id="cleanup key"),
        pytest.param(CLEANUP + "yes = yes\n", "yes --yes", id="yes in the ini"),
        pytest.param(CLEANUP + "resume = x\n", "resume --resume", id="resume in the ini"),
        pytest.param(CLEANUP + "json = yes\n", "json --json", id="json in the ini"),
        pytest.param(CLEANUP + "config = x\n", "config --config", id="config in the ini"),
        pytest.param(CLEANUP + "version = 1\n", "version", id="version in the ini"),
        pytest.param(CLEANUP + "resource = custmers\n", "resource customers", id="resource"),
        pytest.param(CLEANUP + "dry_run = perhaps\n", "dry_run yes or no", id="boolean"),
        pytest.param(CLEANUP + "dry_run =\n", "dry_run yes or no", id="empty boolean"),
    ],
)
def test_bad_file(refused: Callable[..., str], ini: str | bytes | None, named: str) -> None:
    """What is wrong with the file is named, with the nearest known name, and nothing is sent."""
    sentence = refused(ini)
    for word in ("store.ini", *named.split()):
        assert word in sentence


BAD_VALUES = [
    ("batch_size", "0 11 -1 2.5 ten \u0661 1_0"),
    ("max_concurrent", "0 6 five"),
    ("rate_limit", "0 -5 1e3 fast"),
    ("timeout", "0 -1 0.0 nan inf soon"),
    ("max_error_rate", "-1 101 nan some"),
    ("max_retries", "-1 many"),
    ("min_requests_remaining", "-1 x"),
    ("count_items", "2 maybe"),
]


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in BAD_VALUES for value in values.split()]
)
def test_bad_value(refused: Callable[..., str], key: str, value: str) -> None:
    """A value out of range, or that is no number, is named with its key."""
    sentence = refused(f"{CLEANUP}{key} = {value}\n")
    assert "store.ini" in sentence
    assert key in sentence
    assert repr(value) in sentence or sentence.endswith(f"not {value}")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("--batch-size 11", "--batch-size 1 10 customers"),
        ("--batch-size x", "--batch-size"),
        ("--max-concurrent 6", "--max-concurrent 1 5"),
        ("--rate-limit 0", "--rate-limit"),
        ("--resource custmers", "--resource customers?"),
        ("--ye", "--ye"),
        ("--dry", "--dry"),
        ("extra", "extra"),
        ("--resume nowhere", "--resume nowhere"),
        ("--resume nowhere --resource customers", "--resource --resume"),
    ],
)
def test_bad_option(refused: Callable[..., str], options: str, named: str) -> None:
    """A bad option is named; options are never abbreviated."""
    sentence = refused(STORE, *options.split())
    for word in named.split():
        assert word in sentence


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--filter", "name:like=a", "--filter", "name:like=b"), "twice"),
        (("--spare-with-orders", "--resource", "products"), "--spare-with-orders"),
        (("--runs-dir", ""), "--runs-dir"),
        (("--runs-dir", "store.ini/runs"), "--runs-dir"),
    ],
)
def test_usage_that_cannot_be_meant(
    make_store: MakeStore, tool: RiggedTool, options: tuple[str, ...], word: str
) -> None:
    """It is refused with exit status 2, names the option, and sends nothing."""
    store = make_store(customers=3)
    outcome = tool.run(store, *options)
    assert outcome.status == 2, outcome.text
    assert word in outcome.err
    assert not store.log


def test_config_is_required(refused: Callable[..., str], tmp_path: Path) -> None:
    """A folder in place of the file is no traceback; nor is no --config at all."""
    (tmp_path / "store.ini").mkdir()
    assert "store.ini" in refused(None)
    assert main([]) == 2


@pytest.mark.parametrize("domain", ["https://", "/other.example", "//other.example/"])
def test_a_domain_that_is_none(refused: Callable[..., str], domain: str) -> None:
    """A domain that names nothing pins nothing: it is refused."""
    assert "domain" in refused(f"{STORE}domain = {domain}\n")


@pytest.mark.parametrize("host", ["https://localhost:1", "local host", "localhost:x", "a/b"])
def test_bad_endpoint(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """BC_API_ENDPOINT must be a host, or host:port."""
    monkeypatch.setenv("BC_API_ENDPOINT", host)
    assert "BC_API_ENDPOINT" in refused(STORE)


def test_no_traceback_in_a_process_of_its_own(make_store: MakeStore, tool: RiggedTool) -> None:
    """The real command, with a bad file: status 2, one line on stderr, no run folder."""
    store = make_store(customers=3)
    outcome = tool(store, store.config(tool.folder, batch_size=11), "--yes")
    assert (outcome.status, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert not store.connections
    assert not tool.runs.exists()


# --- what is understood --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(b"[store]", b"\xef\xbb\xbf[store]", id="bom"),
        pytest.param(b"\n", b"\r\n", id="crlf"),
        pytest.param(b"\n", b"\n  ", id="indented"),
        pytest.param(b"store_hash =", b"; a comment\n# another: 100 %\nSTORE_HASH=", id="comments"),
    ],
)
def test_files_of_all_editors(make_store: MakeStore, tool: RiggedTool, old: bytes, new: bytes) -> None:
    """A BOM, CRLF, indentation, comments and capitals in keys do no harm."""
    store = make_store(customers=3)
    config = store.config(tool.folder)
    config.write_bytes(config.read_bytes().replace(old, new))
    assert tool(store, config, "--dry-run").status == 0


@pytest.mark.parametrize("token", ["a%b", "100%", "%(x)s", "a=b==", "${x}", "a;b#c", "[x]", "a:b"])
def test_token_is_taken_as_it_is(make_store: MakeStore, tool: RiggedTool, token: str) -> None:
    """No character of a token means anything to the ini file."""
    store = make_store(customers=3)
    store.token = token
    outcome = tool(store, store.config(tool.folder), "--yes")
    assert outcome.status == 0, outcome.text
    assert not store.customers


def test_token_from_the_environment(make_store: MakeStore, tool: RiggedTool) -> None:
    """Without access_token in the ini, BIGCOMMERCE_ACCESS_TOKEN is the token."""
    store = make_store(customers=3)
    config = store.config(tool.folder)
    config.write_text(NO_TOKEN)
    assert tool(store, config, "--yes", BIGCOMMERCE_ACCESS_TOKEN=TOKEN).status == 0
    outcome = tool(store, config, "--yes", **{"BIGCOMMERCE_ACCESS_TOKEN": "a b"})
    assert outcome.status == 2
    assert "BIGCOMMERCE_ACCESS_TOKEN" in outcome.err


@pytest.mark.parametrize(
    "pasted",
    [
        f"https://api.bigcommerce.com/stores/{STORE_HASH}/v3/",
        f"https://api.bigcommerce.com/stores/{STORE_HASH}",
        f"/stores/{STORE_HASH}/v3/",
        f"stores/{STORE_HASH}/",
    ],
)
def test_pasted_api_path(make_store: MakeStore, tool: RiggedTool, pasted: str) -> None:
    """The API path that the control panel shows is taken for the hash in it."""
    store = make_store(customers=3)
    outcome = tool(store, store.config(tool.folder, store_hash=pasted), "--dry-run")
    assert outcome.status == 0, outcome.text
    assert outcome.summary["store_hash"] == STORE_HASH


@pytest.mark.parametrize(
    ("domain", "status"),
    [
        ("sandbox-store.example", 0),
        ("https://Sandbox-Store.example/", 0),
        ("other-store.example", 3),
        ("store.example", 3),
        ("sandbox-store.example.other.example", 3),
    ],
)
def test_pinned_domain(make_store: MakeStore, tool: RiggedTool, domain: str, status: int) -> None:
    """A domain in the ini pins it to its store: any other is refused, and told from it."""
    store = make_store(customers=3)
    outcome = tool(store, store.config(tool.folder, domain=domain), "--yes")
    assert outcome.status == status, outcome.text
    assert len(store.customers) == (3 if status else 0)
    assert bool(store.deletes()) is (status == 0)
    if status:
        assert_says(outcome, domain, store.info["domain"])


def test_pinned_domain_that_cannot_be_read(make_store: MakeStore, tool: RiggedTool) -> None:
    """A token that may not read the store's domain cannot pass the pin."""
    store = make_store(customers=3)
    store.scopes.discard("store_v2_information_read_only")
    outcome = tool(store, store.config(tool.folder, domain=store.info["domain"]), "--yes")
    assert (outcome.status, len(store.customers)) == (3, 3)
    assert_says(outcome, "domain", "store_v2_information_read_only")


@posix
@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o400, False), (0o640, True)])
def test_config_that_others_can_read(
    make_store: MakeStore, tool: RiggedTool, mode: int, warned: bool
) -> None:
    """A config file that others can read gets a warning with the remedy, and works."""
    store = make_store(customers=3)
    config = store.config(tool.folder)
    config.chmod(mode)
    outcome = tool(store, config, "--yes")
    assert outcome.status == 0
    assert (f"chmod 600 {config}" in outcome.err) is warned


# --- the example ---------------------------------------------------------------------------------


def test_example_says_what_to_fill_in(refused: Callable[..., str]) -> None:
    """The example, as it stands, is refused for its store_hash alone."""
    assert "store_hash" in refused(EXAMPLE.read_bytes())


def test_example_has_every_key() -> None:
    """Each key of the design is in the example once, commented out or not, and no other."""
    found: dict[str, list[str]] = {}
    for line in EXAMPLE.read_text(encoding="utf-8").splitlines():
        if header := re.fullmatch(r"\[(\w+)\]", line):
            keys = found.setdefault(header[1], [])
        elif key := re.match(r"(?:[#;] ?)?([a-z_]+) *=", line):
            keys.append(key[1])
    assert sorted(found["store"]) == sorted(STORE_KEYS)
    assert sorted(found["cleanup"]) == sorted(CLEANUP_KEYS)


def test_example_works_once_filled_in(make_store: MakeStore, tool: RiggedTool) -> None:
    """With hash and token filled in, and its settings uncommented, the example is accepted."""
    store = make_store(customers=3)
    text = EXAMPLE.read_text(encoding="utf-8")
    for key, value in (("store_hash", STORE_HASH), ("access_token", TOKEN)):
        text = re.sub(rf"(?m)^(?:[#;] ?)?{key} *=.*$", f"{key} = {value}", text)
    settings = "|".join(CLEANUP_KEYS - ELSEWHERE)
    text = re.sub(rf"(?m)^[#;] ?((?:{settings}) *=)", r"\1", text)
    config = store.config(tool.folder)
    config.write_text(text, encoding="utf-8")
    parser = configparser.RawConfigParser(delimiters=("=",))
    parser.read_string(text)
    assert set(parser["cleanup"]) >= CLEANUP_KEYS - ELSEWHERE
    outcome = tool(store, config, "--dry-run")
    assert outcome.status == 0, outcome.text
