"""What the tests of texts share: a tiny encoder with a tokenizer of its own, and a folder that holds both."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from core.contract.base_models import BaseModelCard
from worker.engine.backbones import transformers_

NAME = "hf:tiny/encoder"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
WORDS = ("good", "bad", "book", "film", "very", "not", "the", "a", "is", "was", "##s", "##ly", ".", "!")
CONFIG: dict[str, Any] = {
    "model_type": "bert",
    "vocab_size": len(SPECIAL) + len(WORDS),
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
}


def tokenizer(words: Sequence[str] = WORDS) -> bytes:
    """A WordPiece tokenizer of a few words, as `tokenizer.json`."""
    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *words))}
    found = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    found.normalizer = normalizers.BertNormalizer()
    found.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    found.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    found.decoder = decoders.WordPiece()
    return found.to_str().encode()


@cache
def tiny_card(pooling: str = "mean") -> BaseModelCard:
    """The card of the tiny encoder."""
    return transformers_.card(NAME, CONFIG | {"pooling": pooling})


@cache
def tiny_state() -> dict[str, torch.Tensor]:
    """Random but fixed weights, under the names that files have."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = transformers_.build(tiny_card())
    return {name.removeprefix("model."): tensor for name, tensor in module.state_dict().items()}


def lay_down(weights: Path, pooling: str | None = None) -> Path:
    """Put the tiny encoder's files where GRAFT_WEIGHTS_DIR has them; returns their folder."""
    folder = weights / "tiny" / "encoder"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_bytes(tokenizer())
    save_file(tiny_state(), folder / "model.safetensors")
    if pooling:
        (folder / "1_Pooling").mkdir()
        said = {"pooling_mode_cls_token": pooling == "cls", "pooling_mode_mean_tokens": pooling == "mean"}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(said))
    return folder
