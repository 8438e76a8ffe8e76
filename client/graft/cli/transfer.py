"""Uploads and downloads with a bar, where there is a terminal."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from graft.cli.output import stderr
from graft.client import Graft
from graft.types import Dataset

OnBytes = Callable[[int, int | None], None]


@contextmanager
def bar(title: str) -> Iterator[OnBytes | None]:
    """A callback (done, total) that draws a bar; None where nobody watches."""
    console = stderr()
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=None)

        def on_bytes(done: int, total: int | None) -> None:
            progress.update(task, completed=done, total=total)

        yield on_bytes


def upload(
    client: Graft,
    path: Path,
    *,
    name: str | None = None,
    seed: int | None = None,
    resumable: bool | None = None,
    said: Mapping[str, Any] | None = None,
) -> Dataset:
    """Upload a file or folder; `said` is how it is to be read."""
    with bar(f"Uploading {path.name or path}") as on_bytes:
        return client.datasets.upload(
            path, name=name, seed=seed, resumable=resumable, on_progress=on_bytes, **(said or {})
        )


def download(client: Graft, model_id: str, path: str | None) -> Path:
    """Download a model's bundle."""
    with bar(f"Downloading {model_id}") as on_bytes:
        return client.models.download(model_id, path, on_progress=on_bytes)
