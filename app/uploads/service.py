"""Decisions on resumable uploads: begin, take a chunk, become a data set, end."""

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import BinaryIO

from fastapi.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from app.datasets.schemas import UploadFields
from app.datasets.service import Uploaded, enter
from app.datasets.uploads import in_batches
from app.idempotency import Created, once
from app.limits import too_large
from app.uploads.files import BusyError, Chunk, LostFileError, busy, digest, opened
from app.uploads.headers import Checksum, Said
from core.contract.base import new_id, now
from core.contract.errors import ConflictError, GraftError, InvalidRequestError, NotFoundError
from core.contract.uploads import Upload
from core.settings import Settings
from core.store import tenants, uploads
from core.store.store import Store
from core.store.uploads import Kept


@dataclass(frozen=True)
class Uploads:
    """What every step needs: the store, the settings, whose uploads, and how to wake the workers."""

    store: Store
    settings: Settings
    tenant: str
    wake: Callable[[], None]
    request_id: str | None = None

    def begin(self, size: int, header: str | None, said: Said, key: str | None) -> Created:
        """Enter an upload of `size` bytes, if they are allowed and fit."""
        self._check_size(size)
        upload = Upload(
            id=new_id("upl"),
            state="open",
            bytes=size,
            received=0,
            metadata=said.metadata,
            created_at=now(),
            expires_at=now() + timedelta(seconds=self.settings.upload_seconds),
        )
        fields = said.model_dump(mode="json", include={"filename", "sha256", *UploadFields.model_fields})
        with self.store.db.write() as tx:

            def add() -> Upload:
                tenants.admit_bytes(tx, self.tenant, self.settings, size)
                self.store.blobs.begin_upload(upload.id)
                uploads.add(tx, self.tenant, Kept(upload, fields, header))
                return upload

            said_all = {"call": "POST /uploads", "bytes": size, **fields}
            return once(tx, self.tenant, key, said_all, add, seconds=self.store.key_seconds)

    def _check_size(self, size: int) -> None:
        if size == 0:
            raise InvalidRequestError(
                "The upload is empty.",
                code="empty_upload",
                param="Upload-Length",
                hint="Send a zip or tar of class folders, or a table.",
            )
        if size > self.settings.max_upload_bytes:
            raise too_large(self.settings.max_upload_bytes, code="upload_too_large")
        self.store.blobs.expect(size)

    def find(self, upload_id: str) -> Kept:
        """An upload as it stands."""
        with self.store.db.read() as tx:
            return uploads.find(tx, self.tenant, upload_id)

    def settled(self, upload_id: str) -> Kept:
        """Like `find`; one whose bytes are all there, but whose end was cut off by a crash, is finished first."""
        kept = self.find(upload_id)
        if kept.upload.state == "open" and kept.upload.received == kept.upload.bytes:
            with suppress(BusyError, LostFileError, NotFoundError):
                self._settle(kept)
            return self.find(upload_id)
        return kept

    def _settle(self, kept: Kept) -> None:
        path = self.store.blobs.upload(kept.upload.id)
        if kept.sha256 and not path.exists() and self.store.blobs.exists(kept.sha256):
            self._finish(kept.upload.id)  # the file has its name as a blob, but the row does not know it yet
            return
        with self._opened(kept.upload.id, kept.upload.received):
            self._finish(kept.upload.id)

    async def take(
        self, upload_id: str, start: int, body: AsyncIterator[bytes], checksum: Checksum | None, declared: int | None
    ) -> Upload:
        """Append a request's body from offset `start`; whole, the upload becomes a data set.

        What arrived before the connection broke or the disk was full is kept, unless a checksum was to be met.
        """
        upload = (await run_in_threadpool(self.settled, upload_id)).upload
        self._expect(upload, start, declared)
        if upload.state == "done":
            return upload
        with await run_in_threadpool(self._opened, upload_id, start) as file:
            chunk = Chunk(file, start, upload.bytes, checksum, self._committer(upload_id))
            await _pour(body, chunk)
            if chunk.committed == upload.bytes:
                await run_in_threadpool(self._finish, upload_id)
        return (await run_in_threadpool(self.find, upload_id)).upload

    def _expect(self, upload: Upload, start: int, declared: int | None) -> None:
        if upload.state == "failed":
            assert upload.error is not None
            raise ConflictError(
                f"Upload {upload.id} has failed: {upload.error.message}",
                code="upload_failed",
                hint=upload.error.hint,
                details={"error": upload.error.model_dump(mode="json")},
            )
        if start != upload.received:
            raise _wrong_offset(upload, start)
        if declared is not None and start + declared > upload.bytes:
            raise InvalidRequestError(
                f"{declared:,} bytes from offset {start:,} go beyond the upload's length of {upload.bytes:,} bytes.",
                code="upload_overrun",
                param="Content-Length",
                hint="Send the rest of the file only.",
            )

    def _opened(self, upload_id: str, start: int) -> BinaryIO:
        """The locked file; what was read before it was locked may have changed meanwhile."""

        def counted() -> int:
            upload = self.find(upload_id).upload
            if upload.state != "open" or upload.received != start:
                raise _wrong_offset(upload, start)
            return start

        try:
            return opened(self.store.blobs.upload(upload_id), counted)
        except LostFileError as error:
            self._check_taken(self.find(upload_id), start)
            self._fail(upload_id, error)
            raise

    def _check_taken(self, kept: Kept, start: int) -> None:
        """A file that is not there may have become a blob by another request's doing, which is no loss."""
        if kept.upload.state != "open" or kept.upload.received != start:
            raise _wrong_offset(kept.upload, start)
        if kept.sha256 and self.store.blobs.exists(kept.sha256):
            raise busy()

    def _committer(self, upload_id: str) -> Callable[[int, int], None]:
        def commit(start: int, end: int) -> None:
            with self.store.db.write() as tx:
                if not uploads.advance(tx, upload_id, start, end, self.settings.upload_seconds):
                    raise _wrong_offset(uploads.get(tx, self.tenant, upload_id), start)

        return commit

    def _finish(self, upload_id: str) -> None:
        """All bytes are counted: hash them, then blob, data set and the upload's end in one transaction."""
        kept = self.find(upload_id)
        if kept.upload.state != "open":
            return
        path = self.store.blobs.upload(upload_id)
        sha256 = kept.sha256
        if sha256 is None or path.exists():
            sha256 = self._hash(kept)
        file = Uploaded(path, sha256, kept.upload.bytes, kept.fields["filename"])
        named = {name: kept.fields.get(name) for name in UploadFields.model_fields if name != "metadata"}
        said = UploadFields.model_validate(named).model_copy(update={"metadata": kept.upload.metadata})
        with self.store.db.write(blobs=True) as tx:
            dataset = enter(tx, self.store, self.tenant, file, said, request_id=self.request_id)
            if not uploads.finish(tx, upload_id, dataset.id):
                raise NotFoundError(f"There is no upload {upload_id}.", code="upload_not_found")
        self.wake()

    def _hash(self, kept: Kept) -> str:
        sha256, size = digest(self.store.blobs.upload(kept.upload.id))
        wanted = kept.fields.get("sha256")
        if size != kept.upload.bytes or wanted not in (None, sha256):
            error = InvalidRequestError(
                "The file that arrived does not have the SHA-256 that was announced.",
                code="checksum_mismatch",
                param="sha256",
                hint="Begin a new upload; send `Upload-Checksum` with every chunk to find where it goes wrong.",
                details={"announced": wanted, "found": sha256},
            )
            self._fail(kept.upload.id, error)
            raise error
        with self.store.db.write() as tx:
            uploads.remember(tx, kept, sha256)
        return sha256

    def _fail(self, upload_id: str, error: LostFileError | InvalidRequestError) -> None:
        with self.store.db.write() as tx:
            uploads.fail(tx, upload_id, error.body(self.request_id))
        self.store.blobs.upload(upload_id).unlink(missing_ok=True)

    def end(self, upload_id: str) -> None:
        """Forget an upload and what it has on the disk; the data set it has become stays."""
        with self.store.db.write() as tx:
            uploads.remove(tx, self.tenant, upload_id)
        self.store.blobs.upload(upload_id).unlink(missing_ok=True)


async def _pour(body: AsyncIterator[bytes], chunk: Chunk) -> None:
    """Feed the chunk with everything that arrives, and count it; then raise what went wrong, if something did."""
    broken: Exception | None = None

    async def arriving() -> AsyncIterator[bytes]:
        nonlocal broken
        try:
            async for piece in body:
                yield piece
        except (ClientDisconnect, HTTPException) as error:
            broken = error

    try:
        await in_batches(arriving(), chunk.feed)
    except InvalidRequestError:
        await run_in_threadpool(chunk.drop)
        raise
    except GraftError:
        with suppress(GraftError):  # a full disk: what fitted is kept
            await run_in_threadpool(chunk.close, whole=False)
        raise
    await run_in_threadpool(chunk.close, whole=broken is None)
    if broken is not None:
        raise broken


def _wrong_offset(upload: Upload, start: int) -> ConflictError:
    return ConflictError(
        f"The upload stands at offset {upload.received:,}, the request begins at {start:,}.",
        code="wrong_offset",
        param="Upload-Offset",
        hint="Go on from where the upload stands.",
        details={"offset": upload.received},
    )
