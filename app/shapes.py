"""JSON that two programs could read in two ways, or that costs more than it says, is refused as a whole."""

import json
import re
from collections.abc import Iterator
from typing import Any

from core.contract.errors import InvalidRequestError

MOST_DEPTH = 64
MOST_NAMES = 1000
# One that never ends goes to the end, not over it again.
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_DOUBTFUL = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])|\xed[\xa0-\xbf]")  # escaped, or halves as if they were UTF-8
_SURROGATE = re.compile("[\ud800-\udfff]")


def check(body: bytes) -> None:
    """`InvalidRequestError` for deep nesting, repeated or countless names, huge numbers, NUL or half characters.

    What is no JSON at all is left to whoever parses it.
    """
    _check_depth(body)
    try:
        value = json.loads(body, object_pairs_hook=_without_repeats)
    except (UnicodeDecodeError, json.JSONDecodeError):
        return
    except ValueError as error:  # Python's own limit on the digits of an integer
        raise InvalidRequestError(
            "A number in the body has too many digits.", code="invalid_json", hint="Send numbers that fit 64 bits."
        ) from error
    if _DOUBTFUL.search(body) or b"\0" in body:
        for path, text in _texts(value, ""):
            _check_text(path, text)


def outside_of_texts(body: bytes) -> bytes:
    """JSON without its texts: what is left are brackets, commas and numbers."""
    return _STRINGS.sub(b"", body)


def _check_depth(body: bytes) -> None:
    depth = 0
    for bracket in outside_of_texts(body).translate(None, _NOT_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > MOST_DEPTH:
            raise InvalidRequestError(
                f"The body is nested more than {MOST_DEPTH} levels deep.", code="invalid_json", hint="Send flat JSON."
            )


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MOST_NAMES:
        raise InvalidRequestError(
            f"An object in the body has {len(pairs):,} names; {MOST_NAMES:,} are the most that is read.",
            code="out_of_range",
            param="body",
            hint="Send what the endpoint asks for.",
        )
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise InvalidRequestError(
                f"`{name[:100]}` stands more than once in the same object.",
                code="repeated_field",
                param=name[:100],
                hint="Send each name once.",
            )
        found[name] = value
    return found


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every text in the value, names too, with where it stands."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from _texts(one, f"{path}.{index}")
    elif isinstance(value, dict):
        for name, one in value.items():
            yield path, name
            yield from _texts(one, f"{path}.{name}")


def _check_text(path: str, text: str) -> None:
    reason = "a NUL character" if "\0" in text else "half of a character (a lone surrogate)"
    if "\0" in text or _SURROGATE.search(text):
        param = _SURROGATE.sub("?", path.strip(".")).replace("\0", "?")[:100] or "body"
        raise InvalidRequestError(
            f"`{param}` holds {reason}, which no text has.", code="invalid_value", param=param, hint="Leave it out."
        )
