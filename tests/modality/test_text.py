"""Texts become tokens the same way each time, however long, empty or broken they are."""

from concurrent.futures import ThreadPoolExecutor
from time import process_time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from core.contract.prepare import TextPrepare
from core.modality.errors import UnreadableItemError
from core.modality.preparers import preparer
from core.modality.text import CHARACTERS, TextPreparer, decode
from tests.engine.texts import SPECIAL, WORDS, tokenizer

PAD, UNKNOWN, FIRST, LAST = range(4)


def _id(word: str) -> int:
    return (*SPECIAL, *WORDS).index(word)


def _preparer(data: bytes | None = None, max_tokens: int = 16) -> TextPreparer:
    return TextPreparer(TextPrepare(max_tokens=max_tokens), data or tokenizer())


def _changed(edit: str) -> bytes:
    found = Tokenizer.from_str(tokenizer().decode())
    exec(edit, {"t": found})
    return bytes(found.to_str(), "utf-8")


def test_a_text_becomes_its_tokens() -> None:
    ids, mask = _preparer()("The books, very good!")
    assert ids.tolist() == [
        FIRST,
        _id("the"),
        _id("book"),
        _id("##s"),
        UNKNOWN,
        _id("very"),
        _id("good"),
        _id("!"),
        LAST,
    ]
    assert mask.tolist() == [1] * 9
    assert (ids.dtype, mask.dtype) == (np.int64, np.int64)


def test_a_batch_is_as_long_as_its_longest_text_and_the_mask_hides_the_padding() -> None:
    prepare = _preparer()
    ids, mask = prepare.collate([prepare("good"), prepare("a very good book"), prepare("")])
    assert ids.shape == mask.shape == (3, 6)
    assert mask.sum(axis=1).tolist() == [3, 6, 2]
    assert (ids[mask == 0] == PAD).all()
    assert ids[2, :2].tolist() == [FIRST, LAST]


def test_a_text_is_cut_at_the_tokens_that_are_kept_and_ends_as_any_other() -> None:
    ids, _ = _preparer(max_tokens=8)("good " * 100)
    assert ids.tolist() == [FIRST, *[_id("good")] * 6, LAST]


def test_the_tokenizers_own_settings_do_not_pad_or_cut() -> None:
    ids, _ = _preparer(_changed("t.enable_padding(length=30); t.enable_truncation(4)"))("good " * 9)
    assert len(ids) == 11


@pytest.mark.parametrize(
    ("edit", "pad"),
    [
        ("t.enable_padding(pad_id=9, pad_token='book')", 9),
        ("t.no_padding()", PAD),
        ("t.add_special_tokens(['x'])", PAD),
    ],
)
def test_the_padding_is_the_tokenizers_own(edit: str, pad: int) -> None:
    prepare = _preparer(_changed(edit))
    ids, mask = prepare.collate([prepare("good"), prepare("good good good")])
    assert set(ids[mask == 0].tolist()) == {pad}


def test_a_tokenizer_without_special_tokens_makes_something_of_nothing() -> None:
    bare = Tokenizer(models.WordLevel({"x": 0, "<pad>": 1, "[UNK]": 2}, unk_token="[UNK]"))
    bare.pre_tokenizer = pre_tokenizers.Whitespace()
    prepare = _preparer(bare.to_str().encode())
    ids, mask = prepare("")
    assert (ids.tolist(), mask.tolist()) == ([1], [1])
    assert prepare.collate([prepare(""), prepare("")])[0].shape == (2, 1)


@pytest.mark.parametrize("text", ["\ud800", "good \udfff book", "\0", "good\0book", "\U0001f600" * 99, "\ufdfa" * 9])
def test_a_broken_text_is_still_a_text(text: str) -> None:
    ids, mask = _preparer()(text)
    assert (ids[0], ids[-1]) == (FIRST, LAST)
    assert 2 <= len(ids) == len(mask) <= 16


def test_a_pair_of_surrogates_is_the_character_it_stands_for() -> None:
    exact = Tokenizer(models.WordLevel({"\U0001f600": 0, "\ufffd": 1, "[UNK]": 2}, unk_token="[UNK]"))
    prepare = _preparer(exact.to_str().encode())
    assert prepare("\ud83d\ude00")[0].tolist() == [0]
    assert prepare("\ud83d")[0].tolist() == [1]


@pytest.mark.parametrize("text", [" " * 20_000_000, "x" * 20_000_000, "good book " * 2_000_000])
def test_no_text_takes_long(text: str) -> None:
    prepare = _preparer()
    begun = process_time()
    ids, _ = prepare(text)
    assert process_time() - begun < 3
    assert np.array_equal(ids, prepare(text[: CHARACTERS * 16])[0])


@given(st.text(st.characters(), max_size=60))
def test_the_same_text_gives_the_same_tokens_in_any_batch(text: str) -> None:
    prepare = _preparer()
    alone, _ = prepare(text)
    ids, mask = prepare.collate([prepare("a very good book"), prepare(text)])
    assert np.array_equal(ids[1][mask[1] == 1], alone)
    assert np.array_equal(alone, _preparer()(text)[0])
    assert len(alone) <= 16


def test_threads_may_share_one() -> None:
    prepare, texts = _preparer(), [f"{'very ' * (number % 12)}good book" for number in range(400)]
    expected = [prepare(text)[0].tolist() for text in texts]
    with ThreadPoolExecutor(4) as pool:
        assert [ids.tolist() for ids, _ in pool.map(prepare, texts)] == expected


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b'{"version": "1.0", "model": 3}'])
def test_a_broken_tokenizer_is_an_error_of_one_kind(data: bytes) -> None:
    with pytest.raises(ValueError, match="the tokenizer cannot be read"):
        TextPreparer(TextPrepare(), data)


def test_a_text_without_its_tokenizer_cannot_be_prepared() -> None:
    with pytest.raises(ValueError, match="needs its tokenizer"):
        preparer(TextPrepare())


def test_only_utf8_is_a_text() -> None:
    assert decode("schön\0".encode()) == "schön\0"
    with pytest.raises(UnreadableItemError) as caught:
        decode("schön".encode("latin-1"))
    assert caught.value.code == "not_utf8"
