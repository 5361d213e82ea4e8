"""Jobs on dataset versions: inspect an upload for the mapping page, import it to the canonical
Parquet."""

from pathlib import Path
from typing import Any

from curation.models import DatasetVersion, VersionState
from curation.queries.example_index import open_index
from curation.services.files import local_path, store_path, work_folder
from workers.formats.applying import apply_weights
from workers.formats.column_mapping import ColumnMapping
from workers.formats.content import DatasetPart
from workers.formats.guarded import import_guarded, inspect_guarded
from workers.formats.limits import DatasetLimits
from workers.formats.resource_guard import ResourceLimits
from workers.tasks.handler import Handler
from workers.tasks.report import JobReport


class _OnVersion(Handler):
    @property
    def version(self) -> DatasetVersion:
        found: DatasetVersion = DatasetVersion.objects.select_related(
            "source_file", "dataset__project", "from_proposal", "parent__examples_file"
        ).get(pk=self.job.target_id)
        return found

    def parts(self, version: DatasetVersion) -> list[DatasetPart]:
        assert version.source_file is not None
        return [DatasetPart(local_path(version.source_file), version.file_name)]

    def update(self, **values: Any) -> None:
        DatasetVersion.objects.filter(pk=self.job.target_id).exclude(
            state=VersionState.READY
        ).update(**values)


class InspectDataset(_OnVersion):
    def run(self, report: JobReport) -> None:
        version = self.version
        report.stage("Inspecting the file")
        inspection = inspect_guarded(self.parts(version), DatasetLimits(), ResourceLimits())
        self.update(state=VersionState.INSPECTED, inspection=inspection, error="")


class ImportDataset(_OnVersion):
    def run(self, report: JobReport) -> None:
        version = self.version
        report.stage("Importing examples")
        with work_folder() as folder:
            output = folder / "examples.parquet"
            summary = self._written(version, output, report)
            examples_file = store_path(path=output)
        self.update(
            state=VersionState.READY,
            examples_file=examples_file,
            task=summary["task"],
            classes=summary["classes"],
            content_sha256=summary["content_sha256"],
            train_count=summary["train_rows"],
            probe_count=summary["probe_rows"],
            summary=summary,
            error="",
        )
        report.stage("Preparing the pages")
        open_index(examples_file)

    def _written(self, version: DatasetVersion, output: Path, report: JobReport) -> dict[str, Any]:
        """Write the version's examples, from its upload or from the proposal that made it."""
        if version.from_proposal is None:
            return import_guarded(
                self.parts(version),
                ColumnMapping.from_json(version.column_mapping),
                DatasetLimits(),
                output,
                ResourceLimits(),
                progress=report,
            )
        assert version.parent is not None
        assert version.parent.examples_file is not None
        weights = dict(version.from_proposal.edits.values_list("train_index", "weight"))
        source = local_path(version.parent.examples_file)
        return apply_weights(source, weights, output, DatasetLimits(), progress=report)
