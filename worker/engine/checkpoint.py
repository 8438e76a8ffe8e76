"""Checkpoints: the state of a training as one safetensors file, from which another attempt goes on.

All tensors lie in the file as they are named by `Training.tensors`; everything else is a JSON text in its header,
together with a checksum over both. Nothing in it is ever executed, and nothing is believed: what does not fit the job
and the freshly built network by every name, shape and type is left alone, and the training starts from the beginning.
"""

import hashlib
import json
import os
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from core.contract.base import Record
from worker.engine.door import Sink
from worker.engine.state import Position, Training

FORMAT = 1  # rises when an older file would be misunderstood
RARELY = 20.0  # a save may take at most one part in so many of the time
_TEXT, _SUM = "graft", "crc32"
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


class UnusableError(Exception):
    """Why a checkpoint cannot be used, as the end of a sentence."""


class Header(Record):
    """What a checkpoint says besides its tensors."""

    format: int = FORMAT
    belongs: dict[str, Any]
    """What it belongs to: another method, other data, another base model or library has another."""
    at: Position
    best_loss: float | None
    best_epoch: float | None
    best_averaged: bool = False
    groups: list[dict[str, Any]]
    scaler: dict[str, float]


class Checkpoints:
    """Saves a training now and then, and puts it back into the state that an earlier attempt saved."""

    def __init__(
        self, out: Path, sink: Sink, belongs: dict[str, Any], *, every: float = 30.0, resume: Path | None = None
    ) -> None:
        """Files go to `out`, one in `every` seconds at most; `resume` is the file to go on from, if there is one."""
        self._out, self._sink, self._every, self._resume = out, sink, every, resume
        self._belongs: dict[str, Any] = json.loads(json.dumps(belongs))
        self._cost = 0.0
        self._last = time.monotonic()
        self._saved = _mark(Position())

    def restore(self, training: Training) -> None:
        """Go on from the earlier attempt's checkpoint; one that does not fit is said and left alone."""
        self._last = time.monotonic()
        if self._resume is None:
            return
        try:
            header, tensors = read(self._resume)
            check(header, tensors, training, self._belongs)
        except UnusableError as error:
            self._say(f"The saved state of an earlier attempt {error}: training starts from the beginning.")
            return
        take(header, tensors, training)
        self._saved = _mark(training.at)
        self._say(f"Goes on after step {training.at.step} of {training.steps}, where an earlier attempt was saved.")

    def keep(self, training: Training) -> None:
        """Save if it is time to."""
        if time.monotonic() - self._last >= max(self._every, RARELY * self._cost):
            self.save(training)

    def save(self, training: Training) -> None:
        """Save now, unless nothing has happened since the last time.

        A disk that does not take it is said and no reason to end: the previous checkpoint stays what it is.
        """
        if _mark(training.at) == self._saved:
            return
        begun = time.monotonic()
        path = self._out / f"checkpoint-{training.at.step}.safetensors"
        try:
            sha256, size = publish(path, training.tensors(), describe(training, self._belongs))
        except OSError as error:
            self._say(f"The state of the training could not be saved ({error.strerror}): it goes on without.")
        else:
            self._saved = _mark(training.at)
            facts = {"file": path.name, "sha256": sha256, "bytes": size}
            self._sink("checkpoint", {**facts, "epoch": training.epochs_done, "step": training.at.step})
        self._last = time.monotonic()
        self._cost = self._last - begun

    def _say(self, text: str) -> None:
        self._sink("message", {"text": text})


def _mark(at: Position) -> tuple[int, int, int]:
    return at.epoch, at.step, len(at.curve)


def describe(training: Training, belongs: dict[str, Any]) -> Header:
    """The header of a checkpoint of this moment."""
    keeper = training.keeper
    return Header(
        belongs=belongs,
        at=training.at,
        best_loss=None if keeper is None else keeper.best,
        best_epoch=None if keeper is None else keeper.at,
        best_averaged=keeper is not None and keeper.averaged,
        groups=training.groups(),
        scaler=training.scaler.state_dict(),
    )


