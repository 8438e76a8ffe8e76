"""A job's `Estimate`."""

import math
from datetime import datetime
from typing import Literal, cast

from core.contract.estimates import Estimate, Figure
from core.estimating import memory, refusal
from core.estimating.intervals import around, bias, half_width
from core.estimating.rates import Observation, Rates
from core.estimating.seconds import Basis, Sum, parts
from core.estimating.work import Device, Work

_LEAST_SECONDS = 0.12
_LEAST_BYTES = 0.08
_COMPUTED = {"features", "train"}


def estimate(work: Work, rates: Rates, device: Device, *, at: datetime) -> Estimate:
    """Seconds, memory and disk of a job, with what would make it fit where it does not."""
    by_step = parts(work, rates, device)
    whole = _added(list(by_step.values()))
    held = memory.peak(work, rates, device)
    # What the device computes decides it; what all jobs take alike is constants, and most of a short one.
    computed = (
        _added([part for name, part in by_step.items() if name in _COMPUTED]) if _COMPUTED & set(by_step) else whole
    )
    basis = _basis(computed.basis, cast("Basis", held.basis))
    found = Estimate(
        seconds=_seconds(whole, residuals(rates, "seconds", work, basis)),
        memory_bytes=_figure(held, residuals(rates, "memory", work, basis)),
        disk_bytes=_figure(memory.disk(work, rates), residuals(rates, "disk", work, basis)),
        parts={name: round(part.expected, 3) for name, part in by_step.items()},
        basis=basis,
        device=device.name,
        made_at=at,
    )
    fits = refusal.fits(found, device)
    return found.model_copy(update={"fits": fits, "advice": refusal.advice(work, rates, device, found, fits=fits)})


def _added(steps: list[Sum]) -> Sum:
    found = Sum()
    for part in steps:
        found.take(part)
    return found


def residuals(rates: Rates, what: str, work: Work, basis: str) -> tuple[float, ...]:
    """How wrong earlier estimates of the same method on this device were that rested on as much: log(actual / raw)."""
    return rates.values(f"ratio.{what}", variant=f"{work.method.name}|{basis}")


def missed(found: Estimate, rates: Rates, work: Work) -> list[Observation]:
    """How wrong an estimate was, now that its figures have their `actual`s; for the next ones."""
    figures = {"seconds": found.seconds, "memory": found.memory_bytes, "disk": found.disk_bytes}
    seen = []
    for what, figure in figures.items():
        if figure.actual and figure.expected > 0:
            raw = math.log(figure.actual / figure.expected) + bias(residuals(rates, what, work, found.basis))
            seen.append(Observation(f"ratio.{what}", raw, f"{work.method.name}|{found.basis}"))
    return seen


def _seconds(whole: Sum, seen: tuple[float, ...]) -> Figure:
    """Wider by what depends on the training's own course."""
    off = bias(seen)
    width = half_width(whole.deviation / max(whole.expected, 1e-9), [one - off for one in seen], least=_LEAST_SECONDS)
    low = around(whole.low, width)[0]
    high = around(max(whole.high, whole.expected), width)[1]
    factor = math.exp(off)
    return Figure(expected=round(whole.expected * factor, 3), low=round(low * factor, 3), high=round(high * factor, 3))


def _figure(held: memory.Bytes, seen: tuple[float, ...]) -> Figure:
    off = bias(seen)
    expected = held.expected * math.exp(off)
    low, high = around(expected, half_width(held.spread, [one - off for one in seen], least=_LEAST_BYTES))
    return Figure(expected=round(expected), low=round(low), high=round(high))


def _basis(*found: Basis) -> Literal["measured", "history", "assumed"]:
    order: tuple[Basis, ...] = ("measured", "history", "assumed")
    return max(found, key=order.index)
