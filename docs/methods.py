"""Writes `methods.md` from the options classes and the measured results: `make docs`. A test fails when it is stale."""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.contract.methods import MethodCard, method_cards

HERE = Path(__file__).parent
PAGE = HERE / "methods.md"
RESULTS = HERE.parent / "benchmarks" / "results"

# Where a method's figures stand: the file of results, and which of its rows. Those that adapt stand in `ADAPTED`, those
# that learn from episodes in `EPISODES`.
FIGURES: dict[str, tuple[str, str]] = {
    "domain_shift": ("shift_power", r"^type I error"),
    "linear_probe": ("finetune", r"linear[_ ]probe"),
    "fine_tune": ("recipes", r"(lp-ft|fine-tuning|from scratch|lora|probe), (accuracy|seeds)|minus probe|^sets on"),
    "kernel_cca": ("domain_halves", r"^halves"),
    "rank_base_models": ("ranking", r"^mean |^base models$|^sets$|from cached features|fine-tuned"),
}
ADAPTED = ("domain_photos", "domain_photos_frozen", "domain_photos_deep", "domain_digits", "domain_reviews")
EPISODES = ("few_shot_omniglot", "few_shot_photos")
_INTRODUCTION = """\
# Methods

A job names one: `{"method": {"name": "…", …options}}`; without one it is `%s`. Every option has a default. This page is
made from the options classes in `core/contract/methods`, and its figures from the
[measured results](../benchmarks/results/README.md); `GET /methods` gives the same menu with JSON Schema.
"""


@dataclass(frozen=True)
class Option:
    """An option as the table shows it."""

    name: str
    kind: str
    default: str
    bounds: str
    sentence: str


def page() -> str:
    """The whole page."""
    cards = method_cards()
    listed = [f"| [`{card.name}`](#{_anchor(card.title)}) | {card.summary} |" for card in cards]
    overview = "\n".join(["| method | |", "|---|---|", *listed])
    default = _default_method()
    return "\n".join([_INTRODUCTION % default, overview, "", *(_section(card) for card in cards)])


def _default_method() -> str:
    from core.contract.jobs import JobSpec

    return str(JobSpec.model_fields["method"].get_default().name)


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")


def _section(card: MethodCard) -> str:
    rows = [
        f"| `{one.name}` | {one.kind} | {one.default} | {one.bounds} | {one.sentence} |"
        for one in options(card.options)
    ]
    table = ["| option | takes | default | bounds | |", "|---|---|---|---|---|", *rows]
    parts = [
        f"## {card.title}",
        "",
        f"`{card.name}`: {card.summary}",
        "",
        f"**When.** {card.when}",
        "",
        f"**Paper.** {card.paper}.".replace("..", "."),
        "",
        *(table if rows else ["It has no options."]),
        "",
        *_figures(card.name),
    ]
    return "\n".join(parts)


def options(schema: dict[str, Any]) -> list[Option]:
    """The options of a method's JSON Schema, the name aside."""
    found = []
    for name, declared in schema["properties"].items():
        if name == "name":
            continue
        field = _resolved(declared, schema.get("$defs", {}))
        kinds, bounds = _kinds(field), _bounds(field)
        default = f"`{json.dumps(field['default'])}`" if "default" in field else "needed"
        found.append(
            Option(name, " or ".join(kinds), default.replace("|", "\\|"), bounds, _cell(field.get("description", "")))
        )
    return found


def _resolved(field: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """The field with what it refers to put in its place."""
    if "$ref" in field:
        field = definitions[field["$ref"].rpartition("/")[2]] | {k: v for k, v in field.items() if k != "$ref"}
    if "anyOf" in field:
        field = field | {"anyOf": [_resolved(one, definitions) for one in field["anyOf"]]}
    return field


def _kinds(field: dict[str, Any]) -> list[str]:
    if "anyOf" in field:
        return [kind for one in field["anyOf"] for kind in _kinds(one)]
    if "const" in field or "enum" in field:
        return [f"`{value}`" for value in field.get("enum", [field.get("const")])]
    if field.get("type") == "array":
        return [f"a list of {' / '.join(_kinds(field['items']))}"]
    names = {"integer": "whole number", "number": "number", "boolean": "`true` / `false`", "null": "`null`"}
    return [names.get(field.get("type", ""), "text")]


_SIGNS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def _bounds(field: dict[str, Any]) -> str:
    parts = [field, *field.get("anyOf", [])]
    numbers = [f"{sign} {_number(part[key])}" for part in parts for key, sign in _SIGNS.items() if key in part]
    lengths = [f"at most {part['maxItems']} of them" for part in parts if "maxItems" in part]
    return ", ".join([*numbers, *lengths])


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:g}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _figures(name: str) -> list[str]:
    """What was measured of the method, out of the files of results."""
    adapted = rf", {re.escape(name)}, (mean|served, mean|pairs|seconds)"
    episodes = rf", {re.escape(name)}, \d+ ways \d+ shots?$"
    usual = [*((file, adapted) for file in ADAPTED), *((file, episodes) for file in EPISODES)]
    places = [FIGURES[name]] if name in FIGURES else usual
    found = [line for file, wanted in places for line in _measured(file, wanted)]
    return found or ["**Measured.** Nothing yet.", ""]


def _measured(file: str, wanted: str) -> list[str]:
    path = RESULTS / f"{file}.json"
    found = json.loads(path.read_text()) if path.is_file() else {"rows": []}
    rows = [row for row in found["rows"] if re.search(wanted, row["name"], re.IGNORECASE)]
    if not rows:
        return []
    machine = found["machine"]
    told = f"**Measured** on {machine['date']} by `{machine['command']}`, {machine['cores']} cores:"
    lines = [f"| {_cell(row['name'])} | {row['value']:.4g}{_unit(row)} | {row['goal']} |" for row in rows]
    return [told, "", "| | | goal |", "|---|---|---|", *lines, ""]


def _unit(row: dict[str, Any]) -> str:
    return f" {row['unit']}" if row["unit"] else ""


def main() -> int:
    """Write the page; the exit status tells whether it had been out of date."""
    fresh = page()
    if PAGE.exists() and PAGE.read_text() == fresh:
        return 0
    PAGE.write_text(fresh)
    return 1


if __name__ == "__main__":
    sys.exit(main())
