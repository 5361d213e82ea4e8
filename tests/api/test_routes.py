"""What the routes do beyond access: pages, ETags, uploads, scores, edits, waiting, exports."""

import csv
import hashlib
import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from curation.models import Job, JobState, Project, Registration, Retrain, StoredFile, Upload
from curation.services import jobs, projects
from tests.api.world import TRAIN

pytestmark = pytest.mark.django_db


def content(answer):
    return b"".join(answer.streaming_content) if answer.streaming else answer.content


def test_pages_hold_every_item_once_while_items_are_added(api, world):
    for number in range(7):
        projects.create_project(name=f"p{number}", by=world.owner)
    names, cursor = [], ""
    while cursor is not None:
        page = api.get(f"/projects?limit=3&cursor={cursor}").data
        names += [item["name"] for item in page["items"]]
        cursor = page["next"]
        projects.create_project(name="late", by=world.owner)
    assert names == [f"p{number}" for number in reversed(range(7))] + ["World"]


@pytest.mark.parametrize(
    "cursor", ["x", "é", "W10", "WzFd", "WyJhIiwiYiJd", "W251bGwsbnVsbF0", "[" * 90]
)
def test_a_cursor_of_someone_elses_making_is_refused(api, cursor):
    answer = api.get(f"/projects?cursor={cursor}")
    assert answer.status_code == 422
    assert "cursor" in answer.data["detail"]


def test_what_did_not_change_costs_nothing(api, world):
    path = f"/recipes/{world.objects['recipe_id']}"
    first = api.get(path)
    again = api.get(path, If_None_Match=first["ETag"])
    assert (again.status_code, again.content) == (304, b"")
    job = f"/jobs/{world.job.pk}"
    tag = api.get(job)["ETag"]
    Job.objects.filter(pk=world.job.pk).update(done=5)
    assert api.get(job, If_None_Match=tag).status_code == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400), (b'{"name": NaN}', 400), (b'{"name": "a\\u0000"}', 400), (b"\xff", 400),
        (b'{"name": "\\ud800"}', 400), (b"[" * 5000, 400), (b'{"name": 1e999}', 400), (b"{}", 422),
        (b'{"name": " "}', 422), (b'{"name": 5}', 422), (b"null", 422), (b"[]", 422),
        (b'{"name": "' + b"x" * 11_000_000 + b'"}', 413),
    ],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_bodies_that_are_refused(api, body, status):
    answer = api.client.post(
        "/api/v1/projects", body, content_type="application/json", headers=api.headers
    )
    assert answer.status_code == status
    assert answer["Content-Type"] == "application/problem+json"
    assert Project.objects.count() == 1


def test_errors_name_field_and_rule(api, world):
    answer = api.post(
        f"/projects/{world.project.pk}/recipes", {"name": "r", "settings": {"epochs": 0}}
    )
    assert answer.data["errors"][0]["field"] == "body.settings.epochs"
    assert "greater than or equal to 1" in answer.data["errors"][0]["rule"]
    duplicate = api.post(f"/projects/{world.project.pk}/datasets", {"name": "sentences"})
    assert duplicate.status_code == 409


@pytest.mark.parametrize("path", ["/nothing", "/", "/projects/1/2/3"])
def test_unknown_addresses_answer_with_a_problem(api, path):
    answer = api.get(path)
    assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")


def test_other_methods_are_named(api):
    answer = api.send("DELETE", "/projects")
    assert answer.status_code == 405
    assert set(answer["Allow"].split(", ")) == {"GET", "POST"}


