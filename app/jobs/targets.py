"""Whether a job can adapt to the data of a new domain that it names."""

from collections.abc import Callable

from sqlalchemy import Connection

from app.jobs.origins import Origin, listed
from app.nearest import hint_nearest
from core.contract.datasets import Dataset, DatasetReport
from core.contract.errors import ConflictError, InvalidRequestError
from core.contract.jobs import JobSpec
from core.contract.methods import METHODS, Auto, CrossModal, MethodOptions
from core.store import datasets

LEAST_ITEMS = 10
"""Items of a target; fewer say next to nothing of what is common in its domain."""
_HOW_TO_LABEL = (
    "Label some of its items: class folders beside one named `unlabelled`, or a column of labels with empty cells."
)


def check_fields(spec: JobSpec) -> None:
    """Whether method, `target` and `target_labels` go together, whatever the data are; `InvalidRequestError`."""
    method = METHODS[spec.method.name]
    if spec.target is None:
        _without_target(spec, method)
        return
    if not method.takes_target():
        known = _names(lambda one: one.takes_target())
        raise InvalidRequestError(
            f"`{spec.method.name}` learns from the source alone and takes no `target`.",
            code="not_applicable",
            param="target",
            hint=f"Leave `target` out, or choose a method that takes one: {listed(known)}.",
            details={"methods": known},
        )
    if isinstance(spec.method, Auto) and spec.method.arms != "auto":
        raise InvalidRequestError(
            "With a `target`, `auto` races methods that adapt; `arms` names some that learn from the source alone.",
            code="not_applicable",
            param="method.arms",
            hint="Leave `arms` out; or leave `target` out, and the arms are raced on the source.",
        )
    for param, other in (("source", spec.source), ("evaluation", spec.evaluation)):
        if spec.target == other:
            raise _same(param)


def _without_target(spec: JobSpec, method: type[MethodOptions]) -> None:
    if method.adapts:
        raise InvalidRequestError(
            f"`{spec.method.name}` adapts to data of a new domain, and the job names none.",
            code="target_required",
            param="target",
            hint="Set `target` to a data set of the new domain; it needs no labels. Without one take `auto` or "
            "`fine_tune`.",
        )
    if spec.target_labels != "evaluation":
        raise InvalidRequestError(
            "The job has no `target` whose labels could be used, or not.",
            code="target_required",
            param="target_labels",
            hint="Set `target` to a data set of the new domain, or leave `target_labels` out.",
        )


def _same(param: str) -> InvalidRequestError:
    if param == "source":
        return InvalidRequestError(
            "The target is the source itself: there is nothing to adapt to.",
            code="target_is_source",
            param="target",
            hint="Name a data set of the new domain, or leave `target` out to learn from the source alone.",
        )
    return InvalidRequestError(
        "The evaluation data set is the target itself.",
        code="evaluation_is_target",
        param="evaluation",
        hint="Leave `evaluation` out: the result is measured on those items of the target that have labels.",
    )


def check_target(tx: Connection, tenant: str, spec: JobSpec, source: Origin, target: Dataset) -> None:
    """Whether what the classes come from, the source or a model, can be adapted to the target, a ready data set.

    `ConflictError`; with `target_labels: none` nothing of the target's labels is looked at.
    """
    method = METHODS[spec.method.name]
    _classification(source, method)
    if target.modality != source.modality and not method.heterogeneous:
        raise _modalities_differ(source, target)
    if isinstance(spec.method, CrossModal):
        _cross_modal(spec.method, source, target)
    if source.modality == "tabular" and not method.heterogeneous:
        _columns(source, datasets.report(tx, tenant, target.id))
    if target.items < LEAST_ITEMS:
        raise ConflictError(
            f"Data set {target.id} has {target.items} item{'s' * (target.items != 1)}; a target needs {LEAST_ITEMS}.",
            code="too_few_items",
            param="target",
            hint="Upload more items of the new domain; they need no labels, and a hundred are a good start.",
            details={"items": target.items, "least": LEAST_ITEMS},
        )
    if spec.target_labels == "few" and not target.labelled:
        raise ConflictError(
            f"Data set {target.id} has no labels, and `target_labels` is `few`.",
            code="labels_required",
            param="target",
            hint=f"{_HOW_TO_LABEL} Or leave `target_labels` out.",
        )
    if spec.target_labels != "none" and target.labelled and source.labelled:
        _label_spaces(spec, source, target, datasets.report(tx, tenant, target.id))


def measures(tx: Connection, tenant: str, spec: JobSpec, target: Dataset) -> bool:
    """Whether labels of the target measure the result; with `few` one label of a class is for choosing alone."""
    if not target.labelled or spec.target_labels == "none":
        return False
    found = datasets.report(tx, tenant, target.id)
    return spec.target_labels == "evaluation" or (found is not None and any(one.total > 1 for one in found.classes))


