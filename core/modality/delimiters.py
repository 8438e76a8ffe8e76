"""What stands between the cells of a table."""

import csv
from collections.abc import Sequence

_DELIMITERS = ",\t;|"
_NO_DELIMITER = "\x1f"


def find_delimiter(sample: Sequence[str]) -> str:
    """The delimiter that cuts the most of the first lines into as many cells as the header; none if there is none."""
    best, found = (0, 0), _NO_DELIMITER
    for delimiter in _DELIMITERS:
        try:
            widths = [len(cells) for cells in csv.reader(sample, delimiter=delimiter) if cells]
        except csv.Error:
            continue
        if not widths or widths[0] < 2:
            continue
        fitting = widths.count(widths[0])
        if fitting * 2 >= len(widths) and (fitting, widths[0]) > best:
            best, found = (fitting, widths[0]), delimiter
    return found
