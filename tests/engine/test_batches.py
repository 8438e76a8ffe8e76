"""Which items stand together in a batch: each once, texts with others of about their length."""

import itertools

import numpy as np
import pytest

from worker.engine.batches import all_shuffled, of_like_size, padded, shuffled

SIZES = np.random.default_rng(0).lognormal(4.5, 0.8, 1000).clip(5, 256).astype(int).tolist()


def test_batches_cover_every_item_once_and_none_is_tiny() -> None:
    parts = shuffled(65, 32, (0, 1))
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(65))
    assert [len(part) for part in parts] == [22, 22, 21]
    assert not np.array_equal(np.concatenate(parts), np.concatenate(shuffled(65, 32, (0, 2))))


@pytest.mark.parametrize(("items", "batch_size"), [(1000, 16), (1000, 1024), (17, 16), (2, 2), (1, 8)])
def test_items_of_like_size_come_once_each_in_batches_as_large_as_others(items: int, batch_size: int) -> None:
    order = of_like_size(SIZES[:items], batch_size, 0)
    for epoch in (1, 2):
        parts = order(epoch)
        np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(items))
        assert sorted(map(len, parts)) == sorted(map(len, shuffled(items, batch_size, (0, epoch))))


def test_an_epoch_is_the_same_each_time_and_another_differs() -> None:
    first, again, second = (of_like_size(SIZES, 16, 3)(epoch) for epoch in (1, 1, 2))
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    together = [
        {frozenset(pair) for part in parts for pair in itertools.combinations(part.tolist(), 2)}
        for parts in (first, second)
    ]
    assert len(together[0] & together[1]) < 0.2 * len(together[0])  # who stands with whom is drawn anew


def test_little_is_padded_where_texts_differ_in_length() -> None:
    mean = float(np.mean(SIZES))
    at_random, alike = (padded(SIZES, order(1)) for order in (all_shuffled(1000, 16, 0), of_like_size(SIZES, 16, 0)))
    assert at_random > 1.9 * mean
    assert alike < 1.2 * mean


def test_long_and_short_batches_take_turns_and_so_do_items_within() -> None:
    parts = of_like_size(SIZES, 16, 0)(1)
    means = [float(np.mean([SIZES[i] for i in part])) for part in parts]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.4
    orderly = [np.all(np.diff([SIZES[i] for i in part]) >= 0) for part in parts]
    assert sum(orderly) < 0.2 * len(parts)  # some hold nothing but texts of full length


def test_padding_is_the_mean_of_each_batchs_longest() -> None:
    assert padded([1, 5, 2, 2], [np.array([0, 1]), np.array([2, 3])]) == 3.5
    assert padded([1, 4, 7], [np.array([0, 1]), np.array([2])]) == 5
