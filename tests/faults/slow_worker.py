"""A Celery worker whose retrains wait for a file, and write down each run. Run as
`celery --app tests.faults.slow_worker worker` with SLOW_FOLDER in the environment."""

import os
import time
from pathlib import Path
from typing import Any

from celery.signals import celeryd_init

from workers.celery import app

__all__ = ["app"]


class Slow:
    """A handler; not by inheritance, since Django is not set up yet."""

    goes_on = False

    def __init__(self, job: Any) -> None:
        self.job = job

    def run(self, report: Any) -> None:
        folder = Path(os.environ["SLOW_FOLDER"])
        with (folder / "runs").open("a") as runs:
            runs.write(f"{self.job.pk}\n")
        while not (folder / "go").exists():
            report(0, 1)
            time.sleep(0.05)


@celeryd_init.connect
def replace_retrains(**_: object) -> None:
    from workers.tasks import run

    run.HANDLERS[run.JobKind.RETRAIN] = f"{__name__}.{Slow.__name__}"
