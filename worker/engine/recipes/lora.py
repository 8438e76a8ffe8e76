"""LoRA: the pretrained weights rest, and each linear layer learns an addition of low rank.

Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang, Chen: LoRA: Low-Rank Adaptation of Large Language Models, ICLR 2022; in
every linear layer and not only those of the attention, as Dettmers, Pagnoni, Holtzman, Zettlemoyer: QLoRA: Efficient
Finetuning of Quantized LLMs, NeurIPS 2023, found best.
"""

from collections.abc import Sequence
from typing import Any, Literal

from torch import nn


def add_lora(
    module: nn.Module,
    rank: int,
    alpha: float,
    dropout: float,
    targets: Literal["auto"] | Sequence[str] = "auto",
) -> nn.Module:
    """Put additions into the network, in place, and let nothing but them learn; it still does what it did.

    An addition counts `alpha / rank` times. `targets` are names of linear layers, or their ends; `auto` is every one
    within the network's list of layers. The first matrices are drawn from torch's generator, the second are zero.
    Raises `ValueError` where there is no such layer.
    """
    from peft import LoraConfig, inject_adapter_in_model

    names = _layers(module, None if targets == "auto" else targets)
    if not names:
        raise ValueError("the network has no such linear layers")
    count: Any = alpha  # peft takes any figure, and says it wants a whole one
    config = LoraConfig(r=rank, lora_alpha=count, lora_dropout=dropout, target_modules=names, bias="none")
    adapted: nn.Module = inject_adapter_in_model(config, module)
    return adapted


def _layers(module: nn.Module, ends: Sequence[str] | None) -> list[str]:
    linear = [name for name, part in module.named_modules() if isinstance(part, nn.Linear)]
    if ends is not None:
        return [name for name in linear if any(f".{name}".endswith(f".{end}") for end in ends)]
    lists = [name for name, part in module.named_modules() if isinstance(part, nn.ModuleList) and len(part)]
    return [name for name in linear if any(name.startswith(f"{place}.") for place in lists)]


def merge(module: nn.Module) -> nn.Module:
    """Add what was learnt to the weights, in place: the network is then built as it was before `add_lora`.

    Raises `ValueError` where figures that are not finite were learnt.
    """
    from peft.tuners.lora import LoraLayer

    for name, part in list(module.named_modules()):
        if isinstance(part, LoraLayer):
            layer: Any = part
            layer.merge(safe_merge=True)
            module.set_submodule(name, layer.get_base_layer())
    if hasattr(module, "peft_config"):
        del module.peft_config
    return module
