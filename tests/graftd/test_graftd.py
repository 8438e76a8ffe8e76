"""The command `graftd`, as a person uses it: real processes, real API, real broker."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import psutil
import pytest

GRAFTD = [sys.executable, "-P", "-m", "graftd"]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def graftd(tmp_path: Path) -> Iterator[Run]:
    """Runs the command on a data folder of its own, and stops what it left running."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GRAFT_")}
    environment |= {"GRAFT_DATA_DIR": str(tmp_path / "da ta"), "GRAFT_PORT": "0", "OMP_NUM_THREADS": "1"}

    def run(*arguments: str, **extra: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*GRAFTD, *arguments], env=environment | extra, capture_output=True, text=True, timeout=120, check=False
        )

    yield run
    run("down")


def family(text: str) -> list[psutil.Process]:
    """The running graftd that `text` names, and all its descendants."""
    found = re.search(r"process (\d+)", text)
    assert found
    process = psutil.Process(int(found[1]))
    return [process, *process.children(recursive=True)]


def test_the_life_of_a_service(graftd: Run) -> None:
    """Up, known to be up, a part dies and comes back, killed by force, up again, down."""
    begun = graftd("up", "--detach")
    assert begun.returncode == 0, begun.stderr
    assert "/docs" in begun.stdout
    told = graftd("status")
    assert told.returncode == 0, told.stdout
    assert re.search(r"worker:jobs\s+ok", told.stdout)
    address = graftd("status", "--address").stdout.strip()
    assert f"ready at {address} (process" in told.stdout
    assert f"export GRAFT_URL={address}\n" in begun.stdout  # its port is not the usual one
    everybody = family(told.stdout)
    assert len(everybody) >= 7  # graftd, broker, API, two workers with a fork server each
    assert "runs already" in graftd("up", "--detach").stdout
    second = graftd("up")
    assert second.returncode == 1
    assert "is in use by graftd with process id" in second.stderr

    next(process for process in everybody if "app.server" in process.cmdline()).kill()
    deadline = monotonic() + 60
    while graftd("status").returncode != 0:
        assert monotonic() < deadline, "the API did not come back"

    everybody = family(graftd("status").stdout)
    everybody[0].send_signal(signal.SIGKILL)
    assert psutil.wait_procs(everybody, 5)[1] == []
    assert graftd("status").returncode == 3
    nowhere = graftd("status", "--address")
    assert (nowhere.returncode, nowhere.stdout) == (3, "")
    assert "does not run" in nowhere.stderr

    assert graftd("up", "--detach").returncode == 0  # nothing that it left is in the way
    began = monotonic()
    everybody = family(graftd("status").stdout)
    command_seconds = monotonic() - began  # of a command that has nothing to wait for
    began = monotonic()
    assert "has stopped" in graftd("down").stdout
    assert monotonic() - began < 8 + 4 * command_seconds
    assert psutil.wait_procs(everybody, 2)[1] == []
    assert "Nothing runs" in graftd("down").stdout


def test_a_port_in_use_is_named(graftd: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = graftd("up", "--port", str(port))
    assert refused.returncode == 1
    assert f"Port {port} on 127.0.0.1" in refused.stderr
    assert f"--port {port + 1}" in refused.stderr


def test_faults_of_the_set_up_are_named(graftd: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cases = {
        ("GRAFT_DATA_DIR", str(tmp_path / "file" / "x")): "cannot be written to",
        ("GRAFT_BROKER_URL", "redis://:secret@127.0.0.1:1/0"): "The broker at redis://:***@127.0.0.1:1/0",
        ("GRAFT_DATABASE_URL", "postgresql+psycopg://me:secret@127.0.0.1:1/x"): "connection",
        ("GRAFT_PORT", "many"): "GRAFT_PORT",
    }
    for (name, value), words in cases.items():
        refused = graftd("up", **{name: value, "GRAFT_SWEEP_SECONDS": "0.2"})
        assert refused.returncode == 1, refused.stderr
        assert words in refused.stderr
        assert "secret" not in refused.stderr
        assert "Traceback" not in refused.stderr
    refused = graftd("worker", "--queues", "jobs,nonsense")
    assert refused.returncode == 1
    assert "nonsense" in refused.stderr


def test_detached_start_that_fails_tells_why(graftd: Run) -> None:
    refused = graftd("up", "--detach", GRAFT_DATABASE_URL="postgresql+psycopg://127.0.0.1:1/x")
    assert refused.returncode == 1
    assert "The database postgresql+psycopg://127.0.0.1:1/x cannot be used" in refused.stderr


def test_migrate_and_workers_alone(graftd: Run, tmp_path: Path) -> None:
    assert graftd("migrate").returncode == 0
    assert graftd("migrate").returncode == 0
    assert (tmp_path / "da ta" / "graft.db").is_file()
    environment = os.environ | {"GRAFT_DATA_DIR": str(tmp_path / "da ta")}
    worker = subprocess.Popen([*GRAFTD, "worker", "--queues", "ingest"], env=environment, stderr=subprocess.PIPE)
    assert worker.stderr is not None
    lines: list[bytes] = []
    while b"worker started" not in b"".join(lines):
        lines.append(worker.stderr.readline())
        assert lines[-1], b"".join(lines).decode()
    worker.terminate()
    worker.stderr.close()
    assert worker.wait(30) == 0
