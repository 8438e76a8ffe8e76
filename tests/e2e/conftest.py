"""A whole service as a user starts it: `graftd up` in a folder of its own, embedded broker, real worker."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.common import free_port
from graft import Graft

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Service:
    """A running service: its address and its data folder."""

    url: str
    root: Path


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A running service."""
    root = tmp_path_factory.mktemp("service") / "data"
    port = free_port()
    env = os.environ | {"GRAFT_DATA_DIR": str(root), "GRAFT_PORT": str(port)}
    up = subprocess.run([BIN / "graftd", "up", "--detach"], env=env, capture_output=True, text=True, timeout=120)
    assert up.returncode == 0, up.stdout + up.stderr
    yield Service(f"http://127.0.0.1:{port}", root)
    down = subprocess.run([BIN / "graftd", "down"], env=env, capture_output=True, text=True, timeout=60)
    assert down.returncode == 0, down.stdout + down.stderr


@pytest.fixture(scope="session")
def service_url(service: Service) -> str:
    """Address of a running service."""
    return service.url


@pytest.fixture
def client(service_url: str) -> Iterator[Graft]:
    """The SDK on the running service."""
    with Graft(service_url) as value:
        yield value
