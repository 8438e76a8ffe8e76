"""Memory that does not suffice: fewer items at a time, the same training; and data that never come."""

import gc
import threading
import time
import weakref

import numpy as np
import pytest
import torch

from core.contract.errors import JobError
from core.contract.methods import FineTune
from tests.builders import folder_zip
from tests.engine.jobs import Workshop
from tests.engine.test_loop import Linear, run
from worker.engine import images
from worker.engine.door import CancelledError, SuspendedError
from worker.engine.loading import in_order, workers
from worker.engine.loop import _Run
from worker.engine.memory import AtATime, is_out_of_memory
from worker.engine.methods import fine_tune
from worker.engine.methods.supervised import NetworkTraining
from worker.engine.methods.validated import answers

FAST = {"epochs": 1, "batch_size": 16, "augmentation": "none", "early_stop": None, "head_start": False}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return Workshop(tmp_path_factory.mktemp("memory"))


@pytest.fixture(scope="module")
def source(shop):
    return shop.data(folder_zip({"cat": 24, "dog": 24}, size=(40, 36)))


def cramp(monkeypatch, fits):
    """A machine on which steps with more than so many items do not fit; returns the sizes that were tried."""
    plain, tried = NetworkTraining.loss, []

    def loss(self, batch):
        tried.append(len(batch.labels))
        if len(batch.labels) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return plain(self, batch)

    monkeypatch.setattr(NetworkTraining, "loss", loss)
    return tried


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4 bytes."),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_says_that_memory_is_out_halves_for_good(error):
    tried = []

    def work(size):
        tried.append(size)
        if size > 4:
            raise error
        return size

    sizes = AtATime(torch.device("cpu"))
    assert [sizes.attempt(16, work), sizes.attempt(16, work), sizes.attempt(3, work)] == [4, 4, 3]
    assert tried == [16, 8, 4, 4, 3]


def test_a_job_goes_on_with_fewer_images_at_a_time(shop, source, monkeypatch):
    tried = cramp(monkeypatch, 6)
    shop.run(FineTune(**FAST), source)
    assert [data["text"] for data in shop.said("message")] == [
        f"Out of memory with {tried[0]} images at a time: goes on with {tried[0] // 2}, gradients added up.",
        f"Out of memory with {tried[0] // 2} images at a time: goes on with {tried[0] // 4}, gradients added up.",
    ]
    assert max(tried[2:]) <= 6


def test_the_size_is_remembered_in_the_checkpoint(shop, source, monkeypatch):
    cramp(monkeypatch, 6)
    steps = []
    descend = _Run._descend
    monkeypatch.setattr(_Run, "_descend", lambda run, batch: (descend(run, batch), steps.append(1))[0])
    with pytest.raises(SuspendedError):
        shop.run(FineTune(**FAST), source, wish=lambda: "suspend" if steps else "go_on")
    assert len(shop.said("message")) == 2
    shop.run(FineTune(**FAST), source, checkpoint=shop.saved())
    assert not [data for data in shop.said("message") if "Out of memory" in data["text"]]


def test_batch_norms_in_training_are_named(shop, source, monkeypatch):
    cramp(monkeypatch, 8)
    shop.run(FineTune(**FAST | {"batch_norm": "train"}), source)
    assert "Batch norms now take their statistics over" in shop.said("message")[0]["text"]


def test_one_image_that_does_not_fit_ends_the_job_with_what_was_measured(shop, source, monkeypatch):
    cramp(monkeypatch, 0)
    with pytest.raises(JobError) as caught:
        shop.run(FineTune(**FAST), source)
    error = caught.value
    assert error.code == "out_of_memory"
    assert error.details["batch_size"] > 8
    assert error.details["at_a_time"] == 1
    assert error.details["peak_bytes"] > 10**8, "of a process with torch"
    assert "freeze" in (error.hint or "")
    assert error.__context__ is None, "the error that keeps the step's tensors alive is gone"


