"""Items as a learner takes them: turned, mirrored, laid over one another, bent, and embedded once."""

import numpy as np
import pytest
import torch

from core.contract.prepare import ImagePrepare
from tests.builders import encode, make_zip
from tests.engine.jobs import Workshop
from tests.engine.test_few_shot import shapes
from worker.engine.data import read
from worker.engine.door import Inputs
from worker.engine.few_shot.views import Embedded, Pictures, Vectors
from worker.engine.recipes import warp


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("few_shot_views"))


def test_pictures_are_turned_and_mirrored(workshop: Workshop) -> None:
    items = read(Inputs("job", "mdl", workshop.data(shapes(3)))).train
    views = Pictures(items, ImagePrepare(size=28, crop=1.0), torch.device("cpu"), augment=False)
    rows = np.zeros(8, dtype=np.int64)
    found = views(rows, np.arange(8))
    for turn in range(4):
        np.testing.assert_array_equal(found[turn], torch.rot90(found[0], turn, dims=(1, 2)))
        np.testing.assert_array_equal(found[4 + turn], torch.rot90(found[0].flip(2), turn, dims=(1, 2)))
    assert len({picture.numpy().tobytes() for picture in found}) == 8


@pytest.mark.parametrize("paper", [230, 20])
def test_what_is_drawn_in_either_picture_is_in_both_laid_over_one_another(workshop: Workshop, paper: int) -> None:
    files = {}
    for number, place in enumerate((slice(4, 8), slice(20, 24))):
        for item in range(10):
            pixels = np.full((28, 28, 3), paper, dtype=np.uint8)
            pixels[place, 6:22] = 250 - paper + item
            files[f"kind{number}/{item}.png"] = encode(pixels)
    items = read(Inputs("job", "mdl", workshop.data(make_zip(files)))).train
    views = Pictures(items, ImagePrepare(size=28, crop=1.0), torch.device("cpu"), augment=False)
    rows = [np.flatnonzero(items.labels == number)[:1] for number in range(2)]
    still = np.zeros(1, dtype=np.int64)
    first, second = (views(row, still) for row in rows)
    both = views.overlaid([(rows[0], still), (rows[1], still)], np.random.default_rng(1))
    inked = (both - both[0, 0, 0, 0]).abs() > 0.5
    assert torch.equal(inked, ((first - first[0, 0, 0, 0]).abs() > 0.5) | ((second - second[0, 0, 0, 0]).abs() > 0.5))
    assert inked.float().mean() == pytest.approx(2 * 4 * 16 / 28**2)


def test_an_item_is_embedded_once_whatever_episodes_it_is_in() -> None:
    features = np.random.default_rng(1).normal(size=(700, 4, 3)).astype(np.float32)
    asked: list[int] = []

    def embed(rows: torch.Tensor) -> torch.Tensor:
        asked.append(len(rows))
        return rows * 2

    plain = Vectors(features, torch.device("cpu"))
    views = Embedded(plain, embed)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        rows, turns = rng.integers(0, 700, 900), rng.integers(0, 4, 900)
        torch.testing.assert_close(views(rows, turns), plain(rows, turns) * 2)
    assert sum(asked) <= 2800
    before = sum(asked)
    views(np.array([3, 3]), np.array([1, 1]))
    assert sum(asked) <= before + 1


def test_bends_move_strokes_a_little_and_smoothly() -> None:
    rng = np.random.default_rng(1)
    picture = torch.zeros(400, 3, 28, 28)
    picture[:, :, :, 12:16] = 1.0
    still = np.repeat(np.array([[[1, 0, 0], [0, 1, 0]]], dtype=np.float32), len(picture), axis=0)
    np.testing.assert_allclose(warp.warp(picture, still), picture, atol=1e-5)
    found = warp.warp(picture, still, warp.draw_bends(len(picture), rng))[:, 0]
    place = (found * torch.arange(28.0)).sum(dim=2) / found.sum(dim=2)  # of the stroke, row by row
    apart = place - 13.5
    assert 0.5 < float(apart.std()) < 2.5
    assert float((apart[:, 1:] - apart[:, :-1]).abs().max()) < 1.5
    assert float(found.sum(dim=(1, 2)).mean()) == pytest.approx(4 * 28, rel=0.1)
