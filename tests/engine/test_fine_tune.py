"""Fine-tuning: what is frozen stays, the probe's start is exact, seeds repeat, pictures are augmented as said."""

import copy
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load
from torch import nn
from torchvision.transforms.v2 import functional

from core.contract.errors import JobError
from core.contract.methods import FineTune, LinearProbe
from core.contract.prepare import ImagePrepare
from core.modality.image import prepare
from core.recipes import Facts, resolve
from tests.builders import folder_zip
from tests.engine.jobs import TINY, Workshop
from worker.engine import augment
from worker.engine.backbones import load as load_backbone
from worker.engine.data import read
from worker.engine.door import Inputs
from worker.engine.heads import Head
from worker.engine.images import ImageCache, to_inputs
from worker.engine.loop import Batch
from worker.engine.methods import fine_tune
from worker.engine.methods.supervised import HeadTraining, NetworkTraining, optimiser
from worker.engine.methods.validated import answers, rated
from worker.engine.recipes.objective import Objective

FAST = {"epochs": 2, "batch_size": 16, "augmentation": "none", "early_stop": None}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return Workshop(tmp_path_factory.mktemp("tune"))


@pytest.fixture(scope="module")
def source(shop):
    return shop.data(folder_zip({"cat": 24, "dog": 24}, size=(40, 36)))


@pytest.fixture(scope="module")
def blind(shop):
    """Data without validation items."""
    few = shop.data(folder_zip({"cat": 12, "dog": 12}, splits=["train", "validation", "test"]))
    few.manifest.write_text(few.manifest.read_text().replace('"split":"validation"', '"split":"train"'))
    return few


def tensors(result):
    with zipfile.ZipFile(result.bundle) as archive:
        return load(archive.read("model.safetensors"))


def training(shop, **options):
    backbone = load_backbone(TINY, weights_dir=shop.weights)
    head = Head(np.zeros((2, backbone.card.width), dtype=np.float32), np.zeros(2, dtype=np.float32))
    chosen = settled(FineTune(**options), backbone.card)
    objective = Objective("classification", 2, chosen.label_smoothing)
    return backbone, NetworkTraining(backbone, head.as_module(), chosen, objective), chosen


def settled(options, card, items=5000):
    return resolve(options, Facts("image", "classification", items, card))[0]


def one_step(method, options):
    method.head.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    rule = optimiser(method, options)
    method.train(1)
    images = torch.randn(4, 3, 160, 160, generator=torch.Generator().manual_seed(1))
    sum(method.loss(Batch((images,), torch.tensor([0, 1, 0, 1]))).values()).backward()
    rule.step()


@pytest.mark.parametrize("freeze", ["layer2", "all"])
def test_frozen_parts_do_not_move_nor_do_their_statistics(shop, freeze):
    backbone, method, options = training(shop, freeze=freeze, batch_norm="train", backbone_lr=0.1)
    before = copy.deepcopy(backbone.module.state_dict())
    one_step(method, options)
    frozen = {id(t) for part in backbone.frozen(freeze) for t in (*part.parameters(), *part.buffers())}
    own = dict(backbone.module.named_parameters()) | dict(backbone.module.named_buffers())
    still = [name for name, tensor in own.items() if id(tensor) in frozen]
    moving = [name for name in own if name not in still]
    assert len(still) > 5
    assert all(torch.equal(before[name], backbone.module.state_dict()[name]) for name in still)
    moved = sum(not torch.equal(before[name], backbone.module.state_dict()[name]) for name in moving)
    assert moved >= 0.8 * len(moving)  # behind a norm that starts at zero nothing moves in the first step
    assert bool(moving) == (freeze != "all")
    assert any("running_mean" in name for name in still)


