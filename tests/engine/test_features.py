"""Features: in the manifest's order, the same as PyTorch's, and for nothing the second time."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from core.contract.datasets import DatasetManifest, Item
from core.contract.errors import JobError
from core.contract.prepare import TextPrepare
from core.modality.errors import CorruptContentError
from core.modality.image import prepare
from core.modality.ingest import ingest
from core.modality.reader import DatasetReader
from core.settings import Settings
from tests.builders import encode, folder_files, image_bytes, image_pixels, make_zip
from worker.engine import features
from worker.engine.backbones import Backbone, Identity, Opened, load
from worker.engine.backbones.backbone import digest
from worker.engine.cache import CacheFolder
from worker.engine.door import CancelledError
from worker.engine.features import embed, feature_key
from worker.engine.shards import Shards
from worker.engine.stored import Features

KEY = "a" * 64


def _reader(folder: Path, count: int, first: int = 0) -> DatasetReader:
    """Real items of different sizes, one behind the other in a blob."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [image_bytes(first + number, (60 + 7 * number, 90), number % 3, "JPEG") for number in range(count)]
    offsets = np.cumsum([0, *map(len, parts)])
    content = folder / f"content-{first}"
    content.write_bytes(b"".join(parts))
    items = [
        Item(
            name=f"{number}.jpg",
            offset=offset,
            length=len(part),
            size=len(part),
            label=0,
            split="train",
            sha256=_sha(part),
        )
        for number, (offset, part) in enumerate(zip(offsets, parts, strict=False))
    ]
    manifest = DatasetManifest(modality="image", content_sha256="0" * 64, classes=["one"], items=items)
    return DatasetReader(manifest, content)


