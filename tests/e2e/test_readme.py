"""The README's quick start, run as it is written."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders import image_bytes

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = dict(re.findall(r"<!-- test: ([\w-]+) -->\n```\w+\n(.*?)```", README, re.DOTALL))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """The folder that the README talks about."""
    for label, name in enumerate(("ants", "bees")):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for i in range(1, 25):
            (folder / f"{name[0]}{i}.jpg").write_bytes(image_bytes(100 * label + i, label=label, format="JPEG"))
    return tmp_path


def run(command: list[str], folder: Path, url: str) -> str:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = os.environ | {"GRAFT_URL": url, "PATH": path, "NO_COLOR": "1"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_readme_has_the_blocks() -> None:
    assert set(BLOCKS) == {"cli", "cli-steps", "sdk", "curl"}


@pytest.mark.parametrize("block", ["cli", "cli-steps", "curl"])
def test_shell_block_runs(block: str, photos: Path, service_url: str) -> None:
    out = run(["bash", "-euo", "pipefail", "-c", BLOCKS[block]], photos, service_url)
    assert "ants" in out
    assert list(photos.glob("*.zip"))


def test_python_block_runs(photos: Path, service_url: str) -> None:
    out = run([sys.executable, "-c", BLOCKS["sdk"]], photos, service_url)
    assert "ants" in out
    assert (photos / "model.zip").stat().st_size > 1_000_000
