"""The project's own shape: one module, three packages, nothing else at the top."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
import tomllib

import pytest

from tests.rigged import TOOL

ROOT = TOOL.parent
PACKAGES = {"bigcommerce", "requests", "rich"}
TOP = {"bulk_delete.py", "requirements.txt", "config.example.ini", "tests", "README.md"}


def test_requirements_and_script_block_name_the_same_packages() -> None:
    """pip with requirements.txt, and uv run, get the same packages of the same releases."""
    block = re.search(r"(?ms)^# /// script$(.*?)^# ///$", TOOL.read_text(encoding="utf-8"))
    assert block
    script = tomllib.loads(re.sub(r"(?m)^# ?", "", block[1]))
    required = (ROOT / "requirements.txt").read_text().split()
    assert sorted(script["dependencies"]) == sorted(required)
    assert {re.split(r"~=", line)[0] for line in required} == PACKAGES


def test_top_level_holds_nothing_else() -> None:
    """Beside the five names that users see, only dot-files; one module outside of tests."""
    listed = subprocess.run(
        ["git", "ls-files"],  # whichever git is on the PATH
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    files = listed.stdout.splitlines()
    assert {name for name in (f.split("/")[0] for f in files) if name[0] != "."} <= TOP
    assert [f for f in files if f.endswith(".py") and not f.startswith("tests/")] == [TOOL.name]


def test_module_imports_only_what_it_may() -> None:
    """The module imports the standard library and the three packages, and nothing of tests."""
    imported = set()
    for node in ast.walk(ast.parse(TOOL.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add((node.module or "").split(".")[0])
    assert imported - sys.stdlib_module_names == PACKAGES


README = (ROOT / "README.md").read_text(encoding="utf-8")
TROUBLE = README.split("## When something goes wrong")[1].split("\n## ")[0]
FIRST_CELLS = [line.split("|")[1] for line in TROUBLE.splitlines() if line.startswith("|")]
PHRASES = [phrase for cell in FIRST_CELLS for phrase in re.findall(r"`([^`]+)`", cell)]


def message(node: ast.expr, halves: dict[str, str]) -> str:
    """The text of a string or f-string, with … for what is filled in, unless that is one of the halves."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.FormattedValue):
        return halves.get(ast.unparse(node.value), "…")
    return "".join(message(part, halves) for part in getattr(node, "values", []))


@functools.cache
def messages() -> list[str]:
    """Every string of the module that is no docstring; a local half of a message stands in its place."""
    tree = ast.parse(TOOL.read_text(encoding="utf-8"))
    found = []
    for scope in (node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.Module))):
        halves: dict[str, str] = {}
        for node in ast.walk(scope):
            if isinstance(node, ast.Assign) and isinstance(node.value, (ast.Constant, ast.JoinedStr)):
                halves[ast.unparse(node.targets[0])] = message(node.value, halves)
        docstrings = {id(node.value) for node in ast.walk(scope) if isinstance(node, ast.Expr)}
        strings = [node for node in ast.walk(scope) if isinstance(node, (ast.Constant, ast.JoinedStr))]
        found += [message(node, halves) for node in strings if id(node) not in docstrings]
    return found


@pytest.mark.parametrize("phrase", PHRASES)
def test_what_the_readme_quotes_is_what_the_tool_says(phrase: str) -> None:
    """Each phrase of the README's table of troubles stands in the module as a message; … is anything."""
    assert len(PHRASES) > 15
    wanted = re.compile(".+".join(map(re.escape, phrase.split("…"))))
    assert any(wanted.search(text) for text in messages())
