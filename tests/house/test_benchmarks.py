"""Benchmarks that start processes of their own run there, where nothing else has imported what they need."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.common import Table


@pytest.mark.parametrize("name", ["label_shift", "tca"])
def test_a_fit_at_scale_runs_in_a_process_of_its_own(name: str) -> None:
    command = [sys.executable, "-m", "benchmarks.domain_parts", "--fit", name, "--items", "100"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["seconds"] > 0
    assert 0.05 < told["gigabytes"] < 4


def test_figures_of_numpy_are_written_as_others(tmp_path: Path) -> None:
    table = Table("figures")
    table.add("met", np.float32(0.5), ">= 0.5", "points")
    table.add("missed", np.float64(2), "< 1")
    assert table.finish(tmp_path / "rows.json") == 1
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert [(row["name"], row["value"], row["ok"]) for row in rows] == [("met", 0.5, True), ("missed", 2.0, False)]
