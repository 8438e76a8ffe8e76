"""The command line: exit codes, one friendly block for errors, JSON, bars, narrow terminals."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from graft._version import __version__
from graft.cli import main
from graft.client import Graft
from tests.client.conftest import DATASET, JOB, MODEL, NOW, dataset, error, event, job
from tests.client.scripted import Answer, Answers, Scripted, Seen, serving
from tests.client.test_streams import frame, sse

Run = Callable[..., tuple[int, str, str]]
EVENTS = f"/jobs/{JOB}/events"
STEPS = [
    event(1, "state", state="queued"),
    event(2, "state", state="running", attempt=2),
    event(3, "step", name="features", state="done", seconds=1.5, note="from cache"),
    event(4, "progress", step="train", fraction=0.5, epoch=1, epochs=2, eta_seconds=61.0),
    event(5, "metric", epoch=1, accuracy=0.875),
    event(6, "message", text="esc\x1b[31m"),
    event(7, "state", state="succeeded"),
]
REPORT = {
    "job_id": JOB,
    "model_id": MODEL,
    "method": "linear_probe",
    "base_model": "tiny",
    "classes": ["a", "b"],
    "evaluated_on": "test_split",
    "train_items": 8,
    "validation_items": 2,
    "held_out_items": 4,
    "metrics": [{"name": "accuracy", "value": 0.75, "low": 0.3, "high": 0.95, "interval": "wilson", "n": 4}],
    "class_table": [{"name": f"c{i}", "support": 4, "precision": 1, "recall": 1, "f1": i / 40} for i in range(40)],
    "confusion": [[2, 0], [1, 1]],
    "calibration": {"temperature": 1.2, "fitted_on": 2, "ece_before": 0.1, "ece_after": 0.05, "bins": []},
    "curve_axis": "epoch",
    "steps": [{"name": "train", "state": "done", "seconds": 2.0}],
    "notes": ["Few items: the interval is wide."],
}
MADE = {"id": MODEL, "job_id": JOB, "base_model": "tiny", "method": "linear_probe", "bytes": 2048, "sha256": "0" * 64}
MADE |= {"classes": ["a", "b"], "metrics": {"accuracy": 0.75}, "created_at": NOW}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command; returns exit code, stdout, stderr."""
    for name in ("GRAFT_URL", "GRAFT_API_KEY", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("graft._retries.Retries.wait", lambda *_: None)
    monkeypatch.setenv("TERM", "dumb")

    def call(*arguments: object, url: str | None = None) -> tuple[int, str, str]:
        options = [] if url is None else ["--url", url]
        with pytest.raises(SystemExit) as ended:
            main([*options, *map(str, arguments)])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def succeeding() -> dict[tuple[str, str], Sequence[Answers]]:
    """A service on which everything goes well."""
    return {
        ("POST", "/datasets"): [Answer(201, dataset("validating"))],
        ("GET", f"/datasets/{DATASET}"): [Answer(200, dataset(items=14, classes=["a", "b"]))],
        ("POST", "/jobs"): [Answer(201, job("queued"))],
        ("GET", EVENTS): [sse(*map(frame, STEPS), model_id=MODEL, metrics={"accuracy": 0.75})],
        ("GET", f"/jobs/{JOB}/report"): [Answer(200, REPORT)],
        ("GET", f"/models/{MODEL}"): [Answer(200, b"bundle")],
        ("POST", f"/models/{MODEL}/predict"): [predict],
    }


def predict(seen: Seen) -> Answer:
    """Answer `a` for every image but those called bad."""
    names = re.findall(rb'filename="([^"]*)"', seen.body)
    top = [{"label": "a", "probability": 0.9}, {"label": "b", "probability": 0.1}]
    good: dict[str, Any] = {"label": "a", "probability": 0.9, "top": top}
    bad: dict[str, Any] = {"error": {"code": "unreadable_image", "message": "It is broken.", "hint": "Save it again."}}
    found: list[dict[str, Any]] = [{"index": i, **(bad if b"bad" in name else good)} for i, name in enumerate(names)]
    return Answer(200, {"model": MODEL, "predictions": found})


def sent_job(service: Scripted) -> Any:
    """The body of the request that launched the job."""
    return json.loads(next(seen.body for seen in service.seen if (seen.method, seen.path) == ("POST", "/jobs")))


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"graft {__version__}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("datasets", "upload", "no-such-folder"),
        ("jobs", "create", "--source", DATASET, "--method", "fine_tune", "--option", "epochs"),
        ("jobs", "create", "--source", DATASET, "--option", "epochs=1"),
        ("jobs", "dance"),
        ("adapt", "no-such-folder"),
        ("--url", "ftp://x", "jobs", "get", "."),
    ],
)
def test_wrong_usage_is_2(run: Run, arguments: tuple[str, ...]) -> None:
    code, out, err = run(*arguments, url="http://127.0.0.1:1")
    assert (code, out) == (2, "")
    assert err
    assert "Traceback" not in err


