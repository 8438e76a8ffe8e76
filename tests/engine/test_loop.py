"""The training loop: schedule, best weights, early stop, the user's wishes, and a loss that explodes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from core.contract.errors import JobError
from worker.engine.checkpoint import Checkpoints
from worker.engine.door import CancelledError
from worker.engine.feeds import feature_feed
from worker.engine.heads import Head
from worker.engine.loop import Batch, Plan, Validation, rate, train
from worker.engine.steps import Wishes


class Linear:
    """Logistic regression in the loop."""

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        head = Head(rng.normal(size=(2, 4)).astype(np.float32), np.zeros(2, dtype=np.float32))
        self.module = head.as_module()
        self.steps = 0

    def train(self, _epoch):
        self.module.train()

    def loss(self, batch: Batch):
        self.steps += 1
        return {"cross_entropy": nn.functional.cross_entropy(self.module(*batch.inputs), batch.labels)}

    def deployable(self):
        return self.module.as_head()


@pytest.fixture
def data():
    rng = np.random.default_rng(1)
    labels = np.arange(64) % 2
    return (rng.normal(size=(64, 4)) + 2 * labels[:, None]).astype(np.float32), labels


def run(method, data, *, epochs=5, validate=None, wish=lambda: "go_on", patience=None, lr=0.1, seed=0):
    feed = feature_feed(*data, batch_size=16, seed=seed, device=torch.device("cpu"))
    plan = Plan(epochs=epochs, steps_per_epoch=4, warmup=0.1, patience=patience)
    optimiser = torch.optim.SGD(method.module.parameters(), lr=lr)
    checkpoints = Checkpoints(Path("nowhere"), lambda _kind, _data: None, {}, every=float("inf"))
    device = torch.device("cpu")
    wishes = Wishes(wish)
    return train(
        method, feed, optimiser, plan, device=device, validate=validate, wishes=wishes, checkpoints=checkpoints
    )


def weights(method):
    return method.module.weight.detach().numpy().copy()


def test_the_rate_rises_and_then_follows_the_cosine():
    factors = [rate(step, 100, 0.1) for step in range(100)]
    np.testing.assert_allclose(factors[:10], np.arange(1, 11) / 10)
    parameter = nn.Parameter(torch.zeros(1))
    oracle = torch.optim.SGD([parameter], lr=1.0)
    schedule = CosineAnnealingLR(oracle, 90)
    for factor in factors[10:]:
        assert factor == pytest.approx(oracle.param_groups[0]["lr"])
        oracle.step()
        schedule.step()
    assert rate(0, 10, 0.0) == 1.0


def test_it_learns_and_tells_the_curve(data):
    method = Linear()
    outcome = run(method, data, epochs=8)
    losses = [point.train_loss for point in outcome.curve]
    assert losses[-1] < 0.7 * losses[0]
    assert [point.x for point in outcome.curve] == list(range(1, 9))
    assert outcome.best_epoch is None
    assert method.steps == 32


def test_the_best_weights_come_back(data):
    method = Linear()
    seen = []

    def validate():
        seen.append(weights(method))
        return Validation(loss=[5, 4, 1, 3, 2, 6][len(seen) - 1], score=0.5)

    outcome = run(method, data, validate=validate)
    assert outcome.best_epoch == 2
    np.testing.assert_array_equal(weights(method), seen[2])
    assert not np.array_equal(seen[2], seen[3])


def test_the_start_may_be_the_best(data):
    method = Linear()
    before = weights(method)
    losses = iter([1.0, 2.0, float("nan"), 4.0, 5.0, 6.0])
    outcome = run(method, data, validate=lambda: Validation(next(losses), 0.5))
    assert outcome.best_epoch == 0
    np.testing.assert_array_equal(weights(method), before)


def test_it_stops_early_after_so_many_epochs_without_gain(data):
    losses = iter([9.0, 3.0, 4.0, 5.0, 1.0])
    outcome = run(Linear(), data, epochs=50, patience=2, validate=lambda: Validation(next(losses), 0.5))
    assert [point.x for point in outcome.curve] == [0, 1, 2, 3]
    assert outcome.best_epoch == 1
    assert not outcome.stopped


def test_a_wish_to_stop_ends_the_step_and_keeps_the_best(data):
    method = Linear()
    losses = iter([3.0, 1.0, 2.0, 9.0])
    seen = []

    def validate():
        seen.append(weights(method))
        return Validation(next(losses), 0.5)

    outcome = run(method, data, epochs=50, validate=validate, wish=lambda: "stop" if method.steps >= 10 else "go_on")
    assert method.steps == 10
    assert outcome.stopped
    assert outcome.curve[-1].x == 2.5  # what half an epoch brought was looked at too
    assert outcome.best_epoch == 1
    np.testing.assert_array_equal(weights(method), seen[1])


def test_a_wish_to_cancel_is_heard_at_the_next_step(data):
    method = Linear()
    with pytest.raises(CancelledError):
        run(method, data, wish=lambda: "cancel" if method.steps >= 3 else "go_on")
    assert method.steps == 3


def test_an_exploding_loss_ends_the_job_with_a_remedy(data):
    with pytest.raises(JobError) as caught:
        run(Linear(), (np.full_like(data[0], np.inf), data[1]))
    assert caught.value.code == "non_finite_loss"
    assert "head_lr" in (caught.value.hint or "")


def test_the_same_seed_gives_the_same_weights(data):
    found = []
    for seed in (3, 3, 4):
        method = Linear()
        run(method, data, seed=seed)
        found.append(weights(method))
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])
