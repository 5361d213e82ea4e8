"""Guessing passwords is slow whatever an attacker does in parallel, and keeps no owner out."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import pytest
import redis
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from curation.client_address import client_address
from curation.services import rate_limits, sign_in
from curation.services.rate_limits import RateLimited
from workers.tasks.tidying import tidy_files

PASSWORD = "a long pass phrase"


@pytest.fixture(autouse=True)
def fresh_limits(plain_static_files: None) -> None:
    connection = rate_limits.connection()
    for key in connection.scan_iter("hunch:limit:*"):
        connection.delete(key)


@pytest.fixture
def ada(db: None) -> Any:
    return get_user_model().objects.create_user("ada", password=PASSWORD)


def attempt(client: Client, password: str, name: str = "ada", address: str = "192.0.2.1") -> Any:
    return client.post("/sign-in/", {"username": name, "password": password}, REMOTE_ADDR=address)


def exhaust(name: str = "ada") -> None:
    """Use up the account's attempts from many addresses, as a network of machines would."""
    for number in range(sign_in.ACCOUNT.calls):
        sign_in.begin(name=name, address=f"198.51.100.{number}")


def test_parallel_attempts_on_one_account_share_its_limit() -> None:
    def guess(number: int) -> bool:
        try:
            sign_in.begin(name="ada", address=f"198.51.100.{number}")
        except RateLimited:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        let_through = sum(pool.map(guess, range(100)))
    assert let_through == sign_in.ACCOUNT.calls


def test_parallel_attempts_from_one_address_share_its_limit() -> None:
    def guess(number: int) -> bool:
        try:
            sign_in.begin(name=f"user{number}", address="192.0.2.1")
        except RateLimited:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        let_through = sum(pool.map(guess, range(200)))
    assert let_through == sign_in.ADDRESS.calls


def test_a_refused_attempt_is_not_looked_at_and_says_how_long_to_wait(ada: Any) -> None:
    exhaust()
    answer = attempt(Client(), PASSWORD)  # the right one: it must not tell
    assert answer.status_code == HTTPStatus.TOO_MANY_REQUESTS
    assert 60 <= int(answer["Retry-After"]) <= 90
    assert "Too many attempts. Wait 1\u00a0min" in answer.content.decode()
    assert "_auth_user_id" not in answer.client.session


def test_names_that_differ_in_case_or_blanks_share_a_limit() -> None:
    exhaust("ada")
    with pytest.raises(RateLimited):
        sign_in.begin(name=" ADA", address="192.0.2.1")


def test_an_account_that_does_not_exist_is_limited_like_one_that_does(ada: Any) -> None:
    def statuses(name: str) -> list[int]:
        return [
            attempt(Client(), "wrong", name, f"192.0.2.{number}").status_code
            for number in range(sign_in.ACCOUNT.calls + 2)
        ]

    assert statuses("ada") == statuses("nobody")


def test_the_owner_s_browser_gets_in_while_others_guess(ada: Any) -> None:
    known, unknown = Client(), Client()
    assert attempt(known, PASSWORD).status_code == HTTPStatus.FOUND
    known.post("/sign-out/")
    exhaust()
    assert attempt(unknown, PASSWORD).status_code == HTTPStatus.TOO_MANY_REQUESTS
    assert attempt(known, PASSWORD).status_code == HTTPStatus.FOUND


def test_a_known_browser_has_a_limit_of_its_own(ada: Any) -> None:
    browser = Client()
    attempt(browser, PASSWORD)
    browser.post("/sign-out/")
    statuses = [attempt(browser, "wrong").status_code for _ in range(sign_in.DEVICE.calls + 1)]
    assert statuses == [HTTPStatus.OK] * sign_in.DEVICE.calls + [HTTPStatus.TOO_MANY_REQUESTS]
    assert attempt(Client(), PASSWORD).status_code == HTTPStatus.FOUND


