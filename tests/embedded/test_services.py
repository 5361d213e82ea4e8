"""PostgreSQL and Valkey, for real: first start, restart, kills, adoption, under each account."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from embedded import account
from embedded.account import NoPlaceForData
from embedded.folders import UnsafeFolder, private_folder
from embedded.postgres import Postgres, PostgresError, postgres_programs
from embedded.services import running_services, service_processes
from embedded.supervisor import Supervisor, is_alive
from embedded.urls import service_urls, short_hash, socket_folder
from embedded.valkey import Valkey, ValkeyMissing, valkey_binary
from tests.embedded.test_supervisor import wait_for

PROJECT = Path(__file__).resolve().parents[2]
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="root alone changes accounts")


@pytest.fixture
def var(tmp_path):
    """A folder whose sockets, wherever they lie, are gone afterwards."""
    yield tmp_path / "var"
    clean_up(tmp_path / "var")


def clean_up(folder):
    for left in Postgres(folder)._processes():
        left[0].kill()
    if folder not in socket_folder(folder).parents:
        shutil.rmtree(socket_folder(folder), ignore_errors=True)
    shutil.rmtree(account.PERSISTENT_TEMPORARY_FOLDER / f"hunch-{short_hash(folder)}", True)


def remember(urls, word):
    with psycopg.connect(urls.database_url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS word (word text)")
        connection.execute("INSERT INTO word VALUES (%s)", [word])
    redis.from_url(urls.redis_url).rpush("words", word)


def remembered(urls):
    with psycopg.connect(urls.database_url) as connection:
        rows = connection.execute("SELECT word FROM word").fetchall()
    listed = redis.from_url(urls.redis_url, decode_responses=True).lrange("words", 0, -1)
    return [row[0] for row in rows], listed


def test_data_outlives_an_orderly_stop(var):
    with running_services(var) as urls:
        remember(urls, "kept")

    assert not Postgres(var)._processes()
    assert "database system is shut down" in (var / "logs/postgres.log").read_text()
    with running_services(var) as urls:
        assert remembered(urls) == (["kept"], ["kept"])
    assert "automatic recovery" not in (var / "logs/postgres.log").read_text()


def test_text_sorts_by_code_point_on_every_machine(var):
    with running_services(var) as urls, psycopg.connect(urls.database_url) as connection:
        words = connection.execute(
            "SELECT word FROM unnest(ARRAY['b', 'É', 'a', 'Z', 'é']) AS word ORDER BY word"
        ).fetchall()
        upper = connection.execute("SELECT upper('straße é')").fetchone()

    assert [word for (word,) in words] == sorted(["b", "É", "a", "Z", "é"])
    assert upper == ("STRAßE É",)


def test_nothing_listens_on_the_network_and_others_cannot_reach_the_sockets(var):
    with running_services(var):
        processes = [child.pid for child in psutil.Process().children()]
        assert not any(psutil.Process(pid).net_connections("inet") for pid in processes)
        assert socket_folder(var).stat().st_mode & 0o077 == 0


HOLDING = """
import signal, sys
from pathlib import Path
from embedded.services import running_services
with running_services(Path(sys.argv[1])) as urls:
    print("ready", flush=True)
    signal.pause()
