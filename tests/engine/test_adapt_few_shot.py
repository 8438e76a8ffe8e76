"""Plain models from a few items: by inner steps from a meta-learnt start, by class means, by ridge, with a target."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load

from core.bundle import read_member
from core.contract.errors import JobError
from tests.engine.jobs import TINY, Workshop
from tests.engine.test_few_shot import shapes
from worker.engine.backbones import own
from worker.engine.door import DataRef, Result

SMALL = {"ways": [3], "shots": [1], "queries": 3, "episodes": 20, "steps": 1, "tasks": 2, "train_ways": 3}
ADAPT = {"name": "adapt_few_shot"}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("adapt_few_shot"))


@pytest.fixture(scope="module")
def few(workshop: Workshop) -> DataRef:
    return workshop.data(shapes(3, 8))


def start(workshop: Workshop, name: str, base_model: str) -> Path:
    """A meta-learnt start, kept where the next job finds it."""
    found = workshop.run({"name": name, **SMALL}, workshop.data(shapes()), base_model=base_model)
    assert found.bundle is not None
    kept = workshop.root / f"{name}_{base_model.partition(':')[2] or base_model}.zip"
    kept.write_bytes(found.bundle.read_bytes())
    return kept


def adapt(workshop: Workshop, few: DataRef, parent: Path, **options: object) -> Result:
    model = own.manifest(parent).model_id
    return workshop.run({**ADAPT, **options}, few, base_model=model, parent=parent)


@pytest.mark.parametrize("name", ["maml", "meta_sgd"])
def test_a_network_is_adapted_from_its_start(workshop: Workshop, few: DataRef, name: str) -> None:
    """The plain model answers by itself (parity is part of a job), and its network is another than the parent's."""
    parent = start(workshop, name, "conv4")
    before = load(read_member(parent, "model.safetensors"))
    found = adapt(workshop, few, parent, inner_steps=3)
    manifest = found.manifest
    assert manifest is not None
    assert manifest.few_shot is None
    assert (manifest.method["how"], manifest.method["inner_steps"]) == ("inner_steps", 3)
    assert manifest.classes == ["kind00", "kind01", "kind02"]
    assert found.bundle is not None
    after = load(read_member(found.bundle, "model.safetensors"))
    assert after["head.weight"].shape == (3, 64)
    assert not np.array_equal(before["backbone.blocks.3.0.weight"], after["backbone.blocks.3.0.weight"])
    rates = {part for part in before if part.startswith("few_shot.rates.")}
    assert ("few_shot.rates.backbone.blocks.0.0.weight" in rates) == (name == "meta_sgd")
    assert ("few_shot.rates.start.weight" in rates) == (name == "meta_sgd")


def test_on_features_the_neck_is_adapted(workshop: Workshop, few: DataRef) -> None:
    parent = start(workshop, "maml", TINY)
    found = adapt(workshop, few, parent)
    assert found.bundle is not None
    assert found.manifest is not None
    before, after = (load(read_member(bundle, "model.safetensors")) for bundle in (parent, found.bundle))
    name = "head.before.0.weight"
    assert before[name].shape == after[name].shape
    assert not np.array_equal(before[name], after[name])
    assert found.manifest.method["inner_steps"] == own.manifest(parent).few_shot.initialisation.inner_steps  # type: ignore[union-attr]
    right = next(metric.value for metric in found.report.metrics if metric.name == "accuracy")
    assert right >= 2 / 3
    head_alone = adapt(workshop, few, parent, how="class_means")
    assert head_alone.manifest is not None
    assert head_alone.manifest.few_shot is not None


@pytest.mark.parametrize("how", ["class_means", "ridge"])
def test_without_a_start(workshop: Workshop, few: DataRef, how: str) -> None:
    found = workshop.run({**ADAPT, "how": how}, few)
    assert found.manifest is not None
    assert (found.manifest.few_shot is not None) == (how == "class_means")
    assert found.manifest.method["how"] == how


def test_auto_without_a_start_is_class_means(workshop: Workshop, few: DataRef) -> None:
    found = workshop.run(ADAPT, few)
    assert found.manifest is not None
    assert found.manifest.method["how"] == "class_means"


@pytest.mark.parametrize("name", ["bd_cspn", "tim"])
def test_a_target_moves_the_means(workshop: Workshop, few: DataRef, name: str) -> None:
    found = workshop.run({**ADAPT, "transductive": name}, few, target=workshop.data(shapes(3, 9)))
    assert found.manifest is not None
    assert found.manifest.method["how"] == "class_means"


def test_what_cannot_be_is_refused(workshop: Workshop, few: DataRef) -> None:
    for options, code in (
        ({"how": "inner_steps"}, "no_meta_learnt_start"),
        ({"how": "ridge", "transductive": "tim"}, "invalid_options"),
        ({"transductive": "tim"}, "target_required"),
    ):
        with pytest.raises(JobError) as caught:
            workshop.run({**ADAPT, **options}, few)
        assert caught.value.code == code
