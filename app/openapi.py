"""The description of the API, kept to what can really happen."""

import re
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from app.access.public import is_public

_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An access key (GRAFT_API_KEY)."},
    "basic": {"type": "http", "scheme": "basic", "description": "The same key as the password; any user name."},
}


def operation_id(route: APIRoute) -> str:
    """Names of operations, for code generators: the endpoint function's own name, unless a route says another."""
    return route.name


class Description:
    """Stands in for `app.openapi`: made once, then kept."""

    def __init__(self, app: FastAPI) -> None:
        self._make = app.openapi
        self._made: dict[str, Any] | None = None

    def __call__(self) -> dict[str, Any]:
        """The OpenAPI document."""
        if self._made is None:
            made = self._make()
            made.setdefault("components", {})["securitySchemes"] = _SCHEMES
            for path, calls in made["paths"].items():
                for method, operation in calls.items():
                    _drop_impossible(operation)
                    _say_who_may(operation, public=is_public(path, method.upper()))
            self._made = made
        return self._made


def _say_who_may(operation: dict[str, Any], *, public: bool) -> None:
    """A call that asks nobody who he is refuses nobody; every other takes a key in either form."""
    if public:
        for status in ("401", "403", "429"):
            operation["responses"].pop(status, None)
    else:
        operation["security"] = [{name: []} for name in _SCHEMES]


def _drop_impossible(operation: dict[str, Any]) -> None:
    """A call without a body and without parameters beside its ids cannot be wrong in its shape: 422 never comes."""
    parameters = operation.get("parameters", [])
    if "requestBody" not in operation and all(parameter["in"] == "path" for parameter in parameters):
        operation["responses"].pop("422", None)


def allowed_methods(app: FastAPI, path: str) -> list[str]:
    """Every method that the path takes; the framework's own 405 names those of one route only."""
    found: set[str] = set()
    for template, calls in app.openapi()["paths"].items():
        if re.fullmatch(re.sub(r"\{[^}]*\}", "[^/]+", template), path):
            found.update(method.upper() for method in calls)
    return sorted(found)