"""


def hold_services(var, python=sys.executable, **options):
    """A program that keeps the services running until it is killed."""
    holder = subprocess.Popen(
        [python, "-c", HOLDING, str(var)], stdout=subprocess.PIPE, text=True, cwd=PROJECT, **options
    )
    assert holder.stdout.readline() == "ready\n"
    return holder


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_a_killed_supervisor_leaves_neither_orphan_nor_stale_lock(var):
    holder = hold_services(var)
    children = psutil.Process(holder.pid).children(recursive=True)
    remember(service_urls(var, {}), "kept")

    holder.kill()
    holder.communicate()

    with running_services(var) as urls:  # at once, while the old ones may still be ending
        assert remembered(urls) == (["kept"], ["kept"])
        assert not any(is_alive(old) for old in children)


def test_both_recover_from_a_kill_with_all_data(var):
    with Supervisor(var) as supervisor:
        supervisor.start(*service_processes(var))
        remember(service_urls(var, {}), "kept")
        broker = redis.Redis(
            unix_socket_path=str(Valkey(var).socket), single_connection_client=True
        )
        broker.set("last", "write")
        assert broker.waitaof(1, 0, 10_000)[0] == 1  # it writes its log to disk once a second
        killed = [psutil.Process(child.pid) for child in supervisor.children()]
        for process in killed:
            process.kill()

    assert (Postgres(var).data / "postmaster.pid").exists()
    with running_services(var) as urls:
        assert remembered(urls) == (["kept"], ["kept"])
    assert "automatic recovery" in (var / "logs/postgres.log").read_text()


def test_a_lock_whose_process_id_was_given_to_another_program_does_not_block(var):
    with running_services(var) as urls:
        remember(urls, "kept")
    for lock in (Postgres(var).data / "postmaster.pid", socket_folder(var) / ".s.PGSQL.5432.lock"):
        lock.write_text(f"{os.getppid()}\n{Postgres(var).data}\n0\n5432\n")

    with running_services(var) as urls:
        assert remembered(urls) == (["kept"], ["kept"])


def test_servers_left_running_are_adopted_and_ended(var):
    """As on a system without a parent-death signal: here the launcher is left out."""
    left = []
    processes = service_processes(var)
    for process in processes:
        process.prepare()
        left.append(subprocess.Popen([*process.command], stderr=subprocess.DEVNULL))
    for process in processes:
        wait_for(process.ready)
        process.finish and process.finish()
    remember(service_urls(var, {}), "kept")

    with Supervisor(var) as supervisor:
        supervisor.start(*service_processes(var))
        adopted = [child.pid for child in supervisor.children()]
        assert remembered(service_urls(var, {})) == (["kept"], ["kept"])
        supervisor.check()

    assert adopted == [process.pid for process in left]
    assert [process.wait(timeout=10) for process in left] == [0, 0]


def test_a_half_made_data_folder_is_made_again(var):
    half_made = Postgres(var).data.with_suffix(".new")
    half_made.mkdir(parents=True)
    (half_made / "PG_VERSION").write_text("18\n")

    with running_services(var) as urls:
        remember(urls, "kept")
    assert not half_made.exists()


def test_data_of_another_version_is_refused_and_left_alone(var):
    data = Postgres(var).data
    data.mkdir()
    (data / "PG_VERSION").write_text("12\n")

    with (
        pytest.raises(PostgresError, match=r"made by PostgreSQL 12; .* are version 1\d"),
        running_services(var),
    ):
        pass
    assert [path.name for path in data.iterdir()] == ["PG_VERSION"]


def test_a_path_too_long_for_a_socket_works(tmp_path):
    var = tmp_path / ("long " * 30)
    with running_services(var, durable=False) as urls:
        remember(urls, "kept")
        assert remembered(urls) == (["kept"], ["kept"])
    shutil.rmtree(socket_folder(var))


def test_a_folder_that_another_user_put_in_place_is_refused(tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")

    with pytest.raises(UnsafeFolder, match="not a folder of this user"):
        private_folder(tmp_path / "link")


def test_an_operator_may_name_other_programs(monkeypatch, tmp_path):
    monkeypatch.setenv("HUNCH_POSTGRES_BIN", str(tmp_path))
    monkeypatch.setenv("HUNCH_VALKEY_BIN", str(tmp_path / "valkey-server"))
    with pytest.raises(PostgresError, match="HUNCH_POSTGRES_BIN"):
        postgres_programs()
    with pytest.raises(ValkeyMissing, match="HUNCH_VALKEY_BIN"):
        valkey_binary()

    for name in ("postgres", "valkey-server"):
        (tmp_path / name).touch(mode=0o755)
    assert postgres_programs() == tmp_path
    assert valkey_binary() == tmp_path / "valkey-server"


# Accounts. The tests above run as whoever runs them; these cover the others where root runs them.


@pytest.fixture
def open_var():
    """The var folder under parents that every account can pass; not among pytest's own folders,
    which any other session on the machine closes again."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder) / "var"
        clean_up(Path(folder) / "var")


@pytest.fixture
def no_namespaces(monkeypatch):
    """Root as in a container that forbids user namespaces."""
    monkeypatch.setattr(account, "namespace_account", lambda: None)


def server_user(var):
    (server,) = [
        found for found, _ in Postgres(var)._processes() if found.pid == Postgres(var).running()
    ]
    return server.uids().real


