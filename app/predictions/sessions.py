"""Open ONNX Runtime sessions: the least recently used ones are closed first."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from core.contract.prepare import Prepare
from core.modality.preparers import Arrays, Preparer, preparer

DEFAULT_BYTES = 2 * 1024**3


class UnusableGraphError(Exception):
    """The bytes are not a graph that ONNX Runtime can load, or not a tokenizer."""


@dataclass(frozen=True)
class Parts:
    """What a session is made of: the graph, and what turns items into its inputs."""

    graph: bytes
    prepare: Prepare
    tokenizer: bytes | None = None


@dataclass(frozen=True)
class Session:
    """A graph that is ready to run, with its preparation; safe to use from several threads at once."""

    graph: ort.InferenceSession
    preparer: Preparer
    bytes: int

    def run(self, outputs: Sequence[str], names: Sequence[str], batch: Arrays) -> list[NDArray[np.float32]]:
        """Feed a batch as the inputs of these names and return those outputs, e.g. (n, classes) each."""
        found: list[Any] = self.graph.run(list(outputs), dict(zip(names, batch, strict=True)))
        return found


class Sessions:
    """A cache of sessions by the SHA-256 of their bundle; each is opened once, however many requests wait for it."""

    def __init__(self, capacity: int, *, threads: int, max_bytes: int = DEFAULT_BYTES) -> None:
        self.capacity = capacity
        self.threads = threads
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._open: OrderedDict[str, Future[Session]] = OrderedDict()

    def get(self, key: str, load: Callable[[], Parts]) -> Session:
        """The session of `key`; on first use `load` gives its parts. Its error reaches all who wait."""
        with self._lock:
            future = self._open.get(key)
            mine = future is None
            if future is None:
                future = self._open[key] = Future()
            self._open.move_to_end(key)
        if mine:
            self._fill(key, future, load)
        return future.result()

    def drop(self, key: str) -> None:
        """Forget a session; requests that use it finish undisturbed."""
        with self._lock:
            self._open.pop(key, None)

    def keys(self) -> list[str]:
        """What is open, least recently used first."""
        with self._lock:
            return list(self._open)

    def _fill(self, key: str, future: Future[Session], load: Callable[[], Parts]) -> None:
        try:
            session = open_session(load(), self.threads)
        except BaseException as error:
            with self._lock:
                if self._open.get(key) is future:
                    del self._open[key]
            future.set_exception(error)
            return
        future.set_result(session)
        self._evict()

    def _evict(self) -> None:
        with self._lock:
            ready = [(key, future.result().bytes) for key, future in self._open.items() if _is_open(future)]
            total = sum(size for _, size in ready)
            while len(ready) > 1 and (len(ready) > self.capacity or total > self.max_bytes):
                key, size = ready.pop(0)
                del self._open[key]
                total -= size


def open_session(parts: Parts, threads: int) -> Session:
    """A session from its parts. Raises `UnusableGraphError`."""
    graph = open_graph(parts.graph, threads)
    try:
        prepare = preparer(parts.prepare, parts.tokenizer)
    except ValueError as error:
        raise UnusableGraphError(str(error)) from error
    return Session(graph, prepare, len(parts.graph) + len(parts.tokenizer or b""))


def open_graph(graph: bytes, threads: int) -> ort.InferenceSession:
    """A session on an ONNX graph's bytes; one run uses `threads` cores. Raises `UnusableGraphError`."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that wait must not burn the cores that others decode with.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common class
        raise UnusableGraphError(type(error).__name__) from error


def _is_open(future: Future[Session]) -> bool:
    return future.done() and future.exception() is None