@pytest.mark.parametrize(("setting", "moves"), [("frozen", False), ("train", True)])
def test_statistics_move_only_if_they_may(shop, setting, moves):
    backbone, method, options = training(shop, batch_norm=setting)
    before = {name: b.clone() for name, b in backbone.module.named_buffers() if "running" in name}
    one_step(method, options)
    changed = [not torch.equal(before[name], b) for name, b in backbone.module.named_buffers() if name in before]
    assert len(changed) > 4
    assert all(changed) if moves else not any(changed)


def test_rates_and_decay_go_where_they_should(shop):
    backbone, method, _ = training(shop)

    def rule_of(**options):
        return optimiser(method, settled(FineTune(**options), backbone.card))

    rule = rule_of(head_lr=0.5, backbone_lr=0.25, weight_decay=0.125)
    of = {id(p): group for group in rule.param_groups for p in group["params"]}
    for name, parameter in method.module.named_parameters():
        group = of[id(parameter)]
        assert group["lr"] == (0.25 if name.startswith("backbone.") else 0.5)
        assert group["weight_decay"] == (0.125 if parameter.ndim > 1 else 0.0)
    scratch = rule_of(init="scratch", head_lr=0.5, backbone_lr=0.25)
    assert {group["lr"] for group in scratch.param_groups} == {0.5}
    still = rule_of(backbone_lr=0.0)
    assert sum(len(group["params"]) for group in still.param_groups) == 2
    nesterov = rule_of(optimiser="sgd")
    assert nesterov.defaults["nesterov"]


@pytest.mark.parametrize("scale", [1.0, 0.3])  # what is likeliest stays so
def test_it_starts_exactly_at_the_probe(shop, source, scale):
    tuned = shop.run(FineTune(**FAST, head_scale=scale), source)
    start = tuned.report.curve[0]
    assert start.x == 0
    assert start.validation_accuracy == 1.0  # the tiny set is easy: the probe is right on all of it
    assert start.validation_loss < 0.1


def test_a_small_head_is_the_probes_but_smaller(shop, blind):
    still = FAST | {"epochs": 1, "head_lr": 1e-9, "backbone_lr": 0.0, "ema": None, "weight_decay": 0.0}
    whole, small = (
        tensors(shop.run(FineTune(**still, head_scale=scale), blind, baselines="none")) for scale in (1.0, 0.1)
    )
    np.testing.assert_allclose(small["head.weight"], 0.1 * whole["head.weight"], atol=1e-6)
    np.testing.assert_allclose(small["head.bias"], 0.1 * whole["head.bias"], atol=1e-6)


def test_a_network_that_training_only_spoilt_is_left_as_it_was(shop, source):
    # A rate so high that every epoch is worse than the start.
    tuned = shop.run(FineTune(**FAST | {"head_lr": 5.0, "backbone_lr": 0.01}), source)
    probe = shop.run(LinearProbe(), source)
    found, expected = tensors(tuned), tensors(probe)
    assert found.keys() == expected.keys()
    for name in expected.keys() - {"head.weight", "head.bias"}:
        np.testing.assert_array_equal(found[name], expected[name])
    assert tuned.report.metrics[0].value == 1.0


@pytest.mark.parametrize("options", [{}, {"augmentation": "standard"}, {"freeze": "all"}])
def test_a_seed_repeats_the_weights(shop, source, options):
    method = FineTune(**FAST | {"head_start": False, "head_lr": 0.05} | options)
    first, second, other = (tensors(shop.run(method, source, seed=seed)) for seed in (1, 1, 2))
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)
    assert not np.array_equal(first["head.weight"], other["head.weight"])


def test_stop_keeps_the_best_so_far_and_still_makes_a_model(shop, source):
    def wish():
        done = [data for data in shop.said("metric") if data.get("epoch", 0) >= 1]
        return "stop" if done else "go_on"

    method = FineTune(**FAST | {"epochs": 1000, "head_start": False, "head_lr": 0.05, "batch_norm": "train"})
    result = shop.run(method, source, wish=wish)
    assert any("stopped on request" in note for note in result.report.notes)
    losses = {point.x: point.validation_loss for point in result.report.curve}
    assert max(losses) <= 2
    best = min(losses, key=losses.get)
    assert best == 0 or any(f"after epoch {best:.3g}, the best" in note for note in result.report.notes)
    assert result.bundle.is_file()


