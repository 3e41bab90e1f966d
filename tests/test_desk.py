"""The desk: what somebody reads who has never seen the tool, what goes into the ticket, and other systems."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bulk_delete import HELP, OPTIONS
from tests.fake_store import FakeStore, Fault, Request
from tests.rigged import QUIET, TOOL, MakeStore, Outcome, RiggedTool, Session, Tool, posix

CONFIG = "[store]\nstore_hash = sandbox1\naccess_token = sandbox-token-not-a-secret\n"


def names(number: int) -> Callable[[Request], bool]:
    """Tells whether a request names that id."""
    return lambda request: number in request.ids


def said(*command: str | Path, folder: Path, **environ: str) -> tuple[int, str]:
    """Exit status, and what a command printed, on one line."""
    kept = {name: text for name, text in os.environ.items() if name != "BIGCOMMERCE_ACCESS_TOKEN"}
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=kept | environ, capture_output=True, text=True, timeout=60
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


# --- mistakes ----------------------------------------------------------------------------------------
#
# What a new user does wrong, and what the tool is to say to it.

# The options => what is said.
MISTAKES: dict[str, tuple[str, ...]] = {
    "": ("--config FILE is required", "ini"),
    "--config nowhere.ini": ("nowhere.ini", "no such file", "config.example.ini"),
    "--config example.ini": ("example.ini", "store_hash", "missing"),
    "--config quoted.ini": ("access_token", "in quotes", "take them out"),
    "--config quoted-hash.ini": ("store_hash", "in quotes", "take them out"),
    "--config panel.ini": ("store_hash", "API path"),
    "--config store.ini --dryrun": ("--dryrun", "did you mean --dry-run?"),
    "store.ini": ("store.ini belongs to no option", "--help"),
    "--config store.ini --ids my list.csv": ("list.csv belongs to no option", "--help"),
    "--config store.ini --force": ("unknown option --force", "--help"),
    "--config store.ini --resource customer": ("--resource", "did you mean customers?"),
    "--config store.ini --filter date_create:min=2024-01-01": (
        "date_create:min",
        "did you mean date_created:min?",
    ),
    "--config store.ini --filter date_created:min=01/02/2024": ("date_created:min", "2025-03-31"),
    "--config store.ini --ids nowhere.csv": ("--ids nowhere.csv", "No such file"),
    "--config store.ini --ids book.xlsx": ("book.xlsx", "Excel workbook", "CSV UTF-8"),
    "--config store.ini --ids old-book.xls": ("old-book.xls", "Excel workbook", "CSV UTF-8"),
    "--config store.ini --ids utf-16.csv": ("utf-16.csv", "UTF-16", "CSV UTF-8"),
    "--config store.ini --keep cp1252.csv": ("cp1252.csv", "line 2", "not UTF-8 text", "CSV UTF-8"),
    "--config store.ini --ids sep.csv": ("sep.csv", "line 1", "sep=", "CSV UTF-8"),
    "--config store.ini --ids decimals.csv": ("decimals.csv", "line 2", "11.0", "whole numbers", "CSV UTF-8"),
    "--config store.ini --resume plan.json": (
        "--resume plan.json",
        "is a file",
        "name its folder: --resume .",
    ),
    "--config store.ini --resume nowhere": ("--resume nowhere", "plan.json"),
    "--config store.ini --limit ten": ("--limit", "whole number", "ten"),
}

FILES = {
    "store.ini": CONFIG,
    "quoted.ini": CONFIG.replace("sandbox-token-not-a-secret", '"sandbox-token-not-a-secret"'),
    "quoted-hash.ini": CONFIG.replace("sandbox1", "'sandbox1'"),
    "panel.ini": CONFIG.replace("sandbox1", "https://store-sandbox1.mybigcommerce.com/manage"),
    "example.ini": TOOL.with_name("config.example.ini").read_text(encoding="utf-8"),
    "book.xlsx": b"PK\x03\x04\x14\x00\x06\x00",
    "old-book.xls": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    "utf-16.csv": "id\n11\n".encode("utf-16"),
    "cp1252.csv": "email\njosé@shop.example\n".encode("cp1252"),
    "sep.csv": "sep=;\nid;name\n11;Ada\n",
    "decimals.csv": "Customer ID\n11.0\n",
    "plan.json": "{}",
}


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with the files that the mistakes are made with."""
    for name, content in FILES.items():
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(0o600)
    return tmp_path


