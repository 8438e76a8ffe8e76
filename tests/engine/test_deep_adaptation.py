"""Deep adaptation: beats the source alone on shifted data, sees no label of the target, goes on where it was broken."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from core.contract.errors import JobError
from core.contract.methods import AdaBn, Cdan, Dan, Dann, DeepCoral, Gan, Jan, LinearProbe, Mcc, Shot
from core.contract.methods.deep import DeepAdaptation
from core.contract.prepare import NumberColumn, TabularPrepare
from tests.builders import encode, folder_zip, make_zip
from tests.engine.jobs import TINY, Workshop
from tests.engine.tables import columns, table
from worker.engine.arms import logits_of
from worker.engine.backbones import open_base
from worker.engine.cache import CacheFolder
from worker.engine.checkpoint import Checkpoints
from worker.engine.data import read
from worker.engine.door import DataRef, Inputs, SuspendedError, Wish
from worker.engine.feeds import embed_all
from worker.engine.feeds import source as source_of
from worker.engine.frozen import FrozenFeatures
from worker.engine.loading import workers
from worker.engine.methods.domain_feeds import repeated
from worker.engine.methods.domain_score import unlabelled_loss
from worker.engine.methods.registry import METHODS
from worker.engine.recipes.warp import draw, warp
from worker.engine.steps import Steps, Wishes
from worker.engine.tables import fit_table
from worker.engine.task import Task, Trained

FAST: dict[str, Any] = {"epochs": 12, "batch_size": 32, "bottleneck": 32, "head_lr": 0.01}
KINDS = columns(**{f"x{number}": "number" for number in range(6)})
CLASSES = ["a", "b", "c"]
CPU = torch.device("cpu")


def blobs(folder: Path, *, shift: float, seed: int = 0, shuffled: bool = False) -> DataRef:
    """Three classes about their centres in six columns; `shift` moves all of them, and stretches them."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(0, 1.6, (3, 6))
    labels = np.arange(240) % 3
    x = centres[labels] + rng.normal(0, 0.8, (240, 6))
    x = x * (1 + shift / 4) + shift * np.array([1, -1, 1, -1, 1, -1])
    said = rng.permutation(labels) if shuffled else labels
    rows = [{f"x{number}": float(value) for number, value in enumerate(row)} for row in x]
    return table(folder, rows, [int(label) for label in said], KINDS, classes=CLASSES, seed=seed)


@dataclass
class Bench:
    """Runs a method by itself, on one thread, and measures what it made on the target."""

    root: Path
    source: DataRef
    target: DataRef
    base_model: str = "tabular_linear"
    weights: Path | None = None
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def task(self, method: Any, *, wish: Callable[[], Wish] = lambda: "go_on", resume: Path | None = None) -> Task:
        self.events.clear()

        def say(kind: str, data: dict[str, Any]) -> None:
            self.events.append((kind, data))

        data = read(Inputs("job", "mdl", self.source, target=self.target), measured=False)
        cache = CacheFolder(self.root / "cache", 10**9)
        tabular = data.source.modality == "tabular"
        base = open_base(
            self.base_model,
            weights_dir=self.weights,
            cache=cache,
            table=fit_table(data.train, None) if tabular else None,
        )
        steps, wishes = Steps(say, {"train": 1}), Wishes(wish)
        features = FrozenFeatures(base, cache, device=CPU, threads=1, steps=steps, wishes=wishes)
        checkpoints = Checkpoints(self.root, say, {}, every=1e9, resume=resume)
        return Task(method, data, base, features, CPU, 1, 0, steps, wishes, say, checkpoints)

    def run(self, method: Any, **more: Any) -> tuple[Task, Trained]:
        task = self.task(method, **more)
        METHODS[method.name].check(method, task.base)
        found = METHODS[method.name].run(task)
        assert isinstance(found, Trained)
        return task, found

    def accuracy(self, method: Any) -> float:
        task, found = self.run(method)
        held_out = task.data.held_out
        logits = logits_of(found, held_out, task.features, lambda: None)
        return float((logits.argmax(axis=1) == held_out.labels).mean())


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    root = tmp_path_factory.mktemp("deep")
    return Bench(root, blobs(root, shift=0), blobs(root, shift=3, seed=1))


@pytest.fixture(scope="module")
def alone(bench: Bench) -> float:
    """What a linear probe of the source makes of the target."""
    return bench.accuracy(LinearProbe())


