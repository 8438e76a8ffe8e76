"""Small real engines for the worker's tests. What to do stands in the job's metadata (`do`, `seconds`)."""

import errno
import hashlib
import json
import os
import resource
import time
import zipfile
from pathlib import Path
from typing import Any

from core.contract.base import now
from core.contract.errors import JobError
from core.contract.jobs import JobSpec
from core.contract.models import DataUse, ModelManifest, Parity
from core.contract.prepare import ImagePrepare
from core.contract.reports import Calibration, Metric, Report
from worker.engine.door import CancelledError, Inputs, Places, Result, ShouldStop, Sink, SuspendedError


def run(spec: JobSpec, inputs: Inputs, places: Places, *, sink: Sink, should_stop: ShouldStop) -> Result:
    """Do what the metadata says, then make a small model."""
    began = time.monotonic()
    sink("message", {"text": f"begun {time.time()}"})
    sink("step", {"name": "train", "state": "running"})
    _do(spec.metadata.get("do", "finish"), spec, inputs, places, sink, should_stop)
    sink("step", {"name": "train", "state": "done", "seconds": time.monotonic() - began})
    return _result(spec, inputs, places)


def _do(what: str, spec: JobSpec, inputs: Inputs, places: Places, sink: Sink, should_stop: ShouldStop) -> None:
    if what == "work":
        _work(float(spec.metadata["seconds"]), sink, should_stop)
    elif what == "once":  # a marker outside the work folder tells how often it was begun
        marker = places.cache / inputs.job_id
        with marker.open("a") as file:
            file.write("begun\n")
        if len(marker.read_text().splitlines()) == 1:
            _work(60, sink, should_stop)
    elif what == "count":
        _count(spec, inputs, places, sink, should_stop)
    elif what == "passing":  # a disk that fails the first time only
        marker = places.cache / inputs.job_id
        if not marker.exists():
            marker.touch()
            raise OSError(errno.EIO, "Input/output error")
    elif what == "bad_checkpoint":
        (places.out / "state.json").write_text("{}")
        good = hashlib.sha256(b"{}").hexdigest()
        for values in ({"file": "../x"}, {"file": "state.json", "sha256": "0" * 64}, {"file": "gone", "sha256": good}):
            sink("checkpoint", {"sha256": good, "bytes": 2, "epoch": 1, "step": 1} | values)
        sink("checkpoint", {"file": "state.json", "sha256": good, "bytes": 2, "epoch": 1, "step": 1})
        _work(float(spec.metadata.get("seconds", 0)), sink, should_stop)
    elif what == "deaf":
        time.sleep(float(spec.metadata.get("seconds", 60)))
    elif what == "exit":
        os._exit(7)
    elif what == "abort":
        os.abort()
    elif what == "kill":
        os.kill(os.getpid(), 9)
    elif what == "refuse":
        raise JobError("There is nothing to learn.", code="too_few_items", param="source", hint="Add items.")
    elif what == "fault":
        raise ZeroDivisionError("secret detail")
    elif what == "memory":
        raise MemoryError
    elif what == "full":
        raise OSError(28, "No space left on device")
    elif what == "allocate":
        hoard = []
        while True:
            hoard.append(bytearray(os.urandom(1 << 20) * 16))
            sink("metric", {"megabytes": len(hoard) * 16})
    elif what == "flood":
        for i in range(1000):
            sink("progress", {"step": "train", "fraction": i / 1000})
            if i % 2 == 0:
                sink("metric", {"epoch": i, "loss": float("nan") if i == 500 else 1 / (i + 1)})
    elif what == "wrong_event":
        sink("progress", {"step": "train", "fraction": 2})