@pytest.mark.parametrize("options", MISTAKES, ids=str)
def test_a_mistake_of_a_new_user(desk: Path, options: str) -> None:
    """Each gets one sentence that names the file, key or option, and what to do; exit 2, nothing made."""
    status, words = said(sys.executable, TOOL, *options.split(), folder=desk)
    assert status == 2, words
    assert words.count("bulk_delete.py: ") == 1, words
    for expected in MISTAKES[options]:
        assert expected in words
    assert "sandbox-token" not in words
    assert not (desk / "runs").exists()


def test_packages_that_are_missing(desk: Path) -> None:
    """Without its packages it names the first that is missing, how to get them, and the Python it needs."""
    status, words = said(sys.executable, "-S", TOOL, "--version", folder=desk)
    assert status == 2, words
    assert "needs Python 3.11 or newer" in words
    assert "requests" in words
    assert "pip install -r requirements.txt" in words
    assert "Traceback" not in words


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.10"])
def test_a_python_that_is_too_old(desk: Path, version: str) -> None:
    """An old Python is told so, and is not sent to install packages."""
    old = next(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"), shutil.which(f"python{version}"))
    if old is None:
        pytest.skip(f"there is no Python {version}")
    status, words = said(old, TOOL, "--version", folder=desk)
    assert status == 2, words
    assert f"needs Python 3.11 or newer (this is {version}." in words
    assert "pip" not in words


def test_help_lists_every_option() -> None:
    """Each option of the command line stands in one group of --help, and no other name does."""
    listed = [name for options in HELP.values() for name in options]
    only_in_the_ini = "min_requests_remaining count_items max_retries timeout max_error_rate webhook_url"
    assert sorted([*listed, *only_in_the_ini.split()]) == sorted(OPTIONS)


def test_readme_prints_the_help() -> None:
    """README holds --help as it is printed at 80 columns: grouped, with three examples."""
    _, words = said(sys.executable, TOOL, "--help", folder=TOOL.parent, COLUMNS="80")
    readme = " ".join(TOOL.with_name("README.md").read_text(encoding="utf-8").split())
    wanted = words.partition("what to delete:")[2]  # above it argparse differs from version to version
    assert f"what to delete:{wanted}" in readme
    places = [
        words.index(f"{group}:") for group in ("what to delete", "safety", "pace", "output", "examples")
    ]
    assert places == sorted(places)
    assert wanted.count("python bulk_delete.py --config store.ini") == 3


# --- the question ------------------------------------------------------------------------------------


@posix
def test_the_question_stands_last_and_names_all(
    make_store: MakeStore, terminal: Callable[..., Session]
) -> None:
    """The last line names the number to type, the records, and the store."""
    store = make_store(customers=30, **QUIET)
    session = terminal(store)
    session.child.expect_exact("Type 30 to delete 30 customers of Sandbox Store: ")
    session.child.sendline("no")
    assert session.finish().status == 3
    assert len(store.customers) == 30


@posix
def test_one_record_is_no_plural(make_store: MakeStore, terminal: Callable[..., Session]) -> None:
    """One customer is one customer, in the panel and in the question."""
    session = terminal(make_store(customers=1, **QUIET))
    session.child.expect_exact("Type 1 to delete 1 customer of Sandbox Store: ")
    session.child.sendline("1")
    assert session.finish().status == 0
    assert "1 customers" not in session.shown


@posix
@pytest.mark.parametrize(("columns", "lines"), [(60, 20), (80, 24), (120, 30)])
def test_the_panel_fits_the_screen(
    make_store: MakeStore, terminal: Callable[..., Session], columns: int, lines: int
) -> None:
    """Store, number and selection are on the screen with the question; samples go first, on a small one."""
    store = make_store(customers=30, **QUIET)
    session = terminal(store, columns=columns)
    session.child.setwinsize(lines, columns)
    session.child.expect_exact("Type 30 to delete")
    panel = session.shown[session.shown.index("╭") : session.shown.index("Type 30")]
    assert panel.count("\n") <= lines - 2
    for words in ("Sandbox Store", "30 customers", "ALL customers of the store"):
        assert words in panel
    session.child.sendline("no")
    assert session.finish().status == 3


@posix
def test_ctrl_c_at_the_question_ends_its_line(
    make_store: MakeStore, terminal: Callable[..., Session]
) -> None:
    """After Ctrl-C at the question the summary begins on a line of its own."""
    session = terminal(make_store(customers=30, **QUIET))
    session.child.expect_exact("of Sandbox Store: ")
    session.child.sendintr()
    assert session.finish().status == 130
    after = session.shown.partition("of Sandbox Store: ")[2]
    assert "─" not in after.splitlines()[0]
    assert "stopped by Ctrl-C" in after


@posix
def test_ctrl_c_at_work_says_what_it_waits_for(make_store: MakeStore, tool: RiggedTool) -> None:
    """It says at once that it is stopping, and for how many DELETEs it waits; the ticket says what became."""
    store = make_store(customers=300, latency=0.3, **QUIET)

    def interrupt(_: Request) -> None:
        tool.signal(signal.SIGINT)
        time.sleep(1.0)  # this answer is sure to be on its way still when the stop is told

    store.faults.append(Fault("DELETE", skip=12, hook=interrupt))
    outcome = tool.run(store)
    assert outcome.status == 130, outcome.text
    found = re.search(r"stopping: waiting for (\d) DELETEs? on the way", outcome.err)
    assert found
    assert 1 <= int(found[1]) <= 5
    words = " ".join(outcome.out.split())
    assert f"Unknown {outcome.summary['unknown']} accepted, not yet read back" in words
    assert "stopped by Ctrl-C" in words


# --- the ticket --------------------------------------------------------------------------------------


def test_the_summary_stands_alone(store: FakeStore, hurried: RiggedTool) -> None:
    """summary.json says which store, by which version, what was selected, and where the folder is."""
    outcome = hurried.run(store, "--match", "email=@", "--limit", "10")
    summary = outcome.summary
    assert summary["store"] == {
        "name": store.info["name"],
        "domain": store.info["domain"],
        "plan": store.info["plan_name"],
    }
    assert summary["selection"] == {"match": "email=@", "limit": "10"}
    assert outcome.folder is not None
    assert Path(summary["run_folder"]).name == outcome.folder.name
    assert re.fullmatch(r"\d+\.\d+\.\d+", summary["version"])


def test_a_store_that_may_not_be_read_has_no_name(store: FakeStore, hurried: RiggedTool) -> None:
    """Without the scope of store information, name, domain and plan are null."""
    store.scopes.discard("store_v2_information_read_only")
    assert hurried.run(store).summary["store"] == {"name": None, "domain": None, "plan": None}


def test_failed_csv_tells_who_it_is(store: FakeStore, hurried: RiggedTool) -> None:
    """failed.csv has the fields of selected.csv between id and reason; the table says so without a yes."""
    number = sorted(store.customers)[4]
    email = store.customers[number]["email"]
    store.faults.append(
        Fault("DELETE", where=names(number), times=99, status=422, body={"title": "is locked"})
    )
    outcome = hurried.run(store)
    assert outcome.status == 4, outcome.text
    assert outcome.folder is not None
    header, row = (outcome.folder / "failed.csv").read_text(encoding="utf-8").splitlines()
    assert header == "id,email,first_name,last_name,date_created,reason"
    assert row.startswith(f"{number},{email},")
    assert row.endswith("is locked")
    words = " ".join(outcome.out.split())
    assert "every id was read back: 1 did not go" in words
    assert words.count("are not proven gone") <= 1


def test_a_resume_shows_what_the_first_run_showed(store: FakeStore, hurried: RiggedTool) -> None:
    """The panel of a resume has the selection in the same words, and the backup."""
    keep = hurried.folder / "staff.txt"
    keep.write_text(f"{min(store.customers)}\n")
    first = hurried(store, None, "--dry-run", "--match", "email=@", "--keep", str(keep))
    again = hurried.resume(store, first.folder)
    selected = [re.search(r"│ Selected (.*?)│ \w", o.err.replace("\n", " "))[1] for o in (first, again)]  # type: ignore[index]
    assert selected[0].split() == selected[1].split()
    assert "1 known, 1 spared" in " ".join(selected[0].replace("│", " ").split())
    assert "backup.jsonl" in again.err


@pytest.fixture
def half_failed(store: FakeStore, hurried: RiggedTool) -> Outcome:
    """A run of 30, of which the store refuses one for good."""
    number = sorted(store.customers)[4]
    body = {"title": "is locked"}
    store.faults.append(Fault("DELETE", where=names(number), times=math.inf, status=422, body=body))
    outcome = hurried.run(store)
    assert outcome.status == 4, outcome.text
    return outcome


def test_a_resume_that_tries_nothing_keeps_what_failed(
    store: FakeStore, hurried: RiggedTool, half_failed: Outcome
) -> None:
    """What did not go, and was not tried again, is failed still, for the same reason."""
    again = hurried(store, None, "--resume", str(half_failed.folder))  # there is no terminal
    assert again.status == 3, again.text
    assert (again.summary["failed"], again.summary["not_attempted"]) == (1, 0)
    assert again.failed == half_failed.failed
    assert hurried.resume(store, half_failed.folder).status == 4


@pytest.mark.parametrize("name", ["selected.csv", "unmatched.csv", "failed.csv"])
@pytest.mark.parametrize("content", ["id,email\n11,José\n".encode("cp1252"), b"\xff\x00", b'"', b"id\n11\n"])
def test_a_file_that_somebody_saved_anew(
    store: FakeStore, hurried: RiggedTool, half_failed: Outcome, name: str, content: bytes
) -> None:
    """A CSV of the run folder that a spreadsheet has saved anew ends no run, and shifts no column."""
    assert half_failed.folder is not None
    (half_failed.folder / name).write_bytes(content)
    again = hurried.resume(store, half_failed.folder)
    assert again.status == 4, again.text
    assert [reason for reason in again.failed.values() if "is locked" in reason]


def test_the_report_of_a_resume_with_nothing_left(store: FakeStore, hurried: RiggedTool) -> None:
    """A resume of what is done tells the plan in its report all the same."""
    done = hurried.run(store)
    again = hurried.resume(store, done.folder)
    assert again.status == 0, again.text
    assert again.folder is not None
    page = (again.folder / "report.html").read_text(encoding="utf-8")
    assert "The plan" in page
    assert "ALL customers of the store" in page


@posix
def test_the_wait_at_the_question_is_no_work(make_store: MakeStore, terminal: Callable[..., Session]) -> None:
    """Time at work is without the wait at the question, also where the answer is no."""
    session = terminal(make_store(customers=3, **QUIET))
    session.child.expect_exact("Type 3 to delete")
    time.sleep(2.5)
    session.child.sendline("no")
    assert session.finish().summary["elapsed_seconds"] < 2.0


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a@x.example, b@x.example\n", "neither one id or address, alone on its line"),
        ("Ada <ada@x.example>\n", "neither one id or address, alone on its line"),
        ("a@x.example\u00a0\n", "U+00A0"),
        ("a@x.example\nb@x.exa\u200bmple\n", "U+200B"),
        ("Customer Email\na@x.example\n", "id or customer id or email"),
    ],
)
def test_a_list_as_merchants_send_it(desk: Path, content: str, expected: str) -> None:
    """What a merchant's mail holds is refused with what a list is, and what nobody sees is named."""
    (desk / "list.txt").write_text(content, encoding="utf-8")
    command = (TOOL, "--config", "store.ini", "--ids", "list.txt")
    status, words = said(sys.executable, *command, folder=desk)
    assert status == 2, words
    assert expected in words


