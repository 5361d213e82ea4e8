"""Server time of the pages at a million examples and twenty behaviours: examples and workbench.

A request runs through Django with the real database and files, as in the web server's process; the
texts and scores are drawn at random, since the time does not depend on what they say.
"""

from __future__ import annotations

import gc
import io
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.report import Report, Row
from embedded.services import service_processes
from embedded.supervisor import Supervisor
from embedded.urls import service_urls

EXAMPLES = int(os.environ.get("BENCH_PAGES_EXAMPLES", "1000000"))
BEHAVIOURS, SEEDS, EDITS = 20, 4, 10_000
REQUESTS = int(os.environ.get("BENCH_PAGES_REQUESTS", "40"))
WORDS_IN_A_TEXT, VOCABULARY = 14, 5_000
EXAMPLES_TARGET, WORKBENCH_TARGET, QUERIES_TARGET = "<= 150", "<= 50", "<= 25"


def run() -> Report:
    with tempfile.TemporaryDirectory() as folder, Supervisor(Path(folder)) as supervisor:
        os.environ.update(service_urls(Path(folder), environment={}).environment())
        os.environ.update(
            HUNCH_VAR=folder,
            SECRET_KEY="only for this benchmark " + "0" * 40,
            DJANGO_SETTINGS_MODULE="curation.settings",
        )
        supervisor.start(*service_processes(Path(folder)))
        site = make_site()
        rows, first = [], time.perf_counter()
        browser = browser_of(site["user"])
        browser.get(f"/versions/{site['version']}/examples/")
        first = time.perf_counter() - first
        for name, addresses in examples_pages(site).items():
            rows += measure(browser, "examples", name, addresses, EXAMPLES_TARGET)
        for name, addresses in workbench_pages(site).items():
            target = WORKBENCH_TARGET if "what if" in name else None
            rows += measure(browser, "workbench", name, addresses, target)
    rows.append(Row("examples", "first page of a new version", "seconds", first))
    return Report(
        title=f"Pages at {EXAMPLES:,} examples and {BEHAVIOURS} behaviours",
        rows=rows,
        seeds=[0],
        notes=[
            f"{REQUESTS} requests a row, one at a time, each another search, page or edit, so that "
            "no answer is one that was kept. The time is that of the request inside the web "
            "process, with the database and the files behind it. The first page of a version that "
            "no import on this machine has prepared also writes its index, once.",
        ],
    )


def measure(
    browser: Any, task: str, subject: str, addresses: Iterator[str], target: str | None
) -> list[Row]:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    times, most_queries = [], 0
    browser.get(next(addresses), headers={"HX-Request": "true"})
    gc.collect()
    for _ in range(REQUESTS):
        address = next(addresses)
        with CaptureQueriesContext(connection) as queries:
            started = time.perf_counter()
            answer = browser.get(address, headers={"HX-Request": "true"})
            times.append((time.perf_counter() - started) * 1000)
        assert answer.status_code == 200, (address, answer.status_code)
        most_queries = max(most_queries, len(queries))
    median, high = np.percentile(times, [50, 95])
    return [
        Row(task, subject, "median, ms", float(median)),
        Row(task, subject, "p95, ms", float(high), target=target),
        Row(task, subject, "database queries", float(most_queries), target=QUERIES_TARGET),
    ]


