"""On a terminal: what is shown, what is asked, and what Ctrl-C and its like leave behind."""

from __future__ import annotations

import json
import math
import re
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable

import pexpect
import pytest
from rich.cells import cell_len

from tests.fake_store import Fault
from tests.rigged import QUIET, SIGNALS, MakeStore, Outcome, Session, Tool, check, posix, wait_until, waiting

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


def summary_of(tool: Tool) -> dict[str, object]:
    (folder,) = tool.folders()
    summary: dict[str, object] = json.loads((folder / "summary.json").read_text())
    return summary


# --- before the deed ------------------------------------------------------------------------------


def test_panel(make_store: MakeStore, terminal: Callable[..., Session]) -> None:
    """The panel names the store and the selection, shows five records, and says how long."""
    store = make_store(customers=300, **QUIET)
    session = terminal(store, columns=160)
    session.child.expect("Type 300 ")
    panel = session.shown
    for fact in ("name", "domain", "plan_name"):
        assert store.info[fact] in panel
    assert store.store_hash in panel
    assert "300 customers" in panel
    records = list(store.customers.values())
    assert records[0]["date_created"] in panel
    assert records[-1]["date_created"] in panel
    samples = [record for record in records if record["email"] in panel]
    assert len(samples) == 5
    for record in samples:
        assert re.search(rf"\b{record['id']}\b", panel)
        assert record["date_created"] in panel
        assert " ".join(record["last_name"].split()) in panel
    assert "32 requests" in panel  # 30 DELETEs, and 2 pages to read back
    assert re.search(r"\b\d+ (s|min)\b", panel)
    session.child.sendline("no")
    assert session.finish().status == 3


def test_right_number(make_store: MakeStore, terminal: Callable[..., Session]) -> None:
    """The right number deletes; nothing is deleted before it is typed."""
    store = make_store(customers=30, **QUIET)
    session = terminal(store)
    session.child.expect("Type 30 ")
    assert not store.deletes()
    session.child.sendline("30")
    outcome = session.finish()
    assert (outcome.status, len(store.customers)) == (0, 0)
    assert outcome.summary["status"] == "completed"


@pytest.mark.parametrize("typed", ["29\r", "\r", "yes\r", "30x\r", "-30\r", "\x04"])
def test_anything_else(make_store: MakeStore, terminal: Callable[..., Session], typed: str) -> None:
    """Any other answer, and end of file, deletes nothing; the plan is kept to be resumed."""
    store = make_store(customers=30, **QUIET)
    session = terminal(store)
    session.child.expect("Type 30 ")
    session.child.send(typed)
    outcome = session.finish()
    assert (outcome.status, len(store.customers)) == (3, 30)
    assert not store.deletes()
    summary = outcome.summary
    assert (summary["status"], summary["not_attempted"]) == ("planned", 30)
    assert outcome.plan["ids"] == list(store.customers)
    assert summary["resume"] in session.shown.replace("\n", "")


@pytest.mark.parametrize(
    ("signum", "status"), SIGNALS.items(), ids=lambda value: getattr(value, "name", None)
)
def test_signal_at_the_prompt(
    make_store: MakeStore, terminal: Callable[..., Session], signum: int, status: int
) -> None:
    """Ctrl-C and the other signals at the prompt delete nothing, and leave at once."""
    store = make_store(customers=30, **QUIET)
    session = terminal(store)
    session.child.expect("Type 30 .*: ")
    if signum == signal.SIGINT:
        session.child.sendintr()
    else:
        session.child.kill(signum)
    outcome = session.finish()
    assert (outcome.status, len(store.customers)) == (status, 30)
    assert not store.deletes()
    assert outcome.summary["not_attempted"] == 30


def test_yes_skips_the_prompt(make_store: MakeStore, terminal: Callable[..., Session]) -> None:
    """With --yes the panel is shown, and nothing is asked."""
    store = make_store(customers=30, **QUIET)
    session = terminal(store, "--yes")
    outcome = session.finish()
    assert (outcome.status, len(store.customers)) == (0, 0)
    assert "30 customers" in session.shown
    assert "Type 30" not in session.shown


@pytest.mark.parametrize("given", ["", "30\n"])
def test_no_terminal(make_store: MakeStore, installed: Tool, given: str) -> None:
    """Without a terminal on stdin, --yes is required: a number that is piped in is no answer."""
    store = make_store(customers=30, **QUIET)
    done = subprocess.run(
        installed.command(store.config(installed.folder)),
        cwd=installed.folder,
        env=installed.environ(store),
        capture_output=True,
        check=False,
        text=True,
        input=given,
    )
    (folder,) = installed.folders()
    outcome = check(Outcome(done.returncode, done.stdout, done.stderr, folder))
    assert (outcome.status, len(store.customers)) == (3, 30)
    assert not store.deletes()
    assert "--yes" in outcome.summary["reason"]
    assert outcome.summary["status"] == "planned"
    assert outcome.plan["selected"] == 30
    assert outcome.summary["resume"] in outcome.err


