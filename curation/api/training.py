"""Models, recipes and baselines: what is trained and how."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from django.http import HttpRequest
from ninja import File, Form, Query, Schema, UploadedFile
from pydantic import Field

from curation.api import uploads
from curation.api.pagination import Input, Name, Page, PageQuery, newest_first
from curation.api.router import ApiRouter
from curation.models import (
    Baseline,
    BaselineState,
    DatasetVersion,
    Model,
    ModelState,
    Project,
    Recipe,
    Scope,
)
from curation.queries.access import Right, get_for
from curation.services import training_setup
from curation.services.uploads import room_for

router = ApiRouter(tags=["Training"])
TrainedPart = Literal["all", "last_layers", "head", "lora"]
ModelUse = Literal["classifier", "language_model"]
MAX_MODEL_FILES = 50


class BuiltInModelIn(Input):
    name: Name
    architecture: dict[str, Any] = Field(
        description="The network's name and settings; what is left out takes its default.",
        examples=[{"name": "mlp", "hidden": [64]}],
    )


class UploadedSettings(Input):
    """What is left out takes its default; the last three are of language models."""

    last_layers: int | None = Field(None, ge=1, le=128)
    maximum_length: int | None = Field(None, ge=2, le=8_192, description="In tokens.")
    lora_rank: int | None = Field(None, ge=1, le=512)
    loss_on: Literal["completion", "all"] | None = Field(
        None, description="Which tokens of a prompt and its completion are learnt."
    )
    chat: Literal["template", "plain"] | None = Field(
        None, description="Whether chat messages go through the tokenizer's own template."
    )


class UploadedModelIn(Input):
    name: Name
    use: ModelUse = "classifier"
    trained_part: TrainedPart | None = Field(
        None,
        description="Left out, a classifier trains its `head` and a language model trains `all`.",
    )
    settings: UploadedSettings | None = None
    files: dict[str, UUID] = Field(
        min_length=1,
        max_length=MAX_MODEL_FILES,
        description="File name, such as `model.safetensors`, to a completed upload.",
    )


class ModelOut(Schema):
    id: UUID
    project_id: UUID
    name: str
    architecture: dict[str, Any]
    files: dict[str, str]
    state: ModelState
    summary: dict[str, Any]
    error: str
    created_at: datetime


class StartedModel(Schema):
    model: ModelOut
    job: UUID = Field(description="The job that checks the files.")


class RecipeSettings(Input):
    """Everything besides data and model that makes training deterministic."""

    optimizer: Literal["sgd", "adamw"] = "adamw"
    learning_rate: float = Field(1e-3, gt=0, le=100)
    momentum: float = Field(0.9, ge=0, lt=1)
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.999, ge=0, lt=1)
    epsilon: float = Field(1e-6, gt=0, le=1)
    weight_decay: float = Field(0.01, ge=0, le=100)
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: int = Field(10, ge=0, le=10_000_000)
    batch_size: int = Field(32, ge=1, le=65_536)
    epochs: int = Field(10, ge=1, le=10_000)
    trained_part: TrainedPart = "all"
    micro_batch_size: int = Field(
        0, ge=0, le=65_536, description="Examples at once; 0 for the whole batch. Saves memory."
    )
    recompute_activations: bool = Field(
        False, description="Compute activations again on the way back. Saves memory, costs time."
    )
    dropout: float = Field(0.0, ge=0, lt=1)
    precision: Literal["float32", "float64", "mixed_bfloat16"] = "float32"


class RecipeIn(Input):
    name: Name
    settings: RecipeSettings = RecipeSettings.model_validate({})


class RecipeOut(Schema):
    id: UUID
    project_id: UUID
    name: str
    settings: dict[str, Any]
    created_at: datetime


class BaselineIn(Input):
    name: Name
    dataset_version: UUID
    model: UUID
    recipe: UUID
    number_of_seeds: int = Field(4, ge=1, le=training_setup.MAX_BASELINE_SEEDS)


class BaselineOut(Schema):
    id: UUID
    project_id: UUID
    name: str
    dataset_version_id: UUID
    model_id: UUID
    recipe_id: UUID
    seeds: list[int]
    state: BaselineState
    replayable: bool
    warnings: list[Any]
    summary: dict[str, Any]
    error: str
    created_at: datetime


class StartedBaseline(Schema):
    baseline: BaselineOut
    job: UUID


class RunOut(Schema):
    id: UUID
    seed: int
    metrics: dict[str, Any]
    learning_curve: list[Any]
    seconds: float


class NamedQuery(PageQuery):
    name: str = Field("", max_length=120, description="Keeps the one with exactly this name.")


def _named(rows: Any, query: NamedQuery) -> dict[str, Any]:
    return newest_first(rows.filter(name=query.name) if query.name else rows.all(), query)


@router.read("/projects/{project_id}/models", response=Page[ModelOut])
def list_models(request: HttpRequest, project_id: UUID, query: Query[NamedQuery]) -> dict[str, Any]:
    return _named(get_for(Project, project_id, request.user).models, query)


@router.create("/projects/{project_id}/models", response={201: ModelOut})
def create_model(request: HttpRequest, project_id: UUID, body: BuiltInModelIn) -> Model:
    """Make a model from a built-in network."""
    project = get_for(Project, project_id, request.user, Right.WRITE)
    return training_setup.create_model(
        project=project, name=body.name, architecture=body.architecture, by=request.user
    )


@router.create("/projects/{project_id}/models/uploaded", response={201: StartedModel})
def create_uploaded_model(
    request: HttpRequest, project_id: UUID, body: UploadedModelIn
) -> dict[str, Any]:
    """Make a model from completed uploads: `config.json`, safetensors weights, tokenizer files."""
    project = get_for(Project, project_id, request.user, Right.WRITE)
    files = {
        name: uploads.completed(upload, request.user, project)[1].sha256
        for name, upload in body.files.items()
    }
    model, job = training_setup.upload_model(
        project=project,
        name=body.name,
        files=files,
        use=body.use,
        trained_part=body.trained_part or "",
        settings=body.settings.model_dump(exclude_none=True) if body.settings else None,
        by=request.user,
    )
    return {"model": model, "job": job.pk}


@router.create("/projects/{project_id}/models/files", response={201: StartedModel})
def upload_model(
    request: HttpRequest,
    project_id: UUID,
    files: File[list[UploadedFile]],
    name: Form[Name],
    use: Form[ModelUse] = "classifier",
    trained_part: Form[TrainedPart | None] = None,
) -> dict[str, Any]:
    """Make a model from the files of a form: one call, not resumable."""
    project = get_for(Project, project_id, request.user, Right.WRITE)
    files = files[:MAX_MODEL_FILES]
    with room_for(project=project, size=sum(file.size or 0 for file in files)):
        stored = {file.name or "": uploads.stored(file.chunks()).sha256 for file in files}
        model, job = training_setup.upload_model(
            project=project,
            name=name,
            files=stored,
            use=use,
            trained_part=trained_part or "",
            by=request.user,
        )
    return {"model": model, "job": job.pk}


@router.read("/models/{model_id}", response=ModelOut)
def show_model(request: HttpRequest, model_id: UUID) -> Model:
    return get_for(Model, model_id, request.user)


@router.read("/projects/{project_id}/recipes", response=Page[RecipeOut])
def list_recipes(
    request: HttpRequest, project_id: UUID, query: Query[NamedQuery]
) -> dict[str, Any]:
    return _named(get_for(Project, project_id, request.user).recipes, query)


@router.create("/projects/{project_id}/recipes", response={201: RecipeOut})
def create_recipe(request: HttpRequest, project_id: UUID, body: RecipeIn) -> Recipe:
    """Make a recipe; it never changes afterwards."""
    project = get_for(Project, project_id, request.user, Right.WRITE)
    return training_setup.create_recipe(
        project=project, name=body.name, settings=body.settings.model_dump(), by=request.user
    )


@router.read("/recipes/{recipe_id}", response=RecipeOut)
def show_recipe(request: HttpRequest, recipe_id: UUID) -> Recipe:
    return get_for(Recipe, recipe_id, request.user)


@router.read("/projects/{project_id}/baselines", response=Page[BaselineOut], tags=["Baselines"])
def list_baselines(
    request: HttpRequest, project_id: UUID, query: Query[NamedQuery]
) -> dict[str, Any]:
    return _named(get_for(Project, project_id, request.user).baselines, query)


@router.create(
    "/projects/{project_id}/baselines",
    response={202: StartedBaseline},
    tags=["Baselines"],
    scope=Scope.RUN,
)
def train_baseline(request: HttpRequest, project_id: UUID, body: BaselineIn) -> dict[str, Any]:
    """Make a baseline and start its training."""
    project = get_for(Project, project_id, request.user, Right.WRITE)
    baseline, job = training_setup.create_baseline(
        project=project,
        name=body.name,
        dataset_version=get_for(
            DatasetVersion, body.dataset_version, request.user, dataset__project=project
        ),
        model=get_for(Model, body.model, request.user, project=project),
        recipe=get_for(Recipe, body.recipe, request.user, project=project),
        number_of_seeds=body.number_of_seeds,
        by=request.user,
    )
    return {"baseline": baseline, "job": job.pk}


@router.read("/baselines/{baseline_id}", response=BaselineOut, tags=["Baselines"])
def show_baseline(request: HttpRequest, baseline_id: UUID) -> Baseline:
    return get_for(Baseline, baseline_id, request.user)


@router.read("/baselines/{baseline_id}/runs", response=list[RunOut], tags=["Baselines"])
def list_runs(request: HttpRequest, baseline_id: UUID) -> Any:
    """The finished training run of each seed, with its learning curve."""
    return get_for(Baseline, baseline_id, request.user).runs.all()
