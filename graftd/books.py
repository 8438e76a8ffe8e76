"""The database as the commands on the server use it: brought to the newest schema, then read or written."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from core.loopback import listens_on_loopback
from core.settings import Settings
from core.store import keys
from core.store.database import Database
from graftd import probes
from graftd.problems import ProblemError


@contextmanager
def writing(settings: Settings) -> Iterator[Connection]:
    """A transaction on the database, which need not have been used before; `ProblemError` if it cannot be used."""
    probes.migrate(settings)
    db = Database(settings.resolved_database_url)
    try:
        with db.write() as tx:
            yield tx
    except SQLAlchemyError as error:
        raise _unusable(db, error) from error
    finally:
        db.close()


def require_key(settings: Settings) -> None:
    """`ProblemError` if the service is to listen beyond this machine and nobody has an access key."""
    if listens_on_loopback(settings.host):
        return
    db = Database(settings.resolved_database_url)
    try:
        with db.read() as tx:
            if keys.any_active(tx):
                return
    except SQLAlchemyError as error:
        raise _unusable(db, error) from error
    finally:
        db.close()
    raise ProblemError(
        f"{settings.host} is not a loopback address, and there is no access key: everybody would be locked out.",
        "Make a key first: graftd keys create --name admin --scope admin   (or listen on --host 127.0.0.1)",
    )


def _unusable(db: Database, error: SQLAlchemyError) -> ProblemError:
    reason = str(getattr(error, "orig", error)).strip().splitlines()[0]
    where = db.url.render_as_string(hide_password=True)
    return ProblemError(
        f"The database {where} cannot be used: {reason}.",
        "Start it or mend GRAFT_DATABASE_URL; if it is new, run `graftd migrate` first.",
    )
