"""The page on which people make tokens: the text is shown once, and only to its owner."""

import re

import pytest
from django.test import Client
from django.urls import reverse

from curation.models import Token
from curation.services import tokens
from tests.api.conftest import Api

pytestmark = pytest.mark.django_db


@pytest.fixture
def browser(people, settings):
    plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": plain}
    client = Client()
    client.force_login(people["owner"])
    return client


def make(browser, **more):
    fields = {"name": "ci", "scopes": ["read", "run"], "lifetime": "30", **more}
    return browser.post(reverse("tokens"), fields)


def test_the_token_works_and_is_shown_once(browser):
    page = make(browser)
    (text,) = re.findall(r"hunch_[0-9a-f]{12}_[\w-]{40,}", page.content.decode())
    assert "no-store" in page["Cache-Control"]
    assert Api(text).get("/me").data["token"]["scopes"] == ["read", "run"]
    assert text not in browser.get(reverse("tokens")).content.decode()
    assert Token.objects.get().expires_at is not None


@pytest.mark.parametrize("wrong", [{"name": ""}, {"scopes": []}, {"scopes": ["root"]}])
def test_a_wrong_form_makes_nothing(browser, wrong):
    assert make(browser, **wrong).status_code == 422
    assert not Token.objects.exists()


def test_revoking_ends_it(browser, people):
    token, text = tokens.create_token(user=people["owner"], name="ci")
    browser.post(reverse("revoke-token", args=[token.pk]))
    assert Api(text).get("/me").status_code == 401


def test_tokens_of_others_are_out_of_reach(browser, people):
    token, _ = tokens.create_token(user=people["stranger"], name="not yours")
    assert "not yours" not in browser.get(reverse("tokens")).content.decode()
    assert browser.post(reverse("revoke-token", args=[token.pk])).status_code == 404
    assert Token.objects.get(pk=token.pk).is_active
