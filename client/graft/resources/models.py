"""`/models`."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

from graft._download import OnProgress, download
from graft._images import Image, batches
from graft._pages import iterate
from graft._transport import Call, Transport
from graft.resources._ids import id_of, segment
from graft.types import Model, Prediction, Predictions


class Models:
    """What jobs made: look at them, download them, call them."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, *, limit: int | None = None) -> Iterator[Model]:
        """Your models, newest first; pages are fetched as you go."""
        return iterate(self._transport, Model, "/models", limit=limit)

    def get(self, model: str | Model) -> Model:
        """One model, with its manifest."""
        return self._transport.get(Model, f"/models/{segment(model)}")

    def download(
        self,
        model: str | Model,
        path: str | os.PathLike[str] | None = None,
        *,
        on_progress: OnProgress | None = None,
    ) -> Path:
        """Download the bundle (zip) and return where it lies; the default name is `<id>.zip`.

        A download that was cut off goes on where it broke, even in a later call; the file appears under its name
        only when it is whole and its SHA-256 is right (`DownloadError` otherwise). `on_progress(done, total)` counts
        bytes.
        """
        target = _target(path, f"{id_of(model)}.zip")
        return download(self._transport, f"/models/{segment(model)}", target, on_progress)

    def file(self, model: str | Model, name: str, path: str | os.PathLike[str] | None = None) -> Path:
        """Download one file of the bundle, e.g. `model.onnx`."""
        url = f"/models/{segment(model)}/files/{quote(name)}"
        return download(self._transport, url, _target(path, Path(name).name))

    def delete(self, model: str | Model) -> None:
        """Delete it; `ConflictError` while a job starts from it."""
        self._transport.send(Call("DELETE", f"/models/{segment(model)}"))

    def predict(self, model: str | Model, images: Iterable[Image], *, top_k: int | None = None) -> Predictions:
        """Classify images given as paths, bytes or open binary files; as many as you like.

        They are sent in batches. An image that cannot be read by the service has an `error` instead of a `label`;
        the others are unharmed. A path that cannot be read here is an OSError.
        """
        if isinstance(images, (str, bytes, os.PathLike)):
            images = [images]
        found: list[Prediction] = []
        for batch in batches(images):
            call = Call(
                "POST",
                f"/models/{segment(model)}/predict",
                params={"top_k": top_k},
                files=batch,
                headers={"Accept": "application/json"},
                repeatable=True,
            )
            answer = self._transport.parse(Predictions, self._transport.send(call))
            start = len(found)
            found += [item.model_copy(update={"index": start + item.index}) for item in answer.predictions]
        return Predictions(model=id_of(model), predictions=found)


def _target(path: str | os.PathLike[str] | None, name: str) -> Path:
    target = Path(path).expanduser() if path is not None else Path(name)
    is_folder = target.is_dir() or (isinstance(path, str) and path.endswith(("/", os.sep)))
    return target / name if is_folder else target
