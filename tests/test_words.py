"""Words of others: shown and kept, and neither obeyed nor passed on raw."""

from __future__ import annotations

import json

from tests.fake_store import FakeStore
from tests.rigged import QUIET, MakeStore, RiggedTool

UGLY = "\x1b[31m[bold red]x[/]\x07\u202e[/]"


def test_ugly_names_are_shown_raw_nowhere(make_store: MakeStore, tool: RiggedTool) -> None:
    """Control codes and markup in names and refusals are neither obeyed nor passed on."""
    store = make_store(customers=30, **QUIET)
    store.info["name"] = UGLY
    for number in store.customers:
        store.change(number, first_name=UGLY, last_name=UGLY, email=f"{UGLY}{number}@x.example")
    bad = next(iter(store.customers))
    store.refuse[bad] = (422, {"title": UGLY})
    outcome = tool(store, None, "--yes", "-v", COLUMNS="400")
    assert outcome.status == 4
    assert outcome.folder
    run_log = (outcome.folder / "run.log").read_text()
    for text in (outcome.text, run_log, outcome.failed[bad]):
        assert not set("\x1b\x07\u202e") & set(text)
        assert "[bold red]x[/]" in text


def test_words_of_the_store_that_would_break_a_line(store: FakeStore, hurried: RiggedTool) -> None:
    """Control codes and line breaks in the store's words do not get out."""
    victim = min(store.customers)
    store.refuse[victim] = (409, {"title": "no\x1b[31m\r\nway\x00 [red]x[/], \u202e=1+1"})
    outcome = hurried.run(store)
    assert outcome.status == 4, outcome.text
    reason = outcome.failed[victim]
    assert reason.startswith("409 no")
    assert "way" in reason
    assert all(c.isprintable() for c in reason)
    assert "\x1b[31m" not in outcome.text


def test_half_a_character_is_backed_up(store: FakeStore, tool: RiggedTool) -> None:
    """A lone surrogate, which JSON can hold and UTF-8 cannot, is kept as JSON writes it."""
    number = next(iter(store.customers))
    store.change(number, first_name="bad \ud83d half")
    outcome = tool.run(store)
    assert outcome.status == 0, outcome.text
    assert outcome.folder is not None
    lines = (outcome.folder / "backup.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[0])["first_name"] == "bad \ud83d half"
