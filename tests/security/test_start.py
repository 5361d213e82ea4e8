"""What the site refuses to start with, and what it sends once TLS ends in front of it.

Each case is a fresh process with an environment of its own, since settings are read once."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVERS = {
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
    "REDIS_URL": "redis://127.0.0.1:1",
}
KEY = "k" * 50
ASK = """
import json, sys, django
django.setup()
from django.conf import settings
from django.test import Client
answers = []
for headers in json.loads(sys.argv[1]):
    answer = Client().get("/guide/", headers=headers)
    answers.append([answer.status_code, dict(answer.headers)])
names = ("SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE", "SESSION_COOKIE_HTTPONLY", "DEBUG")
print(json.dumps({"answers": answers, "settings": {n: getattr(settings, n) for n in names}}))
"""


def start(tmp_path: Path, *requests: dict[str, str], **variables: str) -> Any:
    environment = {
        "PATH": os.environ["PATH"],
        "DJANGO_SETTINGS_MODULE": "curation.settings",
        "HUNCH_VAR": str(tmp_path),
        **variables,
    }
    (tmp_path / "static").mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-c", ASK, json.dumps(requests)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )


def test_with_servers_of_its_own_it_refuses_to_start_without_a_secret_key(tmp_path: Path) -> None:
    ended = start(tmp_path, **SERVERS)
    assert ended.returncode != 0
    assert "Set SECRET_KEY or SECRET_KEY_FILE" in ended.stderr


def test_an_empty_or_short_secret_key_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("changeme\n")
    for wrong in (
        {"SECRET_KEY": ""},
        {"SECRET_KEY": "x" * 31},
        {"SECRET_KEY_FILE": str(tmp_path / "key")},
    ):
        assert "SECRET_KEY" in start(tmp_path, **SERVERS, **wrong).stderr


def test_an_embedded_site_makes_a_key_of_its_own_that_others_cannot_read(tmp_path: Path) -> None:
    assert start(tmp_path).returncode == 0
    key = tmp_path / "secret_key"
    assert len(key.read_text()) >= 50
    assert key.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "given", [{"DATABASE_URL": SERVERS["DATABASE_URL"]}, {"REDIS_URL": SERVERS["REDIS_URL"]}]
)
def test_half_of_the_servers_is_an_error(tmp_path: Path, given: dict[str, str]) -> None:
    assert start(tmp_path, SECRET_KEY=KEY, **given).returncode != 0


def test_behind_tls_cookies_are_secure_and_https_is_kept_to(tmp_path: Path) -> None:
    found = start(
        tmp_path,
        {"X-Forwarded-Proto": "https", "Host": "localhost"},
        {"Host": "localhost"},
        SECRET_KEY=KEY, BEHIND_TLS="1", **SERVERS,
    )  # fmt: skip
    said = json.loads(found.stdout)
    (secure, headers), (plain, redirect) = said["answers"]
    assert secure == 302
    assert headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains; preload"
    assert (plain, redirect["Location"]) == (301, "https://localhost/guide/")
    assert said["settings"] == {
        "SESSION_COOKIE_SECURE": True,
        "CSRF_COOKIE_SECURE": True,
        "SESSION_COOKIE_HTTPONLY": True,
        "DEBUG": False,
    }


def test_without_a_proxy_nobody_can_claim_to_come_by_https(tmp_path: Path) -> None:
    found = start(
        tmp_path, {"X-Forwarded-Proto": "https", "Host": "localhost"}, SECRET_KEY=KEY, **SERVERS
    )
    ((status, headers),) = json.loads(found.stdout)["answers"]
    assert status == 302
    assert "Strict-Transport-Security" not in headers


def test_only_the_named_hosts_are_answered(tmp_path: Path) -> None:
    found = start(
        tmp_path,
        {"Host": "hunch.example.com"},
        {"Host": "evil.example.com"},
        {"Host": "localhost"},
        {"Host": "hunch.example.com", "X-Forwarded-Host": "evil.example.com"},
        SECRET_KEY=KEY, ALLOWED_HOSTS="hunch.example.com", **SERVERS,
    )  # fmt: skip
    assert [status for status, _ in json.loads(found.stdout)["answers"]] == [302, 400, 400, 302]
