"""What a job will cost, from the books: its data, its base model, the worker's device and what ran there before."""

import shutil
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from core.catalogue import cards, find, is_hf, is_timm
from core.contract.base import now
from core.contract.base_models import BaseModelCard
from core.contract.datasets import Dataset, DatasetReport
from core.contract.errors import ConflictError, GraftError
from core.contract.estimates import Estimate
from core.contract.jobs import DEFAULT_BASE_MODELS, JobSpec
from core.contract.methods import FineTune, RankBaseModels
from core.contract.methods.deep import DeepAdaptation
from core.contract.prepare import TextPrepare
from core.estimating import Device, Part, Rates, Work, estimate
from core.estimating.adaptation import settled
from core.estimating.observing import digest
from core.estimating.refusal import does_not_fit
from core.estimating.seconds import course
from core.recipes import Facts, resolve
from core.settings import Settings
from core.store import datasets, models, profiles, workers

_LETTERS = 4.5  # of a token, in the middle


@dataclass(frozen=True)
class Forecast:
    """An estimate, and what it was reckoned from."""

    work: Work
    rates: Rates
    device: Device
    estimate: Estimate

    @property
    def lacks(self) -> bool:
        """Whether a few timed steps on the device would tell more."""
        work, rates = self.work, self.rates
        if isinstance(work.method, RankBaseModels):
            return False
        found = None if work.target else course(work)  # of an adaptation only the embedding is measured
        wanted = [("bytes.start", "")]
        if work.fresh:
            wanted.append(("embed", ""))
        if found is not None and not found.settled:
            return True
        if found is not None and found.network:
            wanted += [("step", found.variant), ("bytes.train", found.held)]
        seen = [rates.find(kind, network=work.network, data=work.data, variant=variant) for kind, variant in wanted]
        return any(rate is None or not rate.exact for rate in seen)

    def refusal(self) -> ConflictError | None:
        """The error for a job that cannot fit; None for one that can."""
        if self.estimate.fits:
            return None
        return does_not_fit(self.work, self.rates, self.device, self.estimate)


def forecast(tx: Connection, settings: Settings, tenant: str, spec: JobSpec, *, host: str | None = None) -> Forecast:
    """The forecast of a job that was checked, on the device of a worker that lives (or of the one on `host`)."""
    device = _device(tx, settings, host)
    work = _work(tx, tenant, spec)
    rates = Rates(profiles.of(tx, device.name, [work.network, work.base, *(card.id for card in work.candidates)]))
    work = _settled(_known(work, rates, settings), device)
    return Forecast(work, rates, device, estimate(work, rates, device, at=now()))


def _device(tx: Connection, settings: Settings, host: str | None) -> Device:
    """The device that a job of the same settings ran on last."""
    alive = {host} if host else {one.host for one in workers.alive(tx, 3 * settings.lease_seconds, "jobs")}
    settings.root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(settings.root).free
    for found in profiles.devices(tx):
        facts = found.facts
        if facts.get("host") in alive:
            return Device(found.device, facts["kind"], facts["threads"], facts["memory_bytes"], free)
    return Device("unknown", threads=settings.threads or 1, disk_bytes=free)


def _work(tx: Connection, tenant: str, spec: JobSpec) -> Work:
    source, target, evaluation = (
        None if name is None else datasets.get(tx, tenant, name) for name in (spec.source, spec.target, spec.evaluation)
    )
    learnt = source or target
    assert learnt is not None  # it was checked
    report = datasets.report(tx, tenant, learnt.id)
    modality = learnt.modality or "image"
    base = spec.base_model or DEFAULT_BASE_MODELS[modality]
    network = _network(tx, tenant, base)
    card = None if is_timm(network) or is_hf(network) else _card(network)
    measured = evaluation.items if evaluation else _measured(tx, tenant, spec)
    train, validation, tested = _split(learnt, report, measured) if source else (learnt.items, 0, 0)
    return Work(
        method=spec.method,
        modality=modality,
        problem=(source.problem if source else None) or "classification",
        network=network,
        base=base,
        train=train,
        validation=validation,
        held_out=measured or tested,
        parts=tuple(_part(tx, tenant, one) for one in (source, target, evaluation) if one is not None),
        target=0 if target is None else target.items,
        alone=source is None,
        outputs=max(1, len(source.classes if source else _classes(tx, tenant, base))),
        card=card,
        aspect=_aspect(report),
        tokens=_tokens(report, card),
        baselines=spec.baselines,
        max_seconds=spec.budget.max_seconds,
        candidates=tuple(_candidates(spec, modality)),
    )


