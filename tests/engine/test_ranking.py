"""Ranking of base models: what suits the data comes first, what cannot be measured is listed with why."""

from itertools import pairwise

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from core.catalogue import find
from core.contract.errors import JobError
from core.contract.methods import LinearProbe, RankBaseModels
from core.contract.reports import Report
from tests.builders import folder_zip
from tests.engine.jobs import TINY, Workshop
from worker.engine import exploration
from worker.engine.door import CancelledError
from worker.engine.methods import rank_base_models, suitability
from worker.engine.methods.ranking_words import sentence
from worker.engine.methods.suitability import Question, measure, sample
from worker.engine.paired import Answers

BLIND = "timm:test_efficientnet"  # its weights are zero: it sees nothing


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    shop = Workshop(tmp_path_factory.mktemp("ranking"))
    blind = timm.create_model("test_efficientnet", pretrained=False).state_dict()
    blank = {name: torch.zeros_like(tensor) for name, tensor in blind.items()}
    save_file(blank, shop.weights / "test_efficientnet.safetensors")
    return shop


@pytest.fixture(scope="module")
def source(shop):
    return shop.data(folder_zip({"cat": 20, "dog": 20, "owl": 20}, size=(40, 48), format="JPEG"))


def _rank(shop, source, *, wish=lambda: "go_on", **options):
    return shop.run(RankBaseModels(**options), source, base_model=None, wish=wish)


@pytest.fixture(scope="module")
def first(shop, source):
    result = _rank(shop, source, base_models=[BLIND, TINY, "resnet19"])
    return result, list(shop.events)


def test_the_one_that_sees_comes_first(first) -> None:
    result, _ = first
    assert (result.manifest, result.bundle, result.report.model_id) == (None, None, None)
    report = Report.model_validate_json(result.report.model_dump_json())
    best, blind, broken = report.ranking.candidates
    assert (best.base_model, best.rank, best.state, best.behind) == (TINY, 1, "measured", None)
    assert best.score == pytest.approx((best.probe + best.knn) / 2)
    assert best.score > 0.9
    assert (blind.base_model, blind.rank) == (BLIND, 2)
    assert blind.score < 0.5
    assert blind.behind.low > 0.3
    assert best.h_score > blind.h_score
    assert best.seconds == pytest.approx(report.ranking.items / best.items_per_second)
    assert best.seconds > 0
    assert best.memory_bytes > 0
    assert (broken.state, broken.rank, broken.score) == ("failed", None, None)
    assert "resnet18" in broken.note, "the nearest name is told"
    assert report.ranking.equal == []
    assert report.ranking.agreement["probe"] == pytest.approx(1)
    assert TINY in report.ranking.sentence
    assert "ahead of every other" in report.ranking.sentence
    assert report.base_model == TINY
    assert [step.name for step in report.steps] == ["prepare", "compare"]


def test_held_out_items_are_not_looked_at(first) -> None:
    report = first[0].report
    assert report.held_out_items > 0
    assert report.ranking.items == report.train_items + report.validation_items == report.ranking.folds


def test_it_says_how_far_it_is_and_what_was_ranked(first) -> None:
    events = first[1]
    fractions = [data["fraction"] for kind, data in events if kind == "progress"]
    assert fractions[-1] == 1
    assert all(before <= after for before, after in pairwise(fractions))
    resolved = next(data for kind, data in events if kind == "resolved")["method"]
    assert (resolved["name"], resolved["base_models"]) == ("rank_base_models", [BLIND, TINY, "resnet19"])
    assert any(kind == "message" and TINY in data["text"] for kind, data in events)


def test_the_next_job_on_the_best_finds_its_features(shop, source, first) -> None:
    result = shop.run(LinearProbe(), source)
    assert next(step.note for step in result.report.steps if step.name == "features") == "from cache"


def test_the_second_time_nothing_is_embedded(shop, source, first, monkeypatch) -> None:
    monkeypatch.setattr(exploration, "embed", lambda *_args, **_named: pytest.fail("embedded again"))
    again = _rank(shop, source, base_models=[TINY, BLIND]).report.ranking
    before = first[0].report.ranking
    assert [(one.base_model, one.score) for one in again.candidates] == [
        (one.base_model, one.score) for one in before.candidates[:2]
    ]
    assert again.candidates[0].items_per_second == pytest.approx(before.candidates[0].items_per_second)


