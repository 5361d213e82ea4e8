"""Behaviours: choose the probe examples, the kind and the better direction. Measuring is a
worker's job."""

from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from curation.models import (
    Baseline,
    BaselineState,
    Behaviour,
    BehaviourKind,
    Better,
    Job,
    JobKind,
    Task,
)
from curation.queries.examples import ExampleFilter, ExampleTable
from curation.services import audit, jobs

UNITS = {
    BehaviourKind.MEAN_LOSS: "nats",
    BehaviourKind.MEAN_MARGIN: "logits",
    BehaviourKind.LABEL_PROBABILITY: "probability",
    BehaviourKind.COMPLETION_LOG_PROBABILITY: "nats",
}
BETTER = {
    BehaviourKind.MEAN_LOSS: Better.LOWER,
    BehaviourKind.MEAN_MARGIN: Better.HIGHER,
    BehaviourKind.LABEL_PROBABILITY: Better.HIGHER,
    BehaviourKind.COMPLETION_LOG_PROBABILITY: Better.HIGHER,
}
SELECTIONS = ("all", "class", "slice", "examples", "pasted")
MAX_PROBE_EXAMPLES = 100_000
MAX_PASTED = 500


@transaction.atomic
def add_behaviour(
    *,
    baseline: Baseline,
    name: str,
    kind: str,
    definition: dict[str, Any],
    by: Any,
    better: str = "",
    label: str = "",
) -> Behaviour:
    """A behaviour over probe examples.

    `definition` is one of `{"selection": "all"}`, `{"selection": "class", "label": …}`,
    `{"selection": "slice", "attribute": …, "value": …}`,
    `{"selection": "examples", "example_ids": […]}`,
    `{"selection": "pasted", "examples": [{"text": …, "label": …}]}`.

    Raises:
        ValidationError: naming the field and the rule.
    """
    version = baseline.dataset_version
    if definition.get("selection") not in SELECTIONS:
        raise ValidationError(
            {"definition": f"The selection must be one of {', '.join(SELECTIONS)}."}
        )
    if kind not in BehaviourKind.values:
        raise ValidationError({"kind": "Unknown kind of behaviour."})
    if kind == BehaviourKind.LABEL_PROBABILITY and label not in version.classes:
        raise ValidationError({"label": "Choose the label whose probability is measured."})
    pasted = _pasted(definition, version.classes) if definition["selection"] == "pasted" else []
    probe_indices = [] if pasted else _probe_indices(baseline, definition)
    Baseline.objects.select_for_update().get(pk=baseline.pk)
    behaviour = Behaviour(
        baseline=baseline,
        name=name.strip(),
        kind=kind,
        definition=definition,
        label=label if kind == BehaviourKind.LABEL_PROBABILITY else "",
        probe_indices=probe_indices,
        pasted_examples=pasted,
        unit=unit_of(baseline, kind),
        better=better or BETTER[BehaviourKind(kind)],
        position=baseline.behaviours.count(),
        created_by=by,
    )
    behaviour.full_clean()
    behaviour.save()
    audit.record(action="behaviour added", actor=by, project=baseline.project, target=behaviour)
    return behaviour


def unit_of(baseline: Baseline, kind: str) -> str:
    """The unit of a behaviour. Regression networks learn the target in standard deviations of the
    train split, so that their squared error is a share of the target's variance."""
    if baseline.dataset_version.task != Task.TABULAR_REGRESSION:
        return UNITS[BehaviourKind(kind)]
    standardised = baseline.model.architecture.get("standardise_target", True)
    return "target variances" if standardised else "squared target units"


@transaction.atomic
def attribute(*, baseline: Baseline, by: Any, method: str = "replay") -> Job:
    """Send the baseline's behaviours that lack scores by this method to be attributed.

    Raises:
        ValidationError: the baseline is not trained or has no behaviours.
    """
    if baseline.state != BaselineState.READY:
        raise ValidationError("The baseline is not trained yet.")
    if not baseline.behaviours.filter(archived_at=None).exists():
        raise ValidationError("Define at least one behaviour first.")
    return jobs.enqueue(
        project=baseline.project,
        kind=JobKind.ATTRIBUTE,
        target_id=baseline.pk,
        payload={"method": method},
        created_by=by,
    )


def _probe_indices(baseline: Baseline, definition: dict[str, Any]) -> list[int]:
    selection = definition["selection"]
    if selection == "class":
        wanted = ExampleFilter(label=str(definition.get("label", "")))
        if wanted.label not in baseline.dataset_version.classes:
            raise ValidationError({"definition": "Choose one of the dataset's classes."})
    elif selection == "slice":
        wanted = ExampleFilter(
            search=str(definition.get("search", "")),
            label=str(definition.get("label", "")),
            attributes={definition["attribute"]: str(definition.get("value", ""))}
            if definition.get("attribute")
            else {},
        )
    elif selection == "examples":
        wanted = ExampleFilter(example_ids=tuple(map(str, definition.get("example_ids", []))))
        if not wanted.example_ids:
            raise ValidationError({"definition": "Name at least one example id."})
    else:
        wanted = ExampleFilter()
    with ExampleTable(baseline.dataset_version) as table:
        try:
            found = table.select(wanted, split="probe")
        except KeyError as error:
            raise ValidationError(
                {"definition": f"The dataset has no attribute {error}."}
            ) from error
    if not found:
        raise ValidationError(
            {"definition": "No probe example matches; behaviours read the probe split only."}
        )
    if len(found) > MAX_PROBE_EXAMPLES:
        raise ValidationError(
            {
                "definition": f"{len(found):,} probe examples match; the limit is "
                f"{MAX_PROBE_EXAMPLES:,}."
            }
        )
    return [index for index, _ in found]


def _pasted(definition: dict[str, Any], classes: list[str]) -> list[dict[str, str]]:
    examples = definition.get("examples", [])
    if not 1 <= len(examples) <= MAX_PASTED:
        raise ValidationError({"definition": f"Paste between 1 and {MAX_PASTED} examples."})
    for number, example in enumerate(examples, start=1):
        if not str(example.get("text", "")).strip():
            raise ValidationError({"definition": f"Example {number}: the text is empty."})
        if example.get("label") not in classes:
            raise ValidationError(
                {"definition": f"Example {number}: the label is not one of {', '.join(classes)}."}
            )
    return [{"text": str(example["text"]), "label": str(example["label"])} for example in examples]
