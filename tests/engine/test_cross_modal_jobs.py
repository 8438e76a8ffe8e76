"""Whole jobs from captions to images: a table that names files, class folders, a bundle that answers images."""

import csv
import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load
from safetensors.torch import save_file

from core.contract.base_models import BaseModelCard
from core.contract.errors import JobError
from core.contract.methods import CrossModal, KernelCca
from core.modality.preparers import decode, preparer
from tests.builders import encode, make_zip
from tests.engine.jobs import TINY, Workshop
from tests.engine.texts import CONFIG, tokenizer
from tests.engine.uploads import members
from worker.engine.backbones import transformers_
from worker.engine.door import DataRef, Result
from worker.engine.sessions import open_session

COLOURS = {"red": (230, 30, 30), "green": (30, 200, 30), "blue": (40, 60, 240), "white": (240, 240, 240)}
SHAPES = ("disc", "bars", "dot", "grid")
CLASSES = [f"{colour}_{shape}" for colour in COLOURS for shape in SHAPES]
UNSEEN = ("red_disc", "green_bars", "blue_dot")
EACH = 8
WORDS = (*COLOURS, *SHAPES, "a", "photo", "of", "one", "here", "is", "plain", "large", "small", "and")
NAME = "hf:tiny/colours"


def lay_down(weights: Path) -> None:
    """A tiny text encoder that knows colours and shapes, with random weights."""
    folder = weights / "tiny" / "colours"
    folder.mkdir(parents=True)
    config = CONFIG | {"vocab_size": 4 + len(WORDS), "hidden_size": 32, "num_hidden_layers": 1}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_bytes(tokenizer(WORDS))
    card: BaseModelCard = transformers_.card(NAME, config | {"pooling": "mean"})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = transformers_.build(card)
    state = {name.removeprefix("model."): tensor for name, tensor in module.state_dict().items()}
    save_file(state, folder / "model.safetensors")


def picture(colour: str, shape: str, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:64j, -1:1:64j] + rng.uniform(-0.1, 0.1, (2, 1, 1))
    bars = np.floor(4 * x) % 2 == 0
    grid = (np.floor(6 * x) % 2 == 0) | (np.floor(6 * y) % 2 == 0)
    inside = {"disc": np.hypot(x, y) < 0.6, "dot": np.hypot(x, y) < 0.25, "bars": bars, "grid": grid}[shape]
    pixels = np.full((64, 64, 3), 90.0) + rng.normal(0, 8, (64, 64, 3))
    pixels[inside] = COLOURS[colour]
    return encode(pixels.clip(0, 255).astype(np.uint8))


@cache
def heap() -> dict[str, bytes]:
    """Images of all classes, by class folder and name."""
    return {
        f"{name}/{name}_{one:02}.png": picture(*name.split("_"), seed=100 * number + one)
        for number, name in enumerate(CLASSES)
        for one in range(EACH)
    }


def images(*, labelled: bool = True) -> bytes:
    """Class folders, or one heap without labels."""
    return make_zip({name if labelled else name.split("/")[1]: data for name, data in heap().items()})


def captions() -> bytes:
    """A caption of every image but those of unseen classes; of these only what they are called, without an image."""
    file = io.StringIO()
    out = csv.writer(file)
    out.writerow(["file_name", "caption", "label"])
    rng = np.random.default_rng(0)
    for name in CLASSES:
        for one in range(EACH):
            words = list(rng.choice(["large", "small", "plain", "here", "is", "one", "a"], rng.integers(1, 5)))
            said = " ".join([*words, *name.split("_"), str(rng.integers(1000))])
            image = f"{name}_{one:02}.png" if name not in UNSEEN else f"none_{name}_{one}"
            out.writerow([image, said, name if name in UNSEEN or one % 3 else ""])
    return file.getvalue().encode()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    found = Workshop(tmp_path_factory.mktemp("across"))
    lay_down(found.weights)
    return found


@pytest.fixture(scope="module")
def texts(shop: Workshop) -> DataRef:
    return shop.data(captions())


@pytest.fixture(scope="module")
def photos(shop: Workshop) -> DataRef:
    return shop.data(images())


def run(shop: Workshop, source: DataRef, target: DataRef, method: Any = None, **more: Any) -> Result:
    given = {"base_model": NAME, "target_base_model": TINY, "baselines": "quick"} | more
    return shop.run(method or CrossModal(), source, target=target, **given)


