"""The main job, from data to predictions: `make demo`, or `python -m examples.demo --data FOLDER`."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from graft import Graft
from graft.errors import GraftError
from graft.types import Dataset, Job, Report

console = Console()


def write_digits(folder: Path) -> Path:
    """Write scikit-learn's 1,797 handwritten digits (8 x 8 grey values) as PNG files in class folders."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for i, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = folder / "digits" / str(label) / f"{i:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * (255 / 16)).round().astype(np.uint8)).save(path)
    return folder / "digits"


def watch(client: Graft, job: Job) -> Job:
    """Show a bar while the job runs; return the finished job."""
    columns = (TextColumn("{task.description:<24}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task("queued", total=1.0)
        for event in client.jobs.stream(job.id):
            if event.kind == "step":
                progress.update(task, description=f"{event.data['name']} {event.data.get('note') or ''}")
            elif event.kind == "progress":
                progress.update(task, completed=event.data["fraction"])
    return client.jobs.wait(job.id)


def show(report: Report) -> None:
    """Print the headline figures and the cost of each step."""
    figures = Table("figure", "value", "95 % interval", title=f"{report.method} on {report.base_model}")
    for metric in report.metrics:
        interval = "" if metric.low is None or metric.high is None else f"{metric.low:.4f} - {metric.high:.4f}"
        figures.add_row(metric.name, f"{metric.value:.4f}", interval)
    console.print(figures)
    console.print(f"{report.train_items} items to learn from, {report.held_out_items} held out.")
    console.print("Seconds: " + ", ".join(f"{step.name} {step.seconds or 0:.2f}" for step in report.steps))
    for note in report.notes:
        console.print(f"- {note}")


def predict_three(client: Graft, data: Dataset, model_id: str) -> None:
    """Classify three held-out images through the API."""
    samples = list(client.datasets.samples(data.id, split="test", limit=200))
    chosen = [samples[i * (len(samples) - 1) // 2] for i in range(3)]
    images = [client.datasets.thumbnail(data.id, sample.index, size=512) for sample in chosen]
    answers = client.models.predict(model_id, images=images, top_k=2).predictions
    table = Table("held-out image", "truth", "prediction", "probability", title="Three predictions")
    for sample, answer in zip(chosen, answers, strict=True):
        table.add_row(sample.name, sample.label, answer.label, f"{answer.probability or 0:.3f}")
    console.print(table)


def main() -> int:
    """Run the demo; the exit status is 0 if a model came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of class folders, or an archive of one")
    parser.add_argument("--method", default="linear_probe")
    parser.add_argument("--base-model", default="efficientnet_lite0")
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch, Graft() as client:
        source = options.data or write_digits(Path(scratch))
        console.print(f"[bold]1.[/bold] Uploading {source} to {client.base_url}")
        data = client.datasets.wait(client.datasets.upload(source, name=source.stem))
        console.print(
            f"   {data.id}: {data.items} images, {len(data.classes)} classes, {data.warnings} kinds of warning"
        )
        console.print(f"[bold]2.[/bold] Adapting {options.base_model} by {options.method}")
        job = watch(client, client.jobs.create(source=data.id, method=options.method, base_model=options.base_model))
        assert job.model_id is not None
        console.print("[bold]3.[/bold] Report")
        show(client.jobs.report(job.id))
        predict_three(client, data, job.model_id)
        console.print(f"\nDone in {time.monotonic() - started:.1f} s. The service is running at {client.base_url}")
        console.print(f"  report page   {client.base_url}/jobs/{job.id}/report")
        console.print(f"  the model     curl -o model.zip {client.base_url}/models/{job.model_id}")
        console.print(f"  every call    {client.base_url}/docs")
        console.print("  stop it       make down")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except GraftError as error:
        console.print(f"[red]{error}[/red]")
        sys.exit(1)
