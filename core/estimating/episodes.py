"""What training on episodes costs: so many items go through the network, or through a layer on cached features."""

from typing import NamedTuple

from core.contract.methods.episodic import MetaLearning
from core.contract.methods.inner_loop import InnerLoop
from core.estimating import assumed
from core.estimating.work import Device, Work

_TURNS = 8  # classes that one becomes where pictures are turned and mirrored


class Usual(NamedTuple):
    """What a method takes where nothing is said, as far as it costs; a test holds it to the worker's own table."""

    ways: int
    tasks: int
    steps: int
    inner: int = 0
    """Steps of gradient descent on what is known of an episode."""
    shots: int | None = None
    """None: as many as it is measured by first."""
    queries: int = 5


_SCRATCH = {
    "prototypical_network": Usual(30, 1, 10_000),
    "matching_network": Usual(30, 1, 10_000),
    "relation_network": Usual(20, 1, 10_000),
    "r2d2": Usual(20, 1, 4000),
    "maml": Usual(20, 1, 5000, 6),
    "anil": Usual(30, 1, 8000, 5),
    "meta_sgd": Usual(5, 8, 3000, 2),
    "reptile": Usual(5, 5, 2000, 5, 5),
}
_NETWORK = {name: Usual(5, 1, 300) for name in ("prototypical_network", "matching_network", "relation_network", "r2d2")}
_NETWORK |= {
    "maml": Usual(5, 1, 300, 3),
    "anil": Usual(5, 1, 300, 5),
    "meta_sgd": Usual(5, 1, 300, 2),
    "reptile": Usual(5, 1, 300, 5, 5),
}
_FEATURES = {name: Usual(20, 4, 1000) for name in ("prototypical_network", "matching_network", "r2d2")}
_FEATURES |= {
    "relation_network": Usual(20, 4, 1500),
    "maml": Usual(5, 16, 1000, 3),
    "anil": Usual(5, 16, 1000, 5),
    "meta_sgd": Usual(5, 16, 1000, 2),
    "reptile": Usual(5, 16, 1000, 5, 5),
}
USUAL = {"scratch": _SCRATCH, "network": _NETWORK, "features": _FEATURES}


def kind(work: Work) -> str:
    """What is trained: a network from random weights, a pretrained one, or a layer on cached features."""
    options = work.method
    assert isinstance(options, MetaLearning)
    bare = work.card is not None and work.card.weights.source == "none" and work.modality == "image"
    if options.init == "scratch" or (bare and not work.base.startswith("mdl_")):
        return "scratch"
    return "features" if options.freeze in {"auto", "all"} else "network"


def passes(work: Work) -> int:
    """Items that go through what is trained, forth and back, in all; those of an inner step count each time."""
    return _steps(work) * at_once(work)


def at_once(work: Work) -> int:
    """Items whose activations one step holds; second derivatives hold those of every inner step."""
    options, usual = work.method, _usual(work)
    assert isinstance(options, MetaLearning)
    shots = _figure(work, "train_shots", usual.shots or options.shots[0])
    inner = _figure(work, "inner_steps", usual.inner) if isinstance(options, InnerLoop) else 0
    items = shots * (1 + inner) + _figure(work, "train_queries", usual.queries)
    half = max(2, work.outputs // 2) * (_TURNS if options.rotations else 1)  # of the classes are trained on, at most
    return _figure(work, "tasks", usual.tasks) * _figure(work, "train_ways", min(usual.ways, half)) * items


def _steps(work: Work) -> int:
    return _figure(work, "steps", _usual(work).steps)


def _usual(work: Work) -> Usual:
    return USUAL[kind(work)][work.method.name]


def _figure(work: Work, name: str, usual: int) -> int:
    """An option as it was resolved, as it was asked for, or as it usually is."""
    value = (work.method.model_dump() | (work.resolved or {})).get(name, "auto")
    return value if isinstance(value, int) else usual


def seconds(work: Work, device: Device) -> float:
    """For each of these, where nothing was measured yet."""
    if kind(work) == "features":
        return 4e-9 * work.width * 256
    return 4.0 * assumed.validate(work, device).value
