"""Engine and transactions, the same on SQLite (WAL) and PostgreSQL."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, func, literal, text
from sqlalchemy.engine import make_url
from sqlalchemy.sql import ColumnElement

from core.contract.errors import UnavailableError

_BLOB_LOCK = 0x67726166  # key of the PostgreSQL advisory lock that serialises blob adoption and removal
_IDLE_SECONDS = 30


class Database:
    """Opens read and write transactions.

    SQLite: a write transaction is `BEGIN IMMEDIATE`, so it waits for its turn at the start instead of failing half-way.
    """

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.is_sqlite and self.url.database:
            Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
        try:
            self.engine: Engine = create_engine(self.url, pool_pre_ping=not self.is_sqlite, **self._options())
        except ModuleNotFoundError as error:
            raise UnavailableError(
                f"The driver of {self.url.drivername} is not installed.",
                code="driver_missing",
                param="GRAFT_DATABASE_URL",
                hint="pip install 'graft-server[postgres]' brings psycopg for postgresql+psycopg:// addresses.",
            ) from error
        if self.is_sqlite:
            event.listen(self.engine, "connect", _configure_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        else:
            event.listen(self.engine, "connect", _configure_postgresql)

    def _options(self) -> dict[str, Any]:
        if self.is_sqlite:
            return {"connect_args": {"timeout": 30, "check_same_thread": False}}
        return {"pool_size": 10, "max_overflow": 20}

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent snapshot; nothing is written."""
        with self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self, *, blobs: bool = False) -> Iterator[Connection]:
        """A transaction that commits on leaving and rolls back on an error.

        With `blobs`, adoption and removal of blobs exclude each other (SQLite writers do so anyway).
        """
        with self.engine.connect().execution_options(graft_write=True) as connection, connection.begin():
            if blobs and not self.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _BLOB_LOCK})
            yield connection

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


def clock(tx: Connection) -> ColumnElement[Any]:
    """The one clock that leases are measured with, in epoch seconds: PostgreSQL's own, else this machine's."""
    if tx.dialect.name == "postgresql":
        return func.extract("epoch", func.clock_timestamp())
    return literal(time.time())


def _configure_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # SQLAlchemy's `begin` event below opens transactions
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _configure_postgresql(connection: Any, _record: object) -> None:
    """A process that froze in a transaction must not hold its locks for ever."""
    connection.execute(f"SET idle_in_transaction_session_timeout = '{_IDLE_SECONDS}s'")
    connection.commit()


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get("graft_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
