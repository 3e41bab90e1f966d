"""The project: one module, three packages, and a README that quotes the tool."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator

import pytest

from tests.rigged import TOOL

ROOT = TOOL.parent
PACKAGES = {"bigcommerce", "requests", "rich"}
TOP = {"bulk_delete.py", "requirements.txt", "config.example.ini", "tests", "README.md"}


def test_requirements_are_the_same_for_pip_and_uv() -> None:
    """requirements.txt and the script block have the same packages and releases."""
    block = re.search(r"(?ms)^# /// script$(.*?)^# ///$", TOOL.read_text(encoding="utf-8"))
    assert block
    script = tomllib.loads(re.sub(r"(?m)^# ?", "", block[1]))
    required = (ROOT / "requirements.txt").read_text().split()
    assert sorted(script["dependencies"]) == sorted(required)
    assert {re.split(r"~=", line)[0] for line in required} == PACKAGES


def test_top_level_has_five_names() -> None:
    """Apart from them there are only dot-files, and one module outside tests."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    files = listed.stdout.splitlines()
    assert {name for name in (f.split("/")[0] for f in files) if name[0] != "."} <= TOP
    assert [f for f in files if f.endswith(".py") and not f.startswith("tests/")] == [TOOL.name]


def test_module_imports_three_packages() -> None:
    imported = set()
    for node in ast.walk(ast.parse(TOOL.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add((node.module or "").split(".")[0])
    assert imported - sys.stdlib_module_names == PACKAGES


def message(node: ast.expr, parts: dict[str, str]) -> str:
    """Return the text of a string, with … for what is filled in, if it is none of the parts."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.FormattedValue):
        return parts.get(ast.unparse(node.value), "…")
    return "".join(message(part, parts) for part in getattr(node, "values", []))


def messages() -> Iterator[str]:
    """Yield every string of the module, with local parts of messages filled in."""
    tree = ast.parse(TOOL.read_text(encoding="utf-8"))
    for scope in ast.walk(tree):
        if not isinstance(scope, (ast.FunctionDef, ast.Module)):
            continue
        parts: dict[str, str] = {}
        for node in ast.walk(scope):
            if isinstance(node, ast.Assign):
                parts[ast.unparse(node.targets[0])] = message(node.value, parts) or "…"
        for node in ast.walk(scope):
            if isinstance(node, (ast.Constant, ast.JoinedStr)):
                yield message(node, parts)


def test_readme_quotes_messages_of_the_tool() -> None:
    """Each phrase of its table of problems is in a message of the module; … is anything."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.split("## When something goes wrong")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("|")]
    phrases = [phrase for cell in cells for phrase in re.findall(r"`([^`]+)`", cell)]
    assert len(phrases) > 5
    text = "\n".join(messages())
    patterns = {phrase: ".+".join(map(re.escape, phrase.split("…"))) for phrase in phrases}
    assert not [phrase for phrase, pattern in patterns.items() if not re.search(pattern, text)]
