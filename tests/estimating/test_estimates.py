"""The arithmetic of estimates: figures that were put in come out again, intervals cover, refusals name what fits."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from core.catalogue import cards, find
from core.contract.estimates import Estimate
from core.contract.methods import METHODS, AnyMethod, Auto, FineTune, LinearProbe, RankBaseModels
from core.contract.methods.episodic import MetaLearning
from core.estimating import Device, Part, Profile, Rates, Spent, Work, course_of, estimate, missed, observe
from core.estimating.intervals import bias, half_width
from core.estimating.observing import Epoch
from core.estimating.rates import Source
from core.estimating.refusal import does_not_fit, way_out

AT = datetime(2026, 1, 1, tzinfo=UTC)
GIB = 1024**3
CPU = Device("cpu: x, 2 threads", "cpu", 2, 16 * GIB, 100 * GIB)
TUNE = FineTune(epochs=4, batch_size=16, augmentation="standard", early_stop=None, ema=None, lora_rank=None)


def job(method: Any = TUNE, **values: Any) -> Work:
    """A job on 1,000 images."""
    given: dict[str, Any] = {
        "modality": "image",
        "problem": "classification",
        "network": "resnet18",
        "base": "resnet18",
        "train": 700,
        "validation": 150,
        "held_out": 150,
        "parts": (Part("d" * 64, 1000),),
        "card": find("resnet18"),
        "candidates": tuple(card for card in cards() if card.modality == "image"),
    }
    return Work(method=method, **(given | values))


def look(work: Work, rates: Rates | None = None, device: Device = CPU) -> Estimate:
    return estimate(work, rates or Rates(), device, at=AT)


def spent(**values: Any) -> Spent:
    """What the job above might have taken."""
    given: dict[str, Any] = {
        "device": CPU.name,
        "threads": 2,
        "network": "resnet18",
        "steps": {"prepare": 0.4, "features": 13.0, "train": 95.0, "compare": 6.0, "evaluate": 0.1, "export": 5.0},
        "start_bytes": GIB // 2,
        "peaks": {"features": GIB, "train": 3 * GIB, "compare": 2 * GIB, "export": 2 * GIB},
        "graph_seconds": 3.0,
        "embed_seconds": 10.0,
        "embed_items": 1000,
        "setup_seconds": 2.0,
        "epochs": [Epoch(items=700, seconds=24.0, validation=1.5)]
        + 3 * [Epoch(items=700, seconds=21.0, validation=1.5)],
        "train": 700,
        "validation": 150,
        "trained": True,
        "disk_bytes": 90_000_000,
        "store_seconds": 0.3,
        "seconds": 120.0,
    }
    return Spent.model_validate(given | values)


def books(work: Work, *runs: Spent, whole: bool = True) -> Rates:
    """What is known after these runs."""
    rows: dict[tuple[str, str, str, str], Profile] = {}
    for run in runs:
        for one in observe(work, run, whole=whole):
            key = (one.network, one.kind, one.variant, one.data)
            values = (*(rows[key].values if key in rows else ()), one.value)
            source: Source = "history" if whole else "measured"
            rows[key] = Profile(CPU.name, *key, values, source, AT, one.facts or {})
    return Rates(rows.values())


def test_a_job_that_ran_is_foretold_as_it_ran() -> None:
    work = job()
    found = look(work, books(work, spent()))
    assert found.basis == "history"
    assert found.seconds.expected == pytest.approx(120.0, rel=0.02)
    assert found.memory_bytes.expected == pytest.approx(3 * GIB, rel=0.001)
    assert found.parts["train"] == pytest.approx(2 + 4 * (21 + 1.5) + 3, rel=0.01)
    assert found.seconds.low < 120 < found.seconds.high


def test_what_is_there_already_costs_nothing() -> None:
    work = job()
    rates = books(work, spent())
    again = replace(work, parts=(replace(work.parts[0], cached=True),), graph_cached=True)
    assert look(again, rates).parts["features"] == 0
    assert look(work, rates).parts["features"] == pytest.approx(13.0)
    assert look(again, rates).disk_bytes.expected < look(work, rates).disk_bytes.expected


def test_longer_trainings_and_more_data_cost_in_proportion() -> None:
    work = job()
    rates = books(work, spent())
    longer = replace(work, method=TUNE.model_copy(update={"epochs": 8}))
    assert look(longer, rates).parts["train"] - look(work, rates).parts["train"] == pytest.approx(4 * 22.5, rel=0.01)
    other = replace(work, parts=(Part("e" * 64, 2000),), train=1400, validation=300, held_out=300)
    found = look(other, rates)
    assert found.parts["train"] == pytest.approx(2 * look(work, rates).parts["train"], rel=0.05)
    assert found.seconds.high / found.seconds.low > look(work, rates).seconds.high / look(work, rates).seconds.low


def test_early_stopping_lowers_the_lower_end_alone() -> None:
    rates = books(job(), spent())
    sure = look(job(), rates).seconds
    stops = look(job(TUNE.model_copy(update={"early_stop": 1})), rates).seconds
    assert stops.low < sure.low - 40
    assert stops.high == pytest.approx(sure.high)


def test_nothing_known_is_assumed_and_wide() -> None:
    methods: list[AnyMethod] = [LinearProbe(), TUNE, FineTune(), FineTune(freeze="all"), Auto(), RankBaseModels()]
    for method in methods:
        found = look(job(method))
        assert found.basis == "assumed"
        assert 0 < found.seconds.low < found.seconds.expected < found.seconds.high
        assert found.seconds.high / found.seconds.low > 4, method.name
    for modality, name in (("text", "minilm_l6"), ("tabular", "tabular_mlp")):
        found = look(job(Auto(), modality=modality, card=find(name), network=name, base=name))
        assert found.memory_bytes.expected > 0
    quick, dear = look(job(LinearProbe())).seconds.expected, look(job(TUNE)).seconds.expected
    assert dear > quick


def test_a_measurement_carries_over_to_the_whole_job() -> None:
    work = job()
    few = spent(
        train=32,
        validation=32,
        epochs=[Epoch(items=32, seconds=3.0, validation=0.32), Epoch(items=32, seconds=0.96, validation=0.32)],
        steps={"prepare": 0.4, "train": 5.0},
        peaks={"train": 2 * GIB},
        graph_seconds=None,
    )
    found = look(work, books(work, few, whole=False))
    assert found.basis == "measured"
    steps, checks = 4 * 700 * 0.03, 4 * 150 * 0.01
    assert found.parts["train"] == pytest.approx(steps + checks, rel=0.1)


def test_memory_between_and_beyond_measured_batches_follows_a_line() -> None:
    work = job()
    runs = []
    for size, peak in ((2, 1.1), (8, 1.4)):
        resolved = TUNE.model_copy(update={"batch_size": size}).model_dump(mode="json")
        peaks = {"train": int(peak * GIB)}
        runs.append(spent(resolved=resolved, train=2 * size, validation=4, peaks=peaks, graph_seconds=None))
    rates = books(work, *runs, whole=False)  # of one job with another batch size, as they are measured
    sizes = {size: look(replace(work, method=TUNE.model_copy(update={"batch_size": size})), rates) for size in (4, 32)}
    kept = 700 * 256**2 * 4 / 3 * 3 + 150 * 224**2 * 3
    assert sizes[32].memory_bytes.expected == pytest.approx(1.0 * GIB + 0.05 * 32 * GIB + kept, rel=0.03)
    assert sizes[4].memory_bytes.expected == pytest.approx(1.2 * GIB + kept, rel=0.03)


def test_what_any_network_costs_alike_is_known_of_one_that_never_ran() -> None:
    probe = job(LinearProbe())
    ran = spent(trained=False, epochs=[], setup_seconds=None, steps=spent().steps | {"train": 0.4, "export": 0.9})
    other = {"network": "resnet50", "base": "resnet50", "card": find("resnet50"), "parts": (Part("e" * 64, 1000),)}
    found = look(job(LinearProbe(), **other), books(probe, ran))
    assert 1.5 * 0.9 < found.parts["export"] < 2.2 * 0.9, "joined to 2.2 times as many parameters"
    assert look(probe, books(probe, ran)).parts["export"] == pytest.approx(0.9)
    assert 2 * 0.4 < found.parts["train"] < 10 * 0.4, "of four times as many features"
    assert found.parts["store"] == pytest.approx(0.3)
    assert found.parts["features"] > 3 * 13, "what the network itself costs is not known"


def test_augmentation_changes_no_memory_and_stands_in_where_another_was_measured() -> None:
    work = job()
    rates = books(work, spent())
    light = replace(work, method=TUNE.model_copy(update={"augmentation": "light"}))
    assert look(light, rates).memory_bytes.expected == look(work, rates).memory_bytes.expected
    assert look(light, rates).parts["train"] == pytest.approx(look(work, rates).parts["train"], rel=0.1)


def test_a_head_start_is_expected_to_be_served_in_a_short_training_until_it_was_otherwise() -> None:
    short = job(TUNE.model_copy(update={"epochs": 1}))
    rates = books(job(LinearProbe()), spent(trained=False, epochs=[], setup_seconds=None))
    first = look(short, rates)
    assert first.parts["export"] == pytest.approx(5.0), "a head on the frozen network"
    assert look(job(), rates).parts["export"] == pytest.approx(1.2 * 3.0), "176 steps: the network's own export"
    own = spent(epochs=spent().epochs[:1], steps=spent().steps | {"export": 7.0})
    assert look(short, books(short, own)).parts["export"] == pytest.approx(7.0)
    assert first.seconds.high > first.seconds.expected + 3, "the other case lies within"


def test_a_network_from_random_weights_has_changed_whatever_came_of_pretrained_ones() -> None:
    scratch = job(TUNE.model_copy(update={"init": "scratch", "head_start": False}))
    kept = spent(trained=False, changed=False, steps=spent().steps | {"compare": 0.1})
    rates = books(job(), kept)
    assert look(job(), rates).parts["compare"] == pytest.approx(0.1, rel=0.1)
    first = look(scratch, rates)
    assert first.parts["compare"] > 1, "its network answers"
    assert first.parts["export"] == look(job(), rates).parts["export"], "the probe is served"


def test_the_export_of_the_base_model_counts_where_it_is_still_to_be_done() -> None:
    work = job(LinearProbe())
    exported = spent(epochs=[], peaks={"features": 3 * GIB})
    there = spent(epochs=[], peaks={"features": GIB}, graph_seconds=None)
    rates = books(work, exported, there)
    assert look(work, rates).memory_bytes.expected == pytest.approx(3 * GIB, rel=0.01)
    assert look(replace(work, graph_cached=True), rates).memory_bytes.expected == pytest.approx(GIB, rel=0.01)


def test_what_a_training_leaves_behind_does_not_pass_for_what_a_probe_takes() -> None:
    tuned = spent(trained=False, peaks={"features": GIB, "train": 3 * GIB, "compare": 3 * GIB, "export": 3 * GIB})
    probed = replace(job(LinearProbe()), graph_cached=True)
    assert look(probed, books(job(), tuned)).memory_bytes.expected < 1.5 * GIB


def test_intervals_cover_nine_of_ten_by_what_was_missed_before() -> None:
    rng = np.random.default_rng(0)
    for scale in (0.05, 0.4):
        hits = []
        for _ in range(400):
            drawn = rng.laplace(0.1, scale, 25)
            history = tuple(float(value) for value in drawn[:-1])
            off = bias(history)
            width = half_width(0.01, [one - off for one in history], least=0.0)
            hits.append(abs(drawn[-1] - off) <= width)
        assert 0.85 < np.mean(hits) < 0.97


def test_without_history_the_spread_decides_and_with_little_the_wider_of_both() -> None:
    assert half_width(0.2, [], least=0.1) > 0.25
    assert half_width(0.01, [], least=0.1) == 0.1
    assert half_width(0.2, [0.01], least=0.1) == half_width(0.2, [], least=0.1)
    assert half_width(0.2, [2.0], least=0.1) == 2.0
    assert bias([]) == 0
    assert 0 < bias([0.6]) < bias([0.6] * 20) < 0.6


def test_what_was_missed_is_learnt() -> None:
    work = job()
    rates = books(work, spent())
    found = look(work, rates)
    actual = found.seconds.model_copy(update={"actual": 2 * found.seconds.expected})
    seen = missed(found.model_copy(update={"seconds": actual}), rates, work)
    assert [one.kind for one in seen] == ["ratio.seconds"]
    assert seen[0].value == pytest.approx(np.log(2))
    known = Profile(CPU.name, "", "ratio.seconds", seen[0].variant, "", (seen[0].value,) * 12, "history", AT)
    better = look(work, Rates([*rates._all, known]))
    assert better.seconds.expected > 1.5 * found.seconds.expected


def test_what_does_not_fit_names_what_would_with_figures() -> None:
    work = job(TUNE.model_copy(update={"batch_size": 256}))
    big = TUNE.model_copy(update={"batch_size": 256}).model_dump(mode="json")
    rates = books(work, spent(resolved=big, peaks={"train": 30 * GIB}))
    found = look(work, rates)
    assert not found.fits
    assert found.advice
    error = does_not_fit(work, rates, CPU, found)
    assert error.code == "does_not_fit"
    assert "30." in error.message
    ways = way_out(work, rates, CPU, work.candidates)
    assert all(way.memory_bytes <= 16 * GIB for way in ways)
    kinds = [set(way.fields) for way in ways]
    assert kinds[0] == {"method.batch_size"}
    assert {"method.name"} in kinds
    probe = job(LinearProbe(), card=find("vgg16_bn"), network="vgg16_bn", base="vgg16_bn")
    small = replace(CPU, memory_bytes=GIB)
    assert {"base_model"} in [set(way.fields) for way in way_out(probe, Rates(), small, work.candidates)]
    assert look(work, rates, replace(CPU, memory_bytes=64 * GIB)).fits


def test_a_full_disk_is_a_refusal_too() -> None:
    work = job()
    rates = books(work, spent())
    found = look(work, rates, full := replace(CPU, disk_bytes=1000))
    assert not found.fits
    error = does_not_fit(work, rates, full, found)
    assert error.details["free_bytes"] == 1000
    assert "GiB are free" in error.message


def test_a_budget_that_will_not_do_is_said() -> None:
    found = look(job(max_seconds=10.0), books(job(), spent()))
    assert found.fits
    assert "max_seconds" in found.advice[0]


def test_what_is_left_open_makes_the_interval_wider() -> None:
    open_one = course_of(FineTune(), None, modality="image")
    closed = course_of(
        FineTune(),
        {
            "epochs": 3,
            "batch_size": 8,
            "early_stop": 3,
            "ema": None,
            "augmentation": "none",
            "lora_rank": None,
            "mixup": 0.0,
        },
        modality="image",
    )
    assert (open_one.settled, closed.settled) == (False, True)
    assert (closed.epochs, closed.batch_size) == (3, 8)
    assert course_of(FineTune(freeze="all"), None, modality="image").network is False


def test_training_from_scratch_beside_it_about_doubles_it() -> None:
    work = job(baselines="all", scratch=TUNE.model_copy(update={"init": "scratch"}).model_dump(mode="json"))
    rates = books(job(), spent())
    found, alone = look(work, rates), look(job(), rates)
    assert found.seconds.expected > 1.7 * alone.seconds.expected


@pytest.mark.parametrize("name", [name for name, options in METHODS.items() if issubclass(options, MetaLearning)])
def test_training_on_episodes_costs_what_its_steps_cost(name: str) -> None:
    """Twice the steps take twice the time, and what was seen of one job carries over to the next."""
    works = [job(METHODS[name](steps=steps), card=find("conv4"), base="conv4") for steps in (1000, 2000)]
    found = [look(work).parts["train"] for work in works]
    assert found[0] > 0
    assert found[1] == pytest.approx(2 * found[0], rel=1e-3)
    known = books(works[0], spent(steps={"prepare": 1.0, "train": 100.0}))
    assert look(works[1], known).parts["train"] == pytest.approx(200.0, rel=0.01)
