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
    ProbeSet,
    Task,
)
from curation.queries.examples import ExampleFilter, ExampleTable
from curation.queries.influence_methods import TITLES
from curation.services import audit, jobs
from curation.services.pasted_examples import labelled_texts, prompts_and_completions
from curation.services.probe_sets import MAX_PROBE_EXAMPLES

LANGUAGE_TASKS = (Task.TEXT, Task.PROMPT_COMPLETION)
CLASSIFICATION_KINDS = (
    BehaviourKind.MEAN_MARGIN,
    BehaviourKind.MEAN_LOSS,
    BehaviourKind.LABEL_PROBABILITY,
)
LANGUAGE_KINDS = (
    BehaviourKind.COMPLETION_LOG_PROBABILITY,
    BehaviourKind.COMPLETION_MEAN_LOG_PROBABILITY,
    BehaviourKind.COMPLETION_PREFERENCE,
    BehaviourKind.TOKEN_CLASS_PROBABILITY,
    BehaviourKind.PERPLEXITY,
    BehaviourKind.MEAN_LOSS,
)
PASTED_ONLY = (BehaviourKind.COMPLETION_PREFERENCE, BehaviourKind.TOKEN_CLASS_PROBABILITY)
UNITS = {
    BehaviourKind.MEAN_LOSS: "nats",
    BehaviourKind.MEAN_MARGIN: "logits",
    BehaviourKind.LABEL_PROBABILITY: "probability",
    BehaviourKind.COMPLETION_LOG_PROBABILITY: "nats",
    BehaviourKind.COMPLETION_MEAN_LOG_PROBABILITY: "nats a token",
    BehaviourKind.COMPLETION_PREFERENCE: "nats",
    BehaviourKind.PERPLEXITY: "perplexity",
    BehaviourKind.TOKEN_CLASS_PROBABILITY: "probability",
}
LOWER_IS_BETTER = (BehaviourKind.MEAN_LOSS, BehaviourKind.PERPLEXITY)
SELECTIONS = ("all", "class", "slice", "examples", "probe_set", "pasted")


def kinds_for(task: str) -> tuple[BehaviourKind, ...]:
    """The kinds of behaviour that a dataset's task can show, the usual one first."""
    if task in LANGUAGE_TASKS:
        return LANGUAGE_KINDS
    return CLASSIFICATION_KINDS if task.endswith("classification") else (BehaviourKind.MEAN_LOSS,)


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
    `{"selection": "probe_set", "probe_set": id}`, whose examples are copied,
    `{"selection": "pasted", "examples": [{"text": …, "label": …}]}`; of a language model the
    pasted examples are as in `pasted_examples.prompts_and_completions`.

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
    if kind not in kinds_for(version.task):
        kinds = ", ".join(kinds_for(version.task))
        raise ValidationError({"kind": f"{version.get_task_display()} shows one of {kinds}."})
    if kind == BehaviourKind.LABEL_PROBABILITY and label not in version.classes:
        raise ValidationError({"label": "Choose the label whose probability is measured."})
    pasted = []
    if definition["selection"] == "pasted":
        definition = _pasted(definition, version.task, version.classes, kind)
        pasted = definition["examples"]
    elif kind in PASTED_ONLY:
        raise ValidationError({"definition": "Paste the prompts that it is measured on."})
    probe_set = None
    if definition["selection"] == "probe_set":
        probe_set = _probe_set(baseline, str(definition.get("probe_set", "")))
        definition = {
            "selection": "probe_set", "probe_set": str(probe_set.pk), "name": probe_set.name,
        }  # fmt: skip
    probe_indices = [] if pasted else _probe_indices(baseline, definition, probe_set)
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
        better=better or (Better.LOWER if kind in LOWER_IS_BETTER else Better.HIGHER),
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
        ValidationError: the method is unknown, or the baseline is not trained or has no behaviours.
    """
    if method not in TITLES:
        known = ", ".join(TITLES)
        raise ValidationError({"method": f"There is no method “{method}”. Known are: {known}."})
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


def _probe_set(baseline: Baseline, key: str) -> ProbeSet:
    try:
        return baseline.dataset_version.probe_sets.get(pk=key)
    except (ProbeSet.DoesNotExist, ValidationError):
        raise ValidationError(
            {"definition": "Choose a probe set of this dataset version."}
        ) from None


def _probe_indices(
    baseline: Baseline, definition: dict[str, Any], probe_set: ProbeSet | None
) -> list[int]:
    if probe_set is not None:
        return list(probe_set.probe_indices)
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


def _pasted(definition: dict[str, Any], task: str, classes: list[str], kind: str) -> dict[str, Any]:
    if task in LANGUAGE_TASKS:
        return prompts_and_completions(definition, kind)
    if task != Task.TEXT_CLASSIFICATION:
        raise ValidationError({"definition": "Only texts can be pasted."})
    return labelled_texts(definition, classes)
