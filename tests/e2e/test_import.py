"""A model moves from one service to another: the same answers, and the start of a new job."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from benchmarks.common import free_port
from graft import Graft, ImportRejectedError
from graft.cli import main
from tests.builders import digits_zip, image_bytes
from tests.e2e.conftest import BIN, Service
from tests.engine.jobs import TINY, tiny_state


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Another running service, with nothing in it."""
    root, port = tmp_path_factory.mktemp("other") / "data", free_port()
    env = os.environ | {"GRAFT_DATA_DIR": str(root), "GRAFT_PORT": str(port)}
    up = subprocess.run([BIN / "graftd", "up", "--detach"], env=env, capture_output=True, text=True, timeout=180)
    assert up.returncode == 0, up.stdout + up.stderr
    yield Service(f"http://127.0.0.1:{port}", root)
    subprocess.run([BIN / "graftd", "down"], env=env, capture_output=True, timeout=60, check=True)


def test_a_model_goes_to_another_service_and_answers_the_same(client: Graft, other: Service, tmp_path: Path) -> None:
    data = client.datasets.wait(client.datasets.upload(digits_zip(limit=200)), timeout=120)
    job = client.jobs.wait(client.jobs.create(data, method="linear_probe", base_model="conv4"), timeout=280)
    bundle = client.models.download(str(job.model_id), tmp_path)
    images = [image_bytes(i, label=i % 4) for i in range(6)]
    here = client.models.predict(str(job.model_id), images, top_k=10)
    with Graft(other.url) as there:
        made = there.models.import_(bundle, timeout=280)
        model = there.models.get(str(made.model_id))
        assert (model.metrics, model.method, model.job_id) == ({}, "import", None)
        assert model.manifest["imported"]["origin_model_id"] == job.model_id
        for mine, theirs in zip(
            here.predictions, there.models.predict(model, images, top_k=10).predictions, strict=True
        ):
            known = {score.label: score.probability for score in theirs.top}
            assert mine.label == theirs.label
            assert all(abs(known[score.label] - score.probability) < 1e-4 for score in mine.top)
        again = there.datasets.wait(there.datasets.upload(digits_zip(limit=200)), timeout=120)
        second = there.jobs.wait(there.jobs.create(again, base_model=model), timeout=280)
        assert second.metrics["accuracy"] > 0.7
        assert there.models.get(str(second.model_id)).manifest["lineage"][0] == model.id
    assert not list((other.root / "work").glob("imp_*"))


def test_weights_that_do_not_fit_are_refused_with_all_names(
    other: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.safetensors"
    save_file(tiny_state() | {"evil": torch.zeros(2)}, path)
    with Graft(other.url) as there:
        with pytest.raises(ImportRejectedError) as caught:
            there.models.import_(path, base_model=TINY, timeout=280)
        error = caught.value.entry.error
        assert error is not None
        assert (error.code, error.details["unexpected"]) == ("weights_mismatch", ["evil"])
    assert _exit_code(other.url, path) == 4
    assert "evil" in capsys.readouterr().err
    save_file(tiny_state(), path)
    assert _exit_code(other.url, path) == 0
    assert "import" in capsys.readouterr().out


def _exit_code(url: str, path: Path) -> object:
    with pytest.raises(SystemExit) as ended:
        main(["--url", url, "models", "import", str(path), "--base-model", TINY])
    return ended.value.code
