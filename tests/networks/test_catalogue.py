"""The web forms repeat the registry of networks, and must say the same."""

from __future__ import annotations

import pytest

from curation.web.forms.architectures import NETWORKS
from workers.training.networks.registry import ARCHITECTURES, UPLOADED


def test_the_forms_offer_every_built_in_network():
    assert {network.name for network in NETWORKS} == set(ARCHITECTURES) - set(UPLOADED)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_a_form_and_the_registry_agree(network):
    entry = ARCHITECTURES[network.name]
    assert (network.title, network.explanation) == (entry.title, entry.explanation)
    assert {str(task) for task in network.tasks} == set(entry.tasks)
    for offered in network.settings:
        setting = entry.setting(offered.name)
        assert setting is not None and not setting.from_data
        assert (offered.kind, offered.default) == (setting.kind, setting.default)
        assert (offered.minimum, offered.maximum) == (setting.minimum, setting.maximum)
        assert offered.choices == setting.choices
