"""The service from outside: start, latencies, repeated jobs, uploads against `cp` + `sha256sum`.

Starts an embedded service of its own on a free port of the loopback interface and stops it at the end.
"""

import io
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import venv
import zipfile
from functools import partial
from pathlib import Path

import httpx2
import numpy as np
import psutil

from benchmarks.common import Table, free_port, parser, service
from examples.demo import write_digits
from graft import Graft
from graft.types import Job

MIB = 1024 * 1024


def api_start(table: Table) -> None:
    """Seconds from starting the API program to its first healthy answer (median of 3)."""
    seconds = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            port = free_port()
            env = os.environ | {"GRAFT_DATA_DIR": folder, "GRAFT_PORT": str(port)}
            graftd = str(Path(sys.executable).parent / "graftd")
            subprocess.run([graftd, "migrate"], env=env, check=True, stdout=subprocess.DEVNULL)
            started = time.perf_counter()
            process = subprocess.Popen([graftd, "api"], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                while time.perf_counter() - started < 30:
                    try:
                        httpx2.get(f"http://127.0.0.1:{port}/healthz").raise_for_status()
                        break
                    except httpx2.HTTPError:
                        time.sleep(0.01)
                seconds.append(time.perf_counter() - started)
            finally:
                process.terminate()
                process.wait(20)
    table.add("API ready after its program is started", statistics.median(seconds), "< 2", "s")


def install_size(table: Table) -> None:
    """Size of a fresh environment with the API alone."""
    root = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        pip = [f"{folder}/bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        empty = _tree_size(Path(folder))
        subprocess.run(
            [*pip, "-c", str(root / "constraints.txt"), f"{root}[api]"], check=True, stderr=subprocess.DEVNULL
        )
        table.add("API-only install", (_tree_size(Path(folder)) - empty) / MIB, "<= 250", "MiB")
        code = "import app.main, sys; print('torch' in sys.modules)"
        run = subprocess.run([f"{folder}/bin/python", "-c", code], capture_output=True, text=True, check=True, cwd="/")
        table.add("torch modules in the API process", float("True" in run.stdout), "<= 0", "")


def _tree_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def duration(job: Job) -> float:
    """Seconds from the claim to the end of a finished job."""
    assert job.started_at is not None
    assert job.finished_at is not None
    return (job.finished_at - job.started_at).total_seconds()


def jobs(table: Table, client: Graft, repeats: int) -> None:
    """Digits: first job, then repeated ones on cached features; latencies of start and of events."""
    with tempfile.TemporaryDirectory() as scratch:
        data = client.datasets.wait(client.datasets.upload(write_digits(Path(scratch)), name="digits"))
    first = client.jobs.wait(client.jobs.create(source=data.id).id)
    table.add("first job, claim to succeeded", duration(first), "", "s")
    table.add("digits, held-out accuracy", first.metrics["accuracy"])
    run: dict[str, list[float]] = {"ridge": [], "lbfgs": []}
    start, late = [], []
    for i in range(repeats):
        solver = list(run)[i % 2]
        method = {"name": "linear_probe", "solver": solver}
        job = client.jobs.create(source=data.id, method=method, seed=i)
        for event in client.jobs.stream(job.id):
            if event.at > job.created_at:
                late.append(time.time() - event.at.timestamp())
            if event.kind == "step" and event.data["name"] == "prepare" and event.data["state"] == "running":
                start.append((event.at - job.created_at).total_seconds())
        done = client.jobs.get(job.id)
        run[solver].append(duration(done))
    name = "repeated job, claim to succeeded, median"
    table.add(f"{name} (ridge, the default)", statistics.median(run["ridge"]), "< 1", "s")
    table.add(f"{name} (lbfgs)", statistics.median(run["lbfgs"]), "", "s")
    table.add("submit to first engine step, warm, median", statistics.median(start), "< 1", "s")
    table.add("event to SSE client, 95th percentile", float(np.percentile(late, 95)), "< 1", "s")
    images = [_png(i) for i in range(32)]
    assert done.model_id
    client.models.predict(done.model_id, images=images[:1])
    one = _median_seconds(lambda: client.models.predict(str(done.model_id), images=images[:1]), 20)
    many = _median_seconds(lambda: client.models.predict(str(done.model_id), images=images), 5)
    table.add("predict, one image, median", one * 1000, "", "ms")
    table.add("predict, batches of 32", len(images) / many, "", "images/s")


def _png(seed: int) -> bytes:
    from PIL import Image

    pixels = np.random.default_rng(seed).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _median_seconds(call: object, times: int) -> float:
    assert callable(call)
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def upload(table: Table, url: str, data_dir: Path, size: int) -> None:
    """Upload a large zip and compare with `cp` + `sha256sum` of the same file; watch the API's memory."""
    api = _api_process(data_dir)
    ratios, growth = [], 0.0
    with tempfile.TemporaryDirectory(dir=data_dir) as scratch:
        path = Path(scratch) / "big.zip"
        for attempt in range(3):
            _write_big(path, size, seed=attempt)
            started = time.perf_counter()
            subprocess.run(["cp", str(path), f"{scratch}/copy"], check=True)
            subprocess.run(["sha256sum", f"{scratch}/copy"], check=True, stdout=subprocess.DEVNULL)
            copy = time.perf_counter() - started
            Path(f"{scratch}/copy").unlink()
            before = api.memory_info().rss
            peak = Peak(api)
            started = time.perf_counter()
            with path.open("rb") as file:
                headers = {"Content-Type": "application/zip", "Content-Length": str(path.stat().st_size)}
                chunks = iter(partial(file.read, MIB), b"")
                reply = httpx2.post(
                    f"{url}/datasets", params={"name": "big"}, content=chunks, headers=headers, timeout=300
                )
            reply.raise_for_status()
            ratios.append(copy / (time.perf_counter() - started))
            growth = max(growth, peak.stop() - before)
            _delete(url, reply.json()["id"])
    table.add(
        f"upload of {size // MIB} MiB, speed relative to cp + sha256sum", statistics.median(ratios), ">= 0.5", "x"
    )
    table.add("API memory growth during the upload", growth / MIB, "< 100", "MiB")


class Peak(threading.Thread):
    """Watches the resident memory of a process."""

    def __init__(self, process: psutil.Process) -> None:
        super().__init__(daemon=True)
        self.process, self.peak, self.running = process, 0, True
        self.start()

    def run(self) -> None:
        while self.running:
            self.peak = max(self.peak, self.process.memory_info().rss)
            time.sleep(0.01)

    def stop(self) -> int:
        """Stop watching; return the peak in bytes."""
        self.running = False
        self.join()
        return self.peak


def _api_process(data_dir: Path) -> psutil.Process:
    for process in psutil.process_iter(["cmdline", "environ"]):
        command = " ".join(process.info["cmdline"] or [])
        if "app.main" in command and (process.info["environ"] or {}).get("GRAFT_DATA_DIR") == str(data_dir):
            return process
    raise RuntimeError("the API process was not found")


def _write_big(path: Path, size: int, seed: int) -> None:
    """A stored zip with a few real images and one large member that is not an image."""
    noise = np.random.default_rng(seed).bytes(16 * MIB)
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(8):
            archive.writestr(f"{'ab'[i % 2]}/{i}.png", _png(i + 8 * seed))
        with archive.open("ballast.bin", "w", force_zip64=True) as member:
            for _ in range(size // len(noise)):
                member.write(noise)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _delete(url: str, dataset_id: str) -> None:
    while httpx2.get(f"{url}/datasets/{dataset_id}").json()["state"] == "validating":
        time.sleep(0.1)
    httpx2.delete(f"{url}/datasets/{dataset_id}").raise_for_status()


def main() -> int:
    """Run everything; the exit status is 1 if a goal was missed."""
    options = parser(__doc__ or "").parse_args()
    table = Table("service")
    api_start(table)
    if not options.quick:
        install_size(table)
    with service() as (url, data_dir), Graft(url) as client:
        jobs(table, client, repeats=4 if options.quick else 20)
        upload(table, url, data_dir, size=(64 if options.quick else 1024) * MIB)
    return table.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())
