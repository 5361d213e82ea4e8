"""One complete job as a program asks for it: from a file to the verdict, over HTTP, insisting until
each step has its answer. Every call carries a key of its own, so that insisting makes nothing
twice."""

import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hunch_client import HunchError
from hunch_client.transport import Transport
from hunch_client.uploading import upload_file

T = TypeVar("T")
WORDS = {"up": ["good", "fine", "glad", "warm"], "down": ["bad", "poor", "sad", "cold"]}
TRAIN, PROBE = 60, 30
BASELINE_SEEDS = FRESH_SEEDS = 2
BANK_EDITS = 6
RECIPE = {"epochs": 2, "learning_rate": 0.05, "epsilon": 1e-6, "batch_size": 16}
MOST_TRIES_OF_A_JOB = 5


class NotAnswered(Exception):
    """The site gave no answer in the time that it may take to come back."""


@dataclass
class CompleteJob:
    """What one complete job was and how it ended."""

    name: str
    project: str = ""
    baseline: str = ""
    registration: str = ""
    jobs_run: int = 0
    failures: list[str] = field(default_factory=list)  # reasons of jobs that were tried again


def write_examples(path: Path) -> None:
    """Train and probe sentences; every tenth train label is wrong. The same at every call."""
    draw = random.Random(0)
    lines = []
    for number in range(TRAIN + PROBE):
        label = draw.choice(["up", "down"])
        text = " ".join(draw.choices(WORDS[label], k=4) + ["the", "day"])
        split = "train" if number < TRAIN else "test"
        if split == "train" and number % 10 == 0:
            label = {"up": "down", "down": "up"}[label]
        row = {"id": f"s{number}", "text": text, "label": label, "split": split}
        lines.append(json.dumps(row))
    path.write_text("\n".join(lines) + "\n")


class Driver:
    """Drives complete jobs of one site; safe to use from one thread."""

    def __init__(self, address: str, token: str, patience: float = 180.0) -> None:
        self._transport = Transport(address, token)
        self._patience = patience

    def run(self, name: str, examples: Path) -> CompleteJob:
        """Raises NotAnswered, or HunchError where the site refuses a step."""
        done = CompleteJob(name)
        project = done.project = self._post(name, "/projects", {"name": name})["id"]
        dataset = self._post(name, f"/projects/{project}/datasets", {"name": "sentences"})["id"]
        upload = self._insist(lambda: upload_file(self._transport, project, examples))
        version = self._start(done, f"/datasets/{dataset}/versions", {"upload": upload})["version"]
        mapping = self._get(f"/versions/{version['id']}")["inspection"]["suggested_mapping"]
        known = {column: value for column, value in mapping.items() if value is not None}
        self._start(done, f"/versions/{version['id']}/import", known)
        bag = {"name": "bag", "architecture": {"name": "bag_of_embeddings"}}
        model = self._post(name, f"/projects/{project}/models", bag)["id"]
        short = {"name": "short", "settings": RECIPE}
        recipe = self._post(name, f"/projects/{project}/recipes", short)["id"]
        baseline = self._start(
            done,
            f"/projects/{project}/baselines",
            {
                "name": "first",
                "dataset_version": version["id"],
                "model": model,
                "recipe": recipe,
                "number_of_seeds": BASELINE_SEEDS,
            },
        )["baseline"]["id"]
        done.baseline = baseline
        margin = {"name": "margin", "kind": "mean_margin", "definition": {"selection": "all"}}
        behaviour = self._post(name, f"/baselines/{baseline}/behaviours", margin)["id"]
        self._start(done, f"/baselines/{baseline}/influence", {"method": "replay"})
        self._start(done, f"/baselines/{baseline}/bank", {"number_of_edits": BANK_EDITS})
        influence = self._get(f"/baselines/{baseline}/influence", method="replay")[0]["id"]
        top = self._get(f"/influences/{influence}/top", direction="harmful", count=5)
        idea = {"name": "cleaner", "hypothesis": "Wrong labels hurt."}
        proposal = self._post(name, f"/baselines/{baseline}/proposals", idea)["id"]
        edits = {"edits": [{"example_id": one["example_id"], "weight": 0.0} for one in top]}
        self._post(name, f"/proposals/{proposal}/edits", edits)
        self._post(name, f"/proposals/{proposal}/predictions", {"method": "replay"})
        plan = {"primary_behaviour": behaviour, "number_of_seeds": FRESH_SEEDS}
        registered = self._post(name, f"/proposals/{proposal}/registrations", plan)
        done.registration = registered["id"]
        started = self._post(name, f"/registrations/{done.registration}/start", {})
        for job in started["jobs"]:
            self._wait(done, job)
        return done

    def _start(self, done: CompleteJob, path: str, body: Any) -> Any:
        started = self._post(done.name, path, body)
        self._wait(done, started["job"])
        return started

    def _wait(self, done: CompleteJob, job: str) -> None:
        """Wait for a job; one that failed is tried again, and its reason is kept."""
        for number in range(MOST_TRIES_OF_A_JOB):
            found = self._get(f"/jobs/{job}")
            while found["state"] in ("queued", "running"):
                found = self._get(f"/jobs/{job}", wait=10)
            done.jobs_run += 1
            if found["state"] == "succeeded":
                return
            done.failures.append(found["error"])
            job = self._post(f"{done.name} {job} {number}", f"/jobs/{job}/retry", {})["id"]
        raise NotAnswered(f"Job {job} failed {MOST_TRIES_OF_A_JOB} times: {done.failures[-1]}")

    def _post(self, name: str, path: str, body: Any) -> Any:
        key = f"{name} {path}".replace(" ", "-")
        return self._insist(lambda: self._transport.send("POST", path, body=body, key=key))

    def _get(self, path: str, **query: Any) -> Any:
        return self._insist(lambda: self._transport.send("GET", path, query=query))

    def _insist(self, call: Callable[[], T]) -> T:
        until = time.monotonic() + self._patience
        while True:
            try:
                return call()
            except HunchError as error:
                if error.status not in (0, 503) or time.monotonic() > until:
                    raise
