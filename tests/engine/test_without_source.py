"""`shot` without a source: a classifier that is there is adapted, stays, and is what the guard falls back on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.numpy import load

from core.contract.errors import JobError
from core.contract.methods import AdaptFewShot, Coral, DomainShift, LinearProbe, Shot
from core.contract.verdicts import GuardReport
from core.modality.preparers import preparer
from tests.builders import flat_zip, folder_zip
from tests.engine.jobs import Workshop
from tests.engine.tables import columns, table
from tests.engine.uploads import members
from worker.engine.adaptation.rules import RULES
from worker.engine.backbones import own
from worker.engine.door import DataRef, Result, SuspendedError, Wish
from worker.engine.heads import Head
from worker.engine.methods.adapter import Adapter
from worker.engine.notes import OF_NOTHING
from worker.engine.stages import Affine, Relu, Unit

KINDS = columns(**{f"x{number}": "number" for number in range(6)})
CLASSES = ("a", "b", "c")
FAST: dict[str, Any] = {"epochs": 15, "batch_size": 32, "head_lr": 0.01}


def blobs(*, shift: float, seed: int = 0) -> tuple[list[dict[str, float]], list[int]]:
    """Three classes about their centres in six columns; `shift` moves all of them, and stretches them."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(0, 1.6, (3, 6))
    labels = np.arange(240) % 3
    x = centres[labels] + rng.normal(0, 0.8, (240, 6))
    x = x * (1 + shift / 4) + shift * np.array([1, -1, 1, -1, 1, -1])
    return [{f"x{number}": float(value) for number, value in enumerate(row)} for row in x], labels.tolist()


def domain(
    shop: Workshop, *, shift: float = 1.5, seed: int = 1, labels: Any = "all", classes: Any = CLASSES
) -> DataRef:
    rows, truth = blobs(shift=shift, seed=seed)
    said = truth if labels == "all" else [None] * len(truth) if labels == "none" else labels
    return table(shop.root, rows, said, KINDS, classes=[] if labels == "none" else classes, seed=seed)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("alone"))


def made(result: Result) -> Path:
    assert result.bundle is not None
    return result.bundle


@pytest.fixture(scope="module")
def parent(shop: Workshop) -> Path:
    """A linear probe of the old domain, out of a job of its own."""
    source = domain(shop, shift=0, seed=0)
    return made(shop.run(LinearProbe(), source, base_model="tabular_linear"))


def adapt(shop: Workshop, parent: Path, target: DataRef, method: Any = None, **more: Any) -> Result:
    said = {"base_model": own.manifest(parent).model_id, "parent": parent, "baselines": "quick"} | more
    return shop.run(method or Shot(**FAST), None, target=target, **said)


def guarded(result: Result) -> GuardReport:
    assert result.report.judgement is not None
    assert result.report.judgement.guard is not None
    return result.report.judgement.guard


def asked(bundle: Path, rows: list[dict[str, float]]) -> Any:
    """What a model makes of rows, as a prediction has it: its own preparation, its graph."""
    prepare = preparer(own.manifest(bundle).prepare)
    feed = dict(zip(prepare.names, prepare.collate([prepare(row) for row in rows]), strict=True))
    session = onnxruntime.InferenceSession(members(bundle)["model.onnx"])
    return session.run(["probabilities"], {one.name: feed[one.name] for one in session.get_inputs()})[0]


def test_it_beats_the_model_as_it_was_and_leaves_its_classifier_alone(shop: Workshop, parent: Path) -> None:
    result = adapt(shop, parent, domain(shop))
    arms = {arm.name: arm for arm in result.report.arms}
    assert (arms["previous_model"].value or 0) < 0.85
    assert (arms["shot"].value or 0) > max(0.9, (arms["previous_model"].value or 0) + 0.08)
    assert {arm.state for name, arm in arms.items() if name not in {"shot", "previous_model"}} == {"skipped"}
    judgement, manifest = result.report.judgement, result.manifest
    assert judgement is not None
    assert manifest is not None
    assert (judgement.verdict, judgement.baseline, judgement.served) == ("improved", "previous_model", "shot")
    before = own.manifest(parent)
    old, new = (load(members(path)["model.safetensors"]) for path in (parent, made(result)))
    assert np.allclose(new["head.weight"], old["head.weight"] / before.temperature, rtol=1e-5)
    assert manifest.classes == before.classes == list(CLASSES)
    assert (manifest.target, manifest.prepare) == (before.target, before.prepare)
    assert [use.role for use in manifest.data] == ["target"]
    assert manifest.lineage == [before.model_id, *before.lineage]
    assert (manifest.train_items, manifest.validation_items, manifest.held_out_items) == (0, 0, 240)
    assert (manifest.method["source_epochs"], manifest.temperature) == (0, 1.0)
    assert result.report.shift is None
    assert any("No source data" in note for note in result.report.notes)


