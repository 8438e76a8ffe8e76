"""How true a ranking of base models is: seven of them on six sets, against a probe's accuracy on other items.

`--data DIR` holds `hymenoptera`, `office_caltech10`, `mnist` and `weights/squeezenet1_1.pth`. Each set is halved,
stratified: one half is ranked by, the other is what a linear probe, trained on the first, is measured on; then the
other way round. Ants and bees keep their own training and validation photos. With `--fine-tune` the four whole networks
are fine-tuned on ants and bees, too, and the ranking is held against that.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.common import Table, parser
from benchmarks.ranking_sets import WHOLE, Photos, bases, sets
from core.contract.datasets import DatasetManifest, Item
from core.contract.jobs import EventKind, JobSpec
from core.contract.methods import FineTune, LinearProbe, RankBaseModels
from core.contract.reports import Ranking
from worker.engine import run
from worker.engine.backbones import Base
from worker.engine.cache import CacheFolder
from worker.engine.data import read
from worker.engine.door import DataRef, Inputs, Places
from worker.engine.exploration import Exploration
from worker.engine.features import embed
from worker.engine.frozen import FrozenFeatures
from worker.engine.methods import linear_probe, rank_base_models
from worker.engine.methods.maths.folds import stratified_folds
from worker.engine.methods.maths.relevance import weighted_kendall
from worker.engine.steps import Steps, Wishes

Flags = NDArray[np.bool_]
CPU = torch.device("cpu")
_PROBE = LinearProbe(solver="ridge", normalise="l2")
SCORES = {
    "score": "probe and neighbours",
    "probe": "probe",
    "knn": "neighbours",
    "logme": "LogME",
    "h_score": "H-score",
}


@dataclass(frozen=True)
class Found:
    """A ranking of one half, and what is true of the other."""

    ranking: Ranking
    truth: dict[str, float]
    seconds: float

    def tau(self, name: str | None = None) -> float:
        """Weighted Kendall tau of the ranking, or of one of its scores, with the truth."""
        rows = [one for one in self.ranking.candidates if one.rank is not None]
        said = [float(-(one.rank or 0)) if name is None else float(getattr(one, name)) for one in rows]
        return weighted_kendall(said, [self.truth[one.base_model] for one in rows])

    @property
    def lost(self) -> float:
        """Accuracy that the first place falls short of the best."""
        return max(self.truth.values()) - self.truth[self.ranking.candidates[0].base_model]


def halves(photos: Photos, seed: int) -> list[Flags]:
    """Which items are ranked by; the rest is held out."""
    if photos.first:
        return [np.arange(len(photos)) < photos.first]
    half = stratified_folds(photos.labels, 2, np.random.default_rng(seed))
    return [half == 0, half == 1]


def refer(photos: Photos, training: Flags, folder: Path) -> DataRef:
    """The set on disk with that split. Its features are those of the images, however they are split."""
    content, manifest = folder / f"{photos.key}.bin", folder / f"{photos.key}.json"
    if not content.exists():
        content.write_bytes(b"".join(photos.images))
    ends = np.cumsum([len(image) for image in photos.images]).tolist()
    items = [
        Item(
            name=str(number),
            offset=end - len(image),
            length=len(image),
            size=len(image),
            label=int(photos.labels[number]),
            split="train" if training[number] else "test",
            sha256=photos.digest(number),
        )
        for number, (image, end) in enumerate(zip(photos.images, ends, strict=True))
    ]
    classes = [str(label) for label in range(int(photos.labels.max()) + 1)]
    found = DatasetManifest(modality="image", content_sha256=photos.key, classes=classes, items=items)
    manifest.write_text(found.model_dump_json())
    return DataRef("ds_" + "0" * 26, manifest, photos.key, content)


def rank(source: DataRef, makers: dict[str, Callable[[CacheFolder], Base]], cache: CacheFolder, seed: int) -> Found:
    """Rank by the training half, then train a probe on it and measure it on the other."""
    opened = {name: make(cache) for name, make in makers.items()}
    steps, wishes = Steps(_ignore, {"compare": 1}), Wishes(lambda: "go_on")
    data = read(Inputs("job_" + "0" * 26, "mdl_" + "0" * 26, source))
    options = RankBaseModels(base_models=list(makers))
    look = Exploration(
        options, data, opened.__getitem__, lambda _card: True, cache, CPU, 0, seed, steps, wishes, _ignore
    )
    begun = time.perf_counter()
    ranking = rank_base_models.run(look).fields["ranking"]
    seconds = time.perf_counter() - begun
    truth = {}
    for name, base in opened.items():
        features = FrozenFeatures(base, cache, device=CPU, threads=0, steps=steps, wishes=wishes)
        features.load(data.collections)
        rng = np.random.default_rng(seed)
        fitted = linear_probe.fit(features(data.train), data.train.labels, data.outputs, _PROBE, rng=rng)
        right = fitted.head(features(data.held_out)).argmax(axis=1) == data.held_out.labels
        truth[name] = float(right.mean())
    data.close()
    return Found(ranking, truth, seconds)


def _ignore(kind: EventKind, data: dict[str, Any]) -> None:
    """Nobody listens."""


def tuned(source: DataRef, name: str, weights: Path, cache: Path, folder: Path) -> float:
    """Accuracy of the fine-tuned network on the held-out half."""
    out = Path(tempfile.mkdtemp(dir=folder))
    spec = JobSpec(source=source.id, base_model=name, method=FineTune(epochs=5), baselines="none", guard="off")
    inputs, places = Inputs("job_" + "0" * 26, "mdl_" + "0" * 26, source), Places(out, cache, weights=weights)
    result = run(spec, inputs, places, sink=_ignore, should_stop=lambda: "go_on")
    return next(one.value for one in result.report.metrics if one.name == "accuracy")


def measure(table: Table, data: Path, folder: Path, *, quick: bool, fine_tune: bool) -> None:
    """Every figure."""
    cache = CacheFolder(folder / "cache", 10**11)
    makers = bases(data / "weights")
    found: dict[str, list[Found]] = {}
    for photos in sets(data)[: 2 if quick else None]:
        for name, make in makers.items():
            begun = time.perf_counter()
            embed(make(cache), photos, cache=cache, key=photos.key)
            print(f"     {photos.name}: {name} embedded in {time.perf_counter() - begun:.1f} s", flush=True)
        runs = found[photos.name] = []
        for seed in range(1 if quick else 3):
            for training in halves(photos, seed):
                runs.append(rank(refer(photos, training, folder), makers, cache, seed))
        table.add(f"{photos.name}, weighted Kendall tau of the ranking", _mean(runs, lambda one: one.tau()))
        table.add(f"{photos.name}, accuracy lost by its first place", _mean(runs, lambda one: one.lost))
        seconds = statistics.median(one.seconds for one in runs)
        table.add(f"{photos.name}, ranking of {len(makers)} from cached features", seconds, "", "s")
    for score, title in SCORES.items():
        table.add(f"mean tau of {title} alone", _overall(found, partial(Found.tau, name=score)))
    table.add("base models", len(makers), ">= 6")
    table.add("sets", len(found), "" if quick else ">= 5")
    table.add("mean accuracy lost by the first place", _overall(found, lambda one: one.lost))
    table.add("mean weighted Kendall tau, probe on other items", _overall(found, lambda one: one.tau()), ">= 0.7")
    if fine_tune:
        photos = sets(data)[0]
        source = refer(photos, halves(photos, 0)[0], folder)
        whole = {name: makers[name] for name in WHOLE}
        ranked = rank(source, whole, cache, 0)
        truth = {name: tuned(source, name, data / "weights", cache.root, folder) for name in WHOLE}
        for name, accuracy in truth.items():
            table.add(f"{photos.name}, {name} fine-tuned, accuracy", accuracy)
        held = Found(ranked.ranking, truth, ranked.seconds)
        table.add(f"{photos.name}, weighted Kendall tau with fine-tuned accuracies", held.tau())


def _mean(runs: list[Found], figure: Callable[[Found], float]) -> float:
    return statistics.fmean(figure(one) for one in runs)


def _overall(found: dict[str, list[Found]], figure: Callable[[Found], float]) -> float:
    """Each set counts alike."""
    return statistics.fmean(_mean(runs, figure) for runs in found.values())


def main() -> int:
    """Run everything; the exit status is 1 if a goal was missed."""
    reading = parser(__doc__ or "")
    reading.add_argument("--fine-tune", action="store_true", help="fine-tune four networks on ants and bees, too")
    options = reading.parse_args()
    if options.data is None:
        print("Name the folder with the data sets: --data DIR")
        return 2
    table = Table("ranking")
    with tempfile.TemporaryDirectory(prefix="graft-bench-") as folder:
        measure(table, options.data, Path(folder), quick=options.quick, fine_tune=options.fine_tune)
    return table.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())
