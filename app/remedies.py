"""What a field takes, in one sentence, told from its own declaration: bounds, choices, description."""

import re
from typing import Annotated, Any

from pydantic import TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from pydantic.fields import FieldInfo

_ID = re.compile(r"\^(ds|job|mdl)_")
_LISTS = {"ds": "/datasets", "job": "/jobs", "mdl": "/models"}
_PLAIN = {"boolean": "true or false", "null": "null", "array": "a list", "object": "an object"}


def remedy(field: FieldInfo) -> str | None:
    """E.g. "Send a whole number from 1 to 1,000. Passes over the training split, at most."."""
    declared: Any = Annotated[field.annotation, field]
    try:
        schema = TypeAdapter(declared).json_schema()
    except (PydanticSchemaGenerationError, PydanticUserError):
        return None
    takes = _takes(schema)
    if takes is None:
        return None
    return f"Send {takes}. {field.description}" if field.description else f"Send {takes}."


def _takes(schema: dict[str, Any]) -> str | None:
    """The values of a JSON Schema in words; None where they are a thing with fields of its own."""
    if "anyOf" in schema:
        parts = [_takes(part) for part in schema["anyOf"]]
        return None if None in parts else " or ".join(part for part in parts if part)
    if "const" in schema or "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type")
    if kind in ("integer", "number"):
        return ("a whole number" if kind == "integer" else "a number") + _range(schema)
    if kind == "string":
        return _text(schema)
    return _PLAIN.get(str(kind))


def _range(schema: dict[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if schema["type"] == "integer" and below is not None:
        high, below = below - 1, None
    said = [
        f"from {low:,}" if low is not None else f"above {above:,}" if above is not None else "",
        f"to {high:,}" if high is not None else f"below {below:,}" if below is not None else "",
    ]
    return "".join(f" {part}" for part in said if part)


def _text(schema: dict[str, Any]) -> str:
    if schema.get("contentMediaType") == "application/json":
        return "JSON text"
    pattern, longest = schema.get("pattern", ""), schema.get("maxLength")
    found = _ID.match(pattern)
    if found:
        return f"an id that begins with `{found[1]}_` (GET {_LISTS[found[1]]} lists yours)"
    if longest:
        return f"text of {schema.get('minLength', 0)} to {longest} characters"
    return f"text that fits {pattern}" if pattern else "text"
