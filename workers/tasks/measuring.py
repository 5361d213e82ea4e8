"""Behaviour values of trained parameters, as the database keeps them: behaviour id to value."""

from torch import Tensor

from curation.models import BankRetrain, Baseline, Behaviour, Registration
from workers.influence.behaviours import behaviour_values
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
    network = loaded.problem.build_network(0)
    layout = ParameterLayout.of(network)
    measured = measured_behaviours(loaded, behaviours)
    keys = [str(behaviour.pk) for behaviour in behaviours]
    return [
        dict(zip(keys, behaviour_values(measured, network, layout, flat).tolist(), strict=True))
        for flat in parameters
    ]


def measure_baseline(
    baseline: Baseline, loaded: LoadedBaseline, behaviours: list[Behaviour]
) -> None:
    """Save each behaviour's value on every run of the baseline, and on the bank's kept retrains."""
    values: dict[str, dict[str, float]] = {str(behaviour.pk): {} for behaviour in behaviours}
    for run in baseline.runs.select_related("parameters_file"):
        flat = load_parameters(run.parameters_file)
        for key, value in measure_parameters(loaded, behaviours, flat[None])[0].items():
            values[key][str(run.seed)] = value
    for behaviour in behaviours:
        Behaviour.objects.filter(pk=behaviour.pk).update(values=values[str(behaviour.pk)])
    retrains = baseline.bank_retrains.exclude(parameters_file=None).select_related(
        "parameters_file"
    )
    for retrain in retrains:
        assert retrain.parameters_file is not None
        flat = load_parameters(retrain.parameters_file)
        retrain.values |= measure_parameters(loaded, behaviours, flat[None])[0]
        BankRetrain.objects.filter(pk=retrain.pk).update(values=retrain.values)
