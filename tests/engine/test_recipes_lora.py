"""LoRA: nothing changes at first, little is trained, and the merged network answers as the one that was trained."""

import copy

import pytest
import torch
from torch import nn

from core.contract.errors import JobError
from worker.engine.recipes.lora import add_lora, merge


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(6, 6) for _ in range(3))

    def forward(self, x):
        scores = torch.softmax(self.query(x) @ self.key(x).T, dim=1)
        return scores @ self.value(x)


def test_additions_begin_at_zero_are_all_that_learns_and_merge():
    torch.manual_seed(0)
    plain = nn.Sequential(Attention(), nn.Linear(6, 2))
    network, x = copy.deepcopy(plain), torch.randn(5, 6)
    add_lora(network, 2, 8.0, 0.0)
    torch.testing.assert_close(network(x), plain(x))
    learning = {name: part for name, part in network.named_parameters() if part.requires_grad}
    assert len(learning) == 4
    assert all("lora_" in name for name in learning)
    with torch.no_grad():
        for part in learning.values():
            part.normal_()
    expected = plain[0].query.weight + 4.0 * _product(learning, "query")
    trained = network(x)
    merge(network)
    torch.testing.assert_close(network[0].query.weight, expected)
    torch.testing.assert_close(network(x), trained)
    assert list(network.state_dict()) == list(plain.state_dict())
    torch.testing.assert_close(network[0].key.weight, plain[0].key.weight)


def _product(learning, name):
    parts = {key.split("lora_")[1][0]: part for key, part in learning.items() if f".{name}." in key}
    return parts["B"] @ parts["A"]


def test_a_network_without_attention_is_refused():
    with pytest.raises(JobError) as caught:
        add_lora(nn.Sequential(nn.Linear(3, 3)), 2, 4.0, 0.0)
    assert caught.value.param == "method.lora_rank"
