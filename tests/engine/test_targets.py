"""Data of a new domain: its labels measure and decide nothing, unless the job says so."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.contract.errors import JobError
from core.contract.jobs import TargetLabels
from core.contract.methods import METHODS
from tests.engine.jobs import Workshop
from tests.engine.tables import columns, table
from tests.engine.uploads import members
from worker.engine.data import JobData, read
from worker.engine.door import DataRef, Inputs, Result
from worker.engine.notes import OF_SOURCE

KINDS = columns(a="number", b="number", c="number", d="number")
CLASSES = ("x", "y", "z")
SHUFFLED = ("auto", "selective_pseudo_labels", "label_shift", "coral", "mcc")
OTHERS = {"cross_modal"}  # wants texts on one side
ADAPTING = sorted(
    name for name, options in METHODS.items() if options.takes_target() and options.makes_model and name not in OTHERS
)


def blobs(count: int, shift: float, seed: int) -> tuple[list[dict[str, float]], list[int]]:
    """Rows of three classes in four columns, moved by `shift`."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    x = rng.normal(size=(count, 4)) + 3 * np.eye(4)[labels] + shift * np.array([1, -0.5, 0.5, 1])
    return [dict(zip("abcd", map(float, row), strict=True)) for row in x], labels.tolist()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("targets"))


def domain(shop: Workshop, shift: float, *, seed: int, labels: Any = None, classes: Any = CLASSES) -> DataRef:
    rows, truth = blobs(120, shift, seed)
    return table(shop.root, rows, truth if labels is None else labels, KINDS, classes=classes, seed=seed)


def unlabelled(shop: Workshop) -> DataRef:
    rows, _ = blobs(120, 1.0, seed=2)
    return table(shop.root, rows, [None] * len(rows), KINDS, seed=2)


def adapt(shop: Workshop, name: str, source: DataRef, target: DataRef | None, **more: Any) -> Result:
    method = METHODS[name]() if name not in QUICK else METHODS[name].model_validate(QUICK[name])
    return shop.run(method, source, target=target, base_model="tabular_mlp", baselines="quick", **more)


QUICK: dict[str, dict[str, Any]] = {
    name: {"epochs": 2} for name in ADAPTING if "epochs" in METHODS[name].model_fields and name != "auto"
}


def looked(shop: Workshop, target: DataRef, labels: TargetLabels, **more: Any) -> JobData:
    source = domain(shop, 0.0, seed=1)
    return read(Inputs("job_" + "0" * 26, "mdl_" + "0" * 26, source, target=target, **more), target_labels=labels)


@pytest.mark.parametrize("name", [name for name in SHUFFLED if name in ADAPTING])
def test_labels_of_the_target_only_measure(name: str, shop: Workshop) -> None:
    """With shuffled labels of the target the very same model is served; only its figures differ."""
    source, truth = domain(shop, 0.0, seed=1), blobs(120, 1.0, seed=2)[1]
    shuffled = np.random.default_rng(5).permutation(truth).tolist()
    told = []
    for labels in (truth, shuffled):
        result = adapt(shop, name, source, domain(shop, 1.0, seed=2, labels=labels))
        assert result.bundle is not None
        assert result.report.evaluated_on == "target"
        served = next(arm for arm in result.report.arms if arm.served)
        told.append((served.name, members(result.bundle)["model.onnx"], served.value))
    assert told[0][0] == told[1][0]
    assert told[0][1] == told[1][1]
    assert told[0][2] > told[1][2] + 0.2  # truth is told from noise


def test_a_method_sees_no_label_of_the_target(shop: Workshop) -> None:
    data = looked(shop, domain(shop, 1.0, seed=2), "evaluation")
    assert data.target is not None
    assert (data.target.labels == -1).all()
    assert len(data.target) == 120
    assert data.evaluated_on == "target"
    assert len(data.held_out) == 120
    assert (data.held_out.labels >= 0).all()
    data.close()


def test_without_their_labels_the_source_is_measured_on(shop: Workshop) -> None:
    for target, labels in ((domain(shop, 1.0, seed=2), "none"), (unlabelled(shop), "evaluation")):
        data = looked(shop, target, labels)  # type: ignore[arg-type]
        assert data.evaluated_on == "test_split"
        assert data.target is not None
        assert (data.target.labels == -1).all()
        data.close()


def test_a_few_labels_are_shown_and_not_measured_on(shop: Workshop) -> None:
    data = looked(shop, domain(shop, 1.0, seed=2), "few")
    assert data.target is not None
    shown = np.flatnonzero(data.target.labels >= 0)
    assert np.bincount(data.target.labels[shown]).tolist() == [5, 5, 5]
    assert not set(data.target.indices[shown]) & set(data.held_out.indices)
    assert len(data.held_out) == 105
    data.close()


def test_with_an_evaluation_set_all_labels_may_be_shown(shop: Workshop) -> None:
    other = domain(shop, 1.0, seed=3)
    data = looked(shop, domain(shop, 1.0, seed=2), "few", evaluation=other)
    assert data.target is not None
    assert (data.target.labels >= 0).all()
    assert data.evaluated_on == "evaluation_dataset"
    data.close()


@pytest.mark.parametrize(
    ("build", "labels", "code", "param"),
    [
        (lambda shop: domain(shop, 1.0, seed=2, classes=("x", "y", "new")), "evaluation", "label_space_open", "target"),
        (unlabelled, "few", "labels_required", "target_labels"),
    ],
)
def test_what_cannot_be_adapted_to_is_refused(
    build: Any, labels: TargetLabels, code: str, param: str, shop: Workshop
) -> None:
    with pytest.raises(JobError) as caught:
        looked(shop, build(shop), labels)
    assert (caught.value.code, caught.value.param) == (code, param)
    assert caught.value.hint


def test_figures_of_the_old_domain_are_called_so(shop: Workshop) -> None:
    result = adapt(shop, "coral", domain(shop, 0.0, seed=1), unlabelled(shop))
    assert OF_SOURCE in result.report.notes
    assert result.report.evaluated_on == "test_split"
    judgement = result.report.judgement
    assert judgement is not None
    assert judgement.guard is not None
    assert judgement.verdict == judgement.guard.verdict
    labelled = adapt(shop, "coral", domain(shop, 0.0, seed=1), domain(shop, 1.0, seed=2))
    assert OF_SOURCE not in labelled.report.notes


def test_a_job_without_a_target_is_refused(shop: Workshop, tmp_path: Path) -> None:
    with pytest.raises(JobError) as caught:
        adapt(shop, "prototype_self_training", domain(shop, 0.0, seed=1), None)
    assert (caught.value.code, caught.value.param) == ("target_required", "target")
