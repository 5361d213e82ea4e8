"""Addresses of the embedded parts, computed without starting anything."""

import os
import socket

import dj_database_url
import pytest
import redis
from kombu import Connection
from psycopg.conninfo import conninfo_to_dict

from embedded.urls import (
    ServiceConfigurationError,
    celery_url,
    service_urls,
    socket_folder,
    var_folder,
    with_redis_database,
)


def test_both_variables_mean_that_nothing_is_embedded(tmp_path):
    given = {"DATABASE_URL": "postgresql://u@db/hunch", "REDIS_URL": "redis://broker:6379/0"}

    urls = service_urls(tmp_path, given)

    assert not urls.embedded
    assert urls.environment() == given
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["DATABASE_URL", "REDIS_URL"])
def test_one_variable_without_the_other_is_an_error_that_names_both(tmp_path, name):
    missing = ({"DATABASE_URL", "REDIS_URL"} - {name}).pop()

    with pytest.raises(ServiceConfigurationError, match=f"{name} is set and {missing} is not"):
        service_urls(tmp_path, {name: "x://y"})
    with pytest.raises(ServiceConfigurationError, match=f"{name} is set and {missing} is not"):
        service_urls(tmp_path, {name: "x://y", missing: "  "})


def test_django_psycopg_redis_and_celery_all_read_the_embedded_addresses(tmp_path):
    urls = service_urls(tmp_path, {})
    sockets = str(socket_folder(tmp_path))

    assert dj_database_url.parse(urls.database_url)["HOST"] == sockets
    assert conninfo_to_dict(urls.database_url)["host"] == sockets
    pool = redis.ConnectionPool.from_url(urls.redis_url)
    assert pool.connection_kwargs["path"] == f"{sockets}/valkey.sock"
    assert pool.connection_kwargs["db"] == 0
    celery = Connection(urls.celery_url)
    assert celery.transport_cls == "redis"
    assert urls.celery_url == f"redis+socket://{sockets}/valkey.sock?virtual_host=0"


@pytest.mark.parametrize(
    "name", ["a" * 120, "with space", "at@sign", "per%cent", "comma,comma", "émile", "q?u#e"]
)
def test_a_path_that_no_socket_or_url_can_hold_gets_a_short_one(tmp_path, name):
    var = tmp_path / name
    sockets = socket_folder(var)

    assert sockets != var / "sockets"
    assert sockets == socket_folder(var)
    assert sockets != socket_folder(tmp_path / (name + "2"))
    sockets.mkdir()
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(sockets / ".s.PGSQL.5432"))
        assert conninfo_to_dict(service_urls(var, {}).database_url)["host"] == str(sockets)
    finally:
        (sockets / ".s.PGSQL.5432").unlink(missing_ok=True)
        sockets.rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has folders that nobody cannot enter")
def test_sockets_of_a_var_folder_closed_to_other_accounts_lie_outside_it(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)

    assert closed not in socket_folder(closed / "var").parents


def test_the_var_folder_is_the_projects_unless_the_operator_names_one(tmp_path):
    assert var_folder({}).name == "var"
    assert (var_folder({}).parent / "embedded").is_dir()
    assert var_folder({"HUNCH_VAR": str(tmp_path)}) == tmp_path.resolve()


@pytest.mark.parametrize(
    ("url", "number", "expected"),
    [
        ("unix:///v/valkey.sock?db=0", 3, "unix:///v/valkey.sock?db=3"),
        ("redis://host:6379/0", 3, "redis://host:6379/3"),
        ("redis://:secret@host", 3, "redis://:secret@host/3"),
        ("rediss://host/1?ssl_cert_reqs=none", 2, "rediss://host/2?ssl_cert_reqs=none"),
    ],
)
def test_a_test_worker_gets_a_database_of_its_own(url, number, expected):
    assert with_redis_database(url, number) == expected
    assert redis.ConnectionPool.from_url(expected).connection_kwargs["db"] == number


def test_celery_url_leaves_network_addresses_alone():
    assert celery_url("redis://host:6379/4") == "redis://host:6379/4"
    assert celery_url("unix:///v/s.sock?db=7") == "redis+socket:///v/s.sock?virtual_host=7"