def test_what_is_asked_of_source_items_is_left_out_and_said_to_be(shop: Workshop, parent: Path) -> None:
    guard = guarded(adapt(shop, parent, domain(shop)))
    asked = {check.name for check in guard.checks}
    assert not asked & {rule.name for rule in RULES if rule.of_source}
    assert {"agreement_alone", "differs", "collapse", "lost_classes", "agreement", "neighbours", "class_means"} <= asked
    assert all(check.value is not None for check in guard.checks)
    assert "no source items" in guard.reasons[-1]


def test_labels_of_the_target_only_measure(shop: Workshop, parent: Path) -> None:
    truth = blobs(shift=1.5, seed=1)[1]
    shuffled = np.random.default_rng(5).permutation(truth).tolist()
    told = [adapt(shop, parent, domain(shop, labels=labels)) for labels in (truth, shuffled)]
    graphs = [members(made(result))["model.onnx"] for result in told]
    assert graphs[0] == graphs[1]
    assert told[0].report.metrics[0].value > told[1].report.metrics[0].value + 0.2


def test_without_labels_nothing_is_measured_and_the_model_is_served_all_the_same(shop: Workshop, parent: Path) -> None:
    result = adapt(shop, parent, domain(shop, labels="none"))
    report, manifest = result.report, result.manifest
    assert (report.evaluated_on, report.held_out_items, report.metrics, report.class_table) == ("nothing", 0, [], [])
    assert OF_NOTHING in report.notes
    assert all(arm.value is None for arm in report.arms)
    assert report.judgement is not None
    assert report.judgement.verdict == guarded(result).verdict == "improved"
    assert report.judgement.served == "shot"
    assert manifest is not None
    assert manifest.parity.items > 0, "the graph was tried on items of the target"
    assert "No labelled items" in members(made(result))["README.md"].decode()
    assert not shop.said("metric") or all("accuracy" not in said for said in shop.said("metric"))
    rows, labels = blobs(shift=1.5, seed=9)
    answers = asked(made(result), rows)
    assert (answers.argmax(axis=1) == labels).mean() > 0.9, "new rows of the new domain are answered"


def test_with_an_evaluation_that_is_what_is_measured_on(shop: Workshop, parent: Path) -> None:
    result = adapt(shop, parent, domain(shop, labels="none"), evaluation=domain(shop, seed=4))
    assert (result.report.evaluated_on, result.report.held_out_items) == ("evaluation_dataset", 240)
    assert result.report.metrics[0].value > 0.9
    with pytest.raises(JobError) as caught:
        adapt(shop, parent, domain(shop), evaluation=domain(shop, seed=4, classes=("a", "b", "new")))
    assert (caught.value.code, caught.value.param) == ("classes_differ", "evaluation")


def test_a_few_labels_settle_what_the_guard_cannot_know(shop: Workshop, parent: Path) -> None:
    """Far off most answers change, for better or worse: without source items no figure tells which."""
    far = domain(shop, shift=3)
    result = adapt(shop, parent, far)
    guard = guarded(result)
    failed = [check.name for check in guard.checks if not check.passed]
    assert (guard.verdict, guard.accepted, failed) == ("undetermined", False, ["agreement_alone"])
    assert any("target_labels: few" in reason for reason in guard.reasons)
    assert result.report.judgement is not None
    assert (result.report.judgement.verdict, result.report.judgement.served) == ("improved", "previous_model")
    settled = adapt(shop, parent, far, target_labels="few", evaluation=domain(shop, shift=3, seed=4))
    guard = guarded(settled)
    assert (guard.verdict, guard.accepted, guard.audit_items) == ("improved", True, 240)
    assert settled.report.judgement is not None
    assert settled.report.judgement.served == "shot"


