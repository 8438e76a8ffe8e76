"""Questions that graftd asks before and after it starts something."""

import json
import socket
import urllib.error
import urllib.request
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from core.settings import Settings
from core.store.database import Database
from graftd.problems import ProblemError
from migrations.run import upgrade


def free_port(host: str, port: int) -> int:
    """The port, if nobody listens on it; any free one for 0. `ProblemError` names the port and the remedy."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            found: int = probe.getsockname()[1]
        except OSError as error:
            other = port + 1 if port < 65535 else 0
            raise ProblemError(
                f"Port {port} on {host} cannot be used ({error.strerror}).",
                f"Stop what listens there, or choose another port: graftd up --port {other} (or GRAFT_PORT={other}).",
            ) from error
    return found


def address(host: str, port: int) -> str:
    """The URL to reach the service under from this machine."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{name}:{port}"


def readiness(url: str) -> tuple[bool, dict[str, Any]]:
    """Whether the service at `url` is ready, and what `/readyz` said (empty if it did not answer)."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is on this machine: no proxy
    try:
        with opener.open(f"{url}/readyz", timeout=3) as reply:
            return True, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        return False, _body(error)
    except (OSError, ValueError):
        return False, {}


def _body(error: urllib.error.HTTPError) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(error.read())
    except (OSError, ValueError):
        return {}
    return value


def migrate(settings: Settings) -> None:
    """Bring the database to the newest schema; `ProblemError` if it cannot be reached."""
    db: Database | None = None
    try:
        db = Database(settings.resolved_database_url)
        upgrade(db)
    except (SQLAlchemyError, OSError) as error:
        reason = str(getattr(error, "orig", error)).strip().splitlines()[0]
        where = db.url.render_as_string(hide_password=True) if db else "GRAFT_DATABASE_URL"
        raise ProblemError(
            f"The database {where} cannot be used: {reason}.",
            "Start it, mend GRAFT_DATABASE_URL, or unset GRAFT_DATABASE_URL: graftd then keeps SQLite in its folder.",
        ) from error
    finally:
        if db is not None:
            db.close()
