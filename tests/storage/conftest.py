"""A real server that speaks S3, a bucket of its own for each test, and the site with its files
there."""

import itertools
import logging
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from curation.settings import object_storage
from tests.api.conftest import api, api_of, fresh_limits
from tests.web.conftest import browser_of, owner, people, plain_static_files, world

__all__ = [
    "api", "api_of", "browser_of", "fresh_limits", "owner", "people", "plain_static_files", "world",
]  # fmt: skip
numbers = itertools.count()


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_address: str, settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Any:
    """The bucket in which the site keeps its files, by the settings that an operator would set."""
    name = f"hunch-{next(numbers)}"
    variables = {
        "S3_BUCKET": name,
        "S3_ENDPOINT_URL": s3_address,
        "S3_REGION": "eu-west-1",
        "S3_ACCESS_KEY": "an-access-key",
        "S3_SECRET_KEY": "a-secret-key",
        "S3_ADDRESSING_STYLE": "path",
    }
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    made = boto3.resource(
        "s3",
        endpoint_url=s3_address,
        region_name="eu-west-1",
        aws_access_key_id="an-access-key",
        aws_secret_access_key="a-secret-key",
    ).create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    settings.STORAGES = settings.STORAGES | {"default": object_storage()}
    settings.WORK_ROOT = tmp_path / "work"
    return made
