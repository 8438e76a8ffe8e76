"""Whether a job can be measured on few-shot episodes of the data that it names."""

from core.contract.datasets import Dataset
from core.contract.errors import ConflictError, InvalidRequestError
from core.contract.jobs import JobSpec
from core.contract.methods.episodic import Episodic


def check_classes(spec: JobSpec, source: Dataset) -> None:
    """Whether the source has classes, and enough of them; `ConflictError`. The worker counts to a hair."""
    options = spec.method
    assert isinstance(options, Episodic)
    if source.problem not in (None, "classification"):
        raise ConflictError(
            f"Episodes are drawn from classes; data set {source.id} is {source.problem}.",
            code="not_applicable",
            param="source",
            hint="Choose another method, e.g. `linear_probe`; or upload items with one class each.",
        )
    turns = 4 if options.rotations else 1
    here = len(source.classes) * turns
    if spec.evaluation is None and here < max(options.ways):
        raise ConflictError(
            f"Data set {source.id} has {len(source.classes)} classes, and an episode has {max(options.ways)}.",
            code="too_few_classes",
            param="method.ways",
            hint="Lower `ways`, or upload more classes; a quarter of them is measured on, and not trained on.",
            details={"classes": len(source.classes), "ways": options.ways},
        )
    if spec.evaluation is not None and options.test_classes != "auto":
        raise InvalidRequestError(
            "Classes are named to be measured on, and there is an evaluation data set, which is measured on.",
            code="not_applicable",
            param="method.test_classes",
            hint="Leave out `test_classes` or `evaluation`.",
        )
    unknown = [] if options.test_classes == "auto" else sorted(set(options.test_classes) - set(source.classes))
    if unknown:
        raise ConflictError(
            f"Data set {source.id} has no class `{unknown[0]}`.",
            code="unknown_class",
            param="method.test_classes",
            hint="Class names must match exactly; GET /datasets/{id} lists them.",
            details={"unknown": unknown[:100]},
        )


def check_new(source: Dataset, evaluation: Dataset) -> None:
    """Whether another data set holds new classes of the same kind of data; `ConflictError`."""
    if (source.modality, evaluation.problem) != (evaluation.modality, "classification"):
        raise ConflictError(
            f"The evaluation data set is {evaluation.modality}, {evaluation.problem}; it has to be {source.modality}, "
            "classification.",
            code="problems_differ",
            param="evaluation",
            hint="Upload it in the source's form.",
        )
    known = sorted(set(source.classes) & set(evaluation.classes))
    if known:
        raise ConflictError(
            f"{len(known)} class{'es' * (len(known) > 1)} of the evaluation data set, e.g. `{known[0]}`, "
            f"{'are' if len(known) > 1 else 'is'} in the source, too; episodes are of classes that are new.",
            code="classes_known",
            param="evaluation",
            hint="Leave them out of one of the two, or name them otherwise.",
            details={"known": known[:100]},
        )
