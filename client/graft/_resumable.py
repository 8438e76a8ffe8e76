"""Uploads in pieces (tus 1.0): after a broken connection, or a restart of the service, they go on where they were."""

import base64
import hashlib
import os
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from graft._retries import is_passing
from graft._transport import Body, Call, Transport
from graft._upload import OnProgress
from graft.errors import APIConnectionError, APIError, GraftError

CHUNK_BYTES = 16 * 1024 * 1024
FROM_BYTES = 64 * 1024 * 1024
"""Files above this are sent in pieces unless told otherwise."""
_PIECE = 1024 * 1024
_PATIENCE = 4  # times as many tries as for a single request: a restart takes a while
_BUSY = 20  # tries while the service has not noticed yet that the last connection broke
_HEADERS = {"Tus-Resumable": "1.0.0"}
_AGAIN = {408, 409, 423, 460}
_STORING = 600.0  # seconds the service may take to answer once it has every byte


def size_of(file: BinaryIO) -> int:
    """Bytes from where `file` stands to its end."""
    start = file.tell()
    size = file.seek(0, os.SEEK_END) - start
    file.seek(start)
    return size


def send_in_pieces(
    transport: Transport, file: BinaryIO, said: Mapping[str, str | None], on_progress: OnProgress | None
) -> str:
    """Upload from where `file` stands to its end, and return the id of the data set that it has become."""
    return _Upload(transport, file, on_progress).run(said)


class _Upload:
    def __init__(self, transport: Transport, file: BinaryIO, on_progress: OnProgress | None) -> None:
        self._transport = transport
        self._file = file
        self._start = file.tell()
        self._size = size_of(file)
        self._on_progress = on_progress
        self._path = ""
        self._offset = 0
        self._dataset: str | None = None

    def run(self, said: Mapping[str, str | None]) -> str:
        """Begin, and send until the service names the data set."""
        self._begin(said)
        tries = 0
        while self._dataset is None:
            before = self._offset
            try:
                self._send_next()
            except (APIConnectionError, APIError) as error:
                tries = 0 if self._offset > before else tries
                self._wait_after(error, tries)
                tries += 1
                self._find_offset()
            else:
                tries = 0
        return self._dataset

    def _begin(self, said: Mapping[str, str | None]) -> None:
        pairs = [f"{key} {_base64(value.encode())}" for key, value in said.items() if value is not None]
        headers = {**_HEADERS, "Upload-Length": str(self._size), "Upload-Metadata": ",".join(pairs)}
        reply = self._transport.send(Call("POST", "/uploads", headers=headers, creates=True))
        self._path = f"/uploads/{reply.json()['id']}"

    def _send_next(self) -> None:
        self._file.seek(self._start + self._offset)
        data = self._file.read(min(CHUNK_BYTES, self._size - self._offset))
        if not data and self._offset < self._size:
            raise GraftError("The file became shorter while it was uploaded.")
        headers = {
            **_HEADERS,
            "Upload-Offset": str(self._offset),
            "Upload-Checksum": f"sha256 {_base64(hashlib.sha256(data).digest())}",
        }
        body = Body(lambda: self._pieces(data), len(data), "application/offset+octet-stream")
        is_last = self._offset + len(data) == self._size
        call = Call("PATCH", self._path, headers=headers, body=body, read_timeout=_STORING if is_last else None)
        self._note(self._transport.send(call).headers)

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _PIECE):
            piece = data[start : start + _PIECE]
            yield piece
            if self._on_progress is not None:
                self._on_progress(self._offset + start + len(piece), self._size)

    def _note(self, headers: Mapping[str, str]) -> None:
        offset = headers.get("Upload-Offset", "")
        if not offset.isdigit():
            raise GraftError("The service's answer does not say how far the upload is.", hint="Is a proxy in between?")
        self._offset = int(offset)
        self._dataset = headers.get("Graft-Dataset")

    def _wait_after(self, error: APIConnectionError | APIError, tries: int) -> None:
        """Sit an error out that may pass; raise it if it will not, or not after so many tries."""
        retries, asked = self._transport.retries, None
        limit = retries.limit * _PATIENCE
        if isinstance(error, APIError):
            if not (error.status in _AGAIN or is_passing(error.status, error.code)):
                raise error
            asked = error.retry_after
            limit = _BUSY if error.status == 423 and retries.limit else limit
        if tries >= limit:
            raise error
        retries.wait(tries, asked)

    def _find_offset(self) -> None:
        """Ask where to go on; if nobody answers yet, the next try will tell."""
        try:
            self._note(self._transport.send(Call("HEAD", self._path, headers=_HEADERS)).headers)
        except APIConnectionError:
            return


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
