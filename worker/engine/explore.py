"""A job that makes a report and no model: it looks at several base models, one after the other."""

from collections.abc import Callable
from dataclasses import replace

from core.contract.base_models import BaseModelCard
from core.contract.errors import JobError
from core.contract.jobs import JobSpec
from core.contract.methods import RankBaseModels
from worker.engine import devices
from worker.engine.backbones import Base, weights
from worker.engine.cache import CacheFolder
from worker.engine.data import JobData
from worker.engine.door import Inputs, Places, Result, Sink
from worker.engine.exploration import Exploration
from worker.engine.hypothesis import job_data
from worker.engine.methods.registry import METHODS
from worker.engine.records import finding
from worker.engine.steps import Steps, Wishes
from worker.engine.task import Finding

OpenBase = Callable[[JobSpec, Inputs, Places, CacheFolder, JobData], Base]


def explore(
    spec: JobSpec, inputs: Inputs, places: Places, open_base: OpenBase, *, steps: Steps, wishes: Wishes, sink: Sink
) -> Result:
    """Run the job; `open_base` opens the base model that a job's spec names."""
    with steps.step("prepare") as note:
        wishes.check()
        threads = devices.use_threads(places.threads)
        device = devices.choose(places.device)
        cache = CacheFolder(places.cache, places.cache_bytes, features=places.features)
        data = job_data(spec, inputs, measured=False)
        note.text = f"{len(data.train) + len(data.validation)} items that may be looked at"
    modality = data.source.modality

    def opened(name: str) -> Base:
        parent = inputs.parents.get(name)
        base = open_base(
            spec.model_copy(update={"base_model": name}), replace(inputs, parent=parent), places, cache, data
        )
        if base.identity.card.modality != modality:
            raise JobError(
                f"It is a base model for {base.identity.card.modality} data; the data set is {modality}.",
                code="modalities_differ",
                param="method.base_models",
            )
        return base

    def here(card: BaseModelCard) -> bool:
        return weights.here(card, places.weights)

    options = spec.method
    assert isinstance(options, RankBaseModels)
    look = Exploration(options, data, opened, here, cache, device, threads, spec.seed, steps, wishes, sink)
    try:
        with steps.step("compare") as note:
            found = METHODS[options.name].run(look)
            assert isinstance(found, Finding)
            ranked = found.fields["ranking"].candidates
            note.text = f"{sum(one.state == 'measured' for one in ranked)} of {len(ranked)} base models measured"
        steps.progress("compare", 1.0)
        return Result(None, finding(spec, inputs, data, found, steps.done), None)
    finally:
        data.close()
