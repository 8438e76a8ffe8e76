"""Processes that train together: the sums are right, a failure is told, nobody is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from torch import nn

from core.contract.errors import JobError
from worker.engine.recipes.distributed import Team, device_of, team

CPU = torch.device("cpu")


def talk(found: Team, scale: float) -> None:
    """What a helper says: as many gradients as rank 0 asks for."""
    layer = nn.Linear(3, 2)
    found.same(layer.parameters())
    while found.go_on():
        gradients(found, layer, scale)
        found.add_gradients(list(layer.parameters()))
        assert found.total(found.rank) == 1.0
    assert found.text() == "done"


def gradients(found: Team, layer: nn.Linear, scale: float) -> None:
    layer.weight.grad = layer.weight.detach() * (found.rank + 1) * scale
    layer.bias.grad = None  # a part that does not learn


def fail(found: Team, how: str) -> None:
    found.go_on()
    if how == "raise":
        raise ValueError("the disk is on fire")
    os.kill(os.getpid(), signal.SIGKILL)


def helpers() -> list[psutil.Process]:
    return [part for part in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(part.cmdline())]


def test_gradients_are_added_and_all_have_the_same_weights():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    layer = nn.Linear(3, 2)
    with team(2, CPU, talk, 0.5) as found:
        assert len(helpers()) == 1
        found.same(layer.parameters())
        for _ in range(2):
            assert found.go_on()
            gradients(found, layer, 0.5)
            found.add_gradients(list(layer.parameters()))
            torch.testing.assert_close(layer.weight.grad, layer.weight.detach() * 1.5)
            assert layer.bias.grad is None
            assert found.total(found.rank) == 1.0
        assert not found.go_on(False)
        found.text("done")
    assert not helpers()
    assert {number: signal.getsignal(number) for number in before} == before


@pytest.mark.parametrize(("how", "told"), [("raise", "the disk is on fire"), ("kill", "signal 9")])
def test_a_failure_ends_all_with_a_clear_error(how, told):
    with pytest.raises(JobError) as caught, team(2, CPU, fail, how) as found:
        found.go_on()
        found.total(1.0)
    assert caught.value.code == "helper_failed"
    assert told in caught.value.message
    assert not helpers()


def test_an_error_of_rank_0_leaves_nobody_behind():
    with pytest.raises(KeyError), team(2, CPU, talk, 1.0):
        raise KeyError("mine")
    assert not helpers()


JOB = """
import time
import psutil
import torch
from tests.engine.test_recipes_distributed import helpers, talk
from worker.engine.recipes.distributed import team

if __name__ == "__main__":
    with team(2, torch.device("cpu"), talk, 1.0):
        print(helpers()[0].pid, flush=True)
        time.sleep(60)
"""


def test_a_helper_dies_with_the_job(tmp_path):
    """A job that is killed outright takes its helpers with it."""
    script = tmp_path / "job.py"
    script.write_text(JOB)
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=env) as job:
        assert job.stdout is not None
        pid = int(job.stdout.readline())
        job.kill()
    deadline = time.monotonic() + 60
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(pid)


def test_parts_of_a_batch_are_disjoint_and_whole():
    positions = np.arange(11)
    parts = [Team(rank, 3).part(positions) for rank in range(3)]
    np.testing.assert_array_equal(np.concatenate(parts), positions)
    assert [len(part) for part in parts] == [4, 4, 3]


def test_ranks_have_gpus_of_their_own():
    assert device_of(2, torch.device("cuda", 1)) == torch.device("cuda", 3)
    assert device_of(2, CPU) == CPU
