"""The artifact cache: whole files or none, the oldest dropped, never one that is in use."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from worker.engine.cache import IN_USE_SECONDS, CacheFolder


def _writer(data: bytes):
    return lambda path: path.write_bytes(data)


def _age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_what_was_put_is_found_by_kind_and_key(tmp_path: Path) -> None:
    cache = CacheFolder(tmp_path, 1000)
    path = cache.put("features", "a/../b", _writer(b"one"))
    assert path.is_relative_to(tmp_path), "a key is never a path"
    assert path.read_bytes() == b"one"
    assert cache.get("features", "a/../b") == path
    assert cache.get("features", "other") is None
    assert cache.get("graphs", "a/../b") is None


@pytest.mark.parametrize("damage", [b"", b"on", b"onE", b"one more"])
def test_a_damaged_file_is_a_miss_and_is_replaced(tmp_path: Path, damage: bytes) -> None:
    cache = CacheFolder(tmp_path, 1000)
    cache.put("features", "key", _writer(b"one")).write_bytes(damage)
    assert cache.get("features", "key") is None
    path = cache.put("features", "key", _writer(b"one"))
    assert cache.get("features", "key") == path
    assert path.read_bytes() == b"one"


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    cache = CacheFolder(tmp_path, 1000)

    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cache.put("features", "key", fail)
    assert cache.get("features", "key") is None
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    cache = CacheFolder(tmp_path, 25)
    for number, name in enumerate(["a", "b", "c"]):
        _age(cache.put("features", name, _writer(name.encode() * 10)), 3 * IN_USE_SECONDS - number)
    assert cache.get("features", "a") is None, "30 bytes were one file too many when c came"
    assert cache.get("features", "b") is not None  # and is now the youngest
    cache.put("features", "d", _writer(b"d" * 10))
    assert cache.get("features", "c") is None
    assert cache.get("features", "b") is not None
    assert cache.get("features", "d") is not None


def test_nothing_used_within_the_hour_is_dropped(tmp_path: Path) -> None:
    cache = CacheFolder(tmp_path, 5)
    for name in "abc":
        cache.put("features", name, _writer(name.encode() * 10))
    assert all(cache.get("features", name) for name in "abc")


def test_what_a_killed_process_left_is_cleared_after_a_day(tmp_path: Path) -> None:
    cache = CacheFolder(tmp_path, 1000)
    folder = cache.put("features", "key", _writer(b"one")).parent
    old, new = folder / ".req_old", folder / ".req_new"
    old.write_bytes(b"half")
    new.write_bytes(b"half")
    _age(old, 2 * 24 * 3600)
    cache.put("features", "other", _writer(b"two"))
    assert not old.exists()
    assert new.exists(), "its writer may be alive"


def test_many_writers_of_one_key_do_no_harm(tmp_path: Path) -> None:
    cache = CacheFolder(tmp_path, 10**6)
    data = [bytes([65 + number % 3]) * 1000 for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda each: cache.put("features", "key", _writer(each)), data))
        found = list(pool.map(lambda _: cache.get("features", "key"), range(20)))
    assert all(path is not None and path.read_bytes() in data for path in found)
