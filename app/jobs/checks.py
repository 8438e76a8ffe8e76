"""Whether a well-formed job can be run on the data and the base model it names."""

import re

from sqlalchemy import Connection

from app.jobs import origins
from app.jobs.episodes import check_classes, check_new
from app.jobs.origins import Origin
from app.jobs.targets import across, check_fields, check_target, measures
from app.nearest import hint_nearest
from core.catalogue import find, is_hf, is_timm
from core.contract.base_models import BaseModelCard
from core.contract.datasets import Dataset, Modality, Split
from core.contract.errors import ConflictError, GraftError, InvalidRequestError, NotFoundError
from core.contract.jobs import DEFAULT_BASE_MODELS, JobSpec
from core.contract.methods import METHODS, FineTune, RankBaseModels
from core.contract.methods.episodic import Episodic, MetaLearning
from core.contract.models import ModelManifest
from core.store import datasets, models

_MODEL_ID = re.compile(r"mdl_[0-9a-z]{26}")
_TIMM_NAME = re.compile(r"timm:[A-Za-z0-9_.-]{1,120}")
_HOW_TO_LABEL = "Upload an archive with one folder per class, or a table with a column of labels (`target` names it)."


def check(tx: Connection, tenant: str, spec: JobSpec) -> JobSpec:
    """The job with its base model named; raises for one that could only fail.

    `NotFoundError`, `ConflictError` or `InvalidRequestError`. The data sets are held, so that they cannot be deleted
    before the job is entered in the same transaction.
    """
    if spec.source is None:
        return _without_source(tx, tenant, spec)
    check_fields(spec)
    source = _ready(tx, tenant, spec.source, "source")
    method = METHODS[spec.method.name]
    if method.needs_labels:
        _labelled(source, "source")
    if source.labelled and source.problem in (None, "classification") and len(source.classes) < 2:
        raise ConflictError(
            f"Data set {source.id} has {len(source.classes)} class: there is nothing to tell apart.",
            code="too_few_classes",
            param="source",
            hint="Upload at least two classes.",
        )
    if isinstance(spec.method, RankBaseModels):
        _candidates(tx, tenant, spec, spec.method, source)
        return spec
    target = None if spec.target is None else _ready(tx, tenant, spec.target, "target")
    origin = origins.of_source(tx, tenant, source)
    if target is not None:
        check_target(tx, tenant, spec, origin, target)
    if isinstance(spec.method, Episodic):
        check_classes(spec, source)
        _episodes(tx, tenant, spec, source)
    elif method.makes_model:
        _contest(tx, tenant, spec, source, origin=origin, target=target)
    elif spec.evaluation is not None:
        raise _not_applicable(spec, "evaluation", "It makes a report and no model that could be measured.")
    name = spec.base_model or DEFAULT_BASE_MODELS[source.modality or "image"]
    card = _base_model(tx, tenant, name)
    _fits(name, card, source)
    if spec.target_base_model is not None:
        _fits_target(spec.target_base_model, source, target)
    if card is not None and isinstance(spec.method, FineTune | MetaLearning) and spec.method.freeze != "auto":
        _stage(card, spec.method.freeze)
    return spec.model_copy(update={"base_model": name})


def _without_source(tx: Connection, tenant: str, spec: JobSpec) -> JobSpec:
    """The classes are those of a model of the user's own; labels of the target measure as far as there are some."""
    origins.check_fields(spec)
    check_fields(spec)
    if spec.target_base_model is not None:
        raise _not_applicable(spec, "target_base_model", "`base_model` is the one for all data.")
    manifest = _own_model(tx, tenant, spec.base_model or "")
    origin = origins.of_model(manifest)
    target = _ready(tx, tenant, spec.target or "", "target")
    if any(use.dataset_id == target.id for use in manifest.data if use.role == "source"):
        raise ConflictError(
            f"{manifest.model_id} learnt from data set {target.id} itself: there is nothing to adapt to.",
            code="target_is_source",
            param="target",
            hint="Name a data set of the new domain.",
        )
    check_target(tx, tenant, spec, origin, target)
    if spec.evaluation is not None:
        _comparable(origin, _ready(tx, tenant, spec.evaluation, "evaluation"), origin.modality)
    return spec