def test_what_the_guard_refuses_leaves_the_model_as_it_was(shop: Workshop, parent: Path) -> None:
    """On its own domain there is nothing to gain: the very same probabilities come out."""
    same = domain(shop, shift=0, seed=3)
    result = adapt(shop, parent, same, Shot(epochs=1, head_lr=1e-7))
    guard = guarded(result)
    assert (guard.verdict, guard.accepted) == ("not_improved", False)
    assert result.report.judgement is not None
    assert result.report.judgement.served == "previous_model"
    rows, _ = blobs(shift=1, seed=8)
    assert np.allclose(asked(parent, rows), asked(made(result), rows), atol=1e-5)
    kept = adapt(shop, parent, same, Shot(epochs=1, head_lr=1e-7), guard="off")
    assert kept.report.judgement is not None
    assert (kept.report.judgement.served, kept.report.judgement.overridden) == ("shot", True)


def test_what_was_adapted_can_be_adapted_again_and_does_not_grow(shop: Workshop, parent: Path) -> None:
    first = made(adapt(shop, parent, domain(shop)))
    second = made(adapt(shop, first, domain(shop, shift=2.5, seed=6)))
    stages = [own.manifest(path).architecture.get("before", []) for path in (parent, first, second)]
    assert [len(some) for some in stages] == [0, 1, 1]
    older = [own.manifest(path).model_id for path in (first, parent)]
    assert own.manifest(second).lineage == [*older, "tabular_linear"]


def test_a_suspended_job_ends_like_an_unbroken_one(shop: Workshop, parent: Path) -> None:
    target = domain(shop)
    whole = made(adapt(shop, parent, target))
    asked = 0

    def wish() -> Wish:
        nonlocal asked
        asked += 1
        return "suspend" if asked > 60 else "go_on"

    with pytest.raises(SuspendedError):
        adapt(shop, parent, target, wish=wish)
    again = made(adapt(shop, parent, target, checkpoint=shop.saved()))
    assert any("Goes on after step" in said["text"] for said in shop.said("message"))
    assert members(whole)["model.onnx"] == members(again)["model.onnx"]


def test_a_stopped_job_keeps_the_best_so_far(shop: Workshop, parent: Path) -> None:
    asked = 0

    def wish() -> Wish:
        nonlocal asked
        asked += 1
        return "stop" if asked > 60 else "go_on"

    result = adapt(shop, parent, domain(shop), wish=wish)
    assert any("stopped on request" in note for note in result.report.notes)
    assert result.bundle is not None


def test_a_network_is_adapted_and_its_classifier_stays(shop: Workshop) -> None:
    source, target = shop.data(folder_zip({"cat": 16, "dog": 16})), shop.data(flat_zip(24))
    before = made(shop.run(LinearProbe(), source, base_model="conv4"))
    result = adapt(shop, before, target, Shot(freeze="none", epochs=1, batch_size=8, augmentation="none"), guard="off")
    assert result.manifest is not None
    assert result.manifest.parity.max_abs_difference <= result.manifest.parity.tolerance
    old, new = (load(members(path)["model.safetensors"]) for path in (before, made(result)))
    assert not np.array_equal(old["backbone.blocks.0.0.weight"], new["backbone.blocks.0.0.weight"])
    scaled = old["head.weight"] / own.manifest(before).temperature
    assert np.allclose(new["head.weight"], scaled, rtol=1e-5)


def test_a_table_is_read_as_the_model_reads_it(shop: Workshop) -> None:
    """A column that the target lacks is missing in every row, one that the model does not know is nothing to it."""
    source = domain(shop, shift=0, seed=0)
    before = made(shop.run(LinearProbe(), source, base_model="tabular_mlp"))
    rows, truth = blobs(shift=1.5, seed=1)
    other = [{name: value for name, value in row.items() if name != "x5"} | {"new": 1.0} for row in rows]
    kinds = [column for column in KINDS if column.name != "x5"] + columns(new="number")
    target = table(shop.root, other, truth, kinds, classes=CLASSES)
    result = adapt(shop, before, target, Shot(freeze="none", epochs=2), guard="off")
    assert result.manifest is not None
    assert result.manifest.prepare == own.manifest(before).prepare
    assert result.manifest.parity.max_abs_difference <= result.manifest.parity.tolerance
    assert asked(made(result), other).shape == (240, 3)
    old, new = (load(members(path)["model.safetensors"]) for path in (before, made(result)))
    assert any(name.startswith("backbone.") and not np.array_equal(old[name], new[name]) for name in old)


