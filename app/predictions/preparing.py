"""From items as they came to a network's inputs; one bad item fails alone."""

from collections.abc import Callable, Iterable
from concurrent.futures import Executor

from app.predictions.items import Prepared, RawItem
from app.predictions.row_checks import RowChecks
from core.contract.datasets import Modality
from core.contract.models import ItemError
from core.modality.errors import UnreadableItemError
from core.modality.preparers import Preparer, decode
from core.modality.tabular import TabularPreparer


class Preparing:
    """Prepares items of one model."""

    def __init__(self, preparer: Preparer, modality: Modality, *, max_pixels: int, target: str | None) -> None:
        self.preparer = preparer
        self.modality = modality
        self.max_pixels = max_pixels
        self.checks = RowChecks(preparer, target) if isinstance(preparer, TabularPreparer) else None

    def __call__(self, items: list[RawItem], pool: Executor) -> list[Prepared]:
        """All of them, in their order; files are decoded in the pool's threads."""
        if self.checks is not None:
            return self.checks(items)
        each: Callable[[Callable[[RawItem], Prepared], list[RawItem]], Iterable[Prepared]] = map
        if self.modality == "image" and len(items) > 1:
            each = pool.map
        return list(each(self._one, items))

    def _one(self, item: RawItem) -> Prepared:
        if item.error is not None:
            return Prepared(error=item.error)
        if not item.data:
            return Prepared(error=_empty(self.modality))
        try:
            found = item.data
            if isinstance(found, bytes):
                found = decode(self.modality, found, max_pixels=self.max_pixels)
            if isinstance(found, str) and not found.strip():
                return Prepared(error=_empty(self.modality))
            return Prepared(self.preparer(found))
        except UnreadableItemError as error:
            return Prepared(error=ItemError(code=error.code, message=error.message, hint=error.hint))


def _empty(modality: Modality) -> ItemError:
    if modality == "image":
        return ItemError(code="empty_file", message="The image is empty.", hint="Send the image file's bytes.")
    return ItemError(code="empty_text", message="The text is empty.", hint="Send a text with something in it.")