def _sha(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def base() -> Backbone:
    return load("squeezenet1_1", weights_dir=None, pretrained=False)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> CacheFolder:
    """A cache whose graph is made once."""
    return CacheFolder(tmp_path_factory.mktemp("cache"), 10**9)


@pytest.fixture
def reader(tmp_path: Path) -> DatasetReader:
    return _reader(tmp_path, 9)


def _never() -> nn.Module:
    raise AssertionError("the network was built")


class _Blind:
    """A reader that must not be asked for an image."""

    def __len__(self) -> int:
        return 9

    def item(self, index: int) -> Image.Image:
        raise AssertionError(f"item {index} was read")


def _by_torch(base: Backbone, reader: DatasetReader) -> np.ndarray:
    images = np.stack([prepare(reader.image(index), base.card.prepare) for index in range(len(reader))])
    with torch.inference_mode():
        return base.module(torch.from_numpy(images)).numpy()


@pytest.mark.parametrize("threads", [1, 3])
def test_features_are_those_of_torch_in_order(
    base: Backbone, shared: CacheFolder, reader: DatasetReader, threads: int
) -> None:
    seen: list[tuple[int, int]] = []
    found = embed(
        base, reader, cache=shared, key=f"{threads}" * 64, threads=threads, progress=lambda *far: seen.append(far)
    )
    expected = _by_torch(base, reader)
    assert found.rows().dtype == np.float32
    np.testing.assert_allclose(found.rows(), expected, atol=1e-4 * np.abs(expected).max())
    assert np.abs(expected[0] - expected[1]).max() > 1e-3 * np.abs(expected).max(), "items must differ to prove order"
    assert seen[-1] == (9, 9)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


def test_several_readers_follow_one_another(
    base: Backbone, shared: CacheFolder, reader: DatasetReader, tmp_path: Path
) -> None:
    other = _reader(tmp_path, 4, first=50)
    found = embed(base, [reader, other], cache=shared, key="b" * 64)
    expected = np.concatenate([_by_torch(base, reader), _by_torch(base, other)])
    np.testing.assert_allclose(found.rows(), expected, atol=1e-4 * np.abs(expected).max())


def test_the_second_time_nothing_is_read_or_built(base: Backbone, shared: CacheFolder, reader: DatasetReader) -> None:
    first = embed(base, reader, cache=shared, key=KEY)
    again = embed(Opened(base.identity, _never), _Blind(), cache=shared, key=KEY)
    assert np.array_equal(first.rows(), again.rows())


def test_new_data_needs_the_graph_and_not_the_network(
    base: Backbone, shared: CacheFolder, reader: DatasetReader
) -> None:
    embed(base, reader, cache=shared, key=KEY)
    assert len(embed(Opened(base.identity, _never), reader, cache=shared, key="c" * 64)) == 9


def test_features_belong_to_data_weights_prepare_and_precision(base: Backbone, tmp_path: Path) -> None:
    identity = base.identity
    other_weights = load("squeezenet1_1", weights_dir=None, pretrained=False, seed=1).identity
    prepared = identity.card.prepare.model_copy(update={"interpolation": "bicubic"})
    other_prepare = type(identity)(identity.card.model_copy(update={"prepare": prepared}), identity.weights_digest, [])
    renamed = type(identity)(identity.card.model_copy(update={"id": "mdl_x"}), identity.weights_digest, ["mdl_x"])
    keys = [
        feature_key(identity, KEY),
        feature_key(identity, "d" * 64),
        feature_key(other_weights, KEY),
        feature_key(other_prepare, KEY),
        feature_key(identity, KEY, torch.device("cuda")),
        feature_key(identity, KEY, kept="fp16"),
    ]
    assert len(set(keys)) == len(keys)
    assert feature_key(renamed, KEY) == keys[0], "the same network under another name has the same features"
    assert feature_key(identity, KEY, torch.device("cpu")) == keys[0]


def test_one_weight_more_or_less_is_another_network() -> None:
    module = load("squeezenet1_1", weights_dir=None, pretrained=False).module
    before = digest(module)
    assert digest(module) == before
    with torch.no_grad():
        next(module.parameters()).view(-1)[7] += 1e-6
    assert digest(module) != before


def test_one_pixel_more_or_less_is_other_data(tmp_path: Path) -> None:
    pixels = image_pixels(3)
    changed = pixels.copy()
    changed[5, 5, 0] ^= 1
    digests = {_ingested(tmp_path, name, image) for name, image in (("a", pixels), ("b", changed), ("c", pixels))}
    assert len(digests) == 2, "the same bytes are the same data, whoever uploads them"


def _ingested(folder: Path, name: str, pixels: np.ndarray) -> str:
    files = folder_files({"cat": 4, "dog": 4}) | {"cat/one.png": encode(pixels)}
    archive = make_zip(files)
    path = folder / f"{name}.zip"
    path.write_bytes(archive)
    found = ingest(path, _sha(archive), limits=Settings(), seed=0, scratch=folder)
    return _sha(found.manifest.model_dump_json().encode())


def test_one_byte_of_a_tokenizer_is_another_preparation(base: Backbone) -> None:
    def key(tokenizer: bytes | None) -> str:
        prepare = TextPrepare(tokenizer_sha256=None if tokenizer is None else _sha(tokenizer))
        identity = Identity(base.card.model_copy(update={"prepare": prepare}), base.weights_digest, [])
        return feature_key(identity, KEY)

    assert key(b'{"a": 1}') == key(b'{"a": 1}') != key(b'{"a": 2}')
    with pytest.raises(ValueError, match="tokenizer"):
        key(None)


def test_half_precision_takes_half_the_space(base: Backbone, shared: CacheFolder, reader: DatasetReader) -> None:
    half = CacheFolder(shared.root, shared.max_bytes, features="fp16")
    whole, short = (embed(base, reader, cache=cache, key="9" * 64) for cache in (shared, half))
    exact = whole.rows()
    np.testing.assert_allclose(short.rows(), exact, atol=6e-4 * np.abs(exact).max())
    assert not np.array_equal(short.rows(), exact)
    sizes = [
        cache.get("features", feature_key(base.identity, "9" * 64, kept=cache.features)).stat().st_size  # type: ignore[union-attr]
        for cache in (shared, half)
    ]
    assert sizes[1] < 0.6 * sizes[0]
    assert shared.get("features", feature_key(base.identity, "9" * 64)) is not None


def test_two_jobs_at_once_make_the_same_features(base: Backbone, shared: CacheFolder, reader: DatasetReader) -> None:
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: embed(base, reader, cache=shared, key="8" * 64).rows(), range(3)))
    assert all(np.array_equal(one, found[0]) for one in found)
    assert np.array_equal(embed(base, _Blind(), cache=shared, key="8" * 64).rows(), found[0])


