"""Splits: stratified, seeded, honest about copies."""

from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.modality.splits import assign_splits

FAST = settings(max_examples=150, deadline=None)


def made(labels, seed=0, groups=None):
    splits, source = assign_splits(labels, [None] * len(labels), groups or range(len(labels)), seed)
    assert source == "made"
    return splits


@pytest.mark.parametrize(
    ("n", "wanted"),
    [
        (1, {"train": 1}),
        (2, {"train": 1, "test": 1}),
        (3, {"train": 1, "validation": 1, "test": 1}),
        (4, {"train": 2, "validation": 1, "test": 1}),
        (20, {"train": 14, "validation": 3, "test": 3}),
        (1000, {"train": 700, "validation": 150, "test": 150}),
    ],
)
def test_shares_of_a_class(n, wanted):
    assert Counter(made([0] * n)) == wanted
    assert Counter(made([None] * n)) == wanted


@FAST
@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.integers(0, 2**31 - 1))
def test_every_class_is_shared_out(labels, seed):
    splits = made(labels, seed)
    assert splits == made(labels, seed)
    for label, n in Counter(labels).items():
        counts = Counter(split for split, other in zip(splits, labels, strict=True) if other == label)
        assert counts["train"] >= 1
        assert (counts["test"] >= 1) == (n >= 2)
        assert (counts["validation"] >= 1) == (n >= 3)
        assert counts["test"] == (max(1, round(0.15 * n)) if n >= 2 else 0)
        assert counts["train"] >= counts["test"]


@FAST
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 6)), min_size=1, max_size=60), st.integers(0, 99))
def test_copies_stay_together(pairs, seed):
    labels = [label for label, _ in pairs]
    splits = made(labels, seed, groups=pairs)
    where = defaultdict(set)
    for pair, split in zip(pairs, splits, strict=True):
        where[pair].add(split)
    assert all(len(found) == 1 for found in where.values())
    for label in set(labels):
        units = len({pair for pair in pairs if pair[0] == label})
        found = {split for pair, split in zip(pairs, splits, strict=True) if pair[0] == label}
        assert len(found) == min(units, 3)


def test_a_pile_of_copies_goes_to_train():
    groups = ["pile"] * 50 + list(range(50))
    splits = made([0] * 100, groups=groups)
    assert set(splits[:50]) == {"train"}
    assert Counter(splits) == {"train": 70, "validation": 15, "test": 15}


def test_every_split_gets_a_unit_even_beside_a_large_pile():
    for units in (["a", "b"], ["a", "b", "c"]):
        splits = made([0] * (len(units) + 97), groups=units + ["pile"] * 97)
        assert Counter(splits[: len(units)])["test"] == len(units) - 1
        assert Counter(splits[: len(units)])["validation"] == 1
        assert set(splits[len(units) :]) == {"train"}


def test_seed_and_class_matter():
    labels = [0] * 40 + [1] * 40
    first = made(labels, 0)
    assert first != made(labels, 1)
    assert first[:40] != first[40:]
    # A class is shared out the same whatever the other classes are.
    assert first[:40] == made([0] * 40, 0)


SPLIT = st.sampled_from(["train", "validation", "test"])


@FAST
@given(st.lists(st.tuples(st.integers(0, 3), SPLIT), min_size=3, max_size=60), st.integers(0, 99))
def test_given_splits_are_kept(pairs, seed):
    labels, came = [label for label, _ in pairs], [split for _, split in pairs]
    splits, source = assign_splits(labels, came, range(len(pairs)), seed)
    kinds = set(came)
    if kinds == {"train", "validation", "test"}:
        assert (splits, source) == (came, "given")
    elif "train" in kinds and len(kinds) == 2:
        assert source == "mixed"
        for before, after in zip(came, splits, strict=True):
            assert after in (("train", "validation") if before == "train" else ("test",))
        for label, n in Counter(label for label, split in pairs if split == "train").items():
            got = Counter(s for s, b, o in zip(splits, came, labels, strict=True) if b == "train" and o == label)
            assert got["validation"] == (max(1, round(0.15 * n)) if n >= 3 else 0)
    else:
        assert source == "made"
        assert splits == made(labels, seed)


def test_nothing_to_share():
    assert assign_splits([], [], [], 0) == ([], "made")
