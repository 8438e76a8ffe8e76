"""The verdict on the page of a report, and the pages of regressions and of many labels."""

import pytest

from app.reports.page import Extras, render
from app.reports.verdict import effect_strip, rows
from core.contract.verdicts import GuardCheck, GuardReport, Verdict
from tests.app.sample_reports import sample_report
from tests.app.sample_verdicts import SENTENCES, judged, multi_label_report, regression_report
from tests.app.test_report import Page, svgs


@pytest.mark.parametrize("verdict", ["improved", "not_improved", "harmful", "undetermined"])
def test_the_verdict_stands_first_with_its_arms(verdict: Verdict) -> None:
    text = render(judged(sample_report(), verdict), Extras())
    page = Page(text).text
    assert page.index(SENTENCES[verdict]) < page.index("accuracy on held-out items")
    assert "Linear probe of the frozen base model" in page
    assert "from scratch: skipped. It costs as much as the method." in page
    assert "Classes that lost" in page
    assert "93.0 % before and is 88.0 % now (−5.0 points)" in page
    assert page.count(" served") >= 1
    assert list(svgs(text))


def test_the_best_arm_stands_first_and_the_served_one_is_marked() -> None:
    found = rows(judged(sample_report(), "harmful"))
    assert [row.title for row in found][:2] == ["Linear probe of the frozen base model", "Fine-tuning"]
    assert [row.served for row in found] == [True, False, False, False]


def test_what_was_overridden_is_said() -> None:
    page = Page(render(judged(sample_report(), "harmful", overridden=True), Extras())).text
    assert "the guard was off" in page


@pytest.mark.parametrize("verdict", ["improved", "not_improved", "harmful", "undetermined"])
def test_the_picture_says_the_difference_in_words_too(verdict: Verdict) -> None:
    judgement = judged(sample_report(), verdict).judgement
    assert judgement is not None
    picture = effect_strip(judgement)
    assert picture is not None
    assert "95 % interval" in picture
    assert ("worse" in picture) == (verdict == "harmful")


def test_without_a_verdict_the_page_is_what_it_was() -> None:
    page = Page(render(sample_report(), Extras())).text
    assert "What it was compared with" not in page
    assert "accuracy on held-out items" in page


def test_a_regression_shows_truth_and_prediction_and_no_confusion() -> None:
    text = render(judged(regression_report(), "improved", metric="r2"), Extras())
    page = Page(text).text
    assert "91.0 % of the spread" in page
    assert "Truth and prediction" in page
    assert "Root mean squared error" in page
    assert "Largest errors" in page
    assert "What it confuses" not in page
    assert "Class by class" not in page
    assert "confidence can be trusted" not in page
    assert "price <b>" in page  # shown as it is named, and escaped
    assert any("Predicted against true values of 150" in (one.get("aria-label") or "") for one in svgs(text))


def test_many_labels_show_their_own_figures_and_no_confusion() -> None:
    page = Page(render(judged(multi_label_report(), "undetermined", metric="micro_f1"), Extras())).text
    assert "F1 over all classes" in page
    assert "Exactly right" in page
    assert "Average precision" in page
    assert "Class by class" in page
    assert "too many classes for a picture" not in page


def test_the_page_says_what_the_guard_found() -> None:
    report = judged(sample_report(4), "improved")
    assert report.judgement is not None
    checks = [
        GuardCheck(name="collapse", value=0.98, threshold=">= 0.6", passed=True, meaning="Do the answers spread?"),
        GuardCheck(name="lost_classes", value=2, threshold="<= 0", passed=False, meaning="Is no class lost?"),
    ]
    guard = GuardReport(
        verdict="harmful", confidence=0.81, accepted=False, reasons=["`lost_classes` is 2 <b>"], checks=checks
    )
    judgement = report.judgement.model_copy(update={"guard": guard})
    page = render(report.model_copy(update={"judgement": judgement}), Extras())
    assert "is not served in place of the source-only one" in page
    assert "81" in page
    assert "Is no class lost?" in page
    assert "is 2 &lt;b&gt;" in page
    assert "No label of the target had a part in it" in page
    assert "These figures are of the old domain" in page
    measured = report.model_copy(update={"judgement": judgement, "evaluated_on": "target"})
    assert "These figures are of the old domain" not in render(measured, Extras())
    assert "What the guard says" not in render(report, Extras())
