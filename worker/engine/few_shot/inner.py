"""Learners that adapt by a few steps of gradient descent: what MAML, ANIL, Meta-SGD and Reptile share.

An episode's known items are (W, S, …), those asked about (W, Q, …). The head starts at zero, so that any number of
classes can be adapted to (see `maths.inner_loop`). Served are class means of the embedding; the start stands beside
them for `adapt_few_shot`.
"""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from core.contract.errors import JobError
from core.contract.few_shot import Initialisation
from core.contract.methods.inner_loop import BodyLoop, InnerLoop
from worker.engine.feeds import Floats
from worker.engine.few_shot import class_heads, training
from worker.engine.few_shot.episode_norm import Layout
from worker.engine.few_shot.learner import Known
from worker.engine.few_shot.learnt import Answer, Views
from worker.engine.few_shot.settling import Kind, Usual
from worker.engine.few_shot.start import RATES, How, Inner, Start, for_ways, in_step
from worker.engine.few_shot.together import Together
from worker.engine.few_shot.training import Setting
from worker.engine.loop import Batch
from worker.engine.methods.maths.inner_loop import (
    Adapted,
    Items,
    descend,
    descend_head,
    descend_layer,
    logits_of,
)
from worker.engine.stages import array
from worker.engine.task import Task, Trained


class InnerTraining:
    """Cross-entropy of what is asked about, after a few steps on what is known."""

    def __init__(self, setting: Setting, inner: Inner, how: How) -> None:
        options = setting.task.options
        assert isinstance(options, InnerLoop)
        by_support = setting.kind == "scratch"
        start = Start(setting.built.module, inner, learns_rates=how.learns_rates, by_support=by_support)
        self.start = start.to(setting.task.device)
        self.backbone, self.inner, self.how = setting.built.backbone, inner, how
        self._shots = setting.options.train_shots
        learning = [part for part in self.start.parameters() if part.requires_grad]
        self.together = Together(options.vectorise, learning)

    @property
    def module(self) -> nn.Module:
        return self.start

    @property
    def notes(self) -> list[str]:
        """What the job's page says of how it went."""
        return self.together.notes

    def train(self, _epoch: int) -> None:
        # Dropout is left out: the same items are embedded again and again on the way to one answer.
        self.start.eval()

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        episodes = batch.inputs[0]
        self.track(episodes[0])
        value = self._losses(episodes).mean()
        check_finite(value)
        return {"episodes": value}

    def _losses(self, episodes: Tensor) -> Tensor:
        """Of each of (T, W, S + Q, …), (T,)."""
        if self.how.adapts == "head":
            return self.together(self.of_heads, self.of_one, episodes)
        if self.start.embedder.backbone is None and not self.how.learns_rates:
            return self.together(self.of_layers, self.of_one, episodes)
        return self.together(self.vectorised, self.of_one, episodes)

    def vectorised(self, episodes: Tensor) -> Tensor:
        """`of_one` of all episodes (T, …) at once."""
        layout = self.start.layout or Layout()
        layout.fused = False
        found: Tensor = torch.func.vmap(self.of_one, randomness="different")(episodes)
        layout.fused = True
        return found

    def of_one(self, episode: Tensor) -> Tensor:
        """The loss of an episode (W, S + Q, …)."""
        known, asked = episode[:, : self._shots], episode[:, self._shots :]
        logits, _ = self._logits(known, asked, self.inner.steps)
        return cross_entropy(logits, _numbers(asked))

    def of_layers(self, episodes: Tensor) -> Tensor:
        """The losses (T,) where one layer on cached features is adapted with the head."""
        neck, ways = self.start.embedder.neck, episodes.shape[1]
        assert neck is not None
        known, asked = episodes[:, :, : self._shots].flatten(1, 2), episodes[:, :, self._shots :].flatten(1, 2)
        truth, inner = items_of(episodes[0, :, : self._shots]).truth, self.inner
        rates = inner.lr * for_ways(ways), inner.of_body * for_ways(ways)
        layer = neck.weight, neck.bias
        logits = descend_layer(
            layer, known, asked, truth, steps=inner.steps, rates=rates, order=self.how.order, body_steps=inner.body
        )
        return _losses(logits, ways)

    def of_heads(self, episodes: Tensor) -> Tensor:
        """The losses (T,) where the head alone is adapted: all episodes are embedded at once."""
        count, ways = episodes.shape[:2]
        known, asked = episodes[:, :, : self._shots], episodes[:, :, self._shots :]
        rows = torch.cat([known.flatten(1, 2), asked.flatten(1, 2)], dim=1)
        known_rows = ways * self._shots
        z = self.start.embed(self.start.body(), rows.flatten(0, 1), known_rows, count).reshape(*rows.shape[:2], -1)
        truth = items_of(known[0]).truth.to(z.dtype)
        weight, bias, _ = descend_head(z[:, :known_rows], truth, self.inner.steps, self.start.rates_by_name(ways))
        return _losses(logits_of(z[:, known_rows:], weight, bias), ways)

    def track(self, episode: Tensor) -> None:
        """Running statistics of the start, for what is served."""
        if self.start.layout is not None:
            self.start.train()
            with torch.no_grad():
                self.start.embedder(episode.flatten(0, 1))
            self.start.eval()

    def _logits(self, known: Tensor, asked: Tensor, steps: int) -> tuple[Tensor, Adapted]:
        """Logits (W Q, W), and what they were made with."""
        start, items, body = self.start, items_of(known), self.start.body()
        rates = start.rates_by_name(len(known))
        if self.how.adapts == "all":
            found = descend(start.embed, body, [items] * steps, rates, order=self.how.order, body_steps=self.inner.body)
            return logits_of(
                start.asked(found.body, items.inputs, asked.flatten(0, 1)), found.weight, found.bias
            ), found
        both = start.embed(body, torch.cat([items.inputs, asked.flatten(0, 1)]), len(items.inputs))
        z = both[: len(items.inputs)]
        weight, bias, loss = descend_head(z, items.truth.to(z.dtype), steps, rates)
        return logits_of(both[len(z) :], weight, bias), Adapted(body, weight, bias, loss)

    def answer(self, support: Tensor, query: Tensor) -> Tensor:
        """Logits (W Q, W), class by class, of items asked about (W, Q, …) from those known (W, S, …)."""
        self.start.eval()
        with torch.no_grad():
            logits, found = self._logits(support, query, self.inner.test_steps)
        check_finite(logits.sum() + found.loss)
        return logits

    def measured(self, views: Views) -> tuple[Answer, Views]:
        return self.answer, views

    def known(self, embedding: Floats, labels: NDArray[np.int64], classes: int, unseen: NDArray[np.bool_]) -> Known:
        stages = self.start.embedder.stages()
        found = class_heads.by_means(embedding, labels, classes, stages, scale=1.0, unseen=unseen)
        rates = zip(self.start.names, self.start.rates, strict=True)
        start = Initialisation(
            method=self.how.name,
            inner_steps=self.inner.test_steps,
            inner_lr=self.inner.lr,
            adapts=self.how.adapts,
            order=self.how.order,
            body_steps=self.inner.body,
            body_lr=self.inner.body_lr,
            rates=self.how.learns_rates,
            statistics="fixed" if self.start.layout is None else "support",
        )
        tensors = {f"{RATES}{name}": array(rate) for name, rate in rates}
        return replace(found, few_shot=replace(found.few_shot, tensors=tensors, initialisation=start))


