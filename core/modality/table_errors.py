"""Why a table as a whole is refused."""

from collections.abc import Sequence
from difflib import get_close_matches

from core.contract.errors import JobError
from core.settings import Settings


class TableError(JobError):
    """The table as a whole is refused.

    Codes: `unreadable_table`, `empty_table`, `table_too_large`, `too_many_rows`, `too_many_columns`, `several_tables`,
    `unknown_column`, `wrong_reading`, `no_features`, `mostly_unreadable`, `too_many_classes`.
    """

    code = "unreadable_table"


def unreadable(
    why: str, hint: str = "Check that it opens on your machine, write it again and upload it."
) -> TableError:
    """A table that is damaged or cut off."""
    return TableError(f"The table cannot be read: {why}.", hint=hint)


def empty(why: str) -> TableError:
    """A table without a row."""
    return TableError(
        f"The table is empty: {why}.", code="empty_table", hint="Upload a table with a line of names and some rows."
    )


def too_large(what: str, limits: Settings) -> TableError:
    """More than fits into memory."""
    return TableError(
        f"{what} takes more than {limits.max_table_bytes / 1e9:,.1f} GB.",
        code="table_too_large",
        hint="Leave rows or columns out, or raise GRAFT_MAX_TABLE_BYTES.",
        details={"limit": limits.max_table_bytes},
    )


def check_rows(rows: int, limits: Settings) -> None:
    """`too_many_rows` above the limit."""
    if rows > limits.max_rows:
        raise TableError(
            f"The table has more than {limits.max_rows:,} rows.",
            code="too_many_rows",
            hint="Upload a sample of them, or raise GRAFT_MAX_ROWS.",
            details={"limit": limits.max_rows},
        )


def check_columns(columns: int, limits: Settings) -> None:
    """`too_many_columns` above the limit."""
    if columns > limits.max_columns:
        raise TableError(
            f"The table has more than {limits.max_columns:,} columns.",
            code="too_many_columns",
            hint="Leave columns out, or raise GRAFT_MAX_COLUMNS.",
            details={"limit": limits.max_columns},
        )


def unknown_column(field: str, name: str, columns: Sequence[str]) -> TableError:
    """A column that was named in the upload's reading and is not there."""
    near = get_close_matches(name, columns, 1)
    listed = ", ".join(columns[:20])
    return TableError(
        f"`{field}` names the column {name!r}, which the table does not have.",
        code="unknown_column",
        hint=f"Did you mean {near[0]!r}?" if near else f"It has: {listed}.",
        details={"field": field, "column": name},
    )


def wrong_reading(message: str, hint: str) -> TableError:
    """The upload cannot be read as it was asked to be."""
    return TableError(message, code="wrong_reading", hint=hint)


def mostly_unreadable(bad: int, rows: int) -> TableError:
    """Most rows cannot be used."""
    return TableError(
        f"{bad:,} of {rows:,} rows cannot be used.",
        code="mostly_unreadable",
        hint="The report says which and why. Something went wrong where the table was written.",
        details={"rows": rows, "unusable": bad},
    )
