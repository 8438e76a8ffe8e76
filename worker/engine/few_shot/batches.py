"""Episodes as batches of items: as they are, laid over one another, or answered."""

import numpy as np
import torch

from worker.engine.few_shot.episodes import Episode
from worker.engine.few_shot.learnt import Answer, Ints, Views
from worker.engine.few_shot.views import Pictures
from worker.engine.loop import Batch


def batch_of(episodes: list[Episode], views: Views, rng: np.random.Generator | None, device: torch.device) -> Batch:
    """Episodes of one shape as a batch: inputs (T, W, K + Q, …), labels (T, W)."""
    return _as_batch(views(*_flat(episodes), rng), episodes, device)


def overlaid(
    episodes: list[Episode], others: list[Episode], views: Views, rng: np.random.Generator, device: torch.device
) -> Batch:
    """The same of classes that are made of two each, laid over one another: there are as many of these as pairs."""
    assert isinstance(views, Pictures)
    return _as_batch(views.overlaid([_flat(episodes), _flat(others)], rng), episodes, device)


def _flat(episodes: list[Episode]) -> tuple[Ints, Ints]:
    """Rows and turns of all items."""
    rows = np.concatenate([episode.rows.ravel() for episode in episodes])
    return rows, np.concatenate([episode.flat_turns for episode in episodes])


def _as_batch(inputs: torch.Tensor, episodes: list[Episode], device: torch.device) -> Batch:
    ways, items = episodes[0].rows.shape
    labels = torch.arange(ways, device=device).expand(len(episodes), ways)
    return Batch((inputs.reshape(len(episodes), ways, items, *inputs.shape[1:]),), labels)


def asked(answer: Answer, episode: Episode, views: Views, device: torch.device) -> torch.Tensor:
    """What is said (W Q, W) of an episode's items that are asked about."""
    inputs = batch_of([episode], views, None, device).inputs[0][0]
    return answer(inputs[:, : episode.shots], inputs[:, episode.shots :]).detach()
