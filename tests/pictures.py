"""Draw the README's picture: `python -m tests.pictures` runs the tool against the local store.

`.github/run.svg` shows a run on a terminal. It is drawn by rich, without its web fonts, so
that the picture loads nothing.
"""

from __future__ import annotations

import io
import os
import re
import sys
import tempfile
from pathlib import Path

import pexpect
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from tests.fake_store import FakeStore
from tests.rigged import TOOL

PICTURE = TOOL.parent / ".github" / "run.svg"
COLUMNS = 80
WITHOUT_FONTS = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
PROMPT = "$ python bulk_delete.py --config store.ini --ids merchant.csv --keep staff.txt\n"


def last_drawing(written: str) -> str:
    """Return what remains on the screen: of a line that was redrawn, the last drawing."""
    removed = (
        r"[^\n]*\n(?:\x1b\[\?25h)?\r\x1b\[1A\x1b\[2K"  # a line, once the cursor is back on it
    )
    written, redraw = re.sub(removed, "", written), r"\r|\x1b\[2K|\x1b\[1A"
    lines = (re.split(redraw, line.rstrip("\r"))[-1] for line in written.split("\n"))
    return "\n".join(re.sub(r"\x1b\[\?25[lh]", "", line) for line in lines)


def run_on_terminal(store: FakeStore, folder: Path) -> str:
    """Return what a terminal shows of a run in which the number is typed."""
    command = [str(TOOL), *PROMPT.split()[3:]]
    hidden = ("NO_COLOR", "COLUMNS", "LINES")
    environ = {name: value for name, value in os.environ.items() if name not in hidden}
    child = pexpect.spawn(
        sys.executable,
        command,
        cwd=str(folder),
        env=environ | store.env() | {"TERM": "xterm-256color"},
        dimensions=(60, COLUMNS),
        encoding="utf-8",
        timeout=60,
    )
    child.expect(r"type (\d+): ")
    shown = str(child.before) + str(child.after)
    child.sendline(child.match.group(1))  # type: ignore[union-attr]
    child.expect(pexpect.EOF)
    return last_drawing(shown + str(child.before))


def main() -> int:
    """Draw the picture."""
    with tempfile.TemporaryDirectory() as name, FakeStore(customers=400, latency=0.05) as store:
        folder = Path(name)
        store.config(folder)
        emails = [str(store.customers[number]["email"]) for number in sorted(store.customers)]
        listed = ["email", *emails[:240], "adda@shop-mail.example"]
        (folder / "merchant.csv").write_text("\n".join(listed))
        (folder / "staff.txt").write_text("\n".join(emails[10:12]) + "\n")
        console = Console(
            record=True,
            width=COLUMNS,
            file=io.StringIO(),
            force_terminal=True,
            color_system="standard",
        )
        console.print(Text.from_ansi(PROMPT + run_on_terminal(store, folder)), highlight=False)
    picture = console.export_svg(title="a run", code_format=WITHOUT_FONTS, unique_id="run")
    PICTURE.write_text(picture.rstrip() + "\n", encoding="utf-8")
    print(PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
