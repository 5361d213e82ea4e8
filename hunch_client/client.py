"""The client: one method for each step of the job, from a dataset to the verdict."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hunch_client.advice import Advice
from hunch_client.deletions import Deletions
from hunch_client.errors import HunchError
from hunch_client.jobs import JobWatcher, no_watcher
from hunch_client.records import (
    Baseline,
    Behaviour,
    Dataset,
    Effect,
    Influence,
    Model,
    Project,
    Proposal,
    Recipe,
    Registration,
    Retrain,
    Verdict,
    Version,
)
from hunch_client.sources import as_file
from hunch_client.uploading import Progress, no_progress, upload_file

Weights = Mapping[str, float]


class Hunch(Advice, Deletions):
    """A site and a token. Use it as a context manager, or call `close`.

    Methods that start a job return when it has ended, unless `wait=False`; they raise JobFailed if
    it failed. Every method raises HunchError with the server's own words when it is refused.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self.transport.close()

    # Datasets and models

    def push_dataset(
        self,
        project: Project,
        name: str,
        source: Any,
        *,
        mapping: Mapping[str, Any] | None = None,
        progress: Progress = no_progress,
        watcher: JobWatcher = no_watcher,
    ) -> Version:
        """Upload a file, folder or frame as the next version of the dataset, and import it.

        The dataset is made if there is none of this name. `mapping` says which column plays which
        part; what it leaves out is taken from the server's suggestion.
        """
        try:
            dataset = self.dataset(project, name)
        except HunchError as error:
            if error.status != 404:
                raise
            made = self._post(f"/projects/{project.id}/datasets", {"name": name})
            dataset = Dataset.from_json(made)
        with as_file(source) as path:
            upload = upload_file(self.transport, project.id, path, progress=progress)
        started = self._post(f"/datasets/{dataset.id}/versions", {"upload": upload})
        self.wait_for(started["job"], watcher=watcher)
        version = self.version(started["version"]["id"])
        suggested = version.inspection.get("suggested_mapping") or {}
        if not suggested and not mapping:
            raise HunchError(
                "The columns explain no task by themselves; say which is which (mapping)."
            )
        wanted = dict(mapping or {})
        if wanted.get("task", suggested.get("task")) != suggested.get("task"):
            suggested = {}
        columns = {**suggested, **wanted}
        known = {column: value for column, value in columns.items() if value is not None}
        imported = self._post(f"/versions/{version.id}/import", known)
        self.wait_for(imported["job"], watcher=watcher)
        return self.version(version.id)

    def version(self, version_id: str) -> Version:
        return Version.from_json(self._get(f"/versions/{version_id}"))

    def latest_version(self, dataset: Dataset) -> Version:
        """The newest version that is ready."""
        for item in self.transport.pages(f"/datasets/{dataset.id}/versions"):
            if item["state"] == "ready":
                return Version.from_json(item)
        raise HunchError(f"The dataset {dataset.name} has no version that is ready.", 404)

    def create_model(self, project: Project, name: str, architecture: Mapping[str, Any]) -> Model:
        """A built-in network, such as `{"name": "mlp", "hidden": [64]}`."""
        body = {"name": name, "architecture": dict(architecture)}
        return Model.from_json(self._post(f"/projects/{project.id}/models", body))

    def push_model(
        self,
        project: Project,
        name: str,
        folder: Path,
        *,
        use: str = "classifier",
        trained_part: str | None = None,
        settings: Mapping[str, Any] | None = None,
        progress: Progress = no_progress,
        watcher: JobWatcher = no_watcher,
    ) -> Model:
        """Upload a folder of `config.json`, safetensors weights and tokenizer files; check it.
        `use` is "classifier" or "language_model"; left out, `trained_part` is the usual one."""
        paths = sorted(path for path in folder.iterdir() if path.is_file())
        total = sum(path.stat().st_size for path in paths)
        files, before = {}, 0
        for path in paths:
            files[path.name] = upload_file(
                self.transport,
                project.id,
                path,
                progress=lambda done, _, before=before: progress(before + done, total),  # type: ignore[misc]
            )
            before += path.stat().st_size
        body = {
            "name": name,
            "use": use,
            "trained_part": trained_part,
            "settings": dict(settings or {}),
            "files": files,
        }
        started = self._post(f"/projects/{project.id}/models/uploaded", body)
        self.wait_for(started["job"], watcher=watcher)
        return Model.from_json(self._get(f"/models/{started['model']['id']}"))

    def create_recipe(self, project: Project, name: str, settings: Mapping[str, Any]) -> Recipe:
        body = {"name": name, "settings": dict(settings)}
        return Recipe.from_json(self._post(f"/projects/{project.id}/recipes", body))

    # From baseline to verdict

    def train_baseline(
        self,
        project: Project,
        name: str,
        *,
        version: Version,
        model: Model,
        recipe: Recipe,
        number_of_seeds: int = 4,
        wait: bool = True,
        watcher: JobWatcher = no_watcher,
    ) -> Baseline:
        body = {
            "name": name,
            "dataset_version": version.id,
            "model": model.id,
            "recipe": recipe.id,
            "number_of_seeds": number_of_seeds,
        }
        started = self._post(f"/projects/{project.id}/baselines", body)
        if wait:
            self.wait_for(started["job"], watcher=watcher)
        return Baseline.from_json(self._get(f"/baselines/{started['baseline']['id']}"))

    def add_behaviour(
        self,
        baseline: Baseline,
        name: str,
        kind: str,
        definition: Mapping[str, Any],
        *,
        label: str = "",
        better: str | None = None,
    ) -> Behaviour:
        """`definition` says which probe examples are read, such as `{"selection": "all"}`."""
        body = {
            "name": name,
            "kind": kind,
            "definition": dict(definition),
            "label": label,
            "better": better,
        }
        return Behaviour.from_json(self._post(f"/baselines/{baseline.id}/behaviours", body))

    def compute_influence(
        self,
        baseline: Baseline,
        *,
        method: str = "replay",
        wait: bool = True,
        watcher: JobWatcher = no_watcher,
    ) -> list[Influence]:
        """Compute the scores that are missing; afterwards predictions take milliseconds."""
        started = self._post(f"/baselines/{baseline.id}/influence", {"method": method})
        if wait:
            self.wait_for(started["job"], watcher=watcher)
        return self.influences(baseline, method=method)

    def influences(self, baseline: Baseline, *, method: str = "replay") -> list[Influence]:
        found = self._get(f"/baselines/{baseline.id}/influence", method=method)
        return [Influence.from_json(one) for one in found]

    def top_examples(
        self, influence: Influence, *, direction: str = "harmful", count: int = 50
    ) -> list[dict[str, Any]]:
        """The most harmful or helpful training examples, with text and score."""
        found: list[dict[str, Any]] = self._get(
            f"/influences/{influence.id}/top", direction=direction, count=count
        )
        return found

    def what_if(
        self, baseline: Baseline, weights: Weights, *, method: str | None = None
    ) -> list[Effect]:
        """Predict at once what new weights (by example id) would change; nothing is saved. Without
        `method` each behaviour by the one, or the combination, that held-out edits speak for."""
        body = {"edits": _edits(weights), "method": method}
        found = self._post(f"/baselines/{baseline.id}/what-if", body)
        return [Effect.from_json(one) for one in found]

    def propose(
        self, baseline: Baseline, name: str, weights: Weights, *, hypothesis: str = ""
    ) -> Proposal:
        """A proposal with these edits: example id to new weight, 0 removes, 3 triples."""
        body = {"name": name, "hypothesis": hypothesis}
        made = self._post(f"/baselines/{baseline.id}/proposals", body)
        return self.set_edits(Proposal.from_json(made), weights)

    def set_edits(self, proposal: Proposal, weights: Weights) -> Proposal:
        made = self._post(f"/proposals/{proposal.id}/edits", {"edits": _edits(weights)})
        return Proposal.from_json(made)

    def predict(self, proposal: Proposal, *, method: str | None = None) -> list[Effect]:
        """Predict every scored behaviour for the proposal, and save it; `method` as in
        `what_if`."""
        found = self._post(f"/proposals/{proposal.id}/predictions", {"method": method})
        return [Effect.from_json(one) for one in found]

    def register(
        self,
        proposal: Proposal,
        primary: Behaviour,
        *,
        number_of_seeds: int = 8,
        smallest_effect: float = 0.0,
        level: float = 0.9,
    ) -> Registration:
        """Lock the plan of the test. It can never be changed afterwards."""
        body = {
            "primary_behaviour": primary.id,
            "number_of_seeds": number_of_seeds,
            "smallest_effect": smallest_effect,
            "level": level,
        }
        return Registration.from_json(self._post(f"/proposals/{proposal.id}/registrations", body))

    def retrain(
        self, registration: Registration, *, wait: bool = True, watcher: JobWatcher = no_watcher
    ) -> Registration:
        """Run the confirmatory retrains; a test that already runs is only waited for."""
        if registration.state == "locked":
            started = self._post(f"/registrations/{registration.id}/start")
            jobs: list[str] = started["jobs"]
        else:
            where = Project(registration.project_id, "")
            found = self.jobs(where, target=registration.id, kind="retrain")
            jobs = [job.id for job in found if not job.has_ended]
        if wait:
            for job in jobs:
                self.wait_for(job, watcher=watcher)
        return self.registration(registration.id)

    def verdicts(self, registration: Registration) -> list[Verdict]:
        """Predicted beside actual, one verdict a behaviour; empty until the plan is complete."""
        found = self._get(f"/registrations/{registration.id}/verdicts")
        return [Verdict.from_json(one) for one in found]

    def sign_off(self, registration: Registration) -> list[Verdict]:
        """Confirm, as a reviewer who did not register it, that a test was run as registered."""
        found = self._post(f"/registrations/{registration.id}/sign-off")
        return [Verdict.from_json(one) for one in found]

    def invalidate(self, registration: Registration, reason: str) -> list[Verdict]:
        """Declare a test invalid, as a reviewer. It stays in the track record, as invalidated."""
        found = self._post(f"/registrations/{registration.id}/invalidate", {"reason": reason})
        return [Verdict.from_json(one) for one in found]

    def abandon(self, registration: Registration, reason: str) -> Registration:
        """Give a test up. It stays in the track record, as abandoned."""
        made = self._post(f"/registrations/{registration.id}/abandon", {"reason": reason})
        return Registration.from_json(made)

    def retrains(self, registration: Registration) -> list[Retrain]:
        """The retrains that have finished; their values are None until the plan is complete."""
        found = self._get(f"/registrations/{registration.id}/retrains")
        return [Retrain.from_json(one) for one in found]

    def review_retrain(self, retrain: Retrain, *, accepted: bool, reason: str) -> Retrain:
        """Invalidate the result of one retrain, or accept it again, as a reviewer."""
        body = {"accepted": accepted, "reason": reason}
        return Retrain.from_json(self._post(f"/retrains/{retrain.id}/review", body))

    def export(
        self,
        proposal: Proposal,
        target: Path,
        *,
        what: str = "dataset",
        file_format: str = "parquet",
    ) -> Path:
        """Write an export to `target`: `dataset`, `edits`, `issues` or `sampler`.

        The file appears only when it is whole.
        """
        aside = target.with_name(f".{target.name}.part")
        address = f"/proposals/{proposal.id}/export/{'sampler.py' if what == 'sampler' else what}"
        query = {} if what == "sampler" else {"format": file_format}
        try:
            with aside.open("wb") as stream:
                self.transport.download(address, stream.write, **query)
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)
        return target


def removals(example_ids: Iterable[str]) -> dict[str, float]:
    """Edits that remove these training examples."""
    return dict.fromkeys(example_ids, 0.0)


def _edits(weights: Weights) -> list[dict[str, Any]]:
    return [{"example_id": example_id, "weight": weight} for example_id, weight in weights.items()]
