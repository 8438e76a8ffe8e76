"""From one run to figures for the next ones: the inverse of `core.estimating.seconds` and `core.estimating.memory`."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import Field

from core.contract.base import Record
from core.contract.jobs import StepName
from core.contract.methods import Auto, FineTune, LinearProbe, RankBaseModels
from core.contract.methods.episodic import MetaLearning
from core.estimating import assumed, episodes
from core.estimating.course import Course
from core.estimating.memory import kept
from core.estimating.parted import Usual, apart
from core.estimating.rates import Observation
from core.estimating.seconds import FIRST, course, fits_probe, kind_of_end, setup_variant, solver, way
from core.estimating.work import Device, Work

_FORK = 0.3  # seconds from a claim to the first step of its process
_USUAL = {
    ("start", ""),
    ("start", FIRST),
    ("bytes.start", ""),
    ("compare", "frozen"),
    ("evaluate", "frozen"),
    ("export.once", "frozen"),
    ("export.pace", "frozen"),
    ("store", "frozen"),
    ("step", "head"),
    ("validate", "head"),
    ("compare.once", "frozen"),
    ("compare.pace", "frozen"),
    ("setup.once", "head"),
    ("setup.pace", "head"),
}
"""Kinds, and what their variants begin with, that cost about the same with any network."""
_ALWAYS = {"fit", "fit.once", "fit.pace", "served", "changed"}


class Epoch(Record):
    """One pass over the training items."""

    items: int
    seconds: float
    validation: float | None = Field(default=None, description="Seconds of what was validated after it.")


class Spent(Record):
    """What a run of the engine took, as it goes over the pipe to the worker."""

    device: str = Field(description="Kind, model and threads.")
    kind: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1
    gpu_bytes: int | None = Field(default=None, description="Memory of the GPU, where there is one.")
    network: str = Field(default="", description="The architecture's name: the last one of the lineage.")
    steps: dict[StepName, float] = {}
    start_bytes: int | None = Field(default=None, description="Held once data and base model were opened.")
    peaks: dict[StepName, int] = Field(default={}, description="Most that was held during each step.")
    graph_seconds: float | None = Field(default=None, description="What exporting the base model took, if it was done.")
    embed_seconds: float | None = None
    embed_items: int = 0
    setup_seconds: float | None = Field(default=None, description="From the begin of training to its first epoch.")
    epochs: list[Epoch] = []
    train: int = Field(default=0, description="Training items of one epoch.")
    validation: int = 0
    resolved: dict[str, Any] | None = None
    scratch_seconds: float | None = Field(default=None, description="Of the arm that was trained from scratch.")
    trained: bool = Field(default=False, description="Whether the network that is served was trained itself.")
    changed: bool | None = Field(
        default=None, description="Whether training changed the network, served or not; None: as `trained`."
    )
    cached: dict[str, str] = Field(
        default={}, description="Files of the cache, relative to it: `graph`, and features by their manifest's digest."
    )
    disk_bytes: int = Field(default=0, description="Added to the data folder, but for features and graphs.")
    store_seconds: float | None = None
    seconds: float | None = Field(default=None, description="From the claim to the end.")

    @property
    def peak(self) -> int | None:
        """The most memory of all steps."""
        return max(self.peaks.values(), default=None)


@dataclass(frozen=True)
class _Seen:
    """What is looked at, and what it ran."""

    work: Work
    spent: Spent
    device: Device
    whole: bool

    def at(self, kind: str, value: float, variant: str = "") -> Observation:
        return Observation(kind, value, variant, self.work.network, self.work.data)

    def parted(self, kind: str, seconds: float, usual: Usual, variant: str) -> Iterator[Observation]:
        """Seconds of which a part does not grow with the work."""
        once, pace = apart(seconds, usual)
        yield self.at(f"{kind}.once", once, variant)
        yield self.at(f"{kind}.pace", pace, variant)


def observe(work: Work, spent: Spent, *, whole: bool = True) -> list[Observation]:
    """The figures of a run. One that is not `whole`, a measurement, says nothing of what a job does only once."""
    if isinstance(work.method, FineTune) and spent.resolved:
        # A short training with smaller batches than the job's must not pass for one with the job's.
        own = {"batch_size": spent.resolved.get("batch_size", work.method.batch_size)}
        work = replace(work, method=work.method.model_copy(update=own))
    work = replace(
        work,
        network=spent.network or work.network,
        resolved=spent.resolved or work.resolved,
        train=spent.train or work.train,
        validation=spent.validation if spent.train else work.validation,
    )
    device = Device(spent.device, spent.kind, spent.threads)
    seen = _Seen(work, spent, device, whole)
    found = [one for part in (_features, _descent, _bytes, _cached) for one in part(seen)]
    found += _once(seen) if whole else []
    return found + [replace(one, network="", data=work.modality) for one in found if _is_usual(one)]


def _is_usual(one: Observation) -> bool:
    begin = one.variant.partition("|")[0].partition("+")[0]
    return one.kind in _ALWAYS or (one.kind, begin) in _USUAL


def _features(seen: _Seen) -> Iterator[Observation]:
    spent = seen.spent
    if not seen.whole and "prepare" in spent.steps and spent.graph_seconds is None:
        yield seen.at("start", spent.steps["prepare"] + _FORK)
    if spent.graph_seconds is not None:
        yield seen.at("graph", spent.graph_seconds)
    if spent.embed_seconds is not None and spent.embed_items > 0:
        yield seen.at("embed", spent.embed_seconds / spent.embed_items)


def _course(seen: _Seen) -> Course | None:
    return course(seen.work)


def _descent(seen: _Seen) -> Iterator[Observation]:
    """Epochs: the first one also reads the items, so it tells the steps' seconds only where it is the only one."""
    found, epochs = _course(seen), [epoch for epoch in seen.spent.epochs if epoch.items > 0]
    if found is None or not epochs:
        return
    each = sorted(epoch.seconds / epoch.items for epoch in epochs[1:] or epochs)
    steady = each[len(each) // 2]
    yield seen.at("step", steady, found.variant)
    if found.network and len(epochs) > 1 and seen.whole:
        yield seen.at("first", max(0.0, epochs[0].seconds / epochs[0].items - steady), found.style)
    checks = sorted(epoch.validation for epoch in epochs if epoch.validation is not None)
    passes = (2 if found.averaged else 1) * seen.work.checked
    if checks and passes:
        variant = "network" if found.network else "head"
        yield seen.at("validate", checks[len(checks) // 2] / passes, variant)


def _bytes(seen: _Seen) -> Iterator[Observation]:
    spent, found = seen.spent, _course(seen)
    if spent.start_bytes is None:
        return
    if seen.whole or spent.graph_seconds is None:  # a base model that is opened for the first time leaves more behind
        yield seen.at("bytes.start", spent.start_bytes)
    more = kept(seen.work, seen.device)
    end = kind_of_end(found, seen.work)
    variants: dict[StepName, str | None] = {
        "features": "" if spent.graph_seconds is None else "graph",
        "train": seen.work.method.name if isinstance(seen.work.method, MetaLearning) else found.held if found else None,
        "compare": _told(end, network=_changed(seen)),
        "export": _told(end, network=spent.trained),
    }
    for step, variant in variants.items():
        top = spent.peaks.get(step)
        if top is None or variant is None:
            continue
        less = more if step != "features" and (step == "train" or end == "network") else 0.0
        yield seen.at(f"bytes.{step}", max(0.0, top - spent.start_bytes - less), variant)


def _told(end: str, *, network: bool) -> str | None:
    """None where a head on the frozen network came after a training: what that left behind would pass for its own."""
    return "frozen" if end == "frozen" else "network" if network else None


def _changed(seen: _Seen) -> bool:
    spent = seen.spent
    return spent.trained if spent.changed is None else spent.changed


def _cached(seen: _Seen) -> Iterator[Observation]:
    """Where features and the graph lie: they are there as long as these files are."""
    for name, path in seen.spent.cached.items():
        data = "" if name == "graph" else name
        kind = "cached.graph" if name == "graph" else "cached.features"
        yield Observation(kind, 1.0, "", seen.work.base, data, {"path": path})
    if seen.spent.resolved is not None and seen.whole:
        yield Observation("resolved", 1.0, digest(seen.work), seen.work.network, seen.work.data, seen.spent.resolved)


def digest(work: Work) -> str:
    """Names the method's options as they were asked for."""
    return hashlib.sha256(work.method.model_dump_json().encode()).hexdigest()[:32]


def _once(seen: _Seen) -> Iterator[Observation]:
    work, spent, found = seen.work, seen.spent, _course(seen)
    end = kind_of_end(found, work)
    steps = spent.steps
    if spent.seconds is not None:
        named = sum(seconds for name, seconds in steps.items() if name != "prepare") + (spent.store_seconds or 0.0)
        yield seen.at("start", max(0.0, spent.seconds - named), "" if spent.graph_seconds is None else FIRST)
    if isinstance(work.method, RankBaseModels):
        return
    if work.target and found is None and "train" in steps:
        yield seen.at("fit", steps["train"] / max(1, work.learnt), work.method.name)
    if not work.method.makes_model:
        return
    if isinstance(work.method, LinearProbe) and "train" in steps:
        own = solver(work.method, work)
        yield from seen.parted("fit", steps["train"], assumed.fit(work, own, work.train + work.validation), own)
    if isinstance(work.method, MetaLearning) and "train" in steps:
        yield seen.at("meta", steps["train"] / max(1, episodes.passes(work)), work.method.name)
    if found is not None and spent.setup_seconds is not None and not isinstance(work.method, Auto):
        yield from _setup(seen, found, spent.setup_seconds)
    if isinstance(work.method, Auto) and work.method.arms == "auto" and not work.target:
        yield seen.at("raced", 1.0 if spent.epochs else 0.0)
    if found is not None and found.patience is not None and spent.epochs and not isinstance(work.method, Auto):
        yield Observation("epochs", len(spent.epochs) / found.epochs, work.method.name)
    yield from _ends(seen, end)


def _setup(seen: _Seen, found: Course, seconds: float) -> Iterator[Observation]:
    """Without the first look at validation items, which takes what the later ones take."""
    passes = 2 if found.averaged else 1
    checks = sorted(epoch.validation / passes for epoch in seen.spent.epochs if epoch.validation is not None)
    less = checks[len(checks) // 2] if checks else 0.0
    usual = assumed.setup(seen.work, seen.device, found)
    yield from seen.parted("setup", max(0.0, seconds - less), usual, setup_variant(found))


def _ends(seen: _Seen, end: str) -> Iterator[Observation]:
    work, steps, spent = seen.work, seen.spent.steps, seen.spent
    scratch = spent.scratch_seconds or 0.0
    if spent.scratch_seconds is not None:
        yield seen.at("scratch", scratch)
    changed = "network" if _changed(seen) and end == "network" else "frozen"
    items = work.validation + work.held_out + (0 if changed == "network" else work.train)
    if "compare" in steps and items:
        seconds, variant = max(0.0, steps["compare"] - scratch), f"{changed}+{work.baselines}"
        if changed == "frozen" and fits_probe(work):
            yield from seen.parted("compare", seconds, assumed.compare(work), variant)
        else:
            yield seen.at("compare", seconds / items, variant)
    if "evaluate" in steps and work.held_out:
        yield seen.at("evaluate", steps["evaluate"] / work.held_out, end)
    if "export" in steps and spent.trained:
        yield seen.at("export", steps["export"], "network")
    elif "export" in steps:
        yield from seen.parted("export", steps["export"], assumed.join(work), "frozen")
    if end == "network":
        kind = way(work, _course(seen))
        yield seen.at("served", float(spent.trained), kind)
        yield seen.at("changed", float(_changed(seen)), kind)
    if spent.store_seconds is not None:
        yield seen.at("store", spent.store_seconds, end)
    if spent.disk_bytes:
        yield seen.at("bytes.disk", spent.disk_bytes, end)
