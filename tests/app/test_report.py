"""The report of a job: JSON for programs, a self-contained page for people."""

import base64
import io
import itertools
import re
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from app.reports import words
from app.reports.confusion import confusion_chart, worst_pairs
from app.reports.lines import curve_charts
from app.reports.page import Extras, render
from app.reports.svg import columns, shorten, ticks
from core.contract.base import new_id, now
from core.contract.datasets import Dataset, DatasetManifest, DatasetReport, Item
from core.contract.errors import JobError
from core.contract.jobs import JobSpec
from core.contract.reports import ClassRow, Metric, Report
from core.store import datasets, jobs
from core.store.store import Store
from tests.app.bundles import make_bundle, put
from tests.app.sample_reports import sample_report
from tests.builders import image_bytes

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"}
EVIL = ["<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "{{ 7 * 7 }}", "</style>", "a&b"]


class Page(HTMLParser):
    """What a page is made of; complains about tags that do not match."""

    VOID = frozenset({"meta", "img", "br", "link"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset")]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words)).replace(words.SPACE, " ")


def finished(store: Store, report: Report, source: str | None = None, **spec: Any) -> str:
    """A job that succeeded with that report."""
    asked = JobSpec(source=source or new_id("ds"), **spec)
    sha256 = store.blobs.put(report.model_dump_json().encode())
    with store.db.write() as tx:
        jobs.add(tx, "default", report.job_id, asked)
        claim = jobs.claim_next(tx, "worker", 60)
        assert claim is not None
        jobs.transition(
            tx, report.job_id, "succeeded", fence=claim.fence, report_sha256=sha256, model_id=report.model_id
        )
    return f"/jobs/{report.job_id}/report"


def data_set(store: Store, names: list[str], *, split: str = "test") -> str:
    """A ready data set of small images; every other one is deflated."""
    content, items = bytearray(), []
    for i, name in enumerate(names):
        data = image_bytes(i, (60, 40), i % 4)
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        stored = packer.compress(data) + packer.flush() if i % 2 else data
        place = {"offset": len(content), "length": len(stored), "size": len(data), "deflated": bool(i % 2)}
        items.append(Item(name=name, label=0, split=split, sha256=words_sha(data), **place))  # type: ignore[arg-type]
        content += stored
    manifest = DatasetManifest(
        modality="image", content_sha256=store.blobs.put(bytes(content)), classes=["a", "b"], items=items
    )
    dataset_id = new_id("ds")
    record = Dataset(
        id=dataset_id, name="Früchte <i>", state="validating", bytes=1, sha256=words_sha(b"upload"), created_at=now()
    )
    found = DatasetReport(files=1, items=len(items), labelled=True, split_source="given", seed=0, seconds=0.1)
    with store.db.write() as tx:
        datasets.add(tx, "default", record, seed=0)
        claim = datasets.claim_next(tx, "worker", 60)
        assert claim is not None
        datasets.mark_ready(tx, claim.fence, manifest, store.blobs.put(manifest.model_dump_json().encode()), found)
    return dataset_id


def words_sha(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


def test_programs_get_json(sqlite_client: TestClient, sqlite_store: Store) -> None:
    report = sample_report(4)
    path = finished(sqlite_store, report)
    for headers in ({}, {"Accept": "application/json"}, {"Accept": "*/*"}):
        reply = sqlite_client.get(path, headers=headers)
        assert reply.headers["content-type"] == "application/json"
        assert reply.headers["vary"] == "Accept"
        assert Report.model_validate(reply.json()) == report


def test_browsers_get_a_page_that_needs_nothing_else(sqlite_client: TestClient, sqlite_store: Store) -> None:
    path = finished(sqlite_store, sample_report(4))
    reply = sqlite_client.get(path, headers=BROWSER)
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    policy = reply.headers["content-security-policy"]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert reply.headers["vary"] == "Accept"
    page = Page(reply.text)
    assert not {"script", "link", "iframe", "object", "a"} & set(page.tags)
    assert not re.findall(r"url\(|@import", reply.text)
    assert page.links == []


def test_a_job_without_report_says_why(sqlite_client: TestClient, sqlite_store: Store) -> None:
    job_id = new_id("job")
    with sqlite_store.db.write() as tx:
        jobs.add(tx, "default", job_id, JobSpec(source=new_id("ds")))
    body = sqlite_client.get(f"/jobs/{job_id}/report", headers=BROWSER).json()["error"]
    assert (body["code"], body["details"]["state"]) == ("report_not_ready", "queued")
    assert f"/jobs/{job_id}/events" in body["hint"]
    with sqlite_store.db.write() as tx:
        claim = jobs.claim_next(tx, "worker", 60)
        assert claim is not None
        problem = JobError("The loss is not a number.", code="diverged", hint="Lower the rate.").body()
        jobs.transition(tx, job_id, "failed", fence=claim.fence, error=problem)
    reply = sqlite_client.get(f"/jobs/{job_id}/report")
    body = reply.json()["error"]
    assert (reply.status_code, body["code"]) == (409, "report_not_ready")
    assert body["details"]["error"]["code"] == "diverged"
    assert f"GET /jobs/{job_id}" in body["hint"]


def test_unknown_foreign_and_damaged_reports(sqlite_client: TestClient, sqlite_store: Store) -> None:
    assert sqlite_client.get(f"/jobs/{new_id('job')}/report").json()["error"]["code"] == "job_not_found"
    foreign = new_id("job")
    with sqlite_store.db.write() as tx:
        jobs.add(tx, "other", foreign, JobSpec(source=new_id("ds")))
        jobs.request(tx, "other", foreign, cancel=True)
    assert sqlite_client.get(f"/jobs/{foreign}/report").json()["error"]["code"] == "job_not_found"
    report = sample_report(3)
    path = finished(sqlite_store, report)
    blob = sqlite_store.blob(words_sha(report.model_dump_json().encode()))
    blob.write_bytes(blob.read_bytes().replace(b"apple", b"maple"))
    for headers in ({}, BROWSER):
        reply = sqlite_client.get(path, headers=headers)
        assert (reply.status_code, reply.json()["error"]["code"]) == (500, "corrupt_blob")
    blob.unlink()
    assert sqlite_client.get(path).json()["error"]["code"] == "corrupt_blob"


def test_mistakes_are_shown_while_the_data_set_exists(sqlite_client: TestClient, sqlite_store: Store) -> None:
    names = [f"test/<b>item</b> {i}.png" for i in range(400)]
    report = sample_report(4, items=400, item_names=names)
    source = data_set(sqlite_store, names)
    path = finished(sqlite_store, report, source)
    page = Page(sqlite_client.get(path, headers=BROWSER).text)
    assert len(page.links) == 12 == page.tags.count("img")
    for link in page.links:
        kind, _, data = link.partition(",")
        assert kind == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            assert picture.size == (60, 40)
    assert "Früchte <i>" in page.text
    assert "b" not in page.tags
    content = sqlite_store.blob(datasets_content(sqlite_store, source))
    content.write_bytes(content.read_bytes()[:100])
    assert Page(sqlite_client.get(path, headers=BROWSER).text).links == []
    assert sqlite_client.delete(f"/datasets/{source}").status_code == 204
    page = Page(sqlite_client.get(path, headers=BROWSER).text)
    assert page.links == []
    assert report.mistakes[0].name in page.text


def datasets_content(store: Store, dataset_id: str) -> str:
    with store.db.read() as tx:
        blobs = datasets.blobs(tx, "default", dataset_id)
    assert blobs is not None
    return blobs.content_sha256


def test_mistakes_come_from_the_split_that_was_measured(sqlite_client: TestClient, sqlite_store: Store) -> None:
    names = [f"item {i}" for i in range(300)]
    report = sample_report(4, items=300, item_names=names)
    trained = data_set(sqlite_store, names, split="train")
    assert Page(sqlite_client.get(finished(sqlite_store, report, trained), headers=BROWSER).text).links == []
    other = sample_report(4, items=300, item_names=names).model_copy(update={"evaluated_on": "evaluation_dataset"})
    evaluation = data_set(sqlite_store, names, split="train")
    path = finished(sqlite_store, other, trained, evaluation=evaluation)
    assert len(Page(sqlite_client.get(path, headers=BROWSER).text).links) == 12


def test_the_page_tells_how_to_call_a_model_that_exists(sqlite_client: TestClient, sqlite_store: Store) -> None:
    model = put(sqlite_store, make_bundle()).model
    report = sample_report(3).model_copy(update={"model_id": model.id})
    path = finished(sqlite_store, report)
    assert f"http://127.0.0.1/models/{model.id}/predict" in Page(sqlite_client.get(path, headers=BROWSER).text).text
    assert sqlite_client.delete(f"/models/{model.id}").status_code == 204
    assert "How to call" not in Page(sqlite_client.get(path, headers=BROWSER).text).text


def test_what_users_named_is_only_ever_text() -> None:
    named = [f"{name} {i}" for i, name in enumerate(EVIL * 8)]
    checked = 0
    for classes in (named[:5], named[:20], named):
        report = sample_report(names=classes).model_copy(update={"base_model": EVIL[0], "notes": EVIL})
        extras = Extras(source=EVIL[0], evaluation=EVIL[1], url=f"http://x/{EVIL[1]}", pictures={})
        text = render(report, extras)
        page = Page(text)
        assert not {"script", "img"} & set(page.tags)
        assert "49 2" not in page.text
        assert page.tags.count("style") == 1
        assert EVIL[0] in page.text
        checked += all(name in page.text for name in classes[:3])
    assert checked == 3


@pytest.mark.parametrize("classes", [1, 2, 3, 10, 30, 31, 60, 100])
@pytest.mark.parametrize("axis", ["epoch", "log10"])
def test_every_size_of_report_has_a_page(classes: int, axis: str) -> None:
    report = sample_report(classes, items=30 * classes, axis=axis)
    text = render(report, Extras())
    page = Page(text)
    pictures = list(svgs(text))
    assert len(pictures) == (5 if axis == "epoch" or report.curve else 3)
    assert len(text) < 400_000
    accuracy = words.metric(report, "accuracy")
    assert accuracy is not None
    assert words.percent(accuracy.value).replace(words.SPACE, " ") in page.text
    assert ("Confused most often" in page.text) == (classes > 12)


def svgs(text: str) -> Iterator[ElementTree.Element]:
    """Every picture, checked: well-formed, with finite places inside its own box."""
    for match in re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL):
        picture = ElementTree.fromstring(match)
        _, _, width, height = map(float, picture.attrib["viewBox"].split())
        boxes = [(e.attrib, e.tag) for e in picture.iter() if e.tag in ("rect", "circle", "text", "line")]
        assert boxes
        for attributes, tag in boxes:
            x = float(attributes.get("x", attributes.get("cx", attributes.get("x1", "0"))))
            y = float(attributes.get("y", attributes.get("cy", attributes.get("y1", "0"))))
            assert -0.5 <= x <= width + 0.5, (tag, attributes)
            assert -0.5 <= y <= height + 0.5, (tag, attributes)
        yield picture


def test_a_report_with_next_to_nothing_still_has_a_page() -> None:
    bare = sample_report(2, items=40).model_copy(
        update={"curve": [], "mistakes": [], "steps": [], "notes": [], "class_table": [], "metrics": []}
    )
    bare = bare.model_copy(update={"calibration": bare.calibration.model_copy(update={"bins": []})})
    assert "no accuracy" in Page(render(bare, Extras())).text
    flat = sample_report(2).model_copy(update={"curve": sample_report(2).curve[:1]})
    assert len(list(svgs(render(flat, Extras())))) == 5


def test_the_matrix_shows_every_count() -> None:
    classes, matrix = ["a", "b", "c"], [[11, 2, 0], [0, 13, 3], [4, 0, 17]]
    picture = ElementTree.fromstring(str(confusion_chart(classes, matrix)))
    counts = [e.text for e in picture.iter("text") if e.attrib["class"].startswith("count")]
    assert counts == ["11", "2", "13", "3", "4", "17"]
    titles = [e.text for e in picture.iter("title")]
    assert "a → b: 2 (15.4\N{NARROW NO-BREAK SPACE}%)" in titles
    right = [e for e in picture.iter("rect") if e.attrib["class"] == "right"]
    assert len(right) == 3


def test_worst_pairs_come_first() -> None:
    pairs = worst_pairs(["a", "b", "c"], [[5, 2, 0], [0, 5, 2], [7, 0, 1]])
    assert [(p.truth, p.predicted, p.count) for p in pairs] == [("c", "a", 7), ("a", "b", 2), ("b", "c", 2)]
    assert pairs[0].share == pytest.approx(7 / 8)


def test_a_matrix_with_too_many_cells_is_left_out() -> None:
    n = 150
    assert confusion_chart([str(i) for i in range(n)], [[1] * n for _ in range(n)]) is None


@pytest.mark.parametrize(
    ("share", "decimals", "shown"),
    [(1, 1, "100.0"), (0.9999, 1, "99.9"), (0.997, 0, "99"), (0, 1, "0.0"), (0.5, 0, "50"), (0.12345, 1, "12.3")],
)
def test_percentages(share: float, decimals: int, shown: str) -> None:
    assert words.percent(share, decimals) == f"{shown}{words.SPACE}%"


def accuracy(value: float, low: float | None, n: int) -> Metric:
    return Metric(name="accuracy", value=value, low=low, high=low and 1.0, interval=low and "wilson", n=n)


def test_the_headline_says_what_the_figure_is_worth() -> None:
    report = sample_report(2, names=["cat", "dog"]).model_copy(update={"confusion": [[60, 0], [40, 0]]})
    poor = report.model_copy(update={"metrics": [accuracy(0.62, 0.55, 100)]})
    assert "not measurably better" in " ".join(words.headline(poor))
    good = report.model_copy(update={"metrics": [accuracy(0.9, 0.8, 40)]})
    said = " ".join(words.headline(good)).replace(words.SPACE, " ")
    assert "names 36 correctly" in said
    assert "“cat”, the commonest class, would be right for 60.0 %." in said
    even = good.model_copy(update={"confusion": [[10, 0], [0, 10]]})
    assert "Always answering with the same class would be right" in " ".join(words.headline(even))


def test_the_curve_in_words() -> None:
    report = sample_report(3)
    best = min(report.curve, key=lambda point: point.validation_loss or 9)
    assert f"lowest at epoch {best.x:g} of 12" in words.learning(report, best.x)
    rising = [point.model_copy(update={"validation_loss": 0.1 + 0.1 * point.x}) for point in report.curve]
    assert "overfit" in words.learning(report.model_copy(update={"curve": rising}), 1.0)
    path = sample_report(3, axis="log10")
    assert "λ = 0.001 " in words.learning(path, -3.0)
    assert "λ = 3.8 × 10⁻⁷ " in words.learning(path, -6.42)
    assert "λ = 10 " in words.learning(path, 1.0)


def test_a_flat_curve_looks_flat() -> None:
    report = sample_report(3)
    flat = [point.model_copy(update={"validation_accuracy": 1.0}) for point in report.curve]
    accuracy_chart = curve_charts(report.model_copy(update={"curve": flat}))[1]
    marks = [e.text for e in ElementTree.fromstring(str(accuracy_chart)).iter("text") if "%" in (e.text or "")]
    assert [(mark or "").replace(words.SPACE, "") for mark in marks] == ["90.0%", "92.5%", "95.0%", "97.5%", "100.0%"]


def test_classes_in_words() -> None:
    row = ClassRow(name="a", support=4, precision=1, recall=1, f1=1)
    weak = row.model_copy(update={"name": "b", "recall": 0.25})
    unseen = row.model_copy(update={"name": "c", "support": 0, "recall": 0.0})
    assert words.classes([row, row]) == "Every held-out item of every class is recognised."
    assert "“b”" in words.classes([row, weak])
    assert "1 class has no held-out item" in words.classes([row, weak, unseen])
    assert words.classes([row]) == ""


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "–"), (0.0214, "21 ms"), (4.2, "4.2 s"), (600.0, "10.0 min"), (8000, "2.2 h")]
)
def test_durations(value: float | None, shown: str) -> None:
    assert words.seconds(value).replace(words.SPACE, " ") == shown


@given(low=st.floats(-1e6, 1e6), span=st.floats(1e-3, 1e6), count=st.integers(2, 10))
def test_ticks_cover_the_range_in_even_steps(low: float, span: float, count: int) -> None:
    marks = ticks(low, low + span, count)
    assert marks[0] <= low + 1e-5 * span + 1e-9
    assert marks[-1] >= low + span - 1e-5 * span - 1e-9
    assert 2 <= len(marks) <= 2 * count + 3
    steps = [b - a for a, b in itertools.pairwise(marks)]
    assert max(steps) == pytest.approx(min(steps), rel=1e-4, abs=1e-9)


@given(st.text(max_size=60), st.integers(5, 40))
def test_names_are_cut_to_fit(name: str, limit: int) -> None:
    short = shorten(name, limit)
    assert columns(short) <= limit
    assert (short == name) == (columns(name) <= limit)
