"""Every command that the deployment files start, in one form. What must hold of them is tested
beside this module."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "docker/Dockerfile"
UNITS = sorted((ROOT / "deploy/systemd").glob("*.service"))
MANIFESTS = sorted((ROOT / "deploy/kubernetes").glob("*.yaml"))


def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker/compose.yaml").read_text())


def instructions() -> list[tuple[str, str]]:
    """(name, argument) of every instruction of the Dockerfile, continued lines joined."""
    text = DOCKERFILE.read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines()]
    return [tuple(line.split(maxsplit=1)) for line in lines if line and line[0] != "#"]


def manifests() -> list[dict[str, Any]]:
    return [document for file in MANIFESTS for document in yaml.safe_load_all(file.read_text())]


def pods() -> list[dict[str, Any]]:
    return [
        manifest["spec"]["template"]["spec"]
        for manifest in manifests()
        if manifest["kind"] in ("Deployment", "Job")
    ]


def image_command() -> list[str]:
    return json.loads(dict(instructions())["CMD"])


def docker_commands() -> list[list[str]]:
    ours = [one for one in compose()["services"].values() if one["image"].startswith("hunch:")]
    return [one.get("command") or image_command() for one in ours]


def kubernetes_commands() -> list[list[str]]:
    return [container["args"] for pod in pods() for container in pod["containers"]]


def systemd_commands() -> list[list[str]]:
    starts = [re.findall(r"^ExecStart=(.+)$", unit.read_text(), re.MULTILINE) for unit in UNITS]
    return [shlex.split(line) for lines in starts for line in lines]


COMMANDS = {
    "docker": docker_commands(),
    "kubernetes": kubernetes_commands(),
    "systemd": systemd_commands(),
}