def _contest(
    tx: Connection, tenant: str, spec: JobSpec, source: Dataset, *, origin: Origin, target: Dataset | None
) -> None:
    """There has to be something to learn from in every class, and something to measure on."""
    elsewhere = spec.evaluation is not None or (target is not None and measures(tx, tenant, spec, target))
    _trainable(tx, tenant, source, ("train", "test") if elsewhere else ("train",))
    if not elsewhere:
        _measurable(source)
    if spec.evaluation is not None:
        across = target is not None and METHODS[spec.method.name].heterogeneous
        modality = target.modality if target is not None and across else source.modality
        _comparable(origin, _ready(tx, tenant, spec.evaluation, "evaluation"), modality)


def _episodes(tx: Connection, tenant: str, spec: JobSpec, source: Dataset) -> None:
    """Items of all classes to learn from and to measure on; and an evaluation data set has classes of its own."""
    _trainable(tx, tenant, source, ("train",))
    _measurable(source)
    if spec.evaluation is None:
        return
    evaluation = _ready(tx, tenant, spec.evaluation, "evaluation")
    _labelled(evaluation, "evaluation")
    check_new(source, evaluation)


def _not_applicable(spec: JobSpec, param: str, hint: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"`{spec.method.name}` takes no `{param}`.", code="not_applicable", param=param, hint=f"Leave it out. {hint}"
    )


def _candidates(tx: Connection, tenant: str, spec: JobSpec, method: RankBaseModels, source: Dataset) -> None:
    """A ranking starts from no single base model and measures nothing on held-out items."""
    for param, given in (("base_model", spec.base_model), ("evaluation", spec.evaluation)):
        if given is not None:
            raise InvalidRequestError(
                f"A ranking of base models takes no `{param}`.",
                code="not_applicable",
                param=param,
                hint="Leave it out; `method.base_models` names the candidates, which are judged by training items.",
            )
    _trainable(tx, tenant, source, ("train",))
    for name in () if method.base_models == "all" else method.base_models:
        try:
            _fits(name, _base_model(tx, tenant, name), source)
        except GraftError as error:
            error.param = "method.base_models"
            raise


def _fits_target(name: str, source: Dataset, target: Dataset | None) -> None:
    """A base model of its own is for a target of another modality, and is none of one's own models."""
    if target is None or target.modality == source.modality:
        said = "has no target" if target is None else f"has a target that is {target.modality} as its source is"
        raise InvalidRequestError(
            f"`target_base_model` is for a target of another modality; the job {said}.",
            code="not_applicable",
            param="target_base_model",
            hint=f"Leave it out; `base_model` is the one for all data. Methods that go across: {across()}.",
        )
    if name.startswith("mdl_"):
        raise InvalidRequestError(
            f"{name} is one of your models; the target's base model is a public one.",
            code="not_applicable",
            param="target_base_model",
            hint="Choose one from GET /base-models.",
        )
    try:
        _fits(name, _public(name), target, "target_base_model")
    except GraftError as error:
        error.param = "target_base_model"
        raise


def _fits(name: str, card: BaseModelCard | None, source: Dataset, param: str = "base_model") -> None:
    if card is None:
        known: Modality | None = "image" if is_timm(name) else "text" if is_hf(name) else None
    else:
        known = card.modality
    if known in (None, source.modality):
        return
    raise ConflictError(
        f"{name} is a base model for {known} data; data set {source.id} is {source.modality}.",
        code="modalities_differ",
        param=param,
        hint=f"Leave `{param}` out for the default, or choose one from GET /base-models.",
    )


def _ready(tx: Connection, tenant: str, dataset_id: str, param: str) -> Dataset:
    try:
        dataset = datasets.hold(tx, tenant, dataset_id)
    except NotFoundError as error:
        error.param = param
        raise
    if dataset.state == "rejected":
        raise ConflictError(
            f"Data set {dataset_id} was rejected.",
            code="dataset_rejected",
            param=param,
            hint=f"GET /datasets/{dataset_id}/report says why; upload a corrected one.",
        )
    if dataset.state != "ready":
        raise ConflictError(
            f"Data set {dataset_id} is still {dataset.state}.",
            code="dataset_not_ready",
            param=param,
            hint="Wait until its state is `ready`.",
        )
    return dataset


