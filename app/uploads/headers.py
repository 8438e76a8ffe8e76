"""The headers of tus 1.0 (https://tus.io/protocols/resumable-upload): read strictly, written on every reply."""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import format_datetime
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from pydantic import Field, ValidationError
from starlette.datastructures import MutableHeaders
from starlette.types import Message, Receive, Scope, Send

from app.datasets.schemas import UploadFields
from app.validation import FieldsError
from core.contract.base import Sha256
from core.contract.errors import InvalidRequestError
from core.contract.uploads import Upload
from core.store.uploads import Kept

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,expiration,checksum,termination"
CHUNK = "application/offset+octet-stream"
ALGORITHMS = {"sha1": 20, "sha256": 32}
"""Names of checksums, and how many bytes they have."""
_LARGEST = 2**53


class Said(UploadFields):
    """What `Upload-Metadata` may say of the file. What well-known clients add by themselves is taken and not used."""

    filename: str | None = Field(default=None, max_length=1024)
    sha256: Sha256 | None = Field(default=None, description="SHA-256 of the whole file in hex, to be checked.")
    filetype: str | None = None
    type: str | None = None
    relative_path: str | None = Field(default=None, alias="relativePath")


@dataclass(frozen=True)
class Checksum:
    """What a chunk's bytes must give."""

    algorithm: str
    digest: bytes

    def start(self) -> Any:
        """A hash that is fed with the chunk."""
        return hashlib.new(self.algorithm, usedforsecurity=False)


class TusRoute(APIRoute):
    """Writes `Tus-Resumable` on every reply of the route, errors too."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Tus-Resumable"] = VERSION
                if message["status"] == 412:
                    headers["Tus-Version"] = VERSION
            await send(message)

        await super().handle(scope, receive, marked)


async def spoken(request: Request) -> None:
    """Refuse another version of the protocol, before anything else of the request is looked at."""
    version = request.headers.get("Tus-Resumable")
    if version != VERSION:
        raise InvalidRequestError(
            f"This call speaks tus {VERSION}, the request {version[:20] if version else 'does not say what'}.",
            code="unsupported_tus_version",
            param="Tus-Resumable",
            hint=f"Send the header `Tus-Resumable: {VERSION}`.",
        )


def number(request: Request, header: str) -> int:
    """The header's value: a whole number from 0."""
    value = request.headers.get(header)
    if value is None:
        hint = "Tell the size of the whole file in bytes." if header == "Upload-Length" else "HEAD tells the offset."
        raise InvalidRequestError(f"The header `{header}` is missing.", code="missing_field", param=header, hint=hint)
    if not (value.isascii() and value.isdigit() and len(value) <= 16 and int(value) <= _LARGEST):
        message = f"`{header}` must be a whole number from 0."
        raise InvalidRequestError(
            message, code="invalid_value", param=header, hint="Send decimal digits, e.g. 1048576."
        )
    return int(value)


def checksum(request: Request) -> Checksum | None:
    """What `Upload-Checksum` says, if it is there."""
    value = request.headers.get("Upload-Checksum")
    if value is None:
        return None
    algorithm, _, encoded = value.partition(" ")
    try:
        digest = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if ALGORITHMS.get(algorithm) != len(digest):
        raise InvalidRequestError(
            "`Upload-Checksum` is not a checksum that this service knows.",
            code="invalid_checksum",
            param="Upload-Checksum",
            hint=f"Send the algorithm ({' or '.join(ALGORITHMS)}), a space, and the digest in base64.",
        )
    return Checksum(algorithm, digest)


def metadata(header: str | None) -> Said:
    """`Upload-Metadata`: pairs of a key and its value in base64, separated by commas."""
    sent: dict[str, Any] = {}
    for pair in filter(None, (part.strip() for part in (header or "").split(","))):
        key, _, encoded = pair.partition(" ")
        if key in sent:
            raise _bad_metadata(key, "is there twice", "repeated_field")
        try:
            sent[key] = base64.b64decode(encoded, validate=True).decode()
        except ValueError as error:
            raise _bad_metadata(key, "is not UTF-8 in base64", "invalid_value") from error
    if not sent.get("metadata", "-"):
        del sent["metadata"]
    try:
        return Said.model_validate(sent)
    except ValidationError as error:
        raise FieldsError(error.errors(), Said) from error


def _bad_metadata(key: str, reason: str, code: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"`{key[:100]}` in `Upload-Metadata` {reason}.",
        code=code,
        param=key[:100] or "Upload-Metadata",
        hint="Send `key base64(value)` pairs, separated by commas.",
    )


def of(kept: Kept) -> dict[str, str]:
    """How an upload stands, as headers."""
    upload = kept.upload
    headers = {"Upload-Length": str(upload.bytes), **progress(upload), "Cache-Control": "no-store"}
    return headers | ({"Upload-Metadata": kept.header} if kept.header else {})


def progress(upload: Upload) -> dict[str, str]:
    """How far an upload has come, and the data set it has become."""
    headers = {"Upload-Offset": str(upload.received)}
    if upload.state == "open":
        headers["Upload-Expires"] = format_datetime(upload.expires_at, usegmt=True)
    return headers | ({"Graft-Dataset": upload.dataset_id} if upload.dataset_id else {})


CAPABILITIES: Mapping[str, str] = {
    "Tus-Version": VERSION,
    "Tus-Extension": EXTENSIONS,
    "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
}
