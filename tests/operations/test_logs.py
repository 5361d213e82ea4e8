"""Log lines say which request or job they belong to, and nothing that users sent."""

import json
import logging
import subprocess
import sys
from typing import Any

import pytest
from django.test import Client

from curation.models import Job, JobState
from curation.operations.context import JOB_ID, working_for
from curation.operations.logs import JsonFormatter, PlainFormatter, logging_settings
from tests.api.world import World
from tests.running import run_jobs

SECRET = "the-secret-of-a-user"
logger = logging.getLogger("tests.operations")


def test_a_request_leaves_one_line_with_its_id_and_route(
    world: World, owner: Client, log_lines: Any
) -> None:
    answer = owner.get(f"/projects/{world.project.pk}/", headers={"X-Request-ID": "from-proxy-1"})
    (line,) = [one for one in log_lines() if one["logger"].endswith("requests")]
    assert answer["X-Request-ID"] == line["request_id"] == "from-proxy-1"
    assert line["route"] == "projects/<uuid:pk>/"
    assert line["path"] == f"/projects/{world.project.pk}/"
    assert (line["method"], line["status"]) == ("GET", 200)
    assert line["user_id"] == world.owner.pk
    assert line["milliseconds"] > 0


@pytest.mark.parametrize("given", ["", "short", "a b c d e f g h", "x" * 65, "line\\nbreak-------"])
def test_an_id_that_could_disturb_the_log_is_replaced(given: str) -> None:
    answer = Client().get("/guide/", headers={"X-Request-ID": given})
    assert answer["X-Request-ID"] != given
    assert len(answer["X-Request-ID"]) == 16


def test_no_query_string_body_header_or_token_reaches_the_log(
    world: World, owner: Client, log_lines: Any
) -> None:
    headers = {"Authorization": f"Bearer hunch_abcdef_{SECRET}", "Cookie": f"a={SECRET}"}
    owner.get(f"/versions/{world.version.pk}/examples/", {"q": SECRET})
    owner.get("/no-such-page/", {"q": SECRET}, headers=headers)
    owner.post(f"/projects/{world.project.pk}/datasets/new/", {"name": SECRET})
    Client().post("/sign-in/", {"username": SECRET, "password": SECRET})
    Client(enforce_csrf_checks=True).post(f"/sign-in/?{SECRET}", {"username": SECRET})
    Client().get("/", {"q": SECRET}, headers={"Host": "not-served.example.com"})
    Client().get("/api/v1/me", {"q": SECRET}, headers=headers)
    assert len(log_lines()) >= 7
    assert SECRET not in json.dumps(log_lines())


def test_an_error_is_named_by_type_and_place_and_not_quoted(log_lines: Any) -> None:
    def read(row: str) -> None:
        raise ValueError(f"row {row!r} is wrong")

    try:
        read(SECRET)
    except ValueError:
        logger.exception("reading failed")
    (line,) = log_lines()
    assert line["exception"]["type"] == "ValueError"
    assert line["exception"]["places"][-1].endswith(" read")
    assert SECRET not in json.dumps(line)


def test_an_error_of_a_page_is_logged_without_what_was_asked(
    world: World, owner: Client, log_lines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError(SECRET)

    monkeypatch.setattr("curation.web.views.projects.project_page", broken)
    owner.raise_request_exception = False
    assert owner.get(f"/projects/{world.project.pk}/", {"q": SECRET}).status_code == 500
    lines = log_lines()
    assert any(line.get("exception", {}).get("type") == "RuntimeError" for line in lines)
    assert SECRET not in json.dumps(lines)
    assert len({line["request_id"] for line in lines if "request_id" in line}) == 1


@pytest.mark.parametrize("formatter", [JsonFormatter(), PlainFormatter()])
@pytest.mark.parametrize(
    "message",
    [
        f"GET /examples/?q={SECRET} failed",
        f"refused hunch_abcdef_{SECRET}",
        f"Authorization: Bearer {SECRET}",
        f"cannot reach postgresql://hunch:{SECRET}@db/hunch",
    ],
)
def test_secrets_in_messages_of_libraries_are_cut_out(
    formatter: logging.Formatter, message: str
) -> None:
    record = logging.LogRecord("library", logging.INFO, "f.py", 1, "%s", (message,), None)
    assert SECRET not in formatter.format(record)


def test_what_a_job_logs_names_the_job(world: World, log_lines: Any) -> None:
    (job,) = run_jobs(world.project)
    assert Job.objects.get(pk=job.pk).state in (JobState.SUCCEEDED, JobState.FAILED)
    lines = [line for line in log_lines() if line.get("job_id") == str(job.pk)]
    assert [line["message"] for line in lines][:: len(lines) - 1] == [
        "job taken up",
        "job put down",
    ]
    assert {"kind", "queue", "milliseconds"} <= set(lines[-1])
    logger.info("outside")
    assert "job_id" not in log_lines()[-1]


def test_ids_do_not_leak_from_one_piece_of_work_to_the_next(log_lines: Any) -> None:
    with pytest.raises(KeyError), working_for(JOB_ID, "one"):
        raise KeyError
    logger.info("afterwards")
    assert "job_id" not in log_lines()[-1]


def test_gunicorn_s_own_errors_follow_the_same_rules() -> None:
    program = (
        "import logging, logging.config, sys\n"
        "from curation.operations.logs import logging_settings\n"
        "log = logging.getLogger('gunicorn.error'); log.propagate = False\n"
        "log.addHandler(logging.StreamHandler(sys.stdout))\n"
        "logging.config.dictConfig(logging_settings(form='json', level='INFO'))\n"
        "log.error('Error handling request %s', '/examples/?q=secret')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    assert json.loads(done.stderr)["message"] == "Error handling request /examples/?…"


def test_a_form_of_the_log_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(KeyError):
        logging_settings(form="yaml", level="INFO")


def test_a_call_of_the_api_is_logged_with_the_token_s_user(
    world: World, api_of: Any, log_lines: Any
) -> None:
    api_of(world.owner).get("/me")
    (line,) = [one for one in log_lines() if one["logger"].endswith("requests")]
    assert (line["user_id"], line["route"]) == (world.owner.pk, "api/v1/me")
