"""The walls of the house: who may import whom, and that the API stays free of torch."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "torchvision", "timm", "sklearn", "scipy")


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after `statement`."""
    code = f"{statement}\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(run.stdout.split())


def test_imports_keep_to_the_rules() -> None:
    run = subprocess.run([Path(sys.executable).parent / "lint-imports"], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stdout
    assert "0 broken" in run.stdout


@pytest.mark.parametrize("module", ["app.main", "graftd.cli", "core.store.store", "core.modality.ingest", "graft.cli"])
def test_program_starts_without_torch(module: str) -> None:
    loaded = loaded_by(f"import {module}")
    assert module.split(".", maxsplit=1)[0] in loaded
    assert not loaded.intersection(HEAVY)


def test_the_torch_check_can_fail() -> None:
    assert "torch" in loaded_by("import torch")


def test_client_imports_nothing_of_the_server() -> None:
    assert not loaded_by("import graft.cli").intersection({"core", "app", "worker", "graftd", "migrations"})
