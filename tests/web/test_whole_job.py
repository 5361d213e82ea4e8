"""The whole job through the forms, as a person without JavaScript does it, with real workers."""

import json
import random
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from curation.models import Behaviour, Project, Proposal, Registration
from tests.running import run_jobs

WORDS = {"up": ["good", "fine", "glad", "warm"], "down": ["bad", "poor", "sad", "cold"]}
TRAIN, PROBE = 90, 40


def upload() -> SimpleUploadedFile:
    """Sentences of two moods; every ninth train label is wrong."""
    draw, lines = random.Random(0), []
    for number in range(TRAIN + PROBE):
        label = draw.choice(["up", "down"])
        text = " ".join([*draw.choices(WORDS[label], k=4), "day", str(number)])
        split = "train" if number < TRAIN else "test"
        if split == "train" and number % 9 == 0:
            label = {"up": "down", "down": "up"}[label]
        lines.append(json.dumps({"id": f"s{number}", "text": text, "mood": label, "split": split}))
    return SimpleUploadedFile("moods.jsonl", "\n".join(lines).encode())


def send(browser: Client, address: str, **values: Any) -> str:
    """Fill a form in and send it; where that leads. A form shown again fails with its errors."""
    answer = browser.post(address, values, follow=True)
    text = answer.content.decode()
    assert answer.status_code == 200, text[text.find("errorlist") - 200 :][:2000]
    assert 'class="message message-error"' not in text, text[text.find("message-error") :][:400]
    return str(answer.redirect_chain[-1][0]) if answer.redirect_chain else address


@pytest.mark.usefixtures("people")
def test_from_an_upload_to_a_verdict(owner: Client) -> None:
    here = send(owner, "/projects/new/", name="Moods", description="Which labels are wrong?")
    project = Project.objects.get()

    version = send(owner, f"{here}datasets/new/", name="Sentences", file=upload())
    assert "Being" in page(owner, version) or "inspected" in page(owner, version)
    run_jobs(project)
    assert "Map the columns" in page(owner, version)

    columns = {
        "task": "text_classification", "text": "text", "label": "mood", "split": "split",
        "example_id": "id", "probe_fraction": "0.2",
    }  # fmt: skip
    send(owner, f"{version}columns/", **columns)
    run_jobs(project)
    assert f"<dd>{TRAIN}</dd>" in page(owner, version)
    assert "Browse the examples" in page(owner, version)

    send(owner, f"{here}models/new/", name="Bag", network="bag_of_embeddings")
    recipe = {
        "optimizer": "adamw", "learning_rate": "0.01", "schedule": "constant", "warmup_steps": "0",
        "batch_size": "16", "epochs": "2", "weight_decay": "0.01", "dropout": "0",
    }  # fmt: skip
    send(owner, f"{here}recipes/new/", name="Short", **recipe)
    baseline = send(
        owner,
        f"{here}baselines/new/",
        name="First",
        dataset_version=project.datasets.get().versions.get().pk,
        model=project.models.get().pk,
        recipe=project.recipes.get().pk,
        number_of_seeds="2",
    )
    run_jobs(project)
    trained = page(owner, baseline)
    assert "Learning curve" in trained
    assert "Accuracy, probe" in trained

    send(owner, f"{baseline}behaviours/classes/")
    pasted = {"selection": "pasted", "pasted": "up, a warm day\ndown, a cold day"}
    send(owner, f"{baseline}behaviours/new/", name="Weather", kind="mean_margin", **pasted)
    assert Behaviour.objects.count() == 4
    send(owner, f"{baseline}attribute/")
    run_jobs(project)
    behaviour = Behaviour.objects.get(name="up: margin")
    assert "Most harmful" in page(owner, f"/behaviours/{behaviour.pk}/")

    listing = f"{version}examples/?behaviour={behaviour.pk}&sort=influence&order=up&split=train"
    assert "harms" in page(owner, listing)

    workbench = send(
        owner, f"{baseline}proposals/new/", name="Drop five", hypothesis="They are mislabelled."
    )
    chosen = {"behaviour": behaviour.pk, "which": "harmful", "count": "5", "weight": "0"}
    assert "Not saved" in owner.get(f"{workbench}what-if/", chosen).content.decode()
    assert Proposal.objects.get().edits.count() == 0
    send(owner, f"{workbench}most/", **chosen)
    assert Proposal.objects.get().edits.count() == 5
    assert "hypothesis, not a guarantee" in page(owner, workbench)

    send(owner, f"{workbench}predict/", next="register")
    plan = {"primary_behaviour": behaviour.pk, "number_of_seeds": "2", "smallest_effect": "0"}
    test = send(owner, f"{workbench}register/", level="0.9", **plan)
    send(owner, f"{test}start/")
    assert "0 of 6 retrains finished" in page(owner, test)
    assert owner.get(f"{test}report/").status_code == 404
    run_jobs(project)

    verdict = page(owner, test)
    assert "Actual, edited against unedited" in verdict
    assert "Placebo" in verdict
    report = owner.get(f"{test}report.json").json()
    assert len(report["retrains"]) == 6
    assert report["plan_sha256"] == Registration.objects.get().plan_sha256
    assert "predictions checked" in page(owner, f"{here}track-record/")


def page(browser: Client, address: str) -> str:
    answer = browser.get(address)
    assert answer.status_code == 200
    return answer.content.decode()
