"""The programs that graftd starts. None outlives it, not even if graftd is killed by force."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field

from core import logs
from core.processes import die_with_parent
from core.settings import Settings
from core.wakeup import Queue

log = logs.get_logger(__name__)
STEADY_SECONDS = 30.0
LONGEST_PAUSE = 30.0


@dataclass
class Program:
    """One program, started again when it ends by itself, with growing pauses."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None
    failures: int = 0
    _began: float = 0.0
    _again_at: float = 0.0

    def start(self) -> None:
        """Start it. Call this from the main thread: the program ends with the thread that started it."""
        parent = os.getpid()
        self.process = subprocess.Popen(  # noqa: S603 -- our own programs, no shell
            self.command,
            env=os.environ | self.environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for graftd, which then stops the others in order
            preexec_fn=lambda: die_with_parent(parent=parent),  # noqa: PLW1509 -- graftd has one thread
        )
        self._began = time.monotonic()
        log.info(f"{self.name} started", pid=self.process.pid)

    def look_after(self) -> None:
        """Start it again if it has ended; call this every so often."""
        now = time.monotonic()
        if self.process is None:
            if now >= self._again_at:
                self.start()
            return
        if self.process.poll() is None:
            return
        self.failures = 1 if now - self._began > STEADY_SECONDS else self.failures + 1
        pause = min(0.25 * 2**self.failures, LONGEST_PAUSE)
        log.warning(f"{self.name} ended", exit_code=self.process.returncode, again_in_seconds=pause)
        self.process, self._again_at = None, now + pause

    def ask_to_end(self) -> None:
        """Send SIGTERM."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def make_end(self, seconds: float) -> None:
        """Wait for the end, and force it after `seconds`; its whole session goes with it."""
        if self.process is None:
            return
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            log.warning(f"{self.name} does not end, killed", pid=self.process.pid)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None


def environment(settings: Settings, broker_url: str) -> dict[str, str]:
    """What every program of one service must agree on."""
    return {
        "GRAFT_DATA_DIR": str(settings.root),
        "GRAFT_DATABASE_URL": settings.resolved_database_url,
        "GRAFT_BROKER_URL": broker_url,
        "GRAFT_HOST": settings.host,
        "GRAFT_PORT": str(settings.port),
    }


def api_command(host: str, port: int) -> list[str]:
    """The API server."""
    return [sys.executable, "-P", "-m", "app.server", "--host", host, "--port", str(port)]


def worker_command(queue: Queue) -> list[str]:
    """One worker process."""
    return [sys.executable, "-P", "-m", "worker", "--queue", queue]
