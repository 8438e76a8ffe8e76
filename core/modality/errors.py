"""Errors of the data: one bad item, a refused upload, a damaged blob."""

from core.contract.errors import GraftError, JobError


class UnreadableItemError(GraftError):
    """One item cannot be used; the others are unharmed.

    Codes: `unreadable_image`, `image_too_large`, `unsupported_format`, `empty_file`, `damaged_entry`.
    """

    type = "invalid_request"
    code = "unreadable_image"


class ArchiveError(JobError):
    """The upload as a whole is refused.

    Codes: `not_an_archive`, `unreadable_archive`, `archive_bomb`, `too_many_entries`, `archive_too_large`.
    """

    code = "unreadable_archive"


class CorruptContentError(JobError):
    """A stored blob no longer holds what its manifest says."""

    code = "corrupt_blob"


class StoppedError(Exception):
    """Whoever started the work does not want it any more."""
