"""A multipart form whose file goes straight to a blob; python-multipart finds the boundaries."""

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.limits import too_large
from app.nearest import hint_nearest
from core.contract.errors import InvalidRequestError, TooLargeError
from core.store.blobs import PendingBlob

FILE = "file"
FIELDS = ("name", "seed", "metadata", "modality", "problem", "target", "text", "split")
MAX_FIELD_BYTES = 128 * 1024


class FormParts:
    """Takes the body piece by piece; afterwards `fields` holds the small parts and `filename` the file's name."""

    def __init__(self, content_type: str, blob: PendingBlob, max_bytes: int, fields: tuple[str, ...] = FIELDS) -> None:
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self._blob = blob
        self._known = (FILE, *fields)
        self._max_bytes = max_bytes
        self._header = (bytearray(), bytearray())
        self._disposition = b""
        self._part = ""
        self._value = bytearray()
        self._ended = self._has_file = False
        self._parser = self._make_parser(content_type)

    @classmethod
    def none(cls) -> "FormParts":
        """What a raw body says beside the file: nothing."""
        form = cls.__new__(cls)
        form.fields, form.filename = {}, None
        return form

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _broken(str(error)) from error

    def finish(self) -> None:
        """The body is complete; `InvalidRequestError` if the form is not, or has no file."""
        if not self._ended:
            raise _broken("its last boundary is missing")
        if not self._has_file:
            raise InvalidRequestError(
                "The form has no part `file`.",
                code="missing_field",
                param=FILE,
                hint="With curl: -F file=@<path>",
            )

    def _make_parser(self, content_type: str) -> MultipartParser:
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if not 0 < len(boundary) <= 200:
            raise _broken("its Content-Type names no boundary")
        return MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begin,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._part_data,
                "on_part_end": self._part_end,
                "on_end": self._end,
            },
        )

    def _part_begin(self) -> None:
        self._disposition = b""
        self._value = bytearray()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header[0].extend(data[start:end])

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1].extend(data[start:end])

    def _header_end(self) -> None:
        name, value = (bytes(part) for part in self._header)
        if name.lower() == b"content-disposition":
            self._disposition = value
        self._header = (bytearray(), bytearray())

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        part = options.get(b"name", b"").decode("utf-8", "replace")
        if part not in self._known:
            raise InvalidRequestError(
                f"The form has an unknown part `{part[:100]}`.",
                code="unknown_field",
                param=part[:100] or None,
                hint=hint_nearest(part, self._known),
            )
        if part in self.fields or (part == FILE and self._has_file):
            raise InvalidRequestError(
                f"The form has more than one part `{part}`.",
                code="repeated_field",
                param=part,
                hint="Pack all files into one zip or tar.",
            )
        self._part = part
        if part == FILE:
            self._has_file = True
            self.filename = options.get(b"filename", b"").decode("utf-8", "replace") or None

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._part == FILE:
            if self._blob.size + end - start > self._max_bytes:
                raise too_large(self._max_bytes, code="upload_too_large")
            self._blob.write(memoryview(data)[start:end])
        else:
            self._value.extend(data[start:end])
            if len(self._value) > MAX_FIELD_BYTES:
                raise TooLargeError(f"The part `{self._part}` is too large.", param=self._part)

    def _part_end(self) -> None:
        if self._part == FILE:
            return
        try:
            self.fields[self._part] = self._value.decode()
        except UnicodeDecodeError as error:
            message = f"The part `{self._part}` is not UTF-8."
            raise InvalidRequestError(message, code="invalid_value", param=self._part) from error

    def _end(self) -> None:
        self._ended = True


def _broken(reason: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"The multipart form cannot be read: {reason}.",
        code="invalid_multipart",
        hint="Let the HTTP library write the form and its Content-Type.",
    )
