"""Large inputs on a small machine: ingestion of a million rows, influence over a million examples,
and training by one and by two workers."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from benchmarks import scale_parts as parts
from benchmarks.report import Report, Row

ROWS = int(os.environ.get("BENCH_SCALE_ROWS", "1000000"))
FEW_ROWS = ROWS // 4
WORKERS = 2
HIDDEN, DIMENSION = 64, 512
"""Of the head on frozen features."""
JOBS_EACH = int(os.environ.get("BENCH_SCALE_JOBS", "3"))
MEBIBYTE = 1 << 20


def run() -> Report:
    load = os.getloadavg()[1]
    with tempfile.TemporaryDirectory() as folder:
        rows = [*ingestion(Path(folder)), *influence(Path(folder)), *training(Path(folder))]
    return Report(
        title=f"Scale: {ROWS:,} rows, and one or two workers",
        rows=rows,
        seeds=[0],
        notes=[
            "Every measurement runs in a fresh process. Ingestion is the whole guarded import, "
            "from starting its child process to the finished Parquet; the peak is the child's "
            "resident memory. Rows a second of one core count processor time, of all threads "
            "together, which hardly depends on what else the machine does.",
            "Influence is the method `projected` over two workers with one thread each, its "
            f"gradients kept in half precision, on random features of width {parts.WIDTH} as a "
            "frozen encoder leaves them; the weights are a seed's, since the time does not depend "
            "on them. A worker's own memory leaves out the features, which stay mapped from their "
            "file. Joining decomposes the curvature and scores "
            f"{parts.BEHAVIOURS} behaviours, with the default damping.",
            f"Training is by real Celery workers on a private site: jobs of {parts.SEEDS_OF_A_JOB} "
            "seeds of a bag of embeddings on 4,000 texts, from the start of the first job to the "
            "end of the last, after a warm-up. The machine has two cores, which the database and "
            "the broker share.",
        ],
        machine={"load before": f"{load:.1f}"},
    )


def ingestion(folder: Path) -> list[Row]:
    rows = []
    for form in ("jsonl", "csv"):
        peaks = {}
        for number in (FEW_ROWS, ROWS):
            upload = folder / f"upload-{number}.{form}"
            parts.write_upload(upload, number)
            found = parts.measured(parts.ingest, upload, folder / "examples.parquet")
            assert found.value == number
            peaks[number] = found.peak_bytes / MEBIBYTE
            (folder / "examples.parquet").unlink()
            upload.unlink()
        name = f"{ROWS:,} rows, {form.upper()}"
        rows += [
            Row("ingestion", name, "rows/s", ROWS / found.seconds, target=">= 100000"),
            Row("ingestion", name, "rows/s of one core", ROWS / found.processor_seconds),
            Row("ingestion", name, "peak memory, MiB", peaks[ROWS]),
            Row(
                "ingestion",
                name,
                f"peak memory over that of {FEW_ROWS:,} rows",
                peaks[ROWS] / peaks[FEW_ROWS],
                target="<= 1.25",
            ),
        ]
    return rows


def influence(folder: Path) -> list[Row]:
    parts.write_features(folder, ROWS)
    own = {}
    for number in (FEW_ROWS, ROWS):
        began = time.perf_counter()
        shares = [
            parts.Running(parts.project_share, folder, number, HIDDEN, DIMENSION, share, WORKERS)
            for share in range(WORKERS)
        ]
        found = [one.result() for one in shares]
        projecting = time.perf_counter() - began
        own[number] = max(one.own_bytes for one in found) / MEBIBYTE
    joined = parts.measured(parts.join, folder, ROWS, HIDDEN, DIMENSION)
    task, subject = f"influence over {ROWS:,} examples", f"head on features, {found[0].value}"
    processor = sum(one.processor_seconds for one in found)
    return [
        Row(task, subject, "rows/s, projecting by 2 workers", ROWS / projecting),
        Row(task, subject, "rows/s of one core, projecting", ROWS / processor),
        Row(task, subject, f"s, joining and scoring {parts.BEHAVIOURS}", joined.value[0]),
        Row(task, subject, f"s, {parts.BEHAVIOURS} further behaviours", joined.value[1]),
        Row(task, subject, "rows/s, all", ROWS / (projecting + joined.seconds)),
        Row(task, subject, "a worker's own peak memory, MiB", own[ROWS]),
        Row(
            task,
            subject,
            f"own peak memory over that of {FEW_ROWS:,}",
            own[ROWS] / own[FEW_ROWS],
            target="<= 1.25",
        ),
        Row(task, subject, "own peak memory of the join, MiB", joined.own_bytes / MEBIBYTE),
    ]


def training(folder: Path) -> list[Row]:
    found = {}
    for workers in (1, WORKERS):
        var = folder / f"site-{workers}"
        var.mkdir()
        found[workers] = parts.measured(parts.training_throughput, var, workers, JOBS_EACH).value
    return [
        Row("training", "1 worker", "runs/s", found[1]),
        Row("training", f"{WORKERS} workers", "runs/s", found[WORKERS]),
        Row(
            "training",
            f"{WORKERS} workers",
            "throughput over that of 1",
            found[WORKERS] / found[1],
            target=">= 1.7",
        ),
    ]
