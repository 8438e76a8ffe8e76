"""Runs models: decode and prepare in threads, infer in batches, one bad item fails alone.

Requests are not merged into common batches: on a CPU, ONNX Runtime answers EfficientNet-Lite0 faster image by image
than eight at a time, so waiting for company would cost latency and gain nothing. What one run needs ONNX Runtime keeps
for good, so few images go in at once: with 4 in place of 32, 64 requests of 32 images at once (EfficientNet-Lite0, two
cores) left the process at 0.4 GB in place of 1.0 GB and took a fifth less time. Its own means cost more than that:
without the arena, or with the arena shrunk after each run, an image took a third more processor time.
"""

import itertools
import os
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from anyio import CapacityLimiter, to_thread
from numpy.typing import NDArray

from app.models.blobs import CorruptBlobError
from app.predictions.inputs import Inputs, RawItem
from app.predictions.measures import Measures
from app.predictions.sessions import Session, Sessions, UnusableGraphError
from core import tracing
from core.contract.errors import UnavailableError
from core.contract.models import ItemError, LabelScore, Model, Prediction
from core.contract.prepare import ImagePrepare
from core.modality import image
from core.modality.errors import UnreadableItemError
from core.settings import Settings

BATCH = 32
BATCH_BYTES = 64 * 1024**2
AT_ONCE = 4
DEFAULT_TOP = 5

Prepared = NDArray[np.float32] | ItemError


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

    async def predict(self, model: Model, load: Callable[[], bytes], inputs: Inputs, top_k: int) -> list[Prediction]:
        """Answer every item, in order; runs off the event loop, a few requests at a time."""
        return await to_thread.run_sync(self._predict, model, load, inputs, top_k, limiter=self._limiter)

    def forget(self, bundle_sha256: str) -> None:
        """Close the session of a deleted model."""
        self.sessions.drop(bundle_sha256)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def _predict(self, model: Model, load: Callable[[], bytes], inputs: Inputs, top_k: int) -> list[Prediction]:
        session = self._session(model, load)
        config = model.manifest.prepare
        assert isinstance(config, ImagePrepare)
        step = min(BATCH, max(1, BATCH_BYTES // (3 * config.size**2 * 4)))
        answers: list[Prediction] = []
        for start in range(0, len(inputs.items), step):
            items = inputs.items[start : start + step]
            with self.measures.time("decode"), tracing.span("decode", items=len(items)):
                prepared = self._prepare(items, config)
            with self.measures.time("infer"), tracing.span("infer", items=len(items)):
                answers += _answer(model, session, items, prepared, start=start, top_k=top_k)
        self.measures.count(answers)
        return answers

    def _session(self, model: Model, load: Callable[[], bytes]) -> Session:
        try:
            return self.sessions.get(model.sha256, load)
        except UnusableGraphError as error:
            raise CorruptBlobError(f"Model {model.id}", "its graph cannot be loaded") from error

    def _prepare(self, items: list[RawItem], config: ImagePrepare) -> list[Prepared]:
        if len(items) == 1:
            return [self._prepare_one(items[0], config)]
        return list(self._pool.map(lambda item: self._prepare_one(item, config), items))

    def _prepare_one(self, item: RawItem, config: ImagePrepare) -> Prepared:
        if item.error is not None:
            return item.error
        if not item.data:
            return ItemError(code="empty_file", message="The image is empty.", hint="Send the image file's bytes.")
        try:
            return image.prepare_bytes(item.data, config, max_pixels=self.max_pixels)
        except UnreadableItemError as error:
            return ItemError(code=error.code, message=error.message, hint=error.hint)


def _answer(
    model: Model, session: Session, items: list[RawItem], prepared: list[Prepared], *, start: int, top_k: int
) -> list[Prediction]:
    arrays = [entry for entry in prepared if not isinstance(entry, ItemError)]
    scores = itertools.chain.from_iterable(
        _scores(model, session, np.stack(arrays[first : first + AT_ONCE])) for first in range(0, len(arrays), AT_ONCE)
    )
    answers = []
    for place, (item, entry) in enumerate(zip(items, prepared, strict=True)):
        index = start + place
        if isinstance(entry, ItemError):
            answers.append(Prediction(index=index, name=item.name, error=entry))
        else:
            answers.append(_prediction(index, item.name, next(scores), model.classes, top_k))
    return answers


def _scores(model: Model, session: Session, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Calibrated probabilities (n, classes)."""
    scores = session.run("probabilities", model.manifest.input_names[0], batch)
    if scores.shape != (len(batch), len(model.classes)):
        raise CorruptBlobError(f"Model {model.id}", "its graph does not answer with one figure per class")
    return scores


def _prediction(
    index: int, name: str | None, scores: NDArray[np.float32], classes: list[str], top_k: int
) -> Prediction:
    if not np.isfinite(scores).all():
        said = ItemError(code="not_finite", message="The model's answer to this item is not a number.", hint=None)
        return Prediction(index=index, name=name, error=said)
    best = np.argsort(-scores, kind="stable")[:top_k]  # at most as many as there are classes
    top = [LabelScore(label=classes[i], probability=float(scores[i])) for i in best]
    return Prediction(index=index, name=name, label=top[0].label, probability=top[0].probability, top=top)
