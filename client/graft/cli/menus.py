"""`graft methods`, `graft base-models` and `graft health`."""

from typing import Annotated, Any

import typer

from graft.cli.output import document, pairs, say, table
from graft.cli.session import Json, client


def methods(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Show this method's options.")] = None,
    as_json: Json = False,
) -> None:
    """Show the methods a job may run, or the options of one."""
    if name is not None:
        card = client(ctx).methods.get(name)
        if as_json:
            document(card)
            return
        say(card.title, "bold")
        pairs([("what", card.summary), ("when", card.when), ("paper", card.paper)])
        rows = [_option(key, schema) for key, schema in card.options.get("properties", {}).items() if key != "name"]
        table(("option", "type", "default", "meaning"), rows, empty="It has no options.")
        return
    found = list(client(ctx).methods.list())
    if as_json:
        document({"data": found})
    else:
        table(("method", "what it does", "when"), [(m.name, m.summary, m.when) for m in found])


def _option(key: str, schema: dict[str, Any]) -> tuple[str, str, str, str]:
    default = "" if "default" not in schema else "null" if schema["default"] is None else str(schema["default"])
    return key, _type(schema), default, str(schema.get("description", ""))


def _type(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " | ".join(_type(part) for part in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    bounds = "" if low is None and high is None else f" {'' if low is None else low}..{'' if high is None else high}"
    return str(schema.get("type", "")) + bounds


def base_models(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Show this card.")] = None,
    as_json: Json = False,
) -> None:
    """Show the pretrained networks a job may start from."""
    if name is not None:
        card = client(ctx).base_models.get(name)
        shown = [(key, value) for key, value in card.model_dump().items() if not isinstance(value, dict)]
        fields = [(key, ", ".join(value) if isinstance(value, list) else value) for key, value in shown]
        document(card) if as_json else pairs(fields)
        return
    found = list(client(ctx).base_models.list())
    if as_json:
        document({"data": found})
        return
    rows = [(m.id, m.title, _millions(m.parameters), m.width, m.top1, m.licence) for m in found]
    table(("id", "title", "parameters", "width", "ImageNet top-1", "licence"), rows)


def _millions(count: int | None) -> str:
    return "" if count is None else f"{count / 1e6:.1f} M"


def health(ctx: typer.Context, as_json: Json = False) -> None:
    """Say whether the service can do work; exits with 1 if it cannot."""
    found = client(ctx).health()
    if as_json:
        document(found)
    else:
        say(f"{client(ctx).base_url} is {'ready' if found.ready else 'not ready'}", "bold")
        checks = found.details.get("checks")
        pairs([(f"  {name}", value) for name, value in checks.items()] if isinstance(checks, dict) else [])
    raise typer.Exit(0 if found.ready else 1)