def train(
    task: Task,
    usual: dict[Kind, Usual],
    inner: dict[Kind, Inner],
    how: How,
    learner: type[InnerTraining] = InnerTraining,
) -> Trained:
    """Meta-train; see `worker.engine.few_shot.training`."""
    options = task.options
    assert isinstance(options, InnerLoop)
    used: list[Inner] = []

    def make(setting: Setting) -> InnerTraining:
        used.append(settled(options, inner[setting.kind]))
        return learner(setting, used[0], how)

    trained = training.train(task, make, usual)
    chosen = {"inner_steps": used[0].steps, "test_inner_steps": used[0].test_steps, "inner_lr": used[0].lr}
    if isinstance(options, BodyLoop):
        chosen["body_lr"] = used[0].of_body
        chosen["body_steps"] = max(used[0].steps, used[0].test_steps) - 1 if used[0].body is None else used[0].body
    return replace(trained, options=trained.options | chosen)


def settled(options: InnerLoop, usual: Inner) -> Inner:
    """The steps as they are to be; a choice of `inner_steps` is one for tests, too."""
    steps = usual.steps if options.inner_steps == "auto" else options.inner_steps
    tested = usual.test_steps if options.inner_steps == "auto" else max(steps, usual.test_steps)
    if options.test_inner_steps != "auto":
        tested = options.test_inner_steps
    lr, body, body_lr = usual.lr, usual.body, usual.body_lr
    if options.inner_lr != "auto":
        lr, body_lr = options.inner_lr, in_step(body_lr, lr, options.inner_lr)
    if isinstance(options, BodyLoop):
        body = body if options.body_steps == "auto" else options.body_steps
        body_lr = body_lr if options.body_lr == "auto" else options.body_lr
    return Inner(steps, tested, lr, body, body_lr)


def items_of(known: Tensor) -> Items:
    """Items (W, S, …) in a row, class by class."""
    truth = one_hot(_numbers(known), len(known)).to(known.dtype)
    return Items(known.flatten(0, 1), truth)


def _numbers(items: Tensor) -> Tensor:
    """Classes (W n,) of items (W, n, …)."""
    return torch.arange(items.shape[0], device=items.device).repeat_interleave(items.shape[1])


def _losses(logits: Tensor, ways: int) -> Tensor:
    """Of each episode (T,), from logits (T, W Q, W)."""
    count, rows = logits.shape[:2]
    numbers = torch.arange(ways, device=logits.device).repeat_interleave(rows // ways).expand(count, -1)
    return cross_entropy(logits.flatten(0, 1), numbers.flatten(), reduction="none").reshape(count, -1).mean(dim=1)


def check_finite(value: Tensor) -> None:
    if not torch.isfinite(value.detach()).all():
        raise JobError(
            "The inner loop stopped giving numbers.",
            code="inner_loop_not_finite",
            param="method.inner_lr",
            hint="Lower `inner_lr`, or take fewer `inner_steps`.",
        )