@pytest.mark.parametrize(
    ("method", "code", "param"),
    [(Coral(), "source_required", "source"), (DomainShift(), "source_required", "source")],
    ids=lambda given: getattr(given, "name", given),
)
def test_other_methods_need_a_source(method: Any, code: str, param: str, shop: Workshop, parent: Path) -> None:
    with pytest.raises(JobError) as caught:
        adapt(shop, parent, domain(shop), method)
    assert (caught.value.code, caught.value.param) == (code, param)
    assert "`shot`" in (caught.value.hint or "")


def test_what_knows_no_classes_is_refused(shop: Workshop) -> None:
    rows, _ = blobs(shift=0)
    values = [row["x0"] + row["x1"] for row in rows]
    source = table(shop.root, rows, values, KINDS, problem="regression")
    regression = made(shop.run(LinearProbe(), source, base_model="tabular_linear"))
    refused: list[Callable[[], Result]] = [
        lambda: adapt(shop, regression, domain(shop)),
        lambda: shop.run(Shot(), None, target=domain(shop), base_model="tabular_linear"),
        lambda: shop.run(Shot(), None, base_model="mdl_" + "0" * 26, parent=regression),
    ]
    for run, code, param in zip(
        refused,
        ("classifier_required", "own_model_required", "target_required"),
        ("base_model", "base_model", "target"),
        strict=True,
    ):
        with pytest.raises(JobError) as caught:
            run()
        assert (caught.value.code, caught.value.param) == (code, param)
        assert caught.value.hint


def heads() -> list[Head]:
    """Of all kinds that a model may have."""
    rng = np.random.default_rng(2)

    def some(*shape: int) -> Any:
        return rng.normal(size=shape).astype(np.float32)

    scale = np.abs(some(8)) + 0.1
    return [
        Head(some(3, 8), some(3)),
        Head(some(3, 8), some(3), "l2"),
        Head(some(3, 8), some(3), "centred_l2", some(8)),
        Head(some(3, 8), some(3), "standardise", some(8), scale),
        Head(some(3, 5), some(3), before=(Affine(some(5, 8), some(5)), Relu())),
        Head(some(3, 5), some(3), before=(Unit(), Affine(some(5, 8), some(5)), Relu())),
    ]


@pytest.mark.parametrize("head", heads(), ids=lambda head: head.normalise + "+".join(s.kind for s in head.before))
def test_the_layer_starts_as_nothing_and_comes_out_as_what_it_does(head: Head) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(2, 3, size=(40, 8)).astype(np.float32)
    adapter = Adapter.of(head, x, rng)
    assert np.allclose(adapter.as_head()(x), head(x), rtol=1e-4, atol=1e-4)
    learning = [name for name, part in adapter.named_parameters() if part.requires_grad]
    assert learning == ["move.weight", "move.bias"]
    with torch.no_grad():
        adapter.move.weight.normal_(0, 0.2, generator=torch.Generator().manual_seed(1))
        adapter.move.bias.fill_(0.3)
        seen = adapter(torch.from_numpy(x))
    moved = adapter.as_head()
    assert not np.allclose(moved(x), head(x), atol=0.1)
    assert np.allclose(moved(x), seen.logits.numpy(), rtol=1e-3, atol=1e-3)
    joined = bool(head.before) and isinstance(head.before[0], Affine)
    assert len(moved.before) == len(head.before) + (not joined)
    assert np.array_equal(moved.weight, head.weight)
    assert np.array_equal(moved.bias, head.bias)


def test_a_few_shot_model_can_be_adapted(shop: Workshop) -> None:
    """Its classifier compares with class means: no affine map, and none is needed."""
    source = domain(shop, shift=0, seed=0)
    before = made(shop.run(AdaptFewShot(how="class_means"), source, base_model="tabular_linear"))
    assert own.manifest(before).few_shot is not None
    arms = {arm.name: arm.value or 0 for arm in adapt(shop, before, domain(shop)).report.arms}
    assert arms["shot"] > max(0.9, arms["previous_model"] + 0.1)
