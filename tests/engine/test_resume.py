"""A broken training goes on and ends as if it had never been broken: the same bytes, curve and figures."""

import zipfile
from dataclasses import dataclass
from typing import Any

import pytest
from safetensors.numpy import load_file
from torch import nn

from core.contract.methods import FineTune, LinearProbe
from core.modality.reader import DatasetReader
from tests.builders import folder_zip
from tests.engine.jobs import Workshop
from worker.engine import features, shards
from worker.engine.door import SuspendedError
from worker.engine.loop import _Run
from worker.engine.methods.supervised import NetworkTraining

# Batch norms and dropout in training, pictures augmented, weights that validation chooses among.
NETWORK = FineTune(
    epochs=3,
    batch_size=8,
    augmentation="light",
    batch_norm="train",
    head_start=False,
    head_lr=0.01,
    backbone_lr=0.003,
    early_stop=None,
)
HEAD = FineTune(epochs=4, batch_size=8, augmentation="none", freeze="all", head_start=False, head_lr=0.01)
# A moving average that validation chooses among, mixtures drawn from torch's generator, a rate for each stage, stages
# that begin to learn later, a pull to the start.
RECIPES = FineTune(
    epochs=3,
    batch_size=8,
    augmentation="none",
    head_lr=0.01,
    backbone_lr=0.003,
    freeze="conv1",
    early_stop=None,
    ema=0.5,
    mixup=0.4,
    layer_decay=0.7,
    gradual_unfreezing=True,
    l2_sp=0.01,
    wise_ft="auto",
)
EPOCH = 4  # steps


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return Workshop(tmp_path_factory.mktemp("resume"))


@pytest.fixture(scope="module")
def source(shop):
    return shop.data(folder_zip({"cat": 24, "dog": 24}, size=(40, 36)))


@pytest.fixture(scope="module", autouse=True)
def dropout():
    """Draws from torch's own generator in every step, as networks with dropout do."""
    plain = NetworkTraining.loss

    def loss(self, batch):
        return plain(self, type(batch)((nn.functional.dropout(batch.inputs[0], 0.1),), batch.labels))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NetworkTraining, "loss", loss)
        yield


@dataclass
class Ended:
    """What a job came to."""

    tensors: bytes
    curve: list[Any]
    metrics: list[Any]
    notes: list[str]

    @classmethod
    def of(cls, result):
        with zipfile.ZipFile(result.bundle) as archive:
            data = archive.read("model.safetensors")
        header = 8 + int.from_bytes(data[:8], "little")  # names the model, which is another one each time
        report = result.report
        return cls(data[header:], report.curve, report.metrics, report.notes)


@pytest.fixture(scope="module")
def unbroken(shop, source):
    return {method.freeze: Ended.of(shop.run(method, source)) for method in (NETWORK, HEAD, RECIPES)}


@pytest.fixture
def steps(monkeypatch):
    """Numbers of the steps that were done, over all attempts."""
    done = []
    descend = _Run._descend

    def counted(run, batch):
        loss = descend(run, batch)
        done.append(run.training.at.step)
        return loss

    monkeypatch.setattr(_Run, "_descend", counted)
    return done


def epochs_said(shop):
    return [data["epoch"] for data in shop.said("metric") if "epoch" in data]


@pytest.mark.parametrize(
    ("method", "breaks"),
    [
        (NETWORK, [1]),
        (NETWORK, [3, EPOCH, 2 * EPOCH - 1, 3 * EPOCH]),
        (RECIPES, [5]),
        (HEAD, [7]),
        (HEAD, [EPOCH, 2 * EPOCH]),
    ],
    ids=lambda value: value.freeze if isinstance(value, FineTune) else "-".join(map(str, value)),
)
def test_a_suspended_job_ends_like_an_unbroken_one(shop, source, unbroken, steps, method, breaks):
    """A wish after the last step of an epoch is heard in its validation, or before the next epoch's first step."""
    checkpoint, said = None, []
    for at in breaks:
        with pytest.raises(SuspendedError):
            shop.run(
                method,
                source,
                checkpoint=checkpoint,
                wish=lambda at=at: "suspend" if len(steps) >= at else "go_on",
            )
        facts = shop.said("checkpoint")[-1]
        assert facts["step"] == at == len(steps)
        assert facts["epoch"] == pytest.approx(at / EPOCH)
        checkpoint = shop.saved()
        assert checkpoint.stat().st_size == facts["bytes"]
        said += epochs_said(shop)
    result = shop.run(method, source, checkpoint=checkpoint)
    assert Ended.of(result) == unbroken[method.freeze]
    assert steps == list(range(1, method.epochs * EPOCH + 1)), "no step is done twice, and none is left out"
    assert said + epochs_said(shop) == [point.x for point in result.report.curve], "no point is said twice"
    assert any("Goes on after step" in data["text"] for data in shop.said("message"))