def test_features_of_another_job_have_a_price_too(shop, tmp_path, source) -> None:
    shop.run(LinearProbe(), source, cache=tmp_path)
    found = shop.run(RankBaseModels(base_models=[TINY]), source, base_model=None, cache=tmp_path).report.ranking
    assert found.candidates[0].items_per_second > 0
    assert "No other base model" in found.sentence
    assert found.agreement == {}
    kept = [path for path in (tmp_path / "features").rglob("*") if path.is_file()]
    assert len(kept) == 1, "what was embedded to take the time is not kept"


def test_large_data_are_sampled(shop, source, tmp_path, monkeypatch) -> None:
    read: list[int] = []
    item = exploration.Items.item
    monkeypatch.setattr(exploration.Items, "item", lambda some, index: read.append(index) or item(some, index))
    ranking = _rank(shop, source, base_models=[TINY], max_items=12).report.ranking
    assert ranking.items == 12
    assert not read, "the features of all were there"
    other = shop.data(folder_zip({"cat": 20, "dog": 20, "owl": 20}, size=(40, 44), format="JPEG"))
    assert _rank(shop, other, base_models=[TINY], max_items=12).report.ranking.items == 12
    assert len(read) == 12


def _after(first: int, wish: str):
    """A wish that comes once that many base models have been judged."""

    def heard(shop):
        told = sum(": 0." in data["text"] or ": 1." in data["text"] for data in shop.said("message"))
        return wish if told >= first else "go_on"

    return heard


def test_a_wish_to_stop_keeps_what_is_ranked(shop, source, first) -> None:
    heard = _after(1, "stop")
    ranking = _rank(shop, source, base_models=[TINY, BLIND], wish=lambda: heard(shop)).report.ranking
    assert [(one.base_model, one.state) for one in ranking.candidates] == [(TINY, "measured"), (BLIND, "skipped")]
    assert "told to stop" in ranking.candidates[1].note


def test_a_wish_to_cancel_discards_it(shop, source, first) -> None:
    heard = _after(1, "cancel")
    with pytest.raises(CancelledError):
        _rank(shop, source, base_models=[TINY, BLIND], wish=lambda: heard(shop))


def test_time_that_is_over_leaves_the_rest_out(shop, source, first) -> None:
    ranking = _rank(shop, source, base_models=[BLIND, TINY], max_seconds=1e-6).report.ranking
    assert [one.state for one in ranking.candidates] == ["measured", "skipped"]
    assert "time" in ranking.candidates[1].note


def test_nothing_that_could_be_measured_is_an_error(shop, source) -> None:
    with pytest.raises(JobError) as caught:
        _rank(shop, source, base_models=["resnet19", "tabular_mlp"])
    assert caught.value.code == "no_candidate"
    assert set(caught.value.details["candidates"]) == {"resnet19", "tabular_mlp"}
    assert "for tables" in caught.value.details["candidates"]["tabular_mlp"]


def test_all_means_those_whose_weights_are_here(shop, source, monkeypatch) -> None:
    tiny = find("resnet18").model_copy(update={"id": TINY, "architecture": "test_resnet", "builder": "timm"})
    monkeypatch.setattr(rank_base_models, "cards", lambda: [tiny, find("vgg16_bn"), find("tabular_mlp")])
    ranking = _rank(shop, source).report.ranking
    assert [(one.base_model, one.state) for one in ranking.candidates] == [(TINY, "measured"), ("vgg16_bn", "skipped")]
    assert "not on this machine" in ranking.candidates[1].note
    assert ranking.candidates[1].title == "VGG-16 with batch normalisation"


# The pure parts.


def _question(problem, targets, **options):
    return Question.of(problem, targets, **{"folds": None, "neighbours": 5, "seed": 0} | options)


def _clusters(n=120, classes=4, width=16, signal=2.0):
    rng = np.random.default_rng(0)
    labels = np.arange(n) % classes
    centres = rng.normal(size=(classes, width))
    return (rng.normal(size=(n, width)) + signal * centres[labels]).astype(np.float32), labels