WEAK = CrossModal(regularisation=1e-5)
"""Random networks tell shapes by small differences: a strong penalty would drown them."""


@pytest.fixture(scope="module")
def job(shop: Workshop, texts: DataRef, photos: DataRef) -> Result:
    return run(shop, texts, photos, WEAK, guard="off")


def test_images_of_unseen_classes_are_answered_by_name(job: Result) -> None:
    recall = {row.name: row.recall for row in job.report.class_table}
    assert np.mean([recall[name] for name in UNSEEN]) > 0.4  # chance is 1/16
    assert job.report.metrics[0].value > 0.7
    arms = {arm.name: arm for arm in job.report.arms}
    assert arms["cross_modal"].served
    assert arms["paired_only"].state == "measured"
    assert (arms["paired_only"].value or 1) < job.report.metrics[0].value
    assert job.report.judgement is not None
    assert job.report.judgement.baseline == "paired_only"


def test_the_bundle_is_one_of_images(job: Result, tmp_path: Path) -> None:
    manifest = job.manifest
    assert manifest is not None
    assert job.bundle is not None
    assert (manifest.modality, manifest.base_model, manifest.lineage) == ("image", TINY, [TINY])
    (tmp_path / "model.onnx").write_bytes(members(job.bundle)["model.onnx"])
    session, prepare = open_session(tmp_path / "model.onnx"), preparer(manifest.prepare)
    new = decode("image", picture("red", "disc", seed=9999))
    answer = session.run(["probabilities"], {"image": prepare.collate([prepare(new)])[0]})[0]
    assert manifest.classes[int(answer.argmax())].startswith("red_")


def test_without_labels_of_the_target_partners_measure(shop: Workshop, texts: DataRef) -> None:
    """Those of the source's test split, which was not learnt from; their images' names tell which these are."""
    found = run(shop, texts, shop.data(images(labelled=False)), WEAK, guard="off")
    assert found.report.evaluated_on == "target"
    assert 5 < found.report.held_out_items < 30
    assert found.report.metrics[0].value > 0.7


def test_labels_of_the_target_decide_nothing(shop: Workshop, texts: DataRef, job: Result) -> None:
    turned = [*CLASSES[1:], CLASSES[0]]
    files = {f"{turned[CLASSES.index(name.split('/')[0])]}/{name.split('/')[1]}": data for name, data in heap().items()}
    found = run(shop, texts, shop.data(make_zip(files)), WEAK, guard="off")
    ours, theirs = (load(members(one.bundle)["model.safetensors"]) for one in (found, job) if one.bundle is not None)
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(part, theirs[name]) for name, part in ours.items())
    assert found.report.metrics[0].value < 0.2


def test_images_without_a_partner_or_label_measure_nothing(shop: Workshop, photos: DataRef) -> None:
    strange = captions().replace(b".png", b"_other.png")
    heap_ = shop.data(images(labelled=False))
    with pytest.raises(JobError) as caught:
        run(shop, shop.data(strange), heap_)
    assert (caught.value.code, caught.value.param) == ("no_held_out_items", "target")
    with pytest.raises(JobError) as caught:
        run(shop, shop.data(strange), photos)
    assert (caught.value.code, caught.value.param) == ("too_few_pairs", "target")


@pytest.mark.parametrize(
    ("method", "more", "code", "param"),
    [
        (CrossModal(class_names=["a", "b"]), {}, "class_names_differ", "method.class_names"),
        (CrossModal(), {"target_base_model": NAME}, "modalities_differ", "target_base_model"),
    ],
)
def test_what_cannot_be_is_refused(
    shop: Workshop, texts: DataRef, photos: DataRef, method: CrossModal, more: Any, code: str, param: str
) -> None:
    with pytest.raises(JobError) as caught:
        run(shop, texts, photos, method, **more)
    assert (caught.value.code, caught.value.param) == (code, param)


def test_two_sets_of_images_have_no_texts(shop: Workshop, photos: DataRef) -> None:
    other = shop.data(images(labelled=False), seed=1)
    with pytest.raises(JobError) as caught:
        shop.run(CrossModal(), photos, target=other)
    assert caught.value.code == "texts_required"


def test_kernel_cca_goes_from_texts_to_images_too(shop: Workshop, texts: DataRef, photos: DataRef) -> None:
    found = run(shop, texts, photos, KernelCca(kernel="linear"), guard="off")
    assert found.report.metrics[0].value > 0.6
