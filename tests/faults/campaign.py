"""Complete jobs on a private site while parts of it are killed, and what became of them.

    python -m tests.faults.campaign FOLDER --jobs 50 --seed 0

prints one JSON object, the fields of `Outcome`. What must hold is in tests/faults/test_campaign.py.
"""

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.complete_job import CompleteJob, Driver, write_examples
from tests.faults.private_site import PrivateSite, private_site, use_folder

PAUSE = 0.05  # seconds between two looks at the site
CALM_WITHIN = 120.0  # seconds that jobs may take to end once nothing is killed any more


@dataclass
class Outcome:
    """What a campaign did and found; every list of findings should be empty."""

    seed: int
    seconds: float = 0.0
    complete_jobs: int = 0
    jobs: int = 0
    attempts: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    stated_failures: list[str] = field(default_factory=list)  # of jobs, which were tried again
    unfinished: list[str] = field(default_factory=list)
    without_reason: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    results: int = 0
    results_lost: int = 0
    compared: int = 0
    lost_files: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    cleaned: int = 0  # files and work folders that killed processes left and upkeep removed


class Faults:
    """Inflicts every kind in turn, in an order and at moments drawn from the seed."""

    def __init__(self, site: PrivateSite, seed: int, mean_gap: float, most: int) -> None:
        self.counts: Counter[str] = Counter()
        self._site = site
        self._draw = random.Random(seed)
        self._mean_gap = mean_gap
        self._most = most
        self._queue: list[str] = []
        self._next = time.monotonic() + self._gap()

    def look(self) -> None:
        """Inflict the next one if it is due."""
        if time.monotonic() < self._next or self.counts.total() >= self._most:
            return
        kinds = self._site.faults()
        if not self._queue:
            self._queue = list(kinds)
            self._draw.shuffle(self._queue)
        name = self._queue.pop()
        if kinds[name](self._draw):
            self.counts[name] += 1
        self._next = time.monotonic() + self._gap()

    def _gap(self) -> float:
        return self._draw.uniform(0.2, 1.8) * self._mean_gap


def run_campaign(
    var: Path,
    *,
    jobs: int,
    seed: int,
    mean_gap: float,
    most_faults: int,
    drivers: int,
    small: bool,
) -> Outcome:
    """Run one job undisturbed and `jobs` under faults, then compare. Raises what a driver
    raises."""
    use_folder(var)
    import django

    django.setup()
    from tests.faults.checks import check_everything

    outcome = Outcome(seed)
    started = time.monotonic()
    with private_site(var, small=small) as site:
        token = make_token()
        examples = var / "sentences.jsonl"
        write_examples(examples)

        def run(name: str) -> CompleteJob:
            return Driver(site.address, token).run(name, examples)

        with ThreadPoolExecutor(drivers) as pool:
            (undisturbed,) = watch(site, [pool.submit(run, "undisturbed")], None)
            faults = Faults(site, seed, mean_gap, most_faults)
            running = [pool.submit(run, f"complete job {number}") for number in range(jobs)]
            done = watch(site, running, faults)
        outcome.faults = dict(sorted(faults.counts.items()))
        wait_for_calm(site)
        outcome.complete_jobs = len(done)
        outcome.stated_failures = sorted(reason for one in done for reason in one.failures)
        check_everything(outcome, undisturbed, done, recompute=not small)
    outcome.seconds = round(time.monotonic() - started, 1)
    return outcome


def watch(
    site: PrivateSite, running: Sequence[Future[CompleteJob]], faults: Faults | None
) -> list[CompleteJob]:
    """Keep the site alive, and hurt it, until all have ended."""
    while not all(one.done() for one in running):
        site.supervisor.check()
        if faults:
            faults.look()
        if any(one.done() and one.exception() for one in running):
            for one in running:
                one.cancel()
        time.sleep(PAUSE)
    return [one.result() for one in running]


def wait_for_calm(site: PrivateSite) -> None:
    """Until the database answers and no job is queued or running; the clock may have to sweep."""
    from django.db import OperationalError, connection

    from curation.models import Job, JobState

    until = time.monotonic() + CALM_WITHIN
    while time.monotonic() < until:
        site.supervisor.check()
        try:
            if not Job.objects.filter(state__in=(JobState.QUEUED, JobState.RUNNING)).exists():
                return
        except OperationalError:
            connection.close()
        time.sleep(PAUSE)


def make_token() -> str:
    from django.contrib.auth import get_user_model

    from curation.models import Scope
    from curation.services import tokens

    user = get_user_model()._default_manager.create(username="ada")
    return tokens.create_token(user=user, name="campaign", scopes=list(Scope.values))[1]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--jobs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mean-gap", type=float, default=3.0, help="seconds between faults")
    parser.add_argument("--most-faults", type=int, default=1_000_000)
    parser.add_argument("--drivers", type=int, default=3, help="complete jobs at a time")
    parser.add_argument("--small", action="store_true", help="one worker and one web process")
    chosen: dict[str, Any] = vars(parser.parse_args(arguments))
    outcome = run_campaign(chosen.pop("folder"), **chosen)
    json.dump(asdict(outcome), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
