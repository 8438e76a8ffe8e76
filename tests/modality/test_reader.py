"""Random access to items: exact bytes, from threads, forks and copies; damage is found."""

import hashlib
import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from core.contract.errors import GraftError
from core.modality.errors import CorruptContentError, UnreadableItemError
from core.modality.ingest import ingest
from core.modality.reader import DatasetReader
from core.settings import Settings
from tests.builders import folder_files, image_pixels, make_tar, make_zip

FILES = folder_files({"cats": 6, "dogs": 6})
PACKS = {
    "stored": lambda: make_zip(FILES),
    "deflated": lambda: make_zip(FILES, deflate=True),
    "tar": lambda: make_tar(FILES),
    "tar.gz": lambda: make_tar(FILES, gz=True),
}


def opened(tmp_path: Path, data: bytes) -> DatasetReader:
    upload = tmp_path / "upload"
    upload.write_bytes(data)
    found = ingest(upload, hashlib.sha256(data).hexdigest(), limits=Settings(), seed=0, scratch=tmp_path)
    return DatasetReader(found.manifest, found.content or upload)


@pytest.fixture(params=PACKS)
def reader(request, tmp_path):
    with opened(tmp_path, PACKS[request.param]()) as reader:
        yield reader


def test_items(reader):
    assert len(reader) == 12
    assert {item.name: reader.read(index) for index, item in enumerate(reader.manifest.items)} == FILES
    assert np.array_equal(np.asarray(reader.image(0)), image_pixels(0))
    with pytest.raises(UnreadableItemError):
        reader.image(0, max_pixels=10)
    for index in (12, -1):
        with pytest.raises(IndexError):
            reader.read(index)


def test_many_threads_share_one_reader(reader):
    wanted = [reader.read(index) for index in range(12)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(reader.read, list(range(12)) * 50)) == wanted * 50


def _child(reader, results):
    results.put(hashlib.sha256(reader.read(3)).hexdigest())


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_other_processes(tmp_path, method):
    context = multiprocessing.get_context(method)
    with opened(tmp_path, PACKS["deflated"]()) as reader:
        results = context.Queue()
        process = context.Process(target=_child, args=(reader, results))
        process.start()
        assert results.get(timeout=60) == reader.manifest.items[3].sha256
        process.join(60)
        assert process.exitcode == 0


def test_copies_and_closing(reader):
    with pickle.loads(pickle.dumps(reader)) as copy:
        assert copy.read(0) == reader.read(0)
    reader.close()
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        reader.read(0)


def test_nothing_stays_open(tmp_path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        opened(tmp_path, PACKS["stored"]()).read(0)  # never closed by hand
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_missing_blob_is_said_so(reader, tmp_path):
    with pytest.raises(FileNotFoundError):
        DatasetReader(reader.manifest, tmp_path / "nowhere")


@pytest.mark.parametrize("pack", ["stored", "deflated"])
def test_bit_rot_and_truncation_are_found(tmp_path, pack):
    with opened(tmp_path, PACKS[pack]()) as reader:
        item = reader.manifest.items[5]
        whole = reader.content.read_bytes()
        damaged = bytearray(whole)
        damaged[item.offset + item.length // 2] ^= 1
        for bad in (bytes(damaged), whole[: item.offset + item.length - 1]):
            path = tmp_path / "bad"
            path.write_bytes(bad)
            with DatasetReader(reader.manifest, path) as broken, pytest.raises(CorruptContentError) as caught:
                broken.read(5)
            assert caught.value.code == "corrupt_blob"
            assert item.name in caught.value.message
            assert isinstance(caught.value, GraftError)
