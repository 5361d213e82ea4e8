"""What Hunch advises: edits worth a test, labels worth a look, the method that predicts best.

All of it is hypotheses to look at and test, never changes.
"""

from collections.abc import Iterator, Mapping

from hunch_client.jobs import Jobs, JobWatcher, no_watcher
from hunch_client.records import (
    Baseline,
    Behaviour,
    LikelyLabelError,
    MethodChoice,
    Model,
    Project,
    Proposal,
    SuggestedEdit,
    Suggestion,
    TrackRecord,
)


class Advice(Jobs):
    def suggest(
        self,
        behaviour: Behaviour,
        *,
        number_of_edits: int = 40,
        new_weight: float = 0.0,
        guards: Mapping[str, float] | None = None,
        method: str = "replay",
        watcher: JobWatcher = no_watcher,
    ) -> Suggestion:
        """Search for at most so many edits that should improve the behaviour most.

        `guards` are other behaviours, by id, that must not get worse by more than this, in their
        unit. Returns when the search has ended; raises JobFailed if it failed.
        """
        body = {
            "number_of_edits": number_of_edits,
            "new_weight": new_weight,
            "guards": [
                {"behaviour": key, "tolerance": value} for key, value in (guards or {}).items()
            ],
            "method": method,
        }
        started = self._post(f"/behaviours/{behaviour.id}/suggestions", body)
        self.wait_for(started["job"], watcher=watcher)
        return self.suggestion(started["suggestion"]["id"])

    def suggestion(self, suggestion_id: str) -> Suggestion:
        return Suggestion.from_json(self._get(f"/suggestions/{suggestion_id}"))

    def suggested_edits(self, suggestion: Suggestion) -> Iterator[SuggestedEdit]:
        """The most helpful first."""
        pages = self.transport.pages(f"/suggestions/{suggestion.id}/edits", limit=200)
        return (SuggestedEdit.from_json(item) for item in pages)

    def propose_suggestion(
        self, suggestion: Suggestion, name: str, *, hypothesis: str = ""
    ) -> Proposal:
        """A draft proposal of the suggested edits, to look at, change and test."""
        body = {"name": name, "hypothesis": hypothesis}
        return Proposal.from_json(self._post(f"/suggestions/{suggestion.id}/proposal", body))

    def check_labels(
        self,
        baseline: Baseline,
        *,
        count: int = 100,
        encoder: Model | None = None,
        watcher: JobWatcher = no_watcher,
    ) -> list[LikelyLabelError]:
        """The training examples whose label is most likely wrong, the worst first.

        `encoder`, an uploaded model, lets the check look at each text's neighbours by its features.
        A baseline is checked once, and once more with an encoder; later calls read what was found.
        """
        path = f"/baselines/{baseline.id}/label-check"
        found = self._get(path, count=count)
        if found is None or (encoder is not None and found["encoder"] != encoder.id):
            body = {} if encoder is None else {"encoder": encoder.id}
            self.wait_for(self._post(path, body)["job"], watcher=watcher)
            found = self._get(path, count=count)
        return [LikelyLabelError.from_json(one) for one in found["likely_errors"]]

    def method_choices(self, baseline: Baseline) -> list[MethodChoice]:
        """Which method predicts each behaviour best on held-out edits of the bank, and why."""
        found = self._get(f"/baselines/{baseline.id}/method-choices")
        return [MethodChoice.from_json(one) for one in found]

    def extend_bank(
        self,
        baseline: Baseline,
        *,
        number_of_edits: int = 48,
        seeds_per_edit: int = 2,
        watcher: JobWatcher = no_watcher,
    ) -> None:
        """Retrain with further known edits, so that predictions rest on more evidence."""
        body = {"number_of_edits": number_of_edits, "seeds_per_edit": seeds_per_edit}
        started = self._post(f"/baselines/{baseline.id}/bank", body)
        self.wait_for(started["job"], watcher=watcher)

    def track_record(self, of: Project | Baseline) -> TrackRecord:
        """How the predictions of a project or baseline fared against retraining."""
        kind = "projects" if isinstance(of, Project) else "baselines"
        return TrackRecord.from_json(self._get(f"/{kind}/{of.id}/track-record"))
