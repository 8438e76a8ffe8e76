"""`/models`."""

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from graft._download import OnProgress, download
from graft._images import Image, batches, parts
from graft._pages import iterate
from graft._transport import Call, Transport
from graft._upload import Source, body, name_of, opened
from graft.errors import ImportRejectedError, WaitTimeoutError
from graft.resources._ids import id_of, segment
from graft.types import Import, Model, Prediction, Predictions

_STORING = 600.0  # seconds the service may take to answer once it has every byte


class Models:
    """What jobs made: look at them, download them, call them."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, *, published: bool | None = None, limit: int | None = None) -> Iterator[Model]:
        """Your models, newest first, all or only those that are (not) `published`; pages are fetched as you go."""
        return iterate(self._transport, Model, "/models", limit=limit, published=published)

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

    def import_(
        self,
        source: Source,
        *,
        name: str | None = None,
        base_model: str | None = None,
        classes: Sequence[str] | None = None,
        metadata: Mapping[str, str] | None = None,
        wait: bool = True,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> Import:
        """Upload a bundle that another Graft made, or a safetensors file with the state dict of `base_model`.

        `classes` names the outputs of plain weights' classifier, in order; without it they become a base model to
        start jobs from. Waits until the service has checked the weights: `model_id` is then set. Raises
        `ImportRejectedError`; `WaitTimeoutError` after `timeout` seconds.
        """
        with opened(source) as file:
            call = Call(
                "POST",
                "/models",
                params={
                    "name": name or name_of(source),
                    "base_model": base_model,
                    "classes": None if classes is None else json.dumps(list(classes)),
                    "metadata": None if metadata is None else json.dumps(dict(metadata)),
                },
                body=body(file, on_progress),
                creates=True,
                read_timeout=_STORING,
            )
            made = self._transport.parse(Import, self._transport.send(call))
        return self.wait_import(made, timeout=timeout) if wait else made

    def get_import(self, entry: str | Import) -> Import:
        """How an import stands."""
        return self._transport.get(Import, f"/imports/{segment(entry if isinstance(entry, str) else entry.id)}")

    def wait_import(self, entry: str | Import, *, timeout: float | None = None) -> Import:
        """Wait until it is `ready`; `ImportRejectedError` says why it never will be."""
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = 0.1
        while True:
            found = self.get_import(entry)
            if found.state == "ready":
                return found
            if found.state == "rejected":
                raise ImportRejectedError(found)
            if deadline is not None and time.monotonic() >= deadline:
                message = f"Import {found.id} is still {found.state}."
                raise WaitTimeoutError(message, hint="Checking goes on; is a worker running?")
            self._transport.retries.sleep(pause)
            pause = min(pause * 1.5, 2.0)

    def delete(self, model: str | Model) -> None:
        """Delete it; `ConflictError` while it is published or a job starts from it."""
        self._transport.send(Call("DELETE", f"/models/{segment(model)}"))

    def publish(self, model: str | Model, *, override: str | None = None) -> Model:
        """Say that it may be used. `ConflictError` for one that does harm, unless `override` says why."""
        body = {} if override is None else {"override": override}
        call = Call("POST", f"/models/{segment(model)}/publish", json=body, creates=True)
        return self._transport.parse(Model, self._transport.send(call))

    def withdraw(self, model: str | Model) -> None:
        """Take its publication back."""
        self._transport.send(Call("DELETE", f"/models/{segment(model)}/publish"))

    def add_class(
        self,
        model: str | Model,
        name: str,
        files: Iterable[Image] = (),
        *,
        items: Iterable[str | Mapping[str, Any]] = (),
    ) -> Model:
        """Make a new model that knows one more class, from a few items of it and without training; the old one stays.

        `files` are images (or files of texts) as paths, bytes or open binary files; `items` are texts, or rows as
        {column: value}. Give one of the two. `ConflictError` for a model that is no few-shot model, or that has such a
        class; `InvalidRequestError` that names an item which cannot be used: nothing is added then.
        """
        url = f"/models/{segment(model)}/classes"
        if isinstance(files, (str, bytes, os.PathLike)):
            files = [files]
        sent, said = list(parts(files)), [_item(item) for item in items]
        if bool(sent) == bool(said):
            raise ValueError("Give items of the class: either files, or texts or rows as `items`.")
        if sent:
            call = Call("POST", url, files=sent, form={"name": name}, creates=True)
        else:
            call = Call("POST", url, json={"name": name, "items": said}, creates=True)
        return self._transport.parse(Model, self._transport.send(call))

    def remove_class(self, model: str | Model, name: str) -> Model:
        """Make a new model that knows this class no more; the old one stays. `ConflictError` if only two are left."""
        call = Call("DELETE", f"/models/{segment(model)}/classes/{quote(name, safe='')}", creates=True)
        return self._transport.parse(Model, self._transport.send(call))

    def predict(self, model: str | Model, images: Iterable[Image], *, top_k: int | None = None) -> Predictions:
        """Classify images given as paths, bytes or open binary files; as many as you like.

        They are sent in batches. An image that cannot be read by the service has an `error` instead of a `label`;
        the others are unharmed. A few-shot model may say that it is `none_of_these`. A path that cannot be read here
        is an OSError.
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


def _item(item: str | Mapping[str, Any]) -> dict[str, Any]:
    return {"text": item} if isinstance(item, str) else {"row": dict(item)}


def _target(path: str | os.PathLike[str] | None, name: str) -> Path:
    target = Path(path).expanduser() if path is not None else Path(name)
    is_folder = target.is_dir() or (isinstance(path, str) and path.endswith(("/", os.sep)))
    return target / name if is_folder else target
