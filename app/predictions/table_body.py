"""Bodies with a row in each line: CSV with a header, and JSON lines."""

import csv
import io
import itertools
from collections import Counter
from collections.abc import Iterator

from pydantic import TypeAdapter, ValidationError

from app.predictions.forms import FORMS, empty, too_many
from app.predictions.items import Cell, Inputs, RawItem
from app.predictions.json_body import MOST_CELLS, check_signs
from core.contract.errors import InvalidRequestError
from core.contract.models import ItemError
from core.modality.delimiters import find_delimiter

_LOOKED_AT = 50
_ROW: TypeAdapter[dict[str, Cell]] = TypeAdapter(dict[str, Cell])
_HEADER = "The first line holds the columns' names, each once; every further line is a row."


def read_csv(body: bytes, limit: int) -> Inputs:
    """Each line a row of texts; commas, semicolons, tabs or `|` may stand between its cells."""
    if max(body.count(sign) for sign in b",;\t|") > 4 * MOST_CELLS:  # texts hold them, too
        raise too_many(limit)
    text = _text(body)
    sample = [line for line in itertools.islice(io.StringIO(text, newline=""), _LOOKED_AT) if line.strip()]
    rows = _rows(io.StringIO(text, newline=""), find_delimiter(sample))
    header = next(rows, None)
    if header is None or isinstance(header, ItemError):
        raise _unusable("The body has no first line with the columns' names.", "no_header")
    names = [name.strip() for name in header]
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise _unusable(f"The column {repeated[0][:100]!r} stands twice in the first line.", "repeated_column")
    items = []
    for cells in rows:
        items.append(_item(names, cells))
        if len(items) > limit or len(items) * len(names) > MOST_CELLS:
            raise too_many(min(limit, max(MOST_CELLS // len(names), 1)))
    if not items:
        raise _unusable("The body has a first line with the columns' names, and no row.", "no_rows")
    return Inputs(items)


def read_json_lines(body: bytes, limit: int) -> Inputs:
    """Each line a row as a JSON object."""
    check_signs(body, MOST_CELLS, limit)
    lines = (line for line in io.StringIO(_text(body)) if line.strip())
    items = [_from_json(line) for line in itertools.islice(lines, limit + 1)]
    if len(items) > limit:
        raise too_many(limit)
    return Inputs(items)


def _text(body: bytes) -> str:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequestError("The body is not UTF-8.", code="not_utf8", hint="Save the table as UTF-8.") from error
    if not text.strip():
        raise empty("tabular")
    return text


def _rows(lines: io.StringIO, delimiter: str) -> Iterator[list[str] | ItemError]:
    """Rows that are not blank; one that the parser refuses is an error, and reading goes on in the next line."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            said = f"Line {reader.line_num} is no row of a CSV file: {error}."
            yield ItemError(code="bad_row", message=said, hint='Double the quotation marks within a quoted cell: "".')
            continue
        if cells:
            yield cells


def _item(names: list[str], cells: list[str] | ItemError) -> RawItem:
    if isinstance(cells, ItemError):
        return RawItem(None, error=cells)
    if len(cells) != len(names) and (len(cells) < len(names) or any(cells[len(names) :])):
        said = f"The row has {len(cells)} cells, and the first line {len(names)} names."
        hint = "Quote cells that hold the character between the cells."
        return RawItem(None, error=ItemError(code="ragged_row", message=said, hint=hint))
    return RawItem(None, dict(zip(names, cells, strict=False)))


def _from_json(line: str) -> RawItem:
    try:
        return RawItem(None, _ROW.validate_json(line))
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[0]
        if found["type"] == "json_invalid":
            said = f"The line is not valid JSON: {found['ctx']['error']}."
        elif found["loc"]:
            said = f"`{str(found['loc'][0])[:100]}`: a cell is a text, a number, true, false or null."
        else:
            said = "The line is no JSON object."
        return RawItem(None, error=ItemError(code="bad_row", message=said, hint='E.g. {"column": 1.5}, in one line.'))


def _unusable(message: str, code: str) -> InvalidRequestError:
    return InvalidRequestError(message, code=code, hint=f"{_HEADER} Or send {FORMS['tabular'].bodies}.")
