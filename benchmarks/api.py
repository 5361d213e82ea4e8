"""What-if predictions for 200 parallel clients: errors, throughput and latency of the API.

The site is the real one (gunicorn, PostgreSQL, Valkey); the scores are random numbers, since the
time of a prediction does not depend on their values. Clients run on the same cores.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.report import Report, Row
from embedded.services import service_processes
from embedded.site import HOST, SiteSettings, free_port, web_process
from embedded.supervisor import Supervisor
from embedded.urls import service_urls

EXAMPLES, BEHAVIOURS, SEEDS = 10_000, 10, 4
CLIENTS = 200
SECONDS = float(os.environ.get("BENCH_API_SECONDS", "60"))
EDITS = 50


def run() -> Report:
    with tempfile.TemporaryDirectory() as folder, Supervisor(Path(folder)) as supervisor:
        var = Path(folder)
        os.environ.update(service_urls(var, environment={}).environment())
        os.environ.update(
            HUNCH_VAR=folder,
            SECRET_KEY="only for this benchmark " + "0" * 40,
            API_REQUESTS_PER_MINUTE="100000000",
            DJANGO_SETTINGS_MODULE="curation.settings",
        )
        supervisor.start(*service_processes(var))
        token, baseline = make_site()
        settings = SiteSettings(var=var)
        port = free_port(8100)
        supervisor.start(web_process(settings, port))
        draw = np.random.default_rng(0)
        rows: list[Row] = []
        for name, edit in (
            ("by train index", lambda i: {"train_index": i, "weight": 0}),
            ("by example id", lambda i: {"example_id": f"e{i}", "weight": 0}),
        ):
            bodies = [
                {"edits": [edit(int(i)) for i in draw.choice(EXAMPLES, EDITS, replace=False)]}
                for _ in range(50)
            ]
            path = f"/api/v1/baselines/{baseline}/what-if"
            rows += measure(name, {"path": path, "port": port, "token": token, "bodies": bodies})
    return Report(
        title="The API under load",
        rows=rows,
        seeds=[0],
        notes=[
            f"{CLIENTS} clients ask for what-if predictions of {EDITS} edits on {EXAMPLES:,} "
            f"examples and {BEHAVIOURS} behaviours for {SECONDS:g} s each, each sending its next "
            f"request when the last one is answered, against {settings.web_processes} web "
            f"processes of {settings.web_threads} threads. Clients, web server, database and "
            "cache share the machine's cores, so the latency is mostly waiting for a turn. The "
            "processor time is that of the web processes alone. While this ran, other programs "
            f"kept the machine busy as well: a mean of {os.getloadavg()[2]:.1f} processes wanted a "
            "core in the last quarter of an hour, these included.",
        ],
    )


def measure(name: str, task: dict[str, Any]) -> list[Row]:
    task |= {"host": HOST, "clients": CLIENTS, "seconds": SECONDS}
    before = web_processor_seconds()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load"],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        check=True,
    )
    spent = web_processor_seconds() - before
    found = json.loads(done.stdout)
    latencies = np.array(found["latencies"]) * 1000
    wrong = sum(number for status, number in found["statuses"].items() if status != "200")
    median, high = np.percentile(latencies, [50, 99])
    subject = f"{CLIENTS} clients, edits {name}"
    return [
        Row("what-if", subject, "answers", float(len(latencies))),
        Row("what-if", subject, "errors", float(wrong), target="<= 0"),
        Row("what-if", subject, "answers per second", len(latencies) / SECONDS),
        Row("what-if", subject, "processor time an answer, ms", spent / len(latencies) * 1000),
        Row("what-if", subject, "median latency, ms", float(median)),
        Row("what-if", subject, "p99 latency, ms", float(high)),
    ]


def web_processor_seconds() -> float:
    """Processor time of the web processes until now, which other programs on the machine move
    less than they move the rate of answers."""
    processes = psutil.Process().children(recursive=True)
    times = [one.cpu_times() for one in processes if "gunicorn" in " ".join(one.cmdline())]
    return float(sum(one.user + one.system for one in times))


def make_site() -> tuple[str, str]:
    """A migrated site with one baseline and its scores: (token, baseline id)."""
    import django

    django.setup()
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.db import connection

    from curation.models import Baseline, Behaviour, DatasetVersion, Influence
    from curation.services import datasets, files, projects, tokens, training_setup
    from tests.api.world import parquet_of_examples
    from workers.evidence.bank_evidence import random_edit_scale
    from workers.tasks.calibrations import fit_calibration

    call_command("migrate", verbosity=0)
    owner = get_user_model().objects.create(username="load")
    project = projects.create_project(name="Load", by=owner)
    content = files.store_bytes(content=parquet_of_examples(EXAMPLES, 500))
    version = DatasetVersion.objects.create(
        dataset=datasets.create_dataset(project=project, name="d", by=owner),
        number=1, state="ready", file_name="d.parquet", examples_file=content,
        classes=["down", "up"], content_sha256=content.sha256,
        train_count=EXAMPLES, probe_count=500, created_by=owner,
    )  # fmt: skip
    baseline = Baseline.objects.create(
        project=project, name="b", dataset_version=version, created_by=owner,
        model=training_setup.create_model(
            project=project, name="m", architecture={"name": "mlp"}, by=owner
        ),
        recipe=training_setup.create_recipe(
            project=project, name="r", settings={"epochs": 1}, by=owner
        ),
        seeds=list(range(SEEDS)), next_seed=SEEDS, state="ready",
    )  # fmt: skip
    draw = np.random.default_rng(0)
    for number in range(BEHAVIOURS):
        behaviour = Behaviour.objects.create(
            baseline=baseline, name=f"behaviour {number}", kind="mean_margin", unit="logits",
            definition={"selection": "all"}, probe_indices=list(range(500)), better="higher",
            position=number, values={str(seed): float(draw.normal()) for seed in range(SEEDS)},
            created_by=owner,
        )  # fmt: skip
        per_seed = draw.normal(size=(SEEDS, EXAMPLES)).astype(np.float32) / 1000
        scores = per_seed.mean(axis=0)
        Influence.objects.create(
            baseline=baseline, behaviour=behaviour, method="replay", seeds=list(range(SEEDS)),
            scores_file=stored(scores), per_seed_file=stored(per_seed),
            diagnostics={"random_edit_scale": float(random_edit_scale(scores[:, None])[0])},
        )  # fmt: skip
    fit_calibration(baseline, "replay")
    _, token = tokens.create_token(user=owner, name="load", scopes=["read"])
    connection.close()
    return token, str(baseline.pk)


def stored(values: np.ndarray) -> Any:
    from curation.services import files

    stream = io.BytesIO()
    np.save(stream, values)
    return files.store_bytes(content=stream.getvalue())
