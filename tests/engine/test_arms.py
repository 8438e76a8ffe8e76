"""The arms of a job: each baseline against an independent computation, and whole jobs with their verdicts."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.neighbors import NearestCentroid

from core.contract.methods import FineTune, LinearProbe
from tests.builders import folder_zip
from tests.engine.jobs import Workshop
from worker.engine import arms, lineage
from worker.engine.data import Collection, Items, JobData
from worker.engine.door import DataRef
from worker.engine.heads import Head

FAST = {"epochs": 1, "batch_size": 16, "augmentation": "none"}


class Frozen:
    """Features by index, as `FrozenFeatures` gives them."""

    def __init__(self, features):
        self.features = features.astype(np.float32)
        self.base = self
        self.identity = self
        self.card = self
        self.width = features.shape[1]

    def __call__(self, items):
        return self.features[items.indices]


def job_data(labels, trained, problem="classification", classes=3):
    items = Items(Collection(None, "source", None, None), np.arange(len(labels)), labels)

    def part(rows):
        return Items(items.collection, items.indices[rows], labels[rows])

    everything = slice(0, trained), slice(0, 0), slice(trained, None)
    names = [f"class {number}" for number in range(classes)] if problem != "regression" else []
    return JobData(names, *(part(rows) for rows in everything), [items.collection], problem)


@pytest.fixture(scope="module")
def blobs():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 90)
    features = 4 + rng.normal(size=(90, 8)) + 2 * np.eye(3, 8)[labels]
    return features, labels


def _normalised(features, centre):
    z = features - centre
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def test_the_nearest_class_mean_is_that_of_scikit_learn(blobs):
    features, labels = blobs
    run = arms.class_means(job_data(labels, 60), Frozen(features))
    centre = features[:60].mean(axis=0)
    expected = NearestCentroid().fit(_normalised(features[:60], centre), labels[:60])
    np.testing.assert_array_equal(run.held_out.argmax(1), expected.predict(_normalised(features[60:], centre)))


def test_out_of_fold_an_item_is_taken_out_of_its_own_mean(blobs):
    features, labels = blobs
    run = arms.class_means(job_data(labels, 60), Frozen(features))
    z = _normalised(features[:60], features[:60].mean(axis=0))
    for item in range(0, 60, 7):
        kept = np.arange(60) != item
        expected = NearestCentroid().fit(z[kept], labels[:60][kept]).predict(z[item : item + 1])[0]
        assert run.choosing[item].argmax() == expected


def test_a_class_of_one_item_is_never_right_out_of_fold():
    rng = np.random.default_rng(1)
    labels = np.array([0] * 10 + [1] * 10 + [2] + [0, 1, 2])
    run = arms.class_means(job_data(labels, 21), Frozen(rng.normal(size=(24, 5))))
    assert run.choosing[20].argmax() != 2
    assert np.isfinite(run.choosing).all()


def test_the_constant_answer(blobs):
    features, _ = blobs
    labels = np.array([1] * 40 + [0] * 20 + [2] * 30)
    run = arms.constant(job_data(labels, 60), Frozen(features))
    assert run.name == "majority"
    assert set(run.held_out.argmax(1)) == {1}
    values = np.linspace(-1, 3, 90, dtype=np.float32)[:, None]
    run = arms.constant(job_data(values, 60, "regression"), Frozen(features))
    assert run.name == "mean"
    np.testing.assert_allclose(run.held_out, values[:60].mean(), rtol=1e-5)
    many = np.zeros((90, 3), dtype=np.float32)
    many[:, 1] = 1
    many[:10, 0] = 1
    run = arms.constant(job_data(many, 60, "multi_label"), Frozen(features))
    assert [bool(x) for x in run.held_out[0] > 0] == [False, True, False]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return Workshop(tmp_path_factory.mktemp("arms"))


@pytest.fixture(scope="module")
def source(shop) -> DataRef:
    return shop.data(folder_zip({"cat": 30, "dog": 30, "owl": 30}, size=(40, 48), format="JPEG"))


def by_name(result):
    return {arm.name: arm for arm in result.report.arms}


def test_a_probe_is_compared_with_what_is_simpler_than_it(shop, source):
    result = shop.run(LinearProbe(), source, baselines="quick")
    found = by_name(result)
    assert list(found) == ["linear_probe", "nearest_class_mean", "from_scratch", "majority"]
    assert found["from_scratch"].state == "skipped"
    assert "baselines: all" in found["from_scratch"].note
    measured = [arm for arm in found.values() if arm.state == "measured"]
    assert all(arm.low <= arm.value <= arm.high and arm.validation is not None for arm in measured)
    assert [arm.name for arm in measured if arm.served] == [result.report.judgement.served]
    judgement = result.report.judgement
    assert judgement.difference == found[judgement.baseline].difference
    assert found["linear_probe"].difference is None
    assert judgement.items == result.report.held_out_items
    assert result.manifest.judgement == judgement
    assert judgement.sentence in result.report.model_dump_json()


def test_without_baselines_there_is_no_verdict(shop, source):
    result = shop.run(LinearProbe(), source)
    assert [arm.name for arm in result.report.arms] == ["linear_probe"]
    assert result.report.arms[0].served
    assert result.report.judgement is None


def test_what_does_harm_is_not_served_unless_the_guard_is_off(shop, source):
    spoilt = FineTune(**FAST | {"freeze": "all", "head_start": False, "head_lr": 1e-6})  # it learns nothing
    guarded = shop.run(spoilt, source, baselines="quick")
    judgement = guarded.report.judgement
    assert judgement.verdict == "harmful"
    assert judgement.served == judgement.baseline != "fine_tune"
    assert not judgement.overridden
    served = by_name(guarded)[judgement.served]
    assert served.served
    assert guarded.report.metrics[0].value == pytest.approx(served.value)
    off = shop.run(spoilt, source, baselines="quick", guard="off")
    assert off.report.judgement.verdict == "harmful"
    assert (off.report.judgement.served, off.report.judgement.overridden) == ("fine_tune", True)
    assert "guard was off" in off.report.judgement.sentence


def test_from_scratch_runs_where_it_is_asked_for_and_leaves_no_trace_in_the_curve(shop, source):
    result = shop.run(FineTune(**FAST), source, baselines="all")
    found = by_name(result)["from_scratch"]
    assert (found.state, found.role) == ("measured", "baseline")
    assert found.seconds > 0
    assert found.options.get("init", "scratch") == "scratch"
    assert [point.x for point in result.report.curve] == [0, 1]
    assert by_name(result)["linear_probe"].state == "measured"


def test_a_network_from_random_weights_is_compared_with_the_pretrained_one(shop, source):
    result = shop.run(FineTune(**FAST | {"init": "scratch"}), source, baselines="quick")
    found = by_name(result)
    assert found["linear_probe"].value > found["fine_tune"].value
    assert result.report.judgement.verdict == "harmful"
    assert result.report.judgement.served in {"linear_probe", "nearest_class_mean"}
    assert result.manifest.held_out_items == result.report.held_out_items


def test_a_parent_is_measured_as_it_is_and_what_it_forgets_is_told(shop, source):
    other = shop.data(folder_zip({"cat": 20, "dog": 20, "owl": 20}, size=(40, 48), format="JPEG", seed=7))
    parent = shop.run(LinearProbe(), source)
    options = {"base_model": parent.manifest.model_id, "parent": parent.bundle, "former": source}
    child = shop.run(FineTune(**FAST | {"backbone_lr": 0.01}), other, baselines="quick", guard="off", **options)
    found = by_name(child)["previous_model"]
    assert found.state == "measured"
    assert found.value == pytest.approx(1.0, abs=0.2)
    forgetting = child.report.judgement.forgetting
    assert (forgetting.dataset_id, forgetting.items) == (source.id, parent.report.held_out_items)
    assert forgetting.before == pytest.approx(parent.report.metrics[0].value)
    assert forgetting.after <= 1.0
    again = shop.run(LinearProbe(), source, baselines="quick", **options)
    assert by_name(again)["previous_model"].validation is None  # it has learnt from these very items
    assert "learnt from this data set" in by_name(again)["previous_model"].note


def test_a_parents_head_takes_the_order_of_the_jobs_classes():
    rng = np.random.default_rng(0)
    head = Head(rng.normal(size=(3, 4)).astype(np.float32), rng.normal(size=3).astype(np.float32))
    found = SimpleNamespace(classes=["class 2", "class 0", "class 1"])
    aligned = lineage._aligned(head, found, job_data(np.zeros(4, dtype=np.int64), 2))
    features = rng.normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_array_equal(aligned(features), head(features)[:, [1, 2, 0]])


def test_a_parent_with_other_classes_is_skipped(shop, source):
    parent = shop.run(LinearProbe(), source)
    other = shop.data(folder_zip({"cat": 20, "emu": 20}, size=(40, 48), format="JPEG", seed=7))
    child = shop.run(
        LinearProbe(),
        other,
        baselines="quick",
        base_model=parent.manifest.model_id,
        parent=parent.bundle,
        former=source,
    )
    assert by_name(child)["previous_model"].state == "skipped"
    assert "other classes" in by_name(child)["previous_model"].note
    assert child.report.judgement.forgetting is None  # a frozen network has not moved


def test_the_constant_tags_are_those_with_the_highest_f1():
    rng = np.random.default_rng(0)
    for share in (np.full(10, 0.19), np.array([0.5, 0.25, 0.25, 0.02]), np.array([0.9, 0.05])):
        truth = rng.random((20_000, len(share))) < share
        chosen = arms._best_tags(share) > 0
        f1 = {
            kept: 2 * truth[:, order].sum() / (kept * len(truth) + truth.sum())
            for kept in range(1, len(share) + 1)
            for order in [np.argsort(-share, kind="stable")[:kept]]
        }
        assert f1[int(chosen.sum())] >= max(f1.values()) - 0.01
