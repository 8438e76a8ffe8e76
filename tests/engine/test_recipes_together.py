"""Two processes train what one would have trained."""

import zipfile

import numpy as np
import pytest
from safetensors.numpy import load

from core.contract.methods import FineTune
from tests.builders import folder_zip
from tests.engine.jobs import Workshop
from worker.engine.door import SuspendedError

METHOD = FineTune(
    epochs=2,
    batch_size=7,
    head_start=False,
    head_lr=0.01,
    backbone_lr=0.001,
    augmentation="light",
    batch_norm="frozen",
    class_weights="balanced",
    l2_sp=0.01,
    ema=0.5,
    early_stop=None,
    optimiser="sgd",
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return Workshop(tmp_path_factory.mktemp("together"))


@pytest.fixture(scope="module")
def source(shop):
    return shop.data(folder_zip({"cat": 14, "dog": 10}, size=(40, 36)))


def tensors(result):
    with zipfile.ZipFile(result.bundle) as archive:
        return load(archive.read("model.safetensors"))


def run(shop, source, devices, **options):
    method = METHOD.model_copy(update={"devices": devices})
    return shop.run(method, source, baselines="none", **options)


@pytest.fixture(scope="module")
def alone(shop, source):
    return run(shop, source, 1)


def test_two_processes_train_what_one_does(shop, source, alone):
    found = run(shop, source, 2)
    assert any("in 2 processes" in data["text"] for data in shop.said("message"))
    assert found.manifest.method["devices"] == 2
    expected, got = tensors(alone), tensors(found)
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, atol=1e-5, rtol=0, err_msg=name)
    for ours, theirs in zip(found.report.curve, alone.report.curve, strict=True):
        assert ours.validation_loss == pytest.approx(theirs.validation_loss, abs=1e-4)


def test_a_suspended_team_goes_on_with_all_that_it_knew(shop, source, alone):
    def wish():
        done = [data for data in shop.said("metric") if data.get("epoch", 0) >= 1]
        return "suspend" if done else "go_on"

    with pytest.raises(SuspendedError):
        run(shop, source, 2, wish=wish)
    found = tensors(run(shop, source, 2, checkpoint=shop.saved()))
    assert any("Goes on" in data["text"] for data in shop.said("message"))
    for name, value in tensors(alone).items():
        np.testing.assert_allclose(found[name], value, atol=1e-5, rtol=0, err_msg=name)


def test_a_stop_is_heard_by_all(shop, source):
    steps = []

    def wish():
        steps.append(1)
        return "stop" if len([data for data in shop.said("metric") if "epoch" in data]) > 1 else "go_on"

    result = run(shop, source, 2, wish=wish)
    assert result.report.curve[-1].x <= 2
    assert result.bundle.is_file()
