"""Figures for networks and devices that nobody has measured yet: right within a factor of five or so."""

from typing import Literal

from core.contract.prepare import ImagePrepare
from core.estimating.course import Course
from core.estimating.parted import Usual
from core.estimating.rates import Rate
from core.estimating.work import Device, Work

SPREAD = 0.8
"""Relative standard deviation of such a figure."""
MIB = 1024 * 1024
_SPEED = {"cpu": 2.0e10, "cuda": 1.0e13}  # floating-point operations in a second, of one thread or of a GPU
_PER_PARAMETER = 300.0  # operations for each parameter of an image network at 224 x 224 pixels
_DECODE = {"image": 4e-3, "text": 2e-4, "tabular": 2e-5}  # seconds of one thread for an item
_START_BYTES = 450 * MIB
PER_PIXEL = 2500.0
"""Bytes that training keeps for each pixel of its input."""
_BEGIN = {"ridge": 0.02, "lbfgs": 0.1}  # seconds of a process's first probe whatever its size: threads start
_HEAD_STEP, _HEAD_ITEM = 2e-3, 2e-5  # of training a head on features: each step, whatever its batch, and each item
_JOINED = {"image": 9e-8, "text": 3e-8, "tabular": 9e-8}  # for each parameter of the network a head is joined to
_AXES = {"ridge": 1.6e-10, "lbfgs": 2.2e-10}  # for each item, feature and axis
_PASSES = {"ridge": 1e-9, "lbfgs": 2.5e-8}  # for each item, feature and output


def rate(value: float) -> Rate:
    """An assumed figure."""
    return Rate(value, SPREAD, "assumed")


def operations(work: Work) -> float:
    """Floating-point operations of one item's way through the network."""
    if work.modality == "image":
        return _PER_PARAMETER * work.parameters * (size(work) / 224) ** 2
    if work.modality == "text":
        return 1.2 * work.parameters * work.tokens
    return 2.0 * work.parameters


def size(work: Work) -> int:
    """Height and width of an image network's input."""
    prepare = work.card.prepare if work.card else None
    return prepare.size if isinstance(prepare, ImagePrepare) else 224


def decode(work: Work, device: Device) -> Rate:
    """Seconds to read and prepare one item."""
    return rate(_DECODE[work.modality] / max(1, device.threads))


def embed(work: Work, device: Device) -> Rate:
    """Seconds to embed one item."""
    return rate(operations(work) / _speed(device) + decode(work, device).value)


def step(work: Work, device: Device, course: Course) -> Rate:
    """Seconds of training for each item."""
    if not course.network:
        return rate(course.domains * (_HEAD_STEP / course.batch_size + _HEAD_ITEM))
    passes = 3.0 if course.freeze == "none" else 2.0
    augment = decode(work, device).value if course.augmentation != "none" else 0.0
    return rate(course.domains * (passes * 1.5 * operations(work) / _speed(device) + augment))


def fit(work: Work, solver: Literal["ridge", "lbfgs"], items: int) -> Usual:
    """Seconds of a linear probe: the features are turned into their axes, then the items are gone over many times.

    Measured with 100 to 2,000 items, 384 to 1,280 features and 2 to 10 classes: within a third of nearly all of these.
    """
    axes = min(items, work.width)
    each = work.width * (_AXES[solver] * axes + _PASSES[solver] * work.outputs)
    return Usual(_BEGIN[solver], items * each)


def setup(work: Work, device: Device, course: Course) -> Usual:
    """Seconds before the first step of training: the probes for a head, and the first look at validation items."""
    probes = (fit(work, "ridge", work.train), fit(work, "lbfgs", work.train)) if course.head_start else ()
    look = decode(work, device).value * work.validation if course.network else 0.0
    once = 0.3 if course.network else 0.03
    return Usual(once + sum(probe.once for probe in probes), sum(probe.growing for probe in probes) + look)


def compare(work: Work) -> Usual:
    """Seconds of comparing a method with a probe that is fitted for it."""
    seen = work.train + work.validation
    return Usual(0.02, fit(work, "ridge", seen).growing + answer(work) * (seen + work.held_out))


def answer(work: Work) -> float:
    """Seconds for each item that arms on frozen features answer."""
    return 6e-8 * work.width


def validate(work: Work, device: Device) -> Rate:
    """Seconds to validate one item."""
    return rate(1.5 * operations(work) / _speed(device))


def join(work: Work) -> Usual:
    """Seconds to join a head to the frozen network's graph, write both and compare them on a few items."""
    return Usual(0.05, _JOINED[work.modality] * work.parameters)


def graph(work: Work) -> Rate:
    """Seconds to export a network."""
    return rate(2.0 + work.parameters / 1e7)


def activations(work: Work, course: Course) -> float:
    """Bytes that training keeps for each item of a batch."""
    if not course.network or work.modality == "tabular":
        return course.domains * 64.0 * 1024
    share = course.domains * (1.0 if course.freeze == "none" else 0.5)
    if work.modality == "image":
        return share * PER_PIXEL * size(work) ** 2
    layers, hidden, heads = _transformer(work)
    tokens = float(work.tokens)
    return share * 2 * tokens * hidden * layers * (34 + 5 * heads * tokens / hidden)  # Korthikanti et al., 2022


def _transformer(work: Work) -> tuple[int, int, int]:
    config = work.card.config if work.card else {}
    return (
        int(config.get("num_hidden_layers", 12)),
        int(config.get("hidden_size", 768)),
        int(config.get("num_attention_heads", 12)),
    )


def start_bytes(device: Device) -> Rate:
    """What a job's process holds before it has done anything; of a GPU next to nothing."""
    return Rate(_START_BYTES if device.kind == "cpu" else 64.0 * MIB, 0.3, "assumed")


def _speed(device: Device) -> float:
    return _SPEED[device.kind] * (device.threads if device.kind == "cpu" else 1)
