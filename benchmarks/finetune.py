"""Linear probe and fine-tuning on ants and bees, and the frozen job against the course's own loop.

`--data DIR` holds `hymenoptera/train.zip` and `hymenoptera/val.zip` (class folders).
"""

import io
import shutil
import statistics
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from benchmarks.common import Table, parser
from core.contract.jobs import JobSpec
from core.contract.methods import FineTune, LinearProbe
from core.modality.ingest import ingest
from core.settings import Settings
from worker.engine import run
from worker.engine.backbones import load
from worker.engine.door import DataRef, Inputs, Places, Result

BASE = "efficientnet_lite0"
EPOCHS = 25


def refer(archive: Path, scratch: Path) -> DataRef:
    """Ingest an archive as the service does."""
    import hashlib

    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    found = ingest(archive, sha256, limits=Settings(data_dir=scratch), seed=0, scratch=scratch)
    manifest = scratch / f"{archive.stem}.json"
    manifest.write_text(found.manifest.model_dump_json())
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
    return DataRef(f"ds_{digest[:26]}", manifest, digest, found.content or archive)


def adapt(spec: JobSpec, source: DataRef, evaluation: DataRef, cache: Path, scratch: Path) -> tuple[Result, float]:
    """One job through the engine's door; returns its result and its wall-clock seconds."""
    out = Path(tempfile.mkdtemp(dir=scratch))
    inputs = Inputs("job_" + "0" * 26, "mdl_" + "0" * 26, source, evaluation)
    started = time.perf_counter()
    result = run(spec, inputs, Places(out, cache), sink=lambda kind, data: None, should_stop=lambda: "go_on")
    return result, time.perf_counter() - started


def probe_spec(seed: int) -> JobSpec:
    """A linear probe with its defaults."""
    return JobSpec(source="ds_" + "0" * 26, base_model=BASE, method=LinearProbe(), seed=seed)


def figure(result: Result, name: str) -> float:
    """A metric of the report."""
    return next(metric.value for metric in result.report.metrics if metric.name == name)


class Folder(Dataset[tuple[torch.Tensor, int]]):
    """Class folders in a zip, as the course reads them: opened, decoded and transformed anew for each item."""

    def __init__(self, archive: Path, transform: v2.Compose) -> None:
        self.zip = zipfile.ZipFile(archive)
        suffixes = (".jpg", ".jpeg", ".png")
        self.names = [n for n in self.zip.namelist() if n.lower().endswith(suffixes) and "__MACOSX" not in n]
        self.classes = sorted({name.split("/")[-2] for name in self.names})
        self.transform = transform

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        name = self.names[index]
        image = Image.open(io.BytesIO(self.zip.read(name))).convert("RGB")
        return self.transform(image), self.classes.index(name.split("/")[-2])


def course_loop(train: Path, val: Path, epochs: int) -> tuple[float, float, float]:
    """Transfer learning as taught: frozen backbone in every epoch, SGD on the head, best epoch on `val` is reported.

    Random resized crop and flip in training, batch 4, momentum 0.9, lr 0.001, divided by 10 every 7 epochs.
    Returns (best accuracy, last accuracy, seconds).
    """
    torch.manual_seed(0)
    normal = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.5] * 3)]
    augmented = v2.Compose([v2.RandomResizedCrop(224), v2.RandomHorizontalFlip(), *normal])
    plain = v2.Compose([v2.Resize(256), v2.CenterCrop(224), *normal])
    started = time.perf_counter()
    data, held_out = Folder(train, augmented), Folder(val, plain)
    backbone = load(BASE, weights_dir=None).module.eval().requires_grad_(False)
    head = nn.Linear(1280, len(data.classes))
    optimiser = torch.optim.SGD(head.parameters(), lr=0.001, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, 7, 0.1)
    best = 0.0
    for _ in range(epochs):
        for images, labels in DataLoader(data, batch_size=4, shuffle=True):
            loss = nn.functional.cross_entropy(head(backbone(images)), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        schedule.step()
        with torch.inference_mode():
            batches = DataLoader(held_out, batch_size=4)
            right = sum(int((head(backbone(images)).argmax(1) == labels).sum()) for images, labels in batches)
        best = max(best, right / len(held_out))
    return best, right / len(held_out), time.perf_counter() - started


def ants_and_bees(table: Table, folder: Path, scratch: Path, *, quick: bool) -> None:
    """Every figure on ants and bees."""
    train, val = folder / "train.zip", folder / "val.zip"
    source, evaluation = refer(train, scratch), refer(val, scratch)
    seeds = range(1 if quick else 3)
    probes = []
    cache = scratch / "cache"
    first = adapt(probe_spec(0), source, evaluation, cache, scratch)[1]
    for i in seeds:  # the base model's graph is exported once and stays; this data's features are computed anew
        shutil.rmtree(cache / "features")
        probes.append(adapt(probe_spec(i), source, evaluation, cache, scratch))
    cold = statistics.median(seconds for _, seconds in probes)
    accuracy = statistics.median(figure(result, "accuracy") for result, _ in probes)
    table.add("ants/bees, linear_probe, accuracy", accuracy, ">= 0.935")
    table.add("ants/bees, linear_probe, largest ONNX difference", _parity(probes), "<= 1e-4")
    table.add("ants/bees, linear_probe, very first job, with the export", first, "", "s")
    table.add("ants/bees, linear_probe, whole job, new data", cold, "", "s")
    warm = adapt(probe_spec(0), source, evaluation, cache, scratch)[1]
    table.add("ants/bees, linear_probe, whole job, features cached", warm, "", "s")

    tuned = []
    for i in seeds:
        spec = JobSpec(source="ds_" + "0" * 26, base_model=BASE, method=FineTune(), seed=i)
        tuned.append(adapt(spec, source, evaluation, cache, scratch))
    value = statistics.median(figure(result, "accuracy") for result, _ in tuned)
    table.add("ants/bees, fine_tune, accuracy", value, ">= 0.94")
    table.add("ants/bees, fine_tune, largest ONNX difference", _parity(tuned), "<= 1e-4")
    table.add("ants/bees, fine_tune, whole job", statistics.median(seconds for _, seconds in tuned), "", "s")

    epochs = 2 if quick else EPOCHS
    best, taught, seconds = course_loop(train, val, epochs)
    seconds *= EPOCHS / epochs
    table.add("course loop, accuracy of its last epoch", taught)
    table.add("course loop, accuracy of its best epoch, chosen on val", best)
    table.add(f"course loop, {EPOCHS} epochs", seconds, "", "s")
    table.add("frozen job (new data) faster than the course loop", seconds / cold, ">= 50", "x")
    table.add("frozen job minus course loop, accuracy", accuracy - taught, ">= 0")


def _parity(results: list[tuple[Result, float]]) -> float:
    return max(result.manifest.parity.max_abs_difference for result, _ in results)


def main() -> int:
    """Run everything; the exit status is 1 if a goal was missed."""
    options = parser(__doc__ or "").parse_args()
    if options.data is None:
        print("Name the folder with the data sets: --data DIR")
        return 2
    table = Table("finetune")
    with tempfile.TemporaryDirectory(prefix="graft-bench-") as scratch:
        ants_and_bees(table, options.data / "hymenoptera", Path(scratch), quick=options.quick)
    return table.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())
