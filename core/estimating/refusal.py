"""What cannot fit, and what would."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from core.contract.base_models import BaseModelCard
from core.contract.errors import ConflictError
from core.contract.estimates import Estimate, Figure
from core.contract.methods import AnyMethod, FineTune, LinearProbe
from core.contract.methods.deep import DeepAdaptation
from core.estimating import memory
from core.estimating.adaptation import from_scratch
from core.estimating.course import adapting_course, course_of
from core.estimating.rates import Rates
from core.estimating.work import Device, Work

_GIB = 1024**3
_SHORTER = "raise it, train for fewer epochs, or take `linear_probe`."


@dataclass(frozen=True)
class Change:
    """Another job that would fit."""

    fields: dict[str, Any]
    """Of the request, by name."""
    memory_bytes: int

    def words(self) -> str:
        """It as advice."""
        said = " and ".join(f"`{name}` {value}" for name, value in self.fields.items())
        return f"Would fit with {said}: about {self.memory_bytes / _GIB:.2f} GiB."


def fits(found: Estimate, device: Device) -> bool:
    """Whether memory and disk suffice: as expected where that rests on what was seen; else only what is sure counts."""
    return _within(found.memory_bytes, device.memory_bytes, found.basis) and _within(
        found.disk_bytes, device.disk_bytes, found.basis
    )


def _within(figure: Figure, limit: int | None, basis: str) -> bool:
    return limit is None or (figure.low if basis == "assumed" else figure.expected) <= limit


def way_out(work: Work, rates: Rates, device: Device, smaller: tuple[BaseModelCard, ...]) -> list[Change]:
    """What would fit, the least change first: a smaller batch, a frozen network, a smaller one, a linear probe."""
    limit = device.memory_bytes
    if limit is None:
        return []
    found: list[Change] = []
    kinds: set[str] = set()
    for fields, other in _others(work, smaller):
        kind = "+".join(sorted(fields))
        if kind in kinds:
            continue
        need = round(memory.peak(other, rates, device).expected)
        if need <= limit:
            kinds.add(kind)
            found.append(Change(fields, need))
    return found


def _others(work: Work, smaller: tuple[BaseModelCard, ...]) -> Iterator[tuple[dict[str, Any], Work]]:
    method = work.method
    if isinstance(method, FineTune):
        now = course_of(method, work.resolved, modality=work.modality)
        size = now.batch_size // 2
        while size >= 2:
            yield {"method.batch_size": size}, replace(work, method=_with(method, batch_size=size))
            size //= 2
        if now.network and method.init == "pretrained":
            frozen = _with(method, freeze="all", augmentation="none")
            yield {"method.freeze": "all", "method.augmentation": "none"}, replace(work, method=frozen)
    cards = () if work.alone else smaller  # a card knows no classes
    for card in sorted(cards, key=lambda card: -card.parameters):
        if card.modality == work.modality and card.id != work.network and card.parameters < work.parameters:
            yield {"base_model": card.id}, replace(work, card=card, network=card.id, graph_cached=False)
    if isinstance(method, DeepAdaptation):
        yield from _lighter(method, work)
    if not isinstance(method, LinearProbe) and not work.target:
        yield {"method.name": "linear_probe"}, replace(work, method=LinearProbe())


def _lighter(method: DeepAdaptation, work: Work) -> Iterator[tuple[dict[str, Any], Work]]:
    """A smaller batch of both domains; then their features alone."""
    now = adapting_course(method, work.resolved, scratch=from_scratch(method, work), alone=work.alone)
    size = now.batch_size // 2
    while size >= 4:
        changed = {"batch_size": size}
        yield {"method.batch_size": size}, _changed(work, method, changed)
        size //= 2
    if now.network and not now.scratch:
        yield {"method.freeze": "all"}, _changed(work, method, {"freeze": "all", "augmentation": "none"})


def _changed(work: Work, method: DeepAdaptation, values: dict[str, Any]) -> Work:
    other: Any = method.model_copy(update=values)
    return replace(work, method=other, resolved=(work.resolved or {}) | values)


def _with(method: FineTune, **values: Any) -> AnyMethod:
    return method.model_copy(update=values)


def advice(work: Work, rates: Rates, device: Device, found: Estimate, *, fits: bool) -> list[str]:
    """What would make it fit or cost less."""
    said: list[str] = []
    if not fits:
        said += [change.words() for change in way_out(work, rates, device, work.candidates)]
    budget = work.max_seconds
    if budget is not None and found.seconds.expected > budget:
        said.append(
            f"It is expected to need {found.seconds.expected:.0f} s, and `budget.max_seconds` allows {budget:.0f}: "
            + ("raise it, or train for fewer epochs." if work.target else _SHORTER)
        )
    return said


def does_not_fit(work: Work, rates: Rates, device: Device, found: Estimate) -> ConflictError:
    """The error for a job that cannot run on its device."""
    need, limit = found.memory_bytes, device.memory_bytes or 0
    if _within(need, device.memory_bytes, found.basis):
        return _no_disk(found, device)
    others = way_out(work, rates, device, work.candidates)
    return ConflictError(
        f"The job would need about {need.expected / _GIB:.2f} GiB of memory; a job on {device.name} has "
        f"{limit / _GIB:.2f} GiB.",
        code="does_not_fit",
        param="base_model" if isinstance(work.method, LinearProbe) else "method",
        hint=others[0].words() if others else "Take a machine with more memory, or a smaller base model.",
        details={
            "memory_bytes": need.model_dump(exclude={"actual"}),
            "limit_bytes": limit,
            "device": device.name,
            "basis": found.basis,
            "would_fit": [{"change": change.fields, "memory_bytes": change.memory_bytes} for change in others],
        },
    )


def _no_disk(found: Estimate, device: Device) -> ConflictError:
    need, free = found.disk_bytes, device.disk_bytes or 0
    return ConflictError(
        f"The job would add about {need.expected / _GIB:.2f} GiB to the data folder; {free / _GIB:.2f} GiB are free.",
        code="does_not_fit",
        param="base_model",
        hint="Free space, or take a smaller base model.",
        details={"disk_bytes": need.model_dump(exclude={"actual"}), "free_bytes": free, "basis": found.basis},
    )
