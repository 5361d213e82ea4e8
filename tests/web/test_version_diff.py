"""The difference of two versions, and a proposal that becomes a version."""

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.test import Client

from curation.models import DatasetVersion, VersionState
from curation.queries.version_diff import diff_of, rows_of
from curation.services import datasets, files, proposals
from tests.api.world import World, parquet_of_examples
from tests.running import run_jobs


@pytest.fixture
def second(world: World, tmp_path: Any) -> DatasetVersion:
    """The world's examples without e0, with e1 relabelled, e2 rewritten, e70 moved, e80 added."""
    (tmp_path / "base.parquet").write_bytes(parquet_of_examples())
    rows = pq.read_table(tmp_path / "base.parquet").to_pylist()
    rows[1]["label"], rows[2]["text"], rows[70]["split"] = "down", "another text", "train"
    rows.append({**rows[0], "example_id": "e80", "position": 80})
    pq.write_table(pa.Table.from_pylist(rows[1:]), tmp_path / "target.parquet")
    stored = files.store_path(path=tmp_path / "target.parquet")
    return DatasetVersion.objects.create(
        dataset=world.dataset,
        number=2,
        parent=world.version,
        state=VersionState.READY,
        file_name="second.parquet",
        examples_file=stored,
        task=world.version.task,
        classes=world.version.classes,
        content_sha256=stored.sha256,
        train_count=61,
        probe_count=19,
        created_by=world.owner,
    )


def test_every_kind_is_counted_and_the_rest_is_unchanged(
    world: World, second: DatasetVersion
) -> None:
    diff = diff_of(world.version, second)
    assert diff.counts == {"removed": 1, "added": 1, "relabelled": 1, "rewritten": 1, "moved": 1}
    assert diff.unchanged == 80 - 4
    assert {name: (a, b) for name, a, b in diff.classes} == {"down": (30, 32), "up": (30, 29)}


def test_swapping_base_and_target_swaps_added_and_removed(
    world: World, second: DatasetVersion
) -> None:
    there, back = diff_of(world.version, second), diff_of(second, world.version)
    assert there.counts["added"] == back.counts["removed"]
    assert [
        r["example_id"] for r in rows_of(world.version, second, "added", offset=0, limit=9)
    ] == [r["example_id"] for r in rows_of(second, world.version, "removed", offset=0, limit=9)]


def test_lists_show_before_and_after(world: World, second: DatasetVersion) -> None:
    (row,) = rows_of(world.version, second, "relabelled", offset=0, limit=9)
    assert (row["example_id"], row["answer_before"], row["answer_after"]) == ("e1", "up", "down")


def test_the_page_names_base_and_target_and_shows_each_tab(
    world: World, second: DatasetVersion, owner: Client
) -> None:
    address = f"/versions/{second.pk}/diff/"
    page = owner.get(address).content.decode()
    assert "sentences v1" in page
    assert "sentences v2" in page
    rewritten = owner.get(address, {"show": "rewritten"}).content.decode()
    assert "another text" in rewritten
    assert "sentence number 2" in rewritten
    assert owner.get(address, {"show": "nonsense"}).status_code == 404


def test_a_base_of_another_dataset_does_not_exist(
    world: World, second: DatasetVersion, owner: Client
) -> None:
    other = datasets.create_dataset(project=world.project, name="other", by=world.owner)
    stranger = DatasetVersion.objects.create(
        dataset=other, number=1, file_name="x", created_by=world.owner
    )
    answer = owner.get(f"/versions/{second.pk}/diff/", {"base": str(stranger.pk)})
    assert answer.status_code == 404
    assert owner.get(f"/versions/{second.pk}/diff/", {"base": "what"}).status_code == 404


def test_a_proposal_becomes_the_next_version_with_its_lineage(world: World, owner: Client) -> None:
    proposals.set_weights(proposal=world.proposal, examples=[(4, "e4")], weight=2, by=world.owner)
    answer = owner.post(f"/proposals/{world.proposal.pk}/apply/")
    world.job.delete()
    run_jobs(world.project)
    version = DatasetVersion.objects.get(number=2)
    assert answer["Location"] == f"/versions/{version.pk}/"
    assert version.state == VersionState.READY
    assert version.error == ""
    assert (version.parent, version.from_proposal) == (world.version, world.proposal)
    assert version.train_count == 60 - 2 + 1
    diff = diff_of(world.version, version)
    assert (diff.counts["removed"], diff.counts["added"]) == (2, 1)
    world.proposal.refresh_from_db()
    assert world.proposal.state == "frozen"


def test_a_weight_that_is_no_number_of_rows_cannot_be_applied(world: World, owner: Client) -> None:
    proposals.set_weights(proposal=world.proposal, examples=[(4, "e4")], weight=0.5, by=world.owner)
    page = owner.post(f"/proposals/{world.proposal.pk}/apply/", follow=True).content.decode()
    assert "0.5 cannot be written as rows" in page
    assert DatasetVersion.objects.count() == 1