def test_validation_halves_likewise(shop, source, monkeypatch):
    plain = images.to_inputs

    def to_inputs(pixels, config):
        if len(pixels) > 1 and torch.is_inference_mode_enabled():
            raise torch.OutOfMemoryError
        return plain(pixels, config)

    whole = shop.run(FineTune(**FAST), source)
    monkeypatch.setattr(images, "to_inputs", to_inputs)
    result = shop.run(FineTune(**FAST), source)
    assert any("at a time in validation: goes on with 1." in data["text"] for data in shop.said("message"))
    for found, expected in zip(result.report.curve, whole.report.curve, strict=True):
        assert found.validation_loss == pytest.approx(expected.validation_loss, rel=1e-3)


def test_added_gradients_equal_those_of_the_whole_batch(monkeypatch):
    rng = np.random.default_rng(0)
    data = rng.normal(size=(60, 4)).astype(np.float32), np.arange(60) % 2
    found = []
    for fits in (100, 4):
        method = Linear()
        plain = method.loss

        def loss(batch, plain=plain, fits=fits):
            if len(batch.labels) > fits:
                raise torch.OutOfMemoryError
            return plain(batch)

        method.loss = loss
        outcome = run(method, data, epochs=3)
        found.append((method.module.weight.detach().numpy(), [point.train_loss for point in outcome.curve]))
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[1][1], found[0][1], rtol=1e-6)


def test_nothing_of_a_failed_attempt_is_alive_in_the_next():
    held, alive = [], []

    def work(size):
        gc.collect()
        alive.append([reference() for reference in held])
        tensor = torch.zeros(size)
        held.append(weakref.ref(tensor))
        if size > 2:
            raise torch.OutOfMemoryError
        return size

    assert AtATime(torch.device("cpu")).attempt(8, work) == 2
    assert alive == [[], [None], [None, None]]


def test_other_errors_pass():
    assert not is_out_of_memory(RuntimeError("shapes do not match"))

    def work(_size):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        AtATime(torch.device("cpu")).attempt(8, work)


def test_gradients_that_are_no_numbers_end_the_job_before_a_step():
    class Steep(Linear):
        def loss(self, batch):
            # The loss is finite, its gradient is not: sqrt has no slope at zero.
            return {"steep": torch.sqrt((self.module(*batch.inputs) * 0).sum())}

    method = Steep()
    before = method.module.weight.detach().clone()
    with pytest.raises(JobError) as caught:
        run(method, (np.ones((64, 4), dtype=np.float32), np.arange(64) % 2))
    assert caught.value.code == "non_finite_loss"
    assert "gradients" in caught.value.message
    assert torch.equal(method.module.weight, before)


def test_the_hint_names_the_rates():
    method, options = Linear(), FineTune(head_lr=7.5, backbone_lr=0.25, warmup=0.05)
    features = np.full((2, 4), 3e38, dtype=np.float32)
    with pytest.raises(JobError) as caught:
        answers(method, features, fine_tune._remedy(options))
    for value in ("(it was 7.5)", "(0.25)", "(0.05 of the steps)"):
        assert value in (caught.value.hint or "")


def test_data_that_never_come_end_the_job_and_hold_nobody_up():
    never = threading.Event()
    begun = time.monotonic()
    try:
        with pytest.raises(JobError) as caught, workers(2, "stuck") as pool:
            list(in_order(pool, lambda _part: never.wait(), [1, 2, 3], ahead=2, limit=0.3))
        assert time.monotonic() - begun < 60
    finally:
        never.set()
    assert caught.value.code == "data_stalled"
    assert "0.3 s" in caught.value.message
    assert "storage" in (caught.value.hint or "")


def test_a_wish_is_heard_while_data_do_not_come():
    never = threading.Event()

    def check():
        raise CancelledError

    try:
        with pytest.raises(CancelledError), workers(1, "stuck") as pool:
            list(in_order(pool, lambda _part: never.wait(), [1], ahead=1, check=check))
    finally:
        never.set()


def test_results_come_in_order_and_errors_at_their_place():
    def work(part):
        time.sleep(0.01 * (3 - part))
        if part == 2:
            raise TimeoutError("the disk's own")
        return part

    found = []
    with pytest.raises(TimeoutError, match="own"), workers(3, "work") as pool:
        found.extend(in_order(pool, work, range(3), ahead=3))
    with workers(3, "work") as pool:
        assert list(in_order(pool, work, [0, 1], ahead=1)) == [0, 1]