@only_root
@pytest.mark.skipif(account.namespace_account() is None, reason="no user namespaces here")
def test_root_in_a_private_home_keeps_the_data_its_own(tmp_path):
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    var = home / "var"
    with running_services(var) as urls:
        remember(urls, "kept")
        assert server_user(var) == 0
    assert (var / "postgres/data").stat().st_uid == 0
    shutil.rmtree(socket_folder(var))


@only_root
def test_root_without_user_namespaces_runs_it_as_nobody(open_var, no_namespaces):
    nobody = pwd.getpwnam("nobody").pw_uid
    for words in (["first"], ["first", "second"]):
        with running_services(open_var) as urls:
            remember(urls, words[-1])
            assert remembered(urls) == (words, words)
            assert server_user(open_var) == nobody
    assert (open_var / "postgres/data").stat().st_uid == nobody
    assert (open_var / "postgres").stat().st_mode & 0o077 == 0


@only_root
def test_data_made_in_a_namespace_is_kept_when_namespaces_are_forbidden(open_var, monkeypatch):
    with running_services(open_var) as urls:
        remember(urls, "kept")

    monkeypatch.setattr(account, "namespace_account", lambda: None)
    with running_services(open_var) as urls:
        assert remembered(urls) == (["kept"], ["kept"])

    monkeypatch.undo()
    with running_services(open_var) as urls:
        assert remembered(urls) == (["kept"], ["kept"])


@only_root
def test_nobody_with_a_private_home_and_private_programs_gets_both_elsewhere(
    tmp_path, no_namespaces, monkeypatch
):
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    package = postgres_programs().parents[1]
    for folder in (postgres_programs().parent, package.with_name(f"{package.name}.libs")):
        copied = home / folder.relative_to(package.parent)
        shutil.copytree(folder, copied, symlinks=True)
    programs = home / postgres_programs().relative_to(package.parent)
    monkeypatch.setenv("HUNCH_POSTGRES_BIN", str(programs))
    var = home / "var"
    outside = account.PERSISTENT_TEMPORARY_FOLDER / f"hunch-{short_hash(var)}"
    try:
        for words in (["first"], ["first", "second"]):
            with running_services(var) as urls:
                remember(urls, words[-1])
                assert remembered(urls) == (words, words)
        assert (outside / "data/PG_VERSION").exists()

        (var / "postgres/data").mkdir(parents=True)  # data that root alone can reach
        with pytest.raises(NoPlaceForData, match="chmod o\\+x"):
            Postgres(var).process()
    finally:
        shutil.rmtree(outside, ignore_errors=True)
        shutil.rmtree(socket_folder(var), ignore_errors=True)


def python_for_everyone():
    """A Python that any account may run, with the packages of this one; or None."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/python{version}", f"/usr/local/bin/python{version}"):
        command = ["-c", "import embedded.services"]
        with_packages = {"PYTHONPATH": f"{PROJECT}:{sysconfig.get_path('platlib')}"}
        try:
            tried = subprocess.run(
                [python, *command], env=with_packages, user="nobody", cwd="/", capture_output=True
            )
        except OSError:
            continue
        if tried.returncode == 0:
            return python, with_packages
    return None


@only_root
@pytest.mark.parametrize("user", [pwd.getpwnam("nobody").pw_uid, 54_321], ids=["named", "nameless"])
def test_an_ordinary_user_runs_both_and_restarts_after_a_kill(open_var, user):
    found = python_for_everyone()
    if found is None:
        pytest.skip("no account but root can run a Python with these packages here")
    if account.namespace_account() is None and not account.has_name(user):
        pytest.skip("no user namespaces here")
    python, environment = found
    open_var.mkdir()
    os.chown(open_var, user, user)
    options = {"user": user, "group": user, "extra_groups": [], "env": environment}

    holder = hold_services(open_var, python, **options)
    assert server_user(open_var) == user
    remember(service_urls(open_var, {}), "kept")
    os.kill(Postgres(open_var).running(), signal.SIGKILL)
    holder.kill()
    holder.communicate()

    holder = hold_services(open_var, python, **options)
    assert remembered(service_urls(open_var, {})) == (["kept"], ["kept"])
    holder.terminate()
    holder.communicate(timeout=30)
    wait_for(lambda: not Postgres(open_var)._processes())
