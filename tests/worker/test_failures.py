"""What is tried again and what is not: every row of the table."""

import errno
import sqlite3

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from core.contract.errors import InsufficientStorageError, InvalidRequestError, JobError, UnavailableError
from worker import failures


def of_sqlite(text: str) -> DBAPIError:
    """An error as SQLAlchemy passes it on."""
    return OperationalError("COMMIT", None, sqlite3.OperationalError(text))


TRANSIENT = [
    *(OSError(number, "it may pass") for number in sorted(failures.TRANSIENT_ERRNOS)),
    *(kind("it may pass") for kind in failures.TRANSIENT),
    ConnectionResetError(),
    BrokenPipeError(),
    TimeoutError(),
    PoolTimeoutError(),
    UnavailableError("The weights' server is down."),
    of_sqlite("database is locked"),
    of_sqlite("disk I/O error"),
    of_sqlite("unable to open database file"),
    OperationalError("COMMIT", None, psycopg.OperationalError("server closed the connection unexpectedly")),
    InterfaceError("COMMIT", None, psycopg.InterfaceError("the connection is closed")),
    IntegrityError("COMMIT", None, psycopg.IntegrityError("gone"), connection_invalidated=True),
]
LASTING = [
    OSError(errno.ENOSPC, "full"),
    OSError(errno.EDQUOT, "full"),
    OSError(errno.ENOENT, "no such file"),
    OSError(errno.EACCES, "not allowed"),
    FileNotFoundError(),
    MemoryError(),
    RuntimeError("CUDA error: out of memory"),
    ZeroDivisionError(),
    KeyboardInterrupt(),
    JobError("There is nothing to learn.", code="too_few_items"),
    InvalidRequestError("Wrong."),
    InsufficientStorageError("Full."),
    of_sqlite("database or disk is full"),
    of_sqlite("no such table: jobs"),
    IntegrityError("COMMIT", None, psycopg.IntegrityError("twice")),
]


@pytest.mark.parametrize("error", TRANSIENT, ids=repr)
def test_what_may_pass_is_tried_again(error: BaseException) -> None:
    assert failures.is_transient(error)
    body = failures.of_exception(error)
    assert body.code in ("interrupted", "unavailable")
    assert body.type != "internal"
    assert "secret" not in body.model_dump_json()


@pytest.mark.parametrize("error", LASTING, ids=repr)
def test_what_stays_is_not(error: BaseException) -> None:
    assert not failures.is_transient(error)
    assert failures.of_exception(error).code != "interrupted"


def test_the_table_holds_what_a_disk_and_a_network_say() -> None:
    for number in (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNRESET, errno.ENETDOWN, errno.EHOSTDOWN):
        assert number in failures.TRANSIENT_ERRNOS
