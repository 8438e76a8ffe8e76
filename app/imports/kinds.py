"""What an uploaded model is, by its bytes: a bundle, plain weights, or something that is never opened."""

from pathlib import Path
from typing import Literal

from core.contract.errors import UnsupportedMediaTypeError
from core.modality.errors import ArchiveError
from core.modality.zips import list_zip
from core.settings import Settings

Kind = Literal["bundle", "weights"]
_MOST_ENTRIES = 10_000
_MAGIC = (
    (b"GGUF", "a GGUF file"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy file"),
    (b"\x08", "an ONNX graph"),  # field 1 of a protobuf: the graph's ir_version
)
CONVERT = (
    "Convert it on your own machine: "
    'import torch; from safetensors.torch import save_file; save_file(torch.load("model.pt", weights_only=True), '
    '"model.safetensors"). If the file holds a whole network instead of a state dict, save network.state_dict().'
)


def kind_of(path: Path) -> Kind:
    """The kind of the upload; `UnsupportedMediaTypeError` `unsupported_weights` that says how to convert it.

    Only what is certainly something else is refused here; a damaged file of a right kind is told apart by the worker.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    if head[:2] == b"PK":
        return _zip(path, head)
    if head[8:9] == b"{":  # after the header's length begins its JSON
        return "weights"
    if len(head) > 1 and head[0] == 0x80 and head[1] in range(2, 6):
        raise _unsupported("a pickle, as torch.save wrote it")
    for magic, what in _MAGIC:
        if head.startswith(magic):
            raise _unsupported(what)
    raise _unsupported("in no format that is known here")


def _zip(path: Path, head: bytes) -> Kind:
    limits = Settings.model_construct(max_entries=_MOST_ENTRIES)
    try:
        listing = list_zip(path, limits)
    except ArchiveError:
        if b"data.pkl" in head:
            raise _unsupported("a zip with a pickle, as torch.save writes it") from None
        return "bundle"
    names = [entry.name for entry in listing.entries]
    if any(name.endswith(".pkl") for name in names):
        raise _unsupported("a zip with a pickle, as torch.save writes it")
    if "manifest.json" not in names and any(name.endswith((".npy", ".json", ".h5")) for name in names):
        raise _unsupported("a zip of another program")
    return "bundle"


def _unsupported(what: str) -> UnsupportedMediaTypeError:
    return UnsupportedMediaTypeError(
        f"The file is {what}; taken are safetensors, and bundles as GET /models/{{id}} gives them.",
        code="unsupported_weights",
        param="file",
        hint=CONVERT,
    )
