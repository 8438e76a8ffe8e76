"""Tables of cells between delimiters (RFC 4180, and what is found in the wild).

Read row by row, so that each fault has a row.
"""

import csv
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from core.modality.delimiters import find_delimiter
from core.modality.faults import FaultBook
from core.modality.table_errors import empty, mostly_unreadable
from core.modality.table_frame import PIECE, Gathering, Table, unique_names
from core.settings import Settings

if TYPE_CHECKING:
    from _csv import Reader as _Reader

Quoting = Literal[0, 3]
"""`csv.QUOTE_MINIMAL` or `csv.QUOTE_NONE`."""
_LOOKED_AT = 50
Lines = Callable[[], Iterator[str]]
"""Opens the text anew."""


def read_csv(lines: Lines, limits: Settings, book: FaultBook) -> Table:
    """Read it; where quotation marks give trouble and plain characters do not, they are plain characters.

    Raises `TableError`: `empty_table`, `too_many_rows`, `too_many_columns`, `table_too_large`, `mostly_unreadable`.
    """
    csv.field_size_limit(limits.max_item_bytes)
    sample = list(itertools.islice(lines(), _LOOKED_AT))
    delimiter = find_delimiter(sample)
    reading = _Reading(limits, delimiter, csv.QUOTE_MINIMAL)
    reading.run(lines())
    if reading.faults["bad_quotes"]:
        plain = _Reading(limits, delimiter, csv.QUOTE_NONE)
        plain.run(lines())
        if not plain.faults:
            reading = plain
            book.add("quotes_as_text", f"{reading.number} rows")
    table = reading.finish(book)
    table.decimal_comma = delimiter != ","
    return table


class _Reading:
    """One pass over the text."""

    def __init__(self, limits: Settings, delimiter: str, quoting: Quoting) -> None:
        self.limits = limits
        self.delimiter = delimiter
        self.quoting = quoting
        self.gathering = Gathering(limits)
        self.faults: Counter[str] = Counter()
        self.names_book = FaultBook()
        self.number = 0
        self._examples: list[tuple[str, str]] = []
        self._lost = 0

    def run(self, lines: Iterator[str]) -> None:
        reader = csv.reader(lines, delimiter=self.delimiter, strict=True, quoting=self.quoting)
        rows = self._rows(reader)
        header = next(rows, None)
        if header is None:
            raise empty("it has no line")
        if _is_data(header):
            self.names_book.add("no_header", ", ".join(header[:5]))
            rows = itertools.chain([header], rows)
            header = [f"column_{number}" for number in range(1, len(header) + 1)]
        names = unique_names(header, self.names_book)
        piece: list[list[str]] = []
        numbers: list[int] = []
        for cells in rows:
            self.number += 1
            if len(cells) != len(names) and not self._fits(cells, len(names)):
                continue
            piece.append(cells)
            numbers.append(self.number)
            if len(piece) == PIECE:
                self._take(names, piece, numbers)
                piece, numbers = [], []
        self._take(names, piece, numbers)

    def _take(self, names: list[str], piece: list[list[str]], numbers: list[int]) -> None:
        columns = zip(*piece, strict=True) if piece else ([] for _ in names)
        self.gathering.add({name: list(cells) for name, cells in zip(names, columns, strict=True)}, numbers)

    def _rows(self, reader: "_Reader") -> Iterator[list[str]]:
        """Rows that are not blank; one that the parser refuses is a fault, and reading goes on in the next line."""
        before = 0
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                self.number += 1
                self._lost += max(reader.line_num - before, 1)
                code = "row_too_large" if "limit" in str(error) else "bad_quotes"
                self._fault(code, f"row {self.number} (line {before + 1}): {error}")
                continue
            finally:
                before = reader.line_num
            if cells:
                yield cells

    def _fits(self, cells: list[str], width: int) -> bool:
        """Empty cells too many are cut off; any other wrong number is a fault."""
        if len(cells) > width and not any(cells[width:]):
            del cells[width:]
            return True
        self._lost += 1
        self._fault("ragged_row", f"row {self.number}: {len(cells)} cells, not {width}")
        return False

    def _fault(self, code: str, example: str) -> None:
        self.faults[code] += 1
        if self.faults[code] <= 10:
            self._examples.append((code, example))

    def finish(self, book: FaultBook) -> Table:
        """The table, once it is known that this reading is the one; notes its faults."""
        book.take(self.names_book)
        for code, example in self._examples:
            book.add(code, example)
        for code, count in self.faults.items():
            book.count(code, count - min(count, 10))
        rows = self.gathering.length
        if rows == 0 and not self._lost:
            raise empty("it has a header but no row")
        if self._lost > rows:
            raise mostly_unreadable(self._lost, self._lost + rows)
        return self.gathering.table()


def _is_data(header: Sequence[str]) -> bool:
    """Whether a first line is a row: a name is hardly ever a number, but for columns that are counted."""
    numbers = [cell for cell in header if _is_number(cell)]
    if any(not cell.strip().isdigit() for cell in numbers):
        return True
    counted = [int(cell) for cell in numbers]
    rising = all(after == before + 1 for before, after in itertools.pairwise(counted))
    return len(numbers) == len(header) and not (rising and counted[0] in (0, 1))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return cell.strip().lower() not in ("nan", "inf", "infinity")
