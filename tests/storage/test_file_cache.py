"""Copies of remote files: fetched once, bounded, oldest out first, safe with many processes."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from curation.services.file_cache import FileCache

SIZE = 1000


def name(number: int) -> str:
    return f"{number:064x}"


def filled(path: Path) -> None:
    path.write_bytes(b"x" * SIZE)


def cache(folder: Path, copies: int, grace: float = 0.0) -> FileCache:
    folder.mkdir(exist_ok=True)
    return FileCache(folder=folder, max_bytes=copies * SIZE, grace_seconds=grace)


def held(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("??/*") if path.name != "lock"}


def test_a_copy_is_fetched_once(tmp_path: Path) -> None:
    fetched = []

    def fetch(path: Path) -> None:
        fetched.append(path)
        filled(path)

    paths = {cache(tmp_path, 3).get(name(1), SIZE, fetch) for _ in range(3)}
    assert len(fetched) == len(paths) == 1
    assert paths.pop().read_bytes() == b"x" * SIZE


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    copies = cache(tmp_path, 3)
    for number in (1, 2, 3, 1, 4):
        copies.get(name(number), SIZE, filled)
    assert held(tmp_path) == {name(1), name(3), name(4)}


def test_what_was_just_used_stays_even_beyond_the_bound(tmp_path: Path) -> None:
    copies = cache(tmp_path, 2, grace=60.0)
    for number in range(4):
        copies.get(name(number), SIZE, filled)
    assert len(held(tmp_path)) == 4
    assert cache(tmp_path, 2).make_room(0) == 2 * SIZE


def test_use_does_not_change_the_time_of_the_content(tmp_path: Path) -> None:
    path = cache(tmp_path, 3).get(name(1), SIZE, filled)
    os.utime(path, (1.0, 2.0))
    cache(tmp_path, 3).get(name(1), SIZE, filled)
    assert path.stat().st_mtime == 2.0
    assert path.stat().st_atime > 1e9


def test_a_fetch_that_fails_leaves_nothing_and_can_be_tried_again(tmp_path: Path) -> None:
    def broken(path: Path) -> None:
        path.write_bytes(b"half")
        raise ConnectionError

    with pytest.raises(ConnectionError):
        cache(tmp_path, 3).get(name(1), SIZE, broken)
    assert held(tmp_path) == set()
    assert cache(tmp_path, 3).get(name(1), SIZE, filled).exists()


def test_what_a_killed_process_left_is_removed_in_its_turn(tmp_path: Path) -> None:
    copies = cache(tmp_path, 2)
    part = tmp_path / "00" / f"{name(9)}.123.part"
    part.parent.mkdir()
    filled(part)
    os.utime(part, (1.0, 1.0))
    for number in (1, 2):
        copies.get(name(number), SIZE, filled)
    assert held(tmp_path) == {name(1), name(2)}


def test_a_reader_keeps_what_it_opened(tmp_path: Path) -> None:
    copies = cache(tmp_path, 1)
    with copies.get(name(1), SIZE, filled).open("rb") as reader:
        copies.get(name(2), SIZE, filled)
        assert held(tmp_path) == {name(2)}
        assert reader.read() == b"x" * SIZE


def fetch_and_count(path: Path) -> None:
    filled(path)
    with (path.parents[1] / "fetches").open("a") as log:
        log.write(path.name[:64] + "\n")


def work(arguments: tuple[Path, int]) -> bool:
    folder, seed = arguments
    copies = cache(folder, 5, grace=60.0)
    for step in range(50):
        path = copies.get(name((seed * 7 + step) % 10), SIZE, fetch_and_count)
        if path.read_bytes() != b"x" * SIZE:
            return False
    return True


def test_many_processes_fetch_each_file_once_and_never_see_half_of_one(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4, multiprocessing.get_context("spawn")) as pool:
        assert all(pool.map(work, [(tmp_path, seed) for seed in range(8)]))
    fetches = (tmp_path / "fetches").read_text().splitlines()
    assert sorted(fetches) == sorted({name(number) for number in range(10)})


def churn(arguments: tuple[Path, int]) -> int:
    """With a bound of half the files and no grace, processes remove what others use."""
    folder, seed = arguments
    copies, read = cache(folder, 5), 0
    for step in range(50):
        try:
            path = copies.get(name((seed * 3 + step) % 10), SIZE, filled)
            read += path.read_bytes() == b"x" * SIZE
        except FileNotFoundError:  # without a grace a copy may go between its path and its opening
            continue
    return read


def test_under_eviction_by_many_processes_what_is_read_is_whole_and_the_bound_holds(
    tmp_path: Path,
) -> None:
    with ProcessPoolExecutor(4, multiprocessing.get_context("spawn")) as pool:
        assert min(pool.map(churn, [(tmp_path, seed) for seed in range(4)])) > 25
    cache(tmp_path, 5).make_room(0)
    assert len(held(tmp_path)) <= 5
