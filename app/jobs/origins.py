"""What a job's classes come from: its source, or, without one, a classifier that knows them already."""

from dataclasses import dataclass

from sqlalchemy import Connection

from core.contract.datasets import Dataset, Modality, Problem
from core.contract.errors import ConflictError, InvalidRequestError
from core.contract.jobs import JobSpec
from core.contract.methods import METHODS
from core.contract.models import ModelManifest
from core.contract.prepare import TabularPrepare
from core.store import datasets

_ABLE = [name for name, options in METHODS.items() if options.source_optional]
_HOW = "Set `base_model` to one of your models (`mdl_…`, GET /models lists them) that tells classes apart"


@dataclass(frozen=True)
class Origin:
    """What a target is held against."""

    id: str
    noun: str
    """`source` or `model`, for messages."""
    modality: Modality | None
    problem: Problem | None
    labelled: bool
    classes: list[str]
    columns: list[str]
    """Of a table."""


def of_source(tx: Connection, tenant: str, source: Dataset) -> Origin:
    """A ready data set."""
    found = datasets.report(tx, tenant, source.id) if source.modality == "tabular" else None
    columns = [column.name for column in found.columns] if found else []
    labelled = bool(source.labelled)
    return Origin(source.id, "source", source.modality, source.problem, labelled, source.classes, columns)


def of_model(manifest: ModelManifest) -> Origin:
    """A model of the user's own; `ConflictError` where it is no classifier."""
    if manifest.problem != "classification" or len(manifest.classes) < 2:
        what = f"is for {manifest.problem}" if manifest.problem != "classification" else "has no classifier"
        raise ConflictError(
            f"{manifest.model_id} {what}; without a `source` the classes are those that the model tells apart.",
            code="classifier_required",
            param="base_model",
            hint=f"{_HOW}; or name a labelled `source`.",
        )
    prepare = manifest.prepare
    columns: list[str] = []
    if isinstance(prepare, TabularPrepare):  # a date is several numbers
        columns = list(dict.fromkeys(one.name for part in (prepare.numbers, prepare.categories) for one in part))
    return Origin(manifest.model_id, "model", manifest.modality, manifest.problem, True, manifest.classes, columns)


def check_fields(spec: JobSpec) -> None:
    """Whether a job without a `source` can do without, whatever the data are; `InvalidRequestError`."""
    method = METHODS[spec.method.name]
    if not method.source_optional:
        raise InvalidRequestError(
            f"`{spec.method.name}` learns from a labelled `source`, and the job names none.",
            code="source_required",
            param="source",
            hint="Set `source` to a labelled data set; GET /datasets lists yours. Without one "
            f"{listed(_ABLE)} can adapt one of your own models (`base_model`) to a `target`.",
            details={"methods": _ABLE},
        )
    if spec.base_model is None or not spec.base_model.startswith("mdl_"):
        named = "the job names no `base_model`" if spec.base_model is None else f"{spec.base_model} knows no classes"
        raise InvalidRequestError(
            f"Without a `source` `{spec.method.name}` adapts a model that knows the classes, and {named}.",
            code="own_model_required",
            param="base_model",
            hint=f"{_HOW}; or name a labelled `source`.",
        )
    fields = method.model_fields
    for name in method.of_source:
        if getattr(spec.method, name) != fields[name].default:
            raise InvalidRequestError(
                f"`{name}` says how to learn from a `source`, and the job names none.",
                code="not_applicable",
                param=f"method.{name}",
                hint=f"Leave it out, or name a labelled `source`. Without one {spec.base_model} is adapted as it is.",
            )


def listed(names: list[str]) -> str:
    """Names for a message."""
    return ", ".join(f"`{name}`" for name in names)
