"""Deleting what an owner no longer wants, and restoring it; a part of the client."""

from collections.abc import Iterator

from hunch_client.lookups import Lookups
from hunch_client.records import (
    Baseline,
    Dataset,
    Deletion,
    Model,
    Project,
    Proposal,
    Version,
)

Deletable = Project | Dataset | Version | Model | Baseline | Proposal
PATHS: dict[type[Deletable], str] = {
    Project: "projects",
    Dataset: "datasets",
    Version: "versions",
    Model: "models",
    Baseline: "baselines",
    Proposal: "proposals",
}


class Deletions(Lookups):
    def delete(self, thing: Deletable) -> Deletion:
        """Delete it with all that stands on it. Raises HunchError while jobs work on it, or when
        registered plans depend on it; a project with registered plans is archived instead."""
        path = f"/{PATHS[type(thing)]}/{thing.id}"
        return Deletion.from_json(self.transport.send("DELETE", path))

    def deletions(self) -> Iterator[Deletion]:
        """What was deleted in your projects and can be restored, the newest first."""
        return self._all(Deletion, "/deletions")

    def restore(self, deletion: Deletion) -> None:
        """Bring it back with all that went with it."""
        self._post(f"/deletions/{deletion.id}/restore")