def test_a_run_that_listed_nothing_leaves_nothing(store: FakeStore, hurried: RiggedTool) -> None:
    """A wrong token, or a wrong hash, leaves no run folder."""
    for change in ({"access_token": "wrong-token-of-another-store"}, {"store_hash": "another1"}):
        assert hurried(store, store.config(hurried.folder, **change), "--yes").status in (3, 5)
    assert not [path for path in hurried.runs.iterdir() if path.is_dir()]


# --- report.html -------------------------------------------------------------------------------------


class References(HTMLParser):
    """Whatever in a page would be fetched from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take note of a tag, and of what it refers to."""
        self.tags.add(tag)
        self.found += [str(value) for name, value in attrs if name in ("src", "href", "data", "action")]


@pytest.fixture
def report(make_store: MakeStore, hurried: RiggedTool) -> Path:
    """The report of a run with a failure, and an entry of a list that the store does not know."""
    store = make_store(customers=60, latency=0.05, **QUIET)
    ids = hurried.folder / "merchant.csv"
    ids.write_text("id\n" + "".join(f"{number}\n" for number in [*sorted(store.customers)[:40], 999_999]))
    number = min(store.customers)
    body = {"title": "<b>&{x}"}
    store.faults.append(Fault("DELETE", where=names(number), times=99, status=422, body=body))
    outcome = hurried.run(store, "--ids", str(ids))
    assert outcome.status == 4, outcome.text
    assert outcome.folder is not None
    return outcome.folder / "report.html"


