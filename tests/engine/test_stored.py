"""Features in a file: only what is read is checked, and nothing that is damaged is ever given out."""

from pathlib import Path

import numpy as np
import pytest

from core.contract.methods import LinearProbe
from tests.builders import folder_zip
from tests.engine.jobs import TINY, Workshop
from worker.engine import stored
from worker.engine.stored import DamagedError, Features, write


def _features(n: int = 400, width: int = 24) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, width)).astype(np.float32)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "BLOCK_BYTES", 24 * 4 * 10)  # ten rows


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    x, path = _features(), tmp_path / "x"
    write(x, path)
    found = Features(path)
    assert (len(found), found.shape) == (400, (400, 24))
    assert np.array_equal(found.rows(), x)
    chosen = np.array([399, 0, 7, 7])
    assert np.array_equal(found.rows(chosen), x[chosen])
    assert found.rows(np.empty(0, dtype=np.int64)).shape == (0, 24)
    got = found.rows(chosen)
    got[0] = 0  # it is the caller's own
    assert np.array_equal(found.rows(chosen), x[chosen])


@pytest.mark.parametrize("factor", [1.0, 1e-7, 1e7])
def test_half_precision_keeps_three_digits_at_any_size(tmp_path: Path, factor: float) -> None:
    x = _features() * np.float32(factor)
    write(x, tmp_path / "x", "fp16")
    found = Features(tmp_path / "x").rows()
    assert found.dtype == np.float32
    assert np.abs(found - x).max() <= 2**-11 * np.abs(x).max()
    large = np.abs(x) > 1e-3 * np.abs(x).max()
    assert np.abs(found / x - 1)[large].max() < 1e-3


def test_nothing_and_zeros(tmp_path: Path) -> None:
    for number, x in enumerate((np.empty((0, 5), np.float32), np.zeros((3, 5), np.float32))):
        for precision in ("fp32", "fp16"):
            write(x, tmp_path / f"{number}", precision)
            assert np.array_equal(Features(tmp_path / f"{number}").rows(), x)


def test_only_the_blocks_that_are_read_are_checked(tmp_path: Path) -> None:
    x, path = _features(), tmp_path / "x"
    write(x, path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 4  # in the last row
    path.write_bytes(data)
    found = Features(path)
    assert np.array_equal(found.rows(np.arange(390)), x[:390]), "sound blocks are of use"
    for _ in range(2):
        with pytest.raises(DamagedError):
            found.rows(np.array([3, 395]))
    with pytest.raises(DamagedError):
        found.rows()


def test_any_flipped_byte_is_noticed_or_harmless(tmp_path: Path) -> None:
    x, path = _features(40), tmp_path / "x"
    write(x, path)
    whole = path.read_bytes()
    noticed = 0
    for place in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[place] ^= 0x11
        path.write_bytes(damaged)
        try:
            assert np.array_equal(Features(path).rows(), x)
        except DamagedError:
            noticed += 1
    assert noticed > 0.9 * len(whole) / 3


@pytest.mark.parametrize("size", [0, 3, 8, 50, 1000, -1])
def test_a_cut_or_longer_file_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "x"
    write(_features(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[:size])
    with pytest.raises(DamagedError):
        Features(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(DamagedError):
        Features(path)


def test_a_file_that_is_evicted_while_it_is_open_stays_of_use(tmp_path: Path) -> None:
    x, path = _features(), tmp_path / "x"
    write(x, path)
    found = Features(path)
    path.unlink()
    assert np.array_equal(found.rows(), x)
    with pytest.raises(FileNotFoundError):
        Features(path)


def test_a_job_makes_damaged_features_again(tmp_path: Path) -> None:
    shop = Workshop(tmp_path)
    source = shop.data(folder_zip({"cat": 20, "dog": 20}, size=(40, 48), format="JPEG"))
    first = shop.run(LinearProbe(), source, base_model=TINY)
    path = next(path for path in (tmp_path / "cache" / "features").rglob("*") if path.is_file())
    sound = path.read_bytes()
    path.write_bytes(sound[:-2] + bytes([sound[-2] ^ 1]) + sound[-1:])
    again = shop.run(LinearProbe(), source, base_model=TINY)
    assert any("damaged" in said["text"] for said in shop.said("message"))
    assert again.report.metrics == first.report.metrics
    assert path.read_bytes() == sound
    shop.run(LinearProbe(), source, base_model=TINY)
    assert not any("damaged" in said["text"] for said in shop.said("message"))
