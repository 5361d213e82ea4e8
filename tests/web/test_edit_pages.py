"""Editing a proposal from the pages: ticked rows, everything that matches, what-if, undo."""

import pytest
from django.test import Client

from curation.models import AuditEntry
from curation.services import proposals
from tests.api.world import World


def edits_of(world: World) -> dict[str, float]:
    return dict(world.proposal.edits.values_list("example_id", "weight"))


def address(world: World) -> str:
    return f"/versions/{world.version.pk}/examples/edit/"


def test_ticked_examples_get_the_weight(world: World, owner: Client) -> None:
    chosen = {"proposal": world.proposal.pk, "scope": "ticked", "example": ["e5", "e6"]}
    owner.post(address(world), chosen | {"action": "weight", "weight": "3"})
    assert edits_of(world) == {"e0": 0.0, "e3": 0.0, "e5": 3.0, "e6": 3.0}


def test_all_matching_means_every_page_of_the_shown_filter(world: World, owner: Client) -> None:
    page = owner.get(f"/versions/{world.version.pk}/examples/?attribute_source=s1&label=up")
    assert "All 14 matching, on every page" in page.content.decode()
    chosen = {"proposal": world.proposal.pk, "scope": "all", "action": "remove"}
    owner.post(address(world), chosen | {"attribute_source": "s1", "label": "up"})
    expected = {f"e{n}" for n in range(60) if n % 3 == 1 and n % 2 == 1}
    assert set(edits_of(world)) == expected | {"e0", "e3"}


def test_probe_examples_are_never_edited(world: World, owner: Client) -> None:
    chosen = {"proposal": world.proposal.pk, "scope": "ticked", "example": ["e70"]}
    text = owner.post(address(world), chosen | {"action": "remove"}, follow=True).content.decode()
    assert "None of these examples is in the train split" in text
    assert set(edits_of(world)) == {"e0", "e3"}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"action": "remove"}, "Tick at least one example"),
        ({"action": "weight", "weight": "many", "example": "e5"}, "as a number"),
        ({"action": "weight", "weight": "101", "example": "e5"}, "between 0 and 100"),
        ({"action": "weight", "weight": "nan", "example": "e5"}, "between 0 and 100"),
        ({"action": "remove", "example": "e5", "proposal": ""}, "Choose the proposal"),
    ],
)
def test_what_is_missing_is_said_and_nothing_is_written(
    world: World, owner: Client, values: dict[str, str], says: str
) -> None:
    sent = {"proposal": str(world.proposal.pk), "scope": "ticked"} | values
    assert says in owner.post(address(world), sent, follow=True).content.decode()
    assert set(edits_of(world)) == {"e0", "e3"}


def test_an_unknown_column_or_a_draft_of_other_data_does_not_exist(
    world: World, owner: Client
) -> None:
    chosen = {"proposal": world.proposal.pk, "scope": "all", "action": "remove"}
    assert owner.post(address(world), chosen | {"attribute_other": "x"}).status_code == 404
    listing = f"/versions/{world.version.pk}/examples/"
    assert owner.get(listing, {"attribute_other": "x"}).status_code == 404


def test_nobody_is_sent_to_another_site(world: World, owner: Client) -> None:
    chosen = {"proposal": world.proposal.pk, "scope": "ticked", "example": "e5", "action": "remove"}
    answer = owner.post(address(world), chosen | {"next": "https://example.com/"})
    assert answer["Location"].startswith("/versions/")


def test_the_most_harmful_examples_are_those_with_the_lowest_scores(
    world: World, owner: Client
) -> None:
    """Scores rise with the train index and higher is better: harmful ones would be negative."""
    most = f"/proposals/{world.proposal.pk}/most/"
    chosen = {"behaviour": world.behaviour.pk, "which": "helpful", "count": 2, "weight": 3}
    owner.post(most, chosen)
    assert edits_of(world) == {"e0": 0.0, "e3": 0.0, "e59": 3.0, "e58": 3.0}


def test_what_if_shows_the_prediction_of_both_and_writes_nothing(
    world: World, owner: Client
) -> None:
    """e0 and e3 go: −0.00 − 0.03; e58 and e59 tripled: 2 · (0.58 + 0.59)."""
    chosen = {"behaviour": world.behaviour.pk, "which": "helpful", "count": 2, "weight": 3}
    before = AuditEntry.objects.count()
    shown = owner.get(
        f"/proposals/{world.proposal.pk}/what-if/", chosen, headers={"HX-Request": "true"}
    )
    text = shown.content.decode()
    assert "<html" not in text
    assert "4 edits in all" in " ".join(text.split())
    assert AuditEntry.objects.count() == before
    assert set(edits_of(world)) == {"e0", "e3"}


def test_a_weight_of_one_takes_the_edit_away_and_undo_brings_it_back(
    world: World, owner: Client
) -> None:
    here = f"/proposals/{world.proposal.pk}/"
    owner.post(f"{here}weight/", {"example": "e3", "train_index": 3, "weight": 1})
    assert set(edits_of(world)) == {"e0"}
    owner.post(f"{here}undo/")
    assert set(edits_of(world)) == {"e0", "e3"}
    owner.post(f"{here}clear/")
    assert edits_of(world) == {}


def test_a_weight_form_that_names_another_example_does_not_exist(
    world: World, owner: Client
) -> None:
    here = f"/proposals/{world.proposal.pk}/weight/"
    answer = owner.post(here, {"example": "e4", "train_index": 3, "weight": 0})
    assert answer.status_code == 404


def test_a_frozen_proposal_refuses_edits_in_words(world: World, owner: Client) -> None:
    proposals.freeze(proposal=world.proposal, by=world.owner)
    text = owner.post(f"/proposals/{world.proposal.pk}/clear/", follow=True).content.decode()
    assert "frozen" in text
    assert set(edits_of(world)) == {"e0", "e3"}


def test_the_page_keeps_its_state_in_the_address(world: World, owner: Client) -> None:
    listing = f"/versions/{world.version.pk}/examples/"
    state = {"behaviour": str(world.behaviour.pk), "sort": "influence", "order": "down"}
    text = owner.get(listing, state | {"split": "train", "q": "number 1"}).content.decode()
    order = [text.index(f"sentence number {n}<") for n in (19, 18, 1)]
    assert order == sorted(order)
    assert "take away" in text


def test_the_comparison_shows_shared_edits_and_each_change(world: World, owner: Client) -> None:
    copy = proposals.copy(proposal=world.proposal, name="and one more", by=world.owner)
    proposals.set_weights(proposal=copy, examples=[(9, "e9")], weight=0, by=world.owner)
    chosen = {"proposal": [world.proposal.pk, copy.pk]}
    answer = owner.get(f"/projects/{world.project.pk}/proposals/compare/", chosen)
    page = " ".join(answer.content.decode().split())
    assert "2 edits shared by all" in page
    assert "1 of its own" in page


def test_the_export_holds_every_edit(world: World, owner: Client) -> None:
    answer = owner.get(f"/proposals/{world.proposal.pk}/export/")
    text = b"".join(answer.streaming_content).decode()  # type: ignore[attr-defined]
    assert [line.split(",")[0] for line in text.splitlines()] == ["example_id", "e0", "e3"]
