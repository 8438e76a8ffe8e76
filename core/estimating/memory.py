"""How much memory and disk a job takes."""

from dataclasses import dataclass, replace

from core.contract.jobs import StepName
from core.contract.methods.episodic import MetaLearning
from core.contract.prepare import ImagePrepare
from core.estimating import assumed, episodes
from core.estimating.course import Course
from core.estimating.rates import Rate, Rates
from core.estimating.seconds import course, kind_of_end
from core.estimating.work import Device, Work

MIB = 1024 * 1024
_FLOAT = 4
_TRAINED = 6.0  # weights, gradients, two moments, the best ones so far, the base model's own


@dataclass(frozen=True)
class Bytes:
    """An amount with its spread, and the step in which it is reached."""

    expected: float
    spread: float
    basis: str
    step: StepName = "features"


def peak(work: Work, rates: Rates, device: Device) -> Bytes:
    """Largest memory of the job's process, or of the GPU."""
    begin = rates.find("bytes.start", network=work.network, data=work.data)
    begin = begin or rates.usual("bytes.start", modality=work.modality) or assumed.start_bytes(device)
    found = course(work)
    steps: dict[StepName, Rate] = {"features": _features(work, rates, device)}
    if found is not None:
        steps["train"] = training(work, rates, device, found)
    if isinstance(work.method, MetaLearning):
        steps["train"] = _episodes(work, rates)
    end = kind_of_end(found, work)
    if end == "network":
        seen = rates.find("bytes.compare", network=work.network, data=work.data, variant=end)
        steps["compare"] = steps["train"] if seen is None else replace(seen, value=seen.value + kept(work, device))
    steps["export"] = _export(work, rates, device, end)
    step, most = max(steps.items(), key=lambda item: item[1].value)
    total = begin.value + most.value
    spread = (begin.value * min(begin.spread, 0.1) + most.value * most.spread) / total
    return Bytes(total, spread, _poorer(begin, most), step)


def _episodes(work: Work, rates: Rates) -> Rate:
    """Bytes of training on episodes: the weights, the activations of a step's items, small pictures."""
    seen = rates.find("bytes.train", network=work.network, data=work.data, variant=work.method.name)
    if seen is not None:
        return seen
    if episodes.kind(work) == "features":
        return assumed.rate(64.0 * MIB + 4.0 * work.items * work.width * _FLOAT)
    held = assumed.PER_PIXEL * assumed.size(work) ** 2 * episodes.at_once(work)
    return assumed.rate(_TRAINED * _weights(work) + held + work.items * 3.0 * assumed.size(work) ** 2)


def _export(work: Work, rates: Rates, device: Device, end: str) -> Rate:
    """The export of a trained network takes what that of the base model took; a head on a frozen one takes little."""
    known = rates.find("bytes.export", network=work.network, data=work.data, variant=end)
    if known is not None:
        return replace(known, value=known.value + (kept(work, device) if end == "network" else 0.0))
    if end == "frozen":
        return assumed.rate(120.0 * MIB + 4 * _weights(work))
    before = rates.find("bytes.features", network=work.network, data=work.data, variant="graph")
    return before or assumed.rate(64.0 * MIB + 5 * _weights(work))


def training(work: Work, rates: Rates, device: Device, found: Course) -> Rate:
    """Bytes of training beyond what the process holds before: weights and their like, activations, items kept."""
    size = float(found.batch_size)
    seen = rates.variants("bytes.train", network=work.network, data=work.data)
    body = found.held.rpartition("|")[0]
    alike = {int(name.rpartition("|")[2]): rate for name, rate in seen.items() if name.rpartition("|")[0] == body}
    more = kept(work, device)
    if found.batch_size in alike:
        return replace(alike[found.batch_size], value=alike[found.batch_size].value + more)
    if len(alike) >= 2:
        return _line(alike, size, more)
    slope = assumed.activations(work, found)
    if alike:
        near, rate = next(iter(alike.items()))
        far = abs(size - near) * slope
        value = max(rate.value + (size - near) * slope, 0.25 * rate.value)
        return Rate(value + more, rate.spread + 0.5 * far / max(value, 1.0), rate.basis)
    weights = (_TRAINED if found.network else 1.0) * _weights(work)
    return assumed.rate(weights + size * slope + more)


def _line(alike: dict[int, Rate], size: float, more: float) -> Rate:
    """Between or beyond the two nearest sizes of a batch that were seen."""
    first, second = sorted(sorted(alike, key=lambda seen: abs(seen - size))[:2])
    slope = max(0.0, (alike[second].value - alike[first].value) / (second - first))
    value = max(alike[first].value + (size - first) * slope, 0.5 * alike[first].value)
    beyond = max(0.0, size / second - 1)
    basis = alike[second].basis
    return Rate(value + more, alike[second].spread + min(0.3, 0.03 * beyond), basis)


def kept(work: Work, device: Device) -> float:
    """Bytes of decoded items that training keeps, in at most half of the memory."""
    if course(work) is None or not _in_loop(work):
        return 0.0
    if work.modality == "image":
        most = 0.5 * (device.memory_bytes or 16 * 1024 * MIB) if device.kind == "cpu" else 1e15
        wanted = _image_bytes(work)
        return min(most, wanted) if device.kind == "cpu" else 0.0
    each = 16.0 * work.tokens if work.modality == "text" else 256.0
    return work.learnt * each if device.kind == "cpu" else 0.0


def _in_loop(work: Work) -> bool:
    found = course(work)
    return found is not None and found.network


def _image_bytes(work: Work) -> float:
    prepare, found = work.card.prepare if work.card else None, course(work)
    side, crop = (prepare.size, prepare.crop) if isinstance(prepare, ImagePrepare) else (224, 0.875)
    whole = (side / crop) ** 2 * min(3.0, work.aspect) * 3
    centre = float(side * side * 3)
    learnt = work.learnt - work.validation
    return learnt * (centre if found and found.augmentation == "none" else whole) + work.validation * centre


def _features(work: Work, rates: Rates, device: Device) -> Rate:
    """Embedding, and before it the base model's export where its graph is not there yet: that takes more."""
    graph = not work.graph_cached and device.kind == "cpu"
    known = rates.find("bytes.features", network=work.network, data=work.data, variant="graph" if graph else "")
    return known or _assumed_features(work, device)


def _assumed_features(work: Work, device: Device) -> Rate:
    export = 0.0 if work.graph_cached else 4 * _weights(work) + 150 * MIB
    sessions = _weights(work) + 24 * MIB * device.threads if work.fresh else 0.0
    return assumed.rate(max(export, sessions) + work.items * work.width * _FLOAT)


def _weights(work: Work) -> float:
    return float(work.parameters * _FLOAT)


def _poorer(*rates: Rate) -> str:
    order = ("measured", "history", "assumed")
    return max((rate.basis for rate in rates), key=order.index)


def disk(work: Work, rates: Rates) -> Bytes:
    """What the job adds to the data folder: bundle, checkpoint, features, graph."""
    found, weights = course(work), _weights(work)
    end = kind_of_end(found, work)
    known = rates.find("bytes.disk", network=work.network, data=work.data, variant=end)
    fresh = work.fresh * work.width * _FLOAT
    graph = weights if not work.graph_cached and work.fresh else 0.0
    if known is not None:
        return Bytes(known.value + fresh + graph, known.spread, known.basis)
    checkpoint = 4 * weights if found is not None and found.network else 0.0
    return Bytes(2 * weights + checkpoint + fresh + graph + 64 * 1024, 0.3, "assumed")
