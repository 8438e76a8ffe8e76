"""The inner loop against hand-written gradients; all at once as in turn; learners that learn; errors with remedies."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks import meta_speed
from core.contract.errors import JobError
from core.contract.few_shot import Initialisation
from core.contract.methods import METHODS
from tests.engine.jobs import TINY, Workshop
from tests.engine.test_few_shot import shapes
from worker.engine.backbones.small import Conv4
from worker.engine.few_shot.adapting import Opened, with_steps
from worker.engine.few_shot.embedder import Embedder
from worker.engine.few_shot.episode_norm import inside, install, keep_statistics
from worker.engine.few_shot.inner import InnerTraining, items_of, settled
from worker.engine.few_shot.settling import Kind
from worker.engine.few_shot.start import How, Inner
from worker.engine.few_shot.together import in_turn
from worker.engine.loop import Batch
from worker.engine.methods.maml import INNER as INNERS
from worker.engine.methods.maths.inner_loop import BIAS, WEIGHT, Items, descend
from worker.engine.methods.reptile import ReptileTraining

INNER = Inner(steps=3, test_steps=3, lr=0.3)
HOW = {
    "maml": How("maml"),
    "first": How("maml", order=1),
    "anil": How("anil", adapts="head"),
    "meta_sgd": How("meta_sgd", learns_rates=True),
    "reptile": How("reptile", order=1),
}
NEEDS_NORM = pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")


def body(seed: int = 0) -> nn.Module:
    """Two layers, so that the slope of the one depends on the other."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double()


def learner(how: str, *, inner: Inner = INNER, vectorise: Any = False, net: nn.Module | None = None) -> InnerTraining:
    name = "maml" if how == "first" else how
    setting: Any = SimpleNamespace(
        built=SimpleNamespace(module=Embedder(net or body(), None, 4), backbone=None),
        options=SimpleNamespace(train_shots=2),
        kind="features" if net is None else "scratch",
        task=SimpleNamespace(options=METHODS[name](vectorise=vectorise), device=torch.device("cpu")),
    )
    found = (ReptileTraining if how == "reptile" else InnerTraining)(setting, inner, HOW[how])
    found.module.double()
    return found


def episodes(count: int = 3, ways: int = 3, *, seed: int = 0) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    centres = torch.randn(count, ways, 1, 6, generator=rng, dtype=torch.float64)
    items = centres + 0.5 * torch.randn(count, ways, 5, 6, generator=rng, dtype=torch.float64)
    return Batch((items,), torch.arange(ways).expand(count, ways))


