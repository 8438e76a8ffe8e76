"""`shot`: a source model first; then its features move to the target, its classifier stays, no source item is needed.

Liang, Hu, Feng: Do We Really Need to Access the Source Data? ICML 2020. After the epochs on the source the classifier
is frozen. Backbone and bottleneck then learn on target items alone: each answer sure, all classes given, and by labels
of the nearest class mean (C, K + 1) among the target's bottleneck features, which is taken anew each epoch.

A job without a source has no such epochs: it takes the whole classifier of the model it starts from, with a layer that
moves its features (`worker.engine.methods.adapter`) in the bottleneck's place.
"""

import torch
from torch import Tensor, nn

from core.contract.methods.shot import Shot as Options
from worker.engine.feeds import Floats
from worker.engine.loop import Batch, Feed
from worker.engine.methods import deep
from worker.engine.methods.domain_feeds import in_turn
from worker.engine.methods.domains import DomainTraining, Top, Weights
from worker.engine.methods.maths.alignment import centroids, directions, uncertainty
from worker.engine.methods.settling import Settled
from worker.engine.methods.worlds import World
from worker.engine.task import Task, Trained

_EPOCH = -1  # none yet


class Memory(nn.Module):
    """Directions of the classes in an epoch; part of the state, so that a training that goes on has the same ones."""

    means: Tensor
    epoch: Tensor

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(classes, width + 1))
        self.register_buffer("epoch", torch.tensor(_EPOCH))

    def labels(self, hidden: Tensor) -> Tensor:
        """Of items (n, K): the nearest class (n,)."""
        return (directions(hidden) @ self.means.T).argmax(dim=1)


class ShotTraining(DomainTraining):
    """Source items alone, then target items alone."""

    def __init__(self, world: World, neck: Top, options: Settled, pseudo: float) -> None:
        classifier = neck.classifier
        self.memory = Memory(classifier.in_features, classifier.out_features)
        weights = Weights(1.0, options.label_smoothing, options.source_epochs, options.epochs)
        super().__init__(
            world.backbone, neck, self.memory, weights, freeze=options.freeze, batch_norm=options.batch_norm
        )
        self._world, self._pseudo = world, pseudo

    def train(self, epoch: int) -> None:
        """Set training mode; on the target the classifier stays, and the class means are taken once an epoch."""
        adapting = epoch > self.weights.warm_epochs
        if adapting and int(self.memory.epoch) != epoch:
            self._remember(self._world.embed().target)
            self.memory.epoch.fill_(epoch)
        super().train(epoch)
        self.neck.classifier.requires_grad_(not adapting)

    @torch.no_grad()
    def _remember(self, target: Floats) -> None:
        embedding = torch.from_numpy(target).to(self.memory.means.device)
        self.neck.take_statistics(embedding)
        self.neck.eval()
        seen = self.neck(embedding)
        self.memory.means.copy_(centroids(seen.hidden, torch.softmax(seen.logits, dim=1)))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """On source items with labels, or on target items without."""
        seen = self.neck(self.backbone(*batch.inputs))
        if self.progress < 0:
            smoothing = self.weights.smoothing
            return {"task": nn.functional.cross_entropy(seen.logits, batch.labels, label_smoothing=smoothing)}
        said = nn.functional.cross_entropy(seen.logits, self.memory.labels(seen.hidden.detach()))
        return {"uncertainty": uncertainty(seen.logits), "pseudo_labels": self._pseudo * said}


def run(task: Task) -> Trained:
    """Train; see `worker.engine.methods.deep`."""
    options = task.options
    assert isinstance(options, Options)

    def join(source: Feed, target: Feed, settled: Settled) -> Feed:
        return in_turn(source, target, settled.source_epochs)

    def make(world: World, neck: Top, settled: Settled) -> DomainTraining:
        return ShotTraining(world, neck, settled, options.pseudo_labels)

    return deep.adapt(task, make, join)
