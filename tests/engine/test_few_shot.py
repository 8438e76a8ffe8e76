"""Learning from a few items: classes divided once and for all, episodes, heads that know classes by items, jobs."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch

from core.bundle import read_member
from core.contract.errors import JobError
from core.contract.methods import PrototypicalNetwork, SimpleShot
from tests.builders import encode, make_zip
from tests.engine.jobs import TINY, Workshop
from worker.engine.backbones import own
from worker.engine.class_stages import Likeness, Relation, RelationModule
from worker.engine.data import read
from worker.engine.door import Inputs
from worker.engine.few_shot import class_heads
from worker.engine.few_shot.classes import divide
from worker.engine.few_shot.embedder import Embedder
from worker.engine.few_shot.episodes import Pool, draw, feasible
from worker.engine.few_shot.material import Material
from worker.engine.few_shot.material import Test as EpisodeKind
from worker.engine.few_shot.metric import MetricTraining
from worker.engine.few_shot.training import _validation
from worker.engine.few_shot.views import Vectors
from worker.engine.loop import Batch
from worker.engine.methods.maths import transductive
from worker.engine.methods.maths.episodes import prototypes, ridge_scores, squared_distances
from worker.engine.methods.prototypical_network import Prototypes
from worker.engine.stages import Unit

SMALL = {"ways": [3], "shots": [1, 2], "queries": 3, "episodes": 20}
TRAINED: dict[str, Any] = {**SMALL, "steps": 40, "train_ways": 5, "train_queries": 3}
METRIC = ["prototypical_network", "matching_network", "relation_network", "r2d2"]


def shapes(classes: int = 12, items: int = 10, size: int = 28, *, grouped: bool = False) -> bytes:
    """Classes of stripes: each has its own direction and width; each picture another place and noise."""
    files = {}
    for number in range(classes):
        for item in range(items):
            rng = np.random.default_rng((number, item))
            y, x = np.mgrid[0:size, 0:size] / size
            angle, count = np.pi * (number % 6) / 6, 2 + 3 * (number // 6)
            wave = np.sin(2 * np.pi * (count * (x * np.cos(angle) + y * np.sin(angle)) + rng.uniform()))
            pixels = np.clip(128 + 80 * wave + rng.normal(0, 25, wave.shape), 0, 255).astype(np.uint8)
            group = f"{'abc'[number % 3]}/" if grouped else ""
            files[f"{group}kind{number:02}/{item}.png"] = encode(np.repeat(pixels[..., None], 3, axis=2))
    return make_zip(files)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("few_shot"))


def test_classes_are_divided_by_their_names_alone() -> None:
    """A class that is measured on is measured on in every job, whatever its seed and the order of the classes."""
    names = [f"class {number}" for number in range(40)]
    options = SimpleShot()
    found = divide(names, options, elsewhere=False, trains=True)
    again = divide(names[::-1], options, elsewhere=False, trains=True)
    assert {names[n] for n in found.test} == {names[::-1][n] for n in again.test}
    assert sorted(found.train + found.validation + found.test) == list(range(40))
    assert len(found.test) == 10
    assert not found.grouped


def test_whole_groups_are_held_out() -> None:
    names = [f"alphabet{group}/character{number}" for group in range(8) for number in range(20 + group)]
    found = divide(names, SimpleShot(), elsewhere=False, trains=True)
    assert found.grouped
    for part, other in ((found.test, found.train + found.validation), (found.validation, found.train)):
        groups, others = ({names[n].split("/")[0] for n in some} for some in (part, other))
        assert groups
        assert not groups & others
    assert 0.15 < len(found.test) / len(names) < 0.35


def test_named_classes_are_measured_on() -> None:
    names = ["a", "b", "c", "d", "e", "f", "g"]
    found = divide(names, SimpleShot(test_classes=["c", "f"]), elsewhere=False, trains=True)
    assert found.test == [2, 5]
    with pytest.raises(JobError) as caught:
        divide(names, SimpleShot(test_classes=["c", "x"]), elsewhere=False, trains=True)
    assert caught.value.code == "unknown_class"
    with pytest.raises(JobError) as caught:
        divide(names, SimpleShot(test_classes=["c", "f"]), elsewhere=True, trains=True)
    assert caught.value.code == "invalid_options"


def test_episodes_hold_different_items_of_different_classes() -> None:
    labels = np.repeat(np.arange(6), 8)
    pool = Pool.of(labels, [1, 3, 4], turns=4, what="test")
    assert pool.classes == 12
    seen = set()
    for seed in range(50):
        episode = draw(pool, 5, 2, 3, np.random.default_rng(seed))
        assert episode.rows.shape == (5, 5)
        kinds = [(int(labels[row[0]]), int(turn)) for row, turn in zip(episode.rows, episode.turns, strict=True)]
        assert len(set(kinds)) == 5
        seen |= set(kinds)
        for row in episode.rows:
            assert len(set(row.tolist())) == 5
            assert len(set(labels[row].tolist())) == 1
    assert seen == {(kind, turn) for kind in (1, 3, 4) for turn in range(4)}
    same = [draw(pool, 5, 2, 3, np.random.default_rng(1)).rows.tolist() for _ in range(2)]
    assert same[0] == same[1]


def test_what_cannot_be_drawn_is_refused_with_the_remedy() -> None:
    labels = np.repeat(np.arange(4), [5, 5, 5, 2])
    pool = Pool.of(labels, [0, 1, 2, 3], turns=1, what="test")
    assert feasible(pool, 3, 2, 15) == 3
    with pytest.raises(JobError) as caught:
        feasible(pool, 5, 1, 1)
    assert (caught.value.code, caught.value.param) == ("too_few_classes", "method.ways")
    assert "Lower `ways` to 4" in str(caught.value.hint)
    with pytest.raises(JobError) as caught:
        feasible(pool, 4, 2, 1)
    assert (caught.value.code, caught.value.param) == ("too_few_items", "method.shots")
    with pytest.raises(JobError):
        feasible(pool, 3, 5, 1)


def _embedded() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 3, (4, 6))
    labels = np.repeat(np.arange(4), 9)
    return (centres[labels] + rng.normal(0, 1, (36, 6))).astype(np.float32), labels


@pytest.mark.parametrize("kind", ["means", "items", "relation", "ridge"])
def test_an_item_is_asked_about_without_itself(kind: str) -> None:
    """Out-of-fold logits are those of a head made without the item."""
    x, labels = _embedded()
    rng = np.random.default_rng(1)
    maps = rng.normal(0, 0.3, (4, 5, 6)).astype(np.float32)
    none = np.zeros((1, 6), dtype=np.float32)
    module = RelationModule(Relation(none, *maps, none[0, :5], np.ones(5, dtype=np.float32)))
    how: dict[str, Any] = {
        "means": lambda z, y: class_heads.by_means(z, y, 4, (Unit(),), scale=3.0, unseen=y >= 0),
        "items": lambda z, y: class_heads.by_items(z, y, 4, (), scale=5.0, unseen=y >= 0),
        "relation": lambda z, y: class_heads.by_relation(z, y, 4, (), relation=module, unseen=y >= 0),
        "ridge": lambda z, y: class_heads.by_ridge(z, y, 4, (), penalty=2.0, scale=4.0, unseen=y >= 0),
    }
    known = how[kind](x, labels)
    for row in (0, 13, 35):
        rest = np.arange(len(x)) != row
        without = how[kind](x[rest], labels[rest]).head(x[row : row + 1])
        np.testing.assert_allclose(known.out_of_fold[row], without[0], rtol=2e-3, atol=2e-3)
    assert known.few_shot.least_logit is not None
    kept = (known.out_of_fold.max(axis=1) >= known.few_shot.least_logit).mean()
    assert 0.9 <= kept < 1
    assert known.few_shot.counts == [9, 9, 9, 9]
    torch_logits = known.head.as_module()(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(known.head(x), torch_logits, rtol=1e-4, atol=1e-4)


def test_classes_count_alike_whatever_number_of_items_is_known() -> None:
    items = np.eye(3, dtype=np.float32)[[0, 0, 0, 1]]
    stage = Likeness.of(items, np.array([0, 0, 0, 1]), 2, 5.0)
    found = stage(np.array([[1.0, 1.0, 0.0]], dtype=np.float32))
    assert found[0, 0] == pytest.approx(found[0, 1], abs=1e-5)
    with pytest.raises(ValueError, match="every class"):
        Likeness.of(items, np.array([0, 0, 0, 0]), 2, 5.0)


def test_ridge_in_an_episode_is_ridge_regression() -> None:
    rng = np.random.default_rng(0)
    support, query = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(2, 7, 5))
    found = ridge_scores(torch.from_numpy(support), torch.from_numpy(query), torch.tensor(0.7)).numpy()
    for task in range(2):
        x = np.c_[support[task].reshape(12, 5), np.ones(12)]
        weights = np.linalg.solve(x.T @ x + 0.7 * np.eye(6), x.T @ np.repeat(np.eye(3), 4, axis=0))
        np.testing.assert_allclose(found[task], np.c_[query[task], np.ones(7)] @ weights, atol=1e-6)


def test_distances_to_prototypes() -> None:
    rng = torch.Generator().manual_seed(0)
    support, query = torch.randn(2, 3, 4, 5, generator=rng), torch.randn(2, 6, 5, generator=rng)
    means = prototypes(support)
    found = squared_distances(query, means)
    assert found.shape == (2, 6, 3)
    torch.testing.assert_close(found[1, 2, 0], (query[1, 2] - support[1, 0].mean(dim=0)).square().sum())


def test_each_item_of_an_episode_is_known_once() -> None:
    """Two episodes of three classes, five items each: the first two are known, then the next two, the last never."""
    rng = torch.Generator().manual_seed(0)
    items = torch.randn(2, 3, 5, 4, generator=rng)
    net = Prototypes(Embedder(None, torch.nn.Linear(4, 4), 4), cosine=False)
    setting: Any = SimpleNamespace(
        built=SimpleNamespace(backbone=None),
        options=SimpleNamespace(train_shots=2),
        task=SimpleNamespace(device=torch.device("cpu")),
    )
    found = MetricTraining(setting, net).loss(Batch((items,), torch.arange(3).expand(2, 3)))["episodes"]
    z, losses = net.embed(items), []
    for known in ([0, 1], [2, 3]):
        asked = [number for number in range(5) if number not in known]
        for episode in z:
            means = episode[:, known].mean(dim=1)
            for label in range(3):
                scores = -(episode[label, asked][:, None] - means).square().sum(dim=-1)
                losses.append(torch.nn.functional.cross_entropy(scores, torch.full((3,), label)))
    torch.testing.assert_close(found, torch.stack(losses).mean())


@pytest.mark.parametrize("name", ["bd_cspn", "tim"])
def test_items_asked_about_together_help(name: str) -> None:
    """One known item of each class lies off its centre; the many that are asked about say where the centre is."""
    rng = torch.Generator().manual_seed(0)
    centres = torch.nn.functional.normalize(torch.randn(5, 16, generator=rng), dim=1)
    support = torch.nn.functional.normalize(centres[:, None] + 0.3 * torch.randn(5, 1, 16, generator=rng), dim=-1)
    query = torch.nn.functional.normalize(
        centres.repeat_interleave(15, dim=0) + 0.25 * torch.randn(75, 16, generator=rng), dim=-1
    )
    truth = torch.arange(5).repeat_interleave(15)
    plain = -squared_distances(query[None], support.mean(dim=1)[None])[0]
    together = transductive.METHODS[name](support, query)
    right = [float((logits.argmax(dim=1) == truth).float().mean()) for logits in (plain, together)]
    assert right[1] > right[0]


def test_simple_shot_makes_a_model_that_says_what_it_takes_to_change_its_classes(workshop: Workshop) -> None:
    found = workshop.run(
        {"name": "simple_shot", **SMALL, "transductive": "bd_cspn"}, workshop.data(shapes(grouped=True))
    )
    report, manifest = found.report, found.manifest
    assert report.episodes is not None
    assert manifest is not None
    assert manifest.few_shot is not None
    assert manifest.few_shot.kind == "class_means"
    assert len(manifest.few_shot.counts) == 12
    assert manifest.output_names[-1] == "inner"
    arms = {figure.arm for figure in report.episodes.figures}
    assert arms == {"simple_shot", "simple_shot_bd_cspn"}
    assert report.episodes.grouped
    assert report.episodes.test_classes == 4
    _same_names(found.bundle)


@pytest.mark.parametrize("method", METRIC)
def test_a_network_is_meta_trained_from_scratch(workshop: Workshop, method: str) -> None:
    """It beats chance on classes it has never seen, and its graph answers as PyTorch does (parity is part of a job)."""
    source = workshop.data(shapes())
    few = {**TRAINED, "shots": [1]}
    found = workshop.run({"name": method, **few}, source, base_model="conv4", baselines="none")
    report, manifest = found.report, found.manifest
    assert manifest is not None
    assert manifest.few_shot is not None
    assert report.episodes is not None
    first = report.episodes.figures[0]
    assert (first.arm, first.ways, first.shots, first.episodes) == (method, 3, 1, 20)
    assert first.accuracy > 0.45
    assert manifest.parity.max_abs_difference <= manifest.parity.tolerance
    head = own.head(found.bundle, manifest)
    assert head is not None
    assert head.classes == 12
    _same_names(found.bundle)


def test_it_is_compared_with_frozen_features_and_with_tuning(workshop: Workshop) -> None:
    method = {"name": "prototypical_network", **TRAINED, "shots": [1], "queries": 1, "steps": 5}
    report = workshop.run(method, workshop.data(shapes()), base_model="conv4", baselines="quick", guard="off").report
    rivals = {"simple_shot", "logistic_regression", "plain_fine_tuning"}
    assert {arm.name for arm in report.arms if arm.role == "baseline"} == rivals
    assert report.judgement is not None
    assert report.judgement.baseline in rivals
    assert report.judgement.served == "prototypical_network"


def _same_names(bundle: Path | None) -> None:
    """The head's tensors stand in the graph under the names that they have in the file of tensors."""
    import onnx
    from safetensors.numpy import load

    assert bundle is not None
    graph = onnx.load_model_from_string(read_member(bundle, "model.onnx")).graph
    known = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    tensors = {name: part for name, part in load(read_member(bundle, "model.safetensors")).items() if "head." in name}
    assert tensors
    for name, part in tensors.items():
        np.testing.assert_array_equal(known[name], part)
    names = [one.name for one in ort.InferenceSession(read_member(bundle, "model.onnx")).get_outputs()]
    assert names == ["probabilities", "logits", "embedding", "inner"]


