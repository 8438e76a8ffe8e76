"""Printing: tables that fit the terminal, JSON for programs, notes on stderr."""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import repeat
from typing import Any, TextIO

from pydantic import BaseModel
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_NARROW = 80  # below this many columns a table becomes a list of records
_CONTROL = dict.fromkeys([*range(9), *range(11, 32), 127, *range(128, 160)], "\N{REPLACEMENT CHARACTER}")


def stdout() -> Console:
    """Where results go."""
    return _console(sys.stdout)


def stderr() -> Console:
    """Where progress, notes and errors go."""
    return _console(sys.stderr)


def _console(file: TextIO) -> Console:
    # What is piped somewhere must not be cut to 80 columns.
    width = None if file.isatty() or "COLUMNS" in os.environ else 1000
    return Console(file=file, width=width, markup=False, highlight=False, emoji=False)


def note(text: str, style: str = "") -> None:
    """Say something on stderr."""
    stderr().print(clean(text), style=style, soft_wrap=True)


def say(text: str = "", style: str = "") -> None:
    """Say something on stdout."""
    stdout().print(clean(text), style=style, soft_wrap=True)


def plain(value: Any) -> Any:
    """Models (and containers of them) as what JSON can hold."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def document(value: Any) -> None:
    """Print one JSON document."""
    _write(json.dumps(plain(value), indent=2, ensure_ascii=False, default=str))


def line(value: Any) -> None:
    """Print one line of JSON Lines."""
    _write(json.dumps(plain(value), ensure_ascii=False, default=str))


def _write(text: str) -> None:
    sys.stdout.write(text.encode("utf-8", "replace").decode() + "\n")
    sys.stdout.flush()


def table(
    headings: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    empty: str = "Nothing here yet.",
    styles: Sequence[str] = (),
    on_stderr: bool = False,
) -> None:
    """Print rows as a table, or as one record after the other where it would not fit.

    The first column is never cut; `styles` colour whole rows; `empty` is said on stderr instead of an empty table.
    """
    console = stderr() if on_stderr else stdout()
    texts = [[cell(value) for value in row] for row in rows]
    if not texts:
        note(empty)
    elif console.width < max(_NARROW, _least_width(headings, texts)):
        for row in texts:
            pairs(list(zip(headings, row, strict=True)), console)
            console.print()
    else:
        console.print(_table(headings, texts, styles))


def _least_width(headings: Sequence[str], texts: Sequence[Sequence[str]]) -> int:
    """Columns that a table needs so that its first column is whole and every other one can be read."""
    return max(len(row[0]) for row in texts) + sum(max(len(heading), 8) + 2 for heading in headings[1:])


def _table(headings: Sequence[str], texts: Sequence[Sequence[str]], styles: Sequence[str]) -> Table:
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for index, heading in enumerate(headings):
        right = index > 0 and all(_is_number(row[index]) for row in texts)
        made.add_column(heading, no_wrap=index == 0, overflow="fold", justify="right" if right else "left")
    for row, style in zip(texts, styles or repeat(None), strict=False):
        made.add_row(*map(Text, row), style=style)
    return made


def pairs(fields: Sequence[tuple[str, object]], console: Console | None = None) -> None:
    """Print names and values below each other; empty values are left out."""
    given = [(name, cell(value)) for name, value in fields if cell(value)]
    width = max((len(name) for name, _ in given), default=0)
    for name, value in given:
        (console or stdout()).print(Text.assemble((f"{name:<{width}}  ", "bold"), value), soft_wrap=True)


def cell(value: object) -> str:
    """A value as short text."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, float):
        return f"{value:.4g}" if value else "0"
    return clean(str(value))


def clean(text: str) -> str:
    """Text without control characters, which a terminal would obey."""
    return text.translate(_CONTROL)


def size(count: int) -> str:
    """Bytes for people."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def seconds(value: float | None) -> str:
    """A duration for people."""
    if value is None:
        return ""
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def _is_number(text: str) -> bool:
    try:
        float(text or "0")
    except ValueError:
        return False
    return True
