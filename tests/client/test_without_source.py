"""SDK and command line launch a job without a source: a model of one's own, and a target."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graft import Graft
from graft.cli import main
from tests.client.conftest import DATASET, JOB, MODEL, dataset, job
from tests.client.scripted import Answer, Scripted, serving
from tests.client.test_cli import REPORT, STEPS
from tests.client.test_streams import frame, sse

ALONE = {"method": {"name": "shot"}, "base_model": MODEL, "target": DATASET}


def sent(played: Scripted) -> dict[str, Any]:
    """The body of the job that was launched."""
    found: dict[str, Any] = json.loads(next(one.body for one in played.seen if one.path == "/jobs"))
    return found


def test_the_sdk_takes_a_model_and_a_target(connect: Callable[..., Graft]) -> None:
    launched = Answer(201, job("queued", source=None, target=DATASET, base_model=MODEL))
    with serving({("POST", "/jobs"): [launched]}) as played:
        made = connect(played.url).jobs.create(method="shot", base_model=MODEL, target=DATASET)
        assert (made.source, made.target) == (None, DATASET)
        assert sent(played) == ALONE


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_the_command_line_launches_it(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    launched = Answer(201, job("queued", source=None, target=DATASET, base_model=MODEL))
    with serving({("POST", "/jobs"): [launched]}) as played:
        command = ["--url", played.url, "jobs", "create", "-m", "shot", "-b", MODEL, "--target", DATASET, *arguments]
        with pytest.raises(SystemExit) as ended:
            main(command)
        assert not ended.value.code, capsys.readouterr().err
        assert sent(played) == ALONE


def test_adapt_takes_a_folder_of_the_new_domain_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "a.png").write_bytes(b"x")
    figures = {"metrics": [], "evaluated_on": "nothing", "train_items": 0, "validation_items": 0, "held_out_items": 0}
    script = {
        ("POST", "/datasets"): [Answer(201, dataset("validating"))],
        ("GET", f"/datasets/{DATASET}"): [Answer(200, dataset(items=14, labelled=False))],
        ("POST", "/jobs"): [Answer(201, job("queued", source=None))],
        ("GET", f"/jobs/{JOB}/events"): [sse(*map(frame, STEPS), source=None, model_id=MODEL, metrics={})],
        ("GET", f"/jobs/{JOB}/report"): [Answer(200, REPORT | figures | {"class_table": [], "method": "shot"})],
        ("GET", f"/models/{MODEL}"): [Answer(200, b"bundle")],
    }
    bundle = tmp_path / "out.zip"
    with serving(script) as played:
        command = ["--url", played.url, "adapt", "--target", str(tmp_path / "new"), "-b", MODEL, "-m", "shot"]
        with pytest.raises(SystemExit) as ended:
            main([*command, "-o", str(bundle)])
        said = capsys.readouterr()
        assert not ended.value.code, said.err
        assert sent(played) == ALONE
        assert "not measured" in said.out
        assert bundle.read_bytes() == b"bundle"
        with pytest.raises(SystemExit) as ended:
            main(["--url", played.url, "adapt", "-b", MODEL])
        assert ended.value.code == 2
        assert "--target" in capsys.readouterr().err
