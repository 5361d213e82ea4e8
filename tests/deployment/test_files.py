"""The deployment files keep to their schemas and to the rules of a safe deployment."""

import configparser
import re
from typing import Any

import kubernetes_validate
import pytest
import yaml
from compose_spec import PyCompose

from tests.deployment.commands import (
    DOCKERFILE,
    ROOT,
    UNITS,
    compose,
    instructions,
    manifests,
    pods,
)

PINNED = re.compile(r"^[a-z0-9./-]+:\$?\{?[A-Z_a-z:-]*\d+\.\d+(\.\d+)?[^ ]*$")
KUBERNETES = "1.33"
WITHOUT_SCHEMA = {"Kustomization", "ScaledObject", "TriggerAuthentication"}
SECRET = re.compile(r"(SECRET|PASSWORD|TOKEN|_KEY)", re.IGNORECASE)
OURS = {name: one for name, one in compose()["services"].items() if "hunch:" in one["image"]}


def test_the_images_stand_on_exact_versions():
    bases = [argument.split()[0] for name, argument in instructions() if name == "FROM"]
    images = [one["image"] for one in compose()["services"].values()]
    images += [container["image"] for pod in pods() for container in pod["containers"]]
    assert len(bases) >= 2, "build tools stay out of the image that runs"
    for image in bases + images:
        assert PINNED.match(image) and "latest" not in image, image


def test_the_image_runs_as_a_user_without_rights():
    names = [name for name, _ in instructions()]
    user = [argument for name, argument in instructions() if name == "USER"]
    assert user == ["10001:10001"]
    assert names.index("USER") < names.index("CMD")
    assert "HEALTHCHECK" in names
    assert "ADD" not in names and "sudo" not in DOCKERFILE.read_text()


def test_no_secret_is_written_into_the_image():
    for name, argument in instructions():
        if name in ("ENV", "ARG"):
            assert not SECRET.search(argument), argument
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {".git", ".env", "var", "docker/secrets"} <= set(ignored)
    assert "docker/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


def compose_as_read() -> dict[str, Any]:
    """The compose file with every variable at its default, without extensions."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", yaml.safe_dump(compose()))
    return {name: part for name, part in yaml.safe_load(text).items() if not name.startswith("x-")}


def check_compose(content: dict[str, Any]) -> None:
    PyCompose.from_yaml(yaml.safe_dump(content)).validate()


def test_the_compose_file_keeps_to_the_compose_specification():
    check_compose(compose_as_read())


@pytest.mark.parametrize(
    "mistake",
    [
        {"helthcheck": {}},
        {"depends_on": {"redis": {"condition": "sometimes"}}},
        {"secrets": ["nobody"]},
    ],
)
def test_the_check_of_the_compose_file_finds_mistakes(mistake):
    content = compose_as_read()
    content["services"]["web"] |= mistake
    with pytest.raises(Exception, match=r"."):
        check_compose(content)


def test_services_wait_only_for_services_that_exist():
    services = compose()["services"]
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)


@pytest.mark.parametrize("name", OURS)
def test_our_containers_cannot_change_themselves_or_gain_rights(name):
    service = OURS[name]
    assert service["read_only"] and service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]


@pytest.mark.parametrize("name", compose()["services"])
def test_secrets_come_from_files(name):
    for variable, value in compose()["services"][name].get("environment", {}).items():
        if SECRET.search(variable):
            assert variable.endswith("_FILE") and value.startswith("/run/secrets/")


def test_the_database_sorts_as_the_embedded_one_does():
    options = compose()["services"]["postgres"]["environment"]["POSTGRES_INITDB_ARGS"]
    embedded = (ROOT / "embedded/postgres.py").read_text()
    for option in options.split():
        assert option.split("=")[1] in embedded


def test_the_manifests_keep_to_the_schema_of_kubernetes():
    checked = [one for one in manifests() if one["kind"] not in WITHOUT_SCHEMA]
    assert len(checked) >= 8
    for manifest in checked:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_every_manifest_is_applied():
    folder = ROOT / "deploy/kubernetes"
    (listed,) = [one["resources"] for one in manifests() if one["kind"] == "Kustomization"]
    assert sorted([*listed, "kustomization.yaml"]) == sorted(f.name for f in folder.glob("*.yaml"))


def test_pods_run_without_rights():
    for pod in pods():
        assert pod["securityContext"]["runAsNonRoot"]
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert container["resources"]["limits"]["memory"]


def test_the_autoscaler_scales_a_deployment_that_exists():
    deployments = {one["metadata"]["name"] for one in manifests() if one["kind"] == "Deployment"}
    scalers = [one["spec"] for one in manifests() if one["kind"] == "ScaledObject"]
    assert scalers
    for scaler in scalers:
        name = scaler["scaleTargetRef"]["name"]
        assert name in deployments
        assert {trigger["metadata"]["listName"] for trigger in scaler["triggers"]} == {
            name.removeprefix("hunch-worker-")
        }


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_run_without_rights_and_belong_to_the_target(unit):
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str
    parser.read(unit)
    service = parser["Service"]
    assert service["User"] == "hunch" and service["NoNewPrivileges"] == "yes"
    assert unit.name in (unit.parent / "hunch.target").read_text()
