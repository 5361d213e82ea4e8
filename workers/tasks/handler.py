"""The contract of a job's handler: run the work. What becomes of its target when the job ends
without success is in curation/services/job_targets.py, since not only workers end jobs."""

from abc import ABC, abstractmethod

from curation.models import Job
from workers.tasks.report import JobReport


class Handler(ABC):
    """One instance per attempt. `run` may be called again after a crash and then goes on where it
    was."""

    goes_on = False
    """Set by `run` when it has handed the work on to tasks that will end the job."""

    def __init__(self, job: Job) -> None:
        self.job = job

    @abstractmethod
    def run(self, report: JobReport) -> None: ...
