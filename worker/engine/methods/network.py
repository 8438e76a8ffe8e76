"""What training a network consists of, in the job's own process and in those that help it."""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core.contract.base_models import BaseModelCard
from core.contract.datasets import DatasetManifest
from core.contract.prepare import ImagePrepare
from core.modality.reader import DatasetReader
from core.recipes import Settled
from worker.engine import augment, devices, loop
from worker.engine.backbones import Backbone
from worker.engine.checkpoint import Checkpoints
from worker.engine.data import Collection, Items
from worker.engine.door import DataRef
from worker.engine.feeds import image_feed, item_feed
from worker.engine.heads import Head
from worker.engine.images import ImageCache
from worker.engine.loading import workers
from worker.engine.loop import Feed, Plan
from worker.engine.methods.supervised import NetworkTraining, move, optimiser
from worker.engine.prepared import PreparedItems
from worker.engine.recipes.distributed import Team, device_of
from worker.engine.recipes.objective import Objective
from worker.engine.steps import Wishes

_LARGE = 5_000_000  # parameters of a text encoder from which on half precision is worth it on a CPU
_BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16")


@dataclass(frozen=True)
class Course:
    """A network's training, but for the items and the device it takes place on."""

    backbone: Backbone
    head: Head
    options: Settled
    objective: Objective
    seed: int
    threads: int
    items: int
    """Training items."""
    remedy: str
    """What to do when the loss stops being a number."""

    def method(self, device: torch.device) -> NetworkTraining:
        """The network with its losses, on a device."""
        objective = self.objective.to(device)
        found = NetworkTraining(self.backbone, self.head.as_module(), self.options, objective)
        move(found.module, device)
        return found

    def plan(self, device: torch.device) -> Plan:
        """How long and how fast to train."""
        return plan(self.options, self.items, precision(self.options, device, self.backbone.card), self.remedy)

    def feed(
        self,
        items: Items,
        device: torch.device,
        pool: ThreadPoolExecutor,
        check: Callable[[], None] = lambda: None,
        team: Team | None = None,
    ) -> Feed:
        """Batches of training items, or a team's part of them: augmented images, or texts and rows as they are."""
        config = self.backbone.card.prepare
        share = 0.4 if team is None else 0.4 / team.size  # of the memory that is free now
        common: dict[str, Any] = {
            "batch_size": self.options.batch_size,
            "seed": self.seed,
            "device": device,
            "pool": pool,
            "ahead": self.threads + 1,
            "check": check,
            "part": team.part if team is not None else _whole,
        }
        if not isinstance(config, ImagePrepare):
            return item_feed(PreparedItems(items, self.backbone.preparer(), share=share), **common)
        recipe = augment.recipe(self.options.augmentation, horizontal_flip=self.options.horizontal_flip)
        return image_feed(ImageCache(items, config, share=share), recipe, **common)

    @property
    def processes(self) -> int:
        """How many train together: no more than the smallest batch has items."""
        batches = -(-self.items // self.options.batch_size)
        return max(1, min(self.options.devices, self.items // batches))


def _whole(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    return positions


def plan(options: Settled, items: int, autocast: torch.dtype | None, remedy: str) -> Plan:
    """How long and how fast to train on so many items."""
    return Plan(
        epochs=options.epochs,
        steps_per_epoch=-(-items // options.batch_size),
        warmup=options.warmup,
        patience=options.early_stop,
        autocast=autocast,
        ema=options.ema,
        remedy=remedy,
    )


def precision(options: Settled, device: torch.device, card: BaseModelCard) -> torch.dtype | None:
    """Type of mixed precision that a training takes on the device; None trains in float32.

    A CPU that multiplies bfloat16 itself trains MiniLM 2.8 times as fast by it; depthwise convolutions it makes no
    faster.
    """
    if not options.mixed_precision:
        return None
    return mixed(device, on_cpu=card.modality == "text" and card.parameters >= _LARGE)


def mixed(device: torch.device, *, on_cpu: bool = False) -> torch.dtype | None:
    """Type of mixed precision on the device, if there is one; `on_cpu` takes it where a CPU has instructions for it."""
    if device.type != "cuda":
        able = torch.cpu.get_capabilities() if on_cpu else {}
        return torch.bfloat16 if any(able.get(name) for name in _BFLOAT16) else None
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


@dataclass(frozen=True)
class Orders:
    """All that a helper has to know."""

    course: Course
    data: DataRef
    indices: NDArray[np.int64]
    labels: NDArray[Any]
    device: torch.device

    @classmethod
    def of(cls, course: Course, items: Items, device: torch.device) -> "Orders":
        """Orders to train on those items; `device` is rank 0's."""
        return cls(course, items.collection.ref, items.indices, items.labels, device)


def follow(team: Team, orders: Orders) -> None:
    """Train along with rank 0, which alone validates, saves and is heard."""
    course, device = orders.course, device_of(team.rank, orders.device)
    devices.use_threads(course.threads)
    manifest = DatasetManifest.model_validate_json(orders.data.manifest.read_bytes())
    collection = Collection(orders.data, "source", manifest, DatasetReader(manifest, orders.data.content))
    items = Items(collection, orders.indices, orders.labels)
    with repeatable(course.seed, device), workers(course.threads, "augment") as pool:
        method = course.method(device)
        loop.train(
            method,
            course.feed(items, device, pool, team=team),
            optimiser(method, course.options),
            replace(course.plan(device), ema=None, patience=None),
            device=device,
            validate=None,
            wishes=Wishes(lambda: "go_on"),
            checkpoints=Checkpoints(Path(), lambda _kind, _data: None, {}, every=math.inf),
            team=team,
        )
    collection.reader.close()


@contextmanager
def repeatable(seed: int, device: torch.device) -> Iterator[None]:
    """The same seed gives the same weights: dropout and its like draw from torch's own generators."""
    drawing = [device] if device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices=drawing),
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=True),
    ):
        torch.manual_seed(seed)
        yield
