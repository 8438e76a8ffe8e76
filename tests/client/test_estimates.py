"""A price before the bill: the SDK's and the command line's view of `POST /jobs?dry_run=true`."""

import json
from typing import Any

import pytest

from graft import Graft
from graft.cli import main
from tests.client.scripted import Answer, serving

SOURCE = "ds_" + "0" * 26
FIGURE = {"expected": 90.0, "low": 60.0, "high": 150.0, "actual": None}
REPLY: dict[str, Any] = {
    "object": "dry_run",
    "valid": True,
    "method": {"name": "fine_tune", "epochs": 3},
    "base_model": "resnet18",
    "note": "The workers are busy.",
    "estimate": {
        "seconds": FIGURE,
        "memory_bytes": {"expected": 2e9, "low": 1.5e9, "high": 2.5e9},
        "disk_bytes": {"expected": 9e7, "low": 8e7, "high": 1e8},
        "parts": {"train": 80.0, "evaluate": 0.001},
        "basis": "measured",
        "device": "cpu: x, 2 threads",
        "fits": False,
        "advice": ["Would fit with `method.batch_size` 8: about 1.20 GiB."],
        "made_at": "2026-01-01T00:00:00Z",
    },
}


def test_an_estimate_is_asked_for_with_the_jobs_own_body() -> None:
    with serving({("POST", "/jobs"): [Answer(200, REPLY)]}) as service:
        found = Graft(service.url).jobs.estimate(SOURCE, method="fine_tune", epochs=3, base_model="resnet18")
        seen = service.seen[0]
    assert seen.query == "dry_run=true"
    assert "idempotency-key" not in {name.lower() for name in seen.headers}
    body = {"source": SOURCE, "method": {"name": "fine_tune", "epochs": 3}, "base_model": "resnet18"}
    assert json.loads(seen.body) == body
    assert (found.estimate.seconds.expected, found.estimate.fits, found.note) == (90.0, False, "The workers are busy.")


def test_the_command_line_shows_it_and_launches_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with serving({("POST", "/jobs"): [Answer(200, REPLY)]}) as service:
        for more in ([], ["--json"]):
            with pytest.raises(SystemExit) as ended:
                main(["--url", service.url, "jobs", "create", "--source", SOURCE, "--dry-run", *more])
            assert not ended.value.code
            out, err = capsys.readouterr()
            if more:
                assert json.loads(out)["estimate"]["advice"] == REPLY["estimate"]["advice"]
            else:
                for said in ("1 min 30 s", "steps timed on the device", "2 threads", "fits"):
                    assert said in out
                assert "batch_size" in err
        assert {seen.query for seen in service.seen} == {"dry_run=true"}