def test_features_of_a_frozen_network_are_meta_trained_on(workshop: Workshop) -> None:
    source = workshop.data(shapes())
    found = workshop.run({"name": "prototypical_network", **TRAINED}, source, base_model=TINY, baselines="quick")
    assert found.report.episodes is not None
    arms = [figure.arm for figure in found.report.episodes.figures]
    assert "plain_fine_tuning" not in arms
    assert found.report.judgement is not None
    assert found.report.judgement.difference is not None
    assert found.report.judgement.difference.test == "paired_t"


def test_another_data_set_has_the_new_classes(workshop: Workshop) -> None:
    source, other = workshop.data(shapes(6)), _renamed(workshop)
    found = workshop.run({"name": "simple_shot", **SMALL}, source, other)
    assert found.report.episodes is not None
    assert found.report.episodes.test_classes == 5
    assert found.report.episodes.test_examples[0].startswith("new")
    assert found.report.evaluated_on == "test_split"
    with pytest.raises(JobError) as caught:
        workshop.run({"name": "simple_shot", **SMALL}, source, workshop.data(shapes(5)))
    assert caught.value.code == "classes_known"


def _renamed(workshop: Workshop) -> Any:
    files = {}
    for number in range(5):
        for item in range(6):
            rng = np.random.default_rng((number, item))
            pixels = np.full((28, 28, 3), 40 * number, dtype=np.uint8) + rng.integers(
                0, 30, (28, 28, 3), dtype=np.uint8
            )
            files[f"new{number}/{item}.png"] = encode(pixels)
    return workshop.data(make_zip(files))


