"""The page of methods is made from the options and the results, and is fresh."""

import json
import re
from typing import Literal

import pytest
from pydantic import Field

from core.contract.base import Body
from core.contract.methods import METHODS
from docs import methods


def test_the_page_is_fresh() -> None:
    assert methods.PAGE.read_text() == methods.page(), "run `make docs`"


def test_every_method_and_option_is_on_it() -> None:
    page = methods.PAGE.read_text()
    checked = 0
    for name, options in METHODS.items():
        _, _, section = page.partition(f"## {options.title}\n")
        section = section.partition("\n## ")[0]
        for said in (options.summary, options.when, options.paper.rstrip(".")):
            assert said in section, name
        for field in options.model_fields:
            if field != "name":
                assert f"| `{field}` |" in section
                checked += 1
    assert checked > 20


def test_links_lead_to_sections() -> None:
    page = methods.PAGE.read_text()
    titles = {methods._anchor(title) for title in re.findall(r"^## (.+)$", page, re.MULTILINE)}
    links = re.findall(r"\]\(#([^)]+)\)", page)
    assert len(links) == len(METHODS)
    assert set(links) == titles


class _Sample(Body):
    name: Literal["sample"] = "sample"
    share: float = Field(default=0.5, gt=0, le=1, description="A share.")
    how: Literal["a", "b"] = Field(default="a", description="This | that.")
    many: list[str] | Literal["all"] | None = Field(default=None, description="Some.")
    on: bool = Field(description="Whether.")


def test_options_are_told_with_type_default_and_bounds() -> None:
    share, how, many, on = methods.options(_Sample.model_json_schema())
    assert (share.kind, share.default, share.bounds, share.sentence) == ("number", "`0.5`", "> 0, ≤ 1", "A share.")
    assert (how.kind, how.default, how.sentence) == ("`a` or `b`", '`"a"`', "This \\| that.")
    assert (many.kind, many.default) == ("a list of text or `all` or `null`", "`null`")
    assert (on.kind, on.default) == ("`true` / `false`", "needed")


def test_figures_are_those_of_the_results(tmp_path, monkeypatch) -> None:
    rows = [
        {"name": "ants, linear_probe, accuracy", "value": 0.9123, "goal": ">= 0.9", "unit": ""},
        {"name": "ants, linear_probe, time", "value": 2.5, "goal": "", "unit": "s"},
        {"name": "something else", "value": 1.0, "goal": "", "unit": ""},
    ]
    machine = {"date": "2026-01-01", "command": "python -m benchmarks.finetune", "cores": 2}
    (tmp_path / "finetune.json").write_text(json.dumps({"machine": machine, "rows": rows}))
    monkeypatch.setattr(methods, "RESULTS", tmp_path)
    told = "\n".join(methods._figures("linear_probe"))
    assert "| ants, linear_probe, accuracy | 0.9123 | >= 0.9 |" in told
    assert "2.5 s" in told
    assert "something else" not in told
    assert "python -m benchmarks.finetune" in told
    assert "Nothing yet" in "\n".join(methods._figures("rank_base_models"))


@pytest.mark.parametrize("name", sorted(methods.FIGURES))
def test_figures_belong_to_methods_that_exist(name: str) -> None:
    assert name in METHODS
    re.compile(methods.FIGURES[name][1])