def test_the_report_is_one_file(report: Path) -> None:
    """It has panel, result, failures, unmatched entries, pace, version and command, and refers to nothing."""
    page = report.read_text(encoding="utf-8")
    parser = References()
    parser.feed(page)
    assert not parser.found
    assert not re.search(r"url\(|@import|https?://(?!localhost)", page)
    assert parser.tags <= {"html", "head", "meta", "title", "style", "body", "pre", "span"}
    text = " ".join(re.sub(r"<[^>]*>", "", page).split())
    for words in (
        "The plan",
        "40 customers",
        "exit status 4",
        "failed.csv",
        "unmatched.csv",
        "999999",
        "requests a second at most",
        "--ids",
        "&lt;b&gt;&amp;{x}",
    ):
        assert words in text
    assert re.search(r"[▁▂▃▄▅▆▇█]", text)
    assert re.search(r"bulk_delete\.py \d+\.\d+\.\d+", text)


def chromium() -> str:
    """The browser; a test is skipped where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome", "chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("there is no Chromium")


def test_the_report_in_a_browser(report: Path, tmp_path: Path) -> None:
    """A browser shows its text as written, without a sideways scroll bar, and prints it to PDF."""
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--virtual-time-budget=2000",
    ]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    pdf, browser = tmp_path / "report.pdf", chromium()
    probe = tmp_path / "probe.html"
    page = report.read_text(encoding="utf-8")
    script = "<script>document.title = [scrollWidth, clientWidth].map(n => n).join()</script>".replace(
        "[scrollWidth, clientWidth]",
        "[document.documentElement.scrollWidth, document.documentElement.clientWidth]",
    )
    probe.write_text(page.replace("</body>", f"{script}</body>"), encoding="utf-8")
    command = [browser, *flags, profile, "--window-size=1000,800", "--dump-dom", probe.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=90).stdout
    title = re.search(r"<title>(\d+),(\d+)</title>", shown)
    assert title, shown[:500]
    assert int(title[1]) <= int(title[2])
    assert "&lt;b&gt;&amp;{x}" in shown
    command = [browser, *flags, profile, f"--print-to-pdf={pdf}", report.as_uri()]
    subprocess.run(command, capture_output=True, timeout=90, check=True)
    assert pdf.read_bytes().startswith(b"%PDF")


# --- other systems -----------------------------------------------------------------------------------

# What POSIX alone has is taken away, and Windows' lock put in its place, as far as that can be done.
WITHOUT_POSIX = """
import os, signal, sys, types
for name in ("fcntl", "termios", "tty", "pty", "resource", "pwd", "grp"):
    sys.modules[name] = None
