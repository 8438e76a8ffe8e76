"""The page of a ranking: a table, a picture, and no word of a model that was never made."""

import re
from xml.etree import ElementTree

import pytest

from app.reports.page import Extras, render
from app.reports.ranking import cost_chart
from core.contract.base import new_id
from core.contract.jobs import Step
from core.contract.reports import Candidate, Ranking, Report
from core.contract.verdicts import Difference

EVIL = '<script>alert("x")</script>'


def _candidate(rank: int, name: str, score: float, seconds: float) -> Candidate:
    gap = Difference(effect=0.95 - score, low=0.9 - score, high=1.0 - score, p_value=0.2, test="paired_bootstrap")
    return Candidate(
        base_model=name,
        title=name.title(),
        rank=rank,
        score=score,
        behind=None if rank == 1 else gap,
        probe=score + 0.01,
        knn=score - 0.01,
        logme=-0.25,
        h_score=1.5,
        seconds=seconds / 2,
        items_per_second=1000 / seconds,
        memory_bytes=200 * 2**20,
        parameters=4_200_000,
    )


def _report(problem: str = "classification") -> Report:
    away = Candidate(base_model="vgg16_bn", title="VGG-16", state="skipped", note=f"No weights. {EVIL}")
    ranking = Ranking(
        candidates=[
            _candidate(1, "efficientnet_lite2", 0.95, 20),
            _candidate(2, f"timm:{EVIL}", 0.94, 8),
            _candidate(3, "squeezenet1_1", 0.7, 5),
            away,
        ],
        items=500,
        folds=500,
        equal=[f"timm:{EVIL}"],
        agreement={"probe": 1.0, "knn": 0.87},
        sentence="EfficientNet-Lite2 suits these data best.",
    )
    return Report(
        job_id=new_id("job"),
        model_id=None,
        method="rank_base_models",
        base_model="efficientnet_lite2",
        problem=problem,
        classes=["a", "b"],
        evaluated_on="test_split",
        train_items=500,
        validation_items=0,
        held_out_items=100,
        metrics=[],
        class_table=[],
        curve_axis="epoch",
        steps=[Step(name="compare", state="done", seconds=3.5)],
        ranking=ranking,
    )


@pytest.mark.parametrize("problem", ["classification", "regression"])
def test_the_page_shows_all_candidates_and_escapes_them(problem: str) -> None:
    page = render(_report(problem), Extras(source="photos"))
    assert "<script>" not in page
    assert page.count("&lt;script&gt;") >= 3
    assert "EfficientNet-Lite2 suits these data best." in page
    assert "Not measured" in page
    assert "vgg16_bn" in page
    assert "Ranking of base models" in page
    assert "How to call the model" not in page
    assert "confuses" not in page
    assert ("95.0" in page) == (problem == "classification")
    assert "0.87" in page


def test_the_picture_has_a_dot_and_a_name_for_each() -> None:
    ranking = _report().ranking
    assert ranking is not None
    picture = cost_chart(ranking, "classification")
    assert picture is not None
    tree = ElementTree.fromstring(str(picture))
    dots = [one for one in tree.iter() if one.tag == "circle"]
    assert len(dots) == 3
    across = [float(dot.attrib["cx"]) for dot in dots]
    assert across[0] > across[1] > across[2], "what costs more stands to the right"
    down = [float(dot.attrib["cy"]) for dot in dots]
    assert down[0] < down[1] < down[2], "what scores more stands higher"
    assert "squeezenet1_1" in str(picture)
    assert re.search(r"5\s?s", str(picture)), "the axis has marks"


def test_one_candidate_needs_no_picture() -> None:
    ranking = _report().ranking
    assert ranking is not None
    assert cost_chart(ranking.model_copy(update={"candidates": ranking.candidates[:1]}), "classification") is None


def test_many_candidates_at_one_place_keep_their_names_apart() -> None:
    many = [_candidate(1 + number, f"network_{number}", 0.9, 10) for number in range(12)]
    ranking = _report().ranking
    assert ranking is not None
    picture = cost_chart(ranking.model_copy(update={"candidates": many}), "classification")
    heights = [
        float(one.attrib["y"])
        for one in ElementTree.fromstring(str(picture)).iter()
        if one.tag == "text" and (one.text or "").startswith("network_")
    ]
    assert len(heights) == 12
    gaps = sorted(abs(a - b) for a in heights for b in heights if a != b)
    assert len(set(heights)) == 12
    assert gaps[0] >= 14
