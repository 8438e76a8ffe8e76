"""The faults that ingestion can find, each with its severity, its sentence and its remedy."""

from collections import Counter

from core.contract.datasets import Fault
from core.modality.kinds import LEFT_OUT, Kind
from core.modality.table_faults import TABLE_KINDS

KINDS: dict[str, Kind] = {
    # Items that cannot be used
    "unreadable_image": Kind(
        "warning",
        f"Images are damaged or cut off. {LEFT_OUT}",
        "Open them in a viewer and save them again, or leave them out.",
    ),
    "image_too_large": Kind(
        "warning",
        f"Images have more pixels than the limit. {LEFT_OUT}",
        "Scale them down, or raise GRAFT_MAX_PIXELS.",
    ),
    "unsupported_format": Kind(
        "warning",
        f"Files are named like images, but are in no format that is read. {LEFT_OUT}",
        "Convert them to JPEG or PNG (GIF, BMP, WebP, TIFF and PPM are read too).",
    ),
    "empty_file": Kind("warning", f"Image files have no bytes. {LEFT_OUT}", "Copy them again."),
    "damaged_entry": Kind(
        "warning",
        f"Entries of the archive do not hold what the archive says. {LEFT_OUT}",
        "Make the archive again from the original files.",
    ),
    "item_too_large": Kind(
        "warning",
        f"Files are larger than the limit for one item. {LEFT_OUT}",
        "Scale the images down, or raise GRAFT_MAX_ITEM_BYTES.",
    ),
    # Entries that are no items
    "not_an_image": Kind(
        "warning",
        f"Files are not images. {LEFT_OUT}",
        "Nothing to do if that is meant; otherwise convert them to JPEG or PNG.",
    ),
    "ignored_file": Kind(
        "info", "Hidden files and files that operating systems leave behind are ignored.", "Nothing to do."
    ),
    "unsafe_path": Kind(
        "warning",
        f"Entries have paths that could point out of a folder or hide something. {LEFT_OUT}",
        "Use plain relative paths with forward slashes, without `..`, drive letters or control characters.",
    ),
    "link": Kind("warning", f"Entries are links. {LEFT_OUT}", "Put the files themselves into the archive."),
    "special_file": Kind(
        "warning",
        f"Entries are devices, pipes or sparse files. {LEFT_OUT}",
        "Put plain files only into the archive.",
    ),
    "encrypted_entry": Kind(
        "warning", f"Entries are protected by a password. {LEFT_OUT}", "Make the archive without a password."
    ),
    "unsupported_compression": Kind(
        "warning",
        f"Entries are compressed by a method that is not read. {LEFT_OUT}",
        "Make the zip with DEFLATE (the usual method) or without compression.",
    ),
    "duplicate_name": Kind(
        "warning",
        "Paths stand in the archive more than once. The last of each is taken.",
        "Give every file its own path.",
    ),
    # Folders
    "image_outside_class": Kind(
        "warning",
        f"Images lie beside class folders (or beside split folders), not in one. {LEFT_OUT}",
        "Put every image into the folder of its class.",
    ),
    "nested_folders": Kind(
        "warning",
        "Images lie in folders below a folder that holds images itself. They count to that upper folder's class.",
        "If the lower folders are classes of their own, move the images beside them into a folder too.",
    ),
    "class_names_merged": Kind(
        "warning",
        "Class folders in different splits are spelt alike but for upper and lower case. Each is taken as one class.",
        "Spell a class the same in every split.",
    ),
    "similar_class_names": Kind(
        "warning",
        "Class folders side by side differ only in upper and lower case. They are kept as different classes.",
        "If they are the same class, put their images into one folder.",
    ),
    "empty_class": Kind(
        "warning",
        "Class folders hold no usable image. These classes are left out.",
        "Add images, or remove the folder.",
    ),
    "class_too_small": Kind(
        "warning",
        "Classes have fewer than three items, so they cannot be in all of train, validation and test.",
        "Add items; ten of each class are a good start.",
    ),
    "class_without_training": Kind(
        "warning",
        "Classes have no item in the training split, so that they cannot be learned.",
        "Put some of their items into `train`.",
    ),
    "single_class": Kind(
        "warning",
        "There is only one class, so there is nothing to tell apart.",
        "Add items that are not of this class.",
    ),
    "imbalance": Kind(
        "info",
        "The largest class has more than five times as many items as the smallest.",
        "Look at macro-F1 rather than accuracy, or weigh the classes.",
    ),
    "unlabelled": Kind(
        "info",
        "The data set has no labels.",
        "To label images, sort them into one folder per class: `cats/1.jpg`, `dogs/1.jpg`. To label rows, name the "
        "target column with `target=`.",
    ),
    "unlabelled_item": Kind(
        "info",
        "Items have no label, while others have one. They stand in the training split and are not learned from.",
        "Nothing to do for the `target` of a job, which adapts to all items; otherwise label them, or leave them out.",
    ),
    "given_splits_ignored": Kind(
        "info",
        "The splits that were brought give nothing to learn from, or nothing to measure on. Splits were made here "
        "instead.",
        "Bring `train` and `test` (and `val`, if you like) to use your own splits.",
    ),
    "empty_split": Kind(
        "warning",
        "Splits have no item.",
        "Add items: with three or more of each class every split gets some.",
    ),
    # Copies
    "duplicate_in_split": Kind(
        "warning",
        "Items are exact copies of another one in the same split. They are kept.",
        "Remove the copies: they count double.",
    ),
    "duplicate_across_splits": Kind(
        "warning",
        "Items are exact copies of one in a held-out split. They are left out of the split that is learned from "
        "(test before validation before train), or the figures would flatter.",
        "Remove the copies.",
    ),
    "conflicting_labels": Kind(
        "warning",
        "The same item has different labels. All its copies are left out.",
        "Keep it with the right label only.",
    ),
    **TABLE_KINDS,
}


class FaultBook:
    """Collects faults: counts all, keeps the first ten examples of each kind."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}

    def add(self, code: str, example: str) -> None:
        """Note one more of a kind; an unknown code is a `KeyError`."""
        KINDS[code]
        self._counts[code] += 1
        examples = self._examples.setdefault(code, [])
        if len(examples) < 10:
            examples.append(example.replace("\0", "\\0"))  # PostgreSQL keeps no NUL in texts

    def count(self, code: str, times: int) -> None:
        """Note so many more of a kind that was added before, without examples."""
        self._counts[code] += times

    def take(self, other: "FaultBook") -> None:
        """Note what another book holds."""
        for code, examples in other._examples.items():
            for example in examples:
                self.add(code, example)
            self.count(code, other._counts[code] - len(examples))

    def faults(self) -> list[Fault]:
        """All kinds found: warnings first, in the order of `KINDS`."""
        found = [
            Fault(
                code=code,
                severity=kind.severity,
                count=self._counts[code],
                message=kind.message,
                remedy=kind.remedy,
                examples=self._examples[code],
            )
            for code, kind in KINDS.items()
            if code in self._counts
        ]
        return sorted(found, key=lambda fault: fault.severity == "info")
