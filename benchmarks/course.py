"""Transfer learning as courses teach it: the loop that a frozen job is timed against."""

import io
import time
import zipfile
from pathlib import Path

import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from worker.engine.backbones import load

BASE = "efficientnet_lite0"


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
