"""A whole service as a user starts it: `graftd up` in a folder of its own, embedded broker, real worker."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.common import free_port
from graft import Graft

BIN = Path(sys.executable).parent


@pytest.fixture(scope="session")
def service_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a running service."""
    folder = tmp_path_factory.mktemp("service")
    port = free_port()
    env = os.environ | {"GRAFT_DATA_DIR": str(folder / "data"), "GRAFT_PORT": str(port)}
    up = subprocess.run([BIN / "graftd", "up", "--detach"], env=env, capture_output=True, text=True, timeout=120)
    assert up.returncode == 0, up.stdout + up.stderr
    yield f"http://127.0.0.1:{port}"
    down = subprocess.run([BIN / "graftd", "down"], env=env, capture_output=True, text=True, timeout=60)
    assert down.returncode == 0, down.stdout + down.stderr


@pytest.fixture
def client(service_url: str) -> Iterator[Graft]:
    """The SDK on the running service."""
    with Graft(service_url) as value:
        yield value
