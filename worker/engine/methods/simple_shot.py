"""`simple_shot`: the nearest class mean of the frozen base model's features, centred and scaled to length one.

Wang, Chao, Weinberger, van der Maaten: SimpleShot. arXiv 2019. Nothing is trained; features (n, D) are those of the
training and validation items, whose mean is the centre.
"""

import numpy as np
import torch

from core.contract.methods import SimpleShot as Options
from worker.engine.backbones import Base
from worker.engine.class_stages import Centred
from worker.engine.data import Items
from worker.engine.feeds import Floats
from worker.engine.few_shot import class_heads
from worker.engine.few_shot.baselines import SimpleShot
from worker.engine.few_shot.learner import Known
from worker.engine.few_shot.learnt import Learnt
from worker.engine.few_shot.material import Material
from worker.engine.few_shot.settling import check_turns
from worker.engine.few_shot.training import frozen_views
from worker.engine.stages import Stage, Unit
from worker.engine.task import Task, Trained


def check(options: Options, base: Base) -> None:
    """Refuse to turn what is no picture: `JobError` `invalid_options`."""
    check_turns(options, base)


def run(task: Task) -> Trained:
    """Take the means of all classes; episodes of held-out classes say how well new ones are learnt."""
    options = task.options
    assert isinstance(options, Options)
    material = Material.of(task.data, options, trains=False)
    merged = task.data.merged()
    found = class_means(task.features(merged.train), merged.train.labels, len(merged.classes))

    views = frozen_views(task, material.measured, rotations=options.rotations)
    answer = SimpleShot(centre_of(task, material))
    return Trained(
        merged,
        found.head,
        out_of_fold=found.out_of_fold,
        options=options.model_dump(mode="json"),
        few_shot=found.few_shot,
        learnt=Learnt(answer, views, views, material),
        notes=["Nothing was trained: each class is the mean of its items' features."],
    )


def centre_of(task: Task, material: Material) -> torch.Tensor:
    """Mean feature (D,) of classes that are not measured on."""
    labels = material.items.labels[: material.learnable]
    rows = np.flatnonzero(np.isin(labels, material.split.test, invert=True))
    items = Items(material.items.collection, material.items.indices[rows], labels[rows])
    return torch.from_numpy(task.features(items).mean(axis=0)).to(task.device)


def class_means(features: Floats, labels: class_heads.Ints, classes: int) -> Known:
    """The head of class means on features (n, D)."""
    everything = np.ones(len(labels), dtype=bool)
    return class_heads.by_means(features, labels, classes, stages_about(features), scale=1.0, unseen=everything)


def stages_about(features: Floats) -> tuple[Stage, ...]:
    """Centred on these features (n, D), and scaled to length one."""
    return Centred(features.mean(axis=0).astype(np.float32)), Unit()
