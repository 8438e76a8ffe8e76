"""`auto`: which arms run, what the race costs, and that the best one on validation wins."""

import time
from dataclasses import replace

import numpy as np
import pytest

from core.contract.methods import Auto
from tests.builders import folder_zip
from tests.engine.jobs import Workshop
from worker.engine.methods import auto
from worker.engine.steps import Until, Wishes


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return Workshop(tmp_path_factory.mktemp("auto"))


@pytest.fixture(scope="module")
def easy(shop):
    return shop.data(folder_zip({"cat": 24, "dog": 24}, size=(40, 36)))


def test_a_probe_that_leaves_nothing_to_gain_is_all_that_runs(shop, easy):
    result = shop.run(Auto(), easy)
    assert result.manifest is not None
    assert result.manifest.method["winner"] == "linear_probe"
    assert result.manifest.method["arms"] == ["linear_probe"]
    assert any("`fine_tune` was not run: 1.0000 is reached without it" in note for note in result.report.notes)
    (resolved,) = shop.said("resolved")
    assert resolved["method"]["winner"] == "linear_probe"


def test_arms_that_are_named_run_and_the_best_on_validation_wins(shop, easy, monkeypatch):
    values = iter([0.5, 0.9])
    monkeypatch.setattr(auto, "score", lambda *_: next(values))
    result = shop.run(Auto(arms=["linear_probe", "fine_tune"], seconds=2), easy)
    assert result.manifest is not None
    assert result.manifest.method["arms"] == ["linear_probe", "fine_tune"]
    assert result.manifest.method["winner"] == "fine_tune"
    assert any("linear_probe 0.5000" in note and "fine_tune 0.9000" in note for note in result.report.notes)


def test_the_time_is_up_means_finish(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    asked = ["go_on"]
    wishes = Until(Wishes(lambda: asked[0]), 101.0)
    assert not wishes.stop()
    now[0] = 101.0
    assert wishes.stop()
    assert wishes.stopped


def test_the_race_takes_what_the_budget_leaves(shop, easy):
    class Steps:
        def seconds(self):
            return 10.0

    class Task:
        steps, budget = Steps(), 100.0

    assert auto._seconds(Auto(), Task) == pytest.approx(70.0)
    assert auto._seconds(Auto(seconds=7), Task) == 7.0
    Task.budget = None
    assert auto._seconds(Auto(), Task) == auto.USUAL_SECONDS


def test_no_arm_starts_that_could_not_finish():
    runner = auto._Runner("linear_probe", None, 0.8, 0.5, 0.1)
    late, early = time.monotonic() + 1, time.monotonic() + 60
    assert "are left" in auto._reason_against("fine_tune", Auto(), [runner], late)
    assert auto._reason_against("fine_tune", Auto(), [runner], early) == ""
    assert auto._reason_against("fine_tune", Auto(arms=["fine_tune"]), [runner], late) == ""
    slow = replace(runner, arm="fine_tune", seconds=200.0)
    assert "are left" in auto._reason_against("lora", Auto(), [runner, slow], early)


def test_a_probe_is_raced_by_answers_it_has_not_learnt(shop, easy, monkeypatch):
    seen = []
    real = auto.score
    monkeypatch.setattr(
        auto, "score", lambda problem, logits, labels: seen.append(logits) or real(problem, logits, labels)
    )
    result = shop.run(Auto(arms=["linear_probe"]), easy)
    assert len(seen[0]) == result.report.train_items - len(easy_train(shop, easy))
    assert np.isfinite(seen[0]).all()


def easy_train(shop, ref):
    from core.contract.datasets import DatasetManifest

    manifest = DatasetManifest.model_validate_json(ref.manifest.read_bytes())
    return [item for item in manifest.items if item.split == "train"]
