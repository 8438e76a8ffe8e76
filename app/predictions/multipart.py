"""Files of a multipart form."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from app.nearest import hint_nearest
from app.predictions.forms import too_many
from app.predictions.items import NAME, Inputs, RawItem
from core.contract.errors import InvalidRequestError


class _Parser(MultiPartParser):
    """Notices a body that is cut off, which would otherwise lose its last part without a word."""

    complete = False

    def on_end(self) -> None:
        self.complete = True

    async def parse(self) -> FormData:
        self.stream = self._to_the_end(self.stream)
        return await super().parse()

    async def _to_the_end(self, stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async for chunk in stream:
            yield chunk
        if not self.complete:
            raise MultiPartException("it ends before its closing boundary")


@dataclass(frozen=True)
class Form:
    """A form's files, and the other part that it may have."""

    items: list[RawItem]
    field: UploadFile | str | None


async def read(request: Request, stream: AsyncGenerator[bytes, None], limit: int) -> Inputs:
    """The parts `files`, at most `limit`, and `top_k`."""
    form = await parts(request, stream, limit, "top_k")
    return Inputs(form.items, None if form.field is None else _top_k(form.field))


async def parts(request: Request, stream: AsyncGenerator[bytes, None], limit: int, field: str) -> Form:
    """The parts `files`, at most `limit` and at least one, and the first of that other name."""
    parser = _Parser(request.headers, stream, max_files=limit, max_fields=16)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if len(parser.items) >= limit:
            raise too_many(limit) from None
        raise InvalidRequestError(
            f"The multipart body cannot be read: {error.message.rstrip('.')}.",
            code="invalid_multipart",
            hint="Let your HTTP library build it, e.g. `curl -F files=@photo.jpg`.",
        ) from None
    try:
        said = next((value for key, value in form.multi_items() if key == field), None)
        items = [await _part(key, value, field) for key, value in form.multi_items() if key != field]
    finally:
        await form.close()
    if not items:
        raise InvalidRequestError(
            "There is no part `files`.", code="missing_field", param="files", hint="E.g. `curl -F files=@photo.jpg`."
        )
    return Form(items, said)


async def _part(key: str, value: UploadFile | str, field: str) -> RawItem:
    if key != "files":
        message = f"`{key[:100]}` is not a known part."
        hint = hint_nearest(key, ["files", field])
        raise InvalidRequestError(message, code="unknown_field", param=key[:100], hint=hint)
    if isinstance(value, str):
        raise InvalidRequestError(
            "A part `files` is text, not a file.",
            code="wrong_type",
            param="files",
            hint="Give the part a file name, e.g. `curl -F files=@photo.jpg`, with the @.",
        )
    return RawItem(value.filename[:NAME] if value.filename else None, await value.read())


def _top_k(value: UploadFile | str) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and 0 < len(value) < 10 and int(value):
        return int(value)
    raise InvalidRequestError("`top_k` must be a whole number from 1.", code="wrong_type", param="top_k")
