"""LoRA: little learns, the rest is as it was, and a merged network is a plain one."""

import copy

import pytest
import torch
from torch import nn

from tests.engine.texts import tiny_card
from worker.engine.backbones import transformers_
from worker.engine.recipes.lora import add_lora, merge


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return transformers_.build(tiny_card()).eval()


IDS = torch.tensor([[2, 7, 8, 9, 3], [2, 5, 3, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


def _trained(module: nn.Module) -> nn.Module:
    optimiser = torch.optim.SGD([part for part in module.parameters() if part.requires_grad], lr=0.5)
    for _ in range(3):
        optimiser.zero_grad()
        module(IDS, MASK)[:, 0].sum().backward()
        optimiser.step()
    return module


def test_at_first_nothing_is_changed_and_only_the_additions_learn(network: nn.Module) -> None:
    before, plain = network(IDS, MASK), copy.deepcopy(network.state_dict())
    stages = transformers_.stages(tiny_card(), network)
    adapted = add_lora(network, 2, 4.0, 0.0)
    assert torch.equal(adapted(IDS, MASK), before)
    learning = {name for name, part in adapted.named_parameters() if part.requires_grad}
    assert learning
    assert all(".lora_A." in name or ".lora_B." in name for name in learning)
    assert {name.partition(".lora_")[0].rpartition(".")[2] for name in learning} >= {"query", "value", "dense"}
    held = {id(part) for _, parts in stages[1:] for one in parts for part in one.parameters()}
    assert {id(part) for part in adapted.parameters() if part.requires_grad} <= held, "stages hold what learns"
    _trained(adapted)
    assert not torch.allclose(adapted(IDS, MASK), before)
    rest = {name.replace(".base_layer", ""): part for name, part in adapted.state_dict().items() if "lora" not in name}
    assert rest.keys() == plain.keys()
    assert all(torch.equal(part, plain[name]) for name, part in rest.items())


def test_a_merged_network_is_built_as_before_and_says_the_same(network: nn.Module) -> None:
    names, kinds = list(network.state_dict()), [type(part) for part in network.modules()]
    adapted = _trained(add_lora(network, 2, 4.0, 0.1)).eval()
    said = adapted(IDS, MASK)
    merged = merge(adapted)
    assert list(merged.state_dict()) == names
    assert [type(part) for part in merged.modules()] == kinds
    assert torch.allclose(merged(IDS, MASK), said, atol=1e-5)
    assert not hasattr(merged, "peft_config")


def test_the_same_seed_gives_the_same_names_and_values(network: nn.Module) -> None:
    other = copy.deepcopy(network)
    found = []
    for module in (network, other):
        torch.manual_seed(3)
        found.append(_trained(add_lora(module, 4, 8.0, 0.0)).state_dict())
    assert list(found[0]) == list(found[1])
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_only_the_layers_that_are_named_get_additions(network: nn.Module) -> None:
    adapted = add_lora(network, 2, 4.0, 0.0, targets=["query", "value"])
    places = {
        name.partition(".lora_")[0].rpartition(".")[2] for name, _ in adapted.named_parameters() if "lora" in name
    }
    assert places == {"query", "value"}


def test_a_layer_that_is_not_there_is_refused(network: nn.Module) -> None:
    with pytest.raises(ValueError, match="no such linear layers"):
        add_lora(network, 2, 4.0, 0.0, targets=["qkv"])


def test_what_has_diverged_is_not_merged(network: nn.Module) -> None:
    adapted = add_lora(network, 2, 4.0, 0.0)
    for name, part in adapted.named_parameters():
        if "lora_B" in name:
            part.data.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"NaN|nan"):
        merge(adapted)
