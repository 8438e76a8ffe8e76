"""The page of a job that was measured on episodes: arms by ways and shots, and names that are only ever text."""

from app.reports.page import Extras, render
from core.contract.few_shot import EpisodeFigure, EpisodeReport
from core.contract.reports import Report
from tests.app.sample_reports import sample_report

EVIL = '<script>alert("x")</script>'


def _figure(arm: str, shots: int, accuracy: float, **more: object) -> EpisodeFigure:
    known = {"ways": 5, "queries": 15, "episodes": 600, "low": accuracy - 0.004, "high": accuracy + 0.004}
    return EpisodeFigure(arm=arm, shots=shots, accuracy=accuracy, **(known | more))  # type: ignore[arg-type]


def _report(**more: object) -> Report:
    figures = [_figure("maml", 1, 0.971), _figure("maml", 5, 0.992), _figure("simple_shot_tim", 1, 0.9)]
    figures.append(_figure("plain_fine_tuning", 1, 0.8, episodes=40, note="Random features are what there is."))
    episodes = EpisodeReport(
        figures=figures,
        train_classes=400,
        validation_classes=80,
        test_classes=120,
        test_examples=["Greek/alpha", EVIL],
        sentence="600 episodes of each kind.",
        **more,  # type: ignore[arg-type]
    )
    return sample_report(10).model_copy(update={"episodes": episodes, "method": "maml"})


def test_every_arm_has_a_row_and_every_kind_of_episode_a_column() -> None:
    page = render(Report.model_validate_json(_report(outliers=0.83).model_dump_json()), Extras())
    assert "How well new classes are learnt" in page
    assert "5 classes, 1 item of each" in page
    assert "5 classes, 5 items of each" in page
    assert "± 0.4 (600)" in page
    assert "SimpleShot, TIM" in page or "frozen base model, TIM" in page
    assert "Plain fine-tuning on the same few items" in page
    assert "Random features are what there is." in page
    assert "none of these" in page
    assert "<script>" not in page


def test_nothing_is_said_of_items_of_no_class_where_nothing_is_known() -> None:
    assert "none of these" not in render(_report(), Extras())
    assert "How well new classes are learnt" not in render(sample_report(10), Extras())
