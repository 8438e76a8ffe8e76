"""The inner loop: a few steps of gradient descent on one episode's known items. Tensors in, tensors out.

A network is `embed(body, items)`, embeddings (n, K) of items (n, …) by the body's parameters by name, and a linear head
with a row for each of W classes. All rows start at zero. Any other start that classes share would do just the same: in
a softmax what is added to all of them alike cancels, in every step (Ye, Chao, ICLR 2022; Kao, Chiu, Chen: MAML is a
Noisy Contrastive Learner in Classification, ICLR 2022). So any number of classes can be started from, and two things
are spared: the body's gradient in the first step, which is zero, and its second embedding of the same items.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import linear

Params = dict[str, Tensor]
Rates = dict[str, Tensor | float]
"""Learning rates: of each of the body's parameters, of the head's rows (K,) and of its biases (1,)."""
Embed = Callable[[Params, Tensor], Tensor]
Linear = tuple[Tensor, Tensor]
"""Weight (K, D) and bias (K,)."""
WEIGHT, BIAS = "start.weight", "start.bias"


@dataclass(frozen=True)
class Items:
    """Known items (n, …) and their classes as rows of zeros and a one, (n, W)."""

    inputs: Tensor
    truth: Tensor


@dataclass(frozen=True)
class Adapted:
    """What came of it."""

    body: Params
    weight: Tensor
    """(W, K)."""
    bias: Tensor
    """(W,)."""
    loss: Tensor
    """Mean cross-entropy of the known items before the last step."""


def descend(
    embed: Embed,
    body: Params,
    steps: Sequence[Items],
    rates: Rates,
    *,
    order: Literal[1, 2] = 2,
    body_steps: int | None = None,
) -> Adapted:
    """One step on each of `steps`, body and head together (Finn, Abbeel, Levine: MAML, ICML 2017).

    With `body_steps` the body moves in so many last ones only. Order 2 can be differentiated by the body and by the
    rates, through every step; order 1 takes slopes as constants.
    """
    still = head_steps(len(steps), body_steps)
    now, weight, bias = body, torch.zeros(()), torch.zeros(())
    z, pull, loss = torch.zeros(()), _unmoved, torch.zeros(())
    for number, items in enumerate(steps):
        given = now if order == 2 else {name: value.detach() for name, value in now.items()}
        if not 0 < number <= still or items is not steps[number - 1]:  # so long the body is where it was
            if len(steps) > still:
                z, pull = torch.func.vjp(_of(embed, items.inputs), given)[:2]
            else:
                z = embed(given, items.inputs)
        if number == 0:
            weight, bias = z.new_zeros(items.truth.shape[1], z.shape[1]), z.new_zeros(items.truth.shape[1])
        loss, error = _error(z, items.truth, weight, bias)
        slopes = pull(error @ weight)[0] if number >= still else {}
        now, weight, bias = (
            {name: value - rates[name] * slopes[name] if slopes else value for name, value in now.items()},
            weight - rates[WEIGHT] * (error.T @ z),
            bias - rates[BIAS] * error.sum(dim=0),
        )
        if order == 1:
            weight, bias = weight.detach(), bias.detach()
    return Adapted(now, weight, bias, loss)


def head_steps(steps: int, body_steps: int | None) -> int:
    """How many of the first steps move the head alone: in the first one there is no other way."""
    return 1 if body_steps is None else max(1, steps - body_steps)


def descend_layer(
    layer: Linear,
    known: Tensor,
    asked: Tensor,
    truth: Tensor,
    *,
    steps: int,
    rates: tuple[float, float],
    order: Literal[1, 2] = 2,
    body_steps: int | None = None,
) -> Tensor:
    """Logits (T, m, W) of items asked about (T, m, D) after steps of `descend` whose body is one linear layer.

    `rates` are the head's and the layer's.

    A step takes `slope.T @ known` from the layer's weights, so that what it makes of any items changes by their inner
    products with the known ones (T, n, D), times the slopes (T, n, K): no episode needs weights of its own.
    """
    rate, layer_rate = rates
    z, said = linear(known, *layer), linear(asked, *layer)
    near, far = 1 + known @ known.mT, 1 + asked @ known.mT  # the bias is a weight on a figure that is 1
    weight, bias = z.new_zeros(len(z), truth.shape[-1], z.shape[-1]), z.new_zeros(len(z), truth.shape[-1])
    for step in range(steps):
        _, error = _error(z, truth, weight, bias)
        slope, rows = error @ weight, error.mT @ z
        if order == 1:
            error, slope, rows = error.detach(), slope.detach(), rows.detach()
        weight, bias = weight - rate * rows, bias - rate * error.sum(dim=-2)
        if step >= head_steps(steps, body_steps):
            z, said = z - layer_rate * (near @ slope), said - layer_rate * (far @ slope)
    return logits_of(said, weight, bias)


def descend_head(z: Tensor, truth: Tensor, steps: int, rates: Rates) -> tuple[Tensor, Tensor, Tensor]:
    """The head alone: weights (…, W, K), biases (…, W) and the last loss, from embeddings (…, n, K); as ANIL has it.

    Raghu, Raghu, Bengio, Vinyals: Rapid Learning or Feature Reuse? ICLR 2020. Leading axes are episodes.
    """
    weight = z.new_zeros(*z.shape[:-2], truth.shape[-1], z.shape[-1])
    bias, loss = z.new_zeros(*z.shape[:-2], truth.shape[-1]), z.new_zeros(())
    for _ in range(steps):
        loss, error = _error(z, truth, weight, bias)
        weight = weight - rates[WEIGHT] * (error.mT @ z)
        bias = bias - rates[BIAS] * error.sum(dim=-2)
    return weight, bias, loss


def logits_of(z: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(…, n, W) of embeddings (…, n, K)."""
    return z @ weight.mT + bias.unsqueeze(-2)


def _error(z: Tensor, truth: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy, and its slope by the logits (…, n, W)."""
    said = torch.log_softmax(logits_of(z, weight, bias), dim=-1)
    loss = -(truth * said).sum(dim=-1).mean(dim=-1)
    return loss, (said.exp() - truth) / z.shape[-2]


def _of(embed: Embed, inputs: Tensor) -> Callable[[Params], Tensor]:
    return lambda body: embed(body, inputs)


def _unmoved(_slope: Tensor) -> tuple[Params]:
    raise AssertionError("the first step leaves the body where it is")
