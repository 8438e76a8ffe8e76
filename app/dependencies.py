"""What endpoints ask for: the store, the settings, the tenant, and the parameters of every list."""

from typing import Annotated

from fastapi import Depends, Header, Request
from pydantic import Field

from app.nearest import hint_nearest
from core.contract import base
from core.contract.access import Caller, Scope
from core.contract.errors import ForbiddenError, InvalidRequestError
from core.settings import Settings
from core.store.store import Store


async def get_store(request: Request) -> Store:
    """The process's store, opened when the service started."""
    store: Store = request.app.state.store
    return store


async def get_settings(request: Request) -> Settings:
    """The settings the service was started with."""
    settings: Settings = request.app.state.settings
    return settings


async def get_caller(request: Request) -> Caller:
    """Who sends the request, as the access middleware found out."""
    caller: Caller = request.state.caller
    return caller


class Needs:
    """What an endpoint asks of its caller: a scope; gives the tenant whose things the request may see."""

    def __init__(self, scope: Scope) -> None:
        self.scope: Scope = scope

    async def __call__(self, request: Request) -> str:
        """The caller's tenant; `ForbiddenError` if its scope does not cover the call."""
        caller = await get_caller(request)
        if not caller.may(self.scope):
            raise ForbiddenError(
                f"This call needs a key with the scope `{self.scope}`; yours has `{caller.scope}`.",
                code="scope_too_small",
                hint=f"Use a key with the scope `{self.scope}`: an admin makes one with POST /keys.",
            )
        return caller.tenant


async def known_query(request: Request) -> None:
    """Refuse a query parameter that the endpoint does not know, for calls where overlooking one would do harm."""
    known = [one.alias for one in request.scope["route"].dependant.query_params]
    for name in request.query_params:
        if name not in known:
            hint = hint_nearest(name, known, say="" if known else "This call has no query parameters.")
            message = f"`{name[:100]}` is not a known query parameter."
            raise InvalidRequestError(message, code="unknown_field", param=name[:100], hint=hint)


StoreDep = Annotated[Store, Depends(get_store)]
SettingsDep = Annotated[Settings, Depends(get_settings)]
CallerDep = Annotated[Caller, Depends(get_caller)]
ReadTenant = Annotated[str, Depends(Needs("read"))]
WriteTenant = Annotated[str, Depends(Needs("write"))]
AdminTenant = Annotated[str, Depends(Needs("admin"))]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Send the same key again to get the first reply again, instead of a second thing.",
        examples=["3b241101-e2bb-4255-8caf-4136c566a962"],
    ),
]


class Paging(base.Request):
    """Parameters of a list. Lists with filters inherit from it; use it as `Annotated[Paging, Query()]`."""

    cursor: str | None = Field(
        default=None,
        pattern=r"^[0-9a-z_.:-]{1,128}$",
        description="`next_cursor` of the page before.",
    )
    limit: int = Field(default=20, ge=1, le=100, description="Most entries in one page.")
