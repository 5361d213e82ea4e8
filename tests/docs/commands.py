"""Every command that the documentation shows: which test runs it, or why none does."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
FENCE = re.compile(r"^ *```(?:sh|bash|shell)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^ {4}(.+)$", re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")
PROGRAM = re.compile(
    r"^(make|python3?|\.venv/bin/\S+|pip|hunch|docker|kubectl|systemctl|install|mkdir|chmod|echo"
    r"|HUNCH_HOST=\S+)( |$)"
)
NAMES = {".venv/bin/hunch", "hunch", "make"}  # spoken of, not to be typed as they stand

# Pages of which a test runs every block of shell as it stands.
WHOLE_PAGES = {"docs/api.md": "tests/client/test_documentation.py::test_the_curl_samples_run"}

DEMO = "tests/end_to_end/test_demo.py::test_the_demo_shows_predicted_beside_actual_on_a_whole_site"
SERVE = "tests/end_to_end/test_demo.py::test_it_stops_together_and_everything_is_kept"
OPERATOR = "tests/docs/test_commands.py::test_the_operator_s_commands_run_as_they_stand"
SECRETS = "tests/docs/test_commands.py::test_the_secrets_are_made_as_the_containers_read_them"
BENCH = "tests/docs/test_commands.py::test_every_benchmark_that_is_named_exists"

RUN_BY = {
    r"make demo.*": DEMO,
    r"make serve": SERVE,
    r"python manage\.py (migrate|collectstatic --noinput|verify.*|backup .*|restore .*)": OPERATOR,
    r"python manage\.py createsuperuser": OPERATOR,
    r"(mkdir|chmod|python3 -c|echo) .*docker/secrets.*": SECRETS,
    r"python manage\.py make_bucket": "tests/storage/test_object_storage.py::test_it_is_made_once",
    r"python -m celery --app workers\.celery worker .*": OPERATOR,
    r"\.venv/bin/python manage\.py api_token USER .*": OPERATOR,
    r"make (bench|study)( ARGS=.*)?": BENCH,
}
NOT_RUN = {
    r"make test.*": "it is what runs the tests",
    r"make (check|format|lock|docs|screenshots|soak).*": "a developer's tool; its parts are run by "
    "themselves: the site of the documentation by tests/docs, the rest by whoever changes the code",
    r"\.venv/bin/pre-commit install": "changes the checkout's hooks; the hooks are checked by "
    "tests/deployment",
    r"pip install .*": "needs an index of packages",
    r"(HUNCH_\w+=\S+ )*docker compose .*": "there is no container engine where the tests run; the "
    "files are checked by tests/deployment",
    r"kubectl apply .*": "there is no cluster where the tests run; the manifests are checked by "
    "tests/deployment",
    r"(systemctl|install) .*": "changes the machine; the units are checked by tests/deployment",
    r"(\.venv/bin/)?hunch .*": "by name in tests/client/test_commands.py; the whole job by "
    "the command line is tests/client/test_whole_job.py",
    r"python -m hunch_client": "the same program as `hunch`",
}


def commands() -> Iterator[tuple[str, str]]:
    """(page, command) of every command that stands in the documentation, continued lines joined."""
    for page in PAGES:
        name, text = str(page.relative_to(ROOT)), page.read_text()
        if name not in WHOLE_PAGES:
            for block in FENCE.findall(text):
                for line in block.replace("\\\n", " ").splitlines():
                    if line.strip() and not line.strip().startswith("#"):
                        yield name, line.strip()
        rest = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
        for found in (*INDENTED.findall(rest), *INLINE.findall(rest)):
            command = re.split(r"\s+#", found.strip())[0]
            if PROGRAM.match(command) and command not in NAMES:
                yield name, command
