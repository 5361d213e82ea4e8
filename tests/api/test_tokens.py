"""Tokens: shown once, kept as a hash, limited by scope and expiry, ended at once."""

from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from curation.models import Token
from curation.services import tokens
from tests.api.conftest import Api

pytestmark = pytest.mark.django_db


def test_the_secret_is_not_in_the_database(people):
    token, text = tokens.create_token(user=people["owner"], name="ci", scopes=["read"])
    secret = text.rsplit(f"hunch_{token.prefix}_", 1)[1]
    assert len(secret) >= 40
    assert secret not in str(Token.objects.filter(pk=token.pk).values().get())


@pytest.mark.parametrize("change", ["x", "", "é", "\ud800"])
def test_a_wrong_secret_is_refused(people, change):
    _, text = tokens.create_token(user=people["owner"], name="ci")
    assert tokens.authenticate(text=text) is not None
    assert tokens.authenticate(text=text[:-1] + change) is None


def test_a_revoked_token_ends_at_once(api):
    token = Token.objects.get(name=api.get("/me").data["token"]["name"])
    tokens.revoke_token(token=token, by=token.user)
    answer = api.get("/me")
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"] == "Bearer"
    assert answer.data["status"] == 401


def test_an_expired_token_is_refused(people):
    token, text = tokens.create_token(
        user=people["owner"], name="ci", expires_at=timezone.now() + timedelta(hours=1)
    )
    assert tokens.authenticate(text=text)
    Token.objects.filter(pk=token.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert tokens.authenticate(text=text) is None


def test_tokens_of_a_deactivated_user_are_refused(people):
    _, text = tokens.create_token(user=people["owner"], name="ci")
    people["owner"].is_active = False
    people["owner"].save()
    assert tokens.authenticate(text=text) is None


def test_the_last_use_is_noted(people):
    token, text = tokens.create_token(user=people["owner"], name="ci")
    assert Api(text).get("/me").status_code == 200
    token.refresh_from_db()
    assert timezone.now() - token.last_used_at < timedelta(minutes=1)


@pytest.mark.parametrize("scopes", [[], ["root"], ["read", "root"]])
def test_scopes_are_checked(people, scopes):
    with pytest.raises(ValidationError):
        tokens.create_token(user=people["owner"], name="ci", scopes=scopes)


def test_an_expiry_in_the_past_is_refused(people):
    with pytest.raises(ValidationError):
        tokens.create_token(user=people["owner"], name="ci", expires_at=timezone.now())


def test_nobody_revokes_the_token_of_another(world, api_of):
    stranger = api_of(world.people["stranger"])
    assert stranger.send("DELETE", f"/tokens/{world.objects['token_id']}").status_code == 404
    assert Token.objects.get(pk=world.objects["token_id"]).is_active


def test_the_list_shows_no_secret(api, world):
    listed = api.get("/tokens")
    assert {entry["name"] for entry in listed.data["items"]} >= {"listed"}
    assert "secret" not in listed.content.decode()