def test_a_cut_file_of_features_is_made_again(base: Backbone, shared: CacheFolder, reader: DatasetReader) -> None:
    first = embed(base, reader, cache=shared, key="e" * 64).rows()
    path = shared.get("features", feature_key(base.identity, "e" * 64))
    assert path is not None
    path.write_bytes(path.read_bytes()[:-1])
    assert np.array_equal(first, embed(base, reader, cache=shared, key="e" * 64).rows())


@pytest.mark.parametrize("wish", ["cancel", "stop"])
def test_cancel_ends_it_and_stop_does_not(
    wish: str, base: Backbone, shared: CacheFolder, reader: DatasetReader
) -> None:
    key = f"wish {wish}"

    def run() -> Features:
        return embed(base, reader, cache=shared, key=key, should_stop=lambda: wish)  # type: ignore[arg-type,return-value]

    if wish == "cancel":
        with pytest.raises(CancelledError):
            run()
        assert features.cached(base.identity, key, shared) is None
    else:
        assert len(run()) == 9


def test_a_corrupt_blob_is_the_readers_error(base: Backbone, shared: CacheFolder, reader: DatasetReader) -> None:
    reader.content.write_bytes(b"\0" * reader.content.stat().st_size)
    with pytest.raises(CorruptContentError):
        embed(base, reader, cache=shared, key="f" * 64)


def _shards(folder: Path) -> Shards:
    return Shards(CacheFolder(folder / "parts", 10**9), "key", batch=features.GPU_BATCH)


def _broken(base: Backbone) -> Callable[[], nn.Module]:
    module = load(base.card.id, weights_dir=None, pretrained=False).module
    with torch.no_grad():
        next(module.parameters()).fill_(3e38)
    return lambda: module


def test_figures_that_are_not_finite_are_refused_and_not_kept(
    base: Backbone, reader: DatasetReader, tmp_path: Path
) -> None:
    items, watch = features._Items([reader], base.preparer()), features._Watch(9, None, None)
    broken = Opened(base.identity, _broken(base))
    assert not np.isfinite(
        features._with_torch(broken, items, torch.device("cpu"), 1, watch, shards=_shards(tmp_path))
    ).all()


def test_a_network_with_damaged_weights_fails_the_job(base: Backbone, tmp_path: Path, reader: DatasetReader) -> None:
    cache = CacheFolder(tmp_path / "cache", 10**9)
    with pytest.raises(JobError) as caught:
        embed(Opened(base.identity, _broken(base)), reader, cache=cache, key=KEY)
    assert caught.value.code in {"parity_failed", "features_not_finite"}
    assert features.cached(base.identity, KEY, cache) is None


def test_the_torch_path_agrees_within_half_precision(base: Backbone, reader: DatasetReader, tmp_path: Path) -> None:
    """What a GPU runs, run here on the CPU's own half precision."""
    items, watch = features._Items([reader], base.preparer()), features._Watch(9, None, None)
    found = features._with_torch(base, items, torch.device("cpu"), 2, watch, shards=_shards(tmp_path))
    expected = _by_torch(base, reader)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-2 * np.abs(expected).max())
    assert next(base.module.parameters()).device.type == "cpu"


def test_the_torch_path_embeds_again_where_half_precision_overflows(
    base: Backbone, reader: DatasetReader, tmp_path: Path
) -> None:
    module = load(base.card.id, weights_dir=None, pretrained=False).module
    with torch.no_grad():
        next(module.parameters()).mul_(3e5)
    loud = Opened(base.identity, lambda: module)
    items, watch = features._Items([reader], base.preparer()), features._Watch(9, None, None)
    found = features._with_torch(loud, items, torch.device("cpu"), 2, watch, shards=_shards(tmp_path))
    assert np.abs(found).max() > 65504, "the test must go beyond half precision"
    np.testing.assert_allclose(found, _by_torch(loud.backbone(), reader), rtol=1e-3, atol=1e-3 * np.abs(found).max())