@pytest.mark.parametrize("freeze", ["none", "all"])
def test_a_training_that_spoils_its_start_hands_back_the_plain_probe(shop, source, freeze):
    spoilt = {"freeze": freeze, "head_lr": 10.0, "backbone_lr": 0.0, "epochs": 1, "weight_decay": 0.0}
    tuned, probe = shop.run(FineTune(**FAST | spoilt), source), shop.run(LinearProbe(), source)
    assert any("that probe is what comes out" in note for note in tuned.report.notes)
    np.testing.assert_array_equal(tensors(tuned)["head.weight"], tensors(probe)["head.weight"])


def test_from_scratch_needs_no_weights_and_cannot_be_frozen(shop, source):
    method = FineTune(**FAST | {"init": "scratch", "epochs": 4, "head_lr": 0.003})
    result = shop.run(method, source, base_model="timm:test_resnet")
    assert [step.name for step in result.report.steps] == ["prepare", "train", "compare", "evaluate", "export"]
    assert result.report.curve[-1].train_loss < result.report.curve[1].train_loss
    with pytest.raises(JobError) as caught:
        shop.run(FineTune(init="scratch", freeze="all"), source)
    assert caught.value.param == "method.freeze"


def test_without_validation_items_the_last_weights_are_kept(shop, blind):
    result = shop.run(FineTune(**FAST), blind)
    assert result.report.validation_items == 0
    assert result.report.calibration.temperature == 1.0
    assert any("no validation items" in note for note in result.report.notes)


@pytest.mark.parametrize(
    ("gain", "items", "best_epoch", "better"),
    [
        (0.0, 40, 1, False),  # one item's luck against another's
        (3.0, 40, 1, True),
        (3.0, 40, 0, False),  # the loop found nothing better than the start
        (3.0, 40, None, True),  # nothing was validated
        (0.0, 1, 1, True),  # nothing to tell by
    ],
)
def test_a_gain_within_the_noise_of_validation_is_none(gain, items, best_epoch, better):
    rng = np.random.default_rng(0)
    labels = np.arange(items) % 2
    before = rng.normal(size=(items, 2)).astype(np.float32) + 2 * np.eye(2, dtype=np.float32)[labels]
    after = before + 0.5 * rng.normal(size=before.shape).astype(np.float32)
    after += np.float32(gain) * np.eye(2, dtype=np.float32)[labels]
    validation = type("Some", (), {"labels": labels, "__len__": lambda _self: items})()
    task = SimpleNamespace(
        data=SimpleNamespace(validation=validation, problem="classification"), features=lambda _items: before
    )
    start = Head(np.eye(2, dtype=np.float32), np.zeros(2, dtype=np.float32))
    outcome = SimpleNamespace(best_epoch=best_epoch)
    assert fine_tune._is_better(task, FineTune(), start, outcome, lambda: after) is better
    assert fine_tune._is_better(task, FineTune(head_start=False), start, outcome, lambda: after)


def test_outputs_that_explode_are_told():
    head = Head(np.ones((2, 3), dtype=np.float32), np.zeros(2, dtype=np.float32))
    method, labels = HeadTraining(head.as_module(), Objective("classification", 2)), np.array([0, 1])
    said = answers(method, np.eye(2, 3, dtype=np.float32), "Lower `head_lr`.")
    assert rated(said, labels, "classification").loss == pytest.approx(np.log(2))
    with pytest.raises(JobError) as caught:
        answers(method, np.full((2, 3), 3e38, dtype=np.float32), "Lower `head_lr`.")
    assert caught.value.code == "non_finite_loss"
    assert "head_lr" in (caught.value.hint or "")


