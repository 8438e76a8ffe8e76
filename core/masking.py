"""Takes secrets out of what is about to be logged: keys, passwords, and what may be one."""

import math
import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
_DEEPEST = 6
_LONGEST = 16 * 1024

_NAMES = re.compile(r"(?i)(^|[_-])(authorization|cookie|password|passwd|secret|token|api[_-]?key)$")
_PATTERNS = (
    # Access keys; the names of our measurements begin likewise, but have no digit and no capital.
    (re.compile(r"graft_(?=[a-z_-]*[0-9A-Z])[A-Za-z0-9_-]{16,}"), "graft_" + HIDDEN),
    (re.compile(r"whsec_[A-Za-z0-9+/=_-]+"), "whsec_" + HIDDEN),
    (re.compile(r"\b((?i:bearer|basic))\s+(?=\S*[0-9A-Z=])[A-Za-z0-9._~+/=-]{8,}"), r"\1 " + HIDDEN),
    # A password may hold an unescaped @: the last one before the next blank ends it.
    (re.compile(r"(://[^\s/:@]*):\S+@"), r"\1:" + HIDDEN + "@"),
    (re.compile(r"(https?://[^\s?\"'<>]+)\?[^\s\"'<>]*"), r"\1?" + HIDDEN),
    (
        re.compile(r"(?i)\b(password|passwd|secret|token|api[_-]?key)(\\?[\"']?\s*[=:]\s*\\?[\"']?)[^\s\"'&,;*)\\]+"),
        r"\1\2" + HIDDEN,
    ),
)


def mask(text: str) -> str:
    """The text without access keys, webhook secrets, passwords in URLs, and queries of http URLs."""
    for pattern, shown in _PATTERNS:
        text = pattern.sub(shown, text)
    return text


def plain(value: Any, depth: int = 0) -> Any:
    """The value as JSON can hold it, masked: texts, numbers, lists and dicts; anything else as its `str`."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return mask(_short(value))
    if depth < _DEEPEST and isinstance(value, Mapping):
        return {_name(key): _field(key, entry, depth + 1) for key, entry in value.items()}
    if depth < _DEEPEST and isinstance(value, (list, tuple, set, frozenset)):
        return [plain(entry, depth + 1) for entry in value]
    return mask(_short(_text(value)))


def _field(name: Any, value: Any, depth: int) -> Any:
    if value is not None and isinstance(name, str) and _NAMES.search(name):
        return HIDDEN
    return plain(value, depth)


def _name(key: Any) -> str:
    return key if isinstance(key, str) else _text(key)


def _text(value: Any) -> str:
    try:
        return str(value)
    except Exception as error:  # a log line must not fail for the thing it tells of
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"


def _short(text: str) -> str:
    """Beginning and end of a text: a traceback's end says what happened."""
    if len(text) <= _LONGEST:
        return text
    half = _LONGEST // 2
    return f"{text[:half]} …({len(text) - _LONGEST} left out)… {text[-half:]}"
