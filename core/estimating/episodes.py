"""What training on episodes costs: so many items go through the network, or through a layer on cached features."""

from core.contract.methods.episodic import MetaLearning
from core.contract.methods.inner_loop import InnerLoop
from core.estimating import assumed
from core.estimating.work import Device, Work

_STEPS = {"scratch": 3000, "network": 300, "features": 1000}  # as usual; each method has its own
_TASKS = {"scratch": (1, 8), "network": (1, 1), "features": (4, 16)}  # the second where gradients are followed
_WAYS = {"scratch": (30, 5), "network": (5, 5), "features": (20, 5)}
_QUERIES = 5


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
    options = work.method
    assert isinstance(options, MetaLearning)
    own, inner = kind(work), isinstance(options, InnerLoop)
    shots = _figure(work, "train_shots", options.shots[0])
    items = shots * (1 + (_figure(work, "inner_steps", 3) if inner else 0)) + _figure(work, "train_queries", _QUERIES)
    tasks, ways = _figure(work, "tasks", _TASKS[own][inner]), _figure(work, "train_ways", _WAYS[own][inner])
    return _figure(work, "steps", _STEPS[own]) * tasks * ways * items


def _figure(work: Work, name: str, usual: int) -> int:
    """An option as it was resolved, as it was asked for, or as it usually is."""
    value = (work.method.model_dump() | (work.resolved or {})).get(name, "auto")
    return value if isinstance(value, int) else usual


def at_once(work: Work) -> int:
    """Items whose activations one step holds; second derivatives hold those of every inner step."""
    options = work.method
    assert isinstance(options, MetaLearning)
    return passes(work) // max(1, _figure(work, "steps", _STEPS[kind(work)]))


def seconds(work: Work, device: Device) -> float:
    """For each of these, where nothing was measured yet."""
    if kind(work) == "features":
        return 4e-9 * work.width * 256
    return 4.0 * assumed.validate(work, device).value
