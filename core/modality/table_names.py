"""What the items of a table are called: by a column that names a file or is an `id`, else by their place."""

from collections import Counter
from collections.abc import Sequence

from core.modality.table_columns import Understood
from core.modality.table_frame import word

NAMES = ("file_name", "filename", "file", "image", "path", "id")
"""Columns that may name items, in any case of letters, the surest first."""
_LONGEST = 256


def item_names(rows: Sequence[str], features: Sequence[Understood]) -> list[str]:
    """Names of all rows, which are called `row 17` and so on where no column does better.

    A column does that is an identifier; a row keeps its place where its cell is empty, there twice, too long or cannot
    be printed.
    """
    known = {one.column.name.lower(): one for one in reversed(features) if one.kind == "identifier"}
    found = next((known[name] for name in NAMES if name in known), None)
    if found is None:
        return list(rows)
    said = ["" if value is None else word(value).strip() for value in found.values.to_list()]
    times = Counter([*said, *rows])
    return [name if times[name] == 1 and _usable(name) else row for name, row in zip(said, rows, strict=True)]


def _usable(name: str) -> bool:
    return 0 < len(name) <= _LONGEST and name.isprintable()
