"""The faults that tables can have, beside those that any upload can have."""

from core.modality.kinds import LEFT_OUT, Kind

TABLE_KINDS: dict[str, Kind] = {
    # The file
    "not_utf8": Kind(
        "warning",
        "The table is not UTF-8. It was read as Windows-1252 (Latin-1).",
        "Look at letters with accents; if they are wrong, save the table as UTF-8.",
    ),
    "damaged_text": Kind(
        "warning",
        "The table has bytes that its encoding does not know. They were replaced by \N{REPLACEMENT CHARACTER}.",
        "Save the table as UTF-8.",
    ),
    "not_a_table": Kind(
        "info", f"Files beside the tables are no tables. {LEFT_OUT}", "Nothing to do if that is meant."
    ),
    "no_header": Kind(
        "warning",
        "The first line holds numbers, not names. It was taken as a row; columns are called by their number.",
        "Add a first line with the columns' names.",
    ),
    "unnamed_column": Kind("info", "Columns have no name. They are called by their number.", "Name them."),
    "duplicate_column": Kind(
        "warning",
        "Column names stand in the header more than once. The later ones have a number added.",
        "Give every column its own name.",
    ),
    "columns_differ": Kind(
        "warning",
        "Columns stand in some of the tables only. Rows of the others have no value there.",
        "Bring tables with the same columns.",
    ),
    "quotes_as_text": Kind(
        "info", "Quotation marks do not quote cells here. They were taken as plain characters.", "Nothing to do."
    ),
    # Rows that cannot be used
    "ragged_row": Kind(
        "warning",
        f"Rows have more or fewer cells than the header. {LEFT_OUT}",
        "Put cells that hold the delimiter or line breaks into quotation marks.",
    ),
    "bad_quotes": Kind(
        "warning",
        f"Rows have quotation marks that are not closed or stand inside a cell. {LEFT_OUT}",
        'Double a quotation mark inside a quoted cell, as in "5"" disk", and close every quoted cell.',
    ),
    "bad_json": Kind(
        "warning",
        f"Lines are no JSON objects. {LEFT_OUT}",
        "Write one object a line, e.g. with pandas: to_json(path, orient='records', lines=True).",
    ),
    "nul_character": Kind("warning", f"Rows hold a NUL character. {LEFT_OUT}", "Remove it."),
    "row_too_large": Kind(
        "warning",
        f"Rows or texts are larger than the limit for one item. {LEFT_OUT}",
        "Shorten them, or raise GRAFT_MAX_ITEM_BYTES.",
    ),
    "empty_row": Kind("warning", f"Rows have no value in any column that is learnt from. {LEFT_OUT}", "Remove them."),
    "empty_text": Kind("warning", f"Rows have no text. {LEFT_OUT}", "Remove them, or fill them in."),
    "missing_target": Kind(
        "warning",
        f"Rows have no value in the target column. {LEFT_OUT}",
        "Fill them in; or upload rows without labels as a data set of their own.",
    ),
    "target_not_a_number": Kind(
        "warning",
        f"Rows have a target that is no finite number. {LEFT_OUT}",
        "Correct them; or upload again with `problem=classification` if these are names.",
    ),
    "target_not_binary": Kind(
        "warning",
        f"Rows have something else than 0 and 1 in a target column. {LEFT_OUT}",
        "Write 1 where the label holds and 0 where it does not.",
    ),
    "unprintable_label": Kind(
        "warning",
        f"Rows have a label with control characters, or one longer than 256 characters. {LEFT_OUT}",
        "Correct them.",
    ),
    "unknown_split": Kind(
        "warning",
        f"Rows have something else than `train`, `validation` or `test` in the split column. {LEFT_OUT}",
        "Correct them, or leave the column out: then splits are made here.",
    ),
    # Values and columns
    "mixed_types": Kind(
        "warning",
        "Columns mix numbers with a few words (which count as missing), or values of several types (taken as words).",
        "Write numbers only, and leave a cell empty where there is none.",
    ),
    "not_finite": Kind("warning", "Columns hold infinite numbers. They count as missing.", "Replace them."),
    "ambiguous_dates": Kind(
        "warning",
        "Dates can be read with the day or the month first. They were read with the month first.",
        "Write dates as 2024-12-31.",
    ),
    "nested_column": Kind(
        "warning",
        f"Columns hold objects, lists or bytes. {LEFT_OUT}",
        "Give each value a column of its own.",
    ),
    "empty_column": Kind("info", f"Columns have no value at all. {LEFT_OUT}", "Nothing to do."),
    "unused_column": Kind(
        "info",
        "Columns stand beside the text. Only the text is learnt from.",
        "To learn from the other columns instead, upload with `modality=tabular`.",
    ),
    # How the table was understood
    "target_guessed": Kind(
        "info",
        "No column is called like a target, so the last one was taken.",
        "Name the column with `target=`; `target=none` if the table has no target.",
    ),
    "numbers_as_classes": Kind(
        "info",
        "The target's few numbers were taken as classes.",
        "Upload with `problem=regression` if they are quantities.",
    ),
    "metadata_unused": Kind(
        "info",
        "A table lies beside the images, but has no column `file_name` and target that were understood. It was not "
        "used.",
        "Name its columns `file_name` and `label`, `labels` or `value`; or name the target with `target=`.",
    ),
    "image_not_named": Kind(
        "warning", f"The table does not name these images. {LEFT_OUT}", "Add a row for each, or remove them."
    ),
    "missing_image": Kind(
        "warning",
        f"Rows of the table name files that are not there, or no images. {LEFT_OUT}",
        "Write each path as it stands in the archive, from the table's folder on.",
    ),
    "file_named_twice": Kind(
        "warning", "Rows of the table name the same image. The first of each is taken.", "Keep one row for each image."
    ),
    # Copies
    "differing_values": Kind(
        "info",
        "The same item has several values. All are kept, in the same split.",
        "Nothing to do if these are measurements.",
    ),
    "rows_repeat": Kind(
        "info",
        "More than a tenth of the rows are equal to others. That is usual for few and coarse columns: all are kept.",
        "Remove true copies before the upload.",
    ),
    "single_value": Kind(
        "warning", "All target values are the same, so there is nothing to learn.", "Bring other values, too."
    ),
}
