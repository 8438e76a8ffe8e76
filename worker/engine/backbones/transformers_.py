"""Encoders of texts, built from the figures of their `config.json` by transformers' own classes.

Nothing here fetches anything, runs code of a model's repository or reads a pickle. The embedding is the mean of the
tokens' (Reimers, Gurevych: Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks, EMNLP-IJCNLP 2019), or the
first token's where the model was trained for that.
"""

import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from core.catalogue import HF_PREFIX
from core.contract.base_models import BaseModelCard, Weights
from core.contract.errors import JobError
from core.contract.prepare import TextPrepare
from worker.engine.backbones.backbone import Stages, with_leftovers

TYPES = ("bert", "camembert", "deberta-v2", "distilbert", "electra", "modernbert", "mpnet", "roberta", "xlm-roberta")
"""Values of `model_type` that are known to work, export included."""
_AFTER_PADDING = {"camembert", "mpnet", "roberta", "xlm-roberta"}  # their positions are counted from the padding's on
_SAID = {"_name_or_path", "architectures", "auto_map", "dtype", "id2label", "label2id", "quantization_config"}
_SAID |= {"torch_dtype", "transformers_version", "use_cache", "finetuning_task"}
_TOKENS = 128
_PREFIX = "model."


class Encoder(nn.Module):
    """Tokens (N, T) and what of them is text (N, T) -> (N, D)."""

    def __init__(self, model: nn.Module, pooling: str) -> None:
        super().__init__()
        self.model, self.pooling = model, pooling

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Padding has no part in it."""
        hidden: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        if self.pooling == "cls":
            return hidden[:, 0]
        share = attention_mask / attention_mask.sum(dim=1, keepdim=True).clamp(min=1)
        return (hidden * share.unsqueeze(2).to(hidden.dtype)).sum(dim=1)


def build(card: BaseModelCard) -> nn.Module:
    """The network with random weights, without heads; float32, with plain attention, which can be exported."""
    return _build(card.config)


def _build(figures: Mapping[str, Any]) -> nn.Module:
    transformers = _library()
    config = transformers.AutoConfig.for_model(**_without(figures, {"pooling"}))
    model = transformers.AutoModel.from_config(
        config, attn_implementation="eager", dtype=torch.float32, trust_remote_code=False
    )
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return Encoder(model, figures.get("pooling", "mean"))


def _library() -> Any:
    """transformers, silent and without telemetry; its import takes seconds, so it waits until it is needed."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    return import_module("transformers")


def behead(_card: BaseModelCard, module: nn.Module) -> nn.Module:
    """These networks are built without heads."""
    return module


def rename(_card: BaseModelCard, tensors: dict[str, Tensor], names: list[str]) -> dict[str, Tensor]:
    """Tensors of a weights file under the network's names; those of heads are left out.

    Files of networks with a head put the encoder's name before each tensor's (`bert.`); very old ones call the weight
    and bias of norms gamma and beta.
    """
    known = set(names)
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        now = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        for place in (now, _PREFIX + now, _PREFIX + now.partition(".")[2]):
            if place in known:
                found[place] = tensor
                break
    return found


def stages(_card: BaseModelCard, module: nn.Module) -> Stages:
    """The embeddings (with all that several layers share), then each layer; a last norm belongs to the last layer."""
    return _stages(module)


def _stages(module: nn.Module) -> Stages:
    model = module.get_submodule("model")
    layers = next(part for part in model.modules() if isinstance(part, nn.ModuleList) and len(part))
    found: Stages = [("embeddings", [model.get_submodule("embeddings")])]
    found += [(f"layer.{number}", [layer]) for number, layer in enumerate(layers)]
    if "final_norm" in dict(model.named_children()):
        found[-1][1].append(model.get_submodule("final_norm"))
    return with_leftovers(module, found)


def card(base_model: str, config: Mapping[str, Any]) -> BaseModelCard:
    """A card for `hf:<name>` from its `config.json` and `pooling`.

    Raises `JobError` `base_model_unsuitable` where it is not an encoder of a known kind.
    """
    name = base_model.removeprefix(HF_PREFIX)
    kind = config.get("model_type")
    if kind not in TYPES:
        raise _unsuitable(name, f"its type is {str(kind)[:40]!r}")
    figures = {"pooling": "mean"} | _without(config, _SAID)
    try:
        with torch.device("meta"):
            module = _build(figures)
        rest: Any = module.get_submodule("model").config
        lost = int(rest.pad_token_id) + 1 if kind in _AFTER_PADDING else 0
        prepare = TextPrepare(max_tokens=min(_TOKENS, int(rest.max_position_embeddings) - lost))
        width = int(rest.hidden_size)
    except Exception as error:  # a wrong figure raises whatever stumbles over it first
        raise _unsuitable(name, f"its config.json cannot be used: {str(error)[:160]}") from error
    return BaseModelCard(
        id=base_model,
        title=f"{name} (transformers)",
        modality="text",
        builder="transformers",
        architecture=name,
        width=width,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        stages=[stage for stage, _ in _stages(module)],
        prepare=prepare,
        config=figures,
        weights=Weights(source="transformers", file="model.safetensors", entry=name),
        licence="not stated; see its page at the hub",
        pretrained_on="see its page at the hub",
        paper="see its page at the hub",
    )


def _without(figures: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in figures.items() if name not in names}


def _unsuitable(name: str, why: str) -> JobError:
    return JobError(
        f"{name} cannot be a base model: {why}.",
        code="base_model_unsuitable",
        param="base_model",
        hint=f"Choose an encoder of type {', '.join(TYPES)}.",
    )