class TestUploads:
    def begin(self, api, world, data, **more):
        body = {"file_name": "a.jsonl", "size": len(data), **more}
        return api.post(f"/projects/{world.project.pk}/uploads", body)

    def test_parts_in_any_order_make_the_file(self, api, world, monkeypatch):
        monkeypatch.setattr("curation.services.uploads.PART_BYTES", 1000)
        data = np.random.default_rng(0).bytes(2500)
        sha256 = hashlib.sha256(data).hexdigest()
        upload = self.begin(api, world, data, sha256=sha256).data
        path = f"/uploads/{upload['id']}"
        for number in (3, 1, 1):
            api.send("PUT", f"{path}/parts/{number}", data[(number - 1) * 1000 : number * 1000])
        assert api.get(path).data["received"] == [1, 3]
        assert api.post(f"{path}/complete").status_code == 422
        api.send("PUT", f"{path}/parts/2", data[1000:2000])
        done = api.post(f"{path}/complete").data
        assert (done["complete"], done["sha256"]) == (True, sha256)
        assert StoredFile.objects.get(pk=sha256).size == 2500
        assert api.post(f"{path}/complete").data["complete"]

    def test_a_wrong_hash_is_refused_and_the_parts_stay(self, api, world):
        upload = self.begin(api, world, b"data", sha256="0" * 64).data
        api.send("PUT", f"/uploads/{upload['id']}/parts/1", b"data")
        answer = api.post(f"/uploads/{upload['id']}/complete")
        assert answer.status_code == 422
        assert answer.data["errors"][0]["field"] == "body.sha256"
        assert api.get(f"/uploads/{upload['id']}").data["received"] == [1]

    @pytest.mark.parametrize(("sent", "status"), [(b"dat", 422), (b"data!", 413)])
    def test_a_part_has_its_size(self, api, world, sent, status):
        upload = self.begin(api, world, b"data").data
        assert api.send("PUT", f"/uploads/{upload['id']}/parts/1", sent).status_code == status
        assert api.send("PUT", f"/uploads/{upload['id']}/parts/2", b"data").status_code == 422

    def test_open_uploads_count_against_the_quota(self, api, world):
        Project.objects.update(disk_quota_bytes=100_000)
        assert self.begin(api, world, b"x" * 60_000).status_code == 201
        refused = self.begin(api, world, b"x" * 60_000)
        assert refused.status_code == 413
        assert "room for" in refused.data["detail"]

    def test_a_completed_upload_becomes_a_version(self, api, world):
        upload = self.begin(api, world, b'{"text": "a"}').data
        path = f"/datasets/{world.dataset.pk}/versions"
        assert api.post(path, {"upload": upload["id"]}).status_code == 422
        api.send("PUT", f"/uploads/{upload['id']}/parts/1", b'{"text": "a"}')
        api.post(f"/uploads/{upload['id']}/complete")
        made = api.post(path, {"upload": upload["id"]})
        assert made.data["version"]["number"] == 2
        assert Job.objects.get(pk=made.data["job"]).kind == "inspect_dataset"
        api.send("DELETE", f"/uploads/{upload['id']}")
        assert not Upload.objects.filter(pk=upload["id"]).exists()


class TestScores:
    def test_top_examples_follow_the_better_direction(self, api, world):
        path = f"/influences/{world.influence.pk}/top?count=2&direction="
        helpful = api.get(path + "helpful").data
        assert [row["example_id"] for row in helpful] == [f"e{TRAIN - 1}", f"e{TRAIN - 2}"]
        assert api.get(path + "harmful").data == []

    def test_the_matrix_is_parquet_with_an_etag(self, api, world):
        path = f"/baselines/{world.baseline.pk}/scores.parquet"
        answer = api.get(path)
        table = pq.read_table(io.BytesIO(content(answer)))
        assert table.column("example_id").to_pylist() == [f"e{i}" for i in range(TRAIN)]
        scores = table.column("score: margin").to_numpy()
        np.testing.assert_allclose(scores, np.arange(TRAIN) / 100, rtol=1e-6)
        assert api.get(path, If_None_Match=answer["ETag"]).status_code == 304

    def test_slices_and_filters(self, api, world):
        part = api.get(f"/influences/{world.influence.pk}/scores?start=58&count=10").data
        assert (part["example_ids"], part["total"]) == (["e58", "e59"], TRAIN)
        assert part["scores"] == pytest.approx([0.58, 0.59])
        found = api.get(
            f"/influences/{world.influence.pk}/examples?label=up&attribute=source&value=s0"
            "&split=train&sort=influence&descending=true&limit=2"
        ).data
        assert [row["example_id"] for row in found["items"]] == ["e57", "e51"]
        assert found["items"][0]["attributes"] == {"source": "s0"}
        assert found["next"]
        unknown = api.get(f"/influences/{world.influence.pk}/examples?attribute=nothing")
        assert unknown.status_code == 422


