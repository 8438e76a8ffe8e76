"""`gan`: target-like data with labels, made of source data by a generator; the classifier learns from both.

In pixel space Bousmalis, Silberman, Dohan, Erhan, Krishnan (PixelDA), CVPR 2017; in feature space after Volpi, Morerio,
Savarese, Murino: Adversarial Feature Augmentation, CVPR 2018. The generator turns a source item, its label and noise
into an item near the source's that a critic, which knows the class (of target items: the predicted one), holds for a
target item. The classifier learns from source and generated items, and to be sure of target items. All parts learn at
once, from one backward pass: critic and classifier see generated items without their gradients, the generator sees a
critic that stands still.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot, softplus

from core.contract.errors import JobError
from core.contract.methods.gan import Gan as Options
from core.contract.prepare import ImagePrepare
from worker.engine.backbones import Base
from worker.engine.loop import Batch
from worker.engine.methods import deep, settling
from worker.engine.methods.domains import DomainTraining, Neck, Top, Weights, unmoved
from worker.engine.methods.generators import FeatureCritic, FeatureGenerator, PixelCritic, PixelGenerator, scaled
from worker.engine.methods.maths.alignment import entropy, ramp
from worker.engine.methods.settling import SMALL, Settled
from worker.engine.methods.worlds import World
from worker.engine.task import Task, Trained

PENALTY = 1.0  # on the critic's slope at real items (R1: Mescheder, Geiger, Nowozin, ICML 2018)
MAPS = 32  # of the networks in pixel space, at least


class GanTraining(DomainTraining):
    """Source items, target items, and items made of the source's."""

    def __init__(self, world: World, neck: Top, options: Settled, own: Options, parts: nn.ModuleDict) -> None:
        weights = Weights(own.weight, options.label_smoothing, options.source_epochs, options.epochs)
        super().__init__(world.backbone, neck, parts, weights, freeze=options.freeze, batch_norm=options.batch_norm)
        self.generator, self.critic = parts["generator"], parts["critic"]
        self.near, self.entropy = own.near, own.entropy
        self.pixels = isinstance(self.generator, PixelGenerator)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Cross entropy of source and generated items, and what generator and critic make of each other."""
        source, target = self.outputs(batch.inputs)
        smoothing = self.weights.smoothing
        losses = {"task": cross_entropy(source.logits, batch.labels, label_smoothing=smoothing)}
        if self.progress < 0:
            return losses
        if self.pixels:
            own, real = batch.inputs
        else:
            own, real = (self._sized(side.embedding.detach()) for side in (source, target))
        truth = one_hot(batch.labels, source.logits.shape[1]).to(own.dtype)
        guess = torch.softmax(target.logits.detach().float(), dim=1)
        made = self.generator(own, truth)
        with unmoved(self.module):  # the generator is not to make what is easily classified
            fed = made.detach()
            answer = self.neck(self.backbone(fed) if self.pixels else fed).logits
        said = cross_entropy(answer, batch.labels, label_smoothing=smoothing)
        share = ramp(self.progress)
        losses |= {
            "generated": share * self.weights.alignment * said,
            "near": self.near * (made - own).square().mean(),
            "entropy": share * self.entropy * entropy(torch.softmax(target.logits.float(), dim=1)).mean(),
        }
        return losses | self._contest(real, guess, made, truth)

    def _sized(self, embedding: Tensor) -> Tensor:
        return scaled(embedding) if self.neck.unit else embedding.float()

    def _contest(self, real: Tensor, guess: Tensor, made: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """Goodfellow et al., NIPS 2014, with the generator's loss that does not saturate."""
        real = real.detach().requires_grad_()
        marks = self.critic(real, guess)
        (slope,) = torch.autograd.grad(marks.sum(), real, create_graph=True)
        found = softplus(-marks).mean() + softplus(self.critic(made.detach(), truth)).mean()
        still = {name: value.detach() for name, value in self.critic.named_parameters()}
        fooled = softplus(-torch.func.functional_call(self.critic, still, (made, truth))).mean()
        steep = slope.flatten(1).square().sum(dim=1).mean()
        return {"critic": found, "slope": 0.5 * PENALTY * steep / slope[0].numel(), "generator": fooled}


def check(options: Options, base: Base) -> None:
    """Refuse what no deep method takes, and pixels where there are none or they are frozen."""
    settling.check(options, base)
    if options.space == "pixels" and (options.freeze == "all" or not _small(base)):
        raise JobError(
            f"Images are generated for networks of up to {SMALL} pixels that learn.",
            code="invalid_options",
            param="method.space",
            hint="Leave `space` out: embeddings are generated then.",
        )


def _small(base: Base) -> bool:
    prepare = base.identity.card.prepare
    return isinstance(prepare, ImagePrepare) and prepare.size <= SMALL


def run(task: Task) -> Trained:
    """Train; see `worker.engine.methods.deep`."""
    options = task.options
    assert isinstance(options, Options)
    roomy = task.device.type == "cuda" and _small(task.base) and options.freeze != "all"
    pixels = options.space == "pixels" or (options.space == "auto" and roomy)

    def make(world: World, neck: Top, settled: Settled) -> DomainTraining:
        assert isinstance(neck, Neck)
        classes, hidden = neck.classifier.out_features, options.generator
        if pixels:
            maps = max(MAPS, hidden // 4 // 8 * 8)
            generator: nn.Module = PixelGenerator(classes, options.noise, maps)
            critic: nn.Module = PixelCritic(classes, maps)
        else:
            generator = FeatureGenerator(neck.linear.in_features, classes, options.noise, hidden)
            critic = FeatureCritic(neck.linear.in_features, classes, hidden)
        parts = nn.ModuleDict({"generator": generator, "critic": critic})
        return GanTraining(world, neck, settled, options, parts)

    return deep.adapt(task, make)
