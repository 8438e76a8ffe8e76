"""The store as one object: the database and the blobs."""

from dataclasses import dataclass
from pathlib import Path

from core.settings import Settings
from core.store.blobs import BlobFolder
from core.store.database import Database


@dataclass(frozen=True)
class Store:
    """What a process opens once and hands around."""

    db: Database
    blobs: BlobFolder
    key_seconds: float = 24 * 3600.0
    """How long an idempotency key is remembered."""

    @classmethod
    def open(cls, settings: Settings) -> "Store":
        """Open the store that the settings name; the tables are `migrate`'s business."""
        blobs = BlobFolder(settings.root / "blobs")
        return cls(Database(settings.resolved_database_url), blobs, settings.idempotency_seconds)

    def blob(self, sha256: str) -> Path:
        """Path of a blob."""
        return self.blobs.path(sha256)

    def close(self) -> None:
        """Close the database."""
        self.db.close()
