"""What runs before a commit is a part of `make check`, by the same tools."""

import re
import subprocess
import sys

import yaml

from tests.deployment.commands import ROOT

CONFIGURATION = ROOT / ".pre-commit-config.yaml"
CHECK = re.search(r"^check:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]


def test_the_hooks_are_well_formed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pre_commit", "validate-config", CONFIGURATION],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_every_hook_is_a_part_of_make_check() -> None:
    checks = CHECK.replace("$(BIN)", ".venv/bin")
    for repository in yaml.safe_load(CONFIGURATION.read_text())["repos"]:
        assert repository["repo"] == "local", "no tool comes from elsewhere"
        for hook in repository["hooks"]:
            assert hook["entry"] in checks, hook["id"]


def test_make_check_covers_what_it_promises() -> None:
    for tool in (
        "ruff check", "ruff format --check", "mypy", "lint-imports", "djlint",
        "makemigrations --check", "check --deploy", "pip-audit",
    ):  # fmt: skip
        assert tool in CHECK, tool