def examples_pages(site: Mapping[str, Any]) -> dict[str, Iterator[str]]:
    """Endless addresses of each kind of list."""
    here = f"/versions/{site['version']}/examples/"
    draw = np.random.default_rng(1)
    words, behaviours = site["words"], site["behaviours"]

    def endless(make: Any) -> Iterator[str]:
        while True:
            yield here + "?" + make()

    def word() -> str:
        return str(words[draw.integers(len(words))])

    def behaviour() -> str:
        return f"behaviour={behaviours[draw.integers(len(behaviours))]}"

    def page() -> str:
        return f"page={draw.integers(1, EXAMPLES // 50)}"

    return {
        "in upload order, any page": endless(page),
        "one label, any of its pages": endless(lambda: f"label=b&{page()}"),
        "search for a word": endless(lambda: f"q={word()}"),
        "search within a label and a source": endless(
            lambda: f"q={word()}&label=a&attribute_source=s3"
        ),
        "by influence": endless(lambda: f"{behaviour()}&sort=influence&split=train"),
        "by influence, any page": endless(
            lambda: f"{behaviour()}&sort=magnitude&order=down&{page()}"
        ),
        "search, by influence": endless(lambda: f"q={word()}&{behaviour()}&sort=influence"),
        "by text, any page": endless(lambda: f"sort=text&{page()}"),
        "by loss, any page": endless(lambda: f"sort=loss&order=down&{page()}"),
        "by confidence, between two values": endless(
            lambda: f"sort=confidence&confidence_from={draw.random() / 2}&confidence_to=0.75"
        ),
        "search, by self-influence": endless(
            lambda: f"q={word()}&sort=self_influence&order=down&split=train"
        ),
    }


def workbench_pages(site: Mapping[str, Any]) -> dict[str, Iterator[str]]:
    here = f"/proposals/{site['proposal']}/"
    behaviours = site["behaviours"]

    def what_if(count: int) -> Iterator[str]:
        number = 0
        while True:
            number += 1
            chosen = behaviours[number % len(behaviours)]
            yield f"{here}what-if/?behaviour={chosen}&which=harmful&count={count + number}&weight=0"

    def always(address: str) -> Iterator[str]:
        while True:
            yield address

    return {
        f"{EDITS:,} edits, what if 40 more": what_if(40),
        f"no edits, what if {EDITS:,}": (
            address.replace(site["proposal"], site["empty"]) for address in what_if(EDITS)
        ),
        f"{EDITS:,} edits, the whole page": always(here),
    }


def browser_of(user: Any) -> Any:
    from django.test import Client

    browser = Client()
    browser.force_login(user)
    return browser


def make_site() -> dict[str, Any]:
    """A migrated site with one large baseline, its scores, and a proposal of many edits."""
    import django

    django.setup()
    from django.conf import settings
    from django.contrib.auth import get_user_model
    from django.core.management import call_command

    from curation.models import Baseline, Behaviour, DatasetVersion, Influence
    from curation.services import datasets, files, projects, proposals, training_setup
    from workers.evidence.bank_evidence import random_edit_scale
    from workers.tasks.calibrations import fit_calibration

    settings.ALLOWED_HOSTS = ["testserver"]
    settings.STORAGES = settings.STORAGES | {
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    }
    call_command("migrate", verbosity=0)
    user = get_user_model().objects.create(username="reader")
    project = projects.create_project(name="Large", by=user)
    with files.work_folder() as folder:
        words, train = write_examples(folder / "examples.parquet")
        content = files.store_path(path=folder / "examples.parquet")
    version = DatasetVersion.objects.create(
        dataset=datasets.create_dataset(project=project, name="d", by=user),
        number=1, state="ready", file_name="d.parquet", examples_file=content,
        task="text_classification", classes=["a", "b", "c", "d"],
        content_sha256=content.sha256, train_count=train, probe_count=EXAMPLES - train,
        created_by=user,
    )  # fmt: skip
    baseline = Baseline.objects.create(
        project=project, name="first", dataset_version=version,
        model=training_setup.create_model(
            project=project, name="m", architecture={"name": "bag_of_embeddings"}, by=user
        ),
        recipe=training_setup.create_recipe(
            project=project, name="r", settings={"epochs": 2}, by=user
        ),
        seeds=list(range(SEEDS)), next_seed=SEEDS, state="ready", created_by=user,
    )  # fmt: skip
    draw = np.random.default_rng(0)
    behaviours = []
    for number in range(BEHAVIOURS):
        one = Behaviour.objects.create(
            baseline=baseline, name=f"behaviour {number}", kind="mean_margin",
            definition={"selection": "all"}, probe_indices=[*range(50)], unit="logits",
            better="higher", position=number, created_by=user,
            values={str(seed): float(draw.normal()) for seed in range(SEEDS)},
        )  # fmt: skip
        scores = draw.normal(size=train).astype(np.float32)
        shifts = draw.normal(scale=0.3, size=(SEEDS, 1)).astype(np.float32)
        Influence.objects.create(
            baseline=baseline, behaviour=one, method="replay",
            scores_file=stored(files, scores), per_seed_file=stored(files, scores + shifts),
            seeds=list(range(SEEDS)),
            diagnostics={"random_edit_scale": float(random_edit_scale(scores[:, None])[0])},
        )  # fmt: skip
        behaviours.append(str(one.pk))
    add_values(baseline, train, draw)
    fit_calibration(baseline, "replay")
    proposal = proposals.create_proposal(baseline=baseline, name="many", hypothesis="x", by=user)
    empty = proposals.create_proposal(baseline=baseline, name="none", hypothesis="x", by=user)
    chosen = draw.choice(train, EDITS, replace=False)
    ids = [(int(index), f"row-{index}") for index in chosen]
    proposals.set_weights(proposal=proposal, examples=ids, weight=0, by=user)
    return {
        "user": user, "version": version.pk, "words": words, "behaviours": behaviours,
        "proposal": str(proposal.pk), "empty": str(empty.pk),
    }  # fmt: skip