def publish(path: Path, tensors: Mapping[str, Tensor], header: Header) -> tuple[str, int]:
    """Write a file that is whole or not there at all; returns its SHA-256 and its size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pending = path.with_name(f".{path.name}")
    try:
        with pending.open("wb") as file:
            digest = hashlib.sha256()
            for part in _parts(tensors, json.dumps(header.model_dump())):
                digest.update(part)
                file.write(part)
            size = file.tell()
            file.flush()
            os.fsync(file.fileno())
        pending.replace(path)
        _fsync_folder(path.parent)
    finally:
        pending.unlink(missing_ok=True)
    return digest.hexdigest(), size


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _parts(tensors: Mapping[str, Tensor], text: str) -> Iterator[bytes | memoryview]:
    """A safetensors file piece by piece: a state of many gigabytes is never in memory twice."""
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))  # each aligned to its own size
    entries: dict[str, Any] = {"__metadata__": {_TEXT: text, _SUM: checksum(tensors, text)}}
    end = 0
    for name in order:
        begin, end = end, end + tensors[name].nbytes
        entries[name] = {
            "dtype": _DTYPES[tensors[name].dtype],
            "shape": list(tensors[name].shape),
            "data_offsets": [begin, end],
        }
    head = json.dumps(entries, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    yield len(head).to_bytes(8, "little") + head
    yield from (_raw(tensors[name]) for name in order)


def _raw(tensor: Tensor) -> memoryview:
    """The tensor's bytes in the order of its axes, whatever its memory format."""
    flat: Any = tensor.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8).numpy()
    return memoryview(flat)


def checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    """CRC-32 over the text and every tensor's name, type, shape and bytes: it tells damage, not malice."""
    found = zlib.crc32(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        found = zlib.crc32(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode(), found)
        found = zlib.crc32(_raw(tensor), found)
    return f"{found:08x}"


def read(path: Path) -> tuple[Header, dict[str, Tensor]]:
    """Header and tensors of a file; `UnusableError` if it is damaged or was written by another version."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- it is no dict
        if checksum(tensors, facts[_TEXT]) != facts[_SUM]:
            raise UnusableError("is damaged")
        values = json.loads(facts[_TEXT])
        if values["format"] != FORMAT:
            raise UnusableError("was written by another version of Graft")
        return Header.model_validate(values), tensors
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise UnusableError("is damaged") from error


def check(header: Header, tensors: Mapping[str, Tensor], training: Training, belongs: dict[str, Any]) -> None:
    """`UnusableError` unless it belongs to this very training and fits all of its parts."""
    other = sorted(
        name for name in belongs.keys() | header.belongs.keys() if belongs.get(name) != header.belongs.get(name)
    )
    if other:
        raise UnusableError(f"belongs to other things ({', '.join(other)})")
    if not (_is_within(header.at, training) and _has_same_rule(header, training)):
        raise UnusableError("tells of another course of training")
    _check_tensors(tensors, training)


def _is_within(at: Position, training: Training) -> bool:
    return (
        at.epoch <= training.epochs
        and at.done <= training.steps_per_epoch
        and at.step == (at.epoch - 1) * training.steps_per_epoch + at.done
        and all(point.x <= at.epoch for point in at.curve)
    )


def _has_same_rule(header: Header, training: Training) -> bool:
    """Whether the optimiser's groups have the same values, but for the rate, which each step sets."""
    ours = json.loads(json.dumps(training.groups()))
    theirs = header.groups
    alike = len(ours) == len(theirs) and all(
        own | {"lr": 0} == their | {"lr": 0} for own, their in zip(ours, theirs, strict=True)
    )
    validated = {header.best_loss is not None, header.best_epoch is not None}
    scaled = not header.scaler or not training.scaler.is_enabled() or _scales(header.scaler, training)
    return alike and scaled and validated == {training.keeper is not None}


def _scales(state: dict[str, float], training: Training) -> bool:
    own = training.scaler.state_dict()
    return state.keys() == own.keys() and all(0 <= value < float("inf") for value in state.values())


def _check_tensors(tensors: Mapping[str, Tensor], training: Training) -> None:
    expected = training.expected()
    for name, tensor in tensors.items():
        if name not in expected:
            raise UnusableError("has tensors that this network has not")
        if tensor.shape != expected[name].shape or tensor.dtype != expected[name].dtype:
            raise UnusableError("has tensors of other shapes or types than this network")
    kinds = {name.rpartition(".")[0] for name in tensors if name.startswith("optimiser.")}  # of parameters that moved
    missing = {
        name
        for name in expected.keys() - tensors.keys()
        if name != "rng.cuda" and (not name.startswith("optimiser.") or name.rpartition(".")[0] in kinds)
    }
    if missing:
        raise UnusableError("lacks tensors of this network")
    try:
        torch.Generator().set_state(tensors["rng.cpu"].clone())
    except RuntimeError as error:
        raise UnusableError("has no valid state of the random generator") from error


def take(header: Header, tensors: Mapping[str, Tensor], training: Training) -> None:
    """Put a training into that state; it must have passed `check`."""
    training.take(tensors)
    training.at = header.at
    if training.keeper is not None and header.best_loss is not None and header.best_epoch is not None:
        training.keeper.best, training.keeper.at = header.best_loss, header.best_epoch
        training.keeper.averaged = header.best_averaged
    if training.scaler.is_enabled() and header.scaler:
        training.scaler.load_state_dict(header.scaler)
