"""The faults that ingestion can find, each with its severity, its sentence and its remedy."""

from collections import Counter
from typing import Literal, NamedTuple

from core.contract.datasets import Fault

Severity = Literal["error", "warning", "info"]


class _Kind(NamedTuple):
    severity: Severity
    message: str
    remedy: str


_LEFT_OUT = "They are left out."
KINDS: dict[str, _Kind] = {
    # Items that cannot be used
    "unreadable_image": _Kind(
        "warning",
        f"Images are damaged or cut off. {_LEFT_OUT}",
        "Open them in a viewer and save them again, or leave them out.",
    ),
    "image_too_large": _Kind(
        "warning",
        f"Images have more pixels than the limit. {_LEFT_OUT}",
        "Scale them down, or raise GRAFT_MAX_PIXELS.",
    ),
    "unsupported_format": _Kind(
        "warning",
        f"Files are named like images, but are in no format that is read. {_LEFT_OUT}",
        "Convert them to JPEG or PNG (GIF, BMP, WebP, TIFF and PPM are read too).",
    ),
    "empty_file": _Kind("warning", f"Image files have no bytes. {_LEFT_OUT}", "Copy them again."),
    "damaged_entry": _Kind(
        "warning",
        f"Entries of the archive do not hold what the archive says. {_LEFT_OUT}",
        "Make the archive again from the original files.",
    ),
    "item_too_large": _Kind(
        "warning",
        f"Files are larger than the limit for one item. {_LEFT_OUT}",
        "Scale the images down, or raise GRAFT_MAX_ITEM_BYTES.",
    ),
    # Entries that are no items
    "not_an_image": _Kind(
        "warning",
        f"Files are not images. {_LEFT_OUT}",
        "Nothing to do if that is meant; otherwise convert them to JPEG or PNG.",
    ),
    "ignored_file": _Kind(
        "info", "Hidden files and files that operating systems leave behind are ignored.", "Nothing to do."
    ),
    "unsafe_path": _Kind(
        "warning",
        f"Entries have paths that could point out of a folder or hide something. {_LEFT_OUT}",
        "Use plain relative paths with forward slashes, without `..`, drive letters or control characters.",
    ),
    "link": _Kind("warning", f"Entries are links. {_LEFT_OUT}", "Put the files themselves into the archive."),
    "special_file": _Kind(
        "warning",
        f"Entries are devices, pipes or sparse files. {_LEFT_OUT}",
        "Put plain files only into the archive.",
    ),
    "encrypted_entry": _Kind(
        "warning", f"Entries are protected by a password. {_LEFT_OUT}", "Make the archive without a password."
    ),
    "unsupported_compression": _Kind(
        "warning",
        f"Entries are compressed by a method that is not read. {_LEFT_OUT}",
        "Make the zip with DEFLATE (the usual method) or without compression.",
    ),
    "duplicate_name": _Kind(
        "warning",
        "Paths stand in the archive more than once. The last of each is taken.",
        "Give every file its own path.",
    ),
    # Folders
    "image_outside_class": _Kind(
        "warning",
        f"Images lie beside class folders (or beside split folders), not in one. {_LEFT_OUT}",
        "Put every image into the folder of its class.",
    ),
    "nested_folders": _Kind(
        "warning",
        "Images lie in folders below a folder that holds images itself. They count to that upper folder's class.",
        "If the lower folders are classes of their own, move the images beside them into a folder too.",
    ),
    "class_names_merged": _Kind(
        "warning",
        "Class folders in different splits are spelt alike but for upper and lower case. Each is taken as one class.",
        "Spell a class the same in every split.",
    ),
    "similar_class_names": _Kind(
        "warning",
        "Class folders side by side differ only in upper and lower case. They are kept as different classes.",
        "If they are the same class, put their images into one folder.",
    ),
    "empty_class": _Kind(
        "warning",
        "Class folders hold no usable image. These classes are left out.",
        "Add images, or remove the folder.",
    ),
    "class_too_small": _Kind(
        "warning",
        "Classes have fewer than three images, so they cannot be in all of train, validation and test.",
        "Add images; ten of each class are a good start.",
    ),
    "class_without_training": _Kind(
        "warning",
        "Classes have no image in the training split, so that they cannot be learned.",
        "Put some of their images into `train`.",
    ),
    "single_class": _Kind(
        "warning",
        "There is only one class, so there is nothing to tell apart.",
        "Add a folder with images that are not of this class.",
    ),
    "imbalance": _Kind(
        "info",
        "The largest class has more than five times as many images as the smallest.",
        "Look at macro-F1 rather than accuracy, or weigh the classes.",
    ),
    "unlabelled": _Kind(
        "info",
        "All images lie in one folder, so the data set has no labels.",
        "To label them, sort them into one folder per class: `cats/1.jpg`, `dogs/1.jpg`.",
    ),
    "given_splits_ignored": _Kind(
        "info",
        "The split folders give nothing to learn from, or nothing to measure on. Splits were made here instead.",
        "Bring `train` and `test` folders (and `val`, if you like) to use your own splits.",
    ),
    "empty_split": _Kind(
        "warning",
        "Splits have no image.",
        "Add images: with three or more of each class every split gets some.",
    ),
    # Copies
    "duplicate_in_split": _Kind(
        "warning",
        "Images are exact copies of another one in the same split. They are kept.",
        "Remove the copies: they count double.",
    ),
    "duplicate_across_splits": _Kind(
        "warning",
        "Images are exact copies of one in a held-out split. They are left out of the split that is learned from "
        "(test before validation before train), or the figures would flatter.",
        "Remove the copies.",
    ),
    "conflicting_labels": _Kind(
        "warning",
        "The same image stands in more than one class. All its copies are left out.",
        "Keep it in the right class only.",
    ),
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
            examples.append(example)

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
