"""Keys and tenants from the command line on the server, and the refusal to listen to everybody without a key."""

import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import pytest

GRAFTD = [sys.executable, "-P", "-m", "graftd"]
SECRET = re.compile(r"graft_[0-9a-z]{8}_[A-Za-z0-9_-]{43}\n")
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """A service of its own; what it stores is tried on either database elsewhere, here once."""
    found = {key: value for key, value in os.environ.items() if not key.startswith("GRAFT_")}
    found |= {"GRAFT_DATA_DIR": str(tmp_path / "data"), "OMP_NUM_THREADS": "1"}
    if getattr(request, "param", "sqlite") == "postgresql":
        found["GRAFT_DATABASE_URL"] = request.getfixturevalue("postgres_url")
    return found


@pytest.fixture
def graftd(environment: dict[str, str]) -> Run:
    """Runs the command."""

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run([*GRAFTD, *arguments], env=environment, capture_output=True, text=True, timeout=120)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return run


def made(done: "subprocess.CompletedProcess[str]") -> tuple[str, str]:
    """Id and secret of a key just made: the secret alone on standard output."""
    assert done.returncode == 0, done.stderr
    assert SECRET.fullmatch(done.stdout), done.stdout
    found = re.match(r"key_[0-9a-z]{26}", done.stderr)
    assert found
    return found[0], done.stdout.strip()


@pytest.mark.parametrize("environment", ["sqlite", "postgresql"], indirect=True)
def test_the_life_of_a_key(graftd: Run) -> None:
    first, secret = made(graftd("keys", "create", "--name", "ops", "--scope", "admin", "--expires-in-days", "3"))
    second, _ = made(graftd("keys", "create", "--name", "reader", "--scope", "read"))
    third, newer = made(graftd("keys", "rotate", first, "--grace-seconds", "60"))
    assert graftd("keys", "revoke", second).returncode == 0
    listed = graftd("keys", "list")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == [third, second, first]
    assert re.search(rf"{second} .* read .* revoked .*reader", listed.stdout)
    assert re.search(rf"{third} .* admin .* active .*ops", listed.stdout)
    assert secret not in listed.stdout + listed.stderr
    assert newer != secret
    ended = graftd("keys", "rotate", second)
    assert (ended.returncode, "has ended" in ended.stderr) == (1, True)
    never = graftd("keys", "revoke", "key_nonsense")
    assert (never.returncode, "graftd keys list" in never.stderr) == (1, True)
    assert graftd("keys", "create", "--name", " ").returncode == 2
    assert graftd("keys", "create", "--name", "x", "--scope", "owner").returncode == 2


def test_the_life_of_a_tenant(graftd: Run) -> None:
    refused = graftd("keys", "create", "--name", "x", "--tenant", "blue")
    assert refused.returncode == 1
    assert "graftd tenants create blue" in refused.stderr
    assert graftd("tenants", "create", "blue", "--quota-bytes", "1000", "--quota-running", "2").returncode == 0
    assert "already" in graftd("tenants", "create", "blue").stderr
    made(graftd("keys", "create", "--name", "x", "--tenant", "blue"))
    assert "queued 5" in graftd("tenants", "set", "blue", "--quota-queued", "5", "--quota-bytes", "none").stdout
    listed = graftd("tenants", "list").stdout
    assert re.search(r"default +bytes as set for all", listed)
    assert re.search(r"blue +bytes as set for all +queued 5 +running 2", listed)
    assert "graftd tenants create red" in graftd("tenants", "set", "red").stderr
    for name in ("Blue", "-x", "a b", "x" * 65):
        assert graftd("tenants", "create", "--", name).returncode == 1, name
    assert graftd("tenants", "set", "blue", "--quota-running", "0").returncode == 2
    assert graftd("tenants", "set", "blue", "--quota-bytes", "many").returncode == 2


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_nobody_listens_to_the_world_without_a_key(graftd: Run, host: str) -> None:
    assert graftd("migrate").returncode == 0
    refused = graftd("api", "--host", host, "--port", "0")
    assert refused.returncode == 1
    assert f"{host} is not a loopback address" in refused.stderr
    assert "graftd keys create --name admin --scope admin" in refused.stderr
    key, _ = made(graftd("keys", "create", "--name", "x"))
    assert graftd("keys", "revoke", key).returncode == 0
    assert graftd("api", "--host", host, "--port", "0").returncode == 1  # a key that nobody can use any more


def test_up_refuses_too_and_a_new_database_is_told_as_one(graftd: Run) -> None:
    fresh = graftd("api", "--host", "0.0.0.0", "--port", "0")
    assert fresh.returncode == 1
    assert "graftd migrate" in fresh.stderr
    for detach in ([], ["--detach"]):
        refused = graftd("up", "--host", "0.0.0.0", "--port", "0", *detach)
        assert refused.returncode == 1
        assert "graftd keys create --name admin --scope admin" in refused.stderr


def test_with_a_key_the_api_listens_to_all_and_lets_its_holder_in(graftd: Run, environment: dict[str, str]) -> None:
    _, secret = made(graftd("keys", "create", "--name", "admin", "--scope", "admin"))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    api = subprocess.Popen([*GRAFTD, "api", "--host", "0.0.0.0", "--port", str(port)], env=environment)
    try:
        deadline = monotonic() + 60
        while status(port, "/healthz") != 200:
            assert api.poll() is None
            assert monotonic() < deadline
            sleep(0.1)
        assert status(port, "/jobs") == 401
        assert status(port, "/jobs", secret) == 200
    finally:
        api.terminate()
        api.wait(30)


def status(port: int, path: str, secret: str | None = None) -> int:
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except OSError:
        return 0