def add_values(baseline: Any, train: int, draw: np.random.Generator) -> None:
    """What training and measuring leave of every example."""
    from curation.models import ExampleValues
    from curation.services import files

    loss = draw.exponential(size=EXAMPLES).astype(np.float32)
    own = draw.exponential(size=EXAMPLES).astype(np.float32)
    own[train:] = np.nan
    ExampleValues.objects.create(
        baseline=baseline, loss_file=stored(files, loss),
        confidence_file=stored(files, np.exp(-loss)), self_influence_file=stored(files, own),
        seeds=baseline.seeds,
    )  # fmt: skip


def stored(files: Any, values: np.ndarray) -> Any:
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=False)
    return files.store_bytes(content=stream.getvalue())


def write_examples(path: Path) -> tuple[list[str], int]:
    """The canonical table: nine tenths train, then one tenth probe. Returns (words, train rows)."""
    from workers.formats.canonical import CanonicalWriter, canonical_schema

    draw = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    lengths = draw.integers(2, 10, VOCABULARY)
    words = np.array(["".join(draw.choice(letters, n)) for n in lengths], object)
    train = EXAMPLES * 9 // 10
    schema = canonical_schema(
        "text_classification", features=0, image=0, messages=False, attributes=["source"]
    )
    with CanonicalWriter(path, schema) as writer:
        for start in range(0, EXAMPLES, 100_000):
            numbers = np.arange(start, min(start + 100_000, EXAMPLES))
            texts = words[draw.integers(0, VOCABULARY, (len(numbers), WORDS_IN_A_TEXT))]
            is_train = numbers < train
            columns = {
                "example_id": [f"row-{n}" for n in numbers],
                "position": numbers,
                "split": np.where(is_train, "train", "probe"),
                "train_index": pa.array(numbers.astype(np.int32), mask=~is_train),
                "probe_index": pa.array((numbers - train).astype(np.int32), mask=is_train),
                "text": [" ".join(text) for text in texts],
                "label": draw.choice(list("abcd"), len(numbers)),
                "attribute_source": draw.choice([f"s{n}" for n in range(20)], len(numbers)),
            }
            writer.write(
                pa.record_batch(
                    [
                        pa.array(columns[f.name], f.type)
                        if not isinstance(columns[f.name], pa.Array)
                        else columns[f.name]
                        for f in schema
                    ],
                    schema=schema,
                )
            )
        writer.close({"task": "text_classification", "classes": list("abcd")})
        writer.promote()
    return [str(word) for word in words], train


if __name__ == "__main__":
    print(json.dumps([row.__dict__ for row in run().rows], indent=1))