def _count(spec: JobSpec, inputs: Inputs, places: Places, sink: Sink, should_stop: ShouldStop) -> None:
    """Count to n, saving every number, going on from what was saved, and noting outside what was counted.

    At the number `at` the first attempt does what the metadata says in `then`.
    """
    done = 0 if inputs.checkpoint is None else int(json.loads(inputs.checkpoint.read_text())["done"])
    diary = places.cache / f"{inputs.job_id}.txt"
    for number in range(done + 1, int(spec.metadata["n"]) + 1):
        wish = should_stop()
        if wish == "cancel":
            raise CancelledError
        if wish == "suspend":
            raise SuspendedError
        sink("metric", {"epoch": number, "loss": 1 / number})
        with diary.open("a") as file:
            file.write(f"{number}\n")
        if number == int(spec.metadata.get("at", 0)) and diary.read_text().split().count(str(number)) == 1:
            _then(spec.metadata["then"])
        if number % int(spec.metadata.get("every", 1)) == 0:
            _save(number, places, sink)
        time.sleep(float(spec.metadata.get("pause", 0)))
    sink("metric", {"accuracy": 0.75})


def _then(what: str) -> None:
    if what == "kill":
        time.sleep(0.6)  # long enough for the parent to have written what it was told
        os.kill(os.getpid(), 9)
    elif what == "freeze":
        os.kill(os.getpid(), 19)
    else:
        time.sleep(60)


def _save(number: int, places: Places, sink: Sink) -> None:
    text = json.dumps({"done": number}).encode()
    path = places.out / f"state-{number}.json"
    path.write_bytes(text)
    sha256 = hashlib.sha256(text).hexdigest()
    sink("checkpoint", {"file": path.name, "sha256": sha256, "bytes": len(text), "epoch": number, "step": number})


def _work(seconds: float, sink: Sink, should_stop: ShouldStop) -> None:
    end = time.monotonic() + seconds
    i = 0
    while time.monotonic() < end:
        i += 1
        sink("progress", {"step": "train", "fraction": 0.5, "epoch": i})
        sink("metric", {"epoch": i, "loss": 1 / i})
        time.sleep(0.05)
        wish = should_stop()
        if wish == "cancel":
            raise CancelledError
        if wish == "suspend":
            raise SuspendedError
        if wish == "stop":
            return


def _result(spec: JobSpec, inputs: Inputs, places: Places) -> Result:
    metrics = [Metric(name="accuracy", value=0.75, low=0.6, high=0.9, interval="wilson", n=8)]
    data = DataUse(
        dataset_id=inputs.source.id,
        role="source",
        manifest_sha256=inputs.source.manifest_sha256,
        content_sha256="0" * 64,
        items=8,
        splits={"train": 4, "test": 4},
    )
    manifest = ModelManifest(
        model_id=inputs.model_id,
        job_id=inputs.job_id,
        classes=["a", "b"],
        prepare=ImagePrepare(size=32),
        temperature=1.0,
        base_model=spec.base_model or "efficientnet_lite0",
        architecture={},
        method={"name": spec.method.name},
        seed=spec.seed,
        data=[data],
        train_items=4,
        validation_items=0,
        held_out_items=4,
        metrics=metrics,
        parity=Parity(items=4, max_abs_difference=0, tolerance=1e-4),
        versions={},
        hardware={},
        seconds=0.1,
        licence="Apache-2.0",
        created_at=now(),
    )
    report = Report(
        job_id=inputs.job_id,
        model_id=inputs.model_id,
        method=spec.method.name,
        base_model=spec.base_model or "efficientnet_lite0",
        classes=["a", "b"],
        evaluated_on="test_split",
        train_items=4,
        validation_items=0,
        held_out_items=4,
        metrics=metrics,
        class_table=[],
        confusion=[[2, 0], [1, 1]],
        calibration=Calibration(temperature=1, fitted_on=0, ece_before=0, ece_after=0),
        curve_axis="epoch",
        steps=[],
    )
    return Result(manifest, report, _bundle(places.out / "bundle.zip", manifest))


def _bundle(path: Path, manifest: ModelManifest) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("manifest.json", manifest.model_dump_json())
        archive.writestr("model.onnx", b"\x08\x07" * 100)
    return path


def allocate(_link: Any, size: int) -> dict[str, Any]:
    """Fill a block of memory and free it, twice; returns how many pages the kernel had to find each time."""
    faults = []
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        block = bytearray(b"1") * size
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
        del block
    return {"faults": faults}