class TestWhatIf:
    def test_it_is_the_sum_of_scores_and_saves_nothing(self, api, world):
        edits = [{"example_id": "e10", "weight": 0}, {"train_index": 20, "weight": 3}]
        (effect,) = api.post(f"/baselines/{world.baseline.pk}/what-if", {"edits": edits}).data
        assert effect["uncalibrated"] == pytest.approx(-0.10 + 2 * 0.20)
        assert effect["low"] <= effect["value"] <= effect["high"]
        assert not world.baseline.proposals.filter(name="what-if").exists()

    @pytest.mark.parametrize(
        "edits",
        [
            [{"example_id": "nothing", "weight": 0}],
            [{"example_id": "e70", "weight": 0}],
            [{"train_index": TRAIN, "weight": 0}],
            [{"weight": 0}],
            [{"example_id": "e1", "train_index": 1, "weight": 0}],
            [{"example_id": "e1", "weight": 0}, {"train_index": 1, "weight": 2}],
            [{"example_id": "e1", "weight": -1}],
            [{"example_id": "e1", "weight": 101}],
            [],
        ],
    )
    def test_edits_that_are_refused(self, api, world, edits):
        for path in (
            f"/baselines/{world.baseline.pk}/what-if",
            f"/proposals/{world.proposal.pk}/edits",
        ):
            answer = api.post(path, {"edits": edits})
            assert answer.status_code == 422
            assert answer.data["errors"]
        assert world.proposal.edits.count() == 2


def test_many_weights_are_one_step_of_undo(api, world):
    path = f"/proposals/{world.proposal.pk}"
    edits = [{"example_id": "e1", "weight": 0}, {"example_id": "e0", "weight": 3}]
    api.post(f"{path}/edits", {"edits": edits})
    listed = {row["example_id"]: row["weight"] for row in api.get(f"{path}/edits").data["items"]}
    assert listed == {"e0": 3, "e1": 0, "e3": 0}
    api.post(f"{path}/undo")
    listed = {row["example_id"]: row["weight"] for row in api.get(f"{path}/edits").data["items"]}
    assert listed == {"e0": 0, "e3": 0}


def test_values_of_retrains_are_hidden_until_the_plan_is_complete(api, world):
    Retrain.objects.create(
        registration=world.registration, arm="edited", seed=3, values={str(world.behaviour.pk): 1.5}
    )
    path = f"/registrations/{world.registration.pk}/retrains"
    for state in ("locked", "running", "abandoned"):
        Registration.objects.filter(pk=world.registration.pk).update(state=state)
        (retrain,) = api.get(path).data
        assert (retrain["values"], retrain["seed"]) == (None, 3)
    Registration.objects.filter(pk=world.registration.pk).update(state="complete")
    assert api.get(path).data[0]["values"] == {str(world.behaviour.pk): 1.5}


def test_a_frozen_proposal_refuses_edits(api, world):
    path = f"/proposals/{world.registration.proposal_id}/edits"
    answer = api.post(path, {"edits": [{"example_id": "e1", "weight": 0}]})
    assert answer.status_code == 422
    assert "frozen" in answer.data["detail"]


