"""The whole service under one roof: `graftd up`, `down` and `status`."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from core.settings import Settings
from core.wakeup import QUEUES
from graftd import books, broker, probes, programs
from graftd.folder import DataFolder, Running
from graftd.problems import ProblemError
from graftd.programs import Program
from graftd.supervisor import MARGIN_SECONDS, Supervisor

USUAL_ADDRESS = "http://127.0.0.1:8000"
"""Where clients look when they are not told."""
DOWN_SECONDS = 20.0
DETACH_SECONDS = 150.0
LOG_BYTES = 10 * 1024 * 1024


def up(settings: Settings, say: Callable[[str], None]) -> None:
    """Run everything until told to stop; `say` is told once the service is ready."""
    folder = DataFolder(settings)
    folder.prepare()
    settings = settings.model_copy(update={"port": probes.free_port(settings.host, settings.port)})
    address = probes.address(settings.host, settings.port)
    folder.take(address)
    supervisor = Supervisor(settings.shutdown_seconds + MARGIN_SECONDS)
    supervisor.catch_signals()
    own: broker.OwnBroker | None = None
    try:
        probes.migrate(settings)
        books.require_key(settings)
        if settings.broker_url is None:
            own = broker.OwnBroker(settings.root)
            own.start()
            supervisor.add(own.program)
        else:
            broker.require(settings, settings.broker_url)
        environment = programs.environment(settings, own.url if own else settings.resolved_broker_url)
        for queue in QUEUES:
            supervisor.add(Program(f"worker-{queue}", programs.worker_command(queue), environment))
        supervisor.add(Program("api", programs.api_command(settings.host, settings.port), environment))
        if supervisor.wait_for(lambda: probes.readiness(address)[0]):
            folder.note(Running(os.getpid(), address, ready=True))
            say(welcome(address, settings.root, stop="Ctrl-C, or graftd down" + _option(settings)))
            supervisor.run()
    finally:
        if own is not None and own.program.process is not None:
            _end(supervisor, own.program)
        else:
            supervisor.stop()
        if own is not None:
            own.clean()
        folder.release()


def _end(supervisor: Supervisor, first: Program) -> None:
    supervisor.stop()
    first.ask_to_end()  # only if it failed before the supervisor knew of it
    first.make_end(2.0)


def welcome(address: str, root: Path, *, stop: str) -> str:
    """What a person wants to know once it runs."""
    elsewhere = () if address == USUAL_ADDRESS else (f"    For clients  export GRAFT_URL={address}",)
    return "\n".join(
        (
            "",
            "  Graft is ready.",
            f"    Address      {address}",
            *elsewhere,
            f"    API docs     {address}/docs",
            f"    Data folder  {root}",
            f"    To stop      {stop}",
            "",
        )
    )


def up_detached(settings: Settings, say: Callable[[str], None]) -> None:
    """Start `graftd up` in the background and return once it is ready (or tell why it is not)."""
    folder = DataFolder(settings)
    folder.prepare()
    running = folder.running()
    if running is None:
        log_file = folder.logs / "graftd.log"
        _rotate(log_file)
        start = log_file.stat().st_size if log_file.exists() else 0
        running = _wait_until_ready(folder, _spawn(settings, log_file), log_file, start)
        say(welcome(running.address, settings.root, stop="graftd down" + _option(settings)))
    else:
        running = _wait_until_ready(folder, None, folder.logs / "graftd.log", 0)
        say(f"Graft runs already at {running.address} (data folder {settings.root}).")


def _spawn(settings: Settings, log_file: Path) -> "subprocess.Popen[bytes]":
    options = ["--host", settings.host, "--port", str(settings.port), "--data-dir", str(settings.root)]
    with log_file.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 -- this very program, no shell
            [sys.executable, "-P", "-m", "graftd", "up", *options],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _wait_until_ready(
    folder: DataFolder, process: "subprocess.Popen[bytes] | None", log_file: Path, start: int
) -> Running:
    deadline = time.monotonic() + DETACH_SECONDS
    while time.monotonic() < deadline:
        running = folder.running()
        if running is not None and running.ready:
            return running
        if process is not None and process.poll() is not None:
            break
        if process is None and running is None:
            break
        time.sleep(0.1)
    if process is not None and process.poll() is None:
        process.terminate()
    with log_file.open("rb") as file:
        file.seek(start)
        tail = file.read()[-4000:].decode(errors="replace").strip()
    raise ProblemError("Graft did not start. Its log says:\n\n" + tail, f"The whole log is {log_file}.")


def _rotate(log_file: Path) -> None:
    with suppress(FileNotFoundError):
        if log_file.stat().st_size > LOG_BYTES:
            log_file.replace(log_file.with_suffix(".log.1"))


def _option(settings: Settings) -> str:
    return "" if settings.root == Settings().root else f" --data-dir {shlex.quote(str(settings.root))}"


def down(settings: Settings) -> str:
    """Stop the service that runs on the data folder; says what was done."""
    folder = DataFolder(settings)
    running = folder.running()
    if running is None or running.pid == 0:
        return f"Nothing runs on the data folder {settings.root}."
    with suppress(ProcessLookupError):
        os.kill(running.pid, signal.SIGTERM)
    seconds = DOWN_SECONDS + settings.shutdown_seconds
    deadline = time.monotonic() + seconds
    while folder.running() is not None:
        if time.monotonic() > deadline:
            with suppress(ProcessLookupError):
                os.kill(running.pid, signal.SIGKILL)  # what it started goes with it
            return f"Graft at {running.address} did not end in {seconds:.0f} s and was killed."
        time.sleep(0.05)
    return f"Graft at {running.address} has stopped. Running jobs are queued again and go on with the next start."


@dataclass(frozen=True)
class Status:
    """Whether the service on a data folder is ready, a few lines about it, and where it listens (None: it does not)."""

    ready: bool
    text: str
    address: str | None = None


def status(settings: Settings) -> Status:
    """What there is to say of the service on the data folder."""
    running = DataFolder(settings).running()
    if running is None:
        return Status(False, f"Graft does not run on the data folder {settings.root}. Start it with `graftd up`.")
    ready, reply = probes.readiness(running.address)
    checks = reply.get("checks", {})
    lines = [f"Graft {'is ready' if ready else 'is not ready'} at {running.address} (process {running.pid})."]
    lines += [f"  {name:10} {state}" for name, state in checks.items()]
    lines.append(f"  data folder {settings.root}")
    return Status(ready, "\n".join(lines), running.address if running.pid else None)
