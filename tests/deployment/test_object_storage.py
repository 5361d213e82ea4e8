"""The compose file for object storage lies on top of the first one and keeps to the same rules."""

import re
from typing import Any

import pytest
import yaml
from django.core.management import get_commands

from tests.deployment.commands import ROOT, compose
from tests.deployment.test_files import OURS, PINNED, SECRET, check_compose

TOP = yaml.safe_load((ROOT / "docker/compose.object-storage.yaml").read_text())


def merged(below: Any, above: Any) -> Any:
    """As compose merges files: mappings by key, lists one after the other, else the upper value."""
    if isinstance(below, dict) and isinstance(above, dict):
        keys = dict.fromkeys([*below, *above])
        return {key: merged(below.get(key), above.get(key)) for key in keys}
    if isinstance(below, list) and isinstance(above, list):
        return [*below, *(one for one in above if one not in below)]
    return below if above is None else above


@pytest.fixture(scope="module")
def both() -> dict[str, Any]:
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", yaml.safe_dump(merged(compose(), TOP)))
    return {name: part for name, part in yaml.safe_load(text).items() if not name.startswith("x-")}


def test_both_files_together_keep_to_the_compose_specification(both: dict[str, Any]) -> None:
    check_compose(both)


def test_everything_of_ours_that_touches_files_uses_the_bucket(both: dict[str, Any]) -> None:
    known = (ROOT / "curation/settings.py").read_text()
    for name in set(OURS) - {"migrate"}:
        environment = both["services"][name]["environment"]
        given = {variable for variable in environment if variable.startswith("S3_")}
        assert {"S3_BUCKET", "S3_ENDPOINT_URL", "S3_SECRET_KEY_FILE"} <= given, name
        for variable in given:
            assert f'"{variable.removesuffix("_FILE")}"' in known, variable


def test_secrets_come_from_files_that_are_declared(both: dict[str, Any]) -> None:
    for name, service in both["services"].items():
        for variable, value in service.get("environment", {}).items():
            if SECRET.search(variable):
                assert variable.endswith("_FILE") and value.startswith("/run/secrets/")
                assert value.removeprefix("/run/secrets/") in service["secrets"], name
        assert set(service.get("secrets", [])) <= set(both["secrets"])


def test_the_bucket_is_made_by_a_command_that_exists_and_cannot_change_itself() -> None:
    bucket = TOP["services"]["bucket"]
    assert bucket["command"][2] in get_commands()
    assert bucket["read_only"] and bucket["cap_drop"] == ["ALL"]


def test_the_image_of_the_storage_is_exact_and_the_proxy_leads_to_its_port() -> None:
    storage = TOP["services"]["storage"]
    assert PINNED.match(storage["image"])
    port = next(word for word in storage["command"] if word.startswith("-s3.port=")).split("=")[1]
    assert f"reverse_proxy storage:{port}" in (ROOT / "docker/Caddyfile").read_text()