class TestJobs:
    def test_waiting_ends_with_the_job(self, api, world, monkeypatch):
        def end_it(seconds):
            Job.objects.filter(pk=world.job.pk).update(state=JobState.SUCCEEDED)

        monkeypatch.setattr("curation.api.jobs.time.sleep", end_it)
        assert api.get(f"/jobs/{world.job.pk}?wait=25").data["state"] == "succeeded"

    def test_any_change_ends_the_wait_for_one_who_says_what_was_seen(self, api, world, monkeypatch):
        seen = api.get(f"/jobs/{world.job.pk}").data["revision"]
        monkeypatch.setattr(
            "curation.api.jobs.time.sleep", lambda seconds: Job.objects.update(done=1)
        )
        after = api.get(f"/jobs/{world.job.pk}?wait=25&seen={seen}").data
        assert (after["done"], after["revision"] != seen) == (1, True)

    def test_cancel_log_and_retry(self, api, world):
        jobs.log(job=world.job, text="one")
        jobs.log(job=world.job, text="two")
        path = f"/jobs/{world.job.pk}"
        first = api.get(f"{path}/log?limit=1").data
        second = api.get(f"{path}/log?limit=1&cursor={first['next']}").data
        assert [first["items"][0]["text"], second["items"][0]["text"]] == ["one", "two"]
        assert api.post(f"{path}/retry").status_code == 422
        assert api.post(f"{path}/cancel").data["state"] == "cancelled"
        again = api.post(f"{path}/retry")
        assert (again.status_code, again.data["retry_of_id"]) == (202, str(world.job.pk))


class TestExports:
    def path(self, world, rest):
        return f"/proposals/{world.proposal.pk}/export/{rest}"

    def test_the_weighted_dataset(self, api, world):
        answer = api.get(self.path(world, "dataset"))
        table = pq.read_table(io.BytesIO(content(answer)))
        assert table.num_rows == TRAIN + 20 - 2
        assert {"example_id", "text", "label", "source", "weight"} <= set(table.column_names)
        kept = api.get(self.path(world, "dataset?keep_removed=true&format=jsonl"))
        rows = [json.loads(line) for line in content(kept).splitlines()]
        assert {row["example_id"] for row in rows if row["weight"] == 0} == {"e0", "e3"}

    def test_cells_of_csv_never_start_a_formula(self, api, world):
        answer = api.get(self.path(world, "dataset?format=csv&keep_removed=true"))
        rows = list(csv.DictReader(io.StringIO(content(answer).decode())))
        assert rows[3]["text"] == "'=1+1"

    def test_edits_and_issues(self, api, world):
        rows = list(csv.reader(io.StringIO(content(api.get(self.path(world, "edits"))).decode())))
        assert rows == [
            ["example_id", "train_index", "weight"],
            ["e0", "0", "0.0"],
            ["e3", "3", "0.0"],
        ]
        answer = api.get(self.path(world, f"issues?influence={world.influence.pk}"))
        issues = list(csv.DictReader(io.StringIO(content(answer).decode())))
        assert len(issues) == TRAIN
        assert [r["example_id"] for r in issues if r["is_influence_issue"] == "True"] == [
            "e0",
            "e3",
        ]
        assert float(issues[0]["influence_score"]) == 0
        assert float(issues[-1]["influence_score"]) == 1

    def test_the_snippet_is_python_whatever_the_proposal_is_called(self, api, world):
        type(world.proposal).objects.filter(pk=world.proposal.pk).update(name='x"""\nimport os #')
        source = content(api.get(self.path(world, "sampler.py"))).decode()
        tree = compile(source, "sampler.py", "exec")
        assert "os" not in tree.co_names


def test_the_documentation_needs_no_inline_script(client, settings):
    plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": plain}
    page = client.get("/api/v1/docs")
    assert page.status_code == 200
    html = page.content.decode()
    assert "<script>" not in html
    assert "http://" not in html
    assert "https://" not in html
    assert "'unsafe-inline'" not in page["Content-Security-Policy"]


@pytest.mark.parametrize("cached_rows", [0, 200_000])
def test_edits_are_resolved_alike_for_small_and_large_datasets(
    api, world, monkeypatch, cached_rows
):
    """Ids of small datasets are kept in memory; those of large ones are looked up in the file."""
    monkeypatch.setattr("curation.queries.scores.CACHED_ROWS", cached_rows)
    edits = [{"example_id": "e7", "weight": 2}, {"train_index": 8, "weight": 2}]
    api.post(f"/proposals/{world.proposal.pk}/edits", {"edits": edits})
    listed = api.get(f"/proposals/{world.proposal.pk}/edits").data["items"]
    found = {row["example_id"]: row["train_index"] for row in listed}
    assert found == {"e0": 0, "e3": 3, "e7": 7, "e8": 8}
