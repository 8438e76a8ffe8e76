"""From pydantic's errors to ours: the field by its path, the reason, and the nearest valid name as the remedy."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from app.nearest import hint_nearest
from app.remedies import remedy
from core.contract.errors import GraftError, InvalidRequestError, NotFoundError, UnsupportedMediaTypeError

MOST_ERRORS = 50
_NOUNS = {
    "dataset_id": ("dataset", "data set", "GET /datasets lists yours."),
    "job_id": ("job", "job", "GET /jobs lists yours."),
    "model_id": ("model", "model", "GET /models lists yours."),
    "key_id": ("key", "key", "GET /keys lists yours."),
    "import_id": ("import", "import", "GET /imports lists yours."),
    "upload_id": ("upload", "upload", "GET /uploads lists yours; begin a new one."),
    "index": ("sample", "sample", "GET /datasets/{id}/samples lists them."),
}
_WRONG_TYPE = ("_type", "_parsing", "int_from_float")
_SUBJECT = re.compile(r"(input|string|list|dictionary|value) should ", re.IGNORECASE)
_OBJECTS = ("a valid dictionary or object to extract fields from", "a valid dictionary")
_OUT_OF_RANGE = ("greater_than", "less_than", "too_short", "too_long", "finite_number")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a request."""

    param: str
    code: str
    message: str
    hint: str | None = None


class FieldsError(RequestValidationError):
    """Wrong form fields, found by validating them against `schema` by hand."""

    def __init__(self, found: Sequence[Any], schema: type[BaseModel]) -> None:
        super().__init__([{**one, "loc": ("body", *one["loc"])} for one in found])
        self.schema = schema


@dataclass
class _Place:
    """A place in a body: its path without the tags of unions, and what the schema expects there."""

    path: list[str] = field(default_factory=list)
    expects: Any = None
    declared: FieldInfo | None = None


def translate(error: RequestValidationError, request: Request) -> GraftError:
    """The most telling problem as an error; all of them stand in `details.errors`."""
    raw = list(error.errors())
    special = _special(raw, request)
    if special is not None:
        return special
    schema = error.schema if isinstance(error, FieldsError) else None
    found = [_problem(one, schema or _root(request, one["loc"])) for one in raw[:MOST_ERRORS]]
    problems = list({problem.param: problem for problem in reversed(found)}.values())[::-1]  # one for each field
    # A name that is not known often is what another one is missing for.
    first = next((problem for problem in problems if problem.code.startswith("unknown_")), problems[0])
    details = {"errors": [vars(problem) for problem in problems]}
    return InvalidRequestError(first.message, code=first.code, param=first.param, hint=first.hint, details=details)


def _special(raw: list[Any], request: Request) -> GraftError | None:
    for one in raw:
        if one["type"] == "json_invalid" and isinstance(one["loc"][-1], int):
            reason = one.get("ctx", {}).get("error", "syntax")
            return InvalidRequestError(
                f"The body is not valid JSON: {reason} at character {one['loc'][-1]}.",
                code="invalid_json",
                hint="Send JSON in UTF-8.",
            )
        if one["loc"][0] == "path":
            # An ill-formed id is an id that never was: it must look like any other unknown one.
            return not_found(str(one["loc"][1]), str(one.get("input", "")))
    if raw[0]["loc"] == ("body",) and raw[0]["type"] != "missing" and not _is_json(request):
        got = request.headers.get("content-type", "")[:100] or "none"
        return UnsupportedMediaTypeError(
            f"The Content-Type is {got}, but this endpoint reads application/json.",
            hint="Send the header `Content-Type: application/json`.",
        )
    return None


def not_found(parameter: str, value: str) -> NotFoundError:
    """The error for an unknown id in a path, worded as the store words it."""
    plain = parameter.removesuffix("_id")
    code, noun, hint = _NOUNS.get(parameter, (plain, plain, None))
    return NotFoundError(f"There is no {noun} {value[:100]}.", code=f"{code}_not_found", hint=hint)


def _is_json(request: Request) -> bool:
    media = request.headers.get("content-type", "").split(";")[0].strip().lower()
    return media == "application/json" or (media.startswith("application/") and media.endswith("+json"))


def _problem(one: Any, root: Any) -> Problem:
    kind, where = str(one["type"]), one["loc"][0]
    parts = [str(part)[:100] for part in one["loc"][1:]]
    place = _Place(parts, root.annotation, root) if isinstance(root, FieldInfo) else _find(root, parts)
    param = ".".join(place.path) or str(where)
    if kind == "missing":
        return Problem(param, "missing_field", f"`{param}` is missing.", _hint(place))
    if kind == "extra_forbidden":
        return _unknown_field(param, place, one["loc"])
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _wrong_tag(param, place, one)
    return _wrong_value(param, kind, place, one)