def test_folds_and_leave_one_out_agree() -> None:
    x, labels = _clusters()
    exact, folded = (
        measure(x, _question("classification", labels)),
        measure(x, _question("classification", labels, folds=5)),
    )
    assert folded.probe == pytest.approx(exact.probe, abs=0.06)
    assert folded.knn == exact.knn
    shuffled = np.random.default_rng(1).permutation(labels)
    for folds in (None, 4):
        assert measure(x, _question("classification", shuffled, folds=folds)).score < 0.45


def test_a_class_that_is_not_in_the_sample_and_one_with_a_single_item() -> None:
    x, labels = _clusters()
    labels = np.where(labels == 0, 7, labels)
    labels[0] = 9
    for folds in (None, 3):
        found = measure(x, _question("classification", labels, folds=folds))
        assert found.items.hits[0] == 0, "without its only item nobody knows the class"
        assert found.probe > 0.9


def test_several_labels_and_values() -> None:
    x, labels = _clusters()
    both = np.stack([labels < 2, labels % 2 == 0], axis=1).astype(np.float32)
    assert measure(x, _question("multi_label", both, folds=3)).score > 0.9
    rng = np.random.default_rng(2)
    value = (x @ rng.normal(size=16)).astype(np.float32)[:, None]
    value = (value - value.mean()) / value.std()
    good = measure(x, _question("regression", value))
    assert good.probe > 0.95
    assert good.score == pytest.approx((good.probe + good.knn) / 2)
    noise = rng.normal(size=value.shape).astype(np.float32)
    assert measure(x, _question("regression", (noise - noise.mean()) / noise.std())).score < 0.1


def test_a_sample_keeps_the_classes_shares() -> None:
    labels = np.repeat([0, 1, 2], [700, 290, 10])
    chosen = sample("classification", labels, 100, np.random.default_rng(0))
    assert len(set(chosen.tolist())) == 100
    counts = np.bincount(labels[chosen])
    assert counts == pytest.approx([70, 29, 1], abs=2)
    assert counts[2] >= 1
    assert np.array_equal(sample("classification", labels, 5000, np.random.default_rng(0)), np.arange(1000))
    assert len(sample("regression", np.zeros((50, 1)), 20, np.random.default_rng(0))) == 20


def test_one_network_under_two_names_cannot_be_told_apart(shop, source, first) -> None:
    state = shop.weights / "test_resnet.safetensors"
    twin = find("resnet18").model_copy(update={"id": "twin", "architecture": "test_resnet", "builder": "timm"})
    assert state.is_file()
    ranking = first[0].report.ranking
    best = ranking.candidates[0]
    other = best.model_copy(update={"base_model": twin.id, "rank": 2, "seconds": best.seconds / 2})
    told = ranking.model_copy(
        update={"candidates": [best, other], "equal": ["twin"], "agreement": {"probe": 1.0, "logme": 0.1}}
    )
    text = sentence(told, "classification")
    assert "cannot be told from twin" in text
    assert "twin costs least: 50%" in text
    assert "LogME orders them otherwise, so treat the first three as equal" in text
    agreed = told.model_copy(update={"agreement": {"probe": 1.0, "knn": 0.8}})
    assert "The scores agree" in sentence(agreed, "classification")


def _judged(name, right, logme):
    hits = np.asarray(right, dtype=np.float64)
    found = suitability.Suitability(hits.mean(), hits.mean(), logme, 0.0, Answers(hits, np.ones(len(hits))))
    return rank_base_models.Judged(name, find("resnet18"), found, exploration.Cost(seconds_per_item=1, memory_bytes=1))


def test_logme_decides_only_between_those_that_cannot_be_told_apart() -> None:
    rng = np.random.default_rng(0)
    good = rng.random(200) < 0.9
    near, worse = good.copy(), good & (rng.random(200) < 0.6)
    near[:2] = False
    judged = [_judged("worse", worse, 9.0), _judged("good", good, 0.1), _judged("near", near, 0.2)]
    order, behind, equal = rank_base_models._order(judged, 0)
    assert [one.name for one in order] == ["near", "good", "worse"]
    assert equal == ["good"]
    assert set(behind) == {"near", "worse"}
    assert behind["near"].low <= 0 <= behind["near"].high
    assert behind["worse"].low > 0.2


def test_scores_that_are_all_alike_have_no_agreement() -> None:
    x, labels = _clusters()
    found = measure(x, _question("classification", labels))
    assert rank_base_models.agreement([found, found]) == {}
    assert suitability.SCORES == ("probe", "knn", "logme", "h_score")
