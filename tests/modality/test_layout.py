"""Folders -> splits and classes."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.modality.layout import has_image_suffix, is_clutter, read_layout


def read(*images, folders=()):
    """{image: (split, class)} and the layout."""
    layout = read_layout(images, folders)
    return {images[placed.index]: (placed.split, placed.label) for placed in layout.placed}, layout


def codes(layout):
    return dict(Counter(code for code, _ in layout.faults))


def test_class_folders():
    got, layout = read("cats/1.png", "cats/2.png", "dogs/1.png")
    assert got == {"cats/1.png": (None, "cats"), "cats/2.png": (None, "cats"), "dogs/1.png": (None, "dogs")}
    assert layout.labelled
    assert layout.faults == []


@pytest.mark.parametrize("wrapper", ["", "data/", "a/b/c/"])
@pytest.mark.parametrize(
    ("train", "val", "test"),
    [("train", "val", "test"), ("Train", "VALID", "Test"), ("training", "validation", "testing")],
)
def test_split_folders_in_any_spelling_and_wrapping(wrapper, train, val, test):
    images = [f"{wrapper}{split}/{name}/1.png" for split in (train, val, test) for name in ("cats", "dogs")]
    got, layout = read(*images)
    assert list(got.values()) == [(s, n) for s in ("train", "validation", "test") for n in ("cats", "dogs")]
    assert layout.faults == []


def test_splits_inside_classes():
    got, _ = read("cats/train/1.png", "cats/test/2.png", "dogs/train/1.png")
    assert list(got.values()) == [("train", "cats"), ("test", "cats"), ("train", "dogs")]


@pytest.mark.parametrize("wrapper", ["", "photos/", "a/b/"])
def test_flat_is_unlabelled(wrapper):
    got, layout = read(f"{wrapper}1.png", f"{wrapper}2.png")
    assert not layout.labelled
    assert set(got.values()) == {(None, None)}
    assert layout.faults == []


def test_flat_splits_are_unlabelled():
    got, layout = read("train/1.png", "test/2.png")
    assert not layout.labelled
    assert list(got.values()) == [("train", None), ("test", None)]


def test_one_class_in_train_is_labelled():
    got, layout = read("train/cats/1.png", "train/cats/2.png")
    assert layout.labelled
    assert set(got.values()) == {("train", "cats")}


def test_a_class_may_be_called_test():
    got, _ = read("test/1.png", "car/1.png", "plane/1.png")
    assert list(got.values()) == [(None, "test"), (None, "car"), (None, "plane")]


def test_nested_classes_are_named_by_their_path():
    got, _ = read("images/Greek/alpha/1.png", "images/Greek/beta/1.png", "images/Latin/a/1.png")
    assert [label for _, label in got.values()] == ["Greek/alpha", "Greek/beta", "Latin/a"]


def test_folders_common_to_all_classes_inside_splits_are_dropped():
    got, _ = read("train/images/cats/1.png", "train/images/dogs/1.png", "test/images/cats/2.png")
    assert list(got.values()) == [("train", "cats"), ("train", "dogs"), ("test", "cats")]


def test_images_beside_class_folders_are_left_out():
    got, layout = read("cover.jpg", "cats/1.png", "dogs/1.png")
    assert "cover.jpg" not in got
    assert layout.faults == [("image_outside_class", "cover.jpg")]
    got, layout = read("cover.jpg", "data/front.jpg", "data/train/loose.jpg", "data/train/cats/1.png", "data/x/y.png")
    assert got == {"data/train/cats/1.png": ("train", "cats")}
    assert codes(layout) == {"image_outside_class": 4}


def test_images_beside_one_class_folder():
    got, layout = read("1.png", "2.png", "cats/1.png")
    assert got == {"cats/1.png": (None, "cats")}
    assert codes(layout) == {"image_outside_class": 2}


def test_folders_below_a_class_belong_to_it():
    got, layout = read("cats/1.png", "cats/more/2.png", "dogs/1.png", "dogs/1/2/3.png")
    assert Counter(label for _, label in got.values()) == {"cats": 2, "dogs": 2}
    assert codes(layout) == {"nested_folders": 2}


def test_empty_classes():
    _, layout = read("d/cats/1.png", "d/dogs/1.png", folders=["d", "d/cats", "d/birds", "d/fish/small"])
    assert layout.empty_classes == ["birds", "fish/small"]
    _, layout = read("train/a/1.png", "test/a/1.png", folders=["val", "train/b", "test/b", "test/c"])
    assert layout.empty_classes == ["b", "c"]
    _, layout = read("train/a/1.png", "train/b/1.png", "test/a/1.png", folders=["train", "test/b"])
    assert layout.empty_classes == []


def test_one_class_beside_an_empty_one_is_labelled():
    got, layout = read("data/cats/1.png", folders=["data/dogs"])
    assert got == {"data/cats/1.png": (None, "cats")}
    assert layout.empty_classes == ["dogs"]


def test_case_in_different_splits_is_one_class():
    got, layout = read("train/Ants/1.png", "train/Bees/1.png", "val/ants/1.png")
    assert [label for _, label in got.values()] == ["Ants", "Bees", "Ants"]
    assert layout.faults == [("class_names_merged", "Ants / ants")]


def test_case_side_by_side_is_two_classes():
    got, layout = read("A/1.png", "a/1.png", "b/1.png")
    assert [label for _, label in got.values()] == ["A", "a", "b"]
    assert layout.faults == [("similar_class_names", "A / a")]


@pytest.mark.parametrize(
    "path", ["__MACOSX/cats/._1.png", "cats/.DS_Store", "cats/Thumbs.db", ".git/x.png", "a/desktop.ini", "@eaDir/1.jpg"]
)
def test_clutter(path):
    assert is_clutter(path)


def test_names():
    assert not is_clutter("cats/1.png")
    assert all(has_image_suffix(f"x/1.{suffix}") for suffix in ("JPG", "jpeg", "Png", "WEBP", "tif", "pgm", "JFIF"))
    assert not any(has_image_suffix(name) for name in ("README", "a.png/readme.md", "1.heic", "png", "1.svg"))


def test_nothing():
    layout = read_layout([])
    assert (layout.placed, layout.labelled, layout.faults) == ([], False, [])


# A class is not called like a split here, and differs in more than case.
CLASSES = st.lists(st.sampled_from(["ant", "bee", "Wasp 2", "ñandú", "x_y", "7"]), min_size=2, max_size=5, unique=True)
WRAPPERS = st.lists(st.sampled_from(["data", "images", "My set"]), max_size=3)
SPLITS = st.sampled_from([(), ("train",), ("Train", "val"), ("train", "TEST"), ("train", "valid", "test")])


@settings(max_examples=200, deadline=None)
@given(CLASSES, WRAPPERS, SPLITS, st.integers(1, 3), st.randoms())
def test_any_usual_shape_is_understood(classes, wrapper, splits, n, random):
    wanted = {
        "/".join([*wrapper, *([split] if split else []), name, f"{number}.png"]): (
            split.lower() if split else None,
            name,
        )
        for split in splits or [""]
        for name in classes
        for number in range(n)
    }
    images = list(wanted)
    random.shuffle(images)
    got, layout = read(*images)
    alias = {"val": "validation", "valid": "validation"}
    assert got == {path: (alias.get(split, split), name) for path, (split, name) in wanted.items()}
    assert layout.labelled
    assert layout.faults == []


PART = st.sampled_from(["train", "test", "val", "a", "A", "b", "c"])
PATHS = st.lists(st.lists(PART, max_size=4).map(lambda parts: "/".join([*parts, "1.png"])), max_size=12, unique=True)


@settings(max_examples=300, deadline=None)
@given(PATHS, st.lists(st.lists(PART, min_size=1, max_size=4).map("/".join), max_size=4))
def test_any_tree_is_accounted_for(images, folders):
    """Every image is placed once or named in a fault, and labels are all or none."""
    layout = read_layout(images, folders)
    placed = [placed.index for placed in layout.placed]
    outside = [example for code, example in layout.faults if code == "image_outside_class"]
    assert len(set(placed)) == len(placed)
    assert sorted([images[index] for index in placed] + outside) == sorted(images)
    assert all((placed.label is not None) == layout.labelled for placed in layout.placed)
    assert not set(layout.empty_classes) & {placed.label for placed in layout.placed}
    assert bool(placed) == bool(images)
