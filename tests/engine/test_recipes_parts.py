"""Each part of a recipe against a computation of its own."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import InterpolationMode, autoaugment

from core.catalogue import find
from core.contract.methods import FineTune
from core.recipes import Facts, resolve
from worker.engine.methods.network import precision
from worker.engine.recipes import class_weights, l2sp, layer_decay, mixup, unfreezing, wise
from worker.engine.recipes.ema import Average, decay_at
from worker.engine.recipes.objective import Objective
from worker.engine.recipes.rand_augment import MENU, rand_augment


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def test_the_average_is_the_sum_of_all_states_by_their_decays(network):
    weights = [network[0].weight.detach().clone()]
    average = Average(network, 0.6)
    for step in range(1, 30):
        with torch.no_grad():
            network[0].weight.normal_()
        network[1].num_batches_tracked += 1
        average.update(step)
        weights.append(network[0].weight.detach().clone())
    shares = [1.0]
    for step in range(1, 30):
        decay = min(0.6, step / (step + 9))
        shares = [share * decay for share in shares] + [1 - decay]
    assert sum(shares) == pytest.approx(1)
    expected = sum(share * weight for share, weight in zip(shares, weights, strict=True))
    torch.testing.assert_close(average.state["0.weight"], expected)
    assert average.state["1.num_batches_tracked"] == 29
    assert decay_at(1000, 0.6) == 0.6


def test_the_averaged_state_is_inside_for_a_while_only(network):
    average = Average(network, 0.9)
    with torch.no_grad():
        network[0].weight.normal_()
    own = copy.deepcopy(network.state_dict())
    with pytest.raises(KeyError), average.inside():
        assert torch.equal(network[0].weight, average.state["0.weight"])
        assert not torch.equal(network[0].weight, own["0.weight"])
        raise KeyError
    assert all(torch.equal(value, own[name]) for name, value in network.state_dict().items())


def test_each_stage_learns_more_slowly_than_the_one_after_it(network):
    assert layer_decay.rates(3, 0.8, 0.5) == [0.2, 0.4, 0.8]
    assert layer_decay.rates(2, 0.1, 1.0) == [0.1, 0.1]
    shared = network[0]
    numbers = layer_decay.stage_numbers([("a", [shared]), ("b", [network[1], shared]), ("c", [network[2]])])
    found = {name: numbers[id(part)] for name, part in network.named_parameters()}
    assert found == {"0.weight": 0, "0.bias": 0, "1.weight": 1, "1.bias": 1, "2.weight": 2, "2.bias": 2}


@pytest.mark.parametrize(("stages", "epochs"), [(1, 1), (4, 2), (9, 10), (3, 40)])
def test_stages_wake_from_the_last_and_all_by_half_the_epochs(stages, epochs):
    still = [unfreezing.still_stages(stages, epoch, epochs) for epoch in range(1, epochs + 1)]
    assert still[0] == stages, "the head alone"
    assert still == sorted(still, reverse=True)
    assert all(count == 0 for count in still[max(1, epochs // 2) :])
    assert len(still[: epochs // 2]) < stages or len(set(still)) == stages + 1, "one after the other, if there is time"


def test_weights_between_start_and_end(network):
    start = wise.copied(network)
    with torch.no_grad():
        network[2].bias.add_(8.0)
    network[1].num_batches_tracked += 3
    found = wise.between(start, network.state_dict(), 0.25)
    torch.testing.assert_close(found["2.bias"], start["2.bias"] + 2.0)
    assert found["1.num_batches_tracked"] == 3
    assert all(
        torch.equal(found[name], start[name]) for name in start if name not in {"2.bias", "1.num_batches_tracked"}
    )


@pytest.mark.parametrize("problem", ["classification", "multi_label", "regression"])
def test_the_loss_of_a_mixture_is_the_mixture_of_the_losses(problem):
    """Cross entropies are linear in their targets; of a squared error the targets themselves are mixed."""
    torch.manual_seed(0)
    count = 1 if problem == "regression" else 3
    logits = torch.randn(6, count)
    targets = {
        "classification": torch.randint(3, (6,)),
        "multi_label": torch.randint(2, (6, 3)).float(),
        "regression": torch.randn(6, 1),
    }[problem]
    weights = None if problem == "regression" else torch.tensor([0.5, 1.0, 2.0])
    objective = Objective(problem, count, 0.1 if problem == "classification" else 0.0, weights, 0.4)
    mixture = objective.mixture(targets)
    own, other = objective(logits, targets), objective(logits, targets[mixture.partner])
    found = objective(logits, targets, mixture)
    if problem == "regression":
        mixed = mixture.share * targets + (1 - mixture.share) * targets[mixture.partner]
        torch.testing.assert_close(found, 0.5 * (logits - mixed).square().mean())
    else:
        torch.testing.assert_close(found, mixture.share * own + (1 - mixture.share) * other)


def test_shares_are_drawn_from_beta_and_follow_torchs_generator():
    torch.manual_seed(0)
    shares = torch.tensor([mixup.draw(2, 0.4, torch.device("cpu")).share for _ in range(4000)])
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(shares.var()) == pytest.approx(1 / (4 * 1.8), abs=0.01)
    first, second = (_draw(7) for _ in range(2))
    assert first.share == second.share
    assert torch.equal(first.partner, second.partner)
    x = torch.randn(5, 2)
    torch.testing.assert_close(first(x), first.share * x + (1 - first.share) * x[first.partner])


def _draw(seed):
    torch.manual_seed(seed)
    return mixup.draw(5, 0.4, torch.device("cpu"))


def test_the_pull_to_the_start_is_the_gradient_of_half_the_squared_distance(network):
    network[0].bias.requires_grad_(False)
    start = l2sp.Start(network.parameters())
    then = wise.copied(network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter))
    start.penalty(0.3).backward()
    for name, parameter in network.named_parameters():
        if name == "0.bias":
            assert parameter.grad is None
        else:
            torch.testing.assert_close(parameter.grad, 0.3 * (parameter.detach() - then[name]))


def test_balanced_weights_make_classes_count_alike():
    labels = np.array([0] * 6 + [1] * 3 + [3])
    weights = class_weights.balanced("classification", labels, 4)
    totals = np.bincount(labels, weights=weights[labels], minlength=4)
    np.testing.assert_allclose(totals[[0, 1, 3]], len(labels) / 3, rtol=1e-6)
    several = np.array([[1, 0, 1]] * 2 + [[0, 0, 1]] * 6, dtype=np.float32)
    np.testing.assert_allclose(class_weights.balanced("multi_label", several, 3), [3.0, 8.0, 0.01], rtol=1e-6)
    assert class_weights.balanced("regression", np.ones((3, 1)), 1) is None


def test_weighted_losses_of_parts_add_up_to_the_whole():
    torch.manual_seed(1)
    logits, targets = torch.randn(10, 3), torch.randint(3, (10,))
    objective = Objective("classification", 3, 0.1, torch.tensor([0.2, 1.0, 3.0]))
    parts = [objective(logits[part], targets[part]) * len(part) / 10 for part in torch.arange(10).tensor_split(3)]
    torch.testing.assert_close(sum(parts), objective(logits, targets))


def test_every_operation_equals_torchvisions():
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (40, 36, 3), dtype=np.uint8))
    space = autoaugment.RandAugment()._augmentation_space(31, (40, 36))
    assert set(space) == set(MENU)
    for name, (strengths, signed) in space.items():
        strength = float(strengths[9]) if strengths.ndim else 0.0
        for sign in (1, -1) if signed else (1,):
            expected = autoaugment._apply_op(
                image, name, strength * sign, interpolation=InterpolationMode.NEAREST, fill=None
            )
            np.testing.assert_array_equal(np.asarray(MENU[name](image, sign)), np.asarray(expected), err_msg=name)


def test_draws_depend_on_the_generator_alone():
    view = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    first, second, other = (rand_augment(view, np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)
    assert first.shape == view.shape


def test_half_precision_on_a_cpu_is_for_large_text_encoders_alone():
    options = resolve(FineTune(), Facts("text", "classification", 1000, find("minilm_l6")))[0]
    cpu, able = torch.device("cpu"), torch.cpu.get_capabilities()
    expected = torch.bfloat16 if able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16") else None
    assert precision(options, cpu, find("minilm_l6")) == expected
    assert precision(options, cpu, find("resnet50")) is None
    assert precision(options, cpu, find("minilm_l6").model_copy(update={"parameters": 10_000})) is None
    assert precision(options.model_copy(update={"mixed_precision": False}), cpu, find("minilm_l6")) is None
