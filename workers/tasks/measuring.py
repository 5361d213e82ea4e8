"""Behaviour values of trained parameters, as the database keeps them: behaviour id to value."""

from torch import Tensor

from curation.models import BankRetrain, Baseline, Behaviour, Registration
from workers.influence.behaviours import behaviour_prompt_values, behaviour_values
from workers.tasks.loading import LoadedBaseline, load_parameters, measured_behaviours
from workers.training.parameters import ParameterLayout


def active_behaviours(baseline: Baseline) -> list[Behaviour]:
    return list(baseline.behaviours.filter(archived_at=None).select_related("baseline__model"))


def planned_behaviours(registration: Registration) -> list[Behaviour]:
    """In the order of the plan's predictions."""
    keys = [entry["behaviour"] for entry in registration.plan["predictions"]]
    found = {str(pk): behaviour for pk, behaviour in Behaviour.objects.in_bulk(keys).items()}
    return [found[key] for key in keys]


def measure_parameters(
    loaded: LoadedBaseline, behaviours: list[Behaviour], parameters: Tensor
) -> list[dict[str, float]]:
    """One dictionary for each row of `parameters` (R, P)."""
    if not behaviours:
        return [{} for _ in parameters]
    network = loaded.problem.build_network(0).to(loaded.problem.device)
    layout = ParameterLayout.of(network)
    measured = measured_behaviours(loaded, behaviours)
    keys = [str(behaviour.pk) for behaviour in behaviours]
    return [
        dict(zip(keys, behaviour_values(measured, network, layout, flat).tolist(), strict=True))
        for flat in parameters
    ]


def measure_prompts(
    loaded: LoadedBaseline, behaviours: list[Behaviour], flat: Tensor
) -> dict[str, list[float]]:
    """The value of each behaviour on each of its pasted examples alone, at θ `flat` (P,)."""
    if not behaviours:
        return {}
    network = loaded.problem.build_network(0).to(loaded.problem.device)
    layout = ParameterLayout.of(network)
    measured = measured_behaviours(loaded, behaviours)
    rows = behaviour_prompt_values(measured, network, layout, flat)
    return {str(one.pk): row.tolist() for one, row in zip(behaviours, rows, strict=True)}


def measure_baseline(
    baseline: Baseline, loaded: LoadedBaseline, behaviours: list[Behaviour]
) -> None:
    """Save each behaviour's value on every run of the baseline, with that of each pasted example
    alone, and on the bank's kept retrains."""
    values: dict[str, dict[str, float]] = {str(behaviour.pk): {} for behaviour in behaviours}
    pasted = [behaviour for behaviour in behaviours if behaviour.pasted_examples]
    each: dict[str, dict[str, list[float]]] = {str(behaviour.pk): {} for behaviour in pasted}
    for run in baseline.runs.select_related("parameters_file"):
        flat = load_parameters(run.parameters_file)
        for key, value in measure_parameters(loaded, behaviours, flat[None])[0].items():
            values[key][str(run.seed)] = value
        for key, row in measure_prompts(loaded, pasted, flat).items():
            each[key][str(run.seed)] = row
    for behaviour in behaviours:
        key = str(behaviour.pk)
        Behaviour.objects.filter(pk=behaviour.pk).update(
            values=values[key], prompt_values=each.get(key, {})
        )
    retrains = baseline.bank_retrains.exclude(parameters_file=None).select_related(
        "parameters_file"
    )
    for retrain in retrains:
        assert retrain.parameters_file is not None
        flat = load_parameters(retrain.parameters_file)
        retrain.values |= measure_parameters(loaded, behaviours, flat[None])[0]
        BankRetrain.objects.filter(pk=retrain.pk).update(values=retrain.values)
