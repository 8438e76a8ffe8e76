"""The engine alone on the command line."""

import json
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from core.contract.reports import Report
from tests.builders import folder_files
from tests.engine.jobs import TINY, Workshop
from worker.engine.__main__ import SUSPENDED, main

TUNE = {"freeze": "all", "augmentation": "none", "head_start": False, "early_stop": None, "batch_size": 8}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return Workshop(tmp_path_factory.mktemp("cli"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    for name, data in folder_files({"cat": 20, "dog": 20}).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def arguments(shop, folder, out, *more):
    places = ["--weights", str(shop.weights), "--cache", str(shop.root / "cache"), "--device", "cpu", "--threads", "1"]
    return ["--source", str(folder), "--base-model", TINY, "--out", str(out), *places, *more]


def test_a_folder_becomes_a_model(shop, folder, tmp_path, capsys):
    assert main(arguments(shop, folder, tmp_path)) == 0
    said = capsys.readouterr().out
    assert "accuracy" in said
    assert "2 classes; 34 training" in said
    report = Report.model_validate_json((tmp_path / "report.json").read_bytes())
    assert f"accuracy   {report.metrics[0].value:.4f}" in said
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        assert json.loads(archive.read("manifest.json"))["classes"] == ["cat", "dog"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.zip", "report.json"]


def test_a_folder_of_a_new_domain_is_adapted_to(shop, folder, tmp_path, capsys):
    new = tmp_path / "new"
    new.mkdir()
    for path in sorted(folder.rglob("*.png")):
        (new / f"{path.parent.name}-{path.name}").write_bytes(path.read_bytes())
    method = ["--method", "prototype_self_training", "--target", str(new)]
    assert main(arguments(shop, folder, tmp_path / "flat", *method)) == 0
    report = Report.model_validate_json((tmp_path / "flat" / "report.json").read_bytes())
    assert report.evaluated_on == "test_split"  # these items have no labels
    assert main(arguments(shop, folder, tmp_path / "sorted", *method[:3], str(folder))) == 0
    report = Report.model_validate_json((tmp_path / "sorted" / "report.json").read_bytes())
    assert (report.evaluated_on, report.held_out_items) == ("target", 40)
    told = ["--target-labels", "none"]
    assert main(arguments(shop, folder, tmp_path / "none", *method[:3], str(folder), *told)) == 0
    report = Report.model_validate_json((tmp_path / "none" / "report.json").read_bytes())
    assert report.evaluated_on == "test_split"
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(arguments(shop, folder, tmp_path, "--target-labels", "all"))
    assert "invalid choice: 'all'" in capsys.readouterr().err


def test_a_model_is_adapted_without_what_it_learnt_from(shop, folder, tmp_path, capsys):
    assert main(arguments(shop, folder, tmp_path / "first")) == 0
    bundle = tmp_path / "first" / "model.zip"
    shot = ["--method", "shot", "--options", '{"epochs": 2}', "--target", str(folder)]
    command = [*arguments(shop, folder, tmp_path / "then", *shot)[2:], "--base-model", str(bundle)]
    assert main(command) == 0
    report = Report.model_validate_json((tmp_path / "then" / "report.json").read_bytes())
    assert (report.method, report.evaluated_on, report.classes) == ("shot", "target", ["cat", "dog"])
    capsys.readouterr()
    assert main([*command[:-1], str(tmp_path / "none.zip")]) == 1
    assert "no_such_file" in capsys.readouterr().err
    assert main([*command[:-1], TINY]) == 1
    assert "own_model_required" in capsys.readouterr().err


def test_a_second_run_on_the_same_folder_comes_from_the_cache(shop, folder, tmp_path, capsys):
    assert main(arguments(shop, folder, tmp_path, "--evaluation", str(folder))) == 0
    capsys.readouterr()
    assert main(arguments(shop, folder, tmp_path, "--options", '{"solver": "lbfgs"}')) == 0
    assert "from cache" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--options", '{"solvr": "ridge"}'], "Did you mean solver?"),
        (["--options", "nonsense"], "not a JSON object"),
        (["--options", '{"regularisation": "much"}'], "regularisation"),
        (["--source", "no/such/folder"], "no_such_file"),
        (["--method", "prototype_self_training", "--target", "no/such/folder"], "no_such_file"),
        (["--method", "fine_tune", "--options", '{"freeze": "layer7"}'], "layer1"),
        (["--base-model", "timm:test_resent"], "test_resnet"),
    ],
)
def test_mistakes_are_told_without_a_traceback(shop, folder, tmp_path, capsys, more, said):
    assert main(arguments(shop, folder, tmp_path, *more)) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "term"])
def test_a_signal_suspends_and_resume_goes_on(shop, folder, tmp_path, capsys, number):
    options = ["--method", "fine_tune", "--options", json.dumps(TUNE | {"epochs": 250})]
    command = [sys.executable, "-u", "-m", "worker.engine", *arguments(shop, folder, tmp_path, *options)]
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        for line in process.stdout:
            if line.startswith("  epoch 2"):
                process.send_signal(number)
                break
        _, said = process.communicate(timeout=120)
    assert process.returncode == SUSPENDED
    path = Path(said.split("--resume ")[1].strip())
    assert [part for part in tmp_path.iterdir() if part.is_file()] == [path], "only the last checkpoint is kept"
    assert main(arguments(shop, folder, tmp_path, *options, "--resume", str(path.with_name("none")))) == 1
    assert "no_such_file" in capsys.readouterr().err
    assert main(arguments(shop, folder, tmp_path, *options, "--resume", str(path))) == 0
    out = capsys.readouterr().out
    assert "Goes on after step" in out
    assert "epoch 1  " not in out
    assert (tmp_path / "model.zip").is_file()
