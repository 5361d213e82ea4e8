"""The contract of a job's handler: run the work, and undo its marks when the job fails or is
cancelled."""

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

    @abstractmethod
    def failed(self, message: str) -> None:
        """Called once when the job has ended without success; marks the target with the reason."""
