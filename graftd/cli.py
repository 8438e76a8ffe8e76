"""The command `graftd`: the whole service on one machine, or its parts in a larger set-up."""

import os
from pathlib import Path

import click

from core import logs
from core.wakeup import QUEUES, Queue
from graftd import books, broker, probes, programs, service
from graftd.fsck import fsck
from graftd.keys import keys
from graftd.options import data_dir as _data_dir
from graftd.options import problems as _problems
from graftd.options import settings as _settings
from graftd.problems import ProblemError
from graftd.programs import Program
from graftd.supervisor import MARGIN_SECONDS, Supervisor
from graftd.tenants import tenants

_host = click.option("--host", help="Address to listen on [GRAFT_HOST, default 127.0.0.1].")
_port = click.option("--port", type=int, help="Port to listen on, 0 for any free one [GRAFT_PORT, default 8000].")


@click.group(help=__doc__, no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]})
def app() -> None:
    """The group of commands."""


app.add_command(keys)
app.add_command(tenants)
app.add_command(fsck)


@app.command()
@_host
@_port
@_data_dir
@click.option("--detach", "-d", is_flag=True, help="Leave it running in the background.")
def up(host: str | None, port: int | None, data_dir: Path | None, detach: bool) -> None:
    """Run the whole service on this machine: database, broker, API and workers."""
    logs.configure("graftd")
    with _problems():
        settings = _settings(host=host, port=port, data_dir=data_dir)
        (service.up_detached if detach else service.up)(settings, click.echo)


@app.command()
@_data_dir
def down(data_dir: Path | None) -> None:
    """Stop the service that runs on the data folder."""
    with _problems():
        click.echo(service.down(_settings(data_dir=data_dir)))


@app.command()
@_data_dir
@click.option("--address", is_flag=True, help="Print nothing but its address, as clients take it in GRAFT_URL.")
def status(data_dir: Path | None, address: bool) -> None:
    """Say whether the service runs and is ready (exit status 0) or not (3)."""
    with _problems():
        found = service.status(_settings(data_dir=data_dir))
        if not address or found.address is None:
            click.echo(found.text, err=address)
        else:
            click.echo(found.address)
        raise SystemExit(0 if found.ready else 3)


@app.command()
@_host
@_port
def api(host: str | None, port: int | None) -> None:
    """Run one API server; database and broker by GRAFT_DATABASE_URL and GRAFT_BROKER_URL."""
    with _problems():
        settings = _settings(host=host, port=port)
        probes.free_port(settings.host, settings.port)
        books.require_key(settings)
        os.environ |= {"GRAFT_HOST": settings.host, "GRAFT_PORT": str(settings.port)}  # who may call depends on it
        _become(programs.api_command(settings.host, settings.port))


@app.command()
@click.option("--queues", default=",".join(QUEUES), show_default=True, help="Kinds of work, separated by commas.")
def worker(queues: str) -> None:
    """Run workers, one process for each kind of work; database and broker as for `api`."""
    logs.configure("graftd")
    with _problems():
        settings, names = _settings(), _queues(queues)
        if not broker.reachable(settings.resolved_broker_url):
            where = broker.masked(settings.resolved_broker_url)
            logs.get_logger(__name__).warning("broker unreachable, work is found by polling", broker=where)
        if len(names) == 1:
            _become(programs.worker_command(names[0]))
        supervisor = Supervisor(settings.shutdown_seconds + MARGIN_SECONDS)
        supervisor.catch_signals()
        try:
            for name in names:
                supervisor.add(Program(f"worker-{name}", programs.worker_command(name)))
            supervisor.run()
        finally:
            supervisor.stop()


@app.command()
def migrate() -> None:
    """Bring the database to the newest schema; safe to run at every start."""
    with _problems():
        settings = _settings()
        probes.migrate(settings)
        click.echo("The database has the newest schema.")


def _queues(text: str) -> list[Queue]:
    names = [part.strip() for part in text.split(",") if part.strip()]
    known = [queue for queue in QUEUES if queue in names]
    if not known or len(known) != len(set(names)):
        raise ProblemError(
            f"--queues {text!r} names an unknown kind of work.", "Use " + " or ".join((*QUEUES, ",".join(QUEUES))) + "."
        )
    return known


def _become(command: list[str]) -> None:
    os.execv(command[0], command)  # noqa: S606 -- a fixed program, no shell


def main() -> None:
    """Entry point of the command."""
    app()
