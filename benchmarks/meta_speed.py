"""The inner loop's speed: MAML's step as the service takes it against a plain loop over tasks with `autograd.grad`.

Both have the same loss and the same gradients of it, which is made sure of; they are timed in turn, and the ratio is
the median over pairs. On cached features (1280 figures, 5 ways, 1 shot, 16 tasks) all tasks are adapted to at once. A
job trains one layer on them, by inner products of the items: that is what the goal is for. A perceptron, which no job
makes, goes by `vmap` and stands beside it without one. Conv-4's on a CPU are one after the other, where what is spared
is the body's slope in the first step, which is zero.
"""

import statistics
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.common import Table, parser
from core.catalogue import find
from core.contract.methods import Maml
from worker.engine.backbones import small
from worker.engine.few_shot.embedder import WIDTH, Embedder
from worker.engine.few_shot.inner import InnerTraining
from worker.engine.few_shot.settling import Kind
from worker.engine.few_shot.start import How, Inner
from worker.engine.loop import Batch
from worker.engine.methods.maml import INNER
from worker.engine.methods.network import mixed
from worker.engine.methods.supervised import move

WAYS, SHOTS, QUERIES = 5, 1, 5
_FEATURES, _HIDDEN = 1280, 64
_PAIRS = 15
Step = Callable[[], tuple[float, list[Tensor]]]
"""A step's loss, and its slope by each parameter."""


