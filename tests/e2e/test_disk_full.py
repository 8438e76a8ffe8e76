"""A whole service on a disk that fills up: told as such, nothing half-written, and all well once there is room."""

import base64
import contextlib
import hashlib
import io
import json
import os
import sqlite3
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from benchmarks.common import free_port
from tests.builders import folder_zip
from tests.e2e.conftest import BIN

MIB = 1024 * 1024
SIZE = 600 * MIB
ZIP = {"Content-Type": "application/zip"}
TUS = {"Tus-Resumable": "1.0.0"}
PROBE = {"name": "linear_probe"}
ENDLESS = {
    "name": "fine_tune",
    "freeze": "blocks.5",
    "head_start": False,
    "epochs": 1000,
    "early_stop": None,
    "batch_size": 8,
}


@dataclass
class Disk:
    """A small disk with a service on it."""

    root: Path
    url: str

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.root / "data"

    def fill(self, leave: int = 0) -> None:
        """Use up the space, but for `leave` bytes."""
        for number in range(50):
            free = os.statvfs(self.root).f_bavail * os.statvfs(self.root).f_frsize
            if free <= leave:
                return
            with contextlib.suppress(OSError), (self.root / f"ballast-{number}").open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, free - leave)

    def free(self) -> None:
        """Give the space back."""
        for path in self.root.glob("ballast-*"):
            path.unlink()

    def get(self, path: str) -> Any:
        """The body of a call that must work, whatever the disk says."""
        reply = httpx2.get(f"{self.url}{path}", timeout=60)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def post(self, path: str, **values: Any) -> httpx2.Response:
        """Send something."""
        return httpx2.post(f"{self.url}{path}", timeout=60, **values)

    def upload(self, archive: bytes) -> dict[str, Any]:
        """Upload, and wait for the verdict."""
        reply = self.post("/datasets", content=archive, headers=ZIP)
        assert reply.status_code == 201, reply.text
        return self.verdict(reply.json()["id"])

    def verdict(self, dataset_id: str, seconds: float = 120) -> dict[str, Any]:
        """The data set once it is checked."""
        path = f"/datasets/{dataset_id}"
        self.until(lambda: self.get(path)["state"] != "validating", seconds)
        return dict(self.get(path))

    def submit(self, **spec: Any) -> str:
        """Send a job."""
        reply = self.post("/jobs", json=spec)
        assert reply.status_code == 201, reply.text
        return str(reply.json()["id"])

    def finish(self, job_id: str, seconds: float = 240) -> dict[str, Any]:
        """The job once it has ended."""
        self.until(lambda: self.get(f"/jobs/{job_id}")["state"] not in ("queued", "running"), seconds)
        return dict(self.get(f"/jobs/{job_id}"))

    def events(self, job_id: str, kind: str) -> list[dict[str, Any]]:
        """The job's events of a kind."""
        found, after = [], "0"
        while True:
            page = self.get(f"/jobs/{job_id}/events?limit=500&after={after}")
            found += [event for event in page["data"] if event["kind"] == kind]
            after = page["next_cursor"]
            if not page["has_more"]:
                return found

    def until(self, condition: Callable[[], bool], seconds: float = 120) -> None:
        """Wait for something."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "waited too long"
            time.sleep(0.05)

    def rows(self, query: str) -> list[Any]:
        """What the database holds."""
        with contextlib.closing(sqlite3.connect(f"file:{self.data / 'graft.db'}?mode=ro", uri=True)) as database:
            return database.execute(query).fetchall()

    def blobs(self) -> set[str]:
        """Blobs in their places."""
        return {path.name for path in (self.data / "blobs").glob("??/*")}

    def unfinished(self) -> list[str]:
        """Files on their way in, and work folders."""
        folders = (self.data / "blobs" / "pending", self.data / "work")
        return [path.name for folder in folders for path in folder.glob("*")]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    """A running `graftd up` on a tmpfs of its own."""
    root = tmp_path_factory.mktemp("small")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(root)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no `mount` on this machine")
    if done.returncode:
        pytest.skip(f"mounting a tmpfs is not permitted here: {done.stderr.strip()}")
    port = free_port()
    own = {"GRAFT_DATA_DIR": str(root / "data"), "GRAFT_PORT": str(port), "GRAFT_CHECKPOINT_SECONDS": "0.5"}
    own |= {"GRAFT_LEASE_SECONDS": "10", "GRAFT_SWEEP_SECONDS": "1"}
    env = os.environ | own
    try:
        up = subprocess.run([BIN / "graftd", "up", "--detach"], env=env, capture_output=True, text=True, timeout=180)
        assert up.returncode == 0, up.stdout + up.stderr
        try:
            yield Disk(root, f"http://127.0.0.1:{port}")
        finally:
            for path in root.glob("ballast-*"):
                path.unlink()
            subprocess.run([BIN / "graftd", "down"], env=env, capture_output=True, timeout=60)
    finally:
        if subprocess.run(["umount", str(root)], capture_output=True).returncode:
            subprocess.run(["umount", "-l", str(root)], check=True)


@pytest.fixture(autouse=True)
def programs(disk: Disk) -> Iterator[None]:
    """No program of the service ends meanwhile: graftd would say so."""
    log = disk.data / "logs" / "graftd.log"
    before = log.read_text(errors="replace").count("again_in_seconds")
    yield
    disk.free()
    after = log.read_text(errors="replace")
    assert after.count("again_in_seconds") == before, after[-3000:]


@pytest.fixture(scope="module")
def source(disk: Disk) -> str:
    """A ready data set, on which a job has made its features and its graph."""
    dataset = disk.upload(folder_zip({"a": 12, "b": 12}))
    assert dataset["state"] == "ready"
    job = disk.finish(disk.submit(source=dataset["id"]))
    assert job["state"] == "succeeded", job["error"]
    return str(dataset["id"])


def full(reply: httpx2.Response) -> None:
    """The disk is full, and the answer says what to do."""
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (507, "disk_full"), reply.text
    assert error["hint"]


@pytest.mark.parametrize("announced", [True, False])
def test_an_upload_that_does_not_fit_is_507_and_leaves_nothing(disk: Disk, source: str, announced: bool) -> None:
    disk.until(lambda: disk.unfinished() == [])
    blobs, datasets = disk.blobs(), disk.get("/datasets")
    archive = folder_zip({"a": 6, "b": 6}, size=(400, 400))
    assert len(archive) > 3 * MIB
    disk.fill(leave=2 * MIB)
    body = archive if announced else iter([archive[i : i + 65536] for i in range(0, len(archive), 65536)])
    full(disk.post("/datasets", content=body, headers=ZIP))
    assert disk.unfinished() == []
    assert disk.blobs() == blobs
    assert disk.get("/datasets") == datasets
    assert disk.get("/healthz")
    disk.free()
    assert disk.upload(archive)["state"] == "ready"


def compressed_tar() -> bytes:
    """Images that need four times the room once they are unpacked."""
    random = np.random.default_rng(0)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for number in range(24):
            image = io.BytesIO()
            Image.fromarray(random.integers(0, 4, (700, 700, 3), dtype=np.uint8)).save(image, "BMP")
            member = tarfile.TarInfo(f"{'ab'[number % 2]}/{number}.bmp")
            member.size = len(image.getvalue())
            image.seek(0)
            archive.addfile(member, image)
    return buffer.getvalue()


def test_data_that_cannot_be_unpacked_for_want_of_room_is_told_or_waits(disk: Disk, source: str) -> None:
    archive = compressed_tar()
    unpacked = 24 * 700 * 700 * 3
    assert len(archive) < unpacked / 2
    blobs = disk.blobs()
    disk.fill(leave=len(archive) + 6 * MIB)
    reply = disk.post("/datasets", content=archive, headers={"Content-Type": "application/gzip"})
    assert reply.status_code == 201, reply.text
    dataset_id = reply.json()["id"]
    log = disk.data / "logs" / "graftd.log"
    state = lambda: disk.get(f"/datasets/{dataset_id}")["state"]  # noqa: E731
    disk.until(lambda: state() != "validating" or "disk" in log.read_text(errors="replace"), 60)
    assert len(disk.blobs() - blobs) <= 1  # the upload itself, and nothing half-unpacked
    assert disk.get("/healthz")
    if state() == "rejected":
        error = disk.get(f"/datasets/{dataset_id}")["error"]
        assert (error["code"], bool(error["hint"])) == ("disk_full", True)
        disk.free()
        again = disk.post("/datasets", content=archive, headers={"Content-Type": "application/gzip"})
        dataset_id = again.json()["id"]
    disk.free()
    assert disk.verdict(dataset_id)["state"] == "ready"
    disk.until(lambda: disk.unfinished() == [])


def test_a_job_that_cannot_fit_is_refused_and_one_that_no_longer_fits_fails_with_a_remedy(
    disk: Disk, source: str
) -> None:
    disk.until(lambda: disk.unfinished() == [])
    blobs, models = disk.blobs(), disk.get("/models")
    first = disk.submit(source=source, method=ENDLESS)
    disk.until(lambda: disk.get(f"/jobs/{first}")["state"] == "running")
    admitted = disk.submit(source=source, method=PROBE, seed=7)  # waits behind the first: there is still room
    disk.post(f"/jobs/{first}/cancel")
    disk.fill(leave=8 * MIB)
    error = disk.post("/jobs", json={"source": source, "method": PROBE, "seed": 8}).json()["error"]
    assert (error["code"], error["details"]["free_bytes"] <= 8 * MIB, bool(error["hint"])) == (
        "does_not_fit",
        True,
        True,
    )
    job = disk.finish(admitted)
    assert (job["state"], job["model_id"]) == ("failed", None)
    assert (job["error"]["code"], bool(job["error"]["hint"])) == ("disk_full", True), job["error"]
    assert disk.finish(first)["state"] == "cancelled"
    disk.until(lambda: disk.unfinished() == [], 30)
    disk.until(lambda: disk.blobs() == blobs, 30)  # a cancelled job's checkpoint goes with it
    assert disk.get("/models") == models
    disk.free()
    assert disk.finish(disk.submit(source=source, method=PROBE, seed=7))["state"] == "succeeded"


def test_a_full_disk_costs_neither_the_checkpoint_nor_the_books(disk: Disk, source: str) -> None:
    job_id = disk.submit(source=source, method=ENDLESS)
    disk.until(lambda: bool(disk.events(job_id, "checkpoint")), 240)
    disk.fill(leave=2 * MIB)  # room for the books, not for a checkpoint
    disk.until(lambda: any("could not be" in event["data"]["text"] for event in disk.events(job_id, "message")))
    ((state, checkpoint),) = disk.rows(f"SELECT state, checkpoint_sha256 FROM jobs WHERE id = '{job_id}'")
    content = (disk.data / "blobs" / checkpoint[:2] / checkpoint).read_bytes()
    assert (state, hashlib.sha256(content).hexdigest()) == ("running", checkpoint)
    disk.fill()
    assert disk.get("/healthz")
    for path in ("/jobs", "/datasets", "/models", f"/jobs/{job_id}/events"):
        disk.get(path)
    refused, taken = books_when_full(disk)
    full(refused)
    disk.free()
    for one in taken:
        assert httpx2.delete(f"{disk.url}{one}", headers=TUS, timeout=60).status_code == 204
    assert disk.rows("PRAGMA integrity_check") == [("ok",)]
    if disk.get(f"/jobs/{job_id}")["state"] == "running":
        before = len(disk.events(job_id, "checkpoint"))
        disk.until(lambda: len(disk.events(job_id, "checkpoint")) > before, 120)
        disk.post(f"/jobs/{job_id}/stop")
    job = disk.finish(job_id)
    told = job["error"] is not None and job["error"]["code"] == "disk_full" and bool(job["error"]["hint"])
    assert job["state"] == "succeeded" or told, job["error"]
    assert disk.finish(disk.submit(source=source, seed=8))["state"] == "succeeded"
    disk.until(lambda: disk.unfinished() == [])


def books_when_full(disk: Disk) -> tuple[httpx2.Response, list[str]]:
    """Begin uploads until the database has no room for one more; returns that reply and where the others lie."""
    wordy = json.dumps({f"name {number}": "x" * 512 for number in range(60)})
    said = {"Upload-Length": "10", "Upload-Metadata": f"metadata {base64.b64encode(wordy.encode()).decode()}"}
    taken: list[str] = []
    while True:
        disk.fill()
        reply = disk.post("/uploads", headers=TUS | said)
        if reply.status_code != 201:
            return reply, taken
        taken.append(reply.headers["Location"])
        assert len(taken) < 1000, "the database grows on a full disk"
