"""Features of a data set that is being embedded, kept in parts, so that a broken job goes on where it was."""

import hashlib
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from core.contract.errors import InsufficientStorageError
from worker.engine.cache import CacheFolder

Floats = NDArray[np.float32]
SECONDS = 20.0  # of work that may be lost


class Shards:
    """Rows of one matrix of features (N, D), saved from the front as they are made.

    Each part is named by its first row; a missing or damaged one ends what is known. `batch` items are embedded
    together, and parts begin and end between batches, so that the rest is cut as it would have been.
    """

    def __init__(self, cache: CacheFolder, key: str, *, batch: int, every: float = SECONDS) -> None:
        self._cache, self._batch, self._every = cache, batch, every
        self._kind = f"parts/{hashlib.sha256(f'{key}:{batch}'.encode()).hexdigest()[:32]}"
        self._saved = 0
        self._last = time.monotonic()

    def load(self, found: Floats) -> int:
        """Fill the front of `found` (N, D) with what an earlier attempt made; returns how many rows that is."""
        while (path := self._cache.get(self._kind, str(self._saved))) is not None:
            rows = self._rows(path, found[self._saved :])
            if rows is None:
                break
            found[self._saved : self._saved + len(rows)] = rows
            self._saved += len(rows)
        return self._saved

    def offer(self, found: Floats, done: int, *, now: bool = False) -> None:
        """Save the rows up to `done` that are not saved yet, if it is time to, or `now`.

        A disk that does not take them is no reason to end: they can be made again.
        """
        if done == self._saved or not (now or time.monotonic() - self._last >= self._every):
            return
        rows = found[self._saved : done]
        try:
            self._cache.put(self._kind, str(self._saved), lambda path: save_file({"features": rows}, path))
        except (OSError, InsufficientStorageError, SafetensorError):
            pass
        else:
            self._saved = done
        self._last = time.monotonic()

    def drop(self) -> None:
        """Remove them: the whole is stored, or they are good for nothing."""
        self._cache.drop(self._kind)

    def _rows(self, path: Path, rest: Floats) -> Floats | None:
        try:
            rows = load_file(path)["features"]
        except (SafetensorError, OSError, KeyError):
            return None
        fits = rows.ndim == 2 and rows.shape[1:] == rest.shape[1:] and rows.dtype == rest.dtype
        whole = fits and 0 < len(rows) <= len(rest) and (len(rows) % self._batch == 0 or len(rows) == len(rest))
        return rows if whole else None
