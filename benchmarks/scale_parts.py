"""The pieces of work that `benchmarks.scale` measures, each in a process of its own, so that its
peak memory is its own too."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

WIDTH = 384
BEHAVIOURS, PROBE_EXAMPLES = 20, 50
SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Measured:
    value: Any
    seconds: float
    processor_seconds: float
    """Of the process and the children that it waited for."""
    peak_bytes: int
    """Resident, of the process or of a child that it waited for, whichever was larger."""
    own_bytes: int
    """The most that was resident at a time and not mapped from a file, seen ten times a second."""


class Running:
    """A function at work in a fresh process."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._receive, send = SPAWN.Pipe(duplex=False)
        self._process = SPAWN.Process(target=_measure, args=(send, function, arguments))
        self._process.start()

    def result(self) -> Measured:
        """Raises RuntimeError when the function did."""
        found: Measured | str = self._receive.recv()
        self._process.join()
        if isinstance(found, str):
            raise RuntimeError(found)
        return found


def measured(function: Callable[..., Any], *arguments: Any) -> Measured:
    return Running(function, *arguments).result()


def _measure(send: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    peak, finished = [0], threading.Event()

    def watch() -> None:
        while not finished.wait(0.1):
            peak[0] = max(peak[0], _own_bytes())

    threading.Thread(target=watch, daemon=True).start()
    began = time.perf_counter()
    try:
        value = function(*arguments)
    except Exception as error:
        send.send(repr(error))
        raise
    seconds = time.perf_counter() - began
    finished.set()
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    processor = sum(one.ru_utime + one.ru_stime for one in usage)
    kilobytes = max(one.ru_maxrss for one in usage)
    send.send(Measured(value, seconds, processor, kilobytes << 10, peak[0]))


def _own_bytes() -> int:
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) << 10
    return 0


# Ingestion


def write_upload(path: Path, rows: int) -> None:
    """Rows of an id, a text of 14 words, a label and a source, as JSON lines or CSV by suffix."""
    draw = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = np.array(
        ["".join(draw.choice(letters, n)) for n in draw.integers(2, 10, 5_000)], object
    )
    with path.open("w", encoding="utf-8") as stream:
        if path.suffix == ".csv":
            stream.write("id,text,label,source\n")
        for start in range(0, rows, 50_000):
            count = min(50_000, rows - start)
            texts = words[draw.integers(0, len(words), (count, 14))]
            labels = draw.choice(list("abcd"), count)
            for offset in range(count):
                number = start + offset
                text = " ".join(texts[offset])
                if path.suffix == ".csv":
                    stream.write(f"row-{number},{text},{labels[offset]},s{number % 20}\n")
                else:
                    row = {"id": f"row-{number}", "text": text, "label": labels[offset]}
                    stream.write(json.dumps(row | {"source": f"s{number % 20}"}) + "\n")


def ingest(upload: Path, output: Path) -> int:
    """Import the upload as the worker does; returns its rows."""
    from workers.formats.column_mapping import ColumnMapping
    from workers.formats.content import DatasetPart
    from workers.formats.guarded import import_guarded
    from workers.formats.limits import DatasetLimits
    from workers.formats.resource_guard import ResourceLimits

    mapping = ColumnMapping("text_classification", example_id="id", text="text", label="label")
    summary = import_guarded(
        [DatasetPart(upload, upload.name)], mapping, DatasetLimits(), output, ResourceLimits()
    )
    return int(summary["rows"])


# Influence


def write_features(folder: Path, examples: int) -> None:
    """Features as a frozen encoder would leave them, with two classes."""
    draw = np.random.default_rng(1)
    features = np.lib.format.open_memmap(
        folder / "features.npy", "w+", np.float32, (examples, WIDTH)
    )
    for start in range(0, examples, 50_000):
        part = features[start : start + 50_000]
        part[:] = draw.standard_normal(part.shape, dtype=np.float32)
    features.flush()
    np.save(folder / "labels.npy", draw.integers(0, 2, examples))


def influence_run(folder: Path, examples: int, hidden: int) -> Any:
    """A run of a head on the first `examples` features: weights of a seed, since the time does not
    depend on them. The features stay mapped from their file."""
    import torch

    from workers.training.examples import EncodedExamples
    from workers.training.parameters import ParameterLayout
    from workers.training.problem import TrainingProblem
    from workers.training.recipe import Recipe
    from workers.training.trainer import TrainingRun

    torch.set_num_threads(1)
    features = torch.from_numpy(np.load(folder / "features.npy", mmap_mode="c"))[:examples]
    labels = torch.from_numpy(np.load(folder / "labels.npy"))[:examples]
    architecture = {
        "name": "mlp",
        "hidden": [hidden] if hidden else [],
        "number_of_features": WIDTH,
        "number_of_outputs": 2,
    }
    if not hidden:
        architecture = {**architecture, "name": "softmax_regression"}
        del architecture["hidden"]
    problem = TrainingProblem(
        architecture,
        EncodedExamples({"features": features}, labels),
        Recipe(batch_size=256, epochs=1),
        "cross_entropy",
    )
    network = problem.build_network(0)
    layout = ParameterLayout.of(network)
    return TrainingRun(problem, 0, None, layout.flatten(network), layout, ())


def method(folder: Path, dimension: int) -> Any:
    from workers.influence.projected import Projected

    return Projected(dimension=dimension, storage="float16", folder=folder / "gradients")