@pytest.mark.parametrize("method", [NETWORK, HEAD, RECIPES], ids=["network", "head", "recipes"])
def test_a_killed_job_goes_on_from_any_checkpoint(shop, source, unbroken, steps, monkeypatch, method):
    """Saved after every step: whichever of the files was the last before the kill, the end is the same."""
    monkeypatch.setattr("worker.engine.checkpoint.RARELY", 0.0)
    assert Ended.of(shop.run(method, source, checkpoint_seconds=0)) == unbroken[method.freeze], "saving changes nothing"
    facts, out = shop.said("checkpoint"), shop.out
    assert [fact["step"] for fact in facts] == list(range(1, method.epochs * EPOCH)), "the end leaves nothing to resume"
    assert len({fact["file"] for fact in facts}) == len(facts)
    for number in (0, EPOCH - 1, len(facts) - 1):
        steps.clear()
        result = shop.run(method, source, checkpoint=out / facts[number]["file"])
        assert Ended.of(result) == unbroken[method.freeze]
        assert steps[0] == facts[number]["step"] + 1


def test_early_stopping_remembers_the_best(shop, source, steps):
    method = HEAD.model_copy(update={"head_lr": 5.0, "epochs": 30, "early_stop": 2})
    whole = shop.run(method, source)
    ends = len(steps)
    assert ends < 30 * EPOCH
    steps.clear()
    with pytest.raises(SuspendedError):
        shop.run(method, source, wish=lambda: "suspend" if len(steps) >= ends - 1 else "go_on")
    assert Ended.of(shop.run(method, source, checkpoint=shop.saved())) == Ended.of(whole)
    assert len(steps) == ends


def test_progress_goes_on_where_it_was(shop, source, steps, monkeypatch):
    monkeypatch.setattr("worker.engine.steps._EVERY", 0.0)
    with pytest.raises(SuspendedError):
        shop.run(NETWORK, source, wish=lambda: "suspend" if len(steps) >= 6 else "go_on")
    before = [data for data in shop.said("progress") if data["step"] == "train"][-1]
    shop.run(NETWORK, source, checkpoint=shop.saved())
    after = next(data for data in shop.said("progress") if data["step"] == "train")
    assert before["fraction"] < after["fraction"] < before["fraction"] + 0.2
    assert after["epoch"] == 2
    assert after["eta_seconds"] > 0


def test_a_stop_after_a_resume_keeps_what_was_trained(shop, source, steps):
    with pytest.raises(SuspendedError):
        shop.run(HEAD, source, wish=lambda: "suspend" if len(steps) >= 7 else "go_on")
    result = shop.run(HEAD, source, checkpoint=shop.saved(), wish=lambda: "stop")
    assert len(steps) == 7
    assert result.report.curve[-1].x == 7 / EPOCH


def test_a_probe_runs_anew_and_gives_the_same(shop, source):
    asked = []

    def wish():
        asked.append(1)
        return "suspend" if len(asked) > 3 else "go_on"

    with pytest.raises(SuspendedError):
        shop.run(LinearProbe(), source, wish=wish)
    assert not shop.said("checkpoint")
    first, second = (Ended.of(shop.run(LinearProbe(), source)) for _ in range(2))
    assert first == second


class _Counting(DatasetReader):
    read_items: list[int] = []

    def item(self, index):
        self.read_items.append(index)
        return super().item(index)


@pytest.fixture
def reads(monkeypatch):
    _Counting.read_items = []
    monkeypatch.setattr("worker.engine.data.DatasetReader", _Counting)
    return _Counting.read_items


def test_embedding_goes_on_where_it_was(shop, source, reads, tmp_path, monkeypatch):
    """Suspended in the middle: what was embedded is not read again, and the features are the same to the bit."""
    monkeypatch.setattr(features, "PAUSE", 0.0)
    monkeypatch.setattr(shards, "SECONDS", 0.0)
    whole = shop.run(LinearProbe(), source, cache=tmp_path / "whole")
    cache = tmp_path / "parts"
    shop.run(LinearProbe(), shop.data(folder_zip({"a": 12, "b": 12}, seed=9)), cache=cache)  # exports the network
    reads.clear()
    with pytest.raises(SuspendedError):
        shop.run(LinearProbe(), source, cache=cache, wish=lambda: "suspend" if len(reads) >= 24 else "go_on")
    assert len(reads) < 48, "it ended at once"
    done = sum(len(load_file(path)["features"]) for path in cache.glob("parts/*/*/*"))
    assert done >= 8
    reads.clear()
    resumed = shop.run(LinearProbe(), source, cache=cache)
    checked = min(8, resumed.report.held_out_items)  # of the exported graph, on pictures
    assert len(reads) == 48 - done + checked, "those that were embedded are not read again"
    assert Ended.of(resumed) == Ended.of(whole)
    assert not list(cache.glob("parts/*/*/*")), "the parts are gone once the whole is stored"
