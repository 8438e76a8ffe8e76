"""What adapting to a new domain is expected to cost: its items count, too."""

from dataclasses import replace
from typing import Any

import pytest

from core.catalogue import find
from core.contract.methods import METHODS, Auto, MethodOptions
from core.contract.methods.deep import DeepAdaptation
from core.estimating import Device, Part, Rates, Work, course_of
from core.estimating.adaptation import from_scratch, settled
from core.estimating.course import adapting_course
from core.estimating.observing import Epoch
from core.estimating.refusal import does_not_fit, way_out
from core.estimating.seconds import course
from tests.estimating.test_estimates import CPU, GIB, TUNE, books, job, look, spent
from worker.engine.methods.settling import Facts, settle

GPU = Device("cuda: x", "cuda", 8, 80 * GIB, 100 * GIB)
DEEP = [name for name, options in METHODS.items() if options.adapts and options.trains_network]
FROZEN = [name for name, options in METHODS.items() if options.adapts and not options.trains_network]


def adapting(method: MethodOptions, **values: Any) -> Work:
    """A job on 1,000 images of the source and as many of the target."""
    both = (Part("d" * 64, 1000), Part("e" * 64, 1000))
    return job(method, **({"parts": both, "target": 1000, "held_out": 1000} | values))


def deep(name: str, **values: Any) -> DeepAdaptation:
    options = METHODS[name](**values)
    assert isinstance(options, DeepAdaptation)
    return options


def trained(name: str, device: Device = CPU, **values: Any) -> Work:
    """A deep adaptation with its options settled, as a forecast has it."""
    work = adapting(deep(name, **values))
    return replace(work, resolved=settled(deep(name, **values), work, device))


def test_the_targets_items_are_embedded_too() -> None:
    assert FROZEN
    for name in FROZEN:
        work = adapting(METHODS[name]())
        found = look(work)
        assert course(work) is None, name
        assert 0 < found.seconds.low < found.seconds.expected < found.seconds.high
        alone = look(replace(work, parts=work.parts[:1]))
        assert found.parts["features"] > 1.5 * alone.parts["features"], name
        cached = replace(work, parts=(work.parts[0], replace(work.parts[1], cached=True)))
        assert look(cached).parts["features"] == pytest.approx(alone.parts["features"])


def test_a_report_alone_is_neither_measured_nor_exported() -> None:
    found = look(adapting(METHODS["domain_shift"]()))
    assert {"compare", "evaluate", "export"}.isdisjoint(found.parts)
    assert found.parts["features"] > 0


def test_a_fit_that_ran_is_foretold_by_its_items() -> None:
    name = next(name for name in FROZEN if METHODS[name].makes_model)
    work = adapting(METHODS[name]())
    run = spent(epochs=[], setup_seconds=None, trained=False)
    rates = books(work, run)
    assert look(work, rates).parts["train"] == pytest.approx(95.0)
    twice = replace(work, train=1400, validation=300, target=2000)
    assert look(twice, rates).parts["train"] == pytest.approx(190.0)


def test_a_step_on_both_domains_costs_two_items() -> None:
    same = {"epochs": 4, "batch_size": 16, "augmentation": "standard", "early_stop": None, "ema": None}
    work = trained(DEEP[0], freeze="none", **same)
    one, two = look(job(TUNE.model_copy(update={"head_start": False}))), look(work)
    assert two.parts["train"] > 1.8 * one.parts["train"]
    assert two.memory_bytes.expected > 1.3 * one.memory_bytes.expected


def test_a_training_that_ran_is_foretold_and_not_taken_for_fine_tuning() -> None:
    same = {"epochs": 4, "batch_size": 16, "augmentation": "standard", "early_stop": None, "ema": None}
    work = trained(DEEP[0], freeze="none", **same)
    run = spent(resolved=work.resolved, epochs=4 * [Epoch(items=700, seconds=50.0, validation=3.0)])
    rates = books(work, run)
    assert look(work, rates).parts["train"] == pytest.approx(2 + 4 * (50 + 3), rel=0.02)
    tune = look(job(TUNE), rates).parts["train"]
    assert tune == pytest.approx(look(job(TUNE)).parts["train"], rel=0.5)
    styles = {course(one).style for one in (work, job(TUNE)) if course(one)}  # type: ignore[union-attr]
    assert len(styles) == 2


def test_without_a_source_the_target_is_all_there_is() -> None:
    options = deep("shot", freeze="none", epochs=4, batch_size=16)
    both = replace(adapting(options, validation=200), train=1000)
    alone = replace(both, parts=both.parts[1:], validation=0, alone=True)
    works = [replace(work, resolved=settled(options, work, CPU)) for work in (both, alone)]
    one, two = (look(work) for work in works)
    assert two.parts["features"] == pytest.approx(one.parts["features"] / 2, rel=0.1)
    assert two.parts["train"] < 0.7 * one.parts["train"]
    assert alone.learnt == 1000
    facts = Facts(find("resnet18"), False, "cpu", 1000, 1000, 10, alone=True)
    assert (settle(options, facts).source_epochs, settle(options, replace(facts, alone=False)).source_epochs) == (0, 1)
    smaller = way_out(works[1], Rates(), replace(CPU, memory_bytes=GIB // 8), (find("squeezenet1_1"),))
    assert all("base_model" not in change.fields for change in smaller), "a card knows no classes"


@pytest.mark.parametrize("name", DEEP)
@pytest.mark.parametrize("device", [CPU, GPU], ids=["cpu", "cuda"])
@pytest.mark.parametrize("network", ["resnet18", "minilm_l6", "tabular_mlp"])
@pytest.mark.parametrize("train", [70, 700, 7000])
def test_open_options_are_settled_as_the_worker_does(name: str, device: Device, network: str, train: int) -> None:
    card, options = find(network), deep(name)
    work = adapting(options, card=card, network=network, base=network, modality=card.modality, train=train)
    facts = Facts(card, from_scratch(options, work), device.kind, train, 1000, work.outputs)
    theirs, ours = settle(options, facts), settled(options, work, device)
    for field in ("freeze", "batch_size", "epochs", "augmentation"):
        assert ours[field] == getattr(theirs, field), field
    assert (ours["ema"] is None) == (theirs.ema is None)
    found = adapting_course(options, ours, scratch=from_scratch(options, work))
    assert found.settled
    assert not adapting_course(options, None, scratch=False).settled
    assert adapting_course(options, theirs.model_dump(mode="json"), scratch=facts.scratch).style == found.style


def test_what_does_not_fit_is_told_what_would() -> None:
    work = trained(DEEP[0], freeze="none", batch_size=256)
    small = replace(CPU, memory_bytes=4 * GIB)
    found = look(work, device=small)
    error = does_not_fit(work, Rates(), small, found)
    changes = [change.fields for change in way_out(work, Rates(), small, ())]
    assert {"method.freeze": "all"} in changes
    assert all("method.name" not in fields for fields in changes)  # a linear probe takes no target
    assert error.hint
    late = look(replace(work, max_seconds=1.0))
    assert late.advice
    assert "linear_probe" not in " ".join(late.advice)


def test_a_race_of_adaptations_ends_in_time() -> None:
    found = look(adapting(Auto(seconds=30), train=100_000, target=100_000))
    assert found.parts["train"] <= 30
    assert course(adapting(Auto())) is None
    assert course(job(Auto())) == course_of(TUNE.__class__(), None, modality="image")
