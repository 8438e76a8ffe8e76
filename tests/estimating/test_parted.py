"""Of work with a fixed part a small job tells little of what each item costs, and a narrow network little of a wide."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

import pytest

from core.catalogue import find
from core.contract.datasets import Modality, Problem
from core.contract.methods import FineTune, LinearProbe
from core.estimating import Device, Observation, Part, Profile, Rates, Spent, Work, assumed, estimate, observe
from core.estimating.observing import Epoch
from core.estimating.parted import Usual, apart
from core.estimating.seconds import solver
from worker.engine.methods.linear_probe import settled

AT = datetime(2026, 1, 1, tzinfo=UTC)
CPU = Device("cpu: x, 2 threads", "cpu", 2, 16 * 1024**3, 100 * 1024**3)
LBFGS = LinearProbe(solver="lbfgs")
HEAD = FineTune(
    epochs=1, batch_size=16, freeze="all", augmentation="none", early_stop=None, ema=None, lora_rank=None, mixup=0.0
)


def job(items: int, network: str = "efficientnet_lite0", *, method: Any = LBFGS, **values: Any) -> Work:
    """A job on so many training and validation items; each size is another data set."""
    card = find(network)
    given: dict[str, Any] = {
        "modality": card.modality,
        "problem": "classification",
        "network": network,
        "base": network,
        "train": items - items // 6,
        "validation": items // 6,
        "held_out": items // 5,
        "parts": (Part(f"{items}", items, cached=True),),
        "card": card,
        "graph_cached": True,
    }
    return Work(method=method, **(given | values))


def after(work: Work, **values: Any) -> list[Observation]:
    """What is learnt of a run of it."""
    given = {"device": CPU.name, "threads": 2, "network": work.network, "train": work.train}
    return observe(work, Spent.model_validate(given | {"validation": work.validation} | values))


def train(work: Work, *seen: list[Observation]) -> float:
    """Seconds of its training, after these."""
    rows: dict[tuple[str, str, str, str], Profile] = {}
    for one in (one for run in seen for one in run):
        key = (one.network, one.kind, one.variant, one.data)
        values = (*(rows[key].values if key in rows else ()), one.value)
        rows[key] = Profile(CPU.name, *key, values, "history", AT)
    return estimate(work, Rates(rows.values()), CPU, at=AT).parts["train"]


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.3, 5.0])
@pytest.mark.parametrize("growing", [0.0, 0.01, 0.1, 10.0])
def test_both_parts_make_up_the_whole_and_none_is_negative(seconds: float, growing: float) -> None:
    once, pace = apart(seconds, Usual(0.1, growing))
    assert once + pace * growing == pytest.approx(seconds)
    assert once >= 0
    assert pace >= 0


def test_what_a_large_job_takes_is_its_growing_part_and_what_a_small_one_takes_mostly_is_not() -> None:
    assert apart(22.0, Usual(0.1, 10.0))[1] == pytest.approx(2.2, rel=0.01)
    once, pace = apart(0.22, Usual(0.1, 0.001))
    assert once == pytest.approx(0.22, rel=0.02)
    assert pace < 1.7, "half of it is laid to the device, which is slow at everything then"
    assert apart(0.05, Usual(0.1, 0.01))[1] > 0.6, "nor does a quick start promise as much of a large job"


@pytest.mark.parametrize("network", ["efficientnet_lite0", "minilm_l6"])
def test_a_probe_that_ran_is_foretold_as_it_ran(network: str) -> None:
    work = job(300, network)
    for seconds in (0.01, 0.5, 9.0):
        assert train(work, after(work, steps={"train": seconds})) == pytest.approx(seconds, abs=1e-3)


def test_a_small_probe_does_not_make_a_large_one_dear() -> None:
    """0.13 s on 244 photos and 0.15 s on 1,582 texts of 384 features, as measured; per item that would be 0.84 s."""
    small, large = job(244, outputs=2), job(1582, "minilm_l6", outputs=2)
    assert train(large, after(small, steps={"train": 0.13})) == pytest.approx(0.15, rel=0.4)


def test_a_probe_of_a_narrow_network_tells_of_a_wide_one() -> None:
    """0.15 s on texts, and 1.3 s on as many digits of 1,280 features and 10 classes; per item it would be the same."""
    narrow, wide = job(1582, "minilm_l6", outputs=2), job(1528, outputs=10)
    assert train(wide, after(narrow, steps={"train": 0.15})) == pytest.approx(1.3, rel=0.4)


def test_a_slow_device_is_slow_with_all_data() -> None:
    large, larger = job(1000, outputs=10), job(3000, outputs=10)
    slow = after(large, steps={"train": 4 * train(large)})
    assert train(larger, slow) == pytest.approx(4 * train(larger), rel=0.05)


def test_the_probes_of_a_head_grow_and_what_goes_before_does_not() -> None:
    """A setup of 0.2 s on 126 photos: per item that would be 2.5 s on 1,582 texts, whose probes take a tenth of one."""
    first, second = job(126, method=HEAD, outputs=10), job(1582, "minilm_l6", method=HEAD, outputs=2)
    epochs = [Epoch(items=first.train, seconds=0.01, validation=0.001)]
    known = after(first, steps={"train": 0.21}, setup_seconds=0.2, epochs=epochs)
    steps = second.train * 0.01 / first.train
    assert 0.2 < train(second, known) - steps < 0.5


def test_rates_under_the_names_of_before_mislead_nobody() -> None:
    work = job(1500)
    names = (("fit", "lbfgs"), ("setup", "head"))
    stale = [Observation(kind, 1.0, variant, work.network, work.data) for kind, variant in names]
    assert train(work, stale) == train(work)
    head = replace(work, method=HEAD)
    assert train(head, stale) == train(head)


def test_the_first_job_of_a_base_model_begins_later_and_the_next_ones_do_not() -> None:
    work = replace(job(300), graph_cached=False)
    first = after(work, steps={"prepare": 2.0, "train": 0.1}, graph_seconds=3.0, store_seconds=0.1, seconds=2.5)
    found = [one for one in first if one.kind == "start"]
    assert {one.variant for one in found} == {"first"}
    rates = Rates(
        [Profile(CPU.name, one.network, one.kind, one.variant, one.data, (one.value,), "history", AT) for one in found]
    )
    assert estimate(work, rates, CPU, at=AT).parts["prepare"] == pytest.approx(2.3)
    assert estimate(job(300), rates, CPU, at=AT).parts["prepare"] < 1


@pytest.mark.parametrize("items", [100, 30_000])
@pytest.mark.parametrize("problem", ["classification", "regression"])
@pytest.mark.parametrize("modality", ["image", "text", "tabular"])
def test_what_solver_is_left_open_becomes_is_what_the_worker_takes(
    modality: Modality, problem: Problem, items: int
) -> None:
    work = job(items, modality=modality, problem=problem)
    assert solver(LinearProbe(), work) == settled(LinearProbe(), problem, modality, items).solver


@pytest.mark.parametrize("name", ["ridge", "lbfgs"])
def test_more_items_features_and_outputs_never_cost_less(name: Literal["ridge", "lbfgs"]) -> None:
    small = assumed.fit(job(200), name, 200).growing
    for bigger in (job(400), job(200, "resnet50"), job(200, outputs=20)):
        assert assumed.fit(bigger, name, bigger.train + bigger.validation).growing > small