def _labelled(dataset: Dataset, param: str) -> None:
    if not dataset.labelled:
        message = f"Data set {dataset.id} has no labels."
        raise ConflictError(message, code="labels_required", param=param, hint=_HOW_TO_LABEL)


def _trainable(tx: Connection, tenant: str, source: Dataset, splits: tuple[Split, ...]) -> None:
    found = datasets.report(tx, tenant, source.id)
    counts = found.classes if found else []
    empty = [one.name for one in counts if not any(getattr(one, split) for split in splits)]
    if empty:
        raise ConflictError(
            f"No training items for {len(empty)} of {len(counts)} classes, e.g. `{empty[0]}`.",
            code="class_without_items",
            param="source",
            hint="Add items of these classes to the `train` folder, or leave the classes out.",
            details={"classes": empty[:100]},
        )


def _measurable(source: Dataset) -> None:
    if not source.splits.get("test"):
        raise ConflictError(
            f"Data set {source.id} has no items in its test split: nobody could say how good the model is.",
            code="no_held_out_items",
            param="source",
            hint="Upload more items of each class (three or more are split by themselves), items in a `test` folder, "
            "or give an `evaluation` data set.",
        )


def _comparable(source: Origin, evaluation: Dataset, modality: Modality | None) -> None:
    if evaluation.id == source.id:
        raise InvalidRequestError(
            "The evaluation data set is the source itself: the model would be measured on what it learnt by heart.",
            code="evaluation_is_source",
            param="evaluation",
            hint="Leave `evaluation` out: the source's test split, which is not trained on, is then used.",
        )
    _labelled(evaluation, "evaluation")
    if (modality, source.problem) != (evaluation.modality, evaluation.problem):
        raise ConflictError(
            f"The evaluation data set is {evaluation.modality}, {evaluation.problem}; it has to be {modality}, "
            f"{source.problem}.",
            code="problems_differ",
            param="evaluation",
            hint=f"Upload it in the {source.noun}'s form; `modality` and `problem` say how a table is to be read.",
        )
    strange = [name for name in evaluation.classes if name not in set(source.classes)]
    if strange:
        raise ConflictError(
            f"The evaluation data set has {len(strange)} class{'es' * (len(strange) > 1)} that the {source.noun} has "
            f"not, e.g. `{strange[0]}`.",
            code="classes_differ",
            param="evaluation",
            hint=hint_nearest(strange[0], source.classes, say="Class names must match exactly."),
            details={"unknown_classes": strange[:100], "source_classes": source.classes[:100]},
        )


def _base_model(tx: Connection, tenant: str, name: str) -> BaseModelCard | None:
    """The card behind the name; None where there is none to look into (names of timm and of the hub)."""
    if name.startswith("mdl_"):
        return _card_of_model(tx, tenant, name)
    return _public(name)


def _public(name: str) -> BaseModelCard | None:
    if is_hf(name) or (is_timm(name) and _TIMM_NAME.fullmatch(name)):
        return None
    return find(name)


def _card_of_model(tx: Connection, tenant: str, model_id: str) -> BaseModelCard | None:
    manifest = _own_model(tx, tenant, model_id)
    try:
        return find((manifest.lineage or [manifest.base_model])[-1])
    except GraftError:
        return None  # made from one of timm's own


def _own_model(tx: Connection, tenant: str, model_id: str) -> ModelManifest:
    unknown = NotFoundError(
        f"There is no model {model_id}.", code="model_not_found", param="base_model", hint="GET /models lists yours."
    )
    if not _MODEL_ID.fullmatch(model_id):
        raise unknown
    try:
        return models.hold(tx, tenant, model_id).manifest
    except NotFoundError as error:
        raise unknown from error


def _stage(card: BaseModelCard, freeze: str) -> None:
    known = ["none", "all", *card.stages]
    if freeze not in known:
        raise InvalidRequestError(
            f"{card.id} has no stage `{freeze}`.",
            code="unknown_stage",
            param="method.freeze",
            hint=hint_nearest(freeze, known),
            details={"stages": card.stages},
        )