def _wrong_value(param: str, kind: str, place: _Place, one: Any) -> Problem:
    message = _sentence(param, kind, str(one["msg"])[:300])
    if kind == "literal_error":
        known = [str(value) for value in get_args(_bare(place.expects))]
        return Problem(param, "invalid_value", message, hint_nearest(str(one.get("input")), known) if known else None)
    if any(part in kind for part in _OUT_OF_RANGE):
        return Problem(param, "out_of_range", message, _hint(place))
    if kind.endswith(_WRONG_TYPE):
        return Problem(param, "wrong_type", message, _hint_tagged(place, one.get("input")))
    return Problem(param, "invalid_value", message, _hint(place))


def _sentence(param: str, kind: str, said: str) -> str:
    """Pydantic's reason as a sentence about the field."""
    if kind == "string_pattern_mismatch":
        return f"`{param}` does not have the right form."
    for words in _OBJECTS:
        said = said.replace(words, "an object")
    subject = _SUBJECT.match(said)
    return f"`{param}` should {said[subject.end() :]}." if subject else f"`{param}`: {said[:1].lower()}{said[1:]}."


def _unknown_field(param: str, place: _Place, loc: tuple[Any, ...]) -> Problem:
    known = list(_fields(place.expects))
    name = str(loc[-1])[:100]
    return Problem(param, "unknown_field", f"`{param}` is not a known field.", hint_nearest(name, known))


def _wrong_tag(param: str, place: _Place, one: Any) -> Problem:
    context = one["ctx"]
    tag = context["discriminator"].strip("'")
    noun, field_name = param.rsplit(".", 1)[-1], f"{param}.{tag}"
    if "tag" not in context:
        return Problem(field_name, "missing_field", f"`{field_name}` is missing.", _kinds(_tags(_bare(place.expects))))
    known = [name.strip(" '") for name in context["expected_tags"].split(",")]
    sent = str(context["tag"])[:100]
    return Problem(field_name, f"unknown_{noun}", f"There is no {noun} `{sent}`.", hint_nearest(sent, known))


def _hint(place: _Place) -> str | None:
    names = ", ".join(_fields(place.expects))
    if names:
        return f"Its fields are: {names}."
    tags = _tags(_bare(place.expects))
    if tags:
        return f'Write an object such as {{"name": "{next(iter(tags))}"}}. {_kinds(tags)}'
    return remedy(place.declared) if place.declared else None


def _kinds(tags: dict[str, Any]) -> str:
    return f"It says which kind is meant: {', '.join(tags)}."


def _hint_tagged(place: _Place, value: Any) -> str | None:
    if isinstance(value, str) and value in _tags(_bare(place.expects)):
        return f'Write an object: {{"name": "{value}"}}.'
    return _hint(place)


def _root(request: Request, loc: tuple[Any, ...]) -> Any:
    """What the endpoint expects in the body or as query parameters; the declaration of a lone parameter or header."""
    route = request.scope.get("route")
    if loc[0] == "body":
        found = getattr(route, "body_field", None)
        return found and found.field_info.annotation
    for parameter in getattr(getattr(route, "dependant", None), f"{loc[0]}_params", []):
        info = parameter.field_info
        if _fields(info.annotation):
            return info.annotation
        if parameter.alias == loc[-1]:
            return info
    return None


def _find(root: Any, parts: list[str]) -> _Place:
    """Follow pydantic's location through the schema, leaving out the tags of unions."""
    place = _Place(expects=root)
    for part in parts:
        bare = _bare(place.expects)
        tags = _tags(bare)
        if part in tags:
            place.expects = tags[part]
            continue
        if place.declared and not _holds(bare):
            return place  # what follows names a member of a union, or the key of a dictionary
        place.path.append(part)
        fields = _fields(bare)
        if part not in fields and fields:
            place.declared = None
            return place  # an unknown field: `expects` stays what it was looked for in
        place.declared = fields.get(part) or place.declared
        arguments = get_args(bare)
        inside = arguments[-1] if get_origin(bare) in (list, dict) else None
        place.expects = fields[part].annotation if part in fields else inside
    return place


def _holds(bare: Any) -> bool:
    """Whether a value of the annotation has parts of its own."""
    return bool(_fields(bare) or _tags(bare)) or get_origin(bare) in (list, dict)


def _bare(annotation: Any) -> Any:
    """An annotation without `Annotated` and without `| None`."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, UnionType):
        members = [member for member in get_args(annotation) if member is not type(None)]
        return _bare(members[0]) if len(members) == 1 else annotation
    return annotation


def _fields(annotation: Any) -> dict[str, FieldInfo]:
    bare = _bare(annotation)
    if not (isinstance(bare, type) and issubclass(bare, BaseModel)):
        return {}
    return {info.alias or name: info for name, info in bare.model_fields.items()}


def _tags(annotation: Any) -> dict[str, Any]:
    """Tag -> model of a tagged union."""
    found = {}
    for member in get_args(annotation) if get_origin(annotation) in (Union, UnionType) else ():
        name = _fields(member).get("name")
        if name is not None and get_origin(name.annotation) is Literal:
            found.update(dict.fromkeys(get_args(name.annotation), member))
    return found