def test_an_error_of_the_service_is_1_and_one_block(run: Run) -> None:
    wrong = error("unknown_field", param="method.epoch", hint="Did you mean `epochs`?", request_id="req_1")
    with serving({("POST", "/jobs"): [Answer(422, wrong)]}) as service:
        arguments = ("jobs", "create", "--source", DATASET, "--method", "fine_tune", "--option", "epoch=1")
        code, out, err = run(*arguments, url=service.url)
        as_json = run(*arguments, "--json", url=service.url)
    assert (code, out) == (1, "")
    lines = [line.split(maxsplit=1) for line in err.splitlines()]
    assert lines[0] == ["Error:", "About unknown_field."]
    assert ["field:", "method.epoch"] in lines
    assert ["hint:", "Did you mean `epochs`?"] in lines
    assert as_json[:2] == (1, "")
    assert json.loads(as_json[2])["error"]["request_id"] == "req_1"


def test_nobody_there_is_5(run: Run) -> None:
    code, _, err = run("jobs", "list", url="http://127.0.0.1:1")
    assert code == 5
    assert "graftd up" in err


def test_a_rejected_data_set_is_4_with_a_table_of_what_to_do(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x.txt").touch()
    fault = {"code": "no_images", "severity": "error", "count": 2, "message": "No images.", "remedy": "Add some."}
    report = {"faults": [fault | {"examples": ["x.txt"]}], "files": 1, "items": 0, "labelled": False}
    report |= {"split_source": "made", "seed": 0, "seconds": 0.1}
    script = succeeding()
    script["GET", f"/datasets/{DATASET}"] = [Answer(200, dataset("rejected"))]
    script["GET", f"/datasets/{DATASET}/report"] = [Answer(200, report)]
    with serving(script) as service:
        code, out, err = run("datasets", "upload", tmp_path, url=service.url)
        found = json.loads(run("datasets", "upload", tmp_path, "--json", url=service.url)[2])
    assert (code, out) == (4, "")
    assert re.search(r"no_images +error +2 +No images\. E\.g\. x\.txt +Add some\.", err)
    assert found["error"]["faults"][0]["remedy"] == "Add some."


def test_a_failed_job_is_3(run: Run) -> None:
    failure = {"type": "job_failed", "code": "out_of_memory", "message": "No room.", "hint": "Smaller batch_size."}
    with serving({("GET", EVENTS): [sse(state="failed", error=failure)]}) as service:
        code, out, err = run("jobs", "watch", JOB, url=service.url)
        lines = run("jobs", "watch", JOB, "--json", url=service.url)
    assert (code, out) == (3, "")
    assert "out_of_memory" in err
    assert "Smaller batch_size." in err
    assert lines[0] == 3
    assert json.loads(lines[1])["state"] == "failed"


def test_create_sends_what_was_asked_for(run: Run) -> None:
    with serving(succeeding()) as service:
        arguments = ["jobs", "create", "--source", DATASET, "--method", "fine_tune", "--base-model", "resnet18"]
        arguments += ["--option", "epochs=5", "--option", "freeze=layer2", "--option", "early_stop=null"]
        code, out, _ = run(*arguments, "--evaluation", "ds_e", "--seed", 7, "--json", url=service.url)
        body = sent_job(service)
    assert code == 0
    assert json.loads(out)["id"] == JOB
    assert body == {
        "source": DATASET,
        "method": {"name": "fine_tune", "epochs": 5, "freeze": "layer2", "early_stop": None},
        "base_model": "resnet18",
        "evaluation": "ds_e",
        "seed": 7,
    }


def test_watching_in_a_pipe_prints_lines(run: Run) -> None:
    with serving(succeeding()) as service:
        code, out, err = run("jobs", "watch", JOB, url=service.url)
    assert code == 0
    assert "accuracy 0.75" in out
    lines = [line.split(maxsplit=1)[1] for line in err.splitlines()]
    assert lines[:3] == ["queued", "running (attempt 2)", "features: 1.5 s, from cache"]
    assert "epoch 1, accuracy 0.875" in lines
    assert "\x1b" not in err


def test_watching_on_a_terminal_draws_a_bar(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    for columns, shown in (("120", True), ("40", False)):
        monkeypatch.setenv("COLUMNS", columns)
        steps = [frame(step) for step in STEPS[:-1]]
        with serving({("GET", EVENTS): [sse(*steps, model_id=MODEL)]}) as service:
            code, _, err = run("jobs", "watch", JOB, url=service.url)
        assert code == 0
        assert "50%" in err
        assert ("epoch 1/2, accuracy 0.875, 1 min 01 s left" in err) is shown
        assert "esc\x1b[31m" not in err


def test_watching_as_json_gives_one_line_for_each_event(run: Run) -> None:
    with serving(succeeding()) as service:
        code, out, err = run("jobs", "create", "--source", DATASET, "--watch", "--json", url=service.url)
    found = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert [item["seq"] for item in found[:-1]] == [1, 2, 3, 4, 5, 6, 7]
    assert found[-1]["model_id"] == MODEL


def test_ctrl_c_leaves_the_job_running(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with serving(succeeding()) as service:
        with Graft(service.url) as client:
            monkeypatch.setattr(type(client.jobs), "wait", interrupt)
        code, _, err = run("jobs", "watch", JOB, url=service.url)
    assert code == 130
    assert f"graft jobs cancel {JOB}" in err
    assert service.seen == []


def test_the_short_road(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data" / "a").mkdir(parents=True)
    (tmp_path / "data" / "a" / "1.png").write_bytes(b"x")
    (tmp_path / "bad.png").write_bytes(b"x")
    bundle = tmp_path / "m.zip"
    images = ("--predict", tmp_path / "data", "--predict", tmp_path / "bad.png")
    with serving(succeeding()) as service:
        arguments = ("adapt", tmp_path / "data", "--to", DATASET, "--name", "mine", "-o", bundle, *images)
        code, out, err = run(*arguments, url=service.url)
        body = sent_job(service)
    assert code == 0
    assert bundle.read_bytes() == b"bundle"
    assert body == {"source": DATASET, "evaluation": DATASET}
    assert "name=mine" in service.seen[0].query
    assert "0.3000 to 0.9500" in out
    assert "the 30 worst of 40 classes" in out
    assert re.search(r"1\.png +a +90\.0% +b 10\.0%", out)
    assert "It is broken. Save it again." in err
    assert f"curl -F files=@photo.jpg {service.url}/models/{MODEL}/predict" in out


def test_the_short_road_as_one_document(run: Run, tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"x")
    with serving(succeeding()) as service:
        code, out, err = run("adapt", tmp_path, "-o", tmp_path / "m.zip", "--json", url=service.url)
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert found["job"]["model_id"] == MODEL
    assert found["report"]["metrics"][0]["value"] == 0.75
    assert found["bundle"] == str(tmp_path / "m.zip")


def test_the_short_road_to_a_new_domain(run: Run, tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(b"x")
    script = {
        **succeeding(),
        ("GET", f"/datasets/{DATASET}"): [
            Answer(200, dataset(items=14, classes=["a", "b"], labelled=True)),
            Answer(200, dataset(items=30, labelled=False)),
        ],
        ("GET", f"/jobs/{JOB}/report"): [Answer(200, REPORT | {"evaluated_on": "target"})],
    }
    with serving(script) as service:
        folders = (tmp_path / "old", "--target", tmp_path / "new", "--target-labels", "none")
        code, out, err = run("adapt", *folders, "-o", tmp_path / "m.zip", url=service.url)
        body = sent_job(service)
    assert code == 0
    assert body == {"source": DATASET, "target": DATASET, "target_labels": "none"}
    assert [seen.path for seen in service.seen].count("/datasets") == 2
    assert "30 items without labels" in err
    assert "measured on 4 of the target" in " ".join(out.split())


def test_a_report_without_a_model_ends_the_short_road(run: Run, tmp_path: Path) -> None:
    script = {
        **succeeding(),
        ("GET", EVENTS): [sse(*map(frame, STEPS))],
        ("GET", f"/jobs/{JOB}/report"): [Answer(200, REPORT | {"model_id": None})],
    }
    with serving(script) as service:
        arguments = ("adapt", DATASET, "--target", DATASET, "--json")
        code, out, _ = run(*arguments, url=service.url)
    assert code == 0
    assert set(json.loads(out)) == {"source", "target", "job", "report"}
    assert json.loads(out)["report"]["model_id"] is None


def test_a_target_from_the_command_line(run: Run) -> None:
    target = DATASET.replace("1", "2")
    shown = job("queued", target=target, target_labels="few")
    page = Answer(200, {"data": [shown], "has_more": False, "next_cursor": None})
    with serving({("POST", "/jobs"): [Answer(201, shown)], ("GET", "/jobs"): [page]}) as service:
        arguments = ("jobs", "create", "--source", DATASET, "--target", target, "--target-labels", "few")
        code, out, _ = run(*arguments, "--target-base-model", "timm:resnet18", url=service.url)
        body = sent_job(service)
        listed = run("jobs", "list", "--target", target, "--json", url=service.url)
    assert code == 0
    named = {"target_base_model": "timm:resnet18"}
    assert body == {"source": DATASET, "target": target, "target_labels": "few", **named}
    assert target in out
    assert "few" in out
    assert listed[0] == 0
    assert f"target={target}" in service.seen[-1].query


def test_predict_tells_which_image_is_bad(run: Run, tmp_path: Path) -> None:
    for name in ("a.png", "bad.png", ".hidden"):
        (tmp_path / name).write_bytes(b"x")
    with serving(succeeding()) as service:
        code, out, err = run("predict", MODEL, tmp_path, "--top-k", 2, url=service.url)
        found = json.loads(run("predict", MODEL, tmp_path / "a.png", "--json", url=service.url)[1])
    assert code == 1
    assert "a.png" in out
    assert "bad.png: It is broken." in err
    assert found["predictions"][0]["label"] == "a"


LISTS: list[tuple[str, dict[str, Any]]] = [("datasets", dataset()), ("jobs", job(model_id=MODEL)), ("models", MADE)]


@pytest.mark.parametrize(("noun", "item"), LISTS)
def test_lists_fit_wide_narrow_and_no_terminals(
    run: Run, monkeypatch: pytest.MonkeyPatch, noun: str, item: dict[str, Any]
) -> None:
    page = Answer(200, {"data": [item], "has_more": False, "next_cursor": None})
    with serving({("GET", f"/{noun}"): [page, page, page, Answer(200, {"data": []})]}) as service:
        piped = run(noun, "list", url=service.url)
        monkeypatch.setenv("COLUMNS", "40")
        narrow = run(noun, "list", url=service.url)
        raw = run(noun, "list", "--json", url=service.url)
        empty = run(noun, "list", url=service.url)
    assert piped[0] == narrow[0] == empty[0] == 0
    assert item["id"] in piped[1]
    assert f"id {item['id']}" in re.sub(" +", " ", narrow[1])
    assert json.loads(raw[1])["data"][0]["id"] == item["id"]
    assert empty[1] == ""
    assert "graft" in empty[2]


@pytest.mark.parametrize(
    ("arguments", "method", "path", "answer", "shown"),
    [
        (("datasets", "get", DATASET), "GET", f"/datasets/{DATASET}", dataset(), DATASET),
        (("datasets", "delete", DATASET), "DELETE", f"/datasets/{DATASET}", b"", "Deleted"),
        (("jobs", "get", JOB), "GET", f"/jobs/{JOB}", job(), "linear_probe (solver=ridge)"),
        (("jobs", "stop", JOB), "POST", f"/jobs/{JOB}/stop", job("running"), "keep the best"),
        (("jobs", "cancel", JOB), "POST", f"/jobs/{JOB}/cancel", job("cancelled"), "is cancelled"),
        (("jobs", "delete", JOB), "DELETE", f"/jobs/{JOB}", b"", "Deleted"),
        (("jobs", "report", JOB), "GET", f"/jobs/{JOB}/report", REPORT, "Few items"),
        (("models", "get", MODEL), "GET", f"/models/{MODEL}", MADE, "2.0 KiB"),
        (("models", "delete", MODEL), "DELETE", f"/models/{MODEL}", b"", "Deleted"),
    ],
)
def test_single_things(run: Run, arguments: tuple[str, ...], method: str, path: str, answer: Any, shown: str) -> None:
    with serving({(method, path): [Answer(200, answer)]}) as service:
        code, out, err = run(*arguments, url=service.url)
        raw = run(*arguments, "--json", url=service.url)
    assert code == 0
    assert shown in out + err
    assert raw[0] == 0
    assert isinstance(json.loads(raw[1]), dict)


def test_the_report_as_a_page(run: Run, tmp_path: Path) -> None:
    def page(seen: Seen) -> Answer:
        return Answer(200, b"<html>" if seen.headers["accept"] == "text/html" else b"")

    with serving({("GET", f"/jobs/{JOB}/report"): [page]}) as service:
        code, out, _ = run("jobs", "report", JOB, "--html", tmp_path / "r.html", url=service.url)
    assert (code, out.strip()) == (0, str(tmp_path / "r.html"))
    assert (tmp_path / "r.html").read_text() == "<html>"


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_health_says_what_is_missing(run: Run, status: int, code: int) -> None:
    ready = Answer(status, {"status": "x", "checks": {"broker": "unavailable"}})
    with serving({("GET", "/healthz"): [Answer(200, {"status": "ok"})], ("GET", "/readyz"): [ready]}) as service:
        ended, out, _ = run("health", url=service.url)
    assert ended == code
    assert "broker  unavailable" in out