# --- what it looks like ---------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [80, 120])
def test_nothing_is_wider_than_the_terminal(
    make_store: MakeStore, terminal: Callable[..., Session], columns: int
) -> None:
    """No line is wider than the terminal, waits are told in the bar, and the cursor comes back."""
    store = make_store(customers=1003, latency=0.01, **QUIET)
    wait_2 = {"X-Retry-After": "2"}
    store.faults.append(Fault(method="DELETE", skip=20, status=429, headers=wait_2, quota_headers=False))
    session = terminal(store, columns=columns)
    session.child.expect("Type 1003 ")
    session.child.sendline("1003")
    outcome = session.finish()
    assert outcome.status == 0
    for line in re.split(r"[\r\n]+", session.shown):
        assert cell_len(line) <= columns, line
    assert re.search(r"wait: [12] s", session.shown)
    for name in ("Listing", "Deleting", "Verifying"):
        assert re.search(rf"{name}\W.* 100%", session.shown), name
    written = session.written.getvalue()
    assert written.rfind(SHOW) > written.rfind(HIDE) > 0
    # After the last colour comes its end, and nothing is left of another mode.
    assert re.findall(r"\x1b\[[0-9;]*m", written)[-1] == "\x1b[0m"
    assert set(re.findall(r"\x1b\[\?\d+[hl]", written)) == {HIDE, SHOW}


# --- stopped --------------------------------------------------------------------------------------


@pytest.mark.parametrize("typed", [True, False])
def test_terminal_goes_away(
    make_store: MakeStore, terminal: Callable[..., Session], installed: Tool, typed: bool
) -> None:
    """A closed window stops the run like SIGHUP does, at the prompt or later, with a summary."""
    store = make_store(customers=600, **QUIET)
    seen = threading.Event()
    store.faults = [Fault("DELETE", skip=5, times=math.inf, hook=waiting(seen))]
    session = terminal(store)
    session.child.expect("Type 600 .*: ")
    if typed:
        session.child.sendline("600")
        wait_until(lambda: len(store.deletes()) == 10)
        threading.Timer(1.0, seen.set).start()  # by then it has seen the signal
    assert session.hang_up() == 129
    assert len(store.deletes()) == (10 if typed else 0)
    summary = summary_of(installed)
    proven = 10 if typed else 0  # the first batch
    assert (summary["exit_status"], summary["deleted"]) == (129, proven)
    assert summary["unknown"] == sum(store.deleted_ids().values()) - proven


def test_ctrl_c_twice(make_store: MakeStore, terminal: Callable[..., Session], installed: Tool) -> None:
    """The first Ctrl-C awaits what is in flight; the second leaves at once, with a summary."""
    store = make_store(customers=300, **QUIET)
    store.faults.append(Fault(method="DELETE", skip=5, times=math.inf, delay=60))
    session = terminal(store, "--yes")
    wait_until(lambda: len(store.deletes()) == 10)
    sent = len(store.deletes())
    session.child.sendintr()
    time.sleep(1)
    assert session.child.isalive()
    session.child.sendintr()
    session.child.timeout = 20
    outcome = session.finish()
    assert outcome.status == 130
    assert len(store.deletes()) == sent
    summary = outcome.summary
    assert (summary["status"], summary["deleted"]) == ("interrupted", 10)
    assert summary["unknown"] == sum(store.deleted_ids().values()) - 10
    written = session.written.getvalue()
    assert written.rfind(SHOW) > written.rfind(HIDE) > 0


def test_what_was_typed_before_the_question(
    make_store: MakeStore, terminal: Callable[..., Session], installed: Tool
) -> None:
    """N21: a number that was typed during the listing confirms nothing."""
    store = make_store(customers=30, **QUIET)
    seen, typed = threading.Event(), threading.Event()
    store.faults = [Fault(path="v3/customers", hook=lambda _: (seen.set(), typed.wait(30))[0])]
    session = terminal(store)
    assert seen.wait(30)
    session.child.sendline("30")
    time.sleep(0.5)
    typed.set()
    session.child.expect("Type 30 ")
    time.sleep(1.0)
    assert session.child.isalive()
    session.child.sendline("no")
    assert session.finish().status == 3
    assert not store.deletes()


@posix
@pytest.mark.parametrize("redirected", ["2>err.log", "2>&1 | cat", "<answer.txt"])
def test_a_question_that_nobody_sees_is_not_asked(
    make_store: MakeStore, installed: Tool, redirected: str
) -> None:
    """N21: with the messages or the answer redirected nothing is asked: --yes is required, exit 3."""
    store = make_store(customers=30, **QUIET)
    (installed.folder / "answer.txt").write_text("30\n")
    command = shlex.join(installed.command(store.config(installed.folder)))
    line = f"set -o pipefail; {command} {redirected}"
    environ = installed.environ(store) | {"TERM": "xterm-256color"}
    child = pexpect.spawn("bash", ["-c", line], cwd=str(installed.folder), env=environ, timeout=60)
    child.send("30\n30\n")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 3
    assert len(store.customers) == 30
    assert not store.deletes()
