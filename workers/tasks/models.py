"""The job that checks an uploaded model before anything of it is used."""

from curation.models import Model, ModelState
from curation.services.files import work_folder
from workers.formats.models import ModelLimits, inspect_model_folder
from workers.tasks.handler import Handler
from workers.tasks.loading import model_folder
from workers.tasks.report import JobReport


class CheckModel(Handler):
    def run(self, report: JobReport) -> None:
        model = Model.objects.get(pk=self.job.target_id)
        report.stage("Checking the model's files")
        with work_folder() as parent:
            folder = model_folder(model, parent)
            assert folder is not None
            summary = inspect_model_folder(
                folder,
                ModelLimits(),
                trial=True,
                language_model=model.architecture["name"] == "uploaded_language_model",
            )
        Model.objects.filter(pk=model.pk).update(
            state=ModelState.READY, summary=summary.to_json(), error=""
        )
