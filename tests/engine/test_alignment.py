"""Losses between domains against brute force, item by item and class by class."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from worker.engine.methods.maths import alignment


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).float()


def gaussian(rows: np.ndarray, i: int, j: int, widths: list[float]) -> float:
    distance = ((rows[i] - rows[j]) ** 2).sum()
    return float(np.mean([math.exp(-distance / width) for width in widths]))


def mean_distance(rows: np.ndarray) -> float:
    count = len(rows)
    return sum(((rows[i] - rows[j]) ** 2).sum() for i in range(count) for j in range(count) if i != j) / (
        count * (count - 1)
    )


def mmd_of(kernel: np.ndarray, first: int) -> float:
    n, m = first, len(kernel) - first
    inside = sum(kernel[i, j] for i in range(n) for j in range(n)) / n**2
    outside = sum(kernel[i, j] for i in range(n, n + m) for j in range(n, n + m)) / m**2
    between = sum(kernel[i, j] for i in range(n) for j in range(n, n + m)) / (n * m)
    return inside + outside - 2 * between


def test_mmd_is_the_sum_over_pairs() -> None:
    x, y = draw(5, 3), draw(7, 3, seed=1) + 1
    rows = torch.cat([x, y]).double().numpy()
    widths = [mean_distance(rows) * scale for scale in alignment.OCTAVES]
    kernel = np.array([[gaussian(rows, i, j, widths) for j in range(12)] for i in range(12)])
    assert float(alignment.mmd(x, y)) == pytest.approx(mmd_of(kernel, 5), abs=1e-5)
    assert float(alignment.mmd(x, x)) == pytest.approx(0, abs=1e-6)


def test_joint_mmd_multiplies_the_layers_kernels() -> None:
    layers = [(draw(4, 3), draw(6, 3, seed=1)), (draw(4, 2, seed=2).softmax(1), draw(6, 2, seed=3).softmax(1))]
    product = np.ones((10, 10))
    for number, layer in enumerate(layers):
        rows = torch.cat(layer).double().numpy()
        widths = [mean_distance(rows) * scale for scale in (alignment.OCTAVES if number == 0 else (1.0,))]
        product *= np.array([[gaussian(rows, i, j, widths) for j in range(10)] for i in range(10)])
    assert float(alignment.joint_mmd(layers)) == pytest.approx(mmd_of(product, 4), abs=1e-5)


def test_mmd_pulls_the_domains_together() -> None:
    x, y = draw(50, 2), (draw(50, 2, seed=1) + 3).requires_grad_()
    alignment.mmd(x, y).backward()
    assert y.grad is not None
    assert (y.grad.mean(dim=0) > 0).all(), "downhill is towards the source"


def test_coral_compares_covariances_and_means() -> None:
    x, y = draw(9, 4), draw(11, 4, seed=1) * 2 + 1
    mine, theirs = np.cov(x.double().numpy().T), np.cov(y.double().numpy().T)
    means = x.double().numpy().mean(axis=0) - y.double().numpy().mean(axis=0)
    expected = ((mine - theirs) ** 2).mean() + (means**2).mean()
    assert float(alignment.coral(x, y)) == pytest.approx(expected, rel=1e-4)


def test_a_reversed_gradient_has_the_same_value_and_the_other_sign() -> None:
    x = draw(3, 2).requires_grad_()
    y = alignment.reverse(x, 0.25)
    assert torch.equal(y, x)
    (y * torch.arange(6.0).view(3, 2)).sum().backward()
    assert torch.allclose(x.grad, -0.25 * torch.arange(6.0).view(3, 2))


def test_the_adversary_is_let_in_slowly() -> None:
    assert alignment.ramp(0) == alignment.ramp(-1) == 0
    assert alignment.ramp(0.5) == pytest.approx(2 / (1 + math.exp(-5)) - 1)
    assert 0.9999 < alignment.ramp(1) < 1


def test_sure_items_count_more() -> None:
    sure = torch.tensor([[1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    weights = alignment.certainty(sure)
    assert float(weights.mean()) == pytest.approx(1)
    assert float(weights[0] / weights[1]) == pytest.approx(2 / (1 + 1 / 3), rel=1e-5)


def test_features_are_conditioned_on_every_class() -> None:
    hidden, sure = draw(4, 3), draw(4, 2, seed=1).softmax(1)
    expected = torch.stack([torch.outer(sure[i], hidden[i]).flatten() for i in range(4)])
    assert torch.allclose(alignment.conditioned(hidden, sure), expected)


def test_confusion_is_that_of_the_paper() -> None:
    """Jin et al., equations 2 to 7, one entry at a time."""
    logits, classes, temperature = draw(6, 3), 3, 2.5
    sure = (logits / temperature).softmax(1).double().numpy()
    entropies = [-(row * np.log(row)).sum() for row in sure]
    weights = [len(sure) * (1 + math.exp(-e)) / sum(1 + math.exp(-other) for other in entropies) for e in entropies]
    table = np.array(
        [
            [sum(weights[i] * sure[i, a] * sure[i, b] for i in range(len(sure))) for b in range(classes)]
            for a in range(classes)
        ]
    )
    table /= table.sum(axis=1, keepdims=True)
    expected = sum(table[a, b] for a in range(classes) for b in range(classes) if a != b) / classes
    assert float(alignment.confusion(logits, temperature)) == pytest.approx(expected, rel=1e-5)
    assert float(alignment.confusion(100 * torch.eye(3))) == pytest.approx(0, abs=1e-6), "nothing is confused"


def test_uncertainty_is_least_where_answers_are_sure_and_even() -> None:
    even, one_sided = 100 * torch.eye(4), 100 * torch.eye(4)[[0, 0, 0, 0]]
    assert float(alignment.uncertainty(even)) == pytest.approx(-math.log(4), abs=1e-4)
    assert float(alignment.uncertainty(one_sided)) == pytest.approx(0, abs=1e-4)
    assert float(alignment.uncertainty(torch.zeros(5, 4))) == pytest.approx(0, abs=1e-6)


def test_class_directions_are_means_of_what_is_near() -> None:
    hidden, sure = draw(8, 3).abs(), draw(8, 2, seed=1).softmax(1)
    rows = [np.append(row, 1) / np.linalg.norm(np.append(row, 1)) for row in hidden.double().numpy()]

    def directions(shares: np.ndarray) -> list[np.ndarray]:
        sums = [sum(shares[i, c] * rows[i] for i in range(8)) for c in range(2)]
        return [total / max(np.linalg.norm(total), 1e-12) for total in sums]

    soft = directions(sure.double().numpy())
    nearest = [max(range(2), key=lambda c: float(rows[i] @ soft[c])) for i in range(8)]
    expected = directions(np.eye(2)[nearest])
    assert np.allclose(alignment.centroids(hidden, sure).numpy(), expected, atol=1e-5)


def test_a_class_that_nothing_is_near_to_has_no_direction() -> None:
    hidden, sure = torch.ones(4, 3), torch.tensor([[0.9, 0.1]]).repeat(4, 1)
    found = alignment.centroids(hidden, sure)
    assert torch.equal(found[1], torch.zeros(4)) or torch.equal(found[0], torch.zeros(4))
    assert torch.isfinite(found).all()