def _classification(source: Origin, method: type[MethodOptions]) -> None:
    if source.problem in (None, "classification") or not method.needs_labels:
        return
    raise ConflictError(
        f"Adapting to a new domain is for classes; data set {source.id} is for {source.problem}.",
        code="problem_not_supported",
        param="source",
        hint="Label some items of the new domain and take `fine_tune` or `linear_probe` with them as the `source`.",
        details={"problem": source.problem},
    )


def _cross_modal(method: CrossModal, source: Origin, target: Dataset) -> None:
    """One side has texts, the other has not; names of classes are as many as these."""
    if [source.modality, target.modality].count("text") != 1:
        raise ConflictError(
            f"Source and target are {source.modality} and {target.modality}; `cross_modal` aligns texts with something "
            "else.",
            code="texts_required",
            param="target",
            hint="Name texts as one of them, and what they are about as the other; `kernel_cca` takes other pairs.",
        )
    if method.class_names != "auto" and len(method.class_names) != len(source.classes):
        raise ConflictError(
            f"{len(method.class_names)} names are given for the {len(source.classes)} classes of the source.",
            code="class_names_differ",
            param="method.class_names",
            hint="Give one for each class, in their order; or leave them out for the classes' own names.",
            details={"source_classes": source.classes[:100]},
        )


def across() -> str:
    """Names of the methods for source and target of different modalities."""
    return listed(_names(lambda one: one.heterogeneous))


def _modalities_differ(source: Origin, target: Dataset) -> ConflictError:
    across = _names(lambda one: one.heterogeneous) if source.noun == "source" else []
    other = f", or a method for different kinds of data: {listed(across)}" if across else ""
    return ConflictError(
        f"The target is {target.modality}; the {source.noun} is {source.modality}.",
        code="modalities_differ",
        param="target",
        hint=f"Name a target of the {source.noun}'s modality{other}; `modality` of an upload says how it is to be "
        "read.",
        details={"methods": across},
    )


def _columns(source: Origin, found: DatasetReport | None) -> None:
    """Columns that only one of two tables has are missing in the other; with none in common there is nothing left."""
    names = [source.columns, [column.name for column in found.columns] if found else []]
    if names[0] and not set(names[0]) & set(names[1]):
        across = _names(lambda one: one.heterogeneous) if source.noun == "source" else []
        other = f" Or choose a method for other columns: {listed(across)}." if across else ""
        raise ConflictError(
            f"The target's table has none of the {source.noun}'s columns, e.g. `{names[0][0]}`.",
            code="columns_differ",
            param="target",
            hint=f"Call the columns of both alike.{other}",
            details={"source_columns": names[0][:100], "target_columns": names[1][:100]},
        )


def _label_spaces(spec: JobSpec, source: Origin, target: Dataset, found: DatasetReport | None) -> None:
    """The target's classes may be the source's (or the model's), or some of them where the method can do with that."""
    if target.problem != "classification":
        raise ConflictError(
            f"The target's labels are for {target.problem}; the {source.noun}'s are classes.",
            code="problems_differ",
            param="target",
            hint="Upload it with `problem=classification`, or with `target=none` as unlabelled; or set "
            "`target_labels` to `none`.",
        )
    foreign = [name for name in target.classes if name not in set(source.classes)]
    if foreign:
        raise _open(source, foreign)
    absent = [name for name in source.classes if name not in set(target.classes)]
    # Labels of a few items do not say that the other classes are absent.
    whole = found is not None and found.unlabelled == 0
    if absent and whole and "partial" not in METHODS[spec.method.name].label_spaces:
        raise _partial(spec, source, absent)


def _open(source: Origin, foreign: list[str]) -> ConflictError:
    return ConflictError(
        f"The target has {len(foreign)} class{'es' * (len(foreign) > 1)} that the {source.noun} has not, e.g. "
        f"`{foreign[0]}`: no method can learn them from the {source.noun}.",
        code="label_space_open",
        param="target",
        hint=hint_nearest(
            foreign[0],
            source.classes,
            say="Leave items of these classes out of the target; or label some of its items and take `fine_tune` with "
            "them as the `source`.",
        ),
        details={"unknown_classes": foreign[:100], "source_classes": source.classes[:100]},
    )


def _partial(spec: JobSpec, source: Origin, absent: list[str]) -> ConflictError:
    able = _names(lambda one: one.takes_target() and "partial" in one.label_spaces)
    less = "Leave these classes out of the source, or" if source.noun == "source" else "With a labelled `source`"
    return ConflictError(
        f"The target lacks {len(absent)} of the {source.noun}'s classes, e.g. `{absent[0]}`; `{spec.method.name}` "
        "would take its items for these, for it expects all classes in both.",
        code="label_space_partial",
        param="method",
        hint=f"{less} choose a method for a target with some of them: {listed(able)}.",
        details={"absent_classes": absent[:100], "methods": able},
    )


def _names(wanted: Callable[[type[MethodOptions]], bool]) -> list[str]:
    return [name for name, options in METHODS.items() if wanted(options)]
