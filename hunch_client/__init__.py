"""Python client of the Hunch API: `Hunch(address, token)`. The `hunch` command stands on it."""

from hunch_client.client import Hunch
from hunch_client.errors import HunchError, JobFailed
from hunch_client.records import (
    Baseline,
    Behaviour,
    Dataset,
    Deletion,
    Effect,
    Influence,
    Job,
    LikelyLabelError,
    MethodChoice,
    Model,
    Project,
    Proposal,
    Recipe,
    Registration,
    Retrain,
    SuggestedEdit,
    Suggestion,
    TrackRecord,
    Verdict,
    Version,
)
from hunch_client.webhooks import verify_webhook

__all__ = [
    "Baseline",
    "Behaviour",
    "Dataset",
    "Deletion",
    "Effect",
    "Hunch",
    "HunchError",
    "Influence",
    "Job",
    "JobFailed",
    "LikelyLabelError",
    "MethodChoice",
    "Model",
    "Project",
    "Proposal",
    "Recipe",
    "Registration",
    "Retrain",
    "SuggestedEdit",
    "Suggestion",
    "TrackRecord",
    "Verdict",
    "Version",
    "verify_webhook",
]
