"""Finding things by name or id; the part of the client that the steps of the job stand on."""

from collections.abc import Iterator
from typing import Any, TypeVar
from uuid import UUID

import httpx

from hunch_client.errors import HunchError
from hunch_client.records import (
    Baseline,
    Behaviour,
    Dataset,
    Model,
    Project,
    Proposal,
    Recipe,
    Record,
    Registration,
)
from hunch_client.transport import Transport

T = TypeVar("T", bound=Record)


class Lookups:
    def __init__(self, address: str, token: str, *, http: httpx.Client | None = None) -> None:
        self.transport = Transport(address, token, http=http)

    def _post(self, path: str, body: Any = None, key: str | None = None) -> Any:
        return self.transport.send("POST", path, body={} if body is None else body, key=key)

    def _get(self, path: str, **query: Any) -> Any:
        return self.transport.send("GET", path, query=query)

    def me(self) -> dict[str, Any]:
        """Whose token this is and what it may do."""
        found: dict[str, Any] = self._get("/me")
        return found

    def project(self, name: str) -> Project:
        """Your project with this name or id. Raises HunchError if none or several have it."""
        return self._one(Project, "/projects", "/projects", name)

    def projects(self) -> Iterator[Project]:
        return self._all(Project, "/projects")

    def create_project(self, name: str, description: str = "") -> Project:
        return Project.from_json(
            self._post("/projects", {"name": name, "description": description})
        )

    def dataset(self, project: Project, name: str) -> Dataset:
        return self._one(Dataset, f"/projects/{project.id}/datasets", "/datasets", name)

    def model(self, project: Project, name: str) -> Model:
        return self._one(Model, f"/projects/{project.id}/models", "/models", name)

    def recipe(self, project: Project, name: str) -> Recipe:
        return self._one(Recipe, f"/projects/{project.id}/recipes", "/recipes", name)

    def baseline(self, project: Project, name: str) -> Baseline:
        return self._one(Baseline, f"/projects/{project.id}/baselines", "/baselines", name)

    def proposal(self, project: Project, name: str) -> Proposal:
        return self._one(Proposal, f"/projects/{project.id}/proposals", "/proposals", name)

    def datasets(self, project: Project) -> Iterator[Dataset]:
        return self._all(Dataset, f"/projects/{project.id}/datasets")

    def models(self, project: Project) -> Iterator[Model]:
        return self._all(Model, f"/projects/{project.id}/models")

    def recipes(self, project: Project) -> Iterator[Recipe]:
        return self._all(Recipe, f"/projects/{project.id}/recipes")

    def baselines(self, project: Project) -> Iterator[Baseline]:
        return self._all(Baseline, f"/projects/{project.id}/baselines")

    def proposals(self, project: Project) -> Iterator[Proposal]:
        return self._all(Proposal, f"/projects/{project.id}/proposals")

    def registrations(self, project: Project) -> Iterator[Registration]:
        return self._all(Registration, f"/projects/{project.id}/registrations")

    def registration(self, registration_id: str) -> Registration:
        return Registration.from_json(self._get(f"/registrations/{registration_id}"))

    def behaviours(self, baseline: Baseline) -> list[Behaviour]:
        return [
            Behaviour.from_json(one) for one in self._get(f"/baselines/{baseline.id}/behaviours")
        ]

    def behaviour(self, baseline: Baseline, name: str) -> Behaviour:
        """The baseline's behaviour with this name or id."""
        for one in self.behaviours(baseline):
            if name in (one.name, one.id):
                return one
        raise HunchError(f"The baseline {baseline.name} has no behaviour “{name}”.", 404)

    def _all(self, kind: type[T], lists: str) -> Iterator[T]:
        return (kind.from_json(item) for item in self.transport.pages(lists))

    def _one(self, kind: type[T], lists: str, shows: str, name: str) -> T:
        found = list(self.transport.pages(lists, name=name, limit=2))
        if not found and _is_id(name):
            return kind.from_json(self._get(f"{shows}/{name}"))
        if len(found) != 1:
            number = "Several have" if found else "There is no"
            raise HunchError(f"{number} {kind.__name__.lower()} “{name}”.", 409 if found else 404)
        return kind.from_json(found[0])


def _is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
