"""What can go wrong, in the server's own words."""

from typing import Any


class HunchError(Exception):
    """The server refused or could not be reached; `status` is 0 in the latter case."""

    def __init__(
        self, message: str, status: int = 0, errors: list[dict[str, str]] | None = None
    ) -> None:
        self.status = status
        self.errors = errors or []
        super().__init__(message)

    @classmethod
    def from_problem(cls, status: int, problem: dict[str, Any]) -> "HunchError":
        errors = problem.get("errors") or []
        message = str(problem.get("detail") or problem.get("title") or f"Status {status}.")
        named = [f"{error['field']}: {error['rule']}" for error in errors if error.get("field")]
        return cls("\n".join([message, *named]) if named else message, status, errors)


class JobFailed(HunchError):
    """A job that was waited for failed or was cancelled."""

    def __init__(self, job_id: str, state: str, error: str) -> None:
        self.job_id = job_id
        self.state = state
        super().__init__(f"Job {job_id} {state}: {error or 'no reason was given'}")
