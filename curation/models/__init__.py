"""One file a noun; the words are those of docs/vocabulary.md."""

from curation.models.audit import AuditEntry
from curation.models.bank import BankEdit, BankRetrain, Calibration
from curation.models.base import Deletable
from curation.models.baseline import Baseline, BaselineRun, BaselineState
from curation.models.behaviour import Behaviour, BehaviourKind, Better
from curation.models.dataset import Dataset, DatasetVersion, Task, VersionState
from curation.models.deletion import Deletion
from curation.models.example_values import ExampleValues
from curation.models.idempotency import IdempotentRequest
from curation.models.influence import Influence
from curation.models.job import ENDED, Job, JobKind, JobLogLine, JobState
from curation.models.ladder import Ladder
from curation.models.method_choice import MethodChoices
from curation.models.model import Model, ModelState
from curation.models.prediction import Estimate, Prediction, Question
from curation.models.probe_set import ProbeSet
from curation.models.project import Membership, Project, Role
from curation.models.proposal import Edit, EditBatch, Proposal, ProposalState
from curation.models.recipe import Recipe
from curation.models.registration import Arm, Deviation, Registration, RegistrationState, Retrain
from curation.models.stored_file import StoredFile
from curation.models.suggestion import LabelCheck, Suggestion
from curation.models.token import Scope, Token
from curation.models.token_influence import TokenInfluence
from curation.models.upload import Upload, UploadPart
from curation.models.verdict import Outcome, Verdict
from curation.models.webhook import DeliveryState, Webhook, WebhookDelivery, WebhookEvent

__all__ = [
    "ENDED",
    "Arm",
    "AuditEntry",
    "BankEdit",
    "BankRetrain",
    "Baseline",
    "BaselineRun",
    "BaselineState",
    "Behaviour",
    "BehaviourKind",
    "Better",
    "Calibration",
    "Dataset",
    "DatasetVersion",
    "Deletable",
    "Deletion",
    "DeliveryState",
    "Deviation",
    "Edit",
    "EditBatch",
    "Estimate",
    "ExampleValues",
    "IdempotentRequest",
    "Influence",
    "Job",
    "JobKind",
    "JobLogLine",
    "JobState",
    "LabelCheck",
    "Ladder",
    "Membership",
    "MethodChoices",
    "Model",
    "ModelState",
    "Outcome",
    "Prediction",
    "ProbeSet",
    "Project",
    "Proposal",
    "ProposalState",
    "Question",
    "Recipe",
    "Registration",
    "RegistrationState",
    "Retrain",
    "Role",
    "Scope",
    "StoredFile",
    "Suggestion",
    "Task",
    "Token",
    "TokenInfluence",
    "Upload",
    "UploadPart",
    "Verdict",
    "VersionState",
    "Webhook",
    "WebhookDelivery",
    "WebhookEvent",
]