def test_cached_pixels_are_those_of_prepare(shop, source):
    data = read(Inputs("job", "mdl", source))
    config = ImagePrepare(size=24, crop=0.9)
    images = ImageCache(data.train, config, share=0.1)
    reader = data.train.collection.reader
    for position in (0, 5):
        expected = prepare(reader.image(int(data.train.indices[position])), config)
        for _ in range(2):  # decoded, then from memory
            found = to_inputs(torch.from_numpy(images.centre(position))[None], config)[0]
            np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    assert images.whole(0).shape == (26, 29, 3)  # floor(24 / 0.9), and 40:36 kept
    assert images.whole(0) is images.whole(0)
    starved = ImageCache(data.train, config, share=0)
    assert starved.whole(0) is not starved.whole(0)
    np.testing.assert_array_equal(starved.whole(0), images.whole(0))
    data.close()


def test_crops_lie_inside_and_keep_the_ranges():
    recipe = augment.recipe("standard", horizontal_flip=True)
    rng = np.random.default_rng(0)
    boxes = np.array([augment.crop_box(100, 60, recipe, rng) for _ in range(2000)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert boxes.min() >= 0
    assert boxes[:, 2].max() <= 100
    assert boxes[:, 3].max() <= 60
    assert (width * height).min() >= 0.35 * 6000 - 1e-6
    assert (width / height).max() <= 4 / 3 + 1e-6
    assert boxes.std(axis=0).min() > 1


def test_flips_happen_only_where_they_may():
    pixels = np.zeros((32, 32, 3), dtype=np.uint8)
    pixels[:, :16] = 255
    config = ImagePrepare(size=16)
    for flip, expected in ((True, (400, 600)), (False, (0, 0))):
        recipe = augment.recipe("standard", horizontal_flip=flip)
        views = [augment.draw(pixels, config, recipe, np.random.default_rng(i))[0] for i in range(1000)]
        flipped = sum(bool(view[:, 0].mean() < view[:, -1].mean()) for view in views)
        assert expected[0] <= flipped <= expected[1]


def test_jitter_equals_torchvision():
    values = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.6 + 0.2
    factors = torch.tensor([[1.1, 0.9, 1.2], [0.8, 1.1, 0.7]])
    for image, (brightness, contrast, saturation) in zip(values, factors.tolist(), strict=True):
        expected = functional.adjust_brightness(image, brightness)
        expected = functional.adjust_contrast(expected, contrast)
        expected = functional.adjust_saturation(expected, saturation)
        found = augment.jitter(image[None], torch.tensor([[brightness, contrast, saturation]]))[0]
        torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)
    torch.testing.assert_close(augment.jitter(values, torch.ones(2, 3)), values)


def test_nothing_is_drawn_for_none():
    assert augment.recipe("none", horizontal_flip=True) is None
    light = augment.recipe("light", horizontal_flip=True)
    assert not light.flip
    assert light.jitter == 0
    view, factors = augment.draw(
        np.zeros((40, 30, 3), np.uint8), ImagePrepare(size=20), light, np.random.default_rng(0)
    )
    assert view.shape == (20, 20, 3)
    assert (factors == 1).all()
    assert Image.fromarray(view).mode == "RGB"


def test_label_smoothing_is_used(shop):
    _, plain, _ = training(shop, label_smoothing=0.0)
    _, smooth, _ = training(shop, label_smoothing=0.2)
    images, labels = torch.randn(2, 3, 160, 160), torch.tensor([0, 1])
    for method in (plain, smooth):
        method.head.bias.data = torch.tensor([2.0, -2.0])
        method.module.eval()
    logits = torch.tensor([[2.0, -2.0]] * 2)
    for method, amount in ((plain, 0.0), (smooth, 0.2)):
        expected = nn.functional.cross_entropy(logits, labels, label_smoothing=amount)
        torch.testing.assert_close(method.loss(Batch((images,), labels))["task"], expected)
