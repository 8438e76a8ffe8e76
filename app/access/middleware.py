"""The door: finds out who calls before anything of the request's body is read."""

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from app.access import credentials, origins
from app.access.answers import Answer, Visit, rate_headers
from app.access.gate import Gate
from app.access.public import is_public
from app.access.windows import MovingWindow, Standing
from app.errors import from_database, reply
from app.negotiation import preferred
from core.contract.access import DEFAULT_TENANT, Caller
from core.contract.errors import GraftError, RateLimitedError, UnauthenticatedError
from core.loopback import listens_on_loopback
from core.settings import Settings

FAILURES_PER_MINUTE = 30


class Access:
    """Puts the `Caller` into the request's state, or answers 401, 403, 429 or 503; writes down what callers change."""

    def __init__(self, app: ASGIApp, settings: Settings, gate: Gate) -> None:
        self.app = app
        self.settings = settings
        self.gate = gate
        self._on_loopback = listens_on_loopback(settings.host)
        self._rates = MovingWindow(settings.rate_per_minute) if settings.rate_per_minute else None
        self._failures = MovingWindow(FAILURES_PER_MINUTE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http" or is_public(scope["path"], scope["method"]):
            await self.app(scope, receive, send)
            return
        try:
            visit = await self._admit(scope)
        except (GraftError, DBAPIError, PoolTimeoutError) as error:
            await _refuse(error, scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = visit.caller
        answer = Answer(self.gate, visit, scope, send)
        try:
            await self.app(scope, receive, answer.send)
        except Exception as error:
            await answer.write_down(499 if isinstance(error, ClientDisconnect) else 500, None)
            raise

    async def _admit(self, scope: Scope) -> Visit:
        if await self.gate.is_open():
            return Visit(self._neighbour(scope))
        try:
            return await self._holder(scope)
        except UnauthenticatedError as error:
            if error.code == "invalid_key":
                self._count_failure(scope)
            raise

    def _neighbour(self, scope: Scope) -> Caller:
        """The caller as long as no key was ever made: whoever sits at this machine is its owner."""
        if not (self._on_loopback and origins.is_local(scope)):
            raise credentials.missing_key()
        origins.refuse_foreign_host(scope, self.settings)
        origins.refuse_cross_site(scope)
        return Caller(tenant=DEFAULT_TENANT, scope="admin")

    async def _holder(self, scope: Scope) -> Visit:
        """The caller once there are keys: whoever holds one."""
        given = credentials.read(scope)
        if given is None:
            raise credentials.missing_key()
        key = await self.gate.find(given.secret)
        if key is None:
            raise credentials.invalid_key()
        if given.basic:  # browsers send it along by themselves
            origins.refuse_cross_site(scope)
        standing = None if self._rates is None else self._rates.hit(key.id)
        if standing is not None and not standing.allowed:
            raise TooOftenError(standing)
        self.gate.note_use(key.id)
        return Visit(Caller(tenant=key.tenant, scope=key.scope, key_id=key.id), given.secret, standing)

    def _count_failure(self, scope: Scope) -> None:
        """Too many wrong keys are told so. A right key gets in all the same: one address may stand for many users."""
        standing = self._failures.hit(origins.sender(scope))
        if not standing.allowed:
            raise RateLimitedError(
                "Too many requests with keys that are not valid came from this address.",
                hint="Wait, and mend the key.",
                retry_after=standing.reset,
            )


class TooOftenError(RateLimitedError):
    """A key is used more often than it may be."""

    def __init__(self, standing: Standing) -> None:
        super().__init__(
            f"This key may be used {standing.limit:,} times a minute, and was.",
            hint="Wait as long as `Retry-After` says.",
            retry_after=standing.reset,
        )
        self.standing = standing


async def _refuse(error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer somebody who is not let in, or not now."""
    told = error if isinstance(error, GraftError) else from_database(error)
    if told is None:
        raise error
    headers: dict[str, str] = {}
    if isinstance(told, UnauthenticatedError):
        headers["WWW-Authenticate"] = _challenge(scope)
    if isinstance(told, TooOftenError):
        headers = rate_headers(told.standing)
    await reply(told, scope.get("state", {}).get("request_id"), headers)(scope, receive, send)


def _challenge(scope: Scope) -> str:
    """What to prove oneself with; a browser asks its user for a password only where Basic is named."""
    accept = Headers(scope=scope).get("accept")
    wants_page = preferred(accept, ("application/json", "text/html")) == "text/html"
    return 'Bearer realm="graft"' + (', Basic realm="graft", charset="UTF-8"' if wants_page else "")
