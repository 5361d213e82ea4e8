"""A filter of the examples becomes a behaviour that reads the probe examples which match."""

import re
from html import unescape

import pytest

from curation.models import Behaviour
from curation.queries.examples import ExampleFilter
from curation.web.example_listing import slice_query

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("query", "reads"),
    [("label=up", 10), ("q=number+7", 10), ("attribute_source=s1&q=number+7", 4)],
)
def test_what_is_shown_is_what_the_behaviour_reads(owner, world, query, reads):
    version = world.version.pk
    shown = owner.get(f"/versions/{version}/examples/?split=probe&{query}")
    assert shown.context["total"] == reads
    address = unescape(re.search(r'href="([^"]+behaviours/new/[^"]+)"', shown.content.decode())[1])
    form = owner.get(address).context["form"]
    values = {name: form[name].value() or "" for name in form.fields} | {"name": "of the slice"}
    assert owner.post(address.partition("?")[0], values).status_code == 302
    assert len(Behaviour.objects.get(name="of the slice").probe_indices) == reads


def test_a_viewer_is_offered_nothing(browser_of, world):
    page = browser_of("viewer").get(f"/versions/{world.version.pk}/examples/?label=up")
    assert b"behaviours/new" not in page.content


@pytest.mark.parametrize(
    "wanted",
    [
        ExampleFilter(),
        ExampleFilter(split="train"),
        ExampleFilter(label="up", search="x"),
        ExampleFilter(attributes={"attribute_a": "1", "attribute_b": "2"}),
    ],
)
def test_a_filter_that_no_behaviour_can_have_is_not_offered(wanted):
    assert slice_query(wanted) == ""
