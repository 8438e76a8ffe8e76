"""What the tests of whole jobs share: a tiny network with known weights, small data sets, a door that keeps events."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file

from core.contract.base import new_id
from core.contract.jobs import Baselines, Guard, JobSpec, TargetLabels
from core.modality.ingest import ingest
from core.settings import Settings
from worker.engine import run
from worker.engine.door import DataRef, Inputs, Places, Result, Wish

TINY = "timm:test_resnet"  # 0.5 million parameters, 160 x 160


@cache
def tiny_state() -> dict[str, torch.Tensor]:
    """Random but fixed weights: enough to tell coloured shapes apart."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return timm.create_model("test_resnet", pretrained=False).state_dict()


@dataclass
class Workshop:
    """Folders that jobs of a test module share, so that the network is exported once."""

    root: Path
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.weights = self.root / "weights"
        self.weights.mkdir(parents=True)
        save_file(tiny_state(), self.weights / "test_resnet.safetensors")

    def data(self, archive: bytes, seed: int = 0) -> DataRef:
        """Ingest an archive."""
        folder = self.root / new_id("req")
        folder.mkdir()
        path = folder / "data.zip"
        path.write_bytes(archive)
        found = ingest(path, hashlib.sha256(archive).hexdigest(), limits=Settings(), seed=seed, scratch=folder)
        text = found.manifest.model_dump_json().encode()
        (folder / "manifest.json").write_bytes(text)
        digest = hashlib.sha256(text).hexdigest()
        return DataRef(new_id("ds"), folder / "manifest.json", digest, found.content or path)

    def run(
        self,
        method: Any,
        source: DataRef | None,
        evaluation: DataRef | None = None,
        *,
        base_model: str = TINY,
        parent: Path | None = None,
        seed: int = 0,
        wish: Callable[[], Wish] = lambda: "go_on",
        cache: Path | None = None,
        checkpoint: Path | None = None,
        checkpoint_seconds: float = 3600.0,
        baselines: Baselines = "none",
        guard: Guard = "on",
        former: DataRef | None = None,
        target: DataRef | None = None,
        target_labels: TargetLabels = "evaluation",
        target_base_model: str | None = None,
    ) -> Result:
        """Run one job through the door; its events are in `events`.

        Without baselines what the method made is what is served.
        """
        self.events.clear()
        spec = JobSpec(
            method=method,
            base_model=base_model,
            source=source.id if source else None,
            evaluation=evaluation.id if evaluation else None,
            target=target.id if target else None,
            target_labels=target_labels,
            target_base_model=target_base_model,
            seed=seed,
            baselines=baselines,
            guard=guard,
        )
        self.out = self.root / new_id("req")
        places = Places(
            self.out,
            cache or self.root / "cache",
            weights=self.weights,
            device="cpu",
            threads=1,  # two test processes share two cores
            checkpoint_seconds=checkpoint_seconds,
        )
        inputs = Inputs(new_id("job"), new_id("mdl"), source, evaluation, parent, former, checkpoint, target=target)
        return run(spec, inputs, places, sink=lambda kind, data: self.events.append((kind, data)), should_stop=wish)

    def said(self, kind: str) -> list[dict[str, Any]]:
        """The data of all events of one kind."""
        return [data for name, data in self.events if name == kind]

    def saved(self) -> Path:
        """The last checkpoint of the last job."""
        path: Path = self.out / self.said("checkpoint")[-1]["file"]
        return path
