"""Bring a database to the newest schema."""

from pathlib import Path

from alembic import command
from alembic.config import Config

from core.store.database import Database


def config() -> Config:
    """Alembic's configuration, without an ini file."""
    value = Config()
    value.set_main_option("script_location", str(Path(__file__).parent))
    value.set_main_option("path_separator", "os")
    return value


def upgrade(db: Database, revision: str = "head") -> None:
    """Run every migration that is missing; safe to call at each start, also by several processes at once."""
    settings = config()
    with db.write(blobs=True) as connection:  # the advisory lock makes concurrent starts take turns
        settings.attributes["connection"] = connection
        command.upgrade(settings, revision)
