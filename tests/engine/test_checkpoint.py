"""Checkpoint files: whole, checked against the network by every name, shape and type, never believed beyond that."""

import errno
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from core.contract.methods import FineTune
from tests.builders import folder_zip
from tests.engine.jobs import Workshop
from tests.engine.test_loop import Linear
from worker.engine import checkpoint
from worker.engine.checkpoint import Checkpoints, UnusableError, read
from worker.engine.door import SuspendedError
from worker.engine.feeds import feature_feed
from worker.engine.loop import Plan, Validation, train
from worker.engine.steps import Wishes

BELONGS = {"method": {"name": "fine_tune"}, "seed": 0}


class Place:
    """A small training that saves into a folder."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.events = []

    def said(self, kind):
        return [data for name, data in self.events if name == kind]

    def train(self, *, resume=None, every=float("inf"), belongs=BELONGS, until=None, method=None, rule=None, epochs=3):
        """Returns the weights; suspended after `until` steps."""
        self.events.clear()
        rng = np.random.default_rng(1)
        labels = np.arange(64) % 2
        features = (rng.normal(size=(64, 4)) + 2 * labels[:, None]).astype(np.float32)
        method = method or Linear()
        feed = feature_feed(features, labels, batch_size=16, seed=0, device=torch.device("cpu"))
        wishes = Wishes(lambda: "suspend" if until is not None and method.steps >= until else "go_on")
        self.checkpoints = Checkpoints(
            self.out, lambda kind, data: self.events.append((kind, data)), belongs, every=every, resume=resume
        )
        rule = (rule or (lambda parts: torch.optim.AdamW(parts, lr=0.05)))(method.module.parameters())
        plan = Plan(epochs=epochs, steps_per_epoch=4, warmup=0.1, patience=None)
        train(
            method,
            feed,
            rule,
            plan,
            device=torch.device("cpu"),
            validate=lambda: Validation(1 / (1 + method.steps), 0.5),
            wishes=wishes,
            checkpoints=self.checkpoints,
        )
        return method.module.weight.detach().clone()


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path / "out")


@pytest.fixture
def saved(place):
    """A checkpoint after six steps."""
    with pytest.raises(SuspendedError):
        place.train(until=6)
    return place.out / place.said("checkpoint")[0]["file"]


def rewritten(path, *, change=None, tensors=None, sum_again=True):
    """The same file with another header or other tensors, its checksum made to fit."""
    with safe_open(path, framework="pt") as file:
        facts, parts = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    values = json.loads(facts["graft"])
    if change:
        change(values)
    if tensors:
        tensors(parts)
    text = json.dumps(values)
    known = checkpoint.checksum(parts, text) if sum_again else facts["crc32"]
    save_file(parts, path, {"graft": text, "crc32": known})
    return path


def refused(place, path, **options):
    """That file is said to be of no use, and the training is that of a fresh start; returns what is said."""
    fresh = place.train(**options)
    assert torch.equal(place.train(resume=path, **options), fresh)
    (text,) = [data["text"] for data in place.said("message")]
    assert text.endswith("training starts from the beginning.")
    return text


def test_the_file_is_what_is_said(place, saved):
    (facts,) = place.said("checkpoint")
    data = saved.read_bytes()
    assert facts == {
        "file": "checkpoint-6.safetensors",
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "epoch": 1.5,
        "step": 6,
    }
    assert [path.name for path in place.out.iterdir()] == ["checkpoint-6.safetensors"], "nothing unfinished is left"


def test_everything_comes_back(place, saved):
    header, tensors = read(saved)
    assert header.at.step == 6
    assert header.at.done == 2
    assert [point.x for point in header.at.curve] == [0, 1]
    assert {name.partition(".")[0] for name in tensors} == {"model", "best", "optimiser", "rng"}
    assert torch.equal(place.train(resume=saved), place.train())


@pytest.mark.parametrize("dtype", list(checkpoint._DTYPES))
def test_every_type_and_layout_survives(tmp_path, saved, dtype):
    header, _ = read(saved)
    values = torch.arange(24).remainder(2).reshape(1, 2, 3, 4).to(dtype)
    tensors = {"a": values.contiguous(memory_format=torch.channels_last), "b": values[0, 0, 0, 0], "c": values[:, :0]}
    checkpoint.publish(tmp_path / "file", tensors, header)
    _, found = read(tmp_path / "file")
    for name, tensor in tensors.items():
        assert found[name].dtype == dtype
        assert torch.equal(found[name], tensor)


def test_damage_anywhere_is_seen(saved):
    data = saved.read_bytes()
    rng = np.random.default_rng(0)
    for position in [0, 9, 40, *map(int, rng.integers(0, len(data), 60)), len(data) - 1]:
        broken = bytearray(data)
        broken[position] ^= 1 << int(rng.integers(8))
        saved.write_bytes(broken)
        try:
            read(saved)
        except UnusableError:
            continue
        assert data[position : position + 1] in b" \n", f"byte {position}"  # padding says nothing
    for length in (0, 7, 100, len(data) - 1):
        saved.write_bytes(data[:length])
        with pytest.raises(UnusableError):
            read(saved)


def test_a_damaged_or_missing_file_means_a_fresh_start(place, saved):
    assert "is damaged" in refused(place, saved.with_name("none"))
    saved.write_bytes(saved.read_bytes()[:-5])
    assert "is damaged" in refused(place, saved)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("format", 2, "another version"),
        ("at", {"epoch": 2, "done": 2, "step": 7}, "another course"),
        ("at", {"epoch": 9, "done": 2, "step": 34}, "another course"),
        ("at", {"epoch": 2, "done": -1, "step": 3}, "is damaged"),
        ("at", {"epoch": 2, "done": 2, "step": 6, "loss": float("nan")}, "is damaged"),
        ("at", [], "is damaged"),
        ("groups", [], "another course"),
        ("best_loss", None, "another course"),
        ("surprise", 1, "is damaged"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(place, saved, name, value, said):
    assert said in refused(place, rewritten(saved, change=lambda values: values.update({name: value})))


@pytest.mark.parametrize(
    "change",
    [
        lambda parts: parts.pop("model.weight"),
        lambda parts: parts.pop("best.bias"),
        lambda parts: parts.pop("optimiser.0.step"),
        lambda parts: parts.pop("rng.cpu"),
        lambda parts: parts.update({"model.more": torch.zeros(1)}),
        lambda parts: parts.update({"optimiser.7.step": torch.zeros(())}),
        lambda parts: parts.update({"model.weight": torch.zeros(4, 2)}),
        lambda parts: parts.update({"model.weight": torch.zeros(2, 4, dtype=torch.float64)}),
        lambda parts: parts.update({"optimiser.1.exp_avg": torch.zeros(3)}),
        lambda parts: parts.update({"rng.cpu": torch.full_like(parts["rng.cpu"], 255)}),
    ],
    ids=range(10),
)
def test_tensors_that_do_not_fit_are_refused(place, saved, change):
    refused(place, rewritten(saved, tensors=change))


def test_a_checksum_of_other_content_is_damage(place, saved):
    path = rewritten(saved, tensors=lambda parts: parts["model.weight"].add_(1), sum_again=False)
    assert "is damaged" in refused(place, path)


def test_what_belongs_to_other_things_is_refused_by_name(place, saved):
    assert "(seed)" in refused(place, saved, belongs=BELONGS | {"seed": 1})
    assert "(versions)" in refused(place, saved, belongs=BELONGS | {"versions": {"torch": "9"}})


def test_another_optimiser_is_refused(place, saved):
    refused(place, saved, rule=lambda parts: torch.optim.SGD(parts, lr=0.05, momentum=0.9, nesterov=True))


def test_it_saves_no_more_often_than_is_wanted_nor_than_is_cheap(place, monkeypatch):
    monkeypatch.setattr(checkpoint, "RARELY", 0.0)
    place.train(every=0)
    assert [data["step"] for data in place.said("checkpoint")] == list(range(1, 12))
    assert [data["epoch"] for data in place.said("checkpoint")][2:5] == [0.75, 1.0, 1.25]
    place.train(every=3600)
    assert not place.said("checkpoint")
    monkeypatch.setattr(checkpoint, "RARELY", 1e9)
    place.train(every=0)
    assert [data["step"] for data in place.said("checkpoint")] == [1], "the first one tells what it costs"


def test_a_full_disk_is_said_and_training_goes_on(place, saved, monkeypatch):
    expected, before = place.train(), saved.read_bytes()

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "RARELY", 0.0)
    monkeypatch.setattr(checkpoint.os, "fsync", full)
    assert torch.equal(place.train(resume=saved, every=0), expected)
    assert not place.said("checkpoint")
    assert "No space left on device" in place.said("message")[1]["text"]
    assert [path.name for path in place.out.iterdir()] == [saved.name]
    assert saved.read_bytes() == before
    with pytest.raises(SuspendedError):
        place.train(until=3)


def test_nothing_is_saved_before_anything_happened_nor_twice(place, saved):
    with pytest.raises(SuspendedError):
        place.train(resume=saved, until=0)
    assert not place.said("checkpoint")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return Workshop(tmp_path_factory.mktemp("checkpoint"))


def test_a_jobs_checkpoint_belongs_to_its_data_options_and_seed(shop):
    source, other = (shop.data(folder_zip({"cat": 24, "dog": 24}, seed=seed)) for seed in (0, 1))
    again = shop.data(folder_zip({"cat": 24, "dog": 24}, seed=0))
    method = FineTune(epochs=2, freeze="all", augmentation="none", head_start=False, batch_size=8)

    def wish():
        trained = [data for data in shop.said("metric") if data.get("epoch", 0) >= 1]
        return "suspend" if trained else "go_on"

    with pytest.raises(SuspendedError):
        shop.run(method, source, wish=wish)
    path = shop.saved()
    for changed, data, seed, said in [
        (method, other, 0, "(source)"),
        (method, source, 1, "(seed)"),
        (method.model_copy(update={"head_lr": 0.5}), source, 0, "(method)"),
    ]:
        shop.run(changed, data, seed=seed, checkpoint=path)
        assert said in shop.said("message")[0]["text"]
    shop.run(method, again, checkpoint=path)
    assert "Goes on" in shop.said("message")[0]["text"], "the same data under another id"
