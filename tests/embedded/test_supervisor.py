"""Processes that start, are watched and end together."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from embedded.logs import rotate, tail
from embedded.supervisor import (
    AlreadyRunning,
    Process,
    ProcessFailed,
    Supervisor,
    is_alive,
)

# Says when it is up by a file, notes when it is asked to end, and ends.
WELL_BEHAVED = """
import pathlib, signal, sys, time
name, folder = sys.argv[1], pathlib.Path(sys.argv[2])
def end(*_):
    with open(folder / "ended", "a") as file:
        file.write(name + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
(folder / name).touch()
while True:
    signal.pause()
"""
# Ignores the request to end, and has a child that does the same.
STUBBORN = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pid = os.fork()
name, folder = sys.argv[1], pathlib.Path(sys.argv[2])
(folder / f"{name}-{'parent' if pid else 'child'}").write_text(str(os.getpid()))
while True:
    signal.pause()
"""


def child(name: str, folder: Path, program: str = WELL_BEHAVED, **options) -> Process:
    options.setdefault("ready", (folder / name).exists)
    return Process(name, (sys.executable, "-c", program, name, str(folder)), **options)


def wait_for(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_tiers_start_in_order_and_end_in_reverse_order(tmp_path):
    first_is_up_before_second = []

    def second_prepares():
        first_is_up_before_second.append((tmp_path / "first").exists())

    with Supervisor(tmp_path / "var") as supervisor:
        supervisor.start(child("first", tmp_path))
        supervisor.start(child("second", tmp_path, prepare=second_prepares))
        supervisor.check()

    assert first_is_up_before_second == [True]
    assert (tmp_path / "ended").read_text().split() == ["second", "first"]


def test_when_one_dies_the_others_are_ended_and_its_last_words_are_shown(tmp_path):
    dying = child("dying", tmp_path, "print('no disk left'); raise SystemExit(3)", ready=None)

    def run():
        with Supervisor(tmp_path / "var") as supervisor:
            supervisor.start(child("steady", tmp_path))
            supervisor.start(dying)
            supervisor.watch()

    with pytest.raises(ProcessFailed, match=r"dying ended.*exit code 3.*\n.*no disk left"):
        run()

    assert (tmp_path / "ended").read_text().split() == ["steady"]


def test_one_that_dies_is_started_again_until_it_dies_too_often(tmp_path):
    with Supervisor(tmp_path / "var") as supervisor:
        supervisor.start(child("frail", tmp_path, most_restarts=1))
        (frail,) = supervisor.children()
        first = frail.pid
        (tmp_path / "frail").unlink()
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: not frail.alive())
        supervisor.check()
        assert frail.pid != first
        assert "it is started again" in frail.log.read_text()
        wait_for((tmp_path / "frail").exists)
        os.kill(frail.pid, signal.SIGKILL)
        wait_for(lambda: not frail.alive())
        with pytest.raises(ProcessFailed, match="frail ended"):
            supervisor.check()


def test_one_that_ends_before_it_is_ready_is_reported_at_once(tmp_path):
    never_ready = child("slow", tmp_path, ready=lambda: False, ready_timeout=60)
    dead = child("dead", tmp_path, "raise SystemExit('bad option')")

    with (
        pytest.raises(ProcessFailed, match=r"dead ended before it was ready[^$]*bad option"),
        Supervisor(tmp_path / "var") as supervisor,
    ):
        supervisor.start(never_ready, dead)


def test_one_that_never_becomes_ready_is_reported_after_its_time(tmp_path):
    with (
        pytest.raises(ProcessFailed, match="idle did not become ready"),
        Supervisor(tmp_path / "var") as supervisor,
    ):
        supervisor.start(child("idle", tmp_path, ready=lambda: False, ready_timeout=0.2))


def test_a_process_that_ignores_the_request_is_killed_with_its_children(tmp_path):
    with Supervisor(tmp_path / "var") as supervisor:
        supervisor.start(
            child(
                "stubborn",
                tmp_path,
                STUBBORN,
                ready=lambda: all(
                    (tmp_path / f"stubborn-{who}").exists() for who in ("parent", "child")
                ),
                stop_timeout=0.2,
            )
        )
        wait_for(lambda: (tmp_path / "stubborn-child").read_text())
        grandchild = psutil.Process(int((tmp_path / "stubborn-child").read_text()))

    wait_for(lambda: not is_alive(grandchild))


def test_a_second_supervisor_is_told_who_runs_and_how_to_stop_it(tmp_path):
    with Supervisor(tmp_path) as first:
        first.start()
        first.describe(address="http://127.0.0.1:8123")
        with pytest.raises(AlreadyRunning) as refused:
            Supervisor(tmp_path).start()

    assert "http://127.0.0.1:8123" in str(refused.value)
    assert f"kill {os.getpid()}" in str(refused.value)
    with Supervisor(tmp_path) as after:
        after.start()


SUPERVISING = """
import sys
from pathlib import Path
from tests.embedded.test_supervisor import Supervisor, child
folder = Path(sys.argv[1])
with Supervisor(folder / "var") as supervisor:
    supervisor.start(child("one", folder), child("two", folder))
    (folder / "watching").touch()
    try:
        supervisor.watch()
    except KeyboardInterrupt:
        print("interrupted")
"""


@pytest.fixture
def supervising(tmp_path):
    """A supervisor in a process of its own, with two children."""
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISING, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    wait_for((tmp_path / "watching").exists)
    yield process, psutil.Process(process.pid).children()
    process.kill()
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_ends_all_in_order_and_is_no_failure(supervising, tmp_path, number):
    process, children = supervising
    assert len(children) == 2

    process.send_signal(number)
    output, _ = process.communicate(timeout=20)

    assert process.returncode == 0
    assert output == "interrupted\n"
    assert sorted((tmp_path / "ended").read_text().split()) == ["one", "two"]


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_a_killed_supervisor_leaves_no_orphan(supervising):
    process, children = supervising

    process.kill()
    process.wait()

    for orphan in children:
        wait_for(lambda orphan=orphan: not is_alive(orphan))


def test_what_an_earlier_run_left_is_adopted_watched_and_ended(tmp_path):
    left = subprocess.Popen([sys.executable, "-c", WELL_BEHAVED, "left", str(tmp_path)])
    threading.Thread(target=left.wait).start()
    wait_for((tmp_path / "left").exists)

    with Supervisor(tmp_path / "var") as supervisor:
        supervisor.start(child("left", tmp_path, running=lambda: left.pid))
        assert [adopted.pid for adopted in supervisor.children()] == [left.pid]
        supervisor.check()

    assert (tmp_path / "ended").read_text().split() == ["left"]
    wait_for(lambda: left.returncode == 0)


def test_what_an_earlier_run_left_dying_is_started_anew(tmp_path):
    dying = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.2)"])
    threading.Thread(target=dying.wait).start()

    with Supervisor(tmp_path / "var") as supervisor:
        supervisor.start(child("new", tmp_path, ready=lambda: True, running=lambda: dying.pid))
        assert [started.pid for started in supervisor.children()] != [dying.pid]
        supervisor.check()


def test_a_long_log_is_moved_aside_while_its_process_writes_on(tmp_path):
    log = tmp_path / "web.log"
    with log.open("ab") as writer:
        for round_number in range(1, 6):
            writer.write(b"%d" % round_number * 100)
            writer.flush()
            rotate(log, largest=50)
        writer.write(b"the end")

    assert log.read_text() == "the end"
    kept = sorted(path.name for path in tmp_path.glob("web.log.*"))
    assert kept == ["web.log.1", "web.log.2", "web.log.3"]
    assert [(tmp_path / name).read_text()[0] for name in kept] == ["5", "4", "3"]


def test_the_tail_of_a_log_is_its_last_lines(tmp_path):
    log = tmp_path / "a.log"
    assert tail(log) == "(no log)"
    log.write_text("\n".join(str(number) for number in range(100_000)))
    assert tail(log, lines=2) == "99998\n99999"
