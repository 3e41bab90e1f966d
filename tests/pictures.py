"""Makes the README's pictures: `python -m tests.pictures` runs the tool against the sandbox's records.

`.github/run.svg` is what a terminal shows of a run, `.github/report.svg` what report.html holds. Both are
drawn by rich, without its web fonts, so that a picture fetches nothing.
"""

from __future__ import annotations

import io
import os
import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pexpect
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

import bulk_delete
from tests.fake_store import FakeStore, Fault
from tests.rigged import TOOL

FOLDER = TOOL.parent / ".github"
COLUMNS = 80
WITHOUT_FONTS = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


def draw(name: str, title: str, parts: Iterable[Any]) -> None:
    """Write a picture of what rich prints of the parts."""
    console = Console(
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="standard"
    )
    for part in parts:
        console.print(part, highlight=False)
    picture = console.export_svg(title=title, code_format=WITHOUT_FONTS, unique_id=name)
    (FOLDER / f"{name}.svg").write_text(picture.rstrip() + "\n", encoding="utf-8")
    print(FOLDER / f"{name}.svg")


def last_state(written: str) -> str:
    """What is left on the screen: of a line that was drawn again, the last drawing."""
    lines = (re.split(r"\r|\x1b\[2K|\x1b\[1A", line.rstrip("\r"))[-1] for line in written.split("\n"))
    return "\n".join(re.sub(r"\x1b\[\?25[lh]", "", line) for line in lines)


def on_terminal(store: FakeStore, folder: Path) -> str:
    """What a terminal shows of a run whose question is answered with the number."""
    command = [str(TOOL), "--config", "store.ini", "--ids", "merchant.csv", "--keep", "staff.txt"]
    environ = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES")}
    child = pexpect.spawn(
        sys.executable,
        command,
        cwd=str(folder),
        env=environ | store.env() | {"TERM": "xterm-256color"},
        dimensions=(60, COLUMNS),
        encoding="utf-8",
        timeout=60,
    )
    child.expect(r"Type (\d+) to delete [^\n]*: ")
    shown = str(child.before) + str(child.after)
    number = child.match.group(1)  # type: ignore[union-attr]
    child.sendline(number)
    child.expect(pexpect.EOF)
    return last_state(shown + str(child.before))


def report_parts(store: FakeStore, folder: Path) -> list[Any]:
    """What the report of a run with a failure is made of."""
    locked = max(store.customers)
    body = {"title": "the customer is locked"}
    store.faults.append(Fault("DELETE", where=lambda r: locked in r.ids, times=99, status=422, body=body))
    parts: list[Any] = []
    make = bulk_delete.report_html

    def keep(title: str, items: Iterable[Any]) -> str:
        parts.extend(items)
        return make(title, parts)

    bulk_delete.report_html = keep
    os.environ.update(store.env())
    os.chdir(folder)
    sys.argv = ["bulk_delete.py", "--config", "store.ini", "--yes"]
    bulk_delete.main(sys.argv[1:])
    return parts


def main() -> int:
    """Make both pictures."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name, FakeStore(customers=400, latency=0.05) as store:
        folder = Path(name)
        store.config(folder)
        people = sorted(store.customers.values(), key=lambda record: record["id"])
        emails = [str(record["email"]) for record in people]
        (folder / "merchant.csv").write_text("email\n" + "\n".join([*emails[:240], "adda@shop-mail.example"]))
        (folder / "staff.txt").write_text("\n".join(emails[10:12]) + "\n")
        prompt = "$ python bulk_delete.py --config store.ini --ids merchant.csv --keep staff.txt\n"
        draw("run", "a run", [Text.from_ansi(prompt + on_terminal(store, folder))])
        draw("report", "report.html", report_parts(store, folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