def by_hand(net: nn.Module, episode: Tensor, steps: int, lr: float, *, second: bool, body_steps: int = 99) -> Tensor:
    """The query loss by `torch.autograd.grad` on lists, the last steps of body and head alike."""
    ways = len(episode)
    known, asked = episode[:, :2].flatten(0, 1), episode[:, 2:].flatten(0, 1)
    weights = [*net.parameters(), torch.zeros(ways, 4, dtype=torch.float64), torch.zeros(ways, dtype=torch.float64)]
    weights[-2:] = [part.requires_grad_() for part in weights[-2:]]

    def loss(weights: list[Tensor], items: Tensor) -> Tensor:
        names = [name for name, _ in net.named_parameters()]
        z = torch.func.functional_call(net, dict(zip(names, weights[:-2], strict=True)), (items,))
        truth = torch.arange(ways).repeat_interleave(len(items) // ways)
        return nn.functional.cross_entropy(nn.functional.linear(z, weights[-2], weights[-1]), truth)

    for number in range(steps):
        slopes = torch.autograd.grad(loss(weights, known), weights, create_graph=second)
        if number < steps - body_steps:
            slopes = (*(torch.zeros_like(slope) for slope in slopes[:-2]), *slopes[-2:])
        weights = [
            part - lr * (slope if second else slope.detach()) for part, slope in zip(weights, slopes, strict=True)
        ]
    return loss(weights, asked)


def slopes_of(found: InnerTraining, value: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(value, list(found.module.parameters())))


@pytest.mark.parametrize("body_steps", [1, 2, 99])
@pytest.mark.parametrize(("how", "second"), [("maml", True), ("first", False)])
def test_gradients_are_those_of_a_loop_written_by_hand(how: str, second: bool, body_steps: int) -> None:
    found, batch = learner(how, inner=Inner(4, 4, 0.3, None if body_steps == 99 else body_steps)), episodes()
    value = found.loss(batch)["episodes"]
    net, rate = body(), 0.3 * 3 / 5
    wanted = torch.stack(
        [by_hand(net, one, 4, rate, second=second, body_steps=body_steps) for one in batch.inputs[0]]
    ).mean()
    torch.testing.assert_close(value, wanted)
    for ours, theirs in zip(slopes_of(found, value), torch.autograd.grad(wanted, list(net.parameters())), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_second_order_is_the_slope_of_the_loss_and_first_order_is_not() -> None:
    """Against finite differences."""
    batch, step = episodes(), 1e-5
    found = {how: slopes_of(one := learner(how), one.loss(batch)["episodes"])[0] for how in ("maml", "first")}
    one = learner("maml")
    first = next(one.module.parameters())
    with torch.no_grad():
        values = []
        for sign in (1, -1):
            first[1, 2] += sign * step
            values.append(float(one.loss(batch)["episodes"]))
            first[1, 2] -= sign * step
    slope = (values[0] - values[1]) / (2 * step)
    assert float(found["maml"][1, 2]) == pytest.approx(slope, rel=1e-5)
    assert abs(float(found["first"][1, 2]) - slope) > 1e-3 * abs(slope)


@pytest.mark.parametrize("how", list(HOW))
def test_all_at_once_is_as_in_turn(how: str) -> None:
    batch, found = episodes(), {}
    for vectorise in (False, True):
        one = learner(how, vectorise=vectorise)
        value = one.loss(batch)["episodes"]
        found[vectorise] = [value, *slopes_of(one, value)]
    torch.testing.assert_close(found[False], found[True])


@pytest.mark.parametrize("inner", [INNER, Inner(4, 4, 0.3, body=1), Inner(4, 4, 0.3, body=2, body_lr=0.1)])
@pytest.mark.parametrize("how", ["maml", "first"])
def test_a_layer_needs_no_weights_for_each_episode(how: str, inner: Inner) -> None:
    """What a service trains on cached features: the same slopes by inner products as by weights."""
    batch, found = episodes(), {}
    for vectorise in (False, True):
        one = learner(how, vectorise=vectorise, inner=inner)
        torch.manual_seed(1)
        one.start.embedder.backbone, one.start.embedder.neck = None, nn.Linear(6, 4).double()
        value = one.loss(batch)["episodes"]
        found[vectorise] = [value, *slopes_of(one, value)]
    torch.testing.assert_close(found[False], found[True])


@NEEDS_NORM
@pytest.mark.parametrize("how", ["maml", "anil"])
def test_convolutions_with_batch_norm_all_at_once(how: str) -> None:
    """Their statistics are those of each episode's known items."""
    rng = torch.Generator().manual_seed(1)
    items = torch.randn(2, 3, 5, 2, 6, 6, generator=rng, dtype=torch.float64)
    batch, found = Batch((items,), torch.arange(3).expand(2, 3)), {}
    for vectorise in (False, True):
        torch.manual_seed(0)
        conv = [nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        one = learner(how, vectorise=vectorise, net=nn.Sequential(*conv).double())
        value = one.loss(batch)["episodes"]
        found[vectorise] = [value, *slopes_of(one, value)]
    torch.testing.assert_close(found[False], found[True])


def test_reptile_moves_to_the_mean_of_the_ends() -> None:
    """Written by hand: plain gradient descent on a part of each class in every step."""
    one, batch = learner("reptile", inner=Inner(steps=2, test_steps=2, lr=0.3)), episodes()
    value = one.loss(batch)["episodes"]
    ends = []
    for episode in batch.inputs[0]:
        net, head = body(), nn.Linear(4, 3).double()
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        descent = torch.optim.SGD([*net.parameters(), *head.parameters()], lr=0.3 * 3 / 5)
        for part in episode.tensor_split(2, dim=1):
            descent.zero_grad()
            truth = torch.arange(3).repeat_interleave(part.shape[1])
            nn.functional.cross_entropy(head(net(part.flatten(0, 1))), truth).backward()
            descent.step()
        ends.append([part.detach() for part in net.parameters()])
    for number, (slope, start) in enumerate(zip(slopes_of(one, value), body().parameters(), strict=True)):
        torch.testing.assert_close(slope, start.detach() - torch.stack([end[number] for end in ends]).mean(dim=0))
    assert 0 < float(value.detach()) < 1.2


def test_rates_are_learnt() -> None:
    one = learner("meta_sgd")
    value = one.loss(episodes())["episodes"]
    names = ["backbone.0.weight", "backbone.0.bias", "backbone.2.weight", "backbone.2.bias", WEIGHT, BIAS]
    assert one.start.names == names
    assert all(slope.abs().max() > 0 for slope in torch.autograd.grad(value, list(one.start.rates)[:-1]))


def test_what_classes_share_in_their_start_changes_nothing() -> None:
    """Why the head starts at zero: by hand, from a common vector, the answers are the same."""
    net, items = body(), items_of(episodes(1).inputs[0][0])
    params = dict(net.named_parameters())
    rates: Any = dict.fromkeys([*params, WEIGHT, BIAS], 0.3)
    found = descend(lambda p, x: torch.func.functional_call(net, p, (x,)), params, [items] * 2, rates)
    common = torch.randn(4, dtype=torch.float64)
    head = [common.expand(3, 4).clone().requires_grad_(), torch.zeros(3, dtype=torch.float64, requires_grad=True)]
    for _ in range(2):
        loss = -(items.truth * (net(items.inputs) @ head[0].T + head[1]).log_softmax(1)).sum(1).mean()
        weights = [*net.parameters(), *head]
        slopes = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            for part, slope in zip(weights, slopes, strict=True):
                part -= 0.3 * slope
    torch.testing.assert_close(found.weight, head[0].detach() - common)
    torch.testing.assert_close(found.body["0.weight"], net[0].weight.detach())


@pytest.mark.parametrize("how", list(HOW))
def test_it_learns_to_tell_new_classes_apart(how: str) -> None:
    """Only two of six figures say anything, and the frozen network does not know which."""
    rng = np.random.default_rng(0)

    def draw(count: int, ways: int) -> Batch:
        items = rng.normal(0, 3.0, (count, ways, 5, 6))
        items[..., :2] = rng.normal(0, 2.0, (count, ways, 1, 2)) + rng.normal(0, 0.2, (count, ways, 5, 2))
        return Batch((torch.from_numpy(items),), torch.arange(ways).expand(count, ways))

    def right(one: InnerTraining, ways: int) -> float:
        found = []
        for items in draw_fixed[ways]:
            logits = one.answer(items[:, :2], items[:, 2:])
            assert logits.shape == (ways * 3, ways)
            found.append(float((logits.argmax(dim=1) == torch.arange(ways).repeat_interleave(3)).double().mean()))
        return float(np.mean(found))

    draw_fixed = {ways: draw(40, ways).inputs[0] for ways in (3, 4)}
    one = learner(how, vectorise=True, inner=Inner(5, 5, 0.1))
    before = right(one, 3)
    optimiser = torch.optim.Adam(one.module.parameters(), lr=1e-2)
    for _ in range(120):
        optimiser.zero_grad()
        one.loss(draw(8, 3))["episodes"].backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert right(one, 3) > max(before, 1 / 3) + 0.15
    assert right(one, 4) > 1 / 4 + 0.2  # any number of classes


@pytest.mark.parametrize("how", ["maml", "anil", "reptile"])
def test_steps_that_are_too_long_say_so(how: str) -> None:
    net = body()
    with torch.no_grad():
        net[2].weight.mul_(1e200)  # type: ignore[operator, union-attr]
    one = learner(how, net=net)
    items = episodes().inputs[0]
    for call in (lambda: one.loss(episodes()), lambda: one.answer(items[0, :, :2], items[0, :, 2:])):
        with pytest.raises(JobError) as caught:
            call()
        assert (caught.value.code, caught.value.param) == ("inner_loop_not_finite", "method.inner_lr")
        assert caught.value.hint


def test_what_is_faster_is_taken_and_told() -> None:
    one = learner("maml", vectorise="auto")
    one.loss(episodes(8))
    assert one.together.vectorise in {True, False}
    assert len(one.notes) == 1
    assert "8 episodes" in one.notes[0]
    assert " ms" in one.notes[0]


def test_an_item_is_answered_by_itself() -> None:
    """Whatever else is asked about; and with kept statistics, outside of an episode, too."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten()).double().eval()
    layout = install(net)
    known, asked = torch.randn(6, 2, 5, 5).double(), torch.randn(4, 2, 5, 5).double()
    with inside(layout, 6), torch.no_grad():
        all_at_once, alone = net(torch.cat([known, asked]))[6:], net(torch.cat([known, asked[:1]]))[6:]
        torch.testing.assert_close(net(known), net(torch.cat([known, asked]))[:6])
    torch.testing.assert_close(all_at_once[:1], alone)
    keep_statistics(net, layout, known)
    with torch.no_grad():
        torch.testing.assert_close(net(asked), all_at_once)


def test_a_choice_of_steps_is_one_for_tests_too() -> None:
    options: Any = METHODS["maml"]
    assert settled(options(), Inner(2, 3, 0.4)) == Inner(2, 3, 0.4)
    assert settled(options(inner_steps=7, inner_lr=0.1), Inner(2, 3, 0.4)) == Inner(7, 7, 0.1)
    assert settled(options(test_inner_steps=9), Inner(2, 3, 0.4)).test_steps == 9


def test_the_ratio_of_head_and_body_stays() -> None:
    """A body that moves at the head's rate after a head that knows something learns nothing."""
    options: Any = METHODS["maml"]
    usual = Inner(6, 6, 0.4, body=1, body_lr=0.02)
    assert settled(options(inner_lr=0.2), usual) == Inner(6, 6, 0.2, body=1, body_lr=pytest.approx(0.01))
    assert settled(options(inner_lr=0.2, body_lr=0.3, body_steps=2), usual) == Inner(6, 6, 0.2, body=2, body_lr=0.3)
    start = Initialisation(method="maml", inner_steps=6, inner_lr=0.4, adapts="all", body_steps=1, body_lr=0.02)
    assert with_steps(start, None, 0.2).body_lr == pytest.approx(0.01)
    assert with_steps(start, 3, None).body_lr == pytest.approx(0.02)


@pytest.mark.parametrize("inner", [Inner(4, 4, 0.3), Inner(4, 4, 0.3, body=1, body_lr=0.1)])
def test_a_job_adapts_as_the_training_did(inner: Inner) -> None:
    one, known = learner("maml", inner=inner), episodes().inputs[0][0, :, :2]
    start = Initialisation(
        method="maml", inner_steps=4, inner_lr=0.3, adapts="all", body_steps=inner.body, body_lr=inner.body_lr
    )
    found = Opened(one.start, None, start).adapt(items_of(known))
    with torch.no_grad():
        _, expected = one._logits(known, known, 4)
    torch.testing.assert_close(found.weight, expected.weight)
    assert any(not torch.equal(value, one.start.body()[name]) for name, value in found.body.items())
    for name, value in expected.body.items():
        torch.testing.assert_close(found.body[name], value)


@pytest.mark.parametrize("kind", ["scratch", "features"])
def test_the_loop_that_speed_is_measured_by_does_the_same(kind: Kind) -> None:
    """With what a job takes by itself: or the benchmark would compare two different things."""
    torch.manual_seed(1)
    sizes, width = ((3, 28, 28), 64) if kind == "scratch" else ((6,), 4)
    network = Conv4() if kind == "scratch" else body().float()
    one = meta_speed.learner_of(Embedder(network, None, width), kind, INNERS[kind])
    one.train(1)
    items = torch.randn(2, meta_speed.WAYS, meta_speed.SHOTS + meta_speed.QUERIES, *sizes)
    ours, theirs = one.loss(Batch((items,), torch.arange(5).expand(2, 5)))["episodes"], meta_speed.plain(one, items)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    for slope, other in zip(slopes_of(one, ours), slopes_of(one, theirs), strict=True):
        torch.testing.assert_close(slope, other, rtol=1e-2, atol=1e-3 * float(other.abs().max()) + 1e-7)


def test_in_turn_stacks() -> None:
    assert in_turn(lambda one: one.sum(), torch.ones(3, 2)).tolist() == [2, 2, 2]
    assert Items(torch.ones(1, 2), torch.ones(1, 1)).inputs.shape == (1, 2)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("inner_loop"))


@pytest.mark.parametrize("name", ["maml", "reptile"])
def test_a_whole_job(workshop: Workshop, name: str) -> None:
    """On cached features, vectorised; what `adapt_few_shot` needs stands in the manifest."""
    small = {"ways": [3], "shots": [1], "queries": 3, "episodes": 20, "steps": 1, "tasks": 4, "train_ways": 3}
    found = workshop.run({"name": name, **small}, workshop.data(shapes()), base_model=TINY)
    assert found.manifest is not None
    assert found.manifest.few_shot is not None
    start = found.manifest.few_shot.initialisation
    assert start is not None
    assert (start.method, start.adapts, start.statistics) == (name, "all", "fixed")
    assert found.manifest.method["inner_steps"] > 1
    assert found.manifest.method["test_inner_steps"] == start.inner_steps