def project_share(
    folder: Path, examples: int, hidden: int, dimension: int, share: int, shares: int
) -> str:
    """One worker's shard: returns the projection in words."""
    run = influence_run(folder, examples, hidden)
    projected = method(folder, dimension)
    total = projected.number_of_units([run])
    projected.fill([run], range(total * share // shares, total * (share + 1) // shares))
    projection = projected.open(run).projection
    size = run.parameters.numel()
    if projection.dimension == size:
        return f"all {size:,} parameters kept"
    return f"{projection.kind} projection of {size:,} parameters to {projection.dimension}"


def join(folder: Path, examples: int, hidden: int, dimension: int) -> list[float]:
    """Seconds for the scores of 20 behaviours from finished gradients, and of 20 more."""
    import torch

    from workers.influence.behaviours import Behaviour

    run = influence_run(folder, examples, hidden)
    projected = method(folder, dimension)
    found = []
    for first in (0, BEHAVIOURS):
        behaviours = [
            Behaviour(
                "mean_margin",
                run.problem.train.select(
                    torch.arange(place * PROBE_EXAMPLES, (place + 1) * PROBE_EXAMPLES)
                ),
            )
            for place in range(first, first + BEHAVIOURS)
        ]
        began = time.perf_counter()
        assert projected.scores([run], behaviours).per_seed.shape == (1, examples, BEHAVIOURS)
        found.append(time.perf_counter() - began)
    return found


# Workers


def training_throughput(folder: Path, workers: int, jobs_each: int) -> float:
    """Training runs a second of `workers` Celery workers of one process each, on a private site."""
    from embedded.services import service_processes
    from embedded.supervisor import Supervisor
    from embedded.urls import service_urls

    with Supervisor(folder) as supervisor:
        os.environ.update(service_urls(folder, environment={}).environment())
        os.environ.update(
            HUNCH_VAR=str(folder),
            SECRET_KEY="only for this benchmark " + "0" * 40,
            DJANGO_SETTINGS_MODULE="curation.settings",
            OMP_NUM_THREADS="1",
            LOG_LEVEL="ERROR",
        )
        supervisor.start(*service_processes(folder))
        request = _training_site()
        running = [
            subprocess.Popen(
                [sys.executable, "-m", "celery", "--app", "workers.celery", "--quiet", "worker",
                 "--hostname", f"scale{number}@%h", "--queues", "train", "--concurrency", "1",
                 "--without-gossip", "--without-mingle", "--loglevel", "ERROR"],
                stderr=subprocess.DEVNULL,
            )
            for number in range(workers)
        ]  # fmt: skip
        try:
            request(workers)  # each has loaded torch and made its pool
            runs, seconds = request(jobs_each * workers)
        finally:
            for one in running:
                one.terminate()
            for one in running:
                one.wait()
    return runs / seconds


SEEDS_OF_A_JOB = 4


def _training_site() -> Callable[[int], tuple[int, float]]:
    """A migrated site with one dataset; the function that asks for a number of jobs, waits for them
    and returns (runs, seconds from the first one's start to the last one's end)."""
    import django

    django.setup()
    from django.contrib.auth import get_user_model
    from django.core.management import call_command

    from curation.models import DatasetVersion, Job
    from curation.services import datasets, files, projects, training_setup

    call_command("migrate", verbosity=0)
    user = get_user_model().objects.create(username="owner")
    project = projects.create_project(name="Scale", by=user)
    with files.work_folder() as work:
        train, probe = write_small_examples(work / "examples.parquet")
        content = files.store_path(path=work / "examples.parquet")
    version = DatasetVersion.objects.create(
        dataset=datasets.create_dataset(project=project, name="d", by=user),
        number=1, state="ready", file_name="d.parquet", examples_file=content,
        task="text_classification", classes=["a", "b", "c", "d"],
        content_sha256=content.sha256, train_count=train, probe_count=probe, created_by=user,
    )  # fmt: skip
    model = training_setup.create_model(
        project=project, name="m", architecture={"name": "bag_of_embeddings"}, by=user
    )
    recipe = training_setup.create_recipe(
        project=project, name="r", settings={"epochs": 4, "batch_size": 64}, by=user
    )

    def request(number: int) -> tuple[int, float]:
        wanted = [
            training_setup.create_baseline(
                project=project, name=f"b{Job.objects.count()}", dataset_version=version,
                model=model, recipe=recipe, number_of_seeds=SEEDS_OF_A_JOB, by=user,
            )[1].pk
            for _ in range(number)
        ]  # fmt: skip
        found = Job.objects.filter(pk__in=wanted)
        while found.exclude(state__in=("succeeded", "failed")).exists():
            time.sleep(0.05)
        assert not found.exclude(state="succeeded").exists()
        times = list(found.values_list("started_at", "ended_at"))
        span = max(end for _, end in times) - min(start for start, _ in times)
        return number * SEEDS_OF_A_JOB, span.total_seconds()

    return request


def write_small_examples(path: Path) -> tuple[int, int]:
    """The canonical table of 4,000 train and 400 probe texts."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    train, probe = 4_000, 400
    draw = np.random.default_rng(2)
    numbers = np.arange(train + probe)
    is_train = numbers < train
    words = draw.integers(0, 5_000, (len(numbers), 14))
    columns = {
        "example_id": pa.array([f"row-{number}" for number in numbers]),
        "position": pa.array(numbers),
        "split": pa.array(np.where(is_train, "train", "probe")),
        "train_index": pa.array(numbers.astype(np.int32), mask=~is_train),
        "probe_index": pa.array((numbers - train).astype(np.int32), mask=is_train),
        "text": pa.array([" ".join(f"w{word}" for word in row) for row in words]),
        "label": pa.array(draw.choice(list("abcd"), len(numbers))),
    }
    metadata = {"hunch": json.dumps({"task": "text_classification", "classes": list("abcd")})}
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path)
    return train, probe