for name in ("SIGHUP", "SIGKILL", "SIGUSR1", "SIGALRM"):
    delattr(signal, name)
for name in ("O_DIRECTORY", "fork", "getuid", "geteuid", "fchmod"):
    delattr(os, name)
msvcrt = types.ModuleType("msvcrt")
msvcrt.LK_NBLCK = 2
def locking(handle, mode, size, path=os.path.join(os.environ["LOCKS"], "taken")):
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        raise PermissionError(13, "Permission denied") from None
msvcrt.locking = locking
msvcrt.kbhit = lambda: False
sys.modules["msvcrt"] = msvcrt
"""


@pytest.fixture
def bare(installed: Tool, tmp_path: Path) -> dict[str, str]:
    """The environment of a Python without what only POSIX has."""
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "sitecustomize.py").write_text(WITHOUT_POSIX)
    return {"PYTHONPATH": str(tmp_path / "bare"), "LOCKS": str(tmp_path / "bare")}


def test_the_job_without_what_only_posix_has(store: FakeStore, installed: Tool, bare: dict[str, str]) -> None:
    """Without fcntl, termios, SIGHUP and the sync of a folder the main job is the same."""
    outcome = installed(store, None, "--yes", **bare)
    assert outcome.status == 0, outcome.text
    assert not store.customers
    assert outcome.summary["deleted"] == 30


def test_the_lock_without_fcntl(store: FakeStore, installed: Tool, bare: dict[str, str]) -> None:
    """What Windows refuses to lock is in use by another process: exit 3, nothing sent."""
    (Path(bare["LOCKS"]) / "taken").touch()
    outcome = installed(store, None, "--yes", **bare)
    assert outcome.status == 3, outcome.text
    assert "in use by another process" in " ".join(outcome.text.split())
    assert not store.log


def test_a_python_that_can_lock_nothing(store: FakeStore, installed: Tool, tmp_path: Path) -> None:
    """With neither fcntl nor msvcrt no run is one process's alone, so there is none: exit 3."""
    code = "import sys\nsys.modules['fcntl'] = sys.modules['msvcrt'] = None\n"
    (tmp_path / "sitecustomize.py").write_text(code)
    outcome = installed(store, None, "--yes", PYTHONPATH=str(tmp_path))
    assert outcome.status == 3, outcome.text
    assert "cannot be locked" in " ".join(outcome.text.split())
    assert not store.log


def test_json_names_no_folder_that_is_not_there(store: FakeStore, tool: RiggedTool) -> None:
    """--json of a run that listed nothing says null for its folder, and why it ended."""
    outcome = tool(store, store.config(tool.folder, access_token="wrong-token-of-a-store"), "--yes", "--json")
    summary = json.loads(outcome.out)
    assert summary["run_folder"] is None
    assert "401" in summary["reason"]
