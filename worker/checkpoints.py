"""What a child says it has saved is looked at before it is believed."""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.contract.jobs import Checkpoint


class UnusableError(Exception):
    """Why a checkpoint cannot be kept, as the end of a sentence."""


@dataclass(frozen=True)
class Saved:
    """A checkpoint that lies in the work folder and is what it claims to be."""

    path: Path
    checkpoint: Checkpoint


def inspect(folder: Path, data: dict[str, Any]) -> Saved:
    """Check name, size and SHA-256 of the file that `data` (`worker.engine.door.Sink`) names; else `UnusableError`."""
    name = data.get("file")
    if not isinstance(name, str) or name != Path(name).name or "\\" in name or name in ("", ".", ".."):
        raise UnusableError("its name is not that of a file in the work folder")
    try:
        checkpoint = Checkpoint.model_validate({key: value for key, value in data.items() if key != "file"})
    except ValidationError as error:
        raise UnusableError("it is not described as it should be") from error
    if _digest(folder / name, checkpoint.bytes) != checkpoint.sha256:
        raise UnusableError("its file does not hold what it should")
    return Saved(folder / name, checkpoint)


def is_intact(path: Path, checkpoint: Checkpoint) -> bool:
    """Whether a stored checkpoint still holds what was put there."""
    try:
        return _digest(path, checkpoint.bytes) == checkpoint.sha256
    except UnusableError:
        return False


def _digest(path: Path, size: int) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise UnusableError("its file cannot be read") from error
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size != size:
            raise UnusableError("its file does not have the size it should")
        return hashlib.file_digest(file, "sha256").hexdigest()