def _split(source: Dataset, report: DatasetReport | None, measured: int) -> tuple[int, int, int]:
    """Training, validation and test items; where others are measured on the test items are trained on, too."""
    tested = source.splits.get("test", 0)
    train = source.splits.get("train", 0) + (tested if measured else 0) - (report.unlabelled if report else 0)
    return train, source.splits.get("validation", 0), tested


def _classes(tx: Connection, tenant: str, base: str) -> list[str]:
    """Those of one's own model."""
    return models.get(tx, tenant, base).classes


def _measured(tx: Connection, tenant: str, spec: JobSpec) -> int:
    """Items of the target that measure, for they have labels; audit labels are few."""
    if spec.target is None or spec.target_labels == "none":
        return 0
    found = datasets.report(tx, tenant, spec.target)
    return 0 if found is None else sum(one.total for one in found.classes)


def _part(tx: Connection, tenant: str, dataset: Dataset) -> Part:
    blobs = datasets.blobs(tx, tenant, dataset.id)
    return Part("" if blobs is None else blobs.manifest_sha256, dataset.items)


def _network(tx: Connection, tenant: str, base: str) -> str:
    """The architecture behind the name: of one's own model what stands at the end of its lineage."""
    if not base.startswith("mdl_"):
        return base
    manifest = models.get(tx, tenant, base).manifest
    return (manifest.lineage or [manifest.base_model])[-1]


def _card(network: str) -> BaseModelCard | None:
    try:
        return find(network)
    except GraftError:
        return None


def _candidates(spec: JobSpec, modality: str) -> list[BaseModelCard]:
    """What a ranking looks at; of other methods what might be taken instead."""
    method = spec.method
    named = method.base_models if isinstance(method, RankBaseModels) and method.base_models != "all" else None
    known = [card for card in cards() if card.modality == modality]
    if named is not None:
        return [card for card in known if card.id in named]
    return [card for card in known if modality == "tabular" or card.weights.source != "none"]


def _aspect(report: DatasetReport | None) -> float:
    if report is None or report.width is None or report.height is None:
        return 4 / 3
    sides = report.width[1], report.height[1]
    return max(sides) / max(1, min(sides))


def _tokens(report: DatasetReport | None, card: BaseModelCard | None) -> int:
    """Tokens of a typical text; all are as long as the longest of their batch, so rather more than fewer."""
    most = card.prepare.max_tokens if card and isinstance(card.prepare, TextPrepare) else 128
    if report is None or report.characters is None:
        return most
    return max(8, min(most, round(1.3 * report.characters[1] / _LETTERS)))


def _known(work: Work, rates: Rates, settings: Settings) -> Work:
    """What is in the cache already, and what became of the method's options in earlier runs."""
    cache = settings.root / "cache"

    def here(kind: str, data: str) -> bool:
        facts = rates.facts(kind, network=work.base, data=data)
        return facts is not None and (cache / facts["path"]).is_file()

    parts = tuple(replace(part, cached=here("cached.features", part.sha256)) for part in work.parts)
    resolved = rates.facts("resolved", network=work.network, data=work.data, variant=digest(work))
    return replace(work, parts=parts, graph_cached=here("cached.graph", ""), resolved=resolved)


def _settled(work: Work, device: Device) -> Work:
    """With what the rules make of options that were left open: of the method, and of a training from scratch.

    What an earlier run with the same options on the same data has told is preferred: it knew a probe's score.
    """
    if isinstance(work.method, DeepAdaptation):
        work = replace(work, resolved=work.resolved or settled(work.method, work, device))
    options = work.method if isinstance(work.method, FineTune) else FineTune()
    scratch = _resolved(options.model_copy(update={"init": "scratch", "freeze": "none"}), work, device)
    return replace(work, resolved=work.resolved or _resolved(options, work, device), scratch=scratch)


def _resolved(options: FineTune, work: Work, device: Device) -> dict[str, Any]:
    card = work.card or find(DEFAULT_BASE_MODELS[work.modality])
    facts = Facts(work.modality, work.problem, max(1, work.train), card, device=device.kind, gpus=1)
    return resolve(options, facts)[0].model_dump(mode="json")
