"""What is answered without asking who calls: no more than that there is a service, and how to use it."""

PUBLIC = frozenset({"/", "/healthz", "/readyz", "/docs", "/docs/oauth2-redirect", "/openapi.json"})
PUBLIC_FOLDER = "/static-offline-docs/"


def is_public(path: str, method: str = "GET") -> bool:
    """Whether a path is answered without asking who calls."""
    return path in PUBLIC or path.startswith(PUBLIC_FOLDER) or (method, path) == ("OPTIONS", "/uploads")
