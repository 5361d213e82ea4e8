"""The client by itself: retries, uploads that go on, the server's words, frames, webhooks."""

import base64
import hashlib
import hmac
import stat

import httpx
import pytest
from typer.testing import CliRunner

from hunch_client import Hunch, HunchError, JobFailed, configuration, verify_webhook
from hunch_client.command_line import app
from hunch_client.configuration import Configuration
from hunch_client.jobs import PAUSE_SECONDS
from hunch_client.shared_options import pairs
from hunch_client.transport import ATTEMPTS, Transport
from hunch_client.uploading import upload_file


class Site:
    """Answers from a list of functions or responses, and keeps the requests."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests = []
        self.pauses = []

    def __call__(self, request):
        self.requests.append(request)
        answer = self.answers.pop(0)
        return answer(request) if callable(answer) else answer

    def transport(self):
        http = httpx.Client(transport=httpx.MockTransport(self))
        return Transport("https://site.test/", "hunch_t", http=http, sleep=self.pauses.append)


def problem(status, **more):
    content = {"title": "t", "status": status, "detail": "d", **more}
    return httpx.Response(
        status, json=content, headers={"Content-Type": "application/problem+json"}
    )


def broken(request):
    raise httpx.ConnectError("no route", request=request)


def test_a_creating_call_is_tried_again_with_the_same_key():
    site = Site(broken, httpx.Response(503), httpx.Response(201, json={"id": "1"}))
    assert site.transport().send("POST", "/projects", body={"name": "a"}) == {"id": "1"}
    keys = {request.headers["Idempotency-Key"] for request in site.requests}
    assert len(keys) == 1
    assert len(site.requests) == 3


def test_two_creating_calls_have_two_keys():
    site = Site(httpx.Response(201, json={}), httpx.Response(201, json={}))
    transport = site.transport()
    for _ in range(2):
        transport.send("POST", "/projects", body={})
    assert len({request.headers["Idempotency-Key"] for request in site.requests}) == 2


def test_a_busy_site_is_waited_for_as_long_as_it_says():
    busy = httpx.Response(429, headers={"Retry-After": "7"})
    site = Site(busy, httpx.Response(200, json={}))
    site.transport().send("GET", "/me")
    assert site.pauses == [7.0]


def test_a_site_that_is_away_is_named_after_several_attempts():
    site = Site(*[broken] * ATTEMPTS)
    with pytest.raises(HunchError, match=r"https://site\.test cannot be reached"):
        site.transport().send("GET", "/me")
    assert len(site.requests) == ATTEMPTS


def test_a_refusal_is_not_tried_again_and_names_the_field():
    site = Site(problem(422, errors=[{"field": "body.name", "rule": "Too long."}]))
    with pytest.raises(HunchError, match=r"body\.name: Too long\.") as refused:
        site.transport().send("POST", "/projects", body={})
    assert refused.value.status == 422
    assert len(site.requests) == 1


@pytest.mark.parametrize("status", [200, 404])
def test_a_page_that_is_no_api_is_said_to_be_none(status):
    page = httpx.Response(status, text="<html>", headers={"Content-Type": "text/html"})
    with pytest.raises(HunchError):
        Site(page).transport().send("GET", "/me")


def test_the_token_is_in_no_error():
    with pytest.raises(HunchError) as refused:
        Site(problem(401)).transport().send("GET", "/me")
    assert "hunch_t" not in str(refused.value)


def test_a_job_that_failed_raises_with_its_reason():
    job = {
        "id": "j", "project_id": "p", "kind": "train_baseline", "target_id": "b", "stage": "",
        "done": 0, "total": 0, "error": "Out of memory.", "revision": "r",
    }  # fmt: skip
    answers = [httpx.Response(200, json={**job, "state": state}) for state in ("queued", "failed")]
    site = Site(*answers)
    seen = []
    hunch = Hunch("https://site.test", "t", http=httpx.Client(transport=httpx.MockTransport(site)))
    with pytest.raises(JobFailed, match=r"Out of memory\."):
        hunch.wait_for("j", watcher=lambda job: seen.append(job.state))
    assert seen == ["queued", "failed"]
    assert site.requests[1].url.params["seen"] == "r"


def test_a_site_that_cannot_hold_another_waiter_is_not_asked_without_pause():
    job = {
        "id": "j", "project_id": "p", "kind": "train_baseline", "target_id": "b", "stage": "",
        "done": 0, "total": 0, "error": "", "revision": "r",
    }  # fmt: skip
    states = ["queued", "queued", "queued", "succeeded"]
    revisions = ["r1", "r1", "r1", "r2"]
    site = Site(
        *[
            httpx.Response(200, json={**job, "state": state, "revision": revision})
            for state, revision in zip(states, revisions, strict=True)
        ]
    )
    hunch = Hunch("https://site.test", "t")
    hunch.transport = site.transport()
    seen = []
    hunch.wait_for("j", watcher=lambda job: seen.append(job.state))
    assert seen == ["queued", "succeeded"]
    assert site.pauses == [PAUSE_SECONDS] * 2


@pytest.mark.django_db(transaction=True)
class TestUploads:
    @pytest.fixture
    def parts_of_1000(self, monkeypatch):
        monkeypatch.setattr("curation.services.uploads.PART_BYTES", 1000)

    def test_a_broken_upload_goes_on_where_it_stopped(self, hunch, tmp_path, parts_of_1000):
        from curation.models import StoredFile, Upload

        path = tmp_path / "data.bin"
        path.write_bytes(bytes(range(256)) * 20)
        project = hunch.create_project("uploads")
        sent = []

        def stop_after_two(done, total):
            sent.append(done)
            if len(sent) == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            upload_file(hunch.transport, project.id, path, progress=stop_after_two)
        puts = []
        send = hunch.transport.send

        def counting(method, address, **more):
            if method == "PUT":
                puts.append(address)
            return send(method, address, **more)

        hunch.transport.send = counting
        done = upload_file(hunch.transport, project.id, path)
        assert [address.rsplit("/", 1)[1] for address in puts] == ["3", "4", "5", "6"]
        assert str(Upload.objects.get().pk) == done
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        assert StoredFile.objects.filter(pk=sha256).exists()


class TestWebhooks:
    key = b"k" * 32
    secret = "whsec_" + base64.b64encode(key).decode()

    def headers(self, body=b"{}", at=1000):
        digest = hmac.new(self.key, b"m1.%d." % at + body, hashlib.sha256).digest()
        return {
            "Webhook-Id": "m1",
            "Webhook-Timestamp": str(at),
            "Webhook-Signature": f"v1,old v1,{base64.b64encode(digest).decode()}",
        }

    def test_a_fresh_signed_message_is_accepted(self):
        assert verify_webhook(self.secret, self.headers(), b"{}", now=1010)

    @pytest.mark.parametrize(
        ("body", "now"),
        [(b"{ }", 1010), (b"{}", 2000), (b"{}", 0)],
        ids=["changed", "old", "early"],
    )
    def test_others_are_not(self, body, now):
        assert not verify_webhook(self.secret, self.headers(), body, now=now)

    def test_malformed_ones_are_not(self):
        assert not verify_webhook(self.secret, {}, b"{}")
        assert not verify_webhook("whsec_é", self.headers(), b"{}", now=1010)


class TestCommands:
    @pytest.fixture(autouse=True)
    def config(self, tmp_path, monkeypatch):
        for name in ("ADDRESS", "TOKEN", "PROJECT"):
            monkeypatch.delenv(f"HUNCH_{name}", raising=False)
        monkeypatch.setenv("HUNCH_CONFIG", str(tmp_path / "hunch" / "c.json"))

    def test_the_token_is_readable_by_its_owner_only(self):
        path = configuration.save(Configuration("https://a", "t", "p"))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert configuration.load() == Configuration("https://a", "t", "p")

    def test_the_environment_takes_precedence(self, monkeypatch):
        configuration.save(Configuration("https://a", "t", "p"))
        monkeypatch.setenv("HUNCH_TOKEN", "other")
        assert configuration.load() == Configuration("https://a", "other", "p")

    def test_without_signing_in_the_way_is_shown(self):
        result = CliRunner().invoke(app, ["project", "list"])
        assert result.exit_code == 1
        assert "hunch login" in result.stderr
        assert "Traceback" not in result.output

    def test_settings_are_json_where_they_can_be(self):
        assert pairs(["hidden=[64]", "name=mlp", "rate=0.1"], "--set") == {
            "hidden": [64], "name": "mlp", "rate": 0.1,
        }  # fmt: skip

    def test_a_damaged_file_is_named(self):
        path = configuration.save(Configuration())
        path.write_text("{")
        with pytest.raises(HunchError, match="damaged"):
            configuration.load()
