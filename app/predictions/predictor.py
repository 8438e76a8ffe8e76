"""Runs models: decode and prepare in threads, infer in batches, one bad item fails alone.

Requests are not merged into common batches: on a CPU, ONNX Runtime answers EfficientNet-Lite0 faster image by image
than eight at a time, so waiting for company would cost latency and gain nothing.
"""

import os
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from anyio import CapacityLimiter, to_thread
from numpy.typing import NDArray

from app.models.blobs import CorruptBlobError
from app.predictions import batches
from app.predictions.answers import answer, outputs_of
from app.predictions.items import Inputs, Prepared, RawItem
from app.predictions.measures import Measures
from app.predictions.preparing import Preparing
from app.predictions.sessions import Parts, Session, Sessions, UnusableGraphError
from core import tracing
from core.contract.errors import UnavailableError
from core.contract.models import ItemError, Model, ModelManifest, Prediction
from core.modality.preparers import Arrays
from core.settings import Settings

T = TypeVar("T")
Represented = NDArray[np.float32] | ItemError
"""An item's figures (K,), or why there are none."""


@dataclass
class Ticket:
    """How many bytes one request holds in memory so far."""

    bytes: int = 0


class Predictor:
    """The process's sessions, threads and memory for predictions."""

    def __init__(self, settings: Settings) -> None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.max_pixels = settings.max_pixels
        self.measures = Measures()
        self.sessions = Sessions(settings.sessions, threads=settings.predict_threads or cores)
        self.measures.sessions.set_function(lambda: len(self.sessions.keys()))
        self._pool = ThreadPoolExecutor(cores, thread_name_prefix="predict-decode")
        self._limiter = CapacityLimiter(max(2, cores))
        self._one = CapacityLimiter(1)
        self._most_bytes = 4 * settings.max_predict_bytes
        self._bytes = 0

    @contextmanager
    def admission(self) -> Iterator[Ticket]:
        """Account for one request's body: what all requests hold together stays bounded."""
        ticket = Ticket()
        try:
            yield ticket
        finally:
            self._bytes -= ticket.bytes

    async def counted(self, stream: AsyncGenerator[bytes, None], ticket: Ticket) -> AsyncGenerator[bytes, None]:
        """Pass a body on; `UnavailableError` once all requests together hold too much."""
        async for chunk in stream:
            self._bytes += len(chunk)
            ticket.bytes += len(chunk)
            if self._bytes > self._most_bytes:
                raise UnavailableError(
                    "Too many predictions are under way.", code="predict_busy", hint="Try again in a moment."
                )
            yield chunk

    async def predict(self, model: Model, load: Callable[[], Parts], inputs: Inputs, top_k: int) -> list[Prediction]:
        """Answer every item, in order; runs off the event loop, a few requests at a time."""
        return await to_thread.run_sync(self._predict, model, load, inputs, top_k, limiter=self._limiter)

    async def alone(self, work: Callable[[], T]) -> T:
        """Run something off the event loop that holds a model's whole bundle in memory: one such thing at a time."""
        return await to_thread.run_sync(work, limiter=self._one)

    def represent(
        self, model: Model, load: Callable[[], Parts], items: list[RawItem], outputs: Sequence[str]
    ) -> list[Represented]:
        """What outputs of the graph say of every item, side by side, in order. It blocks; see `alone`."""
        session = self._session(model, load)
        found: list[Represented] = []
        for _, some, prepared in self._prepared(session, model.manifest, items):
            with tracing.span("infer", items=len(some)):
                found += _represented(model, session, prepared, outputs)
        return found

    def open(self, model: Model, load: Callable[[], Parts]) -> Session:
        """The model's session, opened now unless it is open; `CorruptBlobError` if its graph cannot be loaded."""
        return self._session(model, load)

    def forget(self, bundle_sha256: str) -> None:
        """Close the session of a deleted model."""
        self.sessions.drop(bundle_sha256)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def _predict(self, model: Model, load: Callable[[], Parts], inputs: Inputs, top_k: int) -> list[Prediction]:
        session = self._session(model, load)
        answers: list[Prediction] = []
        for start, items, prepared in self._prepared(session, model.manifest, inputs.items):
            with self.measures.time("infer"), tracing.span("infer", items=len(items)):
                answers += _answer(model, session, items, prepared, start=start, top_k=top_k)
        self.measures.count(answers)
        return answers

    def _prepared(
        self, session: Session, manifest: ModelManifest, items: list[RawItem]
    ) -> Iterator[tuple[int, list[RawItem], list[Prepared]]]:
        """Some items at a time: the number of the first, the items, and what they are for the network."""
        prepare = Preparing(session.preparer, manifest.modality, max_pixels=self.max_pixels, target=manifest.target)
        step = batches.step(manifest.prepare)
        for start in range(0, len(items), step):
            some = items[start : start + step]
            with self.measures.time("decode"), tracing.span("decode", items=len(some)):
                prepared = prepare(some, self._pool)
            yield start, some, prepared

    def _session(self, model: Model, load: Callable[[], Parts]) -> Session:
        try:
            return self.sessions.get(model.sha256, load)
        except UnusableGraphError as error:
            raise CorruptBlobError(f"Model {model.id}", "its graph cannot be loaded") from error


def _answer(
    model: Model, session: Session, items: list[RawItem], prepared: list[Prepared], *, start: int, top_k: int
) -> list[Prediction]:
    good = [one.arrays for one in prepared if one.error is None]
    figures = iter(batches.infer(good, model.manifest.modality, lambda some: _run(model, session, some)))
    answers = []
    for index, (item, one) in enumerate(zip(items, prepared, strict=True), start):
        if one.error is not None:
            answers.append(Prediction(index=index, name=item.name, error=one.error))
        else:
            said = answer(index, item.name, next(figures), model.manifest, top_k)
            answers.append(said.model_copy(update={"warnings": list(one.warnings)}) if one.warnings else said)
    return answers


def _run(model: Model, session: Session, some: list[Arrays]) -> NDArray[np.float32]:
    """What `outputs_of` names, side by side: calibrated probabilities (n, classes), or values (n, 1)."""
    wanted = outputs_of(model.manifest)
    figures = session.run(list(wanted), model.manifest.input_names, session.preparer.collate(some))
    if [part.shape for part in figures] != [(len(some), width) for width in wanted.values()]:
        raise CorruptBlobError(f"Model {model.id}", "its graph does not answer with one figure per class")
    return figures[0] if len(figures) == 1 else np.concatenate(figures, axis=1)


def _represented(
    model: Model, session: Session, prepared: Sequence[Prepared], outputs: Sequence[str]
) -> list[Represented]:
    good = [one.arrays for one in prepared if one.error is None]

    def run(some: list[Arrays]) -> NDArray[np.float32]:
        found = session.run(outputs, model.manifest.input_names, session.preparer.collate(some))
        return np.concatenate(found, axis=1)

    figures = iter(batches.infer(good, model.manifest.modality, run))
    return [one.error or next(figures) for one in prepared]