def test_turned_pictures_are_classes_of_their_own(workshop: Workshop) -> None:
    method = {"name": "prototypical_network", **TRAINED, "rotations": True, "ways": [8]}
    found = workshop.run(method, workshop.data(shapes()), base_model="conv4", baselines="none")
    assert found.report.episodes is not None
    assert found.report.episodes.test_classes == 12
    assert any("each in four turns and mirrored" in note for note in found.report.notes)
    assert found.report.judgement is None


def test_mirror_images_are_classes_to_train_on_alone(workshop: Workshop) -> None:
    data = read(Inputs("job", "mdl", workshop.data(shapes())))
    material = Material.of(data, PrototypicalNetwork(rotations=True), trains=True)
    plain, more = (material.pool(material.split.train, "training", mirrored=mirrored) for mirrored in (False, True))
    assert (plain.classes, more.classes) == (4 * len(material.split.train), 8 * len(material.split.train))
    assert set(material.test_pool.turns) == set(plain.turns) == set(range(4))


def test_how_sure_it_is_chooses_no_state() -> None:
    """Answers ten times as sure are the same to what chooses; worse ones are not."""
    features = np.random.default_rng(1).normal(size=(40, 4)).astype(np.float32) + np.repeat(np.eye(4), 10, axis=0) * 2
    views = Vectors(features.astype(np.float32)[:, None], torch.device("cpu"))
    pool = Pool.of(np.repeat(np.arange(4), 10), [0, 1, 2, 3], turns=1, what="validation")
    split = SimpleNamespace(validation=[0, 1, 2, 3])
    material: Any = SimpleNamespace(pool=lambda _classes, _what: pool, split=split, tests=[EpisodeKind(3, 1, 5)])
    task: Any = SimpleNamespace(seed=0, device=torch.device("cpu"), wishes=SimpleNamespace(check=lambda: None))

    def found(scale: float, width: int = 4) -> Any:
        def answer(known: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
            means = prototypes(known[None])[..., :width]
            return -scale * squared_distances(asked.flatten(0, 1)[None, :, :width], means)[0]

        validate = _validation(task, SimpleNamespace(measured=lambda seen: (answer, seen)), material, views)  # type: ignore[arg-type]
        assert validate is not None
        return validate()

    plain, sure, worse = found(1.0), found(10.0), found(1.0, 1)
    assert sure.loss == pytest.approx(plain.loss, rel=1e-2)
    assert sure.score == plain.score > worse.score
    assert worse.loss > plain.loss


def test_too_few_classes_fail_before_anything_is_trained(workshop: Workshop) -> None:
    source = workshop.data(shapes(4))
    with pytest.raises(JobError) as caught:
        workshop.run({"name": "prototypical_network", "ways": [5]}, source, base_model="conv4")
    assert caught.value.code == "too_few_classes"
    assert not workshop.said("resolved")
    with pytest.raises(JobError) as caught:
        workshop.run({"name": "simple_shot", "ways": [2], "shots": [50]}, source)
    assert caught.value.code == "too_few_items"
