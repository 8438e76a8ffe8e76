"""The page of a shift: alone, inside an adapting job, with every kind, and with names that are only ever text."""

from xml.etree import ElementTree

import pytest
from fastapi.testclient import TestClient

from app.reports.page import Extras, render
from app.reports.shift import KINDS
from app.reports.shift_pictures import cloud_chart, told_strip
from core.contract.reports import Report
from core.contract.shifts import Driver
from core.store.store import Store
from tests.app.sample_reports import FRUIT, sample_report
from tests.app.sample_shifts import sample_shift, shift_report
from tests.app.test_report import data_set, finished

EVIL = '<script>alert("x")</script>'


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_kind_has_a_page_of_its_own(kind: str) -> None:
    page = render(shift_report(sample_shift(FRUIT, kind=kind), FRUIT), Extras(source="photos", target="sketches"))
    assert KINDS[kind] in page
    assert "photos" in page
    assert "sketches" in page
    assert "How to call the model" not in page
    assert "held-out" not in page
    assert ("least like the source" in page) == (kind != "none")
    assert "After adaptation" not in page


def test_what_users_named_is_only_text() -> None:
    classes = [EVIL, "b"]
    shift = sample_shift(classes)
    shift = shift.model_copy(update={"drivers": [Driver(name=EVIL, domain="target", probability=0.9)]})
    page = render(shift_report(shift, classes), Extras(source=EVIL, target=EVIL))
    assert "<script>" not in page
    assert page.count("&lt;script&gt;") >= 5


def test_a_job_that_adapts_shows_the_shift_before_and_after() -> None:
    report = sample_report(10).model_copy(update={"shift": sample_shift(FRUIT, adapted=True)})
    page = render(Report.model_validate_json(report.model_dump_json()), Extras())
    assert page.index("<h2>Domain shift</h2>") < page.index("<h2>What it confuses</h2>")
    assert "After adaptation" in page
    assert page.count("items on two axes") == 2
    assert "Domain shift" not in render(sample_report(10), Extras())


def test_a_shift_without_classes_has_a_page() -> None:
    page = render(shift_report(sample_shift([]), []), Extras())
    assert "Class by class" not in page
    assert "Class shares" not in page


def test_many_classes_are_cut_and_unnamed_in_the_picture() -> None:
    classes = [f"class {number}" for number in range(70)]
    page = render(shift_report(sample_shift(classes), classes), Extras())
    assert "20 classes that moved less are left out" in page
    assert 'class="move"' not in page


def _parsed(picture: object) -> ElementTree.Element:
    return ElementTree.fromstring(str(picture))


def test_the_picture_has_every_item_within_its_frame_and_a_line_for_each_class() -> None:
    shift = sample_shift(FRUIT[:4], items=120)
    tree = _parsed(cloud_chart(shift.before, FRUIT[:4], "before"))
    circles = [one for one in tree.iter() if one.tag == "circle"]
    plain = [one for one in circles if "head" not in one.attrib["class"]]
    assert sum(one.attrib["class"] == "ring" for one in plain) == 120
    assert sum(one.attrib["class"] == "drop" for one in plain) == 120
    side = float(tree.attrib["width"])
    assert all(0 <= float(one.attrib[axis]) <= side for one in circles for axis in ("cx", "cy"))
    assert sum(one.attrib.get("class") == "move" for one in tree.iter()) == 4
    assert [one.text for one in tree.iter() if one.tag == "text"].count("apple") == 1


def test_the_strip_shows_both_and_keeps_chance_on_it() -> None:
    tree = _parsed(told_strip(sample_shift(FRUIT, adapted=True)))
    dots = [one for one in tree.iter() if one.tag == "circle"]
    assert [one.attrib["class"] for one in dots] == ["point worse", "point"]
    assert float(dots[0].attrib["cx"]) > float(dots[1].attrib["cx"]), "what mixes more stands further left"
    worse = _parsed(told_strip(sample_shift(FRUIT, kind="none")))
    assert all(
        0 < float(one.attrib["cx"]) < float(worse.attrib["width"]) for one in worse.iter() if one.tag == "circle"
    )


def test_the_items_that_drive_it_are_shown_while_the_data_set_exists(
    sqlite_client: TestClient, sqlite_store: Store
) -> None:
    shift = sample_shift(FRUIT)
    names = [driver.name for driver in shift.drivers if driver.domain == "source"]
    source = data_set(sqlite_store, names, split="train")
    address = finished(sqlite_store, shift_report(shift, FRUIT), source=source)
    page = sqlite_client.get(address, headers={"Accept": "text/html"}).text
    assert page.count("data:image/jpeg;base64,") == len(names)
    assert "target/IMG_0.jpg" in page, "those that cannot be shown are listed"
    assert sqlite_client.get(address).json()["shift"]["kind"] == "general"
