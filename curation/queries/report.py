"""One test as plain data: the plan, every retrain, every verdict, and how to repeat it."""

from typing import Any

from curation.models import Registration


def report_of(registration: Registration) -> dict[str, Any]:
    """Everything about an ended test, ready for JSON. Call it only when the test has ended."""
    proposal = registration.proposal
    return {
        "statement": "A prediction is a hypothesis, not a guarantee; the retrains decide.",
        "project": registration.project.name,
        "proposal": proposal.name,
        "hypothesis": proposal.hypothesis,
        "state": registration.state,
        "ended_reason": registration.ended_reason,
        "plan_sha256": registration.plan_sha256,
        "plan": registration.plan,
        "registered_at": registration.created_at.isoformat(),
        "registered_by": registration.locked_by.get_username(),
        "started_at": registration.started_at and registration.started_at.isoformat(),
        "ended_at": registration.ended_at and registration.ended_at.isoformat(),
        "edits": [
            {"example_id": example_id, "weight": weight}
            for example_id, weight in proposal.edits.order_by("train_index").values_list(
                "example_id", "weight"
            )
        ],
        "retrains": [
            {"arm": r.arm, "seed": r.seed, "values": r.values, "accepted": r.accepted}
            for r in registration.retrains.order_by("seed", "arm")
        ],
        "deviations": [
            {"at": d.created_at.isoformat(), "description": d.description}
            for d in registration.deviations.all()
        ],
        "verdicts": [
            {
                "behaviour": verdict.behaviour.name,
                "unit": verdict.behaviour.unit,
                "primary": verdict.behaviour_id == registration.primary_behaviour_id,
                "outcome": verdict.outcome,
                "reason": verdict.reason,
                "predicted": [verdict.predicted, verdict.predicted_low, verdict.predicted_high],
                "actual": [verdict.actual, verdict.actual_low, verdict.actual_high],
                "placebo": [verdict.placebo, verdict.placebo_low, verdict.placebo_high],
                "p_value": verdict.p_value,
                "adjusted_p_value": verdict.adjusted_p_value,
            }
            for verdict in registration.verdicts.select_related("behaviour")
        ],
    }