@pytest.mark.parametrize(
    "method",
    [Mcc(**FAST), Shot(**FAST), Cdan(**FAST), Dann(**FAST), Dan(**FAST), Jan(**FAST), DeepCoral(**FAST), Gan(**FAST)],
    ids=lambda method: method.name,
)
def test_it_beats_the_source_alone(method: DeepAdaptation, bench: Bench, alone: float) -> None:
    assert alone < 0.85
    assert bench.accuracy(method) > max(alone + 0.08, 0.9)


def values(found: Trained) -> list[NDArray[np.generic]]:
    network = [] if found.backbone is None else [part.numpy() for part in found.backbone.module.state_dict().values()]
    return [*found.head.tensors().values(), *network]


def same(one: Trained, other: Trained) -> bool:
    return all(np.array_equal(mine, theirs) for mine, theirs in zip(values(one), values(other), strict=True))


@pytest.mark.parametrize("method", [Mcc(**FAST), Shot(**FAST)], ids=lambda method: method.name)
def test_labels_of_the_target_change_nothing(method: DeepAdaptation, bench: Bench) -> None:
    other = replace(bench, target=blobs(bench.root, shift=3, seed=1, shuffled=True), events=[])
    assert same(bench.run(method)[1], other.run(method)[1])


def suspended(bench: Bench, method: DeepAdaptation, after: int) -> Path:
    """The state of a training that was suspended before so many wishes were asked for."""
    asked = 0

    def wish() -> Wish:
        nonlocal asked
        asked += 1
        return "suspend" if asked > after else "go_on"

    with pytest.raises(SuspendedError):
        bench.run(method, wish=wish)
    facts = next(data for kind, data in bench.events if kind == "checkpoint")
    return bench.root / facts["file"]


@pytest.mark.parametrize("method", [Dann(**FAST), Shot(**FAST), Gan(**FAST)], ids=lambda method: method.name)
def test_a_suspended_training_ends_like_an_unbroken_one(method: DeepAdaptation, bench: Bench) -> None:
    whole = bench.run(method)[1]
    state = suspended(bench, method, 45)  # in an epoch of adaptation
    broken = bench.run(method, resume=state)[1]
    assert any("Goes on after step" in data["text"] for kind, data in bench.events if kind == "message")
    assert same(whole, broken)
    assert [point.x for point in whole.curve] == [point.x for point in broken.curve]


