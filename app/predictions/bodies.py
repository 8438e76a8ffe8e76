"""The bodies of a prediction request as OpenAPI describes them."""

from typing import Any

from app.predictions.json_body import REQUESTS

FILES: dict[str, Any] = {
    "type": "object",
    "required": ["files"],
    "properties": {
        "files": {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}},
        "top_k": {"type": "integer", "minimum": 1, "maximum": 999_999_999},
    },
    "additionalProperties": False,
}
_DOT = (  # one pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
_ROW = {"size": 84.5, "city": "Berlin", "built": "1998-05-01", "lift": True}
EXAMPLES: dict[str, Any] = {
    "images": {"summary": "Images", "value": {"items": [{"image": _DOT, "name": "photo.png"}], "top_k": 3}},
    "texts": {"summary": "Texts", "value": {"items": [{"text": "It broke at once.", "name": "r1"}]}},
    "plain texts": {"summary": "Texts without names", "value": {"items": ["It broke at once.", "Splendid."]}},
    "rows": {"summary": "Rows of a table", "value": {"items": [{"row": _ROW, "name": "house 1"}]}},
}


def inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema with the item's own in the place of the reference to it."""
    definitions = schema.pop("$defs")

    def resolve(value: Any) -> Any:
        if isinstance(value, dict):
            name = value.get("$ref", "").removeprefix("#/$defs/")
            return definitions[name] if name else {key: resolve(one) for key, one in value.items()}
        return [resolve(one) for one in value] if isinstance(value, list) else value

    found: dict[str, Any] = resolve(schema)
    return found


def _text(example: str) -> dict[str, Any]:
    return {"schema": {"type": "string", "minLength": 1}, "example": example}


BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "What a model takes is its `modality`: `image`, `text` or `tabular`.",
        "content": {
            "application/json": {
                "schema": {"anyOf": [inlined(request.model_json_schema()) for request in REQUESTS.values()]},
                "examples": EXAMPLES,
            },
            "multipart/form-data": {"schema": FILES},
            "image/*": {"schema": {"type": "string", "format": "binary", "minLength": 1}},
            "text/plain": _text("It broke at once."),
            "text/csv": _text("size,city\n84.5,Berlin\n120,Rome\n"),
            "application/x-ndjson": _text('{"size": 84.5, "city": "Berlin"}\n{"size": 120, "city": null}\n'),
        },
    }
}
