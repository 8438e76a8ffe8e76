"""Bring a database to the newest schema."""

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

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


def behind(tx: Connection) -> str | None:
    """What separates the database's schema from the one this code was written for, in words; None if nothing does."""
    have, known = MigrationContext.configure(tx).get_current_heads(), _revisions()
    if have == known[:1]:
        return None
    if not have:
        return "the database has no tables yet"
    if not set(have) <= set(known):
        return f"the database has schema {', '.join(have)}, which is newer than this program"
    return f"the database has schema {', '.join(have)}, this program needs {known[0]}"


@cache
def _revisions() -> tuple[str, ...]:
    """All revisions, newest first."""
    return tuple(script.revision for script in ScriptDirectory.from_config(config()).walk_revisions())