def test_the_browser_s_mark_is_signed_for_one_account_and_out_of_reach_of_scripts(
    ada: Any,
) -> None:
    get_user_model().objects.create_user("bob", password=PASSWORD)
    browser = Client()
    attempt(browser, PASSWORD, "bob")
    cookie = browser.cookies[sign_in.DEVICE_COOKIE]
    assert cookie["httponly"]
    assert cookie["path"] == "/sign-in/"
    assert "bob" not in cookie.value
    exhaust("ada")
    for mark in (cookie.value, cookie.value[:-2] + "xx", "junk", ""):
        with pytest.raises(RateLimited):
            sign_in.begin(name="ada", address="192.0.2.1", device=mark)


def test_what_succeeds_is_not_counted(ada: Any) -> None:
    for _ in range(sign_in.ACCOUNT.calls + 3):
        assert attempt(Client(), PASSWORD).status_code == HTTPStatus.FOUND


def test_without_valkey_nobody_is_let_through_unlimited(
    ada: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = redis.Redis(port=1, host="127.0.0.1")
    monkeypatch.setattr(rate_limits, "connection", lambda: away)
    answer = attempt(Client(), PASSWORD)
    assert answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    assert "cannot be checked just now" in answer.content.decode()


def test_the_review_site_has_no_sign_in_of_its_own(ada: Any) -> None:
    browser = Client()
    answer = browser.post("/admin/login/", {"username": "ada", "password": PASSWORD})
    assert answer.status_code == HTTPStatus.FOUND
    assert answer["Location"].startswith("/sign-in/?next=")
    browser.force_login(ada)
    assert browser.get("/admin/login/?next=/admin/").status_code == HTTPStatus.FORBIDDEN


def test_sessions_that_have_ended_are_forgotten(ada: Any) -> None:
    old, young = Client(), Client()
    for browser in (old, young):
        browser.force_login(ada)
    ended = timezone.now() - timedelta(seconds=1)
    Session.objects.filter(pk=old.session.session_key).update(expire_date=ended)
    tidy_files()
    assert [one.pk for one in Session.objects.all()] == [young.session.session_key]


class TestPasswordChange:
    def change(self, browser: Client, old: str) -> Any:
        new = "another long pass phrase"
        return browser.post(
            "/account/password/",
            {"old_password": old, "new_password1": new, "new_password2": new},
        )

    def test_every_other_session_ends_and_this_one_goes_on(self, ada: Any) -> None:
        mine, other = Client(), Client()
        for browser in (mine, other):
            browser.force_login(ada)
        assert self.change(mine, PASSWORD).status_code == HTTPStatus.FOUND
        assert "have been signed out" in mine.get("/account/").content.decode()
        assert other.get("/account/").status_code == HTTPStatus.FOUND

    def test_the_current_password_cannot_be_guessed_from_a_stolen_session(self, ada: Any) -> None:
        browser = Client()
        browser.force_login(ada)
        for _ in range(sign_in.PASSWORD.calls):
            assert self.change(browser, "wrong").status_code == HTTPStatus.OK
        answer = self.change(browser, PASSWORD)
        assert answer.status_code == HTTPStatus.TOO_MANY_REQUESTS
        ada.refresh_from_db()
        assert ada.check_password(PASSWORD)


@pytest.mark.parametrize(
    ("proxies", "remote", "forwarded", "expected"),
    [
        (0, "192.0.2.1", "203.0.113.9", "192.0.2.1"),
        (1, "10.0.0.1", "203.0.113.9", "203.0.113.9"),
        (1, "10.0.0.1", "made up, 203.0.113.9", "203.0.113.9"),
        (2, "10.0.0.1", "made up, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
        (1, "10.0.0.1", "", "10.0.0.1"),
        (0, "2001:db8:1:2:3:4:5:6", "", "2001:db8:1:2::/64"),
        (0, "::ffff:192.0.2.1", "", "192.0.2.1"),
        (0, "", "", ""),
    ],
)
def test_the_address_is_the_one_that_the_nearest_trusted_proxy_saw(
    proxies: int, remote: str, forwarded: str, expected: str, settings: Any, rf: Any
) -> None:
    settings.TRUSTED_PROXIES = proxies
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    request = rf.get("/", REMOTE_ADDR=remote, headers=headers)
    assert client_address(request) == expected
