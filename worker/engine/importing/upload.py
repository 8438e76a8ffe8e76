"""What was uploaded: a bundle (a hostile zip until shown otherwise) or one safetensors file."""

import json
import math
import os
import unicodedata
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.contract.errors import JobError
from core.contract.models import ModelManifest
from core.contract.prepare import ImagePrepare
from core.modality.archives import Entry
from core.modality.errors import ArchiveError
from core.modality.zips import list_zip
from core.settings import Settings

MANIFEST, TENSORS = "manifest.json", "model.safetensors"
MEMBERS = (MANIFEST, TENSORS, "model.onnx", "README.md")
"""Files of a bundle; the last two are left unread, for they are made anew."""
MAX_MANIFEST_BYTES = 2 * 1024 * 1024
MAX_CLASS_NAME = 1024
_CHUNK = 4 * 1024 * 1024
_HINT = "Send the zip just as GET /models/{id} gave it."
_TEMPERATURES = (1e-3, 1e3)
_LARGEST_RESIZE = 4096  # an image is resized to size / crop before it is cropped


@dataclass(frozen=True)
class Upload:
    """Where the tensors lie: `size` bytes of safetensors from byte `start` of `path`; a bundle has a manifest, too."""

    path: Path
    start: int
    size: int
    manifest: ModelManifest | None = None


def open_upload(path: Path, max_classes: int) -> Upload:
    """Find the tensors in a bundle or a plain file, told apart by the first bytes.

    Raises `JobError` `invalid_bundle` or `invalid_manifest`.
    """
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            return Upload(path, 0, path.stat().st_size)
    members = _members(path)
    _check_sum(path, members[TENSORS])
    manifest = _manifest(_read(path, members[MANIFEST]), max_classes)
    return Upload(path, members[TENSORS].offset, members[TENSORS].size, manifest)


def _members(path: Path) -> dict[str, Entry]:
    """The bundle's files by name: all stored as they are, none twice, none that does not belong there."""
    size = path.stat().st_size
    limits = Settings.model_construct(max_entries=len(MEMBERS), max_item_bytes=size, max_unpacked_bytes=size)
    try:
        listing = list_zip(path, limits)
    except ArchiveError as error:
        raise _invalid_bundle(error.message.rstrip("."), reason=error.code) from error
    if listing.refused:
        refused = listing.refused[0]
        raise _invalid_bundle(f"its entry `{refused.name}` cannot be taken", reason=refused.code)
    names = [entry.name for entry in listing.entries]
    strange = [name for name in [*names, *listing.folders] if name not in MEMBERS]
    if strange:
        raise _invalid_bundle(f"`{strange[0][:120]}` does not belong in one", reason="unknown_file")
    if len(set(names)) < len(names):
        raise _invalid_bundle("a file stands in it twice", reason="repeated_file")
    for name in (MANIFEST, TENSORS):
        if name not in names:
            raise _invalid_bundle(f"it has no {name}", reason="missing_file")
    packed = [entry.name for entry in listing.entries if entry.deflated]
    if packed:
        raise _invalid_bundle(f"its {packed[0]} is compressed; a bundle's files are stored", reason="compressed_file")
    return {entry.name: entry for entry in listing.entries}


def _check_sum(path: Path, entry: Entry) -> None:
    found, left = 0, entry.size
    with path.open("rb") as file:
        file.seek(entry.offset)
        while left and (chunk := file.read(min(_CHUNK, left))):
            found, left = zlib.crc32(chunk, found), left - len(chunk)
    if found != entry.crc:
        raise _invalid_bundle(f"the checksum of {entry.name} is wrong", reason="damaged_file")


def _read(path: Path, entry: Entry) -> bytes:
    if entry.size > MAX_MANIFEST_BYTES:
        raise _invalid_manifest(f"it is {entry.size:,} bytes long, more than {MAX_MANIFEST_BYTES:,}")
    _check_sum(path, entry)
    with path.open("rb") as file:
        return os.pread(file.fileno(), entry.size, entry.offset)


def _manifest(data: bytes, max_classes: int) -> ModelManifest:
    """The manifest as far as it may be used; its figures stay claims."""
    try:
        _check_values(json.loads(data))
        found = ModelManifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))[:120]
        raise _invalid_manifest(f"{place}: {first['msg'][:200]}", reason="unknown_form") from error
    except RecursionError as error:
        raise _invalid_manifest("it is nested too deeply") from error
    except ValueError as error:
        raise _invalid_manifest("it is not JSON, or holds a figure that is not finite") from error
    if found.problem != "regression":
        check_classes(found.classes, max_classes)
    if not isinstance(found.prepare, ImagePrepare) or found.problem == "regression":
        raise JobError(
            f"Bundles of {found.modality} models with the problem {found.problem} cannot be imported.",
            code="import_unsupported",
            param="file",
            hint="Only image classifiers can; train the model here from its data.",
        )
    _check_prepare(found.prepare)
    low, high = _TEMPERATURES
    if not low <= found.temperature <= high:
        raise _invalid_manifest(f"its temperature {found.temperature:g} is not from {low:g} to {high:g}")
    return found


def _check_values(value: Any) -> None:
    """Refuse figures and characters that no database can keep."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("not finite")
    if isinstance(value, str) and "\0" in value:
        raise ValueError("a NUL character")
    if isinstance(value, dict):
        _check_values(list(value))
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            _check_values(part)


def check_classes(classes: list[str], limit: int) -> None:
    """Raise `JobError` `invalid_classes` unless names are distinct, readable, and not too many."""
    if len(classes) > limit:
        raise _invalid_classes(f"There are {len(classes):,} classes, more than {limit:,}.")
    if len(classes) == 1:
        raise _invalid_classes("There is one class only: nothing to tell apart.")
    if len(set(classes)) < len(classes):
        raise _invalid_classes("Two classes have the same name.")
    for name in classes:
        if not 0 < len(name) <= MAX_CLASS_NAME or any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
            raise _invalid_classes("A class name is empty, too long, or has control characters.")


def _check_prepare(config: ImagePrepare) -> None:
    if not all(map(math.isfinite, (*config.mean, *config.std))) or min(config.std) < 1e-6:
        raise _invalid_manifest("its mean and std must be finite, and std above zero")
    if config.size / config.crop > _LARGEST_RESIZE:
        raise _invalid_manifest(f"with crop {config.crop:g} each image would first be resized to enormous size")


def _invalid_classes(message: str) -> JobError:
    return JobError(message, code="invalid_classes", param="classes", hint="Give each output one name of its own.")


def _invalid_bundle(why: str, **details: str) -> JobError:
    message = f"The bundle cannot be taken: {why}."
    return JobError(message, code="invalid_bundle", param="file", hint=_HINT, details=details)


def _invalid_manifest(why: str, **details: str) -> JobError:
    message = f"The bundle's {MANIFEST} cannot be taken: {why}."
    return JobError(message, code="invalid_manifest", param="file", hint=_HINT, details=details)
