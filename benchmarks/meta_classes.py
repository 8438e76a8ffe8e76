"""A new class of five photos, added to a running service's model: how long it takes, and what old classes lose."""

import io
import time
import zipfile
from collections import defaultdict
from pathlib import Path

import httpx2

from benchmarks import sets
from benchmarks.common import Table, service

_FIVE = 5


def new_class(table: Table, data: Path, _scratch: Path, domain: str = "caltech10") -> None:
    """Nine classes of one domain of Office-Caltech10 by SimpleShot, then the tenth from five photos of it."""
    files = _photos(sets.office(data, domain).data)
    new = sorted({name.split("/")[1] for name in files})[-1]
    old = {name: photo for name, photo in files.items() if name.split("/")[1] != new}
    held_out = {name: photo for name, photo in old.items() if name.startswith("test/")}
    added = [photo for name, photo in files.items() if name.startswith(f"train/{new}/")][:_FIVE]
    asked = [photo for name, photo in files.items() if name.startswith(f"test/{new}/")]
    with service() as (url, _), httpx2.Client(base_url=url, timeout=600) as client:
        model = _train(client, sets.pack(old))
        before = _accuracy(client, model, held_out)
        begun = time.perf_counter()
        reply = client.post(
            f"/models/{model}/classes",
            data={"name": new},
            files=[("files", (f"{number}.jpg", photo)) for number, photo in enumerate(added)],
        )
        reply.raise_for_status()
        revision = reply.json()["id"]
        first = _predict(client, revision, asked[:1])
        seconds = time.perf_counter() - begun
        after = _accuracy(client, revision, held_out)
        right = [one == new for one in _predict(client, revision, asked)]
    table.add("a class of five photos added and its first photo answered", seconds, "< 1", "s")
    table.add("the first photo is known", float(first == [new]))
    table.add("accuracy on the nine old classes before", before)
    table.add("accuracy on the nine old classes after", after)
    table.add("what the old classes lose", before - after, "< 0.01")
    table.add("accuracy on the new class", sum(right) / len(right))


def _photos(archive: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return {name: opened.read(name) for name in opened.namelist() if not name.endswith("/")}


def _train(client: httpx2.Client, archive: bytes) -> str:
    """A SimpleShot model; its id."""
    source = client.post("/datasets", files={"file": ("photos.zip", archive)}).raise_for_status().json()["id"]
    _await(client, f"/datasets/{source}", "ready")
    body = {"method": {"name": "simple_shot", "ways": [2], "episodes": 20}, "source": source, "baselines": "none"}
    job = client.post("/jobs", json=body).raise_for_status().json()["id"]
    _await(client, f"/jobs/{job}", "succeeded")
    found: str = client.get(f"/jobs/{job}").json()["model_id"]
    return found


def _await(client: httpx2.Client, path: str, state: str) -> None:
    for _ in range(3000):
        found = client.get(path).raise_for_status().json()
        if found["state"] == state:
            return
        if found["state"] in {"failed", "rejected", "cancelled"}:
            raise RuntimeError(f"{path}: {found}")
        time.sleep(0.2)
    raise TimeoutError(path)


def _accuracy(client: httpx2.Client, model: str, photos: dict[str, bytes]) -> float:
    """Share of photos that are given the class of their folder."""
    by_class: dict[str, list[bytes]] = defaultdict(list)
    for name, photo in photos.items():
        by_class[name.split("/")[1]].append(photo)
    right = [label == name for name, some in by_class.items() for label in _predict(client, model, some)]
    return sum(right) / len(right)


def _predict(client: httpx2.Client, model: str, photos: list[bytes]) -> list[str | None]:
    """The nearest class of each photo, whether it is `none of these` or not."""
    found: list[str | None] = []
    for start in range(0, len(photos), 32):
        files = [("files", (f"{number}.jpg", photo)) for number, photo in enumerate(photos[start : start + 32])]
        reply = client.post(f"/models/{model}/predict", files=files).raise_for_status().json()
        found += [one["top"][0]["label"] if one["top"] else None for one in reply["predictions"]]
    return found
