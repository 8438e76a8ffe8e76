"""HTTP with retries: every request of the SDK goes through here."""

import platform
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from graft._retries import Retries, is_passing, retry_after
from graft._version import __version__
from graft.errors import APIConnectionError, APIError, GraftError, error_class
from graft.types import ErrorBody

M = TypeVar("M", bound=BaseModel)
_SAFE_METHODS = frozenset({"GET", "HEAD", "DELETE", "PUT"})
_LOOPBACK = ("all://127.0.0.1", "all://localhost", "all://[::1]")


@dataclass(frozen=True)
class Body:
    """A request body that can be opened again for every try."""

    open: Callable[[], Iterator[bytes]]
    size: int
    content_type: str


@dataclass(frozen=True)
class Call:
    """One request as the resources describe it.

    `creates` sends an Idempotency-Key, the same for every try; `repeatable` says that a POST may be sent twice.
    """

    method: str
    path: str
    params: Mapping[str, Any] | None = None
    json: Any = None
    body: Body | None = None
    files: Any = None
    form: Mapping[str, str] | None = None
    headers: Mapping[str, str] | None = None
    creates: bool = False
    repeatable: bool = False
    read_timeout: float | None = None

    @property
    def may_repeat(self) -> bool:
        """Whether sending it twice does no harm."""
        return self.method in _SAFE_METHODS or self.creates or self.repeatable


class Transport:
    """A connection pool to one service."""

    def __init__(
        self, base_url: str, api_key: str | None, timeout: float, retries: Retries, verify: bool | str = True
    ) -> None:
        self.base_url = (base_url if "://" in base_url else f"http://{base_url}").rstrip("/")
        self.retries = retries
        self._timeout = timeout
        headers = {"User-Agent": f"graft-client/{__version__} python/{platform.python_version()}"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        try:
            self._http = httpx2.Client(
                base_url=self.base_url,
                headers=headers,
                timeout=self._timeouts(None),
                verify=verify,
                mounts=dict.fromkeys(_LOOPBACK),  # a proxy cannot reach this machine's own loopback
            )
        except (httpx2.InvalidURL, ValueError) as error:
            raise GraftError(
                f"{base_url!r} is not a usable address: {error}.", hint="Give one like http://127.0.0.1:8000."
            ) from error

    def close(self) -> None:
        """Close every connection."""
        self._http.close()

    def send(self, call: Call) -> httpx2.Response:
        """Send a request and read the whole reply; an error reply is raised as `APIError`."""
        return self._attempts(call, stream=False)

    def probe(self, path: str) -> httpx2.Response:
        """GET once and take whatever comes, even an error reply."""
        try:
            return self._http.get(path, headers={"Accept": "application/json"})
        except httpx2.TransportError as error:
            raise self.unreachable(error) from error

    @contextmanager
    def open(self, call: Call) -> Iterator[httpx2.Response]:
        """Send a request and leave the reply's body to be read; errors while reading are httpx2's own."""
        response = self._attempts(call, stream=True)
        try:
            yield response
        finally:
            response.close()

    def get(self, kind: type[M], path: str, **params: Any) -> M:
        """GET and parse JSON."""
        headers = {"Accept": "application/json"}
        return self.parse(kind, self.send(Call("GET", path, params=_given(params), headers=headers)))

    def parse(self, kind: type[M], response: httpx2.Response) -> M:
        """The reply as `kind`; `GraftError` if it is something else."""
        try:
            return kind.model_validate_json(response.content)
        except ValidationError as error:
            raise GraftError(
                f"The answer from {response.request.url} is not what this client understands "
                f"({error.error_count()} problems, the first: {error.errors()[0]['msg']}).",
                hint=f"Is {self.base_url} a Graft service, and is the client as new as the service?",
            ) from error

    def _attempts(self, call: Call, *, stream: bool) -> httpx2.Response:
        key = str(uuid.uuid4()) if call.creates else None
        attempt = 0
        while True:
            asked = None
            try:
                response = self._http.send(self._request(call, key), stream=stream)
            except httpx2.TransportError as error:
                never_sent = isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout))
                if not ((never_sent or call.may_repeat) and self.retries.allows(attempt)):
                    raise self.unreachable(error) from error
            else:
                gone = call.method == "DELETE" and not call.creates and response.status_code == 404
                if response.is_success or (gone and attempt):
                    return response  # (a repeated DELETE that finds nothing: the first one's reply was lost)
                failure = self.failure(response)
                asked = failure.retry_after
                passing = is_passing(failure.status, failure.code) and (call.may_repeat or failure.status == 429)
                if not (passing and self.retries.allows(attempt, asked)):
                    raise failure
            self.retries.wait(attempt, asked)
            attempt += 1

    def _request(self, call: Call, key: str | None) -> httpx2.Request:
        headers = dict(call.headers or {})
        if key is not None:
            headers["Idempotency-Key"] = key
        content = None
        if call.body is not None:
            headers |= {"Content-Type": call.body.content_type, "Content-Length": str(call.body.size)}
            content = call.body.open()
        return self._http.build_request(
            call.method,
            call.path,
            params=_given(call.params or {}),
            json=call.json,
            content=content,
            files=call.files,
            data=call.form,
            headers=headers,
            timeout=self._timeouts(call.read_timeout),
        )

    def _timeouts(self, read: float | None) -> httpx2.Timeout:
        return httpx2.Timeout(self._timeout, connect=min(10.0, self._timeout), read=read or self._timeout)

    def failure(self, response: httpx2.Response) -> APIError:
        """An error reply as an exception; closes the reply."""
        try:
            response.read()
            body = ErrorBody.model_validate(response.json()["error"])
        except (httpx2.TransportError, ValidationError, ValueError, KeyError, TypeError):
            body = _foreign(response, self.base_url)
        finally:
            response.close()
        status = response.status_code
        if body.request_id is None and (request_id := response.headers.get("X-Request-ID")):
            body = body.model_copy(update={"request_id": request_id})
        return error_class(status)(status, body, retry_after=retry_after(response.headers.get("Retry-After")))

    def unreachable(self, error: Exception) -> APIConnectionError:
        """A connection error in words that help."""
        if isinstance(error, httpx2.UnsupportedProtocol):
            return APIConnectionError(f"{self.base_url} is not an http:// or https:// address.")
        if isinstance(error, httpx2.TimeoutException) and not isinstance(error, httpx2.ConnectTimeout):
            return APIConnectionError(
                f"{self.base_url} did not answer in time.", hint="It may be busy: try again, or allow a longer timeout."
            )
        if isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout)):
            return APIConnectionError(
                f"Cannot connect to {self.base_url} ({error}).",
                hint="Is the service running? Start it with `graftd up`, or set GRAFT_URL to where it runs.",
            )
        return APIConnectionError(f"The connection to {self.base_url} broke ({error or type(error).__name__}).")


def _given(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}


def _foreign(response: httpx2.Response, base_url: str) -> ErrorBody:
    """What to say of an error that did not come from the service itself: a proxy, a redirect, another program."""
    status = response.status_code
    hint = f"Is {base_url} a Graft service?"
    if 300 <= status < 400:
        hint = f"It points to {response.headers.get('Location', 'another address')}: use that address instead."
    elif status in {502, 503, 504}:
        hint = "A proxy in front of the service answered: is the service itself running?"
    message = f"{response.request.method} {response.request.url} was answered with {status} {response.reason_phrase}."
    return ErrorBody(type="foreign", code=f"http_{status}", message=message, hint=hint)
