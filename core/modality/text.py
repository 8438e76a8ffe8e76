"""Texts: decoding, and the tokens that a base model wants."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from core.contract.prepare import TextPrepare
from core.modality.errors import UnreadableItemError
from core.modality.preparers import Arrays

CHARACTERS = 20  # for each token that is kept; English has four to five
_PADDING = ("[PAD]", "<pad>", "<|padding|>", "<|endoftext|>")


def decode(data: bytes) -> str:
    """A stored text; `UnreadableItemError` if it is not UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UnreadableItemError("The text is not UTF-8.", code="not_utf8", hint="Send UTF-8.") from error


class TextPreparer:
    """`input_ids` and `attention_mask`: int64 (tokens,); a batch is padded to its longest text.

    Safe to call from several threads. `ValueError` if the tokenizer cannot be read.
    """

    names = ("input_ids", "attention_mask")

    def __init__(self, config: TextPrepare, tokenizer: bytes) -> None:
        self.config = config
        self._tokenizer = _read(tokenizer)
        self._pad = _padding(self._tokenizer)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(config.max_tokens)

    def __call__(self, item: str) -> Arrays:
        """The tokens of one text, at least one.

        Only its first 20 characters for each token that is kept are looked at, so that no text takes long.
        """
        text = _whole(item[: CHARACTERS * self.config.max_tokens])
        # A tokenizer without special tokens makes nothing of an empty text; no network takes that.
        ids = np.array(self._tokenizer.encode(text).ids or [self._pad], dtype=np.int64)
        return ids, np.ones_like(ids)

    def collate(self, items: Sequence[Arrays]) -> Arrays:
        """(n, longest)."""
        longest = max(len(ids) for ids, _ in items)
        ids = np.full((len(items), longest), self._pad, dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, (known, _) in enumerate(items):
            ids[row, : len(known)] = known
            mask[row, : len(known)] = 1
        return ids, mask


def _read(tokenizer: bytes) -> Tokenizer:
    try:
        return Tokenizer.from_str(tokenizer.decode())
    except Exception as error:  # tokenizers raises plain Exceptions
        raise ValueError("the tokenizer cannot be read") from error


def _padding(tokenizer: Tokenizer) -> int:
    """The token that fills short texts: the tokenizer's own, or one of a usual name; the mask hides it anyway."""
    said: dict[str, Any] | None = tokenizer.padding
    if said is not None:
        return int(said["pad_id"])
    known = (tokenizer.token_to_id(name) for name in _PADDING)
    return next((number for number in known if number is not None), 0)


def _whole(text: str) -> str:
    """The text with U+FFFD for halves of surrogate pairs, which JSON can carry and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