def pictures(shop: Workshop, count: int, change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]) -> DataRef:
    pixels, labels = load_digits(return_X_y=True)
    images = (pixels.reshape(-1, 8, 8) * 15).astype(np.uint8)[:count]
    files = {
        f"{label}/{number:03}.png": encode(change(image))
        for number, (image, label) in enumerate(zip(images, labels[:count], strict=True))
    }
    return shop.data(make_zip(files))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def small(shop: Workshop) -> Bench:
    """Digits, and the same digits paler."""
    return Bench(
        shop.root, pictures(shop, 96, lambda image: image), pictures(shop, 96, lambda image: image // 3 + 90), "conv4"
    )


NETWORK: dict[str, Any] = {"epochs": 2, "source_epochs": 1, "batch_size": 32, "bottleneck": 16}


@pytest.mark.parametrize("method", [Mcc(**NETWORK), Gan(space="pixels", **NETWORK)], ids=lambda method: method.name)
def test_a_network_is_trained_on_pictures_and_goes_on(method: DeepAdaptation, small: Bench) -> None:
    task, whole = small.run(method)
    assert whole.backbone is not None
    assert not whole.backbone.module.training
    resolved = next(data["method"] for kind, data in small.events if kind == "resolved")
    assert (resolved["augmentation"], resolved["batch_norm"], resolved["freeze"]) == ("affine", "domain", "none")
    start = task.base.backbone().module.state_dict()
    assert not torch.equal(whole.backbone.module.state_dict()["blocks.0.0.weight"], start["blocks.0.0.weight"])
    assert same(whole, small.run(method, resume=suspended(small, method, 12))[1])


def test_batch_norms_take_the_targets_statistics(shop: Workshop) -> None:
    source = shop.data(folder_zip({"cat": 12, "dog": 12}, size=(40, 36)))
    target = shop.data(folder_zip({"cat": 12, "dog": 12}, size=(36, 40)))
    bench = Bench(shop.root, source, target, TINY, weights=shop.weights)
    task, found = bench.run(AdaBn())
    assert found.backbone is not None
    module, seen = found.backbone.module, []
    norm = next(part for part in module.modules() if isinstance(part, torch.nn.BatchNorm2d))
    norm.register_forward_pre_hook(lambda _norm, given: seen.append(given[0]))
    embed(task, module)
    made = torch.cat(seen)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert torch.allclose(norm.running_mean, made.mean(dim=(0, 2, 3)), atol=1e-5)
    assert torch.allclose(norm.running_var, made.var(dim=(0, 2, 3)), rtol=1e-3, atol=1e-6)
    kept = bench.run(AdaBn(share=0))[1].backbone
    assert kept is not None
    before = dict(task.base.backbone().module.named_buffers())
    after = {name: part for name, part in kept.module.named_buffers() if part.is_floating_point()}
    assert all(torch.allclose(part, before[name], atol=1e-6) for name, part in after.items())


def embed(task: Task, module: torch.nn.Module) -> None:
    """Show a network the target."""
    assert task.data.target is not None
    with workers(1, "test") as pool:
        embed_all(module, source_of(task.data.target, task.base, share=0), device=CPU, pool=pool)


@pytest.mark.parametrize(
    ("method", "base_model", "field"),
    [
        (Mcc(freeze="layer9"), TINY, "freeze"),
        (Mcc(freeze="all"), "conv4", "freeze"),
        (Dann(augmentation="affine"), "tabular_linear", "augmentation"),
        (Dan(epochs=3, source_epochs=3), TINY, "source_epochs"),
        (Gan(space="pixels"), TINY, "space"),
        (Gan(space="pixels"), "tabular_linear", "space"),
    ],
)
def test_what_cannot_be_is_refused(method: DeepAdaptation, base_model: str, field: str, shop: Workshop) -> None:
    table = TabularPrepare(numbers=[NumberColumn(name="x", mean=0, scale=1)])
    base = open_base(base_model, weights_dir=shop.weights, table=table)
    with pytest.raises(JobError) as caught:
        METHODS[method.name].check(method, base)
    assert caught.value.param == f"method.{field}"
    assert caught.value.hint


def test_adabn_needs_batch_norms() -> None:
    table = TabularPrepare(numbers=[NumberColumn(name="x", mean=0, scale=1)])
    with pytest.raises(JobError) as caught:
        METHODS["adabn"].check(AdaBn(), open_base("tabular_mlp", weights_dir=None, table=table))
    assert caught.value.code == "base_model_unsuitable"
    assert "coral" in str(caught.value.hint)


def test_a_score_without_labels_prefers_sure_and_even_answers() -> None:
    labels = np.arange(30) % 3
    honest = (4 * np.eye(3)[labels] + np.random.default_rng(0).normal(0, 1, (30, 3))).astype(np.float32)
    sure = (4 * np.eye(3)[labels]).astype(np.float32)
    lost = (4 * np.eye(3)[labels % 2]).astype(np.float32)
    unsure = np.zeros((30, 3), dtype=np.float32)
    found = [unlabelled_loss(honest, labels, target) for target in (sure, lost, unsure)]
    assert found[0] < min(found[1:])
    assert unlabelled_loss(honest, labels, 10 * sure) < found[0] < unlabelled_loss(-honest, labels, sure)


def test_batches_pair_domains_of_any_size() -> None:
    order = repeated(5, 4, 3, (0, 1))
    first = order(1)
    assert [len(part) for part in first] == [4, 4, 4]
    assert set(np.bincount(np.concatenate(first), minlength=5)) <= {2, 3}, "each about as often"
    assert all(np.array_equal(one, other) for one, other in zip(first, order(1), strict=True))
    assert not all(np.array_equal(one, other) for one, other in zip(first, order(2), strict=True))


def test_pictures_are_warped_by_their_maps() -> None:
    images = torch.arange(2 * 3 * 8 * 8, dtype=torch.float32).view(2, 3, 8, 8)
    still = np.tile(np.array([[1, 0, 0], [0, 1, 0]], dtype=np.float32), (2, 1, 1))
    assert torch.allclose(warp(images, still), images, atol=1e-4)
    right = still.copy()
    right[:, 0, 2] = 2 / 8  # one pixel of eight
    assert torch.allclose(warp(images, right)[..., :-1], images[..., 1:], atol=1e-3)
    assert draw(4, np.random.default_rng(0)).shape == (4, 2, 3)


def test_a_trained_network_and_its_bottleneck_come_out_of_a_job(shop: Workshop, small: Bench) -> None:
    result = shop.run(Mcc(**NETWORK), small.source, target=small.target, base_model="conv4")
    assert result.manifest is not None
    assert result.manifest.parity.max_abs_difference <= result.manifest.parity.tolerance, "ONNX says the same"
    assert result.manifest.method["source_epochs"] == 1
    assert any(note.startswith("No label of the target was used.") for note in result.report.notes)
    assert next(metric.n for metric in result.report.metrics if metric.name == "accuracy") == 96
