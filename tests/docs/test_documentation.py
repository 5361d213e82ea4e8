"""The documentation says nothing that is not there: commands, links, settings and shell samples."""

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from django.core.management import get_commands
from typer.main import get_command

from hunch_client.command_line import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    page for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")) if page.parent.name != "var"
)
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
SHELL = {"sh", "bash", "shell"}
READ = re.compile(r"""environ(?:ment)?\.get\(\s*"([A-Z_]+)\"""")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def code_of(page: Path) -> str:
    """Fenced, indented and inline code of a page, one piece a line."""
    text = page.read_text()
    fenced = [match[3] for match in FENCE.finditer(text)]
    rest = FENCE.sub("", text)
    indented = [line for line in rest.splitlines() if line.startswith("    ")]
    return "\n".join([*fenced, *indented, *CODE.findall(rest)])


def settings_in_code() -> set[str]:
    names = set()
    tree = ast.parse((ROOT / "curation/settings.py").read_text())
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "env"
        ):
            if isinstance(node.args[0], ast.Constant):
                names.add(node.args[0].value)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "_secret":
            assert isinstance(node.args[0], ast.Constant)
            names |= {node.args[0].value, f"{node.args[0].value}_FILE"}
    for file in (ROOT / "embedded").glob("*.py"):
        names.update(READ.findall(file.read_text()))
    return names


def hunch_commands(command: object = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    command = command or get_command(app)
    yield path
    for name, below in getattr(command, "commands", {}).items():
        yield from hunch_commands(below, (*path, name))


@pages
def test_every_make_target_in_the_documentation_exists(page):
    targets = set(re.findall(r"^([a-z.-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"^\s*make ([a-z.][a-z-]*)", code_of(page), re.MULTILINE))
    assert named <= targets


@pages
def test_every_management_command_in_the_documentation_exists(page):
    assert set(re.findall(r"manage\.py ([a-z_]+)", code_of(page))) <= set(get_commands())


@pages
def test_every_hunch_command_in_the_documentation_exists(page):
    known = set(hunch_commands())
    groups = {path[0] for path in known if len(path) == 2}
    for words in re.findall(r"^\s*hunch ((?:[a-z][a-z-]* ?)+)", code_of(page), re.MULTILINE):
        name, *rest = words.split()
        path = (name, rest[0]) if name in groups and rest else (name,)
        assert path in known, f"hunch {words}"


@pages
def test_every_relative_link_leads_to_a_file(page):
    text = FENCE.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), target


@pages
def test_every_shell_sample_is_valid_shell(page):
    for match in FENCE.finditer(page.read_text()):
        if match[2] in SHELL:
            checked = subprocess.run(["bash", "-n"], input=match[3], text=True, capture_output=True)
            assert checked.returncode == 0, checked.stderr


def test_the_table_of_settings_names_all_that_the_code_reads_and_nothing_else():
    table = re.findall(
        r"^\| `([A-Z0-9_]+)` \|", (ROOT / "docs/settings.md").read_text(), re.MULTILINE
    )
    assert len(table) == len(set(table))
    assert set(table) == settings_in_code()


def test_every_test_that_the_threat_model_names_exists():
    named = re.findall(r"`(tests/[^`]+)`", (ROOT / "docs/threat-model.md").read_text())
    assert len(named) > 30
    for path, _, name in (one.partition("::") for one in named):
        source = (ROOT / path).read_text()
        assert re.search(rf"^ *(def|class) {name}\b", source, re.MULTILINE), f"{path}::{name}"


def test_every_page_of_the_documentation_is_in_the_navigation():
    spec = importlib.util.spec_from_file_location("navigation", ROOT / "docs/navigation.py")
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    listed = str(hook.filled(navigation, ROOT / "docs"))
    pages = [page.relative_to(ROOT / "docs") for page in (ROOT / "docs").rglob("*.md")]
    assert [str(page) for page in pages if f"'{page}'" not in listed] == []
    assert "benchmarks/intervals.md" in listed


def test_the_site_builds_without_warnings(tmp_path):
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    assert (tmp_path / "tutorial" / "index.html").exists()
