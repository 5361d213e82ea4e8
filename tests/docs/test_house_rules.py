"""The rules of the house that no linter knows: modules say what they hold, and stay readable."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("benchmarks", "curation", "embedded", "hunch_client", "studies", "workers")
MODULES = sorted(
    module
    for folder in FOLDERS
    for module in (ROOT / folder).rglob("*.py")
    if "migrations" not in module.parts and module.stat().st_size
)
LONGEST = 400


@pytest.mark.parametrize("folder", [*FOLDERS, "tests"])
def test_every_module_starts_by_saying_what_lives_there(folder):
    modules = (ROOT / folder).rglob("*.py")
    silent = [
        str(module.relative_to(ROOT))
        for module in modules
        if "migrations" not in module.parts
        and module.stat().st_size
        and not ast.get_docstring(ast.parse(module.read_text()))
    ]
    assert silent == []


def test_no_module_is_longer_than_a_reader_can_hold():
    long = {
        str(module.relative_to(ROOT)): lines
        for module in MODULES
        if (lines := len(module.read_text().splitlines())) > LONGEST
    }
    assert long == {}