def speed(table: Table, *, pairs: int = _PAIRS) -> None:
    """All three networks, second order as by default."""
    layer = Embedder(None, nn.Linear(_FEATURES, WIDTH), WIDTH)
    mlp = Embedder(nn.Sequential(nn.Linear(_FEATURES, WIDTH), nn.ReLU(), nn.Linear(WIDTH, _HIDDEN)), None, _HIDDEN)
    features = torch.randn(16, WAYS, SHOTS + QUERIES, _FEATURES)
    for what, network, goal in (("one layer", layer, 2.0), ("MLP", mlp, None)):
        name = f"cached features, {what}, 16 tasks"
        _compare(table, name, network, "features", features, goal=goal, pairs=pairs)
    card = find("conv4")
    assert card is not None
    network = Embedder(small.build(card), None, card.width)
    pictures = torch.randn(4, WAYS, SHOTS + QUERIES, 3, 28, 28)
    few = max(3, pairs // 3)
    _compare(table, "Conv-4, 28 x 28, 4 tasks", network, "scratch", pictures, goal=1.0, pairs=few)
    if mixed(torch.device("cpu"), on_cpu=True) is not None:
        _precisions(table, small.build(card), pairs=pairs)


def _precisions(table: Table, network: nn.Module, *, pairs: int) -> None:
    """A step of training on 180 pictures in bfloat16 against one in float32, both as a job trains."""
    move(network, torch.device("cpu"))
    pictures = torch.randn(180, 3, 28, 28).contiguous(memory_format=torch.channels_last)
    learning = list(network.parameters())

    def loss(dtype: torch.dtype | None) -> Tensor:
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            found: Tensor = network(pictures)
        return found.float().square().mean()

    steps = [_step(lambda dtype=dtype: loss(dtype), learning) for dtype in (torch.bfloat16, None)]  # type: ignore[misc]
    for step in steps:
        step()
    ratios = [_seconds(steps[1]) / _seconds(steps[0]) for _ in range(pairs)]
    table.add("Conv-4, 180 pictures: bfloat16, times as fast", statistics.median(ratios), ">= 1.5")


def _compare(
    table: Table,
    what: str,
    network: Embedder,
    kind: Kind,
    episodes: Tensor,
    *,
    pairs: int,
    goal: float | None = None,
) -> None:
    learner = learner_of(network, kind, INNER[kind])
    learner.train(1)
    batch = Batch((episodes,), torch.arange(WAYS).expand(len(episodes), WAYS))

    def ours() -> Tensor:
        return learner.loss(batch)["episodes"]

    def theirs() -> Tensor:
        return plain(learner, episodes)

    learning = [part for part in learner.module.parameters() if part.requires_grad]
    steps = [_step(ours, learning), _step(theirs, learning)]
    (one, slopes), (other, others) = (step() for step in steps)
    torch.testing.assert_close(torch.tensor(one), torch.tensor(other), rtol=1e-4, atol=1e-5)
    for slope, same in zip(slopes, others, strict=True):
        torch.testing.assert_close(slope, same, rtol=1e-2, atol=1e-3 * float(same.abs().max()) + 1e-7)
    seconds = [[_seconds(step) for step in steps] for _ in range(pairs)]
    ratio = statistics.median(loop / own for own, loop in seconds)
    table.add(f"{what}: a step of MAML", 1000 * statistics.median(own for own, _ in seconds), unit="ms")
    table.add(f"{what}: the plain loop's", 1000 * statistics.median(loop for _, loop in seconds), unit="ms")
    table.add(f"{what}: times as fast", ratio, "" if goal is None else f">= {goal}")


def learner_of(network: Embedder, kind: Kind, inner: Inner) -> InnerTraining:
    """What a job trains, without the job; like it, it adapts in the way that is the faster here."""
    setting: Any = SimpleNamespace(
        built=SimpleNamespace(module=network, backbone=None),
        options=SimpleNamespace(train_shots=SHOTS),
        kind=kind,
        task=SimpleNamespace(options=Maml(), device=torch.device("cpu")),
    )
    return InnerTraining(setting, inner, How("maml"))


def plain(learner: InnerTraining, episodes: Tensor) -> Tensor:
    """The same loss as one writes it first: for each task, for each step, `autograd.grad` of all weights."""
    return torch.stack([_plain(learner, episode) for episode in episodes]).mean()


def _plain(learner: InnerTraining, episode: Tensor) -> Tensor:
    known, asked = episode[:, :SHOTS].flatten(0, 1), episode[:, SHOTS:].flatten(0, 1)
    network = learner.start.embedder
    names = [name for name, _ in network.named_parameters()]
    head = [torch.zeros(WAYS, network.width, requires_grad=True), torch.zeros(WAYS, requires_grad=True)]
    weights = [*network.parameters(), *head]

    def loss(items: Tensor) -> Tensor:
        body = dict(zip(names, weights[:-2], strict=True))
        z = learner.start.embed(body, known) if items is known else learner.start.asked(body, known, items)
        truth = torch.arange(WAYS).repeat_interleave(len(items) // WAYS)
        return cross_entropy(nn.functional.linear(z, weights[-2], weights[-1]), truth)

    inner = learner.inner
    body_rates, head_rates = [inner.of_body] * len(names), [inner.lr, inner.lr]
    for number in range(inner.steps):
        still = len(names) if inner.body is not None and number < inner.steps - inner.body else 0
        slopes = torch.autograd.grad(loss(known), weights[still:], create_graph=True)
        steps = zip(weights[still:], slopes, [*body_rates, *head_rates][still:], strict=True)
        # Parts that stay are views: the next slope is by these alone, not by what the head was made with.
        weights = [*(part.view_as(part) for part in weights[:still]), *(now - rate * by for now, by, rate in steps)]
    return loss(asked)


def _step(loss: Callable[[], Tensor], learning: list[nn.Parameter]) -> Step:
    def step() -> tuple[float, list[Tensor]]:
        value = loss()
        return float(value.detach()), list(torch.autograd.grad(value, learning))

    return step


def _seconds(step: Step) -> float:
    begun = time.perf_counter()
    step()
    return time.perf_counter() - begun


def main() -> int:
    """The exit status is 1 if a goal was missed."""
    asked = parser(__doc__ or "").parse_args()
    table = Table("meta_speed")
    torch.manual_seed(0)
    speed(table, pairs=3 if asked.quick else _PAIRS)
    return table.finish(asked.json)


if __name__ == "__main__":
    sys.exit(main())
